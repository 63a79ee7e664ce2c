//! Models that are trained on generated graphs and tested on real ones: figure 5 and table 2.
//!
//! A task makes labelled examples of graphs. A model that learns from a variant's valid graphs and is
//! right on real test graphs has found in them what real graphs would have taught it, so its score
//! is compared with that of the same model trained on as many real training graphs. What is usual
//! for a service, and thus every label, comes from the real training graphs, also for generated
//! ones: a variant with wrong times or calls then gets wrongly labelled examples, as it should.

mod classification;
pub mod critical;
mod examples;
mod latency;
mod learner;
mod report;
pub mod score;
mod uncommon;

pub mod anomalies;

use rand::seq::SliceRandom;

pub use critical::APPLICATION;
pub use score::{ACCURACY, ACCURACY_GAP, AUC, BALANCED_ACCURACY, F1, GAP, TRAINING};

use super::{Case, Family, Report};
use crate::data::Dataset;
use crate::graph::CallGraph;
use crate::random;
use crate::version::Version;

/// Which microservice makes a trace slow (FIRM; paper, figure 5 left).
pub const CRITICAL_COMPONENTS: Family = Family {
    id: "critical-components",
    version: Version::new("evaluate/critical-components", 2),
    metrics: &[ACCURACY, BALANCED_ACCURACY, F1, AUC, GAP, ACCURACY_GAP, TRAINING, APPLICATION],
    score: Some(|case, _| Ok(critical::records(case))),
    references: Some(|asked, seed| Ok(critical::references(asked.dataset, seed))),
    has_perfect_generator: false,
    reads_likelihoods: false,
    reports: &[Report {
        id: "critical-components",
        draw: report::critical_components,
        compared: &[],
        columns: |_| report::critical_components_columns(),
        claims: &[
            "fig5-critical-instruction-1",
            "fig5-critical-instruction-2",
            "fig5-critical-probabilistic",
            "fig5-critical-tvae",
        ],
    }],
};

/// Which traces are not normal (TraceVAE; paper, figure 5 right).
pub const ANOMALIES: Family = Family {
    id: "anomalies",
    version: Version::new("evaluate/anomalies", 2),
    metrics: &[anomalies::AUC, anomalies::AUC_PR],
    score: Some(|case, _| anomalies::records(case)),
    references: Some(|asked, seed| {
        anomalies::references(asked.dataset, asked.conditions.len(), seed)
    }),
    has_perfect_generator: false,
    reads_likelihoods: false,
    reports: &[Report {
        id: "anomalies",
        draw: report::anomalies,
        compared: &[],
        columns: report::anomaly_columns,
        claims: &["fig5-anomalies-instruction"],
    }],
};

/// Whether a graph's latency is high, its times hidden (paper, table 2).
pub const HIGH_LATENCY: Family = Family {
    id: "high-latency",
    version: Version::new("evaluate/high-latency", 2),
    metrics: &[ACCURACY, BALANCED_ACCURACY, F1, AUC, GAP, ACCURACY_GAP, TRAINING],
    score: Some(|case, _| Ok(classification::records(&latency::HIGH_LATENCY, case))),
    references: Some(|asked, seed| {
        Ok(classification::references(&latency::HIGH_LATENCY, asked.dataset, seed))
    }),
    has_perfect_generator: false,
    reads_likelihoods: false,
    reports: &[Report {
        id: "high-latency",
        draw: report::high_latency,
        compared: &[],
        columns: |_| report::high_latency_columns(),
        claims: &["table2-high-latency", "table2-high-latency-gap"],
    }],
};

/// Whether a call's children hold an uncommon communication (paper, table 2).
pub const UNCOMMON_COMMUNICATION: Family = Family {
    id: "uncommon-communication",
    version: Version::new("evaluate/uncommon-communication", 2),
    metrics: &[ACCURACY, BALANCED_ACCURACY, F1, AUC, GAP, ACCURACY_GAP, TRAINING],
    score: Some(|case, _| Ok(classification::records(&uncommon::UNCOMMON, case))),
    references: Some(|asked, seed| {
        Ok(classification::references(&uncommon::UNCOMMON, asked.dataset, seed))
    }),
    has_perfect_generator: false,
    reads_likelihoods: false,
    reports: &[Report {
        id: "uncommon-communication",
        draw: report::uncommon_communication,
        compared: &[],
        columns: |_| report::uncommon_communication_columns(),
        claims: &["table2-uncommon", "table2-uncommon-gap"],
    }],
};

/// Most graphs that a model is trained on: the paper's number in figure 5.
const MAX_TRAIN: usize = 5_000;
/// Most real test graphs that it is tested on.
const MAX_TEST: usize = 5_000;

/// Up to `most` of the dataset's training graphs. A smaller sample is the start of a larger one.
fn real_training(dataset: &Dataset, most: usize, seed: u64) -> Vec<&CallGraph> {
    drawn(dataset.train(), most, seed, "downstream training graphs")
}

/// The test graphs that all variants are tested on.
fn real_test(dataset: &Dataset, seed: u64) -> Vec<&CallGraph> {
    drawn(dataset.test(), MAX_TEST, seed, "downstream test graphs")
}

/// Up to `most` of the prompts, the same for every variant, by index.
fn prompts(case: &Case) -> Vec<usize> {
    let all = (0..case.conditions.len()).collect();
    drawn(all, MAX_TRAIN, case.seed, "downstream prompts")
}

fn drawn<T>(mut all: Vec<T>, most: usize, seed: u64, purpose: &str) -> Vec<T> {
    all.shuffle(&mut random::stream(seed, purpose, &[]));
    all.truncate(most);
    all
}
