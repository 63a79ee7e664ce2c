//! Whole reports from synthetic records: snapshots of every table in every format, and figures that
//! say what they should. `TRACEGYM_FIGURES=DIR cargo test claims::` keeps the figures.

mod downstream;
mod instructions;
mod novelty;
mod truth;

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;
use crate::data::{DatasetCard, SplitCard};
use crate::error::UserError;
use crate::evaluate::accuracy::TRAIN_GRAPHS;
use crate::evaluate::fidelity::popular_calls::PopularCall;
use crate::evaluate::{Bin, FAMILIES, Interval, PromptScores, Record, WHOLE};
use crate::graph::{CallType, Communication, Grid};
use crate::report::figure::Content;
use crate::report::{Format, RunRecords, TrainingLog, VERSION, write};
use crate::version::Version;

const CALLS: [(&str, &str, CallType); 3] = [
    ("USER", "MS_00001", CallType::Http),
    ("MS_00001", "MS_00002", CallType::Mc),
    ("MS_00001", "MS_00003", CallType::Rpc),
];

fn card() -> DatasetCard {
    DatasetCard {
        name: "example".into(),
        labels: vec!["Response times are drawn from `other`, not measured.".into()],
        services: 12,
        split: SplitCard {
            kind: "by-structure".into(),
            train_graphs: 9_000,
            test_graphs: 1_000,
            ..SplitCard::default()
        },
        ..DatasetCard::default()
    }
}

/// The metric with this id.
fn described(id: &str) -> &'static Metric {
    metric(id).unwrap_or_else(|| panic!("no metric {id}"))
}

fn share(id: &str, dimensions: Dimensions, share: f64, count: u64) -> Record {
    let metric = described(id);
    let hits = (share.clamp(0.0, 1.0) * count as f64).round() as u64;
    let Interval { low, high } = Interval::wilson(hits, count);
    let value = hits as f64 / count as f64;
    Record { metric, dimensions, value, low, high, count, resamples: None }
}

fn number(id: &str, dimensions: Dimensions, value: f64) -> Record {
    let metric = described(id);
    let (low, high) = (value * 0.8, value * 1.3);
    Record { metric, dimensions, value, low, high, count: 500, resamples: None }
}

/// Accuracy falls with edges and depth, by `skill`.
fn accuracy_records(skill: f64) -> Vec<Record> {
    let at = |size: f64| skill - size / 20.0;
    let mut records = vec![share("accuracy/1", WHOLE, at(4.0), 400)];
    for edges in 1..=8u32 {
        records.push(share("accuracy/1", WHOLE.edges(edges), at(edges.into()), 50));
        for depth in (1..=4.min(edges)).filter(|depth| (*depth == 1) == (edges == 1)) {
            let about = WHOLE.edges(edges).depth(depth);
            records.push(share("accuracy/1", about.clone(), at((edges + depth).into()), 10));
            let mut graphs =
                number("train-graphs/1", about, f64::from(24u32.saturating_sub(edges * depth)));
            (graphs.low, graphs.high) = (f64::NAN, f64::NAN);
            records.push(graphs);
        }
    }
    for depth in 1..=4u32 {
        records.push(share("accuracy/1", WHOLE.depth(depth), at((2 * depth).into()), 100));
    }
    for (bin, size) in [(0.into(), 9.0), (Bin::new(1, 4), 6.0), (Bin::at_least(20), 2.0)] {
        records.push(share("accuracy/1", WHOLE.train_graphs(bin), at(size), 120));
    }
    let none = Record { value: f64::NAN, low: f64::NAN, high: f64::NAN, ..records[0].clone() };
    records.push(Record { dimensions: WHOLE.train_graphs(Bin::new(5, 19)), count: 0, ..none });
    records.push(share("failure/1", WHOLE.code("request-edges"), (1.0 - at(4.0)) * 0.75, 400));
    records
}

fn fidelity_records(distance: f64) -> Vec<Record> {
    let mut records = vec![
        share("valid/1", WHOLE, 1.0 - distance / 4.0, 500),
        share("accuracy/1", WHOLE, 0.9 - distance, 500),
    ];
    for (factor, graphs) in [(1.0, "valid"), (1.5, "all")] {
        let about = WHOLE.graphs(graphs);
        records.push(number("kl-top100/2", about.clone(), distance * factor));
        records.push(number("kl-top100-other/2", about, distance * factor * 1.2));
    }
    for (rank, (source, destination, kind)) in (1u32..).zip(CALLS) {
        let real = 0.5 / f64::from(rank);
        let (source, destination) = (source.into(), destination.into());
        let call = Communication { source, destination, kind };
        let popular = PopularCall { rank, call };
        for (side, value) in [("real", real), ("synthetic", real * (1.0 - distance / 2.0))] {
            records.push(number("popular-call/1", popular.dimensions(side), value));
        }
    }
    for (k, overlap) in [(10u32, 1.0 - distance / 2.0), (20, 0.9 - distance / 2.0), (500, f64::NAN)]
    {
        let record = number("heavy-hitters/2", WHOLE.k(k), overlap);
        records.push(Record { high: record.high.clamp(0.0, 1.0), ..record });
    }
    let is: [fn(Bin) -> Dimensions; 2] = [|edges| WHOLE.edges(edges), |depth| WHOLE.depth(depth)];
    for ((metric, most), is) in [("edges-share/1", 5), ("depth-share/1", 3)].into_iter().zip(is) {
        for value in 1..=most + 1u32 {
            let bin = if value > most { Bin::at_least(value) } else { value.into() };
            let fall = 0.5f64.powi(value as i32);
            for (side, share_of) in [("real", fall), ("synthetic", fall * (1.0 - distance / 3.0))] {
                let about = is(bin).side(side);
                records.push(share(metric, about, share_of, 1_000));
            }
        }
    }
    for metric in ["edges-tv/2", "depth-tv/2", "latency-ks/2"] {
        records.push(number(metric, WHOLE, distance / 2.0));
    }
    records
}

fn references() -> Vec<Record> {
    let mut records = Vec::new();
    for (about, factor) in
        [(WHOLE.graphs("valid"), 1.0), (WHOLE.graphs("all"), 1.0), (WHOLE.graphs("train"), 2.0)]
    {
        records.push(number("kl-top100/2", about.clone(), 0.05 * factor));
        records.push(number("kl-top100-other/2", about, 0.06 * factor));
    }
    for (about, factor) in [(WHOLE, 1.0), (WHOLE.graphs("train"), 2.0)] {
        for metric in ["edges-tv/2", "depth-tv/2", "latency-ks/2"] {
            records.push(number(metric, about.clone(), 0.02 * factor));
        }
    }
    for k in [10u32, 20, 500] {
        records.push(number("heavy-hitters/2", WHOLE.k(k), 0.7));
    }
    records.extend(novelty::records(0.2, Some("test")));
    records.extend(novelty::records(0.15, Some("half")));
    for (reference, skill) in
        [("train", 0.9), ("train-5000", 0.95), ("counting", 0.3), ("size", 0.0)]
    {
        records.extend(
            anomaly_records(skill)
                .into_iter()
                .map(|r| Record { dimensions: r.dimensions.reference(reference), ..r }),
        );
    }
    records
}

fn anomaly_records(skill: f64) -> Vec<Record> {
    let mut records = Vec::new();
    for (metric, bonus) in [("anomaly-auc/2", 0.0), ("anomaly-auc-pr/2", 0.02)] {
        for (kind, ease) in [("all", 0.7), ("structure", 0.8), ("latency", 0.6)] {
            let value = 0.5 + 0.5 * skill * ease + bonus;
            let (low, high) = (value - 0.03, value + 0.02);
            let dimensions = WHOLE.kind(kind);
            let metric = described(metric);
            records.push(Record {
                metric,
                dimensions,
                value,
                low,
                high,
                count: 4_000,
                resamples: None,
            });
        }
    }
    records
}

/// 400 prompts about 20 services, answered as well as the records say, best about the first.
fn prompt_scores(records: &[Record], seed: u64) -> PromptScores {
    let services = (0..400).map(|prompt| format!("S_{:02}", prompt / 20).as_str().into()).collect();
    let mut scores = PromptScores::of((0..400).map(|prompt| prompt * 7 + seed).collect(), services);
    for metric in ["valid/1", "accuracy/1"].map(described) {
        let whole = records.iter().find(|r| r.is(metric, &WHOLE));
        let Some(whole) = whole else { continue };
        let hit = |prompt: u64| {
            let bar = whole.value + 0.1 - (prompt / 20) as f64 / 100.0;
            let chance = (prompt * 37 + (whole.value * 1e3) as u64) % 50;
            f64::from(u8::from(chance as f64 / 50.0 < bar))
        };
        scores.add(metric, (0..400).map(hit).collect());
    }
    scores
}

fn run(generator: &str, seed: u64, outcome: Result<Vec<Record>, String>) -> RunRecords {
    RunRecords {
        generator: generator.into(),
        label: generator.replace("llm", "LLM"),
        seed,
        temperature: 0.0,
        snapshot_tokens: None,
        graphs: if outcome.is_ok() { 400 } else { 0 },
        prompt_scores: outcome.as_ref().ok().map(|records| prompt_scores(records, seed)),
        outcome,
        parameters: Some(123_456),
        notes: vec![("tokens per call".into(), "46.2".into())],
        train_seconds: Some(12.5),
        generate_seconds: Some(4.0),
        train_cpu_seconds: Some(20.0),
        generate_cpu_seconds: Some(5.0),
        train_bytes: Some(700 << 20),
        generate_bytes: None,
    }
}

/// Two seeds that disagree a little, one seed, and a generator of which one seed failed.
fn runs(records: impl Fn(f64) -> Vec<Record>) -> Vec<RunRecords> {
    vec![
        run("recursive-llm", 0, Ok(records(0.95))),
        run("recursive-llm", 1, Ok(records(0.85))),
        run("probabilistic", 0, Ok(records(0.4))),
        run("resample", 0, Ok(records(0.9))),
        run("resample", 1, Err("training: loss is not finite at step 7".into())),
    ]
}

/// The report with this id.
fn report(id: &str) -> &'static Report {
    let mut reports = FAMILIES.iter().flat_map(|family| family.reports);
    reports.find(|report| report.id == id).expect("a report")
}

fn drawn(id: &str, runs: &[RunRecords], logs: &[TrainingLog]) -> ReportFiles {
    let references = references();
    let with_references = id != "accuracy";
    drawn_with(id, runs, logs, with_references.then_some(references.as_slice()))
}

fn drawn_with(
    id: &str,
    runs: &[RunRecords],
    logs: &[TrainingLog],
    references: Option<&[Record]>,
) -> ReportFiles {
    let (card, report) = (card(), report(id));
    // The experiment that the report's claims are about.
    let claims = report.claims.iter().filter_map(|id| CLAIMS.get(*id));
    let experiment = claims.map(|claim| claim.experiment.as_str()).next().unwrap_or("example");
    let input = input(experiment, &card, runs);
    draw(&[report], &ReportInput { references, training_logs: logs, ..input })
}

fn input<'a>(
    experiment: &'a str,
    dataset: &'a DatasetCard,
    runs: &'a [RunRecords],
) -> ReportInput<'a> {
    ReportInput {
        experiment,
        title: "an example",
        dataset,
        profile: "quick",
        runs,
        plotted: &[],
        pairs: None,
        references: None,
        grid: None,
        training_logs: &[],
    }
}

/// All tables but the wall times.
fn text(files: &ReportFiles, format: fn(&Table) -> String) -> String {
    let tables = files.tables.iter().filter(|(name, _)| name != COST);
    tables.map(|(name, table)| format!("== {name}\n{}\n", format(table))).collect()
}

fn check_files(files: &ReportFiles, figures: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("TRACEGYM_FIGURES").map(PathBuf::from);
    let figures_dir = kept.unwrap_or_else(|| dir.path().join("figures"));
    let tables_dir = dir.path().join("a/tables");
    let written = write(files, &BTreeSet::new(), &tables_dir, &figures_dir).unwrap();
    assert_eq!(written.len(), files.tables.len() * 2 + figures.len());
    let all = [Format::Tex, Format::Png].into();
    let written = write(files, &all, &tables_dir, &figures_dir).unwrap();
    assert_eq!(written.len(), files.tables.len() * 3 + figures.len() * 2);
    for path in &written {
        let content = std::fs::read(path).unwrap();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("png") => assert!(image::load_from_memory(&content).is_ok(), "{path:?}"),
            Some("svg") => {
                let svg = String::from_utf8(content).unwrap();
                assert!(svg.trim_end().ends_with("</svg>"), "{path:?}");
                // Every figure carries the labels of its dataset, and failed runs.
                assert!(svg.contains("not measured"), "{path:?}");
                assert!(svg.contains("resample failed") || !svg.contains("resample"), "{path:?}");
            }
            _ => assert!(content.ends_with(b"\n"), "{path:?}"),
        }
    }
    let names: Vec<&str> = files.figures.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, figures);
    // Only what is written remains: no temporary files.
    assert_eq!(std::fs::read_dir(tables_dir).unwrap().count(), files.tables.len() * 3);
}

/// Every table and figure is what it was when the version of reports was raised last.
fn hold_to_version(files: &ReportFiles, name: &str) {
    use crate::version::golden;

    let digest = |text: &str| blake3::hash(text.as_bytes()).to_hex()[..16].to_owned();
    let mut text = String::new();
    for (name, table) in files.tables.iter().filter(|(name, _)| name != COST) {
        let whole = [table.to_csv(), table.to_markdown(), table.to_latex()].concat();
        text += &format!("table {name} {}\n", digest(&whole));
    }
    for (name, figure) in &files.figures {
        text += &format!("figure {name} {}\n", digest(&figure.to_svg().unwrap()));
    }
    golden::assert(Version { name: format!("report/{name}").leak(), ..VERSION }, &text);
}

#[test]
fn accuracy() {
    let files = drawn("accuracy", &runs(accuracy_records), &[]);
    insta::assert_snapshot!("accuracy-md", text(&files, Table::to_markdown));
    insta::assert_snapshot!("accuracy-csv", text(&files, Table::to_csv));
    insta::assert_snapshot!("accuracy-tex", text(&files, Table::to_latex));
    check_files(
        &files,
        &[
            "accuracy-heat-map",
            "accuracy-by-edges",
            "accuracy-by-depth",
            "accuracy-by-training-graphs",
            "superiority",
        ],
    );
    hold_to_version(&files, "accuracy");
}

#[test]
fn cells_without_prompts_are_counted() {
    let runs = runs(accuracy_records);
    let asked = accuracy_records(0.9).iter().filter(|record| record.metric == TRAIN_GRAPHS).count();
    let notes = |is_borrowed| {
        let grid = Some(Grid { max_edges: 30, max_depth: 6, is_borrowed });
        let card = card();
        let input = ReportInput { grid, ..input("example", &card, &runs) };
        let files = draw(&[report("accuracy")], &input);
        files.tables[0].1.notes.join(" ")
    };
    let (exact, borrowed) = (notes(false), notes(true));
    let left_out = format!("{} of the 136 cells have no such graph", 136 - asked);
    assert!(asked > 0 && exact.contains(&left_out), "{exact}");
    assert!(borrowed.contains("may never make") && !borrowed.contains("left out"), "{borrowed}");
}

#[test]
fn figures_of_accuracy_show_the_generators_that_the_experiment_names() {
    let runs = runs(accuracy_records);
    let plotted = ["probabilistic".to_owned()];
    let (card, [other, .., named]) = (card(), [0, 1, 2].map(|at| runs[at].label.as_str()));
    let files = draw(
        &[report("accuracy")],
        &ReportInput { plotted: &plotted, ..input("example", &card, &runs) },
    );
    let panels = |name: &str| {
        let (_, figure) = files.figures.iter().find(|(known, _)| known == name).expect(name);
        &figure.panels
    };
    assert_eq!(panels("accuracy-heat-map").len(), 1);
    for name in ["accuracy-by-edges", "accuracy-by-depth"] {
        let Content::Lines(drawn) = &panels(name)[0].content else { panic!("{name}: no lines") };
        let labels: Vec<&str> = drawn.lines.iter().map(|line| line.label.as_str()).collect();
        assert_eq!(labels, [named], "{name}");
    }
    let tables = text(&files, Table::to_markdown);
    assert!(tables.contains(named) && tables.contains(other), "{tables}");
}

/// What the paper asked a model in context is compared in the experiment that asks the same.
#[test]
fn a_claim_about_one_experiment() {
    let runs = [run("in-context-smollm2", 0, Ok(accuracy_records(0.1)))];
    let published = |experiment| {
        let files = draw(&[report("accuracy")], &input(experiment, &card(), &runs));
        let table = files.tables.into_iter().find(|(name, _)| name == "published");
        table.map(|(_, table)| table.to_markdown())
    };
    let asked = published("table3-in-context").expect("claims");
    assert_eq!(asked.matches("| table 3 |").count(), 4, "{asked}");
    assert!(asked.contains("11.1"), "{asked}");
    assert!(!published("fig3-accuracy").expect("claims").contains("table 3"));
    assert_eq!(published("example"), None);
}

/// Three generators in one order by one metric and the other way round by another.
#[test]
fn robustness() {
    use crate::evaluate::distribution::{MMD, PGD};

    let of = |pgd: f64, mmd: f64| vec![number(PGD.id, WHOLE, pgd), number(MMD.id, WHOLE, mmd)];
    let names = [("recursive-llm", 0.1, 0.3), ("markov", 0.2, 0.2), ("tvae", 0.3, 0.1)];
    let runs: Vec<RunRecords> = names
        .into_iter()
        .flat_map(|(name, pgd, mmd)| {
            [0.8, 0.6].map(|temperature| RunRecords {
                temperature,
                ..run(name, 0, Ok(of(pgd, mmd + temperature / 10.0)))
            })
        })
        .collect();
    let files = drawn("robustness", &runs, &[]);
    let csv = files.tables[0].1.to_csv();
    let rows: Vec<&str> = csv.lines().filter(|line| !line.starts_with('#')).collect();
    let expected = [
        "\"PGD, T = 0.8\",3,1,n/a,n/a,recursive-LLM",
        "\"PGD, T = 0.6\",3,1,n/a,n/a,recursive-LLM",
        "\"MMD², T = 0.8\",3,-1,n/a,n/a,tvae",
        "\"MMD², T = 0.6\",3,-1,n/a,n/a,tvae",
    ];
    assert_eq!(rows[1..5], expected, "{rows:?}");
    check_files(&files, &["robustness"]);
}

/// A number with an interval that reaches so far to both sides.
fn near(id: &str, about: Dimensions, value: f64, half: f64) -> Record {
    Record { low: value - half, high: value + half, ..number(id, about, value) }
}

/// Order and verdict of the claim of a source whose text begins so.
fn judged(files: &ReportFiles, source: &str, claim: &str) -> (String, String) {
    let table = &files.tables.iter().find(|(name, _)| name == "published").expect("claims").1;
    let csv = table.to_csv();
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(csv.as_bytes());
    let headings = reader.headers().expect("headings").clone();
    let place = |column: &str| headings.iter().position(|known| known == column).expect("a column");
    let mut rows = reader.records().map(|record| record.expect("a row"));
    let row = rows.find(|row| row[0] == *source && row[1].starts_with(claim)).expect("a claim");
    (row[place("order")].to_owned(), row[place("verdict")].to_owned())
}

/// The commonest outcome of a reproduction.
#[test]
fn order_and_value_are_graded_apart() {
    let kl = |value: f64| vec![near("kl-top100/2", WHOLE.graphs("valid"), value, 0.03)];
    let runs = [run("recursive-llm", 0, Ok(kl(0.15))), run("probabilistic", 0, Ok(kl(0.9)))];
    let files = drawn("fidelity", &runs, &[]);
    let of = |claim: &str| judged(&files, "fig. 4a", claim);
    assert_eq!(of("recursive:"), ("n/a".into(), "agrees".into()));
    assert_eq!(of("probabilistic:"), ("kept".into(), "differs".into()));
    assert_eq!(of("tabular:"), ("n/a".into(), "not comparable".into()));
    // So wide an interval would agree with anything.
    let wide = vec![near("kl-top100/2", WHOLE.graphs("valid"), 0.15, 0.15)];
    let files = drawn("fidelity", &[run("recursive-llm", 0, Ok(wide))], &[]);
    assert_eq!(judged(&files, "fig. 4a", "recursive:").1, "inconclusive");
}

/// A margin is tested as one, by the differences of the same prompts: 30 points above is not above.
#[test]
fn margins_are_tested_as_margins() {
    let whole = |accuracy: f64| vec![share("accuracy/1", WHOLE, accuracy, 400)];
    let verdict = |recursive: f64, tabular: f64| {
        let mut runs = vec![
            run("recursive-llm", 0, Ok(whole(recursive))),
            run("tabular-llm", 0, Ok(whole(tabular))),
        ];
        for run in &mut runs {
            let Ok(records) = &mut run.outcome else { continue };
            let scores = run.prompt_scores.as_ref().expect("scores");
            let values = scores.column(described("accuracy/1")).expect("values");
            records[0].value = values.iter().sum::<f64>() / values.len() as f64;
        }
        judged(&drawn("accuracy", &runs, &[]), "fig. 3a", "recursive: about 30 points")
    };
    assert_eq!(verdict(0.9, 0.2), ("kept".into(), "agrees".into()));
    assert_eq!(verdict(0.6, 0.5), ("kept".into(), "differs".into()));
    assert_eq!(verdict(0.3, 0.9), ("reversed".into(), "differs".into()));
    assert_eq!(verdict(0.5, 0.5), ("open".into(), "differs".into()));
}

#[test]
fn an_agreement_that_means_nothing_says_so() {
    let at_depth = |accuracy: f64| {
        vec![
            share("accuracy/1", WHOLE, 0.1, 400),
            near("accuracy/1", WHOLE.depth(5), accuracy, 0.01),
        ]
    };
    let verdict = |instruction: f64| {
        let runs = [
            run("tabular-llm", 0, Ok(at_depth(0.01))),
            run("recursive-instruction-llm", 0, Ok(at_depth(instruction))),
        ];
        judged(&drawn("accuracy", &runs, &[]), "fig. 3b", "tabular: accuracy near 0").1
    };
    assert_eq!((verdict(0.5), verdict(0.02)), ("agrees".into(), "vacuous".into()));
}

#[test]
fn where_real_graphs_are_at_chance_there_is_no_signal() {
    let task = || WHOLE.task("high-latency");
    let verdict = |real: f64| {
        let ours = vec![
            near("downstream-balanced-accuracy/1", task(), 0.67, 0.02),
            near("downstream-gap/1", task(), -1.0, 1.0),
        ];
        let about = task().reference("real");
        let references = [near("downstream-balanced-accuracy/1", about, real, 0.05)];
        let runs = [run("recursive-instruction-llm", 0, Ok(ours))];
        let files = drawn_with("high-latency", &runs, &[], Some(&references));
        judged(&files, "table 2", "recursive + instruction: high latency, difference").1
    };
    assert_eq!((verdict(0.68), verdict(0.52)), ("agrees".into(), "no signal".into()));
}

/// What the paper saw at every temperature must be so at every temperature here.
#[test]
fn a_range_is_one_claim_at_all_temperatures() {
    let at = |temperature: f64, memorised: f64| {
        let records = vec![near("memorised/1", WHOLE.attributes("names"), memorised, 0.01)];
        RunRecords { temperature, ..run("recursive-llm", 0, Ok(records)) }
    };
    let verdict = |cold: f64, hot: f64| {
        let runs = [at(0.0, cold), at(0.8, hot)];
        judged(&drawn("novelty", &runs, &[]), "fig. 15", "recursive:").1
    };
    assert_eq!(verdict(0.04, 0.04), "agrees");
    assert_eq!(
        (verdict(0.04, 0.08), verdict(0.04, 0.05)),
        ("differs".into(), "inconclusive".into())
    );
}

/// Variants at each of `temperatures`, worse where it is higher.
fn at_temperatures(temperatures: &[f64]) -> ReportFiles {
    let mut all = Vec::new();
    for temperature in temperatures {
        let colder = runs(|skill| accuracy_records(skill - temperature / 4.0)).into_iter().take(3);
        all.extend(colder.map(|run| RunRecords { temperature: *temperature, ..run }));
    }
    drawn("accuracy", &all, &[])
}

#[test]
fn accuracy_at_two_temperatures() {
    let files = at_temperatures(&[0.0, 0.8]);
    let names: Vec<&str> = files.figures.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"accuracy-heat-map-t0") && names.contains(&"accuracy-heat-map-t0.8"));
    assert_eq!(names.len(), 4 * 2 + 2);
}

/// A sweep has one figure, and everything in its tables.
#[test]
fn accuracy_at_several_temperatures() {
    let files = at_temperatures(&[0.0, 0.4, 0.8]);
    let names: Vec<&str> = files.figures.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["accuracy-by-temperature", "superiority"]);
    assert_eq!(files.tables[0].1.rows.len(), 6);
    let by_depth = &files.tables[1].1;
    let names: Vec<&str> = by_depth.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names[..2], ["temperature", "depth"]);
    assert_eq!(names[3..], ["recursive-LLM", "probabilistic"]);
    let heads: Vec<String> = by_depth.rows.iter().map(|row| format!("{:?}", &row[..2])).collect();
    assert_eq!(heads.len(), 3 * 4);
    assert_eq!(heads[5], format!("{:?}", [Cell::text("0.4"), Cell::Integer(2)]));
    // Warmer is worse: the rows of one depth differ.
    assert_ne!(format!("{:?}", by_depth.rows[1]), format!("{:?}", by_depth.rows[5]));
}

#[test]
fn fidelity() {
    let files = drawn("fidelity", &runs(|skill| fidelity_records(1.0 - skill)), &[]);
    insta::assert_snapshot!("fidelity-md", text(&files, Table::to_markdown));
    insta::assert_snapshot!("fidelity-csv", text(&files, Table::to_csv));
    insta::assert_snapshot!("fidelity-tex", text(&files, Table::to_latex));
    check_files(&files, &["divergence", "popular-calls", "heavy-hitters", "sizes", "superiority"]);
    hold_to_version(&files, "fidelity");
}

/// Names may hold what separates them in the names of calls elsewhere.
#[test]
fn popular_calls_of_any_names() {
    let call = |rank, source: &str, destination: &str| PopularCall {
        rank,
        call: Communication {
            source: source.into(),
            destination: destination.into(),
            kind: CallType::Rpc,
        },
    };
    let calls = [call(1, "a>b", "c"), call(2, "a", "b>c"), call(3, "a/side=real/call=b", "c:rpc")];
    let of = |call: &PopularCall, side: &str| {
        number("popular-call/1", call.dimensions(side), 0.1 * f64::from(call.rank))
    };
    let records = calls.iter().flat_map(|call| ["real", "synthetic"].map(|side| of(call, side)));
    let files = drawn("fidelity", &[run("resample", 0, Ok(records.collect()))], &[]);
    let (_, table) = files.tables.iter().find(|(name, _)| name == "popular-calls").expect("there");
    let rows: Vec<&[Cell]> = table.rows.iter().map(|row| &row[1..4]).collect();
    let row = |source, destination| [source, destination, "rpc"].map(Cell::text);
    assert_eq!(rows, [row("a>b", "c"), row("a", "b>c"), row("a/side=real/call=b", "c:rpc")]);
    assert!(
        table.rows.iter().all(|row| matches!(row[5], Cell::Share { value, .. } if value > 0.0))
    );
    let (_, figure) =
        files.figures.iter().find(|(name, _)| name == "popular-calls").expect("drawn");
    let svg = figure.to_svg().unwrap();
    assert!(svg.contains("a&gt;b → c rpc") && svg.contains("a → b&gt;c rpc"));
}

#[test]
fn popular_calls_are_drawn_of_arms_with_valid_answers() {
    let hardly = || {
        let mut records = fidelity_records(0.6);
        records[0] = share("valid/1", WHOLE, 0.001, 2_000);
        records
    };
    let mut runs = runs(|skill| fidelity_records(1.0 - skill));
    runs[2] = run("probabilistic", 0, Ok(hardly()));
    let files = drawn("fidelity", &runs, &[]);
    let figure = files.figures.iter().find(|(name, _)| name == "popular-calls").expect("drawn");
    let said = figure.1.notes.iter().find(|note| note.starts_with("Not drawn"));
    assert_eq!(said.expect("a note"), "Not drawn, as hardly an answer is valid: probabilistic.");
    let Content::Bars(bars) = &figure.1.panels[0].content else { panic!("bars") };
    assert!(bars.series.iter().all(|series| series.label != "probabilistic"));
}

/// Three seeds of several generators, one of which failed.
#[test]
fn differences() {
    let names = ["recursive-llm", "tabular-llm", "graph-rnn", "markov", "tvae", "resample"];
    let skills = [0.9, 0.86, 0.9, 0.55, 0.2, 0.9];
    let mut all = Vec::new();
    for (name, skill) in names.into_iter().zip(skills) {
        for seed in 0..3u8 {
            let records = fidelity_records(1.0 - skill + f64::from(seed) / 50.0);
            let failed = name == "resample" && seed == 2;
            let outcome = if failed { Err("no graphs".into()) } else { Ok(records) };
            all.push(run(name, seed.into(), outcome));
        }
    }
    let files = drawn("fidelity", &all, &[]);
    let tables = files.tables.iter().filter(|(name, _)| name == "seeds" || name == "differences");
    let text: String = tables.map(|(_, table)| table.to_markdown() + "\n").collect();
    insta::assert_snapshot!("differences-md", text);
    check_files(&files, &["divergence", "popular-calls", "heavy-hitters", "sizes", "superiority"]);
    hold_to_version(&files, "differences");
    // Old results have no per-prompt scores: no table of seeds, and nothing else is missing.
    all.iter_mut().for_each(|run| run.prompt_scores = None);
    let without = drawn("fidelity", &all, &[]);
    assert_eq!(without.tables.len(), files.tables.len() - 1);
}

/// Text of a cell of a table of differences, by the metric, the generator and what it is compared with.
fn cell_of(table: &Table, row: [&str; 3], column: &str) -> Option<String> {
    let csv = table.to_csv();
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(csv.as_bytes());
    let headings = reader.headers().expect("headings").clone();
    let place = headings.iter().position(|heading| heading == column).expect("a column");
    let found = reader.records().map(|record| record.expect("a row"));
    let mut found = found.filter(|record| (0..3).all(|place| record[place] == *row[place]));
    Some(found.next()?[place].to_owned())
}

/// Two generators that were resampled on the same draws, which each moves far more than it moves their
/// difference. Overlap of their intervals would say nothing.
#[test]
fn differences_are_those_declared() {
    use crate::evaluate::distribution::PGD;
    use crate::records::Resamples;

    let of = |value: f64, draws: u64| {
        let drawn = |draw: u32| value + f64::from(draw % 41) / 100.0 - 0.2;
        let values = (0..200).map(|draw| drawn(draw) + value * f64::from(draw % 7) / 1e3);
        let resamples = Some(Resamples { draws, groups: 300, values: values.collect() });
        vec![Record { resamples, ..number(PGD.id, WHOLE, value) }]
    };
    let all = [
        run("recursive-llm", 0, Ok(of(0.40, 1))),
        run("tabular-llm", 0, Ok(of(0.45, 1))),
        run("markov", 0, Ok(of(0.45, 2))),
    ];
    let pairs = [["each", "best"], ["tabular-llm", "markov"], ["tvae", "best"], ["markov", "real"]];
    let pairs = pairs.map(|[one, other]| DeclaredPair::of(one, other));
    let card = card();
    let reference = [number(PGD.id, WHOLE, 0.1)];
    let input = ReportInput {
        pairs: Some(&pairs),
        references: Some(&reference),
        ..input("example", &card, &all)
    };
    let files = draw(&[report("distribution")], &input);
    let table = &files.tables.iter().find(|(name, _)| name == "differences").expect("a table").1;
    let cell = |one: &str, other: &str, column: &str| cell_of(table, ["PGD", one, other], column);
    let [tabular, markov] = ["tabular-LLM", "markov"].map(|name| {
        let number = |column: &str| cell(name, "recursive-LLM", column).expect("a pair");
        (number("paired"), number("p").parse::<f64>().expect("a number"))
    });
    assert!(tabular.0 == "by service" && tabular.1 < 1e-6, "{tabular:?}");
    assert!(markov.0 == "no" && markov.1 > 0.05, "{markov:?}");
    assert_eq!(cell("tabular-LLM", "markov", "paired").as_deref(), Some("no"));
    assert!(cell("markov", "split-half (real vs. real)", "p").is_some());
    assert_eq!(cell("tabular-LLM", "split-half (real vs. real)", "p"), None);
    assert_eq!(cell("recursive-LLM", "recursive-LLM", "p"), None);
    // Four tests, and that of tabular against markov as a possible best.
    assert!(table.notes.iter().any(|note| note.contains("corrected for 5 tests")));
}

/// Numbers of the distribution report, at `distance` from the real graphs; `about_of` says
/// what a record is about.
fn distribution_records(distance: f64, about_of: impl Fn(Dimensions) -> Dimensions) -> Vec<Record> {
    use crate::evaluate::distribution::*;
    let mut records = Vec::new();
    let mut add =
        |metric: &Metric, about, value| records.push(number(metric.id, about_of(about), value));
    add(PGD, WHOLE, distance * 0.8);
    for (index, descriptor) in (1..).zip(&DESCRIPTORS) {
        let about = WHOLE.descriptor(descriptor.name);
        add(PGD, about.clone(), distance * 0.8 / f64::from(index));
        add(DETECTION, about, 1.0 - distance * 0.9 / f64::from(index));
    }
    for nodes in ["microservices", "service-graph", "calls"] {
        let about = WHOLE.nodes(nodes);
        add(EMD_OUT_DEGREE, about.clone(), distance * 0.7);
        add(EMD_IN_DEGREE, about, distance * 0.3);
    }
    for (metric, value) in [
        (MMD, distance / 50.0),
        (EMD_RESPONSE_TIME, distance * 1.4),
        (RESPONSE_TIME_KS, distance / 2.0),
        (RESPONSE_TIME_EMD, distance / 3.0),
        (RESPONSE_TIME_COVERAGE, 1.0 - distance / 2.0),
        (START_OFFSET_KS, distance / 4.0),
        (CONCURRENCY_KS, distance / 5.0),
        (CONTINGENCY_SIMILARITY, 1.0 - distance / 2.0),
    ] {
        add(metric, WHOLE, value);
    }
    for of in ["latency", "response-time"] {
        for (tail, (name, _)) in (1..).zip(QUANTILES) {
            // The sample is too small for the last one.
            let ratio = if tail == 4 { f64::NAN } else { 1.0 + distance * f64::from(tail) };
            add(QUANTILE_RATIO, WHOLE.of(of).quantile(name), ratio);
        }
    }
    for pair in ["edges-depth", "edges-latency", "depth-latency"] {
        add(CORRELATION_SIMILARITY, WHOLE.pair(pair), 1.0 - distance / 3.0);
    }
    records
}

#[test]
fn distribution() {
    let runs = runs(|skill| {
        let valid = share("valid/1", WHOLE, 0.75 + skill / 4.0, 500);
        [vec![valid], distribution_records(1.0 - skill, |about| about)].concat()
    });
    let mut references = distribution_records(0.01, |about| about);
    references.extend(distribution_records(0.03, |about| about.reference("train")));
    let files = drawn_with("distribution", &runs, &[], Some(&references));
    insta::assert_snapshot!("distribution-md", text(&files, Table::to_markdown));
    insta::assert_snapshot!("distribution-csv", text(&files, Table::to_csv));
    check_files(&files, &["discrepancy", "fig16-distances"]);
    hold_to_version(&files, "distribution");
}

fn probe_records(skill: f64) -> Vec<Record> {
    let about = |attribute: &str| WHOLE.task("attribute").attribute(attribute);
    vec![
        share("probe-accuracy/1", WHOLE.task("attribute"), skill, 200),
        share("probe-accuracy/1", about("destination"), skill - 0.1, 100),
        share("probe-accuracy/1", about("type"), skill + 0.1, 100),
    ]
}

#[test]
fn probes() {
    let mut runs = runs(probe_records);
    runs[2] = run("recursive-llm+untrained", 0, Ok(probe_records(0.3)));
    let files = drawn("probes", &runs, &[]);
    insta::assert_snapshot!("probes-md", text(&files, Table::to_markdown));
    insta::assert_snapshot!("probes-csv", text(&files, Table::to_csv));
    check_files(&files, &["probes"]);
    hold_to_version(&files, "probes");
}

#[test]
fn anomalies() {
    let files = drawn("anomalies", &runs(anomaly_records), &[]);
    insta::assert_snapshot!("anomalies-md", text(&files, Table::to_markdown));
    check_files(&files, &["anomalies"]);
    hold_to_version(&files, "anomalies");
}

/// Snapshots at slightly different token counts per seed belong together.
fn learning_runs() -> Vec<RunRecords> {
    let mut all = Vec::new();
    for seed in 0..2 {
        for (tokens, skill) in [(10_000, 0.2), (100_000, 0.6), (1_000_000, 0.9)] {
            let run = run("recursive-llm", seed, Ok(fidelity_records(1.0 - skill)));
            all.push(RunRecords { snapshot_tokens: Some(tokens + seed * 64), ..run });
        }
    }
    all.push(run("probabilistic", 0, Ok(fidelity_records(0.5))));
    all.push(run("resample", 0, Err("out of memory".into())));
    all
}

#[test]
fn learning() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.csv");
    let mut log = String::from(
        "step,tokens,loss,learning_rate,gradient_norm,validation_loss,validation_perplexity\n",
    );
    for step in 0..400 {
        let loss = 3.0 / (1.0 + f64::from(step) / 40.0) + 0.2;
        let validation =
            if step % 50 == 49 { format!("{},{}", loss, loss * 3.0) } else { ",".into() };
        log.push_str(&format!("{step},{},{loss},0.001,1.5,{validation}\n", (step + 1) * 2_500));
    }
    std::fs::write(&path, log).unwrap();
    let label = "recursive-LLM".to_owned();
    let logs = [TrainingLog { label, seed: 0, path }];
    let files = drawn("learning", &learning_runs(), &logs);
    insta::assert_snapshot!("learning-md", text(&files, Table::to_markdown));
    insta::assert_snapshot!("learning-csv", text(&files, Table::to_csv));
    insta::assert_snapshot!("learning-tex", text(&files, Table::to_latex));
    check_files(&files, &["learning", "training"]);
    hold_to_version(&files, "learning");
}

#[test]
fn a_damaged_log_is_a_failed_cell() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.csv");
    std::fs::write(&path, "step,tokens,loss,validation_perplexity\n1,64,three,\n").unwrap();
    let logs = [TrainingLog { label: "recursive-LLM".into(), seed: 0, path: path.clone() }];
    let files = drawn("learning", &learning_runs(), &logs);
    let csv = files.tables[1].1.to_csv();
    assert!(csv.contains("line 2, column loss: `three` is not a number"), "{csv}");
    std::fs::write(&path, "").unwrap();
    assert!(drawn("learning", &learning_runs(), &logs).tables[1].1.to_csv().contains("failed"));
}

#[test]
fn nothing_but_failures_is_still_a_report() {
    let failed = [run("recursive-llm", 0, Err("no graphs".into()))];
    for report in FAMILIES.iter().flat_map(|family| family.reports) {
        let files = drawn(report.id, &failed, &[]);
        assert!(files.tables[0].1.to_markdown().contains("**failed**: seed 0: no graphs"));
        files.figures.iter().for_each(|(_, figure)| assert!(figure.to_svg().is_ok()));
        assert!(!drawn(report.id, &[], &[]).tables.is_empty());
    }
}

#[test]
fn an_unwritable_folder_is_a_user_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let files = drawn("learning", &[], &[]);
    let error = write(&files, &BTreeSet::new(), &file, dir.path()).unwrap_err();
    assert!(error.downcast_ref::<UserError>().is_some(), "{error}");
}
