use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Whole numbers as a few classes of about equal frequency, each with the values seen in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bins {
    /// Values with their counts, ascending, bin by bin.
    bins: Vec<Vec<(i64, u64)>>,
}

impl Bins {
    /// At most `count` bins; a value is never divided between two.
    pub fn learn(values: impl IntoIterator<Item = i64>, count: usize) -> Self {
        let mut counts: BTreeMap<i64, u64> = BTreeMap::new();
        values.into_iter().for_each(|value| *counts.entry(value).or_default() += 1);
        let total: u64 = counts.values().sum();
        let mut bins: Vec<Vec<(i64, u64)>> = vec![Vec::new()];
        let mut seen = 0;
        for (value, number) in counts {
            // The bin that is filling has reached its share of all values so far.
            let full = seen * count as u64 >= total * bins.len() as u64;
            match bins.last_mut() {
                Some(last) if !full || last.is_empty() => last.push((value, number)),
                _ => bins.push(vec![(value, number)]),
            }
            seen += number;
        }
        Self { bins }
    }

    /// Number of bins, at least 1.
    pub fn count(&self) -> usize {
        self.bins.len().max(1)
    }

    /// The bin of `value`: the last that begins at or below it.
    pub fn index(&self, value: i64) -> usize {
        let begins_below =
            |bin: &Vec<(i64, u64)>| bin.first().is_some_and(|(first, _)| *first <= value);
        self.bins.partition_point(begins_below).saturating_sub(1)
    }

    /// A value of bin `index` with the probability of its frequency; 0 where nothing was seen.
    pub fn draw(&self, index: usize, rng: &mut ChaCha8Rng) -> i64 {
        let Some(bin) = self.bins.get(index) else { return 0 };
        let total: u64 = bin.iter().map(|(_, count)| count).sum();
        if total == 0 {
            return 0;
        }
        let mut ticket = rng.random_range(0..total);
        for (value, count) in bin {
            if ticket < *count {
                return *value;
            }
            ticket -= count;
        }
        0
    }
}
