//! The baseline `digress`: denoising diffusion on the types of nodes and edges.
//!
//! After Vignac et al., "DiGress: Discrete Denoising Diffusion for Graph Generation" (ICLR 2023, arXiv
//! 2209.14734). A graph has one node per call, whose type is the microservice that is called, and one
//! for the user; the type of an ordered pair is that of the call from parent to child, or none. Noise
//! replaces types by draws from their marginals, step by step on a cosine schedule; a graph
//! transformer learns the clean types from noisy ones and from the condition; a graph is drawn by
//! going back from pure noise, through the posterior of each step.
//!
//! What is enforced: the number of nodes is the request's num_edges (that of a random training graph
//! of the service where it is open), no pair leads to the user or from a node to itself, and with
//! `positions` no pair leads to an earlier node. That the pairs with a call make a tree is *not*: a
//! draw with several callers, circles or calls that nobody makes is answered with that failure, and
//! the calls that the user's call leads to. With `decode = "arborescence"` (ours) the last step is not
//! drawn pair by pair: its probabilities choose the most likely tree.
//!
//! Departures:
//!
//! 1. Pairs are directed, so both directions of a pair are looked at together; the marginal of pairs is that of
//!    trees of the graph's size.
//! 2. Attention has one score per head (the sum of its channels), the update of a pair is one product
//!    and one layer, and what is known of the whole graph is not updated between layers: the user's
//!    node, which all others attend to, can do that.
//! 3. Structural features are those of directed trees: degrees, reach and distance from the user.
//! 4. With `positions` nodes know their place in depth-first order, and are not a set any more.
//!    Without, siblings come in the order of the nodes, which means nothing.
//! 5. There are no continuous attributes: times are laid out over the finished tree
//!    ([`super::times`]).
//! 6. The temperature and top-k of a request apply to the predicted destinations, not to pairs.

mod diffusion;
mod host;
mod network;
mod sample;
#[cfg(test)]
mod tests;
mod train;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use self::diffusion::{Marginal, Noise, NoiseSchedule, State};
use self::host::Network;
use self::network::{DigressShape, Wish};
use self::sample::Decode;
use self::train::Example;
use super::tables::{self, Frequencies};
use super::times::{Times, Tree};
use super::{
    Entry, FitContext, FitReport, GenerateOptions, Generator, Recipe, no_checkpoint, settings,
};
use crate::check::within;
use crate::device::DeviceChoice;
use crate::error::UserError;
use crate::graph::{CallGraph, CallType, Condition, Generated, Name};
use crate::model::neural::{Bins, Parameters};
use crate::version::Version;

const ID: &str = "digress";

/// `[settings]` of a baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DigressSettings {
    decode: Decode,
    /// Whether nodes know their place in depth-first order.
    positions: bool,
    /// Steps of noise.
    diffusion_steps: usize,
    /// Largest graph: larger ones are not learnt from, and never drawn.
    max_calls: usize,
    layers: usize,
    /// Width of a node, of a pair, and of what is known of the whole graph.
    width: usize,
    pair_width: usize,
    graph_width: usize,
    heads: usize,
    /// Updates of the training.
    steps: u64,
    /// Pairs of nodes in an update, about.
    batch_pairs: usize,
    learning_rate: f64,
    /// Weight of pairs in the loss (λ).
    edge_weight: f64,
}

impl Default for DigressSettings {
    fn default() -> Self {
        Self {
            decode: Decode::Sampled,
            positions: true,
            diffusion_steps: 50,
            max_calls: 64,
            layers: 4,
            width: 64,
            pair_width: 32,
            graph_width: 64,
            heads: 4,
            steps: 4_000,
            batch_pairs: 4_096,
            learning_rate: 2e-3,
            edge_weight: 5.0,
        }
    }
}

impl DigressSettings {
    fn check(&self) -> Result<()> {
        let wrong = |message: String| {
            Err(UserError::setting(format!("generator `{ID}`: {message}")).into())
        };
        let ranges = [
            ("diffusion_steps", self.diffusion_steps, 1, 1_000),
            ("max_calls", self.max_calls, 1, 256),
            ("layers", self.layers, 1, 16),
            ("width", self.width, 1, 1_024),
            ("pair_width", self.pair_width, 1, 1_024),
            ("graph_width", self.graph_width, 1, 1_024),
            ("heads", self.heads, 1, 64),
            ("batch_pairs", self.batch_pairs, 1, 1 << 20),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return wrong(format!("{name} = {value}; use {least} to {most}"));
            }
        }
        let Self { heads, pair_width, learning_rate, edge_weight, .. } = *self;
        if !pair_width.is_multiple_of(heads) {
            return wrong(format!(
                "pair_width = {pair_width} cannot be divided among heads = {heads}; use a multiple"
            ));
        }
        if let Err(message) = within("steps", self.steps, 1..=1_000_000_000) {
            return wrong(message);
        }
        for (name, value) in [("learning_rate", learning_rate), ("edge_weight", edge_weight)] {
            if !(value > 0.0 && value.is_finite()) {
                return wrong(format!("{name} = {value}; use a number above 0"));
            }
        }
        Ok(())
    }
}

/// What the registry says of it.
pub const ENTRY: Entry = Entry {
    id: ID,
    about: "discrete diffusion on nodes and edges (after Vignac et al., ICLR 2023)",
    training: Version::new("train/digress", 1),
    answers: Version::new("answer/digress", 1),
    constrained: false,
    likelihood: false,
    tiny: Some(
        "steps = 8\nlayers = 1\nwidth = 8\npair_width = 8\ngraph_width = 8\nheads = 2\ndiffusion_steps = 6\n",
    ),
    build,
};

/// The recipe of `digress`.
///
/// # Errors
/// Unknown settings or values.
fn build(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    let settings: DigressSettings = settings(ID, table)?;
    settings.check()?;
    Ok(Box::new(Digress { settings }))
}

struct Digress {
    settings: DigressSettings,
}

/// File of the network's parameters.
const PARAMETERS: &str = "network.safetensors";

impl Recipe for Digress {
    fn fit(&self, context: &FitContext) -> Result<FitReport> {
        if let Some(base) = context.base {
            return self.adopt(base, context.out);
        }
        let graphs = context.dataset.train();
        let small = |graph: &&CallGraph| graph.num_edges() as usize <= self.settings.max_calls;
        let (learnt, large): (Vec<&CallGraph>, Vec<&CallGraph>) =
            graphs.into_iter().partition(small);
        if learnt.is_empty() {
            let message = format!(
                "generator `{ID}`: no training graph has at most max_calls = {} calls; raise it",
                self.settings.max_calls
            );
            return Err(UserError::setting(message).into());
        }
        let tables = Tables::learn(&self.settings, &learnt);
        let (shape, schedule) = (tables.shape(), tables.schedule());
        let examples: Vec<Example> = learnt.iter().map(|graph| tables.example(graph)).collect();
        let noise = tables.noise(&schedule);
        let (parameters, loss, epochs) =
            train::train(&examples, &shape, &noise, &self.settings, context)?;
        parameters.save(&context.out.join(PARAMETERS))?;
        tables::save(&tables, context.out)?;
        let note = |name: &str, value: String| (name.to_owned(), value);
        Ok(FitReport {
            parameters: parameters.count(),
            notes: vec![
                note("steps", self.settings.steps.to_string()),
                note("epochs", format!("{epochs:.1}")),
                note("final loss", format!("{loss:.4}")),
                note("destinations", tables.destinations.len().to_string()),
                note("graphs left out as too large", large.len().to_string()),
            ],
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
        let tables: Tables = tables::load(dir)?;
        let shape = tables.shape();
        let parameters = Parameters::load(&dir.join(PARAMETERS), &shape.layout())?;
        let (network, schedule) = (Network::new(&shape, &parameters), tables.schedule());
        Ok(Box::new(TrainedDigress { tables, network, schedule }))
    }
}

impl Digress {
    /// Takes over the training in `base`: the same network, drawn from in this recipe's way.
    fn adopt(&self, base: &Path, out: &Path) -> Result<FitReport> {
        let tables: Tables = tables::load(base)?;
        let decode = self.settings.decode;
        let settings = DigressSettings { decode, ..tables.settings };
        if settings != self.settings {
            let message = format!(
                "generator `{ID}` can start from a training only to decode it in another way, and that \
                 training has other settings: {settings:?}, not {:?}; make them equal",
                self.settings
            );
            return Err(UserError::setting(message).into());
        }
        let tables = Tables { settings, ..tables };
        let parameters = Parameters::load(&base.join(PARAMETERS), &tables.shape().layout())?;
        parameters.save(&out.join(PARAMETERS))?;
        tables::save(&tables, out)?;
        Ok(FitReport { parameters: parameters.count(), ..FitReport::default() })
    }
}

/// Depths above this are one to the network.
const MAX_DEPTH: usize = 20;
/// Classes of latencies.
const LATENCIES: usize = 16;

/// What is known besides the network's parameters.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Tables {
    settings: DigressSettings,
    /// Ascending; a number is an index.
    destinations: Vec<Name>,
    services: Vec<Name>,
    /// Shares of destinations among calls, and of types of calls.
    marginal: Marginal,
    kinds: Marginal,
    latencies: Bins,
    /// Calls per graph of each service, and of all.
    sizes: BTreeMap<Name, Frequencies<u32>>,
    any_size: Frequencies<u32>,
    times: Times,
}

impl Tables {
    /// `graphs` are not empty.
    fn learn(settings: &DigressSettings, graphs: &[&CallGraph]) -> Self {
        let calls = || graphs.iter().flat_map(|graph| graph.calls());
        let destinations: BTreeSet<&Name> = calls().map(|call| &call.destination).collect();
        let destinations: Vec<Name> = destinations.into_iter().cloned().collect();
        let services: BTreeSet<&Name> = graphs.iter().map(|graph| graph.service()).collect();
        let mut counts = vec![0.0; destinations.len()];
        let mut kinds = vec![0.0; CallType::ALL.len()];
        for call in calls() {
            kinds[call.kind as usize] += 1.0;
            if let Ok(index) = destinations.binary_search(&call.destination) {
                counts[index] += 1.0;
            }
        }
        let mut sizes: BTreeMap<Name, Frequencies<u32>> = BTreeMap::new();
        let (mut any_size, mut times) = (Frequencies::default(), Times::default());
        for graph in graphs {
            sizes.entry(graph.service().clone()).or_default().add(graph.num_edges());
            any_size.add(graph.num_edges());
            times.learn(graph);
        }
        let latencies = graphs.iter().map(|graph| i64::from(graph.latency()));
        Self {
            settings: settings.clone(),
            services: services.into_iter().cloned().collect(),
            marginal: Marginal::of(&counts),
            kinds: Marginal::of(&kinds),
            latencies: Bins::learn(latencies, LATENCIES),
            destinations,
            sizes,
            any_size,
            times,
        }
    }

    fn shape(&self) -> DigressShape {
        let DigressSettings { max_calls, diffusion_steps, layers, .. } = self.settings;
        let DigressSettings { width, pair_width, graph_width, heads, positions, .. } =
            self.settings;
        DigressShape {
            types: self.destinations.len(),
            services: self.services.len() + 1,
            calls: max_calls,
            depths: MAX_DEPTH + 1,
            latencies: self.latencies.count() + 1,
            steps: diffusion_steps,
            layers,
            width,
            pair_width,
            graph_width,
            heads,
            positions,
        }
    }

    fn schedule(&self) -> NoiseSchedule {
        NoiseSchedule::new(self.settings.diffusion_steps)
    }

    fn noise<'a>(&'a self, schedule: &'a NoiseSchedule) -> Noise<'a> {
        let ordered = self.settings.positions;
        Noise { schedule, destinations: &self.marginal, kinds: &self.kinds, ordered }
    }

    fn example(&self, graph: &CallGraph) -> Example {
        // Every destination of a training graph is known.
        let number = |name: &str| {
            self.destinations.binary_search_by(|known| known.as_str().cmp(name)).unwrap_or(0)
        };
        let wish = self.wish(
            graph.service(),
            graph.num_edges(),
            Some(graph.depth()),
            Some(graph.latency()),
        );
        Example { state: State::of(graph, number), wish }
    }

    fn wish(&self, service: &Name, calls: u32, depth: Option<u32>, latency: Option<u32>) -> Wish {
        Wish {
            service: self.services.binary_search(service).map_or(0, |index| index + 1),
            calls: (calls as usize).clamp(1, self.settings.max_calls),
            depth: depth.map_or(0, |depth| (depth as usize).clamp(1, MAX_DEPTH)),
            latency: latency.map_or(0, |latency| self.latencies.index(latency.into()) + 1),
        }
    }
}

struct TrainedDigress {
    tables: Tables,
    network: Network,
    schedule: NoiseSchedule,
}

impl TrainedDigress {
    fn answer(
        &self,
        condition: &Condition,
        options: &GenerateOptions,
        rng: &mut ChaCha8Rng,
    ) -> Generated {
        let Self { tables, network, schedule } = self;
        let Condition { service, num_edges, depth, latency, .. } = condition;
        let usual = tables.sizes.get(service).unwrap_or(&tables.any_size);
        let calls = num_edges.or_else(|| {
            let drawn = usual.draw(rng).copied();
            drawn.map(|calls| calls.max(depth.unwrap_or(1)))
        });
        let wish = tables.wish(service, calls.unwrap_or(1), *depth, *latency);
        let noise = tables.noise(schedule);
        let decode = tables.settings.decode;
        let state = sample::draw(network, &noise, &wish, decode, options.sampling, rng);
        let rows = tables.times.lay_out(service, &self.tree(&state), *latency, rng);
        Generated { rows, failure: sample::violation(&state), ..Generated::default() }
    }

    /// The calls that the user's first call leads to.
    fn tree(&self, state: &State) -> Tree {
        let mut tree = Tree::default();
        // Index in the tree of each node of the graph.
        let mut places = vec![None; state.nodes()];
        for (node, parent, _) in state.reached() {
            let place = places[parent];
            if place.is_none() && !tree.nodes.is_empty() {
                // Below another call of the user.
                continue;
            }
            let destination = self.tables.destinations[state.types[node - 1]].clone();
            let kind = CallType::ALL[state.edge(parent, node) - 1];
            places[node] = Some(tree.push(place, (destination, kind)));
        }
        tree
    }
}

impl Generator for TrainedDigress {
    fn generate(
        &self,
        conditions: &[Condition],
        options: &GenerateOptions,
    ) -> Result<Vec<Generated>> {
        Ok(options.answer_each(ID, conditions, |condition, mut rng| {
            self.answer(condition, options, &mut rng)
        }))
    }
}
