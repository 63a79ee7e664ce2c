use std::path::Path;

use anyhow::{Context, Result};

use crate::error::UserError;

/// One line of a training log; NaN where nothing was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    pub tokens: f64,
    pub loss: f64,
    pub validation_perplexity: f64,
}

/// Reads the columns that reports need.
///
/// # Errors
/// A file that cannot be read, a missing column, or a field that is neither empty nor a number.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let mut reader = csv::Reader::from_path(path)
        .with_context(|| format!("{}: cannot be read", path.display()))?;
    let header = reader.headers().with_context(|| path.display().to_string())?.clone();
    let column = |name: &str| {
        header.iter().position(|column| column == name).ok_or_else(|| {
            UserError::input(path, "line 1", format!("the training log has no column `{name}`"))
        })
    };
    let columns = [column("tokens")?, column("loss")?, column("validation_perplexity")?];
    let mut entries = Vec::new();
    for row in reader.records() {
        let row = row.with_context(|| path.display().to_string())?;
        let line = row.position().map_or(0, csv::Position::line);
        let mut values = [f64::NAN; 3];
        for (value, column) in values.iter_mut().zip(columns) {
            let text = row.get(column).unwrap_or("").trim();
            if !text.is_empty() {
                *value = text.parse().map_err(|_| {
                    let place = format!("line {line}, column {}", &header[column]);
                    UserError::input(path, place, format!("`{text}` is not a number"))
                })?;
            }
        }
        let [tokens, loss, validation_perplexity] = values;
        entries.push(Entry { tokens, loss, validation_perplexity });
    }
    Ok(entries)
}
