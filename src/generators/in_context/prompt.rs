//! What a model is told, and how its reply is read.

use std::fmt::Write as _;

use serde::Serialize;

use crate::graph::{CallGraph, CallRow, CallType, Condition, Violation, condition_of};
use crate::text::{name, tabular};

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    pub role: &'static str,
    pub content: String,
}

const BEGIN: &str = "<edges>";
const END: &str = "</edges>";

/// What the format is, and what makes a graph valid.
fn instructions() -> String {
    let types: Vec<&str> = CallType::ALL.iter().map(|kind| kind.as_str()).collect();
    format!(
        "You write call graphs of microservices: the tree of calls that one request of a user sets off.\n\
         A request names the service (id) and may give the latency in milliseconds, the number of \
         calls (num_edges) and the depth (calls on the longest path from the user).\n\
         Answer with {BEGIN}, one line for each call, and {END}; write nothing else. A line gives \
         edge_id, source, destination, type, start and finish as in the examples.\n\
         Rules:\n\
         - The first call has edge_id 0 and source USER. The calls that its destination makes have \
         edge_id 0.1, 0.2 and so on; those below 0.1 have 0.1.1, 0.1.2 and so on.\n\
         - The source of every other call is the destination of the call above it.\n\
         - Times are whole milliseconds. A call does not finish before it starts, and it starts and \
         finishes within the call above it. The first call starts at 0 and finishes at the latency.\n\
         - There are exactly num_edges lines, and the longest edge_id has exactly depth numbers.\n\
         - type is one of {}.",
        types.join(", ")
    )
}

/// The conversation that asks for a graph: instructions, examples as turns, and the request.
pub fn messages(examples: &[&CallGraph], condition: &Condition) -> Vec<Message> {
    let message = |role, content| Message { role, content };
    let mut messages = vec![message("system", instructions())];
    for example in examples {
        messages.push(message("user", tabular::prompt(&condition_of(example))));
        messages.push(message("assistant", table(example)));
    }
    messages.push(message("user", tabular::prompt(condition)));
    messages
}

/// A graph in the tabular format, the fields in a fixed order.
fn table(graph: &CallGraph) -> String {
    let mut text = format!("{BEGIN}\n");
    for row in graph.rows() {
        let CallRow { edge_id, source, destination, kind, start, finish } = &row;
        let (source, destination) = (name::write(source), name::write(destination));
        let _ = writeln!(
            text,
            "(edge_id is {edge_id},source is {source},destination is {destination},type is {kind},communication starts at {start} milliseconds,communication finishes at {finish} milliseconds)"
        );
    }
    text + END
}

/// The calls of a reply. Text around the table, such as a reasoning model's thoughts or a fence, and
/// space around lines are forgiven: whoever was not trained on the format may dress it up. The last
/// table counts.
///
/// # Errors
/// The first thing that does not parse, and the calls before it.
pub fn parse(reply: &str) -> Result<Vec<CallRow>, (Vec<CallRow>, Violation)> {
    let from = reply.rfind(BEGIN).map_or(0, |at| at + BEGIN.len());
    let rest = &reply[from..];
    let (body, closed) = match rest.find(END) {
        Some(at) => (&rest[..at], true),
        None => (rest, false),
    };
    let mut text = format!("\n{BEGIN}\n");
    for line in body.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let _ = writeln!(text, "{line}");
    }
    if closed {
        text.push_str(END);
    }
    tabular::parse(text.strip_suffix('\n').unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::paper_example;

    #[test]
    fn a_conversation_is_readable() {
        let graph = paper_example();
        let messages = messages(&[&graph], &condition_of(&graph));
        let text: Vec<String> =
            messages.iter().map(|m| format!("[{}]\n{}\n", m.role, m.content)).collect();
        insta::assert_snapshot!(text.concat());
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        let graph = paper_example();
        assert_eq!(parse(&table(&graph)).expect("parses"), graph.rows());
    }

    #[test]
    fn a_dressed_up_reply_is_understood() {
        let graph = paper_example();
        let lines = table(&graph).replace('\n', "  \r\n\n ");
        let reply =
            format!("<think>Draft: {BEGIN} (edge_id is 0) {END}</think>\n```\n{lines}\n```\nDone.");
        assert_eq!(parse(&reply).expect("parses"), graph.rows());
    }

    #[test]
    fn what_is_no_table_is_refused_with_what_was_understood() {
        for reply in ["", "I cannot do that.", BEGIN, "<edges></edges>", "<edges>\n(x)\n</edges>"] {
            assert!(parse(reply).is_err(), "{reply}");
        }
        let cut = table(&paper_example());
        let cut = &cut[..cut.len() - 60];
        let (rows, _) = parse(cut).unwrap_err();
        assert!(!rows.is_empty());
    }
}
