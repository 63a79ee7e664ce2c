//! What constraints cost in decoding: `cargo bench --bench constrained`, threads by `RAYON_NUM_THREADS`.
//!
//! Each text's `xs` network, trained for a minute in all, answers the same 64 requests freely and under its
//! automaton. Answers differ, so that times are per call of an answer.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tracegym::data::simulator::{Cloud, SimulatorConfig};
use tracegym::data::{Dataset, DatasetCard, Side};
use tracegym::device::DeviceChoice;
use tracegym::generators::{Decoding, FitContext, GenerateOptions, Generator, recipe};
use tracegym::graph::{Condition, condition_of};
use tracegym::model;
use tracegym::model::Sampling;
use tracegym::progress::Progress;

const GRAPHS: u64 = 2_000;
const REQUESTS: u64 = 64;

fn trained(id: &str, tokens: u64, dataset: &Dataset) -> Box<dyn Generator> {
    let settings = format!("size = \"xs\"\ntokens = {tokens}\nbatch_tokens = 1024\n");
    let recipe = recipe(id, &settings.parse().expect("TOML")).expect("settings");
    let (out, scratch) = (tempfile::tempdir().expect("temp"), tempfile::tempdir().expect("temp"));
    let context = FitContext {
        dataset,
        seed: 1,
        device: DeviceChoice::Cpu,
        base: None,
        out: out.path(),
        scratch: scratch.path(),
        progress: Progress::Quiet,
    };
    recipe.fit(&context).expect("trains");
    recipe.load(out.path(), None, DeviceChoice::Cpu).expect("loads")
}

fn constrained(c: &mut Criterion) {
    model::tune_allocator();
    let cloud = Cloud::new(&SimulatorConfig::default()).expect("a cloud");
    let graphs: Vec<_> = (0..GRAPHS).map(|index| cloud.graph(1, index)).collect();
    let requests = (GRAPHS..GRAPHS + REQUESTS).map(|index| condition_of(&cloud.graph(1, index)));
    let requests: Vec<Condition> = requests.collect();
    let sides = vec![Side::Train; graphs.len()];
    let dataset = Dataset::new(DatasetCard::default(), graphs, sides);
    let mut group = c.benchmark_group("constrained");
    group.sample_size(10);
    for (id, tokens) in
        [("recursive-llm", 500_000), ("recursive-compact", 300_000), ("tabular-llm", 300_000)]
    {
        let generator = trained(id, tokens, &dataset);
        for (name, decoding) in [("free", Decoding::Free), ("constrained", Decoding::Constrained)] {
            let options = GenerateOptions {
                seed: 1,
                sampling: Sampling { temperature: 0.8, top_k: Some(50) },
                decoding,
                batch: 64,
                progress: Progress::Quiet,
            };
            let answer = || generator.generate(&requests, &options).expect("answers");
            let calls: usize = answer().iter().map(|answer| answer.rows.len()).sum();
            group.throughput(Throughput::Elements(calls as u64));
            group.bench_function(format!("{id}/{name}"), |bencher| bencher.iter(answer));
        }
    }
    group.finish();
}

criterion_group!(benches, constrained);
criterion_main!(benches);
