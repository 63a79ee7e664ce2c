//! Linear classifiers and the area under the ROC curve: what stands behind metrics that ask what a
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

/// What a row costs whose score is on the wrong side, or not far enough on the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
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
