use super::*;

/// Table 2 and figure 5 of a variant that lies `gap` points below real graphs.
fn downstream_records(gap: f64, reference: Option<&str>) -> Vec<Record> {
    use crate::evaluate::downstream::{
        ACCURACY, ACCURACY_GAP, APPLICATION, AUC, BALANCED_ACCURACY, F1, GAP, TRAINING,
    };
    let near = |metric: &'static Metric, dimensions: &Dimensions, value: f64, width: f64| Record {
        metric,
        dimensions: dimensions.clone(),
        value,
        low: value - width,
        high: value + width,
        count: 500,
        resamples: None,
    };
    let mut records = Vec::new();
    let critical = WHOLE.task("critical-components");
    for own in
        [critical.clone().application(1u32), critical.application(2u32), WHOLE.task("high-latency")]
    {
        let about = own.clone().referring(reference);
        records.push(near(BALANCED_ACCURACY, &about, 0.7 + gap / 100.0, 0.03));
        records.push(near(ACCURACY, &about, 0.8 + gap / 100.0, 0.04));
        records.push(near(F1, &about, 0.5 + gap / 100.0, 0.05));
        records.push(near(AUC, &about, 0.75 + gap / 100.0, 0.02));
        records.push(Record { low: f64::NAN, high: f64::NAN, ..near(TRAINING, &about, 0.1, 0.0) });
        if reference.is_none() {
            records.push(near(GAP, &own, gap, 2.0));
            records.push(near(ACCURACY_GAP, &own, gap / 2.0, 1.0));
        }
    }
    if reference == Some("real") {
        let about = WHOLE.application(1u32).service("S_000000007");
        records.push(Record {
            low: f64::NAN,
            high: f64::NAN,
            ..near(APPLICATION, &about, 500.0, 0.0)
        });
    }
    records
}

#[test]
fn downstream() {
    let mut references = downstream_records(0.0, Some("real"));
    references.extend(downstream_records(-20.0, Some("majority")));
    references.extend(downstream_records(-5.0, Some("rates")));
    let runs = runs(|skill| downstream_records(20.0 * (skill - 1.0), None));
    let [mut markdown, mut csv] = [String::new(), String::new()];
    for task in ["critical-components", "high-latency"] {
        let files = drawn_with(task, &runs, &[], Some(&references));
        markdown += &text(&files, Table::to_markdown);
        csv += &text(&files, Table::to_csv);
        check_files(&files, &[task]);
        hold_to_version(&files, task);
    }
    insta::assert_snapshot!("downstream-md", markdown);
    insta::assert_snapshot!("downstream-csv", csv);
}

#[test]
fn a_task_says_how_much_it_is_tested_on() {
    let note = |count: u64, value: f64, low: f64| {
        let mut references = downstream_records(0.0, Some("real"));
        for record in references
            .iter_mut()
            .filter(|record| record.dimensions.task.as_deref() == Some("high-latency"))
        {
            *record = Record { count, value, low, ..record.clone() };
        }
        let files = drawn_with("high-latency", &runs(|_| Vec::new()), &[], Some(&references));
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
