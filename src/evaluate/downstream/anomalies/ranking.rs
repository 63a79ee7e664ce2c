//! How well a score ranks anomalies above normal graphs, when graphs count with weights.

/// Graphs by descending score. Sorted once, so that each resample of a bootstrap is one pass.
pub struct Ranking {
    /// Index and whether it is an anomaly, in runs of equal score.
    runs: Vec<Vec<(usize, bool)>>,
}

/// Areas under two curves; NaN where one of the classes has no weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Areas {
    /// Under the ROC curve: the probability that an anomaly's score is above a normal graph's, equal
    /// scores counted half.
    pub roc: f64,
    /// Average precision: Σ (recallₖ − recallₖ₋₁) · precisionₖ over the distinct scores, without
    /// interpolation, which would be too optimistic.
    pub precision_recall: f64,
}

impl Ranking {
    /// `scores` are not NaN.
    pub fn new(scores: &[f64], anomalous: &[bool]) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        // Both zeros are equal.
        let score = |index: &usize| scores[*index] + 0.0;
        order.sort_by(|a, b| score(b).total_cmp(&score(a)).then(a.cmp(b)));
        let runs = order.chunk_by(|a, b| score(a) == score(b));
        let labelled =
            |run: &[usize]| run.iter().map(|index| (*index, anomalous[*index])).collect();
        Self { runs: runs.map(labelled).collect() }
    }

    /// Areas where graph `index` counts `weight(index)` times.
    pub fn areas(&self, weight: impl Fn(usize) -> f64) -> Areas {
        let (mut anomalies, mut normal) = (0.0, 0.0);
        let (mut pairs, mut precision) = (0.0, 0.0);
        for run in &self.runs {
            let of = |wanted: bool| {
                let members = run.iter().filter(|(_, anomalous)| *anomalous == wanted);
                members.map(|(index, _)| weight(*index)).sum::<f64>()
            };
            let (hits, misses) = (of(true), of(false));
            pairs += misses * (anomalies + 0.5 * hits);
            anomalies += hits;
            normal += misses;
            // A run of no weight is not there.
            if hits > 0.0 {
                precision += hits * anomalies / (anomalies + normal);
            }
        }
        let none = anomalies <= 0.0 || normal <= 0.0;
        let share = |sum: f64, of: f64| if none { f64::NAN } else { sum / of };
        Areas {
            roc: share(pairs, anomalies * normal),
            precision_recall: share(precision, anomalies),
        }
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
        let ranking = Ranking::new(&scores, &anomalous);
        type Weight = fn(usize) -> usize;
        let weights: [(Weight, f64, f64); 3] = [
            (|_| 1, 0.3370535714285714, 0.41466293012745525),
            (|index| index % 4, 0.29067460317460314, 0.4092522767876436),
            (|index| index * 3 % 5 / 3, 0.2847222222222222, 0.42902745402745407),
        ];
        for (weight, roc, precision_recall) in weights {
            let areas = ranking.areas(|index| weight(index) as f64);
            assert!((areas.roc - roc).abs() < 1e-12, "{areas:?}");
            assert!((areas.precision_recall - precision_recall).abs() < 1e-12, "{areas:?}");
        }
    }

    #[test]
    fn perfect_equal_and_missing() {
        let areas = |scores: &[f64], anomalous: &[bool]| {
            let Areas { roc, precision_recall } = Ranking::new(scores, anomalous).areas(|_| 1.0);
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
