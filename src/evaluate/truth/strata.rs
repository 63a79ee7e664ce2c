//! Distances between what the truth expects of the prompts and what came, service by service.

use crate::evaluate::fidelity::popular_calls::PSEUDO_COUNT;

/// One service: what its prompts let expect in each cell, and what came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stratum {
    /// Expected counts, all above 0: the truth of the service times the number of its prompts.
    pub expected: Vec<f64>,
    pub found: Vec<u64>,
    /// Found outside of all cells, where the truth has probability 0.
    pub outside: u64,
}

impl Stratum {
    pub fn new(expected: Vec<f64>) -> Self {
        Self { found: vec![0; expected.len()], expected, outside: 0 }
    }

    /// Counts one in a cell, or outside.
    pub fn add(&mut self, cell: Option<usize>) {
        match cell {
            Some(cell) => self.found[cell] += 1,
            None => self.outside += 1,
        }
    }
}

/// All services, as one distribution over pairs of service and cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Strata(pub Vec<Stratum>);

/// Sums over the services, each taken as often as it was drawn.
#[derive(Clone, Copy, Default)]
struct Totals {
    cells: f64,
    expected: f64,
    found: f64,
    outside: f64,
}

impl Strata {
    fn drawn<'a>(&'a self, drawn: &'a [u32]) -> impl Iterator<Item = (&'a Stratum, f64)> {
        self.0.iter().zip(drawn).map(|(stratum, times)| (stratum, f64::from(*times)))
    }

    fn totals(&self, drawn: &[u32]) -> Totals {
        let mut totals = Totals::default();
        for (stratum, times) in self.drawn(drawn) {
            let found = stratum.found.iter().sum::<u64>() + stratum.outside;
            totals.cells += times * stratum.expected.len() as f64;
            totals.expected += times * stratum.expected.iter().sum::<f64>();
            totals.found += times * found as f64;
            totals.outside += times * stratum.outside as f64;
        }
        totals
    }

    /// ½ Σ |expected − found| of the shares; NaN if nothing was expected or nothing found.
    pub fn total_variation(&self, drawn: &[u32]) -> f64 {
        let totals = self.totals(drawn);
        if totals.expected == 0.0 || totals.found == 0.0 {
            return f64::NAN;
        }
        let inside = self.drawn(drawn).map(|(stratum, times)| {
            let cells = stratum.expected.iter().zip(&stratum.found);
            let distances = cells.map(|(expected, found)| {
                (expected / totals.expected - *found as f64 / totals.found).abs()
            });
            times * distances.sum::<f64>()
        });
        (inside.sum::<f64>() + totals.outside / totals.found) / 2.0
    }

    /// KL(expected ‖ found) in nats, each cell's found count smoothed by half a call; NaN if nothing
    /// was expected or nothing found.
    pub fn divergence(&self, drawn: &[u32]) -> f64 {
        let totals = self.totals(drawn);
        if totals.expected == 0.0 || totals.found == 0.0 {
            return f64::NAN;
        }
        let all = totals.found + PSEUDO_COUNT * totals.cells;
        let terms = self.drawn(drawn).map(|(stratum, times)| {
            let cells = stratum.expected.iter().zip(&stratum.found);
            let terms = cells.map(|(expected, found)| {
                let (p, q) = (expected / totals.expected, (*found as f64 + PSEUDO_COUNT) / all);
                p * (p / q).ln()
            });
            times * terms.sum::<f64>()
        });
        // Rounding must not make it negative.
        terms.sum::<f64>().max(0.0)
    }

    /// Share of what was found that lies outside; NaN if nothing was found.
    pub fn outside(&self, drawn: &[u32]) -> f64 {
        let totals = self.totals(drawn);
        totals.outside / totals.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stratum(expected: &[f64], found: &[u64], outside: u64) -> Stratum {
        Stratum { expected: expected.to_vec(), found: found.to_vec(), outside }
    }

    fn close(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-12, "{value} {expected}");
    }

    #[test]
    fn distances_by_hand() {
        // Expected shares 3/8, 1/8 and 4/8; found 2/8, 2/8 and 3/8, and 1/8 outside.
        let strata = Strata(vec![stratum(&[3.0, 1.0], &[2, 2], 0), stratum(&[4.0], &[3], 1)]);
        let all = [1, 1];
        close(strata.total_variation(&all), (1.0 + 1.0 + 1.0 + 1.0) / 16.0);
        close(strata.outside(&all), 0.125);
        // Found, smoothed: 2.5, 2.5 and 3.5 of 9.5.
        let terms = [(0.375f64, 2.5), (0.125, 2.5), (0.5, 3.5)];
        let kl: f64 = terms.iter().map(|(p, q)| p * (p / (q / 9.5)).ln()).sum();
        close(strata.divergence(&all), kl);
    }

    #[test]
    fn a_service_drawn_twice_counts_as_two() {
        let (one, other) = (stratum(&[3.0, 1.0], &[2, 2], 1), stratum(&[4.0], &[3], 1));
        let twice = Strata(vec![one.clone(), one.clone(), other.clone()]);
        let drawn = Strata(vec![one, other, stratum(&[9.0], &[1], 4)]);
        for distance in [Strata::total_variation, Strata::divergence, Strata::outside] {
            close(distance(&drawn, &[2, 1, 0]), distance(&twice, &[1, 1, 1]));
        }
    }

    #[test]
    fn the_truth_itself_is_at_no_distance() {
        let strata = Strata(vec![stratum(&[6.0, 2.0], &[600, 200], 0)]);
        assert_eq!(strata.total_variation(&[1]), 0.0);
        assert_eq!(strata.outside(&[1]), 0.0);
        assert!(strata.divergence(&[1]) < 1e-5);
        // Nothing of it, and all of it.
        let strata = Strata(vec![stratum(&[6.0, 2.0], &[0, 0], 5)]);
        assert_eq!(strata.total_variation(&[1]), 1.0);
        assert_eq!(strata.outside(&[1]), 1.0);
    }

    #[test]
    fn nothing_gives_no_number() {
        for strata in [Strata::default(), Strata(vec![stratum(&[2.0], &[0], 0)])] {
            let drawn = vec![1; strata.0.len()];
            assert!(strata.total_variation(&drawn).is_nan());
            assert!(strata.divergence(&drawn).is_nan());
            assert!(strata.outside(&drawn).is_nan());
        }
        // A service that the truth does not know.
        let unknown = Strata(vec![stratum(&[], &[], 3)]);
        assert!(unknown.total_variation(&[1]).is_nan() && unknown.outside(&[1]) == 1.0);
    }
}
