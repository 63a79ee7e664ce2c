use anyhow::Result;

use super::{
    Recipe, digress, external, graph_rnn, in_context, likelihood, markov, probabilistic, resample,
    sibling_sets, tvae,
};
use crate::error::{UserError, did_you_mean};

/// A built-in generator: its id in manifests, what it is, and how its settings become a recipe.
pub struct Entry {
    pub id: &'static str,
    pub about: &'static str,
    /// The code that training and generation run besides the contract: paths below `src`, or what
    /// they start with. A change there, and nowhere else, makes finished trainings stale.
    pub code: &'static [&'static str],
    /// Whether it can be held to a request while it draws.
    pub constrained: bool,
    /// Whether it can tell how likely a graph is.
    pub likelihood: bool,
    pub build: fn(&toml::Table) -> Result<Box<dyn Recipe>>,
}

/// What every language model is made of.
const LANGUAGE_MODEL: [&str; 3] = ["generators/language_model/", "text/", "model/"];

/// All built-in generators, in the order in which tables list them.
pub const REGISTRY: &[Entry] = &[
    Entry {
        id: "recursive-llm",
        about: "a transformer that writes a graph layer by layer (the paper's recursive generator)",
        code: &LANGUAGE_MODEL,
        constrained: true,
        likelihood: true,
        build: likelihood::recursive,
    },
    Entry {
        id: "recursive-instruction-llm",
        about: "the recursive generator tuned on instructions, with a scratchpad in its answers",
        code: &LANGUAGE_MODEL,
        constrained: true,
        likelihood: true,
        build: likelihood::instruction,
    },
    Entry {
        id: "recursive-compact",
        about: "the same recursion and conditions in a text without prose",
        code: &LANGUAGE_MODEL,
        constrained: true,
        likelihood: true,
        build: likelihood::recursive_compact,
    },
    Entry {
        id: "tabular-llm",
        about: "a transformer that writes a whole graph as a table (the paper's GReaT-style baseline)",
        code: &LANGUAGE_MODEL,
        constrained: true,
        likelihood: true,
        build: likelihood::tabular,
    },
    Entry {
        id: "in-context",
        about: "few-shot prompts to a model that was not trained on traces: a local one or an endpoint",
        code: &["generators/in_context/", "secret.rs", "text/", "model/"],
        constrained: false,
        likelihood: false,
        build: in_context::build,
    },
    Entry {
        id: external::ID,
        about: "a program in any language, asked in lines of JSON: baselines/NAME/baseline.toml",
        code: &["generators/external/"],
        constrained: false,
        likelihood: false,
        build: external::build,
    },
    Entry {
        id: "probabilistic",
        about: "call graphs drawn from tables of training frequencies (after Luo et al., SoCC 2021)",
        code: &["generators/probabilistic.rs", "generators/tables.rs"],
        constrained: false,
        likelihood: false,
        build: probabilistic::build,
    },
    Entry {
        id: "markov",
        about: "siblings as a Markov chain, with back-off; under constraints the exact conditional",
        code: &["generators/markov/", "generators/tables.rs", "generators/times.rs"],
        constrained: true,
        likelihood: false,
        build: markov::build,
    },
    Entry {
        id: "sibling-sets",
        about: "observed sets of children, drawn given the siblings (after Du et al., 2024)",
        code: &["generators/sibling_sets.rs", "generators/tables.rs", "generators/times.rs"],
        constrained: false,
        likelihood: false,
        build: sibling_sets::build,
    },
    Entry {
        id: "graph-rnn",
        about: "a recurrent network that writes each call's children (after You et al., ICML 2018)",
        code: &[
            "generators/graph_rnn/",
            "generators/neural/",
            "generators/tables.rs",
            "model/adamw.rs",
            "model/kernels/",
        ],
        constrained: false,
        likelihood: false,
        build: graph_rnn::build,
    },
    Entry {
        id: "digress",
        about: "discrete diffusion on nodes and edges (after Vignac et al., ICLR 2023)",
        code: &[
            "generators/digress/",
            "generators/neural/",
            "generators/tables.rs",
            "generators/times.rs",
            "model/adamw.rs",
            "model/kernels/",
        ],
        constrained: false,
        likelihood: false,
        build: digress::build,
    },
    Entry {
        id: "tvae",
        about: "calls as rows of a table, drawn one by one by a variational autoencoder (Xu et al., 2019)",
        code: &[
            "generators/tvae/",
            "generators/neural/",
            "generators/tables.rs",
            "model/adamw.rs",
            "model/kernels/",
        ],
        constrained: false,
        likelihood: false,
        build: tvae::build,
    },
    Entry {
        id: "resample",
        about: "copies of training graphs: the reference row, with nothing new",
        code: &["generators/resample.rs"],
        constrained: false,
        likelihood: false,
        build: resample::build,
    },
];

/// Whether generator `id` can be held to a request while it draws ([`super::Decoding::Constrained`]).
pub fn takes_constraints(id: &str) -> bool {
    REGISTRY.iter().any(|entry| entry.id == id && entry.constrained)
}

/// Whether generator `id` can tell how likely a graph is ([`super::Generator::log_likelihoods`]).
pub fn has_likelihood(id: &str) -> bool {
    REGISTRY.iter().any(|entry| entry.id == id && entry.likelihood)
}

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
