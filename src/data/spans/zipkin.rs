//! Zipkin's JSON, version 2: a list of spans, or of traces that are lists of spans.

use std::collections::HashMap;

use indexmap::IndexMap;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::span::{Span, SpanKind, Status, Value};

/// The spans of one trace, as elements of the format's list: JSON objects that commas divide. Times are
/// rounded down to microseconds, the format's unit, and values of attributes become texts, as all of
/// Zipkin's tags are.
pub fn elements(spans: &[Span]) -> Vec<u8> {
    // The two sides of a call may share an id: the callee's is then marked.
    let mut sides: HashMap<u64, u32> = HashMap::with_capacity(spans.len());
    spans.iter().for_each(|span| *sides.entry(span.id.0).or_default() += 1);
    let mut text = Vec::new();
    for span in spans {
        if !text.is_empty() {
            text.push(b',');
        }
        let shared = span.kind == SpanKind::Server && sides[&span.id.0] > 1;
        serde_json::to_writer(&mut text, &Record { span, shared })
            .expect("these types have a JSON form");
    }
    text
}

struct Record<'a> {
    span: &'a Span,
    shared: bool,
}

#[derive(Serialize)]
struct Endpoint<'a> {
    #[serde(rename = "serviceName")]
    service_name: &'a str,
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let span = self.span;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("traceId", &format_args!("{}", span.trace))?;
        map.serialize_entry("id", &format_args!("{}", span.id))?;
        if let Some(parent) = span.parent {
            map.serialize_entry("parentId", &format_args!("{parent}"))?;
        }
        let kind = match span.kind {
            SpanKind::Server => Some("SERVER"),
            SpanKind::Client => Some("CLIENT"),
            SpanKind::Producer => Some("PRODUCER"),
            SpanKind::Consumer => Some("CONSUMER"),
            // Zipkin has no kind for these.
            SpanKind::Internal | SpanKind::Unspecified => None,
        };
        if let Some(kind) = kind {
            map.serialize_entry("kind", kind)?;
        }
        map.serialize_entry("name", &span.operation)?;
        let (start, end) = (span.start / 1000, span.end / 1000);
        if start > 0 {
            map.serialize_entry("timestamp", &start)?;
            if span.end > 0 {
                // Zipkin takes 0 for a duration that is not known.
                map.serialize_entry("duration", &end.saturating_sub(start).max(1))?;
            }
        }
        if self.shared {
            map.serialize_entry("shared", &true)?;
        }
        map.serialize_entry("localEndpoint", &Endpoint { service_name: &span.service })?;
        if let Some(peer) = span.attribute("peer.service").and_then(Value::as_text) {
            map.serialize_entry("remoteEndpoint", &Endpoint { service_name: peer })?;
        }
        let mut tags: IndexMap<&str, String> = IndexMap::new();
        for (key, value) in span.resource.iter().chain(&span.attributes) {
            tags.insert(key, value.plain());
        }
        tags.shift_remove("peer.service");
        match span.status {
            Status::Unset => {}
            Status::Ok => {
                tags.insert("otel.status_code", "OK".into());
            }
            Status::Error => {
                tags.insert("otel.status_code", "ERROR".into());
                tags.entry("error").or_insert_with(|| "true".into());
            }
        }
        map.serialize_entry("tags", &tags)?;
        map.end()
    }
}
