//! Results that would take the place of others: of two experiments of one run, or of a run and an earlier
//! one whose manifest is another file. Found before anything runs.

use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use super::plan::{ExperimentPlan, Plan};
use super::work;
use crate::error::UserError;
use crate::manifests;

/// The part of `run.json` that says which manifests its results come from.
#[derive(Deserialize)]
struct Record {
    experiment: Manifests,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Manifests {
    manifest: Option<String>,
    dataset_manifest: Option<String>,
}

/// Whether every experiment of `plan` has a folder below `out` to itself.
///
/// # Errors
/// Two manifests for one folder, by their names.
pub fn check(plan: &Plan, out: &Path) -> Result<(), UserError> {
    for (index, experiment) in plan.experiments.iter().enumerate() {
        for other in &plan.experiments[..index] {
            apart(other, experiment)?;
        }
        not_of_others(experiment, out)?;
    }
    Ok(())
}

/// Whether two experiments of a run write to different folders, on file systems too that take upper and
/// lower case for the same.
fn apart(one: &ExperimentPlan, other: &ExperimentPlan) -> Result<(), UserError> {
    let folder = |plan: &ExperimentPlan| plan.folder().display().to_string();
    if !folder(one).eq_ignore_ascii_case(&folder(other)) {
        return Ok(());
    }
    let [first, second] = [one, other].map(|plan| plan.experiment.manifest.display().to_string());
    let message = if is_same(Path::new(&first), Path::new(&second)) {
        format!("experiment {first} is given more than once: name it once")
    } else {
        format!(
            "{first} and {second} would both write to results/{}: give one another `id`, or run them one by one, each with its own --out",
            folder(other)
        )
    };
    Err(UserError::setting(message))
}

/// Whether the folder of results holds nothing that comes from another manifest.
fn not_of_others(plan: &ExperimentPlan, out: &Path) -> Result<(), UserError> {
    let folder = out.join("results").join(plan.folder());
    let Ok(Record { experiment: before }) = work::read_json(&folder.join("run.json")) else {
        return Ok(());
    };
    let now = &plan.experiment;
    // Another dataset in the experiment's own file is a change of that file.
    let dataset = before.dataset_manifest.filter(|_| !plan.is_on_own_dataset());
    let pairs = [
        (before.manifest, Some(&now.manifest), "an `id`"),
        (dataset, now.dataset_manifest.as_ref(), "a `name`"),
    ];
    for (before, now, key) in pairs {
        let (Some(before), Some(now)) = (before, now) else { continue };
        let before = Path::new(&before);
        // A file that is gone was moved or renamed.
        let is_there = before.exists() || manifests::is_embedded(before);
        if is_there && !is_same(before, now) {
            return Err(UserError::setting(format!(
                "{} holds results of {}, which those of {} would replace: give it {key} of its own, or write elsewhere with --out",
                folder.strip_prefix(".").unwrap_or(&folder).display(),
                before.display(),
                now.display()
            )));
        }
    }
    Ok(())
}

/// Whether two paths name the same file.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    one == other || real(one).is_some_and(|file| real(other) == Some(file))
}
