//! Products with a packed matrix: the decoder's, a few rows at a time.
//!
//! Vector units work on neighbouring *outputs*, never on one sum.

use rayon::prelude::*;

use super::Simd;

/// Columns of a panel: as many as one row of accumulators holds in registers.
fn panel_width(simd: Simd) -> usize {
    match simd {
        Simd::Avx512 => 64,
        Simd::Avx2 => 16,
        Simd::Portable => PORTABLE,
    }
}

const PORTABLE: usize = 16;

/// Rows that share one pass over a panel: as many as have accumulators in registers.
const ROWS: usize = 6;

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

    /// `out[r] = x[r] · W` for every row; `x` is `[rows, inputs]`, `out` `[rows, outputs]`. If `shared`,
    /// threads share a large product.
    pub fn multiply(&self, x: &[f32], out: &mut [f32], shared: bool) {
        let rows = x.len() / self.inputs;
        debug_assert_eq!(out.len(), rows * self.outputs);
        let target = Target { out: out.as_mut_ptr(), stride: self.outputs };
        let panels = self.outputs.div_ceil(self.width);
        let work = rows * self.inputs * self.outputs;
        if shared && work >= PARALLEL_FROM && rayon::current_num_threads() > 1 {
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
        for row in (0..rows).step_by(ROWS) {
            let count = ROWS.min(rows - row);
            let inputs = &x[row * self.inputs..(row + count) * self.inputs];
            let start = row * target.stride + first;
            if columns == self.width {
                // SAFETY: rows and columns lie inside `out` (checked by `multiply`), and no other
                // panel writes these columns.
                let out = unsafe { target.out.add(start) };
                self.block(inputs, count, weights, out, target.stride);
                continue;
            }
            let mut sums = [0.0f32; 64 * ROWS];
            self.block(inputs, count, weights, sums.as_mut_ptr(), self.width);
            for (offset, sums) in sums.chunks_exact(self.width).take(count).enumerate() {
                // SAFETY: as above.
                unsafe {
                    let out = target.out.add(start + offset * target.stride);
                    std::ptr::copy_nonoverlapping(sums.as_ptr(), out, columns);
                }
            }
        }
    }

    /// `out[r · stride + c] = Σ_k x[r][k] · weights[k][c]`, k ascending, for 1 to [`ROWS`] rows and
    /// the columns of a panel. `out` must have room for them, and nobody else may use it.
    fn block(&self, x: &[f32], rows: usize, weights: &[f32], out: *mut f32, stride: usize) {
        debug_assert!(x.len() >= rows * self.inputs && weights.len() >= self.width * self.inputs);
        // SAFETY: `simd()` found the features; the slices have the lengths that the kernels read, and
        // `out` has room by the caller's promise.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            use x86::{block256, block512};
            let k = self.inputs;
            match (self.simd, rows) {
                (Simd::Avx512, 1) => return block512::<1>(x, k, weights, out, stride),
                (Simd::Avx512, 2) => return block512::<2>(x, k, weights, out, stride),
                (Simd::Avx512, 3) => return block512::<3>(x, k, weights, out, stride),
                (Simd::Avx512, 4) => return block512::<4>(x, k, weights, out, stride),
                (Simd::Avx512, 5) => return block512::<5>(x, k, weights, out, stride),
                (Simd::Avx512, _) => return block512::<ROWS>(x, k, weights, out, stride),
                (Simd::Avx2, 1) => return block256::<1>(x, k, weights, out, stride),
                (Simd::Avx2, 2) => return block256::<2>(x, k, weights, out, stride),
                (Simd::Avx2, 3) => return block256::<3>(x, k, weights, out, stride),
                (Simd::Avx2, 4) => return block256::<4>(x, k, weights, out, stride),
                (Simd::Avx2, 5) => return block256::<5>(x, k, weights, out, stride),
                (Simd::Avx2, _) => return block256::<ROWS>(x, k, weights, out, stride),
                (Simd::Portable, _) => {}
            }
        }
        for row in 0..rows {
            let mut sums = [0.0; PORTABLE];
            let x = &x[row * self.inputs..(row + 1) * self.inputs];
            for (x, weights) in x.iter().zip(weights.chunks_exact(PORTABLE)) {
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += x * weight;
                }
            }
            // SAFETY: by the caller's promise.
            unsafe {
                std::ptr::copy_nonoverlapping(sums.as_ptr(), out.add(row * stride), PORTABLE);
            }
        }
    }
}

/// Destination of panels that are computed by several threads: each writes its own columns.
struct Target {
    out: *mut f32,
    stride: usize,
}

// SAFETY: threads write disjoint columns.
unsafe impl Sync for Target {}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// Rows of 64 columns, in four registers each.
    ///
    /// # Safety
    /// Needs AVX-512F; `x` holds `R · inputs` values, `weights` `64 · inputs`; `out` has room for 64
    /// values in each of `R` rows that begin `stride` apart.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn block512<const R: usize>(
        x: &[f32],
        inputs: usize,
        weights: &[f32],
        out: *mut f32,
        stride: usize,
    ) {
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
        for (r, acc) in acc.into_iter().enumerate() {
            for (column, acc) in acc.into_iter().enumerate() {
                // SAFETY: by the caller.
                unsafe { _mm512_storeu_ps(out.add(r * stride + 16 * column), acc) };
            }
        }
    }

    /// Rows of 16 columns, in two registers each.
    ///
    /// # Safety
    /// Needs AVX2 and FMA; `x` holds `R · inputs` values, `weights` `16 · inputs`; `out` has room for
    /// 16 values in each of `R` rows that begin `stride` apart.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn block256<const R: usize>(
        x: &[f32],
        inputs: usize,
        weights: &[f32],
        out: *mut f32,
        stride: usize,
    ) {
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
        for (r, acc) in acc.into_iter().enumerate() {
            for (column, acc) in acc.into_iter().enumerate() {
                // SAFETY: by the caller.
                unsafe { _mm256_storeu_ps(out.add(r * stride + 8 * column), acc) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd;
    use super::*;

    #[test]
    fn products_do_not_depend_on_the_rows_beside_them() {
        for simd in [simd(), Simd::Portable] {
            let packed = Packed::new(simd, 37, 83, |i, o| ((i * 83 + o) as f32).sin());
            let x: Vec<f32> = (0..37 * 11).map(|i| (i as f32).cos()).collect();
            let mut all = vec![0.0; 83 * 11];
            packed.multiply(&x, &mut all, true);
            for row in 0..11 {
                let mut one = vec![0.0; 83];
                let x = &x[row * 37..(row + 1) * 37];
                packed.multiply(x, &mut one, false);
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
