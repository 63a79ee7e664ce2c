use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CallGraph, USER};

/// How much of a graph a [`CanonicalHash`] looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The shape of the tree alone.
    Structure,
    /// + service, microservices and call types.
    Names,
    /// + start and finish of every call.
    Times,
}

/// Identity of a graph up to the order of siblings and their numbers (as in AHU tree canonisation:
/// a subtree's hash covers its own label and the sorted hashes of its children).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CanonicalHash(pub u128);

impl fmt::Display for CanonicalHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for CanonicalHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl CallGraph {
    /// Hash of the graph at `level`, equal for graphs that differ only in the order of siblings.
    pub fn canonical_hash(&self, level: Level) -> CanonicalHash {
        let root = self.subtree_hashes(level)[0];
        if level == Level::Structure {
            return root;
        }
        let mut hasher = blake3::Hasher::new();
        text(&mut hasher, self.service());
        text(&mut hasher, USER);
        hasher.update(&root.0.to_le_bytes());
        CanonicalHash(short(&hasher))
    }

    /// Of every call, the hash of what it and the calls below it are at `level`.
    pub fn subtree_hashes(&self, level: Level) -> Vec<CanonicalHash> {
        let calls = self.calls();
        let mut hashes = vec![CanonicalHash(0); calls.len()];
        let mut below: Vec<Vec<u128>> = vec![Vec::new(); calls.len()];
        // Children stand after their parent, so going backwards each subtree is complete before
        // its parent needs it; no recursion, whatever the depth.
        for index in (0..calls.len()).rev() {
            let hash = self.subtree_hash(index, &mut below, level);
            hashes[index] = CanonicalHash(hash);
            if let Some(parent) = calls[index].parent {
                below[parent as usize].push(hash);
            }
        }
        hashes
    }

    fn subtree_hash(&self, index: usize, below: &mut [Vec<u128>], level: Level) -> u128 {
        let call = &self.calls()[index];
        let mut hasher = blake3::Hasher::new();
        if level >= Level::Names {
            text(&mut hasher, &call.destination);
            text(&mut hasher, call.kind.as_str());
        }
        if level >= Level::Times {
            hasher.update(&call.start.to_le_bytes());
            hasher.update(&call.finish.to_le_bytes());
        }
        let mut children = std::mem::take(&mut below[index]);
        children.sort_unstable();
        for child in children {
            hasher.update(&child.to_le_bytes());
        }
        short(&hasher)
    }
}

/// Length first, so that neighbouring texts cannot run into each other.
fn text(hasher: &mut blake3::Hasher, value: &str) {
    hasher.update(&(value.len() as u64).to_le_bytes());
    hasher.update(value.as_bytes());
}

fn short(hasher: &blake3::Hasher) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(bytes)
}
