//! Generators that are language models: a Llama-style decoder trained from scratch on the text of
//! the training graphs. They share transformer, tokenizer, training and sampler, and differ in what a
//! text holds:
//!
//! - `recursive-llm`: the paper's generator, a layer of a graph (sections 3 and 4);
//! - `recursive-instruction-llm`: a layer as the answer to an instruction, with or without notes;
//! - `recursive-compact`: the same without prose;
//! - `tabular-llm`: the paper's GReaT-style baseline, a whole graph.

mod corpus;
mod generation;
mod likelihood;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::Result;
use rand::seq::{IndexedRandom, SliceRandom};
use serde::{Deserialize, Serialize};

use self::corpus::{Names, Texts, Writing, learn_tokenizer};
use self::generation::Trained;
use super::{Entry, FitContext, FitReport, Generator, Recipe, settings};
use crate::check::within;
use crate::data::{Dataset, ServiceStatistics};
use crate::device::DeviceChoice;
use crate::error::UserError;
use crate::graph::CallGraph;
use crate::model::{
    self, Document, Footprint, ModelConfig, Precision, TrainConfig, Training, Weights,
};
use crate::random;
use crate::text::{FieldOrder, Format, Tokenizer};
use crate::version::Version;

/// Settings of the generator; every one has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Model size: `xs`, `s`, `m`, `l`, `xl` or `xxl`.
    pub size: String,
    /// Longest text, tokens; longer ones are left out of training.
    pub context: usize,
    /// Training tokens, at most.
    pub tokens: u64,
    /// Passes over the training texts, at most; absent for as many as the tokens make.
    pub epochs: Option<f64>,
    /// Share of the training graphs that is used, drawn at random.
    pub share: f64,
    /// Whether answers to instructions work out numbers in notes (`recursive-instruction-llm` only).
    #[serde(rename = "intermediate_instructions")]
    pub notes: bool,
    /// Whether every line says what is left to write (`recursive-compact` only).
    pub remaining_counts: bool,
    /// Tokens of a batch.
    pub batch_tokens: usize,
    /// Tokens in work at once, about: a batch of more is gone through in several forward and backward
    /// passes, whose gradients are summed. Absent for as many as suit the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch_tokens: Option<usize>,
    /// Whether activations are computed again in the backward pass: less memory, more time.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub checkpoint_activations: bool,
    /// `f32`, or `bf16` for products of numbers rounded to bf16, which are faster.
    #[serde(skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
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
    /// Order of the fields of edges and of the attributes of sub-conditions in answers: `shuffled`, as in the
    /// paper, or `fixed`. The compact text has one order of its own.
    #[serde(skip_serializing_if = "FieldOrder::is_shuffled")]
    pub field_order: FieldOrder,
    /// Counts up to this number are one token with the words before them; 0 writes them digit by
    /// digit.
    pub count_tokens: u32,
    /// How much more often texts with rare conditions are drawn: a text's weight is (largest number
    /// of texts with equal counts / number of texts with its own)^rare_conditions; 0 draws all
    /// alike. Counts are num_edges and the remaining depth of a step, or the depth of a graph.
    pub rare_conditions: f64,
    /// Limit on that weight.
    pub rare_conditions_limit: f64,
    /// Whether all structures (graphs that agree in all but times) are drawn alike, however many
    /// training graphs have them.
    pub distinct_structures: bool,
    /// Weight in the loss of the tokens that decide how large a graph becomes: what follows an edge
    /// (the next one or the end) and the counts of conditions. Other tokens weigh 1. Validation
    /// losses are not weighted.
    pub deciding_weight: f64,
    /// Shares of the training after which a checkpoint is kept, ascending, below 1.
    pub checkpoints: Vec<f64>,
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
            epochs: None,
            share: 1.0,
            notes: true,
            remaining_counts: false,
            batch_tokens: 2048,
            micro_batch_tokens: None,
            checkpoint_activations: false,
            precision: Precision::F32,
            learning_rate: 2e-3,
            min_learning_rate: 0.0,
            warmup_steps: 100,
            weight_decay: 0.01,
            clip: 1.0,
            learn_prompts: false,
            spell_services: 0.05,
            field_order: FieldOrder::Shuffled,
            count_tokens: 40,
            rare_conditions: 0.0,
            rare_conditions_limit: 60.0,
            distinct_structures: false,
            deciding_weight: 1.0,
            checkpoints: Vec::new(),
            evaluate_every: 100,
            checkpoint_every: 200,
        }
    }
}

/// Training graphs held out for validation: a share of them, within these numbers.
const VALIDATION: (f64, usize, usize) = (0.03, 100, 300);
/// At most this share of a small training set is held out.
const VALIDATION_LIMIT: f64 = 0.1;

/// Settings of the golden files.
macro_rules! tiny {
    ($more:literal) => {
        concat!(
            "size = \"xs\"\ntokens = 6000\nbatch_tokens = 512\nlearning_rate = 5e-3\n",
            "warmup_steps = 5\nevaluate_every = 50\nepochs = 2\n",
            $more
        )
    };
}

/// What the registry says of it.
pub const RECURSIVE: Entry = Entry {
    id: "recursive-llm",
    about: "a transformer that writes a graph layer by layer (the paper's recursive generator)",
    training: Version::new("train/recursive-llm", 2),
    answers: Version::new("answer/recursive-llm", 2),
    constrained: true,
    likelihood: true,
    tiny: Some(tiny!("")),
    build: recursive,
};

/// Builds the recipe of `recursive-llm` from a baseline's settings.
fn recursive(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    recipe("recursive-llm", |_| Writing::Layers(Format::Recursive), table)
}

/// What the registry says of it.
pub const INSTRUCTION: Entry = Entry {
    id: "recursive-instruction-llm",
    about: "the recursive generator tuned on instructions, with a scratchpad in its answers",
    training: Version::new("train/recursive-instruction-llm", 2),
    answers: Version::new("answer/recursive-instruction-llm", 2),
    constrained: true,
    likelihood: true,
    tiny: Some(tiny!("")),
    build: instruction,
};

/// Builds the recipe of `recursive-instruction-llm` from a baseline's settings.
fn instruction(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    let writing =
        |settings: &Settings| Writing::Layers(Format::Instruction { notes: settings.notes });
    recipe("recursive-instruction-llm", writing, table)
}

/// What the registry says of it.
pub const RECURSIVE_COMPACT: Entry = Entry {
    id: "recursive-compact",
    about: "the same recursion and conditions in a text without prose",
    training: Version::new("train/recursive-compact", 2),
    answers: Version::new("answer/recursive-compact", 2),
    constrained: true,
    likelihood: true,
    tiny: Some(tiny!("remaining_counts = true\n")),
    build: recursive_compact,
};

/// Builds the recipe of `recursive-compact` from a baseline's settings.
fn recursive_compact(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    let writing = |settings: &Settings| {
        Writing::Layers(Format::Compact { remaining_counts: settings.remaining_counts })
    };
    recipe("recursive-compact", writing, table)
}

/// What the registry says of it.
pub const TABULAR: Entry = Entry {
    id: "tabular-llm",
    about: "a transformer that writes a whole graph as a table (the paper's GReaT-style baseline)",
    training: Version::new("train/tabular-llm", 2),
    answers: Version::new("answer/tabular-llm", 2),
    constrained: true,
    likelihood: true,
    tiny: Some(tiny!("")),
    build: tabular,
};

/// Builds the recipe of `tabular-llm` from a baseline's settings.
fn tabular(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    recipe("tabular-llm", |_| Writing::Graphs, table)
}

fn recipe(
    id: &str,
    writing: impl Fn(&Settings) -> Writing,
    table: &toml::Table,
) -> Result<Box<dyn Recipe>> {
    let settings: Settings = settings(id, table)?;
    let writing = writing(&settings);
    let wrong = |message: String| Err(UserError::setting(format!("{id}: {message}")).into());
    let shares = &settings.checkpoints;
    let ascending = shares.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascending || shares.iter().any(|share| !(*share > 0.0 && *share < 1.0)) {
        return wrong(format!("checkpoints {shares:?} must ascend between 0 and 1"));
    }
    if let Err(message) = settings.check_sizes() {
        return wrong(message);
    }
    if !(0.0..=1.0).contains(&settings.spell_services) {
        return wrong(format!("spell_services {} is not in 0–1", settings.spell_services));
    }
    if !(settings.share > 0.0 && settings.share <= 1.0) {
        return wrong(format!("share {} is not above 0 and at most 1", settings.share));
    }
    if settings.epochs.is_some_and(|epochs| !(epochs > 0.0 && epochs <= MAX_EPOCHS)) {
        return wrong(format!(
            "epochs must be above 0 and at most {MAX_EPOCHS}; leave it out for as many as `tokens` make"
        ));
    }
    if !matches!(writing, Writing::Layers(Format::Instruction { .. }))
        && table.contains_key("intermediate_instructions")
    {
        return wrong(
            "`intermediate_instructions` is a setting of recursive-instruction-llm only".into(),
        );
    }
    if !matches!(writing, Writing::Layers(Format::Compact { .. }))
        && table.contains_key("remaining_counts")
    {
        return wrong("`remaining_counts` is a setting of recursive-compact only".into());
    }
    let positive = |value: f64| value > 0.0 && value.is_finite();
    if !positive(settings.learning_rate) || !positive(settings.clip) {
        return wrong("learning_rate and clip must be above 0".into());
    }
    ModelConfig::preset(&settings.size, 1, settings.context)?;
    Ok(Box::new(Untrained { writing, settings }))
}

struct Untrained {
    writing: Writing,
    settings: Settings,
}

impl Recipe for Untrained {
    fn fit(&self, context: &FitContext) -> Result<FitReport> {
        let settings = &self.settings;
        let seed = context.seed;
        let (train, validation) = hold_out(context.dataset, seed);
        let (names, services) = (Names::new(&train), ServiceStatistics::new(train.iter().copied()));
        let train = subset(train, settings.share, seed);
        let tokenizer = learn_tokenizer(self.writing, &train, &services, &names, settings, seed)?;
        let texts =
            |graphs| Texts::new(self.writing, graphs, &services, &tokenizer, settings, seed);
        let (corpus, held_out) = (texts(&train), texts(&validation));
        let validation: Vec<Document> = held_out.all();
        let lengths = corpus.lengths();
        let epoch = corpus.epoch_tokens(&lengths, settings.context);
        let config = ModelConfig::preset(&settings.size, tokenizer.vocabulary(), settings.context)?;
        let initial = match context.base {
            Some(dir) => adapted(dir, &config, &tokenizer, seed)?,
            None => Weights::initial(&config, seed),
        };
        let report = model::train(&Training {
            model: &config,
            config: &settings.train_config(seed, epoch),
            initial: &initial,
            corpus: &corpus,
            validation: &validation,
            out: context.out,
            scratch: context.scratch,
            device: context.device,
            progress: context.progress,
        })?;
        tokenizer.save(context.out)?;
        let microservices = names.microservices.into_iter().collect();
        let meta = Meta { tokens: report.tokens, microservices };
        std::fs::write(context.out.join(META), serde_json::to_string_pretty(&meta)? + "\n")?;
        Ok(FitReport {
            parameters: report.parameters,
            tokens: report.tokens,
            checkpoints: report.snapshots,
            notes: notes(&config, settings, &lengths, corpus.calls, report.validation_perplexity),
        })
    }

    fn validation<'a>(&self, dataset: &'a Dataset, seed: u64) -> Vec<&'a CallGraph> {
        hold_out(dataset, seed).1
    }

    fn load(
        &self,
        dir: &Path,
        checkpoint: Option<u64>,
        device: DeviceChoice,
    ) -> Result<Box<dyn Generator>> {
        let path = dir.join(META);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| UserError::io(&path, "cannot be read", error))?;
        let meta: Meta = serde_json::from_str(&text)?;
        // The last checkpoint is the final model itself.
        let checkpoint = checkpoint.filter(|tokens| *tokens != meta.tokens);
        let model = model::load(dir, checkpoint, device)?;
        Ok(Box::new(Trained::new(
            self.writing,
            self.settings.field_order,
            Tokenizer::load(dir)?,
            model,
            meta.microservices,
        )))
    }
}

/// What tables say of a training.
fn notes(
    config: &ModelConfig,
    settings: &Settings,
    lengths: &[usize],
    calls: u64,
    perplexity: f64,
) -> Vec<(String, String)> {
    let left_out = lengths.iter().filter(|length| **length > settings.context).count();
    let per_call = lengths.iter().sum::<usize>() as f64 / calls.max(1) as f64;
    let note = |name: &str, value: String| (name.to_owned(), value);
    vec![
        note("vocabulary", config.vocabulary.to_string()),
        note("tokens per call", format!("{per_call:.1}")),
        note("texts over the context, left out", left_out.to_string()),
        note("validation perplexity", format!("{perplexity:.3}")),
    ]
}

/// What [`Recipe::load`] needs to know of the training.
#[derive(Serialize, Deserialize)]
struct Meta {
    /// Training tokens of the final model.
    tokens: u64,
    /// Names of the microservices of the training graphs, as texts write them.
    microservices: Vec<String>,
}

const META: &str = "language-model.json";
/// Most training tokens: of any model there is, so far.
const MAX_TOKENS: u64 = 1_000_000_000_000_000;
/// Most tokens of a batch.
const MAX_BATCH: usize = 1 << 30;
const MAX_CONTEXT: usize = 1 << 20;
const MAX_EPOCHS: f64 = 1e6;
/// Highest count that is one token: the vocabulary has ten tokens or so for each.
const MAX_COUNT_TOKENS: u32 = 1_000;

impl Settings {
    /// # Errors
    /// A number that nothing can be trained with, by its key.
    fn check_sizes(&self) -> Result<(), String> {
        within("context", self.context, 64..=MAX_CONTEXT)?;
        within("tokens", self.tokens, 0..=MAX_TOKENS)?;
        within("batch_tokens", self.batch_tokens, 1..=MAX_BATCH)?;
        if let Some(tokens) = self.micro_batch_tokens {
            within("micro_batch_tokens", tokens, 1..=MAX_BATCH)?;
        }
        within("count_tokens", self.count_tokens, 0..=MAX_COUNT_TOKENS)?;
        within("rare_conditions", self.rare_conditions, 0.0..=1.0)?;
        within("rare_conditions_limit", self.rare_conditions_limit, 1.0..=1e6)?;
        within("deciding_weight", self.deciding_weight, 0.01..=1e3)?;
        within("min_learning_rate", self.min_learning_rate, 0.0..=1.0)?;
        within("weight_decay", self.weight_decay, 0.0..=100.0)
    }

    /// `epoch`: tokens of an epoch.
    fn train_config(&self, seed: u64, epoch: usize) -> TrainConfig {
        let tokens = match self.epochs {
            Some(epochs) => self.tokens.min((epochs * epoch as f64) as u64),
            None => self.tokens,
        };
        TrainConfig {
            tokens,
            batch_tokens: self.batch_tokens,
            footprint: Footprint {
                micro_batch_tokens: self.micro_batch_tokens,
                checkpoint_activations: self.checkpoint_activations,
                precision: self.precision,
            },
            learning_rate: self.learning_rate,
            min_learning_rate: self.min_learning_rate,
            warmup_steps: self.warmup_steps,
            weight_decay: self.weight_decay,
            clip: self.clip,
            evaluate_every: self.evaluate_every,
            checkpoint_every: self.checkpoint_every,
            snapshots: self.checkpoints.iter().map(|s| (s * tokens as f64) as u64).collect(),
            seed,
        }
    }
}

/// The training graphs without and with those that are held out for validation, both in random
/// order: (to train on, held out).
fn hold_out(dataset: &Dataset, seed: u64) -> (Vec<&CallGraph>, Vec<&CallGraph>) {
    let mut graphs = dataset.train();
    graphs.shuffle(&mut random::stream(seed, "validation graphs", &[]));
    let total = graphs.len() as f64;
    let (share, least, most) = VALIDATION;
    let count = ((total * share).ceil() as usize).clamp(least, most);
    let count = count.min((total * VALIDATION_LIMIT).ceil() as usize);
    let train = graphs.split_off(count.min(graphs.len().saturating_sub(1)));
    (train, graphs)
}

/// A random share of the graphs, one at least.
fn subset(mut graphs: Vec<&CallGraph>, share: f64, seed: u64) -> Vec<&CallGraph> {
    if share < 1.0 {
        graphs.shuffle(&mut random::stream(seed, "share of the graphs", &[]));
        graphs.truncate(((graphs.len() as f64 * share).round() as usize).max(1));
    }
    graphs
}

/// The weights of the model in `dir` for `config`, a model of the same shape whose tokens are those
/// of `tokenizer`.
///
/// The embedding of a token that the base has too is kept. Any other one starts as that of a token
/// that only the base has, drawn at random: a microservice that the base has never met begins as one
/// that it knows, and not as noise.
///
/// # Errors
/// A base of another shape, with the setting to change; files that cannot be read.
fn adapted(dir: &Path, config: &ModelConfig, tokenizer: &Tokenizer, seed: u64) -> Result<Weights> {
    let base = ModelConfig::load(dir)?;
    let same = ModelConfig { vocabulary: base.vocabulary, context: base.context, ..config.clone() };
    if base != same {
        let message = format!(
            "the model to start from has d_model {}, {} layers and {} heads, this one {}, {} and {}: give both the same `size`",
            base.d_model, base.layers, base.heads, config.d_model, config.layers, config.heads
        );
        return Err(UserError::setting(message).into());
    }
    let known = Tokenizer::load(dir)?;
    let weights = Weights::load(dir, None, &base)?;
    let embedding = weights.get(EMBEDDING)?;
    let width = base.d_model;
    let row = |token: usize| &embedding[token * width..(token + 1) * width];
    let fresh = Weights::initial(config, seed);
    let mut rows = fresh.get(EMBEDDING)?.to_vec();
    let (sources, spare) = matched(&known, tokenizer);
    for (token, (to, source)) in rows.chunks_exact_mut(width).zip(sources).enumerate() {
        let mut rng = random::stream(seed, "embedding of a new token", &[token as u64]);
        if let Some(source) = source.or_else(|| spare.choose(&mut rng).copied()) {
            to.copy_from_slice(row(source));
        }
    }
    Ok(weights.with(EMBEDDING, rows))
}

const EMBEDDING: &str = "token_embedding";

/// For each token of `ours` the same token of `base`; and the tokens that only `base` has.
fn matched(base: &Tokenizer, ours: &Tokenizer) -> (Vec<Option<usize>>, Vec<usize>) {
    let place: HashMap<&[u8], usize> =
        base.token_bytes().iter().enumerate().map(|(token, bytes)| (&bytes[..], token)).collect();
    let sources: Vec<Option<usize>> = ours
        .token_bytes()
        .iter()
        .enumerate()
        // Special tokens have no bytes and the same ids everywhere.
        .map(
            |(token, bytes)| {
                if bytes.is_empty() { Some(token) } else { place.get(&bytes[..]).copied() }
            },
        )
        .collect();
    let used: HashSet<usize> = sources.iter().flatten().copied().collect();
    let spare = (0..base.vocabulary()).filter(|token| !used.contains(token)).collect();
    (sources, spare)
}

#[cfg(test)]
mod tests;
