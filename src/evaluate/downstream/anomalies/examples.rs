//! What the autoencoder sees of a graph: rows of numbers, one for each call.

use std::collections::BTreeMap;

use crate::graph::{CallGraph, CallType};

/// Most microservices, and most services, that are told apart: the most frequent of training. All
/// others share one row.
const MOST_NAMES: usize = 1_000;
/// Classes of depth, of the number of calls made, and of the place among siblings; the last is open.
pub const CLASSES: usize = 16;
/// Classes of the type of a call.
pub const KINDS: usize = CallType::ALL.len();

/// Names by id, in order.
struct Names(Vec<String>);

impl Names {
    fn learn<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        names.for_each(|name| *counts.entry(name).or_default() += 1);
        let mut by_count: Vec<(&str, u64)> = counts.into_iter().collect();
        by_count.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        by_count.truncate(MOST_NAMES);
        let mut names: Vec<String> =
            by_count.into_iter().map(|(name, _)| name.to_owned()).collect();
        names.sort_unstable();
        Self(names)
    }

    /// The number of names for an unknown one.
    fn id(&self, name: &str) -> usize {
        self.0.binary_search_by(|known| known.as_str().cmp(name)).unwrap_or(self.0.len())
    }
}

/// What training knows: names, and the scale of times.
pub struct Encoder {
    names: Names,
    services: Names,
    /// Mean and deviation of log(1 + response time).
    times: (f64, f64),
}

/// A call, as ids of classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Place of the call that makes this one.
    pub parent: Option<usize>,
    /// Place of the sibling before this one.
    pub previous: Option<usize>,
    pub name: usize,
    pub kind: usize,
    pub depth: usize,
    /// Place among siblings.
    pub place: usize,
    /// Calls that its destination makes.
    pub calls: usize,
    /// Logarithm of the response time, of mean 0 and deviation 1 in training.
    pub time: f32,
}

/// A graph as rows, in the order of its calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    pub service: usize,
    pub rows: Vec<Row>,
}

fn log_time(call: &crate::graph::Call) -> f64 {
    f64::from(call.response_time()).ln_1p()
}

impl Encoder {
    pub fn learn(graphs: &[&CallGraph]) -> Self {
        let calls = || graphs.iter().flat_map(|graph| graph.calls());
        let names = Names::learn(calls().map(|call| call.destination.as_str()));
        let services = Names::learn(graphs.iter().map(|graph| graph.service().as_str()));
        let count = calls().count().max(1) as f64;
        let mean = calls().map(log_time).sum::<f64>() / count;
        let variance = calls().map(|call| (log_time(call) - mean).powi(2)).sum::<f64>() / count;
        // All times may be equal.
        Self { names, services, times: (mean, variance.sqrt().max(0.1)) }
    }

    /// Known microservices and services.
    pub fn sizes(&self) -> (usize, usize) {
        (self.names.0.len(), self.services.0.len())
    }

    pub fn encode(&self, graph: &CallGraph) -> Example {
        let degrees = graph.out_degrees();
        let class = |value: usize| value.min(CLASSES - 1);
        // By parent: the last child so far, and how many there were.
        let mut before: Vec<(Option<usize>, usize)> = vec![(None, 0); graph.calls().len()];
        let rows = graph.calls().iter().enumerate().map(|(index, call)| {
            let parent = call.parent.map(|parent| parent as usize);
            let (previous, place) = parent.map_or((None, 0), |parent| before[parent]);
            if let Some(parent) = parent {
                before[parent] = (Some(index), place + 1);
            }
            let (mean, deviation) = self.times;
            Row {
                parent,
                previous,
                name: self.names.id(&call.destination),
                kind: CallType::ALL.iter().position(|kind| *kind == call.kind).unwrap_or(0),
                depth: class(call.depth as usize),
                place: class(place),
                calls: class(degrees[index] as usize),
                time: ((log_time(call) - mean) / deviation) as f32,
            }
        });
        Example { service: self.services.id(graph.service()), rows: rows.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::paper_example;

    #[test]
    fn rows_by_hand() {
        let graph = paper_example();
        let encoder = Encoder::learn(&[&graph]);
        assert_eq!(encoder.sizes(), (5, 1));
        let example = encoder.encode(&graph);
        let of = |field: fn(&Row) -> usize| example.rows.iter().map(field).collect::<Vec<_>>();
        assert_eq!(of(|row| row.name), [4, 4, 2, 2, 0, 1, 3]);
        assert_eq!(of(|row| row.kind), [0, 1, 2, 2, 1, 2, 1]);
        assert_eq!(of(|row| row.depth), [1, 2, 3, 3, 2, 2, 2]);
        assert_eq!(of(|row| row.place), [0, 0, 0, 1, 1, 2, 3]);
        assert_eq!(of(|row| row.calls), [4, 2, 0, 0, 0, 0, 0]);
        let previous: Vec<_> = example.rows.iter().map(|row| row.previous).collect();
        assert_eq!(previous, [None, None, None, Some(2), Some(1), Some(4), Some(5)]);
        let sum: f32 = example.rows.iter().map(|row| row.time).sum();
        assert!(sum.abs() < 1e-5);
        assert_eq!(Encoder::learn(&[]).encode(&graph).rows[0].name, 0);
    }
}
