//! Scoring at scale: `cargo bench --bench scale`.
//!
//! 1,000,000 answers (`TRACEGYM_BENCH_GRAPHS` for another number), drawn from the simulated cloud,
//! against a tenth as many test graphs of it, on all distributional metrics, once. Prints wall time
//! and the most memory that the process held, with the graphs themselves. The goal for a million is
//! 60 s and 4 GiB on two cores.

use std::time::Instant;

use rayon::prelude::*;
use tracegym::data::simulator::{Cloud, SimulatorConfig};
use tracegym::data::{Dataset, DatasetCard, Side};
use tracegym::evaluate::{distribution, evaluate, fidelity};
use tracegym::graph::{CallGraph, Condition, Generated, condition_of};

fn main() {
    let count = std::env::var("TRACEGYM_BENCH_GRAPHS").ok();
    let count: u64 = count.map_or(1_000_000, |text| text.parse().expect("a number of graphs"));
    let cloud = Cloud::new(&SimulatorConfig::default()).expect("possible");
    let test = graphs(&cloud, 1, count.div_ceil(10));
    let sides = vec![Side::Test; test.len()];
    let dataset = Dataset::new(DatasetCard::default(), test, sides);
    let (conditions, answers): (Vec<Condition>, Vec<Generated>) = graphs(&cloud, 2, count)
        .into_par_iter()
        .map(|graph| (condition_of(&graph), Generated::complete(graph.rows())))
        .unzip();
    println!(
        "{count} graphs, {} calls",
        answers.iter().map(|answer| answer.rows.len()).sum::<usize>()
    );
    for family in [&fidelity::FAMILY, &distribution::FAMILY] {
        let start = Instant::now();
        let records = evaluate(family, &dataset, &conditions, &answers, 1).expect("one each");
        let seconds = start.elapsed().as_secs_f64();
        println!("{}: {} records in {seconds:.1} s; {}", family.id, records.len(), peak());
    }
}

fn graphs(cloud: &Cloud, seed: u64, count: u64) -> Vec<CallGraph> {
    (0..count).into_par_iter().map(|index| cloud.graph(seed, index)).collect()
}

/// Peak memory, where the system tells it.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.map_or("memory unknown".to_owned(), |line| line.replace('\t', " "))
}
