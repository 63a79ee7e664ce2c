//! A call as a row of a table: categorical columns, and times by mode-specific normalisation.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::mixture::Mixture;
use crate::graph::{CallGraph, CallRow, CallType, Condition, EdgeId, Name};
use crate::model::neural::Bins;
use crate::model::{Sampling, neural};

/// Categorical columns: source, destination, type, edge id, mode of the start, mode of the response
/// time.
pub const CATEGORICAL: usize = 6;
/// Columns of numbers: start and response time.
pub const TIMES: usize = 2;
/// Attributes of a condition: service, num_edges, depth, latency.
pub const ATTRIBUTES: usize = 4;

/// Half the range of a normalised time, in deviations of its mode.
const RANGE: f64 = 4.0;
/// Bounds of a normalised time, which a hyperbolic tangent has to reach.
const BOUND: f64 = 0.99;

/// Values of a categorical column, ascending.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Categories<T>(Vec<T>);

impl<T: Ord + Clone> Categories<T> {
    /// The `limit` most frequent values.
    pub fn learn(values: impl IntoIterator<Item = T>, limit: usize) -> Self {
        let mut counts: BTreeMap<T, u64> = BTreeMap::new();
        values.into_iter().for_each(|value| *counts.entry(value).or_default() += 1);
        let mut values: Vec<(T, u64)> = counts.into_iter().collect();
        // Stable: equal counts stay in order.
        values.sort_by_key(|(_, count)| Reverse(*count));
        values.truncate(limit);
        let mut values: Vec<T> = values.into_iter().map(|(value, _)| value).collect();
        values.sort();
        Self(values)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Place of a value; [`Self::len`] for one that is not here.
    fn index(&self, value: &T) -> usize {
        self.0.binary_search(value).unwrap_or(self.0.len())
    }
}

/// A column of times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeColumn {
    mixture: Mixture,
    /// Whether log(1 + milliseconds) is normalised, and not milliseconds.
    logarithmic: bool,
    /// Largest time seen, milliseconds; no longer one is drawn.
    longest: u32,
}

impl TimeColumn {
    fn learn(times: impl Iterator<Item = u32>, modes: usize, logarithmic: bool) -> Self {
        let mut counts: BTreeMap<u32, f64> = BTreeMap::new();
        times.for_each(|time| *counts.entry(time).or_default() += 1.0);
        let longest = counts.keys().next_back().copied().unwrap_or(0);
        let values: Vec<(f64, f64)> =
            counts.into_iter().map(|(time, count)| (scaled(time, logarithmic), count)).collect();
        Self { mixture: Mixture::fit(&values, modes), logarithmic, longest }
    }

    /// Number of modes.
    pub fn modes(&self) -> usize {
        self.mixture.modes.len()
    }

    /// A mode, drawn by its probability given the time, and the time's place in it.
    fn encode(&self, time: u32, rng: &mut ChaCha8Rng) -> (usize, f32) {
        let value = scaled(time, self.logarithmic);
        let mut ticket: f64 = rng.random();
        let mut chosen = 0;
        for (index, share) in self.mixture.shares(value).into_iter().enumerate() {
            if share > 0.0 {
                chosen = index;
            }
            ticket -= share;
            if ticket < 0.0 {
                break;
            }
        }
        let mode = self.mixture.modes[chosen];
        let place = (value - mode.mean) / (RANGE * mode.deviation);
        (chosen, place.clamp(-BOUND, BOUND) as f32)
    }

    /// Milliseconds at a place in a mode.
    fn decode(&self, mode: usize, place: f64) -> u32 {
        let mode = self.mixture.modes[mode];
        let value = mode.mean + RANGE * mode.deviation * place.clamp(-1.0, 1.0);
        let time = if self.logarithmic { value.exp_m1() } else { value };
        // A float that is not finite becomes 0 or the longest time.
        (time.round().max(0.0) as u32).min(self.longest)
    }
}

fn scaled(time: u32, logarithmic: bool) -> f64 {
    if logarithmic { f64::from(time).ln_1p() } else { f64::from(time) }
}

/// A call as the network takes it in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Place of each value in its column; the width of a column stands for a rare value.
    pub categories: [usize; CATEGORICAL],
    /// Start and response time, each within its mode.
    pub places: [f32; TIMES],
}

/// The columns of calls, with the values that they can have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Columns {
    sources: Categories<Name>,
    destinations: Categories<Name>,
    /// By path.
    edge_ids: Categories<Vec<u32>>,
    times: [TimeColumn; TIMES],
}

impl Columns {
    /// Columns of at most `values` values, and of times in at most `modes` modes.
    pub fn learn(graphs: &[&CallGraph], values: usize, modes: usize, logarithmic: bool) -> Self {
        let calls = || graphs.iter().flat_map(|graph| graph.calls());
        let sources = graphs.iter().flat_map(|graph| {
            (0..graph.calls().len()).map(move |index| Name::from(graph.source(index)))
        });
        let paths = graphs.iter().flat_map(|graph| graph.edge_ids());
        let time = |time: fn(&crate::graph::Call) -> u32| {
            TimeColumn::learn(calls().map(time), modes, logarithmic)
        };
        Self {
            sources: Categories::learn(sources, values),
            destinations: Categories::learn(calls().map(|call| call.destination.clone()), values),
            edge_ids: Categories::learn(paths.map(|id| id.path().to_vec()), values),
            times: [time(|call| call.start), time(|call| call.response_time())],
        }
    }

    /// Number of values of each categorical column.
    pub fn widths(&self) -> [usize; CATEGORICAL] {
        [
            self.sources.len(),
            self.destinations.len(),
            CallType::ALL.len(),
            self.edge_ids.len(),
            self.times[0].modes(),
            self.times[1].modes(),
        ]
    }

    pub fn encode(&self, row: &CallRow, rng: &mut ChaCha8Rng) -> Row {
        let kind = CallType::ALL.iter().position(|kind| *kind == row.kind).unwrap_or(0);
        let (start_mode, start) = self.times[0].encode(row.start, rng);
        let (response_mode, response) = self.times[1].encode(row.finish - row.start, rng);
        Row {
            categories: [
                self.sources.index(&row.source),
                self.destinations.index(&row.destination),
                kind,
                self.edge_ids.index(&row.edge_id.path().to_vec()),
                start_mode,
                response_mode,
            ],
            places: [start, response],
        }
    }

    /// The call that `row` describes; its categories are not rare.
    pub fn decode(&self, row: &Row) -> CallRow {
        let [source, destination, kind, edge_id, start_mode, response_mode] = row.categories;
        let start = self.times[0].decode(start_mode, f64::from(row.places[0]));
        let response = self.times[1].decode(response_mode, f64::from(row.places[1]));
        CallRow {
            edge_id: edge_id_of(&self.edge_ids.0[edge_id]),
            source: self.sources.0[source].clone(),
            destination: self.destinations.0[destination].clone(),
            kind: CallType::ALL[kind],
            start,
            finish: start.saturating_add(response),
        }
    }
}

fn edge_id_of(path: &[u32]) -> EdgeId {
    let top = EdgeId::top(path.first().copied().unwrap_or(0));
    path.iter().skip(1).fold(top, |id, number| id.child(*number))
}

/// A row drawn from the network's output: `logits` of the categorical columns side by side, then
/// `means` of the times before the hyperbolic tangent, around which they spread by `deviations`.
pub fn draw(
    widths: &[usize; CATEGORICAL],
    logits: &[f32],
    means: &[f32],
    deviations: &[f32; TIMES],
    sampling: Sampling,
    rng: &mut ChaCha8Rng,
) -> Row {
    let mut categories = [0; CATEGORICAL];
    let mut rest = logits;
    for (category, width) in categories.iter_mut().zip(widths) {
        let (column, behind) = rest.split_at(*width);
        *category = neural::draw(column, sampling, rng);
        rest = behind;
    }
    let mut places = [0.0; TIMES];
    for ((place, mean), deviation) in places.iter_mut().zip(means).zip(deviations) {
        let noise: f32 = StandardNormal.sample(rng);
        *place = (mean.tanh() + deviation * noise).clamp(-1.0, 1.0);
    }
    Row { categories, places }
}

/// What a condition may say, one-hot: a service, or classes of num_edges, depth and latency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attributes {
    services: Categories<Name>,
    /// Of num_edges, depth and latency.
    classes: [Bins; ATTRIBUTES - 1],
}

/// Most classes of a number.
const CLASSES: usize = 32;

impl Attributes {
    pub fn learn(graphs: &[&CallGraph], values: usize) -> Self {
        let classes = |attribute: fn(&CallGraph) -> u32| {
            Bins::learn(graphs.iter().map(|graph| i64::from(attribute(graph))), CLASSES)
        };
        Self {
            services: Categories::learn(graphs.iter().map(|graph| graph.service().clone()), values),
            classes: [
                classes(CallGraph::num_edges),
                classes(CallGraph::depth),
                classes(CallGraph::latency),
            ],
        }
    }

    /// Number of values of each attribute; one more, the last, stands for what is open or unknown.
    fn widths(&self) -> [usize; ATTRIBUTES] {
        let [edges, depth, latency] = &self.classes;
        [self.services.len() + 1, edges.count() + 1, depth.count() + 1, latency.count() + 1]
    }

    /// Rows of a table with one for each value of each attribute.
    pub fn rows(&self) -> usize {
        self.widths().iter().sum()
    }

    /// Rows of the table that say nothing of any attribute.
    pub fn open(&self) -> [usize; ATTRIBUTES] {
        let mut end = 0;
        self.widths().map(|width| {
            end += width;
            end - 1
        })
    }

    /// Rows of the table that stand for a condition.
    pub fn of(&self, condition: &Condition) -> [usize; ATTRIBUTES] {
        let Condition { service, num_edges, depth, latency, .. } = condition;
        let mut rows = self.open();
        let widths = self.widths();
        let class = |which: usize, value: &Option<u32>| {
            value.map(|value| self.classes[which].index(i64::from(value)))
        };
        let classes = [class(0, num_edges), class(1, depth), class(2, latency)];
        // From the last row of each attribute to that of the value.
        rows[0] -= widths[0] - 1 - self.services.index(service);
        for (index, class) in (1..).zip(classes) {
            if let Some(class) = class {
                rows[index] -= widths[index] - 1 - class;
            }
        }
        rows
    }
}
