use proptest::prelude::*;

use super::*;
use crate::data::{DatasetCard, Side};
use crate::generators::{self, FitContext};
use crate::graph::{CallGraph, CallRow};
use crate::random;
use crate::testing::{any_graph, paper_example, renamed, row};

pub fn dataset(train: Vec<CallGraph>, test: Vec<CallGraph>) -> Dataset {
    let mut sides = vec![Side::Train; train.len()];
    sides.resize(train.len() + test.len(), Side::Test);
    let card = DatasetCard { name: "example".into(), ..DatasetCard::default() };
    Dataset::new(card, train.into_iter().chain(test).collect(), sides)
}

pub fn questions(task: Task, graph: &CallGraph) -> Vec<Sample> {
    let data = dataset(vec![graph.clone()], vec![graph.clone()]);
    tasks::all(task, &data, 0).unwrap_or_default()
}

fn text(sample: &Sample) -> String {
    sample.prompt(&mut random::stream(1, "test", &[]))
}

/// Twelve calls of one service, one per millisecond; `marker` is the second and `last` the twelfth.
fn dozen(marker: &str, last: &str) -> CallGraph {
    let mut rows = vec![row("0", "USER", "MS_1", "http", 0, 50)];
    for number in 1..12 {
        let destination = match number {
            1 => marker,
            11 => last,
            _ => "MS_2",
        };
        rows.push(row(&format!("0.{number}"), "MS_1", destination, "rpc", number, number + 1));
    }
    CallGraph::from_rows("S_1".into(), &rows).expect("valid")
}

#[test]
fn a_later_communication_by_hand() {
    // One of twenty graphs ends in a call to MS_9: 5 % are uncommon.
    let mut train: Vec<CallGraph> = (0..19).map(|_| dozen("MS_3", "MS_2")).collect();
    train.push(dozen("MS_4", "MS_9"));
    let test = vec![dozen("MS_3", "MS_9"), dozen("MS_3", "MS_2"), dozen("MS_3", "MS_2")];
    let samples = draw(Task::Later, &dataset(train, test), (100, 100), 0).unwrap();
    let answers = |samples: &[Sample]| samples.iter().map(Sample::answer).collect::<Vec<_>>();
    // As many of one answer as of the other.
    assert_eq!(answers(&samples.train), ["yes", "no"]);
    assert_eq!(answers(&samples.test), ["yes", "no"]);
    let (yes, no) = (&samples.test[0], &samples.test[1]);
    assert_eq!(text(yes), text(no));
    assert!(text(yes).ends_with("</layer>\nuncommon: "), "{}", text(yes));
    assert!(text(yes).contains("num_edges:10/") && !text(yes).contains("MS_9"));
    assert_eq!(yes.bag().len(), 11);
    assert_eq!(yes.dimensions().to_string(), "task=later/answer=yes");
}

/// A slow graph and a usual one of the same calls give the same question, letter for letter.
#[test]
fn high_latency_by_hand() {
    let graph = |finish: u32| {
        let rows = [
            row("0", "USER", "MS_1", "http", 0, finish),
            row("0.1", "MS_1", "MS_2", "rpc", finish / 4, finish / 2),
            row("0.1.1", "MS_2", "MS_3", "mc", finish / 3, finish / 3),
        ];
        CallGraph::from_rows("S_1".into(), &rows).expect("valid")
    };
    // p90 is 100 ms, the mean 19 ms.
    let mut train: Vec<CallGraph> = (0..18).map(|_| graph(10)).collect();
    train.extend([graph(100), graph(100), graph(100)]);
    let test = vec![graph(100), graph(99), graph(7)];
    let samples = draw(Task::HighLatency, &dataset(train, test), (100, 100), 0).unwrap();
    let answers: Vec<String> = samples.test.iter().map(Sample::answer).collect();
    assert_eq!(answers, ["yes", "no"]);
    let (slow, usual) = (&samples.test[0], &samples.test[1]);
    assert_eq!(text(slow), text(usual));
    assert!(text(slow).ends_with("</layer>\nslow: ") && text(slow).contains("MS_3"));
    for told in ["latency", "start_communication_at", "milliseconds"] {
        assert!(!text(slow).contains(told), "{}", text(slow));
    }
    assert_eq!(slow.dimensions().to_string(), "task=high-latency/answer=yes");
    assert_eq!(slow.situations(), usual.situations());
    // No service is known well enough.
    let few = dataset(vec![graph(10); 9], vec![graph(10)]);
    assert!(draw(Task::HighLatency, &few, (10, 10), 0).is_err());
}

#[test]
fn of_calls_that_start_together_the_graphs_order_decides() {
    let mut rows = vec![row("0", "USER", "MS_1", "http", 5, 50)];
    rows.push(row("0.1", "MS_1", "MS_2", "rpc", 5, 50));
    // The eleventh call by start, though second in the graph's order.
    rows.push(row("0.1.1", "MS_2", "MS_9", "rpc", 7, 8));
    rows.extend((2..11).map(|n| row(&format!("0.{n}"), "MS_1", "MS_3", "rpc", 6, 7)));
    let graph = CallGraph::from_rows("S_1".into(), &rows).unwrap();
    let plain = dozen("MS_3", "MS_2");
    let mut train = vec![plain.clone(); 20];
    train.extend([graph.clone(), dozen("MS_3", "MS_9")]);
    let test = vec![graph, plain];
    let samples = draw(Task::Later, &dataset(train, test), (2, 2), 0).unwrap();
    assert_eq!(samples.test[0].answer(), "yes");
    // The last of the nine that start together is the eleventh: it and MS_9 are not shown.
    let shown = text(&samples.test[0]);
    assert!(!shown.contains("MS_9") && !shown.contains("edge_id is 10"), "{shown}");
    assert!(shown.contains("edge_id is 9"), "{shown}");
}

#[test]
fn missing_attributes_by_hand() {
    let (a, b) = ("MS_1", "MS_2");
    let rows = [
        row("0", "USER", a, "http", 0, 9),
        row("0.1", a, b, "rpc", 1, 5),
        row("0.1.1", b, "MS_3", "db", 2, 3),
        row("0.2", a, "MS_4", "mc", 6, 7),
    ];
    let graph = CallGraph::from_rows("S_1".into(), &rows).unwrap();
    let samples = questions(Task::Attribute, &graph);
    // Two attributes of each of the two calls that share a layer.
    assert_eq!(samples.len(), 4);
    let find = |answer: &str| samples.iter().find(|sample| sample.answer() == answer).unwrap();
    let destination = find(",destination is MS_2");
    let shown = text(destination);
    assert!(shown.contains("destination is ?") && shown.ends_with("\n(edge_id is 1"), "{shown}");
    // Not even in the condition of the layer below the call.
    assert!(!shown.contains(b) && shown.contains("MS_4"), "{shown}");
    assert_eq!(
        destination.situations(),
        [
            "destination|S_1|MS_1|rpc||MS_4:mc",
            "destination|MS_1|rpc|",
            "destination|MS_1|rpc",
            "destination|MS_1",
            "destination",
        ]
    );
    let kind = find(",type is mc");
    let shown = text(kind);
    assert!(shown.contains("type is ?") && shown.ends_with("\n(edge_id is 2"), "{shown}");
    assert!(!shown.contains("mc") && shown.contains("type is rpc"), "{shown}");
    assert_eq!(kind.dimensions().to_string(), "task=attribute/attribute=type");
    assert_eq!(kind.bag(), ["MS_2:rpc", "caller USER", "known MS_4", "service S_1", "source MS_1"]);
}

#[test]
fn missing_calls_by_hand() {
    let samples = questions(Task::Call, &paper_example());
    // The root's call connects layers too, but nothing is left of its own layer.
    assert_eq!(samples.len(), 1);
    let sample = &samples[0];
    assert_eq!(sample.answer(), ",type is rpc,destination is MS_63670");
    assert_eq!(sample.situations(), ["MS_63670|MS_37691:mc", "MS_37691:mc", "from MS_63670", ""]);
    let shown = text(sample);
    let layers: Vec<&str> = shown.split("</layer>").collect();
    assert_eq!(layers.len(), 3);
    assert!(layers[0].contains("start_node:MS_63670") && !layers[0].contains("<subgraph"));
    assert!(!layers[0].contains("edge_id is 1,") && !layers[0].contains("edge_id is 1)"));
    assert!(!layers[1].contains("start_node"), "{shown}");
    assert!(shown.ends_with("\n(edge_id is 1"), "{shown}");
}

/// The graph with another destination or type for one call.
fn altered(graph: &CallGraph, index: usize, kind: bool) -> CallGraph {
    let mut rows: Vec<CallRow> = graph.rows();
    let path = rows[index].edge_id.clone();
    if kind {
        let all = crate::graph::CallType::ALL;
        rows[index].kind = if rows[index].kind == all[0] { all[1] } else { all[0] };
    } else {
        rows[index].destination = "MS_altered".into();
        for row in rows.iter_mut().filter(|row| row.edge_id.parent().as_ref() == Some(&path)) {
            row.source = "MS_altered".into();
        }
    }
    CallGraph::from_rows(graph.service().clone(), &rows).expect("valid")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// A graph that differs in the answer alone gives the same question, words and situations.
    #[test]
    fn questions_do_not_tell_their_answers(graph in any_graph(40)) {
        for task in [Task::Attribute, Task::Call] {
            let samples = questions(task, &graph);
            let mut changed = 0;
            for index in 1..graph.calls().len() {
                for kind in [false, true] {
                    let others = questions(task, &altered(&graph, index, kind));
                    prop_assert_eq!(samples.len(), others.len());
                    for (sample, other) in samples.iter().zip(&others) {
                        if sample.answer() != other.answer() {
                            changed += 1;
                            prop_assert_eq!(text(sample), text(other));
                            prop_assert_eq!(sample.bag(), other.bag());
                            prop_assert_eq!(sample.situations(), other.situations());
                        }
                    }
                }
            }
            // Each answer was altered, those of calls twice: by type and by destination.
            let each = if task == Task::Call { 2 } else { 1 };
            prop_assert_eq!(changed, samples.len() * each);
        }
    }
}

/// A cloud that can be learnt: the destination says the type and the other way round.
fn cloud(graphs: u64) -> Vec<CallGraph> {
    use rand::RngExt;
    let leaves = [("MS_10", "db"), ("MS_20", "mc"), ("MS_30", "mq"), ("MS_40", "rpc")];
    let graph = |index| {
        let mut rng = random::stream(7, "cloud", &[index]);
        let mut rows = vec![row("0", "USER", "MS_1", "http", 0, 9)];
        for number in 1..4 {
            let (destination, kind) = leaves[rng.random_range(0..4)];
            rows.push(row(&format!("0.{number}"), "MS_1", destination, kind, number, 9));
        }
        CallGraph::from_rows("S_1".into(), &rows).expect("valid")
    };
    (0..graphs).map(graph).collect()
}

fn context<'a>(
    dataset: &'a Dataset,
    model: Option<&'a Path>,
    dirs: &'a [tempfile::TempDir; 2],
    batch: usize,
) -> Context<'a> {
    Context {
        dataset,
        model,
        in_context: None,
        seed: 3,
        device: DeviceChoice::Cpu,
        scratch: dirs[0].path(),
        out: dirs[1].path(),
        batch,
        progress: Progress::Quiet,
    }
}

fn dirs() -> [tempfile::TempDir; 2] {
    [0, 1].map(|_| tempfile::tempdir().expect("a folder"))
}

fn answered(
    method: Method,
    task: Task,
    data: &Dataset,
    model: Option<&Path>,
    tuning: &Tuning,
) -> Outcome {
    let dirs = dirs();
    run(task, (120, 60), method, tuning, &context(data, model, &dirs, 8)).expect("answers")
}

#[test]
fn references_by_hand() {
    let graphs = cloud(100);
    let data = dataset(graphs[..60].to_vec(), graphs[60..].to_vec());
    let of = |method| answered(method, Task::Attribute, &data, None, &Tuning::default());
    let accuracy = |outcome: &Outcome| outcome.records[0].value;
    // Types and destinations decide each other, so the third situation says it all.
    assert_eq!(accuracy(&of(Method::Counts)), 1.0);
    assert_eq!(accuracy(&of(Method::CountsAll)), 1.0);
    let nearest = of(Method::Nearest);
    assert!(accuracy(&nearest) > 0.5, "{:?}", nearest.records);
    let majority = of(Method::Majority);
    // Always one type and one destination.
    let mut given: Vec<&str> = majority.answers.iter().map(|a| a.answered.as_str()).collect();
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), 2);
    assert!((0.1..0.5).contains(&accuracy(&majority)), "{:?}", majority.records);
    let parts: Vec<String> =
        majority.records.iter().map(|record| record.dimensions.to_string()).collect();
    assert_eq!(
        parts,
        ["task=attribute", "task=attribute/attribute=destination", "task=attribute/attribute=type"]
    );
    assert_eq!(majority.records[0].count, 60);
    assert_eq!(majority.records[1].count + majority.records[2].count, 60);
    assert_eq!(majority, of(Method::Majority));
}

/// Which questions are answered right, whatever things are called.
#[test]
fn names_do_not_matter() {
    // Each leaf twice as often as the one before it, as equal votes are decided by the alphabet.
    let leaves = [("MS_10", "db"), ("MS_20", "mc"), ("MS_30", "mq"), ("MS_40", "rpc")];
    let attribute = (0..100u64).map(|index| {
        let mut rows = vec![row("0", "USER", "MS_1", "http", 0, 9)];
        for number in 1..4u32 {
            let drawn = (index * 7 + u64::from(number) * 4) % 15;
            let (destination, kind) = leaves[(15 - drawn).ilog2() as usize];
            rows.push(row(&format!("0.{number}"), "MS_1", destination, kind, number, 9));
        }
        CallGraph::from_rows("S_1".into(), &rows).expect("valid")
    });
    let later: Vec<CallGraph> = (0..60)
        .map(|index| {
            dozen(["MS_3", "MS_4"][index % 2], ["MS_2", "MS_9"][usize::from(index % 14 == 1)])
        })
        .collect();
    let counts = [Method::Counts, Method::CountsAll, Method::Majority];
    let cases = [
        (Task::Attribute, attribute.collect(), counts.to_vec()),
        (Task::Later, later, [&counts[..], &[Method::Nearest, Method::Logistic]].concat()),
    ];
    for (task, graphs, methods) in cases {
        let graphs: Vec<CallGraph> = graphs;
        let others: Vec<CallGraph> = graphs.iter().map(renamed).collect();
        for method in methods {
            let right = |graphs: &[CallGraph]| -> Vec<bool> {
                let data = dataset(graphs[..40].to_vec(), graphs[40..].to_vec());
                let outcome = answered(method, task, &data, None, &Tuning::default());
                outcome.answers.iter().map(|answer| answer.right == answer.answered).collect()
            };
            let found = right(&graphs);
            assert!(found.contains(&true), "{method:?}");
            assert_eq!(found, right(&others), "{task:?} {method:?}");
        }
    }
}

#[test]
fn one_question_is_enough_to_learn_from() {
    // The only call that connects two layers.
    let data = dataset(vec![paper_example()], vec![paper_example()]);
    for method in [Method::Majority, Method::Counts, Method::CountsAll, Method::Nearest] {
        let outcome = answered(method, Task::Call, &data, None, &Tuning::default());
        assert_eq!((outcome.records[0].value, outcome.records[0].count), (1.0, 1), "{method:?}");
    }
    // One answer is all that a regression ever saw.
    let mut samples =
        draw(Task::Later, &dataset(later_pair(), later_pair()), (2, 2), 0).expect("questions");
    samples.train.truncate(1);
    let (answers, _) = references::answers(Reference::Logistic, &samples.train, &samples.test);
    assert_eq!(answers, vec![Some(samples.train[0].answer()); 2]);
    // None is held out from a network.
    let model = trained(&data, 2_000);
    let tuning = Tuning { epochs: 1.0, warmup_steps: 1, ..Tuning::default() };
    for method in [Method::Pretrained, Method::PretrainedLora] {
        let outcome = answered(method, Task::Call, &data, Some(model.path()), &tuning);
        assert_eq!(outcome.answers.len(), 1);
        let held_out = outcome.fit.notes.iter().find(|(name, _)| name.starts_with("held-out"));
        assert_eq!(held_out.map(|(_, value)| value.as_str()), Some("0 of 0"));
    }
}

/// Graphs of which one in twelve ends uncommonly.
fn later_pair() -> Vec<CallGraph> {
    [vec![dozen("MS_3", "MS_2"); 11], vec![dozen("MS_3", "MS_9")]].concat()
}

#[test]
fn a_regression_finds_the_call_that_announces_another() {
    // MS_4 announces MS_9, but for one graph.
    let mut train: Vec<CallGraph> = (0..200).map(|_| dozen("MS_3", "MS_2")).collect();
    train.extend((0..10).map(|_| dozen("MS_4", "MS_9")));
    train.push(dozen("MS_3", "MS_9"));
    let mut test: Vec<CallGraph> = (0..5).map(|_| dozen("MS_3", "MS_2")).collect();
    test.extend((0..4).map(|_| dozen("MS_4", "MS_9")));
    test.push(dozen("MS_3", "MS_9"));
    let data = dataset(train, test);
    for method in [Method::Logistic, Method::Nearest, Method::Counts] {
        let outcome = answered(method, Task::Later, &data, None, &Tuning::default());
        let values: Vec<(f64, u64)> = outcome.records.iter().map(|r| (r.value, r.count)).collect();
        // All five negatives, and four of five positives.
        assert_eq!(values, [(0.9, 10), (1.0, 5), (0.8, 5)], "{method:?}");
    }
    let majority = answered(Method::Majority, Task::Later, &data, None, &Tuning::default());
    assert_eq!(majority.records[0].value, 0.5);
}

/// A small network trained on graphs, in a folder.
fn trained(data: &Dataset, tokens: u32) -> tempfile::TempDir {
    let out = tempfile::tempdir().expect("a folder");
    let scratch = tempfile::tempdir().expect("a folder");
    let settings = format!(
        "size = \"xs\"\ntokens = {tokens}\nbatch_tokens = 512\nlearning_rate = 5e-3\n\
         warmup_steps = 10"
    );
    let recipe = generators::recipe("recursive-llm", &settings.parse().expect("TOML"));
    let context = FitContext {
        dataset: data,
        seed: 5,
        device: DeviceChoice::Cpu,
        base: None,
        out: out.path(),
        scratch: scratch.path(),
        progress: Progress::Quiet,
    };
    recipe.expect("settings").fit(&context).expect("fits");
    out
}

/// Three services, of which each calls two microservices of its own, always the same way: who reads the
/// service and what is missing knows the answer.
fn plain_cloud(graphs: u64) -> Vec<CallGraph> {
    let graph = |index: u64| {
        let (service, leaf, kind) =
            [("S_1", "MS_10", "db"), ("S_2", "MS_20", "mc"), ("S_3", "MS_30", "mq")]
                [(index % 3) as usize];
        let rows = [
            row("0", "USER", "MS_1", "http", 0, 9),
            row("0.1", "MS_1", leaf, kind, 1, 2),
            row("0.2", "MS_1", leaf, kind, 3, 4),
        ];
        CallGraph::from_rows(service.into(), &rows).expect("valid")
    };
    (0..graphs).map(graph).collect()
}

#[test]
fn networks_learn_the_task() {
    let graphs = plain_cloud(180);
    let data = dataset(graphs[..120].to_vec(), graphs[120..].to_vec());
    let model = trained(&data, 40_000);
    let tuning = Tuning {
        epochs: 15.0,
        batch_tokens: 256,
        learning_rate: 3e-3,
        lora_learning_rate: 1e-2,
        warmup_steps: 5,
        ..Tuning::default()
    };
    let of = |method| {
        answered(method, Task::Attribute, &data, Some(model.path()), &tuning).records[0].value
    };
    let majority = of(Method::Majority);
    let (tuned, adapted) = (of(Method::Pretrained), of(Method::PretrainedLora));
    assert!(tuned > majority + 0.2, "{tuned} {majority}");
    assert!(adapted > majority, "{adapted} {majority}");
}

#[test]
fn answers_do_not_depend_on_the_batch() {
    let mut train: Vec<CallGraph> = (0..200).map(|_| dozen("MS_3", "MS_2")).collect();
    train.extend((0..10).map(|_| dozen("MS_4", "MS_9")));
    let test = vec![dozen("MS_3", "MS_2"), dozen("MS_4", "MS_9")];
    let data = dataset(train, test);
    let model = trained(&data, 2_000);
    let tuning = Tuning { epochs: 1.0, warmup_steps: 1, ..Tuning::default() };
    let of = |batch| {
        let dirs = dirs();
        let context = context(&data, Some(model.path()), &dirs, batch);
        let outcome =
            run(Task::Later, (8, 2), Method::Untrained, &tuning, &context).expect("answers");
        assert!(dirs[1].path().join("log.csv").exists());
        outcome
    };
    let outcome = of(1);
    assert_eq!(outcome, of(7));
    // Whatever it has learnt, it says yes or no.
    assert!(outcome.answers.iter().all(|a| ["yes", "no"].contains(&a.answered.as_str())));
}

#[test]
fn a_dataset_that_gives_no_question_is_told_with_the_reason() {
    let plain = dataset(vec![dozen("MS_3", "MS_2"); 20], vec![dozen("MS_3", "MS_2")]);
    let error = draw(Task::Later, &plain, (10, 10), 0).unwrap_err();
    assert!(error.is::<UserError>());
    let message = error.to_string();
    assert!(
        message.contains("dataset `example`: its training graphs give no question"),
        "{message}"
    );
    assert!(message.contains("an uncommon communication"), "{message}");
    let single =
        || CallGraph::from_rows("S".into(), &[row("0", "USER", "A", "http", 0, 1)]).unwrap();
    let single = dataset(vec![single()], vec![single()]);
    for task in [Task::Attribute, Task::Call] {
        assert!(draw(task, &single, (10, 10), 0).is_err());
    }
}

#[test]
fn each_graph_is_asked_about_once_before_any_is_twice() {
    let graphs = cloud(30);
    let data = dataset(graphs[..20].to_vec(), graphs[20..].to_vec());
    let samples = draw(Task::Attribute, &data, (20, 100), 1).unwrap();
    assert_eq!((samples.train.len(), samples.test.len()), (20, 60));
    assert_eq!(samples, draw(Task::Attribute, &data, (20, 100), 1).unwrap());
    assert_ne!(samples, draw(Task::Attribute, &data, (20, 100), 2).unwrap());
    let more = draw(Task::Attribute, &data, (50, 100), 1).unwrap();
    assert_eq!(more.train[..20], samples.train);
}

/// Questions, and what every reference and a network after a little tuning answer.
#[test]
fn probes_are_those_of_their_version() {
    use crate::data::simulator::{Cloud, SimulatorConfig};
    use crate::version::golden;

    let cloud = Cloud::new(&SimulatorConfig { services: 4, ..SimulatorConfig::default() });
    let cloud = cloud.expect("a cloud");
    let graphs = |from: u64| (from..from + 200).map(|index| cloud.graph(0, index)).collect();
    let dataset = dataset(graphs(0), graphs(200));
    let scratch = tempfile::tempdir().unwrap();
    let context = Context {
        dataset: &dataset,
        model: None,
        in_context: None,
        seed: 3,
        device: DeviceChoice::Cpu,
        scratch: scratch.path(),
        out: scratch.path(),
        batch: 8,
        progress: Progress::Quiet,
    };
    let mut shown = String::new();
    for task in [Task::Later, Task::Attribute, Task::Call, Task::HighLatency] {
        let Ok(samples) = draw(task, &dataset, (40, 10), 3) else { continue };
        for sample in &samples.test {
            let digest = blake3::hash(text(sample).as_bytes()).to_hex();
            shown += &format!("{} {} {}\n", sample.dimensions(), &digest[..12], sample.answer());
        }
        for method in
            [Method::Majority, Method::Counts, Method::CountsAll, Method::Nearest, Method::Logistic]
        {
            if method == Method::Logistic && task.choices().is_none() {
                continue;
            }
            let outcome = run(task, (40, 10), method, &Tuning::default(), &context).unwrap();
            let answers: Vec<String> = outcome.answers.into_iter().map(|a| a.answered).collect();
            shown += &format!("{} {}\n", method.id(), answers.join(" "));
        }
    }
    golden::assert(FAMILY.version, &shown);
}
