use serde::{Deserialize, Serialize};

/// One measured number with its uncertainty, in long form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Id of the metric with the version of its definition: `accuracy/1`. A changed definition
    /// gets a new version, so that numbers of different meaning are never compared.
    pub metric: String,
    /// What the number is about, as `name=value` pairs joined by `/`: `edges=7/depth=3`; empty for
    /// the whole.
    pub cell: String,
    pub value: f64,
    /// Lower end of the 95 % interval; NaN where there is none.
    pub low: f64,
    /// Upper end of the 95 % interval; NaN where there is none.
    pub high: f64,
    /// Graphs (or prompts) behind the number.
    pub count: u64,
}

/// Which conditions an experiment asks generators for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Conditions {
    /// Every feasible pair of num_edges 1..=max_edges and depth 1..=max_depth (depth ≤ edges;
    /// depth 1 only with one edge), `samples` times each (paper, figures 3 and 12). Service and
    /// latency come from the test graph nearest to the cell.
    Grid { max_edges: u32, max_depth: u32, samples: u32 },
    /// Conditions (service, num_edges, depth, latency) of `count` test graphs, drawn with
    /// replacement where the test set is smaller (paper, figure 4).
    Test { count: u32 },
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
}
