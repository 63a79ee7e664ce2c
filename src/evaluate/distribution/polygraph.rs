//! Fidelity in one number: whether a classifier can tell synthetic graphs from real ones.

use rayon::prelude::*;

use super::descriptors::{DESCRIPTORS, Descriptor, Sparse};
use super::pair::Pair;
use super::{Measured, Metric, Part};
use crate::evaluate::WHOLE;
use crate::evaluate::classifier::{Linear, Loss, Scales};

/// PolyGraph discrepancy (Krimmel et al., 2025) of valid synthetic graphs from test graphs, by
/// logistic regression on the descriptors of call trees (descriptors.rs).
///
/// As many graphs of each side, up to [`CAP`], drawn at random, are cut into a half to fit on and a
/// half to score on. On the fit half, classifiers with each descriptor and each of [`PENALTIES`] are
/// judged by [`FOLDS`]-fold cross-validation; the best one is fitted again on the whole fit half.
/// With p its probability that a graph is real, the score is √(½ (mean log₂ p(real) + mean log₂ (1
/// − p(synthetic)) + 2)) over the scoring half, cut to 0 … 1: a lower bound of the Jensen-Shannon
/// distance, which a better classifier or descriptor would raise. The cells `descriptor=…` hold
/// the same for each descriptor alone. Columns are standardised on the graphs that are fitted on,
/// and the weights have an L2 penalty (classifier.rs).
///
/// Range 0 to 1, lower is better; 0 for graphs that cannot be told apart. The interval is a
/// bootstrap over services of the scoring half, with classifier and choice held fixed. NaN for
/// fewer than [`FEWEST`] graphs a side. count is the number of graphs of each side.
///
/// Pitfalls: a lower bound, so near 0 means that these descriptors and a linear classifier see
/// nothing, not that there is nothing; names are hashed into few bins, so renaming microservices
/// moves it a little; a copy of the training set scores near 0, so read it with novelty.
pub const PGD: &Metric =
    &Metric::plain("pgd-logistic/3", "PolyGraph discrepancy").lower().bootstrap().of_samples();

/// Detection score (classifier two-sample test): 1 − mean over folds of (2 · max(½, AUC) − 1), with
/// the area under the ROC curve of the classifiers of [`PGD`]'s cross-validation, each on the fold
/// that it has not been fitted on (but that had a part in choosing the penalty). Cells `descriptor=…`. Range 0 to 1, higher is better, 1 for graphs that
/// cannot be told apart; bootstrap interval over services. NaN for fewer than [`FEWEST`] graphs a
/// side.
///
/// Pitfall: an AUC below ½ counts as ½, and one of a small fold strays above it by chance, so real
/// graphs are below 1 as well: read it against the reference rows.
pub const DETECTION: &Metric =
    &Metric::plain("detection-logistic/3", "detection score").higher().bootstrap().of_samples();

/// Graphs of each side that are looked at.
pub const CAP: usize = 2_000;

/// Graphs of each side that a score takes.
pub const FEWEST: usize = 40;

const FOLDS: usize = 4;

/// Penalties of the weights that are tried. Names hashed into hundreds of columns take a strong one,
/// or the classifier learns the graphs by heart; the first of equals is taken.
const PENALTIES: [f64; 4] = [1_000.0, 100.0, 10.0, 1.0];

/// A graph of the sample, described.
struct Described {
    service: u32,
    real: bool,
    /// The fold of the fit half that it is in; `None` in the scoring half.
    fold: Option<usize>,
    vectors: Vec<Sparse>,
}

/// Scores of one descriptor's classifiers.
struct Scores {
    /// The bound, before it is cut and its root taken, in cross-validation.
    cross_validated: f64,
    /// Of the scoring half.
    scored: Vec<Scored>,
    /// By fold; ascending by logit.
    folds: Vec<Vec<Scored>>,
}

#[derive(Clone, Copy)]
struct Scored {
    service: u32,
    real: bool,
    logit: f64,
}

/// All scores of both metrics.
pub struct PolyGraph {
    /// By descriptor; empty where there are too few graphs.
    scores: Vec<Scores>,
    /// The one that does best in cross-validation.
    best: usize,
    graphs: u64,
}

impl PolyGraph {
    pub fn new(pair: &Pair, seed: u64, split: u64) -> Self {
        let samples = pair.equal_samples(CAP, seed, "polygraph", split);
        let graphs = samples[0].len();
        if graphs < FEWEST {
            return Self { scores: Vec::new(), best: 0, graphs: graphs as u64 };
        }
        let sides = pair.sides().into_iter().zip(samples).zip([true, false]);
        let places = sides.flat_map(|((side, sample), real)| {
            (0..).zip(sample).map(move |(place, graph)| (side, graph, real, place))
        });
        let places: Vec<_> = places.collect();
        let described = places.par_iter().map(|(side, graph, real, place)| Described {
            service: side.services[*graph],
            real: *real,
            // In turn: an even graph is fitted on, an odd one scored.
            fold: (place % 2 == 0).then_some(place / 2 % FOLDS),
            vectors: DESCRIPTORS.iter().map(|d| d.of(side.graphs[*graph])).collect(),
        });
        let described: Vec<Described> = described.collect();
        let scores: Vec<Scores> = DESCRIPTORS
            .par_iter()
            .enumerate()
            .map(|(index, descriptor)| Scores::new(index, descriptor, &described))
            .collect();
        Self { best: best(&scores), scores, graphs: graphs as u64 }
    }
}

/// The descriptor that does best in cross-validation; the first of equals.
fn best(scores: &[Scores]) -> usize {
    let better = |best: usize, index: usize| {
        let ahead = scores[index].cross_validated > scores[best].cross_validated;
        if ahead { index } else { best }
    };
    (0..scores.len()).fold(0, better)
}

impl Part for PolyGraph {
    fn metrics(&self) -> Vec<Measured> {
        let of = |metric, about| Measured::new(metric, about, self.graphs);
        let mut metrics = vec![of(PGD, WHOLE)];
        for metric in [PGD, DETECTION] {
            metrics.extend(DESCRIPTORS.iter().map(|d| of(metric, WHOLE.descriptor(d.name))));
        }
        metrics
    }

    fn values(&self, drawn: &[u32]) -> Vec<f64> {
        if self.scores.is_empty() {
            return vec![f64::NAN; 1 + 2 * DESCRIPTORS.len()];
        }
        let discrepancy = |scores: &Scores| bound(&scores.scored, drawn).clamp(0.0, 1.0).sqrt();
        let discrepancies: Vec<f64> = self.scores.iter().map(discrepancy).collect();
        let detections = self.scores.iter().map(|scores| detection(&scores.folds, drawn));
        let whole = discrepancies[self.best];
        std::iter::once(whole).chain(discrepancies.iter().copied()).chain(detections).collect()
    }
}

impl Scores {
    fn new(index: usize, descriptor: &Descriptor, described: &[Described]) -> Self {
        let classified = |penalties: &[f64],
                          fitted: &dyn Fn(&Described) -> bool,
                          scored: &dyn Fn(&Described) -> bool| {
            let fitted: Vec<&Described> = described.iter().filter(|graph| fitted(graph)).collect();
            let scored: Vec<&Described> = described.iter().filter(|graph| scored(graph)).collect();
            classified(index, descriptor.size, penalties, &fitted, &scored)
        };
        // By fold, then penalty.
        let folds: Vec<Vec<Vec<Scored>>> = (0..FOLDS)
            .map(|fold| {
                let others = |graph: &Described| graph.fold.is_some_and(|other| other != fold);
                classified(&PENALTIES, &others, &|graph| graph.fold == Some(fold))
            })
            .collect();
        let services = described.iter().map(|graph| graph.service as usize + 1).max().unwrap_or(0);
        let everything = vec![1; services];
        let candidates = PENALTIES.iter().enumerate().map(|(place, penalty)| {
            let folds: Vec<Vec<Scored>> = folds.iter().map(|fold| fold[place].clone()).collect();
            (bound(&folds.concat(), &everything), *penalty, folds)
        });
        let best = candidates.reduce(|best, next| if next.0 > best.0 { next } else { best });
        let (cross_validated, penalty, mut folds) = best.expect("a penalty");
        for fold in &mut folds {
            fold.sort_by(|one, other| one.logit.total_cmp(&other.logit));
        }
        let scored =
            classified(&[penalty], &|graph| graph.fold.is_some(), &|graph| graph.fold.is_none());
        Self { cross_validated, scored: scored.concat(), folds }
    }
}

/// Scores by classifiers with each of the penalties.
fn classified<'a>(
    descriptor: usize,
    size: u32,
    penalties: &[f64],
    fitted: &[&'a Described],
    scored: &[&'a Described],
) -> Vec<Vec<Scored>> {
    let vectors = |graphs: &[&'a Described]| -> Vec<&'a [(u32, f64)]> {
        graphs.iter().map(|graph| graph.vectors[descriptor].as_slice()).collect()
    };
    let vectors_fitted = vectors(fitted);
    let scales = Scales::new(size, &vectors_fitted);
    let labels: Vec<bool> = fitted.iter().map(|graph| graph.real).collect();
    let (rows, scoring) = (scales.apply(&vectors_fitted), scales.apply(&vectors(scored)));
    let with = |penalty: &f64| {
        let model = Linear::fit(Loss::Logistic, &rows, &labels, *penalty);
        let model = model.expect("graphs of both sides are fitted on");
        let scores = scored.iter().zip(scoring.iter());
        let score = |(graph, row): (&&Described, &[(u32, f64)])| Scored {
            service: graph.service,
            real: graph.real,
            logit: model.score(row),
        };
        scores.map(score).collect()
    };
    penalties.iter().map(with).collect()
}

/// ½ (mean log₂ p(real) + mean log₂ (1 − p(synthetic)) + 2), each graph as often as its service was
/// drawn; NaN if no graph of a side was.
fn bound(scored: &[Scored], drawn: &[u32]) -> f64 {
    let (mut sums, mut counts) = ([0.0; 2], [0.0; 2]);
    for Scored { service, real, logit } in scored {
        let times = f64::from(drawn[*service as usize]);
        let cost = Loss::Logistic.cost(if *real { *logit } else { -logit });
        sums[usize::from(*real)] -= times * cost;
        counts[usize::from(*real)] += times;
    }
    let means = [0, 1].map(|side: usize| sums[side] / counts[side] / std::f64::consts::LN_2);
    (means[0] + means[1] + 2.0) / 2.0
}

fn detection(folds: &[Vec<Scored>], drawn: &[u32]) -> f64 {
    // NaN stays NaN, which `max` would not keep.
    let excess = |auc: f64| if auc < 0.5 { 0.0 } else { 2.0 * auc - 1.0 };
    let sum: f64 = folds.iter().map(|fold| excess(area(fold, drawn))).sum();
    1.0 - sum / folds.len() as f64
}

/// Area under the ROC curve of scores that ascend, each as often as its service was drawn; NaN if
/// a side has none.
fn area(scored: &[Scored], drawn: &[u32]) -> f64 {
    let (mut below, mut reals, mut won) = (0.0, 0.0, 0.0);
    for ties in scored.chunk_by(|one, other| one.logit == other.logit) {
        let mut here = [0.0; 2];
        for Scored { service, real, .. } in ties {
            here[usize::from(*real)] += f64::from(drawn[*service as usize]);
        }
        won += here[1] * (below + here[0] / 2.0);
        below += here[0];
        reals += here[1];
    }
    won / (below * reals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::{chain, flat};
    use crate::graph::CallGraph;

    fn values(real: &[CallGraph], synthetic: &[CallGraph]) -> Vec<(Measured, f64)> {
        let (real, synthetic): (Vec<&CallGraph>, Vec<&CallGraph>) =
            (real.iter().collect(), synthetic.iter().collect());
        let pair = Pair::new(&real, &synthetic);
        let scores = PolyGraph::new(&pair, 3, 0);
        scores.metrics().into_iter().zip(scores.values(&vec![1; pair.services])).collect()
    }

    fn of(values: &[(Measured, f64)], metric: &Metric, cell: &str) -> f64 {
        let mut found =
            values.iter().filter(|(m, _)| m.metric == metric && m.dimensions.to_string() == cell);
        found.next().expect("a value").1
    }

    /// Trees of 2 to 6 calls, flat ones and chains.
    fn trees(count: u32, deep: impl Fn(u32) -> bool) -> Vec<CallGraph> {
        let tree = |index: u32| {
            if deep(index) {
                chain(&format!("S_{}", index % 5), 2 + index % 5, 10 + index % 7)
            } else {
                flat(&format!("S_{}", index % 5), 2 + index % 5, 10 + index % 7)
            }
        };
        (0..count).map(tree).collect()
    }

    #[test]
    fn what_is_different_is_told_by_what_differs() {
        let found = values(&trees(200, |_| false), &trees(200, |index| index % 5 > 0));
        assert!(of(&found, PGD, "") > 0.8, "{found:?}");
        assert!(of(&found, PGD, "descriptor=out-degrees") > 0.8);
        assert!(of(&found, DETECTION, "descriptor=out-degrees") < 0.3);
        // Sizes and times are the same.
        for same in ["descriptor=edges", "descriptor=response-times"] {
            assert!(of(&found, PGD, same) < 0.4, "{same} {found:?}");
        }
        assert!(found.iter().all(|(_, value)| (0.0..=1.0).contains(value)));
    }

    #[test]
    fn copies_cannot_be_told() {
        let graphs = trees(300, |index| index % 3 == 0);
        let found = values(&graphs, &graphs);
        assert!(of(&found, PGD, "") < 0.25, "{found:?}");
        assert!(of(&found, DETECTION, "descriptor=edges") > 0.7, "{found:?}");
    }

    #[test]
    fn few_graphs_give_no_number() {
        let graphs = trees(FEWEST as u32, |_| false);
        assert!(values(&graphs, &graphs[1..]).iter().all(|(_, value)| value.is_nan()));
        assert!(values(&graphs, &[]).iter().all(|(_, value)| value.is_nan()));
        assert!(values(&graphs, &graphs).iter().all(|(_, value)| !value.is_nan()));
    }

    /// Made by tests/reference/distribution.py with scikit-learn.
    #[test]
    fn discrepancy_and_area_as_scikit_learn_has_them() {
        let (vectors, labels) = crate::evaluate::tests::sparse_example();
        let graphs = vectors.into_iter().zip(labels).map(|(vector, real)| Described {
            service: 0,
            real,
            fold: None,
            vectors: vec![vector],
        });
        let graphs: Vec<Described> = graphs.collect();
        let (fitted, scored) = graphs.split_at(24);
        let [fitted, scored] = [fitted, scored].map(|half| half.iter().collect::<Vec<_>>());
        let mut scored = classified(0, 4, &[1.0], &fitted, &scored).concat();
        scored.sort_by(|one, other| one.logit.total_cmp(&other.logit));
        assert!((bound(&scored, &[1]) - SCIKIT_LEARN[0]).abs() < 1e-6);
        assert!((area(&scored, &[1]) - SCIKIT_LEARN[1]).abs() < 1e-12);
        // A service drawn three times is three times the service.
        assert_eq!(area(&scored, &[3]), area(&scored, &[1]));
    }

    const SCIKIT_LEARN: [f64; 2] = [-0.023_143_888_589_522_987, 0.625];

    fn scored(logit: f64, real: bool) -> Scored {
        Scored { service: u32::from(real), real, logit }
    }

    #[test]
    fn detections_by_hand() {
        let folds = vec![
            vec![scored(-1.0, false), scored(0.0, true), scored(0.0, false), scored(2.0, true)],
            vec![scored(-1.0, true), scored(0.0, false), scored(1.0, true), scored(2.0, false)],
        ];
        // Areas 7/8 and 1/4, which counts as ½.
        assert_eq!(detection(&folds, &[1, 1]), 1.0 - (0.75 + 0.0) / 2.0);
        assert_eq!(detection(&folds[1..], &[1, 1]), 1.0);
        assert!(detection(&folds, &[1, 0]).is_nan());
    }

    #[test]
    fn cross_validation_chooses_and_not_the_scoring_half() {
        let of = |cross_validated, logit| Scores {
            cross_validated,
            scored: vec![scored(logit, true), scored(-logit, false)],
            folds: vec![vec![scored(0.0, true), scored(0.0, false)]],
        };
        // The best in the scoring half is worst in cross-validation; of equals the first is taken.
        let scores = vec![of(0.1, 60.0), of(0.3, 1.0), of(0.3, 2.0), of(0.2, 0.0)];
        let best = best(&scores);
        assert_eq!(best, 1);
        let values = PolyGraph { scores, best, graphs: 40 }.values(&[1, 1]);
        // p(real) = 1 / (1 + 1/e) on both sides.
        let expected = (1.0 - (-1f64).exp().ln_1p() / std::f64::consts::LN_2).sqrt();
        assert!((values[0] - expected).abs() < 1e-12, "{values:?}");
        assert_eq!((values[0], values[4]), (values[2], 0.0));
        assert!(values[1] > 0.999);
    }

    #[test]
    fn areas_and_bounds_by_hand() {
        let some = [scored(-1.0, false), scored(0.0, true), scored(0.0, false), scored(2.0, true)];
        assert_eq!(area(&some, &[1, 1]), 0.875);
        assert!(area(&some, &[1, 0]).is_nan() && bound(&some, &[0, 1]).is_nan());
        // p = ½ everywhere tells nothing; certainty tells everything.
        assert_eq!(bound(&[scored(0.0, true), scored(0.0, false)], &[1, 1]), 0.0);
        assert!((bound(&[scored(60.0, true), scored(-60.0, false)], &[1, 1]) - 1.0).abs() < 1e-12);
    }
}
