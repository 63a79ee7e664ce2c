//! Fidelity in one number and by descriptor; degrees and times.

use super::{
    CONCURRENCY_KS, CONTINGENCY_SIMILARITY, CORRELATION_SIMILARITY, DESCRIPTORS, DETECTION,
    EMD_IN_DEGREE, EMD_OUT_DEGREE, EMD_RESPONSE_TIME, FEWEST, MMD, PGD, QUANTILE_RATIO, QUANTILES,
    RESPONSE_TIME_COVERAGE, RESPONSE_TIME_EMD, RESPONSE_TIME_KS, START_OFFSET_KS,
};
use crate::evaluate::answers::VALID;
use crate::evaluate::{Metric, WHOLE};
use crate::report::figure::{Axis, Bars, Figure, PAGE};
use crate::report::table::{Cell, Table};
use crate::report::{Columns, Entry, Reference, ReportFiles, Results, list};

const REFERENCES: [Reference; 2] = [
    ("split-half (real vs. real)", |about| about),
    ("train vs. test", |about| about.reference("train")),
];

/// What the overview shows of distributions.
pub fn columns() -> Columns {
    let mut entries = overview_entries();
    entries.retain(|entry| entry.metric.of_samples);
    Columns::new(entries, &REFERENCES)
}

pub fn report(results: &Results) -> ReportFiles {
    let table = |title: &str, entries: &[Entry], note: &str| -> Table {
        let mut table = results.table(title, &REFERENCES, entries);
        table.notes.insert(0, note.to_owned());
        let why = without_number(&table, entries);
        table.notes.splice(1..1, why);
        table
    };
    let mut files = ReportFiles::default();
    files.table("distribution", table("Distributions", &overview_entries(), OVERVIEW_NOTE));
    let descriptors = descriptor_entries(PGD);
    files.table("descriptors", table("Discrepancy by descriptor", &descriptors, DESCRIPTORS_NOTE));
    let detection = descriptor_entries(DETECTION);
    files.table("detection", table("Detection score by descriptor", &detection, DETECTION_NOTE));
    files.table("degrees", table("Degrees and response times", &degree_entries(), DEGREES_NOTE));
    files.table("times", table("Times", &time_entries(), TIMES_NOTE));
    files.figure("discrepancy", discrepancy_figure(results));
    files.figure("fig16-distances", distances_figure(results));
    files
}

const OVERVIEW_NOTE: &str = "PGD: PolyGraph discrepancy, how well a logistic regression distinguishes valid synthetic graphs from test graphs, 0 (not at all) to 1; MMD²: squared maximum mean discrepancy; EMD: earth mover's distance in standard deviations of the real side, degrees of microservices within a graph; KS: Kolmogorov-Smirnov distance, of response times for each microservice and type. For these lower is better; for the similarity of caller-called pairs higher is. The rows of real graphs show what two samples of the truth reach.";
const DESCRIPTORS_NOTE: &str = "PolyGraph discrepancy with one descriptor of call trees each; the discrepancy of the whole is that of the descriptor that does best in cross-validation. Lower is better.";
const DETECTION_NOTE: &str = "1 − mean over folds of (2 · max(½, AUC) − 1): 1 where a classifier that sees one descriptor of call trees cannot distinguish synthetic from real graphs (classifier two-sample test). Higher is better.";
const DEGREES_NOTE: &str = "Earth mover's distance of degrees and response times, in standard deviations of the real side; lower is better. Nodes are the microservices of one graph with all calls to them put together, the calls of the tree, or the microservices of all graphs put together (as many graphs on both sides), where degrees count different callers and called.";
const TIMES_NOTE: &str = "Response times for each microservice and type with 20 calls on both sides, and the fraction of real calls that these are; quantiles of synthetic over real, 1 is best; similarity of the correlations of edges, depth and latency, higher is better.";

/// Why columns have no number in any row, those of real graphs among them.
fn without_number(table: &Table, entries: &[Entry]) -> Vec<String> {
    let first = table.columns.len() - entries.len();
    let is_number = |cell: &Cell| match cell {
        Cell::Number { value, .. } | Cell::Share { value, .. } => !value.is_nan(),
        _ => false,
    };
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for (column, entry) in (first..).zip(entries) {
        let mut cells = table.rows.iter().map(|row| &row[column]);
        let failed = |cell: &Cell| matches!(cell, Cell::Failed(_));
        if cells.clone().any(is_number) || cells.all(failed) {
            continue;
        }
        let Some(reason) = why_not(entry.metric) else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, headings)) => headings.push(&entry.heading),
            None => reasons.push((reason, vec![&entry.heading])),
        }
    }
    let note = |(reason, headings): (String, Vec<&str>)| {
        let columns = if headings.len() == entries.len() { "all".into() } else { list(&headings) };
        format!("No number ({columns}): {reason}.")
    };
    reasons.into_iter().map(note).collect()
}

/// Why a metric may have no number.
fn why_not(metric: &Metric) -> Option<String> {
    let is_any = |of: &[&Metric]| of.contains(&metric);
    Some(if is_any(&[PGD, DETECTION]) {
        format!("a side has fewer than {FEWEST} graphs")
    } else if is_any(&[EMD_IN_DEGREE, EMD_OUT_DEGREE, EMD_RESPONSE_TIME]) {
        "the real values are all equal, and have no standard deviation to measure in".to_owned()
    } else if is_any(&[CORRELATION_SIMILARITY]) {
        "one of the two is the same in all real graphs, and is correlated with nothing".to_owned()
    } else {
        return None;
    })
}

fn overview_entries() -> Vec<Entry> {
    vec![
        Entry::new("valid", VALID, WHOLE),
        Entry::new("PGD", PGD, WHOLE),
        Entry::new("MMD²", MMD, WHOLE),
        Entry::new("EMD in-degree", EMD_IN_DEGREE, WHOLE.nodes("microservices")),
        Entry::new("EMD out-degree", EMD_OUT_DEGREE, WHOLE.nodes("microservices")),
        Entry::new("EMD response time", EMD_RESPONSE_TIME, WHOLE),
        Entry::new("KS response time", RESPONSE_TIME_KS, WHOLE),
        Entry::new("KS start offset", START_OFFSET_KS, WHOLE),
        Entry::new("KS concurrency", CONCURRENCY_KS, WHOLE),
        Entry::new("similarity of pairs", CONTINGENCY_SIMILARITY, WHOLE),
    ]
}

fn descriptor_entries(metric: &'static Metric) -> Vec<Entry> {
    let entry = |name: &str| Entry::new(name.replace('-', " "), metric, WHOLE.descriptor(name));
    DESCRIPTORS.iter().map(|descriptor| entry(descriptor.name)).collect()
}

fn degree_entries() -> Vec<Entry> {
    vec![
        Entry::new("in-degree of microservices", EMD_IN_DEGREE, WHOLE.nodes("microservices")),
        Entry::new("out-degree of microservices", EMD_OUT_DEGREE, WHOLE.nodes("microservices")),
        Entry::new("out-degree of calls", EMD_OUT_DEGREE, WHOLE.nodes("calls")),
        Entry::new("in-degree in the service graph", EMD_IN_DEGREE, WHOLE.nodes("service-graph")),
        Entry::new("out-degree in the service graph", EMD_OUT_DEGREE, WHOLE.nodes("service-graph")),
        Entry::new("response time", EMD_RESPONSE_TIME, WHOLE),
    ]
}

fn time_entries() -> Vec<Entry> {
    let mut entries = vec![
        Entry::new("KS response time", RESPONSE_TIME_KS, WHOLE),
        Entry::new("EMD response time / mean", RESPONSE_TIME_EMD, WHOLE),
        Entry::new("calls looked at", RESPONSE_TIME_COVERAGE, WHOLE),
    ];
    for (of, words) in [("latency", "latency"), ("response-time", "response time")] {
        entries.extend(QUANTILES.iter().map(|(name, _)| {
            let about = WHOLE.of(of).quantile(*name);
            Entry::new(format!("{name} {words}"), QUANTILE_RATIO, about)
        }));
    }
    entries.extend(
        [
            ("correlation of edges and depth", "edges-depth"),
            ("correlation of edges and latency", "edges-latency"),
            ("correlation of depth and latency", "depth-latency"),
        ]
        .map(|(heading, pair)| Entry::new(heading, CORRELATION_SIMILARITY, WHOLE.pair(pair))),
    );
    entries
}

fn discrepancy_figure(results: &Results) -> Figure {
    let entries = [Entry::new("all descriptors", PGD, WHOLE)];
    let axis = |_: &Bars| Axis::linear("PolyGraph discrepancy", 0.0, 1.0);
    let panel = results.panel("", axis, &REFERENCES, &entries);
    let note = "How well a logistic regression distinguishes valid synthetic graphs from test graphs by the descriptor that serves best: 0 not at all, 1 without fail. The rows of real graphs show what two samples of the truth reach.";
    results.figure("PolyGraph discrepancy", vec![panel], PAGE, 360.0, note)
}

/// Figure 16.
fn distances_figure(results: &Results) -> Figure {
    let entries = [
        Entry::new("in-degree", EMD_IN_DEGREE, WHOLE.nodes("microservices")),
        Entry::new("out-degree", EMD_OUT_DEGREE, WHOLE.nodes("microservices")),
        Entry::new("response time", EMD_RESPONSE_TIME, WHOLE),
    ];
    // A few services can stretch an interval to many times the distance.
    let axis = |bars: &Bars| {
        Axis::from_zero("distance (standard deviations)", bars.heights().map(|height| 1.4 * height))
    };
    let panel = results.panel("", axis, &REFERENCES, &entries);
    let title = "Distances of degrees and response times";
    let note = "Earth mover's distance of valid synthetic graphs from test graphs, in standard deviations of the real side; degrees of the microservices within a graph. Lower is better, and the rows of real graphs show what two samples of the truth reach. Intervals that go on above are in the tables.";
    results.figure(title, vec![panel], PAGE, 360.0, note)
}
