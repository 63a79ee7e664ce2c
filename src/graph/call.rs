use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Name;

/// How one microservice reaches another (paper, section 2: the five `rpctype`s that are kept).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallType {
    Http,
    Rpc,
    /// Memcached.
    Mc,
    Db,
    /// Message queue.
    Mq,
}

impl CallType {
    pub const ALL: [CallType; 5] = [Self::Http, Self::Rpc, Self::Mc, Self::Db, Self::Mq];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Rpc => "rpc",
            Self::Mc => "mc",
            Self::Db => "db",
            Self::Mq => "mq",
        }
    }
}

impl fmt::Display for CallType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for CallType {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// Longest path, in numbers, that [`EdgeId`] accepts. Real graphs stay below 20; the bound keeps
/// hostile input from building paths of any length.
pub const MAX_EDGE_ID_LEN: usize = 256;

/// Dot-decimal path of a call ("rpc id"): `0` is the root, `0.2.1` the first child of its second
/// child. Ordered by path, so that a sorted list is in depth-first order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeId(Vec<u32>);

impl EdgeId {
    pub fn root() -> Self {
        Self::top(0)
    }

    /// A path of one number: the root for 0, a second root (which no valid graph has) otherwise.
    pub fn top(number: u32) -> Self {
        Self(vec![number])
    }

    pub fn child(&self, number: u32) -> Self {
        let mut path = Vec::with_capacity(self.0.len() + 1);
        path.extend_from_slice(&self.0);
        path.push(number);
        Self(path)
    }

    /// The path without its last number; `None` for a path of one number.
    pub fn parent(&self) -> Option<EdgeId> {
        (self.0.len() > 1).then(|| Self(self.0[..self.0.len() - 1].to_vec()))
    }

    /// Last number of the path: the id of the call within its layer.
    pub fn number(&self) -> u32 {
        self.0[self.0.len() - 1]
    }

    pub fn path(&self) -> &[u32] {
        &self.0
    }
}

impl FromStr for EdgeId {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut path = Vec::new();
        for part in text.split('.') {
            let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            if !plain || path.len() == MAX_EDGE_ID_LEN {
                return Err(());
            }
            path.push(part.parse().map_err(|_| ())?);
        }
        Ok(Self(path))
    }
}

impl fmt::Display for EdgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, number) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            write!(f, "{number}")?;
        }
        Ok(())
    }
}

/// One call as it comes from outside: nothing about it has been checked against other calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallRow {
    pub edge_id: EdgeId,
    pub source: Name,
    pub destination: Name,
    pub kind: CallType,
    /// Milliseconds from the start of the trace.
    pub start: u32,
    /// Milliseconds from the start of the trace; start + response time.
    pub finish: u32,
}

/// One call inside a [`super::CallGraph`]. Its source is its parent's destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Index of the parent call, always smaller than this call's own; `None` for the root.
    pub parent: Option<u32>,
    /// Last number of the edge id: 0 for the root, distinct among siblings.
    pub number: u32,
    /// Calls from the root down to this one: 1 for the root.
    pub depth: u32,
    pub destination: Name,
    pub kind: CallType,
    /// Milliseconds from the start of the trace.
    pub start: u32,
    /// Milliseconds from the start of the trace.
    pub finish: u32,
}

impl Call {
    /// Response time in milliseconds.
    pub fn response_time(&self) -> u32 {
        self.finish - self.start
    }
}
