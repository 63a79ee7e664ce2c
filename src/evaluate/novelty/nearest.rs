//! The graphs of a set that are nearest to one graph: exact, through an inverted index on calls.

use std::collections::HashMap;

use super::distance::{Calls, Timed, bound, distance};

/// A set of graphs, to be asked for nearest ones.
///
/// Memory is linear in the calls of the set. Graphs with the same calls form a group, graphs with the
/// same calls and times are one member of it; a question counts common calls with all groups at once
/// through the index, and looks at members in the order of what the calls alone say, which is a lower
/// bound of the distance, until no group can be nearer.
pub struct Set {
    groups: Vec<Group>,
    members: Vec<Member>,
    /// By call: groups that have it, and how often.
    index: Vec<Vec<(u32, u32)>>,
    /// Member of each graph.
    member_of: Vec<u32>,
}

struct Group {
    /// Calls of each of its graphs.
    size: u32,
    members: Vec<u32>,
}

struct Member {
    calls: Calls,
    graphs: u64,
}

/// Who is nearest.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearest {
    pub distance: f64,
    /// Graphs at this distance.
    pub graphs: u64,
    /// The members at this distance with their graphs; empty at distance 1, where it is all of them.
    pub members: Vec<(u32, u64)>,
}

/// Memory that questions use again.
#[derive(Default)]
pub struct Scratch {
    /// Common calls by group; 0 between questions.
    common: Vec<u32>,
    touched: Vec<u32>,
}

/// Rounding may put a distance this far below its bound.
const ROUNDING: f64 = 1e-12;

impl Set {
    /// `calls`: numbers of all calls are below this.
    pub fn new(graphs: Vec<Calls>, calls: usize) -> Self {
        let mut set = Self {
            groups: Vec::new(),
            members: Vec::new(),
            index: vec![Vec::new(); calls],
            member_of: Vec::with_capacity(graphs.len()),
        };
        let mut groups: HashMap<Vec<u32>, u32> = HashMap::new();
        let mut members: HashMap<Calls, u32> = HashMap::new();
        for graph in graphs {
            let member = *members.entry(graph).or_insert_with_key(|calls| {
                let member = set.members.len() as u32;
                let names: Vec<u32> = calls.iter().map(|timed| timed.call).collect();
                let group = *groups.entry(names).or_insert_with_key(|names| set.group(names));
                set.groups[group as usize].members.push(member);
                set.members.push(Member { calls: calls.clone(), graphs: 0 });
                member
            });
            set.members[member as usize].graphs += 1;
            set.member_of.push(member);
        }
        set
    }

    fn group(&mut self, names: &[u32]) -> u32 {
        let group = self.groups.len() as u32;
        for run in names.chunk_by(|one, other| one == other) {
            self.index[run[0] as usize].push((group, run.len() as u32));
        }
        self.groups.push(Group { size: names.len() as u32, members: Vec::new() });
        group
    }

    pub fn len(&self) -> usize {
        self.member_of.len()
    }

    /// The member that the graph at `index` belongs to.
    pub fn member_of(&self, index: usize) -> u32 {
        self.member_of[index]
    }

    pub fn calls(&self, member: u32) -> &[Timed] {
        &self.members[member as usize].calls
    }

    /// The nearest graphs to `calls`, not counting one graph of the member `without`. `None` where
    /// no graph is left.
    pub fn nearest(
        &self,
        calls: &[Timed],
        without: Option<u32>,
        scratch: &mut Scratch,
    ) -> Option<Nearest> {
        let left = self.len() - usize::from(without.is_some());
        let mut nearest = Nearest { distance: 1.0, graphs: left as u64, members: Vec::new() };
        let candidates = self.candidates(calls, scratch);
        for (least, group) in candidates {
            if least > nearest.distance + ROUNDING {
                break;
            }
            for member in &self.groups[group as usize].members {
                let graphs =
                    self.members[*member as usize].graphs - u64::from(without == Some(*member));
                if graphs == 0 {
                    continue;
                }
                let found = distance(calls, self.calls(*member));
                if found < nearest.distance {
                    nearest = Nearest { distance: found, graphs: 0, members: Vec::new() };
                }
                if found == nearest.distance {
                    nearest.graphs += graphs;
                    nearest.members.push((*member, graphs));
                }
            }
        }
        (left > 0).then_some(nearest)
    }

    /// Groups with a call in common, those that may be nearest first, with a lower bound of the
    /// distance.
    fn candidates(&self, calls: &[Timed], scratch: &mut Scratch) -> Vec<(f64, u32)> {
        scratch.common.resize(self.groups.len(), 0);
        for run in calls.chunk_by(|one, other| one.call == other.call) {
            let Some(groups) = self.index.get(run[0].call as usize) else { continue };
            for (group, times) in groups {
                let common = &mut scratch.common[*group as usize];
                if *common == 0 {
                    scratch.touched.push(*group);
                }
                *common += (*times).min(run.len() as u32);
            }
        }
        let mut candidates: Vec<(f64, u32)> = Vec::with_capacity(scratch.touched.len());
        for group in scratch.touched.drain(..) {
            let common = std::mem::take(&mut scratch.common[group as usize]);
            let size = self.groups[group as usize].size;
            candidates.push((bound(calls.len(), size as usize, common as usize), group));
        }
        candidates
            .sort_unstable_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        candidates
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::evaluate::novelty::distance::Vocabulary;
    use crate::testing::any_graph;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// The index finds what looking at every graph finds.
        #[test]
        fn nearest_is_exact(
            graphs in prop::collection::vec(any_graph(4), 1..12),
            copies in prop::collection::vec(0..12usize, 0..4),
            asked in any_graph(4),
        ) {
            let mut vocabulary = Vocabulary::default();
            let copies = copies.into_iter().map(|index| graphs[index % graphs.len()].clone());
            let graphs: Vec<_> = graphs.iter().cloned().chain(copies).collect();
            let calls: Vec<Calls> = graphs.iter().map(|graph| vocabulary.calls(graph)).collect();
            let asked = vocabulary.calls(&asked);
            let set = Set::new(calls.clone(), vocabulary.len());
            let mut scratch = Scratch::default();
            for (calls_of, skip) in [(&asked, None), (&calls[0], Some(0)), (&asked, Some(0))] {
                let found = set.nearest(calls_of, skip.map(|i| set.member_of(i)), &mut scratch);
                let others = calls.iter().enumerate().filter(|(index, _)| skip != Some(*index));
                let distances: Vec<f64> = others.map(|(_, other)| distance(calls_of, other)).collect();
                let least = distances.iter().copied().fold(f64::INFINITY, f64::min);
                match found {
                    Some(found) => {
                        prop_assert_eq!(found.distance, least);
                        let count = distances.iter().filter(|other| **other == least).count();
                        prop_assert_eq!(found.graphs, count as u64);
                        let of_members: u64 = found.members.iter().map(|(_, graphs)| graphs).sum();
                        prop_assert!(least == 1.0 || of_members == found.graphs);
                    }
                    None => prop_assert!(distances.is_empty()),
                }
            }
        }
    }
}
