//! Membership inference: whether a model's likelihoods tell the graphs that it was trained on from
//! those that it was not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::evaluate::ranking::Ranking;
use crate::evaluate::{Dimensions, Estimate, Groups, Metric, Record, WHOLE, bootstrap};
use crate::graph::Name;

/// Area under the ROC curve of the loss attack (Yeom et al., CSF 2018): a graph is taken for a member
/// of the training set if the model finds it likely, by the log-likelihood per call. Members are graphs
/// that were trained on; non-members `against=held-out` are training graphs that were held out at
/// random, `against=test` the test graphs. Ties count half, as in scikit-learn.
///
/// Range 0 to 1; ½ is a model that gives nothing away, lower is better. Bootstrap interval over
/// services. NaN without graphs of both kinds; generators without a likelihood have no record. Graphs of
/// likelihood 0 (longer than the model's context) are left out.
///
/// Pitfalls: an attacker who can calibrate by other models does better, and the most exposed graph does
/// worse than the average says. With a split by structure test graphs are of another kind than training
/// graphs, and the area says how unusual they are: `against=held-out` is then the one to read. Real
/// graphs repeat, so that a "non-member" may have a twin in training. All training graphs that are not
/// held out count as members, also those that a training of few tokens has never come to: the area is
/// then nearer to ½ than that of the members that the model saw.
pub const MEMBERSHIP: &Metric =
    &Metric::plain("membership-auc/1", "AUC of membership inference").lower().bootstrap();

/// The same attack without a model: graphs with more calls are taken for members. What the samples
/// alone give away; ½ but for chance, if they are of the same kind.
pub const MEMBERSHIP_BY_SIZE: &Metric =
    &Metric::plain("membership-by-size-auc/1", "AUC of membership by size").bootstrap();

/// Mean log-likelihood per call (natural logarithm), all calls of `graphs=member`, `graphs=held-out` or
/// `graphs=test` together. Up to 0, higher is likelier; the gap between members and the others is what
/// the model has learnt by heart. It depends on the text format, so it does not compare formats.
/// Bootstrap interval over services.
pub const LOG_LIKELIHOOD: &Metric =
    &Metric::nats_per_call("log-likelihood/1", "log-likelihood").bootstrap();

/// What a graph was to the training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Trained on.
    Member,
    /// A training graph that was held out.
    HeldOut,
    Test,
}

impl Standing {
    pub const ALL: [Self; 3] = [Self::Member, Self::HeldOut, Self::Test];

    pub fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::HeldOut => "held-out",
            Self::Test => "test",
        }
    }
}

/// How likely a model finds a graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Likelihood {
    pub standing: Standing,
    pub service: Name,
    pub num_edges: u32,
    /// Negative infinity where the model cannot write the graph.
    pub log_likelihood: f64,
}

impl Likelihood {
    fn per_call(&self) -> f64 {
        self.log_likelihood / f64::from(self.num_edges)
    }
}

/// All records of the attack.
pub fn records(likelihoods: &[Likelihood], seed: u64) -> Vec<Record> {
    let known = likelihoods.iter().filter(|one| one.log_likelihood.is_finite());
    let known: Vec<&Likelihood> = known.collect();
    let mut records = Vec::new();
    for others in [Standing::HeldOut, Standing::Test] {
        let compared = |one: &&&Likelihood| [Standing::Member, others].contains(&one.standing);
        let graphs: Vec<&Likelihood> = known.iter().filter(compared).copied().collect();
        let at = WHOLE.against(others.name());
        records.push(area(MEMBERSHIP, at.clone(), &graphs, Likelihood::per_call, seed));
        let size = |one: &Likelihood| f64::from(one.num_edges);
        records.push(area(MEMBERSHIP_BY_SIZE, at, &graphs, size, seed));
    }
    for standing in Standing::ALL {
        let of_standing = known.iter().filter(|one| one.standing == standing);
        records.push(mean(standing, &of_standing.copied().collect::<Vec<_>>(), seed));
    }
    records
}

/// Index of each graph's service among all of them, and the services.
fn services(graphs: &[&Likelihood], seed: u64) -> (Vec<usize>, Groups) {
    let mut index: BTreeMap<&Name, usize> = graphs.iter().map(|one| (&one.service, 0)).collect();
    index.values_mut().zip(0..).for_each(|(index, order)| *index = order);
    let groups = Groups::named(seed, index.keys().map(|name| name.as_str()));
    (graphs.iter().map(|one| index[&one.service]).collect(), groups)
}

fn area(
    metric: &'static Metric,
    at: Dimensions,
    graphs: &[&Likelihood],
    score: impl Fn(&Likelihood) -> f64,
    seed: u64,
) -> Record {
    let labels: Vec<bool> = graphs.iter().map(|one| one.standing == Standing::Member).collect();
    let ranking = Ranking::new(&graphs.iter().map(|one| score(one)).collect::<Vec<f64>>());
    let (service, services) = services(graphs, seed);
    let of = |drawn: &[u32]| vec![ranking.auc(&labels, |index| f64::from(drawn[service[index]]))];
    put(metric, at, graphs.len(), bootstrap(services, of))
}

fn mean(standing: Standing, graphs: &[&Likelihood], seed: u64) -> Record {
    let (service, services) = services(graphs, seed);
    let of = |drawn: &[u32]| {
        let (mut sum, mut calls) = (0.0, 0.0);
        for (one, service) in graphs.iter().zip(&service) {
            sum += f64::from(drawn[*service]) * one.log_likelihood;
            calls += f64::from(drawn[*service]) * f64::from(one.num_edges);
        }
        vec![sum / calls]
    };
    let at = WHOLE.graphs(standing.name());
    put(LOG_LIKELIHOOD, at, graphs.len(), bootstrap(services, of))
}

fn put(metric: &'static Metric, at: Dimensions, graphs: usize, values: Vec<Estimate>) -> Record {
    let value = values.into_iter().next().unwrap_or(Estimate::NONE);
    Record::estimated(metric, at, value, graphs as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::find;

    fn graph(standing: Standing, service: u32, num_edges: u32, log_likelihood: f64) -> Likelihood {
        let service = Name::from(format!("S_{service}").as_str());
        Likelihood { standing, service, num_edges, log_likelihood }
    }

    /// `roc_auc_score` of scikit-learn 1.9.1 on the same scores (tests/reference/privacy.py).
    #[test]
    fn areas_are_those_of_scikit_learn() {
        let mut graphs: Vec<Likelihood> = Vec::new();
        for index in 0..40u32 {
            let (edges, score) = (1 + index * index % 7, f64::from((index * 7) % 16) - 20.0);
            let score = if index % 3 == 0 { score + 3.0 } else { score };
            let standing = if index % 3 == 0 { Standing::Member } else { Standing::Test };
            graphs.push(graph(standing, index % 13, edges, score * f64::from(edges)));
        }
        let records = records(&graphs, 1);
        let found = find(&records, MEMBERSHIP, "against=test");
        assert!((found.value - 0.6703296703296704).abs() < 1e-12, "{}", found.value);
        assert!(found.low < found.value && found.value < found.high && found.count == 40);
        let found = find(&records, MEMBERSHIP_BY_SIZE, "against=test");
        assert!((found.value - 0.5054945054945055).abs() < 1e-12, "{}", found.value);
        assert!(find(&records, MEMBERSHIP, "against=held-out").value.is_nan());
    }

    #[test]
    fn what_is_learnt_by_heart_is_found() {
        let mut graphs = vec![
            graph(Standing::Member, 0, 2, -2.0),
            graph(Standing::Member, 1, 4, -4.0),
            graph(Standing::HeldOut, 0, 2, -8.0),
            graph(Standing::HeldOut, 1, 1, -3.0),
        ];
        let both = |graphs: &[Likelihood]| {
            let records = records(graphs, 1);
            let auc = find(&records, MEMBERSHIP, "against=held-out").value;
            (auc, find(&records, LOG_LIKELIHOOD, "graphs=member").value)
        };
        assert_eq!(both(&graphs), (1.0, -1.0));
        // What cannot be written is left out, and the order does not matter.
        graphs.push(graph(Standing::Member, 2, 1, f64::NEG_INFINITY));
        assert_eq!(both(&graphs), (1.0, -1.0));
        graphs.reverse();
        assert_eq!(both(&graphs), (1.0, -1.0));
    }

    #[test]
    fn without_likelihoods_no_number_exists() {
        let records = records(&[], 1);
        assert_eq!(records.len(), 7);
        assert!(records.iter().all(|record| record.value.is_nan() && record.count == 0));
    }
}
