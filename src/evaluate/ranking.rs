//! How well a score ranks true rows above false ones, when rows count with weights.

/// Rows by descending score, sorted once, so that each resample of a bootstrap is one pass.
#[derive(Clone, Debug)]
pub struct Ranking {
    order: Vec<u32>,
    /// Where each run of equal scores ends in `order`.
    ends: Vec<usize>,
}

/// Areas under two curves; NaN where true or false rows have no weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Areas {
    /// Under the ROC curve: the probability that a true row scores above a false one, ties counting
    /// half.
    pub roc: f64,
    /// Average precision: Σ (recallₖ − recallₖ₋₁) · precisionₖ over the distinct scores, without
    /// interpolation, which would be too optimistic.
    pub precision_recall: f64,
    /// Weight of all pairs of a true and a false row.
    pub pairs: f64,
}

impl Ranking {
    /// # Panics
    /// If a score is NaN.
    pub fn new(scores: &[f64]) -> Self {
        assert!(scores.iter().all(|score| !score.is_nan()), "a score is not a number");
        // Both zeros are equal.
        let score = |index: &u32| scores[*index as usize] + 0.0;
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        order.sort_by(|one, other| score(other).total_cmp(&score(one)).then(one.cmp(other)));
        let mut ends = Vec::new();
        for run in order.chunk_by(|one, other| score(one) == score(other)) {
            ends.push(ends.last().copied().unwrap_or(0) + run.len());
        }
        Self { order, ends }
    }

    /// Both areas, where row `index` counts `weight(index)` times.
    pub fn areas(&self, labels: &[bool], weight: impl Fn(usize) -> f64) -> Areas {
        let (mut trues, mut falses, mut start) = (0.0, 0.0, 0);
        let (mut pairs, mut precision) = (0.0, 0.0);
        for end in &self.ends {
            let (mut hits, mut misses) = (0.0, 0.0);
            for index in self.order[start..*end].iter().map(|index| *index as usize) {
                *(if labels[index] { &mut hits } else { &mut misses }) += weight(index);
            }
            pairs += misses * (trues + 0.5 * hits);
            trues += hits;
            falses += misses;
            // A run of no weight is not there.
            if hits > 0.0 {
                precision += hits * trues / (trues + falses);
            }
            start = *end;
        }
        let none = trues <= 0.0 || falses <= 0.0;
        let share = |sum: f64, of: f64| if none { f64::NAN } else { sum / of };
        let all = trues * falses;
        Areas { roc: share(pairs, all), precision_recall: share(precision, trues), pairs: all }
    }

    /// Areas within the folds of rows whose scores come from different models, which need not be on one
    /// scale: a true row is compared with the false rows of its own fold only. Area under the ROC curve:
    /// over all such pairs; average precision: mean over the folds, weighted by their true rows. NaN
    /// without a pair.
    pub fn areas_within(
        &self,
        folds: &[usize],
        labels: &[bool],
        weight: impl Fn(usize) -> f64,
    ) -> Areas {
        let (mut above, mut pairs, mut precision, mut found) = (0.0, 0.0, 0.0, 0.0);
        for fold in 0..folds.iter().max().map_or(0, |last| last + 1) {
            let within = |index: usize| if folds[index] == fold { weight(index) } else { 0.0 };
            let areas = self.areas(labels, within);
            if areas.pairs > 0.0 {
                let rows = labels.iter().enumerate().filter(|(_, label)| **label);
                let trues: f64 = rows.map(|(index, _)| within(index)).sum();
                above += areas.pairs * areas.roc;
                pairs += areas.pairs;
                precision += trues * areas.precision_recall;
                found += trues;
            }
        }
        Areas { roc: above / pairs, precision_recall: precision / found, pairs }
    }

    /// The area under the ROC curve alone.
    pub fn auc(&self, labels: &[bool], weight: impl Fn(usize) -> f64) -> f64 {
        self.areas(labels, weight).roc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scikit-learn 1.9.1: tests/reference/ranking.py.
    #[test]
    fn areas_are_those_of_scikit_learn() {
        let scores: Vec<f64> = (0..60).map(|index| f64::from(index * 7 % 23) / 4.0).collect();
        let anomalous: Vec<bool> = (0..60).map(|index| index * 5 % 13 > 6).collect();
        let ranking = Ranking::new(&scores);
        type Weight = fn(usize) -> usize;
        let weights: [(Weight, f64, f64); 3] = [
            (|_| 1, 0.3370535714285714, 0.41466293012745525),
            (|index| index % 4, 0.29067460317460314, 0.4092522767876436),
            (|index| index * 3 % 5 / 3, 0.2847222222222222, 0.42902745402745407),
        ];
        for (weight, roc, precision_recall) in weights {
            let areas = ranking.areas(&anomalous, |index| weight(index) as f64);
            assert!((areas.roc - roc).abs() < 1e-12, "{areas:?}");
            assert!((areas.precision_recall - precision_recall).abs() < 1e-12, "{areas:?}");
        }
    }

    #[test]
    fn perfect_equal_and_missing() {
        let areas = |scores: &[f64], anomalous: &[bool]| {
            let Areas { roc, precision_recall, .. } =
                Ranking::new(scores).areas(anomalous, |_| 1.0);
            (roc, precision_recall)
        };
        let half = [false, true, false, true];
        assert_eq!(areas(&[1.0, 3.0, 2.0, 4.0], &half), (1.0, 1.0));
        assert_eq!(areas(&[4.0, 2.0, 3.0, 1.0], &half), (0.0, (1.0 / 3.0 + 0.5) / 2.0));
        assert_eq!(areas(&[0.0, -0.0, 0.0, 0.0], &half), (0.5, 0.5));
        assert!(areas(&[1.0, 2.0], &[true, true]).0.is_nan());
        assert!(areas(&[], &[]).1.is_nan());
    }
}
