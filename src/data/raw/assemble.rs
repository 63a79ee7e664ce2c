use std::cmp::Ordering;
use std::path::Path;

use anyhow::Result;

use super::buckets::{INCOMPLETE, Record, RecordCall, hash, records};
use super::distinct::Partitions;
use super::row::Flavour;
use super::scan::Outcome;
use super::spill;
use crate::data::Funnel;
use crate::data::finish::{self, Losses, Reason};
use crate::graph::{CallGraph, CallRow, Name};

/// Rows and traces that came through each step; adds up over buckets.
#[derive(Debug, Default)]
pub struct Tally {
    /// By steps passed (0: read, 3: has a response time): rows, and traces with such a row.
    passed: [(u64, u64); 4],
    /// Rows left when each trace keeps the first of each rpc id.
    first_rows: u64,
    pub losses: Losses,
}

impl Tally {
    pub fn merge(&mut self, other: &Tally) {
        for (mine, others) in self.passed.iter_mut().zip(other.passed) {
            mine.0 += others.0;
            mine.1 += others.1;
        }
        self.first_rows += other.first_rows;
        self.losses.merge(&other.losses);
    }

    /// Traces that are whole, and all that have a usable row.
    pub fn complete(&self) -> (u64, u64) {
        let [.., timed] = self.passed;
        (timed.1 - self.losses.gaps(), timed.1)
    }

    /// The funnel of the paper's section 2, in its order.
    pub fn push_to(&self, funnel: &mut Funnel, read: Outcome, skip_bad_rows: bool) {
        let [all, of_type, known, timed] = self.passed;
        if skip_bad_rows {
            funnel.push("row of the table", read.rows, None);
            funnel.push("can be read", all.0, Some(all.1));
        } else {
            funnel.push("row of the table", all.0, Some(all.1));
        }
        funnel.push("type is mc, db, http, rpc or mq", of_type.0, Some(of_type.1));
        funnel.push("um and dm are known", known.0, Some(known.1));
        funnel.push("has a response time", timed.0, Some(timed.1));
        funnel.push("first of its rpc id in its trace", self.first_rows, Some(timed.1));
        self.losses.push_to(funnel, self.first_rows, timed.1);
    }
}

/// Turns the traces of one bucket into graphs; those that are valid go to `partitions`.
pub fn bucket(
    path: &Path,
    flavour: Flavour,
    names: &[(Name, Box<str>)],
    seed: u64,
    partitions: &Partitions,
) -> Result<Tally> {
    let content = spill::take(path)?;
    let records = records(&content);
    // By hash alone first: comparing numbers is much cheaper than comparing ids, and nearly every
    // run of one hash is one trace.
    let mut order: Vec<(u64, u32)> =
        records.iter().zip(0..).map(|(record, index)| (hash(record.trace), index)).collect();
    order.sort_unstable();
    let mut tally = Tally::default();
    let mut rows: Vec<Record<'_>> = Vec::new();
    for run in order.chunk_by(|a, b| a.0 == b.0) {
        rows.clear();
        rows.extend(run.iter().map(|(_, index)| records[*index as usize]));
        // Stable, and the identity where all ids are the same.
        rows.sort_by_key(|row| row.trace);
        for rows in rows.chunk_by_mut(|a, b| a.trace == b.trace) {
            trace(rows, flavour, names, seed, partitions, &mut tally)?;
        }
    }
    Ok(tally)
}

/// Counts the rows of one trace; its graph, if valid, goes to `partitions`.
fn trace(
    rows: &mut [Record<'_>],
    flavour: Flavour,
    names: &[(Name, Box<str>)],
    seed: u64,
    partitions: &Partitions,
    tally: &mut Tally,
) -> Result<()> {
    count(rows, tally);
    let kept = rows.iter().filter(|record| record.passed == 3).map(|record| record.call);
    let mut calls: Vec<RecordCall<'_>> = kept.collect();
    if calls.is_empty() {
        return Ok(());
    }
    // Before rows are dropped: any of them may name the service.
    let named = smallest_service(&calls, names);
    calls.sort_unstable_by(|a, b| a.id.cmp(b.id).then_with(|| preference(a, b, names)));
    calls.dedup_by(|b, a| a.id == b.id);
    let service = match flavour {
        Flavour::V2022 => named,
        Flavour::V2021 => entry_service(&calls),
    };
    let begin = calls.iter().map(|call| call.timestamp).min().unwrap_or_default();
    tally.first_rows += calls.len() as u64;
    if rows.iter().any(|record| record.passed == INCOMPLETE) {
        tally.losses.add(Reason::BadRow, calls.len() as u64);
        return Ok(());
    }
    match graph(&calls, begin, service, names) {
        Ok((graph, destinations)) => {
            let fingerprint = finish::fingerprint(seed, &graph);
            partitions.push(fingerprint, service, &destinations, &graph)?;
        }
        Err(reason) => tally.losses.add(reason, calls.len() as u64),
    }
    Ok(())
}

fn count(trace: &[Record<'_>], tally: &mut Tally) {
    for (step, entry) in tally.passed.iter_mut().enumerate() {
        let passed = step..usize::from(INCOMPLETE);
        let rows = trace.iter().filter(|record| passed.contains(&record.passed.into())).count();
        entry.0 += rows as u64;
        entry.1 += u64::from(rows > 0);
    }
}

/// Which of two rows of one rpc id says what the call was; the smaller is kept. The caller's row
/// before the called side's, whose clock is another; then the earlier; then by content, so that the
/// order of rows and files makes no difference.
fn preference(a: &RecordCall<'_>, b: &RecordCall<'_>, names: &[(Name, Box<str>)]) -> Ordering {
    let text = |number: u32| &names[number as usize].1;
    (a.by_server, a.timestamp).cmp(&(b.by_server, b.timestamp)).then_with(|| {
        let content = |call: &RecordCall<'_>| {
            // A row that names a service before one that does not.
            let service = (call.service == 0, text(call.service));
            (text(call.um), text(call.dm), call.kind.as_str(), service, call.rt)
        };
        content(a).cmp(&content(b))
    })
}

/// Number of the smallest name of a service among the rows; 0 if there is none.
fn smallest_service(calls: &[RecordCall<'_>], names: &[(Name, Box<str>)]) -> u32 {
    let services = calls.iter().map(|call| call.service).filter(|service| *service != 0);
    services.min_by_key(|service| &names[*service as usize].1).unwrap_or(0)
}

/// The service of a v2021 trace, whose table has no column for it: the interface of the root call, or
/// else the microservice that it reaches. 0 if there is none.
fn entry_service(calls: &[RecordCall<'_>]) -> u32 {
    let root = calls.iter().find(|call| call.id == b"0");
    root.map_or(0, |root| if root.service != 0 { root.service } else { root.dm })
}

/// The trace's graph, and the numbers of its calls' destinations in the graph's order.
fn graph(
    calls: &[RecordCall<'_>],
    begin: i64,
    service: u32,
    names: &[(Name, Box<str>)],
) -> Result<(CallGraph, Vec<u32>), Reason> {
    let row = |call: &RecordCall<'_>| {
        let id = std::str::from_utf8(call.id).map_err(|_| Reason::UnreadableId)?;
        let start = u32::try_from(call.timestamp - begin).map_err(|_| Reason::TimeRange)?;
        let row = CallRow {
            edge_id: id.parse().map_err(|()| Reason::UnreadableId)?,
            source: names[call.um as usize].0.clone(),
            destination: names[call.dm as usize].0.clone(),
            kind: call.kind,
            start,
            finish: start.checked_add(call.rt).ok_or(Reason::TimeRange)?,
        };
        Ok((row, call.dm))
    };
    let mut rows = calls.iter().map(row).collect::<Result<Vec<(CallRow, u32)>, Reason>>()?;
    rows.sort_by(|a, b| a.0.edge_id.cmp(&b.0.edge_id));
    let (rows, destinations): (Vec<CallRow>, Vec<u32>) = rows.into_iter().unzip();
    let graph = finish::judge(names[service as usize].0.clone(), &rows)?;
    if service == 0 {
        return Err(Reason::NoService);
    }
    Ok((graph, destinations))
}
