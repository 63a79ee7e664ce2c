use burn::tensor::Device;
use proptest::prelude::*;
use rand::RngExt;
use rand::seq::SliceRandom;

use super::diffusion::{EDGE_TYPES, NO_CALL, USER_NODE, possible, posterior};
use super::network::{Batch, logits};
use super::sample::maximum_arborescence;
use super::*;
use crate::generators::tests::{call_error, condition, generate, train_only};
use crate::graph::ViolationCode;
use crate::model::neural::Tensors;
use crate::testing::{any_graph, paper_example};

/// Trains in a moment.
const TINY: &str = "steps = 5\nlayers = 1\nwidth = 8\npair_width = 8\ngraph_width = 8\nheads = 2\n\
    diffusion_steps = 6";

type Matrix = Vec<Vec<f64>>;

/// α·I + (1 − α)·1mᵀ, as the paper writes it down: row of the type before, column of the type after.
fn transition(kept: f64, marginal: &[f64]) -> Matrix {
    let row = |from: usize| {
        let entry = |to: usize| (1.0 - kept) * marginal[to] + if from == to { kept } else { 0.0 };
        (0..marginal.len()).map(entry).collect()
    };
    (0..marginal.len()).map(row).collect()
}

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let entry = |row: &Vec<f64>, column: usize| -> f64 {
        row.iter().zip(b).map(|(value, b)| value * b[column]).sum()
    };
    a.iter().map(|row| (0..b[0].len()).map(|column| entry(row, column)).collect()).collect()
}

/// The product of all steps' transitions up to `step`.
fn transitions(schedule: &NoiseSchedule, marginal: &[f64], step: usize) -> Matrix {
    (1..=step).fold(transition(1.0, marginal), |all, step| {
        product(&all, &transition(schedule.kept_in(step), marginal))
    })
}

const MARGINAL: [f64; 4] = [0.5, 0.3, 0.15, 0.05];

#[test]
fn noise_is_the_product_of_its_steps() {
    let schedule = NoiseSchedule::new(7);
    for step in 0..=7 {
        let steps = transitions(&schedule, &MARGINAL, step);
        let closed = transition(schedule.kept(step), &MARGINAL);
        for (a, b) in steps.iter().flatten().zip(closed.iter().flatten()) {
            assert!((a - b).abs() < 1e-12, "{step}");
        }
    }
    assert!(schedule.kept(0) == 1.0 && schedule.kept(7) < 1e-3);
    let marginal = Marginal(MARGINAL.to_vec());
    let mut rng = random::stream(1, "test", &[]);
    let mut counts = [0.0f64; 4];
    (0..40_000).for_each(|_| counts[marginal.noise(2, 0.4, &mut rng)] += 1.0 / 40_000.0);
    for (found, expected) in counts.iter().zip([0.3, 0.18, 0.49, 0.03]) {
        assert!((found - expected).abs() < 0.01, "{counts:?}");
    }
}

/// Σ over x of q(z before | noisy, x) p(x), with Bayes' rule on explicit matrices.
#[test]
fn posteriors_are_those_of_bayes_rule() {
    let schedule = NoiseSchedule::new(5);
    let marginal = Marginal(MARGINAL.to_vec());
    let clean = [0.1, 0.2, 0.3, 0.4];
    for step in 1..=5 {
        let one = transition(schedule.kept_in(step), &MARGINAL);
        let (before, after) =
            (transitions(&schedule, &MARGINAL, step - 1), transitions(&schedule, &MARGINAL, step));
        for noisy in 0..4 {
            let expected = |z: usize| -> f64 {
                (0..4).map(|x| clean[x] * before[x][z] * one[z][noisy] / after[x][noisy]).sum()
            };
            let mut weights = clean.to_vec();
            posterior(&schedule, step, &marginal, noisy, &mut weights);
            let total: f64 = weights.iter().sum();
            for (z, weight) in weights.iter().enumerate() {
                let expected = expected(z);
                assert!((weight / total - expected).abs() < 1e-9, "{step} {noisy} {z}");
            }
        }
    }
}

fn shape(positions: bool) -> DigressShape {
    let settings = DigressSettings {
        positions,
        layers: 2,
        width: 12,
        pair_width: 8,
        graph_width: 6,
        heads: 2,
        diffusion_steps: 10,
        ..DigressSettings::default()
    };
    Tables::learn(&settings, &[&paper_example()]).shape()
}

/// Any directed graph of `calls` calls, dense enough for every kind of defect.
fn any_state(shape: &DigressShape, calls: usize, seed: u64) -> State {
    let mut rng = random::stream(seed, "state", &[]);
    let types = (0..calls).map(|_| rng.random_range(0..shape.types)).collect();
    let mut state = State::empty(types);
    for parent in 0..=calls {
        for child in 0..=calls {
            if possible(parent, child, shape.positions) && rng.random_bool(0.4) {
                state.set(parent, child, rng.random_range(0..EDGE_TYPES));
            }
        }
    }
    state
}

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    }
}

#[test]
fn drawing_and_training_compute_the_same_function() {
    for positions in [false, true] {
        let shape = shape(positions);
        let parameters = Parameters::initial(&shape.layout(), 3);
        let wish = |calls| Wish { service: 1, calls, depth: 2, latency: 1 };
        let (mut all, network) = (Batch::default(), Network::new(&shape, &parameters));
        let mut alone = (Vec::new(), Vec::new());
        for (calls, step) in [(3, 2), (1, 10), (6, 5)] {
            let state = any_state(&shape, calls, step as u64);
            all.push(&shape, &state, &wish(calls), step);
            let mut batch = Batch::default();
            batch.push(&shape, &state, &wish(calls), step);
            let (nodes, pairs) = network.logits(&batch);
            alone.0.extend(nodes);
            alone.1.extend(pairs);
        }
        let tensors = Tensors::new(&parameters, &Device::flex());
        let (nodes, pairs) = logits(&shape, &tensors, &all);
        let values = |tensor: burn::tensor::Tensor<2>| -> Vec<f32> {
            tensor.into_data().try_into_vec().expect("f32")
        };
        close(&values(nodes), &alone.0);
        close(&values(pairs), &alone.1);
    }
}

/// Nodes in another order have the same logits in that order; with positions they do not.
#[test]
fn the_network_is_equivariant_unless_it_knows_positions() {
    for positions in [false, true] {
        let shape = shape(positions);
        let network = Network::new(&shape, &Parameters::initial(&shape.layout(), 5));
        let logits = |state: &State| {
            let mut batch = Batch::default();
            batch.push(&shape, state, &Wish { service: 0, calls: 5, depth: 0, latency: 0 }, 3);
            network.logits(&batch)
        };
        let state = any_state(&DigressShape { positions: false, ..shape.clone() }, 5, 1);
        let mut order: Vec<usize> = (1..=5).collect();
        order.shuffle(&mut random::stream(2, "test", &[]));
        order.insert(0, USER_NODE);
        let mut moved = State::empty(order[1..].iter().map(|node| state.types[node - 1]).collect());
        for (parent, &from) in order.iter().enumerate() {
            for (child, &to) in order.iter().enumerate() {
                moved.set(parent, child, state.edge(from, to));
            }
        }
        let (nodes, pairs) = logits(&state);
        let (moved_nodes, moved_pairs) = logits(&moved);
        let rows = |values: &[f32], width: usize, row: usize| {
            values[row * width..(row + 1) * width].to_vec()
        };
        let (mut expected_nodes, mut expected_pairs) = (Vec::new(), Vec::new());
        for &from in &order {
            expected_nodes.extend(rows(&nodes, shape.types, from));
            order
                .iter()
                .for_each(|to| expected_pairs.extend(rows(&pairs, EDGE_TYPES, from * 6 + to)));
        }
        if positions {
            let differ = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-3;
            assert!(moved_pairs.iter().zip(&expected_pairs).any(differ));
        } else {
            close(&moved_nodes, &expected_nodes);
            close(&moved_pairs, &expected_pairs);
        }
    }
}

/// The highest sum over all choices of parents that make a tree in which the user makes one call.
fn best_by_trying(nodes: usize, scores: &[Vec<Option<f64>>]) -> Option<f64> {
    let mut best: Option<f64> = None;
    for code in 0..nodes.pow(nodes as u32 - 1) {
        let parents: Vec<usize> =
            (0..nodes - 1).map(|place| code / nodes.pow(place as u32) % nodes).collect();
        let rooted = |mut node: usize| {
            for _ in 0..nodes {
                if node == 0 {
                    return true;
                }
                node = parents[node - 1];
            }
            false
        };
        let one_root = parents.iter().filter(|parent| **parent == 0).count() == 1;
        if one_root && (1..nodes).all(rooted) {
            let sum: Option<f64> =
                parents.iter().enumerate().map(|(node, parent)| scores[*parent][node + 1]).sum();
            best = match (best, sum) {
                (Some(best), Some(sum)) => Some(best.max(sum)),
                (best, sum) => sum.or(best),
            };
        }
    }
    best
}

proptest! {
    /// As good as the best of all trees of up to four calls, some edges missing.
    #[test]
    fn arborescences_are_the_best_of_all_trees(
        nodes in 2usize..6,
        scores in prop::collection::vec(prop::collection::vec(
            prop::option::weighted(0.8, (-20i32..20).prop_map(f64::from)), 5), 5),
    ) {
        let found = maximum_arborescence(nodes, |parent, child| scores[parent][child]);
        let mut given: Vec<Vec<Option<f64>>> = scores.clone();
        (0..5).for_each(|node| given[node][node] = None);
        let best = best_by_trying(nodes, &given);
        prop_assert_eq!(found.is_some(), best.is_some());
        if let Some(parents) = found {
            prop_assert_eq!(parents.iter().skip(1).filter(|parent| **parent == 0).count(), 1);
            let sum: f64 =
                (1..nodes).map(|child| scores[parents[child]][child].expect("an edge")).sum();
            prop_assert_eq!(Some(sum), best);
        }
    }
}

#[test]
fn what_is_no_tree_is_named() {
    let state = |edges: &[(usize, usize)]| {
        let mut state = State::empty(vec![0, 1, 2]);
        edges.iter().for_each(|(parent, child)| state.set(*parent, *child, 1));
        state
    };
    let code = |edges: &[(usize, usize)]| sample::violation(&state(edges)).map(|found| found.code);
    assert_eq!(code(&[(0, 2), (2, 1), (2, 3)]), None);
    assert_eq!(code(&[(1, 2), (2, 3)]), Some(ViolationCode::NoRoot));
    assert_eq!(code(&[(0, 1), (0, 2), (2, 3)]), Some(ViolationCode::SecondRoot));
    assert_eq!(code(&[(0, 1), (1, 2)]), Some(ViolationCode::MissingParent));
    assert_eq!(code(&[(0, 1), (1, 2), (1, 3), (2, 3)]), Some(ViolationCode::DuplicateEdgeId));
    assert_eq!(code(&[(0, 1), (2, 3), (3, 2)]), Some(ViolationCode::MissingParent));
}

#[test]
fn a_graph_and_its_state_agree() {
    let graph = paper_example();
    let tables = Tables::learn(&DigressSettings::default(), &[&graph]);
    let Example { state, wish } = tables.example(&graph);
    assert_eq!((wish.calls, wish.depth), (7, 3));
    assert_eq!(sample::violation(&state), None);
    let edges =
        (0..8).map(|parent| (0..8).filter(|child| state.edge(parent, *child) != NO_CALL).count());
    assert_eq!(edges.collect::<Vec<_>>(), [1, 4, 2, 0, 0, 0, 0, 0]);
    // Depth first: no call leads to an earlier node.
    assert!((0..8).all(|child| (child..8).all(|parent| state.edge(parent, child) == NO_CALL)));
}

/// LEARNT
#[test]
fn the_calls_of_a_simulated_cloud_are_learnt() {
    let extra = std::env::var("DIG").unwrap_or_default();
    let started = std::time::Instant::now();
    let (error, of_sample) = call_error(ID, &extra, 1);
    println!("{extra} {error} {of_sample} {:?}", started.elapsed());
    assert!(error < 0.25 && of_sample < 0.05, "{error} {of_sample}");
}

#[test]
fn answers_do_not_depend_on_each_other() {
    let dataset = train_only(vec![paper_example()]);
    let conditions: Vec<Condition> =
        (0..6).map(|latency| condition("S_000034483", Some(latency))).collect();
    let all = generate(ID, TINY, &dataset, &conditions, 3);
    assert_eq!(all[..2], generate(ID, TINY, &dataset, &conditions[..2], 3));
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    assert_eq!(all, one.install(|| generate(ID, TINY, &dataset, &conditions, 3)));
}

#[test]
fn a_training_can_be_decoded_in_another_way() {
    let dataset = train_only(vec![paper_example()]);
    let (base, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fit = |settings: &str, base: Option<&Path>, out: &Path| {
        let context = FitContext {
            dataset: &dataset,
            seed: 1,
            device: DeviceChoice::Cpu,
            base,
            out,
            scratch: out,
            progress: crate::progress::Progress::Quiet,
        };
        build(&settings.parse().expect("TOML")).expect("settings").fit(&context)
    };
    fit(TINY, None, base.path()).expect("fits");
    let tree = format!("decode = \"arborescence\"\n{TINY}");
    fit(&tree, Some(base.path()), out.path()).expect("goes on");
    let parameters = |dir: &Path| std::fs::read(dir.join(PARAMETERS)).expect("parameters");
    assert_eq!(parameters(base.path()), parameters(out.path()));
    let tables: Tables = tables::load(out.path()).expect("tables");
    assert_eq!(tables.settings.decode, Decode::Arborescence);
    let other = format!("{tree}\nlearning_rate = 0.5");
    let error = fit(&other, Some(base.path()), out.path()).expect_err("other settings").to_string();
    assert!(error.contains("learning_rate: 0.5"), "{error}");
}

#[test]
fn settings_that_cannot_be_are_refused() {
    for (text, words) in [
        ("max_call = 3", "max_call"),
        ("max_calls = 0", "max_calls = 0; use 1 to 256"),
        ("heads = 5", "heads = 5; use a multiple"),
        ("steps = 0", "steps = 0"),
        ("learning_rate = -1.0", "learning_rate = -1"),
        ("decode = \"tree\"", "decode"),
    ] {
        let error = build(&text.parse().expect("TOML")).err().expect("refused").to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn training_without_a_small_graph_is_refused() {
    let dataset = train_only(vec![paper_example()]);
    let recipe = build(&"max_calls = 3".parse().expect("TOML")).expect("settings");
    let out = tempfile::tempdir().expect("a folder");
    let context = FitContext {
        dataset: &dataset,
        seed: 1,
        device: DeviceChoice::Cpu,
        base: None,
        out: out.path(),
        scratch: out.path(),
        progress: crate::progress::Progress::Quiet,
    };
    let error = recipe.fit(&context).expect_err("nothing to learn from").to_string();
    assert!(error.contains("max_calls = 3") && error.contains("raise it"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    /// Trees are valid whatever was learnt, within the limit, also for a service that training
    /// lacks; what is drawn is valid or a failure.
    #[test]
    fn answers_are_trees_or_failures(
        graphs in prop::collection::vec(any_graph(9), 1..6),
        positions in any::<bool>(),
    ) {
        let dataset = train_only(graphs);
        let mut conditions = ["S_000000000", "S_new"].map(|service| condition(service, Some(7)));
        conditions[0].num_edges = Some(50);
        conditions[0].depth = Some(9_999);
        for decode in ["sampled", "arborescence"] {
            let settings = format!("{TINY}\nmax_calls = 12\npositions = {positions}\ndecode = {decode:?}");
            let answers = generate(ID, &settings, &dataset, &conditions, 3);
            for (condition, answer) in conditions.iter().zip(&answers) {
                let service = condition.service.clone();
                let graph = CallGraph::from_rows(service, &answer.rows);
                prop_assert!(decode == "sampled" || answer.failure.is_none());
                if answer.failure.is_none() {
                    let graph = graph.expect("a tree");
                    prop_assert_eq!(graph.latency(), 7);
                    prop_assert!(condition.num_edges.is_none() || graph.num_edges() == 12);
                }
            }
        }
    }
}
