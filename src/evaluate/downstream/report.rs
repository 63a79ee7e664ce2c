//! Downstream tasks: models trained on generated graphs, tested on real ones. Figure 5 and table 2.

use std::collections::BTreeSet;

use super::anomalies::{AUC as ANOMALY_AUC, AUC_PR as ANOMALY_AUC_PR};
use super::{ACCURACY, ACCURACY_GAP, APPLICATION, AUC, BALANCED_ACCURACY, F1, GAP, TRAINING};
use crate::evaluate::{Metric, WHOLE};
use crate::number::grouped;
use crate::report::figure::{Axis, Bars, Figure, PAGE};
use crate::report::{Columns, Entry, Reference, ReportFiles, Results, list};

/// A task, whose table and figure are named after it.
struct Shown {
    /// Name in records.
    task: &'static str,
    title: &'static str,
    references: &'static [Reference],
    entries: fn(&'static str) -> Vec<Entry>,
    /// What the first panel of the figure shows, in per cent, and the label of its axis.
    measures: (&'static [&'static Metric], &'static str),
    /// The same for the second panel, in points.
    gap: (&'static Metric, &'static str),
    note: &'static str,
}

const REAL: Reference = ("real training graphs", |about| about.reference("real"));
const MAJORITY: Reference = ("majority class", |about| about.reference("majority"));
/// What an example's group says without a look at its features.
const RATES: Reference = ("real rates by service", |about| about.reference("rates"));
const CALL_RATES: Reference = ("real rates by service and call", |about| about.reference("rates"));

const CRITICAL: Shown = Shown {
    task: "critical-components",
    title: "Critical components (trained on generated and tested on real graphs)",
    references: &[REAL, MAJORITY],
    entries: critical,
    measures: (&[BALANCED_ACCURACY], "balanced accuracy"),
    gap: (ACCURACY_GAP, "accuracy: difference to real (points)"),
    note: "Which microservices make an application slow, from relative importance and congestion intensity in windows of 20 traces (FIRM), by a support vector machine, mean of 5 fits. Critical: in a slow trace of the window its own time exceeds the usual most. Accuracy is to be read beside the majority class.",
};

const LATENCY: Shown = Shown {
    task: "high-latency",
    title: "High latency (trained on generated and tested on real graphs)",
    references: &[REAL, RATES, MAJORITY],
    entries: classification,
    measures: (&[BALANCED_ACCURACY, AUC], "balanced accuracy and ROC AUC"),
    gap: (GAP, "difference to real (points)"),
    note: "Whether a graph's latency reaches the p90 of its service, from its calls without any times, by logistic regression. Cross-fitted: no model has seen an answer to the prompt that was taken from the graph it judges.",
};

const UNCOMMON: Shown = Shown {
    task: "uncommon-communication",
    title: "Uncommon communications (trained on generated and tested on real graphs)",
    references: &[REAL, CALL_RATES, MAJORITY],
    entries: classification,
    measures: (&[BALANCED_ACCURACY, AUC], "balanced accuracy and ROC AUC"),
    gap: (GAP, "difference to real (points)"),
    note: "Whether a call's children hold a communication that occurs in fewer than 10 % of the service's graphs, from the call, its parent and its siblings, by logistic regression. Cross-fitted: no model has seen an answer to the prompt that was taken from the graph it judges.",
};

pub fn critical_components(results: &Results) -> ReportFiles {
    report(results, &CRITICAL)
}

pub fn critical_components_columns() -> Columns {
    CRITICAL.columns()
}

pub fn high_latency(results: &Results) -> ReportFiles {
    report(results, &LATENCY)
}

pub fn high_latency_columns() -> Columns {
    LATENCY.columns()
}

pub fn uncommon_communication(results: &Results) -> ReportFiles {
    report(results, &UNCOMMON)
}

pub fn uncommon_communication_columns() -> Columns {
    UNCOMMON.columns()
}

const MEASURE: &str = "balanced accuracy";

const GAPS: &str = "Differences are to the same model trained on as many real training graphs, in points, paired by test graph: below 0 generated graphs taught less. Balanced accuracy is the mean over both classes: a model that knows nothing reaches 50 %. A variant whose training examples are of one class names that class always.";

fn report(results: &Results, shown: &Shown) -> ReportFiles {
    let mut files = ReportFiles::default();
    let notes = shown.notes(results);
    let entries = (shown.entries)(shown.task);
    let mut table = results.table(shown.title, shown.references, &entries);
    table.notes.splice(0..0, notes.iter().cloned());
    files.table(shown.task, table);
    files.figure(shown.task, shown.figure(results, &entries, notes));
    files
}

fn critical(task: &'static str) -> Vec<Entry> {
    let of = |place: u32| {
        let about = WHOLE.task(task).application(place);
        let entry = |heading: &str, metric| {
            Entry::new(format!("{heading}: application {place}"), metric, about.clone())
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

fn classification(task: &'static str) -> Vec<Entry> {
    let about = WHOLE.task(task);
    vec![
        Entry::new(MEASURE, BALANCED_ACCURACY, about.clone()),
        Entry::new("difference", GAP, about.clone()),
        Entry::new("ROC AUC", AUC, about.clone()),
        Entry::new("true in training", TRAINING, about),
    ]
}

impl Shown {
    /// What the models reach. Their differences from real graphs are tested against the row of these.
    fn columns(&self) -> Columns {
        let mut entries = (self.entries)(self.task);
        entries.retain(|entry| [BALANCED_ACCURACY, ACCURACY, AUC].contains(&entry.metric));
        Columns::new(entries, self.references)
    }

    fn notes(&self, results: &Results) -> Vec<String> {
        let mut notes = vec![self.note.to_owned(), GAPS.to_owned()];
        notes.extend(self.tested_on(results));
        if (self.entries)(self.task).iter().all(|entry| entry.about.application.is_none()) {
            return notes;
        }
        let references = results.input.references.unwrap_or_default().iter();
        let applications = references.filter(|record| record.metric == APPLICATION);
        // The same for every seed.
        let applications: BTreeSet<(u32, String)> = applications
            .filter_map(|record| {
                let about = &record.dimensions;
                let (place, service) = (about.application?, about.service.as_ref()?);
                let count = record.count;
                Some((place, format!("{place} is `{service}` with {count} training graphs")))
            })
            .collect();
        let applications: Vec<String> = applications.into_iter().map(|(_, said)| said).collect();
        notes.push(if applications.is_empty() {
            "No application has enough graphs.".to_owned()
        } else {
            format!("Applications: {}.", list(&applications))
        });
        notes
    }

    /// What stands behind the numbers of a classification, or why there are none.
    fn tested_on(&self, results: &Results) -> Option<String> {
        let about = WHOLE.task(self.task).reference("real");
        let found = results.find(&[Entry::new("", BALANCED_ACCURACY, about)]);
        let row = *found.reference_rows(0).first()?;
        let graphs = match row.count {
            0 => return Some("No number: no test graph gives an example.".to_owned()),
            1 => "1 test graph".to_owned(),
            count => format!("{} test graphs", grouped(count, ",")),
        };
        Some(match (row.estimate.value.is_nan(), row.estimate.low.is_nan()) {
            (true, _) => format!(
                "No number: examples come from {graphs}, and one of the answers is missing there or in training."
            ),
            (false, true) => {
                format!("Tested on examples of {graphs}, of too few services for intervals.")
            }
            (false, false) => format!("Tested on examples of {graphs}."),
        })
    }

    fn figure(&self, results: &Results, entries: &[Entry], notes: Vec<String>) -> Figure {
        // Series are told apart by application, or else by measure.
        let of = |metrics: &[&Metric]| -> Vec<Entry> {
            let entries = entries.iter().filter(|entry| metrics.contains(&entry.metric)).cloned();
            let named = entries.map(|entry| match entry.about.application {
                Some(place) => Entry { heading: format!("application {place}"), ..entry },
                None if entry.metric == GAP => Entry { heading: MEASURE.to_owned(), ..entry },
                None => entry,
            });
            named.collect()
        };
        let ((measures, shares), (gap, points)) = (self.measures, self.gap);
        let axis = |_: &Bars| Axis::share(shares);
        let shares = results.panel("", axis, self.references, &of(measures));
        let axis = |bars: &Bars| {
            let values = bars.values();
            let low = values.iter().copied().fold(-1.0, f64::min);
            let high = values.iter().copied().fold(1.0, f64::max);
            Axis::linear(points, low * 1.05, high * 1.05)
        };
        let gaps = results.panel("", axis, &[], &of(&[gap]));
        let mut figure = results.figure(self.title, vec![shares, gaps], PAGE, 260.0, "");
        figure.notes.splice(0..0, notes);
        figure
    }
}

/// Trained on as many real graphs as there are prompts, and on all that may be used; a detector without a
/// network; the size of a graph as its score.
const DETECTORS: [Reference; 4] = [
    ("real training graphs", |about| about.reference("train")),
    ("real training graphs, 5,000", |about| about.reference("train-5000")),
    ("real: counts of calls", |about| about.reference("counting")),
    ("size of the graph", |about| about.reference("size")),
];

/// Kinds of anomalies, of which few datasets have real faults.
const KINDS: [(&str, &str); 4] =
    [("all", "all"), ("structure", "structure"), ("latency", "latency"), ("faults", "fault")];

/// Entries of the kinds that there are records of.
fn detected(results: &Results, metric: &'static Metric, name: &str) -> Vec<Entry> {
    let all =
        KINDS.map(|(words, kind)| Entry::new(format!("{name}{words}"), metric, WHOLE.kind(kind)));
    let found = results.find(&all);
    let of_references = results.references(&DETECTORS, &all);
    let known = |place: usize| {
        let mut variants = results.variants.iter();
        variants.any(|variant| !found.rows(variant, place).is_empty())
            || of_references.iter().any(|(_, values)| values[place].is_some())
    };
    let known: Vec<bool> = (0..all.len()).map(known).collect();
    // Where nothing is known, failed variants need a column for the reason.
    let kept = all.into_iter().zip(&known);
    kept.filter(|(_, is_known)| **is_known || !known.contains(&true)).map(|kept| kept.0).collect()
}

/// Areas of all kinds of anomalies that there are.
pub fn anomaly_columns(results: &Results) -> Columns {
    Columns::new(detected(results, ANOMALY_AUC, "AUC: "), &DETECTORS)
}

/// Anomaly detectors trained on generated graphs (figure 5, right).
pub fn anomalies(results: &Results) -> ReportFiles {
    let columns = [(ANOMALY_AUC, "AUC: "), (ANOMALY_AUC_PR, "AUC-PR: ")]
        .map(|(metric, name)| detected(results, metric, name))
        .concat();
    let mut table = results.table("Anomaly detection", &DETECTORS, &columns);
    table.notes.insert(
        0,
        "Graph autoencoders, trained on each generator's valid graphs (at most 5,000), find anomalies that were put into real test graphs; higher is better, 0.5 is chance. AUC: area under the ROC curve; AUC-PR: under the precision-recall curve. A service is scored by a detector that has seen no graph of it, in every row. A detector trained on fewer graphs finds less: the first row has as many real graphs as there are prompts."
            .to_owned(),
    );
    let panel = |label: &str, metric| {
        let axis = |_: &Bars| Axis::linear(label, 0.5, 1.0);
        results.panel("", axis, &DETECTORS, &detected(results, metric, ""))
    };
    let panels = vec![
        panel("area under the ROC curve", ANOMALY_AUC),
        panel("area under precision-recall", ANOMALY_AUC_PR),
    ];
    let note = "Detectors of anomalies in real graphs, trained on generated graphs, by kind of anomaly. Bars begin at 0.5, which is chance.";
    let mut files = ReportFiles::default();
    files.table("anomalies", table);
    files.figure("anomalies", results.figure("Anomaly detection", panels, PAGE, 280.0, note));
    files
}
