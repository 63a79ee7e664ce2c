//! OTLP/JSON: OpenTelemetry's export requests in JSON, one per line (as the collector's file exporter
//! writes them) or one per file.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use std::sync::Arc;

use super::base64;
use super::ids;
use super::pieces::Piece;
use super::reading::Reading;
use super::resources::by_resource;
use super::span::{Attributes, Span, SpanId, SpanKind, Status, TraceId, Value, non_finite};
use super::tape::{Node, Problem};
use crate::graph::Name;

/// One export request with these spans: a JSON object on one line, without the line's end. This is also
/// the body that OTLP/HTTP takes at `/v1/traces` with the content type `application/json`.
pub fn request(spans: &[Span]) -> Vec<u8> {
    let resources = by_resource(spans);
    let resource_spans = resources.into_iter().map(|(service, resource, spans)| ResourceSpans {
        resource: Resource { attributes: Listed(Some(service), resource) },
        scope_spans: [ScopeSpans {
            scope: Scope { name: SCOPE },
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
    scope: Scope,
    spans: Vec<Record<'a>>,
}

/// What recorded the spans, as far as readers can tell.
pub const SCOPE: &str = env!("CARGO_PKG_NAME");

#[derive(Serialize)]
struct Scope {
    name: &'static str,
}

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
            Status::Unset => {}
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
        let service = service.iter().map(|value| KeyValue { key: SERVICE, value: Any(value) });
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

/// The attribute of a resource that names its service.
pub const SERVICE: &str = "service.name";

/// First keys of requests, of Tempo's answers too.
pub const KEYS: &[&str] = &["resourceSpans", "resource_spans", "batches"];

/// Reads a piece of a file: an element of a request's list, or a whole request.
///
/// Both spellings of keys are read, ids in hexadecimal digits of either case or in base64, 64-bit integers
/// as numbers or texts, kinds and codes as numbers or names. Keys that are not known are passed over.
///
/// # Errors
/// A value that cannot be used, with its key.
pub fn read(piece: &Piece<'_>, node: Node<'_>, reading: &mut Reading<'_>) -> Result<bool, Problem> {
    match (piece.key, piece.element) {
        (Some(_), _) => resource_spans(node, reading).map(|()| true),
        // No request is an element of a list.
        (None, Some(_)) => Ok(false),
        (None, None) => request_in(node, reading),
    }
}

/// Reads what a whole object holds of spans, and says whether it is a request: of spans, or of logs or
/// metrics, which collectors may write into the same file.
fn request_in(node: Node<'_>, reading: &mut Reading<'_>) -> Result<bool, Problem> {
    let mut is_request = false;
    for (key, value) in node.map()? {
        match key {
            "trace" if value.is_map() => {
                let read = request_in(value, reading);
                is_request |= read.map_err(|problem| problem.inside(key))?;
            }
            "resourceLogs" | "resource_logs" | "resourceMetrics" | "resource_metrics" => {
                is_request = true;
            }
            key if KEYS.contains(&key) => {
                is_request = true;
                each(key, value, |element| resource_spans(element, reading))?;
            }
            _ => {}
        }
    }
    Ok(is_request)
}

/// Reads each element of the list at `key`.
fn each<'a>(
    key: &str,
    list: Node<'a>,
    mut read: impl FnMut(Node<'a>) -> Result<(), Problem>,
) -> Result<(), Problem> {
    for (place, element) in list.list().map_err(|problem| problem.inside(key))?.enumerate() {
        read(element).map_err(|problem| problem.inside_list(place).inside(key))?;
    }
    Ok(())
}

fn resource_spans(node: Node<'_>, reading: &mut Reading<'_>) -> Result<(), Problem> {
    let mut service = reading.name("");
    let mut resource = Attributes::new();
    if let Some(value) = node.get("resource") {
        let listed = value.get("attributes").map(|list| attributes(list, true, reading));
        let listed = listed.unwrap_or_else(|| Ok(Attributes::new()));
        resource = listed.map_err(|problem| problem.inside("resource.attributes"))?;
        // The last entry of a key counts.
        while let Some(place) = resource.iter().rposition(|(key, _)| key.as_str() == SERVICE) {
            let (_, value) = resource.remove(place);
            if service.is_empty() {
                service = reading.name(&value.plain());
            }
        }
    }
    let resource = Arc::new(resource);
    for (key, scopes) in node.map()? {
        // Older versions grouped spans by what they called instrumentation libraries.
        let is_known = matches!(
            key,
            "scopeSpans"
                | "scope_spans"
                | "instrumentationLibrarySpans"
                | "instrumentation_library_spans"
        );
        if is_known {
            each(key, scopes, |scope| {
                let Some(list) = scope.get("spans") else { return Ok(()) };
                each("spans", list, |record| {
                    let mut trace = None;
                    let span = span(record, &service, &resource, &mut trace, reading);
                    reading.span(span, trace)
                })
            })?;
        }
    }
    Ok(())
}

/// A span; `None` if it lacks its own id or its trace's.
fn span(
    node: Node<'_>,
    service: &Name,
    resource: &Arc<Attributes>,
    trace: &mut Option<TraceId>,
    reading: &mut Reading<'_>,
) -> Result<Option<Span>, Problem> {
    let (mut id, mut parent, mut operation) = (None, None, "");
    let (mut kind, mut status) = (SpanKind::Unspecified, Status::Unset);
    let (mut start, mut end) = (0, 0);
    let mut listed = Attributes::new();
    for (key, value) in node.map()? {
        let mut read = || -> Result<(), Problem> {
            match key {
                "traceId" | "trace_id" => {
                    *trace = ids::hex_or_base64(value.text()?, 16)?.map(TraceId);
                }
                "spanId" | "span_id" => id = ids::hex_or_base64(value.text()?, 8)?,
                "parentSpanId" | "parent_span_id" => {
                    parent = ids::hex_or_base64(value.text()?, 8)?;
                }
                "name" => operation = value.text()?,
                "kind" => kind = kind_of(value)?,
                "startTimeUnixNano" | "start_time_unix_nano" => start = value.unsigned()?,
                "endTimeUnixNano" | "end_time_unix_nano" => end = value.unsigned()?,
                "attributes" => listed = attributes(value, false, reading)?,
                "status" => status = status_of(value)?,
                _ => {}
            }
            Ok(())
        };
        read().map_err(|problem| problem.inside(key))?;
    }
    let (Some(trace), Some(id)) = (*trace, id) else { return Ok(None) };
    Ok(Some(Span {
        trace,
        id: SpanId(id as u64),
        parent: parent.map(|parent| SpanId(parent as u64)),
        service: service.clone(),
        operation: reading.name(operation),
        kind,
        start,
        end,
        status,
        attributes: listed,
        resource: resource.clone(),
    }))
}

/// A kind by its number or name. Numbers that are not known are those of a later version.
fn kind_of(value: Node<'_>) -> Result<SpanKind, Problem> {
    if let Some(Ok(kind)) = value.as_text().map(str::parse) {
        return Ok(kind);
    }
    let number = value.unsigned().map_err(|_| value.is_not("a kind of span"))?;
    let known = usize::try_from(number).ok().and_then(|number| SpanKind::ALL.get(number));
    Ok(known.copied().unwrap_or_default())
}

fn status_of(value: Node<'_>) -> Result<Status, Problem> {
    let Some(code) = value.get("code") else { return value.map().map(|_| Status::Unset) };
    let by_name = match code.as_text() {
        Some("STATUS_CODE_UNSET") => Some(Status::Unset),
        Some("STATUS_CODE_OK") => Some(Status::Ok),
        Some("STATUS_CODE_ERROR") => Some(Status::Error),
        _ => None,
    };
    if let Some(status) = by_name {
        return Ok(status);
    }
    match code.unsigned() {
        Ok(1) => Ok(Status::Ok),
        Ok(2) => Ok(Status::Error),
        Ok(_) => Ok(Status::Unset),
        Err(_) => Err(code.is_not("a status code").inside("code")),
    }
}

/// What is kept of a list of attributes; of a resource's, its service too.
fn attributes(
    list: Node<'_>,
    of_resource: bool,
    reading: &mut Reading<'_>,
) -> Result<Attributes, Problem> {
    let mut found = Attributes::new();
    for (place, entry) in list.list()?.enumerate() {
        let (mut key, mut value) = ("", None);
        for (name, part) in entry.map().map_err(|problem| problem.inside_list(place))? {
            match name {
                "key" => key = part.text().map_err(|p| p.inside(name).inside_list(place))?,
                "value" => value = Some(part),
                _ => {}
            }
        }
        let Some(value) = value else { continue };
        let read = |reading: &mut Reading<'_>| any(value, reading);
        let kept = if of_resource && key == SERVICE {
            read(reading).map(|value| value.map(|value| (reading.name(key), value)))
        } else {
            reading.attribute(key, read)
        };
        found.extend(kept.map_err(|problem| problem.inside(key).inside_list(place))?);
    }
    Ok(found)
}

/// The value of an attribute; `None` for one that is empty.
fn any(value: Node<'_>, reading: &mut Reading<'_>) -> Result<Option<Value>, Problem> {
    let mut found = None;
    for (key, part) in value.map()? {
        if part.is_null() {
            continue;
        }
        let mut read = || -> Result<Option<Value>, Problem> {
            Ok(Some(match key {
                "stringValue" | "string_value" => Value::Text(reading.name(part.text()?)),
                "boolValue" | "bool_value" => {
                    Value::Bool(part.as_bool().ok_or_else(|| part.is_not("true or false"))?)
                }
                "intValue" | "int_value" => Value::Int(part.signed()?),
                "doubleValue" | "double_value" => Value::Double(part.double()?),
                "bytesValue" | "bytes_value" => {
                    let bytes = base64::decode(part.text()?);
                    Value::Bytes(bytes.ok_or_else(|| part.is_not("base64"))?)
                }
                "arrayValue" | "array_value" => {
                    let mut values = Vec::new();
                    if let Some(list) = part.get("values") {
                        for element in list.list()? {
                            values.extend(any(element, reading)?);
                        }
                    }
                    Value::List(values)
                }
                "kvlistValue" | "kvlist_value" => {
                    let list = part.get("values").map(|list| entries(list, reading));
                    Value::Map(list.transpose()?.unwrap_or_default())
                }
                _ => return Ok(None),
            }))
        };
        if let Some(value) = read().map_err(|problem| problem.inside(key))? {
            found = Some(value);
        }
    }
    Ok(found)
}

/// All entries of a value that is itself a list of keys and values.
fn entries(list: Node<'_>, reading: &mut Reading<'_>) -> Result<Attributes, Problem> {
    let mut found = Attributes::new();
    for entry in list.list()? {
        let key = entry.get("key").map_or(Ok(""), Node::text)?;
        if let Some(value) = entry.get("value")
            && let Some(value) = any(value, reading)?
        {
            found.push((reading.name(key), value));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::spans::SpanFormat::OtlpJson;
    use crate::data::spans::reading::{Keep, Read};
    use crate::data::spans::testing::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(traces in prop::collection::vec(any_trace(), 0..3)) {
            let read = spans_of(OtlpJson, &written(OtlpJson, &traces));
            prop_assert_eq!(sorted([read]), sorted(traces));
        }
    }

    /// One span with these members, in a request.
    fn request_of(members: &str) -> Vec<u8> {
        let resource = r#"{"attributes":[{"key":"service.name","value":{"stringValue":"a"}}]}"#;
        let span = format!("{{{members}}}");
        format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}],"resource":{resource}}}]}}"#
        )
        .into_bytes()
    }

    const IDS: &str = r#""traceId":"0af7","spanId":"a1""#;

    fn one(members: &str) -> Span {
        spans_of(OtlpJson, &request_of(&format!("{IDS},{members}"))).remove(0)
    }

    fn refused(members: &str) -> String {
        let message = complaint(OtlpJson, &request_of(&format!("{IDS},{members}")));
        let place = "line 1, resourceSpans[0].scopeSpans[0].spans[0].";
        message.strip_prefix(place).unwrap_or(&message).to_owned()
    }

    #[test]
    fn values_are_read_in_the_forms_that_exporters_write() {
        let strings = one(
            r#""startTimeUnixNano":"1700000000000000001","endTimeUnixNano":"1700000000000000256""#,
        );
        let numbers =
            one(r#""startTimeUnixNano":1700000000000000001,"endTimeUnixNano":1700000000000000256"#);
        assert_eq!(strings, numbers);
        assert_eq!(strings.end - strings.start, 255);
        assert_eq!(strings.service.as_str(), "a");
        let parts = refused(r#""endTimeUnixNano":{"low":1,"high":2}"#);
        assert_eq!(
            parts,
            "endTimeUnixNano: an object with the keys `low, high` is not a whole number from 0"
        );
        for (number, kind) in SpanKind::ALL.iter().enumerate() {
            let name = format!("SPAN_KIND_{}", kind.as_str().to_uppercase());
            assert_eq!(one(&format!("\"kind\":{number}")).kind, *kind);
            assert_eq!(one(&format!("\"kind\":\"{name}\"")).kind, *kind);
        }
        assert_eq!(one(r#""kind":9"#).kind, SpanKind::Unspecified);
        assert_eq!(
            refused(r#""kind":"SPAN_KIND_SERVE""#),
            "kind: `SPAN_KIND_SERVE` is not a kind of span"
        );
        for (code, status) in
            [("2", Status::Error), ("\"STATUS_CODE_OK\"", Status::Ok), ("null", Status::Unset)]
        {
            assert_eq!(one(&format!("\"status\":{{\"code\":{code}}}")).status, status);
        }
        for value in ["25", "\"25\""] {
            let span =
                one(&format!(r#""attributes":[{{"key":"n","value":{{"intValue":{value}}}}}]"#));
            assert_eq!(span.attribute("n"), Some(&Value::Int(25)));
        }
    }

    #[test]
    fn keys_of_either_spelling_and_unknown_ones() {
        let camel = request_of(&format!(
            r#"{IDS},"parentSpanId":"a0","name":"x","startTimeUnixNano":"5","endTimeUnixNano":"9""#
        ));
        let text = String::from_utf8(camel.clone()).unwrap();
        let snake = [
            "resourceSpans:resource_spans",
            "scopeSpans:scope_spans",
            "traceId:trace_id",
            "spanId:span_id",
            "parentSpanId:parent_span_id",
            "startTimeUnixNano:start_time_unix_nano",
            "endTimeUnixNano:end_time_unix_nano",
            "stringValue:string_value",
        ];
        let snake = snake.iter().fold(text.clone(), |text, pair| {
            let (camel, snake) = pair.split_once(':').unwrap();
            text.replace(&format!("\"{camel}\""), &format!("\"{snake}\""))
        });
        assert_ne!(snake, text);
        let unknown = text
            .replace("{\"key\"", "{\"new\":[null],\"key\"")
            .replace("\"traceId\"", "\"links\":null,\"events\":[{}],\"traceId\"")
            .replace("{\"resourceSpans\"", "{\"partialSuccess\":{},\"resourceSpans\"");
        let tempo = text.replace("resourceSpans", "batches");
        let nested = format!("{{\"trace\":{text}}}");
        for other in [snake, unknown, tempo, nested] {
            assert_eq!(spans_of(OtlpJson, other.as_bytes()), spans_of(OtlpJson, &camel), "{other}");
        }
    }

    #[test]
    fn requests_stand_on_lines_or_one_behind_the_other() {
        let span = |id: &str| {
            String::from_utf8(request_of(&format!(r#""traceId":"1","spanId":"{id}""#))).unwrap()
        };
        let logs = r#"{"resourceLogs":[{"scopeLogs":[]}]}"#;
        let lines = format!("{}\n\n{logs}\n{{}}\n{}", span("1"), span("2"));
        let pretty = serde_json::from_str::<serde_json::Value>(&span("1")).unwrap();
        let pretty = format!("{pretty:#}\n{pretty:#}").replace("\"1\"", "\"01\"");
        assert_eq!(spans_of(OtlpJson, lines.as_bytes()).len(), 2);
        assert_eq!(spans_of(OtlpJson, pretty.as_bytes()).len(), 2);
        // Cut in the middle of a line.
        let cut = format!("{}\n{}", span("1"), &span("2")[..150]);
        assert!(
            complaint(OtlpJson, cut.as_bytes())
                .starts_with("line 2, column 19: is not JSON: the file ends in")
        );
        let cut = format!("{}\n{}", cut, span("3"));
        let (entries, counts) = read_bytes(OtlpJson, cut.as_bytes(), Keep::All, true).unwrap();
        assert_eq!((entries.len(), counts.bad), (2, 1));
    }

    #[test]
    fn spans_without_ids_are_counted_and_no_trace() {
        let members = [
            r#""traceId":"","spanId":"""#,
            r#""spanId":"a1""#,
            r#""traceId":"00000000","spanId":"1""#,
        ];
        for members in members {
            let (entries, counts) =
                read_bytes(OtlpJson, &request_of(members), Keep::All, false).unwrap();
            assert_eq!((entries.len(), counts.spans, counts.without_ids), (0, 1, 1), "{members}");
        }
        let (entries, _) =
            read_bytes(OtlpJson, &request_of(r#""traceId":"a""#), Keep::All, false).unwrap();
        assert_eq!(entries, [Read::Incomplete(TraceId(10))]);
    }

    #[test]
    fn what_is_no_request_is_named() {
        let console =
            br#"{"name":"x","context":{"trace_id":"0x1","span_id":"0x2"},"start_time":"2023"}"#;
        assert!(
            complaint(OtlpJson, console).contains("what OpenTelemetry's console exporter prints")
        );
        let zipkin = complaint(OtlpJson, br#"[{"traceId":"1","id":"2"}]"#);
        assert_eq!(
            zipkin,
            "line 1, [0]: is of another format: Zipkin's JSON (`kind = \"zipkin\"`)"
        );
        let jaeger = complaint(OtlpJson, br#"{"data":[]}"#);
        assert!(jaeger.contains("`kind = \"jaeger\"`"), "{jaeger}");
        let other = complaint(OtlpJson, br#"{"a":1}"#);
        assert_eq!(other, "line 1: an object with the keys `a` is not of this format");
        let id = refused(r#""parentSpanId":"xyz""#);
        assert!(id.starts_with("parentSpanId: `xyz` is no id"), "{id}");
    }

    #[test]
    fn no_input_is_too_strange() {
        let whole = written(
            OtlpJson,
            &[vec![
                test_span(1, 0, "a", SpanKind::Server, 0, 9),
                test_span(2, 1, "b", SpanKind::Client, 1, 2),
            ]],
        );
        let corpus = [
            whole,
            request_of(&format!(
                r#"{IDS},"kind":3,"attributes":[{{"key":"n","value":{{"arrayValue":{{"values":[{{"doubleValue":1.5}}]}}}}}}]"#
            )),
        ];
        mutated(&corpus, 10_000, |bytes| {
            drop(read_bytes(OtlpJson, bytes, Keep::Policy, bytes.len() % 2 == 0))
        });
    }
}
