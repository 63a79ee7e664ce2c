//! A span: one side of one operation, as tracing systems record it. All span formats are read into this
//! type and written from it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::base64;
use crate::graph::Name;

/// Id of a trace: 16 bytes, not all of them zero. Shown in 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub u128);

/// Id of a span: 8 bytes, not all of them zero. Shown in 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub u64);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Which part a span has in a call (OpenTelemetry's span kinds).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpanKind {
    /// The source does not say.
    #[default]
    Unspecified,
    /// An operation inside of a service.
    Internal,
    /// The callee's side of a call.
    Server,
    /// The caller's side of a call.
    Client,
    /// The sender's side of a message.
    Producer,
    /// The receiver's side of a message.
    Consumer,
}

impl SpanKind {
    /// In the order of OTLP's numbers, from 0.
    pub const ALL: [SpanKind; 6] = [
        Self::Unspecified,
        Self::Internal,
        Self::Server,
        Self::Client,
        Self::Producer,
        Self::Consumer,
    ];

    /// In lower case, as Jaeger's tag `span.kind` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Internal => "internal",
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }

    /// The side that calls or sends.
    pub fn is_outgoing(self) -> bool {
        matches!(self, Self::Client | Self::Producer)
    }

    /// The side that is called or receives.
    pub fn is_incoming(self) -> bool {
        matches!(self, Self::Server | Self::Consumer)
    }
}

impl FromStr for SpanKind {
    type Err = ();

    /// A name in upper or lower case, with or without `SPAN_KIND_`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let text = match text.get(..10) {
            Some(start) if start.eq_ignore_ascii_case("SPAN_KIND_") => &text[10..],
            _ => text,
        };
        Self::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(text)).ok_or(())
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// The source does not say.
    #[default]
    Unset,
    Ok,
    Error,
}

/// Value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(Name),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Map(Attributes),
}

impl Value {
    /// The text of a value that is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Value {
    /// As text, for formats that have nothing else: a text as it is, bytes in base64, the rest as JSON.
    pub fn plain(&self) -> String {
        match self {
            Self::Text(text) => text.to_string(),
            Self::Bytes(bytes) => base64::encode(bytes),
            Self::Double(value) if !value.is_finite() => non_finite(*value).to_owned(),
            value => serde_json::to_string(value).expect("values have a JSON form"),
        }
    }
}

/// The JSON form without types; bytes in base64, numbers that JSON has none for as text.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Double(value) if value.is_finite() => serializer.serialize_f64(*value),
            Self::Double(value) => serializer.serialize_str(non_finite(*value)),
            Self::Bytes(bytes) => serializer.serialize_str(&base64::encode(bytes)),
            Self::List(values) => serializer.collect_seq(values),
            Self::Map(entries) => {
                serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
            }
        }
    }
}

/// The text of a number that JSON has none for, as protobuf's JSON form has it.
pub fn non_finite(value: f64) -> &'static str {
    match value {
        _ if value.is_nan() => "NaN",
        _ if value > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

/// Keys with their values, in the order of the source.
pub type Attributes = Vec<(Name, Value)>;

/// The value of a key, of its last entry if there are several.
pub fn attribute<'a>(attributes: &'a [(Name, Value)], key: &str) -> Option<&'a Value> {
    attributes.iter().rev().find(|(name, _)| name.as_str() == key).map(|(_, value)| value)
}

/// One side of one operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub trace: TraceId,
    pub id: SpanId,
    /// The span that caused this one; `None` for the first of its trace.
    pub parent: Option<SpanId>,
    /// `service.name` of the process that recorded it; empty where the source does not say.
    pub service: Name,
    /// Name of the span.
    pub operation: Name,
    pub kind: SpanKind,
    /// Nanoseconds since 1970; 0 where the source does not say.
    pub start: u64,
    /// Nanoseconds since 1970; 0 where the source does not say.
    pub end: u64,
    pub status: Status,
    pub attributes: Attributes,
    /// What the process says of itself, besides `service.name`; shared by its spans.
    pub resource: Arc<Attributes>,
}

impl Span {
    /// The value of an attribute of the span.
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        attribute(&self.attributes, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_kinds_have_the_texts_of_the_formats() {
        assert_eq!(TraceId(0xaf7).to_string(), "00000000000000000000000000000af7");
        assert_eq!(SpanId(0xa1).to_string(), "00000000000000a1");
        for kind in SpanKind::ALL {
            let upper = kind.as_str().to_uppercase();
            for text in [kind.as_str(), &upper, &format!("SPAN_KIND_{upper}")] {
                assert_eq!(text.parse(), Ok(kind));
            }
        }
        for text in ["", "SPAN_KIND_", "serve", "9", "spän_kind_server"] {
            assert_eq!(text.parse::<SpanKind>(), Err(()), "{text}");
        }
    }
}
