//! Generating with a trained language model: layer by layer, the recursion of the paper (section 3), or
//! whole graphs, one text each.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard};

use anyhow::Result;
use rand_chacha::ChaCha8Rng;

use super::corpus::Writing;
use super::likelihood;
use crate::generators::{Decoding, GenerateOptions, Generator};
use crate::graph::{
    CallGraph, CallRow, Condition, EdgeId, Generated, LayerCondition, LayerEdge, Name, Request,
    StepBody, USER, Violation, ViolationCode,
};
use crate::model::decode::{CachedModel, Completion, Constraint, Prompt, PromptSource, decode};
use crate::progress::StepProgress;
use crate::random;
use crate::text::constrained::{
    self, Automaton, Bounds, Compact, Grammar, Prose, Table, TokenTrie,
};
use crate::text::{FieldOrder, Format, Tokenizer, tabular};

/// Longest text under constraints, tokens: room for the largest graphs even if every token is a byte.
const LONGEST: usize = 1 << 17;

/// A trained language model.
pub struct Trained {
    writing: Writing,
    /// The order of training's texts, of whose likelihood it can be asked.
    order: FieldOrder,
    tokenizer: Tokenizer,
    model: Mutex<Box<dyn CachedModel>>,
    /// Longest text that training has shown, tokens.
    context: usize,
    /// Names that a destination may have, as texts write them.
    microservices: Vec<String>,
}

impl Trained {
    pub fn new(
        writing: Writing,
        order: FieldOrder,
        tokenizer: Tokenizer,
        model: Box<dyn CachedModel>,
        microservices: Vec<String>,
    ) -> Self {
        let context = model.context();
        Self { writing, order, tokenizer, model: Mutex::new(model), context, microservices }
    }
}

impl Generator for Trained {
    fn generate(
        &self,
        conditions: &[Condition],
        options: &GenerateOptions,
    ) -> Result<Vec<Generated>> {
        let constrained = options.decoding == Decoding::Constrained;
        options.with_progress(conditions.len(), |bar| {
            let request = Requests {
                tokenizer: &self.tokenizer,
                conditions,
                seed: options.seed,
                vocabulary: constrained
                    .then(|| Rc::new(TokenTrie::new(&self.tokenizer, &self.microservices))),
                bar,
            };
            match self.writing {
                Writing::Layers(format) => self.answers(Recursion::new(format, request), options),
                Writing::Graphs => self.answers(WholeGraphs::new(request), options),
            }
        })
    }

    fn log_likelihoods(&self, graphs: &[&CallGraph], batch: usize) -> Result<Option<Vec<f64>>> {
        let texts = likelihood::texts(self.writing, self.order, graphs, &self.tokenizer)?;
        let mut model = self.model()?;
        likelihood::of_graphs(model.as_mut(), &texts, self.context, batch).map(Some)
    }
}

impl Trained {
    fn model(&self) -> Result<MutexGuard<'_, Box<dyn CachedModel>>> {
        self.model.lock().map_err(|_| anyhow::anyhow!("the model is poisoned"))
    }

    fn answers(
        &self,
        mut source: impl Source,
        options: &GenerateOptions,
    ) -> Result<Vec<Generated>> {
        let mut model = self.model()?;
        let batch = options.batch.max(1);
        if options.decoding == Decoding::Constrained {
            model.extend(LONGEST);
        }
        decode(model.as_mut(), &mut source, &[Tokenizer::END], options.sampling, batch)?;
        source.finish()
    }
}

/// What is asked for, and what every kind of text needs to answer it.
pub struct Requests<'a> {
    pub tokenizer: &'a Tokenizer,
    pub conditions: &'a [Condition],
    pub seed: u64,
    /// For constrained decoding.
    pub vocabulary: Option<Rc<TokenTrie>>,
    pub bar: &'a StepProgress,
}

impl Requests<'_> {
    /// The random stream of one text: its address is the condition and a path inside the graph.
    pub fn stream(&self, path: &[u64]) -> ChaCha8Rng {
        random::stream(self.seed, "generation", path)
    }

    /// The random stream of the order in which that text's prompt is written.
    pub fn order(&self, path: &[u64]) -> ChaCha8Rng {
        random::stream(self.seed, "order of a prompt", path)
    }

    /// Why the condition cannot be answered under constraints.
    pub fn refusal(&self, index: usize) -> Option<Violation> {
        self.vocabulary.as_ref()?;
        constrained::check_request(&self.conditions[index]).err()
    }

    /// The constraint that a grammar makes.
    pub fn constraint<G: Grammar + 'static>(
        &self,
        grammar: impl FnOnce() -> G,
    ) -> Option<Box<dyn Constraint>> {
        let vocabulary = self.vocabulary.clone()?;
        Some(Box::new(Constrained(Automaton::new(vocabulary, grammar()))))
    }
}

struct Constrained<G>(Automaton<G>);

impl<G: Grammar> Constraint for Constrained<G> {
    fn permitted(&mut self, tokens: &mut Vec<u32>) {
        self.0.permitted(tokens);
    }

    fn push(&mut self, token: u32) {
        self.0.push(token);
    }
}

/// Prompts whose completions become graphs.
pub trait Source: PromptSource {
    /// One answer per condition, in order.
    fn finish(self) -> Result<Vec<Generated>>;
}

/// Indices of conditions in the order in which they begin.
pub type Order = std::vec::IntoIter<usize>;

/// The largest graphs first, so that none of them is left running alone at the end.
fn longest_first(conditions: &[Condition]) -> Order {
    let mut order: Vec<usize> = (0..conditions.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(conditions[*index].num_edges));
    order.into_iter()
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

/// Steps that one graph may take; a graph of n edges needs at most 2n.
const MAX_STEPS: usize = 2_000;
/// Levels of layers that one graph may have.
const MAX_LEVELS: usize = 100;

/// A layer (or part of a wide one) that waits for its step.
pub struct Layer {
    /// Index of the condition.
    pub graph: usize,
    /// Place of the step in the graph: the address of its randomness.
    path: Vec<u64>,
    /// The call whose children the layer holds; `None` for the root layer.
    pub parent: Option<EdgeId>,
    source: Name,
    /// For constrained decoding.
    bounds: Bounds,
    pub condition: LayerCondition,
    /// The condition as the step above wrote it, in formats that leave a choice of order.
    written: Option<String>,
}

/// One graph under way.
pub struct Growing {
    pub generated: Generated,
    /// Layers to come, breadth first.
    waiting: VecDeque<Layer>,
    /// Requests that no layer has fulfilled yet: every prompt makes them.
    requests: Vec<Request>,
    steps: usize,
}

/// The recursion as a queue of layers over many graphs: whatever graph a layer belongs to, it is
/// decoded when a slot is free. A graph has one layer under way at a time, so that what it holds
/// when a layer fails does not depend on the batch.
pub struct Recursion<'a> {
    format: Format,
    requests: Requests<'a>,
    /// By index of the condition.
    pub graphs: Vec<Growing>,
    /// Conditions that have not begun.
    order: Order,
    /// Next layers of graphs that have begun: these come first, so that few graphs are open.
    ready: VecDeque<Layer>,
    pub running: HashMap<u64, Layer>,
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

impl Growing {
    fn new(condition: &Condition) -> Self {
        Self {
            generated: Generated::default(),
            waiting: VecDeque::new(),
            requests: condition.requests.clone(),
            steps: 0,
        }
    }

    /// Requests for the prompt of a layer. Only the root's latency is the graph's.
    fn requests(&self, layer: &Layer) -> Vec<Request> {
        let asked =
            |request: &&Request| layer.parent.is_none() || **request != Request::HighLatency;
        self.requests.iter().filter(asked).cloned().collect()
    }
}

impl<'a> Recursion<'a> {
    pub fn new(format: Format, requests: Requests<'a>) -> Self {
        Self {
            format,
            graphs: requests.conditions.iter().map(Growing::new).collect(),
            order: longest_first(requests.conditions),
            requests,
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
        let graph = loop {
            let graph = self.order.next()?;
            let Some(refusal) = self.requests.refusal(graph) else { break graph };
            self.graphs[graph].generated.failure = Some(refusal);
            self.requests.bar.inc(1);
        };
        let condition = &self.requests.conditions[graph];
        Some(Layer {
            graph,
            path: Vec::new(),
            parent: None,
            source: Name::from(USER),
            bounds: Bounds::default(),
            condition: root_layer(condition),
            written: None,
        })
    }

    fn constraint(&self, layer: &Layer) -> Option<Box<dyn Constraint>> {
        let (condition, bounds) = (layer.condition.clone(), layer.bounds);
        match self.format {
            Format::Recursive => self.requests.constraint(|| Prose::new(condition, bounds, false)),
            Format::Instruction { notes } => {
                self.requests.constraint(|| Prose::new(condition, bounds, notes))
            }
            Format::Compact { remaining_counts } => {
                self.requests.constraint(|| Compact::new(condition, bounds, remaining_counts))
            }
        }
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
        let mut lines = self.format.condition_lines(text).into_iter();
        let address = |index: usize| [layer.path.as_slice(), &[index as u64]].concat();
        match body {
            StepBody::Split { parts } => {
                let firsts: Vec<Option<u32>> =
                    parts.iter().skip(1).map(|part| part.start_edge_id).collect();
                for (index, condition) in parts.into_iter().enumerate() {
                    let next = firsts.get(index).copied().flatten();
                    let numbers_below = next.unwrap_or(layer.bounds.numbers_below);
                    graph.waiting.push_back(Layer {
                        bounds: Bounds { numbers_below, ..layer.bounds },
                        graph: layer.graph,
                        path: address(index),
                        parent: layer.parent.clone(),
                        source: layer.source.clone(),
                        condition,
                        written: lines.next(),
                    });
                }
            }
            StepBody::Layer { edges, subgraphs } => {
                for edge in &edges {
                    graph.requests.retain(|request| !fulfils(&layer.source, edge, request));
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
                    let written = lines.next();
                    let edge = edges.iter().find(|edge| edge.number == subgraph.edge);
                    let Some(edge) = edge else { continue };
                    graph.waiting.push_back(Layer {
                        graph: layer.graph,
                        path: address(index),
                        parent: Some(edge_id(layer.parent.as_ref(), edge.number)),
                        source: edge.destination.clone(),
                        bounds: Bounds { earliest: edge.start, ..Bounds::default() },
                        condition: subgraph.condition,
                        written,
                    });
                }
            }
        }
        Ok(())
    }
}

fn fulfils(source: &Name, edge: &LayerEdge, request: &Request) -> bool {
    match request {
        Request::HighLatency => false,
        Request::Communication(asked) => {
            asked.source == *source
                && asked.destination == edge.destination
                && asked.kind == edge.kind
        }
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
        let requests = self.graphs[layer.graph].requests(&layer);
        let path = [&[layer.graph as u64], layer.path.as_slice()].concat();
        let mut order = self.requests.order(&path);
        let written = layer.written.as_deref();
        let text = self.format.prompt(&layer.condition, written, &requests, &mut order);
        let tokens = match prompt(self.requests.tokenizer, &text) {
            Ok(tokens) => tokens,
            Err(error) => {
                self.error = Some(error);
                return None;
            }
        };
        let rng = self.requests.stream(&path);
        let constraint = self.constraint(&layer);
        let id = self.next_id;
        self.next_id += 1;
        self.running.insert(id, layer);
        Some(Prompt { id, tokens, rng, max_new_tokens: usize::MAX, constraint })
    }

    fn complete(&mut self, completion: Completion) {
        let Some(layer) = self.running.remove(&completion.id) else { return };
        let grown =
            answer(self.requests.tokenizer, &completion).and_then(|text| self.grow(&layer, &text));
        let graph = &mut self.graphs[layer.graph];
        graph.generated.cost += completion.cost;
        if let Err(violation) = grown {
            graph.generated.failure = Some(violation);
            graph.waiting.clear();
        }
        match graph.waiting.pop_front() {
            Some(next) => self.ready.push_back(next),
            None => self.requests.bar.inc(1),
        }
    }
}

impl Source for Recursion<'_> {
    fn finish(self) -> Result<Vec<Generated>> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.graphs.into_iter().map(|graph| graph.generated).collect()),
        }
    }
}

/// A prompt for each condition, and the graphs that come back.
pub struct WholeGraphs<'a> {
    requests: Requests<'a>,
    order: Order,
    graphs: Vec<Generated>,
    error: Option<anyhow::Error>,
}

impl<'a> WholeGraphs<'a> {
    pub fn new(requests: Requests<'a>) -> Self {
        let graphs = vec![Generated::default(); requests.conditions.len()];
        Self { order: longest_first(requests.conditions), requests, graphs, error: None }
    }

    /// The next condition that can be answered.
    fn next_condition(&mut self) -> Option<usize> {
        loop {
            let index = self.order.next()?;
            let Some(refusal) = self.requests.refusal(index) else { return Some(index) };
            self.graphs[index].failure = Some(refusal);
            self.requests.bar.inc(1);
        }
    }
}

impl PromptSource for WholeGraphs<'_> {
    fn next(&mut self) -> Option<Prompt> {
        if self.error.is_some() {
            return None;
        }
        let index = self.next_condition()?;
        let condition = &self.requests.conditions[index];
        let mut order = self.requests.order(&[index as u64]);
        let text = tabular::shuffled_prompt(condition, &mut order) + tabular::OPENING;
        match prompt(self.requests.tokenizer, &text) {
            Ok(tokens) => Some(Prompt {
                id: index as u64,
                tokens,
                rng: self.requests.stream(&[index as u64]),
                max_new_tokens: usize::MAX,
                constraint: self.requests.constraint(|| Table::new(condition)),
            }),
            Err(error) => {
                self.error = Some(error);
                None
            }
        }
    }

    fn complete(&mut self, completion: Completion) {
        let rows = answer(self.requests.tokenizer, &completion)
            .map_err(|violation| (Vec::new(), violation));
        let graph = &mut self.graphs[completion.id as usize];
        match rows.and_then(|text| tabular::parse(&format!("{}{text}", tabular::OPENING))) {
            Ok(rows) => graph.rows = rows,
            Err((rows, violation)) => {
                *graph = Generated { rows, failure: Some(violation), ..Generated::default() };
            }
        }
        graph.cost = completion.cost;
        self.requests.bar.inc(1);
    }
}

impl Source for WholeGraphs<'_> {
    fn finish(self) -> Result<Vec<Generated>> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.graphs),
        }
    }
}

#[cfg(test)]
#[path = "constrained_tests.rs"]
mod constrained_tests;
