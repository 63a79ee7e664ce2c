use super::*;

const BINS: [(&str, f64, u64); 4] =
    [("10%+", 1.0, 800), ("1-10%", 0.8, 300), ("0.1-1%", 0.2, 90), ("0-0.1%", 0.03, 40)];

/// A generator that is away from the truth by `distance`, or a reference.
fn records(distance: f64, reference: Option<&str>) -> Vec<Record> {
    let referred = |about: Dimensions| about.referring(reference);
    let mut records = Vec::new();
    for (graphs, factor) in [(WHOLE.graphs("valid"), 1.0), (WHOLE.graphs("all"), 1.2)] {
        let about = referred(graphs);
        records.push(number("truth-calls-tv/2", about.clone(), distance * factor));
        records.push(number("truth-calls-kl/2", about.clone(), 3.0 * distance * factor));
        let wrong = if reference.is_none() { distance / 10.0 * factor } else { 0.0 };
        records.push(number("false-calls/1", about.clone(), wrong));
    }
    records.push(number("truth-shapes-tv/2", referred(WHOLE), distance / 2.0));
    for (bin, expected, count) in BINS {
        let about = referred(WHOLE.probability(bin));
        records.push(share("branch-recall/1", about.clone(), expected * (1.0 - distance), count));
        let (low, high) = (f64::NAN, f64::NAN);
        let record = number("branch-recall-expected/1", about, expected);
        records.push(Record { low, high, count, ..record });
    }
    if reference.is_none() {
        records.push(share("valid/1", WHOLE, 1.0 - distance / 4.0, 500));
        records.push(share("accuracy/1", WHOLE, 0.9 - distance, 500));
    }
    records
}

fn drawn(runs: &[RunRecords]) -> ReportFiles {
    drawn_with(
        "truth",
        runs,
        &[],
        Some(&[records(0.05, Some("train")), records(0.1, Some("test"))].concat()),
    )
}

#[test]
fn truth() {
    let files = drawn(&runs(|skill| records(1.0 - skill, None)));
    insta::assert_snapshot!("truth-md", text(&files, Table::to_markdown));
    insta::assert_snapshot!("truth-csv", text(&files, Table::to_csv));
    check_files(&files, &["truth", "branches"]);
    hold_to_version(&files, "truth");
}
