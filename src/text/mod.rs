//! Text formats of call graphs, their parsers, and the tokenizer.

pub mod compact;
pub mod constrained;
pub mod instruction;
pub mod name;
pub mod parse;
pub mod recursive;
pub mod tabular;
mod tokenizer;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use anyhow::Result;
use rand::Rng;

use crate::graph::{LayerCondition, Request, Step, StepBody, Violation};
pub use tokenizer::Tokenizer;

/// How generation steps are written: the same recursion and the same conditions either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The paper's prose.
    Recursive,
    /// Values with one sign each, with or without a countdown ([`compact`]).
    Compact { countdown: bool },
    /// The paper's prose as an instruction; with or without intermediate instructions in the answer
    /// ([`instruction`]).
    Instruction { notes: bool },
}

impl Format {
    /// Whether prompts of this format can hold requests in words.
    pub fn takes_requests(self) -> bool {
        matches!(self, Self::Instruction { .. })
    }

    /// The prompt of a step in generation. Formats without words leave the requests out.
    pub fn prompt(self, condition: &LayerCondition, requests: &[Request]) -> String {
        match self {
            Self::Recursive => recursive::prompt(condition),
            Self::Compact { .. } => compact::prompt(condition),
            Self::Instruction { .. } => instruction::prompt(condition, requests),
        }
    }

    /// Prompt and answer of a step for training, with the format's random choices.
    pub fn training_text(
        self,
        step: &Step,
        requests: &[Request],
        rng: &mut impl Rng,
    ) -> (String, String) {
        match self {
            Self::Recursive => {
                let prompt = recursive::training_prompt(&step.condition, rng);
                (prompt, recursive::answer(step, rng))
            }
            Self::Compact { countdown } => {
                (compact::training_prompt(&step.condition, rng), compact::answer(step, countdown))
            }
            Self::Instruction { notes } => instruction::training_text(step, requests, notes, rng),
        }
    }

    /// The step that an answer describes, if it is one and keeps to the condition.
    ///
    /// # Errors
    /// See [`parse::parse`].
    pub fn parse(
        self,
        condition: &LayerCondition,
        answer: &str,
    ) -> Result<StepBody, Vec<Violation>> {
        match self {
            Self::Recursive | Self::Instruction { .. } => {
                parse::parse(condition, answer, self.takes_requests())
            }
            Self::Compact { countdown } => compact::parse(condition, answer, countdown),
        }
    }

    /// A tokenizer for texts of this format; `names` as [`name::write`] writes them.
    pub fn tokenizer<'a>(
        self,
        texts: impl IntoIterator<Item = &'a str>,
        names: &BTreeSet<String>,
    ) -> Result<Tokenizer> {
        match self {
            Self::Recursive | Self::Instruction { .. } => Tokenizer::learn(texts, names),
            Self::Compact { countdown } => {
                Tokenizer::with_phrases(compact::phrases(countdown), names)
            }
        }
    }
}
