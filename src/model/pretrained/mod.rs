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
use self::hugging_face::{Described, Shards};
pub use self::layout::hugging_face_module;
use self::layout::{Layout, Tensors};
pub use self::vocabulary::PretrainedTokenizer;
use super::config::{CONFIG_FILE, UNEMBEDDING};
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
    /// Tokens that end an answer; nothing where the description has no place for them.
    pub ends: Option<Vec<u32>>,
    /// What stands in the description and is not used.
    pub notes: Vec<String>,
}

/// Weights whose description has been read.
pub struct Pretrained {
    path: PathBuf,
    config: ModelConfig,
    source: Source,
}

enum Source {
    Gguf(Box<Gguf<BufReader<File>>>),
    HuggingFace(Shards, Box<Described>),
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
        let mut described = hugging_face::describe(&path, &text)?;
        let config = described.config.clone();
        // As transformers generates.
        let ends = hugging_face::generation_ends(dir, config.vocabulary)?;
        if !ends.is_empty() {
            described.ends = ends;
        }
        let shards = Shards::open(dir)?;
        check_head(&shards, &config)?;
        // Old converters wrote the table of frequencies and a copy of a tied head.
        let head = Layout::HuggingFace.name(UNEMBEDDING);
        let ignored = |name: &str| name.ends_with("rotary_emb.inv_freq") || name == head;
        layout::check(&shards, Layout::HuggingFace, &config, ignored)?;
        Ok((config, Source::HuggingFace(shards, Box::new(described))))
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
            Source::HuggingFace(shards, _) => {
                layout::weights(shards, Layout::HuggingFace, &self.config)
            }
            Source::Own(shards) => layout::weights(shards, Layout::Own, &self.config),
        }
    }

    /// The tokenizer: that of a GGUF file's metadata, or `tokenizer.json` in the folder.
    ///
    /// # Errors
    /// None, a damaged one, or one with a token that the model does not have.
    pub fn vocabulary(&self) -> Result<PretrainedTokenizer> {
        let beside = self.path.join(TOKENIZER_FILE);
        let (place, vocabulary) = match &self.source {
            Source::Gguf(file) => {
                let Some(pieces) = llama::pieces(file)? else {
                    let message = "has no tokenizer (metadata tokenizer.ggml.model)";
                    return Err(UserError::input(&self.path, "vocabulary", message).into());
                };
                (&self.path, PretrainedTokenizer::of_pieces(&self.path, &pieces)?)
            }
            Source::HuggingFace(_, described) => {
                let ends = described.ends.clone();
                (&beside, PretrainedTokenizer::load(&beside, described.begin, ends)?)
            }
            Source::Own(_) => (&beside, PretrainedTokenizer::load(&beside, None, Vec::new())?),
        };
        let rows = self.config.vocabulary;
        match vocabulary.highest().filter(|(_, id)| *id as usize >= rows) {
            Some((token, id)) => {
                let message = format!("token {token:?} has id {id}, but the model has {rows}");
                Err(UserError::input(place, "vocabulary", message).into())
            }
            None => Ok(vocabulary),
        }
    }

    /// What there is to know without reading the weights.
    pub fn card(&self) -> Result<Card> {
        let (mut ends, mut notes) = (None, Vec::new());
        let (format, bytes, formats) = match &self.source {
            Source::Gguf(file) => {
                let mut counts = BTreeMap::new();
                for tensor in file.tensors.values() {
                    *counts.entry(tensor.format.name()).or_insert(0usize) += 1;
                }
                ends = Some(llama::ends(file)?);
                (format!("GGUF version {}", file.version), size(&self.path)?, counts)
            }
            Source::HuggingFace(shards, described) => {
                ends = Some(described.ends.clone());
                notes.clone_from(&described.notes);
                ("Hugging Face safetensors".to_owned(), shards.bytes(), shards.formats())
            }
            Source::Own(shards) => ("TraceGym".to_owned(), shards.bytes(), shards.formats()),
        };
        let (path, config) = (self.path.clone(), self.config.clone());
        Ok(Card { path, format, bytes, formats, config, ends, notes })
    }
}

/// Checks that the file has a matrix of its own for the logits where `config.json` says so. Where it
/// says that they use the embedding, some files have a copy of it; one with other values is refused:
/// versions of transformers differ in which of the two they take.
fn check_head(shards: &Shards, config: &ModelConfig) -> Result<()> {
    let [head, embedding] =
        [UNEMBEDDING, "token_embedding"].map(|ours| Layout::HuggingFace.name(ours));
    let there = shards.contains(&head);
    let message = match config.untied_head {
        true if !there => {
            "is missing, though config.json does not say `tie_word_embeddings`: true: if the logits \
             use the embedding, set it"
        }
        false if there && shards.contains(&embedding) && !shards.equal(&head, &embedding)? => {
            "differs from the embedding, though config.json says `tie_word_embeddings`: true: set it \
             to false to use this tensor, or remove the tensor"
        }
        _ => return Ok(()),
    };
    Err(UserError::input(shards.path(&head), format!("tensor {head}"), message).into())
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
