//! Lines of a text file, plain or gzip, however hostile: bounded length, checked UTF-8, and a
//! truncated archive told apart from an end.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Result;
use flate2::bufread::MultiGzDecoder;

use crate::error::UserError;

/// Longest line of a table, in bytes; real rows have about 130.
pub const MAX_ROW_BYTES: usize = 1 << 16;

/// Reads a file line by line.
pub struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    limit: usize,
    buffer: Vec<u8>,
    /// Number of the line last returned, from 1.
    number: u64,
    broken: bool,
}

/// One line that cannot be used, in words.
#[derive(Debug, PartialEq, Eq)]
pub struct BadLine(pub String);

impl Lines {
    /// Opens `path`; gzip is recognised by its content, not its name.
    pub fn open(path: &Path, limit: usize) -> Result<Self> {
        let failed = |error| UserError::io(path, "cannot be read", error);
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            let message = "is a folder, not a file";
            return Err(UserError::input(path, "content", message).into());
        }
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let gzip = reader.fill_buf().map_err(failed)?.starts_with(&[0x1f, 0x8b]);
        let reader: Box<dyn BufRead + Send> = match gzip {
            true => Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(reader))),
            false => Box::new(reader),
        };
        let path = path.to_owned();
        Ok(Self { path, reader, limit, buffer: Vec::new(), number: 0, broken: false })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of the line last returned, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next line without its end; `None` at the end of the file. After a line that says that
    /// the file itself is damaged there are no more.
    pub fn next(&mut self) -> Option<Result<&str, BadLine>> {
        if self.broken {
            return None;
        }
        self.buffer.clear();
        let limit = self.limit as u64 + 2;
        let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut self.buffer);
        self.number += 1;
        match read {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => {
                self.broken = true;
                return Some(Err(BadLine(damage(&error))));
            }
        }
        let ended = self.buffer.last() == Some(&b'\n');
        if ended {
            self.buffer.pop();
        }
        if self.buffer.last() == Some(&b'\r') {
            self.buffer.pop();
        }
        if self.buffer.len() > self.limit {
            let message = format!("the line is longer than {} bytes", self.limit);
            let skipped = if ended { Ok(()) } else { self.skip_line() };
            return Some(Err(match skipped {
                Ok(()) => BadLine(message),
                Err(error) => {
                    self.broken = true;
                    BadLine(damage(&error))
                }
            }));
        }
        Some(std::str::from_utf8(&self.buffer).map_err(|error| {
            BadLine(format!("the line is not UTF-8 (byte {})", error.valid_up_to() + 1))
        }))
    }

    fn skip_line(&mut self) -> std::io::Result<()> {
        loop {
            let chunk = self.reader.fill_buf()?;
            if chunk.is_empty() {
                return Ok(());
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(chunk.len(), |end| end + 1);
            self.reader.consume(used);
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

fn damage(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            "the gzip archive is cut off here: fetch the file again".to_owned()
        }
        _ => format!("the file cannot be read on from here: {error}"),
    }
}

/// What to do about a row that cannot be read.
pub const SKIP_REMEDY: &str = "mend the row, or leave out such rows: --skip-bad-rows of \
     `data build`, or `skip_bad_rows = true` in the manifest";

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(bytes: &[u8], limit: usize) -> Vec<Result<String, BadLine>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let mut lines = Lines::open(file.path(), limit).unwrap();
        let mut found = Vec::new();
        while let Some(line) = lines.next() {
            found.push(line.map(str::to_owned));
        }
        found
    }

    #[test]
    fn lines_of_any_ending_and_bound() {
        assert_eq!(read(b"", 4), vec![]);
        assert_eq!(read(b"ab\r\ncd\n\nef", 4), ["ab", "cd", "", "ef"].map(|s| Ok(s.to_owned())));
        let found = read(b"abcd\nabcde\nabcdefghij\nx\n", 4);
        assert_eq!(found[0], Ok("abcd".to_owned()));
        assert_eq!(found[1], Err(BadLine("the line is longer than 4 bytes".into())));
        assert!(found[2].is_err());
        assert_eq!(found[3], Ok("x".to_owned()));
    }

    #[test]
    fn bytes_that_are_not_utf8_spoil_one_line_only() {
        let found = read(b"a\xff\nb\n", 10);
        assert_eq!(found[0], Err(BadLine("the line is not UTF-8 (byte 2)".into())));
        assert_eq!(found[1], Ok("b".to_owned()));
    }

    #[test]
    fn a_truncated_archive_is_not_an_end() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        for i in 0..1000 {
            writeln!(gzip, "line {i}").unwrap();
        }
        let whole = gzip.finish().unwrap();
        assert_eq!(read(&whole, 100).len(), 1000);
        let found = read(&whole[..whole.len() / 2], 100);
        assert!(found[..found.len() - 1].iter().all(Result::is_ok));
        assert!(found.last().unwrap().as_ref().unwrap_err().0.contains("cut off"));
    }
}
