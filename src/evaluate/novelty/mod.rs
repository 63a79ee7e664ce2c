//! Uniqueness, novelty, memorisation and privacy: whether generated graphs are new, and what they
//! give away of the graphs that a generator was trained on.

mod distance;
pub mod membership;
mod nearest;
pub mod occurrence;
pub mod privacy;

use anyhow::Result;

use super::{Case, Record, Units, WHOLE, accuracy, fidelity};
use crate::data::Dataset;
use crate::graph::CallGraph;

/// All records of this evaluation but those of membership inference, which need likelihoods
/// ([`membership::records`]). Adds to `units` whether each valid answer is novel by names
/// ([`occurrence::NOVELTY`], `level=names`).
///
/// # Errors
/// None today.
pub fn records(case: &Case, units: &mut Units) -> Result<Vec<Record>> {
    let (train, valid) = (case.dataset.train(), case.valid().collect::<Vec<&CallGraph>>());
    let asked = case.verdicts.len() as u64;
    let mut records = vec![
        Record::share(fidelity::VALID, WHOLE, valid.len() as u64, asked),
        accuracy::whole(case.verdicts),
    ];
    let occurrence = occurrence::of(&train, &valid, case.conditions, None);
    let mut seen = occurrence.seen.into_iter();
    let novel = case.verdicts.iter().map(|verdict| {
        let seen = verdict.graph.as_ref().and_then(|_| seen.next());
        seen.map_or(f64::NAN, |seen| f64::from(u8::from(!seen)))
    });
    units.add(occurrence::NOVELTY, novel.collect());
    records.extend(occurrence.records);
    records.extend(privacy::records(case));
    Ok(records)
}

/// The reference rows. `reference=test` takes the test graphs for generated ones: what perfect
/// samples of the truth, none of which was copied, are measured at. `reference=half` compares random
/// halves of all real graphs, for measures that do not depend on how the dataset was split.
///
/// # Errors
/// None today.
pub fn floor(dataset: &Dataset, seed: u64) -> Result<Vec<Record>> {
    let test = dataset.test();
    if test.is_empty() {
        return Ok(Vec::new());
    }
    let asked: Vec<_> = test.iter().map(|graph| crate::graph::condition_of(graph)).collect();
    let mut records = occurrence::of(&dataset.train(), &test, &asked, Some(TEST)).records;
    records.extend(occurrence::halves(dataset.graphs(), seed, Some(HALF)));
    records.extend(privacy::floor(dataset, seed, Some(TEST)));
    Ok(records)
}

const TEST: &str = "test";
const HALF: &str = "half";

#[cfg(test)]
mod tests;
