//! What occurs together: sizes with times, parents with children.

use std::ops::AddAssign;

use super::histogram::Histograms;
use super::pair::{Pair, Side, USER_NUMBER};
use super::{Measured, Metric, Part};
use crate::evaluate::WHOLE;
use crate::graph::CallGraph;

/// 1 − |ρ − σ| / 2 with Pearson's correlations ρ of test graphs and σ of valid synthetic graphs,
/// for `pair=edges-depth`, `edges-latency` and `depth-latency` (as CorrelationSimilarity of
/// SDMetrics). Range 0 to 1, higher is better; bootstrap interval over services. NaN where an
/// attribute does not vary on one of the sides.
///
/// Pitfalls: two unrelated attributes are "similar" to two others; a few graphs that take very long
/// decide a correlation with latency. Prompts that name all three attributes fix the correlations
/// of a model that follows them.
pub const CORRELATION_SIMILARITY: &Metric =
    &Metric::plain("correlation-similarity/2", "similarity of correlations")
        .higher()
        .bootstrap()
        .of_samples();

/// 1 − ½ ΣΣ |p − q| over the table of calling and called microservices, with the shares p of all
/// calls below a root in test graphs and q in valid synthetic graphs (as ContingencySimilarity of
/// SDMetrics). Range 0 to 1, higher is better; bootstrap interval over services.
///
/// Pitfall: rare pairs differ between two samples of the truth, so read it against the reference rows.
pub const CONTINGENCY_SIMILARITY: &Metric =
    &Metric::plain("contingency-similarity/2", "similarity of caller-called pairs")
        .higher()
        .bootstrap()
        .of_samples();

const PAIRS: [(&str, usize, usize); 3] =
    [("edges-depth", 0, 1), ("edges-latency", 0, 2), ("depth-latency", 1, 2)];

/// Sums over graphs of three attributes, exact.
#[derive(Clone, Copy, Default)]
struct Moments {
    count: i128,
    sums: [i128; 3],
    products: [[i128; 3]; 3],
}

impl Moments {
    fn of(graph: &CallGraph) -> Self {
        let sums = [graph.num_edges(), graph.depth(), graph.latency()].map(i128::from);
        Self { count: 1, sums, products: sums.map(|a| sums.map(|b| a * b)) }
    }

    fn times(mut self, factor: i128) -> Self {
        self.count *= factor;
        self.sums.iter_mut().for_each(|sum| *sum *= factor);
        self.products.iter_mut().flatten().for_each(|sum| *sum *= factor);
        self
    }

    /// Pearson's correlation of two attributes; NaN if one of them does not vary.
    fn correlation(&self, one: usize, other: usize) -> f64 {
        let covariance = |a: usize, b: usize| {
            (self.count * self.products[a][b] - self.sums[a] * self.sums[b]) as f64
        };
        // 0 / 0 where one does not vary.
        covariance(one, other) / (covariance(one, one).sqrt() * covariance(other, other).sqrt())
    }
}

impl AddAssign for Moments {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        for a in 0..3 {
            self.sums[a] += other.sums[a];
            for b in 0..3 {
                self.products[a][b] += other.products[a][b];
            }
        }
    }
}

/// Joint distributions.
pub struct Joint {
    /// By service, of both sides.
    moments: [Vec<Moments>; 2],
    parents: Histograms,
    graphs: u64,
}

impl Joint {
    pub fn new(pair: &Pair) -> Self {
        let moments = pair.sides().map(|side| {
            let mut moments = vec![Moments::default(); pair.services];
            for (graph, service) in side.graphs.iter().zip(&side.services) {
                moments[*service as usize] += Moments::of(graph);
            }
            moments
        });
        let parents = Histograms::grouped(pair.sides().map(parents));
        Self { moments, parents, graphs: pair.synthetic.graphs.len() as u64 }
    }
}

impl Part for Joint {
    fn metrics(&self) -> Vec<Measured> {
        let pairs = PAIRS.iter().map(|(pair, ..)| {
            Measured::new(CORRELATION_SIMILARITY, WHOLE.pair(*pair), self.graphs)
        });
        pairs.chain([Measured::new(CONTINGENCY_SIMILARITY, WHOLE, self.graphs)]).collect()
    }

    fn values(&self, drawn: &[u32]) -> Vec<f64> {
        let [real, synthetic] = self.moments.each_ref().map(|services| {
            let mut sum = Moments::default();
            for (moments, times) in services.iter().zip(drawn) {
                sum += moments.times(i128::from(*times));
            }
            sum
        });
        let pairs = PAIRS.iter().map(|(_, one, other)| {
            let difference = real.correlation(*one, *other) - synthetic.correlation(*one, *other);
            1.0 - difference.abs() / 2.0
        });
        let contingency = 1.0 - self.parents.drawn(drawn).all().total_variation();
        pairs.chain([contingency]).collect()
    }
}

/// Caller and called of each call below a root.
fn parents(side: &Side) -> Vec<(u32, (u32, u32))> {
    side.collect(|graph| {
        let calls = side.calls_of(graph).filter(|call| call.source != USER_NUMBER);
        calls.map(|call| (call.service, (call.source, call.destination)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::{chain, flat};

    #[test]
    fn similarities_by_hand() {
        let real = [flat("S_1", 2, 10), flat("S_1", 3, 20), chain("S_2", 3, 60)];
        let synthetic = [flat("S_1", 2, 40), chain("S_1", 3, 20), chain("S_2", 4, 10)];
        let pair =
            Pair::new(&real.iter().collect::<Vec<_>>(), &synthetic.iter().collect::<Vec<_>>());
        let values = Joint::new(&pair).values(&[1, 1]);
        // Made by tests/reference/distribution.py.
        for (value, expected) in values.iter().zip(REFERENCE) {
            assert!((value - expected).abs() < 1e-12, "{values:?}");
        }
        // Children: real 201 201 202 201 301; synthetic 201 201 301 201 301 401.
        let expected = 1.0 - 0.5 * (0.1 + 0.2 + (1.0 / 3.0 - 0.2) + 1.0 / 6.0);
        assert!((values[3] - expected).abs() < 1e-12, "{values:?}");
    }

    const REFERENCE: [f64; 3] = [0.75, 0.181_682_911_615_028_48, 0.018_019_493_938_034_26];

    #[test]
    fn what_does_not_vary_has_no_correlation() {
        let graphs = [flat("S_1", 2, 10), flat("S_1", 2, 20)];
        let graphs: Vec<&CallGraph> = graphs.iter().collect();
        let pair = Pair::new(&graphs, &graphs);
        let values = Joint::new(&pair).values(&[1]);
        assert!(values[..3].iter().all(|value| value.is_nan()) && values[3] == 1.0);
        let nothing = Pair::new(&graphs, &[]);
        assert!(Joint::new(&nothing).values(&[1]).iter().all(|value| value.is_nan()));
    }
}
