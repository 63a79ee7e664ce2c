//! Whether requests in words are followed: figure 6.

mod conditions;
mod report;

use std::collections::{BTreeMap, HashSet};

use anyhow::Result;

use super::answers::{ACCURACY, accurate};
use super::{
    Case, Dimensions, Family, Groups, Interval, Metric, PromptScores, Record, Report, WHOLE,
    bootstrap,
};
use crate::data::{Dataset, ServiceStatistics};
use crate::error::UserError;
use crate::graph::{CallGraph, Condition, Name, Request, Verdict};
use crate::version::Version;

pub use conditions::conditions;
use conditions::{Kind, fulfils, prompts_of};

/// The family of requests in words.
pub const FAMILY: Family = Family {
    id: "instructions",
    version: Version::new("evaluate/instructions", 2),
    metrics: &[FOLLOWED, GAIN, ACCURACY_CHANGE, PROMPTS],
    score: Some(records),
    references: Some(|asked, seed| Ok(references(asked.dataset, seed))),
    has_perfect_generator: false,
    reads_likelihoods: false,
    reports: &[Report {
        id: "instructions",
        draw: report::report,
        compared: &[("instruction-following rate", FOLLOWED)],
        columns: report::columns,
        claims: &["fig6-high-latency", "fig6-uncommon", "fig6-both"],
    }],
};

/// Share of prompts of a kind whose answer is a valid graph that does what was asked: a latency at or
/// above the p90 of the service's training graphs, the uncommon communication, or both (paper, figure
/// 6). Cells `kind=KIND/asked=yes` with the request in the prompt, `kind=KIND/asked=no` for the same
/// prompts without it, where the graph meets the request by chance. For `kind=both` also each half of
/// the request alone, `kind=both/part=PART/asked=…`.
///
/// Range 0 to 1, higher is better with the request; without it, the reference rows tell what real
/// graphs do. Wilson interval; the prompts of one service are not quite independent.
///
/// Pitfalls: num_edges and depth need not be met, so a model may follow by ignoring the rest of the
/// prompt (see the accuracy beside it); a generator that makes everything slow follows high latency
/// without having understood it, so read the gain, not the share.
pub const FOLLOWED: &Metric =
    &Metric::fraction("instruction-followed/1", "instruction-following rate").higher().wilson();

/// What the request in words adds to [`FOLLOWED`]: the share with it minus the share without it, over
/// the same prompts. Range −1 to 1, higher is better; about 0 for a generator that does not read
/// requests. Cells as there, without `asked`.
///
/// Percentile bootstrap over services, in which the two answers to a prompt stay together: a paired
/// comparison that also takes prompts of one service for what they are. A test for paired shares
/// (McNemar) would take the prompts as independent. No interval for fewer than ten services.
pub const GAIN: &Metric =
    &Metric::fraction("instruction-gain/1", "lift of the instruction").higher().bootstrap();

/// What the request in words does to accuracy: the share of accurate answers with it minus the share
/// without it, over the same prompts and with the interval of [`GAIN`]. Below 0, following costs
/// validity or the rest of the prompt. Cells `kind=KIND`.
pub const ACCURACY_CHANGE: &Metric =
    &Metric::fraction("instruction-accuracy-change/1", "change of condition accuracy")
        .higher()
        .bootstrap();

/// Different prompts of a kind, `kind=KIND`: where the test graphs lend few, they are asked again and
/// again, and Wilson's intervals promise too much.
pub const PROMPTS: &Metric = &Metric::count("instruction-prompts/1", "distinct prompts of a kind");

/// A question that has a yes or no for both answers to a prompt: for the one with the request and the
/// one without.
type Outcome = [bool; 2];

/// Outcomes of prompts by service.
#[derive(Default)]
struct Paired<'a>(BTreeMap<&'a Name, Sums>);

/// Prompts of one service, and how many of the answers with and without the request were a yes.
#[derive(Clone, Copy, Default)]
struct Sums {
    prompts: u64,
    hits: [u64; 2],
}

impl<'a> Paired<'a> {
    fn add(&mut self, service: &'a Name, outcome: Outcome) {
        let sums = self.0.entry(service).or_default();
        sums.prompts += 1;
        for (hits, yes) in sums.hits.iter_mut().zip(outcome) {
            *hits += u64::from(yes);
        }
    }

    fn whole(&self) -> Sums {
        let mut whole = Sums::default();
        for sums in self.0.values() {
            whole.prompts += sums.prompts;
            whole.hits = [0, 1].map(|side: usize| whole.hits[side] + sums.hits[side]);
        }
        whole
    }

    /// The shares with and without the request.
    fn shares(&self, metric: &'static Metric, of: &Dimensions) -> [Record; 2] {
        let whole = self.whole();
        [(true, 0), (false, 1)].map(|(asked, side): (bool, usize)| {
            Record::share(metric, of.clone().asked(asked), whole.hits[side], whole.prompts)
        })
    }

    /// The share with the request minus the share without it.
    fn difference(&self, metric: &'static Metric, dimensions: &Dimensions, seed: u64) -> Record {
        let services: Vec<&Sums> = self.0.values().collect();
        let of = |drawn: &[u32]| {
            let (mut prompts, mut difference) = (0.0, 0.0);
            for (sums, times) in services.iter().zip(drawn) {
                let [with, without] = sums.hits.map(|hits| hits as f64);
                prompts += f64::from(*times) * sums.prompts as f64;
                difference += f64::from(*times) * (with - without);
            }
            vec![difference / prompts]
        };
        let groups = Groups::named(seed, self.0.keys().map(|name| name.as_str()));
        let estimate = bootstrap(groups, of).remove(0);
        Record::estimated(metric, dimensions.clone(), estimate, self.whole().prompts)
    }
}

/// All records of instruction following. Adds to `scores` whether each request was followed as a whole
/// ([`FOLLOWED`]); NaN for prompts without one.
///
/// # Errors
/// Prompts that are not pairs with and without a request.
fn records(case: &Case, scores: &mut PromptScores) -> Result<Vec<Record>> {
    let services = ServiceStatistics::new(case.dataset.train());
    let pairs = pairs(case)?;
    let followed = pairs.iter().map(|pair| f64::from(u8::from(pair.followed(&services)[0])));
    scores.add(FOLLOWED, followed.flat_map(|followed| [followed, f64::NAN]).collect());
    let mut records = vec![accurate(case)];
    for kind in Kind::ALL {
        let about = WHOLE.kind(kind.id());
        let of_kind: Vec<&Pair> = pairs.iter().filter(|pair| pair.kind == kind).collect();
        let different: HashSet<&Condition> = of_kind.iter().map(|pair| pair.condition).collect();
        let (asked, different) = (of_kind.len() as u64, different.len() as f64);
        records.push(Record::new(PROMPTS, about.clone(), different, Interval::NONE, asked));
        let mut followed = Paired::default();
        let mut accuracy = Paired::default();
        let mut parts = [Paired::default(), Paired::default()];
        for pair in of_kind {
            let Condition { service, requests, .. } = pair.condition;
            followed.add(service, pair.followed(&services));
            accuracy.add(service, pair.verdicts.map(|verdict| verdict.violation.is_none()));
            for (part, request) in parts.iter_mut().zip(requests) {
                part.add(service, pair.met(request, &services));
            }
        }
        records.extend(followed.shares(FOLLOWED, &about));
        records.push(followed.difference(GAIN, &about, case.seed));
        if kind == Kind::Both {
            for (part, kind) in parts.iter().zip([Kind::HighLatency, Kind::Uncommon]) {
                let about = about.clone().part(kind.id());
                records.extend(part.shares(FOLLOWED, &about));
                records.push(part.difference(GAIN, &about, case.seed));
            }
        }
        records.extend(accuracy.shares(ACCURACY, &about));
        records.push(accuracy.difference(ACCURACY_CHANGE, &about, case.seed));
    }
    Ok(records)
}

/// A prompt with a request, and what became of it with and without it.
struct Pair<'a> {
    kind: Kind,
    /// With the request.
    condition: &'a Condition,
    verdicts: [&'a Verdict; 2],
}

impl Pair<'_> {
    /// Whether the answers do all that is asked for.
    fn followed(&self, services: &ServiceStatistics) -> Outcome {
        let met = self.condition.requests.iter().map(|request| self.met(request, services));
        met.fold([true; 2], |[with, without], met| [with && met[0], without && met[1]])
    }

    /// Whether the answers are valid graphs that do what `request` asks for.
    fn met(&self, request: &Request, services: &ServiceStatistics) -> Outcome {
        self.verdicts.map(|verdict| {
            verdict.graph.as_ref().is_some_and(|graph| fulfils(graph, request, services))
        })
    }
}

fn pairs<'a>(case: &Case<'a>) -> Result<Vec<Pair<'a>>> {
    let pair = |index: usize| {
        let [with, without] = case.conditions.get(index..index + 2)? else { return None };
        let kind = Kind::of(&with.requests)?;
        let same = Condition { requests: Vec::new(), ..with.clone() } == *without;
        let verdicts = [&case.verdicts[index], &case.verdicts[index + 1]];
        same.then_some(Pair { kind, condition: with, verdicts })
    };
    let pairs = (0..case.conditions.len()).step_by(2).map(|index| {
        pair(index).ok_or_else(|| {
            UserError::setting(format!(
                "family `instructions` needs prompts with and without a request, and prompt {} is \
                 none; set `kind = \"instructions\"` in the experiment's [conditions]",
                index + 1
            ))
            .into()
        })
    });
    pairs.collect()
}

/// The reference rows: how often *other* real graphs do what prompts ask for, without being asked.
///
/// For every prompt that the test graphs lend, the share of the other test graphs of its service that
/// meet the request (cell `kind=KIND/asked=no/reference=service`), and the same among those with the
/// num_edges and depth of the prompt (`reference=shape`); then the mean over the prompts for which
/// there is any other graph, which `count` tells. The graph that lends a prompt for a communication
/// holds it by choice, so it must not count. Bootstrap interval over services.
fn references(dataset: &Dataset, seed: u64) -> Vec<Record> {
    let services = ServiceStatistics::new(dataset.train());
    let mut by_service: BTreeMap<&Name, Vec<&CallGraph>> = BTreeMap::new();
    for graph in dataset.test() {
        by_service.entry(graph.service()).or_default().push(graph);
    }
    let mut records = Vec::new();
    for kind in Kind::ALL {
        for (reference, peers) in REFERENCES {
            let rates =
                by_service.values().map(|graphs| base_rates(kind, graphs, peers, &services));
            let rates: Vec<(u64, f64)> = rates.filter(|(prompts, _)| *prompts > 0).collect();
            let of = WHOLE.kind(kind.id()).asked(false).reference(reference);
            records.push(mean_rate(of, &rates, seed));
        }
    }
    records
}

/// Which graphs of a service a prompt's own one is compared with: those with the same value.
type Peers = fn(&CallGraph) -> (u32, u32);

const REFERENCES: [(&str, Peers); 2] =
    [("service", |_| (0, 0)), ("shape", |graph| (graph.num_edges(), graph.depth()))];

/// How many prompts the graphs of one service lend, and the sum of the shares of each one's other peers
/// that meet its request.
fn base_rates(
    kind: Kind,
    graphs: &[&CallGraph],
    peers: Peers,
    services: &ServiceStatistics,
) -> (u64, f64) {
    let mut lenders: BTreeMap<Vec<Request>, Vec<&CallGraph>> = BTreeMap::new();
    for graph in graphs {
        for prompt in prompts_of(kind, graph, services) {
            lenders.entry(prompt.requests).or_default().push(graph);
        }
    }
    let (mut prompts, mut sum) = (0, 0.0);
    for (requests, lenders) in lenders {
        let meets = |graph: &CallGraph| {
            u64::from(requests.iter().all(|request| fulfils(graph, request, services)))
        };
        // By value of the peers: those that meet the request, and all.
        let mut counts: BTreeMap<(u32, u32), (u64, u64)> = BTreeMap::new();
        for graph in graphs {
            let (hits, all) = counts.entry(peers(graph)).or_default();
            *hits += meets(graph);
            *all += 1;
        }
        for lender in lenders {
            let (hits, all) = counts[&peers(lender)];
            if all > 1 {
                prompts += 1;
                sum += (hits - meets(lender)) as f64 / (all - 1) as f64;
            }
        }
    }
    (prompts, sum)
}

/// Mean of rates of which each service has so many with this sum.
fn mean_rate(dimensions: Dimensions, services: &[(u64, f64)], seed: u64) -> Record {
    let of = |drawn: &[u32]| {
        let (mut prompts, mut total) = (0.0, 0.0);
        for ((count, sum), times) in services.iter().zip(drawn) {
            prompts += f64::from(*times) * *count as f64;
            total += f64::from(*times) * sum;
        }
        vec![total / prompts]
    };
    let count = services.iter().map(|(count, _)| count).sum();
    let estimate = bootstrap(Groups::numbered(seed, services.len()), of).remove(0);
    Record::estimated(FOLLOWED, dimensions, estimate, count)
}

#[cfg(test)]
mod tests;
