use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use rayon::prelude::*;

use super::{CachedModel, Feed};
use crate::error::UserError;
use crate::model::ModelConfig;
use crate::model::config::UNEMBEDDING;
use crate::model::kernels::{self, LANES, Packed, Simd};
use crate::model::rotary::Rotary;
use crate::model::weights::Weights;

/// The decoder on the CPU, with weights packed for the kernels and preallocated caches.
///
/// A large batch is cut into groups of sequences, each of which one thread takes through all layers;
/// the products of a small one are shared by the threads. A sequence's logits are the same bits
/// whatever else is in the batch, however its prompt was fed, and on any number of threads (see
/// [`kernels`]).
pub struct CpuModel {
    stack: Stack,
    slots: Vec<Slot>,
    /// One for each group.
    buffers: Vec<Buffers>,
}

/// What all threads read.
struct Stack {
    config: ModelConfig,
    simd: Simd,
    embedding: Vec<f32>,
    layers: Vec<Layer>,
    final_norm: Vec<f32>,
    unembedding: Packed,
    rotary: Rotary,
}

/// Rows (tokens to be fed) of a group, about. Their activations in a layer of the small models fit the
/// second cache beside a panel of weights: 256 rows at once took a third longer per row.
const GROUP: usize = 32;
/// Fewer rows than this for a thread are not worth a group of their own: its pass over the weights
/// takes as long as one with more.
const LEAST: usize = 8;

/// Sequences that pass through the layers together.
struct Group<'a> {
    feeds: &'a [Feed<'a>],
    /// Those of the feeds, in their order.
    slots: Vec<&'a mut Slot>,
    buffers: &'a mut Buffers,
    /// Row-major `[feeds, vocabulary]`.
    logits: &'a mut [f32],
    /// Whether it is the only one, so that its products may be shared by the threads.
    alone: bool,
}

struct Layer {
    attention_norm: Vec<f32>,
    /// Query, key and value side by side.
    qkv: Packed,
    output: Packed,
    ffn_norm: Vec<f32>,
    /// Gate and up side by side.
    gate_up: Packed,
    down: Packed,
}

/// Keys and values of one sequence.
#[derive(Default)]
struct Slot {
    length: usize,
    /// Per layer `[blocks, kv_heads, head_dim, LANES]`: the positions of a block side by side.
    keys: Vec<Vec<f32>>,
    /// Per layer `[positions, kv_heads, head_dim]`.
    values: Vec<Vec<f32>>,
}

/// Activations of one forward pass, `[rows, …]`.
#[derive(Default)]
struct Buffers {
    residual: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    mixed: Vec<f32>,
    delta: Vec<f32>,
    gate_up: Vec<f32>,
    inner: Vec<f32>,
    last: Vec<f32>,
    /// Of each row: the feed, and the position in its sequence.
    places: Vec<(usize, usize)>,
}

impl CpuModel {
    /// Reads `config.json` and the weights (of a snapshot, if one is named) in `dir`.
    ///
    /// # Errors
    /// Missing or damaged files, tensors of other names or shapes.
    pub fn load(dir: &Path, snapshot: Option<u64>) -> Result<Self> {
        let config = ModelConfig::load(dir)?;
        let weights = Weights::load(dir, snapshot, &config)?;
        Self::new(config, &weights, kernels::simd())
    }

    /// The model of `weights`, computed with `simd`.
    pub fn new(config: ModelConfig, weights: &Weights, simd: Simd) -> Result<Self> {
        config.check()?;
        let (d, q, kv) = (config.d_model, config.query_width(), config.kv_width());
        let layers = (0..config.layers)
            .map(|layer| {
                let tensor = |name: &str| weights.get(&format!("layers.{layer}.{name}"));
                let (query, key, value) = (tensor("query")?, tensor("key")?, tensor("value")?);
                let (gate, up) = (tensor("gate")?, tensor("up")?);
                let (output, down) = (tensor("output")?, tensor("down")?);
                Ok(Layer {
                    attention_norm: tensor("attention_norm")?.to_vec(),
                    qkv: Packed::new(simd, d, q + 2 * kv, |i, o| match o {
                        o if o < q => query[i * q + o],
                        o if o < q + kv => key[i * kv + o - q],
                        o => value[i * kv + o - q - kv],
                    }),
                    output: Packed::new(simd, q, d, |i, o| output[i * d + o]),
                    ffn_norm: tensor("ffn_norm")?.to_vec(),
                    gate_up: Packed::new(simd, d, 2 * config.d_ff, |i, o| match o {
                        o if o < config.d_ff => gate[i * config.d_ff + o],
                        o => up[i * config.d_ff + o - config.d_ff],
                    }),
                    down: Packed::new(simd, config.d_ff, d, |i, o| down[i * d + o]),
                })
            })
            .collect::<Result<Vec<_>, UserError>>()?;
        let embedding = weights.get("token_embedding")?.to_vec();
        let head = if config.untied_head { weights.get(UNEMBEDDING)? } else { &embedding };
        let stack = Stack {
            simd,
            unembedding: Packed::new(simd, d, config.vocabulary, |i, o| head[o * d + i]),
            final_norm: weights.get("final_norm")?.to_vec(),
            rotary: Rotary::new(&config),
            embedding,
            layers,
            config,
        };
        Ok(Self { stack, slots: Vec::new(), buffers: Vec::new() })
    }

    /// Makes room for the feeds' keys and values.
    fn grow(&mut self, feeds: &[Feed<'_>]) -> Result<()> {
        let config = &self.stack.config;
        for feed in feeds {
            let slot = &mut self.slots[feed.slot];
            let length = slot.length + feed.tokens.len();
            if length > config.context {
                let context = config.context;
                let message =
                    format!("a sequence of {length} tokens exceeds the context {context}");
                return Err(UserError::setting(message).into());
            }
            if let Some(token) = feed.tokens.iter().find(|t| **t as usize >= config.vocabulary) {
                let message = format!("token {token} is not in the vocabulary");
                return Err(UserError::setting(message).into());
            }
            slot.grow(length, config);
        }
        Ok(())
    }
}

/// The feeds of each group.
fn groups(feeds: &[Feed<'_>], threads: usize) -> Vec<Range<usize>> {
    let rows: usize = feeds.iter().map(|feed| feed.tokens.len()).sum();
    let size = match threads {
        1 => GROUP,
        _ if rows < 2 * LEAST => rows,
        _ => rows.div_ceil(threads).clamp(LEAST, GROUP),
    };
    let mut groups = Vec::new();
    let (mut first, mut filled) = (0, 0);
    for (index, feed) in feeds.iter().enumerate() {
        filled += feed.tokens.len();
        if filled >= size || index + 1 == feeds.len() {
            groups.push(first..index + 1);
            (first, filled) = (index + 1, 0);
        }
    }
    groups
}

impl Stack {
    /// Takes a group through all layers, to the logits of each feed's last token.
    fn pass(&self, group: &mut Group<'_>) {
        let d = self.config.d_model;
        self.embed(group);
        let rows = group.buffers.places.len();
        group.buffers.normed.resize(rows * d, 0.0);
        for layer in 0..self.config.layers {
            self.attention(layer, group, rows);
            self.feed_forward(layer, group, rows);
        }
        let Group { feeds, slots, buffers, logits, alone } = group;
        let mut end = 0;
        buffers.last.resize(feeds.len() * d, 0.0);
        let last = buffers.last.chunks_exact_mut(d);
        for ((feed, slot), out) in feeds.iter().zip(slots).zip(last) {
            end += feed.tokens.len();
            let x = &buffers.residual[(end - 1) * d..end * d];
            kernels::rms_norm(self.simd, x, &self.final_norm, self.config.norm_eps, out);
            slot.length += feed.tokens.len();
        }
        self.unembedding.multiply(&buffers.last, logits, *alone);
    }

    /// Puts the embeddings of all feeds' tokens into the residual stream.
    fn embed(&self, group: &mut Group<'_>) {
        let d = self.config.d_model;
        let Group { feeds, slots, buffers, .. } = group;
        buffers.residual.clear();
        buffers.places.clear();
        for (number, (feed, slot)) in feeds.iter().zip(slots).enumerate() {
            for (offset, token) in feed.tokens.iter().enumerate() {
                let at = *token as usize * d;
                buffers.residual.extend_from_slice(&self.embedding[at..at + d]);
                buffers.places.push((number, slot.length + offset));
            }
        }
    }

    fn attention(&self, layer: usize, group: &mut Group<'_>, rows: usize) {
        let config = &self.config;
        let (d, hd) = (config.d_model, config.head_dim());
        let (q, kv) = (config.query_width(), config.kv_width());
        let width = q + 2 * kv;
        let weights = &self.layers[layer];
        let Group { slots, buffers, alone, .. } = group;
        for (x, out) in buffers.residual.chunks_exact(d).zip(buffers.normed.chunks_exact_mut(d)) {
            kernels::rms_norm(self.simd, x, &weights.attention_norm, config.norm_eps, out);
        }
        buffers.qkv.resize(rows * width, 0.0);
        weights.qkv.multiply(&buffers.normed, &mut buffers.qkv, *alone);
        buffers.mixed.resize(rows * q, 0.0);
        let places = &buffers.places;
        let store = |slot: &mut Slot, position: usize, row: &mut [f32]| {
            let (queries, rest) = row.split_at_mut(q);
            let (keys, values) = rest.split_at_mut(kv);
            queries.chunks_exact_mut(hd).for_each(|head| self.rotary.turn(head, position));
            keys.chunks_exact_mut(hd).for_each(|head| self.rotary.turn(head, position));
            slot.store(layer, position, keys, values);
        };
        let attend = |slot: &Slot, position: usize, row: &[f32], out: &mut [f32]| {
            slot.attend(layer, position, config, self.simd, &row[..q], out);
        };
        if *alone && rows >= LEAST && rayon::current_num_threads() > 1 {
            // All caches first, so that threads can share what only reads them.
            for (row, (feed, position)) in buffers.qkv.chunks_exact_mut(width).zip(places) {
                store(slots[*feed], *position, row);
            }
            let rows = buffers.qkv.par_chunks_exact(width);
            let rows = places.par_iter().zip(rows).zip(buffers.mixed.par_chunks_exact_mut(q));
            rows.for_each(|(((feed, position), row), out)| {
                attend(slots[*feed], *position, row, out)
            });
        } else {
            let rows = buffers.qkv.chunks_exact_mut(width).zip(buffers.mixed.chunks_exact_mut(q));
            for (number, ((feed, position), (row, out))) in places.iter().zip(rows).enumerate() {
                // The caches of a large batch come from memory.
                if let Some((next, position)) = places.get(number + 1).filter(|(n, _)| n != feed) {
                    slots[*next].prefetch(layer, *position, kv);
                }
                store(slots[*feed], *position, row);
                attend(slots[*feed], *position, row, out);
            }
        }
        buffers.delta.resize(rows * d, 0.0);
        weights.output.multiply(&buffers.mixed, &mut buffers.delta, *alone);
        add(&mut buffers.residual, &buffers.delta);
    }

    fn feed_forward(&self, layer: usize, group: &mut Group<'_>, rows: usize) {
        let (d, d_ff) = (self.config.d_model, self.config.d_ff);
        let weights = &self.layers[layer];
        let Group { buffers, alone, .. } = group;
        for (x, out) in buffers.residual.chunks_exact(d).zip(buffers.normed.chunks_exact_mut(d)) {
            kernels::rms_norm(self.simd, x, &weights.ffn_norm, self.config.norm_eps, out);
        }
        buffers.gate_up.resize(rows * 2 * d_ff, 0.0);
        weights.gate_up.multiply(&buffers.normed, &mut buffers.gate_up, *alone);
        buffers.inner.resize(rows * d_ff, 0.0);
        let inner = buffers.inner.chunks_exact_mut(d_ff);
        for (gate_up, out) in buffers.gate_up.chunks_exact(2 * d_ff).zip(inner) {
            kernels::swiglu(self.simd, gate_up, out);
        }
        buffers.delta.resize(rows * d, 0.0);
        weights.down.multiply(&buffers.inner, &mut buffers.delta, *alone);
        add(&mut buffers.residual, &buffers.delta);
    }
}

fn add(into: &mut [f32], from: &[f32]) {
    for (into, from) in into.iter_mut().zip(from) {
        *into += from;
    }
}

impl Slot {
    /// Makes room for `length` positions, keeping what is there.
    fn grow(&mut self, length: usize, config: &ModelConfig) {
        self.keys.resize_with(config.layers, Vec::new);
        self.values.resize_with(config.layers, Vec::new);
        let size = length.next_multiple_of(LANES) * config.kv_width();
        for cache in self.keys.iter_mut().chain(&mut self.values) {
            if cache.len() < size {
                // The vector doubles its room, so that a growing sequence is seldom copied.
                cache.resize(size, 0.0);
            }
        }
    }

    /// Announces that a position will be stored and will attend.
    fn prefetch(&self, layer: usize, position: usize, kv: usize) {
        kernels::prefetch(&self.keys[layer][..(position + 1).next_multiple_of(LANES) * kv]);
        kernels::prefetch(&self.values[layer][..(position + 1) * kv]);
    }

    fn store(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let kv = keys.len();
        let block = &mut self.keys[layer][position / LANES * LANES * kv..];
        for (lanes, key) in block.as_chunks_mut::<LANES>().0.iter_mut().zip(keys) {
            lanes[position % LANES] = *key;
        }
        self.values[layer][position * kv..(position + 1) * kv].copy_from_slice(values);
    }

    /// Attention of one position over itself and everything before it.
    fn attend(
        &self,
        layer: usize,
        position: usize,
        config: &ModelConfig,
        simd: Simd,
        queries: &[f32],
        out: &mut [f32],
    ) {
        let (hd, kv) = (config.head_dim(), config.kv_width());
        let group = config.heads / config.kv_heads;
        let scale = 1.0 / (hd as f32).sqrt();
        let mut scores = vec![0.0; position + 1];
        let mut scaled = vec![0.0; hd];
        let heads = queries.chunks_exact(hd).zip(out.chunks_exact_mut(hd));
        for (head, (query, out)) in heads.enumerate() {
            let at = head / group * hd;
            for (scaled, query) in scaled.iter_mut().zip(query) {
                *scaled = query * scale;
            }
            let keys = &self.keys[layer][at * LANES..];
            kernels::scores(simd, &scaled, keys, kv * LANES, &mut scores);
            let sum = kernels::softmax_sum(simd, &mut scores);
            kernels::mix(simd, &scores, 1.0 / sum, &self.values[layer][at..], kv, out);
        }
    }
}

impl CachedModel for CpuModel {
    fn vocabulary(&self) -> usize {
        self.stack.config.vocabulary
    }

    fn context(&self) -> usize {
        self.stack.config.context
    }

    fn extend(&mut self, tokens: usize) {
        if tokens > self.stack.config.context {
            self.stack.config.context = tokens;
            self.stack.rotary = Rotary::new(&self.stack.config);
        }
    }

    fn prepare(&mut self, slots: usize) {
        self.slots.resize_with(slots, Slot::default);
        self.slots.iter_mut().for_each(|slot| slot.length = 0);
    }

    fn reset(&mut self, slot: usize) {
        self.slots[slot].length = 0;
    }

    fn forward(&mut self, feeds: &[Feed<'_>], logits: &mut Vec<f32>) -> Result<()> {
        self.grow(feeds)?;
        let Self { stack, slots, buffers } = self;
        let vocabulary = stack.config.vocabulary;
        let threads = rayon::current_num_threads();
        let parts = groups(feeds, threads);
        let alone = parts.len() == 1;
        buffers.resize_with(buffers.len().max(parts.len()), Buffers::default);
        logits.resize(feeds.len() * vocabulary, 0.0);
        let mut rest = logits.as_mut_slice();
        let mut free: Vec<Option<&mut Slot>> = slots.iter_mut().map(Some).collect();
        let mut groups: Vec<Group> = Vec::with_capacity(parts.len());
        for (part, buffers) in parts.into_iter().zip(buffers) {
            let feeds = &feeds[part];
            let (logits, others) = std::mem::take(&mut rest).split_at_mut(feeds.len() * vocabulary);
            rest = others;
            let slots = feeds.iter().filter_map(|feed| free[feed.slot].take()).collect();
            groups.push(Group { feeds, slots, buffers, logits, alone });
        }
        if alone || threads == 1 {
            groups.iter_mut().for_each(|group| stack.pass(group))
        } else {
            groups.par_iter_mut().for_each(|group| stack.pass(group))
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_every_feed_once_and_leave_no_thread_without() {
        let tokens = [0; 40];
        for (lengths, threads, expected) in [
            (vec![1; 1], 2, vec![1]),
            (vec![1; 15], 2, vec![15]),
            (vec![1; 32], 1, vec![32]),
            (vec![1; 32], 2, vec![16, 16]),
            (vec![1; 70], 1, vec![32, 32, 6]),
            (vec![1; 256], 4, vec![32; 8]),
            (vec![40], 2, vec![1]),
            (vec![40, 1, 1, 40], 2, vec![1, 3]),
            (vec![], 2, vec![]),
        ] {
            let feeds = lengths.iter().map(|length| Feed { slot: 0, tokens: &tokens[..*length] });
            let groups = groups(&feeds.collect::<Vec<_>>(), threads);
            let sizes: Vec<usize> = groups.iter().map(ExactSizeIterator::len).collect();
            assert_eq!(sizes, expected, "{lengths:?} {threads}");
            let covered: Vec<usize> = groups.into_iter().flatten().collect();
            assert_eq!(covered, (0..lengths.len()).collect::<Vec<_>>());
        }
    }
}
