//! Generators of call graphs: the contract, the registry, one file per built-in generator.
//!
//! The harness owns conditions, seeds, splits, timing and scoring; a generator owns nothing but its
//! model. A new built-in generator is one file here with its [`Entry`], and one line in [`REGISTRY`].

mod contract;
mod digress;
pub mod external;
#[cfg(test)]
mod golden;
mod graph_rnn;
pub mod in_context;
pub mod language_model;
mod markov;
pub mod probabilistic;
mod registry;
mod sibling_sets;
mod tables;
mod times;
mod training_set_copy;
mod tvae;

pub use contract::{Decoding, Entry, FitContext, FitReport, GenerateOptions, Generator, Recipe};
pub use registry::{REGISTRY, entry, has_likelihood, recipe, takes_constraints};

use contract::{no_checkpoint, settings};

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::data::simulator::{Cloud, SimulatorConfig};
    use crate::data::{Dataset, DatasetCard, Side};
    use crate::device::DeviceChoice;
    use crate::graph::{CallGraph, CallRow, CallType, Condition, Generated, Name};
    use crate::model::Sampling;
    use crate::progress::Progress;

    /// A dataset of training graphs alone.
    pub fn train_only(graphs: Vec<CallGraph>) -> Dataset {
        let sides = vec![Side::Train; graphs.len()];
        Dataset::new(DatasetCard::default(), graphs, sides)
    }

    /// A request for a graph of a service, with nothing but its latency.
    pub fn condition(service: &str, latency: Option<u32>) -> Condition {
        let service = service.into();
        Condition { service, num_edges: None, depth: None, latency, requests: Vec::new() }
    }

    /// Fits generator `id`, saves it, loads it and generates.
    pub fn generate(
        id: &str,
        settings: &str,
        dataset: &Dataset,
        conditions: &[Condition],
        seed: u64,
    ) -> Vec<Generated> {
        fitted(id, settings, dataset, conditions, seed, Decoding::Free)
    }

    /// The same under constraints.
    pub fn constrained(
        id: &str,
        settings: &str,
        dataset: &Dataset,
        conditions: &[Condition],
    ) -> Vec<Generated> {
        fitted(id, settings, dataset, conditions, 3, Decoding::Constrained)
    }

    fn fitted(
        id: &str,
        settings: &str,
        dataset: &Dataset,
        conditions: &[Condition],
        seed: u64,
        decoding: Decoding,
    ) -> Vec<Generated> {
        let recipe = recipe(id, &settings.parse().expect("TOML")).expect("settings");
        let out = tempfile::tempdir().expect("a folder");
        let scratch = tempfile::tempdir().expect("a folder");
        let device = DeviceChoice::Cpu;
        let context = FitContext {
            dataset,
            seed,
            device,
            base: None,
            out: out.path(),
            scratch: scratch.path(),
            progress: Progress::Quiet,
        };
        let report = recipe.fit(&context).expect("fits");
        assert!(report.parameters > 0);
        assert!(recipe.load(out.path(), Some(1), device).is_err());
        let sampling = Sampling { temperature: 0.8, top_k: None };
        let options =
            GenerateOptions { seed, sampling, decoding, batch: 4, progress: Progress::Quiet };
        let generator = recipe.load(out.path(), None, device).expect("loads");
        generator.generate(conditions, &options).expect("generates")
    }

    /// How far the calls that generator `id` makes are from the truth of a small simulated cloud, and
    /// how far the 4,000 graphs that it learns from are themselves: total variation between the shares
    /// of (source, type, destination) in all calls. Each graph's service is asked for `times`: loops make the
    /// calls of 4,000 true graphs differ from the truth by a half more or less.
    pub fn call_error(id: &str, settings: &str, times: usize) -> (f64, f64) {
        let config = SimulatorConfig { services: 10, ..SimulatorConfig::default() };
        let cloud = Cloud::new(&config).expect("a cloud");
        let graphs: Vec<CallGraph> = (0..4_000).map(|index| cloud.graph(1, index)).collect();
        let requests: Vec<Condition> =
            graphs.iter().map(|graph| condition(graph.service(), None)).collect();
        let requests = vec![requests; times].concat();
        let mut truth: BTreeMap<Triple, f64> = BTreeMap::new();
        for service in 0..cloud.services().len() {
            for (call, frequency) in cloud.communications(service) {
                *truth.entry((call.source, call.kind, call.destination)).or_default() +=
                    cloud.service_probability(service) * frequency.mean;
            }
        }
        let total: f64 = truth.values().sum();
        truth.values_mut().for_each(|mean| *mean /= total);
        let rows: Vec<CallRow> = graphs.iter().flat_map(CallGraph::rows).collect();
        let answers = generate(id, settings, &train_only(graphs), &requests, 1);
        let drawn: Vec<CallRow> = answers.into_iter().flat_map(|answer| answer.rows).collect();
        (distance(&truth, &drawn), distance(&truth, &rows))
    }

    type Triple = (Name, CallType, Name);

    fn distance(truth: &BTreeMap<Triple, f64>, rows: &[CallRow]) -> f64 {
        let mut shares: BTreeMap<Triple, f64> = BTreeMap::new();
        for row in rows {
            let key = (row.source.clone(), row.kind, row.destination.clone());
            *shares.entry(key).or_default() += 1.0 / rows.len() as f64;
        }
        let keys: BTreeSet<&Triple> = truth.keys().chain(shares.keys()).collect();
        let of = |side: &BTreeMap<Triple, f64>, key| side.get(key).copied().unwrap_or(0.0);
        keys.into_iter().map(|key| (of(truth, key) - of(&shares, key)).abs() / 2.0).sum()
    }

    #[test]
    fn an_unknown_generator_is_named_with_the_known_ones() {
        let error =
            recipe("training-set-cpy", &toml::Table::new()).err().expect("unknown").to_string();
        assert!(error.contains("did you mean `training-set-copy`"), "{error}");
    }
}
