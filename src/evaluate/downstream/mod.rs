//! Models that are trained on generated graphs and tested on real ones: figure 5 and table 2.
//!
//! A task makes labelled examples of graphs. A model that learns from an arm's valid graphs and is
//! right on real test graphs has found in them what real graphs would have taught it, so its score
//! is compared with that of the same model trained on as many real training graphs. What is usual
//! for a service, and thus every label, comes from the real training graphs, also for generated
//! ones: an arm with wrong times or calls then gets wrongly labelled examples, as it should.

mod classification;
pub mod critical;
mod examples;
mod latency;
mod learner;
pub mod score;
mod uncommon;

pub mod anomalies;

use anyhow::Result;
use rand::seq::SliceRandom;

pub use critical::APPLICATION;
pub use score::{ACCURACY, ACCURACY_GAP, AUC, BALANCED_ACCURACY, F1, GAP, TRAINING};

use super::{Case, Record, Task};
use crate::data::Dataset;
use crate::graph::CallGraph;
use crate::random;

/// Most graphs that a model is trained on: the paper's number in figure 5.
const MAX_TRAIN: usize = 5_000;
/// Most real test graphs that it is tested on.
const MAX_TEST: usize = 5_000;

/// All records of a task.
///
/// # Errors
/// A training that diverges.
pub fn records(task: Task, case: &Case) -> Result<Vec<Record>> {
    Ok(match task {
        Task::CriticalComponents => critical::records(case),
        Task::Anomalies => anomalies::records(case)?,
        Task::HighLatency => classification::records(&latency::HIGH_LATENCY, case),
        Task::UncommonCommunication => classification::records(&uncommon::UNCOMMON, case),
    })
}

/// The reference rows: trained on real graphs, and what needs no learning.
///
/// # Errors
/// A training that diverges.
pub fn floor(task: Task, dataset: &Dataset, seed: u64) -> Result<Vec<Record>> {
    Ok(match task {
        Task::CriticalComponents => critical::floor(dataset, seed),
        Task::Anomalies => anomalies::floor(dataset, seed)?,
        Task::HighLatency => classification::floor(&latency::HIGH_LATENCY, dataset, seed),
        Task::UncommonCommunication => classification::floor(&uncommon::UNCOMMON, dataset, seed),
    })
}

/// Up to `most` of the dataset's training graphs. A smaller sample is the start of a larger one.
fn real_training(dataset: &Dataset, most: usize, seed: u64) -> Vec<&CallGraph> {
    drawn(dataset.train(), most, seed, "downstream training graphs")
}

/// The test graphs that all arms are tested on.
fn real_test(dataset: &Dataset, seed: u64) -> Vec<&CallGraph> {
    drawn(dataset.test(), MAX_TEST, seed, "downstream test graphs")
}

/// Up to `most` of the prompts, the same for every arm, by index.
fn prompts(case: &Case) -> Vec<usize> {
    let all = (0..case.conditions.len()).collect();
    drawn(all, MAX_TRAIN, case.seed, "downstream prompts")
}

fn drawn<T>(mut all: Vec<T>, most: usize, seed: u64, purpose: &str) -> Vec<T> {
    all.shuffle(&mut random::stream(seed, purpose, &[]));
    all.truncate(most);
    all
}
