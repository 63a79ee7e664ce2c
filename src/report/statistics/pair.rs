//! Two variants compared.

use super::significance::{seeds_differ, services_differ};
use super::{Bounded, Draw, Resampling, Sample, Seeds, Services, Sums, average};
use crate::records::{Interval, Metric};

/// What two variants have to do with each other: the first minus the second.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Both were asked the same prompts, seed by seed.
    pub paired: bool,
    /// Prompts of the first variant, over all seeds.
    pub prompts: u64,
    pub services: u64,
    /// Difference of the means over seeds.
    pub difference: Bounded,
    /// Cohen's h of shares, 2 asin √p − 2 asin √q; Cohen's d (difference over the root of the mean
    /// variance of the two) of other numbers. NaN where values do not vary at all.
    pub effect: f64,
    /// Probability that the first variant has the higher mean on a service and a seed drawn at random.
    /// Where that is so on all services or on none, the interval is Wilson's for as many trials.
    pub improvement: Bounded,
    /// Of no difference, before correction; NaN for variants that are not paired.
    pub p: f64,
}

/// Compares two variants in `metric`; `None` if one of them does not have it by prompt.
///
/// Variants are compared on the seeds that both have, if there are any, and paired variants on the prompts
/// for which both have a value.
pub fn compare(
    [one, other]: [&Seeds; 2],
    metric: &Metric,
    services: &Services,
    resampling: &Resampling,
) -> Option<Comparison> {
    let (one, other) = (&common(one, other), &common(other, one));
    let paired = asked_the_same(one, other);
    let exists = |seeds: &Seeds, seed: usize, index: usize| {
        seeds[seed].1.column(metric).is_some_and(|values| !values[index].is_nan())
    };
    let a = Sample::new(one, metric, services, |s, i| !paired || exists(other, s, i))?;
    let b = Sample::new(other, metric, services, |s, i| !paired || exists(one, s, i))?;
    let sides = [a.seeds.len(), b.seeds.len()];
    let bounded = |value: f64, statistic: &(dyn Fn(&Draw) -> f64 + Sync)| {
        let interval = resampling.interval(value, sides, paired, statistic);
        Bounded { value, low: interval.low, high: interval.high }
    };
    let means = [average(&a.means()), average(&b.means())];
    let difference = bounded(means[0] - means[1], &|draw: &Draw| {
        a.mean(&draw.seeds[0], draw.services) - b.mean(&draw.seeds[1], draw.services)
    });
    let above = Above::new(&a, &b);
    let all =
        Draw { seeds: sides.map(|seeds| vec![1; seeds]), services: &vec![1; services.count()] };
    let mut improvement = bounded(above.probability(&all), &|draw: &Draw| above.probability(draw));
    if !improvement.low.is_nan() && [0.0, 1.0].contains(&improvement.value) {
        // Resamples of services that all agree all agree too.
        let wilson = Interval::wilson_share(improvement.value, above.asked() as f64);
        (improvement.low, improvement.high) = (wilson.low, wilson.high);
    }
    let p = if paired { p_value(&a, &b) } else { f64::NAN };
    Some(Comparison {
        paired,
        prompts: a.prompts(),
        services: a.services(),
        difference,
        effect: effect(&a, &b, means),
        improvement,
        p,
    })
}

/// The seeds of `one` that `other` has too; all of them if it has none.
fn common<'a>(one: &Seeds<'a>, other: &Seeds) -> Seeds<'a> {
    let shared = one.iter().filter(|(seed, _)| other.iter().any(|(known, _)| known == seed));
    let shared: Seeds = shared.copied().collect();
    if shared.is_empty() { one.clone() } else { shared }
}

fn asked_the_same(one: &Seeds, other: &Seeds) -> bool {
    let mut pairs = one.iter().zip(other);
    one.len() == other.len()
        && pairs.all(|((seed, scores), (known, others))| {
            seed == known && scores.prompts == others.prompts
        })
}

fn effect(a: &Sample, b: &Sample, [p, q]: [f64; 2]) -> f64 {
    if a.binary && b.binary {
        let angle = |share: f64| 2.0 * share.clamp(0.0, 1.0).sqrt().asin();
        return if p.is_nan() || q.is_nan() { f64::NAN } else { angle(p) - angle(q) };
    }
    let variance = |sample: &Sample| {
        let Sums { total, squares, count } = sample.pooled();
        (squares - total * total / count) / (count - 1.0)
    };
    let spread = (0.5 * (variance(a) + variance(b))).sqrt();
    if spread > 0.0 { (p - q) / spread } else { f64::NAN }
}

/// The larger of two p-values, of other services and of other trainings: a difference must stand up
/// to both. With one seed only services are asked.
fn p_value(a: &Sample, b: &Sample) -> f64 {
    let seeds = a.seeds.len();
    let counts: Vec<f64> =
        a.seeds.iter().map(|sums| sums.iter().map(|sums| sums.count).sum()).collect();
    // What each service adds to the difference of the means.
    let by_service: Vec<f64> = (0..a.seeds.first().map_or(0, Vec::len))
        .map(|service| {
            let parts = (0..seeds).map(|seed| {
                let [a, b] = [a, b].map(|sample| sample.seeds[seed][service].total);
                (a - b) / counts[seed] / seeds as f64
            });
            parts.sum()
        })
        .collect();
    let by_seed: Vec<f64> = a.means().iter().zip(b.means()).map(|(a, b)| a - b).collect();
    let services = services_differ(&by_service);
    // `max` would drop a NaN.
    match seeds_differ(&by_seed) {
        Some(seeds) if seeds > services || seeds.is_nan() => seeds,
        _ => services,
    }
}

/// For each service and each pair of seeds, whether the first variant's mean is above the second's: 1,
/// ½ if they are equal, 0; NaN where one of them was not asked.
struct Above {
    seeds: [usize; 2],
    /// By service, then seed of the first variant, then seed of the second.
    services: Vec<Vec<f64>>,
}

impl Above {
    fn new(a: &Sample, b: &Sample) -> Self {
        let services = 0..a.seeds.first().map_or(0, Vec::len);
        let of = |service: usize| {
            let pairs =
                a.seeds.iter().flat_map(|one| b.seeds.iter().map(move |other| (one, other)));
            pairs.map(|(one, other)| above(one[service], other[service])).collect()
        };
        Self { seeds: [a.seeds.len(), b.seeds.len()], services: services.map(of).collect() }
    }

    /// Services that both variants have a value for.
    fn asked(&self) -> usize {
        self.services.iter().filter(|pairs| pairs.iter().any(|win| !win.is_nan())).count()
    }

    /// Mean over services of the mean over pairs of seeds (Agarwal et al., 2021, with services as
    /// tasks and seeds as runs): the Mann-Whitney statistic over the number of pairs.
    fn probability(&self, draw: &Draw) -> f64 {
        let (mut sum, mut weight) = (0.0, 0.0);
        for (pairs, times) in self.services.iter().zip(draw.services).filter(|(_, n)| **n > 0) {
            let (mut wins, mut asked) = (0.0, 0.0);
            for (place, win) in pairs.iter().enumerate().filter(|(_, win)| !win.is_nan()) {
                let (one, other) = (place / self.seeds[1], place % self.seeds[1]);
                let both = f64::from(draw.seeds[0][one]) * f64::from(draw.seeds[1][other]);
                wins += both * win;
                asked += both;
            }
            if asked > 0.0 {
                sum += f64::from(*times) * wins / asked;
                weight += f64::from(*times);
            }
        }
        sum / weight
    }
}

fn above(one: Sums, other: Sums) -> f64 {
    if one.count == 0.0 || other.count == 0.0 {
        return f64::NAN;
    }
    // Products, not quotients: shares that are equal must compare equal.
    match (one.total * other.count).partial_cmp(&(other.total * one.count)) {
        Some(std::cmp::Ordering::Greater) => 1.0,
        Some(std::cmp::Ordering::Equal) => 0.5,
        Some(std::cmp::Ordering::Less) => 0.0,
        None => f64::NAN,
    }
}
