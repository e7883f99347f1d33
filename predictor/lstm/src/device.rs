//! What the network runs on: the CPU, or a GPU that computes what the CPU does.
//!
//! In: what the user wants. Out: a [`Choice`], which says what was chosen and why, and makes the [`Engine`]. A GPU is a discrete,
//! an integrated or a virtual one; a driver that computes on the CPU (llvmpipe, lavapipe) would be slower than the kernel and is
//! not taken. A GPU has to compute a small network and its gradient as the kernel does before it is chosen. Without the Cargo
//! feature `gpu` there is only the CPU.

#[cfg(feature = "gpu")]
mod adapter;
#[cfg(any(test, feature = "gpu"))]
mod search;

use std::fmt;
use std::str::FromStr;

use crate::engine::{Deviation, Engine};
#[cfg(any(test, feature = "gpu"))]
use crate::reference::Device;

/// What the user asks for; on a command line `auto`, `cpu` or `gpu`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// A GPU where there is one that works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU, or an error.
    Gpu,
}

/// A word that names none of [`Wanted`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no device; it must be auto, cpu or gpu")]
pub struct WantedError(String);

impl FromStr for Wanted {
    type Err = WantedError;

    fn from_str(text: &str) -> Result<Self, WantedError> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            _ => Err(WantedError(text.to_owned())),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        })
    }
}

/// What was chosen.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The GPU; `None` is the CPU.
    pub gpu: Option<Gpu>,
    /// Why it is the CPU although a GPU would have been taken, in plain words; `None` where that is no news.
    pub fallback: Option<String>,
}

/// A GPU that has passed its test.
#[derive(Clone, Debug)]
pub struct Gpu {
    /// What burn knows it by.
    #[cfg(any(test, feature = "gpu"))]
    pub device: Device,
    /// Its name, as the driver gives it.
    pub adapter: String,
    /// The interface through which it is driven, such as `vulkan`.
    pub backend: String,
    /// How far it was from the kernel.
    pub deviation: Deviation,
}

/// Why there is no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// A GPU is wanted of a program that cannot have one.
    #[error("this program was built without GPU support; build with --features gpu")]
    NotBuilt,
    /// A GPU is wanted and there is none that works.
    #[error("no GPU can be used: {0}")]
    NoGpu(String),
}

impl Choice {
    /// Returns `cpu` or `gpu`.
    pub const fn kind(&self) -> &'static str {
        if self.gpu.is_some() { "gpu" } else { "cpu" }
    }

    /// Makes an engine. Several may work at once.
    pub fn engine(&self) -> Engine {
        #[cfg(any(test, feature = "gpu"))]
        if let Some(gpu) = &self.gpu {
            return Engine::Tensors(gpu.device.clone());
        }
        Engine::default()
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.gpu, &self.fallback) {
            (Some(Gpu { adapter, backend, .. }), _) => write!(f, "gpu ({adapter}, {backend})"),
            (None, Some(fallback)) => write!(f, "cpu ({fallback})"),
            (None, None) => f.write_str("cpu"),
        }
    }
}

/// Chooses what the network runs on. With a GPU this compiles the programs that it runs, which takes a while; GPUs are looked for
/// once in a process, later calls get the same answer.
///
/// # Errors
/// When a GPU is wanted and the program was built without, or there is none, or none that passes its test.
pub fn choose(wanted: Wanted) -> Result<Choice, DeviceError> {
    #[cfg(feature = "gpu")]
    let find = Some(adapter::find as fn() -> Result<Gpu, String>);
    #[cfg(not(feature = "gpu"))]
    let find = None;
    decide(wanted, find)
}

/// `find` is there where the program was built with GPU support; it gives a GPU, or the reason why there is none.
fn decide(wanted: Wanted, find: Option<fn() -> Result<Gpu, String>>) -> Result<Choice, DeviceError> {
    let found = match (wanted, find) {
        (Wanted::Cpu, _) | (Wanted::Auto, None) => return Ok(Choice::default()),
        (Wanted::Gpu, None) => return Err(DeviceError::NotBuilt),
        (Wanted::Auto | Wanted::Gpu, Some(find)) => find(),
    };
    match found {
        Ok(gpu) => Ok(Choice { gpu: Some(gpu), fallback: None }),
        Err(reason) if wanted == Wanted::Auto => Ok(Choice { gpu: None, fallback: Some(reason) }),
        Err(reason) => Err(DeviceError::NoGpu(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu() -> Gpu {
        let deviation = Deviation { quantiles: 1e-7, gradient: 1e-7 };
        Gpu { device: Device::flex(), adapter: "Card".to_owned(), backend: "vulkan".to_owned(), deviation }
    }

    #[test]
    fn words_come_back_as_they_went() {
        for wanted in [Wanted::Auto, Wanted::Cpu, Wanted::Gpu] {
            assert_eq!(wanted.to_string().parse(), Ok(wanted));
        }
        let error = "GPU".parse::<Wanted>().unwrap_err();
        assert_eq!(error.to_string(), "\"GPU\" is no device; it must be auto, cpu or gpu");
    }

    #[test]
    fn built_without_gpu_auto_is_the_cpu_and_gpu_an_error() {
        for wanted in [Wanted::Auto, Wanted::Cpu] {
            let choice = decide(wanted, None).unwrap();
            assert_eq!((choice.kind(), &choice.fallback, choice.to_string()), ("cpu", &None, "cpu".to_owned()));
            assert!(matches!(choice.engine(), Engine::Cpu(_)));
        }
        let error = decide(Wanted::Gpu, None).unwrap_err();
        assert_eq!(error.to_string(), "this program was built without GPU support; build with --features gpu");
    }

    #[test]
    fn a_gpu_is_taken_unless_the_cpu_is_wanted() {
        for wanted in [Wanted::Auto, Wanted::Gpu] {
            let choice = decide(wanted, Some(|| Ok(gpu()))).unwrap();
            assert_eq!((choice.kind(), &choice.fallback), ("gpu", &None));
            assert_eq!(choice.to_string(), "gpu (Card, vulkan)");
            assert!(matches!(choice.engine(), Engine::Tensors(_)));
        }
        let choice = decide(Wanted::Cpu, Some(|| panic!("nobody asked for a GPU"))).unwrap();
        assert_eq!((choice.kind(), choice.fallback), ("cpu", None));
    }

    #[test]
    fn without_a_gpu_auto_says_why_and_gpu_is_an_error() {
        let choice = decide(Wanted::Auto, Some(|| Err("none".to_owned()))).unwrap();
        assert_eq!((choice.kind(), choice.to_string()), ("cpu", "cpu (none)".to_owned()));
        assert_eq!(choice.fallback.as_deref(), Some("none"));
        let error = decide(Wanted::Gpu, Some(|| Err("none".to_owned()))).unwrap_err();
        assert_eq!(error.to_string(), "no GPU can be used: none");
    }
}
