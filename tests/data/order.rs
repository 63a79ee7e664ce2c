//! The order of rows and files makes no difference: rows of every source are shuffled and dealt out
//! to several files.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use tracegym::data::{BuildOptions, Dataset, DatasetManifest, SplitSpec, build};

/// Files that shuffled rows are dealt out to.
const FILES: usize = 3;

/// Rows, the same rows shuffled, and a file for each place of a row.
type Shuffled = (Vec<String>, Vec<String>, Vec<usize>);

fn shuffled(rows: impl Strategy<Value = Vec<String>>) -> impl Strategy<Value = Shuffled> {
    rows.prop_flat_map(|rows| {
        let files = prop::collection::vec(0..FILES, rows.len());
        (Just(rows.clone()), Just(rows).prop_shuffle(), files)
    })
}

/// Writes `rows` below `header` to the files of a new folder that `file` names for each.
fn write(
    folder: &Path,
    extension: &str,
    header: &str,
    rows: &[String],
    file: impl Fn(usize, &str) -> usize,
) {
    std::fs::create_dir(folder).unwrap();
    let mut texts = vec![String::new(); FILES];
    for (index, row) in rows.iter().enumerate() {
        texts[file(index, row)].push_str(row);
    }
    for (index, text) in texts.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
        let path = folder.join(format!("part-{index}.{extension}"));
        std::fs::write(path, format!("{header}{text}")).unwrap();
    }
}

fn dataset(source: Value, scratch: &Path) -> Dataset {
    let manifest = DatasetManifest {
        name: "shuffled".into(),
        source: serde_json::from_value(source).unwrap(),
        split: SplitSpec { test_share: 0.3, ..SplitSpec::default() },
        graphs: None,
        max_graphs: None,
        skip_bad_rows: false,
        prompts: None,
        folder: None,
    };
    let options = BuildOptions { graphs: Some(50), ..BuildOptions::new(scratch) };
    let mut dataset = build(&manifest, &options).unwrap();
    dataset.save(scratch).unwrap();
    dataset
}

/// The datasets of the rows in one file, and of the shuffled rows in several.
fn both(
    extension: &str,
    header: &str,
    (rows, shuffled, files): &Shuffled,
    file: impl Fn(usize, &str, &[usize]) -> usize,
    source: impl Fn(PathBuf) -> Value,
) -> [Dataset; 2] {
    let dir = tempfile::tempdir().unwrap();
    let (one, several) = (dir.path().join("one"), dir.path().join("several"));
    write(&one, extension, header, rows, |_, _| 0);
    write(&several, extension, header, shuffled, |index, row| file(index, row, files));
    [one, several].map(|folder| dataset(source(folder), dir.path()))
}

fn any_file(index: usize, _: &str, files: &[usize]) -> usize {
    files[index]
}

fn same(datasets: &[Dataset; 2]) -> Result<(), TestCaseError> {
    let [one, several] = datasets;
    prop_assert_eq!(&one.card.funnel, &several.card.funnel);
    prop_assert_eq!(&one.card.labels, &several.card.labels);
    prop_assert_eq!(&one.card.hash, &several.card.hash);
    Ok(())
}

/// A row of a raw table. Rows of one trace are near each other in everything, so that ids repeat,
/// rows agree in time and differ in what they say.
#[derive(Clone, Debug)]
struct RawRow {
    time: i64,
    id: &'static str,
    kind: &'static str,
    um: &'static str,
    dm: &'static str,
    rt: u32,
    by_server: bool,
    service: &'static str,
}

/// Rpc id, caller and called of the calls of all traces.
const CALLS: [(&str, &str, &str); 4] = [
    ("0", "", "MS_1"),
    ("0.1", "MS_1", "MS_2"),
    ("0.2", "MS_1", "MS_3"),
    ("0.1.1", "MS_2", "MS_4"),
];

fn raw_row() -> impl Strategy<Value = RawRow> {
    (
        (0..CALLS.len(), 0..2i64, 0..2u32, any::<bool>()),
        prop_oneof![6 => Just(None), 1 => Just(Some("(?)")), 1 => Just(Some("MS_7"))],
        prop_oneof![6 => Just(None), 1 => Just(Some("NAN")), 1 => Just(Some("MS_8"))],
        prop::sample::select(vec!["rpc", "rpc", "mc", "http", "userDefined"]),
        prop::sample::select(vec!["S_9", "S_10", ""]),
    )
        .prop_map(|((call, time, rt, by_server), other_um, other_dm, kind, service)| {
            let (id, um, dm) = CALLS[call];
            let depth = id.len() as u32 / 2;
            RawRow {
                time: 100 + 3 * i64::from(depth) + time,
                id,
                kind,
                um: other_um.unwrap_or(um),
                dm: other_dm.unwrap_or(dm),
                rt: 40 - 10 * depth + rt,
                by_server,
                service,
            }
        })
}

/// Rows of some traces, each with a row of its root among others.
fn raw_rows(line: fn(usize, &RawRow) -> String) -> impl Strategy<Value = Vec<String>> {
    let root = RawRow {
        time: 100,
        id: "0",
        kind: "http",
        um: "",
        dm: "MS_1",
        rt: 41,
        by_server: true,
        service: "S_9",
    };
    prop::collection::vec(prop::collection::vec(raw_row(), 0..8), 1..6).prop_map(move |traces| {
        let rows = traces.iter().enumerate().flat_map(|(trace, rows)| {
            let rows = std::iter::once(&root).chain(rows);
            rows.map(move |row| line(trace, row)).collect::<Vec<_>>()
        });
        rows.collect()
    })
}

const V2021: &str = ",traceid,timestamp,rpcid,um,rpctype,dm,interface,rt\n";

fn v2021_line(trace: usize, row: &RawRow) -> String {
    let RawRow { time, id, kind, um, dm, rt, by_server, service } = row;
    let sign = if *by_server { "-" } else { "" };
    format!("7,t{trace},{time},{id},{um},{kind},{dm},{service},{sign}{rt}\n")
}

const V2022: &str =
    "timestamp,traceid,service,rpc_id,rpctype,um,uminstanceid,interface,dm,dminstanceid,rt\n";

fn v2022_line(trace: usize, row: &RawRow) -> String {
    let RawRow { time, id, kind, um, dm, rt, service, .. } = row;
    let um = if um.is_empty() { "USER" } else { um };
    format!("{time},T_{trace},{service},{id},{kind},{um},p,i,{dm},p,{rt}.5\n")
}

const CALL_TABLE: &str = "graph_index,service,edge_id,type,source,destination,start_ms,finish_ms\n";

/// Graphs of one or two calls, some of them equal.
fn call_table() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec((0..2u32, 0..2u32, any::<bool>()), 1..12).prop_map(|graphs| {
        let rows = graphs.into_iter().enumerate().flat_map(|(index, (service, time, second))| {
            let call = |rest: &str| format!("{},S_{service},{rest}\n", index * 7);
            let root = call(&format!("0,http,USER,MS_1,0,{time}"));
            std::iter::once(root).chain(second.then(|| call("0.1,rpc,MS_1,MS_2,0,0")))
        });
        rows.collect()
    })
}

/// Rows of one graph have to be in one file.
fn file_of_graph(_: usize, row: &str, files: &[usize]) -> usize {
    let index: usize = row.split(',').next().unwrap().parse().unwrap();
    files[index / 7 % files.len()]
}

/// Structures with and without a number, many with the same number of traces.
fn structures() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec((0..2u32, 1..3u32, any::<bool>(), 1..3u32), 1..12).prop_map(|lines| {
        let lines = lines.into_iter().enumerate().map(|(index, (service, num, numbered, weight))| {
            let number = if numbered { format!(r#""graph":{index},"#) } else { String::new() };
            format!(
                r#"{{{number}"service":"S_{service}","num":{num},"edges":[["USER","A","http",1],["A","B{index}","mc",{weight}]]}}"#
            ) + "\n"
        });
        lines.collect()
    })
}

const SPANS: &str =
    "TraceID,SpanID,ParentID,PodName,OperationName,StartTimeUnixNano,EndTimeUnixNano\n";

/// Traces of spans that begin together, below the root or one another; ids repeat at times.
fn spans() -> impl Strategy<Value = Vec<String>> {
    let span = (1..6u32, 0..4u32, 0..2u32, 0..2i64, 0..3i64);
    prop::collection::vec(prop::collection::vec(span, 0..6), 1..5).prop_map(|traces| {
        let rows = traces.into_iter().enumerate().flat_map(|(trace, spans)| {
            let root = format!("t{trace},s0,root,gate-1-a,/api/{trace},0,9000000\n");
            let below = spans.into_iter().map(move |(id, parent, operation, start, length)| {
                let (start, end) = (start * 1_000_000, (start + length - 1) * 1_000_000);
                let parent = parent.min(id - 1);
                format!("t{trace},s{id},s{parent},pod-1-a,op{operation},{start},{}\n", end.max(0))
            });
            std::iter::once(root).chain(below)
        });
        rows.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn of_v2021_rows(rows in shuffled(raw_rows(v2021_line))) {
        let source = |path| json!({"kind": "alibaba-v2021", "path": path});
        same(&both("csv", V2021, &rows, any_file, source))?;
    }

    #[test]
    fn of_v2022_rows(rows in shuffled(raw_rows(v2022_line))) {
        let source = |path| json!({"kind": "alibaba-v2022", "path": path});
        same(&both("csv", V2022, &rows, any_file, source))?;
    }

    #[test]
    fn of_call_tables(rows in shuffled(call_table())) {
        let source = |path| json!({"kind": "call-table", "path": path});
        let (rows, mut shuffled, files) = rows;
        // The indexes only tell graphs apart.
        for row in &mut shuffled {
            let (index, rest) = row.split_once(',').unwrap();
            *row = format!("{},{rest}", 700 - index.parse::<usize>().unwrap());
        }
        let rows = (rows, shuffled, files);
        same(&both("csv", CALL_TABLE, &rows, file_of_graph, source))?;
    }

    #[test]
    fn of_structures(lines in shuffled(structures())) {
        let dir = tempfile::tempdir().unwrap();
        let manifest = dir.path().join("times.toml");
        let call = "0,S_1,0,http,USER,MS_1,0,7\n1,S_1,0,http,USER,MS_1,0,9\n";
        std::fs::write(dir.path().join("times.csv"), format!("{CALL_TABLE}{call}")).unwrap();
        let text = "name = \"times\"\n[source]\nkind = \"call-table\"\npath = \"times.csv\"\n";
        std::fs::write(&manifest, text).unwrap();
        let times_from = manifest.to_str().unwrap();
        let kind = "weighted-structures";
        let source =
            |path| json!({"kind": kind, "path": path, "times_from": times_from, "seed": 1});
        same(&both("jsonl", "", &lines, any_file, source))?;
    }

    #[test]
    fn of_spans(rows in shuffled(spans())) {
        let source = |path| json!({"kind": "nezha", "path": path});
        same(&both("csv", SPANS, &rows, any_file, source))?;
    }
}
