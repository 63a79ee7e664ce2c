use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{ExecutionOptions, StageContext, StageKind, check_files_of, write_json};
use crate::durable::create_folder;
use crate::generators::{self, FitContext};
use crate::run::cache::Key;
use crate::version::Version;

/// Version of this stage: the trained model and what training says of itself.
pub const VERSION: Version = Version::new("stage/train", 2);

/// Trains a generator on a dataset.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainWork {
    /// Id in the registry.
    pub generator: String,
    pub settings: toml::Table,
    pub seed: u64,
    /// `cpu` or `cuda`: their sums round differently. Empty where no network is trained.
    pub device: String,
    pub dataset: Key,
    /// The training that this one goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Key>,
}

/// The trained model's folder in the stage's outputs.
pub const MODEL: &str = "model";
/// The [`generators::FitReport`] in the stage's outputs.
pub const FIT: &str = "fit.json";

impl StageKind for TrainWork {
    fn kind(&self) -> &'static str {
        "train"
    }

    fn versions(&self) -> Vec<Version> {
        let training = generators::entry(&self.generator).map(|entry| entry.training);
        [VERSION].into_iter().chain(training).collect()
    }

    fn inputs(&self) -> Vec<Key> {
        [&self.dataset].into_iter().chain(&self.base).cloned().collect()
    }

    fn seed(&self) -> Option<u64> {
        Some(self.seed)
    }

    fn check_files(&self, _: &ExecutionOptions) -> Result<()> {
        check_files_of(&self.generator, &self.settings)
    }

    fn run(&self, context: &StageContext) -> Result<()> {
        let dataset = context.dataset(&self.dataset)?;
        let out = context.out.join(MODEL);
        create_folder(&out)?;
        let base = self.base.as_ref().map(|key| context.input("train", key).join(MODEL));
        let report = generators::recipe(&self.generator, &self.settings)?.fit(&FitContext {
            dataset: &dataset,
            seed: self.seed,
            device: context.device,
            base: base.as_deref(),
            out: &out,
            scratch: context.scratch,
            progress: context.progress,
        })?;
        write_json(&context.out.join(FIT), &report)
    }
}
