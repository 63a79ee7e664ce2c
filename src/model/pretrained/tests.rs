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
        Vocabulary::of_pieces(Path::new("model.gguf"), &pieces)?;
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
    let linear = json!({"rope_scaling": {"type": "linear", "factor": 2.0}});
    let config = described(linear).expect("reads");
    assert_eq!(config.rope_scaling, RopeScaling::Linear { factor: 2.0 });
    let refused = [
        (json!({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}), "rope_type `yarn`"),
        (json!({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}), "`low_freq_factor`"),
        (json!({"model_type": "mistral"}), "model_type: `mistral`"),
        (json!({"attention_bias": true}), "attention_bias: true"),
        (json!({"mlp_bias": true}), "mlp_bias: true"),
        (json!({"hidden_act": "gelu"}), "hidden_act: `gelu`"),
        (json!({"num_attention_heads": 0}), "heads is 0"),
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

fn vocabulary(pieces: &Pieces) -> Vocabulary {
    Vocabulary::of_pieces(Path::new("model.gguf"), pieces).expect("builds")
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
    assert!(Vocabulary::of_pieces(Path::new("model.gguf"), &broken).is_err());
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
