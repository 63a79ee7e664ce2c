//! Comma-separated tables, row by row, with an error that names line, column and value. Fields
//! are not quoted: no name in these tables holds a comma.

use std::path::Path;

use anyhow::Result;

use super::lines::{BadLine, Lines, MAX_ROW_BYTES, SKIP_REMEDY};
use crate::display;
use crate::error::{UserError, did_you_mean};

/// A table of which some columns are read.
pub struct Table {
    lines: Lines,
    /// Position in the file of each column asked for.
    positions: Vec<usize>,
    width: usize,
}

/// The fields of one row, in the order in which the columns were asked for.
pub struct Row<'a>(Vec<&'a str>);

impl<'a> Row<'a> {
    /// The text of a field; empty if the line ends before it.
    pub fn text(&self, column: usize) -> &'a str {
        self.0[column]
    }
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
/// A column that is missing, with the nearest one that is there.
pub fn positions(path: &Path, header: &str, columns: &[&str]) -> Result<Vec<usize>> {
    let header = header.trim_start_matches('\u{feff}');
    let found: Vec<&str> = header.split(',').map(str::trim).collect();
    let position = |column: &&str| {
        found.iter().position(|name| name == column).ok_or_else(|| {
            let hint = did_you_mean(column, found.iter().copied());
            let message = format!("is missing; the columns are {}{hint}", shown(&found.join(", ")));
            UserError::input(path, format!("line 1, column {column}"), message).into()
        })
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
        let header = match lines.next() {
            Some(Ok(header)) if !header.trim().is_empty() => header.to_owned(),
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
    /// read, are errors, or are counted if `skip_bad_rows`.
    ///
    /// Returns (rows, bad rows).
    ///
    /// # Errors
    /// The first bad row, with its line, column and value.
    pub fn for_each(
        &mut self,
        skip_bad_rows: bool,
        mut take: impl FnMut(&Row<'_>) -> Result<(), BadValue>,
    ) -> Result<(u64, u64)> {
        let (mut rows, mut bad) = (0, 0);
        while let Some(line) = self.lines.next() {
            let problem = match line {
                Ok("") => continue,
                Ok(line) => row(line, &self.positions, self.width).and_then(|row| take(&row)),
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
        }
        Ok((rows, bad))
    }
}

fn row<'a>(line: &'a str, positions: &[usize], width: usize) -> Result<Row<'a>, BadValue> {
    let fields: Vec<&str> = line.split(',').collect();
    if fields.len() > width {
        let message = format!("{} fields where the header has {width}", fields.len());
        return Err(BadValue::new("", message));
    }
    Ok(Row(positions.iter().map(|at| fields.get(*at).copied().unwrap_or_default()).collect()))
}
