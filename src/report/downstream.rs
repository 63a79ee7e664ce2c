//! Downstream tasks: models trained on generated graphs, tested on real ones.

use super::arms::{self, Arm, COST};
use super::figure::{Axis, Figure, PAGE};
use super::notes::{figure_notes, list};
use super::overview::{self, Entry, Reference};
use super::{ReportFiles, ReportInput, downstream_anomalies, published};
use crate::evaluate::downstream::{
    ACCURACY, ACCURACY_GAP, APPLICATION, AUC, BALANCED_ACCURACY, F1, GAP, TRAINING,
};
use crate::evaluate::{Dimensions, Record, WHOLE};
use crate::number::grouped;

/// A task: its tables, named after it, have a row for each reference and arm.
struct Shown {
    /// Name in records.
    task: &'static str,
    title: &'static str,
    references: &'static [Reference],
    entries: fn() -> Vec<Entry>,
    /// What the first panel of the figure shows, in per cent, and the label of its axis.
    measures: (&'static [&'static str], &'static str),
    /// The same for the second panel, in points.
    gap: (&'static str, &'static str),
    note: &'static str,
}

const REAL: Reference = ("real training graphs", Some("real"));
const MAJORITY: Reference = ("majority class", Some("majority"));
/// What an example's group says without a look at its features.
const RATES: Reference = ("real rates by service", Some("rates"));
const CALL_RATES: Reference = ("real rates by service and call", Some("rates"));

const TASKS: [Shown; 3] = [
    Shown {
        task: "critical-components",
        title: "Critical components, trained on generated and tested on real graphs",
        references: &[REAL, MAJORITY],
        entries: critical,
        measures: (&[BALANCED_ACCURACY], "balanced accuracy"),
        gap: (ACCURACY_GAP, "accuracy, difference to real (points)"),
        note: "Which microservices make an application slow, from relative importance and congestion intensity in windows of 20 traces (FIRM), by a support vector machine, mean of 5 fits. Critical: in a slow trace of the window its own time exceeds the usual most. Accuracy is to be read beside the majority class.",
    },
    Shown {
        task: "high-latency",
        title: "High latency, trained on generated and tested on real graphs",
        references: &[REAL, RATES, MAJORITY],
        entries: || classification(WHOLE.task("high-latency")),
        measures: (&[BALANCED_ACCURACY, AUC], "balanced accuracy, ROC AUC"),
        gap: (GAP, "difference to real (points)"),
        note: "Whether a graph's latency reaches the p90 of its service, from its calls without any times, by logistic regression. Cross-fitted: no model has seen an answer to the prompt that was taken from the graph it judges.",
    },
    Shown {
        task: "uncommon-communication",
        title: "Uncommon communications, trained on generated and tested on real graphs",
        references: &[REAL, CALL_RATES, MAJORITY],
        entries: || classification(WHOLE.task("uncommon-communication")),
        measures: (&[BALANCED_ACCURACY, AUC], "balanced accuracy, ROC AUC"),
        gap: (GAP, "difference to real (points)"),
        note: "Whether a call's children hold a communication that occurs in fewer than 10 % of the service's graphs, from the call, its parent and its siblings, by logistic regression. Cross-fitted: no model has seen an answer to the prompt that was taken from the graph it judges.",
    },
];

const MEASURE: &str = "balanced accuracy";

const GAPS: &str = "Differences are to the same model trained on as many real training graphs, in points, paired by test graph: below 0 generated graphs taught less. Balanced accuracy is the mean over both classes: a model that knows nothing reaches 50 %. An arm whose training examples are of one class names that class always.";

pub fn report(input: &ReportInput) -> ReportFiles {
    let arms = arms::arms(input.runs);
    let mut files = ReportFiles::default();
    for shown in TASKS.iter().filter(|shown| shown.is_asked(input, &arms)) {
        let notes = shown.notes(input);
        let entries = (shown.entries)();
        let mut table = overview::table(shown.title, input, &arms, shown.references, &entries);
        table.notes.splice(0..0, notes.iter().cloned());
        files.table(shown.task, table);
        let published = published::compare_task(input, &arms, shown.task);
        files.table(format!("{}-published", shown.task).as_str(), published);
        files.figure(shown.task, shown.figure(input, &arms, notes));
    }
    downstream_anomalies::add(input, &arms, &mut files);
    if files.tables.is_empty() {
        // Every arm failed: rows say why.
        let entries = classification(WHOLE);
        files.table("downstream", overview::table("Downstream tasks", input, &arms, &[], &entries));
    }
    files.table(COST, arms::cost_table(input, &arms));
    files
}

fn critical() -> Vec<Entry> {
    let of = |place: u32| {
        let about = WHOLE.task("critical-components").application(place);
        let entry = |heading: &str, metric| {
            Entry::new(format!("{heading}, application {place}"), metric, about.clone())
        };
        [
            entry("accuracy", ACCURACY),
            entry("difference", ACCURACY_GAP),
            entry("balanced accuracy", BALANCED_ACCURACY),
            entry("F1", F1),
            entry("critical in training", TRAINING),
        ]
    };
    (1..=2).flat_map(of).collect()
}

fn classification(about: Dimensions) -> Vec<Entry> {
    vec![
        Entry::new(MEASURE, BALANCED_ACCURACY, about.clone()),
        Entry::new("difference", GAP, about.clone()),
        Entry::new("ROC AUC", AUC, about.clone()),
        Entry::new("true in training", TRAINING, about),
    ]
}

impl Shown {
    /// Whether a record is about this task.
    fn is_asked(&self, input: &ReportInput, arms: &[Arm]) -> bool {
        let is_own = |about: &Dimensions| about.task.as_deref() == Some(self.task);
        let floor = input.floor.unwrap_or_default();
        floor.iter().any(|record| is_own(&record.dimensions))
            || arms.iter().flat_map(|arm| arm.dimensions_of(BALANCED_ACCURACY)).any(is_own)
    }

    fn notes(&self, input: &ReportInput) -> Vec<String> {
        let mut notes = vec![self.note.to_owned(), GAPS.to_owned()];
        let floor = input.floor.unwrap_or_default();
        notes.extend(self.tested_on(floor));
        let applications: Vec<String> = floor
            .iter()
            .filter(|record| record.metric == APPLICATION)
            .filter_map(|record| {
                let Dimensions { application, service, .. } = &record.dimensions;
                let (place, service) = (application.as_ref()?, service.as_ref()?);
                Some(format!("{place} is `{service}` with {} training graphs", record.count))
            })
            .collect();
        if self.task != "critical-components" {
            return notes;
        }
        if !applications.is_empty() {
            notes.push(format!("Applications: {}.", list(&applications)));
        } else {
            notes.push("No application has enough graphs.".to_owned());
        }
        notes
    }

    /// What stands behind the numbers of a classification, or why there are none.
    fn tested_on(&self, floor: &[Record]) -> Option<String> {
        let about = WHOLE.task(self.task).reference("real");
        let measured = |record: &&Record| record.is(BALANCED_ACCURACY, &about);
        let record = floor.iter().find(measured)?;
        let graphs = match record.count {
            0 => return Some("No number: no test graph gives an example.".to_owned()),
            1 => "1 test graph".to_owned(),
            count => format!("{} test graphs", grouped(count, ",")),
        };
        Some(match (record.value.is_nan(), record.low.is_nan()) {
            (true, _) => format!(
                "No number: examples come from {graphs}, and one of the answers is missing there or in training."
            ),
            (false, true) => {
                format!("Tested on examples of {graphs}, of too few services for intervals.")
            }
            (false, false) => format!("Tested on examples of {graphs}."),
        })
    }

    fn figure(&self, input: &ReportInput, arms: &[Arm], notes: Vec<String>) -> Figure {
        // Series are told apart by application, or else by measure.
        let of = |metrics: &[&str]| -> Vec<Entry> {
            let entries = (self.entries)().into_iter();
            let entries = entries.filter(|entry| metrics.contains(&entry.metric));
            let named = entries.map(|entry| match entry.about.application {
                Some(place) => Entry { heading: format!("application {place}"), ..entry },
                None if entry.metric == GAP => Entry { heading: MEASURE.to_owned(), ..entry },
                None => entry,
            });
            named.collect()
        };
        let ((measures, shares), (gap, points)) = (self.measures, self.gap);
        let shares = overview::panel(
            "",
            |_| Axis::share(shares),
            input,
            arms,
            self.references,
            &of(measures),
        );
        let gaps = overview::panel(
            "",
            |bars| {
                let values = bars.values();
                let low = values.iter().copied().fold(-1.0, f64::min);
                let high = values.iter().copied().fold(1.0, f64::max);
                Axis::linear(points, low * 1.05, high * 1.05)
            },
            input,
            arms,
            &[],
            &of(&[gap]),
        );
        Figure {
            title: format!("{}: {}", self.title, input.title),
            panels: vec![shares, gaps],
            across: 1,
            width: PAGE,
            row_height: 260.0,
            notes: notes.into_iter().chain(figure_notes(input, arms)).collect(),
        }
    }
}
