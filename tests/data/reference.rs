//! Section 2 of the paper once more, as plainly as possible and with nothing of the library: whole
//! file in memory, strings, the csv crate. Tests compare the library's funnel with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub struct Columns {
    pub trace: &'static str,
    pub id: &'static str,
    pub service: &'static str,
    /// v2021: both sides log a call, the root has no source, the service is the root's interface.
    pub two_sided: bool,
}

pub const V2022: Columns =
    Columns { trace: "traceid", id: "rpc_id", service: "service", two_sided: false };
pub const V2021: Columns =
    Columns { trace: "traceid", id: "rpcid", service: "interface", two_sided: true };

/// (rows, traces) after each step.
pub struct Expected {
    pub steps: [(u64, u64); 5],
    /// Rows and traces lost to each reason why a graph is not valid.
    pub reasons: BTreeMap<&'static str, (u64, u64)>,
    pub shallow: (u64, u64),
    pub distinct: (u64, u64),
}

#[derive(Clone)]
struct Call {
    trace: String,
    time: i64,
    id: String,
    kind: String,
    um: String,
    dm: String,
    rt: Option<i64>,
    /// v2021: the called side logged it.
    by_server: bool,
    service: String,
}

fn read(path: &Path, columns: &Columns) -> Vec<Call> {
    let file = std::fs::File::open(path).unwrap();
    let mut reader = csv::Reader::from_reader(flate2::read::MultiGzDecoder::new(file));
    let records = reader.deserialize::<BTreeMap<String, String>>();
    records
        .map(|record| {
            let record = record.unwrap();
            let rt = record["rt"].parse::<f64>().ok();
            let root = columns.two_sided && record[columns.id] == "0" && unknown(&record["um"]);
            Call {
                trace: record[columns.trace].clone(),
                time: record["timestamp"].parse().unwrap(),
                id: record[columns.id].clone(),
                kind: record["rpctype"].clone(),
                um: if root { "USER".into() } else { record["um"].clone() },
                dm: record["dm"].clone(),
                by_server: columns.two_sided && rt.is_some_and(|rt| rt < 0.0),
                rt: rt.map(|rt| (if columns.two_sided { rt.abs() } else { rt }) as i64),
                service: record[columns.service].clone(),
            }
        })
        .collect()
}

fn unknown(name: &str) -> bool {
    ["UNKNOWN", "UNAVAILABLE", "(?)", "", "NAN", "nan"].contains(&name)
}

fn count(calls: &[Call]) -> (u64, u64) {
    let traces: BTreeSet<&str> = calls.iter().map(|call| call.trace.as_str()).collect();
    (calls.len() as u64, traces.len() as u64)
}

pub fn funnel(path: &Path, columns: &Columns) -> Expected {
    let mut calls = read(path, columns);
    let mut steps = [count(&calls); 5];
    calls.retain(|call| ["mc", "db", "http", "rpc", "mq"].contains(&call.kind.as_str()));
    steps[1] = count(&calls);
    calls.retain(|call| !unknown(&call.um) && !unknown(&call.dm));
    steps[2] = count(&calls);
    calls.retain(|call| call.rt.is_some());
    steps[3] = count(&calls);
    // The caller's row, else the earliest, else the smallest content.
    calls.sort_by_key(|call| {
        let Call { trace, id, kind, um, dm, service, .. } = call.clone();
        let nameless = unknown(&service);
        (trace, id, call.by_server, call.time, um, dm, kind, (nameless, service), call.rt)
    });
    let mut traces: BTreeMap<String, Vec<Call>> = BTreeMap::new();
    for call in calls {
        let trace = traces.entry(call.trace.clone()).or_default();
        if trace.iter().all(|earlier| earlier.id != call.id) {
            trace.push(call);
        }
    }
    let rows = |traces: &BTreeMap<String, Vec<Call>>| {
        (traces.values().map(|trace| trace.len() as u64).sum(), traces.len() as u64)
    };
    steps[4] = rows(&traces);
    let mut reasons: BTreeMap<&'static str, (u64, u64)> = BTreeMap::new();
    traces.retain(|_, trace| {
        let Some(reason) = invalid(trace) else { return true };
        let entry = reasons.entry(reason).or_default();
        *entry = (entry.0 + trace.len() as u64, entry.1 + 1);
        false
    });
    traces.retain(|_, trace| trace.iter().all(|call| call.id.split('.').count() <= 15));
    let shallow = rows(&traces);
    let mut seen = BTreeSet::new();
    traces.retain(|_, trace| seen.insert(fields(trace, columns)));
    Expected { steps, reasons, shallow, distinct: rows(&traces) }
}

/// The first constraint that a trace breaks: first the root, then call by call in depth-first
/// order.
fn invalid(trace: &[Call]) -> Option<&'static str> {
    if trace.iter().all(|call| call.id != "0") {
        return Some("no root");
    }
    let path =
        |call: &Call| -> Vec<u32> { call.id.split('.').map(|n| n.parse().unwrap()).collect() };
    let mut calls: Vec<&Call> = trace.iter().collect();
    calls.sort_by_key(|call| path(call));
    for call in calls {
        let Some((parent, _)) = call.id.rsplit_once('.') else {
            if call.id != "0" {
                return Some("second root");
            }
            if call.um != "USER" {
                return Some("source");
            }
            continue;
        };
        let Some(parent) = trace.iter().find(|other| other.id == parent) else {
            return Some("orphan");
        };
        if call.um != parent.dm {
            return Some("source");
        }
        if call.time < parent.time {
            return Some("starts before parent");
        }
        if call.time + call.rt.unwrap() > parent.time + parent.rt.unwrap() {
            return Some("finishes after parent");
        }
    }
    None
}

/// Service and all fields of all calls, with times from the start of the trace.
fn fields(trace: &[Call], columns: &Columns) -> String {
    let begin = trace.iter().map(|call| call.time).min().unwrap();
    let service = if columns.two_sided {
        trace
            .iter()
            .find(|call| call.id == "0")
            .map(|call| if unknown(&call.service) { call.dm.clone() } else { call.service.clone() })
    } else {
        trace.iter().map(|call| call.service.clone()).min()
    };
    let mut rows: Vec<String> = trace
        .iter()
        .map(|c| format!("{} {} {} {} {} {:?}", c.id, c.kind, c.um, c.dm, c.time - begin, c.rt))
        .collect();
    rows.sort();
    format!("{service:?} {rows:?}")
}
