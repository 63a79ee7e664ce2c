//! Distributions that give the same values on every machine: they use only operations that IEEE
//! 754 defines exactly (+, −, ×, ÷, square root), or round a result once when a cloud is made.

use rand::{Rng, RngExt};

/// Choices with integer weights: drawing and probabilities are exact.
#[derive(Clone, Debug)]
pub(super) struct WeightedTable {
    cumulative: Vec<u64>,
}

/// Weights are rounded to multiples of this share of the largest possible one, so that a last-bit
/// difference of `powf` between machines cannot reach a draw.
const RESOLUTION: f64 = (1u64 << 32) as f64;

impl WeightedTable {
    /// From relative weights, at least one of them above 0.
    pub fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        let weights: Vec<f64> = weights.into_iter().collect();
        let largest = weights.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let mut total = 0;
        let cumulative = weights.iter().map(|weight| {
            total += (weight / largest * RESOLUTION).round() as u64;
            total
        });
        Self { cumulative: cumulative.collect() }
    }

    /// The k-th of `len` choices has the weight k^-exponent.
    pub fn zipf(len: usize, exponent: f64) -> Self {
        Self::new((1..=len).map(|rank| (rank as f64).powf(-exponent)))
    }

    pub fn pick(&self, rng: &mut impl Rng) -> usize {
        let draw = rng.random_range(0..self.total());
        self.cumulative.partition_point(|&bound| bound <= draw)
    }

    pub fn probability(&self, index: usize) -> f64 {
        let below = if index == 0 { 0 } else { self.cumulative[index - 1] };
        (self.cumulative[index] - below) as f64 / self.total() as f64
    }

    pub fn len(&self) -> usize {
        self.cumulative.len()
    }

    fn total(&self) -> u64 {
        self.cumulative.last().copied().unwrap_or(0)
    }
}

/// A heavy-tailed time: log-logistic with the given median; its 90th percentile is 9^spread and
/// its 99th 99^spread times the median.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Time {
    median: f64,
    /// The tail's exponent in eighths, 1 to 7: such powers need only square roots.
    eighths: u8,
}

/// Longest time that is drawn, in milliseconds: one minute.
const LONGEST: f64 = 60_000.0;

impl Time {
    pub fn new(median: f64, eighths: u8) -> Self {
        Self { median, eighths }
    }

    /// Whole milliseconds, rounded down as the traces do.
    pub fn draw(self, rng: &mut impl Rng) -> u32 {
        let u: f64 = rng.random();
        let odds = u / (1.0 - u);
        let half = odds.sqrt();
        let quarter = half.sqrt();
        let mut factor = 1.0;
        for (bit, root) in [(4, half), (2, quarter), (1, quarter.sqrt())] {
            if self.eighths & bit != 0 {
                factor *= root;
            }
        }
        (self.median * factor).min(LONGEST) as u32
    }
}

/// How often a call is made, given that it is made at all.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Repeats {
    /// Probability of exactly k calls at index k − 1.
    probabilities: Vec<f64>,
}

impl Repeats {
    pub fn once() -> Self {
        Self { probabilities: vec![1.0] }
    }

    /// k calls ∝ ratio^k, up to `max`.
    pub fn geometric(ratio: f64, max: u32) -> Self {
        let weights = std::iter::successors(Some(1.0), |weight| Some(weight * ratio));
        Self::normalised(weights.take(max as usize).collect())
    }

    fn normalised(mut weights: Vec<f64>) -> Self {
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= total);
        Self { probabilities: weights }
    }

    /// The same, given that there are no more than `max` calls.
    pub fn truncated(&self, max: u32) -> Self {
        let keep = (max as usize).clamp(1, self.probabilities.len());
        Self::normalised(self.probabilities[..keep].to_vec())
    }

    pub fn max(&self) -> u32 {
        self.probabilities.len() as u32
    }

    pub fn probabilities(&self) -> &[f64] {
        &self.probabilities
    }

    pub fn mean(&self) -> f64 {
        self.probabilities.iter().zip(1..).map(|(p, k)| p * f64::from(k)).sum()
    }

    /// The same at a sampling temperature: probabilities to the power 1 / temperature, normalised.
    pub fn tempered(&self, temperature: f64) -> Self {
        // Relative to the largest, so that no power of all of them is 0.
        let largest = self.probabilities.iter().copied().fold(0.0, f64::max);
        let power = |p: &f64| (p / largest).powf(1.0 / temperature);
        Self::normalised(self.probabilities.iter().map(power).collect())
    }

    pub fn draw(&self, rng: &mut impl Rng) -> u32 {
        if self.probabilities.len() == 1 {
            return 1;
        }
        let mut left: f64 = rng.random();
        for (probability, count) in self.probabilities.iter().zip(1..) {
            left -= probability;
            if left < 0.0 {
                return count;
            }
        }
        self.max()
    }
}

/// Uniform in [low, high).
pub(super) fn uniform(rng: &mut impl Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

/// A probability at a sampling temperature, that of the opposite likewise.
pub(super) fn tempered(probability: f64, temperature: f64) -> f64 {
    let odds = (probability / (1.0 - probability)).powf(1.0 / temperature);
    // Of certainties the odds are 0 or infinite.
    if odds.is_infinite() { 1.0 } else { odds / (1.0 + odds) }
}

/// True with this probability.
pub(super) fn happens(rng: &mut impl Rng, probability: f64) -> bool {
    rng.random::<f64>() < probability
}
