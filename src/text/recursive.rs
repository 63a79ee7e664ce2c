//! Writing the recursive format (paper, section 3): one generation step as a prompt and an answer.
//!
//! The prompt is the condition line; the answer is everything after it, from the line break on.
//! They are tokenised apart, so a prompt's tokens are the same in training and in generation.

use std::fmt::Write as _;

use rand::{Rng, RngExt, seq::SliceRandom};

use super::name;
use crate::graph::{LayerCondition, LayerEdge, Name, Step, StepBody, Subgraph};

/// Opens every condition line.
pub const PROMPT: &str = "[GENERATE GRAPH]";

/// Probability with which an attribute other than `id` stays in a training prompt.
pub const KEEP: f64 = 0.9;

/// Attributes of a condition line, in the order in which generation prompts list them.
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

/// The prompt of a step in generation: every attribute that the condition has, in a fixed order.
pub fn prompt(condition: &LayerCondition) -> String {
    format!("{PROMPT}{}", condition_line(condition, &ATTRIBUTES))
}

/// A training prompt: attributes in random order, each but `id` kept with probability [`KEEP`].
pub fn training_prompt(condition: &LayerCondition, rng: &mut impl Rng) -> String {
    format!("{PROMPT}{}", shuffled(&thinned(condition, rng), rng))
}

/// The condition with each attribute but `id` kept with probability [`KEEP`].
pub(super) fn thinned(condition: &LayerCondition, rng: &mut impl Rng) -> LayerCondition {
    let mut keep = || rng.random_bool(KEEP);
    LayerCondition {
        service: condition.service.clone(),
        start_node: condition.start_node.clone().filter(|_| keep()),
        caller: condition.caller.clone().filter(|_| keep()),
        num_edges: condition.num_edges.filter(|_| keep()),
        remaining_depth: condition.remaining_depth.filter(|_| keep()),
        latency: condition.latency.filter(|_| keep()),
        start_communication_at: condition.start_communication_at.filter(|_| keep()),
        start_edge_id: condition.start_edge_id.filter(|_| keep()),
        num_current_edges: condition.num_current_edges.filter(|_| keep()),
        num_subgraphs: condition.num_subgraphs.filter(|_| keep()),
    }
}

/// The answer of a step. Fields and attributes come in random order; none is left out, because a
/// sub-condition is the prompt of the next step (the paper does not say whether it drops any).
pub fn answer(step: &Step, rng: &mut impl Rng) -> String {
    let mut text = String::from("\n<layer>\n");
    match &step.body {
        StepBody::Layer { edges, subgraphs } => {
            text.push_str("<edges>\n");
            for edge in edges {
                push_edge(&mut text, edge, rng);
            }
            text.push_str("</edges>\n");
            subgraphs.iter().for_each(|subgraph| push_subgraph(&mut text, subgraph, rng));
        }
        StepBody::Split { parts } => {
            text.push_str("<split>\n");
            parts.iter().for_each(|part| push_part(&mut text, part, rng));
            text.push_str("</split>\n");
        }
    }
    text.push_str("</layer>");
    text
}

/// The line of a sub-condition.
pub(super) fn push_subgraph(text: &mut String, subgraph: &Subgraph, rng: &mut impl Rng) {
    let line = shuffled(&subgraph.condition, rng);
    let _ = writeln!(text, "<subgraph of edge_id {}>{line}</subgraph>", subgraph.edge);
}

/// The line of a part of a wide layer.
pub(super) fn push_part(text: &mut String, part: &LayerCondition, rng: &mut impl Rng) {
    let line = shuffled(part, rng);
    let _ = writeln!(text, "<subgraph>{line}</subgraph>");
}

pub(super) fn shuffled(condition: &LayerCondition, rng: &mut impl Rng) -> String {
    let mut order = ATTRIBUTES;
    order.shuffle(rng);
    condition_line(condition, &order)
}

pub(super) fn push_edge(text: &mut String, edge: &LayerEdge, rng: &mut impl Rng) {
    let mut fields = [
        format!("destination is {}", name::write(&edge.destination)),
        format!("type is {}", edge.kind),
        format!("edge_id is {}", edge.number),
        format!("communication starts at {} milliseconds", edge.start),
        format!("communication finishes at {} milliseconds", edge.finish),
    ];
    fields.shuffle(rng);
    let _ = writeln!(text, "({})", fields.join(","));
}
