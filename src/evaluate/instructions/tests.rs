use super::*;
use crate::evaluate::evaluate;
use crate::evaluate::tests::{answer, assert_same_values, dataset, failed, find, renamed_dataset};
use crate::graph::{CallGraph, Communication, Generated};
use crate::testing::{other_name, row};

/// A root with one child.
fn graph(service: &str, child: &str, latency: u32) -> CallGraph {
    let rows = [
        row("0", "USER", "MS_1", "http", 0, latency),
        row("0.1", "MS_1", child, "rpc", 0, latency),
    ];
    CallGraph::from_rows(service.into(), &rows).expect("valid")
}

/// Two services with p90 = 100, each with MS_rare in one of 20 training graphs.
fn example() -> Dataset {
    let services = ["S_1", "S_2"];
    let train = services.iter().flat_map(|service| {
        let usual = (1..=17).map(|latency| graph(service, "MS_2", latency));
        let slow = vec![graph(service, "MS_2", 100); 2];
        usual.chain(slow).chain([graph(service, "MS_rare", 100)])
    });
    let test = services.iter().flat_map(|service| {
        [graph(service, "MS_2", 3), graph(service, "MS_rare", 7), graph(service, "MS_2", 300)]
    });
    dataset(train.collect(), test.collect())
}

fn score(asked: &[Condition], answers: &[Generated]) -> Vec<Record> {
    evaluate(&FAMILY, &example(), asked, answers, 3).unwrap()
}

/// Four prompts of each kind, for which `answer` gives a graph by kind, service and request.
fn asked_and(reply: impl Fn(Kind, &str, bool) -> Generated) -> (Vec<Condition>, Vec<Generated>) {
    let asked = conditions(4, &example(), 1).unwrap();
    let answers = asked.chunks(2).flat_map(|pair| {
        let kind = Kind::of(&pair[0].requests).expect("a kind");
        [true, false].map(|with| reply(kind, &pair[0].service, with))
    });
    let answers = answers.collect();
    (asked, answers)
}

#[test]
fn shares_and_gains_by_hand() {
    // Follows whatever is asked of S_1, half of it of S_2, and is slow without being asked.
    let (asked, answers) = asked_and(|kind, service, with| {
        answer(&match (kind, service, with) {
            (Kind::HighLatency, ..) => graph(service, "MS_2", 200),
            (_, "S_1", true) => graph(service, "MS_rare", 200),
            (_, "S_2", true) => graph(service, "MS_rare", 2),
            _ => graph(service, "MS_2", 200),
        })
    });
    let of_first = |kind: Kind| {
        let prompts = asked.iter().filter(|asked| Kind::of(&asked.requests) == Some(kind));
        let services: Vec<bool> = prompts.map(|prompt| &*prompt.service == "S_1").collect();
        assert_eq!(services.len(), 4);
        services.iter().filter(|first| **first).count() as f64 / 4.0
    };
    let records = score(&asked, &answers);
    let followed = |cell: &str| find(&records, FOLLOWED, cell).value;
    let gain = |cell: &str| find(&records, GAIN, cell);
    assert_eq!(followed("kind=high-latency/asked=yes"), 1.0);
    assert_eq!(followed("kind=high-latency/asked=no"), 1.0);
    assert_eq!(gain("kind=high-latency").value, 0.0);
    assert_eq!(followed("kind=uncommon/asked=yes"), 1.0);
    assert_eq!(followed("kind=uncommon/asked=no"), 0.0);
    assert_eq!((gain("kind=uncommon").value, gain("kind=uncommon").count), (1.0, 4));
    assert_eq!(followed("kind=both/asked=yes"), of_first(Kind::Both));
    assert_eq!(followed("kind=both/part=uncommon/asked=yes"), 1.0);
    assert_eq!(followed("kind=both/part=high-latency/asked=yes"), of_first(Kind::Both));
    assert_eq!(gain("kind=both/part=high-latency").value, of_first(Kind::Both) - 1.0);
    // All graphs have the size and depth that every prompt asks for.
    assert_eq!(find(&records, ACCURACY, "kind=both/asked=yes").value, 1.0);
    assert_eq!(find(&records, ACCURACY_CHANGE, "kind=both").value, 0.0);
    assert_eq!(find(&records, ACCURACY, "").count, 24);
    let different =
        |kind| (find(&records, PROMPTS, kind).value, find(&records, PROMPTS, kind).count);
    // Without their latency, prompts of one service are the same; four of six are of both services.
    assert_eq!(different("kind=high-latency"), (2.0, 4));
    assert!(different("kind=uncommon").0 <= 2.0);
    let wilson = Interval::wilson(4, 4);
    assert_eq!(find(&records, FOLLOWED, "kind=uncommon/asked=yes").low, wilson.low);
}

#[test]
fn following_that_costs_validity_is_seen() {
    let (asked, answers) =
        asked_and(
            |_, service, with| if with { failed() } else { answer(&graph(service, "MS_2", 1)) },
        );
    let records = score(&asked, &answers);
    for kind in Kind::ALL {
        let cell = format!("kind={}", kind.id());
        assert_eq!(find(&records, ACCURACY_CHANGE, &cell).value, -1.0);
        assert_eq!(find(&records, GAIN, &cell).value, 0.0);
        assert_eq!(find(&records, FOLLOWED, &format!("{cell}/asked=yes")).value, 0.0);
    }
}

#[test]
fn a_gain_is_drawn_by_service_with_pairs_together() {
    // Half of twelve services always gain and the others never, however many prompts each has.
    let mut paired = Paired::default();
    let names: Vec<Name> = (0..12).map(|index| format!("S_{index}").as_str().into()).collect();
    for _ in 0..50 {
        for (index, name) in names.iter().enumerate() {
            paired.add(name, [true, index % 2 == 0]);
        }
    }
    let record = paired.difference(GAIN, &WHOLE, 1);
    assert!(record.value == 0.5 && record.low < 0.3 && record.high > 0.7, "{record:?}");
    // The same gain in all services is certain, however noisy the answers are.
    let mut even = Paired::default();
    for outcome in [[true, false], [true, true], [false, false], [true, false]] {
        names.iter().for_each(|name| even.add(name, outcome));
    }
    let record = even.difference(GAIN, &WHOLE, 1);
    assert_eq!((record.value, record.low, record.high), (0.5, 0.5, 0.5));
}

#[test]
fn one_service_has_a_gain_without_an_interval() {
    let (asked, answers) = asked_and(|_, service, with| {
        answer(&graph(service, if with { "MS_rare" } else { "MS_2" }, 200))
    });
    let of_first = asked.iter().zip(answers).filter(|(asked, _)| &*asked.service == "S_1");
    let (asked, answers): (Vec<Condition>, Vec<Generated>) =
        of_first.map(|(asked, answer)| (asked.clone(), answer)).unzip();
    let records = score(&asked, &answers);
    let gain = find(&records, GAIN, "kind=uncommon");
    assert!(gain.value == 1.0 && gain.low.is_nan() && gain.high.is_nan(), "{gain:?}");
    let gain = find(&records, GAIN, "kind=high-latency");
    assert!(gain.value == 0.0 && gain.low.is_nan() && gain.count > 0, "{gain:?}");
    // Wilson's interval needs no second service.
    assert!(find(&records, FOLLOWED, "kind=uncommon/asked=yes").low > 0.0);
}

#[test]
fn names_do_not_matter() {
    let (asked, answers) = asked_and(|kind, service, with| match (kind, service, with) {
        (Kind::Both, "S_1", _) => failed(),
        (_, "S_2", true) => answer(&graph(service, "MS_rare", 2)),
        (Kind::HighLatency, "S_1", _) => answer(&graph(service, "MS_2", 200)),
        _ => answer(&graph(service, "MS_rare", 200)),
    });
    let other_request = |request: &Request| match request {
        Request::HighLatency => Request::HighLatency,
        Request::Communication(asked) => Request::Communication(Communication {
            source: other_name(&asked.source),
            destination: other_name(&asked.destination),
            kind: asked.kind,
        }),
    };
    let others = asked.iter().map(|asked| Condition {
        service: other_name(&asked.service),
        requests: asked.requests.iter().map(other_request).collect(),
        ..asked.clone()
    });
    let other_answers = answers.iter().map(|answer| {
        let mut answer = answer.clone();
        for row in &mut answer.rows {
            (row.source, row.destination) = (other_name(&row.source), other_name(&row.destination));
        }
        answer
    });
    let dataset = renamed_dataset(&example());
    let (others, other_answers) = (others.collect::<Vec<_>>(), other_answers.collect::<Vec<_>>());
    let again = evaluate(&FAMILY, &dataset, &others, &other_answers, 3).unwrap();
    let records = score(&asked, &answers);
    assert!(records.iter().any(|r| r.metric == GAIN && r.value.abs() > 0.1), "{records:?}");
    assert_same_values(&records, &again, 1e-12);
    assert_same_values(&references(&example(), 1), &references(&dataset, 1), 1e-12);
}

#[test]
fn other_prompts_are_a_users_mistake() {
    let graph = graph("S_1", "MS_2", 3);
    let asked = [crate::graph::condition_of(&graph)];
    let error = evaluate(&FAMILY, &example(), &asked, &[answer(&graph)], 1).unwrap_err();
    assert!(error.downcast_ref::<UserError>().is_some());
    assert!(error.to_string().contains("kind = \"instructions\""), "{error}");
    // Nothing asked is no mistake, and gives no numbers.
    let records = score(&[], &[]);
    let none = find(&records, FOLLOWED, "kind=both/asked=yes");
    assert!(none.value.is_nan() && none.count == 0);
    assert!(find(&records, GAIN, "kind=uncommon").value.is_nan());
}

#[test]
fn reference_rows_leave_out_the_graph_that_lends_the_prompt() {
    let records = references(&example(), 1);
    let of = |kind: &str, reference: &str| {
        let record =
            find(&records, FOLLOWED, &format!("kind={kind}/asked=no/reference={reference}"));
        (record.value, record.count)
    };
    // Latencies 3, 7 and 300 in each service: the prompt of the slow one sees no other, the two of
    // the usual ones see one in two. All graphs have one shape.
    assert_eq!(of("high-latency", "service"), (1.0 / 3.0, 6));
    assert_eq!(of("high-latency", "shape"), (1.0 / 3.0, 6));
    // MS_rare is in one graph of each service only.
    assert_eq!(of("uncommon", "service"), (0.0, 2));
    assert_eq!(of("both", "service"), (0.0, 2));
    let nothing = references(&dataset(Vec::new(), Vec::new()), 1);
    assert!(find(&nothing, FOLLOWED, "kind=both/asked=no/reference=shape").value.is_nan());
}
