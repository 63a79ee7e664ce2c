use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Parameters;
use crate::model::Sampling;
use crate::model::kernels::{self, Packed};

/// A linear layer for drawing: `x · weight + bias`.
#[derive(Clone, Debug)]
pub struct Dense {
    weight: Packed,
    bias: Vec<f32>,
}

impl Dense {
    /// `NAME.weight` and `NAME.bias` of `parameters`.
    pub fn new(parameters: &Parameters, name: &str) -> Self {
        let weight = format!("{name}.weight");
        let (values, shape) = (parameters.get(&weight), parameters.shape(&weight));
        let (inputs, outputs) = (shape[0], shape[1]);
        let weight = Packed::new(kernels::simd(), inputs, outputs, |input, output| {
            values[input * outputs + output]
        });
        Self { weight, bias: parameters.get(&format!("{name}.bias")).to_vec() }
    }

    /// `[rows, outputs]` for `x` `[rows, inputs]`; a row's result does not depend on the others.
    pub fn apply(&self, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; x.len() / self.weight.inputs() * self.weight.outputs()];
        self.weight.multiply(x, &mut out, true);
        for row in out.chunks_exact_mut(self.weight.outputs()) {
            row.iter_mut().zip(&self.bias).for_each(|(value, bias)| *value += bias);
        }
        out
    }
}

/// An index drawn from softmax(logits / temperature) among the `top_k` highest; the highest at
/// temperature 0. The first of equals comes first. Negative infinity is never drawn unless all are.
pub fn draw(logits: &[f32], sampling: Sampling, rng: &mut ChaCha8Rng) -> usize {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
    let Some(&first) = order.first() else { return 0 };
    let highest = f64::from(logits[first]);
    if sampling.temperature <= 0.0 || !highest.is_finite() {
        return first;
    }
    order.truncate(sampling.top_k.map_or(usize::MAX, |k| k.max(1) as usize));
    let weight =
        |index: &usize| ((f64::from(logits[*index]) - highest) / sampling.temperature).exp();
    let total: f64 = order.iter().map(weight).sum();
    let mut ticket = rng.random::<f64>() * total;
    for index in &order {
        ticket -= weight(index);
        if ticket < 0.0 {
            return *index;
        }
    }
    first
}
