//! Against programs that do what they should not. Most are shell scripts that say what a file holds.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Instant;

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
        (vec![DESCRIBE.into(), LOAD.into(), graph(0).replace(":8", ":-8")], "`-8`, expected whole"),
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

/// A busy machine delivers standard error later than standard output.
#[test]
fn what_it_said_last_is_quoted_though_it_comes_late() {
    let place = place("exec 1>&-; sleep 0.3; echo the reason is this >&2; exit 3");
    let error = format!("{:#}", place.generate().expect_err("no reply"));
    assert!(error.contains("the reason is this"), "{error}");
}

/// It reports progress for ever.
fn place_that_never_ends_training() -> Place {
    let place = place(r#"cat replies; while sleep 0.05; do cat progress; done"#);
    place.write("replies", format!("{DESCRIBE}\n"));
    place.write("progress", "{\"progress\":{\"done\":1,\"total\":9}}\n");
    place
}

#[test]
fn messages_stay_short_whatever_is_said() {
    let long = "9".repeat(1 << 20);
    let open = [DESCRIBE.to_owned(), LOAD.to_owned()];
    for (reply, words) in [
        (graph(0).replace("\"0\"", &format!("\"{long}x\"")), "edge_id `9999"),
        (graph(0).replace("finish", &long), "unknown field `9999"),
        (graph(0).replace(":8", &format!(":{long}")), "out of range"),
        (format!("{{\"{long}\":{{}}}}"), "unknown variant `9999"),
        (format!("{{\"error\":{{\"message\":\"{long}\"}}}}"), "it reports: 9999"),
        (long.clone(), "not a reply"),
    ] {
        let place = place("cat replies; cat replies >&2");
        place.write("replies", [&open[..], &[reply]].concat().join("\n") + "\n");
        let error = format!("{:#}", place.generate().expect_err(words));
        assert!(error.contains(words) && error.len() < 10_000, "{words}: {} bytes", error.len());
    }
}

/// Lines that Python's `json` and others write without complaint (case by case what is meant by JSON).
#[test]
fn numbers_and_texts_of_other_writers_are_refused_with_the_reason_or_understood() {
    let finish = |value: &str| graph(0).replace(":8", &format!(":{value}"));
    let name = |value: &str| graph(0).replace("MS_1", value);
    let whole = "expected whole milliseconds from 0 to 4294967295";
    for (reply, words) in [
        (finish("NaN"), "not a reply"),
        (finish("Infinity"), "not a reply"),
        (finish("-Infinity"), "not a reply"),
        (finish("3.0"), whole),
        (finish("3e0"), whole),
        (finish("-0"), whole),
        (finish("-1"), whole),
        (finish("4294967296"), whole),
        (finish("18446744073709551616"), whole),
        (finish("1e400"), "out of range"),
        (finish("\"3\""), whole),
        (finish("null"), whole),
        (finish("true"), whole),
        (name("MS_\\ud800"), "hex escape"),
        (graph(0).replace("\"MS_1\"", "null"), "null"),
        (graph(0).replace("}]}}", "}],\"index\":0}}"), "duplicate field `index`"),
        (graph(0).replace("}]}}", "}],\"note\":0}}"), "unknown field `note`"),
        (format!("\u{feff}{}", graph(0)), "not a reply"),
        (graph(0) + &graph(1), "trailing characters"),
        (graph(0)[..40].to_owned(), "EOF"),
        ("[".repeat(200) + &"]".repeat(200), "not a reply"),
        (graph(0).replace("[{", &("[".repeat(100_000) + "{")), "not a reply"),
        (graph(0).replace("\"index\":0", "\"index\":-1"), "not a reply"),
        (graph(0).replace("\"index\":0", "\"index\":0.0"), "not a reply"),
        (graph(0).replace("\"index\":0", "\"index\":99999"), "request 99999; open are 0 to 1"),
        (r#"{"graph":{"index":0,"calls":{}}}"#.into(), "a list of calls"),
    ] {
        let place = place("cat replies; cat > /dev/null");
        place.write("replies", [DESCRIBE, LOAD, &reply, ""].join("\n"));
        let error = format!("{:#}", place.generate().expect_err(&reply));
        assert!(error.contains("after `generate`") || error.contains("open are"), "{error}");
        assert!(error.contains(words), "{reply:.200}: {error}");
    }
    for (reply, destination) in [
        (graph(0) + "\r", "MS_1"),
        (name("MS_\\ud83d\\udd25"), "MS_🔥"),
        (name(""), ""),
        (name("MS,0\\n"), "MS,0\n"),
        (name("USER"), "USER"),
    ] {
        let place = place("cat replies; cat > /dev/null");
        place.write("replies", [DESCRIBE, LOAD, &graph(1), &reply, ""].join("\n"));
        let answers = place.generate().expect("answers");
        assert_eq!(&*answers[0].rows[0].destination, destination);
    }
}

#[test]
fn an_answer_of_too_many_calls_fails_alone() {
    let call = graph(0).split_once('[').map(|(_, rest)| rest.replace("]}}", "")).expect("calls");
    let answer = |count: usize| graph(0).replace(&call, &vec![call.as_str(); count].join(","));
    let answers = |count| {
        let place = place("cat replies; cat > /dev/null");
        place.write("replies", [DESCRIBE, LOAD, &graph(1), &answer(count), ""].join("\n"));
        place.generate().expect("answers")
    };
    assert_eq!(answers(MAX_CALLS)[0].rows.len(), MAX_CALLS);
    let answers = answers(MAX_CALLS + 5);
    assert_eq!((answers[0].rows.len(), answers[1].rows.len()), (0, 1));
    let failure = answers[0].failure.as_ref().expect("a failure");
    assert_eq!(failure.to_string(), "truncated: 10005 calls; at most 10000 are read");
}

/// Replies that nobody reads wait in the generator's pipe and not in memory.
#[test]
#[cfg(target_os = "linux")]
fn a_flood_of_long_lines_waits() {
    let place = place(
        "head -c 8000000 /dev/zero | tr '\\0' x > line; echo >> line; echo > started; for i in $(seq 100); do cat line; echo $i > count; done",
    );
    let process = Process::start(&place.program).expect("starts");
    let count = || {
        let text = std::fs::read_to_string(place.dir.path().join("count")).unwrap_or_default();
        text.trim().parse::<u32>().unwrap_or(0)
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while count() == 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(700));
    assert!((1..=4).contains(&count()), "{} lines were taken", count());
    drop(process);
}

#[test]
fn what_a_build_tells_of_the_environment_is_cleared() {
    let mut place = place("cat replies");
    let script = "echo from https://me:rosebud@host/simple; exit 4";
    place.program.build = vec![["sh", "-c", script].map(str::to_owned).to_vec()];
    let error = format!("{:#}", place.program.make_ready().expect_err("fails"));
    let log = std::fs::read_to_string(place.dir.path().join(".tracegym-build.log")).expect("there");
    for text in [error, log] {
        assert!(text.contains("from https://…@host/simple") && !text.contains("rosebud"), "{text}");
    }
}

#[test]
fn limits_hold() {
    for (script, words) in [
        ("sleep 60", "no reply for 2 s"),
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
    assert!(error.contains("after `fit`: not done after 2 s (limits.fit in"), "{error}");
    // The same where the limit is reached between two reports.
    let place = place_that_never_ends_training();
    let error = format!("{:#}", place.fit().expect_err("does not fit"));
    assert!(error.contains("after `fit`: not done after 2 s (limits.fit in"), "{error}");
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
