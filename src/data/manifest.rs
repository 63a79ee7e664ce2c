//! Dataset manifests: which source, which files, how it is split.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{InputFile, SourceSpec, inputs};
use crate::error::UserError;
use crate::manifests::{Kind, Manifest};
use crate::{check, toml_file};

/// What a dataset is made of: the content of one `data/NAME.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetManifest {
    pub name: String,
    pub source: SourceSpec,
    pub split: SplitSpec,
    /// How many graphs are drawn or simulated, where the source makes graphs.
    pub graphs: Option<u64>,
    /// At most this many graphs are kept of a source that has graphs, drawn at random.
    pub max_graphs: Option<u64>,
    /// Rows that cannot be read are left out with their traces, and counted in the funnel, instead of
    /// ending the build.
    #[serde(default)]
    pub skip_bad_rows: bool,
    /// Table of attributes (service, num_edges, depth, latency) of further real graphs, for prompts of the
    /// grid. The dataset does without where the file is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<PathBuf>,
    /// Folder of the manifest's file; `None` for the copy of one in the binary.
    pub folder: Option<PathBuf>,
}

/// The file's own keys. Apart from [`DatasetManifest`] so that a file cannot name its folder.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestFile {
    name: String,
    source: SourceSpec,
    #[serde(default)]
    split: SplitSpec,
    graphs: Option<u64>,
    max_graphs: Option<u64>,
    #[serde(default)]
    skip_bad_rows: bool,
    prompts: Option<PathBuf>,
}

/// How graphs are divided into train and test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitKind {
    /// Each graph by itself.
    Random,
    /// All graphs of one (service, tree shape) on one side.
    ByStructure,
}

impl SplitKind {
    pub fn id(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::ByStructure => "by-structure",
        }
    }
}

/// `[split]`: by default 10 % of the graphs at random, as in the paper.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitSpec {
    pub kind: SplitKind,
    /// Fraction of the graphs on the test side.
    pub test_share: f64,
    /// Also draws the `max_graphs` that are kept.
    pub seed: u64,
}

impl Default for SplitSpec {
    fn default() -> Self {
        Self { kind: SplitKind::Random, test_share: 0.1, seed: 0 }
    }
}

/// Manifests of datasets.
pub const DATASETS: Kind = Kind { what: "dataset", folders: &["data"], inside: None };

impl DatasetManifest {
    /// The manifest of a name (`data/NAME.toml` below the working directory, else the copy in the binary) or
    /// of a file.
    ///
    /// # Errors
    /// An unknown name (with the known ones that it may stand for) or a manifest that is wrong.
    pub fn find(name_or_path: &str) -> Result<Self> {
        let Manifest { path, text, is_embedded } = DATASETS.find(name_or_path)?;
        let folder = path.parent().filter(|_| !is_embedded).map(Path::to_owned);
        Self::parse(&path, &text, folder)
    }

    pub(super) fn parse(path: &Path, text: &str, folder: Option<PathBuf>) -> Result<Self> {
        let ManifestFile { name, source, split, graphs, max_graphs, skip_bad_rows, prompts } =
            toml_file::parse(path, text)?;
        let wrong = |key: &str, message: String| UserError::input(path, key, message);
        let of_file =
            |message: String| UserError::setting(format!("{}: {message}", path.display()));
        check::name(&name).map_err(|message| wrong("key name", message))?;
        source.settings().check().map_err(of_file)?;
        if !(0.0..1.0).contains(&split.test_share) {
            let message = format!("{} must be at least 0 and below 1", split.test_share);
            return Err(wrong("key split.test_share", message).into());
        }
        for (key, value) in [("graphs", graphs), ("max_graphs", max_graphs)] {
            check::within(key, value.unwrap_or(1), 1..=u64::from(u32::MAX)).map_err(of_file)?;
        }
        let misplaced = match (source.makes_graphs(), graphs, max_graphs) {
            (true, _, Some(_)) => Some(("max_graphs", "graphs")),
            (false, Some(_), _) => Some(("graphs", "max_graphs")),
            _ => None,
        };
        if let Some((key, other)) = misplaced {
            let message = format!("does not apply to source `{}`: use `{other}`", source.id());
            return Err(wrong(&format!("key {key}"), message).into());
        }
        Ok(Self { name, source, split, graphs, max_graphs, skip_bad_rows, prompts, folder })
    }

    /// The files that the dataset is built from, in order, with their hashes. A source without
    /// files has none.
    ///
    /// # Errors
    /// A file that is not there, with how to say where data lies.
    pub fn inputs(&self, data_root: Option<&Path>) -> Result<Vec<InputFile>> {
        let mut files = Vec::new();
        for path in self.files(data_root)?.iter().flatten() {
            files.push(inputs::hash(path)?);
        }
        if let Some(times) = self.times_manifest()? {
            files.extend(times.inputs(data_root)?);
        }
        if let Some(path) = self.prompts_file(data_root) {
            files.push(inputs::hash(&path)?);
        }
        Ok(files)
    }

    /// Paths of the files of each of the source's inputs.
    pub(super) fn files(&self, data_root: Option<&Path>) -> Result<Vec<Vec<PathBuf>>> {
        let inputs = self.source.settings().inputs();
        let files = inputs.iter().map(|input| {
            let folder = self.folder.as_deref();
            inputs::files(&self.name, input.path, input.extensions, data_root, folder)
        });
        files.collect()
    }

    /// The table of attributes for prompts, if the manifest names one and it is there.
    pub(super) fn prompts_file(&self, data_root: Option<&Path>) -> Option<PathBuf> {
        inputs::optional(self.prompts.as_deref()?, data_root, self.folder.as_deref())
    }

    /// The manifest of the dataset that lends its response times: one with measured times.
    pub fn times_manifest(&self) -> Result<Option<DatasetManifest>> {
        let Some(times_from) = self.source.settings().times_from() else { return Ok(None) };
        let other = Self::find(times_from)?;
        if other.source.makes_graphs() {
            let message = format!(
                "dataset `{}`: times_from = \"{times_from}\" has no measured times itself; name a \
                 call table or a raw trace",
                self.name
            );
            return Err(UserError::setting(message).into());
        }
        Ok(Some(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        DatasetManifest::parse(Path::new("x.toml"), text, None).unwrap_err().to_string()
    }

    #[test]
    fn shipped_manifests_are_found_by_their_own_name() {
        for name in DATASETS.names() {
            let manifest = DatasetManifest::find(&name).unwrap();
            assert_eq!(manifest.name, name);
            let json = serde_json::to_string(&manifest).unwrap();
            assert_eq!(serde_json::from_str::<DatasetManifest>(&json).unwrap(), manifest);
        }
    }

    #[test]
    fn errors_name_the_line_and_the_remedy() {
        let head = "name = \"a\"\n[source]\nkind = \"call-table\"\npath = \"a.csv\"\n";
        assert_eq!(
            error(&format!("{head}[split]\nsead = 1\n")),
            "x.toml: line 6: unknown key `sead` — did you mean `seed`?"
        );
        assert_eq!(
            error("name = \"a\"\n[source]\nkind = \"call-tabel\"\npath = \"a.csv\"\n"),
            "x.toml: line 3: unknown value `call-tabel` — did you mean `call-table`?"
        );
        assert_eq!(
            error("name = \"a\"\n[source]\nkind = \"call-table\"\npahth = \"a.csv\"\n"),
            "x.toml: line 4: unknown key `pahth` — did you mean `path`?"
        );
        assert_eq!(
            error(&format!("{head}[split]\ntest_share = 1.5\n")),
            "x.toml: key split.test_share: 1.5 must be at least 0 and below 1"
        );
        assert_eq!(
            error("name = \"a\"\nmax_graphs = 3\n[source]\nkind = \"simulator\"\n"),
            "x.toml: key max_graphs: does not apply to source `simulator`: use `graphs`"
        );
    }

    #[test]
    fn names_and_numbers_that_cannot_be_are_refused() {
        let simulator = |head: &str, cloud: &str| {
            error(&format!("{head}\n[source]\nkind = \"simulator\"\n[source.cloud]\n{cloud}\n"))
        };
        for name in ["", "..", "../../thesis", "/tmp/x", "a/b", "run.json", "nul"] {
            let error = simulator(&format!("name = {name:?}"), "");
            let start = format!("x.toml: key name: {name:?} is no name");
            assert!(error.starts_with(&start), "{error}");
        }
        for key in ["graphs", "max_graphs"] {
            let error = simulator(&format!("name = \"a\"\n{key} = 9223372036854775807"), "");
            assert_eq!(
                error,
                format!("x.toml: {key} = 9223372036854775807: must be from 1 to 4294967295")
            );
        }
        assert_eq!(
            simulator("name = \"a\"", "services = 4294967295"),
            "x.toml: key source.cloud: simulator: services = 4294967295: must be from 1 to 1000000"
        );
        let twice =
            "name = \"a\"\n[source]\nkind = \"nezha\"\npath = \"x\"\nfaults = [\"f\", \"f\"]\n";
        assert_eq!(error(twice), "x.toml: source.faults has \"f\" more than once: name each once");
        let outside = DatasetManifest::find("..").unwrap_err().to_string();
        assert!(outside.starts_with("dataset \"..\" is no name"), "{outside}");
    }

    #[test]
    fn times_come_from_a_dataset_that_has_them() {
        for lender in ["alibaba-v2022-structures", "simulator"] {
            let source =
                format!("kind = \"weighted-structures\"\npath = \"x\"\ntimes_from = {lender:?}");
            let text = format!("name = \"a\"\n[source]\n{source}\n");
            let manifest = DatasetManifest::parse(Path::new("x.toml"), &text, None).unwrap();
            let error = manifest.times_manifest().unwrap_err().to_string();
            assert!(error.contains("has no measured times itself"), "{error}");
        }
    }

    #[test]
    fn an_unknown_name_gets_a_suggestion() {
        let error = DatasetManifest::find("trainticket").unwrap_err().to_string();
        assert_eq!(
            error,
            "dataset `trainticket` does not exist — did you mean `nezha-trainticket` or `nezha-trainticket-faults`?"
        );
        let error = DatasetManifest::find("simulater").unwrap_err().to_string();
        assert_eq!(error, "dataset `simulater` does not exist — did you mean `simulator`?");
    }
}
