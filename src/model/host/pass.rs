//! Forward and backward pass over one chunk of documents.

use super::attention::{self, Heads, Scratch};
use crate::model::ModelConfig;
use crate::model::batches::Part;
use crate::model::kernels::{self, Simd, View, multiply};
use crate::model::rotary::Rotary;
use crate::model::transformer::{self, PER_LAYER, Parameter};

/// One buffer per parameter, in the parameters' order.
pub type Gradients = Vec<Vec<f32>>;

/// Sets all gradients to zero.
pub fn clear(gradients: &mut Gradients, parameters: &[Parameter]) {
    gradients.resize_with(parameters.len(), Vec::new);
    for (gradient, parameter) in gradients.iter_mut().zip(parameters) {
        gradient.clear();
        gradient.resize(parameter.values.len(), 0.0);
    }
}

/// What the backward pass needs of a layer; T rows of the chunk, R rows that go on (all, but in the
/// last layer only those with a target: nothing reads the others).
#[derive(Default)]
struct Memory {
    /// The layer's input, `[T, d_model]`.
    input: Vec<f32>,
    /// Queries, keys and values, positions turned, `[T, width]`.
    qkv: Vec<f32>,
    /// Mixed values of the rows that go on, `[R, heads · head_dim]`.
    mixed: Vec<f32>,
    /// Between attention and feed-forward, `[R, d_model]`.
    middle: Vec<f32>,
    /// `[R, 2 · d_ff]`.
    gate_up: Vec<f32>,
    /// `[R, d_ff]`.
    inner: Vec<f32>,
}

/// Memory of a pass, kept for the next one.
#[derive(Default)]
pub struct Workspace {
    layers: Vec<Memory>,
    /// Output of the last layer, `[R, d_model]`.
    output: Vec<f32>,
    /// Logits, then their gradients, `[R, vocabulary]`.
    logits: Vec<f32>,
    normed: Vec<f32>,
    mixed: Vec<f32>,
    slope: Vec<f32>,
    wide_slope: Vec<f32>,
    normed_slope: Vec<f32>,
    mixed_slope: Vec<f32>,
    qkv_slope: Vec<f32>,
    inner_slope: Vec<f32>,
    /// Rows with a target.
    picks: Vec<usize>,
    scratch: Scratch,
}

/// `buffer` with room for `length` values, whatever they are.
fn room(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    buffer.resize(length, 0.0);
    buffer
}

/// Copies `rows` of `from` to `to`.
fn pick(from: &[f32], rows: &[usize], width: usize, to: &mut Vec<f32>) {
    let to = room(to, rows.len() * width).chunks_exact_mut(width);
    for (to, row) in to.zip(rows) {
        to.copy_from_slice(&from[row * width..(row + 1) * width]);
    }
}

/// The inverse of [`pick`]: `total` rows, zero where none is picked.
fn spread(from: &[f32], rows: &[usize], width: usize, total: usize, to: &mut Vec<f32>) {
    to.clear();
    to.resize(total * width, 0.0);
    for (from, row) in from.chunks_exact(width).zip(rows) {
        to[row * width..(row + 1) * width].copy_from_slice(from);
    }
}

/// The network on the host.
pub struct Pass<'a> {
    pub config: &'a ModelConfig,
    pub simd: Simd,
    pub rotary: &'a Rotary,
    pub parameters: &'a [Parameter],
}

/// Places of a layer's parameters after its first one.
const ATTENTION_NORM: usize = 0;
const QKV: usize = 1;
const OUTPUT: usize = 2;
const FFN_NORM: usize = 3;
const GATE_UP: usize = 4;
const DOWN: usize = 5;

impl Pass<'_> {
    fn index(&self, layer: usize, part: usize) -> usize {
        1 + layer * PER_LAYER + part
    }

    fn values(&self, index: usize) -> &[f32] {
        &self.parameters[index].values
    }

    /// A parameter as a matrix `[in, out]`.
    fn matrix(&self, index: usize) -> View<'_> {
        let Parameter { shape, values, .. } = &self.parameters[index];
        View::new(values, shape[0], shape[1])
    }

    fn norm(&self, x: &[f32], gain: usize, out: &mut Vec<f32>) {
        let d = self.config.d_model;
        let rows = room(out, x.len()).chunks_exact_mut(d).zip(x.chunks_exact(d));
        for (out, x) in rows {
            kernels::rms_norm(self.simd, x, self.values(gain), self.config.norm_eps, out);
        }
    }

    /// Adds to `x_slope` and the gain's gradient what `slope`, the gradient of the result, gives.
    fn norm_backward(
        &self,
        x: &[f32],
        gain: usize,
        slope: &[f32],
        x_slope: &mut [f32],
        gradients: &mut Gradients,
    ) {
        let (d, epsilon) = (self.config.d_model, self.config.norm_eps);
        let (values, gradient) = (self.values(gain), &mut gradients[gain]);
        let rows = x.chunks_exact(d).zip(slope.chunks_exact(d)).zip(x_slope.chunks_exact_mut(d));
        for ((x, slope), x_slope) in rows {
            kernels::rms_norm_gradient(self.simd, x, values, epsilon, slope, x_slope, gradient);
        }
    }

    /// Turns the queries and keys of all rows to their positions, or back.
    fn turn(&self, lengths: &[usize], qkv: &mut [f32], turn: fn(&Rotary, &mut [f32], usize)) {
        let heads = Heads::new(self.config);
        let turned = heads.queries() + heads.kv_heads * heads.head_dim;
        let positions = lengths.iter().flat_map(|length| 0..*length);
        for (row, position) in qkv.chunks_exact_mut(heads.width()).zip(positions) {
            for head in row[..turned].chunks_exact_mut(heads.head_dim) {
                turn(self.rotary, head, position);
            }
        }
    }

    /// Runs the layers on a chunk; `work` then holds what the other passes need.
    pub fn forward(&self, part: &Part<'_>, work: &mut Workspace) {
        let (d, rows) = (self.config.d_model, part.tokens.len());
        let targets = part.targets.iter().enumerate();
        work.picks.clear();
        work.picks.extend(targets.filter(|(_, target)| target.is_some()).map(|(row, _)| row));
        work.layers.resize_with(self.config.layers, Memory::default);
        let input = room(&mut work.layers[0].input, rows * d);
        for (row, token) in input.chunks_exact_mut(d).zip(part.tokens) {
            let at = *token as usize * d;
            row.copy_from_slice(&self.values(0)[at..at + d]);
        }
        for layer in 0..self.config.layers {
            self.attention(layer, part, work);
            self.feed_forward(layer, work);
        }
    }

    fn attention(&self, layer: usize, part: &Part<'_>, work: &mut Workspace) {
        let (d, rows, heads) = (self.config.d_model, part.tokens.len(), Heads::new(self.config));
        let Workspace { layers, normed, mixed, picks, scratch, .. } = work;
        let memory = &mut layers[layer];
        self.norm(&memory.input, self.index(layer, ATTENTION_NORM), normed);
        let qkv = room(&mut memory.qkv, rows * heads.width());
        let weights = self.matrix(self.index(layer, QKV));
        multiply(qkv, heads.width(), View::new(normed, rows, d), weights, false);
        self.turn(part.lengths, qkv, Rotary::turn);
        if layer + 1 < self.config.layers {
            let mixed = room(&mut memory.mixed, rows * heads.queries());
            attention::forward(self.simd, heads, part.lengths, qkv, mixed, scratch);
            memory.middle.clone_from(&memory.input);
        } else {
            let mixed = room(mixed, rows * heads.queries());
            attention::forward(self.simd, heads, part.lengths, qkv, mixed, scratch);
            pick(mixed, picks, heads.queries(), &mut memory.mixed);
            pick(&memory.input, picks, d, &mut memory.middle);
        }
        let rows = memory.middle.len() / d;
        let mixed = View::new(&memory.mixed, rows, heads.queries());
        multiply(&mut memory.middle, d, mixed, self.matrix(self.index(layer, OUTPUT)), true);
    }

    fn feed_forward(&self, layer: usize, work: &mut Workspace) {
        let (d, d_ff) = (self.config.d_model, self.config.d_ff);
        let (memory, next) = work.layers[layer..].split_at_mut(1);
        let memory = &mut memory[0];
        let rows = memory.middle.len() / d;
        self.norm(&memory.middle, self.index(layer, FFN_NORM), &mut work.normed);
        let gate_up = room(&mut memory.gate_up, rows * 2 * d_ff);
        let weights = self.matrix(self.index(layer, GATE_UP));
        multiply(gate_up, 2 * d_ff, View::new(&work.normed, rows, d), weights, false);
        let inner = room(&mut memory.inner, rows * d_ff);
        for (inner, row) in inner.chunks_exact_mut(d_ff).zip(gate_up.chunks_exact(2 * d_ff)) {
            kernels::swiglu(self.simd, row, inner);
        }
        let output = next.first_mut().map_or(&mut work.output, |next| &mut next.input);
        output.clone_from(&memory.middle);
        let inner = View::new(&memory.inner, rows, d_ff);
        multiply(output, d, inner, self.matrix(self.index(layer, DOWN)), true);
    }

    /// Sum of the losses over the chunk's targets, nats. With a `scale`, the logits are replaced by
    /// `scale` times their gradient, for the backward pass.
    pub fn loss(&self, part: &Part<'_>, scale: Option<f32>, work: &mut Workspace) -> f64 {
        let (d, vocabulary, rows) = (self.config.d_model, self.config.vocabulary, work.picks.len());
        let head = self.matrix(transformer::unembedding(self.config));
        let last = transformer::final_norm(self.config);
        self.norm(&work.output, last, &mut work.normed);
        let logits = room(&mut work.logits, rows * vocabulary);
        multiply(logits, vocabulary, View::new(&work.normed, rows, d), head.t(), false);
        let targets = part.targets.iter().flatten();
        let rows = logits.chunks_exact_mut(vocabulary).zip(targets);
        rows.map(|(row, target)| kernels::cross_entropy(self.simd, *target, scale, row)).sum()
    }

    /// Adds the gradients of the chunk that [`Pass::forward`] and [`Pass::loss`] have gone through.
    pub fn backward(&self, part: &Part<'_>, work: &mut Workspace, gradients: &mut Gradients) {
        let (d, vocabulary, rows) = (self.config.d_model, self.config.vocabulary, work.picks.len());
        let logits = View::new(&work.logits, rows, vocabulary);
        let normed = View::new(&work.normed, rows, d);
        let head = transformer::unembedding(self.config);
        multiply(&mut gradients[head], d, logits.t(), normed, true);
        let normed_slope = room(&mut work.normed_slope, rows * d);
        multiply(normed_slope, d, logits, self.matrix(head), false);
        work.slope.clear();
        work.slope.resize(rows * d, 0.0);
        let last = transformer::final_norm(self.config);
        self.norm_backward(&work.output, last, normed_slope, &mut work.slope, gradients);
        for layer in (0..self.config.layers).rev() {
            self.feed_forward_backward(layer, work, gradients);
            self.attention_backward(layer, part, work, gradients);
        }
        for (slope, token) in work.slope.chunks_exact(d).zip(part.tokens) {
            let at = *token as usize * d;
            kernels::add_scaled(self.simd, slope, 1.0, &mut gradients[0][at..at + d]);
        }
    }

    /// From the gradient of the layer's output to that of its middle, both in `work.slope`.
    fn feed_forward_backward(&self, layer: usize, work: &mut Workspace, gradients: &mut Gradients) {
        let (d, d_ff) = (self.config.d_model, self.config.d_ff);
        let memory = &mut work.layers[layer];
        let rows = memory.middle.len() / d;
        let [norm, gate_up, down] = [FFN_NORM, GATE_UP, DOWN].map(|part| self.index(layer, part));
        let slope = View::new(&work.slope, rows, d);
        let inner_slope = room(&mut work.inner_slope, rows * d_ff);
        multiply(inner_slope, d_ff, slope, self.matrix(down).t(), false);
        multiply(&mut gradients[down], d, View::new(&memory.inner, rows, d_ff).t(), slope, true);
        let lines = memory.gate_up.chunks_exact_mut(2 * d_ff);
        for (row, slope) in lines.zip(inner_slope.chunks_exact(d_ff)) {
            kernels::swiglu_gradient(self.simd, row, slope);
        }
        self.norm(&memory.middle, norm, &mut work.normed);
        let inner = View::new(&memory.gate_up, rows, 2 * d_ff);
        let normed = View::new(&work.normed, rows, d);
        multiply(&mut gradients[gate_up], 2 * d_ff, normed.t(), inner, true);
        let normed_slope = room(&mut work.normed_slope, rows * d);
        multiply(normed_slope, d, inner, self.matrix(gate_up).t(), false);
        self.norm_backward(&memory.middle, norm, normed_slope, &mut work.slope, gradients);
    }

    /// From the gradient of the layer's middle to that of its input, both in `work.slope`.
    fn attention_backward(
        &self,
        layer: usize,
        part: &Part<'_>,
        work: &mut Workspace,
        gradients: &mut Gradients,
    ) {
        let (d, total, heads) = (self.config.d_model, part.tokens.len(), Heads::new(self.config));
        let memory = &work.layers[layer];
        let [norm, qkv, output] = [ATTENTION_NORM, QKV, OUTPUT].map(|part| self.index(layer, part));
        let rows = memory.middle.len() / d;
        let slope = View::new(&work.slope, rows, d);
        let mixed = View::new(&memory.mixed, rows, heads.queries());
        multiply(&mut gradients[output], d, mixed.t(), slope, true);
        let mixed_slope = room(&mut work.mixed_slope, rows * heads.queries());
        multiply(mixed_slope, heads.queries(), slope, self.matrix(output).t(), false);
        if layer + 1 == self.config.layers {
            let Workspace { slope, wide_slope, mixed_slope, mixed, picks, .. } = work;
            spread(slope, picks, d, total, wide_slope);
            std::mem::swap(slope, wide_slope);
            spread(mixed_slope, picks, heads.queries(), total, mixed);
            std::mem::swap(mixed_slope, mixed);
        }
        let memory = &work.layers[layer];
        let qkv_slope = room(&mut work.qkv_slope, total * heads.width());
        attention::backward(
            self.simd,
            heads,
            part.lengths,
            &memory.qkv,
            &work.mixed_slope,
            qkv_slope,
            &mut work.scratch,
        );
        self.turn(part.lengths, qkv_slope, Rotary::turn_back);
        self.norm(&memory.input, norm, &mut work.normed);
        let qkv_slope = View::new(qkv_slope, total, heads.width());
        let normed = View::new(&work.normed, total, d);
        multiply(&mut gradients[qkv], heads.width(), normed.t(), qkv_slope, true);
        let normed_slope = room(&mut work.normed_slope, total * d);
        multiply(normed_slope, d, qkv_slope, self.matrix(qkv).t(), false);
        self.norm_backward(&memory.input, norm, normed_slope, &mut work.slope, gradients);
    }
}
