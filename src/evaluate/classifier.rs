//! Logistic regression and the area under the ROC curve: the classifier behind metrics that ask
//! what a model can learn from graphs.
//!
//! Our own, since metrics need it to be deterministic to the last bit, on sparse rows, and exactly
//! converged, so that a number does not depend on a solver's tolerance.

/// Rows of features, of which most are 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    columns: usize,
    /// Where each row ends in `entries`.
    ends: Vec<usize>,
    /// Column and value.
    entries: Vec<(u32, f64)>,
}

impl Rows {
    pub fn new(columns: usize) -> Self {
        Self { columns, ..Self::default() }
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Adds a row of (column, value); a column that comes twice counts with the sum.
    ///
    /// # Panics
    /// If a column is not below the number of columns.
    pub fn push(&mut self, row: impl IntoIterator<Item = (u32, f64)>) {
        self.entries.extend(row);
        let start = self.ends.last().copied().unwrap_or(0);
        let fits = |(column, _): &(u32, f64)| (*column as usize) < self.columns;
        assert!(self.entries[start..].iter().all(fits), "a feature beyond the last column");
        self.ends.push(self.entries.len());
    }

    /// Adds a row with a value for each column.
    pub fn push_dense(&mut self, row: &[f64]) {
        self.push((0..).zip(row.iter().copied()));
    }

    pub fn row(&self, index: usize) -> &[(u32, f64)] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.entries[start..self.ends[index]]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[(u32, f64)]> {
        (0..self.len()).map(|index| self.row(index))
    }

    /// Multiplies each column by a factor.
    pub fn scale(&mut self, factors: &[f64]) {
        for (column, value) in &mut self.entries {
            *value *= factors[*column as usize];
        }
    }
}

/// Newton steps; a dozen are usual.
const MAX_STEPS: usize = 100;
/// Products with the second derivative per step.
const MAX_PRODUCTS: usize = 250;
/// Largest slope of the mean loss at which the optimum is reached.
const TOLERANCE: f64 = 1e-9;

/// Logistic regression with an L2 penalty: p(true | x) = 1 / (1 + exp(−w·x − b)).
///
/// Minimises Σ loss + l2/2 ‖w‖² with the intercept b unpenalised: scikit-learn's
/// `LogisticRegression(C = 1 / l2)`. Features are taken as they are; bring them to a similar scale
/// first, as the penalty treats all weights alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Logistic {
    weights: Vec<f64>,
    intercept: f64,
}

impl Logistic {
    /// Fits by Newton's method, whose steps are solved by conjugate gradients and cut back until
    /// the loss falls: no randomness, and the same optimum from any start, since the problem is
    /// strictly convex. Takes time in proportion to the entries of `rows`.
    ///
    /// `None` if the labels are all the same or there are none: there is nothing to tell apart, and
    /// the intercept would grow without bound.
    ///
    /// # Panics
    /// If there is not one label per row, or `l2` is not above 0.
    pub fn fit(rows: &Rows, labels: &[bool], l2: f64) -> Option<Self> {
        assert_eq!(rows.len(), labels.len(), "one label per row");
        assert!(l2 > 0.0, "the penalty must be above 0");
        if labels.iter().all(|label| *label) || !labels.contains(&true) {
            return None;
        }
        let problem = Problem { rows, labels, l2 };
        // The last parameter is the intercept.
        let mut parameters = vec![0.0; rows.columns + 1];
        let mut odds = vec![0.0; rows.len()];
        for _ in 0..MAX_STEPS {
            let chances: Vec<f64> = odds.iter().map(|odds| sigmoid(*odds)).collect();
            let gradient = problem.gradient(&parameters, &chances);
            let slope = gradient.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
            if slope <= TOLERANCE * rows.len() as f64 {
                break;
            }
            let step = problem.newton_step(&gradient, &chances);
            let along = problem.odds(&step);
            let Some(length) = problem.line_search(&parameters, &odds, &gradient, &step, &along)
            else {
                break;
            };
            add(&mut parameters, length, &step);
            add(&mut odds, length, &along);
        }
        let intercept = parameters.pop().unwrap_or(0.0);
        Some(Self { weights: parameters, intercept })
    }

    /// Log of p / (1 − p): orders rows as the probability does, without rounding to 0 or 1.
    pub fn log_odds(&self, row: &[(u32, f64)]) -> f64 {
        dot(row, &self.weights) + self.intercept
    }

    pub fn probability(&self, row: &[(u32, f64)]) -> f64 {
        sigmoid(self.log_odds(row))
    }
}

struct Problem<'a> {
    rows: &'a Rows,
    labels: &'a [bool],
    l2: f64,
}

impl Problem<'_> {
    fn odds(&self, parameters: &[f64]) -> Vec<f64> {
        let intercept = parameters[self.rows.columns];
        self.rows.iter().map(|row| dot(row, parameters) + intercept).collect()
    }

    /// Σ of `factors` times rows, and of the factors for the intercept.
    fn transposed(&self, factors: impl Iterator<Item = f64>) -> Vec<f64> {
        let mut sums = vec![0.0; self.rows.columns + 1];
        for (row, factor) in self.rows.iter().zip(factors) {
            for (column, value) in row {
                sums[*column as usize] += factor * value;
            }
            sums[self.rows.columns] += factor;
        }
        sums
    }

    /// Adds the penalty's share, which the intercept has none of.
    fn penalised(&self, mut sums: Vec<f64>, parameters: &[f64]) -> Vec<f64> {
        add(&mut sums[..self.rows.columns], self.l2, &parameters[..self.rows.columns]);
        sums
    }

    fn gradient(&self, parameters: &[f64], chances: &[f64]) -> Vec<f64> {
        let errors = chances.iter().zip(self.labels);
        let errors = errors.map(|(chance, label)| chance - f64::from(u8::from(*label)));
        self.penalised(self.transposed(errors), parameters)
    }

    /// Solves (second derivative) · step = −gradient, roughly where the optimum is far, by
    /// conjugate gradients preconditioned with the diagonal.
    fn newton_step(&self, gradient: &[f64], chances: &[f64]) -> Vec<f64> {
        let curvature: Vec<f64> = chances.iter().map(|chance| chance * (1.0 - chance)).collect();
        let inverse = self.inverse_diagonal(&curvature);
        let mut step = vec![0.0; gradient.len()];
        let mut rest: Vec<f64> = gradient.iter().map(|value| -value).collect();
        let mut scaled: Vec<f64> = product(&rest, &inverse);
        let mut direction = scaled.clone();
        let mut size = inner(&rest, &scaled);
        let enough = size * size.sqrt().min(0.01);
        for _ in 0..MAX_PRODUCTS {
            let odds = self.odds(&direction);
            let factors = odds.iter().zip(&curvature).map(|(odds, curvature)| odds * curvature);
            let image = self.penalised(self.transposed(factors), &direction);
            let bend = inner(&direction, &image);
            if bend <= 0.0 {
                break;
            }
            let length = size / bend;
            add(&mut step, length, &direction);
            add(&mut rest, -length, &image);
            scaled = product(&rest, &inverse);
            let next = inner(&rest, &scaled);
            if next <= enough {
                break;
            }
            let ratio = next / size;
            for (direction, scaled) in direction.iter_mut().zip(&scaled) {
                *direction = scaled + ratio * *direction;
            }
            size = next;
        }
        step
    }

    fn inverse_diagonal(&self, curvature: &[f64]) -> Vec<f64> {
        let mut sums = vec![self.l2; self.rows.columns + 1];
        // Above 0 where every row is certain.
        sums[self.rows.columns] = f64::MIN_POSITIVE.sqrt();
        for (row, curvature) in self.rows.iter().zip(curvature) {
            for (column, value) in row {
                sums[*column as usize] += curvature * value * value;
            }
            sums[self.rows.columns] += curvature;
        }
        sums.iter().map(|value| 1.0 / value).collect()
    }

    /// The first of 1, ½, ¼, … at which the loss falls as far as its slope promises (Armijo);
    /// `None` where rounding hides any fall: the optimum.
    fn line_search(
        &self,
        parameters: &[f64],
        odds: &[f64],
        gradient: &[f64],
        step: &[f64],
        along: &[f64],
    ) -> Option<f64> {
        let columns = self.rows.columns;
        let slope = inner(gradient, step);
        let (across, own) =
            (inner(&parameters[..columns], &step[..columns]), inner(&step[..columns], &step[..columns]));
        // Differences term by term: the loss itself is too large to show the last small falls.
        let change = |length: f64| {
            let losses = odds.iter().zip(along).zip(self.labels).map(|((odds, along), label)| {
                loss(odds + length * along, *label) - loss(*odds, *label)
            });
            losses.sum::<f64>() + self.l2 * length * (across + 0.5 * length * own)
        };
        let lengths = std::iter::successors(Some(1.0), |length| Some(length * 0.5));
        lengths.take(40).find(|length| change(*length) <= 1e-4 * length * slope && slope < 0.0)
    }
}

fn sigmoid(odds: f64) -> f64 {
    1.0 / (1.0 + (-odds).exp())
}

/// −log of the label's probability, without overflow.
fn loss(odds: f64, label: bool) -> f64 {
    let against = if label { -odds } else { odds };
    against.max(0.0) + (-against.abs()).exp().ln_1p()
}

fn dot(row: &[(u32, f64)], weights: &[f64]) -> f64 {
    row.iter().map(|(column, value)| value * weights[*column as usize]).sum()
}

fn inner(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

fn product(one: &[f64], other: &[f64]) -> Vec<f64> {
    one.iter().zip(other).map(|(one, other)| one * other).collect()
}

fn add(sums: &mut [f64], factor: f64, values: &[f64]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

/// Rows in order of a classifier's score, sorted once for many weightings.
#[derive(Clone, Debug)]
pub struct Ranking {
    order: Vec<u32>,
    /// Where each run of equal scores ends in `order`.
    ends: Vec<usize>,
}

impl Ranking {
    /// # Panics
    /// If a score is NaN.
    pub fn new(scores: &[f64]) -> Self {
        assert!(scores.iter().all(|score| !score.is_nan()), "a score is not a number");
        // Both zeros are equal.
        let score = |index: &u32| scores[*index as usize] + 0.0;
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        order.sort_by(|one, other| score(one).total_cmp(&score(other)).then(one.cmp(other)));
        let mut ends = Vec::new();
        for run in order.chunk_by(|one, other| score(one) == score(other)) {
            ends.push(ends.last().copied().unwrap_or(0) + run.len());
        }
        Self { order, ends }
    }

    /// Probability that a random true row scores above a random false one, ties counting half: the
    /// area under the ROC curve. Rows count as often as `weight` says. NaN without rows of both
    /// kinds.
    pub fn auc(&self, labels: &[bool], weight: impl Fn(usize) -> f64) -> f64 {
        let (mut above, mut trues, mut falses, mut start) = (0.0, 0.0, 0.0, 0);
        for end in &self.ends {
            let (mut here, mut others) = (0.0, 0.0);
            for index in self.order[start..*end].iter().map(|index| *index as usize) {
                *(if labels[index] { &mut here } else { &mut others }) += weight(index);
            }
            above += here * (falses + 0.5 * others);
            trues += here;
            falses += others;
            start = *end;
        }
        above / (trues * falses)
    }
}

#[cfg(test)]
mod tests;
