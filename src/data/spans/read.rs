//! Files of spans in any of the formats.

use std::io::BufRead;
use std::path::Path;

use anyhow::Result;

use super::pieces::{self, Piece, Pieces};
use super::reading::{Counts, Keep, Read, Reading};
use super::tape::{Node, Problem, Tape};
use super::writer::SpanFormat;
use super::{jaeger, otlp_json, otlp_proto, zipkin};
use crate::data::lines;
use crate::error::UserError;
use crate::graph::Interner;

/// What to do about spans that cannot be read.
pub const REMEDY: &str = "mend it, or leave out what cannot be read: --skip-bad-rows of `data build`, or \
     `skip_bad_rows = true` in the manifest";

/// How a file of spans is read.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    pub format: SpanFormat,
    pub keep: Keep,
    /// Leave out spans that cannot be read, and count them.
    pub skip_bad: bool,
}

/// Gives all spans of a file, plain or gzip, in its order. In memory is one trace or request at a time.
///
/// # Errors
/// A file of another format, and what cannot be read in it, with line and key; with `skip_bad` only what
/// makes the whole file unreadable.
pub fn read(
    path: &Path,
    options: ReadOptions,
    names: &mut Interner,
    take: &mut dyn FnMut(Read),
) -> Result<Counts> {
    read_from(path, lines::open(path)?, options, names, take)
}

/// As [`read`], from what `reader` gives.
///
/// # Errors
/// Those of [`read`].
pub fn read_from(
    path: &Path,
    reader: Box<dyn BufRead + Send>,
    options: ReadOptions,
    names: &mut Interner,
    take: &mut dyn FnMut(Read),
) -> Result<Counts> {
    let ReadOptions { format, keep, skip_bad: skip } = options;
    let mut reading = Reading { keep, skip, names, counts: Counts::default(), take };
    match format {
        SpanFormat::OtlpProto => read_proto(path, reader, &mut reading)?,
        SpanFormat::OtlpJson => read_json(
            Pieces::new(path, reader, otlp_json::KEYS),
            path,
            otlp_json::read,
            &mut reading,
        )?,
        SpanFormat::Jaeger => {
            read_json(Pieces::new(path, reader, jaeger::KEYS), path, jaeger::read, &mut reading)?
        }
        SpanFormat::Zipkin => {
            read_json(Pieces::new(path, reader, &[]), path, zipkin::read, &mut reading)?
        }
    }
    Ok(reading.counts)
}

/// Reads a piece, and says whether it is one of the format.
type ReadPiece = fn(&Piece<'_>, Node<'_>, &mut Reading<'_>) -> Result<bool, Problem>;

fn read_json(
    mut pieces: Pieces,
    path: &Path,
    read_piece: ReadPiece,
    reading: &mut Reading<'_>,
) -> Result<()> {
    let mut tape = Tape::default();
    loop {
        let wrong = match pieces.next() {
            Ok(None) => return Ok(()),
            Ok(Some(piece)) => match read_one(&piece, &mut tape, read_piece, reading) {
                Ok(()) => continue,
                Err(wrong) => wrong,
            },
            Err(pieces::Fault::Broken(error)) => return Err(error.into()),
            Err(pieces::Fault::Wrong(line, column, message)) => {
                if reading.skip {
                    reading.counts.spans += 1;
                    reading.counts.bad += 1;
                    match pieces.resume() {
                        Ok(true) => continue,
                        Ok(false) => return Ok(()),
                        Err(pieces::Fault::Broken(error)) => return Err(error.into()),
                        Err(pieces::Fault::Wrong(..)) => unreachable!("it looks for a line"),
                    }
                }
                let message = format!("is not JSON: {message}");
                Wrong { place: format!("line {line}, column {column}"), message, is_format: false }
            }
        };
        if wrong.is_format {
            return Err(UserError::input(path, wrong.place, wrong.message).into());
        }
        if !reading.skip {
            let message = format!("{}: {REMEDY}", wrong.message);
            return Err(UserError::input(path, wrong.place, message).into());
        }
        reading.counts.spans += 1;
        reading.counts.bad += 1;
    }
}

/// Why a piece cannot be used.
struct Wrong {
    place: String,
    message: String,
    /// It is of another format: no matter of one piece.
    is_format: bool,
}

fn read_one(
    piece: &Piece<'_>,
    tape: &mut Tape,
    read_piece: ReadPiece,
    reading: &mut Reading<'_>,
) -> Result<(), Wrong> {
    let node = tape.read(piece.bytes).map_err(|(message, line, column)| {
        let column = if line == 1 { piece.column + column - 1 } else { column };
        let place = format!("line {}, column {column}", piece.line + line - 1);
        Wrong { place, message: format!("is not JSON: {message}"), is_format: false }
    })?;
    let place = |path: &str| {
        let element = piece.element.map_or(String::new(), |element| format!("[{element}]"));
        let top = format!("{}{element}", piece.key.unwrap_or_default());
        let dot = if top.is_empty() || path.is_empty() || path.starts_with('[') { "" } else { "." };
        match format!("{top}{dot}{path}").as_str() {
            "" => format!("line {}", piece.line),
            path => format!("line {}, {path}", piece.line),
        }
    };
    match read_piece(piece, node, reading) {
        Ok(true) => Ok(()),
        Ok(false) if node.map().is_ok_and(|mut entries| entries.next().is_none()) => Ok(()),
        Ok(false) => {
            let message = match recognise(piece, node) {
                Some(found) => format!("is of another format: {found}"),
                None => node.is_not("of this format").message,
            };
            Err(Wrong { place: place(""), message, is_format: true })
        }
        Err(Problem { path, message }) => {
            Err(Wrong { place: place(&path), message, is_format: false })
        }
    }
}

/// What a piece seems to be, in words.
fn recognise(piece: &Piece<'_>, node: Node<'_>) -> Option<&'static str> {
    let first = node.list().ok().and_then(|mut list| list.next()).unwrap_or(node);
    let has = |key: &str| first.get(key).is_some();
    let format = format_of(piece, node).map(|format| match format {
        SpanFormat::OtlpJson => "a request of OTLP/JSON (`kind = \"otlp\"`)",
        SpanFormat::OtlpProto => "a request of OTLP in protobuf (`kind = \"otlp\"`)",
        SpanFormat::Jaeger => "Jaeger's JSON (`kind = \"jaeger\"`)",
        SpanFormat::Zipkin => "Zipkin's JSON (`kind = \"zipkin\"`)",
    });
    let others = [
        (
            first.get("context").is_some_and(|context| context.get("trace_id").is_some()),
            "what OpenTelemetry's console exporter prints, which is not meant to be read: use its \
             OTLP or file exporter",
        ),
        (
            has("traceID") && has("spanID"),
            "a span of Jaeger as its storage keeps it: fetch traces from its API (`/api/traces`)",
        ),
        (
            has("Name") && has("SpanContext"),
            "what the console exporter of OpenTelemetry for Go prints: use its OTLP exporter",
        ),
    ];
    format.or_else(|| others.into_iter().find(|(is, _)| *is).map(|(_, words)| words))
}

/// The format of which a piece is, read with the keys of all formats.
pub fn format_of(piece: &Piece<'_>, node: Node<'_>) -> Option<SpanFormat> {
    match piece.key {
        Some(key) if otlp_json::KEYS.contains(&key) => return Some(SpanFormat::OtlpJson),
        Some(key) if jaeger::KEYS.contains(&key) => return Some(SpanFormat::Jaeger),
        _ => {}
    }
    let first = node.list().ok().and_then(|mut list| list.next()).unwrap_or(node);
    let has = |key: &str| first.get(key).is_some();
    if otlp_json::KEYS.iter().any(|key| has(key)) || has("trace") {
        return Some(SpanFormat::OtlpJson);
    }
    if has("spans") && (has("processes") || has("traceID")) || has("data") {
        return Some(SpanFormat::Jaeger);
    }
    (has("traceId") && has("id")).then_some(SpanFormat::Zipkin)
}

/// The format of a JSON file by its beginning; `None` for none of them.
///
/// # Errors
/// What stands there is not JSON, or of a kind that is not read, with the remedy.
pub fn format_of_text(path: &Path, head: &[u8]) -> Result<Option<SpanFormat>> {
    /// First keys of all formats.
    const KEYS: &[&str] = &["resourceSpans", "resource_spans", "batches", "data"];
    let reader = Box::new(std::io::Cursor::new(head.to_vec()));
    let mut pieces = Pieces::new(path, reader, KEYS);
    let mut tape = Tape::default();
    let mut seen = 0;
    loop {
        let piece = match pieces.next() {
            Ok(Some(piece)) => piece,
            Ok(None) => return Ok(None),
            // The head may end in the middle of the first piece: its first key has to do.
            Err(_) if seen > 0 => return Ok(None),
            Err(pieces::Fault::Broken(error)) => return Err(error.into()),
            Err(pieces::Fault::Wrong(line, column, message)) => {
                let found = by_first_key(head);
                if found.is_some() {
                    return Ok(found);
                }
                let place = format!("line {line}, column {column}");
                return Err(UserError::input(path, place, format!("is not JSON: {message}")).into());
            }
        };
        seen += 1;
        let Ok(node) = tape.read(piece.bytes) else { continue };
        let found = format_of(&piece, node);
        let mut first = node.list().ok().into_iter().flatten();
        let old = zipkin::is_version_1(first.next().unwrap_or(node));
        if found.is_some() && !(old && found == Some(SpanFormat::Zipkin)) {
            return Ok(found);
        }
        let old = old.then_some(zipkin::VERSION_1);
        if let Some(words) = old.or_else(|| recognise(&piece, node)) {
            return Err(UserError::input(
                path,
                format!("line {}", piece.line),
                format!("is {words}"),
            )
            .into());
        }
    }
}

/// The format of a file whose first value is larger than what is looked at.
fn by_first_key(head: &[u8]) -> Option<SpanFormat> {
    let text = String::from_utf8_lossy(&head[..head.len().min(4096)]);
    let keys = ["resourceSpans", "resource_spans", "batches", "data", "traceID", "traceId"];
    let places = keys.iter().filter_map(|key| Some((text.find(&format!("\"{key}\""))?, *key)));
    let (_, key) = places.min()?;
    Some(match key {
        "data" | "traceID" => SpanFormat::Jaeger,
        "traceId" => SpanFormat::Zipkin,
        _ => SpanFormat::OtlpJson,
    })
}

fn read_proto(
    path: &Path,
    reader: Box<dyn BufRead + Send>,
    reading: &mut Reading<'_>,
) -> Result<()> {
    let broken = |error| lines::broken(path, 1, &error);
    let mut requests = otlp_proto::Requests::new(reader).map_err(broken)?;
    loop {
        let (place, message) = match requests.next(reading) {
            Ok(true) => continue,
            Ok(false) => return Ok(()),
            Err(otlp_proto::Fault::Broken(error)) => return Err(broken(error).into()),
            Err(otlp_proto::Fault::Wrong(byte, message)) => {
                return Err(UserError::input(path, format!("byte {byte}"), message).into());
            }
            Err(otlp_proto::Fault::Field(byte, problem)) => {
                let dot = if problem.path.is_empty() { "" } else { ", " };
                (format!("byte {byte}{dot}{}", problem.path), problem.message)
            }
        };
        if !reading.skip {
            let message = format!("{message}: {REMEDY}");
            return Err(UserError::input(path, place, message).into());
        }
        reading.counts.spans += 1;
        reading.counts.bad += 1;
    }
}
