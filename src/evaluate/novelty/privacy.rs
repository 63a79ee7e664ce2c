//! Privacy: whether generated graphs are nearer to the training graphs than they should be.
//!
//! Nearness is [`super::distance`]'s. The test graphs are the hold-out: drawn as the training graphs
//! were, and never trained on.

use std::collections::{BTreeMap, HashMap};

use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::distance::{Calls, Vocabulary};
use super::nearest::{Nearest, Scratch, Set};
use crate::data::Dataset;
use crate::evaluate::{Case, Dimensions, Groups, Metric, Record, WHOLE, bootstrap};
use crate::graph::{CallGraph, Condition, Level, Name, condition_of};
use crate::random;

/// Overfitting protection by distance to the closest record.
///
/// (1 − P) / (1 − P₀), where P is the share of valid graphs that are nearer to a training graph than to
/// every held-out one, and P₀ = training graphs / all graphs what it is for a generator that knows no
/// side better than the other. For equal sizes that is the measure of SDMetrics
/// (`DCROverfittingProtection`) before it is cut at 1; all graphs of both sides are looked at (cell
/// `sets=all`), which sees a copy whatever its original is. Among equally near graphs the nearest is drawn
/// by lot, in expectation: otherwise common graphs, which both sides have, would decide.
///
/// A prompt is taken from a held-out graph, which draws the answer near to it. So the graph behind the
/// prompt (of several with the same attributes, one) is left out of the hold-out for its answer; what
/// remains is as near to a perfect generator's answer as training graphs are.
///
/// Range 0 to 1 / (1 − P₀), higher is better: 1 is no sign of overfitting, 0 is nothing but copies, and
/// above 1 graphs keep away from training more than held-out ones do. At most 5,000
/// valid graphs, drawn at random, are looked at; bootstrap interval over their services, with both sets
/// held fixed. NaN without valid graphs or where a set is empty.
///
/// Pitfalls: noise is protected perfectly. Where the split is by structure, the two
/// sides are not alike, and held-out graphs are nearer to each other than to training: compare with
/// the row of test graphs. The worst single leak is not seen.
pub const PROTECTION: &Metric =
    &Metric::fraction("dcr-protection/2", "protection by distance to the closest record")
        .higher()
        .bootstrap();

/// Mean distance of valid graphs to the nearest training graph (`to=train`) and held-out graph
/// (`to=holdout`), of which the larger set gives a random part of itself as large as the other.
///
/// Range 0 to 1; the two should be equal, and as those of the test graphs. Bootstrap interval over
/// services.
pub const NEAREST: &Metric =
    &Metric::plain("nearest-distance/1", "distance to the nearest graph").as_real().bootstrap();

/// Share of valid graphs that are authentic (Alaa et al., ICML 2022): farther from their nearest
/// training graph than that one is from its own nearest other training graph. Of several nearest ones,
/// the share of them.
///
/// Range 0 to 1. Higher is better up to the row of test graphs; bootstrap interval over services, at
/// most 5,000 valid graphs. NaN without valid graphs or with fewer than two training graphs.
///
/// Pitfalls: where training graphs repeat each other, their own distance is 0, and any graph that is
/// not an exact copy is authentic; copies of what occurs once are what it finds.
/// A graph that has nothing in common with any training graph counts as authentic, also where training
/// graphs have nothing in common with each other.
pub const AUTHENTICITY: &Metric =
    &Metric::fraction("authenticity/1", "authentic").as_real().bootstrap();

/// Valid graphs that are looked at.
const MOST: usize = 5_000;

/// A generated graph, and the held-out graph that its prompt was taken from.
struct Answer<'a> {
    graph: &'a CallGraph,
    behind: Option<usize>,
}

/// The records of valid answers.
pub fn records(case: &Case) -> Vec<Record> {
    let test = case.dataset.test();
    let origins = origins(&test);
    let answered = case.conditions.iter().zip(case.verdicts);
    let answers = answered.filter_map(|(condition, verdict)| {
        let behind = origins.get(condition).copied();
        Some(Answer { graph: verdict.graph.as_ref()?, behind })
    });
    measure(&case.dataset.train(), &test, answers.collect(), case.seed, None)
}

/// The test graphs as if they had been generated.
pub fn references(dataset: &Dataset, seed: u64, reference: Option<&str>) -> Vec<Record> {
    let test = dataset.test();
    let answers = test.iter().enumerate();
    let answers = answers.map(|(index, graph)| Answer { graph, behind: Some(index) }).collect();
    measure(&dataset.train(), &test, answers, seed, reference)
}

/// A graph that each condition was taken from: of several, the first by its hash.
fn origins(test: &[&CallGraph]) -> HashMap<Condition, usize> {
    let mut order: Vec<usize> = (0..test.len()).collect();
    order.sort_by_cached_key(|index| test[*index].canonical_hash(Level::Times));
    let mut origins = HashMap::new();
    for index in order {
        origins.entry(condition_of(test[index])).or_insert(index);
    }
    origins
}

/// At most `most` of `items`, drawn at random; which, does not depend on their order.
fn sample<'a, T>(
    items: Vec<T>,
    most: usize,
    seed: u64,
    graph: impl Fn(&T) -> &'a CallGraph,
) -> Vec<T> {
    if items.len() <= most {
        return items;
    }
    let mut items = items;
    items.sort_by_cached_key(|item| graph(item).canonical_hash(Level::Times));
    items.shuffle(&mut random::stream(seed, "nearest graphs", &[]));
    items.truncate(most);
    items
}

fn measure(
    train: &[&CallGraph],
    test: &[&CallGraph],
    answers: Vec<Answer>,
    seed: u64,
    reference: Option<&str>,
) -> Vec<Record> {
    let answers = sample(answers, MOST, seed, |answer| answer.graph);
    let mut vocabulary = Vocabulary::default();
    let [train_calls, test_calls] = [train, test]
        .map(|graphs| graphs.iter().map(|graph| vocabulary.calls(graph)).collect::<Vec<_>>());
    let asked: Vec<Asked> = answers
        .iter()
        .map(|answer| Asked { calls: vocabulary.calls(answer.graph), behind: answer.behind })
        .collect();
    let size = train.len().min(test.len());
    let part = |graphs: &[&CallGraph], size| {
        sample((0..graphs.len()).collect(), size, seed, |index| graphs[*index])
    };
    let whole = |graphs: &[&CallGraph]| (0..graphs.len()).collect();
    let sides = |of_train: Vec<usize>, of_test: Vec<usize>| Sides {
        train: Set::new(chosen(&train_calls, &of_train), vocabulary.len()),
        holdout: Set::new(chosen(&test_calls, &of_test), vocabulary.len()),
        place: of_test.into_iter().zip(0..).collect(),
    };
    let equal = sides(part(train, size), part(test, size));
    let all = sides(whole(train), whole(test));
    let looks = (equal.looks(&asked), all.looks(&asked));
    let rows: Vec<Row> = match looks {
        (Some(equal), Some(looks)) => {
            let authentic = authentic(&all.train, &looks);
            let pairs = equal.iter().zip(&looks).zip(authentic);
            pairs.map(|((equal, all), authentic)| Row::new(equal, all, authentic)).collect()
        }
        _ => Vec::new(),
    };
    let services: Vec<&Name> = answers.iter().map(|answer| answer.graph.service()).collect();
    summary(&rows, &services, seed, reference)
}

fn chosen(calls: &[Calls], indices: &[usize]) -> Vec<Calls> {
    indices.iter().map(|index| calls[*index].clone()).collect()
}

/// An answer as the sets see it.
struct Asked {
    calls: Calls,
    behind: Option<usize>,
}

/// Training and held-out graphs.
struct Sides {
    train: Set,
    holdout: Set,
    /// Place in the hold-out of a test graph, where it is in it.
    place: HashMap<usize, usize>,
}

/// The nearest graphs to an answer on both sides.
struct Look {
    train: Nearest,
    holdout: Nearest,
    /// Share of the training graphs among all that could have been nearest.
    expected: f64,
}

impl Sides {
    /// `None` where a side has no graphs.
    fn looks(&self, asked: &[Asked]) -> Option<Vec<Look>> {
        let look = |scratch: &mut (Scratch, Scratch), asked: &Asked| {
            let behind = asked.behind.and_then(|index| self.place.get(&index));
            let without = behind.map(|place| self.holdout.member_of(*place));
            let held_out = self.holdout.len() - usize::from(without.is_some());
            let (train, all) = (self.train.len() as f64, (self.train.len() + held_out) as f64);
            Some(Look {
                train: self.train.nearest(&asked.calls, None, &mut scratch.0)?,
                holdout: self.holdout.nearest(&asked.calls, without, &mut scratch.1)?,
                expected: train / all,
            })
        };
        asked.par_iter().map_init(Default::default, look).collect()
    }
}

impl Look {
    /// Probability that the nearest graph is a training graph, equally near ones drawn by lot.
    fn nearest_is_train(&self) -> f64 {
        match self.train.distance.total_cmp(&self.holdout.distance) {
            std::cmp::Ordering::Less => 1.0,
            std::cmp::Ordering::Greater => 0.0,
            std::cmp::Ordering::Equal => {
                let (train, held_out) = (self.train.graphs as f64, self.holdout.graphs as f64);
                train / (train + held_out)
            }
        }
    }
}

/// For each answer the share of its nearest training graphs from which it is farther than they are
/// from theirs.
fn authentic(train: &Set, looks: &[Look]) -> Vec<f64> {
    if train.len() < 2 {
        return vec![f64::NAN; looks.len()];
    }
    let mut members: Vec<u32> =
        looks.iter().flat_map(|look| &look.train.members).map(|(member, _)| *member).collect();
    members.sort_unstable();
    members.dedup();
    let own: Vec<f64> = members
        .par_iter()
        .map_init(Scratch::default, |scratch, member| {
            let nearest = train.nearest(train.calls(*member), Some(*member), scratch);
            nearest.map_or(f64::INFINITY, |nearest| nearest.distance)
        })
        .collect();
    let own = |member: u32| members.binary_search(&member).map_or(f64::INFINITY, |at| own[at]);
    let share = |look: &Look| {
        let farther =
            look.train.members.iter().filter(|(member, _)| look.train.distance > own(*member));
        let farther: u64 = farther.map(|(_, graphs)| graphs).sum();
        if look.train.members.is_empty() {
            // Nothing in common with any training graph.
            1.0
        } else {
            farther as f64 / look.train.graphs as f64
        }
    };
    looks.iter().map(share).collect()
}

/// What is averaged over the answers.
#[derive(Clone, Copy, Default)]
struct Row {
    count: f64,
    /// Of equal sets.
    to_train: f64,
    to_holdout: f64,
    /// Of all graphs: probability that the nearest is a training graph, and what is expected.
    nearest_is_train: f64,
    expected: f64,
    authentic: f64,
}

impl Row {
    fn new(equal: &Look, all: &Look, authentic: f64) -> Self {
        let (to_train, to_holdout) = (equal.train.distance, equal.holdout.distance);
        Self {
            count: 1.0,
            to_train,
            to_holdout,
            nearest_is_train: all.nearest_is_train(),
            expected: all.expected,
            authentic,
        }
    }

    fn add(&mut self, other: &Self, times: f64) {
        self.count += times * other.count;
        self.to_train += times * other.to_train;
        self.to_holdout += times * other.to_holdout;
        self.nearest_is_train += times * other.nearest_is_train;
        self.expected += times * other.expected;
        self.authentic += times * other.authentic;
    }

    /// In the order of [`metrics`].
    fn statistics(&self) -> Vec<f64> {
        let mean = |sum: f64| sum / self.count;
        vec![
            protection(mean(self.nearest_is_train), mean(self.expected)),
            mean(self.to_train),
            mean(self.to_holdout),
            mean(self.authentic),
        ]
    }
}

/// In the order of [`Row::statistics`].
fn metrics() -> [(&'static Metric, Dimensions); 4] {
    [
        (PROTECTION, WHOLE.sets("all")),
        (NEAREST, WHOLE.to("train")),
        (NEAREST, WHOLE.to("holdout")),
        (AUTHENTICITY, WHOLE),
    ]
}

/// See [`PROTECTION`]. `expected` is below 1, as both sets have graphs.
fn protection(closer: f64, expected: f64) -> f64 {
    (1.0 - closer) / (1.0 - expected)
}

/// The records of all rows, with intervals over the services that they belong to.
fn summary(rows: &[Row], services: &[&Name], seed: u64, reference: Option<&str>) -> Vec<Record> {
    let mut by_service: BTreeMap<&Name, Row> = BTreeMap::new();
    for (row, service) in rows.iter().zip(services) {
        by_service.entry(*service).or_default().add(row, 1.0);
    }
    let groups = Groups::named(seed, by_service.keys().map(|name| name.as_str()));
    let by_service: Vec<Row> = by_service.into_values().collect();
    let statistics = |drawn: &[u32]| {
        let mut sum = Row::default();
        for (row, times) in by_service.iter().zip(drawn) {
            sum.add(row, f64::from(*times));
        }
        sum.statistics()
    };
    let values = bootstrap(groups, statistics);
    let records = metrics().into_iter().zip(values).map(|((metric, at), estimate)| {
        Record::estimated(metric, at.referring(reference), estimate, rows.len() as u64)
    });
    records.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distances and scores of SDMetrics 0.32.0 (tests/reference/privacy.py).
    #[test]
    fn protection_is_that_of_sdmetrics() {
        for (train, holdout, expected) in SDMETRICS {
            let closer = train.iter().zip(holdout).filter(|(train, holdout)| *train < holdout);
            // It cuts at 1.
            assert_eq!(protection(closer.count() as f64 / 4.0, 0.5).min(1.0), expected);
        }
    }

    const SDMETRICS: [([f64; 4], [f64; 4], f64); 4] = [
        (
            [0.0, 0.0, 0.0, 0.0],
            [0.022222222222222223, 0.3333333333333333, 0.022222222222222223, 0.13333333333333333],
            0.0,
        ),
        (
            [0.041666666666666664, 0.25, 0.041666666666666664, 0.6666666666666666],
            [0.0, 0.0, 0.0, 0.0],
            1.0,
        ),
        (
            [0.0, 0.0, 0.0, 0.3333333333333333],
            [0.022222222222222223, 0.3333333333333333, 0.022222222222222223, 0.2222222222222222],
            0.5,
        ),
        (
            [0.0, 0.6666666666666666, 0.0, 0.0],
            [0.022222222222222223, 0.6666666666666666, 0.3333333333333333, 0.022222222222222223],
            0.5,
        ),
    ];

    #[test]
    fn of_equally_near_graphs_one_is_drawn() {
        let nearest = |distance, graphs| Nearest { distance, graphs, members: Vec::new() };
        let share = |to_train, to_holdout| {
            let (train, holdout) = (nearest(to_train, 3), nearest(to_holdout, 1));
            Look { train, holdout, expected: 0.5 }.nearest_is_train()
        };
        assert_eq!([share(0.2, 0.2), share(0.1, 0.2), share(0.2, 0.1)], [0.75, 1.0, 0.0]);
    }

    #[test]
    fn all_graphs_count_for_what_their_number_is() {
        assert_eq!(protection(0.9, 0.9), 1.0);
        assert_eq!(protection(1.0, 0.9), 0.0);
        assert!((protection(0.95, 0.9) - 0.5).abs() < 1e-12);
        assert_eq!(protection(0.2, 0.5), 1.6);
        assert!(protection(f64::NAN, 0.5).is_nan());
    }
}
