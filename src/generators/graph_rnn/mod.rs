//! The baseline `graph-rnn`: one recurrent network carries the state of the graph, another writes what
//! is attached.
//!
//! After You et al., "GraphRNN: Generating Realistic Graphs with Deep Auto-regressive Models" (ICML 2018,
//! arXiv 1802.08773). There a graph-level RNN takes the nodes of an undirected graph in breadth-first
//! order, and from its state an edge-level RNN writes, bit by bit, which earlier nodes the next one is
//! joined to. A call graph is more and less than that: a directed tree with ordered siblings, labels on
//! nodes (microservices) and edges (call types), and times; and it is asked for.
//!
//! 1. Nodes are calls in breadth-first order; the user, who makes the root call, is the first. A
//!    graph-level step takes a call's label (destination and type), its place in the tree and its times.
//! 2. A call has one parent, and in breadth-first order never one before the parent of the call before.
//!    A row of the adjacency matrix is therefore a scan from that parent on: "not this one" … "this one".
//!    [`EdgeLevel::Scan`] makes it as published, anew for each call, from the state of the graph
//!    alone. [`EdgeLevel::Children`] takes the same decisions in the same order as lists: the edge-level RNN
//!    writes one parent's children until it ends the list ("not this one"). It then runs once for each
//!    parent rather than each call, so that it knows the siblings, and it sees the parent: label, depth,
//!    response time, and the graph-level state of its own step.
//! 3. The label of a child is one choice among all pairs of destination and type seen in training. The
//!    edge-level state and the label then give its gap (from the end of the sibling before to its
//!    start) and its response time, as classes of [`Bins`](crate::model::neural::Bins); values are drawn within a class
//!    as they occurred.
//! 4. The request is part of every graph-level input: service, num_edges, depth and latency, and the
//!    calls and levels that are still to be written. In training each attribute is left out now and then,
//!    and the service too, so that requests without them, and of services that training lacks, are
//!    nothing new. num_edges and depth are wishes: nothing enforces them.
//! 5. Enforced by construction: one root; at most `max_calls` calls, the rest is cut off; a child lies
//!    within its parent's time; the root finishes at the latency that was asked for.

mod drawing;
mod growth;
mod network;
#[cfg(test)]
mod tests;
mod training;
mod vocabulary;

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use self::drawing::TrainedRnn;
use self::network::{RnnShape, layout};
use self::vocabulary::RnnVocabulary;
use super::{
    Entry, FitContext, FitReport, GenerateOptions, Generator, Recipe, no_checkpoint, settings,
    tables,
};
use crate::check::within;
use crate::device::DeviceChoice;
use crate::error::UserError;
use crate::graph::{Condition, Generated};
use crate::model::neural::Parameters;
use crate::version::Version;

const ID: &str = "graph-rnn";

/// What one run of the edge-level RNN decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EdgeLevel {
    /// The parent of the next call, and that call's label (as published).
    Scan,
    /// All children of one call.
    Children,
}

/// Learning rate by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Decline {
    /// Warm-up, then a cosine down to a twentieth.
    Cosine,
    /// To 0.3 of itself after 2/15 and again after 1/3 of the steps, where the original's milestones lie.
    Stepped,
}

/// `[settings]` of a baseline.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RnnSettings {
    edge_level: EdgeLevel,
    /// Of the graph-level RNN.
    layers: usize,
    hidden: usize,
    /// Width of the inputs of both RNNs.
    embedding: usize,
    /// Of the edge-level RNN.
    edge_layers: usize,
    edge_hidden: usize,
    /// Updates, and graphs in each.
    steps: u64,
    batch: usize,
    /// At most so often is each graph seen: a limit on `steps` where training graphs are few.
    epochs: u64,
    learning_rate: f64,
    decline: Decline,
    /// Probability that training leaves out num_edges, depth and latency, each by itself.
    leave_out: f64,
    /// Classes of a gap and of a response time.
    time_bins: usize,
    /// A graph grows no further once it has this many calls; training graphs are cut there, too.
    max_calls: u32,
}

impl Default for RnnSettings {
    fn default() -> Self {
        Self {
            edge_level: EdgeLevel::Children,
            layers: 1,
            hidden: 128,
            embedding: 64,
            edge_layers: 1,
            edge_hidden: 128,
            steps: 6_000,
            batch: 64,
            epochs: 60,
            learning_rate: 3e-3,
            decline: Decline::Cosine,
            leave_out: 0.2,
            time_bins: 32,
            max_calls: 200,
        }
    }
}

impl RnnSettings {
    fn shape(&self) -> RnnShape {
        let Self { layers, hidden, embedding, edge_layers, edge_hidden, .. } = *self;
        RnnShape { layers, hidden, embedding, edge_layers, edge_hidden }
    }

    /// # Errors
    /// The first value that cannot be.
    fn check(&self) -> Result<()> {
        let wrong = |message: String| {
            Err(UserError::setting(format!("generator `{ID}`: {message}")).into())
        };
        let sizes = [
            ("layers", self.layers, 1, 16),
            ("hidden", self.hidden, 1, 4096),
            ("embedding", self.embedding, 1, 4096),
            ("edge_layers", self.edge_layers, 1, 16),
            ("edge_hidden", self.edge_hidden, 1, 4096),
            ("batch", self.batch, 1, 65_536),
            ("time_bins", self.time_bins, 1, 4096),
            ("max_calls", self.max_calls as usize, 1, 100_000),
        ];
        for (name, value, least, most) in sizes {
            if !(least..=most).contains(&value) {
                return wrong(format!("{name} = {value} cannot be; use {least} to {most}"));
            }
        }
        for (name, value) in [("steps", self.steps), ("epochs", self.epochs)] {
            if let Err(message) = within(name, value, 1..=1_000_000_000) {
                return wrong(message);
            }
        }
        if !(self.learning_rate > 0.0 && self.learning_rate <= 1.0) {
            let value = self.learning_rate;
            return wrong(format!("learning_rate = {value} cannot be; use 1e-5 to 1e-1"));
        }
        if !(0.0..=1.0).contains(&self.leave_out) {
            let value = self.leave_out;
            return wrong(format!("leave_out = {value} is no probability; use 0 to 1"));
        }
        Ok(())
    }
}

/// What the registry says of it.
pub const ENTRY: Entry = Entry {
    id: ID,
    about: "a recurrent network that writes each call's children (after You et al., ICML 2018)",
    training: Version::new("train/graph-rnn", 1),
    answers: Version::new("answer/graph-rnn", 1),
    constrained: false,
    likelihood: false,
    tiny: Some(
        "steps = 12\nlearning_rate = 1e-2\nbatch = 16\nhidden = 16\nedge_hidden = 16\nembedding = 8\n",
    ),
    build,
};

/// The recipe of `graph-rnn`.
///
/// # Errors
/// Unknown settings or values.
fn build(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    let settings: RnnSettings = settings(ID, table)?;
    settings.check()?;
    Ok(Box::new(GraphRnn { settings }))
}

struct GraphRnn {
    settings: RnnSettings,
}

/// The trained parameters.
const PARAMETERS: &str = "model.safetensors";

impl Recipe for GraphRnn {
    fn fit(&self, context: &FitContext) -> Result<FitReport> {
        let graphs = context.dataset.train();
        let vocabulary = RnnVocabulary::learn(&graphs, self.settings.time_bins);
        let trained = training::train(&self.settings, &vocabulary, &graphs, context)?;
        tables::save(&vocabulary, context.out)?;
        trained.parameters.save(&context.out.join(PARAMETERS))?;
        let [structure, times] = trained.losses.map(|loss| format!("{loss:.4}"));
        let notes = [
            ("steps", trained.steps.to_string()),
            ("labels", vocabulary.labels().to_string()),
            ("loss of structure, nats per decision", structure),
            ("loss of times, nats per decision", times),
        ];
        Ok(FitReport {
            parameters: trained.parameters.count(),
            notes: notes.map(|(key, value)| (key.to_owned(), value)).to_vec(),
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
        let vocabulary: RnnVocabulary = tables::load(dir)?;
        let layout = layout(&self.settings.shape(), &vocabulary);
        let parameters = Parameters::load(&dir.join(PARAMETERS), &layout)?;
        Ok(Box::new(TrainedRnn::new(&self.settings, vocabulary, &parameters)))
    }
}

impl Generator for TrainedRnn {
    fn generate(
        &self,
        conditions: &[Condition],
        options: &GenerateOptions,
    ) -> Result<Vec<Generated>> {
        Ok(options.answer_each(ID, conditions, |condition, mut rng| {
            Generated::complete(self.draw(condition, options.sampling, &mut rng))
        }))
    }
}
