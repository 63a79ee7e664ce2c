//! The cache of stage outputs: one folder per key, moved into place when complete.
//!
//! ```text
//! CACHE/<kind>/<key>/…         outputs of a finished stage; `done` is written last
//! CACHE/tmp/<key>-<process>/   outputs of a running stage
//! CACHE/scratch/<key>/         checkpoints of a training; survives an interruption
//! CACHE/lock                   held by the process that runs stages
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::error::UserError;

/// Key of a stage: the hash of everything that its outputs depend on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(String);

impl Key {
    /// The key of `content`, whatever the order of its objects' keys.
    pub fn of(content: &serde_json::Value) -> Self {
        let mut text = String::new();
        canonical(content, &mut text);
        Self(blake3::hash(text.as_bytes()).to_hex()[..32].to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// JSON with sorted keys and no spaces.
fn canonical(value: &serde_json::Value, text: &mut String) {
    match value {
        serde_json::Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_str());
            text.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&serde_json::Value::from(key.as_str()).to_string());
                text.push(':');
                canonical(value, text);
            }
            text.push('}');
        }
        serde_json::Value::Array(values) => {
            text.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                canonical(value, text);
            }
            text.push(']');
        }
        leaf => text.push_str(&leaf.to_string()),
    }
}

const DONE: &str = "done";

/// A cache folder.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
}

/// While it lives, no other process runs stages on the cache.
#[derive(Debug)]
pub struct CacheLock {
    _file: File,
}

impl Cache {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the outputs of a finished stage lie.
    pub fn outputs(&self, kind: &str, key: &Key) -> PathBuf {
        self.dir.join(kind).join(key.as_str())
    }

    pub fn is_done(&self, kind: &str, key: &Key) -> bool {
        self.outputs(kind, key).join(DONE).exists()
    }

    /// What a stage keeps between interrupted attempts.
    pub fn scratch(&self, key: &Key) -> PathBuf {
        self.dir.join("scratch").join(key.as_str())
    }

    /// An empty folder for the outputs of a stage that starts now.
    pub fn begin(&self, key: &Key) -> Result<PathBuf> {
        let dir = self.dir.join("tmp").join(format!("{}-{}", key.as_str(), std::process::id()));
        if dir.exists() {
            remove(&dir)?;
        }
        create(&dir)?;
        Ok(dir)
    }

    /// Moves the outputs of a finished stage into place and forgets its scratch folder.
    pub fn publish(&self, kind: &str, key: &Key, begun: &Path) -> Result<()> {
        let marker = begun.join(DONE);
        fs::write(&marker, "")
            .map_err(|error| UserError::io(&marker, "cannot be written", error))?;
        let target = self.outputs(kind, key);
        create(&self.dir.join(kind))?;
        if target.exists() {
            // Left by a version that did not move folders whole, or damaged by hand.
            remove(&target)?;
        }
        fs::rename(begun, &target)
            .map_err(|error| UserError::io(&target, "cannot be moved into place", error))?;
        let scratch = self.scratch(key);
        if scratch.exists() {
            remove(&scratch)?;
        }
        Ok(())
    }

    /// Takes the cache for this process and clears what interrupted stages left behind.
    ///
    /// # Errors
    /// Another process has it, or the folder cannot be written.
    pub fn lock(&self) -> Result<CacheLock> {
        create(&self.dir)?;
        let path = self.dir.join("lock");
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(|error| UserError::io(&path, "cannot be opened", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _ = file.read_to_string(&mut owner);
                // Who has only just locked it has not said who it is yet.
                let owner = match owner.trim() {
                    "" => String::new(),
                    process => format!(" (process {process})"),
                };
                return Err(UserError::setting(format!(
                    "the cache {} is in use by another tracegym{owner}: wait until it ends, \
                     or give this run a cache of its own with --cache DIR",
                    self.dir.display(),
                ))
                .into());
            }
            Err(TryLockError::Error(error)) => {
                return Err(UserError::io(&path, "cannot be locked", error).into());
            }
        }
        let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(|error| UserError::io(&path, "cannot be written", error))?;
        let tmp = self.dir.join("tmp");
        if tmp.exists() {
            remove(&tmp)?;
        }
        Ok(CacheLock { _file: file })
    }

    /// Number and size in bytes of the finished stages of a kind.
    pub fn usage(&self, kind: &str) -> (usize, u64) {
        let stages = fs::read_dir(self.dir.join(kind)).into_iter().flatten().flatten();
        let done = stages.filter(|stage| stage.path().join(DONE).exists());
        done.fold((0, 0), |(count, bytes), stage| (count + 1, bytes + size(&stage.path())))
    }
}

fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Creates a folder and its parents.
pub fn create(dir: &Path) -> Result<(), UserError> {
    fs::create_dir_all(dir).map_err(|error| UserError::io(dir, "cannot be created", error))
}

fn remove(dir: &Path) -> Result<(), UserError> {
    fs::remove_dir_all(dir).map_err(|error| UserError::io(dir, "cannot be removed", error))
}

/// Writes a file so that a reader sees the old content or the new, never a part.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), UserError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    create(parent)?;
    let failed = |error| UserError::io(path, "cannot be written", error);
    let mut file = tempfile::NamedTempFile::new_in(parent).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    #[cfg(unix)]
    {
        // A temporary file is private; a result is not.
        use std::os::unix::fs::PermissionsExt;
        let permissions = fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(permissions).map_err(failed)?;
    }
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_depend_on_content_not_on_order() {
        let key = Key::of(&json!({"a": 1, "b": [1.5, null, {"d": "x", "c": true}]}));
        let same = serde_json::from_str(r#"{"b": [1.5, null, {"c": true, "d": "x"}], "a": 1}"#);
        assert_eq!(key, Key::of(&same.unwrap()));
        assert_ne!(key, Key::of(&json!({"a": 2, "b": [1.5, null, {"d": "x", "c": true}]})));
        assert_ne!(Key::of(&json!(["a", "b"])), Key::of(&json!(["a,b"])));
    }

    #[test]
    fn outputs_appear_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("cache"));
        let key = Key::of(&json!("x"));
        let begun = cache.begin(&key).unwrap();
        fs::write(begun.join("result"), "1").unwrap();
        create(&cache.scratch(&key)).unwrap();
        assert!(!cache.is_done("train", &key));
        cache.publish("train", &key, &begun).unwrap();
        assert!(cache.is_done("train", &key));
        assert!(!cache.scratch(&key).exists());
        assert_eq!(fs::read_to_string(cache.outputs("train", &key).join("result")).unwrap(), "1");
        assert_eq!(cache.usage("train"), (1, 1));
    }

    #[test]
    fn a_second_owner_is_refused_and_leftovers_are_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        let leftover = cache.begin(&Key::of(&json!(1))).unwrap();
        let lock = cache.lock().unwrap();
        assert!(!leftover.exists());
        let error = cache.lock().unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(lock);
        cache.lock().unwrap();
    }
}
