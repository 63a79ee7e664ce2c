use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::check;
use crate::error::UserError;

/// Everything that a simulated cloud depends on. The defaults are calibrated against the Alibaba
/// v2022 traces (`docs/simulator.md` has the comparison).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulatorConfig {
    /// Seed of the cloud (the default is one that comes near the real traces): its services,
    /// microservices, templates and speeds. Graphs have a seed of their own.
    pub seed: u64,
    /// Services that can be requested, from 1.
    pub services: u32,
    /// Microservices that exist, from 10; rarely called ones may not be part of any template.
    pub microservices: u32,
    /// Exponent of the popularity of services: the k-th is requested ∝ k^-exponent.
    pub service_zipf: f64,
    /// Exponent with which templates choose microservices.
    pub microservice_zipf: f64,
    /// No graph has more calls than this.
    pub max_edges: u32,
    /// No graph is deeper than this.
    pub max_depth: u32,
    /// What share of requests goes to services of each shape (relative weights).
    pub shapes: ShapeWeights,
    /// Types of calls that make no further calls (relative weights).
    pub leaf_types: LeafTypeWeights,
    /// Share of a template's other calls that are optional.
    pub optional: f64,
    /// Mean number of rare calls in a template below each call that makes calls; a rare call is
    /// made in fewer than 10 % of the cases.
    pub rare_calls: f64,
    /// Share of a template's calls that may be repeated.
    pub repeated: f64,
    /// Probability that a call starts before its previous sibling has finished, if that one takes
    /// a millisecond or more.
    pub overlap: f64,
    /// Mean share of a service's requests that are slow; a service's own lies within half and
    /// one and a half times this.
    pub slow: f64,
    /// Share of requests that go to long-running services, half of whose requests take seconds.
    pub long_running: f64,
}

/// Shapes that a service's template can have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShapeWeights {
    /// A root call, at times with a call or two below it.
    pub single: f64,
    /// A root that calls leaves: depth 2.
    pub flat: f64,
    /// Depth 3.
    pub layered: f64,
    /// Depth 4.
    pub deep: f64,
    /// Depth 4 to 6, with a call in a loop of up to dozens.
    pub large: f64,
    /// Depth 2 or 3, with a call in a loop of up to dozens.
    pub batch: f64,
    /// Depth 3 to 5, with a layer in which several calls make calls; with a loop, too. In all other
    /// shapes one call of a layer makes calls at most.
    pub branching: f64,
}

/// Types of leaf calls, as in call graphs: memory cache, remote procedure call, database, HTTP, message
/// queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeafTypeWeights {
    pub mc: f64,
    pub rpc: f64,
    pub db: f64,
    pub http: f64,
    pub mq: f64,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            seed: 10,
            services: 300,
            microservices: 400,
            service_zipf: 1.0,
            microservice_zipf: 1.4,
            max_edges: 92,
            max_depth: 6,
            shapes: ShapeWeights::default(),
            leaf_types: LeafTypeWeights::default(),
            optional: 0.5,
            rare_calls: 2.5,
            repeated: 0.45,
            overlap: 0.05,
            slow: 0.06,
            long_running: 0.025,
        }
    }
}

impl Default for ShapeWeights {
    fn default() -> Self {
        Self {
            single: 0.22,
            flat: 0.17,
            layered: 0.45,
            deep: 0.1,
            large: 0.01,
            batch: 0.08,
            branching: 0.0065,
        }
    }
}

impl Default for LeafTypeWeights {
    fn default() -> Self {
        Self { mc: 0.72, rpc: 0.27, db: 0.11, http: 0.003, mq: 0.007 }
    }
}

impl ShapeWeights {
    pub(super) fn all(&self) -> [(&'static str, f64); 7] {
        [
            ("single", self.single),
            ("flat", self.flat),
            ("layered", self.layered),
            ("deep", self.deep),
            ("large", self.large),
            ("batch", self.batch),
            ("branching", self.branching),
        ]
    }
}

impl LeafTypeWeights {
    pub(super) fn all(&self) -> [(&'static str, f64); 5] {
        [("mc", self.mc), ("rpc", self.rpc), ("db", self.db), ("http", self.http), ("mq", self.mq)]
    }
}

/// Fewest microservices of a cloud: two of each of the five roles.
const MIN_MICROSERVICES: u32 = 10;

impl SimulatorConfig {
    /// # Errors
    /// The first setting that is impossible, by its key.
    pub(super) fn validate(&self) -> Result<()> {
        within("services", self.services, 1, 1_000_000)?;
        within("microservices", self.microservices, MIN_MICROSERVICES, 90_000)?;
        within("max_edges", self.max_edges, 1, 500)?;
        within("max_depth", self.max_depth, 1, 15)?;
        within("service_zipf", self.service_zipf, 0.0, 4.0)?;
        within("microservice_zipf", self.microservice_zipf, 0.0, 4.0)?;
        for (key, share) in [
            ("optional", self.optional),
            ("repeated", self.repeated),
            ("overlap", self.overlap),
            ("long_running", self.long_running),
        ] {
            within(key, share, 0.0, 1.0)?;
        }
        within("slow", self.slow, 0.0, 0.5)?;
        within("rare_calls", self.rare_calls, 0.0, 20.0)?;
        weights("shapes", &self.shapes.all())?;
        weights("leaf_types", &self.leaf_types.all())
    }
}

fn within<T: PartialOrd + std::fmt::Display>(key: &str, value: T, low: T, high: T) -> Result<()> {
    check::within(key, value, low..=high)
        .map_err(|message| UserError::setting(format!("simulator: {message}")).into())
}

fn weights(table: &str, weights: &[(&str, f64)]) -> Result<()> {
    for (key, weight) in weights {
        within(&format!("{table}.{key}"), *weight, 0.0, 1e6)?;
    }
    if weights.iter().all(|(_, weight)| *weight == 0.0) {
        let message = format!("simulator: {table}: all weights are 0; at least one must not be");
        return Err(UserError::setting(message).into());
    }
    Ok(())
}
