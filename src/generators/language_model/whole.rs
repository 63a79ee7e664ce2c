//! Whole graphs, one text each.

use anyhow::Result;

use super::trained::{Order, Requests, Source, answer, longest_first, prompt};
use crate::generators::Generated;
use crate::model::decode::{Completion, Prompt, PromptSource};
use crate::text::constrained::Table;
use crate::text::tabular;

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
        match prompt(self.requests.tokenizer, &tabular::prompt(condition)) {
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
        match rows.and_then(|text| tabular::parse(&text)) {
            Ok(rows) => graph.rows = rows,
            Err((rows, violation)) => {
                *graph = Generated { rows, failure: Some(violation), ..Generated::default() };
            }
        }
        graph.effort = completion.effort;
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
