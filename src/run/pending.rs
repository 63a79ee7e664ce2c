//! Stands in for the report of tables and figures until it lands: a list of whole-run numbers.

#![allow(dead_code)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::data::DatasetCard;
use crate::evaluate::Record;

/// Results of one generator, seed, temperature and snapshot.
pub struct RunRecords {
    pub generator: String,
    pub label: String,
    pub seed: u64,
    pub temperature: f64,
    pub snapshot_tokens: Option<u64>,
    /// `Err` says why this cell failed.
    pub outcome: Result<Vec<Record>, String>,
    pub parameters: Option<u64>,
    pub train_seconds: Option<f64>,
    pub generate_seconds: Option<f64>,
    pub graphs: u64,
}

/// The log of one training.
pub struct TrainingLog {
    pub label: String,
    pub seed: u64,
    pub path: PathBuf,
}

/// What a report is drawn from.
pub struct ReportInput<'a> {
    pub experiment: &'a str,
    pub title: &'a str,
    pub dataset: &'a DatasetCard,
    pub profile: &'a str,
    pub runs: &'a [RunRecords],
    pub floor: Option<&'a [Record]>,
    pub training_logs: &'a [TrainingLog],
}

/// Tables and figures by file name.
pub struct ReportFiles {
    text: String,
}

/// Which tables and figures are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportKind {
    Accuracy,
    Fidelity,
    Learning,
}

pub fn report(_kind: ReportKind, input: &ReportInput) -> ReportFiles {
    let mut text = String::new();
    for run in input.runs {
        match &run.outcome {
            Err(reason) => _ = writeln!(text, "{} {}: failed: {reason}", run.label, run.seed),
            Ok(records) => {
                for record in records.iter().filter(|record| record.cell.is_empty()) {
                    let value = record.value;
                    _ = writeln!(text, "{} {} {} {value:.3}", run.label, run.seed, record.metric);
                }
            }
        }
    }
    ReportFiles { text }
}

pub fn write(files: &ReportFiles, tables: &Path, _figures: &Path) -> Result<Vec<PathBuf>> {
    let path = tables.join("whole.md");
    std::fs::write(&path, &files.text)?;
    Ok(vec![path])
}
