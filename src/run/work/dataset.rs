use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::Bench;
use crate::data::{self, BuildOptions, DatasetManifest, InputFile};

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
            skip_bad_rows: false,
            graphs: self.graphs,
            scratch: bench.scratch.to_owned(),
            progress: bench.progress,
        };
        data::build(&self.manifest, &options)?.save(bench.out)
    }
}
