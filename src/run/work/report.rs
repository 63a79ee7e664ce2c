use std::collections::BTreeSet;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::generate::tokens_at;
use super::select::{Candidate, Selected};
use super::train::{FIT, MODEL};
use super::{Bench, TIMING, Timing, answers, read_json, timing};
use crate::durable::create_folder;
use crate::evaluate::{Conditions, Record};
use crate::generators::FitReport;
use crate::report::{self, Format, ReportInput, ReportKind, RunRecords, TrainingLog};
use crate::run::cache::Key;
use crate::run::contents::Reading;
use crate::version::Version;

/// Version of this stage: which results a report is drawn from, and in which formats.
pub const VERSION: Version = Version::new("stage/report", 2);

/// Draws the tables and figures of an experiment from its records.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReportWork {
    pub experiment: String,
    pub title: String,
    pub profile: String,
    pub report: ReportKind,
    pub dataset: Key,
    pub arms: Vec<Arm>,
    #[serde(default)]
    pub drawn: Vec<String>,
    pub floor: Option<Key>,
    /// What the arms were asked for; probes are asked for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Conditions>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeArm>,
    /// Formats besides those that are always written.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub formats: BTreeSet<Format>,
}

/// One generator, seed, temperature and snapshot, with the stages that made its records.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Arm {
    /// Name of the baseline.
    pub baseline: String,
    pub label: String,
    pub seed: u64,
    pub temperature: f64,
    /// Index of the snapshot; the final model has one only where snapshots are arms.
    pub snapshot: Option<u32>,
    pub train: Key,
    /// The choice among the training's snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<Key>,
    pub generate: Key,
    pub evaluate: Key,
    /// Why there are no records.
    pub failure: Option<String>,
}

/// One arm of a probe and seed, with the stage that made its records.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProbeArm {
    /// Name of the network's baseline with what was done to it, or of the reference.
    pub name: String,
    pub label: String,
    pub seed: u64,
    pub probe: Key,
    /// Why there are no records.
    pub failure: Option<String>,
}

/// The dataset's card in its outputs.
const CARD: &str = "card.json";
/// Folders of the stage's outputs.
pub const TABLES: &str = "tables";
pub const FIGURES: &str = "figures";

impl ReportWork {
    pub fn inputs(&self) -> Vec<Key> {
        let mut inputs = vec![self.dataset.clone()];
        for arm in self.arms.iter().filter(|arm| arm.failure.is_none()) {
            inputs.extend([arm.train.clone(), arm.generate.clone(), arm.evaluate.clone()]);
            inputs.extend(arm.selected.clone());
        }
        inputs.extend(self.floor.clone());
        let probes = self.probes.iter().filter(|arm| arm.failure.is_none());
        inputs.extend(probes.map(|arm| arm.probe.clone()));
        inputs
    }

    /// What is read of an input of this kind: of models and graphs, nothing.
    pub fn reads(kind: &str) -> Reading<'static> {
        match kind {
            "dataset" => Reading::Only(&[CARD]),
            "train" => Reading::Only(&[FIT, TIMING, "model/log.csv"]),
            "generate" => Reading::Only(&[answers::FAILURES, TIMING]),
            _ => Reading::Everything,
        }
    }

    /// The arms that failed, with the reason.
    pub fn failed(&self) -> Vec<String> {
        let reason = |label: &str, seed: u64, failure: &Option<String>| {
            failure.as_ref().map(|reason| format!("{label}, seed {seed}: {reason}"))
        };
        let arms = self.arms.iter().filter_map(|arm| reason(&arm.label, arm.seed, &arm.failure));
        let probes = self.probes.iter();
        arms.chain(probes.filter_map(|arm| reason(&arm.label, arm.seed, &arm.failure))).collect()
    }

    pub fn run(&self, bench: &Bench) -> Result<()> {
        let card = read_json(&bench.input("dataset", &self.dataset).join(CARD))?;
        let arms = self.arms.iter().map(|arm| arm.records(bench));
        let probes = self.probes.iter().map(|arm| arm.records(bench));
        let runs: Vec<RunRecords> = arms.chain(probes).collect::<Result<_>>()?;
        let floor = self.floor.as_ref().map(|key| records(bench, "floor", key)).transpose()?;
        let files = report::report(
            self.report,
            &ReportInput {
                experiment: &self.experiment,
                title: &self.title,
                dataset: &card,
                profile: &self.profile,
                runs: &runs,
                drawn: &self.drawn,
                floor: floor.as_deref(),
                conditions: self.conditions.as_ref(),
                training_logs: &self.logs(bench),
            },
        );
        let (tables, figures) = (bench.out.join(TABLES), bench.out.join(FIGURES));
        create_folder(&tables)?;
        create_folder(&figures)?;
        report::write(&files, &self.formats, &tables, &figures)?;
        Ok(())
    }

    /// The training logs of the arms, one per training.
    fn logs(&self, bench: &Bench) -> Vec<TrainingLog> {
        let mut seen: Vec<&Key> = Vec::new();
        let mut logs = Vec::new();
        for arm in self.arms.iter().filter(|arm| arm.failure.is_none()) {
            let path = bench.input("train", &arm.train).join(MODEL).join("log.csv");
            if !seen.contains(&&arm.train) && path.exists() {
                seen.push(&arm.train);
                logs.push(TrainingLog { label: arm.label.clone(), seed: arm.seed, path });
            }
        }
        logs
    }
}

impl Arm {
    fn records(&self, bench: &Bench) -> Result<RunRecords> {
        let fit: Option<FitReport> = read_json(&bench.input("train", &self.train).join(FIT)).ok();
        let snapshot_tokens = match (self.snapshot, &fit) {
            // A snapshot that does not exist has failed, which is what `outcome` says.
            (Some(index), Some(fit)) => tokens_at(fit, index).ok(),
            _ => None,
        };
        let outcome = match &self.failure {
            Some(reason) => Err(reason.clone()),
            None => Ok(records(bench, "evaluate", &self.evaluate)?),
        };
        let units = match &outcome {
            Ok(_) => super::evaluate::load_units(&bench.input("evaluate", &self.evaluate))?,
            Err(_) => None,
        };
        let train = timing(bench.cache, "train", &self.train);
        let generate = timing(bench.cache, "generate", &self.generate);
        let seconds = |timing: &Option<Timing>| timing.as_ref().map(|timing| timing.wall_seconds);
        let cpu = |timing: &Option<Timing>| timing.as_ref().and_then(|timing| timing.cpu_seconds);
        let peak = |timing: &Option<Timing>| timing.as_ref().and_then(|timing| timing.peak_bytes);
        Ok(RunRecords {
            generator: self.baseline.clone(),
            label: self.label.clone(),
            seed: self.seed,
            temperature: self.temperature,
            snapshot_tokens,
            graphs: outcome
                .as_ref()
                .map_or(0, |_| answers::count(&bench.input("generate", &self.generate))),
            outcome,
            units,
            parameters: fit.as_ref().map(|fit| fit.parameters),
            notes: self.notes(bench, fit),
            train_seconds: seconds(&train),
            generate_seconds: seconds(&generate),
            train_cpu_seconds: cpu(&train),
            generate_cpu_seconds: cpu(&generate),
            train_bytes: peak(&train),
            generate_bytes: peak(&generate),
        })
    }
}

impl Arm {
    /// What the training says of itself, and which of its snapshots was taken.
    fn notes(&self, bench: &Bench, fit: Option<FitReport>) -> Vec<(String, String)> {
        let mut notes = fit.map_or_else(Vec::new, |fit| fit.notes);
        let selected = self.selected.as_ref();
        if let Some(selected) =
            selected.and_then(|key| Selected::load(&bench.input("select", key)).ok())
        {
            let candidates = selected.candidates.iter().map(|candidate| {
                let Candidate { tokens, hits, prompts } = candidate;
                format!("{:.1} M: {hits}/{prompts}", *tokens as f64 / 1e6)
            });
            let candidates = candidates.collect::<Vec<_>>().join(", ");
            let tokens = selected.tokens as f64 / 1e6;
            let value = format!("{tokens:.1} M tokens (accurate on held-out graphs: {candidates})");
            notes.push(("taken after".to_owned(), value));
        }
        notes
    }
}

impl ProbeArm {
    fn records(&self, bench: &Bench) -> Result<RunRecords> {
        let fit: Option<FitReport> = read_json(&bench.input("probe", &self.probe).join(FIT)).ok();
        let outcome = match &self.failure {
            Some(reason) => Err(reason.clone()),
            None => Ok(records(bench, "probe", &self.probe)?),
        };
        // The whole comes first.
        let questions = |records: &Vec<Record>| records.first().map_or(0, |whole| whole.count);
        let timing = timing(bench.cache, "probe", &self.probe);
        Ok(RunRecords {
            generator: self.name.clone(),
            label: self.label.clone(),
            seed: self.seed,
            temperature: 0.0,
            snapshot_tokens: None,
            graphs: outcome.as_ref().map_or(0, questions),
            outcome,
            units: None,
            parameters: fit.as_ref().map(|fit| fit.parameters),
            notes: fit.map_or_else(Vec::new, |fit| fit.notes),
            train_seconds: timing.as_ref().map(|timing| timing.wall_seconds),
            generate_seconds: None,
            train_cpu_seconds: timing.as_ref().and_then(|timing| timing.cpu_seconds),
            generate_cpu_seconds: None,
            train_bytes: timing.as_ref().and_then(|timing| timing.peak_bytes),
            generate_bytes: None,
        })
    }
}

fn records(bench: &Bench, kind: &str, key: &Key) -> Result<Vec<Record>> {
    super::evaluate::load(&bench.input(kind, key))
}
