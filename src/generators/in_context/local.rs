//! A pretrained model on this machine.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::prompt::Message;
use super::{ChatModel, Question, Reply};
use crate::error::UserError;
use crate::generators::GenerateOptions;
use crate::model::decode::{self, Completion, CpuModel, Prompt, PromptSource};
use crate::model::kernels;
use crate::model::pretrained::{self, Pretrained, PretrainedTokenizer, SMOLLM2_FILE};
use crate::progress::StepProgress;
use crate::random;

/// Conversations at once: their KV caches are large.
const BATCH: usize = 8;
/// The name that stands for what `tracegym weights smollm2` fetches.
pub const SMOLLM2: &str = "smollm2";

/// Where the weights named `model` are.
pub fn path(model: &str) -> Result<PathBuf> {
    if model != SMOLLM2 {
        return Ok(PathBuf::from(model));
    }
    let path = pretrained::folder().map(|folder| folder.join(SMOLLM2_FILE));
    match path.filter(|path| path.exists()) {
        Some(path) => Ok(path),
        None => {
            let message = "the weights of SmolLM2 are not on this machine: `tracegym weights smollm2` fetches them (98 MB)";
            Err(UserError::setting(message).into())
        }
    }
}

/// A model with its tokenizer.
pub struct Local {
    path: PathBuf,
    vocabulary: PretrainedTokenizer,
}

impl Local {
    pub fn open(path: &std::path::Path) -> Result<Self> {
        let vocabulary = Pretrained::open(path)?.vocabulary()?;
        Ok(Self { path: path.to_owned(), vocabulary })
    }

    /// The tokens that end a turn.
    fn stops(&self) -> Result<Vec<u32>> {
        let mut stops = self.vocabulary.ends.clone();
        stops.extend(self.vocabulary.token("<|im_end|>"));
        if stops.is_empty() {
            let message = "has no token that ends an answer (eos_token_id)";
            return Err(UserError::input(&self.path, "vocabulary", message).into());
        }
        Ok(stops)
    }

    /// A conversation up to where the model answers: in ChatML where the model has its tokens, else as
    /// plain paragraphs.
    fn tokens(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let chat = self.vocabulary.token("<|im_start|>").is_some();
        let turn = |Message { role, content }: &Message| {
            if chat {
                format!("<|im_start|>{role}\n{content}<|im_end|>\n")
            } else {
                format!("{content}\n\n")
            }
        };
        let mut text: String = messages.iter().map(turn).collect();
        if chat {
            text.push_str("<|im_start|>assistant\n");
        }
        self.vocabulary.encode(&text, true)
    }
}

impl ChatModel for Local {
    fn ask(
        &self,
        questions: Vec<Question>,
        options: &GenerateOptions,
        bar: &StepProgress,
    ) -> Result<Vec<Reply>> {
        let mut prompts = Vec::new();
        for (id, question) in (0u64..).zip(&questions) {
            prompts.push(Prompt {
                id,
                tokens: self.tokens(&question.messages)?,
                rng: random::stream(question.seed, "in-context/local", &[]),
                max_new_tokens: question.max_tokens as usize,
                constraint: None,
            });
        }
        let lengths: Vec<usize> = prompts.iter().map(|prompt| prompt.tokens.len()).collect();
        let mut pretrained = Pretrained::open(&self.path)?;
        let mut config = pretrained.config().clone();
        let longest = prompts.iter().map(|prompt| prompt.tokens.len() + prompt.max_new_tokens);
        config.context = config.context.min(longest.max().unwrap_or(1));
        if let Some(id) = lengths.iter().position(|length| *length >= config.context) {
            let (tokens, context) = (lengths[id], config.context);
            let message = format!(
                "the prompt has {tokens} tokens, but the model's context {context}; use fewer examples or lower example_calls"
            );
            return Err(UserError::input(&self.path, format!("prompt {id}"), message).into());
        }
        let weights = pretrained.weights()?;
        let mut model = CpuModel::new(config, &weights, kernels::simd())?;
        drop(weights);
        prompts.reverse();
        let replies = vec![None; questions.len()];
        let mut source = Conversations { local: self, prompts, lengths, replies, error: None, bar };
        let batch = options.batch.min(BATCH);
        decode::decode(&mut model, &mut source, &self.stops()?, options.sampling, batch)?;
        match source.error {
            Some(error) => Err(error),
            None => {
                source.replies.into_iter().map(|r| r.context("a prompt has no reply")).collect()
            }
        }
    }
}

struct Conversations<'a> {
    local: &'a Local,
    /// The next one last.
    prompts: Vec<Prompt>,
    /// Tokens of each prompt.
    lengths: Vec<usize>,
    replies: Vec<Option<Reply>>,
    error: Option<anyhow::Error>,
    bar: &'a StepProgress,
}

impl PromptSource for Conversations<'_> {
    fn next(&mut self) -> Option<Prompt> {
        self.prompts.pop().filter(|_| self.error.is_none())
    }

    fn complete(&mut self, completion: Completion) {
        let index = completion.id as usize;
        match self.local.vocabulary.decode(&completion.tokens) {
            Ok(text) => {
                self.replies[index] = Some(Reply {
                    text,
                    cut: !completion.stopped,
                    prompt_tokens: self.lengths[index] as u64,
                    reply_tokens: completion.tokens.len() as u64,
                });
            }
            Err(error) => self.error = Some(error),
        }
        self.bar.inc(1);
    }
}
