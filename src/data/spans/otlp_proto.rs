//! OTLP in protobuf: OpenTelemetry's export requests as OTLP/gRPC and OTLP/HTTP carry them.
//!
//! The messages are declared here, as far as they are used, by the numbers of the fields in
//! `opentelemetry/proto/trace/v1/trace.proto`: the crate that has them all brings the whole SDK with it.

use prost::{Message, Oneof};

use super::otlp_json::number;
use super::resources::by_resource;
use super::span::{self, Status, Value};

/// One export request with these spans: the body that OTLP/HTTP takes at `/v1/traces` with the content
/// type `application/x-protobuf`. Requests that are written one behind the other are one request again.
pub fn request(spans: &[span::Span]) -> Vec<u8> {
    let resource_spans = by_resource(spans).into_iter().map(|(service, resource, spans)| {
        let name = KeyValue::of("service.name", &Value::Text(service.clone()));
        let others = resource.iter().map(|(key, value)| KeyValue::of(key, value));
        ResourceSpans {
            resource: Some(Resource { attributes: [name].into_iter().chain(others).collect() }),
            scope_spans: vec![ScopeSpans { spans: spans.into_iter().map(Span::of).collect() }],
        }
    });
    Request { resource_spans: resource_spans.collect() }.encode_to_vec()
}

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<StatusMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct StatusMessage {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Any", tags = "1, 2, 3, 4, 5, 6, 7")]
    value: Option<Any>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Any {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    List(ArrayValue),
    #[prost(message, tag = "6")]
    Map(KeyValueList),
    #[prost(bytes, tag = "7")]
    Bytes(Vec<u8>),
}

#[derive(Clone, PartialEq, Message)]
struct ArrayValue {
    #[prost(message, repeated, tag = "1")]
    values: Vec<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValueList {
    #[prost(message, repeated, tag = "1")]
    values: Vec<KeyValue>,
}

impl Span {
    fn of(span: &span::Span) -> Self {
        Self {
            trace_id: span.trace.0.to_be_bytes().to_vec(),
            span_id: span.id.0.to_be_bytes().to_vec(),
            parent_span_id: span.parent.map_or(Vec::new(), |id| id.0.to_be_bytes().to_vec()),
            name: span.operation.to_string(),
            kind: i32::from(number(span.kind)),
            start_time_unix_nano: span.start,
            end_time_unix_nano: span.end,
            attributes: span.attributes.iter().map(|(k, v)| KeyValue::of(k, v)).collect(),
            status: match span.status {
                Status::Unset => None,
                Status::Ok => Some(StatusMessage { code: 1 }),
                Status::Error => Some(StatusMessage { code: 2 }),
            },
        }
    }
}

impl KeyValue {
    fn of(key: &str, value: &Value) -> Self {
        Self { key: key.to_owned(), value: Some(AnyValue::of(value)) }
    }
}

impl AnyValue {
    fn of(value: &Value) -> Self {
        let value = match value {
            Value::Text(text) => Any::Text(text.to_string()),
            Value::Bool(value) => Any::Bool(*value),
            Value::Int(value) => Any::Int(*value),
            Value::Double(value) => Any::Double(*value),
            Value::Bytes(bytes) => Any::Bytes(bytes.clone()),
            Value::List(values) => {
                Any::List(ArrayValue { values: values.iter().map(Self::of).collect() })
            }
            Value::Map(entries) => {
                let values = entries.iter().map(|(key, value)| KeyValue::of(key, value)).collect();
                Any::Map(KeyValueList { values })
            }
        };
        Self { value: Some(value) }
    }
}
