//! From manifests to stages: which stages an invocation needs, and which share a key.

mod probe;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use anyhow::Result;
use indexmap::IndexMap;

use super::baseline::{Baseline, SelfTrainingRequests};
use super::cache::Key;
use super::manifest::{Answers, Experiment, Measure};
use super::receipt;
use super::variant::Variant;
use super::work::{
    CheckpointSelectionWork, DatasetWork, EvaluateWork, ExecutionOptions, GenerateWork,
    LikelihoodWork, Place, ReferencesWork, ReportWork, SelfTrainingWork, TrainWork, VariantRun,
    Work,
};
use crate::data::{DATASETS, DatasetManifest};
use crate::error::UserError;
use crate::generators;
use crate::generators::in_context;
use crate::manifests::as_named;
use crate::model::Sampling;
use crate::report::Format;

/// The device that networks run on.
#[derive(Clone, Debug)]
pub struct Device {
    /// Value of `--device` with `auto` resolved: `cpu` or `cuda:N`.
    pub name: String,
    /// Why this one was taken.
    pub reason: String,
}

/// What the flags of an invocation decide.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// Dataset in place of the experiments' own.
    pub dataset: Option<String>,
    /// Number of graphs in place of the profile's.
    pub graphs: Option<u64>,
    pub data_root: Option<PathBuf>,
    pub device: Device,
    pub batch: usize,
    /// Formats of tables and figures besides those that are always written.
    pub formats: BTreeSet<Format>,
}

/// A stage of the plan.
#[derive(Clone, Debug)]
pub struct Stage {
    pub key: Key,
    pub label: String,
    pub work: Work,
    /// Whether it can use several threads for long.
    pub parallel: bool,
}

/// One experiment on one dataset.
#[derive(Clone, Debug)]
pub struct ExperimentPlan {
    pub experiment: Experiment,
    pub baselines: Vec<Baseline>,
    /// The dataset as the experiment or a flag names it: a name or a file.
    pub dataset: String,
    /// The name that its manifest gives it.
    pub dataset_name: String,
    pub dataset_key: Key,
    /// Variants without knowledge of failures.
    pub runs: Vec<VariantRun>,
    /// Reference rows, of the same seeds as the generators'.
    pub references: Vec<Key>,
    pub formats: BTreeSet<Format>,
}

/// What the experiments of a plan share.
#[derive(Default)]
struct Shared {
    /// Stages of the datasets planned so far, by name and number of graphs.
    datasets: IndexMap<(String, Option<u64>), Key>,
    /// Hashes of the weights that baselines name: large files, read once.
    weights: HashMap<PathBuf, String>,
}

/// A training and the graphs that it trains on: the experiment's, or more.
struct Training {
    key: Key,
    dataset: Key,
}

/// What decides which graphs a dataset has.
struct Sources<'a> {
    experiment: &'a Experiment,
    options: &'a PlanOptions,
    shared: &'a mut Shared,
}

/// All stages but the reports, which depend on what failed.
#[derive(Clone, Debug)]
pub struct Plan {
    pub stages: IndexMap<Key, Stage>,
    pub experiments: Vec<ExperimentPlan>,
    pub execution: ExecutionOptions,
    pub device: Device,
}

impl Plan {
    /// Plans `experiments`.
    ///
    /// # Errors
    /// Unknown datasets or baselines, missing input files.
    pub fn new(experiments: Vec<Experiment>, options: &PlanOptions) -> Result<Self> {
        let mut plan = Self {
            stages: IndexMap::new(),
            experiments: Vec::new(),
            execution: ExecutionOptions {
                device: options.device.name.clone(),
                batch: options.batch,
                data_root: options.data_root.clone(),
            },
            device: options.device.clone(),
        };
        let mut shared = Shared::default();
        for experiment in experiments {
            plan.add(experiment, options, &mut shared)?;
        }
        Ok(plan)
    }

    fn add(
        &mut self,
        mut experiment: Experiment,
        options: &PlanOptions,
        shared: &mut Shared,
    ) -> Result<()> {
        let baselines: Vec<Baseline> = experiment
            .generators
            .iter()
            .map(|variant| {
                let mut baseline = Baseline::of(variant, experiment.profile)?;
                pin_weights(&mut baseline, &mut shared.weights)?;
                Ok(baseline)
            })
            .collect::<Result<_>>()?;
        check_labels(&baselines)?;
        let dataset = options.dataset.clone().unwrap_or_else(|| experiment.dataset.clone());
        let mut sources = Sources { experiment: &experiment, options, shared };
        let dataset_key = self.dataset(&dataset, &mut sources)?;
        let (mut runs, mut references) = (Vec::new(), Vec::new());
        match &experiment.measure {
            Measure::Answers(answers) => {
                for baseline in &baselines {
                    for seed in experiment.seeds_of(baseline.network) {
                        let training = self.train(baseline, seed, &dataset_key, &mut sources)?;
                        let place = (&experiment, answers, &dataset_key);
                        self.runs(place, baseline, seed, &training, &mut runs)?;
                    }
                }
                if experiment.family.references.is_some() {
                    for &seed in &experiment.seeds {
                        let work = Work::References(ReferencesWork {
                            family: experiment.family,
                            conditions: answers.conditions.clone(),
                            temperatures: answers.sampling.temperatures.clone(),
                            compared: answers.compared,
                            seed,
                            dataset: dataset_key.clone(),
                        });
                        let label = format!("references {dataset} seed {seed}");
                        references.push(self.stage(label, work, false)?);
                    }
                }
            }
            Measure::Probe { probe } => {
                runs = self.probe(probe, &baselines, &dataset_key, &mut sources)?;
            }
        }
        let dataset_name = match &self.stages[&dataset_key].work {
            Work::Dataset(work) => work.manifest.name.clone(),
            _ => dataset.clone(),
        };
        experiment.dataset_manifest = Some(as_named(&DATASETS.find(&dataset)?.path));
        self.experiments.push(ExperimentPlan {
            experiment,
            baselines,
            dataset,
            dataset_name,
            dataset_key,
            runs,
            references,
            formats: options.formats.clone(),
        });
        Ok(())
    }

    fn dataset(&mut self, name: &str, sources: &mut Sources) -> Result<Key> {
        // A profile's size is meant for the experiment's own dataset; another has its own size.
        let Sources { experiment, options, shared } = sources;
        let own = if name == experiment.dataset { experiment.graphs } else { None };
        let main = options.dataset.as_ref().unwrap_or(&experiment.dataset);
        let graphs = if name == main { options.graphs.or(own) } else { own };
        let place = (name.to_owned(), graphs);
        if let Some(key) = shared.datasets.get(&place) {
            return Ok(key.clone());
        }
        let manifest = DatasetManifest::find(name)?;
        let files = manifest.inputs(options.data_root.as_deref())?;
        let times = manifest.times_manifest()?;
        let work = Work::Dataset(DatasetWork { manifest, files, times, graphs });
        let key = self.stage(format!("dataset {name}"), work, true)?;
        shared.datasets.insert(place, key.clone());
        Ok(key)
    }

    /// The training of a baseline, with those that it starts from.
    fn train(
        &mut self,
        baseline: &Baseline,
        seed: u64,
        dataset: &Key,
        sources: &mut Sources,
    ) -> Result<Training> {
        let mut dataset = dataset.clone();
        let base = match &baseline.starts_from {
            Some(start) => {
                let other = match &start.dataset {
                    Some(name) => self.dataset(name, sources)?,
                    None => dataset.clone(),
                };
                let base = self.train(&start.baseline, seed, &other, sources)?.key;
                if let Some(self_training) = start.self_training {
                    dataset =
                        self.self_train(&start.baseline, self_training, seed, &dataset, &base)?;
                }
                Some(base)
            }
            None => None,
        };
        let device = self.device_kind();
        let work = Work::Train(TrainWork {
            generator: baseline.generator.clone(),
            settings: baseline.settings.clone(),
            seed,
            device: if baseline.network { device.to_owned() } else { String::new() },
            dataset: dataset.clone(),
            base,
        });
        let label = format!("train {} seed {seed}", baseline.name);
        Ok(Training { key: self.stage(label, work, baseline.network)?, dataset })
    }

    /// The dataset with what the trained `baseline` answers under constraints to the requests of self-training.
    fn self_train(
        &mut self,
        baseline: &Baseline,
        SelfTrainingRequests { max_edges, max_depth }: SelfTrainingRequests,
        seed: u64,
        dataset: &Key,
        train: &Key,
    ) -> Result<Key> {
        let work = Work::SelfTraining(SelfTrainingWork {
            generator: baseline.generator.clone(),
            settings: baseline.settings.clone(),
            seed,
            max_edges,
            max_depth,
            dataset: dataset.clone(),
            train: train.clone(),
        });
        self.stage(format!("constrained samples of {} seed {seed}", baseline.name), work, true)
    }

    /// The choice among a training's checkpoints, where the baseline wants one.
    fn select(
        &mut self,
        baseline: &Baseline,
        seed: u64,
        training: &Training,
    ) -> Result<Option<Key>> {
        if baseline.checkpoint_selection < 2 {
            return Ok(None);
        }
        let work = Work::CheckpointSelection(CheckpointSelectionWork {
            generator: baseline.generator.clone(),
            settings: baseline.settings.clone(),
            seed,
            candidates: baseline.checkpoint_selection,
            dataset: training.dataset.clone(),
            train: training.key.clone(),
        });
        self.stage(format!("select a checkpoint of {} seed {seed}", baseline.name), work, true)
            .map(Some)
    }

    /// How likely the trained model finds graphs, where it can tell. A model that was trained on
    /// more graphs than the experiment's has other members, and one that held them out at another time.
    fn likelihood(
        &mut self,
        baseline: &Baseline,
        seed: u64,
        dataset: &Key,
        training: &Training,
        selected: Option<&Key>,
    ) -> Result<Option<Key>> {
        if !generators::has_likelihood(&baseline.generator) || training.dataset != *dataset {
            return Ok(None);
        }
        let work = Work::Likelihood(LikelihoodWork {
            generator: baseline.generator.clone(),
            settings: baseline.settings.clone(),
            seed,
            selected: selected.cloned(),
            dataset: dataset.clone(),
            train: training.key.clone(),
        });
        self.stage(format!("likelihood {} seed {seed}", baseline.name), work, true).map(Some)
    }

    /// The runs of one trained baseline: temperatures times checkpoints.
    fn runs(
        &mut self,
        (experiment, answers, dataset): (&Experiment, &Answers, &Key),
        baseline: &Baseline,
        seed: u64,
        training: &Training,
        runs: &mut Vec<VariantRun>,
    ) -> Result<()> {
        let name = format!("{} seed {seed}", baseline.name);
        let selected = self.select(baseline, seed, training)?;
        let likelihood = if experiment.family.reads_likelihoods {
            self.likelihood(baseline, seed, dataset, training, selected.as_ref())?
        } else {
            None
        };
        let grid = &answers.sampling;
        // Temperature and top-k mean nothing to a generator that is not a network: one run, which
        // experiments with different temperatures share.
        let temperatures =
            if baseline.network { &grid.temperatures[..] } else { &grid.temperatures[..1] };
        let count = if experiment.checkpoints { baseline.checkpoints } else { 0 };
        let checkpoints: Vec<Option<u32>> =
            if count == 0 { vec![None] } else { (0..count).map(Some).collect() };
        for &temperature in temperatures {
            for &checkpoint in &checkpoints {
                let sampling = if baseline.network {
                    Sampling { temperature, top_k: grid.top_k }
                } else {
                    Sampling { temperature: 1.0, top_k: None }
                };
                let last = checkpoint.is_none_or(|index| index + 1 == count);
                let generate = GenerateWork {
                    generator: baseline.generator.clone(),
                    settings: baseline.settings.clone(),
                    seed,
                    sampling,
                    conditions: answers.conditions.clone(),
                    // The last checkpoint is the final model: shares its stage with experiments
                    // that know no checkpoints.
                    checkpoint: checkpoint.filter(|_| !last),
                    selected: selected.clone().filter(|_| last),
                    decoding: baseline.decoding,
                    dataset: dataset.clone(),
                    train: training.key.clone(),
                };
                let at = checkpoint
                    .filter(|_| !last)
                    .map_or_else(String::new, |index| format!(" checkpoint {}", index + 1));
                let warm =
                    if baseline.network { format!(" T={temperature}") } else { String::new() };
                let name = format!("{name}{warm}{at} for {}", experiment.id);
                let work = Work::Generate(generate);
                let generate = self.stage(format!("generate {name}"), work, baseline.network)?;
                let work = Work::Evaluate(EvaluateWork {
                    family: experiment.family,
                    seed,
                    dataset: dataset.clone(),
                    generate: generate.clone(),
                    likelihood: likelihood.clone().filter(|_| last),
                    compared: answers.compared,
                });
                let evaluate = self.stage(format!("evaluate {name}"), work, false)?;
                runs.push(VariantRun {
                    baseline: baseline.name.clone(),
                    label: baseline.label.clone(),
                    seed,
                    temperature,
                    checkpoint,
                    training: Place::new("train", training.key.clone()),
                    selected: selected.clone().filter(|_| last),
                    generate: Some(generate),
                    records: Place::new("evaluate", evaluate),
                    failure: None,
                });
            }
        }
        Ok(())
    }

    /// `cpu` or `cuda`.
    fn device_kind(&self) -> &str {
        self.execution.device.split(':').next().unwrap_or_default()
    }

    fn stage(&mut self, label: String, work: Work, parallel: bool) -> Result<Key> {
        let key = work.key()?;
        let stage = || Stage { key: key.clone(), label, work, parallel };
        self.stages.entry(key.clone()).or_insert_with(stage);
        Ok(key)
    }
}

impl ExperimentPlan {
    /// The stages whose outcome the report needs.
    pub fn awaited(&self) -> Vec<Key> {
        let runs = self.runs.iter().map(|run| run.records.key.clone());
        runs.chain(self.references.clone()).chain([self.dataset_key.clone()]).collect()
    }

    /// The report's stage, once the outcome of all others is known. `failure` says why a stage
    /// has no outputs.
    pub fn report(&self, failure: impl Fn(&Key) -> Option<String>) -> Result<Stage> {
        let mut runs = self.runs.clone();
        for run in &mut runs {
            run.failure = failure(&run.records.key);
        }
        let work = Work::Report(ReportWork {
            experiment: self.experiment.id.clone(),
            title: self.experiment.title.clone(),
            profile: self.experiment.profile.as_str().to_owned(),
            family: self.experiment.family,
            reports: self.experiment.reports.clone(),
            dataset: self.dataset_key.clone(),
            runs,
            plot: self.experiment.plot.iter().map(Variant::name).collect(),
            pairs: self.experiment.pairs.clone(),
            references: self
                .references
                .iter()
                .filter(|key| failure(key).is_none())
                .cloned()
                .collect(),
            conditions: match &self.experiment.measure {
                Measure::Answers(answers) => Some(answers.conditions.clone()),
                Measure::Probe { .. } => None,
            },
            formats: self.formats.clone(),
        });
        let label = format!("report {}", self.experiment.id);
        Ok(Stage { key: work.key()?, label, work, parallel: false })
    }

    /// Folder below `results` and `paper-figures`.
    pub fn folder(&self) -> PathBuf {
        let folder = PathBuf::from(&self.experiment.id).join(self.experiment.profile.as_str());
        if self.is_on_own_dataset() { folder } else { folder.join(&self.dataset_name) }
    }

    /// Whether it is run on the dataset that it names.
    pub fn is_on_own_dataset(&self) -> bool {
        self.dataset == self.experiment.dataset
    }
}

/// Adds the hash of the weights that a baseline's settings name to these settings. Weights that are not
/// there are told by the stage that needs them, which may be of another experiment.
fn pin_weights(baseline: &mut Baseline, known: &mut HashMap<PathBuf, String>) -> Result<()> {
    if baseline.generator == in_context::ID
        && let Some(path) = in_context::named_weights(&baseline.settings)
        && path.exists()
    {
        let hash = match known.get(path) {
            Some(hash) => hash.clone(),
            None => {
                let hash = receipt::of_weights(path)?;
                known.insert(path.to_owned(), hash.clone());
                hash
            }
        };
        baseline.settings.insert(in_context::WEIGHTS.to_owned(), hash.into());
    }
    Ok(())
}

/// # Errors
/// Two baselines that tables would take for seeds of one.
fn check_labels(baselines: &[Baseline]) -> Result<(), UserError> {
    for (index, baseline) in baselines.iter().enumerate() {
        if let Some(other) = baselines[..index].iter().find(|one| one.label == baseline.label) {
            return Err(UserError::setting(format!(
                "baselines `{}` and `{}` have the same label {:?}, by which tables tell them apart: change one, or leave one out",
                other.name, baseline.name, baseline.label
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::manifest::{EXPERIMENTS, Profile};
    use super::*;
    use clap::ValueEnum;
    use std::path::Path;

    fn options() -> PlanOptions {
        PlanOptions {
            dataset: None,
            graphs: None,
            data_root: None,
            device: Device { name: "cpu".into(), reason: String::new() },
            batch: 64,
            formats: BTreeSet::new(),
        }
    }

    fn plan(ids: &[&str], options: &PlanOptions) -> Plan {
        let find = |id: &&str| Experiment::find(id, Profile::Smoke).unwrap();
        Plan::new(ids.iter().map(find).collect(), options).unwrap()
    }

    fn keys(plan: &Plan, kind: &str) -> Vec<Key> {
        let stages = plan.stages.values().filter(|stage| stage.work.kind() == kind);
        stages.map(|stage| stage.key.clone()).collect()
    }

    #[test]
    fn experiments_share_datasets_and_trainings() {
        let alone = plan(&["fig3-accuracy"], &options());
        let all = plan(&["fig3-accuracy", "fig4-fidelity", "learning-curve"], &options());
        assert_eq!(keys(&alone, "dataset"), keys(&all, "dataset"));
        let trained = keys(&all, "train");
        assert!(!keys(&alone, "train").is_empty());
        assert!(keys(&alone, "train").iter().all(|key| trained.contains(key)));
        // Figure 4 has more generators, but trains none of figure 3's again.
        let fidelity = plan(&["fig4-fidelity", "learning-curve"], &options());
        assert_eq!(trained.len(), keys(&fidelity, "train").len());
        assert!(keys(&all, "generate").len() > keys(&alone, "generate").len());
    }

    /// `fig7-later` has a dataset of its own size in `smoke`.
    #[test]
    fn probes_go_on_from_the_trainings_of_other_experiments() {
        let other = plan(&["fig4-fidelity"], &options());
        let probes = plan(&["fig7-attribute", "fig7-call"], &options());
        let trainings = keys(&probes, "train");
        assert_eq!(trainings.len(), 1);
        assert!(keys(&other, "train").contains(&trainings[0]));
        let asked = probes.stages.values().filter_map(|stage| match &stage.work {
            Work::Probe(work) => Some((work.method.is_network(), stage.work.inputs())),
            _ => None,
        });
        for (is_network, inputs) in asked {
            assert_eq!(inputs.contains(&trainings[0]), is_network);
        }
        let experiment = &probes.experiments[0];
        assert!(experiment.references.is_empty() && experiment.runs.len() > 3);
        assert!(experiment.runs.iter().all(|run| run.generate.is_none()));
        let failed = experiment.runs[0].records.key.clone();
        let report = experiment.report(|key| (*key == failed).then(String::new)).unwrap();
        assert!(!report.work.inputs().contains(&failed));
        assert!(report.work.inputs().contains(&experiment.runs[1].records.key));
    }

    #[test]
    fn keys_follow_what_results_depend_on_and_nothing_else() {
        let base = plan(&["fig3-accuracy"], &options());
        let batch = PlanOptions { batch: 1, data_root: Some("elsewhere".into()), ..options() };
        let all = |plan: &Plan| plan.stages.keys().cloned().collect::<Vec<_>>();
        assert_eq!(all(&base), all(&plan(&["fig3-accuracy"], &batch)));
        let larger = PlanOptions { graphs: Some(601), ..options() };
        let larger = plan(&["fig3-accuracy"], &larger);
        assert!(all(&base).iter().all(|key| !larger.stages.contains_key(key)));
    }

    /// The path of weights says nothing of what is in them.
    #[test]
    fn keys_follow_the_weights_of_models_that_are_asked() {
        let dir = tempfile::tempdir().unwrap();
        let weights = dir.path().join("model.gguf");
        let mut experiment = Experiment::find("fig3-accuracy", Profile::Smoke).unwrap();
        let mut variant = Variant::plain("in-context-smollm2");
        variant.set.insert("model".into(), weights.display().to_string().into());
        experiment.generators = vec![variant];
        experiment.plot.clear();
        let generate = || {
            let plan = Plan::new(vec![experiment.clone()], &options()).unwrap();
            keys(&plan, "generate")
        };
        let absent = generate();
        std::fs::write(&weights, "1").unwrap();
        let first = generate();
        std::fs::write(&weights, "2").unwrap();
        assert!(absent != first && first != generate());
        std::fs::write(&weights, "1").unwrap();
        assert_eq!(first, generate());
    }

    /// Temperatures and experiments share likelihoods; other evaluations know none.
    #[test]
    fn likelihoods_are_asked_of_those_who_have_them() {
        let novelty = plan(&["privacy", "fig15-memorisation"], &options());
        let count = |plan: &Plan| {
            let works = plan.stages.values().map(|stage| &stage.work);
            works.filter(|work| matches!(work, Work::Likelihood(_))).count()
        };
        // In smoke, one language model each; one of them at two temperatures.
        assert_eq!(count(&novelty), 2);
        let evaluations = novelty.stages.values().filter_map(|stage| match &stage.work {
            Work::Evaluate(work) => Some(work.likelihood.is_some()),
            _ => None,
        });
        let evaluations: Vec<bool> = evaluations.collect();
        assert!(evaluations.contains(&true) && evaluations.contains(&false));
        assert_eq!(count(&plan(&["fig4-fidelity"], &options())), 0);
    }

    #[test]
    fn a_failed_run_changes_the_report_and_is_no_input_of_it() {
        let plan = plan(&["fig4-fidelity"], &options());
        let experiment = &plan.experiments[0];
        let whole = experiment.report(|_| None).unwrap();
        let failed = experiment.runs[0].records.key.clone();
        let partly = |key: &Key| (*key == failed).then(|| "out of memory".to_owned());
        let partly = experiment.report(partly).unwrap();
        assert_ne!(whole.key, partly.key);
        assert!(whole.work.inputs().contains(&failed));
        assert!(!partly.work.inputs().contains(&failed));
    }

    #[test]
    fn another_dataset_has_its_own_size_and_folder() {
        let mut plan = plan(&["fig3-accuracy"], &options());
        let experiment = &mut plan.experiments[0];
        assert_eq!(experiment.folder(), PathBuf::from("fig3-accuracy/smoke"));
        // Given as a file; all of its name counts, dots included.
        experiment.dataset = "data/mine.toml".into();
        for name in ["mine", "mine.v1", "mine.v2"] {
            experiment.dataset_name = name.into();
            assert_eq!(experiment.folder(), Path::new("fig3-accuracy/smoke").join(name));
        }
    }

    #[test]
    fn baselines_of_one_label_are_refused() {
        let mut twice = Experiment::find("fig3-accuracy", Profile::Smoke).unwrap();
        twice.generators =
            ["training-set-copy", "markov", "training-set-copy"].map(Variant::plain).into();
        let error = Plan::new(vec![twice], &options()).unwrap_err().to_string();
        assert!(error.starts_with(
            "baselines `training-set-copy` and `training-set-copy` have the same label"
        ));
        for id in EXPERIMENTS.names() {
            for profile in Profile::value_variants() {
                let experiment = Experiment::find(&id, *profile).unwrap();
                let find = |variant: &Variant| Baseline::of(variant, *profile).unwrap();
                let baselines: Vec<Baseline> = experiment.generators.iter().map(find).collect();
                check_labels(&baselines).unwrap();
                // Lists of labels have commas between them.
                assert!(baselines.iter().all(|baseline| !baseline.label.contains(',')), "{id}");
            }
        }
    }
}
