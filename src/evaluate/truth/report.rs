//! Distance from the simulator's true distribution: tables and figures.

use std::collections::BTreeSet;

use super::{BRANCH_RECALL, BRANCHES, CALLS_KL, CALLS_TV, EXPECTED_RECALL, FALSE_CALLS, SHAPES_TV};
use crate::evaluate::answers::{ACCURACY, VALID};
use crate::evaluate::{Metric, WHOLE};
use crate::number::grouped;
use crate::report::figure::{Axis, BarSeries, Bars, Bounded, COLUMN, Figure, PAGE, Style};
use crate::report::table::Table;
use crate::report::{Columns, Entry, Reference, ReportFiles, Results};

const REFERENCES: [Reference; 2] = [
    ("real (training)", |about| about.reference("train")),
    ("real (test)", |about| about.reference("test")),
];

/// Distances and hallucinations of valid graphs, and recall of branches.
pub fn columns() -> Columns {
    let valid = WHOLE.graphs("valid");
    let mut entries = vec![
        Entry::new("TV calls: valid", CALLS_TV, valid.clone()),
        Entry::new("KL calls: valid", CALLS_KL, valid.clone()),
        Entry::new("TV shapes", SHAPES_TV, WHOLE),
        Entry::new("hallucinated calls: valid", FALSE_CALLS, valid),
    ];
    let recall = by_probability(BRANCH_RECALL);
    entries.extend(
        recall.map(|entry| Entry {
            heading: format!("rare-branch recall: {}", entry.heading),
            ..entry
        }),
    );
    Columns::new(entries, &REFERENCES)
}

pub fn report(results: &Results) -> ReportFiles {
    let mut files = ReportFiles::default();
    files.table("truth", distances(results));
    files.table("branches", branches(results));
    files.figure("truth", distances_figure(results));
    if let Some(plotted) = results.plotted() {
        files.figure("branches", branches_figure(&plotted));
    }
    files
}

fn distances(results: &Results) -> Table {
    let (valid, all) = (WHOLE.graphs("valid"), WHOLE.graphs("all"));
    let entries = [
        Entry::new("valid", VALID, WHOLE),
        Entry::new(ACCURACY.title, ACCURACY, WHOLE),
        Entry::new("TV calls: valid", CALLS_TV, valid.clone()),
        Entry::new("TV calls: all", CALLS_TV, all.clone()),
        Entry::new("KL calls: valid", CALLS_KL, valid.clone()),
        Entry::new("KL calls: all", CALLS_KL, all.clone()),
        Entry::new("TV shapes", SHAPES_TV, WHOLE),
        Entry::new("hallucinated calls: valid", FALSE_CALLS, valid),
        Entry::new("hallucinated calls: all", FALSE_CALLS, all),
    ];
    let mut table = results.table("Distance from the truth", &REFERENCES, &entries);
    let about = "Against the distribution that the simulator draws from, which is known exactly, for the services that the prompts ask for: of calls by service, and of shapes (num_edges, depth) by service. A generator that keeps to num_edges and depth of the prompt has the prompts' own distance of shapes. Hallucinated calls: no graph of the service can have them. Samples are away from the truth by chance: the perfect generator shows by how much, asked for the same, and what a temperature below 1 costs it.";
    table.notes.insert(0, about.into());
    table
}

/// An entry for each bin of branches, with the bin in print.
fn by_probability(metric: &'static Metric) -> [Entry; BRANCHES.len()] {
    let percent = |share: f64| 100.0 * share;
    let mut above = None;
    BRANCHES.map(|(bin, least)| {
        let heading = match above.replace(least) {
            None => format!("≥ {} %", percent(least)),
            Some(most) if least == 0.0 => format!("< {} %", percent(most)),
            Some(most) => format!("{}–{} %", percent(least), percent(most)),
        };
        Entry::new(heading, metric, WHOLE.probability(bin))
    })
}

fn branches(results: &Results) -> Table {
    let expected = by_probability(EXPECTED_RECALL);
    let expected =
        expected.map(|entry| Entry { heading: format!("{}: expected", entry.heading), ..entry });
    let pairs = by_probability(BRANCH_RECALL).into_iter().zip(expected);
    let entries: Vec<Entry> = pairs.flat_map(|(found, expected)| [found, expected]).collect();
    let title = "Rare-branch recall by true probability";
    let mut table = results.table(title, &REFERENCES, &entries);
    let about = format!(
        "Fraction of the branches (communications that a service can have) that occur in a valid answer, by the true probability of occurring in a graph of the service; beside it what as many draws from the truth find on average.{} More prompts find more, so only rows with the same prompts can be compared.",
        counts(results)
    );
    table.notes.insert(0, about);
    table
}

/// How many branches there are, where all variants agree.
fn counts(results: &Results) -> String {
    let entries = by_probability(BRANCH_RECALL);
    let found = results.find(&entries);
    let counts = entries.iter().enumerate().map(|(place, entry)| {
        let rows = results.variants.iter().flat_map(|variant| found.rows(variant, place));
        let counts: BTreeSet<u64> = rows.map(|row| row.count).collect();
        let count = counts.first().filter(|_| counts.len() == 1)?;
        Some(format!("{} of {}", grouped(*count, ","), entry.heading))
    });
    let counts: Option<Vec<String>> = counts.collect();
    counts.map_or_else(String::new, |counts| format!(" Branches: {}.", counts.join(", ")))
}

/// Distance of the calls, a place on the axis for each variant.
fn distances_figure(results: &Results) -> Figure {
    let entries = [
        Entry::new("valid graphs", CALLS_TV, WHOLE.graphs("valid")),
        Entry::new("all answers", CALLS_TV, WHOLE.graphs("all")),
    ];
    let y = |bars: &Bars| Axis::from_zero("total variation distance", bars.values());
    let panel = results.panel("", y, &REFERENCES, &entries);
    let note = "Distance of the calls from those that the simulator's true distribution gives the services of the prompts; lower is better. Samples are away from it by chance; the perfect generator shows by how much.";
    results.figure("Distance of calls from the truth", vec![panel], PAGE, 300.0, note)
}

fn branches_figure(results: &Results) -> Figure {
    let entries = by_probability(BRANCH_RECALL);
    let truth = results.find(&by_probability(EXPECTED_RECALL));
    let first = results.variants.iter().find(|variant| variant.failure().is_none());
    let expected = |entry| first.map_or(Bounded::NONE, |variant| truth.bounded(variant, entry));
    let expected = BarSeries {
        label: "expected of the truth".into(),
        style: Style::Real,
        values: (0..entries.len()).map(expected).collect(),
    };
    let x = "true probability in a graph of the service";
    let y = |_: &Bars| Axis::share("rare-branch recall (%)");
    let panel = results.panel_by_entry(x, y, &entries, None, Some(expected));
    let note = "Fraction of the communications that a service can have which occur in at least one valid answer. Bars: what as many draws from the truth as there are prompts find on average.";
    let title = "Rare-branch recall by true probability";
    results.figure(title, vec![panel], COLUMN, 260.0, note)
}
