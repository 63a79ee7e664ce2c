//! Files that the tests make themselves, of every format, damaged in every way.

use std::io::Cursor;

use proptest::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::vocabulary::{Kind, Pieces, Split};
use super::*;
use crate::model::RopeScaling;

/// Everything that the family can have; widths are whole blocks of 32.
fn config() -> ModelConfig {
    ModelConfig {
        d_model: 32,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        d_ff: 64,
        head_dim: Some(16),
        untied_head: true,
        rope_base: 50_000.0,
        ..ModelConfig::preset("xs", 40, 64).expect("known size")
    }
}

/// Eighths from −1 to 7/8: exact in every format.
fn weights(config: &ModelConfig) -> Weights {
    let tensors = config.tensors().into_iter().enumerate().map(|(number, (name, shape))| {
        let level = |index: usize| ((index * 7 + index / 32 * 5 + number * 3) % 16) as f32 / 8.0;
        let values = (0..shape.iter().product()).map(|index| level(index) - 1.0).collect();
        (name, values)
    });
    Weights::from_tensors(tensors)
}

/// Our tensor as a file has it: name, shape, values.
fn stored(layout: Layout, config: &ModelConfig, ours: &str) -> (String, Vec<usize>, Vec<f32>) {
    let shape = &config.tensors().into_iter().find(|(name, _)| name == ours).expect("known").1;
    let values = weights(config).get(ours).expect("known").to_vec();
    if shape.len() == 1 || !ours.starts_with("layers.") {
        return (layout.name(ours), shape.clone(), values);
    }
    let (rows, columns, values) = (shape[1], shape[0], &values);
    let mut order: Vec<usize> = (0..rows).collect();
    if layout == Layout::Gguf && (ours.ends_with("query") || ours.ends_with("key")) {
        // As llama.cpp converts: [heads, 2, half] becomes [heads, half, 2].
        let (head_dim, half) = (config.head_dim(), config.head_dim() / 2);
        let heads = 0..rows / head_dim;
        let at = |head: usize, pair: usize, side: usize| head * head_dim + side * half + pair;
        order = heads
            .flat_map(|head| (0..half).flat_map(move |pair| [at(head, pair, 0), at(head, pair, 1)]))
            .collect();
    }
    let turned = order
        .iter()
        .flat_map(|row| (0..columns).map(move |column| values[column * rows + row]))
        .collect();
    (layout.name(ours), vec![rows, columns], turned)
}

/// `values` in ggml's format number `code`, every block with scale 1/8.
fn encode(code: u32, values: &[f32]) -> Vec<u8> {
    const EIGHTH: [u8; 2] = [0x00, 0x30];
    const MINUS_ONE: [u8; 2] = [0x00, 0xbc];
    let level = |value: f32| (value * 8.0) as i8;
    let nibbles = |block: &[f32]| -> Vec<u8> {
        let at = |index: usize| (level(block[index]) + 8) as u8;
        (0..16).map(|i| at(i) | (at(i + 16) << 4)).collect()
    };
    let blocks = values.chunks(32);
    match code {
        0 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        1 => values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
        30 => values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect(),
        2 => blocks.flat_map(|b| [EIGHTH.to_vec(), nibbles(b)].concat()).collect(),
        3 => blocks
            .flat_map(|b| [EIGHTH.to_vec(), MINUS_ONE.to_vec(), nibbles(b)].concat())
            .collect(),
        8 => {
            let bytes = |b: &[f32]| b.iter().map(|v| level(*v).cast_unsigned()).collect();
            blocks.flat_map(|b| [EIGHTH.to_vec(), bytes(b)].concat()).collect()
        }
        _ => unreachable!("the tests' formats"),
    }
}

fn text(value: &str) -> Vec<u8> {
    [&(value.len() as u64).to_le_bytes(), value.as_bytes()].concat()
}

/// A GGUF file in the making.
#[derive(Clone, Default)]
struct File {
    /// Key, and type with value.
    metadata: Vec<(String, Vec<u8>)>,
    tensors: Vec<(String, Vec<usize>, u32, Vec<u8>)>,
}

impl File {
    fn set(&mut self, key: &str, kind: u32, value: &[u8]) {
        self.metadata.retain(|(known, _)| known != key);
        self.metadata.push((key.to_owned(), [&kind.to_le_bytes(), value].concat()));
    }

    fn number(&mut self, key: &str, value: u32) {
        self.set(key, 4, &value.to_le_bytes());
    }

    fn texts(&mut self, key: &str, values: &[&str]) {
        let count = (values.len() as u64).to_le_bytes();
        let values: Vec<u8> = values.iter().flat_map(|value| text(value)).collect();
        self.set(key, 9, &[&8u32.to_le_bytes()[..], &count, &values].concat());
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            out.extend(text(key));
            out.extend(value);
        }
        let mut data = Vec::new();
        for (name, shape, code, bytes) in &self.tensors {
            data.resize(data.len().next_multiple_of(32), 0);
            out.extend(text(name));
            out.extend((shape.len() as u32).to_le_bytes());
            out.extend(shape.iter().rev().flat_map(|size| (*size as u64).to_le_bytes()));
            out.extend(code.to_le_bytes());
            out.extend((data.len() as u64).to_le_bytes());
            data.extend(bytes);
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(data);
        out
    }
}

/// A file of `config` with its matrices in format `code`.
fn gguf(config: &ModelConfig, code: u32) -> File {
    let mut file = File::default();
    file.set("general.architecture", 8, &text("llama"));
    let sizes = [
        ("context_length", config.context),
        ("embedding_length", config.d_model),
        ("block_count", config.layers),
        ("feed_forward_length", config.d_ff),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
        ("attention.key_length", config.head_dim()),
        ("attention.value_length", config.head_dim()),
        ("rope.dimension_count", config.head_dim()),
    ];
    for (key, size) in sizes {
        file.number(&format!("llama.{key}"), size as u32);
    }
    file.set("llama.rope.freq_base", 6, &config.rope_base.to_le_bytes());
    file.set("llama.attention.layer_norm_rms_epsilon", 6, &config.norm_eps.to_le_bytes());
    for (ours, _) in config.tensors() {
        let (name, shape, values) = stored(Layout::Gguf, config, &ours);
        let code = if shape.len() == 1 { 0 } else { code };
        file.tensors.push((name, shape, code, encode(code, &values)));
    }
    file
}

fn read(bytes: &[u8]) -> Result<(ModelConfig, Weights)> {
    let source = Cursor::new(bytes);
    let mut file = Gguf::read(Path::new("model.gguf"), source, bytes.len() as u64)?;
    let config = llama::config(&mut file)?;
    layout::check(&file, Layout::Gguf, &config, |name| name == llama::ROPE_FREQUENCIES)?;
    let weights = layout::weights(&mut file, Layout::Gguf, &config)?;
    if let Some(pieces) = llama::pieces(&file)? {
        PretrainedTokenizer::of_pieces(Path::new("model.gguf"), &pieces)?;
    }
    Ok((config, weights))
}

fn refused(file: &File) -> String {
    format!("{:#}", read(&file.bytes()).expect_err("damaged"))
}

#[test]
fn gguf_of_every_format_gives_the_weights_back() {
    for code in [0, 1, 30, 8, 2, 3] {
        let (config, found) = read(&gguf(&config(), code).bytes()).expect("reads");
        assert_eq!(config, self::config());
        assert!(found == weights(&config), "format {code}");
    }
    let tied = ModelConfig { untied_head: false, head_dim: None, ..config() };
    let mut file = gguf(&tied, 0);
    file.metadata.retain(|(key, _)| !key.contains("_length") || !key.contains("attention"));
    let (config, found) = read(&file.bytes()).expect("reads");
    assert!(config == tied && found == weights(&tied));
    let mut version_2 = file.bytes();
    version_2[4] = 2;
    assert_eq!(read(&version_2).expect("reads").0, tied);
}

#[test]
fn gguf_scalings() {
    let mut file = gguf(&config(), 0);
    file.set("llama.rope.scaling.type", 8, &text("linear"));
    file.set("llama.rope.scaling.factor", 6, &4f32.to_le_bytes());
    let scaling = read(&file.bytes()).expect("reads").0.rope_scaling;
    assert_eq!(scaling, RopeScaling::Linear { factor: 4.0 });
    file.metadata.retain(|(key, _)| key != "llama.rope.scaling.type");
    assert_eq!(read(&file.bytes()).expect("reads").0.rope_scaling, scaling);
    file.set("llama.rope.scaling.type", 8, &text("none"));
    assert!(read(&file.bytes()).expect("reads").0.rope_scaling.is_none());
    file.set("llama.rope.scaling.type", 8, &text("yarn"));
    assert!(refused(&file).contains("`yarn` is not supported"));

    let mut file = gguf(&config(), 0);
    let divisors = vec![1.0, 1.0, 1.5, 8.0, 8.0, 8.0, 8.0, 8.0];
    let bytes = encode(0, &divisors);
    file.tensors.push((llama::ROPE_FREQUENCIES.to_owned(), vec![8], 0, bytes.clone()));
    let scaling = read(&file.bytes()).expect("reads").0.rope_scaling;
    assert_eq!(scaling, RopeScaling::Divisors { divisors });
    let last = file.tensors.len() - 1;
    file.tensors[last].1 = vec![4, 2];
    assert!(refused(&file).contains("rope_freqs.weight: has shape [4, 2], expected [8]"));
}

#[test]
fn damaged_gguf_files_are_refused_by_name() {
    let good = gguf(&config(), 3);
    let with = |change: &dyn Fn(&mut File)| {
        let mut file = good.clone();
        change(&mut file);
        refused(&file)
    };
    let tensor = |file: &mut File, name: &str| -> usize {
        file.tensors.iter().position(|(known, ..)| known == name).expect("known")
    };
    let message = with(&|file| {
        let index = tensor(file, "blk.1.attn_k.weight");
        file.tensors.remove(index);
    });
    assert_eq!(message, "model.gguf: tensor blk.1.attn_k.weight: is missing");
    let message = with(&|file| {
        let index = tensor(file, "blk.1.attn_k.weight");
        file.tensors[index].1 = vec![16, 64];
    });
    assert!(message.ends_with("attn_k.weight: has shape [16, 64], expected [32, 32]"), "{message}");
    let message = with(&|file| file.tensors[0].2 = 12);
    assert!(message.contains("token_embd.weight: has format Q4_K"), "{message}");
    let message = with(&|file| {
        file.tensors.push(("blk.0.attn_q.bias".to_owned(), vec![32], 0, vec![0; 128]));
    });
    assert!(message.contains("attn_q.bias: belongs to no part"), "{message}");
    let message = with(&|file| {
        let norm = tensor(file, "output_norm.weight");
        file.tensors[norm].3[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert!(message.contains("output_norm.weight: value 0 is NaN"), "{message}");
    let message = with(&|file| file.set("general.architecture", 8, &text("qwen2")));
    assert!(message.contains("general.architecture: `qwen2` is not supported"), "{message}");
    let message = with(&|file| file.number("llama.expert_count", 8));
    assert!(message.contains("8 experts"), "{message}");
    let message = with(&|file| file.number("llama.rope.dimension_count", 8));
    assert!(message.contains("rope.dimension_count: is 8"), "{message}");
    let message = with(&|file| file.number("llama.attention.head_count", 0));
    assert!(message.contains("heads is 0"), "{message}");
    let message = with(&|file| file.number("general.alignment", 33));
    assert!(message.contains("general.alignment: 33"), "{message}");
    let message = with(&|file| file.set("llama.context_length", 8, &text("long")));
    assert!(message.contains("llama.context_length: is not a whole number"), "{message}");
    let message = with(&|file| file.tensors[1].0 = file.tensors[0].0.clone());
    assert!(message.contains("occurs twice"), "{message}");

    let bytes = good.bytes();
    let message = format!("{:#}", read(&bytes[..bytes.len() - 1]).expect_err("short"));
    assert!(message.contains("ends beyond the file"), "{message}");
    assert!(format!("{:#}", read(b"GGUF").expect_err("short")).contains("4 bytes of version"));
    assert!(format!("{:#}", read(b"PK\x03\x04....").expect_err("zip")).contains("not a GGUF"));
    let mut other = bytes.clone();
    other[4] = 1;
    assert!(format!("{:#}", read(&other).expect_err("old")).contains("version 1"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// Whatever a file claims, it is read or refused: no panic, no memory beyond what it holds.
    #[test]
    fn hostile_gguf_files_are_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 0..3u8), 0..4),
        // Most changes should hit the header.
        end in prop_oneof![Just(1.0f64), 0.0..1.0f64],
    ) {
        let mut file = gguf(&ModelConfig { layers: 1, ..config() }, 2);
        file.texts("tokenizer.ggml.tokens", &["<s>", "a", "b", "ab"]);
        file.texts("tokenizer.ggml.merges", &["a b"]);
        file.set("tokenizer.ggml.model", 8, &text("gpt2"));
        file.set("tokenizer.ggml.pre", 8, &text("smollm"));
        let mut bytes = file.bytes();
        let header = 2500.min(bytes.len());
        for (place, value, kind) in changes {
            let at = place.index(header - 8);
            let value = match kind {
                0 => value,
                1 => u64::MAX - value % 64,
                _ => value % 4096,
            };
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        bytes.truncate((bytes.len() as f64 * end) as usize);
        let _ = read(&bytes);
    }
}

/// Writes a folder as Hugging Face has it, the tensors dealt to `shards` files.
fn hugging_face(dir: &Path, config: &ModelConfig, dtype: Dtype, shards: usize) -> Value {
    let code = match dtype {
        Dtype::F32 => 0,
        Dtype::F16 => 1,
        _ => 30,
    };
    let mut map = serde_json::Map::new();
    for shard in 0..shards {
        let file = match shards {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{shard:05}-of-{shards:05}.safetensors"),
        };
        let buffers: Vec<_> = config
            .tensors()
            .iter()
            .skip(shard)
            .step_by(shards)
            .map(|(ours, _)| {
                let (name, shape, values) = stored(Layout::HuggingFace, config, ours);
                map.insert(name.clone(), json!(file));
                (name, shape, encode(code, &values))
            })
            .collect();
        let views = buffers.iter().map(|(name, shape, bytes)| {
            (name, TensorView::new(dtype, shape.clone(), bytes).expect("fits"))
        });
        let bytes = safetensors::serialize(views, None).expect("serialises");
        std::fs::write(dir.join(file), bytes).expect("written");
    }
    if shards > 1 {
        let index = json!({"metadata": {}, "weight_map": map}).to_string();
        std::fs::write(dir.join("model.safetensors.index.json"), index).expect("written");
    }
    let description = json!({
        "model_type": "llama", "vocab_size": config.vocabulary, "hidden_size": config.d_model,
        "intermediate_size": config.d_ff, "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads, "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim(), "max_position_embeddings": config.context,
        "rms_norm_eps": 1e-5, "rope_theta": config.rope_base, "hidden_act": "silu",
        "tie_word_embeddings": !config.untied_head, "eos_token_id": [2, 3], "bos_token_id": 1,
    });
    std::fs::write(dir.join("config.json"), description.to_string()).expect("written");
    description
}

#[test]
fn hugging_face_folders_give_the_weights_back() {
    for (dtype, shards) in [(Dtype::F32, 1), (Dtype::F16, 1), (Dtype::BF16, 3)] {
        let dir = tempfile::tempdir().expect("temp dir");
        hugging_face(dir.path(), &config(), dtype, shards);
        let mut opened = Pretrained::open(dir.path()).expect("opens");
        assert_eq!(*opened.config(), config());
        assert!(opened.weights().expect("reads") == weights(&config()), "{dtype:?}");
        let card = opened.card().expect("card");
        assert_eq!(card.formats.values().sum::<usize>(), config().tensors().len());
    }
}

#[test]
fn our_own_folders_are_opened_too() {
    let dir = tempfile::tempdir().expect("temp dir");
    let text = serde_json::to_string(&config()).expect("json");
    std::fs::write(dir.path().join("config.json"), text).expect("written");
    weights(&config()).save(&dir.path().join("model.safetensors"), &config()).expect("saved");
    let mut opened = Pretrained::open(dir.path()).expect("opens");
    assert!(opened.weights().expect("reads") == weights(&config()));
    assert_eq!(opened.card().expect("card").format, "TraceGym");
    let other = ModelConfig { d_ff: 32, ..config() };
    let text = serde_json::to_string(&other).expect("json");
    std::fs::write(dir.path().join("config.json"), text).expect("written");
    let error = Pretrained::open(dir.path()).err().expect("refused").to_string();
    assert!(error.contains("layers.0.gate: has shape [32, 64], expected [32, 32]"), "{error}");
}

#[test]
fn hugging_face_scalings() {
    let described = |rope: Value| {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut text = hugging_face(dir.path(), &config(), Dtype::F16, 1);
        text.as_object_mut().expect("object").extend(rope.as_object().expect("object").clone());
        hugging_face::describe(Path::new("config.json"), &text.to_string())
            .map(|described| described.config)
    };
    let llama3 = json!({
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    let expected = RopeScaling::Llama3 {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 8192,
    };
    let config = described(json!({"rope_scaling": llama3})).expect("reads");
    assert_eq!(config.rope_scaling, expected);
    let mut newer = llama3.clone();
    newer["rope_theta"] = json!(123.0);
    let config = described(json!({"rope_parameters": newer, "rope_theta": null})).expect("reads");
    assert_eq!((&config.rope_scaling, config.rope_base), (&expected, 123.0));
    let mut both = llama3;
    both["type"] = json!("llama3");
    let config = described(json!({"rope_scaling": both})).expect("reads");
    assert_eq!(config.rope_scaling.clone(), expected);
    for linear in [
        json!({"type": "linear", "factor": 2.0}),
        json!({"rope_type": "linear", "factor": 2.0}),
        json!({"type": "linear", "rope_type": "linear", "factor": 2.0}),
        json!({"type": "linear", "factor": 2, "rope_theta": 50_000, "low_freq_factor": null}),
    ] {
        for change in [
            json!({"rope_scaling": linear}),
            json!({"rope_parameters": linear, "rope_theta": null}),
            json!({"rope_parameters": linear, "rope_scaling": linear}),
        ] {
            let config = described(change).expect("reads");
            assert_eq!(config.rope_scaling, RopeScaling::Linear { factor: 2.0 });
        }
    }
    for none in [json!({"rope_scaling": null}), json!({"rope_scaling": {}, "rope_theta": 500_000})]
    {
        let config = described(none.clone()).expect("reads");
        assert!(config.rope_scaling.is_none());
        let base = none["rope_theta"].as_f64().unwrap_or(50_000.0);
        assert_eq!(f64::from(config.rope_base), base);
    }
    let refused = [
        (json!({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}), "rope_type: `yarn`"),
        (json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}}), "rope_type: `dynamic`"),
        (json!({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}), "low_freq_factor: is"),
        (
            json!({"rope_scaling": {
                "rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
            }}),
            "rope_scaling.original_max_position_embeddings: is missing",
        ),
        (json!({"rope_scaling": {"type": "linear", "rope_type": "yarn", "factor": 4.0}}), "`yarn`"),
        (json!({"rope_scaling": {"factor": 4.0}}), "rope_scaling.rope_type: is missing"),
        (json!({"rope_parameters": {"factor": 4.0, "rope_theta": 5e4}}), "rope_type: is missing"),
        (json!({"rope_scaling": {"type": "linear", "factor": 0}}), "factor 0 is not"),
        (json!({"rope_scaling": {"type": "linear", "factor": -2.0}}), "factor -2 is not"),
        (json!({"rope_scaling": {"type": "linear", "factor": "2"}}), "rope_scaling.factor: "),
        (json!({"rope_scaling": [2.0]}), "rope_scaling: is not an object"),
        (
            json!({
                "rope_scaling": {"type": "linear", "factor": 2},
                "rope_parameters": {"rope_type": "default"},
            }),
            "rope_scaling: is not what rope_parameters tells",
        ),
        (
            json!({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}),
            "rope_theta: 50000 here, but 7",
        ),
        (
            json!({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}),
            "rope_parameters.partial_rotary_factor: 0.5",
        ),
        (json!({"model_type": "mistral"}), "model_type: `mistral`"),
        (json!({"attention_bias": true}), "attention_bias: true"),
        (json!({"mlp_bias": true}), "mlp_bias: true"),
        (json!({"hidden_act": "gelu"}), "hidden_act: `gelu`"),
        (json!({"bias": true}), "bias: true"),
        (json!({"num_attention_heads": 0}), "num_attention_heads: is 0"),
        (json!({"num_key_value_heads": 3}), "num_key_value_heads: 3 does not divide"),
        (
            json!({"head_dim": null, "hidden_size": 30}),
            "head_dim: is missing, and hidden_size (30)",
        ),
        (json!({"head_dim": null, "num_attention_heads": 32}), "head_dim: 1 is odd"),
        (json!({"head_dim": 3}), "head_dim: 3 is odd"),
        (json!({"max_position_embeddings": null}), "max_position_embeddings: is missing"),
        (json!({"eos_token_id": 4_294_967_295u32}), "eos_token_id: 4294967295 is no token"),
        (json!({"eos_token_id": [2, -2]}), "eos_token_id: -2 is no token of a vocabulary of 40"),
        (json!({"bos_token_id": "1"}), "bos_token_id: \"1\" is no token"),
        (json!({"attention_bias": 1}), "attention_bias: invalid type"),
        (json!({"head_dim": 1u64 << 40}), "head_dim 1099511627776"),
        (json!({"vocab_size": -1}), "invalid value"),
    ];
    for (change, named) in refused {
        let error = format!("{:#}", described(change).expect_err(named));
        assert!(error.starts_with("config.json: ") && error.contains(named), "{error}");
    }
}

#[test]
fn damaged_folders_are_refused_by_name() {
    let refused = |shards: usize, change: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().expect("temp dir");
        hugging_face(dir.path(), &config(), Dtype::F16, shards);
        change(dir.path());
        let error = Pretrained::open(dir.path()).err().expect("refused");
        assert!(error.is::<UserError>());
        format!("{error:#}")
    };
    let path = "model.safetensors";
    let damage = |dir: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(dir.join(path)).expect("there");
        change(&mut bytes);
        std::fs::write(dir.join(path), bytes).expect("written");
    };
    let message = refused(1, &|dir| damage(dir, &|bytes| bytes.truncate(bytes.len() - 2)));
    assert!(message.contains("the file is incomplete"), "{message}");
    let message = refused(1, &|dir| damage(dir, &|bytes| bytes[7] = 0x7f));
    assert!(message.contains("claims"), "{message}");
    let message = refused(1, &|dir| damage(dir, &|bytes| bytes.truncate(5)));
    assert!(message.contains("not a safetensors file"), "{message}");
    let message = refused(1, &|dir| std::fs::remove_file(dir.join(path)).expect("removed"));
    assert!(message.contains("model.safetensors: cannot be read"), "{message}");
    let message = refused(2, &|dir| {
        let index = dir.join("model.safetensors.index.json");
        let text = std::fs::read_to_string(&index).expect("there");
        std::fs::write(index, text.replace("model-00001", "../model-00001")).expect("written");
    });
    assert!(message.contains("is not the name of a file here"), "{message}");
    let message = refused(1, &|dir| {
        let wider = ModelConfig { d_ff: 96, ..config() };
        let other = tempfile::tempdir().expect("temp dir");
        let text = hugging_face(other.path(), &wider, Dtype::F16, 1);
        std::fs::write(dir.join("config.json"), text.to_string()).expect("written");
    });
    assert!(
        message.contains("gate_proj.weight: has shape [64, 32], expected [96, 32]"),
        "{message}"
    );
    let message = refused(1, &|dir| {
        std::fs::write(dir.join("config.json"), "{}").expect("written");
    });
    assert!(message.contains("neither `model_type`"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn hostile_safetensors_are_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end in prop_oneof![Just(1.0f64), 0.0..1.0f64],
    ) {
        let dir = tempfile::tempdir().expect("temp dir");
        hugging_face(dir.path(), &ModelConfig { layers: 1, ..config() }, Dtype::BF16, 1);
        let path = dir.path().join("model.safetensors");
        let mut bytes = std::fs::read(&path).expect("there");
        for (place, value) in changes {
            let at = place.index(1500);
            bytes[at] = value;
        }
        bytes.truncate((bytes.len() as f64 * end) as usize);
        std::fs::write(&path, bytes).expect("written");
        if let Ok(mut opened) = Pretrained::open(dir.path()) {
            let _ = opened.weights();
        }
    }
}

fn vocabulary(pieces: &Pieces) -> PretrainedTokenizer {
    PretrainedTokenizer::of_pieces(Path::new("model.gguf"), pieces).expect("builds")
}

fn pieces(kind: Kind, tokens: &[&str]) -> Pieces {
    Pieces {
        kind,
        tokens: tokens.iter().map(|token| (*token).to_owned()).collect(),
        merges: Vec::new(),
        scores: Vec::new(),
        types: vec![1.0; tokens.len()],
        begin: None,
        ends: Vec::new(),
        unknown: None,
        add_begin: false,
        add_space: true,
    }
}

#[test]
fn byte_level_vocabularies() {
    let tokens = ["<end>", "a", "b", "Ġ", "ab", "Ġab", "1", "2", "12"];
    let mut smollm = pieces(Kind::Bpe(Split::SmolLm), &tokens);
    smollm.types[0] = 3.0;
    smollm.merges = ["a b", "Ġ ab", "1 2"].map(str::to_owned).to_vec();
    let tokenizer = vocabulary(&smollm);
    // Digits stay alone whatever merges say; control tokens are found in the text.
    assert_eq!(tokenizer.encode("ab ab12<end>", true).expect("text"), [4, 5, 6, 7, 0]);
    assert_eq!(tokenizer.decode(&[4, 5, 6, 7, 0]).expect("text"), "ab ab12");
    assert_eq!(tokenizer.token("<end>"), Some(0));

    let mut llama3 = Pieces { kind: Kind::Bpe(Split::Llama3), ..smollm.clone() };
    llama3.begin = Some(0);
    llama3.add_begin = true;
    let tokenizer = vocabulary(&llama3);
    assert_eq!(tokenizer.encode("ab12", true).expect("text"), [0, 4, 8]);
    assert_eq!(tokenizer.encode("ab12", false).expect("text"), [4, 8]);

    let mut broken = smollm.clone();
    broken.merges.push("nothing".to_owned());
    assert!(PretrainedTokenizer::of_pieces(Path::new("model.gguf"), &broken).is_err());
    for (broken, named) in [
        (Pieces { ends: vec![9], ..smollm.clone() }, "token 9"),
        (Pieces { types: vec![1.0], ..smollm.clone() }, "token_type"),
        (Pieces { kind: Kind::SentencePiece, ..smollm.clone() }, "scores"),
        (pieces(Kind::SentencePiece, &["a", "a"]), "occur twice"),
        (pieces(Kind::SentencePiece, &[&"a".repeat(2000)]), "token 0 has 2000 bytes"),
    ] {
        let error = broken.check().expect_err(named);
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn sentence_piece_vocabularies() {
    let tokens = ["<unk>", "<s>", "<0xC3>", "<0xA9>", "▁", "a", "b", "▁a", "ab", "▁ab"];
    let mut llama = pieces(Kind::SentencePiece, &tokens);
    llama.types[..4].copy_from_slice(&[2.0, 3.0, 6.0, 6.0]);
    llama.scores = vec![0.0, 0.0, 0.0, 0.0, -9.0, -8.0, -7.0, -1.0, -2.0, -3.0];
    (llama.begin, llama.unknown, llama.add_begin) = (Some(1), Some(0), true);
    let tokenizer = vocabulary(&llama);
    // "▁aab": ▁a has the highest score, then ab.
    assert_eq!(tokenizer.encode("aab", true).expect("text"), [1, 7, 8]);
    assert_eq!(tokenizer.encode("ab é", false).expect("text"), [9, 4, 2, 3]);
    assert_eq!(tokenizer.decode(&[1, 9, 4, 2, 3]).expect("text"), "ab é");
}

/// What `tests/reference/pieces.py` made.
#[derive(serde::Deserialize)]
struct SentencePiece {
    tokens: Vec<String>,
    scores: Vec<f64>,
    types: Vec<f64>,
    texts: Vec<(String, Vec<u32>)>,
}

#[test]
fn sentence_piece_is_that_of_its_library() {
    let text = include_str!("../../../tests/reference/pieces.json");
    let expected: SentencePiece = serde_json::from_str(text).expect("made by the script");
    let SentencePiece { tokens, scores, types, texts } = expected;
    let unknown = Some(0);
    let pieces = Pieces { tokens, scores, types, unknown, ..pieces(Kind::SentencePiece, &[]) };
    pieces.check().expect("fits");
    let tokenizer = vocabulary(&pieces);
    for (text, ids) in texts {
        assert_eq!(tokenizer.encode(&text, false).expect("text"), ids, "{text:?}");
        assert_eq!(tokenizer.decode(&ids).expect("text"), text);
    }
}

/// A described folder with other keys.
fn described(changes: &Value) -> Result<hugging_face::Described> {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut text = hugging_face(dir.path(), &config(), Dtype::F16, 1);
    text.as_object_mut().expect("object").extend(changes.as_object().expect("object").clone());
    hugging_face::describe(Path::new("config.json"), &text.to_string())
}

#[test]
fn numbers_of_a_scaling_that_are_not_used_are_told() {
    let notes = |rope: Value| described(&json!({"rope_scaling": rope})).expect("reads").notes;
    assert_eq!(
        notes(json!({"rope_type": "default", "factor": 4.0})),
        ["rope_scaling.factor is not used: the kind is `default`"]
    );
    let linear = json!({"type": "linear", "factor": 4.0, "original_max_position_embeddings": 9});
    assert!(notes(linear)[0].contains("original_max_position_embeddings is not used"));
    assert!(notes(json!({"type": "linear", "factor": 4.0, "rope_theta": 5e4})).is_empty());
}

/// Keys that are null, that came later, and that had other names in the first files.
#[test]
fn old_and_new_configurations_are_the_same_model() {
    let nulls = [
        "num_key_value_heads",
        "rope_scaling",
        "rope_parameters",
        "head_dim",
        "attention_bias",
        "mlp_bias",
        "tie_word_embeddings",
        "partial_rotary_factor",
        "rms_norm_eps",
        "rope_theta",
        "hidden_act",
        "bos_token_id",
        "eos_token_id",
    ];
    let null: Value = nulls.iter().map(|key| ((*key).to_owned(), Value::Null)).collect();
    let found = described(&null).expect("reads");
    let expected = ModelConfig {
        kv_heads: 4,
        head_dim: None,
        rope_base: 10_000.0,
        norm_eps: 1e-6,
        ..config()
    };
    assert_eq!(found.config, expected);
    assert!(found.begin.is_none() && found.ends.is_empty() && found.notes.is_empty());

    let first = json!({"max_position_embeddings": null, "max_sequence_length": 99});
    assert_eq!(described(&first).expect("reads").config.context, 99);
    for (ids, expected) in [
        (json!(2), vec![2]),
        (json!([2, 3]), vec![2, 3]),
        (json!(-1), vec![]),
        (json!([-1, 3]), vec![3]),
        (json!([]), vec![]),
    ] {
        assert_eq!(described(&json!({"eos_token_id": ids})).expect("reads").ends, expected);
    }
}

/// What generates an answer's end: `generation_config.json` where it names tokens, else `config.json`.
#[test]
fn end_tokens_of_a_folder() {
    for (generation, expected) in [
        (None, Ok(vec![2, 3])),
        (Some(json!({"eos_token_id": [3, 5]})), Ok(vec![3, 5])),
        (Some(json!({"eos_token_id": 7})), Ok(vec![7])),
        (Some(json!({"temperature": 0.6})), Ok(vec![2, 3])),
        (Some(json!({"eos_token_id": null})), Ok(vec![2, 3])),
        (Some(json!({"eos_token_id": 40})), Err("eos_token_id: 40 is no token")),
        (Some(json!([])), Err("generation_config.json: json: ")),
    ] {
        let dir = tempfile::tempdir().expect("temp dir");
        hugging_face(dir.path(), &config(), Dtype::F16, 1);
        if let Some(generation) = &generation {
            let path = dir.path().join("generation_config.json");
            std::fs::write(path, generation.to_string()).expect("written");
        }
        let found = Pretrained::open(dir.path()).and_then(|opened| opened.card());
        match expected {
            Ok(ends) => assert_eq!(found.expect("opens").ends, Some(ends), "{generation:?}"),
            Err(told) => {
                let error = found.expect_err("refused").to_string();
                assert!(error.contains(told), "{error}");
            }
        }
    }
}

/// `tie_word_embeddings` and the matrix of the logits, which may disagree.
#[test]
fn heads_that_are_tied_or_not() {
    let name = Layout::HuggingFace.name("unembedding");
    let embedding = Layout::HuggingFace.name("token_embedding");
    // Which values the file's head has, if it has one.
    let opened = |tied: Value, head: Option<&dyn Fn(Vec<f32>) -> Vec<f32>>, dtype: Dtype| {
        let tied_config = ModelConfig { untied_head: false, ..config() };
        let dir = tempfile::tempdir().expect("temp dir");
        let mut text = hugging_face(dir.path(), &tied_config, Dtype::F16, 1);
        text["tie_word_embeddings"] = tied;
        std::fs::write(dir.path().join("config.json"), text.to_string()).expect("written");
        if let Some(head) = head {
            let path = dir.path().join("model.safetensors");
            let bytes = std::fs::read(&path).expect("there");
            let file = safetensors::SafeTensors::deserialize(&bytes).expect("ours");
            let values = weights(&tied_config).get("token_embedding").expect("known").to_vec();
            let code = if dtype == Dtype::F16 { 1 } else { 0 };
            let buffer = encode(code, &head(values));
            let shape = file.tensor(&embedding).expect("there").shape().to_vec();
            let added = (name.clone(), TensorView::new(dtype, shape, &buffer).expect("fits"));
            let all: Vec<_> = file.tensors().into_iter().chain([added]).collect();
            std::fs::write(path, safetensors::serialize(all, None).expect("ok")).expect("written");
        }
        let mut opened = Pretrained::open(dir.path())?;
        let weights = opened.weights()?;
        anyhow::Ok((opened.config().parameters(), weights))
    };
    let same = |values: Vec<f32>| values;
    let other = |mut values: Vec<f32>| {
        let last = values.len() - 1;
        values[last] += 0.5;
        values
    };
    let tied = opened(json!(true), None, Dtype::F16).expect("tied");
    for dtype in [Dtype::F16, Dtype::F32] {
        assert!(opened(json!(true), Some(&same), dtype).expect("tied, with a copy") == tied);
        let error = opened(json!(true), Some(&other), dtype).expect_err("refused").to_string();
        assert!(error.contains("lm_head.weight: differs from the embedding"), "{error}");
        assert!(error.contains("tie_word_embeddings"), "{error}");
    }
    for absent in [json!(false), json!(null)] {
        let error = opened(absent.clone(), None, Dtype::F16).expect_err("refused").to_string();
        assert!(error.contains("tensor lm_head.weight: is missing"), "{error}");
        assert!(error.contains("tie_word_embeddings"), "{error}");
        let (parameters, _) = opened(absent, Some(&other), Dtype::F16).expect("untied");
        assert_eq!(parameters, config().parameters());
    }
}

#[test]
fn weights_for_pytorch_alone_are_told_from_none() {
    let dir = tempfile::tempdir().expect("temp dir");
    hugging_face(dir.path(), &config(), Dtype::F16, 1);
    std::fs::rename(dir.path().join("model.safetensors"), dir.path().join("pytorch_model.bin"))
        .expect("renamed");
    let error = Pretrained::open(dir.path()).err().expect("refused").to_string();
    assert!(
        error.contains("model.safetensors: file: is missing, and pytorch_model.bin"),
        "{error}"
    );

    let dir = tempfile::tempdir().expect("temp dir");
    hugging_face(dir.path(), &config(), Dtype::F16, 2);
    std::fs::remove_file(dir.path().join("model.safetensors.index.json")).expect("removed");
    let error = Pretrained::open(dir.path()).err().expect("refused").to_string();
    assert!(error.contains("model-00000-of-00002.safetensors is a shard without"), "{error}");
}

/// Headers of safetensors as several writers make them.
#[test]
fn headers_with_and_without_metadata() {
    let dir = tempfile::tempdir().expect("temp dir");
    hugging_face(dir.path(), &config(), Dtype::F16, 1);
    let path = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&path).expect("there");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
    let (header, data) = bytes[8..].split_at(length);
    let header: Value = serde_json::from_slice(header).expect("json");
    for (metadata, padding) in
        [(None, ""), (Some(json!({})), ""), (Some(json!(null)), "  "), (None, "         ")]
    {
        let mut header = header.clone();
        if let Some(metadata) = metadata {
            header["__metadata__"] = metadata;
        }
        let header = header.to_string() + padding;
        let length = (header.len() as u64).to_le_bytes();
        std::fs::write(&path, [&length, header.as_bytes(), data].concat()).expect("written");
        let mut opened = Pretrained::open(dir.path()).expect("opens");
        assert!(opened.weights().expect("reads") == weights(&config()));
    }
}

#[test]
fn biases_in_the_file_are_never_left_out() {
    let dir = tempfile::tempdir().expect("temp dir");
    hugging_face(dir.path(), &config(), Dtype::F16, 1);
    let path = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&path).expect("there");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("ours");
    let bias = encode(1, &[0.5; 64]);
    let bias = TensorView::new(Dtype::F16, vec![64], &bias).expect("fits");
    let added = ("model.layers.0.self_attn.q_proj.bias".to_owned(), bias);
    let all: Vec<_> = file.tensors().into_iter().chain([added]).collect();
    std::fs::write(&path, safetensors::serialize(all, None).expect("ok")).expect("written");
    let error = Pretrained::open(dir.path()).err().expect("refused").to_string();
    assert!(error.contains("q_proj.bias: belongs to no part"), "{error}");
}

#[test]
fn gguf_files_for_other_machines_and_parts_of_a_file_are_refused() {
    let good = gguf(&config(), 0);
    let refused = |bytes: &[u8]| format!("{:#}", read(bytes).expect_err("refused"));
    let mut bytes = good.bytes();
    for (version, told) in [
        (3u32.swap_bytes(), "version 50331648: this file is big-endian"),
        (2u32.swap_bytes(), "big-endian"),
        (1, "GGUF version 1 is not supported"),
        (4, "GGUF version 4 is not supported"),
    ] {
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
        let message = refused(&bytes);
        assert!(message.contains(told), "{message}");
    }
    let mut part = good.clone();
    part.tensors.truncate(3);
    part.set("split.count", 2, &2u16.to_le_bytes());
    part.set("split.no", 2, &0u16.to_le_bytes());
    let first = part.bytes();
    assert!(refused(&first).contains("split.count: is 2: this is part 1 of 2: merge"));
    part.metadata.retain(|(key, _)| key == "split.count");
    part.set("split.no", 2, &1u16.to_le_bytes());
    assert!(refused(&part.bytes()).contains("this is part 2 of 2"));
    // A file of one part, and files that were joined without a word of parts.
    let mut whole = good.clone();
    whole.set("split.count", 2, &1u16.to_le_bytes());
    read(&whole.bytes()).expect("one part");
    let joined = refused(&[good.bytes(), good.bytes()].concat());
    assert!(joined.contains("bytes follow behind the last tensor"), "{joined}");
    let mut padded = good.bytes();
    padded.resize(padded.len().next_multiple_of(32), 0);
    read(&padded).expect("padding is no other file");
}

#[test]
fn gguf_formats_and_places_that_are_not_supported_are_refused_by_tensor() {
    let with = |change: &dyn Fn(&mut File)| {
        let mut file = gguf(&config(), 0);
        change(&mut file);
        refused(&file)
    };
    for (code, told) in
        [(12, "Q4_K, number 12"), (39, "MXFP4, number 39"), (4, "format number 4"), (250, "250")]
    {
        let message = with(&|file| file.tensors[3].2 = code);
        let name = &gguf(&config(), 0).tensors[3].0;
        assert!(message.contains(told) && message.contains(name), "{message}");
        assert!(message.contains("Q8_0"), "{message}");
    }
    let message = with(&|file| file.number("general.alignment", 1 << 12));
    assert!(message.contains("no multiple of the alignment 4096"), "{message}");
}

#[test]
fn gguf_end_tokens() {
    let mut file = gguf(&config(), 0);
    let ends = |file: &File| {
        let bytes = file.bytes();
        let length = bytes.len() as u64;
        let read = Gguf::read(Path::new("model.gguf"), Cursor::new(bytes), length).expect("reads");
        llama::ends(&read).map_err(|error| error.to_string())
    };
    assert_eq!(ends(&file), Ok(vec![]));
    file.number("tokenizer.ggml.eos_token_id", 2);
    assert_eq!(ends(&file), Ok(vec![2]));
    file.number("tokenizer.ggml.eot_token_id", 5);
    assert_eq!(ends(&file), Ok(vec![2, 5]));
    file.number("tokenizer.ggml.eot_token_id", u32::MAX);
    file.set("tokenizer.ggml.eos_token_id", 5, &(-1i32).to_le_bytes());
    assert_eq!(ends(&file), Ok(vec![]));
    file.set("tokenizer.ggml.eos_token_id", 8, &text("two"));
    assert!(ends(&file).is_err_and(|error| error.contains("eos_token_id: is not a whole number")));
}

/// A `tokenizer.json` of words, with these added tokens and this post-processor.
fn words(added: &[(&str, u64)], post_processor: &Value) -> Result<PretrainedTokenizer> {
    let added: Vec<Value> = added
        .iter()
        .map(|(content, id)| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            })
        })
        .collect();
    let text = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "decoder": null,
        "post_processor": post_processor,
        "model": {
            "type": "WordLevel", "vocab": {"<unk>": 0, "<s>": 1, "a": 2, "b": 3},
            "unk_token": "<unk>",
        },
    });
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("tokenizer.json");
    std::fs::write(&path, text.to_string()).expect("written");
    PretrainedTokenizer::load(&path, None, Vec::new())
}

#[test]
fn added_tokens_have_the_ids_of_the_file_or_are_refused() {
    let none = Value::Null;
    let read = words(&[("<s>", 1), ("<x>", 4), ("<y>", 5)], &none).expect("reads");
    assert_eq!(read.encode("a <y> <s> <x>", false).expect("text"), [2, 5, 1, 4]);
    assert_eq!(read.highest(), Some(("<y>".to_owned(), 5)));
    // The order of the list is no order of ids.
    let read = words(&[("<y>", 5), ("<x>", 4), ("<s>", 1)], &none).expect("reads");
    assert_eq!(read.encode("a <y> <s> <x>", false).expect("text"), [2, 5, 1, 4]);
    for (added, told) in [
        (vec![("<x>", 9)], "added token \"<x>\" has id 9 in the file, but 4 in use"),
        (vec![("<x>", 4), ("<y>", 6)], "added token \"<y>\" has id 6 in the file, but 5 in use"),
        (vec![("a", 3)], "added token \"a\" has id 3 in the file, but 2 in use"),
        (vec![("<x>", 4), ("<x>", 5)], "added token \"<x>\" has id 5 in the file, but 4 in use"),
        (vec![("<x>", 3)], "added token \"<x>\" has id 3 in the file, but 4 in use"),
    ] {
        let error = words(&added, &none).err().expect("refused");
        assert!(error.is::<UserError>() && error.to_string().contains(told), "{error}");
    }
    let begin = |id: u64| {
        let token = json!({"SpecialToken": {"id": "<s>", "type_id": 0}});
        let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
        json!({
            "type": "TemplateProcessing", "single": [token, text("A")],
            "pair": [token, text("A"), text("B")],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [id], "tokens": ["<s>"]}},
        })
    };
    let read = words(&[("<s>", 1)], &begin(1)).expect("reads");
    assert_eq!(read.encode("b", true).expect("text"), [1, 3]);
    let several = json!({"type": "Sequence", "processors": [begin(2)]});
    for wrong in [begin(2), several] {
        let error = words(&[("<s>", 1)], &wrong).err().expect("refused").to_string();
        assert!(error.contains("puts token \"<s>\" as id 2, but it has id 1"), "{error}");
    }
}

/// A token beyond the embedding's rows has no embedding, however few tokens there are.
#[test]
fn tokens_that_the_model_does_not_have_are_refused() {
    let dir = tempfile::tempdir().expect("temp dir");
    hugging_face(dir.path(), &config(), Dtype::F16, 1);
    let write = |id: u32| {
        let text = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": null, "decoder": null, "post_processor": null,
            "model": {"type": "WordLevel", "vocab": {"a": 0, "b": id}, "unk_token": "a"},
        });
        std::fs::write(dir.path().join("tokenizer.json"), text.to_string()).expect("written");
    };
    let opened = Pretrained::open(dir.path()).expect("opens");
    write(39);
    assert_eq!(opened.vocabulary().expect("fits").len(), 2);
    write(40);
    let error = opened.vocabulary().err().expect("refused").to_string();
    assert!(error.contains("token \"b\" has id 40, but the model has 40"), "{error}");
}
