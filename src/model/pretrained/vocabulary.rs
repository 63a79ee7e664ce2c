//! Tokenizers of pretrained models: from `tokenizer.json`, or from a GGUF file's metadata.
//!
//! The metadata are written as the `tokenizer.json` that Hugging Face would have, which the
//! `tokenizers` library reads: one format, one implementation.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::read_text;
use crate::error::UserError;

/// How text becomes pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Merges of byte-level pieces, text split first.
    Bpe(Split),
    /// SentencePiece with scores.
    SentencePiece,
}

/// How text is split before merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    Gpt2,
    /// As GPT-2, digits one by one.
    SmolLm,
    /// Llama 3: digits in groups of up to three.
    Llama3,
}

/// Llama 3's expression, as in its `tokenizer.json`.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Longest token, bytes: all its cuts are looked at.
const MAX_TOKEN: usize = 1024;

/// Types of tokens in GGUF files.
const UNKNOWN: f64 = 2.0;
const CONTROL: f64 = 3.0;
const USER_DEFINED: f64 = 4.0;

impl Kind {
    /// The kind that GGUF files name so.
    pub fn of_ggml(model: &str, pre: Option<&str>) -> Option<Self> {
        Some(match (model, pre) {
            ("llama", _) => Self::SentencePiece,
            ("gpt2", Some("gpt-2")) => Self::Bpe(Split::Gpt2),
            ("gpt2", Some("smollm")) => Self::Bpe(Split::SmolLm),
            ("gpt2", Some("llama-bpe" | "llama3" | "llama-v3")) => Self::Bpe(Split::Llama3),
            _ => return None,
        })
    }

    /// Whether texts begin with the token for the beginning if the file does not say.
    pub fn adds_begin(self) -> bool {
        matches!(self, Self::SentencePiece | Self::Bpe(Split::Llama3))
    }
}

/// What a GGUF file tells of its vocabulary.
#[derive(Clone, Debug)]
pub struct Pieces {
    pub kind: Kind,
    pub tokens: Vec<String>,
    /// `left right`, the strongest first.
    pub merges: Vec<String>,
    pub scores: Vec<f64>,
    pub types: Vec<f64>,
    pub begin: Option<u32>,
    pub ends: Vec<u32>,
    pub unknown: Option<u32>,
    /// Texts begin with the token `begin`.
    pub add_begin: bool,
    /// Texts begin with a space (SentencePiece).
    pub add_space: bool,
}

impl Pieces {
    /// Checks that the lists fit together.
    ///
    /// # Errors
    /// Tells which do not.
    pub fn check(&self) -> Result<(), String> {
        let count = self.tokens.len();
        if count == 0 {
            return Err("tokens: there are none".to_owned());
        }
        if let Some(id) = self.tokens.iter().position(|token| token.len() > MAX_TOKEN) {
            let length = self.tokens[id].len();
            return Err(format!("tokens: token {id} has {length} bytes, more than {MAX_TOKEN}"));
        }
        let distinct: BTreeSet<&String> = self.tokens.iter().collect();
        if distinct.len() != count {
            return Err(format!("tokens: {} of {count} occur twice", count - distinct.len()));
        }
        let lists = [("scores", self.scores.len()), ("token_type", self.types.len())];
        for (name, length) in lists {
            if length != 0 && length != count {
                return Err(format!("{name}: {length} entries for {count} tokens"));
            }
        }
        if self.kind == Kind::SentencePiece && self.scores.is_empty() {
            return Err("scores: are missing".to_owned());
        }
        let named = self.begin.iter().chain(&self.ends).chain(&self.unknown);
        match named.copied().find(|id| *id as usize >= count) {
            Some(id) => Err(format!("token {id} is named, but there are {count}")),
            None => Ok(()),
        }
    }

    /// The same as a `tokenizer.json`.
    pub fn to_json(&self) -> Value {
        let (model, normalizer, pre_tokenizer, decoder) = match self.kind {
            Kind::Bpe(split) => self.byte_level(split),
            Kind::SentencePiece => self.sentence_piece(),
        };
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.added_tokens(),
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": self.template(),
            "decoder": decoder,
            "model": model,
        })
    }

    fn vocabulary(&self) -> serde_json::Map<String, Value> {
        self.tokens.iter().zip(0u32..).map(|(token, id)| (token.clone(), id.into())).collect()
    }

    fn added_tokens(&self) -> Vec<Value> {
        let tokens = self.tokens.iter().zip(&self.types).zip(0u32..);
        let added = tokens.filter(|((_, kind), _)| [UNKNOWN, CONTROL, USER_DEFINED].contains(kind));
        added
            .map(|((token, kind), id)| {
                json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": *kind != USER_DEFINED,
                })
            })
            .collect()
    }

    /// Model, normalizer, pre-tokenizer and decoder of byte-level merges.
    fn byte_level(&self, split: Split) -> (Value, Value, Value, Value) {
        let bytes = |use_regex: bool| {
            json!({
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                "use_regex": use_regex,
            })
        };
        let sequence = |first: Value, second: Value| json!({"type": "Sequence", "pretokenizers": [first, second]});
        let pre_tokenizer = match split {
            Split::Gpt2 => bytes(true),
            Split::SmolLm => {
                sequence(json!({"type": "Digits", "individual_digits": true}), bytes(true))
            }
            Split::Llama3 => {
                let pattern = json!({"Regex": LLAMA3});
                let split = json!({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false});
                sequence(split, bytes(false))
            }
        };
        let pair = |merge: &String| json!(merge.split_once(' ').unwrap_or_default());
        let merges: Vec<Value> = self.merges.iter().map(pair).collect();
        let model = json!({
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            // Llama 3 takes a word that is a token as it is, whatever the merges say.
            "ignore_merges": split == Split::Llama3,
            "vocab": self.vocabulary(), "merges": merges,
        });
        (model, Value::Null, pre_tokenizer, bytes(true))
    }

    /// The same for SentencePiece: its greedy joining by score is that of merges in order of the
    /// score of their result, and unknown characters are spelt in bytes.
    fn sentence_piece(&self) -> (Value, Value, Value, Value) {
        let unknown = self.unknown.map(|id| &self.tokens[id as usize]);
        let model = json!({
            "type": "BPE", "dropout": null, "unk_token": unknown,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": true, "ignore_merges": false,
            "vocab": self.vocabulary(), "merges": self.merges_by_score(),
        });
        let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        let prepend = json!({"type": "Prepend", "prepend": "▁"});
        let normalizers = if self.add_space { vec![prepend, replace] } else { vec![replace] };
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if self.add_space {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        let normalizer = json!({"type": "Sequence", "normalizers": normalizers});
        (model, normalizer, Value::Null, json!({"type": "Sequence", "decoders": decoders}))
    }

    /// Every way to put a piece together from two others, the highest score first.
    fn merges_by_score(&self) -> Vec<(&str, &str)> {
        let ids: HashMap<&str, usize> = self.tokens.iter().map(String::as_str).zip(0..).collect();
        let normal = |id: usize| self.types.get(id).is_none_or(|kind| *kind == 1.0);
        let mut merges = Vec::new();
        for (id, token) in self.tokens.iter().enumerate().filter(|(id, _)| normal(*id)) {
            for (cut, _) in token.char_indices().skip(1) {
                let (left, right) = token.split_at(cut);
                if let (Some(l), Some(r)) = (ids.get(left), ids.get(right)) {
                    merges.push((self.scores[id], *l, *r, left, right));
                }
            }
        }
        merges.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        merges.into_iter().map(|(_, _, _, left, right)| (left, right)).collect()
    }

    /// What puts the token for the beginning in front.
    fn template(&self) -> Value {
        let Some(begin) = self.begin.filter(|_| self.add_begin) else { return Value::Null };
        let token = &self.tokens[begin as usize];
        let special = json!({"SpecialToken": {"id": token, "type_id": 0}});
        let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
        json!({
            "type": "TemplateProcessing",
            "single": [special, text("A")],
            "pair": [special, text("A"), text("B")],
            "special_tokens": {token: {"id": token, "ids": [begin], "tokens": [token]}},
        })
    }
}

/// A pretrained model's tokenizer with its tokens for beginning and end.
pub struct PretrainedTokenizer {
    inner: Tokenizer,
    /// Token with which a text begins, if the model has one.
    pub begin: Option<u32>,
    /// Tokens that end an answer.
    pub ends: Vec<u32>,
}

impl PretrainedTokenizer {
    /// Reads `tokenizer.json` at `path`.
    ///
    /// # Errors
    /// A missing, oversized or damaged file; tokens that would not get the ids that the file tells.
    pub fn load(path: &Path, begin: Option<u32>, ends: Vec<u32>) -> Result<Self> {
        let wrong = |message: String| UserError::input(path, "tokenizer", message);
        let mut text = read_text(path)?;
        let mut file: Value =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        // The library numbers added tokens in the order of the list.
        if let Some(added) = file.get_mut("added_tokens").and_then(Value::as_array_mut)
            && !added.is_sorted_by_key(id)
        {
            added.sort_by_key(id);
            text = serde_json::to_string(&file)?;
        }
        let inner = text.parse::<Tokenizer>().map_err(|error| wrong(error.to_string()))?;
        check_ids(&inner, &file).map_err(wrong)?;
        Ok(Self { inner, begin, ends })
    }

    /// The tokenizer of `pieces`, which come from the file at `path`.
    ///
    /// # Errors
    /// Merges that name no tokens.
    pub fn of_pieces(path: &Path, pieces: &Pieces) -> Result<Self> {
        let inner = Tokenizer::from_bytes(serde_json::to_vec(&pieces.to_json())?)
            .map_err(|error| UserError::input(path, "metadata tokenizer", error.to_string()))?;
        Ok(Self { inner, begin: pieces.begin, ends: pieces.ends.clone() })
    }

    /// Tokens, special ones included.
    pub fn len(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The token with the highest id.
    pub fn highest(&self) -> Option<(String, u32)> {
        let tokens = self.inner.get_vocab(true).into_iter();
        tokens.max_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)))
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The token written `text`, such as `<|im_start|>`.
    pub fn token(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text)
    }

    /// Tokens of a text; with `whole`, the model's own token for the beginning goes first, if it
    /// wants one.
    pub fn encode(&self, text: &str, whole: bool) -> Result<Vec<u32>> {
        let encoding =
            self.inner.encode_fast(text, whole).map_err(|error| anyhow!("tokenizer: {error}"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of tokens; special tokens are left out.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.inner.decode(tokens, true).map_err(|error| anyhow!("tokenizer: {error}"))
    }
}

/// The id of an added token in the file.
fn id(token: &Value) -> Option<u64> {
    token["id"].as_u64()
}

/// Checks that tokens have the ids that the file tells, which are those of the weights' rows: the
/// library does not read the ids of added tokens, and takes those of templates as they are.
fn check_ids(tokenizer: &Tokenizer, file: &Value) -> Result<(), String> {
    for token in file["added_tokens"].as_array().into_iter().flatten() {
        let Some((token, id)) = token["content"].as_str().zip(id(token)) else {
            continue;
        };
        let found = tokenizer.token_to_id(token).map(u64::from);
        let back = u32::try_from(id).ok().and_then(|id| tokenizer.id_to_token(id));
        if found != Some(id) || back.as_deref() != Some(token) {
            let found = found.map_or_else(|| "none".to_owned(), |found| found.to_string());
            return Err(format!(
                "added token {token:?} has id {id} in the file, but {found} in use: ids of added \
                 tokens must be those of the vocabulary, or follow it without gaps"
            ));
        }
    }
    let mut named = Vec::new();
    template_ids(&file["post_processor"], &mut named);
    for (token, id) in named {
        let found = tokenizer.token_to_id(token).map(u64::from);
        if found != Some(id) {
            let found = found.map_or_else(|| "no id".to_owned(), |found| format!("id {found}"));
            return Err(format!(
                "post_processor puts token {token:?} as id {id}, but it has {found}"
            ));
        }
    }
    Ok(())
}

/// Tokens that a post-processor puts around a text, with the ids that it puts.
fn template_ids<'a>(processor: &'a Value, named: &mut Vec<(&'a str, u64)>) {
    for part in processor["processors"].as_array().into_iter().flatten() {
        template_ids(part, named);
    }
    for token in processor["special_tokens"].as_object().into_iter().flat_map(|all| all.values()) {
        let [ids, tokens] = ["ids", "tokens"].map(|key| token[key].as_array());
        let pairs = tokens.into_iter().flatten().zip(ids.into_iter().flatten());
        named.extend(pairs.filter_map(|(token, id)| Some((token.as_str()?, id.as_u64()?))));
    }
    for pair in ["cls", "sep"].iter().filter_map(|key| processor[key].as_array()) {
        if let [token, id] = &pair[..] {
            named.extend(token.as_str().zip(id.as_u64()));
        }
    }
}
