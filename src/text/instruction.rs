//! Writing the recursive format as an instruction (paper, section 3, "Recursive + instruction"): the
//! prompt says what is wanted as attributes and in words, and the answer works out the numbers of the
//! sub-conditions between its blocks.
//!
//! A line that begins with [`NOTE`] is such an intermediate instruction. Notes help the model; they are
//! no part of the layer, so reading skips them. Counts are written with their keys wherever they
//! occur (`num_edges:7`), so that what is a copy is a copy of tokens.

use std::fmt::Write as _;

use rand::{Rng, RngExt, seq::SliceRandom};

use super::recursive::{self, KEEP, is_root, push_edge, push_part, push_subgraph, thinned};
use super::{FieldOrder, name};
use crate::graph::{
    Communication, LayerCondition, LayerEdge, MAX_LAYER_EDGES, Request, Step, StepBody, Subgraph,
};

/// Opens every prompt.
const SYSTEM: &str =
    "Write one layer of a microservice call graph that meets the requirements and conditions.";

/// Opens an intermediate instruction.
pub const NOTE: &str = "- ";

/// Words before counts: those of conditions and the signs of sums.
pub const COUNTED: [&str; 10] = {
    let [edges, depth, current, subgraphs, first, number, edge] = recursive::COUNTED;
    [edges, depth, current, subgraphs, first, number, edge, " = ", " - ", " + "]
};

/// The prompt of a step in generation: the condition line as the step above wrote it, or in random
/// order, and all sentences in random order.
pub fn prompt(
    condition: &LayerCondition,
    written: Option<&str>,
    requests: &[Request],
    rng: &mut impl Rng,
) -> String {
    let line =
        written.map_or_else(|| FieldOrder::Shuffled.condition(condition, rng), str::to_owned);
    let mut conditions = sentences(condition);
    conditions.extend(requests.iter().map(request));
    write(&line, conditions, rng)
}

/// Prompt and answer for training. What is dropped from the condition appears neither in the prompt's
/// sentences nor in the notes of the answer; each sentence is kept with probability [`KEEP`], requests
/// always.
pub fn training_text(
    step: &Step,
    requests: &[Request],
    notes: bool,
    order: FieldOrder,
    rng: &mut impl Rng,
) -> (String, String) {
    let mut known = thinned(&step.condition, rng);
    if requests.contains(&Request::HighLatency) {
        // Otherwise the number would say what the words ask for.
        known.latency = None;
    }
    let mut conditions = sentences(&known);
    conditions.retain(|_| rng.random_bool(KEEP));
    conditions.extend(requests.iter().map(request));
    let line = order.of_prompt(&step.condition).condition(&known, rng);
    (write(&line, conditions, rng), answer(step, &known, notes, order, rng))
}

fn write(requirements: &str, mut conditions: Vec<String>, rng: &mut impl Rng) -> String {
    conditions.shuffle(rng);
    let mut text = format!("{SYSTEM}\nRequirements:\n{requirements}\nConditions:");
    for condition in conditions {
        let _ = write!(text, "\n{NOTE}{condition}");
    }
    text
}

/// The condition in words. Of a root layer, which is what a user asks for, they also say what is open.
fn sentences(condition: &LayerCondition) -> Vec<String> {
    let node = condition.start_node.as_ref().map(|node| name::write(node));
    if let Some(edges) = condition.num_current_edges
        && edges as usize > MAX_LAYER_EDGES
    {
        let mut sentences = vec![
            format!("num_current_edges:{edges} is too many for one layer,split it into parts"),
            "The latency of a part is at most that of the layer".to_owned(),
            "Each part starts no later than its latency".to_owned(),
        ];
        sentences.extend(node.map(|node| format!("Copy to each part start_node:{node}")));
        return sentences;
    }
    let mut sentences = vec!["Each edge finishes no earlier than it starts".to_owned()];
    sentences.extend(
        node.map(|node| format!("Copy the caller of each subgraph from start_node:{node}")),
    );
    if let Some(id) = condition.start_edge_id {
        sentences.push(format!("The first edge has start_edge_id:{id}"));
    }
    if let Some(edges) = condition.num_current_edges {
        sentences.push(format!("Write as many edges as num_current_edges:{edges}"));
    }
    if let Some(start) = condition.start_communication_at {
        sentences.push(format!("The first edge starts at {start} milliseconds"));
    }
    if let Some(latency) = condition.latency {
        sentences.push(format!("No edge starts after {latency} milliseconds"));
        sentences.push(format!("Each edge finishes by {latency} milliseconds"));
    }
    if is_root(condition) {
        let open = [
            (condition.num_edges.is_none(), "The total of edges is open"),
            (condition.remaining_depth.is_none(), "The depth is open"),
            (condition.num_subgraphs.is_none(), "Write a subgraph where one is needed"),
        ];
        sentences.extend(open.iter().filter(|(open, _)| *open).map(|(_, words)| (*words).into()));
    } else if let Some(subgraphs) = condition.num_subgraphs {
        sentences.push(match subgraphs {
            0 => "No edge has a subgraph".to_owned(),
            _ => format!("Write as many subgraphs as num_subgraphs:{subgraphs}"),
        });
    }
    sentences
}

fn request(request: &Request) -> String {
    match request {
        Request::HighLatency => "The latency of the call graph is high for its service".to_owned(),
        Request::Communication(Communication { source, destination, kind }) => format!(
            "Include an edge whose source is {},destination is {},type is {kind}",
            name::write(source),
            name::write(destination)
        ),
    }
}

fn answer(
    step: &Step,
    known: &LayerCondition,
    notes: bool,
    order: FieldOrder,
    rng: &mut impl Rng,
) -> String {
    let mut text = String::from(recursive::opening(&step.condition));
    let end = match &step.body {
        StepBody::Layer { edges, subgraphs } => {
            edges.iter().for_each(|edge| push_edge(&mut text, edge, order, rng));
            text.push_str("</edges>\n");
            let mut pad = notes.then(|| Scratchpad::layer(&mut text, edges, known));
            if notes && !subgraphs.is_empty() {
                plan(&mut text, subgraphs);
            }
            for subgraph in subgraphs {
                if let Some(pad) = &pad {
                    pad.before_subgraph(&mut text, edges, subgraph);
                }
                push_subgraph(&mut text, subgraph, order, rng);
                if let Some(pad) = &mut pad {
                    pad.take(&mut text, &subgraph.condition);
                }
            }
            "</layer>"
        }
        StepBody::Split { parts } => {
            let mut pad = notes.then(|| Scratchpad::split(known));
            for part in parts {
                push_part(&mut text, part, order, rng);
                if let Some(pad) = &mut pad {
                    pad.take(&mut text, part);
                }
            }
            "</split>"
        }
    };
    if notes {
        let _ = writeln!(text, "{FINISH}");
    }
    text.push_str(end);
    text
}

/// The note that names the edges with sub-conditions, before the first of them.
fn plan(text: &mut String, subgraphs: &[Subgraph]) {
    let edges: Vec<String> =
        subgraphs.iter().map(|below| format!("edge_id {}", below.edge)).collect();
    let _ = writeln!(text, "{PLAN}{}", edges.join(","));
}

/// Opens the plan.
pub(super) const PLAN: &str = "- subgraphs of ";

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
            let _ = writeln!(text, "- edges = {last} - {first} + 1 = {count}");
        } else {
            let _ = writeln!(text, "- edges = {count}");
        }
        let mut pad =
            Self { edges: known.num_edges, current: None, remaining_depth: known.remaining_depth };
        subtract(text, &mut pad.edges, Some(count), "num_edges");
        pad
    }

    pub fn split(known: &LayerCondition) -> Self {
        let LayerCondition { num_edges, num_current_edges, .. } = known;
        Self { edges: *num_edges, current: *num_current_edges, remaining_depth: None }
    }

    /// Writes the note before the sub-condition of an edge.
    fn before_subgraph(&self, text: &mut String, edges: &[LayerEdge], subgraph: &Subgraph) {
        if let Some(edge) = edges.iter().find(|edge| edge.number == subgraph.edge) {
            self.about_subgraph(text, edge);
            let below = subgraph.condition.remaining_depth.map(|depth| depth + 1);
            text.push_str(
                &self.depth_note().filter(|_| below == self.remaining_depth).unwrap_or_default(),
            );
            text.push('\n');
        }
    }

    /// That note without its last part, [`Self::depth_note`], and the line break.
    pub fn about_subgraph(&self, text: &mut String, edge: &LayerEdge) {
        let LayerEdge { number, destination, .. } = edge;
        let _ = write!(text, "- edge_id {number},copy start_node:{}", name::write(destination));
        if let Some(rest) = self.edges {
            let _ = write!(text, ",at most num_edges:{rest}");
        }
    }

    /// What the note before a sub-condition says if it keeps the depth.
    pub fn depth_note(&self) -> Option<String> {
        let depth = self.remaining_depth?;
        let below = depth.checked_sub(1)?;
        Some(format!(",remaining_depth:{depth} - 1 = remaining_depth:{below}"))
    }

    /// Takes a sub-condition or part into account and writes the notes behind it.
    pub fn take(&mut self, text: &mut String, below: &LayerCondition) {
        subtract(text, &mut self.edges, below.num_edges, "num_edges");
        subtract(text, &mut self.current, below.num_current_edges, "num_current_edges");
    }
}

/// Takes a number off a running count, if both are known, and notes what remains.
fn subtract(text: &mut String, count: &mut Option<u32>, taken: Option<u32>, key: &str) {
    let (Some(before), Some(taken)) = (*count, taken) else { return };
    *count = before.checked_sub(taken);
    if let Some(rest) = *count {
        let _ = writeln!(text, "- remaining {key}:{before} - {taken} = {key}:{rest}");
    }
}
