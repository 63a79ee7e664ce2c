//! Lines of a text file, plain or gzip, however hostile: bounded length, checked UTF-8. What is wrong
//! with one line is told apart from what is wrong with the file: lines may be left out, the rest of a
//! truncated archive may not.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
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
}

/// One line that cannot be used, in words.
#[derive(Debug, PartialEq, Eq)]
pub struct BadLine(pub String);

impl Lines {
    /// Opens `path`; gzip is recognised by its content, not its name.
    ///
    /// # Errors
    /// A folder, or an archive that has to be unpacked first, in gzip or not.
    pub fn open(path: &Path, limit: usize) -> Result<Self> {
        let reader = open(path)?;
        Ok(Self { path: path.to_owned(), reader, limit, buffer: Vec::new(), number: 0 })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of the line last returned, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The line last returned; of one that is too long, its beginning.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// The next line without its end; `None` at the end of the file.
    ///
    /// # Errors
    /// The file cannot be read on: a truncated or damaged archive, a failing disk. That is never a
    /// matter of one line, and no option leaves it out.
    pub fn next(&mut self) -> Result<Option<Result<&str, BadLine>>> {
        self.buffer.clear();
        self.number += 1;
        let limit = self.limit as u64 + 2;
        let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut self.buffer);
        if read.map_err(|error| self.broken(&error))? == 0 {
            return Ok(None);
        }
        let ended = self.buffer.last() == Some(&b'\n');
        if ended {
            self.buffer.pop();
        }
        if self.buffer.last() == Some(&b'\r') {
            self.buffer.pop();
        }
        if self.buffer.len() > self.limit {
            if !ended {
                self.skip_line().map_err(|error| self.broken(&error))?;
            }
            let message = format!("the line is longer than {} bytes", self.limit);
            return Ok(Some(Err(BadLine(message))));
        }
        Ok(Some(std::str::from_utf8(&self.buffer).map_err(|error| {
            BadLine(format!("the line is not UTF-8 (byte {})", error.valid_up_to() + 1))
        })))
    }

    fn broken(&self, error: &std::io::Error) -> UserError {
        broken(&self.path, self.number, error)
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

/// The bytes of a file, unpacked if they are gzip, which is recognised by content.
///
/// # Errors
/// A folder, or an archive that has to be unpacked first, in gzip or not.
pub fn open(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    let failed = |error| UserError::io(path, "cannot be read", error);
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        let message = "is a folder, not a file";
        return Err(UserError::input(path, "content", message).into());
    }
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let gzip = reader.fill_buf().map_err(failed)?.starts_with(&[0x1f, 0x8b]);
    let mut reader: Box<dyn BufRead + Send> = if gzip {
        Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(reader)))
    } else {
        Box::new(reader)
    };
    let mut head = Vec::new();
    reader
        .by_ref()
        .take(HEAD_BYTES)
        .read_to_end(&mut head)
        .map_err(|error| UserError::input(path, "line 1", damage(&error)))?;
    if let Some((archive, remedy)) = archive(&head) {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let message = format!("is {archive}: unpack it first (`{remedy} {file}`)");
        return Err(UserError::input(path, "content", message).into());
    }
    Ok(Box::new(Cursor::new(head).chain(reader)))
}

/// That a file cannot be read on from a line.
pub fn broken(path: &Path, line: u64, error: &std::io::Error) -> UserError {
    UserError::input(path, format!("line {line}"), damage(error))
}

fn damage(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            "the gzip archive is cut off here: fetch the file again".to_owned()
        }
        std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => format!(
            "the gzip archive is damaged here, or bytes follow it that are not gzip ({error}): \
             fetch the file again"
        ),
        _ => format!("the file cannot be read on from here: {error}"),
    }
}

/// Bytes at the beginning of a file that tell an archive from text.
const HEAD_BYTES: u64 = 512;

/// The kind of archive that a file begins as, and the command that unpacks it. Text does not hold
/// the bytes asked for: NUL or others that are not UTF-8, or bzip2's long signature.
fn archive(head: &[u8]) -> Option<(&'static str, &'static str)> {
    let tar = head.get(257..262) == Some(b"ustar") && head[..257].contains(&0);
    if tar {
        return Some(("a tar archive", "tar -xf"));
    }
    let starts: [(&[u8], _, _); 4] = [
        (b"PK\x03\x04", "a zip archive", "unzip"),
        (b"\x28\xb5\x2f\xfd", "a zstd archive", "zstd -d"),
        (b"\xfd7zXZ\x00", "an xz archive", "xz -d"),
        (b"BZh91AY&SY", "a bzip2 archive", "bzip2 -d"),
    ];
    let found = starts.into_iter().find(|(start, _, _)| head.starts_with(start));
    found.map(|(_, archive, remedy)| (archive, remedy))
}

/// What to do about a row that cannot be read.
pub const SKIP_REMEDY: &str = "mend the row, or leave out such rows: --skip-bad-rows of \
     `data build`, or `skip_bad_rows = true` in the manifest";

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn open(bytes: &[u8], limit: usize) -> Result<Lines> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        Lines::open(file.path(), limit)
    }

    /// All lines, or the message about the file.
    fn read(bytes: &[u8], limit: usize) -> Result<Vec<Result<String, BadLine>>, String> {
        let told = |error: anyhow::Error| {
            let error = error.to_string();
            error[error.find(": ").unwrap() + 2..].to_owned()
        };
        let mut lines = open(bytes, limit).map_err(told)?;
        let mut found = Vec::new();
        while let Some(line) = lines.next().map_err(told)? {
            found.push(line.map(str::to_owned));
        }
        Ok(found)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn thousand_lines() -> String {
        (0..1000).map(|i| format!("line {i}\n")).collect()
    }

    #[test]
    fn lines_of_any_ending_and_bound() {
        assert_eq!(read(b"", 4), Ok(vec![]));
        let four = ["ab", "cd", "", "ef"].map(|s| Ok(s.to_owned()));
        assert_eq!(read(b"ab\r\ncd\n\nef", 4).unwrap(), four);
        let found = read(b"abcd\nabcde\nabcdefghij\nx\n", 4).unwrap();
        assert_eq!(found[0], Ok("abcd".to_owned()));
        assert_eq!(found[1], Err(BadLine("the line is longer than 4 bytes".into())));
        assert!(found[2].is_err());
        assert_eq!(found[3], Ok("x".to_owned()));
    }

    #[test]
    fn bytes_that_are_not_utf8_spoil_one_line_only() {
        let found = read(b"a\xff\nb\n", 10).unwrap();
        assert_eq!(found[0], Err(BadLine("the line is not UTF-8 (byte 2)".into())));
        assert_eq!(found[1], Ok("b".to_owned()));
    }

    #[test]
    fn an_archive_is_whole_or_refused() {
        let whole = gzip(thousand_lines().as_bytes());
        assert_eq!(read(&whole, 100).unwrap().len(), 1000);
        let cut = read(&whole[..whole.len() / 2], 100).unwrap_err();
        assert!(cut.starts_with("line ") && cut.contains("cut off here"), "{cut}");
        // Every cut, and every flipped bit of the checksum and the length behind the data.
        for end in 2..whole.len() {
            assert!(read(&whole[..end], 100).is_err(), "cut to {end} bytes");
        }
        for byte in whole.len() - 8..whole.len() {
            let mut flipped = whole.clone();
            flipped[byte] ^= 1;
            let damaged = read(&flipped, 100).unwrap_err();
            assert!(damaged.contains("line 1001: the gzip archive is damaged here"), "{damaged}");
        }
    }

    #[test]
    fn all_members_of_an_archive_are_read_and_nothing_else_may_follow() {
        let text = thousand_lines();
        let (first, second) = text.split_at(text.len() / 3);
        let both = [gzip(first.as_bytes()), gzip(second.as_bytes())].concat();
        assert_eq!(read(&both, 100), read(text.as_bytes(), 100));
        assert!(read(&both[..both.len() - 20], 100).unwrap_err().contains("cut off here"));
        for garbage in [b"more".as_slice(), b"\0", &[0; 1000], b"\x1f\x8b", b"\x1f\x8bxy and more"]
        {
            let error = read(&[&both, garbage].concat(), 100).unwrap_err();
            assert!(error.contains("line 1001: the gzip archive is"), "{garbage:?}: {error}");
        }
    }

    #[test]
    fn archives_of_files_are_to_be_unpacked_first() {
        let mut tar = vec![0; 1536];
        tar[..8].copy_from_slice(b"rows.csv");
        tar[257..262].copy_from_slice(b"ustar");
        tar[512..519].copy_from_slice(b"a,b\n1,2");
        for bytes in [tar.clone(), gzip(&tar)] {
            let error = read(&bytes, 100).unwrap_err();
            assert!(error.starts_with("content: is a tar archive: unpack it first (`tar -xf "));
        }
        let error = read(b"PK\x03\x04 and so on", 100).unwrap_err();
        assert!(
            error.starts_with("content: is a zip archive: unpack it first (`unzip "),
            "{error}"
        );
        // The word alone makes no archive.
        let mut text = [b'x'; 400];
        text[257..262].copy_from_slice(b"ustar");
        assert_eq!(read(&text, 400).unwrap().len(), 1);
    }
}
