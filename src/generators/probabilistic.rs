//! The baseline `probabilistic`: call graphs drawn from tables of training frequencies.
//!
//! In the manner of Luo et al., "Characterizing Microservice Dependency and Performance" (SoCC
//! 2021), extended with response times as in the paper (section 6). The original code is not
//! public; this model is our reading of its description, with these assumptions:
//!
//! 1. A graph grows from its root. The root call's type, destination and response time are drawn
//!    from the training graphs of the condition's service.
//! 2. The number of children of a call is drawn by the service, the call's depth and its type.
//! 3. The type of a child is drawn by the service and its depth; its destination by its type, from
//!    the frequencies that [`Destinations`] names. Siblings are drawn independently.
//! 4. A child's response time is drawn from the training response times of (type, destination),
//!    cut to its parent's; it starts at a uniformly random millisecond at which it still fits.
//!    Siblings are numbered by their start.
//! 5. The condition's num_edges, depth and latency are ignored, as in the published baseline:
//!    where a graph agrees with its request, it does so by chance.
//! 6. A service that training has no graph of gets the tables of all services together.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::tables::{self, Frequencies, distinct};
use super::{
    Entry, FitContext, FitReport, GenerateOptions, Generator, Recipe, no_checkpoint, settings,
};
use crate::device::DeviceChoice;
use crate::graph::{CallGraph, CallRow, CallType, Condition, EdgeId, Generated, Name, USER};
use crate::version::Version;

/// Settings of `probabilistic`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProbabilisticSettings {
    pub destinations: Destinations,
    /// A graph grows no further once it has this many calls.
    pub max_calls: u32,
}

impl Default for ProbabilisticSettings {
    fn default() -> Self {
        Self { destinations: Destinations::Service, max_calls: 1_000 }
    }
}

/// Which calls the frequency of a destination is counted over, always among those of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Destinations {
    /// All calls of the training set: the weakest reading of the published description.
    Overall,
    /// The calls of the condition's service.
    Service,
    /// The calls that leave the same microservice, in any service.
    Source,
}

/// What the registry says of it.
pub const ENTRY: Entry = Entry {
    id: "probabilistic",
    about: "call graphs drawn from tables of training frequencies (after Luo et al., SoCC 2021)",
    training: Version::new("train/probabilistic", 1),
    answers: Version::new("answer/probabilistic", 1),
    constrained: false,
    likelihood: false,
    tiny: Some(""),
    build,
};

/// The recipe of `probabilistic`.
///
/// # Errors
/// Unknown settings or values.
fn build(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    let settings: ProbabilisticSettings = settings("probabilistic", table)?;
    tables::check_max_calls("probabilistic", settings.max_calls)?;
    Ok(Box::new(Probabilistic { settings }))
}

struct Probabilistic {
    settings: ProbabilisticSettings,
}

impl Recipe for Probabilistic {
    fn fit(&self, context: &FitContext) -> Result<FitReport> {
        let mut model = TrainedProbabilistic::empty(self.settings.clone());
        for graph in context.dataset.train() {
            model.learn(graph);
        }
        tables::save(&model, context.out)?;
        let services = ("services".to_owned(), model.services.len().to_string());
        Ok(FitReport {
            parameters: model.parameters(),
            notes: vec![services],
            ..FitReport::default()
        })
    }

    fn load(
        &self,
        dir: &Path,
        checkpoint: Option<u64>,
        _device: DeviceChoice,
    ) -> Result<Box<dyn Generator>> {
        no_checkpoint("probabilistic", checkpoint)?;
        Ok(Box::new(tables::load::<TrainedProbabilistic>(dir)?))
    }
}

type ByType<T> = BTreeMap<CallType, Frequencies<T>>;

/// What the calls of one service (or of all) look like.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Tables {
    /// Type, destination and response time of the root call.
    roots: Frequencies<(CallType, Name, u32)>,
    /// By depth of the call; the first is the root's.
    levels: Vec<LevelTables>,
    /// Destinations of calls below the root.
    destinations: ByType<Name>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct LevelTables {
    types: Frequencies<CallType>,
    /// Number of children, by the call's own type.
    children: ByType<u32>,
}

/// The trained generator: all frequencies.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct TrainedProbabilistic {
    settings: ProbabilisticSettings,
    overall: Tables,
    services: BTreeMap<Name, Tables>,
    /// Destinations of the calls that leave a microservice.
    sources: BTreeMap<Name, ByType<Name>>,
    /// Milliseconds, of calls below the root.
    response_times: BTreeMap<Name, ByType<u32>>,
}

impl TrainedProbabilistic {
    fn empty(settings: ProbabilisticSettings) -> Self {
        Self {
            settings,
            overall: Tables::default(),
            services: BTreeMap::new(),
            sources: BTreeMap::new(),
            response_times: BTreeMap::new(),
        }
    }

    fn learn(&mut self, graph: &CallGraph) {
        let degrees = graph.out_degrees();
        let own = self.services.entry(graph.service().clone()).or_default();
        for tables in [&mut self.overall, own] {
            tables.learn(graph, &degrees);
        }
        for (index, call) in graph.calls().iter().enumerate().skip(1) {
            let to = call.destination.clone();
            let leaving = self.sources.entry(Name::from(graph.source(index))).or_default();
            leaving.entry(call.kind).or_default().add(to.clone());
            let times = self.response_times.entry(to).or_default();
            times.entry(call.kind).or_default().add(call.response_time());
        }
    }

    fn parameters(&self) -> u64 {
        let tables = self.services.values().chain([&self.overall]).map(Tables::parameters);
        tables.sum::<u64>()
            + self.sources.values().map(distinct).sum::<u64>()
            + self.response_times.values().map(distinct).sum::<u64>()
    }

    /// Destination of a call of type `kind` that leaves `source`.
    fn destination(
        &self,
        tables: &Tables,
        source: &Name,
        kind: CallType,
        rng: &mut ChaCha8Rng,
    ) -> Option<Name> {
        let scope = match self.settings.destinations {
            Destinations::Overall => self.overall.destinations.get(&kind),
            Destinations::Service => tables.destinations.get(&kind),
            Destinations::Source => self.sources.get(source).and_then(|types| types.get(&kind)),
        };
        // Independent draws of types and sources make pairs that training never saw.
        let scope = scope.or_else(|| tables.destinations.get(&kind));
        scope?.draw(rng).cloned()
    }

    /// A child of `parent`, numbered later.
    fn child(
        &self,
        tables: &Tables,
        parent: &CallRow,
        depth: usize,
        rng: &mut ChaCha8Rng,
    ) -> Option<CallRow> {
        let kind = *tables.levels.get(depth)?.types.draw(rng)?;
        let destination = self.destination(tables, &parent.destination, kind, rng)?;
        let times = self.response_times.get(&destination).and_then(|types| types.get(&kind));
        let drawn = times.and_then(|times| times.draw(rng)).copied().unwrap_or(0);
        let response_time = drawn.min(parent.finish - parent.start);
        let start = rng.random_range(parent.start..=parent.finish - response_time);
        Some(CallRow {
            edge_id: EdgeId::root(),
            source: parent.destination.clone(),
            destination,
            kind,
            start,
            finish: start + response_time,
        })
    }

    fn answer(&self, condition: &Condition, mut rng: ChaCha8Rng) -> Generated {
        let rng = &mut rng;
        let tables = self.services.get(&condition.service).unwrap_or(&self.overall);
        let mut rows: Vec<CallRow> = Vec::new();
        if let Some((kind, destination, response_time)) = tables.roots.draw(rng) {
            rows.push(CallRow {
                edge_id: EdgeId::root(),
                source: USER.into(),
                destination: destination.clone(),
                kind: *kind,
                start: 0,
                finish: *response_time,
            });
        }
        // Breadth first: a graph that is cut off at `max_calls` loses its deepest calls.
        let mut next = 0;
        while next < rows.len() {
            let parent = rows[next].clone();
            next += 1;
            let depth = parent.edge_id.path().len();
            let counts = tables.levels.get(depth - 1).and_then(|l| l.children.get(&parent.kind));
            let number = counts.and_then(|counts| counts.draw(rng)).copied().unwrap_or(0);
            let room = (self.settings.max_calls as usize).saturating_sub(rows.len());
            let mut children: Vec<CallRow> = (0..(number as usize).min(room))
                .filter_map(|_| self.child(tables, &parent, depth, rng))
                .collect();
            children.sort_by_key(|call| call.start);
            for (number, call) in (1..).zip(&mut children) {
                call.edge_id = parent.edge_id.child(number);
            }
            rows.append(&mut children);
        }
        Generated::complete(rows)
    }
}

impl Tables {
    fn learn(&mut self, graph: &CallGraph, degrees: &[u32]) {
        let root = graph.root();
        self.roots.add((root.kind, root.destination.clone(), root.response_time()));
        for (call, degree) in graph.calls().iter().zip(degrees) {
            let level = call.depth as usize;
            if self.levels.len() < level {
                self.levels.resize_with(level, LevelTables::default);
            }
            let tables = &mut self.levels[level - 1];
            tables.types.add(call.kind);
            tables.children.entry(call.kind).or_default().add(*degree);
            if level > 1 {
                let of_type = self.destinations.entry(call.kind).or_default();
                of_type.add(call.destination.clone());
            }
        }
    }

    fn parameters(&self) -> u64 {
        let level = |level: &LevelTables| level.types.len() + distinct(&level.children);
        self.roots.len() + self.levels.iter().map(level).sum::<u64>() + distinct(&self.destinations)
    }
}

impl Generator for TrainedProbabilistic {
    fn generate(
        &self,
        conditions: &[Condition],
        options: &GenerateOptions,
    ) -> Result<Vec<Generated>> {
        Ok(options
            .answer_each("probabilistic", conditions, |condition, rng| self.answer(condition, rng)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::generators::tests::{generate, train_only};
    use crate::testing::{any_graph, row};

    fn condition(service: &str) -> Condition {
        Condition {
            service: service.into(),
            num_edges: Some(99),
            depth: None,
            latency: None,
            requests: Vec::new(),
        }
    }

    /// Service S_1: a root and 1 (70 %) or 3 (30 %) children to MS_2 (60 %), MS_3 (40 %).
    fn known_distribution() -> Vec<CallGraph> {
        (0..100u32)
            .map(|index| {
                let children = if index % 10 < 7 { 1 } else { 3 };
                let mut rows = vec![row("0", USER, "MS_1", "http", 0, 10)];
                for child in 1..=children {
                    let to = if (index / 10 + child) % 5 < 3 { "MS_2" } else { "MS_3" };
                    rows.push(row(&format!("0.{child}"), "MS_1", to, "rpc", 1, 3));
                }
                CallGraph::from_rows("S_1".into(), &rows).expect("valid")
            })
            .collect()
    }

    fn shares<T: Ord>(values: impl Iterator<Item = T>) -> BTreeMap<T, f64> {
        let mut counts = BTreeMap::new();
        let mut total = 0.0;
        for value in values {
            *counts.entry(value).or_insert(0.0) += 1.0;
            total += 1.0;
        }
        counts.values_mut().for_each(|count| *count /= total);
        counts
    }

    fn total_variation<T: Ord + Clone>(a: &BTreeMap<T, f64>, b: &BTreeMap<T, f64>) -> f64 {
        let keys: std::collections::BTreeSet<T> = a.keys().chain(b.keys()).cloned().collect();
        let of = |side: &BTreeMap<T, f64>, key| side.get(key).copied().unwrap_or(0.0);
        keys.iter().map(|key| (of(a, key) - of(b, key)).abs()).sum::<f64>() / 2.0
    }

    #[test]
    fn a_small_known_distribution_is_learnt() {
        let graphs = known_distribution();
        let dataset = train_only(graphs.clone());
        for scope in ["overall", "service", "source"] {
            let toml = format!("destinations = \"{scope}\"");
            let answers =
                generate("probabilistic", &toml, &dataset, &vec![condition("S_1"); 3000], 5);
            let sizes = shares(answers.iter().map(|answer| answer.rows.len()));
            let real = shares(graphs.iter().map(|graph| graph.calls().len()));
            assert!(total_variation(&sizes, &real) < 0.05, "{sizes:?}");
            let called = |rows: &[CallRow]| -> Vec<Name> {
                rows.iter().skip(1).map(|row| row.destination.clone()).collect()
            };
            let drawn = shares(answers.iter().flat_map(|answer| called(&answer.rows)));
            let real = shares(graphs.iter().flat_map(|graph| called(&graph.rows())));
            assert!(total_variation(&drawn, &real) < 0.05, "{drawn:?}");
        }
    }

    #[test]
    fn settings_that_do_not_exist_are_refused() {
        for text in ["destination = \"source\"", "destinations = \"caller\"", "max_calls = 0"] {
            let error = build(&text.parse().expect("TOML")).err().expect("refused").to_string();
            assert!(error.contains("generator `probabilistic`"), "{error}");
        }
    }

    #[test]
    fn growth_stops_at_max_calls() {
        let dataset = train_only(known_distribution());
        let answers =
            generate("probabilistic", "max_calls = 2", &dataset, &vec![condition("S_1"); 50], 5);
        assert!(answers.iter().all(|answer| answer.rows.len() == 2));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        /// Valid graphs of known names and depths, also for a service that training lacks; the
        /// same whatever the other conditions are.
        #[test]
        fn graphs_are_valid_and_addressed(graphs in prop::collection::vec(any_graph(15), 1..10)) {
            let dataset = train_only(graphs.clone());
            let conditions = [condition("S_000000000"), condition("S_new"), condition("S_000000001")];
            let answers = generate("probabilistic", "", &dataset, &conditions, 3);
            let deepest = graphs.iter().map(CallGraph::depth).max().unwrap_or(0);
            for (condition, answer) in conditions.iter().zip(&answers) {
                let graph = CallGraph::from_rows(condition.service.clone(), &answer.rows).unwrap();
                prop_assert!(graph.depth() <= deepest);
            }
            let fewer = generate("probabilistic", "", &dataset, &conditions[..2], 3);
            prop_assert_eq!(&answers[..2], &fewer[..]);
        }
    }
}
