//! Preprocessing of simulated raw v2022 rows: `cargo bench --bench preprocess`.

use std::io::Write;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tracegym::data::raw;
use tracegym::data::simulator::{Cloud, RawDefects, RawRows, SimulatorConfig};
use tracegym::data::{BuildOptions, DatasetManifest, build};

/// Blocks of 4096 traces: enough that starting threads does not count.
const BLOCKS: u64 = 64;

/// Writes simulated raw rows with the table's defects; returns how many.
fn write_rows(path: &Path, cloud: &Cloud) -> u64 {
    let rows = RawRows::new(cloud, 0, RawDefects::default()).expect("default defects");
    let mut file = std::fs::File::create(path).expect("scratch file");
    file.write_all(raw::HEADER.as_bytes()).expect("scratch file");
    let mut count = 0;
    for block in 0..BLOCKS {
        let block = rows.block(block);
        file.write_all(&block.text).expect("scratch file");
        count += block.ends.len() as u64;
    }
    count
}

fn preprocess(criterion: &mut Criterion) {
    let scratch = tempfile::tempdir().expect("scratch folder");
    let cloud = Cloud::new(&SimulatorConfig::default()).expect("default settings");
    let path = scratch.path().join("rows.csv");
    let rows = write_rows(&path, &cloud);
    let mut manifest = DatasetManifest::find("alibaba-v2022").expect("embedded");
    let source = serde_json::json!({"kind": "alibaba-v2022", "path": path});
    manifest.source = serde_json::from_value(source).expect("a source");
    let options = BuildOptions::new(scratch.path());
    let mut group = criterion.benchmark_group("preprocess");
    group.sample_size(10).throughput(Throughput::Elements(rows));
    group.bench_function("raw v2022 rows", |bencher| {
        bencher.iter(|| build(&manifest, &options).expect("simulated rows are readable"));
    });
    group.finish();
}

criterion_group!(benches, preprocess);
criterion_main!(benches);
