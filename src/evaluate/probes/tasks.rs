//! The questions: which graphs they are about, what they show, and what the right answer is.
//!
//! A question is written in the recursive format as far as it goes, so that a network that was
//! trained on traces reads what it knows. It ends where an answer of the format could go on. What is
//! asked for is taken out wherever the format repeats it: the start node of the layer below a call
//! is the call's destination.

use std::collections::BTreeSet;

use anyhow::Result;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::data::{Dataset, ServiceStatistics, Side};
use crate::error::UserError;
use crate::evaluate::{Dimensions, Joined, WHOLE};
use crate::graph::{CallGraph, LayerCondition, LayerEdge, Name, Step, StepBody, Subgraph, steps};
use crate::random;
use crate::text::{FieldOrder, name, recursive};

/// What is asked (paper, figure 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Whether an uncommon communication comes after the first ten calls of a trace.
    Later,
    /// The type or the destination of a call, given the rest of its layer.
    Attribute,
    /// Destination and type of the call that connects two layers.
    Call,
    /// Whether a graph is slow for its service, all times hidden (paper, table 2).
    HighLatency,
}

/// Calls that [`Task::Later`] shows.
const FIRST: usize = 10;
/// Questions of all training graphs together, at most: drawn like the others beyond that.
const ALL: usize = 200_000;
/// Stands where something is missing.
const HOLE: &str = "?";
const YES: &str = "yes";
const NO: &str = "no";

impl Task {
    /// Name in manifests and cells.
    pub fn id(self) -> &'static str {
        match self {
            Self::Later => "later",
            Self::Attribute => "attribute",
            Self::Call => "call",
            Self::HighLatency => "high-latency",
        }
    }

    /// The answers between which the task chooses, where they are few and known.
    pub fn choices(self) -> Option<[&'static str; 2]> {
        matches!(self, Self::Later | Self::HighLatency).then_some([YES, NO])
    }

    /// What a graph must have to be asked about.
    fn needs(self) -> &'static str {
        match self {
            Self::Later => {
                "graphs of more than 10 calls, some with and some without an uncommon communication \
                 after the tenth, of services with at least 10 training graphs"
            }
            Self::Attribute => "graphs with a layer of two calls or more",
            Self::Call => "graphs with a layer below a call that is not the root",
            Self::HighLatency => {
                "slow and usual graphs of services with at least 10 training graphs, whose p90 latency \
                 lies more than 5 ms above the mean"
            }
        }
    }
}

/// What can be missing from a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    Type,
    Destination,
}

impl Attribute {
    const ALL: [Self; 2] = [Self::Type, Self::Destination];

    /// Its name in the format.
    pub fn key(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Destination => "destination",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Type => Self::Destination,
            Self::Destination => Self::Type,
        }
    }

    fn of(self, edge: &LayerEdge) -> String {
        match self {
            Self::Type => edge.kind.to_string(),
            Self::Destination => name::write(&edge.destination).into(),
        }
    }

    /// As a field of an edge, behind another one.
    fn field(self, edge: &LayerEdge) -> String {
        format!(",{} is {}", self.key(), self.of(edge))
    }
}

/// A question about a graph, before it is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// The first calls, as a graph of their own.
    Later { first: CallGraph, uncommon: bool },
    /// A layer; the call at `place` lacks an attribute.
    Attribute { layer: Layer, place: usize, attribute: Attribute },
    /// The layers above and below the missing call.
    Call { above: Layer, missing: LayerEdge, below: Layer },
    /// A whole graph, and whether its latency reaches the p90 of its service.
    HighLatency { graph: CallGraph, slow: bool },
}

/// A step that is a layer, not a split.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    condition: LayerCondition,
    edges: Vec<LayerEdge>,
    subgraphs: Vec<Subgraph>,
}

/// Questions with which a method learns, and those with which it is tested.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    pub task: Task,
    pub train: Vec<Sample>,
    pub test: Vec<Sample>,
}

/// At most `train` questions about training graphs and `test` about test graphs.
///
/// One question about each graph comes before a second about any, in random order; there are as many
/// questions with the answer yes as with no.
///
/// # Errors
/// A dataset that has none.
pub fn draw(
    task: Task,
    dataset: &Dataset,
    (train, test): (usize, usize),
    seed: u64,
) -> Result<Samples> {
    let services = ServiceStatistics::new(dataset.train());
    let side = |side, count| one_side(task, dataset, side, &services, count, seed);
    Ok(Samples { task, train: side(Side::Train, train)?, test: side(Side::Test, test)? })
}

/// Every question that the training graphs give, up to a large number.
pub fn all(task: Task, dataset: &Dataset, seed: u64) -> Result<Vec<Sample>> {
    let services = ServiceStatistics::new(dataset.train());
    one_side(task, dataset, Side::Train, &services, ALL, seed)
}

fn one_side(
    task: Task,
    dataset: &Dataset,
    side: Side,
    services: &ServiceStatistics,
    count: usize,
    seed: u64,
) -> Result<Vec<Sample>> {
    let (word, number) = match side {
        Side::Train => ("training", 0),
        Side::Test => ("test", 1),
        Side::Faulty => ("faulty", 2),
    };
    let graphs = dataset.side(side);
    let mut places = Vec::new();
    for (index, graph) in graphs.iter().enumerate() {
        let mut rng = random::stream(seed, "probe", &[number, index as u64]);
        let mut of_graph: Vec<(usize, Sample)> =
            samples_of(task, graph, services).into_iter().enumerate().collect();
        of_graph.shuffle(&mut rng);
        places.extend(of_graph.iter().enumerate().map(|(round, (sample, content))| Place {
            round,
            chance: rng.random(),
            graph: index,
            sample: *sample,
            yes: content.answer() == YES,
        }));
    }
    places.sort_unstable();
    if task.choices().is_some() {
        places = balanced(places, count);
    }
    places.truncate(count);
    if places.is_empty() {
        let message = format!(
            "dataset `{}`: its {word} graphs give no question for probe task `{}`, which needs {}",
            dataset.card.name,
            task.id(),
            task.needs()
        );
        return Err(UserError::setting(message).into());
    }
    let sample =
        |place: &Place| samples_of(task, graphs[place.graph], services).swap_remove(place.sample);
    Ok(places.iter().map(sample).collect())
}

/// Where a question is, in the order of drawing. All questions of all graphs would not fit into
/// memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Questions about the same graph that come before it.
    round: usize,
    chance: u64,
    graph: usize,
    /// Index in [`samples_of`].
    sample: usize,
    /// Whether that is the answer.
    yes: bool,
}

/// The first places of each answer, as many of one as of the other, in turn.
fn balanced(places: Vec<Place>, count: usize) -> Vec<Place> {
    let (yes, no): (Vec<Place>, Vec<Place>) = places.into_iter().partition(|place| place.yes);
    yes.into_iter().zip(no).take(count / 2).flat_map(|(yes, no)| [yes, no]).collect()
}

fn samples_of(task: Task, graph: &CallGraph, services: &ServiceStatistics) -> Vec<Sample> {
    match task {
        Task::Later => later(graph, services).into_iter().collect(),
        Task::Attribute => attributes(graph),
        Task::Call => calls(graph),
        Task::HighLatency => high_latency(graph, services).into_iter().collect(),
    }
}

/// Calls in order of start. Of calls that start in the same millisecond, the one that stands first in
/// the graph's order (depth first, siblings by number) comes first, so that a call never comes before
/// its parent.
fn by_start(graph: &CallGraph) -> Vec<usize> {
    let mut order: Vec<usize> = (0..graph.calls().len()).collect();
    order.sort_by_key(|index| (graph.calls()[*index].start, *index));
    order
}

fn later(graph: &CallGraph, services: &ServiceStatistics) -> Option<Sample> {
    let service = services.get(graph.service())?;
    let order = by_start(graph);
    let (first, rest) = order.split_at_checked(FIRST).filter(|(_, rest)| !rest.is_empty())?;
    let communications: Vec<_> = graph.communications().collect();
    let uncommon = rest.iter().any(|index| service.uncommon.contains(&communications[*index]));
    let rows = graph.rows();
    let rows: Vec<_> = first.iter().map(|index| rows[*index].clone()).collect();
    let first = CallGraph::from_rows(graph.service().clone(), &rows).ok()?;
    Some(Sample::Later { first, uncommon })
}

fn high_latency(graph: &CallGraph, services: &ServiceStatistics) -> Option<Sample> {
    let limit = services.get(graph.service())?.high_latency()?;
    Some(Sample::HighLatency { graph: graph.clone(), slow: graph.latency() >= limit })
}

fn attributes(graph: &CallGraph) -> Vec<Sample> {
    let layers = steps(graph).into_iter().filter_map(Layer::new);
    let layers = layers.filter(|layer| layer.edges.len() > 1);
    let holes = |layer: Layer| {
        let places = (0..layer.edges.len()).flat_map(|place| Attribute::ALL.map(|a| (place, a)));
        let sample = move |(place, attribute)| {
            let layer = layer.clone();
            Sample::Attribute { layer, place, attribute }
        };
        places.map(sample).collect::<Vec<_>>()
    };
    layers.flat_map(holes).collect()
}

fn calls(graph: &CallGraph) -> Vec<Sample> {
    let steps = steps(graph);
    let mut samples = Vec::new();
    // Steps come breadth first: what a step gives rise to stands behind all that earlier ones did.
    let mut next = 1;
    for step in &steps {
        let first = next;
        next += match &step.body {
            StepBody::Layer { subgraphs, .. } => subgraphs.len(),
            StepBody::Split { parts } => parts.len(),
        };
        // Nothing is left of the root's layer without its call.
        let Some(above) = Layer::new(step.clone()).filter(|_| step.condition.caller.is_some())
        else {
            continue;
        };
        for (place, subgraph) in above.subgraphs.iter().enumerate() {
            let below = steps.get(first + place).cloned().and_then(Layer::new);
            let missing = above.edges.iter().find(|edge| edge.number == subgraph.edge);
            if let (Some(below), Some(missing)) = (below, missing) {
                samples.push(Sample::Call {
                    above: above.clone(),
                    missing: missing.clone(),
                    below,
                });
            }
        }
    }
    samples
}

impl Sample {
    /// The right answer, as it is written.
    pub fn answer(&self) -> String {
        match self {
            Self::Later { uncommon: true, .. } | Self::HighLatency { slow: true, .. } => {
                YES.to_owned()
            }
            Self::Later { .. } | Self::HighLatency { .. } => NO.to_owned(),
            Self::Attribute { layer, place, attribute } => attribute.field(&layer.edges[*place]),
            Self::Call { missing, .. } => {
                Attribute::ALL.map(|attribute| attribute.field(missing)).concat()
            }
        }
    }

    /// What is asked, as it is written: fields and attributes in random order. Neither the choice of
    /// this order nor anything else in it depends on the answer.
    pub fn prompt(&self, rng: &mut impl Rng) -> String {
        match self {
            Self::Later { first, .. } => {
                let layers: Vec<String> = steps(first).iter().map(|s| written(s, rng)).collect();
                format!("{}\nuncommon: ", layers.join("\n"))
            }
            Self::Attribute { layer, place, attribute } => {
                let text = layer.with_hole(*place, *attribute, rng);
                question(&text, layer.edges[*place].number)
            }
            Self::Call { above, missing, below } => {
                let (above, below) = (above.without(missing.number), below.anonymous());
                let text = format!("{}\n{}", above.written(rng), below.written(rng));
                question(&text, missing.number)
            }
            Self::HighLatency { graph, .. } => {
                let layers = steps(graph).into_iter().map(|step| timeless(step, rng));
                format!("{}\nslow: ", layers.collect::<Vec<_>>().join("\n"))
            }
        }
    }

    /// What a record of its answers is about.
    pub fn dimensions(&self) -> Dimensions {
        match self {
            Self::Later { .. } => WHOLE.task("later").answer(self.answer().as_str()),
            Self::Attribute { attribute, .. } => WHOLE.task("attribute").attribute(attribute.key()),
            Self::Call { .. } => WHOLE.task("call"),
            Self::HighLatency { .. } => WHOLE.task("high-latency").answer(self.answer().as_str()),
        }
    }

    /// The service of the graph that it is about.
    pub fn service(&self) -> Name {
        match self {
            Self::Later { first: graph, .. } | Self::HighLatency { graph, .. } => {
                graph.service().clone()
            }
            Self::Attribute { layer, .. } | Self::Call { above: layer, .. } => {
                layer.service().into()
            }
        }
    }

    /// Situations in which the answer was given, the most specific first; the last is the kind of
    /// question, without anything of the graph.
    pub fn situations(&self) -> Vec<Joined> {
        match self {
            Self::Later { first, .. } => {
                let service = first.service().as_str().into();
                vec![joined(&self.bag()), service, Joined::default()]
            }
            Self::Attribute { layer, place, attribute } => {
                let (edges, key) = (&layer.edges, attribute.key());
                let (service, source) = (layer.service(), layer.source());
                let known = attribute.other().of(&edges[*place]);
                let at = |place: Option<usize>| {
                    place.and_then(|place| edges.get(place)).map_or_else(String::new, call)
                };
                let (before, after) = (at(place.checked_sub(1)), at(Some(place + 1)));
                let known = known.as_str();
                let all = [key, "|", service, "|", source, "|", known, "|", &before, "|", &after];
                let near = [key, "|", source, "|", known, "|", &before];
                vec![
                    Joined::of(all),
                    Joined::of(near),
                    Joined::of([key, "|", source, "|", known]),
                    Joined::of([key, "|", source]),
                    key.into(),
                ]
            }
            Self::Call { above, below, .. } => {
                let source = above.source();
                let mut calls = Joined::default();
                for (place, call) in below.calls().iter().enumerate() {
                    if place > 0 {
                        calls.push(",");
                    }
                    calls.push(call);
                }
                let mut both = Joined::of([source, "|"]);
                both.extend(&calls);
                vec![both, calls, Joined::of(["from ", source]), Joined::default()]
            }
            Self::HighLatency { graph, .. } => {
                let service = graph.service().as_str();
                let shape = format!("|{}|{}", graph.num_edges(), graph.depth());
                let shape = Joined::of([service, &shape]);
                vec![joined(&self.bag()), shape, service.into(), Joined::default()]
            }
        }
    }

    /// What is known of the graph, as a bag of words: a word that occurs twice is there twice.
    pub fn bag(&self) -> Vec<Joined> {
        let mut bag = match self {
            Self::Later { first: graph, .. } | Self::HighLatency { graph, .. } => {
                let calls = graph.communications().map(|communication| {
                    let crate::graph::Communication { source, destination, kind } = communication;
                    Joined::of([source.as_str(), ">", &destination, ":", kind.as_str()])
                });
                let service = Joined::of(["service ", graph.service()]);
                calls.chain([service]).collect()
            }
            Self::Attribute { layer, place, attribute } => {
                let mut bag = layer.words();
                let known = attribute.other().of(&layer.edges[*place]);
                bag.push(Joined::of(["known ", &known]));
                let others = layer.edges.iter().enumerate().filter(|(other, _)| other != place);
                bag.extend(others.map(|(_, edge)| call(edge).as_str().into()));
                bag
            }
            Self::Call { above, missing, below } => {
                let mut bag = above.words();
                let others = above.edges.iter().filter(|edge| edge.number != missing.number);
                bag.extend(others.map(|edge| call(edge).as_str().into()));
                bag.extend(below.edges.iter().map(|edge| Joined::of(["below ", &call(edge)])));
                bag
            }
        };
        bag.sort_unstable();
        bag
    }
}

/// The question about a call: its line as far as it is known.
fn question(text: &str, number: u32) -> String {
    format!("{text}\n(edge_id is {number}")
}

/// All words of a bag.
fn joined(bag: &[Joined]) -> Joined {
    let mut all = Joined::default();
    for (place, word) in bag.iter().enumerate() {
        if place > 0 {
            all.push("|");
        }
        all.extend(word);
    }
    all
}

fn call(edge: &LayerEdge) -> String {
    format!("{}:{}", edge.destination, edge.kind)
}

/// A step as training wrote it, with every attribute of its condition.
fn written(step: &Step, rng: &mut impl Rng) -> String {
    recursive::prompt(&step.condition, rng) + &recursive::answer(step, FieldOrder::Shuffled, rng)
}

/// A step without anything that tells a time.
fn timeless(mut step: Step, rng: &mut impl Rng) -> String {
    let hide = |condition: &mut LayerCondition| {
        condition.latency = None;
        condition.start_communication_at = None;
    };
    hide(&mut step.condition);
    match &mut step.body {
        StepBody::Layer { subgraphs, .. } => {
            subgraphs.iter_mut().for_each(|subgraph| hide(&mut subgraph.condition));
        }
        StepBody::Split { parts } => parts.iter_mut().for_each(hide),
    }
    let text = written(&step, rng);
    let lines = text.split('\n').map(|line| match fields(line) {
        Some(fields) => {
            let kept = fields.filter(|field| !field.starts_with("communication "));
            format!("({})", kept.collect::<Vec<_>>().join(","))
        }
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The fields of an edge's line; `None` for any other line. Names hold neither the signs that part
/// fields nor those around them.
fn fields(line: &str) -> Option<impl Iterator<Item = &str>> {
    let inner = line.strip_prefix('(')?.strip_suffix(')')?;
    Some(inner.split(','))
}

impl Layer {
    fn new(step: Step) -> Option<Self> {
        let Step { condition, body } = step;
        match body {
            StepBody::Layer { edges, subgraphs } => Some(Self { condition, edges, subgraphs }),
            StepBody::Split { .. } => None,
        }
    }

    fn written(self, rng: &mut impl Rng) -> String {
        let Self { condition, edges, subgraphs } = self;
        written(&Step { condition, body: StepBody::Layer { edges, subgraphs } }, rng)
    }

    /// The layer with a hole where the call at `place` has `attribute`.
    fn with_hole(&self, place: usize, attribute: Attribute, rng: &mut impl Rng) -> String {
        let mut layer = self.clone();
        let number = layer.edges[place].number;
        if attribute == Attribute::Destination {
            for subgraph in layer.subgraphs.iter_mut().filter(|below| below.edge == number) {
                subgraph.condition.start_node = None;
            }
        }
        let text = layer.written(rng);
        let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
        let first = lines.iter().position(|line| line == "<edges>").map_or(0, |line| line + 1);
        if let Some(line) = lines.get_mut(first + place) {
            *line = punched(line, attribute.key());
        }
        lines.join("\n")
    }

    /// The layer without the call `number` and what leads to the layer below it.
    fn without(&self, number: u32) -> Self {
        let mut layer = self.clone();
        layer.edges.retain(|edge| edge.number != number);
        layer.subgraphs.retain(|subgraph| subgraph.edge != number);
        layer
    }

    /// The layer without the name of the node that its calls leave.
    fn anonymous(&self) -> Self {
        let mut layer = self.clone();
        layer.condition.start_node = None;
        layer.subgraphs.iter_mut().for_each(|subgraph| subgraph.condition.caller = None);
        layer
    }

    fn service(&self) -> &str {
        self.condition.service.as_ref().map_or("", Name::as_str)
    }

    fn source(&self) -> &str {
        self.condition.start_node.as_ref().map_or("", Name::as_str)
    }

    /// Distinct calls.
    fn calls(&self) -> BTreeSet<String> {
        self.edges.iter().map(call).collect()
    }

    /// What the condition knows by name.
    fn words(&self) -> Vec<Joined> {
        let caller = self.condition.caller.as_ref().map_or("", Name::as_str);
        let words = [("service", self.service()), ("source", self.source()), ("caller", caller)];
        words.map(|(key, value)| Joined::of([key, " ", value])).to_vec()
    }
}

/// The line of an edge with a hole in place of one value.
fn punched(line: &str, key: &str) -> String {
    let head = format!("{key} is ");
    let Some(fields) = fields(line) else { return line.to_owned() };
    let fields = fields.map(|field| {
        if field.starts_with(&head) { format!("{head}{HOLE}") } else { field.to_owned() }
    });
    format!("({})", fields.collect::<Vec<_>>().join(","))
}
