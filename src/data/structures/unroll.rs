use std::collections::VecDeque;

use indexmap::IndexMap;

use super::MAX_CALLS;
use crate::data::finish::MAX_DEPTH;
use crate::graph::{CallType, Interner, Name, USER};

/// A structure unrolled into a tree, without times. Parents stand before their children; siblings
/// are in the order of destination and type, repeated calls next to each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tree(pub Vec<TreeCall>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TreeCall {
    /// Index of the parent; `None` for the root.
    pub parent: Option<usize>,
    /// Calls from the root down to this one: 1 for the root.
    pub depth: u32,
    pub destination: Name,
    pub kind: CallType,
}

/// Why a structure cannot be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    UnknownType,
    /// Not exactly one call by `USER`.
    NoSingleRoot,
    /// Calls that the root does not lead to.
    Unreachable,
    TooLarge,
    TooDeep,
}

impl Unusable {
    pub const ALL: [Self; 5] =
        [Self::UnknownType, Self::NoSingleRoot, Self::Unreachable, Self::TooLarge, Self::TooDeep];

    /// What the funnel's step demands.
    pub fn step(self) -> String {
        match self {
            Self::UnknownType => "types are mc, db, http, rpc or mq".into(),
            Self::NoSingleRoot => "has one root call".into(),
            Self::Unreachable => "all calls hang on the root".into(),
            Self::TooLarge => format!("unrolls to at most {MAX_CALLS} calls"),
            Self::TooDeep => format!("depth is at most {MAX_DEPTH}"),
        }
    }
}

/// An edge of the merged graph, between nodes by number.
struct Edge {
    to: usize,
    kind: CallType,
    calls: u64,
}

/// Unrolls a merged graph; the calls of the tree are as many as the edges' weights add up to.
///
/// # Errors
/// Why this is not possible.
pub fn unroll(
    edges: &[(String, String, String, u64)],
    names: &mut Interner,
) -> Result<Tree, Unusable> {
    let mut total = 0u64;
    let mut nodes: IndexMap<&str, Vec<Edge>> = IndexMap::from_iter([(USER, Vec::new())]);
    for (source, destination, kind, calls) in edges {
        let kind = kind.parse().map_err(|()| Unusable::UnknownType)?;
        nodes.entry(source).or_default();
        let to = nodes.entry(destination).index();
        nodes.entry(destination).or_default();
        nodes[source.as_str()].push(Edge { to, kind, calls: *calls });
        total = total.saturating_add(*calls);
    }
    let roots: u64 = nodes[0].iter().map(|edge| edge.calls).fold(0, u64::saturating_add);
    if roots != 1 {
        return Err(Unusable::NoSingleRoot);
    }
    if total > MAX_CALLS {
        return Err(Unusable::TooLarge);
    }
    let (labels, mut out): (Vec<&str>, Vec<Vec<Edge>>) = nodes.into_iter().unzip();
    for edges in &mut out {
        edges.sort_by(|a, b| (labels[a.to], a.kind).cmp(&(labels[b.to], b.kind)));
    }
    let order = topological(&out);
    let tree = deal(&out, &labels, &order, names)?;
    if tree.len() as u64 != total {
        return Err(Unusable::Unreachable);
    }
    let tree = Tree(tree).in_sibling_order();
    if tree.0.iter().any(|call| call.depth > MAX_DEPTH) {
        return Err(Unusable::TooDeep);
    }
    Ok(tree)
}

/// Position of each node that `USER` (node 0) reaches in a topological order of the graph without
/// the edges that lead back to a node on the path (depth first, in the order of the edges).
fn topological(out: &[Vec<Edge>]) -> Vec<Option<usize>> {
    let mut finished = Vec::new();
    let mut seen = vec![false; out.len()];
    let mut stack = vec![(0usize, 0usize)];
    seen[0] = true;
    while let Some((node, next)) = stack.last_mut() {
        match out[*node].get(*next) {
            Some(edge) => {
                *next += 1;
                if !std::mem::replace(&mut seen[edge.to], true) {
                    stack.push((edge.to, 0));
                }
            }
            None => {
                finished.push(*node);
                stack.pop();
            }
        }
    }
    let mut positions = vec![None; out.len()];
    for (position, node) in finished.into_iter().rev().enumerate() {
        positions[node] = Some(position);
    }
    positions
}

/// Makes the calls of each node in topological order, dealing them out to the node's visits in
/// turn. Calls against the order lead back: they are leaves.
fn deal(
    out: &[Vec<Edge>],
    labels: &[&str],
    positions: &[Option<usize>],
    names: &mut Interner,
) -> Result<Vec<TreeCall>, Unusable> {
    let mut order: Vec<(usize, usize)> = positions
        .iter()
        .enumerate()
        .filter_map(|(node, position)| position.map(|position| (position, node)))
        .collect();
    order.sort_unstable();
    let mut calls: Vec<TreeCall> = Vec::new();
    // Calls by which each node was reached; `None` stands for the user.
    let mut visits: Vec<Vec<Option<usize>>> = vec![Vec::new(); out.len()];
    visits[0].push(None);
    for (position, node) in order {
        let here = std::mem::take(&mut visits[node]);
        for edge in &out[node] {
            let destination = names.name(labels[edge.to]);
            for turn in 0..edge.calls as usize {
                let parent = here[turn % here.len()];
                let depth = parent.map_or(0, |parent| calls[parent].depth) + 1;
                if positions[edge.to] > Some(position) {
                    visits[edge.to].push(Some(calls.len()));
                }
                let destination = destination.clone();
                calls.push(TreeCall { parent, depth, destination, kind: edge.kind });
            }
        }
    }
    Ok(calls)
}

impl Tree {
    /// The same tree, breadth first; children of one call in the order in which they were made.
    fn in_sibling_order(self) -> Self {
        let mut children = vec![Vec::new(); self.0.len()];
        let mut queue = VecDeque::new();
        for (index, call) in self.0.iter().enumerate() {
            match call.parent {
                Some(parent) => children[parent].push(index),
                None => queue.push_back((index, None)),
            }
        }
        let mut calls = Vec::with_capacity(self.0.len());
        while let Some((index, parent)) = queue.pop_front() {
            let place = calls.len();
            queue.extend(children[index].iter().map(|child| (*child, Some(place))));
            calls.push(TreeCall { parent, ..self.0[index].clone() });
        }
        Self(calls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(edges: &[(&str, &str, &str, u64)]) -> Result<Vec<String>, Unusable> {
        let edges =
            edges.iter().map(|(s, d, t, w)| (s.to_string(), d.to_string(), t.to_string(), *w));
        let edges: Vec<_> = edges.collect();
        let tree = unroll(&edges, &mut Interner::default())?;
        let parent = |call: &TreeCall| match call.parent {
            Some(parent) => format!("{parent}:{}", tree.0[parent].destination),
            None => USER.to_owned(),
        };
        Ok(tree.0.iter().map(|c| format!("{}>{} {}", parent(c), c.destination, c.kind)).collect())
    }

    #[test]
    fn repeated_calls_are_unrolled_and_totals_kept() {
        let edges = [
            ("A", "B", "rpc", 2),
            ("B", "C", "mc", 3),
            ("USER", "A", "http", 1),
            ("A", "C", "db", 1),
        ];
        assert_eq!(
            tree(&edges).unwrap(),
            [
                "USER>A http",
                "0:A>B rpc",
                "0:A>B rpc",
                "0:A>C db",
                "1:B>C mc",
                "1:B>C mc",
                "2:B>C mc"
            ]
        );
    }

    #[test]
    fn a_node_with_several_parents_makes_its_calls_once() {
        let edges = [
            ("USER", "A", "http", 1),
            ("A", "B", "rpc", 1),
            ("A", "C", "rpc", 1),
            ("B", "D", "rpc", 1),
            ("C", "D", "rpc", 1),
            ("D", "E", "mc", 1),
        ];
        let calls = tree(&edges).unwrap();
        assert_eq!(calls.len(), 6);
        assert_eq!(calls.iter().filter(|call| call.ends_with(">E mc")).count(), 1);
    }

    #[test]
    fn calls_that_lead_back_go_no_further() {
        let edges = [
            ("USER", "A", "http", 1),
            ("A", "A", "rpc", 2),
            ("A", "B", "rpc", 1),
            ("B", "A", "rpc", 1),
        ];
        assert_eq!(
            tree(&edges).unwrap(),
            ["USER>A http", "0:A>A rpc", "0:A>A rpc", "0:A>B rpc", "3:B>A rpc"]
        );
    }

    #[test]
    fn what_cannot_be_a_tree_is_refused() {
        let root = ("USER", "A", "http", 1);
        assert_eq!(tree(&[root, ("A", "B", "UNKNOWN", 1)]), Err(Unusable::UnknownType));
        assert_eq!(tree(&[("USER", "A", "http", 2)]), Err(Unusable::NoSingleRoot));
        assert_eq!(tree(&[]), Err(Unusable::NoSingleRoot));
        assert_eq!(tree(&[root, ("B", "C", "mc", 1)]), Err(Unusable::Unreachable));
        assert_eq!(tree(&[root, ("A", "B", "mc", u64::MAX)]), Err(Unusable::TooLarge));
        let chain: Vec<(String, String)> =
            (0..16).map(|i| (format!("N{i}"), format!("N{}", i + 1))).collect();
        let mut edges: Vec<(&str, &str, &str, u64)> =
            chain.iter().map(|(s, d)| (s.as_str(), d.as_str(), "rpc", 1)).collect();
        edges[0].0 = "USER";
        assert_eq!(tree(&edges), Err(Unusable::TooDeep));
        edges.pop();
        assert!(tree(&edges).is_ok());
    }
}
