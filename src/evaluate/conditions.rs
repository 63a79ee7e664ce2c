//! What generators are asked for.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::instructions;
use crate::data::{Dataset, HeldOut};
use crate::error::UserError;
use crate::graph::{CallGraph, Condition, Grid, Name, condition_of, grid_cells};
use crate::version::Version;
use crate::{check, random};

/// Version of the conditions that a spec asks for.
pub const VERSION: Version = Version::new("conditions", 2);

/// Which conditions an experiment asks generators for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Conditions {
    /// Every feasible pair of num_edges 1..=max_edges and depth 1..=max_depth (depth ≤ edges;
    /// depth 1 only with one edge) of which there are held-out graphs, `samples` times each: conditions of
    /// graphs of exactly this shape (paper, figures 3 and 12).
    Grid { max_edges: u32, max_depth: u32, samples: u32 },
    /// Every feasible pair, with service and latency of a test graph near to it: shapes that the service
    /// may never make. An extension.
    BorrowedGrid { max_edges: u32, max_depth: u32, samples: u32 },
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
            Self::Grid { max_edges, max_depth, samples }
            | Self::BorrowedGrid { max_edges, max_depth, samples } => {
                check::within("conditions.max_edges", max_edges, 1..=MAX_SHAPE)?;
                check::within("conditions.max_depth", max_depth, 1..=MAX_SHAPE)?;
                check::within("conditions.samples", samples, 1..=MAX_SAMPLES)?;
                grid_cells(max_edges, max_depth).count() as u64 * u64::from(samples)
            }
            Self::Test { count } | Self::Instructions { count } => u64::from(count),
        };
        check::within("requests of conditions", requests, 1..=MAX_REQUESTS)
    }

    /// The grid that is asked for, if one is.
    pub fn grid(&self) -> Option<Grid> {
        let (max_edges, max_depth, is_borrowed) = match *self {
            Self::Grid { max_edges, max_depth, .. } => (max_edges, max_depth, false),
            Self::BorrowedGrid { max_edges, max_depth, .. } => (max_edges, max_depth, true),
            Self::Test { .. } | Self::Instructions { .. } => return None,
        };
        Some(Grid { max_edges, max_depth, is_borrowed })
    }
}

/// At least this many test graphs lend their service and latency to a cell of the borrowed grid.
const LENDERS: usize = 10;

/// The conditions that `spec` asks for. All are taken from graphs that nobody trains on.
///
/// **Grid.** Cells in order of edges, then depth. A cell asks for what held-out graphs
/// ([`Dataset::held_out`]) of exactly its num_edges and depth are: a random subset of them in random
/// order, repeated in this order where there are fewer than `samples`. A cell without such a graph is
/// left out, as in the paper's code. Only graphs count whose service occurs in training (if any does):
/// no generator can know the others.
///
/// **Borrowed grid.** Shapes that a service may never make. A cell's num_edges and depth are its own;
/// service and latency come from a test graph near to it. Near is |Δnum_edges| + |Δdepth|: the nearest
/// distances are taken whole until they hold at least ten graphs, and every sample draws one of these at
/// random, so that 50 samples are not 50 times one prompt. Lenders are of services that occur in
/// training, too.
///
/// **Test.** num_edges, depth, latency and service of test graphs: a random subset of them in
/// random order, or independent draws if there are fewer than `count`. Services that training
/// lacks stay in, as they are part of the real distribution that answers are compared with.
///
/// # Errors
/// A dataset without test graphs, a grid of which it has no graph, or a spec that asks for nothing.
pub fn conditions(spec: &Conditions, dataset: &Dataset, seed: u64) -> Result<Vec<Condition>> {
    let test = dataset.test();
    let name = &dataset.card.name;
    if test.is_empty() {
        return Err(UserError::setting(format!(
            "dataset `{name}` has no test graphs, from which conditions are taken; use more graphs \
             or another split",
        ))
        .into());
    }
    let train = dataset.train();
    let services: BTreeSet<&Name> = train.iter().map(|graph| graph.service()).collect();
    let conditions = match *spec {
        Conditions::Grid { max_edges, max_depth, samples } => {
            let held_out = known(dataset.held_out().iter().collect(), &services, |h| &h.service);
            let asked = grid(max_edges, max_depth, samples, &held_out, seed);
            if asked.is_empty() && samples > 0 {
                return Err(UserError::setting(format!(
                    "dataset `{name}` has no graph of up to {max_edges} edges and depth {max_depth} for \
                     prompts (it has {}: {}); use a larger grid or more graphs",
                    dataset.card.held_out.graphs, dataset.card.held_out.from
                ))
                .into());
            }
            asked
        }
        Conditions::BorrowedGrid { max_edges, max_depth, samples } => {
            let lenders = known(test.clone(), &services, |graph| graph.service());
            borrowed_grid(max_edges, max_depth, samples, &lenders, seed)
        }
        Conditions::Test { count } => test_conditions(&test, count as usize, seed),
        Conditions::Instructions { count } => instructions::conditions(count, dataset, seed)?,
    };
    if conditions.is_empty() {
        return Err(UserError::setting(format!("conditions {spec:?} ask for nothing")).into());
    }
    Ok(conditions)
}

/// Those of `all` whose service is among `services`; all of them if none is.
fn known<'a, T>(
    all: Vec<&'a T>,
    services: &BTreeSet<&Name>,
    service: impl Fn(&'a T) -> &'a Name,
) -> Vec<&'a T> {
    let known: Vec<&T> =
        all.iter().copied().filter(|one| services.contains(service(one))).collect();
    if known.is_empty() { all } else { known }
}

fn grid(
    max_edges: u32,
    max_depth: u32,
    samples: u32,
    held_out: &[&HeldOut],
    seed: u64,
) -> Vec<Condition> {
    let mut cells: BTreeMap<(u32, u32), Vec<&HeldOut>> = BTreeMap::new();
    for held_out in held_out {
        cells.entry((held_out.num_edges, held_out.depth)).or_default().push(held_out);
    }
    let mut conditions = Vec::new();
    for (edges, depth) in grid_cells(max_edges, max_depth) {
        let Some(cell) = cells.get_mut(&(edges, depth)) else { continue };
        // Their order in the dataset must not matter.
        cell.sort();
        let path = [u64::from(edges), u64::from(depth)];
        cell.shuffle(&mut random::stream(seed, "conditions/grid", &path));
        let repeated = cell.iter().cycle().take(samples as usize);
        conditions.extend(repeated.map(|held_out| held_out.condition()));
    }
    conditions
}

/// Every feasible pair of num_edges and depth, `samples` times, with service and latency of a graph
/// among `lenders` near to it (see [`conditions`]). Empty without lenders.
pub fn borrowed_grid(
    max_edges: u32,
    max_depth: u32,
    samples: u32,
    lenders: &[&CallGraph],
    seed: u64,
) -> Vec<Condition> {
    let mut lenders: Vec<HeldOut> = lenders.iter().map(|graph| HeldOut::of(graph)).collect();
    // Their order in the dataset must not matter.
    lenders.sort();
    let cells = grid_cells(max_edges, max_depth).filter(|_| !lenders.is_empty());
    cells.flat_map(|cell| borrowed_samples(cell, samples, &lenders, seed)).collect()
}

fn borrowed_samples(
    (edges, depth): (u32, u32),
    samples: u32,
    lenders: &[HeldOut],
    seed: u64,
) -> Vec<Condition> {
    let distance =
        |lender: &HeldOut| lender.num_edges.abs_diff(edges) + lender.depth.abs_diff(depth);
    let mut distances: Vec<u32> = lenders.iter().map(distance).collect();
    distances.sort_unstable();
    let reach = distances[LENDERS.min(distances.len()) - 1];
    let near: Vec<&HeldOut> = lenders.iter().filter(|lender| distance(lender) <= reach).collect();
    (0..samples)
        .map(|sample| {
            let path = [u64::from(edges), u64::from(depth), u64::from(sample)];
            let mut rng = random::stream(seed, "conditions/borrowed-grid", &path);
            let lender = near[rng.random_range(0..near.len())];
            Condition { num_edges: Some(edges), depth: Some(depth), ..lender.condition() }
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

    /// The cell of each condition.
    fn cells(asked: &[Condition]) -> Vec<(u32, u32)> {
        asked.iter().map(|c| (c.num_edges.unwrap(), c.depth.unwrap())).collect()
    }

    #[test]
    fn a_cell_asks_for_held_out_graphs_of_exactly_its_shape() {
        let train = vec![flat("S_1", 3, 1), flat("S_2", 3, 1)];
        let mut test: Vec<CallGraph> = (10..17).map(|latency| flat("S_1", 3, latency)).collect();
        test.extend([chain("S_2", 4, 90), flat("S_2", 6, 91), flat("S_unknown", 2, 92)]);
        let dataset = dataset(train, test.clone());
        let spec = Conditions::Grid { max_edges: 5, max_depth: 4, samples: 3 };
        let asked = conditions(&spec, &dataset, 1).unwrap();
        // 6 calls are outside of the grid, nobody trains on S_unknown, and no graph has another shape.
        assert_eq!(cells(&asked), [[(3, 2); 3], [(4, 4); 3]].concat());
        let real: Vec<Condition> = test.iter().map(condition_of).collect();
        assert!(asked.iter().all(|condition| real.contains(condition)));
        let distinct: BTreeSet<_> = asked[..3].iter().map(|c| c.latency).collect();
        assert_eq!(distinct.len(), 3);
        assert_eq!(asked[3..], [asked[3].clone(), asked[3].clone(), asked[3].clone()]);
    }

    #[test]
    fn repeats_follow_one_order_whatever_the_order_of_graphs() {
        let graphs: Vec<CallGraph> = (0..4).map(|latency| flat("S_1", 3, latency)).collect();
        let asked = |graphs: Vec<CallGraph>, samples, seed| {
            let spec = Conditions::Grid { max_edges: 3, max_depth: 2, samples };
            conditions(&spec, &dataset(vec![flat("S_1", 1, 1)], graphs), seed).unwrap()
        };
        let ten = asked(graphs.clone(), 10, 1);
        assert_eq!((&ten[..4], &ten[..2]), (&ten[4..8], &ten[8..]));
        assert_eq!(ten.iter().map(|c| c.latency).collect::<BTreeSet<_>>().len(), 4);
        assert_eq!(asked(graphs.iter().rev().cloned().collect(), 10, 1), ten);
        assert_eq!(asked(graphs.clone(), 3, 1), ten[..3]);
        assert!((2..9).any(|seed| asked(graphs.clone(), 10, seed) != ten));
    }

    #[test]
    fn a_grid_without_any_graph_is_an_error() {
        let dataset = dataset(vec![flat("S_1", 9, 1)], vec![flat("S_1", 9, 1)]);
        let spec = Conditions::Grid { max_edges: 5, max_depth: 4, samples: 3 };
        let error = conditions(&spec, &dataset, 1).unwrap_err().to_string();
        assert!(
            error.contains("up to 5 edges and depth 4") && error.contains("1: test graphs"),
            "{error}"
        );
    }

    #[test]
    fn borrowed_samples_differ_and_know_their_service() {
        let train = (0..20).map(|index| flat(&format!("S_{index}"), 3, 10));
        let test = (0..25).map(|index| flat(&format!("S_{index}"), 3, index));
        let dataset = dataset(train.collect(), test.collect());
        let spec = Conditions::BorrowedGrid { max_edges: 4, max_depth: 3, samples: 40 };
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
        let spec = Conditions::BorrowedGrid { max_edges: 6, max_depth: 6, samples: 1 };
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
            Conditions::BorrowedGrid { max_edges: 5, max_depth: 3, samples: 2 },
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
