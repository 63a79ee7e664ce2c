//! The lines that are spoken with an external generator: one JSON object each, with one key that says
//! what it is (`docs/adding-a-baseline.md`).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{self, Deserializer, IgnoredAny, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize};

use crate::display::excerpt;
use crate::graph::{CallRow, CallType, Condition, EdgeId, Name, Request as Wish};

/// Version of what is spoken.
pub const PROTOCOL: u32 = 1;

/// What the harness says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request<'a> {
    /// Who are you?
    Describe { protocol: u32 },
    /// Learn from a dataset and write a model.
    Fit {
        /// Training graphs, one row per call.
        parquet: &'a Path,
        /// The same, one graph per line.
        jsonl: &'a Path,
        /// Folder for the model.
        model: &'a Path,
        /// Folder for anything else; emptied afterwards.
        scratch: &'a Path,
        seed: u64,
        settings: &'a toml::Table,
    },
    /// Get ready to generate with a model.
    Load { model: &'a Path, settings: &'a toml::Table },
    /// Answer each of these requests.
    Generate { temperature: f64, top_k: Option<u32>, requests: Vec<Wanted<'a>> },
}

impl Request<'_> {
    /// The word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Describe { .. } => "describe",
            Self::Fit { .. } => "fit",
            Self::Load { .. } => "load",
            Self::Generate { .. } => "generate",
        }
    }
}

/// A request for one graph.
#[derive(Debug, Serialize)]
pub struct Wanted<'a> {
    /// To be repeated in the answer.
    pub index: usize,
    /// All randomness of the answer comes from this.
    pub seed: u32,
    pub service: &'a Name,
    pub num_edges: Option<u32>,
    pub depth: Option<u32>,
    pub latency: Option<u32>,
    #[serde(skip_serializing_if = "<[Wish]>::is_empty")]
    pub wishes: &'a [Wish],
}

impl<'a> Wanted<'a> {
    pub fn new(index: usize, seed: u32, condition: &'a Condition) -> Self {
        let Condition { service, num_edges, depth, latency, requests } = condition;
        let (num_edges, depth, latency) = (*num_edges, *depth, *latency);
        Self { index, seed, service, num_edges, depth, latency, wishes: requests }
    }
}

/// What a generator says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    Describe(Description),
    /// How far a training is, at any time.
    Progress(Advance),
    Fit(Fitted),
    Load(Nothing),
    Graph(Answer),
    /// There is no answer to this request, and why.
    Failed(Refusal),
    /// It cannot go on.
    Error(Trouble),
}

impl Reply {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Describe(_) => "describe",
            Self::Progress(_) => "progress",
            Self::Fit(_) => "fit",
            Self::Load(_) => "load",
            Self::Graph(_) => "graph",
            Self::Failed(_) => "failed",
            Self::Error(_) => "error",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    pub protocol: u32,
    pub name: String,
    /// The version receipt: of the generator and of whatever its results depend on.
    pub version: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advance {
    pub done: u64,
    pub total: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fitted {
    pub parameters: u64,
    #[serde(default)]
    pub notes: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub index: usize,
    pub calls: Calls,
}

/// Most calls of an answer that are read. Real graphs have fewer than 2,000; the bound keeps a hostile
/// generator from filling memory with answers that are each within the limit on a line.
pub const MAX_CALLS: usize = 10_000;

/// The calls of an answer: the first [`MAX_CALLS`], and how many there are.
#[derive(Debug)]
pub struct Calls {
    pub read: Vec<WireCall>,
    pub total: usize,
}

impl<'de> Deserialize<'de> for Calls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Calls;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of calls")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut calls: A) -> Result<Calls, A::Error> {
                let mut read = Vec::new();
                while read.len() < MAX_CALLS {
                    match calls.next_element()? {
                        Some(call) => read.push(call),
                        None => return Ok(Calls { total: read.len(), read }),
                    }
                }
                let mut total = read.len();
                while calls.next_element::<IgnoredAny>()?.is_some() {
                    total += 1;
                }
                Ok(Calls { read, total })
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}

/// A time in a call.
fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    struct Whole;
    impl Visitor<'_> for Whole {
        type Value = u32;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "whole milliseconds from 0 to {}", u32::MAX)
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<u32, E> {
            u32::try_from(value).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
        }

        fn visit_i64<E: de::Error>(self, value: i64) -> Result<u32, E> {
            u32::try_from(value).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
        }
    }
    deserializer.deserialize_u32(Whole)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    pub index: usize,
    pub reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trouble {
    pub message: String,
}

/// A call as lines have it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireCall {
    pub edge_id: String,
    pub source: Name,
    pub destination: Name,
    #[serde(rename = "type")]
    pub kind: CallType,
    /// Milliseconds.
    #[serde(deserialize_with = "milliseconds")]
    pub start: u32,
    #[serde(deserialize_with = "milliseconds")]
    pub finish: u32,
}

impl From<CallRow> for WireCall {
    fn from(row: CallRow) -> Self {
        let CallRow { edge_id, source, destination, kind, start, finish } = row;
        Self { edge_id: edge_id.to_string(), source, destination, kind, start, finish }
    }
}

impl WireCall {
    /// # Errors
    /// An edge id that is none.
    pub fn row(self) -> Result<CallRow, String> {
        let Self { edge_id, source, destination, kind, start, finish } = self;
        let Ok(edge_id) = edge_id.parse::<EdgeId>() else {
            let edge_id = excerpt(&edge_id, 60);
            return Err(format!("edge_id `{edge_id}` is not a path such as 0.2.1"));
        };
        Ok(CallRow { edge_id, source, destination, kind, start, finish })
    }
}

/// A training graph as lines have it.
#[derive(Debug, Serialize)]
pub struct WireGraph {
    pub service: Name,
    pub calls: Vec<WireCall>,
}
