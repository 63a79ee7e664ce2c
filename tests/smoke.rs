//! `tracegym all --profile smoke` through the binary, and its tables against snapshots.
//!
//! Numbers of the neural generator differ between machines (docs/snapshots.md): they are masked
//! here, and only checked for being there.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const NEURAL: [&str; 6] =
    ["Recursive LLM", "Recursive + instruction", "Tabular LLM", "GraphRNN", "DiGress", "TVAE"];

fn neural(name: &str) -> bool {
    NEURAL.iter().any(|label| name.starts_with(label))
}

/// A CSV table with `#` in place of the neural generator's numbers: in its rows, or, where
/// generators are columns, in its columns.
fn masked(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("table");
    let (notes, table): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with("# "));
    let table = table.join("\n");
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let header = reader.headers().expect("header").clone();
    let mut lines = notes.iter().map(|note| (*note).to_owned()).collect::<Vec<_>>();
    lines.push(header.iter().collect::<Vec<_>>().join(" | "));
    for record in reader.records() {
        let record = record.expect("record");
        let row_is_neural = record.iter().any(neural);
        let cells = header.iter().zip(&record).map(|(name, cell)| {
            let number = cell.starts_with("n/a") || cell.parse::<f64>().is_ok();
            if neural(name) || (row_is_neural && number) {
                assert!(number, "{name}: {cell}");
                "#"
            } else {
                cell
            }
        });
        lines.push(cells.collect::<Vec<_>>().join(" | "));
    }
    lines.join("\n") + "\n"
}

#[test]
fn smoke_tables() {
    let dir = TempDir::new().expect("temp dir");
    let run = || {
        Command::new(env!("CARGO_BIN_EXE_tracegym"))
            .current_dir(dir.path())
            .args(["all", "--profile", "smoke"])
            .env_remove("TRACEGYM_DATA")
            .env_remove("TRACEGYM_CACHE")
            .output()
            .expect("runs")
    };
    let output = run();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let results = dir.path().join("results");
    for (experiment, tables) in [
        ("fig3-accuracy", &["accuracy", "accuracy-by-depth", "accuracy-by-edges"][..]),
        ("fig4-fidelity", &["fidelity", "heavy-hitters", "popular-calls", "edges", "depth"]),
        ("learning-curve", &["learning"]),
        ("fig16-distributions", &["distribution", "descriptors", "degrees", "times"]),
        ("fig6-instructions", &["instructions"]),
        ("truth", &["truth", "branches"]),
    ] {
        for table in tables {
            let path = results.join(experiment).join("smoke").join(format!("{table}.csv"));
            insta::assert_snapshot!(format!("{experiment}-{table}"), masked(&path));
        }
        let figures = dir.path().join("paper-figures").join(experiment).join("smoke");
        let images = std::fs::read_dir(&figures).expect("figures").count();
        assert!(images >= 2, "{experiment}: {images} figures");
    }
    // Constrained decoding is right whatever has been learnt.
    let path = results.join("constrained-grid/smoke/accuracy.csv");
    let text = std::fs::read_to_string(path).expect("table");
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    let mut reader =
        csv::Reader::from_reader(std::io::Cursor::new(rows.collect::<Vec<_>>().join("\n")));
    let column = reader
        .headers()
        .expect("header")
        .iter()
        .position(|name| name == "condition accuracy (share)");
    let column = column.expect("a column of accuracy");
    let shares: Vec<String> =
        reader.records().map(|record| record.expect("record")[column].to_owned()).collect();
    assert!(!shares.is_empty() && shares.iter().all(|share| share == "1"), "{shares:?}");
    let again = run();
    assert!(again.status.success());
    let text = String::from_utf8_lossy(&again.stderr).into_owned()
        + &String::from_utf8_lossy(&again.stdout);
    assert!(text.contains("up to date"), "{text}");
}
