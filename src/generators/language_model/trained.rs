//! Generating with a trained language model.

use std::rc::Rc;
use std::sync::Mutex;

use anyhow::Result;
use rand_chacha::ChaCha8Rng;

use super::corpus::Arm;
use super::recursion::Recursion;
use super::whole::WholeGraphs;
use crate::generators::{Condition, Decoding, GenerateOptions, Generated, Generator};
use crate::graph::{Violation, ViolationCode};
use crate::model::decode::{CachedModel, Completion, Constraint, PromptSource, decode};
use crate::progress::StepProgress;
use crate::random;
use crate::text::Tokenizer;
use crate::text::constrained::{self, Automaton, Grammar, Vocabulary};

/// Longest text under constraints, tokens: room for the largest graphs even if every token is a byte.
const LONGEST: usize = 1 << 17;

/// A trained language model.
pub struct Trained {
    arm: Arm,
    tokenizer: Tokenizer,
    model: Mutex<Box<dyn CachedModel>>,
    /// Names that a destination may have, as texts write them.
    microservices: Vec<String>,
}

impl Trained {
    pub fn new(
        arm: Arm,
        tokenizer: Tokenizer,
        model: Box<dyn CachedModel>,
        microservices: Vec<String>,
    ) -> Self {
        Self { arm, tokenizer, model: Mutex::new(model), microservices }
    }
}

impl Generator for Trained {
    fn generate(
        &self,
        conditions: &[Condition],
        options: &GenerateOptions,
    ) -> Result<Vec<Generated>> {
        let bar = options.progress.step("generating", "graphs", conditions.len() as u64);
        let constrained = options.decoding == Decoding::Constrained;
        let request = Requests {
            tokenizer: &self.tokenizer,
            conditions,
            seed: options.seed,
            vocabulary: constrained
                .then(|| Rc::new(Vocabulary::new(&self.tokenizer, &self.microservices))),
            bar: &bar,
        };
        let graphs = match self.arm {
            Arm::Layers(format) => self.answers(Recursion::new(format, request), options),
            Arm::Graphs => self.answers(WholeGraphs::new(request), options),
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
    pub vocabulary: Option<Rc<Vocabulary>>,
    pub bar: &'a StepProgress,
}

impl Requests<'_> {
    /// The random stream of one text: its address is the condition and a path inside the graph.
    pub fn stream(&self, path: &[u64]) -> ChaCha8Rng {
        random::stream(self.seed, "generation", path)
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
pub fn longest_first(conditions: &[Condition]) -> Order {
    let mut order: Vec<usize> = (0..conditions.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(conditions[*index].num_edges));
    order.into_iter()
}

/// Tokens of a prompt.
pub fn prompt(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let mut tokens = vec![Tokenizer::BEGIN];
    tokens.extend(tokenizer.encode(text)?);
    Ok(tokens)
}

/// The text of a completion, if it came to its end.
pub fn answer(tokenizer: &Tokenizer, completion: &Completion) -> Result<String, Violation> {
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
#[path = "constrained_tests.rs"]
mod constrained_tests;
