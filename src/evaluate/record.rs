use serde::{Deserialize, Serialize};

use super::dimensions::Dimensions;
use super::interval::Interval;
use crate::version::Version;

/// One measured number with its uncertainty, in long form.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Id of the metric with the version of its definition: `accuracy/1`. A changed definition
    /// gets a new version, so that numbers of different meaning are never compared.
    pub metric: &'static str,
    /// What the number is about.
    pub dimensions: Dimensions,
    /// NaN where the number does not exist: no valid graph, a degenerate case.
    pub value: f64,
    /// Lower end of the 95 % interval; NaN where there is none.
    pub low: f64,
    /// Upper end of the 95 % interval; NaN where there is none.
    pub high: f64,
    /// Graphs (or prompts) behind the number.
    pub count: u64,
}

impl Record {
    pub(crate) fn new(
        metric: &'static str,
        dimensions: Dimensions,
        value: f64,
        interval: Interval,
        count: u64,
    ) -> Self {
        Self { metric, dimensions, value, low: interval.low, high: interval.high, count }
    }

    /// `hits` of `count`, with a Wilson interval.
    pub(crate) fn share(
        metric: &'static str,
        dimensions: Dimensions,
        hits: u64,
        count: u64,
    ) -> Self {
        let value = hits as f64 / count as f64;
        Self::new(metric, dimensions, value, Interval::wilson(hits, count), count)
    }

    /// Whether the number is of this metric and about this.
    pub fn is(&self, metric: &str, dimensions: &Dimensions) -> bool {
        self.metric == metric && self.dimensions == *dimensions
    }
}

/// Which conditions an experiment asks generators for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Conditions {
    /// Every feasible pair of num_edges 1..=max_edges and depth 1..=max_depth (depth ≤ edges;
    /// depth 1 only with one edge) of which there are held-out graphs, `samples` times each: conditions of
    /// graphs of exactly this shape (paper, figures 3 and 12).
    Grid { max_edges: u32, max_depth: u32, samples: u32 },
    /// Every feasible pair, with service and latency of a test graph near to it: shapes that the service
    /// may never make. An extension.
    BorrowedGrid { max_edges: u32, max_depth: u32, samples: u32 },
    /// Conditions (service, num_edges, depth, latency) of `count` test graphs, drawn with
    /// replacement where the test set is smaller (paper, figure 4).
    Test { count: u32 },
    /// Requests in words, `count` for each kind of them, about test graphs of which they can be met;
    /// each is asked with and without its request (paper, figure 6).
    Instructions { count: u32 },
}

/// What is computed from the answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Evaluation {
    /// Accuracy by cell, row, column, training graphs of the cell, and whole; failure codes.
    Accuracy,
    /// Popular calls (figure 4a), heavy hitters (figure 4b), distributions of edges and depth
    /// (figure 8), share of valid graphs.
    Fidelity,
    /// Fidelity in one number and by descriptor; degrees and times (figure 16).
    Distribution,
    /// Uniqueness, novelty, memorisation (figure 15) and privacy.
    Novelty,
    /// Whether requests in words are followed (figure 6).
    Instructions,
    /// Distance from the true distribution, which only the simulator knows.
    Truth,
    /// A model that is trained on the answers and tested on real graphs (figure 5, table 2).
    Downstream { task: Task },
}

impl Evaluation {
    /// Version of the scores and reference rows, beside those of the metrics' definitions.
    pub fn version(&self) -> Version {
        match self {
            Self::Accuracy => Version::new("evaluate/accuracy", 1),
            Self::Fidelity => Version::new("evaluate/fidelity", 1),
            Self::Distribution => Version::new("evaluate/distribution", 2),
            Self::Novelty => Version::new("evaluate/novelty", 1),
            Self::Instructions => Version::new("evaluate/instructions", 1),
            Self::Truth => Version::new("evaluate/truth", 1),
            Self::Downstream { task: Task::CriticalComponents } => {
                Version::new("evaluate/critical-components", 1)
            }
            Self::Downstream { task: Task::Anomalies } => Version::new("evaluate/anomalies", 1),
            Self::Downstream { task: Task::HighLatency } => {
                Version::new("evaluate/high-latency", 1)
            }
            Self::Downstream { task: Task::UncommonCommunication } => {
                Version::new("evaluate/uncommon-communication", 1)
            }
        }
    }
}

/// What a downstream model is trained for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Which microservice makes a trace slow (FIRM; paper, figure 5 left).
    CriticalComponents,
    /// Which traces are not normal (TraceVAE; paper, figure 5 right).
    Anomalies,
    /// Whether a graph's latency is high, its times hidden (paper, table 2).
    HighLatency,
    /// Whether a call's children hold an uncommon communication (paper, table 2).
    UncommonCommunication,
}
