//! What each kind of stage does: a pure function of its declared inputs to a folder.
//!
//! A stage runs in a process of its own (`tracegym stage --spec FILE`). Its key hashes everything
//! in [`Work`], the keys of the stages it reads included, and the version of the code it uses.

mod answers;
mod dataset;
mod evaluate;
mod generate;
mod likelihood;
mod probe;
mod report;
mod select;
mod teach;
mod train;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

pub use dataset::DatasetWork;
pub use evaluate::{EvaluateWork, FloorWork};
pub use generate::GenerateWork;
pub use likelihood::LikelihoodWork;
pub use probe::{NetworkWork, ProbeWork};
pub use report::{Arm, FIGURES, ProbeArm, ReportWork, TABLES};
pub use select::SelectWork;
pub use teach::TeachWork;
pub use train::TrainWork;

use super::cache::{Cache, Key};
use super::contents::Reading;
use super::{facts, receipt};
use crate::device::DeviceChoice;
use crate::error::UserError;
use crate::evaluate::CONDITIONS_VERSION;
use crate::generators::external;
use crate::progress::Progress;
use crate::report::Format;
use crate::version::Version;
use crate::{durable, generators, probes};

/// One stage's work with everything that its outputs depend on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Work {
    Dataset(DatasetWork),
    Teach(TeachWork),
    Train(TrainWork),
    Select(SelectWork),
    Generate(GenerateWork),
    Likelihood(LikelihoodWork),
    Evaluate(EvaluateWork),
    Floor(FloorWork),
    Probe(ProbeWork),
    Report(ReportWork),
}

/// How a stage runs: nothing here may change its outputs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Means {
    pub device: String,
    pub batch: usize,
    /// Folder below which real data lies (`TRACEGYM_DATA`).
    pub data_root: Option<PathBuf>,
}

/// What a child process is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageSpec {
    pub key: Key,
    pub label: String,
    pub work: Work,
    pub cache: PathBuf,
    pub means: Means,
    pub threads: usize,
}

/// What a stage took and who made it. Not an input of any result but the cost table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timing {
    pub wall_seconds: f64,
    /// Processor time of all threads, and of the programs that it started; unlike wall time it hardly
    /// depends on what else the machine does. `None` where the system does not tell.
    #[serde(default)]
    pub cpu_seconds: Option<f64>,
    /// Most memory that the stage's process, and the largest program that it started, held at once;
    /// `None` where the system does not tell.
    #[serde(default)]
    pub peak_bytes: Option<u64>,
    pub threads: usize,
    pub batch: usize,
    pub device: String,
    pub commit: String,
    pub dirty: bool,
}

/// What a stage's work finds at hand.
pub struct Bench<'a> {
    pub cache: &'a Cache,
    pub out: &'a Path,
    pub scratch: &'a Path,
    pub device: DeviceChoice,
    pub means: &'a Means,
    pub progress: Progress,
}

impl Bench<'_> {
    /// The outputs of an input stage.
    pub fn input(&self, kind: &str, key: &Key) -> PathBuf {
        self.cache.outputs(kind, key)
    }

    fn dataset(&self, key: &Key) -> Result<crate::data::Dataset> {
        crate::data::Dataset::load(&self.input("dataset", key))
    }
}

impl Work {
    /// The name of the stage's folder in the cache.
    pub fn kind(&self) -> &'static str {
        match self {
            // A lesson is a dataset like any other to those who train on it.
            Self::Dataset(_) | Self::Teach(_) => "dataset",
            Self::Train(_) => "train",
            Self::Select(_) => "select",
            Self::Generate(_) => "generate",
            Self::Likelihood(_) => "likelihood",
            Self::Evaluate(_) => "evaluate",
            Self::Floor(_) => "floor",
            Self::Probe(_) => "probe",
            Self::Report(_) => "report",
        }
    }

    pub fn key(&self) -> Result<Key> {
        let mut work = serde_json::to_value(self)?;
        if let Self::Dataset(_) = self
            && let Some(manifest) = work.pointer_mut("/manifest").and_then(|m| m.as_object_mut())
        {
            // Where the manifest lies is no part of what it says.
            manifest.remove("folder");
        }
        let versions: Vec<String> = self.versions().iter().map(Version::to_string).collect();
        let (crates, compiled_in): (Vec<&str>, Option<String>) = match self {
            Self::Report(work) => (
                facts::report_crates(work.formats.contains(&Format::Png)).collect(),
                Some(crate::report::compiled_in()),
            ),
            _ => (facts::numeric_crates().collect(), None),
        };
        Ok(Key::of(&serde_json::json!({
            "work": work, "versions": versions, "crates": crates, "compiled_in": compiled_in,
        })))
    }

    /// Versions of the code that this stage runs and its input stages do not: what an input runs is
    /// in the input's key.
    fn versions(&self) -> Vec<Version> {
        let generator = |id: &str| generators::entry(id);
        let answers = |id: &str| generator(id).map(|entry| entry.answers);
        match self {
            Self::Dataset(work) => {
                [dataset::VERSION].into_iter().chain(work.manifest.source.versions()).collect()
            }
            Self::Train(work) => {
                let training = generator(&work.generator).map(|entry| entry.training);
                [train::VERSION].into_iter().chain(training).collect()
            }
            Self::Select(work) => {
                [select::VERSION].into_iter().chain(answers(&work.generator)).collect()
            }
            Self::Teach(work) => [teach::VERSION, CONDITIONS_VERSION]
                .into_iter()
                .chain(answers(&work.generator))
                .collect(),
            Self::Generate(work) => [generate::VERSION, CONDITIONS_VERSION]
                .into_iter()
                .chain(answers(&work.generator))
                .collect(),
            Self::Likelihood(work) => {
                [likelihood::VERSION].into_iter().chain(answers(&work.generator)).collect()
            }
            Self::Evaluate(EvaluateWork { evaluation, .. })
            | Self::Floor(FloorWork { evaluation, .. }) => {
                vec![evaluate::VERSION, evaluation.version()]
            }
            Self::Probe(_) => vec![probe::VERSION, probes::VERSION],
            Self::Report(_) => vec![report::VERSION, crate::report::VERSION],
        }
    }

    /// Stages that must be finished first.
    pub fn inputs(&self) -> Vec<Key> {
        match self {
            Self::Dataset(_) => Vec::new(),
            Self::Train(work) => [&work.dataset].into_iter().chain(&work.base).cloned().collect(),
            Self::Teach(work) => vec![work.dataset.clone(), work.train.clone()],
            Self::Select(work) => vec![work.dataset.clone(), work.train.clone()],
            Self::Generate(work) => {
                [&work.dataset, &work.train].into_iter().chain(&work.selected).cloned().collect()
            }
            Self::Likelihood(work) => {
                [&work.dataset, &work.train].into_iter().chain(&work.selected).cloned().collect()
            }
            Self::Evaluate(work) => {
                let inputs = [&work.dataset, &work.generate].into_iter();
                inputs.chain(&work.likelihood).cloned().collect()
            }
            Self::Floor(work) => vec![work.dataset.clone()],
            Self::Probe(work) => {
                let train = work.network.iter().map(|network| network.train.clone());
                train.chain([work.dataset.clone()]).collect()
            }
            Self::Report(work) => work.inputs(),
        }
    }

    /// What this stage reads of an input of that kind.
    pub fn reads(&self, kind: &str) -> Reading<'static> {
        match self {
            Self::Report(_) => ReportWork::reads(kind),
            _ => Reading::Everything,
        }
    }

    /// Whether the files that it reads, besides the outputs of other stages, are still those that its
    /// key was made of.
    ///
    /// # Errors
    /// Files that were changed since.
    fn check_files(&self, means: &Means) -> Result<()> {
        match self {
            Self::Dataset(work) => work.check_files(means),
            Self::Train(work) => check_program(&work.generator, &work.settings),
            Self::Generate(work) => check_program(&work.generator, &work.settings),
            _ => Ok(()),
        }
    }

    fn run(&self, bench: &Bench) -> Result<()> {
        match self {
            Self::Dataset(work) => work.run(bench),
            Self::Teach(work) => work.run(bench),
            Self::Train(work) => work.run(bench),
            Self::Select(work) => work.run(bench),
            Self::Generate(work) => work.run(bench),
            Self::Likelihood(work) => work.run(bench),
            Self::Evaluate(work) => work.run(bench),
            Self::Floor(work) => work.run(bench),
            Self::Probe(work) => work.run(bench),
            Self::Report(work) => work.run(bench),
        }
    }
}

/// Whether a generator in another language is still the program that was planned with.
fn check_program(generator: &str, settings: &toml::Table) -> Result<()> {
    if generator != external::ID {
        return Ok(());
    }
    let text = |key: &str| settings.get(key).and_then(toml::Value::as_str).unwrap_or_default();
    let folder = text("folder");
    if receipt::of(Path::new(folder))? == text("receipt") {
        return Ok(());
    }
    Err(UserError::setting(format!(
        "{folder}: files of this baseline were changed after the run was planned, so that nothing was \
         kept; the same command plans anew (what the program itself writes there belongs in a hidden \
         folder)"
    ))
    .into())
}

/// Runs the stage that `spec` (a file) describes and publishes its outputs in the cache.
///
/// # Errors
/// Whatever the stage fails with.
pub fn run_spec(spec: &Path) -> Result<()> {
    let text = std::fs::read_to_string(spec)
        .map_err(|error| UserError::io(spec, "cannot be read", error))?;
    let spec: StageSpec =
        serde_json::from_str(&text).with_context(|| spec.display().to_string())?;
    let cache = Cache::new(&spec.cache);
    let device = spec.means.device.parse().map_err(UserError::Setting)?;
    let (out, scratch) = (cache.begin(spec.work.kind(), &spec.key)?, cache.scratch(&spec.key));
    durable::create_folder(&scratch)?;
    durable::clear_partial(&scratch);
    let bench = Bench {
        cache: &cache,
        out: &out,
        scratch: &scratch,
        device,
        means: &spec.means,
        progress: Progress::Relay,
    };
    let started = Instant::now();
    spec.work.run(&bench)?;
    // Outputs of files that changed meanwhile must not be kept under a key that promises others.
    spec.work.check_files(&spec.means)?;
    let timing = Timing {
        wall_seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds(),
        peak_bytes: peak_bytes(),
        threads: spec.threads,
        batch: spec.means.batch,
        device: spec.means.device.clone(),
        commit: facts::COMMIT.to_owned(),
        dirty: facts::DIRTY,
    };
    write_json(&out.join(TIMING), &timing)?;
    cache.publish(spec.work.kind(), &spec.key, &out)
}

/// Peak of this process and of the largest child that has ended.
#[cfg(target_os = "linux")]
fn peak_bytes() -> Option<u64> {
    // Not from getrusage, which counts what the process was before it became this program.
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let own: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let children = u64::try_from(usage(libc::RUSAGE_CHILDREN)?.ru_maxrss).ok()?;
    Some((own + children) << 10)
}

#[cfg(not(target_os = "linux"))]
fn peak_bytes() -> Option<u64> {
    None
}

/// Processor time of this process and of its children that have ended.
#[cfg(unix)]
fn cpu_seconds() -> Option<f64> {
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let of = |usage: libc::rusage| seconds(usage.ru_utime) + seconds(usage.ru_stime);
    Some(of(usage(libc::RUSAGE_SELF)?) + of(usage(libc::RUSAGE_CHILDREN)?))
}

#[cfg(not(unix))]
fn cpu_seconds() -> Option<f64> {
    None
}

#[cfg(unix)]
fn usage(who: libc::c_int) -> Option<libc::rusage> {
    // SAFETY: a zeroed rusage is a valid one, and getrusage only writes to it.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::getrusage(who, &raw mut usage) == 0).then_some(usage)
    }
}

/// The [`Timing`] in the stage's outputs.
const TIMING: &str = "timing.json";

/// Reads the timing of a finished stage; `None` where it is gone.
pub fn timing(cache: &Cache, kind: &str, key: &Key) -> Option<Timing> {
    read_json(&cache.outputs(kind, key).join(TIMING)).ok()
}

/// Writes a file of the stage's outputs, which are flushed to the disk as a whole when it ends.
fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    std::fs::write(path, serde_json::to_string_pretty(value)? + "\n")
        .map_err(|error| UserError::io(path, "cannot be written", error).into())
}

pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| UserError::io(path, "cannot be read", error))?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DatasetManifest;
    use crate::evaluate::{Conditions, Evaluation};
    use crate::generators::Decoding;
    use crate::model::Sampling;
    use crate::probes::Arm as ProbedBy;
    use crate::version::golden;

    /// The files of a folder with what tells their format: the header of a table, the keys of an object.
    fn format_of(dir: &Path, below: &str) -> String {
        let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(Result::unwrap).collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        let mut text = String::new();
        for entry in entries {
            let (path, name) = (entry.path(), format!("{below}{}", entry.file_name().display()));
            if path.is_dir() {
                text += &format_of(&path, &format!("{name}/"));
                continue;
            }
            let content = || std::fs::read_to_string(&path).unwrap();
            let inside = match path.extension().and_then(|extension| extension.to_str()) {
                // The table of calls has a golden test of its own (`data::golden`).
                Some("parquet") if !path.ends_with("calls.parquet") => {
                    let table = crate::data::calls::read(&path).unwrap();
                    let columns = table.schema().iter();
                    let columns = columns.map(|(name, kind)| format!("{name}:{kind}"));
                    columns.collect::<Vec<_>>().join(",")
                }
                Some("csv") => content().lines().next().unwrap_or_default().to_owned(),
                Some("json") => match serde_json::from_str(&content()).unwrap() {
                    serde_json::Value::Object(map) => {
                        map.keys().map(String::as_str).collect::<Vec<_>>().join(",")
                    }
                    _ => String::new(),
                },
                _ => String::new(),
            };
            text += &format!("{name} {inside}\n");
        }
        text
    }

    /// Runs the stage in `cache`, holds the files that it writes to `version`, and returns its key.
    fn run(cache: &Cache, version: Version, work: &Work) -> Key {
        let key = work.key().unwrap();
        let (out, scratch) = (cache.begin(work.kind(), &key).unwrap(), cache.scratch(&key));
        durable::create_folder(&scratch).unwrap();
        let means = Means { device: "cpu".into(), batch: 8, data_root: None };
        let (device, progress) = (DeviceChoice::Cpu, Progress::Quiet);
        let bench = Bench { cache, out: &out, scratch: &scratch, device, means: &means, progress };
        work.run(&bench).unwrap();
        golden::assert(version, &format_of(&out, ""));
        cache.publish(work.kind(), &key, &out).unwrap();
        key
    }

    #[test]
    fn stages_write_the_files_of_their_versions() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("cache"));
        let manifest = DatasetManifest::find("simulator").unwrap();
        let dataset = Work::Dataset(DatasetWork { manifest, files: Vec::new(), graphs: Some(120) });
        let dataset = run(&cache, dataset::VERSION, &dataset);
        let generator = || "recursive-compact".to_owned();
        let settings: toml::Table = "size = \"xs\"\ntokens = 4000\nbatch_tokens = 512\n\
            countdown = true\nsnapshots = [0.5]\nevaluate_every = 4\nwarmup_steps = 2"
            .parse()
            .unwrap();
        let train = Work::Train(TrainWork {
            generator: generator(),
            settings: settings.clone(),
            seed: 0,
            device: "cpu".into(),
            dataset: dataset.clone(),
            base: None,
        });
        let train = run(&cache, train::VERSION, &train);
        let select = Work::Select(SelectWork {
            generator: generator(),
            settings: settings.clone(),
            seed: 0,
            candidates: 2,
            dataset: dataset.clone(),
            train: train.clone(),
        });
        let selected = Some(run(&cache, select::VERSION, &select));
        let teach = Work::Teach(TeachWork {
            generator: generator(),
            settings: settings.clone(),
            seed: 0,
            max_edges: 3,
            max_depth: 2,
            dataset: dataset.clone(),
            train: train.clone(),
        });
        run(&cache, teach::VERSION, &teach);
        let likelihood = Work::Likelihood(LikelihoodWork {
            generator: generator(),
            settings: settings.clone(),
            seed: 0,
            selected: selected.clone(),
            dataset: dataset.clone(),
            train: train.clone(),
        });
        run(&cache, likelihood::VERSION, &likelihood);
        let generate = Work::Generate(GenerateWork {
            generator: generator(),
            settings,
            seed: 0,
            sampling: Sampling { temperature: 0.8, top_k: None },
            conditions: Conditions::Test { count: 9 },
            snapshot: None,
            selected,
            decoding: Decoding::Constrained,
            dataset: dataset.clone(),
            train,
        });
        let generate = run(&cache, generate::VERSION, &generate);
        let evaluate = Work::Evaluate(EvaluateWork {
            evaluation: Evaluation::Fidelity,
            seed: 0,
            dataset: dataset.clone(),
            generate,
            likelihood: None,
        });
        run(&cache, evaluate::VERSION, &evaluate);
        let probe = Work::Probe(ProbeWork {
            task: crate::probes::Task::Attribute,
            train_questions: 8,
            test_questions: 4,
            arm: ProbedBy::Majority,
            seed: 0,
            dataset,
            network: None,
            in_context: None,
        });
        run(&cache, probe::VERSION, &probe);
    }

    /// A key holds the versions of the code that the stage runs, and nothing of where it lies.
    #[test]
    fn keys_hold_versions() {
        let manifest = DatasetManifest::find("simulator").unwrap();
        let work = |folder: Option<&str>| {
            let manifest =
                DatasetManifest { folder: folder.map(PathBuf::from), ..manifest.clone() };
            Work::Dataset(DatasetWork { manifest, files: Vec::new(), graphs: None })
        };
        assert_eq!(work(None).key().unwrap(), work(Some("elsewhere")).key().unwrap());
        let versions: Vec<String> = work(None).versions().iter().map(Version::to_string).collect();
        assert_eq!(versions, ["stage/dataset 2", "dataset 2", "source/simulator 2"]);
    }

    /// What was changed after planning is never kept under the key of what it was.
    #[test]
    fn a_program_that_was_changed_since_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("generator.py");
        std::fs::write(&script, "print(1)").unwrap();
        let settings = || {
            let mut settings = toml::Table::new();
            settings.insert("folder".into(), dir.path().display().to_string().into());
            settings.insert("receipt".into(), receipt::of(dir.path()).unwrap().into());
            settings
        };
        let planned = settings();
        check_program(external::ID, &planned).unwrap();
        std::fs::write(&script, "print(2)").unwrap();
        let error = check_program(external::ID, &planned).unwrap_err().to_string();
        assert!(error.contains("changed after the run was planned"), "{error}");
        check_program(external::ID, &settings()).unwrap();
        check_program("markov", &planned).unwrap();
    }
}
