//! Causal attention of the training pass, one document and one head at a time.

use crate::model::ModelConfig;
use crate::model::kernels::{self, Simd, View, multiply};

/// Queries that share one product with the keys before them.
const BLOCK: usize = 64;

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

/// Buffers for the weights of a block and their gradients.
#[derive(Debug, Default)]
pub struct Scratch {
    weights: Vec<f32>,
    grads: Vec<f32>,
}

/// One block of queries of one head: rows `first..last` of the document that starts at row `start`,
/// which look at its rows `0..last`.
#[derive(Clone, Copy)]
struct Block {
    start: usize,
    first: usize,
    last: usize,
    columns: [usize; 3],
    mixed_column: usize,
}

/// Calls `visit` for every block of every head of the documents.
fn blocks(heads: Heads, lengths: &[usize], mut visit: impl FnMut(Block)) {
    let mut start = 0;
    for &length in lengths {
        for head in 0..heads.heads {
            let (columns, mixed_column) = (heads.columns(head), head * heads.head_dim);
            for first in (0..length).step_by(BLOCK) {
                let last = (first + BLOCK).min(length);
                visit(Block { start, first, last, columns, mixed_column });
            }
        }
        start += length;
    }
}

impl Block {
    /// Rows `from..to` of the document in a matrix of `stride` columns, from column `column`.
    fn part<'a>(
        &self,
        data: &'a [f32],
        stride: usize,
        column: usize,
        rows: std::ops::Range<usize>,
        hd: usize,
    ) -> View<'a> {
        let at = (self.start + rows.start) * stride + column;
        View::strided(&data[at..], rows.len(), hd, stride)
    }

    /// Attention weights `[last − first, last]`, zero above the diagonal.
    fn weights(&self, simd: Simd, heads: Heads, qkv: &[f32], weights: &mut Vec<f32>) {
        let (hd, width) = (heads.head_dim, heads.width());
        weights.resize((self.last - self.first) * self.last, 0.0);
        let queries = self.part(qkv, width, self.columns[0], self.first..self.last, hd);
        let keys = self.part(qkv, width, self.columns[1], 0..self.last, hd);
        multiply(weights, self.last, queries, keys.t(), false);
        let scale = 1.0 / (hd as f32).sqrt();
        for (row, weights) in weights.chunks_exact_mut(self.last).enumerate() {
            let (seen, hidden) = weights.split_at_mut(self.first + row + 1);
            kernels::softmax(simd, scale, seen);
            hidden.fill(0.0);
        }
    }
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
    let (hd, width) = (heads.head_dim, heads.width());
    blocks(heads, lengths, |block| {
        block.weights(simd, heads, qkv, &mut scratch.weights);
        let values = block.part(qkv, width, block.columns[2], 0..block.last, hd);
        let weights = View::new(&scratch.weights, block.last - block.first, block.last);
        let at = (block.start + block.first) * heads.queries() + block.mixed_column;
        multiply(&mut mixed[at..], heads.queries(), weights, values, false);
    });
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
    let (hd, width) = (heads.head_dim, heads.width());
    let scale = 1.0 / (hd as f32).sqrt();
    qkv_grad.fill(0.0);
    blocks(heads, lengths, |block| {
        block.weights(simd, heads, qkv, &mut scratch.weights);
        let Scratch { weights, grads } = &mut *scratch;
        let rows = block.last - block.first;
        let [query, key, value] = block.columns;
        let part = |column, rows| block.part(qkv, width, column, rows, hd);
        let grad = block.part(
            mixed_grad,
            heads.queries(),
            block.mixed_column,
            block.first..block.last,
            hd,
        );
        grads.resize(rows * block.last, 0.0);
        multiply(grads, block.last, grad, part(value, 0..block.last).t(), false);
        let lines = weights.chunks_exact(block.last).zip(grads.chunks_exact_mut(block.last));
        for (row, (weights, grads)) in lines.enumerate() {
            let seen = block.first + row + 1;
            kernels::softmax_gradient(simd, &weights[..seen], scale, &mut grads[..seen]);
            grads[seen..].fill(0.0);
        }
        let weights = View::new(weights, rows, block.last);
        let grads = View::new(grads, rows, block.last);
        let mut add = |column: usize, first: usize, a: View<'_>, b: View<'_>| {
            let at = (block.start + first) * width + column;
            multiply(&mut qkv_grad[at..], width, a, b, true);
        };
        add(query, block.first, grads, part(key, 0..block.last));
        add(key, 0, grads.t(), part(query, block.first..block.last));
        add(value, 0, weights.t(), grad);
    });
}
