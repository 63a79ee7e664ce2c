//! Source `nezha`: span tables of two running systems with injected faults (Nezha, FSE 2023).
//!
//! A span is a call to its operation; the spans of a trace form a tree already. A system has one
//! gateway, which is the root of every trace, so that the service is taken to be the first operation
//! that a trace reaches in another component than the root's: what the request was for.
//!
//! Traces that reach a component while a fault is injected into it are kept apart: they are neither
//! trained on nor tested on, and serve as real anomalies.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use chrono::NaiveDateTime;
use serde::{Deserialize, Serialize};

use super::source::{Source, SourceInput, SourceOutput, SourceRequest};
use super::spans::table::{Columns, Form, Together, component, output};
use super::spans::{Entry, Names, Policy, Span};
use crate::check;
use crate::error::UserError;
use crate::version::Version;

/// Version of this source: what spans become.
pub const VERSION: Version = Version::new("source/nezha", 1);

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
        let spans = SourceInput { path: &self.path, extensions: &["csv"] };
        let faults = self.faults.iter().map(|path| SourceInput { path, extensions: &["json"] });
        [spans].into_iter().chain(faults).collect()
    }

    fn read(&self, request: &SourceRequest<'_>) -> Result<SourceOutput> {
        let faults = request.files[1..].concat();
        read(&request.files[0], &faults, request.skip_bad_rows)
    }
}

/// What is in which column, and that every span is a call to its operation. The first operation outside
/// of the gateway is what a request was for.
fn mapping() -> (Columns, Form, Policy) {
    let one = |name: &str| Together::One(name.to_owned());
    let columns = Columns {
        trace: "TraceID".into(),
        span: one("SpanID"),
        parent: one("ParentID"),
        remote_parent: None,
        service: "PodName".into(),
        operation: "OperationName".into(),
        kind: None,
        start: "StartTimeUnixNano".into(),
        end: Some("EndTimeUnixNano".into()),
        duration: None,
        call_type: None,
        peer: None,
    };
    let form = Form { root: Some("root".to_owned()), service_is_pod: true, ..Form::default() };
    let policy = Policy { names: Names::Operation, entry: Entry::BehindRoot, ..Policy::default() };
    (columns, form, policy)
}

/// Reads the graphs of `files`, in the order of their traces' ids: neither they nor the split, which goes by
/// number, depend on the order of rows and files.
///
/// # Errors
/// A file that is not a span table, or not a list of faults.
fn read(files: &[PathBuf], faults: &[PathBuf], skip_bad_rows: bool) -> Result<SourceOutput> {
    let faults = Faults::read(faults)?;
    let (columns, form, policy) = mapping();
    let touched = |spans: &[Span]| faults.touch(spans);
    let (mut read, changes) = output(files, &columns, &form, &policy, skip_bad_rows, &touched)?;
    let usable = usize::from(skip_bad_rows);
    let spans = read.funnel.0.get(usable).map_or(0, |step| step.rows);
    if faults.0.is_empty() {
        read.labels.push("Traces during injected faults are among the others.".to_owned());
    }
    let (cut, backwards) = (changes.clipped, changes.backwards);
    read.labels.push(format!(
        "Operations stand for microservices; {cut} of {spans} spans lay partly outside their parents and were cut to them."
    ));
    if backwards > 0 {
        read.labels.push(format!(
            "{backwards} of {spans} spans ended before they began, or had no end, and last 0 ms."
        ));
    }
    // The labels say it.
    read.changes.clear();
    Ok(read)
}

/// An entry of Nezha's lists of faults, which are by hour.
#[derive(Deserialize)]
struct Injection {
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
            let hours: BTreeMap<String, Vec<Injection>> = serde_json::from_str(&text)
                .map_err(|error| UserError::input(path, "list of faults", error.to_string()))?;
            for (hour, entries) in hours {
                for Injection { inject_time, inject_pod } in entries {
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
                let time = |time: u64| i128::from(time);
                *component == *span.service
                    && time(span.start) < i128::from(*to)
                    && time(span.end) >= i128::from(*from)
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
