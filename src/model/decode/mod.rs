//! Decoding: completes token prompts with a transformer, many sequences at once.
//!
//! [`decode`] batches continuously: every running sequence holds one slot of a [`CachedModel`],
//! and a slot whose sequence ends is refilled before the next forward pass. What a prompt is
//! completed with depends on its tokens, its random stream and the model alone: not on the batch
//! size, nor on what else is in the batch.

mod cpu;
mod math;
mod sample;

use anyhow::{Result, ensure};
use rand_chacha::ChaCha8Rng;

pub use self::cpu::CpuModel;
pub use self::sample::Sampler;
use crate::error::UserError;
use crate::generators::Sampling;

/// A transformer with one KV-cache slot per running sequence.
pub trait CachedModel {
    /// Number of token ids; logits have this width.
    fn vocabulary(&self) -> usize;

    /// The longest sequence, prompt and completion together, in tokens.
    fn context(&self) -> usize;

    /// Makes room for this many sequences, all empty.
    fn prepare(&mut self, slots: usize);

    /// Empties a slot.
    fn reset(&mut self, slot: usize);

    /// Appends tokens to the sequences of some slots and writes the logits of each feed's last
    /// token to `logits`, row-major [feeds, vocabulary] (its former content is dropped).
    ///
    /// Every feed has at least one token and a slot of its own. A sequence's logits must be the
    /// same bits however its tokens are cut into feeds and whatever else is fed beside them.
    fn forward(&mut self, feeds: &[Feed<'_>], logits: &mut Vec<f32>) -> Result<()>;
}

/// Tokens to append to the sequence in `slot`.
#[derive(Clone, Copy, Debug)]
pub struct Feed<'a> {
    pub slot: usize,
    pub tokens: &'a [u32],
}

/// A sequence to complete.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Given back with the completion.
    pub id: u64,
    pub tokens: Vec<u32>,
    /// All the randomness of this completion: one draw per token (none at temperature 0).
    pub rng: ChaCha8Rng,
    /// At most this many tokens are drawn, the stop token included.
    pub max_new_tokens: usize,
}

/// What a prompt was completed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    pub id: u64,
    /// Without the prompt and without the stop token.
    pub tokens: Vec<u32>,
    /// Whether the stop token was drawn. False when the prompt's limit or the model's context ended
    /// the sequence; a prompt that is empty or leaves no room in the context completes with no
    /// tokens at all.
    pub stopped: bool,
}

/// Gives prompts and takes completions. Completing one prompt may make others available.
pub trait PromptSource {
    /// The next prompt to start; `None` when nothing can start now. It is asked again after every
    /// completion, and decoding ends when it has nothing to give while nothing is running.
    fn next(&mut self) -> Option<Prompt>;

    /// Takes the answer to a prompt; called once for each, in no particular order.
    fn complete(&mut self, completion: Completion);
}

/// One running sequence.
struct Running {
    prompt: Prompt,
    drawn: Vec<u32>,
    /// The prompt has been fed.
    started: bool,
    /// Tokens that may still be drawn; at least 1 while it runs.
    room: usize,
}

impl Running {
    fn completion(self, stopped: bool) -> Completion {
        Completion { id: self.prompt.id, tokens: self.drawn, stopped }
    }

    /// What the model has not seen yet.
    fn pending(&self) -> &[u32] {
        if self.started { &self.drawn[self.drawn.len() - 1..] } else { &self.prompt.tokens }
    }
}

/// Completes every prompt of `source`, up to `batch` at once.
///
/// A prompt's tokens are drawn until `stop`, its own limit, or the end of the model's context.
/// New prompts and running sequences share forward passes.
///
/// # Errors
/// A setting of `sampling`, `batch` or a prompt that cannot work, and whatever the model reports.
pub fn decode(
    model: &mut dyn CachedModel,
    source: &mut dyn PromptSource,
    stop: u32,
    sampling: Sampling,
    batch: usize,
) -> Result<()> {
    if batch == 0 {
        return Err(UserError::setting("batch is 0: use 1 or more").into());
    }
    let mut sampler = Sampler::new(sampling)?;
    let vocabulary = model.vocabulary();
    model.prepare(batch);
    let mut slots: Vec<Option<Running>> = (0..batch).map(|_| None).collect();
    let mut logits = Vec::new();
    loop {
        for (number, slot) in slots.iter_mut().enumerate() {
            if slot.is_none() {
                let Some(prompt) = next_that_fits(model.context(), source) else { break };
                model.reset(number);
                *slot = Some(prompt);
            }
        }
        let feeds: Vec<Feed> = slots
            .iter()
            .enumerate()
            .filter_map(|(slot, running)| Some(Feed { slot, tokens: running.as_ref()?.pending() }))
            .collect();
        if feeds.is_empty() {
            return Ok(());
        }
        model.forward(&feeds, &mut logits)?;
        ensure!(logits.len() == feeds.len() * vocabulary, "the model gave logits of a wrong size");
        let running = slots.iter_mut().filter(|slot| slot.is_some());
        for (slot, row) in running.zip(logits.chunks_exact(vocabulary)) {
            if let Some(completion) = advance(slot, row, &mut sampler, stop)? {
                source.complete(completion);
            }
        }
    }
}

/// The next prompt that has room for at least one token; the others are completed at once.
fn next_that_fits(context: usize, source: &mut dyn PromptSource) -> Option<Running> {
    loop {
        let prompt = source.next()?;
        let room = context.saturating_sub(prompt.tokens.len()).min(prompt.max_new_tokens);
        let fits = room > 0 && !prompt.tokens.is_empty();
        let running = Running { prompt, drawn: Vec::new(), started: false, room };
        if fits {
            return Some(running);
        }
        source.complete(running.completion(false));
    }
}

/// Draws the next token of a running sequence; empties the slot and returns the completion when it
/// was the last one.
fn advance(
    slot: &mut Option<Running>,
    logits: &[f32],
    sampler: &mut Sampler,
    stop: u32,
) -> Result<Option<Completion>> {
    let Some(running) = slot.as_mut() else { return Ok(None) };
    running.started = true;
    let token = sampler.draw(logits, &mut running.prompt.rng)?;
    running.room -= 1;
    if token != stop {
        running.drawn.push(token);
        if running.room > 0 {
            return Ok(None);
        }
    }
    Ok(slot.take().map(|running| running.completion(token == stop)))
}

#[cfg(test)]
mod cpu_tests;
#[cfg(test)]
mod tests;
