//! Communications and the special requests of instructions (paper, sections 2 and 3).

use serde::{Deserialize, Serialize};

use super::{CallGraph, CallType, Name};

/// Which microservice calls which, and how (paper, section 2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Communication {
    pub source: Name,
    pub destination: Name,
    #[serde(rename = "type")]
    pub kind: CallType,
}

/// What a prompt may ask for beyond attributes, in words (paper, section 3, "Special requests").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// A latency at or above the service's p90.
    HighLatency,
    /// The graph holds this communication.
    Communication(Communication),
}

impl CallGraph {
    /// The communication of each call, in the calls' order.
    pub fn communications(&self) -> impl Iterator<Item = Communication> + '_ {
        self.calls().iter().enumerate().map(|(index, call)| Communication {
            source: self.source(index).into(),
            destination: call.destination.clone(),
            kind: call.kind,
        })
    }
}
