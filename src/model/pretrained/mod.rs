//! Pretrained weights of the Llama family: folders of Hugging Face, GGUF files, and our own folders.
//!
//! A file is opened first, which reads and checks its description; weights are converted to f32 in
//! our layout one tensor at a time when they are asked for.

mod gguf;
mod hugging_face;
mod layout;
mod llama;
mod quantised;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Result;

use self::gguf::Gguf;
pub use self::hugging_face::AdapterTensors;
use self::hugging_face::Shards;
use self::layout::Layout;
pub use self::layout::hugging_face_module;
pub use self::vocabulary::Vocabulary;
use super::config::CONFIG_FILE;
use super::{ModelConfig, Weights};
use crate::error::UserError;

/// Largest text file that is read: 256 MiB.
const MAX_TEXT: u64 = 256 << 20;
/// The tokenizer beside the weights.
const TOKENIZER_FILE: &str = "tokenizer.json";
/// Weights that `tracegym weights smollm2` fetches: SmolLM2-135M-Instruct.
pub const SMOLLM2_FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// The folder for fetched weights: `$TRACEGYM_WEIGHTS`, else `~/.cache/tracegym/weights`.
pub fn folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = || Some(PathBuf::from(set("HOME")?).join(".cache/tracegym/weights"));
    set("TRACEGYM_WEIGHTS").map(PathBuf::from).or_else(home)
}

/// Facts about weights on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    pub path: PathBuf,
    /// Kind of file.
    pub format: String,
    /// Size of the weights on disk.
    pub bytes: u64,
    /// Number of tensors in each number format.
    pub formats: BTreeMap<&'static str, usize>,
    pub config: ModelConfig,
}

/// Weights whose description has been read.
pub struct Pretrained {
    path: PathBuf,
    config: ModelConfig,
    source: Source,
}

enum Source {
    Gguf(Box<Gguf<BufReader<File>>>),
    HuggingFace { shards: Shards, begin: Option<u32>, ends: Vec<u32> },
    Own(Shards),
}

impl Pretrained {
    /// Opens a GGUF file, a folder of Hugging Face, or one of our own, and checks that it has every
    /// tensor in the right shape. The weights themselves are not read.
    ///
    /// # Errors
    /// Names the file, the key or tensor, and what is supported.
    pub fn open(path: &Path) -> Result<Self> {
        let cannot = |error| UserError::io(path, "cannot be read", error);
        let (config, source) = if std::fs::metadata(path).map_err(cannot)?.is_dir() {
            Self::open_folder(path)?
        } else {
            Self::open_gguf(path)?
        };
        Ok(Self { path: path.to_owned(), config, source })
    }

    fn open_gguf(path: &Path) -> Result<(ModelConfig, Source)> {
        let cannot = |error| UserError::io(path, "cannot be read", error);
        let file = File::open(path).map_err(cannot)?;
        let size = file.metadata().map_err(cannot)?.len();
        let mut file = Gguf::read(path, BufReader::new(file), size)?;
        let config = llama::config(&mut file)?;
        layout::check(&file, Layout::Gguf, &config, |name| name == llama::ROPE_FREQUENCIES)?;
        Ok((config, Source::Gguf(Box::new(file))))
    }

    fn open_folder(dir: &Path) -> Result<(ModelConfig, Source)> {
        let path = dir.join(CONFIG_FILE);
        let text = read_text(&path)?;
        let json: serde_json::Value = serde_json::from_str(&text)
            .map_err(|error| UserError::input(&path, "json", error.to_string()))?;
        if json.get("d_model").is_some() {
            let (config, shards) = (ModelConfig::load(dir)?, Shards::open(dir)?);
            layout::check(&shards, Layout::Own, &config, |_| false)?;
            return Ok((config, Source::Own(shards)));
        }
        if json.get("model_type").is_none() {
            let message = "neither `model_type` (Hugging Face) nor `d_model` (TraceGym) is there";
            return Err(UserError::input(&path, "model", message).into());
        }
        let described = hugging_face::describe(&path, &text)?;
        let shards = Shards::open(dir)?;
        let tied = !described.config.untied_head;
        // Old converters wrote the table of frequencies and a copy of a tied head.
        let ignored = |name: &str| {
            name.ends_with("rotary_emb.inv_freq") || (tied && name == "lm_head.weight")
        };
        layout::check(&shards, Layout::HuggingFace, &described.config, ignored)?;
        let hugging_face::Described { config, begin, ends } = described;
        Ok((config, Source::HuggingFace { shards, begin, ends }))
    }

    /// The model's shape. Its context may be shortened before a model is built.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Reads all weights as f32: 4 bytes per parameter.
    ///
    /// # Errors
    /// Files that cannot be read; values that are infinite or not a number.
    pub fn weights(&mut self) -> Result<Weights> {
        match &mut self.source {
            Source::Gguf(file) => layout::weights(&mut **file, Layout::Gguf, &self.config),
            Source::HuggingFace { shards, .. } => {
                layout::weights(shards, Layout::HuggingFace, &self.config)
            }
            Source::Own(shards) => layout::weights(shards, Layout::Own, &self.config),
        }
    }

    /// The tokenizer: that of a GGUF file's metadata, or `tokenizer.json` in the folder.
    ///
    /// # Errors
    /// None, a damaged one, or one with more tokens than the model.
    pub fn vocabulary(&self) -> Result<Vocabulary> {
        let beside = self.path.join(TOKENIZER_FILE);
        let (place, vocabulary) = match &self.source {
            Source::Gguf(file) => {
                let Some(pieces) = llama::pieces(file)? else {
                    let message = "has no tokenizer (metadata tokenizer.ggml.model)";
                    return Err(UserError::input(&self.path, "vocabulary", message).into());
                };
                (&self.path, Vocabulary::of_pieces(&self.path, &pieces)?)
            }
            Source::HuggingFace { begin, ends, .. } => {
                (&beside, Vocabulary::load(&beside, *begin, ends.clone())?)
            }
            Source::Own(_) => (&beside, Vocabulary::load(&beside, None, Vec::new())?),
        };
        let (tokens, rows) = (vocabulary.len(), self.config.vocabulary);
        if tokens > rows {
            let message = format!("{tokens} tokens, but the model has {rows}");
            return Err(UserError::input(place, "vocabulary", message).into());
        }
        Ok(vocabulary)
    }

    /// What there is to know without reading the weights.
    pub fn card(&self) -> Result<Card> {
        let (format, bytes, formats) = match &self.source {
            Source::Gguf(file) => {
                let mut counts = BTreeMap::new();
                for tensor in file.tensors.values() {
                    *counts.entry(tensor.format.name()).or_insert(0usize) += 1;
                }
                (format!("GGUF version {}", file.version), size(&self.path)?, counts)
            }
            Source::HuggingFace { shards, .. } => {
                ("Hugging Face safetensors".to_owned(), shards.bytes(), shards.formats())
            }
            Source::Own(shards) => ("TraceGym".to_owned(), shards.bytes(), shards.formats()),
        };
        Ok(Card { path: self.path.clone(), format, bytes, formats, config: self.config.clone() })
    }
}

fn size(path: &Path) -> Result<u64> {
    let metadata = std::fs::metadata(path);
    Ok(metadata.map_err(|error| UserError::io(path, "cannot be read", error))?.len())
}

/// A text file of bounded size.
pub fn read_text(path: &Path) -> Result<String> {
    let cannot = |error| UserError::io(path, "cannot be read", error);
    let file = File::open(path).map_err(cannot)?;
    let mut text = String::new();
    let read = file.take(MAX_TEXT + 1).read_to_string(&mut text).map_err(cannot)?;
    if read as u64 > MAX_TEXT {
        let message = format!("more than the {MAX_TEXT} bytes that are read");
        return Err(UserError::input(path, "size", message).into());
    }
    Ok(text)
}
