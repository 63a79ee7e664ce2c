//! Where the time of a graph goes: its critical path.

use std::collections::BTreeMap;

use crate::graph::{Call, CallGraph, Level};

/// Time that each microservice on the critical path takes itself, in milliseconds: of each of its
/// calls on the path the response time, without the time in which the path is in a call below it.
/// The sum over microservices is the response time of the root.
///
/// The critical path (FIRM, algorithm 1) leads from a call to its last-returned child; before this
/// child, to the last-returned of those children that had finished when it began; and so on. Calls
/// that run beside these are not on it. Of children that return at the same time the one that starts
/// last is taken, then by name and by all that is below; siblings whose order still decides are alike in
/// all of this, so that it decides nothing.
pub fn own_times(graph: &CallGraph) -> BTreeMap<&str, u32> {
    let calls = graph.calls();
    let children = graph.children();
    let hashes = graph.subtree_hashes(Level::Times);
    let mut times: BTreeMap<&str, u32> = BTreeMap::new();
    let mut open = vec![0usize];
    while let Some(index) = open.pop() {
        let mut order = children[index].clone();
        order.sort_by_key(|child| {
            let Call { finish, start, destination, .. } = &calls[*child as usize];
            std::cmp::Reverse((finish, start, destination, hashes[*child as usize]))
        });
        let mut begins = u32::MAX;
        let mut below = 0;
        for child in order.into_iter().map(|child| child as usize) {
            if calls[child].finish <= begins {
                begins = calls[child].start;
                below += calls[child].response_time();
                open.push(child);
            }
        }
        let own = calls[index].response_time() - below;
        *times.entry(&calls[index].destination).or_default() += own;
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{any_graph, paper_example, row};
    use proptest::prelude::*;

    #[test]
    fn paths_by_hand() {
        let rows = [
            row("0", "USER", "a", "http", 0, 100),
            // Returns last; begins after b has returned, while c still runs.
            row("0.1", "a", "d", "rpc", 50, 90),
            row("0.2", "a", "b", "rpc", 5, 45),
            row("0.3", "a", "c", "rpc", 5, 70),
            row("0.2.1", "b", "a", "rpc", 10, 40),
            row("0.1.1", "d", "e", "mc", 50, 60),
            row("0.1.2", "d", "e", "mc", 60, 60),
        ];
        let graph = CallGraph::from_rows("S_1".into(), &rows).expect("valid");
        let times = own_times(&graph);
        // a: 100 − 40 − 40 at the root and 30 below b; d: 40 − 10.
        assert_eq!(times, BTreeMap::from([("a", 50), ("b", 10), ("d", 30), ("e", 10)]));
        assert_eq!(own_times(&paper_example()).values().sum::<u32>(), 8);
    }

    #[test]
    fn the_order_of_siblings_decides_nothing() {
        let with = |first, second| {
            let rows = [
                row("0", "USER", "a", "http", 0, 100),
                row("0.1", "a", "b", "rpc", 10, 60),
                row("0.2", "a", "b", "rpc", 10, 60),
                row("0.1.1", "b", first, "rpc", 20, 50),
                row("0.2.1", "b", second, "rpc", 20, 50),
            ];
            own_times(&CallGraph::from_rows("S_1".into(), &rows).expect("valid"))
                .into_iter()
                .map(|(name, time)| (name.to_owned(), time))
                .collect::<Vec<_>>()
        };
        assert_eq!(with("x", "y"), with("y", "x"));
    }

    proptest! {
        #[test]
        fn own_times_add_up_to_the_response_time(graph in any_graph(30)) {
            let sum: u32 = own_times(&graph).values().sum();
            prop_assert_eq!(sum, graph.root().response_time());
        }
    }
}
