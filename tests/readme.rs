//! Every result in the README is a cell of a committed results file, in the row or column of its
//! generator, and the index of committed results lists all of them.

use std::path::Path;

/// Numbers of a text with their decimals; `true` for per cent.
fn numbers(text: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let tail = &rest[start..];
        let end = tail.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',');
        let end = end.unwrap_or(tail.len());
        let number = tail[..end].trim_end_matches(['.', ',']).replace(',', "");
        found.push((number, tail[end..].trim_start().starts_with('%')));
        rest = &tail[end..];
    }
    found
}

/// The numbers that a results file has for a generator: those of its rows, or of its columns.
fn of_generator(path: &Path, label: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let rows: String = text.split_inclusive('\n').filter(|line| !line.starts_with('#')).collect();
    let mut reader = csv::Reader::from_reader(rows.as_bytes());
    let columns: Vec<usize> = {
        let headers = reader.headers().unwrap().iter().enumerate();
        let own = |header: &str| header.strip_suffix(" (share)") == Some(label);
        headers.filter(|(_, header)| own(header)).map(|(column, _)| column).collect()
    };
    let mut cells = Vec::new();
    for record in reader.records() {
        let record = record.unwrap();
        let own = &record[0] == label;
        let inside = |column: &usize| own || columns.contains(column);
        let of_row = record.iter().enumerate().filter(|(column, _)| inside(column));
        cells.extend(of_row.filter_map(|(_, cell)| cell.parse::<f64>().ok()));
    }
    cells
}

#[test]
fn every_result_in_the_readme_is_in_a_results_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let mut checked = 0;
    for block in readme.split("<!-- numbers from ").skip(1) {
        let (files, block) = block.split_once(" -->").expect("the comment ends");
        let (block, _) = block.split_once("<!-- end -->").expect("the block ends");
        for row in block.lines().filter(|line| line.starts_with('|')).skip(2) {
            let (label, row) = row[1..].split_once('|').expect("a label, then numbers");
            // What stands in brackets explains the row, unless it is one of real graphs.
            let label = match label.trim() {
                label if label.starts_with("real") => label,
                label => label.split(" (").next().unwrap_or(label),
            };
            let known = files.split(' ').flat_map(|file| of_generator(&root.join(file), label));
            let cells: Vec<f64> = known.collect();
            for (number, percent) in numbers(row) {
                let decimals = number.split_once('.').map_or(0, |(_, decimals)| decimals.len());
                let factor = if percent { 100.0 } else { 1.0 };
                let value: f64 = number.parse().expect("digits");
                let half = 0.5 * 10f64.powi(-(decimals as i32)) + 1e-9;
                let known = cells.iter().any(|cell| (cell * factor - value).abs() <= half);
                assert!(known, "README.md: {number} of `{row}` is in none of {files}");
                checked += 1;
            }
        }
    }
    assert!(checked > 10, "{checked} numbers are checked");
}

#[test]
fn the_index_lists_all_committed_results() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        tracegym::run::write_index(root).unwrap();
    }
    let index = tracegym::run::index(root).unwrap().expect("there are results");
    let committed = std::fs::read_to_string(root.join("results/README.md")).unwrap();
    assert!(index == committed, "INSTA_UPDATE=always cargo test --test readme renews it");
    let links = index.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    let links: Vec<&str> = links.collect();
    let broken = links.iter().find(|link| !root.join("results").join(link).exists());
    assert!(links.len() > 100 && broken.is_none(), "{} links, {broken:?}", links.len());
}
