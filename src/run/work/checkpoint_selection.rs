use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::train::{FIT, MODEL};
use super::{StageContext, StageKind, answers_version, read_json, write_json};
use crate::generators;
use crate::generators::{Decoding, FitReport, GenerateOptions, Recipe};
use crate::graph::{Condition, condition_of, judge_all};
use crate::model::Sampling;
use crate::run::cache::Key;
use crate::version::Version;

/// Version of this stage: the choice among checkpoints.
pub const VERSION: Version = Version::new("stage/checkpoint-selection", 1);

/// Chooses among the last checkpoints of a training by accuracy on training graphs that it held out.
///
/// The lowest validation loss is not the highest accuracy, so the choice is made by what is reported.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckpointSelectionWork {
    /// Id in the registry.
    pub generator: String,
    pub settings: toml::Table,
    pub seed: u64,
    /// How many of the last checkpoints compete, the final model included.
    pub candidates: u32,
    pub dataset: Key,
    pub train: Key,
}

/// How candidates are sampled: as the paper samples.
const SAMPLING: Sampling = Sampling { temperature: 0.8, top_k: Some(50) };

const FILE: &str = "selected.json";

/// The outcome of a [`CheckpointSelectionWork`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Selected {
    /// Training tokens of the chosen model.
    pub tokens: u64,
    pub candidates: Vec<Candidate>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    pub tokens: u64,
    /// Accurate answers.
    pub hits: u64,
    pub prompts: u64,
}

impl Selected {
    /// The outcome in the stage's outputs.
    pub fn load(dir: &Path) -> Result<Self> {
        read_json(&dir.join(FILE))
    }
}

impl StageKind for CheckpointSelectionWork {
    fn kind(&self) -> &'static str {
        "checkpoint-selection"
    }

    fn versions(&self) -> Vec<Version> {
        [VERSION].into_iter().chain(answers_version(&self.generator)).collect()
    }

    fn inputs(&self) -> Vec<Key> {
        vec![self.dataset.clone(), self.train.clone()]
    }

    fn seed(&self) -> Option<u64> {
        Some(self.seed)
    }

    fn run(&self, context: &StageContext) -> Result<()> {
        let dataset = context.dataset(&self.dataset)?;
        let train = context.input("train", &self.train);
        let report: FitReport = read_json(&train.join(FIT))?;
        let recipe = generators::recipe(&self.generator, &self.settings)?;
        let conditions: Vec<Condition> =
            recipe.validation(&dataset, self.seed).into_iter().map(condition_of).collect();
        let first = report.checkpoints.len().saturating_sub(self.candidates as usize);
        let mut candidates = Vec::new();
        for tokens in &report.checkpoints[first..] {
            let hits = self.hits(&*recipe, &train.join(MODEL), *tokens, &conditions, context)?;
            candidates.push(Candidate { tokens: *tokens, hits, prompts: conditions.len() as u64 });
        }
        // Of equal ones the last: it has seen the most.
        let best = candidates.iter().max_by_key(|candidate| (candidate.hits, candidate.tokens));
        let tokens = best.map_or(report.tokens, |candidate| candidate.tokens);
        write_json(&context.out.join(FILE), &Selected { tokens, candidates })
    }
}

impl CheckpointSelectionWork {
    fn hits(
        &self,
        recipe: &dyn Recipe,
        model: &Path,
        tokens: u64,
        conditions: &[Condition],
        context: &StageContext,
    ) -> Result<u64> {
        let generator = recipe.load(model, Some(tokens), context.device)?;
        let answers = generator.generate(
            conditions,
            &GenerateOptions {
                seed: self.seed,
                sampling: SAMPLING,
                decoding: Decoding::Free,
                batch: context.options.batch,
                progress: context.progress,
            },
        )?;
        let verdicts = judge_all(conditions, &answers)?;
        Ok(verdicts.iter().filter(|verdict| verdict.violation.is_none()).count() as u64)
    }
}
