//! Forward and backward pass over one chunk of documents.

use super::adapters::{self, Adapters};
use super::attention::{self, Heads, Scratch};
use crate::model::ModelConfig;
use crate::model::batches::Part;
use crate::model::kernels::{self, Precision, Simd, View, multiply};
use crate::model::rotary::Rotary;
use crate::model::transformer::{self, PER_LAYER, Parameter};

/// One buffer per learnt parameter, in the parameters' order.
pub type Gradients = Vec<Vec<f32>>;

/// Sets the gradients of all parameters to zero.
pub fn clear(gradients: &mut Gradients, parameters: &[Parameter]) {
    gradients.resize_with(parameters.len(), Vec::new);
    for (gradient, parameter) in gradients.iter_mut().zip(parameters) {
        gradient.clear();
        gradient.resize(parameter.values.len(), 0.0);
    }
}

/// A part of a batch with its number: the address of its dropout.
pub struct Chunk<'a> {
    pub part: Part<'a>,
    pub number: usize,
}

impl<'a> std::ops::Deref for Chunk<'a> {
    type Target = Part<'a>;

    fn deref(&self) -> &Part<'a> {
        &self.part
    }
}

/// What the backward pass needs of a layer beside its input; T rows of the chunk, R rows that go on
/// (all, but in the last layer only those with a target: nothing reads the others).
#[derive(Default)]
struct Memory {
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
    /// Input of each layer, `[T, d_model]`.
    inputs: Vec<Vec<f32>>,
    /// Of every layer, or of the one under way if activations are computed again.
    layers: Vec<Memory>,
    /// Output of the last layer, `[R, d_model]`.
    output: Vec<f32>,
    /// Logits, then their gradients, `[R, vocabulary]`.
    logits: Vec<f32>,
    normed: Vec<f32>,
    mixed: Vec<f32>,
    grad: Vec<f32>,
    wide_grad: Vec<f32>,
    normed_grad: Vec<f32>,
    mixed_grad: Vec<f32>,
    qkv_grad: Vec<f32>,
    inner_grad: Vec<f32>,
    /// Rows with a target.
    picks: Vec<usize>,
    scratch: Scratch,
    adapters: adapters::Scratch,
    /// Where the gradients of frozen gains go, which nobody reads.
    unused: Vec<f32>,
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
    /// Of the products with parameters; attention's are in f32.
    pub precision: Precision,
    pub rotary: &'a Rotary,
    pub parameters: &'a [Parameter],
    /// Whether the backward pass computes a layer's activations again instead of keeping them.
    pub recompute: bool,
    /// What learns in place of the parameters, if anything does.
    pub adapters: Option<Adapters<'a>>,
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

    /// Where a layer's activations lie in the workspace.
    fn slot(&self, layer: usize) -> usize {
        if self.recompute { 0 } else { layer }
    }

    fn values(&self, index: usize) -> &[f32] {
        &self.parameters[index].values
    }

    /// Inputs and outputs of a matrix.
    fn shape(&self, index: usize) -> [usize; 2] {
        let shape = &self.parameters[index].shape;
        [shape[0], shape[1]]
    }

    /// A parameter as a matrix `[in, out]`.
    fn matrix(&self, index: usize) -> View<'_> {
        let [inputs, outputs] = self.shape(index);
        View::new(self.values(index), inputs, outputs)
    }

    /// `out = x · W`, or `out += x · W` if `add`, with the parameter's adapters; W is `[in, out]`.
    fn linear(
        &self,
        index: usize,
        chunk: usize,
        x: &[f32],
        out: &mut [f32],
        add: bool,
        scratch: &mut adapters::Scratch,
    ) {
        let (weights, [inputs, outputs]) = (self.matrix(index), self.shape(index));
        multiply(
            self.simd,
            self.precision,
            out,
            outputs,
            View::new(x, x.len() / inputs, inputs),
            weights,
            add,
        );
        if let Some(adapters) = &self.adapters {
            adapters.forward(index, chunk, x, out, scratch);
        }
    }

    /// From the gradient `grad` of the result of [`Pass::linear`] to that of `x`; adds to the
    /// gradient of what learns.
    #[allow(clippy::too_many_arguments)]
    fn linear_backward(
        &self,
        index: usize,
        chunk: usize,
        x: &[f32],
        grad: &[f32],
        x_grad: &mut Vec<f32>,
        gradients: &mut Gradients,
        scratch: &mut adapters::Scratch,
    ) {
        let [inputs, outputs] = self.shape(index);
        let rows = x.len() / inputs;
        let grad_view = View::new(grad, rows, outputs);
        let x_grad = room(x_grad, rows * inputs);
        multiply(
            self.simd,
            self.precision,
            x_grad,
            inputs,
            grad_view,
            self.matrix(index).t(),
            false,
        );
        match &self.adapters {
            None => {
                let x = View::new(x, rows, inputs);
                multiply(
                    self.simd,
                    self.precision,
                    &mut gradients[index],
                    outputs,
                    x.t(),
                    grad_view,
                    true,
                );
            }
            Some(adapters) => {
                adapters.backward(index, chunk, x, grad, x_grad, gradients, scratch);
            }
        }
    }

    fn norm(&self, x: &[f32], gain: usize, out: &mut Vec<f32>) {
        let d = self.config.d_model;
        let rows = room(out, x.len()).chunks_exact_mut(d).zip(x.chunks_exact(d));
        for (out, x) in rows {
            kernels::rms_norm(self.simd, x, self.values(gain), self.config.norm_eps, out);
        }
    }

    /// Adds to `x_grad` and the gain's gradient what `grad`, the gradient of the result, gives.
    fn norm_backward(
        &self,
        x: &[f32],
        gain: usize,
        grad: &[f32],
        x_grad: &mut [f32],
        gradients: &mut Gradients,
        unused: &mut Vec<f32>,
    ) {
        let (d, epsilon) = (self.config.d_model, self.config.norm_eps);
        let gradient = match self.adapters {
            None => &mut gradients[gain][..],
            Some(_) => room(unused, d),
        };
        let values = self.values(gain);
        let rows = x.chunks_exact(d).zip(grad.chunks_exact(d)).zip(x_grad.chunks_exact_mut(d));
        for ((x, grad), x_grad) in rows {
            kernels::rms_norm_gradient(self.simd, x, values, epsilon, grad, x_grad, gradient);
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
    pub fn forward(&self, part: &Chunk<'_>, work: &mut Workspace) {
        let (d, rows) = (self.config.d_model, part.tokens.len());
        let targets = part.targets.iter().enumerate();
        work.picks.clear();
        work.picks.extend(targets.filter(|(_, target)| target.is_some()).map(|(row, _)| row));
        let layers = self.config.layers;
        work.inputs.resize_with(layers, Vec::new);
        work.layers.resize_with(if self.recompute { 1 } else { layers }, Memory::default);
        let input = room(&mut work.inputs[0], rows * d);
        for (row, token) in input.chunks_exact_mut(d).zip(part.tokens) {
            let at = *token as usize * d;
            row.copy_from_slice(&self.values(0)[at..at + d]);
        }
        for layer in 0..layers {
            self.attention(layer, part, work);
            self.widen(layer, part, work);
            self.narrow(layer, part, work);
        }
    }

    fn attention(&self, layer: usize, part: &Chunk<'_>, work: &mut Workspace) {
        let (d, rows, heads) = (self.config.d_model, part.tokens.len(), Heads::new(self.config));
        let Workspace { inputs, layers, normed, mixed, picks, scratch, adapters, .. } = work;
        let (memory, input) = (&mut layers[self.slot(layer)], &inputs[layer]);
        self.norm(input, self.index(layer, ATTENTION_NORM), normed);
        let qkv = room(&mut memory.qkv, rows * heads.width());
        self.linear(self.index(layer, QKV), part.number, normed, qkv, false, adapters);
        self.turn(part.lengths, qkv, Rotary::turn);
        if layer + 1 < self.config.layers {
            let mixed = room(&mut memory.mixed, rows * heads.queries());
            attention::forward(self.simd, heads, part.lengths, qkv, mixed, scratch);
            memory.middle.clone_from(input);
        } else {
            let mixed = room(mixed, rows * heads.queries());
            attention::forward(self.simd, heads, part.lengths, qkv, mixed, scratch);
            pick(mixed, picks, heads.queries(), &mut memory.mixed);
            pick(input, picks, d, &mut memory.middle);
        }
        let output = self.index(layer, OUTPUT);
        self.linear(output, part.number, &memory.mixed, &mut memory.middle, true, adapters);
    }

    /// The first half of the feed-forward, up to its inner values.
    fn widen(&self, layer: usize, part: &Chunk<'_>, work: &mut Workspace) {
        let (d, d_ff) = (self.config.d_model, self.config.d_ff);
        let memory = &mut work.layers[self.slot(layer)];
        let rows = memory.middle.len() / d;
        self.norm(&memory.middle, self.index(layer, FFN_NORM), &mut work.normed);
        let gate_up = room(&mut memory.gate_up, rows * 2 * d_ff);
        let index = self.index(layer, GATE_UP);
        self.linear(index, part.number, &work.normed, gate_up, false, &mut work.adapters);
        let inner = room(&mut memory.inner, rows * d_ff);
        for (inner, row) in inner.chunks_exact_mut(d_ff).zip(gate_up.chunks_exact(2 * d_ff)) {
            kernels::swiglu(self.simd, row, inner);
        }
    }

    /// The second half: from the inner values to the layer's output.
    fn narrow(&self, layer: usize, part: &Chunk<'_>, work: &mut Workspace) {
        let memory = &work.layers[self.slot(layer)];
        let output = work.inputs.get_mut(layer + 1).unwrap_or(&mut work.output);
        output.clone_from(&memory.middle);
        let index = self.index(layer, DOWN);
        self.linear(index, part.number, &memory.inner, output, true, &mut work.adapters);
    }

    /// Sum of the losses over the chunk's targets, nats. With a `scale` the sum is weighted, and the
    /// logits are replaced by `scale` times its gradient, for the backward pass.
    pub fn loss(&self, part: &Chunk<'_>, scale: Option<f32>, work: &mut Workspace) -> f64 {
        let (d, vocabulary, rows) = (self.config.d_model, self.config.vocabulary, work.picks.len());
        let head = self.matrix(transformer::unembedding(self.config));
        let last = transformer::final_norm(self.config);
        self.norm(&work.output, last, &mut work.normed);
        let logits = room(&mut work.logits, rows * vocabulary);
        multiply(
            self.simd,
            self.precision,
            logits,
            vocabulary,
            View::new(&work.normed, rows, d),
            head.t(),
            false,
        );
        let targets = part.targets.iter().zip(part.weights);
        let targets = targets.filter_map(|(target, weight)| Some((target.as_ref()?, *weight)));
        let rows = logits.chunks_exact_mut(vocabulary).zip(targets);
        let loss = |(row, (target, weight)): (&mut [f32], (&u32, f32))| match scale {
            Some(scale) => {
                let scaled = Some(scale * weight);
                f64::from(weight) * kernels::cross_entropy(self.simd, *target, scaled, row)
            }
            None => kernels::cross_entropy(self.simd, *target, None, row),
        };
        rows.map(loss).sum()
    }

    /// Adds the gradients of the chunk that [`Pass::forward`] and [`Pass::loss`] have gone through.
    pub fn backward(&self, part: &Chunk<'_>, work: &mut Workspace, gradients: &mut Gradients) {
        let (d, vocabulary, rows) = (self.config.d_model, self.config.vocabulary, work.picks.len());
        let Workspace { output, logits, normed, grad, normed_grad, unused, .. } = &mut *work;
        let logits = View::new(logits, rows, vocabulary);
        let head = transformer::unembedding(self.config);
        if self.adapters.is_none() {
            let normed = View::new(normed, rows, d);
            multiply(self.simd, self.precision, &mut gradients[head], d, logits.t(), normed, true);
        }
        let normed_grad = room(normed_grad, rows * d);
        multiply(self.simd, self.precision, normed_grad, d, logits, self.matrix(head), false);
        grad.clear();
        grad.resize(rows * d, 0.0);
        let last = transformer::final_norm(self.config);
        self.norm_backward(output, last, normed_grad, grad, gradients, unused);
        for layer in (0..self.config.layers).rev() {
            // The last layer's activations are still there.
            if self.recompute && layer + 1 < self.config.layers {
                self.attention(layer, part, work);
                self.widen(layer, part, work);
            }
            self.feed_forward_backward(layer, part, work, gradients);
            self.attention_backward(layer, part, work, gradients);
        }
        if self.adapters.is_some() {
            return;
        }
        for (grad, token) in work.grad.chunks_exact(d).zip(part.tokens) {
            let at = *token as usize * d;
            kernels::add_scaled(self.simd, grad, 1.0, &mut gradients[0][at..at + d]);
        }
    }

    /// From the gradient of the layer's output to that of its middle, both in `work.grad`.
    fn feed_forward_backward(
        &self,
        layer: usize,
        part: &Chunk<'_>,
        work: &mut Workspace,
        gradients: &mut Gradients,
    ) {
        let d_ff = self.config.d_ff;
        let Workspace { layers, grad, inner_grad, normed, normed_grad, .. } = work;
        let (scratch, unused) = (&mut work.adapters, &mut work.unused);
        let memory = &mut layers[self.slot(layer)];
        let [norm, gate_up, down] = [FFN_NORM, GATE_UP, DOWN].map(|part| self.index(layer, part));
        let (number, inner) = (part.number, &memory.inner);
        self.linear_backward(down, number, inner, grad, inner_grad, gradients, scratch);
        let lines = memory.gate_up.chunks_exact_mut(2 * d_ff);
        for (row, grad) in lines.zip(inner_grad.chunks_exact(d_ff)) {
            kernels::swiglu_gradient(self.simd, row, grad);
        }
        self.norm(&memory.middle, norm, normed);
        let inner = &memory.gate_up;
        self.linear_backward(gate_up, number, normed, inner, normed_grad, gradients, scratch);
        self.norm_backward(&memory.middle, norm, normed_grad, grad, gradients, unused);
    }

    /// From the gradient of the layer's middle to that of its input, both in `work.grad`.
    fn attention_backward(
        &self,
        layer: usize,
        part: &Chunk<'_>,
        work: &mut Workspace,
        gradients: &mut Gradients,
    ) {
        let (d, total, heads) = (self.config.d_model, part.tokens.len(), Heads::new(self.config));
        let [norm, qkv, output] = [ATTENTION_NORM, QKV, OUTPUT].map(|part| self.index(layer, part));
        let Workspace { layers, grad, mixed_grad, adapters, .. } = &mut *work;
        let (number, mixed) = (part.number, &layers[self.slot(layer)].mixed);
        self.linear_backward(output, number, mixed, grad, mixed_grad, gradients, adapters);
        if layer + 1 == self.config.layers {
            let Workspace { grad, wide_grad, mixed_grad, mixed, picks, .. } = work;
            spread(grad, picks, d, total, wide_grad);
            std::mem::swap(grad, wide_grad);
            spread(mixed_grad, picks, heads.queries(), total, mixed);
            std::mem::swap(mixed_grad, mixed);
        }
        let memory = &work.layers[self.slot(layer)];
        let qkv_grad = room(&mut work.qkv_grad, total * heads.width());
        attention::backward(
            self.simd,
            heads,
            part.lengths,
            &memory.qkv,
            &work.mixed_grad,
            qkv_grad,
            &mut work.scratch,
        );
        self.turn(part.lengths, qkv_grad, Rotary::turn_back);
        self.norm(&work.inputs[layer], norm, &mut work.normed);
        let Workspace { inputs, grad, normed, normed_grad, adapters, unused, .. } = work;
        let qkv_grad = &work.qkv_grad;
        self.linear_backward(qkv, number, normed, qkv_grad, normed_grad, gradients, adapters);
        self.norm_backward(&inputs[layer], norm, normed_grad, grad, gradients, unused);
    }
}
