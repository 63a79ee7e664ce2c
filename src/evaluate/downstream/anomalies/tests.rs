use super::*;
use crate::data::simulator::{Cloud, SimulatorConfig};
use crate::evaluate::tests::{answer, dataset, find, flat, reversed};
use crate::evaluate::{Evaluation, Task, evaluate};
use crate::generators::Condition;

fn cloud(services: u32, graphs: std::ops::Range<u64>) -> Vec<CallGraph> {
    let config = SimulatorConfig { services, ..SimulatorConfig::default() };
    let cloud = Cloud::new(&config).expect("a cloud");
    graphs.map(|index| cloud.graph(1, index)).collect()
}

/// For choosing the score and the size of the network: `cargo test anomalies::tests::explore --
/// --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn explore() {
    for (services, train, test) in [(300u32, 5_000u64, 1_000), (300, 1_000, 1_000)] {
        let dataset = dataset(cloud(services, 0..train), cloud(services, 100_000..100_000 + test));
        let set = TestSet::new(&dataset, 0);
        let train = sample(dataset.train(), TRAINING, 0, "anomalies/train");
        let calls: u32 = train.iter().map(|graph| graph.num_edges()).sum();
        let started = std::time::Instant::now();
        let detector = Detector::train(&train, 0).unwrap();
        println!("{} graphs, {calls} calls: {:?}", train.len(), started.elapsed());
        let started = std::time::Instant::now();
        let graphs: Vec<&CallGraph> = set.graphs.iter().collect();
        let scores = detector.details(&graphs);
        println!("scored in {:?}", started.elapsed());
        let mut ways: Vec<(&str, Vec<f64>)> = Vec::new();
        let n = |index: usize| f64::from(set.graphs[index].num_edges());
        let max = |values: &[f64]| values.iter().copied().fold(f64::MIN, f64::max);
        let sum = |values: &[f64]| values.iter().sum::<f64>();
        let mut way = |name, score: &dyn Fn(usize) -> f64| {
            ways.push((name, (0..graphs.len()).map(score).collect()));
        };
        let d = &scores;
        way("mean elbo", &|i| (sum(&d[i].0) + sum(&d[i].1) + d[i].2 + d[i].3) / n(i));
        way("mean nll", &|i| (sum(&d[i].0) + sum(&d[i].1)) / n(i));
        way("sum elbo", &|i| sum(&d[i].0) + sum(&d[i].1) + d[i].2 + d[i].3);
        way("max+max", &|i| max(&d[i].0) + max(&d[i].1));
        way("sqrt elbo", &|i| (sum(&d[i].0) + sum(&d[i].1) + d[i].2 + d[i].3) / n(i).sqrt());
        way("structure elbo", &|i| (sum(&d[i].0) + d[i].2) / n(i));
        way("latency elbo", &|i| (sum(&d[i].1) + d[i].3) / n(i));
        way("kl s", &|i| d[i].2);
        way("kl l", &|i| d[i].3);
        let counting = Counting::new(&train);
        way("counting", &|i| counting.score(&set.graphs[i]));
        way("size", &n);
        for (name, scores) in ways {
            let text: Vec<String> =
                set.areas(&scores, 0).iter().map(|(value, _)| format!("{value:.3}")).collect();
            let normal: f64 = scores.iter().step_by(2).sum::<f64>() / scores.len() as f64 * 2.0;
            println!("{name:16} {} normal mean {normal:.2}", text.join(" "));
        }
    }
}
