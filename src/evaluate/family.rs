//! What a metric family is.

use std::fmt;
use std::ops::Deref;
use std::sync::LazyLock;

use anyhow::{Result, bail};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Case, FAMILIES};
use crate::data::Dataset;
use crate::records::{Metric, PromptScores, Record};
use crate::report::{Compared, ReportFiles, Results};
use crate::version::Version;

/// Metrics that are computed and reported together: definitions, scores, reference rows, tables and figures.
pub trait Family: Sync {
    /// Name in manifests.
    fn id(&self) -> &'static str;

    /// Raised when the same answers get other scores, or reference rows change; beside the versions in the
    /// ids of the metrics' definitions.
    fn version(&self) -> Version;

    /// Descriptions of its metrics.
    fn metrics(&self) -> &'static [&'static Metric];

    /// What it looks at.
    fn subject(&self) -> Subject {
        Subject::Answers
    }

    /// Whether it reads how likely the trained models find graphs.
    fn reads_likelihoods(&self) -> bool {
        false
    }

    /// The records of a variant's answers. Adds to `scores` what it knows of each prompt.
    ///
    /// # Errors
    /// A dataset or conditions that it cannot look at, a model that cannot be trained.
    fn score(&self, _case: &Case, _scores: &mut PromptScores) -> Result<Vec<Record>> {
        bail!("`{}` scores no answers", self.id())
    }

    /// The records of real graphs, or of simple rules, that variants are compared with.
    fn references(&self) -> Option<References> {
        None
    }

    /// Its reports, of which the first is what an experiment gets that names none.
    fn reports(&self) -> &'static [Report];
}

/// Makes the reference rows of a family from the dataset and a seed.
pub type References = fn(&Dataset, u64) -> Result<Vec<Record>>;

/// What a family looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// What generators answer to conditions.
    Answers,
    /// Networks of trained generators, tuned in a stage of their own, which scores them too.
    Networks,
}

/// Tables and figures about one thing.
#[derive(Clone, Copy)]
pub struct Report {
    /// Name in manifests.
    pub id: &'static str,
    pub draw: fn(&Results) -> ReportFiles,
    /// In what, prompt by prompt, variants are compared with each other.
    pub compared: &'static [Compared],
    /// Ids of the published claims that stand beside it.
    pub claims: &'static [&'static str],
}

/// A family by its id, as manifests and stages name it.
#[derive(Clone, Copy)]
pub struct FamilyId(&'static dyn Family);

impl FamilyId {
    pub fn of(family: &'static dyn Family) -> Self {
        Self(family)
    }
}

impl Deref for FamilyId {
    type Target = dyn Family;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

impl fmt::Debug for FamilyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl PartialEq for FamilyId {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Serialize for FamilyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

impl<'de> Deserialize<'de> for FamilyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        static IDS: LazyLock<Vec<&str>> =
            LazyLock::new(|| FAMILIES.iter().map(|family| family.id()).collect());
        let id = String::deserialize(deserializer)?;
        let found = FAMILIES.iter().find(|family| family.id() == id);
        found
            .map(|family| Self(*family))
            .ok_or_else(|| serde::de::Error::unknown_variant(&id, &IDS))
    }
}
