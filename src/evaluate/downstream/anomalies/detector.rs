//! A detector of anomalies: the autoencoders, trained on graphs that are taken to be normal.

use anyhow::Result;
use burn::tensor::Device;
use rand::seq::SliceRandom;

use super::examples::{Encoder, Example};
use super::network::{Batch, Shape, surprise};
use crate::graph::CallGraph;
use crate::model::neural::{Learner, Parameters, Schedule, Tensors};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::simulator::{Cloud, SimulatorConfig};
    use crate::evaluate::tests::{chain, flat};

    /// A detector that knows the names of `graphs`, its parameters as they are before training.
    fn untrained(graphs: &[&CallGraph]) -> Detector {
        let encoder = Encoder::learn(graphs);
        let (names, services) = encoder.sizes();
        let shape = Shape { names, services };
        Detector { encoder, shape, parameters: Parameters::initial(&shape.layout(), 1) }
    }

    /// All parameters 0 but those of these names.
    fn with(graphs: &[&CallGraph], values: &[(&str, f32)]) -> Detector {
        let mut detector = untrained(graphs);
        for parameter in &mut detector.parameters.0 {
            let value = values.iter().find(|(name, _)| *name == parameter.name);
            parameter.values.fill(value.map_or(0.0, |(_, value)| *value));
        }
        detector
    }

    /// Eight dimensions of mean m and log-variance v: ½ Σ (m² + eᵛ − v − 1).
    fn divergence(mean: f64, log_variance: f64) -> f64 {
        4.0 * (mean * mean + log_variance.exp() - log_variance - 1.0)
    }

    #[test]
    fn surprises_without_any_knowledge_by_hand() {
        let graphs = [flat("S_1", 3, 10), chain("S_2", 2, 40)];
        let graphs: Vec<&CallGraph> = graphs.iter().collect();
        let told = [
            ("structure.mean.bias", 0.8),
            ("structure.log-variance.bias", -0.5),
            ("latency.mean.bias", 0.3),
            ("latency.log-variance.bias", 0.2),
        ];
        for (values, of_structure, of_latency) in
            [(&[][..], 0.0, 0.0), (&told[..], divergence(0.8, -0.5), divergence(0.3, 0.2))]
        {
            let detector = with(&graphs, values);
            // One of three names or an unknown one, of five types, of sixteen numbers of calls.
            let structure = 4f64.ln() + 5f64.ln() + 16f64.ln();
            // Between 0.1 and 3, in the middle of the logarithms.
            let deviation = 0.1 * 30f64.sqrt();
            let constant = deviation.ln() + 0.5 * (2.0 * std::f64::consts::PI).ln();
            let mut all = 0.0;
            for (graph, score) in graphs.iter().zip(detector.scores(&graphs)) {
                let calls = f64::from(graph.num_edges());
                let rows = detector.encoder.encode(graph).rows;
                let squares: f64 = rows.iter().map(|row| f64::from(row.time).powi(2)).sum();
                let latency = squares / (2.0 * deviation * deviation) / calls + constant;
                all += calls * (structure + latency);
                assert!((score.structure - structure - of_structure / calls).abs() < 1e-5);
                assert!((score.latency - latency - of_latency / calls).abs() < 1e-5, "{score:?}");
            }
            // In training a nat of each divergence is free, and the rest has half its weight here.
            let mut batch = Batch::default();
            for graph in &graphs {
                batch.push(detector.shape, &detector.encoder.encode(graph), None);
            }
            let tensors = Tensors::new(&detector.parameters, &Device::flex());
            let loss = surprise(&tensors, &batch, None).loss(0.5).into_data();
            let loss: Vec<f32> = loss.try_into_vec().expect("a tensor of f32");
            let paid = (of_structure - 1.0).max(0.0) + (of_latency - 1.0).max(0.0);
            let expected = (all + 0.5 * 2.0 * paid) / 5.0;
            assert!((f64::from(loss[0]) - expected).abs() < 1e-4, "{loss:?} {expected}");
        }
    }

    #[test]
    fn a_graph_alone_scores_as_in_a_batch() {
        let cloud = Cloud::new(&SimulatorConfig::default()).expect("a cloud");
        let graphs: Vec<CallGraph> = (0..300).map(|index| cloud.graph(1, index)).collect();
        let graphs: Vec<&CallGraph> = graphs.iter().collect();
        let calls: u32 = graphs.iter().map(|graph| graph.num_edges()).sum();
        assert!(calls as usize > 2 * BATCH, "{calls} calls are no several batches");
        let detector = untrained(&graphs);
        let together = detector.scores(&graphs);
        for (graph, score) in graphs.iter().zip(together).step_by(7) {
            let alone = detector.scores(&[graph])[0];
            assert!((alone.structure - score.structure).abs() < 1e-5, "{alone:?} {score:?}");
            assert!((alone.latency - score.latency).abs() < 1e-5, "{alone:?} {score:?}");
        }
    }
}
