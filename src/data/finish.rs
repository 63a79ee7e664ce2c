//! The last steps that every source of measured graphs shares (paper, section 2): keep valid
//! graphs, drop those deeper than 15, remove duplicates, draw a sample.

use std::collections::{BTreeMap, HashSet};

use super::Funnel;
use crate::graph::{CallGraph, CallRow, Name, ViolationCode};

/// Deeper graphs are dropped (paper, section 2).
pub const MAX_DEPTH: u32 = 15;

/// Why a trace gave no graph, in the order in which the funnel lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// One of its rows cannot be used and was left out.
    BadRow,
    /// An rpc id that is not a dot-decimal path.
    UnreadableId,
    /// A time of more than 2^32 ms after the start of the trace.
    TimeRange,
    /// A span whose start is not known.
    NoStart,
    /// Spans that are their own ancestors.
    Circle,
    /// A span that ends before it starts.
    Backwards,
    /// A call that lies outside of the one that made it.
    Outside,
    /// The first constraint of section 1 that the rows break.
    Invalid(ViolationCode),
    TooDeep,
    /// No row names the service.
    NoService,
    /// The same service and the same fields of all calls as another trace.
    Duplicate,
}

impl Reason {
    /// What the step demands of the graphs that are left.
    pub fn step(self) -> String {
        match self {
            Self::BadRow => "all of its rows can be read".into(),
            Self::NoService => "has a service".into(),
            Self::UnreadableId => "rpc ids are paths of numbers".into(),
            Self::TimeRange => "times fit into 32 bits".into(),
            Self::NoStart => "all of its spans have a start".into(),
            Self::Circle => "no span is its own ancestor".into(),
            Self::Backwards => "no span ends before it starts".into(),
            Self::Outside => "no call lies outside of its caller".into(),
            Self::Invalid(code) => format!("valid: not {code}"),
            Self::TooDeep => format!("depth is at most {MAX_DEPTH}"),
            Self::Duplicate => "differs from all other graphs".into(),
        }
    }
}

/// Rows and traces lost to each reason; adds up over threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses(BTreeMap<Reason, (u64, u64)>);

impl Losses {
    pub fn add(&mut self, reason: Reason, rows: u64) {
        let entry = self.0.entry(reason).or_default();
        entry.0 += rows;
        entry.1 += 1;
    }

    pub fn merge(&mut self, other: &Losses) {
        for (reason, (rows, traces)) in &other.0 {
            let entry = self.0.entry(*reason).or_default();
            entry.0 += rows;
            entry.1 += traces;
        }
    }

    /// Traces lost because they are not one tree below one root with all its calls.
    pub fn gaps(&self) -> u64 {
        let is_gap = |reason: &Reason| match reason {
            Reason::BadRow | Reason::UnreadableId | Reason::Circle => true,
            Reason::Invalid(code) => matches!(
                code,
                ViolationCode::NoRoot | ViolationCode::SecondRoot | ViolationCode::MissingParent
            ),
            _ => false,
        };
        let gaps = self.0.iter().filter(|(reason, _)| is_gap(reason));
        gaps.map(|(_, (_, traces))| traces).sum()
    }

    /// Adds one step per reason to the funnel, which must end with the graphs before these
    /// losses. Reasons that never occurred are left out, except the paper's own steps.
    pub fn push_to(&self, funnel: &mut Funnel, rows: u64, traces: u64) {
        self.push_with_calls(funnel, rows, traces, None);
    }

    /// As [`Self::push_to`], where a row is a span until the graphs are made, and these have `calls` in all
    /// before duplicates are removed: a step of its own, if not every span is a call.
    pub fn push_with_calls(&self, funnel: &mut Funnel, rows: u64, traces: u64, calls: Option<u64>) {
        let (mut rows, mut traces) = (rows, traces);
        let mut losses = self.0.clone();
        losses.entry(Reason::TooDeep).or_default();
        losses.entry(Reason::Duplicate).or_default();
        for (reason, (lost_rows, lost_traces)) in losses {
            if reason == Reason::Duplicate
                && let Some(calls) = calls.filter(|calls| *calls != rows)
            {
                rows = calls;
                funnel.push(
                    "is a call (two sides are one, spans inside of a service none)",
                    rows,
                    Some(traces),
                );
            }
            rows -= lost_rows;
            traces -= lost_traces;
            funnel.push(reason.step(), rows, Some(traces));
        }
    }
}

/// The graph of one trace's rows, or why there is none.
///
/// # Errors
/// The first constraint broken, or too great a depth.
pub fn judge(service: Name, rows: &[CallRow]) -> Result<CallGraph, Reason> {
    let graph = CallGraph::from_rows(service, rows)
        .map_err(|violations| Reason::Invalid(violations[0].code))?;
    if graph.depth() > MAX_DEPTH {
        return Err(Reason::TooDeep);
    }
    Ok(graph)
}

/// Hash of the service and of every field of every call. Equal for graphs that the paper counts
/// as duplicates, different for all others (up to 2^-64 for any realistic number of graphs).
pub fn fingerprint(seed: u64, graph: &CallGraph) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(graph.service().as_bytes());
    for call in graph.calls() {
        hasher.update(&[0xff]);
        hasher.update(&call.depth.to_le_bytes());
        hasher.update(&call.number.to_le_bytes());
        hasher.update(&call.start.to_le_bytes());
        hasher.update(&call.finish.to_le_bytes());
        hasher.update(call.kind.as_str().as_bytes());
        hasher.update(&[0xff]);
        hasher.update(call.destination.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_be_bytes(bytes)
}

/// The graphs without repetitions, in their order.
pub fn distinct(graphs: Vec<CallGraph>, losses: &mut Losses) -> Vec<CallGraph> {
    let mut seen = HashSet::new();
    let mut kept = Vec::with_capacity(graphs.len());
    for graph in graphs {
        if seen.insert(fingerprint(0, &graph)) {
            kept.push(graph);
        } else {
            losses.add(Reason::Duplicate, u64::from(graph.num_edges()));
        }
    }
    kept
}

/// At most `limit` of the graphs: those whose fingerprint with `seed` is smallest, in that order.
pub fn sample(
    graphs: Vec<CallGraph>,
    limit: Option<u64>,
    seed: u64,
    funnel: &mut Funnel,
) -> Vec<CallGraph> {
    let Some(limit) = limit.filter(|limit| *limit < graphs.len() as u64) else { return graphs };
    let mut keyed: Vec<(u128, CallGraph)> =
        graphs.into_iter().map(|graph| (fingerprint(seed, &graph), graph)).collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.truncate(limit as usize);
    let graphs: Vec<CallGraph> = keyed.into_iter().map(|(_, graph)| graph).collect();
    push_sample(funnel, &graphs);
    graphs
}

/// The funnel's step for a random sample.
pub fn push_sample(funnel: &mut Funnel, graphs: &[CallGraph]) {
    funnel.push_graphs(format!("among {} drawn at random", graphs.len()), graphs);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{paper_example, row};

    #[test]
    fn duplicates_have_every_field_in_common() {
        let graph = paper_example();
        let mut renamed = graph.rows();
        renamed[6].edge_id = "0.5".parse().unwrap();
        let other_id = CallGraph::from_rows(graph.service().clone(), &renamed).unwrap();
        let other_service = CallGraph::from_rows("S_1".into(), &graph.rows()).unwrap();
        let mut losses = Losses::default();
        let graphs = vec![graph.clone(), other_id.clone(), graph.clone(), other_service.clone()];
        assert_eq!(distinct(graphs, &mut losses), [graph, other_id, other_service]);
        let mut funnel = Funnel::default();
        losses.push_to(&mut funnel, 28, 4);
        let last = funnel.0.last().unwrap();
        assert_eq!((last.rows, last.traces), (21, Some(3)));
    }

    #[test]
    fn depth_sixteen_is_dropped_and_fifteen_kept() {
        let chain = |depth: usize| {
            let ids: Vec<String> = (0..depth).map(|i| format!("0{}", ".1".repeat(i))).collect();
            let source = |i: usize| if i == 0 { "USER".to_owned() } else { format!("M{}", i - 1) };
            let rows = ids.iter().enumerate();
            rows.map(|(i, id)| row(id, &source(i), &format!("M{i}"), "rpc", 0, 1))
                .collect::<Vec<_>>()
        };
        assert!(judge("S".into(), &chain(15)).is_ok());
        assert_eq!(judge("S".into(), &chain(16)), Err(Reason::TooDeep));
        let orphan = [row("0.1", "A", "B", "rpc", 0, 1)];
        let reason = Reason::Invalid(ViolationCode::NoRoot);
        assert_eq!(judge("S".into(), &orphan), Err(reason));
    }
}
