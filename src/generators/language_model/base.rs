//! Starting from another model: its weights under a vocabulary of our own.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::Result;
use rand::seq::IndexedRandom;

use crate::error::UserError;
use crate::model::{ModelConfig, Weights};
use crate::random;
use crate::text::Tokenizer;

/// The weights of the model in `dir` for `config`, a model of the same shape whose tokens are those
/// of `tokenizer`.
///
/// The embedding of a token that the base has too is kept. Any other one starts as that of a token
/// that only the base has, drawn at random: a microservice that the base has never met begins as one
/// that it knows, and not as noise.
///
/// # Errors
/// A base of another shape, with the setting to change; files that cannot be read.
pub fn adapted(
    dir: &Path,
    config: &ModelConfig,
    tokenizer: &Tokenizer,
    seed: u64,
) -> Result<Weights> {
    let base = ModelConfig::load(dir)?;
    let same = ModelConfig { vocabulary: base.vocabulary, context: base.context, ..config.clone() };
    if base != same {
        let message = format!(
            "the model to start from has d_model {}, {} layers and {} heads, this one {}, {} and {}: give both the same `size`",
            base.d_model, base.layers, base.heads, config.d_model, config.layers, config.heads
        );
        return Err(UserError::setting(message).into());
    }
    let known = Tokenizer::load(dir)?;
    let weights = Weights::load(dir, None, &base)?;
    let embedding = weights.get(EMBEDDING)?;
    let width = base.d_model;
    let row = |token: usize| &embedding[token * width..(token + 1) * width];
    let fresh = Weights::initial(config, seed);
    let mut rows = fresh.get(EMBEDDING)?.to_vec();
    let (sources, spare) = matched(&known, tokenizer);
    for (token, (to, source)) in rows.chunks_exact_mut(width).zip(sources).enumerate() {
        let mut rng = random::stream(seed, "embedding of a new token", &[token as u64]);
        if let Some(source) = source.or_else(|| spare.choose(&mut rng).copied()) {
            to.copy_from_slice(row(source));
        }
    }
    Ok(weights.with(EMBEDDING, rows))
}

const EMBEDDING: &str = "token_embedding";

/// For each token of `ours` the same token of `base`; and the tokens that only `base` has.
fn matched(base: &Tokenizer, ours: &Tokenizer) -> (Vec<Option<usize>>, Vec<usize>) {
    let place: HashMap<&[u8], usize> =
        base.token_bytes().iter().enumerate().map(|(token, bytes)| (&bytes[..], token)).collect();
    let sources: Vec<Option<usize>> = ours
        .token_bytes()
        .iter()
        .enumerate()
        // Special tokens have no bytes and the same ids everywhere.
        .map(
            |(token, bytes)| {
                if bytes.is_empty() { Some(token) } else { place.get(&bytes[..]).copied() }
            },
        )
        .collect();
    let used: HashSet<usize> = sources.iter().flatten().copied().collect();
    let spare = (0..base.vocabulary()).filter(|token| !used.contains(token)).collect();
    (sources, spare)
}
