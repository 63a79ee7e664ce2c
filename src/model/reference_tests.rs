//! Every implementation of the network against PyTorch: `tests/reference/transformer.py` made the
//! values, in f64, for weights that are a formula.

use serde::Deserialize;

use super::decode::{CachedModel, CpuModel, Feed};
use super::engine::Engine;
use super::transformer::{self, Parameter};
use super::*;

#[derive(Deserialize)]
pub struct Reference {
    /// By document and position.
    pub logits: Vec<Vec<Vec<f64>>>,
    pub loss: f64,
    /// Norm, and sum weighted by the cosine of the index.
    pub gradients: std::collections::BTreeMap<String, [f64; 2]>,
}

/// The models of the script with its values for them.
pub fn references() -> [(ModelConfig, Reference); 2] {
    let text = include_str!("../../tests/reference/transformer.json");
    let mut made: std::collections::BTreeMap<String, Reference> =
        serde_json::from_str(text).expect("made by the script");
    let plain = ModelConfig {
        d_model: 12,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        d_ff: 10,
        ..ModelConfig::preset("xs", 11, 16).expect("known size")
    };
    let llama = ModelConfig {
        heads: 4,
        kv_heads: 2,
        rope_base: 500.0,
        head_dim: Some(6),
        untied_head: true,
        rope_scaling: RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 128,
        },
        ..plain.clone()
    };
    [("plain", plain), ("llama", llama)]
        .map(|(name, config)| (config, made.remove(name).expect("made by the script")))
}

pub fn weights(config: &ModelConfig) -> Weights {
    let tensors = config.tensors().into_iter().enumerate().map(|(number, (name, shape))| {
        let value = |index: usize| {
            let wave = (0.7 * index as f64 * (number + 1) as f64 + number as f64).sin();
            (if name.ends_with("norm") { 1.0 + 0.2 * wave } else { 0.4 * wave }) as f32
        };
        let values = (0..shape.iter().product()).map(value).collect();
        (name, values)
    });
    Weights::from_tensors(tensors)
}

pub const DOCUMENTS: [&[u32]; 2] = [&[3, 1, 4, 1, 5, 9, 2], &[10, 0, 8, 7, 7]];

/// The script's targets; some positions in the middle have none.
pub fn batch() -> Batch {
    let targets: [&[Option<u32>]; 2] = [
        &[None, Some(4), Some(1), Some(5), Some(9), Some(2), Some(6)],
        &[Some(0), Some(8), None, Some(7), Some(0)],
    ];
    Batch {
        tokens: DOCUMENTS.concat(),
        targets: targets.concat(),
        weights: vec![1.0; 12],
        lengths: DOCUMENTS.map(<[u32]>::len).to_vec(),
        count: 14,
    }
}

#[test]
fn loss_and_gradients_are_those_of_pytorch() {
    let device = burn::tensor::Device::flex();
    for (config, expected) in references() {
        let parameters = transformer::parameters(&config, &weights(&config)).expect("fits");
        for simd in kernels::Simd::all().into_iter().map(Some).chain([None]) {
            let mut engine = match simd {
                Some(simd) => Engine::Host(host::Host::with_simd(&config, simd)),
                None => {
                    let (device, footprint) = (device.clone(), Footprint::default());
                    Engine::Burn { config: config.clone(), device, footprint }
                }
            };
            let (loss, gradients) = engine.gradients(&parameters, &batch()).expect("gradients");
            assert!((loss - expected.loss).abs() < 1e-5, "{loss}");
            let gradients: Vec<Parameter> = parameters
                .iter()
                .zip(gradients)
                .map(|(parameter, values)| Parameter { values, ..parameter.clone() })
                .collect();
            let gradients = transformer::weights(&config, &gradients);
            assert_eq!(expected.gradients.len(), config.tensors().len());
            for (name, expected) in &expected.gradients {
                let values = gradients.get(name).expect("every tensor has a gradient");
                check_gradient(&format!("{simd:?} {name}"), values, *expected);
            }
        }
    }
}

pub fn check_gradient(name: &str, values: &[f32], [norm, weighted]: [f64; 2]) {
    let found = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    assert!((found - norm).abs() < 2e-5 * norm.max(1.0), "{name}: {found} {norm}");
    let found: f64 = values.iter().enumerate().map(|(i, v)| (i as f64).cos() * f64::from(*v)).sum();
    assert!((found - weighted).abs() < 5e-5 * norm.max(1.0), "{name}: {found} {weighted}");
}

#[test]
fn logits_are_those_of_pytorch() {
    let close = |found: &[f32], expected: &[f64]| {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 5e-5, "{found} {expected}");
        }
    };
    for (config, expected) in references() {
        let weights = weights(&config);
        let parameters = transformer::parameters(&config, &weights).expect("fits");
        let device = burn::tensor::Device::flex();
        let network = transformer::Network::new(&config, Precision::F32, &parameters, &device);
        for (tokens, expected) in DOCUMENTS.iter().zip(&expected.logits) {
            let logits = network.logits(tokens, 1, tokens.len()).into_data();
            close(&logits.try_into_vec::<f32>().expect("f32"), &expected.concat());
            for simd in kernels::Simd::all() {
                let mut model = CpuModel::new(config.clone(), &weights, simd).expect("fits");
                model.prepare(1);
                for (token, expected) in tokens.iter().zip(expected) {
                    let feed = Feed { slot: 0, tokens: &[*token] };
                    let mut logits = Vec::new();
                    model.forward(&[feed], &mut logits).expect("fed");
                    close(&logits, expected);
                }
            }
        }
    }
}
