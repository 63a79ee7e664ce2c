//! A detector of anomalies: the autoencoders, trained on graphs that are taken to be normal.

use anyhow::Result;
use burn::tensor::Device;
use rand::seq::SliceRandom;

use super::examples::{Encoder, Example};
use super::network::{Batch, Shape, surprise};
use crate::generators::neural::{Learner, Parameters, Schedule, Tensors};
use crate::graph::CallGraph;
use crate::random;

/// Calls in a batch, a graph more or less.
const BATCH: usize = 512;
/// Epochs of training, within bounds on the steps: 5,000 graphs reach the upper one, which takes half
/// a minute, and a handful of graphs would learn nothing without the lower one.
const EPOCHS: u64 = 40;
const LEAST_STEPS: u64 = 60;
const MOST_STEPS: u64 = 1_200;
const LEARNING_RATE: f64 = 5e-3;
/// Share of the steps in which the divergence comes to count, so that the latent vectors are used.
const WARMING: f64 = 0.3;

/// Surprise of a graph in nats per call: see [`Detector::scores`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    pub structure: f64,
    pub latency: f64,
}

impl Score {
    pub fn total(self) -> f64 {
        self.structure + self.latency
    }
}

pub struct Detector {
    encoder: Encoder,
    shape: Shape,
    parameters: Parameters,
}

impl Detector {
    /// Trains on `graphs`, of which there is at least one, in the order in which they are given.
    ///
    /// # Errors
    /// A loss that is not finite.
    pub fn train(graphs: &[&CallGraph], seed: u64) -> Result<Self> {
        let encoder = Encoder::learn(graphs);
        let (names, services) = encoder.sizes();
        let shape = Shape { names, services };
        let examples: Vec<Example> = graphs.iter().map(|graph| encoder.encode(graph)).collect();
        let calls: usize = examples.iter().map(|example| example.rows.len()).sum();
        let steps = (EPOCHS * calls as u64 / BATCH as u64).clamp(LEAST_STEPS, MOST_STEPS);
        let initial = Parameters::initial(&shape.layout(), seed);
        let mut learner = Learner::new(initial, &Device::flex());
        let rates = Schedule { highest: LEARNING_RATE, warmup: steps / 20, steps };
        let mut order = Order { seed, epoch: 0, order: Vec::new() };
        for step in 0..steps {
            let mut rng = random::stream(seed, "anomalies/training", &[step]);
            let mut batch = Batch::default();
            while batch.calls() < BATCH {
                batch.push(shape, &examples[order.next(examples.len())], Some(&mut rng));
            }
            let weight = (step as f64 / (WARMING * steps as f64)).min(1.0);
            learner.step(rates.rate(step), |tensors| {
                surprise(tensors, &batch, Some(&mut rng)).loss(weight)
            })?;
        }
        Ok(Self { encoder, shape, parameters: learner.parameters })
    }

    /// The negative evidence lower bound of each graph over its number of calls, latent vectors at
    /// their means.
    pub fn scores(&self, graphs: &[&CallGraph]) -> Vec<Score> {
        let tensors = Tensors::new(&self.parameters, &Device::flex());
        let mut scores = Vec::with_capacity(graphs.len());
        let mut batch = Batch::default();
        for (index, graph) in graphs.iter().enumerate() {
            batch.push(self.shape, &self.encoder.encode(graph), None);
            if batch.calls() >= BATCH || index + 1 == graphs.len() {
                scores.extend(score(&tensors, &std::mem::take(&mut batch)));
            }
        }
        scores
    }
}

fn score(tensors: &Tensors, batch: &Batch) -> Vec<Score> {
    let surprise = surprise(tensors, batch, None);
    let values = |tensor: burn::tensor::Tensor<2>| -> Vec<f32> {
        tensor.into_data().try_into_vec().expect("a tensor of f32")
    };
    let (structure, latency) = (values(surprise.structure), values(surprise.latency));
    let divergences =
        values(surprise.structure_divergence).into_iter().zip(values(surprise.latency_divergence));
    let mut first = 0;
    let graphs = batch.sizes.iter().zip(divergences).map(|(size, (of_structure, of_latency))| {
        let calls = first..first + size;
        first += size;
        let mean = |surprises: &[f32], divergence: f32| {
            let sum: f64 = surprises[calls.clone()].iter().map(|value| f64::from(*value)).sum();
            (sum + f64::from(divergence)) / *size as f64
        };
        Score { structure: mean(&structure, of_structure), latency: mean(&latency, of_latency) }
    });
    graphs.collect()
}

/// All indices in a new order every epoch.
struct Order {
    seed: u64,
    epoch: u64,
    order: Vec<usize>,
}

impl Order {
    fn next(&mut self, count: usize) -> usize {
        loop {
            if let Some(index) = self.order.pop() {
                return index;
            }
            self.order = (0..count).collect();
            self.order.shuffle(&mut random::stream(self.seed, "anomalies/order", &[self.epoch]));
            self.epoch += 1;
        }
    }
}
