//! Replies that were paid for, kept on disk: a run that fails or is repeated asks for none twice.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Reply;
use crate::error::UserError;

/// A folder with a file for each reply, named after a hash of all that was asked.
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The folder: `$TRACEGYM_REPLIES`, else `~/.cache/tracegym/replies`; `None` without a home.
    pub fn default_folder() -> Option<PathBuf> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = || Some(PathBuf::from(set("HOME")?).join(".cache/tracegym/replies"));
        set("TRACEGYM_REPLIES").map(PathBuf::from).or_else(home)
    }

    pub fn open(dir: &Path) -> Result<Self> {
        let failed = |error| UserError::io(dir, "cannot be made", error);
        std::fs::create_dir_all(dir).map_err(failed)?;
        Ok(Self { dir: dir.to_owned() })
    }

    fn file(&self, url: &str, body: &str) -> PathBuf {
        let mut hasher = blake3::Hasher::new();
        hasher.update(url.as_bytes());
        hasher.update(b"\n");
        hasher.update(body.as_bytes());
        self.dir.join(format!("{}.json", &hasher.finalize().to_hex()[..32]))
    }

    /// The reply to `body`, if it was kept. A damaged file counts as none.
    pub fn get(&self, url: &str, body: &str) -> Option<Reply> {
        let text = std::fs::read_to_string(self.file(url, body)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Keeps a reply; whole or not at all.
    pub fn put(&self, url: &str, body: &str, reply: &Reply) -> Result<()> {
        let path = self.file(url, body);
        let failed = |error| UserError::io(&path, "cannot be written", error);
        let file = tempfile::NamedTempFile::new_in(&self.dir).map_err(failed)?;
        std::fs::write(file.path(), serde_json::to_string(reply)? + "\n").map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}
