//! Checkpoints: the whole state of a training in one file.
//!
//! The file is the BLAKE3 of what follows, and a safetensors file. A training that goes on from
//! damaged numbers would end in a model that nobody can tell from a good one, so that every byte is
//! checked, the snapshots' too. The checkpoint before the newest is kept: a damaged one costs the
//! steps since then.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::adamw::Moments;
use super::batches::Position;
use super::transformer::Parameter;
use super::weights::file_name;
use crate::durable;
use crate::error::UserError;

pub struct Checkpoint;

/// The newest checkpoint, and the one before.
const FILE: &str = "checkpoint.bin";
const PREVIOUS: &str = "checkpoint-previous.bin";
/// What is not a tensor, in the metadata.
const KEY: &str = "state";

/// A snapshot of the weights in the scratch folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Training tokens that the weights have seen.
    pub tokens: u64,
    /// BLAKE3 of the file.
    hash: String,
}

impl Snapshot {
    /// The snapshot that lies in `dir`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of(dir: &Path, tokens: u64) -> Result<Self> {
        let path = dir.join(file_name(Some(tokens)));
        let cannot = |error| UserError::io(&path, "cannot be read", error);
        let mut file = std::fs::File::open(&path).map_err(cannot)?;
        let mut hasher = blake3::Hasher::new();
        std::io::copy(&mut file, &mut hasher).map_err(cannot)?;
        Ok(Self { tokens, hash: hasher.finalize().to_hex().to_string() })
    }
}

/// Everything that a checkpoint holds.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub parameters: Vec<Parameter>,
    pub moments: Moments,
    pub step: u64,
    pub tokens: u64,
    pub position: Position,
    /// Sum of losses and steps since the last line of the log.
    pub loss: (f64, u64),
    /// Running mean of the losses, for telling a jump; not a number before the first step.
    pub usual_loss: f64,
    /// Gradient norm of the last step.
    pub norm: f64,
    pub log: String,
    /// Snapshots taken, which lie in the scratch folder.
    pub snapshots: Vec<Snapshot>,
}

/// What is not a tensor. Losses travel as bits: they must come back exactly.
#[derive(Serialize, Deserialize)]
struct Scalars {
    step: u64,
    tokens: u64,
    position: Position,
    loss: (u64, u64),
    usual_loss: u64,
    norm: u64,
    log: String,
    snapshots: Vec<Snapshot>,
}

/// A state to go on from, and what is wrong with the newer checkpoints.
pub struct Found {
    pub state: Option<State>,
    /// One sentence for each checkpoint that is there and cannot be used.
    pub damaged: Vec<String>,
}

impl Checkpoint {
    /// Makes `state` the newest checkpoint in `dir`. Whenever the machine stops, a whole one is
    /// there.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn save(dir: &Path, state: &State) -> Result<()> {
        let bytes =
            |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let mut buffers = Vec::new();
        for (index, parameter) in state.parameters.iter().enumerate() {
            let (first, second) = (&state.moments.first[index], &state.moments.second[index]);
            for (kind, values) in
                [("value", &parameter.values), ("first", first), ("second", second)]
            {
                buffers.push((format!("{kind}.{}", parameter.name), values.len(), bytes(values)));
            }
        }
        let views = buffers
            .iter()
            .map(|(name, len, data)| Ok((name, TensorView::new(Dtype::F32, vec![*len], data)?)))
            .collect::<Result<Vec<_>>>()?;
        let scalars = Scalars {
            step: state.step,
            tokens: state.tokens,
            position: state.position,
            loss: (state.loss.0.to_bits(), state.loss.1),
            usual_loss: state.usual_loss.to_bits(),
            norm: state.norm.to_bits(),
            log: state.log.clone(),
            snapshots: state.snapshots.clone(),
        };
        let metadata = HashMap::from([(KEY.to_owned(), serde_json::to_string(&scalars)?)]);
        let content = safetensors::serialize(views, Some(metadata))?;
        drop(buffers);
        let newest = dir.join(FILE);
        if newest.exists() {
            durable::rename(&newest, &dir.join(PREVIOUS))?;
        }
        let hash = blake3::hash(&content);
        durable::write_with(&newest, |file| {
            let written = file.write_all(hash.as_bytes()).and_then(|()| file.write_all(&content));
            Ok(written.map_err(|error| UserError::io(&newest, "cannot be written", error))?)
        })
    }

    /// The state of the newest checkpoint in `dir` that is whole, with whole snapshots. `like` tells
    /// names and sizes.
    pub fn load(dir: &Path, like: &[Parameter]) -> Found {
        let mut found = Found { state: None, damaged: Vec::new() };
        for name in [FILE, PREVIOUS] {
            let path = dir.join(name);
            if !path.exists() {
                continue;
            }
            match read(&path, like).and_then(|state| whole(dir, state)) {
                Ok(state) => {
                    found.state = Some(state);
                    break;
                }
                Err(error) => found.damaged.push(format!("{}: {error:#}", path.display())),
            }
        }
        found
    }
}

fn read(path: &Path, like: &[Parameter]) -> Result<State> {
    let bytes = std::fs::read(path).context("cannot be read")?;
    let (hash, content) = bytes.split_first_chunk::<32>().context("is cut off")?;
    ensure!(blake3::hash(content) == *hash, "is damaged: its BLAKE3 is not the one that it tells");
    let (_, metadata) = SafeTensors::read_metadata(content)?;
    let text = metadata.metadata().as_ref().and_then(|all| all.get(KEY));
    let scalars: Scalars = serde_json::from_str(text.context("has no state")?)?;
    let file = SafeTensors::deserialize(content)?;
    let tensor = |kind: &str, parameter: &Parameter| -> Result<Vec<f32>> {
        let name = format!("{kind}.{}", parameter.name);
        let of_another = || format!("is of another model: tensor {name}");
        let tensor = file.tensor(&name).with_context(of_another)?;
        let values = tensor.data().chunks_exact(4);
        let values: Vec<f32> =
            values.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        ensure!(values.len() == parameter.values.len(), of_another());
        Ok(values)
    };
    let mut state = State {
        parameters: like.to_vec(),
        moments: Moments { first: Vec::new(), second: Vec::new() },
        step: scalars.step,
        tokens: scalars.tokens,
        position: scalars.position,
        loss: (f64::from_bits(scalars.loss.0), scalars.loss.1),
        usual_loss: f64::from_bits(scalars.usual_loss),
        norm: f64::from_bits(scalars.norm),
        log: scalars.log,
        snapshots: scalars.snapshots,
    };
    for parameter in &mut state.parameters {
        parameter.values = tensor("value", parameter)?;
        state.moments.first.push(tensor("first", parameter)?);
        state.moments.second.push(tensor("second", parameter)?);
    }
    Ok(state)
}

/// The state, if its snapshots in `dir` are what they were.
fn whole(dir: &Path, state: State) -> Result<State> {
    for snapshot in &state.snapshots {
        let found = Snapshot::of(dir, snapshot.tokens)?;
        let name = file_name(Some(snapshot.tokens));
        ensure!(found == *snapshot, "its snapshot {name} is damaged: another BLAKE3");
    }
    Ok(state)
}
