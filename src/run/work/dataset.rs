use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::Bench;
use crate::data::{self, BuildOptions, DatasetManifest, InputFile};
use crate::error::UserError;
use crate::version::Version;

/// Version of this stage: a dataset as files.
pub const VERSION: Version = Version::new("stage/dataset", 1);

/// Builds a dataset from its source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DatasetWork {
    pub manifest: DatasetManifest,
    /// The files that it is built from, hashed.
    pub files: Vec<InputFile>,
    /// How many graphs are drawn or simulated, where that is not the manifest's number.
    pub graphs: Option<u64>,
}

impl DatasetWork {
    pub fn run(&self, bench: &Bench) -> Result<()> {
        let options = BuildOptions {
            data_root: bench.means.data_root.clone(),
            skip_bad_rows: self.manifest.skip_bad_rows,
            graphs: self.graphs,
            scratch: bench.scratch.to_owned(),
            progress: bench.progress,
        };
        let mut dataset = data::build(&self.manifest, &options)?;
        let [train, test] = [dataset.train().len(), dataset.test().len()];
        if train == 0 || test == 0 {
            let message = format!(
                "dataset `{}` has {train} training and {test} test graphs; an experiment needs \
                 both. `tracegym data build {0}` shows which step dropped them",
                self.manifest.name
            );
            return Err(UserError::setting(message).into());
        }
        dataset.save(bench.out)
    }
}
