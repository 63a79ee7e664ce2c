//! What learns from labelled examples: logistic regression, and the share of true examples by group.

use std::collections::BTreeMap;

use super::examples::{Example, Vocabulary};
use crate::evaluate::Joined;
use crate::evaluate::classifier::{Linear, Loss};

/// Penalties to choose from, the largest first.
const PENALTIES: [f64; 4] = [100.0, 10.0, 1.0, 0.1];
/// Of so many training graphs one validates the penalty: 8 : 1, as in the paper's 8 : 1 : 1, whose
/// last part is the real test graphs here.
const PARTS: usize = 9;
/// Examples of the average kind that each group is given, so that a rare group is not certain.
const PRIOR: f64 = 5.0;

/// A trained logistic regression. It says true where it finds an example more likely to be true than
/// a random training example is: the threshold at which both classes count alike.
pub struct Learner {
    vocabulary: Vocabulary,
    model: Model,
}

enum Model {
    /// With the log odds of a training example.
    Linear(Linear, f64),
    /// All training examples were of one class.
    Always(bool),
}

impl Learner {
    /// Learns from the examples of graphs. The L2 penalty is the one with the least loss on every
    /// ninth graph, the largest if those have no example; then all graphs are learnt from. `None`
    /// without examples.
    pub fn new(graphs: &[&[Example]]) -> Option<Self> {
        let all: Vec<&Example> = graphs.iter().copied().flatten().collect();
        let vocabulary = Vocabulary::new(&all);
        let labels = labels(&all);
        let hits = labels.iter().filter(|label| **label).count();
        let rows = vocabulary.rows(&all);
        let model = match Linear::fit(Loss::Logistic, &rows, &labels, penalty(graphs, &vocabulary))
        {
            Some(model) => Model::Linear(model, log_odds(hits as f64 / labels.len() as f64)),
            None => Model::Always(*labels.first()?),
        };
        Some(Self { vocabulary, model })
    }

    /// Above 0 for true.
    pub fn scores(&self, examples: &[&Example]) -> Vec<f64> {
        match &self.model {
            Model::Always(label) => always(*label, examples.len()),
            Model::Linear(model, usual) => {
                let rows = self.vocabulary.rows(examples);
                rows.iter().map(|row| model.score(row) - usual).collect()
            }
        }
    }
}

/// Scores of a model that knows one class.
pub fn always(label: bool, examples: usize) -> Vec<f64> {
    vec![if label { 1.0 } else { -1.0 }; examples]
}

fn penalty(graphs: &[&[Example]], vocabulary: &Vocabulary) -> f64 {
    let part = |validates: bool| -> Vec<&Example> {
        let indexed = graphs.iter().enumerate();
        let chosen = indexed.filter(|(index, _)| (index % PARTS == PARTS - 1) == validates);
        chosen.flat_map(|(_, examples)| *examples).collect()
    };
    let (fitting, validating) = (part(false), part(true));
    let (rows, known) = (vocabulary.rows(&fitting), labels(&fitting));
    let (unseen, truth) = (vocabulary.rows(&validating), labels(&validating));
    let mut best = (PENALTIES[0], f64::INFINITY);
    for l2 in PENALTIES {
        let Some(model) = Linear::fit(Loss::Logistic, &rows, &known, l2) else {
            break;
        };
        let costs = unseen.iter().zip(&truth).map(|(row, label)| {
            let score = model.score(row);
            Loss::Logistic.cost(if *label { score } else { -score })
        });
        let cost = costs.sum::<f64>();
        if cost < best.1 {
            best = (l2, cost);
        }
    }
    best.0
}

/// How much likelier than a random training example each test example is to be true by its group
/// alone. `None` without training examples.
pub fn group_scores(training: &[&Example], test: &[&Example]) -> Option<Vec<f64>> {
    if training.is_empty() {
        return None;
    }
    let mut groups: BTreeMap<&Joined, (f64, f64)> = BTreeMap::new();
    for example in training {
        let (hits, count) = groups.entry(&example.group).or_default();
        *hits += f64::from(u8::from(example.label));
        *count += 1.0;
    }
    let hits: f64 = groups.values().map(|(hits, _)| hits).sum();
    let usual = hits / training.len() as f64;
    let score = |example: &&Example| match groups.get(&example.group) {
        Some((hits, count)) => (hits + PRIOR * usual) / (count + PRIOR) - usual,
        None => 0.0,
    };
    Some(test.iter().map(score).collect())
}

pub fn labels(examples: &[&Example]) -> Vec<bool> {
    examples.iter().map(|example| example.label).collect()
}

fn log_odds(share: f64) -> f64 {
    (share / (1.0 - share)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::ranking::Ranking;

    /// True where the feature `a` outweighs `b`, but for every seventh.
    fn graphs(count: usize) -> Vec<Vec<Example>> {
        let example = |index: usize| {
            let (a, b) = ((index % 5) as f64, (index % 3) as f64);
            Example {
                features: vec![
                    ("a".into(), a),
                    ("b".into(), b),
                    (format!("rare={index}").as_str().into(), 1.0),
                ],
                group: format!("{}", index % 5).as_str().into(),
                label: (a > b) != index.is_multiple_of(7),
            }
        };
        (0..count).map(|index| vec![example(index)]).collect()
    }

    fn slices(graphs: &[Vec<Example>]) -> Vec<&[Example]> {
        graphs.iter().map(Vec::as_slice).collect()
    }

    #[test]
    fn learns_what_there_is_to_learn() {
        let graphs = graphs(400);
        let (known, new) = graphs.split_at(300);
        let learner = Learner::new(&slices(known)).expect("examples");
        let test: Vec<&Example> = new.iter().flatten().collect();
        let scores = learner.scores(&test);
        let right =
            scores.iter().zip(&test).filter(|(score, e)| (**score > 0.0) == e.label).count();
        assert!(right > 70, "{right}");
        assert!(Ranking::new(&scores).auc(&labels(&test), |_| 1.0) > 0.8);
    }

    #[test]
    fn one_class_is_always_named_and_none_teaches_nothing() {
        let mut graphs = graphs(20);
        graphs.iter_mut().flatten().for_each(|example| example.label = true);
        let learner = Learner::new(&slices(&graphs)).expect("examples");
        let test: Vec<&Example> = graphs.iter().flatten().collect();
        assert_eq!(learner.scores(&test), vec![1.0; 20]);
        assert!(Learner::new(&[]).is_none());
        assert!(Learner::new(&[&[]]).is_none());
    }

    #[test]
    fn rates_of_groups_by_hand() {
        let example =
            |group: &str, label| Example { features: Vec::new(), group: group.into(), label };
        let training =
            [example("a", true), example("a", true), example("b", false), example("b", true)];
        let training: Vec<&Example> = training.iter().collect();
        let test = [example("a", true), example("b", true), example("c", true)];
        let test: Vec<&Example> = test.iter().collect();
        let scores = group_scores(&training, &test).expect("training examples");
        assert_eq!(group_scores(&[], &test), None);
        // Three of four are true: (2 + 3.75) / 7, (1 + 3.75) / 7, and nothing known.
        for (score, expected) in scores.iter().zip([5.75 / 7.0, 4.75 / 7.0, 0.75]) {
            assert!((score + 0.75 - expected).abs() < 1e-12);
        }
    }
}
