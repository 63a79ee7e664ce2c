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
        Document { tokens: (0..length).map(|i| (first + i) % 17).collect(), ..Document::default() }
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
        footprint: Footprint::default(),
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
    let device = burn::tensor::Device::flex();
    let network = transformer::Network::new(&config, Precision::F32, &parameters, &device);
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

/// Trains until the machine stops after `documents` documents; the scratch folder.
fn interrupted(documents: usize) -> tempfile::TempDir {
    let (out, scratch) = (folder(), folder());
    let unplugged = Unplugged(documents.into());
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run(&settings(4_000), &unplugged, out.path(), scratch.path())
    }));
    assert!(broken.is_err());
    scratch
}

/// All files of a folder by their names.
fn files(dir: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).expect("folder").map(|entry| entry.expect("entry"));
    entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).expect("a file"))
        })
        .collect()
}

fn uninterrupted() -> std::collections::BTreeMap<String, Vec<u8>> {
    let (out, scratch) = (folder(), folder());
    run(&settings(4_000), &Counting, out.path(), scratch.path()).expect("trains");
    let all = files(out.path());
    assert_eq!(all.len(), 4, "model, configuration, log and a snapshot: {:?}", all.keys());
    all
}

/// The step of the checkpoint that a training in `scratch` would go on from, and what it says of
/// damage.
fn checkpoint(scratch: &Path) -> (Option<u64>, Vec<String>) {
    let model = sizes();
    let initial = Weights::initial(&model, settings(1).seed);
    let parameters = transformer::parameters(&model, &initial).expect("fits");
    let found = checkpoint::Checkpoint::load(scratch, &parameters);
    (found.state.map(|state| state.step), found.damaged)
}

#[test]
fn an_interrupted_training_ends_in_the_same_bytes() {
    let (scratch, resumed) = (interrupted(400), folder());
    let (Some(step), damaged) = checkpoint(scratch.path()) else { panic!("no checkpoint") };
    assert!(step > 7 && damaged.is_empty(), "{step} {damaged:?}");
    // What a writer leaves that is killed: it would fill the disk.
    std::fs::write(scratch.path().join(".checkpoint.bin.x.partial"), "half").expect("written");
    run(&settings(4_000), &Counting, resumed.path(), scratch.path()).expect("resumes");
    assert!(files(resumed.path()) == uninterrupted());
    assert!(files(scratch.path()).keys().all(|name| !name.ends_with(".partial")));
}

const NEWEST: &str = "checkpoint.bin";
const PREVIOUS: &str = "checkpoint-previous.bin";

/// Whatever happens to checkpoints and snapshots, a training goes on from what is whole, or starts
/// afresh, says so, and ends in the same bytes.
#[test]
fn damaged_checkpoints_are_told_and_not_gone_on_from() {
    let expected = uninterrupted();
    let damage = |change: &dyn Fn(&Path)| {
        let (scratch, out) = (interrupted(400), folder());
        let (newest, _) = checkpoint(scratch.path());
        change(scratch.path());
        let (step, said) = checkpoint(scratch.path());
        run(&settings(4_000), &Counting, out.path(), scratch.path()).expect("goes on");
        assert!(files(out.path()) == expected);
        (newest.expect("a checkpoint"), step, said)
    };
    let cut = |name: &'static str, length: usize| {
        move |dir: &Path| {
            let bytes = std::fs::read(dir.join(name)).expect(name);
            std::fs::write(dir.join(name), &bytes[..length.min(bytes.len() - 1)]).expect(name);
        }
    };
    let flip = |name: &'static str, place: f64, bit: u8| {
        move |dir: &Path| {
            let mut bytes = std::fs::read(dir.join(name)).expect(name);
            let at = (place * (bytes.len() - 1) as f64) as usize;
            bytes[at] ^= 1 << bit;
            std::fs::write(dir.join(name), bytes).expect(name);
        }
    };
    for length in [0, 31, 32, 100, usize::MAX] {
        let (newest, step, said) = damage(&cut(NEWEST, length));
        assert!(step.is_some_and(|step| step < newest), "{step:?}, not {newest}");
        assert!(said.len() == 1 && said[0].contains(NEWEST), "{said:?}");
    }
    for (place, bit) in [(0.0, 0), (0.02, 3), (0.3, 0), (0.7, 7), (1.0, 6)] {
        let (newest, step, said) = damage(&flip(NEWEST, place, bit));
        assert!(step.is_some_and(|step| step < newest), "{step:?}, not {newest}");
        assert!(said.len() == 1 && said[0].contains("checkpoint.bin: is damaged"), "{said:?}");
    }
    // The machine stopped between the two renames.
    let (newest, step, said) =
        damage(&|dir| std::fs::remove_file(dir.join(NEWEST)).expect("removed"));
    assert!(step.is_some_and(|step| step < newest) && said.is_empty(), "{step:?} {said:?}");
    let (_, step, said) = damage(&|dir| {
        flip(NEWEST, 0.5, 1)(dir);
        cut(PREVIOUS, 1_000)(dir);
    });
    assert!(step.is_none() && said.len() == 2, "{step:?} {said:?}");
    let snapshot = files(interrupted(400).path())
        .into_keys()
        .find(|name| name.starts_with("snapshot-"))
        .expect("a snapshot");
    let (_, step, said) = damage(&|dir| {
        let path = dir.join(&snapshot);
        let mut bytes = std::fs::read(&path).expect("snapshot");
        bytes[2_000] ^= 1;
        std::fs::write(path, bytes).expect("written");
    });
    assert!(said.iter().any(|line| line.contains(&format!("snapshot {snapshot} is damaged"))));
    assert!(step.is_none_or(|step| step < 30), "{step:?}");
}

/// The step at which a training was stopped. The message names it, and the batch that is kept is
/// that of the step in the corpus' stream.
fn stopped(error: &anyhow::Error, config: &TrainConfig, corpus: &dyn Corpus, dir: &Path) -> usize {
    let names = std::fs::read_dir(dir).expect("scratch").map(|entry| entry.expect("entry").path());
    let kept: Vec<_> = names.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    let [path] = &kept[..] else { panic!("{kept:?}") };
    let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
    let step: usize = name.strip_prefix("batch-").expect("batch-N").parse().expect("N");
    let message = error.to_string();
    assert!(error.is::<crate::error::UserError>());
    assert!(message.contains(&format!("at step {step}: lower `learning_rate`")), "{message}");
    assert!(message.contains(&path.display().to_string()), "{message}");
    let start = Position::default();
    let batch = Batches::new(corpus, config.seed, config.batch_tokens, sizes().context, start)
        .nth(step)
        .expect("an endless stream");
    let text = std::fs::read_to_string(path).expect("kept");
    let found: serde_json::Value = serde_json::from_str(&text).expect("json");
    assert_eq!(found, serde_json::to_value(&batch).expect("json"));
    step
}

#[test]
fn an_exploding_loss_stops_with_its_step_and_batch() {
    let (out, scratch) = (folder(), folder());
    let config = TrainConfig { learning_rate: 1e30, clip: 1e30, ..settings(4_000) };
    let error = run(&config, &Counting, out.path(), scratch.path()).expect_err("explodes");
    assert!(error.to_string().contains("not finite"), "{error}");
    assert!(stopped(&error, &config, &Counting, scratch.path()) > 0);
}

/// Counts up, and from some epoch on down.
struct Turning(u64);

impl Corpus for Turning {
    fn len(&self) -> usize {
        Counting.len()
    }

    fn document(&self, epoch: u64, index: usize) -> Document {
        let mut document = Counting.document(epoch, index);
        if epoch >= self.0 {
            document.tokens.reverse();
        }
        document
    }
}

#[test]
fn a_jump_of_the_loss_stops_with_its_step_and_batch() {
    let (out, scratch) = (folder(), folder());
    let (config, corpus) = (settings(60_000), Turning(25));
    let error = run(&config, &corpus, out.path(), scratch.path()).expect_err("jumps");
    assert!(error.to_string().contains("the loss jumped to "), "{error}");
    assert!(stopped(&error, &config, &corpus, scratch.path()) > 200);
    assert!(!out.path().join("model.safetensors").exists());
}

/// Checkpointing changes no bit on the CPU, micro batches nothing but rounding.
#[test]
fn a_smaller_footprint_trains_to_the_same_loss() {
    let trained = |footprint: Footprint| {
        let (out, scratch) = (folder(), folder());
        // Four lanes, or one that takes a part after the other.
        let config =
            TrainConfig { batch_tokens: 2_048, warmup_steps: 3, footprint, ..settings(60_000) };
        let report = run(&config, &Counting, out.path(), scratch.path()).expect("trains");
        (report, std::fs::read(out.path().join("model.safetensors")).expect("model"))
    };
    let usual = Footprint::default();
    let (report, bytes) = trained(usual);
    assert!(report.validation_perplexity < 6.0, "{report:?}");
    let checkpoint = Footprint { checkpoint_activations: true, ..usual };
    assert_eq!(trained(checkpoint), (report.clone(), bytes.clone()));
    for micro_batch_tokens in [Some(1), Some(100), Some(512)] {
        let (found, other) = trained(Footprint { micro_batch_tokens, ..checkpoint });
        assert_ne!(other, bytes);
        let (ours, theirs) = (found.final_train_loss, report.final_train_loss);
        assert!((ours - theirs).abs() < 1e-3 * theirs, "{ours} {theirs}");
        let (ours, theirs) = (found.validation_perplexity, report.validation_perplexity);
        assert!((ours - theirs).abs() < 1e-3 * theirs, "{ours} {theirs}");
    }
    // In bf16 it is another training, to nearly the same loss.
    let (found, other) = trained(Footprint { precision: Precision::Bf16, ..usual });
    assert_ne!(other, bytes);
    let (ours, theirs) = (found.validation_perplexity, report.validation_perplexity);
    assert!((ours - theirs).abs() < 0.02 * theirs, "{ours} {theirs}");
}

/// A training on the CPU of a model that is not built, and the error that refuses it.
fn refused(model: &ModelConfig, footprint: Footprint) -> String {
    let (out, scratch) = (folder(), folder());
    let initial = Weights::initial(&sizes(), 1);
    let error = train(&Training {
        model,
        config: &TrainConfig { footprint, ..settings(4_000) },
        initial: &initial,
        corpus: &Counting,
        validation: &[],
        out: out.path(),
        scratch: scratch.path(),
        device: DeviceChoice::Cpu,
        progress: Progress::Quiet,
    })
    .expect_err("refused");
    assert!(error.is::<crate::error::UserError>(), "{error:#}");
    for dir in [out, scratch] {
        assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 0);
    }
    error.to_string()
}

#[test]
fn what_cannot_be_trained_is_refused_before_it_starts() {
    let vast = ModelConfig {
        d_model: 1 << 16,
        layers: 64,
        ..ModelConfig::preset("s", 17, 32).expect("known size")
    };
    let message = refused(&vast, Footprint::default());
    for word in ["GiB of memory", "`size`", "`batch_tokens`", "`checkpoint_activations = true`"] {
        assert!(message.contains(word), "{message}");
    }
}
