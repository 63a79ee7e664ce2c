//! `recursive-llm`: the paper's recursive generator (sections 3 and 4), a Llama-style decoder
//! trained from scratch on the recursive text of the training graphs. `recursive-compact` is the same
//! with a shorter text.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::Path;

use anyhow::Result;
use rand::{RngExt, seq::SliceRandom};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Condition, FitContext, FitReport, GenerateOptions, Generated, Generator, Recipe, settings,
};
use crate::device::DeviceChoice;
use crate::error::UserError;
use crate::graph::{
    CallGraph, CallRow, EdgeId, LayerCondition, Name, Step, StepBody, USER, Violation,
    ViolationCode, steps,
};
use crate::model::decode::{CachedModel, Completion, Prompt, PromptSource, decode};
use crate::model::{self, Corpus, Document, ModelConfig, TrainConfig};
use crate::progress::StepProgress;
use crate::random;
use crate::text::{Format, Tokenizer, name};

/// Settings of the generator; every one has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Model size: `xs`, `s`, `m` or `l`.
    pub size: String,
    /// Longest step, tokens; longer ones are left out of training.
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
/// Texts that the tokenizer learns its phrases from, at most.
const PHRASE_SAMPLE: usize = 20_000;
/// Steps that one graph may take; a graph of n edges needs at most 2n.
const MAX_STEPS: usize = 2_000;
/// Levels of layers that one graph may have.
const MAX_LEVELS: usize = 100;

/// Builds the recipe of `recursive-llm` from a baseline's settings.
pub fn build(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    recipe("recursive-llm", Format::Recursive, table)
}

/// Builds the recipe of `recursive-compact` from a baseline's settings.
pub fn build_compact(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    recipe("recursive-compact", Format::Compact, table)
}

fn recipe(id: &str, format: Format, table: &toml::Table) -> Result<Box<dyn Recipe>> {
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
    Ok(Box::new(Untrained { format, settings }))
}

struct Untrained {
    format: Format,
    settings: Settings,
}

impl Recipe for Untrained {
    fn fit(&self, context: &FitContext) -> Result<FitReport> {
        let settings = &self.settings;
        let train = context.dataset.train();
        let (train, validation) = hold_out(train, context.seed);
        let tokenizer = learn_tokenizer(self.format, &train, context.seed)?;
        let corpus = Steps::new(self.format, &train, &tokenizer, settings, context.seed);
        let held_out = Steps::new(self.format, &validation, &tokenizer, settings, context.seed);
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
                note("steps over the context, left out", left_out.to_string()),
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
            format: self.format,
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

const META: &str = "recursive-llm.json";

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

fn learn_tokenizer(format: Format, graphs: &[&CallGraph], seed: u64) -> Result<Tokenizer> {
    let mut names = BTreeSet::from([USER.to_owned()]);
    let mut texts = Vec::new();
    for (index, graph) in graphs.iter().enumerate() {
        names.insert(name::write(graph.service()).into());
        names.extend(graph.calls().iter().map(|call| name::write(&call.destination).into()));
        if texts.len() < PHRASE_SAMPLE {
            for (number, step) in steps(graph).iter().enumerate() {
                let path = [index as u64, number as u64];
                let mut rng = random::stream(seed, "text for phrases", &path);
                let (prompt, answer) = format.training_text(step, &mut rng);
                texts.extend([prompt, answer]);
            }
        }
    }
    format.tokenizer(texts.iter().map(String::as_str), &names)
}

/// All generation steps of the training graphs, written anew in every epoch.
struct Steps<'a> {
    format: Format,
    steps: Vec<Step>,
    calls: u64,
    tokenizer: &'a Tokenizer,
    settings: &'a Settings,
    seed: u64,
}

impl<'a> Steps<'a> {
    fn new(
        format: Format,
        graphs: &[&CallGraph],
        tokenizer: &'a Tokenizer,
        settings: &'a Settings,
        seed: u64,
    ) -> Self {
        let calls = graphs.iter().map(|graph| u64::from(graph.num_edges())).sum();
        let steps = graphs.iter().flat_map(|graph| steps(graph)).collect();
        Self { format, steps, calls, tokenizer, settings, seed }
    }

    /// Tokens, prompt and answer, of every step as it is written in the first epoch.
    fn lengths(&self) -> Vec<usize> {
        let steps = (0..self.steps.len()).into_par_iter();
        steps.map(|index| self.document(0, index).tokens.len()).collect()
    }
}

impl Corpus for Steps<'_> {
    fn len(&self) -> usize {
        self.steps.len()
    }

    fn document(&self, epoch: u64, index: usize) -> Document {
        let step = &self.steps[index];
        let mut rng = random::stream(self.seed, "training text", &[epoch, index as u64]);
        let (prompt, answer) = self.format.training_text(step, &mut rng);
        // A text that cannot be encoded does not exist (every byte is a token); an empty document
        // would be left out of the batches.
        let spelt = step.condition.service.as_ref();
        let spelt = spelt.filter(|_| rng.random_bool(self.settings.spell_services));
        let encode = |text: &str| {
            let tokens = self.tokenizer.encode(text).unwrap_or_default();
            match spelt {
                Some(service) => self.tokenizer.spell(&name::write(service), &tokens),
                None => tokens,
            }
        };
        let mut tokens = vec![Tokenizer::BEGIN];
        tokens.extend(encode(&prompt));
        let loss_from = if self.settings.learn_prompts { 1 } else { tokens.len() };
        tokens.extend(encode(&answer));
        tokens.push(Tokenizer::END);
        Document { tokens, loss_from }
    }
}

struct Trained {
    format: Format,
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
        let mut model = self.model.lock().map_err(|_| anyhow::anyhow!("the model is poisoned"))?;
        let mut recursion =
            Recursion::new(self.format, &self.tokenizer, conditions, options.seed, &bar);
        decode(
            model.as_mut(),
            &mut recursion,
            Tokenizer::END,
            options.sampling,
            options.batch.max(1),
        )?;
        let error = recursion.error.take();
        let graphs = recursion.graphs;
        bar.finish();
        match error {
            Some(error) => Err(error),
            None => Ok(graphs.into_iter().map(|graph| graph.generated).collect()),
        }
    }
}

/// A layer (or part of a wide one) that waits for its step.
struct Layer {
    /// Index of the condition.
    graph: usize,
    /// Place of the step in the graph: the address of its randomness.
    path: Vec<u64>,
    /// The call whose children the layer holds; `None` for the root layer.
    parent: Option<EdgeId>,
    source: Name,
    condition: LayerCondition,
}

/// One graph under way.
struct Growing {
    generated: Generated,
    /// Layers to come, breadth first.
    waiting: VecDeque<Layer>,
    steps: usize,
}

/// The recursion as a queue of layers over many graphs: whatever graph a layer belongs to, it is
/// decoded when a slot is free. A graph has one layer under way at a time, so that what it holds
/// when a layer fails does not depend on the batch.
struct Recursion<'a> {
    format: Format,
    tokenizer: &'a Tokenizer,
    conditions: &'a [Condition],
    seed: u64,
    bar: &'a StepProgress,
    graphs: Vec<Growing>,
    /// Next layers of graphs that have begun: these come first, so that few graphs are open.
    ready: VecDeque<Layer>,
    running: HashMap<u64, Layer>,
    next_id: u64,
    error: Option<anyhow::Error>,
}

/// The condition of the root layer for a user's condition.
fn root_layer(condition: &Condition) -> LayerCondition {
    LayerCondition {
        service: Some(condition.service.clone()),
        num_edges: condition.num_edges,
        start_node: Some(Name::from(USER)),
        caller: None,
        start_edge_id: Some(0),
        start_communication_at: Some(0),
        latency: condition.latency,
        num_subgraphs: condition.depth.map(|depth| u32::from(depth > 1)),
        remaining_depth: condition.depth.map(|depth| depth.saturating_sub(1)),
        num_current_edges: Some(1),
    }
}

impl<'a> Recursion<'a> {
    fn new(
        format: Format,
        tokenizer: &'a Tokenizer,
        conditions: &'a [Condition],
        seed: u64,
        bar: &'a StepProgress,
    ) -> Self {
        Self {
            format,
            tokenizer,
            conditions,
            seed,
            bar,
            graphs: Vec::with_capacity(conditions.len()),
            ready: VecDeque::new(),
            running: HashMap::new(),
            next_id: 0,
            error: None,
        }
    }

    /// The next layer of a graph that has begun, or the first of a new one.
    fn next_layer(&mut self) -> Option<Layer> {
        if let Some(layer) = self.ready.pop_front() {
            return Some(layer);
        }
        let graph = self.graphs.len();
        let condition = self.conditions.get(graph)?;
        let generated = Generated { rows: Vec::new(), failure: None };
        self.graphs.push(Growing { generated, waiting: VecDeque::new(), steps: 0 });
        Some(Layer {
            graph,
            path: Vec::new(),
            parent: None,
            source: Name::from(USER),
            condition: root_layer(condition),
        })
    }

    /// Takes an answer into its graph; its sub-conditions become waiting layers.
    fn grow(&mut self, layer: &Layer, text: &str) -> Result<(), Violation> {
        let body = self
            .format
            .parse(&layer.condition, text)
            .map_err(|mut violations| violations.swap_remove(0))?;
        let graph = &mut self.graphs[layer.graph];
        graph.steps += 1;
        if graph.steps > MAX_STEPS || layer.path.len() > MAX_LEVELS {
            let detail = format!("the graph has over {MAX_STEPS} steps or {MAX_LEVELS} levels");
            return Err(Violation::new(ViolationCode::Truncated, detail));
        }
        let mut below = Vec::new();
        let address = |index: usize| [layer.path.as_slice(), &[index as u64]].concat();
        match body {
            StepBody::Split { parts } => {
                for (index, condition) in parts.into_iter().enumerate() {
                    below.push(Layer {
                        graph: layer.graph,
                        path: address(index),
                        parent: layer.parent.clone(),
                        source: layer.source.clone(),
                        condition,
                    });
                }
            }
            StepBody::Layer { edges, subgraphs } => {
                for edge in &edges {
                    graph.generated.rows.push(CallRow {
                        edge_id: edge_id(layer.parent.as_ref(), edge.number),
                        source: layer.source.clone(),
                        destination: edge.destination.clone(),
                        kind: edge.kind,
                        start: edge.start,
                        finish: edge.finish,
                    });
                }
                for (index, subgraph) in subgraphs.into_iter().enumerate() {
                    let edge = edges.iter().find(|edge| edge.number == subgraph.edge);
                    let Some(edge) = edge else { continue };
                    below.push(Layer {
                        graph: layer.graph,
                        path: address(index),
                        parent: Some(edge_id(layer.parent.as_ref(), edge.number)),
                        source: edge.destination.clone(),
                        condition: subgraph.condition,
                    });
                }
            }
        }
        for mut layer in below {
            // The service is the request's, whatever the answer calls it.
            layer.condition.service = Some(self.conditions[layer.graph].service.clone());
            graph.waiting.push_back(layer);
        }
        Ok(())
    }
}

fn edge_id(parent: Option<&EdgeId>, number: u32) -> EdgeId {
    match parent {
        Some(parent) => parent.child(number),
        None => EdgeId::top(number),
    }
}

impl PromptSource for Recursion<'_> {
    fn next(&mut self) -> Option<Prompt> {
        if self.error.is_some() {
            return None;
        }
        let layer = self.next_layer()?;
        let mut tokens = vec![Tokenizer::BEGIN];
        match self.tokenizer.encode(&self.format.prompt(&layer.condition)) {
            Ok(prompt) => tokens.extend(prompt),
            Err(error) => {
                self.error = Some(error);
                return None;
            }
        }
        let path = [&[layer.graph as u64], layer.path.as_slice()].concat();
        let id = self.next_id;
        self.next_id += 1;
        self.running.insert(id, layer);
        let rng = random::stream(self.seed, "generation", &path);
        Some(Prompt { id, tokens, rng, max_new_tokens: usize::MAX })
    }

    fn complete(&mut self, completion: Completion) {
        let Some(layer) = self.running.remove(&completion.id) else { return };
        let grown = if !completion.stopped {
            let detail = "a layer is longer than the model's context";
            Err(Violation::new(ViolationCode::Truncated, detail))
        } else if Tokenizer::any_special(&completion.tokens) {
            let detail = "the answer holds a special token";
            Err(Violation::new(ViolationCode::Format, detail))
        } else {
            self.grow(&layer, &self.tokenizer.decode(&completion.tokens))
        };
        let graph = &mut self.graphs[layer.graph];
        if let Err(violation) = grown {
            graph.generated.failure = Some(violation);
            graph.waiting.clear();
        }
        match graph.waiting.pop_front() {
            Some(next) => self.ready.push_back(next),
            None => self.bar.inc(1),
        }
    }
}

#[cfg(test)]
mod tests;
