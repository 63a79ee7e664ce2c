//! Constrained decoding: automata that permit only texts which can still become a complete, valid
//! graph as asked for.
//!
//! A [`Grammar`] knows a format and carries the counters; it says what may come next as literals,
//! numbers from a set of ranges, or names. An [`Automaton`] turns that into tokens: it walks the
//! vocabulary as a trie of bytes, so that a token may span the end of one piece and the beginning of
//! the next, as the tokens of phrases do. No state is a dead end: whatever is permitted leaves
//! something to continue with (the tests try it with random choices).

mod compact;
mod counts;
mod prose;
mod ranges;
mod step;
mod table;
mod trie;

#[cfg(test)]
mod tests;

use std::rc::Rc;

pub use self::compact::Compact;
pub use self::prose::Prose;
pub use self::ranges::Ranges;
pub use self::step::Bounds;
pub use self::table::Table;
pub use self::trie::TokenTrie;
use super::Tokenizer;
use crate::graph::{Condition, Violation, ViolationCode};

/// Calls of a graph, at most: every step must fit what a model is given to decode.
const MOST_EDGES: u32 = 400;
/// Depth of a graph, at most.
const MOST_DEPTH: u32 = 40;

/// What may come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// One of these texts, none of which begins another.
    Literals(Vec<String>),
    /// One of these numbers.
    Number(Ranges),
    /// One of these prefixes followed by a number of its range: ids of edges in a table.
    Ids(Vec<(String, Ranges)>),
    /// The name of a microservice, as texts write it; among these, if they are given.
    Name(Option<Vec<String>>),
    End,
}

/// A piece of text that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Which of the literals.
    Literal(usize),
    Number(u32),
    /// Which of the ids' prefixes, and the number.
    Id(usize, u32),
    Name(&'a str),
}

/// A format with the counters of one text.
pub trait Grammar: Clone {
    fn expect(&self) -> Expect;

    /// Takes a piece that [`Grammar::expect`] permits.
    fn accept(&mut self, piece: Piece<'_>);
}

/// Why a request cannot be answered by any valid graph, or not within limits.
///
/// # Errors
/// An infeasible request, with the reason.
pub fn check_request(condition: &Condition) -> Result<(), Violation> {
    let refused = |detail: String| Err(Violation::new(ViolationCode::Infeasible, detail));
    match (condition.num_edges, condition.depth) {
        (Some(0), _) => refused("a graph has one edge at least, not 0".into()),
        (_, Some(0)) => refused("a graph has depth 1 at least, not 0".into()),
        (Some(edges), Some(depth)) if depth > edges => {
            refused(format!("a depth of {depth} needs {depth} edges, not {edges}"))
        }
        (Some(edges), Some(1)) if edges > 1 => {
            refused(format!("a graph of {edges} edges has depth 2 at least, not 1"))
        }
        (Some(edges), _) if edges > MOST_EDGES => {
            refused(format!("{edges} edges are more than the {MOST_EDGES} that are decoded"))
        }
        (_, Some(depth)) if depth > MOST_DEPTH => {
            refused(format!("a depth of {depth} is more than the {MOST_DEPTH} that are decoded"))
        }
        (None, None) => refused("constrained decoding needs num_edges or depth".into()),
        _ => Ok(()),
    }
}

impl Expect {
    /// Whether something that is expected begins with `text`.
    fn extends(&self, text: &[u8]) -> bool {
        match self {
            Self::Literals(literals) => {
                literals.iter().any(|literal| literal.as_bytes().starts_with(text))
            }
            Self::Number(ranges) => ranges.extends(text),
            Self::Ids(ids) => ids.iter().any(|(prefix, numbers)| {
                let prefix = prefix.as_bytes();
                match text.strip_prefix(prefix) {
                    Some(digits) => numbers.extends(digits),
                    None => prefix.starts_with(text) && numbers.extends(b""),
                }
            }),
            Self::Name(_) | Self::End => false,
        }
    }

    /// The piece that `text` is, if it is whole.
    fn complete(&self, text: &[u8]) -> Option<Piece<'static>> {
        match self {
            Self::Literals(literals) => {
                let found = literals.iter().position(|literal| literal.as_bytes() == text);
                found.map(Piece::Literal)
            }
            Self::Number(ranges) => ranges.complete(text).map(Piece::Number),
            Self::Ids(ids) => ids.iter().enumerate().find_map(|(index, (prefix, numbers))| {
                let digits = text.strip_prefix(prefix.as_bytes())?;
                Some(Piece::Id(index, numbers.complete(digits)?))
            }),
            Self::Name(_) | Self::End => None,
        }
    }
}

/// A place in a text: a state of the grammar, and what is written of the piece under way.
#[derive(Clone)]
struct Cursor<G> {
    grammar: Rc<G>,
    expect: Rc<Expect>,
    text: Vec<u8>,
}

impl<G: Grammar> Cursor<G> {
    fn new(grammar: G) -> Self {
        let expect = Rc::new(grammar.expect());
        Self { grammar: Rc::new(grammar), expect, text: Vec::new() }
    }

    fn after(&self, piece: Piece<'_>) -> Self {
        let mut grammar = G::clone(&self.grammar);
        grammar.accept(piece);
        Self::new(grammar)
    }

    /// The place behind `byte`, if it may come next.
    fn step(&self, byte: u8) -> Option<Self> {
        // A number ends where something else begins.
        self.within(byte).or_else(|| self.ended()?.step(byte))
    }

    /// The place behind `byte`, if the piece under way may go on with it.
    fn within(&self, byte: u8) -> Option<Self> {
        let mut text = Vec::with_capacity(self.text.len() + 1);
        text.extend_from_slice(&self.text);
        text.push(byte);
        if !self.expect.extends(&text) {
            return None;
        }
        if let Expect::Literals(_) = *self.expect
            && let Some(piece) = self.expect.complete(&text)
        {
            return Some(self.after(piece));
        }
        Some(Self { grammar: self.grammar.clone(), expect: self.expect.clone(), text })
    }

    /// The place behind the number or id under way, if it is whole.
    fn ended(&self) -> Option<Self> {
        match *self.expect {
            Expect::Number(_) | Expect::Ids(_) => {
                Some(self.after(self.expect.complete(&self.text)?))
            }
            _ => None,
        }
    }

    /// Whether a number or id is under way or may come next.
    fn is_number(&self) -> bool {
        matches!(*self.expect, Expect::Number(_) | Expect::Ids(_))
    }

    /// Whether the text may end here.
    fn may_end(&self) -> bool {
        match *self.expect {
            Expect::End => true,
            _ => self.ended().is_some_and(|ended| *ended.expect == Expect::End),
        }
    }

    /// Bytes that may come next where only literals can.
    fn literal_bytes(&self) -> Option<Vec<u8>> {
        let Expect::Literals(literals) = &*self.expect else { return None };
        let matching = literals.iter().filter(|l| l.as_bytes().starts_with(&self.text));
        let mut bytes: Vec<u8> =
            matching.filter_map(|l| l.as_bytes().get(self.text.len()).copied()).collect();
        bytes.sort_unstable();
        bytes.dedup();
        Some(bytes)
    }
}

/// The tokens that a grammar permits, one after the other.
pub struct Automaton<G> {
    vocabulary: Rc<TokenTrie>,
    cursor: Cursor<G>,
    /// Ends of tokens from which a longer token could still grow; see [`TokenTrie::walk`].
    open: Vec<usize>,
}

impl<G: Grammar> Automaton<G> {
    pub fn new(vocabulary: Rc<TokenTrie>, grammar: G) -> Self {
        Self { vocabulary, cursor: Cursor::new(grammar), open: Vec::new() }
    }

    /// Replaces `tokens` by those that may come next, ascending.
    ///
    /// Training texts are written with the longest tokens, so a text is written in that way only: a
    /// token is left out where a longer one takes its place (`num_edges:1` where 12 must follow), and
    /// where it would complete a longer one in pieces. Where only one text is possible, its tokens are
    /// forced.
    pub fn permitted(&self, tokens: &mut Vec<u32>) {
        tokens.clear();
        match &*self.cursor.expect {
            Expect::Name(None) => tokens.extend_from_slice(self.vocabulary.microservices()),
            Expect::Name(Some(names)) => {
                tokens.extend(names.iter().filter_map(|name| self.vocabulary.token(name)));
            }
            _ => self.vocabulary.walk(&self.cursor, &self.open, tokens),
        }
        if self.cursor.may_end() {
            tokens.push(Tokenizer::END);
        }
        tokens.sort_unstable();
        tokens.dedup();
    }

    /// Takes a token that is permitted.
    pub fn push(&mut self, token: u32) {
        self.vocabulary.push(&mut self.open, token);
        if let Expect::Name(_) = *self.cursor.expect {
            if let Some(name) = self.vocabulary.name(token) {
                self.cursor = self.cursor.after(Piece::Name(name));
            }
            return;
        }
        for byte in self.vocabulary.bytes(token) {
            match self.cursor.step(*byte) {
                Some(next) => self.cursor = next,
                None => debug_assert!(false, "token {token} is not permitted"),
            }
        }
    }
}
