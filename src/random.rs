//! Addressed randomness: every random choice has an address, so results do not depend on the
//! order, batch or thread in which choices are made.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The random stream of one address: a seed, a purpose, and a path of numbers (graph index, step
/// index …). Equal addresses give equal streams; all others are independent.
pub fn stream(seed: u64, purpose: &str, path: &[u64]) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&(purpose.len() as u64).to_le_bytes());
    hasher.update(purpose.as_bytes());
    for number in path {
        hasher.update(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}
