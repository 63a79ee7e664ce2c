//! Valid graphs of two sides, with what all metrics of this family need of them.

use std::collections::{BTreeMap, HashMap, HashSet};

use rand::seq::SliceRandom;
use rayon::prelude::*;

use crate::graph::{CallGraph, Level, Name, USER};
use crate::random;

/// Real graphs and the graphs that are compared with them. Numbers stand for names in the order of
/// names, and graphs for themselves in the order of their hashes, so that nothing depends on the
/// order in which graphs came.
pub struct Pair<'a> {
    pub services: usize,
    pub microservices: usize,
    pub real: Side<'a>,
    pub synthetic: Side<'a>,
}

/// Graphs of one side.
pub struct Side<'a> {
    pub graphs: Vec<&'a CallGraph>,
    /// Number of each graph's service.
    pub services: Vec<u32>,
    /// Number of each call's destination, graph after graph; [`USER_NUMBER`] is no destination.
    destinations: Vec<u32>,
    /// Where each graph's calls begin.
    first_call: Vec<usize>,
}

/// Stands for `USER` among microservices, which count from 1.
pub const USER_NUMBER: u32 = 0;

/// A call with what it belongs to.
pub struct SideCall {
    /// Number of the graph's service.
    pub service: u32,
    /// Index of the call within its graph.
    pub index: usize,
    pub source: u32,
    pub destination: u32,
}

impl<'a> Pair<'a> {
    pub fn new(real: &[&'a CallGraph], synthetic: &[&'a CallGraph]) -> Self {
        Self::among(&services(&[real, synthetic]), real, synthetic)
    }

    /// A pair of samples of graphs whose `services` are numbered so.
    pub fn among(
        services: &BTreeMap<&'a Name, u32>,
        real: &[&'a CallGraph],
        synthetic: &[&'a CallGraph],
    ) -> Self {
        let sides = [in_order(real), in_order(synthetic)];
        let mut names: Vec<&str> = sides.iter().flat_map(|side| destinations(side)).collect();
        names.sort_unstable();
        names.dedup();
        let numbers: HashMap<&str, u32> =
            names.iter().copied().filter(|name| *name != USER).zip(1..).collect();
        let [real, synthetic] = sides.map(|graphs| Side::new(graphs, services, &numbers));
        Self { services: services.len(), microservices: names.len(), real, synthetic }
    }

    pub fn sides(&self) -> [&Side<'a>; 2] {
        [&self.real, &self.synthetic]
    }

    /// As many graphs of each side, `cap` at most: indices in an order that is random and
    /// addressed by `purpose` and `split`. A smaller sample is the beginning of a larger one, so variants with
    /// different numbers of valid graphs are compared with nearly the same real ones.
    pub fn equal_samples(
        &self,
        cap: usize,
        seed: u64,
        purpose: &str,
        split: u64,
    ) -> [Vec<usize>; 2] {
        let count = self.real.graphs.len().min(self.synthetic.graphs.len()).min(cap);
        self.samples(count, seed, purpose, split)
    }

    /// Up to `cap` graphs of each side, as [`Pair::equal_samples`].
    pub fn samples(&self, cap: usize, seed: u64, purpose: &str, split: u64) -> [Vec<usize>; 2] {
        let mut number = 0;
        self.sides().map(|side| {
            let mut order: Vec<usize> = (0..side.graphs.len()).collect();
            order.shuffle(&mut random::stream(seed, purpose, &[number, split]));
            order.truncate(cap);
            number += 1;
            order
        })
    }
}

/// Numbers of the services of all these graphs, in the order of names.
pub fn services<'a>(graphs: &[&[&'a CallGraph]]) -> BTreeMap<&'a Name, u32> {
    let names = graphs.iter().copied().flatten().map(|graph| (graph.service(), 0));
    let mut services: BTreeMap<&Name, u32> = names.collect();
    services.values_mut().zip(0..).for_each(|(number, order)| *number = order);
    services
}

/// The graphs in the order of their hashes. Graphs of one hash are the same to every metric.
pub fn in_order<'a>(graphs: &[&'a CallGraph]) -> Vec<&'a CallGraph> {
    let keyed = graphs.par_iter().map(|graph| (graph.canonical_hash(Level::Times), *graph));
    let mut keyed: Vec<_> = keyed.collect();
    keyed.par_sort_unstable_by_key(|(hash, _)| *hash);
    keyed.into_iter().map(|(_, graph)| graph).collect()
}

/// Distinct destinations, in no order.
fn destinations<'a>(graphs: &[&'a CallGraph]) -> HashSet<&'a str> {
    let of_some = graphs.par_iter().fold(HashSet::new, |mut names, graph| {
        names.extend(graph.calls().iter().map(|call| call.destination.as_str()));
        names
    });
    of_some.reduce(HashSet::new, |mut names, more| {
        names.extend(more);
        names
    })
}

impl<'a> Side<'a> {
    fn new(
        graphs: Vec<&'a CallGraph>,
        services: &BTreeMap<&Name, u32>,
        numbers: &HashMap<&str, u32>,
    ) -> Self {
        let number = |name: &Name| numbers.get(name.as_str()).copied().unwrap_or(USER_NUMBER);
        let calls = graphs.par_iter().flat_map_iter(|graph| graph.calls());
        let destinations = calls.map(|call| number(&call.destination)).collect();
        let mut next = 0;
        let first_call = graphs.iter().map(|graph| {
            next += graph.calls().len();
            next - graph.calls().len()
        });
        Self {
            services: graphs.iter().map(|graph| services[graph.service()]).collect(),
            first_call: first_call.collect(),
            destinations,
            graphs,
        }
    }

    /// Numbers of the destinations of a graph's calls.
    pub fn destinations_of(&self, graph: usize) -> &[u32] {
        let first = self.first_call[graph];
        &self.destinations[first..first + self.graphs[graph].calls().len()]
    }

    /// The calls of a graph.
    pub fn calls_of(&self, graph: usize) -> impl Iterator<Item = SideCall> {
        let destinations = self.destinations_of(graph);
        let calls = self.graphs[graph].calls().iter().enumerate();
        calls.map(move |(index, call)| SideCall {
            service: self.services[graph],
            index,
            source: call.parent.map_or(USER_NUMBER, |parent| destinations[parent as usize]),
            destination: destinations[index],
        })
    }

    /// What `of` gives for each graph, by its index, one after the other.
    pub fn collect<T, I>(&self, of: impl Fn(usize) -> I + Send + Sync) -> Vec<T>
    where
        T: Send,
        I: IntoIterator<Item = T>,
    {
        (0..self.graphs.len()).into_par_iter().flat_map_iter(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::{chain, flat};

    #[test]
    fn numbers_follow_names_and_not_order() {
        let (a, b, c) = (flat("S_2", 3, 1), chain("S_1", 3, 2), flat("S_3", 1, 2));
        let (one, other) = (Pair::new(&[&a, &b], &[&c]), Pair::new(&[&b, &a], &[&c]));
        assert_eq!((one.services, one.microservices), (3, 4));
        assert_eq!(one.real.destinations, other.real.destinations);
        assert_eq!(one.real.services, other.real.services);
        let of = one.real.graphs.iter().position(|graph| graph.service().as_str() == "S_1");
        let sources: Vec<u32> = one.real.calls_of(of.unwrap()).map(|call| call.source).collect();
        // MS_00100, MS_00201, MS_00202, MS_00301.
        assert_eq!(sources, [USER_NUMBER, 1, 2]);
    }

    #[test]
    fn a_smaller_sample_is_the_beginning_of_a_larger_one() {
        let graphs: Vec<CallGraph> = (1..30).map(|edges| flat("S_1", edges, edges)).collect();
        let graphs: Vec<&CallGraph> = graphs.iter().collect();
        let pair = Pair::new(&graphs, &graphs[..20]);
        let [real, synthetic] = pair.equal_samples(25, 1, "test", 0);
        assert_eq!((real.len(), synthetic.len()), (20, 20));
        assert_eq!(pair.samples(10, 1, "test", 0)[0], real[..10]);
        assert_ne!(real, synthetic);
    }
}
