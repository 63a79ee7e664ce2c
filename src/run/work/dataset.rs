use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{ExecutionOptions, StageContext, StageKind};
use crate::data::{self, BuildOptions, DatasetManifest, InputFile};
use crate::error::UserError;
use crate::run::cache::Key;
use crate::version::Version;

/// Version of this stage: a dataset as files.
pub const VERSION: Version = Version::new("stage/dataset", 2);

/// Builds a dataset from its source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DatasetWork {
    pub manifest: DatasetManifest,
    /// The files that it is built from, hashed.
    pub files: Vec<InputFile>,
    /// The dataset that lends its response times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<DatasetManifest>,
    /// How many graphs are drawn or simulated, where that is not the manifest's number.
    pub graphs: Option<u64>,
}

impl StageKind for DatasetWork {
    fn kind(&self) -> &'static str {
        "dataset"
    }

    fn versions(&self) -> Vec<Version> {
        let mut versions = vec![VERSION, data::VERSION, self.manifest.source.version()];
        versions.extend(self.times.iter().map(|times| times.source.version()));
        versions
    }

    fn inputs(&self) -> Vec<Key> {
        Vec::new()
    }

    fn reduce_settings(&self, settings: &mut serde_json::Value) {
        // Where a manifest lies is no part of what it says.
        for manifest in ["/manifest", "/times"] {
            if let Some(manifest) = settings.pointer_mut(manifest).and_then(|m| m.as_object_mut()) {
                manifest.remove("folder");
            }
        }
    }

    fn check_files(&self, options: &ExecutionOptions) -> Result<()> {
        let now = self.manifest.inputs(options.data_root.as_deref())?;
        let changed = self.files.iter().filter(|file| !now.contains(file));
        let added = now.iter().filter(|file| !self.files.contains(file));
        let mut names: Vec<&str> = changed.chain(added).map(|file| file.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let times = self.manifest.times_manifest()?;
        if times != self.times {
            names.extend(self.times.iter().map(|times| times.name.as_str()));
        }
        if names.is_empty() {
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

    fn run(&self, context: &StageContext) -> Result<()> {
        let options = BuildOptions {
            data_root: context.options.data_root.clone(),
            skip_bad_rows: self.manifest.skip_bad_rows,
            graphs: self.graphs,
            scratch: context.scratch.to_owned(),
            progress: context.progress,
        };
        let mut dataset = data::build(&self.manifest, &options)?;
        let [train, test] = [dataset.train().len(), dataset.test().len()];
        if train == 0 || test == 0 {
            let message = format!(
                "dataset `{}` has {train} training and {test} test graphs; an experiment needs \
                 both. `tracegym data build {0} --out DIR` shows which step dropped them",
                self.manifest.name
            );
            return Err(UserError::setting(message).into());
        }
        dataset.save(context.out)
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
        let work = DatasetWork { manifest, files, times: None, graphs: None };
        let options = ExecutionOptions { device: "cpu".into(), batch: 1, data_root: None };
        work.check_files(&options).unwrap();
        write("rows/a.csv", "z\n");
        write("rows/c.csv", "");
        let error = work.check_files(&options).unwrap_err().to_string();
        assert!(error.starts_with("dataset `mine`: a.csv, c.csv changed after the run"), "{error}");
    }
}
