//! Writing the recursive format as an instruction (paper, section 3, "Recursive + instruction"): the
//! prompt says what is wanted as attributes and in words, and the answer works out the numbers of the
//! sub-conditions between its blocks.
//!
//! A line that begins with [`NOTE`] is such an intermediate instruction. Notes help the model; they are
//! no part of the layer, so reading skips them.

use std::fmt::Write as _;

use rand::{Rng, seq::SliceRandom};

use super::name;
use super::recursive::{self, push_edge, push_part, push_subgraph, shuffled, thinned};
use crate::graph::{Communication, LayerCondition, LayerEdge, Request, Step, StepBody, Subgraph};

/// Opens every prompt.
const SYSTEM: &str =
    "Write one layer of a microservice call graph that meets the requirements and conditions.";

/// Opens an intermediate instruction.
pub const NOTE: &str = "- ";

/// The prompt of a step in generation: attributes and sentences in a fixed order.
pub fn prompt(condition: &LayerCondition, requests: &[Request]) -> String {
    write(&recursive::prompt(condition), &sentences(condition, requests))
}

/// Prompt and answer for training. Each attribute but the service is kept with probability 0.9, and
/// what is dropped appears neither in the conditions nor in the notes of the answer.
pub fn training_text(
    step: &Step,
    requests: &[Request],
    notes: bool,
    rng: &mut impl Rng,
) -> (String, String) {
    let mut known = thinned(&step.condition, rng);
    if requests.contains(&Request::HighLatency) {
        // Otherwise the number would say what the words ask for.
        known.latency = None;
    }
    let mut sentences = sentences(&known, requests);
    sentences.shuffle(rng);
    let line = format!("{}{}", recursive::PROMPT, shuffled(&known, rng));
    (write(&line, &sentences), answer(step, &known, notes, rng))
}

fn write(requirements: &str, conditions: &[String]) -> String {
    let mut text = format!("{SYSTEM}\nRequirements:\n{requirements}\nConditions:");
    for condition in conditions {
        let _ = write!(text, "\n- {condition}");
    }
    text
}

/// The condition and the requests in words.
fn sentences(condition: &LayerCondition, requests: &[Request]) -> Vec<String> {
    let mut sentences = vec!["Each edge finishes no earlier than it starts".to_owned()];
    if let Some(id) = condition.start_edge_id {
        sentences.push(format!("The first edge_id is {id}"));
    }
    if let Some(edges) = condition.num_current_edges {
        sentences.push(format!("The number of edges in this layer is {edges}"));
    }
    if let Some(start) = condition.start_communication_at {
        sentences.push(format!("The first edge starts at {start} milliseconds"));
    }
    if let Some(latency) = condition.latency {
        sentences.push(format!("No edge starts after {latency} milliseconds"));
        sentences.push(format!("Each edge finishes by {latency} milliseconds"));
    }
    if let Some(node) = &condition.start_node {
        let node = name::write(node);
        sentences.push(format!("Copy the caller of each subgraph from start_node:{node}"));
    }
    if let Some(subgraphs) = condition.num_subgraphs {
        sentences.push(format!("The number of edges with a subgraph is {subgraphs}"));
    }
    if let Some(edges) = condition.num_edges {
        sentences.push(format!("The edges of this layer and of its subgraphs add up to {edges}"));
    }
    if let Some(depth) = condition.remaining_depth.filter(|depth| *depth > 0) {
        sentences.push(format!("The deepest subgraph has remaining_depth {}", depth - 1));
    }
    sentences.extend(requests.iter().map(request));
    sentences
}

fn request(request: &Request) -> String {
    match request {
        Request::HighLatency => "Build a call graph with high latency".to_owned(),
        Request::Communication(Communication { source, destination, kind }) => format!(
            "Include an edge whose source is {},destination is {},type is {kind}",
            name::write(source),
            name::write(destination)
        ),
    }
}

fn answer(step: &Step, known: &LayerCondition, notes: bool, rng: &mut impl Rng) -> String {
    let mut text = String::from("\n<layer>\n");
    match &step.body {
        StepBody::Layer { edges, subgraphs } => {
            text.push_str("<edges>\n");
            edges.iter().for_each(|edge| push_edge(&mut text, edge, rng));
            text.push_str("</edges>\n");
            let mut pad = notes.then(|| Scratchpad::layer(&mut text, edges, known));
            for subgraph in subgraphs {
                if let Some(pad) = &pad {
                    pad.before_subgraph(&mut text, edges, subgraph);
                }
                push_subgraph(&mut text, subgraph, rng);
                if let Some(pad) = &mut pad {
                    pad.take(&mut text, &subgraph.condition);
                }
            }
        }
        StepBody::Split { parts } => {
            text.push_str("<split>\n");
            let mut pad = notes.then(|| Scratchpad::split(known));
            for part in parts {
                push_part(&mut text, part, rng);
                if let Some(pad) = &mut pad {
                    pad.take(&mut text, part);
                }
            }
            text.push_str("</split>\n");
        }
    }
    if notes {
        let _ = writeln!(text, "{FINISH}");
    }
    text.push_str("</layer>");
    text
}

/// The last note of an answer.
pub(super) const FINISH: &str = "- finish generation";

/// The running counts of an answer's notes. A count that the prompt does not give is not written.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratchpad {
    /// Edges of the step and below that no block accounts for yet.
    edges: Option<u32>,
    /// In a split: edges of the layer that no part has yet.
    current: Option<u32>,
    remaining_depth: Option<u32>,
}

impl Scratchpad {
    /// Writes the notes behind the edges of a layer.
    pub fn layer(text: &mut String, edges: &[LayerEdge], known: &LayerCondition) -> Self {
        let count = edges.len() as u32;
        if let (Some(first), Some(last)) = (edges.first(), edges.last())
            && last.number.checked_sub(first.number) == Some(count - 1)
        {
            let (first, last) = (first.number, last.number);
            let _ = writeln!(text, "- edges generated = {last} - {first} + 1 = {count}");
        } else {
            let _ = writeln!(text, "- edges generated = {count}");
        }
        let edges = known.num_edges.and_then(|total| {
            let rest = total.checked_sub(count)?;
            let _ = writeln!(text, "- {count} edges generated out of num_edges:{total}");
            let _ = writeln!(text, "- remaining edges = {total} - {count} = {rest}");
            Some(rest)
        });
        Self { edges, current: None, remaining_depth: known.remaining_depth }
    }

    pub fn split(known: &LayerCondition) -> Self {
        let LayerCondition { num_edges, num_current_edges, .. } = known;
        Self { edges: *num_edges, current: *num_current_edges, remaining_depth: None }
    }

    /// Writes the note before the sub-condition of an edge.
    fn before_subgraph(&self, text: &mut String, edges: &[LayerEdge], subgraph: &Subgraph) {
        let _ = write!(text, "- subgraph of edge_id {}", subgraph.edge);
        match edges.iter().find(|edge| edge.number == subgraph.edge) {
            Some(edge) => self.about_subgraph(text, edge),
            None => text.push('\n'),
        }
    }

    /// The rest of that note, after the number of the edge.
    pub fn about_subgraph(&self, text: &mut String, edge: &LayerEdge) {
        let _ = write!(text, ",copy start_node:{}", name::write(&edge.destination));
        if let Some(rest) = self.edges {
            let _ = write!(text, ",num_edges at most {rest}");
        }
        if let Some(depth) = self.remaining_depth
            && let Some(below) = depth.checked_sub(1)
        {
            let _ = write!(text, ",remaining_depth at most {depth} - 1 = {below}");
        }
        text.push('\n');
    }

    /// Takes a sub-condition or part into account and writes the notes behind it.
    pub fn take(&mut self, text: &mut String, below: &LayerCondition) {
        let counts = [
            (&mut self.edges, below.num_edges, "remaining edges"),
            (&mut self.current, below.num_current_edges, "remaining edges of the layer"),
        ];
        for (count, taken, what) in counts {
            if let (Some(before), Some(taken)) = (*count, taken) {
                *count = before.checked_sub(taken);
                if let Some(rest) = *count {
                    let _ = writeln!(text, "- {what} = {before} - {taken} = {rest}");
                }
            }
        }
    }
}
