use std::path::Path;

use anyhow::{Context, Result};
use polars::prelude::{Column, DataFrame};
use serde::{Deserialize, Serialize};

use super::{StageContext, StageKind, answers, likelihood};
use crate::data::calls as table;
use crate::error::UserError;
use crate::evaluate::novelty::membership;
use crate::evaluate::{self, Dimensions, Evaluation, Record, Units};
use crate::graph::Name;
use crate::report;
use crate::run::cache::Key;
use crate::version::Version;

/// Version of this stage: records and values by prompt, as files.
pub const VERSION: Version = Version::new("stage/evaluate", 2);

/// Scores generated graphs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EvaluateWork {
    pub evaluation: Evaluation,
    pub seed: u64,
    pub dataset: Key,
    pub generate: Key,
    /// Likelihoods under the trained model, where the evaluation wants them and the generator has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub likelihood: Option<Key>,
}

/// Scores one half of the real graphs against the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FloorWork {
    pub evaluation: Evaluation,
    pub seed: u64,
    pub dataset: Key,
}

/// A row per record: the metric's id, a column for each dimension that occurs, the number.
const RECORDS: &str = "records.parquet";
const NUMBERS: [&str; 4] = ["value", "low", "high", "count"];
/// A row per prompt: its fingerprint and service, then a column per metric.
const UNITS: &str = "units.parquet";
const PROMPT: [&str; 2] = ["prompt", "service"];

impl StageKind for EvaluateWork {
    fn kind(&self) -> &'static str {
        "evaluate"
    }

    fn versions(&self) -> Vec<Version> {
        vec![VERSION, self.evaluation.version()]
    }

    fn inputs(&self) -> Vec<Key> {
        [&self.dataset, &self.generate].into_iter().chain(&self.likelihood).cloned().collect()
    }

    fn seed(&self) -> Option<u64> {
        Some(self.seed)
    }

    fn order(&self) -> u8 {
        2
    }

    fn run(&self, context: &StageContext) -> Result<()> {
        let dataset = context.dataset(&self.dataset)?;
        let (conditions, generated) = answers::load(&context.input("generate", &self.generate))?;
        let mut scores =
            evaluate::score(&self.evaluation, &dataset, &conditions, &generated, self.seed)?;
        if self.evaluation == Evaluation::Novelty {
            scores.records.extend(self.membership(context)?);
        }
        save_units(context.out, &scores.units)?;
        save(context.out, &scores.records)
    }
}

impl EvaluateWork {
    fn membership(&self, context: &StageContext) -> Result<Vec<Record>> {
        let likelihoods = match &self.likelihood {
            Some(key) => Some(likelihood::load(&context.input("likelihood", key))?),
            None => None,
        };
        Ok(membership::records(likelihoods.as_deref(), self.seed))
    }
}

impl StageKind for FloorWork {
    fn kind(&self) -> &'static str {
        "floor"
    }

    fn versions(&self) -> Vec<Version> {
        vec![VERSION, self.evaluation.version()]
    }

    fn inputs(&self) -> Vec<Key> {
        vec![self.dataset.clone()]
    }

    fn seed(&self) -> Option<u64> {
        Some(self.seed)
    }

    fn order(&self) -> u8 {
        2
    }

    fn run(&self, context: &StageContext) -> Result<()> {
        let dataset = context.dataset(&self.dataset)?;
        save(context.out, &evaluate::floor(&self.evaluation, &dataset, self.seed)?)
    }
}

pub(super) fn save(dir: &Path, records: &[Record]) -> Result<()> {
    let metrics: Vec<&str> = records.iter().map(|record| record.metric).collect();
    let about: Vec<&Dimensions> = records.iter().map(|record| &record.dimensions).collect();
    let number = |name: &str, of: fn(&Record) -> f64| {
        Column::new(name.into(), records.iter().map(of).collect::<Vec<f64>>())
    };
    let counts: Vec<u64> = records.iter().map(|record| record.count).collect();
    let mut columns = vec![Column::new("metric".into(), metrics)];
    columns.extend(Dimensions::columns(&about));
    columns.extend([
        number(NUMBERS[0], |record| record.value),
        number(NUMBERS[1], |record| record.low),
        number(NUMBERS[2], |record| record.high),
        Column::new(NUMBERS[3].into(), counts),
    ]);
    table::write(&dir.join(RECORDS), &mut DataFrame::new(records.len(), columns)?)
}

/// Reads the records of a finished stage.
pub fn load(dir: &Path) -> Result<Vec<Record>> {
    let path = dir.join(RECORDS);
    let frame = table::read(&path)?;
    let records = records_of(&frame);
    Ok(records.map_err(|error| UserError::input(&path, "records", format!("{error:#}")))?)
}

fn records_of(frame: &DataFrame) -> Result<Vec<Record>> {
    let metrics = frame.column("metric")?.str()?;
    let [value, low, high] = [0, 1, 2].map(|place: usize| floats(frame, NUMBERS[place]));
    let (value, low, high) = (value?, low?, high?);
    let counts = frame.column(NUMBERS[3])?.u64()?;
    let about = Dimensions::read(frame)?.into_iter().enumerate();
    let record = |(row, dimensions): (usize, Dimensions)| {
        let id = metrics.get(row).context("a record without a metric")?;
        let metric = report::describe(id).with_context(|| format!("no metric `{id}`"))?.id;
        let count = counts.get(row).context("a record without a count")?;
        let (value, low, high) = (value[row], low[row], high[row]);
        Ok(Record { metric, dimensions, value, low, high, count })
    };
    about.map(record).collect()
}

/// The values of a column of numbers, none of which is absent.
fn floats(frame: &DataFrame, name: &str) -> Result<Vec<f64>> {
    let values = frame.column(name)?.f64()?.iter();
    let values: Option<Vec<f64>> = values.collect();
    values.with_context(|| format!("a row without `{name}`"))
}

fn save_units(dir: &Path, units: &Units) -> Result<()> {
    let services: Vec<&str> = units.services.iter().map(Name::as_str).collect();
    let mut columns = vec![
        Column::new(PROMPT[0].into(), &units.prompts),
        Column::new(PROMPT[1].into(), services),
    ];
    let metrics = units.metrics().filter_map(|metric| Some((metric, units.column(metric)?)));
    columns.extend(metrics.map(|(metric, values)| Column::new(metric.into(), values)));
    table::write(&dir.join(UNITS), &mut DataFrame::new(units.prompts.len(), columns)?)
}

/// Reads what is known of each prompt; `None` where the stage wrote nothing of the kind.
pub fn load_units(dir: &Path) -> Result<Option<Units>> {
    let path = dir.join(UNITS);
    if !path.exists() {
        return Ok(None);
    }
    let units = units_of(&table::read(&path)?);
    Ok(Some(units.map_err(|error| UserError::input(&path, "units", format!("{error:#}")))?))
}

fn units_of(frame: &DataFrame) -> Result<Units> {
    let prompts: Option<Vec<u64>> = frame.column(PROMPT[0])?.u64()?.iter().collect();
    let services = frame.column(PROMPT[1])?.str()?.iter();
    let services: Option<Vec<Name>> = services.map(|name| name.map(Name::from)).collect();
    let prompts = prompts.context("a row without a prompt")?;
    let mut units = Units::of(prompts, services.context("a prompt without a service")?);
    for metric in frame.get_column_names().into_iter().skip(PROMPT.len()) {
        units.add(metric, floats(frame, metric)?);
    }
    Ok(units)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::WHOLE;

    #[test]
    fn units_read_back_and_may_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load_units(dir.path()).unwrap().is_none());
        let mut units = Units::of(vec![u64::MAX, 7], vec!["S_1, \"x\"".into(), "S_2".into()]);
        units.add("valid/1", vec![1.0, 0.0]);
        units.add("share/1", vec![0.1 + 0.2, 1e-310]);
        save_units(dir.path(), &units).unwrap();
        assert_eq!(load_units(dir.path()).unwrap(), Some(units.clone()));
        units.add("novel/1", vec![f64::NAN, 1.0]);
        save_units(dir.path(), &units).unwrap();
        let read = load_units(dir.path()).unwrap().unwrap();
        assert!(read.column("novel/1").unwrap()[0].is_nan());
        let frame = &mut DataFrame::new(1, vec![Column::new("prompt".into(), ["zz"])]).unwrap();
        table::write(&dir.path().join(UNITS), frame).unwrap();
        let error = format!("{:#}", load_units(dir.path()).unwrap_err());
        assert!(error.contains("units.parquet: units"), "{error}");
    }

    #[test]
    fn records_read_back_bit_for_bit() {
        let record = |value: f64, low: f64| Record {
            metric: "accuracy/1",
            dimensions: WHOLE.edges(7).group("a/b=\"x\""),
            value,
            low,
            high: f64::INFINITY,
            count: 3,
        };
        let records = [record(0.1 + 0.2, f64::NAN), record(1e-310, -0.0)];
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &records).unwrap();
        let read = load(dir.path()).unwrap();
        assert_eq!(read[0].value.to_bits(), records[0].value.to_bits());
        assert!(read[0].low.is_nan() && read[0].high.is_infinite());
        assert_eq!(read[1].value.to_bits(), records[1].value.to_bits());
        assert_eq!(read[1].low.to_bits(), records[1].low.to_bits());
        assert_eq!(read[0].dimensions, records[0].dimensions);
        assert_eq!((read[0].metric, read[0].count), ("accuracy/1", 3));
        let unknown = [Record { metric: "taste/1", ..record(1.0, 1.0) }];
        save(dir.path(), &unknown).unwrap();
        let error = load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("no metric `taste/1`"), "{error}");
    }

    #[test]
    fn no_record_is_a_table_too() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &[]).unwrap();
        assert_eq!(load(dir.path()).unwrap(), []);
    }
}
