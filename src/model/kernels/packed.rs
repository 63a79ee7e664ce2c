//! Products with a matrix that is packed once and used often: the decoder's weights, a few rows at a
//! time, and the keys and values of attention in training.
//!
//! Vector units work on neighbouring *outputs*, never on one sum.

use std::ops::Range;

use rayon::prelude::*;

use super::matrix::{Precision, View};
use super::product;
use super::tile::{self, Target};
use super::{LANES, Simd};

/// Multiplications below which a product stays on one thread.
const PARALLEL_FROM: usize = 1 << 20;

/// A matrix `[inputs, outputs]` in panels of neighbouring outputs: each holds, for each input, the
/// weights of its outputs side by side; the last one is padded with zeros.
#[derive(Clone, Debug)]
pub struct Packed {
    inputs: usize,
    outputs: usize,
    simd: Simd,
    panels: Vec<f32>,
}

impl Default for Packed {
    /// A matrix without rows and columns.
    fn default() -> Self {
        Self { inputs: 0, outputs: 0, simd: Simd::PORTABLE, panels: Vec::new() }
    }
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
        let panels = vec![0.0; outputs.next_multiple_of(tile::VECTOR) * inputs];
        let mut packed = Self { inputs, outputs, simd, panels };
        for first in (0..outputs).step_by(tile::full_width(simd)) {
            let (places, width) = packed.place(first);
            for (input, row) in packed.panels[places].chunks_exact_mut(width).enumerate() {
                for (value, output) in row.iter_mut().zip(first..outputs) {
                    *value = weight(input, output);
                }
            }
        }
        packed
    }

    /// Packs another matrix in place of the one before, in its memory.
    pub fn pack(&mut self, simd: Simd, matrix: View<'_>) {
        (self.inputs, self.outputs, self.simd) = (matrix.rows(), matrix.columns(), simd);
        self.panels.resize(self.inputs * self.outputs.next_multiple_of(tile::VECTOR), 0.0);
        for first in (0..self.outputs).step_by(tile::full_width(self.simd)) {
            let (places, width) = self.place(first);
            product::pack(self.simd, matrix, first, width, &mut self.panels[places]);
        }
    }

    /// `out = a · W` with the first `outputs` columns of W, and as many of its rows as `a` has columns;
    /// `out` has `stride` elements from row to row. Columns after the last one, up to a multiple of
    /// [`LANES`], are zeros.
    ///
    /// # Panics
    /// If W has fewer rows or columns, or `out` not the room.
    pub fn product(&self, out: &mut [f32], stride: usize, a: View<'_>, outputs: usize) {
        assert!(a.columns() <= self.inputs && outputs <= self.outputs.next_multiple_of(LANES));
        assert!(
            outputs <= stride && (a.rows() * stride).saturating_sub(stride - outputs) <= out.len()
        );
        for first in (0..outputs).step_by(tile::full_width(self.simd)) {
            let (places, width) = self.place(first);
            let panel = &self.panels[places][..a.columns() * width];
            let columns = width.min(outputs - first);
            let target = Target { out: out[first..].as_mut_ptr(), stride, columns };
            // SAFETY: `out` is borrowed exclusively and has room for as many rows of `outputs` values
            // (checked above), of which these begin at `first`.
            unsafe {
                tile::multiply(self.simd, Precision::F32, a, panel, width, target, false);
            }
        }
    }

    /// Where the panel lies that begins with output `first`, and its width.
    fn place(&self, first: usize) -> (Range<usize>, usize) {
        let width = tile::width(self.simd, self.outputs - first);
        (first * self.inputs..(first + width) * self.inputs, width)
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
        let out = Shared(out.as_mut_ptr());
        let panel = |number: usize| {
            let first = number * tile::full_width(self.simd);
            let (places, width) = self.place(first);
            let columns = width.min(self.outputs - first);
            let (x, panel) = (View::new(x, rows, self.inputs), &self.panels[places]);
            // SAFETY: `out` has `rows` rows of `outputs` values (checked above) and is borrowed
            // exclusively; every panel is taken once and has columns of its own, from `first` on.
            unsafe {
                let target = Target { out: out.from(first), stride: self.outputs, columns };
                tile::multiply(self.simd, Precision::F32, x, panel, width, target, false);
            }
        };
        let panels = self.outputs.div_ceil(tile::full_width(self.simd));
        let work = rows * self.inputs * self.outputs;
        if shared && work >= PARALLEL_FROM && rayon::current_num_threads() > 1 {
            (0..panels).into_par_iter().for_each(panel);
        } else {
            (0..panels).for_each(panel);
        }
    }
}

/// Results that several threads write, each in columns of its own.
struct Shared(*mut f32);

impl Shared {
    /// # Safety
    /// The place lies inside the results.
    unsafe fn from(&self, index: usize) -> *mut f32 {
        // SAFETY: by the caller.
        unsafe { self.0.add(index) }
    }
}

// SAFETY: `multiply` gives every panel to one thread, and a panel writes its own columns only.
unsafe impl Sync for Shared {}

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
