use std::collections::BTreeSet;

use rand::RngExt;
use rand::seq::IndexedRandom;

use super::*;
use crate::graph::{CallGraph, LayerCondition, StepBody, steps};
use crate::random;
use crate::testing::any_graph;
use crate::text::{Counts, FieldOrder, Format, tabular};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

/// A vocabulary from the texts of a few graphs in a format (`None`: tables).
fn vocabulary(format: Option<Format>, graphs: &[CallGraph]) -> (Rc<TokenTrie>, Tokenizer) {
    let mut names = BTreeSet::from(["USER".to_owned()]);
    let mut texts = Vec::new();
    for (index, graph) in graphs.iter().enumerate() {
        names.insert(graph.service().to_string());
        names.extend(graph.calls().iter().map(|call| call.destination.to_string()));
        for round in 0..20 {
            let mut rng = random::stream(1, "texts", &[index as u64, round]);
            match format {
                Some(format) => steps(graph).iter().for_each(|step| {
                    let (prompt, answer) =
                        format.training_text(step, &[], FieldOrder::Shuffled, &mut rng);
                    texts.extend([prompt, answer]);
                }),
                None => texts.push(tabular::training_text(graph, FieldOrder::Shuffled, &mut rng).1),
            }
        }
    }
    let texts = texts.iter().map(String::as_str);
    let tokenizer = match format {
        Some(format) => format.tokenizer([], texts, &names, 40),
        None => {
            let counts = Counts { words: &tabular::COUNTED, most: 40 };
            Tokenizer::learn([], texts, &names, counts)
        }
    };
    let tokenizer = tokenizer.expect("learns");
    let microservices: Vec<String> =
        names.into_iter().filter(|name| name.starts_with("MS_")).collect();
    (Rc::new(TokenTrie::new(&tokenizer, &microservices)), tokenizer)
}

/// Writes a text with random choices.
fn write<G: Grammar>(
    vocabulary: &Rc<TokenTrie>,
    tokenizer: &Tokenizer,
    grammar: G,
    rng: &mut impl rand::Rng,
) -> String {
    let mut automaton = Automaton::new(vocabulary.clone(), grammar);
    let (mut tokens, mut permitted) = (Vec::new(), Vec::new());
    loop {
        automaton.permitted(&mut permitted);
        // An end is as likely as all other tokens together: texts would grow long otherwise.
        let ends = permitted.contains(&Tokenizer::END) && rng.random_bool(0.5);
        let others: Vec<u32> =
            permitted.iter().copied().filter(|token| *token != Tokenizer::END).collect();
        match others.choose(rng) {
            Some(token) if !ends => {
                tokens.push(*token);
                automaton.push(*token);
            }
            _ => {
                assert!(permitted.contains(&Tokenizer::END), "a dead end");
                return tokenizer.decode(&tokens);
            }
        }
        assert!(tokens.len() < 60_000, "endless: {}", tokenizer.decode(&tokens));
    }
}

fn graphs() -> Vec<CallGraph> {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    (0..30).map(|_| any_graph(30).new_tree(&mut runner).expect("a graph").current()).collect()
}

fn condition(rng: &mut impl rand::Rng) -> LayerCondition {
    let depth = rng.random_range(0..6);
    let width: u32 =
        if rng.random_bool(0.7) { rng.random_range(1..16) } else { rng.random_range(16..200) };
    let subgraphs = if depth == 0 { 0 } else { rng.random_range(1..=width) };
    let more = rng.random_range(0..20) * rng.random_range(0..4);
    let edges = if depth == 0 { width } else { width + depth + subgraphs - 1 + more };
    let start = rng.random_range(0..1000);
    LayerCondition {
        service: Some("S_000000001".into()),
        num_edges: Some(edges),
        start_node: Some("MS_00001".into()),
        caller: Some("MS_00002".into()),
        start_edge_id: Some(rng.random_range(0..50)),
        start_communication_at: Some(start),
        latency: Some(start + rng.random_range(0..100_000) * rng.random_range(0..2)),
        num_subgraphs: Some(subgraphs),
        remaining_depth: Some(depth),
        num_current_edges: Some(width),
    }
}

#[test]
fn random_choices_always_give_a_valid_step() {
    let graphs = graphs();
    for format in [
        Format::Recursive,
        Format::Compact { remaining_counts: false },
        Format::Compact { remaining_counts: true },
        Format::Instruction { notes: true },
        Format::Instruction { notes: false },
    ] {
        let (vocabulary, tokenizer) = vocabulary(Some(format), &graphs);
        for index in 0..60 {
            let mut rng = random::stream(4, "steps", &[index]);
            let condition = condition(&mut rng);
            let bounds = Bounds {
                earliest: condition.start_communication_at.unwrap_or(0) / 2,
                numbers_below: 250 + condition.num_current_edges.unwrap_or(0),
            };
            let asked = condition.clone();
            let text = match format {
                Format::Compact { remaining_counts } => {
                    let grammar = Compact::new(asked, bounds, remaining_counts);
                    write(&vocabulary, &tokenizer, grammar, &mut rng)
                }
                _ => {
                    let notes = format == Format::Instruction { notes: true };
                    let grammar = Prose::new(asked, bounds, notes);
                    write(&vocabulary, &tokenizer, grammar, &mut rng)
                }
            };
            let body = format.parse(&condition, &text);
            let body = body.unwrap_or_else(|found| panic!("{found:?}\n{condition:?}\n{text}"));
            if let StepBody::Layer { edges, subgraphs } = &body {
                assert_eq!(subgraphs.len() as u32, condition.num_subgraphs.unwrap());
                assert!(edges.iter().all(|edge| edge.start >= bounds.earliest));
                assert!(edges.iter().all(|edge| edge.number < bounds.numbers_below));
            }
        }
    }
}

#[test]
fn random_choices_always_give_the_table_that_was_asked_for() {
    let graphs = graphs();
    let (vocabulary, tokenizer) = vocabulary(None, &graphs);
    for index in 0..150 {
        let mut rng = random::stream(5, "tables", &[index]);
        let depth = rng.random_range(1..8u32);
        let edges = if depth == 1 { 1 } else { depth + rng.random_range(0..25) };
        let keep = |value: u32, kept: bool| kept.then_some(value);
        let condition = Condition {
            service: "S_000000001".into(),
            num_edges: keep(edges, index % 7 != 0),
            depth: keep(depth, index % 5 != 1),
            latency: keep(rng.random_range(0..5000), index % 3 != 0),
            requests: Vec::new(),
        };
        if check_request(&condition).is_err() {
            assert!(condition.num_edges.is_none() && condition.depth.is_none());
            continue;
        }
        let text = write(&vocabulary, &tokenizer, Table::new(&condition), &mut rng);
        let text = format!("{}{text}", tabular::OPENING);
        let rows = tabular::parse(&text).unwrap_or_else(|(_, found)| panic!("{found:?}\n{text}"));
        let graph = CallGraph::from_rows("S_000000001".into(), &rows);
        let graph = graph.unwrap_or_else(|found| panic!("{found:?}\n{text}"));
        assert!(condition.num_edges.is_none_or(|edges| edges == graph.num_edges()));
        assert!(condition.depth.is_none_or(|depth| depth == graph.depth()));
        assert!(condition.latency.is_none_or(|latency| graph.latency() <= latency));
    }
}

/// What training texts hold is permitted, token by token: the mask takes nothing away that a model
/// should say.
#[test]
fn training_texts_are_permitted() {
    let graphs = graphs();
    let compact = [false, true].map(|remaining_counts| Format::Compact { remaining_counts });
    let prose = [Format::Recursive, Format::Instruction { notes: true }];
    for format in compact.into_iter().chain(prose) {
        let (vocabulary, tokenizer) = vocabulary(Some(format), &graphs);
        let mut rng = random::stream(6, "training", &[]);
        let mut forced = 0;
        for step in graphs.iter().flat_map(steps).filter(|step| step.condition.caller.is_some()) {
            let (_, text) = format.training_text(&step, &[], FieldOrder::Shuffled, &mut rng);
            let condition = step.condition.clone();
            let bounds = Bounds::default();
            forced += match format {
                Format::Compact { remaining_counts } => {
                    let grammar = Compact::new(condition, bounds, remaining_counts);
                    follow(&vocabulary, &tokenizer, grammar, &text)
                }
                _ => {
                    let notes = format != Format::Recursive;
                    follow(&vocabulary, &tokenizer, Prose::new(condition, bounds, notes), &text)
                }
            };
        }
        assert!(forced > 100, "{forced}");
    }
    let (vocabulary, tokenizer) = vocabulary(None, &graphs);
    let mut rng = random::stream(7, "training", &[]);
    for graph in &graphs {
        // Depth 1 start: constraints count from the request, which here is the graph's own.
        let condition = crate::graph::condition_of(graph);
        let (_, text) = tabular::training_text(graph, FieldOrder::Shuffled, &mut rng);
        follow(&vocabulary, &tokenizer, Table::new(&condition), &text);
    }
}

/// Goes along a text; returns how many of its tokens were forced.
fn follow<G: Grammar>(
    vocabulary: &Rc<TokenTrie>,
    tokenizer: &Tokenizer,
    grammar: G,
    text: &str,
) -> usize {
    let mut automaton = Automaton::new(vocabulary.clone(), grammar);
    let mut permitted = Vec::new();
    let mut forced = 0;
    let mut written = Vec::new();
    for token in tokenizer.encode(text).expect("encodes").into_iter().chain([Tokenizer::END]) {
        automaton.permitted(&mut permitted);
        let said = tokenizer.decode(&written);
        let next = tokenizer.decode(&[token]);
        assert!(permitted.contains(&token), "{said}|{next}|\n{text}");
        forced += usize::from(permitted.len() == 1);
        written.push(token);
        if token != Tokenizer::END {
            automaton.push(token);
        }
    }
    forced
}

#[test]
fn requests_that_no_graph_answers_are_refused_with_the_reason() {
    let request = |num_edges, depth| Condition {
        service: "S".into(),
        num_edges,
        depth,
        latency: None,
        requests: Vec::new(),
    };
    for (edges, depth, words) in [
        (Some(0), None, "one edge at least"),
        (None, Some(0), "depth 1 at least"),
        (Some(3), Some(4), "needs 4 edges"),
        (Some(2), Some(1), "depth 2 at least"),
        (Some(10_000), None, "more than"),
        (None, Some(100), "more than"),
        (None, None, "needs num_edges or depth"),
    ] {
        let violation = check_request(&request(edges, depth)).unwrap_err();
        assert_eq!(violation.code, ViolationCode::Infeasible);
        assert!(violation.detail.contains(words), "{violation:?}");
    }
    for (edges, depth) in
        [(Some(1), Some(1)), (Some(30), Some(6)), (None, Some(1)), (Some(9), None)]
    {
        assert!(check_request(&request(edges, depth)).is_ok());
    }
}
