//! Generators of call graphs: the contract, the registry, one file per built-in generator.
//!
//! The harness owns conditions, seeds, splits, timing and scoring; a generator owns nothing but its
//! model. A new built-in generator is one file here and one line in [`REGISTRY`].

mod contract;

pub use contract::{
    Condition, FitContext, FitReport, GenerateOptions, Generated, Generator, Recipe, Sampling,
};

use anyhow::Result;

use crate::error::{UserError, did_you_mean};

/// A built-in generator: its id in manifests, what it is, and how its settings become a recipe.
pub struct Entry {
    pub id: &'static str,
    pub about: &'static str,
    pub build: fn(&toml::Table) -> Result<Box<dyn Recipe>>,
}

/// All built-in generators, in the order in which tables list them.
pub const REGISTRY: &[Entry] = &[];

/// The recipe of generator `id` with `settings` (the `[settings]` of a baseline's TOML).
///
/// # Errors
/// An unknown id, or settings that the generator does not take.
pub fn recipe(id: &str, settings: &toml::Table) -> Result<Box<dyn Recipe>> {
    let Some(entry) = REGISTRY.iter().find(|entry| entry.id == id) else {
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
