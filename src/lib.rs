//! TraceGym: a benchmark harness for generators of microservice call graphs.
//!
//! Data flows one way: a source is preprocessed into a dataset, generators are trained on it, they
//! generate graphs for conditions, the graphs are evaluated, and reports draw tables and figures;
//! probes tune trained networks for other tasks.
//! Module dependencies point the same way: `graph` ← `data`, `text` ← `model` ← `generators` ←
//! `evaluate` ← `probes`, `report` ← `run` ← `cli`.

pub mod check;
pub mod cli;
pub mod data;
pub mod device;
pub mod display;
pub mod durable;
pub mod error;
pub mod evaluate;
pub mod generators;
pub mod graph;
pub mod manifests;
pub mod model;
pub mod number;
pub mod probes;
pub mod process;
pub mod progress;
pub mod random;
pub mod report;
pub mod run;
pub mod secret;
#[cfg(test)]
mod testing;
pub mod text;
pub mod toml_file;
pub mod version;
