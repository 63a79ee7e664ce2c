//! What generators are asked for.

use std::collections::BTreeSet;

use anyhow::Result;
use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::instructions;
use crate::check;
use crate::data::Dataset;
use crate::error::UserError;
use crate::graph::{CallGraph, Condition, Name, condition_of};
use crate::random;
use crate::version::Version;

/// Version of the conditions that a spec asks for.
pub const VERSION: Version = Version::new("conditions", 1);

/// Which conditions an experiment asks generators for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Conditions {
    /// Every feasible pair of num_edges 1..=max_edges and depth 1..=max_depth (depth ≤ edges;
    /// depth 1 only with one edge), `samples` times each (paper, figures 3 and 12). Service and
    /// latency come from a test graph near to the cell.
    Grid { max_edges: u32, max_depth: u32, samples: u32 },
    /// Conditions (service, num_edges, depth, latency) of `count` test graphs, drawn with
    /// replacement where the test set is smaller (paper, figure 4).
    Test { count: u32 },
    /// Requests in words, `count` for each kind of them, about test graphs of which they can be met;
    /// each is asked with and without its request (paper, figure 6).
    Instructions { count: u32 },
}

/// Most edges and depth of a grid, and samples of each of its cells.
const MAX_SHAPE: u32 = 1_000;
const MAX_SAMPLES: u32 = 100_000;
/// Most requests of an experiment: all of them, and their answers, are in memory at once.
const MAX_REQUESTS: u64 = 10_000_000;

impl Conditions {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// A number that cannot be, by its key.
    pub fn check(&self) -> Result<(), String> {
        let requests = match *self {
            Self::Grid { max_edges, max_depth, samples } => {
                check::within("conditions.max_edges", max_edges, 1..=MAX_SHAPE)?;
                check::within("conditions.max_depth", max_depth, 1..=MAX_SHAPE)?;
                check::within("conditions.samples", samples, 1..=MAX_SAMPLES)?;
                grid_cells(max_edges, max_depth).count() as u64 * u64::from(samples)
            }
            Self::Test { count } | Self::Instructions { count } => u64::from(count),
        };
        check::within("requests of conditions", requests, 1..=MAX_REQUESTS)
    }
}

/// At least this many test graphs lend their service and latency to a cell of the grid.
const LENDERS: usize = 10;

/// The conditions that `spec` asks for, all of them taken from test graphs.
///
/// **Grid.** Cells in order of edges, then depth. A cell's num_edges and depth are its own;
/// service and latency come from a test graph near to it, because a condition is only plausible
/// if its parts go together. Near is |Δnum_edges| + |Δdepth|: the nearest distances are taken
/// whole until they hold at least ten graphs, and every sample draws one of these at random, so
/// that 50 samples are not 50 times one prompt. Only test graphs whose service occurs in training
/// lend (if any does): no generator can know the others, and the grid asks for shapes.
///
/// **Test.** num_edges, depth, latency and service of test graphs: a random subset of them in
/// random order, or independent draws if there are fewer than `count`. Services that training
/// lacks stay in, as they are part of the real distribution that answers are compared with.
///
/// # Errors
/// A dataset without test graphs, or a spec that asks for nothing.
pub fn conditions(spec: &Conditions, dataset: &Dataset, seed: u64) -> Result<Vec<Condition>> {
    let test = dataset.test();
    if test.is_empty() {
        return Err(UserError::setting(format!(
            "dataset `{}` has no test graphs, from which conditions are taken; use more graphs \
             or another split",
            dataset.card.name
        ))
        .into());
    }
    let conditions = match *spec {
        Conditions::Grid { max_edges, max_depth, samples } => {
            let train = dataset.train();
            let known: BTreeSet<&Name> = train.iter().map(|graph| graph.service()).collect();
            let mut lenders = test.clone();
            lenders.retain(|graph| known.contains(graph.service()));
            let lenders = if lenders.is_empty() { &test } else { &lenders };
            grid(max_edges, max_depth, samples, lenders, seed)
        }
        Conditions::Test { count } => test_conditions(&test, count as usize, seed),
        Conditions::Instructions { count } => instructions::conditions(count, dataset, seed)?,
    };
    if conditions.is_empty() {
        return Err(UserError::setting(format!("conditions {spec:?} ask for nothing")).into());
    }
    Ok(conditions)
}

/// Every feasible pair of num_edges and depth, `samples` times, with service and latency of a graph
/// among `lenders` near to it (see [`conditions`]). Empty without lenders.
pub fn grid(
    max_edges: u32,
    max_depth: u32,
    samples: u32,
    lenders: &[&CallGraph],
    seed: u64,
) -> Vec<Condition> {
    let lender = |graph: &&CallGraph| -> Lender {
        (graph.num_edges(), graph.depth(), graph.service().clone(), graph.latency())
    };
    let mut lenders: Vec<Lender> = lenders.iter().map(lender).collect();
    // Their order in the dataset must not matter.
    lenders.sort();
    let cells = grid_cells(max_edges, max_depth).filter(|_| !lenders.is_empty());
    cells.flat_map(|cell| grid_samples(cell, samples, &lenders, seed)).collect()
}

/// Feasible pairs (edges, depth): a tree of more than one call has depth 2 at least.
pub fn grid_cells(max_edges: u32, max_depth: u32) -> impl Iterator<Item = (u32, u32)> {
    (1..=max_edges).flat_map(move |edges| {
        let depths = (1..=max_depth.min(edges)).filter(move |depth| (*depth == 1) == (edges == 1));
        depths.map(move |depth| (edges, depth))
    })
}

/// A graph's shape and what it lends: (edges, depth, service, latency).
type Lender = (u32, u32, Name, u32);

fn grid_samples(
    (edges, depth): (u32, u32),
    samples: u32,
    lenders: &[Lender],
    seed: u64,
) -> Vec<Condition> {
    let distance = |lender: &Lender| lender.0.abs_diff(edges) + lender.1.abs_diff(depth);
    let mut distances: Vec<u32> = lenders.iter().map(distance).collect();
    distances.sort_unstable();
    let reach = distances[LENDERS.min(distances.len()) - 1];
    let near: Vec<&Lender> = lenders.iter().filter(|lender| distance(lender) <= reach).collect();
    (0..samples)
        .map(|sample| {
            let path = [u64::from(edges), u64::from(depth), u64::from(sample)];
            let mut rng = random::stream(seed, "conditions/grid", &path);
            let (_, _, service, latency) = near[rng.random_range(0..near.len())];
            Condition {
                service: service.clone(),
                num_edges: Some(edges),
                depth: Some(depth),
                latency: Some(*latency),
                requests: Vec::new(),
            }
        })
        .collect()
}

fn test_conditions(test: &[&CallGraph], count: usize, seed: u64) -> Vec<Condition> {
    let mut rng = random::stream(seed, "conditions/test", &[]);
    if count > test.len() {
        let draws = (0..count).map(|_| condition_of(test[rng.random_range(0..test.len())]));
        return draws.collect();
    }
    let mut order: Vec<usize> = (0..test.len()).collect();
    order.shuffle(&mut rng);
    order[..count].iter().map(|&index| condition_of(test[index])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DatasetCard, Side};
    use crate::evaluate::tests::{chain, dataset, flat};

    #[test]
    fn the_papers_grid_has_136_cells() {
        let cells: Vec<_> = grid_cells(30, 6).collect();
        assert_eq!(cells.len(), 136);
        assert_eq!(&cells[..4], &[(1, 1), (2, 2), (3, 2), (3, 3)]);
    }

    #[test]
    fn grid_samples_differ_and_know_their_service() {
        let train = (0..20).map(|index| flat(&format!("S_{index}"), 3, 10));
        let test = (0..25).map(|index| flat(&format!("S_{index}"), 3, index));
        let dataset = dataset(train.collect(), test.collect());
        let spec = Conditions::Grid { max_edges: 4, max_depth: 3, samples: 40 };
        let asked = conditions(&spec, &dataset, 1).unwrap();
        // (1,1) (2,2) (3,2) (3,3) (4,2) (4,3)
        assert_eq!(asked.len(), 6 * 40);
        let first: BTreeSet<&Name> = asked[..40].iter().map(|c| &c.service).collect();
        assert!(first.len() > 5, "{first:?}");
        let late: Vec<String> = (20..25).map(|index| format!("S_{index}")).collect();
        assert!(asked.iter().all(|c| !late.contains(&c.service.to_string())));
        for condition in &asked {
            assert_eq!(condition.service.as_str(), format!("S_{}", condition.latency.unwrap()));
        }
        assert_eq!(asked, conditions(&spec, &dataset, 1).unwrap());
        assert_ne!(asked, conditions(&spec, &dataset, 2).unwrap());
    }

    #[test]
    fn the_nearest_shape_lends() {
        let train = vec![flat("S_flat", 3, 1), chain("S_deep", 6, 1)];
        let mut test = vec![flat("S_flat", 3, 7); 12];
        test.extend(vec![chain("S_deep", 6, 9); 12]);
        let dataset = dataset(train, test);
        let spec = Conditions::Grid { max_edges: 6, max_depth: 6, samples: 1 };
        let asked = conditions(&spec, &dataset, 1).unwrap();
        let of = |edges, depth| {
            let mut cells = asked.iter();
            let cell = cells.find(|c| c.num_edges == Some(edges) && c.depth == Some(depth));
            cell.unwrap().service.as_str()
        };
        assert_eq!((of(3, 2), of(6, 6), of(4, 2)), ("S_flat", "S_deep", "S_flat"));
    }

    #[test]
    fn test_conditions_are_a_subset_or_draws() {
        let graphs: Vec<CallGraph> = (1..=10).map(|edges| flat("S_1", edges, edges)).collect();
        let dataset = dataset(Vec::new(), graphs.clone());
        let all = conditions(&Conditions::Test { count: 10 }, &dataset, 4).unwrap();
        let mut edges: Vec<u32> = all.iter().filter_map(|c| c.num_edges).collect();
        edges.sort_unstable();
        assert_eq!(edges, (1..=10).collect::<Vec<_>>());
        let many = conditions(&Conditions::Test { count: 25 }, &dataset, 4).unwrap();
        assert_eq!(many.len(), 25);
        assert!(many.iter().all(|condition| all.contains(condition)));
    }

    #[test]
    fn nothing_to_ask_is_an_error() {
        let spec = Conditions::Test { count: 3 };
        let empty = Dataset::new(DatasetCard::default(), Vec::new(), Vec::new());
        assert!(conditions(&spec, &empty, 1).is_err());
        let train = Dataset::new(DatasetCard::default(), vec![flat("S", 1, 1)], vec![Side::Train]);
        assert!(conditions(&spec, &train, 1).is_err());
        let test = dataset(Vec::new(), vec![flat("S", 1, 1)]);
        assert!(conditions(&Conditions::Test { count: 0 }, &test, 1).is_err());
    }

    #[test]
    fn conditions_are_those_of_their_version() {
        use crate::data::simulator::{Cloud, SimulatorConfig};
        use crate::version::golden;

        let cloud = Cloud::new(&SimulatorConfig::default()).unwrap();
        let graphs = |from: u64| (from..from + 300).map(|index| cloud.graph(0, index)).collect();
        let dataset = dataset(graphs(0), graphs(300));
        let mut text = String::new();
        for spec in [
            Conditions::Test { count: 12 },
            Conditions::Test { count: 400 },
            Conditions::Grid { max_edges: 5, max_depth: 3, samples: 2 },
            Conditions::Instructions { count: 8 },
        ] {
            let asked = conditions(&spec, &dataset, 7).unwrap();
            text += &format!("{spec:?}: {}\n", asked.len());
            for condition in asked.iter().take(30) {
                text += &serde_json::to_string(condition).unwrap();
                text.push('\n');
            }
        }
        golden::assert(VERSION, &text);
    }
}
