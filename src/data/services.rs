//! What is usual for a service (paper, section 2, "Per-service statistics").

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{CallGraph, Communication, Name};

/// A service needs this many graphs for its statistics to mean anything.
const MIN_GRAPHS: usize = 10;
/// A communication in fewer than this share of a service's graphs is uncommon.
const UNCOMMON: f64 = 0.1;
/// p90 must exceed the mean by more than this for "high latency" to say something, milliseconds.
const LATENCY_GAP: f64 = 5.0;

/// Statistics of the services that have at least 10 graphs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceStatistics(BTreeMap<Name, Service>);

/// What is usual for one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub graphs: usize,
    /// Mean latency, milliseconds.
    pub mean_latency: f64,
    /// 90th percentile of latency (nearest rank), milliseconds.
    pub p90_latency: u32,
    /// Communications in fewer than 10 % of the service's graphs.
    pub uncommon: BTreeSet<Communication>,
}

impl Service {
    /// From which latency on a graph of the service is slow; `None` where slow and usual graphs lie
    /// too close together to ask for either.
    pub fn high_latency(&self) -> Option<u32> {
        let gap = f64::from(self.p90_latency) - self.mean_latency;
        (gap > LATENCY_GAP).then_some(self.p90_latency)
    }
}

impl ServiceStatistics {
    pub fn new<'a>(graphs: impl IntoIterator<Item = &'a CallGraph>) -> Self {
        let mut services: BTreeMap<Name, Vec<&CallGraph>> = BTreeMap::new();
        for graph in graphs {
            services.entry(graph.service().clone()).or_default().push(graph);
        }
        services.retain(|_, graphs| graphs.len() >= MIN_GRAPHS);
        Self(services.into_iter().map(|(name, graphs)| (name, service(&graphs))).collect())
    }

    pub fn get(&self, service: &str) -> Option<&Service> {
        self.0.get(service)
    }
}

fn service(graphs: &[&CallGraph]) -> Service {
    let mut latencies: Vec<u32> = graphs.iter().map(|graph| graph.latency()).collect();
    latencies.sort_unstable();
    let count = graphs.len();
    let mut occurs: BTreeMap<Communication, usize> = BTreeMap::new();
    for graph in graphs {
        let distinct: BTreeSet<Communication> = graph.communications().collect();
        for communication in distinct {
            *occurs.entry(communication).or_default() += 1;
        }
    }
    let limit = UNCOMMON * count as f64;
    let uncommon = occurs.into_iter().filter(|(_, graphs)| (*graphs as f64) < limit);
    Service {
        graphs: count,
        mean_latency: latencies.iter().map(|l| f64::from(*l)).sum::<f64>() / count as f64,
        p90_latency: latencies[(count * 9).div_ceil(10) - 1],
        uncommon: uncommon.map(|(communication, _)| communication).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::CallRow;
    use crate::testing::row;

    fn graph(service: &str, latency: u32, destination: &str) -> CallGraph {
        let rows: [CallRow; 2] = [
            row("0", "USER", "MS_1", "http", 0, latency),
            row("0.1", "MS_1", destination, "rpc", 0, latency),
        ];
        CallGraph::from_rows(service.into(), &rows).expect("valid")
    }

    #[test]
    fn statistics_by_hand() {
        // Twenty graphs with latencies 1 … 19 and 119: mean 15.45, p90 the 18th.
        let mut graphs: Vec<CallGraph> = (1..20).map(|i| graph("S_1", i, "MS_2")).collect();
        graphs.push(graph("S_1", 119, "MS_3"));
        graphs.extend((0..9).map(|_| graph("S_few", 7, "MS_2")));
        let statistics = ServiceStatistics::new(&graphs);
        assert_eq!(statistics.get("S_few"), None);
        let service = statistics.get("S_1").expect("enough graphs");
        assert_eq!((service.graphs, service.p90_latency), (20, 18));
        assert!((service.mean_latency - 15.45).abs() < 1e-9);
        assert_eq!(service.high_latency(), None);
        let rare: Vec<&str> = service.uncommon.iter().map(|c| c.destination.as_str()).collect();
        assert_eq!(rare, ["MS_3"]);
        // Three of twenty graphs are 15 %.
        graphs[0] = graph("S_1", 40, "MS_3");
        graphs[1] = graph("S_1", 60, "MS_3");
        let statistics = ServiceStatistics::new(&graphs);
        let service = statistics.get("S_1").expect("enough graphs");
        assert!(service.uncommon.is_empty());
        assert_eq!(service.high_latency(), Some(40));
    }
}
