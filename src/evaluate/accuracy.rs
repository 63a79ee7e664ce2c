//! Accuracy by number of edges, depth and training data, and why answers fail.

use std::collections::BTreeMap;

use super::{Bin, Dimensions, Record, WHOLE};
use crate::data::Dataset;
use crate::graph::{Condition, Name, Verdict, ViolationCode};

/// Share of prompts whose answer is a complete, valid graph with the requested num_edges and
/// depth (paper, section 5; figures 3 and 12).
///
/// Range 0 to 1, higher is better; Wilson interval. An attribute that the prompt leaves open is
/// not compared, and latency, an upper bound only, never is. Prompts are treated as independent.
///
/// Pitfalls: accuracy can be had without learning (constrained decoding reaches 100 %), so it
/// means nothing without the fidelity metrics; at 50 samples one cell's interval is ±14 points, so
/// read rows, columns and the whole; most cells of a grid may have no training graph, so read it
/// by `train-graphs` too.
pub const ACCURACY: &str = "accuracy/1";

/// Share of prompts whose first violation has a code: the generator's own failure before a
/// constraint on the graph before a mismatch with the request. Codes that did not occur have no
/// record; the records and the accuracy add up to 1.
pub const FAILURE: &str = "failure/1";

/// Training graphs with exactly a cell's num_edges and depth, over all services.
pub const TRAIN_GRAPHS: &str = "train-graphs/1";

/// Cells of the grid by how many training graphs they have.
pub const TRAIN_BINS: [Bin; 4] =
    [Bin::new(0, 0), Bin::new(1, 4), Bin::new(5, 19), Bin::at_least(20)];

/// Whether a prompt whose service has so many training graphs is in a group.
type InGroup = fn(&Condition, u64) -> bool;

/// Groups of prompts: by size, and by how many training graphs the service of
/// the prompt has. Prompts that leave the attribute open are in no group.
pub const GROUPS: [(&str, InGroup); 8] = [
    ("edges 1-10", |condition, _| condition.num_edges.is_some_and(|edges| edges <= 10)),
    ("edges 11+", |condition, _| condition.num_edges.is_some_and(|edges| edges > 10)),
    ("depth 1-3", |condition, _| condition.depth.is_some_and(|depth| depth <= 3)),
    ("depth 4+", |condition, _| condition.depth.is_some_and(|depth| depth > 3)),
    ("service 0", |_, graphs| train_bin(graphs) == 0),
    ("service 1-4", |_, graphs| train_bin(graphs) == 1),
    ("service 5-19", |_, graphs| train_bin(graphs) == 2),
    ("service 20+", |_, graphs| train_bin(graphs) == 3),
];

/// Index of the bin of [`TRAIN_BINS`] that so many training graphs fall into.
fn train_bin(graphs: u64) -> usize {
    let bin = TRAIN_BINS.iter().position(|bin| bin.contains(graphs));
    bin.expect("the bins hold every number")
}

/// Accurate answers among prompts.
#[derive(Clone, Copy, Default)]
struct Tally {
    hits: u64,
    count: u64,
}

impl Tally {
    fn add(&mut self, accurate: bool) {
        self.hits += u64::from(accurate);
        self.count += 1;
    }
}

/// Accuracy over all prompts.
pub fn whole(verdicts: &[Verdict]) -> Record {
    let hits = verdicts.iter().filter(|verdict| verdict.violation.is_none()).count();
    Record::share(ACCURACY, WHOLE, hits as u64, verdicts.len() as u64)
}

/// All records of the accuracy evaluation.
pub fn records(dataset: &Dataset, conditions: &[Condition], verdicts: &[Verdict]) -> Vec<Record> {
    let train = train_graphs(dataset);
    let train_of = |cell: &(u32, u32)| train.get(cell).copied().unwrap_or(0);
    let mut by_cell: BTreeMap<(u32, u32), Tally> = BTreeMap::new();
    let mut by_edges: BTreeMap<u32, Tally> = BTreeMap::new();
    let mut by_depth: BTreeMap<u32, Tally> = BTreeMap::new();
    let mut by_train = [Tally::default(); TRAIN_BINS.len()];
    let mut by_group: BTreeMap<&str, Tally> = BTreeMap::new();
    let services = service_graphs(dataset);
    for (condition, verdict) in conditions.iter().zip(verdicts) {
        let accurate = verdict.violation.is_none();
        let of_service = services.get(&condition.service).copied().unwrap_or(0);
        for (group, _) in GROUPS.iter().filter(|(_, holds)| holds(condition, of_service)) {
            by_group.entry(group).or_default().add(accurate);
        }
        if let Some(edges) = condition.num_edges {
            by_edges.entry(edges).or_default().add(accurate);
        }
        if let Some(depth) = condition.depth {
            by_depth.entry(depth).or_default().add(accurate);
        }
        if let (Some(edges), Some(depth)) = (condition.num_edges, condition.depth) {
            by_cell.entry((edges, depth)).or_default().add(accurate);
            by_train[train_bin(train_of(&(edges, depth)))].add(accurate);
        }
    }
    let share =
        |of: Dimensions, tally: &Tally| Record::share(ACCURACY, of, tally.hits, tally.count);
    let mut records = vec![whole(verdicts)];
    let name = |(edges, depth): &(u32, u32)| WHOLE.edges(*edges).depth(*depth);
    records.extend(by_cell.iter().map(|(cell, tally)| share(name(cell), tally)));
    records.extend(by_edges.iter().map(|(edges, tally)| share(WHOLE.edges(*edges), tally)));
    records.extend(by_depth.iter().map(|(depth, tally)| share(WHOLE.depth(*depth), tally)));
    let bins = TRAIN_BINS.iter().zip(&by_train);
    records.extend(bins.map(|(bin, tally)| share(WHOLE.train_graphs(*bin), tally)));
    records.extend(by_group.iter().map(|(group, tally)| share(WHOLE.group(*group), tally)));
    records.extend(failures(verdicts));
    records.extend(by_cell.keys().map(|cell| {
        let graphs = train_of(cell);
        Record::new(TRAIN_GRAPHS, name(cell), graphs as f64, super::Interval::NONE, graphs)
    }));
    records
}

/// Number of training graphs by (num_edges, depth).
fn train_graphs(dataset: &Dataset) -> BTreeMap<(u32, u32), u64> {
    count(dataset.train().into_iter().map(|graph| (graph.num_edges(), graph.depth())))
}

/// Number of training graphs by service.
fn service_graphs(dataset: &Dataset) -> BTreeMap<&Name, u64> {
    count(dataset.train().into_iter().map(|graph| graph.service()))
}

/// How often each key occurs.
fn count<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, u64> {
    let mut counts = BTreeMap::new();
    keys.for_each(|key| *counts.entry(key).or_insert(0) += 1);
    counts
}

fn failures(verdicts: &[Verdict]) -> Vec<Record> {
    let codes: BTreeMap<ViolationCode, u64> =
        count(verdicts.iter().filter_map(|verdict| verdict.violation));
    let prompts = verdicts.len() as u64;
    let records = codes.iter();
    records
        .map(|(code, hits)| Record::share(FAILURE, WHOLE.code(code.as_str()), *hits, prompts))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::{answer, chain, dataset, failed, find, flat, reversed};
    use crate::evaluate::{Evaluation, evaluate};
    use crate::graph::{Generated, condition_of};

    /// Two prompts of (2, 2) with 20 training graphs, two of (3, 3) with one, one of (3, 2) with
    /// none.
    fn example() -> (Dataset, Vec<Condition>, Vec<Generated>) {
        let (pair, deep, wide) = (flat("S_1", 2, 9), chain("S_1", 3, 9), flat("S_1", 3, 9));
        let mut train = vec![pair.clone(); 20];
        train.push(deep.clone());
        let asked = [&pair, &pair, &deep, &deep, &wide].map(condition_of).to_vec();
        let answers = vec![answer(&pair), failed(), answer(&deep), answer(&wide), answer(&pair)];
        (dataset(train, vec![pair]), asked, answers)
    }

    #[test]
    fn accuracy_by_hand() {
        let (dataset, asked, answers) = example();
        let records = evaluate(&Evaluation::Accuracy, &dataset, &asked, &answers, 1).unwrap();
        let value = |cell| {
            let record = find(&records, ACCURACY, cell);
            (record.value, record.count)
        };
        assert_eq!(value(""), (0.4, 5));
        assert_eq!(value("edges=2/depth=2"), (0.5, 2));
        assert_eq!(value("edges=3/depth=2"), (0.0, 1));
        assert_eq!(value("edges=3"), (1.0 / 3.0, 3));
        assert_eq!(value("depth=2"), (1.0 / 3.0, 3));
        assert_eq!(value("train-graphs=0"), (0.0, 1));
        assert_eq!(value("train-graphs=1-4"), (0.5, 2));
        assert_eq!(value("train-graphs=20+"), (0.5, 2));
        let none = find(&records, ACCURACY, "train-graphs=5-19");
        assert!(none.value.is_nan() && none.low.is_nan() && none.count == 0);
        for (code, share) in [("format", 0.2), ("request-depth", 0.2), ("request-edges", 0.2)] {
            assert_eq!(find(&records, FAILURE, &format!("code={code}")).value, share);
        }
        assert_eq!(find(&records, TRAIN_GRAPHS, "edges=2/depth=2").value, 20.0);
        assert_eq!(find(&records, TRAIN_GRAPHS, "edges=3/depth=2").value, 0.0);
        assert_eq!(value("group=edges 1-10"), (0.4, 5));
        assert_eq!(value("group=depth 1-3"), (0.4, 5));
        assert_eq!(value("group=service 20+"), (0.4, 5));
        let whole = find(&records, ACCURACY, "");
        assert!(whole.low < 0.4 && 0.4 < whole.high);
    }

    #[test]
    fn the_order_of_prompts_does_not_matter() {
        let (dataset, asked, answers) = example();
        let text = |asked: &[Condition], answers: &[Generated]| {
            let records = evaluate(&Evaluation::Accuracy, &dataset, asked, answers, 1).unwrap();
            format!("{records:?}")
        };
        assert_eq!(text(&asked, &answers), text(&reversed(&asked), &reversed(&answers)));
    }

    #[test]
    fn no_prompts_give_no_numbers() {
        let (dataset, ..) = example();
        let records = evaluate(&Evaluation::Accuracy, &dataset, &[], &[], 1).unwrap();
        assert!(find(&records, ACCURACY, "").value.is_nan());
    }
}
