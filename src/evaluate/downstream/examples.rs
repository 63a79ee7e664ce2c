//! Labelled examples of graphs, and what the labels are measured against.

use std::collections::{BTreeMap, BTreeSet};

use crate::data::ServiceStatistics;
use crate::evaluate::Joined;
use crate::evaluate::classifier::Rows;
use crate::graph::{CallGraph, Communication, Name};

/// What a classifier sees, and what it is to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Names and values; a name that is not here has the value 0.
    pub features: Vec<(Joined, f64)>,
    /// What an example shares with others of about the same chance to be true.
    pub group: Joined,
    pub label: bool,
}

/// What is usual in the real training graphs.
#[derive(Clone, Debug)]
pub struct Usual {
    pub services: ServiceStatistics,
    /// Communications in at least 10 % of a service's graphs.
    common: BTreeMap<Name, BTreeSet<Communication>>,
}

impl Usual {
    pub fn new(training: &[&CallGraph]) -> Self {
        let services = ServiceStatistics::new(training.iter().copied());
        let mut common: BTreeMap<Name, BTreeSet<Communication>> = BTreeMap::new();
        for graph in training {
            if let Some(service) = services.get(graph.service()) {
                let usual = graph.communications().filter(|call| !service.uncommon.contains(call));
                common.entry(graph.service().clone()).or_default().extend(usual);
            }
        }
        Self { services, common }
    }

    /// Whether a communication occurs in fewer than 10 % of the service's graphs; one that never
    /// occurs does. `None` for a service with too few graphs to tell.
    pub fn is_uncommon(&self, service: &str, communication: &Communication) -> Option<bool> {
        Some(!self.common.get(service)?.contains(communication))
    }
}

/// Names of features, each with a column: those of the training examples. What only test examples
/// have can have taught nothing, and is left out.
#[derive(Clone, Debug)]
pub struct Vocabulary(BTreeMap<Joined, u32>);

impl Vocabulary {
    pub fn new(examples: &[&Example]) -> Self {
        let names = examples.iter().flat_map(|example| &example.features);
        let names: BTreeSet<&Joined> = names.map(|(name, _)| name).collect();
        Self(names.into_iter().cloned().zip(0..).collect())
    }

    pub fn rows(&self, examples: &[&Example]) -> Rows {
        let mut rows = Rows::new(self.0.len());
        for example in examples {
            let known = example.features.iter();
            rows.push(known.filter_map(|(name, value)| Some((*self.0.get(name)?, *value))));
        }
        rows
    }
}

/// Features of a call's names and type, and of its service together with them.
pub fn call_features<'a>(
    role: &'a str,
    graph: &'a CallGraph,
    index: usize,
) -> impl Iterator<Item = (Joined, f64)> + 'a {
    let call = &graph.calls()[index];
    let (source, destination) = (graph.source(index), call.destination.as_str());
    let name = Joined::of([role, "=", source, ">", destination, ":", call.kind.as_str()]);
    let own = of_service(graph, &name);
    [(name, 1.0), (own, 1.0)].into_iter()
}

/// A feature together with its graph's service.
pub fn of_service(graph: &CallGraph, name: &Joined) -> Joined {
    let mut own = Joined::of(["service=", graph.service(), "/"]);
    own.extend(name);
    own
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::{chain, flat};
    use crate::testing::row;

    #[test]
    fn what_never_occurs_is_uncommon() {
        let graphs: Vec<CallGraph> =
            (0..20).map(|index| flat("S_1", if index == 0 { 3 } else { 2 }, 1)).collect();
        let few = chain("S_few", 2, 1);
        let usual = Usual::new(&graphs.iter().chain([&few]).collect::<Vec<_>>());
        let calls: Vec<Communication> = flat("S_1", 4, 1).communications().collect();
        let of = |call: &Communication| usual.is_uncommon("S_1", call);
        // The root and the first child in all graphs, the second in 5 %, the third in none.
        assert_eq!(calls.iter().map(of).collect::<Vec<_>>(), [false, false, true, true].map(Some));
        assert_eq!(usual.is_uncommon("S_few", &calls[0]), None);
    }

    /// `a>b` that calls `c` is not `a` that calls `b>c`, whatever the service is called.
    #[test]
    fn names_do_not_run_into_each_other() {
        let graph = |service: &str, root: &str, callee: &str| {
            let rows =
                [row("0", "USER", root, "http", 0, 9), row("0.1", root, callee, "rpc", 0, 9)];
            CallGraph::from_rows(service.into(), &rows).expect("valid")
        };
        let graphs = [
            graph("s", "a>b", "c"),
            graph("s", "a", "b>c"),
            graph("s/call=p", "q", "r"),
            graph("s", "p/call=q", "r"),
        ];
        let features = graphs.iter().flat_map(|graph| call_features("call", graph, 1));
        let distinct: BTreeSet<Joined> = features.map(|(name, _)| name).collect();
        assert_eq!(distinct.len(), 2 * graphs.len());
    }

    #[test]
    fn columns_follow_names_and_not_order() {
        let example = |names: &[&str]| Example {
            features: names.iter().map(|name| (Joined::from(*name), 2.0)).collect(),
            group: Joined::default(),
            label: true,
        };
        let (one, other) = (example(&["b", "c"]), example(&["a"]));
        let vocabulary = Vocabulary::new(&[&one, &other]);
        assert_eq!(vocabulary.rows(&[&one]).row(0), [(1, 2.0), (2, 2.0)]);
        assert_eq!(vocabulary.rows(&[&example(&["new", "a"])]).row(0), [(0, 2.0)]);
        let turned = Vocabulary::new(&[&other, &one]);
        assert_eq!(turned.rows(&[&one, &other]), vocabulary.rows(&[&one, &other]));
    }
}
