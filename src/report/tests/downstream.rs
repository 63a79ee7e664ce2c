use super::*;

/// Table 2 and figure 5 of an arm that lies `gap` points below real graphs.
fn downstream_records(gap: f64, reference: &str) -> Vec<Record> {
    use crate::evaluate::downstream::{
        ACCURACY, ACCURACY_GAP, APPLICATION, AUC, BALANCED_ACCURACY, F1, GAP, TRAINING,
    };
    let near = |metric: &str, cell: &str, value: f64, width: f64| Record {
        metric: metric.into(),
        cell: cell.into(),
        value,
        low: value - width,
        high: value + width,
        count: 500,
    };
    let mut records = Vec::new();
    for task in
        ["critical-components/application=1", "critical-components/application=2", "high-latency"]
    {
        let (cell, own) = (format!("task={task}{reference}"), format!("task={task}"));
        records.push(near(BALANCED_ACCURACY, &cell, 0.7 + gap / 100.0, 0.03));
        records.push(near(ACCURACY, &cell, 0.8 + gap / 100.0, 0.04));
        records.push(near(F1, &cell, 0.5 + gap / 100.0, 0.05));
        records.push(near(AUC, &cell, 0.75 + gap / 100.0, 0.02));
        records.push(Record { low: f64::NAN, high: f64::NAN, ..near(TRAINING, &cell, 0.1, 0.0) });
        if reference.is_empty() {
            records.push(near(GAP, &own, gap, 2.0));
            records.push(near(ACCURACY_GAP, &own, gap / 2.0, 1.0));
        }
    }
    if reference == "/reference=real" {
        let cell = "application=1/service=S_000000007";
        records.push(Record {
            low: f64::NAN,
            high: f64::NAN,
            ..near(APPLICATION, cell, 500.0, 0.0)
        });
    }
    records
}

#[test]
fn downstream() {
    let mut floor = downstream_records(0.0, "/reference=real");
    floor.extend(downstream_records(-20.0, "/reference=majority"));
    floor.extend(downstream_records(-5.0, "/reference=rates"));
    let runs = runs(|skill| downstream_records(20.0 * (skill - 1.0), ""));
    let files = draw_with(ReportKind::Downstream, &runs, &[], Some(&floor));
    insta::assert_snapshot!("downstream-md", text(&files, Table::to_markdown));
    insta::assert_snapshot!("downstream-csv", text(&files, Table::to_csv));
    check_files(&files, &["critical-components", "high-latency"]);
}

#[test]
fn a_task_says_how_much_it_is_tested_on() {
    let note = |count: u64, value: f64, low: f64| {
        let mut floor = downstream_records(0.0, "/reference=real");
        for record in floor.iter_mut().filter(|record| record.cell.contains("high-latency")) {
            *record = Record { count, value, low, ..record.clone() };
        }
        let files = draw_with(ReportKind::Downstream, &runs(|_| Vec::new()), &[], Some(&floor));
        let table = files.tables.iter().find(|(name, _)| name == "high-latency").expect("a table");
        let says = |note: &&String| note.starts_with("No number") || note.starts_with("Tested on");
        table.1.notes.iter().find(says).expect("a note").clone()
    };
    let notes = [
        note(0, f64::NAN, f64::NAN),
        note(1, f64::NAN, f64::NAN),
        note(54, 0.9, f64::NAN),
        note(1_234, 0.9, 0.8),
    ];
    insta::assert_snapshot!(notes.join("\n"), @"
    No number: no test graph gives an example.
    No number: examples come from 1 test graph, and one of the answers is missing there or in training.
    Tested on examples of 54 test graphs, of too few services for intervals.
    Tested on examples of 1,234 test graphs.
    ");
}
