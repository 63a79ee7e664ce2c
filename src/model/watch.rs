//! Watching a training: a loss that is not finite or that jumps ends it, and the batch is kept.

use std::path::Path;

use super::Batch;
use crate::durable;
use crate::error::UserError;

/// A loss this far above the usual one, nats per token, stops the training: it has come apart.
const SPIKE: f64 = 4.0;
/// Weight of the newest loss in the usual one.
const MEMORY: f64 = 0.02;

/// What is wrong with a step, if anything is: its loss, nats per token, compared with the `usual` one
/// (not a number before the first step), or the norm of its gradient.
pub fn fault(loss: f64, usual: f64, norm: f64) -> Option<String> {
    if !loss.is_finite() {
        return Some(format!("the loss is not finite ({loss})"));
    }
    if loss > usual + SPIKE {
        return Some(format!("the loss jumped to {loss:.3} from about {usual:.3}"));
    }
    (!norm.is_finite()).then(|| "the gradient is not finite".to_owned())
}

/// The usual loss after another step: a running mean.
pub fn usual(before: f64, loss: f64) -> f64 {
    if before.is_nan() { loss } else { before + MEMORY * (loss - before) }
}

/// Keeps the batch that broke a training at `step` in `scratch`, and says where and `what` was wrong;
/// `rate` is the setting of the learning rate.
pub fn stop(scratch: &Path, step: u64, batch: &Batch, what: &str, rate: &str) -> anyhow::Error {
    let path = scratch.join(format!("batch-{step}.json"));
    let kept = serde_json::to_vec(batch)
        .map_err(anyhow::Error::from)
        .and_then(|bytes| Ok(durable::write(&path, &bytes)?));
    let kept = match kept {
        Ok(()) => format!("the batch is kept in {}", path.display()),
        Err(error) => format!("the batch could not be kept: {error:#}"),
    };
    UserError::setting(format!("{what} at step {step}: lower `{rate}` or `clip`; {kept}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_from_hard_batches() {
        assert_eq!(fault(9.0, f64::NAN, 1.0), None);
        assert_eq!(fault(3.9, 0.0, 1.0), None);
        for (loss, usual, norm, word) in [
            (f64::NAN, 1.0, 1.0, "not finite (NaN)"),
            (f64::INFINITY, f64::NAN, 1.0, "not finite (inf)"),
            (5.2, 1.0, 1.0, "jumped to 5.200 from about 1.000"),
            (1.0, 1.0, f64::INFINITY, "the gradient"),
        ] {
            let told = fault(loss, usual, norm).expect(word);
            assert!(told.contains(word), "{told}");
        }
        assert_eq!(usual(f64::NAN, 3.0), 3.0);
        assert_eq!(usual(3.0, 4.0), 3.02);
    }
}
