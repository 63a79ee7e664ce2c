//! Jaeger's JSON: what its UI downloads and its API answers, `{"data": [TRACE, …]}`.

use indexmap::IndexMap;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::base64;
use super::resources::by_resource;
use super::span::{Attributes, Span, SpanKind, Status, Value, non_finite};

/// Tag of a span whose parent did not wait for it, with the value [`FOLLOWS`] (Jaeger's reference
/// `FOLLOWS_FROM`; the attribute is that of OpenTelemetry's conventions for OpenTracing).
pub const REFERENCE: &str = "opentracing.ref_type";
pub const FOLLOWS: &str = "follows_from";

/// The spans of one trace as an element of `data`: a JSON object on one line. Times are rounded down to
/// microseconds, the format's unit.
pub fn trace(spans: &[Span]) -> Vec<u8> {
    let resources = by_resource(spans);
    let mut processes = IndexMap::new();
    let mut records = Vec::with_capacity(spans.len());
    for (number, (service, resource, spans)) in (1..).zip(resources) {
        let key = format!("p{number}");
        records.extend(spans.into_iter().map(|span| Record { span, process: key.clone() }));
        processes.insert(key, Process { service_name: service, tags: Tags(resource, None) });
    }
    let id = spans.first().map_or(String::new(), |span| span.trace.to_string());
    let trace = Trace { trace_id: id, spans: records, processes, warnings: () };
    serde_json::to_vec(&trace).expect("these types have a JSON form")
}

#[derive(Serialize)]
struct Trace<'a> {
    #[serde(rename = "traceID")]
    trace_id: String,
    spans: Vec<Record<'a>>,
    processes: IndexMap<String, Process<'a>>,
    warnings: (),
}

#[derive(Serialize)]
struct Process<'a> {
    #[serde(rename = "serviceName")]
    service_name: &'a str,
    tags: Tags<'a>,
}

struct Record<'a> {
    span: &'a Span,
    process: String,
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let span = self.span;
        let (start, end) = (span.start / 1000, span.end / 1000);
        let follows = span.attribute(REFERENCE).and_then(Value::as_text) == Some(FOLLOWS);
        let reference = span.parent.map(|parent| Reference {
            ref_type: if follows { "FOLLOWS_FROM" } else { "CHILD_OF" },
            trace_id: span.trace.to_string(),
            span_id: parent.to_string(),
        });
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("traceID", &format_args!("{}", span.trace))?;
        map.serialize_entry("spanID", &format_args!("{}", span.id))?;
        map.serialize_entry("flags", &1)?;
        map.serialize_entry("operationName", &span.operation)?;
        map.serialize_entry("references", &reference.as_slice())?;
        map.serialize_entry("startTime", &start)?;
        map.serialize_entry("duration", &end.saturating_sub(start))?;
        map.serialize_entry("tags", &Tags(&span.attributes, Some((span.kind, span.status))))?;
        map.serialize_entry("logs", &[(); 0])?;
        map.serialize_entry("processID", &self.process)?;
        map.serialize_entry("warnings", &())?;
        map.end()
    }
}

#[derive(Serialize)]
struct Reference {
    #[serde(rename = "refType")]
    ref_type: &'static str,
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
}

/// Attributes as tags, with those that Jaeger has for a span's kind and status.
struct Tags<'a>(&'a Attributes, Option<(SpanKind, Status)>);

impl Serialize for Tags<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (kind, status) = self.1.unwrap_or_default();
        let mut own: Vec<(&str, Value)> = Vec::new();
        if kind != SpanKind::Unspecified {
            own.push(("span.kind", kind.as_str().into()));
        }
        match status {
            Status::Unset => {}
            Status::Ok => own.push(("otel.status_code", "OK".into())),
            Status::Error => {
                own.push(("otel.status_code", "ERROR".into()));
                own.push(("error", Value::Bool(true)));
            }
        }
        let own = own.iter().map(|(key, value)| Tag { key, value });
        let others = self.0.iter().filter(|(key, _)| key.as_str() != REFERENCE);
        serializer.collect_seq(own.chain(others.map(|(key, value)| Tag { key, value })))
    }
}

struct Tag<'a> {
    key: &'a str,
    value: &'a Value,
}

impl Serialize for Tag<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("key", self.key)?;
        match self.value {
            Value::Text(text) => {
                map.serialize_entry("type", "string")?;
                map.serialize_entry("value", text)?;
            }
            Value::Bool(value) => {
                map.serialize_entry("type", "bool")?;
                map.serialize_entry("value", value)?;
            }
            Value::Int(value) => {
                map.serialize_entry("type", "int64")?;
                map.serialize_entry("value", value)?;
            }
            Value::Double(value) => {
                map.serialize_entry("type", "float64")?;
                match value.is_finite() {
                    true => map.serialize_entry("value", value)?,
                    false => map.serialize_entry("value", non_finite(*value))?,
                }
            }
            Value::Bytes(bytes) => {
                map.serialize_entry("type", "binary")?;
                map.serialize_entry("value", &base64::encode(bytes))?;
            }
            // Jaeger has no lists: its collector writes them as JSON in a text.
            value @ (Value::List(_) | Value::Map(_)) => {
                map.serialize_entry("type", "string")?;
                map.serialize_entry("value", &value.plain())?;
            }
        }
        map.end()
    }
}
