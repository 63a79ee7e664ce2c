//! TOML files of the user: errors name file, line, key and remedy.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{UserError, did_you_mean};

/// Reads `text`, the content of `path`, as a `T`.
///
/// # Errors
/// `x.toml: line 7: unknown key `sead` — did you mean `seed`?` and the like.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, UserError> {
    toml::from_str(text).map_err(|error| explain(path, text, &error))
}

/// Reads a part of a file that was already parsed to a table.
///
/// # Errors
/// As [`parse`]; the line is that of the first key with the offending name.
pub fn from_table<T: DeserializeOwned>(
    path: &Path,
    text: &str,
    table: &toml::Table,
) -> Result<T, UserError> {
    T::deserialize(toml::Value::Table(table.clone())).map_err(|error| explain(path, text, &error))
}

/// `base` with the keys of `over` put over it, table by table.
pub fn merged(base: &toml::Table, over: &toml::Table) -> toml::Table {
    let mut result = base.clone();
    for (key, value) in over {
        match (result.get_mut(key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(over)) => {
                *inner = merged(inner, over);
            }
            _ => {
                result.insert(key.clone(), value.clone());
            }
        }
    }
    result
}

/// The error in the user's terms.
pub fn explain(path: &Path, text: &str, error: &toml::de::Error) -> UserError {
    let message = error.message();
    let unknown = message
        .strip_prefix("unknown field `")
        .or_else(|| message.strip_prefix("unknown variant `"))
        .and_then(|rest| rest.split_once('`'));
    let line_of = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
    let line = error.span().map(|span| line_of(span.start));
    let (line, message) = match unknown {
        Some((word, rest)) => {
            let what = if message.starts_with("unknown field") { "key" } else { "value" };
            let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
            let hint = match did_you_mean(word, known.iter().copied()) {
                hint if hint.is_empty() => format!("; known: {}", known.join(", ")),
                hint => hint,
            };
            (line_with(text, word).or(line), format!("unknown {what} `{word}`{hint}"))
        }
        None => (line, message.replace("missing field", "missing key")),
    };
    let place = line.map_or_else(|| "content".to_owned(), |line| format!("line {line}"));
    UserError::input(path, place, message)
}

/// The first line on which `word` stands as a key, or else as a value.
fn line_with(text: &str, word: &str) -> Option<usize> {
    let lines = || text.lines().enumerate();
    let key = |line: &str| {
        line.split(['=', '{', ','])
            .any(|part| part.trim().trim_matches('"') == word && line.contains('='))
    };
    lines()
        .find(|(_, line)| key(line))
        .or_else(|| lines().find(|(_, line)| line.contains(word)))
        .map(|(index, _)| index + 1)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Example {
        seed: u64,
        name: Option<String>,
    }

    fn error(text: &str) -> String {
        parse::<Example>(Path::new("x.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_line_key_and_remedy() {
        assert_eq!(
            error("name = \"a\"\nsead = 1\n"),
            "x.toml: line 2: unknown key `sead` — did you mean `seed`?"
        );
        assert_eq!(
            error("seed = 1\ncolour = 1\n"),
            "x.toml: line 2: unknown key `colour`; known: seed, name"
        );
        assert_eq!(error("name = \"a\"\n"), "x.toml: line 1: missing key `seed`");
        assert!(error("name = \"a\"\nseed = \"x\"\n").starts_with("x.toml: line 2: "));
        assert!(error("seed = = 1").starts_with("x.toml: line 1: "));
    }
}
