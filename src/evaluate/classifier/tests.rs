//! Numbers of scikit-learn 1.9.1 come from tests/reference/classifier.py.

use super::*;
use crate::evaluate::ranking::Ranking;

const COLUMNS: u32 = 4;

/// Dense, of very different scales, and correlated.
fn value(row: u32, column: u32) -> f64 {
    let whole = (row * (column + 3) * 7 + column * column) % 23;
    (f64::from(whole) - 11.0) / 4.0 * 10f64.powi(column as i32 - 1)
}

fn label(row: u32) -> bool {
    (row * 5 + u32::from(value(row, 1) > 0.5) * 9) % 13 > 6
}

/// The rows, without their zeros, and their labels.
fn data(order: impl Iterator<Item = u32>) -> (Rows, Vec<bool>) {
    let mut rows = Rows::new(COLUMNS as usize);
    let mut labels = Vec::new();
    for row in order {
        let features = (0..COLUMNS).map(|column| (column, value(row, column)));
        rows.push(features.filter(|(_, value)| *value != 0.0));
        labels.push(label(row));
    }
    (rows, labels)
}

fn areas(rows: &Rows, labels: &[bool], model: &Linear) -> f64 {
    let scores: Vec<f64> = rows.iter().map(|row| model.score(row)).collect();
    Ranking::new(&scores).auc(labels, |_| 1.0)
}

#[test]
fn weights_are_those_of_scikit_learn() {
    let expected = [
        (
            0.01,
            [
                -1.5099174347895168,
                0.11578137387178586,
                -5.103759696037607e-05,
                0.0015001537743365558,
            ],
            -0.11484043039306642,
            0.6065848214285714,
        ),
        (
            1.0,
            [-0.42981093208831517, 0.0870944337657426, -0.0003774426122439284, 0.00159658386676502],
            -0.11553786097863326,
            0.59765625,
        ),
        (
            100.0,
            [
                -0.0054652233418408585,
                0.021902702086475562,
                -0.000315718502085519,
                0.001500671412830182,
            ],
            -0.11932713904320855,
            0.5831473214285714,
        ),
    ];
    let (rows, labels) = data(0..60);
    for (l2, weights, intercept, area) in expected {
        let model = Linear::fit(Loss::Logistic, &rows, &labels, l2).expect("both classes");
        let both = model.weights.iter().zip(weights).chain([(&model.intercept, intercept)]);
        for (ours, theirs) in both {
            assert!((ours - theirs).abs() < 1e-6 * theirs.abs().max(1e-3), "{l2}: {model:?}");
        }
        assert!((areas(&rows, &labels, &model) - area).abs() < 1e-12);
    }
}

#[test]
fn the_order_of_rows_does_not_matter() {
    let (rows, labels) = data(0..60);
    let (turned, turned_labels) = data((0..60).rev());
    let one = Linear::fit(Loss::Logistic, &rows, &labels, 0.5).expect("both classes");
    let other = Linear::fit(Loss::Logistic, &turned, &turned_labels, 0.5).expect("both classes");
    for (one, other) in one.weights.iter().zip(&other.weights) {
        assert!((one - other).abs() < 1e-7);
    }
    assert_eq!(Some(one), Linear::fit(Loss::Logistic, &rows, &labels, 0.5));
}

#[test]
fn one_column_by_hand() {
    // x = 1 for half of the true rows and for none of the false ones; the gradient is 0 there.
    let mut rows = Rows::new(1);
    for row in [1.0, 0.0, 0.0, 0.0] {
        rows.push([(0, row)].into_iter().filter(|(_, value)| *value != 0.0));
    }
    let labels = [true, true, false, false];
    let model = Linear::fit(Loss::Logistic, &rows, &labels, 1.0).expect("both classes");
    let (one, zero) = (model.probability(&[(0, 1.0)]), model.probability(&[]));
    // The derivative of the intercept: probabilities sum to the number of true rows.
    assert!((one + 3.0 * zero - 2.0).abs() < 1e-7);
    // The derivative of the weight: p(1) − 1 + w = 0.
    assert!((one - 1.0 + model.weights[0]).abs() < 1e-7);
}

#[test]
fn separable_and_degenerate_rows() {
    let mut rows = Rows::new(2);
    (0..50).for_each(|row| rows.push_dense(&[f64::from(row) - 24.5, 0.0]));
    let labels: Vec<bool> = (0..50).map(|row| row >= 25).collect();
    let model = Linear::fit(Loss::Logistic, &rows, &labels, 1e-6).expect("both classes");
    assert!(model.weights[0] > 5.0 && model.weights[1] == 0.0 && model.intercept.abs() < 1e-6);
    assert_eq!(areas(&rows, &labels, &model), 1.0);
    assert_eq!(Linear::fit(Loss::Logistic, &rows, &[true; 50], 1.0), None);
    assert_eq!(Linear::fit(Loss::Logistic, &Rows::new(3), &[], 1.0), None);
    // No column at all: the share of true rows.
    let mut bare = Rows::new(0);
    (0..4).for_each(|_| bare.push([]));
    let model = Linear::fit(Loss::Logistic, &bare, &[true, false, false, false], 1.0)
        .expect("both classes");
    assert!((model.probability(&[]) - 0.25).abs() < 1e-9);
}

#[test]
fn areas_with_ties_and_weights() {
    let scores: Vec<f64> = (0..30).map(|row| f64::from((row * 7) % 10)).collect();
    let labels: Vec<bool> = (0..30).map(|row| (row * 3) % 7 > 3).collect();
    let ranking = Ranking::new(&scores);
    assert!((ranking.auc(&labels, |_| 1.0) - 0.416_666_666_666_666_7).abs() < 1e-12);
    let weighted = ranking.auc(&labels, |row| (row % 3) as f64);
    assert!((weighted - 0.305_555_555_555_555_6).abs() < 1e-12);
    assert_eq!(Ranking::new(&[0.0, -0.0]).auc(&[true, false], |_| 1.0), 0.5);
    assert!(ranking.auc(&[true; 30], |_| 1.0).is_nan());
    assert!(Ranking::new(&[]).auc(&[], |_| 1.0).is_nan());
}

#[test]
fn a_support_vector_machine_is_that_of_scipy() {
    let (mut rows, labels) = data(0..60);
    rows.scale(&[10.0, 1.0, 0.1, 0.01]);
    let expected = [
        (
            0.5,
            [
                -0.07465415428126901,
                0.05634141207813203,
                -8.952797305210498e-05,
                0.07244513208998869,
            ],
            -0.05496888648138832,
        ),
        (
            50.0,
            [
                -0.06426743587141451,
                0.04436917259217089,
                0.0003984308610034405,
                0.061816203131386284,
            ],
            -0.056827400241517584,
        ),
    ];
    for (l2, weights, intercept) in expected {
        let model = Linear::fit(Loss::SquaredHinge, &rows, &labels, l2).expect("both classes");
        let both = model.weights.iter().zip(weights).chain([(&model.intercept, intercept)]);
        for (ours, theirs) in both {
            assert!((ours - theirs).abs() < 1e-7, "{l2}: {model:?}");
        }
    }
}

/// Made by tests/reference/distribution.py with scikit-learn, on standardised columns.
#[test]
fn scaled_columns_give_the_weights_that_scikit_learn_has() {
    let (vectors, labels) = crate::evaluate::tests::sparse_example();
    let vectors: Vec<&[(u32, f64)]> = vectors.iter().map(Vec::as_slice).collect();
    let rows = Scales::new(4, &vectors).apply(&vectors);
    let model = Linear::fit(Loss::Logistic, &rows, &labels, 1.0).expect("both classes");
    // The last column is too rare to count.
    assert_eq!(model.weights[3], 0.0);
    // The intercept of columns with mean 0 is the mean score.
    let mean = rows.iter().map(|row| model.score(row)).sum::<f64>() / rows.count() as f64;
    for (found, expected) in model.weights[..3].iter().chain([&mean]).zip(STANDARDISED) {
        assert!((found - expected).abs() < 1e-6, "{model:?}");
    }
}

const STANDARDISED: [f64; 4] = [
    -0.665_938_423_076_202,
    0.290_269_277_939_762_1,
    -0.302_554_107_892_573_25,
    -0.237_119_955_465_117_66,
];

#[test]
fn columns_without_variance_are_left_out() {
    let vectors: Vec<Vec<(u32, f64)>> = (0..20).map(|_| vec![(1, 5.0)]).collect();
    let vectors: Vec<&[(u32, f64)]> = vectors.iter().map(Vec::as_slice).collect();
    let rows = Scales::new(2, &vectors).apply(&vectors);
    assert!(rows.count() == 20 && rows.iter().all(<[_]>::is_empty));
    // Nothing to learn from: chance.
    let labels: Vec<bool> = (0..20).map(|index| index < 10).collect();
    let model = Linear::fit(Loss::Logistic, &rows, &labels, 1.0).expect("both classes");
    assert!(rows.iter().all(|row| model.score(row).abs() < 1e-9));
    assert_eq!(Scales::new(2, &[]).apply(&[]).count(), 0);
}
