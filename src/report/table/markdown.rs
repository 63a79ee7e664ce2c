use std::fmt::Write;

use super::{Align, Cell, Table, failed};
use crate::{display, number};

pub fn write(table: &Table) -> String {
    let header: Vec<String> =
        table.columns.iter().map(|column| escape(&column.heading())).collect();
    let rows: Vec<Vec<String>> =
        table.rows.iter().map(|row| row.iter().map(printed).collect()).collect();
    let width = |index: usize| {
        let cells = rows.iter().map(|row| &row[index]).chain([&header[index]]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).zip(&table.columns).map(
            |((cell, width), column)| match column.align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            },
        );
        format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
    };
    let rules = widths.iter().zip(&table.columns).map(|(width, column)| match column.align {
        Align::Left => "-".repeat(*width),
        Align::Right => format!("{}:", "-".repeat(width - 1)),
    });
    let rules: Vec<String> = rules.collect();
    let mut text = format!("# {}\n\n", escape(&table.title));
    text.push_str(&line(&header));
    text.push_str(&line(&rules));
    rows.iter().for_each(|row| text.push_str(&line(row)));
    if !table.notes.is_empty() {
        text.push('\n');
    }
    for note in &table.notes {
        text.push_str(&format!("- {}\n", escape(note)));
    }
    text
}

fn printed(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => escape_shown(&display::name(text)),
        Cell::Integer(value) => number::grouped(*value, ","),
        Cell::Number { .. } | Cell::Share { .. } => cell.printed().unwrap_or_default(),
        Cell::Failed(reason) => failed("**failed**", &escape(reason)),
        Cell::Missing => "n/a".to_owned(),
    }
}

/// A sentence on one line, with all that would end a cell or start markup escaped. Backticks stay:
/// notes set code in them.
pub fn escape(text: &str) -> String {
    escape_shown(display::line(text).trim())
}

fn escape_shown(text: &str) -> String {
    let mut escaped = String::new();
    for (at, c) in text.char_indices() {
        let markup = match c {
            '|' | '\\' | '*' | '<' | '>' | '[' | ']' | '$' | '~' => true,
            // Of an entity, such as `&lt;`.
            '&' => {
                text[at + 1..].starts_with(|next: char| next == '#' || next.is_ascii_alphabetic())
            }
            // At the start of a line these make a heading or a list.
            '#' => at == 0,
            '-' | '+' => at == 0 && text[1..].starts_with(' '),
            // Inside a word it is no emphasis.
            '_' => !is_inside_word(text, at),
            _ => false,
        };
        if markup {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn is_inside_word(text: &str, at: usize) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text[..at].ends_with(is_word) && text[at + 1..].starts_with(is_word)
}

/// A name as code, or as plain text where it holds what would end the code.
pub fn code(name: &str) -> String {
    let shown = display::name(name);
    if shown.contains(['`', '|', '\\']) || shown.trim().is_empty() {
        escape_name(name)
    } else {
        format!("`{shown}`")
    }
}

/// A link to a path, all but plain characters of which are encoded.
pub fn link(name: &str, path: &str) -> String {
    let mut address = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                address.push(char::from(byte));
            }
            // Writing to a string cannot fail.
            _ => _ = write!(address, "%{byte:02X}"),
        }
    }
    format!("[{}]({address})", escape_name(name))
}

/// A name, escaped as [`escape`] does; a backtick in it is no code.
fn escape_name(name: &str) -> String {
    escape_shown(&display::name(name)).replace('`', "\\`")
}
