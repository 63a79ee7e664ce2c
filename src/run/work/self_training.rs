use anyhow::Result;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::train::MODEL;
use super::{StageContext, StageKind, answers_version};
use crate::data::{Dataset, HeldOutCard, Side};
use crate::error::UserError;
use crate::evaluate::{CONDITIONS_VERSION, borrowed_grid};
use crate::generators::{Decoding, GenerateOptions};
use crate::graph::{CallGraph, grid_cells, judge};
use crate::model::Sampling;
use crate::run::cache::Key;
use crate::version::Version;
use crate::{generators, random};

/// Version of this stage: the dataset with constrained samples.
pub const VERSION: Version = Version::new("stage/self-training", 1);

/// Adds to a dataset's training graphs those with which a trained language model answers, under the
/// format's constraints, requests of all shapes: who trains on them learns to keep count where real
/// graphs are few or none (self-training). About half of all training calls are then such. Test graphs stay as they
/// are, and requests take service and latency from training graphs alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SelfTrainingWork {
    /// Id in the registry.
    pub generator: String,
    pub settings: toml::Table,
    pub seed: u64,
    pub max_edges: u32,
    pub max_depth: u32,
    pub dataset: Key,
    pub train: Key,
}

/// As the model has learnt it: a mask that is needed here is no reason to narrow the choice further.
const SAMPLING: Sampling = Sampling { temperature: 1.0, top_k: None };

impl StageKind for SelfTrainingWork {
    /// A dataset like any other to those who train on it.
    fn kind(&self) -> &'static str {
        "dataset"
    }

    fn versions(&self) -> Vec<Version> {
        let answers = answers_version(&self.generator);
        [VERSION, CONDITIONS_VERSION].into_iter().chain(answers).collect()
    }

    fn inputs(&self) -> Vec<Key> {
        vec![self.dataset.clone(), self.train.clone()]
    }

    fn seed(&self) -> Option<u64> {
        Some(self.seed)
    }

    fn run(&self, context: &StageContext) -> Result<()> {
        let dataset = context.dataset(&self.dataset)?;
        let recipe = generators::recipe(&self.generator, &self.settings)?;
        let model = context.input("train", &self.train).join(MODEL);
        let generator = recipe.load(&model, None, context.device)?;
        let train = dataset.train();
        // The address of its randomness stays whatever the stage is called.
        let seed = random::stream(self.seed, "teach", &[]).next_u64();
        let samples = self.samples(&train);
        let conditions = borrowed_grid(self.max_edges, self.max_depth, samples, &train, seed);
        let answers = generator.generate(
            &conditions,
            &GenerateOptions {
                seed,
                sampling: SAMPLING,
                decoding: Decoding::Constrained,
                batch: context.options.batch,
                progress: context.progress,
            },
        )?;
        let kept = conditions.iter().zip(&answers).filter_map(|(condition, answer)| {
            let verdict = judge(condition, answer);
            verdict.graph.filter(|_| verdict.violation.is_none())
        });
        let kept: Vec<CallGraph> = kept.collect();
        if kept.is_empty() {
            let message =
                format!("`{}` answered no request that it could learn from", self.generator);
            return Err(UserError::setting(message).into());
        }
        with_training_graphs(&dataset, kept).save(context.out)
    }
}

impl SelfTrainingWork {
    /// Samples per cell of the grid that have about as many calls as the training graphs.
    fn samples(&self, train: &[&CallGraph]) -> u32 {
        let calls: usize = train.iter().map(|graph| graph.calls().len()).sum();
        let cells = grid_cells(self.max_edges, self.max_depth);
        let of_grid: u64 = cells.map(|(edges, _)| u64::from(edges)).sum();
        u32::try_from((calls as u64).div_ceil(of_grid.max(1))).unwrap_or(u32::MAX)
    }
}

fn with_training_graphs(dataset: &Dataset, more: Vec<CallGraph>) -> Dataset {
    let mut card = dataset.card.clone();
    card.labels.push(format!(
        "{} of the training graphs are a language model's own, drawn under constraints.",
        more.len()
    ));
    let (train, test) = (dataset.train(), dataset.test());
    card.split.train_graphs = (train.len() + more.len()) as u64;
    let mut sides = vec![Side::Train; train.len() + more.len()];
    sides.resize(sides.len() + test.len(), Side::Test);
    let (train, test) = (train.into_iter().cloned(), test.into_iter().cloned());
    let HeldOutCard { from, .. } = card.held_out.clone();
    let mut combined = Dataset::new(card, train.chain(more).chain(test).collect(), sides);
    combined.set_held_out(dataset.held_out().to_vec(), from);
    combined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DatasetCard;
    use crate::testing::paper_example;

    #[test]
    fn samples_have_as_many_calls_as_the_training_graphs() {
        let key = |text: &str| Key::of(&serde_json::json!(text));
        let work = SelfTrainingWork {
            generator: "recursive-compact".into(),
            settings: toml::Table::new(),
            seed: 0,
            max_edges: 10,
            max_depth: 4,
            dataset: key("dataset"),
            train: key("train"),
        };
        let graph = paper_example();
        let train = vec![&graph; 100];
        let per_sample: u64 = grid_cells(10, 4).map(|(edges, _)| u64::from(edges)).sum();
        let calls = 100 * graph.calls().len() as u64;
        let sampled = u64::from(work.samples(&train)) * per_sample;
        assert!((calls..calls + per_sample).contains(&sampled), "{calls} {sampled}");
    }

    #[test]
    fn test_graphs_stay_apart() {
        let graph = paper_example();
        let (card, sides) = (DatasetCard::default(), vec![Side::Test, Side::Train]);
        let dataset = Dataset::new(card, vec![graph.clone(), graph.clone()], sides);
        let extended = with_training_graphs(&dataset, vec![graph; 3]);
        assert_eq!((extended.train().len(), extended.test().len()), (4, 1));
        assert_eq!(extended.card.split.train_graphs, 4);
    }
}
