//! The cache of stage outputs: one folder per key, moved into place when complete.
//!
//! ```text
//! CACHE/CACHEDIR.TAG           says that the folder is a cache of TraceGym
//! CACHE/<kind>/<key>/…         outputs of a finished stage; `done` lists them and is written last
//! CACHE/<kind>/<key>.partial/  outputs of a running stage
//! CACHE/scratch/<key>/         checkpoints of a training; survives an interruption
//! CACHE/specs/<key>.json       what a running stage is told
//! CACHE/lock                   held by the process that runs stages
//! ```
//!
//! Outputs are written in the folder that they stay in, so that moving them never crosses file systems.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::contents::{Contents, DONE, Damage, Reading};
use crate::durable;
use crate::error::UserError;

/// Key of a stage: the hash of everything that its outputs depend on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(String);

/// Hexadecimal digits of a key.
const KEY_LENGTH: usize = 32;

impl Key {
    /// The key of `content`, whatever the order of its objects' keys.
    pub fn of(content: &serde_json::Value) -> Self {
        let mut text = String::new();
        canonical(content, &mut text);
        Self(blake3::hash(text.as_bytes()).to_hex()[..KEY_LENGTH].to_owned())
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

const TAG: &str = "CACHEDIR.TAG";
/// How the tag begins: the first line is what backup programs look for (<https://bford.info/cachedir/>), and
/// the second tells this cache from others.
const TAG_START: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# A cache of TraceGym\n";
const TAG_END: &str = "\
# Finished stages, which TraceGym can make again. Whatever it does not know in this folder is not its own:
# keep nothing else here.
";
const LOCK: &str = "lock";
const SCRATCH: &str = "scratch";
const SPECS: &str = "specs";
/// Where versions without a tag kept the outputs and specs of running stages.
const FORMER_TMP: &str = "tmp";
/// What the name of a running stage's folder ends in.
const PARTIAL: &str = ".partial";

/// Tells names that TraceGym gives from others.
type IsName = fn(&str) -> bool;

/// Whether a finished stage's outputs can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    Absent,
    Whole,
    Damaged(Damage),
}

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

    /// What can be said of a stage's outputs after reading so much of them.
    pub fn condition(&self, kind: &str, key: &Key, read: Reading) -> Condition {
        let dir = self.outputs(kind, key);
        match fs::metadata(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Condition::Absent,
            Err(error) => {
                return Condition::Damaged(Damage::new(format!("cannot be read ({error})")));
            }
            Ok(metadata) if !metadata.is_dir() => {
                return Condition::Damaged(Damage::new("is no folder"));
            }
            Ok(_) => {}
        }
        match Contents::load(&dir).and_then(|contents| contents.compare(&dir, read)) {
            Ok(()) => Condition::Whole,
            Err(damage) => Condition::Damaged(damage),
        }
    }

    /// Whether a stage is finished and its outputs, which are not read, look whole.
    pub fn is_done(&self, kind: &str, key: &Key) -> bool {
        self.condition(kind, key, Reading::Nothing) == Condition::Whole
    }

    /// What a stage keeps between interrupted attempts.
    pub fn scratch(&self, key: &Key) -> PathBuf {
        self.dir.join(SCRATCH).join(key.as_str())
    }

    /// The file that tells a stage's process what to do.
    pub fn spec(&self, key: &Key) -> PathBuf {
        self.dir.join(SPECS).join(format!("{}.json", key.as_str()))
    }

    /// An empty folder for the outputs of a stage that starts now.
    pub fn begin(&self, kind: &str, key: &Key) -> Result<PathBuf> {
        let dir = self.dir.join(kind).join(format!("{}{PARTIAL}", key.as_str()));
        remove(&dir)?;
        durable::create_folder(&dir)?;
        Ok(dir)
    }

    /// Moves the outputs of a finished stage into place, flushed to the disk, and forgets its scratch
    /// folder.
    pub fn publish(&self, kind: &str, key: &Key, begun: &Path) -> Result<()> {
        durable::sync_tree(begun)?;
        Contents::of(begun)?.save(begun)?;
        let target = self.outputs(kind, key);
        // Damaged, or of a version that did not move folders whole.
        remove(&target)?;
        durable::rename(begun, &target)?;
        Ok(remove(&self.scratch(key))?)
    }

    /// Takes the cache for this process and clears what interrupted stages left behind.
    ///
    /// # Errors
    /// The folder holds something else, another process has it, or it cannot be written.
    pub fn lock(&self) -> Result<CacheLock> {
        self.claim()?;
        let path = self.dir.join(LOCK);
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
        self.clear()?;
        Ok(CacheLock { _file: file })
    }

    /// Makes the folder a cache, unless it is one.
    fn claim(&self) -> Result<()> {
        durable::create_folder(&self.dir)?;
        let tag = self.dir.join(TAG);
        let failed = |error| UserError::io(&tag, "cannot be read", error);
        match fs::read(&tag) {
            Ok(text) if text.starts_with(TAG_START.as_bytes()) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error).into()),
        }
        if let Some(other) = self.not_ours()? {
            return Err(UserError::setting(format!(
                "--cache {}: the folder holds something else (such as {other}) and is no cache of \
                 TraceGym, which removes files from its cache: name an empty folder or one that does \
                 not exist",
                self.dir.display()
            ))
            .into());
        }
        Ok(durable::write(&tag, format!("{TAG_START}{TAG_END}").as_bytes())?)
    }

    /// Something in the folder that TraceGym, of a version without tags included, did not write.
    fn not_ours(&self) -> Result<Option<String>> {
        for name in names(&self.dir)? {
            let ours_below: IsName = match name.as_str() {
                // A file system of its own has the last.
                LOCK | TAG | "lost+found" => continue,
                // Another process claims the folder at this moment.
                name if name.starts_with(&format!(".{TAG}.")) => continue,
                SCRATCH => is_key,
                SPECS => is_spec,
                FORMER_TMP => is_former_tmp,
                _ => |name| is_key(name) || is_partial(name),
            };
            let inside = match self.dir.join(&name) {
                dir if dir.is_dir() => names(&dir)?,
                _ => return Ok(Some(name)),
            };
            if let Some(other) = inside.into_iter().find(|inside| !ours_below(inside)) {
                return Ok(Some(format!("{name}/{other}")));
            }
        }
        Ok(None)
    }

    /// Removes what interrupted stages left, and nothing that only lies beside it.
    fn clear(&self) -> Result<()> {
        for folder in names(&self.dir)?.iter().filter(|folder| self.dir.join(folder).is_dir()) {
            let is_left: IsName = match folder.as_str() {
                SCRATCH => continue,
                SPECS => is_spec,
                FORMER_TMP => is_former_tmp,
                _ => is_partial,
            };
            let folder = self.dir.join(folder);
            for name in names(&folder)?.iter().filter(|name| is_left(name)) {
                remove(&folder.join(name))?;
            }
        }
        // Goes if nothing else is in it.
        let _ = fs::remove_dir(self.dir.join(FORMER_TMP));
        durable::clear_partial(&self.dir);
        Ok(())
    }

    /// Number and size in bytes of the finished stages of every kind that has some.
    pub fn usage(&self) -> Vec<(String, usize, u64)> {
        let kinds = names(&self.dir).unwrap_or_default().into_iter();
        let usage = kinds.map(|kind| {
            let (stages, bytes) = self.usage_of(&kind);
            (kind, stages, bytes)
        });
        usage.filter(|(_, stages, _)| *stages > 0).collect()
    }

    fn usage_of(&self, kind: &str) -> (usize, u64) {
        let stages = fs::read_dir(self.dir.join(kind)).into_iter().flatten().flatten();
        let done = stages.filter(|stage| {
            is_key(&stage.file_name().to_string_lossy()) && stage.path().join(DONE).exists()
        });
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

/// Names in a folder, sorted.
fn names(dir: &Path) -> Result<Vec<String>> {
    let failed = |error| UserError::io(dir, "cannot be read", error);
    let entries = fs::read_dir(dir).map_err(failed)?;
    let name = |entry: std::io::Result<fs::DirEntry>| {
        Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned())
    };
    let mut names = entries.map(name).collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn is_key(name: &str) -> bool {
    name.len() == KEY_LENGTH && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_partial(name: &str) -> bool {
    name.strip_suffix(PARTIAL).is_some_and(is_key)
}

fn is_spec(name: &str) -> bool {
    name.strip_suffix(".json").is_some_and(is_key)
}

/// `<key>-<process>`, or a spec.
fn is_former_tmp(name: &str) -> bool {
    let is_process = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_spec(name)
        || name.split_once('-').is_some_and(|(key, process)| is_key(key) && is_process(process))
}

/// Removes a file or a folder with all that is in it, if there is one; of a link only itself.
fn remove(path: &Path) -> Result<(), UserError> {
    let removed = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        _ => fs::remove_file(path),
    };
    removed.map_err(|error| UserError::io(path, "cannot be removed", error))
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

    fn key(content: i32) -> Key {
        Key::of(&json!(content))
    }

    /// A finished stage with one file.
    fn finish(cache: &Cache, key: &Key) {
        let begun = cache.begin("train", key).unwrap();
        fs::write(begun.join("result"), "1").unwrap();
        cache.publish("train", key, &begun).unwrap();
    }

    #[test]
    fn outputs_appear_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("cache"));
        let key = key(1);
        let begun = cache.begin("train", &key).unwrap();
        fs::write(begun.join("result"), "1").unwrap();
        durable::create_folder(&cache.scratch(&key)).unwrap();
        assert_eq!(cache.condition("train", &key, Reading::Everything), Condition::Absent);
        assert_eq!(cache.usage(), []);
        cache.publish("train", &key, &begun).unwrap();
        assert_eq!(cache.condition("train", &key, Reading::Everything), Condition::Whole);
        assert!(!cache.scratch(&key).exists() && !begun.exists());
        assert_eq!(fs::read_to_string(cache.outputs("train", &key).join("result")).unwrap(), "1");
        assert_eq!(cache.usage()[0].0, "train");
        assert_eq!(cache.usage()[0].1, 1);
    }

    #[test]
    fn damaged_outputs_are_told_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        let key = key(1);
        finish(&cache, &key);
        let outputs = cache.outputs("train", &key);
        // As versions without lists left it.
        fs::write(outputs.join(DONE), "").unwrap();
        assert!(!cache.is_done("train", &key));
        finish(&cache, &key);
        assert!(cache.is_done("train", &key));
        fs::remove_dir_all(&outputs).unwrap();
        fs::write(&outputs, "a file").unwrap();
        let Condition::Damaged(damage) = cache.condition("train", &key, Reading::Nothing) else {
            panic!("it is damaged");
        };
        assert_eq!(damage.to_string(), "is no folder");
        finish(&cache, &key);
        assert!(cache.is_done("train", &key));
    }

    #[test]
    fn a_second_owner_is_refused_and_leftovers_are_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        let leftover = cache.begin("train", &key(1)).unwrap();
        durable::write(&cache.spec(&key(1)), b"{}").unwrap();
        durable::create_folder(&cache.scratch(&key(1))).unwrap();
        let lock = cache.lock().unwrap();
        assert!(!leftover.exists() && !cache.spec(&key(1)).exists());
        assert!(cache.scratch(&key(1)).exists());
        let error = cache.lock().unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(lock);
        cache.lock().unwrap();
    }

    #[test]
    fn what_is_not_ours_is_never_touched() {
        let mine = |path: &str| {
            let dir = tempfile::tempdir().unwrap();
            durable::write(&dir.path().join(path), b"mine").unwrap();
            dir
        };
        for (path, named) in [
            ("tmp/thesis.tex", "tmp/thesis.tex"),
            ("thesis.tex", "thesis.tex"),
            ("train/images/1.png", "train/images"),
            ("scratch/notes", "scratch/notes"),
            ("specs/a.json", "specs/a.json"),
            ("report", "report"),
            ("debug/main.o", "debug/main.o"),
        ] {
            let dir = mine(path);
            // That of another program.
            durable::write(&dir.path().join(TAG), b"Signature: 8a477f597d28d172789f06886806bc55\n")
                .unwrap();
            let error = Cache::new(dir.path()).lock().unwrap_err().to_string();
            assert!(error.contains(&format!("(such as {named})")), "{path}: {error}");
            assert_eq!(fs::read(dir.path().join(path)).unwrap(), b"mine");
            assert!(!dir.path().join(LOCK).exists());
        }
        // Beside a cache's own files it stays, too.
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        drop(cache.lock().unwrap());
        let notes = ["tmp/thesis.tex", "train/notes.partial", "specs/x.json", "mine"];
        notes.iter().for_each(|path| durable::write(&dir.path().join(path), b"mine").unwrap());
        drop(cache.lock().unwrap());
        assert!(notes.iter().all(|path| fs::read(dir.path().join(path)).unwrap() == b"mine"));
    }

    #[test]
    fn a_cache_without_a_tag_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        finish(&cache, &key(1));
        fs::write(dir.path().join(LOCK), "17\n").unwrap();
        let former = dir.path().join(FORMER_TMP);
        durable::write(&former.join(format!("{}-17/x", key(2).as_str())), b"").unwrap();
        durable::write(&former.join(format!("{}.json", key(2).as_str())), b"").unwrap();
        // A tag that was emptied is written again.
        fs::write(dir.path().join(TAG), "").unwrap();
        drop(cache.lock().unwrap());
        assert!(cache.is_done("train", &key(1)) && !former.exists());
        let tag = fs::read_to_string(dir.path().join(TAG)).unwrap();
        assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"), "{tag}");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_removed_and_not_what_they_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let mine = dir.path().join("mine");
        durable::write(&mine.join("thesis.tex"), b"mine").unwrap();
        let cache = Cache::new(dir.path().join("cache"));
        durable::create_folder(&cache.dir().join("train")).unwrap();
        std::os::unix::fs::symlink(&mine, cache.outputs("train", &key(1))).unwrap();
        finish(&cache, &key(1));
        assert!(cache.is_done("train", &key(1)));
        assert_eq!(fs::read(mine.join("thesis.tex")).unwrap(), b"mine");
    }
}
