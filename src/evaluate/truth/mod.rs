//! Distance from the true distribution, which only the simulator knows.
//!
//! Prompts name the service, so a variant has no say in how often each one is called: everything is compared
//! service by service, each with the weight that the prompts give it. Prompts also name num_edges and
//! depth, but these were drawn from the truth together with the service: over many prompts, graphs that
//! keep to them and are true otherwise have the distribution that the truth gives to the service alone.
//! What few prompts leave of chance, the row of the test graphs shows, from which the prompts are taken.

mod cloud;
mod report;
mod strata;

use std::collections::{BTreeSet, HashMap};

use anyhow::Result;
use rayon::prelude::*;

pub use self::cloud::cloud_of;
use self::strata::{Strata, Stratum};
use super::answers::{accurate, valid};
use super::observed::{Answer, Observations, Observed, in_order};
use super::samples::{behind, means, samples};
use super::{Case, Family, Groups, Interval, Metric, Record, Report, WHOLE, bootstrap};
use crate::data::Dataset;
use crate::data::simulator::{Cloud, Frequency};
use crate::graph::{CallGraph, Name};
use crate::version::Version;

/// Total variation distance ½ Σ |p − q| of calls from the truth, over pairs of service and communication
/// (source, destination, type): p is what a call has in the graphs that a perfect generator gives to the
/// same prompts on average, q what it has in valid graphs (`graphs=valid`) or in all calls that were
/// understood (`graphs=all`).
///
/// That is the mean over the services of the distance within each one, weighted by its calls, as long as
/// all have their share of the calls; a service whose answers fail is missed. Range 0 to 1, lower is
/// better; bootstrap interval over services. NaN without calls.
///
/// Mean over samples of one size ([`super::samples`]): finite samples of the truth are away from it as
/// well, by about 1/√n. `reference=truth` says how far as many answers of a perfect generator are.
pub const CALLS_TV: &Metric =
    &Metric::plain("truth-calls-tv/2", "total variation of calls from the truth")
        .lower()
        .bootstrap()
        .of_samples();

/// Kullback-Leibler divergence KL(truth ‖ graphs), in nats, of the distributions of [`CALLS_TV`]. The
/// truth is exact and the counts of the graphs are smoothed by half a call for everything that the truth
/// gives a service that was asked for. Range 0 to infinity, lower is better.
///
/// Pitfalls: as there; what rare calls contribute is mostly the smoothing; calls that the truth does not
/// know only dilute the others (see [`FALSE_CALLS`]).
pub const CALLS_KL: &Metric = &Metric::nats("truth-calls-kl/2", "KL of calls from the truth")
    .lower()
    .bootstrap()
    .of_samples();

/// Total variation distance from the truth of valid graphs' (service, num_edges, depth). Range 0 to 1,
/// lower is better; bootstrap interval over services.
///
/// Pitfall: it is about generators that do not look at num_edges and depth, and about those that fail
/// for some of them. Given the prompt, the true shape is the prompt's own: one that always keeps to it
/// has the distance of the prompts themselves, about that of `reference=test`, whatever it has learnt;
/// how often it does is what accuracy says.
pub const SHAPES_TV: &Metric =
    &Metric::plain("truth-shapes-tv/2", "total variation of shapes from the truth")
        .lower()
        .bootstrap()
        .of_samples();

/// Share of calls, in valid graphs or all that were understood, whose communication no graph of the
/// service can have: the truth gives it probability 0. Range 0 to 1, lower is better, 0 for real graphs;
/// bootstrap interval over services, as calls of one graph are not independent.
pub const FALSE_CALLS: &Metric =
    &Metric::fraction("false-calls/1", "hallucinated calls").lower().bootstrap();

/// Share of branches that occur in at least one valid answer. A branch is a communication that a service
/// can have; cells by its true probability, that a graph of the service has it at least once:
/// `probability=10%+`, `1-10%`, `0.1-1%` and `0-0.1%` (without the upper end). Only services that are
/// asked for count.
///
/// Range 0 to 1, to be compared with [`EXPECTED_RECALL`]; bootstrap interval over services, as branches of
/// one subtree come together; count is the number of branches. Above the
/// expectation answers vary more than the truth does. More prompts find more branches, so only variants with
/// the same prompts can be compared.
pub const BRANCH_RECALL: &Metric =
    &Metric::fraction("branch-recall/1", "rare-branch recall").as_real().bootstrap();

/// Recall that as many draws from the truth as there are prompts have on average: mean of 1 − (1 − p)ⁿ
/// over the branches of a cell of [`BRANCH_RECALL`], with the probability p of the branch and the n
/// prompts for its service. Exact, so it has no interval.
pub const EXPECTED_RECALL: &Metric =
    &Metric::fraction("branch-recall-expected/1", "rare-branch recall of the truth");

/// Cells of branches by the least true probability in them, in descending order.
pub const BRANCHES: [(&str, f64); 4] =
    [("10%+", 0.1), ("1-10%", 0.01), ("0.1-1%", 0.001), ("0-0.1%", 0.0)];

/// The family of distances from the truth.
pub const FAMILY: Family = Family {
    id: "truth",
    version: Version::new("evaluate/truth", 2),
    metrics: &[CALLS_TV, CALLS_KL, SHAPES_TV, FALSE_CALLS, BRANCH_RECALL, EXPECTED_RECALL],
    score: Some(|case, _| records(case)),
    references: Some(|asked, seed| references(asked.dataset, asked.compared, seed)),
    has_perfect_generator: true,
    reads_likelihoods: false,
    reports: &[Report {
        id: "truth",
        draw: report::report,
        compared: &[],
        columns: |_| report::columns(),
        claims: &[],
    }],
};

/// All records of the distance from the truth.
///
/// # Errors
/// A dataset whose truth is not known.
fn records(case: &Case) -> Result<Vec<Record>> {
    let mut records = vec![valid(case), accurate(case)];
    records.extend(answers_against(&cloud_of(case.dataset)?, case));
    Ok(records)
}

fn answers_against(cloud: &Cloud, case: &Case) -> Vec<Record> {
    let judged = case.conditions.iter().zip(case.answers).zip(case.verdicts);
    let answers: Vec<Answer> = judged
        .map(|((condition, answer), verdict)| {
            (&condition.service, answer.rows.as_slice(), verdict.graph.as_ref())
        })
        .collect();
    let observations = Observations::new(&[], &answers);
    let names = answers.iter().map(|(service, ..)| *service).collect();
    let graphs = &observations.synthetic;
    measured(cloud, &observations, graphs, &names, None, case.compared, case.seed)
}

/// The reference rows: training and test graphs as if they were answers (`reference=train`,
/// `reference=test`). All are valid, so `graphs=valid` and `graphs=all` are the same.
///
/// # Errors
/// A dataset whose truth is not known.
fn references(dataset: &Dataset, size: usize, seed: u64) -> Result<Vec<Record>> {
    let cloud = cloud_of(dataset)?;
    let sides = [("train", dataset.train()), ("test", dataset.test())];
    let records =
        sides.map(|(reference, graphs)| graphs_against(&cloud, &graphs, reference, size, seed));
    Ok(records.concat())
}

fn graphs_against(
    cloud: &Cloud,
    graphs: &[&CallGraph],
    reference: &str,
    size: usize,
    seed: u64,
) -> Vec<Record> {
    let observations = Observations::new(graphs, &[]);
    let names = graphs.iter().map(|graph| graph.service()).collect();
    let graphs = &observations.real;
    measured(cloud, &observations, graphs, &names, Some(reference), size, seed)
}

/// One service that was asked for, and the truth about it.
#[derive(Default)]
struct Service {
    prompts: u64,
    /// Of all communications that its graphs can have.
    frequencies: Vec<Frequency>,
    /// Place of a communication there, by the id that the observations give the call.
    places: HashMap<u32, usize>,
    /// (num_edges, depth), ascending, with their probabilities.
    shapes: Vec<((u32, u32), f64)>,
}

impl Service {
    fn new(cloud: &Cloud, observations: &Observations, name: &Name) -> Self {
        let mut service = Self::default();
        let Some(number) = cloud.service(name) else { return service };
        for (communication, frequency) in cloud.communications(number) {
            // A call that no variant makes has a mean of exactly 0.
            if frequency.mean > 0.0 {
                let key = (&*communication.source, &*communication.destination, communication.kind);
                if let Ok(id) = observations.calls.binary_search(&key) {
                    service.places.insert(id as u32, service.frequencies.len());
                }
                service.frequencies.push(frequency);
            }
        }
        service.shapes = cloud.shapes(number).into_iter().collect();
        service
    }

    fn expected(&self, per_graph: impl Iterator<Item = f64>) -> Stratum {
        Stratum::new(per_graph.map(|mean| self.prompts as f64 * mean).collect())
    }
}

/// The services that `graphs`, one for each prompt, were asked for: `names` in order.
fn services(
    cloud: &Cloud,
    observations: &Observations,
    graphs: &[Observed],
    names: &BTreeSet<&Name>,
) -> Vec<Service> {
    let names: Vec<&&Name> = names.iter().collect();
    let mut services: Vec<Service> =
        names.into_par_iter().map(|name| Service::new(cloud, observations, name)).collect();
    graphs.iter().for_each(|graph| services[graph.service as usize].prompts += 1);
    services
}

fn calls<'a>(services: &[Service], graphs: impl Iterator<Item = &'a Observed>) -> Strata {
    let expected = |service: &Service| {
        service.expected(service.frequencies.iter().map(|frequency| frequency.mean))
    };
    let mut strata: Vec<Stratum> = services.iter().map(expected).collect();
    for graph in graphs {
        let index = graph.service as usize;
        for call in &graph.calls {
            strata[index].add(services[index].places.get(call).copied());
        }
    }
    Strata(strata)
}

fn shapes<'a>(services: &[Service], graphs: impl Iterator<Item = &'a Observed>) -> Strata {
    let expected = |service: &Service| service.expected(service.shapes.iter().map(|shape| shape.1));
    let mut strata: Vec<Stratum> = services.iter().map(expected).collect();
    for graph in graphs {
        if let Some(shape) = graph.shape {
            let (index, shape) = (graph.service as usize, (shape.num_edges, shape.depth));
            let known = &services[index].shapes;
            strata[index].add(known.binary_search_by_key(&shape, |known| known.0).ok());
        }
    }
    Strata(strata)
}

/// The records of `graphs`, one for each prompt. `names` are those of the services, which the
/// observations number in this order.
fn measured(
    cloud: &Cloud,
    observations: &Observations,
    graphs: &[Observed],
    names: &BTreeSet<&Name>,
    reference: Option<&str>,
    size: usize,
    seed: u64,
) -> Vec<Record> {
    let services = services(cloud, observations, graphs, names);
    let groups = Groups::named(seed, names.iter().map(|name| name.as_str()));
    let understood: Vec<&Observed> =
        graphs.iter().filter(|graph| !graph.calls.is_empty()).collect();
    let valid: Vec<&Observed> = graphs.iter().filter(|graph| graph.shape.is_some()).collect();
    let drawn_from = |graphs: &[&Observed], of: &dyn Fn(&[&Observed]) -> Strata| -> Vec<Strata> {
        samples(&in_order(graphs), size, seed).iter().map(|sample| of(sample)).collect()
    };
    let calls = |graphs: &[&Observed]| calls(&services, graphs.iter().copied());
    let mut records = Vec::new();
    for (about, graphs) in [(WHOLE.graphs("valid"), &valid), (WHOLE.graphs("all"), &understood)] {
        let strata = drawn_from(graphs, &calls);
        let distances = bootstrap(groups, |drawn| {
            means(&strata, 2, |strata| {
                vec![strata.total_variation(drawn), strata.divergence(drawn)]
            })
        });
        // A share, which does not depend on the number of graphs.
        let all = calls(graphs);
        let outside = bootstrap(groups, |drawn| vec![all.outside(drawn)]);
        let counts = [behind(graphs.len(), size), behind(graphs.len(), size), graphs.len() as u64];
        let values = distances.into_iter().chain(outside).zip(counts);
        let metrics = [CALLS_TV, CALLS_KL, FALSE_CALLS].into_iter().zip(values);
        records.extend(metrics.map(|(metric, (estimate, count))| {
            Record::estimated(metric, about.clone().referring(reference), estimate, count)
        }));
    }
    let shapes = |graphs: &[&Observed]| shapes(&services, graphs.iter().copied());
    let strata = drawn_from(&valid, &shapes);
    let distance =
        bootstrap(groups, |drawn| means(&strata, 1, |strata| vec![strata.total_variation(drawn)]));
    let count = behind(valid.len(), size);
    records.extend(
        distance.into_iter().map(|estimate| {
            Record::estimated(SHAPES_TV, WHOLE.referring(reference), estimate, count)
        }),
    );
    records.extend(branches(&services, &calls(&valid), groups, reference));
    records
}

/// Branches of a service: how many were found, how many there are, and how many true draws are expected to
/// find.
#[derive(Clone, Copy, Default)]
struct Tally {
    hits: u64,
    count: u64,
    expected: f64,
}

/// Recall of branches by their true probability, and what is expected of true draws.
fn branches(
    services: &[Service],
    valid: &Strata,
    groups: Groups,
    reference: Option<&str>,
) -> Vec<Record> {
    let tallies = services.iter().zip(&valid.0).map(|(service, stratum)| {
        let mut tallies = [Tally::default(); BRANCHES.len()];
        for (frequency, found) in service.frequencies.iter().zip(&stratum.found) {
            let probability = frequency.probability.clamp(0.0, 1.0);
            let bin = BRANCHES.iter().position(|(_, least)| probability >= *least);
            let tally = &mut tallies[bin.unwrap_or(BRANCHES.len() - 1)];
            tally.hits += u64::from(*found > 0);
            tally.count += 1;
            tally.expected += seen_once(probability, service.prompts);
        }
        tallies
    });
    let tallies: Vec<[Tally; BRANCHES.len()]> = tallies.collect();
    let recalls = bootstrap(groups, |drawn| {
        let recall = |bin: usize| {
            let of = tallies.iter().zip(drawn).map(|(tallies, times)| (tallies[bin], *times));
            let (hits, count) = of.fold((0, 0), |(hits, count), (tally, times)| {
                (hits + tally.hits * u64::from(times), count + tally.count * u64::from(times))
            });
            hits as f64 / count as f64
        };
        (0..BRANCHES.len()).map(recall).collect()
    });
    let records =
        BRANCHES.iter().zip(recalls).enumerate().flat_map(|(bin, ((name, _), recall))| {
            let about = WHOLE.probability(*name).referring(reference);
            let of_bin = || tallies.iter().map(|tallies| tallies[bin]);
            let count: u64 = of_bin().map(|tally| tally.count).sum();
            let expected = of_bin().map(|tally| tally.expected).sum::<f64>() / count as f64;
            [
                Record::estimated(BRANCH_RECALL, about.clone(), recall, count),
                Record::new(EXPECTED_RECALL, about, expected, Interval::NONE, count),
            ]
        });
    records.collect()
}

/// 1 − (1 − p)ⁿ, exact for small p too.
fn seen_once(probability: f64, draws: u64) -> f64 {
    match draws {
        0 => 0.0,
        _ => -(draws as f64 * (-probability).ln_1p()).exp_m1(),
    }
}

#[cfg(test)]
mod tests;
