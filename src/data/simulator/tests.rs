use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::*;
use crate::data::finish::fingerprint;
use crate::data::{BuildOptions, DatasetManifest, build};
use crate::graph::grid_cells;
use crate::progress::Progress;

#[test]
fn golden() {
    let source = "graphs = 200\n[source]\nkind = \"simulator\"\n";
    crate::data::golden::check(VERSION, source, &[]);
}

fn cloud() -> Cloud {
    Cloud::new(&SimulatorConfig::default()).expect("the default settings are possible")
}

#[test]
fn a_graph_depends_on_its_address_only() {
    let (one, other) = (cloud(), cloud());
    let forwards: Vec<_> = (0..50).map(|index| one.graph(7, index)).collect();
    let mut backwards: Vec<_> = (0..50).rev().map(|index| other.graph(7, index)).collect();
    backwards.reverse();
    assert_eq!(forwards, backwards);
    assert_ne!(one.graph(8, 0), forwards[0]);
}

#[test]
fn other_seeds_make_other_clouds() {
    let config = SimulatorConfig { seed: 3, ..Default::default() };
    let other = Cloud::new(&config).expect("possible");
    assert_ne!(cloud().services(), other.services());
}

#[test]
fn names_have_the_padded_form_and_are_distinct() {
    let cloud = cloud();
    let services: std::collections::BTreeSet<_> = cloud.services().iter().collect();
    let microservices: std::collections::BTreeSet<_> = cloud.microservices().into_iter().collect();
    assert_eq!((services.len(), microservices.len()), (300, 400));
    assert!(services.iter().all(|name| name.starts_with("S_") && name.len() == 11));
    assert!(microservices.iter().all(|name| name.starts_with("MS_") && name.len() == 8));
}

#[test]
fn no_graph_is_larger_or_deeper_than_configured() {
    let config = SimulatorConfig {
        max_edges: 12,
        max_depth: 3,
        services: 40,
        shapes: ShapeWeights { large: 5.0, batch: 5.0, ..Default::default() },
        ..Default::default()
    };
    let cloud = Cloud::new(&config).expect("possible");
    let graphs: Vec<_> = (0..2_000).map(|index| cloud.graph(0, index)).collect();
    let most = graphs.iter().map(CallGraph::num_edges).max().expect("graphs");
    assert!((9..=12).contains(&most), "{most}");
    assert_eq!(graphs.iter().map(CallGraph::depth).max(), Some(3));
}

/// Whether several calls of one layer make calls.
fn branches(graph: &CallGraph) -> bool {
    let children = graph.children();
    children
        .iter()
        .any(|calls| calls.iter().filter(|c| !children[**c as usize].is_empty()).count() > 1)
}

#[test]
fn only_the_branching_shape_branches() {
    let share = |branching: f64| {
        let shapes = ShapeWeights { branching, ..Default::default() };
        let cloud =
            Cloud::new(&SimulatorConfig { shapes, ..Default::default() }).expect("possible");
        let graphs = (0..5_000).filter(|index| branches(&cloud.graph(0, *index))).count();
        graphs as f64 / 5_000.0
    };
    assert_eq!(share(0.0), 0.0);
    let (default, many) = (share(ShapeWeights::default().branching), share(1.0));
    assert!(default > 0.0 && default < 0.02, "{default}");
    assert!(many > 0.1, "{many}");
}

#[test]
fn the_pool_holds_the_first_graphs_of_each_shape() {
    let cloud = cloud();
    let draw = |pool: &Pool, graphs| pool.draw(&cloud, 7, graphs, Progress::Quiet);
    let pool = Pool { max_edges: 12, max_depth: 4, per_cell: 5, draws: 20 };
    let drawn = draw(&pool, 1_000);
    let mut cells: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    for (index, held_out) in &drawn {
        assert_eq!(HeldOut::of(&cloud.pool_graph(7, *index)), *held_out);
        assert!(*index < 20_000);
        *cells.entry((held_out.num_edges, held_out.depth)).or_default() += 1;
    }
    let feasible: Vec<(u32, u32)> = grid_cells(12, 4).collect();
    assert!(cells.keys().all(|cell| feasible.contains(cell)));
    assert!(cells.len() > 25 && cells.values().all(|count| *count <= 5), "{cells:?}");
    // More draws only add to it, and one thread draws the same.
    let more = draw(&pool, 2_000);
    assert_eq!(drawn.iter().filter(|entry| more.contains(entry)).count(), drawn.len());
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    assert_eq!(one.install(|| draw(&pool, 1_000)), drawn);
    assert!(draw(&Pool { draws: 0, ..pool }, 1_000).is_empty());
}

/// Graphs of few calls are the same by chance; among larger ones, times tell each from all others.
#[test]
fn no_graph_of_the_pool_is_in_the_dataset() {
    let text = "name = \"a\"\ngraphs = 2000\n[source]\nkind = \"simulator\"\n";
    let manifest = DatasetManifest::parse(Path::new("a.toml"), text, None).expect("a manifest");
    let dir = tempfile::tempdir().expect("a folder");
    let dataset = build(&manifest, &BuildOptions::new(dir.path())).expect("builds");
    let cloud = cloud();
    let pool = Pool::default().draw(&cloud, 0, 2_000, Progress::Quiet);
    let held_out: Vec<&HeldOut> = pool.iter().map(|(_, held_out)| held_out).collect();
    assert_eq!(dataset.held_out().iter().collect::<Vec<_>>(), held_out);
    let known: HashSet<u128> = dataset.graphs().iter().map(|graph| fingerprint(0, graph)).collect();
    let large = pool.iter().filter(|(_, held_out)| held_out.num_edges > 8);
    let large: Vec<CallGraph> = large.map(|(index, _)| cloud.pool_graph(0, *index)).collect();
    assert!(large.len() > 300, "{}", large.len());
    assert!(large.iter().all(|graph| !known.contains(&fingerprint(0, graph))));
}

#[test]
fn an_impossible_setting_is_named() {
    let message = |config: SimulatorConfig| {
        let error = Cloud::new(&config).expect_err("impossible");
        assert!(error.downcast_ref::<UserError>().is_some());
        error.to_string()
    };
    let base = SimulatorConfig::default;
    assert_eq!(
        message(SimulatorConfig { services: 0, ..base() }),
        "simulator: services = 0: must be from 1 to 1000000"
    );
    assert!(message(SimulatorConfig { overlap: f64::NAN, ..base() }).contains("overlap = NaN"));
    let negative = ShapeWeights { deep: -1.0, ..Default::default() };
    assert!(message(SimulatorConfig { shapes: negative, ..base() }).contains("shapes.deep = -1"));
    let none = LeafTypeWeights { mc: 0.0, rpc: 0.0, db: 0.0, http: 0.0, mq: 0.0 };
    assert!(message(SimulatorConfig { leaf_types: none, ..base() }).contains("all weights are 0"));
}

#[test]
fn a_misspelt_key_is_refused() {
    assert!(toml::from_str::<SimulatorConfig>("servces = 3").is_err());
    let config: SimulatorConfig =
        toml::from_str("services = 3\n[shapes]\ndeep = 1.0").expect("valid");
    assert_eq!((config.services, config.shapes.deep, config.microservices), (3, 1.0, 400));
}

#[test]
fn the_smallest_cloud_works() {
    let config = SimulatorConfig {
        services: 1,
        microservices: 10,
        max_edges: 1,
        max_depth: 1,
        ..Default::default()
    };
    let cloud = Cloud::new(&config).expect("possible");
    assert!((0..20).all(|index| cloud.graph(0, index).num_edges() == 1));
}

/// A decision at a time with the probabilities of what was not yet decided is the truth itself.
#[test]
fn decisions_at_a_temperature_of_one_are_the_truth() {
    let cloud = cloud();
    for service in [0, 4, 9] {
        let template = &cloud.templates[service];
        let mut rng = random::stream(3, "test/decisions", &[service as u64]);
        let mut counts = vec![0.0; template.slots.len()];
        let draws = 4_000;
        for _ in 0..draws {
            for call in draw::tempered(template, 1.0, &cloud.microservices, 0.1, &mut rng) {
                counts[call.slot] += 1.0 / f64::from(draws);
            }
        }
        for (branch, count) in cloud.branches(service).iter().zip(&counts) {
            let mean = branch.frequency.mean;
            assert!((count - mean).abs() < 0.05 + 0.1 * mean, "{count} {branch:?}");
        }
    }
}

#[test]
fn a_low_temperature_loses_what_is_rare() {
    assert_eq!(chance::tempered(0.5, 0.3), 0.5);
    // 0.2² / (0.2² + 0.8²).
    assert!((chance::tempered(0.2, 0.5) - 0.04 / 0.68).abs() < 1e-12);
    assert_eq!((chance::tempered(0.0, 0.8), chance::tempered(1.0, 0.8)), (0.0, 1.0));
    let repeats = chance::Repeats::geometric(0.5, 2).tempered(0.5);
    // ⅔ and ⅓, squared: 4 to 1.
    assert!((repeats.probabilities()[1] - 0.2).abs() < 1e-12);
}

#[test]
fn a_perfect_generator_keeps_to_the_shape() {
    let cloud = cloud();
    for (temperature, most) in [(1.0, 4), (0.8, 16)] {
        let mut others = 0;
        for index in 0..400 {
            let asked = crate::graph::condition_of(&cloud.graph(5, index));
            let answer = cloud.answer(&asked, temperature, 6, index).expect("a service");
            assert_eq!(*answer.service(), asked.service);
            let shape = (Some(answer.num_edges()), Some(answer.depth()));
            others += u32::from(shape != (asked.num_edges, asked.depth));
        }
        assert!(others <= most, "{temperature}: {others}");
    }
    let known = crate::graph::condition_of(&cloud.graph(5, 0));
    let asked = Condition { service: "S_unknown".into(), ..known };
    assert_eq!(cloud.answer(&asked, 1.0, 6, 0), None);
}
