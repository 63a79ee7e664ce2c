//! Windows of an application's traces, and what FIRM sees of its microservices in them.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::path::own_times;
use crate::data::{Dataset, ServiceStatistics};
use crate::graph::{CallGraph, Name};

/// Traces in a window. Graphs carry no time of day, so a window is a random sample of them.
pub const WINDOW: usize = 20;
/// In so many traces of a window a microservice must be on the critical path to be looked at.
const MIN_TRACES: usize = 2;
/// An application needs so many training and test graphs.
const MIN_TRAIN: usize = 5 * WINDOW;
const MIN_TEST: usize = 2 * WINDOW;
/// From so many calls on a graph has components to choose from.
const MIN_CALLS: u32 = 3;

/// A service, and what is usual in its real training graphs.
#[derive(Clone, Debug, PartialEq)]
pub struct Application {
    pub service: Name,
    /// Real training graphs.
    pub graphs: usize,
    /// From this latency on a trace is slow: the p90.
    high_latency: u32,
    /// Median of a microservice's own time, over the graphs with it on their critical path.
    usual: BTreeMap<Name, u32>,
}

/// A microservice in a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Component {
    /// Pearson correlation of its own time (0 in traces without it on the critical path) with the
    /// length of the critical path; 0 where one of them does not vary.
    pub importance: f64,
    /// log₂ of the 99th by the 50th percentile (nearest rank) of its own time in the traces that
    /// have it on the critical path, both at least 1 ms.
    pub congestion: f64,
    /// Whether the application is slow because of it: in a slow trace of the window (latency at or
    /// above the p90 of the real training graphs) it is the culprit, the microservice whose own
    /// time on the critical path exceeds its median in the real training graphs most.
    ///
    /// FIRM knows this from faults that it injects. Traces without faults have no such truth, and
    /// this stands in for it. Its weakness: it is computed from the same own times as the two
    /// features (from single traces, where these are from the window), so it is easier to learn
    /// than real faults; and random slowness counts as a cause.
    pub critical: bool,
}

/// The applications with the most training graphs among those that have enough graphs on both
/// sides, at least half of them with three calls or more, and a p90 more than 5 ms above the mean.
pub fn popular(dataset: &Dataset) -> Vec<Application> {
    let (train, test) = (dataset.train(), dataset.test());
    let statistics = ServiceStatistics::new(train.iter().copied());
    let mut services: BTreeMap<&Name, (Vec<&CallGraph>, usize)> = BTreeMap::new();
    for graph in &train {
        services.entry(graph.service()).or_default().0.push(graph);
    }
    for graph in &test {
        services.entry(graph.service()).or_default().1 += 1;
    }
    services.retain(|_, (train, test)| {
        let large = train.iter().filter(|graph| graph.num_edges() >= MIN_CALLS).count();
        train.len() >= MIN_TRAIN && *test >= MIN_TEST && 2 * large >= train.len()
    });
    let mut order: Vec<(&Name, Vec<&CallGraph>, u32)> = services
        .into_iter()
        .filter_map(|(name, (graphs, _))| {
            Some((name, graphs, statistics.get(name)?.high_latency()?))
        })
        .collect();
    // Stable: equal numbers stay in order of names.
    order.sort_by_key(|(_, graphs, _)| Reverse(graphs.len()));
    order.truncate(super::APPLICATIONS as usize);
    order.into_iter().map(|(name, graphs, high)| Application::new(name, &graphs, high)).collect()
}

impl Application {
    fn new(service: &Name, training: &[&CallGraph], high_latency: u32) -> Self {
        let mut times: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for graph in training {
            for (microservice, time) in own_times(graph) {
                times.entry(microservice).or_default().push(time);
            }
        }
        let usual =
            times.into_iter().map(|(name, mut times)| (name.into(), quantile(&mut times, 50)));
        Self {
            service: service.clone(),
            graphs: training.len(),
            high_latency,
            usual: usual.collect(),
        }
    }

    /// The microservice that explains a slow trace; `None` for a trace that is not slow or in which
    /// none takes longer than usual. Of equals the first by name.
    fn culprit<'a>(&self, graph: &CallGraph, times: &BTreeMap<&'a str, u32>) -> Option<&'a str> {
        if graph.latency() < self.high_latency {
            return None;
        }
        let excess = times.iter().map(|(name, time)| {
            let usual = self.usual.get(*name).copied().unwrap_or(0);
            (time.saturating_sub(usual), Reverse(*name))
        });
        excess.max().filter(|(excess, _)| *excess > 0).map(|(_, Reverse(name))| name)
    }
}

/// The microservices of a window, in order of names.
pub fn components(application: &Application, graphs: &[&CallGraph]) -> Vec<Component> {
    let times: Vec<BTreeMap<&str, u32>> = graphs.iter().map(|graph| own_times(graph)).collect();
    let lengths: Vec<f64> =
        graphs.iter().map(|graph| f64::from(graph.root().response_time())).collect();
    let mut present: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (name, time) in times.iter().flatten() {
        present.entry(name).or_default().push(*time);
    }
    let culprits: Vec<&str> = graphs
        .iter()
        .zip(&times)
        .filter_map(|(graph, times)| application.culprit(graph, times))
        .collect();
    let known = present.into_iter().filter(|(_, times)| times.len() >= MIN_TRACES);
    known
        .map(|(name, mut own)| {
            let series = times.iter().map(|times| f64::from(times.get(name).copied().unwrap_or(0)));
            let ratio = |percent| f64::from(quantile(&mut own, percent).max(1)).log2();
            let [high, middle] = [99, 50].map(ratio);
            Component {
                importance: correlation(&series.collect::<Vec<_>>(), &lengths),
                congestion: high - middle,
                critical: culprits.contains(&name),
            }
        })
        .collect()
}

/// By nearest rank.
fn quantile(values: &mut [u32], percent: usize) -> u32 {
    values.sort_unstable();
    values[(values.len() * percent).div_ceil(100).max(1) - 1]
}

/// Pearson's; 0 where a side does not vary.
fn correlation(one: &[f64], other: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (middle, centre) = (mean(one), mean(other));
    let (mut both, mut first, mut second) = (0.0, 0.0, 0.0);
    for (a, b) in one.iter().zip(other) {
        let (a, b) = (a - middle, b - centre);
        both += a * b;
        first += a * a;
        second += b * b;
    }
    let spread = (first * second).sqrt();
    if spread > 0.0 { both / spread } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::row;

    /// a calls b, which takes `inner` of `latency` milliseconds.
    fn graph(latency: u32, inner: u32) -> CallGraph {
        let rows =
            [row("0", "USER", "a", "http", 0, latency), row("0.1", "a", "b", "rpc", 0, inner)];
        CallGraph::from_rows("S_1".into(), &rows).expect("valid")
    }

    fn application() -> Application {
        let usual = BTreeMap::from([("a".into(), 2), ("b".into(), 8)]);
        Application { service: "S_1".into(), graphs: 9, high_latency: 30, usual }
    }

    #[test]
    fn components_by_hand() {
        // Own times of a: 2, 2, 2, 3; of b: 8, 10, 30, 9.
        let graphs = [graph(10, 8), graph(12, 10), graph(32, 30), graph(12, 9)];
        let [a, b] = components(&application(), &graphs.iter().collect::<Vec<_>>())[..] else {
            panic!("two components");
        };
        // numpy.corrcoef with 10, 12, 32, 12: tests/reference/classifier.py, "importance".
        assert!((a.importance - -0.289_121_654_791_456).abs() < 1e-9, "{a:?}");
        assert!((b.importance - 0.998_966_699_049_835_3).abs() < 1e-9, "{b:?}");
        assert!((a.congestion - 1.5f64.log2()).abs() < 1e-12);
        assert!((b.congestion - (30.0f64 / 9.0).log2()).abs() < 1e-12);
        assert_eq!((a.critical, b.critical), (false, true));
    }

    #[test]
    fn culprits_explain_slow_traces_only() {
        let culprit =
            |graph: &CallGraph| application().culprit(graph, &own_times(graph)).map(str::to_owned);
        assert_eq!(culprit(&graph(29, 29)), None);
        assert_eq!(culprit(&graph(30, 29)).as_deref(), Some("b"));
        assert_eq!(culprit(&graph(90, 8)).as_deref(), Some("a"));
        // Both take 12 ms more than usual.
        assert_eq!(culprit(&graph(34, 20)).as_deref(), Some("a"));
    }

    #[test]
    fn degenerate_windows() {
        let still = [graph(10, 8), graph(10, 8)];
        let components = components(&application(), &still.iter().collect::<Vec<_>>());
        assert!(components.iter().all(|c| (c.importance, c.congestion) == (0.0, 0.0)));
        assert!(super::components(&application(), &[&graph(10, 8)]).is_empty());
        assert!(super::components(&application(), &[]).is_empty());
        assert_eq!(quantile(&mut [3], 99), 3);
        assert_eq!(quantile(&mut (1..=100).collect::<Vec<_>>(), 99), 99);
    }
}
