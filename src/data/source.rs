//! What a data source is. Each is a file or folder of this module that holds its settings (the keys of a
//! manifest's `[source]`), its version with a golden test, and how it is read; `registry.rs` lists
//! them.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Funnel, HeldOut};
use crate::graph::CallGraph;
use crate::progress::Progress;
use crate::version::Version;

/// A data source with its settings.
pub trait Source {
    /// Raised when the same files and settings give other graphs.
    fn version() -> Version
    where
        Self: Sized;

    /// Whether it makes graphs, as many as `graphs` says. Others have measured ones, of which
    /// `max_graphs` are kept.
    fn makes_graphs() -> bool
    where
        Self: Sized,
    {
        false
    }

    /// # Errors
    /// A setting that cannot be, by its key, with the remedy.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// What it reads. The files' content is part of the dataset's key.
    fn inputs(&self) -> Vec<SourceInput<'_>>;

    /// The dataset whose response times it uses where it has none of its own.
    fn times_from(&self) -> Option<&str> {
        None
    }

    /// Graphs with what became of the rest. Every source of measured graphs drops those that are
    /// invalid, too deep or there twice (`finish.rs`).
    ///
    /// # Errors
    /// Files that are damaged or hold rows that cannot be read.
    fn read(&self, request: &SourceRequest<'_>) -> Result<SourceOutput>;
}

/// A file or folder that a source reads, as the manifest names it.
#[derive(Clone, Copy, Debug)]
pub struct SourceInput<'a> {
    pub path: &'a Path,
    /// How names of a folder's files may end before `.gz`, without the dot.
    pub extensions: &'static [&'static str],
}

/// What a source is asked for.
pub struct SourceRequest<'a> {
    /// The files of each of its inputs, in their order.
    pub files: Vec<Vec<PathBuf>>,
    /// How many graphs are made, where the source makes them. Of measured ones at most so many are
    /// kept, whatever the source gives (`finish::sample`).
    pub graphs: Option<u64>,
    /// Seed with which these are drawn.
    pub seed: u64,
    /// Graphs of the dataset that lends its response times.
    pub timed: Vec<CallGraph>,
    /// Leave out rows that cannot be read, with their traces.
    pub skip_bad_rows: bool,
    /// Folder for intermediate files.
    pub scratch: &'a Path,
    pub progress: Progress,
}

#[cfg(test)]
impl<'a> SourceRequest<'a> {
    /// All graphs of one file.
    pub fn of(file: &Path, scratch: &'a Path) -> Self {
        Self {
            files: vec![vec![file.to_owned()]],
            graphs: None,
            seed: 0,
            timed: Vec::new(),
            skip_bad_rows: false,
            scratch,
            progress: Progress::Quiet,
        }
    }
}

/// Something that was changed in what a source kept, or that is not as it might be expected.
pub struct Change {
    /// In words that follow a number.
    pub words: String,
    pub count: u64,
    /// The first trace that it befell; empty where it is not known.
    pub trace: String,
}

/// Graphs that a source gave, and what became of the rest.
#[derive(Default)]
pub struct SourceOutput {
    pub graphs: Vec<CallGraph>,
    /// Graphs that met an injected fault.
    pub faulty: Vec<CallGraph>,
    /// Attributes of further graphs that are for prompts alone; where there are none, those of test graphs
    /// serve.
    pub held_out: Vec<HeldOut>,
    pub funnel: Funnel,
    /// What was changed in what was kept.
    pub changes: Vec<Change>,
    /// Traces with one root in which no parent is missing, and all traces; `None` where nothing is measured.
    pub complete: Option<(u64, u64)>,
    /// What the funnel demands that some traces are not, with the id of the first of these, where traces
    /// have ids.
    pub examples: Vec<(String, String)>,
    /// Labels that every output must carry.
    pub labels: Vec<String>,
}
