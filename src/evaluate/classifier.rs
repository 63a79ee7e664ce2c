//! Linear classifiers: what stands behind metrics that ask what a
//! model can learn from graphs.
//!
//! Our own, since metrics need them to be deterministic to the last bit, on sparse rows, and exactly
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

    pub fn count(&self) -> usize {
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
    #[cfg(test)]
    pub fn push_dense(&mut self, row: &[f64]) {
        self.push((0..).zip(row.iter().copied()));
    }

    pub fn row(&self, index: usize) -> &[(u32, f64)] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.entries[start..self.ends[index]]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[(u32, f64)]> {
        (0..self.count()).map(|index| self.row(index))
    }

    /// Multiplies each column by a factor.
    #[cfg(test)]
    pub fn scale(&mut self, factors: &[f64]) {
        for (column, value) in &mut self.entries {
            *value *= factors[*column as usize];
        }
    }
}

/// Columns that fewer rows have are left out: scaled, one of them alone could be told from all others
/// by the classifier, which would learn the row by heart.
const FEWEST: usize = 5;

/// Factors that bring columns to a standard deviation of 1. Their means stay, so that rows stay sparse:
/// a classifier's intercept has no penalty and takes them up.
pub struct Scales {
    /// 0 for columns that are left out.
    factors: Vec<f64>,
}

impl Scales {
    /// Of rows with so many columns. Columns that do not vary are left out.
    pub fn new(columns: u32, rows: &[&[(u32, f64)]]) -> Self {
        let count = rows.len() as f64;
        let mut present = vec![0; columns as usize];
        let mut sums = vec![(0.0, 0.0); columns as usize];
        for (column, value) in rows.iter().copied().flatten() {
            let (sum, squares) = &mut sums[*column as usize];
            present[*column as usize] += 1;
            *sum += value;
            *squares += value * value;
        }
        let factors = sums.into_iter().zip(present).map(|((sum, squares), present)| {
            let mean = sum / count;
            let variance = squares / count - mean * mean;
            // Rounding must not make a constant column vary.
            let varies = variance > 1e-12 * (1.0 + mean * mean);
            if present >= FEWEST && varies { 1.0 / variance.sqrt() } else { 0.0 }
        });
        Self { factors: factors.collect() }
    }

    pub fn apply(&self, rows: &[&[(u32, f64)]]) -> Rows {
        let mut scaled = Rows::new(self.factors.len());
        for row in rows {
            let entries =
                row.iter().map(|(column, value)| (*column, self.factors[*column as usize] * value));
            scaled.push(entries.filter(|(column, _)| self.factors[*column as usize] > 0.0));
        }
        scaled
    }
}

/// Newton steps; a dozen are usual.
const MAX_STEPS: usize = 100;
/// Products with the second derivative per step.
const MAX_PRODUCTS: usize = 250;
/// Largest gradient of the mean loss at which the optimum is reached.
const TOLERANCE: f64 = 1e-9;

/// What a row costs whose score is on the wrong side, or not far enough on the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// −log of the label's probability: logistic regression, scikit-learn's
    /// `LogisticRegression(C = 1 / l2)`.
    Logistic,
    /// max(0, 1 − margin)²: a support vector machine (Chapelle, 2007), liblinear's default loss.
    SquaredHinge,
}

impl Loss {
    /// Cost at this margin: the score of a true row, the negative score of a false one.
    pub fn cost(self, margin: f64) -> f64 {
        match self {
            // Without overflow.
            Self::Logistic => (-margin).max(0.0) + (-margin.abs()).exp().ln_1p(),
            Self::SquaredHinge => (1.0 - margin).max(0.0).powi(2),
        }
    }

    /// First derivative by the margin.
    fn derivative(self, margin: f64) -> f64 {
        match self {
            Self::Logistic => -sigmoid(-margin),
            Self::SquaredHinge => -2.0 * (1.0 - margin).max(0.0),
        }
    }

    /// Second derivative by the margin.
    fn curvature(self, margin: f64) -> f64 {
        match self {
            Self::Logistic => sigmoid(margin) * sigmoid(-margin),
            Self::SquaredHinge if margin < 1.0 => 2.0,
            Self::SquaredHinge => 0.0,
        }
    }
}

/// A linear classifier with an L2 penalty: true where w·x + b > 0.
///
/// Minimises Σ loss + l2/2 ‖w‖² with the intercept b unpenalised. Features are taken as they are;
/// bring them to a similar scale first, as the penalty treats all weights alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    weights: Vec<f64>,
    intercept: f64,
}

impl Linear {
    /// Fits by Newton's method, whose steps are solved by conjugate gradients and cut back until
    /// the loss falls: no randomness, and the same optimum from any start, since the problem is
    /// convex. Takes time in proportion to the entries of `rows`.
    ///
    /// `None` if the labels are all the same or there are none: there is nothing to tell apart, and
    /// the intercept may grow without bound.
    ///
    /// # Panics
    /// If there is not one label per row, or `l2` is not above 0.
    pub fn fit(loss: Loss, rows: &Rows, labels: &[bool], l2: f64) -> Option<Self> {
        assert_eq!(rows.count(), labels.len(), "one label per row");
        assert!(l2 > 0.0, "the penalty must be above 0");
        if labels.iter().all(|label| *label) || !labels.contains(&true) {
            return None;
        }
        let problem = Problem { loss, rows, labels, l2 };
        // The last parameter is the intercept.
        let mut parameters = vec![0.0; rows.columns + 1];
        let mut scores = vec![0.0; rows.count()];
        for _ in 0..MAX_STEPS {
            let gradient = problem.gradient(&parameters, &scores);
            let steepest = gradient.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
            if steepest <= TOLERANCE * rows.count() as f64 {
                break;
            }
            let step = problem.newton_step(&gradient, &scores);
            let along = problem.scores(&step);
            let Some(length) = problem.line_search(&parameters, &scores, &gradient, &step, &along)
            else {
                break;
            };
            add(&mut parameters, length, &step);
            add(&mut scores, length, &along);
        }
        let intercept = parameters.pop().unwrap_or(0.0);
        Some(Self { weights: parameters, intercept })
    }

    /// w·x + b; for [`Loss::Logistic`] the log of p / (1 − p), which orders rows as the probability
    /// does, without rounding to 0 or 1.
    pub fn score(&self, row: &[(u32, f64)]) -> f64 {
        dot(row, &self.weights) + self.intercept
    }

    /// Probability of true, where the loss is [`Loss::Logistic`].
    pub fn probability(&self, row: &[(u32, f64)]) -> f64 {
        sigmoid(self.score(row))
    }
}

struct Problem<'a> {
    loss: Loss,
    rows: &'a Rows,
    labels: &'a [bool],
    l2: f64,
}

impl Problem<'_> {
    fn scores(&self, parameters: &[f64]) -> Vec<f64> {
        let intercept = parameters[self.rows.columns];
        self.rows.iter().map(|row| dot(row, parameters) + intercept).collect()
    }

    /// Which way each row is to go, with its margin.
    fn margins(&self, scores: &[f64]) -> impl Iterator<Item = (f64, f64)> {
        let signs = self.labels.iter().map(|label| if *label { 1.0 } else { -1.0 });
        signs.zip(scores).map(|(sign, score)| (sign, sign * score))
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

    fn gradient(&self, parameters: &[f64], scores: &[f64]) -> Vec<f64> {
        let derivatives =
            self.margins(scores).map(|(sign, margin)| sign * self.loss.derivative(margin));
        self.penalised(self.transposed(derivatives), parameters)
    }

    /// Solves (second derivative) · step = −gradient, roughly where the optimum is far, by
    /// conjugate gradients preconditioned with the diagonal.
    fn newton_step(&self, gradient: &[f64], scores: &[f64]) -> Vec<f64> {
        let curvature: Vec<f64> =
            self.margins(scores).map(|(_, margin)| self.loss.curvature(margin)).collect();
        let inverse = self.inverse_diagonal(&curvature);
        let mut step = vec![0.0; gradient.len()];
        let mut rest: Vec<f64> = gradient.iter().map(|value| -value).collect();
        let mut scaled: Vec<f64> = product(&rest, &inverse);
        let mut direction = scaled.clone();
        let mut size = inner(&rest, &scaled);
        let enough = size * size.sqrt().min(0.01);
        for _ in 0..MAX_PRODUCTS {
            let along = self.scores(&direction);
            let factors = along.iter().zip(&curvature).map(|(along, curvature)| along * curvature);
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

    /// The first of 1, ½, ¼, … at which the loss falls as far as its gradient promises (Armijo);
    /// `None` where rounding hides any fall: the optimum.
    fn line_search(
        &self,
        parameters: &[f64],
        scores: &[f64],
        gradient: &[f64],
        step: &[f64],
        along: &[f64],
    ) -> Option<f64> {
        let columns = self.rows.columns;
        let descent = inner(gradient, step);
        let across = inner(&parameters[..columns], &step[..columns]);
        let own = inner(&step[..columns], &step[..columns]);
        // Differences term by term: the loss itself is too large to show the last small falls.
        let change = |length: f64| {
            let costs = self.margins(scores).zip(along).map(|((sign, margin), along)| {
                self.loss.cost(margin + sign * length * along) - self.loss.cost(margin)
            });
            costs.sum::<f64>() + self.l2 * length * (across + 0.5 * length * own)
        };
        let lengths = std::iter::successors(Some(1.0), |length| Some(length * 0.5));
        lengths.take(40).find(|length| descent < 0.0 && change(*length) <= 1e-4 * length * descent)
    }
}

fn sigmoid(score: f64) -> f64 {
    1.0 / (1.0 + (-score).exp())
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

#[cfg(test)]
mod tests;
