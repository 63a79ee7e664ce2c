//! Prints the table of `docs/simulator.md`: the default cloud beside real datasets.
//!
//!     cargo run --release --example simulator_comparison -- simulator alibaba-v2022-graphs
//!
//! Datasets are named as in `data/`; `TRACEGYM_DATA` is the folder of the real ones.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Result;
use tracegym::data::{BuildOptions, Dataset, DatasetManifest, build, data_root};
use tracegym::graph::{CallGraph, CallType};
use tracegym::progress::Progress;

/// Graphs of sources that draw or simulate them.
const GRAPHS: u64 = 20_000;

/// Graphs of a service from which its uncommon communications are known (paper, section 2: ten
/// for other statistics of services).
const ENOUGH: usize = 10;

fn main() -> Result<()> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let mut columns = Vec::new();
    for name in &names {
        let scratch = tempfile::tempdir()?;
        let options = BuildOptions {
            data_root: data_root(),
            graphs: Some(GRAPHS),
            progress: Progress::detect(false),
            ..BuildOptions::new(scratch.path())
        };
        let dataset = build(&DatasetManifest::find(name)?, &options)?;
        columns.push(column(&dataset));
    }
    println!("| | {} |", names.join(" | "));
    println!("|---|{}", "---:|".repeat(names.len()));
    for row in 0..columns.first().map_or(0, Vec::len) {
        let cells: Vec<&str> = columns.iter().map(|column| column[row].1.as_str()).collect();
        println!("| {} | {} |", columns[0][row].0, cells.join(" | "));
    }
    Ok(())
}

type Column = Vec<(String, String)>;

fn column(dataset: &Dataset) -> Column {
    let graphs = dataset.graphs();
    let mut column = Vec::new();
    let mut push = |label: &str, value: String| column.push((label.to_owned(), value));
    push("graphs", graphs.len().to_string());
    push("calls", graphs.iter().map(|graph| graph.calls().len()).sum::<usize>().to_string());
    let edges = sorted(graphs, CallGraph::num_edges);
    push("calls per graph: p50 / p75 / p90 / p95 / p99 / max", percentiles(&edges));
    let share = |test: &dyn Fn(&CallGraph) -> bool| percent(graphs, test);
    push("graphs of one call", share(&|graph| graph.num_edges() == 1));
    push("graphs of 10 to 30 calls", share(&|graph| (10..=30).contains(&graph.num_edges())));
    for depth in 1..=4 {
        push(&format!("depth {depth}"), share(&|graph| graph.depth() == depth));
    }
    push("depth 5 or more", share(&|graph| graph.depth() >= 5));
    let kinds: Vec<CallType> =
        graphs.iter().flat_map(|graph| graph.calls().iter().map(|call| call.kind)).collect();
    for kind in CallType::ALL {
        push(&format!("calls of type {kind}"), percent(&kinds, &|other| *other == kind));
    }
    let latency = sorted(graphs, CallGraph::latency);
    push("latency, ms: p50 / p75 / p90 / p95 / p99 / max", percentiles(&latency));
    push("siblings that overlap", percent(&overlaps(graphs), &|overlap| *overlap));
    push("graphs that repeat a call", share(&repeats_a_call));
    push("graphs with an uncommon communication", uncommon(graphs));
    popularity(graphs, &mut push);
    column
}

fn popularity(graphs: &[CallGraph], push: &mut impl FnMut(&str, String)) {
    let mut services: BTreeMap<&str, usize> = BTreeMap::new();
    let mut destinations: BTreeMap<&str, usize> = BTreeMap::new();
    for graph in graphs {
        *services.entry(graph.service()).or_default() += 1;
        for call in graph.calls() {
            *destinations.entry(&call.destination).or_default() += 1;
        }
    }
    for (what, counts) in [("services", services), ("microservices", destinations)] {
        let mut counts: Vec<usize> = counts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let total: usize = counts.iter().sum();
        let shares = [1, 2, 3, 10, 30].map(|rank: usize| {
            let count = counts.get(rank - 1).copied().unwrap_or(0);
            format!("{:.1}", 100.0 * count as f64 / total as f64)
        });
        push(what, counts.len().to_string());
        push("share of the 1st / 2nd / 3rd / 10th / 30th of them, %", shares.join(" / "));
    }
}

fn sorted(graphs: &[CallGraph], value: fn(&CallGraph) -> u32) -> Vec<u32> {
    let mut values: Vec<u32> = graphs.iter().map(value).collect();
    values.sort_unstable();
    values
}

fn percentiles(sorted: &[u32]) -> String {
    let at = |share: f64| sorted[((share * sorted.len() as f64) as usize).min(sorted.len() - 1)];
    let values: Vec<String> =
        [0.5, 0.75, 0.9, 0.95, 0.99, 1.0].iter().map(|share| at(*share).to_string()).collect();
    values.join(" / ")
}

fn percent<T>(items: &[T], test: &dyn Fn(&T) -> bool) -> String {
    let count = items.iter().filter(|item| test(item)).count();
    format!("{:.1} %", 100.0 * count as f64 / items.len().max(1) as f64)
}

/// For each two neighbours among siblings: does the second start before the first has finished?
fn overlaps(graphs: &[CallGraph]) -> Vec<bool> {
    let mut overlaps = Vec::new();
    for graph in graphs {
        for children in graph.children() {
            let calls: Vec<_> =
                children.iter().map(|child| &graph.calls()[*child as usize]).collect();
            overlaps.extend(calls.windows(2).map(|pair| pair[1].start < pair[0].finish));
        }
    }
    overlaps
}

type Communication<'a> = (&'a str, CallType, &'a str);

fn communications(graph: &CallGraph) -> Vec<Communication<'_>> {
    let calls = graph.calls().iter().enumerate();
    calls.map(|(index, call)| (graph.source(index), call.kind, &*call.destination)).collect()
}

fn repeats_a_call(graph: &CallGraph) -> bool {
    let all = communications(graph);
    all.iter().collect::<HashSet<_>>().len() < all.len()
}

/// Share of the graphs that have a communication which fewer than 10 % of their service's have.
fn uncommon(graphs: &[CallGraph]) -> String {
    let mut by_service: BTreeMap<&str, Vec<HashSet<Communication<'_>>>> = BTreeMap::new();
    for graph in graphs {
        let set = communications(graph).into_iter().collect();
        by_service.entry(graph.service()).or_default().push(set);
    }
    let mut found = Vec::new();
    for sets in by_service.values().filter(|sets| sets.len() >= ENOUGH) {
        let mut counts: HashMap<Communication<'_>, usize> = HashMap::new();
        for communication in sets.iter().flatten() {
            *counts.entry(*communication).or_default() += 1;
        }
        let rare = |communication| counts[communication] * 10 < sets.len();
        found.extend(sets.iter().map(|set| set.iter().any(rare)));
    }
    percent(&found, &|found| *found)
}
