//! From a manifest to a dataset.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::manifest::{DatasetManifest, SourceSpec};
use super::simulator::{Cloud, SimulatorConfig};
use super::{
    Dataset, DatasetCard, Funnel, Side, call_table, finish, nezha, raw, split, structures,
};
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

/// Graphs that a source gave, and what became of the rest.
#[derive(Default)]
pub(super) struct Harvest {
    pub graphs: Vec<CallGraph>,
    /// Graphs that met an injected fault.
    pub faulty: Vec<CallGraph>,
    pub funnel: Funnel,
    /// Labels that every output must carry.
    pub labels: Vec<String>,
}

/// Graphs simulated when neither the manifest nor the options say how many.
const DEFAULT_SIMULATED: u64 = 20_000;
/// Graphs drawn from weighted structures likewise.
const DEFAULT_DRAWN: u64 = 100_000;

/// Builds the dataset of `manifest`. The same manifest, inputs and options give the same dataset,
/// whatever the number of threads.
///
/// # Errors
/// Inputs that are missing or damaged, or hold rows that cannot be read, without `skip_bad_rows`.
pub fn build(manifest: &DatasetManifest, options: &BuildOptions) -> Result<Dataset> {
    let inputs = manifest.inputs(options.data_root.as_deref())?;
    let Harvest { mut graphs, faulty, funnel, labels } = harvest(manifest, options)?;
    let (mut sides, split) = split::split(&graphs, &manifest.split);
    sides.resize(graphs.len() + faulty.len(), Side::Faulty);
    graphs.extend(faulty);
    let card = DatasetCard {
        name: manifest.name.clone(),
        source: manifest.source.id().to_owned(),
        labels,
        inputs,
        funnel,
        split,
        ..DatasetCard::default()
    };
    Ok(Dataset::new(card, graphs, sides))
}

pub(super) fn harvest(manifest: &DatasetManifest, options: &BuildOptions) -> Result<Harvest> {
    let files = manifest.files(options.data_root.as_deref())?;
    let drawn = options.graphs.or(manifest.graphs);
    let limit = options.graphs.or(manifest.max_graphs);
    match &manifest.source {
        SourceSpec::CallTable { .. } => {
            let (graphs, mut funnel) = call_table::read(&files, options.skip_bad_rows)?;
            let graphs = sample(graphs, limit, manifest.split.seed, &mut funnel);
            Ok(Harvest { graphs, funnel, ..Harvest::default() })
        }
        SourceSpec::Nezha { .. } => {
            let faults = manifest.faults(options.data_root.as_deref())?;
            let mut read = nezha::read(&files, &faults, options.skip_bad_rows)?;
            read.graphs = sample(read.graphs, limit, manifest.split.seed, &mut read.funnel);
            Ok(read)
        }
        SourceSpec::Simulator { seed, cloud } => {
            simulate(cloud, *seed, drawn.unwrap_or(DEFAULT_SIMULATED), options.progress)
        }
        SourceSpec::AlibabaV2022 { .. } => {
            raw::read(&files, raw::Flavour::V2022, options, limit, manifest.split.seed)
        }
        SourceSpec::AlibabaV2021 { .. } => {
            raw::read(&files, raw::Flavour::V2021, options, limit, manifest.split.seed)
        }
        SourceSpec::WeightedStructures { times_from, seed, .. } => {
            let timed = manifest.times_manifest(times_from)?;
            // The drawn graphs' number is not meant for the graphs that lend their times.
            let unlimited = BuildOptions { graphs: None, ..options.clone() };
            let timed = harvest(&timed, &unlimited)?.graphs;
            let count = drawn.unwrap_or(DEFAULT_DRAWN);
            structures::read(&files, &timed, times_from, count, *seed, options)
        }
    }
}

fn simulate(
    config: &SimulatorConfig,
    seed: u64,
    count: u64,
    progress: Progress,
) -> Result<Harvest> {
    use rayon::prelude::*;

    let cloud = Cloud::new(config)?;
    let step = progress.step("simulating", "graphs", count);
    let graphs: Vec<CallGraph> = (0..count)
        .into_par_iter()
        .map(|index| {
            step.inc(1);
            cloud.graph(seed, index)
        })
        .collect();
    step.finish();
    let mut funnel = Funnel::default();
    funnel.push("simulated", calls(&graphs), Some(count));
    Ok(Harvest { graphs, funnel, ..Harvest::default() })
}

/// At most `limit` of the graphs: those whose fingerprint with `seed` is smallest, in that order.
fn sample(
    graphs: Vec<CallGraph>,
    limit: Option<u64>,
    seed: u64,
    funnel: &mut Funnel,
) -> Vec<CallGraph> {
    let Some(limit) = limit.filter(|limit| *limit < graphs.len() as u64) else { return graphs };
    let mut keyed: Vec<(u128, CallGraph)> =
        graphs.into_iter().map(|graph| (finish::fingerprint(seed, &graph), graph)).collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.truncate(limit as usize);
    let graphs: Vec<CallGraph> = keyed.into_iter().map(|(_, graph)| graph).collect();
    funnel.push(sampled(limit), calls(&graphs), Some(limit));
    graphs
}

/// The funnel's words for a random sample.
pub(super) fn sampled(limit: u64) -> String {
    format!("among {limit} drawn at random")
}

pub(super) fn calls(graphs: &[CallGraph]) -> u64 {
    graphs.iter().map(|graph| u64::from(graph.num_edges())).sum()
}

/// The data folder that the environment names, if it does.
pub fn data_root() -> Option<PathBuf> {
    let value = std::env::var_os("TRACEGYM_DATA").filter(|value| !value.is_empty())?;
    Some(Path::new(&value).to_owned())
}
