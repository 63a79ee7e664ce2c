//! Generators of call graphs: the contract, the registry, one file per built-in generator.
//!
//! The harness owns conditions, seeds, splits, timing and scoring; a generator owns nothing but its
//! model. A new built-in generator is one file here and one line in [`REGISTRY`].

mod contract;
pub mod language_model;
pub mod probabilistic;
mod resample;

pub use contract::{
    Condition, Decoding, Effort, FitContext, FitReport, GenerateOptions, Generated, Generator,
    Recipe, Sampling,
};

use anyhow::Result;
use serde::de::DeserializeOwned;

use crate::error::{UserError, did_you_mean};

/// A built-in generator: its id in manifests, what it is, and how its settings become a recipe.
pub struct Entry {
    pub id: &'static str,
    pub about: &'static str,
    pub build: fn(&toml::Table) -> Result<Box<dyn Recipe>>,
}

/// All built-in generators, in the order in which tables list them.
pub const REGISTRY: &[Entry] = &[
    Entry {
        id: "recursive-llm",
        about: "a transformer that writes a graph layer by layer (the paper's recursive generator)",
        build: language_model::recursive,
    },
    Entry {
        id: "recursive-instruction-llm",
        about: "the recursive generator tuned on instructions, with a scratchpad in its answers",
        build: language_model::instruction,
    },
    Entry {
        id: "recursive-compact",
        about: "the same recursion and conditions in a text without prose",
        build: language_model::recursive_compact,
    },
    Entry {
        id: "tabular-llm",
        about: "a transformer that writes a whole graph as a table (the paper's GReaT-style baseline)",
        build: language_model::tabular,
    },
    Entry {
        id: "probabilistic",
        about: "call graphs drawn from tables of training frequencies (after Luo et al., SoCC 2021)",
        build: probabilistic::build,
    },
    Entry {
        id: "resample",
        about: "copies of training graphs: the reference row, with nothing new",
        build: resample::build,
    },
];

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

/// The settings of generator `id`, read from its table.
///
/// # Errors
/// A setting that is unknown or has a value that cannot be.
fn settings<T: DeserializeOwned>(id: &str, table: &toml::Table) -> Result<T> {
    Ok(table.clone().try_into().map_err(|error| {
        UserError::setting(format!("generator `{id}`: {}", error.to_string().trim_end()))
    })?)
}

/// # Errors
/// If a snapshot is asked of a generator that keeps none.
fn no_snapshot(id: &str, snapshot: Option<u64>) -> Result<()> {
    match snapshot {
        Some(tokens) => Err(UserError::setting(format!(
            "generator `{id}` keeps no snapshots, so there is none at {tokens} tokens"
        ))
        .into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, DatasetCard, Side};
    use crate::device::DeviceChoice;
    use crate::graph::CallGraph;
    use crate::progress::Progress;

    /// A dataset of training graphs alone.
    pub fn train_only(graphs: Vec<CallGraph>) -> Dataset {
        let sides = vec![Side::Train; graphs.len()];
        Dataset::new(DatasetCard::default(), graphs, sides)
    }

    /// Fits generator `id`, saves it, loads it and generates.
    pub fn generate(
        id: &str,
        settings: &str,
        dataset: &Dataset,
        conditions: &[Condition],
        seed: u64,
    ) -> Vec<Generated> {
        let recipe = recipe(id, &settings.parse().expect("TOML")).expect("settings");
        let out = tempfile::tempdir().expect("a folder");
        let scratch = tempfile::tempdir().expect("a folder");
        let device = DeviceChoice::Cpu;
        let context = FitContext {
            dataset,
            seed,
            device,
            base: None,
            out: out.path(),
            scratch: scratch.path(),
            progress: Progress::Quiet,
        };
        let report = recipe.fit(&context).expect("fits");
        assert!(report.parameters > 0);
        assert!(recipe.load(out.path(), Some(1), device).is_err());
        let sampling = Sampling { temperature: 0.8, top_k: None };
        let options = GenerateOptions {
            seed,
            sampling,
            decoding: Decoding::Free,
            batch: 4,
            progress: Progress::Quiet,
        };
        let generator = recipe.load(out.path(), None, device).expect("loads");
        generator.generate(conditions, &options).expect("generates")
    }

    #[test]
    fn an_unknown_generator_is_named_with_the_known_ones() {
        let error = recipe("resampel", &toml::Table::new()).err().expect("unknown").to_string();
        assert!(error.contains("did you mean `resample`"), "{error}");
    }
}
