//! Using a trained generator through the binary: `generate`, `model` and `data export`.

mod workplace;

use std::path::Path;
use std::process::Output;

use workplace::{TINY, Workplace};

/// What a successful run wrote to standard output.
fn written(workplace: &Workplace, arguments: &[&str]) -> String {
    let output = workplace.run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The tiny experiment, trained. Flags that find the training.
fn trained() -> (Workplace, Vec<&'static str>) {
    let workplace = Workplace::new();
    let (code, said) = workplace.said(&[&TINY[..], &["--train-only", "--quiet"]].concat());
    assert_eq!(code, 0, "{said}");
    (workplace, vec!["--experiment", "tiny.toml", "--profile", "smoke"])
}

fn generate<'a>(model: &'a str, flags: &[&'a str], more: &str) -> Vec<String> {
    let fixed = ["generate", "--model", model, "--quiet"].into_iter().chain(flags.iter().copied());
    fixed.chain(more.split_whitespace()).map(str::to_owned).collect()
}

fn strings(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// A service of the dataset that the tiny experiment trains on.
fn service(workplace: &Workplace) -> String {
    let table = written(
        workplace,
        &["data", "export", "simulator", "--graphs", "300", "--part", "train", "--quiet"],
    );
    table.lines().nth(1).unwrap().split(',').nth(1).unwrap().to_owned()
}

#[test]
fn a_generator_answers_from_the_cache_and_from_the_folder_that_it_is_handed_over_in() {
    let (workplace, flags) = trained();
    let service = service(&workplace);
    let asked = format!("--service {service} --count 300 --seed 3");
    let from_cache = written(&workplace, &strings(&generate("probabilistic", &flags, &asked)));
    let rows: Vec<&str> = from_cache.lines().skip(1).collect();
    let number = |row: &str| row.split(',').next().unwrap().parse::<u32>().unwrap();
    assert_eq!(number(rows[rows.len() - 1]), 299);
    assert!(rows.iter().all(|row| row.split(',').nth(1) == Some(&service)));
    // A graph's number and the seed decide what it is, whatever the batch and however many are asked for.
    let fewer = format!("--service {service} --count 100 --seed 3 --batch 1");
    let fewer = written(&workplace, &strings(&generate("probabilistic", &flags, &fewer)));
    assert!(from_cache.starts_with(&fewer));
    let other = format!("--service {service} --count 100 --seed 4");
    let other = written(&workplace, &strings(&generate("probabilistic", &flags, &other)));
    assert_ne!(fewer, other);

    let export =
        [&["model", "export", "probabilistic", "--out", "handed/over"][..], &flags].concat();
    written(&workplace, &export);
    // Nothing else than the folder is needed.
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::rename(workplace.path().join("handed/over"), elsewhere.path().join("model")).unwrap();
    let folder = elsewhere.path().join("model");
    let folder = folder.to_str().unwrap();
    std::fs::remove_dir_all(workplace.path().join(".tracegym")).unwrap();
    let from_folder = written(&workplace, &strings(&generate(folder, &[], &asked)));
    assert_eq!(from_folder, from_cache);
    let card = written(&workplace, &["model", "show", folder]);
    for expected in ["- licence: MIT OR Apache-2.0", "- training data: `simulator`", "seed 0"] {
        assert!(card.contains(expected), "{expected} is missing from {card}");
    }
    // A model of another version, or that was changed on the way, is refused.
    let path = Path::new(folder).join("card.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for (changed, words) in [
        (text.replace("\"format\": 1", "\"format\": 2"), "format: 2 is not 1"),
        (
            text.replace("\"generator\": \"probabilistic\"", "\"generator\": 3"),
            "is no card of a model",
        ),
        (
            text.replace("\"probabilistic\"", "\"external\""),
            "it is a program: hand over its folder",
        ),
    ] {
        std::fs::write(&path, changed).unwrap();
        let refused = workplace.refused(&strings(&generate(folder, &[], &asked)));
        assert!(refused.contains(words), "{refused}");
    }
    let older = text.replace("answer/probabilistic 1", "answer/probabilistic 0");
    std::fs::write(&path, older).unwrap();
    let arguments = generate(folder, &[], "--service S_1");
    let arguments: Vec<&str> =
        strings(&arguments).into_iter().filter(|flag| *flag != "--quiet").collect();
    let (_, said) = workplace.said(&arguments);
    assert!(said.contains("this version may give other answers"), "{said}");
    std::fs::write(&path, text).unwrap();
    let files: Vec<_> = std::fs::read_dir(Path::new(folder).join("model")).unwrap().collect();
    let file = files[0].as_ref().unwrap().path();
    std::fs::write(&file, "changed").unwrap();
    let refused = workplace.refused(&strings(&generate(folder, &[], &asked)));
    assert!(refused.contains("is missing or not what the card says"), "{refused}");
}

#[test]
fn a_generator_that_is_not_trained_is_told_with_the_command_that_trains_it() {
    let (workplace, flags) = trained();
    let refused = workplace.refused(&["generate", "--model", "markov", "--service", "S_1"]);
    insta::assert_snapshot!(
        refused,
        @"error: `markov` is not trained yet in .tracegym: `tracegym run fig4-fidelity --only markov --profile quick --train-only` trains it"
    );
    // The command does what it says.
    let arguments = generate("markov", &flags, "--service S_1");
    let refused = workplace.refused(&strings(&arguments));
    let command = refused.split('`').nth(3).unwrap();
    assert_eq!(command, "tracegym run tiny.toml --only markov --profile smoke --train-only");
    let (code, said) = workplace.said(&[
        "run",
        "tiny.toml",
        "--only",
        "markov",
        "--profile",
        "smoke",
        "--train-only",
        "--quiet",
    ]);
    assert_eq!(code, 0, "{said}");
    let service = service(&workplace);
    let table = written(
        &workplace,
        &strings(&generate(
            "markov",
            &flags,
            &format!("--service {service} --edges 4 --depth 2 --constrained"),
        )),
    );
    assert!(table.lines().nth(1).unwrap().starts_with(&format!("0,{service},4,2,")), "{table}");
}

#[test]
fn requests_can_be_like_the_graphs_of_a_dataset() {
    let (workplace, flags) = trained();
    let built = workplace.said(&[
        "data",
        "build",
        "simulator",
        "--graphs",
        "200",
        "--out",
        "built",
        "--quiet",
    ]);
    assert_eq!(built.0, 0, "{}", built.1);
    let asked = "--like built --edges 3 --count 40 --attempts 50";
    let table = written(&workplace, &strings(&generate("probabilistic", &flags, asked)));
    let edges: Vec<&str> =
        table.lines().skip(1).map(|row| row.split(',').nth(2).unwrap()).collect();
    let right = edges.iter().filter(|edges| **edges == "3").count();
    assert!(right * 10 > edges.len() * 9, "{right} of {}", edges.len());
    let again = ["data", "export", "built", "--graphs", "10"];
    assert!(workplace.refused(&again).contains("built is built already; --limit N"));
    let asked = "--like built --edges 90000";
    let refused = workplace.refused(&strings(&generate("probabilistic", &flags, asked)));
    assert!(
        refused.contains("no graph of it is as --service, --edges and --depth say"),
        "{refused}"
    );
}

#[test]
fn mistakes_are_told_with_the_remedy() {
    let (workplace, flags) = trained();
    let refused =
        |model: &str, more: &str| workplace.refused(&strings(&generate(model, &flags, more)));
    for (model, more, words) in [
        ("probabilistic", "--service S --edges 3 --depth 5", "no graph is so"),
        ("probabilistic", "--service S --constrained", "--attempts N draws again"),
        ("probabilistic", "--service S --format parquet", "name a file with --out"),
        ("probabilistic", "--service S --format html --count 101", "101 graphs: one file"),
        ("probabilistik", "--service S", "did you mean `probabilistic`?"),
        ("./nowhere", "--service S", "`tracegym model export NAME` writes such a folder"),
        ("in-context-smollm2", "--service S", "is not trained yet"),
    ] {
        let message = refused(model, more);
        assert!(message.contains(words), "{model} {more}: {message}");
    }
    let (code, said) = workplace.said(&["generate", "--model", "probabilistic"]);
    assert!(code == 2 && said.contains("--service"), "{said}");
    workplace.write("full/x", "");
    let full = [&["model", "export", "probabilistic", "--out", "full"][..], &flags].concat();
    assert!(workplace.refused(&full).contains("the folder is not empty"));
}

#[test]
fn a_dataset_is_written_in_every_format() {
    let workplace = Workplace::new();
    let formats = [
        ("parquet", "a.parquet"),
        ("call-table", "a.csv"),
        ("alibaba-v2022", "b.csv"),
        ("recursive-texts", "a.jsonl"),
        ("tabular-texts", "b.jsonl"),
        ("otlp-json", "c.jsonl"),
        ("otlp-proto", "a.pb"),
        ("jaeger", "a.json"),
        ("zipkin", "b.json"),
        ("dot", "a.dot"),
        ("html", "a.html"),
    ];
    for (format, file) in formats {
        let flags =
            ["--graphs", "120", "--limit", "50", "--quiet", "--format", format, "--out", file];
        written(&workplace, &[&["data", "export", "simulator"][..], &flags].concat());
        assert!(workplace.path().join(file).metadata().unwrap().len() > 1_000, "{format}");
    }
    // What sources read is read: the same graphs by both ways.
    let build = |name: &str, kind: &str, path: &str| {
        let manifest =
            format!("name = \"{name}\"\n[source]\nkind = \"{kind}\"\npath = \"{path}\"\n");
        workplace.write(&format!("{name}.toml"), &manifest);
        let file = format!("./{name}.toml");
        written(&workplace, &["data", "export", &file, "--quiet"])
    };
    let graphs = |table: &str| {
        let graphs = table.lines().skip(1).map(|row| row.split_once(',').unwrap().1.to_owned());
        graphs.collect::<std::collections::BTreeSet<_>>()
    };
    let original = std::fs::read_to_string(workplace.path().join("a.csv")).unwrap();
    assert_eq!(graphs(&build("one", "call-table", "a.csv")), graphs(&original));
    assert_eq!(graphs(&build("two", "alibaba-v2022", "b.csv")), graphs(&original));
    for (name, kind, file) in [
        ("three", "otlp", "c.jsonl"),
        ("four", "otlp", "a.pb"),
        ("five", "jaeger", "a.json"),
        ("six", "zipkin", "b.json"),
    ] {
        assert_eq!(graphs(&build(name, kind, file)), graphs(&original), "{kind}");
    }
}

/// `generate | head` ends without a word.
#[cfg(unix)]
#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    use std::io::Read;
    use std::process::Stdio;
    let workplace = Workplace::new();
    let arguments = ["data", "export", "simulator", "--graphs", "20000", "--quiet"];
    let mut child = workplace
        .command(&arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut start = [0; 100];
    child.stdout.take().unwrap().read_exact(&mut start).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
}
