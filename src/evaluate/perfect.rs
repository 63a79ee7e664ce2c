//! A perfect generator, on datasets whose truth is known: what comes nearest to the truth that the same
//! prompts, as many answers and the same temperature allow. A network that has learnt the truth and
//! samples below a temperature of 1 is away from it for that reason alone, which a generator that counts
//! is not; the difference between two rows of the perfect generator says by how much.

use anyhow::Result;
use rayon::prelude::*;

use super::truth::cloud_of;
use super::{Asked, Family, Record, score};
use crate::data::simulator::Cloud;
use crate::graph::Generated;
use crate::records::PERFECT;

/// The records of a perfect generator that answers `asked` at a temperature of 1, and at each of the others
/// that variants are asked at; none where the truth is not known. A temperature of 0 has no such row.
///
/// # Errors
/// As for scoring.
pub fn records(family: &Family, asked: &Asked, seed: u64) -> Result<Vec<Record>> {
    // Simulated graphs whose manifest is no longer found are like any others.
    let Ok(cloud) = cloud_of(asked.dataset) else {
        return Ok(Vec::new());
    };
    let others = asked.temperatures.iter().copied().filter(|t| *t > 0.0 && *t != 1.0);
    let mut records = Vec::new();
    for temperature in std::iter::once(1.0).chain(others) {
        let answers = answers(&cloud, asked, temperature, seed);
        let Asked { dataset, conditions, compared, .. } = *asked;
        let scores = score(family, dataset, conditions, &answers, None, compared, seed)?;
        records.extend(scores.records.into_iter().map(|record| {
            let about = record.dimensions.reference(PERFECT);
            let dimensions = about.temperature(temperature.to_string().as_str());
            Record { dimensions, ..record }
        }));
    }
    Ok(records)
}

fn answers(cloud: &Cloud, asked: &Asked, temperature: f64, seed: u64) -> Vec<Generated> {
    let answer = |(index, condition)| {
        let graph = cloud.answer(condition, temperature, seed, index as u64);
        graph.map_or_else(Generated::default, |graph| Generated::complete(graph.rows()))
    };
    asked.conditions.par_iter().enumerate().map(answer).collect()
}
