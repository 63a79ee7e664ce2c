//! What a finished stage left in its folder: size and BLAKE3 of every file. Kept in the folder's `done`,
//! so that damage is noticed before anything reads it.
//!
//! `done` holds its own hash in the first line and the list, as JSON, in the others. An empty one is of a
//! version that kept no list: such a stage counts as damaged and runs again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::error::UserError;

/// The file that says that a stage is finished, and what it left.
pub const DONE: &str = "done";

/// Files and folders below a stage's folder, by their paths in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    files: BTreeMap<String, Written>,
    folders: BTreeSet<String>,
}

/// A file as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    bytes: u64,
    blake3: String,
    /// Time of its last change in nanoseconds since 1970: while it and the size are the same, the content
    /// is taken to be so, except by who reads it.
    modified: u64,
}

/// Which files are read and hashed, besides those whose time of change is another.
#[derive(Clone, Copy, Debug)]
pub enum Reading<'a> {
    Nothing,
    Everything,
    Only(&'a [&'a str]),
}

impl Reading<'_> {
    fn includes(self, path: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Only(paths) => paths.contains(&path),
        }
    }
}

/// What is wrong with a stage's outputs; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage(Vec<String>);

/// Faults that are named one by one.
const NAMED: usize = 3;

impl fmt::Display for Damage {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let named: Vec<&str> = self.0.iter().take(NAMED).map(String::as_str).collect();
        write!(out, "{}", named.join(", "))?;
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(out, " and {more} more"),
        }
    }
}

impl Damage {
    pub fn new(fault: impl Into<String>) -> Self {
        Self(vec![fault.into()])
    }
}

impl Contents {
    /// Hashes everything below `dir`.
    ///
    /// # Errors
    /// What cannot be read or is no file, or a name that is not UTF-8.
    pub fn of(dir: &Path) -> Result<Self> {
        let mut contents = Self::default();
        contents.add(dir, "")?;
        Ok(contents)
    }

    fn add(&mut self, dir: &Path, below: &str) -> Result<()> {
        let failed = |path: &Path, error| UserError::io(path, "cannot be read", error);
        for entry in fs::read_dir(dir).map_err(|error| failed(dir, error))? {
            let path = entry.map_err(|error| failed(dir, error))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                let message = "is not UTF-8: let the stage write no such name";
                return Err(UserError::input(&path, "file name", message).into());
            };
            let name = format!("{below}{name}");
            let metadata = fs::metadata(&path).map_err(|error| failed(&path, error))?;
            if metadata.is_dir() {
                self.add(&path, &format!("{name}/"))?;
                self.folders.insert(name);
            } else if metadata.is_file() {
                let (bytes, hash) = durable::hash(&path).map_err(|error| failed(&path, error))?;
                let blake3 = hash.to_hex().to_string();
                self.files.insert(name, Written { bytes, blake3, modified: modified(&metadata) });
            } else {
                let message = "is neither a file nor a folder: let the stage write no such thing";
                return Err(UserError::input(&path, "type", message).into());
            }
        }
        Ok(())
    }

    /// Writes the list into `dir`, whose content it is, and flushes it to the disk.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let list = serde_json::to_string_pretty(self)? + "\n";
        let seal = blake3::hash(list.as_bytes()).to_hex();
        Ok(durable::write(&dir.join(DONE), format!("{seal}\n{list}").as_bytes())?)
    }

    /// The list of a finished stage.
    pub fn load(dir: &Path) -> Result<Self, Damage> {
        let text = match fs::read_to_string(dir.join(DONE)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Damage::new(format!("`{DONE}` is missing")));
            }
            Err(error) => return Err(Damage::new(format!("`{DONE}` cannot be read ({error})"))),
        };
        let whole = text
            .split_once('\n')
            .filter(|(seal, list)| blake3::hash(list.as_bytes()).to_hex().as_str() == *seal);
        let read = whole.and_then(|(_, list)| serde_json::from_str(list).ok());
        read.ok_or_else(|| Damage::new(format!("`{DONE}` is damaged")))
    }

    /// Compares the list with what is in `dir`: names, kinds, sizes and times of change of everything,
    /// and the content of what is `read` and of what was changed at another time.
    pub fn compare(&self, dir: &Path, read: Reading) -> Result<(), Damage> {
        let mut faults = Vec::new();
        for folder in &self.folders {
            match fs::metadata(dir.join(folder)) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => faults.push(format!("`{folder}` is no folder")),
                Err(error) => faults.push(absent(folder, &error)),
            }
        }
        for (name, written) in &self.files {
            faults.extend(written.fault(&dir.join(name), name, read.includes(name)));
        }
        self.find_others(dir, "", &mut faults);
        if faults.is_empty() { Ok(()) } else { Err(Damage(faults)) }
    }

    /// Adds what is in `dir` and not in the list.
    fn find_others(&self, dir: &Path, below: &str, faults: &mut Vec<String>) {
        let mut names: Vec<String> = fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| format!("{below}{}", entry.file_name().to_string_lossy()))
            .collect();
        names.sort();
        for name in names {
            if self.folders.contains(&name) {
                let folder = &name[below.len()..];
                self.find_others(&dir.join(folder), &format!("{name}/"), faults);
            } else if !self.files.contains_key(&name) && name != DONE {
                faults.push(format!("`{name}` was added"));
            }
        }
    }

    /// The files with their BLAKE3.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, written)| (path.as_str(), written.blake3.as_str()))
    }
}

impl Written {
    fn fault(&self, path: &Path, name: &str, read: bool) -> Option<String> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return Some(format!("`{name}` is no file")),
            Err(error) => return Some(absent(name, &error)),
        };
        if metadata.len() != self.bytes {
            let (bytes, of) = (metadata.len(), self.bytes);
            return Some(format!("`{name}` has {bytes} bytes and had {of}"));
        }
        if !read && modified(&metadata) == self.modified {
            return None;
        }
        match durable::hash(path) {
            Ok((_, hash)) if hash.to_hex().as_str() == self.blake3 => None,
            Ok(_) => Some(format!("`{name}` has another content")),
            Err(error) => Some(format!("`{name}` cannot be read ({error})")),
        }
    }
}

fn absent(name: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => format!("`{name}` is missing"),
        _ => format!("`{name}` cannot be read ({error})"),
    }
}

/// Nanoseconds since 1970; 0 where the system does not tell.
fn modified(metadata: &Metadata) -> u64 {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};

    use super::*;

    /// A stage's folder: a file, one in a folder, and an empty folder.
    fn stage() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("model")).unwrap();
        fs::create_dir_all(dir.path().join("figures")).unwrap();
        fs::write(dir.path().join("records.csv"), "metric,value\na,1\n").unwrap();
        fs::write(dir.path().join("model/model.json"), "{}").unwrap();
        Contents::of(dir.path()).unwrap().save(dir.path()).unwrap();
        dir
    }

    fn told(dir: &Path, read: Reading) -> String {
        let compared = Contents::load(dir).and_then(|contents| contents.compare(dir, read));
        compared.map_or_else(|damage| damage.to_string(), |()| String::new())
    }

    #[test]
    fn every_damage_is_named() {
        type Deed = fn(&Path);
        let deeds: [(Deed, &str); 10] = [
            (|_| (), ""),
            (
                |dir| fs::write(dir.join("records.csv"), "").unwrap(),
                "`records.csv` has 0 bytes and had 17",
            ),
            (
                |dir| fs::write(dir.join("records.csv"), "metric,value\na,2\n").unwrap(),
                "`records.csv` has another content",
            ),
            (|dir| fs::remove_file(dir.join("records.csv")).unwrap(), "`records.csv` is missing"),
            (
                |dir| {
                    fs::remove_file(dir.join("records.csv")).unwrap();
                    fs::create_dir(dir.join("records.csv")).unwrap();
                },
                "`records.csv` is no file",
            ),
            (
                |dir| fs::remove_dir_all(dir.join("model")).unwrap(),
                "`model` is missing, `model/model.json` is missing",
            ),
            (|dir| fs::remove_dir(dir.join("figures")).unwrap(), "`figures` is missing"),
            (|dir| fs::write(dir.join("model/more"), "").unwrap(), "`model/more` was added"),
            (|dir| fs::write(dir.join(DONE), "").unwrap(), "`done` is damaged"),
            (|dir| fs::remove_file(dir.join(DONE)).unwrap(), "`done` is missing"),
        ];
        for (deed, expected) in deeds {
            let dir = stage();
            deed(dir.path());
            assert_eq!(told(dir.path(), Reading::Nothing), expected);
            assert_eq!(told(dir.path(), Reading::Everything), expected);
        }
    }

    /// Bits that flip on the disk leave the time of change alone: who reads the file finds out.
    #[test]
    fn what_is_read_is_hashed_and_a_copy_is_as_good() {
        let dir = stage();
        let path = dir.path().join("records.csv");
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "metric,value\na,2\n").unwrap();
        let set = |path: &Path, time| {
            let file = File::options().write(true).open(path).unwrap();
            file.set_times(FileTimes::new().set_modified(time)).unwrap();
        };
        set(&path, time);
        assert_eq!(told(dir.path(), Reading::Nothing), "");
        assert_eq!(told(dir.path(), Reading::Only(&["model/model.json"])), "");
        let found = "`records.csv` has another content";
        assert_eq!(told(dir.path(), Reading::Only(&["records.csv"])), found);
        assert_eq!(told(dir.path(), Reading::Everything), found);
        fs::write(&path, "metric,value\na,1\n").unwrap();
        set(&path, UNIX_EPOCH);
        assert_eq!(told(dir.path(), Reading::Nothing), "");
    }

    #[test]
    fn many_faults_are_counted() {
        let dir = stage();
        for name in ["a", "b", "c", "d", "e"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let expected = "`a` was added, `b` was added, `c` was added and 2 more";
        assert_eq!(told(dir.path(), Reading::Nothing), expected);
    }
}
