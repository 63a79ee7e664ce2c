//! Models that are trained on generated graphs and tested on real ones: figure 5 and table 2.

use anyhow::Result;

use super::{Case, Record, Task};
use crate::data::Dataset;

/// All records of a task.
///
/// # Errors
/// None so far.
pub fn records(task: Task, _case: &Case) -> Result<Vec<Record>> {
    Ok(match task {
        Task::CriticalComponents | Task::Anomalies => Vec::new(),
        Task::HighLatency | Task::UncommonCommunication => Vec::new(),
    })
}

/// The reference rows: trained on real graphs.
///
/// # Errors
/// None so far.
pub fn floor(task: Task, _dataset: &Dataset, _seed: u64) -> Result<Vec<Record>> {
    Ok(match task {
        Task::CriticalComponents | Task::Anomalies => Vec::new(),
        Task::HighLatency | Task::UncommonCommunication => Vec::new(),
    })
}
