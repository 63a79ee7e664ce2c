//! TraceGym: a benchmark harness for generators of microservice call graphs.
//!
//! Data flows one way: a source is preprocessed into a dataset, generators are trained on it, they
//! generate graphs for conditions, and metric families score the graphs and draw tables and figures.
//! Module dependencies point the same way: `graph` ← `data`, `text` ← `export`, `model` ← `generators` ←
//! `records` ← `report` ← `evaluate` ← `claims` ← `run` ← `cli`.

pub mod check;
pub mod claims;
pub mod cli;
pub mod data;
pub mod device;
pub mod display;
pub mod durable;
pub mod error;
pub mod evaluate;
pub mod export;
pub mod generators;
pub mod graph;
pub mod http;
pub mod manifests;
pub mod model;
pub mod number;
pub mod process;
pub mod progress;
pub mod random;
pub mod records;
pub mod replay;
pub mod report;
pub mod run;
pub mod secret;
#[cfg(test)]
mod testing;
pub mod text;
pub mod toml_file;
pub mod version;
