use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use rand::{Rng, RngExt};

use super::unroll::Tree;
use crate::graph::{CallGraph, CallRow, CallType, EdgeId, Name, USER};

/// Picks an index with a probability proportional to its weight.
pub struct Weights {
    /// Sum of the weights up to and including each index.
    up_to: Vec<u64>,
    total: u64,
}

impl Weights {
    /// `None` if all weights are 0 or their sum is too large for a number.
    pub fn new(weights: impl Iterator<Item = u64>) -> Option<Self> {
        let mut total = 0u64;
        let mut up_to = Vec::new();
        for weight in weights {
            total = total.checked_add(weight)?;
            up_to.push(total);
        }
        (total > 0).then_some(Self { up_to, total })
    }

    pub fn draw(&self, rng: &mut impl Rng) -> usize {
        let point = rng.random_range(0..self.total);
        self.up_to.partition_point(|sum| *sum <= point)
    }
}

/// Response times are cut to an hour, so that no sum of [`super::MAX_CALLS`] of them overflows.
const MAX_RESPONSE_TIME: u32 = 3_600_000;
/// Share of siblings that start with the one before them instead of after it (measured on
/// alibaba-v2022-graphs).
const OVERLAP: f64 = 0.03;

/// Measured response times by call type and depth.
pub struct Times {
    by_place: BTreeMap<(CallType, u32), Vec<u32>>,
}

impl Times {
    /// `None` if there are no graphs.
    pub fn new(graphs: &[CallGraph]) -> Option<Self> {
        let mut by_place: BTreeMap<(CallType, u32), Vec<u32>> = BTreeMap::new();
        for call in graphs.iter().flat_map(CallGraph::calls) {
            let times = by_place.entry((call.kind, call.depth)).or_default();
            times.push(call.response_time().min(MAX_RESPONSE_TIME));
        }
        (!by_place.is_empty()).then_some(Self { by_place })
    }

    /// Times measured at this place, or else for the same type at the nearest depth, or else at
    /// the nearest depth.
    fn at(&self, kind: CallType, depth: u32) -> &[u32] {
        let far = |place: &(CallType, u32)| (place.0 != kind, place.1.abs_diff(depth), *place);
        let nearest = self.by_place.iter().min_by_key(|(place, _)| far(place));
        nearest.map_or(&[], |(_, times)| times)
    }

    /// `tree` with times: each call takes a drawn response time, or as long as its children take
    /// where that is longer. Children come one after the other, spread over the time that they
    /// leave free; a few start with the one before.
    pub fn graph(&self, service: Name, tree: &Tree, rng: &mut impl Rng) -> Result<CallGraph> {
        let calls = &tree.0;
        let mut lengths: Vec<u32> = Vec::with_capacity(calls.len());
        for call in calls {
            let times = self.at(call.kind, call.depth);
            lengths.push(times[rng.random_range(0..times.len())]);
        }
        let together: Vec<bool> = calls.iter().map(|_| rng.random_bool(OVERLAP)).collect();
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); calls.len()];
        for (index, call) in calls.iter().enumerate() {
            if let Some(parent) = call.parent {
                children[parent].push(index);
            }
        }
        // Children stand after their parents: going backwards, a call's children are settled.
        for index in (0..calls.len()).rev() {
            let (_, span) = in_sequence(&children[index], &lengths, &together);
            lengths[index] = lengths[index].max(span);
        }
        let mut rows: Vec<CallRow> = Vec::with_capacity(calls.len());
        let mut starts = vec![0u32; calls.len()];
        let mut ids = vec![EdgeId::root(); calls.len()];
        for (index, call) in calls.iter().enumerate() {
            let mine = &children[index];
            let begins = spread(mine, &lengths, &together, lengths[index], rng);
            for (number, (child, begin)) in mine.iter().zip(begins).enumerate() {
                starts[*child] = starts[index] + begin;
                ids[*child] = ids[index].child(number as u32 + 1);
            }
            rows.push(CallRow {
                edge_id: ids[index].clone(),
                source: match call.parent {
                    Some(parent) => calls[parent].destination.clone(),
                    None => Name::from(USER),
                },
                destination: call.destination.clone(),
                kind: call.kind,
                start: starts[index],
                finish: starts[index] + lengths[index],
            });
        }
        CallGraph::from_rows(service, &rows)
            .map_err(|violations| anyhow!("a drawn graph is not valid: {}", violations[0]))
    }
}

/// Where each child begins when none waits, from its parent's start; and how long all take.
fn in_sequence(children: &[usize], lengths: &[u32], together: &[bool]) -> (Vec<u32>, u32) {
    let (mut last, mut end) = (0, 0);
    let mut begins = Vec::with_capacity(children.len());
    for child in children {
        let begin = if together[*child] { last } else { end };
        begins.push(begin);
        last = begin;
        end = end.max(begin + lengths[*child]);
    }
    (begins, end)
}

/// Where each child begins when the time that `length` leaves free is spread between them. Waits
/// never decrease, so children that follow each other still do.
fn spread(
    children: &[usize],
    lengths: &[u32],
    together: &[bool],
    length: u32,
    rng: &mut impl Rng,
) -> Vec<u32> {
    let (mut begins, span) = in_sequence(children, lengths, together);
    let mut waits: Vec<u32> = begins.iter().map(|_| rng.random_range(0..=length - span)).collect();
    waits.sort_unstable();
    for place in 0..begins.len() {
        if place > 0 && together[children[place]] {
            waits[place] = waits[place - 1];
        }
        begins[place] += waits[place];
    }
    begins
}

#[cfg(test)]
mod tests {
    use super::super::unroll::unroll;
    use super::*;
    use crate::graph::Interner;
    use crate::random;
    use crate::testing::paper_example;

    #[test]
    fn weights_are_drawn_in_proportion() {
        let weights = Weights::new([0, 3, 0, 1].into_iter()).unwrap();
        let mut counts = [0; 4];
        for index in 0..4000 {
            counts[weights.draw(&mut random::stream(1, "test", &[index]))] += 1;
        }
        assert_eq!((counts[0], counts[2]), (0, 0));
        assert!((2850..=3150).contains(&counts[1]), "{counts:?}");
        assert!(Weights::new([0, 0].into_iter()).is_none());
        assert!(Weights::new([u64::MAX, 1].into_iter()).is_none());
    }

    #[test]
    fn times_fall_back_to_the_nearest_place() {
        let times = Times::new(&[paper_example()]).unwrap();
        assert_eq!(times.at(CallType::Http, 1), [8]);
        assert_eq!(times.at(CallType::Rpc, 9), [3, 1, 1]);
        assert_eq!(times.at(CallType::Mc, 2), [1]);
        assert_eq!(times.at(CallType::Db, 1), [8], "no db call at any depth: the nearest depth");
    }

    #[test]
    fn calls_take_at_least_what_is_drawn_and_siblings_mostly_follow_each_other() {
        let times = Times::new(&[paper_example()]).unwrap();
        let edge = |s: &str, d: &str, t: &str, w| (s.to_owned(), d.to_owned(), t.to_owned(), w);
        let edges =
            [edge("USER", "A", "http", 1), edge("A", "B", "mc", 20), edge("B", "C", "mc", 9)];
        let tree = unroll(&edges, &mut Interner::default()).unwrap();
        let (mut siblings, mut overlaps) = (0, 0);
        for index in 0..100 {
            let mut rng = random::stream(7, "test", &[index]);
            let graph = times.graph("S".into(), &tree, &mut rng).unwrap();
            assert_eq!(graph.num_edges(), 30);
            assert!(graph.latency() >= 8);
            for children in graph.children() {
                for pair in children.windows(2) {
                    let [a, b] = [pair[0], pair[1]].map(|child| &graph.calls()[child as usize]);
                    siblings += 1;
                    overlaps += usize::from(b.start < a.finish);
                }
            }
        }
        let share = f64::from(overlaps as u32) / f64::from(siblings);
        assert!((0.01..0.06).contains(&share), "{share}");
    }
}
