//! Whether a training fits into memory, asked before it starts.

mod free;

use anyhow::Result;

use super::{Chosen, Footprint, ModelConfig, Precision, host};
use crate::error::UserError;

/// Copies of a checkpoint's numbers (values and two moments) on their way to the file.
const CHECKPOINT: u64 = 2 * 3;

/// A training that is to fit into memory. What it needs is estimated for texts as long as the context.
#[derive(Clone, Copy)]
pub struct Demand<'a> {
    pub model: &'a ModelConfig,
    /// Numbers that learn: all parameters of the model, or its adapters.
    pub learnt: u64,
    pub batch_tokens: usize,
    pub footprint: Footprint,
}

impl Demand<'_> {
    /// # Errors
    /// If the training needs more memory than there is, with the settings to change.
    pub fn check(&self, chosen: &Chosen) -> Result<()> {
        if chosen.name == "cpu" {
            return self.compare(self.on_cpu(), free::on_host(), "memory");
        }
        self.compare(self.beside_gpu(), free::on_host(), "memory")?;
        self.compare(self.on_gpu(), free::on_gpu(&chosen.name), "memory of the GPU")
    }

    /// Bytes on the CPU, about: the parameters with the copy that the training began with; two
    /// moments, gradients in each lane, and checkpoints of what learns; and the activations of the
    /// chunks under way.
    fn on_cpu(&self) -> u64 {
        let Self { model, learnt, batch_tokens, footprint } = *self;
        let cut = host::Cut::new(footprint);
        let lanes = cut.lanes(batch_tokens) as u64;
        // A chunk grows up to the longest document.
        let chunk = cut.chunk.max(model.context.min(batch_tokens)) as u64;
        // Of what learns, the values are among the parameters, or few.
        let numbers = 2 * model.parameters() + (2 + lanes + CHECKPOINT) * learnt;
        4 * (numbers + lanes * chunk * self.per_token())
    }

    /// Activations that the CPU keeps for each token.
    fn per_token(&self) -> u64 {
        let Self { model, footprint, .. } = *self;
        let (d, q, kv) = (model.d_model, model.query_width(), model.kv_width());
        // Queries, keys and values, mixed, middle, gate and up, inner.
        let layer = (q + 2 * kv) + q + d + 3 * model.d_ff;
        let layers = if footprint.checkpoint_activations { 1 } else { model.layers };
        (model.layers * d + layers * layer + 2 * model.vocabulary + 8 * d) as u64
    }

    /// Bytes on the host of a training on a GPU: parameters, the copy that the training began with,
    /// two moments, gradients, checkpoints.
    fn beside_gpu(&self) -> u64 {
        4 * (5 + CHECKPOINT) * self.model.parameters()
    }

    /// Bytes on a GPU, about: parameters, their gradients in the sum and in the pass under way, and
    /// what automatic differentiation keeps of a rectangle.
    fn on_gpu(&self) -> u64 {
        let Self { model, batch_tokens, footprint, .. } = *self;
        let most = footprint.micro_batch_tokens.unwrap_or(batch_tokens).min(batch_tokens);
        // A row is at least three quarters full, and at least one document long.
        let positions = (most * 4 / 3).max(model.context.min(batch_tokens)) as u64;
        let short = if footprint.precision == Precision::Bf16 { 2 } else { 4 };
        let (d, q, kv) = (model.d_model, model.query_width(), model.kv_width());
        let scores = (model.heads * model.context.min(batch_tokens)) as u64;
        let qkv = (q + 2 * kv) as u64;
        let (d, d_ff) = (d as u64, model.d_ff as u64);
        // Numbers that products keep of a token and layer, then those that checkpointing computes
        // again: of norms and the residual stream, of positions, of the feed-forward, of softmax.
        let kept = short * (2 * d + qkv + q as u64 + 3 * d_ff + scores) + 4 * 2 * d;
        let again = 4 * (8 * d + 4 * qkv + 3 * scores) + short * 2 * d_ff;
        let layer = if footprint.checkpoint_activations { kept } else { kept + again };
        let logits = 4 * 3 * model.vocabulary as u64;
        let parameters = (3 * 4 + if short == 2 { 2 } else { 0 }) * model.parameters();
        parameters + positions * (model.layers as u64 * layer + logits)
    }

    fn compare(&self, needed: u64, free: Option<u64>, what: &str) -> Result<()> {
        match free {
            Some(free) if needed > free => Err(self.too_large(needed, free, what).into()),
            _ => Ok(()),
        }
    }

    fn too_large(&self, needed: u64, free: u64, what: &str) -> UserError {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let checkpoint = if self.footprint.checkpoint_activations {
            ""
        } else {
            ", or set `checkpoint_activations = true`"
        };
        UserError::setting(format!(
            "training {:.1} of {:.1} million parameters needs about {:.1} GiB of {what}, and {:.1} GiB are free: choose a smaller `size`, `context`, `batch_tokens` or `micro_batch_tokens`{checkpoint}",
            self.learnt as f64 / 1e6,
            self.model.parameters() as f64 / 1e6,
            gib(needed),
            gib(free)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preset(size: &str) -> ModelConfig {
        ModelConfig::preset(size, 3000, 1024).expect("known size")
    }

    fn demand(model: &ModelConfig, batch_tokens: usize, footprint: Footprint) -> Demand<'_> {
        Demand { model, learnt: model.parameters(), batch_tokens, footprint }
    }

    #[test]
    fn large_models_need_more_than_small_ones_and_the_message_names_settings() {
        let (small, large, usual) = (preset("s"), preset("xxl"), Footprint::default());
        let bytes = |model, batch| demand(model, batch, usual).on_cpu();
        assert!(bytes(&small, 1024) < 200 << 20, "{}", bytes(&small, 1024));
        assert!(bytes(&small, 1024) < bytes(&small, 8192));
        assert!(bytes(&large, 1024) > 4 << 30);
        let message = |footprint| {
            demand(&large, 1024, footprint).too_large(9 << 30, 3 << 30, "memory").to_string()
        };
        let plain = message(usual);
        assert!(plain.contains("about 9.0 GiB of memory, and 3.0 GiB are free"), "{plain}");
        for setting in ["size", "context", "batch_tokens", "micro_batch_tokens"] {
            assert!(plain.contains(&format!("`{setting}`")), "{plain}");
        }
        assert!(plain.contains("`checkpoint_activations = true`"), "{plain}");
        let frugal = message(Footprint { checkpoint_activations: true, ..usual });
        assert!(!frugal.contains("checkpoint_activations"), "{frugal}");
    }

    /// Every setting that the message names helps.
    #[test]
    fn settings_save_memory() {
        let model = preset("l");
        let usual = Footprint::default();
        let micro = Footprint { micro_batch_tokens: Some(512), ..usual };
        let checkpoint = Footprint { checkpoint_activations: true, ..usual };
        let bf16 = Footprint { precision: Precision::Bf16, ..usual };
        let cpu = |footprint| demand(&model, 8192, footprint).on_cpu();
        let gpu = |footprint| demand(&model, 8192, footprint).on_gpu();
        assert!(2 * cpu(micro) < cpu(usual), "{} {}", cpu(micro), cpu(usual));
        assert!(cpu(checkpoint) < cpu(usual));
        // Each of the 8 layers' activations are there in full, or one layer's and the others' inputs.
        let (all, one) = (demand(&model, 1, usual), demand(&model, 1, checkpoint));
        assert!(2 * one.per_token() < all.per_token() + 2 * 2 * 3000 + 16 * 512);
        assert!(gpu(micro) < gpu(checkpoint) && gpu(checkpoint) < gpu(usual));
        assert!(gpu(bf16) < gpu(usual));
        let adapters = Demand { learnt: 100_000, ..demand(&model, 8192, usual) };
        assert!(adapters.on_cpu() < cpu(usual));
    }
}
