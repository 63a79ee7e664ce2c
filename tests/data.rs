//! Datasets, from files to a card. Fixtures are written by the tests; checks against real traces
//! are ignored unless they are asked for, and need a folder that `TRACEGYM_DATA` names.

#[path = "data/order.rs"]
mod order;
#[path = "data/reference.rs"]
mod reference;
#[path = "data/spans.rs"]
mod spans;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;

use tracegym::data::{BuildOptions, Dataset, DatasetManifest, Side, build, data_root};

fn options(scratch: &Path) -> BuildOptions {
    BuildOptions { data_root: data_root(), ..BuildOptions::new(scratch) }
}

/// The manifest of real traces. Tests that need them are ignored unless they are asked for:
/// `TRACEGYM_DATA=DIR cargo test --test data -- --include-ignored`.
fn real(name: &str) -> DatasetManifest {
    let manifest = DatasetManifest::find(name).unwrap();
    if let Err(error) = manifest.inputs(data_root().as_deref()) {
        panic!("TRACEGYM_DATA names no folder with {name}: {error}");
    }
    manifest
}

#[test]
#[ignore = "needs real traces: set TRACEGYM_DATA (data/README.md)"]
fn the_real_call_table_is_complete_and_its_structures_do_not_leak() {
    let manifest = real("alibaba-v2022-graphs");
    let scratch = tempfile::tempdir().unwrap();
    let dataset = build(&manifest, &options(scratch.path())).unwrap();
    let card = &dataset.card;
    println!("{}{:?}", card.funnel, card.split);
    assert_eq!(card.funnel.0[0].rows, 5_915);
    assert_eq!(card.split.test_service_structure_in_train, 0.0);
    assert!((130..=137).contains(&card.split.test_graphs));
}

#[test]
fn a_saved_dataset_is_read_back_and_has_the_same_bytes_again() {
    let manifest = DatasetManifest::find("simulator").unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let options = BuildOptions { graphs: Some(200), ..options(scratch.path()) };
    let mut dataset = build(&manifest, &options).unwrap();
    dataset.save(scratch.path()).unwrap();
    let bytes = std::fs::read(scratch.path().join("calls.parquet")).unwrap();
    let read = Dataset::load(scratch.path()).unwrap();
    assert_eq!(read, dataset);
    assert_eq!(read.side(Side::Test).len(), 20);
    build(&manifest, &options).unwrap().save(scratch.path()).unwrap();
    assert_eq!(std::fs::read(scratch.path().join("calls.parquet")).unwrap(), bytes);
}

/// `tests/data/written`: `tracegym data build simulator --graphs 30`, so that a later polars is held to it.
#[test]
fn a_dataset_that_an_earlier_build_wrote_is_read() {
    let written = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/written");
    let mut dataset = Dataset::load(&written).unwrap();
    assert_eq!((dataset.train().len(), dataset.test().len()), (27, 3));
    let scratch = tempfile::tempdir().unwrap();
    dataset.save(scratch.path()).unwrap();
    assert_eq!(Dataset::load(scratch.path()).unwrap(), dataset);
    let card = |dir: &Path| std::fs::read_to_string(dir.join("card.json")).unwrap();
    assert_eq!(card(scratch.path()), card(&written));
}

#[test]
fn a_missing_file_says_how_to_name_the_data_folder() {
    let manifest = DatasetManifest::find("alibaba-v2022-graphs").unwrap();
    let error = manifest.inputs(None).unwrap_err().to_string();
    assert!(error.contains("alibaba-v2022-graphs/call_graphs.csv.gz"), "{error}");
    assert!(error.contains("TRACEGYM_DATA"), "{error}");
}

/// The funnel of a raw sample equals what the reference counts in the same file.
fn check_raw_sample(name: &str, columns: &reference::Columns) -> Dataset {
    let manifest = real(name);
    let scratch = tempfile::tempdir().unwrap();
    let dataset = build(&manifest, &options(scratch.path())).unwrap();
    println!("{}", dataset.card.funnel);
    let folder = data_root().unwrap().join(name);
    let expected = reference::funnel(&folder.join(&dataset.card.inputs[0].name), columns);
    let found = dataset.card.funnel.0.iter();
    let found: Vec<(u64, u64)> = found.map(|step| (step.rows, step.traces.unwrap())).collect();
    assert_eq!(found[..5], expected.steps);
    // The steps between are one per reason that occurred.
    let mut reasons: Vec<(u64, u64)> = Vec::new();
    for pair in found[4..found.len() - 2].windows(2) {
        reasons.push((pair[0].0 - pair[1].0, pair[0].1 - pair[1].1));
    }
    let mut expected_reasons: Vec<(u64, u64)> = expected.reasons.into_values().collect();
    reasons.sort_unstable();
    expected_reasons.sort_unstable();
    assert_eq!(reasons, expected_reasons);
    assert_eq!(found[found.len() - 2..], [expected.shallow, expected.distinct]);
    assert_eq!(dataset.graphs().len() as u64, expected.distinct.1);
    dataset
}

#[test]
#[ignore = "needs real traces: set TRACEGYM_DATA (data/README.md)"]
fn the_v2022_sample_has_the_funnel_that_its_rows_say() {
    let dataset = check_raw_sample("alibaba-v2022-sample", &reference::V2022);
    assert_eq!(dataset.card.funnel.0[0].rows, 1000);
    for graph in dataset.graphs() {
        assert_eq!(graph.service().len(), "S_000000000".len());
        assert!(graph.calls().iter().all(|call| call.destination.len() >= "MS_00000".len()));
    }
}

#[test]
#[ignore = "needs real traces: set TRACEGYM_DATA (data/README.md)"]
fn the_v2021_sample_has_the_funnel_that_its_rows_say() {
    let dataset = check_raw_sample("alibaba-v2021-sample", &reference::V2021);
    assert_eq!(dataset.card.funnel.0[0].rows, 967);
}

#[test]
#[ignore = "needs real traces: set TRACEGYM_DATA (data/README.md)"]
fn drawn_structures_have_the_frequencies_of_the_file_and_say_where_times_come_from() {
    let manifest = real("alibaba-v2022-structures");
    let scratch = tempfile::tempdir().unwrap();
    let options = BuildOptions { graphs: Some(5_000), ..options(scratch.path()) };
    let dataset = build(&manifest, &options).unwrap();
    println!("{}{:?}", dataset.card.funnel, dataset.card.split);
    assert_eq!(dataset.graphs().len(), 5_000);
    let first = &dataset.card.funnel.0[0];
    assert_eq!((first.rows, first.traces), (84_030, Some(193_538_785)));
    // The service that 35.6 of 193.5 million traces belong to (service_info.csv).
    let top = dataset.graphs().iter().filter(|g| g.service().as_str() == "S_130831269").count();
    assert!((820..=1020).contains(&top), "{top} of 5000, expected 920");
    assert!(dataset.card.labels[0].contains("not measured"));
    let shallow = dataset.graphs().iter().filter(|graph| graph.num_edges() <= 2).count();
    assert!((2_400..=3_600).contains(&shallow), "the median real structure has 2 calls: {shallow}");
}

const V2022: &str =
    "timestamp,traceid,service,rpc_id,rpctype,um,uminstanceid,interface,dm,dminstanceid,rt\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// `tracegym data build` of a folder of raw v2022 tables: its exit code, and what it said, without the
/// folder's path.
fn build_folder(files: &[(&str, &[u8])], arguments: &[&str]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("tables");
    std::fs::create_dir(&folder).unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    let manifest = "name = \"mine\"\n[source]\nkind = \"alibaba-v2022\"\npath = \"tables\"\n";
    std::fs::write(dir.path().join("mine.toml"), manifest).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tracegym"))
        .current_dir(dir.path())
        .env_remove("TRACEGYM_DATA")
        .args(["data", "build", "./mine.toml", "--out", "built", "--quiet"])
        .args(arguments)
        .output()
        .unwrap();
    let card = dir.path().join("built/card.json");
    assert_eq!(output.status.success(), card.exists(), "a dataset is written if it is built");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap().replace("./tables", "tables"))
}

fn rows(count: usize) -> String {
    let row = |i| format!("{i},T_{i},S_1,0,http,USER,p,i,MS_1,p,{i}.0\n");
    V2022.to_owned() + &(0..count).map(row).collect::<String>()
}

#[test]
fn half_an_archive_is_no_dataset_even_if_bad_rows_are_skipped() {
    let whole = gzip(rows(2000).as_bytes());
    let (code, said) = build_folder(&[("a.csv.gz", &whole)], &["--skip-bad-rows"]);
    assert_eq!(code, Some(0), "{said}");
    let half = &whole[..whole.len() / 2];
    let (code, said) = build_folder(&[("a.csv.gz", half)], &["--skip-bad-rows"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.starts_with("error: tables/a.csv.gz: line "), "{said}");
    assert!(said.ends_with(": the gzip archive is cut off here: fetch the file again\n"), "{said}");
    // Two archives one after the other are one; anything else behind an archive is not.
    let twice = [whole.as_slice(), &gzip(rows(1).strip_prefix(V2022).unwrap().as_bytes())].concat();
    let (code, said) = build_folder(&[("a.csv.gz", &twice)], &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(" 2001 "), "{said}");
    let (code, said) = build_folder(&[("a.csv.gz", &[&whole, &b"\0\0"[..]].concat())], &[]);
    assert_eq!(code, Some(2), "{said}");
}

#[test]
fn what_is_downloaded_is_unpacked_first_and_read_once() {
    // A tar archive of one file: its header, its content, and blocks of zeros.
    let table = rows(3);
    let mut tar = vec![0; 512];
    tar[..15].copy_from_slice(b"CallGraph_0.csv");
    tar[257..262].copy_from_slice(b"ustar");
    tar.extend_from_slice(table.as_bytes());
    tar.resize(10_240, 0);
    let zipped = gzip(&tar);
    let refused = |files: &[(&str, &[u8])]| {
        let (code, said) = build_folder(files, &["--skip-bad-rows"]);
        assert_eq!(code, Some(2), "{said}");
        said
    };
    insta::assert_snapshot!(
        refused(&[("CallGraph_0.tar.gz", &zipped)]),
        @"error: tables: folder: holds archives that are not unpacked (CallGraph_0.tar.gz): unpack them first (`tar -xf CallGraph_0.tar.gz`), or move them elsewhere"
    );
    insta::assert_snapshot!(
        refused(&[("CallGraph_0.csv.gz", &zipped)]),
        @"error: tables/CallGraph_0.csv.gz: content: is a tar archive: unpack it first (`tar -xf CallGraph_0.csv.gz`)"
    );
    insta::assert_snapshot!(
        refused(&[("CallGraph_0.csv", table.as_bytes()), ("CallGraph_0.csv.gz", &gzip(table.as_bytes()))]),
        @"error: tables: folder: CallGraph_0.csv and CallGraph_0.csv.gz are one table twice: keep one of them"
    );
    // An archive beside its table is what unpacking leaves.
    let beside: [(&str, &[u8]); 2] =
        [("CallGraph_0.csv", table.as_bytes()), ("CallGraph_0.tar.gz", &zipped)];
    let (code, said) = build_folder(&beside, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("input CallGraph_0.csv (") && !said.contains("tar.gz"), "{said}");
}
