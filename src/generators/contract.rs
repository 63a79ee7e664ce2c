use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::data::Dataset;
use crate::device::DeviceChoice;
use crate::graph::{CallRow, Name, Violation};
use crate::progress::Progress;

/// What a prompt asks for: a graph of `service` with these attributes; `None` leaves one open.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Condition {
    pub service: Name,
    pub num_edges: Option<u32>,
    pub depth: Option<u32>,
    /// Finish of the root call, milliseconds.
    pub latency: Option<u32>,
}

/// How tokens (or any other choices) are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 takes the most likely choice. Generators without a temperature ignore it.
    pub temperature: f64,
    /// Only the k most likely choices are drawn from; `None` keeps all.
    pub top_k: Option<u32>,
}

/// A generator's answer to one condition.
///
/// The harness checks the rows itself; a generator need not know what is valid. `failure` is for
/// what the rows cannot show (a reply that does not parse), and comes with the calls that were
/// understood before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    pub rows: Vec<CallRow>,
    pub failure: Option<Violation>,
}

/// What training may use.
pub struct FitContext<'a> {
    /// Only `dataset.train()` may be looked at.
    pub dataset: &'a Dataset,
    pub seed: u64,
    pub device: DeviceChoice,
    /// Where the trained model's files go. Nothing else is read from here later.
    pub out: &'a Path,
    /// Survives an interruption: checkpoints to resume from. Emptied when training is complete.
    pub scratch: &'a Path,
    pub progress: Progress,
}

/// What training says of itself. Wall times are measured by the harness.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FitReport {
    /// Learnt parameters (or counts kept).
    pub parameters: u64,
    /// Training tokens seen (0 for generators without tokens).
    pub tokens: u64,
    /// Training tokens seen at each saved snapshot, ascending; the last is the final model. Empty
    /// for generators without snapshots.
    pub snapshots: Vec<u64>,
    /// Anything worth a line in the report: vocabulary size, tokens per call …
    pub notes: Vec<(String, String)>,
}

/// How to generate.
#[derive(Clone, Copy, Debug)]
pub struct GenerateOptions {
    /// With the index of the condition, the whole address of its randomness.
    pub seed: u64,
    pub sampling: Sampling,
    /// Requests worked on at once. Must not change the result.
    pub batch: usize,
    pub progress: Progress,
}

/// A configured generator that has not been trained.
pub trait Recipe: Send + Sync {
    /// Trains on `context.dataset.train()` and writes the model to `context.out`.
    fn fit(&self, context: &FitContext) -> Result<FitReport>;

    /// Reads back what [`Recipe::fit`] wrote to `dir`. `snapshot` picks one of
    /// [`FitReport::snapshots`]; `None` takes the final model.
    fn load(
        &self,
        dir: &Path,
        snapshot: Option<u64>,
        device: DeviceChoice,
    ) -> Result<Box<dyn Generator>>;
}

/// A trained generator.
pub trait Generator {
    /// Exactly one answer per condition, in order. Condition i of seed s gets the same answer
    /// whatever the other conditions, the batch size and the number of threads.
    fn generate(
        &self,
        conditions: &[Condition],
        options: &GenerateOptions,
    ) -> Result<Vec<Generated>>;
}
