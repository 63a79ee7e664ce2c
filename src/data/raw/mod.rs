//! Raw Alibaba traces, as published: one row per call, calls of all traces mixed (paper,
//! section 2).
//!
//! Tables are read line by line ([`scan`]); rows go to buckets on disk by hash of their trace
//! id ([`buckets`]); each bucket is sorted, grouped and judged by itself ([`assemble`]); valid
//! graphs go to partitions by fingerprint, where duplicates meet ([`distinct`]). Memory holds a
//! line, the distinct names, one bucket per thread, and the graphs that are kept; it does not
//! grow with the tables.

mod assemble;
mod buckets;
mod distinct;
mod row;
mod scan;
mod spill;
#[cfg(test)]
mod tests;
mod write;

use std::path::PathBuf;

use anyhow::Result;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Funnel;
use super::finish;
use super::source::{Source, SourceInput, SourceOutput, SourceRequest};
use crate::error::UserError;
use crate::version::Version;
use assemble::Tally;
use buckets::Buckets;
use distinct::Partitions;
pub use row::Flavour;
pub use write::{HEADER, push};

/// Version of this source: what raw rows become.
pub const VERSION: Version = Version::new("source/alibaba", 1);

/// Bytes of uncompressed table per bucket; a bucket takes about 1.5 times as much memory while it
/// is processed.
const BYTES_PER_BUCKET: u64 = 32 << 20;
/// Above this many buckets (64 GB of tables) buckets grow instead.
const MAX_BUCKETS: u64 = 2048;
/// What a part of a table cannot show. Nothing in a file says whether its traces go on elsewhere.
const UNREAD: &str =
    "Calls of a trace in files of the table that were not read are missing from its graph.";
/// How much larger than a gzip file its content is taken to be.
const GZIP_RATIO: u64 = 8;

/// Keys of `[source]` for the table `CallGraph` of 2022.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlibabaV2022 {
    /// A file, or a folder of `.csv` and `.csv.gz`.
    path: PathBuf,
}

impl Source for AlibabaV2022 {
    fn version() -> Version {
        VERSION
    }

    fn inputs(&self) -> Vec<SourceInput<'_>> {
        vec![SourceInput { path: &self.path, extensions: &["csv"] }]
    }

    fn read(&self, request: &SourceRequest<'_>) -> Result<SourceOutput> {
        read(Flavour::V2022, request)
    }
}

/// Keys of `[source]` for the table `MSCallGraph` of 2021.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlibabaV2021 {
    /// A file, or a folder of `.csv` and `.csv.gz`.
    path: PathBuf,
}

impl Source for AlibabaV2021 {
    fn version() -> Version {
        VERSION
    }

    fn inputs(&self) -> Vec<SourceInput<'_>> {
        vec![SourceInput { path: &self.path, extensions: &["csv"] }]
    }

    fn read(&self, request: &SourceRequest<'_>) -> Result<SourceOutput> {
        read(Flavour::V2021, request)
    }
}

/// Reads the graphs of raw tables; no more than are wanted are held in memory.
///
/// The graphs stand in the order of their fingerprints, which does not depend on the order of the
/// rows or files.
fn read(flavour: Flavour, request: &SourceRequest<'_>) -> Result<SourceOutput> {
    let failed = |error| UserError::io(request.scratch, "cannot be written", error);
    std::fs::create_dir_all(request.scratch).map_err(failed)?;
    let scratch = tempfile::tempdir_in(request.scratch).map_err(failed)?;
    let files = &request.files[0];
    let count = bucket_count(files)?;
    let mut buckets = Buckets::new(scratch.path(), count);
    let skip = request.skip_bad_rows;
    let outcome = scan::read(files, flavour, &mut buckets, skip, request.progress)?;
    let partitions = Partitions::new(scratch.path(), count)?;
    let names = buckets.names(flavour);
    let step = request.progress.step("grouping traces", "buckets", count);
    let paths = buckets.finish()?;
    let tallies: Vec<Tally> = paths
        .par_iter()
        .map(|path| {
            let tally = assemble::bucket(path, flavour, &names, request.seed, &partitions)?;
            step.inc(1);
            Ok(tally)
        })
        .collect::<Result<_>>()?;
    step.finish();
    let mut total = Tally::default();
    tallies.iter().for_each(|tally| total.merge(tally));
    let (graphs, duplicates) = partitions.finish(&names, request.graphs)?;
    total.losses.merge(&duplicates);

    let mut funnel = Funnel::default();
    total.push_to(&mut funnel, outcome, skip);
    if funnel.0.last().is_some_and(|last| last.traces > Some(graphs.len() as u64)) {
        finish::push_sample(&mut funnel, &graphs);
    }
    let labels = vec![UNREAD.to_owned()];
    let complete = Some(total.complete());
    Ok(SourceOutput { graphs, funnel, complete, labels, ..SourceOutput::default() })
}

fn bucket_count(files: &[PathBuf]) -> Result<u64> {
    let mut bytes = 0;
    for path in files {
        let failed = |error| UserError::io(path, "cannot be read", error);
        let size = std::fs::metadata(path).map_err(failed)?.len();
        let gzip = path.extension().is_some_and(|extension| extension == "gz");
        bytes += if gzip { size.saturating_mul(GZIP_RATIO) } else { size };
    }
    Ok((bytes / BYTES_PER_BUCKET + 1).min(MAX_BUCKETS))
}
