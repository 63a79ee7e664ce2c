//! How right a model is on real test examples, with intervals, and how much less than a model that
//! real graphs have trained.

use crate::evaluate::ranking::Ranking;
use crate::evaluate::{Dimensions, Estimate, Groups, Interval, Metric, Record, bootstrap};

/// Share of the test examples whose class the model finds. Range 0 to 1, higher is better; interval
/// by bootstrap over clusters of examples (services; for critical components windows of traces).
///
/// Pitfall: classes are unbalanced, and always naming the larger one may score high. Read it beside
/// the reference row `majority class`, or read [`BALANCED_ACCURACY`].
pub const ACCURACY: &Metric =
    &Metric::fraction("downstream-accuracy/1", "accuracy of the task").higher().bootstrap();

/// Mean over the two classes of the share that the model finds: the accuracy on test examples of
/// which half are true, without throwing any away. Range 0 to 1, higher is better; 0.5 for a model
/// that knows nothing, whatever the classes' sizes. NaN if the test examples lack a class or the
/// model had no training example. Interval as for [`ACCURACY`].
pub const BALANCED_ACCURACY: &Metric =
    &Metric::fraction("downstream-balanced-accuracy/1", "balanced accuracy of the task")
        .higher()
        .bootstrap();

/// Harmonic mean of precision and recall of the true class, 0 where the model never finds it. Range
/// 0 to 1, higher is better. Interval as for [`ACCURACY`].
///
/// Pitfall: depends on how rare the true class is, so it compares variants, not tasks.
pub const F1: &Metric = &Metric::fraction("downstream-f1/1", "F1 of the task").higher().bootstrap();

/// Area under the ROC curve: probability that a random true test example gets a higher score than a
/// random false one, ties counting half. Range 0 to 1, higher is better, 0.5 for chance. It needs no
/// threshold, so a variant whose classes have other sizes than the real ones is not blamed for that.
/// Interval as for [`ACCURACY`].
///
/// Where models are cross-fitted, pairs are taken within folds: scores of different models need not
/// be on one scale. Reference rows are ranked within the same folds. NaN without a pair.
pub const AUC: &Metric = &Metric::plain("downstream-auc/2", "AUC of the task").higher().bootstrap();

/// [`BALANCED_ACCURACY`] of the model minus that of the same model trained on real training graphs,
/// in points (hundredths); as many as each model had prompts: all of them for critical components, four
/// fifths where models are cross-fitted. Range −100 to 100, higher is better; negative: generated
/// graphs taught less.
/// The interval is paired: both models are scored on the same resamples of the test examples. It
/// does not contain the uncertainty of the training samples, which the difference over seeds shows.
pub const GAP: &Metric =
    &Metric::points("downstream-gap/1", "balanced accuracy against real training graphs")
        .higher()
        .bootstrap();

/// As [`GAP`], for [`ACCURACY`]: the number that the paper gives for figure 5. Same range.
pub const ACCURACY_GAP: &Metric =
    &Metric::points("downstream-accuracy-gap/1", "accuracy against real training graphs")
        .higher()
        .bootstrap();

/// Share of the training examples that are true; the count is their number. Compare it with the
/// reference row of real graphs: a variant with a share of 0 or 1 has nothing to tell apart, and its
/// model names that class always.
pub const TRAINING: &Metric = &Metric::fraction("downstream-training/1", "true training examples");

/// Real test examples.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub labels: Vec<bool>,
    /// Which examples resemble each other and are drawn together.
    pub clusters: Vec<u32>,
    pub num_clusters: usize,
    /// Which model scores each example, where models are cross-fitted; empty for a single one.
    pub folds: Vec<usize>,
    /// Graphs behind the examples.
    pub graphs: u64,
}

/// Scores of the test examples by a trained model, above 0 for true; one list for each of several
/// fits, whose measures are averaged. No list if there was nothing to learn from.
pub type Scores = [Vec<f64>];

const MEASURES: [&Metric; 4] = [BALANCED_ACCURACY, ACCURACY, F1, AUC];

impl Truth {
    /// The measures of a model in `cell`.
    pub fn records(&self, about: &Dimensions, scores: &Scores, seed: u64) -> Vec<Record> {
        let measure = self.measure(scores);
        let groups = Groups::numbered(seed, self.num_clusters);
        let values = bootstrap(groups, |drawn| measure(drawn).to_vec());
        MEASURES.into_iter().zip(values).map(|(metric, v)| self.record(metric, about, v)).collect()
    }

    /// How much better the model is than `real`.
    pub fn gaps(
        &self,
        about: &Dimensions,
        scores: &Scores,
        real: &Scores,
        seed: u64,
    ) -> Vec<Record> {
        let (ours, theirs) = (self.measure(scores), self.measure(real));
        let values = bootstrap(Groups::numbered(seed, self.num_clusters), |drawn| {
            let (ours, theirs) = (ours(drawn), theirs(drawn));
            vec![100.0 * (ours[0] - theirs[0]), 100.0 * (ours[1] - theirs[1])]
        });
        let metrics = [GAP, ACCURACY_GAP].into_iter().zip(values);
        metrics.map(|(metric, value)| self.record(metric, about, value)).collect()
    }

    fn record(&self, metric: &'static Metric, about: &Dimensions, estimate: Estimate) -> Record {
        let estimate = if estimate.value.is_nan() { Estimate::NONE } else { estimate };
        Record::estimated(metric, about.clone(), estimate, self.graphs)
    }

    /// The four measures, with each cluster as often as it was drawn.
    fn measure(&self, scores: &Scores) -> impl Fn(&[u32]) -> [f64; 4] + Sync {
        let fits: Vec<(Vec<bool>, Ranking)> = scores
            .iter()
            .map(|scores| (scores.iter().map(|score| *score > 0.0).collect(), Ranking::new(scores)))
            .collect();
        move |drawn| {
            let mut sums = [0.0; 4];
            for (guesses, ranking) in &fits {
                let weight = |index: usize| f64::from(drawn[self.clusters[index] as usize]);
                let auc = self.auc(ranking, weight);
                let [balanced, accuracy, f1] = self.confusion(guesses, weight);
                for (sum, value) in sums.iter_mut().zip([balanced, accuracy, f1, auc]) {
                    *sum += value;
                }
            }
            sums.map(|sum| sum / fits.len() as f64)
        }
    }

    /// The probability that a true example of a fold scores above a false one of the same fold.
    fn auc(&self, ranking: &Ranking, weight: impl Fn(usize) -> f64) -> f64 {
        if self.folds.is_empty() {
            ranking.auc(&self.labels, weight)
        } else {
            ranking.areas_within(&self.folds, &self.labels, weight).roc
        }
    }

    fn confusion(&self, guesses: &[bool], weight: impl Fn(usize) -> f64) -> [f64; 3] {
        // By label, then by guess.
        let mut counts = [[0.0; 2]; 2];
        for (index, (label, guess)) in self.labels.iter().zip(guesses).enumerate() {
            counts[usize::from(*label)][usize::from(*guess)] += weight(index);
        }
        let [[rejected, alarms], [missed, found]] = counts;
        let balanced = (found / (found + missed) + rejected / (rejected + alarms)) / 2.0;
        let accuracy = (found + rejected) / (found + missed + rejected + alarms);
        // Without a true example there is nothing to find.
        let f1 = if found + missed > 0.0 {
            2.0 * found / (2.0 * found + missed + alarms)
        } else {
            f64::NAN
        };
        [balanced, accuracy, f1]
    }
}

/// What a model was trained on.
pub fn training_record(about: Dimensions, labels: impl Iterator<Item = bool>) -> Record {
    let (hits, count) =
        labels.fold((0, 0), |(hits, count), label| (hits + u64::from(label), count + 1));
    let share = hits as f64 / count as f64;
    Record::new(TRAINING, about, share, Interval::NONE, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::WHOLE;
    use crate::evaluate::tests::find;

    /// Scores of scikit-learn 1.9.1: tests/reference/classifier.py, "confusion".
    #[test]
    fn measures_are_those_of_scikit_learn() {
        let truth = truth();
        let scores: Vec<f64> = (0..40).map(|row| f64::from((row * 11) % 17) - 9.0).collect();
        let records = truth.records(&WHOLE, &[scores], 1);
        for (metric, expected) in MEASURES.into_iter().zip(SCIKIT_LEARN) {
            let record = find(&records, metric, "");
            assert!((record.value - expected).abs() < 1e-12, "{record:?}");
            assert!(record.low <= record.value && record.value <= record.high, "{record:?}");
        }
    }

    const SCIKIT_LEARN: [f64; 4] =
        [0.434_523_809_523_809_53, 0.475, 0.275_862_068_965_517_26, 0.369_047_619_047_619];

    fn truth() -> Truth {
        Truth {
            labels: (0..40).map(|row| (row * 7) % 10 > 6).collect(),
            clusters: (0..40).map(|row| row % 13).collect(),
            num_clusters: 13,
            folds: Vec::new(),
            graphs: 40,
        }
    }

    #[test]
    fn fits_are_averaged_and_gaps_are_in_points() {
        let truth = truth();
        let right: Vec<f64> =
            truth.labels.iter().map(|label| if *label { 1.0 } else { -1.0 }).collect();
        let never = vec![-1.0; 40];
        let both = truth.records(&WHOLE.task("x"), &[right.clone(), never.clone()], 1);
        // A perfect fit and one that never says true: 12 of 40 are true.
        assert_eq!(find(&both, BALANCED_ACCURACY, "task=x").value, 0.75);
        assert!((find(&both, ACCURACY, "task=x").value - 0.85).abs() < 1e-12);
        assert_eq!(find(&both, F1, "task=x").value, 0.5);
        assert_eq!(find(&both, AUC, "task=x").value, 0.75);
        let gaps = truth.gaps(&WHOLE, &[never], &[right], 1);
        let gap = find(&gaps, GAP, "");
        assert_eq!((gap.value, gap.low, gap.high), (-50.0, -50.0, -50.0));
        assert!((find(&gaps, ACCURACY_GAP, "").value + 30.0).abs() < 1e-9);
    }

    /// Two models that are right on an example of each class of their own fold, on other scales:
    /// pooled, one in four pairs would be in the wrong order.
    #[test]
    fn scores_of_different_models_are_not_ranked_together() {
        let truth = Truth {
            labels: vec![true, false, true, false, false],
            clusters: (0..5).collect(),
            num_clusters: 5,
            folds: vec![0, 0, 1, 1, 1],
            graphs: 5,
        };
        let auc =
            |scores: [f64; 5]| find(&truth.records(&WHOLE, &[scores.to_vec()], 1), AUC, "").value;
        assert_eq!(auc([9.0, 8.0, 2.0, 1.0, 1.0]), 1.0);
        // One of the three pairs within folds is wrong, in another fold a tie.
        assert_eq!(auc([9.0, 8.0, 2.0, 3.0, 1.0]), 2.0 / 3.0);
        assert_eq!(auc([9.0, 8.0, 2.0, 3.0, 2.0]), 1.5 / 3.0);
        let lonely = Truth { folds: vec![0, 1, 2, 3, 4], ..truth };
        let records = lonely.records(&WHOLE, &[vec![1.0; 5]], 1);
        assert!(find(&records, AUC, "").value.is_nan());
    }

    #[test]
    fn nothing_to_measure_is_not_a_number() {
        let none = truth().records(&WHOLE, &[], 1);
        assert!(none.iter().all(|record| record.value.is_nan() && record.low.is_nan()));
        let empty = Truth::default().records(&WHOLE, &[Vec::new()], 1);
        assert!(empty.iter().all(|record| record.value.is_nan() && record.count == 0));
        assert_eq!(training_record(WHOLE, [true, false].into_iter()).value, 0.5);
        assert!(training_record(WHOLE, std::iter::empty()).value.is_nan());
    }
}
