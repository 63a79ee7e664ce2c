use std::path::Path;

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::data::Dataset;
use crate::device::DeviceChoice;
use crate::error::UserError;
use crate::graph::{CallGraph, Condition, Generated};
use crate::model::Sampling;
use crate::progress::{Progress, StepProgress};
use crate::random;
use crate::version::Version;

/// What keeps an answer within its format and its condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decoding {
    /// Nothing: what the generator has learnt is what is measured.
    #[default]
    Free,
    /// An automaton that permits only what can still become a valid graph as asked for.
    Constrained,
    /// Answers that are not accurate are drawn again, up to so many times in all.
    Rejection { attempts: u32 },
}

impl Decoding {
    pub fn is_free(&self) -> bool {
        *self == Self::Free
    }
}

/// What training may use.
pub struct FitContext<'a> {
    /// Only `dataset.train()` may be looked at.
    pub dataset: &'a Dataset,
    pub seed: u64,
    pub device: DeviceChoice,
    /// Folder of the trained model to start from, where the baseline names one.
    pub base: Option<&'a Path>,
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
    /// Training tokens seen at each saved checkpoint, ascending; the last is the final model. Empty
    /// for generators without checkpoints.
    pub checkpoints: Vec<u64>,
    /// Anything worth a line in the report: vocabulary size, tokens per call …
    pub notes: Vec<(String, String)>,
}

/// How to generate.
#[derive(Clone, Copy, Debug)]
pub struct GenerateOptions {
    /// With the index of the condition, the whole address of its randomness.
    pub seed: u64,
    pub sampling: Sampling,
    /// `Free` or `Constrained`; drawing again is the harness's business.
    pub decoding: Decoding,
    /// Requests worked on at once. Must not change the result.
    pub batch: usize,
    pub progress: Progress,
}

impl GenerateOptions {
    /// Runs `work`, which counts its answers to so many conditions on a progress bar.
    pub fn with_progress<T>(&self, conditions: usize, work: impl FnOnce(&StepProgress) -> T) -> T {
        let bar = self.progress.step("generating", "graphs", conditions as u64);
        let result = work(&bar);
        bar.finish();
        result
    }

    /// The answers of generator `id` to conditions that it looks at one by one, on all threads; each with
    /// randomness of its own.
    pub fn answer_each(
        &self,
        id: &str,
        conditions: &[Condition],
        answer: impl Fn(&Condition, ChaCha8Rng) -> Generated + Sync,
    ) -> Vec<Generated> {
        self.with_progress(conditions.len(), |bar| {
            let answers = conditions.par_iter().enumerate().map(|(index, condition)| {
                let answered = answer(condition, random::stream(self.seed, id, &[index as u64]));
                bar.inc(1);
                answered
            });
            answers.collect()
        })
    }
}

/// A configured generator that has not been trained.
pub trait Recipe: Send + Sync {
    /// Trains on `context.dataset.train()` and writes the model to `context.out`.
    fn fit(&self, context: &FitContext) -> Result<FitReport>;

    /// Training graphs that [`Recipe::fit`] with this seed holds out: they choose among checkpoints.
    /// Empty for generators that hold none out.
    fn validation<'a>(&self, _dataset: &'a Dataset, _seed: u64) -> Vec<&'a CallGraph> {
        Vec::new()
    }

    /// Reads back what [`Recipe::fit`] wrote to `dir`. `checkpoint` picks one of
    /// [`FitReport::checkpoints`]; `None` takes the final model.
    fn load(
        &self,
        dir: &Path,
        checkpoint: Option<u64>,
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

    /// Natural logarithm of the probability of each graph under the condition that it answers, one per
    /// graph; `batch` graphs at once, which must not change the result. `None` for generators that
    /// have no likelihood.
    fn log_likelihoods(&self, _graphs: &[&CallGraph], _batch: usize) -> Result<Option<Vec<f64>>> {
        Ok(None)
    }
}

/// The settings of generator `id`, read from its table.
///
/// # Errors
/// A setting that is unknown or has a value that cannot be.
pub fn settings<T: DeserializeOwned>(id: &str, table: &toml::Table) -> Result<T> {
    Ok(table.clone().try_into().map_err(|error| {
        UserError::setting(format!("generator `{id}`: {}", error.to_string().trim_end()))
    })?)
}

/// # Errors
/// If a checkpoint is asked of a generator that keeps none.
pub fn no_checkpoint(id: &str, checkpoint: Option<u64>) -> Result<()> {
    match checkpoint {
        Some(tokens) => Err(UserError::setting(format!(
            "generator `{id}` keeps no checkpoints, so there is none at {tokens} tokens"
        ))
        .into()),
        None => Ok(()),
    }
}

/// A built-in generator: its id in manifests, what it is, and how its settings become a recipe. Each
/// generator's file holds its own.
pub struct Entry {
    pub id: &'static str,
    pub about: &'static str,
    /// Raised when the same dataset and settings give another trained model.
    pub training: Version,
    /// Raised when the same model gives other answers to the same conditions, or other likelihoods.
    pub answers: Version,
    /// Whether it can be held to a request while it draws.
    pub constrained: bool,
    /// Whether it can tell how likely a graph is.
    pub likelihood: bool,
    /// Settings with which it trains in a moment: those of its golden files. None for what asks programs
    /// and models of others.
    pub tiny: Option<&'static str>,
    pub build: fn(&toml::Table) -> Result<Box<dyn Recipe>>,
}
