//! Popular calls: figure 4a.

use crate::evaluate::observed::{Counts, Observations, Observed, Sides, in_order};
use crate::evaluate::samples::{behind, means, samples};
use crate::evaluate::{Dimensions, Estimate, Metric, Record, WHOLE, bootstrap};
use crate::graph::Communication;

/// Kullback-Leibler divergence KL(real ‖ synthetic), in nats, of the distributions over the 100
/// calls (source, destination, type) that are most frequent in the real graphs (paper, figure 4a).
///
/// Both sides are restricted to these calls and normalised; every call gets [`PSEUDO_COUNT`] on
/// both sides first, so that a call that is never generated costs much but not everything. Real
/// graphs are the dataset's test graphs, each once; equal counts are ranked by name. Range 0 to
/// infinity, lower is better; mean over samples of one size ([`super::samples`]), bootstrap interval over
/// services, with the 100 calls held fixed. NaN if one side has none of these calls, or there are fewer
/// graphs than the size.
///
/// Pitfalls: all mass outside the 100 is invisible, so a model that mostly calls the wrong
/// microservices can score well (read it with [`KL_TOP100_OTHER`]); the value depends on the
/// smoothing and on the number of graphs, which is the same for all rows; with
/// `graphs=valid` a model that only completes small graphs is judged on these alone.
pub const KL_TOP100: &Metric = &Metric::nats("kl-top100/2", "KL of the 100 most popular calls")
    .lower()
    .bootstrap()
    .of_samples();

/// As [`KL_TOP100`] with one more bucket, on both sides, for all other calls.
pub const KL_TOP100_OTHER: &Metric =
    &Metric::nats("kl-top100-other/2", "KL with all other calls").lower().bootstrap().of_samples();

/// Share that one of the 30 most frequent real calls has among *all* calls of a side (paper,
/// figure 4a): test graphs, or valid synthetic graphs. Range 0 to 1; bootstrap interval over
/// services, because calls of one graph are not independent.
pub const POPULAR_CALL: &Metric =
    &Metric::fraction("popular-call/1", "fraction of a popular call").as_real().bootstrap();

/// Sides of a record of [`POPULAR_CALL`].
pub const REAL: &str = "real";
pub const SYNTHETIC: &str = "synthetic";

/// What a record of [`POPULAR_CALL`] is about, but for its side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PopularCall {
    /// 1 for the most frequent real call.
    pub rank: u32,
    pub call: Communication,
}

impl PopularCall {
    /// What a record of its fraction on a side is about.
    pub fn dimensions(&self, side: &str) -> Dimensions {
        WHOLE.rank(self.rank).side(side).call(self.call.clone())
    }
}

/// Added to the count of every call, on both sides, before a divergence is taken.
pub const PSEUDO_COUNT: f64 = 0.5;

const TOP: usize = 100;
const SHOWN: usize = 30;

/// Counts over the most popular real calls; the last cell is for all others.
struct PopularCalls {
    /// Call ids, most frequent first.
    top: Vec<u32>,
    sides: Sides,
}

impl PopularCalls {
    fn new(observations: &Observations, real: &[&Observed], synthetic: &[&Observed]) -> Self {
        let mut counts = vec![0u64; observations.calls.len()];
        for call in real.iter().flat_map(|graph| &graph.calls) {
            counts[*call as usize] += 1;
        }
        let mut top: Vec<u32> =
            (0..).zip(&counts).filter(|(_, n)| **n > 0).map(|(id, _)| id).collect();
        // Stable: equal counts stay in the order of names.
        top.sort_by_key(|call| std::cmp::Reverse(counts[*call as usize]));
        top.truncate(TOP);
        let mut cell = vec![top.len() as u32; counts.len()];
        for (rank, call) in (0..).zip(&top) {
            cell[*call as usize] = rank;
        }
        let count = |graphs: &[&Observed]| {
            let calls = graphs.iter().flat_map(|graph| {
                graph.calls.iter().map(|call| (graph.service, cell[*call as usize]))
            });
            Counts::new(top.len() + 1, calls)
        };
        let sides = Sides { real: count(real), synthetic: count(synthetic) };
        Self { top, sides }
    }

    /// Divergences without and with the bucket for other calls.
    fn divergences(&self, drawn: &[u32]) -> Vec<f64> {
        let [real, synthetic] = self.sides.drawn(drawn);
        let top = self.top.len();
        vec![divergence(&real[..top], &synthetic[..top]), divergence(&real, &synthetic)]
    }

    /// Shares of the calls that are shown: real, synthetic, real, …
    fn shares(&self, drawn: &[u32]) -> Vec<f64> {
        let sides = self.sides.drawn(drawn);
        let totals = [0, 1].map(|side: usize| sides[side].iter().sum::<f64>());
        let shown = 0..self.top.len().min(SHOWN);
        shown.flat_map(|rank| [0, 1].map(|side: usize| sides[side][rank] / totals[side])).collect()
    }
}

/// KL(real ‖ synthetic) of smoothed counts, in nats.
pub fn divergence(real: &[f64], synthetic: &[f64]) -> f64 {
    let total = |side: &[f64]| side.iter().sum::<f64>();
    if total(real) == 0.0 || total(synthetic) == 0.0 {
        return f64::NAN;
    }
    let smoothing = PSEUDO_COUNT * real.len() as f64;
    let (all_real, all_synthetic) = (total(real) + smoothing, total(synthetic) + smoothing);
    let terms = real.iter().zip(synthetic).map(|(real, synthetic)| {
        let p = (real + PSEUDO_COUNT) / all_real;
        let q = (synthetic + PSEUDO_COUNT) / all_synthetic;
        p * (p / q).ln()
    });
    // Rounding must not make a divergence of equal distributions negative.
    terms.sum::<f64>().max(0.0)
}

/// Divergences without and with the bucket for other calls, of all services.
pub fn divergences(
    observations: &Observations,
    real: &[&Observed],
    synthetic: &[&Observed],
) -> Vec<f64> {
    let everything = vec![1; observations.services.len()];
    PopularCalls::new(observations, real, synthetic).divergences(&everything)
}

/// Both divergences of samples of `size` of `graphs` from the real ones, with intervals.
pub fn divergence_records(
    observations: &Observations,
    of: &Dimensions,
    graphs: &[&Observed],
    size: usize,
    seed: u64,
) -> Vec<Record> {
    let real: Vec<&Observed> = observations.real.iter().collect();
    let popular = |sample: &Vec<&Observed>| PopularCalls::new(observations, &real, sample);
    let popular: Vec<PopularCalls> =
        samples(&in_order(graphs), size, seed).iter().map(popular).collect();
    let values = bootstrap(observations.groups(seed), |drawn| {
        means(&popular, 2, |popular| popular.divergences(drawn))
    });
    let metrics = [KL_TOP100, KL_TOP100_OTHER].iter().zip(values);
    let count = behind(graphs.len(), size);
    metrics
        .map(|(metric, estimate)| Record::estimated(metric, of.clone(), estimate, count))
        .collect()
}

/// All records of popular calls.
pub fn records(observations: &Observations, size: usize, seed: u64) -> Vec<Record> {
    let real: Vec<&Observed> = observations.real.iter().collect();
    let with_calls = |graph: &&Observed| !graph.calls.is_empty();
    let all: Vec<&Observed> = observations.synthetic.iter().filter(with_calls).collect();
    let valid: Vec<&Observed> = all.iter().copied().filter(|graph| graph.shape.is_some()).collect();
    let of = |graphs: &str| WHOLE.graphs(graphs);
    let mut records = divergence_records(observations, &of("valid"), &valid, size, seed);
    records.extend(divergence_records(observations, &of("all"), &all, size, seed));
    let popular = PopularCalls::new(observations, &real, &valid);
    let shares = bootstrap(observations.groups(seed), |drawn| popular.shares(drawn));
    let counts = [(REAL, real.len()), (SYNTHETIC, valid.len())];
    let places = popular.top.iter().zip(1..).flat_map(|place| counts.map(|side| (place, side)));
    for (((call, rank), (side, count)), share) in places.zip(shares) {
        let (source, destination, kind) = observations.calls[*call as usize];
        let call = Communication { source: source.into(), destination: destination.into(), kind };
        records.push(share_record(&PopularCall { rank, call }, side, share, count as u64));
    }
    records
}

fn share_record(call: &PopularCall, side: &str, share: Estimate, count: u64) -> Record {
    Record::estimated(POPULAR_CALL, call.dimensions(side), share, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_by_hand() {
        assert_eq!(divergence(&[3.0, 1.0], &[3.0, 1.0]), 0.0);
        // P = (3.5, 1.5)/5, Q = (0.5, 2.5)/3.
        let expected = 0.7 * (0.7f64 / (0.5 / 3.0)).ln() + 0.3 * (0.3f64 / (2.5 / 3.0)).ln();
        assert!((divergence(&[3.0, 1.0], &[0.0, 2.0]) - expected).abs() < 1e-12);
        assert!(divergence(&[3.0, 1.0], &[0.0, 0.0]).is_nan());
        assert!(divergence(&[], &[]).is_nan());
    }
}
