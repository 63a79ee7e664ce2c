//! A graph that is being written, and what the network sees of it. Training replays a graph through
//! the same code that drawing grows one with, so that both see the same.

use std::collections::VecDeque;

use super::EdgeLevel;
use super::vocabulary::{Asked, COUNTS, MAGNITUDES, NO_CALL, RnnVocabulary, count, magnitude};
use crate::generators::tables::Callee;
use crate::graph::{CallGraph, CallRow, EdgeId, Name, USER};

/// Features of a graph-level step: the request and one call.
pub const CALL_FEATURES: usize = 15;
/// Features of the call whose children the edge-level RNN is about to write.
pub const PARENT_FEATURES: usize = 13;
/// Features of an edge-level step.
pub const EDGE_FEATURES: usize = 8;
/// Features of a child's gap.
pub const GAP_FEATURES: usize = 2;
/// Features of a child's response time.
pub const RESPONSE_FEATURES: usize = 3;

/// Classes of a depth, and of a number of calls of which the first few matter.
const LEVELS: usize = 24;

/// Classes of the features of one kind of input; together they are rows of one table of embeddings.
pub struct Fields<const N: usize>(pub [usize; N]);

impl<const N: usize> Fields<N> {
    /// Rows of the table.
    pub fn rows(&self) -> usize {
        self.0.iter().sum()
    }

    /// The row of each feature. A class beyond the last is the last.
    pub fn ids(&self, classes: [usize; N]) -> [usize; N] {
        let mut first = 0;
        let mut ids = classes;
        for (id, size) in ids.iter_mut().zip(self.0) {
            *id = first + (*id).min(size - 1);
            first += size;
        }
        ids
    }
}

/// The fields of every kind of input.
pub struct Inputs {
    pub call: Fields<CALL_FEATURES>,
    pub parent: Fields<PARENT_FEATURES>,
    pub edge: Fields<EDGE_FEATURES>,
    pub gap: Fields<GAP_FEATURES>,
    pub response: Fields<RESPONSE_FEATURES>,
}

impl Inputs {
    pub fn new(vocabulary: &RnnVocabulary) -> Self {
        let (services, labels) = (vocabulary.services(), vocabulary.labels());
        let (gaps, responses) = (vocabulary.gaps.count(), vocabulary.responses.count());
        let (n, m, l) = (COUNTS, MAGNITUDES, LEVELS);
        let asked = [services, n, m, l, m];
        let [a, b, c, d, e] = asked;
        Self {
            call: Fields([a, b, c, d, e, labels, labels, l, l, n, n, gaps, responses, n, m]),
            parent: Fields([a, d, labels, labels, l, n, l, 2, n, l, m, n, m]),
            edge: Fields([3, labels, n, gaps, responses, m, n, m]),
            gap: Fields([labels, m]),
            response: Fields([labels, gaps, m]),
        }
    }
}

/// A call that has been written; number 0 is the user, who makes the root call.
#[derive(Clone, Debug, PartialEq)]
struct Node {
    label: usize,
    parent: usize,
    /// 1 for the root call.
    depth: u32,
    /// Position among its siblings, from 1.
    number: u32,
    /// Milliseconds.
    start: u32,
    finish: u32,
    /// Bins of [`RnnVocabulary`].
    gap: usize,
    response: usize,
    /// The last child that has been written.
    last_child: Option<usize>,
}

/// A graph that grows in breadth-first order.
pub struct Growth<'a> {
    vocabulary: &'a RnnVocabulary,
    asked: Asked,
    edge_level: EdgeLevel,
    nodes: Vec<Node>,
    /// The node whose children are being written.
    parent: usize,
    /// Whether the running scan has passed a node over.
    passed: bool,
}

impl<'a> Growth<'a> {
    pub fn new(vocabulary: &'a RnnVocabulary, asked: Asked, edge_level: EdgeLevel) -> Self {
        let user = Node {
            label: NO_CALL,
            parent: 0,
            depth: 0,
            number: 0,
            start: 0,
            finish: asked.latency.unwrap_or(u32::MAX),
            gap: 0,
            response: 0,
            last_child: None,
        };
        Self { vocabulary, asked, edge_level, nodes: vec![user], parent: 0, passed: false }
    }

    /// Calls that have been written.
    pub fn calls(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Whether the children of every call have been written.
    pub fn is_done(&self) -> bool {
        self.parent == self.nodes.len()
    }

    /// Whether the root is what is written next: it must be there, and has no siblings.
    pub fn at_root(&self) -> bool {
        self.parent == 0
    }

    /// Graph-level states that the edge-level RNN starts from: the newest, and that of the node
    /// whose children it writes.
    pub fn sources(&self) -> [usize; 2] {
        let newest = self.nodes.len() - 1;
        match self.edge_level {
            EdgeLevel::Children => [newest, self.parent],
            EdgeLevel::Scan => [newest, newest],
        }
    }

    /// Ends the list of the present node's children. Returns whether the edge-level RNN ends too.
    pub fn advance(&mut self) -> bool {
        self.parent += 1;
        self.passed = true;
        self.edge_level == EdgeLevel::Children
    }

    /// Where a child of the present node starts: `gap` after the sibling before, within the parent.
    pub fn start(&self, gap: i64) -> u32 {
        let parent = &self.nodes[self.parent];
        let start = i64::from(self.before()).saturating_add(gap);
        // Between two numbers of 32 bits, so one itself.
        start.clamp(i64::from(parent.start), i64::from(parent.finish)) as u32
    }

    /// Where it finishes: within the parent, too. The root takes the latency that was asked for.
    pub fn finish(&self, start: u32, response: i64) -> u32 {
        let limit = self.nodes[self.parent].finish;
        if self.at_root() && self.asked.latency.is_some() {
            return limit;
        }
        let response = u32::try_from(response.max(0)).unwrap_or(u32::MAX);
        start.saturating_add(response).min(limit)
    }

    /// Writes one more child of the present node. Returns whether the edge-level RNN ends.
    pub fn attach(&mut self, label: usize, start: u32, finish: u32) -> bool {
        let gap = self.gap(start);
        let parent = &self.nodes[self.parent];
        let number = self.children() + 1;
        let node = Node {
            label,
            parent: self.parent,
            depth: parent.depth + 1,
            number,
            start,
            finish,
            gap,
            response: self.response(start, finish),
            last_child: None,
        };
        self.nodes[self.parent].last_child = Some(self.nodes.len());
        self.nodes.push(node);
        self.passed = false;
        let root = self.at_root();
        if root {
            self.parent = 1;
        }
        root || self.edge_level == EdgeLevel::Scan
    }

    /// The bin of the gap before a child that starts at `start`.
    pub fn gap(&self, start: u32) -> usize {
        self.vocabulary.gaps.index(i64::from(start) - i64::from(self.before()))
    }

    /// The bin of a response time.
    pub fn response(&self, start: u32, finish: u32) -> usize {
        self.vocabulary.responses.index(i64::from(finish.saturating_sub(start)))
    }

    /// Where the last child of the present node ended; its start if there is none.
    fn before(&self) -> u32 {
        let parent = &self.nodes[self.parent];
        parent.last_child.map_or(parent.start, |child| self.nodes[child].finish)
    }

    /// Children of the present node so far.
    fn children(&self) -> u32 {
        self.nodes[self.parent].last_child.map_or(0, |child| self.nodes[child].number)
    }

    /// Calls still to be written once there are `written`.
    fn remaining(&self, written: usize) -> Option<u32> {
        self.asked.num_edges.map(|wanted| wanted.saturating_sub(written as u32))
    }

    /// Milliseconds from `from` to the present node's finish; none where that is open.
    fn room(&self, from: u32) -> usize {
        let finish = self.nodes[self.parent].finish;
        magnitude((finish < u32::MAX).then(|| finish.saturating_sub(from)))
    }

    /// Input of the graph-level step of node `index`.
    pub fn call_input(&self, index: usize) -> [usize; CALL_FEATURES] {
        let Asked { service, num_edges, depth, latency } = self.asked;
        let node = &self.nodes[index];
        let remaining = self.remaining(index);
        [
            service,
            count(num_edges),
            magnitude(num_edges),
            count(depth),
            magnitude(latency),
            node.label,
            self.nodes[node.parent].label,
            count(depth.map(|depth| depth.saturating_sub(node.depth))),
            node.depth as usize,
            node.number as usize,
            index - node.parent,
            node.gap,
            node.response,
            count(remaining),
            magnitude(remaining),
        ]
    }

    /// What the edge-level RNN sees of the node whose children it writes; nothing if it scans.
    pub fn parent_input(&self) -> [usize; PARENT_FEATURES] {
        if self.edge_level == EdgeLevel::Scan {
            return [0; PARENT_FEATURES];
        }
        let Asked { service, depth, .. } = self.asked;
        let node = &self.nodes[self.parent];
        let remaining = self.remaining(self.calls());
        let deepest = self.nodes[self.nodes.len() - 1].depth;
        // Written, with no children yet: all others, and those on this node's level.
        let open = self.nodes.len() - self.parent - 1;
        let beside = self.nodes[self.parent + 1..].iter().filter(|other| other.depth == node.depth);
        [
            service,
            count(depth),
            node.label,
            self.nodes[node.parent].label,
            count(depth.map(|depth| depth.saturating_sub(node.depth))),
            node.number as usize,
            node.depth as usize,
            usize::from(deepest > node.depth),
            open,
            beside.count(),
            self.room(node.start),
            count(remaining),
            magnitude(remaining),
        ]
    }

    /// Input of the next edge-level step.
    pub fn edge_input(&self) -> [usize; EDGE_FEATURES] {
        if self.edge_level == EdgeLevel::Scan {
            let mut input = [0; EDGE_FEATURES];
            input[0] = 1 + usize::from(self.passed);
            return input;
        }
        let before = self.nodes[self.parent].last_child.map(|child| &self.nodes[child]);
        let remaining = self.remaining(self.calls());
        [
            0,
            before.map_or(NO_CALL, |node| node.label),
            self.children() as usize,
            before.map_or(0, |node| node.gap),
            before.map_or(0, |node| node.response),
            self.room(self.before()),
            count(remaining),
            magnitude(remaining),
        ]
    }

    /// What the gap before a child depends on besides the edge-level state.
    pub fn gap_input(&self, label: usize) -> [usize; GAP_FEATURES] {
        [label, self.room(self.before())]
    }

    /// What the response time of a child depends on besides the edge-level state.
    pub fn response_input(&self, label: usize, start: u32) -> [usize; RESPONSE_FEATURES] {
        [label, self.gap(start), self.room(start)]
    }

    /// The calls as rows.
    pub fn rows(&self) -> Vec<CallRow> {
        let mut rows: Vec<CallRow> = Vec::with_capacity(self.calls());
        for node in &self.nodes[1..] {
            let Some((destination, kind)) = self.vocabulary.callee(node.label) else { continue };
            let (edge_id, source) = match node.parent.checked_sub(1) {
                Some(parent) => {
                    (rows[parent].edge_id.child(node.number), rows[parent].destination.clone())
                }
                None => (EdgeId::root(), Name::from(USER)),
            };
            let (destination, kind) = (destination.clone(), *kind);
            let (start, finish) = (node.start, node.finish);
            rows.push(CallRow { edge_id, source, destination, kind, start, finish });
        }
        rows
    }
}

/// The decisions that write a graph, as the network's inputs and what it should answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Example {
    /// Of every graph-level step; the first is the user's.
    pub calls: Vec<[usize; CALL_FEATURES]>,
    pub sequences: Vec<Sequence>,
}

/// One run of the edge-level RNN.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequence {
    /// [`Growth::sources`].
    pub sources: [usize; 2],
    pub parent: [usize; PARENT_FEATURES],
    pub steps: Vec<Step>,
}

/// One decision: the next child, or [`NO_CALL`].
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub edge: [usize; EDGE_FEATURES],
    pub label: usize,
    /// Of a child; inputs and bins of gap and response time.
    pub times: Option<TimeStep>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TimeStep {
    pub gap_input: [usize; GAP_FEATURES],
    pub gap: usize,
    pub response_input: [usize; RESPONSE_FEATURES],
    pub response: usize,
}

impl Example {
    /// The first `max_calls` calls of `graph`.
    pub fn new(graph: &CallGraph, mut growth: Growth, max_calls: usize) -> Self {
        let mut example = Self { calls: vec![growth.call_input(0)], sequences: Vec::new() };
        let mut ended = true;
        for decision in decisions(graph) {
            if growth.calls() >= max_calls {
                break;
            }
            if ended {
                let (sources, parent) = (growth.sources(), growth.parent_input());
                example.sequences.push(Sequence { sources, parent, steps: Vec::new() });
            }
            let edge = growth.edge_input();
            let (step, ends) = match decision {
                None => (Step { edge, label: NO_CALL, times: None }, growth.advance()),
                Some(index) => {
                    let call = &graph.calls()[index];
                    let callee: Callee = (call.destination.clone(), call.kind);
                    let label = growth.vocabulary.label(&callee);
                    let times = Some(TimeStep {
                        gap_input: growth.gap_input(label),
                        gap: growth.gap(call.start),
                        response_input: growth.response_input(label, call.start),
                        response: growth.response(call.start, call.finish),
                    });
                    let ends = growth.attach(label, call.start, call.finish);
                    example.calls.push(growth.call_input(growth.calls()));
                    (Step { edge, label, times }, ends)
                }
            };
            if let Some(sequence) = example.sequences.last_mut() {
                sequence.steps.push(step);
            }
            ended = ends;
        }
        example
    }
}

/// The root, then every call's children in breadth-first order, each list with its end.
fn decisions(graph: &CallGraph) -> Vec<Option<usize>> {
    let children = graph.children();
    let mut decisions = vec![Some(0)];
    let mut queue = VecDeque::from([0]);
    while let Some(parent) = queue.pop_front() {
        for child in &children[parent] {
            decisions.push(Some(*child as usize));
            queue.push_back(*child as usize);
        }
        decisions.push(None);
    }
    decisions
}
