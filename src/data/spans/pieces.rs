//! A file of JSON values in pieces that fit into memory, whatever the size of the file.
//!
//! A file holds one value or several, one per line or one behind the other. A list is taken apart into
//! its elements, and so is the list of an object's first key, if a format says so: what exporters write
//! as one document can be larger than memory.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use crate::data::lines;
use crate::error::UserError;

/// Why there is no next piece.
#[derive(Debug)]
pub enum Fault {
    /// The file cannot be read on: no matter of one value.
    Broken(UserError),
    /// What stands there is not JSON, with line and column, both from 1.
    Wrong(u64, u64, String),
}

/// Largest piece: an element of a list, or a value that is not taken apart.
const MAX_PIECE_BYTES: usize = 256 << 20;
/// How much is looked at in vain, over all values that are not closed: each of them is followed up to the end
/// of the file, or to the largest size of a piece.
const MAX_WASTED_BYTES: u64 = 4 << 30;
/// How much is read at once.
const BLOCK_BYTES: usize = 1 << 18;
/// How much is read at once of a large value.
const LARGE_BLOCK_BYTES: usize = 1 << 24;

/// A value of the file, or an element of one.
pub struct Piece<'a> {
    /// The key of the list that it is an element of; `None` for a whole value and for an element of a
    /// value that is a list.
    pub key: Option<&'a str>,
    /// Which element of its list it is, from 0; `None` for a whole value.
    pub element: Option<u64>,
    pub bytes: &'a [u8],
    /// Where it begins, both from 1.
    pub line: u64,
    pub column: u64,
}

enum State {
    /// Between values.
    Top,
    /// In a list that is taken apart, before its element `next` or its end.
    List { key: Option<String>, next: u64 },
    /// Behind the list of an object's first key: the object's other keys are passed over.
    Rest,
}

/// Reads a file in pieces.
pub struct Pieces {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    keys: &'static [&'static str],
    limit: usize,
    wasted: u64,
    max_wasted: u64,
    buffer: Vec<u8>,
    /// Place in the buffer up to which pieces were given.
    at: usize,
    ended: bool,
    line: u64,
    column: u64,
    state: State,
}

impl Pieces {
    /// The pieces of what `reader` gives; `path` is told where it cannot be read on. Lists of objects whose
    /// first key is among `keys` are taken apart.
    pub fn new(
        path: &Path,
        reader: Box<dyn BufRead + Send>,
        keys: &'static [&'static str],
    ) -> Self {
        Self {
            path: path.to_owned(),
            reader,
            keys,
            limit: MAX_PIECE_BYTES,
            wasted: 0,
            max_wasted: MAX_WASTED_BYTES,
            buffer: Vec::new(),
            at: 0,
            ended: false,
            line: 1,
            column: 1,
            state: State::Top,
        }
    }

    /// The next piece; `None` at the end of the file.
    ///
    /// # Errors
    /// Where the file is not a sequence of JSON values, with its line. A value that has the wrong
    /// characters inside of its brackets is a piece all the same.
    pub fn next(&mut self) -> Result<Option<Piece<'_>>, Fault> {
        if self.line == 1 && self.column == 1 && self.has(3)? {
            let mark = self.buffer[self.at..].starts_with(b"\xef\xbb\xbf");
            self.at += if mark { 3 } else { 0 };
        }
        loop {
            let Some(byte) = self.peek()? else {
                return match self.state {
                    State::Top => Ok(None),
                    _ => Err(self.wrong("the file ends in the middle of a list or an object")),
                };
            };
            match (&mut self.state, byte) {
                (State::Top, b'[') => {
                    self.state = State::List { key: None, next: 0 };
                    self.pass(1);
                }
                (State::Top, b'{') => match self.first_key()? {
                    Some((key, length)) => {
                        self.pass(length);
                        self.state = State::List { key: Some(key), next: 0 };
                    }
                    None => return self.piece(None, None).map(Some),
                },
                (State::Top, _) => {
                    let found = self.shown();
                    return Err(self.wrong(&format!("`{found}` where an object or a list begins")));
                }
                (State::List { key, .. }, b']') => {
                    let is_in_object = key.is_some();
                    self.state = if is_in_object { State::Rest } else { State::Top };
                    self.pass(1);
                }
                (State::List { next, .. }, byte) => {
                    if *next > 0 {
                        if byte != b',' {
                            let found = self.shown();
                            let message = format!("`{found}` where a comma or `]` stands");
                            return Err(self.wrong(&message));
                        }
                        self.pass(1);
                        if matches!(self.peek()?, Some(b']' | b',') | None) {
                            return Err(self.wrong("a comma without a value behind it"));
                        }
                    }
                    let State::List { key, next } = &mut self.state else { unreachable!() };
                    let (key, element) = (key.clone(), *next);
                    *next += 1;
                    return self.piece(key, Some(element)).map(Some);
                }
                (State::Rest, b'}') => {
                    self.state = State::Top;
                    self.pass(1);
                }
                (State::Rest, b',') => {
                    self.pass(1);
                    self.member()?;
                }
                (State::Rest, _) => {
                    let found = self.shown();
                    return Err(self.wrong(&format!("`{found}` where a comma or `}}` stands")));
                }
            }
        }
    }

    /// Passes over a key and its value.
    fn member(&mut self) -> Result<(), Fault> {
        for wanted in [Some(b'"'), Some(b':'), None] {
            let found = self.peek()?;
            if found.is_none() || (wanted.is_some() && found != wanted) {
                let found = self.shown();
                return Err(self.wrong(&format!("`{found}` where a key and its value stand")));
            }
            let length = if wanted == Some(b':') { 1 } else { self.value()? };
            self.pass(length);
        }
        Ok(())
    }

    /// Goes on behind an error of [`Self::next`], or behind a piece: at the next line that begins with
    /// an object or a list. `false` if there is none.
    ///
    /// # Errors
    /// The file cannot be read on, or has too many values that are not closed.
    pub fn resume(&mut self) -> Result<bool, Fault> {
        if self.wasted > self.max_wasted {
            let message = "is not JSON in so many places that reading on would take for ever";
            let place = format!("line {}", self.line);
            return Err(Fault::Broken(UserError::input(&self.path, place, message)));
        }
        self.state = State::Top;
        loop {
            let rest = &self.buffer[self.at..];
            match rest.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    self.pass(end + 1);
                    if self.has(1)? && matches!(self.buffer[self.at], b'{' | b'[') {
                        return Ok(true);
                    }
                }
                None => {
                    let length = rest.len();
                    self.pass(length);
                    if !self.fill()? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// The value at `self.at` as a piece.
    fn piece(&mut self, key: Option<String>, element: Option<u64>) -> Result<Piece<'_>, Fault> {
        let length = self.value()?;
        let (start, line, column) = (self.at, self.line, self.column);
        self.pass(length);
        let key = key.and_then(|key| self.keys.iter().copied().find(|known| *known == key));
        let bytes = &self.buffer[start..start + length];
        Ok(Piece { key, element, bytes, line, column })
    }

    /// The first key of the object here, if its list is to be taken apart, with the length up to
    /// behind the list's bracket.
    fn first_key(&mut self) -> Result<Option<(String, usize)>, Fault> {
        // A key that matters, with spaces around it, is not longer.
        self.has(256)?;
        let rest = &self.buffer[self.at..];
        let skip = |from: usize| {
            let spaces = rest[from.min(rest.len())..].iter().take_while(|byte| is_space(**byte));
            from + spaces.count()
        };
        let open = skip(1);
        if rest.get(open) != Some(&b'"') {
            return Ok(None);
        }
        for key in self.keys {
            let close = open + 1 + key.len();
            if rest.get(open + 1..close) != Some(key.as_bytes()) || rest.get(close) != Some(&b'"') {
                continue;
            }
            let colon = skip(close + 1);
            let bracket = skip(colon + 1);
            if rest.get(colon) == Some(&b':') && rest.get(bracket) == Some(&b'[') {
                return Ok(Some(((*key).to_owned(), bracket + 1)));
            }
        }
        Ok(None)
    }

    /// Length of the value here, up to where its brackets are closed.
    fn value(&mut self) -> Result<usize, Fault> {
        let mut scan = Scan::default();
        let mut done = 0;
        loop {
            let rest = &self.buffer[self.at + done..];
            match scan.end(rest) {
                Ok(Some(end)) => return Ok(done + end),
                Ok(None) => done += rest.len(),
                Err(end) => {
                    let lines = count_lines(&self.buffer[self.at..self.at + done + end]);
                    let message = "the line ends inside of a text in quotation marks";
                    let column = if lines == 0 { self.column + (done + end) as u64 } else { 1 };
                    return Err(Fault::Wrong(self.line + lines, column, message.to_owned()));
                }
            }
            if done > self.limit {
                self.wasted += done as u64;
                let mebibytes = self.limit >> 20;
                let message = format!("a value of more than {mebibytes} MiB begins here");
                return Err(self.wrong(&message));
            }
            if !self.fill()? {
                if scan.is_scalar() {
                    return Ok(done);
                }
                self.wasted += done as u64;
                return Err(self.wrong("the file ends in the middle of the value that begins here"));
            }
        }
    }

    /// The next byte that is no space, which stays.
    fn peek(&mut self) -> Result<Option<u8>, Fault> {
        loop {
            let rest = &self.buffer[self.at..];
            // The separator of JSON text sequences (RFC 7464) is a space here.
            match rest.iter().position(|byte| !is_space(*byte) && *byte != 0x1e) {
                Some(spaces) => {
                    self.pass(spaces);
                    return Ok(Some(self.buffer[self.at]));
                }
                None => {
                    let length = rest.len();
                    self.pass(length);
                    if !self.fill()? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Whether `count` bytes are there from here on.
    fn has(&mut self, count: usize) -> Result<bool, Fault> {
        while self.buffer.len() - self.at < count {
            if !self.fill()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads on; `false` at the end of the file. What was passed is forgotten.
    fn fill(&mut self) -> Result<bool, Fault> {
        if self.ended {
            return Ok(false);
        }
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        let length = self.buffer.len();
        // Large values are read in large steps, so that what is left over is moved seldom.
        let step = length.clamp(BLOCK_BYTES, LARGE_BLOCK_BYTES);
        let read = self.reader.by_ref().take(step as u64).read_to_end(&mut self.buffer);
        read.map_err(|error| Fault::Broken(lines::broken(&self.path, self.line, &error)))?;
        self.ended = self.buffer.len() - length < step;
        Ok(self.buffer.len() > length)
    }

    fn pass(&mut self, count: usize) {
        let passed = &self.buffer[self.at..self.at + count];
        let lines = count_lines(passed);
        if lines > 0 {
            self.line += lines;
            let last = passed.iter().rev().take_while(|byte| **byte != b'\n').count();
            self.column = last as u64 + 1;
        } else {
            self.column += count as u64;
        }
        self.at += count;
    }

    /// The beginning of what stands here, for a message.
    fn shown(&self) -> String {
        let rest = &self.buffer[self.at..];
        let word = rest.iter().take(20).take_while(|byte| !is_space(**byte)).count();
        crate::display::quoted(&String::from_utf8_lossy(&rest[..word])).into_owned()
    }

    fn wrong(&self, message: &str) -> Fault {
        Fault::Wrong(self.line, self.column, message.to_owned())
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Looks for the end of a value, block by block.
#[derive(Default)]
struct Scan {
    depth: u64,
    begun: bool,
    in_text: bool,
    escaped: bool,
    scalar: bool,
}

impl Scan {
    fn is_scalar(&self) -> bool {
        self.scalar
    }

    /// Where the value ends in the next block, if it does.
    ///
    /// # Errors
    /// The place of a line's end inside of a text, where JSON has none: the closing quotation mark is
    /// missing.
    fn end(&mut self, block: &[u8]) -> Result<Option<usize>, usize> {
        let mut at = 0;
        while at < block.len() {
            if self.in_text {
                if self.escaped {
                    self.escaped = false;
                    at += 1;
                    continue;
                }
                let Some(stop) =
                    block[at..].iter().position(|byte| STOPS[usize::from(*byte)] & IN_TEXT != 0)
                else {
                    return Ok(None);
                };
                at += stop;
                match block[at] {
                    b'"' => {
                        self.in_text = false;
                        if self.depth == 0 {
                            return Ok(Some(at + 1));
                        }
                    }
                    b'\\' => self.escaped = true,
                    _ => return Err(at),
                }
                at += 1;
                continue;
            }
            if self.scalar {
                let ends = |byte: &u8| is_space(*byte) || matches!(byte, b',' | b']' | b'}');
                return Ok(block[at..].iter().position(ends).map(|end| at + end));
            }
            if self.begun {
                let Some(stop) =
                    block[at..].iter().position(|byte| STOPS[usize::from(*byte)] & OUTSIDE != 0)
                else {
                    return Ok(None);
                };
                at += stop;
            }
            let first = !self.begun;
            self.begun = true;
            match block[at] {
                b'"' => self.in_text = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if !first => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Ok(Some(at + 1));
                    }
                }
                _ => self.scalar = true,
            }
            at += 1;
        }
        Ok(None)
    }
}

const IN_TEXT: u8 = 1;
const OUTSIDE: u8 = 2;
/// Bytes that matter inside of a text, and outside of one.
const STOPS: [u8; 256] = {
    let mut stops = [0; 256];
    stops[b'"' as usize] = IN_TEXT | OUTSIDE;
    stops[b'\\' as usize] = IN_TEXT;
    stops[b'\n' as usize] = IN_TEXT;
    stops[b'{' as usize] = OUTSIDE;
    stops[b'}' as usize] = OUTSIDE;
    stops[b'[' as usize] = OUTSIDE;
    stops[b']' as usize] = OUTSIDE;
    stops
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: &[&str] = &["data", "resourceSpans"];

    fn open(bytes: &[u8]) -> Pieces {
        Pieces::new(Path::new("file"), Box::new(std::io::Cursor::new(bytes.to_vec())), KEYS)
    }

    /// Key, element and text of each piece; what is wrong comes last.
    fn pieces(bytes: &[u8]) -> Vec<String> {
        let mut pieces = open(bytes);
        let mut found = Vec::new();
        loop {
            match pieces.next() {
                Ok(Some(piece)) => {
                    let text = String::from_utf8_lossy(piece.bytes);
                    let element = piece.element.map_or(String::new(), |place| format!("[{place}]"));
                    let Piece { line, column, .. } = piece;
                    found.push(format!(
                        "{line}:{column} {}{element} {text}",
                        piece.key.unwrap_or("")
                    ));
                }
                Ok(None) => return found,
                Err(Fault::Wrong(line, column, message)) => {
                    found.push(format!("{line}:{column} {message}"));
                    return found;
                }
                Err(Fault::Broken(error)) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn values_are_taken_apart_where_they_are_lists() {
        assert_eq!(pieces(b""), [""; 0]);
        assert_eq!(pieces(b" [ ] {\"data\": []}\n"), [""; 0]);
        assert_eq!(
            pieces(b"{\"data\":[{\"a\":[1]}, 2 ,\"x]\\\"\"],\"total\":{\"b\":[]},\"e\":null}"),
            ["1:10 data[0] {\"a\":[1]}", "1:21 data[1] 2", "1:24 data[2] \"x]\\\"\""]
        );
        // Another first key: whole, and one behind the other.
        assert_eq!(
            pieces(b"\xef\xbb\xbf{\"a\":1,\n\"data\":[2]}\n\n{ }[3]\n"),
            ["1:1  {\"a\":1,\n\"data\":[2]}", "4:1  { }", "4:5 [0] 3"]
        );
        assert_eq!(pieces(b"{\"data\":{}}"), ["1:1  {\"data\":{}}"]);
    }

    #[test]
    fn what_is_no_json_has_its_place() {
        for (text, message) in [
            (&b"][{}]"[..], "1:1 `][{}]` where an object or a list begins"),
            (b"{\"a\":1", "1:1 the file ends in the middle of the value that begins here"),
            (b"[1,\n2", "2:2 the file ends in the middle of a list or an object"),
            (b"[1,]", "1:4 a comma without a value behind it"),
            (b"[1 2]", "1:4 `2]` where a comma or `]` stands"),
            (b"{\"data\":[1]\n{\"data\":[2]}", "2:1 `{\"data\":[2]}` where a comma or `}` stands"),
            (b"{\"data\":[],1", "1:12 `1` where a key and its value stand"),
            (b"{\"data\":[{\"a\n\"}]}", "1:13 the line ends inside of a text in quotation marks"),
        ] {
            assert_eq!(pieces(text).last().unwrap(), message);
        }
    }

    #[test]
    fn reading_goes_on_behind_a_line_that_is_cut() {
        let mut pieces = open(b"{\"data\":[1,{\"a\":\n{\"data\":[3]}\nx\n[4]");
        assert_eq!(pieces.next().unwrap().unwrap().bytes, b"1");
        assert!(pieces.next().is_err());
        assert!(pieces.resume().unwrap());
        assert_eq!(pieces.next().unwrap().unwrap().bytes, b"3");
        assert!(pieces.next().is_err());
        assert!(pieces.resume().unwrap());
        assert_eq!(pieces.next().unwrap().unwrap().bytes, b"4");
        assert!(pieces.next().unwrap().is_none());
    }

    #[test]
    fn values_that_are_not_closed_do_not_cost_for_ever() {
        let mut pieces = open("{\n".repeat(20_000).as_bytes());
        pieces.max_wasted = 1 << 20;
        let mut resumed = 0;
        let error = loop {
            assert!(pieces.next().is_err());
            match pieces.resume() {
                Ok(true) => resumed += 1,
                Ok(false) => panic!("looked at all"),
                Err(Fault::Broken(error)) => break error.to_string(),
                Err(other) => panic!("{other:?}"),
            }
        };
        assert!(resumed < 50 && error.contains("is not JSON in so many places"), "{error}");
    }

    #[test]
    fn a_value_has_a_limit() {
        let mut pieces = open(&[b"[\"".as_slice(), &vec![b'x'; 3 << 20], b"\"]"].concat());
        pieces.limit = 1 << 20;
        let Err(Fault::Wrong(1, 2, error)) = pieces.next() else { panic!("refused") };
        assert_eq!(error, "a value of more than 1 MiB begins here");
    }

    proptest! {
        /// However the value is cut into blocks, its end is the same.
        #[test]
        fn the_end_does_not_depend_on_blocks(
            text in r#"\{("[a\\"{}]{0,4}"|[\[\]{}:,1 ]){0,8}\}"#, cut in 0..20usize,
        ) {
            let bytes = text.as_bytes();
            let whole = Scan::default().end(bytes);
            let cut = cut.min(bytes.len());
            let mut scan = Scan::default();
            let parts = match scan.end(&bytes[..cut]) {
                Ok(None) => match scan.end(&bytes[cut..]) {
                    Ok(end) => Ok(end.map(|end| end + cut)),
                    Err(at) => Err(at + cut),
                },
                other => other,
            };
            prop_assert_eq!(whole, parts);
        }
    }
}
