//! The baseline `markov`: the calls that a microservice makes are a Markov chain, each drawn given the
//! one before it. The simplest strong model: it is counts and nothing else.
//!
//! 1. A graph grows from its root, which is drawn from the training graphs of the service.
//! 2. What a call's destination calls next (a destination and type, or nothing more) is drawn given
//!    the service, that microservice, its depth, and the sibling before.
//! 3. Contexts that were seen rarely are mixed with shorter ones by Witten and Bell's rule (1991): with
//!    n observations of t different values, the shorter context has weight t / (n + t). The contexts are
//!    (service, microservice, depth, sibling) → (service, microservice, sibling) → (service,
//!    microservice) → microservice.
//! 4. Times are laid out over the finished tree ([`super::times`]).
//!
//! Unconstrained, num_edges and depth of the request are ignored, as by the published statistical
//! model; constrained, it draws from the very same distribution *given* that the graph has them, which
//! can be done exactly here ([`exact`]).

mod exact;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::tables::{self, Callee, Frequencies, GrowthSettings, distinct, pairs};
use super::times::{Times, Tree};
use super::{
    Decoding, Entry, FitContext, FitReport, GenerateOptions, Generator, Recipe, no_checkpoint,
};
use crate::device::DeviceChoice;
use crate::graph::{CallGraph, Condition, Generated, Name};
use crate::random;
use crate::version::Version;

const ID: &str = "markov";

/// What the registry says of it.
pub const ENTRY: Entry = Entry {
    id: ID,
    about: "siblings as a Markov chain, with back-off; under constraints the exact conditional",
    training: Version::new("train/markov", 1),
    answers: Version::new("answer/markov", 1),
    constrained: true,
    likelihood: false,
    tiny: Some(""),
    build,
};

/// The recipe of `markov`.
///
/// # Errors
/// Unknown settings or values.
fn build(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    let settings = GrowthSettings::read(ID, table)?;
    Ok(Box::new(Markov { settings }))
}

struct Markov {
    settings: GrowthSettings,
}

impl Recipe for Markov {
    fn fit(&self, context: &FitContext) -> Result<FitReport> {
        let model = TrainedMarkov::learn(self.settings.clone(), &context.dataset.train());
        tables::save(&model, context.out)?;
        let contexts = ("contexts".to_owned(), model.next.len().to_string());
        Ok(FitReport {
            parameters: model.parameters(),
            notes: vec![contexts],
            ..FitReport::default()
        })
    }

    fn load(
        &self,
        dir: &Path,
        checkpoint: Option<u64>,
        _device: DeviceChoice,
    ) -> Result<Box<dyn Generator>> {
        no_checkpoint(ID, checkpoint)?;
        Ok(Box::new(tables::load::<TrainedMarkov>(dir)?))
    }
}

/// Where a microservice is when it decides what to call next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place {
    source: Name,
    /// Of the call to it; the root's is 1.
    depth: u32,
    /// What it called before; nothing yet.
    before: Option<Callee>,
}

/// What is known of a [`Place`]: `None` is not looked at. `before` is then a value of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Context {
    service: Option<Name>,
    source: Name,
    depth: Option<u32>,
    before: Option<Option<Callee>>,
}

/// From the longest to the shortest.
fn contexts(service: &Name, place: &Place) -> [Context; 4] {
    let Place { source, depth, before } = place;
    let context =
        |service, depth, before| Context { service, source: source.clone(), depth, before };
    let (service, before) = (Some(service.clone()), Some(before.clone()));
    [
        context(service.clone(), Some(*depth), before.clone()),
        context(service.clone(), None, before),
        context(service, None, None),
        context(None, None, None),
    ]
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct TrainedMarkov {
    settings: GrowthSettings,
    roots: BTreeMap<Name, Frequencies<Callee>>,
    /// Roots of all services, for one that training lacks.
    any_root: Frequencies<Callee>,
    /// The next call, or `None` where there was none.
    #[serde(with = "pairs")]
    next: BTreeMap<Context, Frequencies<Option<Callee>>>,
    times: Times,
}

impl TrainedMarkov {
    fn learn(settings: GrowthSettings, graphs: &[&CallGraph]) -> Self {
        let mut model = Self {
            settings,
            roots: BTreeMap::new(),
            any_root: Frequencies::default(),
            next: BTreeMap::new(),
            times: Times::default(),
        };
        for graph in graphs {
            let calls = graph.calls();
            let callee = |index: u32| {
                let call = &calls[index as usize];
                (call.destination.clone(), call.kind)
            };
            model.roots.entry(graph.service().clone()).or_default().add(callee(0));
            model.any_root.add(callee(0));
            for (call, children) in calls.iter().zip(graph.children()) {
                let (source, depth) = (call.destination.clone(), call.depth);
                let mut place = Place { source, depth, before: None };
                let made = children.into_iter().map(|child| Some(callee(child)));
                for next in made.chain([None]) {
                    for context in contexts(graph.service(), &place) {
                        model.next.entry(context).or_default().add(next.clone());
                    }
                    place.before = next;
                }
            }
            model.times.learn(graph);
        }
        model
    }

    fn parameters(&self) -> u64 {
        distinct(&self.roots) + self.any_root.len() + distinct(&self.next) + self.times.parameters()
    }

    fn roots(&self, service: &Name) -> &Frequencies<Callee> {
        self.roots.get(service).unwrap_or(&self.any_root)
    }

    /// Tables of the contexts that were seen, with the weight of each; the weights add up to 1, or
    /// there are none.
    fn mixture(&self, service: &Name, place: &Place) -> Vec<(f64, &Frequencies<Option<Callee>>)> {
        let contexts = contexts(service, place);
        let seen: Vec<_> = contexts.iter().filter_map(|context| self.next.get(context)).collect();
        let mut rest = 1.0;
        let mut mixture = Vec::with_capacity(seen.len());
        for (index, table) in seen.iter().enumerate() {
            let shorter = if index + 1 < seen.len() {
                table.len() as f64 / (table.total() + table.len()) as f64
            } else {
                0.0
            };
            mixture.push((rest * (1.0 - shorter), *table));
            rest *= shorter;
        }
        mixture
    }

    /// Probability of every next call that can be; nothing is always possible.
    fn distribution(&self, service: &Name, place: &Place) -> Vec<(Option<Callee>, f64)> {
        let mixture = self.mixture(service, place);
        let values: BTreeSet<&Option<Callee>> =
            mixture.iter().flat_map(|(_, table)| table.iter().map(|(value, _)| value)).collect();
        let mut shares: BTreeMap<Option<Callee>, f64> =
            values.into_iter().map(|value| (value.clone(), 0.0)).collect();
        for (weight, table) in mixture {
            let total = table.total() as f64;
            for (value, count) in table.iter() {
                if let Some(share) = shares.get_mut(value) {
                    *share += weight * count as f64 / total;
                }
            }
        }
        if shares.is_empty() {
            shares.insert(None, 1.0);
        }
        shares.into_iter().collect()
    }

    /// The next call, drawn.
    fn draw(&self, service: &Name, place: &Place, rng: &mut ChaCha8Rng) -> Option<Callee> {
        let mut ticket: f64 = rng.random();
        let mixture = self.mixture(service, place);
        for (index, (weight, table)) in mixture.iter().enumerate() {
            if ticket < *weight || index + 1 == mixture.len() {
                return table.draw(rng).cloned().flatten();
            }
            ticket -= weight;
        }
        None
    }

    /// A graph of the service, whatever its size.
    fn free(&self, service: &Name, rng: &mut ChaCha8Rng) -> Tree {
        let mut tree = Tree::default();
        let Some(root) = self.roots(service).draw(rng) else { return tree };
        tree.push(None, root.clone());
        // Of each call.
        let mut depths = vec![1];
        // Breadth first: a graph that is cut off at `max_calls` loses its deepest calls.
        let mut parent = 0;
        while parent < tree.nodes.len() {
            let source = tree.nodes[parent].destination.clone();
            let depth = depths[parent];
            let mut place = Place { source, depth, before: None };
            while tree.nodes.len() < self.settings.max_calls as usize {
                let Some(next) = self.draw(service, &place, rng) else { break };
                tree.push(Some(parent), next.clone());
                depths.push(depth + 1);
                place.before = Some(next);
            }
            parent += 1;
        }
        tree
    }

    fn answer(&self, condition: &Condition, tree: &Tree, rng: &mut ChaCha8Rng) -> Generated {
        let service = &condition.service;
        Generated::complete(self.times.lay_out(service, tree, condition.latency, rng))
    }
}

impl Generator for TrainedMarkov {
    fn generate(
        &self,
        conditions: &[Condition],
        options: &GenerateOptions,
    ) -> Result<Vec<Generated>> {
        if options.decoding == Decoding::Constrained {
            let stream = |index: usize| random::stream(options.seed, ID, &[index as u64]);
            return Ok(exact::answers(self, conditions, stream));
        }
        Ok(options.answer_each(ID, conditions, |condition, mut rng| {
            let tree = self.free(&condition.service, &mut rng);
            self.answer(condition, &tree, &mut rng)
        }))
    }
}
