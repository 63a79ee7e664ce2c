//! How files of the Llama family name and store what [`ModelConfig::tensors`] lists.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use crate::error::UserError;
use crate::model::{ModelConfig, Weights};

/// The conventions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// [`ModelConfig::tensors`] as it is.
    Own,
    /// Hugging Face: matrices `[out, in]`, rotary pairs (i, i + half) of a head, like ours.
    HuggingFace,
    /// llama.cpp: the same, but the rows of query and key reordered in each head so that rotary
    /// pairs are neighbours (2i, 2i + 1).
    Gguf,
}

/// Our names of tensors with those of Hugging Face and of GGUF; of a layer, the part after its
/// number.
const OUTSIDE: [(&str, &str, &str); 3] = [
    ("token_embedding", "model.embed_tokens.weight", "token_embd.weight"),
    ("final_norm", "model.norm.weight", "output_norm.weight"),
    ("unembedding", "lm_head.weight", "output.weight"),
];
const IN_LAYER: [(&str, &str, &str); 9] = [
    ("attention_norm", "input_layernorm", "attn_norm"),
    ("query", "self_attn.q_proj", "attn_q"),
    ("key", "self_attn.k_proj", "attn_k"),
    ("value", "self_attn.v_proj", "attn_v"),
    ("output", "self_attn.o_proj", "attn_output"),
    ("ffn_norm", "post_attention_layernorm", "ffn_norm"),
    ("gate", "mlp.gate_proj", "ffn_gate"),
    ("up", "mlp.up_proj", "ffn_up"),
    ("down", "mlp.down_proj", "ffn_down"),
];

/// Hugging Face's module of a matrix of a layer ("query" → "self_attn.q_proj").
pub fn hugging_face_module(part: &str) -> Option<&'static str> {
    IN_LAYER.iter().find(|(ours, _, _)| *ours == part).map(|(_, theirs, _)| *theirs)
}

impl Layout {
    /// The file's name of our tensor `name`.
    pub fn name(self, name: &str) -> String {
        let gguf = match self {
            Self::Own => return name.to_owned(),
            Self::HuggingFace => false,
            Self::Gguf => true,
        };
        let outside = OUTSIDE.iter().find(|(ours, _, _)| *ours == name);
        if let Some((_, theirs, in_gguf)) = outside {
            return if gguf { *in_gguf } else { *theirs }.to_owned();
        }
        let rest = name.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
        let found = rest.and_then(|(layer, part)| {
            IN_LAYER.iter().find(|(ours, _, _)| *ours == part).map(|found| (layer, found))
        });
        let Some((layer, (_, theirs, in_gguf))) = found else {
            unreachable!("{name} is in the tables")
        };
        if gguf {
            format!("blk.{layer}.{in_gguf}.weight")
        } else {
            format!("model.layers.{layer}.{theirs}.weight")
        }
    }

    /// Whether the file holds our matrix `[in, out]` as `[out, in]`.
    fn transposed(self, ours: &str, shape: &[usize]) -> bool {
        self != Self::Own && shape.len() == 2 && ours.starts_with("layers.")
    }
}

/// Tensors of a file, by its own names.
pub trait Tensors {
    /// The file, for messages.
    fn path(&self, name: &str) -> &Path;

    /// Names with shapes, row-major.
    fn shapes(&self) -> BTreeMap<String, Vec<usize>>;

    /// The values of a tensor, row-major.
    fn read(&mut self, name: &str) -> Result<Vec<f32>>;
}

/// Checks that the file has the tensors of `config` in the right shapes, and nothing that the model
/// would need but does not know (`ignored` tells what may stand there besides).
///
/// # Errors
/// Names file and tensor.
pub fn check(
    tensors: &dyn Tensors,
    layout: Layout,
    config: &ModelConfig,
    ignored: impl Fn(&str) -> bool,
) -> Result<()> {
    let mut shapes = tensors.shapes();
    for (ours, shape) in config.tensors() {
        let name = layout.name(&ours);
        let expected =
            if layout.transposed(&ours, &shape) { vec![shape[1], shape[0]] } else { shape };
        let wrong = |message: String| {
            UserError::input(tensors.path(&name), format!("tensor {name}"), message)
        };
        match shapes.remove(&name) {
            None => return Err(wrong("is missing".to_owned()).into()),
            Some(found) if found != expected => {
                return Err(wrong(format!("has shape {found:?}, expected {expected:?}")).into());
            }
            Some(_) => {}
        }
    }
    match shapes.keys().find(|name| !ignored(name)) {
        None => Ok(()),
        Some(name) => {
            let message = "belongs to no part of a Llama model that is supported".to_owned();
            Err(UserError::input(tensors.path(name), format!("tensor {name}"), message).into())
        }
    }
}

/// Reads the weights that [`check`] has found, one tensor at a time.
///
/// # Errors
/// A file that cannot be read any more; a value that is infinite or not a number.
pub fn weights(tensors: &mut dyn Tensors, layout: Layout, config: &ModelConfig) -> Result<Weights> {
    let mut all = Vec::new();
    for (ours, shape) in config.tensors() {
        let name = layout.name(&ours);
        let values = read(tensors, &name)?;
        let paired = layout == Layout::Gguf && (ours.ends_with("query") || ours.ends_with("key"));
        let values = if layout.transposed(&ours, &shape) {
            let head = paired.then(|| config.head_dim());
            transpose(&values, shape[1], shape[0], |row| match head {
                Some(head_dim) => unpaired(row, head_dim),
                None => row,
            })
        } else {
            values
        };
        all.push((ours, values));
    }
    Ok(Weights::from_tensors(all))
}

/// Reads a tensor and checks its values.
pub fn read(tensors: &mut dyn Tensors, name: &str) -> Result<Vec<f32>> {
    let values = tensors.read(name)?;
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(index) => {
            let message = format!("value {index} is {}: the file is damaged", values[index]);
            let place = format!("tensor {name}");
            Err(UserError::input(tensors.path(name), place, message).into())
        }
    }
}

/// Where row `row` of a GGUF query or key belongs: neighbours (2i, 2i + 1) of a head go to
/// (i, i + half).
fn unpaired(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    head * head_dim + within % 2 * (head_dim / 2) + within / 2
}

/// `out[column, place(row)] = values[row, column]` for `values` of `[rows, columns]`.
fn transpose(
    values: &[f32],
    rows: usize,
    columns: usize,
    place: impl Fn(usize) -> usize,
) -> Vec<f32> {
    /// Rows and columns that are moved together: both sides of the copy stay in the cache.
    const TILE: usize = 32;
    let mut out = vec![0.0; values.len()];
    for first_row in (0..rows).step_by(TILE) {
        for first in (0..columns).step_by(TILE) {
            for row in first_row..rows.min(first_row + TILE) {
                let target = place(row);
                for column in first..columns.min(first + TILE) {
                    out[column * rows + target] = values[row * columns + column];
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposition_of_odd_sizes() {
        let values: Vec<f32> = (0..35 * 70).map(|i| i as f32).collect();
        let out = transpose(&values, 35, 70, |row| row);
        for row in 0..35 {
            for column in 0..70 {
                assert_eq!(out[column * 35 + row], values[row * 70 + column]);
            }
        }
    }

    /// llama.cpp's converter reshapes `[heads, 2, half]` to `[heads, half, 2]`.
    #[test]
    fn paired_rows_go_back_to_halves() {
        let (heads, half) = (3, 4);
        for head in 0..heads {
            for side in 0..2 {
                for pair in 0..half {
                    let ours = head * 2 * half + side * half + pair;
                    let converted = head * 2 * half + 2 * pair + side;
                    assert_eq!(unpaired(converted, 2 * half), ours);
                }
            }
        }
    }

    #[test]
    fn names_of_both_conventions() {
        let name = "layers.12.key";
        assert_eq!(Layout::HuggingFace.name(name), "model.layers.12.self_attn.k_proj.weight");
        assert_eq!(Layout::Gguf.name(name), "blk.12.attn_k.weight");
        assert_eq!(Layout::Gguf.name("unembedding"), "output.weight");
        assert_eq!(hugging_face_module("down"), Some("mlp.down_proj"));
    }
}
