//! Maximum mean discrepancy: a second opinion that needs no classifier.

use rayon::prelude::*;

use super::descriptors::{DESCRIPTORS, Sparse};
use super::pair::{Pair, Side};
use super::{Measured, Metric, Part};
use crate::evaluate::WHOLE;

/// Squared maximum mean discrepancy (MMD², not its root; Gretton et al., 2012) of valid synthetic
/// graphs from test graphs. The kernel is the mean, over the descriptors of call trees
/// (descriptors.rs), of Gaussian kernels e^(−d² / 2σ²) of the Euclidean distance d of two
/// descriptor vectors. σ is the median distance of the real graphs among themselves, for each
/// descriptor by itself, times one of [`FACTORS`], of which the one counts that gives the largest
/// MMD². No synthetic graph has a part in choosing bandwidths.
///
/// The unbiased estimate (no graph is paired with itself), on up to [`CAP`] graphs of each side
/// drawn at random. Around 0 for equal distributions, and may be negative; 2 at most; lower is
/// better; bootstrap interval over services, with σ held fixed. NaN for fewer than two graphs on a
/// side.
///
/// Pitfalls: its size depends on kernel and descriptors, and means nothing without reference rows; with
/// other bandwidths other generators can win, so [`super::polygraph::PGD`] is the headline; the
/// largest of several estimates is a little above 0 for equal distributions; a resample takes
/// services twice, whose graphs are alike, so intervals lie somewhat above the value.
pub const MMD: &Metric = &Metric::plain("mmd-rbf/3", "squared maximum mean discrepancy")
    .lower()
    .bootstrap()
    .of_samples();

/// Graphs of each side that are looked at: the work grows with their square.
pub const CAP: usize = 500;

/// Bandwidths in median distances.
pub const FACTORS: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];

/// Sums of the kernel over pairs of graphs, by the services of the two.
struct Kernel {
    /// Rows and columns: places of services in the sides' lists.
    sums: [Vec<Vec<f64>>; FACTORS.len()],
}

/// The graphs of one side's sample.
struct Sample {
    /// Services that occur.
    services: Vec<u32>,
    /// How many graphs each has.
    counts: Vec<f64>,
    graphs: Vec<Described>,
}

struct Described {
    /// Place of its service in the list.
    service: usize,
    vectors: Vec<Sparse>,
}

pub struct Mmd {
    sides: [Sample; 2],
    real: Kernel,
    synthetic: Kernel,
    between: Kernel,
}

impl Mmd {
    pub fn new(pair: &Pair, seed: u64, split: u64) -> Self {
        let [real, synthetic] = pair.samples(CAP, seed, "mmd", split);
        let sides = [Sample::new(&pair.real, &real), Sample::new(&pair.synthetic, &synthetic)];
        let bandwidths: Vec<f64> = (0..DESCRIPTORS.len())
            .into_par_iter()
            .map(|d| bandwidth(&sides[0].graphs, d))
            .collect();
        let kernel = |one: usize, other: usize| {
            Kernel::new(&sides[one], &sides[other], one == other, &bandwidths)
        };
        let (real, synthetic, between) = (kernel(0, 0), kernel(1, 1), kernel(0, 1));
        Self { sides, real, synthetic, between }
    }
}

impl Part for Mmd {
    fn metrics(&self) -> Vec<Measured> {
        let [_, synthetic] = &self.sides;
        vec![Measured::new(MMD, WHOLE, synthetic.graphs.len() as u64)]
    }

    fn values(&self, drawn: &[u32]) -> Vec<f64> {
        let [real, synthetic] = self.sides.each_ref().map(|side| side.weights(drawn));
        let [real_pairs, synthetic_pairs] = [0, 1].map(|side: usize| {
            let sample = &self.sides[side];
            let weights = if side == 0 { &real } else { &synthetic };
            sample.pairs(weights)
        });
        let all = |side: usize, weights: &[f64]| {
            weights.iter().zip(&self.sides[side].counts).map(|(w, n)| w * n).sum::<f64>()
        };
        let between = all(0, &real) * all(1, &synthetic);
        let discrepancies = (0..FACTORS.len()).map(|factor| {
            self.real.sum(factor, &real, &real) / real_pairs
                + self.synthetic.sum(factor, &synthetic, &synthetic) / synthetic_pairs
                - 2.0 * self.between.sum(factor, &real, &synthetic) / between
        });
        let largest = discrepancies.reduce(|one, other| {
            // NaN stays NaN, which `max` would not keep.
            if one.is_nan() || one > other { one } else { other }
        });
        vec![largest.unwrap_or(f64::NAN)]
    }
}

impl Sample {
    fn new(side: &Side, sample: &[usize]) -> Self {
        let mut services: Vec<u32> = sample.iter().map(|graph| side.services[*graph]).collect();
        services.sort_unstable();
        services.dedup();
        let describe = |graph: &usize| Described {
            service: services.partition_point(|known| *known < side.services[*graph]),
            vectors: DESCRIPTORS.iter().map(|d| d.of(side.graphs[*graph])).collect(),
        };
        let graphs: Vec<Described> = sample.par_iter().map(describe).collect();
        let mut counts = vec![0.0; services.len()];
        graphs.iter().for_each(|graph| counts[graph.service] += 1.0);
        Self { services, counts, graphs }
    }

    /// How often each service was drawn.
    fn weights(&self, drawn: &[u32]) -> Vec<f64> {
        self.services.iter().map(|service| f64::from(drawn[*service as usize])).collect()
    }

    /// Weighted number of pairs of two different graphs.
    fn pairs(&self, weights: &[f64]) -> f64 {
        let graphs = weights.iter().zip(&self.counts);
        let (mut sum, mut same) = (0.0, 0.0);
        for (weight, count) in graphs {
            sum += weight * count;
            same += weight * weight * count;
        }
        sum * sum - same
    }
}

impl Kernel {
    fn new(one: &Sample, other: &Sample, same: bool, bandwidths: &[f64]) -> Self {
        // By graph of `one`, factor and service of `other`; put together in order, so that the sum
        // is the same for any number of threads.
        let rows: Vec<[Vec<f64>; FACTORS.len()]> = (0..one.graphs.len())
            .into_par_iter()
            .map(|index| {
                let mut row = FACTORS.map(|_| vec![0.0; other.services.len()]);
                for (place, graph) in other.graphs.iter().enumerate() {
                    if same && place == index {
                        continue;
                    }
                    let kernels = kernels(&one.graphs[index], graph, bandwidths);
                    for (sums, kernel) in row.iter_mut().zip(kernels) {
                        sums[graph.service] += kernel;
                    }
                }
                row
            })
            .collect();
        let mut sums = FACTORS.map(|_| vec![vec![0.0; other.services.len()]; one.services.len()]);
        for (graph, row) in one.graphs.iter().zip(&rows) {
            for (sums, row) in sums.iter_mut().zip(row) {
                sums[graph.service].iter_mut().zip(row).for_each(|(sum, kernel)| *sum += kernel);
            }
        }
        Self { sums }
    }

    fn sum(&self, factor: usize, one: &[f64], other: &[f64]) -> f64 {
        let rows = self.sums[factor].iter().zip(one);
        let weighted = rows.filter(|(_, weight)| **weight > 0.0).map(|(row, weight)| {
            weight * row.iter().zip(other).map(|(kernel, w)| kernel * w).sum::<f64>()
        });
        weighted.sum()
    }
}

/// Means over descriptors, for each factor.
fn kernels(one: &Described, other: &Described, bandwidths: &[f64]) -> [f64; FACTORS.len()] {
    let mut means = [0.0; FACTORS.len()];
    for ((one, other), bandwidth) in one.vectors.iter().zip(&other.vectors).zip(bandwidths) {
        let squared = squared_distance(one, other) / (bandwidth * bandwidth);
        for (mean, factor) in means.iter_mut().zip(FACTORS) {
            *mean += (-squared / (2.0 * factor * factor)).exp();
        }
    }
    means.map(|sum| sum / bandwidths.len() as f64)
}

/// Median distance of the graphs among themselves; the mean, if more than half of them are alike;
/// 1 if all are.
fn bandwidth(graphs: &[Described], descriptor: usize) -> f64 {
    let mut distances = Vec::with_capacity(graphs.len() * graphs.len() / 2);
    for (index, one) in graphs.iter().enumerate() {
        distances.extend(graphs[..index].iter().map(|other| {
            squared_distance(&one.vectors[descriptor], &other.vectors[descriptor]).sqrt()
        }));
    }
    distances.sort_unstable_by(f64::total_cmp);
    let median = distances.get(distances.len() / 2).copied().unwrap_or(0.0);
    let mean = distances.iter().sum::<f64>() / distances.len().max(1) as f64;
    [median, mean, 1.0].into_iter().find(|width| *width > 0.0).unwrap_or(1.0)
}

fn squared_distance(one: &Sparse, other: &Sparse) -> f64 {
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    let mut sum = 0.0;
    loop {
        let difference = match (one.peek(), other.peek()) {
            (Some((a, x)), Some((b, y))) if a == b => {
                let difference = x - y;
                one.next();
                other.next();
                difference
            }
            (Some((a, x)), Some((b, _))) if a < b => {
                one.next();
                *x
            }
            (_, Some((_, y))) => {
                other.next();
                *y
            }
            (Some((_, x)), None) => {
                one.next();
                *x
            }
            (None, None) => return sum,
        };
        sum += difference * difference;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::{chain, flat};
    use crate::graph::CallGraph;

    fn mmd(real: &[CallGraph], synthetic: &[CallGraph], drawn: &[u32]) -> f64 {
        let (real, synthetic): (Vec<&CallGraph>, Vec<&CallGraph>) =
            (real.iter().collect(), synthetic.iter().collect());
        Mmd::new(&Pair::new(&real, &synthetic), 1, 0).values(drawn)[0]
    }

    #[test]
    fn distances_of_sparse_vectors() {
        let (one, other) = (vec![(1, 2.0), (5, 1.0)], vec![(0, 3.0), (5, 4.0), (9, 1.0)]);
        assert_eq!(squared_distance(&one, &other), 9.0 + 4.0 + 9.0 + 1.0);
        assert_eq!(squared_distance(&other, &one), 23.0);
        assert_eq!(squared_distance(&Vec::new(), &one), 5.0);
    }

    #[test]
    fn discrepancies_by_hand() {
        // All of one side are alike, and unlike the other: kernels 1, 1, and the mean of
        // e^(−d²/2σ²), smallest for the smallest σ = ¼ (distances are all 0, so the median is 1).
        let (real, synthetic) = (vec![flat("S_1", 4, 9); 3], vec![chain("S_1", 4, 9); 2]);
        let far =
            kernels(&described(&real[0]), &described(&synthetic[0]), &[1.0; DESCRIPTORS.len()]);
        let value = mmd(&real, &synthetic, &[1]);
        assert!((value - (2.0 - 2.0 * far[0])).abs() < 1e-12 && value > 0.5, "{value}");
        assert!(mmd(&real, &real, &[1]).abs() < 1e-12);
        assert!(mmd(&real, &synthetic[..1], &[1]).is_nan() && mmd(&[], &[], &[]).is_nan());
    }

    /// Made by tests/reference/distribution.py with numpy: one vector stands for every descriptor.
    #[test]
    fn discrepancies_as_numpy_has_them() {
        let (vectors, _) = crate::evaluate::tests::sparse_example();
        let graphs = |vectors: &[Sparse]| {
            let described = |vector: &Sparse| Described {
                service: 0,
                vectors: vec![vector.clone(); DESCRIPTORS.len()],
            };
            let graphs: Vec<Described> = vectors.iter().map(described).collect();
            Sample { services: vec![0], counts: vec![graphs.len() as f64], graphs }
        };
        let (real, synthetic) = vectors.split_at(24);
        let sides = [real, synthetic].map(graphs);
        let width = bandwidth(&sides[0].graphs, 0);
        assert!((width - NUMPY_BANDWIDTH).abs() < 1e-12, "{width}");
        // With each of the factors in the place of all, and with all of them.
        let factors = (0..FACTORS.len()).map(|factor| [factor; FACTORS.len()]);
        let all = [0, 1, 2, 3, 4];
        for (factors, expected) in factors.chain([all]).zip(NUMPY.into_iter().chain([NUMPY[4]])) {
            let kernel = |one: usize, other: usize| {
                let widths = [width; DESCRIPTORS.len()];
                let Kernel { sums } =
                    Kernel::new(&sides[one], &sides[other], one == other, &widths);
                Kernel { sums: factors.map(|factor| sums[factor].clone()) }
            };
            let (real, synthetic, between) = (kernel(0, 0), kernel(1, 1), kernel(0, 1));
            let sides = [&vectors[..24], &vectors[24..]].map(graphs);
            let value = Mmd { sides, real, synthetic, between }.values(&[1])[0];
            assert!((value - expected).abs() < 1e-12, "{factors:?} {value} {expected}");
        }
    }

    const NUMPY_BANDWIDTH: f64 = 4.123_105_625_617_661;
    const NUMPY: [f64; FACTORS.len()] = [
        -0.078_051_429_687_519_4,
        -0.065_966_062_670_249_51,
        -0.035_670_068_185_506,
        -0.012_041_077_002_910_017,
        -0.003_279_978_857_346_099_7,
    ];

    fn described(graph: &CallGraph) -> Described {
        Described { service: 0, vectors: DESCRIPTORS.iter().map(|d| d.of(graph)).collect() }
    }

    /// A service drawn twice counts as twice its graphs, but no graph is paired with itself.
    #[test]
    fn a_service_that_is_left_out_is_not_there() {
        let real = [flat("S_1", 2, 9), flat("S_1", 3, 9), flat("S_1", 5, 7), chain("S_2", 4, 2)];
        let synthetic = [flat("S_1", 2, 9), chain("S_1", 3, 9), chain("S_2", 4, 2)];
        let one = mmd(&real, &synthetic, &[1, 0]);
        // Bandwidths are those of all real graphs.
        let kept = Mmd::new(
            &Pair::new(&real.iter().collect::<Vec<_>>(), &synthetic.iter().collect::<Vec<_>>()),
            1,
            0,
        );
        assert_eq!(one, kept.values(&[2, 0])[0]);
        assert!(kept.values(&[0, 2])[0].is_nan());
    }
}
