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

/// " — did you mean `x`?" for the known word nearest to `given`, or nothing when none is near.
pub fn did_you_mean<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(given, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .min()
        .map_or_else(String::new, |(_, word)| format!(" — did you mean `{word}`?"))
}
