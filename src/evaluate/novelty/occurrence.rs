//! Whether generated graphs occur in training, and how many of them are distinct.

use std::collections::{BTreeMap, HashSet};

use rand::seq::SliceRandom;
use rayon::prelude::*;

use crate::evaluate::{Bin, Dimensions, Interval, Metric, Record, WHOLE};
use crate::graph::{CallGraph, CallRow, CanonicalHash, Condition, Level, Name};
use crate::random;

/// Distinct graphs among the valid ones, at four levels of the canonical hash, which does not see the
/// order of siblings: `level=structure` (the shape of the tree), `names` (+ service, microservices and
/// types), `binned-times` (+ start and finish of every call, each with the four leading bits of its
/// milliseconds: exact below 16 ms, else within 12.5 %), `times` (exact).
///
/// Range 0 to 1; higher is more varied, but real graphs repeat too: read it against the test graphs.
/// Interval: jackknife over services ([`Interval::jackknife`]). Whether a graph is the first of its kind
/// depends on all others, so that the graphs are no independent trials, and a bootstrap, which draws
/// graphs twice, would make copies of its own; leaving out one service does neither.
///
/// Pitfalls: it falls with the number of graphs, so only equal numbers compare; and it is partly the
/// prompts' doing ([`DISTINCT_PROMPTS`]).
pub const UNIQUENESS: &Metric = &Metric::fraction("uniqueness/1", "unique").as_real().jackknife();

/// Distinct prompts among all prompts, as far as a level sees them: `level=structure` num_edges and
/// depth, `names` + service, `times` + latency.
///
/// The bound by prompts: graphs that keep to different prompts are different, so the uniqueness of a
/// generator that is always accurate is at least this, without any variety of its own.
pub const DISTINCT_PROMPTS: &Metric = &Metric::fraction("distinct-prompts/1", "distinct prompts");

/// Share of valid graphs whose canonical hash no training graph has, at the levels of [`UNIQUENESS`].
///
/// Range 0 to 1. Higher is more novel and *not* better: real test graphs repeat training graphs as
/// well, and noise is always novel; read it against the rows of real graphs. Wilson interval: each
/// answer is a trial of its own, drawn independently given its prompt; that prompts share services is
/// not counted.
pub const NOVELTY: &Metric = &Metric::fraction("novelty/1", "novel").as_real().wilson();

/// Distinct valid graphs that are novel, by all prompts: valid, unique and novel in one number, at the
/// levels of [`UNIQUENESS`]. Range 0 to 1, higher is better up to the row of test graphs. Interval as for
/// uniqueness.
pub const VALID_UNIQUE_NOVEL: &Metric =
    &Metric::fraction("valid-unique-novel/1", "valid, unique and novel").as_real().jackknife();

/// Share of valid graphs whose structure and edge attributes occur in the training set (paper, figure
/// 15): 1 − novelty. `attributes=names`: service, microservices and types; `attributes=times`: with
/// exact times. By size, `attributes=names/edges=1`, `2-3`, `4-7`, `8-15`, `16+`.
///
/// Range 0 to 1; lower means less copying, but the target is the rate of real test graphs
/// (`reference=test`), not 0. Wilson interval, as for [`NOVELTY`]; NaN without graphs.
///
/// Pitfalls: the paper does not say whether times are among the edge attributes, so both are there;
/// small graphs have few possible forms and repeat by chance, which is why sizes are told apart. With a
/// split by structure no test graph can occur in training at all, so `reference=test` is 0 by
/// construction, and `reference=half` is the one to read against.
pub const MEMORISED: &Metric = &Metric::fraction("memorised/1", "memorised").as_real().wilson();

/// How much of a graph makes it the same as another one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Identity {
    Structure,
    Names,
    BinnedTimes,
    Times,
}

impl Identity {
    const ALL: [Self; 4] = [Self::Structure, Self::Names, Self::BinnedTimes, Self::Times];

    fn name(self) -> &'static str {
        match self {
            Self::Structure => "structure",
            Self::Names => "names",
            Self::BinnedTimes => "binned-times",
            Self::Times => "times",
        }
    }

    fn dimensions(self, reference: Option<&str>) -> Dimensions {
        WHOLE.level(self.name()).referring(reference)
    }

    fn hash(self, graph: &CallGraph) -> CanonicalHash {
        match self {
            Self::Structure => graph.canonical_hash(Level::Structure),
            Self::Names => graph.canonical_hash(Level::Names),
            Self::BinnedTimes => binned(graph).canonical_hash(Level::Times),
            Self::Times => graph.canonical_hash(Level::Times),
        }
    }

    fn hashes(self, graphs: &[&CallGraph]) -> Vec<CanonicalHash> {
        graphs.par_iter().map(|graph| self.hash(graph)).collect()
    }

    fn known(self, train: &[&CallGraph]) -> HashSet<CanonicalHash> {
        self.hashes(train).into_iter().collect()
    }
}

/// The graph with rounded times. Rounding down never swaps two times, so the graph stays valid.
fn binned(graph: &CallGraph) -> CallGraph {
    let round = |row: CallRow| CallRow { start: bin(row.start), finish: bin(row.finish), ..row };
    let rows: Vec<CallRow> = graph.rows().into_iter().map(round).collect();
    CallGraph::from_rows(graph.service().clone(), &rows).unwrap_or_else(|_| graph.clone())
}

/// The four leading bits of a time.
fn bin(time: u32) -> u32 {
    let dropped = (u32::BITS - time.leading_zeros()).saturating_sub(4);
    time >> dropped << dropped
}

/// Classes of sizes.
pub const SIZES: [Bin; 5] =
    [Bin::new(1, 1), Bin::new(2, 3), Bin::new(4, 7), Bin::new(8, 15), Bin::at_least(16)];

/// What is known of graphs beside those of a training set.
pub struct Occurrence {
    pub records: Vec<Record>,
    /// Of each graph, whether its names occur in training.
    pub seen: Vec<bool>,
}

/// Of `graphs`, the valid answers to `conditions`.
pub fn of(
    train: &[&CallGraph],
    graphs: &[&CallGraph],
    conditions: &[Condition],
    reference: Option<&str>,
) -> Occurrence {
    let mut records = prompts(conditions, reference);
    let mut seen_by_names = Vec::new();
    let (valid, asked) = (graphs.len() as u64, conditions.len() as u64);
    for identity in Identity::ALL {
        let known = identity.known(train);
        let hashes = identity.hashes(graphs);
        let kinds = Kinds::new(graphs, &hashes, conditions);
        let seen: Vec<bool> = hashes.iter().map(|hash| known.contains(hash)).collect();
        let copies = seen.iter().filter(|seen| **seen).count() as u64;
        let share = |metric: &'static Metric,
                     of: Of,
                     count: u64,
                     counts: &dyn Fn(&CanonicalHash) -> bool| {
            let (value, interval) = kinds.share(of, counts);
            Record::new(metric, identity.dimensions(reference), value, interval, count)
        };
        records.push(share(UNIQUENESS, Of::Valid, valid, &|_| true));
        records.push(Record::share(NOVELTY, identity.dimensions(reference), valid - copies, valid));
        let fresh = |hash: &CanonicalHash| !known.contains(hash);
        records.push(share(VALID_UNIQUE_NOVEL, Of::Asked, asked, &fresh));
        if let Some(attributes) = attributes(identity) {
            records.push(Record::share(MEMORISED, attributes.referring(reference), copies, valid));
        }
        if identity == Identity::Names {
            records.extend(by_size(graphs, &seen, reference));
            seen_by_names = seen;
        }
    }
    Occurrence { records, seen: seen_by_names }
}

/// What a number of distinct graphs is divided by.
#[derive(Clone, Copy)]
enum Of {
    Valid,
    Asked,
}

/// Distinct graphs, with the services that have them.
struct Kinds<'a> {
    /// The only service with such a graph; `None` if there are several.
    owners: BTreeMap<CanonicalHash, Option<&'a Name>>,
    /// Valid graphs and prompts by service.
    services: BTreeMap<&'a Name, [u64; 2]>,
}

impl<'a> Kinds<'a> {
    fn new(
        graphs: &[&'a CallGraph],
        hashes: &[CanonicalHash],
        conditions: &'a [Condition],
    ) -> Self {
        let (mut owners, mut services) = (BTreeMap::new(), BTreeMap::new());
        for (graph, hash) in graphs.iter().zip(hashes) {
            let service = graph.service();
            let owner = owners.entry(*hash).or_insert(Some(service));
            if *owner != Some(service) {
                *owner = None;
            }
            services.entry(service).or_insert([0, 0])[0] += 1;
        }
        for condition in conditions {
            services.entry(&condition.service).or_insert([0, 0])[1] += 1;
        }
        Self { owners, services }
    }

    /// How many of the distinct graphs `counts` accepts, as a share, with its interval.
    fn share(&self, of: Of, counts: &dyn Fn(&CanonicalHash) -> bool) -> (f64, Interval) {
        let mut own: BTreeMap<&Name, u64> = BTreeMap::new();
        let mut distinct = 0;
        for (_, owner) in self.owners.iter().filter(|(hash, _)| counts(hash)) {
            distinct += 1;
            if let Some(owner) = owner {
                *own.entry(owner).or_default() += 1;
            }
        }
        let of = |counted: &[u64; 2]| match of {
            Of::Valid => counted[0],
            Of::Asked => counted[1],
        };
        let all: u64 = self.services.values().map(of).sum();
        let share = |distinct: u64, all: u64| distinct as f64 / all as f64;
        let without = self.services.iter().filter(|(_, counted)| of(counted) > 0).map(
            |(service, counted)| {
                let own = own.get(service).copied().unwrap_or(0);
                share(distinct - own, all - of(counted))
            },
        );
        let value = share(distinct, all);
        (value, Interval::jackknife(value, &without.collect::<Vec<f64>>()))
    }
}

/// The cell of figure 15 that an identity stands for.
fn attributes(identity: Identity) -> Option<Dimensions> {
    match identity {
        Identity::Names => Some(WHOLE.attributes("names")),
        Identity::Times => Some(WHOLE.attributes("times")),
        Identity::Structure | Identity::BinnedTimes => None,
    }
}

fn by_size(graphs: &[&CallGraph], seen: &[bool], reference: Option<&str>) -> Vec<Record> {
    let of_size = SIZES.iter().map(|size| {
        let inside = |graph: &CallGraph| size.contains(graph.num_edges().into());
        let inside = graphs.iter().zip(seen).filter(|(graph, _)| inside(graph));
        let (copies, count) = inside
            .fold((0, 0), |(copies, count), (_, seen)| (copies + u64::from(*seen), count + 1));
        let at = WHOLE.attributes("names").edges(*size).referring(reference);
        Record::share(MEMORISED, at, copies, count)
    });
    of_size.collect()
}

fn prompts(conditions: &[Condition], reference: Option<&str>) -> Vec<Record> {
    let shapes = conditions.iter().map(|asked| (asked.num_edges, asked.depth));
    let of_services = conditions.iter().map(|asked| (&asked.service, asked.num_edges, asked.depth));
    let counts = [
        (Identity::Structure, shapes.collect::<HashSet<_>>().len()),
        (Identity::Names, of_services.collect::<HashSet<_>>().len()),
        (Identity::Times, conditions.iter().collect::<HashSet<_>>().len()),
    ];
    let all = conditions.len() as u64;
    let record = |(identity, distinct): (Identity, usize)| {
        let value = distinct as f64 / all as f64;
        Record::new(DISTINCT_PROMPTS, identity.dimensions(reference), value, Interval::NONE, all)
    };
    counts.into_iter().map(record).collect()
}

/// Random cuts into halves.
const CUTS: u64 = 10;

/// Novelty and memorisation of one random half of `graphs` against the other: mean of ten cuts, with
/// their 2.5 and 97.5 % points. The rate at which real graphs repeat, if the dataset were split at
/// random into equal sides; a larger training side knows more.
pub fn halves(graphs: &[&CallGraph], seed: u64, reference: Option<&str>) -> Vec<Record> {
    let half = graphs.len() / 2;
    let mut records = Vec::new();
    for identity in Identity::ALL {
        let hashes = identity.hashes(graphs);
        let novel = (0..CUTS).map(|cut| {
            let mut order: Vec<usize> = (0..graphs.len()).collect();
            order.shuffle(&mut random::stream(seed, "novelty of halves", &[cut]));
            let known: HashSet<CanonicalHash> =
                order[half..2 * half].iter().map(|index| hashes[*index]).collect();
            let fresh = order[..half].iter().filter(|index| !known.contains(&hashes[**index]));
            fresh.count() as f64 / half as f64
        });
        let novel: Vec<f64> = novel.collect();
        let copied: Vec<f64> = novel.iter().map(|share| 1.0 - share).collect();
        let mut put = |metric: &'static Metric, at: Dimensions, shares: &[f64]| {
            let mean = shares.iter().sum::<f64>() / CUTS as f64;
            let interval = Interval::percentiles(shares);
            records.push(Record::new(metric, at, mean, interval, half as u64));
        };
        put(NOVELTY, identity.dimensions(reference), &novel);
        if let Some(attributes) = attributes(identity) {
            put(MEMORISED, attributes.referring(reference), &copied);
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::{chain, find, flat};
    use crate::graph::condition_of;

    /// Services with two graphs of one kind, with one of the same shape, and ten with one of their own.
    #[test]
    fn shares_of_distinct_graphs_leave_out_one_service_at_a_time() {
        let mut graphs =
            vec![flat("S_1", 2, 9), flat("S_1", 2, 9), flat("S_2", 2, 9), chain("S_3", 4, 9)];
        graphs.extend((4..13).map(|number| flat(&format!("S_{number}"), number, 9)));
        let graphs: Vec<&CallGraph> = graphs.iter().collect();
        let asked: Vec<Condition> = graphs.iter().map(|graph| condition_of(graph)).collect();
        let Occurrence { records, seen } = of(&graphs[3..4], &graphs, &asked, None);
        assert_eq!(seen[..5], [false, false, false, true, false]);
        let names = find(&records, UNIQUENESS, "level=names");
        assert_eq!(names.value, 12.0 / 13.0);
        // Without the first service 11 of 11, without another 11 of 12.
        let without = [&[1.0][..], &[11.0 / 12.0; 11]].concat();
        assert_eq!((names.low, names.high), bounds(12.0 / 13.0, &without));
        let structure = find(&records, UNIQUENESS, "level=structure");
        // S_1 and S_2 share a shape: leaving out one leaves all shapes.
        let without = [&[1.0, 11.0 / 12.0][..], &[10.0 / 12.0; 10]].concat();
        assert_eq!((structure.low, structure.high), bounds(11.0 / 13.0, &without));
    }

    fn bounds(share: f64, without: &[f64]) -> (f64, f64) {
        let Interval { low, high } = Interval::jackknife(share, without);
        assert!(low < share && share < high);
        (low, high)
    }

    #[test]
    fn times_are_binned_by_their_leading_bits() {
        assert_eq!([0, 1, 15, 16, 17, 31, 32].map(bin), [0, 1, 15, 16, 16, 30, 32]);
        assert_eq!(bin(1_000_000), 983_040);
        assert_eq!(bin(u32::MAX), 0xf000_0000);
        let times: Vec<u32> = (0..5_000).map(bin).collect();
        assert!(times.is_sorted());
        assert!((1..5_000).all(|time| f64::from(bin(time)) > 0.875 * f64::from(time)));
    }
}
