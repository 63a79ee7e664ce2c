use std::collections::VecDeque;
use std::path::Path;

use super::generation::{Recursion, Requests};
use super::*;
use crate::data::simulator::{Cloud, SimulatorConfig};
use crate::data::{Dataset, DatasetCard, Side};
use crate::generators::{Decoding, GenerateOptions};
use crate::graph::{Condition, Step, ViolationCode, steps};
use crate::model::Sampling;
use crate::model::decode::{Completion, PromptSource};
use crate::progress::{Progress, StepProgress};
use crate::random;

fn dataset(graphs: u64) -> Dataset {
    let cloud = Cloud::new(&SimulatorConfig::default()).expect("default cloud");
    let graphs: Vec<CallGraph> = (0..graphs).map(|index| cloud.graph(1, index)).collect();
    let sides = graphs.iter().map(|_| Side::Train).collect();
    Dataset::new(DatasetCard::default(), graphs, sides)
}

fn condition_of(graph: &CallGraph) -> Condition {
    Condition {
        service: graph.service().clone(),
        num_edges: Some(graph.num_edges()),
        depth: Some(graph.depth()),
        latency: Some(graph.latency()),
        requests: Vec::new(),
    }
}

type Build = fn(&toml::Table) -> Result<Box<dyn Recipe>>;

fn fit(dataset: &Dataset, build: Build, table: &str, out: &Path) -> FitReport {
    let scratch = tempfile::tempdir().expect("temp dir");
    let recipe = build(&table.parse().expect("toml")).expect("settings");
    let context = FitContext {
        dataset,
        seed: 5,
        device: DeviceChoice::Cpu,
        base: None,
        out,
        scratch: scratch.path(),
        progress: Progress::Quiet,
    };
    recipe.fit(&context).expect("fits")
}

const TINY: &str = "size = \"xs\"\ntokens = 40000\nbatch_tokens = 512\ncontext = 512\n\
    evaluate_every = 20\ncheckpoints = [0.5]\nlearning_rate = 5e-3\nwarmup_steps = 10";

#[test]
fn layers_are_learnt_and_answers_depend_on_their_address_alone() {
    learns(recursive);
}

#[test]
fn instructions_are_learnt_and_answers_depend_on_their_address_alone() {
    learns(instruction);
}

#[test]
fn tables_are_learnt_and_answers_depend_on_their_address_alone() {
    learns(tabular);
}

fn learns(build: Build) {
    let dataset = dataset(150);
    let out = tempfile::tempdir().expect("temp dir");
    let report = fit(&dataset, build, TINY, out.path());
    assert_eq!(report.checkpoints.len(), 2);
    let log = std::fs::read_to_string(out.path().join(model::LOG_FILE)).expect("log");
    let loss = |line: &str| line.split(',').nth(2).and_then(|cell| cell.parse::<f64>().ok());
    let losses: Vec<f64> = log.lines().filter_map(loss).collect();
    assert!(losses[losses.len() - 1] < losses[0] - 1.0, "{losses:?}");

    let conditions: Vec<Condition> = dataset.graphs()[..24].iter().map(condition_of).collect();
    let recipe = build(&TINY.parse().expect("toml")).expect("settings");
    let generate = |batch: usize, count: usize, temperature: f64| {
        let generator = recipe.load(out.path(), None, DeviceChoice::Cpu).expect("loads");
        let sampling = Sampling { temperature, top_k: Some(50) };
        let (decoding, progress) = (Decoding::Free, Progress::Quiet);
        let options = GenerateOptions { seed: 9, sampling, decoding, batch, progress };
        generator.generate(&conditions[..count], &options).expect("generates")
    };
    let alone = generate(1, 24, 0.8);
    assert_eq!(alone.len(), 24);
    assert_eq!(generate(64, 24, 0.8), alone);
    assert_eq!(generate(5, 7, 0.8), alone[..7]);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("pool");
    assert_eq!(pool.install(|| generate(16, 24, 0.8)), alone);
    recipe.load(out.path(), Some(report.checkpoints[0]), DeviceChoice::Cpu).expect("checkpoint");
    recipe.load(out.path(), Some(report.checkpoints[1]), DeviceChoice::Cpu).expect("final");
}

fn requests<'a>(
    tokenizer: &'a Tokenizer,
    conditions: &'a [Condition],
    bar: &'a StepProgress,
) -> Requests<'a> {
    Requests { tokenizer, conditions, seed: 1, vocabulary: None, bar }
}

/// Answers every prompt as the graph itself would: the recursion must put it together again.
#[test]
fn the_recursion_rebuilds_graphs_from_their_steps() {
    rebuilds(Format::Recursive);
    rebuilds(Format::Compact { countdown: false });
    rebuilds(Format::Compact { countdown: true });
    rebuilds(Format::Instruction { notes: true });
}

fn rebuilds(format: Format) {
    let dataset = dataset(60);
    let graphs: Vec<&CallGraph> = dataset.graphs().iter().collect();
    let services = ServiceStatistics::new(graphs.iter().copied());
    let names = Names::new(&graphs);
    let writing = Writing::Layers(format);
    let tokenizer = learn_tokenizer(writing, &graphs, &services, &names, 1).expect("tokenizer");
    let conditions: Vec<Condition> = graphs.iter().copied().map(condition_of).collect();
    let bar = Progress::Quiet.step("test", "graphs", 0);
    let mut recursion = Recursion::new(format, requests(&tokenizer, &conditions, &bar));
    let mut rng = random::stream(1, "test", &[]);
    let mut queues: Vec<VecDeque<Step>> = graphs.iter().map(|g| steps(g).into()).collect();
    while let Some(prompt) = recursion.next() {
        let layer = &recursion.running[&prompt.id];
        let step = queues[layer.graph].pop_front().expect("a step is left");
        // A root call may start later than 0; the prompt asks for no earlier start.
        if layer.parent.is_some() {
            assert_eq!(layer.condition, step.condition);
        }
        let tokens =
            tokenizer.encode(&format.training_text(&step, &[], &mut rng).1).expect("encodes");
        recursion.complete(Completion {
            id: prompt.id,
            tokens,
            stopped: true,
            ..Completion::default()
        });
    }
    for (graph, grown) in graphs.iter().zip(&recursion.graphs) {
        assert_eq!(grown.generated.failure, None);
        let rebuilt = CallGraph::from_rows(graph.service().clone(), &grown.generated.rows);
        assert_eq!(rebuilt.as_ref(), Ok(*graph));
    }
}

const FORMAT: Format = Format::Recursive;

#[test]
fn an_answer_with_a_special_token_does_not_parse() {
    let dataset = dataset(1);
    let graph = &dataset.graphs()[0];
    let services = ServiceStatistics::default();
    let names = Names::new(&[graph]);
    let writing = Writing::Layers(FORMAT);
    let tokenizer = learn_tokenizer(writing, &[graph], &services, &names, 1).expect("tokenizer");
    let condition =
        Condition { num_edges: None, depth: None, latency: None, ..condition_of(graph) };
    let mut rng = random::stream(1, "test", &[]);
    let (_, answer) = FORMAT.training_text(&steps(graph)[0], &[], &mut rng);
    let answer = tokenizer.encode(&answer).expect("encodes");
    for (special, expected) in [(None, None), (Some(Tokenizer::PAD), Some(ViolationCode::Format))] {
        let conditions = [condition.clone()];
        let bar = Progress::Quiet.step("test", "graphs", 0);
        let mut recursion = Recursion::new(FORMAT, requests(&tokenizer, &conditions, &bar));
        let id = recursion.next().expect("a prompt").id;
        let tokens = special.into_iter().chain(answer.iter().copied()).collect();
        recursion.complete(Completion { id, tokens, stopped: true, ..Completion::default() });
        let failure = recursion.graphs[0].generated.failure.as_ref();
        assert_eq!(failure.map(|violation| violation.code), expected);
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    for (table, word) in [
        ("sise = \"s\"", "sise"),
        ("size = \"huge\"", "huge"),
        ("checkpoints = [0.5, 0.2]", "checkpoints"),
        ("checkpoints = [1.5]", "checkpoints"),
        ("learning_rate = 0.0", "learning_rate"),
        ("micro_batch_tokens = 0", "micro_batch_tokens"),
        ("precision = \"f16\"", "precision"),
    ] {
        let Err(error) = recursive(&table.parse().expect("toml")) else { panic!("{table}") };
        assert!(error.to_string().contains(word), "{error}");
    }
}

/// Files from before these settings read as ever, and are written as ever.
#[test]
fn settings_of_memory_reach_the_training_and_are_left_out_where_absent() {
    let read = |table: &str| toml::from_str::<Settings>(table).expect("settings");
    let plain = toml::Table::try_from(read("")).expect("table");
    let frugal = "micro_batch_tokens = 512\ncheckpoint_activations = true\nprecision = \"bf16\"";
    let table: toml::Table = frugal.parse().expect("toml");
    assert!(plain.contains_key("batch_tokens"));
    assert!(table.keys().all(|key| !plain.contains_key(key)), "{plain}");
    assert_eq!(read("").train_config(1, &[9]).footprint, Footprint::default());
    let footprint = Footprint {
        micro_batch_tokens: Some(512),
        checkpoint_activations: true,
        precision: Precision::Bf16,
    };
    assert_eq!(read(frugal).train_config(1, &[9]).footprint, footprint);
}

#[test]
fn requests_are_offered_where_the_graph_fulfils_them() {
    use crate::graph::Request;
    use crate::testing::row;
    // Twenty graphs; the last one is slow and holds a call that no other has, two levels down.
    let graph = |index: u32| {
        let (latency, rare) = if index == 19 { (500, "MS_9") } else { (10, "MS_3") };
        let rows = [
            row("0", "USER", "MS_1", "http", 0, latency),
            row("0.1", "MS_1", "MS_2", "rpc", 0, latency),
            row("0.1.1", "MS_2", rare, "db", 0, latency),
            row("0.1.2", "MS_2", "MS_4", "rpc", 0, latency),
            row("0.1.2.1", "MS_4", "MS_5", "mc", 0, latency),
        ];
        CallGraph::from_rows("S_1".into(), &rows).expect("valid")
    };
    let graphs: Vec<CallGraph> = (0..20).map(graph).collect();
    let services = ServiceStatistics::new(&graphs);
    let writing = Writing::Layers(Format::Instruction { notes: true });
    let offers = |graph| -> Vec<Vec<Request>> {
        let items = writing.items(graph, &services).into_iter();
        items
            .map(|item| match item {
                corpus::Item::Step { offers, .. } => offers,
                corpus::Item::Graph(_) => Vec::new(),
            })
            .collect()
    };
    assert!(offers(&graphs[3]).iter().all(Vec::is_empty));
    let found = offers(&graphs[19]);
    let words = |request: &Request| match request {
        Request::HighLatency => "slow".to_owned(),
        Request::Communication(c) => format!("{}>{}", c.source, c.destination),
    };
    let found: Vec<Vec<String>> =
        found.iter().map(|offers| offers.iter().map(words).collect()).collect();
    // p90 is 10 and the mean 34.5: a slow graph is no slower than usual by that measure.
    let rare = || vec!["MS_2>MS_9".to_owned()];
    assert_eq!(found, [rare(), rare(), rare(), Vec::new()]);
    // The prose has no words for requests.
    let plain = Writing::Layers(Format::Recursive).items(&graphs[19], &services);
    assert!(
        plain
            .iter()
            .all(|item| matches!(item, corpus::Item::Step { offers, .. } if offers.is_empty()))
    );
}

#[test]
fn a_training_that_starts_from_another_keeps_what_both_know() {
    let dataset = dataset(60);
    let (first, second) =
        (tempfile::tempdir().expect("temp dir"), tempfile::tempdir().expect("temp dir"));
    fit(&dataset, recursive, TINY, first.path());
    let base = Tokenizer::load(first.path()).expect("tokenizer");
    let config = ModelConfig::load(first.path()).expect("config");
    let weights = Weights::load(first.path(), None, &config).expect("weights");
    let scratch = tempfile::tempdir().expect("temp dir");
    let few = format!("{TINY}\nepochs = 0.2");
    let fit_from = |table: &str| {
        let recipe = instruction(&table.parse().expect("toml")).expect("settings");
        recipe.fit(&FitContext {
            dataset: &dataset,
            seed: 5,
            device: DeviceChoice::Cpu,
            base: Some(first.path()),
            out: second.path(),
            scratch: scratch.path(),
            progress: Progress::Quiet,
        })
    };
    fit_from(&few).expect("fits");
    let tokenizer = Tokenizer::load(second.path()).expect("tokenizer");
    let wider = ModelConfig { vocabulary: tokenizer.vocabulary(), ..config.clone() };
    let adapted = adapted(first.path(), &wider, &tokenizer, 5).expect("adapts");
    let query = |weights: &Weights| weights.get("layers.0.query").expect("known").to_vec();
    assert_eq!(query(&adapted), query(&weights));
    let (ours, theirs) = (adapted.get("token_embedding"), weights.get("token_embedding"));
    let (ours, theirs) = (ours.expect("ours"), theirs.expect("theirs"));
    let rows: Vec<&[f32]> = theirs.chunks_exact(64).collect();
    let mut kept = 0;
    for (bytes, row) in tokenizer.token_bytes().iter().zip(ours.chunks_exact(64)) {
        match base.token_bytes().iter().position(|known| !bytes.is_empty() && known == bytes) {
            Some(place) => {
                assert_eq!(row, rows[place]);
                kept += 1;
            }
            // Others begin as a token that only the base has, or afresh if there is none.
            None if rows.contains(&row) => {}
            None => assert!(row.iter().all(|value| value.abs() < 0.5)),
        }
    }
    assert!(kept > 300, "{kept} of {}", tokenizer.vocabulary());
    let error = fit_from(&few.replace("\"xs\"", "\"s\"")).unwrap_err().to_string();
    assert!(error.contains("give both the same `size`"), "{error}");
}
