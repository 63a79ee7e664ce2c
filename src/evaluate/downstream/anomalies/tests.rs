use super::*;
use crate::data::DatasetCard;
use crate::data::simulator::{Cloud, SimulatorConfig};
use crate::evaluate::downstream::ANOMALIES;
use crate::evaluate::evaluate;
use crate::evaluate::tests::{answer, dataset, failed, find, flat, reversed};
use crate::graph::{Condition, Generated, condition_of};

fn cloud(services: u32, graphs: std::ops::Range<u64>) -> Vec<CallGraph> {
    let config = SimulatorConfig { services, ..SimulatorConfig::default() };
    let cloud = Cloud::new(&config).expect("a cloud");
    graphs.map(|index| cloud.graph(1, index)).collect()
}

fn score(dataset: &Dataset, answers: &[CallGraph]) -> Vec<Record> {
    let conditions: Vec<Condition> = answers.iter().map(condition_of).collect();
    let answers: Vec<Generated> = answers.iter().map(answer).collect();
    let mut records = evaluate(&ANOMALIES, dataset, &conditions, &answers, 5).expect("records");
    records.retain(|record| [AUC, AUC_PR].contains(&record.metric));
    records
}

/// Other graphs of the same cloud train a detector that finds about as much as one that is trained on
/// the training graphs, and more than counting does.
#[test]
fn anomalies_are_found() {
    let real = dataset(cloud(150, 0..1_000), cloud(150, 2_000..2_150));
    let records = score(&real, &cloud(150, 4_000..5_000));
    let references = references(&real, 1_000, 5).expect("records");
    for (metric, cell, least) in [
        (AUC, "kind=all", 0.58),
        (AUC, "kind=structure", 0.62),
        (AUC, "kind=latency", 0.52),
        (AUC_PR, "kind=all", 0.58),
    ] {
        let trained = find(&records, metric, cell);
        let reference = find(&references, metric, &format!("{cell}/reference=train"));
        assert!(trained.value > least && reference.value > least, "{metric} {cell} {trained:?}");
        assert!(trained.low <= trained.value && trained.value <= trained.high, "{trained:?}");
    }
    let of =
        |reference: &str| find(&references, AUC, &format!("kind=all/reference={reference}")).value;
    assert!(of("train") > of("counting") && of("counting") > of("size"));
    assert!((of("size") - 0.5).abs() < 0.05);
    assert_eq!(find(&records, AUC, "kind=all").count, 300);
    assert_eq!(find(&records, AUC, "kind=latency").count, 150);
}

/// As numbers are compared across machines with any number of cores.
#[test]
fn records_depend_on_neither_threads_nor_order() {
    let graphs = cloud(30, 0..90);
    let test = cloud(30, 100..140);
    let records = score(&dataset(Vec::new(), test.clone()), &graphs);
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        let again =
            pool.install(|| score(&dataset(Vec::new(), reversed(&test)), &reversed(&graphs)));
        // Debug texts, since an interval may not exist.
        assert_eq!(format!("{again:?}"), format!("{records:?}"));
    }
}

#[test]
fn a_sample_is_random_and_does_not_depend_on_the_order() {
    let graphs = [cloud(5, 0..30), vec![flat("S_1", 2, 3); 30]].concat();
    let drawn = |graphs: &[CallGraph], most, seed| -> Vec<CallGraph> {
        sample(graphs.iter().collect(), most, seed, "test").into_iter().cloned().collect()
    };
    let ten = drawn(&graphs, 10, 1);
    assert_eq!(drawn(&reversed(&graphs), 10, 1), ten);
    assert_ne!(drawn(&graphs, 10, 2), ten);
    assert_eq!(drawn(&graphs, 100, 1)[..10], ten);
    assert_eq!(drawn(&graphs, 100, 1).len(), 60);
    // Equal graphs are not drawn together.
    let same = ten.iter().filter(|graph| graph.num_edges() == 2 && graph.latency() == 3).count();
    assert!((1..10).contains(&same), "{same}");
}

#[test]
fn too_few_graphs_give_no_number() {
    let few = cloud(5, 0..10);
    let cases = [
        (dataset(few.clone(), few.clone()), cloud(5, 0..30)),
        (dataset(few.clone(), cloud(5, 0..30)), few.clone()),
        (dataset(Vec::new(), Vec::new()), Vec::new()),
    ];
    for (real, answers) in &cases {
        for record in score(real, answers) {
            assert!(record.value.is_nan() && record.low.is_nan(), "{record:?}");
        }
    }
    let records = references(&cases[1].0, 30, 1).expect("records");
    let of = |reference: &str| find(&records, AUC, &format!("kind=all/reference={reference}"));
    assert!(of("train").value.is_nan() && of("counting").value.is_nan());
    assert!(of("size").value > 0.0);
    let conditions = [condition_of(&few[0])];
    let records = evaluate(&ANOMALIES, &cases[1].0, &conditions, &[failed()], 1).expect("records");
    assert!(find(&records, AUC_PR, "kind=all").value.is_nan());
}

/// One call everywhere: nothing to learn, and nothing that fails.
#[test]
fn equal_graphs_are_no_obstacle() {
    let of = |service: &str| vec![flat(service, 1, 0); 30];
    let graphs = [of("S_1"), of("S_2"), of("S_3")].concat();
    let records = score(&dataset(Vec::new(), graphs.clone()), &graphs);
    let all = find(&records, AUC, "kind=all");
    // A second call or another destination was never seen.
    assert!(all.value > 0.9, "{all:?}");
    // A single service leaves nobody to learn from.
    let alone = score(&dataset(Vec::new(), of("S_1")), &of("S_1"));
    assert!(find(&alone, AUC, "kind=all").value.is_nan());
}

#[test]
fn folds_keep_services_together_and_have_equal_parts() {
    let graphs: Vec<CallGraph> = [("S_1", 9), ("S_2", 5), ("S_3", 5), ("S_4", 4), ("S_5", 1)]
        .into_iter()
        .flat_map(|(service, count)| vec![flat(service, 2, 3); count])
        .collect();
    let folds = folds(&graphs);
    let of = |service: &str| folds[service];
    assert_eq!(["S_1", "S_2", "S_3", "S_4", "S_5"].map(of), [0, 1, 2, 1, 2]);
    assert_eq!(super::folds(&reversed(&graphs)), folds);
}

/// A generator that knows nothing but the latency that it is asked for. Training has no graph of the test
/// graphs' services, as under a split by structure, and these take other times than those. A
/// detector that sees answers about the services that it is tested on learns these times from the prompts.
#[test]
fn the_latency_of_the_prompt_teaches_nothing() {
    let graphs = cloud(30, 0..900);
    let services: std::collections::BTreeSet<Name> =
        graphs.iter().map(|graph| graph.service().clone()).collect();
    let tested: Vec<&Name> = services.iter().step_by(2).collect();
    let (test, train): (Vec<CallGraph>, Vec<CallGraph>) =
        graphs.into_iter().partition(|graph| tested.contains(&graph.service()));
    let asked: Vec<Condition> = test.iter().map(condition_of).collect();
    // As many calls as were asked for, all from the root to random microservices.
    let random = |graph: &CallGraph, index: usize| {
        let mut rows = flat(graph.service(), graph.num_edges(), graph.latency()).rows();
        for (row, place) in rows.iter_mut().zip(0..).skip(1) {
            let mut rng = random::stream(7, "test/random calls", &[index as u64, place]);
            let destination = format!("MS_{}", rng.random_range(0..50));
            row.destination = destination.as_str().into();
        }
        Generated::complete(rows)
    };
    let answers: Vec<Generated> =
        test.iter().enumerate().map(|(index, graph)| random(graph, index)).collect();
    let real = dataset(train, test);
    let records = evaluate(&ANOMALIES, &real, &asked, &answers, 5).expect("records");
    let reference = references(&real, asked.len(), 5).expect("records");
    for kind in ["all", "structure", "latency"] {
        let ours = find(&records, AUC, &format!("kind={kind}"));
        let real = find(&reference, AUC, &format!("kind={kind}/reference=train"));
        assert!(ours.value < real.value, "{kind} {ours:?} {real:?}");
    }
}

/// Graphs that take a minute in the place of those that met a fault.
#[test]
fn real_faults_have_a_cell_of_their_own() {
    let (train, test) = (cloud(20, 0..120), cloud(20, 200..240));
    let faulty: Vec<CallGraph> =
        test.iter().chain(&test).map(|graph| flat(graph.service(), 25, 60_000)).collect();
    let sides =
        [(Side::Train, train.len()), (Side::Test, test.len()), (Side::Faulty, faulty.len())];
    let sides = sides.iter().flat_map(|(side, count)| vec![*side; *count]).collect();
    let graphs = [train.clone(), test, faulty].concat();
    let real = Dataset::new(DatasetCard::default(), graphs, sides);
    let records = score(&real, &train);
    let fault = find(&records, AUC, "kind=fault");
    // 80 were to be had, for 40 others.
    assert!(fault.count == 80 && fault.value > 0.9, "{fault:?}");
    assert_eq!(find(&records, AUC, "kind=all").count, 80);
}
