//! The transformer: training, checkpoints and decoding.

pub mod decode;
