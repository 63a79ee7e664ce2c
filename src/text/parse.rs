//! Reading answers in the recursive format, strictly: the checks of the paper's appendix C
//! (section 5 of our specification), every failure with its code.

use std::collections::HashSet;

use super::instruction::NOTE;
use super::recursive::ATTRIBUTES;
use crate::display::quoted;
use crate::graph::ViolationCode as Code;
use crate::graph::{
    CallType, LayerCondition, LayerEdge, MAX_SPLIT_PARTS, Name, StepBody, Subgraph, Violation,
};

/// Longest name of a service or microservice that is accepted, bytes.
const MAX_NAME: usize = 256;

/// The step that `answer` describes, if it is one and keeps to `condition`.
///
/// Attributes that the condition lacks are not checked. Edge ids need not be consecutive, only
/// distinct. A sub-condition's `id` is not compared with the condition's (the paper does not).
///
/// With `notes`, intermediate instructions ([`NOTE`]) may stand between the blocks; what they say is
/// not checked.
///
/// # Errors
/// A text that does not parse: the first thing wrong with it. A text that parses: everything that
/// is wrong with it, in the order of section 5.
pub fn parse(
    condition: &LayerCondition,
    answer: &str,
    notes: bool,
) -> Result<StepBody, Vec<Violation>> {
    check(condition, grammar(answer, notes))
}

/// Checks a step that was read against its condition.
pub(super) fn check(
    condition: &LayerCondition,
    body: Result<StepBody, Violation>,
) -> Result<StepBody, Vec<Violation>> {
    let body = body.map_err(|violation| vec![violation])?;
    let mut found = Vec::new();
    match &body {
        StepBody::Layer { edges, subgraphs } => {
            check_edges(condition, edges, &mut found);
            check_subgraphs(condition, edges, subgraphs, &mut found);
        }
        StepBody::Split { parts } => check_split(condition, parts, &mut found),
    }
    if found.is_empty() { Ok(body) } else { Err(found) }
}

pub(super) fn format(detail: impl Into<String>) -> Violation {
    Violation::new(Code::Format, detail)
}

/// Lines of an answer, read one after the other.
struct Lines<'a>(std::iter::Peekable<std::vec::IntoIter<&'a str>>);

impl<'a> Lines<'a> {
    fn expect(&mut self, line: &str) -> Result<(), Violation> {
        match self.0.next() {
            Some(found) if found == line => Ok(()),
            Some(found) => Err(format(format!("expected `{line}`, found `{}`", quoted(found)))),
            None => Err(format(format!("expected `{line}`, found the end"))),
        }
    }

    /// Takes the next line if it is `line`.
    fn take(&mut self, line: &str) -> bool {
        self.0.next_if_eq(&line).is_some()
    }

    /// Takes the next line if it starts with `start`.
    fn starting(&mut self, start: &str) -> Option<&'a str> {
        self.0.next_if(|line| line.starts_with(start))
    }
}

fn grammar(answer: &str, notes: bool) -> Result<StepBody, Violation> {
    let lines = answer.split('\n').filter(|line| !(notes && line.starts_with(NOTE)));
    let mut lines = Lines(lines.collect::<Vec<_>>().into_iter().peekable());
    lines.expect("")?;
    let (body, end) = if lines.take("<split>") {
        let mut parts = Vec::new();
        while let Some(line) = lines.starting("<subgraph>") {
            parts.push(condition_of(&line["<subgraph>".len()..])?);
        }
        if parts.len() > MAX_SPLIT_PARTS {
            return Err(format(format!("a split of {} parts", parts.len())));
        }
        (StepBody::Split { parts }, "</split>")
    } else {
        lines.expect("<layer>")?;
        lines.expect("<edges>")?;
        let mut edges = Vec::new();
        while let Some(line) = lines.starting("(") {
            edges.push(edge(line)?);
        }
        lines.expect("</edges>")?;
        let mut subgraphs = Vec::new();
        while let Some(line) = lines.starting("<subgraph of edge_id ") {
            let rest = &line["<subgraph of edge_id ".len()..];
            let (edge, rest) = rest.split_once('>').ok_or_else(|| format("`>` is missing"))?;
            let edge = number(edge).ok_or_else(|| format(format!("edge_id `{}`", quoted(edge))))?;
            subgraphs.push(Subgraph { edge, condition: condition_of(rest)? });
        }
        if edges.is_empty() {
            return Err(format("the layer has no edges"));
        }
        (StepBody::Layer { edges, subgraphs }, "</layer>")
    };
    lines.expect(end)?;
    match lines.0.next() {
        None => Ok(body),
        Some(more) => Err(format(format!("`{}` after the end of the layer", quoted(more)))),
    }
}

/// Plain decimal digits, no sign, no leading zero.
pub(super) fn number(text: &str) -> Option<u32> {
    let plain =
        text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

pub(super) fn name(text: &str) -> Option<Name> {
    let plain = !text.is_empty() && text.len() <= MAX_NAME;
    // U+FFFD stands for bytes of the answer that are not UTF-8.
    let plain = plain && !text.contains('\u{fffd}');
    super::name::read(text).filter(|_| plain).map(|name| Name::from(&*name))
}

/// The fields of an edge in brackets, each at most once.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub source: Option<Name>,
    pub destination: Option<Name>,
    pub kind: Option<CallType>,
    pub id: Option<&'a str>,
    pub start: Option<u32>,
    pub finish: Option<u32>,
}

fn edge_field(detail: String) -> Violation {
    Violation::new(Code::EdgeField, detail)
}

/// An edge lacks a field.
pub(super) fn missing(name: &str) -> Violation {
    edge_field(format!("an edge lacks its {name}"))
}

/// A field of an edge cannot be read.
pub(super) fn unreadable(field: &str) -> Violation {
    edge_field(format!("cannot read `{}`", quoted(field)))
}

pub(super) fn fields(line: &str) -> Result<Fields<'_>, Violation> {
    let inner = line
        .strip_prefix('(')
        .and_then(|line| line.strip_suffix(')'))
        .ok_or_else(|| format(format!("`{}` is not an edge in brackets", quoted(line))))?;
    let mut fields = Fields::default();
    for field in inner.split(',') {
        fn set<T>(place: &mut Option<T>, value: Option<T>, field: &str) -> Result<(), Violation> {
            let value = value.ok_or_else(|| unreadable(field))?;
            match place.replace(value) {
                Some(_) => Err(edge_field(format!("`{}` is a second value", quoted(field)))),
                None => Ok(()),
            }
        }
        let milliseconds = |text: &str| text.strip_suffix(" milliseconds").and_then(number);
        if let Some(value) = field.strip_prefix("destination is ") {
            set(&mut fields.destination, name(value), field)?;
        } else if let Some(value) = field.strip_prefix("source is ") {
            set(&mut fields.source, name(value), field)?;
        } else if let Some(value) = field.strip_prefix("type is ") {
            set(&mut fields.kind, value.parse().ok(), field)?;
        } else if let Some(value) = field.strip_prefix("edge_id is ") {
            set(&mut fields.id, Some(value), field)?;
        } else if let Some(value) = field.strip_prefix("communication starts at ") {
            set(&mut fields.start, milliseconds(value), field)?;
        } else if let Some(value) = field.strip_prefix("communication finishes at ") {
            set(&mut fields.finish, milliseconds(value), field)?;
        } else {
            return Err(unreadable(field));
        }
    }
    Ok(fields)
}

/// An edge of a layer: it has no source, and its id is one number.
fn edge(line: &str) -> Result<LayerEdge, Violation> {
    let Fields { source, destination, kind, id, start, finish } = fields(line)?;
    if source.is_some() {
        return Err(edge_field("an edge of a layer has no source".into()));
    }
    let id = id.ok_or_else(|| missing("edge_id"))?;
    Ok(LayerEdge {
        number: number(id).ok_or_else(|| unreadable(&format!("edge_id is {id}")))?,
        destination: destination.ok_or_else(|| missing("destination"))?,
        kind: kind.ok_or_else(|| missing("type"))?,
        start: start.ok_or_else(|| missing("start"))?,
        finish: finish.ok_or_else(|| missing("finish"))?,
    })
}

/// A complete condition line up to `</subgraph>`.
fn condition_of(text: &str) -> Result<LayerCondition, Violation> {
    let line =
        text.strip_suffix("</subgraph>").ok_or_else(|| format("`</subgraph>` is missing"))?;
    let mut condition = LayerCondition::default();
    let mut seen = HashSet::new();
    for attribute in line.split('/') {
        let unreadable = || format(format!("cannot read the attribute `{}`", quoted(attribute)));
        let (key, value) = attribute.split_once(':').ok_or_else(unreadable)?;
        if !seen.insert(key) {
            return Err(format(format!("a sub-condition has `{}` twice", quoted(key))));
        }
        let number = || number(value).map(Some).ok_or_else(unreadable);
        let name = || name(value).map(Some).ok_or_else(unreadable);
        match key {
            "id" => condition.service = name()?,
            "start_node" => condition.start_node = name()?,
            "caller" => condition.caller = name()?,
            "num_edges" => condition.num_edges = number()?,
            "remaining_depth" => condition.remaining_depth = number()?,
            "latency" => condition.latency = number()?,
            "start_communication_at" => condition.start_communication_at = number()?,
            "start_edge_id" => condition.start_edge_id = number()?,
            "num_current_edges" => condition.num_current_edges = number()?,
            "num_subgraphs" => condition.num_subgraphs = number()?,
            _ => return Err(unreadable()),
        }
    }
    match ATTRIBUTES.into_iter().find(|name| !seen.contains(name)) {
        None => Ok(condition),
        Some(missing) => Err(format(format!("a sub-condition lacks `{missing}`"))),
    }
}

fn check_edges(condition: &LayerCondition, edges: &[LayerEdge], found: &mut Vec<Violation>) {
    let mut add = |code: Code, detail: String| found.push(Violation::new(code, detail));
    if let Some(expected) = condition.num_current_edges
        && expected as usize != edges.len()
    {
        add(Code::EdgeCount, format!("{} edges instead of {expected}", edges.len()));
    }
    // Where every level needs one of the calls, none may have two.
    if let (Some(calls), Some(depth)) = (condition.num_edges, condition.remaining_depth)
        && calls.checked_sub(depth) == Some(1)
        && edges.len() != 1
    {
        let detail = format!("{} edges in a chain of {calls} calls", edges.len());
        add(Code::EdgeCount, detail);
    }
    if let (Some(bound), Some(first)) = (condition.start_communication_at, edges.first())
        && first.start < bound
    {
        let detail = format!("the first edge starts at {}, the condition at {bound}", first.start);
        add(Code::StartBeforeCondition, detail);
    }
    let mut seen = HashSet::new();
    for edge in edges {
        let LayerEdge { number, start, finish, .. } = edge;
        if !seen.insert(number) {
            add(Code::DuplicateEdgeId, format!("edge {number} occurs more than once"));
        }
        if finish < start {
            let detail = format!("edge {number} finishes at {finish} and starts at {start}");
            add(Code::FinishBeforeStart, detail);
        }
        if let Some(latency) = condition.latency
            && *finish > latency
        {
            let detail = format!("edge {number} finishes at {finish}, the latency is {latency}");
            add(Code::FinishAfterLatency, detail);
        }
    }
}

fn check_subgraphs(
    condition: &LayerCondition,
    edges: &[LayerEdge],
    subgraphs: &[Subgraph],
    found: &mut Vec<Violation>,
) {
    let mut add = |code: Code, detail: String| found.push(Violation::new(code, detail));
    let count = edges.len() as u64;
    let below = subgraphs.iter().filter_map(|subgraph| subgraph.condition.num_edges);
    let total = count + below.map(u64::from).sum::<u64>();
    if !subgraphs.is_empty() {
        if condition.remaining_depth == Some(0) {
            add(Code::SubgraphBeyondDepth, "no depth remains below this layer".into());
        }
        if condition.num_edges.is_some_and(|edges| u64::from(edges) <= count) {
            add(Code::SubgraphBeyondEdges, "no edges remain below this layer".into());
        }
    }
    let mut named = HashSet::new();
    for subgraph in subgraphs {
        let edge = edges.iter().find(|edge| edge.number == subgraph.edge);
        match edge {
            Some(edge) if named.insert(subgraph.edge) => {
                check_subgraph(condition, edge, &subgraph.condition, &mut add);
            }
            Some(_) => add(Code::SubgraphEdge, format!("edge {} has two", subgraph.edge)),
            None => add(Code::SubgraphEdge, format!("there is no edge {}", subgraph.edge)),
        }
    }
    if let Some(depth) = condition.remaining_depth
        && depth > 0
        && !subgraphs.iter().any(|s| s.condition.remaining_depth == Some(depth - 1))
    {
        add(Code::DepthLost, format!("no sub-condition keeps a remaining depth of {}", depth - 1));
    }
    if let Some(expected) = condition.num_edges
        && u64::from(expected) != total
    {
        add(Code::EdgeSum, format!("{total} edges here and below instead of {expected}"));
    }
}

fn check_subgraph(
    condition: &LayerCondition,
    edge: &LayerEdge,
    below: &LayerCondition,
    add: &mut impl FnMut(Code, String),
) {
    let number = edge.number;
    if let (Some(depth), Some(own)) = (below.remaining_depth, condition.remaining_depth)
        && depth >= own
    {
        add(Code::SubgraphDepth, format!("edge {number}: remaining depth {depth} of {own}"));
    }
    if below.start_node.as_ref() != Some(&edge.destination) {
        let detail = format!("edge {number} reaches {}, not the start node", edge.destination);
        add(Code::SubgraphStartNode, detail);
    }
    if let (Some(caller), Some(node)) = (&below.caller, &condition.start_node)
        && caller != node
    {
        add(Code::SubgraphCaller, format!("edge {number}: caller {caller} instead of {node}"));
    }
    if let Some(latency) = below.latency
        && latency > edge.finish
    {
        let detail = format!("edge {number}: latency {latency} after its finish {}", edge.finish);
        add(Code::SubgraphLatency, detail);
    }
    if let Some(start) = below.start_communication_at
        && start < edge.start
    {
        let detail = format!("edge {number}: start {start} before its own {}", edge.start);
        add(Code::SubgraphStart, detail);
    }
    if let Some((start, latency)) = late(below) {
        let detail = format!("edge {number}: start {start} after the latency {latency}");
        add(Code::SubgraphStart, detail);
    }
}

/// Start and latency of a condition that starts after its latency: no edge could finish in time.
fn late(condition: &LayerCondition) -> Option<(u32, u32)> {
    let times = condition.start_communication_at.zip(condition.latency);
    times.filter(|(start, latency)| start > latency)
}

fn check_split(condition: &LayerCondition, parts: &[LayerCondition], found: &mut Vec<Violation>) {
    let mut add = |code: Code, detail: String| found.push(Violation::new(code, detail));
    for part in parts {
        if let (Some(node), Some(own)) = (&part.start_node, &condition.start_node)
            && node != own
        {
            add(Code::SubgraphStartNode, format!("a part starts at {node} instead of {own}"));
        }
        if let (Some(caller), Some(own)) = (&part.caller, &condition.caller)
            && caller != own
        {
            add(Code::SubgraphCaller, format!("a part's caller is {caller} instead of {own}"));
        }
        if let (Some(latency), Some(own)) = (part.latency, condition.latency)
            && latency > own
        {
            add(Code::SubgraphLatency, format!("a part has latency {latency}, the whole {own}"));
        }
        if let Some((start, latency)) = late(part) {
            let detail = format!("a part starts at {start}, after its latency {latency}");
            add(Code::SubgraphStart, detail);
        }
    }
    // Siblings are in the order of their numbers, not of their starts: only the first part begins
    // with the edge that the whole's start speaks of.
    if let (Some(start), Some(own)) = (
        parts.first().and_then(|part| part.start_communication_at),
        condition.start_communication_at,
    ) && start < own
    {
        add(Code::SubgraphStart, format!("the first part starts at {start}, the whole at {own}"));
    }
    let deepest = parts.iter().filter_map(|part| part.remaining_depth).max();
    if let Some(depth) = condition.remaining_depth
        && deepest != Some(depth)
    {
        let deepest = deepest.unwrap_or(0);
        let detail = format!("the deepest part has a remaining depth of {deepest} of {depth}");
        add(Code::SplitDepth, detail);
    }
    let sizes = |of: fn(&LayerCondition) -> Option<u32>| -> Option<(u32, Vec<u32>)> {
        Some((of(condition)?, parts.iter().filter_map(of).collect()))
    };
    let measures = [
        ("edges", sizes(|condition| condition.num_edges)),
        ("edges of the layer", sizes(|condition| condition.num_current_edges)),
    ];
    for (what, sizes) in measures {
        let Some((whole, sizes)) = sizes else { continue };
        for size in sizes.iter().filter(|size| **size == 0 || **size >= whole) {
            add(Code::SplitPart, format!("a part has {size} of {whole} {what}"));
        }
        let total: u64 = sizes.iter().copied().map(u64::from).sum();
        if total != u64::from(whole) {
            add(Code::SplitSum, format!("the parts have {total} of {whole} {what}"));
        }
    }
}
