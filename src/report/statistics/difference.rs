//! Two arms compared in a number that is no mean over prompts: a distance, an area, a recall.

use super::significance::{seeds_differ, two_sided};
use super::{Bounded, average, deviation, drawn};
use crate::evaluate::Interval;

/// A number of one seed, with what it is for each draw of services. Arms that were asked for the same prompts
/// have seen the same draws ([`crate::evaluate::interval::resamples`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Resampled {
    pub value: f64,
    pub resamples: Vec<f64>,
}

/// The first arm minus the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    pub difference: Bounded,
    /// Of no difference, two-sided, before correction: the larger of a test over services, the difference
    /// by the deviation of its resamples, and Student's t-test over seeds.
    pub p: f64,
}

/// The difference of two arms whose seeds are the same, in the same order. A resample draws services, the
/// same for both arms and all seeds, and seeds, the same for both arms; the interval is that of the
/// resampled differences, recentred ([`Interval::recentred`]). What both arms share, such as the real
/// graphs and the services asked for, so has no part in it. `None` without seeds, with other numbers of
/// them, or where an arm has no resamples.
///
/// `groups` are the services that are drawn.
pub fn difference(one: &[Resampled], other: &[Resampled], groups: usize) -> Option<Difference> {
    if one.is_empty() || one.len() != other.len() || groups < 2 {
        return None;
    }
    let by_seed: Vec<f64> =
        one.iter().zip(other).map(|(one, other)| one.value - other.value).collect();
    let value = average(&by_seed);
    let draws = one.iter().chain(other).map(|seed| seed.resamples.len()).min().unwrap_or(0);
    if draws < 2 || value.is_nan() {
        return None;
    }
    let at = |resample: usize, times: &[u32]| {
        let differences = one.iter().zip(other).zip(times).map(|((one, other), times)| {
            f64::from(*times) * (one.resamples[resample] - other.resamples[resample])
        });
        differences.sum::<f64>() / f64::from(times.iter().sum::<u32>())
    };
    let once = vec![1; one.len()];
    let over_services: Vec<f64> = (0..draws).map(|resample| at(resample, &once)).collect();
    let over_both: Vec<f64> = (0..draws)
        .map(|resample| at(resample, &drawn("seeds", &[resample as u64, 0], one.len())))
        .collect();
    let Interval { low, high } = Interval::recentred(value, &over_both);
    let spread = deviation(&over_services);
    let services = match (value == 0.0, spread > 0.0) {
        (true, _) => 1.0,
        (_, true) => two_sided(value / spread, groups as f64 - 1.0),
        _ => f64::NAN,
    };
    // `max` would drop a NaN.
    let p = match seeds_differ(&by_seed) {
        Some(seeds) if seeds > services || seeds.is_nan() => seeds,
        _ => services,
    };
    Some(Difference { difference: Bounded { value, low, high }, p })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that go up and down with the services that are drawn.
    fn arm(value: f64, own: f64) -> Resampled {
        let shared = |resample: i32| f64::from(resample * 7 % 41 - 20) / 40.0;
        let single = |resample: i32| own * f64::from(resample * 11 % 37 - 18) / 36.0;
        let resamples = (0..200).map(|resample| value + shared(resample) + single(resample));
        Resampled { value, resamples: resamples.collect() }
    }

    /// Each arm's own interval is one wide; that of their difference knows that they share it.
    #[test]
    fn what_arms_share_has_no_part_in_their_difference() {
        let found = difference(&[arm(0.3, 0.02)], &[arm(0.2, 0.0)], 200).expect("a difference");
        let Bounded { value, low, high } = found.difference;
        assert!((value - 0.1).abs() < 1e-12 && low > 0.08 && high < 0.12, "{found:?}");
        assert!(found.p < 1e-6, "{found:?}");
        let none = difference(&[arm(0.3, 0.0)], &[arm(0.3, 0.0)], 200).expect("a difference");
        assert_eq!((none.difference.value, none.p), (0.0, 1.0));
    }

    #[test]
    fn a_difference_must_stand_up_to_other_trainings() {
        let ones = [arm(0.3, 0.02), arm(0.1, 0.02), arm(0.2, 0.02)];
        let others = [arm(0.2, 0.0), arm(0.2, 0.0), arm(0.1, 0.0)];
        let found = difference(&ones, &others, 200).expect("a difference");
        assert!(found.p > 0.3 && found.difference.low < 0.0, "{found:?}");
        assert!(
            difference(&ones, &others[..2], 200).is_none() && difference(&[], &[], 9).is_none()
        );
        let bare = Resampled { value: 0.5, resamples: Vec::new() };
        assert!(difference(&[bare], &others[..1], 200).is_none());
    }
}
