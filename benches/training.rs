//! Training speed: `cargo bench --bench training`, threads by `RAYON_NUM_THREADS`.
//!
//! Sizes `s` and `m` (0.9 and 5 M parameters, vocabulary 1,024) on documents of 128 tokens, batches
//! of 2,048 tokens. The yardstick is `benches/pytorch/train.py`: the same sizes, data shape and
//! optimiser; `benches/pytorch/compare.py` runs both.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::RngExt;
use tracegym::device::DeviceChoice;
use tracegym::model::{
    self, Corpus, Document, Footprint, ModelConfig, TrainConfig, Training, Weights,
};
use tracegym::progress::Progress;
use tracegym::random;

const VOCABULARY: usize = 1_024;
const LENGTH: usize = 128;
const BATCH: usize = 2_048;
const STEPS: u64 = 4;

struct Noise;

impl Corpus for Noise {
    fn len(&self) -> usize {
        4_096
    }

    fn document(&self, epoch: u64, index: usize) -> Document {
        let mut rng = random::stream(1, "bench", &[epoch, index as u64]);
        // One token more than positions: the last is only a target.
        let tokens = (0..=LENGTH).map(|_| rng.random_range(0..VOCABULARY as u32)).collect();
        Document { tokens, ..Document::default() }
    }
}

fn training(c: &mut Criterion) {
    model::tune_allocator();
    let tokens = STEPS * (BATCH as u64);
    let config = TrainConfig {
        tokens,
        batch_tokens: BATCH + BATCH / LENGTH,
        footprint: Footprint::default(),
        learning_rate: 1e-3,
        min_learning_rate: 1e-4,
        warmup_steps: 10,
        weight_decay: 0.1,
        clip: 1.0,
        evaluate_every: 0,
        checkpoint_every: 0,
        snapshots: Vec::new(),
        seed: 1,
    };
    let mut group = c.benchmark_group("training");
    group.sample_size(10).throughput(Throughput::Elements(tokens));
    for size in ["s", "m"] {
        let sizes = ModelConfig::preset(size, VOCABULARY, 2 * LENGTH).expect("known size");
        group.bench_function(size, |bencher| {
            bencher.iter(|| {
                let (out, scratch) =
                    (tempfile::tempdir().expect("temp"), tempfile::tempdir().expect("temp"));
                let (out, scratch) = (out.path(), scratch.path());
                model::train(&Training {
                    model: &sizes,
                    config: &config,
                    initial: &Weights::initial(&sizes, config.seed),
                    corpus: &Noise,
                    validation: &[],
                    out,
                    scratch,
                    device: DeviceChoice::Cpu,
                    progress: Progress::Quiet,
                })
                .expect("trains")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, training);
criterion_main!(benches);
