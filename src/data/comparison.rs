//! What a dataset's graphs look like, in rows that stand beside those of other datasets: the table of
//! `docs/simulator.md`, with which the simulator is calibrated.

use std::collections::{BTreeMap, HashSet};

use super::ServiceStatistics;
use crate::graph::{CallGraph, CallType, Communication};

/// Graphs with more calls than this are large.
const LARGE: u32 = 10;

/// Labels and values of the rows; the labels are the same for all graphs.
pub fn rows(graphs: &[CallGraph]) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    sizes(graphs, &mut rows);
    layers(graphs, &mut rows);
    let kinds: Vec<CallType> =
        graphs.iter().flat_map(|graph| graph.calls().iter().map(|call| call.kind)).collect();
    for kind in CallType::ALL {
        push(&mut rows, format!("calls of type {kind}"), percent(&kinds, |other| *other == kind));
    }
    let latency = graphs.iter().map(CallGraph::latency).collect();
    push(&mut rows, format!("latency, ms: {PERCENTILES}"), percentiles(latency));
    push(&mut rows, "siblings that overlap", percent(&overlaps(graphs), |overlap| *overlap));
    push(&mut rows, "graphs that repeat a call", percent(graphs, repeats_a_call));
    push(&mut rows, "graphs with an uncommon communication", uncommon(graphs));
    popularity(graphs, &mut rows);
    rows
}

type Rows = Vec<(String, String)>;

fn push(rows: &mut Rows, label: impl Into<String>, value: String) {
    rows.push((label.into(), value));
}

fn sizes(graphs: &[CallGraph], rows: &mut Rows) {
    let calls: usize = graphs.iter().map(|graph| graph.calls().len()).sum();
    push(rows, "graphs", graphs.len().to_string());
    push(rows, "calls", calls.to_string());
    let edges = graphs.iter().map(CallGraph::num_edges).collect();
    push(rows, format!("calls per graph: {PERCENTILES}"), percentiles(edges));
    push(rows, "graphs of one call", percent(graphs, |graph| graph.num_edges() == 1));
    let middle = |graph: &CallGraph| (10..=30).contains(&graph.num_edges());
    push(rows, "graphs of 10 to 30 calls", percent(graphs, middle));
    push(rows, "graphs of more than 10 calls", percent(graphs, |graph| graph.num_edges() > LARGE));
    push(
        rows,
        "graphs of more than 30 calls",
        fine_percent(graphs, |graph| graph.num_edges() > 30),
    );
    for depth in 1..=4 {
        push(rows, format!("depth {depth}"), percent(graphs, |graph| graph.depth() == depth));
    }
    push(rows, "depth 5 or more", percent(graphs, |graph| graph.depth() >= 5));
}

/// The calls that one caller makes; the user's layer is the root call alone.
struct Layer {
    /// Depth of its calls: 1 for the root.
    depth: u32,
    width: u32,
    /// Calls that make calls: those of which the recursive text has sub-conditions.
    callers: Vec<u32>,
    /// Pairs of type and destination.
    distinct: u32,
}

impl Layer {
    fn branches(&self) -> bool {
        self.callers.len() >= 2
    }
}

fn layers_of(graph: &CallGraph) -> Vec<Layer> {
    let children = graph.children();
    let calls = graph.calls();
    let mut depths = vec![1; calls.len()];
    let mut layers = vec![layer(graph, &children, 1, &[0])];
    for (caller, layer_calls) in children.iter().enumerate().filter(|(_, calls)| !calls.is_empty())
    {
        let depth = depths[caller] + 1;
        layer_calls.iter().for_each(|call| depths[*call as usize] = depth);
        layers.push(layer(graph, &children, depth, layer_calls));
    }
    layers
}

fn layer(graph: &CallGraph, children: &[Vec<u32>], depth: u32, calls: &[u32]) -> Layer {
    let makes_calls = |place: &u32| !children[calls[*place as usize] as usize].is_empty();
    let kinds = calls.iter().map(|call| {
        let call = &graph.calls()[*call as usize];
        (call.kind, &call.destination)
    });
    let distinct = kinds.collect::<HashSet<_>>().len() as u32;
    let width = calls.len() as u32;
    Layer { depth, width, callers: (0..width).filter(makes_calls).collect(), distinct }
}

fn layers(graphs: &[CallGraph], rows: &mut Rows) {
    let of_graph: Vec<Vec<Layer>> = graphs.iter().map(layers_of).collect();
    let layers: Vec<&Layer> = of_graph.iter().flatten().collect();
    let callers = [0, 1, 2].map(|count| fine(&layers, |layer| layer.callers.len() == count));
    let more = fine(&layers, |layer| layer.callers.len() > 2);
    let shares = [&callers[..], &[more]].concat().join(" / ");
    push(rows, "layers with 0 / 1 / 2 / 3 or more calls that make calls, %", shares);
    push(
        rows,
        "layers with two or more sub-conditions",
        fine_percent(&layers, |layer| layer.branches()),
    );
    let below: Vec<&Layer> = layers.iter().copied().filter(|layer| layer.depth > 1).collect();
    let widths = below.iter().map(|layer| layer.width).collect();
    push(rows, format!("calls per layer below the root: {PERCENTILES}"), percentiles(widths));
    let mean_at = |depth: u32| {
        let at: Vec<u32> =
            below.iter().filter(|l| l.depth.min(5) == depth).map(|l| l.width).collect();
        format!("{:.1}", f64::from(at.iter().sum::<u32>()) / at.len() as f64)
    };
    let means = [2, 3, 4, 5].map(mean_at).join(" / ");
    push(rows, "mean calls per layer at depth 2 / 3 / 4 / 5 or more", means);
    let wide: Vec<&&Layer> = below.iter().filter(|layer| layer.width > 1).collect();
    let (distinct, all) =
        wide.iter().fold((0, 0), |(d, a), layer| (d + layer.distinct, a + layer.width));
    let repeated = 100.0 * f64::from(all - distinct) / f64::from(all.max(1));
    push(rows, "calls of wider layers that repeat a sibling", format!("{repeated:.1} %"));

    let branching: Vec<(u32, bool)> = graphs
        .iter()
        .zip(&of_graph)
        .map(|(graph, layers)| (graph.num_edges(), layers.iter().any(Layer::branches)))
        .collect();
    let of_size = |sizes: std::ops::RangeInclusive<u32>| {
        let of: Vec<bool> =
            branching.iter().filter(|(edges, _)| sizes.contains(edges)).map(|(_, b)| *b).collect();
        fine(&of, |branches| *branches)
    };
    let by_size = [2..=5, 6..=10, 11..=15, 16..=u32::MAX].map(of_size).join(" / ");
    push(rows, "graphs of 2 to 5 / 6 to 10 / 11 to 15 / more calls with such a layer, %", by_size);
    let large = of_size(LARGE + 1..=u32::MAX);
    push(rows, format!("graphs of more than {LARGE} calls with such a layer"), large + " %");

    let spines: Vec<&&Layer> = wide.iter().copied().filter(|l| l.callers.len() == 1).collect();
    let places = [
        fine(&spines, |layer| layer.callers[0] == 0),
        fine(&spines, |layer| (1..layer.width - 1).contains(&layer.callers[0])),
        fine(&spines, |layer| layer.callers[0] + 1 == layer.width),
    ];
    push(
        rows,
        "place of the one call that makes calls among its siblings: first / between / last, %",
        places.join(" / "),
    );
    let deep: Vec<u32> =
        graphs.iter().filter(|g| g.num_edges() > LARGE).map(|g| g.depth().min(5)).collect();
    let depths = [2, 3, 4, 5].map(|depth| fine(&deep, |other| *other == depth)).join(" / ");
    push(
        rows,
        format!("depth 2 / 3 / 4 / 5 or more of graphs of more than {LARGE} calls, %"),
        depths,
    );
}

fn popularity(graphs: &[CallGraph], rows: &mut Rows) {
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
        push(rows, what, counts.len().to_string());
        push(
            rows,
            format!("share of the 1st / 2nd / 3rd / 10th / 30th of the {what}, %"),
            shares.join(" / "),
        );
    }
}

const PERCENTILES: &str = "p50 / p75 / p90 / p95 / p99 / max";

fn percentiles(mut values: Vec<u32>) -> String {
    values.sort_unstable();
    let at = |share: f64| {
        let place = ((share * values.len() as f64) as usize).min(values.len().saturating_sub(1));
        values.get(place).map_or("n/a".to_owned(), u32::to_string)
    };
    [0.5, 0.75, 0.9, 0.95, 0.99, 1.0].map(at).join(" / ")
}

fn share<T>(items: &[T], holds: impl Fn(&T) -> bool) -> f64 {
    100.0 * items.iter().filter(|item| holds(item)).count() as f64 / items.len() as f64
}

fn percent<T>(items: &[T], holds: impl Fn(&T) -> bool) -> String {
    format!("{:.1} %", share(items, holds))
}

/// For shares of which a tenth of a percent is much.
fn fine<T>(items: &[T], holds: impl Fn(&T) -> bool) -> String {
    let share = share(items, holds);
    if share >= 9.95 { format!("{share:.1}") } else { format!("{share:.2}") }
}

fn fine_percent<T>(items: &[T], holds: impl Fn(&T) -> bool) -> String {
    fine(items, holds) + " %"
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

fn repeats_a_call(graph: &CallGraph) -> bool {
    let all: Vec<Communication> = graph.communications().collect();
    all.iter().collect::<HashSet<_>>().len() < all.len()
}

/// Share of the graphs that have a communication which fewer than 10 % of their service's have.
fn uncommon(graphs: &[CallGraph]) -> String {
    let services = ServiceStatistics::new(graphs);
    let known = graphs.iter().filter_map(|graph| Some((graph, services.get(graph.service())?)));
    let found: Vec<bool> = known
        .map(|(graph, service)| graph.communications().any(|c| service.uncommon.contains(&c)))
        .collect();
    percent(&found, |found| *found)
}
