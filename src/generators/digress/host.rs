//! The network of [`super::network`] on the host, for drawing: the same function, row by row.

use super::network::{Batch, DigressShape, SCORE_LIMIT};
use crate::model::kernels::{self, Simd};
use crate::model::neural::{Dense, NORM_EPSILON, Parameters};

/// A trained network.
pub struct Network {
    pub shape: DigressShape,
    simd: Simd,
    types: Table,
    node_features: Dense,
    node_graph: Dense,
    pairs: Table,
    services: Table,
    calls: Table,
    depths: Table,
    latencies: Table,
    steps: Table,
    positions: Option<Table>,
    graph_features: Dense,
    graph_in: Dense,
    graph_out: Dense,
    layers: Vec<Layer>,
    node_norm: Norm,
    node_hidden: Dense,
    node_out: Dense,
    pair_hidden: Dense,
    pair_out: Dense,
}

struct Layer {
    norm: Norm,
    query: Dense,
    query_graph: Dense,
    key: Dense,
    value: Dense,
    pair_gain: Dense,
    pair_shift: Dense,
    pair_out: Dense,
    attended: Dense,
    wide_norm: Norm,
    wide: Dense,
    wide_graph: Dense,
    narrow: Dense,
}

/// Rows of an embedding.
struct Table {
    width: usize,
    values: Vec<f32>,
}

impl Table {
    fn new(parameters: &Parameters, name: &str) -> Self {
        Self { width: parameters.shape(name)[1], values: parameters.get(name).to_vec() }
    }

    /// The rows `ids`, one after another.
    fn rows(&self, ids: &[usize]) -> Vec<f32> {
        ids.iter().flat_map(|id| &self.values[id * self.width..][..self.width]).copied().collect()
    }
}

struct Norm {
    gain: Vec<f32>,
    shift: Vec<f32>,
}

impl Norm {
    fn new(parameters: &Parameters, name: &str) -> Self {
        let part = |part: &str| parameters.get(&format!("{name}.{part}")).to_vec();
        Self { gain: part("gain"), shift: part("shift") }
    }

    fn apply(&self, x: &[f32]) -> Vec<f32> {
        let width = self.gain.len();
        let mut out = x.to_vec();
        for row in out.chunks_exact_mut(width) {
            let mean = row.iter().sum::<f32>() / width as f32;
            row.iter_mut().for_each(|value| *value -= mean);
            let variance = row.iter().map(|value| value * value).sum::<f32>() / width as f32;
            let scale = 1.0 / (variance + NORM_EPSILON as f32).sqrt();
            for ((value, gain), shift) in row.iter_mut().zip(&self.gain).zip(&self.shift) {
                *value = *value * scale * gain + shift;
            }
        }
        out
    }
}

fn add(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

fn relu(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = value.max(0.0));
}

/// Multiplies each row of `x` by 1 + the row of `of_graph` of its graph.
fn modulate(x: &mut [f32], of_graph: &[f32], graphs: &[usize]) {
    let width = x.len() / graphs.len();
    for (row, graph) in x.chunks_exact_mut(width).zip(graphs) {
        let factors = &of_graph[graph * width..][..width];
        row.iter_mut().zip(factors).for_each(|(value, factor)| *value *= factor + 1.0);
    }
}

impl Network {
    pub fn new(shape: &DigressShape, parameters: &Parameters) -> Self {
        let dense = |name: &str| Dense::new(parameters, name);
        let table = |name: &str| Table::new(parameters, name);
        Self {
            simd: kernels::simd(),
            types: table("type"),
            node_features: dense("node.features"),
            node_graph: dense("node.graph"),
            pairs: table("pair"),
            services: table("service"),
            calls: table("calls"),
            depths: table("depth"),
            latencies: table("latency"),
            steps: table("step"),
            positions: shape.positions.then(|| table("position")),
            graph_features: dense("graph.features"),
            graph_in: dense("graph.in"),
            graph_out: dense("graph.out"),
            layers: (0..shape.layers).map(|layer| Layer::new(parameters, layer)).collect(),
            node_norm: Norm::new(parameters, "node.norm"),
            node_hidden: dense("node.hidden"),
            node_out: dense("node.out"),
            pair_hidden: dense("pair.hidden"),
            pair_out: dense("pair.out"),
            shape: shape.clone(),
        }
    }

    /// Logits of the clean types: `[nodes, types]` and `[pairs, EDGE_TYPES]`.
    pub fn logits(&self, batch: &Batch) -> (Vec<f32>, Vec<f32>) {
        let graph = self.graph(batch);
        let mut nodes = self.nodes(batch, &graph);
        let mut pairs = self.pairs.rows(&batch.pairs);
        for layer in &self.layers {
            self.layer(layer, batch, &mut nodes, &mut pairs, &graph);
        }
        let mut hidden = self.node_hidden.apply(&self.node_norm.apply(&nodes));
        relu(&mut hidden);
        relu(&mut pairs);
        let mut pairs = self.pair_hidden.apply(&pairs);
        relu(&mut pairs);
        (self.node_out.apply(&hidden), self.pair_out.apply(&pairs))
    }

    fn graph(&self, batch: &Batch) -> Vec<f32> {
        let mut known = self.graph_features.apply(&batch.graph_features);
        add(&mut known, &self.services.rows(&batch.services));
        add(&mut known, &self.calls.rows(&batch.calls));
        add(&mut known, &self.depths.rows(&batch.depths));
        add(&mut known, &self.latencies.rows(&batch.latencies));
        add(&mut known, &self.steps.rows(&batch.steps));
        let mut hidden = self.graph_in.apply(&known);
        relu(&mut hidden);
        self.graph_out.apply(&hidden)
    }

    fn nodes(&self, batch: &Batch, graph: &[f32]) -> Vec<f32> {
        let mut nodes = self.types.rows(&batch.types);
        add(&mut nodes, &self.node_features.apply(&batch.node_features));
        let of_graph = self.node_graph.apply(graph);
        let width = self.shape.width;
        for (row, graph) in nodes.chunks_exact_mut(width).zip(&batch.graphs) {
            add(row, &of_graph[graph * width..][..width]);
        }
        if let Some(positions) = &self.positions {
            add(&mut nodes, &positions.rows(&batch.positions));
        }
        nodes
    }

    fn layer(
        &self,
        layer: &Layer,
        batch: &Batch,
        nodes: &mut [f32],
        pairs: &mut [f32],
        graph: &[f32],
    ) {
        let normed = layer.norm.apply(nodes);
        let mut query = layer.query.apply(&normed);
        modulate(&mut query, &layer.query_graph.apply(graph), &batch.graphs);
        let scale = self.shape.scale();
        query.iter_mut().for_each(|value| *value *= scale);
        let key = layer.key.apply(&normed);
        let mut met = self.meet(layer, batch, &query, &key, pairs);
        let attended = self.attend(batch, &met, &layer.value.apply(&normed));
        add(nodes, &layer.attended.apply(&attended));
        let mut wide = layer.wide.apply(&layer.wide_norm.apply(nodes));
        modulate(&mut wide, &layer.wide_graph.apply(graph), &batch.graphs);
        relu(&mut wide);
        add(nodes, &layer.narrow.apply(&wide));
        relu(&mut met);
        add(pairs, &layer.pair_out.apply(&met));
    }

    /// Products of queries and keys by channel, modulated by the pairs: `[pairs, pair_width]`.
    fn meet(
        &self,
        layer: &Layer,
        batch: &Batch,
        query: &[f32],
        key: &[f32],
        pairs: &[f32],
    ) -> Vec<f32> {
        let width = self.shape.pair_width;
        let mut met = layer.pair_gain.apply(pairs);
        let shifts = layer.pair_shift.apply(pairs);
        let rows = met.chunks_exact_mut(width).zip(shifts.chunks_exact(width));
        for ((met, shift), (from, to)) in rows.zip(batch.from.iter().zip(&batch.to)) {
            let met = &mut met[..width];
            let (query, key) = (&query[from * width..][..width], &key[to * width..][..width]);
            for channel in 0..width {
                met[channel] =
                    query[channel] * key[channel] * (met[channel] + 1.0) + shift[channel];
            }
        }
        met
    }

    fn attend(&self, batch: &Batch, met: &[f32], value: &[f32]) -> Vec<f32> {
        let (width, head_width) = (self.shape.pair_width, self.shape.head_width());
        let mut out = vec![0.0; value.len()];
        let mut first = 0;
        let mut scores = Vec::new();
        let mut pair = 0;
        for &nodes in &batch.sizes {
            for from in first..first + nodes {
                let met = &met[pair * width..][..nodes * width];
                let out = &mut out[from * width..][..width];
                for (head, out) in out.chunks_exact_mut(head_width).enumerate() {
                    let channels = head * head_width..(head + 1) * head_width;
                    scores.clear();
                    scores.extend(met.chunks_exact(width).map(|met| {
                        let score: f32 = met[channels.clone()].iter().sum();
                        score / (score.abs() / SCORE_LIMIT + 1.0)
                    }));
                    let total = kernels::softmax_sum(self.simd, &mut scores);
                    let rows = value[first * width..].chunks_exact(width);
                    for (weight, row) in scores.iter().zip(rows) {
                        let weight = weight / total;
                        let values = &row[channels.clone()];
                        out.iter_mut().zip(values).for_each(|(out, value)| *out += weight * value);
                    }
                }
                pair += nodes;
            }
            first += nodes;
        }
        out
    }
}

impl Layer {
    fn new(parameters: &Parameters, layer: usize) -> Self {
        let name = |part: &str| format!("{layer}.{part}");
        let dense = |part: &str| Dense::new(parameters, &name(part));
        Self {
            norm: Norm::new(parameters, &name("norm")),
            query: dense("query"),
            query_graph: dense("query.graph"),
            key: dense("key"),
            value: dense("value"),
            pair_gain: dense("pair.gain"),
            pair_shift: dense("pair.shift"),
            pair_out: dense("pair.out"),
            attended: dense("attended"),
            wide_norm: Norm::new(parameters, &name("wide.norm")),
            wide: dense("wide"),
            wide_graph: dense("wide.graph"),
            narrow: dense("narrow"),
        }
    }
}
