//! Generators that are language models: a Llama-style decoder trained from scratch on the text of
//! the training graphs. They share transformer, tokenizer, training and sampler, and differ in what a
//! text holds:
//!
//! - `recursive-llm`: the paper's generator, a layer of a graph (sections 3 and 4);
//! - `recursive-compact`: the same without prose;
//! - `tabular-llm`: the paper's GReaT-style baseline, a whole graph.

mod corpus;
mod recursion;
mod whole;

use std::path::Path;

use anyhow::Result;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use self::corpus::{Arm, Texts, learn_tokenizer};
use self::recursion::Recursion;
use self::whole::WholeGraphs;
use super::{
    Condition, FitContext, FitReport, GenerateOptions, Generated, Generator, Recipe, settings,
};
use crate::device::DeviceChoice;
use crate::error::UserError;
use crate::graph::{CallGraph, Violation, ViolationCode};
use crate::model::decode::{CachedModel, Completion, PromptSource, decode};
use crate::model::{self, Corpus, Document, ModelConfig, TrainConfig};
use crate::random;
use crate::text::{Format, Tokenizer};

/// Settings of the generator; every one has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Model size: `xs`, `s`, `m` or `l`.
    pub size: String,
    /// Longest text, tokens; longer ones are left out of training.
    pub context: usize,
    /// Training tokens.
    pub tokens: u64,
    /// Tokens of a batch.
    pub batch_tokens: usize,
    pub learning_rate: f64,
    pub min_learning_rate: f64,
    pub warmup_steps: u64,
    pub weight_decay: f64,
    /// Limit on the norm of the gradient.
    pub clip: f64,
    /// Whether the prompt's tokens are learnt too, as in the paper's pre-training. A small model
    /// does better when all its capacity goes to the answers.
    pub learn_prompts: bool,
    /// Share of training texts in which the service is written byte by byte, as a service that the
    /// vocabulary lacks would be: otherwise such a request reads like nothing seen before.
    pub spell_services: f64,
    /// Shares of the training after which a snapshot is kept, ascending, below 1.
    pub snapshots: Vec<f64>,
    /// Steps between two lines of the training log.
    pub evaluate_every: u64,
    /// Steps between two checkpoints.
    pub checkpoint_every: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            size: "s".into(),
            context: 1024,
            tokens: 3_000_000,
            batch_tokens: 2048,
            learning_rate: 2e-3,
            min_learning_rate: 0.0,
            warmup_steps: 100,
            weight_decay: 0.01,
            clip: 1.0,
            learn_prompts: false,
            spell_services: 0.05,
            snapshots: Vec::new(),
            evaluate_every: 100,
            checkpoint_every: 200,
        }
    }
}

/// Share of the training graphs that is kept for the validation perplexity, and its limit.
const VALIDATION: (f64, usize) = (0.03, 300);

/// Builds the recipe of `recursive-llm` from a baseline's settings.
pub fn recursive(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    recipe("recursive-llm", Arm::Layers(Format::Recursive), table)
}

/// Builds the recipe of `recursive-compact` from a baseline's settings.
pub fn recursive_compact(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    recipe("recursive-compact", Arm::Layers(Format::Compact), table)
}

/// Builds the recipe of `tabular-llm` from a baseline's settings.
pub fn tabular(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    recipe("tabular-llm", Arm::Graphs, table)
}

fn recipe(id: &str, arm: Arm, table: &toml::Table) -> Result<Box<dyn Recipe>> {
    let settings: Settings = settings(id, table)?;
    let wrong = |message: String| Err(UserError::setting(format!("{id}: {message}")).into());
    let shares = &settings.snapshots;
    let ascending = shares.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascending || shares.iter().any(|share| !(*share > 0.0 && *share < 1.0)) {
        return wrong(format!("snapshots {shares:?} must ascend between 0 and 1"));
    }
    if settings.batch_tokens == 0 || settings.context < 64 {
        return wrong("batch_tokens must be at least 1 and context at least 64".into());
    }
    if !(0.0..=1.0).contains(&settings.spell_services) {
        return wrong(format!("spell_services {} is not in 0–1", settings.spell_services));
    }
    if !(settings.learning_rate > 0.0 && settings.clip > 0.0) {
        return wrong("learning_rate and clip must be above 0".into());
    }
    ModelConfig::preset(&settings.size, 1, settings.context)?;
    Ok(Box::new(Untrained { arm, settings }))
}

struct Untrained {
    arm: Arm,
    settings: Settings,
}

impl Recipe for Untrained {
    fn fit(&self, context: &FitContext) -> Result<FitReport> {
        let settings = &self.settings;
        let train = context.dataset.train();
        let (train, validation) = hold_out(train, context.seed);
        let tokenizer = learn_tokenizer(self.arm, &train, context.seed)?;
        let corpus = Texts::new(self.arm, &train, &tokenizer, settings, context.seed);
        let held_out = Texts::new(self.arm, &validation, &tokenizer, settings, context.seed);
        let validation: Vec<Document> =
            (0..held_out.len()).map(|index| held_out.document(0, index)).collect();
        let lengths = corpus.lengths();
        let left_out = lengths.iter().filter(|length| **length > settings.context).count();
        let per_call = lengths.iter().sum::<usize>() as f64 / corpus.calls.max(1) as f64;
        let config = ModelConfig::preset(&settings.size, tokenizer.vocabulary(), settings.context)?;
        let report = model::train(
            &config,
            &settings.train_config(context.seed),
            &corpus,
            &validation,
            context.out,
            context.scratch,
            context.device,
            context.progress,
        )?;
        tokenizer.save(context.out)?;
        let meta = Meta { tokens: report.tokens };
        std::fs::write(context.out.join(META), serde_json::to_string_pretty(&meta)? + "\n")?;
        let note = |name: &str, value: String| (name.to_owned(), value);
        Ok(FitReport {
            parameters: report.parameters,
            tokens: report.tokens,
            snapshots: report.snapshots,
            notes: vec![
                note("vocabulary", tokenizer.vocabulary().to_string()),
                note("tokens per call", format!("{per_call:.1}")),
                note("texts over the context, left out", left_out.to_string()),
                note("validation perplexity", format!("{:.3}", report.validation_perplexity)),
            ],
        })
    }

    fn load(
        &self,
        dir: &Path,
        snapshot: Option<u64>,
        device: DeviceChoice,
    ) -> Result<Box<dyn Generator>> {
        let path = dir.join(META);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| UserError::io(&path, "cannot be read", error))?;
        let meta: Meta = serde_json::from_str(&text)?;
        // The last snapshot is the final model itself.
        let snapshot = snapshot.filter(|tokens| *tokens != meta.tokens);
        Ok(Box::new(Trained {
            arm: self.arm,
            tokenizer: Tokenizer::load(dir)?,
            model: std::sync::Mutex::new(model::load(dir, snapshot, device)?),
        }))
    }
}

/// What [`Recipe::load`] needs to know of the training.
#[derive(Serialize, Deserialize)]
struct Meta {
    /// Training tokens of the final model.
    tokens: u64,
}

const META: &str = "language-model.json";

impl Settings {
    fn train_config(&self, seed: u64) -> TrainConfig {
        TrainConfig {
            tokens: self.tokens,
            batch_tokens: self.batch_tokens,
            learning_rate: self.learning_rate,
            min_learning_rate: self.min_learning_rate,
            warmup_steps: self.warmup_steps,
            weight_decay: self.weight_decay,
            clip: self.clip,
            evaluate_every: self.evaluate_every,
            checkpoint_every: self.checkpoint_every,
            snapshots: self.snapshots.iter().map(|s| (s * self.tokens as f64) as u64).collect(),
            seed,
        }
    }
}

/// Keeps a few training graphs for the validation perplexity: (to train on, held out).
fn hold_out(mut graphs: Vec<&CallGraph>, seed: u64) -> (Vec<&CallGraph>, Vec<&CallGraph>) {
    graphs.shuffle(&mut random::stream(seed, "validation graphs", &[]));
    let count = ((graphs.len() as f64 * VALIDATION.0).ceil() as usize).min(VALIDATION.1);
    let train = graphs.split_off(count.min(graphs.len().saturating_sub(1)));
    (train, graphs)
}

struct Trained {
    arm: Arm,
    tokenizer: Tokenizer,
    model: std::sync::Mutex<Box<dyn CachedModel>>,
}

impl Generator for Trained {
    fn generate(
        &self,
        conditions: &[Condition],
        options: &GenerateOptions,
    ) -> Result<Vec<Generated>> {
        let bar = options.progress.step("generating", "graphs", conditions.len() as u64);
        let (tokenizer, seed) = (&self.tokenizer, options.seed);
        let graphs = match self.arm {
            Arm::Layers(format) => {
                self.answers(Recursion::new(format, tokenizer, conditions, seed, &bar), options)
            }
            Arm::Graphs => {
                self.answers(WholeGraphs::new(tokenizer, conditions, seed, &bar), options)
            }
        };
        bar.finish();
        graphs
    }
}

impl Trained {
    fn answers(
        &self,
        mut source: impl Source,
        options: &GenerateOptions,
    ) -> Result<Vec<Generated>> {
        let mut model = self.model.lock().map_err(|_| anyhow::anyhow!("the model is poisoned"))?;
        let batch = options.batch.max(1);
        decode(model.as_mut(), &mut source, Tokenizer::END, options.sampling, batch)?;
        source.finish()
    }
}

/// Prompts whose completions become graphs.
trait Source: PromptSource {
    /// One answer per condition, in order.
    fn finish(self) -> Result<Vec<Generated>>;
}

/// Tokens of a prompt.
fn prompt(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let mut tokens = vec![Tokenizer::BEGIN];
    tokens.extend(tokenizer.encode(text)?);
    Ok(tokens)
}

/// The text of a completion, if it came to its end.
fn answer(tokenizer: &Tokenizer, completion: &Completion) -> Result<String, Violation> {
    if !completion.stopped {
        let detail = "the answer is longer than the model's context";
        return Err(Violation::new(ViolationCode::Truncated, detail));
    }
    if Tokenizer::any_special(&completion.tokens) {
        let detail = "the answer holds a special token";
        return Err(Violation::new(ViolationCode::Format, detail));
    }
    Ok(tokenizer.decode(&completion.tokens))
}

#[cfg(test)]
mod tests;
