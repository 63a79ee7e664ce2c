use super::{Cell, Table, failed};
use crate::{display, number};

pub fn write(table: &Table) -> String {
    let mut text = String::new();
    for line in std::iter::once(&table.title).chain(&table.notes) {
        text.push_str(&format!("# {}\n", display::line(line).trim()));
    }
    let mut header = Vec::new();
    for column in &table.columns {
        // Shares are fractions here, so `%` would be wrong.
        let unit = if column.unit == "%" { "share" } else { &column.unit };
        let name =
            if unit.is_empty() { column.name.clone() } else { format!("{} ({unit})", column.name) };
        header.push(data(&name));
        if column.interval {
            header.push(data(&format!("{} low", column.name)));
            header.push(data(&format!("{} high", column.name)));
        }
    }
    text.push_str(&line(&header));
    for row in &table.rows {
        let cells = row.iter().zip(&table.columns);
        let fields: Vec<String> =
            cells.flat_map(|(cell, column)| fields(cell, column.interval)).collect();
        text.push_str(&line(&fields));
    }
    text
}

/// The cell's value and, in a column with intervals, its ends.
fn fields(cell: &Cell, interval: bool) -> Vec<String> {
    let (first, low, high) = match cell {
        Cell::Text(text) => (data(text), f64::NAN, f64::NAN),
        Cell::Integer(value) => (value.to_string(), f64::NAN, f64::NAN),
        Cell::Number { value, low, high } | Cell::Share { value, low, high } => {
            (number::csv(*value), *low, *high)
        }
        Cell::Failed(reason) => {
            (failed("failed", display::line(reason).trim()), f64::NAN, f64::NAN)
        }
        Cell::Missing => (number::csv(f64::NAN), f64::NAN, f64::NAN),
    };
    if interval { vec![first, number::csv(low), number::csv(high)] } else { vec![first] }
}

/// A text that can be read back: what does not print, and what would make it a formula, is `\u{…}`, and
/// so is the backslash of a text that looks like that already.
fn data(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let escaped = !display::prints(c)
            || (at == 0 && is_formula(text))
            || (c == '\\' && text[at..].starts_with("\\u{"));
        if escaped { written.extend(c.escape_unicode()) } else { written.push(c) }
    }
    written
}

/// Whether a spreadsheet would compute the text. A number and words behind it are no formula.
fn is_formula(text: &str) -> bool {
    match text.chars().next() {
        Some('=' | '@') => true,
        Some('+' | '-') => {
            let (first, words) = text.split_once(' ').unwrap_or((text, ""));
            let is_plain =
                |c: char| c.is_alphanumeric() || matches!(c, ' ' | '.' | ',' | ':' | ';');
            first.parse::<f64>().is_err() || !words.chars().all(is_plain)
        }
        _ => false,
    }
}

fn line(fields: &[String]) -> String {
    // A first field that begins like a comment must not be taken for one.
    let first_is_comment = fields.first().is_some_and(|field| field.starts_with('#'));
    let style = if first_is_comment { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary };
    let mut writer = csv::WriterBuilder::new().quote_style(style).from_writer(Vec::new());
    // Writing to memory cannot fail, and all fields are UTF-8.
    let written =
        writer.write_record(fields).map_err(|_| ()).and(writer.into_inner().map_err(|_| ()));
    written.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
