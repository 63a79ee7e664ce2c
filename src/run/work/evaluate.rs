use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{StageContext, StageKind, answers, likelihood};
use crate::evaluate::{Asked, CONDITIONS_VERSION, Conditions, FamilyId, samples};
use crate::run::cache::Key;
use crate::version::Version;
use crate::{evaluate, records};

/// Version of this stage: records and per-prompt scores, as files.
pub const VERSION: Version = Version::new("stage/evaluate", 3);

/// Scores generated graphs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EvaluateWork {
    pub family: FamilyId,
    pub seed: u64,
    pub dataset: Key,
    pub generate: Key,
    /// Likelihoods under the trained model, where the family reads them and the generator has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub likelihood: Option<Key>,
    /// Graphs of each row that a distance is measured on, where the experiment declares them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<u32>,
}

/// Measures the reference rows of a family: real graphs, simple rules and a perfect generator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReferencesWork {
    pub family: FamilyId,
    /// What the generators are asked for, with the same seed.
    pub conditions: Conditions,
    /// Sampling temperatures of the networks.
    pub temperatures: Vec<f64>,
    /// As of [`EvaluateWork`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<u32>,
    pub seed: u64,
    pub dataset: Key,
}

impl StageKind for EvaluateWork {
    fn kind(&self) -> &'static str {
        "evaluate"
    }

    fn versions(&self) -> Vec<Version> {
        vec![VERSION, self.family.version]
    }

    fn inputs(&self) -> Vec<Key> {
        [&self.dataset, &self.generate].into_iter().chain(&self.likelihood).cloned().collect()
    }

    fn seed(&self) -> Option<u64> {
        Some(self.seed)
    }

    fn order(&self) -> u8 {
        2
    }

    fn run(&self, context: &StageContext) -> Result<()> {
        let dataset = context.dataset(&self.dataset)?;
        let (conditions, generated) = answers::load(&context.input("generate", &self.generate))?;
        let likelihoods = self.likelihood.as_ref();
        let likelihoods =
            likelihoods.map(|key| likelihood::load(&context.input("likelihood", key)));
        let likelihoods = likelihoods.transpose()?;
        let scores = evaluate::score(
            &self.family,
            &dataset,
            &conditions,
            &generated,
            likelihoods.as_deref(),
            samples::size(self.compared, conditions.len()),
            self.seed,
        )?;
        records::save_prompt_scores(context.out, &scores.of_prompts)?;
        records::save(context.out, &scores.records)
    }
}

impl StageKind for ReferencesWork {
    fn kind(&self) -> &'static str {
        "references"
    }

    fn versions(&self) -> Vec<Version> {
        vec![VERSION, self.family.version, CONDITIONS_VERSION]
    }

    fn inputs(&self) -> Vec<Key> {
        vec![self.dataset.clone()]
    }

    fn seed(&self) -> Option<u64> {
        Some(self.seed)
    }

    fn order(&self) -> u8 {
        2
    }

    fn run(&self, context: &StageContext) -> Result<()> {
        let dataset = context.dataset(&self.dataset)?;
        let conditions = evaluate::conditions(&self.conditions, &dataset, self.seed)?;
        let asked = Asked {
            dataset: &dataset,
            conditions: &conditions,
            temperatures: &self.temperatures,
            compared: samples::size(self.compared, conditions.len()),
        };
        records::save(context.out, &evaluate::references(&self.family, &asked, self.seed)?)
    }
}
