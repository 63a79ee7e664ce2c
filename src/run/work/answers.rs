//! Generated graphs on disk: `conditions.jsonl`, `failures.jsonl` and `cost.jsonl` with one line per
//! condition, and `calls.parquet`, in which a graph's number is the index of its condition.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::data::calls::{self, Group};
use crate::error::UserError;
use crate::graph::{Condition, DecodingCost, Generated, Violation};

const CONDITIONS: &str = "conditions.jsonl";
pub(super) const FAILURES: &str = "failures.jsonl";
const COST: &str = "cost.jsonl";
const CALLS: &str = "calls.parquet";

/// Writes what a generator answered.
pub fn save(dir: &Path, conditions: &[Condition], answers: &[Generated]) -> Result<()> {
    ensure!(
        conditions.len() == answers.len(),
        "the generator gave {} answers to {} conditions",
        answers.len(),
        conditions.len()
    );
    write_lines(&dir.join(CONDITIONS), conditions.iter())?;
    write_lines(&dir.join(FAILURES), answers.iter().map(|answer| &answer.failure))?;
    write_lines(&dir.join(COST), answers.iter().map(|answer| rounded(answer.cost)))?;
    let groups: Vec<Group> = conditions
        .iter()
        .zip(answers)
        .enumerate()
        .map(|(index, (condition, answer))| Group {
            graph: index as u32,
            service: condition.service.clone(),
            rows: answer.rows.clone(),
        })
        .collect();
    calls::write(&dir.join(CALLS), &mut calls::to_frame(&groups)?)
}

/// To six decimals, which JSON gives back exactly.
fn rounded(cost: DecodingCost) -> DecodingCost {
    DecodingCost { allowed_mass: (cost.allowed_mass * 1e6).round() / 1e6, ..cost }
}

/// Reads what [`save`] wrote.
pub fn load(dir: &Path) -> Result<(Vec<Condition>, Vec<Generated>)> {
    let conditions: Vec<Condition> = read_lines(&dir.join(CONDITIONS))?;
    let failures: Vec<Option<Violation>> = read_lines(&dir.join(FAILURES))?;
    let costs: Vec<DecodingCost> = read_lines(&dir.join(COST))?;
    let complete = conditions.len() == failures.len() && conditions.len() == costs.len();
    ensure!(complete, "{}: lines are missing", dir.display());
    let mut answers: Vec<Generated> = failures
        .into_iter()
        .zip(costs)
        .map(|(failure, cost)| Generated { rows: Vec::new(), failure, cost })
        .collect();
    let path = dir.join(CALLS);
    for group in calls::from_frame(&path, &calls::read(&path)?)? {
        let answer = answers.get_mut(group.graph as usize);
        let answer = answer.with_context(|| format!("{}: no such graph", path.display()))?;
        answer.rows = group.rows;
    }
    Ok((conditions, answers))
}

/// Number of conditions that were answered; 0 where the folder is gone.
pub fn count(dir: &Path) -> u64 {
    let file = File::open(dir.join(FAILURES)).map(BufReader::new);
    file.map_or(0, |file| file.lines().count() as u64)
}

fn write_lines<T: Serialize>(path: &Path, values: impl Iterator<Item = T>) -> Result<()> {
    let failed = |error| UserError::io(path, "cannot be written", error);
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    for value in values {
        serde_json::to_writer(&mut file, &value)?;
        file.write_all(b"\n").map_err(failed)?;
    }
    Ok(file.flush().map_err(failed)?)
}

fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let failed = |error| UserError::io(path, "cannot be read", error);
    let lines = BufReader::new(File::open(path).map_err(failed)?).lines();
    let value = |(index, line): (usize, std::io::Result<String>)| {
        serde_json::from_str(&line.map_err(failed)?)
            .with_context(|| format!("{}: line {}", path.display(), index + 1))
    };
    lines.enumerate().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::ViolationCode;
    use crate::testing::paper_example;

    #[test]
    fn answers_survive_with_failures_and_gaps() {
        let condition = |edges| Condition {
            service: "S_000034483".into(),
            num_edges: Some(edges),
            depth: None,
            latency: Some(8),
            requests: Vec::new(),
        };
        let conditions = [condition(1), condition(7), condition(2)];
        let failure = Some(Violation::new(ViolationCode::Format, "no `</edges>`"));
        let answers = [
            Generated { failure, ..Generated::default() },
            Generated {
                rows: paper_example().rows(),
                failure: None,
                cost: DecodingCost { tokens: 90, choices: 40, allowed_mass: 39.3 },
            },
            Generated::default(),
        ];
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &conditions, &answers).unwrap();
        let (read_conditions, read_answers) = load(dir.path()).unwrap();
        assert_eq!(read_conditions, conditions);
        assert_eq!(read_answers, answers);
        assert!(save(dir.path(), &conditions, &answers[..2]).is_err());
    }
}
