use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};
use polars::prelude::*;

use super::buckets::Buckets;
use super::row::{DM, Flavour, ID, KIND, RT, RawRow, SERVICE, TIMESTAMP, TRACE, UM};
use crate::data::table::{BadValue, Row, Table, shown};
use crate::progress::Progress;

/// Rows that were read, and how many of them could not be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub rows: u64,
    pub bad: u64,
}

/// Checks that every file is a table with the columns of `flavour`.
pub fn check_headers(files: &[PathBuf], flavour: Flavour) -> Result<()> {
    files.iter().try_for_each(|path| Table::open(path, &flavour.columns()).map(drop))
}

/// Rows per batch that leave polars.
const BATCH_ROWS: NonZeroUsize = NonZeroUsize::new(1 << 16).unwrap();

/// What the batches of one scan share.
struct Target {
    buckets: Buckets,
    rows: u64,
    /// Why the scan had to stop, when it is not polars' own error.
    failure: Option<anyhow::Error>,
}

/// Reads all files in polars' streaming engine. `None` if a row cannot be used or polars fails:
/// it does not say where, so a careful pass has to.
pub fn fast(
    files: &[PathBuf],
    flavour: Flavour,
    buckets: Buckets,
    progress: Progress,
) -> Result<Option<(Buckets, u64)>> {
    let step = Arc::new(progress.step("reading", "rows", 0));
    let target = Arc::new(Mutex::new(Target { buckets, rows: 0, failure: None }));
    for path in files {
        let shared = Arc::clone(&target);
        let shown = Arc::clone(&step);
        let callback = PlanCallback::new(move |batch: DataFrame| {
            let mut target = shared.lock().map_err(|_| polars_err!(ComputeError: "poisoned"))?;
            let Target { buckets, rows, failure } = &mut *target;
            match take(&batch, flavour, buckets) {
                Ok(true) => {
                    *rows += batch.height() as u64;
                    shown.inc(batch.height() as u64);
                    Ok(false)
                }
                Ok(false) => Err(polars_err!(ComputeError: "bad row")),
                Err(error) => {
                    *failure = Some(error);
                    Err(polars_err!(ComputeError: "cannot go on"))
                }
            }
        });
        let result = scan(path, flavour)
            .and_then(|frame| frame.sink_batches(callback, true, Some(BATCH_ROWS)))
            .and_then(|frame| frame.collect_with_engine(Engine::Streaming));
        if result.is_err() {
            let failure = target.lock().ok().and_then(|mut target| target.failure.take());
            return failure.map_or(Ok(None), Err);
        }
    }
    let target = Arc::into_inner(target).and_then(|target| target.into_inner().ok());
    let target = target.ok_or_else(|| anyhow!("polars kept a finished scan"))?;
    if let Some(step) = Arc::into_inner(step) {
        step.finish();
    }
    Ok(Some((target.buckets, target.rows)))
}

/// The columns of one table: times as numbers, all else as text.
fn scan(path: &Path, flavour: Flavour) -> PolarsResult<LazyFrame> {
    let columns = flavour.columns();
    let numbers = Schema::from_iter([
        Field::new(columns[TIMESTAMP].into(), DataType::Int64),
        Field::new(columns[RT].into(), DataType::Float64),
    ]);
    let frame = LazyCsvReader::new(PlRefPath::try_from_path(path)?)
        .with_glob(false)
        .with_quote_char(None)
        .with_infer_schema_length(Some(0))
        .with_dtype_overwrite(Some(Arc::new(numbers)))
        .finish()?;
    Ok(frame.select(columns.map(col)))
}

/// Sends a batch to the buckets; false if a row cannot be used.
fn take(batch: &DataFrame, flavour: Flavour, buckets: &mut Buckets) -> Result<bool> {
    let columns = batch.columns();
    let texts: Vec<&StringChunked> = [TRACE, ID, KIND, UM, DM, SERVICE]
        .iter()
        .map(|column| columns[*column].str())
        .collect::<PolarsResult<_>>()?;
    let mut texts: Vec<_> = texts.into_iter().map(StringChunked::iter).collect();
    let timestamps = columns[TIMESTAMP].i64()?;
    let mut rts = columns[RT].f64()?.iter();
    for timestamp in timestamps.iter() {
        let mut text = |column: usize| texts[column].next().flatten().unwrap_or_default();
        let row = RawRow {
            timestamp,
            trace: text(0),
            id: text(1),
            kind: text(2),
            um: text(3),
            dm: text(4),
            service: text(5),
            rt: rts.next().flatten(),
        };
        let Ok(passed) = row.classify(flavour) else { return Ok(false) };
        buckets.push(row.trace, &passed)?;
    }
    Ok(true)
}

/// Reads all files line by line. Bad rows are errors, or are counted if `skip_bad_rows`.
///
/// # Errors
/// The first bad row with its line, column and value.
pub fn careful(
    files: &[PathBuf],
    flavour: Flavour,
    mut target: Option<&mut Buckets>,
    skip_bad_rows: bool,
    progress: Progress,
) -> Result<Outcome> {
    let step = progress.step("reading line by line", "rows", 0);
    let mut outcome = Outcome::default();
    for path in files {
        let mut failure = None;
        let counts = Table::open(path, &flavour.columns())?.for_each(skip_bad_rows, |row| {
            let row = parse(row, flavour)?;
            let passed = row.classify(flavour)?;
            if let (Some(buckets), None) = (target.as_deref_mut(), &failure) {
                failure = buckets.push(row.trace, &passed).err();
            }
            step.inc(1);
            Ok(())
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
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
