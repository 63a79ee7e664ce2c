//! The reference row `training-set-copy`: copies training graphs.
//!
//! It shows what a perfect memory is worth: whatever its scores are, a generator that does not
//! reach them loses something that is in the training data, and one that reaches them may have
//! done no more than copy. It makes nothing new.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use super::{
    Entry, FitContext, FitReport, GenerateOptions, Generator, Recipe, no_checkpoint, settings,
};
use crate::data::calls::{self, Group};
use crate::device::DeviceChoice;
use crate::error::UserError;
use crate::graph::{CallGraph, Condition, Generated, Name};
use crate::version::Version;

const ID: &str = "training-set-copy";
/// Address of its randomness, which stays whatever it is called.
const STREAM: &str = "resample";
const GRAPHS: &str = "graphs.parquet";

/// `training-set-copy` has no settings.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrainingSetCopySettings {}

/// What the registry says of it.
pub const ENTRY: Entry = Entry {
    id: ID,
    about: "copies of training graphs: the reference row, with nothing new",
    training: Version::new("train/training-set-copy", 1),
    answers: Version::new("answer/training-set-copy", 1),
    constrained: false,
    likelihood: false,
    tiny: Some(""),
    build,
};

/// The recipe of `training-set-copy`.
///
/// # Errors
/// Any setting at all.
fn build(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    let TrainingSetCopySettings {} = settings(ID, table)?;
    Ok(Box::new(TrainingSetCopy))
}

struct TrainingSetCopy;

impl Recipe for TrainingSetCopy {
    fn fit(&self, context: &FitContext) -> Result<FitReport> {
        let train = context.dataset.train();
        let groups: Vec<Group> = train
            .iter()
            .enumerate()
            .map(|(index, graph)| Group {
                graph: index as u32,
                service: graph.service().clone(),
                rows: graph.rows(),
            })
            .collect();
        calls::write(&context.out.join(GRAPHS), &mut calls::to_frame(&groups)?)?;
        Ok(FitReport {
            parameters: groups.iter().map(|group| group.rows.len() as u64).sum(),
            notes: vec![("graphs kept".into(), groups.len().to_string())],
            ..FitReport::default()
        })
    }

    fn load(
        &self,
        dir: &Path,
        checkpoint: Option<u64>,
        _device: DeviceChoice,
    ) -> Result<Box<dyn Generator>> {
        no_checkpoint(ID, checkpoint)?;
        let path = dir.join(GRAPHS);
        let groups = calls::from_frame(&path, &calls::read(&path)?)?;
        let mut graphs = Vec::with_capacity(groups.len());
        for group in groups {
            let graph = CallGraph::from_rows(group.service, &group.rows).map_err(|violations| {
                let place = format!("graph {}", group.graph);
                UserError::input(&path, place, violations[0].to_string())
            })?;
            graphs.push(graph);
        }
        Ok(Box::new(Copies::new(graphs)))
    }
}

/// Training graphs by (num_edges, depth), for one service or for all.
type Shapes = BTreeMap<(u32, u32), Vec<u32>>;

/// Answers each condition with a training graph of its service (of any service, where training
/// has none of it) whose num_edges and depth are nearest, by |Δnum_edges| + |Δdepth|; among
/// equally near ones at random. An attribute left open costs nothing. The latency is not looked
/// at: with it there would be one nearest graph, and every sample of a prompt would be the same.
struct Copies {
    graphs: Vec<CallGraph>,
    by_service: BTreeMap<Name, Shapes>,
    overall: Shapes,
}

impl Copies {
    fn new(graphs: Vec<CallGraph>) -> Self {
        let mut by_service: BTreeMap<Name, Shapes> = BTreeMap::new();
        let mut overall = Shapes::new();
        for (index, graph) in graphs.iter().enumerate() {
            let shape = (graph.num_edges(), graph.depth());
            let own = by_service.entry(graph.service().clone()).or_default();
            own.entry(shape).or_default().push(index as u32);
            overall.entry(shape).or_default().push(index as u32);
        }
        Self { graphs, by_service, overall }
    }

    fn answer(&self, condition: &Condition, mut rng: ChaCha8Rng) -> Generated {
        let shapes = self.by_service.get(&condition.service).unwrap_or(&self.overall);
        let distance = |(num_edges, depth): (u32, u32)| {
            condition.num_edges.map_or(0, |wanted| wanted.abs_diff(num_edges))
                + condition.depth.map_or(0, |wanted| wanted.abs_diff(depth))
        };
        let nearest = shapes.keys().map(|shape| distance(*shape)).min();
        let candidates: Vec<u32> = shapes
            .iter()
            .filter(|(shape, _)| Some(distance(**shape)) == nearest)
            .flat_map(|(_, graphs)| graphs.iter().copied())
            .collect();
        if candidates.is_empty() {
            return Generated::default();
        }
        let chosen = candidates[rng.random_range(0..candidates.len())];
        Generated::complete(self.graphs[chosen as usize].rows())
    }
}

impl Generator for Copies {
    fn generate(
        &self,
        conditions: &[Condition],
        options: &GenerateOptions,
    ) -> Result<Vec<Generated>> {
        Ok(options.answer_each(STREAM, conditions, |condition, rng| self.answer(condition, rng)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::generators::tests::{generate, train_only};
    use crate::testing::{any_graph, paper_example};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn only_training_graphs_come_back(
            graphs in prop::collection::vec(any_graph(12), 1..12),
            wanted in prop::collection::vec((0..6u32, 1..14u32, 1..6u32), 1..20),
        ) {
            let conditions: Vec<Condition> = wanted.iter().map(|(service, edges, depth)| Condition {
                service: Name::from(format!("S_{service:09}").as_str()),
                num_edges: Some(*edges),
                depth: Some(*depth),
                latency: None,
                requests: Vec::new(),
            }).collect();
            let known: HashSet<_> = graphs.iter().map(|graph| graph.rows()).collect();
            let dataset = train_only(graphs);
            let answers = generate(ID, "", &dataset, &conditions, 7);
            prop_assert_eq!(answers.len(), conditions.len());
            prop_assert!(answers.iter().all(|answer| known.contains(&answer.rows)));
        }
    }

    #[test]
    fn the_nearest_graph_of_the_service_is_copied() {
        let single = |service: &str| {
            let rows = &paper_example().rows()[..1];
            CallGraph::from_rows(service.into(), rows).expect("valid")
        };
        let example = paper_example();
        let dataset = train_only(vec![example.clone(), single("S_1"), single("S_000034483")]);
        let ask = |service: &str, num_edges, depth| Condition {
            service: service.into(),
            num_edges,
            depth,
            latency: Some(3),
            requests: Vec::new(),
        };
        let conditions = [
            ask("S_000034483", Some(6), Some(3)),
            ask("S_1", Some(6), Some(3)),
            ask("S_9", Some(9), None),
        ];
        let answers = generate(ID, "", &dataset, &conditions, 1);
        let lengths: Vec<usize> = answers.iter().map(|answer| answer.rows.len()).collect();
        assert_eq!(lengths, [7, 1, 7]);
        assert_eq!(answers[0].rows, example.rows());
    }
}
