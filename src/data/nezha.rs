//! Source `nezha`: span tables of two running systems with injected faults (Nezha, FSE 2023).
//!
//! A span is a call to its operation; the spans of a trace form a tree already. A system has one
//! gateway, which is the root of every trace, so that the service is taken to be the first operation
//! that a trace reaches in another component than the root's: what the request was for.
//!
//! Traces that reach a component while a fault is injected into it are kept apart: they are neither
//! trained on nor tested on, and serve as real anomalies.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use anyhow::Result;
use chrono::NaiveDateTime;
use serde::{Deserialize, Serialize};

use super::Funnel;
use super::finish::{self, Losses, Reason};
use super::source::{Source, SourceInput, SourceOutput, SourceRequest};
use super::table::{BadValue, Row, Table, TableEntry, shown};
use crate::check;
use crate::error::UserError;
use crate::graph::{CallGraph, CallRow, CallType, EdgeId, Interner, Name, USER, ViolationCode};
use crate::version::Version;

/// Version of this source: what spans become.
pub const VERSION: Version = Version::new("source/nezha", 1);

const COLUMNS: [&str; 7] = [
    "TraceID",
    "SpanID",
    "ParentID",
    "PodName",
    "OperationName",
    "StartTimeUnixNano",
    "EndTimeUnixNano",
];
/// The parent of a root span.
const ROOT: &str = "root";
/// A fault is taken to last for the minute of its injection and the two after it, of which the data
/// set has the traces.
const FAULT_MINUTES: i64 = 3;
const MINUTE: i64 = 60_000_000_000;

/// Keys of `[source]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nezha {
    /// Tables of spans: a file, or a folder of `.csv` and `.csv.gz`.
    path: PathBuf,
    /// Lists of injected faults (JSON): traces that meet one are kept apart as anomalies.
    #[serde(default)]
    faults: Vec<PathBuf>,
}

impl Source for Nezha {
    fn version() -> Version {
        VERSION
    }

    fn check(&self) -> Result<(), String> {
        check::each_once("source.faults", &self.faults)
    }

    fn inputs(&self) -> Vec<SourceInput<'_>> {
        let spans = SourceInput { path: &self.path, extension: "csv" };
        let faults = self.faults.iter().map(|path| SourceInput { path, extension: "json" });
        [spans].into_iter().chain(faults).collect()
    }

    fn read(&self, request: &SourceRequest<'_>) -> Result<SourceOutput> {
        let faults = request.files[1..].concat();
        read(&request.files[0], &faults, request.skip_bad_rows)
    }
}

struct Span {
    id: String,
    parent: String,
    /// Name of the pod without the parts that differ between its replicas.
    component: Name,
    operation: String,
    /// Nanoseconds.
    start: i64,
    finish: i64,
}

impl Span {
    /// Its place among its siblings; the last three only where clocks are coarse or ids repeat.
    fn place(&self) -> (i64, i64, &str, &str, &str) {
        (self.start, self.finish, &self.id, &self.component, &self.operation)
    }
}

/// Reads the graphs of `files`, in the order of their traces' ids: neither they nor the split, which goes by
/// number, depend on the order of rows and files.
///
/// # Errors
/// A file that is not a span table, or not a list of faults.
fn read(files: &[PathBuf], faults: &[PathBuf], skip_bad_rows: bool) -> Result<SourceOutput> {
    let faults = Faults::read(faults)?;
    let mut names = Interner::default();
    let mut traces: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    let mut incomplete: HashSet<String> = HashSet::new();
    let (mut rows, mut bad) = (0, 0);
    for path in files {
        let counts = Table::open(path, &COLUMNS)?.for_each(skip_bad_rows, 0, |entry| {
            match entry {
                TableEntry::Row(row) => {
                    let span = span(&row, &mut names)?;
                    traces.entry(row.text(0).to_owned()).or_default().push(span);
                }
                TableEntry::Incomplete(trace) => {
                    incomplete.insert(trace.to_owned());
                }
            }
            Ok(())
        })?;
        rows += counts.0;
        bad += counts.1;
    }
    let mut funnel = Funnel::default();
    let count = traces.len() as u64;
    funnel.push("row of the table", rows, None);
    if skip_bad_rows {
        funnel.push("can be read", rows - bad, Some(count));
    }
    let mut losses = Losses::default();
    let mut read = SourceOutput::default();
    let (mut mended, mut spans) = (Mended::default(), 0);
    for (id, trace) in &traces {
        spans += trace.len();
        if incomplete.contains(id) {
            losses.add(Reason::BadRow, trace.len() as u64);
            continue;
        }
        match graph(trace, &mut names, &mut mended) {
            Ok(graph) if faults.touch(trace) => read.faulty.push(graph),
            Ok(graph) => read.graphs.push(graph),
            Err(reason) => losses.add(reason, trace.len() as u64),
        }
    }
    read.graphs = finish::distinct(read.graphs, &mut losses);
    read.faulty = finish::distinct(read.faulty, &mut losses);
    losses.push_to(&mut funnel, rows - bad, count);
    read.funnel = funnel;
    if faults.0.is_empty() {
        read.labels.push("Traces during injected faults are among the others.".to_owned());
    }
    let Mended { cut, backwards } = mended;
    read.labels.push(format!(
        "Operations stand for microservices; {cut} of {spans} spans lay partly outside their parents and were cut to them."
    ));
    if backwards > 0 {
        read.labels.push(format!(
            "{backwards} of {spans} spans ended before they began, or had no end, and last 0 ms."
        ));
    }
    Ok(read)
}

/// Spans whose times were changed so that they fit into a graph.
#[derive(Default)]
struct Mended {
    /// Began or ended outside their parents.
    cut: u64,
    /// Ended before they began: a clock was set back, or the end was never written (0).
    backwards: u64,
}

fn span(row: &Row<'_>, names: &mut Interner) -> Result<Span, BadValue> {
    let text = |column: usize| match row.text(column) {
        "" => Err(BadValue::new(COLUMNS[column], "has no value")),
        text => Ok(text),
    };
    let time = |column: usize| {
        text(column)?.parse::<i64>().ok().filter(|time| *time >= 0).ok_or_else(|| {
            let message = format!("`{}` is not a number of nanoseconds", shown(row.text(column)));
            BadValue::new(COLUMNS[column], message)
        })
    };
    text(0)?;
    Ok(Span {
        id: text(1)?.to_owned(),
        parent: text(2)?.to_owned(),
        component: names.name(component(text(3)?)),
        operation: text(4)?.to_owned(),
        start: time(5)?,
        finish: time(6)?,
    })
}

/// A pod's name without the hash of its template and its own.
fn component(pod: &str) -> &str {
    let mut parts = pod.rsplitn(3, '-');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(_), Some(component)) => component,
        _ => pod,
    }
}

/// What a span calls, by the words that tracing libraries use.
fn kind(operation: &str) -> CallType {
    const DATABASE: [&str; 7] =
        ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "sql.", "Transaction.", "Session."];
    if DATABASE.iter().any(|start| operation.starts_with(start)) {
        CallType::Db
    } else if operation.starts_with("HTTP ") || operation.starts_with("/api/") {
        CallType::Http
    } else {
        CallType::Rpc
    }
}

/// The graph of a trace's spans. Spans that begin or end outside their parents, since clocks differ,
/// are cut to them; those that end before they begin last no time; both are counted.
fn graph(trace: &[Span], names: &mut Interner, mended: &mut Mended) -> Result<CallGraph, Reason> {
    let mut children: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    trace.iter().for_each(|span| children.entry(&span.parent).or_default().push(span));
    for siblings in children.values_mut() {
        siblings.sort_by(|a, b| a.place().cmp(&b.place()));
    }
    let invalid = |code| Err(Reason::Invalid(code));
    let root = match children.get(ROOT).map(Vec::as_slice) {
        Some([root]) => *root,
        Some(_) => return invalid(ViolationCode::SecondRoot),
        None => return invalid(ViolationCode::NoRoot),
    };
    let mut service = None;
    let mut rows: Vec<CallRow> = Vec::with_capacity(trace.len());
    let whole = (root.start, root.finish.max(root.start));
    let mut waiting = vec![(root, EdgeId::root(), names.name(USER), whole)];
    while let Some((span, edge_id, source, (from, to))) = waiting.pop() {
        // Spans of the same id can be each other's children.
        if rows.len() == trace.len() {
            return invalid(ViolationCode::DuplicateEdgeId);
        }
        let ends = span.finish.max(span.start);
        let start = span.start.clamp(from, to);
        let finish = ends.clamp(start, to);
        mended.cut += u64::from((start, finish) != (span.start, ends));
        mended.backwards += u64::from(ends != span.finish);
        let destination = names.name(&format!("{}/{}", span.component, span.operation));
        if service.is_none() && span.component != root.component {
            service = Some(destination.clone());
        }
        let milliseconds = |time: i64| u32::try_from((time - root.start) / 1_000_000);
        let (Ok(begin), Ok(end)) = (milliseconds(start), milliseconds(finish)) else {
            return Err(Reason::TimeRange);
        };
        let below = children.get(span.id.as_str()).into_iter().flatten();
        let below = below.zip(1..).map(|(child, number)| {
            (*child, edge_id.child(number), destination.clone(), (start, finish))
        });
        let first = waiting.len();
        waiting.extend(below);
        // The first child next.
        waiting[first..].reverse();
        let kind = kind(&span.operation);
        rows.push(CallRow { edge_id, source, destination, kind, start: begin, finish: end });
    }
    if rows.len() < trace.len() {
        return invalid(ViolationCode::MissingParent);
    }
    let service = service.unwrap_or_else(|| rows[0].destination.clone());
    finish::judge(service, &rows)
}

/// An entry of Nezha's lists of faults, which are by hour.
#[derive(Deserialize)]
struct Entry {
    /// Of the time zone of the spans; `inject_timestamp` is not, in part of the data.
    inject_time: String,
    inject_pod: String,
}

/// Component, first and last nanosecond.
struct Faults(Vec<(String, i64, i64)>);

impl Faults {
    fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut faults = Vec::new();
        for path in paths {
            let text = std::fs::read_to_string(path)
                .map_err(|error| UserError::io(path, "cannot be read", error))?;
            let hours: BTreeMap<String, Vec<Entry>> = serde_json::from_str(&text)
                .map_err(|error| UserError::input(path, "list of faults", error.to_string()))?;
            for (hour, entries) in hours {
                for Entry { inject_time, inject_pod } in entries {
                    let time = NaiveDateTime::parse_from_str(&inject_time, "%Y-%m-%d %H:%M:%S");
                    let time = time.ok().and_then(|time| time.and_utc().timestamp_nanos_opt());
                    let Some(from) = time else {
                        let place = format!("hour {hour}, inject_time");
                        let message = format!("`{inject_time}` is not like 2023-01-29 08:43:04");
                        return Err(UserError::input(path, place, message).into());
                    };
                    let component = component(&inject_pod).to_owned();
                    faults.push((component, from, from + FAULT_MINUTES * MINUTE));
                }
            }
        }
        Ok(Self(faults))
    }

    /// Whether a span was in a component while it had a fault.
    fn touch(&self, trace: &[Span]) -> bool {
        trace.iter().any(|span| {
            self.0.iter().any(|(component, from, to)| {
                *component == *span.component && span.start < *to && span.finish >= *from
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::golden;

    const HEADER: &str = "source_file,TraceID,SpanID,ParentID,PodName,OperationName,\
                          StartTimeUnixNano,EndTimeUnixNano,Duration";
    /// 2023-01-29 08:43:04 in seconds.
    const FAULT: i64 = 1_674_981_784;

    /// A trace of three spans: the gateway's, one of another component that ends after it, and a
    /// database's.
    fn trace(id: &str, second: i64) -> String {
        let span = |span: &str, parent: &str, pod: &str, operation: &str, from: i64, to: i64| {
            let at = |microseconds: i64| second * 1_000_000_000 + microseconds * 1_000;
            format!("f,{id},{span},{parent},{pod}-77d-x2,{operation},{},{},0\n", at(from), at(to))
        };
        span("c", "b", "ts-order", "SELECT ts.orders", 2_100, 2_900)
            + &span("a", "root", "ts-gateway", "/*", 0, 9_999)
            + &span("b", "a", "ts-order", "/api/orders", 2_000, 11_000)
    }

    fn read_text(text: &str, faults: &str) -> Result<SourceOutput> {
        let dir = tempfile::tempdir().unwrap();
        let (spans, list) = (dir.path().join("spans.csv"), dir.path().join("faults.json"));
        std::fs::write(&spans, format!("{HEADER}\n{text}")).unwrap();
        std::fs::write(&list, faults).unwrap();
        read(&[spans], &[list], false)
    }

    #[test]
    fn golden() {
        let rows = "f,t1,c,b,ts-order-77d-x2,SELECT ts.orders,2100000,2900000,0\n\
                    f,t1,a,root,ts-gateway-77d-x2,/*,0,9999000,0\n\
                    f,t1,b,a,ts-order-77d-x2,/api/orders,2000000,11000000,0\n\
                    f,t2,a,root,ts-gateway-77d-x2,/*,0,4999000,0\n";
        golden::check(
            VERSION,
            "[source]\nkind = \"nezha\"\npath = \"spans.csv\"\n",
            &[("spans.csv", &format!("{HEADER}\n{rows}"))],
        );
    }

    fn fault(pod: &str) -> String {
        format!(
            r#"{{"08": [{{"inject_time": "2023-01-29 08:43:04", "inject_timestamp": "0",
            "inject_pod": "{pod}", "inject_type": "return"}}]}}"#
        )
    }

    #[test]
    fn spans_become_calls_inside_their_parents() {
        let read = read_text(&trace("t", FAULT), "{}").unwrap();
        let [graph] = read.graphs.as_slice() else { panic!("one graph") };
        assert_eq!(graph.service().as_str(), "ts-order//api/orders");
        let calls: Vec<_> = graph
            .rows()
            .into_iter()
            .map(|row| (row.destination.to_string(), row.kind.as_str(), row.start, row.finish))
            .collect();
        let call = |name: &str, kind, start, finish| (name.to_owned(), kind, start, finish);
        assert_eq!(
            calls,
            [
                call("ts-gateway//*", "rpc", 0, 9),
                call("ts-order//api/orders", "http", 2, 9),
                call("ts-order/SELECT ts.orders", "db", 2, 2),
            ]
        );
        assert!(read.labels[1].contains("1 of 3 spans"), "{:?}", read.labels);
        // Twice the same graph is once the same graph.
        let twice = trace("t", FAULT) + &trace("u", FAULT);
        assert_eq!(read_text(&twice, "{}").unwrap().graphs.len(), 1);
    }

    #[test]
    fn only_traces_that_meet_a_fault_are_faulty() {
        let sides = |pod: &str, second: i64| {
            let read = read_text(&trace("t", second), &fault(pod)).unwrap();
            (read.graphs.len(), read.faulty.len())
        };
        let (pod, other) = ("ts-order-77d-x2", "ts-price-77d-x2");
        assert_eq!(sides(pod, FAULT), (0, 1));
        assert_eq!(sides(pod, FAULT + 179), (0, 1));
        assert_eq!(sides(pod, FAULT + 180), (1, 0));
        assert_eq!(sides(pod, FAULT - 1), (1, 0));
        assert_eq!(sides(other, FAULT), (1, 0));
    }

    #[test]
    fn broken_traces_are_lost_and_counted() {
        let good = trace("t", 1);
        let orphan = good.replace(",b,a,", ",b,x,");
        let rootless = good.replace("root", "y");
        let two_roots = good.replace(",b,a,", ",b,root,");
        let own_child = good.replace(",b,a,", ",a,a,");
        for (text, words) in [
            (orphan, "missing-parent"),
            (rootless, "no-root"),
            (two_roots, "second-root"),
            (own_child, "duplicate-edge-id"),
        ] {
            let read = read_text(&text, "{}").unwrap();
            let lost = read.funnel.0.iter().any(|step| step.step.contains(words));
            assert!(read.graphs.is_empty() && lost, "{words}: {}", read.funnel);
        }
    }

    #[test]
    fn a_span_that_ends_before_it_begins_lasts_no_time_and_is_counted() {
        // The database's span ends 1 ns before it begins, its caller has no end.
        let good = trace("t", 1);
        let back = good.replace(",1002100000,1002900000,", ",1002100000,1002099999,");
        let endless = back.replace(",1011000000,0", ",0,0");
        assert!(back != good && endless != back);
        for (text, backwards, expected) in [
            (back, 1, [(0, 9), (2, 9), (2, 2)]),
            (endless, 2, [(0, 9), (2, 2), (2, 2)]),
            // The root has no end: nothing of the trace can last.
            (good.replace(",1009999000,0", ",0,0"), 1, [(0, 0), (0, 0), (0, 0)]),
        ] {
            let read = read_text(&text, "{}").unwrap();
            let [graph] = read.graphs.as_slice() else { panic!("one graph") };
            let times: Vec<_> =
                graph.calls().iter().map(|call| (call.start, call.finish)).collect();
            assert_eq!(times, expected);
            assert_eq!(graph.depth(), 3);
            let label = format!("{backwards} of 3 spans ended before they began, or had no end");
            assert!(read.labels.iter().any(|text| text.starts_with(&label)), "{:?}", read.labels);
        }
        assert_eq!(read_text(&good, "{}").unwrap().labels.len(), 2);
    }

    #[test]
    fn a_trace_is_lost_with_a_span_that_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spans.csv");
        let spoilt = trace("u", 2).replacen("2100000", "21oo", 1);
        std::fs::write(&path, format!("{HEADER}\n{}{spoilt}", trace("t", 1))).unwrap();
        let read = read(&[path], &[], true).unwrap();
        assert_eq!(read.graphs.len(), 1);
        let steps: Vec<u64> = read.funnel.0.iter().take(3).map(|step| step.rows).collect();
        assert_eq!(steps, [6, 5, 3], "{}", read.funnel);
    }

    #[test]
    fn slips_are_named() {
        let error = |text: &str, faults: &str| {
            let error = read_text(text, faults).err().expect("refused").to_string();
            error[error.find("spans.csv").or(error.find("faults.json")).unwrap()..].to_owned()
        };
        let late = trace("t", 1).replacen("2100000", "21oo", 1);
        assert!(error(&late, "{}").contains("line 2, column StartTimeUnixNano"), "{late}");
        assert!(error("", "[]").starts_with("faults.json: list of faults"));
        let fault = fault("p").replace("08:43:04", "8h");
        assert!(error("", &fault).contains("hour 08, inject_time: `2023-01-29 8h`"));
    }
}
