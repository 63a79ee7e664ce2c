//! What computes losses and gradients: our own passes on the CPU, Burn on a GPU.

use anyhow::{Result, anyhow, ensure};
use burn::tensor::{Device, Tensor, TensorData};

use super::batches::Rectangle;
use super::host::Host;
use super::kernels;
use super::lora::Lora;
use super::transformer::{GradientSum, Network, Parameter};
use super::{Batch, Chosen, Footprint, ModelConfig};
use crate::error::UserError;
use crate::random;

pub enum Engine {
    Host(Host),
    Burn { config: ModelConfig, device: Device, footprint: Footprint },
}

impl Engine {
    pub fn new(config: &ModelConfig, chosen: &Chosen, footprint: Footprint) -> Self {
        match chosen.name.as_str() {
            "cpu" => Self::Host(Host::new(config).within(footprint)),
            _ => Self::Burn { config: config.clone(), device: chosen.device.clone(), footprint },
        }
    }

    /// Mean loss over the batch's targets by their weights, nats, and its gradient for each parameter in
    /// order. In Burn
    /// each rectangle has a forward and a backward pass of its own, so that its activations are all
    /// that is held.
    pub fn gradients(
        &mut self,
        parameters: &[Parameter],
        batch: &Batch,
    ) -> Result<(f64, Vec<Vec<f32>>)> {
        let (config, device, footprint) = match self {
            Self::Host(host) => return Ok(host.gradients(parameters, batch)),
            Self::Burn { config, device, footprint } => (config, device.clone(), *footprint),
        };
        let device = if footprint.checkpoint_activations {
            device.autodiff().gradient_checkpointing()
        } else {
            device.autodiff()
        };
        let network = Network::new(config, footprint.precision, parameters, &device);
        let scale = batch.mean_scale();
        let (mut loss, mut sum) = (0.0, GradientSum::default());
        let rectangles = batch.rectangles(footprint.micro_batch_tokens);
        ensure!(!rectangles.is_empty(), "an empty batch");
        for rectangle in rectangles {
            let logits = network.logits(&rectangle.tokens, rectangle.rows, rectangle.length);
            let (part, grad) = cross_entropy(logits.clone().inner(), &rectangle, Some(scale))?;
            loss += part;
            // The gradient of the loss with respect to the logits is known in closed form, so the
            // softmax stays out of the autodiff graph: the derivative of Σ logits · grad is grad.
            let grad = Tensor::from_data(grad, network.device());
            network.add_gradients((logits * grad).sum().backward(), &mut sum)?;
        }
        Ok((loss * f64::from(scale), sum.values()?))
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
        let (config, device, footprint) = match self {
            Self::Host(host) => return Ok(host.loss(parameters, batch)),
            Self::Burn { config, device, footprint } => (config, device, footprint),
        };
        let network = Network::new(config, footprint.precision, parameters, device);
        let mut total = 0.0;
        for rectangle in batch.rectangles(footprint.micro_batch_tokens) {
            let logits = network.logits(&rectangle.tokens, rectangle.rows, rectangle.length);
            total += cross_entropy(logits, &rectangle, None)?.0;
        }
        Ok(total)
    }
}

/// The key of a step's dropout.
fn key(seed: u64, step: u64) -> u64 {
    use rand::RngExt;
    random::stream(seed, "adapter dropout", &[step]).random()
}

/// Sum of the cross-entropies over the targets, nats. With a `scale` the sum is weighted, and its
/// gradient with respect to the logits, times `scale`, comes with it, in f32.
fn cross_entropy(
    logits: Tensor<2>,
    rectangle: &Rectangle,
    scale: Option<f32>,
) -> Result<(f64, TensorData)> {
    let [rows, vocabulary] = logits.dims();
    let data = logits.into_data();
    let mut values = data.try_into_vec::<f32>().map_err(|error| anyhow!("logits: {error:?}"))?;
    let simd = kernels::simd();
    let mut total = 0.0;
    let targets = rectangle.targets.iter().zip(&rectangle.weights);
    for (row, (target, weight)) in values.chunks_exact_mut(vocabulary).zip(targets) {
        let weight = if scale.is_some() { *weight } else { 1.0 };
        match target {
            Some(target) => {
                let scale = scale.map(|scale| scale * weight);
                total += f64::from(weight) * kernels::cross_entropy(simd, *target, scale, row);
            }
            None => row.fill(0.0),
        }
    }
    Ok((total, TensorData::new(values, [rows, vocabulary])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kernels::Simd;
    use crate::model::{Document, Precision, Weights, transformer};

    /// A small network with weights that are not small, and a batch of documents of many lengths.
    fn case() -> (ModelConfig, Vec<Parameter>, Batch) {
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
                ..Document::default()
            })
            .collect();
        (config, parameters, Batch::new(&documents))
    }

    /// Whether all gradients are there and as expected, up to `share` of the largest of each.
    fn assert_close(
        parameters: &[Parameter],
        found: &[Vec<f32>],
        expected: &[Vec<f32>],
        share: f32,
    ) {
        assert_eq!(found.len(), parameters.len());
        for ((parameter, found), expected) in parameters.iter().zip(found).zip(expected) {
            let size = expected.iter().map(|v| v.abs()).fold(0.0, f32::max);
            assert!(size > 0.0 && found.len() == expected.len());
            for (found, expected) in found.iter().zip(expected) {
                let error = (found - expected).abs();
                assert!(error < share * size, "{}: {found} {expected}", parameter.name);
            }
        }
    }

    /// Burn's automatic differentiation is the reference for our own backward pass.
    #[test]
    fn gradients_are_those_of_automatic_differentiation() {
        let (config, parameters, batch) = case();
        let device = Device::flex();
        let footprint = Footprint::default();
        let mut reference = Engine::Burn { config: config.clone(), device, footprint };
        let (loss, gradients) = reference.gradients(&parameters, &batch).expect("burn");
        let mut fused = None;
        for simd in Simd::all() {
            let mut host = Engine::Host(Host::with_simd(&config, simd));
            for _ in 0..2 {
                let (ours, found) = host.gradients(&parameters, &batch).expect("host");
                // Sets that fuse train to the same bits.
                if simd.fused() {
                    assert!(fused.get_or_insert_with(|| found.clone()) == &found, "{simd:?}");
                }
                assert!((ours - loss).abs() < 1e-4 * loss, "{ours} {loss}");
                assert_close(&parameters, &found, &gradients, 1e-3);
                host.recycle(found);
            }
            let targets = batch.target_count() as f64;
            let total = host.loss(&parameters, &batch).expect("host");
            assert!((total / targets - loss).abs() < 1e-4 * loss);
            let total = reference.loss(&parameters, &batch).expect("burn");
            assert!((total / targets - loss).abs() < 1e-4 * loss);
        }
    }

    /// A text that weighs twice is a text that is there twice.
    #[test]
    fn weights_are_repetitions() {
        let (config, parameters, _) = case();
        let text = |length: u32, weight: f32| Document {
            tokens: (0..length).map(|i| (i * i + length) % 31).collect(),
            loss_from: 3,
            weights: vec![weight; length as usize],
        };
        let twice = Batch::new(&[text(40, 1.0), text(25, 1.0), text(40, 1.0)]);
        let heavy = Batch::new(&[text(40, 2.0), text(25, 1.0)]);
        let (device, footprint) = (Device::flex(), Footprint::default());
        let burn = Engine::Burn { config: config.clone(), device, footprint };
        for mut engine in [Engine::Host(Host::new(&config)), burn] {
            let (loss, expected) = engine.gradients(&parameters, &twice).expect("gradients");
            let (weighted, found) = engine.gradients(&parameters, &heavy).expect("gradients");
            assert!((loss - weighted).abs() < 1e-5 * loss, "{loss} {weighted}");
            assert_close(&parameters, &found, &expected, 1e-3);
            // What is measured on held-out texts has no weights.
            let plain = Batch::new(&[text(40, 1.0), text(25, 1.0)]);
            let of = |batch| engine.loss(&parameters, batch).expect("loss");
            assert!((of(&plain) - of(&heavy)).abs() < 1e-6 * loss);
        }
    }

    /// Documents of similar length make one rectangle, whose gradient comes from one graph.
    #[test]
    fn accumulated_gradients_are_those_of_one_graph() {
        let (config, parameters, _) = case();
        let documents: Vec<Document> = (0..9)
            .map(|i| Document {
                tokens: (0..80 + i).map(|t| (t * t + i) % 31).collect(),
                loss_from: 5,
                ..Document::default()
            })
            .collect();
        let batch = Batch::new(&documents);
        let with = |micro_batch_tokens: Option<usize>| {
            let footprint = Footprint { micro_batch_tokens, ..Footprint::default() };
            let (config, device) = (config.clone(), Device::flex());
            let mut host = Engine::Host(Host::new(&config).within(footprint));
            let mut burn = Engine::Burn { config, device, footprint };
            [&mut burn, &mut host].map(|engine| {
                let loss = engine.loss(&parameters, &batch).expect("loss");
                let (mean, gradients) = engine.gradients(&parameters, &batch).expect("gradients");
                assert!((loss / batch.target_count() as f64 - mean).abs() < 1e-5 * mean);
                (mean, gradients)
            })
        };
        assert_eq!((batch.rectangles(None).len(), batch.rectangles(Some(200)).len()), (1, 5));
        let [whole, _] = with(None);
        for (loss, gradients) in [Some(1), Some(200), Some(800)].into_iter().flat_map(with) {
            assert!((loss - whole.0).abs() < 1e-5 * whole.0, "{loss} {}", whole.0);
            assert_close(&parameters, &gradients, &whole.1, 1e-3);
        }
    }

    /// Computing activations again changes no bit on the CPU, and nothing but rounding in Burn.
    #[test]
    fn activations_that_are_computed_again_give_the_same_gradients() {
        let (config, parameters, batch) = case();
        let [mut plain, mut frugal] = [false, true].map(|checkpoint_activations| {
            let footprint = Footprint { checkpoint_activations, ..Footprint::default() };
            let (config, device) = (config.clone(), Device::flex());
            let host = Engine::Host(Host::new(&config).within(footprint));
            (Engine::Burn { config, device, footprint }, host)
        });
        let (loss, expected) = plain.0.gradients(&parameters, &batch).expect("burn");
        let (again, found) = frugal.0.gradients(&parameters, &batch).expect("burn");
        assert!((loss - again).abs() < 1e-6 * loss);
        assert_close(&parameters, &found, &expected, 1e-5);
        // Twice: the second step finds the memory of the first.
        for _ in 0..2 {
            let expected = plain.1.gradients(&parameters, &batch).expect("host");
            let found = frugal.1.gradients(&parameters, &batch).expect("host");
            assert_eq!((found.0.to_bits(), &found.1), (expected.0.to_bits(), &expected.1));
        }
    }

    /// A product in bf16 has errors of about 1/256; sums over many stay near the gradients in f32.
    #[test]
    fn gradients_in_bf16_are_near_those_in_f32() {
        let (config, parameters, batch) = case();
        for (host, checkpoint_activations) in
            [(true, false), (true, true), (false, false), (false, true)]
        {
            let [(loss, expected), (short, found)] =
                [Precision::F32, Precision::Bf16].map(|precision| {
                    let footprint =
                        Footprint { precision, checkpoint_activations, ..Footprint::default() };
                    let mut engine = if host {
                        Engine::Host(Host::new(&config).within(footprint))
                    } else {
                        let (config, device) = (config.clone(), Device::flex());
                        Engine::Burn { config, device, footprint }
                    };
                    let found = engine.gradients(&parameters, &batch).expect("gradients");
                    let total = engine.loss(&parameters, &batch).expect("loss");
                    assert!((total / batch.target_count() as f64 - found.0).abs() < 1e-5 * found.0);
                    found
                });
            assert!((loss - short).abs() < 0.02 * loss, "{loss} {short}");
            assert_ne!(expected, found);
            for ((parameter, found), expected) in parameters.iter().zip(&found).zip(&expected) {
                let norm = |v: &mut dyn Iterator<Item = f32>| v.map(|x| x * x).sum::<f32>().sqrt();
                let error = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
                let size = norm(&mut expected.iter().copied());
                assert!(error < 0.1 * size, "{}: {error} of {size}", parameter.name);
            }
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
                ..Document::default()
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
