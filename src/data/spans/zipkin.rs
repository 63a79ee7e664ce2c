//! Zipkin's JSON, version 2: a list of spans, or of traces that are lists of spans.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::ids;
use super::pieces::Piece;
use super::reading::Reading;
use super::span::{Attributes, Span, SpanId, SpanKind, Status, TraceId, Value};
use super::tape::{Node, Problem};

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

/// Reads a piece of a file: a span, or a trace that is a list of spans, alone or as an element of a list.
///
/// # Errors
/// A value that cannot be used, with its key; spans of version 1.
pub fn read(_: &Piece<'_>, node: Node<'_>, reading: &mut Reading<'_>) -> Result<bool, Problem> {
    if !node.is_list() {
        return record(node, reading);
    }
    let mut is_trace = true;
    for (place, element) in node.list()?.enumerate() {
        is_trace &= record(element, reading).map_err(|problem| problem.inside_list(place))?;
    }
    Ok(is_trace)
}

/// Reads a span, and says whether it is one.
fn record(node: Node<'_>, reading: &mut Reading<'_>) -> Result<bool, Problem> {
    if node.get("traceId").is_none() || node.get("id").is_none() && node.get("spanId").is_some() {
        return Ok(false);
    }
    if is_version_1(node) {
        return Err(Problem::new(format!("is {VERSION_1}")));
    }
    let mut trace = None;
    let span = span(node, &mut trace, reading);
    reading.span(span, trace).map(|()| true)
}

/// What is said of spans of version 1.
pub const VERSION_1: &str = "a span of Zipkin's version 1 (annotations `cs`, `sr`, `ss`, `cr`), which is not \
                             read: export it as version 2 (`/api/v2`)";

/// Version 1 says which sides a span has in annotations that name their hosts.
pub fn is_version_1(node: Node<'_>) -> bool {
    let annotations = node.get("annotations").and_then(|list| list.list().ok());
    let mut annotations = annotations.into_iter().flatten();
    node.get("binaryAnnotations").is_some()
        || annotations.any(|annotation| annotation.get("endpoint").is_some())
}

/// A span; `None` if it lacks its own id or its trace's.
fn span(
    node: Node<'_>,
    trace: &mut Option<TraceId>,
    reading: &mut Reading<'_>,
) -> Result<Option<Span>, Problem> {
    let (mut id, mut parent, mut operation) = (None, None, "");
    let (mut kind, mut start, mut duration) = (SpanKind::Unspecified, 0, 0);
    let (mut service, mut peer) = ("", "");
    let (mut code, mut error) = (None, None);
    let mut found = Attributes::new();
    for (key, value) in node.map()? {
        let mut read = || -> Result<(), Problem> {
            match key {
                "traceId" => *trace = ids::hex(value.text()?, 16)?.map(TraceId),
                "id" => id = ids::hex(value.text()?, 8)?,
                "parentId" => parent = ids::hex(value.text()?, 8)?,
                "name" => operation = value.text()?,
                "kind" if value.is_null() => {}
                "kind" => {
                    kind = value.text()?.parse().map_err(|()| value.is_not("a kind of span"))?
                }
                "timestamp" => start = value.unsigned()?,
                "duration" => duration = value.unsigned()?,
                "localEndpoint" => service = endpoint(value)?,
                "remoteEndpoint" => peer = endpoint(value)?,
                "tags" => {
                    for (key, value) in value.map()? {
                        match (key, value.as_text()) {
                            ("otel.status_code", Some("OK")) => code = Some(Status::Ok),
                            ("otel.status_code", Some("ERROR")) => code = Some(Status::Error),
                            ("error", Some(text)) => error = Some(text),
                            _ => {
                                let kept = |reading: &mut Reading<'_>| Ok(reading.value(value));
                                found.extend(reading.attribute(key, kept)?);
                            }
                        }
                    }
                }
                _ => {}
            }
            Ok(())
        };
        read().map_err(|problem| problem.inside(key))?;
    }
    let (Some(trace), Some(id)) = (*trace, id) else { return Ok(None) };
    let status = code.unwrap_or(match error {
        // Whatever it says: the tag is there where something went wrong.
        Some(_) => Status::Error,
        None => Status::Unset,
    });
    if let Some(text) = error.filter(|text| !matches!(*text, "" | "true")) {
        let text = |reading: &mut Reading<'_>| Ok(Some(Value::Text(reading.name(text))));
        found.extend(reading.attribute("error", text)?);
    }
    if !peer.is_empty() && found.iter().all(|(key, _)| key.as_str() != PEER) {
        found.push((reading.name(PEER), Value::Text(reading.name(peer))));
    }
    let nanoseconds = |microseconds: u64| {
        let wrong = || Problem::new(format!("`{microseconds}` µs is no time before 2554"));
        microseconds.checked_mul(1000).ok_or_else(|| wrong().inside("timestamp"))
    };
    let end = match duration {
        0 => 0,
        _ => nanoseconds(start.saturating_add(duration))?,
    };
    Ok(Some(Span {
        trace,
        id: SpanId(id as u64),
        parent: parent.map(|parent| SpanId(parent as u64)),
        service: reading.name(service),
        operation: reading.name(operation),
        kind,
        start: nanoseconds(start)?,
        end,
        status,
        attributes: found,
        resource: Arc::default(),
    }))
}

/// The attribute that Zipkin's other end of a span is.
const PEER: &str = "peer.service";

fn endpoint(node: Node<'_>) -> Result<&str, Problem> {
    let name = node.get("serviceName").map_or(Ok(""), Node::text);
    name.map_err(|problem| problem.inside("serviceName"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::spans::SpanFormat::Zipkin;
    use crate::data::spans::reading::Keep;
    use crate::data::spans::testing::*;

    /// A span as far as Zipkin has room for it: whole microseconds, one of them at least, four kinds, texts
    /// as values, and what the process says of itself as the span's own.
    fn rounded(mut span: Span) -> Span {
        span.start -= span.start % 1000;
        span.end = (span.end - span.end % 1000).max(span.start + 1000);
        if span.kind == SpanKind::Internal {
            span.kind = SpanKind::Unspecified;
        }
        let resource = std::mem::take(&mut span.resource);
        let all = resource.iter().chain(&span.attributes);
        let texts = all.map(|(key, value)| (key.clone(), value.plain().as_str().into()));
        span.attributes = texts.collect();
        span
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(traces in prop::collection::vec(any_trace(), 0..3)) {
            let read = spans_of(Zipkin, &written(Zipkin, &traces));
            let expected = traces.into_iter().map(|spans| spans.into_iter().map(rounded).collect());
            prop_assert_eq!(sorted([read]), sorted(expected));
        }
    }

    const SPAN: &str = r#"{"traceId":"8c1","id":"2","parentId":"1","kind":"CLIENT","timestamp":7,"localEndpoint":{"serviceName":"a"},"remoteEndpoint":{"serviceName":"db"}}"#;

    #[test]
    fn lists_and_lists_of_lists_are_the_same() {
        let spans = spans_of(Zipkin, format!("[{SPAN}]").as_bytes());
        assert_eq!(spans_of(Zipkin, format!("[[{SPAN}]]").as_bytes()), spans);
        assert_eq!(spans_of(Zipkin, format!("{SPAN}\n").as_bytes()), spans);
        let only = &spans[0];
        // A duration that is missing is not 0.
        assert_eq!((only.start, only.end, only.kind), (7_000, 0, SpanKind::Client));
        assert_eq!(
            (only.service.as_str(), only.attribute("peer.service")),
            ("a", Some(&"db".into()))
        );
        assert_eq!((only.trace, only.parent), (TraceId(0x8c1), Some(SpanId(1))));
    }

    #[test]
    fn both_sides_of_a_call_may_share_an_id() {
        let shared = [
            test_span(2, 1, "a", SpanKind::Client, 0, 9),
            test_span(2, 1, "b", SpanKind::Server, 1, 8),
        ];
        let text = String::from_utf8(written(Zipkin, &[shared.to_vec()])).unwrap();
        assert_eq!(text.matches("\"shared\":true").count(), 1);
        assert_eq!(spans_of(Zipkin, text.as_bytes()), shared);
    }

    #[test]
    fn errors_are_tags() {
        let tagged = |tags: &str| {
            let span = SPAN.replace("\"kind\"", &format!("\"tags\":{{{tags}}},\"kind\""));
            spans_of(Zipkin, format!("[{span}]").as_bytes()).remove(0)
        };
        let spans = [
            r#""error":"""#,
            r#""error":"true""#,
            r#""otel.status_code":"ERROR","error":"timeout""#,
        ]
        .map(tagged);
        assert!(spans.iter().all(|span| span.status == Status::Error));
        assert_eq!(
            spans.map(|span| span.attribute("error").cloned()),
            [None, None, Some("timeout".into())]
        );
    }

    #[test]
    fn other_versions_and_slips_are_named() {
        for old in [
            r#""binaryAnnotations":[]"#,
            r#""annotations":[{"value":"sr","endpoint":{"serviceName":"a"}}]"#,
        ] {
            let text = format!(r#"[{{"traceId":"1","id":"2",{old}}}]"#);
            assert!(
                complaint(Zipkin, text.as_bytes())
                    .starts_with("line 1, [0]: is a span of Zipkin's version 1")
            );
        }
        assert_eq!(
            complaint(Zipkin, br#"[{"traceId":"1","id":"000000000000000g"}]"#),
            "line 1, [0].id: `000000000000000g` is no id of at most 16 hexadecimal digits"
        );
        assert!(
            complaint(Zipkin, format!("][{SPAN}").as_bytes())
                .starts_with("line 1, column 1: is not JSON: `][")
        );
        assert!(complaint(Zipkin, br#"{"data":[]}"#).contains("Jaeger's JSON"));
    }

    #[test]
    fn no_input_is_too_strange() {
        let corpus = [
            written(
                Zipkin,
                &[vec![
                    test_span(1, 0, "a", SpanKind::Server, 0, 9),
                    test_span(1, 1, "b", SpanKind::Client, 1, 2),
                ]],
            ),
            format!("[[{SPAN}]]").into_bytes(),
        ];
        mutated(&corpus, 10_000, |bytes| {
            drop(read_bytes(Zipkin, bytes, Keep::All, bytes.len() % 2 == 0))
        });
    }
}
