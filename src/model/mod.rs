//! The language model: transformer, training, weights and decoding.

mod adamw;
mod batches;
mod checkpoint;
mod config;
pub mod decode;
mod device;
mod engine;
mod host;
pub mod kernels;
pub mod lora;
mod memory;
pub mod neural;
pub mod pretrained;
mod rotary;
mod train;
mod transformer;
mod watch;
mod weights;

#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod tests;

pub use adamw::{Moments, clip};
pub use batches::{Batch, Batches, Corpus, Document, Position};
pub use config::{ModelConfig, RopeScaling};
pub use decode::Sampling;
pub use device::{Chosen, Footprint, device};
pub use kernels::Precision;
pub use train::{
    LOG_FILE, LoraStep, LoraStepReport, LoraTrainer, LoraTraining, TrainConfig, TrainReport,
    Training, train,
};
pub use transformer::Parameter;
pub use weights::{Weights, file_name as weights_file};

/// A trained model for decoding: our own kernels on the CPU. `snapshot` names the training tokens of
/// a snapshot; `None` takes the final weights.
///
/// # Errors
/// Missing or damaged files; a device that is not there.
pub fn load(
    dir: &std::path::Path,
    snapshot: Option<u64>,
    choice: crate::device::DeviceChoice,
) -> anyhow::Result<Box<dyn decode::CachedModel>> {
    device(choice)?;
    Ok(Box::new(decode::CpuModel::load(dir, snapshot)?))
}

/// Keeps freed memory for reuse: training makes and drops the same large buffers over and over, and
/// fetching fresh pages for them costs a third of the time (docs/performance.md).
pub fn tune_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt only sets parameters; it is called before other threads start.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 256 << 20);
    }
}
