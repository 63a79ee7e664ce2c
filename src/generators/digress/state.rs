//! A call graph as diffusion sees it: node types and a type for each ordered pair of nodes.

use std::collections::VecDeque;

use crate::graph::{CallGraph, CallType};

/// The node that the root call comes from. It is always there, and never changes.
pub const USER_NODE: usize = 0;
/// The type of a pair without a call. A call of type k of [`CallType::ALL`] has type k + 1.
pub const NO_CALL: usize = 0;
/// Types of a pair.
pub const EDGE_TYPES: usize = CallType::ALL.len() + 1;

/// A clean or noisy graph with one node per call, besides the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Type of each call's node: what it goes to. Node i + 1 has `types[i]`.
    pub types: Vec<usize>,
    /// Type of the pair from a parent to a child: `[nodes, nodes]`, row-major.
    edges: Vec<u8>,
}

impl State {
    /// Calls of these destinations, and no edges.
    pub fn empty(types: Vec<usize>) -> Self {
        let nodes = types.len() + 1;
        Self { types, edges: vec![NO_CALL as u8; nodes * nodes] }
    }

    /// The graph with nodes in depth-first order; `type_of` numbers destinations.
    pub fn of(graph: &CallGraph, type_of: impl Fn(&str) -> usize) -> Self {
        let calls = graph.calls();
        let mut state = Self::empty(calls.iter().map(|call| type_of(&call.destination)).collect());
        for (index, call) in calls.iter().enumerate() {
            let parent = call.parent.map_or(USER_NODE, |parent| parent as usize + 1);
            state.set(parent, index + 1, call.kind as usize + 1);
        }
        state
    }

    /// Nodes, the user's included.
    pub fn nodes(&self) -> usize {
        self.types.len() + 1
    }

    pub fn edge(&self, parent: usize, child: usize) -> usize {
        usize::from(self.edges[parent * self.nodes() + child])
    }

    pub fn set(&mut self, parent: usize, child: usize, kind: usize) {
        let place = parent * self.nodes() + child;
        self.edges[place] = kind as u8;
    }

    /// Parents of `child`, ascending.
    pub fn parents(&self, child: usize) -> impl Iterator<Item = usize> {
        (0..self.nodes()).filter(move |parent| self.edge(*parent, child) != NO_CALL)
    }

    /// Nodes that calls lead to from the user, breadth first, each with the parent that it was
    /// reached from and its distance from the user; the user itself is left out.
    pub fn reached(&self) -> Vec<(usize, usize, usize)> {
        let mut seen = vec![false; self.nodes()];
        seen[USER_NODE] = true;
        let mut queue = VecDeque::from([(USER_NODE, 0)]);
        let mut found = Vec::new();
        while let Some((parent, distance)) = queue.pop_front() {
            for (child, seen) in seen.iter_mut().enumerate() {
                if !*seen && self.edge(parent, child) != NO_CALL {
                    *seen = true;
                    found.push((child, parent, distance + 1));
                    queue.push_back((child, distance + 1));
                }
            }
        }
        found
    }
}

/// Which pairs may have a call: none leads to the user or from a node to itself, and with `ordered`
/// nodes none leads to an earlier node.
pub fn possible(parent: usize, child: usize, ordered: bool) -> bool {
    child != USER_NODE && parent != child && (!ordered || parent < child)
}

/// Number of possible pairs in a graph of `calls` calls.
pub fn possible_pairs(calls: usize, ordered: bool) -> usize {
    if ordered { calls * (calls + 1) / 2 } else { calls * calls }
}

/// Structural features of a node.
pub const NODE_FEATURES: usize = 7;
/// Structural features of a graph.
pub const GRAPH_FEATURES: usize = 6;
/// Distances and counts are divided by this: features are then of the order of 1.
const USUAL_DEPTH: f32 = 8.0;

/// What a graph, however noisy, looks like: numbers that attention cannot count by itself. The original
/// counts cycles and takes eigenvectors; of a directed tree, degrees and distances from the user say
/// more and cost less.
pub struct Features {
    /// `[nodes, NODE_FEATURES]`.
    pub nodes: Vec<f32>,
    pub graph: [f32; GRAPH_FEATURES],
}

impl Features {
    /// `depth` is the one asked for.
    pub fn of(state: &State, depth: Option<usize>) -> Self {
        let count = state.nodes();
        let (mut parents, mut children) = (vec![0usize; count], vec![0usize; count]);
        for (parent, made) in children.iter_mut().enumerate() {
            for (child, callers) in parents.iter_mut().enumerate() {
                if state.edge(parent, child) != NO_CALL {
                    *callers += 1;
                    *made += 1;
                }
            }
        }
        let reached = state.reached();
        let mut distances = vec![None; count];
        distances[USER_NODE] = Some(0);
        reached.iter().for_each(|(node, _, distance)| distances[*node] = Some(*distance));
        let deepest = reached.iter().map(|(_, _, distance)| *distance).max().unwrap_or(0);
        let flag = |yes: bool| f32::from(u8::from(yes));
        let node = |index: usize| {
            let distance = distances[index].unwrap_or(0);
            [
                flag(parents[index] == 0),
                flag(parents[index] == 1),
                (children[index] as f32).ln_1p(),
                flag(distances[index].is_some()),
                distance as f32 / USUAL_DEPTH,
                flag(distances[index].is_some() && distance == deepest),
                depth.map_or(0.0, |depth| (depth as f32 - distance as f32) / USUAL_DEPTH),
            ]
        };
        let calls = (count - 1) as f32;
        let orphans = (1..count).filter(|node| parents[*node] == 0).count();
        let graph = [
            children.iter().sum::<usize>() as f32 / calls,
            reached.len() as f32 / calls,
            orphans as f32 / calls,
            deepest as f32 / USUAL_DEPTH,
            depth.map_or(0.0, |depth| (depth as f32 - deepest as f32) / USUAL_DEPTH),
            flag(children[USER_NODE] == 1),
        ];
        Self { nodes: (0..count).flat_map(node).collect(), graph }
    }
}
