//! Training of adapters on frozen weights, one batch at a time.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Lora;
use crate::device::DeviceChoice;
use crate::model::adamw::{Moments, clip};
use crate::model::engine::Engine;
use crate::model::memory::Demand;
use crate::model::transformer::{self, Parameter};
use crate::model::{Batch, Footprint, ModelConfig, Weights, device, watch};

/// The setting of the learning rate where adapters are trained.
const RATE: &str = "lora_learning_rate";

/// What [`LoraTrainer::new`] works with.
pub struct LoraTraining<'a> {
    pub model: &'a ModelConfig,
    pub weights: &'a Weights,
    /// Adapters to begin with.
    pub lora: Lora,
    /// Decides what dropout leaves out.
    pub seed: u64,
    /// Tokens of a batch, about.
    pub batch_tokens: usize,
    pub footprint: Footprint,
    /// Where a batch is kept that breaks the training.
    pub scratch: &'a Path,
    pub device: DeviceChoice,
}

/// Adapters in training. The weights are never changed, so they need no gradients and no moments:
/// what a step costs in memory beyond them is that of a few hundred tokens' activations per lane.
pub struct LoraTrainer {
    engine: Engine,
    base: Vec<Parameter>,
    lora: Lora,
    moments: Moments,
    seed: u64,
    steps: u64,
    /// Running mean of the losses, for telling a jump; not a number before the first step.
    usual_loss: f64,
    scratch: PathBuf,
}

/// How one step is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraStep {
    pub learning_rate: f64,
    /// Limit on the norm of the gradient.
    pub clip: f64,
    pub weight_decay: f64,
}

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraStepReport {
    /// Mean over the batch's targets with this step's dropout, nats.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub norm: f64,
}

impl LoraTrainer {
    /// Starts a training of adapters.
    ///
    /// # Errors
    /// A training that does not fit into memory; weights of another model; a device that is not
    /// there, or is not the CPU; a precision that it does not have.
    pub fn new(training: LoraTraining<'_>) -> Result<Self> {
        let LoraTraining { model, lora, seed, batch_tokens, footprint, .. } = training;
        model.check()?;
        let chosen = device(training.device)?;
        let mut engine = Engine::new(model, &chosen, footprint)?;
        engine.host_for_adapters()?;
        let learnt = lora.size() as u64;
        Demand { model, learnt, batch_tokens, footprint }.check(&chosen)?;
        let base = transformer::parameters(model, training.weights)?;
        let moments = Moments::new(&lora.parameters);
        let scratch = training.scratch.to_owned();
        Ok(Self { engine, base, lora, moments, seed, steps: 0, usual_loss: f64::NAN, scratch })
    }

    /// Learns from one batch. Its bits do not depend on the number of threads.
    ///
    /// # Errors
    /// A loss or gradient that is not finite or a loss that jumps, with the step; the batch then lies
    /// in the scratch folder.
    pub fn step(&mut self, batch: &Batch, how: LoraStep) -> Result<LoraStepReport> {
        let Self { engine, base, lora, moments, seed, steps, usual_loss, scratch } = self;
        let address = Some((*seed, *steps));
        let (loss, mut gradients) = engine.lora_gradients(base, lora, address, batch)?;
        let norm = clip(&mut gradients, how.clip);
        if let Some(what) = watch::fault(loss, *usual_loss, norm) {
            return Err(watch::stop(scratch, *steps, batch, &what, RATE));
        }
        *usual_loss = watch::usual(*usual_loss, loss);
        *steps += 1;
        let LoraStep { learning_rate, weight_decay, .. } = how;
        moments.update(&mut lora.parameters, &gradients, *steps, learning_rate, weight_decay);
        engine.recycle(gradients);
        Ok(LoraStepReport { loss, norm })
    }

    /// Sum of the losses over the batch's targets, nats, without dropout.
    pub fn loss(&mut self, batch: &Batch) -> Result<f64> {
        self.engine.lora_loss(&self.base, &self.lora, batch)
    }

    /// The adapters as they are now.
    pub fn lora(&self) -> &Lora {
        &self.lora
    }

    /// Ends the training.
    pub fn finish(self) -> Lora {
        self.lora
    }
}
