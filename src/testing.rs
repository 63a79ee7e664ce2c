//! Graphs for unit and property tests.

use proptest::prelude::*;

use crate::graph::{CallGraph, CallRow, CallType, EdgeId, MAX_EDGE_ID_LEN, Name, USER};

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

/// Names that try to leave the place where they are shown: markup, control characters, marks of
/// direction, formulas, separators of our own, and length.
pub const HOSTILE_NAMES: [&str; 22] = [
    "a|b",
    "<script>alert(1)</script>",
    "](http://example.org)",
    "![x](http://example.org/x.png)",
    "$x^2$ & \\input{/etc/passwd} % comment",
    "\\\\[1ex]*",
    "*bold* _it_ ~~gone~~ `code` &lt;",
    "line\nbreak\r\n# heading",
    "gnp.\u{202e}exe\u{2066}",
    "\u{1b}[31mred\u{1b}]0;title\u{7}",
    "nul\0",
    "\u{9b}2J\u{200b}\u{a0}\u{2028}\u{ffff}",
    "]]>&<",
    "=HYPERLINK(\"http://example.org\")",
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "#comment, \"quoted\"",
    "a>b:rpc/call=c%3E",
    " spaces ",
    "",
    "\u{1f600}\u{1f1e9}e\u{301}",
];

/// [`HOSTILE_NAMES`], one of 10,000 characters, and what is put together of them.
pub fn hostile_names() -> impl Strategy<Value = String> {
    let one = prop_oneof![
        8 => prop::sample::select(&HOSTILE_NAMES[..]).prop_map(str::to_owned),
        1 => Just("long".repeat(2_500)),
    ];
    prop::collection::vec(one, 1..3).prop_map(|parts| parts.concat())
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

/// Any valid graph whose numbers, times, names and depth reach the ends of what is accepted: edge ids
/// up to 2^32 − 1, times up to 2^32 − 1 ms, paths of hundreds of calls, names of [`HOSTILE_NAMES`].
pub fn extreme_graph(max_edges: usize) -> impl Strategy<Value = CallGraph> {
    let number =
        || prop_oneof![Just(u32::MAX), Just(0), 0..3u32, u32::MAX - 3..u32::MAX, any::<u32>()];
    let share = || prop_oneof![Just(0.0), Just(1.0), 0.0..1.0f64];
    let kind = prop::sample::select(&CallType::ALL[..]);
    let name = || prop::sample::select(&HOSTILE_NAMES[..6]);
    let call = (any::<u32>(), number(), name(), kind, share(), share());
    (
        prop::collection::vec(call, 0..max_edges),
        (name(), number(), number()),
        prop_oneof![3 => Just(0), 1 => Just(MAX_EDGE_ID_LEN - 1)],
    )
        .prop_map(|(calls, (service, one, other), deep)| {
            let mut rows = vec![CallRow {
                edge_id: EdgeId::root(),
                source: USER.into(),
                destination: service.into(),
                kind: CallType::Http,
                start: one.min(other),
                finish: one.max(other),
            }];
            let chain = (0..deep).map(|_| (u32::MAX, u32::MAX, "deep", CallType::Rpc, 0.0, 1.0));
            for (parent, number, destination, kind, from, to) in chain.chain(calls) {
                // The chain's calls are each the child of the last.
                let parent = &rows[if parent == u32::MAX {
                    rows.len() - 1
                } else {
                    parent as usize % rows.len()
                }];
                let (lo, hi) = (parent.start, parent.finish);
                let begin = lo + (f64::from(hi - lo) * from) as u32;
                let end = begin + (f64::from(hi - begin) * to) as u32;
                let row = CallRow {
                    edge_id: parent.edge_id.child(number),
                    source: parent.destination.clone(),
                    destination: destination.into(),
                    kind,
                    start: begin,
                    finish: end,
                };
                // Only what an edge id may be, and each but once.
                if row.edge_id.path().len() <= MAX_EDGE_ID_LEN
                    && rows.iter().all(|other| other.edge_id != row.edge_id)
                {
                    rows.push(row);
                }
            }
            CallGraph::from_rows(service.into(), &rows).expect("valid by construction")
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
