//! Scoring and validation speed: `cargo bench --bench scoring`.
//!
//! 50,000 answers of 8.5 calls on average, from 2,000 services and 3,000 microservices with
//! heavy-tailed popularity, scored against 5,000 test graphs on all metrics.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::RngExt;
use tracegym::data::{Dataset, DatasetCard, Side};
use tracegym::evaluate::{self, Asked, Conditions, accuracy, fidelity};
use tracegym::graph::{
    CallGraph, CallRow, CallType, Condition, EdgeId, Generated, Name, USER, judge_all,
};
use tracegym::random;

const GRAPHS: u64 = 50_000;

/// A number below `below` whose logarithm is uniform: roughly Zipf.
fn popular(rng: &mut impl RngExt, below: u32) -> u32 {
    (f64::from(below).powf(rng.random::<f64>()) as u32).min(below - 1)
}

fn graph(index: u64) -> CallGraph {
    let mut rng = random::stream(1, "bench", &[index]);
    let service = popular(&mut rng, 2_000);
    let microservice = |number: u32| Name::from(format!("MS_{number:05}").as_str());
    let mut rows = vec![CallRow {
        edge_id: EdgeId::root(),
        source: USER.into(),
        destination: microservice(service),
        kind: CallType::Http,
        start: 0,
        finish: rng.random_range(1..500),
    }];
    for number in 1..rng.random_range(1..17) {
        let parent = rows[rng.random_range(0..rows.len())].clone();
        let start = rng.random_range(parent.start..=parent.finish);
        rows.push(CallRow {
            edge_id: parent.edge_id.child(number),
            source: parent.destination,
            destination: microservice((service * 7 + popular(&mut rng, 3_000)) % 3_000),
            kind: CallType::ALL[rng.random_range(0..5)],
            start,
            finish: rng.random_range(start..=parent.finish),
        });
    }
    CallGraph::from_rows(format!("S_{service:09}").as_str().into(), &rows).expect("valid")
}

fn input() -> (Dataset, Vec<Condition>, Vec<Generated>) {
    let graphs: Vec<CallGraph> = (0..10_000).map(graph).collect();
    let sides = (0..graphs.len()).map(|index| [Side::Train, Side::Test][index % 2]).collect();
    let dataset = Dataset::new(DatasetCard::default(), graphs, sides);
    let spec = Conditions::Test { count: GRAPHS as u32 };
    let conditions = evaluate::conditions(&spec, &dataset, 1).expect("test graphs");
    let answers = (0..GRAPHS).map(|index| {
        let rows = graph(10_000 + index).rows();
        Generated::complete(rows)
    });
    (dataset, conditions, answers.collect())
}

fn scoring(criterion: &mut Criterion) {
    let (dataset, conditions, answers) = input();
    let mut group = criterion.benchmark_group("scoring");
    group.sample_size(10).throughput(Throughput::Elements(GRAPHS));
    group.bench_function("validation, graphs", |bencher| {
        bencher.iter(|| black_box(judge_all(&conditions, &answers).expect("one each")));
    });
    for family in [&accuracy::FAMILY, &fidelity::FAMILY] {
        group.bench_function(format!("{}, graphs", family.id), |bencher| {
            bencher.iter(|| {
                let records = evaluate::evaluate(family, &dataset, &conditions, &answers, 1);
                black_box(records.expect("one each"))
            });
        });
    }
    group.bench_function("reference rows", |bencher| {
        let asked = Asked { dataset: &dataset, conditions: &[], temperatures: &[], compared: 500 };
        bencher.iter(|| black_box(evaluate::references(&fidelity::FAMILY, &asked, 1)));
    });
    group.finish();
}

criterion_group!(benches, scoring);
criterion_main!(benches);
