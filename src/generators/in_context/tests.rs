//! Against servers on this machine that answer as they are told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::endpoint::{Endpoint, EndpointSettings};
use super::store::Store;
use super::*;
use crate::generators::Decoding;
use crate::generators::tests::train_only;
use crate::graph::condition_of;
use crate::model::Sampling;
use crate::progress::Progress;
use crate::secret::{PART, Redactor, Secret};
use crate::testing::paper_example;

const SECRET: &str = "sk-do-not-tell-anyone";

/// A server that gives the n-th request the n-th answer (the last one again and again), and what it
/// was asked.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Raw HTTP responses; an empty one never comes.
    fn start(responses: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/v1/", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let number = {
                    let mut seen = seen.lock().expect("no panic");
                    seen.push(read_request(&stream));
                    seen.len() - 1
                };
                let response = &responses[number.min(responses.len() - 1)];
                if response.is_empty() {
                    std::mem::forget(stream);
                } else {
                    let _ = (&stream).write_all(response.as_bytes());
                }
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic").clone()
    }

    fn endpoint(&self, store: Option<Store>) -> Endpoint {
        self.endpoint_among(store, &[])
    }

    /// With variables of the environment.
    fn endpoint_among(&self, store: Option<Store>, variables: &[(&str, &str)]) -> Endpoint {
        let text = format!("url = {:?}\ntimeout = 1\nattempts = 3", self.url);
        let settings: EndpointSettings = toml::from_str(&text).expect("settings");
        settings.check().expect("fine");
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name)?;
            Some(found.1.to_owned())
        };
        let key = Some(Secret::new(SECRET));
        Endpoint::with(&settings, "model", key, store, Duration::from_millis(1), variable)
            .expect("an endpoint")
    }
}

fn read_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut text, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        text.push_str(&line);
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    text + &String::from_utf8_lossy(&body)
}

fn http(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
}

fn said(text: &str, finish: &str) -> String {
    let body = serde_json::json!({
        "choices": [{"message": {"content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20},
    });
    http("200 OK", "", &body.to_string())
}

fn ask(endpoint: Endpoint, conditions: usize) -> Result<Vec<Generated>> {
    let graph = paper_example();
    let settings: Settings = toml::from_str("model = \"model\"").expect("settings");
    let asked = Asked { settings, pool: vec![graph.clone(); 3], model: Box::new(endpoint) };
    let options = GenerateOptions {
        seed: 0,
        sampling: Sampling { temperature: 0.5, top_k: None },
        decoding: Decoding::Free,
        batch: 1,
        progress: Progress::Quiet,
    };
    asked.generate(&vec![condition_of(&graph); conditions], &options)
}

/// A graph of one call as a model would say it.
const ANSWER: &str = "Sure!\n<edges>\n(edge_id is 0,source is USER,destination is MS_00001,type is http,communication starts at 0 milliseconds,communication finishes at 8 milliseconds)\n</edges>";

#[test]
fn an_endpoint_is_asked_and_its_reply_read() {
    let server = Server::start(vec![said(ANSWER, "stop")]);
    let answers = ask(server.endpoint(None), 3).expect("answers");
    assert_eq!(answers.len(), 3);
    for answer in answers {
        assert_eq!((answer.rows.len(), answer.failure), (1, None));
        assert_eq!((answer.cost.tokens, answer.cost.choices), (120, 20));
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    let request = &requests[0];
    assert!(request.starts_with("POST /v1/chat/completions "), "{request}");
    assert!(request.contains(&format!("Bearer {SECRET}")), "{request}");
    let body: serde_json::Value =
        serde_json::from_str(request.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
    assert_eq!((&body["model"], &body["temperature"]), (&"model".into(), &0.5.into()));
    // Instructions, two examples of two turns, the request.
    assert_eq!(body["messages"].as_array().map(Vec::len), Some(6));
}

#[test]
fn what_passes_is_tried_again() {
    let busy = http("429 Too Many Requests", "retry-after: 0\r\n", "slow down");
    let server = Server::start(vec![busy, String::new(), said(ANSWER, "stop")]);
    let answers = ask(server.endpoint(None), 1).expect("the third attempt answers");
    assert_eq!((answers[0].rows.len(), server.requests().len()), (1, 3));
}

#[test]
fn what_lasts_ends_the_run_and_tells_no_secret() {
    let refused = http("401 Unauthorized", "", &format!("bad key {SECRET}"));
    for (responses, words, attempts) in [
        (vec![refused], "401", 1),
        (vec![http("500 Oops", "", "no")], "attempt 3 of 3", 3),
        (vec![http("200 OK", "", "<html>")], "not JSON", 1),
        (vec![http("200 OK", "", "{}")], "choices[0]", 1),
        (vec![http("302 Found", "location: http://127.0.0.1:1/\r\n", "")], "302", 1),
    ] {
        let server = Server::start(responses);
        let error = format!("{:#}", ask(server.endpoint(None), 1).expect_err(words));
        assert!(error.contains(words) && error.contains(&server.url), "{error}");
        assert!(!error.contains(SECRET), "{error}");
        assert_eq!(server.requests().len(), attempts, "{error}");
    }
}

/// Whether so much of the secret is in `text` that it can be told from other words.
fn tells(text: &str) -> bool {
    Redactor::new(&[Secret::new(SECRET)]).finds(text)
}

#[test]
fn what_is_quoted_is_cleared_before_it_is_cut() {
    // The limit on what is quoted falls before, on and behind each character of the key.
    for padding in 265..=301 {
        let said = format!("{} {SECRET} is not a key", "x".repeat(padding));
        let headers = format!("www-authenticate: Bearer {SECRET}\r\nretry-after: {SECRET}\r\n");
        let server = Server::start(vec![http("401 Unauthorized", &headers, &said)]);
        let error = format!("{:#}", ask(server.endpoint(None), 1).expect_err("refused"));
        assert!(error.contains("xxx") && !tells(&error), "{padding}: {error}");
    }
}

#[test]
fn replies_that_repeat_the_key_are_cleared_of_it_and_kept_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = || Store::open(folder.path()).expect("opens");
    let percent: String = SECRET.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for form in [SECRET, &SECRET[..PART], &SECRET[SECRET.len() - PART..], &percent] {
        let answer = ANSWER.replace("MS_00001", form);
        let server = Server::start(vec![said(&answer, "stop")]);
        let answers = ask(server.endpoint(Some(store())), 1).expect("an answer");
        assert_eq!(&*answers[0].rows[0].destination, "…", "{form}");
        let again = ask(server.endpoint(Some(store())), 1).expect("kept");
        assert_eq!((&again, server.requests().len()), (&answers, 1));
    }
    let texts = || {
        let files = std::fs::read_dir(folder.path()).expect("a folder").flatten();
        files.map(|file| (file.path(), std::fs::read_to_string(file.path()).expect("text")))
    };
    assert_eq!(texts().count(), 4);
    assert!(texts().all(|(_, text)| !tells(&text) && text.contains('…')));
    // A reply from before replies were cleared.
    let server = Server::start(vec![said(ANSWER, "stop")]);
    ask(server.endpoint(Some(store())), 1).expect("an answer");
    for (path, text) in texts() {
        std::fs::write(path, text.replace("MS_00001", SECRET)).expect("written");
    }
    let answers = ask(server.endpoint(Some(store())), 1).expect("kept");
    assert_eq!((&*answers[0].rows[0].destination, server.requests().len()), ("…", 1));
    assert!(texts().all(|(_, text)| !tells(&text)));
}

#[test]
fn a_proxy_is_asked_for_other_machines_only_and_its_password_not_told() {
    let refusal = format!("no {SECRET}, and no pass%2Dword");
    let proxy = Server::start(vec![http("502 Bad Gateway", "", &refusal)]);
    let port = proxy.url.trim_end_matches("/v1/").rsplit(':').next().expect("a port");
    let address = format!("http://me:pass%2Dword@127.0.0.1:{port}");
    let variables = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"].map(|name| (name, address.as_str()));
    let server = Server::start(vec![said(ANSWER, "stop")]);
    ask(server.endpoint_among(None, &variables), 1).expect("reached directly");
    assert!(proxy.requests().is_empty());
    // A name that no resolver knows: the proxy is asked, and does not see the key.
    let elsewhere = Server { url: "https://no-such-host.invalid/v1".into(), ..server };
    let error = ask(elsewhere.endpoint_among(None, &variables), 1).expect_err("no proxy");
    let error = format!("{error:#}");
    assert!(error.contains("through the proxy that HTTPS_PROXY names"), "{error}");
    assert!(!tells(&error) && !error.contains("word"), "{error}");
    let asked = proxy.requests();
    assert!(asked[0].starts_with("CONNECT no-such-host.invalid:443 "), "{asked:?}");
    assert!(asked.iter().all(|request| !tells(request)), "{asked:?}");
}

#[test]
fn replies_are_kept_and_not_paid_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = || Some(Store::open(folder.path()).expect("opens"));
    let failing = http("400 Bad Request", "", "enough");
    let server = Server::start(vec![said(ANSWER, "stop"), said(ANSWER, "length"), failing]);
    // One at a time, so that it is known which are answered.
    let mut endpoint = server.endpoint(store());
    endpoint.one_at_a_time();
    ask(endpoint, 3).expect_err("the third is refused");
    assert_eq!(server.requests().len(), 3);
    let again = Server { url: server.url.clone(), requests: server.requests.clone() };
    let answers = ask(again.endpoint(store()), 2).expect("kept");
    assert_eq!((answers.len(), server.requests().len()), (2, 3));
    for file in std::fs::read_dir(folder.path()).expect("a folder").flatten() {
        let text = std::fs::read_to_string(file.path()).expect("text");
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[test]
fn a_reply_that_was_cut_says_so() {
    let server = Server::start(vec![said("<edges>\n(edge_id is 0,", "length")]);
    let answers = ask(server.endpoint(None), 1).expect("an answer");
    let failure = answers[0].failure.as_ref().expect("a failure");
    assert_eq!(failure.code, ViolationCode::Truncated);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    for (settings, words) in [
        ("model = 'm'\n[endpoint]\nurl = 'ftp://x'", "https://HOST"),
        ("model = 'm'\n[endpoint]\nurl = 'http://example.com/v1'\nkey_env = 'K'", "unencrypted"),
        ("model = 'm'\n[endpoint]\nurl = 'https://me:pw@example.com/v1'", "key_env"),
        ("model = 'm'\n[endpoint]\nurl = 'https://me:p w@example.com/v1'", "key_env"),
        ("model = 'm'\n[endpoint]\nurl = 'https://example.com/v1?key=pw'", "query"),
        ("model = 'm'\n[endpoint]\nurl = 'https://example.com'\nattempts = 0", "attempts"),
        ("model = 'm'\n[endpoint]\nurl = 'https://example.com'\nprice_reply = -1.0", "dollars"),
        ("model = 'm'\nmax_tokens = 0", "max_tokens"),
        ("model = 'm'\nkey = 'sk'", "key"),
    ] {
        let table = settings.parse().expect("TOML");
        let error = build(&table).err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(error.contains(words) && !error.contains("pw"), "{settings}: {error}");
    }
    let unset =
        "model = 'm'\n[endpoint]\nurl = 'https://example.com'\nkey_env = 'TRACEGYM_NO_SUCH'";
    let recipe = build(&unset.parse().expect("TOML")).expect("settings");
    let (out, scratch) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
    let context = FitContext {
        dataset: &train_only(vec![paper_example()]),
        seed: 0,
        device: DeviceChoice::Cpu,
        base: None,
        out: out.path(),
        scratch: scratch.path(),
        progress: Progress::Quiet,
    };
    recipe.fit(&context).expect("keeps examples");
    let error = recipe.load(out.path(), None, DeviceChoice::Cpu).err().expect("no key");
    assert!(error.to_string().contains("TRACEGYM_NO_SUCH"), "{error}");
}
