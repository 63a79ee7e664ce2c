use anyhow::Result;

use super::contract::{Entry, Recipe};
use super::{
    digress, external, graph_rnn, in_context, language_model, markov, probabilistic, sibling_sets,
    training_set_copy, tvae,
};
use crate::error::{UserError, did_you_mean};

/// All built-in generators, in the order in which tables list them.
pub const REGISTRY: &[&Entry] = &[
    &language_model::RECURSIVE,
    &language_model::INSTRUCTION,
    &language_model::RECURSIVE_COMPACT,
    &language_model::TABULAR,
    &in_context::ENTRY,
    &external::ENTRY,
    &probabilistic::ENTRY,
    &markov::ENTRY,
    &sibling_sets::ENTRY,
    &graph_rnn::ENTRY,
    &digress::ENTRY,
    &tvae::ENTRY,
    &training_set_copy::ENTRY,
];

/// The built-in generator with this id.
pub fn entry(id: &str) -> Option<&'static Entry> {
    REGISTRY.iter().copied().find(|entry| entry.id == id)
}

/// Whether generator `id` can be held to a request while it draws ([`super::Decoding::Constrained`]).
pub fn takes_constraints(id: &str) -> bool {
    entry(id).is_some_and(|entry| entry.constrained)
}

/// Whether generator `id` can tell how likely a graph is ([`super::Generator::log_likelihoods`]).
pub fn has_likelihood(id: &str) -> bool {
    entry(id).is_some_and(|entry| entry.likelihood)
}

/// The recipe of generator `id` with `settings` (the `[settings]` of a baseline's TOML).
///
/// # Errors
/// An unknown id, or settings that the generator does not take.
pub fn recipe(id: &str, settings: &toml::Table) -> Result<Box<dyn Recipe>> {
    let Some(entry) = entry(id) else {
        let known: Vec<&str> = REGISTRY.iter().map(|entry| entry.id).collect();
        return Err(UserError::setting(format!(
            "generator `{id}` does not exist{}; known: {}",
            did_you_mean(id, known.iter().copied()),
            known.join(", ")
        ))
        .into());
    };
    (entry.build)(settings)
}
