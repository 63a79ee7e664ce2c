use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::error::UserError;

/// Shape of a Llama-style decoder: RMSNorm, rotary positions, SwiGLU, no biases.
///
/// What only pretrained models need has a default, which files leave out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    pub layers: usize,
    /// Query heads; each has `d_model / heads` dimensions unless `head_dim` says otherwise.
    pub heads: usize,
    /// Key and value heads; a divisor of `heads` (grouped-query attention when smaller).
    pub kv_heads: usize,
    /// Inner width of the SwiGLU feed-forward.
    pub d_ff: usize,
    /// Longest sequence, tokens.
    pub context: usize,
    pub rope_base: f32,
    pub norm_eps: f32,
    /// Dimensions of one head where they are not `d_model / heads`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// The logits have a matrix of their own in place of the token embedding.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untied_head: bool,
    /// How positions are stretched beyond the context of the first training.
    #[serde(default, skip_serializing_if = "RopeScaling::is_none")]
    pub rope_scaling: RopeScaling,
}

/// How the frequencies of a model that was trained on short contexts are lowered for long ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum RopeScaling {
    #[default]
    None,
    /// Every frequency divided by `factor`.
    Linear { factor: f32 },
    /// Llama 3.1: waves longer than `original_context / low_freq_factor` divided by `factor`, those
    /// shorter than `original_context / high_freq_factor` kept, a linear passage between.
    Llama3 { factor: f32, low_freq_factor: f32, high_freq_factor: f32, original_context: usize },
    /// A divisor for each pair of dimensions, as GGUF files keep them (`rope_freqs.weight`).
    Divisors { divisors: Vec<f32> },
}

impl RopeScaling {
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// Checks the numbers for heads of `pairs` pairs of dimensions.
    ///
    /// # Errors
    /// Names the number and its value.
    pub fn check(&self, pairs: usize) -> Result<()> {
        let positive = |name: &str, value: f32| -> Result<()> {
            if value.is_finite() && value > 0.0 {
                return Ok(());
            }
            let message = format!("rope_scaling: {name} {value} is not a positive number");
            Err(UserError::setting(message).into())
        };
        match self {
            Self::None => Ok(()),
            Self::Linear { factor } => positive("factor", *factor),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                positive("factor", *factor)?;
                positive("low_freq_factor", *low_freq_factor)?;
                positive("original_context", *original_context as f32)?;
                positive("high_freq_factor - low_freq_factor", high_freq_factor - low_freq_factor)
            }
            Self::Divisors { divisors } => {
                if divisors.len() != pairs {
                    let count = divisors.len();
                    let message =
                        format!("rope_scaling: {count} divisors for {pairs} pairs of dimensions");
                    return Err(UserError::setting(message).into());
                }
                divisors.iter().try_for_each(|divisor| positive("divisor", *divisor))
            }
        }
    }

    /// The scaled frequency, radians per position, of pair number `pair`.
    pub fn apply(&self, pair: usize, frequency: f64) -> f64 {
        match self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / f64::from(*factor),
            Self::Divisors { divisors } => frequency / f64::from(divisors[pair]),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let (low, high) = (f64::from(*low_freq_factor), f64::from(*high_freq_factor));
                let waves = *original_context as f64 * frequency / std::f64::consts::TAU;
                // 0 for waves to be stretched, 1 for those to be kept.
                let kept = ((waves - low) / (high - low)).clamp(0.0, 1.0);
                (1.0 - kept) * frequency / f64::from(*factor) + kept * frequency
            }
        }
    }
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

/// Largest width, vocabulary and context.
const MAX_SIZE: usize = 1 << 20;
const MAX_LAYERS: usize = 1 << 10;
/// Most angles of rotary positions, times two: a table of 1 GiB.
const MAX_POSITIONS: usize = 1 << 27;

/// Tensor of the logits where they do not use the token embedding.
pub const UNEMBEDDING: &str = "unembedding";

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
            head_dim: None,
            untied_head: false,
            rope_scaling: RopeScaling::None,
        })
    }

    /// Dimensions of one head.
    pub fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.d_model / self.heads)
    }

    /// Width of all queries side by side, and of what the heads put out.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim()
    }

    /// Width of all keys side by side, and of all values.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim()
    }

    /// Learnt parameters; a tied embedding counts once.
    pub fn parameters(&self) -> u64 {
        let (d, q, kv) = (self.d_model, self.query_width(), self.kv_width());
        let layer = 2 * d + 2 * d * q + 2 * d * kv + 3 * d * self.d_ff;
        let embeddings = (1 + usize::from(self.untied_head)) * self.vocabulary * d;
        (embeddings + self.layers * layer + d) as u64
    }

    /// Floating-point operations of the forward pass on one token, the mean over a sequence of
    /// `length`: 2 per parameter that multiplies, plus attention over half the sequence.
    pub fn forward_flops_per_token(&self, length: usize) -> f64 {
        let attention = 2.0 * (self.layers * length * self.query_width()) as f64;
        // A row of the embedding is looked up; where it is tied, its matrix multiplies as the head.
        let looked_up = if self.untied_head { self.vocabulary * self.d_model } else { 0 };
        2.0 * (self.parameters() - looked_up as u64) as f64 + attention
    }

    /// Bytes of keys and values, f32, that decoding keeps for each token of a sequence.
    pub fn kv_cache_bytes_per_token(&self) -> u64 {
        (2 * self.layers * self.kv_width() * size_of::<f32>()) as u64
    }

    /// Every tensor of the model with its shape, in the order of the file. Matrices are
    /// `[in, out]`, applied as `x · W`; an unembedding lies like the embedding, a row per token.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (d, q, kv) = (self.d_model, self.query_width(), self.kv_width());
        let mut tensors = vec![("token_embedding".to_owned(), vec![self.vocabulary, d])];
        for layer in 0..self.layers {
            let mut add = |name: &str, shape: &[usize]| {
                tensors.push((format!("layers.{layer}.{name}"), shape.to_vec()));
            };
            add("attention_norm", &[d]);
            add("query", &[d, q]);
            add("key", &[d, kv]);
            add("value", &[d, kv]);
            add("output", &[q, d]);
            add("ffn_norm", &[d]);
            add("gate", &[d, self.d_ff]);
            add("up", &[d, self.d_ff]);
            add("down", &[self.d_ff, d]);
        }
        tensors.push(("final_norm".to_owned(), vec![d]));
        if self.untied_head {
            tensors.push((UNEMBEDDING.to_owned(), vec![self.vocabulary, d]));
        }
        tensors
    }

    /// Checks that the sizes fit together, and that they are sizes of a model that can be held: no
    /// product of them overflows afterwards.
    ///
    /// # Errors
    /// Names the field and its value.
    pub fn check(&self) -> Result<()> {
        let wrong = |message: String| Err(UserError::setting(message).into());
        let sizes = [
            ("vocabulary", self.vocabulary, MAX_SIZE),
            ("d_model", self.d_model, MAX_SIZE),
            ("layers", self.layers, MAX_LAYERS),
            ("heads", self.heads, MAX_SIZE),
            ("kv_heads", self.kv_heads, MAX_SIZE),
            ("d_ff", self.d_ff, MAX_SIZE),
            ("context", self.context, MAX_SIZE),
            ("head_dim", self.head_dim.unwrap_or(1), MAX_SIZE),
        ];
        for (name, size, most) in sizes {
            if size == 0 {
                return wrong(format!(
                    "a model of size 0 cannot be built: {name} is 0 in {self:?}"
                ));
            }
            if size > most {
                return wrong(format!("{name} {size} is more than the {most} that are supported"));
            }
        }
        match self.head_dim {
            None if !self.d_model.is_multiple_of(2 * self.heads) => {
                let (d, heads) = (self.d_model, self.heads);
                return wrong(format!("d_model {d} is not a multiple of 2 × heads ({heads})"));
            }
            Some(odd) if odd % 2 == 1 => return wrong(format!("head_dim {odd} is not even")),
            _ => {}
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let (heads, kv) = (self.heads, self.kv_heads);
            return wrong(format!("heads {heads} is not a multiple of kv_heads {kv}"));
        }
        if self.query_width() > MAX_SIZE {
            let (heads, hd) = (self.heads, self.head_dim());
            return wrong(format!("heads {heads} × head_dim {hd} is more than {MAX_SIZE}"));
        }
        if self.context * self.head_dim() > MAX_POSITIONS {
            let (context, hd) = (self.context, self.head_dim());
            return wrong(format!(
                "context {context} × head_dim {hd} is more than {MAX_POSITIONS}: shorten the context"
            ));
        }
        let numbers = [("rope_base", self.rope_base), ("norm_eps", self.norm_eps)];
        for (name, value) in numbers {
            if !value.is_finite() || value <= 0.0 {
                return wrong(format!("{name} {value} is not a positive number"));
            }
        }
        self.rope_scaling.check(self.head_dim() / 2)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn smollm2() -> ModelConfig {
        ModelConfig {
            d_model: 576,
            layers: 30,
            heads: 9,
            kv_heads: 3,
            d_ff: 1536,
            rope_base: 100_000.0,
            ..ModelConfig::preset("xs", 49_152, 8_192).expect("known size")
        }
    }

    /// The published size of SmolLM2-135M, and its costs worked out by hand.
    #[test]
    fn sizes_and_costs_of_a_known_model() {
        let config = smollm2();
        assert_eq!(config.parameters(), 134_515_008);
        assert_eq!(config.kv_cache_bytes_per_token(), 2 * 30 * 3 * 64 * 4);
        // One token alone: 2 per parameter; attention over n tokens: on average n/2 positions, for
        // each a product with the key and one with the value, 2 operations each.
        let alone = 2.0 * 134_515_008.0;
        assert_eq!(config.forward_flops_per_token(0), alone);
        let attention = 30.0 * 500.0 * 2.0 * 2.0 * 576.0;
        assert_eq!(config.forward_flops_per_token(1000), alone + attention);
        // An embedding that is only looked up costs nothing.
        let untied = ModelConfig { untied_head: true, ..config.clone() };
        assert_eq!(untied.parameters() - config.parameters(), 49_152 * 576);
        assert_eq!(untied.forward_flops_per_token(7), config.forward_flops_per_token(7));
        for config in [config, untied, ModelConfig { head_dim: Some(10), ..smollm2() }] {
            let tensors = config.tensors();
            let sum: usize = tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
            assert_eq!(sum as u64, config.parameters());
        }
    }

    #[test]
    fn defaults_are_left_out_of_files() {
        let plain = serde_json::to_value(smollm2()).expect("json");
        assert_eq!(plain.as_object().map(serde_json::Map::len), Some(9), "{plain}");
        assert_eq!(serde_json::from_value::<ModelConfig>(plain).expect("reads"), smollm2());
        let scaling = RopeScaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8_192,
        };
        let all = ModelConfig {
            head_dim: Some(80),
            untied_head: true,
            rope_scaling: scaling,
            ..smollm2()
        };
        let text = serde_json::to_string(&all).expect("json");
        assert_eq!(serde_json::from_str::<ModelConfig>(&text).expect("reads"), all);
    }

    #[test]
    fn sizes_that_cannot_be_held_are_refused() {
        let wrong = [
            (ModelConfig { vocabulary: usize::MAX, ..smollm2() }, "vocabulary"),
            (ModelConfig { layers: 0, ..smollm2() }, "layers"),
            (ModelConfig { heads: 7, ..smollm2() }, "d_model 576"),
            (ModelConfig { kv_heads: 2, ..smollm2() }, "kv_heads 2"),
            (ModelConfig { head_dim: Some(3), ..smollm2() }, "head_dim 3"),
            (ModelConfig { head_dim: Some(1 << 18), ..smollm2() }, "head_dim 262144"),
            (ModelConfig { context: 1 << 20, head_dim: Some(256), ..smollm2() }, "shorten"),
            (ModelConfig { rope_base: f32::NAN, ..smollm2() }, "rope_base"),
            (
                ModelConfig { rope_scaling: RopeScaling::Linear { factor: 0.0 }, ..smollm2() },
                "factor",
            ),
            (
                ModelConfig {
                    rope_scaling: RopeScaling::Divisors { divisors: vec![1.0; 3] },
                    ..smollm2()
                },
                "32 pairs",
            ),
        ];
        for (config, named) in wrong {
            let error = config.check().expect_err(named).to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
