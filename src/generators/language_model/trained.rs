//! Generating with a trained language model.

use std::sync::Mutex;

use anyhow::Result;

use super::corpus::Arm;
use super::recursion::Recursion;
use super::whole::WholeGraphs;
use crate::generators::{Condition, GenerateOptions, Generated, Generator};
use crate::graph::{Violation, ViolationCode};
use crate::model::decode::{CachedModel, Completion, PromptSource, decode};
use crate::text::Tokenizer;

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
