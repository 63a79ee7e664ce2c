//! Sizes, depths and latencies of graphs: figure 8.

use crate::evaluate::observed::{Counts, Observations, Observed, Shape, Sides, in_order};
use crate::evaluate::samples::{behind, means, samples};
use crate::evaluate::{Bin, Dimensions, Metric, Record, WHOLE, bootstrap};

/// Share of a side's graphs with a number of edges (paper, figure 8): test graphs, or valid
/// synthetic graphs. Cells 1 to 30 and `31+`, so that they add up to 1. Wilson interval, which
/// takes graphs as independent; graphs of one service are not quite.
///
/// Pitfall: prompts that name num_edges already fix the distribution of a model that follows them;
/// it tells something about models that do not look at the prompt, or often fail.
pub const EDGES_SHARE: &Metric =
    &Metric::fraction("edges-share/1", "graphs by number of edges").as_real().wilson();

/// As [`EDGES_SHARE`] for depth, cells 1 to 15 and `16+`.
pub const DEPTH_SHARE: &Metric =
    &Metric::fraction("depth-share/1", "graphs by depth").as_real().wilson();

/// Total variation distance ½ Σ |p − q| of the numbers of edges of test graphs and valid synthetic
/// graphs, over all values (no bins, no cut). Range 0 to 1, lower is better; mean over samples of one size
/// ([`super::samples`]), bootstrap interval over services. NaN for fewer valid graphs than the size.
///
/// Pitfall: it takes 5 edges to be as far from 6 as from 50; and finite samples of one
/// distribution are apart as well, so read it against the split-half distance.
pub const EDGES_TV: &Metric =
    &Metric::plain("edges-tv/2", "total variation of edges").lower().bootstrap().of_samples();

/// As [`EDGES_TV`] for depth.
pub const DEPTH_TV: &Metric =
    &Metric::plain("depth-tv/2", "total variation of depth").lower().bootstrap().of_samples();

/// Kolmogorov-Smirnov distance sup |F − G| of the latencies (finish of the root call) of test
/// graphs and valid synthetic graphs. Range 0 to 1, lower is better; bootstrap interval over
/// services. NaN without valid graphs.
///
/// Pitfall: it hardly sees the tail: a p99 that is ten times too high moves it by 0.01.
pub const LATENCY_KS: &Metric =
    &Metric::plain("latency-ks/2", "Kolmogorov-Smirnov distance of latency")
        .lower()
        .bootstrap()
        .of_samples();

const MOST_EDGES: u32 = 30;
const MOST_DEPTH: u32 = 15;

/// Counts of the three attributes over the values that occur.
struct Shapes([Sides; 3]);

impl Shapes {
    fn new(real: &[&Observed], synthetic: &[&Observed]) -> Self {
        let attributes: [fn(&Shape) -> u32; 3] =
            [|shape| shape.num_edges, |shape| shape.depth, |shape| shape.latency];
        Self(attributes.map(|attribute| {
            let pairs = |graphs: &[&Observed]| -> Vec<(u32, u32)> {
                let valid = graphs.iter().filter_map(|graph| Some((graph.service, graph.shape?)));
                valid.map(|(service, shape)| (service, attribute(&shape))).collect()
            };
            let (real, synthetic) = (pairs(real), pairs(synthetic));
            let mut values: Vec<u32> = real.iter().chain(&synthetic).map(|pair| pair.1).collect();
            values.sort_unstable();
            values.dedup();
            let count = |pairs: Vec<(u32, u32)>| {
                let cells = pairs.into_iter().map(|(service, value)| {
                    (service, values.partition_point(|known| *known < value) as u32)
                });
                Counts::new(values.len(), cells)
            };
            Sides { real: count(real), synthetic: count(synthetic) }
        }))
    }

    fn distances(&self, drawn: &[u32]) -> Vec<f64> {
        let [edges, depth, latency] = self.0.each_ref().map(|sides| sides.drawn(drawn));
        vec![
            total_variation(&edges[0], &edges[1]),
            total_variation(&depth[0], &depth[1]),
            kolmogorov_smirnov(&latency[0], &latency[1]),
        ]
    }
}

/// ½ Σ |p − q| of two sides' counts over the same cells; NaN if a side is empty.
pub fn total_variation(real: &[f64], synthetic: &[f64]) -> f64 {
    let (all_real, all_synthetic) = (real.iter().sum::<f64>(), synthetic.iter().sum::<f64>());
    let cells = real.iter().zip(synthetic);
    let sum: f64 = cells.map(|(p, q)| (p / all_real - q / all_synthetic).abs()).sum();
    // An empty side gives 0 / 0, except where there are no cells at all.
    if real.is_empty() { f64::NAN } else { sum / 2.0 }
}

/// sup |F − G| of two sides' counts over the same ascending values; NaN if a side is empty.
pub fn kolmogorov_smirnov(real: &[f64], synthetic: &[f64]) -> f64 {
    let (all_real, all_synthetic) = (real.iter().sum::<f64>(), synthetic.iter().sum::<f64>());
    if all_real == 0.0 || all_synthetic == 0.0 {
        return f64::NAN;
    }
    let (mut below_real, mut below_synthetic, mut distance) = (0.0, 0.0, 0.0f64);
    for (p, q) in real.iter().zip(synthetic) {
        below_real += p;
        below_synthetic += q;
        distance = distance.max((below_real / all_real - below_synthetic / all_synthetic).abs());
    }
    distance
}

/// Distances of edges, depth and latency, of all services.
pub fn distances(
    observations: &Observations,
    real: &[&Observed],
    synthetic: &[&Observed],
) -> Vec<f64> {
    Shapes::new(real, synthetic).distances(&vec![1; observations.services.len()])
}

/// The distances of samples of `size` of valid `graphs` from the real ones, with intervals.
pub fn distance_records(
    observations: &Observations,
    of: &Dimensions,
    graphs: &[&Observed],
    size: usize,
    seed: u64,
) -> Vec<Record> {
    let real: Vec<&Observed> = observations.real.iter().collect();
    let shapes = |sample: &Vec<&Observed>| Shapes::new(&real, sample);
    let shapes: Vec<Shapes> = samples(&in_order(graphs), size, seed).iter().map(shapes).collect();
    let distances = bootstrap(observations.groups(seed), |drawn| {
        means(&shapes, 3, |shapes| shapes.distances(drawn))
    });
    let metrics = [EDGES_TV, DEPTH_TV, LATENCY_KS].iter().zip(distances);
    let count = behind(graphs.len(), size);
    metrics
        .map(|(metric, estimate)| Record::estimated(metric, of.clone(), estimate, count))
        .collect()
}

/// All records of shapes.
pub fn records(observations: &Observations, size: usize, seed: u64) -> Vec<Record> {
    let real: Vec<&Observed> = observations.real.iter().collect();
    let valid = observations.synthetic.iter().filter(|graph| graph.shape.is_some());
    let valid: Vec<&Observed> = valid.collect();
    let mut records = distance_records(observations, &WHOLE, &valid, size, seed);
    for (side, graphs) in [("real", &real), ("synthetic", &valid)] {
        let shapes: Vec<Shape> = graphs.iter().filter_map(|graph| graph.shape).collect();
        let edges = shapes.iter().map(|shape| shape.num_edges);
        records.extend(shares(EDGES_SHARE, |bin| WHOLE.edges(bin).side(side), MOST_EDGES, edges));
        let depths = shapes.iter().map(|shape| shape.depth);
        records.extend(shares(DEPTH_SHARE, |bin| WHOLE.depth(bin).side(side), MOST_DEPTH, depths));
    }
    records
}

/// Shares of the values 1 to `most`, and of all above.
fn shares(
    metric: &'static Metric,
    of: impl Fn(Bin) -> Dimensions,
    most: u32,
    values: impl Iterator<Item = u32>,
) -> Vec<Record> {
    let mut hits = vec![0u64; most as usize + 1];
    let mut count = 0;
    for value in values {
        hits[value.clamp(1, most + 1) as usize - 1] += 1;
        count += 1;
    }
    let bin = |value: u32| if value > most { Bin::at_least(value) } else { value.into() };
    let counted = (1..).zip(hits);
    counted.map(|(value, hits)| Record::share(metric, of(bin(value)), hits, count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_by_hand() {
        let (real, synthetic) = ([1.0, 1.0, 2.0], [0.0, 4.0, 4.0]);
        assert_eq!(total_variation(&real, &synthetic), 0.25);
        assert_eq!(kolmogorov_smirnov(&real, &synthetic), 0.25);
        // Shifting mass by one value or by two is the same to both distances.
        assert_eq!(total_variation(&[1.0, 0.0, 0.0], &[0.0, 0.0, 3.0]), 1.0);
        assert_eq!(kolmogorov_smirnov(&[1.0, 0.0, 0.0], &[0.0, 0.0, 3.0]), 1.0);
        assert!(total_variation(&[1.0], &[0.0]).is_nan());
        assert!(kolmogorov_smirnov(&[1.0], &[0.0]).is_nan());
        assert!(total_variation(&[], &[]).is_nan());
    }

    #[test]
    fn shares_add_up_with_the_tail() {
        let records = shares(EDGES_SHARE, |bin| WHOLE.edges(bin), 3, [1, 1, 3, 4, 90].into_iter());
        let values: Vec<f64> = records.iter().map(|record| record.value).collect();
        assert_eq!(values, [0.4, 0.0, 0.2, 0.4]);
        assert_eq!(records[3].dimensions, WHOLE.edges(Bin::at_least(4)));
    }
}
