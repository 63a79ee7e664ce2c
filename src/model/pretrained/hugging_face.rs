//! Folders as Hugging Face keeps them: `config.json`, safetensors (whole or in shards) and
//! `tokenizer.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Result;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;

use super::layout::{self, Tensors};
use super::quantised::Format;
use super::read_text;
use crate::error::UserError;
use crate::model::{ModelConfig, RopeScaling};

/// Largest header of a safetensors file, as in the format's description.
const MAX_HEADER: u64 = 100_000_000;
/// Most shards of a model.
const MAX_SHARDS: usize = 1000;
pub const WEIGHTS_FILE: &str = "model.safetensors";
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// What is read of `config.json`.
#[derive(Deserialize)]
struct Config {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    #[serde(default = "default_epsilon")]
    rms_norm_eps: f32,
    hidden_act: Option<String>,
    rope_theta: Option<f32>,
    rope_scaling: Option<Rope>,
    rope_parameters: Option<Rope>,
    partial_rotary_factor: Option<f32>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    bos_token_id: Option<Ids>,
    eos_token_id: Option<Ids>,
}

fn default_epsilon() -> f32 {
    1e-6
}

/// `rope_scaling`, or `rope_parameters` in newer files.
#[derive(Deserialize)]
struct Rope {
    rope_type: Option<String>,
    /// The older name; some versions wrote both.
    #[serde(rename = "type")]
    kind: Option<String>,
    rope_theta: Option<f32>,
    factor: Option<f32>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    original_max_position_embeddings: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Several(Vec<u32>),
}

impl Ids {
    fn list(ids: Option<Self>) -> Vec<u32> {
        match ids {
            None => Vec::new(),
            Some(Self::One(id)) => vec![id],
            Some(Self::Several(ids)) => ids,
        }
    }
}

/// The model of a `config.json` with its tokens for beginning and end.
pub struct Described {
    pub config: ModelConfig,
    pub begin: Option<u32>,
    pub ends: Vec<u32>,
}

/// Reads the text of a `config.json` at `path`.
///
/// # Errors
/// Names the key, its value and what is supported.
pub fn describe(path: &Path, text: &str) -> Result<Described> {
    let config: Config = serde_json::from_str(text)
        .map_err(|error| UserError::input(path, "model", error.to_string()))?;
    let refuse = |key: &str, message: String| -> Result<Described> {
        Err(UserError::input(path, key, message).into())
    };
    if config.model_type != "llama" {
        let kind = &config.model_type;
        return refuse("model_type", format!("`{kind}` is not supported: only `llama` is"));
    }
    for (key, value) in [("attention_bias", config.attention_bias), ("mlp_bias", config.mlp_bias)] {
        if value {
            return refuse(key, "true is not supported: matrices have no biases here".to_owned());
        }
    }
    if let Some(other) = config.hidden_act.as_ref().filter(|act| *act != "silu") {
        return refuse("hidden_act", format!("`{other}` is not supported: only `silu` is"));
    }
    if let Some(other) = config.partial_rotary_factor.filter(|factor| *factor != 1.0) {
        return refuse("partial_rotary_factor", format!("{other} is not supported: only 1 is"));
    }
    let rope = config.rope_parameters.as_ref().or(config.rope_scaling.as_ref());
    let rope_scaling = match rope {
        Some(rope) => scaling(rope).map_err(|message| UserError::input(path, "rope", message))?,
        None => RopeScaling::None,
    };
    let rope_base = rope.and_then(|rope| rope.rope_theta).or(config.rope_theta);
    let (d_model, heads) = (config.hidden_size, config.num_attention_heads);
    let model = ModelConfig {
        vocabulary: config.vocab_size,
        d_model,
        layers: config.num_hidden_layers,
        heads,
        kv_heads: config.num_key_value_heads.unwrap_or(heads),
        d_ff: config.intermediate_size,
        context: config.max_position_embeddings,
        rope_base: rope_base.unwrap_or(10_000.0),
        norm_eps: config.rms_norm_eps,
        head_dim: config.head_dim.filter(|hd| hd.checked_mul(heads) != Some(d_model)),
        untied_head: !config.tie_word_embeddings,
        rope_scaling,
    };
    model.check().map_err(|error| UserError::input(path, "model", error.to_string()))?;
    let begin = Ids::list(config.bos_token_id).first().copied();
    Ok(Described { config: model, begin, ends: Ids::list(config.eos_token_id) })
}

fn scaling(rope: &Rope) -> Result<RopeScaling, String> {
    let missing = |key: &str| format!("`{key}` is missing");
    let factor = || rope.factor.ok_or_else(|| missing("factor"));
    match rope.rope_type.as_deref().or(rope.kind.as_deref()) {
        None | Some("default") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear { factor: factor()? }),
        Some("llama3") => Ok(RopeScaling::Llama3 {
            factor: factor()?,
            low_freq_factor: rope.low_freq_factor.ok_or_else(|| missing("low_freq_factor"))?,
            high_freq_factor: rope.high_freq_factor.ok_or_else(|| missing("high_freq_factor"))?,
            original_context: rope
                .original_max_position_embeddings
                .ok_or_else(|| missing("original_max_position_embeddings"))?,
        }),
        Some(other) => Err(format!(
            "rope_type `{other}` is not supported: `default`, `linear` and `llama3` are"
        )),
    }
}

/// The safetensors of a folder, opened; values are read when asked for.
pub struct Shards {
    shards: Vec<Shard>,
    /// Shard of each tensor.
    tensors: BTreeMap<String, usize>,
}

struct Shard {
    path: PathBuf,
    file: File,
    /// Where the tensors' data begins.
    start: u64,
    bytes: u64,
    metadata: Metadata,
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Shards {
    /// Opens `model.safetensors` in `dir`, or the shards of its index.
    ///
    /// # Errors
    /// Missing or damaged files; tensors that are in another shard than the index says.
    pub fn open(dir: &Path) -> Result<Self> {
        let index = dir.join(INDEX_FILE);
        let whole = dir.join(WEIGHTS_FILE);
        if whole.exists() || !index.exists() {
            return Self::of_files(vec![whole]);
        }
        let text = read_text(&index)?;
        let Index { weight_map } = serde_json::from_str(&text)
            .map_err(|error| UserError::input(&index, "weight_map", error.to_string()))?;
        let names: BTreeSet<&String> = weight_map.values().collect();
        let wrong = |message: String| UserError::input(&index, "weight_map", message);
        if names.len() > MAX_SHARDS {
            return Err(wrong(format!("{} files are more than {MAX_SHARDS}", names.len())).into());
        }
        // A name from a file must not lead out of the folder.
        let outside = |name: &&&String| Path::new(name).file_name() != Some(name.as_ref());
        if let Some(name) = names.iter().find(outside) {
            return Err(wrong(format!("`{name}` is not the name of a file here")).into());
        }
        let shards = Self::of_files(names.iter().map(|name| dir.join(name)).collect())?;
        let misplaced = weight_map.iter().find(|(tensor, file)| {
            let found = shards.tensors.get(*tensor).map(|shard| &shards.shards[*shard].path);
            found.is_none_or(|path| *path != dir.join(file))
        });
        match misplaced {
            Some((tensor, file)) => Err(wrong(format!("{tensor} is not in {file}")).into()),
            None => Ok(shards),
        }
    }

    fn of_files(paths: Vec<PathBuf>) -> Result<Self> {
        let mut all = Self { shards: Vec::new(), tensors: BTreeMap::new() };
        for path in paths {
            let shard = Shard::open(&path)?;
            for (name, info) in shard.metadata.tensors() {
                let place = format!("tensor {name}");
                format(info.dtype).map_err(|message| UserError::input(&path, &*place, message))?;
                if all.tensors.insert(name, all.shards.len()).is_some() {
                    let message = "is in two shards";
                    return Err(UserError::input(&path, place, message).into());
                }
            }
            all.shards.push(shard);
        }
        Ok(all)
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }

    /// Number of tensors in each format.
    pub fn formats(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for info in self.shards.iter().flat_map(|shard| shard.metadata.tensors().into_values()) {
            if let Ok(format) = format(info.dtype) {
                *counts.entry(format.name()).or_default() += 1;
            }
        }
        counts
    }

    fn shard(&self, name: &str) -> Option<&Shard> {
        self.tensors.get(name).map(|shard| &self.shards[*shard])
    }
}

fn format(dtype: Dtype) -> Result<Format, String> {
    match dtype {
        Dtype::F32 => Ok(Format::F32),
        Dtype::F16 => Ok(Format::F16),
        Dtype::BF16 => Ok(Format::Bf16),
        other => Err(format!("has type {other:?}, which is not supported: F32, F16 and BF16 are")),
    }
}

impl Shard {
    fn open(path: &Path) -> Result<Self> {
        let cannot = |error| UserError::io(path, "cannot be read", error);
        let mut file = File::open(path).map_err(cannot)?;
        let bytes = file.metadata().map_err(cannot)?.len();
        let wrong = |message: String| UserError::input(path, "header", message);
        let mut length = [0; 8];
        if bytes < 8 {
            return Err(wrong("this is not a safetensors file".to_owned()).into());
        }
        file.read_exact(&mut length).map_err(cannot)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER.min(bytes - 8) {
            let message =
                format!("claims {length} bytes in a file of {bytes}: no safetensors file");
            return Err(wrong(message).into());
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(cannot)?;
        // Reading the header checks that tensors follow each other without gaps or overlaps, and
        // that sizes are those of shapes.
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| wrong(error.to_string()))?;
        let start = 8 + length;
        if start.checked_add(metadata.data_len() as u64) != Some(bytes) {
            let message = format!(
                "tells of {} bytes of tensors, but {} follow: the file is incomplete",
                metadata.data_len(),
                bytes - start
            );
            return Err(wrong(message).into());
        }
        Ok(Self { path: path.to_owned(), file, start, bytes, metadata })
    }
}

impl Tensors for Shards {
    fn path(&self, name: &str) -> &Path {
        let shard = self.shard(name).or(self.shards.first());
        shard.map_or(Path::new(WEIGHTS_FILE), |shard| &shard.path)
    }

    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let all = self.shards.iter().flat_map(|shard| shard.metadata.tensors());
        all.map(|(name, info)| (name, info.shape.clone())).collect()
    }

    fn read(&mut self, name: &str) -> Result<Vec<f32>> {
        let found = self.shard(name).and_then(|shard| Some((shard, shard.metadata.info(name)?)));
        let Some((shard, info)) = found else {
            let message = "is missing";
            return Err(UserError::input(self.path(name), format!("tensor {name}"), message).into());
        };
        let wrong =
            |message: String| UserError::input(&shard.path, format!("tensor {name}"), message);
        let cannot = |error| UserError::io(&shard.path, "cannot be read", error);
        let (first, last) = info.data_offsets;
        let mut bytes = vec![0; last - first];
        let mut file = &shard.file;
        file.seek(SeekFrom::Start(shard.start + first as u64)).map_err(cannot)?;
        file.read_exact(&mut bytes).map_err(cannot)?;
        Ok(format(info.dtype).map_err(wrong)?.decode(&bytes))
    }
}

/// The tensors of an adapter's file, each to be taken once.
pub struct AdapterTensors {
    shards: Shards,
    left: BTreeMap<String, Vec<usize>>,
}

impl AdapterTensors {
    /// # Errors
    /// A missing or damaged file.
    pub fn open(path: &Path) -> Result<Self> {
        let shards = Shards::of_files(vec![path.to_owned()])?;
        let left = shards.shapes();
        Ok(Self { shards, left })
    }

    /// The values of a tensor of this shape, row-major.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape, values that are infinite or not a number.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let found = self.left.remove(name);
        let wrong = |message: String| {
            UserError::input(self.shards.path(name), format!("tensor {name}"), message)
        };
        match found {
            None => return Err(wrong("is missing".to_owned()).into()),
            Some(found) if found != shape => {
                return Err(wrong(format!("has shape {found:?}, expected {shape:?}")).into());
            }
            Some(_) => {}
        }
        layout::read(&mut self.shards, name)
    }

    /// # Errors
    /// A tensor that nobody has taken.
    pub fn finish(self) -> Result<()> {
        let Some(name) = self.left.keys().next() else { return Ok(()) };
        let message = "belongs to none of the adapters";
        Err(UserError::input(self.shards.path(name), format!("tensor {name}"), message).into())
    }
}
