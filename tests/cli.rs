//! The runner through the binary: what it prints, its exit codes, and what an interruption leaves.

mod workplace;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use workplace::{EXPERIMENT, TINY, Workplace};

#[test]
fn a_second_run_does_nothing_and_another_cache_gives_the_same_bytes() {
    let workplace = Workplace::new();
    let (code, said) = workplace.said(&TINY);
    assert_eq!(code, 0, "{said}");
    let results = workplace.files("results");
    assert!(results.keys().any(|path| path.extension().is_some_and(|e| e == "md")), "{results:?}");
    assert!(workplace.path().join("results/tiny/smoke/run.json").exists());
    assert!(workplace.path().join("paper-figures/tiny/smoke").exists());

    let record = std::fs::read(workplace.path().join("results/tiny/smoke/run.json")).unwrap();
    let (code, said) = workplace.said(&TINY);
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.lines().last(), Some("everything is up to date"));
    assert_eq!(
        std::fs::read(workplace.path().join("results/tiny/smoke/run.json")).unwrap(),
        record
    );

    // A result that was damaged is put back from the cache.
    let lost = results.keys().next().unwrap();
    std::fs::write(workplace.path().join("results").join(lost), "damaged").unwrap();
    assert_eq!(workplace.said(&TINY).0, 0);
    assert_eq!(workplace.files("results"), results);

    // Threads, jobs and batch size change no byte.
    let mut again = TINY.to_vec();
    let flags = ["--cache", "other", "--out", "again", "--jobs", "1", "--threads", "1"];
    again.extend(flags);
    again.extend(["--batch", "1", "--quiet"]);
    let (code, said) = workplace.said(&again);
    assert_eq!((code, said.as_str()), (0, ""));
    assert_eq!(workplace.files("again/results"), results);
    let raw = |cache: &str| -> BTreeMap<PathBuf, Vec<u8>> {
        workplace.files(&format!("{cache}/generate"))
    };
    assert_eq!(raw(".tracegym"), raw("other"));
}

#[test]
fn a_killed_run_goes_on_to_the_same_results() {
    let workplace = Workplace::new();
    let mut whole = TINY.to_vec();
    whole.extend(["--cache", "whole", "--out", "whole-out", "--quiet"]);
    assert_eq!(workplace.said(&whole).0, 0);
    let expected = workplace.files("whole-out/results");

    let stages = |kind: &str| {
        let dir = workplace.path().join(".tracegym").join(kind);
        std::fs::read_dir(dir).map_or(0, Iterator::count)
    };
    for kind in ["specs", "dataset", "train", "evaluate"] {
        let mut child = workplace.command(&TINY).stderr(Stdio::null()).spawn().unwrap();
        let patience = Instant::now();
        while stages(kind) == 0 && child.try_wait().unwrap().is_none() {
            assert!(patience.elapsed() < Duration::from_secs(60), "no {kind} in a minute");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (code, said) = workplace.said(&TINY);
    assert_eq!(code, 0, "{said}");
    assert_eq!(workplace.files("results"), expected);
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_says_how_to_go_on() {
    let workplace = Workplace::new();
    let mut child =
        workplace.command(&TINY).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let specs = workplace.path().join(".tracegym/specs");
    while std::fs::read_dir(&specs).map_or(0, Iterator::count) == 0 {
        std::thread::sleep(Duration::from_millis(2));
    }
    // SAFETY: signals a process that this test started and has not waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let status = child.wait().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(said.contains("the same command goes on from there"), "{said}");
}

#[test]
fn a_failed_arm_takes_nothing_else_with_it() {
    let workplace = Workplace::new();
    // A generator that saves no checkpoints fails where two of them are asked for.
    let broken = "generator = \"training-set-copy\"\nlabel = \"Broken\"\nsource = \"test\"\ncheckpoints = 2\n";
    workplace.write("baselines/broken.toml", broken);
    let experiment = EXPERIMENT
        .replace("\"training-set-copy\"", "\"broken\"")
        .replace("generators", "checkpoints = true\ngenerators");
    workplace.write("tiny.toml", &experiment);
    let (code, said) = workplace.said(&TINY);
    assert_eq!(code, 2, "{said}");
    let reason =
        "checkpoint 1 does not exist: training saved 0; correct `checkpoints` in the baseline";
    assert!(
        said.contains(&format!("failed: generate broken seed 1 checkpoint 1 for tiny: {reason}")),
        "{said}"
    );
    assert!(!said.contains("panicked"), "{said}");
    let tables = workplace.files("results/tiny/smoke");
    let tables: String = tables.values().map(|table| String::from_utf8_lossy(table)).collect();
    assert!(tables.contains("checkpoint 1 does not exist"), "{tables}");
    assert!(tables.contains("Probabilistic"), "{tables}");
}

#[test]
fn a_dataset_that_cannot_be_used_is_the_users_to_mend() {
    let workplace = Workplace::new();
    let header = "graph_index,service,edge_id,type,source,destination,start_ms,finish_ms\n";
    let good: String = (0..30).map(|i| format!("{i},S,0,http,USER,MS_{i},0,5\n")).collect();
    workplace.write("data/mine.csv", &format!("{header}{good}30,S,0,http,USER,MS_1,0,soon\n"));
    let manifest = "name = \"mine\"\nsource = { kind = \"call-table\", path = \"mine.csv\" }\n";
    workplace.write("data/mine.toml", manifest);
    let run = ["run", "tiny.toml", "--profile", "smoke", "--dataset", "mine"];
    let (code, said) = workplace.said(&run);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("mine.csv: line 32, column finish_ms: `soon`"), "{said}");
    assert!(said.contains("`skip_bad_rows = true` in the manifest"), "{said}");
    workplace.write("data/mine.toml", &format!("skip_bad_rows = true\n{manifest}"));
    let (code, said) = workplace.said(&run);
    assert_eq!(code, 0, "{said}");
    workplace.write("data/mine.csv", header);
    let (code, said) = workplace.said(&run);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("dataset `mine` has 0 training and 0 test graphs"), "{said}");
}

#[test]
fn mistakes_are_told_in_one_message() {
    let workplace = Workplace::new();
    workplace.write("typo.toml", &EXPERIMENT.replace("seeds", "sedes"));
    insta::assert_snapshot!(
        workplace.refused(&["run", "typo.toml", "--profile", "smoke"]),
        @"error: typo.toml: line 12: unknown key `sedes` — did you mean `seeds`?"
    );
    insta::assert_snapshot!(
        workplace.refused(&["run", "tiny.toml", "--profile", "full"]),
        @"error: tiny.toml: profiles: no [profiles.full]; it has smoke"
    );
    insta::assert_snapshot!(
        workplace.refused(&["run", "fig3-acuracy"]),
        @"error: experiment `fig3-acuracy` does not exist — did you mean `fig3-accuracy`?"
    );
    insta::assert_snapshot!(
        workplace.refused(&["run", "fig3"]),
        @"error: experiment `fig3` does not exist — did you mean `fig3-accuracy`?"
    );
    insta::assert_snapshot!(
        workplace.refused(&[&TINY[..], &["--with", "sibling"]].concat()),
        @"error: baseline `sibling` does not exist — did you mean `sibling-sets`?"
    );
    insta::assert_snapshot!(
        workplace.refused(&[&TINY[..], &["--dataset", "trainticket"]].concat()),
        @"error: dataset `trainticket` does not exist — did you mean `nezha-trainticket` or `nezha-trainticket-faults`?"
    );
    insta::assert_snapshot!(
        workplace.refused(&["run", "tiny.toml", "--profile", "smoke", "--dataset", "simulater"]),
        @"error: dataset `simulater` does not exist — did you mean `simulator`?"
    );
    workplace
        .write("other.toml", &EXPERIMENT.replace("\"training-set-copy\"", "\"training-set-cpy\""));
    insta::assert_snapshot!(
        workplace.refused(&["run", "other.toml", "--profile", "smoke"]),
        @"error: baseline `training-set-cpy` does not exist — did you mean `training-set-copy`?"
    );
    insta::assert_snapshot!(
        workplace.refused(&[&TINY[..], &["--without", "training-set-cpy"]].concat()),
        @"error: --without training-set-cpy: no experiment here has it — did you mean `training-set-copy`?; known: probabilistic, training-set-copy"
    );
    insta::assert_snapshot!(
        workplace.refused(&[&TINY[..], &["--without", "training-set-copy,probabilistic"]].concat()),
        @"error: --without probabilistic: leaves experiment `tiny` no generator"
    );
    insta::assert_snapshot!(
        workplace.refused(&[&TINY[..], &["--with", "@pape"]].concat()),
        @"error: group `@pape` does not exist — did you mean `paper`?; experiments/groups.toml has @all, @paper, @language-models, @texts"
    );
    insta::assert_snapshot!(
        workplace.refused(&[&TINY[..], &["--set", "probabilstic.max_calls=9"]].concat()),
        @"error: --set probabilstic.max_calls=9: no generator here has this setting — did you mean `probabilistic`?; generators here: probabilistic, training-set-copy"
    );
    insta::assert_snapshot!(
        workplace.refused(&[&TINY[..], &["--with", "markov+max_calls=9+rejection"]].concat()),
        @r#"error: `markov+max_calls=9+rejection`: a name takes no `+`: a list of generators says { name = "markov", KEY = VALUE } with keys such as `set`, `decoding` and `self_training`; a command says `--with markov --set markov.KEY=VALUE`, or the name of a baseline whose file `extends` it"#
    );
    workplace.write("out/results", "a file where a folder should be");
    let message = workplace.refused(&["run", "tiny.toml", "--profile", "smoke", "--out", "out"]);
    assert!(message.starts_with("error: out/results: cannot be written (--out): "), "{message}");
    if cfg!(not(feature = "cuda")) {
        insta::assert_snapshot!(
            workplace.refused(&["run", "tiny.toml", "--profile", "smoke", "--device", "cuda"]),
            @"error: --device cuda:0: this binary is built without CUDA; build it with `cargo build --release --features cuda`, or use --device cpu"
        );
    }
    let (code, said) = workplace.said(&["run", "tiny.toml", "--device", "tpu"]);
    assert_eq!(code, 2);
    assert!(said.contains("`tpu` is not a device: use auto, cpu, cuda or cuda:N"), "{said}");
}

#[test]
fn seeds_in_a_wrong_form_are_refused_and_never_replaced() {
    let workplace = Workplace::new();
    for flags in [
        &["--seed", "3"][..],
        &["-seeds=3"],
        &["--seeds"],
        &["--seeds", ""],
        &["--seeds", "0..3"],
        &["--seeds", "-1"],
        &["--seeds", "18446744073709551616"],
        &["--seeds", "3,3"],
        &["--seeds", "0,0,0"],
        &["--seeds", "1,,2"],
        &["--seeds", "1.5"],
    ] {
        let (code, said) = workplace.said(&[&TINY[..], flags].concat());
        assert_eq!(code, 2, "{flags:?}: {said}");
        let flag = if flags[0].starts_with("--") { "--seed" } else { "-s" };
        assert!(said.contains(flag), "{flags:?}: {said}");
    }
    insta::assert_snapshot!(
        workplace.refused(&[&TINY[..], &["--seeds", "0,1,0"]].concat()),
        @"error: --seeds has 0 more than once: name each once"
    );
    workplace.write("twice.toml", &EXPERIMENT.replace("[0, 1]", "[1, 0, 1]"));
    insta::assert_snapshot!(
        workplace.refused(&["run", "twice.toml", "--profile", "smoke"]),
        @"error: twice.toml: profile smoke: seeds has 1 more than once: name each once"
    );
    assert!(!workplace.path().join("results").exists());
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let workplace = Workplace::new();
    let before = workplace.files(".");
    for id in ["../../thesis", "/tmp/thesis", "a/b", "..", "", "a\\nb", "README.md"] {
        let id = format!("id = \"{id}\"");
        workplace.write("tiny.toml", &EXPERIMENT.replace("id = \"tiny\"", &id));
        let message = workplace.refused(&TINY);
        assert!(message.starts_with("error: tiny.toml: id: \""), "{message}");
        assert!(message.contains("is no name"), "{message}");
    }
    workplace.write("tiny.toml", EXPERIMENT);
    let manifest = "name = \"../../thesis\"\nsource = { kind = \"simulator\" }\n";
    workplace.write("mine.toml", manifest);
    let build = ["data", "build", "mine.toml", "--out", "built"];
    for arguments in [&[&TINY[..], &["--dataset", "mine.toml"]].concat()[..], &build] {
        let message = workplace.refused(arguments);
        let start = "error: mine.toml: key name: \"../../thesis\" is no name";
        assert!(message.starts_with(start), "{message}");
    }
    std::fs::remove_file(workplace.path().join("mine.toml")).unwrap();
    for (flag, what) in [("--dataset", "dataset"), ("--with", "baseline")] {
        let message = workplace.refused(&[&TINY[..], &[flag, ".."]].concat());
        assert!(message.starts_with(&format!("error: {what} \"..\" is no name")), "{message}");
    }
    let long = "x".repeat(5_000);
    let message = workplace.refused(&["run", &long]);
    assert!(message.contains("is longer than 100 characters") && message.len() < 200, "{message}");
    assert_eq!(workplace.files("."), before);
}

#[test]
fn folders_given_as_flags_are_seen_from_the_working_directory() {
    let workplace = Workplace::new();
    let inner = workplace.path().join("inner/most");
    std::fs::create_dir_all(&inner).unwrap();
    let output = workplace
        .command(&["run", "../../tiny.toml", "--profile", "smoke", "--without", "probabilistic"])
        .args(["--out", "../out", "--cache", "../../cache"])
        .current_dir(&inner)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(workplace.path().join("inner/out/results/tiny/smoke/run.json").exists());
    assert!(workplace.path().join("cache/report").exists());
    assert_eq!(std::fs::read_dir(inner).unwrap().count(), 0);
}

/// Writes a dataset of 40 graphs.
fn dataset(workplace: &Workplace, file: &str, name: &str) {
    let header = "graph_index,service,edge_id,type,source,destination,start_ms,finish_ms\n";
    let rows: String = (0..40).map(|i| format!("{i},S,0,http,USER,MS_{i},0,5\n")).collect();
    workplace.write("data/calls.csv", &format!("{header}{rows}"));
    let path = workplace.path().join("data/calls.csv");
    let source = format!("source = {{ kind = \"call-table\", path = {path:?} }}\n");
    workplace.write(file, &format!("name = {name:?}\n{source}"));
}

#[test]
fn results_of_different_manifests_do_not_replace_each_other() {
    let workplace = Workplace::new();
    // Names that differ behind a dot.
    for version in ["v1", "v2"] {
        let name = format!("mine.{version}");
        dataset(&workplace, &format!("data/{name}.toml"), &name);
        let (code, said) = workplace.said(&[&TINY[..], &["--dataset", &name]].concat());
        assert_eq!(code, 0, "{said}");
    }
    let folder = workplace.path().join("results/tiny/smoke");
    assert!(folder.join("mine.v1/run.json").exists() && folder.join("mine.v2/run.json").exists());

    // Files of one name, in which stands one name.
    dataset(&workplace, "a/mine.toml", "mine");
    dataset(&workplace, "b/mine.toml", "mine");
    assert_eq!(workplace.said(&[&TINY[..], &["--dataset", "a/mine.toml"]].concat()).0, 0);
    let before = workplace.files("results");
    insta::assert_snapshot!(
        workplace.refused(&[&TINY[..], &["--dataset", "b/mine.toml"]].concat()),
        @"error: results/tiny/smoke/mine holds results of a/mine.toml, which those of b/mine.toml would replace: give it a `name` of its own, or write elsewhere with --out"
    );
    // The same file by another path is the same, and one that was moved replaces its own.
    assert_eq!(workplace.said(&[&TINY[..], &["--dataset", "./b/../a/mine.toml"]].concat()).0, 0);
    assert_eq!(workplace.files("results"), before);
    std::fs::remove_file(workplace.path().join("a/mine.toml")).unwrap();
    assert_eq!(workplace.said(&[&TINY[..], &["--dataset", "b/mine.toml"]].concat()).0, 0);

    // Experiments of one id, in one run and in another.
    workplace.write("b/tiny.toml", &EXPERIMENT.replace("samples = 2", "samples = 1"));
    insta::assert_snapshot!(
        workplace.refused(&["run", "tiny.toml", "b/tiny.toml", "--profile", "smoke"]),
        @"error: tiny.toml and b/tiny.toml would both write to results/tiny/smoke: give one another `id`, or run them one by one, each with its own --out"
    );
    insta::assert_snapshot!(
        workplace.refused(&["run", "tiny.toml", "./tiny.toml", "--profile", "smoke"]),
        @"error: experiment tiny.toml is given more than once: name it once"
    );
    assert_eq!(workplace.said(&TINY).0, 0);
    insta::assert_snapshot!(
        workplace.refused(&["run", "b/tiny.toml", "--profile", "smoke"]),
        @"error: results/tiny/smoke holds results of tiny.toml, which those of b/tiny.toml would replace: give it an `id` of its own, or write elsewhere with --out"
    );
    // Two baselines of one name.
    let copy = "generator = \"training-set-copy\"\nlabel = \"X\"\nsource = \"x\"\n";
    workplace.write("baselines/two.toml", copy);
    workplace.write("baselines/two/baseline.toml", "");
    insta::assert_snapshot!(
        workplace.refused(&[&TINY[..], &["--with", "two"]].concat()),
        @"error: baseline `two` is there twice: baselines/two/baseline.toml and baselines/two.toml; rename one of them"
    );
    // Two that tables would take for one.
    workplace.write("baselines/copy.toml", &copy.replace("\"X\"", "\"Training-set copy\""));
    let message = workplace.refused(&[&TINY[..], &["--with", "copy"]].concat());
    assert!(
        message.contains("baselines `training-set-copy` and `copy` have the same label"),
        "{message}"
    );
}

/// Changes, groups and files that extend others, each a row of its own.
#[test]
fn variants_are_rows_with_names_and_labels() {
    let workplace = Workplace::new();
    let generators = "[{ name = \"probabilistic\", decoding = { rejection = 2 } }, \"@mine\"]";
    let experiment = EXPERIMENT.replace("[\"probabilistic\", \"training-set-copy\"]", generators);
    workplace.write("tiny.toml", &experiment);
    let groups = "mine = [\"@other\", { name = \"mine\", label = \"Named\" }]\nother = [\"training-set-copy\"]\n";
    workplace.write("experiments/groups.toml", groups);
    let mine = "extends = \"probabilistic\"\nlabel = \"Mine\"\n[settings]\nmax_calls = 70\n";
    workplace.write("baselines/mine.toml", mine);
    let flags = ["--with", "markov-constrained,markov", "--without", "@other"];
    let set = ["--set", "markov.max_calls=20", "--set", "probabilistic.max_calls=60"];
    let (code, said) = workplace.said(&[&TINY[..], &flags, &set].concat());
    assert_eq!(code, 0, "{said}");
    let record = std::fs::read(workplace.path().join("results/tiny/smoke/run.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let of = |key: &str| -> Vec<String> {
        let baselines = record["baselines"].as_array().unwrap().iter();
        baselines.map(|baseline| baseline[key].to_string()).collect()
    };
    insta::assert_snapshot!(of("name").join("\n"), @r#"
    "probabilistic-max_calls-60-rejection-2"
    "mine"
    "markov-constrained"
    "markov-max_calls-20"
    "#);
    insta::assert_snapshot!(of("label").join("\n"), @r#"
    "Probabilistic (max_calls 60; up to 2 attempts)"
    "Named"
    "Markov (constrained)"
    "Markov (max_calls 20)"
    "#);
    let ids = workplace.run(&["list"]);
    assert!(!String::from_utf8_lossy(&ids.stdout).contains("\n  groups "));
}

#[test]
fn what_goes_round_or_beyond_all_bounds_is_told() {
    let workplace = Workplace::new();
    for (name, from) in [("one", "two"), ("two", "one"), ("alone", "alone")] {
        let text = format!(
            "generator = \"training-set-copy\"\nlabel = \"{name}\"\nsource = \"x\"\n[starts_from]\nbaseline = \"{from}\"\n"
        );
        workplace.write(&format!("baselines/{name}.toml"), &text);
    }
    let limits = "label = \"Huge\"\nsource = \"x\"\ncommand = [\"true\"]\n[limits]\nfit = 9223372036854775807\n";
    workplace.write("baselines/huge.v2/baseline.toml", limits);
    let output = workplace.run(&["list"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let limit = "baselines/huge.v2/baseline.toml: limits.fit = 9223372036854775807: must be from 1 to 31536000";
    for line in ["one → two → one", "two → one → two", "alone → alone", limit] {
        assert!(text.contains(line), "{line} is missing from {text}");
    }
    insta::assert_snapshot!(
        workplace.refused(&[&TINY[..], &["--with", "one"]].concat()),
        @"error: baselines/one.toml: starts_from: goes round in a circle: one → two → one; one of them must start from nothing"
    );
    assert_eq!(workplace.refused(&["baseline", "check", "huge.v2"]), format!("error: {limit}"));
}

#[test]
fn generators_can_be_left_out() {
    let workplace = Workplace::new();
    let (code, said) = workplace.said(&[&TINY[..], &["--without", "training-set-copy"]].concat());
    assert_eq!(code, 0, "{said}");
    let table = workplace.path().join("results/tiny/smoke/accuracy.csv");
    let table = std::fs::read_to_string(table).unwrap();
    assert!(table.contains("\nProbabilistic,") && !table.contains("Training-set copy"), "{table}");
}

#[test]
fn a_second_run_on_the_same_cache_is_refused() {
    let workplace = Workplace::new();
    std::fs::create_dir(workplace.path().join(".tracegym")).unwrap();
    let lock = std::fs::File::create(workplace.path().join(".tracegym/lock")).unwrap();
    lock.lock().unwrap();
    let message = workplace.refused(&TINY);
    assert!(message.starts_with("error: the cache .tracegym is in use"), "{message}");
}

#[test]
fn datasets_are_compared_side_by_side() {
    let workplace = Workplace::new();
    let datasets = ["simulator", "simulator-branching"];
    let output = workplace.run(&[&["data", "compare", "--graphs", "2000"], &datasets[..]].concat());
    let table = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[..2], ["| | simulator | simulator-branching |", "|---|---:|---:|"]);
    let row = |label: &str| -> Vec<f64> {
        let row = lines.iter().find(|line| line.starts_with(&format!("| {label} |"))).expect(label);
        let cells = row.trim_end_matches(" |").split(" | ").skip(1);
        cells.map(|cell| cell.trim_end_matches(" %").parse().expect("a number")).collect()
    };
    assert_eq!(row("graphs"), [2000.0, 2000.0]);
    let branching = row("layers with two or more sub-conditions");
    assert!(branching[0] < 0.5 && branching[1] > 3.0, "{branching:?}");
    let message = workplace.refused(&["data", "compare", "simulater"]);
    assert!(message.contains("did you mean `simulator`"), "{message}");
}

#[test]
fn list_shows_what_there_is() {
    let workplace = Workplace::new();
    let output = workplace.run(&["list"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in
        ["fig3-accuracy", "probabilistic", "training-set-copy", "simulator", "cached in"]
    {
        assert!(text.contains(expected), "{expected} is missing from {text}");
    }
}

/// What a user or a manifest says is told as text: it does not steer the terminal.
#[test]
fn control_characters_do_not_reach_the_terminal() {
    let workplace = Workplace::new();
    let name = "\u{1b}[31mred\u{202e}";
    let message = workplace.refused(&["run", name]);
    assert!(message.contains("\\u{1b}[31mred\\u{202e}"), "{message}");
    assert!(message.chars().all(|c| c == '\n' || !c.is_control()), "{message:?}");
    let hostile = EXPERIMENT.replace("\"Tiny\"", r#""]( <b> \u001b[31m \u202e""#);
    workplace.write("hostile.toml", &hostile);
    let (code, said) = workplace.said(&["run", "hostile.toml", "--profile", "smoke"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.chars().all(|c| c == '\n' || !c.is_control()), "{said:?}");
    let index = std::fs::read_to_string(workplace.path().join("results/README.md")).unwrap();
    assert!(index.contains("\\]( \\<b\\> \\\\u{1b}\\[31m \\\\u{202e} (none)."), "{index}");
}

#[test]
fn latex_and_bitmaps_are_written_only_where_they_are_asked_for() {
    let workplace = Workplace::new();
    let endings = || {
        let all = [workplace.files("results"), workplace.files("paper-figures")];
        let paths = all.iter().flat_map(|files| files.keys());
        let endings = paths.filter_map(|path| path.extension()?.to_str().map(str::to_owned));
        endings.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(workplace.said(&TINY).0, 0);
    assert_eq!(endings(), "csv md svg");
    let before = workplace.files("results");
    let (code, said) = workplace.said(&[&TINY[..], &["--formats", "png,tex"]].concat());
    assert_eq!(code, 0, "{said}");
    // Only the report was drawn again.
    assert!(said.contains("1 experiments, 1 stages run"), "{said}");
    assert_eq!(endings(), "csv md png svg tex");
    let same = |path: &PathBuf| workplace.files("results").get(path) == before.get(path);
    assert!(before.keys().all(same));
    let (_, said) =
        workplace.said(&[&TINY[..], &["--formats", "tex", "--formats", "png"]].concat());
    assert_eq!(said.lines().last(), Some("everything is up to date"));
    // What is not asked for again goes, as all that a report no longer has.
    assert_eq!(workplace.said(&TINY).0, 0);
    assert_eq!(endings(), "csv md svg");
    let refused = workplace.said(&[&TINY[..], &["--formats", "pdf"]].concat());
    assert!(refused.0 == 2 && refused.1.contains("tex, png"), "{refused:?}");
}

#[test]
fn experiments_go_by_id_and_by_path_and_an_old_path_tells_the_new_one() {
    let workplace = Workplace::new();
    let listed = String::from_utf8(workplace.run(&["list"]).stdout).unwrap();
    let (paper, extensions) = listed.split_once("(experiments/extensions/)").unwrap();
    assert!(paper.contains(" fig3-accuracy ") && !paper.contains(" truth "), "{listed}");
    assert!(extensions.contains(" truth ") && !extensions.contains(" fig3-accuracy "), "{listed}");
    let refused = |id: &str| workplace.refused(&["run", id, "--without", "nobody"]);
    for found in ["fig3-accuracy", "experiments/paper/fig3-accuracy.toml"] {
        assert!(refused(found).contains("--without nobody"), "{found}");
    }
    insta::assert_snapshot!(
        refused("experiments/fig3-accuracy.toml"),
        @"error: experiment experiments/fig3-accuracy.toml does not exist: `fig3-accuracy` is experiments/paper/fig3-accuracy.toml"
    );
    // One's own goes before the copy in the binary, and two of one name are a mistake.
    workplace.write("experiments/extensions/fig3-accuracy.toml", "id = 1");
    assert!(refused("fig3-accuracy").contains("experiments/extensions/fig3-accuracy.toml: line 1"));
    workplace.write("experiments/paper/fig3-accuracy.toml", "id = 1");
    assert!(refused("fig3-accuracy").contains("is there twice"));
}
