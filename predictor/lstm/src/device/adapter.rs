//! The GPUs of this machine, as wgpu names them.

use std::sync::OnceLock;

use burn::tensor::DeviceKind;
use burn::tensor::wgpu::{WgpuInitError, WgpuOptions, wgpu};

use super::Gpu;
use super::search::{Kind, Refusal, first_that_works, judge};
use crate::engine::Engine;
use crate::engine::tensors::guarded;

impl From<Kind> for DeviceKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Discrete => Self::DiscreteGpu(0),
            Kind::Integrated => Self::IntegratedGpu(0),
            Kind::Virtual => Self::VirtualGpu(0),
        }
    }
}

/// Finds a GPU that works. burn opens an adapter only once in a process, so what was found is kept.
pub(super) fn find() -> Result<Gpu, String> {
    static FOUND: OnceLock<Result<Gpu, String>> = OnceLock::new();
    FOUND.get_or_init(|| first_that_works(open)).clone()
}

fn open(kind: Kind) -> Result<Gpu, Refusal> {
    let broken = |reason: String| Refusal::Broken(format!("the {kind} GPU cannot be opened: {reason}"));
    let opened = guarded(|| Ok(WgpuOptions::default().device_kind(kind.into()).init_with_setup()));
    let (device, setup) = match opened.map_err(|error| broken(error.to_string()))? {
        Ok(opened) => opened,
        Err(WgpuInitError::AdapterUnavailable { .. }) => return Err(Refusal::Absent),
        Err(error) => return Err(broken(error.to_string())),
    };
    let info = setup.adapter.get_info();
    let on_cpu = info.device_type == wgpu::DeviceType::Cpu;
    let deviation = judge(&info.name, on_cpu, || Engine::Tensors(device.clone()).deviation())?;
    Ok(Gpu { device, adapter: info.name, backend: info.backend.to_string(), deviation })
}
