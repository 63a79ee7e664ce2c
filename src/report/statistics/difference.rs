//! Two variants compared in a number that is no mean over prompts: a distance, an area, a recall.

use super::significance::{normal_two_sided, seeds_differ, two_sided};
use super::{Bounded, average, deviation, drawn};
use crate::records::{Interval, Resamples};

/// A number of one seed, with what it is for each draw of services.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resampled<'a> {
    pub value: f64,
    pub resamples: &'a Resamples,
}

/// The first minus the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    pub difference: Bounded,
    /// Of no difference, two-sided, before correction.
    pub p: f64,
}

/// The difference of two variants whose seeds are the same, in the same order, and have seen the same draws.
/// A resample draws services, the same for both variants and all seeds, and seeds, the same for both
/// variants; the interval is that of the resampled differences, recentred ([`Interval::recentred`]). What
/// both share, such as the real graphs and the services asked for, so has no part in it. p is the larger of
/// a test over services, the difference by the deviation of its resamples, and Student's t-test over seeds.
/// `None` without seeds, with other numbers of them, or of other draws.
pub fn difference(one: &[Resampled], other: &[Resampled]) -> Option<Difference> {
    let pairs = || one.iter().zip(other);
    let shared = pairs().all(|(one, other)| one.resamples.draws == other.resamples.draws);
    if one.is_empty() || one.len() != other.len() || !shared {
        return None;
    }
    let groups = one[0].resamples.groups;
    let by_seed: Vec<f64> = pairs().map(|(one, other)| one.value - other.value).collect();
    let value = average(&by_seed);
    let numbers = || one.iter().chain(other).map(|seed| &seed.resamples.values);
    let draws = numbers().map(Vec::len).min().unwrap_or(0);
    if draws < 2 || groups < 2 || value.is_nan() {
        return None;
    }
    let at = |resample: usize, times: &[u32]| {
        let differences = pairs().zip(times).map(|((one, other), times)| {
            let [one, other] = [one, other].map(|seed| seed.resamples.values[resample]);
            f64::from(*times) * (one - other)
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
        (_, true) => two_sided(value / spread, f64::from(groups) - 1.0),
        _ => f64::NAN,
    };
    // `max` would drop a NaN.
    let p = match seeds_differ(&by_seed) {
        Some(seeds) if seeds > services || seeds.is_nan() => seeds,
        _ => services,
    };
    Some(Difference { difference: Bounded { value, low, high }, p })
}

/// The difference of two numbers of which no more than the intervals is known, as if they had nothing in
/// common: the distances from values to ends, put together as the root of the sum of squares (MOVER; Zou and
/// Donner, 2008). p is that of a normal value whose interval has the same end on the side of 0. No interval
/// and no p where one of the two has none.
pub fn independent(one: Bounded, other: Bounded) -> Difference {
    let value = one.value - other.value;
    let below = (one.value - one.low).hypot(other.high - other.value);
    let above = (one.high - one.value).hypot(other.value - other.low);
    let towards_0 = if value > 0.0 { below } else { above };
    let p =
        if value == 0.0 && !towards_0.is_nan() { 1.0 } else { normal_two_sided(value, towards_0) };
    Difference { difference: Bounded { value, low: value - below, high: value + above }, p }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value, and those that go up and down with the services that are drawn.
    fn variant(value: f64, own: f64) -> (f64, Resamples) {
        let shared = |resample: i32| f64::from(resample * 7 % 41 - 20) / 40.0;
        let single = |resample: i32| own * f64::from(resample * 11 % 37 - 18) / 36.0;
        let resamples = (0..200).map(|resample| value + shared(resample) + single(resample));
        (value, Resamples { draws: 7, groups: 200, values: resamples.collect() })
    }

    fn compared(one: &[(f64, Resamples)], other: &[(f64, Resamples)]) -> Option<Difference> {
        let [one, other] = [one, other].map(|seeds| {
            let seeds = seeds.iter();
            seeds.map(|(value, resamples)| Resampled { value: *value, resamples }).collect()
        });
        let (one, other): (Vec<Resampled>, Vec<Resampled>) = (one, other);
        difference(&one, &other)
    }

    /// Each variant's own interval is one wide; that of their difference knows that they share it.
    #[test]
    fn what_variants_share_has_no_part_in_their_difference() {
        let found = compared(&[variant(0.3, 0.02)], &[variant(0.2, 0.0)]).expect("a difference");
        let Bounded { value, low, high } = found.difference;
        assert!((value - 0.1).abs() < 1e-12 && low > 0.08 && high < 0.12, "{found:?}");
        assert!(found.p < 1e-6, "{found:?}");
        let none = compared(&[variant(0.3, 0.0)], &[variant(0.3, 0.0)]).expect("a difference");
        assert_eq!((none.difference.value, none.p), (0.0, 1.0));
    }

    #[test]
    fn a_difference_must_stand_up_to_other_trainings() {
        let ones = [variant(0.3, 0.02), variant(0.1, 0.02), variant(0.2, 0.02)];
        let others = [variant(0.2, 0.0), variant(0.2, 0.0), variant(0.1, 0.0)];
        let found = compared(&ones, &others).expect("a difference");
        assert!(found.p > 0.3 && found.difference.low < 0.0, "{found:?}");
        assert!(compared(&ones, &others[..2]).is_none() && compared(&[], &[]).is_none());
        let (value, resamples) = variant(0.2, 0.0);
        let elsewhere = [(value, Resamples { draws: 8, ..resamples })];
        assert!(compared(&elsewhere, &others[..1]).is_none());
    }

    /// Newcombe (1998), method 10: 56/70 against 48/80 has the difference 0.2 from 0.0524 to 0.3339.
    #[test]
    fn intervals_apart_are_those_of_newcombe() {
        let wilson = |hits: u64, count: u64| {
            let Interval { low, high } = Interval::wilson(hits, count);
            Bounded { value: hits as f64 / count as f64, low, high }
        };
        let found = independent(wilson(56, 70), wilson(48, 80));
        let Bounded { value, low, high } = found.difference;
        assert!((value - 0.2).abs() < 1e-12, "{found:?}");
        assert!((low - 0.0524).abs() < 1e-4 && (high - 0.3339).abs() < 1e-4, "{found:?}");
        assert!(found.p > 0.005 && found.p < 0.01, "{found:?}");
        let turned = independent(wilson(48, 80), wilson(56, 70));
        assert!((turned.difference.low + high).abs() < 1e-12 && turned.p == found.p);
        let none = independent(wilson(56, 70), Bounded { value: 0.5, ..Bounded::NONE });
        assert!(none.difference.low.is_nan() && none.p.is_nan());
    }
}
