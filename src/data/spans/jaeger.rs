//! Jaeger's JSON: what its UI downloads and its API answers, `{"data": [TRACE, …]}`.

use indexmap::IndexMap;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use std::collections::HashMap;
use std::sync::Arc;

use super::base64;
use super::ids;
use super::pieces::Piece;
use super::reading::Reading;
use super::resources::by_resource;
use super::span::{Attributes, Span, SpanId, SpanKind, Status, TraceId, Value, non_finite};
use super::tape::{Node, Problem};
use crate::graph::Name;

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
                if value.is_finite() {
                    map.serialize_entry("value", value)?
                } else {
                    map.serialize_entry("value", non_finite(*value))?
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

/// First keys of documents.
pub const KEYS: &[&str] = &["data"];

/// Reads a piece of a file: a trace, alone or as an element of a list.
///
/// Ids are numbers in hexadecimal digits, with or without zeros in front. A span's parent is the first of
/// its references `CHILD_OF` into its own trace, else the first `FOLLOWS_FROM`, which the span then says
/// ([`REFERENCE`]). A span that refers as a child to other traces only has a parent that is missing.
///
/// # Errors
/// A value that cannot be used, with its key.
pub fn read(_: &Piece<'_>, node: Node<'_>, reading: &mut Reading<'_>) -> Result<bool, Problem> {
    let Some(list) = node.get("spans").filter(|_| node.is_map()) else {
        // A document whose first key is another one.
        let Some(data) = node.get("data") else { return Ok(false) };
        let mut is_document = false;
        for (place, element) in data.list().map_err(|p| p.inside("data"))?.enumerate() {
            let read = trace_in(element, reading);
            is_document |= read.map_err(|p| p.inside_list(place).inside("data"))?;
        }
        return Ok(is_document);
    };
    spans_in(node, list, reading).map(|()| true)
}

fn trace_in(node: Node<'_>, reading: &mut Reading<'_>) -> Result<bool, Problem> {
    match node.get("spans") {
        Some(list) => spans_in(node, list, reading).map(|()| true),
        None => Ok(false),
    }
}

/// A process: its service and what it says of itself.
type Known = (Name, Arc<Attributes>);

fn spans_in(node: Node<'_>, list: Node<'_>, reading: &mut Reading<'_>) -> Result<(), Problem> {
    let whole = match node.get("traceID") {
        Some(id) => trace_id(id).map_err(|problem| problem.inside("traceID"))?,
        None => None,
    };
    let mut processes: HashMap<&str, Known> = HashMap::new();
    if let Some(map) = node.get("processes") {
        for (key, value) in map.map().map_err(|problem| problem.inside("processes"))? {
            let known = process_of(value, reading);
            let known = known.map_err(|problem| problem.inside(key).inside("processes"))?;
            processes.insert(key, known);
        }
    }
    for (place, record) in list.list().map_err(|problem| problem.inside("spans"))?.enumerate() {
        let mut trace = None;
        let span = span(record, whole, &processes, &mut trace, reading);
        let span = span.map_err(|problem| problem.inside_list(place).inside("spans"));
        reading.span(span, trace)?;
    }
    Ok(())
}

fn process_of(node: Node<'_>, reading: &mut Reading<'_>) -> Result<Known, Problem> {
    let name = node.get("serviceName").map_or(Ok(""), Node::text);
    let name = reading.name(name.map_err(|problem| problem.inside("serviceName"))?);
    let mut found = Attributes::new();
    tags(node, reading, |_, _, _| false, &mut found)?;
    Ok((name, Arc::new(found)))
}

fn trace_id(node: Node<'_>) -> Result<Option<TraceId>, Problem> {
    Ok(ids::hex(node.text()?, 16)?.map(TraceId))
}

/// A span; `None` if it lacks its own id or its trace's.
fn span(
    node: Node<'_>,
    whole: Option<TraceId>,
    processes: &HashMap<&str, Known>,
    trace: &mut Option<TraceId>,
    reading: &mut Reading<'_>,
) -> Result<Option<Span>, Problem> {
    let (mut id, mut parent, mut operation) = (None, None, "");
    let (mut start, mut duration) = (0, None);
    let (mut references, mut process, mut process_id) = (None, None, None);
    for (key, value) in node.map()? {
        let mut read = || -> Result<(), Problem> {
            match key {
                "traceID" => *trace = trace_id(value)?,
                "spanID" => id = ids::hex(value.text()?, 8)?,
                // Of versions before 1.0.
                "parentSpanID" => parent = ids::hex(value.text()?, 8)?,
                "operationName" => operation = value.text()?,
                "references" => references = Some(value),
                "startTime" => start = value.unsigned()?,
                "duration" if value.is_null() => {}
                "duration" => duration = Some(value.unsigned()?),
                "process" if value.is_map() => process = Some(process_of(value, reading)?),
                "processID" => process_id = Some(value.text()?),
                _ => {}
            }
            Ok(())
        };
        read().map_err(|problem| problem.inside(key))?;
    }
    // A service on the way may have cut the trace's id to its low half.
    if let (Some(whole), Some(id)) = (whole, *trace)
        && u128::from(whole.0 as u64) == id.0
    {
        *trace = Some(whole);
    }
    let (mut kind, mut code, mut error) = (SpanKind::Unspecified, None, false);
    let mut found = Attributes::new();
    let mut own = |key: &str, value: Node<'_>, plain: &str| match key {
        "span.kind" => plain.parse().map(|found| kind = found).is_ok(),
        "otel.status_code" => match plain {
            "OK" => code.replace(Status::Ok).is_none_or(|_| true),
            "ERROR" => code.replace(Status::Error).is_none_or(|_| true),
            _ => false,
        },
        "error" => {
            error = value.as_bool().unwrap_or(plain == "true");
            true
        }
        _ => false,
    };
    tags(node, reading, &mut own, &mut found)?;
    let (Some(trace), Some(id)) = (*trace, id) else { return Ok(None) };
    let status = match (code, error) {
        (Some(status), _) => status,
        (None, true) => Status::Error,
        (None, false) => Status::Unset,
    };
    if let Some(list) = references {
        let choice = choose(list, trace, reading).map_err(|p| p.inside("references"))?;
        if let Some((id, follows)) = choice {
            parent = Some(id);
            if follows {
                found.push((reading.name(REFERENCE), Value::Text(reading.name(FOLLOWS))));
            }
        }
    }
    let nanoseconds = |microseconds: u64| {
        let wrong = || Problem::new(format!("`{microseconds}` µs is no time before 2554"));
        microseconds.checked_mul(1000).ok_or_else(|| wrong().inside("startTime"))
    };
    let start = nanoseconds(start)?;
    let end = match duration {
        Some(duration) => nanoseconds(start / 1000 + duration.min(u64::MAX / 2))?,
        None => 0,
    };
    let known = process.or_else(|| processes.get(process_id?).cloned());
    let (service, resource) = known.unwrap_or_else(|| (reading.name(""), Arc::default()));
    Ok(Some(Span {
        trace,
        id: SpanId(id as u64),
        parent: parent.map(|parent| SpanId(parent as u64)),
        service,
        operation: reading.name(operation),
        kind,
        start,
        end,
        status,
        attributes: found,
        resource,
    }))
}

/// The parent among a span's references, and whether the span only follows from it.
fn choose(
    list: Node<'_>,
    trace: TraceId,
    reading: &mut Reading<'_>,
) -> Result<Option<(u128, bool)>, Problem> {
    let low = |id: TraceId| id.0 as u64;
    let (mut best, mut parents) = (None::<(u8, u128, bool)>, 0);
    for (place, reference) in list.list()?.enumerate() {
        let mut read = || -> Result<(), Problem> {
            let id = reference.get("spanID").map_or(Ok(""), Node::text)?;
            let Some(id) = ids::hex(id, 8)? else { return Ok(()) };
            let other = reference.get("traceID").map_or(Ok(None), trace_id)?;
            let follows = reference.get("refType").and_then(Node::as_text) == Some("FOLLOWS_FROM");
            // The id of the trace may be cut to its low half on either side.
            let is_own = other.is_none_or(|other| other == trace || low(other) == low(trace));
            let rank = match (is_own, follows) {
                (true, false) => 0,
                (true, true) => 1,
                (false, false) => 2,
                // A link to another trace, as of a message that was waited for elsewhere.
                (false, true) => return Ok(()),
            };
            parents += u32::from(is_own);
            if best.is_none_or(|(least, ..)| rank < least) {
                best = Some((rank, id, follows));
            }
            Ok(())
        };
        read().map_err(|problem| problem.inside_list(place))?;
    }
    reading.counts.several_parents += u64::from(parents > 1);
    Ok(best.map(|(_, id, follows)| (id, follows)))
}

/// Adds to `found` what is kept of the tags, without those that `own` takes by key, value and text.
fn tags(
    node: Node<'_>,
    reading: &mut Reading<'_>,
    mut own: impl FnMut(&str, Node<'_>, &str) -> bool,
    found: &mut Attributes,
) -> Result<(), Problem> {
    let Some(list) = node.get("tags") else { return Ok(()) };
    for (place, entry) in list.list().map_err(|problem| problem.inside("tags"))?.enumerate() {
        let (mut key, mut of, mut value) = ("", "", None);
        let mut read = || -> Result<(), Problem> {
            for (name, part) in entry.map()? {
                match name {
                    "key" => key = part.text()?,
                    "type" => of = part.text()?,
                    "value" => value = Some(part),
                    _ => {}
                }
            }
            let Some(value) = value else { return Ok(()) };
            if own(key, value, value.as_text().unwrap_or_default()) {
                return Ok(());
            }
            found.extend(reading.attribute(key, |reading| {
                Ok(match of {
                    "int64" => value.signed().ok().map(Value::Int),
                    "float64" => value.double().ok().map(Value::Double),
                    "binary" => value.as_text().and_then(base64::decode).map(Value::Bytes),
                    "bool" => match value.as_text() {
                        Some(text) => text.parse().ok().map(Value::Bool),
                        None => value.as_bool().map(Value::Bool),
                    },
                    _ => None,
                }
                .or_else(|| reading.value(value)))
            })?);
            Ok(())
        };
        read().map_err(|problem| problem.inside_list(place).inside("tags"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::spans::SpanFormat::Jaeger;
    use crate::data::spans::reading::Keep;
    use crate::data::spans::testing::*;

    /// A span as far as Jaeger has room for it: whole microseconds, and no lists.
    fn rounded(mut span: Span) -> Span {
        span.start -= span.start % 1000;
        span.end -= span.end % 1000;
        let flat = |value: &mut Value| match value {
            Value::List(_) | Value::Map(_) => *value = Value::Text(value.plain().as_str().into()),
            _ => {}
        };
        span.attributes.iter_mut().for_each(|(_, value)| flat(value));
        Arc::make_mut(&mut span.resource).iter_mut().for_each(|(_, value)| flat(value));
        span
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(traces in prop::collection::vec(any_trace(), 0..3)) {
            let read = spans_of(Jaeger, &written(Jaeger, &traces));
            let expected = traces.into_iter().map(|spans| spans.into_iter().map(rounded).collect());
            prop_assert_eq!(sorted([read]), sorted(expected));
        }
    }

    /// The spans of a trace of id 1 with `a`, the root, and one with these references.
    fn with(references: &str) -> (Vec<Span>, u64) {
        let text = format!(
            r#"{{"data":[{{"traceID":"1","spans":[
            {{"traceID":"1","spanID":"a","operationName":"r","startTime":5,"duration":9,"processID":"p1"}},
            {{"traceID":"1","spanID":"b","references":[{references}],"startTime":6,"duration":null,"processID":"p2"}}
            ],"processes":{{"p1":{{"serviceName":"s","tags":[{{"key":"ip","value":"10.0.0.1"}}]}}}}}}],"total":0}}"#
        );
        let (entries, counts) = read_bytes(Jaeger, text.as_bytes(), Keep::All, false).unwrap();
        let spans = entries.into_iter().map(|entry| match entry {
            crate::data::spans::Read::Span(span) => span,
            other => panic!("{other:?}"),
        });
        (spans.collect(), counts.several_parents)
    }

    #[test]
    fn the_parent_is_chosen_whatever_the_order_of_references() {
        let reference = |kind: &str, trace: &str, span: &str| {
            format!(r#"{{"refType":"{kind}","traceID":"{trace}","spanID":"{span}"}}"#)
        };
        let (child, other) = (reference("CHILD_OF", "1", "a"), reference("CHILD_OF", "1", "c"));
        let (follows, link) =
            (reference("FOLLOWS_FROM", "1", "d"), reference("FOLLOWS_FROM", "2", "e"));
        let elsewhere = reference("CHILD_OF", "2", "f");
        for (references, parent, several) in [
            (vec![&child], Some(0xa), 0),
            (vec![&follows, &child], Some(0xa), 1),
            (vec![&child, &follows], Some(0xa), 1),
            (vec![&child, &other], Some(0xa), 1),
            (vec![&other, &child], Some(0xc), 1),
            (vec![&link, &elsewhere, &child], Some(0xa), 0),
            (vec![&elsewhere, &link], Some(0xf), 0),
            (vec![&link], None, 0),
            (vec![], None, 0),
        ] {
            let list = references.iter().map(|text| text.as_str()).collect::<Vec<_>>().join(",");
            let (spans, counted) = with(&list);
            assert_eq!(spans[1].parent, parent.map(SpanId), "{list}");
            assert_eq!(counted, several, "{list}");
            assert_eq!(spans[1].attribute(REFERENCE), None);
        }
        let (spans, _) = with(&follows);
        assert_eq!(spans[1].parent, Some(SpanId(0xd)));
        assert_eq!(spans[1].attribute(REFERENCE), Some(&FOLLOWS.into()));
        // Of the process, if it is there; of times, as far as they are known.
        assert_eq!((spans[0].service.as_str(), spans[1].service.as_str()), ("s", ""));
        assert_eq!((spans[0].start, spans[0].end, spans[1].end), (5_000, 14_000, 0));
        assert_eq!(spans[0].resource[0].0.as_str(), "ip");
    }

    #[test]
    fn an_id_cut_to_its_low_half_is_that_of_the_trace_around_it() {
        let text = |trace: &str| {
            format!(
                r#"[{{"traceID":"000000000000000a000000000000000b","spans":[{{"traceID":"{trace}","spanID":"1"}}]}}]"#
            )
        };
        let id = |trace| spans_of(Jaeger, text(trace).as_bytes())[0].trace.0;
        assert_eq!(id("a000000000000000b"), (10 << 64) | 11);
        assert_eq!(id("b"), (10 << 64) | 11);
        assert_eq!(id("000000000000000b"), (10 << 64) | 11);
        // Zeros behind the digits are another number.
        assert_eq!(id("000000000000000b0000000000000000"), 11 << 64);
    }

    #[test]
    fn kinds_and_errors_are_tags() {
        let text = r#"[{"spans":[{"traceID":"1","spanID":"2","tags":[{"key":"span.kind","type":"string","value":"client"},
            {"key":"error","type":"bool","value":true},{"key":"n","type":"int64","value":"7"}]}]}]"#;
        let spans = spans_of(Jaeger, text.as_bytes());
        assert_eq!((spans[0].kind, spans[0].status), (SpanKind::Client, Status::Error));
        assert_eq!(spans[0].attributes, [("n".into(), Value::Int(7))]);
    }

    #[test]
    fn slips_have_their_place() {
        let wrong = br#"{"data":[{"spans":[{"traceID":"1","spanID":"x"}]}]}"#;
        assert_eq!(
            complaint(Jaeger, wrong),
            "line 1, data[0].spans[0].spanID: `x` is no id of at most 16 hexadecimal digits"
        );
        assert!(complaint(Jaeger, br#"{"resourceSpans":[]}"#).contains("OTLP/JSON"));
    }

    #[test]
    fn no_input_is_too_strange() {
        let corpus = [written(
            Jaeger,
            &[vec![
                test_span(1, 0, "a", SpanKind::Server, 0, 9),
                test_span(2, 1, "b", SpanKind::Client, 1, 2),
            ]],
        )];
        mutated(&corpus, 10_000, |bytes| {
            drop(read_bytes(Jaeger, bytes, Keep::All, bytes.len() % 2 == 0))
        });
    }
}
