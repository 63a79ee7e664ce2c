//! The version of a folder: a hash of the files that a baseline in another language consists of.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::durable;
use crate::error::UserError;

/// What building leaves behind, besides anything whose name starts with a dot.
const LEFT_OUT: [&str; 4] = ["target", "__pycache__", "node_modules", "build"];
/// A folder with more than this holds something that is not its program.
const MAX_FILES: usize = 2_000;
const MAX_BYTES: u64 = 64 << 20;

/// The hash of names and contents of all files below `folder` but hidden ones and those that building
/// leaves behind. Symbolic links count as what they lead to, inside the folder or outside: the program
/// reads that. Where they lead round in a circle, or to nothing, the link itself counts.
///
/// # Errors
/// Files that cannot be read; more of them than a program has.
pub fn of(folder: &Path) -> Result<String> {
    let mut found = Found::default();
    found.list(folder, folder, &mut Vec::new())?;
    found.entries.sort_by(|a, b| a.path.cmp(&b.path));
    let mut hasher = blake3::Hasher::new();
    let mut left = MAX_BYTES;
    for entry in &found.entries {
        let path = &entry.path;
        let content = match &entry.kind {
            Kind::File => read(path, left)?.ok_or_else(|| too_much(folder))?,
            Kind::Link(target) => {
                hasher.update(b"link");
                target.as_os_str().as_encoded_bytes().to_owned()
            }
        };
        left = left.checked_sub(content.len() as u64).ok_or_else(|| too_much(folder))?;
        let name = path.strip_prefix(folder).unwrap_or(path).as_os_str().as_encoded_bytes();
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update(&(content.len() as u64).to_le_bytes());
        hasher.update(&content);
    }
    Ok(hasher.finalize().to_hex()[..16].to_owned())
}

/// The hash of a model's weights: a file, or a folder's files (but hidden ones) with their names.
///
/// # Errors
/// Files that cannot be read.
pub fn of_weights(path: &Path) -> Result<String, UserError> {
    let failed = |error| UserError::io(path, "cannot be read", error);
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries = fs::read_dir(path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        files = entries.map_err(failed)?.iter().map(fs::DirEntry::path).collect();
        let is_hidden = |name: &OsStr| name.as_encoded_bytes().starts_with(b".");
        files.retain(|file| file.is_file() && !file.file_name().is_some_and(is_hidden));
        files.sort();
    }
    let mut whole = blake3::Hasher::new();
    for file in files {
        let (_, content) = durable::hash(&file).map_err(failed)?;
        if let Ok(name) = file.strip_prefix(path) {
            whole.update(name.as_os_str().as_encoded_bytes());
        }
        whole.update(content.as_bytes());
    }
    Ok(whole.finalize().to_hex()[..32].to_owned())
}

/// The content of a file; `None` where it is longer than `most`.
fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>, UserError> {
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most + 1).read_to_end(&mut content))
        .map_err(|error| UserError::io(path, "cannot be read", error))?;
    Ok((content.len() as u64 <= most).then_some(content))
}

struct Entry {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    File,
    /// A link that is not followed, and what it names.
    Link(PathBuf),
}

#[derive(Default)]
struct Found {
    entries: Vec<Entry>,
    folders: usize,
}

impl Found {
    /// Adds what is in `folder`, a part of the baseline `whole`. `inside` are the real paths of the folders
    /// that it lies in.
    fn list(
        &mut self,
        whole: &Path,
        folder: &Path,
        inside: &mut Vec<PathBuf>,
    ) -> Result<(), UserError> {
        let failed = |error| UserError::io(folder, "cannot be read", error);
        inside.push(folder.canonicalize().map_err(failed)?);
        self.folders += 1;
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') || LEFT_OUT.contains(&&*name) {
                continue;
            }
            let (path, is_link) = (entry.path(), entry.file_type().map_err(failed)?.is_symlink());
            // Follows links.
            match (fs::metadata(&path), is_link) {
                (Ok(found), _) if found.is_file() => {
                    self.entries.push(Entry { path, kind: Kind::File });
                }
                (Ok(found), true) if found.is_dir() && self.leads_back(&path, inside)? => {}
                (Ok(found), _) if found.is_dir() => self.list(whole, &path, inside)?,
                // A device or a pipe has no content that stays.
                (Ok(_), false) => {}
                (Ok(_) | Err(_), true) => self.link(path)?,
                (Err(error), false) => return Err(UserError::io(&path, "cannot be read", error)),
            }
            if self.entries.len() > MAX_FILES || self.folders > MAX_FILES {
                return Err(too_much(whole));
            }
        }
        inside.pop();
        Ok(())
    }

    /// Whether a link leads to a folder that it lies in; then it counts itself.
    fn leads_back(&mut self, link: &Path, inside: &[PathBuf]) -> Result<bool, UserError> {
        let target =
            link.canonicalize().map_err(|error| UserError::io(link, "cannot be read", error))?;
        let back = inside.contains(&target);
        if back {
            self.link(link.to_owned())?;
        }
        Ok(back)
    }

    fn link(&mut self, path: PathBuf) -> Result<(), UserError> {
        let target =
            fs::read_link(&path).map_err(|error| UserError::io(&path, "cannot be read", error))?;
        self.entries.push(Entry { path, kind: Kind::Link(target) });
        Ok(())
    }
}

fn too_much(folder: &Path) -> UserError {
    let message = format!(
        "more than {MAX_FILES} files or folders, or {} MiB, with what links lead to: keep data and installed packages, and links to them, in hidden folders (such as .venv) or in {}",
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

    #[test]
    fn weights_are_known_by_what_is_in_their_files() {
        let dir = tempfile::tempdir().expect("a folder");
        let (file, folder) = (dir.path().join("a.gguf"), dir.path().join("model"));
        fs::create_dir(&folder).expect("made");
        let write = |path: &Path, text: &str| fs::write(path, text).expect("written");
        let both = || [&file, &folder].map(|path| of_weights(path).expect("a hash"));
        write(&file, "1");
        write(&folder.join("config.json"), "1");
        let [first, folders] = both();
        assert_ne!(first, folders);
        write(&folder.join(".cache"), "x");
        assert_eq!(both(), [first.clone(), folders.clone()]);
        // Wherever it lies.
        fs::copy(&file, dir.path().join("b.gguf")).expect("copied");
        assert_eq!(of_weights(&dir.path().join("b.gguf")).expect("a hash"), first);
        write(&file, "2");
        write(&folder.join("more.safetensors"), "1");
        let [second, more] = both();
        assert!(second != first && more != folders);
        assert!(of_weights(&dir.path().join("none")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_count_as_what_they_lead_to() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().expect("a folder");
        let (baseline, outside) = (dir.path().join("baseline"), dir.path().join("outside"));
        for folder in [&baseline, &outside.join("library/deep")] {
            fs::create_dir_all(folder).expect("made");
        }
        let write = |path: &str, text: &str| {
            fs::write(dir.path().join(path), text).expect("written");
        };
        write("baseline/main.py", "print(1)");
        write("outside/table.csv", "1");
        write("outside/library/deep/more.py", "1");
        let mut seen = vec![of(&baseline).expect("a receipt")];
        let mut changed = |what: &str| {
            let receipt = of(&baseline).expect("a receipt");
            assert!(!seen.contains(&receipt), "{what}");
            seen.push(receipt);
        };
        symlink(outside.join("table.csv"), baseline.join("table.csv")).expect("linked");
        changed("a linked file");
        write("outside/table.csv", "2");
        changed("the content of a linked file");
        symlink("../outside/library", baseline.join("library")).expect("linked");
        changed("a linked folder");
        write("outside/library/deep/more.py", "2");
        changed("a file in a linked folder");
        // A link to a link, and one to nothing yet.
        symlink("table.csv", baseline.join("again.csv")).expect("linked");
        symlink("../outside/later", baseline.join("later")).expect("linked");
        changed("links");
        write("outside/table.csv", "3");
        changed("what two links lead to");
        write("outside/later", "");
        changed("a link that leads somewhere now");
        // What a hidden link leads to is no part of the program.
        symlink(&outside, baseline.join(".data")).expect("linked");
        assert_eq!(of(&baseline).expect("a receipt"), *seen.last().expect("some"));
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_round_end() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().expect("a folder");
        let inner = dir.path().join("a/b");
        fs::create_dir_all(&inner).expect("made");
        fs::write(inner.join("main.py"), "").expect("written");
        let before = of(dir.path()).expect("a receipt");
        symlink("..", inner.join("up")).expect("linked");
        symlink(dir.path(), inner.join("top")).expect("linked");
        symlink("self", inner.join("self")).expect("linked");
        let round = of(dir.path()).expect("a receipt");
        assert_ne!(before, round);
        assert_eq!(of(dir.path()).expect("a receipt"), round);
        // Each folder holds two links to the next: twice as many paths with every folder.
        let many = tempfile::tempdir().expect("a folder");
        for index in 0..30 {
            let folder = many.path().join(format!("f{index}"));
            fs::create_dir(&folder).expect("made");
            for link in ["one", "two"] {
                symlink(format!("../f{}", index + 1), folder.join(link)).expect("linked");
            }
        }
        fs::create_dir(many.path().join("f30")).expect("made");
        let error = of(many.path()).unwrap_err().to_string();
        assert!(error.contains("more than 2000 files or folders"), "{error}");
        // A device never ends.
        let device = tempfile::tempdir().expect("a folder");
        symlink("/dev/zero", device.path().join("zero")).expect("linked");
        of(device.path()).expect("a receipt");
    }
}
