//! Spans of tracing systems: formats in both directions, and call graphs as spans.
//!
//! Each format is one file with its parser, its writer and its tests. All are read into [`Span`] and
//! written from it; what spans become is one policy for all of them.

mod base64;
mod collect;
mod from_graph;
mod ids;
pub mod jaeger;
pub mod otlp_json;
pub mod otlp_proto;
mod pieces;
mod read;
mod reading;
mod resources;
mod sources;
mod span;
pub(super) mod table;
mod tape;
#[cfg(test)]
mod testing;
mod tree;
mod writer;
pub mod zipkin;

pub use from_graph::{CALL_ID, CALL_TYPE, ENTRY, TraceAddress, spans};
pub use read::{ReadOptions, format_of_text, read, read_from};
pub use reading::{Counts, Keep, Read};
pub use sources::{Jaeger, Otlp, Zipkin, is_text};
pub use span::{Attributes, Span, SpanId, SpanKind, Status, TraceId, Value, attribute};
pub use table::SpanTable;
pub use tree::{Changes, Entry, Names, Policy};
pub use writer::{SpanFormat, SpanWriter};
