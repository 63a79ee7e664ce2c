use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Bench, answers, likelihood};
use crate::error::UserError;
use crate::evaluate::novelty::membership;
use crate::evaluate::{self, Evaluation, Record, Units};
use crate::graph::Name;
use crate::run::cache::Key;
use crate::version::Version;

/// Version of this stage: records and values by prompt, as files.
pub const VERSION: Version = Version::new("stage/evaluate", 1);

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

const RECORDS: &str = "records.csv";
/// A row per prompt: its index, fingerprint and service, then a column per metric.
const UNITS: &str = "units.csv";
const PROMPT: [&str; 3] = ["index", "prompt", "service"];

impl EvaluateWork {
    pub fn run(&self, bench: &Bench) -> Result<()> {
        let dataset = bench.dataset(&self.dataset)?;
        let (conditions, generated) = answers::load(&bench.input("generate", &self.generate))?;
        let mut scores =
            evaluate::score(&self.evaluation, &dataset, &conditions, &generated, self.seed)?;
        if self.evaluation == Evaluation::Novelty {
            scores.records.extend(self.membership(bench)?);
        }
        save_units(bench.out, &scores.units)?;
        save(bench.out, &scores.records)
    }

    fn membership(&self, bench: &Bench) -> Result<Vec<Record>> {
        let likelihoods = match &self.likelihood {
            Some(key) => Some(likelihood::load(&bench.input("likelihood", key))?),
            None => None,
        };
        Ok(membership::records(likelihoods.as_deref(), self.seed))
    }
}

impl FloorWork {
    pub fn run(&self, bench: &Bench) -> Result<()> {
        let dataset = bench.dataset(&self.dataset)?;
        save(bench.out, &evaluate::floor(&self.evaluation, &dataset, self.seed)?)
    }
}

pub(super) fn save(dir: &Path, records: &[Record]) -> Result<()> {
    // CSV, since JSON has no NaN; numbers are written so that they read back to the same bits.
    let mut writer = csv::Writer::from_path(dir.join(RECORDS))?;
    for record in records {
        writer.serialize(record)?;
    }
    Ok(writer.flush()?)
}

/// Reads the records of a finished stage.
pub fn load(dir: &Path) -> Result<Vec<Record>> {
    let path = dir.join(RECORDS);
    let file = std::fs::File::open(&path)
        .map_err(|error| UserError::io(&path, "cannot be read", error))?;
    let mut reader = csv::Reader::from_reader(file);
    Ok(reader.deserialize().collect::<Result<_, _>>()?)
}

fn save_units(dir: &Path, units: &Units) -> Result<()> {
    let mut writer = csv::Writer::from_path(dir.join(UNITS))?;
    writer.write_record(PROMPT.into_iter().chain(units.metrics()))?;
    let columns: Vec<&[f64]> = units.metrics().filter_map(|metric| units.column(metric)).collect();
    for (index, (prompt, service)) in units.prompts.iter().zip(&units.services).enumerate() {
        writer.write_field(index.to_string())?;
        writer.write_field(format!("{prompt:016x}"))?;
        writer.write_field(service.as_str())?;
        writer.write_record(columns.iter().map(|values| values[index].to_string()))?;
    }
    Ok(writer.flush()?)
}

/// Reads what is known of each prompt; `None` where the stage wrote nothing of the kind.
pub fn load_units(dir: &Path) -> Result<Option<Units>> {
    let path = dir.join(UNITS);
    let file = match std::fs::File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| UserError::io(&path, "cannot be read", error))?,
    };
    let mut reader = csv::Reader::from_reader(file);
    let header = reader.headers()?.clone();
    let (mut prompts, mut services) = (Vec::new(), Vec::new());
    let mut columns = vec![Vec::new(); header.len().saturating_sub(PROMPT.len())];
    for (index, row) in reader.records().enumerate() {
        let row = row?;
        let at = || format!("{}: prompt {index}", path.display());
        let field = |place: usize| row.get(place).with_context(at);
        prompts.push(u64::from_str_radix(field(1)?, 16).with_context(at)?);
        services.push(Name::from(field(2)?));
        for (values, place) in columns.iter_mut().zip(PROMPT.len()..) {
            values.push(field(place)?.parse::<f64>().with_context(at)?);
        }
    }
    let mut units = Units::of(prompts, services);
    header.iter().skip(PROMPT.len()).zip(columns).for_each(|(metric, values)| {
        units.add(metric, values);
    });
    Ok(Some(units))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        std::fs::write(dir.path().join(UNITS), "index,prompt,service,valid/1\n0,zz,S,1\n").unwrap();
        let error = format!("{:#}", load_units(dir.path()).unwrap_err());
        assert!(error.contains("units.csv: prompt 0"), "{error}");
    }

    #[test]
    fn records_read_back_bit_for_bit() {
        let record = |value: f64, low: f64| Record {
            metric: "accuracy/1".into(),
            cell: "edges=7/depth=3, \"x\"".into(),
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
        assert_eq!((&read[0].cell, read[0].count), (&records[0].cell, 3));
    }
}
