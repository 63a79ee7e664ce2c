//! The tokens of a vocabulary as a trie of bytes.

use std::collections::{BTreeMap, HashMap};

use super::{Cursor, Grammar};
use crate::text::Tokenizer;

/// A vocabulary with its microservices.
pub struct TokenTrie {
    /// Bytes of each token.
    tokens: Vec<Vec<u8>>,
    nodes: Vec<Node>,
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
        Self { tokens, nodes, microservices, names, places }
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

    /// Adds the tokens whose bytes may come next.
    pub(super) fn walk<G: Grammar>(&self, cursor: &Cursor<G>, tokens: &mut Vec<u32>) {
        self.descend(0, cursor, tokens);
    }

    fn descend<G: Grammar>(&self, node: usize, cursor: &Cursor<G>, tokens: &mut Vec<u32>) {
        let children = &self.nodes[node].children;
        let mut visit = |byte: u8, child: usize| {
            let Some(next) = cursor.within(byte) else { return };
            if let Some(token) = self.nodes[child].token
                && !self.is_covered(child, &next)
            {
                tokens.push(token);
            }
            self.descend(child, &next, tokens);
        };
        if let Some(bytes) = cursor.literal_bytes() {
            let known = bytes.into_iter().filter_map(|byte| Some((byte, *children.get(&byte)?)));
            known.for_each(|(byte, child)| visit(byte, child));
            return;
        }
        // Numbers and ids: go on, or end here and begin with what follows.
        let digits = children.range(b'.'..=b'9');
        digits.for_each(|(byte, child)| visit(*byte, *child));
        if let Some(ended) = cursor.ended() {
            self.descend(node, &ended, tokens);
        }
    }

    /// Whether every text that goes on from `cursor` passes through a token below `node`.
    fn is_covered<G: Grammar>(&self, node: usize, cursor: &Cursor<G>) -> bool {
        let Some(bytes) = cursor.literal_bytes() else { return false };
        let children = &self.nodes[node].children;
        bytes.into_iter().all(|byte| {
            let Some(&child) = children.get(&byte) else { return false };
            let Some(next) = cursor.step(byte) else { return false };
            self.nodes[child].token.is_some() || self.is_covered(child, &next)
        })
    }
}
