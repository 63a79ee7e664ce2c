//! Causal attention of the training pass, one document and one head at a time.

use crate::model::ModelConfig;
use crate::model::kernels::{self, LANES, Packed, Precision, Simd, View, multiply};

/// Queries that share one product with the keys before them.
const BLOCK: usize = 48;

/// Where the heads lie in a row of queries, keys and values.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

impl Heads {
    pub fn new(config: &ModelConfig) -> Self {
        let ModelConfig { heads, kv_heads, .. } = *config;
        Self { heads, kv_heads, head_dim: config.head_dim() }
    }

    /// Width of a row `[queries | keys | values]`.
    pub fn width(self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Width of a row of queries, or of mixed values.
    pub fn queries(self) -> usize {
        self.heads * self.head_dim
    }

    /// Columns at which the query, key and value of `head` begin.
    fn columns(self, head: usize) -> [usize; 3] {
        let kv = head / (self.heads / self.kv_heads);
        [head, self.heads + kv, self.heads + self.kv_heads + kv].map(|at| at * self.head_dim)
    }
}

/// Keys and values of one head of a document, packed for its products, and memory for a block.
#[derive(Debug, Default)]
pub struct Scratch {
    /// `[head_dim, positions]`.
    turned_keys: Packed,
    turned_values: Packed,
    /// `[positions, head_dim]`.
    keys: Packed,
    values: Packed,
    /// Weights of a block and their gradients.
    weights: Vec<f32>,
    grads: Vec<f32>,
}

/// One head of the document in rows `start..start + length`.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    length: usize,
    /// Of the query, key and value in a row of `[queries | keys | values]`.
    columns: [usize; 3],
    /// Whether it is the first of the heads that share its keys and values.
    first: bool,
    mixed_column: usize,
    head_dim: usize,
}

/// Every head of the documents.
fn places(heads: Heads, lengths: &[usize]) -> impl Iterator<Item = Place> {
    let starts = lengths.iter().scan(0, |end, length| {
        *end += length;
        Some((*end - length, *length))
    });
    starts.filter(|(_, length)| *length > 0).flat_map(move |(start, length)| {
        (0..heads.heads).map(move |head| {
            let (columns, mixed_column) = (heads.columns(head), head * heads.head_dim);
            let first = head % (heads.heads / heads.kv_heads) == 0;
            Place { start, length, columns, first, mixed_column, head_dim: heads.head_dim }
        })
    })
}

impl Place {
    /// Rows `rows` of the document in a matrix of `stride` columns, from column `column`.
    fn part<'a>(
        &self,
        data: &'a [f32],
        stride: usize,
        column: usize,
        rows: std::ops::Range<usize>,
    ) -> View<'a> {
        let at = (self.start + rows.start) * stride + column;
        View::strided(&data[at..], rows.len(), self.head_dim, stride)
    }

    /// Blocks of queries: each looks at the positions before its end. The last one, which looks at all,
    /// comes first.
    fn blocks(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let length = self.length;
        (0..length).step_by(BLOCK).rev().map(move |first| first..(first + BLOCK).min(length))
    }

    /// Attention weights of a block `[block, positions before its end]`, zero above the diagonal, in
    /// rows of [`stride`] elements.
    fn weights(
        &self,
        simd: Simd,
        block: std::ops::Range<usize>,
        queries: View<'_>,
        turned_keys: &Packed,
        weights: &mut Vec<f32>,
    ) {
        let stride = stride(block.end);
        weights.resize(block.len() * stride, 0.0);
        turned_keys.product(weights, stride, queries, stride);
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        for (position, row) in block.zip(weights.chunks_exact_mut(stride)) {
            // Whole vectors: what follows has the weight zero.
            let seen = position + 1;
            let (row, hidden) = row.split_at_mut(seen.next_multiple_of(LANES));
            row[seen..].fill(f32::NEG_INFINITY);
            kernels::softmax(simd, scale, row);
            hidden.fill(0.0);
        }
    }
}

/// Elements from row to row of a block that looks at so many positions: a whole number of vectors.
fn stride(positions: usize) -> usize {
    positions.next_multiple_of(LANES)
}

/// `mixed[row] = Σ weight · value` over the row and those before it in its document; `qkv` holds
/// rows `[queries | keys | values]`, positions already turned.
pub fn forward(
    simd: Simd,
    heads: Heads,
    lengths: &[usize],
    qkv: &[f32],
    mixed: &mut [f32],
    scratch: &mut Scratch,
) {
    let width = heads.width();
    let Scratch { turned_keys, values, weights, .. } = scratch;
    for place in places(heads, lengths) {
        let [query, key, value] = place.columns;
        turned_keys.pack(simd, place.part(qkv, width, key, 0..place.length).t());
        values.pack(simd, place.part(qkv, width, value, 0..place.length));
        for block in place.blocks() {
            let queries = place.part(qkv, width, query, block.clone());
            place.weights(simd, block.clone(), queries, turned_keys, weights);
            let weights = View::strided(weights, block.len(), block.end, stride(block.end));
            let at = (place.start + block.start) * heads.queries() + place.mixed_column;
            values.product(&mut mixed[at..], heads.queries(), weights, heads.head_dim);
        }
    }
}

/// Gradient with respect to `qkv`, given that with respect to `mixed`. The weights are computed
/// again: cheaper than keeping them.
pub fn backward(
    simd: Simd,
    heads: Heads,
    lengths: &[usize],
    qkv: &[f32],
    mixed_grad: &[f32],
    qkv_grad: &mut [f32],
    scratch: &mut Scratch,
) {
    let width = heads.width();
    let scale = 1.0 / (heads.head_dim as f32).sqrt();
    let Scratch { turned_keys, turned_values, keys, weights, grads, .. } = scratch;
    for place in places(heads, lengths) {
        let [query, key, value] = place.columns;
        let all = 0..place.length;
        turned_keys.pack(simd, place.part(qkv, width, key, all.clone()).t());
        turned_values.pack(simd, place.part(qkv, width, value, all.clone()).t());
        keys.pack(simd, place.part(qkv, width, key, all));
        for block in place.blocks() {
            let queries = place.part(qkv, width, query, block.clone());
            place.weights(simd, block.clone(), queries, turned_keys, weights);
            let (rows, stride) = (block.len(), stride(block.end));
            let column = place.mixed_column;
            let grad = place.part(mixed_grad, heads.queries(), column, block.clone());
            grads.resize(rows * stride, 0.0);
            turned_values.product(grads, stride, grad, stride);
            let lines = weights.chunks_exact(stride).zip(grads.chunks_exact_mut(stride));
            for (position, (weights, grads)) in block.clone().zip(lines) {
                // Weights that are zero make gradients that are zero.
                let seen = (position + 1).next_multiple_of(LANES);
                kernels::softmax_gradient(simd, &weights[..seen], scale, &mut grads[..seen]);
                grads[seen..].fill(0.0);
            }
            let weights = View::strided(weights, rows, block.end, stride);
            let grads = View::strided(grads, rows, block.end, stride);
            // Every position has its first gradient from the last block of the first head.
            let more = !place.first || block.end < place.length;
            for (column, a, b) in [(key, grads.t(), queries), (value, weights.t(), grad)] {
                let out = &mut qkv_grad[place.start * width + column..];
                multiply(simd, Precision::F32, out, width, a, b, more);
            }
            // A head's queries belong to it alone, keys and values may be shared.
            let at = (place.start + block.start) * width + query;
            keys.product(&mut qkv_grad[at..], width, grads, heads.head_dim);
        }
    }
}
