//! Tables in documents, generated from committed results: `tracegym report --splice FILE`.
//!
//! A document holds a block
//!
//! ```text
//! <!-- table
//! rows_of = "Simulator, 18,000 training graphs"
//! rows = ["Recursive LLM", "Training-set copy"]
//! columns = [
//!   { title = "accuracy", files = ["results/fig4/fidelity.csv"], value = "accuracy (share)" },
//!   { title = "to 10 calls", files = ["results/fig3/accuracy-by-group.csv"], row = "edges 1-10" },
//! ]
//! -->
//! (whatever stands here is replaced)
//! <!-- end table -->
//! ```
//!
//! so that no number in it is typed by hand. A column takes the cells of `value` in the last row that
//! begins with the generator's label (a table of checkpoints ends with the final model), or, where
//! generators are the columns of a file, their cells in the row that begins with `row`. The first of
//! `files` that has the number gives it; a number that none has is left empty.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Deserialize;

use crate::error::UserError;
use crate::{number, toml_file};

const BEGIN: &str = "<!-- table\n";
const HEAD_END: &str = "-->\n";
const END: &str = "<!-- end table -->";

/// What the comment in front of a table says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    /// Heading of the first column.
    rows_of: String,
    /// Labels of generators and reference rows, in this order.
    rows: Vec<String>,
    columns: Vec<ColumnSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnSpec {
    title: String,
    /// CSV files of results, relative to the root.
    files: Vec<PathBuf>,
    /// Heading of the column whose cells are shown; with `row`, unused.
    value: Option<String>,
    /// First cell of the row that is shown, in a file with a column for each generator.
    row: Option<String>,
}

/// A CSV file of results without its notes.
struct Csv {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// `text`, the content of the document at `path`, with all of its tables generated anew from the
/// results below `root`.
///
/// # Errors
/// A block that does not end or cannot be read, a file that is missing, a heading, row or label that
/// no file of the block has.
pub fn splice(path: &Path, text: &str, root: &Path) -> Result<String> {
    let mut files = BTreeMap::new();
    let mut spliced = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(BEGIN) {
        let line = text[..text.len() - rest.len() + start].matches('\n').count() + 1;
        let wrong =
            |message: String| UserError::input(path, format!("table at line {line}"), message);
        let inside = &rest[start + BEGIN.len()..];
        let Some((head, tail)) = inside.split_once(HEAD_END) else {
            return Err(wrong("its comment has no `-->` on a line of its own".to_owned()).into());
        };
        let Some(end) = tail.find(END).filter(|end| !tail[..*end].contains(BEGIN)) else {
            return Err(wrong(format!("it has no `{END}`")).into());
        };
        let spec: Spec = toml_file::parse(path, head).map_err(|error| wrong(error.to_string()))?;
        let table = table(&spec, root, &mut files).map_err(|error| wrong(format!("{error:#}")))?;
        spliced.push_str(&rest[..start]);
        spliced.push_str(BEGIN);
        spliced.push_str(head);
        spliced.push_str(HEAD_END);
        spliced.push_str(&table);
        spliced.push_str(END);
        rest = &tail[end + END.len()..];
    }
    spliced.push_str(rest);
    Ok(spliced)
}

fn table(spec: &Spec, root: &Path, files: &mut BTreeMap<PathBuf, Csv>) -> Result<String> {
    let mut cells = vec![vec![String::new(); spec.columns.len()]; spec.rows.len()];
    for (index, column) in spec.columns.iter().enumerate() {
        for file in &column.files {
            if !files.contains_key(file) {
                files.insert(file.clone(), Csv::read(&root.join(file))?);
            }
            for (row, label) in cells.iter_mut().zip(&spec.rows) {
                let cell = files[file].cell(file, column, label)?;
                if row[index].is_empty() {
                    row[index] = cell;
                }
            }
        }
    }
    if let Some((_, label)) =
        cells.iter().zip(&spec.rows).find(|(row, _)| row.iter().all(String::is_empty))
    {
        let message =
            format!("no file has a number for `{label}`: take it out of `rows`, or correct it");
        return Err(UserError::setting(message).into());
    }
    let titles: Vec<&str> = spec.columns.iter().map(|column| column.title.as_str()).collect();
    let mut text = format!("| {} | {} |\n", spec.rows_of, titles.join(" | "));
    text.push_str(&format!("|---|{}\n", "---:|".repeat(titles.len())));
    for (label, row) in spec.rows.iter().zip(&cells) {
        text.push_str(&format!("| {label} | {} |\n", row.join(" | ")));
    }
    Ok(text)
}

impl Csv {
    fn read(path: &Path) -> Result<Self> {
        let failed = |message: String| UserError::input(path, "content", message);
        let text = std::fs::read_to_string(path)
            .map_err(|error| UserError::io(path, "cannot be read", error))?;
        let body: String =
            text.split_inclusive('\n').filter(|line| !line.starts_with("# ")).collect();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(body.as_bytes());
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| failed(error.to_string()))?;
            rows.push(record.iter().map(str::to_owned).collect());
        }
        if rows.is_empty() {
            return Err(failed("it has no header".to_owned()).into());
        }
        Ok(Self { header: rows.remove(0), rows })
    }

    /// The number for `label`, as printed; empty where this file has none.
    fn cell(&self, file: &Path, column: &ColumnSpec, label: &str) -> Result<String> {
        let file = file.display();
        let starts_with =
            |row: &&Vec<String>, name: &str| row.first().is_some_and(|cell| cell == name);
        let (row, place) = match (&column.row, &column.value) {
            (Some(name), None) => {
                let Some(row) = self.rows.iter().find(|row| starts_with(row, name)) else {
                    return Err(UserError::setting(format!("{file} has no row `{name}`")).into());
                };
                let own = |heading: &String| without_unit(heading) == label;
                (Some(row), self.header.iter().position(own))
            }
            (None, Some(value)) => {
                let Some(place) = self.header.iter().position(|heading| heading == value) else {
                    return Err(
                        UserError::setting(format!("{file} has no column `{value}`")).into()
                    );
                };
                (self.rows.iter().rfind(|row| starts_with(row, label)), Some(place))
            }
            _ => {
                let message = format!("column `{}` needs either `value` or `row`", column.title);
                return Err(UserError::setting(message).into());
            }
        };
        let (Some(row), Some(place)) = (row, place) else { return Ok(String::new()) };
        let cell = row.get(place).map_or("", String::as_str);
        let is_share = self.header[place].ends_with(" (share)");
        Ok(match cell.parse::<f64>() {
            Ok(value) if is_share => format!("{} %", number::percent(value)),
            Ok(value) => number::print(value),
            Err(_) => String::new(),
        })
    }
}

/// `KL (nats)` is the column `KL`.
fn without_unit(heading: &str) -> &str {
    heading
        .strip_suffix(')')
        .and_then(|rest| rest.rsplit_once(" ("))
        .map_or(heading, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = r#"rows_of = "Data"
rows = ["Recursive LLM", "Training-set copy", "split-half (real vs. real)"]
columns = [
  { title = "accuracy", files = ["a.csv"], value = "accuracy (share)" },
  { title = "KL", files = ["a.csv"], value = "KL (nats)" },
  { title = "small", files = ["x.csv", "b.csv"], row = "edges 1-10" },
]
"#;

    fn spliced(spec: &str, body: &str) -> Result<String> {
        let root = tempfile::tempdir().unwrap();
        let a = "# title, with a comma\ngenerator,tokens,accuracy (share),accuracy low,KL (nats)\n\
                 Recursive LLM,10,0.2,0.1,3\nRecursive LLM,20,0.6375,0.6,0.45614\n\
                 Training-set copy,n/a,n/a,n/a,0.026\nsplit-half (real vs. real),n/a,n/a,n/a,0.00848358\n";
        let b =
            "prompts of,prompts,Recursive LLM (share),Recursive LLM low\nedges 1-10,9,0.344,0.1\n";
        std::fs::write(root.path().join("a.csv"), a).unwrap();
        std::fs::write(root.path().join("b.csv"), b).unwrap();
        let others = b.replace("Recursive LLM", "Tabular LLM").replace("0.344", "0.2");
        std::fs::write(root.path().join("x.csv"), others).unwrap();
        let text = format!("Before.\n\n{BEGIN}{spec}{HEAD_END}{body}{END}\nAfter.\n");
        splice(Path::new("doc.md"), &text, root.path())
    }

    #[test]
    fn tables_are_made_of_results_and_made_again_the_same() {
        let once = spliced(SPEC, "| anything |\n").unwrap();
        let table = "| Data | accuracy | KL | small |\n|---|---:|---:|---:|\n\
                     | Recursive LLM | 63.8 % | 0.456 | 34.4 % |\n\
                     | Training-set copy |  | 0.0260 |  |\n\
                     | split-half (real vs. real) |  | 0.00848 |  |\n";
        assert_eq!(once, format!("Before.\n\n{BEGIN}{SPEC}{HEAD_END}{table}{END}\nAfter.\n"));
        assert_eq!(spliced(SPEC, table).unwrap(), once);
    }

    #[test]
    fn what_no_file_has_is_named() {
        for (from, to, words) in [
            (
                "\"Training-set copy\"",
                "\"Training-set cpoy\"",
                "no file has a number for `Training-set cpoy`",
            ),
            ("\"KL (nats)\"", "\"KL\"", "a.csv has no column `KL`"),
            ("\"edges 1-10\"", "\"edges\"", "x.csv has no row `edges`"),
            ("\"b.csv\"", "\"c.csv\"", "c.csv: cannot be read"),
            ("rows_of", "row_of", "unknown key `row_of`"),
            (", row = \"edges 1-10\"", "", "column `small` needs either `value` or `row`"),
        ] {
            let error = spliced(&SPEC.replace(from, to), "").unwrap_err().to_string();
            assert!(error.starts_with("doc.md: table at line 3: "), "{error}");
            assert!(error.contains(words), "{error}");
        }
        let open = format!("{BEGIN}{SPEC}{HEAD_END}");
        let error = splice(Path::new("doc.md"), &open, Path::new(".")).unwrap_err().to_string();
        assert!(error.contains("it has no `<!-- end table -->`"), "{error}");
    }
}
