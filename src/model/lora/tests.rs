use super::*;
use crate::device::DeviceChoice;
use crate::model::decode::{CachedModel, CpuModel, Feed};
use crate::model::engine::Engine;
use crate::model::host::Host;
use crate::model::kernels::{self, Simd};
use crate::model::reference_tests::{self, DOCUMENTS, Reference, batch, check_gradient};
use crate::model::{Batch, Footprint, LoraStep, LoraTrainer, LoraTraining, Precision};

const PEFT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/lora");

/// The model "llama" of the references, with everything that pretrained models have.
fn model() -> (ModelConfig, Weights) {
    let [_, (config, _)] = reference_tests::references();
    let weights = reference_tests::weights(&config);
    (config, weights)
}

fn logits(config: &ModelConfig, weights: &Weights) -> Vec<Vec<f32>> {
    let mut model = CpuModel::new(config.clone(), weights, kernels::simd()).expect("fits");
    let last = |tokens: &&[u32]| {
        model.prepare(1);
        let mut logits = Vec::new();
        model.forward(&[Feed { slot: 0, tokens }], &mut logits).expect("fed");
        logits
    };
    DOCUMENTS.iter().map(last).collect()
}

/// Everything adapted, A and B not zero.
fn random(config: &ModelConfig, dropout: f32) -> Lora {
    let settings = LoraConfig { rank: 3, alpha: 5.0, dropout, targets: Target::ALL.to_vec() };
    let mut lora = Lora::init(&settings, config, 4).expect("fits");
    for (number, parameter) in lora.parameters.iter_mut().enumerate() {
        let wave = |index: usize| 0.2 * (1.3 * index as f32 + number as f32).sin();
        parameter.values.iter_mut().enumerate().for_each(|(index, value)| *value = wave(index));
    }
    lora
}

#[test]
fn adapters_are_those_of_peft() {
    let (config, weights) = model();
    let text = include_str!("../../../tests/reference/lora.json");
    let expected: Reference = serde_json::from_str(text).expect("made by the script");
    let lora = Lora::load(Path::new(PEFT), &config).expect("reads");
    assert_eq!((lora.config().rank, lora.config().alpha), (2, 3.0));
    assert_eq!(lora.config().targets, Target::ALL);

    let parameters = transformer::parameters(&config, &weights).expect("fits");
    for simd in Simd::all() {
        let mut host = Host::with_simd(&config, simd);
        let (loss, gradients) = host.lora_gradients(&parameters, &lora, Some(1), &batch());
        assert!((loss - expected.loss).abs() < 1e-5, "{loss} {}", expected.loss);
        let names = lora.adapters.iter().flat_map(Adapter::names);
        assert_eq!(expected.gradients.len(), gradients.len());
        for ((name, gradient), parameter) in names.zip(&gradients).zip(&lora.parameters) {
            let values = transposed(gradient, parameter.shape[0], parameter.shape[1]);
            check_gradient(&name, &values, expected.gradients[&name]);
        }
        let total = host.lora_loss(&parameters, &lora, &batch());
        let targets = batch().target_count() as f64;
        assert!((total / targets - expected.loss).abs() < 1e-5);
    }
    let merged = lora.merge(weights).expect("fits");
    for (ours, theirs) in logits(&config, &merged).iter().zip(&expected.logits) {
        for (ours, theirs) in ours.iter().zip(theirs.last().expect("not empty")) {
            assert!((f64::from(*ours) - theirs).abs() < 5e-5, "{ours} {theirs}");
        }
    }
    // For the script, which checks that PEFT reads what we write.
    if let Some(dir) = std::env::var_os("TRACEGYM_LORA_OUT") {
        lora.save(Path::new(&dir)).expect("written");
    }
}

/// The training pass computes adapters apart, a merged model has them in its weights.
#[test]
fn merged_and_unmerged_are_the_same_function() {
    let (config, weights) = model();
    let lora = random(&config, 0.5);
    let base = transformer::parameters(&config, &weights).expect("fits");
    let merged = lora.merge(weights.clone()).expect("fits");
    let merged = transformer::parameters(&config, &merged).expect("fits");
    let host = Host::new(&config);
    let (apart, together) = (host.lora_loss(&base, &lora, &batch()), host.loss(&merged, &batch()));
    assert!((apart - together).abs() < 1e-5 * together, "{apart} {together}");
    assert!((host.loss(&base, &batch()) - together).abs() > 1e-2, "adapters change nothing");

    let fresh = Lora::init(&LoraConfig::default(), &config, 1).expect("fits");
    assert_eq!(
        logits(&config, &fresh.merge(weights.clone()).expect("fits")),
        logits(&config, &weights)
    );
    assert_eq!(fresh.size(), 2 * 8 * ((12 + 24) + 2 * (12 + 12) + (24 + 12)));
}

/// Gradients of A and B against differences of the loss, with the dropout of the same step.
#[test]
fn gradients_with_dropout_are_those_of_the_loss() {
    let (config, weights) = model();
    let parameters = transformer::parameters(&config, &weights).expect("fits");
    for (dropout, key) in [(0.0, None), (0.3, Some(7)), (0.3, Some(8))] {
        let lora = random(&config, dropout);
        let mut host = Host::new(&config);
        let (_, gradients) = host.lora_gradients(&parameters, &lora, key, &batch());
        for (number, gradient) in gradients.iter().enumerate() {
            let direction = |index: usize| (0.37 * index as f32 + number as f32).cos();
            let grad: f64 = gradient
                .iter()
                .enumerate()
                .map(|(index, value)| f64::from(*value) * f64::from(direction(index)))
                .sum();
            let mut moved = |step: f32| {
                let mut lora = lora.clone();
                let values = lora.parameters[number].values.iter_mut().enumerate();
                values.for_each(|(index, value)| *value += step * direction(index));
                host.lora_gradients(&parameters, &lora, key, &batch()).0
            };
            const STEP: f32 = 3e-3;
            let measured = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
            let error = (grad - measured).abs();
            assert!(error < 1e-3 + 1e-2 * grad.abs(), "{number}: {grad} {measured}");
        }
    }
}

#[test]
fn dropout_leaves_out_its_share_and_depends_on_the_step_alone() {
    let (config, weights) = model();
    let parameters = transformer::parameters(&config, &weights).expect("fits");
    let lora = random(&config, 0.25);
    let with = |threads: usize, key: Option<u64>| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
        pool.install(|| Host::new(&config).lora_gradients(&parameters, &lora, key, &batch()))
    };
    assert_eq!(with(1, Some(3)), with(3, Some(3)));
    assert_ne!(with(1, Some(3)).0, with(1, Some(4)).0);
    // Means over steps come near the loss without dropout.
    let losses: Vec<f64> = (0..200).map(|key| with(1, Some(key)).0).collect();
    let mean = losses.iter().sum::<f64>() / 200.0;
    let plain = with(1, None).0;
    assert!((mean - plain).abs() < 0.05 * plain, "{mean} {plain}");
}

fn trainer(lora: Lora, weights: &Weights, footprint: Footprint, scratch: &Path) -> LoraTrainer {
    let (config, _) = model();
    LoraTrainer::new(LoraTraining {
        model: &config,
        weights,
        lora,
        seed: 1,
        batch_tokens: 64,
        footprint,
        scratch,
        device: DeviceChoice::Cpu,
    })
    .expect("cpu")
}

const STEP: LoraStep = LoraStep { learning_rate: 1e-2, clip: 1.0, weight_decay: 0.0 };

/// Whether the error names the step and the batch lies in `dir`.
fn assert_kept(error: &anyhow::Error, step: u64, batch: &Batch, dir: &Path) {
    let path = dir.join(format!("batch-{step}.json"));
    let message = error.to_string();
    assert!(error.is::<UserError>());
    assert!(message.contains(&format!("at step {step}: lower `lora_learning_rate`")), "{message}");
    assert!(message.contains(&path.display().to_string()), "{message}");
    let kept: Value =
        serde_json::from_str(&std::fs::read_to_string(path).expect("kept")).expect("json");
    assert_eq!(kept, serde_json::to_value(batch).expect("json"));
}

/// A training with adapters alone learns, and leaves the model as it is.
#[test]
fn adapters_learn() {
    let (config, weights) = model();
    let lora = Lora::init(&LoraConfig::default(), &config, 1).expect("fits");
    let scratch = tempfile::tempdir().expect("temp dir");
    let mut trainer = trainer(lora, &weights, Footprint::default(), scratch.path());
    let before = trainer.loss(&batch()).expect("loss");
    for _ in 0..60 {
        trainer.step(&batch(), STEP).expect("step");
    }
    let after = trainer.loss(&batch()).expect("loss");
    assert!(after < 0.7 * before, "{before} {after}");
    let error = trainer
        .step(&batch(), LoraStep { learning_rate: 1e30, ..STEP })
        .and_then(|_| trainer.step(&batch(), STEP).and_then(|_| trainer.step(&batch(), STEP)))
        .expect_err("explodes");
    assert!(error.to_string().contains("not finite"), "{error}");
    assert_kept(&error, 61, &batch(), scratch.path());
    let lora = trainer.finish();
    let parameters = transformer::parameters(&config, &weights).expect("fits");
    let device = burn::tensor::Device::flex();
    let mut gpu = Engine::Burn { config, device, footprint: Footprint::default() };
    let error = gpu.lora_gradients(&parameters, &lora, None, &batch()).expect_err("not there");
    assert!(error.is::<UserError>() && error.to_string().contains("--device cpu"));
}

/// A model that is sure of itself: what it expects costs it nothing, anything else a lot.
#[test]
fn a_jump_of_the_loss_stops_adapters() {
    let (config, weights) = model();
    let gain = weights.get("final_norm").expect("known").iter().map(|v| 30.0 * v).collect();
    let weights = weights.with("final_norm", gain);
    let logits = logits(&config, &weights);
    // The last token of each document is the likeliest for 1, the least likely for -1.
    let ending = |sign: f32| {
        let mut batch = batch();
        batch.targets.fill(None);
        let mut end = 0;
        for (length, logits) in batch.lengths.iter().zip(&logits) {
            end += length;
            let best = (0u32..).zip(logits).max_by(|a, b| (sign * a.1).total_cmp(&(sign * b.1)));
            batch.targets[end - 1] = best.map(|(token, _)| token);
        }
        batch
    };
    let scratch = tempfile::tempdir().expect("temp dir");
    let lora = Lora::init(&LoraConfig::default(), &config, 1).expect("fits");
    let mut trainer = trainer(lora, &weights, Footprint::default(), scratch.path());
    trainer.step(&ending(1.0), STEP).expect("step");
    let error = trainer.step(&ending(-1.0), STEP).expect_err("jumps");
    assert!(error.to_string().contains("the loss jumped to "), "{error}");
    assert_kept(&error, 1, &ending(-1.0), scratch.path());
}

/// Checkpointing changes no bit of adapters and their dropout.
#[test]
fn adapters_learn_the_same_with_less_memory() {
    let (config, weights) = model();
    let scratch = tempfile::tempdir().expect("temp dir");
    let trained = |checkpoint_activations: bool| {
        let footprint = Footprint { checkpoint_activations, ..Footprint::default() };
        let lora = random(&config, 0.3);
        let mut trainer = trainer(lora, &weights, footprint, scratch.path());
        let reports = (0..5).map(|_| trainer.step(&batch(), STEP).expect("step"));
        (reports.collect::<Vec<_>>(), trainer.finish())
    };
    assert_eq!(trained(true), trained(false));
}

#[test]
fn adapters_of_a_model_that_does_not_fit_are_refused() {
    let (config, weights) = model();
    let vast = ModelConfig { d_model: 1 << 16, d_ff: 1 << 16, layers: 64, ..config.clone() };
    let scratch = tempfile::tempdir().expect("temp dir");
    let new = |model: &ModelConfig, precision: Precision| {
        LoraTrainer::new(LoraTraining {
            model,
            weights: &weights,
            lora: random(&config, 0.0),
            seed: 1,
            batch_tokens: 64,
            footprint: Footprint { precision, ..Footprint::default() },
            scratch: scratch.path(),
            device: DeviceChoice::Cpu,
        })
        .err()
    };
    let error = new(&vast, Precision::F32).expect("too large");
    assert!(error.is::<UserError>() && error.to_string().contains("GiB of memory"), "{error}");
    assert!(new(&config, Precision::F32).is_none() && new(&config, Precision::Bf16).is_none());
}

#[test]
fn adapters_are_written_and_read() {
    let (config, _) = model();
    let dir = tempfile::tempdir().expect("temp dir");
    let settings =
        LoraConfig { targets: vec![Target::Query, Target::Down], ..LoraConfig::default() };
    let mut lora = Lora::init(&settings, &config, 9).expect("fits");
    lora.parameters[1].values.fill_with(|| 0.5);
    lora.save(dir.path()).expect("written");
    assert_eq!(Lora::load(dir.path(), &config).expect("reads"), lora);
    // The same names, shapes and order as PEFT's own file.
    let peft = Lora::load(Path::new(PEFT), &config).expect("reads");
    peft.save(dir.path()).expect("written");
    let header = |dir: &Path| {
        let bytes = std::fs::read(dir.join(ADAPTER_FILE)).expect("there");
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).expect("header");
        let tensors = metadata.tensors().into_iter();
        let shapes = tensors.map(|(name, info)| (name, info.shape.clone()));
        (shapes.collect::<BTreeMap<_, _>>(), metadata.metadata().clone())
    };
    assert_eq!(header(dir.path()), header(Path::new(PEFT)));
}

#[test]
fn adapters_that_are_not_supported_are_refused_by_key() {
    let (config, _) = model();
    let dir = tempfile::tempdir().expect("temp dir");
    Lora::init(&LoraConfig::default(), &config, 9).expect("fits").save(dir.path()).expect("saved");
    let path = dir.path().join(ADAPTER_CONFIG_FILE);
    let good: Value =
        serde_json::from_str(&std::fs::read_to_string(&path).expect("there")).expect("json");
    let refused = |key: &str, value: Value| {
        let mut text = good.clone();
        text[key] = value;
        std::fs::write(&path, text.to_string()).expect("written");
        let error = Lora::load(dir.path(), &config).expect_err("refused");
        assert!(error.is::<UserError>());
        error.to_string()
    };
    assert!(refused("peft_type", json!("IA3")).contains("peft_type: `IA3`"));
    assert!(refused("use_dora", json!(true)).contains("use_dora: true"));
    assert!(refused("bias", json!("all")).contains("bias: \"all\""));
    assert!(refused("modules_to_save", json!(["lm_head"])).contains("modules_to_save"));
    assert!(refused("target_modules", json!("all-linear")).contains("is not a list"));
    assert!(refused("target_modules", json!(["fc1"])).contains("\"fc1\" is none of q_proj"));
    assert!(refused("r", json!(0)).contains("lora rank 0"));
    assert!(refused("r", json!(4)).contains("lora_A.weight: has shape [8, 12]"));
    assert!(refused("target_modules", json!(["q_proj"])).contains("belongs to none"));
    assert!(refused("target_modules", json!(["up_proj"])).contains("is missing"));
    let wrong = [
        LoraConfig { alpha: f32::NAN, ..LoraConfig::default() },
        LoraConfig { dropout: 1.0, ..LoraConfig::default() },
        LoraConfig { targets: Vec::new(), ..LoraConfig::default() },
        LoraConfig { targets: vec![Target::Key; 2], ..LoraConfig::default() },
    ];
    for settings in wrong {
        assert!(Lora::init(&settings, &config, 1).is_err(), "{settings:?}");
    }
}

/// The names that PEFT gives to tensors of one adapter on `query`, with a file of them.
struct Peft {
    dir: tempfile::TempDir,
    /// Names, shapes and values, by names.
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl Peft {
    fn new() -> Self {
        let (config, _) = model();
        let dir = tempfile::tempdir().expect("temp dir");
        let settings = LoraConfig { targets: vec![Target::Query], ..LoraConfig::default() };
        let mut lora = Lora::init(&settings, &config, 9).expect("fits");
        lora.parameters[1].values.fill_with(|| 0.5);
        lora.save(dir.path()).expect("saved");
        let bytes = std::fs::read(dir.path().join(ADAPTER_FILE)).expect("there");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("ours");
        let tensors = file.tensors().into_iter().map(|(name, tensor)| {
            let values = tensor.data().chunks_exact(4);
            let values = values.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            (name, tensor.shape().to_vec(), values)
        });
        let mut tensors: Vec<_> = tensors.collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        Self { dir, tensors }
    }

    /// Writes the tensors and reads the adapters.
    fn load(&self) -> Result<Lora> {
        let bytes: Vec<Vec<u8>> = self
            .tensors
            .iter()
            .map(|(_, _, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect())
            .collect();
        let views = self.tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
            (name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("fits"))
        });
        let bytes = safetensors::serialize(views, None).expect("serialises");
        std::fs::write(self.dir.path().join(ADAPTER_FILE), bytes).expect("written");
        Lora::load(self.dir.path(), &model().0)
    }

    fn set(&self, key: &str, value: Value) {
        let path = self.dir.path().join(ADAPTER_CONFIG_FILE);
        let text = std::fs::read_to_string(&path).expect("there");
        let mut text: Value = serde_json::from_str(&text).expect("json");
        text[key] = value;
        std::fs::write(path, text.to_string()).expect("written");
    }

    fn refused(&self) -> String {
        let error = self.load().expect_err("refused");
        assert!(error.is::<UserError>(), "{error:#}");
        error.to_string()
    }
}

/// PiSSA and its like change the weights of the base when the training begins.
#[test]
fn adapters_that_changed_their_base_are_refused() {
    let peft = Peft::new();
    let expected = peft.load().expect("reads");
    for name in ["pissa", "pissa_niter_4", "olora", "OLoRA", "corda", "loftq", "lora_ga", "new"] {
        peft.set("init_lora_weights", json!(name));
        let message = peft.refused();
        assert!(message.contains(&format!("init_lora_weights: {name:?} is not")), "{message}");
        assert!(message.contains("path_initial_model_for_weight_conversion"), "{message}");
    }
    for begun in [
        json!(true),
        json!(false),
        json!(null),
        json!("gaussian"),
        json!("eva"),
        json!("orthogonal"),
    ] {
        peft.set("init_lora_weights", begun);
        assert_eq!(peft.load().expect("reads"), expected);
    }
    peft.set("loftq_config", json!({"loftq_bits": 4}));
    assert!(peft.refused().contains("loftq_config: {\"loftq_bits\":4}"));
}

#[test]
fn settings_of_peft_that_are_empty_are_not_used() {
    let peft = Peft::new();
    let expected = peft.load().expect("reads");
    for (key, values) in [
        ("loftq_config", vec![json!({}), json!(null)]),
        ("rank_pattern", vec![json!({}), json!(null)]),
        ("modules_to_save", vec![json!([]), json!(null)]),
        ("bias", vec![json!(null), json!("none")]),
        ("use_rslora", vec![json!(null), json!(false)]),
        ("eva_config", vec![json!({"rho": 2.0}), json!(null)]),
        ("peft_version", vec![json!("0.21.2")]),
        ("lora_dropout", vec![json!(null), json!(0.1)]),
    ] {
        for value in values {
            peft.set(key, value.clone());
            let mut found = peft.load().expect(key);
            found.config.dropout = expected.config.dropout;
            assert_eq!(found, expected, "{key} {value}");
        }
    }
    for (key, value) in [
        ("rank_pattern", json!({"q_proj": 4})),
        ("alpha_pattern", json!({"q_proj": 4})),
        ("use_rslora", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("lora_bias", json!(true)),
        ("layers_to_transform", json!(0)),
        ("monteclora_config", json!({"num_samples": 8})),
    ] {
        let peft = Peft::new();
        peft.set(key, value.clone());
        assert!(peft.refused().contains(&format!("{key}: {value} is not supported")), "{key}");
    }
    peft.set("new_thing", json!(3));
    peft.set("newer_thing", json!(false));
    let found = peft.load().expect("reads");
    assert_eq!(found.notes, ["new_thing 3 is not known and not used"]);
}

#[test]
fn files_with_more_than_adapters_or_with_nothing() {
    let expected = Peft::new().load().expect("reads");
    let mut named = Peft::new();
    for (name, _, _) in &mut named.tensors {
        *name = name.replace(".weight", ".default.weight");
    }
    assert_eq!(named.load().expect("reads"), expected);
    // A shape or a value that is wrong is told by the file's own name.
    named.tensors[0].2[5] = f32::NAN;
    let message = named.refused();
    assert!(message.contains(".default.weight: value 5 is NaN"), "{message}");

    let mut twice = Peft::new();
    let (name, shape, values) = twice.tensors[0].clone();
    twice.tensors.push((name.replace(".weight", ".other.weight"), shape, values));
    assert!(twice.refused().contains("is there twice, for two adapters"));

    let mut more = Peft::new();
    more.tensors.push(("base_model.model.model.embed_tokens.weight".into(), vec![1], vec![1.0]));
    assert!(more.refused().contains("embed_tokens.weight: belongs to none of the adapters"));

    let mut empty = Peft::new();
    for (_, shape, values) in &mut empty.tensors {
        (*shape, *values) = (vec![0], Vec::new());
    }
    assert!(
        empty.refused().contains("holds no tensors, or empty ones: was it saved under DeepSpeed")
    );
    empty.tensors.clear();
    assert!(empty.refused().contains("DeepSpeed ZeRO-3"));
    let mut some = Peft::new();
    (some.tensors[0].1, some.tensors[0].2) = (vec![0], Vec::new());
    assert!(
        some.refused().contains("has shape [0], expected [8, 12]: was it saved under DeepSpeed")
    );

    let pickle = Peft::new();
    let file = pickle.dir.path().join(ADAPTER_FILE);
    std::fs::rename(&file, pickle.dir.path().join("adapter_model.bin")).expect("renamed");
    let error = Lora::load(pickle.dir.path(), &model().0).expect_err("refused").to_string();
    assert!(error.contains("adapter_model.safetensors: file: is missing, and adapter_model.bin"));
}
