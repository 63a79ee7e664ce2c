//! What a file of traces is, before there is a manifest for it: its format by its content, what is in it,
//! and the manifest that reads it.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::source::{SourceOutput, SourceRequest};
use super::spans::{self, Keep, Read, ReadOptions, SpanFormat};
use super::table::Dialect;
use super::{DatasetManifest, calls, lines, table};
use crate::display;
use crate::error::UserError;
use crate::graph::Interner;
use crate::progress::Progress;

/// How much of a file its format is told by.
const HEAD_BYTES: u64 = 1 << 20;
/// Attributes of spans that are listed.
const ATTRIBUTES: usize = 20;

/// A file, and what reads it.
pub struct Recognised {
    /// What it is, in words.
    pub what: String,
    /// The manifest that reads it, as TOML.
    pub manifest: String,
    /// What stands in it, line by line.
    pub schema: Vec<String>,
}

/// What a format of spans is called.
fn name_of(format: SpanFormat) -> (&'static str, &'static str) {
    match format {
        SpanFormat::OtlpJson => ("spans of OpenTelemetry (OTLP/JSON)", "otlp"),
        SpanFormat::OtlpProto => ("spans of OpenTelemetry (OTLP in protobuf)", "otlp"),
        SpanFormat::Jaeger => ("spans in Jaeger's JSON", "jaeger"),
        SpanFormat::Zipkin => ("spans in Zipkin's JSON, version 2", "zipkin"),
    }
}

/// Tells what `path` is.
///
/// # Errors
/// A file that cannot be read, or that is nothing that the harness reads, with what it seems to be.
pub fn recognise(path: &Path) -> Result<Recognised> {
    if calls::is_parquet(path) {
        let frame = calls::read(path)?;
        let columns: Vec<String> =
            frame.get_column_names().iter().map(|name| name.to_string()).collect();
        let first = columns.iter().map(|name| {
            let value = frame.column(name).and_then(|column| column.get(0));
            value.map_or(String::new(), |value| value.to_string().trim_matches('"').to_owned())
        });
        let first = first.collect::<Vec<_>>();
        return of_table(path, &columns, &first, "");
    }
    let mut head = Vec::new();
    let read = lines::open(path)?.take(HEAD_BYTES).read_to_end(&mut head);
    read.map_err(|error| lines::broken(path, 1, &error))?;
    let unknown = |message: &str| Err(UserError::input(path, "content", message).into());
    if head.is_empty() {
        return unknown("is empty");
    }
    if !spans::is_text(&head) {
        if !is_proto(&head) {
            return unknown(
                "is not text, nor a request of OTLP in protobuf, nor Parquet: nothing reads it",
            );
        }
        return of_spans(path, SpanFormat::OtlpProto);
    }
    let first = head.iter().find(|byte| !byte.is_ascii_whitespace() && !byte.is_ascii_control());
    if !matches!(first, Some(b'{' | b'[')) {
        return of_lines(path, &head);
    }
    match spans::format_of_text(path, &head)? {
        Some(format) => of_spans(path, format),
        None if is_structure(&head) => Ok(Recognised {
            what: "distinct graphs with the number of traces of each".to_owned(),
            manifest: manifest(
                path,
                "weighted-structures",
                "# The dataset that lends its response times.\ntimes_from = \"alibaba-v2022-graphs\"\n",
            ),
            schema: Vec::new(),
        }),
        None => unknown("is JSON, but neither OTLP, nor Jaeger's, nor Zipkin's"),
    }
}

/// Whether a file begins as a request in protobuf does.
fn is_proto(head: &[u8]) -> bool {
    let mut names = Interner::default();
    let mut found = 0;
    let options =
        ReadOptions { format: SpanFormat::OtlpProto, keep: Keep::Policy, skip_bad: false };
    let reader = Box::new(Cursor::new(head.to_vec()));
    let read = spans::read_from(Path::new(""), reader, options, &mut names, &mut |_| found += 1);
    // The head may end in the middle of a field.
    found > 0 || (read.is_ok() && !head.is_empty())
}

/// Whether the first line is a structure of the source `weighted-structures`.
fn is_structure(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let value: Option<serde_json::Value> = serde_json::from_slice(line).ok();
    value.is_some_and(|value| value.get("edges").is_some() && value.get("num").is_some())
}

/// A name for a dataset of a file.
fn name(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = file.split('.').next().unwrap_or_default();
    let plain =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let name: String = plain.collect::<String>().trim_matches('-').chars().take(60).collect();
    if crate::check::name(&name).is_ok() { name } else { "my-traces".to_owned() }
}

fn manifest(path: &Path, kind: &str, more: &str) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    format!(
        "name = \"{}\"\n\n[source]\nkind = \"{kind}\"\npath = {}\n{more}",
        name(path),
        toml::Value::String(absolute.display().to_string()),
    )
}

/// A table whose first line is its header.
fn of_lines(path: &Path, head: &[u8]) -> Result<Recognised> {
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}');
    let mut rows = text.lines();
    let (header, first) = (rows.next().unwrap_or_default(), rows.next().unwrap_or_default());
    let count = |delimiter: char| header.matches(delimiter).count();
    let delimiter =
        [',', '\t', ';', '|'].into_iter().rev().max_by_key(|c| count(*c)).unwrap_or(',');
    let is_quoted = head.contains(&b'"');
    let dialect = Dialect { delimiter: delimiter as u8, is_quoted };
    let fields = |line: &str| table::split(line, dialect).unwrap_or_default();
    let mut form = String::new();
    if delimiter != ',' {
        form += &format!("delimiter = {}\n", toml::Value::String(delimiter.to_string()));
    }
    if is_quoted {
        form += "quoted = true\n";
    }
    of_table(path, &fields(header), &fields(first), &form)
}

/// Tables by the columns that tell them: what they are, and the source that reads them.
const TABLES: [(&[&str], &str, Option<&str>); 7] = [
    (
        &["graph_index", "service", "edge_id", "source", "destination", "start_ms", "finish_ms"],
        "complete graphs, one row per call",
        Some("call-table"),
    ),
    (
        &["traceid", "rpc_id", "rpctype", "um", "dm", "rt", "service"],
        "Alibaba's table `CallGraph` of 2022",
        Some("alibaba-v2022"),
    ),
    (
        &["traceid", "rpcid", "rpctype", "um", "dm", "rt", "interface"],
        "Alibaba's table `MSCallGraph` of 2021",
        Some("alibaba-v2021"),
    ),
    (
        &["TraceID", "SpanID", "ParentID", "PodName", "OperationName", "StartTimeUnixNano"],
        "spans of Nezha's systems",
        Some("nezha"),
    ),
    (
        &["task_name", "job_name", "task_type"],
        "Alibaba's table `batch_task` of 2018, which no source reads yet",
        None,
    ),
    (
        &["service", "num_edges", "depth", "latency"],
        "attributes of graphs, which a manifest names as `prompts`, not as a source",
        None,
    ),
    (
        &["msname", "msinstanceid", "cpu_utilization"],
        "Alibaba's table of resource use, which is no table of calls: use `CallGraph` (2022) or \
         `MSCallGraph` (2021)",
        None,
    ),
];

fn of_table(path: &Path, columns: &[String], first: &[String], form: &str) -> Result<Recognised> {
    let schema = columns
        .iter()
        .zip(first.iter().map(String::as_str).chain(std::iter::repeat("")))
        .map(|(name, value)| format!("{name}: {}", table::shown(value)))
        .collect();
    let has = |wanted: &&str| columns.iter().any(|column| column == wanted);
    if let Some((_, what, source)) = TABLES.iter().find(|(keys, ..)| keys.iter().all(&has)) {
        let Some(kind) = source else {
            let message = format!("is {what}");
            return Err(UserError::input(path, "line 1", message).into());
        };
        let manifest = manifest(path, kind, "");
        return Ok(Recognised { what: (*what).to_owned(), manifest, schema });
    }
    let mapping = Guess::of(columns, first);
    match mapping {
        Ok(guess) => Ok(Recognised {
            what: "a table of spans, by the names of its columns".to_owned(),
            manifest: manifest(path, "spans", &guess.toml(form)),
            schema,
        }),
        Err(missing) => {
            let listed = display::quoted(&columns.join(", ")).into_owned();
            let message = format!(
                "is a table of columns {listed}, none of which is the {missing} of a span by its \
                 name: write a manifest with kind = \"spans\" that says which is (docs/spans.md)"
            );
            Err(UserError::input(path, "line 1", message).into())
        }
    }
}

/// Which column of a table of spans is what, by its name.
struct Guess {
    columns: Vec<(&'static str, String)>,
    unit: Option<&'static str>,
    service_is_pod: bool,
}

impl Guess {
    /// # Errors
    /// What no column is by its name.
    fn of(columns: &[String], first: &[String]) -> Result<Self, &'static str> {
        let plain = |text: &str| text.to_lowercase().replace(['_', '-', ' ', '.'], "");
        let find = |names: &[&str]| {
            let named = |name: &&str| columns.iter().position(|column| plain(column) == **name);
            names.iter().find_map(named)
        };
        let mut found = Vec::new();
        let mut take = |key: &'static str, names: &[&str]| {
            let place = find(names);
            found.extend(place.map(|place| (key, columns[place].clone())));
            place
        };
        take("trace", &["traceid", "trace", "tid"]).ok_or("trace")?;
        take("span", &["spanid", "span", "id"]).ok_or("id")?;
        take("parent", &["parentspanid", "parentid", "parentspan", "parent", "pid"])
            .ok_or("parent")?;
        let service = take(
            "service",
            &[
                "servicename",
                "service",
                "serviceid",
                "servicecode",
                "podname",
                "cmdbid",
                "app",
                "process",
            ],
        );
        let service = service.ok_or("service")?;
        let operations =
            ["operationname", "operation", "spanname", "methodname", "endpointname", "url", "name"];
        take("operation", &operations).ok_or("operation")?;
        take("kind", &["kind", "spankind"]);
        let start = take(
            "start",
            &[
                "starttimeunixnano",
                "starttime",
                "startus",
                "startns",
                "startms",
                "start",
                "timestamp",
            ],
        );
        let start = start.ok_or("start")?;
        let ends = ["endtimeunixnano", "endtime", "endus", "endns", "endms", "end"];
        if take("end", &ends).is_none() {
            let durations =
                ["duration", "durationns", "durationus", "durationms", "elapsed", "elapsedtime"];
            take("duration", &durations).ok_or("end or duration")?;
        }
        let value = first.get(start).map(String::as_str).unwrap_or_default();
        let digits = value.split('.').next().unwrap_or_default();
        let unit = match digits.len() {
            _ if value.contains(':') => Some("rfc3339"),
            // Digits of a date after 2001.
            19 => Some("ns"),
            16 => Some("us"),
            13 => Some("ms"),
            10 => Some("s"),
            _ => None,
        };
        Ok(Self { service_is_pod: plain(&columns[service]) == "podname", columns: found, unit })
    }

    fn toml(&self, form: &str) -> String {
        let mut text = "\n[source.columns]\n".to_owned();
        for (key, column) in &self.columns {
            text += &format!("{key} = {}\n", toml::Value::String(column.clone()));
        }
        text += "\n[source.form]\n";
        text += &match self.unit {
            Some(unit) => format!("unit = \"{unit}\"\n"),
            None => "# Say which: ns, us, ms, s or rfc3339.\nunit = \"ns\"\n".to_owned(),
        };
        let is_duration = self.columns.iter().any(|(key, _)| *key == "duration");
        if is_duration && self.unit == Some("rfc3339") {
            text += "# Say which: ns, us, ms or s.\nduration_unit = \"us\"\n";
        }
        if self.service_is_pod {
            text += "service_is_pod = true\n";
        }
        text + form
    }
}

/// A file of spans: who is in it, and what its spans say.
fn of_spans(path: &Path, format: SpanFormat) -> Result<Recognised> {
    let (what, kind) = name_of(format);
    let mut names = Interner::default();
    let mut count = 0u64;
    let (mut services, mut operations) = (BTreeMap::new(), BTreeMap::new());
    let (mut kinds, mut errors) = (BTreeMap::new(), 0u64);
    let mut attributes: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let options = ReadOptions { format, keep: Keep::All, skip_bad: true };
    spans::read(path, options, &mut names, &mut |read| {
        let Read::Span(span) = read else { return };
        count += 1;
        *kinds.entry(span.kind).or_insert(0u64) += 1;
        errors += u64::from(span.status == spans::Status::Error);
        *services.entry(span.service.clone()).or_insert(0u64) += 1;
        *operations.entry((span.service, span.operation)).or_insert(0u64) += 1;
        let all = span.attributes.iter().map(|pair| ("", pair));
        for (of, (key, value)) in all.chain(span.resource.iter().map(|pair| ("resource ", pair))) {
            let entry = attributes.entry(format!("{of}{key}"));
            entry.or_insert_with(|| (0, value.plain())).0 += 1;
        }
    })?;
    let share = |part: u64| 100.0 * part as f64 / count.max(1) as f64;
    let kinds: Vec<String> = kinds
        .iter()
        .map(|(kind, part)| format!("{} {:.1} %", kind.as_str(), share(*part)))
        .collect();
    let mut schema = vec![
        format!("{} services, {} operations", services.len(), operations.len()),
        format!("kinds: {}; errors {:.1} %", kinds.join(", "), share(errors)),
    ];
    let mut listed: Vec<(String, (u64, String))> = attributes.into_iter().collect();
    listed.sort_by(|a, b| b.1.0.cmp(&a.1.0).then_with(|| a.0.cmp(&b.0)));
    let more = listed.len().saturating_sub(ATTRIBUTES);
    for (key, (part, example)) in listed.into_iter().take(ATTRIBUTES) {
        schema.push(format!(
            "{key}: {:.1} % of spans, such as {}",
            share(part),
            table::shown(&example)
        ));
    }
    if more > 0 {
        schema.push(format!("and {more} more attributes"));
    }
    Ok(Recognised { what: what.to_owned(), manifest: manifest(path, kind, ""), schema })
}

/// What the manifest makes of its file: everything that can be read, with what was lost and changed.
///
/// # Errors
/// A file that its source cannot read at all.
pub fn read(manifest: &str, scratch: &Path) -> Result<SourceOutput> {
    let manifest = DatasetManifest::parse(Path::new("manifest"), manifest, None)?;
    let files: Vec<Vec<PathBuf>> = manifest.files(None)?;
    manifest.source.settings().read(&SourceRequest {
        files,
        graphs: None,
        seed: 0,
        timed: Vec::new(),
        skip_bad_rows: true,
        scratch,
        progress: Progress::Quiet,
    })
}
