//! Files of spans by other software, and our own ones as other software checked them
//! (`tests/reference/spans.py`).

use std::path::{Path, PathBuf};
use std::process::Command;

use tracegym::data::spans::{SpanFormat, SpanWriter, TraceAddress, spans};
use tracegym::data::{BuildOptions, Dataset, DatasetManifest, build};
use tracegym::graph::{CallGraph, CallRow, USER};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/spans").join(name)
}

/// The dataset of a manifest with this `[source]`.
fn dataset(source: &str) -> Dataset {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("m.toml");
    std::fs::write(&path, format!("name = \"spans\"\n[source]\n{source}")).unwrap();
    let manifest = DatasetManifest::find(path.to_str().unwrap()).unwrap();
    build(&manifest, &BuildOptions::new(scratch.path())).unwrap()
}

fn of_file(kind: &str, name: &str) -> Dataset {
    dataset(&format!("kind = \"{kind}\"\npath = {:?}\n", file(name)))
}

fn told(graph: &CallGraph) -> Vec<String> {
    let call = |row: CallRow| {
        let CallRow { edge_id, source, destination, kind, start, finish } = row;
        format!("{edge_id} {source}>{destination} {kind} {start}-{finish}")
    };
    graph.rows().into_iter().map(call).collect()
}

#[test]
fn what_the_sdk_of_opentelemetry_exports_is_read() {
    for (kind, name) in [
        ("otlp", "sdk.pb"),
        ("otlp", "sdk.json"),
        ("otlp", "sdk-snake.json"),
        ("zipkin", "sdk-zipkin.json"),
    ] {
        let dataset = of_file(kind, name);
        let [graph] = dataset.graphs() else { panic!("{name}: {}", dataset.card.funnel) };
        assert_eq!(
            told(graph),
            [
                "0 USER>frontend http 0-12",
                "0.1 frontend>cart rpc 2-8",
                "0.1.1 cart>redis mc 4-6",
                "0.2 frontend>mail mq 10-11",
            ],
            "{name}"
        );
        assert_eq!(graph.service().as_str(), "frontend/GET /cart");
        let changes: Vec<u64> = dataset.card.changes.iter().map(|(_, count)| *count).collect();
        assert_eq!(changes, [2, 1], "{name}: {:?}", dataset.card.changes);
    }
}

/// Two graphs.
fn graphs() -> Vec<CallGraph> {
    let row = |id: &str, source: &str, destination: &str, kind: &str, start, finish| CallRow {
        edge_id: id.parse().unwrap(),
        source: source.into(),
        destination: destination.into(),
        kind: kind.parse().unwrap(),
        start,
        finish,
    };
    let one = [
        row("0", USER, "MS_1", "http", 0, 9),
        row("0.2", "MS_1", "MS_2", "rpc", 1, 8),
        row("0.2.1", "MS_2", "MS_3", "db", 2, 3),
        row("0.3", "MS_1", "MS_4", "mc", 8, 9),
    ];
    let other = [row("0", USER, "MS_5", "rpc", 0, 1)];
    [("S_1", &one[..]), ("S_2", &other[..])]
        .map(|(service, rows)| CallGraph::from_rows(service.into(), rows).unwrap())
        .into()
}

/// Set to write the files anew, which `tests/reference/spans.py` then checks.
const RENEW: &str = "TRACEGYM_RENEW_SPANS";

#[test]
fn what_other_software_checked_is_what_is_written_and_read_back() {
    for (format, kind, name) in [
        (SpanFormat::OtlpJson, "otlp", "written.jsonl"),
        (SpanFormat::OtlpProto, "otlp", "written.pb"),
        (SpanFormat::Jaeger, "jaeger", "written-jaeger.json"),
        (SpanFormat::Zipkin, "zipkin", "written-zipkin.json"),
    ] {
        let mut writer = SpanWriter::new(format, Vec::new());
        for (index, graph) in (0..).zip(graphs()) {
            let address = TraceAddress { seed: 7, index, start: 1_700_000_000_000_000_000 };
            writer.trace(&spans(&graph, address)).unwrap();
        }
        let bytes = writer.finish().unwrap();
        if std::env::var_os(RENEW).is_some() {
            std::fs::write(file(name), &bytes).unwrap();
        }
        assert!(bytes == std::fs::read(file(name)).unwrap(), "{name}: {RENEW}=1 writes it anew");
        let dataset = of_file(kind, name);
        let mut read: Vec<Vec<String>> = dataset.graphs().iter().map(told).collect();
        let mut expected: Vec<Vec<String>> = graphs().iter().map(told).collect();
        read.sort();
        expected.sort();
        assert_eq!(read, expected, "{name}");
    }
}

#[test]
fn inspect_prints_a_manifest_that_reads_the_file() {
    let tracegym = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tracegym")).args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let scratch = tempfile::tempdir().unwrap();
    let csv = scratch.path().join("my spans.csv");
    let rows = "trace_id;span_id;parent_span_id;service_name;operation;start_time;duration\n\
                a;1;;front;\"GET /;x\";1700000000000;9\na;2;1;cart;get;1700000000002;5\n\
                b;2;1;cart;get;1700000000002;5\n";
    std::fs::write(&csv, rows).unwrap();
    let csv = csv.to_str().unwrap().to_owned();
    let sdk = ["sdk.pb", "sdk.json", "sdk-zipkin.json", "written-jaeger.json"]
        .map(|name| file(name).to_str().unwrap().to_owned());
    for path in sdk.iter().chain([&csv]) {
        let (code, shown, error) = tracegym(&["data", "inspect", path]);
        assert_eq!((code, error.as_str()), (Some(0), ""), "{shown}");
        let (_, manifest) = shown.split_once("--out DIR`):\n").unwrap();
        let toml = scratch.path().join("m.toml");
        std::fs::write(&toml, manifest).unwrap();
        let out = scratch.path().join("out");
        let (code, built, error) = tracegym(&[
            "data",
            "build",
            toml.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
            "--quiet",
        ]);
        assert_eq!((code, error.as_str()), (Some(0), ""), "{manifest}{built}");
    }
    let (_, shown, _) = tracegym(&["data", "inspect", &csv]);
    for words in [
        "a table of spans, by the names of its columns",
        "not \"valid: not no-root\": trace b, for example",
        "complete, with one root and no gap: 1 of 2 traces (50.0 %)",
        "front/GET /;x: 2 calls, depth 2, 9 ms",
        "unit = \"ms\"",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    // What is nothing that is read, alone and in a folder.
    let old = scratch.path().join("old.json");
    std::fs::write(&old, "[{\"traceId\":\"1\",\"id\":\"2\",\"binaryAnnotations\":[]}]").unwrap();
    let (code, _, error) = tracegym(&["data", "inspect", old.to_str().unwrap()]);
    assert!(code == Some(2) && error.contains("a span of Zipkin's version 1"), "{error}");
    let (code, shown, error) = tracegym(&["data", "inspect", scratch.path().to_str().unwrap()]);
    assert!(shown.contains("a span of Zipkin's version 1"), "{shown}");
    assert!(code == Some(2) && error.contains("1 of 2 files are nothing that is read"), "{error}");
}

#[test]
fn a_wrong_file_is_named_with_what_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    let manifest = scratch.path().join("m.toml");
    let source =
        format!("name = \"x\"\n[source]\nkind = \"jaeger\"\npath = {:?}\n", file("sdk.json"));
    std::fs::write(&manifest, source).unwrap();
    let manifest = DatasetManifest::find(manifest.to_str().unwrap()).unwrap();
    let error = build(&manifest, &BuildOptions::new(scratch.path())).unwrap_err().to_string();
    assert!(
        error.contains("is of another format: a request of OTLP/JSON (`kind = \"otlp\"`)"),
        "{error}"
    );
}

/// The spans of TrainTicket by a mapping are those of the source that has the mapping built in.
#[test]
#[ignore = "needs real traces: set TRACEGYM_DATA (data/README.md)"]
fn real_spans_by_a_mapping_are_those_of_nezha() {
    let root = tracegym::data::data_root().expect("TRACEGYM_DATA");
    for system in ["trainticket", "onlineboutique"] {
        let path = root.join(format!("nezha/{system}.spans.csv.gz"));
        let other = dataset(&format!("kind = \"nezha\"\npath = {path:?}\n"));
        let mapped = dataset(&format!(
            "kind = \"spans\"\npath = {path:?}\n[source.columns]\ntrace = \"TraceID\"\nspan = \"SpanID\"\n\
             parent = \"ParentID\"\nservice = \"PodName\"\noperation = \"OperationName\"\n\
             start = \"StartTimeUnixNano\"\nend = \"EndTimeUnixNano\"\n[source.form]\nroot = \"root\"\n\
             service_is_pod = true\n[source.policy]\nnames = \"operation\"\nentry = \"behind-root\"\n"
        ));
        assert_eq!(mapped.graphs(), other.graphs(), "{system}");
        assert!(mapped.graphs().len() > 4_000);
    }
}
