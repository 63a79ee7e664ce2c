use super::*;
use crate::evaluate::answers::VALID;
use crate::evaluate::tests::{
    answer, assert_same_values, chain, dataset, failed, find, flat, near, reversed,
};
use crate::graph::{Condition, Generated, condition_of};
use crate::testing::renamed;

/// Graphs of four services: flat trees and chains of several sizes and latencies.
fn graphs(count: u32) -> Vec<CallGraph> {
    let graph = |index: u32| {
        let service = format!("S_{}", index % 4);
        let latency = 10 + 7 * (index % 13);
        match index % 3 {
            0 => chain(&service, 1 + index % 4, latency),
            _ => flat(&service, 1 + index % 5, latency),
        }
    };
    (0..count).map(graph).collect()
}

fn score(real: &[CallGraph], asked: &[Condition], answers: &[Generated]) -> Vec<Record> {
    let dataset = dataset(Vec::new(), real.to_vec());
    let valid = answers.iter().filter(|answer| answer.failure.is_none()).count();
    let compared = valid.max(1);
    crate::evaluate::score(&FAMILY, &dataset, asked, answers, None, compared, 9).unwrap().records
}

fn conditions_of(graphs: &[CallGraph]) -> Vec<Condition> {
    graphs.iter().map(condition_of).collect()
}

#[test]
fn a_perfect_copy_is_at_no_distance() {
    let real = graphs(120);
    let answers: Vec<Generated> = real.iter().map(answer).collect();
    let records = score(&real, &conditions_of(&real), &answers);
    for (metric, cell, value) in [
        (EMD_OUT_DEGREE, "nodes=service-graph", 0.0),
        (EMD_OUT_DEGREE, "nodes=calls", 0.0),
        (EMD_OUT_DEGREE, "nodes=microservices", 0.0),
        (EMD_RESPONSE_TIME, "", 0.0),
        (RESPONSE_TIME_KS, "", 0.0),
        (RESPONSE_TIME_EMD, "", 0.0),
        (START_OFFSET_KS, "", 0.0),
        (CONCURRENCY_KS, "", 0.0),
        (QUANTILE_RATIO, "of=latency/quantile=p90", 1.0),
        (CORRELATION_SIMILARITY, "pair=edges-depth", 1.0),
        (CONTINGENCY_SIMILARITY, "", 1.0),
    ] {
        let record = find(&records, metric, cell);
        assert_eq!((record.value, record.count), (value, 120), "{metric} {cell}");
    }
    let pgd = find(&records, PGD, "");
    assert!(pgd.value < 0.3 && pgd.count == 120 && pgd.low.is_nan(), "{pgd:?}");
    assert!(find(&records, MMD, "").value.abs() < 0.02);
}

#[test]
fn the_order_of_graphs_does_not_matter() {
    let real = graphs(100);
    let answers: Vec<Generated> =
        real.iter().map(|g| answer(&flat(g.service(), g.num_edges(), g.latency() + 3))).collect();
    let asked = conditions_of(&real);
    let text = |records: &[Record]| format!("{records:?}");
    assert_eq!(
        text(&score(&real, &asked, &answers)),
        text(&score(&reversed(&real), &reversed(&asked), &reversed(&answers)))
    );
}

#[test]
fn nothing_valid_is_said_and_not_scored() {
    let real = graphs(60);
    let asked = conditions_of(&real);
    let copies: Vec<Generated> = real.iter().map(answer).collect();
    let all: Vec<(&Metric, Dimensions)> = score(&real, &asked, &copies)
        .into_iter()
        .map(|record| (record.metric, record.dimensions))
        .collect();
    // Without valid graphs, without test graphs, and with a single graph: the same records.
    for (real, asked, answers) in [
        (&real[..], &asked[..], vec![failed(); 60]),
        (&[], &asked, copies.clone()),
        (&real[..1], &asked[..1], copies[..1].to_vec()),
        (&real, &[], Vec::new()),
        (&[], &[], Vec::new()),
    ] {
        let records = score(real, asked, &answers);
        let names = records.iter().map(|r| (r.metric, r.dimensions.clone()));
        assert_eq!(names.collect::<Vec<_>>(), all);
        assert!(find(&records, PGD, "").value.is_nan() && find(&records, MMD, "").value.is_nan());
        let empty = real.is_empty() || answers.iter().all(|answer| answer.failure.is_some());
        for record in records.iter().filter(|record| empty && record.metric != VALID) {
            assert!(record.value.is_nan() && record.low.is_nan(), "{record:?}");
        }
    }
}

#[test]
fn equal_graphs_cannot_be_told_apart() {
    let real = vec![flat("S_1", 4, 9); 48];
    let copies: Vec<Generated> = real.iter().map(answer).collect();
    let records = score(&real, &conditions_of(&real), &copies);
    for metric in [PGD, DETECTION] {
        let cells = DESCRIPTORS.iter().map(|descriptor| format!("descriptor={}", descriptor.name));
        for cell in cells {
            let expected = if metric == PGD { 0.0 } else { 1.0 };
            assert_eq!(find(&records, metric, &cell).value, expected, "{metric} {cell}");
        }
    }
    for (metric, cell, value) in [
        (PGD, "", 0.0),
        (MMD, "", 0.0),
        (EMD_OUT_DEGREE, "nodes=calls", 0.0),
        (RESPONSE_TIME_KS, "", 0.0),
        (RESPONSE_TIME_EMD, "", 0.0),
        (RESPONSE_TIME_COVERAGE, "", 1.0),
        (START_OFFSET_KS, "", 0.0),
        (CONCURRENCY_KS, "", 0.0),
        (QUANTILE_RATIO, "of=latency/quantile=p50", 1.0),
        (CONTINGENCY_SIMILARITY, "", 1.0),
    ] {
        assert!(near(find(&records, metric, cell).value, value, 1e-12), "{metric} {cell}");
    }
    // Nothing varies: no deviation to measure by, and no correlation.
    for (metric, cell) in [
        (EMD_IN_DEGREE, "nodes=microservices"),
        (EMD_RESPONSE_TIME, ""),
        (CORRELATION_SIMILARITY, "pair=edges-depth"),
    ] {
        assert!(find(&records, metric, cell).value.is_nan(), "{metric} {cell}");
    }
}

/// Names are hashed into bins by the classifiers and kernels; everything else sees which are equal.
#[test]
fn names_do_not_matter() {
    let real = graphs(100);
    let shifted = |graph: &CallGraph| flat(graph.service(), graph.num_edges(), graph.latency() + 3);
    let synthetic: Vec<CallGraph> = real.iter().map(shifted).collect();
    let values = |change: fn(&CallGraph) -> CallGraph| {
        let [real, synthetic] =
            [&real, &synthetic].map(|side| side.iter().map(change).collect::<Vec<_>>());
        let answers: Vec<Generated> = synthetic.iter().map(answer).collect();
        let mut records = score(&real, &conditions_of(&real), &answers);
        records.retain(|record| ![PGD, DETECTION, MMD].contains(&record.metric));
        records
    };
    let one = values(CallGraph::clone);
    assert!(find(&one, EMD_OUT_DEGREE, "nodes=service-graph").value > 0.0);
    assert!(find(&one, RESPONSE_TIME_EMD, "").value > 0.0);
    assert_same_values(&one, &values(renamed), 1e-12);
}

#[test]
fn the_reference_rows_have_both_references() {
    let records = references(&dataset(graphs(160), graphs(80)), 80, 2);
    for (metric, cell) in [(PGD, ""), (MMD, ""), (EMD_OUT_DEGREE, "nodes=calls")] {
        let halves = find(&records, metric, cell);
        assert!(halves.low <= halves.value && halves.value <= halves.high, "{halves:?}");
        let separator = if cell.is_empty() { "" } else { "/" };
        let cell = format!("{cell}{separator}reference=train");
        assert!(find(&records, metric, &cell).value < 0.3);
    }
    assert_eq!(find(&records, PGD, "").count, 80);
    assert_eq!(find(&records, PGD, "reference=train").count, 80);
    assert!(references(&dataset(Vec::new(), graphs(1)), 80, 2).is_empty());
    // No training graphs: split-half remains.
    let records = references(&dataset(Vec::new(), graphs(100)), 80, 2);
    assert!(!find(&records, PGD, "").value.is_nan());
    assert!(find(&records, PGD, "reference=train").value.is_nan());
}
