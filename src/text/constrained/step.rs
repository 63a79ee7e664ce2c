//! What a generation step may still say: its edges, sub-conditions and parts, whatever the format.

use super::counts::{Case, Count, Counts, Parts, Subgraphs, domain};
use super::ranges::Ranges;
use crate::graph::{
    CallType, LayerCondition, LayerEdge, MAX_LAYER_EDGES, Name, Subgraph, part_sizes,
};
use crate::text::compact::Left;

/// Latest finish of a graph whose latency is not given, milliseconds.
const MOST_TIME: u32 = 3_600_000;
/// Numbers of edges stay below this.
pub const MOST_NUMBER: u32 = 10_000;
/// The first edge of a layer below has a number up to this.
const MOST_FIRST: u32 = 99;

/// What the rest of the graph asks of a step beyond its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Start of the parent call: no edge starts before it.
    pub earliest: u32,
    /// The edges' numbers stay below this: where the next part of a wide layer begins.
    pub numbers_below: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { earliest: 0, numbers_below: MOST_NUMBER }
    }
}

/// A field of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Destination,
    Kind,
    Number,
    Start,
    Finish,
}

impl Field {
    pub const ALL: [Self; 5] =
        [Self::Destination, Self::Kind, Self::Number, Self::Start, Self::Finish];
}

/// An edge of which some fields are known.
#[derive(Clone, Debug, Default)]
struct PartialEdge {
    destination: Option<Name>,
    kind: Option<CallType>,
    number: Option<u32>,
    start: Option<u32>,
    finish: Option<u32>,
}

/// A number of a sub-condition or part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    Count(Count),
    /// `start_communication_at`
    Start,
    /// `start_edge_id`
    First,
    Latency,
}

/// A sub-condition or part of which some numbers are known.
#[derive(Clone, Debug, Default)]
struct PartialCondition {
    counts: Counts,
    start: Option<u32>,
    first: Option<u32>,
}

/// What comes after the edges, or instead of them.
#[derive(Clone, Debug)]
enum Below {
    Subgraphs { budget: Subgraphs, edge: usize },
    Parts { budget: Parts, first: u32, begun: bool },
}

/// The state of a step.
#[derive(Clone, Debug)]
pub struct StepState {
    pub condition: LayerCondition,
    bounds: Bounds,
    /// Edges that are complete.
    pub edges: Vec<LayerEdge>,
    edge: PartialEdge,
    below: Below,
    /// What the next sub-condition or part may be; kept while it is written.
    cases: Vec<Case>,
    partial: PartialCondition,
}

impl StepState {
    /// The beginning of a step with a condition that has all of its attributes, except that the
    /// root's may lack `num_edges` or `remaining_depth`, not both, and `latency`.
    pub fn new(condition: LayerCondition, bounds: Bounds) -> Self {
        let width = condition.num_current_edges.unwrap_or(1);
        let depth = condition.remaining_depth;
        let subgraphs = match (condition.num_edges, depth) {
            // The root: a number that contradicts the others has been refused.
            (Some(edges), None) => u32::from(edges > width),
            (None, Some(depth)) => u32::from(depth > 0),
            _ => condition.num_subgraphs.unwrap_or(0),
        };
        let below = if width as usize > MAX_LAYER_EDGES {
            let budget = Parts {
                depth: depth.unwrap_or(0),
                edges: condition.num_edges.unwrap_or(width),
                subgraphs,
                widths: part_sizes(width as usize).map(|size| size as u32).collect(),
                deep: false,
            };
            Below::Parts { budget, first: 0, begun: false }
        } else {
            let rest = condition.num_edges.map(|edges| edges.saturating_sub(width));
            let budget = Subgraphs { depth, rest, left: subgraphs, deep: false };
            Below::Subgraphs { budget, edge: 0 }
        };
        let mut state = Self {
            condition,
            bounds,
            edges: Vec::new(),
            edge: PartialEdge::default(),
            below,
            cases: Vec::new(),
            partial: PartialCondition::default(),
        };
        state.prepare();
        state
    }

    fn width(&self) -> u32 {
        self.condition.num_current_edges.unwrap_or(1)
    }

    fn latency(&self) -> u32 {
        self.condition.latency.unwrap_or(MOST_TIME.max(self.bounds.earliest))
    }

    /// Whether the step is a split.
    pub fn is_split(&self) -> bool {
        matches!(self.below, Below::Parts { .. })
    }

    /// Sub-conditions or parts to come.
    pub fn left(&self) -> u32 {
        match &self.below {
            Below::Subgraphs { budget, .. } => budget.left,
            Below::Parts { budget, .. } => budget.widths.len() as u32,
        }
    }

    /// Edges to come, the one under way included.
    pub fn edges_left(&self) -> u32 {
        self.width().saturating_sub(self.edges.len() as u32)
    }

    /// What is left of the layer, between two edges or parts.
    pub fn remaining_counts(&self) -> Left {
        match &self.below {
            Below::Subgraphs { budget, .. } => Left {
                edges: self.edges_left(),
                subgraphs: budget.left,
                below: budget.rest,
                deep: budget.depth.is_some() && !budget.deep,
            },
            Below::Parts { budget, .. } => {
                let edges = budget.widths.iter().sum();
                Left {
                    edges,
                    subgraphs: budget.subgraphs,
                    below: Some(budget.edges.saturating_sub(edges)),
                    deep: !budget.deep,
                }
            }
        }
    }

    pub fn is_open(&self, field: Field) -> bool {
        match field {
            Field::Destination => self.edge.destination.is_none(),
            Field::Kind => self.edge.kind.is_none(),
            Field::Number => self.edge.number.is_none(),
            Field::Start => self.edge.start.is_none(),
            Field::Finish => self.edge.finish.is_none(),
        }
    }

    /// Values that a number of the edge under way may take.
    pub fn field(&self, field: Field) -> Ranges {
        let latency = self.latency();
        let first = self.edges.is_empty();
        match field {
            Field::Number => {
                let last = self.bounds.numbers_below.saturating_sub(self.edges_left());
                match (self.edges.last(), self.condition.start_edge_id) {
                    (Some(edge), _) => Ranges::between(edge.number + 1, last),
                    (None, Some(first)) => Ranges::one(first),
                    (None, None) => Ranges::between(0, last),
                }
            }
            Field::Start => {
                Ranges::between(self.earliest(first), self.edge.finish.unwrap_or(latency))
            }
            Field::Finish => {
                Ranges::between(self.edge.start.unwrap_or(self.earliest(first)), latency)
            }
            Field::Destination | Field::Kind => Ranges::default(),
        }
    }

    /// Earliest start of an edge.
    fn earliest(&self, first: bool) -> u32 {
        let asked = self.condition.start_communication_at.filter(|_| first).unwrap_or(0);
        asked.max(self.bounds.earliest)
    }

    pub fn set_number(&mut self, field: Field, value: u32) {
        match field {
            Field::Number => self.edge.number = Some(value),
            Field::Start => self.edge.start = Some(value),
            Field::Finish => self.edge.finish = Some(value),
            Field::Destination | Field::Kind => {}
        }
    }

    pub fn set_destination(&mut self, name: Name) {
        self.edge.destination = Some(name);
    }

    pub fn set_kind(&mut self, kind: CallType) {
        self.edge.kind = Some(kind);
    }

    /// Ends the edge under way, whose fields are all known.
    pub fn end_edge(&mut self) {
        let PartialEdge { destination, kind, number, start, finish } =
            std::mem::take(&mut self.edge);
        if let (Some(destination), Some(kind), Some(number), Some(start), Some(finish)) =
            (destination, kind, number, start, finish)
        {
            self.edges.push(LayerEdge { number, destination, kind, start, finish });
        }
    }

    /// Edges that the next sub-condition may be about, where `planned` are the numbers of those that
    /// the coming ones before it are about: in the order of the edges, so that every sub-condition
    /// finds one.
    pub fn eligible(&self, planned: &[u32]) -> &[LayerEdge] {
        match &self.below {
            Below::Subgraphs { budget, edge } => {
                let length = self.edges.len();
                let left = (budget.left as usize).saturating_sub(planned.len());
                let last = (length + 1).saturating_sub(left).min(length);
                let of_last = |number: &u32| self.edges.iter().position(|e| e.number == *number);
                let first = planned.last().and_then(of_last).map_or(*edge, |place| place + 1);
                &self.edges[first..last.max(first)]
            }
            Below::Parts { .. } => &[],
        }
    }

    /// Whether the next sub-condition can be one that keeps the depth, or one that does not.
    pub fn may_keep_depth(&self, keeps: bool) -> bool {
        self.cases.iter().any(|case| self.case_keeps_depth(case) == keeps)
    }

    /// Settles whether the sub-condition under way keeps the depth.
    pub fn keep_depth(&mut self, keeps: bool) {
        let cases = std::mem::take(&mut self.cases);
        self.cases =
            cases.into_iter().filter(|case| self.case_keeps_depth(case) == keeps).collect();
    }

    fn case_keeps_depth(&self, case: &Case) -> bool {
        self.condition.remaining_depth == Some(case.depth + 1)
    }

    /// Begins the sub-condition of the edge with this number.
    pub fn begin_subgraph(&mut self, number: u32) {
        let place = self.edges.iter().position(|edge| edge.number == number);
        if let (Below::Subgraphs { edge, .. }, Some(place)) = (&mut self.below, place) {
            *edge = place;
        }
    }

    /// The edge whose sub-condition is under way.
    pub fn subgraph_edge(&self) -> Option<&LayerEdge> {
        match &self.below {
            Below::Subgraphs { edge, .. } => self.edges.get(*edge),
            Below::Parts { .. } => None,
        }
    }

    /// Service, start node and caller of the sub-condition or part under way.
    pub fn names(&self) -> [Option<&Name>; 3] {
        let own = &self.condition;
        match self.subgraph_edge() {
            Some(edge) => [own.service.as_ref(), Some(&edge.destination), own.start_node.as_ref()],
            None => [own.service.as_ref(), own.start_node.as_ref(), own.caller.as_ref()],
        }
    }

    /// Values that a number of the sub-condition or part under way may take.
    pub fn number(&self, number: Number) -> Ranges {
        match number {
            Number::Count(count) => domain(&self.cases, &self.partial.counts, count),
            Number::Latency => Ranges::one(self.latency_below()),
            Number::Start => match (&self.below, self.subgraph_edge()) {
                (Below::Parts { begun, .. }, _) => {
                    Ranges::between(self.earliest(!begun), self.latency())
                }
                (_, Some(edge)) => Ranges::between(edge.start, edge.finish),
                (_, None) => Ranges::default(),
            },
            Number::First => match &self.below {
                Below::Subgraphs { .. } => Ranges::between(0, MOST_FIRST),
                Below::Parts { budget, first, begun } => {
                    let last = self.bounds.numbers_below.saturating_sub(budget.widths.iter().sum());
                    match self.condition.start_edge_id.filter(|_| !begun) {
                        Some(first) => Ranges::one(first),
                        None => Ranges::between(*first, last),
                    }
                }
            },
        }
    }

    /// The latency of a sub-condition is the finish of its edge; a part has that of the whole.
    fn latency_below(&self) -> u32 {
        self.subgraph_edge().map_or_else(|| self.latency(), |edge| edge.finish)
    }

    pub fn choose(&mut self, number: Number, value: u32) {
        match number {
            Number::Count(count) => self.partial.counts.set(count, value),
            Number::Start => self.partial.start = Some(value),
            Number::First => self.partial.first = Some(value),
            Number::Latency => {}
        }
    }

    /// Ends the sub-condition or part under way, whose numbers are all known, and returns it.
    pub fn end_condition(&mut self) -> Subgraph {
        let PartialCondition { counts, start, first: number } = std::mem::take(&mut self.partial);
        let [service, start_node, caller] = self.names().map(|name| name.cloned());
        let condition = LayerCondition {
            service,
            start_node,
            caller,
            num_edges: counts.edges,
            start_edge_id: number,
            start_communication_at: start,
            latency: Some(self.latency_below()),
            num_subgraphs: counts.subgraphs,
            remaining_depth: counts.depth,
            num_current_edges: counts.current,
        };
        let edge = self.subgraph_edge().map_or(0, |edge| edge.number);
        match &mut self.below {
            Below::Subgraphs { budget, edge } => {
                budget.take(&counts);
                *edge += 1;
            }
            Below::Parts { budget, first, begun } => {
                budget.take(&counts);
                *begun = true;
                *first = number.unwrap_or(0) + counts.current.unwrap_or(0);
            }
        }
        self.prepare();
        Subgraph { edge, condition }
    }

    fn prepare(&mut self) {
        self.cases = match &self.below {
            Below::Subgraphs { budget, .. } if budget.left > 0 => budget.cases(),
            Below::Parts { budget, .. } if !budget.widths.is_empty() => budget.cases(),
            _ => Vec::new(),
        };
    }
}
