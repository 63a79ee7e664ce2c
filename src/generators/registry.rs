use anyhow::Result;

use super::{
    Recipe, digress, external, graph_rnn, in_context, language_model, markov, probabilistic,
    sibling_sets, training_set_copy, tvae,
};
use crate::error::{UserError, did_you_mean};
use crate::version::Version;

/// A built-in generator: its id in manifests, what it is, and how its settings become a recipe.
pub struct Entry {
    pub id: &'static str,
    pub about: &'static str,
    /// Raised when the same dataset and settings give another trained model.
    pub training: Version,
    /// Raised when the same model gives other answers to the same conditions, or other likelihoods.
    pub answers: Version,
    /// Whether it can be held to a request while it draws.
    pub constrained: bool,
    /// Whether it can tell how likely a graph is.
    pub likelihood: bool,
    pub build: fn(&toml::Table) -> Result<Box<dyn Recipe>>,
}

/// All built-in generators, in the order in which tables list them.
pub const REGISTRY: &[Entry] = &[
    Entry {
        id: "recursive-llm",
        about: "a transformer that writes a graph layer by layer (the paper's recursive generator)",
        training: Version::new("train/recursive-llm", 2),
        answers: Version::new("answer/recursive-llm", 2),
        constrained: true,
        likelihood: true,
        build: language_model::recursive,
    },
    Entry {
        id: "recursive-instruction-llm",
        about: "the recursive generator tuned on instructions, with a scratchpad in its answers",
        training: Version::new("train/recursive-instruction-llm", 2),
        answers: Version::new("answer/recursive-instruction-llm", 2),
        constrained: true,
        likelihood: true,
        build: language_model::instruction,
    },
    Entry {
        id: "recursive-compact",
        about: "the same recursion and conditions in a text without prose",
        training: Version::new("train/recursive-compact", 2),
        answers: Version::new("answer/recursive-compact", 2),
        constrained: true,
        likelihood: true,
        build: language_model::recursive_compact,
    },
    Entry {
        id: "tabular-llm",
        about: "a transformer that writes a whole graph as a table (the paper's GReaT-style baseline)",
        training: Version::new("train/tabular-llm", 2),
        answers: Version::new("answer/tabular-llm", 2),
        constrained: true,
        likelihood: true,
        build: language_model::tabular,
    },
    Entry {
        id: "in-context",
        about: "few-shot prompts to a model that was not trained on traces: a local one or an endpoint",
        training: Version::new("train/in-context", 1),
        answers: Version::new("answer/in-context", 1),
        constrained: false,
        likelihood: false,
        build: in_context::build,
    },
    Entry {
        id: external::ID,
        about: "a program in any language, asked in lines of JSON: baselines/NAME/baseline.toml",
        training: Version::new("train/external", 1),
        answers: Version::new("answer/external", 1),
        constrained: false,
        likelihood: false,
        build: external::build,
    },
    Entry {
        id: "probabilistic",
        about: "call graphs drawn from tables of training frequencies (after Luo et al., SoCC 2021)",
        training: Version::new("train/probabilistic", 1),
        answers: Version::new("answer/probabilistic", 1),
        constrained: false,
        likelihood: false,
        build: probabilistic::build,
    },
    Entry {
        id: "markov",
        about: "siblings as a Markov chain, with back-off; under constraints the exact conditional",
        training: Version::new("train/markov", 1),
        answers: Version::new("answer/markov", 1),
        constrained: true,
        likelihood: false,
        build: markov::build,
    },
    Entry {
        id: "sibling-sets",
        about: "observed sets of children, drawn given the siblings (after Du et al., 2024)",
        training: Version::new("train/sibling-sets", 1),
        answers: Version::new("answer/sibling-sets", 1),
        constrained: false,
        likelihood: false,
        build: sibling_sets::build,
    },
    Entry {
        id: "graph-rnn",
        about: "a recurrent network that writes each call's children (after You et al., ICML 2018)",
        training: Version::new("train/graph-rnn", 1),
        answers: Version::new("answer/graph-rnn", 1),
        constrained: false,
        likelihood: false,
        build: graph_rnn::build,
    },
    Entry {
        id: "digress",
        about: "discrete diffusion on nodes and edges (after Vignac et al., ICLR 2023)",
        training: Version::new("train/digress", 1),
        answers: Version::new("answer/digress", 1),
        constrained: false,
        likelihood: false,
        build: digress::build,
    },
    Entry {
        id: "tvae",
        about: "calls as rows of a table, drawn one by one by a variational autoencoder (Xu et al., 2019)",
        training: Version::new("train/tvae", 1),
        answers: Version::new("answer/tvae", 1),
        constrained: false,
        likelihood: false,
        build: tvae::build,
    },
    Entry {
        id: "training-set-copy",
        about: "copies of training graphs: the reference row, with nothing new",
        training: Version::new("train/training-set-copy", 1),
        answers: Version::new("answer/training-set-copy", 1),
        constrained: false,
        likelihood: false,
        build: training_set_copy::build,
    },
];

/// The built-in generator with this id.
pub fn entry(id: &str) -> Option<&'static Entry> {
    REGISTRY.iter().find(|entry| entry.id == id)
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
