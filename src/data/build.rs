//! From a manifest to a dataset.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::manifest::DatasetManifest;
use super::source::{SourceOutput, SourceRequest};
use super::{Dataset, DatasetCard, HeldOut, Side, finish, held_out, split};
use crate::graph::CallGraph;
use crate::progress::Progress;

/// What building a dataset depends on besides its manifest.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// Folder that relative paths of manifests are looked for in (`TRACEGYM_DATA`).
    pub data_root: Option<PathBuf>,
    /// Leave out rows that cannot be read, with their traces, and count them in the funnel instead of
    /// stopping at the first.
    pub skip_bad_rows: bool,
    /// How many graphs are drawn or simulated, in place of the manifest's number; for other
    /// sources, at most how many are kept.
    pub graphs: Option<u64>,
    /// Folder for intermediate files; they are removed in the end.
    pub scratch: PathBuf,
    pub progress: Progress,
}

impl BuildOptions {
    /// What the manifest says and nothing else.
    pub fn new(scratch: &Path) -> Self {
        Self {
            data_root: None,
            skip_bad_rows: false,
            graphs: None,
            scratch: scratch.to_owned(),
            progress: Progress::Quiet,
        }
    }
}

/// Builds the dataset of `manifest`. The same manifest, inputs and options give the same dataset,
/// whatever the number of threads.
///
/// # Errors
/// Inputs that are missing or damaged, or hold rows that cannot be read, without `skip_bad_rows`.
pub fn build(manifest: &DatasetManifest, options: &BuildOptions) -> Result<Dataset> {
    let inputs = manifest.inputs(options.data_root.as_deref())?;
    let output = read(manifest, options)?;
    let SourceOutput { mut graphs, faulty, held_out: made, funnel, changes, labels, .. } = output;
    let (mut sides, split) = split::split(&graphs, &manifest.split);
    sides.resize(graphs.len() + faulty.len(), Side::Faulty);
    graphs.extend(faulty);
    let card = DatasetCard {
        name: manifest.name.clone(),
        source: manifest.source.id().to_owned(),
        labels,
        inputs,
        funnel,
        changes: changes.into_iter().map(|change| (change.words, change.count)).collect(),
        split,
        ..DatasetCard::default()
    };
    let mut dataset = Dataset::new(card, graphs, sides);
    let (held_out, from) = held_out_of(&dataset, made, manifest, options)?;
    dataset.set_held_out(held_out, from);
    Ok(dataset)
}

/// What prompts of the grid are made of, and which graphs it is about: those that the source made for
/// it, or else the test graphs, with the rows of the manifest's table that are about services of training
/// graphs.
fn held_out_of(
    dataset: &Dataset,
    made: Vec<HeldOut>,
    manifest: &DatasetManifest,
    options: &BuildOptions,
) -> Result<(Vec<HeldOut>, String)> {
    let (mut held_out, mut from) = if made.is_empty() {
        (dataset.test().into_iter().map(HeldOut::of).collect(), "test graphs".to_owned())
    } else {
        (made, "graphs simulated for prompts alone".to_owned())
    };
    if let Some(named) = &manifest.prompts {
        let name = named.file_name().unwrap_or_default().to_string_lossy();
        match manifest.prompts_file(options.data_root.as_deref()) {
            Some(path) => {
                let services = dataset.train().into_iter().map(CallGraph::service).collect();
                let seed = manifest.split.seed;
                held_out.extend(held_out::of_file(&path, &services, options.skip_bad_rows, seed)?);
                from += &format!(" and graphs of the same services in {name}");
            }
            None => from += &format!(" ({name} was not there)"),
        }
    }
    Ok((held_out, from))
}

fn read(manifest: &DatasetManifest, options: &BuildOptions) -> Result<SourceOutput> {
    let timed = match manifest.times_manifest()? {
        // The drawn graphs' number is not meant for the graphs that lend their times.
        Some(times) => read(&times, &BuildOptions { graphs: None, ..options.clone() })?.graphs,
        None => Vec::new(),
    };
    // A manifest has only the one that applies to its source.
    let graphs = options.graphs.or(manifest.graphs).or(manifest.max_graphs);
    let seed = manifest.split.seed;
    let mut output = manifest.source.settings().read(&SourceRequest {
        files: manifest.files(options.data_root.as_deref())?,
        graphs,
        seed,
        timed,
        skip_bad_rows: options.skip_bad_rows,
        scratch: &options.scratch,
        progress: options.progress,
    })?;
    output.graphs = finish::sample(output.graphs, graphs, seed, &mut output.funnel);
    Ok(output)
}

/// The data folder that the environment names, if it does.
pub fn data_root() -> Option<PathBuf> {
    let value = std::env::var_os("TRACEGYM_DATA").filter(|value| !value.is_empty())?;
    Some(Path::new(&value).to_owned())
}
