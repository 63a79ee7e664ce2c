//! Times for a tree of calls, from training statistics: structure first, then response times by what
//! is called and how large its subtree is, then starts one sibling after another.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::tables::{Callee, Frequencies, distinct, pairs};
use crate::graph::{CallGraph, CallRow, CallType, EdgeId, Name, USER};

/// A tree of calls without times; parents stand before their children.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    pub nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Index of the call that makes this one; `None` for the root.
    pub parent: Option<usize>,
    pub destination: Name,
    pub kind: CallType,
}

impl Tree {
    pub fn push(&mut self, parent: Option<usize>, (destination, kind): Callee) -> usize {
        self.nodes.push(Node { parent, destination, kind });
        self.nodes.len() - 1
    }

    /// Calls in the subtree of each call, itself included.
    fn sizes(&self) -> Vec<u32> {
        let mut sizes = vec![1; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate().rev() {
            if let Some(parent) = node.parent {
                sizes[parent] += sizes[index];
            }
        }
        sizes
    }
}

/// Sizes of a subtree that share their response times: 1, 2–3, 4–7, 8–15 …
fn class(size: u32) -> u8 {
    size.ilog2() as u8
}

/// Milliseconds observed in training.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Times {
    /// Latency by service and size of the graph.
    #[serde(with = "pairs")]
    latencies: BTreeMap<(Name, u8), Frequencies<u32>>,
    /// Response time by what is called and the size of its subtree.
    #[serde(with = "pairs")]
    responses: BTreeMap<(Callee, u8), Frequencies<u32>>,
    /// The same whatever the size.
    #[serde(with = "pairs")]
    any_size: BTreeMap<Callee, Frequencies<u32>>,
    /// From the end of the sibling before (from the parent's start for the first) to the start;
    /// negative where siblings overlap.
    #[serde(with = "pairs")]
    gaps: BTreeMap<Callee, Frequencies<i64>>,
}

impl Times {
    pub fn learn(&mut self, graph: &CallGraph) {
        let sizes = graph.subtree_sizes();
        let calls = graph.calls();
        let key = (graph.service().clone(), class(graph.num_edges()));
        self.latencies.entry(key).or_default().add(graph.latency());
        // Where the last child of each call ended.
        let mut ends: Vec<u32> = calls.iter().map(|call| call.start).collect();
        for (index, call) in calls.iter().enumerate() {
            let callee: Callee = (call.destination.clone(), call.kind);
            let of_size = self.responses.entry((callee.clone(), class(sizes[index]))).or_default();
            of_size.add(call.response_time());
            self.any_size.entry(callee.clone()).or_default().add(call.response_time());
            if let Some(parent) = call.parent {
                let end = std::mem::replace(&mut ends[parent as usize], call.finish);
                let gap = i64::from(call.start) - i64::from(end);
                self.gaps.entry(callee).or_default().add(gap);
            }
        }
    }

    /// Numbers kept.
    pub fn parameters(&self) -> u64 {
        distinct(&self.latencies)
            + distinct(&self.responses)
            + distinct(&self.any_size)
            + distinct(&self.gaps)
    }

    /// The calls of `tree` with times: the root takes `latency`, or what graphs of the service take;
    /// every other call lies within its parent.
    pub fn lay_out(
        &self,
        service: &Name,
        tree: &Tree,
        latency: Option<u32>,
        rng: &mut ChaCha8Rng,
    ) -> Vec<CallRow> {
        let sizes = tree.sizes();
        let mut rows: Vec<CallRow> = Vec::with_capacity(tree.nodes.len());
        // Number and end of the last child.
        let mut last: Vec<(u32, u32)> = Vec::with_capacity(tree.nodes.len());
        for (node, size) in tree.nodes.iter().zip(sizes) {
            let callee: Callee = (node.destination.clone(), node.kind);
            let response = |rng: &mut ChaCha8Rng| {
                let of_size = self.responses.get(&(callee.clone(), class(size)));
                let table = of_size.or_else(|| self.any_size.get(&callee));
                table.and_then(|table| table.draw(rng)).copied().unwrap_or(0)
            };
            let (edge_id, source, start, finish) = match node.parent {
                None => {
                    let key = (service.clone(), class(size));
                    let usual = self.latencies.get(&key);
                    let drawn = usual.and_then(|table| table.draw(rng)).copied();
                    let finish = latency.or(drawn).unwrap_or_else(|| response(rng));
                    (EdgeId::root(), Name::from(USER), 0, finish)
                }
                Some(parent) => {
                    let row = &rows[parent];
                    let (number, end) = &mut last[parent];
                    let gaps = self.gaps.get(&callee);
                    let gap = gaps.and_then(|gaps| gaps.draw(rng)).copied().unwrap_or(0);
                    let (from, to) = (i64::from(row.start), i64::from(row.finish));
                    // Within from ..= to, so within 32 bits.
                    let start = (i64::from(*end) + gap).clamp(from, to) as u32;
                    let finish = start.saturating_add(response(rng)).min(row.finish);
                    *number += 1;
                    *end = finish;
                    (row.edge_id.child(*number), row.destination.clone(), start, finish)
                }
            };
            last.push((0, start));
            let (destination, kind) = callee;
            rows.push(CallRow { edge_id, source, destination, kind, start, finish });
        }
        rows
    }
}
