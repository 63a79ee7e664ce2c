use super::membership;
use super::occurrence::{
    DISTINCT_PROMPTS, MEMORISED, NOVELTY, UNIQUENESS, VALID_UNIQUE_NOVEL, halves,
};
use super::privacy::{AUTHENTICITY, NEAREST, PROTECTION};
use crate::data::simulator::{Cloud, SimulatorConfig};
use crate::data::{Dataset, DatasetCard, Side};
use crate::device::DeviceChoice;
use crate::evaluate::answers::VALID;
use crate::evaluate::tests::{
    answer, assert_same_values, chain, dataset, failed, find, flat, near, nothing_asked,
    renamed_dataset, reversed,
};
use crate::evaluate::{self, Metric, Record, evaluate, novelty, references};
use crate::generators;
use crate::generators::{Decoding, FitContext, GenerateOptions};
use crate::graph::{CallGraph, CallRow, Condition, Generated, condition_of};
use crate::model::Sampling;
use crate::progress::Progress;

fn score(dataset: &Dataset, answers: &[Generated]) -> Vec<Record> {
    let test = dataset.test();
    let asked: Vec<Condition> = answers
        .iter()
        .enumerate()
        .map(|(index, _)| condition_of(test[index % test.len()]))
        .collect();
    evaluate(&novelty::FAMILY, dataset, &asked, answers, 3).expect("scores")
}

#[test]
fn each_valid_answer_is_novel_by_names_or_not() {
    let (known, fresh) = (flat("S_1", 2, 9), flat("S_1", 3, 9));
    let data = dataset(vec![known.clone()], vec![fresh.clone()]);
    let asked = [&known, &known, &fresh].map(condition_of);
    let answers = [answer(&known), failed(), answer(&fresh)];
    let scores = evaluate::score(&novelty::FAMILY, &data, &asked, &answers, None, 50, 1);
    let scores = scores.expect("scores").of_prompts;
    let novel = scores.column(NOVELTY).expect("a value for each prompt");
    assert!(novel[0] == 0.0 && novel[1].is_nan() && novel[2] == 1.0, "{novel:?}");
}

/// Every fifth graph of a simulated cloud is a test graph.
fn simulated(graphs: u64) -> Dataset {
    let cloud = Cloud::new(&SimulatorConfig::default()).expect("default cloud");
    let graphs: Vec<CallGraph> = (0..graphs).map(|index| cloud.graph(1, index)).collect();
    let sides = (0..graphs.len()).map(|index| match index % 5 {
        0 => Side::Test,
        _ => Side::Train,
    });
    Dataset::new(DatasetCard::default(), graphs.clone(), sides.collect())
}

#[test]
fn occurrence_by_hand() {
    let train = vec![flat("S_1", 3, 40), chain("S_1", 3, 40)];
    let test = vec![flat("S_1", 3, 40), flat("S_2", 3, 40), chain("S_1", 2, 8), flat("S_1", 3, 40)];
    let answers = [
        answer(&flat("S_1", 3, 41)), // known but for a millisecond, which bins do not see
        answer(&flat("S_2", 3, 40)), // of another service: the shape alone is known
        failed(),
        answer(&flat("S_1", 3, 40)), // a copy
    ];
    let records = score(&dataset(train, test), &answers);
    let value = |metric: &Metric, cell: &str| find(&records, metric, cell).value;
    let levels = |metric: &Metric| {
        ["structure", "names", "binned-times", "times"]
            .map(|level| (value(metric, &format!("level={level}")) * 12.0).round())
    };
    assert_eq!(levels(UNIQUENESS), [4.0, 8.0, 8.0, 12.0]);
    assert_eq!(levels(NOVELTY), [0.0, 4.0, 4.0, 8.0]);
    assert_eq!(levels(VALID_UNIQUE_NOVEL), [0.0, 3.0, 3.0, 6.0]);
    assert_eq!(value(MEMORISED, "attributes=names"), 2.0 / 3.0);
    assert_eq!(value(MEMORISED, "attributes=times"), 1.0 / 3.0);
    assert_eq!(value(MEMORISED, "attributes=names/edges=2-3"), 2.0 / 3.0);
    assert!(value(MEMORISED, "attributes=names/edges=16+").is_nan());
    assert_eq!(value(DISTINCT_PROMPTS, "level=structure"), 0.5);
    assert_eq!(value(DISTINCT_PROMPTS, "level=times"), 0.75);
    assert_eq!(value(VALID, ""), 0.75);
}

#[test]
fn privacy_by_hand() {
    let of = |tree: fn(&str, u32, u32) -> CallGraph, edges| tree("S_1", edges, 10);
    let train = vec![of(flat, 2), of(flat, 3)];
    let test = vec![of(chain, 3), of(flat, 5)];
    let answers = [answer(&of(flat, 4)), answer(&of(flat, 6))];
    // The distance of flat trees of m and n calls is 1 − m / n: ¼ and ½ to the larger training graph,
    // which is ⅓ from the other. The test graph behind a prompt does not count: ⅕ to the flat one
    // remains for the first answer, and for the second the chain, with which it has 2 of 7 calls.
    let records = score(&dataset(train, test), &answers);
    for (metric, cell, value) in [
        (AUTHENTICITY, "", 0.5),
        (NEAREST, "to=train", 0.375),
        (NEAREST, "to=holdout", (0.2 + 5.0 / 7.0) / 2.0),
        // One of two is nearer to training, where two of three would be by chance: ½ over ⅓.
        (PROTECTION, "sets=all", 1.5),
    ] {
        let record = find(&records, metric, cell);
        assert!(near(record.value, value, 1e-12) && record.count == 2, "{record:?}");
    }
}

#[test]
fn halves_of_equal_and_of_distinct_graphs() {
    let equal = vec![flat("S_1", 3, 40); 20];
    let equal = halves(&equal.iter().collect::<Vec<_>>(), 3, Some("half"));
    let distinct: Vec<CallGraph> = (1..=20).map(|edges| flat("S_1", edges, 40)).collect();
    let distinct = halves(&distinct.iter().collect::<Vec<_>>(), 3, Some("half"));
    for (records, novel) in [(&equal, 0.0), (&distinct, 1.0)] {
        for level in ["structure", "names", "binned-times", "times"] {
            let record = find(records, NOVELTY, &format!("level={level}/reference=half"));
            assert_eq!((record.value, record.low, record.high), (novel, novel, novel), "{level}");
            assert_eq!(record.count, 10);
        }
        for attributes in ["names", "times"] {
            let cell = format!("attributes={attributes}/reference=half");
            assert_eq!(find(records, MEMORISED, &cell).value, 1.0 - novel);
        }
    }
}

/// A generator that copies training graphs fails, and real graphs that were never trained on pass.
#[test]
fn copies_of_the_training_set_are_found() {
    let dataset = simulated(1_000);
    let train = dataset.train();
    let copies: Vec<Generated> = (0..200)
        .map(|index| {
            // Of the prompt's service, as `training-set-copy` answers.
            let service = dataset.test()[index].service();
            let of_service = train.iter().filter(|graph| graph.service() == service);
            let mut of_service: Vec<_> = of_service.collect();
            if of_service.is_empty() {
                of_service.extend(&train);
            }
            answer(of_service[index % of_service.len()])
        })
        .collect();
    let copied = score(&dataset, &copies);
    let real = references(&novelty::FAMILY, &nothing_asked(&dataset), 3).expect("reference rows");
    let compare = |metric: &Metric, cell: &str, reference: &str| {
        (find(&copied, metric, cell).value, find(&real, metric, reference).value)
    };
    let (copy, held_out) = compare(PROTECTION, "sets=all", "sets=all/reference=test");
    assert!(copy < 0.25 && held_out > 0.6, "{copy} {held_out}");
    let (copy, held_out) = compare(AUTHENTICITY, "", "reference=test");
    assert!(copy == 0.0 && held_out > 0.2, "{copy} {held_out}");
    let (copy, held_out) = compare(NEAREST, "to=train", "to=train/reference=test");
    assert!(copy < held_out, "{copy} {held_out}");
    let (copy, held_out) =
        compare(MEMORISED, "attributes=times", "attributes=times/reference=test");
    // A service that training lacks is answered with a graph of another one.
    assert!(copy > 0.9 && held_out < 0.9, "{copy} {held_out}");
}

/// The generator itself, through the registry.
#[test]
fn a_training_set_copy_fails_privacy() {
    let dataset = simulated(600);
    let asked: Vec<Condition> = dataset.test().into_iter().map(condition_of).collect();
    let recipe = generators::recipe("training-set-copy", &toml::Table::new()).expect("settings");
    let dir = tempfile::tempdir().expect("a folder");
    let (device, progress) = (DeviceChoice::Cpu, Progress::Quiet);
    let context = FitContext {
        dataset: &dataset,
        seed: 1,
        device,
        base: None,
        out: dir.path(),
        scratch: dir.path(),
        progress,
    };
    recipe.fit(&context).expect("fits");
    let (sampling, decoding) = (Sampling { temperature: 1.0, top_k: None }, Decoding::Free);
    let options = GenerateOptions { seed: 1, sampling, decoding, batch: 1, progress };
    let generator = recipe.load(dir.path(), None, device).expect("loads");
    let answers = generator.generate(&asked, &options).expect("generates");
    let records = score(&dataset, &answers);
    let protection = find(&records, PROTECTION, "sets=all");
    assert!(protection.value < 0.3 && protection.high < 0.6, "{protection:?}");
    assert_eq!(find(&records, AUTHENTICITY, "").value, 0.0);
    // Where training lacks the service, the copy is of another service's graph, and so new by name.
    assert!(find(&records, NOVELTY, "level=names").value < 0.15);
}

#[test]
fn no_order_matters() {
    let forward = simulated(150);
    let owned = |graphs: Vec<&CallGraph>| graphs.into_iter().cloned().collect::<Vec<_>>();
    let (train, test) = (owned(forward.train()), owned(forward.test()));
    let later = |graph: &CallGraph| {
        let later = |row: CallRow| CallRow { start: row.start + 1, finish: row.finish + 1, ..row };
        Generated::complete(graph.rows().into_iter().map(later).collect())
    };
    let asked: Vec<Condition> = test.iter().map(condition_of).collect();
    let answers: Vec<Generated> = test.iter().map(later).collect();
    let score = |dataset: &Dataset, asked: &[Condition], answers: &[Generated]| {
        evaluate(&novelty::FAMILY, dataset, asked, answers, 3).expect("scores")
    };
    let one = score(&dataset(train.clone(), test.clone()), &asked, &answers);
    let backward = dataset(reversed(&train), reversed(&test));
    let two = score(&backward, &reversed(&asked), &reversed(&answers));
    assert_same_values(&one, &two, 1e-12);
    for (one, two) in one.iter().zip(&two) {
        assert!(
            near(one.low, two.low, 1e-12) && near(one.high, two.high, 1e-12),
            "{one:?} {two:?}"
        );
    }
}

#[test]
fn names_do_not_matter() {
    // Equal sides, as a part of the larger one is drawn in an order that names have a say in.
    let cloud = Cloud::new(&SimulatorConfig::default()).expect("default cloud");
    let graphs = |seed| (0..60).map(move |index| cloud.graph(seed, index));
    let graphs: Vec<CallGraph> = graphs.clone()(1).chain(graphs(2)).collect();
    let one = dataset(graphs[..60].to_vec(), graphs[60..].to_vec());
    let other = renamed_dataset(&one);
    let answers = |dataset: &Dataset| -> Vec<Generated> {
        // Training graphs, test graphs and graphs of nobody.
        let sides = dataset.train().into_iter().zip(dataset.test());
        let mixed = sides.enumerate().map(|(index, (train, test))| match index % 3 {
            0 => answer(train),
            1 => answer(test),
            _ => answer(&flat(test.service(), 1 + index as u32 % 5, 10)),
        });
        mixed.collect()
    };
    let (found, again) = (score(&one, &answers(&one)), score(&other, &answers(&other)));
    assert!((0.1..0.9).contains(&find(&found, AUTHENTICITY, "").value));
    assert_same_values(&found, &again, 1e-12);
}

#[test]
fn nothing_to_score_gives_numbers_that_do_not_exist() {
    let full = dataset(vec![flat("S_1", 3, 4)], vec![flat("S_1", 2, 4), chain("S_1", 3, 4)]);
    let records = score(&full, &[failed(), failed()]);
    for (metric, cell) in [
        (UNIQUENESS, "level=names"),
        (NOVELTY, "level=times"),
        (MEMORISED, "attributes=names"),
        (PROTECTION, "sets=all"),
        (NEAREST, "to=train"),
        (AUTHENTICITY, ""),
    ] {
        let record = find(&records, metric, cell);
        assert!(record.value.is_nan() && record.count == 0, "{record:?}");
    }
    assert_eq!(find(&records, VALID_UNIQUE_NOVEL, "level=names").value, 0.0);
    // One training graph, which has no other one to be near to; one test graph, whose prompt leaves
    // none to compare with; no training graph.
    let one = score(&full, &[answer(&flat("S_1", 3, 4))]);
    assert!(find(&one, AUTHENTICITY, "").value.is_nan());
    let some = dataset(
        vec![flat("S_1", 3, 4), flat("S_1", 5, 4)],
        vec![flat("S_1", 2, 4), chain("S_1", 3, 4), chain("S_1", 2, 4)],
    );
    let one = score(&some, &[answer(&flat("S_1", 3, 4))]);
    assert_eq!(find(&one, PROTECTION, "sets=all").value, 0.0);
    let bare = dataset(vec![flat("S_1", 3, 4)], vec![flat("S_1", 2, 4)]);
    assert!(
        find(&score(&bare, &[answer(&flat("S_1", 2, 4))]), PROTECTION, "sets=all").value.is_nan()
    );
    let bare = dataset(Vec::new(), vec![flat("S_1", 2, 4)]);
    let records = score(&bare, &[answer(&flat("S_1", 2, 4))]);
    assert!(find(&records, PROTECTION, "sets=all").value.is_nan());
    assert_eq!(find(&records, NOVELTY, "level=names").value, 1.0);
    assert!(
        references(
            &novelty::FAMILY,
            &nothing_asked(&dataset(vec![flat("S_1", 3, 4)], Vec::new())),
            1
        )
        .expect("none")
        .is_empty()
    );
    assert!(!references(&novelty::FAMILY, &nothing_asked(&bare), 1).expect("rows").is_empty());
    assert!(!membership::records(&[], 1).is_empty());
}
