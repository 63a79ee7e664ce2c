//! Arithmetic of the CPU, for decoding and training: rows of numbers.
//!
//! Every result element is one chain of additions in an order fixed by the shapes alone, so a
//! sequence's numbers do not depend on what else is in the batch, on how a prompt is fed, or on the
//! number of threads.

mod gradient;
mod matrix;
mod packed;
mod product;
mod tile;

use std::sync::OnceLock;

pub use gradient::{add_scaled, rms_norm_gradient, softmax_gradient, swiglu_gradient};
pub use matrix::{Precision, View};
pub use packed::Packed;
pub use product::multiply;

/// An instruction set that the kernels are written for. There is no value for one that the processor
/// lacks, so that whoever holds one may run its instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simd(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    /// AVX-512F, with AVX2 and FMA; `bf16` with AVX-512BW and AVX-512-BF16.
    #[cfg(target_arch = "x86_64")]
    Avx512 {
        bf16: bool,
    },
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Simd {
    /// What every processor has.
    pub const PORTABLE: Self = Self(Set::Portable);

    /// All that this processor has, the fastest first.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            if is_x86_feature_detected!("avx512f") {
                if is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw") {
                    all.push(Self(Set::Avx512 { bf16: true }));
                }
                all.push(Self(Set::Avx512 { bf16: false }));
            }
            all.push(Self(Set::Avx2));
        }
        all.push(Self::PORTABLE);
        all
    }

    /// Whether a product and a sum are rounded once, together. All sets that do so give the same
    /// bits.
    pub fn fused(self) -> bool {
        self != Self::PORTABLE
    }
}

/// The best one that this processor has.
pub fn simd() -> Simd {
    static SIMD: OnceLock<Simd> = OnceLock::new();
    *SIMD.get_or_init(|| Simd::all().first().copied().unwrap_or(Simd::PORTABLE))
}

/// Runs an elementwise or lane-ordered function body compiled for the processor at hand.
macro_rules! dispatch {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),*) $(-> $ret:ty)? = $body:ident) => {
        $(#[$doc])*
        $vis fn $name(simd: Simd, $($arg: $type),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx2,fma")]
                fn avx512($($arg: $type),*) $(-> $ret)? { $body::<true>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $type),*) $(-> $ret)? { $body::<true>($($arg),*) }
                match simd.0 {
                    // SAFETY: this `Simd` exists, so the processor has AVX-512F, AVX2 and FMA.
                    Set::Avx512 { .. } => return unsafe { avx512($($arg),*) },
                    // SAFETY: this `Simd` exists, so the processor has AVX2 and FMA.
                    Set::Avx2 => return unsafe { avx2($($arg),*) },
                    Set::Portable => {}
                }
            }
            let _ = simd;
            $body::<false>($($arg),*)
        }
    };
}

use dispatch;

/// a · b + c, fused where the processor does it in one instruction.
#[inline(always)]
fn madd<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// e^x to about 2 units in the last place; 0 below -87, finite above.
#[inline(always)]
fn exp<const FUSED: bool>(x: f32) -> f32 {
    // x = n·ln 2 + r with |r| ≤ ½ ln 2; e^r by its series; 2^n through the exponent bits. Rounding
    // through the constant 1.5·2²³ keeps everything in vector registers.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = madd::<FUSED>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = madd::<FUSED>(n, -0.693_145_75, x);
    let r = madd::<FUSED>(n, -1.428_606_8e-6, r);
    let p = madd::<FUSED>(1.388_889e-3, r, 8.333_334e-3);
    let p = madd::<FUSED>(p, r, 4.166_666_8e-2);
    let p = madd::<FUSED>(p, r, 1.666_666_7e-1);
    let p = madd::<FUSED>(p, r, 0.5);
    let p = madd::<FUSED>(p, r, 1.0);
    let p = madd::<FUSED>(p, r, 1.0);
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x <= -87.0 { 0.0 } else { p * power }
}

/// Lanes of every sum over a vector: element i goes to lane i mod 16, lanes are added at the end.
pub const LANES: usize = 16;

#[inline(always)]
fn sum_lanes(lanes: [f32; LANES]) -> f32 {
    let mut lanes = lanes;
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

/// The highest value; by lanes, since a plain fold is not vectorised.
#[inline(always)]
fn highest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    for (lane, value) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = *value;
    }
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    highest_lane(lanes)
}

#[inline(always)]
fn highest_lane(lanes: [f32; LANES]) -> f32 {
    let mut lanes = lanes;
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            let other = lanes[lane + half];
            lanes[lane] = if other > lanes[lane] { other } else { lanes[lane] };
        }
    }
    lanes[0]
}

#[inline(always)]
fn rms_norm_body<const FUSED: bool>(x: &[f32], gain: &[f32], epsilon: f32, out: &mut [f32]) {
    let mut lanes = [0.0; LANES];
    let chunks = x.chunks_exact(LANES);
    for (lane, value) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = value * value;
    }
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = madd::<FUSED>(value, value, *lane);
        }
    }
    let scale = 1.0 / (sum_lanes(lanes) / x.len() as f32 + epsilon).sqrt();
    for ((out, value), gain) in out.iter_mut().zip(x).zip(gain) {
        *out = value * scale * gain;
    }
}

dispatch! {
    /// Root-mean-square normalisation of one row: `out = x / rms(x) · gain`.
    pub fn rms_norm(x: &[f32], gain: &[f32], epsilon: f32, out: &mut [f32]) = rms_norm_body
}

#[inline(always)]
fn swiglu_body<const FUSED: bool>(gate_up: &[f32], out: &mut [f32]) {
    let (gate, up) = gate_up.split_at(out.len());
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = gate / (1.0 + exp::<FUSED>(-gate)) * up;
    }
}

dispatch! {
    /// `out = silu(gate) · up` for one row of `[gate | up]`.
    pub fn swiglu(gate_up: &[f32], out: &mut [f32]) = swiglu_body
}

#[inline(always)]
fn softmax_body<const FUSED: bool>(scores: &mut [f32]) -> f32 {
    let highest = highest(scores);
    for score in scores.iter_mut() {
        *score = exp::<FUSED>(*score - highest);
    }
    let mut lanes = [0.0; LANES];
    let chunks = scores.chunks_exact(LANES);
    lanes[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    sum_lanes(lanes)
}

dispatch! {
    /// Replaces scores by e^(score − highest) and returns their sum.
    pub fn softmax_sum(scores: &mut [f32]) -> f32 = softmax_body
}

#[inline(always)]
fn cross_entropy_body<const FUSED: bool>(
    target: u32,
    scale: Option<f32>,
    logits: &mut [f32],
) -> f64 {
    let target = target as usize;
    let chosen = logits[target] - highest(logits);
    let sum = softmax_body::<FUSED>(logits);
    if let Some(scale) = scale {
        let factor = scale / sum;
        logits.iter_mut().for_each(|value| *value *= factor);
        logits[target] -= scale;
    }
    f64::from(sum.ln()) - f64::from(chosen)
}

dispatch! {
    /// Cross-entropy of one row of logits, nats. With a `scale` the logits are replaced by `scale`
    /// times their gradient.
    pub fn cross_entropy(target: u32, scale: Option<f32>, logits: &mut [f32]) -> f64
        = cross_entropy_body
}

#[inline(always)]
fn scaled_softmax_body<const FUSED: bool>(scale: f32, scores: &mut [f32]) {
    let (vectors, rest) = scores.as_chunks_mut::<LANES>();
    assert!(rest.is_empty(), "no whole number of vectors");
    let mut highest = [f32::NEG_INFINITY; LANES];
    for scores in vectors.iter() {
        for (highest, score) in highest.iter_mut().zip(scores) {
            *highest = if *score > *highest { *score } else { *highest };
        }
    }
    let highest = highest_lane(highest) * scale;
    let mut sums = [0.0; LANES];
    for scores in vectors.iter_mut() {
        for (sum, score) in sums.iter_mut().zip(scores) {
            *score = exp::<FUSED>(madd::<FUSED>(*score, scale, -highest));
            *sum += *score;
        }
    }
    let factor = 1.0 / sum_lanes(sums);
    vectors.as_flattened_mut().iter_mut().for_each(|score| *score *= factor);
}

dispatch! {
    /// Replaces scores, a whole number of [`LANES`], by the softmax of `scale · score`, which is 0 where
    /// a score is negative infinity. The scale is positive.
    pub fn softmax(scale: f32, scores: &mut [f32]) = scaled_softmax_body
}

#[inline(always)]
fn scores_body<const FUSED: bool>(query: &[f32], keys: &[f32], stride: usize, scores: &mut [f32]) {
    for (scores, keys) in scores.chunks_mut(LANES).zip(keys.chunks(stride)) {
        let mut sums = [0.0; LANES];
        for (q, keys) in query.iter().zip(keys.as_chunks::<LANES>().0) {
            for (sum, key) in sums.iter_mut().zip(keys) {
                *sum = madd::<FUSED>(*q, *key, *sum);
            }
        }
        scores.copy_from_slice(&sums[..scores.len()]);
    }
}

dispatch! {
    /// Dot products of a query (already scaled) with the first `scores.len()` keys, which lie in blocks
    /// of [`LANES`] positions, each dimension by dimension:
    /// `keys[position / LANES · stride + d · LANES + position % LANES]`.
    pub fn scores(query: &[f32], keys: &[f32], stride: usize, scores: &mut [f32]) = scores_body
}

/// Dimensions whose sums stay in registers together.
const MIXED: usize = 2 * LANES;

#[inline(always)]
fn mix_body<const FUSED: bool>(
    weights: &[f32],
    scale: f32,
    values: &[f32],
    stride: usize,
    out: &mut [f32],
) {
    for (number, out) in out.chunks_mut(MIXED).enumerate() {
        let first = number * MIXED;
        let mut sums = [0.0; MIXED];
        // The same twice: only with a length that the compiler knows do the sums stay in registers.
        if out.len() == MIXED {
            for (weight, values) in weights.iter().zip(values.chunks(stride)) {
                for (sum, value) in sums.iter_mut().zip(&values[first..first + MIXED]) {
                    *sum = madd::<FUSED>(*weight, *value, *sum);
                }
            }
        } else {
            for (weight, values) in weights.iter().zip(values.chunks(stride)) {
                for (sum, value) in sums.iter_mut().zip(&values[first..first + out.len()]) {
                    *sum = madd::<FUSED>(*weight, *value, *sum);
                }
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = sum * scale;
        }
    }
}

dispatch! {
    /// `out = scale · Σ weight · value` over positions, whose values lie `stride` apart.
    pub fn mix(weights: &[f32], scale: f32, values: &[f32], stride: usize, out: &mut [f32])
        = mix_body
}

/// Asks the processor to bring numbers into its second cache, which they will be wanted from soon.
pub fn prefetch(values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(16) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint; it reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    let _ = values;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_true_one() {
        for step in -8700..8800 {
            let x = step as f32 / 100.0;
            let (ours, truth) = (exp::<false>(x), f64::from(x).exp());
            let error = (f64::from(ours) - truth).abs() / truth;
            assert!(error < 4e-7 || x <= -86.9, "exp({x}) = {ours}, not {truth}");
        }
        assert_eq!(exp::<false>(-1000.0), 0.0);
    }

    #[test]
    fn attention_is_that_of_plain_loops_to_the_bit() {
        let number = |i: usize| ((i * 7919) % 1000) as f32 / 500.0 - 1.0;
        for (size, heads, length) in [(32, 4, 33), (32, 1, 64), (16, 2, 100), (48, 3, 7usize)] {
            let (query, kv): (Vec<f32>, _) = ((0..size).map(number).collect(), heads * size);
            let stride = kv * LANES;
            let keys: Vec<f32> = (5..length.div_ceil(LANES) * stride + 5).map(number).collect();
            let values: Vec<f32> = (9..length * kv + 9).map(number).collect();
            for simd in Simd::all() {
                let at = if simd.fused() { kv - size } else { 0 };
                let madd =
                    |a: f32, b: f32, c: f32| if simd.fused() { a.mul_add(b, c) } else { a * b + c };
                let mut found = vec![9.0; length];
                scores(simd, &query, &keys[at * LANES..], stride, &mut found);
                for (position, found) in found.iter().enumerate() {
                    let start = position / LANES * stride + at * LANES + position % LANES;
                    let add = |sum, d: usize| madd(query[d], keys[start + d * LANES], sum);
                    assert_eq!(*found, (0..size).fold(0.0, add));
                }
                let mut mixed = vec![9.0; size];
                mix(simd, &found, 0.3, &values[at..], kv, &mut mixed);
                for (d, mixed) in mixed.iter().enumerate() {
                    let add = |sum, p: usize| madd(found[p], values[p * kv + at + d], sum);
                    assert_eq!(*mixed, (0..length).fold(0.0, add) * 0.3);
                }
            }
        }
    }

    /// Every kernel with `simd` on rows of odd lengths: what it leaves behind, bit by bit.
    fn results(simd: Simd, length: usize) -> Vec<u32> {
        let wave = |seed: f32| move |i: usize| (0.37 * i as f32 + seed).sin() * 3.0;
        let row = |seed: f32, length: usize| -> Vec<f32> { (0..length).map(wave(seed)).collect() };
        let (x, gain) = (row(1.0, length), row(2.0, length));
        let mut all = Vec::new();
        let mut normed = vec![0.0; length];
        rms_norm(simd, &x, &gain, 1e-5, &mut normed);
        let mut grad = (row(3.0, length), row(4.0, length));
        rms_norm_gradient(simd, &x, &gain, 1e-5, &row(5.0, length), &mut grad.0, &mut grad.1);
        let mut gate_up = row(6.0, 2 * length);
        let mut inner = vec![0.0; length];
        swiglu(simd, &gate_up, &mut inner);
        swiglu_gradient(simd, &mut gate_up, &row(7.0, length));
        let mut weights = row(8.0, length);
        let sum = softmax_sum(simd, &mut weights);
        let mut soft = row(9.0, length.next_multiple_of(LANES));
        soft[length..].fill(f32::NEG_INFINITY);
        softmax(simd, 0.5, &mut soft);
        let mut soft_grad = row(10.0, soft.len());
        softmax_gradient(simd, &soft, 0.5, &mut soft_grad);
        let mut logits = row(11.0, length);
        let loss = cross_entropy(simd, length as u32 / 2, Some(0.25), &mut logits);
        let mut added = row(12.0, length);
        add_scaled(simd, &x, 0.3, &mut added);
        let mut found = vec![0.0; length];
        let keys = row(13.0, length.next_multiple_of(LANES) * 8);
        scores(simd, &row(14.0, 8), &keys, 8 * LANES, &mut found);
        let mut mixed = vec![0.0; 37];
        mix(simd, &found, 0.3, &row(15.0, 40 * length), 40, &mut mixed);
        let packed = Packed::new(simd, length, 83, |i, o| wave(16.0)(83 * i + o));
        let mut products = vec![0.0; 83 * 7];
        packed.multiply(&row(17.0, 7 * length), &mut products, true);
        for values in [
            normed,
            grad.0,
            grad.1,
            inner,
            gate_up,
            weights,
            vec![sum],
            soft,
            soft_grad,
            logits,
            added,
            found,
            mixed,
            products,
        ] {
            all.extend(values.iter().map(|value| value.to_bits()));
        }
        all.extend([(loss.to_bits() >> 32) as u32, loss.to_bits() as u32]);
        all
    }

    /// A machine with AVX-512 and one with AVX2 alone compute the same; one without fused products
    /// and sums nearly so.
    #[test]
    fn instruction_sets_that_fuse_give_the_same_bits() {
        let all = Simd::all();
        assert_eq!((all[0], all.last()), (simd(), Some(&Simd::PORTABLE)));
        for length in [1, 5, 16, 33, 64, 131] {
            let fused = all.iter().filter(|simd| simd.fused()).map(|simd| results(*simd, length));
            let fused: Vec<Vec<u32>> = fused.collect();
            assert!(fused.windows(2).all(|pair| pair[0] == pair[1]), "length {length}");
        }
    }
}
