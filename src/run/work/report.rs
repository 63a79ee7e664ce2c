use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::checkpoint_selection::{Candidate, Selected};
use super::generate::tokens_at;
use super::train::{FIT, MODEL};
use super::{StageContext, StageKind, TIMING, Timing, answers, read_json, timing};
use crate::durable::create_folder;
use crate::evaluate::{Conditions, FamilyId, Record};
use crate::generators::FitReport;
use crate::report::{self, DeclaredPair, Format, ReportInput, RunRecords, TrainingLog};
use crate::run::cache::Key;
use crate::run::contents::Reading;
use crate::run::facts;
use crate::version::Version;
use crate::{claims, evaluate, records};

/// Version of this stage: which results a report is drawn from, and in which formats.
pub const VERSION: Version = Version::new("stage/report", 2);

/// Draws the tables and figures of an experiment from its records.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReportWork {
    pub experiment: String,
    pub title: String,
    pub profile: String,
    pub family: FamilyId,
    /// Ids of the family's reports.
    pub reports: Vec<String>,
    pub dataset: Key,
    pub runs: Vec<VariantRun>,
    #[serde(default)]
    pub plot: Vec<String>,
    /// Whom the experiment compares with whom; the usual pairs where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairs: Option<Vec<DeclaredPair>>,
    pub references: Vec<Key>,
    /// What the runs were asked for; probes are asked for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Conditions>,
    /// Formats besides those that are always written.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub formats: BTreeSet<Format>,
}

/// One generator, seed, temperature and checkpoint, with the stages that made its records.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VariantRun {
    /// Name of the baseline.
    pub baseline: String,
    pub label: String,
    pub seed: u64,
    pub temperature: f64,
    /// Index of the checkpoint; the final model has one only where checkpoints are rows.
    pub checkpoint: Option<u32>,
    pub training: Place,
    /// The choice among the training's checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<Key>,
    /// Absent for a network that is tuned and scored in a stage of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<Key>,
    pub records: Place,
    /// Why there are no records.
    pub failure: Option<String>,
}

/// A stage by the kind of its folder in the cache. A probe is the training and the scoring of its network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    pub kind: String,
    pub key: Key,
}

impl Place {
    pub fn new(kind: &str, key: Key) -> Self {
        Self { kind: kind.to_owned(), key }
    }

    fn folder(&self, context: &StageContext) -> PathBuf {
        context.input(&self.kind, &self.key)
    }
}

/// The dataset's card in its outputs.
const CARD: &str = "card.json";
/// Folders of the stage's outputs.
pub const TABLES: &str = "tables";
pub const FIGURES: &str = "figures";

impl StageKind for ReportWork {
    fn kind(&self) -> &'static str {
        "report"
    }

    fn versions(&self) -> Vec<Version> {
        vec![VERSION, report::VERSION]
    }

    fn inputs(&self) -> Vec<Key> {
        let mut inputs = vec![self.dataset.clone()];
        for run in self.runs.iter().filter(|run| run.failure.is_none()) {
            inputs.push(run.training.key.clone());
            inputs.extend(run.generate.iter().chain(&run.selected).cloned());
            inputs.push(run.records.key.clone());
        }
        inputs.extend(self.references.clone());
        inputs
    }

    /// Of models and graphs, nothing.
    fn reads(&self, kind: &str) -> Reading<'static> {
        match kind {
            "dataset" => Reading::Only(&[CARD]),
            "train" => Reading::Only(&[FIT, TIMING, "model/log.csv"]),
            "generate" => Reading::Only(&[answers::FAILURES, TIMING]),
            _ => Reading::Everything,
        }
    }

    fn crates(&self) -> Vec<&'static str> {
        facts::report_crates(self.formats.contains(&Format::Png)).collect()
    }

    fn compiled_in(&self) -> Option<String> {
        Some(claims::compiled_in())
    }

    fn order(&self) -> u8 {
        1
    }

    fn run(&self, context: &StageContext) -> Result<()> {
        let card = read_json(&context.input("dataset", &self.dataset).join(CARD))?;
        let runs = self.runs.iter().map(|run| run.records(context));
        let runs: Vec<RunRecords> = runs.collect::<Result<_>>()?;
        let references = self.references.iter().map(|key| load(&context.input("references", key)));
        let references: Vec<Vec<Record>> = references.collect::<Result<_>>()?;
        let references = (!references.is_empty()).then(|| references.concat());
        let known = self.family.reports;
        let reports: Vec<_> =
            known.iter().filter(|report| self.reports.iter().any(|id| id == report.id)).collect();
        let files = claims::draw(
            &reports,
            &ReportInput {
                experiment: &self.experiment,
                title: &self.title,
                dataset: &card,
                profile: &self.profile,
                runs: &runs,
                plotted: &self.plot,
                pairs: self.pairs.as_deref(),
                references: references.as_deref(),
                training_logs: &self.logs(context),
                grid: self.conditions.as_ref().and_then(Conditions::grid),
            },
        );
        let (tables, figures) = (context.out.join(TABLES), context.out.join(FIGURES));
        create_folder(&tables)?;
        create_folder(&figures)?;
        report::write(&files, &self.formats, &tables, &figures)?;
        Ok(())
    }
}

impl ReportWork {
    /// The runs that failed, with the reason.
    pub fn failed(&self) -> Vec<String> {
        let runs = self.runs.iter();
        let failed = runs.filter_map(|run| Some((run, run.failure.as_ref()?)));
        failed.map(|(run, reason)| format!("{}, seed {}: {reason}", run.label, run.seed)).collect()
    }

    /// The training logs of the runs, one per training.
    fn logs(&self, context: &StageContext) -> Vec<TrainingLog> {
        let mut seen: Vec<&Key> = Vec::new();
        let mut logs = Vec::new();
        for run in self.runs.iter().filter(|run| run.failure.is_none()) {
            let (key, path) =
                (&run.training.key, run.training.folder(context).join(MODEL).join("log.csv"));
            if !seen.contains(&key) && path.exists() {
                seen.push(key);
                logs.push(TrainingLog { label: run.label.clone(), seed: run.seed, path });
            }
        }
        logs
    }
}

impl VariantRun {
    fn records(&self, context: &StageContext) -> Result<RunRecords> {
        let fit: Option<FitReport> = read_json(&self.training.folder(context).join(FIT)).ok();
        let snapshot_tokens = match (self.checkpoint, &fit) {
            // A checkpoint that does not exist has failed, which is what `outcome` says.
            (Some(index), Some(fit)) => tokens_at(fit, index).ok(),
            _ => None,
        };
        let folder = self.records.folder(context);
        let (outcome, prompt_scores) = match &self.failure {
            Some(reason) => (Err(reason.clone()), None),
            None => (Ok(load(&folder)?), records::load_prompt_scores(&folder, evaluate::metric)?),
        };
        let graphs = match (&outcome, &self.generate) {
            (Ok(_), Some(key)) => answers::count(&context.input("generate", key)),
            // Questions to a network: the whole comes first.
            (Ok(records), None) => records.first().map_or(0, |whole| whole.count),
            (Err(_), _) => 0,
        };
        let train = timing(context.cache, &self.training.kind, &self.training.key);
        let generate =
            self.generate.as_ref().and_then(|key| timing(context.cache, "generate", key));
        let seconds = |timing: &Option<Timing>| timing.as_ref().map(|timing| timing.wall_seconds);
        let cpu = |timing: &Option<Timing>| timing.as_ref().and_then(|timing| timing.cpu_seconds);
        let peak = |timing: &Option<Timing>| timing.as_ref().and_then(|timing| timing.peak_bytes);
        Ok(RunRecords {
            generator: self.baseline.clone(),
            label: self.label.clone(),
            seed: self.seed,
            temperature: self.temperature,
            snapshot_tokens,
            graphs,
            outcome,
            prompt_scores,
            parameters: fit.as_ref().map(|fit| fit.parameters),
            notes: self.notes(context, fit),
            train_seconds: seconds(&train),
            generate_seconds: seconds(&generate),
            train_cpu_seconds: cpu(&train),
            generate_cpu_seconds: cpu(&generate),
            train_bytes: peak(&train),
            generate_bytes: peak(&generate),
        })
    }

    /// What the training says of itself, and which of its checkpoints was taken.
    fn notes(&self, context: &StageContext, fit: Option<FitReport>) -> Vec<(String, String)> {
        let mut notes = fit.map_or_else(Vec::new, |fit| fit.notes);
        let selected = self.selected.as_ref();
        if let Some(selected) = selected
            .and_then(|key| Selected::load(&context.input("checkpoint-selection", key)).ok())
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

fn load(folder: &Path) -> Result<Vec<Record>> {
    records::load(folder, evaluate::metric)
}
