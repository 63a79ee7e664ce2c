//! Raw rows of Alibaba's v2022 table `CallGraph`, with the table's defects, as if the cloud had
//! been traced: to test preprocessing at any size.

use std::ops::Range;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::Cloud;
use super::chance::happens;
use super::draw::DrawnCall;
use crate::error::UserError;
use crate::random;

/// How often rows are defective. Rates are shares of all calls; defects concentrate in a share of
/// the traces, the others are clean. The defaults are near the rates of the published sample of
/// the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawDefects {
    /// Share of the traces that can have defects at all.
    pub damaged_traces: f64,
    /// `um` is UNKNOWN or UNAVAILABLE.
    pub unknown_um: f64,
    /// `dm` is UNKNOWN.
    pub unknown_dm: f64,
    /// `rpctype` is none of the five.
    pub other_type: f64,
    pub missing_rt: f64,
    /// `um` is not the destination of the parent call.
    pub wrong_um: f64,
    /// The row is not in the table, its children are.
    pub missing_row: f64,
    /// The row is there twice.
    pub duplicate_row: f64,
    /// Another row has the same rpc id.
    pub duplicate_id: f64,
    /// The row names another service.
    pub other_service: f64,
}

impl Default for RawDefects {
    fn default() -> Self {
        Self {
            damaged_traces: 0.55,
            unknown_um: 0.18,
            unknown_dm: 0.055,
            other_type: 0.006,
            missing_rt: 0.002,
            wrong_um: 0.01,
            missing_row: 0.06,
            duplicate_row: 0.1,
            duplicate_id: 0.06,
            other_service: 0.005,
        }
    }
}

impl RawDefects {
    /// No defects at all.
    pub fn none() -> Self {
        Self {
            damaged_traces: 0.0,
            unknown_um: 0.0,
            unknown_dm: 0.0,
            other_type: 0.0,
            missing_rt: 0.0,
            wrong_um: 0.0,
            missing_row: 0.0,
            duplicate_row: 0.0,
            duplicate_id: 0.0,
            other_service: 0.0,
        }
    }

    /// # Errors
    /// The first rate that is impossible, by its key.
    pub fn validate(&self) -> Result<(), UserError> {
        let rates = [
            ("damaged_traces", self.damaged_traces, 1.0),
            ("unknown_um", self.unknown_um, self.damaged_traces),
            ("unknown_dm", self.unknown_dm, self.damaged_traces),
            ("other_type", self.other_type, self.damaged_traces),
            ("missing_rt", self.missing_rt, self.damaged_traces),
            ("wrong_um", self.wrong_um, self.damaged_traces),
            ("missing_row", self.missing_row, self.damaged_traces),
            ("duplicate_row", self.duplicate_row, self.damaged_traces),
            ("duplicate_id", self.duplicate_id, self.damaged_traces),
            ("other_service", self.other_service, self.damaged_traces),
        ];
        for (key, rate, highest) in rates {
            if !(0.0..=highest).contains(&rate) {
                let message = format!("defects: {key} = {rate}: must be from 0 to {highest}");
                return Err(UserError::setting(message));
            }
        }
        Ok(())
    }
}

/// Traces of one block; a trace's rows never leave their block.
const TRACES_PER_BLOCK: u64 = 4096;
/// Milliseconds between the starts of two blocks: about a thousand requests per second.
const BLOCK_SPAN: u64 = 4_000;
/// Instances of a microservice.
const PODS: u32 = 400;

/// Rows in the order of the table: by time, so that those of different traces mingle.
pub struct RawBlock {
    pub text: Vec<u8>,
    /// End of each row in `text`.
    pub ends: Vec<usize>,
}

/// Writes raw rows of one cloud; blocks can be made in any order and from any thread.
pub struct RawRows<'a> {
    cloud: &'a Cloud,
    seed: u64,
    defects: RawDefects,
    /// Names as the raw table has them: without leading zeros.
    microservices: Vec<String>,
    services: Vec<String>,
}

impl<'a> RawRows<'a> {
    /// # Errors
    /// A defect rate that is impossible.
    pub fn new(cloud: &'a Cloud, seed: u64, defects: RawDefects) -> Result<Self, UserError> {
        defects.validate()?;
        let microservices = cloud.microservices.iter().map(|ms| unpadded(&ms.name)).collect();
        let services = cloud.service_names.iter().map(|name| unpadded(name)).collect();
        Ok(Self { cloud, seed, defects, microservices, services })
    }

    /// Block number `block`: traces 4096 × block and the following, which are the cloud's graphs
    /// of the same numbers.
    pub fn block(&self, block: u64) -> RawBlock {
        let mut rows = Rows::default();
        let first = block * TRACES_PER_BLOCK;
        for trace in first..first + TRACES_PER_BLOCK {
            self.trace(trace, block * BLOCK_SPAN, &mut rows);
        }
        rows.sorted()
    }

    fn trace(&self, trace: u64, block_start: u64, rows: &mut Rows) {
        let (service, calls) = self.cloud.request(self.seed, trace);
        let mut rng = random::stream(self.seed, "simulator.raw", &[trace]);
        let rng = &mut rng;
        let damaged = happens(rng, self.defects.damaged_traces);
        let mut writer = TraceWriter {
            raw: self,
            begin: block_start + rng.random_range(0..BLOCK_SPAN),
            trace,
            service,
            ids: ids(&calls),
            pods: calls.iter().map(|_| rng.random_range(0..PODS)).collect(),
            damaged,
            rng,
        };
        for index in 0..calls.len() {
            writer.call(&calls, index, rows);
        }
    }
}

fn unpadded(name: &str) -> String {
    let (prefix, number) = name.split_once('_').unwrap_or((name, ""));
    format!("{prefix}_{}", number.trim_start_matches('0'))
}

/// Dot-decimal path of each call.
fn ids(calls: &[DrawnCall]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::with_capacity(calls.len());
    for call in calls {
        ids.push(match call.parent {
            Some(parent) => format!("{}.{}", ids[parent], call.number),
            None => "0".to_owned(),
        });
    }
    ids
}

/// Unsorted rows: text, and the time and place of each row.
#[derive(Default)]
struct Rows {
    text: Vec<u8>,
    rows: Vec<(u64, Range<usize>)>,
}

impl Rows {
    fn sorted(mut self) -> RawBlock {
        // Stable: rows of the same millisecond stay in the order of their traces.
        self.rows.sort_by_key(|(timestamp, _)| *timestamp);
        let mut text = Vec::with_capacity(self.text.len());
        let ends = self.rows.into_iter().map(|(_, range)| {
            text.extend_from_slice(&self.text[range]);
            text.len()
        });
        let ends = ends.collect();
        RawBlock { text, ends }
    }
}

struct TraceWriter<'a, R> {
    raw: &'a RawRows<'a>,
    /// Timestamp of the trace's first call.
    begin: u64,
    trace: u64,
    service: usize,
    ids: Vec<String>,
    pods: Vec<u32>,
    damaged: bool,
    rng: &'a mut R,
}

impl<R: Rng> TraceWriter<'_, R> {
    /// True at the rate of a defect.
    fn defect(&mut self, rate: fn(&RawDefects) -> f64) -> bool {
        let defects = &self.raw.defects;
        self.damaged && happens(self.rng, rate(defects) / defects.damaged_traces)
    }

    fn call(&mut self, calls: &[DrawnCall], index: usize, rows: &mut Rows) {
        if self.defect(|defects| defects.missing_row) {
            return;
        }
        let from = rows.text.len();
        self.row(calls, index, 0, &mut rows.text);
        let timestamp = self.begin + u64::from(calls[index].start);
        let range = from..rows.text.len();
        rows.rows.push((timestamp, range.clone()));
        if self.defect(|defects| defects.duplicate_row) {
            rows.rows.push((timestamp, range));
        }
        if self.defect(|defects| defects.duplicate_id) {
            let from = rows.text.len();
            self.row(calls, index, 1, &mut rows.text);
            rows.rows.push((timestamp + 1, from..rows.text.len()));
        }
    }

    fn row(&mut self, calls: &[DrawnCall], index: usize, later: u64, text: &mut Vec<u8>) {
        let call = &calls[index];
        number(text, self.begin + u64::from(call.start) + later);
        text.extend_from_slice(b",T_");
        number(text, trace_id(self.trace));
        text.push(b',');
        let service = if self.defect(|defects| defects.other_service) {
            self.rng.random_range(0..self.raw.services.len())
        } else {
            self.service
        };
        text.extend_from_slice(self.raw.services[service].as_bytes());
        text.push(b',');
        text.extend_from_slice(self.ids[index].as_bytes());
        text.push(b',');
        let other_type = self.defect(|defects| defects.other_type);
        let kind = if other_type { "UNKNOWN" } else { call.kind.as_str() };
        text.extend_from_slice(kind.as_bytes());
        text.push(b',');
        self.source(calls, call.parent, text);
        text.push(b',');
        interface(text, self.service, call.slot);
        text.push(b',');
        if self.defect(|defects| defects.unknown_dm) {
            text.extend_from_slice(b"UNKNOWN,UNKNOWN");
        } else {
            self.instance(call.destination, self.pods[index], text);
        }
        text.push(b',');
        if !self.defect(|defects| defects.missing_rt) {
            number(text, u64::from(call.finish - call.start));
            text.extend_from_slice(b".0");
        }
        text.push(b'\n');
    }

    /// `um` and `uminstanceid`.
    fn source(&mut self, calls: &[DrawnCall], parent: Option<usize>, text: &mut Vec<u8>) {
        if self.defect(|defects| defects.unknown_um) {
            let um: &[u8] = if happens(self.rng, 0.94) { b"UNKNOWN" } else { b"UNAVAILABLE" };
            text.extend_from_slice(um);
            text.extend_from_slice(b",UNAVAILABLE");
        } else if self.defect(|defects| defects.wrong_um) {
            let other = self.rng.random_range(0..self.raw.microservices.len());
            self.instance(other, 0, text);
        } else if let Some(parent) = parent {
            self.instance(calls[parent].destination, self.pods[parent], text);
        } else {
            text.extend_from_slice(b"USER,USER");
        }
    }

    /// A microservice and its instance.
    fn instance(&self, microservice: usize, pod: u32, text: &mut Vec<u8>) {
        let name = self.raw.microservices[microservice].as_bytes();
        text.extend_from_slice(name);
        text.push(b',');
        text.extend_from_slice(name);
        text.extend_from_slice(b"_POD_");
        number(text, u64::from(pod));
    }
}

/// Eleven digits that look random and differ for different traces.
fn trace_id(trace: u64) -> u64 {
    const RANGE: u128 = 90_000_000_000;
    // Coprime to the range, so that the product is a permutation of it.
    const FACTOR: u128 = 6_364_136_227;
    10_000_000_000 + (u128::from(trace) * FACTOR % RANGE) as u64
}

/// Ten characters that stand for the interface of a template's call.
fn interface(text: &mut Vec<u8>, service: usize, slot: usize) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = (service as u64) << 32 | slot as u64;
    // One round of a multiplicative hash mixes neighbouring numbers well enough to look at.
    state = (state ^ (state >> 29)).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state ^= state >> 31;
    for _ in 0..10 {
        text.push(ALPHABET[(state & 63) as usize]);
        state >>= 6;
    }
}

/// A number in decimal; `write!` would dominate the run time.
fn number(text: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::data::simulator::SimulatorConfig;
    use crate::graph::{CallGraph, CallRow, Name};

    fn cloud() -> Cloud {
        Cloud::new(&SimulatorConfig::default()).unwrap()
    }

    /// Fields of the rows of `blocks` blocks.
    fn rows(raw: &RawRows<'_>, blocks: u64) -> Vec<Vec<String>> {
        let texts = (0..blocks).map(|block| {
            let block = raw.block(block);
            assert_eq!(block.ends.last(), Some(&block.text.len()));
            String::from_utf8(block.text).unwrap()
        });
        let texts: String = texts.collect();
        texts.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
    }

    #[test]
    fn clean_rows_are_the_graphs_of_the_cloud() {
        let cloud = cloud();
        let raw = RawRows::new(&cloud, 4, RawDefects::none()).unwrap();
        let mut traces: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
        let mut last = 0;
        for row in rows(&raw, 1) {
            let timestamp: u64 = row[0].parse().unwrap();
            assert!(timestamp >= last, "rows are in the order of time");
            last = timestamp;
            traces.entry(row[1].clone()).or_default().push(row);
        }
        assert_eq!(traces.len() as u64, TRACES_PER_BLOCK);
        let padded = |name: &str| -> Name {
            match name.split_once('_') {
                Some(("MS", number)) => Name::from(format!("MS_{number:0>5}").as_str()),
                Some((prefix, number)) => Name::from(format!("{prefix}_{number:0>9}").as_str()),
                None => Name::from(name),
            }
        };
        for index in 0..TRACES_PER_BLOCK {
            let rows = &traces[&format!("T_{}", trace_id(index))];
            let time = |row: &[String]| row[0].parse::<u64>().unwrap();
            let begin = rows.iter().map(|row| time(row)).min().unwrap();
            let calls: Vec<CallRow> = rows
                .iter()
                .map(|row| {
                    let start = (time(row) - begin) as u32;
                    CallRow {
                        edge_id: row[3].parse().unwrap(),
                        source: padded(&row[5]),
                        destination: padded(&row[8]),
                        kind: row[4].parse().unwrap(),
                        start,
                        finish: start + row[10].parse::<f64>().unwrap() as u32,
                    }
                })
                .collect();
            let graph = CallGraph::from_rows(padded(&rows[0][2]), &calls).unwrap();
            assert_eq!(graph, cloud.graph(4, index));
        }
    }

    #[test]
    fn defects_have_their_rates() {
        let (cloud, defects) = (cloud(), RawDefects::default());
        let rows = rows(&RawRows::new(&cloud, 0, defects.clone()).unwrap(), 20);
        let share = |count: usize| count as f64 / rows.len() as f64;
        let of =
            |test: &dyn Fn(&[String]) -> bool| share(rows.iter().filter(|row| test(row)).count());
        let near = |what: &str, found: f64, rate: f64| {
            assert!((found / rate - 1.0).abs() < 0.2, "{what}: {found} instead of {rate}");
        };
        near("um", of(&|row| row[5].starts_with("UN")), defects.unknown_um);
        near("dm", of(&|row| row[8] == "UNKNOWN"), defects.unknown_dm);
        near("type", of(&|row| row[4] == "UNKNOWN"), defects.other_type);
        near("rt", of(&|row| row[10].is_empty()), defects.missing_rt);
        let mut seen: BTreeMap<(&str, &str), &Vec<String>> = BTreeMap::new();
        let (mut exact, mut same_id) = (0, 0);
        for row in &rows {
            match seen.insert((&row[1], &row[3]), row) {
                Some(first) if first == row => exact += 1,
                Some(_) => same_id += 1,
                None => {}
            }
        }
        let orphans = seen.keys().filter(|(trace, id)| {
            id.rsplit_once('.').is_some_and(|(parent, _)| !seen.contains_key(&(*trace, parent)))
        });
        let orphans = orphans.count();
        // Rates are per call of the cloud; this many rows are written per call.
        let written = 1.0 + defects.duplicate_row + defects.duplicate_id - defects.missing_row;
        near("duplicates", share(exact), defects.duplicate_row / written);
        near("duplicate ids", share(same_id), defects.duplicate_id / written);
        assert!(share(orphans) > 0.02, "{orphans} rows without their parent");
    }

    #[test]
    fn trace_ids_differ() {
        let ids: std::collections::BTreeSet<u64> = (0..100_000).map(trace_id).collect();
        assert_eq!(ids.len(), 100_000);
        assert!(ids.iter().all(|id| id.to_string().len() == 11));
    }
}
