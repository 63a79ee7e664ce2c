//! Counts of one quantity on both sides, and distances between them.

use std::ops::Range;

use rayon::prelude::*;

use crate::evaluate::fidelity::shape::{kolmogorov_smirnov, total_variation};
use crate::evaluate::observed::{Counts, Sides};

/// Counts of whole numbers on both sides, by service, exact: a bin for each number that occurs. The
/// numbers may come in groups, such as one for each microservice.
pub struct Histograms {
    /// Group, then value: ascending.
    keys: Vec<(u32, u32)>,
    /// Places of each group among the keys.
    groups: Vec<Range<usize>>,
    sides: Sides,
}

/// Counts of both sides over the keys, each service taken as often as it was drawn.
pub struct Drawn<'a> {
    histograms: &'a Histograms,
    counts: [Vec<f64>; 2],
}

/// Counts of both sides over the values of one group, ascending.
pub struct Bins<'a> {
    keys: &'a [(u32, u32)],
    real: &'a [f64],
    synthetic: &'a [f64],
}

impl Histograms {
    /// From (service, value) of the real and of the synthetic side.
    pub fn new(values: [Vec<(u32, u32)>; 2]) -> Self {
        Self::grouped(
            values.map(|side| {
                side.into_iter().map(|(service, value)| (service, (0, value))).collect()
            }),
        )
    }

    /// From (service, (group, value)).
    pub fn grouped(values: [Vec<(u32, (u32, u32))>; 2]) -> Self {
        let mut keys: Vec<(u32, u32)> = values.par_iter().flatten().map(|pair| pair.1).collect();
        keys.par_sort_unstable();
        keys.dedup();
        let mut groups: Vec<Range<usize>> = Vec::new();
        for group in keys.chunk_by(|one, other| one.0 == other.0) {
            let start = groups.last().map_or(0, |last| last.end);
            groups.push(start..start + group.len());
        }
        let [real, synthetic] = values.map(|side| {
            let place = |key: &(u32, u32)| keys.partition_point(|known| known < key) as u32;
            let pairs: Vec<(u32, u32)> =
                side.par_iter().map(|(service, key)| (*service, place(key))).collect();
            Counts::new(keys.len(), pairs.into_iter())
        });
        Self { keys, groups, sides: Sides { real, synthetic } }
    }

    pub fn drawn(&self, drawn: &[u32]) -> Drawn<'_> {
        Drawn { histograms: self, counts: self.sides.drawn(drawn) }
    }
}

impl Drawn<'_> {
    /// All values, as if there were one group.
    pub fn all(&self) -> Bins<'_> {
        self.bins(0..self.histograms.keys.len())
    }

    pub fn groups(&self) -> impl Iterator<Item = Bins<'_>> {
        self.histograms.groups.iter().map(|range| self.bins(range.clone()))
    }

    fn bins(&self, range: Range<usize>) -> Bins<'_> {
        let [real, synthetic] = &self.counts;
        Bins {
            keys: &self.histograms.keys[range.clone()],
            real: &real[range.clone()],
            synthetic: &synthetic[range],
        }
    }
}

impl Bins<'_> {
    /// How many there are on each side.
    pub fn totals(&self) -> [f64; 2] {
        [self.real, self.synthetic].map(|side| side.iter().sum())
    }

    /// Keys with the counts of the real and of the synthetic side.
    pub fn iter(&self) -> impl Iterator<Item = ((u32, u32), [f64; 2])> {
        let counts = self.real.iter().zip(self.synthetic);
        self.keys.iter().zip(counts).map(|(key, (real, synthetic))| (*key, [*real, *synthetic]))
    }

    pub fn kolmogorov_smirnov(&self) -> f64 {
        kolmogorov_smirnov(self.real, self.synthetic)
    }

    pub fn total_variation(&self) -> f64 {
        total_variation(self.real, self.synthetic)
    }

    /// The earth mover's distance ∫ |F − G|, in the unit of the values; NaN if a side is empty.
    pub fn earth_movers(&self) -> f64 {
        let [all_real, all_synthetic] = self.totals();
        if all_real == 0.0 || all_synthetic == 0.0 {
            return f64::NAN;
        }
        let (mut below, mut distance) = (0.0f64, 0.0);
        let mut last = self.keys.first().map_or(0, |key| key.1);
        for ((_, value), [real, synthetic]) in self.iter() {
            distance += below.abs() * f64::from(value - last);
            below += real / all_real - synthetic / all_synthetic;
            last = value;
        }
        distance
    }

    /// The earth mover's distance in standard deviations of the real side; NaN if a side is empty
    /// or the real side has only one value.
    pub fn normalised_earth_movers(&self) -> f64 {
        let deviation = self.real_deviation();
        if deviation == 0.0 { f64::NAN } else { self.earth_movers() / deviation }
    }

    pub fn real_mean(&self) -> f64 {
        let sum: f64 = self.iter().map(|((_, value), [real, _])| f64::from(value) * real).sum();
        sum / self.totals()[0]
    }

    /// Standard deviation of the real side (divided by the number of values).
    fn real_deviation(&self) -> f64 {
        let mean = self.real_mean();
        let squares = self.iter().map(|((_, value), [real, _])| {
            let difference = f64::from(value) - mean;
            difference * difference * real
        });
        (squares.sum::<f64>() / self.totals()[0]).sqrt()
    }

    /// On each side, the smallest value that at least the share `q` of the values do not exceed
    /// (nearest rank); NaN where a side has fewer than 1 / (1 − q) values, whose q-quantile is
    /// nothing but their largest.
    pub fn quantiles(&self, q: f64) -> [f64; 2] {
        [self.real, self.synthetic].map(|side| {
            let total: f64 = side.iter().sum();
            // A count of 1,000 must do for 99.9 %, whatever the last bit of 1 − q.
            if total * (1.0 - q) < 1.0 - 1e-9 {
                return f64::NAN;
            }
            let (mut below, wanted) = (0.0, total * q - 1e-9 * total);
            let found = self.keys.iter().zip(side).find(|(_, count)| {
                below += **count;
                below >= wanted
            });
            found.map_or(f64::NAN, |((_, value), _)| f64::from(*value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(real: &[u32], synthetic: &[u32]) -> Histograms {
        Histograms::new([real, synthetic].map(|side| side.iter().map(|v| (0, *v)).collect()))
    }

    fn close(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-12, "{value} {expected}");
    }

    /// Made by tests/reference/distribution.py: scipy `wasserstein_distance`, `ks_2samp`, numpy.
    #[test]
    fn distances_as_scipy_has_them() {
        let real = [0, 1, 1, 3, 4, 7, 20, 20, 55];
        let synthetic = [1, 1, 2, 2, 3, 9, 9, 30];
        let histograms = of(&real, &synthetic);
        let drawn = histograms.drawn(&[1]);
        let bins = drawn.all();
        close(bins.earth_movers(), SCIPY[0]);
        close(bins.kolmogorov_smirnov(), SCIPY[1]);
        close(bins.normalised_earth_movers(), SCIPY[2]);
        close(bins.real_mean(), SCIPY[3]);
    }

    const SCIPY: [f64; 4] = [
        6.041_666_666_666_668,
        0.208_333_333_333_333_34,
        0.360_202_037_062_465_1,
        12.333_333_333_333_334,
    ];

    #[test]
    fn quantiles_by_hand() {
        let values: Vec<u32> = (1..=1000).collect();
        let histograms = of(&values, &[4, 4, 9]);
        let drawn = histograms.drawn(&[1]);
        assert_eq!(drawn.all().quantiles(0.999)[0], 999.0);
        assert_eq!(drawn.all().quantiles(0.5), [500.0, 4.0]);
        assert!(drawn.all().quantiles(0.9)[1].is_nan());
    }

    #[test]
    fn groups_are_apart() {
        let side = |values: &[(u32, u32)]| values.iter().map(|key| (0, *key)).collect();
        let histograms = Histograms::grouped([side(&[(1, 5), (3, 5)]), side(&[(3, 5), (1, 7)])]);
        let drawn = histograms.drawn(&[1]);
        let distances: Vec<f64> = drawn.groups().map(|bins| bins.earth_movers()).collect();
        assert_eq!(distances, [2.0, 0.0]);
        let distances: Vec<f64> = drawn.groups().map(|bins| bins.kolmogorov_smirnov()).collect();
        assert_eq!(distances, [1.0, 0.0]);
    }

    #[test]
    fn nothing_is_at_no_distance_from_anything() {
        for histograms in [of(&[], &[1]), of(&[1], &[]), of(&[], &[])] {
            let drawn = histograms.drawn(&[1]);
            let bins = drawn.all();
            assert!(bins.earth_movers().is_nan() && bins.kolmogorov_smirnov().is_nan());
            assert!(bins.normalised_earth_movers().is_nan() && bins.total_variation().is_nan());
        }
        // One value on the real side has no spread to measure distances by.
        assert!(of(&[2, 2], &[3]).drawn(&[1]).all().normalised_earth_movers().is_nan());
    }
}
