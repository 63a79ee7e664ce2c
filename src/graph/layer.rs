//! Cutting a graph into generation steps (paper, section 3, "Recursive" and "Wide layers").

use super::{CallGraph, CallType, Name, USER};

/// A layer with more edges than this is cut into chunks.
pub const MAX_LAYER_EDGES: usize = 15;
/// A split step has at most this many parts.
pub const MAX_SPLIT_PARTS: usize = 5;

/// What a generation step is told: all that it knows of the rest of the graph.
///
/// Every attribute is optional because training drops attributes at random.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LayerCondition {
    /// `id`: the service.
    pub service: Option<Name>,
    /// Calls in this step's layer (or its part of it) and below.
    pub num_edges: Option<u32>,
    /// The node that the layer's edges leave; `USER` for the root layer.
    pub start_node: Option<Name>,
    /// The node that called `start_node`; absent for the root layer.
    pub caller: Option<Name>,
    /// Number of the first edge.
    pub start_edge_id: Option<u32>,
    /// Start of the first edge, milliseconds.
    pub start_communication_at: Option<u32>,
    /// Upper bound of every finish, milliseconds: the finish of the parent call.
    pub latency: Option<u32>,
    /// Edges of this step that have children.
    pub num_subgraphs: Option<u32>,
    /// Levels of calls still below this layer.
    pub remaining_depth: Option<u32>,
    /// Edges in this step's layer (or its part of it).
    pub num_current_edges: Option<u32>,
}

/// An edge inside its layer: no source, and only the last number of its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerEdge {
    pub number: u32,
    pub destination: Name,
    pub kind: CallType,
    /// Milliseconds from the start of the trace.
    pub start: u32,
    /// Milliseconds from the start of the trace.
    pub finish: u32,
}

/// The condition of the layer below one edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subgraph {
    /// Number of the edge, in its layer, whose children the condition describes.
    pub edge: u32,
    pub condition: LayerCondition,
}

/// What a step answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepBody {
    Layer {
        edges: Vec<LayerEdge>,
        subgraphs: Vec<Subgraph>,
    },
    /// Conditions of the parts of a layer that is too wide for one step.
    Split {
        parts: Vec<LayerCondition>,
    },
}

/// One generation step: a condition and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub condition: LayerCondition,
    pub body: StepBody,
}

/// All steps that generate `graph`, each before the steps that it gives rise to (breadth first).
pub fn steps(graph: &CallGraph) -> Vec<Step> {
    let cutter = Cutter::new(graph);
    let mut queue = vec![Part { parent: None, members: vec![0] }];
    let mut steps = Vec::new();
    let mut next = 0;
    while next < queue.len() {
        let part = queue[next].clone();
        next += 1;
        steps.push(cutter.step(&part, &mut queue));
    }
    steps
}

/// A run of sibling calls: a whole layer, or a part of a wide one.
#[derive(Clone)]
struct Part {
    parent: Option<u32>,
    members: Vec<u32>,
}

struct Cutter<'a> {
    graph: &'a CallGraph,
    children: Vec<Vec<u32>>,
    sizes: Vec<u32>,
    heights: Vec<u32>,
}

impl<'a> Cutter<'a> {
    fn new(graph: &'a CallGraph) -> Self {
        Self {
            graph,
            children: graph.children(),
            sizes: graph.subtree_sizes(),
            heights: graph.heights(),
        }
    }

    fn step(&self, part: &Part, queue: &mut Vec<Part>) -> Step {
        let condition = self.condition(part);
        let body = if part.members.len() > MAX_LAYER_EDGES {
            let parts: Vec<Part> = cut(&part.members)
                .into_iter()
                .map(|members| Part { parent: part.parent, members })
                .collect();
            let conditions = parts.iter().map(|part| self.condition(part)).collect();
            queue.extend(parts);
            StepBody::Split { parts: conditions }
        } else {
            self.layer(part, queue)
        };
        Step { condition, body }
    }

    fn layer(&self, part: &Part, queue: &mut Vec<Part>) -> StepBody {
        let mut edges = Vec::with_capacity(part.members.len());
        let mut subgraphs = Vec::new();
        for &member in &part.members {
            let call = &self.graph.calls()[member as usize];
            edges.push(LayerEdge {
                number: call.number,
                destination: call.destination.clone(),
                kind: call.kind,
                start: call.start,
                finish: call.finish,
            });
            let below = &self.children[member as usize];
            if !below.is_empty() {
                let part = Part { parent: Some(member), members: below.clone() };
                subgraphs.push(Subgraph { edge: call.number, condition: self.condition(&part) });
                queue.push(part);
            }
        }
        StepBody::Layer { edges, subgraphs }
    }

    fn condition(&self, part: &Part) -> LayerCondition {
        let calls = self.graph.calls();
        let first = &calls[part.members[0] as usize];
        let parent = part.parent.map(|index| &calls[index as usize]);
        let members = || part.members.iter().map(|&member| member as usize);
        LayerCondition {
            service: Some(self.graph.service().clone()),
            num_edges: Some(members().map(|member| self.sizes[member]).sum()),
            start_node: Some(parent.map_or_else(|| Name::from(USER), |p| p.destination.clone())),
            caller: part.parent.map(|index| Name::from(self.graph.source(index as usize))),
            start_edge_id: Some(first.number),
            start_communication_at: Some(first.start),
            latency: Some(parent.map_or(first.finish, |call| call.finish)),
            num_subgraphs: Some(
                members().filter(|&member| !self.children[member].is_empty()).count() as u32,
            ),
            remaining_depth: members().map(|member| self.heights[member]).max(),
            num_current_edges: Some(part.members.len() as u32),
        }
    }
}

/// Cuts a wide layer into at most [`MAX_SPLIT_PARTS`] runs of nearly equal length, each made of
/// whole chunks of at most [`MAX_LAYER_EDGES`] edges; a run of several chunks is cut again by its
/// own step.
fn cut(members: &[u32]) -> Vec<Vec<u32>> {
    runs(members.len()).map(|range| members[range].to_vec()).collect()
}

fn runs(width: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    even_runs(width, width.div_ceil(MAX_LAYER_EDGES).min(MAX_SPLIT_PARTS))
}

/// Edges of each part of a layer of more than [`MAX_LAYER_EDGES`] edges.
pub fn part_sizes(width: usize) -> impl Iterator<Item = usize> {
    runs(width).map(|range| range.len())
}

/// `0..len` in `parts` consecutive ranges whose lengths differ by at most one, longer ones first.
fn even_runs(len: usize, parts: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let (base, longer) = (len / parts, len % parts);
    let mut start = 0;
    (0..parts).map(move |part| {
        let end = start + base + usize::from(part < longer);
        let range = start..end;
        start = end;
        range
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_layers_are_cut_evenly() {
        let members: Vec<u32> = (0..16).collect();
        let parts = cut(&members);
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [8, 8]);
        let members: Vec<u32> = (0..200).collect();
        let parts = cut(&members);
        assert_eq!(parts.len(), MAX_SPLIT_PARTS);
        assert_eq!(parts.concat(), members);
    }
}
