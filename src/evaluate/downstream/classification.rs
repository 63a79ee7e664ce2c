//! Table 2: a classifier that is trained on generated graphs in place of real ones.

use std::collections::BTreeMap;

use super::examples::{Example, Usual};
use super::learner::{self, Learner};
use super::score::{Truth, training_record};
use super::{MAX_TRAIN, prompts, real_test, real_training};
use crate::data::Dataset;
use crate::evaluate::{Case, Record, WHOLE};
use crate::graph::{CallGraph, Condition, Name, condition_of};

/// A question about graphs (or parts of them) with a yes or no.
pub struct Classification {
    /// Name in records.
    pub task: &'static str,
    /// The examples of a graph.
    pub examples: fn(&CallGraph, &Usual) -> Vec<Example>,
}

/// Parts of the prompts, for cross-fitting.
const FOLDS: usize = 5;

/// All records of a variant: the measures, how far they are from those of real training graphs, and
/// what was trained on.
///
/// Prompts are conditions of the very test graphs that the model is tested on, and a variant that does
/// as it is told has their service, size and latency, which no real training graph has. Models are
/// therefore cross-fitted: a test graph is scored by a model whose training graphs answer the
/// prompts of the other four of five folds, and graphs of one condition are in one fold.
pub fn records(task: &Classification, case: &Case) -> Vec<Record> {
    let about = WHOLE.task(task.task);
    let usual = Usual::new(&case.dataset.train());
    let test = Test::new(task, &usual, &real_test(case.dataset, case.seed));
    let prompts = prompts(case);
    let answers: Vec<(usize, Vec<Example>)> = prompts
        .iter()
        .filter_map(|&index| {
            let graph = case.verdicts[index].graph.as_ref()?;
            Some((fold(&case.conditions[index]), (task.examples)(graph, &usual)))
        })
        .collect();
    let ours: Vec<Vec<f64>> = test.cross_fitted(&answers).into_iter().collect();
    // As many as each of the folds' models has prompts.
    let equal = real_training(case.dataset, prompts.len() * (FOLDS - 1) / FOLDS, case.seed);
    let real: Vec<Vec<f64>> = test.trained_on(&learnt(task, &usual, &equal)).into_iter().collect();
    let mut records = test.truth.records(&about, &ours, case.seed);
    records.extend(test.truth.gaps(&about, &ours, &real, case.seed));
    let examples = answers.iter().flat_map(|(_, examples)| examples);
    records.push(training_record(about, examples.map(|example| example.label)));
    records
}

/// Real training graphs; the larger class of the real training examples always; and how often the
/// group of an example (its service, or its service and call) is true in real training graphs.
pub fn references(task: &Classification, dataset: &Dataset, seed: u64) -> Vec<Record> {
    let about = |name: &str| WHOLE.task(task.task).reference(name);
    let usual = Usual::new(&dataset.train());
    let test = Test::new(task, &usual, &real_test(dataset, seed));
    let training = learnt(task, &usual, &real_training(dataset, MAX_TRAIN, seed));
    let examples: Vec<&Example> = training.iter().flatten().collect();
    let real: Vec<Vec<f64>> = test.trained_on(&training).into_iter().collect();
    let mut records = test.truth.records(&about("real"), &real, seed);
    let labels = learner::labels(&examples);
    let larger = 2 * labels.iter().filter(|label| **label).count() > labels.len();
    records.push(training_record(about("real"), labels.into_iter()));
    let majority = learner::always(larger, test.examples.len());
    records.extend(test.truth.records(&about("majority"), &[majority], seed));
    let rates = learner::group_scores(&examples, &test.examples.iter().collect::<Vec<_>>());
    let rates: Vec<Vec<f64>> = rates.into_iter().collect();
    records.extend(test.truth.records(&about("rates"), &rates, seed));
    records
}

fn learnt(task: &Classification, usual: &Usual, graphs: &[&CallGraph]) -> Vec<Vec<Example>> {
    graphs.iter().map(|graph| (task.examples)(graph, usual)).collect()
}

fn fold(condition: &Condition) -> usize {
    let Condition { service, num_edges, depth, latency, .. } = condition;
    let text = format!("{service}/{num_edges:?}/{depth:?}/{latency:?}");
    usize::from(blake3::hash(text.as_bytes()).as_bytes()[0]) % FOLDS
}

/// Examples of the real test graphs.
struct Test {
    examples: Vec<Example>,
    truth: Truth,
}

impl Test {
    fn new(task: &Classification, usual: &Usual, graphs: &[&CallGraph]) -> Self {
        let mut services: BTreeMap<&Name, u32> = BTreeMap::new();
        let mut test = Self { examples: Vec::new(), truth: Truth::default() };
        let mut of: Vec<&Name> = Vec::new();
        for graph in graphs {
            let examples = (task.examples)(graph, usual);
            if examples.is_empty() {
                continue;
            }
            services.insert(graph.service(), 0);
            of.extend(examples.iter().map(|_| graph.service()));
            test.truth.folds.extend(examples.iter().map(|_| fold(&condition_of(graph))));
            test.truth.graphs += 1;
            test.examples.extend(examples);
        }
        services.values_mut().zip(0..).for_each(|(index, order)| *index = order);
        test.truth.labels = test.examples.iter().map(|example| example.label).collect();
        test.truth.clusters = of.into_iter().map(|service| services[service]).collect();
        test.truth.num_clusters = services.len();
        test
    }

    /// Scores of a model that is trained on these graphs; `None` if they have no example.
    fn trained_on(&self, graphs: &[Vec<Example>]) -> Option<Vec<f64>> {
        let graphs: Vec<&[Example]> = graphs.iter().map(Vec::as_slice).collect();
        let examples: Vec<&Example> = self.examples.iter().collect();
        Some(Learner::new(&graphs)?.scores(&examples))
    }

    /// Scores of models each of which is trained on the other folds' graphs; `None` if one of them
    /// has no example.
    fn cross_fitted(&self, answers: &[(usize, Vec<Example>)]) -> Option<Vec<f64>> {
        let mut scores = vec![0.0; self.examples.len()];
        for fold in 0..FOLDS {
            let others = answers.iter().filter(|(other, _)| *other != fold);
            let others: Vec<&[Example]> = others.map(|(_, examples)| examples.as_slice()).collect();
            let learner = Learner::new(&others)?;
            let here = (0..scores.len()).filter(|index| self.truth.folds[*index] == fold);
            let here: Vec<usize> = here.collect();
            let examples: Vec<&Example> = here.iter().map(|index| &self.examples[*index]).collect();
            for (index, score) in here.into_iter().zip(learner.scores(&examples)) {
                scores[index] = score;
            }
        }
        Some(scores)
    }
}

#[cfg(test)]
mod tests;
