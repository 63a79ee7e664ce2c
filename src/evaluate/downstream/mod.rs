//! Models that are trained on generated graphs and tested on real ones: figure 5 and table 2.

pub mod anomalies;

use anyhow::Result;

use super::{Case, Record, Task};
use crate::data::Dataset;

/// All records of a task.
///
/// # Errors
/// A training that diverges.
pub fn records(task: Task, case: &Case) -> Result<Vec<Record>> {
    Ok(match task {
        Task::Anomalies => anomalies::records(case)?,
        Task::CriticalComponents => Vec::new(),
        Task::HighLatency | Task::UncommonCommunication => Vec::new(),
    })
}

/// The reference rows: trained on real graphs.
///
/// # Errors
/// A training that diverges.
pub fn floor(task: Task, dataset: &Dataset, seed: u64) -> Result<Vec<Record>> {
    Ok(match task {
        Task::Anomalies => anomalies::floor(dataset, seed)?,
        Task::CriticalComponents => Vec::new(),
        Task::HighLatency | Task::UncommonCommunication => Vec::new(),
    })
}
