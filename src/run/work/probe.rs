use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::train::{FIT, MODEL};
use super::{ExecutionOptions, StageContext, StageKind, check_files_of, write_json};
use crate::error::UserError;
use crate::evaluate::probes;
use crate::evaluate::probes::{Context, Method, Task, Tuning};
use crate::generators::in_context;
use crate::records;
use crate::run::cache::Key;
use crate::version::Version;

/// Version of this stage: records of a probe, as files.
pub const VERSION: Version = Version::new("stage/probe", 4);

/// Lets one method of a probe learn from questions about training graphs and answer those about test
/// graphs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProbeWork {
    pub task: Task,
    /// Questions about training graphs, at most.
    pub train_questions: usize,
    /// Questions about test graphs, at most.
    pub test_questions: usize,
    pub method: Method,
    pub seed: u64,
    pub dataset: Key,
    /// Absent where no network is tuned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkWork>,
    /// Settings of the baseline whose model is asked without training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_context: Option<toml::Table>,
}

/// What a method that tunes a network depends on besides.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkWork {
    /// The training whose network, or at least its shape and vocabulary, is tuned.
    pub train: Key,
    pub tuning: Tuning,
    /// `cpu` or `cuda`: their sums round differently.
    pub device: String,
}

/// What was answered, beside the records.
const ANSWERS: &str = "answers.csv";

impl StageKind for ProbeWork {
    fn kind(&self) -> &'static str {
        "probe"
    }

    fn versions(&self) -> Vec<Version> {
        vec![VERSION, probes::FAMILY.version]
    }

    fn inputs(&self) -> Vec<Key> {
        let train = self.network.iter().map(|network| network.train.clone());
        train.chain([self.dataset.clone()]).collect()
    }

    fn seed(&self) -> Option<u64> {
        Some(self.seed)
    }

    fn check_files(&self, _: &ExecutionOptions) -> Result<()> {
        let settings = self.in_context.as_ref();
        settings.map_or(Ok(()), |settings| check_files_of(in_context::ID, settings))
    }

    fn order(&self) -> u8 {
        2
    }

    fn run(&self, context: &StageContext) -> Result<()> {
        let dataset = context.dataset(&self.dataset)?;
        let network = self.network.as_ref();
        let model = network.map(|network| context.input("train", &network.train).join(MODEL));
        let context = Context {
            dataset: &dataset,
            model: model.as_deref(),
            in_context: self.in_context.as_ref(),
            seed: self.seed,
            device: context.device,
            scratch: context.scratch,
            out: context.out,
            batch: context.options.batch,
            progress: context.progress,
        };
        let tuning = network.map_or_else(Tuning::default, |network| network.tuning.clone());
        let questions = (self.train_questions, self.test_questions);
        let outcome = probes::run(self.task, questions, self.method, &tuning, &context)?;
        records::save_prompt_scores(context.out, &outcome.of_prompts)?;
        records::save(context.out, &outcome.records)?;
        write_json(&context.out.join(FIT), &outcome.fit)?;
        let path = context.out.join(ANSWERS);
        let failed = |error: csv::Error| UserError::input(&path, "answers", error.to_string());
        let mut writer = csv::Writer::from_path(&path).map_err(failed)?;
        for answer in &outcome.answers {
            writer.serialize(answer).map_err(failed)?;
        }
        Ok(writer.flush()?)
    }
}
