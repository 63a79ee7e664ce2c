//! A detector without a network: how rare a graph's calls are, and how unusual their times.

use std::collections::BTreeMap;

use crate::graph::{CallGraph, CallType};

/// Source, destination and type.
type Key<'a> = (&'a str, &'a str, CallType);

/// Added to every count, one for all calls that were never seen included.
const SMOOTHING: f64 = 0.5;
/// Least deviation of the logarithm of a response time, and that of a call seen once.
const LEAST_DEVIATION: f64 = 0.1;

/// Calls of the training graphs, with log-normal response times.
pub struct Counting<'a> {
    calls: BTreeMap<Key<'a>, Moments>,
    all: Moments,
}

/// Count, sum and sum of squares of log(1 + response time).
#[derive(Clone, Copy, Default)]
struct Moments([f64; 3]);

impl Moments {
    fn push(&mut self, value: f64) {
        self.0.iter_mut().zip([1.0, value, value * value]).for_each(|(sum, term)| *sum += term);
    }

    /// ½ z² of `value`.
    fn surprise(&self, value: f64) -> f64 {
        let [count, sum, squares] = self.0;
        if count == 0.0 {
            return 0.0;
        }
        let mean = sum / count;
        let variance = (squares / count - mean * mean).max(LEAST_DEVIATION * LEAST_DEVIATION);
        0.5 * (value - mean).powi(2) / variance
    }
}

fn calls(graph: &CallGraph) -> impl Iterator<Item = (Key<'_>, f64)> {
    graph.calls().iter().enumerate().map(|(index, call)| {
        let time = f64::from(call.response_time()).ln_1p();
        ((graph.source(index), call.destination.as_str(), call.kind), time)
    })
}

impl<'a> Counting<'a> {
    pub fn new(graphs: &[&'a CallGraph]) -> Self {
        let (mut by_call, mut all) = (BTreeMap::<Key, Moments>::new(), Moments::default());
        for (key, time) in graphs.iter().flat_map(|graph| calls(graph)) {
            by_call.entry(key).or_default().push(time);
            all.push(time);
        }
        Self { calls: by_call, all }
    }

    /// Mean over the calls of −ln(frequency) + ½ z² of the logarithm of the response time.
    pub fn score(&self, graph: &CallGraph) -> f64 {
        let total = self.all.0[0] + SMOOTHING * (self.calls.len() + 1) as f64;
        let surprise = |(key, time): (Key, f64)| {
            let known = self.calls.get(&key);
            let count = known.map_or(0.0, |moments| moments.0[0]) + SMOOTHING;
            (total / count).ln() + known.unwrap_or(&self.all).surprise(time)
        };
        calls(graph).map(surprise).sum::<f64>() / f64::from(graph.num_edges())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::flat;

    #[test]
    fn scores_by_hand() {
        let graphs = [flat("S_1", 1, 0), flat("S_1", 1, 3), flat("S_1", 2, 3)];
        let counting = Counting::new(&graphs.iter().collect::<Vec<_>>());
        // Three roots and one child, and what was never seen: 4 calls and 1.5 for smoothing. Times of
        // roots: ln 1, ln 4, ln 4; mean ⅔ ln 4, variance 2/9 ln² 4.
        let expected = (5.5f64 / 3.5).ln() + 0.5 * (4.0 / 9.0) / (2.0 / 9.0);
        assert!((counting.score(&graphs[0]) - expected).abs() < 1e-12);
        assert!(counting.score(&flat("S_1", 3, 3)) > counting.score(&graphs[2]));
        assert!(counting.score(&flat("S_1", 1, 3_000)) > counting.score(&graphs[0]));
        // Without training there is nothing to be surprised at, and no NaN.
        assert_eq!(Counting::new(&[]).score(&graphs[0]), 0.0);
    }
}
