//! Copies a report from the cache to `results/` and `paper-figures/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::cache::{Cache, write_atomically};
use super::plan::{ExperimentPlan, Plan, Stage};
use super::provenance::{self, RunRecord};
use super::work::{self, FIGURES, TABLES};
use crate::error::UserError;

/// Publishes the report of `experiment` below `out`. Returns the folder of its tables, or nothing
/// when all files were already there.
///
/// # Errors
/// A folder that cannot be written.
pub fn publish(
    plan: &Plan,
    experiment: &ExperimentPlan,
    report: &Stage,
    cache: &Cache,
    out: &Path,
) -> Result<Option<PathBuf>> {
    let outputs = cache.outputs(report.work.kind(), &report.key);
    let results = Path::new("results").join(experiment.folder());
    let figures = Path::new("paper-figures").join(experiment.folder());
    let mut files = BTreeMap::new();
    for (from, to) in [(TABLES, &results), (FIGURES, &figures)] {
        for (name, content) in read_folder(&outputs.join(from))? {
            files.insert(to.join(name), content);
        }
    }
    let hashes: BTreeMap<String, String> = files
        .iter()
        .map(|(path, content)| {
            (path.display().to_string(), blake3::hash(content).to_hex().to_string())
        })
        .collect();
    let record_path = out.join(&results).join("run.json");
    let before: Option<RunRecord> = work::read_json(&record_path).ok();
    let is_there = |(path, content): (&PathBuf, &Vec<u8>)| {
        fs::read(out.join(path)).is_ok_and(|found| found == *content)
    };
    if before.as_ref().is_some_and(|before| before.report == report.key && before.files == hashes)
        && files.iter().all(is_there)
    {
        return Ok(None);
    }
    for (path, content) in &files {
        write_atomically(&out.join(path), content)?;
    }
    // Files of an earlier report that this one no longer has would be taken for its own.
    for path in before.iter().flat_map(|before| before.files.keys()) {
        let ours = [&results, &figures].iter().any(|dir| Path::new(path).parent() == Some(dir));
        if ours && !hashes.contains_key(path) {
            let _ = fs::remove_file(out.join(path));
        }
    }
    let record = provenance::record(plan, experiment, report, cache, hashes)?;
    work::write_json(&record_path, &record)?;
    Ok(Some(out.join(results)))
}

fn read_folder(dir: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let failed = |error| UserError::io(dir, "cannot be read", error);
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        files.push((PathBuf::from(entry.file_name()), fs::read(entry.path()).map_err(failed)?));
    }
    Ok(files)
}
