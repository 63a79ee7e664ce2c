//! What several seeds and many services say of variants: means and differences with intervals that know
//! of both, and tests that are corrected for their number. docs/metrics/statistics.md defines them.
//!
//! Seeds and services are *crossed*: every training is asked about the same services. A resample
//! therefore draws services once for all of its seeds. Drawing them anew within each seed, as if
//! they belonged to it, would average over services that nobody has, and promise too much.

mod difference;
mod pair;
mod significance;

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

pub use difference::{Difference, Resampled, difference, independent};
pub use pair::{Comparison, compare};
pub use significance::{holm, seeds_differ, services_differ};

pub use super::figure::Bounded;
use crate::random;
use crate::records::{self, Interval, LEAST_GROUPS, Metric, PromptScores};

/// Resamples behind an interval.
pub const RESAMPLES: u64 = 1_000;

/// The answers of one variant: its seeds in order, with what is known of each answer.
pub type Seeds<'a> = Vec<(u64, &'a PromptScores)>;

/// Sums over the prompts of one seed and service.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    total: f64,
    squares: f64,
    count: f64,
}

/// Values of one metric, summed by seed and service.
pub struct Sample {
    seeds: Vec<Vec<Sums>>,
    /// All values are 0 or 1.
    binary: bool,
}

impl Sample {
    /// The values of `metric` that exist; `None` if a seed has no such column.
    fn new(
        seeds: &Seeds,
        metric: &Metric,
        services: &Services,
        keep: impl Fn(usize, usize) -> bool,
    ) -> Option<Self> {
        let mut sample = Self { seeds: Vec::new(), binary: true };
        for (place, (_, scores)) in seeds.iter().enumerate() {
            let mut sums = vec![Sums::default(); services.count()];
            let values = scores.column(metric)?.iter().enumerate();
            for (index, &value) in values.filter(|(index, _)| keep(place, *index)) {
                if value.is_nan() {
                    continue;
                }
                let sums = &mut sums[services.place(&scores.services[index])];
                sums.total += value;
                sums.squares += value * value;
                sums.count += 1.0;
                sample.binary &= value == 0.0 || value == 1.0;
            }
            sample.seeds.push(sums);
        }
        Some(sample)
    }

    /// All values of `metric` that a variant has.
    pub fn of(seeds: &Seeds, metric: &Metric, services: &Services) -> Option<Self> {
        Self::new(seeds, metric, services, |_, _| true)
    }

    /// The mean of each seed.
    pub fn means(&self) -> Vec<f64> {
        (0..self.seeds.len()).map(|seed| self.seed_mean(seed, None)).collect()
    }

    /// Mean over the prompts of a seed, each service taken as often as it was drawn.
    fn seed_mean(&self, seed: usize, drawn: Option<&[u32]>) -> f64 {
        let (mut total, mut count) = (0.0, 0.0);
        for (service, sums) in self.seeds[seed].iter().enumerate() {
            let times = drawn.map_or(1.0, |drawn| f64::from(drawn[service]));
            total += times * sums.total;
            count += times * sums.count;
        }
        total / count
    }

    /// Mean over the drawn seeds of their means.
    fn mean(&self, seeds: &[u32], services: &[u32]) -> f64 {
        let drawn = seeds.iter().enumerate().filter(|(_, times)| **times > 0);
        let means = drawn.map(|(seed, times)| {
            (f64::from(*times) * self.seed_mean(seed, Some(services)), f64::from(*times))
        });
        let (sum, count) = means.fold((0.0, 0.0), |sums, more| (sums.0 + more.0, sums.1 + more.1));
        sum / count
    }

    /// Mean over the seeds, with its interval. That of shares is never narrower than Wilson's for the
    /// prompts of one seed, which the others may share: resamples of answers that are all right are all
    /// right too, which would claim certainty.
    pub fn estimate(&self, resampling: &Resampling) -> Bounded {
        let value = average(&self.means());
        let statistic = |draw: &Draw| self.mean(&draw.seeds[0], draw.services);
        let sides = [self.seeds.len(), 0];
        let interval = resampling.interval(value, sides, true, statistic);
        if interval.low.is_nan() || !self.binary {
            return Bounded { value, low: interval.low, high: interval.high };
        }
        let all = self.pooled();
        let prompts = all.count / self.seeds.len() as f64;
        let wilson = Interval::wilson_share(all.total / all.count, prompts);
        Bounded { value, low: interval.low.min(wilson.low), high: interval.high.max(wilson.high) }
    }

    /// Sums over all seeds and services.
    fn pooled(&self) -> Sums {
        let all = self.seeds.iter().flatten();
        all.fold(Sums::default(), |sums, more| Sums {
            total: sums.total + more.total,
            squares: sums.squares + more.squares,
            count: sums.count + more.count,
        })
    }

    /// Prompts with a value, over all seeds.
    pub fn prompts(&self) -> u64 {
        self.pooled().count as u64
    }

    /// Services with a value in any seed.
    pub fn services(&self) -> u64 {
        let services = 0..self.seeds.first().map_or(0, Vec::len);
        let asked = services.filter(|place| self.seeds.iter().any(|sums| sums[*place].count > 0.0));
        asked.count() as u64
    }
}

/// The interval of a fraction over the seeds and services of a variant, by the values of its prompts; `None`
/// where an evaluation has none.
pub fn fraction(seeds: &Seeds, metric: &Metric) -> Option<Bounded> {
    let services = Services::new(seeds.iter().map(|(_, scores)| *scores));
    Some(Sample::of(seeds, metric, &services)?.estimate(&Resampling::new(&services)))
}

/// One number of several seeds: their mean, NaN if one of them is. `None` without seeds.
///
/// The seeds share real graphs and services, and often prompts, so that what one interval does not know the
/// others do not know either, and their mean is no narrower than each of them. To that is added, as the
/// root of the sum of squares, Student's interval of the mean over trainings. Three identical seeds have
/// the interval of one. None where a seed has none.
pub fn of_seeds(seeds: &[Bounded]) -> Option<Bounded> {
    if let [] | [_] = seeds {
        return seeds.first().copied();
    }
    let count = seeds.len() as f64;
    let values: Vec<f64> = seeds.iter().map(|seed| seed.value).collect();
    let value = average(&values);
    let below = average(&seeds.iter().map(|seed| seed.value - seed.low).collect::<Vec<f64>>());
    let above = average(&seeds.iter().map(|seed| seed.high - seed.value).collect::<Vec<f64>>());
    let student = significance::student_quantile(count - 1.0);
    let between = student * deviation(&values) / count.sqrt();
    if value.is_nan() || !between.is_finite() {
        return Some(Bounded { value, ..Bounded::NONE });
    }
    let least = if seeds.iter().all(|seed| seed.low >= 0.0) { 0.0 } else { f64::NEG_INFINITY };
    let low = (value - below.hypot(between)).max(least);
    let high = value + above.hypot(between);
    // `max` drops a NaN.
    let none = below.is_nan() || above.is_nan();
    Some(if none { Bounded { value, ..Bounded::NONE } } else { Bounded { value, low, high } })
}

/// Mean of some numbers; NaN for none.
fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Standard deviation of a sample; NaN for fewer than two values.
fn deviation(values: &[f64]) -> f64 {
    let mean = average(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() as f64 - 1.0)).sqrt()
}

/// All services that any variant was asked about, in the order of names.
pub struct Services<'a>(BTreeMap<&'a str, usize>);

impl<'a> Services<'a> {
    pub fn new(scores: impl Iterator<Item = &'a PromptScores>) -> Self {
        let names =
            scores.flat_map(|scores| scores.services.iter().map(|service| service.as_str()));
        let names: BTreeSet<&str> = names.collect();
        Self(names.into_iter().zip(0..).collect())
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    fn place(&self, service: &str) -> usize {
        self.0[service]
    }
}

/// How often a resample drew each seed, of one variant and of another, and each service.
struct Draw<'a> {
    seeds: [Vec<u32>; 2],
    services: &'a [u32],
}

/// The draws of services behind all intervals of a report: the same for every variant and pair.
pub struct Resampling(Vec<Vec<u32>>);

impl Resampling {
    pub fn new(services: &Services) -> Self {
        let of = |resample| drawn("services", &[resample], services.count());
        Self((0..RESAMPLES).map(of).collect())
    }

    /// From the 2.5 % to the 97.5 % point of `statistic` over the resamples, widened where it does not
    /// hold the `value` of the whole: of means and of what is drawn from them, which resamples do not
    /// move. `sides` are the numbers of seeds of one or two variants; seeds
    /// of the same `paired` training conditions are drawn together. One seed is always drawn: its
    /// interval knows of services only. None for fewer than [`LEAST_GROUPS`] services, or
    /// if a resample gives no number.
    fn interval(
        &self,
        value: f64,
        sides: [usize; 2],
        paired: bool,
        statistic: impl Fn(&Draw) -> f64 + Sync,
    ) -> Interval {
        if value.is_nan() || self.0.first().is_none_or(|services| services.len() < LEAST_GROUPS) {
            return Interval::NONE;
        }
        let resamples = self.0.par_iter().enumerate().map(|(resample, services)| {
            let of = |side: usize| drawn("seeds", &[resample as u64, side as u64], sides[side]);
            let first = of(0);
            let second = if paired { first.clone() } else { of(1) };
            statistic(&Draw { seeds: [first, second], services })
        });
        let Interval { low, high } = Interval::percentiles(&resamples.collect::<Vec<f64>>());
        if low.is_nan() {
            return Interval::NONE;
        }
        Interval { low: low.min(value), high: high.max(value) }
    }
}

/// How often each of `count` things is drawn.
fn drawn(of: &str, path: &[u64], count: usize) -> Vec<u32> {
    records::drawn(count, &mut random::stream(0, &format!("statistics/{of}"), path))
}

#[cfg(test)]
mod tests;
