//! The baseline `sibling-sets`: whole sets of children, drawn as they were observed.
//!
//! In the manner of Du et al., "A Microservice Graph Generator with Production Characteristics" (2024,
//! arXiv 2412.19083), which groups graphs by service and draws the children of a node given the
//! siblings among which it stands. Our reading, and where it departs:
//!
//! 1. The root and its type are drawn from the training graphs of the service.
//! 2. The children of a call (an ordered list of destinations and types, repetitions included) are drawn
//!    from the lists observed for the same (service, microservice, depth, set of siblings); where that was never
//!    seen, for (service, microservice, depth), then (service, microservice), then the microservice.
//! 3. A call that was never seen makes no calls. The original clusters similar graphs first; here a
//!    service's graphs are one group, since a request names the service.
//! 4. Times are laid out over the finished tree ([`super::times`]).
//! 5. num_edges and depth of the request are ignored.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::tables::{self, Callee, Frequencies, GrowthSettings, distinct, pairs};
use super::times::{Times, Tree};
use super::{Entry, FitContext, FitReport, GenerateOptions, Generator, Recipe, no_checkpoint};
use crate::device::DeviceChoice;
use crate::graph::{CallGraph, Condition, Generated, Name};
use crate::version::Version;

const ID: &str = "sibling-sets";

/// What the registry says of it.
pub const ENTRY: Entry = Entry {
    id: ID,
    about: "observed sets of children, drawn given the siblings (after Du et al., 2024)",
    training: Version::new("train/sibling-sets", 1),
    answers: Version::new("answer/sibling-sets", 1),
    constrained: false,
    likelihood: false,
    tiny: Some(""),
    build,
};

/// The recipe of `sibling-sets`.
///
/// # Errors
/// Unknown settings or values.
fn build(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    let settings = GrowthSettings::read(ID, table)?;
    Ok(Box::new(SiblingSets { settings }))
}

struct SiblingSets {
    settings: GrowthSettings,
}

impl Recipe for SiblingSets {
    fn fit(&self, context: &FitContext) -> Result<FitReport> {
        let mut model = TrainedSiblingSets {
            settings: self.settings.clone(),
            roots: BTreeMap::new(),
            any_root: Frequencies::default(),
            children: BTreeMap::new(),
            times: Times::default(),
        };
        context.dataset.train().into_iter().for_each(|graph| model.learn(graph));
        tables::save(&model, context.out)?;
        let contexts = ("contexts".to_owned(), model.children.len().to_string());
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
        Ok(Box::new(tables::load::<TrainedSiblingSets>(dir)?))
    }
}

/// What is known of a call whose children are drawn; `None` is not looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Context {
    service: Option<Name>,
    microservice: Name,
    depth: Option<u32>,
    /// The call itself and its siblings, sorted, each once.
    siblings: Option<Vec<Callee>>,
}

/// From the longest to the shortest.
fn contexts(service: &Name, microservice: &Name, depth: u32, siblings: &[Callee]) -> [Context; 4] {
    let context = |service: Option<&Name>, depth, siblings| Context {
        service: service.cloned(),
        microservice: microservice.clone(),
        depth,
        siblings,
    };
    let mut set = siblings.to_vec();
    set.sort();
    set.dedup();
    [
        context(Some(service), Some(depth), Some(set)),
        context(Some(service), Some(depth), None),
        context(Some(service), None, None),
        context(None, None, None),
    ]
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct TrainedSiblingSets {
    settings: GrowthSettings,
    roots: BTreeMap<Name, Frequencies<Callee>>,
    /// Roots of all services, for one that training lacks.
    any_root: Frequencies<Callee>,
    /// Lists of children, in order.
    #[serde(with = "pairs")]
    children: BTreeMap<Context, Frequencies<Vec<Callee>>>,
    times: Times,
}

impl TrainedSiblingSets {
    fn learn(&mut self, graph: &CallGraph) {
        let calls = graph.calls();
        let callee = |index: &u32| {
            let call = &calls[*index as usize];
            (call.destination.clone(), call.kind)
        };
        let lists: Vec<Vec<Callee>> =
            graph.children().iter().map(|list| list.iter().map(callee).collect()).collect();
        self.roots.entry(graph.service().clone()).or_default().add(callee(&0));
        self.any_root.add(callee(&0));
        let alone = [callee(&0)];
        for (call, list) in calls.iter().zip(&lists) {
            let siblings = call.parent.map_or(&alone[..], |parent| &lists[parent as usize]);
            for context in contexts(graph.service(), &call.destination, call.depth, siblings) {
                self.children.entry(context).or_default().add(list.clone());
            }
        }
        self.times.learn(graph);
    }

    fn parameters(&self) -> u64 {
        let tables = distinct(&self.roots) + self.any_root.len() + distinct(&self.children);
        tables + self.times.parameters()
    }

    fn tree(&self, service: &Name, rng: &mut ChaCha8Rng) -> Tree {
        let mut tree = Tree::default();
        let roots = self.roots.get(service).unwrap_or(&self.any_root);
        let Some(root) = roots.draw(rng) else { return tree };
        tree.push(None, root.clone());
        // Depth and siblings of each call.
        let mut places = vec![(1, vec![root.clone()])];
        // Breadth first: a graph that is cut off at `max_calls` loses its deepest calls.
        let mut parent = 0;
        while parent < tree.nodes.len() {
            let (depth, siblings) = &places[parent];
            let depth = *depth;
            let known = contexts(service, &tree.nodes[parent].destination, depth, siblings);
            let table = known.iter().find_map(|context| self.children.get(context));
            let mut list = table.and_then(|table| table.draw(rng)).cloned().unwrap_or_default();
            list.truncate((self.settings.max_calls as usize).saturating_sub(tree.nodes.len()));
            for callee in &list {
                tree.push(Some(parent), callee.clone());
                places.push((depth + 1, list.clone()));
            }
            parent += 1;
        }
        tree
    }
}

impl Generator for TrainedSiblingSets {
    fn generate(
        &self,
        conditions: &[Condition],
        options: &GenerateOptions,
    ) -> Result<Vec<Generated>> {
        Ok(options.answer_each(ID, conditions, |Condition { service, latency, .. }, mut rng| {
            let tree = self.tree(service, &mut rng);
            Generated::complete(self.times.lay_out(service, &tree, *latency, &mut rng))
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::generators::tests::{call_error, condition, generate, train_only};
    use crate::graph::{CallRow, USER};
    use crate::testing::{any_graph, row};

    /// Children depend on the siblings that a call stands among: MS_2 calls MS_4 beside MS_3, and
    /// nothing when alone.
    #[test]
    fn children_depend_on_siblings() {
        let graph = |rows: &[CallRow]| CallGraph::from_rows("S_1".into(), rows).expect("valid");
        let root = || row("0", USER, "MS_1", "http", 0, 10);
        let alone = graph(&[root(), row("0.1", "MS_1", "MS_2", "rpc", 1, 3)]);
        let beside = graph(&[
            root(),
            row("0.1", "MS_1", "MS_2", "rpc", 1, 3),
            row("0.1.1", "MS_2", "MS_4", "mc", 1, 2),
            row("0.2", "MS_1", "MS_3", "rpc", 4, 9),
        ]);
        let dataset = train_only(vec![alone, beside]);
        let answers = generate(ID, "", &dataset, &vec![condition("S_1", None); 200], 3);
        let sizes: Vec<usize> = answers.iter().map(|answer| answer.rows.len()).collect();
        assert!(sizes.contains(&2) && sizes.contains(&4), "{sizes:?}");
        assert!(sizes.iter().all(|size| [2, 4].contains(size)), "{sizes:?}");
    }

    /// The share of each communication in all calls is what this model is about; the sample that it
    /// learns from is itself this far from the truth.
    #[test]
    fn the_calls_of_a_simulated_cloud_are_learnt() {
        let (error, of_sample) = call_error(ID, "", 8);
        assert!(error < 1.5 * of_sample && of_sample < 0.05, "{error} {of_sample}");
    }

    #[test]
    fn settings_that_do_not_exist_are_refused() {
        for text in ["max_call = 3", "max_calls = 0"] {
            let error = build(&text.parse().expect("TOML")).err().expect("refused").to_string();
            assert!(error.contains("max_call"), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        /// Valid graphs, within the limit, also for a service that training lacks.
        #[test]
        fn graphs_are_valid(graphs in prop::collection::vec(any_graph(15), 1..10)) {
            let dataset = train_only(graphs);
            let conditions = ["S_000000000", "S_new"].map(|service| condition(service, Some(7)));
            let answers = generate(ID, "max_calls = 20", &dataset, &conditions, 3);
            for (condition, answer) in conditions.iter().zip(&answers) {
                let graph = CallGraph::from_rows(condition.service.clone(), &answer.rows).unwrap();
                prop_assert!(graph.num_edges() <= 20);
                prop_assert_eq!(graph.latency(), 7);
            }
        }
    }
}
