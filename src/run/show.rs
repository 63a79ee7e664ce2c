//! What a person sees while stages run: a bar per running stage on a terminal, plain lines
//! elsewhere, nothing when quiet.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};

use crate::display;
use crate::progress::{Progress, Report, bar_style};

/// The display of the running stages.
pub struct ProgressDisplay {
    mode: Progress,
    multi: MultiProgress,
    running: HashMap<usize, Shown>,
}

struct Shown {
    label: String,
    /// "[3/12]".
    number: String,
    bar: ProgressBar,
    last_line: Instant,
}

/// Time between two plain lines of a stage.
const LINE_EVERY: Duration = Duration::from_secs(10);

impl ProgressDisplay {
    pub fn new(mode: Progress) -> Self {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        Self { mode, multi, running: HashMap::new() }
    }

    pub fn started(&mut self, index: usize, label: &str, number: usize, of: usize) {
        let label = display::line(label);
        let number = format!("[{number}/{of}]");
        let bar = ProgressBar::hidden();
        if self.mode == Progress::Bars {
            // Adding a bar gives it the display's draw target.
            self.multi.add(bar.clone());
            bar.set_style(bar_style(0));
            bar.set_message(format!("{number} {label}"));
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        let shown = Shown { label: label.into_owned(), number, bar, last_line: Instant::now() };
        self.running.insert(index, shown);
    }

    pub fn progress(&mut self, index: usize, report: &Report) {
        let Some(shown) = self.running.get_mut(&index) else { return };
        match self.mode {
            Progress::Bars if report.last => {
                shown.bar.set_style(bar_style(0));
                shown.bar.set_prefix("");
            }
            Progress::Bars => {
                if report.total > 0 && shown.bar.length() != Some(report.total) {
                    shown.bar.set_length(report.total);
                    shown.bar.reset_eta();
                }
                shown.bar.set_style(bar_style(report.total));
                let message = display::line(&report.message);
                shown.bar.set_message(format!("{} {}: {message}", shown.number, shown.label));
                shown.bar.set_prefix(report.unit.clone());
                shown.bar.set_position(report.done);
            }
            Progress::Lines if shown.last_line.elapsed() >= LINE_EVERY => {
                shown.last_line = Instant::now();
                eprintln!("{} {}: {}", shown.number, shown.label, report.line());
            }
            Progress::Lines | Progress::Quiet | Progress::Relay => {}
        }
    }

    pub fn ended(&mut self, index: usize, after: Duration, failure: Option<&str>) {
        let Some(shown) = self.running.remove(&index) else { return };
        shown.bar.finish_and_clear();
        self.multi.remove(&shown.bar);
        let Shown { number, label, .. } = shown;
        match failure {
            Some(reason) => self.say(&format!("{number} {label}: failed: {reason}")),
            None => self.say(&format!("{number} {label}: done in {}", duration(after))),
        }
    }

    /// A line above the bars.
    pub fn say(&self, line: &str) {
        let line = display::message(line);
        match self.mode {
            Progress::Bars => {
                if self.multi.println(&line).is_err() {
                    eprintln!("{line}");
                }
            }
            Progress::Lines => eprintln!("{line}"),
            Progress::Quiet | Progress::Relay => {}
        }
    }

    /// A line that is said even to those who want to hear of errors alone.
    pub fn warn(&self, line: &str) {
        match self.mode {
            Progress::Quiet => eprintln!("{line}"),
            _ => self.say(line),
        }
    }

    pub fn clear(&mut self) {
        self.running.clear();
        // Nothing can be done about a terminal that is gone.
        let _ = self.multi.clear();
    }
}

/// "0.4 s", "12 s", "3 min 20 s", "1 h 5 min".
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 99.5 => format!("{s:.0} s"),
        s if s < 3570.0 => format!("{} min {} s", s as u64 / 60, s as u64 % 60),
        s => format!("{} h {} min", s as u64 / 3600, s as u64 % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let texts: Vec<String> =
            [0.42, 12.3, 200.0, 3900.0].map(|s| duration(Duration::from_secs_f64(s))).into();
        assert_eq!(texts, ["0.4 s", "12 s", "3 min 20 s", "1 h 5 min"]);
    }
}
