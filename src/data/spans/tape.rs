//! One JSON value in memory, read as loosely as exporters write: keys in any order, numbers as text,
//! `null` for what is not there. Every complaint says at which key.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::data::table::shown;

/// Why a value cannot be used, and where in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// Keys and places of elements: `spans[2].startTimeUnixNano`.
    pub path: String,
    pub message: String,
}

impl Problem {
    pub fn new(message: impl Into<String>) -> Self {
        Self { path: String::new(), message: message.into() }
    }

    /// The problem as one of the value that has its place at `key`.
    pub fn inside(self, key: &str) -> Self {
        let divided = self.path.is_empty() || self.path.starts_with('[');
        let dot = if divided { "" } else { "." };
        Self { path: format!("{key}{dot}{}", self.path), ..self }
    }

    /// The problem as one of the list that has its place at `element`.
    pub fn inside_list(self, element: usize) -> Self {
        self.inside(&format!("[{element}]"))
    }
}

/// A part of a value. Lists and objects are followed by what is in them, keys before their values.
#[derive(Clone, Copy, Debug)]
enum Token {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    /// Bytes of the source.
    Text(u32, u32),
    /// Bytes of `unescaped`.
    Unescaped(u32, u32),
    /// The token behind the list.
    List(u32),
    /// The token behind the object.
    Map(u32),
}

/// The parts of one value after another; keeps its memory for the next one.
#[derive(Default)]
pub struct Tape {
    tokens: Vec<Token>,
    /// Texts that have escapes in the source.
    unescaped: String,
}

impl Tape {
    /// Reads `bytes`, which are one value.
    ///
    /// # Errors
    /// Bytes that are not JSON, with line and column in them, from 1.
    pub fn read<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Node<'a>, (String, u64, u64)> {
        self.tokens.clear();
        self.unescaped.clear();
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = &bytes[..error.valid_up_to()];
            let lines = before.iter().filter(|byte| **byte == b'\n').count() as u64;
            let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() as u64;
            ("the text is not UTF-8".to_owned(), lines + 1, column + 1)
        })?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let seed = Seed { tape: self, base: text.as_ptr() as usize };
        let read = seed.deserialize(&mut deserializer).and_then(|()| deserializer.end());
        read.map_err(|error| {
            let message = error.to_string();
            // The place is told by the caller.
            let message =
                message.rsplit_once(" at line ").map_or(message.as_str(), |(head, _)| head);
            (message.to_owned(), error.line() as u64, error.column() as u64)
        })?;
        Ok(Node { tokens: &self.tokens, unescaped: &self.unescaped, text, at: 0 })
    }
}

struct Seed<'t> {
    tape: &'t mut Tape,
    /// Address of the source's first byte.
    base: usize,
}

impl Seed<'_> {
    fn push<E: Error>(&mut self, token: Token) -> Result<(), E> {
        // Pieces are smaller than 4 GiB, and so is their number of parts.
        self.tape.tokens.push(token);
        Ok(())
    }

    fn close(&mut self, at: usize, token: fn(u32) -> Token) {
        let end = self.tape.tokens.len() as u32;
        self.tape.tokens[at] = token(end);
    }

    fn again(&mut self) -> Seed<'_> {
        Seed { tape: self.tape, base: self.base }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.push(Token::Null)
    }

    fn visit_bool<E: Error>(mut self, value: bool) -> Result<(), E> {
        self.push(Token::Bool(value))
    }

    fn visit_u64<E: Error>(mut self, value: u64) -> Result<(), E> {
        self.push(Token::Unsigned(value))
    }

    fn visit_i64<E: Error>(mut self, value: i64) -> Result<(), E> {
        self.push(Token::Signed(value))
    }

    fn visit_f64<E: Error>(mut self, value: f64) -> Result<(), E> {
        self.push(Token::Float(value))
    }

    fn visit_borrowed_str<E: Error>(mut self, text: &'de str) -> Result<(), E> {
        let start = text.as_ptr() as usize - self.base;
        self.push(Token::Text(start as u32, text.len() as u32))
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        let start = self.tape.unescaped.len() as u32;
        self.tape.unescaped.push_str(text);
        self.push(Token::Unescaped(start, text.len() as u32))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        let at = self.tape.tokens.len();
        self.push(Token::Null)?;
        while list.next_element_seed(self.again())?.is_some() {}
        self.close(at, Token::List);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let at = self.tape.tokens.len();
        self.push(Token::Null)?;
        while map.next_key_seed(self.again())?.is_some() {
            map.next_value_seed(self.again())?;
        }
        self.close(at, Token::Map);
        Ok(())
    }
}

/// A value, or a part of one.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    tokens: &'a [Token],
    unescaped: &'a str,
    text: &'a str,
    at: usize,
}

impl<'a> Node<'a> {
    fn token(self) -> Token {
        self.tokens[self.at]
    }

    /// The token behind this part.
    fn end(self) -> usize {
        match self.token() {
            Token::List(end) | Token::Map(end) => end as usize,
            _ => self.at + 1,
        }
    }

    fn parts(self) -> impl Iterator<Item = Node<'a>> {
        let end = self.end();
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            (at < end).then(|| {
                let part = Node { at, ..self };
                at = part.end();
                part
            })
        })
    }

    pub fn is_null(self) -> bool {
        matches!(self.token(), Token::Null)
    }

    pub fn is_map(self) -> bool {
        matches!(self.token(), Token::Map(_))
    }

    pub fn is_list(self) -> bool {
        matches!(self.token(), Token::List(_))
    }

    /// The value as text, if it is one.
    pub fn as_text(self) -> Option<&'a str> {
        let range = |start: u32, length: u32| start as usize..start as usize + length as usize;
        match self.token() {
            Token::Text(start, length) => Some(&self.text[range(start, length)]),
            Token::Unescaped(start, length) => Some(&self.unescaped[range(start, length)]),
            _ => None,
        }
    }

    /// The value as a boolean, if it is one.
    pub fn as_bool(self) -> Option<bool> {
        match self.token() {
            Token::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// Whether it is a number with a fraction or an exponent, or one that 64 bits have no room for.
    pub fn is_float(self) -> bool {
        matches!(self.token(), Token::Float(_))
    }

    /// Elements of a list; none of `null`.
    ///
    /// # Errors
    /// Another value.
    pub fn list(self) -> Result<impl Iterator<Item = Node<'a>>, Problem> {
        match self.token() {
            Token::List(_) => Ok(Some(self.parts()).into_iter().flatten()),
            Token::Null => Ok(None.into_iter().flatten()),
            _ => Err(self.is_not("a list")),
        }
    }

    /// Keys and values of an object; none of `null`.
    ///
    /// # Errors
    /// Another value.
    pub fn map(self) -> Result<impl Iterator<Item = (&'a str, Node<'a>)>, Problem> {
        let parts = match self.token() {
            Token::Map(_) => Some(self.parts()),
            Token::Null => None,
            _ => return Err(self.is_not("an object")),
        };
        let mut parts = parts.into_iter().flatten();
        Ok(std::iter::from_fn(move || {
            let key = parts.next()?.as_text().expect("keys are texts");
            Some((key, parts.next().expect("a key has a value")))
        }))
    }

    /// The value of a key of an object, of its last entry if there are several; `null` is none.
    pub fn get(self, key: &str) -> Option<Node<'a>> {
        let entries = self.map().ok()?;
        entries
            .filter(|(name, _)| *name == key)
            .map(|(_, value)| value)
            .last()
            .filter(|v| !v.is_null())
    }

    /// A text; empty for `null`.
    ///
    /// # Errors
    /// Another value.
    pub fn text(self) -> Result<&'a str, Problem> {
        match self.as_text() {
            Some(text) => Ok(text),
            None if self.is_null() => Ok(""),
            None => Err(self.is_not("a text")),
        }
    }

    /// A whole number that is not negative, as a number or in a text, to its last digit; 0 for `null` and
    /// the empty text.
    ///
    /// # Errors
    /// Another value: one with a fraction, or one that a floating-point number has no room for.
    pub fn unsigned(self) -> Result<u64, Problem> {
        match self.token() {
            Token::Null => Ok(0),
            Token::Unsigned(value) => Ok(value),
            Token::Float(value) if value >= 0.0 && is_whole(value) => Ok(value as u64),
            _ => match self.as_text() {
                Some("") => Ok(0),
                Some(text) => text.trim().parse().map_err(|_| self.is_not("a whole number from 0")),
                None => Err(self.is_not("a whole number from 0")),
            },
        }
    }

    /// A whole number, as a number or in a text, to its last digit.
    ///
    /// # Errors
    /// Another value.
    pub fn signed(self) -> Result<i64, Problem> {
        let wrong = || self.is_not("a whole number of 64 bits");
        match self.token() {
            Token::Signed(value) => Ok(value),
            Token::Unsigned(value) => i64::try_from(value).map_err(|_| wrong()),
            Token::Float(value) if is_whole(value) => Ok(value as i64),
            _ => self.as_text().and_then(|text| text.trim().parse().ok()).ok_or_else(wrong),
        }
    }

    /// A number, as a number or in a text.
    ///
    /// # Errors
    /// Another value.
    pub fn double(self) -> Result<f64, Problem> {
        match self.token() {
            Token::Float(value) => Ok(value),
            Token::Unsigned(value) => Ok(value as f64),
            Token::Signed(value) => Ok(value as f64),
            _ => {
                let number = self.as_text().and_then(|text| text.trim().parse().ok());
                number.ok_or_else(|| self.is_not("a number"))
            }
        }
    }

    /// That the value is not what it should be.
    pub fn is_not(self, wanted: &str) -> Problem {
        let found = match self.token() {
            Token::Null => "`null`".to_owned(),
            Token::Bool(value) => format!("`{value}`"),
            Token::Unsigned(value) => format!("`{value}`"),
            Token::Signed(value) => format!("`{value}`"),
            Token::Float(value) => format!("`{value}`"),
            Token::List(_) => "a list".to_owned(),
            Token::Map(_) => {
                let keys: Vec<&str> =
                    self.map().into_iter().flatten().map(|(key, _)| key).take(4).collect();
                format!("an object with the keys `{}`", shown(&keys.join(", ")))
            }
            Token::Text(..) | Token::Unescaped(..) => {
                format!("`{}`", shown(self.as_text().unwrap_or_default()))
            }
        };
        Problem::new(format!("{found} is not {wanted}"))
    }
}

/// Whether a floating-point number is a whole one that it can tell from its neighbours.
fn is_whole(value: f64) -> bool {
    value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_or_refused() {
        let mut tape = Tape::default();
        let mut number = |text: &str| {
            let node = tape.read(text.as_bytes()).unwrap();
            node.unsigned().map_err(|problem| problem.message)
        };
        for text in ["1700000000000000001", "\"1700000000000000001\"", "\" 1700000000000000001 \""]
        {
            assert_eq!(number(text), Ok(1_700_000_000_000_000_001), "{text}");
        }
        assert_eq!(number("18446744073709551615"), Ok(u64::MAX));
        for (text, zero) in [("null", 0), ("\"\"", 0), ("3.0", 3), ("1e3", 1000)] {
            assert_eq!(number(text), Ok(zero), "{text}");
        }
        for text in ["-1", "1.5", "1e300", "18446744073709551616", "\"x\"", "true", "[]", "\"-1\""]
        {
            assert!(number(text).unwrap_err().ends_with(" is not a whole number from 0"), "{text}");
        }
        let parts = number("{\"low\":1,\"high\":2}").unwrap_err();
        assert_eq!(parts, "an object with the keys `low, high` is not a whole number from 0");
    }

    #[test]
    fn lists_and_objects_are_walked() {
        let text = br#"{"a":[1,{"b":"x\n"},[]],"c":null,"a":"last","d":{"e":{}}}"#;
        let mut tape = Tape::default();
        let node = tape.read(text).unwrap();
        let keys: Vec<&str> = node.map().unwrap().map(|(key, _)| key).collect();
        assert_eq!(keys, ["a", "c", "a", "d"]);
        assert_eq!(node.get("a").unwrap().as_text(), Some("last"));
        assert!(node.get("c").is_none() && node.get("z").is_none());
        let first = node.map().unwrap().next().unwrap().1;
        let elements: Vec<Node> = first.list().unwrap().collect();
        assert_eq!(elements.len(), 3);
        assert_eq!(elements[1].get("b").unwrap().as_text(), Some("x\n"));
        let problem = elements[1].unsigned().unwrap_err().inside_list(1).inside("a");
        assert_eq!(problem.path, "a[1]");
    }

    #[test]
    fn what_is_no_json_has_its_place() {
        let mut tape = Tape::default();
        for (bytes, line, column) in [
            (&b"{\"a\":}"[..], 1, 6),
            (b"[1,\n2}", 2, 2),
            (b"[1] 2", 1, 5),
            (b"[\n\"\xff\"]", 2, 2),
        ] {
            let (_, at_line, at_column) = tape.read(bytes).err().unwrap();
            assert_eq!((at_line, at_column), (line, column));
        }
        // Depth has a limit.
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(tape.read(deep.as_bytes()).err().unwrap().0.contains("recursion limit"));
    }
}
