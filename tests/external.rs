//! Generators in other languages through the binary: scaffolds, the check, and runs in which they fail.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

fn run(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tracegym"))
        .current_dir(dir)
        .args(arguments)
        .env_remove("TRACEGYM_DATA")
        .env_remove("TRACEGYM_CACHE")
        .output()
        .expect("runs")
}

fn text(output: &Output) -> String {
    let parts = [&output.stdout, &output.stderr].map(|part| String::from_utf8_lossy(part));
    parts.concat()
}

fn write(dir: &Path, name: &str, content: &str) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, content).expect("written");
}

/// A scaffold keeps the contract before its author has changed anything.
fn scaffold(lang: &str) {
    let dir = TempDir::new().expect("a folder");
    let made = run(dir.path(), &["baseline", "new", "mine", "--lang", lang]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made));
    let checked = run(dir.path(), &["baseline", "check", "mine"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked));
    assert!(text(&checked).contains("mine keeps the contract"), "{}", text(&checked));
    let again = run(dir.path(), &["baseline", "new", "mine", "--lang", lang]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again).contains("exists already"), "{}", text(&again));
}

#[test]
fn the_scaffold_in_python_keeps_the_contract() {
    scaffold("python");
}

#[test]
fn the_scaffold_in_rust_keeps_the_contract() {
    scaffold("rust");
}

/// The example that is shipped is what the scaffold makes.
#[test]
fn the_example_is_the_scaffold() {
    let dir = TempDir::new().expect("a folder");
    run(dir.path(), &["baseline", "new", "call-lists"]);
    let made = std::fs::read_to_string(dir.path().join("baselines/call-lists/generator.py"));
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("baselines/call-lists/generator.py");
    assert_eq!(made.expect("made"), std::fs::read_to_string(shipped).expect("shipped"));
}

#[test]
fn names_that_cannot_be_are_refused() {
    let dir = TempDir::new().expect("a folder");
    for (name, words) in
        [("../x", "lower-case"), ("A", "lower-case"), ("resample", "exists already")]
    {
        let output = run(dir.path(), &["baseline", "new", name]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(text(&output).contains(words), "{name}: {}", text(&output));
    }
    let output = run(dir.path(), &["baseline", "check", "resample"]);
    assert!(text(&output).contains("is built in"), "{}", text(&output));
    let output = run(dir.path(), &["baseline", "check", "mine"]);
    assert!(text(&output).contains("baseline `mine` does not exist"), "{}", text(&output));
}

const EXPERIMENT: &str = r#"
id = "tiny"
title = "Tiny"
paper = "none"
dataset = "simulator"
report = "accuracy"
generators = ["good", "crashes", "babbles", "resample"]
evaluation = { kind = "accuracy" }
conditions = { kind = "grid", max_edges = 6, max_depth = 3, samples = 2 }
sampling = { temperatures = [0.0] }
profiles.smoke = { seeds = [0], graphs = 300 }
"#;

/// A generator that fails costs its own row, with the reason; the others are there.
#[test]
fn a_failing_generator_costs_its_own_row() {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    write(dir, "tiny.toml", EXPERIMENT);
    run(dir, &["baseline", "new", "good"]);
    for (name, script) in
        [("crashes", "echo out of luck >&2; kill -9 $$"), ("babbles", "echo hello")]
    {
        let manifest = format!(
            "label = \"{name}\"\nsource = \"none\"\ncommand = [\"sh\", \"-c\", '{script}']\n"
        );
        write(dir, &format!("baselines/{name}/baseline.toml"), &manifest);
    }
    let arguments = ["run", "tiny.toml", "--profile", "smoke"];
    let output = run(dir, &arguments);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let table =
        std::fs::read_to_string(dir.join("results/tiny/smoke/accuracy.csv")).expect("a table");
    for words in ["out of luck", "not a reply", "hello", "Resample"] {
        assert!(table.contains(words), "{words}: {table}");
    }
    let row = table.lines().find(|line| line.starts_with("good")).expect("a row");
    assert!(!row.contains("failed"), "{row}");
    // A change of its files makes it stale, and nothing else.
    let generator = dir.join("baselines/good/generator.py");
    let code = std::fs::read_to_string(&generator).expect("there");
    std::fs::write(&generator, code + "\n# changed\n").expect("written");
    let output = text(&run(dir, &arguments));
    assert!(output.contains("train good") && !output.contains("train resample"), "{output}");
}

#[test]
fn a_manifest_with_a_slip_names_file_and_key() {
    let dir = TempDir::new().expect("a folder");
    let manifest = "label = \"x\"\nsource = \"x\"\ncommand = [\"x\"]\nlimit = 3\n";
    write(dir.path(), "baselines/mine/baseline.toml", manifest);
    let output = run(dir.path(), &["baseline", "check", "mine"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output);
    assert!(said.contains("baselines/mine/baseline.toml") && said.contains("`limits`"), "{said}");
}
