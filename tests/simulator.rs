//! The simulator keeps to the distribution that it states.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use tracegym::data::simulator::{
    Cloud, Communication, RawDefects, RawRows, ShapeWeights, SimulatorConfig, UNCOMMON,
};
use tracegym::data::{BuildOptions, Dataset, DatasetManifest, SplitSpec, build};
use tracegym::graph::{CallGraph, CallRow};

const GRAPHS: u64 = 50_000;

/// Asserts that `count` of `trials` is a plausible outcome of probability `p`. By Chernoff's bound
/// chance breaks this with a probability below 2 e⁻¹⁸: 1 in 30 million.
fn assert_plausible(count: u64, trials: u64, p: f64, what: &str) {
    let observed = count as f64 / trials as f64;
    let term = |q: f64, p: f64| if q == 0.0 { 0.0 } else { q * (q / p).ln() };
    let divergence = term(observed, p) + term(1.0 - observed, 1.0 - p);
    assert!(
        // Rounding may put a certain event at 1 − 1e-16.
        (observed - p).abs() < 1e-9 || trials as f64 * divergence < 18.0,
        "{what}: {count} of {trials} graphs, where {p} is true"
    );
}

fn communications(graph: &CallGraph) -> BTreeMap<Communication, u64> {
    let mut counts = BTreeMap::new();
    for row in graph.rows() {
        let (source, kind, destination) = (row.source, row.kind, row.destination);
        *counts.entry(Communication { source, kind, destination }).or_default() += 1;
    }
    counts
}

#[test]
fn frequencies_agree_with_the_truth() {
    frequencies_agree(&SimulatorConfig::default());
}

#[test]
fn frequencies_of_branching_graphs_agree_with_the_truth() {
    let shapes = ShapeWeights { branching: 1.0, ..ShapeWeights::default() };
    frequencies_agree(&SimulatorConfig { shapes, ..SimulatorConfig::default() });
}

fn frequencies_agree(config: &SimulatorConfig) {
    let cloud = Cloud::new(config).expect("possible");
    let mut graphs_of = vec![0; cloud.services().len()];
    let mut having: Vec<BTreeMap<Communication, u64>> = vec![BTreeMap::new(); graphs_of.len()];
    let mut shapes: Vec<BTreeMap<(u32, u32), u64>> = vec![BTreeMap::new(); graphs_of.len()];
    // Sum and sum of squares of each communication's calls per graph.
    let mut calls: BTreeMap<Communication, (u64, u64)> = BTreeMap::new();
    for index in 0..GRAPHS {
        let graph = cloud.graph(0, index);
        let service = cloud.service(graph.service()).expect("a service of the cloud");
        graphs_of[service] += 1;
        *shapes[service].entry((graph.num_edges(), graph.depth())).or_default() += 1;
        for (communication, count) in communications(&graph) {
            *having[service].entry(communication.clone()).or_default() += 1;
            let sums = calls.entry(communication).or_default();
            *sums = (sums.0 + count, sums.1 + count * count);
        }
    }

    for (service, &graphs) in graphs_of.iter().enumerate() {
        let name = &cloud.services()[service];
        assert_plausible(graphs, GRAPHS, cloud.service_probability(service), name);
        if graphs == 0 {
            continue;
        }
        let truth = cloud.communications(service);
        for communication in having[service].keys() {
            assert!(truth.contains_key(communication), "{name} cannot have {communication:?}");
        }
        for (communication, frequency) in &truth {
            let count = having[service].get(communication).copied().unwrap_or(0);
            let what = format!("{name} {communication:?}");
            assert_plausible(count, graphs, frequency.probability, &what);
        }
        let truth = cloud.shapes(service);
        for shape in shapes[service].keys() {
            assert!(truth.contains_key(shape), "{name} cannot have {shape:?}");
        }
        for (shape, probability) in &truth {
            let count = shapes[service].get(shape).copied().unwrap_or(0);
            assert_plausible(count, graphs, *probability, &format!("{name} {shape:?}"));
        }
    }

    // Mean number in a graph.
    let mut true_means: BTreeMap<Communication, f64> = BTreeMap::new();
    for service in 0..graphs_of.len() {
        for (communication, frequency) in cloud.communications(service) {
            *true_means.entry(communication).or_default() +=
                cloud.service_probability(service) * frequency.mean;
        }
    }
    for (communication, true_mean) in true_means {
        let (sum, squares) = calls.get(&communication).copied().unwrap_or_default();
        let mean = sum as f64 / GRAPHS as f64;
        let error = ((squares as f64 / GRAPHS as f64 - mean * mean) / GRAPHS as f64).sqrt();
        // Of rarer ones the error cannot be told from the sample.
        if true_mean * GRAPHS as f64 > 500.0 {
            let distance = (mean - true_mean).abs();
            assert!(distance < 5.0 * error, "{communication:?}: {mean} ± {error}, {true_mean}");
        }
    }
}

#[test]
fn the_truth_is_consistent_with_itself() {
    let cloud = Cloud::new(&SimulatorConfig::default()).expect("possible");
    let probabilities = (0..cloud.services().len()).map(|s| cloud.service_probability(s));
    assert!((probabilities.sum::<f64>() - 1.0).abs() < 1e-12);
    let mut uncommon = 0;
    for service in 0..cloud.services().len() {
        let sizes = cloud.num_edges(service);
        let true_mean: f64 = cloud.communications(service).values().map(|f| f.mean).sum();
        let mean: f64 = sizes.iter().map(|(size, p)| f64::from(*size) * p).sum();
        assert!((sizes.values().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!((mean - true_mean).abs() < 1e-8);
        let branches = cloud.branches(service);
        assert_eq!(branches[0].frequency.probability, 1.0);
        for branch in &branches[1..] {
            let parent = &branches[branch.parent.expect("not the root")];
            assert!(branch.frequency.probability <= parent.frequency.probability + 1e-12);
            assert!(branch.frequency.probability <= branch.frequency.mean + 1e-12);
        }
        let truth = cloud.communications(service);
        let rare: BTreeSet<_> = cloud.uncommon(service);
        uncommon += rare.len();
        assert!(rare.iter().all(|communication| truth[communication].probability < UNCOMMON));
    }
    assert!(uncommon > 100, "{uncommon} uncommon communications");
}

#[test]
fn requests_to_one_service_follow_its_own_distribution() {
    let cloud = Cloud::new(&SimulatorConfig::default()).expect("possible");
    let service = (0..20).max_by_key(|&service| cloud.shapes(service).len()).expect("services");
    let mut shapes: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    for index in 0..5_000 {
        let graph = cloud.graph_of(service, 3, index).expect("exists");
        assert_eq!(*graph.service(), cloud.services()[service]);
        *shapes.entry((graph.num_edges(), graph.depth())).or_default() += 1;
    }
    for (shape, probability) in cloud.shapes(service) {
        let count = shapes.get(&shape).copied().unwrap_or(0);
        assert_plausible(count, 5_000, probability, &format!("{shape:?}"));
    }
    assert!(cloud.graph_of(300, 0, 0).is_err());
}

/// Preprocesses the raw rows of the first 4,096 graphs of stream 9.
fn preprocessed(cloud: &Cloud, defects: RawDefects) -> Dataset {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("CallGraph_0.csv");
    let block = RawRows::new(cloud, 9, defects).expect("possible").block(0);
    std::fs::write(&path, [tracegym::data::raw::HEADER.as_bytes(), &block.text].concat())
        .expect("written");
    let source = serde_json::json!({"kind": "alibaba-v2022", "path": path});
    let manifest = DatasetManifest {
        skip_bad_rows: false,
        prompts: None,
        name: "raw".into(),
        source: serde_json::from_value(source).expect("a source"),
        split: SplitSpec::default(),
        graphs: None,
        max_graphs: None,
        folder: None,
    };
    build(&manifest, &BuildOptions::new(dir.path())).expect("raw rows can be read")
}

#[test]
fn preprocessing_raw_rows_gives_the_graphs_back() {
    let cloud = Cloud::new(&SimulatorConfig::default()).expect("possible");
    let contents = |graph: &CallGraph| (graph.service().to_string(), graph.rows());
    let all: HashSet<(String, Vec<CallRow>)> =
        (0..4096).map(|index| contents(&cloud.graph(9, index))).collect();
    let clean = preprocessed(&cloud, RawDefects::none());
    let found: HashSet<_> = clean.graphs().iter().map(contents).collect();
    assert!(found == all && clean.graphs().len() == all.len());

    // Defects cost graphs, and may leave smaller valid ones, but no more than there are traces.
    let damaged = preprocessed(&cloud, RawDefects::default());
    let intact = damaged.graphs().iter().filter(|graph| all.contains(&contents(graph))).count();
    assert!(intact * 3 > all.len() && intact * 10 < all.len() * 9, "{intact} of {}", all.len());
    assert!(damaged.graphs().len() < 4096);
}
