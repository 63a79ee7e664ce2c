//! What is known of each single answer: a row per prompt. Records are sums over prompts already;
//! from units a report takes means over seeds and services, and pairs arms prompt by prompt.
//!
//! An evaluation with a number for each prompt takes the [`Units`] of its case and adds a column
//! under the metric's id; the mean of the column is the metric's value.

use super::{accuracy, fidelity};
use crate::graph::{Condition, Name, Verdict};

/// Values by prompt, in the order of the prompts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Units {
    /// A fingerprint of each condition: arms are paired only where they were asked the same.
    pub prompts: Vec<u64>,
    /// The service that each prompt asks for.
    pub services: Vec<Name>,
    columns: Vec<(String, Vec<f64>)>,
}

impl Units {
    /// The prompts, with columns for what every evaluation knows: [`fidelity::VALID`] and
    /// [`accuracy::ACCURACY`], 1 or 0.
    pub fn new(conditions: &[Condition], verdicts: &[Verdict]) -> Self {
        let mut units = Self::of(
            conditions.iter().map(fingerprint).collect(),
            conditions.iter().map(|condition| condition.service.clone()).collect(),
        );
        let share = |hit: fn(&Verdict) -> bool| {
            verdicts.iter().map(|verdict| f64::from(u8::from(hit(verdict)))).collect()
        };
        units.add(fidelity::VALID, share(|verdict| verdict.graph.is_some()));
        units.add(accuracy::ACCURACY, share(|verdict| verdict.violation.is_none()));
        units
    }

    /// Prompts without columns.
    pub fn of(prompts: Vec<u64>, services: Vec<Name>) -> Self {
        Self { prompts, services, columns: Vec::new() }
    }

    /// Adds the values of a metric; NaN for a prompt that it does not look at, such as the novelty
    /// of a graph that is not valid.
    ///
    /// # Panics
    /// If there is not one value per prompt.
    pub fn add(&mut self, metric: &str, values: Vec<f64>) {
        assert_eq!(values.len(), self.prompts.len(), "one value per prompt of `{metric}`");
        self.columns.push((metric.to_owned(), values));
    }

    /// The values of a metric; `None` where the evaluation has none by prompt.
    pub fn column(&self, metric: &str) -> Option<&[f64]> {
        let found = self.columns.iter().find(|(known, _)| known == metric);
        found.map(|(_, values)| values.as_slice())
    }

    /// Ids of the metrics, in the order in which they were added.
    pub fn metrics(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(metric, _)| metric.as_str())
    }
}

/// The same for the same condition, on every machine.
fn fingerprint(condition: &Condition) -> u64 {
    // A struct of names and numbers is always JSON.
    let text = serde_json::to_vec(condition).unwrap_or_default();
    let hash = blake3::hash(&text);
    hash.as_bytes().iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::{answer, dataset, failed, find, flat};
    use crate::evaluate::{Evaluation, score};
    use crate::graph::condition_of;

    #[test]
    fn means_of_columns_are_the_records() {
        let (pair, wide) = (flat("S_1", 2, 9), flat("S_2", 3, 9));
        let asked = [&pair, &wide, &wide].map(condition_of);
        let answers = [answer(&pair), answer(&pair), failed()];
        let dataset = dataset(Vec::new(), vec![pair]);
        let scores = score(&Evaluation::Fidelity, &dataset, &asked, &answers, 1).unwrap();
        let units = scores.units;
        assert_eq!(units.metrics().collect::<Vec<_>>(), ["valid/1", "accuracy/1"]);
        for metric in [fidelity::VALID, accuracy::ACCURACY] {
            let values = units.column(metric).unwrap();
            let mean = values.iter().sum::<f64>() / 3.0;
            assert_eq!(mean, find(&scores.records, metric, "").value);
        }
        assert_eq!(units.column("valid/1").unwrap(), [1.0, 1.0, 0.0]);
        assert!(units.column("novelty/1").is_none());
        assert_eq!(units.services, ["S_1", "S_2", "S_2"].map(Name::from));
        assert_eq!(units.prompts[1], units.prompts[2]);
        assert_ne!(units.prompts[0], units.prompts[1]);
    }
}
