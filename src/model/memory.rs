//! Whether a training fits into memory, asked before it starts.

use anyhow::Result;

use super::{Chosen, ModelConfig, host};
use crate::error::UserError;

/// Bytes that training needs, about: parameters with two moments, a set of gradients per lane, and
/// the activations of the chunks under way.
fn training_bytes(model: &ModelConfig, batch_tokens: usize) -> u64 {
    let lanes = host::lanes(batch_tokens) as u64;
    let parameters = model.parameters();
    let kv = model.kv_heads * model.head_dim();
    // Per token and layer: input, qkv, mixed, middle, gate and up, inner.
    let per_layer = 3 * model.d_model + (model.heads * model.head_dim() + 2 * kv) + 3 * model.d_ff;
    let per_token = model.layers * per_layer + 2 * model.vocabulary + 8 * model.d_model;
    // A chunk grows up to the longest document.
    let chunk = host::CHUNK.max(model.context.min(batch_tokens)) as u64;
    let packed = parameters;
    4 * ((3 + lanes) * parameters + packed + lanes * chunk * per_token as u64)
}

/// # Errors
/// If training on the CPU needs more memory than there is, with the settings to change.
pub fn check(model: &ModelConfig, batch_tokens: usize, chosen: &Chosen) -> Result<()> {
    let needed = training_bytes(model, batch_tokens);
    match available() {
        Some(available) if chosen.name == "cpu" && needed > available => {
            Err(too_large(model, needed, available).into())
        }
        _ => Ok(()),
    }
}

fn too_large(model: &ModelConfig, needed: u64, available: u64) -> UserError {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    UserError::setting(format!(
        "training {:.1} million parameters needs about {:.1} GiB of memory, and {:.1} GiB are free: choose a smaller `size` or `batch_tokens`",
        model.parameters() as f64 / 1e6,
        gib(needed),
        gib(available)
    ))
}

/// Free memory, bytes; `None` where the system does not tell.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_models_need_more_than_small_ones_and_the_message_names_settings() {
        let bytes = |size: &str, batch: usize| {
            let model = ModelConfig::preset(size, 3000, 1024).expect("known size");
            training_bytes(&model, batch)
        };
        assert!(bytes("s", 1024) < 200 << 20, "{}", bytes("s", 1024));
        assert!(bytes("s", 1024) < bytes("s", 8192));
        assert!(bytes("xxl", 1024) > 4 << 30);
        let model = ModelConfig::preset("xxl", 3000, 1024).expect("known size");
        let message = too_large(&model, 9 << 30, 3 << 30).to_string();
        assert!(message.contains("about 9.0 GiB") && message.contains("`size`"), "{message}");
    }
}
