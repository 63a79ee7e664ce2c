//! Matrices that lie in slices, and the number formats of their products.

use serde::{Deserialize, Serialize};

/// Number format of a network's products in training. Parameters and the optimiser's state are in f32
/// always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    #[default]
    F32,
    /// Factors are rounded to bf16; on the CPU sums stay in f32.
    Bf16,
}

impl Precision {
    /// For files, which leave the usual precision out.
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }
}

/// A matrix inside a slice; strides in elements.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
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

    pub fn columns(&self) -> usize {
        self.columns
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

    /// `count` rows from `first` on.
    pub fn part(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.rows, "rows {first} + {count} of {self:?}");
        // Of no rows or columns there may be no place to begin at.
        let start = if count * self.columns == 0 { 0 } else { first * self.row_stride };
        Self { data: &self.data[start..], rows: count, ..self }
    }

    /// The element at a place.
    pub fn at(&self, row: usize, column: usize) -> f32 {
        assert!(row < self.rows && column < self.columns, "{row}, {column} of {self:?}");
        self.data[row * self.row_stride + column * self.column_stride]
    }

    /// The first element, and the steps to the next row and column: every place inside can be read.
    pub fn raw(&self) -> (*const f32, usize, usize) {
        (self.data.as_ptr(), self.row_stride, self.column_stride)
    }
}

/// One past the last element of a matrix with unit column stride.
pub fn last_index(rows: usize, columns: usize, stride: usize) -> usize {
    if rows == 0 || columns == 0 { 0 } else { (rows - 1) * stride + columns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "View")]
    fn a_view_beyond_its_slice_is_refused() {
        View::strided(&[0.0; 11], 3, 4, 4);
    }
}
