//! Instruction following.

use super::arms::{self, Arm, COST, name, table_cell};
use super::fidelity::floor_value;
use super::figure::{Axis, Figure, PAGE};
use super::notes::{figure_notes, notes};
use super::overview::{self, Entry, Reference};
use super::table::{Cell, Column, Table};
use super::{ReportFiles, ReportInput, comparisons, published};
use crate::evaluate::accuracy::ACCURACY;
use crate::evaluate::instructions::{ACCURACY_CHANGE, FOLLOWED, GAIN, Kind, PROMPTS};
use crate::evaluate::metric::Family;
use crate::evaluate::{Dimensions, WHOLE};

/// Reference rows: real graphs other than the one that lends the prompt.
const REFERENCES: [Reference; 2] =
    [("real, same service", Some("service")), ("real, same shape", Some("shape"))];

pub fn report(input: &ReportInput) -> ReportFiles {
    let arms = arms::arms(input.runs);
    let mut files = ReportFiles::default();
    files.table("instructions", instructions(input, &arms));
    files.table("instruction-parts", parts(input, &arms));
    files.table("published", published::compare(input, &arms, Family::Instructions));
    files.tables.extend(arms::effort_table(input, &arms).map(|table| ("effort".to_owned(), table)));
    files.table(COST, arms::cost_table(input, &arms));
    files.figure("instructions", figure(input, &arms));
    comparisons::add(&mut files, input, &arms, &[("followed", FOLLOWED)]);
    files
}

/// What is asked for, in the words of tables and figures.
fn words(kind: Kind) -> &'static str {
    match kind {
        Kind::HighLatency => "high latency",
        Kind::Uncommon => "uncommon communication",
        Kind::Both => "both",
    }
}

/// A block of rows for each kind of request.
fn instructions(input: &ReportInput, arms: &[Arm]) -> Table {
    let columns = vec![
        Column::text("request"),
        Column::text("generator"),
        Column::number("prompts", ""),
        Column::number("different", ""),
        Column::share("followed without it"),
        Column::share("followed with it"),
        Column::share("gain"),
        Column::share("accuracy without it"),
        Column::share("accuracy with it"),
        Column::share("change"),
    ];
    let mut table = Table::new(format!("Instruction following: {}", input.title), columns);
    for kind in Kind::ALL {
        let about = WHOLE.kind(kind.id());
        let (with, without) = (about.clone().asked(true), about.clone().asked(false));
        for (label, reference) in REFERENCES {
            let of_reference = without.clone().referring(reference);
            let value = floor_value(input.floor, FOLLOWED, &of_reference);
            if let Some(value) = value {
                let mut row = vec![Cell::text(words(kind)), Cell::text(label)];
                row.extend([Cell::Missing, Cell::Missing, table_cell(FOLLOWED, value)]);
                row.resize(table.columns.len(), Cell::Missing);
                table.push(row);
            }
        }
        let metrics = [
            (FOLLOWED, without.clone()),
            (FOLLOWED, with.clone()),
            (GAIN, about.clone()),
            (ACCURACY, without),
            (ACCURACY, with),
            (ACCURACY_CHANGE, about.clone()),
        ];
        for arm in arms {
            let (asked, different) = prompts(arm, &about);
            let head = vec![Cell::text(words(kind)), Cell::text(name(arm, arms)), asked, different];
            table.push(arm.row(head, &metrics));
        }
    }
    table.notes.push(
        "Followed: a valid graph with a latency at or above the p90 of its service, with the uncommon communication, or both. Every prompt is asked with its request in words and without it, otherwise the same; gain and change are the differences in points, paired by prompt. Generators that do not read requests have a gain of about 0. Real: share of the other test graphs of the prompt's service (and of its num_edges and depth) that do what is asked, by chance. Where few of the prompts of a seed are different, the test graphs lend no more: the intervals of the shares then promise too much."
            .into(),
    );
    table.notes.push("No training prompt asks for both.".into());
    table.notes.extend(notes(input, arms));
    table
}

/// Which half of a request for both is met.
fn parts(input: &ReportInput, arms: &[Arm]) -> Table {
    let halves = [Kind::HighLatency, Kind::Uncommon];
    let mut entries = Vec::new();
    for half in halves {
        let about = WHOLE.kind(Kind::Both.id()).part(half.id());
        let heading = |what: &str| format!("{}, {what}", words(half));
        entries.extend([
            Entry::new(heading("without"), FOLLOWED, about.clone().asked(false)),
            Entry::new(heading("with"), FOLLOWED, about.clone().asked(true)),
            Entry::new(heading("gain"), GAIN, about),
        ]);
    }
    let title = "Both requests at once, each half alone";
    overview::table(title, input, arms, &[], &entries)
}

/// Prompts of a kind over all seeds, and how many of one seed are different.
fn prompts(arm: &Arm, about: &Dimensions) -> (Cell, Cell) {
    let records = arm.runs.iter().filter_map(|run| run.outcome.as_ref().ok()).flatten();
    let of_kind = records.filter(|record| record.is(PROMPTS, about));
    let of_kind: Vec<_> = of_kind.collect();
    let asked = of_kind.iter().map(|record| record.count).sum();
    match of_kind.first() {
        Some(first) => (Cell::Integer(asked), Cell::Integer(first.value as u64)),
        None => (Cell::Missing, Cell::Missing),
    }
}

fn figure(input: &ReportInput, arms: &[Arm]) -> Figure {
    let panels = Kind::ALL.map(|kind| {
        let about = |asked: bool| WHOLE.kind(kind.id()).asked(asked);
        let entries = [
            Entry::new("without the request", FOLLOWED, about(false)),
            Entry::new("with the request", FOLLOWED, about(true)),
        ];
        let y = |_: &_| Axis::share("request followed (%)");
        overview::panel(words(kind), y, input, arms, &REFERENCES, &entries)
    });
    let mut lines = vec![
        "Share of prompts answered by a valid graph that does what is asked. Real: other test graphs of the prompt's service, or of its service, num_edges and depth, which nobody asked. No training prompt asks for both."
            .to_owned(),
    ];
    lines.extend(figure_notes(input, arms));
    Figure {
        title: format!("Instruction following: {}", input.title),
        panels: panels.to_vec(),
        across: 3,
        width: PAGE,
        row_height: 300.0,
        notes: lines,
    }
}
