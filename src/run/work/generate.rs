use std::path::PathBuf;

use anyhow::Result;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::checkpoint_selection::Selected;
use super::train::{FIT, MODEL};
use super::{
    ExecutionOptions, StageContext, StageKind, answers, answers_version, check_files_of, read_json,
};
use crate::device::DeviceChoice;
use crate::error::UserError;
use crate::evaluate::{CONDITIONS_VERSION, Conditions};
use crate::generators::{Decoding, FitReport, GenerateOptions, Generator};
use crate::graph::{Condition, Generated, judge};
use crate::model::Sampling;
use crate::run::cache::{Cache, Key};
use crate::version::Version;
use crate::{evaluate, generators, random};

/// Version of this stage: how answers are kept and drawn again.
pub const VERSION: Version = Version::new("stage/generate", 2);

/// Lets a trained generator answer the conditions of an experiment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GenerateWork {
    /// Id in the registry.
    pub generator: String,
    pub settings: toml::Table,
    pub seed: u64,
    pub sampling: Sampling,
    pub conditions: Conditions,
    /// Index in [`FitReport::checkpoints`]; `None` takes the final model.
    pub checkpoint: Option<u32>,
    /// The choice among the checkpoints, where there is one; it stands for the final model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<Key>,
    #[serde(default, skip_serializing_if = "Decoding::is_free")]
    pub decoding: Decoding,
    pub dataset: Key,
    pub train: Key,
}

impl StageKind for GenerateWork {
    fn kind(&self) -> &'static str {
        "generate"
    }

    fn versions(&self) -> Vec<Version> {
        let answers = answers_version(&self.generator);
        [VERSION, CONDITIONS_VERSION].into_iter().chain(answers).collect()
    }

    fn inputs(&self) -> Vec<Key> {
        [&self.dataset, &self.train].into_iter().chain(&self.selected).cloned().collect()
    }

    fn seed(&self) -> Option<u64> {
        Some(self.seed)
    }

    fn check_files(&self, _: &ExecutionOptions) -> Result<()> {
        check_files_of(&self.generator, &self.settings)
    }

    fn run(&self, context: &StageContext) -> Result<()> {
        let dataset = context.dataset(&self.dataset)?;
        let conditions = evaluate::conditions(&self.conditions, &dataset, self.seed)?;
        let generator = self.trained(context.cache)?.load(context.device)?;
        let options = GenerateOptions {
            seed: self.seed,
            sampling: self.sampling,
            decoding: self.decoding,
            batch: context.options.batch,
            progress: context.progress,
        };
        answers::save(context.out, &conditions, &answer(&*generator, &conditions, &options)?)
    }
}

/// A trained generator as files.
#[derive(Clone, Debug)]
pub struct TrainedGenerator {
    /// Id in the registry.
    pub generator: String,
    pub settings: toml::Table,
    /// Training tokens of the checkpoint that is used; `None` for the final model.
    pub checkpoint: Option<u64>,
    /// What [`generators::Recipe::fit`] wrote.
    pub folder: PathBuf,
}

impl TrainedGenerator {
    /// The generator, ready to answer.
    ///
    /// # Errors
    /// Files that are missing, damaged or not of this generator.
    pub fn load(&self, device: DeviceChoice) -> Result<Box<dyn Generator>> {
        let recipe = generators::recipe(&self.generator, &self.settings)?;
        recipe.load(&self.folder, self.checkpoint, device)
    }
}

impl GenerateWork {
    /// The generator that answers, as its training and the choice of a checkpoint left it in `cache`.
    ///
    /// # Errors
    /// Outputs of these stages that cannot be read, or a checkpoint that training did not save.
    pub fn trained(&self, cache: &Cache) -> Result<TrainedGenerator> {
        let train = cache.outputs("train", &self.train);
        let checkpoint = match (&self.selected, self.checkpoint) {
            (Some(key), _) => {
                Some(Selected::load(&cache.outputs("checkpoint-selection", key))?.tokens)
            }
            (None, Some(index)) => Some(tokens_at(&read_json(&train.join(FIT))?, index)?),
            (None, None) => None,
        };
        Ok(TrainedGenerator {
            generator: self.generator.clone(),
            settings: self.settings.clone(),
            checkpoint,
            folder: train.join(MODEL),
        })
    }
}

/// The generator's answers, drawn as the options say.
///
/// # Errors
/// What the generator fails with.
pub fn answer(
    generator: &dyn Generator,
    conditions: &[Condition],
    options: &GenerateOptions,
) -> Result<Vec<Generated>> {
    match options.decoding {
        Decoding::Rejection { attempts } => rejection(generator, conditions, options, attempts),
        Decoding::Free | Decoding::Constrained => generator.generate(conditions, options),
    }
}

/// Asks again, with fresh randomness, for every answer that is not accurate, up to `attempts` times
/// in all. What is never answered well keeps its last answer, and all costs are added up.
fn rejection(
    generator: &dyn Generator,
    conditions: &[Condition],
    options: &GenerateOptions,
    attempts: u32,
) -> Result<Vec<Generated>> {
    let mut answers = vec![Generated::default(); conditions.len()];
    let mut open: Vec<usize> = (0..conditions.len()).collect();
    for attempt in 0..attempts {
        if open.is_empty() {
            break;
        }
        let asked: Vec<Condition> = open.iter().map(|index| conditions[*index].clone()).collect();
        let seed = match attempt {
            0 => options.seed,
            _ => random::stream(options.seed, "attempt", &[attempt.into()]).next_u64(),
        };
        let found = generator.generate(&asked, &GenerateOptions { seed, ..*options })?;
        for (index, mut answer) in open.iter().zip(found) {
            answer.cost += answers[*index].cost;
            answers[*index] = answer;
        }
        open.retain(|index| judge(&conditions[*index], &answers[*index]).violation.is_some());
    }
    Ok(answers)
}

/// Training tokens at the checkpoint with this index.
pub fn tokens_at(report: &FitReport, index: u32) -> Result<u64> {
    let found = report.checkpoints.get(index as usize).copied();
    found.ok_or_else(|| {
        UserError::setting(format!(
            "checkpoint {} does not exist: training saved {}; correct `checkpoints` in the baseline",
            index + 1,
            report.checkpoints.len()
        ))
        .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;
    use crate::testing::paper_example;

    /// Answers rightly once in three times, by the seed.
    struct Sometimes;

    impl Generator for Sometimes {
        fn generate(
            &self,
            conditions: &[Condition],
            options: &GenerateOptions,
        ) -> Result<Vec<Generated>> {
            let answer = |(_, condition): (usize, &Condition)| {
                let latency = u64::from(condition.latency.unwrap_or(0));
                let mut rng = random::stream(options.seed, "sometimes", &[latency]);
                let rows = paper_example().rows();
                let cost = crate::graph::DecodingCost { tokens: 10, ..Default::default() };
                let kept = if rng.next_u64().is_multiple_of(3) { 7 } else { 6 };
                Generated { rows: rows[..kept].to_vec(), failure: None, cost }
            };
            Ok(conditions.iter().enumerate().map(answer).collect())
        }
    }

    #[test]
    fn rejection_tries_again_and_counts_what_it_took() {
        let conditions: Vec<Condition> = (0..300)
            .map(|index| Condition {
                latency: Some(index),
                ..crate::graph::condition_of(&paper_example())
            })
            .collect();
        let options = GenerateOptions {
            seed: 1,
            sampling: Sampling { temperature: 1.0, top_k: None },
            decoding: Decoding::Free,
            batch: 1,
            progress: Progress::Quiet,
        };
        let share = |attempts: u32| {
            let answers = rejection(&Sometimes, &conditions, &options, attempts).unwrap();
            let good = answers.iter().filter(|answer| answer.rows.len() == 7).count();
            let tokens: u64 = answers.iter().map(|answer| answer.cost.tokens).sum();
            (good as f64 / 300.0, tokens as f64 / 3000.0)
        };
        let ((one, cost), (three, more)) = (share(1), share(3));
        assert!((0.25..0.42).contains(&one) && cost == 1.0, "{one} {cost}");
        // 1 − (2/3)³ = 0.70; 1 + 2/3 + 4/9 = 2.11 attempts.
        assert!((0.6..0.8).contains(&three), "{three}");
        assert!((1.95..2.3).contains(&more), "{more}");
    }
}
