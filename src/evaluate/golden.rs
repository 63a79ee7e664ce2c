//! What every metric that needs no network gives for one fixed dataset and fixed answers.
//!
//! A changed value needs a new version of the metric's id, unless the old one was never what its
//! definition says: numbers of different meaning must not be compared (docs/metrics.md).

use std::collections::BTreeMap;

use super::tests::{answer, chain, failed, flat};
use super::*;
use crate::data::simulator::{Cloud, SimulatorConfig};
use crate::data::{DatasetCard, Side};
use crate::graph::{DecodingCost, Request};
use crate::version::golden;

/// 1,000 graphs of the simulated cloud, of which every fourth is a test graph.
fn simulated(cloud: &Cloud) -> Dataset {
    let graphs: Vec<CallGraph> = (0..1_000).map(|index| cloud.graph(0, index)).collect();
    let sides =
        (0..graphs.len()).map(|index| if index % 4 == 0 { Side::Test } else { Side::Train });
    let (name, source) = ("simulator".to_owned(), "simulator".to_owned());
    Dataset::new(DatasetCard { name, source, ..DatasetCard::default() }, graphs, sides.collect())
}

/// Failures with a graph, copies of training graphs, graphs of nobody, test graphs that do what is asked
/// in words, and other graphs of the service.
fn answers(cloud: &Cloud, dataset: &Dataset, asked: &[Condition]) -> Vec<Generated> {
    let train = dataset.train();
    let reply = |(index, asked): (usize, &Condition)| {
        let (service, edges) = (asked.service.as_str(), asked.num_edges.unwrap_or(1));
        let mut reply = match (index % 7, lender(dataset, asked)) {
            (0 | 1, _) => answer(train[index]),
            (2, _) => answer(&flat(service, edges, 40)),
            (3, _) => answer(&chain(service, edges.min(9), 25)),
            (4, Some(graph)) => answer(graph),
            _ => {
                let service = cloud.service(service).expect("a service of the cloud");
                answer(&cloud.graph_of(service, 1, index as u64).expect("a service"))
            }
        };
        reply.failure = if index % 7 == 0 { failed().failure } else { None };
        reply.cost = DecodingCost {
            tokens: 90 + index as u64,
            choices: 20,
            allowed_mass: 20.0 / f64::from(edges),
        };
        reply
    };
    asked.iter().enumerate().map(reply).collect()
}

/// A test graph with all communications that are asked for; none where nothing is.
fn lender<'a>(dataset: &'a Dataset, asked: &Condition) -> Option<&'a CallGraph> {
    let holds = |graph: &CallGraph| {
        asked.requests.iter().all(|request| match request {
            Request::HighLatency => true,
            Request::Communication(asked) => graph.communications().any(|found| found == *asked),
        })
    };
    let mut test = dataset.test().into_iter();
    let found = test.find(|graph| *graph.service() == asked.service && holds(graph));
    found.filter(|_| !asked.requests.is_empty())
}

/// Nine significant digits: the last bits of logarithms differ between machines (docs/snapshots.md).
fn number(value: f64) -> String {
    let rounded = format!("{value:.8e}").parse::<f64>().expect("a number");
    if rounded.abs() < 1e-12 { "0".to_owned() } else { rounded.to_string() }
}

fn lines(title: &str, records: &[Record]) -> String {
    let shown = records.iter().filter(|record| match record.metric.id {
        // Most of these never occur.
        "edges-share/1" | "depth-share/1" => record.value != 0.0,
        // The same function for all evaluations.
        "model-tokens/1" | "tokens-per-accurate/1" | "allowed-mass/1" => title == "accuracy",
        _ => true,
    });
    let lines = shown.map(|record| {
        let Record { metric, dimensions, value, .. } = record;
        format!("{} {dimensions} {}\n", metric.id, number(*value))
    });
    format!("\n{title}\n{}", lines.collect::<String>())
}

#[test]
fn values_are_those_of_their_versions() {
    let cloud = Cloud::new(&SimulatorConfig::default()).expect("a cloud");
    let dataset = simulated(&cloud);
    let asked = |spec: &Conditions| conditions(spec, &dataset, 1).expect("conditions");
    let test = asked(&Conditions::Test { count: 200 });
    let grid = asked(&Conditions::Grid { max_edges: 4, max_depth: 3, samples: 4 });
    let requests = asked(&Conditions::Instructions { count: 40 });
    let mut texts = BTreeMap::new();
    for family in tests::quick_families() {
        let asked = match family.id {
            "accuracy" => &grid,
            "instructions" => &requests,
            _ => &test,
        };
        let records = evaluate(family, &dataset, asked, &answers(&cloud, &dataset, asked), 5)
            .expect("records");
        let title = family.id.replace('-', " ");
        let mut text = lines(&title, &records);
        // Of distributions they take long, and the tests of this family have them.
        if !["accuracy", "distribution"].contains(&family.id) {
            let sampled =
                Asked { dataset: &dataset, conditions: &test, temperatures: &[0.8], compared: 50 };
            let records = references(family, &sampled, 5).expect("records");
            text += &lines(&format!("{title}, reference rows"), &records);
        }
        texts.insert(family.id, (family.version, text));
    }
    for (version, text) in texts.values() {
        golden::assert(*version, text);
    }
}

/// No prompt, no graph: whatever is said has no value.
#[test]
fn nothing_has_no_numbers() {
    let nothing = tests::dataset(Vec::new(), Vec::new());
    for family in FAMILIES.iter().filter(|family| family.score.is_some()) {
        let Ok(records) = evaluate(family, &nothing, &[], &[], 1) else { continue };
        let real = references(family, &tests::nothing_asked(&nothing), 1).expect("records");
        for record in records.iter().chain(&real) {
            // Of what is a number of things there is none.
            let none = record.value.is_nan()
                || record.value == 0.0 && record.metric == instructions::PROMPTS;
            assert!(none && record.count == 0, "{record:?}");
            assert!(record.low.is_nan() && record.high.is_nan(), "{record:?}");
        }
    }
}
