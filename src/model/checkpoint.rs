//! Checkpoints: the whole state of a training in one safetensors file.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::adamw::Moments;
use super::batches::Position;
use super::train::State;
use super::transformer::Parameter;
use super::weights::write_atomically;

pub struct Checkpoint;

const FILE: &str = "checkpoint.safetensors";
const KEY: &str = "state";

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
    snapshots: Vec<u64>,
}

impl Checkpoint {
    /// Replaces the checkpoint in `dir`, atomically.
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
        write_atomically(&dir.join(FILE), &safetensors::serialize(views, Some(metadata))?)
    }

    /// The state in `dir`, if there is a checkpoint. `like` tells names and sizes.
    ///
    /// # Errors
    /// A checkpoint that is damaged or of another model.
    pub fn load(dir: &Path, like: &[Parameter]) -> Result<Option<State>> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let place = || format!("{}: remove it to start afresh", path.display());
        let bytes = std::fs::read(&path).with_context(place)?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).with_context(place)?;
        let text = metadata.metadata().as_ref().and_then(|m| m.get(KEY)).with_context(place)?;
        let scalars: Scalars = serde_json::from_str(text).with_context(place)?;
        let file = SafeTensors::deserialize(&bytes).with_context(place)?;
        let read = |kind: &str, parameter: &Parameter| -> Result<Vec<f32>> {
            let tensor = file.tensor(&format!("{kind}.{}", parameter.name)).with_context(place)?;
            let values: Vec<f32> = tensor
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            anyhow::ensure!(values.len() == parameter.values.len(), place());
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
            parameter.values = read("value", parameter)?;
            state.moments.first.push(read("first", parameter)?);
            state.moments.second.push(read("second", parameter)?);
        }
        Ok(Some(state))
    }
}
