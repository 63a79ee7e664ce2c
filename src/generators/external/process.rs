//! An external generator's process: lines in and out, with limits on time, memory and length. Whatever
//! it does, it costs its own result and nothing else.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::protocol::{Reply, Request};
use super::{Limits, Program};
use crate::display::excerpt;
use crate::process::{self, Orphaned, wait};
use crate::secret::{self, Redactor};

/// Longest line that is read.
const MAX_LINE: u64 = 16 << 20;
/// Lines that wait to be looked at. With the one that is read and the one that is looked at, a
/// generator takes at most four times [`MAX_LINE`] of memory here; then it has to wait itself.
const WAITING: usize = 2;
/// What is kept of standard error.
const STDERR_LINES: usize = 20;
/// How long standard error may take to arrive: of a process that goes on, and of one that ended.
const LAST_WORDS: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(2)];
/// Characters that are quoted of anything it says.
pub const WIDTH: usize = 400;
/// Variables of the environment that a generator sees: results must not depend on more.
const VARIABLES: [&str; 10] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "RAYON_NUM_THREADS",
    "VIRTUAL_ENV",
];

/// When a generator must have replied, and how it is told that it has not.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// `None`: later than clocks can tell.
    at: Option<Instant>,
    seconds: u64,
    what: &'static str,
    /// The setting that says so.
    limit: &'static str,
}

impl Deadline {
    fn in_seconds(seconds: u64, what: &'static str, limit: &'static str) -> Self {
        let at = Instant::now().checked_add(Duration::from_secs(seconds));
        Self { at, seconds, what, limit }
    }

    /// For the end of a training that begins now.
    pub fn fit(limits: &Limits) -> Self {
        Self::in_seconds(limits.fit, "not done after", "limits.fit")
    }

    /// For the next reply.
    pub fn answer(limits: &Limits) -> Self {
        Self::in_seconds(limits.answer, "no reply for", "limits.answer")
    }

    fn left(&self) -> Duration {
        self.at.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, what, limit, .. } = self;
        write!(f, "{what} {seconds} s ({limit} in baseline.toml)")
    }
}

enum Event {
    Line(String),
    /// Why no line follows.
    End(String),
}

/// A running generator. Dropping it kills it and whatever it has started.
pub struct Process {
    child: Child,
    requests: Sender<Vec<u8>>,
    events: Receiver<Event>,
    stderr: Arc<Mutex<VecDeque<String>>>,
    /// Disconnected when standard error has been read to its end.
    stderr_open: Receiver<()>,
    /// Standard output has been read to its end.
    ended: bool,
    /// Name of the last request.
    asked: &'static str,
    limits: Limits,
}

impl Process {
    /// # Errors
    /// A command that does not start.
    pub fn start(program: &Program) -> Result<Self> {
        let mut command = command(&program.folder, &program.command)?;
        command.env_clear();
        for name in VARIABLES {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        // Python's sets in a fixed order, and its output line by line.
        command.env("PYTHONHASHSEED", "0").env("PYTHONUNBUFFERED", "1");
        if let Some(threads) = std::env::var_os("RAYON_NUM_THREADS") {
            command.env("OMP_NUM_THREADS", threads);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        process::contain(&mut command, Orphaned::Killed);
        if let Some(message) = limit_memory(&mut command, program.limits.memory) {
            // Once is enough, however often it is started.
            static SAID: Once = Once::new();
            SAID.call_once(|| eprintln!("{message}"));
        }
        let mut child = command
            .spawn()
            .map_err(|error| anyhow!("`{}` does not start: {error}", program.command.join(" ")))?;
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        let Channels { requests, events, stderr_open } = connect(&mut child, &stderr)?;
        let (ended, asked, limits) = (false, "start", program.limits);
        Ok(Self { child, requests, events, stderr, stderr_open, ended, asked, limits })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// A request that cannot be written as JSON.
    pub fn ask(&mut self, request: &Request) -> Result<()> {
        self.asked = request.name();
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        // A process that has ended is noticed when it is listened to.
        let _ = self.requests.send(line);
        Ok(())
    }

    /// The next reply, before the limit is reached.
    ///
    /// # Errors
    /// Silence, the end of the process, a line that is not a reply, or its own report of an error;
    /// each with what it wrote to standard error.
    pub fn reply(&mut self, until: Deadline) -> Result<Reply> {
        let asked = self.asked;
        let line = match self.events.recv_timeout(until.left()) {
            Ok(Event::Line(line)) => line,
            Ok(Event::End(reason)) => {
                self.ended = true;
                let status = self.status();
                return Err(self.fault(&format!("after `{asked}`: {reason}{status}")));
            }
            Err(RecvTimeoutError::Timeout) => {
                return Err(self.fault(&format!("after `{asked}`: {until}")));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(self.fault(&format!("after `{asked}`: it cannot be listened to")));
            }
        };
        match serde_json::from_str(&line) {
            Ok(Reply::Error(trouble)) => {
                let message = excerpt(&trouble.message, WIDTH);
                Err(self.fault(&format!("after `{asked}`: it reports: {message}")))
            }
            Ok(reply) => Ok(reply),
            Err(error) => {
                // The reason may repeat what is wrong, at any length.
                let (error, line) = (excerpt(&error.to_string(), WIDTH), excerpt(&line, WIDTH));
                Err(self.fault(&format!("after `{asked}`: not a reply ({error}): {line}")))
            }
        }
    }

    /// The next reply about `asked`; `what` it should be is told if it is another.
    pub fn unexpected(&self, reply: &Reply, what: &str) -> anyhow::Error {
        let (asked, found) = (self.asked, reply.name());
        self.fault(&format!("after `{asked}`: `{found}` in place of {what}"))
    }

    /// An error with the end of standard error.
    pub fn fault(&self, reason: &str) -> anyhow::Error {
        // What it wrote last may still be on its way.
        let _ = self.stderr_open.recv_timeout(LAST_WORDS[usize::from(self.ended)]);
        let lines = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            anyhow!("{reason}")
        } else {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            anyhow!("{reason}; standard error: {}", lines.join(" | "))
        }
    }

    /// How the process ended, if it did.
    fn status(&mut self) -> String {
        wait(&mut self.child, Duration::from_secs(1))
            .map_or_else(String::new, |status| format!(" ({status})"))
    }

    /// Closes standard input and waits for the end.
    ///
    /// # Errors
    /// A process that goes on, or ends with a failure.
    pub fn finish(mut self) -> Result<()> {
        let (nobody, _) = channel();
        drop(std::mem::replace(&mut self.requests, nobody));
        let patience = Duration::from_secs(self.limits.end);
        match wait(&mut self.child, patience) {
            Some(status) if status.success() => Ok(()),
            Some(status) => {
                Err(self.fault(&format!("after the end of input: it ends with {status}")))
            }
            None => Err(self.fault(&format!(
                "after the end of input: it still runs after {} s; it should end",
                patience.as_secs()
            ))),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        process::kill(&mut self.child);
    }
}

/// What the threads of [`connect`] are spoken to with.
struct Channels {
    requests: Sender<Vec<u8>>,
    events: Receiver<Event>,
    stderr_open: Receiver<()>,
}

/// Threads that write requests, read replies and keep the end of standard error. They end with the
/// process.
fn connect(child: &mut Child, stderr: &Arc<Mutex<VecDeque<String>>>) -> Result<Channels> {
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut input), Some(output), Some(errors)) = pipes else {
        return Err(anyhow!("the process has no pipes"));
    };
    let (requests, to_write) = channel::<Vec<u8>>();
    std::thread::spawn(move || {
        for line in to_write {
            if input.write_all(&line).and_then(|()| input.flush()).is_err() {
                break;
            }
        }
    });
    let (found, events) = sync_channel(WAITING);
    std::thread::spawn(move || listen(output, &found));
    let stderr = stderr.clone();
    let (open, stderr_open) = channel();
    std::thread::spawn(move || {
        let _open: Sender<()> = open;
        each_line(errors, |line| {
            let mut lines = stderr.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push_back(excerpt(&line, WIDTH));
            if lines.len() > STDERR_LINES {
                lines.pop_front();
            }
        });
    });
    Ok(Channels { requests, events, stderr_open })
}

/// Sends every line of `output`, and at last why there are no more.
fn listen(output: impl Read, found: &SyncSender<Event>) {
    let mut reader = BufReader::new(output);
    let end = loop {
        let mut line = Vec::new();
        match (&mut reader).take(MAX_LINE + 1).read_until(b'\n', &mut line) {
            Err(error) => break format!("its output broke off: {error}"),
            Ok(0) => break "it ended".to_owned(),
            Ok(_) if line.len() as u64 > MAX_LINE => {
                break format!("a line is longer than {} MiB", MAX_LINE >> 20);
            }
            Ok(_) => {}
        }
        if !line.ends_with(b"\n") {
            break "it ended in the middle of a line".to_owned();
        }
        match String::from_utf8(line) {
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => {
                if found.send(Event::Line(line)).is_err() {
                    return;
                }
            }
            Err(_) => break "a line is not UTF-8".to_owned(),
        }
    };
    let _ = found.send(Event::End(end));
}

/// Calls `each` with every line, cut where one is endless.
fn each_line(source: impl Read, mut each: impl FnMut(String)) {
    let mut reader = BufReader::new(source);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(1 << 16).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => each(String::from_utf8_lossy(&line).trim_end().to_owned()),
        }
    }
}

/// `words` as a command in `folder`; a program with a slash in its name lies below the folder.
fn command(folder: &Path, words: &[String]) -> Result<Command> {
    let folder = std::path::absolute(folder)?;
    let (program, arguments) = words.split_first().ok_or_else(|| anyhow!("an empty command"))?;
    let program = if program.contains('/') { folder.join(program) } else { PathBuf::from(program) };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    Ok(command)
}

/// The memory that a program may have (bytes), and what to say where that is less than `wanted` (MiB)
/// because the system permits no more.
fn permitted(wanted: u64, hard: Option<u64>) -> (u64, Option<String>) {
    let bytes = wanted.saturating_mul(1 << 20);
    match hard {
        Some(hard) if hard < bytes => {
            let message = format!(
                "limits.memory = {wanted} MiB is above the hard limit of this system (`ulimit -Hd`), {} MiB, which holds instead",
                hard >> 20
            );
            (hard, Some(message))
        }
        _ => (bytes, None),
    }
}

/// Limits the heap and private mappings of the program that `command` starts; returns what to say if
/// the limit is not the one that was asked for.
#[cfg(target_os = "linux")]
fn limit_memory(command: &mut Command, wanted: u64) -> Option<String> {
    use std::os::unix::process::CommandExt;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: getrlimit only writes to the struct that it is given.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_DATA, &raw mut limit) } == 0;
    let hard = (known && limit.rlim_max != libc::RLIM_INFINITY).then_some(limit.rlim_max);
    let (bytes, message) = permitted(wanted, hard);
    // SAFETY: setrlimit is async-signal-safe, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
            match libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    message
}

#[cfg(not(target_os = "linux"))]
fn limit_memory(_command: &mut Command, _wanted: u64) -> Option<String> {
    None
}

/// Runs a build command to its end; its output goes to `log`.
///
/// # Errors
/// A command that does not start, fails or takes too long, with the end of what it said.
pub fn build(folder: &Path, words: &[String], limit: Duration, log: &Path) -> Result<()> {
    let mut command = command(folder, words)?;
    let file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    // Installing may take any memory; the limit is for what is installed.
    process::contain(&mut command, Orphaned::Killed);
    let text = secret::without_users(&words.join(" "));
    let mut child =
        command.spawn().map_err(|error| anyhow!("build: `{text}` does not start: {error}"))?;
    let status = wait(&mut child, limit);
    // Also what a command that ended has left behind.
    process::kill(&mut child);
    let said = std::fs::read(log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    // It has seen the whole environment, and may have told it.
    let cleared = secret::without_users(&Redactor::of_environment().clear(&said));
    if cleared != said {
        std::fs::write(log, &cleared)?;
    }
    let reason = match status {
        Some(status) if status.success() => return Ok(()),
        Some(status) => format!("ends with {status}"),
        None => {
            format!("is not done after {} s (limits.build in baseline.toml)", limit.as_secs())
        }
    };
    let lines = cleared.lines().rev().filter(|line| !line.trim().is_empty()).take(5);
    let mut last: Vec<String> = lines.map(|line| excerpt(line, WIDTH)).collect();
    last.reverse();
    Err(anyhow!("build: `{text}` {reason}: {} (all in {})", last.join(" | "), log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_memory_is_at_most_what_the_system_permits() {
        assert_eq!(permitted(512, None), (512 << 20, None));
        assert_eq!(permitted(512, Some(512 << 20)), (512 << 20, None));
        assert_eq!(permitted(u64::MAX, None), (u64::MAX, None));
        let (bytes, message) = permitted(8_192, Some(100 << 20));
        assert_eq!(bytes, 100 << 20);
        let message = message.expect("says so");
        assert!(
            message.contains("limits.memory = 8192 MiB") && message.contains("100 MiB"),
            "{message}"
        );
    }

    #[test]
    fn deadlines_name_their_limit_and_may_be_any() {
        let limits = Limits { fit: u64::MAX, answer: 7, ..Limits::default() };
        assert_eq!(Deadline::fit(&limits).left(), Duration::MAX);
        let answer = Deadline::answer(&limits);
        assert!(answer.left() <= Duration::from_secs(7));
        assert_eq!(answer.to_string(), "no reply for 7 s (limits.answer in baseline.toml)");
    }
}
