//! Products with a packed matrix: the decoder's, a few rows at a time.
//!
//! Vector units work on neighbouring *outputs*, never on one sum.

use rayon::prelude::*;

use super::{Set, Simd};

/// Columns of a panel: as many as one row of accumulators holds in registers.
fn panel_width(simd: Simd) -> usize {
    match simd.0 {
        #[cfg(target_arch = "x86_64")]
        Set::Avx512 => 64,
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => 16,
        Set::Portable => PORTABLE,
    }
}

const PORTABLE: usize = 16;
/// The widest panel.
const WIDEST: usize = 64;

/// Rows that share one pass over a panel: as many as have accumulators in registers.
const ROWS: usize = 6;

/// Multiplications below which a product stays on one thread.
const PARALLEL_FROM: usize = 1 << 20;

/// A matrix `[inputs, outputs]` in panels of neighbouring outputs: panel p holds, for each input,
/// the weights of `width` outputs side by side, padded with zeros.
#[derive(Clone, Debug)]
pub struct Packed {
    inputs: usize,
    outputs: usize,
    width: usize,
    simd: Simd,
    panels: Vec<f32>,
}

impl Packed {
    /// Packs `weight(input, output)`.
    ///
    /// # Panics
    /// If there is no input.
    pub fn new(
        simd: Simd,
        inputs: usize,
        outputs: usize,
        weight: impl Fn(usize, usize) -> f32,
    ) -> Self {
        assert!(inputs > 0, "a matrix without inputs");
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

    /// Width of a row that goes in.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Width of a row that comes out.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `out[r] = x[r] · W` for every row; `x` is `[rows, inputs]`, `out` `[rows, outputs]`. If `shared`,
    /// threads share a large product.
    ///
    /// # Panics
    /// If `x` is no whole number of rows, or `out` has not as many.
    pub fn multiply(&self, x: &[f32], out: &mut [f32], shared: bool) {
        let rows = x.len() / self.inputs;
        assert!(
            x.len() == rows * self.inputs && out.len() == rows * self.outputs,
            "{} values in, {} out, for a matrix [{}, {}]",
            x.len(),
            out.len(),
            self.inputs,
            self.outputs
        );
        let target = Target { out: out.as_mut_ptr(), stride: self.outputs };
        let panels = self.outputs.div_ceil(self.width);
        let work = rows * self.inputs * self.outputs;
        // SAFETY: `out` has `rows` rows of `outputs` values (checked above) and is borrowed
        // exclusively; every panel is taken once.
        let panel = |panel: usize| unsafe { self.panel(panel, x, rows, &target) };
        if shared && work >= PARALLEL_FROM && rayon::current_num_threads() > 1 {
            (0..panels).into_par_iter().for_each(panel);
        } else {
            (0..panels).for_each(panel);
        }
    }

    /// The columns of one panel, for all rows.
    ///
    /// # Safety
    /// `target` has room for `rows` rows of `outputs` values, and nobody else uses the columns of this
    /// panel meanwhile.
    unsafe fn panel(&self, panel: usize, x: &[f32], rows: usize, target: &Target) {
        let size = self.inputs * self.width;
        let weights = &self.panels[panel * size..(panel + 1) * size];
        let first = panel * self.width;
        let columns = self.width.min(self.outputs - first);
        for row in (0..rows).step_by(ROWS) {
            let count = ROWS.min(rows - row);
            let inputs = &x[row * self.inputs..(row + count) * self.inputs];
            let start = row * target.stride + first;
            if columns == self.width {
                // SAFETY: rows `row` to `row + count` and all columns of the panel lie inside the
                // target, which is this panel's by the caller's promise; `inputs` and `weights` are
                // cut to size.
                unsafe {
                    let out = target.out.add(start);
                    self.block(inputs, count, weights, out, target.stride);
                }
                continue;
            }
            let mut sums = [0.0f32; WIDEST * ROWS];
            // SAFETY: `sums` has room for as many rows of the widest panel; the slices are cut to
            // size.
            unsafe { self.block(inputs, count, weights, sums.as_mut_ptr(), self.width) };
            for (offset, sums) in sums.chunks_exact(self.width).take(count).enumerate() {
                // SAFETY: the first `columns` columns of the panel lie inside the target, as above.
                unsafe {
                    let out = target.out.add(start + offset * target.stride);
                    std::ptr::copy_nonoverlapping(sums.as_ptr(), out, columns);
                }
            }
        }
    }

    /// `out[r · stride + c] = Σ_k x[r][k] · weights[k][c]`, k ascending, for the columns of a panel.
    ///
    /// # Safety
    /// `rows` is 1 to [`ROWS`]; `x` holds `rows · inputs` values and `weights` `inputs · width`; `out`
    /// has room for `width` values in each of `rows` rows that begin `stride` apart, and nobody else
    /// uses them.
    unsafe fn block(&self, x: &[f32], rows: usize, weights: &[f32], out: *mut f32, stride: usize) {
        // SAFETY: `self.simd` exists, so the processor has its instructions; the panel has the width
        // of the kernel; sizes and `out` are as they must be by the caller's promise.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            use x86::{block256, block512};
            let k = self.inputs;
            match (self.simd.0, rows) {
                (Set::Avx512, 1) => return block512::<1>(x, k, weights, out, stride),
                (Set::Avx512, 2) => return block512::<2>(x, k, weights, out, stride),
                (Set::Avx512, 3) => return block512::<3>(x, k, weights, out, stride),
                (Set::Avx512, 4) => return block512::<4>(x, k, weights, out, stride),
                (Set::Avx512, 5) => return block512::<5>(x, k, weights, out, stride),
                (Set::Avx512, _) => return block512::<ROWS>(x, k, weights, out, stride),
                (Set::Avx2, 1) => return block256::<1>(x, k, weights, out, stride),
                (Set::Avx2, 2) => return block256::<2>(x, k, weights, out, stride),
                (Set::Avx2, 3) => return block256::<3>(x, k, weights, out, stride),
                (Set::Avx2, 4) => return block256::<4>(x, k, weights, out, stride),
                (Set::Avx2, 5) => return block256::<5>(x, k, weights, out, stride),
                (Set::Avx2, _) => return block256::<ROWS>(x, k, weights, out, stride),
                (Set::Portable, _) => {}
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

// SAFETY: `multiply` gives every panel to one thread, and a panel writes its own columns only.
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
    use super::*;

    #[test]
    fn products_do_not_depend_on_the_rows_beside_them() {
        for simd in Simd::all() {
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

    /// Writing beyond `out` or reading beyond `x` must be impossible, in a release build too.
    #[test]
    fn slices_of_other_sizes_are_refused() {
        for simd in Simd::all() {
            let packed = Packed::new(simd, 5, 70, |_, _| 1.0);
            for (values, results) in [(10, 139), (10, 141), (11, 140), (4, 0), (0, 1), (5, 0)] {
                let refused = std::panic::catch_unwind(|| {
                    packed.multiply(&vec![1.0; values], &mut vec![0.0; results], false);
                });
                assert!(refused.is_err(), "{values} {results}");
            }
            let mut out = vec![0.0; 140];
            packed.multiply(&[1.0; 10], &mut out, false);
            assert_eq!(out, [5.0; 140]);
            packed.multiply(&[], &mut [], true);
        }
        assert!(
            std::panic::catch_unwind(|| Packed::new(Simd::PORTABLE, 0, 3, |_, _| 1.0)).is_err()
        );
    }
}
