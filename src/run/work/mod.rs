//! What each kind of stage does: a pure function of its declared inputs to a folder.
//!
//! A stage runs in a process of its own (`tracegym stage --spec FILE`). Its key hashes everything
//! in [`Work`], the keys of the stages it reads included, and the version of the code it uses.

mod answers;
mod checkpoint_selection;
mod dataset;
mod evaluate;
mod generate;
mod likelihood;
mod probe;
mod report;
mod self_training;
mod train;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

pub use checkpoint_selection::CheckpointSelectionWork;
pub use dataset::DatasetWork;
pub use evaluate::{EvaluateWork, ReferencesWork};
pub use generate::{GenerateWork, TrainedGenerator, answer};
pub use likelihood::LikelihoodWork;
pub use probe::{NetworkWork, ProbeWork};
pub use report::{FIGURES, Place, ReportWork, TABLES, VariantRun};
pub use self_training::SelfTrainingWork;
pub use train::{FIT, TrainWork};

use super::cache::{Cache, Key};
use super::contents::Reading;
use super::{facts, receipt};
use crate::device::DeviceChoice;
use crate::error::UserError;
use crate::generators::{external, in_context};
use crate::progress::Progress;
use crate::version::Version;
use crate::{durable, generators};

/// A kind of stage. Its settings are the fields of the type, all of which are in the key; a new kind is
/// a file with a type that implements this, and a line in [`Work`]'s list.
pub trait StageKind {
    /// The name of its folder in the cache.
    fn kind(&self) -> &'static str;

    /// Versions of the code that this stage runs and its input stages do not: what an input runs is
    /// in the input's key.
    fn versions(&self) -> Vec<Version>;

    /// Stages that must be finished first.
    fn inputs(&self) -> Vec<Key>;

    /// Computes the outputs from the inputs.
    ///
    /// # Errors
    /// Whatever keeps it from its outputs: then it has none.
    fn run(&self, context: &StageContext) -> Result<()>;

    /// The seed that its outputs depend on besides those of its inputs.
    fn seed(&self) -> Option<u64> {
        None
    }

    /// What it reads of an input of that kind.
    fn reads(&self, _kind: &str) -> Reading<'static> {
        Reading::Everything
    }

    /// Versions of the crates that it computes with.
    fn crates(&self) -> Vec<&'static str> {
        facts::numeric_crates().collect()
    }

    /// A hash of the files in the binary that it reads.
    fn compiled_in(&self) -> Option<String> {
        None
    }

    /// Takes out of the settings, as the key has them, what outputs do not depend on.
    fn reduce_settings(&self, _settings: &mut serde_json::Value) {}

    /// Whether the files that it reads, besides the outputs of other stages, are still those that its
    /// key was made of.
    ///
    /// # Errors
    /// Files that were changed since.
    fn check_files(&self, _options: &ExecutionOptions) -> Result<()> {
        Ok(())
    }

    /// Of stages that are ready, those with the lowest start first: results should appear as early as
    /// they can.
    fn order(&self) -> u8 {
        3
    }
}

/// The list of all kinds makes [`Work`], which is any of them.
macro_rules! stage_kinds {
    ($($name:ident($work:ty),)*) => {
        /// One stage's work with everything that its outputs depend on.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "kebab-case")]
        // A plan holds a few thousand of these: a box for each would save nothing that counts.
        #[allow(clippy::large_enum_variant)]
        pub enum Work {
            $($name($work),)*
        }

        impl std::ops::Deref for Work {
            type Target = dyn StageKind;

            fn deref(&self) -> &Self::Target {
                match self {
                    $(Self::$name(work) => work,)*
                }
            }
        }
    };
}

stage_kinds! {
    Dataset(DatasetWork),
    SelfTraining(SelfTrainingWork),
    Train(TrainWork),
    CheckpointSelection(CheckpointSelectionWork),
    Generate(GenerateWork),
    Likelihood(LikelihoodWork),
    Evaluate(EvaluateWork),
    References(ReferencesWork),
    Probe(ProbeWork),
    Report(ReportWork),
}

impl Work {
    pub fn key(&self) -> Result<Key> {
        let mut work = serde_json::to_value(self)?;
        self.reduce_settings(&mut work);
        let versions: Vec<String> = self.versions().iter().map(Version::to_string).collect();
        Ok(Key::of(&serde_json::json!({
            "work": work, "versions": versions, "crates": self.crates(),
            "compiled_in": self.compiled_in(),
        })))
    }
}

/// The version of a generator's answers.
fn answers_version(generator: &str) -> Option<Version> {
    generators::entry(generator).map(|entry| entry.answers)
}

/// How a stage runs: nothing here may change its outputs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecutionOptions {
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
    pub options: ExecutionOptions,
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
pub struct StageContext<'a> {
    pub cache: &'a Cache,
    pub out: &'a Path,
    pub scratch: &'a Path,
    pub device: DeviceChoice,
    pub options: &'a ExecutionOptions,
    pub progress: Progress,
}

impl StageContext<'_> {
    /// The outputs of an input stage.
    pub fn input(&self, kind: &str, key: &Key) -> PathBuf {
        self.cache.outputs(kind, key)
    }

    fn dataset(&self, key: &Key) -> Result<crate::data::Dataset> {
        crate::data::Dataset::load(&self.input("dataset", key))
    }
}

/// Whether a generator in another language is still the program that was planned with, and the weights of
/// a model that is asked without training are those.
fn check_files_of(generator: &str, settings: &toml::Table) -> Result<()> {
    let text = |key: &str| settings.get(key).and_then(toml::Value::as_str).unwrap_or_default();
    let (path, is_same, what, remedy) = match generator {
        external::ID => {
            let folder = text("folder");
            let is_same = receipt::of(Path::new(folder))? == text("receipt");
            let remedy = " (what the program itself writes there belongs in a hidden folder)";
            (folder, is_same, "files of this baseline", remedy)
        }
        in_context::ID => {
            let Some(path) = in_context::named_weights(settings) else { return Ok(()) };
            let is_same = receipt::of_weights(path)? == text(in_context::WEIGHTS);
            (text("model"), is_same, "these weights", "")
        }
        _ => return Ok(()),
    };
    if is_same {
        return Ok(());
    }
    Err(UserError::setting(format!(
        "{path}: {what} were changed after the run was planned, so that nothing was kept; the same \
         command plans anew{remedy}"
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
    let device = spec.options.device.parse().map_err(UserError::Setting)?;
    let (out, scratch) = (cache.begin(spec.work.kind(), &spec.key)?, cache.scratch(&spec.key));
    durable::create_folder(&scratch)?;
    durable::clear_partial(&scratch);
    let context = StageContext {
        cache: &cache,
        out: &out,
        scratch: &scratch,
        device,
        options: &spec.options,
        progress: Progress::Relay,
    };
    let started = Instant::now();
    spec.work.run(&context)?;
    // Outputs of files that changed meanwhile must not be kept under a key that promises others.
    spec.work.check_files(&spec.options)?;
    let timing = Timing {
        wall_seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds(),
        peak_bytes: peak_bytes(),
        threads: spec.threads,
        batch: spec.options.batch,
        device: spec.options.device.clone(),
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
    use crate::evaluate::probes::{Method, Task};
    use crate::evaluate::{Conditions, FamilyId, fidelity};
    use crate::generators::Decoding;
    use crate::model::Sampling;
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
        let options = ExecutionOptions { device: "cpu".into(), batch: 8, data_root: None };
        let (device, progress) = (DeviceChoice::Cpu, Progress::Quiet);
        let context = StageContext {
            cache,
            out: &out,
            scratch: &scratch,
            device,
            options: &options,
            progress,
        };
        work.run(&context).unwrap();
        golden::assert(version, &format_of(&out, ""));
        cache.publish(work.kind(), &key, &out).unwrap();
        key
    }

    #[test]
    fn stages_write_the_files_of_their_versions() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("cache"));
        let manifest = DatasetManifest::find("simulator").unwrap();
        let dataset = Work::Dataset(DatasetWork {
            manifest,
            files: Vec::new(),
            times: None,
            graphs: Some(120),
        });
        let dataset = run(&cache, dataset::VERSION, &dataset);
        let generator = || "recursive-compact".to_owned();
        let settings: toml::Table = "size = \"xs\"\ntokens = 4000\nbatch_tokens = 512\n\
            remaining_counts = true\ncheckpoints = [0.5]\nevaluate_every = 4\nwarmup_steps = 2"
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
        let select = Work::CheckpointSelection(CheckpointSelectionWork {
            generator: generator(),
            settings: settings.clone(),
            seed: 0,
            candidates: 2,
            dataset: dataset.clone(),
            train: train.clone(),
        });
        let selected = Some(run(&cache, checkpoint_selection::VERSION, &select));
        let samples = Work::SelfTraining(SelfTrainingWork {
            generator: generator(),
            settings: settings.clone(),
            seed: 0,
            max_edges: 3,
            max_depth: 2,
            dataset: dataset.clone(),
            train: train.clone(),
        });
        run(&cache, self_training::VERSION, &samples);
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
            checkpoint: None,
            selected,
            decoding: Decoding::Constrained,
            dataset: dataset.clone(),
            train,
        });
        let generate = run(&cache, generate::VERSION, &generate);
        let evaluate = Work::Evaluate(EvaluateWork {
            family: FamilyId(&fidelity::FAMILY),
            seed: 0,
            dataset: dataset.clone(),
            generate,
            likelihood: None,
            compared: None,
        });
        run(&cache, evaluate::VERSION, &evaluate);
        let probe = Work::Probe(ProbeWork {
            task: Task::Attribute,
            train_questions: 8,
            test_questions: 4,
            method: Method::Majority,
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
            Work::Dataset(DatasetWork { manifest, files: Vec::new(), times: None, graphs: None })
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
        check_files_of(external::ID, &planned).unwrap();
        std::fs::write(&script, "print(2)").unwrap();
        let error = check_files_of(external::ID, &planned).unwrap_err().to_string();
        assert!(error.contains("changed after the run was planned"), "{error}");
        check_files_of(external::ID, &settings()).unwrap();
        check_files_of("markov", &planned).unwrap();
        let weights = |hash: &str| {
            let mut settings = toml::Table::new();
            settings.insert("model".into(), script.display().to_string().into());
            settings.insert(in_context::WEIGHTS.into(), hash.into());
            settings
        };
        let planned = weights(&receipt::of_weights(&script).unwrap());
        check_files_of(in_context::ID, &planned).unwrap();
        let error = check_files_of(in_context::ID, &weights("")).unwrap_err().to_string();
        assert!(error.contains("these weights were changed after"), "{error}");
    }
}
