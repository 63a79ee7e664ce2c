//! A compact writing of the same generation steps: the recursion and the conditions of the paper
//! without its prose, and without what an answer need not repeat.
//!
//! A condition is its values in a fixed order, each behind a sign of one character; an edge is a
//! line; the condition of the layer below stands behind its edge. The service, the start node and
//! the caller of a sub-condition follow from the step and the edge, so they are not written.
//!
//! With remaining counts each line begins with what is left to write: the edges of the layer and, while
//! layers below are owed, their number and calls. It is the paper's scratchpad (section 4.2) without
//! its prose: a sum becomes one subtraction per line, and the last sub-condition a copy.

use std::fmt::Write as _;

use rand::Rng;

use super::name;
use super::parse::{check, format as format_error, name as read_name, number};
use super::recursive::thinned;
use crate::display::quoted;
use crate::graph::{
    CallType, LayerCondition, LayerEdge, MAX_SPLIT_PARTS, Step, StepBody, Subgraph, Violation,
    ViolationCode as Code,
};

/// Signs of the numbers of a condition, in their order.
pub(super) const NUMBERS: [char; 7] = ['e', 'd', 'l', 't', 'b', 'k', 'g'];
/// Signs of service, start node and caller in a prompt.
const NAMES: [char; 3] = ['=', '@', '^'];

/// What is left to write at the beginning of a line of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// Edges of the layer, this line's included.
    pub edges: u32,
    /// Sub-conditions, or edges with children of the parts to come.
    pub subgraphs: u32,
    /// Calls below the layer; `None` where a request leaves the number open.
    pub below: Option<u32>,
    /// Whether one of the sub-conditions or parts must still keep the depth.
    pub deep: bool,
}

/// The beginning of a line: an edge (`sign` is `>`) or a part (`|`).
pub(super) fn line_start(remaining_counts: bool, left: &Left, sign: char) -> String {
    let mut text = String::from("\n");
    if remaining_counts {
        let _ = write!(text, "{}", left.edges);
        if left.subgraphs > 0 {
            let _ = write!(text, "/{}", left.subgraphs);
            if let Some(below) = left.below {
                let _ = write!(text, "/{below}");
            }
            if left.deep {
                text.push('!');
            }
        }
    }
    text.push(sign);
    text
}

/// What becomes a token besides names and bytes. A count up to `most` is one token with its sign, so
/// that counting is a step from token to token, not arithmetic on digits; 0 writes digits.
pub fn phrases(remaining_counts: bool, most: u32) -> Vec<String> {
    let lines: &[&str] =
        if remaining_counts { &[">", "!>", "|e", "!|e", "/"] } else { &["\n>", "}\n>", "\n|e"] };
    let fixed = [",#", ",f", "{e", ",@", ",^"].iter().chain(lines).map(|&text| text.to_owned());
    let numbers = NUMBERS.iter().map(|sign| format!(",{sign}"));
    let types = CallType::ALL.iter().map(|kind| format!(":{kind},#"));
    let counted = (0..=most).filter(|_| most > 0);
    let counts = counted.clone().flat_map(|n| {
        [",e", "{e", "\n|e", ",d", ",b", ",k", ",g"].map(|sign| format!("{sign}{n}"))
    });
    let left = counted.filter(|_| remaining_counts).flat_map(|n| {
        [format!("/{n}"), format!("\n{n}"), format!("\n{n}>"), format!("|e{n}"), format!("!|e{n}")]
    });
    fixed.chain(numbers).chain(types).chain(counts).chain(left).collect()
}

fn numbers(condition: &LayerCondition) -> [Option<u32>; 7] {
    [
        condition.num_edges,
        condition.remaining_depth,
        condition.latency,
        condition.start_communication_at,
        condition.start_edge_id,
        condition.num_current_edges,
        condition.num_subgraphs,
    ]
}

/// The prompt of a step in generation.
pub fn prompt(condition: &LayerCondition) -> String {
    let mut text = String::new();
    let names = [&condition.service, &condition.start_node, &condition.caller];
    for (sign, value) in NAMES.iter().zip(names) {
        if let Some(value) = value {
            let comma = if text.is_empty() { "" } else { "," };
            let _ = write!(text, "{comma}{sign}{}", name::write(value));
        }
    }
    for (sign, value) in NUMBERS.iter().zip(numbers(condition)) {
        if let Some(value) = value {
            let _ = write!(text, ",{sign}{value}");
        }
    }
    text
}

/// A training prompt: attributes of a root layer are dropped as in the prose.
pub fn training_prompt(condition: &LayerCondition, rng: &mut impl Rng) -> String {
    prompt(&thinned(condition, rng))
}

/// The numbers of a sub-condition, without its first sign's comma.
fn push_numbers(text: &mut String, condition: &LayerCondition) {
    for (index, (sign, value)) in NUMBERS.iter().zip(numbers(condition)).enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(text, "{comma}{sign}{}", value.unwrap_or_default());
    }
}

/// The answer of a step, with or without remaining counts.
pub fn answer(step: &Step, remaining_counts: bool) -> String {
    let mut text = String::new();
    match &step.body {
        StepBody::Layer { edges, subgraphs } => {
            let mut left = layer_left(&step.condition, edges.len(), subgraphs);
            for edge in edges {
                let LayerEdge { number, destination, kind, start, finish } = edge;
                let destination = name::write(destination);
                text.push_str(&line_start(remaining_counts, &left, '>'));
                let _ = write!(text, "{destination}:{kind},#{number},t{start},f{finish}");
                left.edges -= 1;
                if let Some(below) = subgraphs.iter().find(|subgraph| subgraph.edge == *number) {
                    text.push('{');
                    push_numbers(&mut text, &below.condition);
                    text.push('}');
                    left.take(1, below.condition.num_edges);
                    let depth = below.condition.remaining_depth.map(|depth| depth + 1);
                    left.deep &= depth != step.condition.remaining_depth;
                }
            }
        }
        StepBody::Split { parts } => {
            let mut left = split_left(parts);
            for part in parts {
                text.push_str(&line_start(remaining_counts, &left, '|'));
                push_numbers(&mut text, part);
                let width = part.num_current_edges.unwrap_or(0);
                left.edges -= width;
                let below = part.num_edges.map(|calls| calls.saturating_sub(width));
                left.take(part.num_subgraphs.unwrap_or(0), below);
                left.deep &= part.remaining_depth != step.condition.remaining_depth;
            }
        }
    }
    text
}

impl Left {
    /// Goes past one line: so many subgraphs fewer are left to come, and so many calls below them.
    fn take(&mut self, subgraphs: u32, calls: Option<u32>) {
        self.subgraphs = self.subgraphs.saturating_sub(subgraphs);
        self.below = self.below.zip(calls).map(|(left, calls)| left.saturating_sub(calls));
    }
}

fn layer_left(condition: &LayerCondition, edges: usize, subgraphs: &[Subgraph]) -> Left {
    let calls = subgraphs.iter().map(|subgraph| subgraph.condition.num_edges.unwrap_or(0));
    Left {
        edges: edges as u32,
        subgraphs: subgraphs.len() as u32,
        below: Some(calls.sum()),
        deep: condition.remaining_depth.is_some(),
    }
}

fn split_left(parts: &[LayerCondition]) -> Left {
    let sum = |value: fn(&LayerCondition) -> Option<u32>| parts.iter().filter_map(value).sum();
    let edges: u32 = sum(|part| part.num_current_edges);
    let calls: u32 = sum(|part| part.num_edges);
    Left {
        edges,
        subgraphs: sum(|part| part.num_subgraphs),
        below: Some(calls.saturating_sub(edges)),
        deep: true,
    }
}

/// The step that `answer` describes, if it is one and keeps to `condition`, as [`super::parse::parse`] checks it.
///
/// # Errors
/// A text that does not parse: the first thing wrong with it. A text that parses: everything that is
/// wrong with it.
pub fn parse(
    condition: &LayerCondition,
    answer: &str,
    remaining_counts: bool,
) -> Result<StepBody, Vec<Violation>> {
    check(condition, grammar(condition, answer, remaining_counts))
}

/// The step that `answer` describes. What is not written comes from the condition; what remaining counts
/// say is not checked.
///
/// # Errors
/// The first thing that does not parse.
fn grammar(
    condition: &LayerCondition,
    answer: &str,
    remaining_counts: bool,
) -> Result<StepBody, Violation> {
    let mut lines = answer.split('\n');
    if lines.next() != Some("") {
        return Err(format_error("an answer begins with a line break"));
    }
    let (mut edges, mut subgraphs, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        let counted = |c: char| remaining_counts && (c.is_ascii_digit() || c == '/' || c == '!');
        let line = line.trim_start_matches(counted);
        if let Some(line) = line.strip_prefix('>') {
            let (edge, below) = match line.split_once('{') {
                Some((edge, below)) => (edge, Some(below)),
                None => (line, None),
            };
            let edge = read_edge(edge)?;
            if let Some(below) = below {
                let unclosed = || format_error(format!("`}}` is missing in `{}`", quoted(below)));
                let numbers = below.strip_suffix('}').ok_or_else(unclosed)?;
                let below = LayerCondition {
                    service: condition.service.clone(),
                    start_node: Some(edge.destination.clone()),
                    caller: condition.start_node.clone(),
                    ..read_numbers(numbers)?
                };
                subgraphs.push(Subgraph { edge: edge.number, condition: below });
            }
            edges.push(edge);
        } else if let Some(line) = line.strip_prefix('|') {
            parts.push(LayerCondition {
                service: condition.service.clone(),
                start_node: condition.start_node.clone(),
                caller: condition.caller.clone(),
                ..read_numbers(line)?
            });
        } else {
            return Err(format_error(format!("`{}` is neither edge nor part", quoted(line))));
        }
    }
    match (edges.is_empty(), parts.is_empty()) {
        (false, true) => Ok(StepBody::Layer { edges, subgraphs }),
        (true, false) if parts.len() <= MAX_SPLIT_PARTS => Ok(StepBody::Split { parts }),
        (true, false) => Err(format_error(format!("a split of {} parts", parts.len()))),
        (true, true) => Err(format_error("the layer has no edges")),
        (false, false) => Err(format_error("edges and parts in one answer")),
    }
}

fn read_edge(text: &str) -> Result<LayerEdge, Violation> {
    let wrong = |what: &str| {
        Violation::new(Code::EdgeField, format!("cannot read the {what} of `{}`", quoted(text)))
    };
    // The type is behind the last colon: names may have colons.
    let (call, times) = text.split_once(",#").ok_or_else(|| wrong("edge_id"))?;
    let (destination, kind) = call.rsplit_once(':').ok_or_else(|| wrong("type"))?;
    let (id, times) = times.split_once(",t").ok_or_else(|| wrong("start"))?;
    let (start, finish) = times.split_once(",f").ok_or_else(|| wrong("finish"))?;
    Ok(LayerEdge {
        number: number(id).ok_or_else(|| wrong("edge_id"))?,
        destination: read_name(destination).ok_or_else(|| wrong("destination"))?,
        kind: kind.parse().map_err(|()| wrong("type"))?,
        start: number(start).ok_or_else(|| wrong("start"))?,
        finish: number(finish).ok_or_else(|| wrong("finish"))?,
    })
}

fn read_numbers(text: &str) -> Result<LayerCondition, Violation> {
    let mut values = [0; NUMBERS.len()];
    let mut fields = text.split(',');
    for (sign, value) in NUMBERS.iter().zip(&mut values) {
        let field = fields.next().and_then(|field| field.strip_prefix(*sign));
        let wrong = || format_error(format!("cannot read `{sign}` of `{}`", quoted(text)));
        *value = field.and_then(number).ok_or_else(wrong)?;
    }
    if fields.next().is_some() {
        return Err(format_error(format!("more than a condition in `{}`", quoted(text))));
    }
    let [edges, depth, latency, start, first, current, subgraphs] = values.map(Some);
    Ok(LayerCondition {
        num_edges: edges,
        remaining_depth: depth,
        latency,
        start_communication_at: start,
        start_edge_id: first,
        num_current_edges: current,
        num_subgraphs: subgraphs,
        ..LayerCondition::default()
    })
}
