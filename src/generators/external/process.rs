//! An external generator's process: lines in and out, with limits on time, memory and length. Whatever
//! it does, it costs its own result and nothing else.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::protocol::{Reply, Request};
use super::{Limits, Program};
use crate::process::wait;

/// Longest line that is read.
const MAX_LINE: u64 = 16 << 20;
/// Lines that wait to be looked at.
const WAITING: usize = 256;
/// What is kept of standard error.
const STDERR_LINES: usize = 20;
const STDERR_WIDTH: usize = 400;
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
        contain(&mut command, program.limits.memory);
        let mut child = command
            .spawn()
            .map_err(|error| anyhow!("`{}` does not start: {error}", program.command.join(" ")))?;
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        let (requests, events) = connect(&mut child, &stderr)?;
        Ok(Self { child, requests, events, stderr, asked: "start", limits: program.limits })
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

    /// The next reply, within `patience`.
    ///
    /// # Errors
    /// Silence, the end of the process, a line that is not a reply, or its own report of an error;
    /// each with what it wrote to standard error.
    pub fn reply(&mut self, patience: Duration) -> Result<Reply> {
        let asked = self.asked;
        let line = match self.events.recv_timeout(patience) {
            Ok(Event::Line(line)) => line,
            Ok(Event::End(reason)) => {
                let status = self.status();
                return Err(self.fault(&format!("after `{asked}`: {reason}{status}")));
            }
            Err(RecvTimeoutError::Timeout) => {
                // Of a training, `patience` is only what was left of its limit.
                let (what, key, limit) = match asked {
                    "fit" => ("not done", "fit", self.limits.fit),
                    _ => ("no reply", "answer", self.limits.answer),
                };
                let reason = format!(
                    "after `{asked}`: {what} within {limit} s (limits.{key} in baseline.toml)"
                );
                return Err(self.fault(&reason));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(self.fault(&format!("after `{asked}`: it cannot be listened to")));
            }
        };
        match serde_json::from_str(&line) {
            Ok(Reply::Error(trouble)) => {
                let message = clip(&trouble.message);
                Err(self.fault(&format!("after `{asked}`: it reports: {message}")))
            }
            Ok(reply) => Ok(reply),
            Err(error) => {
                let line = clip(&line);
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
        std::thread::sleep(Duration::from_millis(5));
        let lines = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        match lines.is_empty() {
            true => anyhow!("{reason}"),
            false => {
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                anyhow!("{reason}; standard error: {}", lines.join(" | "))
            }
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
        kill(&mut self.child);
    }
}

/// Ends a process and its group.
fn kill(child: &mut Child) {
    #[cfg(unix)]
    // SAFETY: kill is given the group that `contain` made for this child, which has not been waited for
    // unless it has ended.
    unsafe {
        libc::kill(-(child.id() as i32), libc::SIGKILL);
    }
    // Both fail on a process that has ended, which is what is wanted.
    let _ = child.kill();
    let _ = child.wait();
}

/// The first beginning of a text, on one line.
fn clip(text: &str) -> String {
    let line = text.replace(['\n', '\r'], " ");
    match line.char_indices().nth(STDERR_WIDTH) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Threads that write requests, read replies and keep the end of standard error. They end with the
/// process.
fn connect(
    child: &mut Child,
    stderr: &Arc<Mutex<VecDeque<String>>>,
) -> Result<(Sender<Vec<u8>>, Receiver<Event>)> {
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
    std::thread::spawn(move || {
        each_line(errors, |line| {
            let mut lines = stderr.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push_back(clip(&line));
            if lines.len() > STDERR_LINES {
                lines.pop_front();
            }
        });
    });
    Ok((requests, events))
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
    let program = match program.contains('/') {
        true => folder.join(program),
        false => PathBuf::from(program),
    };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    Ok(command)
}

/// A group of its own, an end with this process's, and a limit on memory (MiB).
#[cfg(target_os = "linux")]
fn contain(command: &mut Command, memory: u64) {
    use std::os::unix::process::CommandExt;
    let parent = std::process::id();
    let bytes = memory.saturating_mul(1 << 20);
    command.process_group(0);
    // SAFETY: prctl, getppid, setrlimit and _exit are async-signal-safe, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if libc::getppid() as u32 != parent {
                libc::_exit(1);
            }
            let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
            if libc::setrlimit(libc::RLIMIT_DATA, &limit) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn contain(_command: &mut Command, _memory: u64) {}

/// Runs a build command to its end; its output goes to `log`.
///
/// # Errors
/// A command that does not start, fails or takes too long, with the end of what it said.
pub fn build(folder: &Path, words: &[String], limit: Duration, log: &Path) -> Result<()> {
    let mut command = command(folder, words)?;
    let file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    // Installing may take any memory; the limit is for what is installed.
    contain(&mut command, u64::MAX >> 20);
    let text = words.join(" ");
    let mut child =
        command.spawn().map_err(|error| anyhow!("build: `{text}` does not start: {error}"))?;
    let reason = match wait(&mut child, limit) {
        Some(status) if status.success() => return Ok(()),
        Some(status) => format!("ends with {status}"),
        None => {
            kill(&mut child);
            format!("is not done after {} s (limits.build in baseline.toml)", limit.as_secs())
        }
    };
    let said = std::fs::read(log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said[said.len().saturating_sub(1 << 16)..]).into_owned();
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let last: Vec<String> = lines.iter().rev().take(5).rev().map(|line| clip(line)).collect();
    Err(anyhow!("build: `{text}` {reason}: {} (all in {})", last.join(" | "), log.display()))
}
