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
family = "accuracy"
generators = ["good", "crashes", "babbles", "resample"]
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

/// A program that starts two others, one of which leaves its process group, tells who they are and who
/// asked, and never answers.
const WRAPPER: &str = r#"
label = "Wrapper"
source = "none"
command = ["sh", "run.sh"]
"#;
const RUN: &str = "
echo $PPID > .parent
sleep 3000 & echo $! >> .ids
setsid sh -c 'echo $$ >> .ids; exec sleep 3000' &
wait
";

/// Starts tracegym and waits until its baseline `wrapper` has started both programs.
fn with_grandchildren(dir: &Path, arguments: &[&str]) -> (std::process::Child, Vec<String>) {
    write(
        dir,
        "tiny.toml",
        &EXPERIMENT.replace(r#""good", "crashes", "babbles", "resample""#, r#""wrapper""#),
    );
    write(dir, "baselines/wrapper/baseline.toml", WRAPPER);
    write(dir, "baselines/wrapper/run.sh", RUN);
    let child = Command::new(env!("CARGO_BIN_EXE_tracegym"))
        .current_dir(dir)
        .args(arguments)
        .env_remove("TRACEGYM_DATA")
        .env_remove("TRACEGYM_CACHE")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    let mut ids = Vec::new();
    wait_until("the programs start", || {
        let text = std::fs::read_to_string(dir.join("baselines/wrapper/.ids")).unwrap_or_default();
        ids = text.lines().map(str::to_owned).collect();
        ids.len() == 2 && text.ends_with('\n')
    });
    assert!(ids.iter().all(|id| runs(id)), "{ids:?}");
    (child, ids)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "{what}: not within a minute");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Whether a process is there and has not ended.
fn runs(id: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"));
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}

fn kill(signal: &str, id: &str) {
    let status = Command::new("kill").args(["-s", signal, id]).status();
    assert!(status.expect("there is a kill").success(), "{signal} {id}");
}

/// Ctrl-C, a polite and an impolite end of the run, and an impolite end of a stage: what a baseline's
/// program has started does not outlive it.
#[test]
#[cfg(target_os = "linux")]
fn no_program_of_a_baseline_outlives_its_run() {
    let run = ["run", "tiny.toml", "--profile", "smoke"].as_slice();
    let check = ["baseline", "check", "wrapper"].as_slice();
    for (arguments, signal, to_stage, code) in [
        (run, "INT", false, Some(130)),
        (run, "TERM", false, Some(130)),
        (run, "KILL", false, None),
        (run, "TERM", true, Some(1)),
        (run, "KILL", true, Some(1)),
        (check, "INT", false, Some(130)),
        (check, "TERM", false, Some(143)),
    ] {
        let dir = TempDir::new().expect("a folder");
        let (mut child, ids) = with_grandchildren(dir.path(), arguments);
        let stage = std::fs::read_to_string(dir.path().join("baselines/wrapper/.parent"));
        let stage = stage.expect("written");
        let receiver = if to_stage { stage.trim().to_owned() } else { child.id().to_string() };
        kill(signal, &receiver);
        let status = child.wait().expect("ends");
        assert_eq!(status.code(), code, "{arguments:?} {signal}");
        wait_until(&format!("{arguments:?} {signal}: all end"), || !ids.iter().any(|id| runs(id)));
    }
}

/// A hard limit on memory below the baseline's own: it starts, under the lower one, and this is said.
#[test]
#[cfg(target_os = "linux")]
fn a_lower_limit_of_the_system_holds_and_is_told() {
    let dir = TempDir::new().expect("a folder");
    run(dir.path(), &["baseline", "new", "mine"]);
    let binary = env!("CARGO_BIN_EXE_tracegym");
    let script = format!("ulimit -d 4000000 && exec {binary} baseline check mine");
    let output = Command::new("sh").current_dir(dir.path()).args(["-c", &script]).output();
    let output = output.expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let said = text(&output);
    assert_eq!(
        said.matches("limits.memory = 8192 MiB is above the hard limit").count(),
        1,
        "{said}"
    );
}

/// A generator that keeps the protocol and never the rules is told so.
#[test]
fn a_check_without_one_valid_graph_fails() {
    let dir = TempDir::new().expect("a folder");
    run(dir.path(), &["baseline", "new", "mine"]);
    let generator = dir.path().join("baselines/mine/generator.py");
    let code = std::fs::read_to_string(&generator).expect("there");
    // Times run backwards.
    let changed = code.replace("\"finish\": finish", "\"finish\": start - 1 if start else 0");
    let changed = changed.replace("\"start\": start", "\"start\": start + 1");
    assert_ne!(code, changed);
    std::fs::write(&generator, changed).expect("written");
    let output = run(dir.path(), &["baseline", "check", "mine"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let said = text(&output);
    assert!(
        said.contains("WRONG") && said.contains("not one of 86 answers is a valid graph"),
        "{said}"
    );
    assert!(said.contains("finish-before-start"), "{said}");
}

/// Generators whose answers depend on what came before, or on the clock.
#[test]
fn a_check_finds_answers_that_the_seed_does_not_decide() {
    let script = |number: &str| {
        format!(
            r#"
import json, random, sys
count = 0
def send(reply):
    print(json.dumps(reply), flush=True)
for line in sys.stdin:
    ((kind, asked),) = json.loads(line).items()
    if kind == "describe": send({{"describe": {{"protocol": 1, "name": "mine", "version": "1"}}}})
    elif kind == "fit": send({{"fit": {{"parameters": 1}}}})
    elif kind == "load": send({{"load": {{}}}})
    else:
        for one in asked["requests"]:
            count += 1
            name = "MS_%d" % ({number})
            call = {{"edge_id": "0", "source": "USER", "destination": name, "type": "http", "start": 0, "finish": 3}}
            send({{"graph": {{"index": one["index"], "calls": [call]}}}})
"#
        )
    };
    for (number, found) in [
        ("count % 5", Some("among fewer requests")),
        ("count % 43", Some("after other requests")),
        ("random.randrange(10 ** 6)", Some("in a second process")),
        ("random.Random(one['seed']).randrange(9)", None),
    ] {
        let dir = TempDir::new().expect("a folder");
        let manifest = "label = \"x\"\nsource = \"x\"\ncommand = [\"python3\", \"generator.py\"]\n";
        write(dir.path(), "baselines/mine/baseline.toml", manifest);
        write(dir.path(), "baselines/mine/generator.py", &script(number));
        let output = run(dir.path(), &["baseline", "check", "mine"]);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(if found.is_some() { 2 } else { 0 }), "{said}");
        let words = found.map_or("mine keeps the contract".into(), |when| {
            format!("gets another answer {when}: take all randomness from the request's `seed`")
        });
        assert!(said.contains(&words), "{said}");
    }
}
