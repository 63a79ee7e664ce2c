//! Generators in any language: a process that is asked in lines of JSON (docs/adding-a-baseline.md).
//!
//! The harness writes the training graphs, starts the command in the baseline's folder, and asks it to
//! `describe` itself, to `fit`, to `load` and to `generate`. What goes wrong on the other side fails
//! that stage with the reason, and no other.

mod conformance;
mod process;
mod protocol;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use serde::{Deserialize, Serialize};

pub use self::conformance::{Finding, check};
use self::process::{Deadline, Process};
use self::protocol::{
    Answer, Calls, Description, MAX_CALLS, PROTOCOL, Refusal, Reply, Request, Wanted, WireCall,
    WireGraph,
};
use super::{
    Decoding, Entry, FitContext, FitReport, GenerateOptions, Generator, Recipe, no_checkpoint,
    settings,
};
use crate::check::within;
use crate::data::Dataset;
use crate::data::calls::{self, Group};
use crate::device::DeviceChoice;
use crate::display::excerpt;
use crate::error::UserError;
use crate::graph::{Condition, Generated, Violation, ViolationCode};
use crate::random;
use crate::version::Version;

/// Id in the registry; baselines of other languages are folders and need not say it.
pub const ID: &str = "external";

/// How a generator is started and kept in bounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The folder of its `baseline.toml`, in which it runs.
    pub folder: PathBuf,
    /// What starts it.
    pub command: Vec<String>,
    /// Commands that make it ready, once for each state of its files.
    #[serde(default)]
    pub build: Vec<Vec<String>>,
    #[serde(default)]
    pub limits: Limits,
    /// Hash of the files in the folder: a change makes its stages stale.
    #[serde(default)]
    pub receipt: String,
    /// Its own settings, passed on as they are.
    #[serde(default)]
    pub settings: toml::Table,
}

/// Limits on a generator's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Seconds for each build command.
    pub build: u64,
    /// Seconds for a training.
    pub fit: u64,
    /// Seconds without a reply, in all else.
    pub answer: u64,
    /// Seconds to end after its input has.
    pub end: u64,
    /// MiB of memory for each of its processes (heap and private mappings).
    pub memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { build: 1_800, fit: 7_200, answer: 120, end: 10, memory: 8_192 }
    }
}

/// Longest limit, seconds: a year.
const MAX_SECONDS: u64 = 365 * 24 * 3_600;
/// Most memory, MiB: a pebibyte.
const MAX_MEMORY: u64 = 1 << 30;

impl Limits {
    /// # Errors
    /// A limit that nothing keeps, or that no clock counts to, by its key.
    pub fn check(&self) -> Result<(), String> {
        let Self { build, fit, answer, end, memory } = *self;
        for (key, seconds) in [("build", build), ("fit", fit), ("answer", answer), ("end", end)] {
            within(&format!("limits.{key}"), seconds, 1..=MAX_SECONDS)?;
        }
        within("limits.memory", memory, 1..=MAX_MEMORY)
    }
}

/// What the registry says of it.
pub const ENTRY: Entry = Entry {
    id: ID,
    about: "a program in any language, asked in lines of JSON: baselines/NAME/baseline.toml",
    training: Version::new("train/external", 1),
    answers: Version::new("answer/external", 1),
    constrained: false,
    likelihood: false,
    tiny: None,
    build,
};

/// The recipe of an external generator.
///
/// # Errors
/// Settings that cannot be.
fn build(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    Ok(Box::new(program(table)?))
}

/// The program that a baseline's settings describe.
///
/// # Errors
/// Settings that cannot be.
pub fn program(table: &toml::Table) -> Result<Program> {
    let program: Program = settings(ID, table)?;
    let wrong = |message| UserError::setting(format!("generator `{ID}`: {message}"));
    if program.command.is_empty() || program.build.iter().any(Vec::is_empty) {
        let message = "`command` and each of `build` name a program and its arguments";
        return Err(wrong(message.to_owned()).into());
    }
    program.limits.check().map_err(wrong)?;
    Ok(program)
}

/// What the harness keeps beside an external model.
const RECEIPT: &str = "receipt.json";
/// The folder of the model's own files.
const FILES: &str = "files";
/// Requests in one message.
const BATCH: usize = 64;
/// Most notes of a training, and longest note.
const NOTES: usize = 20;
const NOTE_WIDTH: usize = 200;

impl Recipe for Program {
    fn fit(&self, context: &FitContext) -> Result<FitReport> {
        self.make_ready()?;
        let mut process = Process::start(self)?;
        let description = describe(&mut process, self.limits)?;
        let absolute = |path: &Path| std::path::absolute(path);
        let (model, scratch) = (absolute(&context.out.join(FILES))?, absolute(context.scratch)?);
        for folder in [&model, &scratch] {
            std::fs::create_dir_all(folder)
                .map_err(|error| UserError::io(folder, "cannot be made", error))?;
        }
        let (parquet, jsonl) = write_graphs(context.dataset, &scratch)?;
        process.ask(&Request::Fit {
            parquet: &parquet,
            jsonl: &jsonl,
            model: &model,
            scratch: &scratch,
            seed: context.seed,
            settings: &self.settings,
        })?;
        let deadline = Deadline::fit(&self.limits);
        let mut bar = None;
        let fitted = loop {
            match process.reply(deadline)? {
                Reply::Fit(fitted) => break fitted,
                Reply::Progress(advance) => {
                    let (bar, done) = bar.get_or_insert_with(|| {
                        (context.progress.step("training", "steps", advance.total), 0)
                    });
                    bar.inc(advance.done.saturating_sub(*done));
                    *done = advance.done.max(*done);
                }
                other => return Err(process.unexpected(&other, "`fit` or `progress`")),
            }
        };
        if let Some((bar, _)) = bar {
            bar.finish();
        }
        process.finish()?;
        let text = serde_json::to_string_pretty(&description)? + "\n";
        std::fs::write(context.out.join(RECEIPT), text)?;
        let Description { name, version, .. } = description;
        let mut notes = vec![("version".to_owned(), short(&format!("{name} {version}")))];
        let own = fitted.notes.iter().take(NOTES);
        notes.extend(own.map(|(key, value)| (short(key), short(value))));
        let parameters = fitted.parameters;
        Ok(FitReport { parameters, tokens: 0, checkpoints: Vec::new(), notes })
    }

    fn load(
        &self,
        dir: &Path,
        checkpoint: Option<u64>,
        _device: DeviceChoice,
    ) -> Result<Box<dyn Generator>> {
        no_checkpoint(ID, checkpoint)?;
        self.make_ready()?;
        let path = dir.join(RECEIPT);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| UserError::io(&path, "cannot be read", error))?;
        let trained: Description =
            serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let mut process = Process::start(self)?;
        let found = describe(&mut process, self.limits)?;
        ensure!(
            found == trained,
            "it was trained as {} {} and is {} {} now: change any of its files, so that it is trained again",
            trained.name,
            trained.version,
            found.name,
            found.version
        );
        let model = std::path::absolute(dir.join(FILES))?;
        process.ask(&Request::Load { model: &model, settings: &self.settings })?;
        match process.reply(Deadline::answer(&self.limits))? {
            Reply::Load(_) => {}
            other => return Err(process.unexpected(&other, "`load`")),
        }
        Ok(Box::new(Loaded { process: Mutex::new(process), limits: self.limits }))
    }
}

impl Program {
    /// Runs the build commands, unless they have been run for the files as they are.
    fn make_ready(&self) -> Result<()> {
        if self.build.is_empty() {
            return Ok(());
        }
        let lock = std::fs::File::create(self.folder.join(".tracegym-lock"))?;
        // Two trainings of the same baseline may start at once.
        lock.lock()?;
        let stamp = self.folder.join(".tracegym-built");
        if std::fs::read_to_string(&stamp).is_ok_and(|built| built == self.receipt) {
            return Ok(());
        }
        let log = self.folder.join(".tracegym-build.log");
        let _ = std::fs::remove_file(&log);
        for words in &self.build {
            process::build(&self.folder, words, Duration::from_secs(self.limits.build), &log)?;
        }
        Ok(std::fs::write(stamp, &self.receipt)?)
    }
}

fn describe(process: &mut Process, limits: Limits) -> Result<Description> {
    process.ask(&Request::Describe { protocol: PROTOCOL })?;
    match process.reply(Deadline::answer(&limits))? {
        Reply::Describe(description) if description.protocol == PROTOCOL => Ok(description),
        Reply::Describe(other) => Err(process.fault(&format!(
            "after `describe`: it speaks protocol {}, and this is {PROTOCOL}",
            other.protocol
        ))),
        other => Err(process.unexpected(&other, "`describe`")),
    }
}

/// Writes the training graphs in both forms.
fn write_graphs(dataset: &Dataset, dir: &Path) -> Result<(PathBuf, PathBuf)> {
    use std::io::Write;
    let (parquet, jsonl) = (dir.join("train.parquet"), dir.join("train.jsonl"));
    let train = dataset.train();
    let groups: Vec<Group> = (0u32..)
        .zip(&train)
        .map(|(graph, one)| Group { graph, service: one.service().clone(), rows: one.rows() })
        .collect();
    calls::write(&parquet, &mut calls::to_frame(&groups)?)?;
    let mut lines = std::io::BufWriter::new(std::fs::File::create(&jsonl)?);
    for Group { service, rows, .. } in groups {
        let calls = rows.into_iter().map(WireCall::from).collect();
        serde_json::to_writer(&mut lines, &WireGraph { service, calls })?;
        lines.write_all(b"\n")?;
    }
    lines.flush()?;
    Ok((parquet, jsonl))
}

fn short(text: &str) -> String {
    excerpt(text, NOTE_WIDTH)
}

/// A generator that is ready to answer.
struct Loaded {
    process: Mutex<Process>,
    limits: Limits,
}

impl Generator for Loaded {
    fn generate(
        &self,
        conditions: &[Condition],
        options: &GenerateOptions,
    ) -> Result<Vec<Generated>> {
        ensure!(options.decoding == Decoding::Free, "`{ID}` cannot decode under constraints");
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = options.progress.step("generating", "graphs", conditions.len() as u64);
        let mut answers: Vec<Option<Generated>> = vec![None; conditions.len()];
        for first in (0..conditions.len()).step_by(BATCH) {
            let last = (first + BATCH).min(conditions.len());
            let wanted = |index: usize| {
                let mut rng = random::stream(options.seed, ID, &[index as u64]);
                Wanted::new(index, rng.random(), &conditions[index])
            };
            process.ask(&Request::Generate {
                temperature: options.sampling.temperature,
                top_k: options.sampling.top_k,
                requests: (first..last).map(wanted).collect(),
            })?;
            for _ in first..last {
                let reply = process.reply(Deadline::answer(&self.limits))?;
                let (index, answer) = match reply {
                    Reply::Graph(Answer { index, calls: Calls { total, .. } })
                        if total > MAX_CALLS =>
                    {
                        let text = format!("{total} calls; at most {MAX_CALLS} are read");
                        let failure = Some(Violation::new(ViolationCode::Truncated, text));
                        (index, Generated { failure, ..Generated::default() })
                    }
                    Reply::Graph(Answer { index, calls: Calls { read, .. } }) => {
                        let rows = read.into_iter().map(WireCall::row);
                        let rows = rows.collect::<Result<Vec<_>, String>>();
                        let wrong = |what| process.fault(&format!("request {index}: {what}"));
                        (index, Generated::complete(rows.map_err(wrong)?))
                    }
                    Reply::Failed(Refusal { index, reason }) => {
                        let failure = Violation::new(ViolationCode::NoReply, short(&reason));
                        (index, Generated { failure: Some(failure), ..Generated::default() })
                    }
                    other => return Err(process.unexpected(&other, "`graph` or `failed`")),
                };
                let place = answers[first..last].get_mut(index.wrapping_sub(first));
                match place {
                    Some(place @ None) => *place = Some(answer),
                    Some(_) => {
                        return Err(process.fault(&format!("request {index} is answered twice")));
                    }
                    None => {
                        let asked = format!("{first} to {}", last - 1);
                        let text = format!("an answer to request {index}; open are {asked}");
                        return Err(process.fault(&text));
                    }
                }
                bar.inc(1);
            }
        }
        bar.finish();
        answers.into_iter().map(|answer| answer.context("a request has no answer")).collect()
    }
}
