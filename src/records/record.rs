use super::dimensions::Dimensions;
use super::interval::{Estimate, Interval, Resamples};
use super::metric::Metric;

/// One measured number with its uncertainty, in long form.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub metric: &'static Metric,
    /// What the number is about.
    pub dimensions: Dimensions,
    /// NaN where the number does not exist: no valid graph, a degenerate case.
    pub value: f64,
    /// Lower end of the 95 % interval; NaN where there is none.
    pub low: f64,
    /// Upper end of the 95 % interval; NaN where there is none.
    pub high: f64,
    /// Graphs (or prompts) behind the number.
    pub count: u64,
    /// The number for each draw of services, where its interval comes from drawing them.
    pub resamples: Option<Resamples>,
}

impl Record {
    pub fn new(
        metric: &'static Metric,
        dimensions: Dimensions,
        value: f64,
        interval: Interval,
        count: u64,
    ) -> Self {
        let Interval { low, high } = interval;
        Self { metric, dimensions, value, low, high, count, resamples: None }
    }

    /// A number with all that is known of it.
    pub fn estimated(
        metric: &'static Metric,
        dimensions: Dimensions,
        estimate: Estimate,
        count: u64,
    ) -> Self {
        let Estimate { value, interval, resamples } = estimate;
        Self { resamples, ..Self::new(metric, dimensions, value, interval, count) }
    }

    /// `hits` of `count`, with a Wilson interval.
    pub fn share(metric: &'static Metric, dimensions: Dimensions, hits: u64, count: u64) -> Self {
        let value = hits as f64 / count as f64;
        Self::new(metric, dimensions, value, Interval::wilson(hits, count), count)
    }

    /// Whether the number is of this metric and about this.
    pub fn is(&self, metric: &Metric, dimensions: &Dimensions) -> bool {
        self.metric == metric && self.dimensions == *dimensions
    }
}
