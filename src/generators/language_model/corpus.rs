//! Training texts: what one text of each arm holds, and how the texts become tokens.

use std::collections::BTreeSet;

use anyhow::Result;
use rand::{Rng, RngExt};
use rayon::prelude::*;

use super::Settings;
use crate::graph::{CallGraph, Name, Step, USER, steps};
use crate::model::{Corpus, Document};
use crate::random;
use crate::text::{Format, Tokenizer, name, tabular};

/// Texts that the tokenizer learns its phrases from, at most.
const PHRASE_SAMPLE: usize = 20_000;

/// What one text of the model holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// A layer of a graph, in one of the recursive formats.
    Layers(Format),
    /// A whole graph.
    Graphs,
}

/// One training text before it is written.
enum Item<'a> {
    Step(Step),
    Graph(&'a CallGraph),
}

impl Item<'_> {
    fn service(&self) -> Option<&Name> {
        match self {
            Self::Step(step) => step.condition.service.as_ref(),
            Self::Graph(graph) => Some(graph.service()),
        }
    }
}

impl Arm {
    fn items(self, graph: &CallGraph) -> Vec<Item<'_>> {
        match self {
            Self::Layers(_) => steps(graph).into_iter().map(Item::Step).collect(),
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
            Item::Step(step) => self.format().training_text(step, rng),
            Item::Graph(graph) => {
                (tabular::training_prompt(graph, rng), tabular::answer(graph, rng))
            }
        }
    }
}

/// The vocabulary of the training graphs' texts.
pub fn learn_tokenizer(arm: Arm, graphs: &[&CallGraph], seed: u64) -> Result<Tokenizer> {
    let mut names = BTreeSet::from([USER.to_owned()]);
    let mut texts = Vec::new();
    for (index, graph) in graphs.iter().enumerate() {
        names.insert(name::write(graph.service()).into());
        names.extend(graph.calls().iter().map(|call| name::write(&call.destination).into()));
        if texts.len() < PHRASE_SAMPLE {
            for (number, item) in arm.items(graph).iter().enumerate() {
                let path = [index as u64, number as u64];
                let mut rng = random::stream(seed, "text for phrases", &path);
                let (prompt, answer) = arm.text(item, &mut rng);
                texts.extend([prompt, answer]);
            }
        }
    }
    arm.format().tokenizer(texts.iter().map(String::as_str), &names)
}

/// All texts of the training graphs, written anew in every epoch.
pub struct Texts<'a> {
    arm: Arm,
    items: Vec<Item<'a>>,
    /// Calls of all graphs.
    pub calls: u64,
    tokenizer: &'a Tokenizer,
    settings: &'a Settings,
    seed: u64,
}

impl<'a> Texts<'a> {
    pub fn new(
        arm: Arm,
        graphs: &[&'a CallGraph],
        tokenizer: &'a Tokenizer,
        settings: &'a Settings,
        seed: u64,
    ) -> Self {
        let calls = graphs.iter().map(|graph| u64::from(graph.num_edges())).sum();
        let items = graphs.iter().flat_map(|graph| arm.items(graph)).collect();
        Self { arm, items, calls, tokenizer, settings, seed }
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
        let (prompt, answer) = self.arm.text(item, &mut rng);
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
