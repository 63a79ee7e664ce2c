//! Runs the stages of a plan as child processes: several at once, each with its share of threads,
//! and none of them outliving this process.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indexmap::{IndexMap, IndexSet};
use serde::{Deserialize, Serialize};

use super::cache::{Cache, Condition, Key};
use super::contents::Reading;
use super::plan::{ExperimentPlan, Plan, Stage};
use super::show::ProgressDisplay;
use super::work::{StageSpec, Work};
use crate::error::{UserError, is_by_user};
use crate::progress::{Progress, Report};
use crate::{durable, process};

/// How to run a plan.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// Stages at once.
    pub jobs: usize,
    /// Threads to share among them.
    pub threads: usize,
    pub progress: Progress,
    /// Stop when all generators are trained.
    pub train_only: bool,
}

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Stages that ran and succeeded.
    pub ran: usize,
    /// Label and reason of every stage that failed by itself, and of every experiment that could not
    /// be published.
    pub failures: Vec<(String, String)>,
    /// Whether all of them are mistakes of the user.
    pub by_user: bool,
    /// Stages that could not run because an input of theirs failed.
    pub blocked: usize,
    /// Stages that an interruption left to do, when there was one.
    pub interrupted: Option<usize>,
}

/// Lines that a stage's process writes to standard output.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    Failure {
        error: String,
        /// Whether it is a mistake of the user.
        by_user: bool,
    },
    Progress(Report),
}

enum Event {
    Line(usize, Line),
    Stderr(usize, String),
    Ended(usize),
}

/// How long a stage may take to end what it has started, before it is killed.
const GRACE: Duration = Duration::from_secs(5);

struct Running {
    key: Key,
    child: Child,
    started: Instant,
    failure: Option<String>,
    /// The last lines of standard error: all that is known of a crash.
    stderr: Vec<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        process::stop(&mut self.child, GRACE);
    }
}

struct Scheduler<'a> {
    plan: &'a Plan,
    cache: &'a Cache,
    options: RunOptions,
    stages: IndexMap<Key, Stage>,
    /// Stages to run, inputs before those who need them.
    wanted: IndexSet<Key>,
    /// What became of a stage: `None` is success.
    settled: HashMap<Key, Option<String>>,
    running: HashMap<usize, Running>,
    started: IndexSet<Key>,
    /// How many stages were started: the number of the next.
    starts: usize,
    /// Stages that nothing needs which were looked at.
    looked_at: HashSet<Key>,
    /// Stages whose outputs were read as a whole and are as they were written.
    sound: HashSet<Key>,
    /// Stages that ran, or wait to run, in place of damaged outputs.
    again: HashSet<Key>,
    /// Stages that failed by a mistake of the user.
    by_user: IndexSet<Key>,
    /// Experiments that could not be published: why, and whether that is the user's to mend.
    unpublished: Vec<(String, String, bool)>,
    display: ProgressDisplay,
    events: (Sender<Event>, Receiver<Event>),
}

/// Called with each experiment whose report is there.
pub type Reported<'a> = dyn FnMut(&ExperimentPlan, &Stage) -> Result<Option<String>> + 'a;

/// Runs every stage of `plan` that `cache` does not have whole. `reported` publishes an experiment and
/// may return a line to show.
///
/// # Errors
/// Only what keeps stages from being run at all; a failed stage or publication is in the [`Outcome`].
pub fn run(
    plan: &Plan,
    cache: &Cache,
    options: RunOptions,
    reported: &mut Reported,
) -> Result<Outcome> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second one ends this process at once (and with it the stages).
        signal_hook::flag::register_conditional_shutdown(signal, 130, interrupted.clone())?;
        signal_hook::flag::register(signal, interrupted.clone())?;
    }
    let mut scheduler = Scheduler {
        plan,
        cache,
        options,
        stages: plan.stages.clone(),
        wanted: IndexSet::new(),
        settled: HashMap::new(),
        running: HashMap::new(),
        started: IndexSet::new(),
        starts: 0,
        looked_at: HashSet::new(),
        sound: HashSet::new(),
        again: HashSet::new(),
        by_user: IndexSet::new(),
        unpublished: Vec::new(),
        display: ProgressDisplay::new(options.progress),
        events: channel(),
    };
    // What a stage leaves behind when it is killed is ended here.
    process::adopt_orphans();
    let outcome = scheduler.run(&interrupted, reported);
    scheduler.stop();
    outcome
}

impl Scheduler<'_> {
    fn run(&mut self, interrupted: &AtomicBool, reported: &mut Reported) -> Result<Outcome> {
        let plan = self.plan;
        let train_only = self.options.train_only;
        // A training is over when it is known which of its checkpoints is the model.
        let is_training =
            |stage: &&Stage| matches!(stage.work, Work::Train(_) | Work::CheckpointSelection(_));
        let trainings = plan.stages.values().filter(is_training);
        let awaited: Vec<Key> = if train_only {
            trainings.map(|stage| stage.key.clone()).collect()
        } else {
            plan.experiments.iter().flat_map(ExperimentPlan::awaited).collect()
        };
        awaited.iter().for_each(|key| self.want(key));
        let mut reports: Vec<Option<Key>> = vec![None; plan.experiments.len()];
        let mut published = vec![false; plan.experiments.len()];
        loop {
            self.give_up_on_the_impossible();
            let experiments = if train_only { &[][..] } else { &plan.experiments };
            for (index, experiment) in experiments.iter().enumerate() {
                self.report(experiment, &mut reports[index])?;
                if let Some(key) = &reports[index]
                    && !published[index]
                    && let Some(status) = self.settled.get(key)
                {
                    published[index] = true;
                    if status.is_none() {
                        self.publish(experiment, &self.stages[key].clone(), reported);
                    }
                }
            }
            if interrupted.load(Ordering::Relaxed) {
                break;
            }
            self.start_ready();
            if self.settled_wanted() == self.wanted.len() {
                break;
            }
            self.wait();
        }
        self.stop();
        self.display.clear();
        Ok(self.outcome(interrupted.load(Ordering::Relaxed)))
    }

    /// Ends all stages, and all that they have started.
    fn stop(&mut self) {
        // First all of them, so that they end at once and not one after the other.
        self.running.values().for_each(|running| process::ask_to_end(&running.child));
        self.running.clear();
        process::end_descendants(&[]);
    }

    fn outcome(&self, interrupted: bool) -> Outcome {
        let failed = self.stages.values().filter_map(|stage| {
            let reason = self.settled.get(&stage.key)?.clone()?;
            Some((stage, reason))
        });
        let (failures, blocked): (Vec<_>, Vec<_>) =
            failed.partition(|(stage, _)| self.started.contains(&stage.key));
        let succeeded = |key: &&Key| matches!(self.settled.get(*key), Some(None));
        let left = self.wanted.len() - self.settled_wanted();
        let by_user = failures.iter().all(|(stage, _)| self.by_user.contains(&stage.key))
            && self.unpublished.iter().all(|(_, _, by_user)| *by_user);
        let failures = failures.into_iter().map(|(stage, reason)| (stage.label.clone(), reason));
        let unpublished =
            self.unpublished.iter().map(|(id, reason, _)| (id.clone(), reason.clone()));
        Outcome {
            ran: self.started.iter().filter(succeeded).count(),
            failures: failures.chain(unpublished).collect(),
            by_user,
            blocked: blocked.len(),
            interrupted: interrupted.then_some(left),
        }
    }

    fn settled_wanted(&self) -> usize {
        self.wanted.iter().filter(|key| self.settled.contains_key(*key)).count()
    }

    /// Publishes a report. What cannot be published now, such as on a full disk, keeps nothing else from
    /// being run: it is in the cache.
    fn publish(&mut self, experiment: &ExperimentPlan, report: &Stage, reported: &mut Reported) {
        match reported(experiment, report) {
            Ok(Some(line)) => self.display.say(&line),
            Ok(None) => {}
            Err(error) => {
                let label = format!("results of {}", experiment.experiment.id);
                let reason = format!("{error:#}");
                self.display.say(&format!("{label}: failed: {reason}"));
                self.unpublished.push((label, reason, is_by_user(&error)));
            }
        }
    }

    /// Adds a stage to those to run, after its inputs, unless the cache has it whole.
    fn want(&mut self, key: &Key) {
        self.look(key, true);
    }

    /// Adds a stage, and those behind it, to those to run: one that is `needed` unless it is whole, and
    /// another only if it is damaged, but not if it is gone: who needs room may remove it.
    fn look(&mut self, key: &Key, needed: bool) {
        let is_known = self.settled.contains_key(key) || self.wanted.contains(key);
        if is_known || (!needed && !self.looked_at.insert(key.clone())) {
            return;
        }
        let Some(stage) = self.stages.get(key) else { return };
        // A report is read as a whole to be published.
        let read = match stage.work {
            Work::Report(_) => Reading::Everything,
            _ => Reading::Nothing,
        };
        let condition = self.cache.condition(stage.work.kind(), key, read);
        let inputs = stage.work.inputs();
        let runs = match condition {
            Condition::Whole => false,
            Condition::Absent => needed,
            Condition::Damaged(_) => true,
        };
        inputs.iter().for_each(|input| self.look(input, runs));
        if runs {
            self.wanted.insert(key.clone());
            self.tell_damage(key, &condition);
        } else if condition == Condition::Whole {
            self.settled.insert(key.clone(), None);
        }
    }

    fn tell_damage(&mut self, key: &Key, condition: &Condition) {
        let Condition::Damaged(damage) = condition else { return };
        let stage = &self.stages[key];
        let place = self.cache.outputs(stage.work.kind(), key);
        let place = place.display();
        self.display.warn(&format!(
            "{}: its outputs in {place} are damaged: {damage}; it runs again",
            stage.label
        ));
        self.again.insert(key.clone());
    }

    /// Whether the outputs that a stage reads are as they were written. The stages of those that are not
    /// run again, once.
    fn inputs_are_sound(&mut self, key: &Key) -> bool {
        let work = self.stages[key].work.clone();
        let mut all = true;
        for input in work.inputs() {
            let Some(stage) = self.stages.get(&input) else { continue };
            let kind = stage.work.kind();
            let read = match work.reads(kind) {
                Reading::Everything if self.sound.contains(&input) => Reading::Nothing,
                read => read,
            };
            let condition = self.cache.condition(kind, &input, read);
            match condition {
                Condition::Whole if matches!(read, Reading::Everything) => {
                    self.sound.insert(input);
                }
                Condition::Whole => {}
                Condition::Absent | Condition::Damaged(_) => {
                    all = false;
                    self.run_again(&input, &condition);
                }
            }
        }
        all
    }

    fn run_again(&mut self, key: &Key, condition: &Condition) {
        self.sound.remove(key);
        self.settled.remove(key);
        self.wanted.shift_remove(key);
        if self.again.contains(key) {
            let damage = match condition {
                Condition::Damaged(damage) => damage.to_string(),
                Condition::Absent | Condition::Whole => "they are gone".to_owned(),
            };
            let reason = format!(
                "its outputs are damaged again after it ran in place of damaged ones ({damage}): check the disk"
            );
            self.display.say(&format!("{}: failed: {reason}", self.stages[key].label));
            self.wanted.insert(key.clone());
            self.started.insert(key.clone());
            self.settled.insert(key.clone(), Some(reason));
            return;
        }
        self.again.insert(key.clone());
        for input in self.stages[key].work.inputs() {
            self.want(&input);
        }
        self.wanted.insert(key.clone());
        self.tell_damage(key, condition);
    }

    /// Wants the report of an experiment as soon as nothing that it awaits is open.
    fn report(&mut self, experiment: &ExperimentPlan, report: &mut Option<Key>) -> Result<()> {
        let awaited = experiment.awaited();
        if report.is_some() || !awaited.iter().all(|key| self.settled.contains_key(key)) {
            return Ok(());
        }
        let stage = experiment.report(|key| self.settled.get(key).cloned().flatten())?;
        let key = stage.key.clone();
        self.stages.insert(key.clone(), stage);
        self.want(&key);
        *report = Some(key);
        Ok(())
    }

    /// A stage whose input failed fails for the same reason.
    fn give_up_on_the_impossible(&mut self) {
        for key in self.wanted.clone() {
            if self.settled.contains_key(&key) {
                continue;
            }
            let inputs = self.stages[&key].work.inputs();
            let reason = inputs.iter().find_map(|input| {
                let reason = self.settled.get(input)?.as_ref()?;
                let label = &self.stages.get(input)?.label;
                let root = self.started.contains(input);
                Some(if root { format!("{label} failed: {reason}") } else { reason.clone() })
            });
            if reason.is_some() {
                self.settled.insert(key, reason);
            }
        }
    }

    /// Stages whose inputs are there, those with most to do first.
    fn ready(&self) -> Vec<Key> {
        let is_there = |key: &Key| match self.settled.get(key) {
            Some(status) => status.is_none(),
            None => !self.wanted.contains(key),
        };
        let mut ready: Vec<&Stage> = self
            .wanted
            .iter()
            .filter(|key| !self.settled.contains_key(*key) && !self.is_running(key))
            .map(|key| &self.stages[key])
            .filter(|stage| stage.work.inputs().iter().all(is_there))
            .collect();
        // Then those that end something: results should appear as early as they can.
        ready.sort_by_key(|stage| if stage.parallel { 0 } else { stage.work.order() });
        ready.into_iter().map(|stage| stage.key.clone()).collect()
    }

    fn is_running(&self, key: &Key) -> bool {
        self.running.values().any(|running| running.key == *key)
    }

    fn start_ready(&mut self) {
        let ready = self.ready();
        let parallel = |key: &Key| self.stages[key].parallel;
        let running = self.running.values().filter(|running| parallel(&running.key)).count();
        let parallel_stages = running + ready.iter().filter(|key| parallel(key)).count();
        let share = parallel_stages.clamp(1, self.options.jobs.max(1));
        let threads = (self.options.threads / share).max(1);
        for key in ready {
            if self.running.len() >= self.options.jobs {
                break;
            }
            if !self.inputs_are_sound(&key) {
                continue;
            }
            if let Err(error) =
                self.start(&key, if self.stages[&key].parallel { threads } else { 1 })
            {
                let reason = format!("{error:#}");
                self.display.say(&format!("{}: failed: {reason}", self.stages[&key].label));
                self.by_user.extend(is_by_user(&error).then(|| key.clone()));
                self.settled.insert(key, Some(reason));
            }
        }
    }

    fn start(&mut self, key: &Key, threads: usize) -> Result<()> {
        self.started.insert(key.clone());
        let stage = &self.stages[key];
        let spec = StageSpec {
            key: key.clone(),
            label: stage.label.clone(),
            work: stage.work.clone(),
            cache: self.cache.dir().to_owned(),
            options: self.plan.execution.clone(),
            threads,
        };
        let path = self.cache.spec(key);
        durable::create_folder(path.parent().unwrap_or(self.cache.dir()))?;
        std::fs::write(&path, serde_json::to_string_pretty(&spec)?)
            .map_err(|error| UserError::io(&path, "cannot be written", error))?;
        let mut child = spawn(&path, threads)?;
        let index = self.starts;
        self.starts += 1;
        listen(index, &mut child, &self.events.0);
        let reports = self.wanted.iter().filter(|key| !self.plan.stages.contains_key(*key)).count();
        let experiments = if self.options.train_only { 0 } else { self.plan.experiments.len() };
        let to_come = experiments - reports.min(experiments);
        let of = self.wanted.len() + to_come;
        self.display.started(index, &stage.label, self.started.len(), of);
        let running = Running {
            key: key.clone(),
            child,
            started: Instant::now(),
            failure: None,
            stderr: Vec::new(),
        };
        self.running.insert(index, running);
        Ok(())
    }

    /// Waits for one event, or a moment, so that an interruption is noticed.
    fn wait(&mut self) {
        let event = match self.events.1.recv_timeout(Duration::from_millis(100)) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        };
        match event {
            Event::Line(index, Line::Progress(report)) => self.display.progress(index, &report),
            Event::Line(index, Line::Failure { error, by_user }) => {
                if let Some(running) = self.running.get_mut(&index) {
                    running.failure = Some(error);
                    self.by_user.extend(by_user.then(|| running.key.clone()));
                }
            }
            Event::Stderr(index, line) => {
                if let Some(running) = self.running.get_mut(&index) {
                    self.display.say(&format!("{}: {line}", self.stages[&running.key].label));
                    running.stderr.push(line);
                    if running.stderr.len() > 20 {
                        running.stderr.remove(0);
                    }
                }
            }
            Event::Ended(index) => self.ended(index),
        }
    }

    fn ended(&mut self, index: usize) {
        let Some(mut running) = self.running.remove(&index) else { return };
        let status = running.child.wait();
        let others: Vec<u32> = self.running.values().map(|other| other.child.id()).collect();
        process::end_descendants(&others);
        let stage = &self.stages[&running.key];
        let done = self.cache.is_done(stage.work.kind(), &stage.key);
        // Hashed when they were written; from now on, only what has changed since is read again.
        self.sound.extend(done.then(|| stage.key.clone()));
        let failure = match (status, running.failure.take()) {
            (Ok(status), _) if status.success() && done => None,
            (_, Some(failure)) => Some(failure),
            (Ok(status), None) => {
                let mut reason = format!("its process ended with {status}");
                if let Some(panic) =
                    running.stderr.iter().position(|line| line.contains("panicked"))
                {
                    reason = format!("crashed: {}", running.stderr[panic..].join(" "));
                }
                Some(reason)
            }
            (Err(error), None) => Some(error.to_string()),
        };
        self.display.ended(index, running.started.elapsed(), failure.as_deref());
        self.settled.insert(running.key.clone(), failure);
    }
}

/// Settings of glibc's allocator, which reads them at the start of a process.
const TUNABLES: &str = "GLIBC_TUNABLES";
/// Huge pages for what is allocated, where the kernel leaves that to programs: +5 % in training and
/// decoding (docs/performance.md).
const HUGE_PAGES: &str = "glibc.malloc.hugetlb=1";

fn spawn(spec: &Path, threads: usize) -> Result<Child> {
    let mut command = this_program()?;
    command
        .args(["stage", "--spec"])
        .arg(spec)
        .env("RAYON_NUM_THREADS", threads.to_string())
        .env("POLARS_MAX_THREADS", threads.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if std::env::var_os(TUNABLES).is_none() {
        command.env(TUNABLES, HUGE_PAGES);
    }
    process::contain(&mut command, process::Orphaned::Asked);
    command.spawn().context("a stage's process cannot be started")
}

/// This program as it runs, even if its file has been replaced or removed since: a build during a long run
/// must not end it, nor let some of its stages run other code.
#[cfg(target_os = "linux")]
fn this_program() -> Result<Command> {
    use std::os::unix::process::CommandExt;
    let running = Path::new("/proc/self/exe");
    if !running.exists() {
        return named_program();
    }
    let mut command = Command::new(running);
    // What lists of processes show.
    command.arg0(std::env::args_os().next().unwrap_or_else(|| "tracegym".into()));
    Ok(command)
}

#[cfg(not(target_os = "linux"))]
fn this_program() -> Result<Command> {
    named_program()
}

/// The program by its name, where the system has no other way to start it.
fn named_program() -> Result<Command> {
    Ok(Command::new(std::env::current_exe().context("the path of this program")?))
}

/// Turns what a child writes, and its end, into events.
fn listen(index: usize, child: &mut Child, events: &Sender<Event>) {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let events = events.clone();
    std::thread::spawn(move || {
        let stderr_events = events.clone();
        let errors = std::thread::spawn(move || {
            each_line(stderr, |line| {
                let _ = stderr_events.send(Event::Stderr(index, line));
            });
        });
        each_line(stdout, |line| {
            if let Ok(line) = serde_json::from_str(&line) {
                let _ = events.send(Event::Line(index, line));
            }
        });
        let _ = errors.join();
        let _ = events.send(Event::Ended(index));
    });
}

fn each_line(source: Option<impl Read>, mut each: impl FnMut(String)) {
    let Some(source) = source else { return };
    for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
        each(String::from_utf8_lossy(&line).trim_end().to_owned());
    }
}
