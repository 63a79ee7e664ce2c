//! Whole graphs, one text each.

use anyhow::Result;

use super::trained::{Order, Source, answer, longest_first, prompt};
use crate::generators::{Condition, Generated};
use crate::model::decode::{Completion, Prompt, PromptSource};
use crate::progress::StepProgress;
use crate::random;
use crate::text::{Tokenizer, tabular};

/// A prompt for each condition, and the graphs that come back.
pub struct WholeGraphs<'a> {
    tokenizer: &'a Tokenizer,
    conditions: &'a [Condition],
    seed: u64,
    bar: &'a StepProgress,
    order: Order,
    graphs: Vec<Generated>,
    error: Option<anyhow::Error>,
}

impl<'a> WholeGraphs<'a> {
    pub fn new(
        tokenizer: &'a Tokenizer,
        conditions: &'a [Condition],
        seed: u64,
        bar: &'a StepProgress,
    ) -> Self {
        let graphs = vec![Generated::default(); conditions.len()];
        let order = longest_first(conditions);
        Self { tokenizer, conditions, seed, bar, order, graphs, error: None }
    }
}

impl PromptSource for WholeGraphs<'_> {
    fn next(&mut self) -> Option<Prompt> {
        if self.error.is_some() {
            return None;
        }
        let index = self.order.next()?;
        let (condition, id) = (&self.conditions[index], index as u64);
        match prompt(self.tokenizer, &tabular::prompt(condition)) {
            Ok(tokens) => {
                let rng = random::stream(self.seed, "generation", &[id]);
                Some(Prompt { id, tokens, rng, max_new_tokens: usize::MAX, constraint: None })
            }
            Err(error) => {
                self.error = Some(error);
                None
            }
        }
    }

    fn complete(&mut self, completion: Completion) {
        let rows = answer(self.tokenizer, &completion).map_err(|violation| (Vec::new(), violation));
        let graph = &mut self.graphs[completion.id as usize];
        match rows.and_then(|text| tabular::parse(&text)) {
            Ok(rows) => graph.rows = rows,
            Err((rows, violation)) => {
                *graph = Generated { rows, failure: Some(violation), ..Generated::default() };
            }
        }
        graph.effort = completion.effort;
        self.bar.inc(1);
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
