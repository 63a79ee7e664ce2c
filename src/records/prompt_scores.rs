//! What is known of each single answer: a row per prompt. Records are sums over prompts already; from
//! per-prompt scores a report takes means over seeds and services, and pairs variants prompt by prompt.

use super::Metric;
use crate::graph::Name;

/// Values by prompt, in the order of the prompts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptScores {
    /// A fingerprint of each condition: variants are paired only where they were asked the same.
    pub prompts: Vec<u64>,
    /// The service that each prompt asks for.
    pub services: Vec<Name>,
    columns: Vec<(&'static Metric, Vec<f64>)>,
}

impl PromptScores {
    /// Prompts without columns.
    pub fn of(prompts: Vec<u64>, services: Vec<Name>) -> Self {
        Self { prompts, services, columns: Vec::new() }
    }

    /// Adds the values of a metric, the mean of which is the metric's value; NaN for a prompt that it does
    /// not look at, such as the novelty of a graph that is not valid.
    ///
    /// # Panics
    /// If there is not one value per prompt.
    pub fn add(&mut self, metric: &'static Metric, values: Vec<f64>) {
        assert_eq!(values.len(), self.prompts.len(), "one value per prompt of `{}`", metric.id);
        self.columns.push((metric, values));
    }

    /// The values of a metric; `None` where there are none by prompt.
    pub fn column(&self, metric: &Metric) -> Option<&[f64]> {
        let found = self.columns.iter().find(|(known, _)| *known == metric);
        found.map(|(_, values)| values.as_slice())
    }

    /// The metrics with their values, in the order in which they were added.
    pub fn columns(&self) -> impl Iterator<Item = (&'static Metric, &[f64])> {
        self.columns.iter().map(|(metric, values)| (*metric, values.as_slice()))
    }
}
