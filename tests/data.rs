//! Datasets, from files to a card. Fixtures are written by the tests; checks against real traces
//! run where `TRACEGYM_DATA` names a folder that holds them.

use std::path::Path;

use tracegym::data::{BuildOptions, Dataset, DatasetManifest, Side, build, data_root};
use tracegym::progress::Progress;

fn options(scratch: &Path) -> BuildOptions {
    BuildOptions {
        data_root: data_root(),
        skip_bad_rows: false,
        graphs: None,
        scratch: scratch.to_owned(),
        progress: Progress::Quiet,
    }
}

/// The manifest, if its files are there; says so otherwise.
fn real(name: &str) -> Option<DatasetManifest> {
    let manifest = DatasetManifest::find(name).unwrap();
    match data_root() {
        Some(root) if manifest.inputs(Some(&root)).is_ok() => Some(manifest),
        _ => {
            println!("skipped: TRACEGYM_DATA names no folder with {name}");
            None
        }
    }
}

#[test]
fn the_real_call_table_is_complete_and_its_structures_do_not_leak() {
    let Some(manifest) = real("alibaba-v2022-graphs") else { return };
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

#[test]
fn a_missing_file_says_how_to_name_the_data_folder() {
    let manifest = DatasetManifest::find("alibaba-v2022-graphs").unwrap();
    let error = manifest.inputs(None).unwrap_err().to_string();
    assert!(error.contains("alibaba-v2022-graphs/call_graphs.csv.gz"), "{error}");
    assert!(error.contains("TRACEGYM_DATA"), "{error}");
}
