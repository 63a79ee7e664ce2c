//! A call graph as spans, with the attributes of OpenTelemetry's semantic conventions. What is read back
//! (`tree.rs`) is the same graph.

use std::collections::HashSet;
use std::sync::Arc;

use rand::RngExt;

use super::span::{Attributes, Span, SpanId, SpanKind, Status, TraceId, Value};
use crate::graph::{CallGraph, CallType, Name};
use crate::random;

/// Attribute of a call's spans: its type (`http`, `rpc`, `mc`, `db`, `mq`).
pub const CALL_TYPE: &str = "tracegym.call.type";
/// Attribute of a call's spans: its id in the graph, such as `0.2.1`.
pub const CALL_ID: &str = "tracegym.call.id";
/// Attribute of the root span: the service that the request went to, which the graph is named by.
pub const ENTRY: &str = "tracegym.service";

/// Which trace a graph becomes.
#[derive(Clone, Copy, Debug)]
pub struct TraceAddress {
    /// With `index` the address of the ids that are drawn: equal addresses give equal ids.
    pub seed: u64,
    pub index: u64,
    /// When the trace starts, in nanoseconds since 1970.
    pub start: u64,
}

/// The spans of `graph`, the root's first and parents before their children.
///
/// A call has two sides: a span of kind client (or producer, of a message) in the caller's service, and
/// below it one of kind server (or consumer) in the callee's. A request of the user has the callee's side
/// alone, a call to a database or a cache that calls nobody the caller's, as such systems record no spans.
/// Both sides have the call's times.
pub fn spans(graph: &CallGraph, address: TraceAddress) -> Vec<Span> {
    let mut ids = Ids::of(address);
    let trace = TraceId(ids.trace);
    let calls = graph.calls();
    let edge_ids = graph.edge_ids();
    let degrees = graph.out_degrees();
    let resource = Arc::new(Attributes::new());
    let mut spans = Vec::with_capacity(2 * calls.len());
    // The span inside of which each call's destination makes its own calls.
    let mut inside: Vec<Option<SpanId>> = Vec::with_capacity(calls.len());
    for (index, call) in calls.iter().enumerate() {
        let is_store = matches!(call.kind, CallType::Db | CallType::Mc);
        let at =
            |milliseconds: u32| address.start.saturating_add(u64::from(milliseconds) * 1_000_000);
        let span = |id, parent, service: Name, kind| {
            let mut attributes = conventions(call.kind, kind, &call.destination);
            attributes.push((CALL_TYPE.into(), call.kind.as_str().into()));
            attributes.push((CALL_ID.into(), edge_ids[index].to_string().as_str().into()));
            if index == 0 {
                attributes.push((ENTRY.into(), Value::Text(graph.service().clone())));
            }
            Span {
                trace,
                id,
                parent,
                service,
                operation: operation(call.kind, &call.destination),
                kind,
                start: at(call.start),
                end: at(call.finish),
                status: Status::Unset,
                attributes,
                resource: resource.clone(),
            }
        };
        let message = call.kind == CallType::Mq;
        let mut parent = None;
        if let Some(caller) = call.parent {
            let service = calls[caller as usize].destination.clone();
            let kind = if message { SpanKind::Producer } else { SpanKind::Client };
            let id = ids.next();
            spans.push(span(id, inside[caller as usize], service, kind));
            parent = Some(id);
        }
        if call.parent.is_none() || !is_store || degrees[index] > 0 {
            let kind = if message { SpanKind::Consumer } else { SpanKind::Server };
            let id = ids.next();
            spans.push(span(id, parent, call.destination.clone(), kind));
            parent = Some(id);
        }
        inside.push(parent);
    }
    spans
}

/// Ids of one trace, each but once.
struct Ids {
    random: rand_chacha::ChaCha8Rng,
    trace: u128,
    given: HashSet<u64>,
}

impl Ids {
    fn of(address: TraceAddress) -> Self {
        let mut random = random::stream(address.seed, "span-ids", &[address.index]);
        // All zeros mean that there is no id.
        let trace = loop {
            match random.random::<u128>() {
                0 => {}
                trace => break trace,
            }
        };
        Self { random, trace, given: HashSet::from([0]) }
    }

    fn next(&mut self) -> SpanId {
        loop {
            let id = self.random.random();
            if self.given.insert(id) {
                return SpanId(id);
            }
        }
    }
}

/// The name of a call's spans: what the conventions ask for where nothing is known but whom it reaches.
fn operation(call: CallType, destination: &Name) -> Name {
    match call {
        CallType::Http => "HTTP".into(),
        _ => destination.clone(),
    }
}

/// The attributes by which any reader knows what kind of call it is. Values that the conventions require
/// and that nobody knows are those that they name for this.
fn conventions(call: CallType, side: SpanKind, destination: &Name) -> Attributes {
    let reached = || Value::Text(destination.clone());
    let mut attributes: Vec<(&str, Value)> = match call {
        CallType::Http => vec![("http.request.method", "_OTHER".into())],
        CallType::Rpc => vec![("rpc.system", "other".into()), ("rpc.service", reached())],
        CallType::Mc => vec![("db.system.name", "memcached".into())],
        CallType::Db => vec![("db.system.name", "other_sql".into())],
        CallType::Mq => vec![
            ("messaging.system", "other".into()),
            ("messaging.destination.name", reached()),
            (
                "messaging.operation.type",
                if side.is_outgoing() { "send" } else { "process" }.into(),
            ),
        ],
    };
    if side.is_outgoing() {
        attributes.push(("peer.service", reached()));
        attributes.push(("server.address", reached()));
    }
    attributes.into_iter().map(|(key, value)| (key.into(), value)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::spans::attribute;
    use crate::testing::{any_graph, paper_example};

    const ADDRESS: TraceAddress =
        TraceAddress { seed: 1, index: 2, start: 1_700_000_000_000_000_000 };

    #[test]
    fn calls_have_two_sides_and_stores_one() {
        let spans = spans(&paper_example(), ADDRESS);
        let told: Vec<String> = spans
            .iter()
            .map(|span| {
                let kind = span.kind.as_str();
                let end = (span.end - ADDRESS.start) / 1_000_000;
                format!("{} {kind} {} {end}", span.service, span.operation)
            })
            .collect();
        assert_eq!(
            told,
            [
                "MS_63670 server HTTP 8",
                "MS_63670 client MS_63670 3",
                "MS_63670 server MS_63670 3",
                "MS_63670 client MS_37691 1",
                "MS_63670 client MS_37691 2",
                "MS_63670 client MS_23205 4",
                "MS_23205 server MS_23205 4",
                "MS_63670 client MS_28617 5",
                "MS_63670 client MS_53745 6",
                "MS_53745 server MS_53745 6",
            ]
        );
        let value = |index: usize, key| attribute(&spans[index].attributes, key);
        assert_eq!(value(0, ENTRY), Some(&"S_000034483".into()));
        assert_eq!(value(3, CALL_TYPE), Some(&"mc".into()));
        assert_eq!(value(3, CALL_ID), Some(&"0.1.1".into()));
        assert_eq!(value(3, "peer.service"), Some(&"MS_37691".into()));
        assert_eq!(value(3, ENTRY), None);
        // Another index, other ids; the same, the same.
        let ids = |index| -> Vec<_> {
            let address = TraceAddress { index, ..ADDRESS };
            super::spans(&paper_example(), address).iter().map(|s| (s.trace, s.id)).collect()
        };
        assert_eq!(ids(2), ids(2));
        assert_ne!(ids(2), ids(3));
    }

    proptest! {
        #[test]
        fn ids_are_unique_and_parents_stand_before_their_children(graph in any_graph(20)) {
            let spans = spans(&graph, ADDRESS);
            let mut seen = HashSet::new();
            for (index, span) in spans.iter().enumerate() {
                prop_assert_eq!(span.parent.is_none(), index == 0);
                prop_assert!(span.parent.is_none_or(|parent| seen.contains(&parent)));
                prop_assert!(seen.insert(span.id));
            }
        }
    }
}
