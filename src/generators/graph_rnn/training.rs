//! Training: batches of graphs of like size, attributes left out at random, AdamW.

use anyhow::Result;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::growth::{Example, Growth, Inputs};
use super::network::{Batch, RnnShape, layout, losses};
use super::vocabulary::{Asked, RnnVocabulary};
use super::{Decline, RnnSettings};
use crate::generators::FitContext;
use crate::graph::CallGraph;
use crate::model::neural::{Learner, Parameters, Schedule};
use crate::{model, random};

/// What came of a training.
pub struct Trained {
    pub parameters: Parameters,
    pub steps: u64,
    /// Of structure and of times, nats per decision, mean over the last tenth of the steps.
    pub losses: [f64; 2],
}

/// Share of training graphs whose service is left out, as one that training lacks.
const UNKNOWN_SERVICE: f64 = 0.05;
/// Batches that are cut from one pile of graphs sorted by size.
const PILE: usize = 16;
/// Updates over which the learning rate rises.
const WARMUP: u64 = 100;

/// # Errors
/// A device that is not there; a loss that is not finite.
pub fn train(
    settings: &RnnSettings,
    vocabulary: &RnnVocabulary,
    graphs: &[&CallGraph],
    context: &FitContext,
) -> Result<Trained> {
    let seed = context.seed;
    let shape = settings.shape();
    let parameters = Parameters::initial(&layout(&shape, vocabulary), seed);
    let mut learner = Learner::new(parameters, &model::device(context.device)?.device);
    let inputs = Inputs::new(vocabulary);
    let per_epoch = graphs.len().div_ceil(settings.batch) as u64;
    let steps = settings.steps.min(settings.epochs.saturating_mul(per_epoch));
    let bar = context.progress.step("training", "steps", steps);
    let mut batches: Vec<Vec<&CallGraph>> = Vec::new();
    let mut last = Means::default();
    for step in 0..steps {
        if batches.is_empty() {
            batches = epoch(graphs, settings.batch, seed, step / per_epoch);
        }
        let mut rng = random::stream(seed, "graph-rnn request", &[step]);
        let examples = batches.pop().unwrap_or_default().into_iter().map(|graph| {
            let asked = thinned(vocabulary, graph, settings.leave_out, &mut rng);
            let growth = Growth::new(vocabulary, asked, settings.edge_level);
            Example::new(graph, growth, settings.max_calls as usize)
        });
        let batch = Batch::new(examples.collect(), &inputs);
        let found = update(&mut learner, &shape, &batch, rate(settings, steps, step))?;
        if step >= steps - steps.div_ceil(10) {
            last.add(found, batch.decisions());
        }
        bar.note(&format!("loss {:.3}", found[0] + found[1]));
        bar.inc(1);
    }
    bar.finish();
    Ok(Trained { parameters: learner.parameters, steps, losses: last.values() })
}

/// One update. Returns the losses of structure and of times, nats per decision.
fn update(learner: &mut Learner, shape: &RnnShape, batch: &Batch, rate: f64) -> Result<[f64; 2]> {
    let scale = 1.0 / batch.decisions() as f64;
    let mut of_times = 0.0;
    let total = learner.step(rate, |tensors| {
        let [structure, times] = losses(tensors, shape, batch);
        of_times = f64::from(times.clone().into_scalar::<f32>()) * scale;
        (structure + times) * scale
    })?;
    Ok([total - of_times, of_times])
}

fn rate(settings: &RnnSettings, steps: u64, step: u64) -> f64 {
    let highest = settings.learning_rate;
    match settings.decline {
        Decline::Cosine => Schedule { highest, warmup: WARMUP.min(steps / 10), steps }.rate(step),
        Decline::Stepped => {
            let passed = |milestone: f64| step as f64 >= milestone * steps as f64;
            let passed = [2.0 / 15.0, 1.0 / 3.0].into_iter().filter(|at| passed(*at)).count();
            highest * 0.3f64.powi(passed as i32)
        }
    }
}

/// The batches of one epoch, in random order; each has graphs of like size, so that few steps of the
/// networks run for a single long graph.
fn epoch<'a>(
    graphs: &[&'a CallGraph],
    batch: usize,
    seed: u64,
    epoch: u64,
) -> Vec<Vec<&'a CallGraph>> {
    let mut rng = random::stream(seed, "graph-rnn epoch", &[epoch]);
    let mut order = graphs.to_vec();
    order.shuffle(&mut rng);
    order.chunks_mut(batch * PILE).for_each(|pile| pile.sort_by_key(|graph| graph.num_edges()));
    let mut batches: Vec<Vec<&CallGraph>> = order.chunks(batch).map(<[_]>::to_vec).collect();
    batches.shuffle(&mut rng);
    batches
}

/// The request that `graph` answers, with some attributes left out.
fn thinned(
    vocabulary: &RnnVocabulary,
    graph: &CallGraph,
    leave_out: f64,
    rng: &mut ChaCha8Rng,
) -> Asked {
    let mut keep = |value: u32| (!rng.random_bool(leave_out)).then_some(value);
    let [num_edges, depth, latency] =
        [graph.num_edges(), graph.depth(), graph.latency()].map(&mut keep);
    let unknown = rng.random_bool(UNKNOWN_SERVICE);
    let service = if unknown { 0 } else { vocabulary.service(graph.service()) };
    Asked { service, num_edges, depth, latency }
}

/// Losses weighted by decisions.
#[derive(Default)]
struct Means {
    sums: [f64; 2],
    weight: f64,
}

impl Means {
    fn add(&mut self, losses: [f64; 2], decisions: usize) {
        let weight = decisions as f64;
        self.weight += weight;
        self.sums.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += weight * loss);
    }

    /// 0 where there was nothing.
    fn values(&self) -> [f64; 2] {
        self.sums.map(|sum| sum / self.weight.max(1.0))
    }
}
