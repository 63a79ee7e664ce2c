//! Training: of a whole model, with checkpoints, and of adapters on frozen weights, one batch at a
//! time.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::adamw::{Moments, clip};
use super::batches::{Batch, Batches, Corpus, Document, Position};
use super::checkpoint::{Checkpoint, Snapshot, State};
use super::engine::Engine;
use super::lora::Lora;
use super::memory::Demand;
use super::transformer::{self, Parameter};
use super::weights::file_name;
use super::{Footprint, ModelConfig, Weights, config, device, watch};
use crate::device::DeviceChoice;
use crate::durable;
use crate::progress::{Progress, StepProgress};

/// How to train.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    /// Training tokens to see.
    pub tokens: u64,
    /// Tokens of a batch.
    pub batch_tokens: usize,
    pub footprint: Footprint,
    /// Highest learning rate, after the warm-up.
    pub learning_rate: f64,
    /// Learning rate at the end of the cosine.
    pub min_learning_rate: f64,
    pub warmup_steps: u64,
    pub weight_decay: f64,
    /// Limit on the norm of the gradient.
    pub clip: f64,
    /// Steps between two measurements of validation loss.
    pub evaluate_every: u64,
    /// Steps between two checkpoints.
    pub checkpoint_every: u64,
    /// Training tokens after which a snapshot of the weights is kept.
    pub snapshots: Vec<u64>,
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainReport {
    pub parameters: u64,
    pub tokens: u64,
    pub steps: u64,
    /// Tokens at each snapshot; the last is the final model.
    pub snapshots: Vec<u64>,
    /// Mean over the last evaluation interval, nats per token.
    pub final_train_loss: f64,
    pub validation_perplexity: f64,
}

/// Name of the training log in the output folder.
pub const LOG_FILE: &str = "log.csv";
const LOG_HEADER: &str =
    "step,tokens,loss,learning_rate,gradient_norm,validation_loss,validation_perplexity\n";

impl TrainConfig {
    /// Linear warm-up, then a cosine down to the minimum, by the share of tokens seen.
    fn rate(&self, step: u64, tokens: u64) -> f64 {
        let warmup = ((step + 1) as f64 / self.warmup_steps.max(1) as f64).min(1.0);
        let progress = (tokens as f64 / self.tokens.max(1) as f64).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        let span = self.learning_rate - self.min_learning_rate;
        warmup * (self.min_learning_rate + span * cosine)
    }
}

/// What [`train`] works with.
pub struct Training<'a> {
    pub model: &'a ModelConfig,
    pub config: &'a TrainConfig,
    /// Weights to begin with.
    pub initial: &'a Weights,
    pub corpus: &'a dyn Corpus,
    /// Documents for the validation loss.
    pub validation: &'a [Document],
    /// Where the model goes.
    pub out: &'a Path,
    /// Where checkpoints lie.
    pub scratch: &'a Path,
    pub device: DeviceChoice,
    pub progress: Progress,
}

/// Trains a model, or goes on from the newest checkpoint in `scratch` that is whole, and writes `model.safetensors`,
/// `config.json`, snapshots and `log.csv` to `out`. On the CPU an interrupted and resumed training
/// ends in the same bits as an uninterrupted one.
///
/// # Errors
/// A model that does not fit into memory, before anything is done; a loss or gradient that is not finite or a loss that jumps, with the step, the
/// batch then lying in `scratch`; nothing to learn from; files that cannot be written.
pub fn train(training: &Training<'_>) -> Result<TrainReport> {
    let Training { model, config, scratch, .. } = *training;
    model.check()?;
    let chosen = device(training.device)?;
    let (learnt, footprint) = (model.parameters(), config.footprint);
    let batch_tokens = config.batch_tokens;
    Demand { model, learnt, batch_tokens, footprint }.check(&chosen)?;
    let mut run = Run::start(training, Engine::new(model, &chosen, footprint))?;
    let bar = training.progress.step("training", "tokens", config.tokens);
    bar.inc(run.state.tokens);
    let position = run.state.position;
    let mut batches =
        Batches::new(training.corpus, config.seed, config.batch_tokens, model.context, position);
    while run.state.tokens < config.tokens {
        let Some(batch) = batches.next() else {
            bail!("the training set has no layer that fits the context of {} tokens", model.context)
        };
        run.step(&batch)?;
        run.state.position = batches.position();
        bar.inc(batch.count);
        run.after_step(training.validation, scratch, &bar)?;
    }
    bar.finish();
    run.finish(training.validation, training.out)
}

struct Run<'a> {
    model: &'a ModelConfig,
    config: &'a TrainConfig,
    engine: Engine,
    scratch: PathBuf,
    state: State,
}

impl<'a> Run<'a> {
    fn start(training: &Training<'a>, engine: Engine) -> Result<Self> {
        let Training { model, config, scratch, initial, .. } = *training;
        let parameters = transformer::parameters(model, initial)?;
        durable::clear_partial(scratch);
        let found = Checkpoint::load(scratch, &parameters);
        if let Some(damaged) = (!found.damaged.is_empty()).then(|| found.damaged.join("; ")) {
            let from = match &found.state {
                Some(state) => format!("goes on from step {} of the checkpoint before", state.step),
                None => "starts afresh".to_owned(),
            };
            training.progress.say(&format!("{damaged}; the training {from}"));
        }
        let state = match found.state {
            Some(state) => state,
            None => State {
                moments: Moments::new(&parameters),
                parameters,
                step: 0,
                tokens: 0,
                position: Position::default(),
                loss: (0.0, 0),
                usual_loss: f64::NAN,
                norm: 0.0,
                log: LOG_HEADER.to_owned(),
                snapshots: Vec::new(),
            },
        };
        Ok(Self { model, config, engine, scratch: scratch.to_owned(), state })
    }

    fn step(&mut self, batch: &Batch) -> Result<()> {
        let (loss, mut gradients) = self.engine.gradients(&self.state.parameters, batch)?;
        let (step, usual) = (self.state.step, self.state.usual_loss);
        let norm = clip(&mut gradients, self.config.clip);
        if let Some(what) = watch::fault(loss, usual, norm) {
            return Err(watch::stop(&self.scratch, step, batch, &what, "learning_rate"));
        }
        let rate = self.config.rate(step, self.state.tokens);
        let State { parameters, moments, .. } = &mut self.state;
        moments.update(parameters, &gradients, step + 1, rate, self.config.weight_decay);
        self.engine.recycle(gradients);
        self.state.step += 1;
        self.state.tokens += batch.count;
        self.state.loss = (self.state.loss.0 + loss, self.state.loss.1 + 1);
        self.state.usual_loss = watch::usual(usual, loss);
        self.state.norm = norm;
        Ok(())
    }

    /// Log, snapshots and checkpoints that are due.
    fn after_step(
        &mut self,
        validation: &[Document],
        scratch: &Path,
        bar: &StepProgress,
    ) -> Result<()> {
        // The last step is logged by `finish`, which needs the losses since the line before.
        let last = self.state.tokens >= self.config.tokens;
        let due = |every: u64| every > 0 && !last && self.state.step.is_multiple_of(every);
        let (evaluate, checkpoint) =
            (due(self.config.evaluate_every), due(self.config.checkpoint_every));
        if evaluate {
            bar.note(&format!("loss {:.3}", self.mean_loss()));
            self.log_line(validation)?;
        }
        let due = self.config.snapshots.iter().filter(|tokens| **tokens <= self.state.tokens);
        if due.count() > self.state.snapshots.len() && self.state.tokens < self.config.tokens {
            let path = scratch.join(file_name(Some(self.state.tokens)));
            transformer::weights(self.model, &self.state.parameters).save(&path, self.model)?;
            self.state.snapshots.push(Snapshot::of(scratch, self.state.tokens)?);
            Checkpoint::save(scratch, &self.state)?;
        } else if checkpoint {
            Checkpoint::save(scratch, &self.state)?;
        }
        Ok(())
    }

    fn mean_loss(&self) -> f64 {
        self.state.loss.0 / self.state.loss.1.max(1) as f64
    }

    /// Measures validation loss and adds a line to the log.
    fn log_line(&mut self, validation: &[Document]) -> Result<f64> {
        let validation_loss = self.validation_loss(validation)?;
        let State { step, tokens, norm, .. } = self.state;
        let (loss, rate) = (self.mean_loss(), self.config.rate(step, tokens));
        writeln!(
            self.state.log,
            "{step},{tokens},{loss:.5},{rate:.6e},{norm:.4},{validation_loss:.5},{:.4}",
            validation_loss.exp()
        )?;
        self.state.loss = (0.0, 0);
        Ok(validation_loss)
    }

    /// Mean over all targets, nats; not a number if there are none.
    fn validation_loss(&self, documents: &[Document]) -> Result<f64> {
        let fits = |d: &&Document| (2..=self.model.context).contains(&d.tokens.len());
        let batch = Batch::new(documents.iter().filter(fits));
        let total = self.engine.loss(&self.state.parameters, &batch)?;
        Ok(total / batch.target_count() as f64)
    }

    fn finish(mut self, validation: &[Document], out: &Path) -> Result<TrainReport> {
        let final_train_loss = self.mean_loss();
        let validation_loss = self.log_line(validation)?;
        let text = serde_json::to_string_pretty(self.model)? + "\n";
        durable::write(&out.join(config::CONFIG_FILE), text.as_bytes())?;
        durable::write(&out.join(LOG_FILE), self.state.log.as_bytes())?;
        for snapshot in &self.state.snapshots {
            let name = file_name(Some(snapshot.tokens));
            let from = self.scratch.join(&name);
            std::fs::copy(&from, out.join(name)).with_context(|| from.display().to_string())?;
        }
        let weights = transformer::weights(self.model, &self.state.parameters);
        weights.save(&out.join(file_name(None)), self.model)?;
        let mut snapshots: Vec<u64> = self.state.snapshots.iter().map(|s| s.tokens).collect();
        snapshots.push(self.state.tokens);
        Ok(TrainReport {
            parameters: self.model.parameters(),
            tokens: self.state.tokens,
            steps: self.state.step,
            snapshots,
            final_train_loss,
            validation_perplexity: validation_loss.exp(),
        })
    }
}

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
    /// there, or is not the CPU.
    pub fn new(training: LoraTraining<'_>) -> Result<Self> {
        let LoraTraining { model, lora, seed, batch_tokens, footprint, .. } = training;
        model.check()?;
        let chosen = device(training.device)?;
        let mut engine = Engine::new(model, &chosen, footprint);
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
