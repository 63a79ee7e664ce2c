use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::train::{FIT, MODEL};
use super::{Bench, answers, read_json};
use crate::error::UserError;
use crate::evaluate::{self, Conditions};
use crate::generators::{self, FitReport, GenerateOptions, Sampling};
use crate::run::cache::Key;

/// Lets a trained generator answer the conditions of an experiment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GenerateWork {
    /// Id in the registry.
    pub generator: String,
    pub settings: toml::Table,
    pub seed: u64,
    pub sampling: Sampling,
    pub conditions: Conditions,
    /// Index in [`FitReport::snapshots`]; `None` takes the final model.
    pub snapshot: Option<u32>,
    pub dataset: Key,
    pub train: Key,
}

impl GenerateWork {
    pub fn run(&self, bench: &Bench) -> Result<()> {
        let dataset = bench.dataset(&self.dataset)?;
        let train = bench.input("train", &self.train);
        let report: FitReport = read_json(&train.join(FIT))?;
        let snapshot = self.snapshot.map(|index| tokens_at(&report, index)).transpose()?;
        let conditions = evaluate::conditions(&self.conditions, &dataset, self.seed)?;
        let recipe = generators::recipe(&self.generator, &self.settings)?;
        let generator = recipe.load(&train.join(MODEL), snapshot, bench.device)?;
        let options = GenerateOptions {
            seed: self.seed,
            sampling: self.sampling,
            batch: bench.means.batch,
            progress: bench.progress,
        };
        let generated = generator.generate(&conditions, &options)?;
        answers::save(bench.out, &conditions, &generated)
    }
}

/// Training tokens at the snapshot with this index.
pub fn tokens_at(report: &FitReport, index: u32) -> Result<u64> {
    let found = report.snapshots.get(index as usize).copied();
    found.ok_or_else(|| {
        UserError::setting(format!(
            "snapshot {} does not exist: training saved {}; correct `snapshots` in the baseline",
            index + 1,
            report.snapshots.len()
        ))
        .into()
    })
}
