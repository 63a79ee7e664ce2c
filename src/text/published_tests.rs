//! Texts of the paper's own grammar, as its authors published examples of it: what they wrote must read as
//! the same graphs here. The texts below are written anew; the published files are not part of this
//! project and are read where [`EXAMPLES`] names their folder.

use std::collections::VecDeque;
use std::path::Path;

use super::{parse, recursive, tabular};
use crate::graph::{CallGraph, CallRow, EdgeId, LayerCondition, Name, StepBody, USER};

/// Environment variable: a folder with `recursive_dataset.txt`, `recursive_instruction_dataset.txt` and
/// `tabular_dataset.txt`, the examples published with the paper.
const EXAMPLES: &str = "TRACEGYM_PAPER_EXAMPLES";

/// A step as it is published: the line of its condition, and its answer without intermediate
/// instructions, parts of a wide layer marked as here.
type Written = (String, String);

/// The attributes of a condition line, sorted.
fn attributes(line: &str) -> Vec<&str> {
    let mut attributes: Vec<&str> = line.split('/').collect();
    attributes.sort_unstable();
    attributes
}

fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split('/').find_map(|part| part.split_once(':').filter(|(k, _)| *k == key)).map(|(_, v)| v)
}

/// The steps of each graph in a file: recursive text, or instructions with intermediate ones between
/// the blocks of the answers.
fn graphs(text: &str) -> Vec<VecDeque<Written>> {
    let mut graphs: Vec<VecDeque<Written>> = Vec::new();
    let mut condition = String::new();
    let mut answer: Option<String> = None;
    for line in text.lines() {
        let line = line.strip_prefix("[GENERATE GRAPH]").unwrap_or(line);
        if let Some(block) = &mut answer {
            // The last intermediate instruction may have no line break of its own.
            let end = ["</layer>", "</split>"].into_iter().find(|end| line.ends_with(end));
            // The published parts name the edge above the layer, which the layer is not told.
            let part = block.starts_with("\n<split>").then(|| line.split_once('>')).flatten();
            match (end, part) {
                (Some(end), _) => *block += end,
                (None, Some((start, rest))) if start.starts_with("<subgraph of edge_id ") => {
                    *block += &format!("<subgraph>{rest}\n");
                }
                (None, _) if line.starts_with(['<', '(']) => *block += &format!("{line}\n"),
                (None, _) => {}
            }
            if end.is_some()
                && let Some(answer) = answer.take()
            {
                if value(&condition, "caller").is_none() {
                    graphs.push(VecDeque::new());
                }
                let steps = graphs.last_mut().expect("a file begins with a root layer");
                steps.push_back((condition.clone(), answer));
            }
        } else if line == "<layer>" || line == "<split>" {
            answer = Some(format!("\n{line}\n"));
        } else if value(line, "id").is_some() {
            condition = line.to_owned();
        }
    }
    graphs
}

/// The graph that published steps describe: depth first, each step before those below it.
fn rebuilt(mut steps: VecDeque<Written>) -> Result<CallGraph, String> {
    let (line, _) = steps.front().ok_or("no steps")?;
    let service: Name = value(line, "id").ok_or("no service")?.into();
    let number = |key: &str| value(line, key).and_then(|text| text.parse().ok());
    let root = LayerCondition {
        num_edges: number("num_edges"),
        remaining_depth: number("remaining_depth"),
        latency: number("latency"),
        num_current_edges: number("num_current_edges"),
        start_node: Some(USER.into()),
        ..LayerCondition::default()
    };
    let mut rows = Vec::new();
    descend(&mut steps, &root, None, None, &mut rows)?;
    if !steps.is_empty() {
        return Err(format!("{} steps are left", steps.len()));
    }
    CallGraph::from_rows(service, &rows).map_err(|found| format!("{found:?}"))
}

fn descend(
    steps: &mut VecDeque<Written>,
    condition: &LayerCondition,
    written: Option<&str>,
    parent: Option<&EdgeId>,
    rows: &mut Vec<CallRow>,
) -> Result<(), String> {
    let (line, answer) = steps.pop_front().ok_or("a step is missing")?;
    if written.is_some_and(|written| attributes(written) != attributes(&line)) {
        return Err(format!("`{line}` is not the condition above"));
    }
    let body = parse::parse(condition, &answer, false).map_err(|found| format!("{found:?}"))?;
    let lines: Vec<&str> = recursive::condition_lines(&answer).collect();
    match body {
        StepBody::Split { parts } => {
            for (part, line) in parts.iter().zip(lines) {
                descend(steps, part, Some(line), parent, rows)?;
            }
        }
        StepBody::Layer { edges, subgraphs } => {
            let id = |number| parent.map_or_else(|| EdgeId::top(number), |p| p.child(number));
            for edge in &edges {
                rows.push(CallRow {
                    edge_id: id(edge.number),
                    source: condition.start_node.clone().ok_or("no start node")?,
                    destination: edge.destination.clone(),
                    kind: edge.kind,
                    start: edge.start,
                    finish: edge.finish,
                });
            }
            for (below, line) in subgraphs.iter().zip(lines) {
                descend(steps, &below.condition, Some(line), Some(&id(below.edge)), rows)?;
            }
        }
    }
    Ok(())
}

/// The graphs of a file of tables.
fn tables(text: &str) -> Vec<Result<CallGraph, String>> {
    let texts = text.split("[GENERATE GRAPH]").skip(1);
    let graph = |text: &str| {
        let (line, table) = text.split_once('\n').ok_or("no table")?;
        let service: Name = value(line, "id").ok_or("no service")?.into();
        let rows = tabular::parse(&format!("\n{}", table.trim_end()));
        let rows = rows.map_err(|(_, found)| format!("{found:?}"))?;
        CallGraph::from_rows(service, &rows).map_err(|found| format!("{found:?}"))
    };
    texts.map(graph).collect()
}

/// One graph in the three published grammars: a root, a wide layer in two parts, and a layer below.
#[test]
fn texts_of_the_papers_grammar_read_as_the_same_graph() {
    let edge = |number: u32, to: &str, start: u32, finish: u32| {
        format!(
            "(edge_id is {number},type is rpc,communication starts at {start} milliseconds,destination is {to},communication finishes at {finish} milliseconds)\n"
        )
    };
    let root_line = "latency:40/num_edges:18/id:S_000000007/start_edge_id:0/remaining_depth:2/num_current_edges:1/start_node:USER/num_subgraphs:1";
    let line = |first: u32, edges: u32, current: u32, depth: u32, subgraphs: u32| {
        format!(
            "num_edges:{edges}/start_edge_id:{first}/caller:USER/latency:40/num_current_edges:{current}/start_node:MS_00001/id:S_000000007/remaining_depth:{depth}/num_subgraphs:{subgraphs}/start_communication_at:0"
        )
    };
    let (wide, first, second) =
        (line(1, 17, 16, 1, 2), line(1, 15, 14, 1, 1), line(15, 2, 2, 0, 0));
    let deep = "caller:MS_00001/num_edges:1/id:S_000000007/start_node:MS_00002/latency:9/num_subgraphs:0/num_current_edges:1/start_communication_at:3/remaining_depth:0/start_edge_id:1";
    let edges = |numbers: std::ops::RangeInclusive<u32>| -> String {
        numbers.map(|number| edge(number, "MS_00002", number, number + 7)).collect()
    };
    let leaf = edge(1, "MS_00003", 3, 9);
    let answers = [
        format!(
            "<layer>\n<edges>\n{}</edges>\n<subgraph of edge_id 0>{wide}</subgraph>\n</layer>\n",
            edge(0, "MS_00001", 0, 40)
        ),
        format!(
            "<split>\n<subgraph of edge_id 0>{first}</subgraph>\n<subgraph of edge_id 0>{second}</subgraph>\n</split>\n"
        ),
        format!(
            "<layer>\n<edges>\n{}</edges>\n<subgraph of edge_id 2>{deep}</subgraph>\n</layer>\n",
            edges(1..=14)
        ),
        format!("<layer>\n<edges>\n{leaf}</edges>\n</layer>\n"),
        format!("<layer>\n<edges>\n{}</edges>\n</layer>\n", edges(15..=16)),
    ];
    // A condition comes again in an order of its own.
    let turned = |line: &str| line.split('/').rev().collect::<Vec<_>>().join("/");
    let lines =
        [root_line.to_owned(), turned(&wide), turned(&first), turned(deep), turned(&second)];
    let recursive: String = lines.iter().zip(&answers).map(|(l, a)| format!("{l}\n{a}")).collect();
    let instruction: String = lines
        .iter()
        .zip(&answers)
        .map(|(line, answer)| {
            let worked = answer
                .replace("</edges>\n", "</edges>\nso many edges = 3 - 1 + 1 = 3\n\nthe rest\n")
                .replace("\n</layer>", "\nall done</layer>");
            format!("### Question: A sentence.\nRequirements:\n{line}\nConditions:\nA condition\n\n ### Answer: \n{worked}")
        })
        .collect();
    let mut table = String::from("[GENERATE GRAPH]depth:3/id:S_000000007\n<edges>\n");
    let row = |id: &str, from: &str, to: &str, start: u32, finish: u32| {
        format!(
            "(source is {from},type is rpc,edge_id is {id},destination is {to},communication finishes at {finish} milliseconds,communication starts at {start} milliseconds)\n"
        )
    };
    table += &row("0", USER, "MS_00001", 0, 40);
    for number in 1..=16 {
        table += &row(&format!("0.{number}"), "MS_00001", "MS_00002", number, number + 7);
        if number == 2 {
            table += &row("0.2.1", "MS_00002", "MS_00003", 3, 9);
        }
    }
    table += "</edges>\n";

    let expected = tables(&table).remove(0).expect("a graph");
    assert_eq!((expected.num_edges(), expected.depth()), (18, 3));
    for text in [format!("[GENERATE GRAPH]{recursive}"), instruction] {
        let mut found = graphs(&text);
        assert_eq!(found.len(), 1);
        assert_eq!(rebuilt(found.remove(0)).as_ref(), Ok(&expected));
    }
}

/// The published files themselves: how many graphs read, and whether the recursive text and the tables
/// hold the same ones.
#[test]
#[ignore = "needs the folder of the paper's examples: TRACEGYM_PAPER_EXAMPLES=FOLDER cargo test -- --ignored papers_examples"]
fn the_papers_examples_read_as_the_same_graphs() {
    let folder = std::env::var_os(EXAMPLES).unwrap_or_else(|| panic!("{EXAMPLES} is not set"));
    let read = |name: &str| {
        let path = Path::new(&folder).join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let tables = tables(&read("tabular_dataset.txt"));
    let valid = tables.iter().filter(|graph| graph.is_ok()).count();
    println!("tables: {valid} of {}", tables.len());
    assert!(valid * 100 >= tables.len() * 99, "{valid} of {}", tables.len());
    for name in ["recursive_dataset.txt", "recursive_instruction_dataset.txt"] {
        let mut found = graphs(&read(name));
        // The files are cut off after some number of lines.
        found.pop();
        let graphs: Vec<Result<CallGraph, String>> = found.into_iter().map(rebuilt).collect();
        let (all, valid) = (graphs.len(), graphs.iter().filter(|graph| graph.is_ok()).count());
        println!("{name}: {valid} of {all}");
        graphs.iter().filter_map(|g| g.as_ref().err()).for_each(|error| println!("  {error}"));
        assert!(valid * 100 >= all * 99, "{name}: {valid} of {all}");
        // The recursive text is of the same graphs as the tables, in the same order.
        let pairs = graphs.iter().zip(&tables);
        let other = pairs.filter(|(graph, table)| graph.is_ok() && graph != table).count();
        assert!(name != "recursive_dataset.txt" || other == 0, "{other} graphs differ");
    }
}
