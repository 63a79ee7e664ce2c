//! Constrained decoding with weights that have learnt nothing: what holds here holds for any model.

use rand::RngExt;
use rayon::prelude::*;

use super::super::Settings;
use super::*;
use crate::data::ServiceStatistics;
use crate::data::simulator::{Cloud, SimulatorConfig};
use crate::generators::language_model::corpus::{Names, learn_tokenizer};
use crate::graph::{CallGraph, judge_all};
use crate::model::decode::CpuModel;
use crate::model::{ModelConfig, Sampling, Weights, kernels};
use crate::progress::Progress;

/// A tiny model with weights drawn at random, large enough for it to have strong opinions.
fn untrained(writing: Writing, graphs: &[CallGraph]) -> Trained {
    let graphs: Vec<&CallGraph> = graphs.iter().collect();
    let services = ServiceStatistics::new(graphs.iter().copied());
    let names = Names::new(&graphs);
    let tokenizer = learn_tokenizer(writing, &graphs, &services, &names, &Settings::default(), 1)
        .expect("tokenizer");
    let config = ModelConfig {
        d_model: 16,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        d_ff: 24,
        ..ModelConfig::preset("xs", tokenizer.vocabulary(), 64).expect("known size")
    };
    let initial = Weights::initial(&config, 3);
    let weights = Weights::from_tensors(config.tensors().into_iter().map(|(name, _)| {
        let factor = if name == "token_embedding" { 40.0 } else { 6.0 };
        let values = initial.get(&name).expect("known").iter().map(|v| v * factor).collect();
        (name, values)
    }));
    let model = CpuModel::new(config, &weights, kernels::simd()).expect("fits");
    Trained::new(
        writing,
        FieldOrder::Shuffled,
        tokenizer,
        Box::new(model),
        names.microservices.into_iter().collect(),
    )
}

fn graphs() -> Vec<CallGraph> {
    let cloud = Cloud::new(&SimulatorConfig::default()).expect("default cloud");
    (0..80).map(|index| cloud.graph(1, index)).collect()
}

/// A feasible request: all of the grid's cells, mostly small, now and then without an attribute.
fn request(graphs: &[CallGraph], index: u64) -> Condition {
    let mut rng = random::stream(11, "requests", &[index]);
    let most = if rng.random_bool(0.25) { 30 } else { 8 };
    let edges = rng.random_range(1..=most);
    let depth = match edges {
        1 => 1,
        _ => rng.random_range(2..=edges.min(6)),
    };
    let lender = &graphs[rng.random_range(0..graphs.len())];
    let left_out = rng.random_range(0..20);
    Condition {
        service: if rng.random_bool(0.05) {
            "S_unheard/of".into()
        } else {
            lender.service().clone()
        },
        num_edges: (left_out != 0).then_some(edges),
        depth: (left_out != 1).then_some(depth),
        latency: (left_out != 2).then(|| rng.random_range(0..20) * lender.latency() / 10),
        requests: Vec::new(),
    }
}

fn generate(model: &Trained, conditions: &[Condition], temperature: f64) -> Vec<Generated> {
    let options = GenerateOptions {
        seed: 9,
        sampling: Sampling { temperature, top_k: Some(50) },
        decoding: Decoding::Constrained,
        batch: 32,
        progress: Progress::Quiet,
    };
    model.generate(conditions, &options).expect("generates")
}

#[test]
fn ten_thousand_random_requests_are_all_answered_accurately() {
    const TEMPERATURES: [f64; 4] = [0.0, 0.3, 0.7, 1.0];
    let graphs = graphs();
    let each = 10_000u64.div_ceil((Writing::ALL.len() * TEMPERATURES.len()) as u64);
    Writing::ALL.par_iter().enumerate().for_each(|(number, writing)| {
        let model = untrained(*writing, &graphs);
        for (part, temperature) in TEMPERATURES.into_iter().enumerate() {
            let first = (number * TEMPERATURES.len() + part) as u64 * each;
            let requests = (first..first + each).map(|index| request(&graphs, index));
            let conditions: Vec<Condition> = requests.collect();
            let answers = generate(&model, &conditions, temperature);
            let verdicts = judge_all(&conditions, &answers).expect("one answer each");
            for ((condition, answer), verdict) in conditions.iter().zip(&answers).zip(verdicts) {
                assert_eq!(verdict.violation, None, "{writing:?} {condition:?} {answer:?}");
                let latency = verdict.graph.expect("a graph").latency();
                assert!(condition.latency.is_none_or(|most| latency <= most));
                let share = answer.cost.allowed_mass / answer.cost.choices as f64;
                assert!((0.0..=1.0).contains(&share), "{:?}", answer.cost);
            }
        }
    });
}

#[test]
fn wide_and_deep_graphs_are_split_and_infeasible_ones_refused() {
    let graphs = graphs();
    let asked = |num_edges, depth| Condition {
        num_edges: Some(num_edges),
        depth: Some(depth),
        ..request(&graphs, 5)
    };
    for writing in Writing::ALL {
        let model = untrained(writing, &graphs);
        let conditions =
            [asked(90, 2), asked(25, 25), asked(3, 5), asked(120, 3), asked(100_000, 4)];
        let answers = generate(&model, &conditions, 0.7);
        let codes: Vec<Option<ViolationCode>> = judge_all(&conditions, &answers)
            .expect("one answer each")
            .into_iter()
            .map(|verdict| verdict.violation)
            .collect();
        let refused = Some(ViolationCode::Infeasible);
        assert_eq!(codes, [None, None, refused, None, refused], "{writing:?}");
        assert_eq!(answers[2].cost.tokens, 0);
    }
}
