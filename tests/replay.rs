//! `tracegym replay` through the binary, against a backend that takes traces, refuses them, does not answer,
//! and breaks off.

mod workplace;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message;
use workplace::{Workplace, text};

/// What the backend does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Take,
    /// Takes all but so many spans.
    Reject(i64),
    Busy,
    Refuse,
    /// Says nothing for longer than anybody waits.
    Stall,
    /// Ends the connection in the middle of its answer.
    BreakOff,
}

/// What OTLP sends, as far as it is looked at.
#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<Resource>,
}
#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<Scope>,
}
#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}
#[derive(Clone, PartialEq, Eq, Hash, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent: Vec<u8>,
    #[prost(fixed64, tag = "7")]
    start: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}
#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    message: String,
}

/// Head, body and act of each request.
type Seen = Vec<(String, Vec<u8>, Act)>;

/// A backend that acts by a script, and takes everything when it is at its end.
struct Backend {
    url: String,
    seen: Arc<Mutex<Seen>>,
}

impl Backend {
    fn start(script: &[Act]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let (script, log) = (script.to_vec(), seen.clone());
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, log) = (script.clone(), log.clone());
                std::thread::spawn(move || serve(&stream, &script, &log));
            }
        });
        Self { url, seen }
    }

    fn requests(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// All spans of requests that were taken.
    fn taken(&self) -> Vec<Span> {
        let requests = self.requests();
        let taken = requests.iter().filter(|(.., act)| *act == Act::Take);
        let spans = taken.flat_map(|(_, body, _)| Request::decode(&**body).unwrap().resources);
        spans.flat_map(|resource| resource.scopes).flat_map(|scope| scope.spans).collect()
    }
}

fn serve(stream: &TcpStream, script: &[Act], log: &Mutex<Seen>) {
    let mut lines = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
            head += &line;
        }
        let mut body = vec![0; length];
        if lines.read_exact(&mut body).is_err() {
            return;
        }
        let act = {
            let mut log = log.lock().unwrap();
            let act = script.get(log.len()).copied().unwrap_or(Act::Take);
            log.push((head, body, act));
            act
        };
        let mut out = stream;
        let mut answer = |status: &str, headers: &str, body: &[u8]| {
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n");
            let _ = out.write_all(&[head.as_bytes(), body].concat());
        };
        match act {
            Act::Take => answer("200 OK", "", b""),
            Act::Reject(rejected) => {
                let message = "too old".to_owned();
                let partial_success = Some(PartialSuccess { rejected, message });
                answer("200 OK", "", &Response { partial_success }.encode_to_vec());
            }
            Act::Busy => answer("503 Busy", "retry-after: 0\r\n", b"later"),
            Act::Refuse => answer("400 Bad Request", "", b"no such tenant"),
            Act::Stall => std::thread::sleep(Duration::from_secs(60)),
            Act::BreakOff => {
                let _ = out.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}

/// A working directory with a file of 60 graphs.
fn prepared() -> Workplace {
    let workplace = Workplace::new();
    let (code, said) = workplace.said(&[
        "data",
        "export",
        "simulator",
        "--graphs",
        "60",
        "--format",
        "parquet",
        "--out",
        "graphs.parquet",
        "--quiet",
    ]);
    assert_eq!(code, 0, "{said}");
    workplace
}

/// Replays the graphs with `flags`: exit code, and what was said.
fn replay(workplace: &Workplace, backend: &Backend, flags: &str) -> (Option<i32>, String) {
    let mut arguments = vec!["replay", "graphs.parquet", "--to", &backend.url, "--quiet"];
    if !flags.contains("--rate") {
        arguments.extend(["--rate", "2000/s"]);
    }
    arguments.extend(flags.split_whitespace());
    let output = workplace.run(&arguments);
    (output.status.code(), text(&output))
}

#[test]
fn every_span_arrives_once_whatever_the_batches() {
    let workplace = prepared();
    let start = "--start 2026-01-01T00:00:00Z";
    let sent = |flags: &str| {
        let backend = Backend::start(&[]);
        let (code, said) = replay(&workplace, &backend, &format!("{start} {flags}"));
        assert_eq!(code, Some(0), "{said}");
        let (head, ..) = &backend.requests()[0];
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
        assert!(head.contains("content-type: application/x-protobuf"), "{head}");
        let spans = backend.taken();
        assert!(
            said.contains(&format!(" {} spans, rejected 0, lost 0;", grouped(spans.len()))),
            "{said}"
        );
        let different: HashSet<Span> = spans.iter().cloned().collect();
        assert_eq!(different.len(), spans.len());
        assert!(spans.iter().all(|span| span.trace.len() == 16 && span.id.len() == 8));
        different
    };
    let spans = sent("");
    let traces: HashSet<&[u8]> = spans.iter().map(|span| &*span.trace).collect();
    assert_eq!(traces.len(), 60);
    let ids: HashSet<(&[u8], &[u8])> = spans.iter().map(|span| (&*span.trace, &*span.id)).collect();
    let root_or_known =
        |span: &Span| span.parent.is_empty() || ids.contains(&(&span.trace, &span.parent));
    assert!(spans.iter().all(root_or_known));
    // The same seed sends the same, another one other ids.
    assert_eq!(sent("--batch 1 --connections 1"), spans);
    assert!(sent("--seed 1").is_disjoint(&spans));
    // More than there are: the graphs again, with other ids.
    let more = sent("--count 90");
    assert!(spans.is_subset(&more));
    let traces: HashSet<&[u8]> = more.iter().map(|span| &*span.trace).collect();
    assert_eq!(traces.len(), 90);
}

/// Files of spans, whoever wrote them, are sent as graphs are.
#[test]
fn spans_of_every_format_are_sent() {
    let workplace = prepared();
    let whole = {
        let backend = Backend::start(&[]);
        assert_eq!(replay(&workplace, &backend, "").0, Some(0));
        backend.taken().len()
    };
    for (format, file) in [
        ("otlp-json", "a.jsonl"),
        ("otlp-json", "b.json"),
        ("otlp-proto", "a.pb"),
        ("jaeger", "c.json"),
        ("zipkin", "d.json"),
    ] {
        let flags = ["--graphs", "60", "--format", format, "--out", file, "--quiet"];
        let (code, said) = workplace.said(&[&["data", "export", "simulator"][..], &flags].concat());
        assert_eq!(code, 0, "{said}");
        let backend = Backend::start(&[]);
        let flags = ["--to", &backend.url, "--rate", "2000/s", "--quiet"];
        // Twice in one replay, and both times other spans.
        let output = workplace.run(&[&["replay", file, file][..], &flags].concat());
        assert!(output.status.success(), "{format}: {}", text(&output));
        let spans: HashSet<Span> = backend.taken().into_iter().collect();
        assert_eq!(spans.len(), 2 * whole, "{format}");
        let traces: HashSet<&[u8]> = spans.iter().map(|span| &*span.trace).collect();
        assert_eq!(traces.len(), 120, "{format}");
    }
    workplace.write("bad.json", "{\"spans\": 3}");
    let message = workplace.refused(&["replay", "bad.json", "--to", "http://127.0.0.1:1"]);
    assert!(message.contains("bad.json: content: is neither OTLP"), "{message}");
}

fn grouped(number: usize) -> String {
    tracegym::number::grouped(number as u64, ",")
}

#[test]
fn what_passes_is_tried_again_and_what_is_rejected_counted() {
    let workplace = prepared();
    // One after the other, so that the script's order is that of the requests.
    let one = "--connections 1 --timeout 300ms --batch";
    let backend = Backend::start(&[Act::Take, Act::Busy, Act::Take]);
    let (code, said) = replay(&workplace, &backend, &format!("{one} 10"));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("lost 0; 1 attempts failed and were made again"), "{said}");
    for act in [Act::Stall, Act::BreakOff] {
        let backend = Backend::start(&[act]);
        let (code, said) = replay(&workplace, &backend, &format!("{one} 10"));
        assert_eq!(code, Some(0), "{act:?}: {said}");
        assert!(said.contains("lost 0; 1 attempts failed and were made again"), "{act:?}: {said}");
        let spans = backend.taken();
        let traces: HashSet<&[u8]> = spans.iter().map(|span| &*span.trace).collect();
        assert_eq!(traces.len(), 60, "{act:?}");
    }
    let backend = Backend::start(&[Act::Take, Act::Reject(1), Act::Refuse]);
    let (code, said) = replay(&workplace, &backend, &format!("{one} 1"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("rejected 1, lost "), "{said}");
    assert!(said.contains("the backend said: rejected 1 spans: too old"), "{said}");
}

#[test]
fn a_backend_that_takes_nothing_ends_it_at_once() {
    let workplace = prepared();
    let backend = Backend::start(&[Act::Refuse; 100]);
    let (code, said) = replay(&workplace, &backend, "--connections 1 --batch 1");
    assert_eq!((code, backend.requests().len()), (Some(2), 1), "{said}");
    let words = "/v1/traces: status 400 Bad Request: no such tenant (attempt 1 of 5)";
    assert!(said.contains(words), "{said}");
    // Nobody listens.
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let backend = Backend { url: format!("http://{unused}"), seen: Arc::default() };
    let (code, said) = replay(&workplace, &backend, "--attempts 1");
    assert!(code == Some(2) && said.contains("(attempt 1 of 1)"), "{said}");
}

#[test]
fn the_queue_is_bounded() {
    let workplace = prepared();
    let backend = Backend::start(&[Act::Take, Act::Stall]);
    let flags = "--connections 1 --batch 1 --queue 5 --drop --timeout 2s --rate 200/s --attempts 1";
    let (code, said) = replay(&workplace, &backend, flags);
    assert_eq!(code, Some(1), "{said}");
    let dropped = said.split("made again, ").nth(1).unwrap().split(' ').next().unwrap();
    let dropped: usize = dropped.parse().unwrap();
    assert!((40..60).contains(&dropped), "{said}");
}

#[test]
fn faults_and_the_rate_are_kept_to() {
    let workplace = prepared();
    let backend = Backend::start(&[]);
    let started = std::time::Instant::now();
    let flags = "--rate 100/s --jitter 50% --errors 10% --outliers 50% --missing 10% --skew 50% --count 200";
    let (code, said) = replay(&workplace, &backend, flags);
    assert_eq!(code, Some(0), "{said}");
    // 200 traces, 10 ms apart on average.
    let seconds = started.elapsed().as_secs_f64();
    assert!((1.7..6.0).contains(&seconds), "{seconds}: {said}");
    let injected = said.lines().find(|line| line.starts_with("injected ")).expect("a line");
    let counts = injected.trim_start_matches("injected ").split(", ");
    let number = |count: &str| count.split(' ').next()?.replace(',', "").parse().ok();
    let numbers: Vec<u64> = counts.filter_map(number).collect();
    assert_eq!(numbers.len(), 4, "{injected}");
    assert!(numbers.iter().all(|number| *number > 10), "{injected}");
    assert!(backend.taken().iter().all(|span| span.start <= span.end));
}

#[test]
fn mistakes_are_told_with_the_remedy() {
    let workplace = prepared();
    let refused =
        |flags: &[&str]| workplace.refused(&[&["replay", "graphs.parquet"][..], flags].concat());
    for (flags, words) in [
        (&["--to", "ftp://h"][..], "must be http://HOST:PORT"),
        (&["--to", "http://me:pw@h"], "a key goes into a header"),
        (&["--to", "http://h", "--header-env", "x=TRACEGYM_NO_SUCH"], "unencrypted"),
        (&["--to", "https://h", "--header-env", "x=TRACEGYM_NO_SUCH"], "is not set"),
        (&["--to", "https://h", "--header-env", "x"], "must be NAME=VARIABLE"),
    ] {
        let message = refused(flags);
        assert!(message.contains(words), "{flags:?}: {message}");
    }
    let named = ["replay", "graphs.parquet", "--to", "https://h", "--header-env", "a b=HOME"];
    let message = workplace.refused(&named);
    assert!(message.contains("`a b` and its value are no header"), "{message}");
    for file in ["none.jsonl", "none.parquet"] {
        let message = workplace.refused(&["replay", file, "--to", "http://127.0.0.1:1"]);
        assert!(message.contains(&format!("{file}: cannot be read")), "{message}");
    }
    let message = workplace.refused(&["replay", "simulatr", "--to", "http://127.0.0.1:1"]);
    assert!(message.contains("did you mean `simulator`"), "{message}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_replay_tells_what_was_accepted() {
    let workplace = prepared();
    let backend = Backend::start(&[]);
    let flags = ["--rate", "50/s", "--count", "100000", "--quiet"];
    let child = workplace
        .command(&[&["replay", "graphs.parquet", "--to", &backend.url][..], &flags].concat())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while backend.requests().len() < 5 {
        std::thread::sleep(Duration::from_millis(5));
    }
    // SAFETY: signals a process that this test started and has not waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let output = child.wait_with_output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(130), "{said}");
    let accepted = grouped(backend.taken().len());
    assert!(said.contains(&format!("accepted {accepted} spans, rejected 0, lost 0")), "{said}");
}

/// The commands of docs/using-a-generator.md, one after the other, on a backend of ours.
#[test]
fn the_commands_of_the_document_work() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/using-a-generator.md");
    let document = std::fs::read_to_string(document).unwrap();
    let commands: Vec<&str> =
        document.lines().filter_map(|line| line.strip_prefix("    tracegym ")).collect();
    assert!(commands.len() > 8, "{commands:?}");
    let workplace = Workplace::new();
    let backend = Backend::start(&[]);
    for command in commands {
        let command = command.replace("http://127.0.0.1:4318", &backend.url);
        let arguments: Vec<&str> = command.split_whitespace().collect();
        let output = workplace.run(&arguments);
        assert!(output.status.success(), "{command}: {}", text(&output));
    }
    let traces: HashSet<Vec<u8>> = backend.taken().into_iter().map(|span| span.trace).collect();
    assert!(traces.len() > 1_900, "{}", traces.len());
}
