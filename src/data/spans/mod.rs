//! Spans of tracing systems: formats in both directions, and call graphs as spans.
//!
//! Each format is one file with its parser, its writer and its tests. All are read into [`Span`] and
//! written from it; what spans become is one policy for all of them.

mod base64;
mod from_graph;
pub mod jaeger;
pub mod otlp_json;
pub mod otlp_proto;
mod resources;
mod span;
mod writer;
pub mod zipkin;

pub use from_graph::{CALL_ID, CALL_TYPE, ENTRY, TraceAddress, spans};
pub use span::{Attributes, Span, SpanId, SpanKind, Status, TraceId, Value, attribute};
pub use writer::{SpanFormat, SpanWriter};
