//! Where tensors live: the `--device` flag.

use std::fmt;
use std::str::FromStr;

/// The value of `--device auto|cpu|cuda[:N]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA where the binary has it and a GPU answers, the CPU otherwise.
    #[default]
    Auto,
    Cpu,
    /// The GPU with this index.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            "cuda" => return Ok(Self::Cuda(0)),
            _ => {}
        }
        text.strip_prefix("cuda:")
            .and_then(|index| index.parse().ok())
            .map(Self::Cuda)
            .ok_or_else(|| format!("`{text}` is not a device: use auto, cpu, cuda or cuda:N"))
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}
