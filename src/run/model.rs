//! Trained generators as models: found by name in a cache, or in a folder that holds one for others.
//!
//! ```text
//! MODEL/card.json   what it is: settings, hash of the training data, metrics, licence, hash of each file
//! MODEL/README.md   the same in short, for people
//! MODEL/model/…     what training wrote: weights, tokenizer, counts
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::baseline::Baseline;
use super::cache::{Cache, Condition};
use super::contents::Reading;
use super::facts;
use super::manifest::{EXPERIMENTS, Experiment, Measure, Profile};
use super::plan::{Device, ExperimentPlan, Plan, PlanOptions};
use super::variant::Variant;
use super::work::{FIT, GenerateWork, TrainedGenerator, VariantRun, Work, read_json};
use crate::data::{Dataset, DatasetCard, InputFile};
use crate::error::{UserError, did_you_mean};
use crate::generators::{Decoding, FitReport, external, in_context};
use crate::number::grouped;
use crate::records::{self, WHOLE};
use crate::{durable, evaluate, generators, model};

/// Version of the folder: raised when this build could not read what earlier ones wrote.
const FORMAT: u32 = 1;
const CARD: &str = "card.json";
const README: &str = "README.md";
const FILES: &str = "model";
/// The experiment on which a generator is looked for that no experiment has, and whose training a message
/// proposes.
const DEFAULT_EXPERIMENT: &str = "fig4-fidelity";
/// Profile of the training that a message proposes.
const DEFAULT_PROFILE: Profile = Profile::Quick;

/// What a model is, and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    format: u32,
    /// Name of the baseline, with its changes.
    pub name: String,
    pub label: String,
    /// Where the method is published.
    pub source: String,
    /// Id in the registry of generators.
    pub generator: String,
    pub settings: toml::Table,
    /// What keeps answers within their condition, unless a request says otherwise.
    pub decoding: Decoding,
    /// Training tokens of the chosen checkpoint; absent for the final model.
    pub checkpoint: Option<u64>,
    /// The training: an experiment that it is for, its profile and seed.
    pub experiment: String,
    pub profile: String,
    pub seed: u64,
    /// What training said of itself.
    pub fit: FitReport,
    pub dataset: TrainingData,
    /// Services that can be asked for, with their training graphs.
    pub services: BTreeMap<String, u64>,
    /// What evaluations have found so far.
    pub metrics: Vec<MetricFact>,
    pub licence: String,
    /// Version and commit of the TraceGym that wrote the card.
    pub tracegym: String,
    /// Versions of the generator's training and of its answers.
    pub versions: Vec<String>,
    /// BLAKE3 of every file of the model, by its path below `model`.
    pub files: BTreeMap<String, String>,
}

/// What a model was trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingData {
    pub name: String,
    /// Id of the dataset's source.
    pub source: String,
    /// BLAKE3 of the dataset's table of calls.
    pub hash: String,
    /// The files that it was built from.
    pub inputs: Vec<InputFile>,
    pub train_graphs: u64,
    /// What every use of the dataset must say.
    pub labels: Vec<String>,
}

/// A number that an evaluation found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricFact {
    pub experiment: String,
    /// Id of the metric.
    pub metric: String,
    pub title: String,
    pub temperature: f64,
    pub value: f64,
    /// The 95 % interval, where there is one.
    pub interval: Option<(f64, f64)>,
    /// Graphs or prompts behind the number.
    pub count: u64,
}

/// Which training is wanted of those that a cache may hold.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Name of a baseline, or of a variant of an experiment.
    pub name: &'a str,
    /// `None`: the largest that is trained.
    pub profile: Option<Profile>,
    /// Id or file; `None`: any that has the generator.
    pub experiment: Option<&'a str>,
    /// In place of the experiment's own.
    pub dataset: Option<&'a str>,
    pub data_root: Option<&'a Path>,
}

/// A trained generator with its card.
#[derive(Clone, Debug)]
pub struct Model {
    pub card: ModelCard,
    trained: TrainedGenerator,
}

/// A training that would do.
struct Candidate {
    plan: Plan,
    run: VariantRun,
    work: GenerateWork,
}

impl Candidate {
    fn experiment(&self) -> &ExperimentPlan {
        &self.plan.experiments[0]
    }

    /// Whether the training, with the choice among its checkpoints, is in `cache`.
    fn is_trained(&self, cache: &Cache) -> bool {
        let selected = self.work.selected.as_ref();
        cache.is_done("train", &self.work.train)
            && selected.is_none_or(|key| cache.is_done("checkpoint-selection", key))
    }
}

impl Model {
    /// The model in the folder `given`, or else the trained generator of this name in `cache`.
    ///
    /// # Errors
    /// As [`Model::open`] and [`Model::find`].
    pub fn of(given: &str, wanted: &Wanted, cache: &Cache) -> Result<Self> {
        let folder = Path::new(given);
        if folder.join(CARD).is_file() {
            return Self::open(folder);
        }
        if folder.components().count() > 1 && folder.extension().is_none_or(|e| e != "toml") {
            let message =
                format!("holds no {CARD}: `tracegym model export NAME` writes such a folder");
            return Err(UserError::input(folder, "model", message).into());
        }
        Self::find(wanted, cache)
    }

    /// The model in a folder that [`Model::export`] wrote.
    ///
    /// # Errors
    /// A folder of another version, or files that are missing or differ from what the card says.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(CARD);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| UserError::io(&path, "cannot be read", error))?;
        let wrong = |place: &str, message: String| UserError::input(&path, place, message);
        /// What is read before anything else is known.
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let unreadable = |error: serde_json::Error| {
            wrong(&format!("line {}", error.line()), format!("is no card of a model: {error}"))
        };
        let Head { format } = serde_json::from_str(&text).map_err(unreadable)?;
        if format != FORMAT {
            let message = format!("{format} is not {FORMAT}, which this version reads");
            return Err(wrong("format", message).into());
        }
        let card: ModelCard = serde_json::from_str(&text).map_err(unreadable)?;
        refuse_what_is_elsewhere(&card.generator, &card.name)?;
        let files = folder.join(FILES);
        let found = hashes(&files, &[])?;
        if let Some((name, _)) =
            card.files.iter().find(|(name, hash)| found.get(*name) != Some(hash))
        {
            let message = "is missing or not what the card says: fetch the model again";
            return Err(UserError::input(&files.join(name), "content", message).into());
        }
        let trained = TrainedGenerator {
            generator: card.generator.clone(),
            settings: card.settings.clone(),
            checkpoint: card.checkpoint,
            folder: files,
        };
        Ok(Self { card, trained })
    }

    /// The trained generator of this name in `cache`: of the largest profile that is trained, unless one is
    /// asked for.
    ///
    /// # Errors
    /// An unknown name, or a generator that is not trained yet, with the command that trains it.
    pub fn find(wanted: &Wanted, cache: &Cache) -> Result<Self> {
        let profiles = match wanted.profile {
            Some(profile) => vec![profile],
            None => Profile::value_variants().iter().rev().copied().collect(),
        };
        let (mut proposed, mut failure) = (None, None);
        for profile in profiles {
            let mut found: Option<Candidate> = None;
            let mut all = Vec::new();
            for device in ["cpu", "cuda"] {
                let candidates = match candidates(wanted, profile, device) {
                    Ok(candidates) => candidates,
                    Err(error) => {
                        failure = failure.or(Some(error));
                        continue;
                    }
                };
                for candidate in candidates {
                    let id = &candidate.experiment().experiment.id;
                    if profile == wanted.profile.unwrap_or(DEFAULT_PROFILE)
                        && (proposed.is_none() || id == DEFAULT_EXPERIMENT)
                    {
                        proposed = Some(id.clone());
                    }
                    if found.is_none() && candidate.is_trained(cache) {
                        found = Some(candidate);
                    } else {
                        all.push(candidate);
                    }
                }
            }
            if let Some(found) = found {
                return Self::cached(found, &all, cache);
            }
        }
        match (proposed, failure) {
            (Some(experiment), _) => Err(not_trained(wanted, &experiment, cache).into()),
            (None, Some(failure)) => Err(failure),
            (None, None) => {
                let message =
                    format!("no experiment trains `{}`: name one with --experiment", wanted.name);
                Err(UserError::setting(message).into())
            }
        }
    }

    /// The model of a candidate that is trained; `others` may have been evaluated.
    fn cached(found: Candidate, others: &[Candidate], cache: &Cache) -> Result<Self> {
        let (work, plan) = (&found.work, found.experiment());
        let baseline = &plan.baselines[0];
        if let Condition::Damaged(damage) =
            cache.condition("train", &work.train, Reading::Everything)
        {
            return Err(UserError::setting(format!(
                "the training of `{}` in {} is damaged ({damage}): `tracegym run {} --only {0} --profile {} --train-only` makes it again",
                baseline.name,
                cache.dir().display(),
                plan.experiment.id,
                plan.experiment.profile.as_str(),
            ))
            .into());
        }
        let trained = work.trained(cache)?;
        let fit: FitReport = read_json(&cache.outputs("train", &work.train).join(FIT))?;
        let dataset = Dataset::load(&cache.outputs("dataset", &work.dataset))?;
        let mut services = BTreeMap::new();
        for graph in dataset.train() {
            *services.entry(graph.service().to_string()).or_default() += 1;
        }
        let same = |other: &&Candidate| other.work.train == work.train;
        let evaluated = [&found].into_iter().chain(others.iter().filter(same));
        let mut metrics: Vec<MetricFact> = Vec::new();
        for candidate in evaluated {
            for fact in metric_facts(candidate, cache)? {
                // Experiments may share an evaluation.
                if !metrics.contains(&fact) {
                    metrics.push(fact);
                }
            }
        }
        let DatasetCard { name, source, hash, inputs, labels, .. } = dataset.card.clone();
        let licence = licence(&source);
        let skipped = left_out(&fit, trained.checkpoint);
        let entry = generators::entry(&work.generator);
        let versions = entry.map(|entry| [entry.training.to_string(), entry.answers.to_string()]);
        let card = ModelCard {
            format: FORMAT,
            name: baseline.name.clone(),
            label: baseline.label.clone(),
            source: baseline.source.clone(),
            generator: work.generator.clone(),
            settings: work.settings.clone(),
            decoding: work.decoding,
            checkpoint: trained.checkpoint,
            experiment: plan.experiment.id.clone(),
            profile: plan.experiment.profile.as_str().to_owned(),
            seed: work.seed,
            dataset: TrainingData {
                name,
                source,
                hash,
                inputs,
                train_graphs: dataset.train().len() as u64,
                labels,
            },
            services,
            metrics,
            licence,
            tracegym: format!("{} ({})", env!("CARGO_PKG_VERSION"), facts::COMMIT),
            versions: versions.into_iter().flatten().collect(),
            files: hashes(&trained.folder, &skipped)?,
            fit,
        };
        Ok(Self { card, trained })
    }

    /// The generator, ready to answer.
    ///
    /// # Errors
    /// As [`TrainedGenerator::load`].
    pub fn load(
        &self,
        device: crate::device::DeviceChoice,
    ) -> Result<Box<dyn generators::Generator>> {
        self.trained.load(device)
    }

    /// What a person should know who lets the model answer with this build.
    pub fn warnings(&self) -> Vec<String> {
        let entry = generators::entry(&self.card.generator);
        let now = entry.map(|entry| [entry.training.to_string(), entry.answers.to_string()]);
        let differ = now.is_none_or(|now| now.as_slice() != self.card.versions);
        let warning = || {
            format!(
                "the model is of {} with {}: this version may give other answers than its metrics speak of",
                self.card.tracegym,
                self.card.versions.join(", ")
            )
        };
        differ.then(warning).into_iter().collect()
    }

    /// " — did you mean …" for a service that no training graph has; `None` for one that some have.
    pub fn unknown_service(&self, service: &str) -> Option<String> {
        let known = &self.card.services;
        let hint = || did_you_mean(service, known.keys().map(String::as_str));
        (!known.contains_key(service)).then(hint)
    }

    /// Writes the model with its card to the folder `out`, which is new or empty; all of it or nothing.
    ///
    /// # Errors
    /// A folder that holds something or cannot be written, or a model that is not in its files.
    pub fn export(&self, out: &Path) -> Result<()> {
        let card = &self.card;
        refuse_what_is_elsewhere(&card.generator, &card.name)?;
        if std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
            let message = "the folder is not empty: name a new one";
            return Err(UserError::input(out, "--out", message).into());
        }
        let parent = match out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let failed = |error| UserError::io(out, "cannot be written", error);
        durable::create_folder(parent)?;
        let fresh = tempfile::Builder::new().prefix(".tracegym-model-").tempdir_in(parent);
        let fresh = fresh.map_err(failed)?;
        for name in card.files.keys() {
            let to = fresh.path().join(FILES).join(name);
            durable::create_folder(to.parent().unwrap_or(parent))?;
            std::fs::copy(self.trained.folder.join(name), to).map_err(failed)?;
        }
        let text = serde_json::to_string_pretty(card)? + "\n";
        std::fs::write(fresh.path().join(CARD), text).map_err(failed)?;
        std::fs::write(fresh.path().join(README), card.readme()).map_err(failed)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let readable = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(fresh.path(), readable).map_err(failed)?;
        }
        durable::sync_tree(fresh.path())?;
        // An empty folder may be there already.
        std::fs::rename(fresh.path(), out).map_err(failed)?;
        // Nothing is left to clean up.
        let _ = fresh.keep();
        Ok(())
    }
}

impl ModelCard {
    /// The card for people, in Markdown.
    pub fn readme(&self) -> String {
        let count = |number: u64| grouped(number, ",");
        let data = &self.dataset;
        let mut text = format!(
            "# {}\n\nA trained generator of microservice call graphs, written by `tracegym model export`.\n\n",
            self.label
        );
        let mut facts = vec![
            ("method", self.source.clone()),
            ("generator", format!("`{}`", self.generator)),
            ("parameters", count(self.fit.parameters)),
        ];
        if self.fit.tokens > 0 {
            let tokens = count(self.checkpoint.unwrap_or(self.fit.tokens));
            facts.push(("training tokens", tokens));
        }
        facts.extend([
            ("training", format!("profile {}, seed {}", self.profile, self.seed)),
            (
                "training data",
                format!(
                    "`{}` ({}), {} graphs, blake3 {}",
                    data.name,
                    data.source,
                    count(data.train_graphs),
                    data.hash
                ),
            ),
            ("services", count(self.services.len() as u64)),
            ("licence", self.licence.clone()),
            ("written by", format!("TraceGym {}", self.tracegym)),
        ]);
        for (key, value) in facts {
            let _ = writeln!(text, "- {key}: {value}");
        }
        for label in &data.labels {
            let _ = writeln!(text, "- note: {label}");
        }
        text.push_str("\nThe names of services and microservices of the training graphs are in the model: whoever has it can read them.\n");
        if !self.metrics.is_empty() {
            text.push_str("\n| metric | experiment | temperature | value | 95 % interval | of |\n|---|---|---:|---:|---|---:|\n");
            for fact in &self.metrics {
                let interval = fact
                    .interval
                    .map_or_else(String::new, |(low, high)| format!("{low:.4}–{high:.4}"));
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {:.4} | {interval} | {} |",
                    fact.title, fact.experiment, fact.temperature, fact.value, fact.count
                );
            }
        }
        let service = self.services.iter().max_by_key(|(_, graphs)| **graphs);
        if let Some((service, _)) = service {
            let _ = write!(
                text,
                "\n    tracegym generate --model FOLDER --service '{service}' --edges 6 --depth 3 --count 10\n"
            );
        }
        text
    }
}

/// The licence of a model that was trained on graphs of the source.
fn licence(source: &str) -> String {
    match source {
        "simulator" => env!("CARGO_PKG_LICENSE").to_owned(),
        _ => "not stated; the terms of the traces that it was trained on apply".to_owned(),
    }
}

/// # Errors
/// A generator whose model is not in the files that training wrote.
fn refuse_what_is_elsewhere(generator: &str, name: &str) -> Result<(), UserError> {
    let remedy = match generator {
        external::ID => "is a program: hand over its folder in baselines/",
        in_context::ID => "asks a model that it did not train: hand over its manifest",
        _ => return Ok(()),
    };
    Err(UserError::setting(format!("`{name}` cannot be exported: it {remedy}")))
}

fn not_trained(wanted: &Wanted, experiment: &str, cache: &Cache) -> UserError {
    let Wanted { name, profile, dataset, .. } = wanted;
    let experiment = wanted.experiment.unwrap_or(experiment);
    let profile = profile.unwrap_or(DEFAULT_PROFILE).as_str();
    let dataset = dataset.map_or_else(String::new, |name| format!(" --dataset {name}"));
    UserError::setting(format!(
        "`{name}` is not trained yet in {}: `tracegym run {experiment} --only {name} --profile {profile}{dataset} --train-only` trains it",
        cache.dir().display()
    ))
}

/// The trainings of the wanted generator in experiments with `profile`, in the order of their ids.
fn candidates(wanted: &Wanted, profile: Profile, device: &str) -> Result<Vec<Candidate>> {
    let Wanted { name, experiment, dataset, data_root, .. } = wanted;
    let ids = match experiment {
        Some(id) => vec![(*id).to_owned()],
        None => EXPERIMENTS.names(),
    };
    let mut experiments = Vec::new();
    for id in &ids {
        let found = Experiment::find(id, profile)?;
        let variant = found.generators.iter().find(|variant| variant.name() == *name).cloned();
        if let (Measure::Answers(_), Some(variant)) = (&found.measure, variant) {
            experiments.push(found.only(vec![variant]));
        }
    }
    if experiments.is_empty() {
        Baseline::find(name, profile)?;
        let id = experiment.unwrap_or(DEFAULT_EXPERIMENT);
        experiments.push(Experiment::find(id, profile)?.only(vec![Variant::plain(name)]));
    }
    let options = PlanOptions {
        dataset: dataset.map(str::to_owned),
        graphs: None,
        data_root: data_root.map(Path::to_owned),
        device: Device { name: device.to_owned(), reason: String::new() },
        batch: 1,
        formats: Default::default(),
    };
    let mut candidates = Vec::new();
    let mut failure = None;
    for experiment in experiments {
        // Real traces may not be there.
        let plan = match Plan::new(vec![experiment], &options) {
            Ok(plan) => plan,
            Err(error) => {
                failure = failure.or(Some(error));
                continue;
            }
        };
        let runs: Vec<(VariantRun, GenerateWork)> = plan.experiments[0]
            .runs
            .iter()
            .filter_map(|run| match &plan.stages.get(run.generate.as_ref()?)?.work {
                Work::Generate(work) if work.checkpoint.is_none() => {
                    Some((run.clone(), work.clone()))
                }
                _ => None,
            })
            .collect();
        candidates.extend(runs.into_iter().map(|(run, work)| Candidate {
            plan: plan.clone(),
            run,
            work,
        }));
    }
    match failure {
        Some(failure) if candidates.is_empty() => Err(failure),
        _ => Ok(candidates),
    }
}

/// What the evaluation of a candidate found on the whole, if it has run.
fn metric_facts(candidate: &Candidate, cache: &Cache) -> Result<Vec<MetricFact>> {
    let place = &candidate.run.records;
    if !cache.is_done(&place.kind, &place.key) {
        return Ok(Vec::new());
    }
    let records = records::load(&cache.outputs(&place.kind, &place.key), evaluate::metric)
        .with_context(|| format!("evaluation {}", place.key.as_str()))?;
    let whole =
        records.into_iter().filter(|record| record.dimensions == WHOLE && record.value.is_finite());
    let fact = |record: records::Record| MetricFact {
        experiment: candidate.experiment().experiment.id.clone(),
        metric: record.metric.id.to_owned(),
        title: record.metric.title.to_owned(),
        temperature: candidate.run.temperature,
        value: record.value,
        interval: (record.low.is_finite() && record.high.is_finite())
            .then_some((record.low, record.high)),
        count: record.count,
    };
    Ok(whole.map(fact).collect())
}

/// Files of checkpoints that are not the model.
fn left_out(fit: &FitReport, checkpoint: Option<u64>) -> Vec<String> {
    let others = fit.checkpoints.iter().filter(|tokens| Some(**tokens) != checkpoint);
    others.map(|tokens| model::weights_file(Some(*tokens))).collect()
}

/// BLAKE3 of every file below `folder` but those named, by its path with `/`.
fn hashes(folder: &Path, left_out: &[String]) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<(PathBuf, String)> = vec![(folder.to_owned(), String::new())];
    while let Some((dir, below)) = folders.pop() {
        let failed = |error| UserError::io(&dir, "cannot be read", error);
        for entry in std::fs::read_dir(&dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{below}{name}");
            if path.is_dir() {
                folders.push((path, format!("{name}/")));
            } else if !left_out.contains(&name) {
                let hash = durable::hash(&path)
                    .map_err(|error| UserError::io(&path, "cannot be read", error))?;
                found.insert(name, hash.1.to_hex().to_string());
            }
        }
    }
    Ok(found)
}
