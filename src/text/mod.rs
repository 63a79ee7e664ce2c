//! Text formats of call graphs, their parsers, and the tokenizer.

pub mod compact;
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

use crate::graph::{LayerCondition, Step, StepBody, Violation};
pub use tokenizer::Tokenizer;

/// How generation steps are written: the same recursion and the same conditions either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The paper's prose.
    Recursive,
    /// Values with one sign each ([`compact`]).
    Compact,
}

impl Format {
    /// The prompt of a step in generation.
    pub fn prompt(self, condition: &LayerCondition) -> String {
        match self {
            Self::Recursive => recursive::prompt(condition),
            Self::Compact => compact::prompt(condition),
        }
    }

    /// Prompt and answer of a step for training, with the format's random choices.
    pub fn training_text(self, step: &Step, rng: &mut impl Rng) -> (String, String) {
        match self {
            Self::Recursive => {
                let prompt = recursive::training_prompt(&step.condition, rng);
                (prompt, recursive::answer(step, rng))
            }
            Self::Compact => {
                (compact::training_prompt(&step.condition, rng), compact::answer(step))
            }
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
            Self::Recursive => parse::parse(condition, answer),
            Self::Compact => parse::parse_compact(condition, answer),
        }
    }

    /// A tokenizer for texts of this format; `names` as [`name::write`] writes them.
    pub fn tokenizer<'a>(
        self,
        texts: impl IntoIterator<Item = &'a str>,
        names: &BTreeSet<String>,
    ) -> Result<Tokenizer> {
        match self {
            Self::Recursive => Tokenizer::learn(texts, names),
            Self::Compact => Tokenizer::with_phrases(compact::phrases(), names),
        }
    }
}
