//! Fidelity: how near generated graphs are to the dataset's test graphs, and how near real graphs
//! are to each other (figures 4 and 8).

pub mod heavy_hitters;
mod learning;
pub mod popular_calls;
mod report;
pub mod shape;

use rand::seq::SliceRandom;

use super::answers::{COMPARED, accurate, valid};
use super::family::no_columns;
use super::observed::{Answer, Observations, Observed};
use super::samples::cut;
use super::{Case, Dimensions, Family, Interval, Metric, Record, Report, WHOLE};
use crate::data::Dataset;
use crate::graph::{CallRow, Name};
use crate::random;
use crate::version::Version;

/// The family of fidelity.
pub const FAMILY: Family = Family {
    id: "fidelity",
    version: Version::new("evaluate/fidelity", 2),
    metrics: &[
        popular_calls::KL_TOP100,
        popular_calls::KL_TOP100_OTHER,
        popular_calls::POPULAR_CALL,
        heavy_hitters::HEAVY_HITTERS,
        shape::EDGES_SHARE,
        shape::DEPTH_SHARE,
        shape::EDGES_TV,
        shape::DEPTH_TV,
        shape::LATENCY_KS,
    ],
    score: Some(|case, _| Ok(records(case))),
    references: Some(|asked, seed| Ok(references(asked.dataset, asked.compared, seed))),
    has_perfect_generator: true,
    reads_likelihoods: false,
    reports: &[
        Report {
            id: "fidelity",
            draw: report::report,
            compared: COMPARED,
            columns: |_| report::columns(),
            claims: &[
                "fig4a-recursive",
                "fig4a-tabular",
                "fig4a-tvae",
                "fig4a-probabilistic",
                "fig4b-recursive-10",
                "fig4b-recursive-50",
                "fig4b-recursive-500",
                "fig4b-probabilistic-10",
                "fig4b-probabilistic-500",
            ],
        },
        Report {
            id: "learning",
            draw: learning::report,
            compared: &[],
            columns: no_columns,
            claims: &[],
        },
    ],
};

/// Random cuts of the real graphs behind the reference rows.
const REPEATS: u64 = 10;

/// All records of the fidelity evaluation.
fn records(case: &Case) -> Vec<Record> {
    let Case { dataset, conditions, compared, seed, .. } = *case;
    let real = dataset.test();
    let services: Vec<&Name> = real.iter().map(|graph| graph.service()).collect();
    let judged = conditions.iter().zip(case.answers).zip(case.verdicts);
    let answers: Vec<Answer> = judged
        .map(|((condition, answer), verdict)| {
            (&condition.service, answer.rows.as_slice(), verdict.graph.as_ref())
        })
        .collect();
    let observations = Observations::new(&real, &answers);
    let mut records = vec![valid(case), accurate(case)];
    records.extend(popular_calls::records(&observations, compared, seed));
    records.extend(heavy_hitters::records(&observations, &services, conditions, compared, seed));
    records.extend(shape::records(&observations, compared, seed));
    records
}

/// The reference rows: the same distances between two disjoint random samples of all real graphs,
/// training and test together: one as large as the test set, and one of `size`, as all rows have. No
/// generator can be expected to come nearer than two samples of the truth do.
///
/// Ten random cuts; the value is the mean, the interval the 2.5 and 97.5 % points over the cuts. Heavy
/// hitters compare `size` graphs of each. All graphs are valid, so `graphs=valid` and `graphs=all` are
/// the same number.
///
/// Pitfalls: cuts are made without regard to how the dataset was split, so a generator's own split-half
/// distance may be larger. The cells `graphs=train` therefore hold the distances of as many training
/// graphs from the test graphs, with intervals over services. Neither knows of the prompts, which tie a
/// generator's answers to the services of the test graphs and can bring it *below* that of halves; the
/// row of a perfect generator ([`super::perfect`]) does.
pub fn references(dataset: &Dataset, size: usize, seed: u64) -> Vec<Record> {
    let real = dataset.normal();
    if real.len() < 2 {
        return Vec::new();
    }
    let observations = Observations::new(&real, &[]);
    let (others, size_of_cut) = cut(real.len(), dataset.test().len(), size);
    let mut divergences = Vec::new();
    let mut overlaps = Vec::new();
    let mut distances = Vec::new();
    for repeat in 0..REPEATS {
        let mut order: Vec<&Observed> = observations.real.iter().collect();
        order.shuffle(&mut random::stream(seed, "floor", &[repeat]));
        let (one, other) = (&order[..others], &order[others..others + size_of_cut]);
        divergences.push(popular_calls::divergences(&observations, one, other));
        distances.push(shape::distances(&observations, one, other));
        let equal = &one[..others.min(size_of_cut)];
        overlaps.push(heavy_hitters::overlaps(&observations, equal, other));
    }
    let count = size_of_cut as u64;
    let summed = |metric: &'static Metric, of: Dimensions, repeats: &[Vec<f64>], index: usize| {
        let values: Vec<f64> = repeats.iter().map(|repeat| repeat[index]).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Record::new(metric, of, mean, Interval::percentiles(&values), count)
    };
    let mut records = Vec::new();
    for of in [WHOLE.graphs("valid"), WHOLE.graphs("all")] {
        records.push(summed(popular_calls::KL_TOP100, of.clone(), &divergences, 0));
        records.push(summed(popular_calls::KL_TOP100_OTHER, of, &divergences, 1));
    }
    records.extend(heavy_hitters::summary(&overlaps, count));
    for (index, metric) in [shape::EDGES_TV, shape::DEPTH_TV, shape::LATENCY_KS].iter().enumerate()
    {
        records.push(summed(metric, WHOLE, &distances, index));
    }
    records.extend(train_against_test(dataset, size, seed));
    records
}

fn train_against_test(dataset: &Dataset, size: usize, seed: u64) -> Vec<Record> {
    let (test, train) = (dataset.test(), dataset.train());
    let rows: Vec<Vec<CallRow>> = train.iter().map(|graph| graph.rows()).collect();
    let train: Vec<Answer> = train
        .iter()
        .zip(&rows)
        .map(|(graph, rows)| (graph.service(), rows.as_slice(), Some(*graph)))
        .collect();
    let observations = Observations::new(&test, &train);
    let train: Vec<&Observed> = observations.synthetic.iter().collect();
    let of = WHOLE.graphs("train");
    let mut records = popular_calls::divergence_records(&observations, &of, &train, size, seed);
    records.extend(shape::distance_records(&observations, &of, &train, size, seed));
    records
}

#[cfg(test)]
mod tests {
    use super::popular_calls::{KL_TOP100, KL_TOP100_OTHER, POPULAR_CALL, PopularCall};
    use super::shape::{DEPTH_TV, EDGES_SHARE, EDGES_TV, LATENCY_KS};
    use super::*;
    use crate::data::{DatasetCard, Side};
    use crate::evaluate::answers::{ACCURACY, VALID};
    use crate::evaluate::score as score_family;
    use crate::evaluate::tests::{answer, chain, dataset, failed, find, flat, reversed};
    use crate::graph::{
        CallGraph, CallType, Communication, Condition, Generated, USER, condition_of,
    };

    /// 24 test graphs of four services; 14 microservices, the chain's and the flat trees'.
    fn real() -> Vec<CallGraph> {
        (0..24u32)
            .map(|index| {
                let service = format!("S_{}", index % 4);
                match index % 3 {
                    0 => flat(&service, 2 + index % 11, 10 * index),
                    1 => chain(&service, 1 + index % 3, index),
                    _ => flat(&service, 1 + index % 5, 5),
                }
            })
            .collect()
    }

    fn score(real: &[CallGraph], asked: &[Condition], answers: &[Generated]) -> Vec<Record> {
        let dataset = dataset(Vec::new(), real.to_vec());
        let compared = asked.len().max(1);
        score_family(&FAMILY, &dataset, asked, answers, None, compared, 9).unwrap().records
    }

    fn conditions_of(graphs: &[CallGraph]) -> Vec<Condition> {
        graphs.iter().map(condition_of).collect()
    }

    #[test]
    fn a_perfect_copy_is_at_no_distance() {
        let real = real();
        let answers: Vec<Generated> = real.iter().map(answer).collect();
        let records = score(&real, &conditions_of(&real), &answers);
        for (metric, cell) in [
            (KL_TOP100, "graphs=valid"),
            (KL_TOP100, "graphs=all"),
            (KL_TOP100_OTHER, "graphs=valid"),
            (EDGES_TV, ""),
            (DEPTH_TV, ""),
            (LATENCY_KS, ""),
        ] {
            let record = find(&records, metric, cell);
            assert_eq!((record.value, record.count), (0.0, 24), "{metric}");
            // Four services: too few for an interval.
            assert!(record.low.is_nan(), "{metric}");
        }
        assert_eq!(find(&records, VALID, "").value, 1.0);
        assert_eq!(find(&records, ACCURACY, "").value, 1.0);
        let degenerate = find(&records, heavy_hitters::HEAVY_HITTERS, "k=500");
        assert!(degenerate.value.is_nan() && degenerate.count == 24);
    }

    #[test]
    fn popular_calls_by_hand() {
        // Real: 2 roots, 3 calls to MS_00201 or MS_00202. Synthetic: two roots, one unseen call.
        let real = [flat("S_1", 3, 4), flat("S_2", 2, 4)];
        let answers = [answer(&flat("S_1", 1, 4)), answer(&chain("S_2", 1, 4))];
        let records = score(&real, &conditions_of(&real), &answers);
        let root = (USER, "MS_00100");
        let of = |rank, side, (source, destination): (&str, &str)| {
            let (source, destination) = (source.into(), destination.into());
            let call = Communication { source, destination, kind: CallType::Rpc };
            let about = PopularCall { rank, call }.dimensions(side);
            find(&records, POPULAR_CALL, &about.to_string()).value
        };
        // Rank 1 and 2 are equal in count and ordered by name: MS_… before USER.
        assert_eq!(of(1, "real", ("MS_00100", "MS_00201")), 0.4);
        assert_eq!(of(2, "real", root), 0.4);
        assert_eq!(of(2, "synthetic", root), 1.0);
        assert_eq!(of(3, "synthetic", ("MS_00100", "MS_00202")), 0.0);
        // P = (2.5, 2.5, 1.5) / 6.5, Q = (0.5, 2.5, 0.5) / 3.5.
        let (p, q) = ([2.5, 2.5, 1.5], [0.5, 2.5, 0.5]);
        let terms = p.iter().zip(q).map(|(p, q): (&f64, f64)| {
            let (p, q) = (p / 6.5, q / 3.5);
            p * (p / q).ln()
        });
        let expected: f64 = terms.sum();
        let kl = find(&records, KL_TOP100, "graphs=valid");
        assert!((kl.value - expected).abs() < 1e-12, "{kl:?}");
    }

    #[test]
    fn mass_outside_the_top_shows_in_the_other_bucket() {
        let real = vec![flat("S_1", 1, 4); 10];
        let mut rows = flat("S_1", 9, 4).rows();
        rows.iter_mut().skip(1).for_each(|row| row.destination = "MS_unseen".into());
        let answers = vec![Generated::complete(rows); 10];
        let records = score(&real, &conditions_of(&real), &answers);
        assert_eq!(find(&records, KL_TOP100, "graphs=valid").value, 0.0);
        assert!(find(&records, KL_TOP100_OTHER, "graphs=valid").value > 1.0);
        assert_eq!(find(&records, EDGES_TV, "").value, 1.0);
        assert_eq!(find(&records, EDGES_SHARE, "edges=9/side=synthetic").value, 1.0);
        assert_eq!(find(&records, EDGES_SHARE, "edges=1/side=real").value, 1.0);
        // One service: nothing to resample.
        assert!(find(&records, EDGES_TV, "").low.is_nan());
    }

    #[test]
    fn heavy_hitters_by_hand() {
        // 20 microservices below one root; the answers know the first 12 of them (and the root).
        let real = vec![flat("S_1", 21, 4); 3];
        let answers = vec![answer(&flat("S_1", 13, 4)); 3];
        let records = score(&real, &conditions_of(&real), &answers);
        let of = |k| find(&records, heavy_hitters::HEAVY_HITTERS, &format!("k={k}")).value;
        assert_eq!(of(10), 1.0);
        assert!((of(20) - 13.0 / 20.0).abs() < 1e-12);
        assert!(of(50).is_nan());
    }

    #[test]
    fn nothing_valid_is_said_and_not_scored() {
        let real = real();
        let mut partly = answer(&real[0]);
        partly.failure = failed().failure;
        let mut answers = vec![failed(); 24];
        answers[0] = partly;
        let records = score(&real, &conditions_of(&real), &answers);
        assert_eq!(find(&records, VALID, "").value, 0.0);
        for (metric, cell) in [
            (KL_TOP100, "graphs=valid"),
            (EDGES_TV, ""),
            (LATENCY_KS, ""),
            (heavy_hitters::HEAVY_HITTERS, "k=10"),
        ] {
            let record = find(&records, metric, cell);
            assert!(
                record.value.is_nan() && record.low.is_nan() && record.count == 0,
                "{record:?}"
            );
        }
        let all = find(&records, KL_TOP100, "graphs=all");
        assert!(all.value.is_nan() && all.count == 1);
        // Neither does it fail without test graphs or without prompts.
        score(&[], &conditions_of(&real), &answers);
        assert!(find(&score(&real, &[], &[]), VALID, "").value.is_nan());
    }

    #[test]
    fn the_order_of_graphs_does_not_matter() {
        let real = real();
        let answers: Vec<Generated> = real
            .iter()
            .rev()
            .map(|graph| answer(&flat(graph.service(), graph.num_edges(), 3)))
            .collect();
        let asked = conditions_of(&real);
        let one = score(&real, &asked, &answers);
        let other = score(&reversed(&real), &reversed(&asked), &reversed(&answers));
        // Heavy hitters draw prompts by their index.
        let text = |records: &[Record]| {
            let same = records.iter().filter(|r| r.metric != heavy_hitters::HEAVY_HITTERS);
            format!("{:?}", same.collect::<Vec<_>>())
        };
        assert_eq!(text(&one), text(&other));
    }

    #[test]
    fn distances_of_halves_shrink_with_the_data() {
        let of_halves = |copies: usize| {
            let graphs: Vec<CallGraph> = (0..copies).flat_map(|_| real()).collect();
            let size = 24 * copies;
            let records = references(&dataset(graphs.clone(), graphs), size, 2);
            let record = find(&records, KL_TOP100_OTHER, "graphs=all").clone();
            assert!(record.low <= record.value && record.value <= record.high);
            assert_eq!(record.count, size as u64);
            // Training and test graphs are the same here.
            assert_eq!(find(&records, KL_TOP100, "graphs=train").value, 0.0);
            assert_eq!(find(&records, EDGES_TV, "graphs=train").value, 0.0);
            record.value
        };
        let (few, many) = (of_halves(1), of_halves(20));
        assert!(many < few / 4.0, "{many} {few}");
        assert!(references(&dataset(Vec::new(), vec![flat("S_1", 1, 1)]), 1, 2).is_empty());
    }

    /// As every row is measured on as many graphs, one with fewer has no number, where before it had a
    /// larger one, or none of the others' answers counted.
    #[test]
    fn all_rows_are_measured_on_as_many_graphs() {
        let graphs: Vec<CallGraph> = (0..20).flat_map(|_| real()).collect();
        let asked = conditions_of(&graphs);
        let dataset = dataset(graphs.clone(), graphs.clone());
        let of = |valid: usize| {
            let answers: Vec<Generated> = graphs
                .iter()
                .enumerate()
                .map(|(index, graph)| if index % 480 < valid { answer(graph) } else { failed() })
                .collect();
            score_family(&FAMILY, &dataset, &asked, &answers, None, 100, 9).unwrap().records
        };
        let (all, half, few) = (of(480), of(240), of(96));
        for (metric, cell) in [(KL_TOP100_OTHER, "graphs=valid"), (EDGES_TV, ""), (LATENCY_KS, "")]
        {
            let [all, half, few] = [&all, &half, &few].map(|records| find(records, metric, cell));
            assert!(all.value > 0.0 && all.count == 100, "{all:?}");
            assert_eq!(half.count, 100);
            assert!((half.value / all.value - 1.0).abs() < 0.8, "{half:?} {all:?}");
            assert!(few.value.is_nan() && few.count == 96, "{few:?}");
        }
        let real = references(&dataset, 100, 1);
        assert_eq!(find(&real, EDGES_TV, "").count, 100);
        assert_eq!(find(&real, EDGES_TV, "graphs=train").count, 100);
    }

    #[test]
    fn faulty_traces_are_no_reference() {
        let (train, test) = (real(), real());
        let faulty = vec![flat("S_1", 11, 90_000); 48];
        let sides = [(Side::Train, 24), (Side::Test, 24), (Side::Faulty, 48)];
        let sides = sides.iter().flat_map(|(side, count)| vec![*side; *count]).collect();
        let all = [train.clone(), test.clone(), faulty].concat();
        let with = Dataset::new(DatasetCard::default(), all, sides);
        let without = references(&dataset(train, test), 12, 3);
        assert_eq!(format!("{:?}", references(&with, 12, 3)), format!("{without:?}"));
    }
}
