//! What a metric family is.

use std::fmt;
use std::ops::Deref;
use std::sync::LazyLock;

use anyhow::Result;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Asked, Case, FAMILIES};
use crate::records::{Metric, PromptScores, Record};
use crate::report::{Columns, Compared, ReportFiles, Results};
use crate::version::Version;

/// Metrics that are computed and reported together: definitions, scores, reference rows, tables and figures.
pub struct Family {
    /// Name in manifests.
    pub id: &'static str,
    /// Raised when the same answers get other scores, or reference rows change; beside the versions in the
    /// ids of the metrics' definitions.
    pub version: Version,
    /// Descriptions of its metrics.
    pub metrics: &'static [&'static Metric],
    /// `None` for networks that are tuned, and scored, in a stage of their own.
    pub score: Option<Score>,
    pub references: Option<References>,
    /// Whether a perfect generator is one of the reference rows, where the truth is known
    /// ([`super::perfect`]).
    pub has_perfect_generator: bool,
    /// Whether it reads how likely the trained models find graphs.
    pub reads_likelihoods: bool,
    /// Its reports, of which the first is what an experiment gets that names none.
    pub reports: &'static [Report],
}

/// Makes the records of a variant's answers, and adds what is known of each prompt.
pub type Score = fn(&Case, &mut PromptScores) -> Result<Vec<Record>>;

/// Makes the records of real graphs, or of simple rules, that variants are compared with, from what these
/// were asked and a seed.
pub type References = fn(&Asked, u64) -> Result<Vec<Record>>;

impl Family {
    /// Whether any of its numbers is measured on samples of one size.
    pub fn is_of_samples(&self) -> bool {
        self.metrics.iter().any(|metric| metric.of_samples)
    }
}

/// Tables and figures about one thing.
#[derive(Clone, Copy)]
pub struct Report {
    /// Name in manifests.
    pub id: &'static str,
    pub draw: fn(&Results) -> ReportFiles,
    /// In what, prompt by prompt, variants are compared with each other.
    pub compared: &'static [Compared],
    /// In what else they are, on the same draws of services.
    pub columns: fn(&Results) -> Columns,
    /// Ids of the published claims that stand beside it.
    pub claims: &'static [&'static str],
}

/// Of a report that compares nothing but what it has by prompt.
pub fn no_columns(_: &Results) -> Columns {
    Columns::default()
}

/// A family by its id, as manifests and stages name it.
#[derive(Clone, Copy)]
pub struct FamilyId(pub &'static Family);

impl Deref for FamilyId {
    type Target = Family;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

impl fmt::Debug for FamilyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}

impl PartialEq for FamilyId {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Serialize for FamilyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id)
    }
}

impl<'de> Deserialize<'de> for FamilyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        static IDS: LazyLock<Vec<&str>> =
            LazyLock::new(|| FAMILIES.iter().map(|family| family.id).collect());
        let id = String::deserialize(deserializer)?;
        let found = FAMILIES.iter().find(|family| family.id == id);
        found.map(|family| Self(family)).ok_or_else(|| serde::de::Error::unknown_variant(&id, &IDS))
    }
}
