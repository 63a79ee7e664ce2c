//! What computes losses and gradients: our own passes on the CPU, Burn on a GPU.

use anyhow::Result;
use burn::tensor::{Device, Tensor, TensorData};

use super::host::Host;
use super::kernels;
use super::lora::Lora;
use super::transformer::{Network, Parameter};
use super::{Batch, Chosen, ModelConfig};
use crate::error::UserError;
use crate::random;

pub enum Engine {
    Host(Host),
    Burn { config: ModelConfig, device: Device },
}

impl Engine {
    pub fn new(config: &ModelConfig, chosen: Chosen) -> Self {
        match chosen.name.as_str() {
            "cpu" => Self::Host(Host::new(config)),
            _ => Self::Burn { config: config.clone(), device: chosen.device },
        }
    }

    /// Mean loss over the batch's targets, nats, and its gradient for each parameter in order.
    pub fn gradients(
        &mut self,
        parameters: &[Parameter],
        batch: &Batch,
    ) -> Result<(f64, Vec<Vec<f32>>)> {
        let (config, device) = match self {
            Self::Host(host) => return Ok(host.gradients(parameters, batch)),
            Self::Burn { config, device } => (config, device.clone().autodiff()),
        };
        let network = Network::new(config, parameters, &device);
        let scale = 1.0 / batch.target_count().max(1) as f32;
        let (mut loss, mut surrogate) = (0.0, None);
        for rectangle in batch.rectangles() {
            let logits = network.logits(&rectangle.tokens, rectangle.rows, rectangle.length);
            let (sum, slope) = cross_entropy(logits.clone().inner(), &rectangle.targets, scale)?;
            // The gradient of the loss with respect to the logits is known in closed form, so the
            // softmax stays out of the autodiff graph: the derivative of Σ logits · slope is slope.
            let part = (logits * slope.autodiff()).sum();
            surrogate = Some(match surrogate {
                Some(others) => others + part,
                None => part,
            });
            loss += sum;
        }
        let surrogate = surrogate.ok_or_else(|| anyhow::anyhow!("an empty batch"))?;
        Ok((loss * f64::from(scale), network.gradients(surrogate.backward())?))
    }

    /// Mean loss over the batch's targets, nats, and its gradient for each of [`Lora::parameters`],
    /// the model's own parameters being frozen. Dropout is that of (seed, step); `None` is none.
    ///
    /// # Errors
    /// On a GPU, which has no adapters yet.
    pub fn lora_gradients(
        &mut self,
        parameters: &[Parameter],
        lora: &Lora,
        dropout: Option<(u64, u64)>,
        batch: &Batch,
    ) -> Result<(f64, Vec<Vec<f32>>)> {
        let host = self.host_for_adapters()?;
        Ok(host.lora_gradients(
            parameters,
            lora,
            dropout.map(|(seed, step)| key(seed, step)),
            batch,
        ))
    }

    /// Sum of the losses over the batch's targets, nats, with adapters and without dropout.
    ///
    /// # Errors
    /// On a GPU, which has no adapters yet.
    pub fn lora_loss(
        &mut self,
        parameters: &[Parameter],
        lora: &Lora,
        batch: &Batch,
    ) -> Result<f64> {
        Ok(self.host_for_adapters()?.lora_loss(parameters, lora, batch))
    }

    /// The engine that has adapters.
    ///
    /// # Errors
    /// On a GPU.
    pub fn host_for_adapters(&mut self) -> Result<&mut Host> {
        match self {
            Self::Host(host) => Ok(host),
            Self::Burn { .. } => {
                let message = "adapters (lora) are trained on the CPU only: use --device cpu";
                Err(UserError::setting(message).into())
            }
        }
    }

    /// Gives the memory of gradients back for the next step.
    pub fn recycle(&mut self, gradients: Vec<Vec<f32>>) {
        if let Self::Host(host) = self {
            host.recycle(gradients);
        }
    }

    /// Sum of the losses over the batch's targets, nats.
    pub fn loss(&self, parameters: &[Parameter], batch: &Batch) -> Result<f64> {
        let (config, device) = match self {
            Self::Host(host) => return Ok(host.loss(parameters, batch)),
            Self::Burn { config, device } => (config, device),
        };
        let network = Network::new(config, parameters, device);
        let mut total = 0.0;
        for rectangle in batch.rectangles() {
            let logits = network.logits(&rectangle.tokens, rectangle.rows, rectangle.length);
            total += cross_entropy(logits, &rectangle.targets, 1.0)?.0;
        }
        Ok(total)
    }
}

/// The key of a step's dropout.
fn key(seed: u64, step: u64) -> u64 {
    use rand::RngExt;
    random::stream(seed, "adapter dropout", &[step]).random()
}

/// Sum of the cross-entropies over the targets, nats, and `scale` times its gradient with respect
/// to the logits.
fn cross_entropy(
    logits: Tensor<2>,
    targets: &[Option<u32>],
    scale: f32,
) -> Result<(f64, Tensor<2>)> {
    let device = logits.device();
    let [rows, vocabulary] = logits.dims();
    let data = logits.into_data();
    let mut values =
        data.try_into_vec::<f32>().map_err(|error| anyhow::anyhow!("logits: {error:?}"))?;
    let simd = kernels::simd();
    let mut total = 0.0;
    for (row, target) in values.chunks_exact_mut(vocabulary).zip(targets) {
        match target {
            Some(target) => total += kernels::cross_entropy(simd, *target, Some(scale), row),
            None => row.fill(0.0),
        }
    }
    let slope = Tensor::from_data(TensorData::new(values, [rows, vocabulary]), &device);
    Ok((total, slope))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kernels::Simd;
    use crate::model::{Document, Weights, transformer};

    /// Burn's automatic differentiation is the reference for our own backward pass.
    #[test]
    fn gradients_are_those_of_automatic_differentiation() {
        let config = ModelConfig {
            d_model: 24,
            layers: 3,
            heads: 4,
            kv_heads: 2,
            d_ff: 20,
            ..ModelConfig::preset("xs", 31, 160).expect("known size")
        };
        let initial = Weights::initial(&config, 5);
        let weights = Weights::from_tensors(config.tensors().into_iter().map(|(name, _)| {
            let factor = if name.ends_with("norm") { 0.7 } else { 8.0 };
            let values = initial.get(&name).expect("known").iter().map(|v| v * factor).collect();
            (name, values)
        }));
        let parameters = transformer::parameters(&config, &weights).expect("fits");
        let documents: Vec<Document> = [150, 3, 40, 2, 77, 65, 9, 120, 130, 60]
            .iter()
            .map(|length| Document {
                tokens: (0..*length).map(|i| (i * i + length) % 31).collect(),
                loss_from: *length as usize / 3,
            })
            .collect();
        let batch = Batch::new(&documents);
        let device = Device::flex();
        let mut reference = Engine::Burn { config: config.clone(), device };
        let (loss, gradients) = reference.gradients(&parameters, &batch).expect("burn");
        for simd in [kernels::simd(), Simd::Portable] {
            let mut host = Engine::Host(Host::with_simd(&config, simd));
            for _ in 0..2 {
                let (ours, found) = host.gradients(&parameters, &batch).expect("host");
                assert!((ours - loss).abs() < 1e-4 * loss, "{ours} {loss}");
                for ((parameter, found), expected) in parameters.iter().zip(&found).zip(&gradients)
                {
                    let size = expected.iter().map(|v| v.abs()).fold(0.0, f32::max);
                    assert!(size > 0.0 && found.len() == expected.len());
                    for (found, expected) in found.iter().zip(expected) {
                        let error = (found - expected).abs();
                        assert!(error < 1e-3 * size, "{}: {found} {expected}", parameter.name);
                    }
                }
                host.recycle(found);
            }
            let targets = batch.target_count() as f64;
            let total = host.loss(&parameters, &batch).expect("host");
            assert!((total / targets - loss).abs() < 1e-4 * loss);
            let total = reference.loss(&parameters, &batch).expect("burn");
            assert!((total / targets - loss).abs() < 1e-4 * loss);
        }
    }

    /// The bits of a step are the same on any number of threads.
    #[test]
    fn gradients_do_not_depend_on_threads() {
        let config = ModelConfig::preset("xs", 50, 400).expect("known size");
        let weights = Weights::initial(&config, 1);
        let parameters = transformer::parameters(&config, &weights).expect("fits");
        let documents: Vec<Document> = (0..12)
            .map(|i| Document {
                tokens: (0..300).map(|t| (t * 7 + i) % 50).collect(),
                loss_from: 0,
            })
            .collect();
        let batch = Batch::new(&documents);
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
            pool.install(|| Host::new(&config).gradients(&parameters, &batch))
        };
        let (one, three) = (with(1), with(3));
        assert_eq!(one.0.to_bits(), three.0.to_bits());
        assert_eq!(one.1, three.1);
    }
}
