//! Distance from the simulator's true distribution.

use super::arms::{self, Arm, COST, name};
use super::figure::{Axis, BarSeries, Bars, Bounded, COLUMN, Content, Figure, PAGE, Panel, Style};
use super::notes::figure_notes;
use super::overview::{self, Entry, Reference};
use super::table::Table;
use super::{ReportFiles, ReportInput};
use crate::evaluate::accuracy::ACCURACY;
use crate::evaluate::fidelity::VALID;
use crate::evaluate::truth::{
    BRANCH_RECALL, BRANCHES, CALLS_KL, CALLS_TV, EXPECTED_RECALL, FALSE_CALLS, SHAPES_TV,
};
use crate::evaluate::{Dimensions, Record, WHOLE};
use crate::number::grouped;

const REFERENCES: [Reference; 2] =
    [("real (training)", Some("train")), ("real (test)", Some("test"))];

pub fn report(input: &ReportInput) -> ReportFiles {
    let arms = arms::arms(input.runs);
    let mut files = ReportFiles::default();
    files.table("truth", distances(input, &arms));
    files.table("branches", branches(input, &arms));
    files.tables.extend(arms::effort_table(input, &arms).map(|table| ("effort".to_owned(), table)));
    files.table(COST, arms::cost_table(input, &arms));
    files.figure("truth", distances_figure(input, &arms));
    let drawn = arms::drawn(input);
    if drawn.len() <= super::MAX_DRAWN {
        files.figure("branches", branches_figure(input, &drawn));
    }
    files
}

fn distances(input: &ReportInput, arms: &[Arm]) -> Table {
    let (valid, all) = (WHOLE.graphs("valid"), WHOLE.graphs("all"));
    let entries = [
        Entry::new("valid", VALID, WHOLE),
        Entry::new("accuracy", ACCURACY, WHOLE),
        Entry::new("TV calls, valid", CALLS_TV, valid.clone()),
        Entry::new("TV calls, all", CALLS_TV, all.clone()),
        Entry::new("KL calls, valid", CALLS_KL, valid.clone()),
        Entry::new("KL calls, all", CALLS_KL, all.clone()),
        Entry::new("TV shapes", SHAPES_TV, WHOLE),
        Entry::new("false calls, valid", FALSE_CALLS, valid),
        Entry::new("false calls, all", FALSE_CALLS, all),
    ];
    let mut table = overview::table("Distance from the truth", input, arms, &REFERENCES, &entries);
    let about = "Against the distribution that the simulator draws from, which is known exactly, for the services that the prompts ask for: of calls by service, and of shapes (num_edges, depth) by service. A generator that keeps to num_edges and depth of the prompt has the prompts' own distance of shapes. False calls: no graph of the service can have them. Samples are away from the truth by chance, the more the smaller they are: the test graphs show by how much, where they are about as many as the prompts.";
    table.notes.insert(0, about.into());
    table
}

fn about(bin: &str) -> Dimensions {
    WHOLE.probability(bin)
}

/// A bin in print.
fn heading(bin: &str) -> String {
    match bin.strip_suffix('+') {
        Some(least) => format!("≥ {}", least.replace('%', " %")),
        None => match bin.strip_prefix("0-") {
            Some(most) => format!("< {}", most.replace('%', " %")),
            None => bin.replace('-', "–").replace('%', " %"),
        },
    }
}

fn branches(input: &ReportInput, arms: &[Arm]) -> Table {
    let mut entries = Vec::new();
    for (bin, _) in BRANCHES {
        entries.push(Entry::new(heading(bin), BRANCH_RECALL, about(bin)));
        let expected = format!("{}, expected", heading(bin));
        entries.push(Entry::new(expected, EXPECTED_RECALL, about(bin)));
    }
    let title = "Branches found, by their true probability";
    let mut table = overview::table(title, input, arms, &REFERENCES, &entries);
    let about = format!(
        "Share of the branches (communications that a service can have) that occur in a valid answer, by the true probability of occurring in a graph of the service; beside it what as many draws from the truth find on average.{} More prompts find more, so only rows with the same prompts can be compared.",
        counts(arms)
    );
    table.notes.insert(0, about);
    table
}

/// How many branches there are, where all arms agree.
fn counts(arms: &[Arm]) -> String {
    let records = arms.iter().flat_map(|arm| &arm.runs).filter_map(|run| run.outcome.as_ref().ok());
    let count = |records: &Vec<Record>, bin: &str| {
        let found = records.iter().find(|record| record.is(BRANCH_RECALL, &about(bin)));
        found.map(|record| record.count)
    };
    let counts = records.map(|records| BRANCHES.map(|(bin, _)| count(records, bin)));
    let counts: Vec<[Option<u64>; BRANCHES.len()]> = counts.collect();
    match counts.as_slice() {
        [first, rest @ ..] if rest.iter().all(|other| other == first) => {
            let text = BRANCHES.iter().zip(first).filter_map(|((bin, _), count)| {
                Some(format!("{} of {}", grouped((*count)?, ","), heading(bin)))
            });
            format!(" Branches: {}.", text.collect::<Vec<_>>().join(", "))
        }
        _ => String::new(),
    }
}

/// Distance of the calls, a place on the axis for each arm.
fn distances_figure(input: &ReportInput, arms: &[Arm]) -> Figure {
    let entries = [
        Entry::new("valid graphs", CALLS_TV, WHOLE.graphs("valid")),
        Entry::new("all answers", CALLS_TV, WHOLE.graphs("all")),
    ];
    let y = |bars: &Bars| Axis::from_zero("total variation distance", bars.values());
    let panel = overview::panel("", y, input, arms, &REFERENCES, &entries);
    let mut notes = vec![
        "Distance of the calls from those that the simulator's true distribution gives the services of the prompts; lower is better. Samples are away from it by chance; the row of test graphs shows by how much, where they are about as many as the prompts."
            .to_owned(),
    ];
    notes.extend(figure_notes(input, arms));
    Figure {
        title: format!("Distance of calls from the truth: {}", input.title),
        panels: vec![panel],
        across: 1,
        width: PAGE,
        row_height: 300.0,
        notes,
    }
}

fn branches_figure(input: &ReportInput, arms: &[Arm]) -> Figure {
    let shown: Vec<&Arm> = arms.iter().filter(|arm| arm.failure().is_none()).collect();
    let values = |value: &dyn Fn(&Dimensions) -> Bounded| {
        BRANCHES.iter().map(|(bin, _)| value(&about(bin))).collect::<Vec<_>>()
    };
    let expected = BarSeries {
        label: "expected of the truth".into(),
        style: Style::Real,
        values: values(&|about| {
            shown.first().map_or(Bounded::NONE, |arm| arm.bounded(EXPECTED_RECALL, about))
        }),
    };
    let series = shown.iter().map(|arm| BarSeries {
        label: name(arm, arms),
        style: arm.style,
        values: values(&|about| arm.bounded(BRANCH_RECALL, about)),
    });
    let panel = Panel {
        title: String::new(),
        x: Axis::names(
            "true probability in a graph of the service",
            BRANCHES.map(|(bin, _)| heading(bin)).to_vec(),
        ),
        y: Axis::share("branches found (%)"),
        content: Content::Bars(Bars { backdrop: Some(expected), series: series.collect() }),
    };
    let mut notes = vec![
        "Share of the communications that a service can have which occur in at least one valid answer. Bars: what as many draws from the truth as there are prompts find on average."
            .to_owned(),
    ];
    notes.extend(figure_notes(input, arms));
    Figure {
        title: format!("Branches found, by their true probability: {}", input.title),
        panels: vec![panel],
        across: 1,
        width: COLUMN,
        row_height: 260.0,
        notes,
    }
}
