//! Call graphs: the object that every part of TraceGym reads, generates or scores.
//!
//! [`Condition`], [`Generated`] and [`judge`] are the task that generators are given. Nothing here does
//! I/O or learning. External data (CSV rows, model text, Parquet) becomes a list
//! of [`CallRow`]s at the edge; [`CallGraph::from_rows`] turns them into a graph that is valid by
//! construction, or lists everything that is wrong with them.

mod call;
mod call_graph;
mod canonical;
mod communication;
mod layer;
mod name;
mod task;
mod violation;

#[cfg(test)]
mod tests;

pub use call::{Call, CallRow, CallType, EdgeId, MAX_EDGE_ID_LEN};
pub use call_graph::CallGraph;
pub use canonical::{CanonicalHash, Level};
pub use communication::{Communication, Request};
pub use layer::{
    LayerCondition, LayerEdge, MAX_LAYER_EDGES, MAX_SPLIT_PARTS, Step, StepBody, Subgraph,
    part_sizes, steps,
};
pub use name::{Interner, Name};
pub use task::{
    Condition, DecodingCost, Generated, Grid, Verdict, condition_of, grid_cells, is_feasible,
    judge, judge_all,
};
pub use violation::{Violation, ViolationCode};

/// The source of every root call: the user outside the system.
pub const USER: &str = "USER";
