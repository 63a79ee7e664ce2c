//! The innermost loops of all products: a few rows times a panel of neighbouring columns, whose sums
//! stay in registers.
//!
//! A panel is a matrix `[depth, width]` without gaps; its width is a whole number of [`VECTOR`]s, the
//! last columns being zeros where the matrix ends earlier. Every result is one chain of additions over
//! the depth, ascending, so the same for panels of any width, any number of rows beside it, and all
//! instruction sets that fuse.

use super::matrix::{Precision, View};
use super::{Set, Simd};

/// Columns of a panel come in multiples of this.
pub const VECTOR: usize = 16;
/// Columns of the widest panel.
pub const WIDEST: usize = 64;
/// Rows of the highest tile.
const HIGHEST: usize = 12;

/// Columns of a full panel: as many as leave registers for the sums of six rows.
pub fn full_width(simd: Simd) -> usize {
    match simd.0 {
        #[cfg(target_arch = "x86_64")]
        Set::Avx512 { .. } => WIDEST,
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => VECTOR,
        Set::Portable => VECTOR,
    }
}

/// Width of the panel that holds the next of `columns` columns.
pub fn width(simd: Simd, columns: usize) -> usize {
    columns.next_multiple_of(VECTOR).min(full_width(simd))
}

/// Rows of a tile: as many as have their sums in registers.
fn height(simd: Simd, width: usize) -> usize {
    match simd.0 {
        #[cfg(target_arch = "x86_64")]
        Set::Avx512 { .. } => match width / VECTOR {
            4 => 6,
            3 => 8,
            _ => HIGHEST,
        },
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => 6,
        Set::Portable => 1,
    }
}

/// Where results go: rows of `columns` values that begin `stride` apart.
#[derive(Clone, Copy)]
pub struct Target {
    pub out: *mut f32,
    pub stride: usize,
    pub columns: usize,
}

/// `out = a · panel`, or `out += a · panel` if `add`, for a panel of width `width`, of which `target`
/// takes the first columns. Elements are what `precision` says.
///
/// # Safety
/// `target` has room for the rows of `a`, and nobody else uses its columns meanwhile.
pub unsafe fn multiply(
    simd: Simd,
    precision: Precision,
    a: View<'_>,
    panel: &[f32],
    width: usize,
    target: Target,
    add: bool,
) {
    assert!(target.columns <= width && width <= full_width(simd) && width.is_multiple_of(VECTOR));
    assert!(panel.len() == a.columns() * width);
    let Target { out, stride, columns } = target;
    let height = height(simd, width);
    let (data, row_step, step) = a.raw();
    let kernel = Kernel { simd, precision, panel, width, row_step, step, add };
    let whole = if columns == width { a.rows() / height * height } else { 0 };
    // SAFETY: the first rows of the view and of the target, a whole number of tiles.
    unsafe { kernel.tiles(height, whole / height, data, out, stride) };
    for first in (whole..a.rows()).step_by(height) {
        let count = height.min(a.rows() - first);
        // SAFETY: rows `first` to `first + count` lie inside the view and the target, by the caller's
        // promise, and `sums` has room for a tile.
        unsafe {
            let (data, out) = (data.wrapping_add(first * row_step), out.add(first * stride));
            if columns == width {
                kernel.tiles(count, 1, data, out, stride);
                continue;
            }
            let mut sums = [0.0f32; HIGHEST * WIDEST];
            for row in (0..count).take_while(|_| add) {
                let to = sums.as_mut_ptr().add(row * width);
                std::ptr::copy_nonoverlapping(out.add(row * stride), to, columns);
            }
            kernel.tiles(count, 1, data, sums.as_mut_ptr(), width);
            for (row, sums) in sums.chunks_exact(width).take(count).enumerate() {
                std::ptr::copy_nonoverlapping(sums.as_ptr(), out.add(row * stride), columns);
            }
        }
    }
}

/// What all tiles of a panel share. `row_step` and `step` lead from an element of the other matrix to
/// the next row and the next column.
struct Kernel<'a> {
    simd: Simd,
    precision: Precision,
    panel: &'a [f32],
    width: usize,
    row_step: usize,
    step: usize,
    add: bool,
}

impl Kernel<'_> {
    /// `out[r · stride + c] = Σ_k a[r][k] · panel[k][c]`, or `+=` if `add`, for `count` tiles of `rows`
    /// rows and all columns of the panel.
    ///
    /// # Safety
    /// `rows` is one at least and at most the height of a tile; the panel has the width of one of
    /// `simd`'s; `data` begins rows with as many readable columns as the panel has rows; `out` has room
    /// for `width` values in each of the rows that begin `stride` apart, and nobody else uses them.
    unsafe fn tiles(
        &self,
        rows: usize,
        count: usize,
        data: *const f32,
        out: *mut f32,
        stride: usize,
    ) {
        /// Calls the kernel for the number of rows.
        #[cfg(target_arch = "x86_64")]
        macro_rules! by_rows {
            ($kernel:ident, $vectors:literal, $($rows:literal)*) => {
                match rows {
                    $($rows => x86::$kernel::<$rows, $vectors>(self, count, data, out, stride),)*
                    rows => unreachable!("{rows} rows in a tile"),
                }
            };
        }
        /// Calls it for the width too.
        #[cfg(target_arch = "x86_64")]
        macro_rules! by_shape {
            ($kernel:ident) => {
                match self.width / VECTOR {
                    4 => by_rows!($kernel, 4, 1 2 3 4 5 6),
                    3 => by_rows!($kernel, 3, 1 2 3 4 5 6 7 8),
                    2 => by_rows!($kernel, 2, 1 2 3 4 5 6 7 8 9 10 11 12),
                    _ => by_rows!($kernel, 1, 1 2 3 4 5 6 7 8 9 10 11 12),
                }
            };
        }
        // SAFETY: `simd` exists, so the processor has its instructions; sizes, `data` and `out` are as
        // they must be by the caller's promise.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            match (self.simd.0, self.precision) {
                (Set::Avx512 { .. }, Precision::F32) => return by_shape!(avx512),
                (Set::Avx512 { bf16: true }, Precision::Bf16) => return by_shape!(avx512_bf16),
                (Set::Avx512 { bf16: false }, Precision::Bf16) => return by_shape!(avx512_pairs),
                (Set::Avx2, Precision::F32) => return by_rows!(avx2, 2, 1 2 3 4 5 6),
                (Set::Avx2, Precision::Bf16) => return by_rows!(avx2_pairs, 2, 1 2 3 4 5 6),
                (Set::Portable, _) => {}
            }
        }
        for row in 0..rows * count {
            // SAFETY: by the caller's promise.
            let out = unsafe { std::slice::from_raw_parts_mut(out.add(row * stride), VECTOR) };
            let mut sums = [0.0; VECTOR];
            if self.add {
                sums.copy_from_slice(out);
            }
            for (k, panel) in self.panel.as_chunks::<VECTOR>().0.iter().enumerate() {
                // SAFETY: k is below the rows of the panel, so this column can be read.
                let x = unsafe { *data.add(row * self.row_step + k * self.step) };
                for (sum, weight) in sums.iter_mut().zip(panel) {
                    match self.precision {
                        Precision::F32 => *sum += x * weight,
                        Precision::Bf16 => {
                            let ([low, high], [w_low, w_high]) = (unpair(x), unpair(*weight));
                            *sum += high * w_high;
                            *sum += low * w_low;
                        }
                    }
                }
            }
            out.copy_from_slice(&sums);
        }
    }
}

/// Two numbers rounded to bf16 (to the nearest, ties to even) in the bits of one element; `low` comes
/// first in a sum's matrix, but the processor's instruction adds `high` first, and so does all else.
#[inline(always)]
pub fn pair(low: f32, high: f32) -> f32 {
    let round = |value: f32| {
        let bits = value.to_bits();
        bits.wrapping_add(0x7fff + (bits >> 16 & 1))
    };
    f32::from_bits(round(high) & 0xffff_0000 | round(low) >> 16)
}

/// The two numbers, low and high.
fn unpair(pair: f32) -> [f32; 2] {
    let bits = pair.to_bits();
    [f32::from_bits(bits << 16), f32::from_bits(bits & 0xffff_0000)]
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Kernel;

    /// Tiles of `R` rows and `V` vectors of a set's registers.
    macro_rules! kernel {
        ($name:ident, $features:literal, $lanes:literal, $zero:ident, $load:ident, $store:ident,
         $spread:ident, $madd:ident) => {
            /// # Safety
            /// Needs the features; the panel's width is `V` vectors, `rows` is `R`, otherwise as
            /// [`Kernel::tiles`].
            #[target_feature(enable = $features)]
            pub unsafe fn $name<const R: usize, const V: usize>(
                kernel: &Kernel<'_>,
                count: usize,
                mut data: *const f32,
                mut out: *mut f32,
                stride: usize,
            ) {
                let Kernel { panel, row_step, step, add, .. } = *kernel;
                for _ in 0..count {
                    let mut sums = [[$zero(); V]; R];
                    if add {
                        for (r, sums) in sums.iter_mut().enumerate() {
                            for (v, sum) in sums.iter_mut().enumerate() {
                                // SAFETY: by the caller.
                                *sum = unsafe { $load(out.add(r * stride + $lanes * v)) };
                            }
                        }
                    }
                    let (mut x, mut b) = (data, panel.as_ptr());
                    for _ in 0..panel.len() / ($lanes * V) {
                        // SAFETY: as often as the panel has rows and `data` columns, so all reads are
                        // inside.
                        unsafe {
                            let weights: [_; V] = std::array::from_fn(|v| $load(b.add($lanes * v)));
                            for (r, sums) in sums.iter_mut().enumerate() {
                                let x = $spread(*x.add(r * row_step));
                                for (sum, weights) in sums.iter_mut().zip(weights) {
                                    *sum = $madd(x, weights, *sum);
                                }
                            }
                        }
                        x = x.wrapping_add(step);
                        b = b.wrapping_add($lanes * V);
                    }
                    for (r, sums) in sums.into_iter().enumerate() {
                        for (v, sum) in sums.into_iter().enumerate() {
                            // SAFETY: by the caller.
                            unsafe { $store(out.add(r * stride + $lanes * v), sum) };
                        }
                    }
                    data = data.wrapping_add(R * row_step);
                    out = out.wrapping_add(R * stride);
                }
            }
        };
    }

    kernel!(
        avx512,
        "avx512f",
        16,
        _mm512_setzero_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_fmadd_ps
    );
    kernel!(
        avx512_bf16,
        "avx512f,avx512bf16",
        16,
        _mm512_setzero_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        dot512
    );
    kernel!(
        avx512_pairs,
        "avx512f",
        16,
        _mm512_setzero_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        pairs512
    );
    kernel!(
        avx2,
        "avx2,fma",
        8,
        _mm256_setzero_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_fmadd_ps
    );
    kernel!(
        avx2_pairs,
        "avx2,fma",
        8,
        _mm256_setzero_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        pairs256
    );

    /// `sum` plus the products of pairs of bf16.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn dot512(x: __m512, weights: __m512, sum: __m512) -> __m512 {
        // SAFETY: types of the same size for which any bits are good.
        let [x, weights] =
            unsafe { std::mem::transmute::<[__m512; 2], [__m512bh; 2]>([x, weights]) };
        _mm512_dpbf16_ps(sum, x, weights)
    }

    /// The same to the bit where the processor has no such instruction (but for subnormal numbers, which
    /// it takes for zeros): a product of two bf16 is exact in f32, so each sum is rounded once.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn pairs512(x: __m512, weights: __m512, sum: __m512) -> __m512 {
        let [x, weights] = [_mm512_castps_si512(x), _mm512_castps_si512(weights)];
        let high = |v| _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32(-0x1_0000)));
        let low = |v| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(v));
        _mm512_fmadd_ps(low(x), low(weights), _mm512_fmadd_ps(high(x), high(weights), sum))
    }

    /// The same for eight pairs.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn pairs256(x: __m256, weights: __m256, sum: __m256) -> __m256 {
        let [x, weights] = [_mm256_castps_si256(x), _mm256_castps_si256(weights)];
        let high = |v| _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32(-0x1_0000)));
        let low = |v| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(v));
        _mm256_fmadd_ps(low(x), low(weights), _mm256_fmadd_ps(high(x), high(weights), sum))
    }
}
