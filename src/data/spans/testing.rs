//! Spans for the tests of the formats.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use proptest::prelude::*;

use super::read::{ReadOptions, read_from};
use super::reading::{Counts, Keep, Read};
use super::span::{Attributes, Span, SpanId, SpanKind, Status, TraceId, Value};
use super::writer::{SpanFormat, SpanWriter};
use crate::graph::{Interner, Name};
use crate::random;
use crate::testing::HOSTILE_NAMES;

/// 2023-11-14 in nanoseconds.
pub const START: u64 = 1_700_000_000_000_000_000;

/// A span without attributes; times in microseconds after [`START`], parent 0 for none.
pub fn test_span(
    id: u64,
    parent: u64,
    service: &str,
    kind: SpanKind,
    start: u64,
    end: u64,
) -> Span {
    Span {
        trace: TraceId(1),
        id: SpanId(id),
        parent: Some(SpanId(parent)).filter(|parent| parent.0 != 0),
        service: service.into(),
        operation: format!("op-{id}").as_str().into(),
        kind,
        start: START + start * 1000,
        end: START + end * 1000,
        status: Status::Unset,
        attributes: Attributes::new(),
        resource: Arc::default(),
    }
}

/// All spans that a file with these bytes holds, with what was counted.
pub fn read_bytes(
    format: SpanFormat,
    bytes: &[u8],
    keep: Keep,
    skip_bad: bool,
) -> Result<(Vec<Read>, Counts)> {
    let reader = Box::new(std::io::Cursor::new(bytes.to_vec()));
    let mut entries = Vec::new();
    let options = ReadOptions { format, keep, skip_bad };
    let mut names = Interner::default();
    let mut take = |entry| entries.push(entry);
    let counts = read_from(Path::new("file"), reader, options, &mut names, &mut take)?;
    Ok((entries, counts))
}

/// The spans of a file that holds nothing else.
pub fn spans_of(format: SpanFormat, bytes: &[u8]) -> Vec<Span> {
    let (entries, counts) = read_bytes(format, bytes, Keep::All, false).expect("can be read");
    assert_eq!((counts.spans, counts.bad, counts.without_ids), (entries.len() as u64, 0, 0));
    let spans = entries.into_iter().map(|entry| match entry {
        Read::Span(span) => span,
        Read::Incomplete(trace) => panic!("{trace} is not all there"),
    });
    spans.collect()
}

/// What is wrong with a file of these bytes, without the file's name and the remedy.
pub fn complaint(format: SpanFormat, bytes: &[u8]) -> String {
    let error = read_bytes(format, bytes, Keep::All, false).expect_err("refused").to_string();
    let error = error.split_once(": ").expect("names the file").1;
    let remedy = format!(": {}", super::read::REMEDY);
    error.strip_suffix(&remedy).unwrap_or(error).to_owned()
}

/// A file with these traces.
pub fn written(format: SpanFormat, traces: &[Vec<Span>]) -> Vec<u8> {
    let mut writer = SpanWriter::new(format, Vec::new());
    traces.iter().for_each(|spans| writer.trace(spans).expect("memory takes all"));
    writer.finish().expect("memory takes all")
}

/// The spans of traces in the order of their ids, however a format orders them.
pub fn sorted(traces: impl IntoIterator<Item = Vec<Span>>) -> Vec<Span> {
    let mut spans: Vec<Span> = traces.into_iter().flatten().collect();
    spans.sort_by_key(|span| (span.trace, span.id));
    spans
}

fn any_text() -> impl Strategy<Value = Name> {
    prop_oneof![
        prop::sample::select(&HOSTILE_NAMES[..]).prop_map(Name::from),
        "[a-z./ -]{0,12}".prop_map(|text| Name::from(text.as_str())),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any_text().prop_map(Value::Text),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        // The parser of JSON may give the neighbour of a number with more digits.
        any::<i32>().prop_map(|number| Value::Double(f64::from(number) / 4.0)),
        Just(Value::Double(f64::NEG_INFINITY)),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::List),
            prop::collection::vec((any_text(), inner), 0..3).prop_map(Value::Map),
        ]
    })
}

fn any_attributes(prefix: &'static str) -> impl Strategy<Value = Attributes> {
    prop::collection::vec((any_text(), any_value()), 0..4).prop_map(move |entries| {
        // Keys are different, and none is one that a format has for something else.
        let keys = (0..).map(|place| format!("{prefix}{place}."));
        let named = keys
            .zip(entries)
            .map(|(prefix, (key, value))| (Name::from(format!("{prefix}{key}").as_str()), value));
        named.collect()
    })
}

/// Spans of one trace with whatever a span can hold: they need not make a tree.
pub fn any_trace() -> impl Strategy<Value = Vec<Span>> {
    let process = (any_text(), any_attributes("r").prop_map(Arc::new));
    let span = (
        (1u64.., any::<Option<u64>>(), any_text(), 0..3usize),
        (prop::sample::select(&SpanKind::ALL[..]), 0..4_000_000_000u64, 0..4_000_000_000u64),
        prop::sample::select(&[Status::Unset, Status::Ok, Status::Error][..]),
        any_attributes("a"),
    );
    let spans = prop::collection::vec(span, 1..6);
    (1u128.., prop::collection::vec(process, 3), spans).prop_map(|(trace, processes, spans)| {
        let mut seen = std::collections::HashSet::new();
        let spans = spans.into_iter().filter(|(ids, ..)| seen.insert(ids.0));
        let spans = spans.map(|((id, parent, operation, process), times, status, attributes)| {
            let (kind, start, duration) = times;
            let (service, resource) = processes[process].clone();
            Span {
                trace: TraceId(trace),
                id: SpanId(id),
                parent: parent.filter(|parent| *parent != 0).map(SpanId),
                service,
                operation,
                kind,
                start: START + start,
                end: START + start + duration,
                status,
                attributes,
                resource,
            }
        });
        spans.collect()
    })
}

/// Inputs that are nearly of the format: bytes of `corpus` changed, cut out, doubled or put elsewhere, each of
/// `count` by an address of its own.
pub fn mutated(corpus: &[Vec<u8>], count: u64, mut check: impl FnMut(&[u8])) {
    use rand::RngExt;
    const TOKENS: [&[u8]; 16] = [
        b"null",
        b"{}",
        b"[]",
        b"\"\"",
        b"-1",
        b"1e999",
        b"18446744073709551615",
        b"{\"spans\":",
        b"\\u0000",
        b"\xff",
        b"\n",
        b",",
        b"\"",
        b"]",
        b"}",
        b"\x0a\xff\xff\xff\xff\x0f",
    ];
    for index in 0..count {
        let mut random = random::stream(0, "mutated", &[index]);
        let mut bytes = corpus[random.random_range(0..corpus.len())].clone();
        for _ in 0..random.random_range(1..5) {
            let at = random.random_range(0..=bytes.len());
            let end = at + random.random_range(0..=(bytes.len() - at).min(40));
            match random.random_range(0..5) {
                0 if at < bytes.len() => bytes[at] = random.random(),
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let copy = bytes[at..end].to_vec();
                    let to = random.random_range(0..=bytes.len());
                    bytes.splice(to..to, copy);
                }
                3 => {
                    drop(bytes.splice(at..end, TOKENS[random.random_range(0..16)].iter().copied()))
                }
                _ => bytes.truncate(at.max(1)),
            }
        }
        check(&bytes);
    }
}
