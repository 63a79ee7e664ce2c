use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::model::{ModelConfig, Sampling, Weights, kernels};
use crate::random;

fn config() -> ModelConfig {
    ModelConfig {
        d_model: 24,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        d_ff: 40,
        ..ModelConfig::preset("xs", 53, 96).expect("known size")
    }
}

/// Weights large enough that tokens matter.
fn weights() -> Weights {
    let config = config();
    let initial = Weights::initial(&config, 7);
    Weights::from_tensors(config.tensors().into_iter().map(|(name, _)| {
        let values = initial.get(&name).expect("known name");
        let values = values.iter().map(|v| if *v == 1.0 { 1.1 } else { v * 15.0 }).collect();
        (name, values)
    }))
}

fn model(simd: kernels::Simd) -> CpuModel {
    CpuModel::new(config(), &weights(), simd).expect("fits")
}

/// The same network in the most obvious way, f64, without a cache: logits of the last token.
fn reference(tokens: &[u32]) -> Vec<f64> {
    let (config, weights) = (config(), weights());
    let get = |name: String| -> Vec<f64> {
        weights.get(&name).expect("known").iter().map(|v| f64::from(*v)).collect()
    };
    let (d, hd) = (config.d_model, config.head_dim());
    let product = |x: &[f64], w: &[f64]| -> Vec<f64> {
        let outputs = w.len() / x.len();
        (0..outputs)
            .map(|o| x.iter().enumerate().map(|(i, x)| x * w[i * outputs + o]).sum())
            .collect()
    };
    let norm = |x: &[f64], gain: &[f64]| -> Vec<f64> {
        let mean: f64 = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (mean + f64::from(config.norm_eps)).sqrt();
        x.iter().zip(gain).map(|(x, g)| x * scale * g).collect()
    };
    let rotate = |x: &mut [f64], position: usize| {
        for head in x.chunks_exact_mut(hd) {
            for pair in 0..hd / 2 {
                let frequency = f64::from(config.rope_base).powf(-2.0 * pair as f64 / hd as f64);
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                let (a, b) = (head[pair], head[pair + hd / 2]);
                head[pair] = a * cos - b * sin;
                head[pair + hd / 2] = a * sin + b * cos;
            }
        }
    };
    let embedding = get("token_embedding".into());
    let mut xs: Vec<Vec<f64>> =
        tokens.iter().map(|&t| embedding[t as usize * d..(t as usize + 1) * d].to_vec()).collect();
    for layer in 0..config.layers {
        let get = |name: &str| get(format!("layers.{layer}.{name}"));
        let (mut queries, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (position, x) in xs.iter().enumerate() {
            let h = norm(x, &get("attention_norm"));
            let (mut q, mut k) = (product(&h, &get("query")), product(&h, &get("key")));
            rotate(&mut q, position);
            rotate(&mut k, position);
            queries.push(q);
            keys.push(k);
            values.push(product(&h, &get("value")));
        }
        for position in 0..xs.len() {
            let mut mixed = vec![0.0; d];
            for head in 0..config.heads {
                let kv = head / (config.heads / config.kv_heads) * hd;
                let score = |other: usize| -> f64 {
                    (0..hd)
                        .map(|i| queries[position][head * hd + i] * keys[other][kv + i])
                        .sum::<f64>()
                        / (hd as f64).sqrt()
                };
                let weights: Vec<f64> = (0..=position).map(|other| score(other).exp()).collect();
                let total: f64 = weights.iter().sum();
                for (other, weight) in weights.iter().enumerate() {
                    for i in 0..hd {
                        mixed[head * hd + i] += weight / total * values[other][kv + i];
                    }
                }
            }
            let delta = product(&mixed, &get("output"));
            xs[position].iter_mut().zip(delta).for_each(|(x, delta)| *x += delta);
            let h = norm(&xs[position], &get("ffn_norm"));
            let (gate, up) = (product(&h, &get("gate")), product(&h, &get("up")));
            let inner: Vec<f64> =
                gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            let delta = product(&inner, &get("down"));
            xs[position].iter_mut().zip(delta).for_each(|(x, delta)| *x += delta);
        }
    }
    let last = norm(&xs[xs.len() - 1], &get("final_norm".into()));
    (0..config.vocabulary)
        .map(|t| last.iter().zip(&embedding[t * d..]).map(|(x, e)| x * e).sum())
        .collect()
}

fn logits_of(model: &mut CpuModel, feeds: &[Feed<'_>]) -> Vec<Vec<f32>> {
    let mut logits = Vec::new();
    model.forward(feeds, &mut logits).expect("forward");
    logits.chunks_exact(53).map(<[f32]>::to_vec).collect()
}

#[test]
fn logits_are_those_of_the_obvious_network() {
    let tokens: Vec<u32> = (0..70).map(|i| (i * 17 + 3) % 53).collect();
    let truth = reference(&tokens);
    for simd in kernels::Simd::all() {
        let mut model = model(simd);
        model.prepare(1);
        let rows = logits_of(&mut model, &[Feed { slot: 0, tokens: &tokens }]);
        for (ours, truth) in rows[0].iter().zip(&truth) {
            assert!(
                (f64::from(*ours) - truth).abs() < 2e-4 * (1.0 + truth.abs()),
                "{ours} {truth}"
            );
        }
    }
}

/// Fake source: prompts that spawn one more each until `left` runs out.
struct Source {
    waiting: VecDeque<Prompt>,
    spawn: u64,
    done: BTreeMap<u64, Completion>,
}

impl Source {
    fn new(prompts: u64, spawn: u64) -> Self {
        let waiting = (0..prompts).map(prompt).collect();
        Self { waiting, spawn, done: BTreeMap::new() }
    }
}

fn prompt(id: u64) -> Prompt {
    let length = 1 + (id * 7) % 13;
    Prompt {
        id,
        tokens: (0..length).map(|i| ((i * 31 + id * 11) % 53) as u32).collect(),
        rng: random::stream(3, "test", &[id]),
        max_new_tokens: (5 + id % 20) as usize,
        constraint: None,
    }
}

impl PromptSource for Source {
    fn next(&mut self) -> Option<Prompt> {
        self.waiting.pop_front()
    }

    fn complete(&mut self, completion: Completion) {
        if completion.id < self.spawn {
            self.waiting.push_back(prompt(1000 + completion.id));
        }
        assert!(self.done.insert(completion.id, completion).is_none(), "completed twice");
    }
}

fn completions(batch: usize, threads: usize, temperature: f64) -> BTreeMap<u64, Completion> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
    pool.install(|| {
        let mut source = Source::new(25, 10);
        let sampling = Sampling { temperature, top_k: Some(20) };
        decode(&mut model(kernels::simd()), &mut source, &[5], sampling, batch).expect("decode");
        source.done
    })
}

#[test]
fn every_prompt_completes_and_batches_and_threads_change_nothing() {
    for temperature in [0.0, 0.9] {
        let alone = completions(1, 1, temperature);
        assert_eq!(alone.len(), 35);
        for (batch, threads) in [(2, 1), (7, 2), (64, 2)] {
            assert_eq!(completions(batch, threads, temperature), alone);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// The logits of a sequence are the same bits alone and beside others, fed whole or in pieces.
    #[test]
    fn neighbours_and_pieces_change_no_bit(
        tokens in prop::collection::vec(0..53u32, 2..60),
        other in prop::collection::vec(0..53u32, 1..40),
        cut in 1..59usize,
    ) {
        let mut model = model(kernels::simd());
        model.prepare(2);
        let alone = logits_of(&mut model, &[Feed { slot: 0, tokens: &tokens }]);
        model.prepare(3);
        let cut = cut % (tokens.len() - 1) + 1;
        let feeds = [Feed { slot: 2, tokens: &other }, Feed { slot: 1, tokens: &tokens[..cut] }];
        logits_of(&mut model, &feeds);
        let feeds = [Feed { slot: 1, tokens: &tokens[cut..] }, Feed { slot: 0, tokens: &other }];
        let beside = logits_of(&mut model, &feeds);
        prop_assert_eq!(&beside[0], &alone[0]);
    }
}

/// Weights that are finite, but too large: a product overflows, and the norm of what is infinite is not
/// a number. Generating ends with the place, and not in one token for ever.
#[test]
fn logits_that_are_not_finite_end_generating_with_the_place() {
    let config = config();
    let sizes = [("layers.1.down", config.d_ff * config.d_model), ("final_norm", config.d_model)];
    for (name, size) in sizes {
        let weights = weights().with(name, vec![3e38; size]);
        let mut model = CpuModel::new(config.clone(), &weights, kernels::simd()).expect("fits");
        for temperature in [0.0, 1.0] {
            let mut source = Source::new(1, 0);
            source.waiting[0].tokens = vec![1, 2, 3];
            let sampling = Sampling { temperature, top_k: None };
            let error = decode(&mut model, &mut source, &[5], sampling, 4).expect_err("not finite");
            assert!(error.is::<crate::error::UserError>());
            let message = error.to_string();
            assert!(message.starts_with("prompt 0, position 3: the model's logits are not finite"));
        }
    }
}

/// Every one of several stop tokens ends an answer.
#[test]
fn any_stop_token_ends_an_answer() {
    let of = |stops: &[u32]| {
        let mut source = Source::new(25, 0);
        let sampling = Sampling { temperature: 1.0, top_k: None };
        let mut model = model(kernels::simd());
        decode(&mut model, &mut source, stops, sampling, 8).expect("decodes");
        source.done
    };
    let without = of(&[]);
    assert!(without.values().all(|completion| !completion.stopped));
    let stops: Vec<u32> = (0..53).step_by(5).collect();
    for (id, completion) in of(&stops) {
        let whole = &without[&id].tokens;
        let end = whole.iter().position(|token| stops.contains(token));
        assert_eq!(completion.tokens, whole[..end.unwrap_or(whole.len())]);
        assert_eq!(completion.stopped, end.is_some());
    }
}
