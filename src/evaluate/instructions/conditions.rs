//! What is asked for in words, with and without the words.

use anyhow::Result;
use rand::RngExt;
use rand::seq::SliceRandom;

use crate::data::{Dataset, Service, ServiceStatistics};
use crate::error::UserError;
use crate::graph::{CallGraph, Condition, Request, condition_of};
use crate::random;

/// What a prompt asks for beyond attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    HighLatency,
    Uncommon,
    /// The two together, which no training prompt asks for.
    Both,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::HighLatency, Self::Uncommon, Self::Both];

    /// Name in cells of records.
    pub fn id(self) -> &'static str {
        match self {
            Self::HighLatency => "high-latency",
            Self::Uncommon => "uncommon",
            Self::Both => "both",
        }
    }

    /// The kind of a prompt with these requests; `None` where it has none or others.
    pub fn of(requests: &[Request]) -> Option<Self> {
        match requests {
            [Request::HighLatency] => Some(Self::HighLatency),
            [Request::Communication(_)] => Some(Self::Uncommon),
            [Request::HighLatency, Request::Communication(_)] => Some(Self::Both),
            _ => None,
        }
    }
}

/// Whether `graph` does what `request` asks for, by what is usual for its service.
pub fn fulfils(graph: &CallGraph, request: &Request, services: &ServiceStatistics) -> bool {
    match request {
        Request::HighLatency => {
            let least = services.get(graph.service()).and_then(Service::high_latency);
            least.is_some_and(|least| graph.latency() >= least)
        }
        Request::Communication(asked) => graph.communications().any(|found| found == *asked),
    }
}

/// `count` prompts of each kind, each twice in a row: with its request, and the same without it.
///
/// What is usual for a service comes from its training graphs; the prompts come from test graphs, and
/// all of them can be met. High latency is asked for the num_edges and depth of any test graph whose
/// service tells slow graphs from usual ones. An uncommon communication needs room in the graph, so it
/// is asked for the attributes of a test graph that holds it. Both together: as an uncommon
/// communication, in services that tell slow graphs from usual ones. Where high latency is asked for,
/// the prompt has no latency, in both of its versions. A random subset of all such prompts in random
/// order, or independent draws if there are fewer than `count`; a kind of which there is none is left
/// out.
///
/// # Errors
/// A dataset of which nothing can be asked.
pub fn conditions(count: u32, dataset: &Dataset, seed: u64) -> Result<Vec<Condition>> {
    let services = ServiceStatistics::new(dataset.train());
    let test = dataset.test();
    let mut asked = Vec::new();
    for (kind, number) in Kind::ALL.into_iter().zip(0..) {
        let mut rng = random::stream(seed, "conditions/instructions", &[number]);
        let mut prompts: Vec<Condition> =
            test.iter().flat_map(|graph| prompts_of(kind, graph, &services)).collect();
        // Their order in the dataset must not matter.
        prompts.sort_by(|a, b| order(a).cmp(&order(b)));
        let count = if prompts.is_empty() { 0 } else { count as usize };
        if count > prompts.len() {
            let draws = (0..count).map(|_| prompts[rng.random_range(0..prompts.len())].clone());
            asked.extend(draws.flat_map(twice));
        } else {
            prompts.shuffle(&mut rng);
            asked.extend(prompts.into_iter().take(count).flat_map(twice));
        }
    }
    if asked.is_empty() {
        return Err(UserError::setting(format!(
            "dataset `{}` has no test graphs of which high latency or an uncommon communication can \
             be asked: their services need 10 training graphs; use more graphs, and a `count` above 0",
            dataset.card.name
        ))
        .into());
    }
    Ok(asked)
}

fn order(condition: &Condition) -> impl Ord + '_ {
    let Condition { service, num_edges, depth, latency, requests } = condition;
    (service, num_edges, depth, latency, requests)
}

fn twice(with: Condition) -> [Condition; 2] {
    let without = Condition { requests: Vec::new(), ..with.clone() };
    [with, without]
}

/// The prompts of a kind that one graph lends: one for each of its uncommon communications.
pub fn prompts_of(kind: Kind, graph: &CallGraph, services: &ServiceStatistics) -> Vec<Condition> {
    let Some(service) = services.get(graph.service()) else { return Vec::new() };
    if kind != Kind::Uncommon && service.high_latency().is_none() {
        return Vec::new();
    }
    let mut condition = condition_of(graph);
    if kind != Kind::Uncommon {
        condition.latency = None;
        condition.requests.push(Request::HighLatency);
    }
    if kind == Kind::HighLatency {
        return vec![condition];
    }
    let mut uncommon: Vec<_> =
        graph.communications().filter(|found| service.uncommon.contains(found)).collect();
    uncommon.sort();
    uncommon.dedup();
    let with = |communication| {
        let mut condition = condition.clone();
        condition.requests.push(Request::Communication(communication));
        condition
    };
    uncommon.into_iter().map(with).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::{dataset, reversed};
    use crate::evaluate::{Conditions, conditions as asked_for};
    use crate::testing::row;

    /// A root with one child.
    pub fn graph(service: &str, child: &str, latency: u32) -> CallGraph {
        let rows = [
            row("0", "USER", "MS_1", "http", 0, latency),
            row("0.1", "MS_1", child, "rpc", 0, latency),
        ];
        CallGraph::from_rows(service.into(), &rows).expect("valid")
    }

    /// `S_slow` has latencies 1 to 17 and three of 100, its p90; all of `S_even` are the same, so that
    /// it has no slow ones. In both, one training graph in twenty calls MS_rare. `S_few` has too few
    /// graphs to say what is usual.
    fn example() -> Dataset {
        let mut train: Vec<CallGraph> =
            (1..=17).map(|latency| graph("S_slow", "MS_2", latency)).collect();
        train.extend(vec![graph("S_slow", "MS_2", 100); 2]);
        train.push(graph("S_slow", "MS_rare", 100));
        train.extend(vec![graph("S_even", "MS_2", 5); 19]);
        train.push(graph("S_even", "MS_rare", 5));
        train.push(graph("S_few", "MS_2", 5));
        let test = vec![
            graph("S_slow", "MS_2", 3),
            graph("S_slow", "MS_rare", 7),
            graph("S_even", "MS_rare", 5),
            graph("S_even", "MS_2", 5),
            graph("S_few", "MS_rare", 5),
        ];
        dataset(train, test)
    }

    #[test]
    fn prompts_come_from_graphs_that_can_meet_them() {
        let dataset = example();
        let services = ServiceStatistics::new(dataset.train());
        let of = |kind| {
            let test = dataset.test();
            let prompts = test.iter().flat_map(|graph| prompts_of(kind, graph, &services));
            let prompts: Vec<Condition> = prompts.collect();
            assert!(prompts.iter().all(|prompt| Kind::of(&prompt.requests) == Some(kind)));
            let facts = prompts.iter().map(|prompt| (prompt.service.to_string(), prompt.latency));
            facts.collect::<Vec<_>>()
        };
        let fact = |service: &str, latency| (service.to_owned(), latency);
        assert_eq!(of(Kind::HighLatency), [fact("S_slow", None), fact("S_slow", None)]);
        assert_eq!(of(Kind::Uncommon), [fact("S_slow", Some(7)), fact("S_even", Some(5))]);
        assert_eq!(of(Kind::Both), [fact("S_slow", None)]);
        let rare = prompts_of(Kind::Uncommon, dataset.test()[1], &services);
        let rare = rare[0].requests[0].clone();
        let meets = |graph: CallGraph, request| fulfils(&graph, request, &services);
        assert!(meets(graph("S_slow", "MS_rare", 1), &rare));
        assert!(!meets(graph("S_slow", "MS_2", 100), &rare));
        assert!(meets(graph("S_slow", "MS_2", 100), &Request::HighLatency));
        assert!(!meets(graph("S_slow", "MS_2", 99), &Request::HighLatency));
        assert!(!meets(graph("S_even", "MS_2", 999), &Request::HighLatency));
    }

    #[test]
    fn each_prompt_is_asked_with_and_without() {
        let dataset = example();
        let spec = Conditions::Instructions { count: 5 };
        let asked = asked_for(&spec, &dataset, 1).unwrap();
        assert_eq!(asked.len(), 3 * 5 * 2);
        for (pair, index) in asked.chunks(2).zip(0..) {
            assert_eq!(Kind::of(&pair[0].requests), Some(Kind::ALL[index / 5]));
            let without = Condition { requests: Vec::new(), ..pair[0].clone() };
            assert_eq!(pair[1], without);
        }
        assert_eq!(asked, asked_for(&spec, &dataset, 1).unwrap());
        assert_ne!(asked, asked_for(&spec, &dataset, 2).unwrap());
        let test: Vec<CallGraph> = dataset.test().into_iter().cloned().collect();
        let train: Vec<CallGraph> = dataset.train().into_iter().cloned().collect();
        let turned = crate::evaluate::tests::dataset(reversed(&train), reversed(&test));
        assert_eq!(asked, asked_for(&spec, &turned, 1).unwrap());
        // A subset where there are enough.
        let one = asked_for(&Conditions::Instructions { count: 1 }, &dataset, 1).unwrap();
        assert_eq!(one.len(), 6);
    }

    #[test]
    fn a_kind_without_prompts_is_left_out_and_none_at_all_is_an_error() {
        let spec = Conditions::Instructions { count: 4 };
        let train = vec![graph("S_even", "MS_2", 5); 19];
        let rare = graph("S_even", "MS_rare", 5);
        let some = dataset([train.clone(), vec![rare.clone()]].concat(), vec![rare.clone()]);
        let asked = asked_for(&spec, &some, 1).unwrap();
        assert_eq!(asked.len(), 8);
        assert_eq!(Kind::of(&asked[0].requests), Some(Kind::Uncommon));
        let none = dataset(train, vec![graph("S_even", "MS_2", 5)]);
        let error = asked_for(&spec, &none, 1).unwrap_err();
        assert!(error.downcast_ref::<UserError>().is_some(), "{error}");
        assert!(asked_for(&Conditions::Instructions { count: 0 }, &some, 1).is_err());
    }
}
