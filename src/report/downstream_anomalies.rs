//! Anomaly detectors trained on generated graphs (figure 5, right).

use super::arms::Arm;
use super::figure::{Axis, Figure};
use super::notes::figure_notes;
use super::overview::{self, Entry, Reference};
use super::{ReportFiles, ReportInput, figure};
use crate::evaluate::WHOLE;
use crate::evaluate::downstream::anomalies::{AUC, AUC_PR};

/// Trained on real graphs, as many as arms may use and as many as the quick profile asks for; a
/// detector without a network; the size of a graph as its score.
const REFERENCES: [Reference; 4] = [
    ("real training graphs", Some("train")),
    ("2,000 real graphs", Some("train-2000")),
    ("real: counts of calls", Some("counting")),
    ("size of the graph", Some("size")),
];

const KINDS: [(&str, &str); 4] =
    [("all", "all"), ("structure", "structure"), ("latency", "latency"), ("faults", "fault")];

/// The kinds that there are records of: few datasets have real faults.
fn entries(input: &ReportInput, arms: &[Arm], metric: &'static str, name: &str) -> Vec<Entry> {
    let floor = input.floor.unwrap_or_default();
    let known = |kind: &str| {
        let of_floor = floor.iter().any(|record| record.dimensions.kind.as_deref() == Some(kind));
        let about = WHOLE.kind(kind);
        of_floor || arms.iter().any(|arm| arm.dimensions_of(metric).contains(&&about))
    };
    let kinds = KINDS.iter().filter(|(_, kind)| known(kind));
    kinds
        .map(|(word, kind)| Entry::new(format!("{name}{word}"), metric, WHOLE.kind(*kind)))
        .collect()
}

/// Adds table and figure, if the records are about anomalies.
pub fn add(input: &ReportInput, arms: &[Arm], files: &mut ReportFiles) {
    let of_arms = arms.iter().any(|arm| !arm.dimensions_of(AUC).is_empty());
    let of_floor = input.floor.is_some_and(|records| records.iter().any(|r| r.metric == AUC));
    if !of_arms && !of_floor {
        return;
    }
    let columns = [(AUC, "AUC, "), (AUC_PR, "AUC-PR, ")]
        .map(|(metric, name)| entries(input, arms, metric, name))
        .concat();
    let mut table = overview::table("Anomaly detection", input, arms, &REFERENCES, &columns);
    table.notes.insert(
        0,
        "Graph autoencoders, trained on each generator's valid graphs (at most 5,000), find anomalies that were put into real test graphs; higher is better, 0.5 is chance. AUC: area under the ROC curve; AUC-PR: under the precision-recall curve. A detector trained on fewer graphs finds less: compare generators with real graphs of the same number."
            .to_owned(),
    );
    files.table("anomalies", table);
    files.figure("anomalies", figure(input, arms));
}

fn figure(input: &ReportInput, arms: &[Arm]) -> Figure {
    let panel = |label: &str, metric| {
        let axis = |_: &figure::Bars| Axis::linear(label, 0.5, 1.0);
        overview::panel("", axis, input, arms, &REFERENCES, &entries(input, arms, metric, ""))
    };
    let mut notes = vec![
        "Detectors of anomalies in real graphs, trained on generated graphs, by kind of anomaly. Bars begin at 0.5, which is chance."
            .to_owned(),
    ];
    notes.extend(figure_notes(input, arms));
    Figure {
        title: format!("Anomaly detection: {}", input.title),
        panels: vec![
            panel("area under the ROC curve", AUC),
            panel("area under precision-recall", AUC_PR),
        ],
        across: 1,
        width: figure::PAGE,
        row_height: 280.0,
        notes,
    }
}
