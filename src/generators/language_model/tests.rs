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
    rebuilds(Format::Compact { remaining_counts: false });
    rebuilds(Format::Compact { remaining_counts: true });
    rebuilds(Format::Instruction { notes: true });
}

fn rebuilds(format: Format) {
    let dataset = dataset(60);
    let graphs: Vec<&CallGraph> = dataset.graphs().iter().collect();
    let services = ServiceStatistics::new(graphs.iter().copied());
    let names = Names::new(&graphs);
    let writing = Writing::Layers(format);
    let tokenizer = learn_tokenizer(writing, &graphs, &services, &names, &Settings::default(), 1)
        .expect("tokenizer");
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
        let tokens = tokenizer
            .encode(&format.training_text(&step, &[], FieldOrder::Shuffled, &mut rng).1)
            .expect("encodes");
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
    let tokenizer = learn_tokenizer(writing, &[graph], &services, &names, &Settings::default(), 1)
        .expect("tokenizer");
    let condition =
        Condition { num_edges: None, depth: None, latency: None, ..condition_of(graph) };
    let mut rng = random::stream(1, "test", &[]);
    let (_, answer) = FORMAT.training_text(&steps(graph)[0], &[], FieldOrder::Shuffled, &mut rng);
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
    assert_eq!(read("").train_config(1, 9).footprint, Footprint::default());
    let footprint = Footprint {
        micro_batch_tokens: Some(512),
        checkpoint_activations: true,
        precision: Precision::Bf16,
    };
    assert_eq!(read(frugal).train_config(1, 9).footprint, footprint);
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
    // p90 is 10 and the mean 34.5: a slow graph is no slower than usual by that measure. A communication
    // is asked for where it is.
    let rare = vec!["MS_2>MS_9".to_owned()];
    assert_eq!(found, [Vec::new(), Vec::new(), rare, Vec::new()]);
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

/// Prompts and answers of a graph, with every request that its service may get.
fn all_texts(writing: Writing, graph: &CallGraph, round: u64) -> Vec<String> {
    use crate::graph::{CallType, Communication, Request};
    let communication =
        Communication { source: "MS_9".into(), destination: "MS_8".into(), kind: CallType::Db };
    let requests = [Request::HighLatency, Request::Communication(communication)];
    let mut rng = random::stream(7, "texts", &[round]);
    match writing {
        Writing::Graphs => {
            let (prompt, answer) =
                crate::text::tabular::training_text(graph, FieldOrder::Shuffled, &mut rng);
            vec![prompt, answer]
        }
        Writing::Layers(format) => {
            let mut texts = Vec::new();
            for (number, step) in steps(graph).iter().enumerate() {
                let requests = &requests[number % 2..][..1];
                let (prompt, answer) =
                    format.training_text(step, requests, FieldOrder::Shuffled, &mut rng);
                texts.extend([prompt, answer]);
            }
            texts
        }
    }
}

/// Bytes of a text that belong to names or numbers.
fn values(text: &str, names: &[&str]) -> Vec<bool> {
    let mut values: Vec<bool> = text.bytes().map(|byte| byte.is_ascii_digit()).collect();
    for name in names {
        for (at, _) in text.match_indices(name) {
            values[at..at + name.len()].fill(true);
        }
    }
    values
}

/// What a format itself writes between two values costs three tokens, and one for each line, even if no training graph has shown
/// it: the tokenizer here has met one graph of one call.
#[test]
fn what_a_format_itself_writes_costs_few_tokens() {
    use crate::testing::row;
    let service = "S_1";
    let one = [row("0", "USER", "MS_9", "http", 0, 1)];
    let one = CallGraph::from_rows(service.into(), &one).expect("valid");
    // A wide layer, all types, a gap between numbers, two edges with children.
    let mut rows = vec![row("0", "USER", "MS_9", "http", 0, 12_345)];
    for number in 1..=17 {
        let kind = ["http", "rpc", "mc", "db", "mq"][number % 5];
        rows.push(row(&format!("0.{number}"), "MS_9", "MS_8", kind, 0, 99));
        if number % 7 == 1 {
            rows.push(row(&format!("0.{number}.1"), "MS_8", "MS_9", "rpc", 0, 9));
            rows.push(row(&format!("0.{number}.3"), "MS_8", "MS_9", kind, 0, 9));
        }
    }
    let wide = CallGraph::from_rows(service.into(), &rows).expect("valid");
    let names = ["MS_9", "MS_8", service, "USER"];
    for writing in Writing::ALL {
        for count_tokens in [40, 0] {
            let settings = Settings { count_tokens, ..Settings::default() };
            let known = Names::new(&[&one, &wide]);
            let services = ServiceStatistics::default();
            let tokenizer =
                learn_tokenizer(writing, &[&one], &services, &known, &settings, 1).expect("learns");
            for text in (0..20).flat_map(|round| all_texts(writing, &wide, round)) {
                let values = values(&text, &names);
                let mut ends = Vec::new();
                for token in tokenizer.encode(&text).expect("encodes") {
                    let start = ends.last().copied().unwrap_or(0);
                    ends.push(start + tokenizer.token_bytes()[token as usize].len());
                }
                assert_eq!(ends.last(), Some(&text.len()), "lossless");
                let mut at = 0;
                while at < text.len() {
                    let next = |wanted: bool, from: usize| {
                        let found = values[from..].iter().position(|value| *value == wanted);
                        found.map_or(text.len(), |more| from + more)
                    };
                    let (from, to) = (next(false, at), next(true, next(false, at)));
                    at = to;
                    // Tokens that hold some of the stretch.
                    let inside =
                        1 + ends.iter().filter(|end| (from + 1..to).contains(*end)).count();
                    let stretch = &text[from..to];
                    let lines = stretch.matches('\n').count();
                    assert!(inside <= 3 + lines, "{writing:?}: {inside} tokens: {stretch:?}");
                }
            }
        }
    }
}

#[test]
fn counts_are_one_token_with_their_words() {
    let graph = dataset(1).graphs()[0].clone();
    let names = Names::new(&[&graph]);
    let tokens = |writing, count_tokens: u32, text: &str| {
        let settings = Settings { count_tokens, ..Settings::default() };
        let services = ServiceStatistics::default();
        let tokenizer = learn_tokenizer(writing, &[&graph], &services, &names, &settings, 1);
        tokenizer.expect("learns").encode(text).expect("encodes").len()
    };
    let instruction = Writing::Layers(Format::Instruction { notes: true });
    let recursive = Writing::Layers(Format::Recursive);
    let compact = Writing::Layers(Format::Compact { remaining_counts: false });
    for (writing, text, one) in [
        (recursive, "num_edges:40", true),
        (recursive, "num_edges:41", false),
        (recursive, "num_current_edges:12", true),
        (recursive, "num_subgraphs:13", true),
        (recursive, "remaining_depth:0", true),
        (recursive, "start_edge_id:25", true),
        (recursive, "edge_id is 17", true),
        (instruction, "num_edges:23", true),
        (instruction, " = 31", true),
        (instruction, " - 14", true),
        (Writing::Graphs, "num_edges:40", true),
        (Writing::Graphs, "depth:6", true),
        (compact, ",e23", true),
        (compact, ",k12", true),
    ] {
        assert_eq!(tokens(writing, 40, text) == 1, one, "{writing:?} {text}");
        assert!(tokens(writing, 0, text) > 1, "{writing:?} {text}");
    }
}

/// The order of a root's prompt is drawn by (seed, graph), that of other prompts is as the model wrote
/// it; the beginning of the answer is given.
#[test]
fn prompts_of_generation_are_written_as_in_training() {
    let dataset = dataset(40);
    let graphs: Vec<&CallGraph> = dataset.graphs().iter().collect();
    let (names, services) = (Names::new(&graphs), ServiceStatistics::default());
    let conditions: Vec<Condition> = graphs.iter().copied().map(condition_of).collect();
    let bar = Progress::Quiet.step("test", "graphs", 0);
    let prompts = |format: Format, seed: u64| {
        let writing = Writing::Layers(format);
        let tokenizer =
            learn_tokenizer(writing, &graphs, &services, &names, &Settings::default(), 1)
                .expect("learns");
        let requests = Requests { seed, ..requests(&tokenizer, &conditions, &bar) };
        let mut recursion = Recursion::new(format, requests);
        let mut queues: Vec<VecDeque<Step>> = graphs.iter().map(|g| steps(g).into()).collect();
        let mut rng = random::stream(2, "test", &[]);
        let (mut prompts, mut lines) = (Vec::new(), std::collections::BTreeSet::new());
        while let Some(prompt) = recursion.next() {
            let layer = &recursion.running[&prompt.id];
            let (graph, root) = (layer.graph, layer.parent.is_none());
            let step = queues[graph].pop_front().expect("a step is left");
            let text = tokenizer.decode(&prompt.tokens);
            let opening = format.opening(&step.condition);
            let line = text.strip_suffix(opening).expect("the answer's first lines are given");
            if root {
                prompts.push((graph, line.to_owned()))
            } else {
                let line = line
                    .lines()
                    .find(|line| line.contains("/num_edges:") || line.starts_with("num_edges:"))
                    .expect("a condition line");
                assert!(lines.contains(line), "{line}");
            }
            let (_, answer) = format.training_text(&step, &[], FieldOrder::Shuffled, &mut rng);
            lines.extend(format.condition_lines(&answer));
            let tokens = tokenizer.encode(&answer).expect("encodes");
            let id = prompt.id;
            recursion.complete(Completion { id, tokens, stopped: true, ..Completion::default() });
        }
        assert!(recursion.graphs.iter().all(|graph| graph.generated.failure.is_none()));
        prompts.sort();
        prompts
    };
    for format in [Format::Recursive, Format::Instruction { notes: true }] {
        let first = prompts(format, 1);
        assert_eq!(first, prompts(format, 1));
        assert_ne!(first, prompts(format, 2));
        // As shuffled as training texts: each attribute comes first now and then.
        let firsts: std::collections::BTreeSet<&str> = first
            .iter()
            .filter_map(|(_, line)| line.rsplit('/').next()?.split(':').next())
            .collect();
        assert!(firsts.len() >= 5, "{firsts:?}");
    }
}

/// A sub-condition's `id` is taken as the model wrote it.
#[test]
fn nothing_that_a_model_wrote_is_repaired() {
    let dataset = dataset(30);
    let graph = dataset.graphs().iter().find(|graph| graph.depth() > 1).expect("a deep one");
    let names = Names::new(&[graph]);
    let services = ServiceStatistics::default();
    let writing = Writing::Layers(FORMAT);
    let settings = Settings::default();
    let tokenizer =
        learn_tokenizer(writing, &[graph], &services, &names, &settings, 1).expect("tokenizer");
    let conditions = [condition_of(graph)];
    let bar = Progress::Quiet.step("test", "graphs", 0);
    let mut recursion = Recursion::new(FORMAT, requests(&tokenizer, &conditions, &bar));
    let id = recursion.next().expect("a prompt").id;
    let mut rng = random::stream(1, "test", &[]);
    let (_, answer) = FORMAT.training_text(&steps(graph)[0], &[], FieldOrder::Shuffled, &mut rng);
    let other = answer.replace(graph.service().as_str(), "S_other");
    let tokens = tokenizer.encode(&other).expect("encodes");
    recursion.complete(Completion { id, tokens, stopped: true, ..Completion::default() });
    let next = recursion.next().expect("the layer below");
    let text = tokenizer.decode(&next.tokens);
    assert!(text.contains("id:S_other"), "{text}");
}

#[test]
fn texts_are_drawn_by_their_weights() {
    use crate::model::Corpus;
    let dataset = dataset(120);
    // One structure many times.
    let mut graphs: Vec<&CallGraph> = dataset.graphs().iter().collect();
    let common = graphs[0];
    graphs.extend(std::iter::repeat_n(common, 200));
    let (names, services) = (Names::new(&graphs), ServiceStatistics::default());
    let plain = Settings { spell_services: 0.0, ..Settings::default() };
    let tokenizer =
        learn_tokenizer(Writing::Graphs, &graphs, &services, &names, &plain, 1).expect("learns");
    let drawn = |settings: &Settings| -> Vec<(u32, String)> {
        let texts = Texts::new(Writing::Graphs, &graphs, &services, &tokenizer, settings, 3);
        assert_eq!(texts.len(), graphs.len());
        let epochs = (0..3).flat_map(|epoch| (0..texts.len()).map(move |index| (epoch, index)));
        let text = |(epoch, index)| tokenizer.decode(&texts.document(epoch, index).tokens);
        epochs
            .map(text)
            .map(|text| {
                let service =
                    text.split("id:").nth(1).and_then(|rest| rest.split(['/', '\n']).next());
                (text.matches("edge_id is ").count() as u32, service.expect("a service").to_owned())
            })
            .collect()
    };
    let share = |drawn: &[(u32, String)]| {
        let common = (common.num_edges(), common.service().to_string());
        drawn.iter().filter(|text| **text == common).count() as f64 / drawn.len() as f64
    };
    let rare = |drawn: &[(u32, String)]| {
        drawn.iter().filter(|(edges, _)| *edges > 10).count() as f64 / drawn.len() as f64
    };
    let usual = drawn(&plain);
    assert!(share(&usual) > 0.6);
    let distinct = drawn(&Settings { distinct_structures: true, ..plain.clone() });
    assert!(share(&distinct) < 0.1, "{}", share(&distinct));
    let practised = drawn(&Settings { rare_conditions: 0.6, ..plain.clone() });
    assert!(rare(&practised) > 2.0 * rare(&usual), "{} {}", rare(&practised), rare(&usual));
    // The limit bounds what rarity does.
    let bounded = Settings { rare_conditions: 0.6, rare_conditions_limit: 1.0, ..plain.clone() };
    assert_eq!(drawn(&bounded), usual);
    for (key, value) in
        [("rare_conditions", "1.5"), ("rare_conditions_limit", "0.5"), ("count_tokens", "5000")]
    {
        let table = format!("{key} = {value}").parse().expect("toml");
        let Err(error) = recursive(&table) else { panic!("{key}") };
        assert!(error.to_string().contains(key), "{error}");
    }
}

#[test]
fn what_decides_the_size_of_a_graph_weighs_more() {
    use crate::model::Corpus;
    let graph = crate::testing::paper_example();
    let (names, services) = (Names::new(&[&graph]), ServiceStatistics::default());
    for writing in Writing::ALL {
        let plain = Settings { spell_services: 0.0, ..Settings::default() };
        let tokenizer =
            learn_tokenizer(writing, &[&graph], &services, &names, &plain, 1).expect("learns");
        let documents = |settings: &Settings| -> Vec<Document> {
            let texts = Texts::new(writing, &[&graph], &services, &tokenizer, settings, 3);
            (0..texts.len()).map(|index| texts.document(0, index)).collect()
        };
        assert!(documents(&plain).iter().all(|document| document.weights.is_empty()));
        let weighted = documents(&Settings { deciding_weight: 3.0, ..plain.clone() });
        let (mut edges, mut conditions) = (0, 0);
        for document in &weighted {
            let answer = document.tokens.iter().zip(&document.weights).skip(document.loss_from);
            assert_eq!(document.weights.len(), document.tokens.len());
            assert_eq!(document.weights.last(), Some(&3.0), "the end decides");
            for (token, weight) in answer {
                let text = tokenizer.decode(&[*token]);
                let heavy = *weight == 3.0;
                edges += u32::from(heavy && text.contains('\n'));
                conditions +=
                    u32::from(heavy && text.ends_with(|last: char| last.is_ascii_digit()));
                assert!(heavy || !text.starts_with("num_edges:"), "{text}");
            }
        }
        // Seven calls; of the three layers two are below another, with four counts each.
        assert!(edges >= 6, "{writing:?}: {edges}");
        assert!(writing == Writing::Graphs || conditions >= 8, "{writing:?}: {conditions}");
    }
}
