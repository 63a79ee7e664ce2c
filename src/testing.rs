//! Graphs for unit and property tests.

use proptest::prelude::*;

use crate::graph::{CallGraph, CallRow, CallType, EdgeId, Name, USER};

/// A row in words: `row("0.1", "MS_00001", "MS_00002", "rpc", 0, 3)`.
pub fn row(
    id: &str,
    source: &str,
    destination: &str,
    kind: &str,
    start: u32,
    finish: u32,
) -> CallRow {
    CallRow {
        edge_id: id.parse().expect("edge id"),
        source: source.into(),
        destination: destination.into(),
        kind: kind.parse().expect("call type"),
        start,
        finish,
    }
}

/// The paper's example (section 3): 7 edges, depth 3, latency 8.
pub fn paper_example() -> CallGraph {
    let (a, b) = ("MS_63670", "MS_37691");
    let rows = [
        row("0", USER, a, "http", 0, 8),
        row("0.1", a, a, "rpc", 0, 3),
        row("0.1.1", a, b, "mc", 0, 1),
        row("0.1.2", a, b, "mc", 1, 2),
        row("0.2", a, "MS_23205", "rpc", 3, 4),
        row("0.3", a, "MS_28617", "mc", 4, 5),
        row("0.4", a, "MS_53745", "rpc", 5, 6),
    ];
    CallGraph::from_rows("S_000034483".into(), &rows).expect("valid")
}

/// Another name for each name but `USER`: letters and digits are those from the other end of the
/// alphabet (a is z, 0 is 9), so that names of one form come in the opposite order.
pub fn other_name(name: &Name) -> Name {
    let turned = |char: char| match char {
        'a'..='z' => char::from(b'a' + (b'z' - char as u8)),
        'A'..='Z' => char::from(b'A' + (b'Z' - char as u8)),
        '0'..='9' => char::from(b'0' + (b'9' - char as u8)),
        _ => char,
    };
    match name.as_str() {
        USER => name.clone(),
        other => Name::from(other.chars().map(turned).collect::<String>().as_str()),
    }
}

/// The same graph with its service and all microservices renamed by [`other_name`].
pub fn renamed(graph: &CallGraph) -> CallGraph {
    let rows = graph.rows().into_iter().map(|row| CallRow {
        source: other_name(&row.source),
        destination: other_name(&row.destination),
        ..row
    });
    CallGraph::from_rows(other_name(graph.service()), &rows.collect::<Vec<_>>()).expect("valid")
}

/// Any valid graph of 1 to `max_edges` calls over a few services and microservices, with wide
/// layers, deep chains, gaps in the numbers of siblings and times of several magnitudes.
pub fn any_graph(max_edges: usize) -> impl Strategy<Value = CallGraph> {
    let call = (any::<u32>(), 0..20u32, 0..5usize, 1..3u32, 0.0..1.0f64, 0.0..1.0f64);
    (
        prop::collection::vec(call, 0..max_edges),
        0..4u32,
        prop_oneof![0..10u32, 0..1_000u32, 0..3_000_000u32],
        0..100u32,
        any::<bool>(),
    )
        .prop_map(|(calls, service, latency, start, wide)| {
            graph_from(&calls, service, latency, start, wide)
        })
}

fn graph_from(
    calls: &[(u32, u32, usize, u32, f64, f64)],
    service: u32,
    latency: u32,
    start: u32,
    wide: bool,
) -> CallGraph {
    let microservice = |number: u32| Name::from(format!("MS_{number:05}").as_str());
    let mut rows = vec![CallRow {
        edge_id: EdgeId::root(),
        source: USER.into(),
        destination: microservice(0),
        kind: CallType::Http,
        start,
        finish: start + latency,
    }];
    let mut last_number = vec![0u32];
    for &(parent, destination, kind, step, from, to) in calls {
        let reach = if wide { rows.len().min(2) } else { rows.len() };
        let parent = parent as usize % reach;
        last_number[parent] += step;
        let (lo, hi) = (rows[parent].start, rows[parent].finish);
        let begin = lo + (f64::from(hi - lo) * from) as u32;
        let end = begin + (f64::from(hi - begin) * to) as u32;
        let row = CallRow {
            edge_id: rows[parent].edge_id.child(last_number[parent]),
            source: rows[parent].destination.clone(),
            destination: microservice(destination),
            kind: CallType::ALL[kind],
            start: begin,
            finish: end,
        };
        rows.push(row);
        last_number.push(0);
    }
    let service = Name::from(format!("S_{service:09}").as_str());
    CallGraph::from_rows(service, &rows).expect("valid by construction")
}
