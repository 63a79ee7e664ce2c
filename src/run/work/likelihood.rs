use std::path::Path;

use anyhow::{Context, Result};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::checkpoint_selection::Selected;
use super::train::MODEL;
use super::{StageContext, StageKind, answers_version};
use crate::data::Dataset;
use crate::error::UserError;
use crate::evaluate::novelty::membership::{Likelihood, Standing};
use crate::generators::{self, Recipe};
use crate::graph::CallGraph;
use crate::random;
use crate::run::cache::Key;
use crate::version::Version;

/// Version of this stage: which graphs are asked about.
pub const VERSION: Version = Version::new("stage/likelihood", 1);

/// Asks a trained generator how likely it finds graphs that it was trained on, graphs that its training
/// held out, and test graphs: what a membership attack looks at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LikelihoodWork {
    /// Id in the registry.
    pub generator: String,
    pub settings: toml::Table,
    pub seed: u64,
    /// The choice among the checkpoints, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<Key>,
    pub dataset: Key,
    pub train: Key,
}

/// Graphs of each standing, at most, drawn at random.
const GRAPHS: usize = 500;

const FILE: &str = "likelihoods.csv";

impl StageKind for LikelihoodWork {
    fn kind(&self) -> &'static str {
        "likelihood"
    }

    fn versions(&self) -> Vec<Version> {
        [VERSION].into_iter().chain(answers_version(&self.generator)).collect()
    }

    fn inputs(&self) -> Vec<Key> {
        [&self.dataset, &self.train].into_iter().chain(&self.selected).cloned().collect()
    }

    fn seed(&self) -> Option<u64> {
        Some(self.seed)
    }

    fn run(&self, context: &StageContext) -> Result<()> {
        let dataset = context.dataset(&self.dataset)?;
        let selected = self.selected.as_ref();
        let checkpoint = selected
            .map(|key| {
                Selected::load(&context.input("checkpoint-selection", key))
                    .map(|selected| selected.tokens)
            })
            .transpose()?;
        let recipe = generators::recipe(&self.generator, &self.settings)?;
        let (standings, graphs): (Vec<Standing>, Vec<&CallGraph>) =
            chosen(&dataset, &*recipe, self.seed).into_iter().unzip();
        let model = context.input("train", &self.train).join(MODEL);
        let generator = recipe.load(&model, checkpoint, context.device)?;
        let likelihoods = generator
            .log_likelihoods(&graphs, context.options.batch)?
            .with_context(|| format!("generator `{}` has no likelihood", self.generator))?;
        let told = standings.into_iter().zip(graphs).zip(likelihoods);
        let told = told.map(|((standing, graph), log_likelihood)| Likelihood {
            standing,
            service: graph.service().clone(),
            num_edges: graph.num_edges(),
            log_likelihood,
        });
        save(context.out, told)
    }
}

/// Graphs of each standing.
fn chosen<'a>(
    dataset: &'a Dataset,
    recipe: &dyn Recipe,
    seed: u64,
) -> Vec<(Standing, &'a CallGraph)> {
    let held_out = recipe.validation(dataset, seed);
    // One of several equal graphs may be held out, so that they are told apart by place.
    let places: std::collections::HashSet<*const CallGraph> =
        held_out.iter().map(|graph| std::ptr::from_ref(*graph)).collect();
    let mut members = dataset.train();
    members.retain(|graph| !places.contains(&std::ptr::from_ref(*graph)));
    let mut chosen = Vec::new();
    for (standing, mut graphs) in Standing::ALL.into_iter().zip([members, held_out, dataset.test()])
    {
        let mut rng = random::stream(seed, "likelihood", &[standing as u64]);
        graphs.shuffle(&mut rng);
        graphs.truncate(GRAPHS);
        chosen.extend(graphs.into_iter().map(|graph| (standing, graph)));
    }
    chosen
}

fn save(dir: &Path, likelihoods: impl Iterator<Item = Likelihood>) -> Result<()> {
    let mut writer = csv::Writer::from_path(dir.join(FILE))?;
    for likelihood in likelihoods {
        writer.serialize(likelihood)?;
    }
    Ok(writer.flush()?)
}

/// Reads what a finished stage wrote.
pub fn load(dir: &Path) -> Result<Vec<Likelihood>> {
    let path = dir.join(FILE);
    let file = std::fs::File::open(&path)
        .map_err(|error| UserError::io(&path, "cannot be read", error))?;
    let mut reader = csv::Reader::from_reader(file);
    Ok(reader.deserialize().collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DatasetCard, Side};
    use crate::testing::paper_example;

    #[test]
    fn likelihoods_read_back_bit_for_bit() {
        let dir = tempfile::tempdir().unwrap();
        let of = |standing, log_likelihood| Likelihood {
            standing,
            service: "S_1, \"x\"".into(),
            num_edges: 3,
            log_likelihood,
        };
        let all = vec![
            of(Standing::Member, -0.1 - 0.2),
            of(Standing::HeldOut, f64::NEG_INFINITY),
            of(Standing::Test, -1e-310),
        ];
        save(dir.path(), all.iter().cloned()).unwrap();
        assert_eq!(load(dir.path()).unwrap(), all);
    }

    /// Equal graphs are told apart: what is held out is no member, and every graph has one standing.
    #[test]
    fn members_were_trained_on() {
        let sides = (0..100).map(|index| if index < 90 { Side::Train } else { Side::Test });
        let graphs = vec![paper_example(); 100];
        let dataset = Dataset::new(DatasetCard::default(), graphs, sides.collect());
        let recipe = generators::recipe("recursive-compact", &toml::Table::new()).unwrap();
        let chosen = chosen(&dataset, &*recipe, 3);
        let count = |standing| chosen.iter().filter(|(found, _)| *found == standing).count();
        assert_eq!(Standing::ALL.map(count), [81, 9, 10]);
        let mut places: Vec<_> =
            chosen.iter().map(|(_, graph)| std::ptr::from_ref(*graph)).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 100);
    }
}
