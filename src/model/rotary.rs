//! Rotary positions, rotate-half convention, and their scaling to longer contexts.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::ModelConfig;
use crate::error::UserError;

/// How the frequencies of a model that was trained on short contexts are lowered for long ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum RopeScaling {
    #[default]
    None,
    /// Every frequency divided by `factor`.
    Linear { factor: f32 },
    /// Llama 3.1: waves longer than `original_context / low_freq_factor` divided by `factor`, those
    /// shorter than `original_context / high_freq_factor` kept, a linear passage between.
    Llama3 { factor: f32, low_freq_factor: f32, high_freq_factor: f32, original_context: usize },
    /// A divisor for each pair of dimensions, as GGUF files keep them (`rope_freqs.weight`).
    Divisors { divisors: Vec<f32> },
}

impl RopeScaling {
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// Checks the numbers for heads of `pairs` pairs of dimensions.
    ///
    /// # Errors
    /// Names the number and its value.
    pub fn check(&self, pairs: usize) -> Result<()> {
        let positive = |name: &str, value: f32| -> Result<()> {
            if value.is_finite() && value > 0.0 {
                return Ok(());
            }
            let message = format!("rope_scaling: {name} {value} is not a positive number");
            Err(UserError::setting(message).into())
        };
        match self {
            Self::None => Ok(()),
            Self::Linear { factor } => positive("factor", *factor),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                positive("factor", *factor)?;
                positive("low_freq_factor", *low_freq_factor)?;
                positive("original_context", *original_context as f32)?;
                positive("high_freq_factor - low_freq_factor", high_freq_factor - low_freq_factor)
            }
            Self::Divisors { divisors } => {
                if divisors.len() != pairs {
                    let count = divisors.len();
                    let message =
                        format!("rope_scaling: {count} divisors for {pairs} pairs of dimensions");
                    return Err(UserError::setting(message).into());
                }
                divisors.iter().try_for_each(|divisor| positive("divisor", *divisor))
            }
        }
    }

    /// The scaled frequency, radians per position, of pair number `pair`.
    fn apply(&self, pair: usize, frequency: f64) -> f64 {
        match self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / f64::from(*factor),
            Self::Divisors { divisors } => frequency / f64::from(divisors[pair]),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let (low, high) = (f64::from(*low_freq_factor), f64::from(*high_freq_factor));
                let waves = *original_context as f64 * frequency / std::f64::consts::TAU;
                // 0 for waves to be stretched, 1 for those to be kept.
                let kept = ((waves - low) / (high - low)).clamp(0.0, 1.0);
                (1.0 - kept) * frequency / f64::from(*factor) + kept * frequency
            }
        }
    }
}

/// Cosines and sines of the angles, `[context, head_dim / 2]`.
#[derive(Clone, Debug)]
pub struct Rotary {
    half: usize,
    pub cosines: Vec<f32>,
    pub sines: Vec<f32>,
}

impl Rotary {
    pub fn new(config: &ModelConfig) -> Self {
        let half = config.head_dim() / 2;
        let frequency = |pair: usize| {
            let plain = f64::from(config.rope_base).powf(-(pair as f64) / half as f64);
            config.rope_scaling.apply(pair, plain)
        };
        let frequencies: Vec<f64> = (0..half).map(frequency).collect();
        let table = |of: fn(f64) -> f64| -> Vec<f32> {
            let angle = |index: usize| (index / half) as f64 * frequencies[index % half];
            (0..config.context * half).map(|index| of(angle(index)) as f32).collect()
        };
        Self { half, cosines: table(f64::cos), sines: table(f64::sin) }
    }

    /// Turns a query's or a key's head, `[head_dim]`, to its position.
    pub fn turn(&self, head: &mut [f32], position: usize) {
        self.by::<false>(head, position);
    }

    /// The inverse of [`Rotary::turn`], which is also its gradient.
    pub fn turn_back(&self, head: &mut [f32], position: usize) {
        self.by::<true>(head, position);
    }

    fn by<const BACK: bool>(&self, head: &mut [f32], position: usize) {
        let at = position * self.half..(position + 1) * self.half;
        let (first, second) = head.split_at_mut(self.half);
        let angles = self.cosines[at.clone()].iter().zip(&self.sines[at]);
        for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(angles) {
            let sin = if BACK { -sin } else { *sin };
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}
