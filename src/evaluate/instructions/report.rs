//! Instruction following: tables and figure 6.

use super::conditions::Kind;
use super::{ACCURACY_CHANGE, FOLLOWED, GAIN, PROMPTS};
use crate::evaluate::WHOLE;
use crate::evaluate::answers::ACCURACY;
use crate::report::figure::{Axis, Figure, PAGE};
use crate::report::table::{Cell, Column, Table};
use crate::report::{Columns, Entry, Reference, ReportFiles, Results};

/// Reference rows: real graphs other than the one that lends the prompt.
const REFERENCES: [Reference; 2] = [
    ("real (same service)", |about| about.reference("service")),
    ("real (same shape)", |about| about.reference("shape")),
];

/// The lift of each kind of request.
pub fn columns(_: &Results) -> Columns {
    let lift =
        |kind: Kind| Entry::new(format!("lift: {}", words(kind)), GAIN, WHOLE.kind(kind.id()));
    Columns::new(Kind::ALL.map(lift), &REFERENCES)
}

pub fn report(results: &Results) -> ReportFiles {
    let mut files = ReportFiles::default();
    files.table("instructions", instructions(results));
    files.table("instruction-parts", parts(results));
    files.figure("instructions", figure(results));
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
fn instructions(results: &Results) -> Table {
    let entries = |kind: Kind| {
        let about = WHOLE.kind(kind.id());
        let (with, without) = (about.clone().asked(true), about.clone().asked(false));
        [
            Entry::new("instruction-following rate without", FOLLOWED, without.clone()),
            Entry::new("instruction-following rate", FOLLOWED, with.clone()),
            Entry::new("lift", GAIN, about.clone()),
            Entry::new("condition accuracy without", ACCURACY, without),
            Entry::new("condition accuracy", ACCURACY, with),
            Entry::new("change", ACCURACY_CHANGE, about),
        ]
    };
    let head = [
        Column::text("request"),
        Column::text("generator"),
        Column::number("prompts", ""),
        Column::number("different", ""),
    ];
    let mut table = results.headed("Instruction following", head, &entries(Kind::Both));
    for kind in Kind::ALL {
        let prompts = results.find(&[Entry::new("", PROMPTS, WHOLE.kind(kind.id()))]);
        results.add_rows(&mut table, &REFERENCES, &entries(kind), |label, variant| {
            // Prompts over all seeds, and how many of one seed are different.
            let rows = variant.map_or(&[][..], |variant| prompts.rows(variant, 0));
            let asked = rows.iter().map(|row| row.count).sum();
            let counts = match rows.first() {
                Some(first) => [asked, first.estimate.value as u64].map(Cell::Integer),
                None => [Cell::Missing, Cell::Missing],
            };
            [Cell::text(words(kind)), Cell::text(label)].into_iter().chain(counts).collect()
        });
    }
    table.notes.push(
        "Instruction-following rate: fraction of prompts answered by a valid graph with a latency at or above the p90 of its service, with the uncommon communication, or both. Every prompt is asked with its request in words and without it, otherwise the same; lift and change are the differences in points, paired by prompt. Generators that do not read requests have a lift of about 0. Real: fraction of the other test graphs of the prompt's service (and of its num_edges and depth) that do what is asked, by chance. Where few of the prompts of a seed are different, the test graphs lend no more: the intervals of the fractions then promise too much."
            .into(),
    );
    table.notes.push("No training prompt asks for both.".into());
    table.notes.extend(results.notes());
    table
}

/// Which half of a request for both is met.
fn parts(results: &Results) -> Table {
    let halves = [Kind::HighLatency, Kind::Uncommon];
    let mut entries = Vec::new();
    for half in halves {
        let about = WHOLE.kind(Kind::Both.id()).part(half.id());
        let heading = |what: &str| format!("{}: {what}", words(half));
        entries.extend([
            Entry::new(heading("rate without"), FOLLOWED, about.clone().asked(false)),
            Entry::new(heading("rate"), FOLLOWED, about.clone().asked(true)),
            Entry::new(heading("lift"), GAIN, about),
        ]);
    }
    results.table("Both requests at once and each half alone", &[], &entries)
}

fn figure(results: &Results) -> Figure {
    let panels = Kind::ALL.map(|kind| {
        let about = |asked: bool| WHOLE.kind(kind.id()).asked(asked);
        let entries = [
            Entry::new("without the request", FOLLOWED, about(false)),
            Entry::new("with the request", FOLLOWED, about(true)),
        ];
        let y = |_: &_| Axis::share("instruction-following rate (%)");
        results.panel(words(kind), y, &REFERENCES, &entries)
    });
    let note = "Fraction of prompts answered by a valid graph that does what is asked. Real: other test graphs of the prompt's service, or of its service, num_edges and depth, which nobody asked. No training prompt asks for both.";
    let figure = results.figure("Instruction following", panels.to_vec(), PAGE, 300.0, note);
    Figure { across: 3, ..figure }
}
