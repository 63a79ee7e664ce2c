//! Probes (paper, figure 7): what a transformer that was trained on traces is worth for other tasks.
//!
//! A task asks questions about real graphs, in the recursive format, each with a short answer. The
//! trained network is tuned on questions about training graphs and asked about test graphs, beside
//! the same network without its training on traces, and beside simple models on the same
//! information. Nothing is generated, and nothing of the generator is changed: probes read its files.

mod in_context;
mod references;
mod tasks;
#[cfg(test)]
mod tests;
mod tune;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize, Serializer};

pub use self::references::Reference;
pub use self::tasks::{Sample, Samples, Task, draw};
pub use self::tune::{Start, Tuning};
use super::family::no_columns;
use crate::check::{each_once, within};
use crate::data::Dataset;
use crate::device::DeviceChoice;
use crate::error::UserError;
use crate::evaluate::{Dimensions, Family, Metric, PromptScores, Record, Report, WHOLE};
use crate::generators::{self, FitReport};
use crate::progress::Progress;
use crate::report::figure::{Axis, Bars, COLUMN};
use crate::report::{Entry, ReportFiles, Results};
use crate::version::Version;

/// Share of questions about test graphs that are answered exactly.
///
/// Range 0 to 1, higher is better; Wilson interval, in tables of all questions a bootstrap over seeds and
/// services. Cells: `task=T`, and parts of it: by the true
/// answer (`later`), by the attribute that is missing (`attribute`). Source: paper, figure 7.
/// Pitfalls: chance is ½ for `later`, whose classes are balanced, and whatever the most frequent
/// answer reaches for the others, so read it beside the references; several questions may be about
/// one graph, and graphs of one service resemble each other, so intervals are narrower than those of
/// as many independent questions would be.
pub const ACCURACY: &Metric =
    &Metric::fraction("probe-accuracy/1", "right answers").higher().wilson();

/// The family of probes: networks tuned for other tasks.
pub const FAMILY: Family = Family {
    id: "probes",
    version: Version::new("probes", 3),
    metrics: &[ACCURACY],
    score: None,
    references: None,
    has_perfect_generator: false,
    reads_likelihoods: false,
    reports: &[Report {
        id: "probes",
        draw: report,
        compared: &[("right answers", ACCURACY)],
        columns: no_columns,
        claims: &[
            "fig7-later-trained",
            "fig7-later-untrained",
            "fig7-later-in-context",
            "fig7-attribute-trained",
            "fig7-attribute-trained-above-untrained",
            "fig7-call-trained",
            "fig7-call-untrained",
            "fig7-call-in-context",
        ],
    }],
};

/// A probe as experiments describe it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    pub task: Task,
    /// Questions about training graphs, at most.
    pub train: usize,
    /// Questions about test graphs, at most.
    pub test: usize,
    pub methods: Vec<Method>,
    /// Questions about test graphs for [`Method::InContext`], at most: the first of those that the others
    /// are asked, as such models are large and slow.
    #[serde(default = "Probe::default_in_context")]
    pub in_context: usize,
    #[serde(default)]
    pub tuning: Tuning,
}

/// Who answers the questions of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The network that was trained on traces, all of whose weights are tuned.
    Pretrained,
    /// The same, tuned by low-rank adapters.
    PretrainedLora,
    /// The same network from random weights: same vocabulary, same questions, same budget.
    Untrained,
    /// A large model that was never trained on traces and sees a few questions with their answers.
    InContext,
    /// The most frequent answer to questions of the kind.
    Majority,
    /// The most frequent answer in the most specific situation that was seen, from the same
    /// questions.
    Counts,
    /// The same from all questions that training graphs give: what the trained network has seen.
    CountsAll,
    /// The most frequent answer among the nearest questions.
    Nearest,
    /// Logistic regression on the bag of calls; for yes and no.
    Logistic,
}

/// What a method works with.
enum Player {
    Network(Start),
    InContext,
    Reference(Reference),
}

/// Generators whose networks are tuned: questions are written in their format.
const TUNED: [&str; 2] = ["recursive-llm", "recursive-instruction-llm"];

impl Method {
    /// Name in manifests, and of rows.
    pub fn id(self) -> &'static str {
        match self {
            Self::Pretrained => "pretrained",
            Self::PretrainedLora => "pretrained-lora",
            Self::Untrained => "untrained",
            Self::InContext => "in-context",
            Self::Majority => "majority",
            Self::Counts => "counts",
            Self::CountsAll => "counts-all",
            Self::Nearest => "nearest",
            Self::Logistic => "logistic",
        }
    }

    /// What tables call it; `network` is the label of the network's baseline.
    pub fn label(self, network: &str) -> String {
        match self {
            Self::Pretrained => format!("{network} (tuned)"),
            Self::PretrainedLora => format!("{network} (tuned by LoRA)"),
            Self::Untrained => format!("{network} (untrained)"),
            Self::InContext => network.to_owned(),
            Self::Majority => "Most frequent answer".to_owned(),
            Self::Counts => "Counts with back-off".to_owned(),
            Self::CountsAll => "Counts (all training graphs)".to_owned(),
            Self::Nearest => format!("{} nearest neighbours", references::NEIGHBOURS),
            Self::Logistic => "Logistic regression".to_owned(),
        }
    }

    /// Whether it needs the files of a trained network: weights, or at least shape and vocabulary.
    pub fn is_network(self) -> bool {
        matches!(self.player(), Player::Network(_))
    }

    /// The generators whose baselines it takes its model from; `None` where it has one of its own.
    pub fn generators(self) -> Option<&'static [&'static str]> {
        match self.player() {
            Player::Network(_) => Some(&TUNED),
            Player::InContext => Some(&[generators::in_context::ID]),
            Player::Reference(_) => None,
        }
    }

    fn player(self) -> Player {
        match self {
            Self::Pretrained => Player::Network(Start::Pretrained),
            Self::PretrainedLora => Player::Network(Start::PretrainedLora),
            Self::Untrained => Player::Network(Start::Random),
            Self::InContext => Player::InContext,
            Self::Majority => Player::Reference(Reference::Majority),
            Self::Counts => Player::Reference(Reference::Counts),
            Self::CountsAll => Player::Reference(Reference::CountsAll),
            Self::Nearest => Player::Reference(Reference::Nearest),
            Self::Logistic => Player::Reference(Reference::Logistic),
        }
    }
}

/// Most questions of a kind.
const MAX_QUESTIONS: usize = 10_000_000;

impl Probe {
    fn default_in_context() -> usize {
        50
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// A setting that cannot be, with its value and the remedy.
    pub fn check(&self) -> Result<(), UserError> {
        let wrong = |message: String| Err(UserError::setting(message));
        if self.methods.is_empty() {
            return wrong("probe: `methods` is empty: name at least one".to_owned());
        }
        if self.train < 2 || self.test == 0 {
            let (train, test) = (self.train, self.test);
            return wrong(format!("probe: train {train} and test {test}: use at least 2 and 1"));
        }
        let of_probe = |message| UserError::setting(format!("probe: {message}"));
        let numbers = [("train", self.train), ("test", self.test), ("in_context", self.in_context)];
        for (key, questions) in numbers {
            within(key, questions, 1..=MAX_QUESTIONS).map_err(of_probe)?;
        }
        let methods: Vec<&str> = self.methods.iter().map(|method| method.id()).collect();
        each_once("methods", &methods).map_err(of_probe)?;
        if self.methods.contains(&Method::Logistic) && self.task.choices().is_none() {
            let task = self.task.id();
            return wrong(format!(
                "probe: method `logistic` answers yes or no, task `{task}` does not"
            ));
        }
        self.tuning.check()
    }
}

/// What answering may use.
pub struct Context<'a> {
    pub dataset: &'a Dataset,
    /// Folder of the trained network, for the methods that need one.
    pub model: Option<&'a Path>,
    /// Settings of the baseline of [`Method::InContext`].
    pub in_context: Option<&'a toml::Table>,
    pub seed: u64,
    pub device: DeviceChoice,
    /// Survives an interruption: checkpoints, and the tuned network.
    pub scratch: &'a Path,
    /// Where the training log goes.
    pub out: &'a Path,
    /// Questions worked on at once; does not change the answers.
    pub batch: usize,
    pub progress: Progress,
}

/// One question about a test graph and what was answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answered {
    /// What was asked.
    #[serde(serialize_with = "as_text")]
    pub about: Dimensions,
    pub right: String,
    /// Empty where nothing was understood.
    pub answered: String,
}

/// For readers of `answers.csv`, which nothing else reads.
fn as_text<S: Serializer>(about: &Dimensions, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(about)
}

/// What came of a method.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub records: Vec<Record>,
    /// Whether each question was answered right.
    pub of_prompts: PromptScores,
    pub answers: Vec<Answered>,
    pub fit: FitReport,
}

/// Lets one method learn from questions about training graphs and answer those about test graphs.
///
/// # Errors
/// A dataset that gives no questions, files of the network that are missing or damaged, a training
/// that fails.
pub fn run(
    task: Task,
    (train, test): (usize, usize),
    method: Method,
    tuning: &Tuning,
    context: &Context,
) -> Result<Outcome> {
    let samples = draw(task, context.dataset, (train, test), context.seed)?;
    let (answers, mut fit) = match method.player() {
        Player::Network(start) => tune::answers(start, &samples, tuning, context)?,
        Player::InContext => {
            let Some(settings) = context.in_context else {
                anyhow::bail!("a model is to be asked, and none is named");
            };
            in_context::answers(&samples, settings, context)?
        }
        Player::Reference(reference) => {
            let all = match reference {
                Reference::CountsAll => Some(tasks::all(task, context.dataset, context.seed)?),
                _ => None,
            };
            references::answers(reference, all.as_ref().unwrap_or(&samples.train), &samples.test)
        }
    };
    if method != Method::InContext {
        let learnt = samples.train.len().to_string();
        fit.notes.insert(0, ("training questions".to_owned(), learnt));
    }
    let answers: Vec<Answered> = samples
        .test
        .iter()
        .zip(answers)
        .map(|(sample, answered)| Answered {
            about: sample.dimensions(),
            right: sample.answer(),
            answered: answered.unwrap_or_default(),
        })
        .collect();
    // The methods of an experiment are asked the same questions in the same order.
    let numbers = (0..).take(answers.len()).collect();
    let services = samples.test.iter().take(answers.len()).map(Sample::service).collect();
    let mut of_prompts = PromptScores::of(numbers, services);
    let right = |answer: &Answered| f64::from(u8::from(answer.right == answer.answered));
    of_prompts.add(ACCURACY, answers.iter().map(right).collect());
    Ok(Outcome { records: records(task, &answers), of_prompts, answers, fit })
}

/// Accuracy of the whole, then of its parts in order.
fn records(task: Task, answers: &[Answered]) -> Vec<Record> {
    let whole = WHOLE.task(task.id());
    let parts: BTreeSet<&Dimensions> =
        answers.iter().map(|answer| &answer.about).filter(|about| **about != whole).collect();
    let record = |about: &Dimensions| {
        let inside = || answers.iter().filter(|a| *about == whole || a.about == *about);
        let hits = inside().filter(|answer| answer.right == answer.answered).count();
        Record::share(ACCURACY, about.clone(), hits as u64, inside().count() as u64)
    };
    std::iter::once(&whole).chain(parts).map(record).collect()
}

const VARIANTS: &str = "Fraction of questions about test graphs that are answered exactly. Tuned: the network that was trained on traces, tuned on questions about training graphs; untrained: the same network from random weights, with the same vocabulary, questions and number of tokens. The other rows know the same questions and have no network, but `all training graphs`, which has counted every question that training graphs give.";

fn report(results: &Results) -> ReportFiles {
    let entries = entries(results);
    let mut table = results.table("Answers to questions", &[], &entries);
    table.notes.insert(0, VARIANTS.to_owned());
    let axis = |_: &Bars| Axis::share("accuracy (%)");
    let panel = results.panel("", axis, &[], &entries[..1]);
    let mut files = ReportFiles::default();
    files.table("probes", table);
    files.figure("probes", results.figure("Answers to questions", vec![panel], COLUMN, 320.0, ""));
    files
}

/// The whole, then its parts.
fn entries(results: &Results) -> Vec<Entry> {
    let mut parts = results.dimensions(ACCURACY);
    if parts.is_empty() {
        // Failed variants need a column for the reason.
        parts.push(WHOLE);
    }
    let entry = |about: Dimensions| {
        let heading = match (&about.answer, &about.attribute) {
            (Some(answer), _) => format!("answer {answer}"),
            (None, Some(attribute)) => format!("attribute {attribute}"),
            (None, None) => "accuracy".to_owned(),
        };
        Entry::new(heading, ACCURACY, about)
    };
    parts.into_iter().map(entry).collect()
}
