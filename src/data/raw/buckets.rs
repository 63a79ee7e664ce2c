use std::path::{Path, PathBuf};

use anyhow::Result;
use indexmap::IndexSet;

use super::row::{Flavour, KeptRow, Passed};
use super::spill::{self, Cursor, Spill};
use crate::graph::{CallType, Name};

/// Rows on disk, by hash of their trace id: all rows of a trace are in one bucket.
pub struct Buckets {
    spills: Vec<Spill>,
    /// Distinct names of microservices and services; rows hold their numbers. Number 0 is no
    /// name.
    names: IndexSet<Box<str>>,
}

/// A row as read back from a bucket.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub trace: &'a [u8],
    /// Steps of the funnel that the row passed, 0 to 3; 3 for a row that is kept; or [`INCOMPLETE`].
    pub passed: u8,
    /// Of a kept row; zeros otherwise.
    pub call: RecordCall<'a>,
}

/// The call of a kept row, names as numbers.
#[derive(Clone, Copy, Debug)]
pub struct RecordCall<'a> {
    pub timestamp: i64,
    pub rt: u32,
    pub by_server: bool,
    pub kind: CallType,
    pub service: u32,
    pub um: u32,
    pub dm: u32,
    pub id: &'a [u8],
}

/// In place of the steps passed: stands for a row that was left out.
pub const INCOMPLETE: u8 = 4;

const NO_CALL: RecordCall<'static> = RecordCall {
    timestamp: 0,
    rt: 0,
    by_server: false,
    kind: CallType::Http,
    service: 0,
    um: 0,
    dm: 0,
    id: &[],
};

impl Buckets {
    pub fn new(scratch: &Path, count: u64) -> Self {
        let spills = (0..count).map(|bucket| Spill::new(scratch.join(format!("rows-{bucket}"))));
        Self { spills: spills.collect(), names: IndexSet::from_iter([Box::from("")]) }
    }

    /// Adds a row of `trace`.
    pub fn push(&mut self, trace: &str, passed: &Passed<'_>) -> Result<()> {
        let (step, call) = match passed {
            Passed::Read => (0, None),
            Passed::Type => (1, None),
            Passed::Microservices => (2, None),
            Passed::All(call) => (3, Some(call)),
        };
        let numbers = call.map(|call| [call.service, call.um, call.dm].map(|n| self.number(n)));
        let spill = self.put(step, trace);
        if let (Some(call), Some(numbers)) = (call, numbers) {
            put_call(spill.buffer(), call, numbers);
        }
        spill.settle()
    }

    /// Notes that a row of `trace` was left out.
    pub fn incomplete(&mut self, trace: &str) -> Result<()> {
        self.put(INCOMPLETE, trace).settle()
    }

    /// Begins a record in the bucket of `trace`.
    fn put(&mut self, step: u8, trace: &str) -> &mut Spill {
        let bucket = (hash(trace.as_bytes()) % self.spills.len() as u64) as usize;
        let spill = &mut self.spills[bucket];
        spill.buffer().push(step);
        spill::put_text(spill.buffer(), trace);
        spill
    }

    fn number(&mut self, name: &str) -> u32 {
        let index = match self.names.get_index_of(name) {
            Some(index) => index,
            None => self.names.insert_full(name.into()).0,
        };
        index as u32
    }

    /// The names as graphs have them, beside the names as read; by number.
    pub fn names(&self, flavour: Flavour) -> Vec<(Name, Box<str>)> {
        let names = self.names.iter();
        names.map(|raw| (Name::from(flavour.name(raw).as_str()), raw.clone())).collect()
    }

    /// Ends writing; the buckets are at the returned paths.
    pub fn finish(self) -> Result<Vec<PathBuf>> {
        self.spills.into_iter().map(Spill::finish).collect()
    }
}

fn put_call(buffer: &mut Vec<u8>, call: &KeptRow<'_>, [service, um, dm]: [u32; 3]) {
    buffer.extend_from_slice(&call.timestamp.to_le_bytes());
    buffer.extend_from_slice(&call.rt.to_le_bytes());
    buffer.push(u8::from(call.by_server));
    buffer.push(call.kind as u8);
    for number in [service, um, dm] {
        buffer.extend_from_slice(&number.to_le_bytes());
    }
    spill::put_text(buffer, call.id);
}

/// All rows of a bucket's content.
pub fn records(content: &[u8]) -> Vec<Record<'_>> {
    let mut cursor = Cursor(content);
    let mut records = Vec::with_capacity(content.len() / 48);
    while !cursor.is_empty() {
        let passed = cursor.u8();
        let trace = cursor.text();
        let call = if passed == 3 { call(&mut cursor) } else { NO_CALL };
        records.push(Record { trace, passed, call });
    }
    records
}

fn call<'a>(cursor: &mut Cursor<'a>) -> RecordCall<'a> {
    RecordCall {
        timestamp: cursor.i64(),
        rt: cursor.u32(),
        by_server: cursor.u8() != 0,
        kind: CallType::ALL[usize::from(cursor.u8())],
        service: cursor.u32(),
        um: cursor.u32(),
        dm: cursor.u32(),
        id: cursor.text(),
    }
}

/// FNV-1a with a final mix: fast for short texts, the same on every machine. Only where a row is
/// stored depends on it; traces are told apart by their ids.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}
