//! What the classes of the network stand for.

use serde::{Deserialize, Serialize};

use crate::generators::tables::Callee;
use crate::graph::{CallGraph, Condition, Name};
use crate::model::neural::Bins;

/// The label that is no call: the user as the caller of the root, "no sibling before", and, as a
/// decision, the end of a list of children.
pub const NO_CALL: usize = 0;

/// Names and times of the training graphs. Class 0 of a service or label is none of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RnnVocabulary {
    /// Ascending.
    services: Vec<Name>,
    /// Ascending.
    callees: Vec<Callee>,
    /// Milliseconds from the end of the sibling before (from the parent's start for the first) to the
    /// start; negative where siblings overlap.
    pub gaps: Bins,
    /// Response times, milliseconds.
    pub responses: Bins,
}

impl RnnVocabulary {
    pub fn learn(graphs: &[&CallGraph], time_bins: usize) -> Self {
        let mut services: Vec<Name> = graphs.iter().map(|graph| graph.service().clone()).collect();
        let calls = || graphs.iter().flat_map(|graph| graph.calls());
        let mut callees: Vec<Callee> =
            calls().map(|call| (call.destination.clone(), call.kind)).collect();
        services.sort();
        services.dedup();
        callees.sort();
        callees.dedup();
        let responses = Bins::learn(calls().map(|c| i64::from(c.response_time())), time_bins);
        let gaps = Bins::learn(graphs.iter().flat_map(|graph| gaps(graph)), time_bins);
        Self { services, callees, gaps, responses }
    }

    /// Classes of a service.
    pub fn services(&self) -> usize {
        self.services.len() + 1
    }

    /// Classes of a label.
    pub fn labels(&self) -> usize {
        self.callees.len() + 1
    }

    /// The label of a call; [`NO_CALL`] for one that training lacks.
    pub fn label(&self, callee: &Callee) -> usize {
        self.callees.binary_search(callee).map_or(NO_CALL, |index| index + 1)
    }

    /// What a label stands for; `None` for [`NO_CALL`].
    pub fn callee(&self, label: usize) -> Option<&Callee> {
        self.callees.get(label.checked_sub(1)?)
    }

    /// The request as the network sees it.
    pub fn asked(&self, condition: &Condition) -> Asked {
        let Condition { num_edges, depth, latency, .. } = *condition;
        Asked { service: self.service(&condition.service), num_edges, depth, latency }
    }

    /// The class of a service; 0 for one that training lacks.
    pub fn service(&self, service: &Name) -> usize {
        self.services.binary_search(service).map_or(0, |index| index + 1)
    }
}

/// A request; `None` (0 for the service) leaves an attribute open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    pub service: usize,
    pub num_edges: Option<u32>,
    pub depth: Option<u32>,
    /// Milliseconds.
    pub latency: Option<u32>,
}

/// The gaps of all calls of a graph.
fn gaps(graph: &CallGraph) -> Vec<i64> {
    let calls = graph.calls();
    let mut ends: Vec<u32> = calls.iter().map(|call| call.start).collect();
    let gap = |call: &crate::graph::Call| {
        let end = match call.parent {
            Some(parent) => std::mem::replace(&mut ends[parent as usize], call.finish),
            None => 0,
        };
        i64::from(call.start) - i64::from(end)
    };
    calls.iter().map(gap).collect()
}

/// Classes of [`magnitude`].
pub const MAGNITUDES: usize = 98;

/// A number of any size, or none, in quarters of an octave: 0 for none, 1 for 0.
pub fn magnitude(number: Option<u32>) -> usize {
    let Some(number) = number else { return 0 };
    // The fourth power of 2²⁸ is within 128 bits, and such numbers are in the last class anyhow.
    let fourth_power = (u128::from(number.min(1 << 28)) + 1).pow(4);
    (1 + fourth_power.ilog2() as usize).min(MAGNITUDES - 1)
}

/// Classes of [`count`].
pub const COUNTS: usize = 130;

/// A small number itself, or none: 0 for none, 1 for 0.
pub fn count(number: Option<u32>) -> usize {
    number.map_or(0, |number| (number as usize).saturating_add(1).min(COUNTS - 1))
}
