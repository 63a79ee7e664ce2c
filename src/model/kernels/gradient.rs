//! Rows of the backward pass.

use super::{LANES, Set, Simd, dispatch, exp, madd, sum_lanes};

#[inline(always)]
fn add_scaled_body<const FUSED: bool>(x: &[f32], scale: f32, out: &mut [f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = madd::<FUSED>(*x, scale, *out);
    }
}

dispatch! {
    /// `out += scale · x`.
    pub fn add_scaled(x: &[f32], scale: f32, out: &mut [f32]) = add_scaled_body
}

/// The sum over rows of equal length of the products of `factors`, by lanes.
#[inline(always)]
fn dot<const FUSED: bool, const N: usize>(
    rows: [&[f32]; N],
    factors: impl Fn([f32; N]) -> (f32, f32),
) -> f32 {
    let mut lanes = [0.0; LANES];
    let count = rows[0].len() / LANES;
    let whole = rows.map(|row| &row.as_chunks::<LANES>().0[..count]);
    for chunk in 0..count {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            let (a, b) = factors(whole.map(|row| row[chunk][lane]));
            *sum = madd::<FUSED>(a, b, *sum);
        }
    }
    let rest = rows.map(|row| &row[count * LANES..]);
    for lane in 0..rest[0].len() {
        let (a, b) = factors(rest.map(|row| row[lane]));
        lanes[lane] = madd::<FUSED>(a, b, lanes[lane]);
    }
    sum_lanes(lanes)
}

#[inline(always)]
fn rms_norm_gradient_body<const FUSED: bool>(
    x: &[f32],
    gain: &[f32],
    epsilon: f32,
    grad: &[f32],
    x_grad: &mut [f32],
    gain_grad: &mut [f32],
) {
    let width = x.len();
    assert!(gain.len() == width && grad.len() == width);
    assert!(x_grad.len() == width && gain_grad.len() == width);
    let square = dot::<FUSED, 1>([x], |[x]| (x, x));
    let scale = 1.0 / (square / width as f32 + epsilon).sqrt();
    let inner = dot::<FUSED, 3>([grad, gain, x], |[grad, gain, x]| (grad * gain, x));
    let along = -inner * scale * scale * scale / width as f32;
    let results = x_grad.iter_mut().zip(gain_grad);
    for (((x_grad, gain_grad), x), (grad, gain)) in results.zip(x).zip(grad.iter().zip(gain)) {
        let value = grad * scale;
        *x_grad += madd::<FUSED>(value, *gain, along * x);
        *gain_grad = madd::<FUSED>(value, *x, *gain_grad);
    }
}

dispatch! {
    /// Backward of [`super::rms_norm`] on one row: adds to the gradients of `x` and of the gain what
    /// the gradient `grad` of its result contributes.
    pub fn rms_norm_gradient(
        x: &[f32], gain: &[f32], epsilon: f32, grad: &[f32],
        x_grad: &mut [f32], gain_grad: &mut [f32]
    ) = rms_norm_gradient_body
}

#[inline(always)]
fn swiglu_gradient_body<const FUSED: bool>(gate_up: &mut [f32], grad: &[f32]) {
    let (gate, up) = gate_up.split_at_mut(grad.len());
    for ((gate, up), grad) in gate.iter_mut().zip(up).zip(grad) {
        let sigmoid = 1.0 / (1.0 + exp::<FUSED>(-*gate));
        let silu = *gate * sigmoid;
        // d silu = σ + g·σ·(1 − σ) = σ + silu·(1 − σ).
        let gate_grad = *grad * *up * madd::<FUSED>(silu, 1.0 - sigmoid, sigmoid);
        *up = *grad * silu;
        *gate = gate_grad;
    }
}

dispatch! {
    /// Backward of [`super::swiglu`] on one row: replaces `[gate | up]` by their gradients.
    pub fn swiglu_gradient(gate_up: &mut [f32], grad: &[f32]) = swiglu_gradient_body
}

#[inline(always)]
fn softmax_gradient_body<const FUSED: bool>(weights: &[f32], scale: f32, grad: &mut [f32]) {
    assert_eq!(weights.len(), grad.len());
    let inner = dot::<FUSED, 2>([weights, grad], |[weight, grad]| (weight, grad));
    for (grad, weight) in grad.iter_mut().zip(weights) {
        *grad = (*grad - inner) * weight * scale;
    }
}

dispatch! {
    /// Backward of a softmax whose result is `weights`: replaces the gradient of the result by
    /// `scale` times the gradient of the scores.
    pub fn softmax_gradient(weights: &[f32], scale: f32, grad: &mut [f32]) = softmax_gradient_body
}
