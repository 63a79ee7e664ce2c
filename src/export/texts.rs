//! The paper's texts as JSON lines with `graph`, `prompt` and `completion`: what a language model is trained
//! on. Prompts say all that is known; in TraceGym's own training some of it is left out at random.

use std::io::Write as _;

use anyhow::Result;
use serde::Serialize;

use crate::graph::{CallGraph, condition_of, steps};
use crate::random;
use crate::text::{FieldOrder, recursive, tabular};

#[derive(Serialize)]
struct Line<'a> {
    graph: u32,
    prompt: &'a str,
    completion: &'a str,
}

fn push(text: &mut Vec<u8>, graph: u32, prompt: &str, completion: &str) -> Result<()> {
    serde_json::to_writer(&mut *text, &Line { graph, prompt, completion })?;
    Ok(writeln!(text)?)
}

/// Adds a line for each generation step of a graph to `text`.
pub fn push_recursive(text: &mut Vec<u8>, number: u32, graph: &CallGraph, seed: u64) -> Result<()> {
    for (index, step) in steps(graph).iter().enumerate() {
        let mut rng =
            random::stream(seed, "exported recursive text", &[number.into(), index as u64]);
        let prompt = recursive::prompt(&step.condition, &mut rng);
        push(text, number, &prompt, &recursive::answer(step, FieldOrder::Shuffled, &mut rng))?;
    }
    Ok(())
}

/// Adds a line for the whole graph to `text`.
pub fn push_tabular(text: &mut Vec<u8>, number: u32, graph: &CallGraph, seed: u64) -> Result<()> {
    let mut rng = random::stream(seed, "exported tabular text", &[number.into()]);
    let prompt = tabular::shuffled_prompt(&condition_of(graph), &mut rng);
    push(text, number, &prompt, &tabular::answer(graph, FieldOrder::Shuffled, &mut rng))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::any_graph;
    use crate::text::parse;

    fn completions(text: &[u8]) -> Vec<String> {
        let lines = std::str::from_utf8(text).unwrap().lines();
        let completion = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["completion"].as_str().unwrap().to_owned()
        };
        lines.map(completion).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_parsers_read_what_is_written(graph in any_graph(20)) {
            let mut text = Vec::new();
            push_tabular(&mut text, 3, &graph, 1).unwrap();
            prop_assert_eq!(tabular::parse(&completions(&text)[0]).unwrap(), graph.rows());
            text.clear();
            push_recursive(&mut text, 3, &graph, 1).unwrap();
            let steps = steps(&graph);
            let completions = completions(&text);
            prop_assert_eq!(completions.len(), steps.len());
            for (step, completion) in steps.iter().zip(completions) {
                let read = parse::parse(&step.condition, &completion, false);
                prop_assert_eq!(read.unwrap(), step.body.clone());
            }
        }
    }
}
