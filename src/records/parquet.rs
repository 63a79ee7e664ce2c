//! Records and per-prompt scores as tables in Parquet.

use std::path::Path;

use anyhow::{Context, Result};
use polars::prelude::{Column, DataFrame};

use super::{Dimensions, Metric, PromptScores, Record, Resamples};
use crate::data::calls as table;
use crate::error::UserError;
use crate::graph::Name;

/// A row per record: the metric's id, a column for each dimension that occurs, the number.
const RECORDS: &str = "records.parquet";
const NUMBERS: [&str; 4] = ["value", "low", "high", "count"];
/// A row per record that has resamples, and draw of them: place of the record, fingerprint and number of the
/// groups that were drawn, the number.
const RESAMPLES: &str = "resamples.parquet";
const RESAMPLE: [&str; 4] = ["record", "draws", "groups", "value"];
/// A row per prompt: its fingerprint and service, then a column per metric.
const PROMPT_SCORES: &str = "units.parquet";
const PROMPT: [&str; 2] = ["prompt", "service"];

/// Finds the description of a metric by its id.
pub type Find = fn(&str) -> Option<&'static Metric>;

/// The table of `records`; with a column for every dimension, or those that occur.
///
/// # Errors
/// None today.
pub fn to_frame(records: &[&Record], every_dimension: bool) -> Result<DataFrame> {
    let metrics: Vec<&str> = records.iter().map(|record| record.metric.id).collect();
    let about: Vec<&Dimensions> = records.iter().map(|record| &record.dimensions).collect();
    let number = |name: &str, of: fn(&Record) -> f64| {
        Column::new(name.into(), records.iter().map(|record| of(record)).collect::<Vec<f64>>())
    };
    let counts: Vec<u64> = records.iter().map(|record| record.count).collect();
    let mut columns = vec![Column::new("metric".into(), metrics)];
    columns.extend(Dimensions::columns(&about, every_dimension));
    columns.extend([
        number(NUMBERS[0], |record| record.value),
        number(NUMBERS[1], |record| record.low),
        number(NUMBERS[2], |record| record.high),
        Column::new(NUMBERS[3].into(), counts),
    ]);
    Ok(DataFrame::new(records.len(), columns)?)
}

/// Writes records, and their resamples, into the folder of a stage's outputs.
///
/// # Errors
/// A file that cannot be written.
pub fn save(dir: &Path, records: &[Record]) -> Result<()> {
    let records: Vec<&Record> = records.iter().collect();
    table::write(&dir.join(RECORDS), &mut to_frame(&records, false)?)?;
    let mut drawn: (Vec<u32>, Vec<u64>, Vec<u32>, Vec<f64>) = Default::default();
    for (place, record) in (0..).zip(&records) {
        let Some(Resamples { draws, groups, values }) = &record.resamples else { continue };
        for value in values {
            drawn.0.push(place);
            drawn.1.push(*draws);
            drawn.2.push(*groups);
            drawn.3.push(*value);
        }
    }
    let columns = vec![
        Column::new(RESAMPLE[0].into(), &drawn.0),
        Column::new(RESAMPLE[1].into(), &drawn.1),
        Column::new(RESAMPLE[2].into(), &drawn.2),
        Column::new(RESAMPLE[3].into(), &drawn.3),
    ];
    table::write(&dir.join(RESAMPLES), &mut DataFrame::new(drawn.0.len(), columns)?)
}

/// Reads the records of a finished stage, with their resamples where it kept them.
///
/// # Errors
/// A file that cannot be read, or holds what no record is.
pub fn load(dir: &Path, find: Find) -> Result<Vec<Record>> {
    let path = dir.join(RECORDS);
    let wrong = |path: &Path, what: &str, error: anyhow::Error| {
        UserError::input(path, what, format!("{error:#}"))
    };
    let mut records =
        records_of(&table::read(&path)?, find).map_err(|error| wrong(&path, "records", error))?;
    let path = dir.join(RESAMPLES);
    if path.exists() {
        add_resamples(&mut records, &table::read(&path)?)
            .map_err(|error| wrong(&path, "resamples", error))?;
    }
    Ok(records)
}

fn add_resamples(records: &mut [Record], frame: &DataFrame) -> Result<()> {
    let [places, groups] = [0, 2].map(|place: usize| frame.column(RESAMPLE[place])?.u32());
    let (places, groups, draws) = (places?, groups?, frame.column(RESAMPLE[1])?.u64()?);
    let numbers = places.iter().zip(groups.iter()).zip(draws.iter());
    for (((place, groups), draws), value) in numbers.zip(floats(frame, RESAMPLE[3])?) {
        let place = place.context("a resample without a record")?;
        let record = records.get_mut(place as usize);
        let record = record.with_context(|| format!("no record {place}"))?;
        let draws = draws.context("a resample without draws")?;
        let groups = groups.context("a resample without groups")?;
        let none = || Resamples { draws, groups, values: Vec::new() };
        record.resamples.get_or_insert_with(none).values.push(value);
    }
    Ok(())
}

fn records_of(frame: &DataFrame, find: Find) -> Result<Vec<Record>> {
    let metrics = frame.column("metric")?.str()?;
    let [value, low, high] = [0, 1, 2].map(|place: usize| floats(frame, NUMBERS[place]));
    let (value, low, high) = (value?, low?, high?);
    let counts = frame.column(NUMBERS[3])?.u64()?;
    let about = Dimensions::read(frame)?.into_iter().enumerate();
    let record = |(row, dimensions): (usize, Dimensions)| {
        let id = metrics.get(row).context("a record without a metric")?;
        let metric = find(id).with_context(|| format!("no metric `{id}`"))?;
        let count = counts.get(row).context("a record without a count")?;
        let (value, low, high) = (value[row], low[row], high[row]);
        Ok(Record { metric, dimensions, value, low, high, count, resamples: None })
    };
    about.map(record).collect()
}

/// The values of a column of numbers, none of which is absent.
pub fn floats(frame: &DataFrame, name: &str) -> Result<Vec<f64>> {
    let values = frame.column(name)?.f64()?.iter();
    let values: Option<Vec<f64>> = values.collect();
    values.with_context(|| format!("a row without `{name}`"))
}

/// Writes per-prompt scores into the folder of a stage's outputs.
///
/// # Errors
/// A file that cannot be written.
pub fn save_prompt_scores(dir: &Path, scores: &PromptScores) -> Result<()> {
    let services: Vec<&str> = scores.services.iter().map(Name::as_str).collect();
    let mut columns = vec![
        Column::new(PROMPT[0].into(), &scores.prompts),
        Column::new(PROMPT[1].into(), services),
    ];
    let metrics = scores.columns();
    columns.extend(metrics.map(|(metric, values)| Column::new(metric.id.into(), values)));
    table::write(&dir.join(PROMPT_SCORES), &mut DataFrame::new(scores.prompts.len(), columns)?)
}

/// Reads the scores of each prompt; `None` where the stage wrote nothing of the kind.
///
/// # Errors
/// A file that cannot be read, or holds something else.
pub fn load_prompt_scores(dir: &Path, find: Find) -> Result<Option<PromptScores>> {
    let path = dir.join(PROMPT_SCORES);
    if !path.exists() {
        return Ok(None);
    }
    let scores = scores_of(&table::read(&path)?, find);
    let wrong = |error| UserError::input(&path, "per-prompt scores", format!("{error:#}"));
    Ok(Some(scores.map_err(wrong)?))
}

fn scores_of(frame: &DataFrame, find: Find) -> Result<PromptScores> {
    let prompts: Option<Vec<u64>> = frame.column(PROMPT[0])?.u64()?.iter().collect();
    let services = frame.column(PROMPT[1])?.str()?.iter();
    let services: Option<Vec<Name>> = services.map(|name| name.map(Name::from)).collect();
    let prompts = prompts.context("a row without a prompt")?;
    let mut scores = PromptScores::of(prompts, services.context("a prompt without a service")?);
    for id in frame.get_column_names().into_iter().skip(PROMPT.len()) {
        scores.add(find(id).with_context(|| format!("no metric `{id}`"))?, floats(frame, id)?);
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::WHOLE;

    const VALID: &Metric = &Metric::fraction("valid/1", "valid");
    const KL: &Metric = &Metric::nats("kl/1", "divergence");
    const TASTE: &Metric = &Metric::plain("taste/1", "taste");

    fn find(id: &str) -> Option<&'static Metric> {
        [VALID, KL].into_iter().find(|metric| metric.id == id)
    }

    #[test]
    fn prompt_scores_read_back_and_may_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let load = |dir: &Path| load_prompt_scores(dir, find);
        assert!(load(dir.path()).unwrap().is_none());
        let mut scores =
            PromptScores::of(vec![u64::MAX, 7], vec!["S_1, \"x\"".into(), "S_2".into()]);
        scores.add(VALID, vec![1.0, 0.0]);
        save_prompt_scores(dir.path(), &scores).unwrap();
        assert_eq!(load(dir.path()).unwrap(), Some(scores.clone()));
        scores.add(KL, vec![f64::NAN, 0.1 + 0.2]);
        save_prompt_scores(dir.path(), &scores).unwrap();
        let read = load(dir.path()).unwrap().unwrap();
        let values = read.column(KL).unwrap();
        assert!(values[0].is_nan() && values[1] == 0.1 + 0.2);
        let frame = &mut DataFrame::new(1, vec![Column::new("prompt".into(), ["zz"])]).unwrap();
        table::write(&dir.path().join(PROMPT_SCORES), frame).unwrap();
        let error = format!("{:#}", load(dir.path()).unwrap_err());
        assert!(error.contains("units.parquet: per-prompt scores"), "{error}");
    }

    #[test]
    fn records_read_back_bit_for_bit() {
        let record = |value: f64, low: f64| Record {
            metric: KL,
            dimensions: WHOLE.edges(7).group("a/b=\"x\""),
            value,
            low,
            high: f64::INFINITY,
            count: 3,
            resamples: None,
        };
        let drawn = |draws| Resamples { draws, groups: 12, values: vec![0.1 + 0.2, -0.0] };
        let with = |value: f64, low: f64, draws: u64| Record {
            resamples: Some(drawn(draws)),
            ..record(value, low)
        };
        let records =
            [record(0.1 + 0.2, f64::NAN), with(1e-310, -0.0, u64::MAX), with(2.0, 1.0, 3)];
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &records).unwrap();
        let read = load(dir.path(), find).unwrap();
        assert_eq!(read[0].value.to_bits(), records[0].value.to_bits());
        assert!(read[0].low.is_nan() && read[0].high.is_infinite());
        assert_eq!(read[1].value.to_bits(), records[1].value.to_bits());
        assert_eq!(read[1].low.to_bits(), records[1].low.to_bits());
        assert_eq!(read[0].dimensions, records[0].dimensions);
        assert_eq!((read[0].metric, read[0].count), (KL, 3));
        let resamples = read.iter().map(|record| record.resamples.clone());
        let expected = [None, Some(drawn(u64::MAX)), Some(drawn(3))];
        assert_eq!(resamples.collect::<Vec<_>>(), expected);
        let unknown = [Record { metric: TASTE, ..record(1.0, 1.0) }];
        save(dir.path(), &unknown).unwrap();
        let error = load(dir.path(), find).unwrap_err().to_string();
        assert!(error.contains("no metric `taste/1`"), "{error}");
    }

    #[test]
    fn no_record_is_a_table_too() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &[]).unwrap();
        assert_eq!(load(dir.path(), find).unwrap(), []);
    }
}
