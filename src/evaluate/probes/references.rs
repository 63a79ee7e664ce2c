//! Simple models on the same information: what a network's accuracy has to be read beside.

use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;

use super::tasks::Sample;
use crate::evaluate::Joined;
use crate::evaluate::classifier::{Linear, Loss, Rows};
use crate::generators::FitReport;

/// A model without a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    Majority,
    Counts,
    /// [`Reference::Counts`] on all questions that training graphs give.
    CountsAll,
    Nearest,
    Logistic,
}

/// Neighbours that vote.
pub const NEIGHBOURS: usize = 5;
/// Penalty of the logistic regression: scikit-learn's default.
const L2: f64 = 1.0;

/// What `reference`, having learnt from `train`, answers to each of `test`.
pub fn answers(
    reference: Reference,
    train: &[Sample],
    test: &[Sample],
) -> (Vec<Option<String>>, FitReport) {
    let (answers, parameters) = match reference {
        Reference::Majority => Counts::new(train, Some(1)).answers(test),
        Reference::Counts | Reference::CountsAll => Counts::new(train, None).answers(test),
        Reference::Nearest => Neighbours::new(train).answers(test),
        Reference::Logistic => logistic(train, test),
    };
    let notes = match reference {
        Reference::CountsAll => vec![("questions counted".to_owned(), train.len().to_string())],
        _ => Vec::new(),
    };
    (answers, FitReport { parameters, notes, ..FitReport::default() })
}

/// How often each answer was given.
type Votes = BTreeMap<String, f64>;

/// The answer with most votes, of equal ones the first in alphabetical order.
fn winner(votes: &Votes) -> Option<String> {
    let mut best: Option<(&String, f64)> = None;
    for (answer, votes) in votes {
        if best.is_none_or(|(_, most)| *votes > most) {
            best = Some((answer, *votes));
        }
    }
    best.map(|(answer, _)| answer.clone())
}

/// Answers by situation ([`Sample::situations`]); the most specific one that was seen decides.
struct Counts {
    /// How many of the situations count, from the last.
    last: Option<usize>,
    /// By level from the last, and situation.
    seen: HashMap<(usize, Joined), Votes>,
}

impl Counts {
    fn new(samples: &[Sample], last: Option<usize>) -> Self {
        let mut counts = Self { last, seen: HashMap::new() };
        for sample in samples {
            for situation in counts.situations(sample) {
                let votes = counts.seen.entry(situation).or_default();
                *votes.entry(sample.answer()).or_default() += 1.0;
            }
        }
        counts
    }

    /// The situations that count, the most specific first.
    fn situations(&self, sample: &Sample) -> Vec<(usize, Joined)> {
        let all = sample.situations();
        let skipped = self.last.map_or(0, |last| all.len().saturating_sub(last));
        let levels = (1..=all.len()).rev();
        levels.zip(all).skip(skipped).collect()
    }

    fn answers(&self, samples: &[Sample]) -> (Vec<Option<String>>, u64) {
        let answer = |sample: &Sample| {
            let known = self.situations(sample).into_iter().find_map(|s| self.seen.get(&s));
            known.and_then(winner)
        };
        let parameters = self.seen.values().map(|votes| votes.len() as u64).sum();
        (samples.iter().map(answer).collect(), parameters)
    }
}

/// The training questions of each kind, as sets of words.
struct Neighbours {
    words: HashMap<(Joined, u32), u32>,
    /// By kind of question: words, ascending, and the answer.
    known: BTreeMap<Joined, Vec<(Vec<u32>, String)>>,
    questions: u64,
}

impl Neighbours {
    fn new(samples: &[Sample]) -> Self {
        let mut neighbours =
            Self { words: HashMap::new(), known: BTreeMap::new(), questions: samples.len() as u64 };
        for sample in samples {
            let words = numbered(sample).map(|word| {
                let next = neighbours.words.len() as u32;
                *neighbours.words.entry(word).or_insert(next)
            });
            let mut words: Vec<u32> = words.collect();
            words.sort_unstable();
            let of_kind = neighbours.known.entry(kind(sample)).or_default();
            of_kind.push((words, sample.answer()));
        }
        neighbours
    }

    fn answers(&self, samples: &[Sample]) -> (Vec<Option<String>>, u64) {
        // In the order of the samples, whatever the threads.
        (samples.par_iter().map(|sample| self.answer(sample)).collect(), self.questions)
    }

    /// The most similar questions by the share of common words (Jaccard), of equal ones the first;
    /// each votes with its similarity, so that ties are rare.
    fn answer(&self, sample: &Sample) -> Option<String> {
        let known = self.known.get(&kind(sample))?;
        let all: Vec<(Joined, u32)> = numbered(sample).collect();
        let mut words: Vec<u32> = all.iter().filter_map(|w| self.words.get(w).copied()).collect();
        words.sort_unstable();
        let similarity = |other: &[u32]| {
            let common = common(&words, other);
            common as f64 / (all.len() + other.len() - common).max(1) as f64
        };
        let mut nearest: Vec<(f64, usize)> = known
            .iter()
            .enumerate()
            .map(|(index, (words, _))| (similarity(words), index))
            .collect();
        nearest.sort_unstable_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
        let mut votes = Votes::new();
        for (similarity, index) in nearest.into_iter().take(NEIGHBOURS) {
            // A question with nothing in common still has a say, if a small one.
            *votes.entry(known[index].1.clone()).or_default() += similarity + 1e-9;
        }
        winner(&votes)
    }
}

/// What a question is about, without anything of its graph.
fn kind(sample: &Sample) -> Joined {
    sample.situations().pop().unwrap_or_default()
}

/// Words of the bag, each with its number among equal ones: a bag as a set.
fn numbered(sample: &Sample) -> impl Iterator<Item = (Joined, u32)> {
    let mut last: Option<(Joined, u32)> = None;
    sample.bag().into_iter().map(move |word| {
        let number = match &last {
            Some((previous, number)) if *previous == word => number + 1,
            _ => 0,
        };
        last = Some((word.clone(), number));
        (word, number)
    })
}

/// How many numbers two ascending lists share.
fn common(one: &[u32], other: &[u32]) -> usize {
    let (mut i, mut j, mut count) = (0, 0, 0);
    while i < one.len() && j < other.len() {
        match one[i].cmp(&other[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => (i, j, count) = (i + 1, j + 1, count + 1),
        }
    }
    count
}

/// Of two answers the likelier by the counts of the bag's words; where only one was ever given, that.
fn logistic(train: &[Sample], test: &[Sample]) -> (Vec<Option<String>>, u64) {
    let first = train.first().map(Sample::answer);
    let other = train.iter().map(Sample::answer).find(|answer| first.as_ref() != Some(answer));
    let mut columns: HashMap<Joined, u32> = HashMap::new();
    for word in train.iter().flat_map(Sample::bag) {
        let next = columns.len() as u32;
        columns.entry(word).or_insert(next);
    }
    let row = |sample: &Sample| -> Vec<(u32, f64)> {
        let known = sample.bag().into_iter().filter_map(|word| columns.get(&word).copied());
        let mut counts: BTreeMap<u32, f64> = BTreeMap::new();
        known.for_each(|column| *counts.entry(column).or_default() += 1.0);
        counts.into_iter().collect()
    };
    let mut rows = Rows::new(columns.len());
    train.iter().for_each(|sample| rows.push(row(sample)));
    let labels: Vec<bool> = train.iter().map(|s| Some(s.answer()) == first).collect();
    let model = Linear::fit(Loss::Logistic, &rows, &labels, L2);
    let answer = |sample: &Sample| match &model {
        Some(model) if model.score(&row(sample)) <= 0.0 => other.clone(),
        _ => first.clone(),
    };
    (test.iter().map(answer).collect(), columns.len() as u64 + 1)
}
