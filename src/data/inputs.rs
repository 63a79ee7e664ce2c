//! Files behind a manifest: where they lie, and what they are.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::InputFile;
use crate::error::UserError;

/// The files of `path`: itself, or the `.csv` and `.csv.gz` files of a folder in order of name.
/// A relative path is looked for in `data_root`, then in the manifest's folder.
///
/// # Errors
/// Nothing there, with how to set the data folder.
pub fn files(
    dataset: &str,
    path: &Path,
    data_root: Option<&Path>,
    folder: Option<&Path>,
) -> Result<Vec<PathBuf>> {
    let candidates: Vec<PathBuf> = if path.is_absolute() {
        vec![path.to_owned()]
    } else {
        [data_root, folder].into_iter().flatten().map(|root| root.join(path)).collect()
    };
    let Some(found) = candidates.iter().find(|candidate| candidate.exists()) else {
        return Err(missing(dataset, path, data_root, &candidates).into());
    };
    if !found.is_dir() {
        return Ok(vec![found.clone()]);
    }
    let failed = |error| UserError::io(found, "cannot be listed", error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(found).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if file.is_file() && (name.ends_with(".csv") || name.ends_with(".csv.gz")) {
            files.push(file);
        }
    }
    if files.is_empty() {
        let message = "holds no .csv or .csv.gz file";
        return Err(UserError::input(found, "folder", message).into());
    }
    files.sort();
    Ok(files)
}

fn missing(
    dataset: &str,
    path: &Path,
    data_root: Option<&Path>,
    candidates: &[PathBuf],
) -> UserError {
    let looked: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
    let looked = match looked.is_empty() {
        true => String::new(),
        false => format!(" (looked for {})", looked.join(" and ")),
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
    let failed = |error| UserError::io(path, "cannot be read", error);
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).map_err(failed)?;
    let bytes = std::io::copy(&mut file, &mut hasher).map_err(failed)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(InputFile { name, bytes, hash: hasher.finalize().to_hex().to_string() })
}
