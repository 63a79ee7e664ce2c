//! Training texts: what one text holds, and how the texts become tokens.

use std::collections::BTreeSet;

use anyhow::Result;
use rand::{Rng, RngExt};
use rayon::prelude::*;

use super::Settings;
use crate::data::ServiceStatistics;
use crate::graph::{CallGraph, Communication, Name, Request, Step, StepBody, USER, steps};
use crate::model::{Corpus, Document};
use crate::random;
use crate::text::{Format, Tokenizer, name, tabular};

/// Texts that the tokenizer learns its phrases from, at most.
const PHRASE_SAMPLE: usize = 20_000;

/// Probability with which a training prompt makes a request that its graph fulfils.
const ASK: f64 = 0.5;

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
        /// Requests that the prompt may make; it makes one of them at most, so that their
        /// combination stays unseen (paper, section 3).
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
}

impl Writing {
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

    /// How the step of an item is written.
    fn format(self) -> Format {
        match self {
            Self::Layers(format) => format,
            Self::Graphs => Format::Recursive,
        }
    }

    /// Prompt and answer, with the format's random choices.
    fn text(self, item: &Item<'_>, rng: &mut impl Rng) -> (String, String) {
        match item {
            Item::Step { step, offers } => {
                let asked = !offers.is_empty() && rng.random_bool(ASK);
                let asked = asked.then(|| rng.random_range(0..offers.len()));
                let requests = asked.map_or(&[][..], |index| &offers[index..=index]);
                self.format().training_text(step, requests, rng)
            }
            Item::Graph(graph) => {
                (tabular::training_prompt(graph, rng), tabular::answer(graph, rng))
            }
        }
    }
}

/// The requests that each step of a graph may be asked for: high latency in the root's prompt; an
/// uncommon communication in every prompt up to the step that holds it, which is how generation
/// passes it down.
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
        let Some(holder) = steps.iter().position(|step| holds(step, communication)) else {
            continue;
        };
        for offers in &mut offers[..=holder] {
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

/// The vocabulary of texts about `graphs`, with a token for each of `names`.
pub fn learn_tokenizer(
    writing: Writing,
    graphs: &[&CallGraph],
    services: &ServiceStatistics,
    names: &Names,
    seed: u64,
) -> Result<Tokenizer> {
    let mut texts = Vec::new();
    for (index, graph) in graphs.iter().enumerate() {
        if texts.len() >= PHRASE_SAMPLE {
            break;
        }
        for (number, item) in writing.items(graph, services).iter().enumerate() {
            let path = [index as u64, number as u64];
            let mut rng = random::stream(seed, "text for phrases", &path);
            let (prompt, answer) = writing.text(item, &mut rng);
            texts.extend([prompt, answer]);
        }
    }
    writing.format().tokenizer(texts.iter().map(String::as_str), &names.all)
}

/// All texts of the training graphs, written anew in every epoch.
pub struct Texts<'a> {
    writing: Writing,
    items: Vec<Item<'a>>,
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
        let items = graphs.iter().flat_map(|graph| writing.items(graph, services)).collect();
        Self { writing, items, calls, tokenizer, settings, seed }
    }

    /// Every text as it is written in the first epoch.
    pub fn first_epoch(&self) -> Vec<Document> {
        (0..self.len()).map(|index| self.document(0, index)).collect()
    }

    /// Tokens, prompt and answer, of every text as it is written in the first epoch.
    pub fn lengths(&self) -> Vec<usize> {
        let texts = (0..self.items.len()).into_par_iter();
        texts.map(|index| self.document(0, index).tokens.len()).collect()
    }
}

impl Corpus for Texts<'_> {
    fn len(&self) -> usize {
        self.items.len()
    }

    fn document(&self, epoch: u64, index: usize) -> Document {
        let item = &self.items[index];
        let mut rng = random::stream(self.seed, "training text", &[epoch, index as u64]);
        let (prompt, answer) = self.writing.text(item, &mut rng);
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
        Document { tokens, loss_from }
    }
}
