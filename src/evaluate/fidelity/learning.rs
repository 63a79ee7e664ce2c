//! Accuracy and fidelity by training tokens, and the course of training.

use std::path::Path;

use anyhow::{Context, Result};

use super::popular_calls::{KL_TOP100, KL_TOP100_OTHER};
use super::report::REFERENCES;
use crate::error::UserError;
use crate::evaluate::WHOLE;
use crate::evaluate::answers::{ACCURACY, VALID};
use crate::report::figure::{
    Axis, Bounded, Content, Figure, Level, Line, Lines, PAGE, Panel, Style,
};
use crate::report::table::{Cell, Column, Table};
use crate::report::{Entry, ReportFiles, Results, TrainingLog, Variant};

/// What is followed through training.
fn followed() -> [Entry; 5] {
    let (valid, all) = (WHOLE.graphs("valid"), WHOLE.graphs("all"));
    [
        Entry::new(ACCURACY.title, ACCURACY, WHOLE),
        Entry::new("valid", VALID, WHOLE),
        Entry::new("KL top 100: valid", KL_TOP100, valid),
        Entry::new("KL top 100: all", KL_TOP100, all.clone()),
        Entry::new("KL top 100 + other: all", KL_TOP100_OTHER, all),
    ]
}

const MEANING: &str = "KL: divergence of the real from the synthetic distribution of the 100 most popular real calls, without or with one more bucket for all other calls; `valid` counts the calls of valid graphs, `all` those of all answers.";

/// Which of these the figure shows.
const DRAWN: [usize; 3] = [0, 2, 4];

/// Points of a curve in a figure; longer logs are averaged down to it.
const CURVE_POINTS: usize = 150;

/// A training log that was read, or why not.
type Course<'a> = (&'a TrainingLog, Result<Vec<Logged>, String>);

pub fn report(results: &Results) -> ReportFiles {
    let logs = results.input.training_logs.iter();
    let courses: Vec<Course> =
        logs.map(|log| (log, read(&log.path).map_err(|error| error.to_string()))).collect();
    let mut files = ReportFiles::default();
    files.table("learning", learning_table(results));
    files.table("training", training_table(results, &courses));
    files.figure("learning", learning_figure(results));
    if courses.iter().any(|(_, course)| course.as_ref().is_ok_and(|entries| !entries.is_empty())) {
        files.figure("training", training_figure(results, &courses));
    }
    files
}

fn learning_table(results: &Results) -> Table {
    let entries = followed();
    let head = [Column::text("generator"), Column::number("training tokens", "")];
    let mut table = results.headed("Learning", head, &entries);
    results.add_rows(&mut table, &REFERENCES[..1], &entries, |label, variant| {
        let tokens = variant.and_then(|variant| variant.tokens);
        vec![Cell::text(label), tokens.map_or(Cell::Missing, Cell::Integer)]
    });
    table
        .notes
        .push("Training tokens: mean over seeds; n/a for generators without checkpoints.".into());
    table.notes.push(MEANING.into());
    table.notes.extend(results.notes());
    table
}

fn training_table(results: &Results, courses: &[Course]) -> Table {
    let mut table = Table::new(
        results.titled("Training"),
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
    table.notes.extend(results.background());
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

/// Curves for generators with checkpoints, dashed levels for the others and real graphs.
fn learning_figure(results: &Results) -> Figure {
    let entries = followed();
    let found = results.find(&entries);
    let panels = DRAWN.map(|index| {
        let Entry { heading, metric, .. } = &entries[index];
        let value = |variant: &Variant| found.bounded(variant, index);
        let mut lines = Lines { lines: curves(results, value), levels: Vec::new() };
        let level = |label, style, value| Level { label, style, value };
        let flat = results.variants.iter().filter(|variant| variant.tokens.is_none());
        let flat = flat.map(|one| level(results.name(one), one.style, value(one)));
        let real = results.references(&REFERENCES[..1], &entries[index..=index]);
        let real = real
            .into_iter()
            .filter_map(|(label, values)| Some(level(label.to_owned(), Style::Real, values[0]?)));
        lines.levels = flat.chain(real).filter(|level| !level.value.value.is_nan()).collect();
        let tokens: Vec<f64> =
            lines.lines.iter().flat_map(|line| line.points.iter().map(|point| point.0)).collect();
        let y = if metric.is_fraction() {
            Axis::share(&format!("{heading} (%)"))
        } else {
            Axis::from_zero("KL divergence (nats)", lines.values())
        };
        Panel {
            title: heading.clone(),
            x: Axis::log("training tokens", tokens),
            y,
            content: Content::Lines(lines),
        }
    });
    let title = "Condition accuracy and divergence by training tokens";
    let figure = results.figure(title, panels.to_vec(), PAGE, 220.0, MEANING);
    Figure { across: DRAWN.len(), ..figure }
}

/// A line per label and temperature through its checkpoints.
fn curves(results: &Results, value: impl Fn(&Variant) -> Bounded) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for variant in &results.variants {
        let Some(tokens) = variant.tokens else { continue };
        let (label, point) = (results.name(variant), (tokens as f64, value(variant)));
        match lines.iter_mut().find(|line| line.label == label) {
            Some(line) => line.points.push(point),
            None => {
                let (style, points) = (variant.style, vec![point]);
                lines.push(Line { label, style, points, markers: true });
            }
        }
    }
    for line in &mut lines {
        line.points.sort_by(|one, other| one.0.total_cmp(&other.0));
    }
    lines
}

/// Training loss and validation perplexity against tokens, a line per training.
fn training_figure(results: &Results, courses: &[Course]) -> Figure {
    let panel = |title: &str, label: &str, value: fn(&Logged) -> f64, markers: bool| {
        let lines = courses.iter().enumerate().filter_map(|(index, (log, course))| {
            let entries = course.as_ref().ok()?;
            let variant = results.variants.iter().find(|variant| variant.label == log.label);
            Some(Line {
                label: log.label.clone(),
                style: variant.map_or(Style::Generator(index), |variant| variant.style),
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
    notes.extend(results.figure_notes().into_iter().skip(1));
    Figure {
        title: results.titled("Course of training"),
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
fn thinned(entries: &[Logged], value: fn(&Logged) -> f64) -> Vec<(f64, Bounded)> {
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

/// One line of a training log; NaN where nothing was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Logged {
    tokens: f64,
    loss: f64,
    validation_perplexity: f64,
}

/// Reads the columns that reports need.
///
/// # Errors
/// A file that cannot be read, a missing column, or a field that is neither empty nor a number.
fn read(path: &Path) -> Result<Vec<Logged>> {
    let mut reader = csv::Reader::from_path(path)
        .with_context(|| format!("{}: cannot be read", path.display()))?;
    let header = reader.headers().with_context(|| path.display().to_string())?.clone();
    let column = |name: &str| {
        header.iter().position(|column| column == name).ok_or_else(|| {
            UserError::input(path, "line 1", format!("the training log has no column `{name}`"))
        })
    };
    let columns = [column("tokens")?, column("loss")?, column("validation_perplexity")?];
    let mut entries = Vec::new();
    for row in reader.records() {
        let row = row.with_context(|| path.display().to_string())?;
        let line = row.position().map_or(0, csv::Position::line);
        let mut values = [f64::NAN; 3];
        for (value, column) in values.iter_mut().zip(columns) {
            let text = row.get(column).unwrap_or("").trim();
            if !text.is_empty() {
                *value = text.parse().map_err(|_| {
                    let place = format!("line {line}, column {}", &header[column]);
                    UserError::input(path, place, format!("`{text}` is not a number"))
                })?;
            }
        }
        let [tokens, loss, validation_perplexity] = values;
        entries.push(Logged { tokens, loss, validation_perplexity });
    }
    Ok(entries)
}
