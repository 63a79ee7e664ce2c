//! Training of adapters on frozen weights, one batch at a time.

use anyhow::{Result, bail};

use super::Lora;
use crate::device::DeviceChoice;
use crate::model::adamw::{Moments, clip};
use crate::model::engine::Engine;
use crate::model::transformer::{self, Parameter};
use crate::model::{Batch, ModelConfig, Weights, device};

/// Adapters in training. The weights are never changed, so they need no gradients and no moments:
/// what a step costs in memory beyond them is that of a few hundred tokens' activations per lane.
pub struct LoraTrainer {
    engine: Engine,
    base: Vec<Parameter>,
    lora: Lora,
    moments: Moments,
    seed: u64,
    steps: u64,
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
    /// Starts a training of `lora` on `weights`; `seed` decides what dropout leaves out.
    ///
    /// # Errors
    /// Weights of another model; a device that is not there, or is not the CPU.
    pub fn new(
        model: &ModelConfig,
        weights: &Weights,
        lora: Lora,
        seed: u64,
        choice: DeviceChoice,
    ) -> Result<Self> {
        model.check()?;
        let mut engine = Engine::new(model, device(choice)?);
        engine.host_for_adapters()?;
        let base = transformer::parameters(model, weights)?;
        let moments = Moments::new(&lora.parameters);
        Ok(Self { engine, base, lora, moments, seed, steps: 0 })
    }

    /// Learns from one batch. Its bits do not depend on the number of threads.
    ///
    /// # Errors
    /// A loss or gradient that is not finite, with the step.
    pub fn step(&mut self, batch: &Batch, how: LoraStep) -> Result<LoraStepReport> {
        let Self { engine, base, lora, moments, seed, steps } = self;
        let address = Some((*seed, *steps));
        let (loss, mut gradients) = engine.lora_gradients(base, lora, address, batch)?;
        let norm = clip(&mut gradients, how.clip);
        if !loss.is_finite() || !norm.is_finite() {
            bail!(
                "the loss ({loss}) or its gradient ({norm}) is not finite at step {steps} of the \
                 adapters: lower the learning rate"
            );
        }
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
