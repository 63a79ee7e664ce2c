//! A page with the waterfall of each trace: a line per call, its bar where it lies in the trace. The page
//! holds all that it needs and asks the network for nothing, so that it can be handed to somebody who
//! has no viewer. Children of a call fold away; colours follow the reader's light or dark scheme.

use std::fmt::Write as _;

use crate::display;
use crate::graph::CallGraph;

/// Most graphs of one page: more are for programs, not for readers.
pub const MAX_GRAPHS: u64 = 100;

/// What stands before the first graph.
pub const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Traces</title>
<style>
:root {
  color-scheme: light dark;
  --page: #ffffff; --ink: #1c1e21; --faint: #62676e; --line: #e3e5e8; --hover: #f2f4f7;
  --http: #2563a8; --rpc: #2c7d59; --mc: #b0690a; --db: #9b3d8f; --mq: #b3362b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15171a; --ink: #e4e6e9; --faint: #9aa0a8; --line: #2c3036; --hover: #1f2328;
    --http: #6ba5e7; --rpc: #62c095; --mc: #e3a24a; --db: #d58acb; --mq: #ee8176;
  }
}
body { margin: 0 auto; max-width: 90rem; padding: 1rem 1.5rem 3rem; background: var(--page);
  color: var(--ink); font: 14px/1.5 system-ui, sans-serif; }
h2 { font-size: 1.15rem; margin: 2rem 0 0; overflow-wrap: anywhere; }
p { margin: 0 0 .6rem; color: var(--faint); }
.key i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .3em 0 1em;
  background: var(--c); }
.row { display: grid; grid-template-columns: minmax(12rem, 2fr) 3fr; column-gap: 1rem;
  align-items: center; padding: 1px 0; }
summary { list-style: none; cursor: pointer; }
summary::-webkit-details-marker { display: none; }
.row:hover { background: var(--hover); }
.name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
  padding-left: calc(min(var(--d), 24) * .9rem + 1.1rem); position: relative; }
summary > .name::before { content: "▸"; position: absolute; margin-left: -1rem; color: var(--faint); }
details[open] > summary > .name::before { content: "▾"; }
.name small { color: var(--faint); }
.time { position: relative; height: 1.35rem; border-left: 1px solid var(--line);
  border-right: 1px solid var(--line); margin-right: 5rem;
  background: repeating-linear-gradient(to right, transparent 0 calc(25% - 1px), var(--line) calc(25% - 1px) 25%); }
.time b { position: absolute; top: .25rem; bottom: .25rem; left: var(--l); width: var(--w); min-width: 2px;
  border-radius: 2px; background: var(--c); }
.time span { position: absolute; left: calc(var(--l) + var(--w) + .4rem); white-space: nowrap;
  font-size: .8rem; color: var(--faint); }
.axis .time { background: none; border: 0; height: 1.1rem; font-size: .8rem; color: var(--faint); }
.axis .time span { left: var(--l); transform: translateX(-50%); }
.http { --c: var(--http); } .rpc { --c: var(--rpc); } .mc { --c: var(--mc); } .db { --c: var(--db); }
.mq { --c: var(--mq); }
</style>
</head>
<body>
<p class="key">Calls by type:<i class="http"></i>HTTP<i class="rpc"></i>RPC<i class="mc"></i>Memcached<i class="db"></i>database<i class="mq"></i>message queue. Times are milliseconds from the start of the trace; click a call to fold what is below it.</p>
"#;

/// What stands behind the last graph.
pub const FOOT: &str = "</body>\n</html>\n";

/// Adds the waterfall of a graph to `text`.
pub fn push(text: &mut Vec<u8>, number: u32, graph: &CallGraph) {
    // Times of children lie within the root's.
    let (begin, end) = (graph.root().start, graph.root().finish);
    let span = f64::from((end - begin).max(1));
    let share = |time: f64| 100.0 * time / span;
    let mut page = String::new();
    let (edges, depth) = (graph.num_edges(), graph.depth());
    let calls = if edges == 1 { "call" } else { "calls" };
    let _ = writeln!(page, "<h2>{}</h2>", escaped(graph.service()));
    let _ = writeln!(
        page,
        "<p>trace {number}: {edges} {calls}, depth {depth}, {} ms</p>",
        graph.latency()
    );
    page.push_str("<div class=\"row axis\"><div></div><div class=\"time\">");
    for quarter in 0..=4 {
        let time = f64::from(begin) + span * f64::from(quarter) / 4.0;
        let _ = write!(page, "<span style=\"--l:{}%\">{time:.0}</span>", 25 * quarter);
    }
    page.push_str("</div></div>\n");
    let ids = graph.edge_ids();
    let degrees = graph.out_degrees();
    // Depths of the calls whose children are being written.
    let mut open: Vec<u32> = Vec::new();
    for (index, call) in graph.calls().iter().enumerate() {
        while open.last().is_some_and(|depth| *depth >= call.depth) {
            open.pop();
            page.push_str("</details>\n");
        }
        let has_children = degrees[index] > 0;
        let (opening, closing) = if has_children {
            open.push(call.depth);
            ("<details open><summary class=\"row\"", "</summary>")
        } else {
            ("<div class=\"row\"", "</div>")
        };
        let (kind, id) = (call.kind, &ids[index]);
        let (source, destination) = (escaped(graph.source(index)), escaped(&call.destination));
        let left = share(f64::from(call.start - begin));
        let width = share(f64::from(call.response_time()));
        let _ = writeln!(
            page,
            "{opening} title=\"{id}: {source} → {destination} ({kind}), {}–{} ms\"><div class=\"name\" style=\"--d:{}\">{destination} <small>{kind}</small></div><div class=\"time {kind}\" style=\"--l:{left:.3}%;--w:{width:.3}%\"><b></b><span>{} ms</span></div>{closing}",
            call.start,
            call.finish,
            call.depth - 1,
            call.response_time(),
        );
    }
    open.iter().for_each(|_| page.push_str("</details>\n"));
    text.extend_from_slice(page.as_bytes());
}

/// A name as text of the page: no character of it is markup.
fn escaped(name: &str) -> String {
    let mut text = String::new();
    for c in display::name(name).chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            '\'' => text.push_str("&#39;"),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::extreme_graph;

    proptest! {
        /// Whatever the names: the page has the elements that it should have, none more, and they close.
        #[test]
        fn names_add_no_markup(graph in extreme_graph(12)) {
            let mut text = Vec::new();
            push(&mut text, 0, &graph);
            let page = String::from_utf8(text).unwrap();
            let count = |what: &str| page.matches(what).count();
            prop_assert_eq!(count("<b></b>"), graph.calls().len());
            prop_assert_eq!(count("<details"), count("</details>"));
            prop_assert_eq!(count("<div"), count("</div>"));
            prop_assert_eq!(count("<script"), 0);
            prop_assert_eq!(count("<"), count(">"));
        }
    }
}
