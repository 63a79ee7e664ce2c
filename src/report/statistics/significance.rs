//! P-values, and their correction for number.

use std::ops::Range;

use rand::Rng;
use rayon::prelude::*;
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use super::{average, deviation};
use crate::random;

/// Sign flips beyond which they are drawn at random: 2 to this power.
const MOST_EXACT: usize = 13;

/// Random sign flips. Where few are as far, there are more: the correction for hundreds of tests needs
/// small p-values, of which the smallest is one in a hundred thousand.
const FLIPS: [u64; 2] = [9_999, 99_999];
/// As many that are as far are enough to know the p-value (Besag and Clifford, 1991).
const ENOUGH: u64 = 100;

/// Paired permutation test, two-sided: how often is the sum of `differences` at least as far from 0
/// when their signs are drawn by chance? If two variants do the same, which of them got which answers to
/// a service is chance.
///
/// Differences of 0 have no sign. All combinations of signs of up to 13 services are tried; of more 9,999
/// random ones, and 99,999 where fewer than a hundred of these are as far.
pub fn services_differ(differences: &[f64]) -> f64 {
    if differences.is_empty() || differences.iter().any(|difference| difference.is_nan()) {
        return f64::NAN;
    }
    let parts: Vec<f64> = differences.iter().copied().filter(|part| *part != 0.0).collect();
    // Sums in another order differ in the last bits.
    let noise = 1e-12 * parts.iter().map(|part| part.abs()).sum::<f64>();
    let reached = parts.iter().sum::<f64>().abs() - noise;
    let is_far = |signs: &[u64]| {
        let flipped = parts.iter().enumerate().map(|(place, part)| {
            if (signs[place / 64] >> (place % 64)) & 1 == 1 { -part } else { *part }
        });
        flipped.sum::<f64>().abs() >= reached
    };
    if parts.len() <= MOST_EXACT {
        let all = 1u64 << parts.len();
        let far = (0..all).filter(|signs| is_far(&[*signs])).count();
        return far as f64 / all as f64;
    }
    let words = parts.len().div_ceil(64);
    let far = |flips: Range<u64>| {
        let far = flips.into_par_iter().filter(|flip| {
            let mut rng = random::stream(0, "statistics/flips", &[*flip]);
            is_far(&(0..words).map(|_| rng.next_u64()).collect::<Vec<u64>>())
        });
        far.count() as u64
    };
    let (mut count, mut flips) = (far(0..FLIPS[0]), FLIPS[0]);
    if count < ENOUGH {
        count += far(FLIPS[0]..FLIPS[1]);
        flips = FLIPS[1];
    }
    // What was observed is one of the combinations.
    (1 + count) as f64 / (1 + flips) as f64
}

/// Student's paired t-test of one difference per seed, two-sided; `None` for one seed, which says
/// nothing of others. Sign flips of three seeds could not get below a quarter.
pub fn seeds_differ(differences: &[f64]) -> Option<f64> {
    let freedom = differences.len().checked_sub(1).filter(|freedom| *freedom > 0)? as f64;
    let (mean, spread) = (average(differences), deviation(differences));
    if spread == 0.0 {
        return Some(if mean == 0.0 { 1.0 } else { 0.0 });
    }
    let t = mean / (spread / (freedom + 1.0).sqrt());
    if t.is_nan() {
        return Some(f64::NAN);
    }
    Some(two_sided(t, freedom))
}

/// Probability of a value of Student's distribution that is at least as far from 0 as `t`.
pub fn two_sided(t: f64, freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).map_or(f64::NAN, |student| 2.0 * student.cdf(-t.abs()))
}

/// The same of a normal value whose 95 % interval is `half` wide on the side of 0.
pub fn normal_two_sided(value: f64, half: f64) -> f64 {
    let normal = Normal::standard();
    let z = value.abs() / half * normal.inverse_cdf(0.975);
    if z.is_nan() { f64::NAN } else { 2.0 * normal.cdf(-z) }
}

/// 97.5 % point of Student's distribution.
pub fn student_quantile(freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).map_or(f64::NAN, |student| student.inverse_cdf(0.975))
}

/// Holm's correction (1979): holds the chance of even one false finding among all of them at the
/// level of each. NaN is no test, does not count, and stays.
pub fn holm(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).filter(|at| !values[*at].is_nan()).collect();
    order.sort_by(|one, other| values[*one].total_cmp(&values[*other]));
    let mut corrected = vec![f64::NAN; values.len()];
    let mut largest = 0.0f64;
    for (rank, place) in order.iter().enumerate() {
        largest = largest.max(values[*place] * (order.len() - rank) as f64).min(1.0);
        corrected[*place] = largest;
    }
    corrected
}
