//! What a person sees while a step runs: a bar on a terminal, plain lines elsewhere, or nothing.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How steps report themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A bar with rate and time left (standard error is a terminal).
    Bars,
    /// A line at most every ten seconds, and one at the end (not a terminal).
    Lines,
    Quiet,
}

/// Steps shorter than this say nothing.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

impl Progress {
    /// Bars when standard error is a terminal, plain lines otherwise.
    pub fn detect(quiet: bool) -> Self {
        use std::io::IsTerminal;
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Self::Quiet,
            (_, true) => Self::Bars,
            _ => Self::Lines,
        }
    }

    /// Starts a step of `total` units ("tokens", "graphs"); 0 for a step of unknown length.
    pub fn step(self, label: &str, unit: &'static str, total: u64) -> StepProgress {
        let bar = match self {
            Self::Bars => {
                let template = if total > 0 {
                    "{msg} {wide_bar:.cyan/dim} {human_pos}/{human_len} {prefix} {per_sec} left {eta}"
                } else {
                    "{msg} {human_pos} {prefix} {per_sec} {elapsed}"
                };
                let bar = ProgressBar::with_draw_target(
                    (total > 0).then_some(total),
                    ProgressDrawTarget::stderr_with_hz(5),
                );
                bar.set_style(
                    ProgressStyle::with_template(template)
                        .unwrap_or_else(|_| ProgressStyle::default_bar()),
                );
                bar.set_prefix(unit);
                bar
            }
            Self::Lines | Self::Quiet => ProgressBar::with_draw_target(
                (total > 0).then_some(total),
                ProgressDrawTarget::hidden(),
            ),
        };
        bar.set_message(label.to_owned());
        StepProgress {
            mode: self,
            label: label.to_owned(),
            unit,
            total,
            bar,
            started: Instant::now(),
            last_line: Mutex::new(Instant::now()),
        }
    }
}

/// A running step; shared by the threads that do its work.
pub struct StepProgress {
    mode: Progress,
    label: String,
    unit: &'static str,
    total: u64,
    bar: ProgressBar,
    started: Instant,
    last_line: Mutex<Instant>,
}

impl StepProgress {
    pub fn inc(&self, units: u64) {
        self.bar.inc(units);
        if self.mode == Progress::Lines {
            self.line(false);
        }
    }

    /// A short note shown beside the label, such as the current loss.
    pub fn note(&self, note: &str) {
        self.bar.set_message(format!("{} {note}", self.label));
    }

    /// Ends the step; a plain line sums it up if it took over two seconds.
    pub fn finish(self) {
        self.bar.finish_and_clear();
        if self.mode == Progress::Lines && self.started.elapsed() > PATIENCE {
            self.line(true);
        }
    }

    fn line(&self, last: bool) {
        let Ok(mut last_line) = self.last_line.lock() else { return };
        if !last && last_line.elapsed() < LINE_EVERY {
            return;
        }
        *last_line = Instant::now();
        let seconds = self.started.elapsed().as_secs_f64().max(1e-3);
        let done = self.bar.position();
        let rate = done as f64 / seconds;
        let left = match self.total.checked_sub(done) {
            Some(left) if !last && self.total > 0 && rate > 0.0 => {
                format!(", {:.0} s left", left as f64 / rate)
            }
            _ => String::new(),
        };
        let total = if self.total > 0 { format!("/{}", self.total) } else { String::new() };
        let state = if last { "done" } else { "…" };
        eprintln!(
            "{}: {done}{total} {} {state} {seconds:.0} s, {rate:.0} {}/s{left}",
            self.bar.message(),
            self.unit,
            self.unit,
        );
    }
}
