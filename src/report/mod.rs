//! Tables and figures, drawn from records alone.
//!
//! A report takes the records of all runs of an experiment and gives named tables and figures.
//! Nothing in them depends on wall time, except for the table `cost`, which is kept apart for that
//! reason (docs/snapshots.md).

mod accuracy;
mod arms;
mod comparisons;
mod distribution;
mod downstream;
mod downstream_anomalies;
mod fidelity;
pub mod figure;
mod instructions;
mod learning;
mod notes;
mod novelty;
mod overview;
mod probes;
mod published;
pub mod splice;
mod statistics;
pub mod table;
mod training_log;
mod truth;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use arms::{COST, describe};
pub use figure::Figure;
pub use table::Table;

use crate::data::DatasetCard;
use crate::error::UserError;
use crate::evaluate::{Conditions, Record, Units};
use crate::version::Version;

/// Version of tables and figures. Their snapshots are those of the tests of this module.
pub const VERSION: Version = Version::new("report", 1);

/// Hash of what reports are made of besides code: the published claims.
pub fn compiled_in() -> String {
    blake3::hash(published::CLAIMS.as_bytes()).to_hex().to_string()
}

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
    pub units: Option<Units>,
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
    pub drawn: &'a [String],
    /// Records of real against real graphs.
    pub floor: Option<&'a [Record]>,
    /// What the runs were asked for.
    pub conditions: Option<&'a Conditions>,
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
    fn table(&mut self, name: &str, table: Table) {
        self.tables.push((name.to_owned(), table));
    }

    fn figure(&mut self, name: impl Into<String>, figure: Figure) {
        self.figures.push((name.into(), figure));
    }
}

/// What an experiment is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportKind {
    /// Accuracy by number of edges, depth, temperature and training data (figures 3 and 12).
    Accuracy,
    /// Popular calls, heavy hitters, sizes (figures 4 and 8).
    Fidelity,
    /// Accuracy and fidelity by training tokens, and the course of training.
    Learning,
    /// Fidelity in one number and by descriptor; degrees and times (figure 16).
    Distribution,
    /// Uniqueness, novelty, memorisation (figure 15) and privacy.
    Novelty,
    /// Instruction following (figure 6).
    Instructions,
    /// Distance from the simulator's true distribution.
    Truth,
    /// Downstream tasks (figure 5, table 2).
    Downstream,
    /// Trained networks tuned for other tasks (figure 7).
    Probes,
}

/// Draws the report of an experiment. Failed runs are shown as such.
pub fn report(kind: ReportKind, input: &ReportInput) -> ReportFiles {
    match kind {
        ReportKind::Accuracy => accuracy::report(input),
        ReportKind::Fidelity => fidelity::report(input),
        ReportKind::Learning => learning::report(input),
        ReportKind::Distribution => distribution::report(input),
        ReportKind::Novelty => novelty::report(input),
        ReportKind::Instructions => instructions::report(input),
        ReportKind::Truth => truth::report(input),
        ReportKind::Downstream => downstream::report(input),
        ReportKind::Probes => probes::report(input),
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
/// returns the paths in order. Each file appears whole or not at all. Folders are made.
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

/// Writes beside the target and renames, so that nobody sees half a file.
fn write_file(dir: &Path, name: &str, extension: &str, content: &[u8]) -> Result<PathBuf> {
    std::fs::create_dir_all(dir).map_err(|error| UserError::io(dir, "cannot be made", error))?;
    let path = dir.join(format!("{name}.{extension}"));
    let failed = |error| UserError::io(&path, "cannot be written", error);
    let mut file = tempfile::Builder::new().prefix(".").tempfile_in(dir).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    make_readable(file.as_file()).map_err(failed)?;
    file.persist(&path).map_err(|error| failed(error.error))?;
    Ok(path)
}

/// Temporary files are private by default; results are not.
fn make_readable(file: &std::fs::File) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}

#[cfg(test)]
mod tests;
