//! GGUF files of architecture `llama`: which model they hold, and their vocabulary.

use std::collections::BTreeMap;
use std::io::{BufRead, Seek};
use std::path::Path;

use anyhow::Result;

use super::gguf::Gguf;
use super::layout::Tensors;
use super::vocabulary::{Kind, Pieces};
use crate::model::{ModelConfig, RopeScaling};

/// Divisors of the rotary frequencies, a tensor of `head_dim / 2`; how Llama 3.1 is scaled.
pub const ROPE_FREQUENCIES: &str = "rope_freqs.weight";
const EMBEDDING: &str = "token_embd.weight";
const HEAD: &str = "output.weight";

/// The model that a file describes.
///
/// # Errors
/// Names the metadata key, its value and what is supported.
pub fn config<R: BufRead + Seek>(file: &mut Gguf<R>) -> Result<ModelConfig> {
    let architecture = file.text("general.architecture")?;
    if architecture != Some("llama") {
        let found = architecture.unwrap_or("none").to_owned();
        let message = format!("`{found}` is not supported: only `llama` is");
        return Err(file.wrong("metadata general.architecture", message).into());
    }
    if let Some(experts) = file.number("llama.expert_count")?.filter(|count| *count > 0) {
        let message = format!("{experts} experts are not supported: only dense models are");
        return Err(file.wrong("metadata llama.expert_count", message).into());
    }
    let size = |key: &str| -> Result<Option<usize>> {
        Ok(file.number(&format!("llama.{key}"))?.map(|value| value as usize))
    };
    let needed = |key: &str| -> Result<usize> {
        let missing = || file.wrong(format!("metadata llama.{key}"), "is missing");
        Ok(size(key)?.ok_or_else(missing)?)
    };
    let (d_model, heads) = (needed("embedding_length")?, needed("attention.head_count")?);
    let default = d_model / heads.max(1);
    let head_dim = size("attention.key_length")?.unwrap_or(default);
    for key in ["attention.value_length", "rope.dimension_count"] {
        if let Some(other) = size(key)?.filter(|other| *other != head_dim) {
            let message = format!(
                "is {other}, which is supported only as {head_dim}, the width of a head's keys"
            );
            return Err(file.wrong(format!("metadata llama.{key}"), message).into());
        }
    }
    let Some(embedding) = file.tensors.get(EMBEDDING) else {
        return Err(file.wrong(format!("tensor {EMBEDDING}"), "is missing").into());
    };
    let number = |key: &str, default: f32| -> Result<f32> {
        Ok(file.float(&format!("llama.{key}"))?.map_or(default, |value| value as f32))
    };
    let mut config = ModelConfig {
        vocabulary: embedding.shape[0],
        d_model,
        layers: needed("block_count")?,
        heads,
        kv_heads: size("attention.head_count_kv")?.unwrap_or(heads),
        d_ff: needed("feed_forward_length")?,
        context: needed("context_length")?,
        rope_base: number("rope.freq_base", 10_000.0)?,
        norm_eps: number("attention.layer_norm_rms_epsilon", 1e-5)?,
        head_dim: (head_dim != default).then_some(head_dim),
        untied_head: file.tensors.contains_key(HEAD),
        rope_scaling: RopeScaling::None,
    };
    let named = |error: anyhow::Error| file.wrong("model", error.to_string());
    config.check().map_err(named)?;
    config.rope_scaling = scaling(file, head_dim)?;
    config.check().map_err(|error| file.wrong("model", error.to_string()))?;
    Ok(config)
}

fn scaling<R: BufRead + Seek>(file: &mut Gguf<R>, head_dim: usize) -> Result<RopeScaling> {
    let key = "llama.rope.scaling.type";
    let linear = match file.text(key)? {
        // As llama.cpp has it: linear if the type is missing, older files have another key, and 0
        // is no scaling.
        None | Some("linear") => {
            let factor = file.float("llama.rope.scaling.factor")?;
            let factor = factor.or(file.float("llama.rope.scale_linear")?);
            factor.map(|factor| factor as f32).filter(|factor| *factor != 0.0)
        }
        Some("none") => None,
        Some(other) => {
            let message = format!("`{other}` is not supported: `none` and `linear` are");
            return Err(file.wrong(format!("metadata {key}"), message).into());
        }
    };
    let Some(divisors) = file.tensors.get(ROPE_FREQUENCIES) else {
        return Ok(linear.map_or(RopeScaling::None, |factor| RopeScaling::Linear { factor }));
    };
    if divisors.shape != [head_dim / 2] {
        let message = format!("has shape {:?}, expected [{}]", divisors.shape, head_dim / 2);
        return Err(file.wrong(format!("tensor {ROPE_FREQUENCIES}"), message).into());
    }
    let factor = linear.unwrap_or(1.0);
    let divisors = file.tensor(ROPE_FREQUENCIES)?.iter().map(|value| value * factor).collect();
    Ok(RopeScaling::Divisors { divisors })
}

/// The id of a special token ("bos", "eos"). −1, of any width, stands for none.
fn special<R>(file: &Gguf<R>, name: &str) -> Result<Option<u32>> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    if file.minus_one(&key) {
        return Ok(None);
    }
    let Some(id) = file.number(&key)? else { return Ok(None) };
    let too_large = || file.wrong(format!("metadata {key}"), format!("{id} is no token's id"));
    Ok(Some(u32::try_from(id).map_err(|_| too_large())?))
}

/// The tokens that end an answer.
///
/// # Errors
/// An id that is no whole number.
pub fn ends<R>(file: &Gguf<R>) -> Result<Vec<u32>> {
    let ids = [special(file, "eos")?, special(file, "eot")?];
    let mut ends: Vec<u32> = ids.into_iter().flatten().collect();
    ends.dedup();
    Ok(ends)
}

/// The vocabulary in the metadata; nothing if there is none.
///
/// # Errors
/// Lists of different lengths, a kind of tokenizer that is not supported.
pub fn pieces<R>(file: &Gguf<R>) -> Result<Option<Pieces>> {
    let Some(kind) = file.text("tokenizer.ggml.model")? else { return Ok(None) };
    let pre = file.text("tokenizer.ggml.pre")?;
    let Some(kind) = Kind::of_ggml(kind, pre) else {
        let message = format!(
            "`{kind}` with pre-tokenizer `{}` is not supported: `llama` is, and `gpt2` with \
             `gpt-2`, `smollm` or `llama-bpe`",
            pre.unwrap_or("none")
        );
        return Err(file.wrong("metadata tokenizer.ggml.model", message).into());
    };
    let list = |key: &str| -> Result<Vec<f64>> { Ok(file.numbers(key)?.unwrap_or_default()) };
    let texts = |key: &str| -> Result<Vec<String>> {
        Ok(file.texts(key)?.map(<[String]>::to_vec).unwrap_or_default())
    };
    let id = |key: &str| special(file, key);
    let flag = |key: &str| file.flag(&format!("tokenizer.ggml.{key}"));
    let pieces = Pieces {
        tokens: texts("tokenizer.ggml.tokens")?,
        merges: texts("tokenizer.ggml.merges")?,
        scores: list("tokenizer.ggml.scores")?,
        types: list("tokenizer.ggml.token_type")?,
        begin: id("bos")?,
        ends: ends(file)?,
        unknown: id("unknown")?,
        add_begin: flag("add_bos_token")?.unwrap_or(kind.adds_begin()),
        add_space: flag("add_space_prefix")?.unwrap_or(true),
        kind,
    };
    pieces.check().map_err(|message| file.wrong("metadata tokenizer.ggml", message))?;
    Ok(Some(pieces))
}

impl<R: BufRead + Seek> Tensors for Gguf<R> {
    fn path(&self, _: &str) -> &Path {
        Gguf::path(self)
    }

    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect()
    }

    fn read(&mut self, name: &str) -> Result<Vec<f32>> {
        self.tensor(name)
    }
}
