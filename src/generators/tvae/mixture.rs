//! A mixture of normal distributions in one dimension, for mode-specific normalisation.
//!
//! Fitted by variational inference with a stick-breaking prior on the weights (Blei and Jordan, "Variational
//! Inference for Dirichlet Process Mixtures", 2006; the normal-gamma updates are those of Bishop, "Pattern
//! Recognition and Machine Learning", 2006, section 10.2), which empties components that the values do
//! not need. The values come with counts, since whole milliseconds repeat, and the start is chosen
//! without chance, so that equal values give equal mixtures.

use serde::{Deserialize, Serialize};
use statrs::function::gamma::digamma;

/// Concentration of the prior on weights: small, so that few components are kept.
const CONCENTRATION: f64 = 1e-3;
/// Components with a smaller share are dropped.
const SMALLEST_WEIGHT: f64 = 5e-3;
/// Added to every variance.
const VARIANCE_FLOOR: f64 = 1e-6;
const LLOYD_STEPS: usize = 50;
const STEPS: usize = 200;
/// The fit ends once no weight moves by more than this.
const TOLERANCE: f64 = 1e-5;

/// One normal distribution of a [`Mixture`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mode {
    pub weight: f64,
    pub mean: f64,
    pub deviation: f64,
}

/// Modes in order of their means; at least one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mixture {
    pub modes: Vec<Mode>,
}

impl Mixture {
    /// The mixture of at most `limit` modes for values with their counts.
    pub fn fit(values: &[(f64, f64)], limit: usize) -> Self {
        let centres = centres(values, limit);
        if centres.len() < 2 {
            // One value, or none at all.
            let mean = centres.first().copied().unwrap_or(0.0);
            let deviation = VARIANCE_FLOOR.sqrt();
            return Self { modes: vec![Mode { weight: 1.0, mean, deviation }] };
        }
        let mut fit = Fit::new(values, &centres);
        for _ in 0..STEPS {
            let before = fit.weights();
            fit.step(values);
            let moved = before.iter().zip(fit.weights()).map(|(a, b)| (a - b).abs());
            if moved.fold(0.0, f64::max) < TOLERANCE {
                break;
            }
        }
        fit.mixture()
    }

    /// Probability of each mode given the value.
    pub fn shares(&self, value: f64) -> Vec<f64> {
        let log = |mode: &Mode| {
            let distance = (value - mode.mean) / mode.deviation;
            mode.weight.ln() - mode.deviation.ln() - 0.5 * distance * distance
        };
        softmax(self.modes.iter().map(log).collect())
    }
}

fn softmax(mut logs: Vec<f64>) -> Vec<f64> {
    let highest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    logs.iter_mut().for_each(|log| *log = (*log - highest).exp());
    let total: f64 = logs.iter().sum();
    logs.iter_mut().for_each(|share| *share /= total);
    logs
}

/// At most `limit` centres by k-means; each next one begins at the value that adds most to the sum
/// of squares.
fn centres(values: &[(f64, f64)], limit: usize) -> Vec<f64> {
    let Some(first) = values.iter().max_by(|a, b| a.1.total_cmp(&b.1)) else { return Vec::new() };
    let mut centres = vec![first.0];
    let distance = |centres: &[f64], value: f64| -> f64 {
        centres.iter().map(|centre| (value - centre).powi(2)).fold(f64::INFINITY, f64::min)
    };
    while centres.len() < limit {
        let cost = |(value, count): &(f64, f64)| count * distance(&centres, *value);
        let farthest = values.iter().max_by(|a, b| cost(a).total_cmp(&cost(b)));
        match farthest {
            Some(farthest) if cost(farthest) > 0.0 => centres.push(farthest.0),
            _ => break,
        }
    }
    for _ in 0..LLOYD_STEPS {
        let mut sums = vec![(0.0, 0.0); centres.len()];
        for (value, count) in values {
            let sum = &mut sums[nearest(&centres, *value)];
            *sum = (sum.0 + count * value, sum.1 + count);
        }
        let moved: Vec<f64> = sums
            .iter()
            .zip(&centres)
            .map(|((sum, count), centre)| if *count > 0.0 { sum / count } else { *centre })
            .collect();
        if std::mem::replace(&mut centres, moved) == centres {
            break;
        }
    }
    centres
}

fn nearest(centres: &[f64], value: f64) -> usize {
    let distances = centres.iter().map(|centre| (value - centre).abs()).enumerate();
    distances.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(index, _)| index)
}

/// The prior on mean and variance of a component: those of all values, with the weight of one.
struct Prior {
    mean: f64,
    variance: f64,
}

/// Posterior of a component.
#[derive(Clone, Copy, Default)]
struct Component {
    mean: f64,
    /// Confidence in the mean, in values.
    confidence: f64,
    /// Degrees of freedom of the variance.
    freedom: f64,
    variance: f64,
    /// Parameters of the beta distribution of its piece of the stick.
    stick: (f64, f64),
}

struct Fit {
    prior: Prior,
    components: Vec<Component>,
}

impl Fit {
    /// Every value belongs to the nearest of the centres.
    fn new(values: &[(f64, f64)], centres: &[f64]) -> Self {
        let total: f64 = values.iter().map(|(_, count)| count).sum();
        let mean = values.iter().map(|(value, count)| value * count).sum::<f64>() / total;
        let square = |(value, count): &(f64, f64)| count * (value - mean).powi(2);
        let variance = values.iter().map(square).sum::<f64>() / total;
        let components = vec![Component::default(); centres.len()];
        let mut fit = Self { prior: Prior { mean, variance }, components };
        let mut shares = vec![0.0; centres.len()];
        fit.update(values, |value| {
            shares.fill(0.0);
            shares[nearest(centres, value)] = 1.0;
            shares.clone()
        });
        fit
    }

    fn step(&mut self, values: &[(f64, f64)]) {
        let logs = self.log_densities();
        self.update(values, |value| softmax(logs.iter().map(|log| log(value)).collect()));
    }

    /// Expected logarithm of weight times density, up to a constant, of each component.
    fn log_densities(&self) -> Vec<impl Fn(f64) -> f64 + use<>> {
        let mut rest = 0.0;
        let densities = self.components.iter().map(|component| {
            let Component { mean, confidence, freedom, variance, stick: (own, other), .. } =
                *component;
            let whole = digamma(own + other);
            let weight = rest + digamma(own) - whole;
            rest += digamma(other) - whole;
            let scale = 0.5
                * (digamma(0.5 * freedom) + 2f64.ln()
                    - freedom.ln()
                    - variance.ln()
                    - 1.0 / confidence);
            move |value: f64| weight + scale - 0.5 * (value - mean).powi(2) / variance
        });
        densities.collect()
    }

    /// Components from the shares that they have in each value.
    fn update(&mut self, values: &[(f64, f64)], mut shares: impl FnMut(f64) -> Vec<f64>) {
        // Count, sum and sum of squares by component, from the prior's mean.
        let origin = self.prior.mean;
        let mut sums = vec![[0.0; 3]; self.components.len()];
        for (value, count) in values {
            let value_here = value - origin;
            for (sum, share) in sums.iter_mut().zip(shares(*value)) {
                let weight = share * count;
                sum[0] += weight;
                sum[1] += weight * value_here;
                sum[2] += weight * value_here * value_here;
            }
        }
        let mut behind: f64 = sums.iter().map(|sum| sum[0]).sum();
        for (component, [count, sum, squares]) in self.components.iter_mut().zip(sums) {
            behind = (behind - count).max(0.0);
            let mean = if count > 0.0 { sum / count } else { 0.0 };
            let spread = (squares - sum * mean).max(0.0) + count * VARIANCE_FLOOR;
            let (confidence, freedom) = (1.0 + count, 1.0 + count);
            *component = Component {
                mean: origin + sum / confidence,
                confidence,
                freedom,
                variance: (self.prior.variance + spread + count * mean * mean / confidence)
                    / freedom,
                stick: (1.0 + count, CONCENTRATION + behind),
            };
        }
    }

    /// Expected weights.
    fn weights(&self) -> Vec<f64> {
        let mut rest = 1.0;
        let weights = self.components.iter().map(|component| {
            let (own, other) = component.stick;
            let weight = rest * own / (own + other);
            rest *= other / (own + other);
            weight
        });
        weights.collect()
    }

    /// The components that are worth keeping.
    fn mixture(&self) -> Mixture {
        let kept = self.components.iter().zip(self.weights());
        let mut modes: Vec<Mode> = kept
            .filter(|(_, weight)| *weight > SMALLEST_WEIGHT)
            .map(|(component, weight)| Mode {
                weight,
                mean: component.mean,
                deviation: component.variance.sqrt(),
            })
            .collect();
        let total: f64 = modes.iter().map(|mode| mode.weight).sum();
        modes.iter_mut().for_each(|mode| mode.weight /= total);
        modes.sort_by(|a, b| a.mean.total_cmp(&b.mean));
        Mixture { modes }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use rand_distr::{Distribution, Normal};

    use super::*;
    use crate::random;

    fn counted(values: impl IntoIterator<Item = i64>) -> Vec<(f64, f64)> {
        let mut counts: BTreeMap<i64, f64> = BTreeMap::new();
        values.into_iter().for_each(|value| *counts.entry(value).or_default() += 1.0);
        counts.into_iter().map(|(value, count)| (value as f64, count)).collect()
    }

    /// Ten components may be used; three normal distributions need three. A mode is wider than what made
    /// it by the prior on its variance, that of all values, which counts as one value.
    #[test]
    fn the_modes_that_made_the_values_are_found() {
        let mut rng = random::stream(1, "test", &[]);
        let truth = [(2_000, 0.0, 10.0), (6_000, 100.0, 10.0), (2_000, 400.0, 20.0)];
        let mut values = Vec::new();
        for (count, mean, deviation) in truth {
            let normal = Normal::new(mean, deviation).expect("a deviation");
            values.extend((0..count).map(|_| f64::round(normal.sample(&mut rng)) as i64));
        }
        let mixture = Mixture::fit(&counted(values), 10);
        let near = |mode: &Mode, (count, mean, deviation): (i32, f64, f64)| {
            (mode.mean - mean).abs() < 0.1 * deviation
                && (mode.deviation / deviation - 1.0).abs() < 0.2
                && (mode.weight - f64::from(count) / 1e4).abs() < 0.01
        };
        assert_eq!(mixture.modes.len(), 3, "{mixture:?}");
        let mut pairs = mixture.modes.iter().zip(truth);
        assert!(pairs.all(|(mode, truth)| near(mode, truth)), "{mixture:?}");
        let shares = mixture.shares(100.0);
        assert!(shares[1] > 0.999, "{shares:?}");
    }

    #[test]
    fn one_value_is_one_mode() {
        for values in [vec![], vec![(7.0, 3.0)]] {
            let mixture = Mixture::fit(&values, 10);
            assert_eq!(mixture.modes.len(), 1);
            assert!(mixture.modes[0].deviation > 0.0);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever the values: modes are in order, their weights add up, and every value that is
        /// common lies within four deviations of the mode that it most likely belongs to.
        #[test]
        fn mixtures_are_sound(
            values in prop::collection::vec(prop_oneof![0..3i64, 0..100i64, 0..4_000_000i64], 1..200),
            limit in 1usize..12,
        ) {
            let values = counted(values);
            let mixture = Mixture::fit(&values, limit);
            prop_assert!((1..=limit).contains(&mixture.modes.len()));
            prop_assert!(mixture.modes.is_sorted_by(|a, b| a.mean <= b.mean));
            let total: f64 = mixture.modes.iter().map(|mode| mode.weight).sum();
            prop_assert!((total - 1.0).abs() < 1e-9);
            for (value, _) in &values {
                let shares = mixture.shares(*value);
                prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            }
            prop_assert!(mixture.modes.iter().all(|mode| mode.deviation > 0.0));
        }
    }
}
