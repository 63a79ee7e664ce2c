//! Tables of training frequencies, which the statistical generators share.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::settings;
use crate::check::within;
use crate::error::UserError;
use crate::graph::{CallType, Name};

/// What a call goes to, and how.
pub type Callee = (Name, CallType);

/// How often each value occurred in training.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Frequencies<T> {
    /// Ascending by value.
    counts: Vec<(T, u64)>,
    /// Running sums of `counts`, made at the first draw.
    #[serde(skip)]
    cumulative: OnceLock<Vec<u64>>,
}

impl<T> Default for Frequencies<T> {
    fn default() -> Self {
        Self { counts: Vec::new(), cumulative: OnceLock::new() }
    }
}

impl<T: Ord> Frequencies<T> {
    /// Counts `value` once more. Only before the first draw.
    pub fn add(&mut self, value: T) {
        match self.counts.binary_search_by(|(known, _)| known.cmp(&value)) {
            Ok(index) => self.counts[index].1 += 1,
            Err(index) => self.counts.insert(index, (value, 1)),
        }
    }

    /// A value with the probability of its frequency; `None` if there are no values.
    pub fn draw(&self, rng: &mut ChaCha8Rng) -> Option<&T> {
        let cumulative = self.cumulative();
        let total = cumulative.last().copied().filter(|total| *total > 0)?;
        let ticket = rng.random_range(0..total);
        let index = cumulative.partition_point(|sum| *sum <= ticket);
        self.counts.get(index).map(|(value, _)| value)
    }

    fn cumulative(&self) -> &[u64] {
        self.cumulative.get_or_init(|| {
            let running = self.counts.iter().scan(0u64, |sum, (_, count)| {
                *sum = sum.saturating_add(*count);
                Some(*sum)
            });
            running.collect()
        })
    }

    /// Values counted, each as often as it occurred.
    pub fn total(&self) -> u64 {
        self.cumulative().last().copied().unwrap_or(0)
    }

    /// Distinct values.
    pub fn len(&self) -> u64 {
        self.counts.len() as u64
    }

    /// Each value with its count, ascending by value.
    pub fn iter(&self) -> impl Iterator<Item = (&T, u64)> {
        self.counts.iter().map(|(value, count)| (value, *count))
    }
}

/// Maps whose keys are no strings, as JSON: a list of pairs.
pub mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// Distinct values of all tables of a map.
pub fn distinct<K, T: Ord>(tables: &BTreeMap<K, Frequencies<T>>) -> u64 {
    tables.values().map(Frequencies::len).sum()
}

/// `[settings]` of a model that is nothing but tables and grows a graph call by call.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrowthSettings {
    /// A graph grows no further once it has this many calls.
    pub max_calls: u32,
}

impl Default for GrowthSettings {
    fn default() -> Self {
        Self { max_calls: 1_000 }
    }
}

impl GrowthSettings {
    /// The settings of generator `id`, read from its table.
    ///
    /// # Errors
    /// Unknown settings or values.
    pub fn read(id: &str, table: &toml::Table) -> Result<Self> {
        let settings: Self = settings(id, table)?;
        check_max_calls(id, settings.max_calls)?;
        Ok(settings)
    }
}

/// # Errors
/// A limit that allows no graph, or one that no memory holds.
pub fn check_max_calls(id: &str, max_calls: u32) -> Result<()> {
    Ok(within("max_calls", max_calls, 1..=1_000_000)
        .map_err(|message| UserError::setting(format!("generator `{id}`: {message}")))?)
}

/// The file of a model that consists of tables.
const MODEL: &str = "model.json";

/// # Errors
/// A file that cannot be written.
pub fn save(model: &impl Serialize, dir: &Path) -> Result<()> {
    let path = dir.join(MODEL);
    std::fs::write(&path, serde_json::to_string(model)?)
        .map_err(|error| UserError::io(&path, "cannot be written", error).into())
}

/// # Errors
/// A file that is missing or damaged.
pub fn load<T: DeserializeOwned>(dir: &Path) -> Result<T> {
    let path = dir.join(MODEL);
    let text = std::fs::read_to_string(&path)
        .map_err(|error| UserError::io(&path, "cannot be read", error))?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}
