//! The whole task on small datasets.

use rand::RngExt;

use super::*;
use crate::evaluate::downstream::CRITICAL_COMPONENTS;
use crate::evaluate::downstream::{ACCURACY_GAP, BALANCED_ACCURACY, GAP, TRAINING};
use crate::evaluate::evaluate;
use crate::evaluate::tests::{answer, assert_same_values, dataset, failed, find, renamed_dataset};
use crate::graph::condition_of;
use crate::testing::{renamed, row};

const CELL: &str = "task=critical-components/application=1";

/// a calls b and then c; each of them is slow now and then, b by `slow` milliseconds.
fn graph(index: u64, slow: u32) -> CallGraph {
    let mut rng = random::stream(7, "graph", &[index]);
    let mut time = |usual: u32, more: u32, share: f64| {
        let jitter = rng.random_range(0..4);
        usual + jitter + if rng.random_bool(share) { more } else { 0 }
    };
    let (b, c) = (time(10, slow, 0.08), time(20, 70, 0.05));
    let rows = [
        row("0", "USER", "a", "http", 0, b + c + 2),
        row("0.1", "a", "b", "rpc", 1, 1 + b),
        row("0.2", "a", "c", "rpc", 1 + b, 1 + b + c),
    ];
    CallGraph::from_rows("S_1".into(), &rows).expect("valid")
}

fn graphs(range: std::ops::Range<u64>, slow: u32) -> Vec<CallGraph> {
    range.map(|index| graph(index, slow)).collect()
}

fn real() -> Dataset {
    dataset(graphs(0..300, 90), graphs(300..500, 90))
}

fn score(answers: &[CallGraph]) -> Vec<Record> {
    score_against(&real(), answers)
}

fn score_against(dataset: &Dataset, answers: &[CallGraph]) -> Vec<Record> {
    let conditions: Vec<_> = dataset.test().iter().map(|graph| condition_of(graph)).collect();
    let mut answers: Vec<_> = answers.iter().map(answer).collect();
    answers.resize(conditions.len(), failed());
    evaluate(&CRITICAL_COMPONENTS, dataset, &conditions, &answers, 3).expect("records")
}

#[test]
fn real_graphs_teach_what_constant_ones_do_not() {
    let references = references(&real(), 3);
    let real = find(&references, BALANCED_ACCURACY, &format!("{CELL}/reference=real"));
    assert!(real.value > 0.7 && real.low > 0.5, "{real:?}");
    let majority = find(&references, BALANCED_ACCURACY, &format!("{CELL}/reference=majority"));
    assert_eq!(majority.value, 0.5);
    assert_eq!(find(&references, APPLICATION, "application=1/service=S_1").value, 300.0);
    // Other graphs of the same kind come near; graphs without slowness name no component.
    let same = score(&graphs(1_000..1_200, 90));
    assert!(find(&same, GAP, CELL).value.abs() < 12.0, "{:?}", find(&same, GAP, CELL));
    let constant = score(&vec![graph(1, 0); 200]);
    assert_eq!(find(&constant, TRAINING, CELL).value, 0.0);
    assert_eq!(find(&constant, BALANCED_ACCURACY, CELL).value, 0.5);
    assert!(find(&constant, ACCURACY_GAP, CELL).value < 0.0);
}

#[test]
fn what_cannot_be_measured_is_not_a_number() {
    // No valid graph; no second application.
    let none = score(&[]);
    assert!(find(&none, BALANCED_ACCURACY, CELL).value.is_nan());
    let second = find(&none, GAP, "task=critical-components/application=2");
    assert!(second.value.is_nan() && second.count == 0);
    let references = references(&dataset(Vec::new(), Vec::new()), 3);
    assert_eq!(references.len(), 2 * (4 + 1 + 4));
    assert!(references.iter().all(|record| record.value.is_nan()));
}

/// Components come in another order, which the last digits of the machines depend on.
#[test]
fn names_do_not_matter() {
    let answers = graphs(3_000..3_200, 60);
    let others: Vec<CallGraph> = answers.iter().map(renamed).collect();
    let again = score_against(&renamed_dataset(&real()), &others);
    assert_same_values(&score(&answers), &again, 1e-6);
}

#[test]
fn same_input_same_records() {
    let answers = graphs(2_000..2_200, 90);
    assert_eq!(format!("{:?}", score(&answers)), format!("{:?}", score(&answers)));
}
