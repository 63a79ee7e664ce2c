//! Accuracy and fidelity by training tokens, and the course of training.

use super::arms::{self, Arm, COST, name};
use super::fidelity::floor_value;
use super::figure::{Axis, Bounded, Content, Figure, Level, Line, Lines, PAGE, Panel, Style};
use super::notes::{background, figure_notes, notes};
use super::table::{Cell, Column, Table};
use super::training_log::{self, Entry};
use super::{ReportFiles, ReportInput};
use crate::evaluate::accuracy::ACCURACY;
use crate::evaluate::fidelity::VALID;
use crate::evaluate::popular_calls::{KL_TOP100, KL_TOP100_OTHER};
use crate::evaluate::{Dimensions, WHOLE};

/// What is followed through training: heading, metric, what it is about, is a share.
fn followed() -> [(&'static str, &'static str, Dimensions, bool); 5] {
    let (valid, all) = (WHOLE.graphs("valid"), WHOLE.graphs("all"));
    [
        ("accuracy", ACCURACY, WHOLE, true),
        ("valid", VALID, WHOLE, true),
        ("KL top 100, valid", KL_TOP100, valid, false),
        ("KL top 100, all", KL_TOP100, all.clone(), false),
        ("KL top 100 + other, all", KL_TOP100_OTHER, all, false),
    ]
}

const MEANING: &str = "KL: divergence of the real from the synthetic distribution of the 100 most popular real calls, without or with one more bucket for all other calls; `valid` counts the calls of valid graphs, `all` those of all answers.";

/// Which of these the figure shows.
const DRAWN: [usize; 3] = [0, 2, 4];

/// Points of a curve in a figure; longer logs are averaged down to it.
const CURVE_POINTS: usize = 150;

/// A training log that was read, or why not.
type Course<'a> = (&'a super::TrainingLog, Result<Vec<Entry>, String>);

pub fn report(input: &ReportInput) -> ReportFiles {
    let arms = arms::arms(input.runs);
    let logs = input.training_logs.iter();
    let courses: Vec<Course> = logs
        .map(|log| (log, training_log::read(&log.path).map_err(|error| error.to_string())))
        .collect();
    let mut files = ReportFiles::default();
    files.table("learning", learning_table(input, &arms));
    files.table("training", training_table(input, &arms, &courses));
    files.table(COST, arms::cost_table(input, &arms));
    files.figure("learning", learning_figure(input, &arms));
    if courses.iter().any(|(_, course)| course.as_ref().is_ok_and(|entries| !entries.is_empty())) {
        files.figure("training", training_figure(input, &arms, &courses));
    }
    files
}

fn learning_table(input: &ReportInput, arms: &[Arm]) -> Table {
    let mut columns = vec![Column::text("generator"), Column::number("training tokens", "")];
    columns.extend(followed().map(|(heading, _, _, share)| match share {
        true => Column::share(heading),
        false => Column::estimate(heading, "nats"),
    }));
    let mut table = Table::new(format!("Learning: {}", input.title), columns);
    if input.floor.is_some() {
        let mut row = vec![Cell::text("real (half against half)"), Cell::Missing];
        row.extend(followed().map(|(_, metric, about, _)| {
            floor_value(input.floor, metric, &about)
                .map_or(Cell::Missing, |value| arms::table_cell(metric, value))
        }));
        table.push(row);
    }
    let metrics = followed().map(|(_, metric, about, _)| (metric, about));
    for arm in arms {
        let tokens = arm.tokens.map_or(Cell::Missing, Cell::Integer);
        table.push(arm.row(vec![Cell::text(name(arm, arms)), tokens], &metrics));
    }
    table
        .notes
        .push("Training tokens: mean over seeds; n/a for generators without snapshots.".into());
    table.notes.push(MEANING.into());
    table.notes.extend(notes(input, arms));
    table
}

fn training_table(input: &ReportInput, arms: &[Arm], courses: &[Course]) -> Table {
    let mut table = Table::new(
        format!("Training: {}", input.title),
        vec![
            Column::text("generator"),
            Column::number("seed", ""),
            Column::number("training tokens", ""),
            Column::number("training loss at the end", "nats"),
            Column::number("lowest validation perplexity", ""),
            Column::number("last validation perplexity", ""),
        ],
    );
    for (log, course) in courses {
        let mut row = vec![Cell::text(log.label.as_str()), Cell::Integer(log.seed)];
        match course {
            Ok(entries) => {
                let losses: Vec<f64> = entries.iter().map(|entry| entry.loss).collect();
                let tail = &losses[losses.len() - losses.len().div_ceil(20)..];
                let measured = entries.iter().map(|entry| entry.validation_perplexity);
                let measured: Vec<f64> = measured.filter(|value| !value.is_nan()).collect();
                let lowest = measured.iter().copied().reduce(f64::min);
                let tokens = entries.last().map(|last| Cell::Integer(last.tokens as u64));
                row.push(tokens.unwrap_or(Cell::Missing));
                let number = |value: Option<f64>| value.map_or(Cell::Missing, Cell::number);
                row.push(number(mean(tail)));
                row.push(number(lowest));
                row.push(number(measured.last().copied()));
            }
            Err(reason) => {
                row.push(Cell::Failed(reason.clone()));
                row.extend([Cell::Missing, Cell::Missing, Cell::Missing]);
            }
        }
        table.push(row);
    }
    table.notes.push("Training loss: mean over the last twentieth of the steps.".into());
    table.notes.extend(several_texts(courses));
    table.notes.extend(background(input, arms));
    table
}

/// A warning where generators stand side by side whose tokens are not the same.
fn several_texts(courses: &[Course]) -> Option<String> {
    let first = &courses.first()?.0.label;
    courses.iter().any(|(log, _)| log.label != *first).then(|| {
        "Losses and perplexities are per token: those of generators with different texts cannot be compared."
            .to_owned()
    })
}

/// Mean of the measured values.
fn mean(values: &[f64]) -> Option<f64> {
    let measured: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    (!measured.is_empty()).then(|| measured.iter().sum::<f64>() / measured.len() as f64)
}

/// Curves for generators with snapshots, dashed levels for the others and the floor.
fn learning_figure(input: &ReportInput, arms: &[Arm]) -> Figure {
    let panels = DRAWN.map(|index| {
        let (heading, metric, about, share) = followed()[index].clone();
        let lines = Lines {
            lines: curves(arms, |arm| arm.bounded(metric, &about)),
            levels: levels(input, arms, metric, &about),
        };
        let tokens: Vec<f64> =
            lines.lines.iter().flat_map(|line| line.points.iter().map(|point| point.0)).collect();
        let y = match share {
            true => Axis::share(&format!("{heading} (%)")),
            false => Axis::from_zero("KL divergence (nats)", lines.values()),
        };
        let title = if share { String::from("Accuracy") } else { heading.to_owned() };
        Panel { title, x: Axis::log("training tokens", tokens), y, content: Content::Lines(lines) }
    });
    let mut notes = vec![MEANING.to_owned()];
    notes.extend(figure_notes(input, arms));
    Figure {
        title: format!("Accuracy and divergence by training tokens: {}", input.title),
        panels: panels.to_vec(),
        across: DRAWN.len(),
        width: PAGE,
        row_height: 220.0,
        notes,
    }
}

/// A line per label and temperature through its snapshots.
fn curves(arms: &[Arm], value: impl Fn(&Arm) -> Bounded) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for arm in arms {
        let Some(tokens) = arm.tokens else { continue };
        let (label, point) = (name(arm, arms), (tokens as f64, value(arm)));
        match lines.iter_mut().find(|line| line.label == label) {
            Some(line) => line.points.push(point),
            None => {
                lines.push(Line { label, style: arm.style, points: vec![point], markers: true })
            }
        }
    }
    for line in &mut lines {
        line.points.sort_by(|one, other| one.0.total_cmp(&other.0));
    }
    lines
}

fn levels(input: &ReportInput, arms: &[Arm], metric: &str, about: &Dimensions) -> Vec<Level> {
    let flat = arms.iter().filter(|arm| arm.tokens.is_none()).map(|arm| Level {
        label: name(arm, arms),
        style: arm.style,
        value: arm.bounded(metric, about),
    });
    let floor = floor_value(input.floor, metric, about).map(|value| Level {
        label: "real (half against half)".to_owned(),
        style: Style::Real,
        value,
    });
    flat.chain(floor).filter(|level| !level.value.value.is_nan()).collect()
}

/// Training loss and validation perplexity against tokens, a line per training.
fn training_figure(input: &ReportInput, arms: &[Arm], courses: &[Course]) -> Figure {
    let panel = |title: &str, label: &str, value: fn(&Entry) -> f64, markers: bool| {
        let lines = courses.iter().enumerate().filter_map(|(index, (log, course))| {
            let entries = course.as_ref().ok()?;
            let arm = arms.iter().find(|arm| arm.label == log.label);
            Some(Line {
                label: log.label.clone(),
                style: arm.map_or(Style::Generator(index), |arm| arm.style),
                points: thinned(entries, value),
                markers,
            })
        });
        let lines = Lines { lines: lines.collect(), levels: Vec::new() };
        let points = lines.lines.iter().flat_map(|line| &line.points);
        let last = points.map(|point| point.0).fold(1.0, f64::max);
        Panel {
            title: title.to_owned(),
            x: Axis::linear("training tokens", 0.0, last * 1.03),
            y: Axis::log(label, lines.values()),
            content: Content::Lines(lines),
        }
    };
    let mut notes =
        vec!["One line per seed; losses are averaged over neighbouring steps.".to_owned()];
    notes.extend(several_texts(courses));
    notes.extend(figure_notes(input, arms).into_iter().skip(1));
    Figure {
        title: format!("Course of training: {}", input.title),
        panels: vec![
            panel("Training loss", "loss (nats per token)", |entry| entry.loss, false),
            panel("Validation", "perplexity", |entry| entry.validation_perplexity, true),
        ],
        across: 2,
        width: PAGE,
        row_height: 220.0,
        notes,
    }
}

/// Means over equal stretches of the entries that have a value.
fn thinned(entries: &[Entry], value: fn(&Entry) -> f64) -> Vec<(f64, Bounded)> {
    let measured: Vec<(f64, f64)> = entries
        .iter()
        .map(|entry| (entry.tokens, value(entry)))
        .filter(|e| !e.1.is_nan())
        .collect();
    let stretch = measured.len().div_ceil(CURVE_POINTS).max(1);
    let point = |part: &[(f64, f64)]| {
        let n = part.len() as f64;
        let (tokens, sum) = part.iter().fold((0.0, 0.0), |sum, e| (sum.0 + e.0, sum.1 + e.1));
        (tokens / n, Bounded { value: sum / n, ..Bounded::NONE })
    };
    measured.chunks(stretch).map(point).collect()
}
