use std::collections::HashMap;

use super::violation::ViolationCode as Code;
use super::{Call, CallRow, EdgeId, Name, USER, Violation};

/// The tree of calls that one user request triggers (paper, section 1), valid by construction.
///
/// Calls are in canonical order: depth first, siblings by the last number of their id. A parent
/// therefore always stands before its children, and a call's subtree is contiguous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallGraph {
    service: Name,
    calls: Vec<Call>,
}

impl CallGraph {
    /// Builds the graph of `rows`, in any order.
    ///
    /// # Errors
    /// Every constraint that the rows break, in the order of the rows' ids.
    pub fn from_rows(service: Name, rows: &[CallRow]) -> Result<Self, Vec<Violation>> {
        let mut order: Vec<&CallRow> = rows.iter().collect();
        order.sort_by(|a, b| a.edge_id.cmp(&b.edge_id));
        match connect(&order) {
            Some(calls) => Ok(Self { service, calls }),
            None => Err(check(&order)),
        }
    }

    /// The application entry that the request went to.
    pub fn service(&self) -> &Name {
        &self.service
    }

    /// All calls, depth first; the first is the root.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    pub fn root(&self) -> &Call {
        &self.calls[0]
    }

    pub fn num_edges(&self) -> u32 {
        self.calls.len() as u32
    }

    /// Longest path in calls: 1 for a single root call.
    pub fn depth(&self) -> u32 {
        self.calls.iter().map(|call| call.depth).max().unwrap_or(0)
    }

    /// Finish of the root call, in milliseconds from the start of the trace.
    pub fn latency(&self) -> u32 {
        self.root().finish
    }

    /// Microservice that makes the call at `index`.
    pub fn source(&self, index: usize) -> &str {
        match self.calls[index].parent {
            Some(parent) => &self.calls[parent as usize].destination,
            None => USER,
        }
    }

    /// Number of calls made by each call's destination, by call index.
    pub fn out_degrees(&self) -> Vec<u32> {
        let mut degrees = vec![0; self.calls.len()];
        for call in &self.calls {
            if let Some(parent) = call.parent {
                degrees[parent as usize] += 1;
            }
        }
        degrees
    }

    /// Indices of the children of each call, by call index, in canonical order.
    pub fn children(&self) -> Vec<Vec<u32>> {
        let mut children = vec![Vec::new(); self.calls.len()];
        for (index, call) in self.calls.iter().enumerate() {
            if let Some(parent) = call.parent {
                children[parent as usize].push(index as u32);
            }
        }
        children
    }

    /// Size of each call's subtree, itself included, by call index.
    pub fn subtree_sizes(&self) -> Vec<u32> {
        let mut sizes = vec![1; self.calls.len()];
        for (index, call) in self.calls.iter().enumerate().rev() {
            if let Some(parent) = call.parent {
                sizes[parent as usize] += sizes[index];
            }
        }
        sizes
    }

    /// Levels of calls below each call, by call index: 0 for a leaf.
    pub fn heights(&self) -> Vec<u32> {
        let mut heights = vec![0; self.calls.len()];
        for (index, call) in self.calls.iter().enumerate().rev() {
            if let Some(parent) = call.parent {
                let parent = parent as usize;
                heights[parent] = heights[parent].max(heights[index] + 1);
            }
        }
        heights
    }

    /// Path of each call, by call index.
    pub fn edge_ids(&self) -> Vec<EdgeId> {
        let mut ids: Vec<EdgeId> = Vec::with_capacity(self.calls.len());
        for call in &self.calls {
            let id = match call.parent {
                Some(parent) => ids[parent as usize].child(call.number),
                None => EdgeId::root(),
            };
            ids.push(id);
        }
        ids
    }

    /// The rows that this graph is made of: `from_rows` of these gives the graph back.
    pub fn rows(&self) -> Vec<CallRow> {
        let ids = self.edge_ids();
        ids.into_iter()
            .zip(&self.calls)
            .enumerate()
            .map(|(index, (edge_id, call))| CallRow {
                edge_id,
                source: match call.parent {
                    Some(parent) => self.calls[parent as usize].destination.clone(),
                    None => Name::from(USER),
                },
                destination: call.destination.clone(),
                kind: call.kind,
                start: self.calls[index].start,
                finish: call.finish,
            })
            .collect()
    }
}

/// The calls of `rows`, sorted by id, if they break no constraint: one pass without any map, since
/// nearly all rows that are checked are valid.
fn connect(rows: &[&CallRow]) -> Option<Vec<Call>> {
    // Sorted paths are in depth-first order: the ancestors of a call are the last calls seen at
    // each smaller depth.
    let mut ancestors: Vec<u32> = Vec::new();
    let mut calls: Vec<Call> = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        let path = row.edge_id.path();
        let parent = match index {
            0 => {
                if path != [0] || row.source.as_str() != USER {
                    return None;
                }
                None
            }
            _ => {
                // A second root has no ancestor; a repeated id is its predecessor's.
                let parent = *ancestors.get(path.len().checked_sub(2)?)?;
                let above = rows[parent as usize];
                let fits = above.edge_id.path() == &path[..path.len() - 1]
                    && rows[index - 1].edge_id != row.edge_id
                    && above.destination == row.source
                    && above.start <= row.start
                    && row.finish <= above.finish;
                if !fits {
                    return None;
                }
                Some(parent)
            }
        };
        if row.finish < row.start {
            return None;
        }
        ancestors.truncate(path.len() - 1);
        ancestors.push(index as u32);
        calls.push(Call {
            parent,
            number: row.edge_id.number(),
            depth: path.len() as u32,
            destination: row.destination.clone(),
            kind: row.kind,
            start: row.start,
            finish: row.finish,
        });
    }
    (!calls.is_empty()).then_some(calls)
}

/// Every constraint of section 1 that `rows`, sorted by id, break.
fn check(rows: &[&CallRow]) -> Vec<Violation> {
    if rows.is_empty() {
        return vec![Violation::new(Code::Empty, "the graph has no calls")];
    }
    let mut violations = Vec::new();
    let mut first: HashMap<&EdgeId, &CallRow> = HashMap::with_capacity(rows.len());
    for row in rows {
        if first.contains_key(&row.edge_id) {
            let detail = format!("edge {} occurs more than once", row.edge_id);
            violations.push(Violation::new(Code::DuplicateEdgeId, detail));
        } else {
            first.insert(&row.edge_id, row);
        }
    }
    if !first.contains_key(&EdgeId::root()) {
        violations.push(Violation::new(Code::NoRoot, "no edge has the id 0"));
    }
    for row in rows {
        check_row(row, &first, &mut violations);
    }
    violations
}

fn check_row(row: &CallRow, by_id: &HashMap<&EdgeId, &CallRow>, found: &mut Vec<Violation>) {
    let id = &row.edge_id;
    if row.finish < row.start {
        let detail = format!("edge {id} finishes at {} and starts at {}", row.finish, row.start);
        found.push(Violation::new(Code::FinishBeforeStart, detail));
    }
    let Some(parent_id) = id.parent() else {
        if id.number() != 0 {
            let detail = format!("edge {id} has no parent and is not 0");
            found.push(Violation::new(Code::SecondRoot, detail));
        } else if row.source.as_str() != USER {
            let detail = format!("the root's source is {}, not {USER}", row.source);
            found.push(Violation::new(Code::SourceMismatch, detail));
        }
        return;
    };
    let Some(parent) = by_id.get(&parent_id) else {
        let detail = format!("edge {id} has no parent {parent_id}");
        found.push(Violation::new(Code::MissingParent, detail));
        return;
    };
    if row.source != parent.destination {
        let detail =
            format!("edge {id} leaves {}, its parent reaches {}", row.source, parent.destination);
        found.push(Violation::new(Code::SourceMismatch, detail));
    }
    if row.start < parent.start {
        let detail = format!("edge {id} starts at {}, its parent at {}", row.start, parent.start);
        found.push(Violation::new(Code::StartBeforeParent, detail));
    }
    if row.finish > parent.finish {
        let detail =
            format!("edge {id} finishes at {}, its parent at {}", row.finish, parent.finish);
        found.push(Violation::new(Code::FinishAfterParent, detail));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::any_graph;

    proptest! {
        /// The fast check and the full list of violations agree on rows with a few fields of
        /// other rows in them, or rows missing or twice.
        #[test]
        fn connect_accepts_exactly_what_check_does(
            graph in any_graph(12),
            changes in prop::collection::vec((any::<usize>(), any::<usize>(), 0..8usize), 0..3),
        ) {
            let mut rows = graph.rows();
            for (to, from, field) in changes {
                let (to, from) = (to % rows.len(), from % rows.len());
                let other = rows[from].clone();
                match field {
                    0 => rows[to].edge_id = other.edge_id,
                    1 => rows[to].source = other.source,
                    2 => rows[to].destination = other.destination,
                    3 => rows[to].start = other.start,
                    4 => rows[to].finish = other.finish,
                    5 => rows[to].start = rows[to].start.saturating_add(1),
                    6 => rows.push(other),
                    _ if rows.len() > 1 => { rows.remove(to); }
                    _ => {}
                }
            }
            let mut order: Vec<&CallRow> = rows.iter().collect();
            order.sort_by(|a, b| a.edge_id.cmp(&b.edge_id));
            prop_assert_eq!(connect(&order).is_some(), check(&order).is_empty());
        }
    }
}
