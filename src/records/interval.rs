//! 95 % intervals: Wilson for proportions, a bootstrap over services for the rest. What they are worth is
//! measured in docs/metrics/statistics.md.

use rand::{Rng, RngExt};
use rayon::prelude::*;

use crate::random;

/// Two ends; NaN where there is no interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// 97.5 % point of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// Bootstrap resamples behind an interval.
pub const RESAMPLES: u64 = 200;

/// Services, or other groups that are drawn whole, below which there is no interval: with fewer, the
/// resamples are few different ones, and how the groups differ is hardly known.
pub const LEAST_GROUPS: usize = 10;

impl Interval {
    pub const NONE: Self = Self { low: f64::NAN, high: f64::NAN };

    /// Wilson's score interval for a proportion of `hits` in `count` independent trials (Wilson,
    /// 1927). Inside [0, 1] and never empty, also for 0 or `count` hits; none for no trials.
    pub fn wilson(hits: u64, count: u64) -> Self {
        Self::wilson_share(hits as f64 / count as f64, count as f64)
    }

    /// As [`Interval::wilson`] for a share of `count` trials that need not be whole numbers, as
    /// after a correction for overdispersion. None for no trials.
    pub fn wilson_share(share: f64, count: f64) -> Self {
        if share.is_nan() || count <= 0.0 {
            return Self::NONE;
        }
        let scale = 1.0 + Z * Z / count;
        let middle = (share + Z * Z / (2.0 * count)) / scale;
        let spread = share * (1.0 - share) / count + Z * Z / (4.0 * count * count);
        let half = Z / scale * spread.sqrt();
        // At the ends the exact bound is 0 or 1; rounding must not push it inside.
        Self {
            low: if share == 0.0 { 0.0 } else { (middle - half).max(0.0) },
            high: if share == 1.0 { 1.0 } else { (middle + half).min(1.0) },
        }
    }

    /// Normal interval of a share in [0, 1] by the delete-one-group jackknife: `without` are its values
    /// without each of the groups (Tukey, 1958). None for fewer than [`LEAST_GROUPS`] groups or a value that
    /// is NaN.
    pub fn jackknife(share: f64, without: &[f64]) -> Self {
        let groups = without.len() as f64;
        if without.len() < LEAST_GROUPS
            || share.is_nan()
            || without.iter().any(|value| value.is_nan())
        {
            return Self::NONE;
        }
        let mean = without.iter().sum::<f64>() / groups;
        let squares: f64 = without.iter().map(|value| (value - mean).powi(2)).sum();
        let half = Z * (squares * (groups - 1.0) / groups).sqrt();
        Self { low: (share - half).max(0.0), high: (share + half).min(1.0) }
    }

    /// The percentiles of `resamples`, moved by as much as their mean lies beside `value`. A resample of a
    /// sample is farther from everything than the sample is, as the sample is than the whole; without the
    /// shift the interval of a distance would lie above the value and promise a distance that no sample
    /// of this size shows. Of a mean, which resamples do not move, they are the percentiles.
    ///
    /// Holds the value, and keeps to 0 or more and to 1 or less where value and resamples do.
    pub fn recentred(value: f64, resamples: &[f64]) -> Self {
        let Self { low, high } = Self::percentiles(resamples);
        let shift = resamples.iter().sum::<f64>() / resamples.len() as f64 - value;
        if low.is_nan() || shift.is_nan() {
            return Self::NONE;
        }
        let all = |keeps: fn(f64) -> bool| keeps(value) && resamples.iter().all(|v| keeps(*v));
        let least = if all(|v| v >= 0.0) { 0.0 } else { f64::NEG_INFINITY };
        let most = if all(|v| v <= 1.0) { 1.0 } else { f64::INFINITY };
        Self { low: (low - shift).max(least).min(value), high: (high - shift).min(most).max(value) }
    }

    /// From the 2.5 % to the 97.5 % point of `values`, interpolated between neighbours. None if
    /// there are fewer than two values or one of them is NaN: leaving out the failed ones would
    /// show the spread of the others only.
    pub fn percentiles(values: &[f64]) -> Self {
        if values.len() < 2 || values.iter().any(|value| value.is_nan()) {
            return Self::NONE;
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (sorted.len() - 1) as f64;
            let (below, part) = (place.floor() as usize, place.fract());
            let above = (below + 1).min(sorted.len() - 1);
            sorted[below] + part * (sorted[above] - sorted[below])
        };
        Self { low: at(0.025), high: at(0.975) }
    }
}

/// Services, or other things that resemble each other within and are drawn whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    seed: u64,
    count: usize,
    /// Of the seed and the groups, in order.
    fingerprint: u64,
}

impl Groups {
    /// Groups by name, in the order in which they are counted.
    pub fn named<'a>(seed: u64, names: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut hash, mut count) = (blake3::Hasher::new(), 0);
        hash.update(&seed.to_le_bytes());
        for name in names {
            hash.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
            count += 1;
        }
        let mut first = [0; 8];
        hash.finalize_xof().fill(&mut first);
        Self { seed, count, fingerprint: u64::from_le_bytes(first) }
    }

    /// So many groups without names, which are the same for all that have as many.
    pub fn numbered(seed: u64, count: usize) -> Self {
        Self { count, ..Self::named(seed, [count.to_string().as_str()]) }
    }
}

/// A number for each draw of groups. Two of the same draws are resampled in step, so that what they share has
/// no part in their difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Resamples {
    /// Fingerprint of the groups that were drawn, and of the seed.
    pub draws: u64,
    /// How many groups there are.
    pub groups: u32,
    pub values: Vec<f64>,
}

/// A number with its interval, and what it is for each draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    pub value: f64,
    pub interval: Interval,
    /// `None` where there is no interval.
    pub resamples: Option<Resamples>,
}

impl Estimate {
    /// No number.
    pub const NONE: Self = Self { value: f64::NAN, interval: Interval::NONE, resamples: None };
}

/// Bootstrap clustered by service or other `groups`: each resample draws groups with replacement, one less
/// than there are ([`drawn`]), and `statistics` is given how often each one was drawn. Its values for one of
/// each get [recentred](Interval::recentred) intervals. All statistics see the same draws for the same seed
/// and number of groups, so that variants asked for the same conditions are compared pairwise. No intervals
/// for fewer than [`LEAST_GROUPS`] groups.
///
/// Graphs of one service resemble each other, and one service may be 15 % of the data: resampling
/// single graphs would give intervals that are far too narrow.
pub fn bootstrap<F>(groups: Groups, statistics: F) -> Vec<Estimate>
where
    F: Fn(&[u32]) -> Vec<f64> + Sync,
{
    let values = statistics(&vec![1; groups.count]);
    if groups.count < LEAST_GROUPS {
        let without = |value| Estimate { value, ..Estimate::NONE };
        return values.into_iter().map(without).collect();
    }
    let resamples = resamples(groups.seed, groups.count, statistics);
    let of = |(index, value): (usize, f64)| {
        let values: Vec<f64> = resamples.iter().map(|values| values[index]).collect();
        let interval = Interval::recentred(value, &values);
        let (draws, count) = (groups.fingerprint, groups.count as u32);
        let resamples = Resamples { draws, groups: count, values };
        Estimate { value, interval, resamples: (!interval.low.is_nan()).then_some(resamples) }
    };
    values.into_iter().enumerate().map(of).collect()
}

/// What `statistics` gives for each of [`RESAMPLES`] draws of services: the draws behind [`bootstrap`].
pub fn resamples<F>(seed: u64, services: usize, statistics: F) -> Vec<Vec<f64>>
where
    F: Fn(&[u32]) -> Vec<f64> + Sync,
{
    let resamples = (0..RESAMPLES).into_par_iter().map(|resample| {
        let mut rng = random::stream(seed, "bootstrap", &[resample]);
        statistics(&drawn(services, &mut rng))
    });
    resamples.collect()
}

/// How often each of `count` things is drawn in a resample. One less is drawn than there are: with as many,
/// the variance of a mean of three things would come out a third too small (Rao and Wu, 1988).
pub fn drawn(count: usize, rng: &mut impl Rng) -> Vec<u32> {
    let mut drawn = vec![0; count];
    for _ in 0..(count.max(2) - 1).min(count) {
        drawn[rng.random_range(0..count)] += 1;
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(interval: Interval, low: f64, high: f64) {
        assert!((interval.low - low).abs() < 1e-4, "{interval:?}");
        assert!((interval.high - high).abs() < 1e-4, "{interval:?}");
    }

    /// For a mean of groups of one, the jackknife's variance is s²/n.
    #[test]
    fn the_jackknife_of_a_mean_is_its_standard_error() {
        let values = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0];
        let (count, sum) = (values.len() as f64, values.iter().sum::<f64>());
        let mean = sum / count;
        let without: Vec<f64> = values.iter().map(|value| (sum - value) / (count - 1.0)).collect();
        let Interval { low, high } = Interval::jackknife(mean, &without);
        let variance =
            values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let half = Z * (variance / count).sqrt();
        assert!((low - (mean - half)).abs() < 1e-12 && (high - (mean + half)).abs() < 1e-12);
        assert!(Interval::jackknife(0.5, &[0.5]).low.is_nan());
        assert!(Interval::jackknife(f64::NAN, &[0.5, 0.4]).low.is_nan());
    }

    #[test]
    fn wilson_against_published_values() {
        // 10 of 20: 0.2993, 0.7007; 0 of 10: 0, 0.2775; 81 of 263: 0.2553, 0.3662 (Newcombe 1998).
        close(Interval::wilson(10, 20), 0.2993, 0.7007);
        close(Interval::wilson(0, 10), 0.0, 0.2775);
        close(Interval::wilson(10, 10), 0.7225, 1.0);
        close(Interval::wilson(81, 263), 0.2553, 0.3662);
        assert!(Interval::wilson(0, 0).low.is_nan());
    }

    #[test]
    fn percentiles_interpolate() {
        let values: Vec<f64> = (0..=40).rev().map(f64::from).collect();
        close(Interval::percentiles(&values), 1.0, 39.0);
        assert!(Interval::percentiles(&[1.0, f64::NAN, 2.0]).low.is_nan());
    }

    /// The bootstrap of a mean over n clusters has the standard error σ/√n.
    #[test]
    fn the_bootstrap_covers_a_mean() {
        let values: Vec<f64> = (0..400).map(|index| f64::from(index % 2)).collect();
        let mean = |drawn: &[u32]| {
            let sum: f64 = drawn.iter().zip(&values).map(|(n, value)| f64::from(*n) * value).sum();
            vec![sum / 400.0]
        };
        let of = |services, mean: &(dyn Fn(&[u32]) -> Vec<f64> + Sync)| {
            bootstrap(Groups::numbered(3, services), mean).remove(0)
        };
        let estimate = of(400, &mean);
        let interval = estimate.interval;
        // 0.5 ± 1.96 · 0.5 / 20, give or take the noise of 200 resamples.
        assert!((0.44..0.47).contains(&interval.low), "{interval:?}");
        assert!((0.53..0.56).contains(&interval.high), "{interval:?}");
        assert_eq!(estimate, of(400, &mean));
        assert_eq!(estimate.resamples.map(|drawn| drawn.values.len()), Some(200));
        let few = of(9, &|_| vec![1.0]);
        assert!(few.interval.low.is_nan() && few.resamples.is_none() && few.value == 1.0);
        assert_eq!(of(10, &|_| vec![1.0]).interval, Interval { low: 1.0, high: 1.0 });
    }

    #[test]
    fn draws_are_those_of_the_same_groups_and_seed() {
        let draws = |seed, names: &[&str]| Groups::named(seed, names.iter().copied()).fingerprint;
        assert_eq!(draws(1, &["a", "b"]), draws(1, &["a", "b"]));
        assert_ne!(draws(1, &["a", "b"]), draws(2, &["a", "b"]));
        assert_ne!(draws(1, &["a", "b"]), draws(1, &["ab", ""]));
    }

    /// Total variation of 300 draws from one of 100 equal cells: about 0.23 by chance alone, and that of a
    /// resample 0.33. Percentiles alone, as they were, hold neither the value nor what another sample shows.
    #[test]
    fn an_interval_of_a_distance_is_that_of_a_sample_of_the_same_size() {
        let distance = |counts: &[f64]| {
            let all: f64 = counts.iter().sum();
            0.5 * counts.iter().map(|count| (count / all - 0.01).abs()).sum::<f64>()
        };
        let sample = |seed: u64| -> Vec<usize> {
            let mut rng = random::stream(seed, "test/total variation", &[]);
            (0..300).map(|_| rng.random_range(0..100)).collect()
        };
        let of = |cells: &[usize], drawn: &[u32]| {
            let mut counts = vec![0.0; 100];
            cells.iter().zip(drawn).for_each(|(cell, times)| counts[*cell] += f64::from(*times));
            distance(&counts)
        };
        let whole = vec![1; 300];
        let usual = (0..40).map(|seed| of(&sample(seed), &whole)).sum::<f64>() / 40.0;
        let mut held = 0;
        for seed in 0..40 {
            let cells = sample(seed);
            let value = of(&cells, &whole);
            let groups = Groups::numbered(seed, 300);
            let Interval { low, high } =
                bootstrap(groups, |drawn| vec![of(&cells, drawn)])[0].interval;
            assert!(low <= value && value <= high, "{low} {value} {high}");
            held += u32::from(low <= usual && usual <= high);
        }
        assert!(held >= 36, "{held} of 40");
    }
}
