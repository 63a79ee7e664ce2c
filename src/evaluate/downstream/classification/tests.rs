//! The whole task on small datasets.

use rand::RngExt;

use super::*;
use crate::evaluate::downstream::latency::HIGH_LATENCY;
use crate::evaluate::downstream::score::{AUC, BALANCED_ACCURACY, GAP, TRAINING};
use crate::evaluate::downstream::uncommon::UNCOMMON;
use crate::evaluate::tests::{
    answer, assert_same_values, chain, dataset, failed, find, flat, renamed_dataset,
};
use crate::evaluate::{Family, downstream, evaluate};
use crate::random;

const CELL: &str = "task=high-latency";

/// Of four services; large graphs are slow, but for one in ten.
fn graph(index: u32) -> CallGraph {
    let mut rng = random::stream(11, "graph", &[u64::from(index)]);
    let edges = rng.random_range(1..11);
    let slow = (edges > 8) != rng.random_bool(0.1);
    flat(&format!("S_{}", index % 4), edges, if slow { 100 } else { rng.random_range(5..15) })
}

fn graphs(range: std::ops::Range<u32>) -> Vec<CallGraph> {
    range.map(graph).collect()
}

fn score(family: &Family, answers: &[CallGraph]) -> Vec<Record> {
    let dataset = dataset(graphs(0..400), graphs(401..561));
    let conditions: Vec<_> = dataset.test().iter().map(|graph| condition_of(graph)).collect();
    let mut answers: Vec<_> = answers.iter().map(answer).collect();
    answers.resize(conditions.len(), failed());
    evaluate(family, &dataset, &conditions, &answers, 3).expect("records")
}

#[test]
fn real_graphs_teach_what_others_do_not() {
    let references = references(&HIGH_LATENCY, &dataset(graphs(0..400), graphs(401..561)), 3);
    let reference = |name: &str| format!("{CELL}/reference={name}");
    let real = find(&references, BALANCED_ACCURACY, &reference("real"));
    assert!(real.value > 0.65 && real.value < 1.0, "{real:?}");
    assert_eq!(find(&references, BALANCED_ACCURACY, &reference("majority")).value, 0.5);
    assert_eq!(find(&references, AUC, &reference("majority")).value, 0.5);
    let rates = find(&references, AUC, &reference("rates"));
    assert!(rates.value < real.value, "{rates:?}");
    let same = score(&downstream::HIGH_LATENCY, &graphs(600..760));
    assert!(find(&same, GAP, CELL).value.abs() < 15.0, "{:?}", find(&same, GAP, CELL));
    // Small graphs are slow: the opposite is learnt.
    let turned: Vec<CallGraph> = (600..760u32)
        .map(|index| {
            let edges = 1 + (index * 7) % 10;
            flat(&format!("S_{}", index % 4), edges, if edges < 3 { 100 } else { 5 })
        })
        .collect();
    let turned = score(&downstream::HIGH_LATENCY, &turned);
    assert!(find(&turned, AUC, CELL).value < 0.5, "{:?}", find(&turned, AUC, CELL));
    assert!(find(&turned, GAP, CELL).value < -10.0, "{:?}", find(&turned, GAP, CELL));
}

#[test]
fn one_class_is_named_always_and_no_graph_is_not_a_number() {
    let slow: Vec<CallGraph> =
        (0..160).map(|index| flat(&format!("S_{}", index % 4), 3, 500)).collect();
    let slow = score(&downstream::HIGH_LATENCY, &slow);
    assert_eq!(find(&slow, TRAINING, CELL).value, 1.0);
    assert_eq!(find(&slow, BALANCED_ACCURACY, CELL).value, 0.5);
    assert_eq!(find(&slow, AUC, CELL).value, 0.5);
    for task in [&downstream::HIGH_LATENCY, &downstream::UNCOMMON_COMMUNICATION] {
        let none = score(task, &[]);
        let own = none.iter().filter(|record| record.metric.id.starts_with("downstream-"));
        assert!(own.clone().count() == 7 && own.clone().all(|record| record.value.is_nan()));
    }
    let empty = references(&HIGH_LATENCY, &dataset(Vec::new(), Vec::new()), 3);
    assert!(empty.len() == 13 && empty.iter().all(|record| record.value.is_nan()));
}

#[test]
fn graphs_of_one_condition_share_a_fold() {
    let folds: Vec<usize> =
        (1..50).map(|edges| fold(&condition_of(&flat("S_1", edges, 3)))).collect();
    assert!((0..FOLDS).all(|fold| folds.contains(&fold)));
    assert_eq!(fold(&condition_of(&flat("S_1", 2, 3))), fold(&condition_of(&chain("S_1", 2, 3))));
}

/// Columns come in another order, which the last digits of the optimum depend on. Names draw the folds
/// within which areas are taken, so those may be others.
#[test]
fn names_do_not_matter() {
    let one = dataset(graphs(0..400), graphs(401..561));
    let other = renamed_dataset(&one);
    for task in [&HIGH_LATENCY, &UNCOMMON] {
        let [one, other] = [&one, &other].map(|dataset| {
            let mut records = references(task, dataset, 3);
            records.retain(|record| record.metric != AUC);
            records
        });
        assert!(one.iter().any(|record| record.value > 0.5 && record.value < 1.0));
        assert_same_values(&one, &other, 1e-6);
    }
}

/// A rare child makes the graph slow, which is seen above it.
#[test]
fn uncommon_communications_are_found_by_what_they_do() {
    let graph = |index: u32| match index % 13 {
        5 => flat(&format!("S_{}", index % 4), 3, 100),
        _ => flat(&format!("S_{}", index % 4), 2, 10 + index % 9),
    };
    let dataset = dataset((0..400).map(graph).collect(), (400..560).map(graph).collect());
    let conditions: Vec<_> = dataset.test().iter().map(|graph| condition_of(graph)).collect();
    let answers: Vec<_> = (600..760).map(graph).map(|graph| answer(&graph)).collect();
    let records = evaluate(&downstream::UNCOMMON_COMMUNICATION, &dataset, &conditions, &answers, 3)
        .expect("records");
    let cell = "task=uncommon-communication";
    assert_eq!(find(&records, AUC, cell).value, 1.0);
    assert_eq!(find(&records, AUC, cell).count, 160);
    assert!((find(&records, TRAINING, cell).value - 1.0 / 13.0).abs() < 0.01);
    let references = references(&UNCOMMON, &dataset, 3);
    let rates = find(&references, AUC, &format!("{cell}/reference=rates")).value;
    assert!((rates - 0.5).abs() < 0.2, "{rates}");
}
