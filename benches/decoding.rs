//! Decoding speed: `cargo bench --bench decoding`, threads by `RAYON_NUM_THREADS`.
//!
//! Random weights, 64 tokens after a prompt of one, temperature 0.8 and top-k 50; the yardstick is
//! `benches/pytorch/decode.py`; `benches/pytorch/compare.py` runs both.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tracegym::model::decode::{Completion, CpuModel, Prompt, PromptSource, decode};
use tracegym::model::{ModelConfig, Sampling, Weights, kernels};
use tracegym::random;

const VOCABULARY: usize = 1_500;
const NEW_TOKENS: usize = 64;

/// `batch` prompts of one token.
struct Prompts(u64);

impl PromptSource for Prompts {
    fn next(&mut self) -> Option<Prompt> {
        self.0 = self.0.checked_sub(1)?;
        Some(Prompt {
            id: self.0,
            tokens: vec![1],
            rng: random::stream(1, "bench", &[self.0]),
            max_new_tokens: NEW_TOKENS,
            constraint: None,
        })
    }

    fn complete(&mut self, _: Completion) {}
}

fn decoding(c: &mut Criterion) {
    let sampling = Sampling { temperature: 0.8, top_k: Some(50) };
    let mut group = c.benchmark_group("decoding");
    group.sample_size(10);
    for size in ["s", "m"] {
        let config = ModelConfig::preset(size, VOCABULARY, 256).expect("known size");
        let weights = Weights::initial(&config, 1);
        let mut model = CpuModel::new(config, &weights, kernels::simd()).expect("fits");
        for batch in [1, 32, 256] {
            group.throughput(Throughput::Elements((batch * NEW_TOKENS) as u64));
            group.bench_function(BenchmarkId::new(size, batch), |bencher| {
                bencher.iter(|| {
                    // No token stops a sequence: every one runs to its limit.
                    decode(&mut model, &mut Prompts(batch as u64), &[], sampling, batch)
                        .expect("decodes");
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, decoding);
criterion_main!(benches);
