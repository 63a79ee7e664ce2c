use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Bench, Means};
use crate::data::{self, BuildOptions, DatasetManifest, InputFile};
use crate::error::UserError;
use crate::version::Version;

/// Version of this stage: a dataset as files.
pub const VERSION: Version = Version::new("stage/dataset", 2);

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
    /// Whether the files are those that were planned with.
    pub(super) fn check_files(&self, means: &Means) -> Result<()> {
        let now = self.manifest.inputs(means.data_root.as_deref())?;
        let changed = self.files.iter().filter(|file| !now.contains(file));
        let added = now.iter().filter(|file| !self.files.contains(file));
        let mut names: Vec<&str> = changed.chain(added).map(|file| file.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        if now == self.files {
            return Ok(());
        }
        Err(UserError::setting(format!(
            "dataset `{}`: {} changed after the run was planned, so that nothing was kept; the same \
             command plans anew",
            self.manifest.name,
            names.join(", ")
        ))
        .into())
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_changed_since_planning_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("m.toml", "name = \"mine\"\nsource = { kind = \"call-table\", path = \"rows\" }\n");
        std::fs::create_dir(dir.path().join("rows")).unwrap();
        write("rows/a.csv", "x\n");
        write("rows/b.csv", "y\n");
        let path = dir.path().join("m.toml");
        let manifest = DatasetManifest::find(path.to_str().unwrap()).unwrap();
        let files = manifest.inputs(None).unwrap();
        let work = DatasetWork { manifest, files, graphs: None };
        let means = Means { device: "cpu".into(), batch: 1, data_root: None };
        work.check_files(&means).unwrap();
        write("rows/a.csv", "z\n");
        write("rows/c.csv", "");
        let error = work.check_files(&means).unwrap_err().to_string();
        assert!(error.starts_with("dataset `mine`: a.csv, c.csv changed after the run"), "{error}");
    }
}
