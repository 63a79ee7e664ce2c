//! Draws one token from one row of logits.

use anyhow::Result;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::UserError;
use crate::model::kernels;

/// How tokens (or any other choices) are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 takes the most likely choice. Generators without a temperature ignore it.
    pub temperature: f64,
    /// Only the k most likely choices are drawn from; `None` keeps all.
    pub top_k: Option<u32>,
}

/// Logits from which nothing can be drawn: the largest is not finite, or one is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the model's logits are not finite: its weights are broken or too large, or training diverged"
)]
pub struct NotFinite;

/// Weights are summed in blocks of this many, so that a draw walks over few numbers.
const BLOCK: usize = 64;

/// Draws tokens; keeps its buffers from one draw to the next.
#[derive(Clone)]
pub struct Sampler {
    /// 1 / temperature; `None` takes the most likely token.
    sharpness: Option<f32>,
    top_k: Option<usize>,
    /// Tokens that may be drawn, ascending, and their weights.
    tokens: Vec<u32>,
    weights: Vec<f32>,
    sums: Vec<f64>,
    /// The largest logit of each of some disjoint sets of tokens.
    highest: Vec<f32>,
    /// Logits of the permitted tokens.
    row: Vec<f32>,
}

impl Sampler {
    /// # Errors
    /// A temperature that is negative or not a number, or `top_k` 0.
    pub fn new(sampling: Sampling) -> Result<Self> {
        let Sampling { temperature, top_k } = sampling;
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(UserError::setting(format!(
                "temperature is {temperature}: use 0 (most likely token) or a positive number"
            ))
            .into());
        }
        if top_k == Some(0) {
            return Err(
                UserError::setting("top_k is 0: use 1 or more, or leave it out for all").into()
            );
        }
        let sharpness =
            (temperature > 0.0).then(|| (1.0 / temperature).min(f64::from(f32::MAX)) as f32);
        Ok(Self {
            sharpness,
            top_k: top_k.map(|k| k as usize),
            tokens: Vec::new(),
            weights: Vec::new(),
            sums: Vec::new(),
            highest: Vec::new(),
            row: Vec::new(),
        })
    }

    /// The token drawn with probability softmax(logits / temperature), among the `top_k` largest
    /// logits (of equal ones the lowest ids). Temperature 0 takes the largest logit (of equal ones
    /// the lowest id) and leaves `rng` alone; otherwise one number is drawn from it. The result
    /// depends on the row and the random number only.
    ///
    /// A logit of −∞ excludes a token.
    ///
    /// # Errors
    /// A row without a finite largest logit, or with one that is not a number.
    pub fn draw(&mut self, logits: &[f32], rng: &mut ChaCha8Rng) -> Result<u32, NotFinite> {
        let best = most_likely(logits)?;
        let Some(sharpness) = self.sharpness else { return Ok(best) };
        let uniform = rng.random::<f64>();
        let largest = logits[best as usize];
        match self.top_k.filter(|&k| k < logits.len()) {
            Some(k) => self.find_largest(k, logits),
            None => {
                self.tokens.clear();
                self.tokens.extend(0..logits.len() as u32);
            }
        }
        self.weights.clear();
        let logits = self.tokens.iter().map(|token| logits[*token as usize]);
        self.weights.extend(logits.map(|logit| ((logit - largest) * sharpness).exp()));
        Ok(self.pick(uniform).map_or(best, |place| self.tokens[place]))
    }

    /// As [`Sampler::draw`], from the tokens of `permitted` alone (ascending).
    pub fn draw_among(
        &mut self,
        logits: &[f32],
        permitted: &[u32],
        rng: &mut ChaCha8Rng,
    ) -> Result<u32, NotFinite> {
        let mut row = std::mem::take(&mut self.row);
        row.clear();
        row.extend(permitted.iter().map(|token| logits[*token as usize]));
        let place = self.draw(&row, rng);
        self.row = row;
        Ok(permitted[place? as usize])
    }

    /// Probability of the tokens of `permitted` under softmax(logits), temperature 1.
    ///
    /// # Errors
    /// As [`Sampler::draw`].
    pub fn mass(&mut self, logits: &[f32], permitted: &[u32]) -> Result<f64, NotFinite> {
        most_likely(logits)?;
        self.weights.clear();
        self.weights.extend_from_slice(logits);
        let total = f64::from(kernels::softmax_sum(kernels::simd(), &mut self.weights));
        let part: f64 = permitted.iter().map(|t| f64::from(self.weights[*t as usize])).sum();
        Ok((part / total).min(1.0))
    }

    /// Makes the tokens of the `k` largest logits (of equal ones the lowest ids) those that may be
    /// drawn.
    ///
    /// The k-th highest of at least `k` maxima over disjoint sets bounds the k-th largest logit from
    /// below; few logits reach it, and only those are ordered.
    fn find_largest(&mut self, k: usize, logits: &[f32]) {
        let sets = k.next_power_of_two().max(BLOCK).min(logits.len());
        self.highest.clear();
        self.highest.resize(sets, f32::NEG_INFINITY);
        for some in logits.chunks(sets) {
            for (highest, &logit) in self.highest.iter_mut().zip(some) {
                *highest = if logit > *highest { logit } else { *highest };
            }
        }
        let bound = *self.highest.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1;
        self.tokens.clear();
        let tokens = (0u32..).zip(logits).filter(|(_, logit)| **logit >= bound);
        self.tokens.extend(tokens.map(|(token, _)| token));
        if self.tokens.len() > k {
            self.tokens.select_nth_unstable_by(k, |&a, &b| {
                logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b))
            });
            self.tokens.truncate(k);
            self.tokens.sort_unstable();
        }
    }

    /// The place at `uniform` (in [0, 1)) of the cumulated weights; `None` only if rounding put
    /// the number behind the last one.
    fn pick(&mut self, uniform: f64) -> Option<usize> {
        self.sums.clear();
        self.sums.extend(self.weights.chunks(BLOCK).map(block_sum));
        let mut rest = uniform * self.sums.iter().sum::<f64>();
        let mut last = None;
        for (block, sum) in self.weights.chunks(BLOCK).zip(&self.sums).enumerate() {
            let (weights, &sum) = sum;
            if rest >= sum {
                rest -= sum;
                continue;
            }
            for (offset, &weight) in weights.iter().enumerate() {
                if weight > 0.0 {
                    last = Some(block * BLOCK + offset);
                    rest -= f64::from(weight);
                    if rest < 0.0 {
                        return last;
                    }
                }
            }
            return last;
        }
        last
    }
}

/// A sum in a fixed order, in eight chains that the processor can work on side by side.
fn block_sum(weights: &[f32]) -> f64 {
    let mut chains = [0.0f64; 8];
    for some in weights.chunks(8) {
        for (chain, &weight) in chains.iter_mut().zip(some) {
            *chain += f64::from(weight);
        }
    }
    chains.iter().sum()
}

/// The lowest id among the largest logits.
fn most_likely(logits: &[f32]) -> Result<u32, NotFinite> {
    let largest = max(logits);
    match logits.iter().position(|&logit| logit == largest) {
        Some(token) if largest.is_finite() => Ok(token as u32),
        _ => Err(NotFinite),
    }
}

/// The largest value; NaN if any is NaN, −∞ if there is none.
fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let mut finite = true;
    for some in values.chunks(16) {
        for (lane, &value) in lanes.iter_mut().zip(some) {
            *lane = if value > *lane { value } else { *lane };
            finite &= !value.is_nan();
        }
    }
    if finite { lanes.into_iter().fold(f32::NEG_INFINITY, f32::max) } else { f32::NAN }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random;

    fn sampler(temperature: f64, top_k: Option<u32>) -> Sampler {
        Sampler::new(Sampling { temperature, top_k }).expect("valid")
    }

    #[test]
    fn greedy_takes_the_lowest_id_of_equal_logits_and_no_random_number() {
        let mut rng = random::stream(1, "sample", &[]);
        let before = rng.clone();
        let mut greedy = sampler(0.0, None);
        assert_eq!(greedy.draw(&[0.5, 2.0, 1.0, 2.0], &mut rng).unwrap(), 1);
        assert_eq!(rng, before);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let logits: Vec<f32> = (0..150).map(|i| ((i * 37) % 11) as f32 * 0.4).collect();
        let weights: Vec<f64> = logits.iter().map(|&x| (f64::from(x) / 0.8).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut rng = random::stream(2, "sample", &[]);
        let mut sampler = sampler(0.8, None);
        let draws = 200_000;
        let mut counts = vec![0u32; logits.len()];
        for _ in 0..draws {
            counts[sampler.draw(&logits, &mut rng).unwrap() as usize] += 1;
        }
        let chi_squared: f64 = counts
            .iter()
            .zip(&weights)
            .map(|(&seen, weight)| {
                let expected = f64::from(draws) * weight / total;
                (f64::from(seen) - expected).powi(2) / expected
            })
            .sum();
        // 149 degrees of freedom: mean 149, standard deviation 17.3.
        assert!((80.0..235.0).contains(&chi_squared), "{chi_squared}");
    }

    #[test]
    fn top_k_draws_from_the_largest_only() {
        let logits = [1.0, 3.0, 2.0, 3.0, 2.0];
        let mut rng = random::stream(3, "sample", &[]);
        let mut sampler = sampler(5.0, Some(3));
        let mut seen = [false; 5];
        for _ in 0..500 {
            seen[sampler.draw(&logits, &mut rng).unwrap() as usize] = true;
        }
        // Of the two tokens with logit 2 the lower id is kept.
        assert_eq!(seen, [false, true, true, true, false]);
    }

    proptest! {
        #[test]
        fn the_largest_are_those_of_a_full_sort(
            logits in prop::collection::vec(
                prop_oneof![(-3i8..3).prop_map(f32::from), Just(f32::NEG_INFINITY), -9.0f32..9.0],
                2..700,
            ),
            share in 0.0f64..1.0,
        ) {
            let k = 1 + (share * (logits.len() - 1) as f64) as usize;
            let mut order: Vec<u32> = (0..logits.len() as u32).collect();
            order.sort_by(|&a, &b| {
                logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b))
            });
            order.truncate(k);
            order.sort_unstable();
            let mut sampler = sampler(1.0, None);
            sampler.find_largest(k, &logits);
            prop_assert_eq!(sampler.tokens, order);
        }
    }

    #[test]
    fn the_mass_is_that_of_the_softmax() {
        let logits: Vec<f32> = (0..300).map(|i| (i as f32 * 0.7).sin() * 4.0).collect();
        let weights: Vec<f64> = logits.iter().map(|&logit| f64::from(logit).exp()).collect();
        let part: f64 = [3, 70, 299].iter().map(|&token: &usize| weights[token]).sum();
        let truth = part / weights.iter().sum::<f64>();
        let mass = sampler(0.0, None).mass(&logits, &[3, 70, 299]).unwrap();
        assert!((mass / truth - 1.0).abs() < 1e-5, "{mass} instead of {truth}");
        let all: Vec<u32> = (0..300).collect();
        assert!((sampler(0.0, None).mass(&logits, &all).unwrap() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn excluded_tokens_are_never_drawn() {
        let mut logits = [f32::NEG_INFINITY; 200];
        logits[70] = -3.0;
        logits[199] = -2.0;
        let mut rng = random::stream(4, "sample", &[]);
        let mut sampler = sampler(1.0, None);
        let drawn: Vec<u32> = (0..300).map(|_| sampler.draw(&logits, &mut rng).unwrap()).collect();
        assert!(drawn.contains(&70) && drawn.contains(&199));
        assert!(drawn.iter().all(|token| [70, 199].contains(token)));
    }

    #[test]
    fn a_tiny_temperature_is_greedy() {
        let mut rng = random::stream(5, "sample", &[]);
        let token = sampler(1e-300, None).draw(&[0.0, 1.0, 1.0 - 1e-6], &mut rng).unwrap();
        assert_eq!(token, 1);
    }

    #[test]
    fn settings_and_rows_that_cannot_work_are_errors() {
        for (temperature, top_k) in [(-1.0, None), (f64::NAN, None), (1.0, Some(0))] {
            assert!(Sampler::new(Sampling { temperature, top_k }).is_err());
        }
        let mut rng = random::stream(6, "sample", &[]);
        for row in [&[][..], &[f32::NEG_INFINITY], &[f32::NAN, f32::NAN], &[1.0, f32::INFINITY]] {
            assert!(sampler(1.0, None).draw(row, &mut rng).is_err());
            assert!(sampler(0.0, None).draw(row, &mut rng).is_err());
        }
    }
}
