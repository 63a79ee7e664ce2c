//! Uniqueness, novelty, memorisation and privacy: whether generated graphs are new, and what they
//! give away of the graphs that a generator was trained on.

mod distance;
pub mod membership;
mod nearest;
pub mod occurrence;
pub mod privacy;
mod report;

use super::answers::{VALID, accurate, valid};
use super::family::no_columns;
use super::{Case, Family, PromptScores, Record, Report};
use crate::data::Dataset;
use crate::graph::{CallGraph, condition_of};
use crate::version::Version;
use membership::{LOG_LIKELIHOOD, MEMBERSHIP, MEMBERSHIP_BY_SIZE};
use occurrence::{DISTINCT_PROMPTS, MEMORISED, NOVELTY, UNIQUENESS, VALID_UNIQUE_NOVEL};
use privacy::{AUTHENTICITY, NEAREST, PROTECTION};

/// The family of novelty and privacy.
pub const FAMILY: Family = Family {
    id: "novelty",
    version: Version::new("evaluate/novelty", 2),
    metrics: &[
        UNIQUENESS,
        DISTINCT_PROMPTS,
        NOVELTY,
        VALID_UNIQUE_NOVEL,
        MEMORISED,
        PROTECTION,
        NEAREST,
        AUTHENTICITY,
        MEMBERSHIP,
        MEMBERSHIP_BY_SIZE,
        LOG_LIKELIHOOD,
    ],
    score: Some(|case, scores| Ok(records(case, scores))),
    references: Some(|asked, seed| Ok(references(asked.dataset, seed))),
    has_perfect_generator: true,
    reads_likelihoods: true,
    reports: &[Report {
        id: "novelty",
        draw: report::report,
        compared: &[("valid", VALID), ("novel by names", NOVELTY)],
        columns: no_columns,
        claims: &["fig15-tabular", "fig15-recursive"],
    }],
};

/// All records of this family; those of membership inference where the generator has likelihoods. Adds to
/// `scores` whether each valid answer is novel by names ([`NOVELTY`], `level=names`).
fn records(case: &Case, scores: &mut PromptScores) -> Vec<Record> {
    let (train, graphs) = (case.dataset.train(), case.valid().collect::<Vec<&CallGraph>>());
    let mut records = vec![valid(case), accurate(case)];
    let occurrence = occurrence::of(&train, &graphs, case.conditions, None);
    let mut seen = occurrence.seen.into_iter();
    let novel = case.verdicts.iter().map(|verdict| {
        let seen = verdict.graph.as_ref().and_then(|_| seen.next());
        seen.map_or(f64::NAN, |seen| f64::from(u8::from(!seen)))
    });
    scores.add(NOVELTY, novel.collect());
    records.extend(occurrence.records);
    records.extend(privacy::records(case));
    if let Some(likelihoods) = case.likelihoods {
        records.extend(membership::records(likelihoods, case.seed));
    }
    records
}

/// The reference rows. `reference=test` takes the test graphs for generated ones: what perfect
/// samples of the truth, none of which was copied, are measured at. `reference=half` compares random
/// halves of all real graphs, for measures that do not depend on how the dataset was split.
fn references(dataset: &Dataset, seed: u64) -> Vec<Record> {
    let test = dataset.test();
    if test.is_empty() {
        return Vec::new();
    }
    let asked: Vec<_> = test.iter().map(|graph| condition_of(graph)).collect();
    let mut records = occurrence::of(&dataset.train(), &test, &asked, Some(TEST)).records;
    records.extend(occurrence::halves(&dataset.normal(), seed, Some(HALF)));
    records.extend(privacy::references(dataset, seed, Some(TEST)));
    records
}

const TEST: &str = "test";
const HALF: &str = "half";

#[cfg(test)]
mod tests;
