//! Folders as Hugging Face keeps them: `config.json`, safetensors (whole or in shards) and
//! `tokenizer.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Result;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::layout::{self, Tensors};
use super::quantised::Format;
use super::read_text;
use crate::error::UserError;
use crate::model::{ModelConfig, RopeScaling};

/// Largest header of a safetensors file, as in the format's description.
const MAX_HEADER: u64 = 100_000_000;
/// Most shards of a model.
const MAX_SHARDS: usize = 1000;
/// What a `config.json` means that does not say, as in transformers.
const DEFAULT_EPSILON: f32 = 1e-6;
const DEFAULT_BASE: f32 = 10_000.0;
pub const WEIGHTS_FILE: &str = "model.safetensors";
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// How to generate with the model, beside `config.json`.
const GENERATION_FILE: &str = "generation_config.json";
/// Values that are compared at a time.
const PART: usize = 1 << 18;

/// Keys of an object of `config.json`. A key that is null counts as one that is missing.
struct Keys<'a> {
    path: &'a Path,
    /// The object's own key with a full stop, for messages; nothing for the whole file.
    within: String,
    object: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    fn wrong(&self, key: &str, message: impl Into<String>) -> UserError {
        UserError::input(self.path, format!("{}{key}", self.within), message)
    }

    fn value(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn get<T: Deserialize<'a>>(&self, key: &str) -> Result<Option<T>, UserError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match T::deserialize(value) {
            Ok(read) => Ok(Some(read)),
            Err(error) => Err(self.wrong(key, error.to_string())),
        }
    }

    fn needed<T: Deserialize<'a>>(&self, key: &str) -> Result<T, UserError> {
        self.get(key)?.ok_or_else(|| self.wrong(key, "is missing"))
    }

    fn flag(&self, key: &str) -> Result<bool, UserError> {
        Ok(self.get(key)?.unwrap_or(false))
    }

    /// A size, which cannot be 0.
    fn size(&self, key: &str) -> Result<Option<usize>, UserError> {
        match self.get(key)? {
            Some(0) => Err(self.wrong(key, "is 0: a model needs one at least")),
            size => Ok(size),
        }
    }

    fn needed_size(&self, key: &str) -> Result<usize, UserError> {
        self.size(key)?.ok_or_else(|| self.wrong(key, "is missing"))
    }

    fn object(&self, key: &str) -> Result<Option<Keys<'a>>, UserError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let within = format!("{}{key}.", self.within);
        match value.as_object() {
            Some(object) => Ok(Some(Keys { path: self.path, within, object })),
            None => Err(self.wrong(key, "is not an object with `rope_type` and its numbers")),
        }
    }

    /// Ids of tokens: one, several or none. Files of the first Llama have −1 for none.
    fn ids(&self, key: &str, vocabulary: usize) -> Result<Vec<u32>, UserError> {
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let values = match value.as_array() {
            Some(values) => values.as_slice(),
            None => std::slice::from_ref(value),
        };
        let known = |id: &u64| usize::try_from(*id).is_ok_and(|id| id < vocabulary);
        let mut ids = Vec::new();
        for value in values.iter().filter(|value| value.as_i64() != Some(-1)) {
            let id = value.as_u64().filter(known).and_then(|id| u32::try_from(id).ok());
            let wrong = || {
                let message = format!("{value} is no token of a vocabulary of {vocabulary}");
                self.wrong(key, message)
            };
            ids.push(id.ok_or_else(wrong)?);
        }
        Ok(ids)
    }
}

/// The model of a `config.json` with its tokens for beginning and end.
pub struct Described {
    pub config: ModelConfig,
    pub begin: Option<u32>,
    pub ends: Vec<u32>,
    /// What stands in the file and is not used.
    pub notes: Vec<String>,
}

/// Reads the text of a `config.json` at `path`.
///
/// # Errors
/// Names the key, its value and what is supported.
pub fn describe(path: &Path, text: &str) -> Result<Described> {
    let object = read_object(path, text)?;
    let config = Keys { path, within: String::new(), object: &object };
    let kind: &str = config.needed("model_type")?;
    if kind != "llama" {
        let message = format!("`{kind}` is not supported: only `llama` is");
        return Err(config.wrong("model_type", message).into());
    }
    // `bias` is the name that some of the first files have for biases of attention.
    for key in ["attention_bias", "mlp_bias", "bias"] {
        if config.flag(key)? {
            let message = "true is not supported: matrices have no biases here";
            return Err(config.wrong(key, message).into());
        }
    }
    if let Some(other) = config.get::<&str>("hidden_act")?.filter(|act| *act != "silu") {
        let message = format!("`{other}` is not supported: only `silu` is");
        return Err(config.wrong("hidden_act", message).into());
    }
    let mut notes = Vec::new();
    let (rope_base, rope_scaling) = rope(&config, &mut notes)?;
    let (d_model, heads) =
        (config.needed_size("hidden_size")?, config.needed_size("num_attention_heads")?);
    let kv_heads = config.size("num_key_value_heads")?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        let message = format!("{kv_heads} does not divide num_attention_heads ({heads})");
        return Err(config.wrong("num_key_value_heads", message).into());
    }
    let head_dim = config.size("head_dim")?;
    if head_dim.is_none() && !d_model.is_multiple_of(heads) {
        let message = format!(
            "is missing, and hidden_size ({d_model}) is not a multiple of num_attention_heads ({heads})"
        );
        return Err(config.wrong("head_dim", message).into());
    }
    let width = head_dim.unwrap_or(d_model / heads);
    if width % 2 == 1 {
        let message = format!("{width} is odd, but rotary positions turn pairs of dimensions");
        return Err(config.wrong("head_dim", message).into());
    }
    // The first files name the context so.
    let context = match config.size("max_position_embeddings")? {
        None => config.size("max_sequence_length")?,
        context => context,
    };
    let vocabulary = config.needed_size("vocab_size")?;
    let model = ModelConfig {
        vocabulary,
        d_model,
        layers: config.needed_size("num_hidden_layers")?,
        heads,
        kv_heads,
        d_ff: config.needed_size("intermediate_size")?,
        context: context.ok_or_else(|| config.wrong("max_position_embeddings", "is missing"))?,
        rope_base,
        norm_eps: config.get("rms_norm_eps")?.unwrap_or(DEFAULT_EPSILON),
        head_dim: head_dim.filter(|head_dim| head_dim.checked_mul(heads) != Some(d_model)),
        untied_head: !config.flag("tie_word_embeddings")?,
        rope_scaling,
    };
    model.check().map_err(|error| UserError::input(path, "model", error.to_string()))?;
    let begin = config.ids("bos_token_id", vocabulary)?.first().copied();
    let ends = config.ids("eos_token_id", vocabulary)?;
    Ok(Described { config: model, begin, ends, notes })
}

/// The tokens that end an answer by the `generation_config.json` in `dir`; nothing if there is none,
/// or it names none.
///
/// # Errors
/// A damaged file, ids that are not in the vocabulary.
pub fn generation_ends(dir: &Path, vocabulary: usize) -> Result<Vec<u32>> {
    let path = dir.join(GENERATION_FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let object = read_object(&path, &read_text(&path)?)?;
    let keys = Keys { path: &path, within: String::new(), object: &object };
    Ok(keys.ids("eos_token_id", vocabulary)?)
}

fn read_object(path: &Path, text: &str) -> Result<Map<String, Value>, UserError> {
    serde_json::from_str(text).map_err(|error| UserError::input(path, "json", error.to_string()))
}

/// Base and scaling of the rotary positions. They are in `rope_scaling`, or in `rope_parameters`,
/// which newer files have.
fn rope(config: &Keys, notes: &mut Vec<String>) -> Result<(f32, RopeScaling), UserError> {
    let objects = [config.object("rope_parameters")?, config.object("rope_scaling")?];
    let mut base: Option<f32> = None;
    let mut scaling: Option<RopeScaling> = None;
    for keys in objects.iter().flatten().chain([config]) {
        if let Some(other) = keys.get::<f32>("partial_rotary_factor")?.filter(|part| *part != 1.0) {
            let message = format!("{other} is not supported: only 1 is");
            return Err(keys.wrong("partial_rotary_factor", message));
        }
        let found: Option<f32> = keys.get("rope_theta")?;
        if let Some((found, base)) = found.zip(base).filter(|(found, base)| found != base) {
            let message = format!("{found} here, but {base} in rope_parameters or rope_scaling");
            return Err(keys.wrong("rope_theta", message));
        }
        base = base.or(found);
    }
    for keys in objects.iter().flatten().filter(|keys| !keys.object.is_empty()) {
        let found = one_scaling(keys, notes)?;
        if scaling.as_ref().is_some_and(|scaling| *scaling != found) {
            let message = "is not what rope_parameters tells: keep one of them";
            return Err(config.wrong("rope_scaling", message));
        }
        scaling = Some(found);
    }
    Ok((base.unwrap_or(DEFAULT_BASE), scaling.unwrap_or_default()))
}

fn one_scaling(rope: &Keys, notes: &mut Vec<String>) -> Result<RopeScaling, UserError> {
    // Some versions wrote both names.
    let (kind, older): (Option<&str>, Option<&str>) = (rope.get("rope_type")?, rope.get("type")?);
    if let Some((kind, older)) = kind.zip(older).filter(|(kind, older)| kind != older) {
        let message = format!("`{kind}`, but `type` is `{older}`: keep one of them");
        return Err(rope.wrong("rope_type", message));
    }
    let kind = kind.or(older);
    let (scaling, numbers): (_, &[&str]) = match kind {
        None | Some("default") => (RopeScaling::None, &[]),
        Some("linear") => (RopeScaling::Linear { factor: rope.needed("factor")? }, &["factor"]),
        Some("llama3") => (
            RopeScaling::Llama3 {
                factor: rope.needed("factor")?,
                low_freq_factor: rope.needed("low_freq_factor")?,
                high_freq_factor: rope.needed("high_freq_factor")?,
                original_context: rope.needed("original_max_position_embeddings")?,
            },
            &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
        ),
        Some(other) => {
            let message =
                format!("`{other}` is not supported: `default`, `linear` and `llama3` are");
            return Err(rope.wrong("rope_type", message));
        }
    };
    let common = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];
    let unused = |key: &&String| {
        let used = common.contains(&key.as_str()) || numbers.contains(&key.as_str());
        !used && rope.value(key).is_some()
    };
    for key in rope.object.keys().filter(unused) {
        let Some(kind) = kind else {
            let message = format!(
                "is missing, and without it `{key}` would not be used: name the kind (`linear`, \
                 `llama3`), or `default` for none"
            );
            return Err(rope.wrong("rope_type", message));
        };
        notes.push(format!("{}{key} is not used: the kind is `{kind}`", rope.within));
    }
    Ok(scaling)
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
            misplaced(&whole)?;
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

    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Whether two tensors have the same shape and values. They are read a part at a time.
    ///
    /// # Errors
    /// Files that cannot be read, tensors that are not there.
    pub fn equal(&self, one: &str, other: &str) -> Result<bool> {
        let (first, second) = (self.info(one)?.1, self.info(other)?.1);
        if first.shape != second.shape {
            return Ok(false);
        }
        let values: usize = first.shape.iter().product();
        for start in (0..values).step_by(PART) {
            let part = start..values.min(start + PART);
            if self.part(one, part.clone())? != self.part(other, part)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn info(&self, name: &str) -> Result<(&Shard, &TensorInfo), UserError> {
        let found = self.shard(name).and_then(|shard| Some((shard, shard.metadata.info(name)?)));
        let missing = || UserError::input(self.path(name), format!("tensor {name}"), "is missing");
        found.ok_or_else(missing)
    }

    /// Some of a tensor's values.
    fn part(&self, name: &str, values: Range<usize>) -> Result<Vec<f32>> {
        let (shard, info) = self.info(name)?;
        let wrong =
            |message: String| UserError::input(&shard.path, format!("tensor {name}"), message);
        let cannot = |error| UserError::io(&shard.path, "cannot be read", error);
        let format = format(info.dtype).map_err(wrong)?;
        // All formats of safetensors that are read have blocks of one value.
        let (_, size) = format.block();
        let mut bytes = vec![0; values.len() * size];
        let start = info.data_offsets.0 + values.start * size;
        let mut file = &shard.file;
        file.seek(SeekFrom::Start(shard.start + start as u64)).map_err(cannot)?;
        file.read_exact(&mut bytes).map_err(cannot)?;
        Ok(format.decode(&bytes))
    }
}

/// Tells what lies beside the safetensors that are missing at `path`, if that could be what is meant:
/// weights for PyTorch alone, or shards without their index.
fn misplaced(path: &Path) -> Result<(), UserError> {
    if path.exists() {
        return Ok(());
    }
    let wrong = |message: String| Err(UserError::input(path, "file", message));
    let folder = path.parent().unwrap_or(Path::new("."));
    let pickles = ["adapter_model.bin", "pytorch_model.bin", "pytorch_model.bin.index.json"];
    if let Some(pickle) = pickles.into_iter().find(|name| folder.join(name).exists()) {
        return wrong(format!(
            "is missing, and {pickle} beside it is not read: save the weights as safetensors \
             (`save_pretrained(…, safe_serialization=True)`)"
        ));
    }
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut shards: Vec<String> = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("-of-") && name.ends_with(".safetensors"))
        .collect();
    shards.sort();
    match shards.first() {
        None => Ok(()),
        Some(shard) => wrong(format!("is missing, and {shard} is a shard without {INDEX_FILE}")),
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
        let values = self.info(name)?.1.shape.iter().product();
        self.part(name, 0..values)
    }
}

/// The tensors of an adapter's file, each to be taken once.
pub struct AdapterTensors {
    shards: Shards,
    /// Names without an adapter's own name, with the names in the file and the shapes.
    left: BTreeMap<String, (String, Vec<usize>)>,
}

impl AdapterTensors {
    /// # Errors
    /// A missing or damaged file; one without tensors, or with several adapters.
    pub fn open(path: &Path) -> Result<Self> {
        misplaced(path)?;
        let shards = Shards::of_files(vec![path.to_owned()])?;
        let shapes = shards.shapes();
        let wrong = |place: String, message: &str| UserError::input(path, place, message);
        if shapes.values().all(|shape| shape.contains(&0)) {
            let message = "holds no tensors, or empty ones: was it saved under DeepSpeed ZeRO-3, \
                           without gathering the weights?";
            return Err(wrong("tensors".to_owned(), message).into());
        }
        let mut left = BTreeMap::new();
        for (name, shape) in shapes {
            let place = format!("tensor {name}");
            if left.insert(without_adapter_name(&name), (name, shape)).is_some() {
                let message = "is there twice, for two adapters: save one of them alone";
                return Err(wrong(place, message).into());
            }
        }
        Ok(Self { shards, left })
    }

    /// The values of a tensor of this shape, row-major.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape, values that are infinite or not a number.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let found = self.left.remove(name);
        let wrong = |name: &str, message: String| {
            UserError::input(self.shards.path(name), format!("tensor {name}"), message)
        };
        match found {
            None => Err(wrong(name, "is missing".to_owned()).into()),
            Some((name, found)) if found != shape => {
                let hint = if found.contains(&0) {
                    ": was it saved under DeepSpeed ZeRO-3, without gathering the weights?"
                } else {
                    ""
                };
                let message = format!("has shape {found:?}, expected {shape:?}{hint}");
                Err(wrong(&name, message).into())
            }
            Some((name, _)) => layout::read(&mut self.shards, &name),
        }
    }

    /// # Errors
    /// A tensor that nobody has taken.
    pub fn finish(self) -> Result<()> {
        let Some((name, _)) = self.left.values().next() else { return Ok(()) };
        let message = "belongs to none of the adapters";
        Err(UserError::input(self.shards.path(name), format!("tensor {name}"), message).into())
    }
}

/// A tensor's name as PEFT writes it to files. In memory, and so in files that were written past it,
/// the adapter's own name stands behind `lora_A` and `lora_B`.
fn without_adapter_name(name: &str) -> String {
    for matrix in [".lora_A.", ".lora_B."] {
        if let Some((module, rest)) = name.split_once(matrix)
            && let Some((_, "weight")) = rest.split_once('.')
        {
            return format!("{module}{matrix}weight");
        }
    }
    name.to_owned()
}
