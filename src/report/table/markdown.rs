use super::{Align, Cell, Table, failed, one_line};
use crate::number;

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
        Cell::Text(text) => escape(text),
        Cell::Integer(value) => number::grouped(*value, ","),
        Cell::Number { .. } | Cell::Share { .. } => cell.printed().unwrap_or_default(),
        Cell::Failed(reason) => failed("**failed**", &escape(reason)),
        Cell::Missing => "n/a".to_owned(),
    }
}

/// Characters that would end a cell or start markup.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in one_line(text).chars() {
        if matches!(c, '|' | '\\' | '*' | '<' | '>') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
