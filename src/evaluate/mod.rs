//! Scores generated graphs: which conditions to ask for, and what the answers are worth.
//!
//! Every result is a [`Record`]; reports are drawn from records alone. One file per metric family;
//! each metric's id is a constant whose comment defines it (docs/metrics.md sums them up).

pub mod accuracy;
pub mod classifier;
mod conditions;
pub mod distribution;
pub mod downstream;
pub mod effort;
pub mod fidelity;
#[cfg(test)]
mod golden;
pub mod heavy_hitters;
pub mod instructions;
mod interval;
mod joined;
pub mod novelty;
mod observed;
pub mod popular_calls;
mod ranking;
mod record;
pub mod shape;
pub mod truth;
mod units;
mod verdict;

pub use conditions::{condition_of, conditions, grid, grid_cells};
pub use interval::Interval;
pub use joined::Joined;
pub use record::{Conditions, Evaluation, Record, Task, reference_cell};
pub use units::Units;
pub use verdict::{Verdict, judge, judge_all};

use anyhow::Result;

use crate::data::Dataset;
use crate::generators::{Condition, Generated};
use crate::graph::CallGraph;

/// What one arm answered, and what it is measured against.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    pub dataset: &'a Dataset,
    pub conditions: &'a [Condition],
    /// One per condition.
    pub answers: &'a [Generated],
    /// One per condition.
    pub verdicts: &'a [Verdict],
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
    pub units: Units,
}

/// Scores `answers` to `conditions`. `seed` addresses the resampling behind intervals.
///
/// # Errors
/// If there is not exactly one answer per condition.
pub fn score(
    spec: &Evaluation,
    dataset: &Dataset,
    conditions: &[Condition],
    answers: &[Generated],
    seed: u64,
) -> Result<Scores> {
    let verdicts = judge_all(conditions, answers)?;
    let case = Case { dataset, conditions, answers, verdicts: &verdicts, seed };
    let mut units = Units::new(conditions, &verdicts);
    let mut records = match spec {
        Evaluation::Accuracy => accuracy::records(dataset, conditions, &verdicts),
        Evaluation::Fidelity => fidelity::records(dataset, conditions, answers, &verdicts, seed),
        Evaluation::Distribution => distribution::records(&case)?,
        Evaluation::Novelty => novelty::records(&case, &mut units)?,
        Evaluation::Instructions => instructions::records(&case, &mut units)?,
        Evaluation::Truth => truth::records(&case)?,
        Evaluation::Downstream { task } => downstream::records(*task, &case)?,
    };
    records.extend(effort::records(conditions, answers, &verdicts, seed));
    Ok(Scores { records, units })
}

/// The records of [`score`] alone.
///
/// # Errors
/// If there is not exactly one answer per condition.
pub fn evaluate(
    spec: &Evaluation,
    dataset: &Dataset,
    conditions: &[Condition],
    answers: &[Generated],
    seed: u64,
) -> Result<Vec<Record>> {
    Ok(score(spec, dataset, conditions, answers, seed)?.records)
}

/// The reference row of real against real graphs; empty for an evaluation that has none.
///
/// # Errors
/// None today; an evaluation that reads files may have some.
pub fn floor(spec: &Evaluation, dataset: &Dataset, seed: u64) -> Result<Vec<Record>> {
    Ok(match spec {
        Evaluation::Accuracy => Vec::new(),
        Evaluation::Fidelity => fidelity::floor(dataset, seed),
        Evaluation::Distribution => distribution::floor(dataset, seed)?,
        Evaluation::Novelty => novelty::floor(dataset, seed)?,
        Evaluation::Instructions => instructions::floor(dataset, seed)?,
        Evaluation::Truth => truth::floor(dataset, seed)?,
        Evaluation::Downstream { task } => downstream::floor(*task, dataset, seed)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DatasetCard, Side};
    use crate::graph::{CallGraph, CallRow, EdgeId, USER, Violation, ViolationCode};
    use crate::testing::renamed;

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

    /// The one record of `metric` and `cell`.
    pub fn find<'a>(records: &'a [Record], metric: &str, cell: &str) -> &'a Record {
        let mut found = records.iter().filter(|r| r.metric == metric && r.cell == cell);
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
                (&one.metric, &one.cell, one.count),
                (&other.metric, &other.cell, other.count)
            );
            assert!(near(one.value, other.value, tolerance), "{one:?} {other:?}");
        }
    }

    /// Graphs of the dataset with all names changed to others in another order.
    pub fn renamed_dataset(dataset: &Dataset) -> Dataset {
        let of = |graphs: Vec<&CallGraph>| graphs.into_iter().map(renamed).collect();
        self::dataset(of(dataset.train()), of(dataset.test()))
    }
}
