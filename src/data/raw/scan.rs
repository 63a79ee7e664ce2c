use std::path::PathBuf;

use anyhow::Result;

use super::buckets::Buckets;
use super::row::{DM, Flavour, ID, KIND, RT, RawRow, SERVICE, TIMESTAMP, TRACE, UM};
use crate::data::table::{BadValue, Row, Table, TableEntry, shown};
use crate::progress::Progress;

/// Rows that were read, and how many of them could not be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub rows: u64,
    pub bad: u64,
}

/// Rows between two reports of progress.
const REPORT_ROWS: u64 = 1 << 12;

/// Sends the rows of all files to `buckets`. Bad rows are errors, or are counted if `skip_bad_rows`,
/// and their traces noted as incomplete.
///
/// # Errors
/// The first bad row with its line, column and value; a file that is no table with the columns of
/// `flavour`, or cannot be read to its end.
pub fn read(
    files: &[PathBuf],
    flavour: Flavour,
    buckets: &mut Buckets,
    skip_bad_rows: bool,
    progress: Progress,
) -> Result<Outcome> {
    let columns = flavour.columns();
    // Before hours are spent on the first.
    files.iter().try_for_each(|path| Table::open(path, &columns).map(drop))?;
    let step = progress.step("reading", "rows", 0);
    let mut outcome = Outcome::default();
    for path in files {
        let mut failure = None;
        let mut unreported = 0;
        let counts = Table::open(path, &columns)?.for_each(skip_bad_rows, TRACE, |entry| {
            let pushed = match entry {
                TableEntry::Row(row) => {
                    let row = parse(&row, flavour)?;
                    buckets.push(row.trace, &row.classify(flavour)?)
                }
                TableEntry::Incomplete(trace) => buckets.incomplete(trace),
            };
            failure = failure.take().or(pushed.err());
            unreported += 1;
            if unreported == REPORT_ROWS {
                step.inc(std::mem::take(&mut unreported));
            }
            Ok(())
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        step.inc(unreported);
        outcome.rows += counts.0;
        outcome.bad += counts.1;
    }
    step.finish();
    Ok(outcome)
}

fn parse<'a>(row: &Row<'a>, flavour: Flavour) -> Result<RawRow<'a>, BadValue> {
    Ok(RawRow {
        timestamp: number(row, TIMESTAMP, flavour)?,
        trace: row.text(TRACE),
        id: row.text(ID),
        kind: row.text(KIND),
        um: row.text(UM),
        dm: row.text(DM),
        rt: number(row, RT, flavour)?,
        service: row.text(SERVICE),
    })
}

fn number<T: std::str::FromStr>(
    row: &Row<'_>,
    column: usize,
    flavour: Flavour,
) -> Result<Option<T>, BadValue> {
    match row.text(column) {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            let message = format!("`{}` is not a number", shown(text));
            BadValue::new(flavour.columns()[column], message)
        }),
    }
}
