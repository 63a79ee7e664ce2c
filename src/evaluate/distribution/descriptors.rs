//! What a call tree looks like, in twelve ways, each a vector of counts.

use crate::graph::{Call, CallGraph, USER};

/// One way to look at a call tree: names the bins that it falls into, one for each thing that it
/// counts. The vector of a graph has ln(1 + count) for each bin.
pub struct Descriptor {
    pub name: &'static str,
    bins: fn(&CallGraph) -> Vec<u32>,
    /// Bins are below this number.
    pub size: u32,
}

/// A vector without its zeros: bins, ascending, with their values.
pub type Sparse = Vec<(u32, f64)>;

/// Bins of hashed names and labels. Two names may share one: what differs can be missed, but
/// nothing that is alike looks different.
const HASHED: u32 = 256;

/// Bins of a share of something: tenths, all of it, and nothing to have a share of.
const SHARES: u32 = 12;

/// Bins of [`scale`].
const SCALE: u32 = 48;

/// Levels of the tree that have a bin for each width; deeper ones fall into the last.
const LEVELS: u32 = 16;

/// All descriptors, in the order of tables.
///
/// - `edges`, `depth`: the number of calls, and of levels.
/// - `out-degrees`: children of each call.
/// - `level-widths`: calls at each level.
/// - `subtree-sizes`: calls in the subtree of each call.
/// - `wl-labels`: Weisfeiler-Lehman labels of rooted trees: the type of a call; then twice its
///   label with the sorted labels of its children.
/// - `name-bigrams`, `name-trigrams`: caller and called; caller's caller, caller and called.
/// - `start-offsets`: where in its parent's time a call starts.
/// - `sibling-overlap`: for each family of two calls or more, the share of their times that would
///   be saved by running them together as they did, against one after the other.
/// - `critical-path`: from the root always to the child that finishes last: how long the path is,
///   and the share of the root's time that each call on it takes without the next.
/// - `response-times`: of each call.
pub const DESCRIPTORS: [Descriptor; 12] = [
    Descriptor { name: "edges", bins: |graph| vec![scale(graph.num_edges())], size: SCALE },
    Descriptor { name: "depth", bins: |graph| vec![scale(graph.depth())], size: SCALE },
    Descriptor { name: "out-degrees", bins: out_degrees, size: SCALE },
    Descriptor { name: "level-widths", bins: level_widths, size: LEVELS },
    Descriptor { name: "subtree-sizes", bins: subtree_sizes, size: SCALE },
    Descriptor { name: "wl-labels", bins: wl_labels, size: HASHED },
    Descriptor { name: "name-bigrams", bins: |graph| name_grams(graph, 2), size: HASHED },
    Descriptor { name: "name-trigrams", bins: |graph| name_grams(graph, 3), size: HASHED },
    Descriptor { name: "start-offsets", bins: start_offsets, size: SHARES },
    Descriptor { name: "sibling-overlap", bins: sibling_overlap, size: SHARES },
    Descriptor { name: "critical-path", bins: critical_path, size: SHARES + SCALE },
    Descriptor { name: "response-times", bins: response_times, size: SCALE },
];

impl Descriptor {
    pub fn of(&self, graph: &CallGraph) -> Sparse {
        let mut bins = (self.bins)(graph);
        bins.sort_unstable();
        let runs = bins.chunk_by(|one, other| one == other);
        runs.map(|run| (run[0], (run.len() as f64).ln_1p())).collect()
    }
}

/// Whole numbers of any size: each below 16 by itself, then two bins for each power of two.
fn scale(value: u32) -> u32 {
    if value < 16 {
        return value;
    }
    let power = value.ilog2();
    let upper_half = (value >> (power - 1)) & 1;
    (16 + (power - 4) * 2 + upper_half).min(SCALE - 1)
}

/// `part` of `whole` in tenths.
fn share(part: u32, whole: u32) -> u32 {
    match whole {
        0 => SHARES - 1,
        _ => (u64::from(part) * 10 / u64::from(whole)) as u32,
    }
}

fn out_degrees(graph: &CallGraph) -> Vec<u32> {
    graph.out_degrees().into_iter().map(scale).collect()
}

fn level_widths(graph: &CallGraph) -> Vec<u32> {
    graph.calls().iter().map(|call| (call.depth - 1).min(LEVELS - 1)).collect()
}

fn subtree_sizes(graph: &CallGraph) -> Vec<u32> {
    graph.subtree_sizes().into_iter().map(scale).collect()
}

fn response_times(graph: &CallGraph) -> Vec<u32> {
    graph.calls().iter().map(|call| scale(call.response_time())).collect()
}

fn wl_labels(graph: &CallGraph) -> Vec<u32> {
    let types = graph.calls().iter().map(|call| hash([call.kind.as_str().as_bytes()]));
    let mut labels: Vec<u64> = types.collect();
    let children = graph.children();
    let mut bins: Vec<u32> = labels.iter().map(|label| bin(*label)).collect();
    for _ in 0..2 {
        let next = labels.iter().zip(&children).map(|(own, children)| {
            let mut below: Vec<u64> =
                children.iter().map(|child| labels[*child as usize]).collect();
            below.sort_unstable();
            below.push(*own);
            let bytes: Vec<[u8; 8]> = below.iter().map(|label| label.to_le_bytes()).collect();
            hash(bytes.iter().map(<[u8; 8]>::as_slice))
        });
        labels = next.collect();
        bins.extend(labels.iter().map(|label| bin(*label)));
    }
    bins
}

/// Runs of `length` names along the paths from `USER` down.
fn name_grams(graph: &CallGraph, length: usize) -> Vec<u32> {
    let calls = graph.calls();
    let grams = calls.iter().filter_map(|call| {
        // From the called microservice up.
        let mut names = vec![call.destination.as_bytes()];
        let mut next = Some(call);
        while names.len() < length {
            let parent = next?.parent.map(|parent| &calls[parent as usize]);
            names.push(parent.map_or(USER, |parent| &parent.destination).as_bytes());
            next = parent;
        }
        Some(bin(hash(names)))
    });
    grams.collect()
}

fn start_offsets(graph: &CallGraph) -> Vec<u32> {
    let calls = graph.calls();
    let offsets = calls.iter().filter_map(|call| {
        let parent = &calls[call.parent? as usize];
        Some(share(call.start - parent.start, parent.response_time()))
    });
    offsets.collect()
}

fn sibling_overlap(graph: &CallGraph) -> Vec<u32> {
    let families = graph.children();
    let families = families.iter().filter(|family| family.len() > 1);
    let overlaps = families.map(|family| {
        let calls = family.iter().map(|child| &graph.calls()[*child as usize]);
        let mut spans: Vec<(u32, u32)> = calls.map(|call| (call.start, call.finish)).collect();
        spans.sort_unstable();
        let (mut all, mut together, mut end) = (0u64, 0u64, 0);
        for (start, finish) in spans {
            all += u64::from(finish - start);
            together += u64::from(finish.saturating_sub(start.max(end)));
            end = end.max(finish);
        }
        match all {
            0 => SHARES - 1,
            _ => ((all - together) * 10 / all) as u32,
        }
    });
    overlaps.collect()
}

/// Of the children that return last, and of these the ones that begin last, the one whose own path has
/// the greater bins: neither names nor the order of siblings decide.
fn critical_path(graph: &CallGraph) -> Vec<u32> {
    let (calls, children) = (graph.calls(), graph.children());
    let whole = graph.root().response_time();
    let mut paths: Vec<Vec<u32>> = vec![Vec::new(); calls.len()];
    // Children stand after their parent: going backwards, their paths are there.
    for at in (0..calls.len()).rev() {
        let rank = |child: &u32| {
            let Call { finish, start, .. } = calls[*child as usize];
            (finish, start, &paths[*child as usize])
        };
        let last = children[at].iter().max_by(|one, other| rank(one).cmp(&rank(other)));
        let (mut path, below) = match last.map(|child| *child as usize) {
            Some(child) => (std::mem::take(&mut paths[child]), calls[child].response_time()),
            None => (Vec::new(), 0),
        };
        // From the leaf up; the root's comes last.
        path.push(share(calls[at].response_time() - below, whole));
        paths[at] = path;
    }
    let mut bins = paths.swap_remove(0);
    bins.reverse();
    let length = bins.len() as u32;
    bins.push(SHARES + scale(length));
    bins
}

fn bin(hash: u64) -> u32 {
    (hash % u64::from(HASHED)) as u32
}

/// The same on every machine, and for every set of names.
fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        // Length first, so that neighbouring parts cannot run into each other.
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::evaluate::tests::{chain, flat};
    use crate::graph::CallRow;
    use crate::testing::{any_graph, paper_example, renamed, row};

    #[test]
    fn sizes_and_times_keep_their_order_of_magnitude() {
        assert_eq!([0, 1, 15, 16, 23, 24, 32].map(scale), [0, 1, 15, 16, 16, 17, 18]);
        assert_eq!(scale(u32::MAX), SCALE - 1);
        assert_eq!([share(0, 9), share(5, 9), share(9, 9), share(0, 0)], [0, 5, 10, SHARES - 1]);
    }

    #[test]
    fn the_papers_example() {
        let graph = paper_example();
        assert_eq!(level_widths(&graph), [0, 1, 2, 2, 1, 1, 1]);
        assert_eq!(out_degrees(&graph), [4, 2, 0, 0, 0, 0, 0]);
        // 0, 0 and 1 of 3 ms; 0, 3, 4 and 5 of 8 ms.
        assert_eq!(start_offsets(&graph), [0, 0, 3, 3, 5, 6]);
        // Neither family runs at the same time.
        assert_eq!(sibling_overlap(&graph), [0, 0]);
        // The last child, 0.4, takes 1 of the 8 ms.
        assert_eq!(critical_path(&graph), [8, 1, SHARES + 2]);
        // MS_63670 calls itself, and MS_37691 twice.
        assert_eq!(
            DESCRIPTORS[6].of(&graph).iter().map(|(_, value)| value.exp_m1().round()).sum::<f64>(),
            7.0
        );
        // The root has no caller of its caller.
        assert_eq!(name_grams(&graph, 3).len(), 6);
    }

    #[test]
    fn overlap_and_critical_path_of_simple_trees() {
        // Three children of 9 ms at once: two thirds saved.
        assert_eq!(sibling_overlap(&flat("S_1", 4, 9)), [6]);
        assert_eq!(sibling_overlap(&flat("S_1", 4, 0)), [SHARES - 1]);
        // Each call of a chain waits for the next.
        assert_eq!(critical_path(&chain("S_1", 3, 9)), [0, 0, 10, SHARES + 3]);
    }

    #[test]
    fn sizes_times_and_labels_by_hand() {
        let graph = paper_example();
        assert_eq!(subtree_sizes(&graph), [7, 3, 1, 1, 1, 1, 1]);
        assert_eq!(response_times(&graph), [8, 3, 1, 1, 1, 1, 1]);
        // From 16 on two bins for each power of two.
        assert_eq!(subtree_sizes(&flat("S_1", 25, 9))[..2], [17, 1]);
        assert_eq!(response_times(&flat("S_1", 2, 40)), [18, 18]);
        // How many calls have each label: the type, then what is below, then what is below that.
        let labels = |graph: &CallGraph| {
            let vector = DESCRIPTORS[5].of(graph);
            let mut counts: Vec<f64> = vector.iter().map(|(_, v)| v.exp_m1().round()).collect();
            counts.sort_by(|one, other| other.total_cmp(one));
            counts
        };
        // A leaf and two calls with a leaf of the type below; then all three differ.
        assert_eq!(labels(&chain("S_1", 3, 9)), [3.0, 2.0, 1.0, 1.0, 1.0, 1.0]);
        // Two leaves and a root, both times.
        assert_eq!(labels(&flat("S_1", 3, 9)), [3.0, 2.0, 2.0, 1.0, 1.0]);
    }

    fn all(graph: &CallGraph) -> Vec<Sparse> {
        DESCRIPTORS.iter().map(|descriptor| descriptor.of(graph)).collect()
    }

    /// The same tree with its siblings the other way round.
    fn mirrored(graph: &CallGraph) -> CallGraph {
        let most = graph.calls().iter().map(|call| call.number).max().unwrap_or(0);
        let rows = graph.rows().into_iter().map(|row| {
            let numbers = row.edge_id.path()[1..].iter();
            let id = numbers.fold(crate::graph::EdgeId::root(), |id, n| id.child(most - n));
            CallRow { edge_id: id, ..row }
        });
        CallGraph::from_rows(graph.service().clone(), &rows.collect::<Vec<_>>()).expect("valid")
    }

    /// Two children of the same time, of which one makes a call of its own.
    #[test]
    fn names_do_not_decide_which_path_is_critical() {
        let rows = [
            row("0", "USER", "a", "http", 0, 10),
            row("0.1", "a", "b", "rpc", 0, 10),
            row("0.1.1", "b", "c", "rpc", 2, 6),
            row("0.2", "a", "d", "rpc", 0, 10),
        ];
        let graph = CallGraph::from_rows("S_1".into(), &rows).expect("valid");
        assert_eq!(critical_path(&graph), critical_path(&renamed(&graph)));
    }

    #[test]
    fn other_names_are_other_bigrams() {
        let (one, other) = (paper_example(), renamed(&paper_example()));
        let names: Vec<&str> = DESCRIPTORS
            .iter()
            .filter(|descriptor| descriptor.of(&one) != descriptor.of(&other))
            .map(|descriptor| descriptor.name)
            .collect();
        assert_eq!(names, ["name-bigrams", "name-trigrams"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn bins_are_in_range_and_siblings_have_no_order(graph in any_graph(20)) {
            for (descriptor, vector) in DESCRIPTORS.iter().zip(all(&graph)) {
                prop_assert!(vector.iter().all(|(bin, _)| *bin < descriptor.size));
                prop_assert!(vector.is_sorted_by_key(|(bin, _)| *bin));
            }
            prop_assert_eq!(all(&graph), all(&mirrored(&graph)));
        }

        /// Only runs of names see names.
        #[test]
        fn names_matter_to_names_alone(graph in any_graph(12)) {
            let (one, other) = (all(&graph), all(&renamed(&graph)));
            for (index, descriptor) in DESCRIPTORS.iter().enumerate() {
                if descriptor.name.starts_with("name-") {
                    prop_assert!(one[index].len() == other[index].len() || graph.num_edges() > 1);
                } else {
                    prop_assert_eq!(&one[index], &other[index], "{}", descriptor.name);
                }
            }
        }
    }
}
