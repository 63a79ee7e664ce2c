use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Bench, answers, likelihood};
use crate::error::UserError;
use crate::evaluate::novelty::membership;
use crate::evaluate::{self, Evaluation, Record};
use crate::run::cache::Key;

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

impl EvaluateWork {
    pub fn run(&self, bench: &Bench) -> Result<()> {
        let dataset = bench.dataset(&self.dataset)?;
        let (conditions, generated) = answers::load(&bench.input("generate", &self.generate))?;
        let mut records =
            evaluate::evaluate(&self.evaluation, &dataset, &conditions, &generated, self.seed)?;
        if self.evaluation == Evaluation::Novelty {
            records.extend(self.membership(bench)?);
        }
        save(bench.out, &records)
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

fn save(dir: &Path, records: &[Record]) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
