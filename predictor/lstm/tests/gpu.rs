//! The network on wgpu, without a GPU: on Mesa's software Vulkan, asked for by name, and where there is no driver at all.
//! Built with the feature `gpu` alone, and run by `make test-gpu`, one by one: each needs the environment that
//! scripts/test-gpu.sh makes for it, and fails in another.

use burn::tensor::DeviceKind;
use burn::tensor::wgpu::{WgpuOptions, wgpu};
use cloudpulse_lstm::device::{DeviceError, Wanted, choose};
use cloudpulse_lstm::engine::Engine;

/// Many times what was seen, 1e-7, and still no more than the order of the sums explains.
const TOLERANCE: f32 = 2e-6;

#[test]
fn software_vulkan_computes_what_the_kernel_does() {
    let (device, setup) = WgpuOptions::default().device_kind(DeviceKind::Cpu).init_with_setup().unwrap();
    let info = setup.adapter.get_info();
    assert_eq!((info.device_type, info.backend), (wgpu::DeviceType::Cpu, wgpu::Backend::Vulkan), "{}", info.name);
    let deviation = Engine::Tensors(device).deviation().unwrap();
    println!("{}: {deviation:?}", info.name);
    assert!(deviation.quantiles < TOLERANCE && deviation.gradient < TOLERANCE, "{deviation:?}");
}

#[test]
fn without_a_gpu_auto_is_the_cpu_and_gpu_an_error() {
    let expected = "no discrete, integrated or virtual GPU was found, or no driver for it";
    let choice = choose(Wanted::Auto).unwrap();
    assert_eq!((choice.kind(), choice.fallback.as_deref()), ("cpu", Some(expected)));
    assert_eq!(choice.engine().deviation().unwrap().gradient, 0.0);
    assert_eq!(choose(Wanted::Gpu).unwrap_err(), DeviceError::NoGpu(expected.to_owned()));
    assert_eq!(choose(Wanted::Cpu).unwrap().fallback, None);
}
