//! The tokens of a vocabulary as a trie of bytes.

use std::collections::{BTreeMap, HashMap};

use super::{Cursor, Grammar};
use crate::text::Tokenizer;

/// A vocabulary with its microservices.
pub struct TokenTrie {
    /// Bytes of each token.
    tokens: Vec<Vec<u8>>,
    nodes: Vec<Node>,
    /// Where each token ends.
    ends: Vec<usize>,
    /// Tokens of microservices, ascending.
    microservices: Vec<u32>,
    /// Name, as texts write it, of each of these tokens.
    names: HashMap<u32, String>,
    places: HashMap<String, u32>,
}

#[derive(Default)]
struct Node {
    children: BTreeMap<u8, usize>,
    token: Option<u32>,
}

impl TokenTrie {
    /// `microservices`: names of destinations, as texts write them. Those that have no token of
    /// their own cannot be generated.
    pub fn new(tokenizer: &Tokenizer, microservices: &[String]) -> Self {
        let tokens = tokenizer.token_bytes().to_vec();
        let mut nodes = vec![Node::default()];
        let mut whole = HashMap::new();
        let mut ends = vec![0; tokens.len()];
        for (token, bytes) in tokens.iter().enumerate().filter(|(_, bytes)| !bytes.is_empty()) {
            let mut at = 0;
            for byte in bytes {
                let next = nodes.len();
                let child = *nodes[at].children.entry(*byte).or_insert(next);
                if child == next {
                    nodes.push(Node::default());
                }
                at = child;
            }
            nodes[at].token = Some(token as u32);
            ends[token] = at;
            whole.insert(bytes.as_slice(), token as u32);
        }
        let known = microservices.iter().filter_map(|name| {
            let token = whole.get(name.as_bytes())?;
            Some((*token, name.clone()))
        });
        let names: HashMap<u32, String> = known.collect();
        let mut microservices: Vec<u32> = names.keys().copied().collect();
        microservices.sort_unstable();
        let places = names.iter().map(|(token, name)| (name.clone(), *token)).collect();
        Self { tokens, nodes, ends, microservices, names, places }
    }

    pub fn microservices(&self) -> &[u32] {
        &self.microservices
    }

    pub fn token(&self, name: &str) -> Option<u32> {
        self.places.get(name).copied()
    }

    pub fn name(&self, token: u32) -> Option<&str> {
        self.names.get(&token).map(String::as_str)
    }

    pub fn bytes(&self, token: u32) -> &[u8] {
        self.tokens.get(token as usize).map_or(&[], Vec::as_slice)
    }

    /// Adds the tokens whose bytes may come next. `open` are the ends of tokens before, each followed
    /// by what has come since, from which a longer token could still grow: training texts are written
    /// with the longest tokens, so what would complete one is not written in pieces.
    pub(super) fn walk<G: Grammar>(
        &self,
        cursor: &Cursor<G>,
        open: &[usize],
        tokens: &mut Vec<u32>,
    ) {
        self.descend(0, cursor, open, tokens);
    }

    /// Goes on behind a token: the open ends of tokens, the token's own included.
    pub(super) fn push(&self, open: &mut Vec<usize>, token: u32) {
        for byte in self.bytes(token) {
            *open = self.advanced(open, *byte);
        }
        open.extend(self.ends.get(token as usize).filter(|end| self.may_grow(**end)));
    }

    fn may_grow(&self, node: usize) -> bool {
        node != 0 && !self.nodes[node].children.is_empty()
    }

    /// The nodes behind `byte`.
    fn advanced(&self, nodes: &[usize], byte: u8) -> Vec<usize> {
        nodes.iter().filter_map(|node| self.nodes[*node].children.get(&byte).copied()).collect()
    }

    fn any_token(&self, nodes: &[usize]) -> bool {
        nodes.iter().any(|node| self.nodes[*node].token.is_some())
    }

    fn descend<G: Grammar>(
        &self,
        node: usize,
        cursor: &Cursor<G>,
        open: &[usize],
        tokens: &mut Vec<u32>,
    ) {
        let children = &self.nodes[node].children;
        let mut visit = |byte: u8, child: usize| {
            let Some(next) = cursor.within(byte) else { return };
            let mut open = self.advanced(open, byte);
            if self.any_token(&open) {
                return;
            }
            self.descend(child, &next, &open, tokens);
            if let Some(token) = self.nodes[child].token {
                open.push(child);
                if !self.is_covered(&open, &next) {
                    tokens.push(token);
                }
            }
        };
        if let Some(bytes) = cursor.literal_bytes() {
            let known = bytes.into_iter().filter_map(|byte| Some((byte, *children.get(&byte)?)));
            known.for_each(|(byte, child)| visit(byte, child));
            return;
        }
        // Numbers and ids: go on, or end here and begin with what follows.
        let digits = children.range(NUMBERS);
        digits.for_each(|(byte, child)| visit(*byte, *child));
        if let Some(ended) = cursor.ended() {
            self.descend(node, &ended, open, tokens);
        }
    }

    /// Whether every text that goes on from `cursor` passes through a token that one of `nodes` grows
    /// to.
    fn is_covered<G: Grammar>(&self, nodes: &[usize], cursor: &Cursor<G>) -> bool {
        if nodes.is_empty() {
            return false;
        }
        let covered = |byte: u8, next: Cursor<G>| {
            let nodes = self.advanced(nodes, byte);
            self.any_token(&nodes) || self.is_covered(&nodes, &next)
        };
        match cursor.literal_bytes() {
            Some(bytes) => bytes
                .into_iter()
                .all(|byte| cursor.step(byte).is_some_and(|next| covered(byte, next))),
            None if cursor.is_number() => {
                let ends = cursor.ended().is_none_or(|ended| self.is_covered(nodes, &ended));
                let digits = || NUMBERS.filter_map(|byte| Some((byte, cursor.within(byte)?)));
                ends && digits().all(|(byte, next)| covered(byte, next))
            }
            None => false,
        }
    }
}

/// Bytes of numbers and of ids of edges.
const NUMBERS: std::ops::RangeInclusive<u8> = b'.'..=b'9';
