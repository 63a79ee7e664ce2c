//! `run.json`: where the numbers of a results folder come from.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cache::{Cache, Key};
use super::facts;
use super::plan::{ExperimentPlan, Plan, Stage};
use super::work::{self, Work};

/// The content of `run.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunRecord {
    pub tracegym: String,
    /// Commit of the binary that published; each stage names the one that ran it.
    pub commit: String,
    /// Whether that binary was built from files that differ from the commit.
    pub dirty: bool,
    pub cargo_lock: String,
    /// The experiment's manifest with the profile applied.
    pub experiment: Value,
    /// The baselines' manifests with the profile applied.
    pub baselines: Value,
    /// The dataset's card: source, input hashes, counts, split.
    pub dataset: Value,
    pub machine: Machine,
    /// Rows that failed, with the reason: their cells are empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
    /// Every stage behind the numbers, with its key and wall time.
    pub stages: Vec<StageRecord>,
    /// Key of the report.
    pub report: Key,
    /// BLAKE3 of every published file.
    pub files: BTreeMap<String, String>,
}

impl RunRecord {
    /// Whether no row failed.
    pub fn is_complete(&self) -> bool {
        // Records of versions that did not list failures lack the timing of stages that failed.
        self.failed.is_empty() && self.stages.iter().all(|stage| stage.timing.is_some())
    }
}

/// What the stages ran on.
#[derive(Debug, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub threads: usize,
    pub device: String,
    pub device_reason: String,
    pub driver: Option<String>,
}

/// One stage behind the numbers.
#[derive(Debug, Serialize, Deserialize)]
pub struct StageRecord {
    pub kind: String,
    pub label: String,
    pub key: Key,
    pub seed: Option<u64>,
    /// Wall time, threads, batch size, device and commit; absent for a failed stage.
    pub timing: Option<work::Timing>,
}

/// The rows that failed behind a report, with the reason.
pub fn failed(report: &Stage) -> Vec<String> {
    match &report.work {
        Work::Report(work) => work.failed(),
        _ => Vec::new(),
    }
}

/// The provenance of `experiment` as published now.
pub fn record(
    plan: &Plan,
    experiment: &ExperimentPlan,
    report: &Stage,
    cache: &Cache,
    files: BTreeMap<String, String>,
) -> Result<RunRecord> {
    let card = cache.outputs("dataset", &experiment.dataset_key).join("card.json");
    let stages = stages(plan, experiment).into_iter().chain([report]);
    Ok(RunRecord {
        tracegym: env!("CARGO_PKG_VERSION").to_owned(),
        commit: facts::COMMIT.to_owned(),
        dirty: facts::DIRTY,
        cargo_lock: facts::LOCK_HASH.to_owned(),
        experiment: serde_json::to_value(&experiment.experiment)?,
        baselines: serde_json::to_value(&experiment.baselines)?,
        dataset: work::read_json(&card).unwrap_or_else(|_| json!(experiment.dataset)),
        machine: machine(plan),
        failed: failed(report),
        stages: stages
            .map(|stage| StageRecord {
                kind: stage.work.kind().to_owned(),
                label: stage.label.clone(),
                key: stage.key.clone(),
                seed: stage.work.seed(),
                timing: work::timing(cache, stage.work.kind(), &stage.key),
            })
            .collect(),
        report: report.key.clone(),
        files,
    })
}

/// The stages that `experiment` rests on, in the plan's order.
fn stages<'a>(plan: &'a Plan, experiment: &ExperimentPlan) -> Vec<&'a Stage> {
    let mut keys = experiment.awaited();
    let mut next = 0;
    while let Some(stage) = keys.get(next).and_then(|key| plan.stages.get(key)) {
        for input in stage.work.inputs() {
            if !keys.contains(&input) {
                keys.push(input);
            }
        }
        next += 1;
    }
    plan.stages.values().filter(|stage| keys.contains(&stage.key)).collect()
}

fn machine(plan: &Plan) -> Machine {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let driver = std::fs::read_to_string("/proc/driver/nvidia/version").ok();
    Machine {
        cpu: cpu.map_or("unknown", |(_, model)| model).to_owned(),
        threads: super::threads(),
        device: plan.device.name.clone(),
        device_reason: plan.device.reason.clone(),
        driver: driver.and_then(|text| text.lines().next().map(str::to_owned)),
    }
}
