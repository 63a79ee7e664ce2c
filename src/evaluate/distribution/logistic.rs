//! Logistic regression on sparse vectors: the classifier that tells real graphs from synthetic ones.
//!
//! Our own, and not a crate's, because the metric's definition hangs on it: columns that are nearly
//! all zero are standardised without being filled in, the result is the same for any number of
//! threads, and it is the minimum to the last digits, so no other solver of the same problem gives
//! another number (the tests hold scikit-learn's against it).

use super::descriptors::Sparse;

/// Columns that fewer vectors have are left out: standardised, one of them alone could be told
/// from all others by the classifier, which would learn the vector by heart.
const FEWEST: usize = 5;

/// Mean and standard deviation of each column.
pub struct Standard {
    /// Both 0 for columns that are left out.
    columns: Vec<Column>,
}

#[derive(Clone, Copy, Default)]
struct Column {
    mean: f64,
    /// One over the standard deviation.
    scale: f64,
}

/// Standardised vectors: every one is `zero`, plus steps in the columns that it has.
pub struct Design {
    /// What a vector has where it has nothing.
    zero: Vec<f64>,
    /// (column, step), vector after vector.
    steps: Vec<(u32, f64)>,
    /// Where each vector's steps end.
    ends: Vec<usize>,
}

/// P(label) = 1 / (1 + e^−logit) with logit = weights · vector + intercept.
#[derive(Clone, Debug, PartialEq)]
pub struct Logistic {
    weights: Vec<f64>,
    intercept: f64,
}

impl Standard {
    /// Of vectors with `size` columns. Columns that do not vary are left out.
    pub fn new(size: u32, vectors: &[Sparse]) -> Self {
        let count = vectors.len() as f64;
        let mut present = vec![0; size as usize];
        let mut sums = vec![(0.0, 0.0); size as usize];
        for (column, value) in vectors.iter().flatten() {
            let (sum, squares) = &mut sums[*column as usize];
            present[*column as usize] += 1;
            *sum += value;
            *squares += value * value;
        }
        let columns = sums.into_iter().zip(present).map(|((sum, squares), present)| {
            let mean = sum / count;
            let variance = squares / count - mean * mean;
            // Rounding must not make a constant column vary.
            let varies = variance > 1e-12 * (1.0 + mean * mean);
            match present >= FEWEST && varies {
                true => Column { mean, scale: 1.0 / variance.sqrt() },
                false => Column::default(),
            }
        });
        Self { columns: columns.collect() }
    }

    pub fn design(&self, vectors: &[Sparse]) -> Design {
        let mut ends = Vec::with_capacity(vectors.len());
        let mut steps = Vec::new();
        for vector in vectors {
            steps.extend(vector.iter().filter_map(|(column, value)| {
                let scale = self.columns[*column as usize].scale;
                (scale > 0.0).then_some((*column, value * scale))
            }));
            ends.push(steps.len());
        }
        let zero = self.columns.iter().map(|column| -column.mean * column.scale).collect();
        Design { zero, steps, ends }
    }
}

impl Design {
    fn vectors(&self) -> impl Iterator<Item = &[(u32, f64)]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.steps[start..*end])
    }

    /// weights · vector + intercept, of every vector.
    fn logits(&self, weights: &[f64], intercept: f64) -> Vec<f64> {
        let base = intercept + dot(&self.zero, weights);
        let step = |(column, step): &(u32, f64)| step * weights[*column as usize];
        self.vectors().map(|vector| base + vector.iter().map(step).sum::<f64>()).collect()
    }

    /// Σ factor · vector, and Σ factor for the intercept.
    fn combined(&self, factors: &[f64]) -> (Vec<f64>, f64) {
        let sum: f64 = factors.iter().sum();
        let mut columns: Vec<f64> = self.zero.iter().map(|zero| zero * sum).collect();
        for (vector, factor) in self.vectors().zip(factors) {
            for (column, step) in vector {
                columns[*column as usize] += factor * step;
            }
        }
        (columns, sum)
    }
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

/// ln(1 + e^x), without overflow.
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    let small = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) }
}

impl Logistic {
    /// The minimum of −Σ ln P(label) + ½ `penalty` |w|² (one over scikit-learn's `C`), by Newton's
    /// method: each step solves for the curvature by conjugate gradients, and is halved until it
    /// leads down.
    pub fn fit(design: &Design, labels: &[bool], penalty: f64) -> Self {
        let targets: Vec<f64> = labels.iter().map(|label| f64::from(u8::from(*label))).collect();
        // Weights, then the intercept.
        let mut at = vec![0.0; design.zero.len() + 1];
        for _ in 0..100 {
            let logits = logits(design, &at);
            let p: Vec<f64> = logits.iter().map(|logit| sigmoid(*logit)).collect();
            let residuals: Vec<f64> =
                p.iter().zip(&targets).map(|(p, target)| p - target).collect();
            let gradient = pulled_back(design, &residuals, &at, penalty);
            if gradient.iter().all(|g| g.abs() < 1e-9 * targets.len().max(1) as f64) {
                break;
            }
            let curvature: Vec<f64> = p.iter().map(|p| p * (1.0 - p)).collect();
            let direction = newton_direction(design, &curvature, &gradient, penalty);
            let slope = dot(&direction, &gradient);
            let now = loss(&logits, &targets, &at, penalty);
            let steps = (0..40).map(|halvings| 0.5f64.powi(halvings));
            let found = steps.map(|step| moved(&at, &direction, step)).zip(0..).find(|(to, n)| {
                let there = loss(&self::logits(design, to), &targets, to, penalty);
                there <= now + 1e-4 * 0.5f64.powi(*n) * slope
            });
            // No step leads down any more: rounding is all that is left.
            let Some((to, _)) = found else { break };
            at = to;
        }
        let intercept = at.pop().unwrap_or(0.0);
        Self { weights: at, intercept }
    }

    pub fn logits(&self, design: &Design) -> Vec<f64> {
        design.logits(&self.weights, self.intercept)
    }
}

fn logits(design: &Design, at: &[f64]) -> Vec<f64> {
    let (weights, intercept) = at.split_at(at.len() - 1);
    design.logits(weights, intercept[0])
}

/// Penalised negative log-likelihood.
fn loss(logits: &[f64], targets: &[f64], at: &[f64], penalty: f64) -> f64 {
    let weights = &at[..at.len() - 1];
    let terms = logits.iter().zip(targets).map(|(logit, target)| softplus(*logit) - target * logit);
    terms.sum::<f64>() + penalty / 2.0 * dot(weights, weights)
}

/// Σ factor · vector + penalty · `at`: gradients and products with the curvature have this form.
fn pulled_back(design: &Design, factors: &[f64], at: &[f64], penalty: f64) -> Vec<f64> {
    let (mut columns, sum) = design.combined(factors);
    columns.iter_mut().zip(at).for_each(|(column, at)| *column += penalty * at);
    columns.push(sum);
    columns
}

fn moved(at: &[f64], direction: &[f64], step: f64) -> Vec<f64> {
    at.iter().zip(direction).map(|(at, direction)| at + step * direction).collect()
}

/// Solves curvature · direction = −gradient by conjugate gradients, nearly enough.
fn newton_direction(
    design: &Design,
    curvature: &[f64],
    gradient: &[f64],
    penalty: f64,
) -> Vec<f64> {
    let mut direction = vec![0.0; gradient.len()];
    let mut residual: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut towards = residual.clone();
    let mut squared = dot(&residual, &residual);
    let enough = squared * 1e-6;
    for _ in 0..gradient.len() {
        let through: Vec<f64> =
            logits(design, &towards).iter().zip(curvature).map(|(logit, c)| logit * c).collect();
        let curved = pulled_back(design, &through, &towards, penalty);
        let step = squared / dot(&towards, &curved);
        direction = moved(&direction, &towards, step);
        residual = moved(&residual, &curved, -step);
        let next = dot(&residual, &residual);
        if next <= enough {
            break;
        }
        towards = moved(&residual, &towards, next / squared);
        squared = next;
    }
    direction
}

/// 40 vectors by a rule that tests/reference/distribution.py knows as well.
#[cfg(test)]
pub fn example() -> (Vec<Sparse>, Vec<bool>) {
    let vectors = (0..40u32).map(|index| {
        let value = |column: u32| f64::from((index * (column + 3) + column) % 7);
        let dense = [value(0), f64::from(index % 3), value(2), f64::from(u32::from(index < 3))];
        (0..4).zip(dense).filter(|(_, value)| *value != 0.0).collect()
    });
    let labels = (0..40u32).map(|index| (index * 7 + index / 5) % 10 < 3 + index % 3);
    (vectors.collect(), labels.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by tests/reference/distribution.py with scikit-learn.
    #[test]
    fn weights_as_scikit_learn_has_them() {
        let (vectors, labels) = example();
        let standard = Standard::new(4, &vectors);
        let design = standard.design(&vectors);
        let model = Logistic::fit(&design, &labels, 1.0);
        // The last column is too rare to count.
        assert_eq!(model.weights[3], 0.0);
        let found = model.weights[..3].iter().chain([&model.intercept]);
        for (found, expected) in found.zip(SCIKIT_LEARN) {
            assert!((found - expected).abs() < 1e-6, "{model:?}");
        }
        assert_eq!(model.logits(&design), design.logits(&model.weights, model.intercept));
    }

    const SCIKIT_LEARN: [f64; 4] = [
        -0.665_938_423_076_202,
        0.290_269_277_939_762_1,
        -0.302_554_107_892_573_25,
        -0.237_119_955_465_117_66,
    ];

    #[test]
    fn separable_and_empty_vectors_are_no_trouble() {
        let vectors: Vec<Sparse> = (0..20)
            .map(|index| match index < 10 {
                true => vec![(0, 5.0)],
                false => Vec::new(),
            })
            .collect();
        let labels: Vec<bool> = (0..20).map(|index| index < 10).collect();
        let design = Standard::new(2, &vectors).design(&vectors);
        let logits = Logistic::fit(&design, &labels, 1.0).logits(&design);
        assert!(logits[0] > 2.0 && logits[0] < 10.0 && (logits[0] + logits[19]).abs() < 1e-6);
        // Nothing to learn from: chance.
        let nothing = vec![Vec::new(); 20];
        let design = Standard::new(2, &nothing).design(&nothing);
        assert!(
            Logistic::fit(&design, &labels, 1.0).logits(&design).iter().all(|l| l.abs() < 1e-9)
        );
        let none = Standard::new(2, &[]).design(&[]);
        assert!(Logistic::fit(&none, &[], 1.0).logits(&none).is_empty());
    }

    #[test]
    fn softplus_does_not_overflow() {
        assert_eq!((softplus(800.0), softplus(-800.0)), (800.0, 0.0));
        assert!((softplus(0.0) - 2f64.ln()).abs() < 1e-15);
    }
}
