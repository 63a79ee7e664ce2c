//! Which traces are not normal (paper, figure 5 right): a detector that is trained on generated
//! graphs must find anomalies among real ones as well as one that is trained on real graphs.
//!
//! The detector is a graph autoencoder after TraceVAE. Its test set are real test graphs as they
//! are, and each of them once more with an anomaly put into it.

mod counting;
mod detector;
mod examples;
mod inject;
mod network;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use anyhow::Result;
use rand::RngExt;
use rayon::prelude::*;

use crate::data::{Dataset, Side};
use crate::evaluate::observed::with_intervals;
use crate::evaluate::ranking::Ranking;
use crate::evaluate::{Case, Interval, Metric, Record, WHOLE};
use crate::graph::{CallGraph, Level, Name};
use crate::random;
use counting::Counting;
use detector::{Detector, Score};
use inject::{Kind, Normal};

/// Area under the ROC curve of a detector that is trained on an arm's valid graphs and tested on real
/// test graphs: the probability that a graph with an anomaly scores above one without, equal scores
/// counted half. Range 0 to 1, higher is better, ½ is chance. Cells `kind=structure` and
/// `kind=latency` for the two kinds of anomalies, each against the graphs that it was put into, and
/// `kind=all`; where the dataset has graphs that met a real fault (`nezha`), `kind=fault` compares
/// them with as many other test graphs. Bootstrap interval over the services of the test graphs,
/// which does not cover the chance of training; NaN for fewer than 20 graphs to train on or to test on.
///
/// Source: the paper's figure 5 (right) with TraceVAE; the detector, the anomalies and their sizes
/// are ours, so compare with the rows of real training graphs and not with published numbers. The
/// score is the negative evidence lower bound over the number of calls, since without the division
/// large graphs would be anomalous by their size alone.
///
/// Pitfalls: at most 5,000 training and 2,000 test graphs are used, drawn by seed. More graphs to
/// train on make a better detector, so arms with fewer valid graphs are at a disadvantage. A dropped
/// call that is optional leaves a normal graph, and a slow request is normal at times, so 1 is out of
/// reach. The counting and the size reference say how much can be had without any network.
pub const AUC: &Metric =
    &Metric::plain("anomaly-auc/1", "AUC of anomaly detection").higher().bootstrap();

/// Area under the precision-recall curve (average precision, not interpolated), otherwise as [`AUC`].
/// Chance is ½: there are as many graphs with an anomaly as without.
///
/// Pitfall: it looks at the highest scores above all, and depends on the share of anomalies, which
/// is far smaller in practice.
pub const AUC_PR: &Metric =
    &Metric::plain("anomaly-auc-pr/1", "average precision of anomaly detection")
        .higher()
        .bootstrap();

/// Most graphs to train on.
const TRAINING: usize = 5_000;
/// Most real graphs to test on.
const TEST: usize = 2_000;
/// Graphs of a second reference row of real graphs: what a detector finds depends on the number of
/// graphs that it is trained on, and the quick profile asks generators for this many.
const FEW: usize = 2_000;
/// Fewer graphs than this give no number.
const LEAST: usize = 20;

/// Trained on the arm's valid graphs.
///
/// # Errors
/// A training that diverges.
pub fn records(case: &Case) -> Result<Vec<Record>> {
    let test = TestSet::new(case.dataset, case.seed);
    let valid = sample(case.valid().collect(), TRAINING, case.seed, "anomalies/train");
    trained(&test, &valid, None, case.seed)
}

/// Reference rows: trained on real training graphs, and on fewer of them; a count of their calls with
/// log-normal times; and the number of calls as the score.
///
/// # Errors
/// A training that diverges.
pub fn floor(dataset: &Dataset, seed: u64) -> Result<Vec<Record>> {
    let test = TestSet::new(dataset, seed);
    let train = sample(dataset.train(), TRAINING, seed, "anomalies/train");
    let mut records = trained(&test, &train, Some("train"), seed)?;
    if train.len() > FEW {
        records.extend(trained(&test, &train[..FEW], Some("train-2000"), seed)?);
    }
    let counting = Counting::new(&train);
    let scores = |score: &dyn Fn(&CallGraph) -> f64| test.graphs.iter().map(score).collect();
    let known =
        if train.len() < LEAST { None } else { Some(scores(&|graph| counting.score(graph))) };
    records.extend(test.records(known, Some("counting"), seed));
    let sizes = scores(&|graph| f64::from(graph.num_edges()));
    records.extend(test.records(Some(sizes), Some("size"), seed));
    Ok(records)
}

fn trained(
    test: &TestSet,
    graphs: &[&CallGraph],
    reference: Option<&str>,
    seed: u64,
) -> Result<Vec<Record>> {
    let scores = if graphs.len() < LEAST || test.is_too_small() {
        None
    } else {
        let tested: Vec<&CallGraph> = test.graphs.iter().collect();
        let scores = Detector::train(graphs, seed)?.scores(&tested);
        Some(scores.into_iter().map(Score::total).collect())
    };
    Ok(test.records(scores, reference, seed))
}

/// At most `most` of `graphs`, in a random order that does not depend on theirs.
fn sample<'a>(
    graphs: Vec<&'a CallGraph>,
    most: usize,
    seed: u64,
    purpose: &str,
) -> Vec<&'a CallGraph> {
    let hashed = |graph: &'a CallGraph| (graph.canonical_hash(Level::Times).0, graph);
    let mut hashed: Vec<(u128, &CallGraph)> = graphs.into_par_iter().map(hashed).collect();
    hashed.par_sort_by_key(|(hash, _)| *hash);
    // Equal graphs are drawn one by one, too.
    let mut drawn: Vec<(u64, &CallGraph)> = Vec::with_capacity(hashed.len());
    for equals in hashed.chunk_by(|a, b| a.0 == b.0) {
        for ((hash, graph), number) in equals.iter().zip(0..) {
            let address = [*hash as u64, (*hash >> 64) as u64, number];
            drawn.push((random::stream(seed, purpose, &address).random(), graph));
        }
    }
    drawn.par_sort_by_key(|(ticket, _)| *ticket);
    drawn.into_iter().take(most).map(|(_, graph)| graph).collect()
}

/// Real test graphs: one as it is at each even place, and behind it the same with an anomaly, of
/// structure and of latency by turns; then graphs that met a real fault, if the dataset has some.
struct TestSet {
    graphs: Vec<CallGraph>,
    anomalous: Vec<bool>,
    /// Index of each graph's service.
    services: Vec<usize>,
    service_count: usize,
    /// Which graphs each cell compares.
    cells: Vec<(&'static str, Vec<bool>)>,
}

impl TestSet {
    fn new(dataset: &Dataset, seed: u64) -> Self {
        let normal = Normal::new(dataset.graphs());
        let chosen = sample(dataset.test(), TEST, seed, "anomalies/test");
        let faulty = sample(dataset.side(Side::Faulty), chosen.len(), seed, "anomalies/faulty");
        let kinds = [Kind::Structure, Kind::Latency].into_iter().cycle();
        let mut graphs = Vec::with_capacity(2 * chosen.len() + faulty.len());
        for ((graph, index), kind) in chosen.iter().zip(0..).zip(kinds) {
            let mut rng = random::stream(seed, "anomalies/inject", &[index]);
            graphs.extend([(*graph).clone(), normal.inject(kind, graph, &mut rng)]);
        }
        let pairs = graphs.len();
        let mask = |within: &dyn Fn(usize) -> bool| (0..pairs + faulty.len()).map(within).collect();
        let mut cells: Vec<(&str, Vec<bool>)> = vec![
            ("all", mask(&|index| index < pairs)),
            ("structure", mask(&|index| index < pairs && index / 2 % 2 == 0)),
            ("latency", mask(&|index| index < pairs && index / 2 % 2 == 1)),
        ];
        if !faulty.is_empty() {
            let met = |index| index >= pairs || (index % 2 == 0 && index / 2 < faulty.len());
            cells.push(("fault", mask(&met)));
        }
        let anomalous = mask(&|index| index >= pairs || index % 2 == 1);
        graphs.extend(faulty.into_iter().cloned());
        let (services, service_count) = services(&graphs);
        Self { graphs, anomalous, services, service_count, cells }
    }

    fn is_too_small(&self) -> bool {
        self.anomalous.iter().filter(|anomalous| !**anomalous).count() < LEAST
    }

    /// Both metrics in every cell; NaN without scores.
    fn records(&self, scores: Option<Vec<f64>>, reference: Option<&str>, seed: u64) -> Vec<Record> {
        let values = match scores {
            Some(scores) if !self.is_too_small() => self.areas(&scores, seed),
            _ => vec![(f64::NAN, Interval::NONE); 2 * self.cells.len()],
        };
        let metrics =
            values.chunks_exact(2).zip(&self.cells).flat_map(|(areas, (kind, within))| {
                let graphs = within.iter().filter(|within| **within).count() as u64;
                let about = WHOLE.kind(*kind).referring(reference);
                [AUC, AUC_PR].into_iter().zip(areas).map(move |(metric, (value, interval))| {
                    Record::new(metric, about.clone(), *value, *interval, graphs)
                })
            });
        metrics.collect()
    }

    /// Both areas, cell by cell.
    fn areas(&self, scores: &[f64], seed: u64) -> Vec<(f64, Interval)> {
        let ranking = Ranking::new(scores);
        with_intervals(seed, self.service_count, |drawn| {
            let areas = self.cells.iter().flat_map(|(_, within)| {
                let areas = ranking.areas(&self.anomalous, |index| {
                    if within[index] { f64::from(drawn[self.services[index]]) } else { 0.0 }
                });
                [areas.roc, areas.precision_recall]
            });
            areas.collect()
        })
    }
}

/// Index of each graph's service, in order of names, and how many there are.
fn services(graphs: &[CallGraph]) -> (Vec<usize>, usize) {
    let mut ids: BTreeMap<&Name, usize> = graphs.iter().map(|graph| (graph.service(), 0)).collect();
    ids.values_mut().zip(0..).for_each(|(id, order)| *id = order);
    (graphs.iter().map(|graph| ids[graph.service()]).collect(), ids.len())
}
