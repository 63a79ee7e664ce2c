//! A key that a server repeats in every reply, error and header, and that the build of a baseline prints,
//! is in nothing that a run writes or says.

mod workplace;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use tracegym::secret::{Redactor, Secret};
use workplace::{Workplace, files_below, text};

const KEY: &str = "sk-Planted/Key+0123456789_zyx";
const VARIABLE: &str = "TRACEGYM_TEST_KEY";

const EXPERIMENT: &str = r#"
id = "told"
title = "Told"
paper = "none"
dataset = "simulator"
family = "accuracy"
generators = ["talks", "refuses", "busy", "prints", "training-set-copy"]
conditions = { kind = "grid", max_edges = 3, max_depth = 2, samples = 2 }
sampling = { temperatures = [0.0] }
profiles.smoke = { seeds = [0], graphs = 300 }
"#;

/// The key as servers may repeat it: plain, in parts, and encoded.
fn forms() -> Vec<String> {
    let each = |form: fn(u8) -> String| KEY.bytes().map(form).collect::<String>();
    vec![
        KEY.to_owned(),
        format!("Bearer {KEY}"),
        KEY[..KEY.len() - 1].to_owned(),
        KEY[KEY.len() - 9..].to_owned(),
        each(|byte| format!("%{byte:02X}")),
        each(|byte| format!("\\u{byte:04x}")),
        each(|byte| format!("{byte:02x}")),
        // `user:KEY`, as a header of basic authentication has it.
        "dXNlcjpzay1QbGFudGVkL0tleSswMTIzNDU2Nzg5X3p5eA==".to_owned(),
    ]
}

fn response(path: &str, number: usize) -> String {
    let forms = forms();
    let form = &forms[number % forms.len()];
    let (status, body) = if path.contains("/talks/") {
        let call = |id: &str, from: &str, to: &str| {
            format!(
                "(edge_id is {id},source is {from},destination is {to},type is http,communication starts at 0 milliseconds,communication finishes at 8 milliseconds)"
            )
        };
        let calls = [call("0", "USER", form), call("0.0", form, "MS_1")].join("\n");
        let text = format!("Your key is {form}.\n<edges>\n{calls}\n</edges>\n{form}");
        let choice = serde_json::json!({"message": {"content": text}, "finish_reason": "stop"});
        ("200 OK", serde_json::json!({"choices": [choice], "id": form}).to_string())
    } else {
        // What is quoted of it ends within the key.
        let text = format!("{}{form} is not known; {forms:?}", "no ".repeat(94));
        let status = if path.contains("/busy/") { "503 Busy" } else { "401 Unauthorized" };
        (status, text)
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status} {KEY}\r\nconnection: close\r\nx-key: {KEY}\r\nretry-after: 0\r\nwww-authenticate: Bearer {KEY}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// Reads a request and returns its path, if the key came with it.
fn asked(stream: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(stream);
    let (mut path, mut length, mut authorized) = (String::new(), 0, false);
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        if path.is_empty() {
            path.clone_from(&line);
        }
        authorized |= line.contains(&format!("Bearer {KEY}"));
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    lines.read_exact(&mut body).ok()?;
    authorized.then_some(path)
}

fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    // Ends with the test's process.
    std::thread::spawn(move || {
        for (number, mut stream) in listener.incoming().flatten().enumerate() {
            if let Some(path) = asked(&stream) {
                let _ = stream.write_all(response(&path, number).as_bytes());
            }
        }
    });
    format!("http://{address}")
}

/// Fails on every file below `dir` that holds the key or a part of it; counts the others.
fn search(dir: &Path, redactor: &Redactor) -> usize {
    let files = files_below(dir);
    for path in &files {
        assert!(!redactor.finds(&path.to_string_lossy()), "{}", path.display());
        let bytes = std::fs::read(path).expect("readable");
        let text = String::from_utf8_lossy(&bytes);
        assert!(!redactor.finds(&text), "{}: {}", path.display(), redactor.clear(&text));
    }
    files.len()
}

#[test]
fn nothing_that_a_run_writes_or_says_holds_the_key() {
    let place = Workplace::new();
    let dir = place.path();
    place.write("told.toml", EXPERIMENT);
    let url = serve();
    for name in ["talks", "refuses", "busy"] {
        let manifest = format!(
            "generator = \"in-context\"\nlabel = \"{name}\"\nsource = \"none\"\nnetwork = true\n[settings]\nmodel = \"m\"\n[settings.endpoint]\nurl = \"{url}/{name}/v1\"\nkey_env = \"{VARIABLE}\"\nattempts = 2\n"
        );
        place.write(&format!("baselines/{name}.toml"), &manifest);
    }
    let manifest = "label = \"prints\"\nsource = \"none\"\ncommand = [\"true\"]\nbuild = [[\"sh\", \"-c\", \"env; env >&2; exit 3\"]]\n";
    place.write("baselines/prints/baseline.toml", manifest);
    let run = |arguments: &[&str]| {
        let output = place
            .command(arguments)
            .env(VARIABLE, KEY)
            .env("TRACEGYM_REPLIES", dir.join("replies"))
            // Not for this machine, whatever they say.
            .envs(
                ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"].map(|name| (name, "http://127.0.0.1:9")),
            )
            .env_remove("NO_PROXY")
            .output()
            .expect("runs");
        (output.status.code(), text(&output))
    };
    let redactor = Redactor::new(&[Secret::new(KEY)]);
    assert!(forms().iter().all(|form| redactor.finds(form)));
    // Twice: what is kept is read again.
    for _ in 0..2 {
        let (code, said) = run(&["run", "told.toml", "--profile", "smoke"]);
        assert_eq!(code, Some(1), "{said}");
        for words in ["status 401", "status 503", "exit status: 3"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!redactor.finds(&said), "{}", redactor.clear(&said));
    }
    let files = search(dir, &redactor);
    assert!(files > 20, "only {files} files");
    let table = std::fs::read_to_string(dir.join("results/told/smoke/accuracy.csv"));
    let table = table.expect("a table");
    assert!(table.contains("talks") && table.contains("status 401"), "{table}");
    // A URL that holds the key would be published.
    let manifest = std::fs::read_to_string(dir.join("baselines/talks.toml")).expect("there");
    let path = dir.join("baselines/talks.toml");
    std::fs::write(path, manifest.replace("/talks/", &format!("/{KEY}/"))).expect("written");
    let (code, said) = run(&["run", "told.toml", "--profile", "smoke"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("holds the key") && !redactor.finds(&said), "{}", redactor.clear(&said));
}
