use std::io::Write;

use super::*;
use crate::data::golden;
use crate::graph::CallGraph;
use crate::progress::Progress;

const V2022: &str =
    "timestamp,traceid,service,rpc_id,rpctype,um,uminstanceid,interface,dm,dminstanceid,rt\n";

/// A row of the v2022 table.
fn line(time: &str, trace: &str, id: &str, kind: &str, um: &str, dm: &str, rt: &str) -> String {
    format!("{time},{trace},S_34483,{id},{kind},{um},i,x,{dm},i,{rt}\n")
}

fn read_bytes(bytes: &[u8], skip: bool, limit: Option<u64>) -> Result<SourceOutput> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.csv");
    std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
    let request = SourceRequest {
        skip_bad_rows: skip,
        graphs: limit,
        ..SourceRequest::of(&path, dir.path())
    };
    let output = read(Flavour::V2022, &request);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "scratch files are removed");
    output
}

fn read_rows(rows: &[String]) -> SourceOutput {
    read_bytes(format!("{V2022}{}", rows.concat()).as_bytes(), false, None).unwrap()
}

#[test]
fn golden() {
    let rows = "1003,T_1,S_1,0,http,USER,i,x,MS_7,i,9.7\n\
                1004,T_1,S_1,0.1,mc,MS_7,i,x,MS_8,i,2.0\n\
                1005,T_1,S_1,0.2,rpc,MS_7,i,x,MS_9,i,1.4\n\
                1005,T_1,S_1,0.2,rpc,UNKNOWN,i,x,MS_9,i,3.0\n\
                1006,T_2,S_1,0,http,USER,i,x,MS_7,i,4.0\n\
                1006,T_2,S_1,0.1.1,rpc,MS_7,i,x,MS_9,i,1.0\n\
                1009,T_3,S_2,0,http,USER,i,x,MS_5,i,4.0\n";
    golden::check(
        VERSION,
        "[source]\nkind = \"alibaba-v2022\"\npath = \"rows.csv\"\n",
        &[("rows.csv", &format!("{V2022}{rows}"))],
    );
}

fn steps(funnel: &Funnel) -> Vec<(&str, u64, u64)> {
    let steps = funnel.0.iter();
    steps.map(|s| (s.step.as_str(), s.rows, s.traces.unwrap_or(0))).collect()
}

/// Three traces: complete, with an orphan, and a later copy of the first.
fn example() -> Vec<String> {
    vec![
        line("1004", "T_1", "0.1", "mc", "MS_7", "MS_12345678", "2.0"),
        line("1003", "T_1", "0", "http", "USER", "MS_7", "9.7"),
        line("1004", "T_1", "0.1", "mc", "MS_7", "MS_12345678", "2.0"),
        line("1005", "T_1", "0.2", "grpc", "MS_7", "MS_8", "1.0"),
        line("1005", "T_1", "0.3", "rpc", "UNKNOWN", "MS_8", "1.0"),
        line("1005", "T_1", "0.4", "rpc", "MS_7", "MS_8", ""),
        line("5", "T_2", "0", "http", "USER", "MS_7", "9.0"),
        line("6", "T_2", "0.1.1", "mc", "MS_7", "MS_9", "2.0"),
        line("1", "T_3", "0", "http", "UNAVAILABLE", "MS_7", "9.0"),
        line("20", "T_4", "0", "http", "USER", "MS_7", "9.0"),
        line("21", "T_4", "0.1", "mc", "MS_7", "MS_12345678", "2.0"),
    ]
}

#[test]
fn the_paper_steps_are_taken_in_order_and_counted() {
    let SourceOutput { graphs, funnel, .. } = read_rows(&example());
    assert_eq!(
        steps(&funnel),
        [
            ("row of the table", 11, 4),
            ("type is mc, db, http, rpc or mq", 10, 4),
            ("um and dm are known", 8, 3),
            ("has a response time", 7, 3),
            ("first of its rpc id in its trace", 6, 3),
            ("valid: not missing-parent", 4, 2),
            ("depth is at most 15", 4, 2),
            ("differs from all other graphs", 2, 1),
        ]
    );
    assert_eq!(graphs.len(), 1);
    let rows: Vec<String> = graphs[0].rows().iter().map(|row| format!("{row:?}")).collect();
    assert_eq!(graphs[0].service().as_str(), "S_000034483");
    assert!(rows[0].contains("\"USER\"") && rows[0].contains("\"MS_00007\""), "{rows:?}");
    assert!(rows[1].contains("\"MS_12345678\""), "{rows:?}");
    let times: Vec<_> = graphs[0].calls().iter().map(|call| (call.start, call.finish)).collect();
    assert_eq!(times, [(0, 9), (1, 3)]);
}

#[test]
fn of_one_rpc_id_the_earliest_row_counts_and_then_content() {
    let mut rows = [
        line("10", "T", "0", "http", "USER", "MS_1", "9.0"),
        line("12", "T", "0.1", "mc", "MS_1", "MS_2", "1.0"),
        line("11", "T", "0.1", "mc", "MS_1", "MS_4", "1.0"),
        line("11", "T", "0.1", "rpc", "MS_1", "MS_3", "1.0"),
        line("11", "T", "0.1", "mc", "MS_1", "MS_3", "3.0"),
        line("11", "T", "0.1", "mc", "MS_1", "MS_3", "2.0"),
    ];
    for _ in 0..rows.len() {
        rows.rotate_left(1);
        let graphs = read_rows(&rows).graphs;
        let call = &graphs[0].calls()[1];
        assert_eq!((call.destination.as_str(), call.kind.as_str()), ("MS_00003", "mc"));
        assert_eq!((call.start, call.response_time()), (1, 2));
    }
}

/// Rows with one field too many or too few, of which the others can be read as if nothing were
/// wrong: a second rpc id, a comma at the end, an end that is cut off, a field that is left out.
fn shifted_rows() -> [String; 4] {
    let leaf =
        |id: &str, pod: &str, rt: &str| format!("5002,T_3,S_30,{id},mc,MS_11,i,x,MS_12{pod}{rt}\n");
    [
        leaf("0.1.1,0.1.1", ",", ",1.0"),
        leaf("0.1.1", ",i", ",1.0,"),
        leaf("0.1.1", ",i", ""),
        leaf("0.1.1", "", ",1.0"),
    ]
}

#[test]
fn a_row_that_is_shifted_is_bad_whatever_the_other_rows_are() {
    let table = |row: &str| {
        let whole = [
            line("1000", "T_1", "0", "http", "USER", "MS_10", "9.0"),
            line("5000", "T_3", "0", "http", "USER", "MS_10", "8.0"),
        ];
        format!("{V2022}{}{row}{}", whole[0], whole[1])
    };
    let other = line("9100", "T_4", "0", "http", "USER", "MS_10", "oops");
    for row in shifted_rows() {
        let fields = row.split(',').count();
        let error = read_bytes(table(&row).as_bytes(), false, None).err().unwrap().to_string();
        let expected = format!("line 3: {fields} fields where the header has 11");
        assert!(error.contains(&expected), "{error}");
        let kept = read_bytes(table(&row).as_bytes(), true, None).unwrap();
        assert_eq!((kept.funnel.0[0].rows, kept.funnel.0[1].rows), (3, 2));
        // Its trace lacks a call, and is not taken for one that never made it.
        let lost = kept.funnel.0.iter().find(|step| step.step == "all of its rows can be read");
        assert_eq!(lost.map(|step| step.rows), Some(1));
        assert_eq!((kept.graphs.len(), kept.graphs[0].latency()), (1, 9));
        let both = read_bytes((table(&row) + &other).as_bytes(), true, None).unwrap();
        assert_eq!((both.funnel.0[0].rows, both.funnel.0[1].rows), (4, 2));
        assert_eq!(kept.graphs, both.graphs);
    }
}

#[test]
fn archives_and_the_order_of_rows_make_no_difference() {
    let rows = example();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(format!("{V2022}{}", rows.concat()).as_bytes()).unwrap();
    let zipped = read_bytes(&gzip.finish().unwrap(), false, None).unwrap();
    let mut reversed = rows.clone();
    reversed.reverse();
    let plain = read_rows(&reversed);
    assert_eq!(zipped.graphs, plain.graphs);
    assert_eq!(zipped.funnel, plain.funnel);
}

#[test]
fn a_limit_keeps_the_first_by_fingerprint() {
    let rows: Vec<String> = (0..50)
        .map(|i| line("5", &format!("T_{i}"), "0", "http", "USER", "MS_1", &format!("{i}.0")))
        .collect();
    let all = read_rows(&rows).graphs;
    assert_eq!(all.len(), 50);
    let text = format!("{V2022}{}", rows.concat());
    let some = read_bytes(text.as_bytes(), false, Some(20)).unwrap();
    assert_eq!(some.graphs, all[..20]);
    assert_eq!(steps(&some.funnel).last(), Some(&("among 20 drawn at random", 20, 20)));
}

#[test]
fn graphs_do_not_depend_on_the_number_of_buckets() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.csv");
    std::fs::write(&path, format!("{V2022}{}", example().concat())).unwrap();
    let graphs: Vec<Vec<CallGraph>> = [1, 3, 64]
        .map(|count| {
            let scratch = tempfile::tempdir().unwrap();
            let mut buckets = Buckets::new(scratch.path(), count);
            let files = [path.clone()];
            scan::read(&files, Flavour::V2022, &mut buckets, false, Progress::Quiet).unwrap();
            let names = buckets.names(Flavour::V2022);
            let partitions = Partitions::new(scratch.path(), count).unwrap();
            for path in buckets.finish().unwrap() {
                assemble::bucket(&path, Flavour::V2022, &names, 0, &partitions).unwrap();
            }
            partitions.finish(&names, None).unwrap().0
        })
        .into();
    assert_eq!(graphs[0].len(), 1);
    assert!(graphs.iter().all(|found| *found == graphs[0]));
}

#[test]
fn what_is_not_a_trace_table_is_told_with_its_place() {
    let good = line("1003", "T_1", "0", "http", "USER", "MS_7", "9.0");
    let remedy = crate::data::lines::SKIP_REMEDY;
    let cases: [(Vec<u8>, &str); 8] = [
        (
            line("-3", "T", "0", "http", "USER", "MS_7", "9.0").into(),
            "line 3, column timestamp: `-3` is negative",
        ),
        (
            line("3", "T", "0", "http", "USER", "MS_7", "-9.5").into(),
            "line 3, column rt: `-9.5` is negative",
        ),
        (
            line("3", "T", "0", "http", "USER", "MS_7", "fast").into(),
            "line 3, column rt: `fast` is not a number",
        ),
        (
            line("soon", "T", "0", "http", "USER", "MS_7", "1").into(),
            "line 3, column timestamp: `soon` is not a number",
        ),
        (
            line("3", "", "0", "http", "USER", "MS_7", "1").into(),
            "line 3, column traceid: has no value",
        ),
        (
            line("3", "T", "0", "http", "USER", "MS_7,MS_8", "1").into(),
            "line 3: 12 fields where the header has 11",
        ),
        (b"3,T,S_1,0,http,\xff,i,x,MS_1,i,1\n".into(), "line 3: the line is not UTF-8 (byte 16)"),
        (
            line("3", "T", "0", "http", "USER", &"x".repeat(70_000), "1").into(),
            "line 3: the line is longer than 65536 bytes",
        ),
    ];
    for (row, expected) in cases {
        let mut bytes = format!("{V2022}{good}").into_bytes();
        bytes.extend_from_slice(&row);
        let error = read_bytes(&bytes, false, None).err().unwrap().to_string();
        assert!(error.ends_with(&format!("rows.csv: {expected}: {remedy}")), "{error}");
        let kept = read_bytes(&bytes, true, None).unwrap();
        assert_eq!(kept.graphs.len(), 1, "{expected}");
        assert_eq!((kept.funnel.0[0].rows, kept.funnel.0[1].rows), (2, 1));
    }
}

#[test]
fn empty_files_missing_columns_and_cut_archives_are_told() {
    let error = |bytes: &[u8]| read_bytes(bytes, false, None).err().unwrap().to_string();
    assert!(
        error(b"").ends_with("line 1: is empty: expected a line with the names of the columns")
    );
    let message = error(b"timestamp,traceid,service,rpcid,rpctype,um,dm,rt\n");
    assert!(message.contains("line 1, column rpc_id: is missing"), "{message}");
    assert!(message.ends_with("did you mean `rpcid`?"), "{message}");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    let rows: Vec<String> = (0..2000)
        .map(|i| line("5", &format!("T_{i}"), "0", "http", "USER", "MS_1", "1.0"))
        .collect();
    gzip.write_all(format!("{V2022}{}", rows.concat()).as_bytes()).unwrap();
    let whole = gzip.finish().unwrap();
    let half = &whole[..whole.len() / 2];
    assert!(error(half).contains("the gzip archive is cut off here"), "{}", error(half));
    // What is lost is not a row: no option leaves it out.
    let skipping = read_bytes(half, true, None).err().unwrap().to_string();
    assert!(skipping.contains("the gzip archive is cut off here"), "{skipping}");
}

/// The graphs of v2021 rows, in any order: fields from `traceid` on, without the index.
fn read_v2021(rows: &[&str]) -> SourceOutput {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.csv");
    let read_in_order = |rows: &[&str]| {
        let rows = rows.join("\n");
        let text = format!("traceid,timestamp,rpcid,um,rpctype,dm,interface,rt\n{rows}\n");
        std::fs::write(&path, text).unwrap();
        read(Flavour::V2021, &SourceRequest::of(&path, dir.path())).unwrap()
    };
    let found = read_in_order(rows);
    let mut rows = rows.to_vec();
    for _ in 1..rows.len() {
        rows.rotate_left(1);
        let again = read_in_order(&rows);
        assert_eq!((&again.graphs, &again.funnel), (&found.graphs, &found.funnel));
    }
    found
}

#[test]
fn of_v2021_both_sides_of_a_call_become_one() {
    let found = read_v2021(&[
        "t,100,0,,http,aa,entry,-74",
        "t,101,0.1,aa,rpc,bb,y,9",
        "t,102,0.1,(?),rpc,bb,y,-7",
        "t,103,0.1.1,bb,userDefined,cc,,1",
        "t,103,0.1.2,bb,mc,dd,,-1",
    ]);
    let graph = &found.graphs[0];
    assert_eq!(graph.service().as_str(), "entry");
    assert_eq!((graph.num_edges(), graph.latency(), graph.source(0)), (3, 74, "USER"));
    assert_eq!(graph.calls()[1].response_time(), 9);
}

#[test]
fn of_v2021_the_callers_row_counts_even_if_the_servers_clock_is_earlier() {
    // The called side's clock is behind by so much that the call would begin before the trace.
    let found = read_v2021(&[
        "t,1000,0,,http,aa,entry,-40",
        "t,995,0.1,aa,rpc,bb,y,-15",
        "t,1010,0.1,aa,rpc,bb,y,20",
    ]);
    let calls = found.graphs[0].calls();
    assert_eq!((calls[0].start, calls[1].start, calls[1].finish), (0, 10, 30));
    // Without the caller's row nothing can be said against that clock.
    let alone = read_v2021(&["t,1000,0,,http,aa,entry,-40", "t,995,0.1,aa,rpc,bb,y,-15"]);
    assert!(alone.graphs.is_empty());
    assert!(alone.funnel.to_string().contains("valid: not start-before-parent"));
}

#[test]
fn of_v2021_one_rpc_id_of_several_calls_is_one_of_them_and_whole() {
    // Three calls and a called side under one id, all at one time.
    let rows = [
        "t,1000,0,,http,aa,entry,-40",
        "t,1002,0.1,aa,mc,cc,,1",
        "t,1002,0.1,aa,mc,dd,,2",
        "t,1002,0.1,aa,rpc,bb,y,13",
        "t,1002,0.1,aa,rpc,bb,y,-11",
    ];
    let found = read_v2021(&rows);
    let call = &found.graphs[0].calls()[1];
    assert_eq!(
        (call.destination.as_str(), call.kind.as_str(), call.response_time()),
        ("bb", "rpc", 13)
    );
    let kept = found.funnel.0.iter().find(|step| step.step.starts_with("first of its rpc id"));
    assert_eq!(kept.map(|step| step.rows), Some(2));
    // A caller that is not what the call above reached is a reason of its own.
    let other = read_v2021(&["t,1000,0,,http,aa,entry,-40", "t,1002,0.1,ee,mc,cc,,1"]);
    assert!(other.graphs.is_empty());
    assert!(other.funnel.to_string().contains("valid: not source-mismatch"), "{}", other.funnel);
}

#[test]
fn of_v2021_a_microservice_without_a_name_is_never_in_a_graph() {
    for unknown in ["", "(?)", "NAN", "nan"] {
        // The entry call's source, the caller's view of a call, the interface of the entry.
        let found = read_v2021(&[
            &format!("t,1000,0,{unknown},http,aa,{unknown},-41"),
            &format!("t,1001,0.1,aa,rpc,{unknown},y,15"),
            "t,1002,0.1,aa,rpc,bb,y,-13",
            // The entry call reaches nobody.
            &format!("u,1000,0,,http,{unknown},entry,-43"),
            "u,1001,0.1,aa,rpc,bb,y,15",
            // A second proxy, whose own call is not in the table.
            "v,1000,0,,http,aa,entry,-159",
            &format!("v,1001,0.1.1,{unknown},http,cc,y,-121"),
            "v,1002,0.1.1.1,cc,mc,bb,,0",
        ]);
        let [graph] = found.graphs.as_slice() else { panic!("{unknown}: {}", found.funnel) };
        assert_eq!((graph.service().as_str(), graph.num_edges()), ("aa", 2));
        assert_eq!(graph.calls()[1].destination.as_str(), "bb");
        let funnel = found.funnel.to_string();
        assert!(
            funnel.contains("not no-root") && funnel.contains("not missing-parent"),
            "{funnel}"
        );
    }
}

#[test]
fn datasets_say_that_files_may_be_missing() {
    assert_eq!(read_rows(&example()).labels, [UNREAD]);
}
