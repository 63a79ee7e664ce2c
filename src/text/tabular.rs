//! Writing and reading the tabular format (paper, section 3; the GReaT-style baseline): a whole graph
//! in one text.

use std::fmt::Write as _;

use rand::{Rng, RngExt, seq::SliceRandom};

use super::parse::{Fields, fields, missing, unreadable};
use super::recursive::{KEEP, PROMPT};
use super::{FieldOrder, name};
use crate::display::quoted;
use crate::graph::{CallGraph, CallRow, Condition, Violation};

/// Words before the counts of a condition.
pub const COUNTED: [&str; 2] = ["num_edges:", "depth:"];

/// The first lines of an answer, given at generation.
pub const OPENING: &str = "\n<edges>\n";

/// Calls of one answer, at most.
const MAX_ROWS: usize = 2_000;

/// The attributes of a condition as `key:value`, the service first.
fn attributes(condition: &Condition) -> Vec<String> {
    let Condition { service, num_edges, depth, latency, .. } = condition;
    let numbers = [("latency", latency), ("num_edges", num_edges), ("depth", depth)];
    let numbers = numbers.iter().filter_map(|(key, value)| value.map(|v| format!("{key}:{v}")));
    std::iter::once(format!("id:{}", name::write(service))).chain(numbers).collect()
}

/// The prompt of a graph, its attributes in a fixed order.
pub fn prompt(condition: &Condition) -> String {
    format!("{PROMPT}{}", attributes(condition).join("/"))
}

/// The prompt of a graph, its attributes in random order.
pub fn shuffled_prompt(condition: &Condition, rng: &mut impl Rng) -> String {
    let mut attributes = attributes(condition);
    attributes.shuffle(rng);
    format!("{PROMPT}{}", attributes.join("/"))
}

/// A training prompt: attributes in random order, each but `id` kept with probability [`KEEP`].
pub fn training_prompt(graph: &CallGraph, rng: &mut impl Rng) -> String {
    let mut keep = || rng.random_bool(KEEP);
    let condition = Condition {
        service: graph.service().clone(),
        num_edges: keep().then(|| graph.num_edges()),
        depth: keep().then(|| graph.depth()),
        latency: keep().then(|| graph.latency()),
        requests: Vec::new(),
    };
    shuffled_prompt(&condition, rng)
}

/// Prompt and answer for training, with the format's random choices: the prompt ends with
/// [`OPENING`], and the answer begins behind it.
pub fn training_text(graph: &CallGraph, order: FieldOrder, rng: &mut impl Rng) -> (String, String) {
    let (prompt, mut answer) = (training_prompt(graph, rng), answer(graph, order, rng));
    let rest = answer.split_off(OPENING.len());
    (prompt + &answer, rest)
}

/// All calls of a graph.
pub fn answer(graph: &CallGraph, order: FieldOrder, rng: &mut impl Rng) -> String {
    let mut text = String::from(OPENING);
    for row in graph.rows() {
        let mut fields = [
            format!("source is {}", name::write(&row.source)),
            format!("destination is {}", name::write(&row.destination)),
            format!("type is {}", row.kind),
            format!("edge_id is {}", row.edge_id),
            format!("communication starts at {} milliseconds", row.start),
            format!("communication finishes at {} milliseconds", row.finish),
        ];
        order.arrange(&mut fields, rng);
        let _ = writeln!(text, "({})", fields.join(","));
    }
    text.push_str("</edges>");
    text
}

/// The calls of an answer; whether they are a graph is for the harness to say.
///
/// # Errors
/// The first thing that does not parse, and the calls before it.
pub fn parse(answer: &str) -> Result<Vec<CallRow>, (Vec<CallRow>, Violation)> {
    let mut rows = Vec::new();
    let mut lines = answer.split('\n');
    for expected in ["", "<edges>"] {
        if lines.next() != Some(expected) {
            return Err((rows, format_error(format!("expected `{expected}` at the start"))));
        }
    }
    for line in lines.by_ref() {
        if line == "</edges>" {
            return match (lines.next(), rows.is_empty()) {
                (None, false) => Ok(rows),
                (None, true) => Err((rows, format_error("the graph has no edges".into()))),
                (Some(more), _) => {
                    Err((rows, format_error(format!("`{}` after the end", quoted(more)))))
                }
            };
        }
        match row(line) {
            Ok(row) if rows.len() < MAX_ROWS => rows.push(row),
            Ok(_) => return Err((rows, format_error(format!("over {MAX_ROWS} edges")))),
            Err(violation) => return Err((rows, violation)),
        }
    }
    Err((rows, format_error("expected `</edges>`, found the end".into())))
}

fn format_error(detail: String) -> Violation {
    super::parse::format(detail)
}

fn row(line: &str) -> Result<CallRow, Violation> {
    let Fields { source, destination, kind, id, start, finish } = fields(line)?;
    let id = id.ok_or_else(|| missing("edge_id"))?;
    Ok(CallRow {
        edge_id: id.parse().map_err(|()| unreadable(&format!("edge_id is {id}")))?,
        source: source.ok_or_else(|| missing("source"))?,
        destination: destination.ok_or_else(|| missing("destination"))?,
        kind: kind.ok_or_else(|| missing("type"))?,
        start: start.ok_or_else(|| missing("start"))?,
        finish: finish.ok_or_else(|| missing("finish"))?,
    })
}
