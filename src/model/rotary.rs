//! Rotary positions, rotate-half convention.

use super::config::ModelConfig;

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
