//! OTLP/JSON: OpenTelemetry's export requests in JSON, one per line (as the collector's file exporter
//! writes them) or one per file.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::base64;
use super::resources::by_resource;
use super::span::{Attributes, Span, SpanKind, Status, Value, non_finite};
use crate::graph::Name;

/// One export request with these spans: a JSON object on one line, without the line's end. This is also
/// the body that OTLP/HTTP takes at `/v1/traces` with the content type `application/json`.
pub fn request(spans: &[Span]) -> Vec<u8> {
    let resources = by_resource(spans);
    let resource_spans = resources.into_iter().map(|(service, resource, spans)| ResourceSpans {
        resource: Resource { attributes: Listed(Some(service), resource) },
        scope_spans: [ScopeSpans {
            scope: Empty {},
            spans: spans.into_iter().map(Record).collect(),
        }],
    });
    let request = Request { resource_spans: resource_spans.collect() };
    serde_json::to_vec(&request).expect("these types have a JSON form")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_spans: Vec<ResourceSpans<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct Resource<'a> {
    attributes: Listed<'a>,
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Empty,
    spans: Vec<Record<'a>>,
}

#[derive(Serialize)]
struct Empty {}

struct Record<'a>(&'a Span);

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let span = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("traceId", &format_args!("{}", span.trace))?;
        map.serialize_entry("spanId", &format_args!("{}", span.id))?;
        if let Some(parent) = span.parent {
            map.serialize_entry("parentSpanId", &format_args!("{parent}"))?;
        }
        map.serialize_entry("name", &span.operation)?;
        map.serialize_entry("kind", &number(span.kind))?;
        // 64-bit integers are texts in protobuf's JSON form.
        map.serialize_entry("startTimeUnixNano", &format_args!("{}", span.start))?;
        map.serialize_entry("endTimeUnixNano", &format_args!("{}", span.end))?;
        map.serialize_entry("attributes", &Listed(None, &span.attributes))?;
        match span.status {
            Status::Unset => map.serialize_entry("status", &Empty {})?,
            Status::Ok => map.serialize_entry("status", &Code { code: 1 })?,
            Status::Error => map.serialize_entry("status", &Code { code: 2 })?,
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Code {
    code: u8,
}

/// OTLP's number of a kind.
pub fn number(kind: SpanKind) -> u8 {
    kind as u8
}

/// Attributes as OTLP lists them, `service.name` first if it is given.
struct Listed<'a>(Option<&'a Name>, &'a Attributes);

impl Serialize for Listed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let service = self.0.map(|name| Value::Text(name.clone()));
        let service =
            service.iter().map(|value| KeyValue { key: "service.name", value: Any(value) });
        let others = self.1.iter().map(|(key, value)| KeyValue { key, value: Any(value) });
        serializer.collect_seq(service.chain(others))
    }
}

#[derive(Serialize)]
struct KeyValue<'a> {
    key: &'a str,
    value: Any<'a>,
}

struct Any<'a>(&'a Value);

impl Serialize for Any<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match self.0 {
            Value::Text(text) => map.serialize_entry("stringValue", text)?,
            Value::Bool(value) => map.serialize_entry("boolValue", value)?,
            Value::Int(value) => map.serialize_entry("intValue", &format_args!("{value}"))?,
            Value::Double(value) if value.is_finite() => {
                map.serialize_entry("doubleValue", value)?;
            }
            // Protobuf's JSON form has texts for these.
            Value::Double(value) => map.serialize_entry("doubleValue", non_finite(*value))?,
            Value::Bytes(bytes) => map.serialize_entry("bytesValue", &base64::encode(bytes))?,
            Value::List(values) => {
                let values = values.iter().map(Any).collect();
                map.serialize_entry("arrayValue", &Values::<Vec<Any<'_>>> { values })?;
            }
            Value::Map(entries) => {
                let values = Listed(None, entries);
                map.serialize_entry("kvlistValue", &Values { values })?;
            }
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Values<T> {
    values: T,
}
