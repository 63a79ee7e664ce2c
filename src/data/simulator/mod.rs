//! A simulated cloud: the default data source, and a ground truth. Its distribution over call
//! graphs is known exactly, so true frequencies can be set beside measured ones.
//!
//! A [`Cloud`] has services of Zipf popularity. Each has a template: a tree of calls, of which
//! some are optional, rare or repeated. A request draws a service, a variant of its template, and
//! then every call of the tree independently. `docs/simulator.md` describes the model and compares
//! it with real traces.

mod chance;
mod config;
mod draw;
mod pool;
mod raw;
mod template;
#[cfg(test)]
mod tests;
mod truth;

pub use config::{LeafTypeWeights, ShapeWeights, SimulatorConfig};
pub use pool::Pool;
pub use raw::{RawBlock, RawDefects, RawRows};
pub use truth::{Branch, Communication, Frequency, UNCOMMON};

use std::collections::BTreeMap;

use anyhow::Result;
use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::source::{Source, SourceInput, SourceOutput, SourceRequest};
use super::{Funnel, HeldOut};
use crate::error::UserError;
use crate::graph::{CallGraph, CallRow, Condition, EdgeId, Name, USER};
use crate::random;
use crate::version::Version;
use chance::WeightedTable;
use draw::DrawnCall;
use template::{Blueprint, Microservice, Template, blueprint};

/// Version of this source: the cloud and its requests.
pub const VERSION: Version = Version::new("source/simulator", 2);

/// Name of the stream of graphs for prompts.
const POOL: &str = "simulator.pool";

/// Graphs that are drawn in search of one of a shape that was asked for. Of the shapes of 100 graphs, one is
/// not found at a temperature of 0.8, and hardly any at 1.
const ATTEMPTS: u64 = 1_000;

/// Graphs simulated when neither the manifest nor the command line says how many.
const DEFAULT_SIMULATED: u64 = 20_000;

/// Keys of `[source]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simulator {
    /// Seed of the requests; the cloud has its own.
    #[serde(default)]
    pub seed: u64,
    #[serde(default)]
    pub cloud: SimulatorConfig,
    #[serde(default)]
    pub pool: Pool,
}

impl Source for Simulator {
    fn version() -> Version {
        VERSION
    }

    fn makes_graphs() -> bool {
        true
    }

    fn check(&self) -> Result<(), String> {
        self.cloud.validate().map_err(|error| format!("key source.cloud: {error}"))?;
        self.pool.check()
    }

    fn inputs(&self) -> Vec<SourceInput<'_>> {
        Vec::new()
    }

    fn read(&self, request: &SourceRequest<'_>) -> Result<SourceOutput> {
        let cloud = Cloud::new(&self.cloud)?;
        let count = request.graphs.unwrap_or(DEFAULT_SIMULATED);
        let step = request.progress.step("simulating", "graphs", count);
        let graphs: Vec<CallGraph> = (0..count)
            .into_par_iter()
            .map(|index| {
                step.inc(1);
                cloud.graph(self.seed, index)
            })
            .collect();
        step.finish();
        let mut funnel = Funnel::default();
        funnel.push_graphs("simulated", &graphs);
        let pool = self.pool.draw(&cloud, self.seed, count, request.progress);
        let held_out = pool.into_iter().map(|(_, held_out)| held_out).collect();
        Ok(SourceOutput { graphs, held_out, funnel, ..SourceOutput::default() })
    }
}

/// Services, microservices and templates, made from one [`SimulatorConfig`].
#[derive(Clone, Debug)]
pub struct Cloud {
    user: Name,
    /// By popularity.
    service_names: Vec<Name>,
    service_index: BTreeMap<Name, usize>,
    popularity: WeightedTable,
    microservices: Vec<Microservice>,
    templates: Vec<Template>,
    overlap: f64,
}

impl Cloud {
    /// # Errors
    /// A setting that is impossible, by its key.
    pub fn new(config: &SimulatorConfig) -> Result<Self> {
        config.validate()?;
        let Blueprint { service_names, popularity, microservices, templates } = blueprint(config);
        let service_index = service_names.iter().cloned().zip(0..).collect();
        Ok(Self {
            user: Name::from(USER),
            service_names,
            service_index,
            popularity,
            microservices,
            templates,
            overlap: config.overlap,
        })
    }

    /// Names of all services, most popular first. A service's index here is its number in all
    /// other functions.
    pub fn services(&self) -> &[Name] {
        &self.service_names
    }

    /// Number of the service with this name.
    pub fn service(&self, name: &str) -> Option<usize> {
        self.service_index.get(name).copied()
    }

    /// Names of all microservices, those in no template included.
    pub fn microservices(&self) -> Vec<Name> {
        self.microservices.iter().map(|microservice| microservice.name.clone()).collect()
    }

    /// Graph number `index` of the stream `seed`: the same whatever else is drawn, in any order
    /// and from any thread.
    pub fn graph(&self, seed: u64, index: u64) -> CallGraph {
        let (service, calls) = self.request(seed, index);
        self.finish(service, &calls)
    }

    /// Graph number `index` of a stream of requests to one service only.
    ///
    /// # Errors
    /// A service number that does not exist.
    pub fn graph_of(&self, service: usize, seed: u64, index: u64) -> Result<CallGraph> {
        let template = self.templates.get(service).ok_or_else(|| {
            let count = self.templates.len();
            UserError::setting(format!("service number {service}: the cloud has {count} services"))
        })?;
        let path = [service as u64, index];
        let mut rng = random::stream(seed, "simulator.graph_of", &path);
        let calls = draw::draw(template, &self.microservices, self.overlap, &mut rng);
        Ok(self.finish(service, &calls))
    }

    /// Graph number `index` of a stream of its own, none of which is a graph of [`Cloud::graph`]: for
    /// prompts, and never trained on.
    pub fn pool_graph(&self, seed: u64, index: u64) -> CallGraph {
        let (service, calls) = self.drawn(random::stream(seed, POOL, &[index]));
        self.finish(service, &calls)
    }

    /// The attributes of [`Cloud::pool_graph`], without the graph.
    fn pool_shape(&self, seed: u64, index: u64) -> HeldOut {
        let (service, calls) = self.drawn(random::stream(seed, POOL, &[index]));
        let slots = &self.templates[service].slots;
        HeldOut {
            num_edges: calls.len() as u32,
            depth: calls.iter().map(|call| slots[call.slot].depth).max().unwrap_or(0),
            service: self.service_names[service].clone(),
            latency: calls[0].finish,
        }
    }

    /// The answer number `index` of a perfect generator to what `asked` says of service, num_edges and
    /// depth: drawn from the truth given these at a `temperature` of 1, and at others, above 0, as a
    /// model draws that has learnt the truth and decides call by call. A latency is not looked at.
    /// `None` for a service that the cloud does not have.
    ///
    /// Graphs of the service are drawn until one has the shape; after [`ATTEMPTS`] the last is taken.
    pub fn answer(
        &self,
        asked: &Condition,
        temperature: f64,
        seed: u64,
        index: u64,
    ) -> Option<CallGraph> {
        let service = self.service(&asked.service)?;
        let template = &self.templates[service];
        let mut drawn = None;
        for attempt in 0..ATTEMPTS {
            let mut rng = random::stream(seed, "simulator.answer", &[index, attempt]);
            let calls = if temperature == 1.0 {
                draw::draw(template, &self.microservices, self.overlap, &mut rng)
            } else {
                let (services, overlap) = (&self.microservices, self.overlap);
                draw::tempered(template, temperature, services, overlap, &mut rng)
            };
            let depth = calls.iter().map(|call| template.slots[call.slot].depth).max();
            let fits = asked.num_edges.is_none_or(|edges| edges as usize == calls.len())
                && asked.depth.is_none_or(|asked| depth == Some(asked));
            drawn = Some(calls);
            if fits {
                break;
            }
        }
        drawn.map(|calls| self.finish(service, &calls))
    }

    /// The service and the calls of graph number `index` of the stream `seed`.
    fn request(&self, seed: u64, index: u64) -> (usize, Vec<DrawnCall>) {
        self.drawn(random::stream(seed, "simulator.graph", &[index]))
    }

    fn drawn(&self, mut rng: impl Rng) -> (usize, Vec<DrawnCall>) {
        let service = self.popularity.pick(&mut rng);
        let template = &self.templates[service];
        (service, draw::draw(template, &self.microservices, self.overlap, &mut rng))
    }

    fn finish(&self, service: usize, calls: &[DrawnCall]) -> CallGraph {
        let mut rows: Vec<CallRow> = Vec::with_capacity(calls.len());
        for call in calls {
            let (edge_id, source) = match call.parent {
                Some(parent) => {
                    (rows[parent].edge_id.child(call.number), rows[parent].destination.clone())
                }
                None => (EdgeId::root(), self.user.clone()),
            };
            rows.push(CallRow {
                edge_id,
                source,
                destination: self.microservices[call.destination].name.clone(),
                kind: call.kind,
                start: call.start,
                finish: call.finish,
            });
        }
        CallGraph::from_rows(self.service_names[service].clone(), &rows)
            .expect("drawn calls form a tree whose children lie inside their parents")
    }
}
