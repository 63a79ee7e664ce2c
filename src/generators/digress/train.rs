//! Training: noise on a graph at a random step, and the cross-entropy of its clean types.

use anyhow::Result;
use burn::tensor::Tensor;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::DigressSettings;
use super::diffusion::{Noise, State, possible};
use super::network::{Batch, DigressShape, Wish, logits};
use crate::generators::FitContext;
use crate::model::neural::{Learner, Parameters, Schedule, Tensors, cross_entropy};
use crate::random;

/// A clean graph and what would be asked to get it.
pub struct Example {
    pub state: State,
    pub wish: Wish,
}

/// Noisy graphs and their clean types.
#[derive(Default)]
struct NoisedBatch {
    batch: Batch,
    /// By node and by pair, with the weight of each in the loss: 0 for what is always known.
    types: Vec<usize>,
    type_weights: Vec<f32>,
    kinds: Vec<usize>,
    kind_weights: Vec<f32>,
}

impl NoisedBatch {
    fn push(
        &mut self,
        shape: &DigressShape,
        noise: &Noise,
        example: &Example,
        rng: &mut ChaCha8Rng,
    ) {
        let Example { state, wish } = example;
        let step = rng.random_range(1..=noise.schedule.steps());
        let noisy = noise.apply(state, step, rng);
        self.batch.push(shape, &noisy, &forgetful(*wish, rng), step);
        self.types.push(0);
        self.type_weights.push(0.0);
        self.types.extend(&state.types);
        self.type_weights.extend(state.types.iter().map(|_| 1.0));
        for parent in 0..state.nodes() {
            for child in 0..state.nodes() {
                self.kinds.push(state.edge(parent, child));
                let counts = possible(parent, child, noise.ordered);
                self.kind_weights.push(f32::from(u8::from(counts)));
            }
        }
    }

    /// Mean cross-entropy of the nodes, plus `edge_weight` times that of the pairs.
    fn loss(&self, shape: &DigressShape, tensors: &Tensors, edge_weight: f64) -> Tensor<1> {
        let (nodes, pairs) = logits(shape, tensors, &self.batch);
        let count = |weights: &[f32]| f64::from(weights.iter().sum::<f32>().max(1.0));
        cross_entropy(nodes, &self.types, &self.type_weights) / count(&self.type_weights)
            + cross_entropy(pairs, &self.kinds, &self.kind_weights)
                * (edge_weight / count(&self.kind_weights))
    }
}

/// Shares of examples that learn without knowing an attribute, so that none is ever a surprise.
const UNKNOWN_SERVICE: f64 = 0.05;
const UNKNOWN_ATTRIBUTE: f64 = 0.2;

fn forgetful(wish: Wish, rng: &mut ChaCha8Rng) -> Wish {
    let mut keep = |value: usize, unknown: f64| if rng.random_bool(unknown) { 0 } else { value };
    Wish {
        service: keep(wish.service, UNKNOWN_SERVICE),
        calls: wish.calls,
        depth: keep(wish.depth, UNKNOWN_ATTRIBUTE),
        latency: keep(wish.latency, UNKNOWN_ATTRIBUTE),
    }
}

/// Examples in a new order every epoch, in batches of about as many pairs.
struct Order {
    seed: u64,
    epoch: u64,
    order: Vec<usize>,
}

impl Order {
    fn next(&mut self, examples: &[Example], batch_pairs: usize) -> Vec<usize> {
        let (mut chosen, mut pairs) = (Vec::new(), 0);
        while pairs < batch_pairs {
            let Some(index) = self.order.pop() else {
                self.order = (0..examples.len()).collect();
                self.order.shuffle(&mut random::stream(self.seed, "order", &[self.epoch]));
                self.epoch += 1;
                continue;
            };
            chosen.push(index);
            pairs += examples[index].state.nodes().pow(2);
        }
        chosen
    }
}

/// The trained parameters, the mean loss of the last tenth of all steps, and epochs seen.
///
/// # Errors
/// A loss that is not finite; a device that is not there.
pub fn train(
    examples: &[Example],
    shape: &DigressShape,
    noise: &Noise,
    settings: &DigressSettings,
    context: &FitContext,
) -> Result<(Parameters, f64, f64)> {
    let device = crate::model::device(context.device)?.device;
    let mut learner = Learner::new(Parameters::initial(&shape.layout(), context.seed), &device);
    let DigressSettings { steps, learning_rate, edge_weight, batch_pairs, .. } = *settings;
    let rates = Schedule { highest: learning_rate, warmup: steps / 20, steps };
    let bar = context.progress.step("training", "steps", steps);
    let mut order = Order { seed: context.seed, epoch: 0, order: Vec::new() };
    let (mut seen, mut last) = (0, Vec::new());
    for step in 0..steps {
        let mut rng = random::stream(context.seed, "training", &[step]);
        let mut noised = NoisedBatch::default();
        for index in order.next(examples, batch_pairs) {
            noised.push(shape, noise, &examples[index], &mut rng);
            seen += 1;
        }
        let loss = |tensors: &Tensors| noised.loss(shape, tensors, edge_weight);
        let loss = learner.step(rates.rate(step), loss)?;
        if step >= steps - steps.div_ceil(10) {
            last.push(loss);
        }
        bar.inc(1);
        bar.note(&format!("loss {loss:.3}"));
    }
    bar.finish();
    let loss = last.iter().sum::<f64>() / last.len() as f64;
    Ok((learner.parameters, loss, seen as f64 / examples.len() as f64))
}
