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
use super::family::no_columns;
use super::samples::{behind, cut, means, samples};
use super::{
    Case, Dimensions, Estimate, Family, Groups, Interval, Metric, Record, Report, bootstrap,
};
use crate::data::Dataset;
use crate::graph::CallGraph;
use crate::random;
use crate::report::robustness;
use crate::version::Version;
use pair::{Pair, in_order, services};

/// The family of distributions.
pub const FAMILY: Family = Family {
    id: "distribution",
    version: Version::new("evaluate/distribution", 3),
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
    references: Some(|asked, seed| Ok(references(asked.dataset, asked.compared, seed))),
    has_perfect_generator: true,
    reads_likelihoods: false,
    reports: &[
        Report {
            id: "distribution",
            draw: report::report,
            compared: &[],
            columns: |_| report::columns(),
            claims: &[
                "fig16-tabular-in-degree",
                "fig16-tabular-out-degree",
                "fig16-tabular-response-time",
                "fig16-probabilistic-in-degree",
                "fig16-probabilistic-out-degree",
                "fig16-probabilistic-response-time",
            ],
        },
        Report {
            id: "robustness",
            draw: |results| robustness(results, &report::columns()),
            compared: &[],
            columns: no_columns,
            claims: &[],
        },
    ],
};

/// Random cuts of the real graphs behind the reference rows.
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

    fn record(self, estimate: Estimate) -> Record {
        Record::estimated(self.metric, self.dimensions, estimate, self.count)
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

/// One part for each of several pairs of samples: means over them.
struct Averaged<P>(Vec<P>);

impl<P: Part> Averaged<P> {
    fn new(pairs: &[Pair], of: impl Fn(&Pair, u64) -> P) -> Self {
        Self(pairs.iter().zip(0..).map(|(pair, split)| of(pair, split)).collect())
    }
}

impl<P: Part> Part for Averaged<P> {
    fn metrics(&self) -> Vec<Measured> {
        self.0.first().map_or_else(Vec::new, P::metrics)
    }

    fn values(&self, drawn: &[u32]) -> Vec<f64> {
        means(&self.0, self.metrics().len(), |part| part.values(drawn))
    }
}

/// All parts, one after the other: what one holds is gone before the next begins.
fn parts<T>(pairs: &[Pair], seed: u64, mut use_of: impl FnMut(&dyn Part) -> Vec<T>) -> Vec<T> {
    let mut found =
        use_of(&Averaged::new(pairs, |pair, split| polygraph::PolyGraph::new(pair, seed, split)));
    found.extend(use_of(&Averaged::new(pairs, |pair, split| mmd::Mmd::new(pair, seed, split))));
    found.extend(use_of(&Averaged::new(pairs, |pair, split| {
        degrees::Degrees::new(pair, seed, split)
    })));
    found.extend(use_of(&Averaged::new(pairs, |pair, _| times::Times::new(pair))));
    found.extend(use_of(&Averaged::new(pairs, |pair, _| joint::Joint::new(pair))));
    found
}

/// All metrics of samples of `size` of the synthetic graphs from the real ones, with intervals over
/// services; NaN where there are fewer graphs.
fn with_bootstrap(
    real: &[&CallGraph],
    synthetic: &[&CallGraph],
    size: usize,
    seed: u64,
) -> Vec<Record> {
    let synthetic = in_order(synthetic);
    let services = services(&[real, &synthetic]);
    let samples = samples(&synthetic, size, seed);
    let pairs: Vec<Pair> =
        samples.iter().map(|sample| Pair::among(&services, real, sample)).collect();
    let count = behind(synthetic.len(), size);
    if pairs.is_empty() {
        // What is measured, of no graph.
        let nothing = [Pair::among(&services, &[], &[])];
        return parts(&nothing, seed, |part| {
            let metrics = part.metrics().into_iter();
            let none = |metric: Measured| Measured { count, ..metric }.record(Estimate::NONE);
            metrics.map(none).collect()
        });
    }
    let groups = Groups::named(seed, services.keys().map(|name| name.as_str()));
    parts(&pairs, seed, |part| {
        let values = bootstrap(groups, |drawn| part.values(drawn));
        let metrics = part.metrics().into_iter().zip(values);
        metrics.map(|(metric, estimate)| metric.record(estimate)).collect()
    })
}

/// All records of this evaluation: valid answers against the test graphs.
fn records(case: &Case) -> Vec<Record> {
    let synthetic: Vec<&CallGraph> = case.valid().collect();
    let distances = with_bootstrap(&case.dataset.test(), &synthetic, case.compared, case.seed);
    [vec![valid(case)], distances].concat()
}

/// The reference rows of real graphs, of as many graphs as generators are measured on. Without a
/// reference: disjoint random samples of all of them (training and test), one in the place of the test
/// graphs and one of `size`, mean and 2.5 and 97.5 % points of [`REPEATS`] cuts; and in the cells
/// `reference=train` training graphs against the test graphs, with intervals over services. See
/// [`super::fidelity`] for what the two can and cannot say.
fn references(dataset: &Dataset, size: usize, seed: u64) -> Vec<Record> {
    let real = in_order(&dataset.normal());
    if real.len() < 2 {
        return Vec::new();
    }
    let (others, size_of_cut) = cut(real.len(), dataset.test().len(), size);
    let cuts: Vec<Vec<(Measured, f64)>> = (0..REPEATS)
        .map(|repeat| {
            let mut order = real.clone();
            order.shuffle(&mut random::stream(seed, "floor/distribution", &[repeat]));
            let pair = Pair::new(&order[..others], &order[others..others + size_of_cut]);
            parts(&[pair], seed, |part| {
                let values = part.values(&vec![1; real.len()]);
                part.metrics().into_iter().zip(values).collect()
            })
        })
        .collect();
    let metrics = cuts[0].iter().enumerate();
    let mut records: Vec<Record> = metrics
        .map(|(index, (metric, _))| {
            let values: Vec<f64> = cuts.iter().map(|cut| cut[index].1).collect();
            let value = values.iter().sum::<f64>() / values.len() as f64;
            let interval = Interval::percentiles(&values);
            metric.clone().record(Estimate { value, interval, resamples: None })
        })
        .collect();
    let against_test = with_bootstrap(&dataset.test(), &dataset.train(), size, seed);
    records.extend(against_test.into_iter().map(|record| {
        let dimensions = record.dimensions.reference("train");
        Record { dimensions, ..record }
    }));
    records
}

#[cfg(test)]
mod tests;
