//! Comma-separated tables, row by row, with an error that names line, column and value. Fields
//! are not quoted, unless the table is said to be: no name in the others holds a comma. A row has as many fields as the header: one
//! more or less, and nobody can say which of them belongs to which column.

use std::borrow::Cow;
use std::path::Path;

use anyhow::Result;

use super::lines::{BadLine, Lines, MAX_ROW_BYTES, SKIP_REMEDY};
use crate::display;
use crate::error::{UserError, did_you_mean};
use crate::graph::{CallGraph, Name};

/// Longer values are no key of rows that can be used.
const MAX_KEY_BYTES: usize = 4096;

/// How fields are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// What stands between fields.
    pub delimiter: u8,
    /// Whether fields may stand in quotation marks, in which the delimiter is part of the field and two
    /// quotation marks are one. A line's end is not.
    pub is_quoted: bool,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { delimiter: b',', is_quoted: false }
    }
}

/// A table of which some columns are read.
pub struct Table {
    lines: Lines,
    dialect: Dialect,
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
        field(self.line, self.ends, self.positions[column])
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
    /// Empty for what is wrong with the row as a whole.
    pub column: Cow<'static, str>,
    pub message: String,
}

impl BadValue {
    pub fn new(column: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { column: column.into(), message: message.into() }
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
fn positions(path: &Path, found: &[&str], columns: &[&str]) -> Result<Vec<usize>> {
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
        Self::open_as(path, columns, Dialect::default())
    }

    /// As [`Self::open`], for a table whose fields are told apart otherwise.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub fn open_as(path: &Path, columns: &[&str], dialect: Dialect) -> Result<Self> {
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
        let (mut ends, mut plain) = (Vec::new(), String::new());
        let header = fields(&header, dialect, &mut ends, &mut plain)
            .map_err(|BadValue { message, .. }| UserError::input(path, "line 1", message))?;
        let names: Vec<&str> =
            (0..ends.len()).map(|place| field(header, &ends, place).trim()).collect();
        let positions = positions(path, &names, columns)?;
        Ok(Self { lines, dialect, positions, width: names.len() })
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
        let (mut ends, mut plain) = (Vec::with_capacity(self.width), String::new());
        let dialect = self.dialect;
        while let Some(line) = self.lines.next()? {
            let problem = match line {
                Ok("") => continue,
                Ok(line) => row(line, dialect, &self.positions, self.width, &mut ends, &mut plain)
                    .and_then(|row| take(TableEntry::Row(row))),
                Err(BadLine(message)) => Err(BadValue::new("", message)),
            };
            rows += 1;
            let Err(BadValue { column, message }) = problem else { continue };
            bad += 1;
            if !skip_bad_rows {
                let place = match column.as_ref() {
                    "" => format!("line {}", self.lines.number()),
                    column => format!("line {}, column {column}", self.lines.number()),
                };
                let message = format!("{message}: {SKIP_REMEDY}");
                return Err(UserError::input(self.lines.path(), place, message).into());
            }
            let line = String::from_utf8_lossy(self.lines.bytes());
            for key in keys(&line, dialect, self.positions[key], self.width) {
                take(TableEntry::Incomplete(key)).ok();
            }
        }
        Ok((rows, bad))
    }
}

/// The field at `position` of a line whose fields have these `ends`.
fn field<'a>(line: &'a str, ends: &[usize], position: usize) -> &'a str {
    let start = if position == 0 { 0 } else { ends[position - 1] + 1 };
    &line[start..ends[position]]
}

/// Finds the `ends` of the fields of a line, each one byte before the next field; gives the line in which
/// they are so, which is `plain` if some stand in quotation marks.
fn fields<'a>(
    line: &'a str,
    dialect: Dialect,
    ends: &mut Vec<usize>,
    plain: &'a mut String,
) -> Result<&'a str, BadValue> {
    ends.clear();
    if !dialect.is_quoted || !line.contains('"') {
        let places = line.bytes().enumerate();
        ends.extend(places.filter(|(_, byte)| *byte == dialect.delimiter).map(|(at, _)| at));
        ends.push(line.len());
        return Ok(line);
    }
    plain.clear();
    let delimiter = char::from(dialect.delimiter);
    let mut rest = line;
    loop {
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let Some(end) = quoted.find('"') else {
                    let message = "the line ends inside of a field in quotation marks";
                    return Err(BadValue::new("", message));
                };
                plain.push_str(&quoted[..end]);
                quoted = &quoted[end + 1..];
                match quoted.strip_prefix('"') {
                    Some(more) => {
                        plain.push('"');
                        quoted = more;
                    }
                    None => break,
                }
            }
            rest = quoted;
            if !rest.is_empty() && !rest.starts_with(delimiter) {
                let message = "more follows behind a field in quotation marks";
                return Err(BadValue::new("", message));
            }
        } else {
            let end = rest.find(delimiter).unwrap_or(rest.len());
            plain.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        ends.push(plain.len());
        match rest.strip_prefix(delimiter) {
            Some(next) => {
                plain.push(delimiter);
                rest = next;
            }
            None => return Ok(plain),
        }
    }
}

/// The fields of a line; `None` of one that cannot be read.
pub fn split(line: &str, dialect: Dialect) -> Option<Vec<String>> {
    let (mut ends, mut plain) = (Vec::new(), String::new());
    let line = fields(line, dialect, &mut ends, &mut plain).ok()?;
    Some((0..ends.len()).map(|place| field(line, &ends, place).to_owned()).collect())
}

/// What may be the value at `position` of a row that cannot be read: the field counted from the front,
/// and from the back, which is another if a field is missing or too many.
fn keys(line: &str, dialect: Dialect, position: usize, width: usize) -> impl Iterator<Item = &str> {
    let delimiter = char::from(dialect.delimiter);
    let front = line.split(delimiter).nth(position);
    let back = line.rsplit(delimiter).nth(width - 1 - position);
    let found = [front, back].into_iter().flatten();
    let found = found.map(move |key| if dialect.is_quoted { key.trim_matches('"') } else { key });
    found.filter(|key| !key.is_empty() && key.len() <= MAX_KEY_BYTES)
}

/// The row on a line of `width` fields; `ends` and `plain` are scratch.
fn row<'a>(
    line: &'a str,
    dialect: Dialect,
    positions: &'a [usize],
    width: usize,
    ends: &'a mut Vec<usize>,
    plain: &'a mut String,
) -> Result<Row<'a>, BadValue> {
    let line = fields(line, dialect, ends, plain)?;
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
    fn fields_may_stand_in_quotation_marks() {
        let read = |text: &str, delimiter| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            let mut rows = Vec::new();
            let dialect = Dialect { delimiter, is_quoted: true };
            Table::open_as(file.path(), &["b", "a"], dialect)?.for_each(false, 0, |entry| {
                let TableEntry::Row(row) = entry else { panic!("no row is left out") };
                rows.push([row.text(0).to_owned(), row.text(1).to_owned()]);
                Ok(())
            })?;
            anyhow::Ok(rows)
        };
        let rows = read("a,\"b\",c\n1,\"x, \"\"y\"\"\",3\n\"\",\"é\",\n,p\"q,\n", b',').unwrap();
        assert_eq!(rows, [["x, \"y\"", "1"], ["é", ""], ["p\"q", ""]]);
        assert_eq!(read("a;b\n1,5;2\n", b';').unwrap(), [["2", "1,5"]]);
        for (row, message) in [
            ("1,\"2", "line 2: the line ends inside of a field in quotation marks"),
            ("1,\"2\"3", "line 2: more follows behind a field in quotation marks"),
            ("1,\"2,3\"", "line 2: 2 fields where the header has 3"),
        ] {
            let error = read(&format!("a,b,c\n{row}\n"), b',').unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn a_column_that_occurs_twice_is_refused() {
        let error = table("a,b,a\n1,2,3\n", &["b", "a"]).unwrap_err().to_string();
        assert!(error.ends_with("line 1, column a: occurs twice"), "{error}");
        assert_eq!(table("a,b,a\n1,2,3\n", &["b"]).unwrap(), [["2"]]);
    }
}
