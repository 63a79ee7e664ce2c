//! Products of matrices, for training: `gemm` behind views that know their bounds.

/// A matrix inside a slice; strides in elements.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    /// `[rows, columns]` with `stride` elements from one row to the next.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        let view = Self { data, rows, columns, row_stride: stride, column_stride: 1 };
        assert!(last_index(rows, columns, stride) <= data.len(), "{view:?}");
        view
    }

    /// `[rows, columns]` without gaps.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// One past the last element of a matrix with unit column stride.
fn last_index(rows: usize, columns: usize, stride: usize) -> usize {
    if rows == 0 || columns == 0 { 0 } else { (rows - 1) * stride + columns }
}

/// `out = a · b`, or `out += a · b` if `add`; `out` has `stride` elements from row to row. On the
/// calling thread alone, so that the bits depend on the shapes only.
pub fn multiply(out: &mut [f32], stride: usize, a: View<'_>, b: View<'_>, add: bool) {
    assert_eq!(a.columns, b.rows, "{a:?} · {b:?}");
    assert!(b.columns <= stride && last_index(a.rows, b.columns, stride) <= out.len());
    if a.rows == 0 || b.columns == 0 {
        return;
    }
    let sign = |stride: usize| stride as isize;
    // SAFETY: the views and `out` were checked to lie inside their slices, and `out` is borrowed
    // exclusively.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
            1,
            sign(stride),
            add,
            a.data.as_ptr(),
            sign(a.column_stride),
            sign(a.row_stride),
            b.data.as_ptr(),
            sign(b.column_stride),
            sign(b.row_stride),
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_views_are_those_of_their_elements() {
        let a: Vec<f32> = (0..40).map(|i| (i as f32).sin()).collect();
        let b: Vec<f32> = (0..40).map(|i| (i as f32).cos()).collect();
        // a: [3, 4] in rows of 6; b: the transpose of [5, 4] in rows of 7.
        let mut out = vec![1.0; 3 * 8];
        multiply(&mut out, 8, View::strided(&a, 3, 4, 6), View::strided(&b, 5, 4, 7).t(), true);
        for row in 0..3 {
            for column in 0..8 {
                let sum: f32 = (0..4).map(|k| a[row * 6 + k] * b[column.min(4) * 7 + k]).sum();
                let expected = if column < 5 { 1.0 + sum } else { 1.0 };
                assert!((out[row * 8 + column] - expected).abs() < 1e-5);
            }
        }
        multiply(&mut out, 8, View::strided(&a, 3, 4, 6), View::strided(&b, 5, 4, 7).t(), false);
        let sum: f32 = (0..4).map(|k| a[k] * b[k]).sum();
        assert!((out[0] - sum).abs() < 1e-5 && out[5] == 1.0);
    }

    #[test]
    #[should_panic(expected = "View")]
    fn a_view_beyond_its_slice_is_refused() {
        View::strided(&[0.0; 11], 3, 4, 4);
    }
}
