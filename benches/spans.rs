//! Reading files of spans, up to what becomes of them, and writing: `cargo bench --bench spans`.

use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tracegym::data::simulator::{Cloud, SimulatorConfig};
use tracegym::data::spans::{
    Keep, ReadOptions, SpanFormat, SpanWriter, TraceAddress, read_from, spans,
};
use tracegym::graph::Interner;

const GRAPHS: u64 = 4_000;

/// Files as large as some graphs of the simulator make them, in each format.
fn formats(criterion: &mut Criterion) {
    let cloud = Cloud::new(&SimulatorConfig::default()).expect("default settings");
    let traces: Vec<_> = (0..GRAPHS)
        .map(|index| {
            let start = 1_700_000_000_000_000_000 + index * 1_000_000_000;
            spans(&cloud.graph(0, index), TraceAddress { seed: 0, index, start })
        })
        .collect();
    for format in SpanFormat::ALL {
        let write = || {
            let mut writer = SpanWriter::new(format, Vec::new());
            traces.iter().for_each(|spans| writer.trace(spans).expect("memory takes all"));
            writer.finish().expect("memory takes all")
        };
        let bytes = write();
        let mut group = criterion.benchmark_group(format.id());
        group.sample_size(10).throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("write", |bencher| bencher.iter(write));
        for (name, keep) in [("read", Keep::Policy), ("read all attributes", Keep::All)] {
            let options = ReadOptions { format, keep, skip_bad: false };
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    let mut names = Interner::default();
                    let mut all = Vec::new();
                    let reader = Box::new(std::io::Cursor::new(bytes.clone()));
                    let mut take = |read| all.push(read);
                    read_from(Path::new("memory"), reader, options, &mut names, &mut take)
                        .expect("own files are readable");
                    all.len()
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, formats);
criterion_main!(benches);
