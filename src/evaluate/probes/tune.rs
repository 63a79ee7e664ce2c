//! Tuning a trained network for a task, and asking it.

use std::path::Path;

use anyhow::Result;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Context;
use super::tasks::{Sample, Samples};
use crate::check::within;
use crate::error::UserError;
use crate::generators::FitReport;
use crate::model::decode::{CachedModel, Completion, Constraint, CpuModel, Prompt, PromptSource};
use crate::model::lora::{Lora, LoraConfig};
use crate::model::{
    self, Batches, Corpus, Document, Footprint, LoraStep, LoraTrainer, LoraTraining, ModelConfig,
    Position, Precision, Sampling, TrainConfig, Training, Weights, kernels,
};
use crate::random;
use crate::text::Tokenizer;

/// Where a network starts from, and which of its weights are tuned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Pretrained,
    PretrainedLora,
    Random,
}

/// How networks are tuned; the same for every method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tuning {
    /// Passes over the training questions.
    pub epochs: f64,
    /// Tokens of a batch.
    pub batch_tokens: usize,
    /// Tokens in work at once; absent for as many as suit the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch_tokens: Option<usize>,
    /// Whether activations are computed again in the backward pass: less memory, more time.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub checkpoint_activations: bool,
    pub learning_rate: f64,
    /// Of adapters: they are few and start from nothing.
    pub lora_learning_rate: f64,
    pub warmup_steps: u64,
    pub weight_decay: f64,
    /// Limit on the norm of the gradient.
    pub clip: f64,
    pub lora: LoraConfig,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            epochs: 4.0,
            batch_tokens: 2048,
            micro_batch_tokens: None,
            checkpoint_activations: false,
            learning_rate: 1e-3,
            lora_learning_rate: 5e-3,
            warmup_steps: 20,
            weight_decay: 0.01,
            clip: 1.0,
            lora: LoraConfig::default(),
        }
    }
}

/// Highest of all rates, of epochs, and of the limit on the gradient.
const MAX_RATE: f64 = 1e6;
/// Most tokens of a batch.
const MAX_BATCH: usize = 1 << 30;

impl Tuning {
    /// # Errors
    /// A setting that cannot be, with its value.
    pub fn check(&self) -> Result<(), UserError> {
        let rates = [
            ("epochs", self.epochs),
            ("learning_rate", self.learning_rate),
            ("lora_learning_rate", self.lora_learning_rate),
            ("clip", self.clip),
        ];
        for (name, value) in rates {
            if !(value > 0.0 && value <= MAX_RATE) {
                let message =
                    format!("probe: tuning: {name} {value} is not above 0 and at most {MAX_RATE}");
                return Err(UserError::setting(message));
            }
        }
        let sizes = [
            ("batch_tokens", Some(self.batch_tokens)),
            ("micro_batch_tokens", self.micro_batch_tokens),
        ];
        let wrong = |message| UserError::setting(format!("probe: tuning: {message}"));
        for (name, size) in sizes {
            within(name, size.unwrap_or(1), 1..=MAX_BATCH).map_err(wrong)?;
        }
        within("weight_decay", self.weight_decay, 0.0..=100.0).map_err(wrong)?;
        self.lora.check().map_err(|error| UserError::setting(format!("probe: tuning: {error}")))
    }

    fn footprint(&self) -> Footprint {
        let Self { micro_batch_tokens, checkpoint_activations, .. } = *self;
        Footprint { micro_batch_tokens, checkpoint_activations, precision: Precision::F32 }
    }

    fn train_config(&self, tokens: u64, seed: u64) -> TrainConfig {
        let steps = tokens / self.batch_tokens as u64;
        TrainConfig {
            tokens,
            batch_tokens: self.batch_tokens,
            footprint: self.footprint(),
            learning_rate: self.learning_rate,
            min_learning_rate: 0.0,
            warmup_steps: self.warmup_steps,
            weight_decay: self.weight_decay,
            clip: self.clip,
            evaluate_every: (steps / 5).max(1),
            checkpoint_every: 200,
            snapshots: SNAPSHOTS.map(|share| (share * tokens as f64) as u64).to_vec(),
            seed,
        }
    }
}

/// Share of the training questions that choose among snapshots, and the most that do.
const HELD_OUT: (f64, usize) = (0.1, 300);
/// Shares of the tuning after which a snapshot competes with the final model.
const SNAPSHOTS: [f64; 3] = [0.25, 0.5, 0.75];
/// An answer may take so many tokens more than the right one is written in: the same text has several
/// spellings in tokens, but an answer much longer than that is wrong.
const SLACK: usize = 16;
/// Folder of the tuned network in the scratch folder.
const TUNED: &str = "tuned";
/// Folder of the adapters among the outputs.
const ADAPTER: &str = "adapter";

/// Tunes the network and lets it answer the test questions; `None` where an answer has no end or is
/// no text.
///
/// Of the tuned models the one is taken that answers most of the held-out training questions: a
/// network may have learnt its few questions by heart long before the last of them.
///
/// # Errors
/// Files of the network that are missing or damaged; a training that fails.
pub fn answers(
    start: Start,
    samples: &Samples,
    tuning: &Tuning,
    context: &Context,
) -> Result<(Vec<Option<String>>, FitReport)> {
    let Some(folder) = context.model else {
        anyhow::bail!("a network is to be probed, and there is none");
    };
    let tokenizer = Tokenizer::load(folder)?;
    let network = Network::load(start, folder, &tokenizer, samples, context.seed)?;
    let (train, held_out) = hold_out(&samples.train, context.seed);
    let asker = Asker {
        tokenizer: &tokenizer,
        choices: samples.task.choices(),
        seed: context.seed,
        batch: context.batch,
    };
    let corpus = Questions { tokenizer: &tokenizer, samples: &train, seed: context.seed };
    let tuned = match start {
        Start::PretrainedLora => network.adapt(&corpus, tuning, context)?,
        Start::Pretrained | Start::Random => network.train(&corpus, &held_out, tuning, context)?,
    };
    let ask = |candidate: &Candidate, samples: &[&Sample]| {
        let config = network.config.clone();
        asker.answers(CpuModel::new(config, &candidate.weights, kernels::simd())?, samples)
    };
    let mut taken = None;
    for candidate in &tuned.candidates {
        let answers = ask(candidate, &held_out)?;
        let right = answers.iter().zip(&held_out);
        let hits = right.filter(|(answer, s)| **answer == Some(s.answer())).count();
        // Of equal ones the last: it has seen the most.
        if taken.is_none_or(|(most, _)| hits >= most) {
            taken = Some((hits, candidate));
        }
    }
    let Some((hits, candidate)) = taken else { anyhow::bail!("the tuning gave no model") };
    let answers = ask(candidate, &samples.test.iter().collect::<Vec<_>>())?;
    let note = |name: &str, value: String| (name.to_owned(), value);
    let notes = vec![
        note("tokens", tuned.tokens.to_string()),
        note("taken after", format!("{} tokens", candidate.tokens)),
        note("held-out questions answered", format!("{hits} of {}", held_out.len())),
    ];
    let fit = FitReport {
        parameters: tuned.parameters,
        tokens: tuned.tokens,
        checkpoints: Vec::new(),
        notes,
    };
    Ok((answers, fit))
}

/// Training questions to learn from, and those held out.
fn hold_out(samples: &[Sample], seed: u64) -> (Vec<&Sample>, Vec<&Sample>) {
    let mut samples: Vec<&Sample> = samples.iter().collect();
    samples.shuffle(&mut random::stream(seed, "probe: held-out questions", &[]));
    let (share, most) = HELD_OUT;
    let count = ((samples.len() as f64 * share).ceil() as usize).min(most);
    let train = samples.split_off(count.min(samples.len() - 1));
    (train, samples)
}

/// A network before it is tuned.
struct Network {
    config: ModelConfig,
    weights: Weights,
}

/// What came of the tuning: models among which one is chosen.
struct Tuned {
    candidates: Vec<Candidate>,
    tokens: u64,
    /// Learnt parameters.
    parameters: u64,
}

/// One of the tuned models, and the training tokens that it has seen.
struct Candidate {
    tokens: u64,
    weights: Weights,
}

impl Network {
    fn load(
        start: Start,
        folder: &Path,
        tokenizer: &Tokenizer,
        samples: &Samples,
        seed: u64,
    ) -> Result<Self> {
        let mut config = ModelConfig::load(folder)?;
        let weights = match start {
            Start::Pretrained | Start::PretrainedLora => Weights::load(folder, None, &config)?,
            Start::Random => Weights::initial(&config, seed),
        };
        // Questions may be longer than the texts of layers, and none shall be left out.
        let all: Vec<&Sample> = samples.train.iter().chain(&samples.test).collect();
        let longest = Questions { tokenizer, samples: &all, seed }.longest();
        config.context = config.context.max(longest);
        Ok(Self { config, weights })
    }

    /// Tunes all weights.
    fn train(
        &self,
        corpus: &Questions,
        held_out: &[&Sample],
        tuning: &Tuning,
        context: &Context,
    ) -> Result<Tuned> {
        let out = context.scratch.join(TUNED);
        std::fs::create_dir_all(&out).map_err(|e| UserError::io(&out, "cannot be created", e))?;
        let tokens = corpus.tokens(tuning.epochs);
        let validation = Questions { samples: held_out, ..*corpus };
        let validation: Vec<Document> =
            (0..validation.len()).map(|index| validation.document(0, index)).collect();
        let report = model::train(&Training {
            model: &self.config,
            config: &tuning.train_config(tokens, context.seed),
            initial: &self.weights,
            corpus,
            validation: &validation,
            out: &out,
            scratch: context.scratch,
            device: context.device,
            progress: context.progress,
        })?;
        let log = out.join(model::LOG_FILE);
        std::fs::copy(&log, context.out.join(model::LOG_FILE))
            .map_err(|error| UserError::io(&log, "cannot be copied", error))?;
        let candidates = report.snapshots.iter().map(|tokens| {
            let snapshot = (*tokens != report.tokens).then_some(*tokens);
            let weights = Weights::load(&out, snapshot, &self.config)?;
            Ok(Candidate { tokens: *tokens, weights })
        });
        Ok(Tuned {
            candidates: candidates.collect::<Result<_>>()?,
            tokens: report.tokens,
            parameters: report.parameters,
        })
    }

    /// Tunes adapters and merges them into the weights.
    fn adapt(&self, corpus: &Questions, tuning: &Tuning, context: &Context) -> Result<Tuned> {
        let Self { config, weights } = self;
        let lora = Lora::init(&tuning.lora, config, context.seed)?;
        let parameters = lora.parameters.iter().map(|p| p.values.len() as u64).sum();
        let mut trainer = LoraTrainer::new(LoraTraining {
            model: config,
            weights,
            lora,
            seed: context.seed,
            batch_tokens: tuning.batch_tokens,
            footprint: tuning.footprint(),
            scratch: context.scratch,
            device: context.device,
        })?;
        let total = corpus.tokens(tuning.epochs);
        let start = Position::default();
        let batches =
            Batches::new(corpus, context.seed, tuning.batch_tokens, config.context, start);
        let bar = context.progress.step("training adapters", "tokens", total);
        let mut tokens = 0;
        for (step, batch) in (1u64..).zip(batches) {
            let warm = (step as f64 / tuning.warmup_steps.max(1) as f64).min(1.0);
            let rest = 1.0 - tokens as f64 / total as f64;
            trainer.step(
                &batch,
                LoraStep {
                    learning_rate: tuning.lora_learning_rate * warm * rest,
                    clip: tuning.clip,
                    weight_decay: tuning.weight_decay,
                },
            )?;
            tokens += batch.count;
            bar.inc(batch.count);
            if tokens >= total {
                break;
            }
        }
        bar.finish();
        let lora = trainer.finish();
        let kept = context.out.join(ADAPTER);
        std::fs::create_dir_all(&kept).map_err(|e| UserError::io(&kept, "cannot be created", e))?;
        lora.save(&kept)?;
        let weights = lora.merge(weights.clone())?;
        Ok(Tuned { candidates: vec![Candidate { tokens, weights }], tokens, parameters })
    }
}

/// Training texts: the questions with their answers, of which only the answers are learnt. Written
/// anew in every epoch.
struct Questions<'a> {
    tokenizer: &'a Tokenizer,
    samples: &'a [&'a Sample],
    seed: u64,
}

impl Questions<'_> {
    /// Tokens of the longest text; a few more, as the order of fields decides which phrases are
    /// single tokens.
    fn longest(&self) -> usize {
        let lengths = (0..self.len()).map(|index| self.document(0, index).tokens.len());
        lengths.max().unwrap_or(0) * 5 / 4 + SLACK
    }

    /// Tokens of so many epochs.
    fn tokens(&self, epochs: f64) -> u64 {
        let epoch: usize = (0..self.len()).map(|i| self.document(0, i).tokens.len()).sum();
        ((epoch as f64 * epochs) as u64).max(1)
    }
}

impl Corpus for Questions<'_> {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn document(&self, epoch: u64, index: usize) -> Document {
        let sample = self.samples[index];
        let mut rng = random::stream(self.seed, "probe: training text", &[epoch, index as u64]);
        // A text that cannot be encoded does not exist: every byte is a token.
        let mut tokens = prompt(self.tokenizer, sample, &mut rng).unwrap_or_default();
        let loss_from = tokens.len();
        tokens.extend(self.tokenizer.encode(&sample.answer()).unwrap_or_default());
        tokens.push(Tokenizer::END);
        Document { tokens, loss_from, ..Document::default() }
    }
}

fn prompt(tokenizer: &Tokenizer, sample: &Sample, rng: &mut ChaCha8Rng) -> Result<Vec<u32>> {
    let mut tokens = vec![Tokenizer::BEGIN];
    tokens.extend(tokenizer.encode(&sample.prompt(rng))?);
    Ok(tokens)
}

/// Asks a model questions.
struct Asker<'a> {
    tokenizer: &'a Tokenizer,
    /// The answers to choose from; free text where there are none.
    choices: Option<[&'static str; 2]>,
    seed: u64,
    batch: usize,
}

impl Asker<'_> {
    /// The most likely answer to each question, token by token.
    fn answers(&self, mut model: CpuModel, samples: &[&Sample]) -> Result<Vec<Option<String>>> {
        let choices =
            self.choices.map(|choices| choices.map(|choice| self.tokenizer.encode(choice)));
        let choices = match choices {
            Some(choices) => Some(choices.into_iter().collect::<Result<Vec<_>>>()?),
            None => None,
        };
        let mut prompts = Vec::with_capacity(samples.len());
        for (index, sample) in (0u64..).zip(samples) {
            let mut rng = random::stream(self.seed, "probe: test text", &[index]);
            let tokens = prompt(self.tokenizer, sample, &mut rng)?;
            let max_new_tokens = self.tokenizer.encode(&sample.answer())?.len() + SLACK;
            let constraint = choices.as_ref().map(|choices| {
                Box::new(Choice { choices: choices.clone(), taken: 0 }) as Box<dyn Constraint>
            });
            model.extend(tokens.len() + max_new_tokens);
            prompts.push(Prompt { id: index, tokens, rng, max_new_tokens, constraint });
        }
        let answers = vec![None; samples.len()];
        let mut asked = Asked { tokenizer: self.tokenizer, prompts: prompts.into_iter(), answers };
        let greedy = Sampling { temperature: 0.0, top_k: None };
        let batch = self.batch.max(1);
        model::decode::decode(&mut model, &mut asked, &[Tokenizer::END], greedy, batch)?;
        Ok(asked.answers)
    }
}

/// Questions under way.
struct Asked<'a> {
    tokenizer: &'a Tokenizer,
    prompts: std::vec::IntoIter<Prompt>,
    answers: Vec<Option<String>>,
}

impl PromptSource for Asked<'_> {
    fn next(&mut self) -> Option<Prompt> {
        self.prompts.next()
    }

    fn complete(&mut self, completion: Completion) {
        let understood = completion.stopped && !Tokenizer::any_special(&completion.tokens);
        self.answers[completion.id as usize] =
            understood.then(|| self.tokenizer.decode(&completion.tokens));
    }
}

/// One of several answers. With greedy decoding the choice is that of the first token in which they
/// differ: all others are forced.
struct Choice {
    /// Answers that still can be.
    choices: Vec<Vec<u32>>,
    /// Tokens taken of them.
    taken: usize,
}

impl Constraint for Choice {
    fn permitted(&mut self, tokens: &mut Vec<u32>) {
        let next = |choice: &Vec<u32>| choice.get(self.taken).copied().unwrap_or(Tokenizer::END);
        tokens.clear();
        tokens.extend(self.choices.iter().map(next));
        tokens.sort_unstable();
        tokens.dedup();
    }

    fn push(&mut self, token: u32) {
        let taken = self.taken;
        self.choices.retain(|choice| choice.get(taken) == Some(&token));
        self.taken += 1;
    }
}
