use std::collections::HashMap;

use anyhow::{Result, bail};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::Parameters;
use crate::model::{Moments, clip};

/// A network's parameters on a device. Names are those of its [`super::Layout`].
pub struct Tensors {
    places: HashMap<String, Place>,
    pub device: Device,
}

enum Place {
    Matrix(Tensor<2>),
    Vector(Tensor<1>),
}

impl Tensors {
    /// With an autodiff device they take part in gradients.
    pub fn new(parameters: &Parameters, device: &Device) -> Self {
        let track = device.is_autodiff();
        let places = parameters.0.iter().map(|parameter| {
            let data = TensorData::new(parameter.values.clone(), parameter.shape.clone());
            let place = match parameter.shape.len() {
                2 => Place::Matrix(Tensor::from_data(data, device).set_require_grad(track)),
                _ => Place::Vector(Tensor::from_data(data, device).set_require_grad(track)),
            };
            (parameter.name.clone(), place)
        });
        Self { places: places.collect(), device: device.clone() }
    }

    pub fn matrix(&self, name: &str) -> Tensor<2> {
        match &self.places[name] {
            Place::Matrix(tensor) => tensor.clone(),
            Place::Vector(tensor) => tensor.clone().unsqueeze(),
        }
    }

    /// `x · NAME.weight + NAME.bias` for every row of `x`.
    pub fn linear(&self, name: &str, x: Tensor<2>) -> Tensor<2> {
        let weight = self.matrix(&format!("{name}.weight"));
        x.matmul(weight) + self.matrix(&format!("{name}.bias"))
    }

    /// The rows `ids` of matrix `name`: `[ids, width]`.
    pub fn embedding(&self, name: &str, ids: &[usize]) -> Tensor<2> {
        let ids: Vec<i64> = ids.iter().map(|id| *id as i64).collect();
        let rows = ids.len();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [rows]), &self.device);
        self.matrix(name).select(0, ids)
    }

    /// Layer normalisation of every row.
    pub fn norm(&self, name: &str, x: Tensor<2>) -> Tensor<2> {
        let centred = x.clone() - x.mean_dim(1);
        let variance = centred.clone().square().mean_dim(1);
        let normed = centred * (variance + NORM_EPSILON).sqrt().recip();
        normed * self.matrix(&format!("{name}.gain")) + self.matrix(&format!("{name}.shift"))
    }

    /// Values on this device, row-major `[rows, columns]`.
    pub fn constant(&self, values: Vec<f32>, shape: [usize; 2]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }
}

/// Keeps a layer normalisation from dividing by zero.
pub const NORM_EPSILON: f64 = 1e-5;

/// Sum over rows of `weight · −log softmax(logits)[target]`; a row of weight 0 does not count.
pub fn cross_entropy(logits: Tensor<2>, targets: &[usize], weights: &[f32]) -> Tensor<1> {
    let device = logits.device();
    let rows = targets.len();
    let targets: Vec<i64> = targets.iter().map(|target| *target as i64).collect();
    let targets = Tensor::<2, Int>::from_data(TensorData::new(targets, [rows, 1]), &device);
    let weights = Tensor::<2>::from_data(TensorData::new(weights.to_vec(), [rows, 1]), &device);
    (log_softmax(logits, 1).gather(1, targets) * weights).sum().neg()
}

/// Learning rate by step: a linear warm-up, then a cosine to a twentieth of the highest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    pub highest: f64,
    pub warmup: u64,
    pub steps: u64,
}

impl Schedule {
    /// `step` counts from 0.
    pub fn rate(&self, step: u64) -> f64 {
        let warmup = ((step + 1) as f64 / self.warmup.max(1) as f64).min(1.0);
        let done = (step as f64 / self.steps.max(1) as f64).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        self.highest * warmup * (0.05 + 0.95 * cosine)
    }
}

/// Training: parameters, and the state of AdamW.
pub struct Learner {
    pub parameters: Parameters,
    moments: Moments,
    steps: u64,
    device: Device,
    /// Decoupled, on matrices only.
    pub weight_decay: f64,
    /// Limit on the norm of the gradient.
    pub clip: f64,
}

impl Learner {
    /// `device` without automatic differentiation; the learner adds it.
    pub fn new(parameters: Parameters, device: &Device) -> Self {
        let moments = Moments::new(&parameters.0);
        let device = device.clone().autodiff();
        Self { parameters, moments, steps: 0, device, weight_decay: 0.01, clip: 1.0 }
    }

    /// One update along the gradient of `loss` (one value), which is returned.
    ///
    /// # Errors
    /// A loss or gradient that is not finite.
    pub fn step(&mut self, rate: f64, loss: impl FnOnce(&Tensors) -> Tensor<1>) -> Result<f64> {
        let tensors = Tensors::new(&self.parameters, &self.device);
        let loss = loss(&tensors);
        let value = f64::from(loss.clone().into_scalar::<f32>());
        if !value.is_finite() {
            bail!("the loss is not finite at step {}: lower `learning_rate`", self.steps);
        }
        let mut found = loss.backward();
        let mut gradients = Vec::with_capacity(self.parameters.0.len());
        for parameter in &self.parameters.0 {
            let data = match &tensors.places[&parameter.name] {
                Place::Matrix(tensor) => tensor.grad_remove(&mut found).map(Tensor::into_data),
                Place::Vector(tensor) => tensor.grad_remove(&mut found).map(Tensor::into_data),
            };
            gradients.push(match data {
                Some(data) => data.try_into_vec::<f32>().map_err(|error| {
                    anyhow::anyhow!("gradient of {}: {error:?}", parameter.name)
                })?,
                // This batch did not use it.
                None => vec![0.0; parameter.values.len()],
            });
        }
        if !clip(&mut gradients, self.clip).is_finite() {
            bail!("the gradient is not finite at step {}: lower `learning_rate`", self.steps);
        }
        self.steps += 1;
        let Self { parameters, moments, steps, weight_decay, .. } = self;
        moments.update(&mut parameters.0, &gradients, *steps, rate, *weight_decay);
        Ok(value)
    }
}
