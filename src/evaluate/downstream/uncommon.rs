//! Uncommon communications (table 2): whether a call's children hold one, from what stands around
//! the call.

use super::classification::Classification;
use super::examples::{Example, Usual, call_features};
use crate::evaluate::Joined;
use crate::graph::CallGraph;

/// One example for each call that makes calls, in graphs of services with statistics: true if one
/// of its children's communications occurs in fewer than 10 % of the service's real training graphs
/// (none at all included).
///
/// Features: service; the call, its parent and its siblings with their names and types, also
/// together with the service; depth, place among the siblings and their number; response times of
/// the call and of the whole graph. Nothing below the call, not even the number of its children.
pub const UNCOMMON: Classification = Classification { task: "uncommon-communication", examples };

fn examples(graph: &CallGraph, usual: &Usual) -> Vec<Example> {
    let communications: Vec<_> = graph.communications().collect();
    let children = graph.children();
    let mut examples = Vec::new();
    for index in (0..children.len()).filter(|index| !children[*index].is_empty()) {
        let below = children[index]
            .iter()
            .map(|child| usual.is_uncommon(graph.service(), &communications[*child as usize]));
        let Some(below) = below.collect::<Option<Vec<bool>>>() else {
            return Vec::new();
        };
        examples.push(Example {
            features: features(graph, index, &children),
            group: call_features("call", graph, index)
                .map(|(name, _)| name)
                .last()
                .unwrap_or_default(),
            label: below.contains(&true),
        });
    }
    examples
}

fn features(graph: &CallGraph, index: usize, children: &[Vec<u32>]) -> Vec<(Joined, f64)> {
    let call = &graph.calls()[index];
    let log = |value: u32| f64::from(value).ln_1p();
    let mut features = vec![
        (Joined::of(["service=", graph.service()]), 1.0),
        (format!("depth={}", call.depth.min(10)).as_str().into(), 1.0),
        ("response time".into(), log(call.response_time())),
        ("latency".into(), log(graph.latency())),
    ];
    features.extend(call_features("call", graph, index));
    let Some(parent) = call.parent.map(|parent| parent as usize) else {
        return features;
    };
    features.extend(call_features("parent", graph, parent));
    let layer = &children[parent];
    let siblings = layer.iter().map(|sibling| *sibling as usize).filter(|other| *other != index);
    features.extend(siblings.flat_map(|sibling| call_features("sibling", graph, sibling)));
    let place = layer.iter().take_while(|other| (**other as usize) < index).count();
    features.push(("siblings".into(), log(layer.len() as u32 - 1)));
    features.push(("place".into(), log(place as u32)));
    features
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::{chain, flat};

    #[test]
    fn labels_by_hand() {
        let graphs: Vec<CallGraph> = (0..20).map(|_| chain("S_1", 3, 9)).collect();
        let usual = Usual::new(&graphs.iter().collect::<Vec<_>>());
        let labels = |graph: &CallGraph| -> Vec<bool> {
            examples(graph, &usual).iter().map(|example| example.label).collect()
        };
        // The root calls as usual, as does its child; the fourth call of the chain is new.
        assert_eq!(labels(&chain("S_1", 3, 9)), [false, false]);
        assert_eq!(labels(&chain("S_1", 4, 9)), [false, false, true]);
        // One new child among two.
        assert_eq!(labels(&flat("S_1", 3, 9)), [true]);
        assert!(labels(&flat("S_1", 1, 9)).is_empty());
        assert!(labels(&chain("S_2", 3, 9)).is_empty());
    }

    #[test]
    fn features_see_nothing_below_the_call() {
        let graphs: Vec<CallGraph> = (0..20).map(|_| chain("S_1", 3, 9)).collect();
        let usual = Usual::new(&graphs.iter().collect::<Vec<_>>());
        let of = |edges| examples(&chain("S_1", edges, 9), &usual).swap_remove(0).features;
        assert_eq!(of(2), of(5));
        let second = examples(&chain("S_1", 3, 9), &usual).swap_remove(1).features;
        let has = |name: &str, value| second.iter().any(|(n, v)| *n == name && *v == value);
        assert!(has("parent=USER>MS_00100:rpc", 1.0), "{second:?}");
        assert!(has("depth=2", 1.0));
        assert!(has("siblings", 0.0));
    }
}
