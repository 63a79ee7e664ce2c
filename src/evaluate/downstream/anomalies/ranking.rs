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
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
        let runs = order.chunk_by(|a, b| scores[*a] == scores[*b]);
        let labelled = |run: &[usize]| run.iter().map(|index| (*index, anomalous[*index])).collect();
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
        Areas { roc: share(pairs, anomalies * normal), precision_recall: share(precision, anomalies) }
    }
}
