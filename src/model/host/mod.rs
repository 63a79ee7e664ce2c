//! Training on the CPU: loss and gradients of the decoder in closed form.
//!
//! A batch is packed: documents stand one after another without padding, and attention stays inside
//! each. It is cut into chunks of about [`CHUNK`] tokens, whose activations fit the cache; chunks
//! are dealt to lanes, which run side by side and are summed in order. How a batch is cut depends on
//! the batch alone, so the bits do not depend on the number of threads.

mod adapters;
mod attention;
mod pass;

use rayon::prelude::*;

use self::adapters::Adapters;
use self::pass::{Chunk, Gradients, Pass, Workspace};
use super::kernels::{self, Precision, Simd};
use super::lora::Lora;
use super::rotary::Rotary;
use super::transformer::Parameter;
use super::{Batch, Footprint, ModelConfig};

/// Tokens of a chunk, about.
const CHUNK: usize = 512;
/// Sets of gradients that are filled side by side, at most.
const LANES: usize = 8;

/// How batches are cut: about so many tokens of a chunk, dealt to so many lanes at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub chunk: usize,
    pub lanes: usize,
}

impl Cut {
    /// All lanes together have about `micro_batch_tokens` in work at once. Without that setting, and
    /// in batches that are smaller, the cut is always the same.
    pub fn new(footprint: Footprint) -> Self {
        match footprint.micro_batch_tokens {
            Some(tokens) => {
                let lanes = (tokens / CHUNK).clamp(1, LANES);
                Self { chunk: CHUNK.min(tokens.max(1)), lanes }
            }
            None => Self { chunk: CHUNK, lanes: LANES },
        }
    }

    /// Lanes that a batch of so many tokens is dealt to, about.
    pub fn lanes(self, batch_tokens: usize) -> usize {
        ((batch_tokens + self.chunk / 2) / self.chunk).clamp(1, self.lanes)
    }
}

/// The network's shape with the memory that a training step needs, kept from step to step.
pub struct Host {
    config: ModelConfig,
    simd: Simd,
    precision: Precision,
    rotary: Rotary,
    cut: Cut,
    /// Whether activations are computed again in the backward pass.
    recompute: bool,
    lanes: Vec<Lane>,
}

#[derive(Default)]
struct Lane {
    work: Workspace,
    gradients: Gradients,
    loss: f64,
}

impl Host {
    pub fn new(config: &ModelConfig) -> Self {
        Self::with_simd(config, kernels::simd())
    }

    pub fn with_simd(config: &ModelConfig, simd: Simd) -> Self {
        let cut = Cut::new(Footprint::default());
        let (rotary, precision) = (Rotary::new(config), Precision::F32);
        let (config, recompute, lanes) = (config.clone(), false, Vec::new());
        Self { config, simd, precision, rotary, cut, recompute, lanes }
    }

    /// The same within a footprint.
    pub fn within(mut self, footprint: Footprint) -> Self {
        self.cut = Cut::new(footprint);
        self.recompute = footprint.checkpoint_activations;
        self.precision = footprint.precision;
        self
    }

    fn pass<'a>(&'a self, parameters: &'a [Parameter], adapters: Option<Adapters<'a>>) -> Pass<'a> {
        let Self { config, rotary, .. } = self;
        let (simd, precision, recompute) = (self.simd, self.precision, self.recompute);
        Pass { config, simd, precision, rotary, parameters, recompute, adapters }
    }

    /// Mean loss over the batch's targets by their weights, nats, and its gradient for each parameter in
    /// order.
    pub fn gradients(&mut self, parameters: &[Parameter], batch: &Batch) -> (f64, Gradients) {
        self.run(parameters, None, parameters, batch)
    }

    /// The same for adapters on frozen parameters: the gradient for each of [`Lora::parameters`].
    /// `key` (of seed and step) decides what the step's dropout leaves out; without one, nothing is.
    pub fn lora_gradients(
        &mut self,
        parameters: &[Parameter],
        lora: &Lora,
        key: Option<u64>,
        batch: &Batch,
    ) -> (f64, Gradients) {
        let adapters = Adapters { simd: self.simd, lora, dropout: key };
        self.run(parameters, Some(adapters), &lora.parameters, batch)
    }

    /// Loss, and gradients of `learnt`.
    fn run(
        &mut self,
        parameters: &[Parameter],
        adapters: Option<Adapters<'_>>,
        learnt: &[Parameter],
        batch: &Batch,
    ) -> (f64, Gradients) {
        let scale = batch.mean_scale();
        let parts = chunks(batch, self.cut.chunk);
        let mut lanes = std::mem::take(&mut self.lanes);
        lanes.resize_with(parts.len().min(self.cut.lanes), Lane::default);
        let (count, pass) = (lanes.len(), self.pass(parameters, adapters));
        lanes.par_iter_mut().enumerate().for_each(|(index, lane)| {
            lane.loss = 0.0;
            pass::clear(&mut lane.gradients, learnt);
            for part in parts.iter().skip(index).step_by(count) {
                pass.forward(part, &mut lane.work);
                lane.loss += pass.loss(part, Some(scale), &mut lane.work);
                pass.backward(part, &mut lane.work, &mut lane.gradients);
            }
        });
        let mut sum = match lanes.first_mut() {
            Some(lane) => std::mem::take(&mut lane.gradients),
            None => Gradients::new(),
        };
        if sum.is_empty() {
            pass::clear(&mut sum, learnt);
        }
        let others = &lanes[1.min(count)..];
        sum.par_iter_mut().enumerate().for_each(|(index, sum)| {
            for lane in others {
                kernels::add_scaled(self.simd, &lane.gradients[index], 1.0, sum);
            }
        });
        let loss = lanes.iter().map(|lane| lane.loss).sum::<f64>() * f64::from(scale);
        self.lanes = lanes;
        (loss, sum)
    }

    /// Gives the memory of gradients back for the next step.
    pub fn recycle(&mut self, gradients: Gradients) {
        if let Some(lane) = self.lanes.first_mut() {
            lane.gradients = gradients;
        }
    }

    /// Sum of the losses over the batch's targets, nats.
    pub fn loss(&self, parameters: &[Parameter], batch: &Batch) -> f64 {
        self.total(parameters, None, batch)
    }

    /// The same with adapters, without dropout.
    pub fn lora_loss(&self, parameters: &[Parameter], lora: &Lora, batch: &Batch) -> f64 {
        let adapters = Adapters { simd: self.simd, lora, dropout: None };
        self.total(parameters, Some(adapters), batch)
    }

    fn total(
        &self,
        parameters: &[Parameter],
        adapters: Option<Adapters<'_>>,
        batch: &Batch,
    ) -> f64 {
        let pass = self.pass(parameters, adapters);
        let parts = chunks(batch, self.cut.chunk);
        let losses: Vec<f64> = parts
            .par_iter()
            .map_init(Workspace::default, |work, part| {
                pass.forward(part, work);
                pass.loss(part, None, work)
            })
            .collect();
        losses.iter().sum()
    }
}

fn chunks(batch: &Batch, size: usize) -> Vec<Chunk<'_>> {
    let parts = batch.parts(size).into_iter().enumerate();
    parts.map(|(number, part)| Chunk { part, number }).collect()
}
