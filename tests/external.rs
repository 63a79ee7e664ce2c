//! Generators in other languages through the binary: scaffolds, the check, and runs in which they fail.

mod workplace;

use std::path::Path;
use std::process::Command;

use workplace::{EXPERIMENT, TINY, Workplace, text};

/// A scaffold conforms to the protocol before its author has changed anything.
fn scaffold(lang: &str) {
    let place = Workplace::new();
    let made = place.run(&["baseline", "new", "mine", "--lang", lang]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made));
    let checked = place.run(&["baseline", "check", "mine"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked));
    assert!(text(&checked).contains("mine conforms to the protocol"), "{}", text(&checked));
    let again = place.run(&["baseline", "new", "mine", "--lang", lang]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again).contains("exists already"), "{}", text(&again));
}

#[test]
fn the_scaffold_in_python_conforms() {
    scaffold("python");
}

#[test]
fn the_scaffold_in_rust_conforms() {
    scaffold("rust");
}

/// The example that is shipped is what the scaffold makes.
#[test]
fn the_example_is_the_scaffold() {
    let place = Workplace::new();
    place.run(&["baseline", "new", "call-lists"]);
    let made = std::fs::read_to_string(place.path().join("baselines/call-lists/generator.py"));
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("baselines/call-lists/generator.py");
    assert_eq!(made.expect("made"), std::fs::read_to_string(shipped).expect("shipped"));
}

#[test]
fn names_that_cannot_be_are_refused() {
    let place = Workplace::new();
    for (name, words) in
        [("../x", "lower-case"), ("A", "lower-case"), ("training-set-copy", "exists already")]
    {
        let output = place.run(&["baseline", "new", name]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(text(&output).contains(words), "{name}: {}", text(&output));
    }
    let output = place.run(&["baseline", "check", "training-set-copy"]);
    assert!(text(&output).contains("is built in"), "{}", text(&output));
    let output = place.run(&["baseline", "check", "mine"]);
    assert!(text(&output).contains("baseline `mine` does not exist"), "{}", text(&output));
}

/// The small experiment with other `generators`, of one seed.
fn experiment(generators: &str) -> String {
    EXPERIMENT
        .replace(r#"["probabilistic", "training-set-copy"]"#, generators)
        .replace("seeds = [0, 1]", "seeds = [0]")
}

/// A generator that fails costs its own row, with the reason; the others are there.
#[test]
fn a_failing_generator_costs_its_own_row() {
    let place = Workplace::new();
    let dir = place.path();
    place.write("tiny.toml", &experiment(r#"["good", "crashes", "babbles", "training-set-copy"]"#));
    place.run(&["baseline", "new", "good"]);
    for (name, script) in
        [("crashes", "echo out of luck >&2; kill -9 $$"), ("babbles", "echo hello")]
    {
        let manifest = format!(
            "label = \"{name}\"\nsource = \"none\"\ncommand = [\"sh\", \"-c\", '{script}']\n"
        );
        place.write(&format!("baselines/{name}/baseline.toml"), &manifest);
    }
    let output = place.run(&TINY);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let table =
        std::fs::read_to_string(dir.join("results/tiny/smoke/accuracy.csv")).expect("a table");
    for words in ["out of luck", "not a reply", "hello", "Training-set copy"] {
        assert!(table.contains(words), "{words}: {table}");
    }
    let row = table.lines().find(|line| line.starts_with("good")).expect("a row");
    assert!(!row.contains("failed"), "{row}");
    // A change of its files makes it stale, and nothing else.
    let generator = dir.join("baselines/good/generator.py");
    let code = std::fs::read_to_string(&generator).expect("there");
    std::fs::write(&generator, code + "\n# changed\n").expect("written");
    let output = text(&place.run(&TINY));
    assert!(
        output.contains("train good") && !output.contains("train training-set-copy"),
        "{output}"
    );
}

#[test]
fn a_manifest_with_a_slip_names_file_and_key() {
    let place = Workplace::new();
    let manifest = "label = \"x\"\nsource = \"x\"\ncommand = [\"x\"]\nlimit = 3\n";
    place.write("baselines/mine/baseline.toml", manifest);
    let output = place.run(&["baseline", "check", "mine"]);
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
fn with_grandchildren(place: &Workplace, arguments: &[&str]) -> (std::process::Child, Vec<String>) {
    place.write("tiny.toml", &experiment(r#"["wrapper"]"#));
    place.write("baselines/wrapper/baseline.toml", WRAPPER);
    place.write("baselines/wrapper/run.sh", RUN);
    let child = place
        .command(arguments)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    let mut ids = Vec::new();
    wait_until("the programs start", || {
        let text = std::fs::read_to_string(place.path().join("baselines/wrapper/.ids"))
            .unwrap_or_default();
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
    let run = TINY.as_slice();
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
        let place = Workplace::new();
        let (mut child, ids) = with_grandchildren(&place, arguments);
        let stage = std::fs::read_to_string(place.path().join("baselines/wrapper/.parent"));
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
    let place = Workplace::new();
    place.run(&["baseline", "new", "mine"]);
    let binary = env!("CARGO_BIN_EXE_tracegym");
    let script = format!("ulimit -d 4000000 && exec {binary} baseline check mine");
    let output = Command::new("sh").current_dir(place.path()).args(["-c", &script]).output();
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
    let place = Workplace::new();
    place.run(&["baseline", "new", "mine"]);
    let generator = place.path().join("baselines/mine/generator.py");
    let code = std::fs::read_to_string(&generator).expect("there");
    // Times run backwards.
    let changed = code.replace("\"finish\": finish", "\"finish\": start - 1 if start else 0");
    let changed = changed.replace("\"start\": start", "\"start\": start + 1");
    assert_ne!(code, changed);
    std::fs::write(&generator, changed).expect("written");
    let output = place.run(&["baseline", "check", "mine"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let said = text(&output);
    assert!(
        said.contains("FAIL ") && said.contains("not one of 86 answers is a valid graph"),
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
        let place = Workplace::new();
        let manifest = "label = \"x\"\nsource = \"x\"\ncommand = [\"python3\", \"generator.py\"]\n";
        place.write("baselines/mine/baseline.toml", manifest);
        place.write("baselines/mine/generator.py", &script(number));
        let output = place.run(&["baseline", "check", "mine"]);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(if found.is_some() { 2 } else { 0 }), "{said}");
        let words = found.map_or("mine conforms to the protocol".into(), |when| {
            format!("gets another answer {when}: take all randomness from the request's `seed`")
        });
        assert!(said.contains(&words), "{said}");
    }
}
