//! FIRM's classifier: a support vector machine on random Fourier features.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::window::Component;
use crate::evaluate::classifier::{Linear, Loss, Rows};

/// Cosines whose inner products approximate the kernel (Rahimi and Recht, 2007).
const COSINES: usize = 100;
/// scikit-learn's default C = 1.
const PENALTY: f64 = 1.0;

/// A support vector machine with the kernel exp(−‖x − y‖² / 2), approximated, on both features with
/// mean 0 and variance 1 over the training components: what FIRM takes from scikit-learn.
pub struct Machine {
    /// Mean and deviation of both features.
    scales: [(f64, f64); 2],
    /// Direction and phase of each cosine.
    waves: Vec<([f64; 2], f64)>,
    model: Option<Linear>,
    /// The class of the first training component, which is that of all if there is no model.
    class: bool,
}

impl Machine {
    /// `None` without training components.
    pub fn new(training: &[Component], mut rng: ChaCha8Rng) -> Option<Self> {
        let class = training.first()?.critical;
        let waves = (0..COSINES).map(|_| {
            let direction = [(); 2].map(|()| StandardNormal.sample(&mut rng));
            (direction, rng.random_range(0.0..std::f64::consts::TAU))
        });
        let scales = [0, 1].map(|feature| scale(training, feature));
        let mut machine = Self { scales, waves: waves.collect(), model: None, class };
        let mut rows = Rows::new(COSINES);
        training.iter().for_each(|component| rows.push(machine.features(component)));
        let labels: Vec<bool> = training.iter().map(|component| component.critical).collect();
        machine.model = Linear::fit(Loss::SquaredHinge, &rows, &labels, PENALTY);
        Some(machine)
    }

    /// Above 0 for critical.
    pub fn score(&self, component: &Component) -> f64 {
        match &self.model {
            Some(model) => model.score(&self.features(component).collect::<Vec<_>>()),
            None if self.class => 1.0,
            None => -1.0,
        }
    }

    fn features(&self, component: &Component) -> impl Iterator<Item = (u32, f64)> {
        let values = features(component);
        let [x, y] = [0, 1].map(|feature| {
            let (mean, deviation) = self.scales[feature];
            (values[feature] - mean) / deviation
        });
        let height = (2.0 / COSINES as f64).sqrt();
        let waves = self.waves.iter().zip(0..);
        waves.map(move |(([a, b], phase), column)| (column, height * (a * x + b * y + phase).cos()))
    }
}

fn features(component: &Component) -> [f64; 2] {
    [component.importance, component.congestion]
}

fn scale(training: &[Component], feature: usize) -> (f64, f64) {
    let values = || training.iter().map(|component| features(component)[feature]);
    let count = training.len() as f64;
    let mean = values().sum::<f64>() / count;
    let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    // A feature that does not vary stays at 0.
    (mean, if variance > 0.0 { variance.sqrt() } else { 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    fn component(importance: f64, congestion: f64, critical: bool) -> Component {
        Component { importance, congestion, critical }
    }

    #[test]
    fn cosines_approximate_the_kernel() {
        let training = [component(-1.0, -1.0, true), component(1.0, 1.0, false)];
        let machine = Machine::new(&training, random::stream(1, "test", &[])).expect("components");
        let of = |x, y| machine.features(&component(x, y, true)).collect::<Vec<_>>();
        let kernel = |one: Vec<(u32, f64)>, other: Vec<(u32, f64)>| -> f64 {
            one.iter().zip(&other).map(|(a, b)| a.1 * b.1).sum()
        };
        // Mean 0 and deviation 1: values are as they are.
        assert!((kernel(of(0.3, 0.1), of(0.3, 0.1)) - 1.0).abs() < 0.25);
        assert!((kernel(of(0.0, 0.0), of(1.0, 0.0)) - (-0.5f64).exp()).abs() < 0.25);
        assert!(kernel(of(0.0, 0.0), of(3.0, 3.0)).abs() < 0.25);
    }

    /// An island of critical components, which no straight line cuts off.
    #[test]
    fn learns_a_curved_boundary() {
        let inside = |x: f64, y: f64| x * x + y * y < 0.3;
        let grid = |step: f64| -> Vec<Component> {
            let places = || (-10..=10).map(|place| f64::from(place) / 10.0 + step);
            places().flat_map(|x| places().map(move |y| component(x, y, inside(x, y)))).collect()
        };
        let machine = Machine::new(&grid(0.0), random::stream(1, "test", &[])).expect("components");
        let test = grid(0.05);
        let right = test.iter().filter(|c| (machine.score(c) > 0.0) == c.critical).count();
        assert!(right as f64 > 0.93 * test.len() as f64, "{right} of {}", test.len());
    }

    #[test]
    fn one_class_is_always_named() {
        let machine = |class| {
            let training = [component(0.0, 1.0, class), component(0.0, 2.0, class)];
            Machine::new(&training, random::stream(1, "test", &[])).expect("components")
        };
        assert_eq!(machine(true).score(&component(5.0, 5.0, false)), 1.0);
        assert_eq!(machine(false).score(&component(5.0, 5.0, false)), -1.0);
        assert!(Machine::new(&[], random::stream(1, "test", &[])).is_none());
    }
}
