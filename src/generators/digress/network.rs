//! The graph transformer: which of the clean types each node and each pair of a noisy graph has.
//!
//! Graphs of a batch lie one after another without padding: rows of nodes, and rows of all ordered
//! pairs of a graph's nodes, in order of the first node and then of the second.

use burn::tensor::activation::relu;
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::diffusion::{EDGE_TYPES, NO_CALL, State, USER_NODE};
use crate::model::neural::{Layout, Tensors};

/// Sizes of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DigressShape {
    /// Destinations; the user's node has a type of its own behind them.
    pub types: usize,
    /// Rows for conditions; row 0 of services, depths and latencies stands for an unknown one.
    pub services: usize,
    pub calls: usize,
    pub depths: usize,
    pub latencies: usize,
    /// Steps of diffusion.
    pub steps: usize,
    pub layers: usize,
    /// Width of a node, of a pair, and of what is known of the whole graph.
    pub width: usize,
    pub pair_width: usize,
    pub graph_width: usize,
    pub heads: usize,
    /// Nodes know where they stand in depth-first order.
    pub positions: bool,
}

/// Distances between two positions that are told apart: 1, 2, 3–4, 5–8, and more.
const DISTANCES: usize = 5;
/// Attention's scores lie within minus this and this: nothing then needs a maximum over a row.
pub const SCORE_LIMIT: f32 = 10.0;

impl DigressShape {
    pub fn layout(&self) -> Layout {
        let Self { width, pair_width, graph_width, .. } = *self;
        let mut layout = Layout::default()
            .embedding("type", self.types + 1, width)
            .linear("node.features", NODE_FEATURES, width)
            .linear("node.graph", graph_width, width)
            .embedding("pair", self.pair_classes(), pair_width)
            .embedding("service", self.services, graph_width)
            .embedding("calls", self.calls + 1, graph_width)
            .embedding("depth", self.depths, graph_width)
            .embedding("latency", self.latencies, graph_width)
            .embedding("step", self.steps + 1, graph_width)
            .linear("graph.features", GRAPH_FEATURES, graph_width)
            .linear("graph.in", graph_width, 2 * graph_width)
            .linear("graph.out", 2 * graph_width, graph_width);
        if self.positions {
            layout = layout.embedding("position", self.calls + 1, width);
        }
        for layer in 0..self.layers {
            let name = |part: &str| format!("{layer}.{part}");
            layout = layout
                .norm(&name("norm"), width)
                .linear(&name("query"), width, pair_width)
                .linear(&name("query.graph"), graph_width, pair_width)
                .linear(&name("key"), width, pair_width)
                .linear(&name("value"), width, pair_width)
                .linear(&name("pair.gain"), pair_width, pair_width)
                .linear(&name("pair.shift"), pair_width, pair_width)
                .linear(&name("pair.out"), pair_width, pair_width)
                .linear(&name("attended"), pair_width, width)
                .norm(&name("wide.norm"), width)
                .linear(&name("wide"), width, 2 * width)
                .linear(&name("wide.graph"), graph_width, 2 * width)
                .linear(&name("narrow"), 2 * width, width);
        }
        layout
            .norm("node.norm", width)
            .linear("node.hidden", width, width)
            .linear("node.out", width, self.types)
            .linear("pair.hidden", pair_width, pair_width)
            .linear("pair.out", pair_width, EDGE_TYPES)
    }

    fn pair_classes(&self) -> usize {
        let relations = if self.positions { 2 * DISTANCES } else { 1 };
        relations * EDGE_TYPES * EDGE_TYPES + 1
    }

    /// Row of the pair's embedding: types of both directions, the distance of positions, or one for
    /// all pairs of a node with itself.
    fn pair_class(&self, state: &State, from: usize, to: usize) -> usize {
        if from == to {
            return self.pair_classes() - 1;
        }
        let relation = if self.positions {
            let distance = from.abs_diff(to);
            let class = distance.next_power_of_two().ilog2() as usize;
            class.min(DISTANCES - 1) + if from < to { 0 } else { DISTANCES }
        } else {
            0
        };
        (relation * EDGE_TYPES + state.edge(from, to)) * EDGE_TYPES + state.edge(to, from)
    }

    pub fn head_width(&self) -> usize {
        self.pair_width / self.heads
    }

    /// Factor of the queries: scores are of the order of 1 whatever the width of a head.
    pub fn scale(&self) -> f32 {
        1.0 / (self.head_width() as f32).sqrt()
    }
}

/// Structural features of a node.
pub const NODE_FEATURES: usize = 7;
/// Structural features of a graph.
pub const GRAPH_FEATURES: usize = 6;
/// Distances and counts are divided by this: features are then of the order of 1.
const USUAL_DEPTH: f32 = 8.0;

/// What a graph, however noisy, looks like: numbers that attention cannot count by itself. The original
/// counts cycles and takes eigenvectors; of a directed tree, degrees and distances from the user say
/// more and cost less.
pub struct Features {
    /// `[nodes, NODE_FEATURES]`.
    pub nodes: Vec<f32>,
    pub graph: [f32; GRAPH_FEATURES],
}

impl Features {
    /// `depth` is the one asked for.
    pub fn of(state: &State, depth: Option<usize>) -> Self {
        let count = state.nodes();
        let (mut parents, mut children) = (vec![0usize; count], vec![0usize; count]);
        for (parent, made) in children.iter_mut().enumerate() {
            for (child, callers) in parents.iter_mut().enumerate() {
                if state.edge(parent, child) != NO_CALL {
                    *callers += 1;
                    *made += 1;
                }
            }
        }
        let reached = state.reached();
        let mut distances = vec![None; count];
        distances[USER_NODE] = Some(0);
        reached.iter().for_each(|(node, _, distance)| distances[*node] = Some(*distance));
        let deepest = reached.iter().map(|(_, _, distance)| *distance).max().unwrap_or(0);
        let flag = |yes: bool| f32::from(u8::from(yes));
        let node = |index: usize| {
            let distance = distances[index].unwrap_or(0);
            [
                flag(parents[index] == 0),
                flag(parents[index] == 1),
                (children[index] as f32).ln_1p(),
                flag(distances[index].is_some()),
                distance as f32 / USUAL_DEPTH,
                flag(distances[index].is_some() && distance == deepest),
                depth.map_or(0.0, |depth| (depth as f32 - distance as f32) / USUAL_DEPTH),
            ]
        };
        let calls = (count - 1) as f32;
        let orphans = (1..count).filter(|node| parents[*node] == 0).count();
        let graph = [
            children.iter().sum::<usize>() as f32 / calls,
            reached.len() as f32 / calls,
            orphans as f32 / calls,
            deepest as f32 / USUAL_DEPTH,
            depth.map_or(0.0, |depth| (depth as f32 - deepest as f32) / USUAL_DEPTH),
            flag(children[USER_NODE] == 1),
        ];
        Self { nodes: (0..count).flat_map(node).collect(), graph }
    }
}

/// A condition as rows of embeddings; 0 is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    pub service: usize,
    /// Calls of the graph; never unknown.
    pub calls: usize,
    pub depth: usize,
    pub latency: usize,
}

/// Noisy graphs with their conditions, as rows.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Nodes of each graph.
    pub sizes: Vec<usize>,
    pub(super) services: Vec<usize>,
    pub(super) calls: Vec<usize>,
    pub(super) depths: Vec<usize>,
    pub(super) latencies: Vec<usize>,
    pub(super) steps: Vec<usize>,
    pub(super) graph_features: Vec<f32>,
    /// By node.
    pub(super) types: Vec<usize>,
    pub(super) positions: Vec<usize>,
    pub(super) graphs: Vec<usize>,
    pub(super) node_features: Vec<f32>,
    /// By pair.
    pub(super) pairs: Vec<usize>,
    pub(super) from: Vec<usize>,
    pub(super) to: Vec<usize>,
}

impl Batch {
    pub fn push(&mut self, shape: &DigressShape, state: &State, wish: &Wish, step: usize) {
        let (graph, first, nodes) = (self.sizes.len(), self.types.len(), state.nodes());
        let Features { nodes: node_features, graph: graph_features } =
            Features::of(state, (wish.depth > 0).then_some(wish.depth));
        self.sizes.push(nodes);
        self.services.push(wish.service);
        self.calls.push(wish.calls);
        self.depths.push(wish.depth);
        self.latencies.push(wish.latency);
        self.steps.push(step);
        self.graph_features.extend(graph_features);
        self.types.push(shape.types);
        self.types.extend(&state.types);
        self.positions.extend(USER_NODE..nodes);
        self.graphs.extend(std::iter::repeat_n(graph, nodes));
        self.node_features.extend(node_features);
        for from in 0..nodes {
            for to in 0..nodes {
                self.pairs.push(shape.pair_class(state, from, to));
                self.from.push(first + from);
                self.to.push(first + to);
            }
        }
    }
}

/// Logits of the clean types on a device: `[nodes, types]` and `[pairs, EDGE_TYPES]`.
pub fn logits(shape: &DigressShape, tensors: &Tensors, batch: &Batch) -> (Tensor<2>, Tensor<2>) {
    let pass = Pass::new(shape, tensors, batch);
    let graph = pass.graph();
    let mut nodes = pass.nodes(&graph);
    let mut pairs = tensors.embedding("pair", &batch.pairs);
    for layer in 0..shape.layers {
        (nodes, pairs) = pass.layer(layer, nodes, pairs, &graph);
    }
    let nodes = tensors.norm("node.norm", nodes);
    let nodes = tensors.linear("node.out", relu(tensors.linear("node.hidden", nodes)));
    let pairs = relu(tensors.linear("pair.hidden", relu(pairs)));
    (nodes, tensors.linear("pair.out", pairs))
}

struct Pass<'a> {
    shape: &'a DigressShape,
    tensors: &'a Tensors,
    batch: &'a Batch,
    /// Graph of each node; first and second node of each pair.
    graphs: Tensor<1, Int>,
    from: Tensor<1, Int>,
    to: Tensor<1, Int>,
}

impl<'a> Pass<'a> {
    fn new(shape: &'a DigressShape, tensors: &'a Tensors, batch: &'a Batch) -> Self {
        let rows = |values: &[usize]| {
            let values: Vec<i64> = values.iter().map(|value| *value as i64).collect();
            let count = values.len();
            Tensor::from_data(TensorData::new(values, [count]), &tensors.device)
        };
        let (graphs, from, to) = (rows(&batch.graphs), rows(&batch.from), rows(&batch.to));
        Self { shape, tensors, batch, graphs, from, to }
    }

    /// What is known of each graph: `[graphs, graph_width]`.
    fn graph(&self) -> Tensor<2> {
        let Self { tensors, batch, .. } = self;
        let features =
            tensors.constant(batch.graph_features.clone(), [batch.sizes.len(), GRAPH_FEATURES]);
        let known = tensors.linear("graph.features", features)
            + tensors.embedding("service", &batch.services)
            + tensors.embedding("calls", &batch.calls)
            + tensors.embedding("depth", &batch.depths)
            + tensors.embedding("latency", &batch.latencies)
            + tensors.embedding("step", &batch.steps);
        tensors.linear("graph.out", relu(tensors.linear("graph.in", known)))
    }

    fn nodes(&self, graph: &Tensor<2>) -> Tensor<2> {
        let Self { shape, tensors, batch, .. } = self;
        let features =
            tensors.constant(batch.node_features.clone(), [batch.types.len(), NODE_FEATURES]);
        let nodes = tensors.embedding("type", &batch.types)
            + tensors.linear("node.features", features)
            + self.of_graph("node.graph", graph);
        if shape.positions {
            nodes + tensors.embedding("position", &batch.positions)
        } else {
            nodes
        }
    }

    /// A linear layer on what is known of the graph, by node.
    fn of_graph(&self, name: &str, graph: &Tensor<2>) -> Tensor<2> {
        self.tensors.linear(name, graph.clone()).select(0, self.graphs.clone())
    }

    fn layer(
        &self,
        layer: usize,
        nodes: Tensor<2>,
        pairs: Tensor<2>,
        graph: &Tensor<2>,
    ) -> (Tensor<2>, Tensor<2>) {
        let Self { shape, tensors, .. } = self;
        let name = |part: &str| format!("{layer}.{part}");
        let linear = |part: &str, x: Tensor<2>| tensors.linear(&name(part), x);
        let normed = tensors.norm(&name("norm"), nodes.clone());
        let modulated = self.of_graph(&name("query.graph"), graph) + 1.0;
        let query = linear("query", normed.clone()) * modulated * shape.scale();
        let key = linear("key", normed.clone());
        // Where a query meets a key, channel by channel, and what the pair makes of it.
        let met = query.select(0, self.from.clone()) * key.select(0, self.to.clone());
        let met =
            met * (linear("pair.gain", pairs.clone()) + 1.0) + linear("pair.shift", pairs.clone());
        let nodes = nodes + linear("attended", self.attend(met.clone(), linear("value", normed)));
        let wide = linear("wide", tensors.norm(&name("wide.norm"), nodes.clone()));
        let wide = wide * (self.of_graph(&name("wide.graph"), graph) + 1.0);
        let nodes = nodes + linear("narrow", relu(wide));
        (nodes, pairs + linear("pair.out", relu(met)))
    }

    /// For each node the mean of all nodes' `value`, by head, with weights e^score; a score is a sum
    /// over the head's channels of `met`.
    fn attend(&self, met: Tensor<2>, value: Tensor<2>) -> Tensor<2> {
        let DigressShape { heads, pair_width, .. } = *self.shape;
        let width = self.shape.head_width();
        let [count, _] = met.dims();
        let [nodes, _] = value.dims();
        let scores = met.reshape([count, heads, width]).sum_dim(2);
        let weights = (scores.clone() / (scores.abs() / SCORE_LIMIT + 1.0)).exp();
        let values = value.select(0, self.to.clone()).reshape([count, heads, width]);
        let values = (values * weights.clone()).reshape([count, pair_width]);
        let sums = |columns: usize, rows: Tensor<2>| {
            let zeros = self.tensors.constant(vec![0.0; nodes * columns], [nodes, columns]);
            zeros.select_assign(0, self.from.clone(), rows, IndexingUpdateOp::Add)
        };
        let totals = sums(heads, weights.reshape([count, heads])).reshape([nodes, heads, 1]);
        let values = sums(pair_width, values).reshape([nodes, heads, width]);
        (values / totals).reshape([nodes, pair_width])
    }
}
