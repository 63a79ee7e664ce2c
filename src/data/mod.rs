//! From traces to a dataset: sources, preprocessing, splits, and the simulator.

mod build;
pub mod call_table;
pub mod calls;
pub mod comparison;
mod dataset;
mod finish;
mod funnel;
#[cfg(test)]
mod golden;
mod held_out;
mod inputs;
pub mod inspect;
mod lines;
mod manifest;
mod nezha;
pub mod raw;
mod registry;
mod services;
pub mod simulator;
mod source;
pub mod spans;
mod split;
mod structures;
mod table;

pub use build::{BuildOptions, build, data_root};
pub use dataset::{Dataset, DatasetCard, InputFile, Side, SplitCard};
pub use funnel::{Funnel, FunnelStep};
pub use held_out::{HeldOut, HeldOutCard};
pub use manifest::{DATASETS, DatasetManifest, SplitKind, SplitSpec};
pub use registry::SourceSpec;
pub use services::{Service, ServiceStatistics};
pub use source::{Change, SourceOutput};

use crate::version::Version;

/// Version of what every dataset goes through: splits, and the files that it is kept in.
pub const VERSION: Version = Version::new("dataset", 2);
