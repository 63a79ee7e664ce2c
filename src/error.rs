//! A user's mistakes: told in one sentence with the place, the value and the remedy.

use std::path::{Path, PathBuf};

/// Something that the user can mend. The binary prints it without a backtrace and exits with 2.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A file cannot be read or written.
    #[error("{path}: {action}: {cause}")]
    // Not named `source`: the message tells it already, and chains of causes would repeat it.
    Io { path: PathBuf, action: &'static str, cause: std::io::Error },
    /// A file's content is not what it claims to be. `place` is "line 7, column rt" or similar.
    #[error("{path}: {place}: {message}")]
    Input { path: PathBuf, place: String, message: String },
    /// A setting, flag or name is wrong; the message names it, its value and the remedy.
    #[error("{0}")]
    Setting(String),
}

impl UserError {
    pub fn io(path: &Path, action: &'static str, cause: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), action, cause }
    }

    pub fn input(path: &Path, place: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Input { path: path.to_owned(), place: place.into(), message: message.into() }
    }

    pub fn setting(message: impl Into<String>) -> Self {
        Self::Setting(message.into())
    }
}

/// Whether an error is a mistake of the user.
pub fn is_by_user(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<UserError>())
}

/// Most words that a hint names: more are a list, which the caller has.
const SUGGESTIONS: usize = 5;
/// Fewer characters than this may be the beginning of anything.
const SHORTEST_PART: usize = 3;

/// " — did you mean `x`?" for the known words that `given` may stand for, or nothing when there is none: words of
/// which it is a part (the beginning, or a part between hyphens), and the one that differs in the fewest
/// letters, whatever their case.
pub fn did_you_mean<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let given = given.to_lowercase();
    let known: Vec<(String, &str)> =
        known.into_iter().map(|word| (word.to_lowercase(), word)).collect();
    let nearest = known
        .iter()
        .map(|(lower, word)| (strsim::damerau_levenshtein(&given, lower), *word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .min();
    let is_part = |lower: &str| {
        lower.starts_with(&given)
            || lower.match_indices(&given).any(|(at, _)| lower[..at].ends_with(['-', '_', '.']))
    };
    let mut words: Vec<&str> = if given.chars().count() < SHORTEST_PART {
        Vec::new()
    } else {
        known.iter().filter(|(lower, _)| is_part(lower)).map(|(_, word)| *word).collect()
    };
    words.sort_unstable();
    words.dedup();
    // One letter is a slip, and the beginning of another word then a coincidence.
    if words.len() > SUGGESTIONS || nearest.is_some_and(|(distance, _)| distance <= 1) {
        words.clear();
    }
    if let Some((_, word)) = nearest
        && !words.contains(&word)
    {
        words.insert(0, word);
    }
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        None => String::new(),
        Some((only, [])) => format!(" — did you mean {only}?"),
        Some((last, others)) => format!(" — did you mean {} or {last}?", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_and_parts_of_words_get_suggestions() {
        let known = [
            "fig3-accuracy",
            "fig12-heat-maps",
            "fig7-attribute",
            "fig7-call",
            "fig7-later",
            "recursive-llm",
            "recursive-compact",
            "markov",
            "seed",
        ];
        let hint = |given: &str| did_you_mean(given, known);
        assert_eq!(hint("fig3"), " — did you mean `fig3-accuracy`?");
        assert_eq!(hint("fig3-acuracy"), " — did you mean `fig3-accuracy`?");
        assert_eq!(hint("FIG3-Accuracy"), " — did you mean `fig3-accuracy`?");
        assert_eq!(hint("heat-map"), " — did you mean `fig12-heat-maps`?");
        assert_eq!(hint("fig7"), " — did you mean `fig7-attribute`, `fig7-call` or `fig7-later`?");
        assert_eq!(hint("compact"), " — did you mean `recursive-compact`?");
        assert_eq!(hint("seeds"), " — did you mean `seed`?");
        // Not inside a word, not by two letters, and nothing that is far from all.
        assert_eq!(hint("curs"), "");
        assert_eq!(hint("fi"), "");
        assert_eq!(hint(""), "");
        assert_eq!(hint("nobody-knows-this"), "");
        let many: Vec<String> = (0..9).map(|index| format!("figure-{index}-x")).collect();
        assert_eq!(did_you_mean("figure", many.iter().map(String::as_str)), "");
        assert_eq!(did_you_mean("seed", ["seeds", "seedling"]), " — did you mean `seeds`?");
    }
}
