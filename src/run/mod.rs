//! Runs experiments: manifests become a plan of stages, stages run as child processes and leave
//! their outputs in a cache, finished experiments are published as tables and figures.

pub mod baseline;
mod cache;
mod clash;
mod contents;
mod facts;
mod index;
pub mod manifest;
mod model;
mod plan;
mod provenance;
mod publish;
mod receipt;
mod schedule;
mod show;
pub mod variant;
mod work;

pub use baseline::Baseline;
pub use cache::Cache;
pub use clash::check as check_clashes;
pub use index::{index, write_index};
pub use manifest::Profile;
pub use model::{Model, ModelCard, Wanted};
pub use plan::{Device, ExperimentPlan, Plan, PlanOptions, Stage};
pub use publish::{Published, Publisher};
pub use schedule::{Line, Outcome, RunOptions, run};
pub use show::duration;
pub use work::{answer, run_spec};

/// Threads that this machine offers.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
