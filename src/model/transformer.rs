//! The transformer in Burn, for training (and for decoding on a GPU).
//!
//! Matrices that read the same input are kept side by side (query, key and value; gate and up), so
//! that each layer has four products instead of seven. Files keep them apart ([`Weights`]).

use anyhow::{Result, anyhow};
use burn::tensor::activation::{silu, softmax};
use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};

use super::config::UNEMBEDDING;
use super::rotary::Rotary;
use super::{ModelConfig, Precision, Weights};

/// One learnt tensor on the host: the master copy that the optimiser updates.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    pub name: String,
    /// One or two dimensions.
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
    /// Whether weight decay applies: matrices yes, norms and embeddings no.
    pub decay: bool,
}

/// Which tensors of the file stand side by side in a parameter of layer `layer`.
fn parts(layer: usize) -> [(&'static str, Vec<String>); 6] {
    let name = |part: &str| format!("layers.{layer}.{part}");
    [
        ("attention_norm", vec![name("attention_norm")]),
        ("qkv", vec![name("query"), name("key"), name("value")]),
        ("output", vec![name("output")]),
        ("ffn_norm", vec![name("ffn_norm")]),
        ("gate_up", vec![name("gate"), name("up")]),
        ("down", vec![name("down")]),
    ]
}

/// The training layout of `weights`.
pub fn parameters(config: &ModelConfig, weights: &Weights) -> Result<Vec<Parameter>> {
    let shapes: std::collections::HashMap<String, Vec<usize>> =
        config.tensors().into_iter().collect();
    let single = |name: &str, decay: bool| -> Result<Parameter> {
        let shape = shapes[name].clone();
        Ok(Parameter { name: name.to_owned(), shape, values: weights.get(name)?.to_vec(), decay })
    };
    let mut parameters = vec![single("token_embedding", false)?];
    for layer in 0..config.layers {
        for (name, parts) in parts(layer) {
            if parts.len() == 1 {
                parameters.push(single(&parts[0], !name.ends_with("norm"))?);
                continue;
            }
            let widths: Vec<usize> = parts.iter().map(|part| shapes[part][1]).collect();
            let rows = shapes[&parts[0]][0];
            let mut values = Vec::with_capacity(rows * widths.iter().sum::<usize>());
            for row in 0..rows {
                for (part, width) in parts.iter().zip(&widths) {
                    values.extend_from_slice(&weights.get(part)?[row * width..(row + 1) * width]);
                }
            }
            let shape = vec![rows, widths.iter().sum()];
            let name = format!("layers.{layer}.{name}");
            parameters.push(Parameter { name, shape, values, decay: true });
        }
    }
    parameters.push(single("final_norm", false)?);
    if config.untied_head {
        parameters.push(single(UNEMBEDDING, true)?);
    }
    Ok(parameters)
}

/// The file layout of `parameters`: the inverse of [`parameters`].
pub fn weights(config: &ModelConfig, parameters: &[Parameter]) -> Weights {
    let shapes: std::collections::HashMap<String, Vec<usize>> =
        config.tensors().into_iter().collect();
    let mut tensors = Vec::new();
    let mut add = |parts: &[String], parameter: &Parameter| {
        if let [only] = parts {
            tensors.push((only.clone(), parameter.values.clone()));
            return;
        }
        let mut start = 0;
        for part in parts {
            let width = shapes[part][1];
            let rows = parameter.values.chunks_exact(parameter.shape[1]);
            let values = rows.flat_map(|row| row[start..start + width].iter().copied()).collect();
            tensors.push((part.clone(), values));
            start += width;
        }
    };
    let mut parameters = parameters.iter();
    let names = std::iter::once(vec!["token_embedding".to_owned()])
        .chain((0..config.layers).flat_map(|layer| parts(layer).map(|(_, parts)| parts)))
        .chain(std::iter::once(vec!["final_norm".to_owned()]))
        .chain(config.untied_head.then(|| vec![UNEMBEDDING.to_owned()]));
    for parts in names {
        if let Some(parameter) = parameters.next() {
            add(&parts, parameter);
        }
    }
    Weights::from_tensors(tensors)
}

/// The parameters on a device, in the order of [`parameters`].
///
/// With [`Precision::Bf16`] the products and what stands between them are in bf16; the parameters and
/// their gradients, the residual stream, norms, rotary positions, softmax and logits stay in f32.
pub struct Network {
    config: ModelConfig,
    precision: Precision,
    device: Device,
    /// Matrices; empty at the places of vectors.
    matrices: Vec<Option<Tensor<2>>>,
    vectors: Vec<Option<Tensor<1>>>,
    cosines: Tensor<4>,
    sines: Tensor<4>,
}

/// Where a matrix `[inputs, outputs]` of the file lies among the parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub parameter: usize,
    pub inputs: usize,
    pub outputs: usize,
    /// First column in the parameter.
    pub column: usize,
    /// Columns of the parameter.
    pub stride: usize,
}

/// The place of matrix `part` ("query", …) of a layer.
pub fn place(config: &ModelConfig, layer: usize, part: &str) -> Place {
    let (d, q, kv, ff) = (config.d_model, config.query_width(), config.kv_width(), config.d_ff);
    // Number among the layer's parameters, inputs, outputs, column, stride.
    let (number, inputs, outputs, column, stride) = match part {
        "query" => (1, d, q, 0, q + 2 * kv),
        "key" => (1, d, kv, q, q + 2 * kv),
        "value" => (1, d, kv, q + kv, q + 2 * kv),
        "output" => (2, q, d, 0, d),
        "gate" => (4, d, ff, 0, 2 * ff),
        "up" => (4, d, ff, ff, 2 * ff),
        "down" => (5, ff, d, 0, d),
        _ => unreachable!("{part} is no matrix of a layer"),
    };
    Place { parameter: 1 + layer * PER_LAYER + number, inputs, outputs, column, stride }
}

/// Parameters per layer.
pub const PER_LAYER: usize = 6;

/// Place of the final norm among the parameters.
pub fn final_norm(config: &ModelConfig) -> usize {
    1 + config.layers * PER_LAYER
}

/// Place of the matrix that makes the logits: its own one, or the embedding.
pub fn unembedding(config: &ModelConfig) -> usize {
    if config.untied_head { final_norm(config) + 1 } else { 0 }
}

impl Network {
    /// Puts the parameters on `device`; with an autodiff device they take part in gradients.
    pub fn new(
        config: &ModelConfig,
        precision: Precision,
        parameters: &[Parameter],
        device: &Device,
    ) -> Self {
        let mut matrices = Vec::new();
        let mut vectors = Vec::new();
        let track = device.is_autodiff();
        for parameter in parameters {
            let data = TensorData::new(parameter.values.clone(), parameter.shape.clone());
            if parameter.shape.len() == 2 {
                let tensor = Tensor::<2>::from_data(data, device).set_require_grad(track);
                matrices.push(Some(tensor));
                vectors.push(None);
            } else {
                let tensor = Tensor::<1>::from_data(data, device).set_require_grad(track);
                vectors.push(Some(tensor));
                matrices.push(None);
            }
        }
        let (cosines, sines) = rotary(config, device);
        let (config, device) = (config.clone(), device.clone());
        Self { config, precision, device, matrices, vectors, cosines, sines }
    }

    /// The device, with autodiff if gradients are kept.
    pub fn device(&self) -> &Device {
        &self.device
    }

    fn master(&self, index: usize) -> Tensor<2> {
        self.matrices[index].clone().expect("the order of `parameters`")
    }

    /// A matrix for a product. Each use is rounded apart, so that the gradients of a tied embedding
    /// meet in f32.
    fn matrix(&self, index: usize) -> Tensor<2> {
        self.short(self.master(index))
    }

    /// Rounded for a product.
    fn short<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self.precision {
            Precision::F32 => x,
            Precision::Bf16 => x.cast(FloatDType::BF16),
        }
    }

    /// Back from a product.
    fn long<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self.precision {
            Precision::F32 => x,
            Precision::Bf16 => x.cast(FloatDType::F32),
        }
    }

    fn vector(&self, index: usize) -> Tensor<1> {
        self.vectors[index].clone().expect("the order of `parameters`")
    }

    /// Logits `[rows · length, vocabulary]` of `tokens`, row-major `[rows, length]`. Padding stands
    /// at the end of a row, where causal attention keeps it from everything else.
    pub fn logits(&self, tokens: &[u32], rows: usize, length: usize) -> Tensor<2> {
        let ids: Vec<i64> = tokens.iter().map(|token| i64::from(*token)).collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [rows * length]), &self.device);
        let mask = causal_mask(length, &self.device);
        let mut x = self.master(0).select(0, ids);
        for layer in 0..self.config.layers {
            let at = 1 + layer * PER_LAYER;
            let normed = self.norm(x.clone(), at);
            x = x + self.attention(normed, at, rows, length, &mask);
            let normed = self.norm(x.clone(), at + 3);
            x = x + self.feed_forward(normed, at);
        }
        let head = self.matrix(unembedding(&self.config));
        self.long(self.norm(x, final_norm(&self.config)).matmul(head.transpose()))
    }

    /// RMSNorm of `[rows, d_model]`, rounded for the product that follows.
    fn norm(&self, x: Tensor<2>, gain: usize) -> Tensor<2> {
        let mean = x.clone().square().mean_dim(1);
        let scale = (mean + self.config.norm_eps).sqrt().recip();
        self.short(x * scale * self.vector(gain).unsqueeze::<2>())
    }

    fn attention(
        &self,
        x: Tensor<2>,
        at: usize,
        rows: usize,
        length: usize,
        mask: &Tensor<4>,
    ) -> Tensor<2> {
        let (heads, kv) = (self.config.heads, self.config.kv_heads);
        let hd = self.config.head_dim();
        let qkv = x.matmul(self.matrix(at + 1)).reshape([rows, length, heads + 2 * kv, hd]);
        let mut parts = qkv.split_with_sizes(vec![heads + kv, kv], 2).into_iter();
        let (Some(qk), Some(v)) = (parts.next(), parts.next()) else { unreachable!("two parts") };
        let qk = self.short(self.rotate(self.long(qk), length));
        let mut parts = qk.split_with_sizes(vec![heads, kv], 2).into_iter();
        let (Some(q), Some(k)) = (parts.next(), parts.next()) else { unreachable!("two parts") };
        let group = heads / kv;
        let widen = |x: Tensor<4>| -> Tensor<4> {
            let x = x.swap_dims(1, 2);
            if group == 1 {
                return x;
            }
            let x: Tensor<5> = x.unsqueeze_dim(2);
            x.expand([rows, kv, group, length, hd]).reshape([rows, heads, length, hd])
        };
        let (q, k, v) = (q.swap_dims(1, 2), widen(k), widen(v));
        let scale = 1.0 / (hd as f32).sqrt();
        let scores = self.long(q.matmul(k.swap_dims(2, 3))) * scale + mask.clone();
        let mixed = self.short(softmax(scores, 3)).matmul(v);
        let mixed = mixed.swap_dims(1, 2).reshape([rows * length, heads * hd]);
        self.long(mixed.matmul(self.matrix(at + 2)))
    }

    /// Rotary positions on `[rows, length, heads, head_dim]`, rotate-half convention.
    fn rotate(&self, x: Tensor<4>, length: usize) -> Tensor<4> {
        let half = self.config.head_dim() / 2;
        let mut halves = x.clone().split_with_sizes(vec![half, half], 3).into_iter();
        let (Some(a), Some(b)) = (halves.next(), halves.next()) else { unreachable!("two halves") };
        let turned = Tensor::cat(vec![b.neg(), a], 3);
        let cosines = self.cosines.clone().narrow(1, 0, length);
        let sines = self.sines.clone().narrow(1, 0, length);
        x * cosines + turned * sines
    }

    fn feed_forward(&self, x: Tensor<2>, at: usize) -> Tensor<2> {
        let d_ff = self.config.d_ff;
        let inner = x.matmul(self.matrix(at + 4));
        let mut parts = inner.split_with_sizes(vec![d_ff, d_ff], 1).into_iter();
        let (Some(gate), Some(up)) = (parts.next(), parts.next()) else {
            unreachable!("two parts")
        };
        self.long((silu(gate) * up).matmul(self.matrix(at + 5)))
    }

    /// Adds the gradient of every parameter after a backward pass to `sum`, on the device.
    ///
    /// # Errors
    /// A parameter that took no part in the pass.
    pub fn add_gradients(
        &self,
        mut gradients: burn::tensor::Gradients,
        sum: &mut GradientSum,
    ) -> Result<()> {
        sum.0.resize_with(self.matrices.len(), || None);
        for ((matrix, vector), sum) in self.matrices.iter().zip(&self.vectors).zip(&mut sum.0) {
            let gradient = match (matrix, vector) {
                (Some(matrix), _) => matrix.grad_remove(&mut gradients).map(|g| g.flatten(0, 1)),
                (_, Some(vector)) => vector.grad_remove(&mut gradients),
                _ => None,
            };
            let gradient = gradient.ok_or_else(|| anyhow!("a parameter has no gradient"))?;
            *sum = Some(match sum.take() {
                Some(others) => others + gradient,
                None => gradient,
            });
        }
        Ok(())
    }
}

/// Gradients of the parameters, in their order, summed over the passes of a step. They lie on the
/// device, in f32.
#[derive(Default)]
pub struct GradientSum(Vec<Option<Tensor<1>>>);

impl GradientSum {
    /// The gradients on the host.
    pub fn values(self) -> Result<Vec<Vec<f32>>> {
        let read = |sum: Tensor<1>| {
            sum.into_data().try_into_vec().map_err(|error| anyhow!("gradient: {error:?}"))
        };
        self.0.into_iter().flatten().map(read).collect()
    }
}

/// Cosines and sines, `[1, context, 1, head_dim]`, the half tables repeated.
fn rotary(config: &ModelConfig, device: &Device) -> (Tensor<4>, Tensor<4>) {
    let (hd, Rotary { cosines, sines, .. }) = (config.head_dim(), Rotary::new(config));
    let table = |halves: &[f32]| {
        let rows = halves.chunks_exact(hd / 2);
        let values: Vec<f32> = rows.flat_map(|half| [half, half].concat()).collect();
        Tensor::<4>::from_data(TensorData::new(values, [1, config.context, 1, hd]), device)
    };
    (table(&cosines), table(&sines))
}

/// 0 where a position may look, a very low number where it may not: `[1, 1, length, length]`.
fn causal_mask(length: usize, device: &Device) -> Tensor<4> {
    let value = |index: usize| if index % length > index / length { -1e9f32 } else { 0.0 };
    let values: Vec<f32> = (0..length * length).map(value).collect();
    Tensor::from_data(TensorData::new(values, [1, 1, length, length]), device)
}
