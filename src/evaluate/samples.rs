//! Samples of one size. Two samples of one distribution are apart, the farther the smaller they are, and what
//! a classifier can tell grows with what it learns from. So all rows of a table, those of reference rows
//! included, are measured on as many graphs of theirs, and a row that has fewer has no number.

use rand::seq::SliceRandom;

use crate::random;

/// Samples of a row's graphs that a distance is the mean of.
pub const SPLITS: u64 = 5;

/// Fewest graphs that an experiment may declare, and that its number of prompts stands for.
pub const LEAST: usize = 50;
/// Most of them, if nothing is declared.
pub const MOST: usize = 2_000;

/// Graphs of each row that a distance is measured on, if the experiment declares none: a quarter of the
/// prompts, which a generator reaches that fails for three of four.
fn default_size(prompts: usize) -> usize {
    (prompts / 4).clamp(LEAST, MOST)
}

/// Graphs of each row that a distance is measured on: those that the experiment declares, since a stage
/// sees one generator only and all must be measured alike, or a share of the prompts.
pub fn size(declared: Option<u32>, prompts: usize) -> usize {
    declared.map_or_else(|| default_size(prompts), |graphs| graphs as usize)
}

/// [`SPLITS`] samples of `size` of these, whose order must not depend on how they came; none if there are
/// fewer.
pub fn samples<T: Copy>(all: &[T], size: usize, seed: u64) -> Vec<Vec<T>> {
    if all.len() < size || size == 0 {
        return Vec::new();
    }
    let sample = |split| {
        let mut order = all.to_vec();
        order.shuffle(&mut random::stream(seed, "samples of one size", &[split]));
        order.truncate(size);
        order
    };
    (0..SPLITS).map(sample).collect()
}

/// How many graphs are behind a number: those of a sample, or as many as there are if these are too few.
pub fn behind(all: usize, size: usize) -> u64 {
    all.min(size) as u64
}

/// Sizes of two disjoint samples of `all` real graphs: one in the place of the `test` graphs, and one of `size`,
/// but at most half of all.
pub fn cut(all: usize, test: usize, size: usize) -> (usize, usize) {
    let size = size.min(all / 2);
    let test = if test == 0 { all / 2 } else { test };
    (test.min(all - size), size)
}

/// Means over samples of `count` statistics; NaN without a sample, or where one gives no number.
pub fn means<T>(samples: &[T], count: usize, statistics: impl Fn(&T) -> Vec<f64>) -> Vec<f64> {
    let mut sums = vec![0.0; count];
    for sample in samples {
        sums.iter_mut().zip(statistics(sample)).for_each(|(sum, value)| *sum += value);
    }
    sums.into_iter().map(|sum| sum / samples.len() as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_one_size_or_there_are_none() {
        let all: Vec<u32> = (0..100).collect();
        let drawn = samples(&all, 40, 1);
        assert_eq!(drawn.len(), SPLITS as usize);
        assert!(drawn.iter().all(|sample| sample.len() == 40));
        assert_ne!(drawn[0], drawn[1]);
        assert_eq!(samples(&all, 60, 1)[0][..40], drawn[0]);
        assert!(samples(&all, 101, 1).is_empty() && samples::<u32>(&[], 0, 1).is_empty());
        assert_eq!([20, 2_000, 50_000].map(default_size), [50, 500, 2_000]);
        assert_eq!(cut(1_000, 100, 250), (100, 250));
        assert_eq!((cut(100, 60, 80), cut(100, 0, 20)), ((50, 50), (50, 20)));
        assert_eq!((behind(30, 40), behind(100, 40)), (30, 40));
    }

    #[test]
    fn means_by_hand() {
        let double = |value: &f64| vec![*value, 2.0 * value];
        assert_eq!(means(&[1.0, 3.0], 2, double), [2.0, 4.0]);
        assert!(means(&[], 2, double).iter().all(|value| value.is_nan()));
    }
}
