//! Where a training runs, in which number format, and what it may hold in memory there.

use anyhow::Result;
use burn::tensor::Device;

use super::kernels::Precision;
use crate::device::DeviceChoice;
use crate::error::UserError;

/// A Burn device and, in words, why it was taken.
pub struct Chosen {
    pub device: Device,
    /// `cpu` or `cuda:N`.
    pub name: String,
    pub reason: String,
}

/// The device for a choice.
///
/// # Errors
/// CUDA where the binary has no CUDA or no GPU answers.
pub fn device(choice: DeviceChoice) -> Result<Chosen> {
    match choice {
        DeviceChoice::Cpu => Ok(cpu("asked for")),
        DeviceChoice::Auto => automatic(),
        DeviceChoice::Cuda(index) => cuda(index),
    }
}

fn cpu(reason: &str) -> Chosen {
    Chosen { device: Device::flex(), name: "cpu".into(), reason: reason.into() }
}

#[cfg(not(feature = "cuda"))]
fn automatic() -> Result<Chosen> {
    Ok(cpu("this binary is built without the feature `cuda`"))
}

#[cfg(not(feature = "cuda"))]
fn cuda(index: usize) -> Result<Chosen> {
    let message = format!(
        "--device cuda:{index}: this binary is built without CUDA; build it with \
         `cargo build --release --features cuda`, or use --device cpu"
    );
    Err(UserError::setting(message).into())
}

#[cfg(feature = "cuda")]
fn gpus() -> usize {
    use burn::tensor::DeviceType;
    // Looking for a driver that is not there may panic inside the driver's loader.
    std::panic::catch_unwind(|| Device::enumerate(DeviceType::Cuda).into_vec().len()).unwrap_or(0)
}

#[cfg(feature = "cuda")]
fn automatic() -> Result<Chosen> {
    if gpus() == 0 { Ok(cpu("no NVIDIA GPU answers")) } else { cuda(0) }
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Chosen> {
    let found = gpus();
    if index >= found {
        let message = format!(
            "--device cuda:{index}: {found} NVIDIA GPUs answer; check the driver (nvidia-smi), or \
             use --device cpu"
        );
        return Err(UserError::setting(message).into());
    }
    Ok(Chosen {
        device: Device::cuda(index),
        name: format!("cuda:{index}"),
        reason: format!("GPU {index} of {found} answers"),
    })
}

/// What a training step may hold in memory, and in which format its products are. In f32 the result is the same up to rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Tokens in work at once, about; a document is never cut. A batch of more is gone through in
    /// several forward and backward passes, whose gradients are summed. `None` takes as many as suit
    /// the device.
    pub micro_batch_tokens: Option<usize>,
    /// Computes activations again in the backward pass instead of keeping those of all layers.
    pub checkpoint_activations: bool,
    pub precision: Precision,
}
