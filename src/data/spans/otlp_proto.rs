//! OTLP in protobuf: OpenTelemetry's export requests as OTLP/gRPC and OTLP/HTTP carry them.
//!
//! The messages are declared here, as far as they are used, by the numbers of the fields in
//! `opentelemetry/proto/trace/v1/trace.proto`: the crate that has them all brings the whole SDK with it.

use std::io::{self, BufRead, ErrorKind, Read};
use std::sync::Arc;

use prost::encoding::{WireType, decode_key, decode_varint};
use prost::{Message, Oneof};

use super::ids;
use super::otlp_json::{SCOPE, SERVICE, number};
use super::reading::Reading;
use super::resources::by_resource;
use super::span::{self, Attributes, SpanId, SpanKind, Status, TraceId, Value};
use super::tape::Problem;
use crate::data::table::shown;
use crate::graph::Name;

/// One export request with these spans: the body that OTLP/HTTP takes at `/v1/traces` with the content
/// type `application/x-protobuf`. Requests that are written one behind the other are one request again.
pub fn request(spans: &[span::Span]) -> Vec<u8> {
    let resource_spans = by_resource(spans).into_iter().map(|(service, resource, spans)| {
        let name = KeyValue::of(SERVICE, &Value::Text(service.clone()));
        let others = resource.iter().map(|(key, value)| KeyValue::of(key, value));
        ResourceSpans {
            resource: Some(Resource { attributes: [name].into_iter().chain(others).collect() }),
            scope_spans: vec![ScopeSpans {
                scope: Some(Scope { name: SCOPE.to_owned() }),
                spans: spans.into_iter().map(Span::of).collect(),
            }],
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
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
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

/// Largest field of a request: the spans of a process.
const MAX_FIELD_BYTES: u64 = 256 << 20;

/// What is wrong with a file, and at which of its bytes, from 0.
#[derive(Debug)]
pub enum Fault {
    /// The file cannot be read on.
    Broken(io::Error),
    /// It is not what it should be: no matter of one field.
    Wrong(u64, String),
    /// A field cannot be used; reading may go on behind it.
    Field(u64, Problem),
}

/// Reads requests: one, several that stand one behind the other, or several of which each has its length
/// in four bytes in front of it, as the collector's file exporter writes them.
pub struct Requests<R> {
    reader: R,
    /// Bytes passed.
    at: u64,
    /// Whether requests have their lengths in front.
    is_framed: bool,
    /// What is left of the request, if its length is known.
    left: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> Requests<R> {
    /// # Errors
    /// The file cannot be read.
    pub fn new(mut reader: R) -> io::Result<Self> {
        // A request begins with its first field, the tag of which is 10; a length of four bytes, the
        // highest first, begins with 10 if it is more than 160 MB.
        let is_framed = reader.fill_buf()?.first().is_some_and(|byte| *byte != 0x0a);
        Ok(Self { reader, at: 0, is_framed, left: 0, buffer: Vec::new() })
    }

    /// Reads the spans of the next process; `false` at the end of the file.
    ///
    /// # Errors
    /// What is not a request, or cannot be used.
    pub fn next(&mut self, reading: &mut Reading<'_>) -> Result<bool, Fault> {
        loop {
            if self.reader.fill_buf().map_err(Fault::Broken)?.is_empty() {
                return match self.left {
                    0 => Ok(false),
                    _ => Err(self.wrong("the file ends in the middle of a request")),
                };
            }
            if self.is_framed && self.left == 0 {
                let mut length = [0; 4];
                self.take(&mut length)?;
                self.left = u64::from(u32::from_be_bytes(length));
                continue;
            }
            let start = self.at;
            let (tag, wire) = self.key()?;
            let length = match wire {
                WireType::LengthDelimited => self.varint()?,
                WireType::SixtyFourBit => 8,
                WireType::ThirtyTwoBit => 4,
                WireType::Varint => self.varint().map(|_| 0)?,
                WireType::StartGroup | WireType::EndGroup => {
                    return Err(self.wrong("holds a group, which no request of OTLP does"));
                }
            };
            if length > MAX_FIELD_BYTES {
                let message = format!("a field of {length} bytes, more than {MAX_FIELD_BYTES}");
                return Err(self.wrong(&message));
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.clear();
            let read = self.reader.by_ref().take(length).read_to_end(&mut buffer);
            let read = read.map_err(Fault::Broken)? as u64;
            self.buffer = buffer;
            self.pass(read)?;
            if read < length {
                return Err(self.wrong("the file ends in the middle of a field"));
            }
            if (tag, wire) == (1, WireType::LengthDelimited) {
                let field = ResourceSpans::decode(self.buffer.as_slice());
                let field = field.map_err(|error| Problem::new(error.to_string()));
                let done = field.and_then(|field| field.read(reading));
                return done.map(|()| true).map_err(|problem| Fault::Field(start, problem));
            }
        }
    }

    fn wrong(&self, message: &str) -> Fault {
        Fault::Wrong(self.at, message.to_owned())
    }

    /// Counts bytes that were read.
    fn pass(&mut self, count: u64) -> Result<(), Fault> {
        self.at += count;
        if self.is_framed {
            let left = self.left.checked_sub(count);
            self.left = left.ok_or_else(|| self.wrong("a field is longer than its request"))?;
        }
        Ok(())
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), Fault> {
        self.reader.read_exact(bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => self.wrong("the file ends in the middle of a length"),
            _ => Fault::Broken(error),
        })?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Bytes up to the end of a variable-length integer.
    fn varint_bytes(&mut self) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::with_capacity(10);
        while bytes.len() < 10 && bytes.last().is_none_or(|byte| byte & 0x80 != 0) {
            let mut byte = [0];
            self.reader.read_exact(&mut byte).map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => self.wrong("the file ends in the middle of a field"),
                _ => Fault::Broken(error),
            })?;
            self.pass(1)?;
            bytes.push(byte[0]);
        }
        Ok(bytes)
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let bytes = self.varint_bytes()?;
        decode_varint(&mut bytes.as_slice()).map_err(|error| self.wrong(&error.to_string()))
    }

    fn key(&mut self) -> Result<(u32, WireType), Fault> {
        let bytes = self.varint_bytes()?;
        decode_key(&mut bytes.as_slice())
            .map_err(|error| self.wrong(&format!("is no request of OTLP: {error}")))
    }
}

impl ResourceSpans {
    fn read(self, reading: &mut Reading<'_>) -> Result<(), Problem> {
        let mut service = reading.name("");
        let mut resource = Attributes::new();
        for KeyValue { key, value } in self.resource.unwrap_or_default().attributes {
            let value = value.and_then(|value| value.value);
            if key != SERVICE {
                resource.extend(reading.attribute(&key, |reading| {
                    Ok(value.and_then(|value| value.into_value(reading)))
                })?);
            } else if let Some(value) = value.and_then(|value| value.into_value(reading)) {
                service = reading.name(&value.plain());
            }
        }
        let resource = Arc::new(resource);
        for span in self.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let trace = id(&span.trace_id, 16).map(|id| id.map(TraceId));
            let known = trace.as_ref().ok().copied().flatten();
            let span = trace.and_then(|trace| span.into_span(trace, &service, &resource, reading));
            reading.span(span, known)?;
        }
        Ok(())
    }
}

/// An id by its bytes; `None` for none and for zeros.
fn id(bytes: &[u8], length: usize) -> Result<Option<u128>, Problem> {
    if !bytes.is_empty() && bytes.len() != length {
        let message = format!("an id has {} bytes in place of {length}", bytes.len());
        return Err(Problem::new(message));
    }
    Ok(ids::number(bytes))
}

impl Span {
    /// `None` if it lacks its own id or its trace's.
    fn into_span(
        self,
        trace: Option<TraceId>,
        service: &Name,
        resource: &Arc<Attributes>,
        reading: &mut Reading<'_>,
    ) -> Result<Option<span::Span>, Problem> {
        let told = |problem: Problem| problem.inside(&format!("span `{}`", shown(&self.name)));
        let own = id(&self.span_id, 8).map_err(told)?;
        let parent = id(&self.parent_span_id, 8).map_err(told)?;
        let (Some(trace), Some(own)) = (trace, own) else { return Ok(None) };
        let kind = usize::try_from(self.kind).ok().and_then(|kind| SpanKind::ALL.get(kind));
        let mut attributes = Attributes::new();
        for KeyValue { key, value } in self.attributes {
            let value = value.and_then(|value| value.value);
            attributes.extend(reading.attribute(&key, |reading| {
                Ok(value.and_then(|value| value.into_value(reading)))
            })?);
        }
        Ok(Some(span::Span {
            trace,
            id: SpanId(own as u64),
            parent: parent.map(|parent| SpanId(parent as u64)),
            service: service.clone(),
            operation: reading.name(&self.name),
            kind: kind.copied().unwrap_or_default(),
            start: self.start_time_unix_nano,
            end: self.end_time_unix_nano,
            status: match self.status.map_or(0, |status| status.code) {
                1 => Status::Ok,
                2 => Status::Error,
                _ => Status::Unset,
            },
            attributes,
            resource: resource.clone(),
        }))
    }
}

impl Any {
    /// `None` for a value that is empty.
    fn into_value(self, reading: &mut Reading<'_>) -> Option<Value> {
        Some(match self {
            Any::Text(text) => Value::Text(reading.name(&text)),
            Any::Bool(value) => Value::Bool(value),
            Any::Int(value) => Value::Int(value),
            Any::Double(value) => Value::Double(value),
            Any::Bytes(bytes) => Value::Bytes(bytes),
            Any::List(list) => {
                let values = list.values.into_iter().filter_map(|value| value.value);
                Value::List(values.filter_map(|value| value.into_value(reading)).collect())
            }
            Any::Map(list) => {
                let mut entries = Attributes::new();
                for KeyValue { key, value } in list.values {
                    if let Some(value) = value.and_then(|value| value.value)
                        && let Some(value) = value.into_value(reading)
                    {
                        entries.push((reading.name(&key), value));
                    }
                }
                Value::Map(entries)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::spans::SpanFormat::OtlpProto;
    use crate::data::spans::reading::Keep;
    use crate::data::spans::testing::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(traces in prop::collection::vec(any_trace(), 0..3)) {
            let read = spans_of(OtlpProto, &written(OtlpProto, &traces));
            prop_assert_eq!(sorted([read]), sorted(traces));
        }
    }

    fn two() -> [Vec<u8>; 2] {
        [1, 2].map(|id| request(&[test_span(id, 0, "a", SpanKind::Server, 0, 9)]))
    }

    #[test]
    fn requests_may_have_their_lengths_in_front() {
        let [one, other] = two();
        let framed: Vec<u8> = [&one, &other]
            .iter()
            .flat_map(|bytes| [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat())
            .collect();
        let whole = spans_of(OtlpProto, &[one, other].concat());
        assert_eq!(spans_of(OtlpProto, &framed), whole);
        assert_eq!(whole.len(), 2);
        assert_eq!(
            complaint(OtlpProto, &framed[..framed.len() - 3]),
            format!("byte {}: the file ends in the middle of a field", framed.len() - 3)
        );
        let mut long = framed;
        long[3] -= 5;
        assert!(complaint(OtlpProto, &long).contains("a field is longer than its request"));
    }

    #[test]
    fn what_is_no_request_is_named() {
        assert!(complaint(OtlpProto, b"{\"resourceSpans\":[]}").starts_with("byte "));
        let mut message = Span::of(&test_span(1, 0, "a", SpanKind::Server, 0, 9));
        message.trace_id = vec![1, 2];
        message.name = "x".into();
        let scope_spans = vec![ScopeSpans { scope: None, spans: vec![message] }];
        let bytes = Request { resource_spans: vec![ResourceSpans { resource: None, scope_spans }] }
            .encode_to_vec();
        assert_eq!(complaint(OtlpProto, &bytes), "byte 0: an id has 2 bytes in place of 16");
        let (entries, counts) = read_bytes(OtlpProto, &bytes, Keep::All, true).unwrap();
        assert_eq!((entries.len(), counts.bad), (0, 1));
    }

    #[test]
    fn no_input_is_too_strange() {
        mutated(&[two().concat()], 10_000, |bytes| {
            drop(read_bytes(OtlpProto, bytes, Keep::All, bytes.len() % 2 == 0));
        });
    }
}
