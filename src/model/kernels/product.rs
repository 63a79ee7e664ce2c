//! Products of matrices, for training.

use std::cell::RefCell;

#[cfg(target_arch = "x86_64")]
use super::Set;
use super::matrix::{Precision, View, last_index};
use super::tile::{self, Target};
use super::{Simd, dispatch};

/// Puts the columns of `b` from `first` on into a panel `[rows, width]`, zeros after the last one.
pub fn pack(simd: Simd, b: View<'_>, first: usize, width: usize, panel: &mut [f32]) {
    assert_eq!(panel.len(), b.rows * width);
    let columns = width.min(b.columns - first);
    if b.column_stride == 1 {
        for (k, row) in panel.chunks_exact_mut(width).enumerate() {
            let at = k * b.row_stride + first;
            let (full, rest) = row.split_at_mut(columns);
            full.copy_from_slice(&b.data[at..at + columns]);
            rest.fill(0.0);
        }
        return;
    }
    let b = b.t().part(first, columns);
    for column in (0..width).step_by(SQUARE) {
        let count = columns.saturating_sub(column).min(SQUARE);
        let whole = if count == SQUARE { b.columns / SQUARE * SQUARE } else { 0 };
        if whole > 0 {
            transpose(simd, b.part(column, SQUARE), whole, &mut panel[column..], width);
        }
        for (k, row) in panel.chunks_exact_mut(width).enumerate().skip(whole) {
            let row = &mut row[column..column + SQUARE];
            row[count..].fill(0.0);
            for (number, value) in row[..count].iter_mut().enumerate() {
                *value = b.at(column + number, k);
            }
        }
    }
}

/// Rows and columns that are transposed in registers together.
const SQUARE: usize = 8;

/// `out[k · width + r] = rows[r][k]` for [`SQUARE`] rows and the first `depth` columns, a multiple of it.
fn transpose(simd: Simd, rows: View<'_>, depth: usize, out: &mut [f32], width: usize) {
    assert!(rows.rows == SQUARE && depth.is_multiple_of(SQUARE) && depth <= rows.columns);
    assert!(rows.column_stride == 1 && last_index(depth, SQUARE, width) <= out.len());
    #[cfg(target_arch = "x86_64")]
    if simd.fused() {
        // SAFETY: sets that fuse have AVX2; the sizes are checked above.
        return unsafe { x86::transpose(rows, depth, out.as_mut_ptr(), width) };
    }
    let _ = simd;
    for k in 0..depth {
        for r in 0..SQUARE {
            out[k * width + r] = rows.at(r, k);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{SQUARE, View};

    /// Elements of a vector.
    const VECTOR: usize = 16;

    /// Pairs whole vectors of two rows; returns how many elements.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub fn pair_rows(low: &[f32], high: &[f32], out: &mut [f32]) -> usize {
        // The instruction puts its second factor's numbers first; they are then interleaved.
        let order: [u16; 32] = std::array::from_fn(|i| (i / 2 + i % 2 * VECTOR) as u16);
        // SAFETY: 32 numbers of two bytes.
        let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
        let rows = low.as_chunks::<VECTOR>().0.iter().zip(high.as_chunks::<VECTOR>().0);
        let mut done = 0;
        for ((low, high), out) in rows.zip(out.as_chunks_mut::<VECTOR>().0) {
            // SAFETY: each holds a vector; the types of a conversion's result have the same size.
            unsafe {
                let (low, high) = (_mm512_loadu_ps(low.as_ptr()), _mm512_loadu_ps(high.as_ptr()));
                let both: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
                let pairs = _mm512_permutexvar_epi16(order, both);
                _mm512_storeu_ps(out.as_mut_ptr(), _mm512_castsi512_ps(pairs));
            }
            done += VECTOR;
        }
        done
    }

    /// Pairs neighbours into whole vectors; returns how many pairs.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn pair_neighbours(row: &[f32], out: &mut [f32]) -> usize {
        let mut done = 0;
        let vectors = row.as_chunks::<{ 2 * VECTOR }>().0.iter();
        for (row, out) in vectors.zip(out.as_chunks_mut::<VECTOR>().0) {
            // SAFETY: `row` holds two vectors, `out` one; the types of a conversion's result have the
            // same size.
            unsafe {
                let low = _mm512_loadu_ps(row.as_ptr());
                let high = _mm512_loadu_ps(row.as_ptr().add(VECTOR));
                let pairs: __m512 = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
                _mm512_storeu_ps(out.as_mut_ptr(), pairs);
            }
            done += VECTOR;
        }
        done
    }

    /// # Safety
    /// Needs AVX2; `rows` has [`SQUARE`] rows without gaps, `depth` is a multiple of it and at most
    /// their columns; `out` has room for `depth` rows of eight values that begin `width` apart.
    #[target_feature(enable = "avx2")]
    pub unsafe fn transpose(rows: View<'_>, depth: usize, out: *mut f32, width: usize) {
        let (data, stride, _) = rows.raw();
        for k in (0..depth).step_by(SQUARE) {
            // SAFETY: the eight columns from `k` on are inside the view.
            let rows: [__m256; SQUARE] =
                std::array::from_fn(|r| unsafe { _mm256_loadu_ps(data.add(r * stride + k)) });
            // Pairs of rows, then fours, then the halves of eight.
            let mut twos = [_mm256_setzero_ps(); SQUARE];
            for i in (0..SQUARE).step_by(2) {
                twos[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
                twos[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
            }
            let mut fours = [_mm256_setzero_ps(); SQUARE];
            for half in [0, 4] {
                for i in 0..2 {
                    let (a, b) = (twos[half + i], twos[half + i + 2]);
                    fours[half + 2 * i] = _mm256_shuffle_ps::<0x44>(a, b);
                    fours[half + 2 * i + 1] = _mm256_shuffle_ps::<0xee>(a, b);
                }
            }
            for i in 0..4 {
                let (a, b) = (fours[i], fours[4 + i]);
                // SAFETY: rows `k + i` and `k + 4 + i` are below `depth`.
                unsafe {
                    let low = _mm256_permute2f128_ps::<0x20>(a, b);
                    _mm256_storeu_ps(out.add((k + i) * width), low);
                    let high = _mm256_permute2f128_ps::<0x31>(a, b);
                    _mm256_storeu_ps(out.add((k + 4 + i) * width), high);
                }
            }
        }
    }
}

#[inline(always)]
fn pair_rows_body<const FUSED: bool>(low: &[f32], high: &[f32], out: &mut [f32]) {
    for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
        *out = tile::pair(*low, *high);
    }
}

dispatch! {
    fn pair_rows_by_parts(low: &[f32], high: &[f32], out: &mut [f32]) = pair_rows_body
}

#[inline(always)]
fn pair_neighbours_body<const FUSED: bool>(row: &[f32], out: &mut [f32]) {
    for (out, [low, high]) in out.iter_mut().zip(row.as_chunks::<2>().0) {
        *out = tile::pair(*low, *high);
    }
}

dispatch! {
    fn pair_neighbours_by_parts(row: &[f32], out: &mut [f32]) = pair_neighbours_body
}

/// Pairs the elements of two rows.
fn pair_rows(simd: Simd, low: &[f32], high: &[f32], out: &mut [f32]) {
    assert!(low.len() == out.len() && high.len() == out.len());
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if simd.0 == (Set::Avx512 { bf16: true }) {
        // SAFETY: this `Simd` exists, so the processor has its instructions.
        done = unsafe { x86::pair_rows(low, high, out) };
    }
    pair_rows_by_parts(simd, &low[done..], &high[done..], &mut out[done..]);
}

/// Pairs the neighbours of a row; the last one stays alone if their number is odd.
fn pair_neighbours(simd: Simd, row: &[f32], out: &mut [f32]) {
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if simd.0 == (Set::Avx512 { bf16: true }) {
        // SAFETY: this `Simd` exists, so the processor has its instructions.
        done = unsafe { x86::pair_neighbours(row, out) };
    }
    pair_neighbours_by_parts(simd, &row[2 * done..], &mut out[done..]);
}

/// The matrix with neighbouring columns paired in bf16, the last with zero if it is alone.
fn paired<'a>(simd: Simd, a: View<'_>, room: &'a mut Vec<f32>) -> View<'a> {
    let (whole, depth) = (a.columns / 2, a.columns.div_ceil(2));
    room.resize(a.rows * depth, 0.0);
    if a.rows * depth == 0 {
        return View::new(room, a.rows, depth);
    }
    if a.column_stride == 1 {
        for (row, out) in room.chunks_exact_mut(depth).enumerate() {
            let row = &a.data[row * a.row_stride..][..a.columns];
            pair_neighbours(simd, row, out);
            if let (Some(out), Some(last)) = (out.get_mut(whole), row.last()) {
                *out = tile::pair(*last, 0.0);
            }
        }
        return View::new(room, a.rows, depth);
    }
    let column = |index: usize| &a.data[index * a.column_stride..][..a.rows];
    for (index, out) in room.chunks_exact_mut(a.rows).enumerate() {
        if index < whole {
            pair_rows(simd, column(2 * index), column(2 * index + 1), out);
        } else {
            let last = column(2 * index).iter();
            out.iter_mut().zip(last).for_each(|(out, last)| *out = tile::pair(*last, 0.0));
        }
    }
    View::new(room, depth, a.rows).t()
}

/// Memory of a product under way.
#[derive(Default)]
struct Scratch {
    panel: Vec<f32>,
    /// The factors in bf16.
    a: Vec<f32>,
    b: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// `out = a · b`, or `out += a · b` if `add`; `out` has `stride` elements from row to row. On the
/// calling thread alone.
///
/// `b` is packed panel by panel, and a panel stays in the cache while all rows of `a` pass: packing
/// costs one or two hundredths of a product with hundreds of rows. `a` is read where it lies.
pub fn multiply(
    simd: Simd,
    precision: Precision,
    out: &mut [f32],
    stride: usize,
    a: View<'_>,
    b: View<'_>,
    add: bool,
) {
    assert_eq!(a.columns, b.rows, "{a:?} · {b:?}");
    assert!(b.columns <= stride && last_index(a.rows, b.columns, stride) <= out.len());
    if a.rows == 0 || b.columns == 0 {
        return;
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch { panel, a: room, b: other } = scratch;
        let a = match precision {
            Precision::F32 => a,
            Precision::Bf16 => paired(simd, a, room),
        };
        let mut first = 0;
        while first < b.columns {
            let width = tile::width(simd, b.columns - first);
            let columns = width.min(b.columns - first);
            panel.resize(a.columns * width, 0.0);
            match precision {
                Precision::F32 => pack(simd, b, first, width, panel),
                Precision::Bf16 => {
                    let b = paired(simd, b.t().part(first, columns), other).t();
                    pack(simd, b, 0, width, panel);
                }
            }
            let target = Target { out: out[first..].as_mut_ptr(), stride, columns };
            // SAFETY: `out` is borrowed exclusively and was checked to hold as many rows of all
            // columns of `b`, of which these begin at `first`.
            unsafe { tile::multiply(simd, precision, a, panel, width, target, add) };
            first += width;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(length: usize, seed: f32) -> Vec<f32> {
        (0..length).map(|i| (0.37 * i as f32 + seed).sin()).collect()
    }

    fn everything() -> impl Iterator<Item = (Simd, Precision)> {
        Simd::all()
            .into_iter()
            .flat_map(|simd| [Precision::F32, Precision::Bf16].map(|precision| (simd, precision)))
    }

    /// A factor as a product takes it.
    fn factor(precision: Precision, value: f32) -> f64 {
        f64::from(match precision {
            Precision::F32 => value,
            Precision::Bf16 => half::bf16::from_f32(value).to_f32(),
        })
    }

    /// Against sums in f64, for shapes around the sizes of tiles and panels; what lies between the rows
    /// stays as it was. Sets that fuse agree to the bit; in bf16 all do.
    #[test]
    fn products_of_views_are_those_of_their_elements() {
        let shapes =
            [(1, 1, 1), (7, 13, 83), (13, 300, 130), (64, 32, 77), (5, 41, 17), (30, 8, 96)];
        for ((m, k, n), case) in
            shapes.into_iter().flat_map(|shape| (0..8).map(move |c| (shape, c)))
        {
            let [add, turned_a, turned_b] = [1, 2, 4].map(|bit| case & bit > 0);
            let (a, b) = (wave((m + 3) * (k + 3), 1.0), wave((k + 2) * (n + 2), 2.0));
            let a = if turned_a {
                View::strided(&a, k, m, m + 3).t()
            } else {
                View::strided(&a, m, k, k + 3)
            };
            let b = if turned_b {
                View::strided(&b, n, k, k + 2).t()
            } else {
                View::strided(&b, k, n, n + 2)
            };
            let before = wave(m * (n + 3), 3.0);
            let mut known: Vec<(Precision, Vec<f32>)> = Vec::new();
            for (simd, precision) in everything() {
                let mut out = before.clone();
                multiply(simd, precision, &mut out, n + 3, a, b, add);
                for (index, (found, before)) in out.iter().zip(&before).enumerate() {
                    let (row, column) = (index / (n + 3), index % (n + 3));
                    if column >= n {
                        assert_eq!(found, before);
                        continue;
                    }
                    let term = |i: usize| {
                        factor(precision, a.at(row, i)) * factor(precision, b.at(i, column))
                    };
                    let start = if add { f64::from(*before) } else { 0.0 };
                    let truth = start + (0..k).map(term).sum::<f64>();
                    let error = (f64::from(*found) - truth).abs();
                    assert!(error < 1e-5 + 1e-6 * k as f64, "{simd:?} {precision:?} {m} {k} {n}");
                }
                if simd.fused() || precision == Precision::Bf16 {
                    match known.iter().find(|(other, _)| *other == precision) {
                        Some((_, known)) => assert_eq!(known, &out, "{simd:?} {m} {k} {n}"),
                        None => known.push((precision, out)),
                    }
                }
            }
        }
    }

    #[test]
    fn products_without_rows_columns_or_depth_are_possible() {
        for (simd, precision) in everything() {
            let mut out = [1.0, 2.0];
            let mut multiply = |a: View<'_>, b: View<'_>, add| {
                multiply(simd, precision, &mut out, 1, a, b, add);
            };
            multiply(View::new(&[], 0, 3), View::new(&[0.0; 3], 3, 1), false);
            multiply(View::new(&[0.0; 6], 2, 3), View::new(&[], 3, 0), false);
            multiply(View::new(&[], 2, 0), View::new(&[], 0, 1), true);
            assert_eq!(out, [1.0, 2.0]);
            let empty = (View::new(&[], 2, 0), View::new(&[], 0, 1));
            super::multiply(simd, precision, &mut out, 1, empty.0, empty.1, false);
            assert_eq!(out, [0.0, 0.0]);
        }
    }
}
