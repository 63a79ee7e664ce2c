use burn::tensor::{Device, Tensor};
use proptest::prelude::*;

use super::*;
use crate::model::Sampling;
use crate::random;

fn layout() -> Layout {
    Layout::default().embedding("table", 5, 3).linear("inner", 3, 7).norm("norm", 7)
}

#[test]
fn parameters_come_back_from_their_file_and_another_layout_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("model.safetensors");
    let parameters = Parameters::initial(&layout(), 3);
    parameters.save(&path).expect("written");
    assert_eq!(Parameters::load(&path, &layout()).expect("read"), parameters);
    assert_eq!(parameters.count(), 15 + 21 + 7 + 14);
    let other = Layout::default().embedding("table", 6, 3);
    let error = Parameters::load(&path, &other).expect_err("another shape").to_string();
    assert!(error.contains("tensor table") && error.contains("[6, 3]"), "{error}");
}

/// Training's products and drawing's are the same function.
#[test]
fn drawing_computes_what_training_does() {
    let parameters = Parameters::initial(&layout(), 3);
    let tensors = Tensors::new(&parameters, &Device::flex());
    let x = tensors.embedding("table", &[4, 0]);
    let rows = [&parameters.get("table")[12..15], &parameters.get("table")[0..3]].concat();
    let expected = tensors.linear("inner", x).into_data().try_into_vec::<f32>().expect("f32");
    let found = Dense::new(&parameters, "inner").apply(&rows);
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
}

/// A table of logits learns the class of each row, and the loss is that of the definition.
#[test]
fn a_learner_learns() {
    let layout = Layout::default().tensor("table", &[3, 4], Begin::Zeros);
    let mut learner = Learner::new(Parameters::initial(&layout, 1), &Device::flex());
    let targets = [2, 0, 3];
    let loss = |tensors: &Tensors| -> Tensor<1> {
        cross_entropy(tensors.embedding("table", &[0, 1, 2]), &targets, &[1.0, 1.0, 0.0])
    };
    let first = learner.step(0.1, loss).expect("a step");
    assert!((first - 2.0 * 4f64.ln()).abs() < 1e-5, "{first}");
    let mut last = first;
    for _ in 0..200 {
        last = learner.step(0.1, loss).expect("a step");
    }
    assert!(last < 0.05, "{last}");
    // What has no weight learns nothing.
    assert!(learner.parameters.get("table")[8..].iter().all(|value| *value == 0.0));
}

#[test]
fn draws_follow_the_softmax() {
    let logits = [0.0, 2f32.ln(), f32::NEG_INFINITY, 0.0];
    let sampling = Sampling { temperature: 1.0, top_k: None };
    let mut rng = random::stream(1, "test", &[]);
    let mut counts = [0.0f64; 4];
    for _ in 0..20_000 {
        counts[draw(&logits, sampling, &mut rng)] += 1.0 / 20_000.0;
    }
    for (found, expected) in counts.iter().zip([0.25, 0.5, 0.0, 0.25]) {
        assert!((found - expected).abs() < 0.02, "{counts:?}");
    }
    let greedy = Sampling { temperature: 0.0, top_k: None };
    assert_eq!(draw(&logits, greedy, &mut rng), 1);
    let two = Sampling { temperature: 5.0, top_k: Some(2) };
    assert!((0..100).all(|_| draw(&logits, two, &mut rng) < 2));
}

proptest! {
    /// Every value is in the bin that draws it, and no bin is empty.
    #[test]
    fn bins_hold_what_they_learnt(values in prop::collection::vec(-50i64..50, 1..200), count in 1usize..20) {
        let bins = Bins::learn(values.iter().copied(), count);
        prop_assert!(bins.count() <= count);
        let mut rng = random::stream(1, "test", &[]);
        for index in 0..bins.count() {
            for _ in 0..5 {
                let value = bins.draw(index, &mut rng);
                prop_assert!(values.contains(&value));
                prop_assert_eq!(bins.index(value), index);
            }
        }
    }
}
