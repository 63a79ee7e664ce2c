//! What the small neural baselines share: named parameters with their files, training by Burn's
//! automatic differentiation with our AdamW, and products of single rows for drawing.
//!
//! Training runs on Burn. Drawing runs on our own kernels, whose rows do not depend on the rows beside
//! them, so that an answer does not depend on the batch that it is drawn in.

mod bins;
mod draw;
mod learner;
mod parameters;
#[cfg(test)]
mod tests;

pub use bins::Bins;
pub use draw::{Dense, draw};
pub use learner::{Learner, NORM_EPSILON, Schedule, Tensors, cross_entropy};
pub use parameters::{Begin, Layout, Parameters};
