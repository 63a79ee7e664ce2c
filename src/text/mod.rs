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
mod published_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use anyhow::Result;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::graph::{LayerCondition, Request, Step, StepBody, Violation};
pub use tokenizer::{Counts, Tokenizer};

/// How generation steps are written: the same recursion and the same conditions either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The paper's prose.
    Recursive,
    /// Values with one sign each, with or without remaining counts ([`compact`]).
    Compact { remaining_counts: bool },
    /// The paper's prose as an instruction; with or without intermediate instructions in the answer
    /// ([`instruction`]).
    Instruction { notes: bool },
}

/// The order of an edge's fields and a condition's attributes in answers. Prompts of root layers, which
/// come from users, have theirs in random order either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldOrder {
    /// Drawn anew for every line, as in the paper (section 3.1).
    #[default]
    Shuffled,
    /// Always the same.
    Fixed,
}

impl FieldOrder {
    pub fn is_shuffled(&self) -> bool {
        *self == Self::Shuffled
    }
}

impl Format {
    /// Whether prompts of this format can hold requests in words.
    pub fn takes_requests(self) -> bool {
        matches!(self, Self::Instruction { .. })
    }

    /// The beginning of every answer to a condition, which is given at generation.
    pub fn opening(self, condition: &LayerCondition) -> &'static str {
        match self {
            Self::Recursive | Self::Instruction { .. } => recursive::opening(condition),
            Self::Compact { .. } => "",
        }
    }

    /// The prompt of a step in generation, up to where the answer begins. `written` is the condition
    /// line as the step above wrote it; a root layer's is written here, in random order. Formats
    /// without words leave the requests out.
    pub fn prompt(
        self,
        condition: &LayerCondition,
        written: Option<&str>,
        requests: &[Request],
        rng: &mut impl Rng,
    ) -> String {
        let prompt = match (self, written) {
            (Self::Recursive, Some(line)) => recursive::opened(condition, line),
            (Self::Recursive, None) => recursive::prompt(condition, rng),
            (Self::Compact { .. }, _) => compact::prompt(condition),
            (Self::Instruction { .. }, _) => instruction::prompt(condition, written, requests, rng),
        };
        prompt + self.opening(condition)
    }

    /// The condition lines that an answer wrote, in the order of its sub-conditions or parts; none in
    /// formats that leave no choice of order.
    pub fn condition_lines(self, answer: &str) -> Vec<String> {
        match self {
            Self::Recursive | Self::Instruction { .. } => {
                recursive::condition_lines(answer).map(str::to_owned).collect()
            }
            Self::Compact { .. } => Vec::new(),
        }
    }

    /// Prompt and answer of a step for training, with the format's random choices. The answer begins
    /// behind its [`Self::opening`].
    pub fn training_text(
        self,
        step: &Step,
        requests: &[Request],
        order: FieldOrder,
        rng: &mut impl Rng,
    ) -> (String, String) {
        let (prompt, mut answer) = match self {
            Self::Recursive => {
                let prompt = recursive::training_prompt(&step.condition, order, rng);
                (prompt, recursive::answer(step, order, rng))
            }
            Self::Compact { remaining_counts } => (
                compact::training_prompt(&step.condition, rng),
                compact::answer(step, remaining_counts),
            ),
            Self::Instruction { notes } => {
                instruction::training_text(step, requests, notes, order, rng)
            }
        };
        let rest = answer.split_off(self.opening(&step.condition).len());
        (prompt + &answer, rest)
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
                let whole = format!("{}{answer}", self.opening(condition));
                parse::parse(condition, &whole, self.takes_requests())
            }
            Self::Compact { remaining_counts } => {
                compact::parse(condition, answer, remaining_counts)
            }
        }
    }

    /// Whether a token, given by its bytes, decides how large a graph becomes: what follows an edge (the
    /// next one or the end of the edges), and the counts of conditions.
    pub fn decides(self, token: &[u8]) -> bool {
        let begins = |words: &[&str]| {
            let mut words = words.iter();
            words.any(|words| token.starts_with(words.as_bytes()) && token.len() > words.len())
        };
        match self {
            Self::Recursive | Self::Instruction { .. } => {
                // The unit of a time may stand before the end of an edge.
                begins(&recursive::COUNTS) || token.windows(2).any(|bytes| bytes == b")\n")
            }
            Self::Compact { .. } => {
                begins(&[",e", "{e", ",d", ",k", ",g"]) || token.contains(&b'\n')
            }
        }
    }

    /// A tokenizer for texts of this format; `names` as [`name::write`] writes them. The phrases of
    /// `always` are tokens, and those that recur in `texts`; so are counts up to `most`.
    pub fn tokenizer<'a>(
        self,
        always: impl IntoIterator<Item = &'a str>,
        texts: impl IntoIterator<Item = &'a str>,
        names: &BTreeSet<String>,
        most: u32,
    ) -> Result<Tokenizer> {
        let words: &[&str] = match self {
            Self::Recursive => &recursive::COUNTED,
            Self::Instruction { .. } => &instruction::COUNTED,
            Self::Compact { remaining_counts } => {
                return Tokenizer::with_phrases(compact::phrases(remaining_counts, most), names);
            }
        };
        Tokenizer::learn(always, texts, names, Counts { words, most })
    }
}
