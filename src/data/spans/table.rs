//! Source `spans`: a table with a row for each span, whose columns the manifest names.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use chrono::DateTime;
use polars::prelude::{Column, DataType};
use serde::{Deserialize, Serialize};

use super::collect::{Assembly, Traces};
use super::from_graph::CALL_TYPE;
use super::ids;
use super::span::{Attributes, Span, SpanId, SpanKind, Status, TraceId, Value};
use super::tree::{Changes, Policy};
use crate::data::calls;
use crate::data::source::{Source, SourceInput, SourceOutput, SourceRequest};
use crate::data::table::{BadValue, Dialect, Table, TableEntry, shown};
use crate::error::{UserError, did_you_mean};
use crate::graph::{CallType, Interner, Name};
use crate::version::Version;

/// Version of this source: how a table of spans is read.
const VERSION: Version = Version::new("source/spans", 1);

/// Keys of `[source]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpanTable {
    /// A file, or a folder of files: `.csv`, plain or gzip, or `.parquet`.
    path: PathBuf,
    /// What is in which column.
    columns: Columns,
    /// What texts in the table mean.
    #[serde(default)]
    form: Form,
    /// What becomes of spans, where more than one answer is right.
    #[serde(default)]
    policy: Policy,
}

/// `[source.columns]`: names of columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// Id of the trace: any text.
    pub trace: String,
    /// Id of the span, which is unique in its trace: any text, in one column or several together.
    pub span: Together,
    /// Id of the span that caused it, in as many columns; a root has none.
    pub parent: Together,
    /// Where a row without a parent has one in another process, as in SkyWalking's `refs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_parent: Option<Together>,
    pub service: String,
    pub operation: String,
    /// client, server, producer, consumer or internal; or SkyWalking's Exit, Entry and Local.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    pub start: String,
    /// This or `duration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// Type of the call (http, rpc, mc, db, mq), or SkyWalking's layer.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub call_type: Option<String>,
    /// Name of the callee where the span is the caller's side of a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
}

/// One column, or several whose texts are one together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Together {
    One(String),
    Several(Vec<String>),
}

impl Together {
    fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

/// `[source.form]`: what texts in the table mean.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Form {
    /// Unit of start and end.
    pub unit: Unit,
    /// Unit of the duration, if it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_unit: Option<Unit>,
    /// What stands for the parent of a root, besides nothing, zeros, `-1`, `null` and `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Services are names of Kubernetes' pods: their last two parts, which differ between replicas, are
    /// left out.
    pub service_is_pod: bool,
    /// What stands between the fields of `.csv`: a comma if it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Fields of `.csv` may stand in quotation marks.
    pub quoted: bool,
}

/// Of times in a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    #[default]
    #[serde(rename = "ns")]
    Nanoseconds,
    #[serde(rename = "us")]
    Microseconds,
    #[serde(rename = "ms")]
    Milliseconds,
    #[serde(rename = "s")]
    Seconds,
    /// Text such as 2023-01-29T08:43:04.123Z.
    #[serde(rename = "rfc3339")]
    Text,
}

impl Source for SpanTable {
    fn version() -> Version {
        VERSION
    }

    fn check(&self) -> Result<(), String> {
        let Columns { span, parent, remote_parent, end, duration, .. } = &self.columns;
        let width = span.names().len();
        let lists = [("parent", Some(parent)), ("remote_parent", remote_parent.as_ref())];
        for (key, list) in lists {
            if let Some(found) = list.map(|list| list.names().len()).filter(|found| *found != width)
            {
                return Err(format!(
                    "source.columns.{key} has {found} columns where source.columns.span has {width}"
                ));
            }
        }
        if width == 0 {
            return Err("source.columns.span has no column".to_owned());
        }
        if end.is_some() == duration.is_some() {
            return Err("source.columns: give one of `end` and `duration`".to_owned());
        }
        if self.form.duration_unit == Some(Unit::Text) {
            return Err("source.form.duration_unit = \"rfc3339\": a duration is no date".to_owned());
        }
        if self.form.unit == Unit::Text && duration.is_some() && self.form.duration_unit.is_none() {
            return Err("source.form.duration_unit is missing: ns, us, ms or s".to_owned());
        }
        match self.form.delimiter {
            Some(delimiter) if !delimiter.is_ascii() || matches!(delimiter, '"' | '\n' | '\r') => {
                Err(format!(
                    "source.form.delimiter = {delimiter:?}: must be one character of ASCII"
                ))
            }
            _ => Ok(()),
        }
    }

    fn inputs(&self) -> Vec<SourceInput<'_>> {
        vec![SourceInput { path: &self.path, extensions: &["csv", "parquet"] }]
    }

    fn read(&self, request: &SourceRequest<'_>) -> Result<SourceOutput> {
        let (output, _) = output(
            &request.files[0],
            &self.columns,
            &self.form,
            &self.policy,
            request.skip_bad_rows,
            &|_| false,
        )?;
        Ok(output)
    }
}

/// The graphs of a table's spans, with what was changed in them.
///
/// # Errors
/// A file that is no such table, and rows that cannot be read, unless these are left out.
pub fn output(
    files: &[PathBuf],
    columns: &Columns,
    form: &Form,
    policy: &Policy,
    skip_bad: bool,
    is_faulty: &dyn Fn(&[Span]) -> bool,
) -> Result<(SourceOutput, Changes)> {
    let mapping = Mapping::of(columns, form);
    let mut names = Interner::default();
    let mut traces: Traces<Name> = Traces::default();
    // Texts of ids, by trace and row: what is counted in a trace gives its spans numbers.
    let mut texts: HashMap<Name, Vec<Ids>> = HashMap::new();
    for path in files {
        let mut take = |entry: RowEntry<'_>| {
            match entry {
                RowEntry::Row(text) => {
                    let (trace, ids, span) = mapping.span(text, &mut names)?;
                    texts.entry(trace.clone()).or_default().push(ids);
                    traces.add(trace, span);
                }
                RowEntry::Incomplete(trace) => traces.lose(names.name(trace)),
            }
            Ok(())
        };
        let (rows, bad) = if calls::is_parquet(path) {
            read_parquet(path, &mapping.names, skip_bad, &mut take)?
        } else {
            let delimiter = form.delimiter.map_or(b',', |delimiter| delimiter as u8);
            let dialect = Dialect { delimiter, is_quoted: form.quoted };
            let names: Vec<&str> = mapping.names.iter().map(String::as_str).collect();
            Table::open_as(path, &names, dialect)?.for_each(skip_bad, 0, |entry| match entry {
                TableEntry::Row(row) => take(RowEntry::Row(&|column| row.text(column))),
                TableEntry::Incomplete(trace) => take(RowEntry::Incomplete(trace)),
            })?
        };
        traces.counts.spans += rows;
        traces.counts.bad += bad;
    }
    traces.number(texts);
    let row = "row of the table";
    let assembly = Assembly { policy, zero_is_a_time: true, row, skip_bad, is_faulty };
    Ok(traces.into_output(&assembly, &mut names))
}

/// The texts of a span's id and of its parent's.
struct Ids {
    span: Name,
    parent: Option<Name>,
}

impl Traces<Name> {
    /// Gives the spans of each trace, which are in the order of `texts`, the numbers of their ids among all
    /// of the trace in the order of their texts.
    fn number(&mut self, texts: HashMap<Name, Vec<Ids>>) {
        for (trace, texts) in texts {
            let mut all: Vec<&Name> = texts
                .iter()
                .flat_map(|ids| [Some(&ids.span), ids.parent.as_ref()])
                .flatten()
                .collect();
            all.sort_unstable();
            all.dedup();
            let number = |text: &Name| {
                let place = all.binary_search(&text).expect("all texts are among them");
                SpanId(place as u64 + 1)
            };
            for (span, ids) in self.spans_mut(&trace).iter_mut().zip(&texts) {
                span.id = number(&ids.span);
                span.parent = ids.parent.as_ref().map(number);
            }
        }
    }
}

/// A row, by column, or the trace of one that cannot be read.
enum RowEntry<'a> {
    Row(&'a dyn Fn(usize) -> &'a str),
    Incomplete(&'a str),
}

/// The columns that are read, the trace's first, and what each is.
struct Mapping<'a> {
    names: Vec<String>,
    form: &'a Form,
    span: Vec<usize>,
    parent: Vec<usize>,
    remote_parent: Vec<usize>,
    service: usize,
    operation: usize,
    start: usize,
    end: Option<usize>,
    duration: Option<usize>,
    kind: Option<usize>,
    call_type: Option<usize>,
    peer: Option<usize>,
}

impl<'a> Mapping<'a> {
    fn of(columns: &Columns, form: &'a Form) -> Self {
        let mut names = vec![columns.trace.clone()];
        // A column may serve twice.
        let mut place = |name: &String| match names.iter().position(|known| known == name) {
            Some(place) => place,
            None => {
                names.push(name.clone());
                names.len() - 1
            }
        };
        let span = columns.span.names().iter().map(&mut place).collect();
        let parent = columns.parent.names().iter().map(&mut place).collect();
        let remote = columns.remote_parent.as_ref().map_or(&[][..], Together::names);
        let remote_parent = remote.iter().map(&mut place).collect();
        Self {
            span,
            parent,
            remote_parent,
            service: place(&columns.service),
            operation: place(&columns.operation),
            start: place(&columns.start),
            end: columns.end.as_ref().map(&mut place),
            duration: columns.duration.as_ref().map(&mut place),
            kind: columns.kind.as_ref().map(&mut place),
            call_type: columns.call_type.as_ref().map(&mut place),
            peer: columns.peer.as_ref().map(&mut place),
            names,
            form,
        }
    }

    fn wrong(&self, column: usize, message: impl Into<String>) -> BadValue {
        BadValue::new(self.names[column].clone(), message)
    }

    /// A span without its ids, which are given as texts.
    fn span<'r>(
        &self,
        text: &dyn Fn(usize) -> &'r str,
        names: &mut Interner,
    ) -> Result<(Name, Ids, Span), BadValue> {
        let required = |column: usize| match text(column) {
            "" => Err(self.wrong(column, "has no value")),
            text => Ok(text),
        };
        let trace = names.name(required(0)?);
        for column in &self.span {
            required(*column)?;
        }
        let together = |columns: &[usize]| -> String {
            columns.iter().map(|column| text(*column)).collect::<Vec<_>>().join("/")
        };
        let parent = [&self.parent, &self.remote_parent]
            .into_iter()
            .find(|columns| !columns.is_empty() && !self.is_root(columns, text));
        let ids = Ids {
            span: together(&self.span).as_str().into(),
            parent: parent.map(|columns| together(columns).as_str().into()),
        };
        let service = required(self.service)?;
        let service = if self.form.service_is_pod { component(service) } else { service };
        let start = self.time(self.start, required(self.start)?)?;
        let end = match (self.end, self.duration) {
            (Some(column), _) => match text(column) {
                "" => 0,
                text => self.time(column, text)?,
            },
            (None, Some(column)) => match text(column) {
                "" => 0,
                text => {
                    let unit = self.form.duration_unit.unwrap_or(self.form.unit);
                    start.saturating_add(self.number(column, text, unit)?)
                }
            },
            (None, None) => 0,
        };
        let kind = match self.kind.map(|column| (column, text(column))) {
            None | Some((_, "")) => SpanKind::Unspecified,
            Some((column, text)) => kind(text).ok_or_else(|| {
                self.wrong(column, format!("`{}` is no kind of span", shown(text)))
            })?,
        };
        let mut attributes = Attributes::new();
        let call_type = self.call_type.and_then(|column| call_type(text(column)));
        attributes.extend(call_type.map(|kind| (names.name(CALL_TYPE), kind.as_str().into())));
        let peer = self.peer.map(text).filter(|peer| !peer.is_empty());
        attributes
            .extend(peer.map(|peer| (names.name("peer.service"), Value::Text(names.name(peer)))));
        let span = Span {
            trace: TraceId(ids::hex(&trace, 16).ok().flatten().unwrap_or_default()),
            id: SpanId(0),
            parent: None,
            service: names.name(service),
            operation: names.name(required(self.operation)?),
            kind,
            start,
            end,
            status: Status::Unset,
            attributes,
            resource: Arc::default(),
        };
        Ok((trace, ids, span))
    }

    /// Whether these columns name no parent.
    fn is_root<'r>(&self, columns: &[usize], text: &dyn Fn(usize) -> &'r str) -> bool {
        let last = text(columns[columns.len() - 1]);
        let none = ["", "-1", "null", "NULL", "None"];
        let zeros = columns.len() == 1 && last.bytes().all(|byte| byte == b'0');
        none.contains(&last) || zeros || self.form.root.as_deref() == Some(last)
    }

    /// A time in nanoseconds.
    fn time(&self, column: usize, text: &str) -> Result<u64, BadValue> {
        if self.form.unit != Unit::Text {
            return self.number(column, text, self.form.unit);
        }
        let time = DateTime::parse_from_rfc3339(text).ok();
        let nanoseconds = time.and_then(|time| time.timestamp_nanos_opt());
        nanoseconds.and_then(|time| u64::try_from(time).ok()).ok_or_else(|| {
            let message = format!("`{}` is not a time like 2023-01-29T08:43:04.123Z", shown(text));
            self.wrong(column, message)
        })
    }

    /// A number of units, with or without a fraction, in nanoseconds.
    fn number(&self, column: usize, text: &str, unit: Unit) -> Result<u64, BadValue> {
        let (name, digits) = match unit {
            Unit::Nanoseconds => ("nanoseconds", 0),
            Unit::Microseconds => ("microseconds", 3),
            Unit::Milliseconds => ("milliseconds", 6),
            Unit::Seconds | Unit::Text => ("seconds", 9),
        };
        // Not through a floating-point number, which has not enough digits for a date.
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let number = (plain(whole) && plain(fraction) && !whole.is_empty()).then(|| {
            let fraction: String =
                fraction.chars().chain("000000000".chars()).take(digits).collect();
            let below: u64 = if digits == 0 { 0 } else { fraction.parse().ok()? };
            let scale = 10u64.pow(digits as u32);
            whole.parse::<u64>().ok()?.checked_mul(scale)?.checked_add(below)
        });
        // As times of older readers, they end where 63 bits do.
        number.flatten().filter(|number| i64::try_from(*number).is_ok()).ok_or_else(|| {
            self.wrong(column, format!("`{}` is not a number of {name}", shown(text)))
        })
    }
}

/// A pod's name without the hash of its template and its own.
pub fn component(pod: &str) -> &str {
    let mut parts = pod.rsplitn(3, '-');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(_), Some(component)) => component,
        _ => pod,
    }
}

fn kind(text: &str) -> Option<SpanKind> {
    match text.to_ascii_lowercase().as_str() {
        "entry" => Some(SpanKind::Server),
        "exit" => Some(SpanKind::Client),
        "local" => Some(SpanKind::Internal),
        _ => text.parse().ok(),
    }
}

/// A type by its name, or by a layer of SkyWalking; others are not told.
fn call_type(text: &str) -> Option<CallType> {
    let text = text.to_ascii_lowercase();
    let layer = match text.as_str() {
        "rpcframework" => Some(CallType::Rpc),
        "database" => Some(CallType::Db),
        "cache" => Some(CallType::Mc),
        _ => None,
    };
    layer.or_else(|| text.parse().ok())
}

/// Gives all rows of a Parquet table, as texts; returns (rows, bad rows).
fn read_parquet(
    path: &Path,
    names: &[String],
    skip_bad: bool,
    take: &mut dyn FnMut(RowEntry<'_>) -> Result<(), BadValue>,
) -> Result<(u64, u64)> {
    let frame = calls::read(path)?;
    let mut columns = Vec::with_capacity(names.len());
    for name in names {
        let found = frame.get_column_names();
        let column = frame.column(name).map_err(|_| {
            let hint = did_you_mean(name, found.iter().map(|name| name.as_str()));
            UserError::input(path, format!("column {name}"), format!("is missing{hint}"))
        })?;
        columns.push(texts(path, column)?);
    }
    let (mut rows, mut bad) = (0, 0);
    for row in 0..frame.height() {
        rows += 1;
        let text = |column: usize| columns[column].get(row).unwrap_or_default();
        let Err(BadValue { column, message }) = take(RowEntry::Row(&text)) else { continue };
        bad += 1;
        if !skip_bad {
            let place = format!("row {}, column {column}", row + 1);
            let message = format!("{message}: {}", crate::data::lines::SKIP_REMEDY);
            return Err(UserError::input(path, place, message).into());
        }
        take(RowEntry::Incomplete(text(0))).ok();
    }
    Ok((rows, bad))
}

/// A column as texts. Times become numbers of the unit that the file has them in.
fn texts(path: &Path, column: &Column) -> Result<polars::prelude::StringChunked> {
    let refused =
        |message: String| UserError::input(path, format!("column {}", column.name()), message);
    let plain = column.to_physical_repr();
    let is_plain = plain.dtype().is_primitive_numeric()
        || matches!(plain.dtype(), DataType::String | DataType::Boolean);
    if !is_plain {
        let message = format!("holds values of type {}, not texts or numbers", column.dtype());
        return Err(refused(message).into());
    }
    let texts = plain.cast(&DataType::String).map_err(|error| refused(error.to_string()))?;
    Ok(texts.str().map_err(|error| refused(error.to_string()))?.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::golden;
    use crate::graph::CallRow;

    const CSV: &str = "trace,id,parent,service,name,side,from,took,layer,target\n\
                       t2,a,,front,GET /,server,1000,9000,,\n\
                       t2,b,a,front,get,client,2000,5000,rpc,\n\
                       t2,c,b,cart,get,server,2500,4000,,\n\
                       t2,d,c,cart,HGET,client,3000,1000,Cache,redis-1\n\
                       t1,a,0,front,GET /,server,1000,9000,,\n";
    const MAPPING: &str = "[source]\nkind = \"spans\"\npath = \"PATH\"\n\
                           [source.columns]\ntrace = \"trace\"\nspan = \"id\"\nparent = \"parent\"\n\
                           service = \"service\"\noperation = \"name\"\nkind = \"side\"\n\
                           start = \"from\"\nduration = \"took\"\ntype = \"layer\"\npeer = \"target\"\n\
                           [source.form]\nunit = \"us\"\n";

    #[test]
    fn golden() {
        golden::check(VERSION, &MAPPING.replace("PATH", "spans.csv"), &[("spans.csv", CSV)]);
    }

    /// What a manifest with this `[source]` makes of a file; calls as in `tree.rs`.
    fn read(mapping: &str, name: &str, bytes: &[u8]) -> Result<(Vec<String>, SourceOutput)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        #[derive(Deserialize)]
        struct Manifest {
            source: crate::data::SourceSpec,
        }
        let text = mapping.replace("PATH", name);
        let Manifest { source } = crate::toml_file::parse(Path::new("m.toml"), &text)?;
        source.settings().check().map_err(UserError::setting)?;
        let output = source.settings().read(&SourceRequest::of(&path, dir.path()))?;
        let rows = output.graphs.iter().flat_map(crate::graph::CallGraph::rows).map(|row| {
            let CallRow { edge_id, source, destination, kind, start, finish } = row;
            format!("{edge_id} {source}>{destination} {kind} {start}-{finish}")
        });
        Ok((rows.collect(), output))
    }

    const ROWS: [&str; 4] = [
        // Trace t1 first.
        "0 USER>front http 0-9",
        "0 USER>front http 0-9",
        "0.1 front>cart rpc 1-6",
        "0.1.1 cart>redis-1 mc 2-3",
    ];

    #[test]
    fn a_table_is_read_by_its_mapping_in_any_form() {
        let (rows, output) = read(MAPPING, "spans.csv", CSV.as_bytes()).unwrap();
        assert_eq!(rows, ROWS);
        assert_eq!(output.graphs[0].service().as_str(), "front/GET /");
        // Other units, other separators, fields in quotation marks; end in place of duration.
        let semicolons = CSV.replace(',', ";").replace("front", "\"fr\"\"o;nt\"");
        let other = MAPPING.to_owned() + "delimiter = \";\"\nquoted = true\n";
        let (rows, _) = read(&other, "spans.csv", semicolons.as_bytes()).unwrap();
        assert_eq!(rows[2], "0.1 fr\"o;nt>cart rpc 1-6");
        let ends = CSV
            .replace("1000,9000", "1.0,10.0")
            .replace("2000,5000", "2.0,7")
            .replace("2500,4000", "2.5,6.5")
            .replace("3000,1000", "3,4.0");
        let other = MAPPING.replace("duration", "end").replace("\"us\"", "\"ms\"");
        assert_eq!(read(&other, "spans.csv", ends.as_bytes()).unwrap().0, ROWS);
        let dates = ["1.0", "10.0", "2.0", "7", "2.5", "6.5", "3", "4.0"].iter().fold(
            ends,
            |text, time| {
                let milliseconds: f64 = time.parse().unwrap();
                let date = format!(",2023-01-29T08:43:04.{:06}Z", (milliseconds * 1000.0) as u32);
                text.replace(&format!(",{time},"), &format!("{date},"))
            },
        );
        let other = other.replace("\"ms\"", "\"rfc3339\"");
        assert_eq!(read(&other, "spans.csv", dates.as_bytes()).unwrap().0, ROWS, "{dates}");
    }

    #[test]
    fn parquet_is_a_table_too() {
        let lines: Vec<Vec<&str>> = CSV.lines().map(|line| line.split(',').collect()).collect();
        let columns = (0..lines[0].len()).map(|place| {
            let name: polars::prelude::PlSmallStr = lines[0][place].into();
            let values = lines[1..].iter().map(|fields| fields[place]);
            match lines[0][place] {
                "from" => {
                    Column::new(name, values.map(|v| v.parse().unwrap()).collect::<Vec<i64>>())
                }
                "took" => {
                    Column::new(name, values.map(|v| v.parse().unwrap()).collect::<Vec<u32>>())
                }
                _ => {
                    let texts = values.map(|value| Some(value).filter(|value| !value.is_empty()));
                    Column::new(name, texts.collect::<Vec<Option<&str>>>())
                }
            }
        });
        let columns: Vec<Column> = columns.collect();
        let mut frame = polars::prelude::DataFrame::new(lines.len() - 1, columns).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.parquet");
        calls::write(&path, &mut frame).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(read(MAPPING, "spans.parquet", &bytes).unwrap().0, ROWS);
        let error =
            read(&MAPPING.replace("\"took\"", "\"tok\""), "x.parquet", &bytes).err().unwrap();
        assert!(
            error.to_string().ends_with("column tok: is missing — did you mean `took`?"),
            "{error}"
        );
        let error =
            read(&MAPPING.replace("\"from\"", "\"name\""), "x.parquet", &bytes).err().unwrap();
        assert!(
            error.to_string().contains("row 1, column name: `GET /` is not a number of micro"),
            "{error}"
        );
    }

    #[test]
    fn ids_may_be_in_several_columns_and_in_other_processes() {
        // SkyWalking: ids within segments, and segments refer to each other.
        let csv = "traceId,segmentId,spanId,parentSpanId,refSegment,refSpan,serviceCode,endpointName,type,layer,peer,startTime,endTime\n\
                   t,s1,0,-1,,,front,GET:/,Entry,Http,,10,90\n\
                   t,s1,1,0,,,front,/cart,Exit,Http,cart:80,20,70\n\
                   t,s2,0,-1,s1,1,cart,/cart,Entry,Http,,30,60\n\
                   t,s2,1,0,,,cart,Redis/get,Exit,Cache,redis:6379,40,50\n";
        let mapping = "[source]\nkind = \"spans\"\npath = \"PATH\"\n[source.form]\nunit = \"ms\"\n\
            [source.columns]\ntrace = \"traceId\"\nspan = [\"segmentId\", \"spanId\"]\n\
            parent = [\"segmentId\", \"parentSpanId\"]\nremote_parent = [\"refSegment\", \"refSpan\"]\n\
            service = \"serviceCode\"\noperation = \"endpointName\"\nkind = \"type\"\ntype = \"layer\"\n\
            peer = \"peer\"\nstart = \"startTime\"\nend = \"endTime\"\n";
        let (rows, output) = read(mapping, "spans.csv", csv.as_bytes()).unwrap();
        assert_eq!(
            rows,
            [
                "0 USER>front http 0-80",
                "0.1 front>cart http 10-60",
                "0.1.1 cart>redis:6379 mc 30-40"
            ]
        );
        assert_eq!(output.funnel.0[1].rows, 4);
        let steps: Vec<u64> = output.funnel.0.iter().map(|step| step.rows).collect();
        assert_eq!(steps, [4, 4, 3, 3], "{}", output.funnel);
    }

    #[test]
    fn slips_are_named() {
        let error = |mapping: &str, csv: &str| {
            let error =
                read(mapping, "spans.csv", csv.as_bytes()).err().expect("refused").to_string();
            error[error.find("spans.csv").unwrap_or(0)..].to_owned()
        };
        for (from, to, message) in [
            (
                "2000,5000",
                "x,5000",
                "spans.csv: line 3, column from: `x` is not a number of microseconds",
            ),
            ("2000,5000", ",5000", "spans.csv: line 3, column from: has no value"),
            (
                "2000,5000",
                "99999999999999999999,5000",
                "line 3, column from: `99999999999999999999` is not",
            ),
            (
                ",client,2000",
                ",klient,2000",
                "spans.csv: line 3, column side: `klient` is no kind of span",
            ),
            ("t2,b,a", "t2,,a", "spans.csv: line 3, column id: has no value"),
            ("t2,b,a", "t2,b,a,", "spans.csv: line 3: 11 fields where the header has 10"),
        ] {
            let text = error(MAPPING, &CSV.replacen(from, to, 1));
            assert!(text.contains(message), "{text}");
        }
        for (from, to, message) in [
            ("duration", "end = \"took\"\nduration", "give one of `end` and `duration`"),
            (
                "parent = \"parent\"",
                "parent = [\"a\", \"b\"]",
                "source.columns.parent has 2 columns where source.columns.span has 1",
            ),
            ("\"us\"", "\"rfc3339\"", "source.form.duration_unit is missing: ns, us, ms or s"),
            (
                "\"us\"",
                "\"us\"\ndelimiter = \"é\"",
                "source.form.delimiter = 'é': must be one character",
            ),
            ("unit =", "units =", "unknown key `units` — did you mean `unit`?"),
            ("peer =", "pear =", "unknown key `pear` — did you mean `peer`?"),
        ] {
            let text = error(&MAPPING.replacen(from, to, 1), CSV);
            assert!(text.contains(message), "{text}");
        }
    }

    #[test]
    fn no_input_is_too_strange() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spans.csv");
        let mapping: toml::Value = toml::from_str(MAPPING).unwrap();
        let mut mapping = mapping["source"].clone();
        mapping.as_table_mut().unwrap().remove("kind");
        let table: SpanTable = mapping.try_into().unwrap();
        super::super::testing::mutated(&[CSV.as_bytes().to_vec()], 10_000, |bytes| {
            std::fs::write(&path, bytes).unwrap();
            let skip_bad_rows = bytes.len() % 2 == 0;
            let request = SourceRequest { skip_bad_rows, ..SourceRequest::of(&path, dir.path()) };
            drop(table.read(&request));
        });
    }
}
