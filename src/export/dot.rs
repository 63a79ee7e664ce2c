//! Drawings for Graphviz: a digraph per call graph, a node per call, so that the calls of one microservice
//! stay apart. Several digraphs in one file are drawn as several pages.

use std::io::Write as _;

use crate::display;
use crate::graph::{CallGraph, USER};

/// Adds the digraph of a graph to `text`. Times are milliseconds from the start of the trace.
pub fn push(text: &mut Vec<u8>, number: u32, graph: &CallGraph) {
    let title = quoted(&format!("{} {number}", graph.service()));
    let mut lines = vec![
        format!("digraph {title} {{"),
        "  node [shape=box, fontname=\"sans-serif\"];".to_owned(),
        "  edge [fontname=\"sans-serif\", fontsize=10];".to_owned(),
        format!("  user [label={}, shape=plaintext];", quoted(USER)),
    ];
    for (index, call) in graph.calls().iter().enumerate() {
        lines.push(format!("  c{index} [label={}];", quoted(&call.destination)));
        let from = call.parent.map_or_else(|| "user".to_owned(), |parent| format!("c{parent}"));
        let label = quoted(&format!("{} {}–{} ms", call.kind, call.start, call.finish));
        lines.push(format!("  {from} -> c{index} [label={label}];"));
    }
    lines.push("}".to_owned());
    for line in lines {
        // Writing to memory does not fail.
        let _ = writeln!(text, "{line}");
    }
}

/// A string of Graphviz that shows the text as it is: no character of it is markup or an escape.
fn quoted(text: &str) -> String {
    format!("\"{}\"", display::name(text).replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_markup() {
        assert_eq!(quoted("a\"b\\n"), r#""a\"b\\n""#);
        assert_eq!(quoted("line\nbreak"), r#""line\\u{a}break""#);
        assert_eq!(quoted("<b>x</b>"), "\"<b>x</b>\"");
    }
}
