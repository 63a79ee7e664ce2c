//! From traces to a dataset: sources, preprocessing, splits, and the simulator.

pub mod calls;
mod dataset;
mod funnel;
pub mod simulator;

pub use dataset::{Dataset, DatasetCard, InputFile, Side, SplitCard};
pub use funnel::{Funnel, FunnelStep};
