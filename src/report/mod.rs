//! What tables and figures are made with: records put together by variant, differences, formats. Nothing
//! here knows a metric family.
//!
//! A report takes the records of all runs of an experiment and gives named tables and figures.
//! Nothing in them depends on wall time, except for the table `cost`, which is kept apart for that
//! reason (docs/snapshots.md).

mod cost;
mod differences;
pub mod figure;
mod results;
mod robustness;
pub mod splice;
pub mod statistics;
pub mod table;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use cost::{COST, cost_table};
pub use differences::{Compared, DeclaredPair, Field, Numbers, Tested, differences};
pub use figure::Figure;
pub use results::{
    Columns, Entry, Found, Reference, Results, Row, Variant, cell_or_missing, combine, list,
    table_cell,
};
pub use robustness::robustness;
pub use table::Table;

use crate::data::DatasetCard;
use crate::durable;
use crate::error::UserError;
use crate::graph::Grid;
use crate::records::{PromptScores, Record};
use crate::version::Version;

/// Version of tables and figures, of all families. Their snapshots are those of the tests of `claims`.
pub const VERSION: Version = Version::new("report", 6);

/// Results of one generator, seed, temperature and snapshot.
#[derive(Clone, Debug)]
pub struct RunRecords {
    /// Name of the baseline.
    pub generator: String,
    /// Name in tables and figures.
    pub label: String,
    pub seed: u64,
    pub temperature: f64,
    /// Training tokens that the model had seen, where snapshots are compared.
    pub snapshot_tokens: Option<u64>,
    /// Why the run failed, or what it gave.
    pub outcome: Result<Vec<Record>, String>,
    /// What is known of each answer; `None` where the evaluation has not kept it.
    pub prompt_scores: Option<PromptScores>,
    pub parameters: Option<u64>,
    /// What the training had to say: name and value.
    pub notes: Vec<(String, String)>,
    /// Wall times, for the table `cost` only.
    pub train_seconds: Option<f64>,
    pub generate_seconds: Option<f64>,
    /// Processor times, for the table `cost` only.
    pub train_cpu_seconds: Option<f64>,
    pub generate_cpu_seconds: Option<f64>,
    /// Peak memory, for the table `cost` only.
    pub train_bytes: Option<u64>,
    pub generate_bytes: Option<u64>,
    /// Conditions that were answered.
    pub graphs: u64,
}

/// Where a training wrote its losses: CSV with columns step, tokens, loss, learning_rate,
/// gradient_norm, validation_loss, validation_perplexity; a field without a measurement is empty.
#[derive(Clone, Debug)]
pub struct TrainingLog {
    pub label: String,
    pub seed: u64,
    pub path: PathBuf,
}

/// All that a report draws from.
#[derive(Clone, Copy, Debug)]
pub struct ReportInput<'a> {
    pub experiment: &'a str,
    pub title: &'a str,
    pub dataset: &'a DatasetCard,
    pub profile: &'a str,
    /// In the order in which they appear in tables.
    pub runs: &'a [RunRecords],
    /// Generators in figures that have a series for each; all where it is empty.
    pub plotted: &'a [String],
    /// Whom the experiment compares with whom; the usual pairs where it declares none.
    pub pairs: Option<&'a [DeclaredPair]>,
    /// Records of real against real graphs.
    pub references: Option<&'a [Record]>,
    /// The grid of edges and depths that the runs were asked for, if it was one.
    pub grid: Option<Grid>,
    pub training_logs: &'a [TrainingLog],
}

/// Most generators in a figure with a series for each.
pub const MAX_DRAWN: usize = figure::Style::COLORS;

/// Tables and figures with the stems of their file names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportFiles {
    pub tables: Vec<(String, Table)>,
    pub figures: Vec<(String, Figure)>,
}

impl ReportFiles {
    /// Adds those of another report.
    pub fn add(&mut self, other: Self) {
        self.tables.extend(other.tables);
        self.figures.extend(other.figures);
    }

    pub fn table(&mut self, name: &str, table: Table) {
        self.tables.push((name.to_owned(), table));
    }

    pub fn figure(&mut self, name: impl Into<String>, figure: Figure) {
        self.figures.push((name.into(), figure));
    }
}

/// A format of tables or figures that is written only where it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Tables in LaTeX.
    Tex,
    /// Figures as bitmaps.
    Png,
}

/// Writes tables as `.csv` and `.md` and figures as `.svg`, all of them in the other `formats` too, and
/// returns the paths in order. Folders are made.
///
/// # Errors
/// A folder or file that cannot be written.
pub fn write(
    files: &ReportFiles,
    formats: &BTreeSet<Format>,
    tables_dir: &Path,
    figures_dir: &Path,
) -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for (name, table) in &files.tables {
        let mut write = |extension, text: String| {
            written.push(write_file(tables_dir, name, extension, text.as_bytes())?);
            anyhow::Ok(())
        };
        write("csv", table.to_csv())?;
        write("md", table.to_markdown())?;
        if formats.contains(&Format::Tex) {
            write("tex", table.to_latex())?;
        }
    }
    for (name, figure) in &files.figures {
        written.push(write_file(figures_dir, name, "svg", figure.to_svg()?.as_bytes())?);
        if formats.contains(&Format::Png) {
            written.push(write_file(figures_dir, name, "png", &figure.to_png()?)?);
        }
    }
    Ok(written)
}

/// Writes without a flush: who gives out the folders flushes them to the disk as a whole.
fn write_file(dir: &Path, name: &str, extension: &str, content: &[u8]) -> Result<PathBuf> {
    durable::create_folder(dir)?;
    let path = dir.join(format!("{name}.{extension}"));
    std::fs::write(&path, content)
        .map_err(|error| UserError::io(&path, "cannot be written", error))?;
    Ok(path)
}
