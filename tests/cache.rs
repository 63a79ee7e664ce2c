//! The cache and the results through the binary: nothing of others is touched, damage is found, named and
//! mended, and what goes wrong in one place takes nothing else with it.

mod workplace;

use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use workplace::{EXPERIMENT, TINY, Workplace, files_below};

/// One generator, one seed, few graphs: one stage of each kind.
const SMALL: &str = r#"
id = "tiny"
title = "Tiny"
paper = "none"
dataset = "simulator"
family = "accuracy"
generators = ["probabilistic"]
conditions = { kind = "grid", max_edges = 2, max_depth = 2, samples = 2 }
sampling = { temperatures = [0.0] }
profiles.smoke = { seeds = [0], graphs = 60 }
"#;

/// The file with its last but one bit of the middle byte the other way round.
fn flipped(path: &Path) -> Vec<u8> {
    let mut content = fs::read(path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 2;
    content
}

fn finished(experiment: &str) -> Workplace {
    let workplace = Workplace::new();
    workplace.write("tiny.toml", experiment);
    let (code, said) = workplace.said(&TINY);
    assert_eq!(code, 0, "{said}");
    workplace
}

/// The folders of the finished stages, by kind.
fn stages(workplace: &Workplace) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for kind in ["dataset", "train", "generate", "evaluate", "report"] {
        let stages = fs::read_dir(workplace.path().join(".tracegym").join(kind)).unwrap();
        found.extend(stages.map(|stage| (kind.to_owned(), stage.unwrap().path())));
    }
    found
}

#[test]
fn a_damaged_file_is_named_and_made_again() {
    type Deed = fn(&Path);
    let deeds: [(&str, Deed); 5] = [
        ("cut", |path| {
            let content = fs::read(path).unwrap();
            fs::write(path, &content[..content.len() / 2]).unwrap();
        }),
        ("emptied", |path| fs::write(path, "").unwrap()),
        ("flipped", |path| fs::write(path, flipped(path)).unwrap()),
        ("deleted", |path| fs::remove_file(path).unwrap()),
        ("replaced by a folder", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
    ];
    let workplace = finished(SMALL);
    let results = workplace.files("results");
    let figures = workplace.files("paper-figures");
    let outputs = |kind: &str| workplace.files(&format!(".tracegym/{kind}"));
    let kinds = ["dataset", "train", "generate", "evaluate", "report"];
    let before = kinds.map(outputs);
    for (kind, stage) in stages(&workplace) {
        for (place, path) in files_below(&stage).into_iter().enumerate() {
            for (index, (deed, harm)) in deeds.into_iter().enumerate() {
                // Tables and figures are all alike: one deed each.
                if fs::metadata(&path).unwrap().len() == 0
                    || (kind == "report" && index != place % deeds.len())
                {
                    continue;
                }
                harm(&path);
                let (code, said) = workplace.said(&TINY);
                let name = path.strip_prefix(&stage).unwrap().display();
                let at = format!("{kind}/{name} {deed}: {said}");
                assert_eq!(code, 0, "{at}");
                assert!(
                    said.contains("are damaged: ") && said.contains(&format!("`{name}`")),
                    "{at}"
                );
                assert!(said.contains("1 stages run"), "{at}");
                assert!(path.is_file(), "{at}");
            }
        }
    }
    assert_eq!(kinds.map(outputs), before);
    assert_eq!(workplace.files("results"), results);
    assert_eq!(workplace.files("paper-figures"), figures);
    assert_eq!(workplace.said(&TINY).1.lines().last(), Some("everything is up to date"));
}

/// Folders that are gone, and files too many, are damage as well.
#[test]
fn a_folder_that_is_gone_or_a_file_too_many_is_named() {
    let workplace = finished(SMALL);
    let results = workplace.files("results");
    let stage = |kind: &str| stages(&workplace).into_iter().find(|(k, _)| k == kind).unwrap().1;
    fs::remove_dir_all(stage("train").join("model")).unwrap();
    fs::write(stage("generate").join("notes.txt"), "mine").unwrap();
    fs::remove_dir_all(stage("report").join("figures")).unwrap();
    let (code, said) = workplace.said(&TINY);
    assert_eq!(code, 0, "{said}");
    for named in ["`model` is missing", "`notes.txt` was added", "`figures` is missing"] {
        assert!(said.contains(named), "{named}: {said}");
    }
    assert_eq!(workplace.files("results"), results);
    // A stage that is gone as a whole, and that nothing needs, is left alone.
    fs::remove_dir_all(stage("train")).unwrap();
    assert_eq!(workplace.said(&TINY).1.lines().last(), Some("everything is up to date"));
}

/// A bit that flips on the disk changes no time: it is found when the file is read.
#[test]
fn a_stage_reads_nothing_that_is_not_as_it_was_written() {
    for (kind, file, downstream) in [
        ("dataset", "calls.parquet", &["train", "generate", "evaluate", "report"][..]),
        ("train", "model/model.json", &["generate", "evaluate", "report"]),
        ("train", "fit.json", &["report"]),
        ("train", "timing.json", &["report"]),
        ("generate", "calls.parquet", &["evaluate", "report"]),
        ("generate", "failures.jsonl", &["report"]),
        ("evaluate", "records.parquet", &["report"]),
        ("evaluate", "units.parquet", &["report"]),
    ] {
        let workplace = finished(SMALL);
        let results = workplace.files("results");
        let stages = stages(&workplace);
        for (_, stage) in stages.iter().filter(|(kind, _)| downstream.contains(&kind.as_str())) {
            fs::remove_dir_all(stage).unwrap();
        }
        let path = stages.iter().find(|(k, _)| k == kind).unwrap().1.join(file);
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, flipped(&path)).unwrap();
        let open = File::options().write(true).open(&path).unwrap();
        open.set_times(FileTimes::new().set_modified(time)).unwrap();
        let (code, said) = workplace.said(&TINY);
        assert_eq!(code, 0, "{kind}/{file}: {said}");
        let named = format!("`{file}` has another content; it runs again");
        assert!(said.contains(&named), "{kind}/{file}: {said}");
        assert_eq!(workplace.files("results"), results, "{kind}/{file}");
    }
}

#[test]
fn a_folder_of_somebody_is_no_cache() {
    let workplace = Workplace::new();
    workplace.write("home/tmp/thesis.tex", "mine");
    let mut run = TINY.to_vec();
    run.extend(["--cache", "home"]);
    insta::assert_snapshot!(
        workplace.refused(&run),
        @"error: --cache home: the folder holds something else (such as tmp/thesis.tex) and is no cache of TraceGym, which removes files from its cache: name an empty folder or one that does not exist"
    );
    assert_eq!(fs::read(workplace.path().join("home/tmp/thesis.tex")).unwrap(), b"mine");
    assert_eq!(files_below(&workplace.path().join("home")).len(), 1);
}

/// A build while a run goes on neither ends the run nor changes its code.
#[cfg(target_os = "linux")]
#[test]
fn a_program_that_is_replaced_runs_to_its_end() {
    let workplace = Workplace::new();
    let program = workplace.path().join("tracegym");
    if fs::hard_link(env!("CARGO_BIN_EXE_tracegym"), &program).is_err() {
        fs::copy(env!("CARGO_BIN_EXE_tracegym"), &program).unwrap();
    }
    let child = Command::new(&program)
        .current_dir(workplace.path())
        .args(TINY)
        .env_remove("TRACEGYM_DATA")
        .env_remove("TRACEGYM_CACHE")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let specs = workplace.path().join(".tracegym/specs");
    let patience = Instant::now();
    while fs::read_dir(&specs).map_or(0, Iterator::count) == 0 {
        assert!(patience.elapsed() < Duration::from_secs(60), "no stage in a minute");
        std::thread::sleep(Duration::from_millis(2));
    }
    fs::remove_file(&program).unwrap();
    fs::write(&program, "no program").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(workplace.path().join("results/tiny/smoke/accuracy.csv").exists(), "{said}");
}

/// What cannot be published keeps nothing else from being run and published.
#[test]
fn results_that_cannot_be_written_take_nothing_else_with_them() {
    let workplace = Workplace::new();
    workplace.write("tiny.toml", SMALL);
    workplace.write("other.toml", &SMALL.replace("\"tiny\"", "\"other\""));
    let blocked = workplace.path().join("results/tiny/smoke/accuracy.csv");
    fs::create_dir_all(blocked.join("full")).unwrap();
    let run = ["run", "tiny.toml", "other.toml", "--profile", "smoke"];
    let (code, said) = workplace.said(&run);
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains(
            "failed: results of tiny: ./results/tiny/smoke/accuracy.csv: cannot be written"
        ),
        "{said}"
    );
    assert!(workplace.path().join("results/other/smoke/run.json").exists(), "{said}");
    fs::remove_dir_all(&blocked).unwrap();
    let (code, said) = workplace.said(&run);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(" 0 stages run"), "{said}");
    assert!(blocked.is_file());
}

#[test]
fn two_runs_do_not_write_the_same_results() {
    let workplace = Workplace::new();
    let folder = workplace.path().join("results/tiny/smoke");
    fs::create_dir_all(&folder).unwrap();
    let held = File::open(&folder).unwrap();
    held.lock().unwrap();
    insta::assert_snapshot!(
        workplace.refused(&TINY),
        @"error: ./results/tiny/smoke: another tracegym writes its results there: wait until it ends, or give this run a folder of its own with --out DIR"
    );
    drop(held);
    assert_eq!(workplace.said(&TINY).0, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_cache_may_lie_on_two_file_systems() {
    use std::os::unix::fs::{MetadataExt, symlink};
    let workplace = Workplace::new();
    workplace.write("tiny.toml", SMALL);
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    if device(elsewhere.path()) == device(workplace.path()) {
        return;
    }
    fs::create_dir(workplace.path().join(".tracegym")).unwrap();
    symlink(elsewhere.path(), workplace.path().join(".tracegym/train")).unwrap();
    let (code, said) = workplace.said(&TINY);
    assert_eq!(code, 0, "{said}");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_path_that_is_no_text_is_named() {
    use std::os::unix::ffi::OsStrExt;
    let workplace = Workplace::new();
    for flag in ["--cache", "--data"] {
        let mut command = workplace.command(&TINY);
        let output =
            command.arg(flag).arg(std::ffi::OsStr::from_bytes(b"ca\xffche")).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        let expected = format!("error: {flag} \"ca\\xFFche\": the path is not UTF-8");
        assert!(said.contains(&expected), "{said}");
    }
}

/// Tables with holes do not replace whole ones.
#[test]
fn a_failed_arm_leaves_the_last_complete_results() {
    let workplace = Workplace::new();
    let baseline = |checkpoints: u32| {
        let head = "generator = \"training-set-copy\"\nlabel = \"Mine\"\nsource = \"test\"\n";
        workplace.write("baselines/mine.toml", &format!("{head}checkpoints = {checkpoints}\n"));
    };
    let experiment = EXPERIMENT
        .replace("\"training-set-copy\"", "\"mine\"")
        .replace("generators", "checkpoints = true\ngenerators");
    workplace.write("tiny.toml", &experiment);
    baseline(0);
    assert_eq!(workplace.said(&TINY).0, 0);
    let complete = workplace.files("results/tiny");
    // Training saves no checkpoints.
    baseline(2);
    let (code, said) = workplace.said(&TINY);
    assert_eq!(code, 2, "{said}");
    let line = "tiny: not all rows are there: this run is in results/tiny/smoke/INCOMPLETE, and \
                results/tiny/smoke keeps the last complete one";
    assert!(said.contains(line), "{said}");
    let mut now = workplace.files("results/tiny");
    now.retain(|path, _| !path.starts_with("smoke/INCOMPLETE"));
    assert_eq!(now, complete);
    let beside = |name: &str| {
        let path = workplace.path().join("results/tiny/smoke/INCOMPLETE").join(name);
        fs::read_to_string(path).unwrap()
    };
    assert!(beside("accuracy.csv").contains("checkpoint 1 does not exist"));
    assert!(
        beside("run.json").contains("Mine, seed 1: generate mine seed 1"),
        "{}",
        beside("run.json")
    );
    let index = || fs::read_to_string(workplace.path().join("results/README.md")).unwrap();
    assert!(index().contains("| `simulator`, incomplete | `smoke` |"), "{}", index());
    // A second run changes nothing.
    assert_eq!(workplace.said(&TINY).0, 2);
    baseline(0);
    let (code, said) = workplace.said(&TINY);
    assert_eq!(code, 0, "{said}");
    assert_eq!(workplace.files("results/tiny"), complete);
    for folder in ["results", "paper-figures"] {
        assert!(!workplace.path().join(folder).join("tiny/smoke/INCOMPLETE").exists());
    }
    assert!(!index().contains("incomplete"), "{}", index());
}
