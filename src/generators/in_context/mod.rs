//! Few-shot prompts to a model that was never trained on traces (paper, table 3 and figure 7): a
//! pretrained one on this machine, or any endpoint that speaks OpenAI's protocol.
//!
//! The prompt explains the format, shows examples from the training graphs, and asks. Nothing is
//! learnt; "training" keeps the graphs from which examples are taken.

mod endpoint;
mod local;
mod prompt;
mod store;
#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::Result;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use self::endpoint::{Endpoint, EndpointSettings};
use self::prompt::Message;
use super::{
    Entry, FitContext, FitReport, GenerateOptions, Generator, Recipe, no_checkpoint, settings,
};
use crate::check::within;
use crate::data::calls::{self, Group};
use crate::device::DeviceChoice;
use crate::error::UserError;
use crate::graph::{CallGraph, Condition, DecodingCost, Generated, Violation, ViolationCode};
use crate::model::Sampling;
use crate::model::pretrained::{Card, Pretrained};
use crate::progress::{Progress, StepProgress};
use crate::random;
use crate::version::Version;

pub const ID: &str = "in-context";

/// `[settings]` of a baseline.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// `smollm2`, a GGUF file or a folder of Hugging Face; with `endpoint`, its name there.
    model: String,
    /// Examples in a prompt.
    #[serde(default = "Settings::default_examples")]
    examples: u32,
    /// Examples have at most this many calls.
    #[serde(default = "Settings::default_example_calls")]
    example_calls: u32,
    /// Tokens of a reply, at most.
    #[serde(default = "Settings::default_max_tokens")]
    max_tokens: u32,
    endpoint: Option<EndpointSettings>,
    /// Hash of the files that `model` names, as the plan found them: so it is in the keys of stages.
    #[serde(rename = "weights")]
    _weights: Option<String>,
}

/// The key of that hash.
pub const WEIGHTS: &str = "weights";

/// The file or folder of weights that a baseline's settings name; `None` for an endpoint's model, and for
/// weights that are the same on every machine.
pub fn named_weights(settings: &toml::Table) -> Option<&Path> {
    let model = settings.get("model").and_then(toml::Value::as_str)?;
    (!settings.contains_key("endpoint") && model != local::SMOLLM2).then(|| Path::new(model))
}

impl Settings {
    fn default_examples() -> u32 {
        2
    }

    fn default_example_calls() -> u32 {
        10
    }

    fn default_max_tokens() -> u32 {
        2_048
    }

    fn check(&self) -> Result<()> {
        let wrong = |message: String| Err(UserError::setting(message).into());
        let sizes = within("max_tokens", self.max_tokens, 1..=1 << 20)
            .and_then(|()| within("examples", self.examples, 0..=10_000));
        if let Err(message) = sizes {
            return wrong(format!("generator `{ID}`: {message}"));
        }
        if self.examples > 0 && self.example_calls == 0 {
            return wrong(format!("generator `{ID}`: example_calls = 0 permits no example"));
        }
        self.endpoint.as_ref().map_or(Ok(()), EndpointSettings::check)
    }

    fn open(&self) -> Result<Box<dyn ChatModel>> {
        Ok(match &self.endpoint {
            Some(endpoint) => Box::new(Endpoint::new(endpoint, &self.model)?),
            None => Box::new(local::Local::open(&local::path(&self.model)?)?),
        })
    }

    /// What the weights on this machine are; nothing for an endpoint.
    fn weights(&self) -> Result<Option<Card>> {
        match &self.endpoint {
            Some(_) => Ok(None),
            None => Ok(Some(Pretrained::open(&local::path(&self.model)?)?.card()?)),
        }
    }
}

/// What the registry says of it.
pub const ENTRY: Entry = Entry {
    id: ID,
    about: "few-shot prompts to a model that was not trained on traces: a local one or an endpoint",
    training: Version::new("train/in-context", 1),
    answers: Version::new("answer/in-context", 1),
    constrained: false,
    likelihood: false,
    tiny: None,
    build,
};

/// As the registry wants it.
fn build(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    let settings: Settings = settings(ID, table)?;
    settings.check()?;
    Ok(Box::new(InContext { settings }))
}

struct InContext {
    settings: Settings,
}

/// Endpoints take a seed of 32 bits at most, and some a signed one.
pub fn request_seed(rng: &mut impl Rng) -> u64 {
    u64::from(rng.random::<u32>() >> 1)
}

/// Training graphs that examples are drawn from, at most.
const POOL: usize = 1_000;
const POOL_FILE: &str = "examples.parquet";

impl Recipe for InContext {
    fn fit(&self, context: &FitContext) -> Result<FitReport> {
        let settings = &self.settings;
        let mut notes = vec![("model".to_owned(), settings.model.clone())];
        if let Some(endpoint) = &settings.endpoint {
            notes.push(("endpoint".to_owned(), endpoint.url.clone()));
            notes.extend(endpoint.prices());
        }
        // Also finds out now, and not after an hour, that the weights are not there.
        let weights = settings.weights()?;
        let unused = weights.iter().flat_map(|card| &card.notes);
        notes.extend(unused.map(|note| ("weights".to_owned(), note.clone())));
        let parameters = weights.map_or(0, |card| card.config.parameters());
        let mut pool = context.dataset.train();
        pool.retain(|graph| graph.num_edges() <= settings.example_calls);
        if pool.is_empty() && settings.examples > 0 {
            let message = format!(
                "generator `{ID}`: no training graph has at most example_calls = {} calls",
                settings.example_calls
            );
            return Err(UserError::setting(message).into());
        }
        pool.shuffle(&mut random::stream(context.seed, "in-context/pool", &[]));
        pool.truncate(POOL);
        let examples: Vec<Group> = (0u32..)
            .zip(&pool)
            .map(|(index, graph)| Group {
                graph: index,
                service: graph.service().clone(),
                rows: graph.rows(),
            })
            .collect();
        calls::write(&context.out.join(POOL_FILE), &mut calls::to_frame(&examples)?)?;
        notes.push(("examples in a prompt".to_owned(), settings.examples.to_string()));
        Ok(FitReport { parameters, tokens: 0, checkpoints: Vec::new(), notes })
    }

    fn load(
        &self,
        dir: &Path,
        checkpoint: Option<u64>,
        _device: DeviceChoice,
    ) -> Result<Box<dyn Generator>> {
        no_checkpoint(ID, checkpoint)?;
        let path = dir.join(POOL_FILE);
        let graph = |example: Group| {
            CallGraph::from_rows(example.service, &example.rows)
                .map_err(|_| UserError::input(&path, "graph", "is not valid").into())
        };
        let examples = calls::from_frame(&path, &calls::read(&path)?)?;
        let pool = examples.into_iter().map(graph).collect::<Result<_>>()?;
        let model = self.settings.open()?;
        Ok(Box::new(Asked { settings: self.settings.clone(), pool, model }))
    }
}

/// A request to a model.
struct Question {
    messages: Vec<Message>,
    /// Address of its randomness.
    seed: u64,
    max_tokens: u32,
}

/// A model to be asked about anything, with the settings of a baseline.
pub struct Asker {
    settings: Settings,
    model: Box<dyn ChatModel>,
}

/// Examples with their answers, and the question.
pub struct Conversation {
    pub instructions: String,
    pub examples: Vec<(String, String)>,
    pub question: String,
    /// Address of its randomness ([`request_seed`]).
    pub seed: u64,
    /// Tokens of the answer, at most.
    pub max_tokens: u32,
}

impl Asker {
    /// # Errors
    /// Settings that cannot be, weights that are not there.
    pub fn open(table: &toml::Table) -> Result<Self> {
        let settings: Settings = settings(ID, table)?;
        settings.check()?;
        let model = settings.open()?;
        Ok(Self { settings, model })
    }

    /// The model's name in the settings.
    pub fn name(&self) -> &str {
        &self.settings.model
    }

    /// Examples that a conversation should show.
    pub fn examples(&self) -> u32 {
        self.settings.examples
    }

    /// Parameters of the model; 0 behind an endpoint, which does not tell.
    ///
    /// # Errors
    /// Weights that cannot be read.
    pub fn parameters(&self) -> Result<u64> {
        Ok(self.settings.weights()?.map_or(0, |card| card.config.parameters()))
    }

    /// The most likely answers, in the order of the conversations, and whatever they are.
    ///
    /// # Errors
    /// A question that is longer than the model's context, an endpoint that does not answer.
    pub fn ask(
        &self,
        conversations: Vec<Conversation>,
        batch: usize,
        progress: Progress,
    ) -> Result<Vec<String>> {
        let options = GenerateOptions {
            seed: 0,
            sampling: Sampling { temperature: 0.0, top_k: None },
            decoding: super::Decoding::Free,
            batch,
            progress,
        };
        let bar = progress.step("asking", "questions", conversations.len() as u64);
        let questions = conversations.into_iter().map(Question::from).collect();
        let replies = self.model.ask(questions, &options, &bar)?;
        bar.finish();
        Ok(replies.into_iter().map(|reply| reply.text).collect())
    }
}

impl From<Conversation> for Question {
    fn from(conversation: Conversation) -> Self {
        let Conversation { instructions, examples, question, seed, max_tokens } = conversation;
        let message = |role, content| Message { role, content };
        let mut messages = vec![message("system", instructions)];
        for (asked, answered) in examples {
            messages.extend([message("user", asked), message("assistant", answered)]);
        }
        messages.push(message("user", question));
        Self { messages, seed, max_tokens }
    }
}

/// What a model says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reply {
    text: String,
    /// The limit on tokens ended it.
    cut: bool,
    prompt_tokens: u64,
    reply_tokens: u64,
}

/// Answers questions; in order, whatever it works on at once.
trait ChatModel {
    fn ask(
        &self,
        questions: Vec<Question>,
        options: &GenerateOptions,
        bar: &StepProgress,
    ) -> Result<Vec<Reply>>;
}

/// The generator: examples, and a model to ask.
struct Asked {
    settings: Settings,
    pool: Vec<CallGraph>,
    model: Box<dyn ChatModel>,
}

impl Asked {
    fn question(&self, index: usize, condition: &Condition, options: &GenerateOptions) -> Question {
        let mut rng = random::stream(options.seed, "in-context", &[index as u64]);
        let count = (self.settings.examples as usize).min(self.pool.len());
        let picked = rand::seq::index::sample(&mut rng, self.pool.len(), count);
        let examples: Vec<&CallGraph> = picked.into_iter().map(|at| &self.pool[at]).collect();
        Question {
            messages: prompt::messages(&examples, condition),
            seed: request_seed(&mut rng),
            max_tokens: self.settings.max_tokens,
        }
    }
}

impl Generator for Asked {
    fn generate(
        &self,
        conditions: &[Condition],
        options: &GenerateOptions,
    ) -> Result<Vec<Generated>> {
        if options.decoding != super::Decoding::Free {
            let message = format!("generator `{ID}` cannot decode under constraints");
            return Err(UserError::setting(message).into());
        }
        let indexed = conditions.iter().enumerate();
        let questions = indexed.map(|(index, c)| self.question(index, c, options)).collect();
        let ask = |bar: &StepProgress| self.model.ask(questions, options, bar);
        let replies = options.with_progress(conditions.len(), ask)?;
        Ok(replies.iter().map(generated).collect())
    }
}

/// What a reply is as an answer.
fn generated(reply: &Reply) -> Generated {
    let cost = DecodingCost {
        tokens: reply.prompt_tokens + reply.reply_tokens,
        choices: reply.reply_tokens,
        allowed_mass: reply.reply_tokens as f64,
    };
    match prompt::parse(&reply.text) {
        Ok(rows) => Generated { cost, ..Generated::complete(rows) },
        Err((rows, violation)) => {
            let cut = "the limit on tokens ended the reply";
            let failure =
                if reply.cut { Violation::new(ViolationCode::Truncated, cut) } else { violation };
            Generated { rows, failure: Some(failure), cost }
        }
    }
}
