//! Comma-separated tables, row by row, with an error that names line, column and value. Fields
//! are not quoted: no name in these tables holds a comma. A row has as many fields as the header: one
//! more or less, and nobody can say which of them belongs to which column.

use std::path::Path;

use anyhow::Result;

use super::lines::{BadLine, Lines, MAX_ROW_BYTES, SKIP_REMEDY};
use crate::display;
use crate::error::{UserError, did_you_mean};
use crate::graph::{CallGraph, Name};

/// Longer values are no key of rows that can be used.
const MAX_KEY_BYTES: usize = 4096;

/// A table of which some columns are read.
pub struct Table {
    lines: Lines,
    /// Position in the file of each column asked for.
    positions: Vec<usize>,
    width: usize,
}

/// The fields of one row, in the order in which the columns were asked for.
pub struct Row<'a> {
    line: &'a str,
    /// Where each field of the line ends.
    ends: &'a [usize],
    positions: &'a [usize],
}

impl<'a> Row<'a> {
    /// The text of a field.
    pub fn text(&self, column: usize) -> &'a str {
        let position = self.positions[column];
        let start = if position == 0 { 0 } else { self.ends[position - 1] + 1 };
        &self.line[start..self.ends[position]]
    }
}

/// What a table holds, line by line.
pub enum TableEntry<'a> {
    Row(Row<'a>),
    /// The key that a row had, as far as can be told, which cannot be used and is left out: the rows
    /// with this key are not all there.
    Incomplete(&'a str),
}

/// A value that cannot be used: which column, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct BadValue {
    pub column: &'static str,
    pub message: String,
}

impl BadValue {
    pub fn new(column: &'static str, message: impl Into<String>) -> Self {
        Self { column, message: message.into() }
    }
}

/// Whether all names of a graph can be fields of a table.
///
/// # Errors
/// A name that would not be read back: tables have no quotes.
pub fn check_fields(format: &str, graph: &CallGraph) -> Result<(), UserError> {
    let destinations = graph.calls().iter().map(|call| &call.destination);
    let breaks = |name: &&Name| {
        name.is_empty() || name.contains([',', '"', '\n', '\r']) || name.len() > MAX_KEY_BYTES
    };
    match std::iter::once(graph.service()).chain(destinations).find(breaks) {
        None => Ok(()),
        Some(name) => Err(UserError::setting(format!(
            "a {format} has no quotes and cannot hold the name `{}` (empty, long, or with a comma, quote or \
             line break): choose another format, such as parquet",
            shown(name)
        ))),
    }
}

/// A field's value as a number of milliseconds.
///
/// # Errors
/// Empty, not a number, or negative.
pub fn milliseconds(column: &'static str, text: &str) -> Result<u32, BadValue> {
    if let Ok(value) = text.parse() {
        return Ok(value);
    }
    Err(BadValue::new(
        column,
        match text.parse::<f64>() {
            _ if text.is_empty() => "has no value".to_owned(),
            Ok(value) if value < 0.0 => format!("`{}` is negative", shown(text)),
            Ok(_) => {
                format!("`{}` is not a whole number of milliseconds below 2^32", shown(text))
            }
            Err(_) => format!("`{}` is not a number", shown(text)),
        },
    ))
}

/// A value as an error shows it.
pub fn shown(text: &str) -> String {
    display::quoted(text).into_owned()
}

/// Positions of `columns` in a header line.
///
/// # Errors
/// A column that is missing, with the nearest one that is there, or one that is there twice.
fn positions(path: &Path, header: &str, columns: &[&str]) -> Result<Vec<usize>> {
    let found: Vec<&str> = header.split(',').map(str::trim).collect();
    let position = |column: &&str| {
        let wrong = |message| UserError::input(path, format!("line 1, column {column}"), message);
        let mut places = (0..found.len()).filter(|place| found[*place] == *column);
        match (places.next(), places.next()) {
            (Some(place), None) => Ok(place),
            (Some(_), Some(_)) => Err(wrong("occurs twice".to_owned()).into()),
            (None, _) => {
                let hint = did_you_mean(column, found.iter().copied());
                let columns = shown(&found.join(", "));
                Err(wrong(format!("is missing; the columns are {columns}{hint}")).into())
            }
        }
    };
    columns.iter().map(position).collect()
}

impl Table {
    /// Opens a table and finds `columns` in its header.
    ///
    /// # Errors
    /// An empty file, or a missing column.
    pub fn open(path: &Path, columns: &[&str]) -> Result<Self> {
        let mut lines = Lines::open(path, MAX_ROW_BYTES)?;
        let header = match lines.next()? {
            Some(Ok(header)) if !header.trim().is_empty() => {
                header.trim_start_matches('\u{feff}').to_owned()
            }
            None | Some(Ok(_)) => {
                let message = "is empty: expected a line with the names of the columns";
                return Err(UserError::input(path, "line 1", message).into());
            }
            Some(Err(BadLine(message))) => {
                return Err(UserError::input(path, "line 1", message).into());
            }
        };
        let positions = positions(path, &header, columns)?;
        let width = header.split(',').count();
        Ok(Self { lines, positions, width })
    }

    /// Reads every row. `take` may refuse a row's value; such rows, and lines that cannot be
    /// read, are errors, or are counted if `skip_bad_rows`, and `take` hears what was in the column
    /// `key` of them (its answer to that does not matter).
    ///
    /// Returns (rows, bad rows).
    ///
    /// # Errors
    /// The first bad row, with its line, column and value; a file that cannot be read to its end,
    /// even if `skip_bad_rows`.
    pub fn for_each(
        &mut self,
        skip_bad_rows: bool,
        key: usize,
        mut take: impl FnMut(TableEntry<'_>) -> Result<(), BadValue>,
    ) -> Result<(u64, u64)> {
        let (mut rows, mut bad) = (0, 0);
        let mut ends = Vec::with_capacity(self.width);
        while let Some(line) = self.lines.next()? {
            let problem = match line {
                Ok("") => continue,
                Ok(line) => row(line, &self.positions, self.width, &mut ends)
                    .and_then(|row| take(TableEntry::Row(row))),
                Err(BadLine(message)) => Err(BadValue::new("", message)),
            };
            rows += 1;
            let Err(BadValue { column, message }) = problem else { continue };
            bad += 1;
            if !skip_bad_rows {
                let place = match column {
                    "" => format!("line {}", self.lines.number()),
                    column => format!("line {}, column {column}", self.lines.number()),
                };
                let message = format!("{message}: {SKIP_REMEDY}");
                return Err(UserError::input(self.lines.path(), place, message).into());
            }
            let line = String::from_utf8_lossy(self.lines.bytes());
            for key in keys(&line, self.positions[key], self.width) {
                take(TableEntry::Incomplete(key)).ok();
            }
        }
        Ok((rows, bad))
    }
}

/// What may be the value at `position` of a row that cannot be read: the field counted from the front,
/// and from the back, which is another if a field is missing or too many.
fn keys(line: &str, position: usize, width: usize) -> impl Iterator<Item = &str> {
    let front = line.split(',').nth(position);
    let back = line.rsplit(',').nth(width - 1 - position);
    let found = [front, back].into_iter().flatten();
    found.filter(|key| !key.is_empty() && key.len() <= MAX_KEY_BYTES)
}

/// The row on a line of `width` fields; `ends` is scratch.
fn row<'a>(
    line: &'a str,
    positions: &'a [usize],
    width: usize,
    ends: &'a mut Vec<usize>,
) -> Result<Row<'a>, BadValue> {
    ends.clear();
    ends.extend(line.bytes().enumerate().filter(|(_, byte)| *byte == b',').map(|(at, _)| at));
    ends.push(line.len());
    if ends.len() != width {
        let message = format!("{} fields where the header has {width}", ends.len());
        return Err(BadValue::new("", message));
    }
    Ok(Row { line, ends, positions })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str, columns: &[&str]) -> Result<Vec<Vec<String>>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut rows = Vec::new();
        Table::open(file.path(), columns)?.for_each(false, 0, |entry| {
            let TableEntry::Row(row) = entry else { panic!("no row is left out") };
            rows.push((0..columns.len()).map(|column| row.text(column).to_owned()).collect());
            Ok(())
        })?;
        Ok(rows)
    }

    #[test]
    fn columns_are_found_by_name_in_any_form_of_the_table() {
        let plain = "a,b,c\n1,2,3\n,5,\n";
        let forms = [
            plain.to_owned(),
            plain.replace('\n', "\r\n"),
            format!("\u{feff}{plain}"),
            ",c,a,b\n0,3,1,2\n1,,,5\n".to_owned(),
            "b, c,a \n2,3,1\n\n5,,".to_owned(),
        ];
        for text in forms {
            assert_eq!(table(&text, &["c", "a"]).unwrap(), [["3", "1"], ["", ""]], "{text:?}");
        }
    }

    #[test]
    fn a_row_has_as_many_fields_as_the_header() {
        for (row, fields) in [("1,2", 2), ("1,2,3,", 4), ("1,2,3,4", 4), ("1", 1), (" ", 1)] {
            for rows in [format!("{row}\n1,2,3\n"), format!("1,2,3\n{row}"), row.to_owned()] {
                let error = table(&format!("a,b,c\n{rows}"), &["a"]).unwrap_err().to_string();
                let message = format!("{fields} fields where the header has 3");
                assert!(error.contains(&message), "{rows:?}: {error}");
            }
        }
    }

    #[test]
    fn what_is_left_out_makes_the_rows_of_its_key_incomplete() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let long = format!("1,{},f", "x".repeat(MAX_ROW_BYTES));
        let lines = ["1,2,a,", "1,b", "refused,2,c", "1,\u{fffd},d", &long, "1,2,e", ",,"];
        let text = format!("x,y,key\n{}", lines.join("\n")).into_bytes();
        let at = text.windows(3).position(|window| window == [0xef, 0xbf, 0xbd]).unwrap();
        std::fs::write(file.path(), [&text[..at], b"\xff", &text[at + 3..]].concat()).unwrap();
        let (mut rows, mut incomplete) = (Vec::new(), Vec::new());
        let counts = Table::open(file.path(), &["x", "key"]).unwrap().for_each(true, 1, |entry| {
            match entry {
                TableEntry::Row(row) if row.text(0) == "refused" => {
                    return Err(BadValue::new("x", "no"));
                }
                TableEntry::Row(row) => rows.push(row.text(1).to_owned()),
                TableEntry::Incomplete(key) => incomplete.push(key.to_owned()),
            }
            Ok(())
        });
        assert_eq!(counts.unwrap(), (7, 5));
        assert_eq!(rows, ["e", ""]);
        // A shifted row may have its key at two places; of a line that is too long nothing is known.
        assert_eq!(incomplete, ["a", "b", "c", "c", "d", "d"]);
    }

    #[test]
    fn a_column_that_occurs_twice_is_refused() {
        let error = table("a,b,a\n1,2,3\n", &["b", "a"]).unwrap_err().to_string();
        assert!(error.ends_with("line 1, column a: occurs twice"), "{error}");
        assert_eq!(table("a,b,a\n1,2,3\n", &["b"]).unwrap(), [["2"]]);
    }
}
