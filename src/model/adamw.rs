//! AdamW (Loshchilov and Hutter 2019) on the host's master copy of the parameters.

use rayon::prelude::*;

use super::transformer::Parameter;

/// First and second moments of every parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    pub first: Vec<Vec<f32>>,
    pub second: Vec<Vec<f32>>,
}

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.95;
const EPSILON: f64 = 1e-8;

impl Moments {
    pub fn new(parameters: &[Parameter]) -> Self {
        let zeros = || parameters.iter().map(|p| vec![0.0; p.values.len()]).collect();
        Self { first: zeros(), second: zeros() }
    }

    /// One update; `step` counts from 1. Weight decay is decoupled and spares norms and embeddings.
    pub fn update(
        &mut self,
        parameters: &mut [Parameter],
        gradients: &[Vec<f32>],
        step: u64,
        learning_rate: f64,
        weight_decay: f64,
    ) {
        let correct = |beta: f64| 1.0 - beta.powi(step.min(i32::MAX as u64) as i32);
        let rate = (learning_rate / correct(BETA_1)) as f32;
        let scale = (1.0 / correct(BETA_2)) as f32;
        let (beta_1, beta_2, epsilon) = (BETA_1 as f32, BETA_2 as f32, EPSILON as f32);
        let moments = self.first.par_iter_mut().zip(&mut self.second);
        let all = parameters.par_iter_mut().zip(gradients).zip(moments);
        all.for_each(|((parameter, gradient), (first, second))| {
            let keep =
                if parameter.decay { (1.0 - learning_rate * weight_decay) as f32 } else { 1.0 };
            let values = parameter.values.iter_mut().zip(gradient);
            for ((value, gradient), (m, v)) in values.zip(first.iter_mut().zip(second)) {
                *m = beta_1 * *m + (1.0 - beta_1) * gradient;
                *v = beta_2 * *v + (1.0 - beta_2) * gradient * gradient;
                *value = *value * keep - rate * *m / ((*v * scale).sqrt() + epsilon);
            }
        });
    }
}

/// Scales all gradients so that their common norm is at most `limit`; returns the norm before.
pub fn clip(gradients: &mut [Vec<f32>], limit: f64) -> f64 {
    let square = |gradient: &Vec<f32>| gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
    // In order, so that the bits do not depend on threads.
    let squares: Vec<f64> = gradients.par_iter().map(square).collect();
    let norm = squares.into_iter().sum::<f64>().sqrt();
    if norm > limit {
        let scale = (limit / norm) as f32;
        let all = gradients.par_iter_mut();
        all.for_each(|gradient| gradient.iter_mut().for_each(|value| *value *= scale));
    }
    norm
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three steps on two values; reference made with `torch.optim.AdamW(lr=0.1,
    /// betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)` on gradients (0.5, -1), (0.1, 2), (-0.3, 0.2).
    #[test]
    fn updates_are_those_of_pytorch() {
        let values = vec![1.0, -2.0];
        let parameter =
            |decay| Parameter { name: "p".into(), shape: vec![2], values: values.clone(), decay };
        let mut parameters = [parameter(true)];
        let mut moments = Moments::new(&parameters);
        for (step, gradient) in [[0.5, -1.0], [0.1, 2.0], [-0.3, 0.2]].into_iter().enumerate() {
            moments.update(&mut parameters, &[gradient.to_vec()], step as u64 + 1, 0.1, 0.1);
        }
        let found = &parameters[0].values;
        let expected = EXPECTED;
        assert!(
            (found[0] - expected[0]).abs() < 1e-5 && (found[1] - expected[1]).abs() < 1e-5,
            "{found:?}"
        );
    }

    const EXPECTED: [f32; 2] = [0.770_535_3, -1.912_617_4];
}
