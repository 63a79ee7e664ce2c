//! What reports of one table with a row for each arm have in common: reference rows of real graphs,
//! the arms, and a figure with a place on the axis for each of them.

use super::ReportInput;
use super::arms::{self, Arm, name, table_cell, unit};
use super::fidelity::floor_value;
use super::figure::{Axis, BarSeries, Bars, Bounded, Content, Panel, Style};
use super::notes::notes;
use super::table::{Cell, Column, Table};
use crate::evaluate::Dimensions;

/// A column: heading, metric and what its numbers are about.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub heading: String,
    pub metric: &'static str,
    pub about: Dimensions,
}

impl Entry {
    pub fn new(heading: impl Into<String>, metric: &'static str, about: Dimensions) -> Self {
        Self { heading: heading.into(), metric, about }
    }

    fn column(&self) -> Column {
        Column::estimate(&self.heading, unit(self.metric))
    }
}

/// A reference row: its label, and the reference that its records name; `None` for records that name
/// none.
pub type Reference = (&'static str, Option<&'static str>);

fn reference_value(input: &ReportInput, entry: &Entry, reference: Option<&str>) -> Option<Bounded> {
    floor_value(input.floor, entry.metric, &entry.about.clone().referring(reference))
}

/// One row for each reference that has a record, then one for each arm.
pub fn table(
    title: &str,
    input: &ReportInput,
    arms: &[Arm],
    references: &[Reference],
    entries: &[Entry],
) -> Table {
    let mut columns = vec![Column::text("generator"), Column::number("answers", "")];
    columns.extend(entries.iter().map(Entry::column));
    let mut table = Table::new(format!("{title}: {}", input.title), columns);
    for (label, reference) in references {
        let values: Vec<Option<Bounded>> =
            entries.iter().map(|entry| reference_value(input, entry, *reference)).collect();
        if values.iter().all(Option::is_none) {
            continue;
        }
        let mut row = vec![Cell::text(*label), Cell::Missing];
        row.extend(values.into_iter().zip(entries).map(|(value, entry)| {
            value.map_or(Cell::Missing, |value| table_cell(entry.metric, value))
        }));
        table.push(row);
    }
    let metrics: Vec<(&str, Dimensions)> =
        entries.iter().map(|entry| (entry.metric, entry.about.clone())).collect();
    for arm in arms {
        let head = vec![Cell::text(name(arm, arms)), Cell::Integer(arm.graphs())];
        table.push(arm.row(head, &metrics));
    }
    table.notes.extend(notes(input, arms));
    table
}

/// A panel with a place on the axis for each reference and arm, and a series for each entry.
pub fn panel(
    title: &str,
    y: impl Fn(&Bars) -> Axis,
    input: &ReportInput,
    arms: &[Arm],
    references: &[Reference],
    entries: &[Entry],
) -> Panel {
    let shown: Vec<&Arm> = arms.iter().filter(|arm| arm.failure().is_none()).collect();
    let known: Vec<&Reference> = references
        .iter()
        .filter(|(_, reference)| {
            entries.iter().any(|entry| reference_value(input, entry, *reference).is_some())
        })
        .collect();
    let series = entries.iter().enumerate().map(|(index, entry)| {
        let floor = known.iter().map(|(_, reference)| {
            reference_value(input, entry, *reference).unwrap_or(Bounded::NONE)
        });
        let values = shown.iter().map(|arm| arm.bounded(entry.metric, &entry.about));
        BarSeries {
            label: entry.heading.clone(),
            style: Style::Generator(index),
            values: floor.chain(values).collect(),
        }
    });
    let bars = Bars { backdrop: None, series: series.collect() };
    let names = known.iter().map(|(label, _)| (*label).to_owned());
    let names = names.chain(shown.iter().map(|arm| arms::name(arm, arms)));
    Panel {
        title: title.to_owned(),
        x: Axis::names("", names.collect()),
        y: y(&bars),
        content: Content::Bars(bars),
    }
}
