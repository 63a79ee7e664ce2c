use std::io::Write;

use super::*;
use crate::graph::CallGraph;

const V2022: &str =
    "timestamp,traceid,service,rpc_id,rpctype,um,uminstanceid,interface,dm,dminstanceid,rt\n";

fn options(skip_bad_rows: bool, scratch: &Path) -> BuildOptions {
    BuildOptions {
        data_root: None,
        skip_bad_rows,
        graphs: None,
        scratch: scratch.to_owned(),
        progress: Progress::Quiet,
    }
}

/// A row of the v2022 table.
fn line(time: &str, trace: &str, id: &str, kind: &str, um: &str, dm: &str, rt: &str) -> String {
    format!("{time},{trace},S_34483,{id},{kind},{um},i,x,{dm},i,{rt}\n")
}

fn read_bytes(bytes: &[u8], skip: bool, limit: Option<u64>) -> Result<Harvest> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.csv");
    std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
    let harvest = read(&[path], Flavour::V2022, &options(skip, dir.path()), limit, 0);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "scratch files are removed");
    harvest
}

fn read_rows(rows: &[String]) -> Harvest {
    read_bytes(format!("{V2022}{}", rows.concat()).as_bytes(), false, None).unwrap()
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
    let Harvest { graphs, funnel, .. } = read_rows(&example());
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
fn of_one_rpc_id_the_earliest_row_counts_and_then_the_first() {
    let graphs = read_rows(&[
        line("10", "T", "0", "http", "USER", "MS_1", "9.0"),
        line("12", "T", "0.1", "mc", "MS_1", "MS_2", "1.0"),
        line("11", "T", "0.1", "mc", "MS_1", "MS_3", "1.0"),
        line("11", "T", "0.1", "mc", "MS_1", "MS_4", "1.0"),
    ])
    .graphs;
    assert_eq!(graphs[0].calls()[1].destination.as_str(), "MS_00003");
}

#[test]
fn careful_and_fast_reading_agree() {
    let text = format!("{V2022}{}", example().concat());
    let fast = read_bytes(text.as_bytes(), true, None).unwrap();
    // One bad row sends the same table through the careful reader.
    let spoilt = format!("{text}{}", line("x", "T_9", "0", "http", "USER", "MS_1", "1.0"));
    let careful = read_bytes(spoilt.as_bytes(), true, None).unwrap();
    assert_eq!(fast.graphs, careful.graphs);
    assert_eq!(steps(&fast.funnel)[1..], steps(&careful.funnel)[1..]);
    assert_eq!((fast.funnel.0[0].rows, careful.funnel.0[0].rows), (11, 12));
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
            let files = [path.clone()];
            let options = options(false, scratch.path());
            let (buckets, _) =
                fill(&files, Flavour::V2022, &options, scratch.path(), count).unwrap();
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
    let message = error(&whole[..whole.len() / 2]);
    assert!(message.contains("the gzip archive is cut off here"), "{message}");
    let kept = read_bytes(&whole[..whole.len() / 2], true, None).unwrap();
    assert!(kept.funnel.0[0].rows > 500, "the rows before the damage are kept");
    assert_eq!(kept.funnel.0[0].rows, kept.funnel.0[1].rows + 1);
}

#[test]
fn of_v2021_both_sides_of_a_call_become_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.csv");
    let text = "traceid,timestamp,rpcid,um,rpctype,dm,interface,rt\n\
                t,100,0,,http,aa,entry,-74\n\
                t,101,0.1,aa,rpc,bb,y,9\n\
                t,102,0.1,(?),rpc,bb,y,-7\n\
                t,103,0.1.1,bb,userDefined,cc,,1\n\
                t,103,0.1.2,bb,mc,dd,,-1\n";
    std::fs::write(&path, text).unwrap();
    let found = read(&[path], Flavour::V2021, &options(false, dir.path()), None, 0).unwrap();
    let graph = &found.graphs[0];
    assert_eq!(graph.service().as_str(), "entry");
    assert_eq!((graph.num_edges(), graph.latency(), graph.source(0)), (3, 74, "USER"));
    assert_eq!(graph.calls()[1].response_time(), 9);
}
