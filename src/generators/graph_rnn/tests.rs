use burn::tensor::Device;
use proptest::prelude::*;

use super::growth::{Example, Growth, Inputs};
use super::network::{Batch, losses};
use super::vocabulary::{Asked, COUNTS, MAGNITUDES, NO_CALL, count, magnitude};
use super::*;
use crate::data::simulator::{Cloud, SimulatorConfig};
use crate::generators::tests::{call_error, condition, generate, train_only};
use crate::graph::{Call, CallGraph, CallRow, EdgeId, USER};
use crate::model::neural::Tensors;
use crate::progress::Progress;
use crate::testing::{any_graph, paper_example, row};

/// Enough for tests of what does not depend on what is learnt.
const TINY: &str = "steps = 3\nbatch = 4\nhidden = 8\nedge_hidden = 8\nembedding = 4\n";
const LEVELS: [&str; 2] = ["scan", "children"];

fn tiny(level: &str) -> String {
    format!("{TINY}edge_level = \"{level}\"\nlayers = 2\nedge_layers = 2\n")
}

fn read(text: &str) -> RnnSettings {
    settings(ID, &text.parse().expect("TOML")).expect("settings")
}

fn few_graphs() -> Vec<CallGraph> {
    let cloud = Cloud::new(&SimulatorConfig { services: 5, ..SimulatorConfig::default() });
    let cloud = cloud.expect("a cloud");
    (0..40).map(|index| cloud.graph(1, index)).collect()
}

fn asked_of(vocabulary: &RnnVocabulary, graph: &CallGraph) -> Asked {
    vocabulary.asked(&Condition {
        num_edges: Some(graph.num_edges()),
        depth: Some(graph.depth()),
        ..condition(graph.service(), Some(graph.latency()))
    })
}

fn example(vocabulary: &RnnVocabulary, graph: &CallGraph, level: EdgeLevel) -> Example {
    let growth = Growth::new(vocabulary, asked_of(vocabulary, graph), level);
    Example::new(graph, growth, 999)
}

/// The calls in breadth-first order: by depth, then as they stand.
fn breadth_first(graph: &CallGraph) -> Vec<Call> {
    let mut calls = graph.calls().to_vec();
    calls.sort_by_key(|call| call.depth);
    calls
}

/// −log softmax(logits)[class], nats.
fn surprise(logits: &[f32], class: usize) -> f64 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
    sum.ln() - f64::from(logits[class] - highest)
}

/// What drawing would think of `graph`: negative log-likelihood of labels and ends, and of times.
fn surprise_of(
    model: &TrainedRnn,
    vocabulary: &RnnVocabulary,
    level: EdgeLevel,
    graph: &CallGraph,
) -> [f64; 2] {
    let mut growth = Growth::new(vocabulary, asked_of(vocabulary, graph), level);
    let example = example(vocabulary, graph, level);
    let mut order = breadth_first(graph).into_iter();
    let mut state = model.begin(&growth);
    let mut sum = [0.0; 2];
    for sequence in &example.sequences {
        let mut edge = model.start(&growth, &state);
        for step in &sequence.steps {
            let logits = model.labels(&growth, &mut edge);
            sum[0] += surprise(&logits, step.label);
            let Some(times) = &step.times else {
                growth.advance();
                continue;
            };
            let call = order.next().expect("as many calls as labels");
            sum[1] += surprise(&model.gaps(&growth, &edge, step.label), times.gap);
            let responses = model.responses(&growth, &edge, step.label, call.start);
            sum[1] += surprise(&responses, times.response);
            growth.attach(step.label, call.start, call.finish);
            model.read(&growth, &mut state);
        }
    }
    assert!(growth.is_done());
    sum
}

/// The loss of packed batches on Burn is what the host computes one decision at a time.
#[test]
fn drawing_computes_what_training_does() {
    let graphs = few_graphs();
    let references: Vec<&CallGraph> = graphs.iter().collect();
    let vocabulary = RnnVocabulary::learn(&references, 8);
    for level in LEVELS {
        let settings = read(&tiny(level));
        let shape = settings.shape();
        let parameters = Parameters::initial(&layout(&shape, &vocabulary), 3);
        let model = TrainedRnn::new(&settings, vocabulary.clone(), &parameters);
        let level = settings.edge_level;
        let examples = graphs.iter().map(|graph| example(&vocabulary, graph, level)).collect();
        let batch = Batch::new(examples, &Inputs::new(&vocabulary));
        let tensors = Tensors::new(&parameters, &Device::flex());
        let found = losses(&tensors, &shape, &batch).map(|loss| loss.into_scalar::<f32>());
        let mut expected = [0.0; 2];
        for graph in &graphs {
            let of_graph = surprise_of(&model, &vocabulary, level, graph);
            expected.iter_mut().zip(of_graph).for_each(|(sum, value)| *sum += value);
        }
        for (found, expected) in found.into_iter().zip(expected) {
            let found = f64::from(found);
            assert!((found / expected - 1.0).abs() < 1e-5, "{level:?} {found} {expected}");
        }
    }
}

/// Both kinds of runs take the same decisions: each call once, each call's end once; a scan starts anew
/// after every call, a list with every parent.
#[test]
fn runs_of_the_edge_level() {
    let graph = paper_example();
    let vocabulary = RnnVocabulary::learn(&[&graph], 8);
    for (level, lengths) in [
        (EdgeLevel::Children, vec![1, 5, 3, 1, 1, 1, 1, 1]),
        // The last scan finds no parent.
        (EdgeLevel::Scan, vec![1, 1, 1, 1, 1, 2, 1, 6]),
    ] {
        let example = example(&vocabulary, &graph, level);
        let found: Vec<usize> = example.sequences.iter().map(|s| s.steps.len()).collect();
        assert_eq!(found, lengths, "{level:?}");
        assert_eq!(example.calls.len(), 1 + graph.calls().len());
    }
}

/// The share of each communication in all calls is what a model of graphs must know. Requests name
/// the service alone, so that training must often leave the rest out; 4,000 graphs are themselves 0.02
/// from the truth. After the few seconds that a test may take, 0.35 was measured.
#[test]
fn the_calls_of_a_simulated_cloud_are_learnt() {
    let (error, of_sample) = call_error(ID, &format!("{LEARNING}leave_out = 0.8\n"), 1);
    assert!(error < 0.45 && of_sample < 0.05, "{error} {of_sample}");
}

/// Small, but enough for ten services.
const LEARNING: &str = "steps = 700\nlearning_rate = 1e-2\nbatch = 32\nhidden = 48\nedge_hidden = 48\nembedding = 32\n";

/// Requests steer: the same service, with 1 to 6 calls and times that only the latency tells.
#[test]
fn num_edges_are_followed_and_times_stay_within_the_latency() {
    let graphs: Vec<CallGraph> = (0..600).map(chain_of_children).collect();
    let wanted = |index: u32| Condition {
        num_edges: Some(index % 6 + 1),
        ..condition("S_1", Some(100 * (index % 3 + 1)))
    };
    let conditions: Vec<Condition> = (0..60).map(wanted).collect();
    let answers = generate(ID, LEARNING, &train_only(graphs), &conditions, 3);
    let followed = |(condition, answer): (&Condition, &Generated)| {
        let graph = CallGraph::from_rows("S_1".into(), &answer.rows).expect("valid");
        assert_eq!(Some(graph.latency()), condition.latency);
        Some(graph.num_edges()) == condition.num_edges
    };
    let right = conditions.iter().zip(&answers).filter(|pair| followed(*pair)).count();
    assert!(right >= 54, "{right} of 60");
}

fn chain_of_children(index: u32) -> CallGraph {
    let latency = 100 * (index / 6 % 3 + 1);
    let mut rows = vec![row("0", USER, "MS_1", "http", 0, latency)];
    for child in 1..=index % 6 {
        let (start, finish) = (child * 10, child * 10 + latency / 20);
        rows.push(row(&format!("0.{child}"), "MS_1", "MS_2", "rpc", start, finish));
    }
    CallGraph::from_rows("S_1".into(), &rows).expect("valid")
}

/// Neither threads nor batch size nor the other conditions change an answer, and training twice gives
/// the same parameters.
#[test]
fn answers_are_addressed() {
    let graphs = few_graphs();
    let dataset = train_only(graphs.clone());
    let conditions: Vec<Condition> =
        graphs.iter().map(|graph| condition(graph.service(), None)).collect();
    let settings = tiny("children");
    let answers = generate(ID, &settings, &dataset, &conditions, 3);
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    let fewer = one.install(|| generate(ID, &settings, &dataset, &conditions[..7], 3));
    assert_eq!(&answers[..7], &fewer[..]);
    let other = generate(ID, &settings, &dataset, &conditions, 4);
    assert_ne!(answers, other);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    for (text, words) in [
        ("step = 3", "step"),
        ("steps = 0", "steps = 0: must be from 1 to"),
        ("layers = 0", "layers = 0 cannot be; use 1 to 16"),
        ("max_calls = 0", "max_calls = 0 cannot be; use 1"),
        ("learning_rate = 0.0", "learning_rate = 0 cannot be; use"),
        ("learning_rate = nan", "learning_rate = NaN cannot be; use"),
        ("leave_out = 1.5", "leave_out = 1.5 is no probability; use 0 to 1"),
        ("edge_level = \"matrix\"", "scan"),
    ] {
        let error = build(&text.parse().expect("TOML")).err().expect("refused").to_string();
        assert!(error.contains(words) && error.contains("graph-rnn"), "{error}");
    }
}

#[test]
fn a_model_of_other_sizes_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let graphs = vec![paper_example()];
    let dataset = train_only(graphs);
    let fit = |text: &str| build(&text.parse().expect("TOML")).expect("a recipe");
    let context = FitContext {
        dataset: &dataset,
        seed: 1,
        device: DeviceChoice::Cpu,
        base: None,
        out: dir.path(),
        scratch: dir.path(),
        progress: Progress::Quiet,
    };
    fit(TINY).fit(&context).expect("fits");
    let error = fit("").load(dir.path(), None, DeviceChoice::Cpu).err().expect("refused");
    assert!(error.to_string().contains("call.inputs"), "{error}");
}

/// No training graphs: nothing is known, and nothing panics.
#[test]
fn nothing_to_learn_from_gives_empty_answers() {
    let answers = generate(ID, TINY, &train_only(Vec::new()), &[condition("S_1", Some(3))], 3);
    assert_eq!(answers, [Generated::default()]);
}

#[test]
fn classes_of_numbers_ascend() {
    assert_eq!([magnitude(None), magnitude(Some(0)), magnitude(Some(1))], [0, 1, 5]);
    assert_eq!(magnitude(Some(u32::MAX)), MAGNITUDES - 1);
    assert_eq!([count(None), count(Some(0)), count(Some(7))], [0, 1, 8]);
    assert_eq!(count(Some(u32::MAX)), COUNTS - 1);
    assert!((0..5_000).all(|n| magnitude(Some(n)) <= magnitude(Some(n + 1))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    /// Valid graphs within the limit from a network that has hardly learnt anything, also for a
    /// service that training lacks, for requests that cannot be met, and after graphs that are longer
    /// than the limit.
    #[test]
    fn graphs_are_valid(graphs in prop::collection::vec(any_graph(15), 1..6), scan: bool) {
        let dataset = train_only(graphs);
        let level = LEVELS[usize::from(!scan)];
        let settings = format!("{}max_calls = 9", tiny(level));
        let conditions = [
            condition("S_000000000", Some(7)),
            condition("S_new", Some(0)),
            Condition { num_edges: Some(u32::MAX), depth: Some(0), ..condition("S_new", None) },
        ];
        let answers = generate(ID, &settings, &dataset, &conditions, 3);
        for (condition, answer) in conditions.iter().zip(&answers) {
            let graph = CallGraph::from_rows(condition.service.clone(), &answer.rows).unwrap();
            prop_assert!((1..=9).contains(&graph.num_edges()));
            let latency = condition.latency.unwrap_or(graph.latency());
            prop_assert_eq!(graph.latency(), latency);
        }
    }

    /// A graph replayed through the code that draws gives its own calls back.
    #[test]
    fn a_replayed_graph_is_itself(graph in any_graph(15), scan: bool) {
        let vocabulary = RnnVocabulary::learn(&[&graph], 8);
        let level = if scan { EdgeLevel::Scan } else { EdgeLevel::Children };
        let mut growth = Growth::new(&vocabulary, asked_of(&vocabulary, &graph), level);
        let mut calls = breadth_first(&graph).into_iter();
        let example = example(&vocabulary, &graph, level);
        for step in example.sequences.iter().flat_map(|sequence| &sequence.steps) {
            if step.label == NO_CALL {
                growth.advance();
            } else {
                let call = calls.next().expect("a call for every label");
                growth.attach(step.label, call.start, call.finish);
            }
        }
        prop_assert!(growth.is_done());
        let again = CallGraph::from_rows(graph.service().clone(), &growth.rows()).unwrap();
        let plain = |graph: &CallGraph| -> Vec<CallRow> {
            let renumber = |row: CallRow| CallRow { edge_id: EdgeId::root(), ..row };
            graph.rows().into_iter().map(renumber).collect()
        };
        prop_assert_eq!(plain(&again), plain(&graph));
    }
}
