//! Degrees and response times: figure 16.

use std::collections::BTreeMap;

use super::histogram::Histograms;
use super::pair::{Pair, Side, USER_NUMBER};
use super::{Measured, Metric, Part};
use crate::evaluate::{Dimensions, WHOLE};

/// Earth mover's distance of the in-degrees of test graphs and of valid synthetic graphs, divided
/// by the standard deviation of the real side (paper, figure 16, which does not say how it
/// normalises nor what a node is).
///
/// In a tree of calls every in-degree is 1, so nodes are microservices. Cell `nodes=microservices`:
/// within one graph all calls to a microservice are put together, and its in-degree is the number
/// of calls that it receives there. Cell `nodes=service-graph`: all graphs are put together, and
/// the in-degree is the number of different callers, `USER` among them; both sides are cut to the
/// same number of graphs, since callers become more with every graph.
///
/// Range 0 to infinity, in standard deviations, lower is better; bootstrap interval over services.
/// NaN without valid graphs, or where all real degrees are equal.
///
/// Pitfalls: a marginal distribution: who calls whom does not matter. One microservice that is
/// called very often widens the standard deviation, and with it everything looks near. The service
/// graph counts a call that occurred once as much as one that occurs always, and under the
/// bootstrap it is smaller than it is, so that intervals may lie beside the value.
pub const EMD_IN_DEGREE: &Metric =
    &Metric::plain("emd-in-degree/2", "earth mover's distance of in-degree")
        .lower()
        .bootstrap()
        .of_samples();

/// As [`EMD_IN_DEGREE`] for out-degrees: calls that a microservice makes in one graph, or different
/// microservices that it calls in the service graph. In the cell `nodes=calls` each call is a node
/// by itself, and its out-degree the number of its children in the tree. Leaves count, `USER` does
/// not.
pub const EMD_OUT_DEGREE: &Metric =
    &Metric::plain("emd-out-degree/2", "earth mover's distance of out-degree")
        .lower()
        .bootstrap()
        .of_samples();

/// As [`EMD_IN_DEGREE`] for response times of calls, in milliseconds before they are divided by the
/// real side's standard deviation (paper, figure 16). All calls alike, whoever answers them.
///
/// Pitfall: few calls that take very long make up most of the standard deviation.
pub const EMD_RESPONSE_TIME: &Metric =
    &Metric::plain("emd-response-time/2", "earth mover's distance of response time")
        .lower()
        .bootstrap()
        .of_samples();

/// Figure 16.
pub struct Degrees {
    quantities: Vec<(Measured, Histograms)>,
    /// Which microservice calls which, as many graphs of each side.
    service_graph: Histograms,
    microservices: usize,
    graphs: u64,
}

impl Degrees {
    pub fn new(pair: &Pair, seed: u64, split: u64) -> Self {
        let graphs = pair.synthetic.graphs.len() as u64;
        let of =
            |metric: &'static Metric, about: Dimensions, values: fn(&Side) -> Vec<(u32, u32)>| {
                let histograms = Histograms::new(pair.sides().map(values));
                (Measured::new(metric, about, graphs), histograms)
            };
        let samples = pair.equal_samples(usize::MAX, seed, "service-graph", split);
        let mut samples = samples.iter();
        let service_graph = Histograms::grouped(pair.sides().map(|side| {
            let sample = samples.next().into_iter().flatten();
            let calls = sample.flat_map(|graph| side.calls_of(*graph));
            calls.map(|call| (call.service, (call.source, call.destination))).collect()
        }));
        Self {
            quantities: vec![
                of(EMD_IN_DEGREE, WHOLE.nodes("microservices"), in_degrees),
                of(EMD_OUT_DEGREE, WHOLE.nodes("microservices"), out_degrees),
                of(EMD_OUT_DEGREE, WHOLE.nodes("calls"), children),
                of(EMD_RESPONSE_TIME, WHOLE, response_times),
            ],
            service_graph,
            microservices: pair.microservices + 1,
            graphs,
        }
    }

    /// Distances of in-degrees and out-degrees of the service graph of the services that were
    /// drawn.
    fn of_service_graph(&self, drawn: &[u32]) -> [f64; 2] {
        // Degrees by microservice, of both sides; absent where it does not occur.
        let mut degrees = [0, 1].map(|_| vec![None; self.microservices]);
        let mut received = degrees.clone();
        for ((source, destination), counts) in self.service_graph.drawn(drawn).all().iter() {
            for side in [0, 1].into_iter().filter(|side: &usize| counts[*side] > 0.0) {
                *received[side][destination as usize].get_or_insert(0) += 1;
                degrees[side][destination as usize].get_or_insert(0);
                if source != USER_NUMBER {
                    *degrees[side][source as usize].get_or_insert(0) += 1;
                }
            }
        }
        [received, degrees].map(|sides| {
            let values = sides.map(|side| side.into_iter().flatten().map(|d| (0, d)).collect());
            Histograms::new(values).drawn(&[1]).all().normalised_earth_movers()
        })
    }
}

impl Part for Degrees {
    fn metrics(&self) -> Vec<Measured> {
        let mut metrics: Vec<Measured> = self.quantities.iter().map(|(m, _)| m.clone()).collect();
        for metric in [EMD_IN_DEGREE, EMD_OUT_DEGREE] {
            metrics.push(Measured::new(metric, WHOLE.nodes("service-graph"), self.graphs));
        }
        metrics
    }

    fn values(&self, drawn: &[u32]) -> Vec<f64> {
        let quantities = self.quantities.iter();
        let distances =
            quantities.map(|(_, quantity)| quantity.drawn(drawn).all().normalised_earth_movers());
        distances.chain(self.of_service_graph(drawn)).collect()
    }
}

/// Calls that each microservice of a graph receives in it.
fn in_degrees(side: &Side) -> Vec<(u32, u32)> {
    side.collect(|graph| {
        let mut received: BTreeMap<u32, u32> = BTreeMap::new();
        for destination in side.destinations_of(graph) {
            *received.entry(*destination).or_insert(0) += 1;
        }
        received.into_values().map(move |degree| (side.services[graph], degree))
    })
}

/// Calls that each microservice of a graph makes in it.
fn out_degrees(side: &Side) -> Vec<(u32, u32)> {
    side.collect(|graph| {
        let mut made: BTreeMap<u32, u32> = BTreeMap::new();
        for call in side.calls_of(graph) {
            made.entry(call.destination).or_insert(0);
            if call.source != USER_NUMBER {
                *made.entry(call.source).or_insert(0) += 1;
            }
        }
        made.into_values().map(move |degree| (side.services[graph], degree))
    })
}

/// Children of each call.
fn children(side: &Side) -> Vec<(u32, u32)> {
    side.collect(|graph| {
        let degrees = side.graphs[graph].out_degrees();
        degrees.into_iter().map(move |degree| (side.services[graph], degree))
    })
}

/// Response time of each call.
pub fn response_times(side: &Side) -> Vec<(u32, u32)> {
    side.collect(|graph| {
        let calls = side.graphs[graph].calls().iter();
        calls.map(move |call| (side.services[graph], call.response_time()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::{chain, flat};
    use crate::graph::CallGraph;
    use crate::testing::paper_example;

    fn values(real: &[&CallGraph], synthetic: &[&CallGraph]) -> BTreeMap<String, f64> {
        let pair = Pair::new(real, synthetic);
        let degrees = Degrees::new(&pair, 1, 0);
        let names = degrees.metrics().into_iter().map(|m| format!("{} {}", m.metric, m.dimensions));
        names.zip(degrees.values(&vec![1; pair.services])).collect()
    }

    #[test]
    fn degrees_by_hand() {
        // MS_63670 is called by USER and by itself and makes 4 + 2 calls; MS_37691 is called twice.
        let example = paper_example();
        let pair = Pair::new(&[&example], &[]);
        let degrees = |of: fn(&Side) -> Vec<(u32, u32)>| {
            let mut degrees: Vec<u32> = of(&pair.real).into_iter().map(|(_, d)| d).collect();
            degrees.sort_unstable();
            degrees
        };
        assert_eq!(degrees(in_degrees), [1, 1, 1, 2, 2]);
        assert_eq!(degrees(out_degrees), [0, 0, 0, 0, 6]);
        assert_eq!(degrees(children), [0, 0, 0, 0, 0, 2, 4]);
    }

    #[test]
    fn distances_by_hand() {
        // Children: (3, 0, 0, 0) against (1, 1, 1, 0). The distance is ½ · 1 + ¼ · 2 = 1, the
        // standard deviation of the real side √(9/4 − 9/16).
        let (real, synthetic) = (flat("S_1", 4, 8), chain("S_1", 4, 8));
        let values = values(&[&real], &[&synthetic]);
        let expected = 1.0 / (9.0f64 / 4.0 - 9.0 / 16.0).sqrt();
        for cell in ["nodes=calls", "nodes=microservices", "nodes=service-graph"] {
            let value = values[&format!("{EMD_OUT_DEGREE} {cell}")];
            assert!((value - expected).abs() < 1e-12, "{cell} {value}");
        }
        // Everyone is called once, and everything takes 8 ms: nothing to measure by.
        assert!(values[&format!("{EMD_IN_DEGREE} nodes=microservices")].is_nan());
        assert!(values[&format!("{EMD_RESPONSE_TIME} ")].is_nan());
    }

    #[test]
    fn in_degrees_and_response_times_by_hand() {
        let (real, synthetic) = (paper_example(), flat("S_1", 4, 5));
        let values = values(&[&real], &[&synthetic]);
        let close = |metric: &Metric, cell: &str, expected: f64| {
            let value = values[&format!("{metric} {cell}")];
            assert!((value - expected).abs() < 1e-12, "{metric} {cell} {value}");
        };
        // Calls received: (1, 1, 1, 2, 2) against ones, of variance 0.24.
        close(EMD_IN_DEGREE, "nodes=microservices", 0.4 / 0.24f64.sqrt());
        // Callers: (2, 1, 1, 1, 1) against ones, as USER is one and MS_63670 calls itself.
        close(EMD_IN_DEGREE, "nodes=service-graph", 0.2 / 0.4);
        // Times: 8, 3 and five of 1 against 5: 25/7 to move, of mean 16/7 and variance 290/49.
        close(EMD_RESPONSE_TIME, "", 25.0 / 290.0f64.sqrt());
    }

    #[test]
    fn the_service_graph_counts_callers_once() {
        // Twice the same graph is the same service graph.
        let (one, other) = (paper_example(), paper_example());
        let values = values(&[&one, &other], &[&one, &other]);
        assert!(values.values().all(|value| *value == 0.0), "{values:?}");
    }
}
