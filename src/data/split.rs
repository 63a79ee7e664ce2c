//! Train and test: how graphs are divided, and how much leaks.

use std::collections::{BTreeMap, HashSet};

use rand::seq::SliceRandom;

use super::manifest::{SplitKind, SplitSpec};
use super::{Side, SplitCard};
use crate::graph::{CallGraph, CanonicalHash, Level, Name};
use crate::random;

/// Divides `graphs` and reports what the test side shares with the training side.
///
/// A by-structure split takes whole groups in random order, each if it still fits into the test
/// share: the test side comes close to its share, and a group larger than it stays in training.
pub fn split(graphs: &[CallGraph], spec: &SplitSpec) -> (Vec<Side>, SplitCard) {
    let structures: Vec<CanonicalHash> =
        graphs.iter().map(|graph| graph.canonical_hash(Level::Structure)).collect();
    let groups = match spec.kind {
        SplitKind::Random => (0..graphs.len()).map(|index| vec![index]).collect(),
        SplitKind::ByStructure => by_structure(graphs, &structures),
    };
    let sides = take_groups(groups, graphs.len(), spec);
    let card = card(graphs, &structures, &sides, spec);
    (sides, card)
}

fn by_structure(graphs: &[CallGraph], structures: &[CanonicalHash]) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<(&Name, CanonicalHash), Vec<usize>> = BTreeMap::new();
    for (index, (graph, structure)) in graphs.iter().zip(structures).enumerate() {
        groups.entry((graph.service(), *structure)).or_default().push(index);
    }
    groups.into_values().collect()
}

fn take_groups(mut groups: Vec<Vec<usize>>, graphs: usize, spec: &SplitSpec) -> Vec<Side> {
    groups.shuffle(&mut random::stream(spec.seed, "data.split", &[]));
    let mut left = (graphs as f64 * spec.test_share).round() as usize;
    let mut sides = vec![Side::Train; graphs];
    for group in groups {
        if group.len() <= left {
            left -= group.len();
            for index in group {
                sides[index] = Side::Test;
            }
        }
    }
    sides
}

fn card(
    graphs: &[CallGraph],
    structures: &[CanonicalHash],
    sides: &[Side],
    spec: &SplitSpec,
) -> SplitCard {
    let on = |side: Side| (0..graphs.len()).filter(move |index| sides[*index] == side);
    let shapes: HashSet<CanonicalHash> = on(Side::Train).map(|index| structures[index]).collect();
    let of_service: HashSet<(&Name, CanonicalHash)> =
        on(Side::Train).map(|index| (graphs[index].service(), structures[index])).collect();
    let test = on(Side::Test).count();
    let share = |known: usize| if test == 0 { 0.0 } else { known as f64 / test as f64 };
    SplitCard {
        kind: spec.kind.id().to_owned(),
        seed: spec.seed,
        train_graphs: (graphs.len() - test) as u64,
        test_graphs: test as u64,
        test_structure_in_train: share(
            on(Side::Test).filter(|index| shapes.contains(&structures[*index])).count(),
        ),
        test_service_structure_in_train: share(
            on(Side::Test)
                .filter(|index| {
                    of_service.contains(&(graphs[*index].service(), structures[*index]))
                })
                .count(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::any_graph;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_structure_split_never_shares_a_group_and_keeps_its_share(
            graphs in prop::collection::vec(any_graph(4), 0..60),
            seed in 0u64..5,
        ) {
            let spec = SplitSpec { kind: SplitKind::ByStructure, test_share: 0.3, seed };
            let (sides, card) = split(&graphs, &spec);
            prop_assert_eq!(card.test_service_structure_in_train, 0.0);
            prop_assert!(card.test_graphs <= (graphs.len() as f64 * 0.3).round() as u64);
            prop_assert_eq!(card.train_graphs + card.test_graphs, graphs.len() as u64);
            prop_assert_eq!(split(&graphs, &spec).0, sides);
        }

        #[test]
        fn a_random_split_has_exactly_its_share(
            graphs in prop::collection::vec(any_graph(3), 0..60),
            seed in 0u64..5,
        ) {
            let spec = SplitSpec { kind: SplitKind::Random, test_share: 0.1, seed };
            let card = split(&graphs, &spec).1;
            prop_assert_eq!(card.test_graphs, (graphs.len() as f64 * 0.1).round() as u64);
        }
    }

    #[test]
    fn leakage_is_reported() {
        let graphs = vec![crate::testing::paper_example(); 10];
        let spec = SplitSpec { kind: SplitKind::Random, test_share: 0.2, seed: 1 };
        let card = split(&graphs, &spec).1;
        assert_eq!(card.test_graphs, 2);
        assert_eq!(card.test_structure_in_train, 1.0);
        assert_eq!(card.test_service_structure_in_train, 1.0);
    }
}
