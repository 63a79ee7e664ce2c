//! High latency (table 2): whether a graph is slow for its service, from its calls alone.

use std::collections::BTreeMap;

use super::classification::Classification;
use super::examples::{Example, Usual, call_features, of_service};
use crate::evaluate::Joined;
use crate::graph::CallGraph;

/// One example for each graph of a service whose p90 lies more than 5 ms above its mean (for others
/// slow and usual graphs are hardly different): true if the graph's latency reaches the p90 of the
/// service's real training graphs.
///
/// Features: service; calls with their number, also together with the service; pairs of a call and
/// its parent's; numbers of calls, levels, leaves, calls per level and type, the largest fan-out,
/// also together with the service. No times.
pub const HIGH_LATENCY: Classification = Classification { task: "high-latency", examples };

fn examples(graph: &CallGraph, usual: &Usual) -> Vec<Example> {
    let service = usual.services.get(graph.service());
    let Some(high) = service.and_then(|service| service.high_latency()) else {
        return Vec::new();
    };
    let mut counts: BTreeMap<Joined, f64> = BTreeMap::new();
    for (index, call) in graph.calls().iter().enumerate() {
        for (name, count) in call_features("call", graph, index) {
            *counts.entry(name).or_default() += count;
        }
        if let Some(parent) = call.parent {
            let (above, source) = (graph.source(parent as usize), graph.source(index));
            let path = Joined::of(["path=", above, ">", source, ">", &call.destination]);
            *counts.entry(path).or_default() += 1.0;
        }
    }
    for (name, count) in shape(graph) {
        counts.insert(of_service(graph, &name), count);
        counts.insert(name, count);
    }
    // The second call of a kind says less than the first.
    let mut features: Vec<(Joined, f64)> =
        counts.into_iter().map(|(name, count)| (name, count.ln_1p())).collect();
    features.push((Joined::of(["service=", graph.service()]), 1.0));
    let label = graph.latency() >= high;
    vec![Example { features, group: graph.service().as_str().into(), label }]
}

fn shape(graph: &CallGraph) -> BTreeMap<Joined, f64> {
    let degrees = graph.out_degrees();
    let mut shape: BTreeMap<Joined, f64> = BTreeMap::new();
    for (call, degree) in graph.calls().iter().zip(&degrees) {
        let mut count = |name: &str| *shape.entry(name.into()).or_default() += 1.0;
        count("edges");
        count(&format!("type={}", call.kind));
        count(&format!("level={}", call.depth.min(10)));
        if *degree == 0 {
            count("leaves");
        }
    }
    shape.insert("depth".into(), f64::from(graph.depth()));
    let most = degrees.into_iter().max().unwrap_or(0);
    shape.insert("fan-out".into(), f64::from(most));
    shape
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::flat;

    /// 18 graphs of 10 ms and two of 50: the p90 is 10, the mean 14, and three of 50 make it 50.
    fn usual(slow: usize) -> Usual {
        let latency = |index| if index < slow { 50 } else { 10 };
        let graphs: Vec<CallGraph> = (0..20).map(|index| flat("S_1", 2, latency(index))).collect();
        Usual::new(&graphs.iter().collect::<Vec<_>>())
    }

    #[test]
    fn labels_by_hand() {
        let label = |latency, slow| {
            let examples = examples(&flat("S_1", 3, latency), &usual(slow));
            examples.first().map(|example| example.label)
        };
        assert_eq!([label(50, 3), label(49, 3)], [Some(true), Some(false)]);
        // No gap between p90 and mean; an unknown service.
        assert_eq!(label(50, 2), None);
        assert!(examples(&flat("S_2", 3, 50), &usual(3)).is_empty());
    }

    #[test]
    fn features_hold_no_times() {
        let of = |latency| examples(&flat("S_1", 3, latency), &usual(3)).remove(0).features;
        assert_eq!(of(7), of(90));
        let features = of(7);
        let value = |name: &str| features.iter().find(|(known, _)| *known == name).expect(name).1;
        assert_eq!(value("edges"), 3f64.ln_1p());
        assert_eq!(value("leaves"), 2f64.ln_1p());
        assert_eq!(value("service=S_1/fan-out"), 2f64.ln_1p());
        assert_eq!(value("call=MS_00100>MS_00201:rpc"), 1f64.ln_1p());
        assert_eq!(value("path=USER>MS_00100>MS_00202"), 1f64.ln_1p());
    }
}
