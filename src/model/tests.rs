use std::path::Path;

use super::*;
use crate::device::DeviceChoice;
use crate::model::decode::{CachedModel, Feed};
use crate::progress::Progress;

/// Counting: document i is `i, i+1, … i+5` modulo 17.
struct Counting;

impl Corpus for Counting {
    fn len(&self) -> usize {
        170
    }

    fn document(&self, epoch: u64, index: usize) -> Document {
        let first = (index as u64 + epoch) as u32;
        let length = 4 + index as u32 % 5;
        Document { tokens: (0..length).map(|i| (first + i) % 17).collect(), loss_from: 0 }
    }
}

fn sizes() -> ModelConfig {
    ModelConfig {
        d_model: 16,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        d_ff: 24,
        ..ModelConfig::preset("xs", 17, 32).expect("known size")
    }
}

fn settings(tokens: u64) -> TrainConfig {
    TrainConfig {
        tokens,
        batch_tokens: 64,
        learning_rate: 1e-2,
        min_learning_rate: 1e-3,
        warmup_steps: 10,
        weight_decay: 0.01,
        clip: 1.0,
        evaluate_every: 20,
        checkpoint_every: 7,
        snapshots: vec![1_000],
        seed: 3,
    }
}

fn run(
    config: &TrainConfig,
    corpus: &dyn Corpus,
    out: &Path,
    scratch: &Path,
) -> anyhow::Result<TrainReport> {
    let validation: Vec<Document> = (0..10).map(|index| Counting.document(0, index)).collect();
    let model = sizes();
    train(&Training {
        model: &model,
        config,
        initial: &Weights::initial(&model, config.seed),
        corpus,
        validation: &validation,
        out,
        scratch,
        device: DeviceChoice::Cpu,
        progress: Progress::Quiet,
    })
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("temp dir")
}

#[test]
fn counting_is_learnt_and_decoded() {
    let (out, scratch) = (folder(), folder());
    let report = run(&settings(12_000), &Counting, out.path(), scratch.path()).expect("trains");
    // Untrained the perplexity is 17; where to start cannot be known, the rest can.
    assert!(report.validation_perplexity < 1.5, "{report:?}");
    assert_eq!(report.snapshots.len(), 2);
    let mut model = load(out.path(), None, DeviceChoice::Cpu).expect("loads");
    model.prepare(1);
    let mut logits = Vec::new();
    model.forward(&[Feed { slot: 0, tokens: &[3, 4, 5] }], &mut logits).expect("forward");
    let best = logits.iter().zip(0..).max_by(|a, b| a.0.total_cmp(b.0)).map(|(_, token)| token);
    assert_eq!(best, Some(6));
    let log = std::fs::read_to_string(out.path().join(LOG_FILE)).expect("log");
    assert!(log.lines().count() > 5, "{log}");
    load(out.path(), Some(report.snapshots[0]), DeviceChoice::Cpu).expect("snapshot loads");
}

/// The network that trains and the kernels that decode are the same function.
#[test]
fn training_and_decoding_agree_on_logits() {
    let config = sizes();
    let weights = Weights::initial(&config, 5);
    let weights = Weights::from_tensors(config.tensors().into_iter().map(|(name, _)| {
        let values = weights.get(&name).expect("known").iter().map(|v| v * 12.0).collect();
        (name, values)
    }));
    let parameters = transformer::parameters(&config, &weights).expect("fits");
    assert_eq!(transformer::weights(&config, &parameters), weights);
    let network = transformer::Network::new(&config, &parameters, &burn::tensor::Device::flex());
    let tokens: Vec<u32> = (0..30).map(|i| (i * 5 + 2) % 17).collect();
    let theirs = network.logits(&tokens, 1, 30).into_data().try_into_vec::<f32>().expect("f32");
    let mut model = decode::CpuModel::new(config, &weights, kernels::simd()).expect("fits");
    model.prepare(1);
    for (position, token) in tokens.iter().enumerate() {
        let mut ours = Vec::new();
        model.forward(&[Feed { slot: 0, tokens: &[*token] }], &mut ours).expect("forward");
        for (ours, theirs) in ours.iter().zip(&theirs[position * 17..]) {
            assert!((ours - theirs).abs() < 1e-4 * (1.0 + theirs.abs()), "{ours} {theirs}");
        }
    }
}

/// A corpus that breaks off: the machine's plug is pulled after some documents.
struct Unplugged(std::sync::atomic::AtomicUsize);

impl Corpus for Unplugged {
    fn len(&self) -> usize {
        Counting.len()
    }

    fn document(&self, epoch: u64, index: usize) -> Document {
        let left = self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        assert!(left > 0, "unplugged");
        Counting.document(epoch, index)
    }
}

#[test]
fn an_interrupted_training_ends_in_the_same_bytes() {
    let (whole, scratch) = (folder(), folder());
    run(&settings(4_000), &Counting, whole.path(), scratch.path()).expect("trains");
    let (resumed, scratch) = (folder(), folder());
    let unplugged = Unplugged(400.into());
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run(&settings(4_000), &unplugged, resumed.path(), scratch.path())
    }));
    assert!(broken.is_err());
    assert!(std::fs::read_dir(scratch.path()).expect("scratch").count() > 0);
    run(&settings(4_000), &Counting, resumed.path(), scratch.path()).expect("resumes");
    for name in ["model.safetensors", "log.csv", "config.json"] {
        let read = |dir: &Path| std::fs::read(dir.join(name)).expect(name);
        assert_eq!(read(whole.path()), read(resumed.path()), "{name}");
    }
}

#[test]
fn an_exploding_loss_stops_with_its_step() {
    let (out, scratch) = (folder(), folder());
    let config = TrainConfig { learning_rate: 1e30, clip: 1e30, ..settings(4_000) };
    let error = run(&config, &Counting, out.path(), scratch.path()).expect_err("explodes");
    assert!(error.to_string().contains("step"), "{error}");
}
