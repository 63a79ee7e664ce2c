use super::*;

/// A generator that follows by `skill` and loses some accuracy by it.
fn records(skill: f64) -> Vec<Record> {
    let mut records = vec![share("accuracy/1", "", skill, 600)];
    for (kind, base) in [("high-latency", 0.1), ("uncommon", 0.2), ("both", 0.02)] {
        let cell = format!("kind={kind}");
        let prompts = number("instruction-prompts/1", &cell, 60.0);
        records.push(Record { low: f64::NAN, high: f64::NAN, count: 100, ..prompts });
        let cells = match kind {
            "both" => vec![
                cell.clone(),
                format!("{cell}/part=high-latency"),
                format!("{cell}/part=uncommon"),
            ],
            _ => vec![cell.clone()],
        };
        for cell in cells {
            for (asked, value) in [("yes", base + skill * 0.7), ("no", base)] {
                let cell = format!("{cell}/asked={asked}");
                records.push(share("instruction-followed/1", cell, value, 100));
            }
            records.push(number("instruction-gain/1", cell, skill * 0.7));
        }
        for (asked, value) in [("yes", skill - 0.1), ("no", skill)] {
            records.push(share("accuracy/1", format!("{cell}/asked={asked}"), value, 100));
        }
        let change = number("instruction-accuracy-change/1", cell, -0.1);
        records.push(Record { low: change.high, high: change.low, ..change });
    }
    records
}

fn floor() -> Vec<Record> {
    let mut records = Vec::new();
    for (kind, base) in [("high-latency", 0.1), ("uncommon", 0.05), ("both", 0.01)] {
        for (reference, factor) in [("service", 1.0), ("shape", 2.0)] {
            let cell = format!("kind={kind}/asked=no/reference={reference}");
            records.push(number("instruction-followed/1", cell, base * factor));
        }
    }
    records
}

fn draw(runs: &[RunRecords]) -> ReportFiles {
    draw_with(ReportKind::Instructions, runs, &[], Some(&floor()))
}

#[test]
fn instructions() {
    let mut runs = runs(|skill| records(skill / 4.0));
    // The baseline that the paper's claims are about.
    runs.push(run("recursive-instruction-llm", 0, Ok(records(0.9))));
    let files = draw(&runs);
    insta::assert_snapshot!("instructions-md", text(&files, Table::to_markdown));
    insta::assert_snapshot!("instructions-csv", text(&files, Table::to_csv));
    check_files(&files, &["instructions"]);
}

#[test]
fn failures_and_nothing() {
    check_failures_and_nothing(draw);
}
