//! What a person sees while a step runs: a bar on a terminal, plain lines elsewhere, or nothing.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::display;

/// How steps report themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A bar with rate and time left (standard error is a terminal).
    Bars,
    /// A line at most every ten seconds, and one at the end (not a terminal).
    Lines,
    Quiet,
    /// [`Report`]s as lines of JSON on standard output, for the process that draws them.
    Relay,
}

/// State of a step as one process tells it to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The step's label with its note.
    pub message: String,
    pub unit: String,
    pub done: u64,
    /// 0 for a step of unknown length.
    pub total: u64,
    pub seconds: f64,
    /// The step has ended.
    pub last: bool,
}

impl Report {
    /// One plain line.
    pub fn line(&self) -> String {
        let Self { message, unit, done, total, last, .. } = self;
        let message = display::line(message);
        let seconds = self.seconds.max(1e-3);
        let rate = *done as f64 / seconds;
        let left = match total.checked_sub(*done) {
            Some(left) if !last && *total > 0 && rate > 0.0 => {
                format!(", {:.0} s left", left as f64 / rate)
            }
            _ => String::new(),
        };
        let total = if *total > 0 { format!("/{total}") } else { String::new() };
        let state = if *last { "done" } else { "…" };
        format!("{message}: {done}{total} {unit} {state} {seconds:.0} s, {rate:.0} {unit}/s{left}")
    }
}

/// The look of a bar of `total` units; 0 for a step of unknown length.
pub fn bar_style(total: u64) -> ProgressStyle {
    let template = if total > 0 {
        "{msg} {wide_bar:.cyan/dim} {human_pos}/{human_len} {prefix} {per_sec} left {eta}"
    } else {
        "{msg} {human_pos} {prefix} {per_sec} {elapsed}"
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Steps shorter than this say nothing.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Time between two relayed reports.
const RELAY_EVERY: Duration = Duration::from_millis(200);

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

    /// Says a line that a person should see. A stage's standard error is shown by the process that
    /// draws.
    pub fn say(self, line: &str) {
        if self != Self::Quiet {
            eprintln!("{line}");
        }
    }

    /// Starts a step of `total` units ("tokens", "graphs"); 0 for a step of unknown length.
    pub fn step(self, label: &str, unit: &'static str, total: u64) -> StepProgress {
        let bar = match self {
            Self::Bars => {
                let bar = ProgressBar::with_draw_target(
                    (total > 0).then_some(total),
                    ProgressDrawTarget::stderr_with_hz(5),
                );
                bar.set_style(bar_style(total));
                bar.set_prefix(unit);
                bar
            }
            Self::Lines | Self::Quiet | Self::Relay => ProgressBar::with_draw_target(
                (total > 0).then_some(total),
                ProgressDrawTarget::hidden(),
            ),
        };
        let label = display::line(label).into_owned();
        bar.set_message(label.clone());
        let step = StepProgress {
            mode: self,
            label,
            unit,
            total,
            bar,
            started: Instant::now(),
            last_line: Mutex::new(Instant::now()),
        };
        if self == Self::Relay {
            step.relay(false);
        }
        step
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
        match self.mode {
            Progress::Lines => self.say(LINE_EVERY, StepProgress::line),
            Progress::Relay => self.say(RELAY_EVERY, StepProgress::relay),
            Progress::Bars | Progress::Quiet => {}
        }
    }

    /// A short note shown beside the label, such as the current loss.
    pub fn note(&self, note: &str) {
        self.bar.set_message(format!("{} {}", self.label, display::line(note)));
    }

    /// Ends the step; a plain line sums it up if it took over two seconds.
    pub fn finish(self) {
        self.bar.finish_and_clear();
        match self.mode {
            Progress::Lines if self.started.elapsed() > PATIENCE => self.line(true),
            Progress::Relay => self.relay(true),
            _ => {}
        }
    }

    /// Says something unless that was done less than `every` ago.
    fn say(&self, every: Duration, how: fn(&Self, bool)) {
        let Ok(mut last_line) = self.last_line.lock() else { return };
        if last_line.elapsed() >= every {
            *last_line = Instant::now();
            how(self, false);
        }
    }

    fn line(&self, last: bool) {
        eprintln!("{}", self.report(last).line());
    }

    fn relay(&self, last: bool) {
        if let Ok(line) = serde_json::to_string(&self.report(last)) {
            println!("{line}");
        }
    }

    fn report(&self, last: bool) -> Report {
        Report {
            message: self.bar.message(),
            unit: self.unit.to_owned(),
            done: self.bar.position(),
            total: self.total,
            seconds: self.started.elapsed().as_secs_f64(),
            last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::HOSTILE_NAMES;

    #[test]
    fn no_label_or_note_steers_the_terminal() {
        for name in HOSTILE_NAMES {
            let step = Progress::Quiet.step(name, "graphs", 3);
            step.note(&name.repeat(10_000));
            let report = step.report(false);
            assert!(report.message.chars().all(display::prints), "{}", report.message);
            assert!(report.message.chars().count() <= 2 * display::LONGEST_LINE + 3);
            let line = Report { message: name.to_owned(), ..report }.line();
            assert!(line.chars().all(display::prints), "{line}");
        }
    }
}
