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
use crate::evaluate::ranking::Ranking;
use crate::evaluate::{Case, Estimate, Groups, Metric, Record, WHOLE, bootstrap};
use crate::graph::{CallGraph, Level, Name};
use crate::random;
use counting::Counting;
use detector::{Detector, Score};
use inject::{Kind, Normal};

/// Area under the ROC curve of detectors that are trained on a variant's valid graphs and tested on real
/// test graphs: the probability that a graph with an anomaly scores above one without, equal scores
/// counted half. Range 0 to 1, higher is better, ½ is chance. Cells `kind=structure` and
/// `kind=latency` for the two kinds of anomalies, each against the graphs that it was put into, and
/// `kind=all`; where the dataset has graphs that met a real fault (`nezha`), `kind=fault` compares
/// them with as many other test graphs. Bootstrap interval over the services of the test graphs,
/// which does not cover the chance of training; NaN for fewer than 20 graphs to train on or to test on,
/// and for test graphs of a single service.
///
/// Prompts are conditions of the very test graphs, so a variant that follows them would tell a detector how
/// long exactly these graphs take. Detectors are therefore cross-fitted by service: the services of the
/// test graphs are cut into three folds, and a fold's graphs are scored by a detector that has seen no
/// graph of its services. So are those of the reference rows. Pairs are taken within folds, since scores
/// of different detectors need not be on one scale.
///
/// Source: the paper's figure 5 (right) with TraceVAE; the detector, the anomalies and their sizes
/// are ours, so compare with the rows of real training graphs and not with published numbers. The
/// score is the negative evidence lower bound over the number of calls, since without the division
/// large graphs would be anomalous by their size alone.
///
/// Pitfalls: at most 5,000 training and 2,000 test graphs are used, drawn by seed. More graphs to
/// train on make a better detector, so variants with fewer valid graphs are at a disadvantage; the row
/// of real graphs has as many as there are prompts. What is normal for a service alone nobody can learn
/// here: a detector judges a service by what is usual in others. A dropped call that is optional leaves
/// a normal graph, and a slow request is normal at times, so 1 is out of reach. The counting and the size
/// reference say how much can be had without any network.
pub const AUC: &Metric =
    &Metric::plain("anomaly-auc/2", "AUC of anomaly detection").higher().bootstrap();

/// Area under the precision-recall curve (average precision, not interpolated; mean over the folds,
/// weighted by their anomalous graphs), otherwise as [`AUC`]. Chance is ½: there are as many graphs with
/// an anomaly as without.
///
/// Pitfall: it looks at the highest scores above all, and depends on the share of anomalies, which
/// is far smaller in practice.
pub const AUC_PR: &Metric =
    &Metric::plain("anomaly-auc-pr/2", "average precision of anomaly detection")
        .higher()
        .bootstrap();

/// Most graphs to train on.
const TRAINING: usize = 5_000;
/// Most real graphs to test on.
const TEST: usize = 2_000;
/// Fewer graphs than this give no number.
const LEAST: usize = 20;
/// Parts of the services, for cross-fitting. Each costs a training.
const FOLDS: usize = 3;

/// Trained on the variant's valid graphs.
///
/// # Errors
/// A training that diverges.
pub fn records(case: &Case) -> Result<Vec<Record>> {
    let test = TestSet::new(case.dataset, case.seed);
    let valid = sample(case.valid().collect(), TRAINING, case.seed, "anomalies/train");
    let scores = test.cross_fitted(&valid, |train, tested| detect(train, tested, case.seed))?;
    Ok(test.records(scores, None, case.seed))
}

/// Reference rows: trained on as many real training graphs as there are prompts, and on all that may be
/// used if these are more; a count of their calls with log-normal times; and the number of calls as the
/// score.
///
/// # Errors
/// A training that diverges.
pub fn references(dataset: &Dataset, prompts: usize, seed: u64) -> Result<Vec<Record>> {
    let test = TestSet::new(dataset, seed);
    let all = sample(dataset.train(), TRAINING, seed, "anomalies/train");
    let equal = &all[..all.len().min(prompts)];
    let detected = |graphs: &[&CallGraph]| {
        test.cross_fitted(graphs, |train, tested| detect(train, tested, seed))
    };
    let mut records = test.records(detected(equal)?, Some("train"), seed);
    if all.len() > equal.len() {
        records.extend(test.records(detected(&all)?, Some("train-5000"), seed));
    }
    let counted = test.cross_fitted(equal, |train, tested| {
        let counting = Counting::new(train);
        Ok(tested.iter().map(|graph| counting.score(graph)).collect())
    })?;
    records.extend(test.records(counted, Some("counting"), seed));
    let sizes = test.graphs.iter().map(|graph| f64::from(graph.num_edges()));
    records.extend(test.records(Some(sizes.collect()), Some("size"), seed));
    Ok(records)
}

/// Scores by a detector that is trained on the first graphs, of the others.
fn detect(train: &[&CallGraph], tested: &[&CallGraph], seed: u64) -> Result<Vec<f64>> {
    let scores = Detector::train(train, seed)?.scores(tested);
    Ok(scores.into_iter().map(Score::total).collect())
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
    /// The fold of each service, and of each graph.
    fold_of: BTreeMap<Name, usize>,
    folds: Vec<usize>,
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
        let fold_of = folds(&graphs);
        let folds = graphs.iter().map(|graph| fold_of[graph.service()]).collect();
        Self { graphs, anomalous, services, service_count, fold_of, folds, cells }
    }

    /// Scores of all test graphs, each by a model of those of `graphs` whose services are not in its
    /// fold: `fit` takes these and the test graphs. `None` where a fold leaves too few graphs to learn
    /// from, or there are too few test graphs.
    fn cross_fitted(
        &self,
        graphs: &[&CallGraph],
        fit: impl Fn(&[&CallGraph], &[&CallGraph]) -> Result<Vec<f64>>,
    ) -> Result<Option<Vec<f64>>> {
        if self.is_too_small() {
            return Ok(None);
        }
        let mut scores = vec![0.0; self.graphs.len()];
        for fold in 0..FOLDS {
            let here: Vec<usize> =
                (0..scores.len()).filter(|index| self.folds[*index] == fold).collect();
            if here.is_empty() {
                continue;
            }
            let others = graphs.iter().copied();
            let others: Vec<&CallGraph> =
                others.filter(|graph| self.fold_of.get(graph.service()) != Some(&fold)).collect();
            if others.len() < LEAST {
                return Ok(None);
            }
            let tested: Vec<&CallGraph> = here.iter().map(|index| &self.graphs[*index]).collect();
            for (index, score) in here.into_iter().zip(fit(&others, &tested)?) {
                scores[index] = score;
            }
        }
        Ok(Some(scores))
    }

    fn is_too_small(&self) -> bool {
        self.anomalous.iter().filter(|anomalous| !**anomalous).count() < LEAST
    }

    /// Both metrics in every cell; NaN without scores.
    fn records(&self, scores: Option<Vec<f64>>, reference: Option<&str>, seed: u64) -> Vec<Record> {
        let values = match scores {
            Some(scores) if !self.is_too_small() => self.areas(&scores, seed),
            _ => vec![Estimate::NONE; 2 * self.cells.len()],
        };
        let metrics =
            values.chunks_exact(2).zip(&self.cells).flat_map(|(areas, (kind, within))| {
                let graphs = within.iter().filter(|within| **within).count() as u64;
                let about = WHOLE.kind(*kind).referring(reference);
                [AUC, AUC_PR].into_iter().zip(areas).map(move |(metric, estimate)| {
                    Record::estimated(metric, about.clone(), estimate.clone(), graphs)
                })
            });
        metrics.collect()
    }

    /// Both areas, cell by cell.
    fn areas(&self, scores: &[f64], seed: u64) -> Vec<Estimate> {
        let ranking = Ranking::new(scores);
        bootstrap(Groups::numbered(seed, self.service_count), |drawn| {
            let areas = self.cells.iter().flat_map(|(_, within)| {
                let weight = |index: usize| {
                    if within[index] { f64::from(drawn[self.services[index]]) } else { 0.0 }
                };
                let areas = ranking.areas_within(&self.folds, &self.anomalous, weight);
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

/// A fold for each service, so that folds have about as many graphs: the services with the most graphs
/// first, of equals in the order of names, each goes to the fold with the fewest so far.
fn folds(graphs: &[CallGraph]) -> BTreeMap<Name, usize> {
    let mut counts: BTreeMap<&Name, usize> = BTreeMap::new();
    graphs.iter().for_each(|graph| *counts.entry(graph.service()).or_default() += 1);
    let mut services: Vec<(&Name, usize)> = counts.into_iter().collect();
    services.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut sizes = [0; FOLDS];
    let mut place = |count: usize| {
        let fold = (0..FOLDS).min_by_key(|fold| sizes[*fold]).unwrap_or(0);
        sizes[fold] += count;
        fold
    };
    services.into_iter().map(|(service, count)| (service.clone(), place(count))).collect()
}
