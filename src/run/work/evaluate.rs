use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Bench, answers, likelihood};
use crate::evaluate::{self, FamilyId};
use crate::records;
use crate::run::cache::Key;
use crate::version::Version;

/// Version of this stage: records and per-prompt scores, as files.
pub const VERSION: Version = Version::new("stage/evaluate", 2);

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
}

/// Makes the reference rows of a family.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FloorWork {
    pub family: FamilyId,
    pub seed: u64,
    pub dataset: Key,
}

impl EvaluateWork {
    pub fn run(&self, bench: &Bench) -> Result<()> {
        let dataset = bench.dataset(&self.dataset)?;
        let (conditions, generated) = answers::load(&bench.input("generate", &self.generate))?;
        let likelihoods = self.likelihood.as_ref();
        let likelihoods = likelihoods.map(|key| likelihood::load(&bench.input("likelihood", key)));
        let likelihoods = likelihoods.transpose()?;
        let scores = evaluate::score(
            &self.family,
            &dataset,
            &conditions,
            &generated,
            likelihoods.as_deref(),
            self.seed,
        )?;
        records::save_prompt_scores(bench.out, &scores.of_prompts)?;
        records::save(bench.out, &scores.records)
    }
}

impl FloorWork {
    pub fn run(&self, bench: &Bench) -> Result<()> {
        let dataset = bench.dataset(&self.dataset)?;
        records::save(bench.out, &evaluate::references(&self.family, &dataset, self.seed)?)
    }
}
