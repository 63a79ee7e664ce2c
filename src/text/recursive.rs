//! Writing the recursive format (paper, section 3): one generation step as a prompt and an answer.
//!
//! The prompt is the condition line; what follows, from the line break on, is the answer. Its first
//! lines ([`opening`]) follow from the condition and are given at generation. Prompt and answer are
//! tokenised apart, so a prompt's tokens are the same in training and in generation.

use std::fmt::Write as _;

use rand::{Rng, RngExt, seq::SliceRandom};

use super::{FieldOrder, name};
use crate::graph::{
    LayerCondition, LayerEdge, MAX_LAYER_EDGES, Name, Step, StepBody, Subgraph, USER,
};

/// Opens the condition line of a graph.
pub const PROMPT: &str = "[GENERATE GRAPH]";

/// Probability with which an attribute other than `id` stays in the prompt of a root layer.
pub const KEEP: f64 = 0.9;
/// The same for the latency.
pub const KEEP_LATENCY: f64 = 0.5;

/// Words before the counts of a condition.
pub const COUNTS: [&str; 4] =
    ["num_edges:", "remaining_depth:", "num_current_edges:", "num_subgraphs:"];

/// Words before all numbers that are one token with them: counts, and numbers of edges.
pub const COUNTED: [&str; 7] = {
    let [edges, depth, current, subgraphs] = COUNTS;
    [edges, depth, current, subgraphs, "start_edge_id:", "edge_id is ", "edge_id "]
};

/// Attributes of a condition line.
pub const ATTRIBUTES: [&str; 10] = [
    "id",
    "start_node",
    "caller",
    "num_edges",
    "remaining_depth",
    "latency",
    "start_communication_at",
    "start_edge_id",
    "num_current_edges",
    "num_subgraphs",
];

/// The value of an attribute as text, if the condition has it.
fn attribute(condition: &LayerCondition, key: &str) -> Option<String> {
    let number = |value: Option<u32>| value.map(|value| value.to_string());
    let written = |value: &Option<Name>| value.as_ref().map(|value| name::write(value).into());
    match key {
        "id" => written(&condition.service),
        "start_node" => written(&condition.start_node),
        "caller" => written(&condition.caller),
        "num_edges" => number(condition.num_edges),
        "remaining_depth" => number(condition.remaining_depth),
        "latency" => number(condition.latency),
        "start_communication_at" => number(condition.start_communication_at),
        "start_edge_id" => number(condition.start_edge_id),
        "num_current_edges" => number(condition.num_current_edges),
        "num_subgraphs" => number(condition.num_subgraphs),
        _ => None,
    }
}

fn condition_line(condition: &LayerCondition, order: &[&str]) -> String {
    let mut line = String::new();
    for name in order {
        if let Some(value) = attribute(condition, name) {
            if !line.is_empty() {
                line.push('/');
            }
            let _ = write!(line, "{name}:{value}");
        }
    }
    line
}

/// Whether a condition is that of a root layer: nothing calls `USER`.
pub(super) fn is_root(condition: &LayerCondition) -> bool {
    condition.caller.is_none()
        && condition.start_node.as_ref().is_none_or(|node| node.as_str() == USER)
}

/// The prompt of a step: every attribute that the condition has, in random order.
pub fn prompt(condition: &LayerCondition, rng: &mut impl Rng) -> String {
    opened(condition, &FieldOrder::Shuffled.condition(condition, rng))
}

/// A condition line as a prompt. A graph is announced once, before its root layer.
pub(super) fn opened(condition: &LayerCondition, line: &str) -> String {
    let announcement = if is_root(condition) { PROMPT } else { "" };
    format!("{announcement}{line}")
}

/// A training prompt, the attributes of a root layer thinned and in random order. Below, prompts are
/// what answers wrote, so that their attributes are in the answers' order.
pub fn training_prompt(
    condition: &LayerCondition,
    order: FieldOrder,
    rng: &mut impl Rng,
) -> String {
    let known = thinned(condition, rng);
    opened(condition, &order.of_prompt(condition).condition(&known, rng))
}

/// What a training prompt tells of a condition. Of a root layer, which is what a user asks for, each
/// attribute but `id` is kept with probability [`KEEP`], the latency with [`KEEP_LATENCY`]. Prompts
/// of layers below are written by the model itself, complete.
pub(super) fn thinned(condition: &LayerCondition, rng: &mut impl Rng) -> LayerCondition {
    if !is_root(condition) {
        return condition.clone();
    }
    let mut keep = |chance: f64| rng.random_bool(chance);
    LayerCondition {
        service: condition.service.clone(),
        start_node: condition.start_node.clone().filter(|_| keep(KEEP)),
        caller: None,
        num_edges: condition.num_edges.filter(|_| keep(KEEP)),
        remaining_depth: condition.remaining_depth.filter(|_| keep(KEEP)),
        latency: condition.latency.filter(|_| keep(KEEP_LATENCY)),
        start_communication_at: condition.start_communication_at.filter(|_| keep(KEEP)),
        start_edge_id: condition.start_edge_id.filter(|_| keep(KEEP)),
        num_current_edges: condition.num_current_edges.filter(|_| keep(KEEP)),
        num_subgraphs: condition.num_subgraphs.filter(|_| keep(KEEP)),
    }
}

/// The first lines of an answer: a wide layer is split, any other one begins with its edges.
pub fn opening(condition: &LayerCondition) -> &'static str {
    let wide = condition.num_current_edges.is_some_and(|edges| edges as usize > MAX_LAYER_EDGES);
    if wide { "\n<split>\n" } else { "\n<layer>\n<edges>\n" }
}

/// The condition lines of an answer's sub-conditions or parts, as they are written, in order.
pub fn condition_lines(answer: &str) -> impl Iterator<Item = &str> {
    answer.lines().filter_map(|line| {
        let line = line.strip_prefix("<subgraph")?.strip_suffix("</subgraph>")?;
        Some(line.split_once('>')?.1)
    })
}

/// The answer of a step. No field or attribute is left out, because a sub-condition is the prompt of the
/// next step.
pub fn answer(step: &Step, order: FieldOrder, rng: &mut impl Rng) -> String {
    let mut text = String::new();
    match &step.body {
        StepBody::Layer { edges, subgraphs } => {
            text.push_str("\n<layer>\n<edges>\n");
            for edge in edges {
                push_edge(&mut text, edge, order, rng);
            }
            text.push_str("</edges>\n");
            for subgraph in subgraphs {
                push_subgraph(&mut text, subgraph, order, rng);
            }
            text.push_str("</layer>");
        }
        StepBody::Split { parts } => {
            text.push_str("\n<split>\n");
            parts.iter().for_each(|part| push_part(&mut text, part, order, rng));
            text.push_str("</split>");
        }
    }
    text
}

/// The line of a sub-condition.
pub(super) fn push_subgraph(
    text: &mut String,
    subgraph: &Subgraph,
    order: FieldOrder,
    rng: &mut impl Rng,
) {
    let line = order.condition(&subgraph.condition, rng);
    let _ = writeln!(text, "<subgraph of edge_id {}>{line}</subgraph>", subgraph.edge);
}

/// The line of a part of a wide layer.
pub(super) fn push_part(
    text: &mut String,
    part: &LayerCondition,
    order: FieldOrder,
    rng: &mut impl Rng,
) {
    let line = order.condition(part, rng);
    let _ = writeln!(text, "<subgraph>{line}</subgraph>");
}

impl FieldOrder {
    /// Brings fields into this order.
    pub(super) fn arrange<T>(self, fields: &mut [T], rng: &mut impl Rng) {
        if self.is_shuffled() {
            fields.shuffle(rng);
        }
    }

    /// The order of a training prompt: a root layer's comes from a user, in any order.
    pub(super) fn of_prompt(self, condition: &LayerCondition) -> Self {
        if is_root(condition) { Self::Shuffled } else { self }
    }

    /// A condition line.
    pub(super) fn condition(self, condition: &LayerCondition, rng: &mut impl Rng) -> String {
        let mut order = ATTRIBUTES;
        self.arrange(&mut order, rng);
        condition_line(condition, &order)
    }
}

pub(super) fn push_edge(
    text: &mut String,
    edge: &LayerEdge,
    order: FieldOrder,
    rng: &mut impl Rng,
) {
    let mut fields = [
        format!("destination is {}", name::write(&edge.destination)),
        format!("type is {}", edge.kind),
        format!("edge_id is {}", edge.number),
        format!("communication starts at {} milliseconds", edge.start),
        format!("communication finishes at {} milliseconds", edge.finish),
    ];
    order.arrange(&mut fields, rng);
    let _ = writeln!(text, "({})", fields.join(","));
}
