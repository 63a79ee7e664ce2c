//! Arithmetic of the CPU decoder.
//!
//! Every result element is one chain of additions in an order fixed by the shapes alone, so a
//! sequence's numbers do not depend on what else is in the batch, on how a prompt is fed, or on the
//! number of threads. Vector units work on neighbouring *outputs*, never on one sum.

use std::sync::OnceLock;

use rayon::prelude::*;

/// Instruction sets that the kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Simd {
    Avx512,
    Avx2,
    Portable,
}

/// The best one that this processor has.
pub fn simd() -> Simd {
    static SIMD: OnceLock<Simd> = OnceLock::new();
    *SIMD.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return Simd::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Simd::Avx2;
            }
        }
        Simd::Portable
    })
}

/// Columns of a panel: as many as one row of accumulators holds in registers.
fn panel_width(simd: Simd) -> usize {
    match simd {
        Simd::Avx512 => 64,
        Simd::Avx2 | Simd::Portable => 16,
    }
}

/// Rows that share one pass over a panel.
const ROWS: usize = 4;

/// Multiplications below which a product stays on one thread.
const PARALLEL_FROM: usize = 1 << 20;

/// A matrix `[inputs, outputs]` in panels of neighbouring outputs: panel p holds, for each input,
/// the weights of `width` outputs side by side, padded with zeros.
#[derive(Clone, Debug)]
pub struct Packed {
    pub inputs: usize,
    pub outputs: usize,
    width: usize,
    simd: Simd,
    panels: Vec<f32>,
}

impl Packed {
    /// Packs `weight(input, output)`.
    pub fn new(
        simd: Simd,
        inputs: usize,
        outputs: usize,
        weight: impl Fn(usize, usize) -> f32,
    ) -> Self {
        let width = panel_width(simd);
        let mut panels = vec![0.0; outputs.div_ceil(width) * inputs * width];
        for (panel, values) in panels.chunks_exact_mut(inputs * width).enumerate() {
            for (input, row) in values.chunks_exact_mut(width).enumerate() {
                for (column, value) in row.iter_mut().enumerate() {
                    let output = panel * width + column;
                    if output < outputs {
                        *value = weight(input, output);
                    }
                }
            }
        }
        Self { inputs, outputs, width, simd, panels }
    }

    /// `out[r] = x[r] · W` for every row; `x` is `[rows, inputs]`, `out` `[rows, outputs]`.
    pub fn multiply(&self, x: &[f32], out: &mut [f32]) {
        let rows = x.len() / self.inputs;
        debug_assert_eq!(out.len(), rows * self.outputs);
        let target = Target { out: out.as_mut_ptr(), stride: self.outputs };
        let panels = self.outputs.div_ceil(self.width);
        let work = rows * self.inputs * self.outputs;
        if work >= PARALLEL_FROM && rayon::current_num_threads() > 1 {
            (0..panels).into_par_iter().for_each(|panel| self.panel(panel, x, rows, &target));
        } else {
            (0..panels).for_each(|panel| self.panel(panel, x, rows, &target));
        }
    }

    fn panel(&self, panel: usize, x: &[f32], rows: usize, target: &Target) {
        let size = self.inputs * self.width;
        let weights = &self.panels[panel * size..(panel + 1) * size];
        let first = panel * self.width;
        let columns = self.width.min(self.outputs - first);
        let mut row = 0;
        while row < rows {
            let count = ROWS.min(rows - row);
            let mut sums = [[0.0f32; 64]; ROWS];
            let inputs = &x[row * self.inputs..(row + count) * self.inputs];
            multiply_block(self.simd, inputs, self.inputs, count, weights, &mut sums);
            for (offset, sums) in sums[..count].iter().enumerate() {
                // SAFETY: rows and columns lie inside `out` (checked by `multiply`), and no other
                // panel writes these columns.
                unsafe { target.write(row + offset, first, &sums[..columns]) };
            }
            row += count;
        }
    }
}

/// Destination of panels that are computed by several threads: each writes its own columns.
struct Target {
    out: *mut f32,
    stride: usize,
}

// SAFETY: threads write disjoint columns through `write`.
unsafe impl Sync for Target {}

impl Target {
    /// # Safety
    /// `row` and the columns from `first` must lie inside the matrix, and nobody else may use them.
    unsafe fn write(&self, row: usize, first: usize, values: &[f32]) {
        let start = row * self.stride + first;
        // SAFETY: by the caller.
        unsafe {
            std::ptr::copy_nonoverlapping(values.as_ptr(), self.out.add(start), values.len());
        }
    }
}

/// `sums[r][c] = Σ_k x[r][k] · weights[k][c]`, k ascending, for 1 to [`ROWS`] rows.
fn multiply_block(
    simd: Simd,
    x: &[f32],
    inputs: usize,
    rows: usize,
    weights: &[f32],
    sums: &mut [[f32; 64]; ROWS],
) {
    #[cfg(target_arch = "x86_64")]
    match (simd, rows) {
        // SAFETY: `simd()` found the features; slices have the lengths that the kernels read.
        (Simd::Avx512, 1) => return unsafe { x86::block512::<1>(x, inputs, weights, sums) },
        (Simd::Avx512, 2) => return unsafe { x86::block512::<2>(x, inputs, weights, sums) },
        (Simd::Avx512, 3) => return unsafe { x86::block512::<3>(x, inputs, weights, sums) },
        (Simd::Avx512, _) => return unsafe { x86::block512::<4>(x, inputs, weights, sums) },
        (Simd::Avx2, 1) => return unsafe { x86::block256::<1>(x, inputs, weights, sums) },
        (Simd::Avx2, 2) => return unsafe { x86::block256::<2>(x, inputs, weights, sums) },
        (Simd::Avx2, 3) => return unsafe { x86::block256::<3>(x, inputs, weights, sums) },
        (Simd::Avx2, _) => return unsafe { x86::block256::<4>(x, inputs, weights, sums) },
        (Simd::Portable, _) => {}
    }
    let _ = simd;
    for (row, sums) in sums[..rows].iter_mut().enumerate() {
        let x = &x[row * inputs..(row + 1) * inputs];
        for (x, weights) in x.iter().zip(weights.chunks_exact(16)) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum += x * weight;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::ROWS;

    /// Rows of 64 columns, in four registers each.
    ///
    /// # Safety
    /// Needs AVX-512F; `x` holds `R · inputs` values, `weights` `64 · inputs`.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn block512<const R: usize>(
        x: &[f32],
        inputs: usize,
        weights: &[f32],
        sums: &mut [[f32; 64]; ROWS],
    ) {
        debug_assert!(x.len() >= R * inputs && weights.len() >= 64 * inputs && R <= ROWS);
        let mut acc = [[_mm512_setzero_ps(); 4]; R];
        let (x, w) = (x.as_ptr(), weights.as_ptr());
        for k in 0..inputs {
            // SAFETY: k < inputs, so all reads are inside the slices.
            unsafe {
                let w = w.add(64 * k);
                let w = [0, 16, 32, 48].map(|column| _mm512_loadu_ps(w.add(column)));
                for (r, acc) in acc.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*x.add(r * inputs + k));
                    for (acc, w) in acc.iter_mut().zip(w) {
                        *acc = _mm512_fmadd_ps(x, w, *acc);
                    }
                }
            }
        }
        for (sums, acc) in sums.iter_mut().zip(acc) {
            for (sums, acc) in sums.chunks_exact_mut(16).zip(acc) {
                // SAFETY: 16 values each.
                unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), acc) };
            }
        }
    }

    /// Rows of 16 columns, in two registers each.
    ///
    /// # Safety
    /// Needs AVX2 and FMA; `x` holds `R · inputs` values, `weights` `16 · inputs`.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn block256<const R: usize>(
        x: &[f32],
        inputs: usize,
        weights: &[f32],
        sums: &mut [[f32; 64]; ROWS],
    ) {
        debug_assert!(x.len() >= R * inputs && weights.len() >= 16 * inputs && R <= ROWS);
        let mut acc = [[_mm256_setzero_ps(); 2]; R];
        let (x, w) = (x.as_ptr(), weights.as_ptr());
        for k in 0..inputs {
            // SAFETY: k < inputs, so all reads are inside the slices.
            unsafe {
                let w = w.add(16 * k);
                let w = [_mm256_loadu_ps(w), _mm256_loadu_ps(w.add(8))];
                for (r, acc) in acc.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*x.add(r * inputs + k));
                    for (acc, w) in acc.iter_mut().zip(w) {
                        *acc = _mm256_fmadd_ps(x, w, *acc);
                    }
                }
            }
        }
        for (sums, acc) in sums.iter_mut().zip(acc) {
            for (sums, acc) in sums.chunks_exact_mut(8).zip(acc) {
                // SAFETY: 8 values each.
                unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), acc) };
            }
        }
    }
}

/// Runs an elementwise or lane-ordered function body compiled for the processor at hand.
macro_rules! dispatch {
    ($(#[$doc:meta])* pub fn $name:ident($($arg:ident: $type:ty),*) $(-> $ret:ty)? = $body:ident) => {
        $(#[$doc])*
        pub fn $name(simd: Simd, $($arg: $type),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx2,fma")]
                fn avx512($($arg: $type),*) $(-> $ret)? { $body::<true>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $type),*) $(-> $ret)? { $body::<true>($($arg),*) }
                match simd {
                    // SAFETY: `simd()` found the features.
                    Simd::Avx512 => return unsafe { avx512($($arg),*) },
                    Simd::Avx2 => return unsafe { avx2($($arg),*) },
                    Simd::Portable => {}
                }
            }
            let _ = simd;
            $body::<false>($($arg),*)
        }
    };
}

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
const LANES: usize = 16;

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
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
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
fn scores_body<const FUSED: bool>(query: &[f32], keys: &[f32], stride: usize, scores: &mut [f32]) {
    scores.fill(0.0);
    let length = scores.len();
    for (q, keys) in query.iter().zip(keys.chunks(stride)) {
        for (score, key) in scores.iter_mut().zip(&keys[..length]) {
            *score = madd::<FUSED>(*q, *key, *score);
        }
    }
}

dispatch! {
    /// Dot products of a query (already scaled) with the first `scores.len()` keys, which lie
    /// dimension by dimension (`keys[d · stride + position]`).
    pub fn scores(query: &[f32], keys: &[f32], stride: usize, scores: &mut [f32]) = scores_body
}

#[inline(always)]
fn mix_body<const FUSED: bool>(weights: &[f32], scale: f32, values: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    for (weight, values) in weights.iter().zip(values.chunks_exact(out.len())) {
        for (out, value) in out.iter_mut().zip(values) {
            *out = madd::<FUSED>(*weight, *value, *out);
        }
    }
    for out in out {
        *out *= scale;
    }
}

dispatch! {
    /// `out = scale · Σ weight · value` over positions; values lie position by position.
    pub fn mix(weights: &[f32], scale: f32, values: &[f32], out: &mut [f32]) = mix_body
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
    fn products_do_not_depend_on_the_rows_beside_them() {
        for simd in [simd(), Simd::Portable] {
            let packed = Packed::new(simd, 37, 83, |i, o| ((i * 83 + o) as f32).sin());
            let x: Vec<f32> = (0..37 * 9).map(|i| (i as f32).cos()).collect();
            let mut all = vec![0.0; 83 * 9];
            packed.multiply(&x, &mut all);
            for row in 0..9 {
                let mut one = vec![0.0; 83];
                let x = &x[row * 37..(row + 1) * 37];
                packed.multiply(x, &mut one);
                assert_eq!(one, all[row * 83..(row + 1) * 83]);
                for (output, &value) in one.iter().enumerate() {
                    let term =
                        |i: usize| f64::from(((i * 83 + output) as f32).sin()) * f64::from(x[i]);
                    let truth: f64 = (0..37).map(term).sum();
                    assert!((f64::from(value) - truth).abs() < 1e-4);
                }
            }
        }
    }
}
