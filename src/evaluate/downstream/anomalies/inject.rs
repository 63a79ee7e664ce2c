//! Anomalies, put into real graphs: each changes one thing and leaves a valid graph.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use crate::graph::{CallGraph, CallRow, CallType};

/// What is wrong with a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A call is missing with all below it, one is made that nobody makes, or one goes elsewhere.
    Structure,
    /// One call takes several times as long, and all that waits for it.
    Latency,
}

/// By how much a slow call is slower: log-uniform in this range.
const SLOWDOWN: (f64, f64) = (3.0, 10.0);
/// Least delay in milliseconds: three times a millisecond would be lost in rounding.
const LEAST_DELAY: u32 = 5;
/// Destinations that are tried before one that nobody knows is taken.
const TRIES: usize = 100;
const UNKNOWN: &str = "MS_unknown";

/// What is normal, as far as an anomaly must differ from it: all real graphs, of both sides.
pub struct Normal<'a> {
    /// Callers and callees.
    pairs: BTreeSet<(&'a str, &'a str)>,
    /// How each microservice is called, in order of names.
    callees: Vec<Callee<'a>>,
}

/// A microservice with its usual type and the median of its response times.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Callee<'a> {
    name: &'a str,
    kind: CallType,
    response_time: u32,
}

impl<'a> Normal<'a> {
    pub fn new(graphs: &'a [CallGraph]) -> Self {
        let mut pairs = BTreeSet::new();
        let mut calls: BTreeMap<&str, (BTreeMap<CallType, u64>, Vec<u32>)> = BTreeMap::new();
        for graph in graphs {
            for (index, call) in graph.calls().iter().enumerate() {
                pairs.insert((graph.source(index), call.destination.as_str()));
                let (kinds, times) = calls.entry(&call.destination).or_default();
                *kinds.entry(call.kind).or_default() += 1;
                times.push(call.response_time());
            }
        }
        let callees = calls.into_iter().map(|(name, (kinds, mut times))| {
            let usual =
                kinds.iter().max_by_key(|(kind, count)| (**count, std::cmp::Reverse(**kind)));
            let kind = usual.map_or(CallType::Rpc, |(kind, _)| *kind);
            let middle = times.len() / 2;
            let (_, response_time, _) = times.select_nth_unstable(middle);
            Callee { name, kind, response_time: *response_time }
        });
        Self { pairs, callees: callees.collect() }
    }

    /// A microservice that `source` is never seen to call.
    fn stranger(&self, source: &str, rng: &mut ChaCha8Rng) -> Callee<'a> {
        let unknown = Callee { name: UNKNOWN, kind: CallType::Rpc, response_time: 1 };
        let mut drawn = (0..TRIES).filter_map(|_| self.callees.choose(rng));
        drawn
            .find(|callee| !self.pairs.contains(&(source, callee.name)))
            .copied()
            .unwrap_or(unknown)
    }

    /// `graph` with an anomaly.
    pub fn inject(&self, kind: Kind, graph: &CallGraph, rng: &mut ChaCha8Rng) -> CallGraph {
        match kind {
            Kind::Latency => {
                let call = rng.random_range(0..graph.calls().len());
                let (least, most) = SLOWDOWN;
                let factor = rng.random_range(least.ln()..most.ln()).exp();
                slow(graph, call, factor)
            }
            Kind::Structure => {
                let ways = if graph.num_edges() > 1 { 3 } else { 2 };
                match rng.random_range(0..ways) {
                    0 => self.add(graph, rng),
                    1 => self.swap(graph, rng),
                    _ => drop_subtree(graph, rng.random_range(1..graph.calls().len())),
                }
            }
        }
    }

    /// One more call, by the destination of a random call, as its last child (or, where no number is
    /// left behind the last, with the largest one that is free).
    fn add(&self, graph: &CallGraph, rng: &mut ChaCha8Rng) -> CallGraph {
        let parent = rng.random_range(0..graph.calls().len());
        let mut rows = graph.rows();
        let above = &rows[parent];
        let callee = self.stranger(&above.destination, rng);
        let start = rng.random_range(above.start..=above.finish);
        let finish = start.saturating_add(callee.response_time).min(above.finish);
        let children = graph.children();
        let numbers = children[parent].iter().map(|child| graph.calls()[*child as usize].number);
        let number = free_number(numbers.collect());
        let added = CallRow {
            edge_id: above.edge_id.child(number),
            source: above.destination.clone(),
            destination: callee.name.into(),
            kind: callee.kind,
            start,
            finish,
        };
        rows.push(added);
        rebuilt(graph, &rows)
    }

    /// A random call goes to another microservice, which then makes the calls below.
    fn swap(&self, graph: &CallGraph, rng: &mut ChaCha8Rng) -> CallGraph {
        let call = rng.random_range(0..graph.calls().len());
        let callee = self.stranger(graph.source(call), rng);
        let mut rows = graph.rows();
        rows[call].destination = callee.name.into();
        rows[call].kind = callee.kind;
        for child in &graph.children()[call] {
            rows[*child as usize].source = callee.name.into();
        }
        rebuilt(graph, &rows)
    }
}

/// The number of one more child: behind the last, as long as there is one.
fn free_number(taken: BTreeSet<u32>) -> u32 {
    match taken.last() {
        None => 1,
        Some(&u32::MAX) => {
            // From the top down, as far as the numbers have no gap.
            let run = taken.iter().rev().zip((0..=u32::MAX).rev());
            let run = run.take_while(|(taken, number)| *taken == number).count();
            u32::MAX - run as u32
        }
        Some(last) => last + 1,
    }
}

/// Without `call` and all below it.
fn drop_subtree(graph: &CallGraph, call: usize) -> CallGraph {
    let mut rows = graph.rows();
    rows.drain(call..call + graph.subtree_sizes()[call] as usize);
    rebuilt(graph, &rows)
}

/// `call` takes `factor` times as long. Its callers finish later by as much, and what they did after
/// it begins later.
fn slow(graph: &CallGraph, call: usize, factor: f64) -> CallGraph {
    let (calls, children, sizes) = (graph.calls(), graph.children(), graph.subtree_sizes());
    let before = calls[call].response_time();
    let after = (f64::from(before) * factor).round() as u32;
    let delay = after.saturating_sub(before).max(LEAST_DELAY);
    let later = |time: &mut u32| *time = time.saturating_add(delay);
    let mut rows = graph.rows();
    let mut at = call;
    loop {
        later(&mut rows[at].finish);
        let Some(parent) = calls[at].parent.map(|parent| parent as usize) else { break };
        for sibling in children[parent].iter().map(|sibling| *sibling as usize) {
            if sibling > at && calls[sibling].start >= calls[at].finish {
                for row in &mut rows[sibling..sibling + sizes[sibling] as usize] {
                    later(&mut row.start);
                    later(&mut row.finish);
                }
            }
        }
        at = parent;
    }
    rebuilt(graph, &rows)
}

fn rebuilt(graph: &CallGraph, rows: &[CallRow]) -> CallGraph {
    CallGraph::from_rows(graph.service().clone(), rows).expect("an anomaly breaks no constraint")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::USER;
    use crate::random;
    use crate::testing::{any_graph, extreme_graph, paper_example, row};

    fn normal() -> [CallGraph; 1] {
        [paper_example()]
    }

    #[test]
    fn a_subtree_is_dropped_whole() {
        let dropped = drop_subtree(&paper_example(), 1);
        let ids: Vec<String> = dropped.edge_ids().iter().map(ToString::to_string).collect();
        assert_eq!(ids, ["0", "0.2", "0.3", "0.4"]);
    }

    /// 0.1.1 (0 to 1 ms) takes 6 ms: its callers finish 5 ms later, and their later calls wait.
    #[test]
    fn a_slow_call_delays_what_waits_for_it() {
        let times = |graph: &CallGraph| -> Vec<(u32, u32)> {
            graph.calls().iter().map(|call| (call.start, call.finish)).collect()
        };
        let slowed = slow(&paper_example(), 2, 3.0);
        assert_eq!(times(&slowed), [(0, 13), (0, 8), (0, 6), (6, 7), (8, 9), (9, 10), (10, 11)]);
        // A root of 8 ms: 3 times as long is 16 ms more, and nothing waits for it.
        let slowed = slow(&paper_example(), 0, 3.0);
        assert_eq!(times(&slowed)[..2], [(0, 24), (0, 3)]);
        // What ran beside it does not wait.
        let rows = [
            row("0", USER, "MS_1", "http", 0, 9),
            row("0.1", "MS_1", "MS_2", "rpc", 1, 5),
            row("0.2", "MS_1", "MS_3", "rpc", 2, 4),
            row("0.3", "MS_1", "MS_3", "rpc", 5, 6),
        ];
        let graph = CallGraph::from_rows("S_1".into(), &rows).expect("valid");
        assert_eq!(times(&slow(&graph, 1, 3.0)), [(0, 17), (1, 13), (2, 4), (13, 14)]);
    }

    #[test]
    fn unexpected_calls_were_never_seen() {
        let graphs = normal();
        let normal = Normal::new(&graphs);
        assert_eq!(normal.callees[3].name, "MS_53745");
        let mut rng = random::stream(1, "test", &[]);
        for _ in 0..20 {
            // The root's microservice calls all but itself's callees; a leaf calls nobody.
            assert_eq!(normal.stranger("MS_63670", &mut rng).name, UNKNOWN);
            assert_ne!(normal.stranger("MS_37691", &mut rng).name, UNKNOWN);
            let swapped = normal.swap(&graphs[0], &mut rng);
            let known = |index| {
                let pair = (swapped.source(index), swapped.calls()[index].destination.as_str());
                normal.pairs.contains(&pair)
            };
            assert!((0..swapped.calls().len()).any(|index| !known(index)));
        }
    }

    #[test]
    fn a_number_that_is_free() {
        let of = |numbers: &[u32]| free_number(numbers.iter().copied().collect());
        const LAST: u32 = u32::MAX;
        assert_eq!([of(&[]), of(&[0]), of(&[7, 3])], [1, 1, 8]);
        assert_eq!([of(&[LAST]), of(&[LAST, 3, LAST - 1])], [LAST - 1, LAST - 2]);
        let rows = [row("0", USER, "a", "http", 0, 9), row("0.4294967295", "a", "b", "rpc", 0, 9)];
        let graph = CallGraph::from_rows("S_1".into(), &rows).expect("valid");
        let graphs = normal();
        let (normal, mut rng) = (Normal::new(&graphs), random::stream(1, "test", &[]));
        for _ in 0..20 {
            assert_eq!(normal.add(&graph, &mut rng).num_edges(), 3);
        }
    }

    proptest! {
        #[test]
        fn anomalies_of_extreme_graphs_are_valid(graph in extreme_graph(12), seed: u64) {
            let graphs = [graph];
            let normal = Normal::new(&graphs);
            for kind in [Kind::Structure, Kind::Latency] {
                normal.inject(kind, &graphs[0], &mut random::stream(seed, "test", &[]));
            }
        }

        #[test]
        fn anomalies_are_valid_and_differ(graph in any_graph(12), seed: u64) {
            let graphs = [graph, paper_example()];
            let normal = Normal::new(&graphs);
            for kind in [Kind::Structure, Kind::Latency] {
                let mut rng = random::stream(seed, "test", &[]);
                let anomaly = normal.inject(kind, &graphs[0], &mut rng);
                prop_assert_ne!(&anomaly, &graphs[0]);
                let same = anomaly.num_edges() == graphs[0].num_edges();
                prop_assert!(kind == Kind::Structure || same);
                let mut rng = random::stream(seed, "test", &[]);
                prop_assert_eq!(anomaly, normal.inject(kind, &graphs[0], &mut rng));
            }
        }
    }
}
