//! A tree out of rows that were drawn one by one.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::graph::{CallRow, EdgeId, USER};

/// Rows that may become a tree, and the tree so far.
///
/// A row hangs below a call that is one level above the row's own edge id and whose destination is the
/// row's source; among several, one that is running during the whole row, if there is any, by lot. The
/// root is the first row of `USER` whose edge id has one number.
#[derive(Debug, Default)]
pub struct Assembly {
    /// Parents stand before their children.
    calls: Vec<Placed>,
    /// Rows that have no parent yet.
    waiting: Vec<CallRow>,
}

#[derive(Debug)]
struct Placed {
    parent: Option<usize>,
    level: usize,
    row: CallRow,
}

impl Assembly {
    /// Number of calls in the tree.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Hangs up `rows`, and what waited for them, until the tree has `limit` calls.
    pub fn add(&mut self, rows: Vec<CallRow>, limit: usize, rng: &mut ChaCha8Rng) {
        let mut candidates = rows;
        loop {
            let before = self.calls.len();
            candidates.retain(|row| self.calls.len() >= limit || !self.place(row, rng));
            self.waiting.append(&mut candidates);
            if self.calls.len() == before || self.calls.len() >= limit {
                return;
            }
            // A row may be the parent of one that was drawn before it.
            candidates = std::mem::take(&mut self.waiting);
        }
    }

    /// Whether a place was found.
    fn place(&mut self, row: &CallRow, rng: &mut ChaCha8Rng) -> bool {
        let level = row.edge_id.path().len();
        let parent = match level {
            1 if self.calls.is_empty() && row.source.as_str() == USER => None,
            1 => return false,
            _ => match self.parent(row, level, rng) {
                Some(parent) => Some(parent),
                None => return false,
            },
        };
        let mut row = row.clone();
        if let Some(parent) = parent {
            let above = &self.calls[parent].row;
            row.start = row.start.clamp(above.start, above.finish);
            row.finish = row.finish.clamp(row.start, above.finish);
        }
        self.calls.push(Placed { parent, level, row });
        true
    }

    fn parent(&self, row: &CallRow, level: usize, rng: &mut ChaCha8Rng) -> Option<usize> {
        let calls = self.calls.iter().enumerate();
        let fitting =
            calls.filter(|(_, call)| call.level + 1 == level && call.row.destination == row.source);
        let (during, besides): (Vec<_>, Vec<_>) = fitting
            .partition(|(_, call)| call.row.start <= row.start && row.finish <= call.row.finish);
        let chosen = if during.is_empty() { besides } else { during };
        (!chosen.is_empty()).then(|| chosen[rng.random_range(0..chosen.len())].0)
    }

    /// The tree's calls, with edge ids by its structure: siblings are numbered from 1 by their start.
    pub fn rows(self) -> Vec<CallRow> {
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); self.calls.len()];
        for (index, call) in self.calls.iter().enumerate() {
            if let Some(parent) = call.parent {
                children[parent].push(index);
            }
        }
        let mut ids = vec![EdgeId::root(); self.calls.len()];
        for (parent, mut list) in children.into_iter().enumerate() {
            // Stable: calls that start together stay in the order of drawing.
            list.sort_by_key(|child| self.calls[*child].row.start);
            for (child, number) in list.into_iter().zip(1..) {
                ids[child] = ids[parent].child(number);
            }
        }
        let calls = self.calls.into_iter().zip(ids);
        calls.map(|(call, edge_id)| CallRow { edge_id, ..call.row }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::CallGraph;
    use crate::random;
    use crate::testing::row;

    #[test]
    fn rows_hang_below_the_call_that_they_leave() {
        let mut rng = random::stream(1, "test", &[]);
        let mut tree = Assembly::default();
        // Drawn before its parent.
        let grandchild = row("0.7.1", "MS_2", "MS_3", "mc", 30, 45);
        // Two calls to MS_2, of which the second runs during the grandchild.
        let early = row("0.1", "MS_1", "MS_2", "rpc", 1, 3);
        let late = row("0.1", "MS_1", "MS_2", "rpc", 20, 60);
        // Nothing calls MS_9, and nothing calls MS_2 at that level.
        let stray = row("0.1", "MS_9", "MS_4", "rpc", 0, 1);
        let deep = row("0.1.1.1", "MS_2", "MS_4", "rpc", 0, 1);
        tree.add(vec![grandchild, late, stray], 9, &mut rng);
        assert_eq!(tree.len(), 0);
        let root = row("0", USER, "MS_1", "http", 0, 50);
        let second = row("0", USER, "MS_8", "http", 0, 50);
        tree.add(vec![early, root, deep, second], 9, &mut rng);
        let rows = tree.rows();
        let mut found: Vec<String> = rows
            .iter()
            .map(|row| format!("{} {} {}-{}", row.edge_id, row.destination, row.start, row.finish))
            .collect();
        found.sort();
        let expected = ["0 MS_1 0-50", "0.1 MS_2 1-3", "0.2 MS_2 20-50", "0.2.1 MS_3 30-45"];
        assert_eq!(found, expected);
        assert!(CallGraph::from_rows("S_1".into(), &rows).is_ok());
    }

    #[test]
    fn a_tree_stops_at_its_limit() {
        let mut rng = random::stream(1, "test", &[]);
        let mut tree = Assembly::default();
        let child = || row("0.1", "MS_1", "MS_2", "rpc", 0, 1);
        let mut rows = vec![row("0", USER, "MS_1", "http", 0, 50)];
        rows.extend((0..9).map(|_| child()));
        tree.add(rows, 4, &mut rng);
        assert_eq!(tree.rows().len(), 4);
    }
}
