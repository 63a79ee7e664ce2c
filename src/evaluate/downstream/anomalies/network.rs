//! Two variational autoencoders of call trees, one for structure and one for response times, after
//! TraceVAE (Xie et al., "Unsupervised Anomaly Detection on Microservice Traces through Graph VAE",
//! WWW 2023): shared embeddings of calls, graph attention between callers and callees, a latent
//! vector of the graph for each part, and the likelihood of every call.
//!
//! Graphs of a batch lie one after another without padding.

use burn::tensor::activation::{log_softmax, relu, sigmoid};
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::examples::{CLASSES, Example, KINDS};
use crate::model::neural::{Layout, Tensors};

const WIDTH: usize = 48;
const HEADS: usize = 4;
/// Length of each of the two latent vectors.
const LATENT: usize = 8;
/// Attention's scores lie within minus this and this: nothing then needs a maximum over a row.
const SCORE_LIMIT: f32 = 10.0;
/// Bounds of the deviation of a standardised time. The lower one keeps a constant time from having
/// a density without bound, the upper one keeps nothing from being surprising.
const LEAST_DEVIATION: f64 = 0.1;
const LARGEST_DEVIATION: f64 = 3.0;
/// Nats that each latent vector may tell for nothing in training: without them the structure's says
/// nothing, as the calls above and before one tell nearly as much.
const FREE: f64 = 1.0;
/// Share of microservices and services that are hidden in training, so that unknown ones mean
/// something in the input.
const HIDDEN: f64 = 0.02;

/// Known microservices and services.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    pub names: usize,
    pub services: usize,
}

impl Shape {
    /// Rows of the names' table: the known ones, an unknown one, the user, and nobody.
    fn unknown(self) -> usize {
        self.names
    }

    fn user(self) -> usize {
        self.names + 1
    }

    fn nobody(self) -> usize {
        self.names + 2
    }

    pub fn layout(self) -> Layout {
        let heads = |layout: Layout, name: &str| {
            layout
                .linear(&format!("{name}.value"), WIDTH, WIDTH)
                .linear(&format!("{name}.from"), WIDTH, HEADS)
                .linear(&format!("{name}.to"), WIDTH, HEADS)
                .linear(&format!("{name}.out"), 2 * WIDTH, WIDTH)
        };
        let latent = |layout: Layout, name: &str| {
            layout
                .linear(&format!("{name}.mean"), WIDTH, LATENT)
                .linear(&format!("{name}.log-variance"), WIDTH, LATENT)
                .linear(&format!("{name}.back"), LATENT, WIDTH)
        };
        let mut layout = Layout::default()
            .embedding("name", self.names + 3, WIDTH)
            .embedding("service", self.services + 1, WIDTH)
            .embedding("kind", KINDS, WIDTH)
            .embedding("depth", CLASSES, WIDTH)
            .embedding("place", CLASSES, WIDTH)
            .embedding("calls", CLASSES, WIDTH);
        for name in ["structure.0", "structure.1", "latency.0"] {
            layout = heads(layout, name);
        }
        layout = latent(latent(layout, "structure"), "latency");
        layout
            .linear("call.parent", WIDTH, WIDTH)
            .linear("call.grandparent", WIDTH, WIDTH)
            .linear("call.previous", WIDTH, WIDTH)
            .linear("call.hidden", WIDTH, WIDTH)
            .linear("call.name", WIDTH, self.names + 1)
            .linear("call.kind", WIDTH, KINDS)
            .linear("call.calls", WIDTH, CLASSES)
            .linear("time.in", 2, WIDTH)
            .linear("time.context", WIDTH, WIDTH)
            .linear("time.hidden", WIDTH, WIDTH)
            .linear("time.mean", WIDTH, 1)
            .linear("time.deviation", WIDTH, 1)
    }
}

/// Graphs as rows.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Calls of each graph.
    pub sizes: Vec<usize>,
    /// By call.
    graphs: Vec<usize>,
    services: Vec<usize>,
    /// What there is, and what the network sees of it.
    names: Vec<usize>,
    seen: Vec<usize>,
    parents: Vec<usize>,
    grandparents: Vec<usize>,
    previous: Vec<usize>,
    kinds: Vec<usize>,
    depths: Vec<usize>,
    places: Vec<usize>,
    calls: Vec<usize>,
    times: Vec<f32>,
    /// Its own time, and that of the call above it less its own.
    time_features: Vec<f32>,
    /// Who attends to whom: each call to itself, to the call above it and to those below it.
    from: Vec<usize>,
    to: Vec<usize>,
}

impl Batch {
    pub fn calls(&self) -> usize {
        self.names.len()
    }

    /// Adds a graph; some of its names are hidden where there is an `rng`.
    pub fn push(&mut self, shape: Shape, example: &Example, mut rng: Option<&mut ChaCha8Rng>) {
        let (graph, first) = (self.sizes.len(), self.calls());
        let mut hidden = || rng.as_mut().is_some_and(|rng| rng.random_bool(HIDDEN));
        let service = if hidden() { shape.services } else { example.service };
        for row in &example.rows {
            let seen = if hidden() { shape.unknown() } else { row.name };
            self.seen.push(seen);
            let (parent, grandparent, above) = match row.parent {
                None => (shape.user(), shape.nobody(), row.time),
                Some(parent) => {
                    let place = first + parent;
                    (self.seen[place], self.parents[place], self.times[place])
                }
            };
            let previous = row.previous.map_or(shape.nobody(), |place| self.seen[first + place]);
            self.graphs.push(graph);
            self.services.push(service);
            self.names.push(row.name);
            self.parents.push(parent);
            self.grandparents.push(grandparent);
            self.previous.push(previous);
            self.kinds.push(row.kind);
            self.depths.push(row.depth);
            self.places.push(row.place);
            self.calls.push(row.calls);
            self.times.push(row.time);
            self.time_features.extend([row.time, above - row.time]);
        }
        for (call, row) in (first..).zip(&example.rows) {
            let pairs = row.parent.map(|parent| [(call, first + parent), (first + parent, call)]);
            for (from, to) in [(call, call)].into_iter().chain(pairs.into_iter().flatten()) {
                self.from.push(from);
                self.to.push(to);
            }
        }
        self.sizes.push(example.rows.len());
    }
}

/// What a batch costs in nats: negative log-likelihoods by call, divergences by graph.
pub struct Surprise {
    pub structure: Tensor<2>,
    pub latency: Tensor<2>,
    pub structure_divergence: Tensor<2>,
    pub latency_divergence: Tensor<2>,
}

impl Surprise {
    /// Negative evidence lower bound per call, the divergences beyond what is free with this weight.
    pub fn loss(self, divergence_weight: f64) -> Tensor<1> {
        let calls = self.structure.dims()[0] as f64;
        let of = |divergence: Tensor<2>| relu(divergence - FREE).sum();
        let divergence = of(self.structure_divergence) + of(self.latency_divergence);
        (self.structure.sum() + self.latency.sum() + divergence * divergence_weight) / calls
    }
}

/// Runs a batch through both autoencoders. Latent vectors are drawn with `noise`, or are the means of
/// their distributions without it.
pub fn surprise(tensors: &Tensors, batch: &Batch, noise: Option<&mut ChaCha8Rng>) -> Surprise {
    Pass::new(tensors, batch).surprise(noise)
}

struct Pass<'a> {
    tensors: &'a Tensors,
    batch: &'a Batch,
    graphs: Tensor<1, Int>,
    from: Tensor<1, Int>,
    to: Tensor<1, Int>,
    /// The embedding of each call's service and depth, which both parts know.
    context: Tensor<2>,
    /// The embedding of each call's destination and type.
    call: Tensor<2>,
}

impl<'a> Pass<'a> {
    fn new(tensors: &'a Tensors, batch: &'a Batch) -> Self {
        let rows = |values: &[usize]| {
            let values: Vec<i64> = values.iter().map(|value| *value as i64).collect();
            let count = values.len();
            Tensor::from_data(TensorData::new(values, [count]), &tensors.device)
        };
        let context = tensors.embedding("service", &batch.services)
            + tensors.embedding("depth", &batch.depths);
        let call = tensors.embedding("name", &batch.seen) + tensors.embedding("kind", &batch.kinds);
        let (graphs, from, to) = (rows(&batch.graphs), rows(&batch.from), rows(&batch.to));
        Self { tensors, batch, graphs, from, to, context, call }
    }

    fn surprise(&self, mut noise: Option<&mut ChaCha8Rng>) -> Surprise {
        let Self { tensors, batch, .. } = self;
        let calls = self.context.clone()
            + self.call.clone()
            + tensors.embedding("place", &batch.places)
            + tensors.embedding("calls", &batch.calls);
        let calls = self.attend("structure.1", self.attend("structure.0", calls));
        let (latent, structure_divergence) =
            self.latent("structure", calls.clone(), noise.as_deref_mut());
        let structure = self.structure(latent);
        let times = tensors.constant(batch.time_features.clone(), [batch.calls(), 2]);
        let timed = self.attend("latency.0", calls.clone() + tensors.linear("time.in", times));
        let (latent, latency_divergence) = self.latent("latency", timed, noise);
        let latency = self.latency(calls, latent);
        Surprise { structure, latency, structure_divergence, latency_divergence }
    }

    /// A layer of graph attention (Veličković et al., 2018) with a residual connection.
    fn attend(&self, name: &str, calls: Tensor<2>) -> Tensor<2> {
        let linear = |part: &str, x: Tensor<2>| self.tensors.linear(&format!("{name}.{part}"), x);
        let (rows, width) = (calls.dims()[0], WIDTH / HEADS);
        let pairs = self.batch.from.len();
        let scores = linear("from", calls.clone()).select(0, self.from.clone())
            + linear("to", calls.clone()).select(0, self.to.clone());
        let scores = relu(scores.clone()) - relu(scores.neg()) * 0.2;
        let weights = (scores.clone() / (scores.abs() / SCORE_LIMIT + 1.0)).exp();
        let values = linear("value", calls.clone()).select(0, self.to.clone());
        let values =
            values.reshape([pairs, HEADS, width]) * weights.clone().reshape([pairs, HEADS, 1]);
        let totals = self.sums(weights, self.from.clone(), rows).reshape([rows, HEADS, 1]);
        let values = self.sums(values.reshape([pairs, WIDTH]), self.from.clone(), rows);
        let values = (values.reshape([rows, HEADS, width]) / totals).reshape([rows, WIDTH]);
        let both = Tensor::cat(vec![calls.clone(), values], 1);
        calls + relu(linear("out", both))
    }

    /// Sums of the rows that have the same of `count` places.
    fn sums(&self, rows: Tensor<2>, places: Tensor<1, Int>, count: usize) -> Tensor<2> {
        let columns = rows.dims()[1];
        let zeros = self.tensors.constant(vec![0.0; count * columns], [count, columns]);
        zeros.select_assign(0, places, rows, IndexingUpdateOp::Add)
    }

    /// What the latent vector of each call's graph tells the decoder, and its divergence from the
    /// standard normal distribution, by graph.
    fn latent(
        &self,
        name: &str,
        calls: Tensor<2>,
        noise: Option<&mut ChaCha8Rng>,
    ) -> (Tensor<2>, Tensor<2>) {
        let Self { tensors, batch, .. } = self;
        let count = batch.sizes.len();
        let sizes = batch.sizes.iter().map(|size| 1.0 / *size as f32).collect();
        let pooled =
            self.sums(calls, self.graphs.clone(), count) * tensors.constant(sizes, [count, 1]);
        let mean = tensors.linear(&format!("{name}.mean"), pooled.clone());
        let log_variance = tensors.linear(&format!("{name}.log-variance"), pooled);
        let divergence =
            mean.clone().square() + log_variance.clone().exp() - log_variance.clone() - 1.0;
        let latent = match noise {
            None => mean,
            Some(rng) => {
                let noise = (0..count * LATENT).map(|_| StandardNormal.sample(rng)).collect();
                mean + (log_variance * 0.5).exp() * tensors.constant(noise, [count, LATENT])
            }
        };
        let told = tensors.linear(&format!("{name}.back"), latent);
        (told.select(0, self.graphs.clone()), divergence.sum_dim(1) * 0.5)
    }

    /// −log p of each call: its destination given the calls above and before it; its type; how many
    /// calls it makes in turn.
    fn structure(&self, latent: Tensor<2>) -> Tensor<2> {
        let Self { tensors, batch, .. } = self;
        let seen = |part: &str, names: &[usize]| {
            tensors.linear(&format!("call.{part}"), tensors.embedding("name", names))
        };
        let known = self.context.clone()
            + latent
            + tensors.embedding("place", &batch.places)
            + seen("parent", &batch.parents)
            + seen("grandparent", &batch.grandparents)
            + seen("previous", &batch.previous);
        let hidden = relu(tensors.linear("call.hidden", relu(known)));
        let made = relu(hidden.clone() + self.call.clone());
        let of_name = relu(hidden.clone() + tensors.embedding("name", &batch.seen));
        surprises(tensors.linear("call.name", hidden), &batch.names)
            + surprises(tensors.linear("call.kind", of_name), &batch.kinds)
            + surprises(tensors.linear("call.calls", made), &batch.calls)
    }

    /// −log of the normal density of each call's standardised log time, given the structure.
    fn latency(&self, calls: Tensor<2>, latent: Tensor<2>) -> Tensor<2> {
        let Self { tensors, batch, .. } = self;
        let hidden = relu(tensors.linear("time.context", calls) + latent);
        let hidden = relu(tensors.linear("time.hidden", hidden));
        let mean = tensors.linear("time.mean", hidden.clone());
        let range = (LARGEST_DEVIATION / LEAST_DEVIATION).ln();
        let log_deviation =
            sigmoid(tensors.linear("time.deviation", hidden)) * range + LEAST_DEVIATION.ln();
        let times = tensors.constant(batch.times.clone(), [batch.calls(), 1]);
        let squares = (times - mean).square() / ((log_deviation.clone() * 2.0).exp() * 2.0);
        squares + log_deviation + 0.5 * (2.0 * std::f64::consts::PI).ln()
    }
}

/// −log softmax(logits) of each row's target: `[rows, 1]`.
fn surprises(logits: Tensor<2>, targets: &[usize]) -> Tensor<2> {
    let ids: Vec<i64> = targets.iter().map(|target| *target as i64).collect();
    let device = logits.device();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [targets.len(), 1]), &device);
    log_softmax(logits, 1).gather(1, ids).neg()
}
