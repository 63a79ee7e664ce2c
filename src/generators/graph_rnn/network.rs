//! The network in training: layout of its parameters, batches, and the loss.
//!
//! Sequences of a batch are sorted by falling length, so that step t has rows only for the first
//! n_t of them: "packed" below means the rows of step 0, then those of step 1 …, without padding.

use burn::tensor::activation::{relu, sigmoid, tanh};
use burn::tensor::{Int, Tensor, TensorData};

use super::growth::{Example, Inputs, Sequence, Step, TimeStep};
use super::vocabulary::RnnVocabulary;
use crate::model::neural::{Layout, Tensors, cross_entropy};

/// Sizes of the network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RnnShape {
    /// Of the graph-level RNN.
    pub layers: usize,
    pub hidden: usize,
    /// Width of the inputs of both RNNs.
    pub embedding: usize,
    /// Of the edge-level RNN.
    pub edge_layers: usize,
    pub edge_hidden: usize,
}

/// Names, shapes and beginnings of all parameters.
pub fn layout(shape: &RnnShape, vocabulary: &RnnVocabulary) -> Layout {
    let RnnShape { layers, hidden, embedding, edge_layers, edge_hidden } = *shape;
    let inputs = Inputs::new(vocabulary);
    // First states of all layers, side by side.
    let starts = edge_layers * edge_hidden;
    let mut layout = Layout::default()
        .embedding("call.inputs", inputs.call.rows(), embedding)
        .embedding("parent.inputs", inputs.parent.rows(), starts)
        .embedding("edge.inputs", inputs.edge.rows(), embedding)
        .linear("edge.newest", hidden, starts)
        .linear("edge.parent", hidden, starts);
    for (level, layers, width) in [("graph", layers, hidden), ("edge", edge_layers, edge_hidden)] {
        for layer in 0..layers {
            let name = gru_name(level, layer);
            let inputs = if layer == 0 { embedding } else { width };
            layout = layout.linear(&format!("{name}.input"), inputs, 3 * width).linear(
                &format!("{name}.hidden"),
                width,
                3 * width,
            );
        }
    }
    let times = [
        ("gap", inputs.gap.rows(), vocabulary.gaps.count()),
        ("response", inputs.response.rows(), vocabulary.responses.count()),
    ];
    layout = layout.linear("label", edge_hidden, vocabulary.labels());
    for (head, rows, bins) in times {
        layout = layout
            .embedding(&format!("{head}.inputs"), rows, edge_hidden)
            .linear(&format!("{head}.hidden"), edge_hidden, edge_hidden)
            .linear(head, edge_hidden, bins);
    }
    layout
}

/// Prefix of the parameters of one layer.
pub fn gru_name(level: &str, layer: usize) -> String {
    format!("{level}.{layer}")
}

/// Training graphs, as the network takes them.
#[derive(Debug, Default)]
pub struct Batch {
    /// Packed features of the graph-level steps, and rows of each step.
    calls: Vec<usize>,
    call_sizes: Vec<usize>,
    /// Of each edge-level sequence: rows of the packed graph-level states that it starts from, and
    /// features of the parent.
    newest: Vec<usize>,
    parents: Vec<usize>,
    parent_inputs: Vec<usize>,
    /// Packed features of the edge-level steps, rows of each step, and labels.
    edges: Vec<usize>,
    edge_sizes: Vec<usize>,
    labels: Vec<usize>,
    /// Rows of the packed edge-level states after which a child is written, and its times.
    children: Vec<usize>,
    gap_inputs: Vec<usize>,
    gaps: Vec<usize>,
    response_inputs: Vec<usize>,
    responses: Vec<usize>,
}

impl Batch {
    pub fn new(mut examples: Vec<Example>, inputs: &Inputs) -> Self {
        let mut batch = Self::default();
        examples.sort_by_key(|example| std::cmp::Reverse(example.calls.len()));
        let call_lengths: Vec<usize> = examples.iter().map(|example| example.calls.len()).collect();
        batch.call_sizes = active(&call_lengths);
        for (step, count) in batch.call_sizes.iter().enumerate() {
            let rows = examples[..*count].iter().map(|example| example.calls[step]);
            batch.calls.extend(rows.flat_map(|classes| inputs.call.ids(classes)));
        }
        let first_rows = running(&batch.call_sizes);
        let numbered = examples.iter().enumerate();
        let mut sequences: Vec<(usize, &Sequence)> = numbered
            .flat_map(|(graph, example)| example.sequences.iter().map(move |s| (graph, s)))
            .collect();
        sequences.sort_by_key(|(_, sequence)| std::cmp::Reverse(sequence.steps.len()));
        for (graph, sequence) in &sequences {
            let [newest, parent] = sequence.sources.map(|step| first_rows[step] + graph);
            batch.newest.push(newest);
            batch.parents.push(parent);
            batch.parent_inputs.extend(inputs.parent.ids(sequence.parent));
        }
        let lengths: Vec<usize> = sequences.iter().map(|(_, s)| s.steps.len()).collect();
        batch.edge_sizes = active(&lengths);
        for (step, count) in batch.edge_sizes.clone().into_iter().enumerate() {
            for (_, sequence) in &sequences[..count] {
                batch.push(&sequence.steps[step], inputs);
            }
        }
        batch
    }

    fn push(&mut self, step: &Step, inputs: &Inputs) {
        self.edges.extend(inputs.edge.ids(step.edge));
        if let Some(TimeStep { gap_input, gap, response_input, response }) = step.times {
            self.children.push(self.labels.len());
            self.gap_inputs.extend(inputs.gap.ids(gap_input));
            self.gaps.push(gap);
            self.response_inputs.extend(inputs.response.ids(response_input));
            self.responses.push(response);
        }
        self.labels.push(step.label);
    }

    /// Decisions whose probability the loss is about.
    pub fn decisions(&self) -> usize {
        self.labels.len()
    }
}

/// For falling `lengths`, how many sequences have a step t, for t from 0.
fn active(lengths: &[usize]) -> Vec<usize> {
    let steps = lengths.first().copied().unwrap_or(0);
    (0..steps).map(|step| lengths.partition_point(|length| *length > step)).collect()
}

/// Sum of all sizes before each.
fn running(sizes: &[usize]) -> Vec<usize> {
    let mut sum = 0;
    let before = |size: &usize| {
        sum += size;
        sum - size
    };
    sizes.iter().map(before).collect()
}

/// Negative log-likelihood of the batch in nats: of labels and ends, and of times. One value each.
pub fn losses(tensors: &Tensors, shape: &RnnShape, batch: &Batch) -> [Tensor<1>; 2] {
    let calls = bag(tensors, "call.inputs", &batch.calls, batch.call_sizes.iter().sum());
    let (graphs, width) = (batch.call_sizes[0], shape.hidden);
    let zeros = tensors.constant(vec![0.0; graphs * width], [graphs, width]);
    let firsts = vec![zeros; shape.layers];
    let states = gru(tensors, "graph", calls, &batch.call_sizes, firsts);

    let rows = batch.newest.len();
    let start = tensors.linear("edge.newest", pick(tensors, &states, &batch.newest))
        + tensors.linear("edge.parent", pick(tensors, &states, &batch.parents))
        + bag(tensors, "parent.inputs", &batch.parent_inputs, rows);
    let (start, width) = (tanh(start), shape.edge_hidden);
    let layer = |layer| start.clone().narrow(1, layer * width, width);
    let firsts = (0..shape.edge_layers).map(layer).collect();
    let edges = bag(tensors, "edge.inputs", &batch.edges, batch.decisions());
    let states = gru(tensors, "edge", edges, &batch.edge_sizes, firsts);

    let ones = vec![1.0; batch.decisions()];
    let labels = tensors.linear("label", states.clone());
    let structure = cross_entropy(labels, &batch.labels, &ones);
    let states = pick(tensors, &states, &batch.children);
    let time = |head: &str, ids: &[usize], bins: &[usize]| {
        let hidden = tensors.linear(&format!("{head}.hidden"), states.clone())
            + bag(tensors, &format!("{head}.inputs"), ids, bins.len());
        cross_entropy(tensors.linear(head, relu(hidden)), bins, &ones[..bins.len()])
    };
    let times = time("gap", &batch.gap_inputs, &batch.gaps)
        + time("response", &batch.response_inputs, &batch.responses);
    [structure, times]
}

/// Sums of embeddings, `[rows, width]`; `ids` has the features of one row after those of another.
fn bag(tensors: &Tensors, name: &str, ids: &[usize], rows: usize) -> Tensor<2> {
    let embedded = tensors.embedding(name, ids);
    let width = embedded.dims()[1];
    embedded.reshape([rows, ids.len() / rows, width]).sum_dim(1).reshape([rows, width])
}

/// The rows `ids` of `x`.
fn pick(tensors: &Tensors, x: &Tensor<2>, ids: &[usize]) -> Tensor<2> {
    let count = ids.len();
    let ids: Vec<i64> = ids.iter().map(|id| *id as i64).collect();
    let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [count]), &tensors.device);
    x.clone().select(0, ids)
}

/// Packed states of the last layer, `[rows, width]`, for packed inputs `x`; `firsts` are the states
/// before step 0, by layer.
fn gru(
    tensors: &Tensors,
    level: &str,
    x: Tensor<2>,
    sizes: &[usize],
    firsts: Vec<Tensor<2>>,
) -> Tensor<2> {
    let mut x = x;
    for (layer, first) in firsts.into_iter().enumerate() {
        let name = gru_name(level, layer);
        // One product for the inputs of all steps; only that of the states waits for the last step.
        let inputs = split(tensors.linear(&format!("{name}.input"), x), sizes);
        let mut state = first;
        let mut states = Vec::with_capacity(sizes.len());
        for (input, size) in inputs.into_iter().zip(sizes) {
            if *size < state.dims()[0] {
                state = state.narrow(0, 0, *size);
            }
            let hidden = tensors.linear(&format!("{name}.hidden"), state.clone());
            state = gated(input, hidden, state);
            states.push(state.clone());
        }
        x = Tensor::cat(states, 0);
    }
    x
}

/// The gates of a GRU (Cho et al., 2014; the reset gate after the product, as in cuDNN): r, z and n are
/// side by side in `input` and `hidden`, `[rows, 3 · width]`.
fn gated(input: Tensor<2>, hidden: Tensor<2>, state: Tensor<2>) -> Tensor<2> {
    let width = state.dims()[1];
    let gates =
        sigmoid(input.clone().narrow(1, 0, 2 * width) + hidden.clone().narrow(1, 0, 2 * width));
    let (reset, keep) = (gates.clone().narrow(1, 0, width), gates.narrow(1, width, width));
    let new = tanh(input.narrow(1, 2 * width, width) + reset * hidden.narrow(1, 2 * width, width));
    (state - new.clone()) * keep + new
}

/// The rows of each step. By halves: the gradient of a slice is as large as what it was cut from.
fn split(x: Tensor<2>, sizes: &[usize]) -> Vec<Tensor<2>> {
    if sizes.len() <= 1 {
        return vec![x];
    }
    let (before, after) = sizes.split_at(sizes.len() / 2);
    let (first, second): (usize, usize) = (before.iter().sum(), after.iter().sum());
    let mut parts = split(x.clone().narrow(0, 0, first), before);
    parts.extend(split(x.narrow(0, first, second), after));
    parts
}
