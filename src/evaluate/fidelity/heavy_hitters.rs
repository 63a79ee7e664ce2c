//! Heavy hitters: figure 4b.

use std::collections::{HashMap, HashSet};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::evaluate::observed::{Counts, Observations, Observed, Sides};
use crate::evaluate::samples::{behind, means, samples};
use crate::evaluate::{Interval, Metric, Record, WHOLE, bootstrap};
use crate::graph::{Condition, Name};
use crate::random;

/// Share of the K microservices called most often in real graphs that are also among the K called
/// most often in synthetic graphs (paper, figure 4b).
///
/// Mean over samples of one size ([`super::samples`]) of the valid answers, each against the test graphs that
/// its prompts were taken from. Equal counts are ranked by name. Range 0 to 1, higher is better; bootstrap
/// interval over services, none where a resample has K microservices or fewer; count is the size of a
/// sample. (The paper repeats 1,000 traces 20 times.)
///
/// Degenerate cases are shown and not scored: where a sample's real graphs have K or fewer
/// microservices, all of them are "heavy" and the value is NaN with the count kept; so it is for fewer
/// valid answers than the size.
///
/// Pitfalls: two unrelated rankings of n microservices overlap by K / n, so large K in small data
/// says little; ranks near K are mostly ties of rare microservices, which are broken by name alike
/// on both sides and so agree more than they should; answers that are not valid are left out, which
/// favours models that only complete small graphs.
pub const HEAVY_HITTERS: &Metric =
    &Metric::fraction("heavy-hitters/2", "overlap of the most called microservices")
        .higher()
        .bootstrap()
        .of_samples();

pub const KS: [usize; 6] = [10, 20, 50, 100, 200, 500];

/// Real graphs that a prompt may have been taken from, by what it asks for.
type Origins<'a> = HashMap<(&'a Name, u32, u32, u32), Vec<usize>>;

/// All records of heavy hitters. `services` are the names of the real graphs' services, in the
/// order of `observations.real`.
pub fn records(
    observations: &Observations,
    services: &[&Name],
    conditions: &[Condition],
    size: usize,
    seed: u64,
) -> Vec<Record> {
    let answers = observations.synthetic.iter().enumerate();
    let valid: Vec<usize> =
        answers.filter(|(_, graph)| graph.shape.is_some()).map(|(prompt, _)| prompt).collect();
    let count = behind(valid.len(), size);
    let origins = origins(observations, services);
    let pair = |(split, prompts): (u64, &Vec<usize>)| {
        let mut rng = random::stream(seed, "heavy-hitters", &[split]);
        let real = prompts
            .iter()
            .map(|prompt| origin(observations, &origins, &conditions[*prompt], &mut rng));
        let real: Vec<&Observed> = real.collect();
        let synthetic: Vec<&Observed> =
            prompts.iter().map(|prompt| &observations.synthetic[*prompt]).collect();
        Called::of([&real, &synthetic], observations)
    };
    let samples =
        if observations.real.is_empty() { Vec::new() } else { samples(&valid, size, seed) };
    let pairs: Vec<Called> = (0..).zip(&samples).map(pair).collect();
    let values = bootstrap(observations.groups(seed), |drawn| {
        means(&pairs, KS.len(), |pair| pair.overlaps(drawn).to_vec())
    });
    let records = KS
        .iter()
        .zip(values)
        .map(|(k, estimate)| Record::estimated(HEAVY_HITTERS, WHOLE.k(*k as u32), estimate, count));
    records.collect()
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

/// How often each microservice is called on both sides, by service.
struct Called(Sides);

impl Called {
    fn of([real, synthetic]: [&[&Observed]; 2], observations: &Observations) -> Self {
        let count = |graphs: &[&Observed]| {
            let calls = graphs.iter().flat_map(|graph| {
                let destinations = graph.calls.iter();
                destinations.map(|call| (graph.service, observations.destination[*call as usize]))
            });
            Counts::new(observations.microservices, calls)
        };
        Self(Sides { real: count(real), synthetic: count(synthetic) })
    }

    /// Overlap by K; NaN where the real graphs have K or fewer microservices.
    fn overlaps(&self, drawn: &[u32]) -> [f64; KS.len()] {
        let [real, synthetic] = self.0.drawn(drawn).map(|counts| popularity(&counts));
        KS.map(|k| {
            if real.len() <= k {
                return f64::NAN;
            }
            let heavy: HashSet<usize> = real[..k].iter().copied().collect();
            let found = synthetic.iter().take(k).filter(|called| heavy.contains(called));
            found.count() as f64 / k as f64
        })
    }
}

/// Microservices that are called, most often first; equal counts by name.
fn popularity(counts: &[f64]) -> Vec<usize> {
    let mut called: Vec<usize> = (0..counts.len()).filter(|id| counts[*id] > 0.0).collect();
    called.sort_by(|one, other| counts[*other].total_cmp(&counts[*one]));
    called
}

/// Overlaps of two sets of graphs, by K.
pub fn overlaps(
    observations: &Observations,
    real: &[&Observed],
    synthetic: &[&Observed],
) -> [f64; KS.len()] {
    Called::of([real, synthetic], observations).overlaps(&vec![1; observations.services.len()])
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
