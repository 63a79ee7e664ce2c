use super::{Align, Cell, Table, failed};
use crate::{display, number};

/// Characters of a line of a heading.
const HEADING: usize = 14;
/// Shrinks a table that is wider than the text (needs the package graphicx).
const FIT: &str = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n";

pub fn write(table: &Table) -> String {
    let alignment: String = table
        .columns
        .iter()
        .map(|column| match column.align {
            Align::Left => 'l',
            Align::Right => 'r',
        })
        .collect();
    let header: Vec<String> =
        table.columns.iter().map(|column| stacked(&column.heading())).collect();
    let mut text = format!(
        "\\begin{{table}}\n\\centering\n\\caption{{{}}}\n\\small\n{FIT}\\begin{{tabular}}{{@{{}}{alignment}@{{}}}}\n\\toprule\n{} \\\\\n\\midrule\n",
        escape(&table.title),
        header.join(" & ")
    );
    for row in &table.rows {
        let cells: Vec<String> = row.iter().map(printed).collect();
        text.push_str(&format!("{} \\\\\n", cells.join(" & ")));
    }
    text.push_str("\\bottomrule\n\\end{tabular}}\n");
    for note in &table.notes {
        text.push_str(&format!("\n\\smallskip{{\\footnotesize {}}}\n", escape(note)));
    }
    text.push_str("\\end{table}\n");
    text
}

/// A heading over several lines, so that a column is no wider than its numbers need.
fn stacked(heading: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in heading.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < HEADING => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    let lines: Vec<String> = lines.iter().map(|line| escape(line)).collect();
    match lines.as_slice() {
        [line] => line.clone(),
        lines => format!("\\shortstack{{{}}}", lines.join("\\\\")),
    }
}

fn printed(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => escape_shown(&display::name(text)),
        Cell::Integer(value) => number::grouped(*value, "\\,"),
        Cell::Number { .. } | Cell::Share { .. } => ranged(&cell.printed().unwrap_or_default()),
        Cell::Failed(reason) => failed("\\emph{failed}", &escape(reason)),
        Cell::Missing => "n/a".to_owned(),
    }
}

/// An en dash is `--`, and the interval is set smaller than the value.
fn ranged(printed: &str) -> String {
    match printed.split_once(' ') {
        Some((value, interval)) => {
            format!("{value} {{\\footnotesize {}}}", interval.replace('–', "--"))
        }
        None => printed.to_owned(),
    }
}

/// A sentence on one line, see [`escape_shown`].
fn escape(text: &str) -> String {
    escape_shown(display::line(text).trim())
}

/// Characters with a meaning of their own, and those beyond the default fonts; `code` in backticks
/// as in Markdown.
fn escape_shown(text: &str) -> String {
    let mut escaped = String::new();
    let paired = text.matches('`').count().is_multiple_of(2);
    let mut in_code = false;
    for c in text.chars() {
        match c {
            '`' if paired => {
                in_code = !in_code;
                escaped.push_str(if in_code { "\\texttt{" } else { "}" });
            }
            // Behind the end of a row they would be its arguments.
            '[' => escaped.push_str("{[}"),
            '*' if escaped.is_empty() => escaped.push_str("{*}"),
            // Two would be a dash.
            '-' if escaped.ends_with('-') => escaped.push_str("{}-"),
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                escaped.push('\\');
                escaped.push(c);
            }
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '\\' => escaped.push_str("\\textbackslash{}"),
            '<' => escaped.push_str("\\textless{}"),
            '>' => escaped.push_str("\\textgreater{}"),
            '|' => escaped.push_str("\\textbar{}"),
            '–' => escaped.push_str("--"),
            '≥' => escaped.push_str("$\\geq$"),
            '≤' => escaped.push_str("$\\leq$"),
            '→' => escaped.push_str("$\\rightarrow$"),
            '×' => escaped.push_str("$\\times$"),
            '‖' => escaped.push_str("$\\Vert$"),
            _ => escaped.push(c),
        }
    }
    escaped
}
