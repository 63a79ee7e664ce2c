use proptest::prelude::*;

use super::*;
use crate::testing::{any_graph, paper_example, row};

fn codes(rows: &[CallRow]) -> Vec<ViolationCode> {
    match CallGraph::from_rows("S_000000001".into(), rows) {
        Ok(_) => Vec::new(),
        Err(violations) => violations.into_iter().map(|violation| violation.code).collect(),
    }
}

#[test]
fn attributes_of_the_papers_example() {
    let graph = paper_example();
    assert_eq!((graph.num_edges(), graph.depth(), graph.latency()), (7, 3, 8));
    assert_eq!(graph.out_degrees(), [4, 2, 0, 0, 0, 0, 0]);
    assert_eq!(graph.subtree_sizes(), [7, 3, 1, 1, 1, 1, 1]);
    assert_eq!(graph.source(2), "MS_63670");
    assert_eq!(graph.edge_ids()[2].to_string(), "0.1.1");
}

#[test]
fn every_violation_is_listed() {
    use ViolationCode::*;
    assert_eq!(codes(&[]), [Empty]);
    assert_eq!(codes(&[row("0.1", "MS_1", "MS_2", "rpc", 0, 1)]), [NoRoot, MissingParent]);
    assert_eq!(
        codes(&[row("0", "MS_9", "MS_1", "http", 3, 1)]),
        [FinishBeforeStart, SourceMismatch]
    );
    let rows = [
        row("0", USER, "MS_1", "http", 5, 10),
        row("0.1", "MS_2", "MS_3", "rpc", 4, 11),
        row("0.1", "MS_1", "MS_3", "rpc", 5, 6),
        row("1", USER, "MS_1", "http", 5, 6),
    ];
    let expected =
        [DuplicateEdgeId, SourceMismatch, StartBeforeParent, FinishAfterParent, SecondRoot];
    assert_eq!(codes(&rows), expected);
}

/// The longest edge id has 2,816 characters, and names may hold anything.
#[test]
fn violations_are_fit_to_be_shown() {
    let id = "0.".to_owned() + &["4294967295"; MAX_EDGE_ID_LEN - 1].join(".");
    let name = "x".repeat(10_000) + "\u{1b}[31m\n";
    let rows = [
        row("0", USER, &name, "http", 5, 3),
        row("0.1", "other\u{202e}", "MS_3", "rpc", 4, 11),
        row(&id, &name, &name, "rpc", 1, 0),
        row(&id, &name, &name, "rpc", 1, 0),
    ];
    let violations = CallGraph::from_rows("S".into(), &rows).unwrap_err();
    assert!(violations.len() > 6);
    for Violation { detail, .. } in &violations {
        assert!(detail.chars().count() < 260, "{detail}");
        assert!(detail.chars().all(crate::display::prints), "{detail}");
    }
    assert!(violations.iter().any(|violation| violation.detail.contains("\\u{202e}")));
}

#[test]
fn edge_ids_that_are_none() {
    for text in ["", ".", "0.", "0..1", "a", "-1", "+1", "0.99999999999", " 0"] {
        assert!(text.parse::<EdgeId>().is_err(), "{text:?}");
    }
    assert!("0.".repeat(MAX_EDGE_ID_LEN).trim_end_matches('.').parse::<EdgeId>().is_ok());
    assert!(("0.".repeat(MAX_EDGE_ID_LEN) + "0").parse::<EdgeId>().is_err());
}

#[test]
fn steps_of_the_papers_example() {
    let steps = steps(&paper_example());
    assert_eq!(steps.len(), 3);
    let root = &steps[0].condition;
    assert_eq!(
        (root.num_edges, root.remaining_depth, root.num_subgraphs),
        (Some(7), Some(2), Some(1))
    );
    let StepBody::Layer { edges, subgraphs } = &steps[0].body else { panic!("a layer") };
    assert_eq!((edges.len(), subgraphs.len(), subgraphs[0].edge), (1, 1, 0));
    let below = &subgraphs[0].condition;
    assert_eq!(below, &steps[1].condition);
    assert_eq!(below.caller.as_deref(), Some(USER));
    assert_eq!(below.start_node.as_deref(), Some("MS_63670"));
    assert_eq!((below.num_edges, below.num_current_edges), (Some(6), Some(4)));
    assert_eq!(
        (below.latency, below.start_edge_id, below.remaining_depth),
        (Some(8), Some(1), Some(1))
    );
}

proptest! {
    #[test]
    fn rows_give_the_graph_back_in_any_order(graph in any_graph(60), turn in 0..60usize) {
        let mut rows = graph.rows();
        let turn = turn % rows.len();
        rows.rotate_left(turn);
        prop_assert_eq!(CallGraph::from_rows(graph.service().clone(), &rows).unwrap(), graph);
    }

    /// Renumbering the children of every call in reverse changes no canonical hash.
    #[test]
    fn canonical_hashes_ignore_the_order_of_siblings(graph in any_graph(40)) {
        let rows: Vec<CallRow> = graph.rows().into_iter().map(|mut row| {
            let path = row.edge_id.path().to_vec();
            row.edge_id = path[1..].iter().fold(EdgeId::root(), |id, number| id.child(1_000_000 - number));
            row
        }).collect();
        let mirrored = CallGraph::from_rows(graph.service().clone(), &rows).unwrap();
        for level in [Level::Structure, Level::Names, Level::Times] {
            prop_assert_eq!(mirrored.canonical_hash(level), graph.canonical_hash(level));
        }
    }

    #[test]
    fn hashes_tell_apart_what_their_level_sees(graph in any_graph(20)) {
        let mut rows = graph.rows();
        rows[0].finish += 1;
        let later = CallGraph::from_rows(graph.service().clone(), &rows).unwrap();
        prop_assert_eq!(later.canonical_hash(Level::Names), graph.canonical_hash(Level::Names));
        prop_assert_ne!(later.canonical_hash(Level::Times), graph.canonical_hash(Level::Times));
        let renamed = CallGraph::from_rows("S_other".into(), &rows).unwrap();
        prop_assert_eq!(renamed.canonical_hash(Level::Structure), graph.canonical_hash(Level::Structure));
        prop_assert_ne!(renamed.canonical_hash(Level::Names), graph.canonical_hash(Level::Names));
    }

    /// Conditions are consistent: sub-conditions and parts add up, each step's condition is one
    /// that an earlier step put out, and all edges together are the graph's.
    #[test]
    fn steps_add_up(graph in any_graph(120)) {
        let steps = steps(&graph);
        let mut expected = vec![steps[0].condition.clone()];
        let mut edges_seen = 0;
        for (index, step) in steps.iter().enumerate() {
            prop_assert_eq!(&expected[index], &step.condition);
            let whole = step.condition.num_edges.unwrap();
            let depth = step.condition.remaining_depth.unwrap();
            match &step.body {
                StepBody::Layer { edges, subgraphs } => {
                    prop_assert!(edges.len() <= MAX_LAYER_EDGES);
                    prop_assert_eq!(step.condition.num_current_edges, Some(edges.len() as u32));
                    prop_assert_eq!(step.condition.num_subgraphs, Some(subgraphs.len() as u32));
                    let below: u32 = subgraphs.iter().map(|s| s.condition.num_edges.unwrap()).sum();
                    prop_assert_eq!(whole, below + edges.len() as u32);
                    let deepest = subgraphs.iter().map(|s| s.condition.remaining_depth.unwrap() + 1).max();
                    prop_assert_eq!(depth, deepest.unwrap_or(0));
                    expected.extend(subgraphs.iter().map(|s| s.condition.clone()));
                    edges_seen += edges.len();
                }
                StepBody::Split { parts } => {
                    prop_assert!((2..=MAX_SPLIT_PARTS).contains(&parts.len()));
                    prop_assert!(parts.iter().all(|part| part.num_edges.unwrap() < whole));
                    prop_assert_eq!(parts.iter().map(|part| part.num_edges.unwrap()).sum::<u32>(), whole);
                    prop_assert_eq!(parts.iter().map(|part| part.remaining_depth.unwrap()).max(), Some(depth));
                    expected.extend(parts.iter().cloned());
                }
            }
        }
        prop_assert_eq!(expected.len(), steps.len());
        prop_assert_eq!(edges_seen, graph.calls().len());
    }
}
