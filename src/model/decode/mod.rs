//! Decoding: completes token prompts with a transformer, many sequences at once.
//!
//! [`decode`] batches continuously: every running sequence holds one slot of a [`CachedModel`],
//! and a slot whose sequence ends is refilled before the next forward pass. What a prompt is
//! completed with depends on its tokens, its random stream and the model alone: not on the batch
//! size, nor on what else is in the batch.

mod cpu;
mod sample;

use anyhow::{Result, ensure};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

pub use self::cpu::CpuModel;
pub use self::sample::{NotFinite, Sampler, Sampling};
use crate::error::UserError;
use crate::graph::DecodingCost;

/// A transformer with one KV-cache slot per running sequence.
pub trait CachedModel {
    /// Number of token ids; logits have this width.
    fn vocabulary(&self) -> usize;

    /// The longest sequence, prompt and completion together, in tokens.
    fn context(&self) -> usize;

    /// Lets sequences grow to `tokens`, if that is more than the context: beyond what training has
    /// shown, but a text that is begun can be brought to its end.
    fn extend(&mut self, tokens: usize);

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

/// Limits what a prompt may be completed with, token by token.
pub trait Constraint {
    /// Replaces `tokens` by those that may come next: ascending, at least one, the stop token where
    /// the completion may end.
    fn permitted(&mut self, tokens: &mut Vec<u32>);

    /// Takes the next token, one of those permitted and not the stop token.
    fn push(&mut self, token: u32);
}

/// A sequence to complete.
pub struct Prompt {
    /// Given back with the completion.
    pub id: u64,
    pub tokens: Vec<u32>,
    /// All the randomness of this completion: one draw per token (none at temperature 0).
    pub rng: ChaCha8Rng,
    /// At most this many tokens follow, the stop token included.
    pub max_new_tokens: usize,
    /// What may follow; `None` permits everything.
    pub constraint: Option<Box<dyn Constraint>>,
}

/// What a prompt was completed with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    pub id: u64,
    /// Without the prompt and without the stop token.
    pub tokens: Vec<u32>,
    /// Whether a stop token was drawn. False when the prompt's limit or the model's context ended
    /// the sequence; a prompt that is empty or leaves no room in the context completes with no
    /// tokens at all.
    pub stopped: bool,
    pub cost: DecodingCost,
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
    id: u64,
    /// Prompt and completion so far.
    tokens: Vec<u32>,
    /// Tokens of the prompt.
    prompt: usize,
    /// Tokens that the model has seen.
    fed: usize,
    rng: ChaCha8Rng,
    /// Tokens that may still follow; at least 1 while it runs.
    room: usize,
    constraint: Option<Box<dyn Constraint>>,
    /// What the constraint permits next.
    permitted: Vec<u32>,
    cost: DecodingCost,
}

impl Running {
    fn new(prompt: Prompt, context: usize) -> Self {
        let Prompt { id, tokens, rng, max_new_tokens, constraint } = prompt;
        let room = match tokens.len() {
            0 => 0,
            length => context.saturating_sub(length).min(max_new_tokens),
        };
        Self {
            id,
            prompt: tokens.len(),
            tokens,
            fed: 0,
            rng,
            room,
            constraint,
            permitted: Vec::new(),
            cost: DecodingCost::default(),
        }
    }

    fn completion(mut self, stopped: bool) -> Completion {
        let tokens = self.tokens.split_off(self.prompt);
        Completion { id: self.id, tokens, stopped, cost: self.cost }
    }

    /// What the model has not seen yet.
    fn pending(&self) -> &[u32] {
        &self.tokens[self.fed..]
    }

    /// Appends a token. Returns whether the sequence ended with it: by a stop token or for want of
    /// room.
    fn push(&mut self, token: u32, stops: &[u32]) -> Option<bool> {
        self.room -= 1;
        if stops.contains(&token) {
            return Some(true);
        }
        self.tokens.push(token);
        if let Some(constraint) = &mut self.constraint {
            constraint.push(token);
        }
        (self.room == 0).then_some(false)
    }
}

/// Completes every prompt of `source`, up to `batch` at once.
///
/// A prompt's tokens are drawn until one of `stops`, its own limit, or the end of the model's context.
/// New prompts and running sequences share forward passes. Tokens that a constraint forces are
/// appended without asking the model.
///
/// # Errors
/// A setting of `sampling`, `batch` or a prompt that cannot work; logits that are not finite, with the
/// prompt and the position; whatever the model reports.
pub fn decode(
    model: &mut dyn CachedModel,
    source: &mut dyn PromptSource,
    stops: &[u32],
    sampling: Sampling,
    batch: usize,
) -> Result<()> {
    if batch == 0 {
        return Err(UserError::setting("batch is 0: use 1 or more").into());
    }
    let mut drawer = Drawer::new(sampling, stops)?;
    let vocabulary = model.vocabulary();
    model.prepare(batch);
    let mut slots: Vec<Option<Running>> = (0..batch).map(|_| None).collect();
    let mut logits = Vec::new();
    loop {
        for (number, slot) in slots.iter_mut().enumerate() {
            if slot.is_none() {
                let Some(running) = drawer.start(model.context(), source)? else { break };
                model.reset(number);
                *slot = Some(running);
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
        let drawn = drawer.draw(&mut slots, logits.chunks_exact(vocabulary))?;
        let running = slots.iter_mut().filter(|slot| slot.is_some());
        for (slot, drawn) in running.zip(drawn) {
            if let Some(completion) = drawer.advance(slot, drawn)? {
                source.complete(completion);
            }
        }
    }
}

/// Draws and forces tokens.
struct Drawer<'a> {
    /// One for each thread.
    samplers: Vec<Sampler>,
    stops: &'a [u32],
}

/// Rows of logits that are worth a thread.
const LEAST_DRAWS: usize = 8;

/// What a token is drawn from.
struct Draw<'a> {
    /// The prompt, and the place of the token to be drawn in its sequence.
    id: u64,
    position: usize,
    logits: &'a [f32],
    permitted: Option<&'a [u32]>,
    rng: &'a mut ChaCha8Rng,
}

/// A token, and the probability of all that were permitted.
#[derive(Clone, Copy)]
struct Drawn {
    token: u32,
    mass: f64,
}

impl Draw<'_> {
    fn draw(&mut self, sampler: &mut Sampler) -> Result<Drawn> {
        let (id, position) = (self.id, self.position);
        let place = |error: NotFinite| {
            UserError::setting(format!("prompt {id}, position {position}: {error}"))
        };
        Ok(self.drawn(sampler).map_err(place)?)
    }

    fn drawn(&mut self, sampler: &mut Sampler) -> Result<Drawn, NotFinite> {
        let Self { logits, permitted, rng, .. } = self;
        Ok(match permitted {
            Some(permitted) => Drawn {
                mass: sampler.mass(logits, permitted)?,
                token: sampler.draw_among(logits, permitted, rng)?,
            },
            None => Drawn { mass: 1.0, token: sampler.draw(logits, rng)? },
        })
    }
}

impl<'s> Drawer<'s> {
    fn new(sampling: Sampling, stops: &'s [u32]) -> Result<Self> {
        let sampler = Sampler::new(sampling)?;
        Ok(Self { samplers: vec![sampler; rayon::current_num_threads()], stops })
    }

    /// The next token of every running sequence, in the order of their slots: each from its own row
    /// and stream, so that threads can share the work.
    fn draw<'a>(
        &mut self,
        slots: &'a mut [Option<Running>],
        logits: impl Iterator<Item = &'a [f32]>,
    ) -> Result<Vec<Drawn>> {
        let draw = |(running, logits): (&'a mut Running, _)| {
            let Running { id, tokens, constraint, permitted, rng, .. } = running;
            let permitted = constraint.as_ref().map(|_| permitted.as_slice());
            Draw { id: *id, position: tokens.len(), logits, permitted, rng }
        };
        let mut draws: Vec<Draw> = slots.iter_mut().flatten().zip(logits).map(draw).collect();
        let share = draws.len().div_ceil(self.samplers.len()).max(LEAST_DRAWS);
        if draws.len() <= share {
            let sampler = &mut self.samplers[0];
            return draws.iter_mut().map(|draw| draw.draw(sampler)).collect();
        }
        let shares = draws.par_chunks_mut(share).zip(&mut self.samplers);
        let drawn = shares
            .flat_map_iter(|(draws, sampler)| draws.iter_mut().map(move |draw| draw.draw(sampler)));
        drawn.collect()
    }

    /// The next prompt that the model has to continue; the others are completed at once.
    fn start(&self, context: usize, source: &mut dyn PromptSource) -> Result<Option<Running>> {
        while let Some(prompt) = source.next() {
            let mut running = Running::new(prompt, context);
            let ended = if running.room == 0 { Some(false) } else { self.force(&mut running)? };
            match ended {
                Some(stopped) => source.complete(running.completion(stopped)),
                None => return Ok(Some(running)),
            }
        }
        Ok(None)
    }

    /// Appends the tokens to which there is no alternative; says whether the sequence ended.
    fn force(&self, running: &mut Running) -> Result<Option<bool>> {
        while let Some(constraint) = &mut running.constraint {
            constraint.permitted(&mut running.permitted);
            match running.permitted[..] {
                [] => anyhow::bail!("a constraint permits no token: this is a fault in TraceGym"),
                [token] => {
                    if let Some(stopped) = running.push(token, self.stops) {
                        return Ok(Some(stopped));
                    }
                }
                _ => break,
            }
        }
        Ok(None)
    }

    /// Gives a running sequence its next token; empties the slot and returns the completion when
    /// it was the last one.
    fn advance(&self, slot: &mut Option<Running>, drawn: Drawn) -> Result<Option<Completion>> {
        let Some(running) = slot.as_mut() else { return Ok(None) };
        running.cost.tokens += (running.tokens.len() - running.fed) as u64;
        running.cost.choices += 1;
        running.cost.allowed_mass += drawn.mass;
        running.fed = running.tokens.len();
        let ended = match running.push(drawn.token, self.stops) {
            Some(stopped) => Some(stopped),
            None => self.force(running)?,
        };
        Ok(ended.and_then(|stopped| Some(slot.take()?.completion(stopped))))
    }
}

#[cfg(test)]
mod cpu_tests;
#[cfg(test)]
mod tests;
