//! The version of a folder: a hash of the files that a baseline in another language consists of.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::error::UserError;

/// What building leaves behind, besides anything whose name starts with a dot.
const LEFT_OUT: [&str; 4] = ["target", "__pycache__", "node_modules", "build"];
/// A folder with more than this holds something that is not its program.
const MAX_FILES: usize = 2_000;
const MAX_BYTES: u64 = 64 << 20;

/// The hash of names and contents of all files below `folder` but hidden ones and those that building
/// leaves behind.
///
/// # Errors
/// Files that cannot be read; more of them than a program has.
pub fn of(folder: &Path) -> Result<String> {
    let mut files = Vec::new();
    list(folder, &mut files)?;
    files.sort();
    let mut hasher = blake3::Hasher::new();
    let mut bytes = 0;
    for path in &files {
        let content =
            std::fs::read(path).map_err(|error| UserError::io(path, "cannot be read", error))?;
        bytes += content.len() as u64;
        if bytes > MAX_BYTES {
            return Err(too_much(folder).into());
        }
        let name = path.strip_prefix(folder).unwrap_or(path).to_string_lossy();
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&(content.len() as u64).to_le_bytes());
        hasher.update(&content);
    }
    Ok(hasher.finalize().to_hex()[..16].to_owned())
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), UserError> {
    let failed = |error| UserError::io(folder, "cannot be read", error);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') || LEFT_OUT.contains(&&*name) {
            continue;
        }
        // Links are not followed: they may lead in circles.
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            list(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
        if files.len() > MAX_FILES {
            return Err(too_much(folder));
        }
    }
    Ok(())
}

fn too_much(folder: &Path) -> UserError {
    let message = format!(
        "more than {MAX_FILES} files or {} MiB: keep data and installed packages in hidden folders (such as .venv) or in {}",
        MAX_BYTES >> 20,
        LEFT_OUT.join(", ")
    );
    UserError::input(folder, "files", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_changes_with_what_the_program_is_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        write("main.py", "print(1)");
        let first = of(dir.path()).expect("a receipt");
        write(".venv/lib/big.py", "x");
        write("target/release/x", "x");
        assert_eq!(of(dir.path()).expect("a receipt"), first);
        write("lib/more.py", "");
        let second = of(dir.path()).expect("a receipt");
        assert_ne!(second, first);
        write("main.py", "print(2)");
        assert_ne!(of(dir.path()).expect("a receipt"), second);
        std::fs::write(dir.path().join("data.bin"), vec![0; 65 << 20]).expect("written");
        let error = of(dir.path()).unwrap_err().to_string();
        assert!(error.contains("64 MiB"), "{error}");
    }
}
