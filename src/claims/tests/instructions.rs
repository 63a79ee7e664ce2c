use super::*;

/// A generator that follows by `skill` and loses some accuracy by it.
fn records(skill: f64) -> Vec<Record> {
    let mut records = vec![share("accuracy/1", WHOLE, skill, 600)];
    for (kind, base) in [("high-latency", 0.1), ("uncommon", 0.2), ("both", 0.02)] {
        let about = WHOLE.kind(kind);
        let prompts = number("instruction-prompts/1", about.clone(), 60.0);
        records.push(Record { low: f64::NAN, high: f64::NAN, count: 100, ..prompts });
        let cells = match kind {
            "both" => {
                vec![
                    about.clone(),
                    about.clone().part("high-latency"),
                    about.clone().part("uncommon"),
                ]
            }
            _ => vec![about.clone()],
        };
        for about in cells {
            for (asked, value) in [(true, base + skill * 0.7), (false, base)] {
                let about = about.clone().asked(asked);
                records.push(share("instruction-followed/1", about, value, 100));
            }
            records.push(number("instruction-gain/1", about, skill * 0.7));
        }
        for (asked, value) in [(true, skill - 0.1), (false, skill)] {
            records.push(share("accuracy/1", about.clone().asked(asked), value, 100));
        }
        let change = number("instruction-accuracy-change/1", about, -0.1);
        records.push(Record { low: change.high, high: change.low, ..change });
    }
    records
}

fn references() -> Vec<Record> {
    let mut records = Vec::new();
    for (kind, base) in [("high-latency", 0.1), ("uncommon", 0.05), ("both", 0.01)] {
        for (reference, factor) in [("service", 1.0), ("shape", 2.0)] {
            let about = WHOLE.kind(kind).asked(false).reference(reference);
            records.push(number("instruction-followed/1", about, base * factor));
        }
    }
    records
}

fn drawn(runs: &[RunRecords]) -> ReportFiles {
    drawn_with("instructions", runs, &[], Some(&references()))
}

#[test]
fn instructions() {
    let mut runs = runs(|skill| records(skill / 4.0));
    // The baseline that the paper's claims are about.
    runs.push(run("recursive-instruction-llm", 0, Ok(records(0.9))));
    let files = drawn(&runs);
    insta::assert_snapshot!("instructions-md", text(&files, Table::to_markdown));
    insta::assert_snapshot!("instructions-csv", text(&files, Table::to_csv));
    check_files(&files, &["instructions"]);
    hold_to_version(&files, "instructions");
}
