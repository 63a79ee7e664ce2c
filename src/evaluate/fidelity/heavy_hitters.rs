//! Heavy hitters: figure 4b.

use std::collections::HashMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::evaluate::observed::{Observations, Observed};
use crate::evaluate::{Interval, Metric, Record, WHOLE};
use crate::graph::{Condition, Name};
use crate::random;

/// Share of the K microservices called most often in real graphs that are also among the K called
/// most often in synthetic graphs (paper, figure 4b).
///
/// 20 repeats; each draws 1,000 prompts (as many as there are, if fewer) with replacement and
/// compares the valid answers to these with the test graphs that the prompts were taken from. The
/// value is the mean over repeats, the interval the 2.5 and 97.5 % points of the repeats: the
/// spread of single runs, as wide as one draw of prompts would move the number. Equal counts are
/// ranked by name. Range 0 to 1, higher is better; count is the number of prompts per repeat.
///
/// Degenerate cases are shown and not scored: where a repeat's real graphs have K or fewer
/// microservices, all of them are "heavy" and the value is NaN with the count kept; without any
/// valid answer it is NaN with count 0.
///
/// Pitfalls: two unrelated rankings of n microservices overlap by K / n, so large K in small data
/// says little; ranks near K are mostly ties of rare microservices, which are broken by name alike
/// on both sides and so agree more than they should; answers that are not valid are left out, which
/// favours models that only complete small graphs.
pub const HEAVY_HITTERS: &Metric =
    &Metric::fraction("heavy-hitters/1", "overlap of the most called microservices")
        .higher()
        .repeats();

pub const KS: [usize; 6] = [10, 20, 50, 100, 200, 500];

const REPEATS: u64 = 20;
pub const TRACES: usize = 1_000;

/// Real graphs that a prompt may have been taken from, by what it asks for.
type Origins<'a> = HashMap<(&'a Name, u32, u32, u32), Vec<usize>>;

/// All records of heavy hitters. `services` are the names of the real graphs' services, in the
/// order of `observations.real`.
pub fn records(
    observations: &Observations,
    services: &[&Name],
    conditions: &[Condition],
    seed: u64,
) -> Vec<Record> {
    let valid = observations.synthetic.iter().filter(|graph| graph.shape.is_some()).count();
    if valid == 0 || observations.real.is_empty() {
        let none =
            |k: usize| Record::new(HEAVY_HITTERS, WHOLE.k(k as u32), f64::NAN, Interval::NONE, 0);
        return KS.map(none).to_vec();
    }
    let origins = origins(observations, services);
    let traces = conditions.len().min(TRACES);
    let repeats: Vec<[f64; KS.len()]> = (0..REPEATS)
        .map(|repeat| {
            let mut rng = random::stream(seed, "heavy-hitters", &[repeat]);
            let (mut real, mut synthetic) = (Vec::new(), Vec::new());
            for _ in 0..traces {
                let prompt = rng.random_range(0..conditions.len());
                real.push(origin(observations, &origins, &conditions[prompt], &mut rng));
                let answer = &observations.synthetic[prompt];
                synthetic.extend(answer.shape.is_some().then_some(answer));
            }
            overlaps(observations, &real, &synthetic)
        })
        .collect();
    summary(&repeats, traces as u64)
}

fn origins<'a>(observations: &Observations, services: &[&'a Name]) -> Origins<'a> {
    let mut origins = Origins::new();
    for (index, (graph, service)) in observations.real.iter().zip(services).enumerate() {
        if let Some(shape) = graph.shape {
            let key = (*service, shape.num_edges, shape.depth, shape.latency);
            origins.entry(key).or_default().push(index);
        }
    }
    origins
}

/// A real graph that `condition` was taken from; any one, if it was not taken from a graph.
fn origin<'a>(
    observations: &'a Observations,
    origins: &Origins,
    condition: &Condition,
    rng: &mut ChaCha8Rng,
) -> &'a Observed {
    let key = match (condition.num_edges, condition.depth, condition.latency) {
        (Some(edges), Some(depth), Some(latency)) => {
            origins.get(&(&condition.service, edges, depth, latency))
        }
        _ => None,
    };
    let index = match key {
        Some(graphs) => graphs[rng.random_range(0..graphs.len())],
        None => rng.random_range(0..observations.real.len()),
    };
    &observations.real[index]
}

/// Overlap by K; NaN where the real graphs have K or fewer microservices.
pub fn overlaps(
    observations: &Observations,
    real: &[&Observed],
    synthetic: &[&Observed],
) -> [f64; KS.len()] {
    let (real, synthetic) = (popularity(observations, real), popularity(observations, synthetic));
    KS.map(|k| {
        if real.len() <= k {
            return f64::NAN;
        }
        let mut heavy = vec![false; observations.microservices];
        real[..k].iter().for_each(|microservice| heavy[*microservice as usize] = true);
        let found = synthetic.iter().take(k).filter(|microservice| heavy[**microservice as usize]);
        found.count() as f64 / k as f64
    })
}

/// Microservices that are called, most often first; equal counts by name.
fn popularity(observations: &Observations, graphs: &[&Observed]) -> Vec<u32> {
    let mut counts = vec![0u64; observations.microservices];
    for call in graphs.iter().flat_map(|graph| &graph.calls) {
        counts[observations.destination[*call as usize] as usize] += 1;
    }
    let mut called: Vec<u32> =
        (0..).zip(&counts).filter(|(_, n)| **n > 0).map(|(id, _)| id).collect();
    called.sort_by_key(|microservice| std::cmp::Reverse(counts[*microservice as usize]));
    called
}

/// Mean and spread over repeats.
pub fn summary(repeats: &[[f64; KS.len()]], count: u64) -> Vec<Record> {
    let record = |(index, k): (usize, &usize)| {
        let values: Vec<f64> = repeats.iter().map(|repeat| repeat[index]).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Record::new(HEAVY_HITTERS, WHOLE.k(*k as u32), mean, Interval::percentiles(&values), count)
    };
    KS.iter().enumerate().map(record).collect()
}
