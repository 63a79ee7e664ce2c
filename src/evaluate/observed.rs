//! What the fidelity metrics see of graphs: small numbers instead of names, and counts by service.

use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;

use super::Groups;
use crate::graph::{CallGraph, CallRow, CallType, Name};

/// Source, destination and type of a call.
pub type CallKey<'a> = (&'a str, &'a str, CallType);

/// A graph, or what was understood of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Observed {
    /// Index of the service, in the order of names.
    pub service: u32,
    /// Ids of the calls.
    pub calls: Vec<u32>,
    /// `None` where the graph is not valid.
    pub shape: Option<Shape>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    pub num_edges: u32,
    pub depth: u32,
    /// Milliseconds.
    pub latency: u32,
}

/// Graphs of both sides with the names that they share. Ids follow the order of names, so nothing
/// depends on the order of the graphs.
pub struct Observations<'a> {
    /// By call id, ascending.
    pub calls: Vec<CallKey<'a>>,
    /// Id of each call's destination among all destinations, by call id.
    pub destination: Vec<u32>,
    pub microservices: usize,
    /// Names of the services, ascending.
    pub services: Vec<&'a Name>,
    pub real: Vec<Observed>,
    /// By prompt; without calls where nothing was understood.
    pub synthetic: Vec<Observed>,
}

/// A generator's answer: its service, the calls that were understood, and the graph if it is valid.
pub type Answer<'a> = (&'a Name, &'a [CallRow], Option<&'a CallGraph>);

impl<'a> Observations<'a> {
    pub fn new(real: &[&'a CallGraph], answers: &[Answer<'a>]) -> Self {
        let mut seen: HashMap<CallKey<'a>, u32> = HashMap::new();
        let mut id = |key: CallKey<'a>| {
            let next = seen.len() as u32;
            *seen.entry(key).or_insert(next)
        };
        let mut sides = [Vec::with_capacity(real.len()), Vec::with_capacity(answers.len())];
        for graph in real {
            let calls = graph.calls().iter().enumerate();
            let calls = calls.map(|(index, call)| {
                id((graph.source(index), call.destination.as_str(), call.kind))
            });
            sides[0].push((graph.service(), calls.collect::<Vec<u32>>(), Some(shape(graph))));
        }
        for (service, rows, graph) in answers {
            let calls = rows.iter().map(|row| id((&row.source, &row.destination, row.kind)));
            sides[1].push((service, calls.collect::<Vec<u32>>(), graph.map(shape)));
        }
        let (calls, place) = ranked(seen);
        let services: BTreeMap<&Name, u32> = {
            let names = sides.iter().flatten().map(|(service, ..)| (*service, 0));
            let mut services: BTreeMap<&Name, u32> = names.collect();
            services.values_mut().zip(0..).for_each(|(index, order)| *index = order);
            services
        };
        let [real, synthetic] = sides.map(|side| {
            let observed = side.into_iter().map(|(service, calls, shape)| Observed {
                service: services[service],
                calls: calls.into_iter().map(|call| place[call as usize]).collect(),
                shape,
            });
            observed.collect::<Vec<_>>()
        });
        let mut names: Vec<&str> = calls.iter().map(|(_, destination, _)| *destination).collect();
        names.sort_unstable();
        names.dedup();
        let of = |key: &CallKey| names.partition_point(|name| *name < key.1) as u32;
        let destination = calls.iter().map(of).collect();
        let (microservices, services) = (names.len(), services.into_keys().collect());
        Self { calls, destination, microservices, services, real, synthetic }
    }

    /// The services, which a bootstrap draws.
    pub fn groups(&self, seed: u64) -> Groups {
        Groups::named(seed, self.services.iter().map(|name| name.as_str()))
    }
}

fn shape(graph: &CallGraph) -> Shape {
    Shape { num_edges: graph.num_edges(), depth: graph.depth(), latency: graph.latency() }
}

/// Graphs in the order of what is known of them.
pub fn in_order<'a>(graphs: &[&'a Observed]) -> Vec<&'a Observed> {
    let mut graphs = graphs.to_vec();
    graphs.sort_unstable();
    graphs
}

/// Keys in order, and the place of each one by its provisional id.
fn ranked(seen: HashMap<CallKey, u32>) -> (Vec<CallKey>, Vec<u32>) {
    let mut keys: Vec<(CallKey, u32)> = seen.into_iter().collect();
    keys.sort_unstable();
    let mut place = vec![0; keys.len()];
    for (rank, (_, provisional)) in (0..).zip(&keys) {
        place[*provisional as usize] = rank;
    }
    (keys.into_iter().map(|(key, _)| key).collect(), place)
}

/// How often each cell occurs in the graphs of each service: what a bootstrap over services needs,
/// in memory that grows with services and not with graphs.
pub struct Counts {
    cells: usize,
    /// (service, cell, count).
    entries: Vec<(u32, u32, u32)>,
}

impl Counts {
    /// Counts (service, cell) pairs; cells are below `cells`.
    pub fn new(cells: usize, pairs: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut pairs: Vec<(u32, u32)> = pairs.collect();
        pairs.par_sort_unstable();
        let runs = pairs.chunk_by(|a, b| a == b);
        Self { cells, entries: runs.map(|run| (run[0].0, run[0].1, run.len() as u32)).collect() }
    }

    /// Counts by cell, each service taken as often as it was drawn.
    pub fn drawn(&self, drawn: &[u32]) -> Vec<f64> {
        let mut sums = vec![0.0; self.cells];
        for (service, cell, count) in &self.entries {
            sums[*cell as usize] += f64::from(*count) * f64::from(drawn[*service as usize]);
        }
        sums
    }
}

/// Counts of one quantity on both sides.
pub struct Sides {
    pub real: Counts,
    pub synthetic: Counts,
}

impl Sides {
    pub fn drawn(&self, drawn: &[u32]) -> [Vec<f64>; 2] {
        [self.real.drawn(drawn), self.synthetic.drawn(drawn)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::flat;

    #[test]
    fn ids_follow_names_and_not_order() {
        let (a, b) = (flat("S_2", 2, 1), flat("S_1", 3, 2));
        let one = Observations::new(&[&a, &b], &[]);
        let two = Observations::new(&[&b, &a], &[]);
        assert_eq!(one.calls, two.calls);
        assert_eq!(one.real[0].calls, two.real[1].calls);
        assert_eq!((one.real[0].service, two.real[1].service), (1, 1));
        assert_eq!((one.microservices, one.services.len()), (3, 2));
    }

    #[test]
    fn services_count_as_often_as_they_are_drawn() {
        let counts = Counts::new(3, [(0, 2), (1, 0), (0, 2), (0, 0)].into_iter());
        assert_eq!(counts.drawn(&[1, 1]), [2.0, 0.0, 2.0]);
        assert_eq!(counts.drawn(&[2, 0]), [2.0, 0.0, 4.0]);
    }
}
