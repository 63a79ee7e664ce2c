//! How likely a trained language model finds a graph: the probability of its texts.
//!
//! This stands around the language models and not in them, so that finished trainings and answers,
//! which do not depend on it, stay good when it changes. The model is read again when it is first asked.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rand::TryRng;
use serde::Deserialize;

use super::{
    Condition, FitContext, FitReport, GenerateOptions, Generated, Generator, Recipe,
    language_model, settings,
};
use crate::data::Dataset;
use crate::device::DeviceChoice;
use crate::error::UserError;
use crate::graph::{CallGraph, steps};
use crate::model;
use crate::model::decode::{CachedModel, Feed, NotFinite};
use crate::text::{Format, Tokenizer, tabular};

/// What a graph is written as.
#[derive(Clone, Copy)]
enum Writing {
    /// A text for each layer.
    Layers(Format),
    /// One text.
    Table,
}

/// `recursive-llm`, with likelihoods.
pub fn recursive(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    around(language_model::recursive(table)?, Writing::Layers(Format::Recursive))
}

/// `recursive-instruction-llm`, with likelihoods.
pub fn instruction(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    let recipe = language_model::instruction(table)?;
    let notes = settings::<language_model::Settings>("recursive-instruction-llm", table)?.notes;
    around(recipe, Writing::Layers(Format::Instruction { notes }))
}

/// `recursive-compact`, with likelihoods.
pub fn recursive_compact(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    let recipe = language_model::recursive_compact(table)?;
    let countdown = settings::<language_model::Settings>("recursive-compact", table)?.countdown;
    around(recipe, Writing::Layers(Format::Compact { countdown }))
}

/// `tabular-llm`, with likelihoods.
pub fn tabular(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    around(language_model::tabular(table)?, Writing::Table)
}

fn around(recipe: Box<dyn Recipe>, writing: Writing) -> Result<Box<dyn Recipe>> {
    Ok(Box::new(Untrained { recipe, writing }))
}

struct Untrained {
    recipe: Box<dyn Recipe>,
    writing: Writing,
}

impl Recipe for Untrained {
    fn fit(&self, context: &FitContext) -> Result<FitReport> {
        self.recipe.fit(context)
    }

    fn validation<'a>(&self, dataset: &'a Dataset, seed: u64) -> Vec<&'a CallGraph> {
        self.recipe.validation(dataset, seed)
    }

    fn load(
        &self,
        dir: &Path,
        snapshot: Option<u64>,
        device: DeviceChoice,
    ) -> Result<Box<dyn Generator>> {
        let generator = self.recipe.load(dir, snapshot, device)?;
        let (writing, dir) = (self.writing, dir.to_owned());
        Ok(Box::new(Trained { generator, writing, dir, snapshot, device }))
    }
}

struct Trained {
    generator: Box<dyn Generator>,
    writing: Writing,
    dir: PathBuf,
    snapshot: Option<u64>,
    device: DeviceChoice,
}

impl Generator for Trained {
    fn generate(
        &self,
        conditions: &[Condition],
        options: &GenerateOptions,
    ) -> Result<Vec<Generated>> {
        self.generator.generate(conditions, options)
    }

    /// Sum over the layers of a graph (a table is one text) of log p(answer | prompt), where answers
    /// include the notes of instructions, and end. Of the many orders in which attributes and fields
    /// can be written, one and the same is taken for all graphs. A graph with a text that is longer
    /// than the model's context has probability 0: decoding would never finish it.
    fn log_likelihoods(&self, graphs: &[&CallGraph], batch: usize) -> Result<Option<Vec<f64>>> {
        let tokenizer = Tokenizer::load(&self.dir)?;
        let snapshot = self.snapshot.filter(|tokens| Some(*tokens) != final_tokens(&self.dir));
        let mut model = model::load(&self.dir, snapshot, self.device)?;
        let mut texts = Vec::new();
        let mut ends = Vec::with_capacity(graphs.len());
        for graph in graphs {
            texts.extend(self.writing.texts(graph, &tokenizer)?);
            ends.push(texts.len());
        }
        let of_texts = log_probabilities(model.as_mut(), &texts, batch)?;
        let mut start = 0;
        let of_graph = |end: usize| of_texts[std::mem::replace(&mut start, end)..end].iter().sum();
        Ok(Some(ends.into_iter().map(of_graph).collect()))
    }
}

/// Training tokens of the final model in `dir`, which no snapshot is kept of.
fn final_tokens(dir: &Path) -> Option<u64> {
    #[derive(Deserialize)]
    struct Meta {
        tokens: u64,
    }
    let text = std::fs::read_to_string(dir.join("language-model.json")).ok()?;
    Some(serde_json::from_str::<Meta>(&text).ok()?.tokens)
}

/// A prompt and its answer, as tokens.
#[derive(Clone, Debug, PartialEq)]
struct Text {
    tokens: Vec<u32>,
    /// Tokens of the prompt.
    prompt: usize,
}

impl Writing {
    fn texts(self, graph: &CallGraph, tokenizer: &Tokenizer) -> Result<Vec<Text>> {
        let rng = &mut FirstChoice;
        let texts: Vec<(String, String)> = match self {
            Self::Layers(format) => {
                steps(graph).iter().map(|step| format.training_text(step, &[], rng)).collect()
            }
            Self::Table => {
                vec![(tabular::training_prompt(graph, rng), tabular::answer(graph, rng))]
            }
        };
        let encode = |(prompt, answer): &(String, String)| {
            let mut tokens = vec![Tokenizer::BEGIN];
            tokens.extend(tokenizer.encode(prompt)?);
            let prompt = tokens.len();
            tokens.extend(tokenizer.encode(answer)?);
            tokens.push(Tokenizer::END);
            Ok(Text { tokens, prompt })
        };
        texts.iter().map(encode).collect()
    }
}

/// Takes the first of all choices: training texts drop no attribute and have one order.
struct FirstChoice;

impl TryRng for FirstChoice {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(0)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(0)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill(0);
        Ok(())
    }
}

/// A text on its way through the model.
struct Running {
    text: usize,
    /// Tokens that the model has seen.
    seen: usize,
}

/// log p(answer | prompt) of each text, `batch` of them at once. The model's logits do not depend on
/// what else is in the batch, and each text has a sum of its own, so neither does the result.
fn log_probabilities(
    model: &mut dyn CachedModel,
    texts: &[Text],
    batch: usize,
) -> Result<Vec<f64>> {
    let (context, vocabulary) = (model.context(), model.vocabulary());
    let mut sums = vec![0.0; texts.len()];
    let mut waiting = VecDeque::new();
    for (index, text) in texts.iter().enumerate() {
        match text.tokens.len() <= context {
            true => waiting.push_back(index),
            false => sums[index] = f64::NEG_INFINITY,
        }
    }
    let mut slots: Vec<Option<Running>> = (0..batch.max(1)).map(|_| None).collect();
    model.prepare(slots.len());
    let mut logits = Vec::new();
    loop {
        let mut feeds = Vec::new();
        for (slot, running) in slots.iter_mut().enumerate() {
            if running.is_none() {
                *running = waiting.pop_front().map(|text| Running { text, seen: 0 });
                model.reset(slot);
            }
            if let Some(Running { text, seen }) = running {
                let text = &texts[*text];
                let upto = text.prompt.max(*seen + 1);
                feeds.push(Feed { slot, tokens: &text.tokens[*seen..upto] });
                *seen = upto;
            }
        }
        if feeds.is_empty() {
            return Ok(sums);
        }
        model.forward(&feeds, &mut logits)?;
        ensure!(logits.len() == feeds.len() * vocabulary, "the model gave logits of a wrong size");
        let rows = slots.iter_mut().filter(|slot| slot.is_some());
        for (slot, row) in rows.zip(logits.chunks_exact(vocabulary)) {
            let Some(Running { text, seen }) = slot else { continue };
            let tokens = &texts[*text].tokens;
            let place = || format!("text {text}, position {seen}");
            sums[*text] += log_probability(row, tokens[*seen]).with_context(place)?;
            if *seen + 1 == tokens.len() {
                *slot = None;
            }
        }
    }
}

/// Logarithm of the softmax at `token`.
///
/// # Errors
/// A token that the model does not have; logits that are not finite: a comparison with what is not a
/// number would rank graphs at random, or always in one order.
fn log_probability(logits: &[f32], token: u32) -> Result<f64> {
    let Some(logit) = logits.get(token as usize) else {
        return Err(UserError::setting(format!("token {token} is not in the vocabulary")).into());
    };
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|other| f64::from(other - most).exp()).sum();
    let log_probability = f64::from(logit - most) - sum.ln();
    match most.is_finite() && !log_probability.is_nan() {
        true => Ok(log_probability),
        false => Err(UserError::setting(NotFinite.to_string()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::simulator::{Cloud, SimulatorConfig};
    use crate::data::{DatasetCard, Side};
    use crate::generators::{has_likelihood, recipe};
    use crate::progress::Progress;

    /// A model whose logits are the last token's bigram counts: each token is followed by the next.
    struct Counting {
        last: Vec<u32>,
    }

    impl CachedModel for Counting {
        fn vocabulary(&self) -> usize {
            4
        }

        fn context(&self) -> usize {
            6
        }

        fn extend(&mut self, _tokens: usize) {}

        fn prepare(&mut self, slots: usize) {
            self.last = vec![0; slots];
        }

        fn reset(&mut self, slot: usize) {
            self.last[slot] = 0;
        }

        fn forward(&mut self, feeds: &[Feed<'_>], logits: &mut Vec<f32>) -> Result<()> {
            logits.clear();
            for feed in feeds {
                self.last[feed.slot] = feed.tokens[feed.tokens.len() - 1];
                let next = (self.last[feed.slot] + 1) % 4;
                // Half of the probability for the next number, a sixth for each of the others.
                logits.extend((0..4).map(|token| if token == next { 3.0f32.ln() } else { 0.0 }));
            }
            Ok(())
        }
    }

    #[test]
    fn probabilities_by_hand() {
        let text = |tokens: &[u32], prompt| Text { tokens: tokens.to_vec(), prompt };
        let texts = [
            text(&[0, 1, 2, 3], 1),
            text(&[0, 3, 0, 2], 2),
            text(&[1, 2], 1),
            text(&[0; 7], 1),
            text(&[0, 0, 0, 0, 0, 1], 5),
        ];
        let half = 0.5f64.ln();
        let sixth = (1.0f64 / 6.0).ln();
        let expected = [3.0 * half, half + sixth, half, f64::NEG_INFINITY, half];
        for batch in [1, 2, 8] {
            let found = log_probabilities(&mut Counting { last: Vec::new() }, &texts, batch);
            for (found, expected) in found.expect("scores").iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-6 || *found == expected,
                    "{found} {expected}"
                );
            }
        }
    }

    /// A likelihood that is not a number would sort anywhere.
    #[test]
    fn logits_that_are_not_finite_give_no_likelihood() {
        for logits in [[f32::NAN; 2], [0.0, f32::NAN], [f32::INFINITY, 0.0], [f32::NEG_INFINITY; 2]]
        {
            let error = log_probability(&logits, 0).expect_err("not finite");
            assert!(error.is::<UserError>() && error.to_string().contains("not finite"), "{error}");
        }
        assert_eq!(log_probability(&[0.0, f32::NEG_INFINITY], 0).expect("finite"), 0.0);
    }

    /// After a little training, graphs are likelier than with their names mixed up, whatever the batch;
    /// and training texts keep all attributes.
    #[test]
    fn trained_models_tell_how_likely_graphs_are() {
        let cloud = Cloud::new(&SimulatorConfig::default()).expect("default cloud");
        let graphs: Vec<CallGraph> = (0..60).map(|index| cloud.graph(1, index)).collect();
        let sides = vec![Side::Train; graphs.len()];
        let dataset = Dataset::new(DatasetCard::default(), graphs.clone(), sides);
        let table: toml::Table = "size = \"xs\"\ntokens = 12000\nbatch_tokens = 512\n\
            learning_rate = 5e-3\nwarmup_steps = 5\nsnapshots = [0.5]\nevaluate_every = 50"
            .parse()
            .expect("TOML");
        let some: Vec<&CallGraph> = graphs.iter().take(12).collect();
        for id in ["recursive-compact", "tabular-llm"] {
            assert!(has_likelihood(id));
            let recipe = recipe(id, &table).expect("settings");
            let (out, scratch) =
                (tempfile::tempdir().expect("out"), tempfile::tempdir().expect("s"));
            let context = FitContext {
                dataset: &dataset,
                seed: 1,
                device: DeviceChoice::Cpu,
                base: None,
                out: out.path(),
                scratch: scratch.path(),
                progress: Progress::Quiet,
            };
            let report = recipe.fit(&context).expect("fits");
            let of = |snapshot: Option<u64>, batch: usize| {
                let generator =
                    recipe.load(out.path(), snapshot, DeviceChoice::Cpu).expect("loads");
                generator.log_likelihoods(&some, batch).expect("scores").expect("a likelihood")
            };
            let (last, early) = (of(None, 1), of(Some(report.snapshots[0]), 3));
            assert_eq!(last, of(None, 5));
            assert_eq!(last, of(Some(report.tokens), 64));
            let finite = |values: &[f64]| values.iter().filter(|v| v.is_finite()).sum::<f64>();
            assert!(finite(&last) > finite(&early), "{id}: {last:?} {early:?}");
            assert!(last.iter().all(|value| *value < 0.0));
        }
        assert!(!has_likelihood("resample"));
    }

    #[test]
    fn every_attribute_is_in_the_prompt() {
        let graph = crate::testing::paper_example();
        let compact = Format::Compact { countdown: false };
        for format in [Format::Recursive, compact, Format::Instruction { notes: true }] {
            for step in steps(&graph) {
                let (prompt, _) = format.training_text(&step, &[], &mut FirstChoice);
                let full = format.prompt(&step.condition, &[]);
                assert_eq!(prompt.len(), full.len(), "{prompt}\n{full}");
            }
        }
        let prompt = tabular::training_prompt(&graph, &mut FirstChoice);
        assert!(["latency:8", "num_edges:7", "depth:3"].iter().all(|part| prompt.contains(part)));
    }
}
