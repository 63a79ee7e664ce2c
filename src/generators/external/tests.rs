//! Against programs that do what they should not. Most are shell scripts that say what a file holds.

use std::os::unix::process::ExitStatusExt as _;

use rand::RngExt;
use rayon::prelude::*;

use super::*;
use crate::generators::tests::{condition, train_only};
use crate::model::Sampling;
use crate::progress::Progress;
use crate::testing::paper_example;

/// A folder with a program.
struct Place {
    dir: tempfile::TempDir,
    program: Program,
}

fn place(script: &str) -> Place {
    let dir = tempfile::tempdir().expect("a folder");
    let program = Program {
        folder: dir.path().to_owned(),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        build: Vec::new(),
        limits: Limits { build: 5, fit: 2, answer: 2, end: 2, memory: 512 },
        receipt: "r".into(),
        settings: toml::Table::new(),
    };
    Place { dir, program }
}

const DESCRIBE: &str = r#"{"describe":{"protocol":1,"name":"n","version":"v"}}"#;
const FIT: &str = r#"{"fit":{"parameters":3,"notes":{"k":"v"}}}"#;
const LOAD: &str = r#"{"load":{}}"#;

fn graph(index: usize) -> String {
    format!(
        r#"{{"graph":{{"index":{index},"calls":[{{"edge_id":"0","source":"USER","destination":"MS_1","type":"http","start":0,"finish":8}}]}}}}"#
    )
}

impl Place {
    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.dir.path().join(name), text).expect("written");
    }

    fn fit(&self) -> Result<FitReport> {
        let (out, scratch) = (self.dir.path().join("out"), self.dir.path().join("scratch"));
        std::fs::create_dir_all(&out).expect("made");
        self.program.fit(&FitContext {
            dataset: &train_only(vec![paper_example()]),
            seed: 0,
            device: DeviceChoice::Cpu,
            base: None,
            out: &out,
            scratch: &scratch,
            progress: Progress::Quiet,
        })
    }

    /// Loads (the receipt being there) and generates two graphs.
    fn generate(&self) -> Result<Vec<Generated>> {
        let out = self.dir.path().join("out");
        std::fs::create_dir_all(&out).expect("made");
        let receipt = r#"{"protocol":1,"name":"n","version":"v"}"#;
        std::fs::write(out.join(RECEIPT), receipt).expect("written");
        let loaded = self.program.load(&out, None, DeviceChoice::Cpu)?;
        let conditions = vec![condition("S_1", None); 2];
        loaded.generate(
            &conditions,
            &GenerateOptions {
                seed: 0,
                sampling: Sampling { temperature: 1.0, top_k: None },
                decoding: Decoding::Free,
                batch: 1,
                progress: Progress::Quiet,
            },
        )
    }
}

/// The replies of a good conversation about two graphs.
fn good() -> Vec<String> {
    vec![DESCRIBE.into(), LOAD.into(), graph(1), graph(0)]
}

#[test]
fn a_good_conversation_gives_a_model_and_answers_in_order() {
    let place = place("cat replies; cat > asked");
    place.write("replies", [DESCRIBE, r#"{"progress":{"done":1,"total":9}}"#, FIT, ""].join("\n"));
    let report = place.fit().expect("fits");
    assert_eq!(report.parameters, 3);
    assert_eq!(report.notes[0].1, "n v");
    let asked = std::fs::read_to_string(place.dir.path().join("asked")).expect("asked");
    let fit: serde_json::Value =
        serde_json::from_str(asked.lines().nth(1).expect("a second line")).expect("JSON");
    let line =
        std::fs::read_to_string(fit["fit"]["jsonl"].as_str().expect("a path")).expect("there");
    let first: serde_json::Value = serde_json::from_str(&line).expect("one graph");
    assert_eq!(first["calls"].as_array().map(Vec::len), Some(7));
    place.write("replies", good().join("\n") + "\n");
    let answers = place.generate().expect("answers");
    assert_eq!(answers.len(), 2);
    assert!(answers.iter().all(|answer| answer.rows.len() == 1 && answer.failure.is_none()));
}

#[test]
fn what_goes_wrong_is_told_with_the_message_that_it_followed() {
    let refused = r#"{"failed":{"index":0,"reason":"no such service"}}"#.to_owned();
    let wrong_call = graph(0).replace("\"0\"", "\"0.x\"");
    for (replies, words) in [
        (vec![], "after `describe`: it ended (exit status: 3)"),
        (vec![DESCRIBE.replace(":1", ":2")], "it speaks protocol 2"),
        (vec![DESCRIBE.replace("\"v\"", "\"w\"")], "trained as n v and is n w now"),
        (vec![DESCRIBE.to_owned()], "after `load`: it ended"),
        (vec![DESCRIBE.into(), FIT.into()], "after `load`: `fit` in place of `load`"),
        (vec![DESCRIBE.into(), LOAD.into(), "graph".into()], "not a reply"),
        (vec![DESCRIBE.into(), LOAD.into(), graph(2)], "request 2; open are 0 to 1"),
        (vec![DESCRIBE.into(), LOAD.into(), graph(1), graph(1)], "answered twice"),
        (vec![DESCRIBE.into(), LOAD.into(), wrong_call], "edge_id `0.x`"),
        (vec![DESCRIBE.into(), LOAD.into(), graph(0).replace("http", "smtp")], "smtp"),
        (vec![DESCRIBE.into(), LOAD.into(), graph(0).replace(":8", ":-8")], "-8"),
        (vec![DESCRIBE.into(), LOAD.into(), graph(0).replace("finish", "end")], "`end`"),
        (vec![r#"{"error":{"message":"no licence"}}"#.into()], "it reports: no licence"),
        (vec![DESCRIBE.into(), LOAD.into(), refused], "after `generate`: it ended"),
    ] {
        // First the reason: a process whose reply is wrong is stopped at once.
        let place = place("echo the reason is this >&2; cat replies; exit 3");
        place.write("replies", replies.iter().map(|line| format!("{line}\n")).collect::<String>());
        let error = format!("{:#}", place.generate().expect_err(words));
        assert!(error.contains(words), "{error}");
        assert!(error.contains("the reason is this") || error.contains("trained as"), "{error}");
    }
}

#[test]
fn limits_hold() {
    for (script, words) in [
        ("sleep 60", "no reply within 2 s"),
        ("head -c 17000000 /dev/zero | tr '\\0' x", "longer than 16 MiB"),
        ("printf '\\377\\n'", "not UTF-8"),
        ("printf '{\"load\"'", "in the middle of a line"),
        ("yes", "not a reply"),
        ("python3 -c 'x = bytearray(1 << 30)'", "MemoryError"),
        ("yes error >&2", "no reply"),
    ] {
        let started = Instant::now();
        let error = format!("{:#}", place(script).generate().expect_err(script));
        assert!(error.contains(words), "{script}: {error}");
        assert!(started.elapsed() < Duration::from_secs(20), "{script}");
        assert!(error.len() < 12_000, "{script}: {} bytes", error.len());
    }
    let place = place("cat replies; sleep 60");
    place.write("replies", format!("{DESCRIBE}\n"));
    let error = format!("{:#}", place.fit().expect_err("does not fit"));
    assert!(error.contains("after `fit`: not done within"), "{error}");
    let missing = Program { command: vec!["no-such-program".into()], ..place.program.clone() };
    let error = format!("{:#}", Process::start(&missing).err().expect("does not start"));
    assert!(error.contains("no-such-program"), "{error}");
}

#[test]
fn what_a_program_has_started_ends_with_it() {
    let place = place("sleep 300 & echo $! > child; cat replies; wait");
    place.write("replies", good().join("\n") + "\n");
    place.generate().expect("answers");
    let child = std::fs::read_to_string(place.dir.path().join("child")).expect("written");
    let process = PathBuf::from(format!("/proc/{}/stat", child.trim()));
    let deadline = Instant::now() + Duration::from_secs(5);
    // A zombie whose parent is gone is no longer running either.
    let runs = || std::fs::read_to_string(&process).is_ok_and(|stat| !stat.contains(") Z "));
    while runs() {
        assert!(Instant::now() < deadline, "it still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Killed after any of its messages, it costs an error that says so.
#[test]
fn a_program_that_is_killed_costs_its_own_result() {
    for count in 0..good().len() {
        let place = place(&format!("head -n {count} replies; kill -9 $$"));
        place.write("replies", good().join("\n") + "\n");
        let error = format!("{:#}", place.generate().expect_err("killed"));
        assert!(error.contains("signal: 9"), "{count}: {error}");
    }
    assert_eq!(std::process::ExitStatus::from_raw(9).to_string(), "signal: 9 (SIGKILL)");
}

/// Bytes of a good conversation, changed at random: an error or two answers, at once.
#[test]
fn a_thousand_mutated_conversations_end() {
    let original = (good().join("\n") + "\n").into_bytes();
    let answered: usize = (0..1_000u64)
        .into_par_iter()
        .map_init(
            || place("exec cat replies"),
            |place, number| {
                place.write("replies", mutated(&original, number));
                let started = Instant::now();
                let found = place.generate();
                assert!(started.elapsed() < Duration::from_secs(20));
                found.map_or(0, |found| found.len())
            },
        )
        .sum();
    // Some changes do no harm, such as one to a name; most do.
    assert!((2..1_000).contains(&answered) && answered.is_multiple_of(2), "{answered} answers");
}

/// `bytes` after one to three random changes.
fn mutated(bytes: &[u8], number: u64) -> Vec<u8> {
    let mut rng = random::stream(1, "mutations", &[number]);
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..5) {
            0 => bytes[at] = rng.random(),
            1 => bytes.truncate(at.max(1)),
            2 => bytes.insert(at, rng.random()),
            3 => {
                let end = (at + rng.random_range(1..40)).min(bytes.len());
                let part: Vec<u8> = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => bytes[at] ^= 1 << rng.random_range(0..8),
        }
    }
    bytes
}

#[test]
fn building_happens_once_and_its_failure_is_told() {
    let mut place = place("cat replies");
    place.program.build = vec![["sh", "-c", "echo x >> built"].map(str::to_owned).to_vec()];
    place.program.make_ready().expect("builds");
    place.program.make_ready().expect("is built");
    let built = std::fs::read_to_string(place.dir.path().join("built")).expect("there");
    assert_eq!(built, "x\n");
    place.program.receipt = "other".into();
    place.program.build =
        vec![["sh", "-c", "echo no such wheel; exit 4"].map(str::to_owned).to_vec()];
    let error = format!("{:#}", place.program.make_ready().expect_err("fails"));
    assert!(error.contains("no such wheel") && error.contains("exit status: 4"), "{error}");
    place.program.build = vec![["sleep".to_owned(), "60".to_owned()].to_vec()];
    place.program.limits.build = 1;
    let error = format!("{:#}", place.program.make_ready().expect_err("takes too long"));
    assert!(error.contains("not done after 1 s"), "{error}");
}
