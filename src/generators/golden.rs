//! What every built-in generator learns from 80 graphs of the simulator, and answers.

use rayon::prelude::*;

use super::tests::train_only;
use super::*;
use crate::data::Dataset;
use crate::data::simulator::{Cloud, SimulatorConfig};
use crate::device::DeviceChoice;
use crate::graph::{CallGraph, Condition, Generated, condition_of};
use crate::model::Sampling;
use crate::progress::Progress;
use crate::version::golden;

fn dataset() -> Dataset {
    let cloud = Cloud::new(&SimulatorConfig { services: 6, ..SimulatorConfig::default() });
    let cloud = cloud.expect("a cloud");
    train_only((0..80).map(|index| cloud.graph(1, index)).collect())
}

/// Trains with tiny settings, and holds the training and the answers to their versions.
fn check(entry: &Entry, settings: &str) {
    let dataset = dataset();
    let recipe = recipe(entry.id, &settings.parse().expect("TOML")).expect("settings");
    let (out, scratch) = (tempfile::tempdir().expect("out"), tempfile::tempdir().expect("scratch"));
    let report = recipe
        .fit(&FitContext {
            dataset: &dataset,
            seed: 3,
            device: DeviceChoice::Cpu,
            base: None,
            out: out.path(),
            scratch: scratch.path(),
            progress: Progress::Quiet,
        })
        .expect("fits");
    let mut text = format!("parameters {}\ntokens {}\n", report.parameters, report.tokens);
    for (name, value) in &report.notes {
        text += &format!("≈ {name} {value}\n");
    }
    golden::assert(entry.training, &text);
    let generator = recipe.load(out.path(), None, DeviceChoice::Cpu).expect("loads");
    let graphs: Vec<&CallGraph> = dataset.train().into_iter().take(30).collect();
    let asked: Vec<Condition> = graphs.iter().map(|graph| condition_of(graph)).collect();
    let mut text = String::new();
    let constrained = entry.constrained.then_some(Decoding::Constrained);
    for decoding in [Some(Decoding::Free), constrained].into_iter().flatten() {
        let options = GenerateOptions {
            seed: 5,
            sampling: Sampling { temperature: 0.8, top_k: Some(20) },
            decoding,
            batch: 8,
            progress: Progress::Quiet,
        };
        for answer in generator.generate(&asked, &options).expect("answers") {
            text += &format!("~ {decoding:?} {}\n", shown(&answer));
        }
    }
    if let Some(likelihoods) = generator.log_likelihoods(&graphs[..5], 8).expect("likelihoods") {
        likelihoods.iter().for_each(|value| text += &format!("≈ log-likelihood {value:.4}\n"));
    }
    golden::assert(entry.answers, &text);
}

/// An answer in one line: its rows as a digest, and its failure.
fn shown(answer: &Generated) -> String {
    let digest = blake3::hash(format!("{:?}", answer.rows).as_bytes()).to_hex();
    let failure = answer.failure.as_ref().map_or("-", |failure| failure.code.as_str());
    format!("{} rows {} {failure}", answer.rows.len(), &digest[..12])
}

#[test]
fn every_generator_keeps_to_its_versions() {
    REGISTRY.par_iter().for_each(|entry| {
        if let Some(settings) = entry.tiny {
            check(entry, settings);
        }
    });
}

/// What a version stands for has a golden file, but for what is not of this crate's making.
#[test]
fn every_version_has_its_golden_file() {
    // Where golden files are being written, the other tests may not have written theirs yet.
    if golden::renews() {
        return;
    }
    for entry in REGISTRY {
        for version in [entry.training, entry.answers] {
            assert_eq!(golden::path(version).exists(), entry.tiny.is_some(), "{version}");
        }
    }
}
