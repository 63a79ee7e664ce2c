//! The network on the host, and graphs drawn from it one decision after another.

use rand_chacha::ChaCha8Rng;

use super::growth::{Fields, Growth, Inputs};
use super::network::{RnnShape, gru_name};
use super::vocabulary::{NO_CALL, RnnVocabulary};
use super::{EdgeLevel, RnnSettings};
use crate::graph::{CallRow, Condition};
use crate::model::Sampling;
use crate::model::neural::{Dense, Parameters, draw};

/// Sums of embeddings.
struct Bag<const N: usize> {
    fields: Fields<N>,
    width: usize,
    table: Vec<f32>,
}

impl<const N: usize> Bag<N> {
    fn new(parameters: &Parameters, name: &str, fields: Fields<N>) -> Self {
        let (width, table) = (parameters.shape(name)[1], parameters.get(name).to_vec());
        Self { fields, width, table }
    }

    fn apply(&self, classes: [usize; N]) -> Vec<f32> {
        let mut sum = vec![0.0; self.width];
        for id in self.fields.ids(classes) {
            add(&mut sum, &self.table[id * self.width..(id + 1) * self.width]);
        }
        sum
    }
}

fn add(sum: &mut [f32], values: &[f32]) {
    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

/// Layers of an RNN: the products of input and state.
struct Gru(Vec<[Dense; 2]>);

impl Gru {
    fn new(parameters: &Parameters, level: &str, layers: usize) -> Self {
        let layer = |layer| {
            let name = gru_name(level, layer);
            ["input", "hidden"].map(|part| Dense::new(parameters, &format!("{name}.{part}")))
        };
        Self((0..layers).map(layer).collect())
    }

    /// One step; `states` is by layer.
    fn step(&self, x: Vec<f32>, states: &mut [Vec<f32>]) {
        let mut x = x;
        for ([input, hidden], state) in self.0.iter().zip(states) {
            let (input, hidden) = (input.apply(&x), hidden.apply(state));
            let width = state.len();
            for (i, value) in state.iter_mut().enumerate() {
                let gate =
                    |gate: usize| sigmoid(input[gate * width + i] + hidden[gate * width + i]);
                let (reset, keep) = (gate(0), gate(1));
                let new = (input[2 * width + i] + reset * hidden[2 * width + i]).tanh();
                *value = (*value - new) * keep + new;
            }
            x.clone_from(state);
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Logits of a bin of time.
struct TimeHead<const N: usize> {
    inputs: Bag<N>,
    hidden: Dense,
    out: Dense,
}

impl<const N: usize> TimeHead<N> {
    fn new(parameters: &Parameters, name: &str, fields: Fields<N>) -> Self {
        Self {
            inputs: Bag::new(parameters, &format!("{name}.inputs"), fields),
            hidden: Dense::new(parameters, &format!("{name}.hidden")),
            out: Dense::new(parameters, name),
        }
    }

    fn logits(&self, state: &[f32], classes: [usize; N]) -> Vec<f32> {
        let mut hidden = self.hidden.apply(state);
        add(&mut hidden, &self.inputs.apply(classes));
        hidden.iter_mut().for_each(|value| *value = value.max(0.0));
        self.out.apply(&hidden)
    }
}

/// A trained network with its vocabulary.
pub struct TrainedRnn {
    vocabulary: RnnVocabulary,
    edge_level: EdgeLevel,
    max_calls: usize,
    shape: RnnShape,
    calls: Bag<{ super::growth::CALL_FEATURES }>,
    parents: Bag<{ super::growth::PARENT_FEATURES }>,
    edges: Bag<{ super::growth::EDGE_FEATURES }>,
    newest: Dense,
    parent: Dense,
    graph: Gru,
    edge: Gru,
    label: Dense,
    gap: TimeHead<{ super::growth::GAP_FEATURES }>,
    response: TimeHead<{ super::growth::RESPONSE_FEATURES }>,
}

/// The graph-level RNN's state, by layer, and what its last layer was after every step.
pub struct GraphState {
    layers: Vec<Vec<f32>>,
    history: Vec<Vec<f32>>,
}

/// The edge-level RNN's state, by layer.
pub struct EdgeState(Vec<Vec<f32>>);

impl EdgeState {
    fn last(&self) -> &[f32] {
        // A network has at least one layer.
        &self.0[self.0.len() - 1]
    }
}

impl TrainedRnn {
    pub fn new(settings: &RnnSettings, vocabulary: RnnVocabulary, parameters: &Parameters) -> Self {
        let shape = settings.shape();
        let inputs = Inputs::new(&vocabulary);
        Self {
            vocabulary,
            edge_level: settings.edge_level,
            max_calls: settings.max_calls as usize,
            shape,
            calls: Bag::new(parameters, "call.inputs", inputs.call),
            parents: Bag::new(parameters, "parent.inputs", inputs.parent),
            edges: Bag::new(parameters, "edge.inputs", inputs.edge),
            newest: Dense::new(parameters, "edge.newest"),
            parent: Dense::new(parameters, "edge.parent"),
            graph: Gru::new(parameters, "graph", shape.layers),
            edge: Gru::new(parameters, "edge", shape.edge_layers),
            label: Dense::new(parameters, "label"),
            gap: TimeHead::new(parameters, "gap", inputs.gap),
            response: TimeHead::new(parameters, "response", inputs.response),
        }
    }

    /// The state after the step of the user.
    pub fn begin(&self, growth: &Growth) -> GraphState {
        let layers = vec![vec![0.0; self.shape.hidden]; self.shape.layers];
        let mut state = GraphState { layers, history: Vec::new() };
        self.read(growth, &mut state);
        state
    }

    /// The graph-level step of the newest call.
    pub fn read(&self, growth: &Growth, state: &mut GraphState) {
        let input = self.calls.apply(growth.call_input(growth.calls()));
        self.graph.step(input, &mut state.layers);
        state.history.extend(state.layers.last().cloned());
    }

    /// The edge-level state before its first step.
    pub fn start(&self, growth: &Growth, graph: &GraphState) -> EdgeState {
        let [newest, parent] = growth.sources().map(|step| &graph.history[step]);
        let mut start = self.newest.apply(newest);
        add(&mut start, &self.parent.apply(parent));
        add(&mut start, &self.parents.apply(growth.parent_input()));
        start.iter_mut().for_each(|value| *value = value.tanh());
        EdgeState(start.chunks(self.shape.edge_hidden).map(<[f32]>::to_vec).collect())
    }

    /// One edge-level step: logits of the labels.
    pub fn labels(&self, growth: &Growth, edge: &mut EdgeState) -> Vec<f32> {
        self.edge.step(self.edges.apply(growth.edge_input()), &mut edge.0);
        self.label.apply(edge.last())
    }

    /// Logits of the bins of the gap before a child.
    pub fn gaps(&self, growth: &Growth, edge: &EdgeState, label: usize) -> Vec<f32> {
        self.gap.logits(edge.last(), growth.gap_input(label))
    }

    /// Logits of the bins of a child's response time.
    pub fn responses(
        &self,
        growth: &Growth,
        edge: &EdgeState,
        label: usize,
        start: u32,
    ) -> Vec<f32> {
        self.response.logits(edge.last(), growth.response_input(label, start))
    }

    /// The calls of a graph, drawn.
    pub fn draw(
        &self,
        condition: &Condition,
        sampling: Sampling,
        rng: &mut ChaCha8Rng,
    ) -> Vec<CallRow> {
        let asked = self.vocabulary.asked(condition);
        let mut growth = Growth::new(&self.vocabulary, asked, self.edge_level);
        let mut graph = self.begin(&growth);
        let mut edge = self.start(&growth, &graph);
        while !growth.is_done() && growth.calls() < self.max_calls {
            let mut logits = self.labels(&growth, &mut edge);
            if growth.at_root() {
                logits[NO_CALL] = f32::NEG_INFINITY;
            }
            let label = draw(&logits, sampling, rng);
            let ended = if label == NO_CALL {
                growth.advance()
            } else {
                let bin = draw(&self.gaps(&growth, &edge, label), sampling, rng);
                let start = growth.start(self.vocabulary.gaps.draw(bin, rng));
                let bin = draw(&self.responses(&growth, &edge, label, start), sampling, rng);
                let finish = growth.finish(start, self.vocabulary.responses.draw(bin, rng));
                let ended = growth.attach(label, start, finish);
                self.read(&growth, &mut graph);
                ended
            };
            if ended && !growth.is_done() {
                edge = self.start(&growth, &graph);
            }
        }
        growth.rows()
    }
}
