use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::error::UserError;

/// Shape of a Llama-style decoder: RMSNorm, rotary positions, SwiGLU, tied embeddings, no biases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    pub layers: usize,
    /// Query heads; each has `d_model / heads` dimensions.
    pub heads: usize,
    /// Key and value heads; a divisor of `heads` (grouped-query attention when smaller).
    pub kv_heads: usize,
    /// Inner width of the SwiGLU feed-forward.
    pub d_ff: usize,
    /// Longest sequence, tokens.
    pub context: usize,
    pub rope_base: f32,
    pub norm_eps: f32,
}

/// A named size: `d_model`, layers, heads, `d_ff`. Without embeddings they have 0.1, 0.8, 4.7, 25, 85
/// and 308 million parameters.
const PRESETS: [(&str, [usize; 4]); 6] = [
    ("xs", [64, 2, 2, 176]),
    ("s", [128, 4, 4, 344]),
    ("m", [256, 6, 8, 688]),
    ("l", [512, 8, 8, 1376]),
    ("xl", [768, 12, 12, 2048]),
    ("xxl", [1024, 24, 16, 2816]),
];

/// File that holds the configuration, beside the weights.
pub const CONFIG_FILE: &str = "config.json";

impl ModelConfig {
    /// The preset `size` for a vocabulary.
    ///
    /// # Errors
    /// An unknown size, with the known ones.
    pub fn preset(size: &str, vocabulary: usize, context: usize) -> Result<Self> {
        let Some((_, [d_model, layers, heads, d_ff])) = PRESETS.iter().find(|(n, _)| *n == size)
        else {
            let known: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
            let message = format!("size `{size}` is none of {}", known.join(", "));
            return Err(UserError::setting(message).into());
        };
        Ok(Self {
            vocabulary,
            d_model: *d_model,
            layers: *layers,
            heads: *heads,
            kv_heads: *heads,
            d_ff: *d_ff,
            context,
            rope_base: 10_000.0,
            norm_eps: 1e-5,
        })
    }

    /// Dimensions of one head.
    pub fn head_dim(&self) -> usize {
        self.d_model / self.heads
    }

    /// Learnt parameters; the tied embedding counts once.
    pub fn parameters(&self) -> u64 {
        let (d, kv) = (self.d_model, self.kv_heads * self.head_dim());
        let layer = 2 * d + 2 * d * d + 2 * d * kv + 3 * d * self.d_ff;
        (self.vocabulary * d + self.layers * layer + d) as u64
    }

    /// Floating-point operations of training on one token (forward and backward) in a sequence of
    /// `length`: 6 per parameter that multiplies, plus attention over half the sequence.
    pub fn train_flops_per_token(&self, length: usize) -> f64 {
        let attention = 6.0 * (self.layers * length * self.d_model) as f64;
        6.0 * self.parameters() as f64 + attention
    }

    /// Every tensor of the model with its shape, in the order of the file. Matrices are
    /// `[in, out]`, applied as `x · W`.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (d, kv) = (self.d_model, self.kv_heads * self.head_dim());
        let mut tensors = vec![("token_embedding".to_owned(), vec![self.vocabulary, d])];
        for layer in 0..self.layers {
            let mut add = |name: &str, shape: &[usize]| {
                tensors.push((format!("layers.{layer}.{name}"), shape.to_vec()));
            };
            add("attention_norm", &[d]);
            add("query", &[d, d]);
            add("key", &[d, kv]);
            add("value", &[d, kv]);
            add("output", &[d, d]);
            add("ffn_norm", &[d]);
            add("gate", &[d, self.d_ff]);
            add("up", &[d, self.d_ff]);
            add("down", &[self.d_ff, d]);
        }
        tensors.push(("final_norm".to_owned(), vec![d]));
        tensors
    }

    /// Checks that the sizes fit together.
    ///
    /// # Errors
    /// Names the field and its value.
    pub fn check(&self) -> Result<()> {
        let wrong = |message: String| Err(UserError::setting(message).into());
        let sizes =
            [self.vocabulary, self.d_model, self.layers, self.heads, self.kv_heads, self.d_ff];
        if sizes.contains(&0) || self.context == 0 {
            return wrong(format!("a model of size 0 cannot be built: {self:?}"));
        }
        if !self.d_model.is_multiple_of(2 * self.heads) {
            let (d, heads) = (self.d_model, self.heads);
            return wrong(format!("d_model {d} is not a multiple of 2 × heads ({heads})"));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let (heads, kv) = (self.heads, self.kv_heads);
            return wrong(format!("heads {heads} is not a multiple of kv_heads {kv}"));
        }
        Ok(())
    }

    /// Reads `config.json` in `dir`.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(CONFIG_FILE);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| UserError::io(&path, "cannot be read", error))?;
        let config: Self = serde_json::from_str(&text)
            .map_err(|error| UserError::input(&path, "model", error.to_string()))?;
        config.check()?;
        Ok(config)
    }
}
