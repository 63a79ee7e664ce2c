use std::path::Path;

use anyhow::Result;
use rayon::prelude::*;

use super::{CachedModel, Feed};
use crate::error::UserError;
use crate::model::ModelConfig;
use crate::model::config::UNEMBEDDING;
use crate::model::kernels::{self, Packed, Simd};
use crate::model::rotary::Rotary;
use crate::model::weights::Weights;

/// The decoder on the CPU, with weights packed for the kernels and preallocated caches.
///
/// A sequence's logits are the same bits whatever else is in the batch, however its prompt was fed,
/// and on any number of threads (see [`kernels`]).
pub struct CpuModel {
    config: ModelConfig,
    simd: Simd,
    embedding: Vec<f32>,
    layers: Vec<Layer>,
    final_norm: Vec<f32>,
    unembedding: Packed,
    rotary: Rotary,
    slots: Vec<Slot>,
    buffers: Buffers,
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
    /// Positions that the caches have room for.
    capacity: usize,
    /// Per layer `[kv_heads, head_dim, capacity]`: neighbouring positions side by side.
    keys: Vec<Vec<f32>>,
    /// Per layer `[kv_heads, capacity, head_dim]`.
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
        Ok(Self {
            simd,
            unembedding: Packed::new(simd, d, config.vocabulary, |i, o| head[o * d + i]),
            final_norm: weights.get("final_norm")?.to_vec(),
            rotary: Rotary::new(&config),
            embedding,
            layers,
            slots: Vec::new(),
            buffers: Buffers::default(),
            config,
        })
    }

    /// Puts the embeddings of all feeds' tokens into the residual stream and makes room for their
    /// keys and values. Returns the number of rows.
    fn embed(&mut self, feeds: &[Feed<'_>]) -> Result<usize> {
        let d = self.config.d_model;
        self.buffers.residual.clear();
        for feed in feeds {
            let slot = &mut self.slots[feed.slot];
            let length = slot.length + feed.tokens.len();
            if length > self.config.context {
                let context = self.config.context;
                let message =
                    format!("a sequence of {length} tokens exceeds the context {context}");
                return Err(UserError::setting(message).into());
            }
            slot.grow(length, &self.config);
            for &token in feed.tokens {
                let at = token as usize * d;
                let Some(row) = self.embedding.get(at..at + d) else {
                    let message = format!("token {token} is not in the vocabulary");
                    return Err(UserError::setting(message).into());
                };
                self.buffers.residual.extend_from_slice(row);
            }
        }
        Ok(self.buffers.residual.len() / d)
    }

    fn attention(&mut self, layer: usize, feeds: &[Feed<'_>], rows: usize) {
        let config = &self.config;
        let (d, hd) = (config.d_model, config.head_dim());
        let (q, kv) = (config.query_width(), config.kv_width());
        let width = q + 2 * kv;
        let weights = &self.layers[layer];
        let buffers = &mut self.buffers;
        for (x, out) in buffers.residual.chunks_exact(d).zip(buffers.normed.chunks_exact_mut(d)) {
            kernels::rms_norm(self.simd, x, &weights.attention_norm, config.norm_eps, out);
        }
        buffers.qkv.resize(rows * width, 0.0);
        weights.qkv.multiply(&buffers.normed, &mut buffers.qkv);
        // Positions and caches first, then every row attends on its own.
        let mut places = Vec::with_capacity(rows);
        let mut row = buffers.qkv.chunks_exact_mut(width);
        for feed in feeds {
            let slot = &mut self.slots[feed.slot];
            for offset in 0..feed.tokens.len() {
                let position = slot.length + offset;
                let Some(row) = row.next() else { break };
                let (queries, rest) = row.split_at_mut(q);
                let (keys, values) = rest.split_at_mut(kv);
                queries.chunks_exact_mut(hd).for_each(|head| self.rotary.turn(head, position));
                keys.chunks_exact_mut(hd).for_each(|head| self.rotary.turn(head, position));
                slot.store(layer, position, hd, keys, values);
                places.push((feed.slot, position));
            }
        }
        buffers.mixed.resize(rows * q, 0.0);
        let attend = |place: &(usize, usize), qkv: &[f32], out: &mut [f32]| {
            self.slots[place.0].attend(layer, place.1, config, self.simd, &qkv[..q], out);
        };
        if rows >= 8 && rayon::current_num_threads() > 1 {
            let qkv = buffers.qkv.par_chunks_exact(width);
            let out = buffers.mixed.par_chunks_exact_mut(q);
            let rows = places.par_iter().zip(qkv).zip(out);
            rows.for_each(|((place, qkv), out)| attend(place, qkv, out));
        } else {
            let qkv = buffers.qkv.chunks_exact(width);
            let rows = places.iter().zip(qkv).zip(buffers.mixed.chunks_exact_mut(q));
            rows.for_each(|((place, qkv), out)| attend(place, qkv, out));
        }
        buffers.delta.resize(rows * d, 0.0);
        weights.output.multiply(&buffers.mixed, &mut buffers.delta);
        add(&mut buffers.residual, &buffers.delta);
    }

    fn feed_forward(&mut self, layer: usize, rows: usize) {
        let (d, d_ff) = (self.config.d_model, self.config.d_ff);
        let weights = &self.layers[layer];
        let buffers = &mut self.buffers;
        for (x, out) in buffers.residual.chunks_exact(d).zip(buffers.normed.chunks_exact_mut(d)) {
            kernels::rms_norm(self.simd, x, &weights.ffn_norm, self.config.norm_eps, out);
        }
        buffers.gate_up.resize(rows * 2 * d_ff, 0.0);
        weights.gate_up.multiply(&buffers.normed, &mut buffers.gate_up);
        buffers.inner.resize(rows * d_ff, 0.0);
        let inner = buffers.inner.chunks_exact_mut(d_ff);
        for (gate_up, out) in buffers.gate_up.chunks_exact(2 * d_ff).zip(inner) {
            kernels::swiglu(self.simd, gate_up, out);
        }
        buffers.delta.resize(rows * d, 0.0);
        weights.down.multiply(&buffers.inner, &mut buffers.delta);
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
        if length <= self.capacity && !self.keys.is_empty() {
            return;
        }
        let capacity = length.next_power_of_two().max(64).min(config.context.max(length));
        let (hd, heads) = (config.head_dim(), config.kv_heads);
        let old = std::mem::replace(&mut self.capacity, capacity);
        self.keys.resize_with(config.layers, Vec::new);
        self.values.resize_with(config.layers, Vec::new);
        for (keys, values) in self.keys.iter_mut().zip(&mut self.values) {
            let mut wider = vec![0.0; heads * hd * capacity];
            for (to, from) in wider.chunks_exact_mut(capacity).zip(keys.chunks_exact(old.max(1))) {
                to[..old].copy_from_slice(from);
            }
            *keys = wider;
            let mut longer = vec![0.0; heads * hd * capacity];
            let size = (old * hd).max(1);
            for (to, from) in longer.chunks_exact_mut(capacity * hd).zip(values.chunks_exact(size))
            {
                to[..size].copy_from_slice(from);
            }
            *values = longer;
        }
    }

    fn store(&mut self, layer: usize, position: usize, hd: usize, keys: &[f32], values: &[f32]) {
        let lanes = self.keys[layer].chunks_exact_mut(self.capacity);
        for (lane, key) in lanes.zip(keys) {
            lane[position] = *key;
        }
        let heads = self.values[layer].chunks_exact_mut(self.capacity * hd);
        for (head, value) in heads.zip(values.chunks_exact(hd)) {
            head[position * hd..(position + 1) * hd].copy_from_slice(value);
        }
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
        let hd = config.head_dim();
        let group = config.heads / config.kv_heads;
        let scale = 1.0 / (hd as f32).sqrt();
        let size = self.capacity * hd;
        let mut scores = vec![0.0; position + 1];
        let mut scaled = vec![0.0; hd];
        let heads = queries.chunks_exact(hd).zip(out.chunks_exact_mut(hd));
        for (head, (query, out)) in heads.enumerate() {
            let at = head / group * size;
            for (scaled, query) in scaled.iter_mut().zip(query) {
                *scaled = query * scale;
            }
            let keys = &self.keys[layer][at..at + size];
            kernels::scores(simd, &scaled, keys, self.capacity, &mut scores);
            let sum = kernels::softmax_sum(simd, &mut scores);
            kernels::mix(simd, &scores, 1.0 / sum, &self.values[layer][at..at + size], out);
        }
    }
}

impl CachedModel for CpuModel {
    fn vocabulary(&self) -> usize {
        self.config.vocabulary
    }

    fn context(&self) -> usize {
        self.config.context
    }

    fn extend(&mut self, tokens: usize) {
        if tokens > self.config.context {
            self.config.context = tokens;
            self.rotary = Rotary::new(&self.config);
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
        let rows = self.embed(feeds)?;
        let d = self.config.d_model;
        self.buffers.normed.resize(rows * d, 0.0);
        for layer in 0..self.config.layers {
            self.attention(layer, feeds, rows);
            self.feed_forward(layer, rows);
        }
        let mut end = 0;
        self.buffers.last.resize(feeds.len() * d, 0.0);
        for (feed, out) in feeds.iter().zip(self.buffers.last.chunks_exact_mut(d)) {
            end += feed.tokens.len();
            let x = &self.buffers.residual[(end - 1) * d..end * d];
            kernels::rms_norm(self.simd, x, &self.final_norm, self.config.norm_eps, out);
            self.slots[feed.slot].length += feed.tokens.len();
        }
        logits.resize(feeds.len() * self.config.vocabulary, 0.0);
        self.unembedding.multiply(&self.buffers.last, logits);
        Ok(())
    }
}
