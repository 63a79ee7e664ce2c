//! Trained networks tuned for other tasks (figure 7).

use super::arms::{self, Arm, COST};
use super::figure::{Axis, COLUMN, Figure};
use super::notes::figure_notes;
use super::overview::{self, Entry};
use super::{ReportFiles, ReportInput, published};
use crate::evaluate::metric::Family;
use crate::evaluate::{Dimensions, WHOLE};
use crate::probes::ACCURACY;

const ARMS: &str = "Share of questions about test graphs that are answered exactly. Tuned: the network that was trained on traces, tuned on questions about training graphs; untrained: the same network from random weights, with the same vocabulary, questions and number of tokens. The other rows know the same questions and have no network, but `all training graphs`, which has counted every question that training graphs give.";

pub fn report(input: &ReportInput) -> ReportFiles {
    let arms = arms::arms(input.runs);
    let entries = entries(&arms);
    let mut files = ReportFiles::default();
    let mut table = overview::table("Answers to questions", input, &arms, &[], &entries);
    table.notes.insert(0, ARMS.to_owned());
    files.table("probes", table);
    files.table("published", published::compare(input, &arms, Family::Probes));
    files.table(COST, arms::cost_table(input, &arms));
    files.figure("probes", figure(input, &arms, &entries));
    files
}

/// The whole, then its parts.
fn entries(arms: &[Arm]) -> Vec<Entry> {
    let parts = arms.iter().map(|arm| arm.dimensions_of(ACCURACY)).find(|parts| !parts.is_empty());
    // Failed arms need a column for the reason.
    let parts = parts.unwrap_or_else(|| vec![&WHOLE]);
    let entry = |about: &Dimensions| {
        let heading = match (&about.answer, &about.attribute) {
            (Some(answer), _) => format!("answer {answer}"),
            (None, Some(attribute)) => format!("attribute {attribute}"),
            (None, None) => "accuracy".to_owned(),
        };
        Entry::new(heading, ACCURACY, about.clone())
    };
    parts.into_iter().map(entry).collect()
}

fn figure(input: &ReportInput, arms: &[Arm], entries: &[Entry]) -> Figure {
    let axis = |_: &_| Axis::share("accuracy (%)");
    Figure {
        title: format!("Answers to questions: {}", input.title),
        panels: vec![overview::panel("", axis, input, arms, &[], &entries[..1])],
        across: 1,
        width: COLUMN,
        row_height: 320.0,
        notes: figure_notes(input, arms),
    }
}
