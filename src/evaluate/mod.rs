//! Scores generated graphs: which conditions to ask for, and what the answers are worth.
//!
//! A metric family is one file or folder of this module with its definitions, scores, reference rows, tables
//! and figures; [`FAMILIES`] lists them. Each metric is a constant whose comment defines it
//! (docs/metrics.md sums them up). Every result is a [`Record`]; reports are drawn from records alone.

pub mod accuracy;
pub mod answers;
pub mod classifier;
mod conditions;
pub mod decoding_cost;
pub mod distribution;
pub mod downstream;
mod family;
pub mod fidelity;
#[cfg(test)]
mod golden;
pub mod instructions;
mod joined;
pub mod novelty;
mod observed;
pub mod perfect;
pub mod probes;
mod ranking;
pub mod samples;
pub mod truth;

pub use conditions::{Conditions, VERSION as CONDITIONS_VERSION, borrowed_grid, conditions};
pub use family::{Family, FamilyId, Report};
pub use joined::Joined;

use anyhow::{Context, Result};

use crate::data::Dataset;
use crate::graph::{CallGraph, Condition, Generated, Verdict, judge_all};
pub use crate::records::{
    Bin, Dimensions, Estimate, Groups, Interval, Metric, PromptScores, Record, WHOLE, bootstrap,
};
use novelty::membership::Likelihood;

/// All metric families.
pub const FAMILIES: &[&Family] = &[
    &accuracy::FAMILY,
    &fidelity::FAMILY,
    &distribution::FAMILY,
    &novelty::FAMILY,
    &instructions::FAMILY,
    &truth::FAMILY,
    &downstream::CRITICAL_COMPONENTS,
    &downstream::ANOMALIES,
    &downstream::HIGH_LATENCY,
    &downstream::UNCOMMON_COMMUNICATION,
    &probes::FAMILY,
];

/// Every metric, of families and of all answers.
pub fn metrics() -> impl Iterator<Item = &'static Metric> {
    let of_families = FAMILIES.iter().flat_map(|family| family.metrics);
    [answers::METRICS, decoding_cost::METRICS].into_iter().flatten().chain(of_families).copied()
}

/// The description of the metric with this id.
pub fn metric(id: &str) -> Option<&'static Metric> {
    metrics().find(|metric| metric.id == id)
}

/// What one variant answered, and what it is measured against.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    pub dataset: &'a Dataset,
    pub conditions: &'a [Condition],
    /// One per condition.
    pub answers: &'a [Generated],
    /// One per condition.
    pub verdicts: &'a [Verdict],
    /// How likely the trained model finds graphs, where the family reads it and the generator has it.
    pub likelihoods: Option<&'a [Likelihood]>,
    /// Graphs that a distance is measured on ([`samples`]).
    pub compared: usize,
    /// Addresses all randomness: resampling, splits, classifiers.
    pub seed: u64,
}

impl<'a> Case<'a> {
    /// The valid graphs, whether or not they are what was asked for.
    pub fn valid(&self) -> impl Iterator<Item = &'a CallGraph> {
        self.verdicts.iter().filter_map(|verdict| verdict.graph.as_ref())
    }
}

/// What an evaluation gives: numbers, and what is known of each answer.
#[derive(Clone, Debug)]
pub struct Scores {
    pub records: Vec<Record>,
    pub of_prompts: PromptScores,
}

/// Scores `answers` to `conditions`. Distances are measured on `compared` graphs ([`samples`]); `seed`
/// addresses the resampling behind intervals.
///
/// # Errors
/// If there is not exactly one answer per condition.
pub fn score(
    family: &Family,
    dataset: &Dataset,
    conditions: &[Condition],
    answers: &[Generated],
    likelihoods: Option<&[Likelihood]>,
    compared: usize,
    seed: u64,
) -> Result<Scores> {
    let verdicts = judge_all(conditions, answers)?;
    let case =
        Case { dataset, conditions, answers, verdicts: &verdicts, likelihoods, compared, seed };
    let mut of_prompts = self::answers::prompt_scores(conditions, &verdicts);
    let score = family.score.with_context(|| format!("`{}` scores no answers", family.id))?;
    let mut records = score(&case, &mut of_prompts)?;
    records.extend(decoding_cost::records(&case));
    Ok(Scores { records, of_prompts })
}

/// The records of [`score`] alone, with as many graphs compared as are usual for so many conditions.
///
/// # Errors
/// If there is not exactly one answer per condition.
pub fn evaluate(
    family: &Family,
    dataset: &Dataset,
    conditions: &[Condition],
    answers: &[Generated],
    seed: u64,
) -> Result<Vec<Record>> {
    let compared = samples::size(None, conditions.len());
    Ok(score(family, dataset, conditions, answers, None, compared, seed)?.records)
}

/// What the generators beside reference rows were asked.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub dataset: &'a Dataset,
    pub conditions: &'a [Condition],
    /// Sampling temperatures of the networks.
    pub temperatures: &'a [f64],
    /// Graphs that a distance is measured on ([`samples`]).
    pub compared: usize,
}

/// The reference rows of a family, of real graphs, simple rules and a perfect generator, beside generators
/// that were asked for the same; empty for one that has none.
///
/// # Errors
/// A dataset that the family cannot look at, a model that cannot be trained.
pub fn references(family: &Family, asked: &Asked, seed: u64) -> Result<Vec<Record>> {
    let mut records = family.references.map_or_else(|| Ok(Vec::new()), |of| of(asked, seed))?;
    if family.has_perfect_generator {
        records.extend(perfect::records(family, asked, seed)?);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::{DatasetCard, Side};
    use crate::graph::{CallGraph, CallRow, EdgeId, USER, Violation, ViolationCode};
    use crate::testing::{extreme_graph, renamed};

    /// Generators of a dataset that are asked nothing.
    pub fn nothing_asked(dataset: &Dataset) -> Asked<'_> {
        Asked { dataset, conditions: &[], temperatures: &[], compared: samples::size(None, 0) }
    }

    /// 40 vectors by a rule that tests/reference/distribution.py knows as well.
    pub fn sparse_example() -> (Vec<Vec<(u32, f64)>>, Vec<bool>) {
        let vectors = (0..40u32).map(|index| {
            let value = |column: u32| f64::from((index * (column + 3) + column) % 7);
            let dense = [value(0), f64::from(index % 3), value(2), f64::from(u32::from(index < 3))];
            (0..4).zip(dense).filter(|(_, value)| *value != 0.0).collect()
        });
        let labels = (0..40u32).map(|index| (index * 7 + index / 5) % 10 < 3 + index % 3);
        (vectors.collect(), labels.collect())
    }

    /// A dataset of these graphs on these sides.
    pub fn dataset(train: Vec<CallGraph>, test: Vec<CallGraph>) -> Dataset {
        let mut sides = vec![Side::Train; train.len()];
        sides.resize(train.len() + test.len(), Side::Test);
        Dataset::new(DatasetCard::default(), train.into_iter().chain(test).collect(), sides)
    }

    fn graph(service: &str, paths: impl Iterator<Item = EdgeId>, latency: u32) -> CallGraph {
        let microservice =
            |id: &EdgeId| format!("MS_{:05}", id.path().len() * 100 + id.number() as usize);
        let rows: Vec<CallRow> = paths
            .map(|edge_id| CallRow {
                source: match edge_id.parent() {
                    Some(parent) => microservice(&parent).as_str().into(),
                    None => USER.into(),
                },
                destination: microservice(&edge_id).as_str().into(),
                kind: crate::graph::CallType::Rpc,
                start: 0,
                finish: latency,
                edge_id,
            })
            .collect();
        CallGraph::from_rows(service.into(), &rows).expect("valid")
    }

    /// A root with edges − 1 children.
    pub fn flat(service: &str, edges: u32, latency: u32) -> CallGraph {
        let children = (1..edges).map(|number| EdgeId::root().child(number));
        graph(service, std::iter::once(EdgeId::root()).chain(children), latency)
    }

    /// Each call but the last has one child.
    pub fn chain(service: &str, edges: u32, latency: u32) -> CallGraph {
        let ids = std::iter::successors(Some(EdgeId::root()), |id| Some(id.child(1)));
        graph(service, ids.take(edges as usize), latency)
    }

    pub fn answer(graph: &CallGraph) -> Generated {
        Generated::complete(graph.rows())
    }

    /// An answer of which nothing was understood.
    pub fn failed() -> Generated {
        let failure = Some(Violation::new(ViolationCode::Format, "no text"));
        Generated { failure, ..Generated::default() }
    }

    pub fn reversed<T: Clone>(items: &[T]) -> Vec<T> {
        items.iter().rev().cloned().collect()
    }

    /// The one record of `metric` whose dimensions are shown as `cell`.
    pub fn find<'a>(records: &'a [Record], metric: &Metric, cell: &str) -> &'a Record {
        let mut found =
            records.iter().filter(|r| r.metric == metric && r.dimensions.to_string() == cell);
        let record = found.next().unwrap_or_else(|| panic!("no record {metric} {cell}"));
        assert!(found.next().is_none(), "two records {metric} {cell}");
        record
    }

    /// Whether two numbers are no farther apart than this, or both do not exist.
    pub fn near(one: f64, other: f64, tolerance: f64) -> bool {
        one.is_nan() && other.is_nan() || (one - other).abs() <= tolerance
    }

    /// The same records with the same values, whatever their intervals.
    pub fn assert_same_values(one: &[Record], other: &[Record], tolerance: f64) {
        assert_eq!(one.len(), other.len());
        for (one, other) in one.iter().zip(other) {
            assert_eq!(
                (&one.metric, &one.dimensions, one.count),
                (&other.metric, &other.dimensions, other.count)
            );
            assert!(near(one.value, other.value, tolerance), "{one:?} {other:?}");
        }
    }

    /// Families of answers but for the detector of anomalies, which trains networks.
    pub fn quick_families() -> impl Iterator<Item = &'static Family> {
        let families = FAMILIES.iter().copied().filter(|family| family.score.is_some());
        families.filter(|family| family.id != downstream::ANOMALIES.id)
    }

    /// Equal ids are the same metric, which several families may have.
    #[test]
    fn ids_are_unique_and_carry_their_version() {
        for one in metrics() {
            assert_eq!(metric(one.id), Some(one));
            let version = one.id.rsplit_once('/').and_then(|(_, number)| number.parse().ok());
            assert!(version.is_some_and(|version: u32| version > 0), "{}", one.id);
        }
    }

    #[test]
    fn families_are_told_apart_by_id_and_have_reports() {
        for (place, family) in FAMILIES.iter().enumerate() {
            let others = FAMILIES[..place].iter().filter(|other| other.id == family.id);
            assert_eq!(others.count(), 0, "{}", family.id);
            assert!(!family.reports.is_empty() && !family.metrics.is_empty());
        }
    }

    /// What every evaluation makes of these graphs: errors are fine, panics are not.
    fn evaluate_all(train: Vec<CallGraph>, test: Vec<CallGraph>) {
        let dataset = dataset(train, test);
        let asked = [
            Conditions::Test { count: 8 },
            Conditions::Grid { max_edges: 3, max_depth: 3, samples: 1 },
            Conditions::Instructions { count: 2 },
        ];
        let asked: Vec<Vec<Condition>> =
            asked.iter().filter_map(|spec| conditions(spec, &dataset, 1).ok()).collect();
        for family in quick_families() {
            // An evaluation may refuse conditions of another kind, or a dataset.
            for asked in &asked {
                let graphs = dataset.graphs().iter().cycle();
                let answers: Vec<Generated> =
                    asked.iter().zip(graphs).map(|(_, graph)| answer(graph)).collect();
                let _ = evaluate(family, &dataset, asked, &answers, 1);
            }
            let _ = references(family, &nothing_asked(&dataset), 1);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Edge ids, times, depths and names at the ends of what the parsers accept.
        #[test]
        fn no_graph_makes_an_evaluation_panic(
            train in prop::collection::vec(extreme_graph(8), 1..6),
            test in prop::collection::vec(extreme_graph(8), 1..6),
        ) {
            evaluate_all(train, test);
        }

        /// Enough graphs of one service for its statistics and windows.
        #[test]
        fn no_service_makes_an_evaluation_panic(graphs in prop::collection::vec(extreme_graph(6), 2..4)) {
            let many = |count| {
                let graphs = graphs.iter().cycle().take(count);
                let of_one = graphs.map(|graph| {
                    CallGraph::from_rows("a>b".into(), &graph.rows()).expect("valid")
                });
                of_one.collect::<Vec<_>>()
            };
            evaluate_all(many(120), many(60));
        }
    }

    /// Edge id `0.4294967295` was one more than there is room for.
    #[test]
    fn the_last_edge_id_is_no_panic_of_anomalies() {
        let rows = [
            crate::testing::row("0", USER, "a", "http", 0, u32::MAX),
            crate::testing::row("0.4294967295", "a", "b", "rpc", 0, u32::MAX),
        ];
        let graph = CallGraph::from_rows("S_1".into(), &rows).expect("valid");
        let graphs = |count| (0..count).map(|_| graph.clone()).collect();
        let dataset = dataset(graphs(12), graphs(12));
        references(&downstream::ANOMALIES, &nothing_asked(&dataset), 1).expect("records");
    }

    /// Graphs of the dataset with all names changed to others in another order.
    pub fn renamed_dataset(dataset: &Dataset) -> Dataset {
        let of = |graphs: Vec<&CallGraph>| graphs.into_iter().map(renamed).collect();
        self::dataset(of(dataset.train()), of(dataset.test()))
    }
}
