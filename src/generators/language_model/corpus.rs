//! Training texts: what one text holds, and how the texts become tokens.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result};
use rand::{Rng, RngExt};
use rayon::prelude::*;

use super::Settings;
use crate::data::ServiceStatistics;
use crate::graph::{
    CallGraph, CallRow, CallType, CanonicalHash, Communication, EdgeId, Level, MAX_LAYER_EDGES,
    Name, Request, Step, StepBody, USER, steps,
};
use crate::model::{Corpus, Document};
use crate::random;
use crate::text::{Counts, FieldOrder, Format, Tokenizer, name, tabular};

/// Texts that the tokenizer learns its phrases from, at most.
const PHRASE_SAMPLE: usize = 20_000;

/// Writings of the made-up graph from which the tokenizer takes the phrases that are always tokens.
const MADE_UP_WRITINGS: u64 = 120;

/// What one text of the model holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// A layer of a graph, in one of the recursive formats.
    Layers(Format),
    /// A whole graph.
    Graphs,
}

/// One training text before it is written.
pub enum Item<'a> {
    Step {
        step: Step,
        /// Requests that the step fulfils. The prompt makes one of them, so that their combination
        /// stays unseen (paper, section 3).
        offers: Vec<Request>,
    },
    Graph(&'a CallGraph),
}

impl Item<'_> {
    fn service(&self) -> Option<&Name> {
        match self {
            Self::Step { step, .. } => step.condition.service.as_ref(),
            Self::Graph(graph) => Some(graph.service()),
        }
    }

    /// What an answer must count: `num_edges` and the remaining depth of a step, or `num_edges` and
    /// the depth of a graph.
    fn counts(&self) -> (Option<u32>, Option<u32>) {
        match self {
            Self::Step { step, .. } => (step.condition.num_edges, step.condition.remaining_depth),
            Self::Graph(graph) => (Some(graph.num_edges()), Some(graph.depth())),
        }
    }
}

impl Writing {
    #[cfg(test)]
    pub const ALL: [Self; 6] = [
        Self::Layers(Format::Recursive),
        Self::Layers(Format::Instruction { notes: true }),
        Self::Layers(Format::Instruction { notes: false }),
        Self::Layers(Format::Compact { remaining_counts: false }),
        Self::Layers(Format::Compact { remaining_counts: true }),
        Self::Graphs,
    ];

    pub fn items<'a>(self, graph: &'a CallGraph, services: &ServiceStatistics) -> Vec<Item<'a>> {
        match self {
            Self::Layers(format) => {
                let steps = steps(graph);
                let mut offers = vec![Vec::new(); steps.len()];
                if format.takes_requests() {
                    offer(graph, &steps, services, &mut offers);
                }
                let items = steps.into_iter().zip(offers);
                items.map(|(step, offers)| Item::Step { step, offers }).collect()
            }
            Self::Graphs => vec![Item::Graph(graph)],
        }
    }

    /// The vocabulary for texts of this kind; see [`Format::tokenizer`].
    fn tokenizer<'a>(
        self,
        always: impl IntoIterator<Item = &'a str>,
        texts: impl IntoIterator<Item = &'a str>,
        names: &BTreeSet<String>,
        most: u32,
    ) -> Result<Tokenizer> {
        match self {
            Self::Layers(format) => format.tokenizer(always, texts, names, most),
            Self::Graphs => {
                let counts = Counts { words: &tabular::COUNTED, most };
                Tokenizer::learn(always, texts, names, counts)
            }
        }
    }

    /// Whether a token decides how large a graph becomes; see [`Format::decides`].
    fn decides(self, token: &[u8]) -> bool {
        match self {
            Self::Layers(format) => format.decides(token),
            Self::Graphs => Format::Recursive.decides(token),
        }
    }

    /// Prompt and answer, with the format's random choices.
    fn text(self, item: &Item<'_>, order: FieldOrder, rng: &mut impl Rng) -> (String, String) {
        match (self, item) {
            (Self::Layers(format), Item::Step { step, offers }) => {
                let asked = (!offers.is_empty()).then(|| rng.random_range(0..offers.len()));
                let requests = asked.map_or(&[][..], |index| &offers[index..=index]);
                format.training_text(step, requests, order, rng)
            }
            (_, Item::Graph(graph)) => tabular::training_text(graph, order, rng),
            // Whole graphs are not cut into steps.
            (Self::Graphs, Item::Step { .. }) => (String::new(), String::new()),
        }
    }
}

/// The requests that each step of a graph fulfils: high latency at the root, an uncommon
/// communication where it is.
fn offer(
    graph: &CallGraph,
    steps: &[Step],
    services: &ServiceStatistics,
    offers: &mut [Vec<Request>],
) {
    let Some(service) = services.get(graph.service()) else { return };
    if service.high_latency().is_some_and(|latency| graph.latency() >= latency) {
        offers[0].push(Request::HighLatency);
    }
    let communications: BTreeSet<Communication> = graph.communications().collect();
    for communication in communications.intersection(&service.uncommon) {
        let steps = steps.iter().zip(offers.iter_mut());
        for (_, offers) in steps.filter(|(step, _)| holds(step, communication)) {
            offers.push(Request::Communication(communication.clone()));
        }
    }
}

fn holds(step: &Step, communication: &Communication) -> bool {
    let from = step.condition.start_node.as_ref() == Some(&communication.source);
    let StepBody::Layer { edges, .. } = &step.body else { return false };
    let Communication { destination, kind, .. } = communication;
    from && edges.iter().any(|edge| edge.destination == *destination && edge.kind == *kind)
}

/// Names that the texts of graphs hold, as they are written: the microservices, and all.
pub struct Names {
    pub microservices: BTreeSet<String>,
    all: BTreeSet<String>,
}

impl Names {
    pub fn new(graphs: &[&CallGraph]) -> Self {
        let mut microservices = BTreeSet::new();
        let mut all = BTreeSet::from([USER.to_owned()]);
        for graph in graphs {
            all.insert(name::write(graph.service()).into());
            microservices
                .extend(graph.calls().iter().map(|call| name::write(&call.destination).into()));
        }
        all.extend(microservices.iter().cloned());
        Self { microservices, all }
    }
}

/// The vocabulary of texts about `graphs`, with a token for each of `names`. What the format itself
/// writes is in tokens whether or not the graphs hold it often.
pub fn learn_tokenizer(
    writing: Writing,
    graphs: &[&CallGraph],
    services: &ServiceStatistics,
    names: &Names,
    settings: &Settings,
    seed: u64,
) -> Result<Tokenizer> {
    let always = made_up_texts(writing, settings.field_order)?;
    let mut texts = Vec::new();
    for (index, graph) in graphs.iter().enumerate() {
        if texts.len() >= PHRASE_SAMPLE {
            break;
        }
        for (number, item) in writing.items(graph, services).iter().enumerate() {
            let path = [index as u64, number as u64];
            let mut rng = random::stream(seed, "text for phrases", &path);
            let (prompt, answer) = writing.text(item, settings.field_order, &mut rng);
            texts.extend([prompt, answer]);
        }
    }
    let (always, texts) = (always.iter().map(String::as_str), texts.iter().map(String::as_str));
    writing.tokenizer(always, texts, &names.all, settings.count_tokens)
}

/// Texts of a made-up graph that has everything that a format writes: all types of calls, a layer that
/// is split, sub-conditions, numbers with gaps, requests of both kinds.
fn made_up_texts(writing: Writing, order: FieldOrder) -> Result<Vec<String>> {
    let row = |edge_id: EdgeId, source: &str, destination: &str, number: usize| CallRow {
        edge_id,
        source: source.into(),
        destination: destination.into(),
        kind: CallType::ALL[number % CallType::ALL.len()],
        start: 0,
        finish: 0,
    };
    let mut rows = vec![row(EdgeId::root(), USER, "M", 0)];
    for number in 1..=MAX_LAYER_EDGES + 1 {
        let child = EdgeId::root().child(number as u32);
        rows.push(row(child.clone(), "M", "M", number));
        if number <= CallType::ALL.len() {
            // Numbers 1, 2 or 1, 3.
            let gap = 2 + number as u32 % 2;
            rows.push(row(child.child(1), "M", "M", number + 1));
            rows.push(row(child.child(gap), "M", "M", number + 2));
            rows.push(row(child.child(1).child(1), "M", "M", number + 3));
        }
    }
    let graph =
        CallGraph::from_rows("S".into(), &rows).ok().context("the made-up graph is valid")?;
    let communication = |kind| Communication { source: "M".into(), destination: "M".into(), kind };
    let mut requests = vec![Request::HighLatency];
    requests.extend(CallType::ALL.map(|kind| Request::Communication(communication(kind))));
    let mut items = writing.items(&graph, &ServiceStatistics::default());
    for (number, item) in items.iter_mut().enumerate() {
        if let Item::Step { offers, .. } = item {
            offers.push(requests[number % requests.len()].clone());
        }
    }
    let mut texts = Vec::new();
    for round in 0..MADE_UP_WRITINGS {
        for (number, item) in items.iter().enumerate() {
            let mut rng = random::stream(0, "made-up text", &[round, number as u64]);
            let (prompt, answer) = writing.text(item, order, &mut rng);
            texts.extend([prompt, answer]);
        }
    }
    Ok(texts)
}

/// All texts of the training graphs, written anew in every epoch.
pub struct Texts<'a> {
    writing: Writing,
    items: Vec<Item<'a>>,
    /// Absent where an epoch holds every text once.
    draws: Option<Draws>,
    /// Calls of all graphs.
    pub calls: u64,
    tokenizer: &'a Tokenizer,
    settings: &'a Settings,
    seed: u64,
}

impl<'a> Texts<'a> {
    pub fn new(
        writing: Writing,
        graphs: &[&'a CallGraph],
        services: &ServiceStatistics,
        tokenizer: &'a Tokenizer,
        settings: &'a Settings,
        seed: u64,
    ) -> Self {
        let calls = graphs.iter().map(|graph| u64::from(graph.num_edges())).sum();
        let (mut items, mut weights) = (Vec::new(), Vec::new());
        for (graph, weight) in graphs.iter().zip(structure_weights(graphs, settings)) {
            items.extend(writing.items(graph, services));
            weights.resize(items.len(), weight);
        }
        let draws = Draws::new(&items, weights, settings);
        Self { writing, items, draws, calls, tokenizer, settings, seed }
    }

    /// Every text once, as it is written in the first epoch.
    pub fn all(&self) -> Vec<Document> {
        (0..self.items.len()).map(|index| self.written(0, index, index)).collect()
    }

    /// Tokens, prompt and answer, of every text as it is written in the first epoch.
    pub fn lengths(&self) -> Vec<usize> {
        let texts = (0..self.items.len()).into_par_iter();
        texts.map(|index| self.written(0, index, index).tokens.len()).collect()
    }

    /// Tokens of the first epoch, given those of each text; texts over `context` are left out.
    pub fn epoch_tokens(&self, lengths: &[usize], context: usize) -> usize {
        let drawn = (0..self.items.len()).map(|index| lengths[self.item(0, index)]);
        drawn.filter(|length| *length <= context).sum()
    }

    /// The item at a place of an epoch.
    fn item(&self, epoch: u64, index: usize) -> usize {
        self.draws.as_ref().map_or(index, |draws| draws.item(self.seed, epoch, index))
    }

    /// The text of an item at a place of an epoch.
    fn written(&self, epoch: u64, index: usize, item: usize) -> Document {
        let item = &self.items[item];
        let mut rng = random::stream(self.seed, "training text", &[epoch, index as u64]);
        let (prompt, answer) = self.writing.text(item, self.settings.field_order, &mut rng);
        // A text that cannot be encoded does not exist (every byte is a token); an empty document
        // would be left out of the batches.
        let spelt = item.service().filter(|_| rng.random_bool(self.settings.spell_services));
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
        Document { weights: self.weights(&tokens), tokens, loss_from }
    }
}

impl Texts<'_> {
    /// Weight of each token in the loss.
    fn weights(&self, tokens: &[u32]) -> Vec<f32> {
        let weight = self.settings.deciding_weight as f32;
        if weight == 1.0 {
            return Vec::new();
        }
        let bytes = self.tokenizer.token_bytes();
        let decides =
            |token: &u32| *token == Tokenizer::END || self.writing.decides(&bytes[*token as usize]);
        tokens.iter().map(|token| if decides(token) { weight } else { 1.0 }).collect()
    }
}

impl Corpus for Texts<'_> {
    fn len(&self) -> usize {
        self.items.len()
    }

    fn document(&self, epoch: u64, index: usize) -> Document {
        self.written(epoch, index, self.item(epoch, index))
    }
}

/// How often the texts of each graph are drawn: all alike, or all structures alike.
fn structure_weights(graphs: &[&CallGraph], settings: &Settings) -> Vec<f64> {
    if !settings.distinct_structures {
        return vec![1.0; graphs.len()];
    }
    let hashes: Vec<CanonicalHash> =
        graphs.par_iter().map(|graph| graph.canonical_hash(Level::Names)).collect();
    let mut counts: HashMap<CanonicalHash, f64> = HashMap::new();
    hashes.iter().for_each(|hash| *counts.entry(*hash).or_default() += 1.0);
    hashes.iter().map(|hash| 1.0 / counts[hash]).collect()
}

/// Texts drawn with weights: an epoch has as many draws as there are texts.
struct Draws {
    /// Sum of the weights up to each item.
    ends: Vec<f64>,
}

impl Draws {
    /// `weights`: of each item, by its structure. Where conditions are practised that are rare
    /// (`rare_conditions`), an item's weight grows with the rarity of what its condition asks to count:
    /// what is drawn more often are conditions, so p(answer | condition) stays as it is.
    ///
    /// `None` if all weights are equal.
    fn new(items: &[Item<'_>], mut weights: Vec<f64>, settings: &Settings) -> Option<Self> {
        if settings.rare_conditions > 0.0 {
            let mut totals: HashMap<(Option<u32>, Option<u32>), f64> = HashMap::new();
            for (item, weight) in items.iter().zip(&weights) {
                *totals.entry(item.counts()).or_default() += weight;
            }
            let largest = totals.values().copied().fold(0.0, f64::max);
            for (item, weight) in items.iter().zip(&mut weights) {
                let rarity = largest / totals[&item.counts()];
                *weight *=
                    rarity.powf(settings.rare_conditions).min(settings.rare_conditions_limit);
            }
        }
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return None;
        }
        let mut sum = 0.0;
        let ends = weights.iter().map(|weight| {
            sum += weight;
            sum
        });
        Some(Self { ends: ends.collect() })
    }

    /// Systematic sampling: places lie evenly on the sum of the weights, from an offset that is the
    /// epoch's. So an item comes as often as its weight says, up to one time.
    fn item(&self, seed: u64, epoch: u64, index: usize) -> usize {
        let offset: f64 = random::stream(seed, "offset of the draws", &[epoch]).random();
        let total = self.ends.last().copied().unwrap_or(0.0);
        let place = (index as f64 + offset) / self.ends.len() as f64 * total;
        self.ends.partition_point(|end| *end <= place).min(self.ends.len() - 1)
    }
}
