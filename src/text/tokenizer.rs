//! The tokenizer: text as few tokens, without loss.
//!
//! The vocabulary has the 256 bytes, so every text can be written; phrases that recur in the
//! training text, each microservice and each service, and small counts with their words
//! ([`Counts`]), which are matched longest first; and three tokens that no text contains. Other
//! numbers are single digits (bytes) outside names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Inner};

use super::instruction::NOTE;
use crate::error::UserError;

/// A phrase must occur this often in the sample of training text to become a token.
const MIN_COUNT: u64 = 20;
/// Tokens that are not text, at the start of the vocabulary.
const SPECIAL: [&str; 3] = ["<pad>", "<bos>", "<eos>"];
/// File of the tokenizer, in the format of the `tokenizers` library.
pub const FILE: &str = "tokenizer.json";

/// Counts that are one token with the words before them, so that counting is a step from token to
/// token, not arithmetic on digits.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Words that a count follows: `num_edges:`.
    pub words: &'static [&'static str],
    /// Highest count that is one token; 0 writes all of them digit by digit.
    pub most: u32,
}

impl Counts {
    fn words(&self) -> &'static [&'static str] {
        if self.most == 0 { &[] } else { self.words }
    }

    /// All tokens, whether or not a text holds them: a rare count is read like a frequent one.
    fn tokens(&self) -> impl Iterator<Item = String> + use<> {
        let most = self.most;
        let counts = move |word: &&str| -> Vec<String> {
            (0..=most).map(|count| format!("{word}{count}")).collect()
        };
        self.words().iter().flat_map(counts)
    }

    /// Length of the words and the number that begin at byte `at`, if they do.
    fn at(&self, text: &[u8], at: usize) -> Option<usize> {
        let length = |word: &&str| {
            let digits = text[at..].strip_prefix(word.as_bytes())?;
            let digits = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (digits > 0).then_some(word.len() + digits)
        };
        self.words().iter().find_map(length)
    }
}

pub struct Tokenizer {
    inner: Inner,
    /// Bytes of each token; special tokens have none.
    bytes: Vec<Vec<u8>>,
    /// Token of each byte.
    byte_tokens: [u32; 256],
}

impl Tokenizer {
    pub const PAD: u32 = 0;
    pub const BEGIN: u32 = 1;
    pub const END: u32 = 2;

    /// Learns a vocabulary: `names` become tokens, `counts`, and the phrases between values: all of
    /// `always`, and those that recur in `texts`.
    pub fn learn<'a>(
        always: impl IntoIterator<Item = &'a str>,
        texts: impl IntoIterator<Item = &'a str>,
        names: &BTreeSet<String>,
        counts: Counts,
    ) -> Result<Self> {
        let mut found: BTreeMap<String, u64> = BTreeMap::new();
        let mut count = |text: &str, occurrences: u64| {
            phrases(text, counts, &mut |phrase| match found.get_mut(phrase) {
                Some(count) => *count += occurrences,
                None => {
                    found.insert(phrase.to_owned(), occurrences);
                }
            });
        };
        always.into_iter().for_each(|text| count(text, MIN_COUNT));
        texts.into_iter().for_each(|text| count(text, 1));
        let mut phrases: Vec<(u64, String)> = found
            .into_iter()
            .filter(|(_, count)| *count >= MIN_COUNT)
            .map(|(phrase, count)| (count, phrase))
            .collect();
        phrases.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let phrases = phrases.into_iter().map(|(_, phrase)| phrase);
        Self::with_phrases(phrases.chain(counts.tokens()), names)
    }

    /// A vocabulary of bytes, `phrases` and `names`.
    pub fn with_phrases(
        phrases: impl IntoIterator<Item = String>,
        names: &BTreeSet<String>,
    ) -> Result<Self> {
        let words = phrases.into_iter().chain(names.iter().cloned());
        Self::with_words(&words.filter(|word| word.len() > 1).collect::<Vec<_>>())
    }

    /// Bytes and `words`; no merges, so that a special token's text stays apart from the token.
    fn with_words(words: &[String]) -> Result<Self> {
        let alphabet: BTreeSet<char> = ByteLevel::alphabet().into_iter().collect();
        let special = SPECIAL.iter().map(|word| (*word).to_owned());
        let vocabulary = special.chain(alphabet.into_iter().map(String::from)).zip(0..);
        let bpe = BPE::new(vocabulary.collect(), Vec::new());
        let mut inner = Inner::new(bpe);
        inner.with_pre_tokenizer(Some(ByteLevel::new(false, false, false)));
        inner.with_decoder(Some(ByteLevel::new(false, false, false)));
        let words: Vec<AddedToken> = words
            .iter()
            .map(|word| AddedToken::from(word.clone(), false).normalized(false))
            .collect();
        inner.add_tokens(&words);
        Self::new(inner)
    }

    fn new(inner: Inner) -> Result<Self> {
        let size = inner.get_vocab_size(true);
        let added = inner.get_added_tokens_decoder();
        let of_char = byte_of_char();
        let mut bytes = Vec::with_capacity(size);
        let mut byte_tokens = [0; 256];
        for id in 0..size as u32 {
            let token = inner.id_to_token(id).ok_or_else(|| anyhow!("token {id} is missing"))?;
            bytes.push(match added.get(&id) {
                Some(word) => word.content.clone().into_bytes(),
                None if SPECIAL.contains(&token.as_str()) => Vec::new(),
                None => {
                    let byte = token.chars().next().and_then(|char| of_char.get(&char).copied());
                    let byte = byte.ok_or_else(|| anyhow!("token {id} `{token}` is not a byte"))?;
                    byte_tokens[usize::from(byte)] = id;
                    vec![byte]
                }
            });
        }
        for (id, name) in SPECIAL.iter().enumerate() {
            ensure!(inner.token_to_id(name) == Some(id as u32), "token {id} is not {name}");
        }
        Ok(Self { inner, bytes, byte_tokens })
    }

    /// Number of tokens.
    pub fn vocabulary(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of each token, by id; special tokens have none.
    pub fn token_bytes(&self) -> &[Vec<u8>] {
        &self.bytes
    }

    /// Tokens of a text; decoding them gives the text back.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding =
            self.inner.encode_fast(text, false).map_err(|error| anyhow!("tokenizer: {error}"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The same text with the token of `name` written byte by byte, as a name outside the vocabulary
    /// is: a model that meets known names so in training can read unknown ones.
    pub fn spell(&self, name: &str, tokens: &[u32]) -> Vec<u32> {
        let word = self.inner.token_to_id(name);
        let token_of = |byte: &u8| self.byte_tokens[usize::from(*byte)];
        let spelt: Vec<u32> = name.as_bytes().iter().map(token_of).collect();
        let mut all = Vec::with_capacity(tokens.len() + 4 * spelt.len());
        for token in tokens {
            if word == Some(*token) { all.extend_from_slice(&spelt) } else { all.push(*token) }
        }
        all
    }

    /// Text of tokens. Special tokens and ids outside the vocabulary have none; bytes that are not
    /// UTF-8 (which a model may put out) become U+FFFD.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let bytes = tokens.iter().filter_map(|token| self.bytes.get(*token as usize)).flatten();
        let bytes: Vec<u8> = bytes.copied().collect();
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// Whether some of the tokens are special. They have no text, so an answer must not hold them.
    pub fn any_special(tokens: &[u32]) -> bool {
        tokens.iter().any(|token| (*token as usize) < SPECIAL.len())
    }

    pub fn save(&self, dir: &Path) -> Result<()> {
        let text = self.inner.to_string(true).map_err(|error| anyhow!("tokenizer: {error}"))?;
        let path = dir.join(FILE);
        std::fs::write(&path, text + "\n")
            .map_err(|error| UserError::io(&path, "cannot be written", error))?;
        Ok(())
    }

    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let inner = Inner::from_file(&path)
            .map_err(|error| UserError::input(&path, "tokenizer", error.to_string()))?;
        Self::new(inner)
    }
}

/// The byte that each character of the byte-level alphabet stands for.
fn byte_of_char() -> std::collections::HashMap<char, u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut other = 0u32;
    (0..=255u8)
        .map(|byte| {
            if printable(byte) {
                return (char::from(byte), byte);
            }
            other += 1;
            (char::from_u32(255 + other).unwrap_or('\u{fffd}'), byte)
        })
        .collect()
}

/// Calls `found` with every phrase of `text`: the stretches between values (names, counts with
/// their words, digits), cut before each separator, so that a phrase is a separator and the words up
/// to the next value.
fn phrases(text: &str, counts: Counts, found: &mut impl FnMut(&str)) {
    let bytes = text.as_bytes();
    let (mut start, mut at) = (0, 0);
    while at < bytes.len() {
        let number = bytes[at].is_ascii_digit().then_some(1);
        let value = number.or_else(|| name_at(text, at)).or_else(|| counts.at(bytes, at));
        if let Some(length) = value {
            cut(&text[start..at], found);
            at += length;
            start = at;
        } else {
            at += 1;
        }
    }
    cut(&text[start..], found);
}

/// Length of the name that starts at byte `at`, if the words before it are those that precede names.
fn name_at(text: &str, at: usize) -> Option<usize> {
    let before = &text.as_bytes()[..at];
    let precedes = ["destination is ", "source is ", "id:", "start_node:", "caller:"];
    if !precedes.iter().any(|words| before.ends_with(words.as_bytes())) {
        return None;
    }
    let end = text[at..].find([',', ')', '/', '<', '\n']).map_or(text.len(), |end| at + end);
    (end > at).then_some(end - at)
}

/// Beginnings of lines that follow on many others: list items and notes, and the first line of an
/// answer.
const LINES: [&str; 3] = [NOTE, "<layer>", "<split>"];

/// Cuts a stretch before `,`, `)`, `/`, a `<` that does not begin a line and the line break before one
/// of [`LINES`]; the unit of a time stays with what follows it, except at the end of a line.
fn cut(stretch: &str, found: &mut impl FnMut(&str)) {
    let bytes = stretch.as_bytes();
    let mut start = 0;
    for at in 1..bytes.len() {
        let separator = match bytes[at] {
            b',' | b')' => true,
            b'/' => bytes[at - 1] != b'<',
            b'\n' => LINES.iter().any(|line| stretch[at + 1..].starts_with(line)),
            b'<' => bytes[at - 1] != b'\n' && bytes[at - 1] != b'>',
            _ => false,
        };
        if separator && (bytes[at] == b'\n' || &stretch[start..at] != " milliseconds") {
            found(&stretch[start..at]);
            start = at;
        }
    }
    if start < bytes.len() {
        found(&stretch[start..]);
    }
}
