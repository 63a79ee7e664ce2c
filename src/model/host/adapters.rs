//! Low-rank adapters in the training pass: forward, and the gradients of A and B.

use crate::model::kernels::{Precision, Simd, View, multiply};
use crate::model::lora::Lora;
use crate::model::transformer::Place;

/// Adapters during one step.
#[derive(Clone, Copy)]
pub struct Adapters<'a> {
    pub simd: Simd,
    pub lora: &'a Lora,
    /// Key of the step's dropout; without one nothing is left out.
    pub dropout: Option<u64>,
}

/// Memory for adapters.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The input with its dropout, `[rows, in]`.
    dropped: Vec<f32>,
    /// `[rows, rank]`.
    low: Vec<f32>,
    low_grad: Vec<f32>,
    /// Gradient of the dropped input, `[rows, in]`.
    wide: Vec<f32>,
}

/// Which inputs of an adapter are kept: a function of their address, so that the backward pass sees
/// the same ones without storing them, on any number of threads.
#[derive(Clone, Copy)]
struct Mask {
    key: u64,
    /// Draws below this, of 2²⁴, are left out.
    below: u64,
    /// What the others are multiplied with: 1 / (1 − dropout).
    factor: f32,
}

impl Mask {
    fn at(self, index: usize) -> f32 {
        let draw = mixed(self.key ^ index as u64) >> 40;
        if draw < self.below { 0.0 } else { self.factor }
    }
}

/// A bijection whose results look random: the finaliser of SplitMix64 (Steele et al. 2014).
pub fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Adapters<'_> {
    /// The mask of adapter `number` in chunk `chunk`.
    fn mask(&self, number: usize, chunk: usize) -> Option<Mask> {
        let share = self.lora.config().dropout;
        let key = self.dropout.filter(|_| share > 0.0)?;
        let key = mixed(mixed(key ^ number as u64) ^ chunk as u64);
        let below = (f64::from(share) * f64::from(1 << 24)) as u64;
        Some(Mask { key, below, factor: 1.0 / (1.0 - share) })
    }

    /// Adds to `out` what the adapters of a parameter make of its input `x`.
    pub fn forward(
        &self,
        parameter: usize,
        chunk: usize,
        x: &[f32],
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        for (number, adapter) in self.lora.on(parameter) {
            let Place { inputs, column, stride, .. } = adapter.place;
            let rows = x.len() / inputs;
            if rows == 0 {
                continue;
            }
            let mask = self.mask(number, chunk);
            self.lower(number, mask, x, scratch);
            let [_, b] = self.lora.matrices(number);
            let low = View::new(&scratch.low, rows, self.lora.config().rank);
            multiply(self.simd, Precision::F32, &mut out[column..], stride, low, b, true);
        }
    }

    /// Puts the input with its dropout and, scaled, its product with A into `scratch`.
    fn lower(&self, number: usize, mask: Option<Mask>, x: &[f32], scratch: &mut Scratch) {
        let [a, _] = self.lora.matrices(number);
        let rank = self.lora.config().rank;
        let Scratch { dropped, low, .. } = scratch;
        dropped.clear();
        match mask {
            None => dropped.extend_from_slice(x),
            Some(mask) => {
                dropped.extend(x.iter().enumerate().map(|(index, value)| value * mask.at(index)));
            }
        }
        let rows = x.len() / a.rows();
        low.resize(rows * rank, 0.0);
        multiply(
            self.simd,
            Precision::F32,
            low,
            rank,
            View::new(dropped, rows, a.rows()),
            a,
            false,
        );
        let scale = self.lora.scale();
        low.iter_mut().for_each(|value| *value *= scale);
    }

    /// Adds the gradients of A and B to `gradients` and that of the input to `x_grad`; `grad` is
    /// the gradient of the parameter's output.
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        &self,
        parameter: usize,
        chunk: usize,
        x: &[f32],
        grad: &[f32],
        x_grad: &mut [f32],
        gradients: &mut [Vec<f32>],
        scratch: &mut Scratch,
    ) {
        let (rank, scale) = (self.lora.config().rank, self.lora.scale());
        for (number, adapter) in self.lora.on(parameter) {
            let Place { inputs, outputs, column, stride, .. } = adapter.place;
            let rows = x.len() / inputs;
            if rows == 0 {
                continue;
            }
            let mask = self.mask(number, chunk);
            self.lower(number, mask, x, scratch);
            let [a, b] = self.lora.matrices(number);
            let Scratch { dropped, low, low_grad, wide } = &mut *scratch;
            let grad = View::strided(&grad[column..], rows, outputs, stride);
            let low = View::new(low, rows, rank);
            multiply(
                self.simd,
                Precision::F32,
                &mut gradients[2 * number + 1],
                outputs,
                low.t(),
                grad,
                true,
            );
            low_grad.resize(rows * rank, 0.0);
            multiply(self.simd, Precision::F32, low_grad, rank, grad, b.t(), false);
            low_grad.iter_mut().for_each(|value| *value *= scale);
            let low_grad = View::new(low_grad, rows, rank);
            let dropped = View::new(dropped, rows, inputs);
            multiply(
                self.simd,
                Precision::F32,
                &mut gradients[2 * number],
                rank,
                dropped.t(),
                low_grad,
                true,
            );
            let Some(mask) = mask else {
                multiply(self.simd, Precision::F32, x_grad, inputs, low_grad, a.t(), true);
                continue;
            };
            wide.resize(rows * inputs, 0.0);
            multiply(self.simd, Precision::F32, wide, inputs, low_grad, a.t(), false);
            for (index, (out, grad)) in x_grad.iter_mut().zip(wide.iter()).enumerate() {
                *out += grad * mask.at(index);
            }
        }
    }
}
