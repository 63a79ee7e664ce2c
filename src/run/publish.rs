//! Copies reports from the cache to `results/` and `paper-figures/`.
//!
//! Who publishes an experiment holds its folder against other runs. A report with failed rows never
//! replaces one without: it is put beside it, in a folder named [`INCOMPLETE`], until a run is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::cache::Cache;
use super::contents::Contents;
use super::plan::{ExperimentPlan, Plan, Stage};
use super::provenance::{self, RunRecord};
use super::work::{self, FIGURES, TABLES};
use crate::durable;
use crate::error::UserError;

/// Folder of the tables of all runs.
pub const RESULTS: &str = "results";
/// Folder of the figures of all runs.
const PAPER_FIGURES: &str = "paper-figures";
/// Folder beside a complete run's files for those of a later one that is not.
pub const INCOMPLETE: &str = "INCOMPLETE";
const RECORD: &str = "run.json";

/// An experiment that was published now.
#[derive(Debug)]
pub struct Published {
    /// Folder of its tables.
    pub folder: PathBuf,
    /// Folder of the tables of the last complete run, where this one is not and so did not replace them.
    pub kept: Option<PathBuf>,
}

/// Where results are written; while it lives, no other process writes those of the same experiments.
#[derive(Debug)]
pub struct Publisher<'a> {
    out: &'a Path,
    _locks: Vec<File>,
}

/// A folder of tables and one of figures below `out`.
struct Place {
    results: PathBuf,
    figures: PathBuf,
}

impl Place {
    fn new(folder: &Path) -> Self {
        Self {
            results: Path::new(RESULTS).join(folder),
            figures: Path::new(PAPER_FIGURES).join(folder),
        }
    }

    fn record(&self, out: &Path) -> Option<RunRecord> {
        work::read_json(&out.join(&self.results).join(RECORD)).ok()
    }

    /// Removes what a run wrote here, by its record, but for `kept`.
    fn clear(&self, out: &Path, record: &RunRecord, kept: &BTreeMap<String, String>) {
        for path in record.files.keys().filter(|path| !kept.contains_key(*path)) {
            let folder = Path::new(path).parent();
            if [&self.results, &self.figures].iter().any(|ours| folder == Some(ours.as_path())) {
                // One that is gone already is what is wanted.
                let _ = fs::remove_file(out.join(path));
            }
        }
    }
}

impl<'a> Publisher<'a> {
    /// Takes the folders of `plan`'s experiments below `out`, having made sure now, not after hours of
    /// work, that results can be written.
    ///
    /// # Errors
    /// A folder that cannot be written, or one that another run holds.
    pub fn new(out: &'a Path, plan: &Plan) -> Result<Self> {
        for folder in [RESULTS, PAPER_FIGURES] {
            let folder = out.join(folder);
            let failed = |error| UserError::io(&folder, "cannot be written (--out)", error);
            fs::create_dir_all(&folder).map_err(failed)?;
            tempfile::tempfile_in(&folder).map_err(failed)?;
        }
        let folders: BTreeSet<PathBuf> =
            plan.experiments.iter().map(|experiment| experiment.folder()).collect();
        let mut locks = Vec::new();
        for folder in folders {
            let folder = out.join(RESULTS).join(folder);
            durable::create_folder(&folder)?;
            locks.extend(lock(&folder, Duration::ZERO)?);
        }
        Ok(Self { out, _locks: locks })
    }

    /// Publishes the report of `experiment`. Returns nothing when all files were already there.
    ///
    /// # Errors
    /// A folder that cannot be written, or outputs that are not as the report's stage left them.
    pub fn publish(
        &self,
        plan: &Plan,
        experiment: &ExperimentPlan,
        report: &Stage,
        cache: &Cache,
    ) -> Result<Option<Published>> {
        let out = self.out;
        let main = Place::new(&experiment.folder());
        let beside = Place::new(&experiment.folder().join(INCOMPLETE));
        let complete = provenance::failed(report).is_empty();
        let is_kept = !complete && main.record(out).is_some_and(|record| record.is_complete());
        let place = if is_kept { &beside } else { &main };
        let files = outputs(&cache.outputs(report.work.kind(), &report.key), place)?;
        let hashes: BTreeMap<String, String> = files
            .iter()
            .map(|(path, content)| {
                (path.display().to_string(), blake3::hash(content).to_hex().to_string())
            })
            .collect();
        let before = place.record(out);
        let is_there = |(path, content): (&PathBuf, &Vec<u8>)| {
            fs::read(out.join(path)).is_ok_and(|found| found == *content)
        };
        let is_published = before
            .as_ref()
            .is_some_and(|before| before.report == report.key && before.files == hashes)
            && files.iter().all(is_there);
        if !is_published {
            let targets: Vec<(PathBuf, &[u8])> =
                files.iter().map(|(path, content)| (out.join(path), &**content)).collect();
            durable::write_all(targets.iter().map(|(path, content)| (&**path, *content)))?;
            // Files of an earlier report that this one no longer has would be taken for its own.
            if let Some(before) = before {
                place.clear(out, &before, &hashes);
            }
            let record = provenance::record(plan, experiment, report, cache, hashes)?;
            let record = serde_json::to_string_pretty(&record)? + "\n";
            durable::write(&out.join(&place.results).join(RECORD), record.as_bytes())?;
            durable::clear_partial(&out.join(&place.results));
            durable::clear_partial(&out.join(&place.figures));
        }
        if !is_kept && let Some(record) = beside.record(out) {
            beside.clear(out, &record, &BTreeMap::new());
            let _ = fs::remove_file(out.join(&beside.results).join(RECORD));
            // They stay if something else is in them.
            let _ = fs::remove_dir(out.join(&beside.results));
            let _ = fs::remove_dir(out.join(&beside.figures));
        }
        Ok((!is_published).then(|| Published {
            folder: out.join(&place.results),
            kept: is_kept.then(|| out.join(&main.results)),
        }))
    }
}

/// Holds a folder against other processes for as long as the file lives; waits so long for them. `None`
/// where the system cannot lock folders.
///
/// # Errors
/// A folder that another process holds all that time.
pub fn lock(folder: &Path, patience: Duration) -> Result<Option<File>> {
    let deadline = Instant::now() + patience;
    let Ok(file) = File::open(folder) else { return Ok(None) };
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(UserError::setting(format!(
                    "{}: another tracegym writes its results there: wait until it ends, or give this run a \
                     folder of its own with --out DIR",
                    folder.display(),
                ))
                .into());
            }
        }
    }
}

/// The files of a report in the folder of its stage, by where they go, each as its stage wrote it.
fn outputs(dir: &Path, place: &Place) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let damaged = |what: String| UserError::input(dir, "outputs of the report", what);
    let contents = Contents::load(dir).map_err(|damage| damaged(damage.to_string()))?;
    let mut files = BTreeMap::new();
    for (from, to) in [(TABLES, &place.results), (FIGURES, &place.figures)] {
        for (path, blake3) in contents.files() {
            let Some(name) = path.strip_prefix(from).and_then(|name| name.strip_prefix('/')) else {
                continue;
            };
            let file = dir.join(path);
            let content =
                fs::read(&file).map_err(|error| UserError::io(&file, "cannot be read", error))?;
            if blake3::hash(&content).to_hex().as_str() != blake3 {
                return Err(damaged(format!("`{path}` has another content")).into());
            }
            files.insert(to.join(name), content);
        }
    }
    Ok(files)
}
