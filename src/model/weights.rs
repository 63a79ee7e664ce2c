//! Weights on disk: safetensors, f32, one tensor per name of [`ModelConfig::tensors`].

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::ModelConfig;
use crate::durable;
use crate::error::UserError;
use crate::random;

/// Largest weight file that is read: 8 GiB.
const MAX_BYTES: u64 = 8 << 30;

/// All tensors of a model, row-major f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights(HashMap<String, Vec<f32>>);

/// File of the final weights, or of the snapshot taken after `tokens` training tokens.
pub fn file_name(snapshot: Option<u64>) -> String {
    match snapshot {
        Some(tokens) => format!("snapshot-{tokens}.safetensors"),
        None => "model.safetensors".to_owned(),
    }
}

impl Weights {
    /// Initial weights: normal with standard deviation 0.02 (embedding: 0.05), smaller by √(2·layers)
    /// for the projections that end in the residual stream; norms are 1. Each tensor has its own
    /// stream.
    pub fn initial(config: &ModelConfig, seed: u64) -> Self {
        use rand_distr::{Distribution, Normal};
        let residual = 0.02 / (2.0 * config.layers as f64).sqrt();
        let tensors = config.tensors().into_iter().enumerate().map(|(index, (name, shape))| {
            let size = shape.iter().product();
            let deviation = match name.rsplit('.').next().unwrap_or(&name) {
                "attention_norm" | "ffn_norm" | "final_norm" => return (name, vec![1.0; size]),
                "output" | "down" => residual,
                "token_embedding" => 0.05,
                _ => 0.02,
            };
            let mut rng = random::stream(seed, "initial weights", &[index as u64]);
            let values = match Normal::new(0.0, deviation) {
                Ok(normal) => (0..size).map(|_| normal.sample(&mut rng) as f32).collect(),
                Err(_) => vec![0.0; size],
            };
            (name, values)
        });
        Self(tensors.collect())
    }

    pub fn from_tensors(tensors: impl IntoIterator<Item = (String, Vec<f32>)>) -> Self {
        Self(tensors.into_iter().collect())
    }

    /// The same weights with other values for one tensor.
    pub fn with(mut self, name: &str, values: Vec<f32>) -> Self {
        self.0.insert(name.to_owned(), values);
        self
    }

    /// The values of one tensor.
    pub fn get(&self, name: &str) -> Result<&[f32], UserError> {
        let values = self.0.get(name).map(Vec::as_slice);
        values.ok_or_else(|| UserError::setting(format!("the model has no tensor `{name}`")))
    }

    /// The values of one tensor, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Result<&mut [f32], UserError> {
        let values = self.0.get_mut(name).map(Vec::as_mut_slice);
        values.ok_or_else(|| UserError::setting(format!("the model has no tensor `{name}`")))
    }

    /// Reads the weights in `dir` and checks every name and shape.
    ///
    /// # Errors
    /// A missing, damaged or oversized file; a tensor of another name, type or shape.
    pub fn load(dir: &Path, snapshot: Option<u64>, config: &ModelConfig) -> Result<Self> {
        let path = dir.join(file_name(snapshot));
        let bytes = read_bounded(&path)?;
        let wrong = |place: &str, message: String| UserError::input(&path, place, message);
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|error| wrong("safetensors", error.to_string()))?;
        let mut tensors = HashMap::new();
        for (name, shape) in config.tensors() {
            let place = format!("tensor {name}");
            let tensor = file.tensor(&name).map_err(|error| wrong(&place, error.to_string()))?;
            if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
                let found = format!("{:?} {:?}", tensor.dtype(), tensor.shape());
                return Err(wrong(&place, format!("is {found}, expected F32 {shape:?}")).into());
            }
            let bytes = tensor.data().chunks_exact(4);
            let values = bytes.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            tensors.insert(name, values);
        }
        Ok(Self(tensors))
    }

    /// Writes the weights to `path`, whole or not at all.
    pub fn save(&self, path: &Path, config: &ModelConfig) -> Result<()> {
        let mut buffers = Vec::new();
        for (name, shape) in config.tensors() {
            let bytes: Vec<u8> = self.get(&name)?.iter().flat_map(|v| v.to_le_bytes()).collect();
            buffers.push((name, shape, bytes));
        }
        let views = buffers
            .iter()
            .map(|(name, shape, bytes)| {
                Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(durable::write(path, &safetensors::serialize(views, None)?)?)
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let cannot = |error| UserError::io(path, "cannot be read", error);
    let size = std::fs::metadata(path).map_err(cannot)?.len();
    if size > MAX_BYTES {
        let message = format!("{size} bytes are more than the {MAX_BYTES} that are read");
        return Err(UserError::input(path, "size", message).into());
    }
    Ok(std::fs::read(path).map_err(cannot)?)
}
