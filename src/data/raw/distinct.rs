use std::path::Path;
use std::sync::Mutex;

use anyhow::{Result, anyhow};

use super::spill::{self, Cursor, Spill};
use crate::data::finish::{Losses, Reason};
use crate::graph::{CallGraph, CallRow, CallType, EdgeId, Name, USER};

/// Valid graphs on disk, by the first bits of their fingerprint: duplicates meet in one partition,
/// and reading the partitions in order gives the graphs in order of fingerprint.
pub struct Partitions {
    spills: Vec<Mutex<Spill>>,
}

/// Names by number, as graphs have them and as read.
type Names = [(Name, Box<str>)];

impl Partitions {
    pub fn new(scratch: &Path, count: u64) -> Result<Self> {
        let spill = |partition| Spill::new(scratch.join(format!("graphs-{partition}")));
        Ok(Self { spills: (0..count).map(|partition| Mutex::new(spill(partition))).collect() })
    }

    /// Adds a graph of which `fingerprint` is the hash of all fields.
    pub fn push(
        &self,
        fingerprint: u128,
        service: u32,
        destinations: &[u32],
        graph: &CallGraph,
    ) -> Result<()> {
        let mut record = Vec::with_capacity(32 + 20 * destinations.len());
        record.extend_from_slice(&fingerprint.to_le_bytes());
        record.extend_from_slice(&service.to_le_bytes());
        record.extend_from_slice(&(destinations.len() as u32).to_le_bytes());
        for (call, destination) in graph.calls().iter().zip(destinations) {
            record.push(call.depth as u8);
            record.push(call.kind as u8);
            for number in [call.number, *destination, call.start, call.finish] {
                record.extend_from_slice(&number.to_le_bytes());
            }
        }
        let scaled = (fingerprint >> 64) * self.spills.len() as u128;
        let mut spill = self.spills[(scaled >> 64) as usize]
            .lock()
            .map_err(|_| anyhow!("another thread failed while writing graphs"))?;
        spill.buffer().extend_from_slice(&record);
        spill.settle()
    }

    /// The distinct graphs in order of fingerprint, at most `limit` of them, and the losses to
    /// duplicates.
    pub fn finish(self, names: &Names, limit: Option<u64>) -> Result<(Vec<CallGraph>, Losses)> {
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        let mut graphs = Vec::new();
        let mut losses = Losses::default();
        for spill in self.spills {
            let spill = spill.into_inner().map_err(|_| anyhow!("writing graphs failed"))?;
            let content = spill::take(&spill.finish()?)?;
            let mut records = records(&content);
            records.sort_unstable_by_key(|record| record.0);
            for same in records.chunk_by(|a, b| a.0 == b.0) {
                for (_, record) in &same[1..] {
                    losses.add(Reason::Duplicate, u64::from(Cursor(&record[4..]).u32()));
                }
                if graphs.len() < limit {
                    graphs.push(graph(same[0].1, names)?);
                }
            }
        }
        Ok((graphs, losses))
    }
}

const CALL_BYTES: usize = 18;

/// Fingerprint and the rest of each record.
fn records(content: &[u8]) -> Vec<(u128, &[u8])> {
    let mut cursor = Cursor(content);
    let mut records = Vec::new();
    while !cursor.is_empty() {
        let fingerprint = cursor.u128();
        let calls = Cursor(&cursor.0[4..]).u32() as usize;
        records.push((fingerprint, cursor.bytes(8 + calls * CALL_BYTES)));
    }
    records
}

fn graph(record: &[u8], names: &Names) -> Result<CallGraph> {
    let mut cursor = Cursor(record);
    let service = names[cursor.u32() as usize].0.clone();
    let mut rows: Vec<CallRow> = Vec::with_capacity(cursor.u32() as usize);
    // Calls are in depth-first order: the last call one level up is the parent.
    let mut path: Vec<usize> = Vec::new();
    while !cursor.is_empty() {
        let depth = usize::from(cursor.u8());
        let kind = CallType::ALL[usize::from(cursor.u8())];
        let [number, destination, start, finish] = std::array::from_fn(|_| cursor.u32());
        path.truncate(depth - 1);
        let (edge_id, source) = match path.last() {
            Some(parent) => {
                (rows[*parent].edge_id.child(number), rows[*parent].destination.clone())
            }
            None => (EdgeId::root(), Name::from(USER)),
        };
        path.push(rows.len());
        let destination = names[destination as usize].0.clone();
        rows.push(CallRow { edge_id, source, destination, kind, start, finish });
    }
    CallGraph::from_rows(service, &rows)
        .map_err(|violations| anyhow!("a graph changed on disk: {}", violations[0]))
}
