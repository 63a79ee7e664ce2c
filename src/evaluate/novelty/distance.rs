//! How far two call graphs are apart.

use std::collections::HashMap;

use crate::graph::{CallGraph, CallType};

/// Numbers for calls (source, destination, type, depth).
#[derive(Default)]
pub struct Vocabulary<'a>(HashMap<(&'a str, &'a str, CallType, u32), u32>);

/// A call with its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timed {
    pub call: u32,
    /// Bits of start and duration: equal for times within a factor of two.
    magnitudes: (u8, u8),
    /// Start and duration, milliseconds.
    times: (u32, u32),
}

/// A graph as the multiset of its calls, ascending.
pub type Calls = Vec<Timed>;

impl<'a> Vocabulary<'a> {
    pub fn calls(&mut self, graph: &'a CallGraph) -> Calls {
        let mut calls: Calls = graph
            .calls()
            .iter()
            .enumerate()
            .map(|(index, call)| {
                let key = (graph.source(index), call.destination.as_str(), call.kind, call.depth);
                let next = self.0.len() as u32;
                let times = (call.start, call.finish - call.start);
                let magnitudes = (magnitude(times.0), magnitude(times.1));
                Timed { call: *self.0.entry(key).or_insert(next), magnitudes, times }
            })
            .collect();
        calls.sort_unstable();
        calls
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn magnitude(time: u32) -> u8 {
    (u32::BITS - time.leading_zeros()) as u8
}

/// Distance of two graphs: ½ J₁ + ¼ J₂ + ¼ J₃, where J is Jaccard's distance of multisets, 1 − |A ∩ B|
/// / |A ∪ B| (the symmetric difference normalised by the union), and the multisets hold
///
/// 1. the calls (source, destination, type, depth),
/// 2. the calls with start and duration, each within a factor of two,
/// 3. the calls with start and duration to the millisecond.
///
/// 0 for graphs with the same calls at the same times, 1 for graphs without a call in common. A metric
/// on these multisets (Jaccard's distance is one, and so is a mean of metrics); two graphs whose calls
/// are the same but hang differently from equal parents are not told apart. What is finer can only
/// match where the coarser does, so J₁ ≤ distance.
pub fn distance(one: &[Timed], other: &[Timed]) -> f64 {
    let both = one.len() + other.len();
    let similarity = |common: usize| common as f64 / (both - common) as f64;
    let calls = similarity(common(one, other, |timed| timed.call));
    let magnitudes = similarity(common(one, other, |timed| (timed.call, timed.magnitudes)));
    let times = similarity(common(one, other, |timed| *timed));
    1.0 - (0.5 * calls + 0.25 * magnitudes + 0.25 * times)
}

/// Jaccard's distance of the calls alone, from their numbers and how many are common: a lower bound of
/// [`distance`].
pub fn bound(one: usize, other: usize, common: usize) -> f64 {
    1.0 - common as f64 / (one + other - common) as f64
}

/// Size of the intersection of two multisets that are sorted by `key`.
fn common<K: Ord>(one: &[Timed], other: &[Timed], key: impl Fn(&Timed) -> K) -> usize {
    let (mut at, mut beside, mut common) = (0, 0, 0);
    while at < one.len() && beside < other.len() {
        match key(&one[at]).cmp(&key(&other[beside])) {
            std::cmp::Ordering::Less => at += 1,
            std::cmp::Ordering::Greater => beside += 1,
            std::cmp::Ordering::Equal => {
                common += 1;
                at += 1;
                beside += 1;
            }
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{any_graph, paper_example, row};

    fn between(one: &CallGraph, other: &CallGraph) -> f64 {
        let mut vocabulary = Vocabulary::default();
        let (one, other) = (vocabulary.calls(one), vocabulary.calls(other));
        distance(&one, &other)
    }

    #[test]
    fn distances_by_hand() {
        let graph = |finish: u32, rows: &[(&str, &str, u32, u32)]| {
            let mut all = vec![row("0", "USER", "A", "http", 0, finish)];
            all.extend(
                rows.iter().map(|(id, to, start, end)| row(id, "A", to, "rpc", *start, *end)),
            );
            CallGraph::from_rows("S".into(), &all).expect("valid")
        };
        let one = graph(10, &[("0.1", "B", 1, 3), ("0.2", "B", 4, 6)]);
        assert_eq!(between(&one, &one), 0.0);
        // Two of three calls are common, and one of them at the same times.
        let other = graph(10, &[("0.1", "B", 1, 3)]);
        assert!((between(&one, &other) - 1.0 / 3.0).abs() < 1e-15);
        // All calls are common; the root's duration is within a factor of two but not the same, one
        // child is the same, the other starts later.
        let other = graph(9, &[("0.1", "B", 1, 3), ("0.2", "B", 8, 9)]);
        let expected = 1.0 - (0.5 + 0.25 * 2.0 / 4.0 + 0.25 * 1.0 / 5.0);
        assert!((between(&one, &other) - expected).abs() < 1e-15);
        // The order and the numbers of siblings do not matter.
        let other = graph(10, &[("0.5", "B", 4, 6), ("0.7", "B", 1, 3)]);
        assert_eq!(between(&one, &other), 0.0);
        assert_eq!(between(&one, &paper_example()), 1.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_is_a_metric(graphs in prop::collection::vec(any_graph(6), 3)) {
            let [a, b, c] = &graphs[..] else { unreachable!("three") };
            let (ab, bc, ac) = (between(a, b), between(b, c), between(a, c));
            prop_assert!((0.0..=1.0).contains(&ab));
            prop_assert_eq!(ab, between(b, a));
            prop_assert_eq!(between(a, a), 0.0);
            prop_assert!(ac <= ab + bc + 1e-12);
        }
    }
}
