//! Low-rank adapters (LoRA, Hu et al. 2021): `x · W + alpha / rank · dropout(x) · A · B` with W frozen.
//!
//! Adapters are files in the layout of Hugging Face's PEFT, so either side can use the other's.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kernels::{self, Precision, View, multiply};
use super::pretrained::{AdapterTensors, hugging_face_module};
use super::transformer::{self, Parameter, Place};
use super::{ModelConfig, Weights};
use crate::durable;
use crate::error::UserError;
use crate::random;

/// File that describes adapters, and the file that holds them.
pub const ADAPTER_CONFIG_FILE: &str = "adapter_config.json";
pub const ADAPTER_FILE: &str = "adapter_model.safetensors";
/// Largest rank.
const MAX_RANK: usize = 1024;

/// Matrices of a layer that can have an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
}

impl Target {
    pub const ALL: [Self; 7] =
        [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    /// Our name of the matrix.
    pub fn part(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Key => "key",
            Self::Value => "value",
            Self::Output => "output",
            Self::Gate => "gate",
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    /// Hugging Face's module, such as `self_attn.q_proj`.
    fn module(self) -> &'static str {
        hugging_face_module(self.part()).unwrap_or_default()
    }

    /// The end of the module's name, as in PEFT's `target_modules`.
    fn short(self) -> &'static str {
        self.module().rsplit('.').next().unwrap_or_default()
    }
}

/// Shape and training of adapters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Width between A and B.
    pub rank: usize,
    /// The product of A and B is scaled by `alpha / rank`.
    pub alpha: f32,
    /// Share of an adapter's inputs that a training step leaves out.
    pub dropout: f32,
    pub targets: Vec<Target>,
}

/// The paper's: rank 8, alpha 16, dropout 0.1, on the projections of attention.
impl Default for LoraConfig {
    fn default() -> Self {
        let targets = vec![Target::Query, Target::Key, Target::Value, Target::Output];
        Self { rank: 8, alpha: 16.0, dropout: 0.1, targets }
    }
}

impl LoraConfig {
    /// # Errors
    /// Names the setting, its value and what is possible.
    pub fn check(&self) -> Result<()> {
        let wrong = |message: String| Err(UserError::setting(message).into());
        if self.rank == 0 || self.rank > MAX_RANK {
            return wrong(format!("lora rank {} is not in 1 to {MAX_RANK}", self.rank));
        }
        if !self.alpha.is_finite() || self.alpha <= 0.0 {
            return wrong(format!("lora alpha {} is not a positive number", self.alpha));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return wrong(format!("lora dropout {} is not in 0 to 1", self.dropout));
        }
        let mut targets = self.targets.clone();
        targets.sort();
        targets.dedup();
        if targets.is_empty() || targets.len() < self.targets.len() {
            return wrong(format!("lora targets {:?}: name each once, at least one", self.targets));
        }
        Ok(())
    }
}

/// One adapted matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    layer: usize,
    target: Target,
    /// Where the matrix lies among the model's parameters.
    pub place: Place,
}

impl Adapter {
    /// The model's tensor.
    fn tensor(&self) -> String {
        format!("layers.{}.{}", self.layer, self.target.part())
    }

    /// PEFT's names of A and B.
    fn names(&self) -> [String; 2] {
        let module = self.target.module();
        ["A", "B"].map(|matrix| {
            format!("base_model.model.model.layers.{}.{module}.lora_{matrix}.weight", self.layer)
        })
    }
}

/// Adapters of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    config: LoraConfig,
    adapters: Vec<Adapter>,
    /// For each adapter A `[in, rank]`, then B `[rank, out]`: what the optimiser learns.
    pub parameters: Vec<Parameter>,
    /// Settings in the file that nobody knows and that are not used.
    pub notes: Vec<String>,
}

impl Lora {
    /// Fresh adapters, which change nothing yet: A uniform in ±1/√in, B zero, as in PEFT. Each A has
    /// its own stream.
    ///
    /// # Errors
    /// Settings that cannot be.
    pub fn init(config: &LoraConfig, model: &ModelConfig, seed: u64) -> Result<Self> {
        use rand::RngExt;
        let mut lora = Self::empty(config, model)?;
        for (index, pair) in lora.parameters.chunks_exact_mut(2).enumerate() {
            let mut rng = random::stream(seed, "adapters", &[index as u64]);
            let bound = 1.0 / (pair[0].shape[0] as f32).sqrt();
            pair[0].values.fill_with(|| rng.random_range(-bound..bound));
        }
        Ok(lora)
    }

    /// Adapters that are zero.
    fn empty(config: &LoraConfig, model: &ModelConfig) -> Result<Self> {
        config.check()?;
        model.check()?;
        let mut lora = Self {
            config: config.clone(),
            adapters: Vec::new(),
            parameters: Vec::new(),
            notes: Vec::new(),
        };
        for layer in 0..model.layers {
            for target in Target::ALL.into_iter().filter(|t| config.targets.contains(t)) {
                let place = transformer::place(model, layer, target.part());
                let Place { inputs, outputs, .. } = place;
                let adapter = Adapter { layer, target, place };
                for (name, shape) in
                    [("lora_a", [inputs, config.rank]), ("lora_b", [config.rank, outputs])]
                {
                    let name = format!("{}.{name}", adapter.tensor());
                    let values = vec![0.0; shape[0] * shape[1]];
                    let shape = shape.to_vec();
                    lora.parameters.push(Parameter { name, shape, values, decay: true });
                }
                lora.adapters.push(adapter);
            }
        }
        Ok(lora)
    }

    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// Learnt numbers.
    pub fn size(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.values.len()).sum()
    }

    /// Factor of A · B.
    pub fn scale(&self) -> f32 {
        self.config.alpha / self.config.rank as f32
    }

    /// The adapters of a parameter of the model, with their numbers.
    pub fn on(&self, parameter: usize) -> impl Iterator<Item = (usize, &Adapter)> {
        let all = self.adapters.iter().enumerate();
        all.filter(move |(_, adapter)| adapter.place.parameter == parameter)
    }

    /// A and B of adapter `number`.
    pub fn matrices(&self, number: usize) -> [View<'_>; 2] {
        [2 * number, 2 * number + 1].map(|index| {
            let Parameter { shape, values, .. } = &self.parameters[index];
            View::new(values, shape[0], shape[1])
        })
    }

    /// The weights with the adapters added: `W + alpha / rank · A · B`.
    ///
    /// # Errors
    /// Weights of another model.
    pub fn merge(&self, mut weights: Weights) -> Result<Weights> {
        let scale = self.scale();
        for (adapter, pair) in self.adapters.iter().zip(self.parameters.chunks_exact(2)) {
            let Place { inputs, outputs, .. } = adapter.place;
            let values = weights.get_mut(&adapter.tensor())?;
            if values.len() != inputs * outputs {
                let (name, found) = (adapter.tensor(), values.len());
                let message =
                    format!("adapter of {name}: {found} weights, not {inputs} × {outputs}");
                return Err(UserError::setting(message).into());
            }
            let a: Vec<f32> = pair[0].values.iter().map(|value| value * scale).collect();
            let a = View::new(&a, inputs, self.config.rank);
            let b = View::new(&pair[1].values, self.config.rank, outputs);
            multiply(kernels::simd(), Precision::F32, values, outputs, a, b, true);
        }
        Ok(weights)
    }

    /// Writes `adapter_model.safetensors` and `adapter_config.json` to `dir`, each whole or not at all.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let mut buffers = Vec::new();
        for (adapter, pair) in self.adapters.iter().zip(self.parameters.chunks_exact(2)) {
            for (name, Parameter { shape, values, .. }) in adapter.names().into_iter().zip(pair) {
                let values = transposed(values, shape[0], shape[1]);
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                buffers.push((name, vec![shape[1], shape[0]], bytes));
            }
        }
        let views = buffers
            .iter()
            .map(|(name, shape, bytes)| {
                Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?))
            })
            .collect::<Result<Vec<_>>>()?;
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        let bytes = safetensors::serialize(views, Some(metadata))?;
        durable::write(&dir.join(ADAPTER_FILE), &bytes)?;
        let text = serde_json::to_string_pretty(&self.description())? + "\n";
        Ok(durable::write(&dir.join(ADAPTER_CONFIG_FILE), text.as_bytes())?)
    }

    fn description(&self) -> Value {
        let modules: Vec<&str> = self.config.targets.iter().map(|t| t.short()).collect();
        json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": null,
            "inference_mode": true,
            "r": self.config.rank,
            "lora_alpha": self.config.alpha,
            "lora_dropout": self.config.dropout,
            "target_modules": modules,
            "bias": "none",
            "fan_in_fan_out": false,
            "init_lora_weights": true,
            "use_rslora": false,
            "use_dora": false,
            "rank_pattern": {},
            "alpha_pattern": {},
            "modules_to_save": null,
            "layers_to_transform": null,
        })
    }

    /// Reads adapters for `model`, written by us or by PEFT.
    ///
    /// # Errors
    /// Missing or damaged files, settings that are not supported, tensors of other names or shapes.
    pub fn load(dir: &Path, model: &ModelConfig) -> Result<Self> {
        let path = dir.join(ADAPTER_CONFIG_FILE);
        let (config, notes) = described(&path, &super::pretrained::read_text(&path)?)?;
        let mut lora = Self::empty(&config, model)
            .map_err(|error| UserError::input(&path, "lora", error.to_string()))?;
        let mut file = AdapterTensors::open(&dir.join(ADAPTER_FILE))?;
        let Self { adapters, parameters, .. } = &mut lora;
        for (adapter, pair) in adapters.iter().zip(parameters.chunks_exact_mut(2)) {
            for (name, parameter) in adapter.names().into_iter().zip(pair) {
                let (rows, columns) = (parameter.shape[1], parameter.shape[0]);
                let values = file.take(&name, &[rows, columns])?;
                parameter.values = transposed(&values, rows, columns);
            }
        }
        file.finish()?;
        lora.notes = notes;
        Ok(lora)
    }
}

/// `[rows, columns]` to `[columns, rows]`.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let column = |column: usize| (0..rows).map(move |row| values[row * columns + column]);
    (0..columns).flat_map(column).collect()
}

/// What is read of PEFT's `adapter_config.json`.
#[derive(Deserialize)]
struct Described {
    peft_type: String,
    r: usize,
    lora_alpha: f32,
    lora_dropout: Option<f32>,
    #[serde(default)]
    target_modules: Value,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Settings of PEFT that change what adapters compute. They are not used where they are false, empty
/// or "none".
const COMPUTING: [&str; 21] = [
    "bias",
    "fan_in_fan_out",
    "use_rslora",
    "use_dora",
    "use_qalora",
    "lora_bias",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "layers_to_transform",
    "layer_replication",
    "trainable_token_indices",
    "exclude_modules",
    "target_parameters",
    "use_bdlora",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "velora_config",
    // LoftQ's adapters are a change to a quantised base.
    "loftq_config",
];

/// Settings that are about where adapters come from, how they were trained and where they ran.
const OTHERS: [&str; 17] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "ephemeral_gpu_offload",
    "eva_config",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
];

/// How A and B may have begun: these leave the weights of the base as they are.
const BEGINNINGS: [&str; 4] = ["gaussian", "eva", "orthogonal", "mica"];

/// Whether a setting says that its feature is not used.
fn unused(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::String(value) => value == "none",
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        Value::Number(_) => false,
    }
}

/// What `adapter_config.json` says, and notes on what in it is not used.
fn described(path: &Path, text: &str) -> Result<(LoraConfig, Vec<String>)> {
    let wrong = |key: &str, message: String| UserError::input(path, key, message);
    let config: Described =
        serde_json::from_str(text).map_err(|error| wrong("lora", error.to_string()))?;
    if config.peft_type != "LORA" {
        let message = format!("`{}` is not supported: only `LORA` is", config.peft_type);
        return Err(wrong("peft_type", message).into());
    }
    let used = |key: &&&str| config.others.get(**key).is_some_and(|value| !unused(value));
    if let Some(key) = COMPUTING.iter().find(|key| used(key)) {
        let message = format!("{} is not supported", config.others[*key]);
        return Err(wrong(key, message).into());
    }
    let beginning = config.others.get("init_lora_weights").unwrap_or(&Value::Null);
    let harmless = match beginning {
        Value::Null | Value::Bool(_) => true,
        other => other.as_str().is_some_and(|name| BEGINNINGS.contains(&name)),
    };
    if !harmless {
        // PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA.
        let message = format!(
            "{beginning} is not supported: such adapters belong to weights that were changed when \
             the training began, not to those of the base: save them with \
             `path_initial_model_for_weight_conversion`, which makes them a change to the base \
             and writes true here"
        );
        return Err(wrong("init_lora_weights", message).into());
    }
    let strange =
        |(key, value): &(&String, &Value)| !unused(value) && !OTHERS.contains(&key.as_str());
    let notes = config.others.iter().filter(strange);
    let notes = notes.map(|(key, value)| format!("{key} {value} is not known and not used"));
    let notes = notes.collect();
    let known = || Target::ALL.map(Target::short).join(", ");
    let Some(modules) = config.target_modules.as_array() else {
        let message = format!("{} is not a list of {}", config.target_modules, known());
        return Err(wrong("target_modules", message).into());
    };
    let mut targets = Vec::new();
    for module in modules {
        let named = |target: &Target| {
            module.as_str().is_some_and(|name| [target.short(), target.module()].contains(&name))
        };
        let found = Target::ALL.into_iter().find(named);
        let unknown = || wrong("target_modules", format!("{module} is none of {}", known()));
        targets.push(found.ok_or_else(unknown)?);
    }
    // PEFT writes a set, in no particular order.
    targets.sort();
    let Described { r: rank, lora_alpha: alpha, lora_dropout: dropout, .. } = config;
    let dropout = dropout.unwrap_or_default();
    Ok((LoraConfig { rank, alpha, dropout, targets }, notes))
}
