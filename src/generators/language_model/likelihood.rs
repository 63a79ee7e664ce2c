//! How likely a trained language model finds a graph: the probability of its texts.

use std::collections::VecDeque;
use std::convert::Infallible;

use anyhow::{Context, Result, ensure};
use rand::TryRng;

use super::corpus::Writing;
use crate::error::UserError;
use crate::graph::{CallGraph, steps};
use crate::model::decode::{CachedModel, Feed, NotFinite};
use crate::text::{FieldOrder, Tokenizer, tabular};

/// A prompt and its answer, as tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    tokens: Vec<u32>,
    /// Tokens of the prompt.
    prompt: usize,
}

/// The texts of each graph. Of the many orders in which attributes and fields can be written, one and the
/// same is taken for all graphs.
pub fn texts(
    writing: Writing,
    order: FieldOrder,
    graphs: &[&CallGraph],
    tokenizer: &Tokenizer,
) -> Result<Vec<Vec<Text>>> {
    graphs.iter().map(|graph| texts_of(writing, order, graph, tokenizer)).collect()
}

/// For each graph the sum over its layers (a table is one text) of log p(answer | prompt), where answers
/// include intermediate instructions, and end. A graph with a text of more than `context` tokens has
/// probability 0: decoding would never finish it.
pub fn of_graphs(
    model: &mut dyn CachedModel,
    texts: &[Vec<Text>],
    context: usize,
    batch: usize,
) -> Result<Vec<f64>> {
    let all: Vec<&Text> = texts.iter().flatten().collect();
    let of_texts = log_probabilities(model, &all, context, batch)?;
    let mut rest = &of_texts[..];
    let sums = texts.iter().map(|texts| {
        let (own, others) = rest.split_at(texts.len());
        rest = others;
        own.iter().sum()
    });
    Ok(sums.collect())
}

fn texts_of(
    writing: Writing,
    order: FieldOrder,
    graph: &CallGraph,
    tokenizer: &Tokenizer,
) -> Result<Vec<Text>> {
    let rng = &mut FirstChoice;
    let texts: Vec<(String, String)> = match writing {
        Writing::Layers(format) => {
            steps(graph).iter().map(|step| format.training_text(step, &[], order, rng)).collect()
        }
        Writing::Graphs => vec![tabular::training_text(graph, order, rng)],
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
    texts: &[&Text],
    context: usize,
    batch: usize,
) -> Result<Vec<f64>> {
    let vocabulary = model.vocabulary();
    let mut sums = vec![0.0; texts.len()];
    let mut waiting = VecDeque::new();
    for (index, text) in texts.iter().enumerate() {
        if text.tokens.len() <= context {
            waiting.push_back(index)
        } else {
            sums[index] = f64::NEG_INFINITY
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
    if most.is_finite() && !log_probability.is_nan() {
        Ok(log_probability)
    } else {
        Err(UserError::setting(NotFinite.to_string()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::simulator::{Cloud, SimulatorConfig};
    use crate::data::{Dataset, DatasetCard, Side};
    use crate::device::DeviceChoice;
    use crate::generators::{FitContext, has_likelihood, recipe};
    use crate::progress::Progress;
    use crate::text::Format;

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
            let model = &mut Counting { last: Vec::new() };
            let found = log_probabilities(model, &texts.each_ref(), 6, batch);
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
            learning_rate = 5e-3\nwarmup_steps = 5\ncheckpoints = [0.5]\nevaluate_every = 50"
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
            let of = |checkpoint: Option<u64>, batch: usize| {
                let generator =
                    recipe.load(out.path(), checkpoint, DeviceChoice::Cpu).expect("loads");
                generator.log_likelihoods(&some, batch).expect("scores").expect("a likelihood")
            };
            let (last, early) = (of(None, 1), of(Some(report.checkpoints[0]), 3));
            assert_eq!(last, of(None, 5));
            assert_eq!(last, of(Some(report.tokens), 64));
            let finite = |values: &[f64]| values.iter().filter(|v| v.is_finite()).sum::<f64>();
            assert!(finite(&last) > finite(&early), "{id}: {last:?} {early:?}");
            assert!(last.iter().all(|value| *value < 0.0));
        }
        assert!(!has_likelihood("training-set-copy"));
    }

    #[test]
    fn every_attribute_is_in_the_prompt() {
        let graph = crate::testing::paper_example();
        let compact = Format::Compact { remaining_counts: false };
        for format in [Format::Recursive, compact, Format::Instruction { notes: true }] {
            for step in steps(&graph) {
                let (prompt, _) =
                    format.training_text(&step, &[], FieldOrder::Shuffled, &mut FirstChoice);
                let full = format.prompt(&step.condition, None, &[], &mut FirstChoice);
                assert_eq!(prompt.len(), full.len(), "{prompt}\n{full}");
            }
        }
        let prompt = tabular::training_prompt(&graph, &mut FirstChoice);
        assert!(["latency:8", "num_edges:7", "depth:3"].iter().all(|part| prompt.contains(part)));
    }
}
