use std::path::Path;

use anyhow::{Context, Result};
use polars::prelude::*;
use serde::{Deserialize, Serialize};

use super::Funnel;
use super::calls::{self, Group};
use super::held_out::{self, HeldOut, HeldOutCard};
use crate::error::UserError;
use crate::graph::CallGraph;

/// Side of the split that a graph is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Train,
    /// The paper's 10 % "validation" graphs. Training never sees them.
    Test,
    /// Graphs that met an injected fault: real anomalies, which are in neither of the two.
    Faulty,
}

/// A file that went into a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// File name, without the folder: cards do not depend on where data lies.
    pub name: String,
    pub bytes: u64,
    /// BLAKE3 of the content.
    pub hash: String,
}

/// How train and test were separated, and what leaks between them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SplitCard {
    /// "random" or "by-structure".
    pub kind: String,
    pub seed: u64,
    pub train_graphs: u64,
    pub test_graphs: u64,
    /// Share of test graphs whose tree shape occurs in training.
    pub test_structure_in_train: f64,
    /// Share of test graphs whose (service, tree shape) occurs in training.
    pub test_service_structure_in_train: f64,
}

/// What a dataset is, where it came from, and what happened on the way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DatasetCard {
    pub name: String,
    /// Id of the source: `alibaba-v2022`, `call-table`, `simulator` …
    pub source: String,
    /// Labels that every output using this dataset must carry ("times drawn from …").
    pub labels: Vec<String>,
    pub inputs: Vec<InputFile>,
    pub funnel: Funnel,
    /// What was changed in what the funnel kept, in words that follow a number, with this number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<(String, u64)>,
    pub graphs: u64,
    pub calls: u64,
    pub services: u64,
    pub microservices: u64,
    pub split: SplitCard,
    #[serde(default)]
    pub held_out: HeldOutCard,
    /// BLAKE3 of the calls table's content.
    pub hash: String,
}

/// Graphs with their sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    pub card: DatasetCard,
    graphs: Vec<CallGraph>,
    sides: Vec<Side>,
    held_out: Vec<HeldOut>,
}

const CALLS: &str = "calls.parquet";
const HELD_OUT: &str = "held-out.parquet";
const CARD: &str = "card.json";

impl Dataset {
    /// Prompts of the grid are those of the test graphs, until [`Dataset::set_held_out`] says otherwise.
    ///
    /// # Panics
    /// If `graphs` and `sides` differ in length.
    pub fn new(card: DatasetCard, graphs: Vec<CallGraph>, sides: Vec<Side>) -> Self {
        assert_eq!(graphs.len(), sides.len(), "one side per graph");
        let mut dataset = Self { card, graphs, sides, held_out: Vec::new() };
        let held_out = dataset.test().into_iter().map(HeldOut::of).collect();
        dataset.set_held_out(held_out, "test graphs".to_owned());
        dataset
    }

    /// Attributes of graphs that nobody trains on.
    pub fn held_out(&self) -> &[HeldOut] {
        &self.held_out
    }

    /// `from` says which graphs these are, as part of a sentence.
    pub fn set_held_out(&mut self, held_out: Vec<HeldOut>, from: String) {
        self.card.held_out = HeldOutCard::new(&held_out, from);
        self.held_out = held_out;
    }

    pub fn graphs(&self) -> &[CallGraph] {
        &self.graphs
    }

    pub fn side(&self, side: Side) -> Vec<&CallGraph> {
        let graphs = self.graphs.iter().zip(&self.sides);
        graphs.filter(|(_, s)| **s == side).map(|(graph, _)| graph).collect()
    }

    pub fn train(&self) -> Vec<&CallGraph> {
        self.side(Side::Train)
    }

    pub fn test(&self) -> Vec<&CallGraph> {
        self.side(Side::Test)
    }

    /// Writes `calls.parquet` (one row per call, with a `side` column), `held-out.parquet` and `card.json` to `dir`,
    /// filling in the card's counts and hash.
    pub fn save(&mut self, dir: &Path) -> Result<()> {
        let groups: Vec<Group> = self
            .graphs
            .iter()
            .enumerate()
            .map(|(index, graph)| Group {
                graph: index as u32,
                service: graph.service().clone(),
                rows: graph.rows(),
            })
            .collect();
        let mut frame = calls::to_frame(&groups)?;
        let sides = self.graphs.iter().zip(&self.sides).flat_map(|(graph, side)| {
            let text = match side {
                Side::Train => "train",
                Side::Test => "test",
                Side::Faulty => "faulty",
            };
            std::iter::repeat_n(text, graph.calls().len())
        });
        frame.with_column(StringChunked::from_iter_values("side".into(), sides).into_column())?;
        self.count(&groups);
        calls::write(&dir.join(CALLS), &mut frame)?;
        held_out::write(&dir.join(HELD_OUT), &self.held_out)?;
        let card = serde_json::to_string_pretty(&self.card)?;
        let path = dir.join(CARD);
        std::fs::write(&path, card + "\n")
            .map_err(|error| UserError::io(&path, "cannot be written", error))?;
        Ok(())
    }

    fn count(&mut self, groups: &[Group]) {
        let mut services = std::collections::HashSet::new();
        let mut microservices = std::collections::HashSet::new();
        let mut hasher = blake3::Hasher::new();
        for (group, side) in groups.iter().zip(&self.sides) {
            services.insert(&group.service);
            hasher.update(format!("{}\t{side:?}\n", group.service).as_bytes());
            for row in &group.rows {
                microservices.insert(&row.destination);
                let line = format!(
                    "{}\t{}\t{}\t{}\t{}\n",
                    row.edge_id, row.destination, row.kind, row.start, row.finish
                );
                hasher.update(line.as_bytes());
            }
        }
        self.card.graphs = groups.len() as u64;
        self.card.calls = groups.iter().map(|group| group.rows.len() as u64).sum();
        self.card.services = services.len() as u64;
        self.card.microservices = microservices.len() as u64;
        self.card.hash = hasher.finalize().to_hex().to_string();
    }

    /// Reads what [`Dataset::save`] wrote.
    ///
    /// # Errors
    /// A missing or damaged file, or rows that are not valid graphs.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(CARD);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| UserError::io(&path, "cannot be read", error))?;
        let card: DatasetCard =
            serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let path = dir.join(CALLS);
        let frame = calls::read(&path)?;
        let groups = calls::from_frame(&path, &frame)?;
        let side_of_row = frame.column("side").and_then(|column| column.str().cloned());
        let side_of_row = side_of_row
            .map_err(|error| UserError::input(&path, "column side", error.to_string()))?;
        let mut graphs = Vec::with_capacity(groups.len());
        let mut sides = Vec::with_capacity(groups.len());
        let mut row = 0;
        for group in groups {
            sides.push(match side_of_row.get(row) {
                Some("train") => Side::Train,
                Some("test") => Side::Test,
                Some("faulty") => Side::Faulty,
                other => {
                    let place = format!("row {}, column side", row + 1);
                    let message = format!("{other:?} is none of train, test and faulty");
                    return Err(UserError::input(&path, place, message).into());
                }
            });
            row += group.rows.len();
            let graph = CallGraph::from_rows(group.service, &group.rows).map_err(|violations| {
                let place = format!("graph {}", group.graph);
                UserError::input(&path, place, violations[0].to_string())
            })?;
            graphs.push(graph);
        }
        let held_out = held_out::read(&dir.join(HELD_OUT))?;
        Ok(Self { card, graphs, sides, held_out })
    }
}
