//! Files behind a manifest: where they lie, and what they are.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::InputFile;
use crate::durable;
use crate::error::UserError;

/// The files of `path`: itself, or a folder's files with one of the `extensions` (plain or gzip) in order of
/// name.
/// A relative path is looked for in `data_root`, then in the manifest's folder.
///
/// # Errors
/// Nothing there, with how to set the data folder; a folder in which not every table is there once.
pub fn files(
    dataset: &str,
    path: &Path,
    extensions: &[&str],
    data_root: Option<&Path>,
    folder: Option<&Path>,
) -> Result<Vec<PathBuf>> {
    let candidates = candidates(path, data_root, folder);
    let Some(found) = candidates.iter().find(|candidate| candidate.exists()) else {
        return Err(missing(dataset, path, data_root, &candidates).into());
    };
    if !found.is_dir() {
        return Ok(vec![found.clone()]);
    }
    let failed = |error| UserError::io(found, "cannot be listed", error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(found).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if let (true, Some(name)) = (file.is_file(), file.file_name()) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    let tables =
        tables(&names, extensions).map_err(|message| UserError::input(found, "folder", message))?;
    Ok(tables.into_iter().map(|name| found.join(name)).collect())
}

/// A file that a dataset can do without; `None` where it is not there.
pub fn optional(path: &Path, data_root: Option<&Path>, folder: Option<&Path>) -> Option<PathBuf> {
    candidates(path, data_root, folder).into_iter().find(|candidate| candidate.is_file())
}

fn candidates(path: &Path, data_root: Option<&Path>, folder: Option<&Path>) -> Vec<PathBuf> {
    if path.is_absolute() {
        vec![path.to_owned()]
    } else {
        [data_root, folder].into_iter().flatten().map(|root| root.join(path)).collect()
    }
}

/// The tables among the files of a folder, or what is wrong with them: one that is there twice would
/// be counted twice, one that is still in its archive not at all.
fn tables<'a>(names: &'a [OsString], extensions: &[&str]) -> Result<Vec<&'a OsStr>, String> {
    let endings: Vec<String> =
        extensions.iter().flat_map(|plain| [format!(".{plain}"), format!(".{plain}.gz")]).collect();
    let endings: Vec<&str> = endings.iter().map(String::as_str).collect();
    let mut tables = Vec::new();
    let mut stems: BTreeMap<String, String> = BTreeMap::new();
    let mut archives: Vec<(String, String)> = Vec::new();
    for name in names {
        // A name that is not UTF-8 keeps its ending.
        let text = name.to_string_lossy();
        let stem = |endings: &[&str]| {
            endings.iter().find_map(|ending| text.strip_suffix(ending)).map(str::to_owned)
        };
        if let Some(stem) = stem(&endings) {
            if let Some(other) = stems.insert(stem, text.to_string()) {
                return Err(format!("{other} and {text} are one table twice: keep one of them"));
            }
            tables.push(name.as_os_str());
        } else if let Some(stem) = stem(&[".tar", ".tar.gz", ".tgz"]) {
            archives.push((stem, text.to_string()));
        }
    }
    archives.retain(|(stem, _)| !stems.contains_key(stem));
    let Some((_, archive)) = archives.first() else {
        return if tables.is_empty() {
            Err(format!("holds no {} file", endings.join(" or ")))
        } else {
            Ok(tables)
        };
    };
    let more = match archives.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(format!(
        "holds archives that are not unpacked ({archive}{more}): unpack them first (`tar -xf \
         {archive}`), or move them elsewhere"
    ))
}

fn missing(
    dataset: &str,
    path: &Path,
    data_root: Option<&Path>,
    candidates: &[PathBuf],
) -> UserError {
    let looked: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
    let looked = if looked.is_empty() {
        String::new()
    } else {
        format!(" (looked for {})", looked.join(" and "))
    };
    let remedy = match data_root {
        None => "set the environment variable TRACEGYM_DATA to the folder that holds it",
        Some(_) => "put it there, or set TRACEGYM_DATA to the folder that holds it",
    };
    UserError::setting(format!(
        "dataset `{dataset}` needs {}, which is not there{looked}: {remedy}; data/README.md says \
         how to fetch it",
        path.display()
    ))
}

/// Size and hash of a file.
pub fn hash(path: &Path) -> Result<InputFile> {
    let (bytes, hash) =
        durable::hash(path).map_err(|error| UserError::io(path, "cannot be read", error))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(InputFile { name, bytes, hash: hash.to_hex().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str], extension: &str) -> Result<Vec<String>, String> {
        let names: Vec<OsString> = names.iter().map(OsString::from).collect();
        let tables = tables(&names, &[extension])?;
        Ok(tables.into_iter().map(|name| name.to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn every_table_of_a_folder_is_read_once() {
        let names = ["SOURCE.txt", "a.csv", "a.tar.gz", "b.csv.gz", "c.jsonl"];
        assert_eq!(found(&names, "csv").unwrap(), ["a.csv", "b.csv.gz"]);
        assert_eq!(found(&names[4..], "jsonl").unwrap(), ["c.jsonl"]);
        assert_eq!(found(&names[..1], "csv").unwrap_err(), "holds no .csv or .csv.gz file");
        assert_eq!(
            found(&["a.csv", "a.csv.gz", "a.tar.gz"], "csv").unwrap_err(),
            "a.csv and a.csv.gz are one table twice: keep one of them"
        );
        assert_eq!(
            found(&["a.tar.gz"], "csv").unwrap_err(),
            "holds archives that are not unpacked (a.tar.gz): unpack them first (`tar -xf \
             a.tar.gz`), or move them elsewhere"
        );
        // One of three is unpacked.
        let error = found(&["a.csv", "a.tgz", "b.tgz", "c.tar"], "csv").unwrap_err();
        assert!(error.contains("(b.tgz and 1 more)"), "{error}");
    }
}
