use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Bench, write_json};
use crate::durable::create_folder;
use crate::generators::{self, FitContext};
use crate::run::cache::Key;
use crate::version::Version;

/// Version of this stage: the trained model and what training says of itself.
pub const VERSION: Version = Version::new("stage/train", 1);

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

impl TrainWork {
    pub fn run(&self, bench: &Bench) -> Result<()> {
        let dataset = bench.dataset(&self.dataset)?;
        let out = bench.out.join(MODEL);
        create_folder(&out)?;
        let base = self.base.as_ref().map(|key| bench.input("train", key).join(MODEL));
        let report = generators::recipe(&self.generator, &self.settings)?.fit(&FitContext {
            dataset: &dataset,
            seed: self.seed,
            device: bench.device,
            base: base.as_deref(),
            out: &out,
            scratch: bench.scratch,
            progress: bench.progress,
        })?;
        write_json(&bench.out.join(FIT), &report)
    }
}
