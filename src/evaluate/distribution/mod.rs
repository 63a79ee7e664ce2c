//! Fidelity in one number and by descriptor; degrees and times.
//!
//! A [`Part`] holds what it needs of the graphs, by service, and gives its numbers for any number
//! of times that each service is drawn: once for the value, with replacement for its interval.

mod degrees;
mod descriptors;
mod histogram;
mod joint;
mod mmd;
mod pair;
mod polygraph;
mod report;
mod times;

pub use degrees::{EMD_IN_DEGREE, EMD_OUT_DEGREE, EMD_RESPONSE_TIME};
pub use descriptors::{DESCRIPTORS, Descriptor};
pub use joint::{CONTINGENCY_SIMILARITY, CORRELATION_SIMILARITY};
pub use mmd::MMD;
pub use polygraph::{DETECTION, FEWEST, PGD};
pub use times::{
    CONCURRENCY_KS, QUANTILE_RATIO, QUANTILES, RESPONSE_TIME_COVERAGE, RESPONSE_TIME_EMD,
    RESPONSE_TIME_KS, START_OFFSET_KS,
};

use rand::seq::SliceRandom;

use super::answers::valid;
use super::observed::with_intervals;
use super::{Case, Dimensions, Family, Interval, Metric, Record, Report};
use crate::data::Dataset;
use crate::graph::CallGraph;
use crate::random;
use crate::version::Version;
use pair::{Pair, in_order};

/// The family of distributions.
pub const FAMILY: Family = Family {
    id: "distribution",
    version: Version::new("evaluate/distribution", 2),
    metrics: &[
        PGD,
        DETECTION,
        MMD,
        EMD_IN_DEGREE,
        EMD_OUT_DEGREE,
        EMD_RESPONSE_TIME,
        RESPONSE_TIME_KS,
        RESPONSE_TIME_EMD,
        RESPONSE_TIME_COVERAGE,
        START_OFFSET_KS,
        CONCURRENCY_KS,
        QUANTILE_RATIO,
        CORRELATION_SIMILARITY,
        CONTINGENCY_SIMILARITY,
    ],
    score: Some(|case, _| Ok(records(case))),
    references: Some(|dataset, seed| Ok(references(dataset, seed))),
    reads_likelihoods: false,
    reports: &[Report {
        id: "distribution",
        draw: report::report,
        compared: &[],
        claims: &[
            "fig16-tabular-in-degree",
            "fig16-tabular-out-degree",
            "fig16-tabular-response-time",
            "fig16-probabilistic-in-degree",
            "fig16-probabilistic-out-degree",
            "fig16-probabilistic-response-time",
        ],
    }],
};

/// Random halves of the real graphs behind the reference rows.
const REPEATS: u64 = 5;

/// A number that is measured, and how many graphs are behind it.
#[derive(Clone, Debug)]
struct Measured {
    metric: &'static Metric,
    dimensions: Dimensions,
    count: u64,
}

impl Measured {
    fn new(metric: &'static Metric, dimensions: Dimensions, count: u64) -> Self {
        Self { metric, dimensions, count }
    }

    fn record(self, value: f64, interval: Interval) -> Record {
        Record::new(self.metric, self.dimensions, value, interval, self.count)
    }
}

/// Metrics that are computed together.
trait Part: Sync {
    /// What is measured, the same whatever the graphs.
    fn metrics(&self) -> Vec<Measured>;

    /// The numbers, in the same order, with each service as often as it was drawn. NaN where a
    /// number does not exist.
    fn values(&self, drawn: &[u32]) -> Vec<f64>;
}

/// All parts, one after the other: what one holds is gone before the next begins.
fn parts<T>(pair: &Pair, seed: u64, mut use_of: impl FnMut(&dyn Part) -> Vec<T>) -> Vec<T> {
    let mut found = use_of(&polygraph::PolyGraph::new(pair, seed));
    found.extend(use_of(&mmd::Mmd::new(pair, seed)));
    found.extend(use_of(&degrees::Degrees::new(pair, seed)));
    found.extend(use_of(&times::Times::new(pair)));
    found.extend(use_of(&joint::Joint::new(pair)));
    found
}

/// All metrics with intervals over services.
fn with_bootstrap(pair: &Pair, seed: u64) -> Vec<Record> {
    parts(pair, seed, |part| {
        let values = with_intervals(seed, pair.services, |drawn| part.values(drawn));
        let metrics = part.metrics().into_iter().zip(values);
        metrics.map(|(metric, (value, interval))| metric.record(value, interval)).collect()
    })
}

/// All records of this evaluation: valid answers against the test graphs.
fn records(case: &Case) -> Vec<Record> {
    let pair = Pair::new(&case.dataset.test(), &case.valid().collect::<Vec<&CallGraph>>());
    [vec![valid(case)], with_bootstrap(&pair, case.seed)].concat()
}

/// The reference rows of real graphs: two random halves of all of them (training and test), mean
/// and 2.5 and 97.5 % points of [`REPEATS`] cuts; and in the cells `reference=train` all
/// training graphs against the test graphs, with intervals over services. See
/// [`super::fidelity`] for what the two can and cannot say.
fn references(dataset: &Dataset, seed: u64) -> Vec<Record> {
    let real = in_order(&dataset.graphs().iter().collect::<Vec<_>>());
    if real.len() < 2 {
        return Vec::new();
    }
    let half = real.len() / 2;
    let cuts: Vec<Vec<(Measured, f64)>> = (0..REPEATS)
        .map(|repeat| {
            let mut order = real.clone();
            order.shuffle(&mut random::stream(seed, "floor/distribution", &[repeat]));
            let pair = Pair::new(&order[..half], &order[half..2 * half]);
            parts(&pair, seed, |part| {
                let values = part.values(&vec![1; pair.services]);
                part.metrics().into_iter().zip(values).collect()
            })
        })
        .collect();
    let metrics = cuts[0].iter().enumerate();
    let mut records: Vec<Record> = metrics
        .map(|(index, (metric, _))| {
            let values: Vec<f64> = cuts.iter().map(|cut| cut[index].1).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            metric.clone().record(mean, Interval::percentiles(&values))
        })
        .collect();
    let against_test = with_bootstrap(&Pair::new(&dataset.test(), &dataset.train()), seed);
    records.extend(against_test.into_iter().map(|record| {
        let dimensions = record.dimensions.reference("train");
        Record { dimensions, ..record }
    }));
    records
}

#[cfg(test)]
mod tests;
