use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::error::UserError;

/// Bytes that wait in memory before they are appended to a file.
const BUFFER_BYTES: usize = 1 << 16;
/// Largest file that is taken back into memory. Only a table in which one trace id has tens of
/// millions of rows reaches it.
const MAX_BYTES: u64 = 2 << 30;

/// Bytes on their way to a file. The file is open only while it is written, so that thousands of
/// these may exist.
pub struct Spill {
    path: PathBuf,
    buffer: Vec<u8>,
}

impl Spill {
    pub fn new(path: PathBuf) -> Self {
        Self { path, buffer: Vec::new() }
    }

    /// Where one record is appended; call [`Spill::settle`] after it.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Writes the buffer out if it is full.
    pub fn settle(&mut self) -> Result<()> {
        if self.buffer.len() < BUFFER_BYTES {
            return Ok(());
        }
        self.flush()
    }

    pub fn flush(&mut self) -> Result<()> {
        let failed = |error| UserError::io(&self.path, "cannot be written", error);
        let mut file =
            OpenOptions::new().create(true).append(true).open(&self.path).map_err(failed)?;
        file.write_all(&self.buffer).map_err(failed)?;
        self.buffer.clear();
        Ok(())
    }

    /// Ends writing; the file is at the returned path.
    pub fn finish(mut self) -> Result<PathBuf> {
        self.flush()?;
        Ok(self.path)
    }
}

/// The content of a spilled file, which is removed.
pub fn take(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;

    let failed = |error| UserError::io(path, "cannot be read", error);
    let mut file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    if size > MAX_BYTES {
        return Err(UserError::setting(
            "one part of the trace ids has over 2 GiB of rows: the column traceid does not tell \
             traces apart; check the input",
        )
        .into());
    }
    let mut content = Vec::with_capacity(size as usize);
    file.read_to_end(&mut content).map_err(failed)?;
    std::fs::remove_file(path).map_err(failed)?;
    Ok(content)
}

/// Reads back what was appended: numbers in little-endian order, texts after their length.
pub struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(len);
        self.0 = tail;
        head
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N));
        array
    }

    pub fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub fn i64(&mut self) -> i64 {
        i64::from_le_bytes(self.array())
    }

    pub fn u128(&mut self) -> u128 {
        u128::from_le_bytes(self.array())
    }

    pub fn text(&mut self) -> &'a [u8] {
        let len = self.u16();
        self.bytes(usize::from(len))
    }
}

/// Appends a text of less than 2^16 bytes.
pub fn put_text(buffer: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() < 1 << 16);
    buffer.extend_from_slice(&(text.len() as u16).to_le_bytes());
    buffer.extend_from_slice(text.as_bytes());
}
