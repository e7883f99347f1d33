//! What computes the network: the kernel on the CPU, or burn's tensors on a device such as a GPU.
//!
//! In: weights, inputs and targets. Out: quantiles, or a loss and a gradient, in the same arrays from either, so that a training
//! loop runs on both. The weights stay with the caller and go to the device with each call: when a device fails, nothing of
//! the training is lost, and the same step can be taken on another engine.

#[cfg(any(test, feature = "gpu"))]
pub(crate) mod tensors;

use crate::batch::{BatchError, Inputs, Targets};
use crate::kernel::{self, Loss, Scratch};
#[cfg(any(test, feature = "gpu"))]
use crate::reference::Device;
use crate::sample;
use crate::weights::Weights;

/// What computes the network. [`crate::device::choose`] says which; the default is the CPU.
#[derive(Clone, Debug)]
pub enum Engine {
    /// The kernel, with the space in which it computes.
    Cpu(Scratch),
    /// Tensors on a device of burn's. Only with the feature `gpu`: burn's tensors would be linked into every program that trains.
    #[cfg(any(test, feature = "gpu"))]
    Tensors(Device),
}

/// Why an engine gave no numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// An array does not fit the network: the caller's fault, and the same on every engine.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The device failed. What came out is not to be used; another engine may do.
    #[error("the device failed: {0}")]
    Device(String),
}

/// How far an engine is from the kernel: the largest difference as a share of the largest of the kernel's values. Infinite where
/// a value is not finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deviation {
    /// Of the quantiles.
    pub quantiles: f32,
    /// Of the gradient, and of the loss.
    pub gradient: f32,
}

impl Default for Engine {
    fn default() -> Self {
        Self::Cpu(Scratch::default())
    }
}

impl Engine {
    /// Computes the quantiles of every query, as [`kernel::forward`] does.
    ///
    /// # Errors
    /// When an array does not fit the network, or the device fails.
    pub fn forward(
        &mut self,
        weights: &Weights,
        inputs: &Inputs<'_>,
        quantiles: &mut [f32],
    ) -> Result<(), EngineError> {
        match self {
            Self::Cpu(scratch) => Ok(kernel::forward(weights, inputs, scratch, quantiles)?),
            #[cfg(any(test, feature = "gpu"))]
            Self::Tensors(device) => tensors::forward(device, weights, inputs, quantiles),
        }
    }

    /// Computes the loss of a batch and its gradient, as [`kernel::gradient`] does.
    ///
    /// # Errors
    /// When an array does not fit the network, or the device fails.
    pub fn gradient(
        &mut self,
        weights: &Weights,
        inputs: &Inputs<'_>,
        targets: &Targets<'_>,
        gradient: &mut [f32],
    ) -> Result<Loss, EngineError> {
        match self {
            Self::Cpu(scratch) => Ok(kernel::gradient(weights, inputs, targets, scratch, gradient)?),
            #[cfg(any(test, feature = "gpu"))]
            Self::Tensors(device) => tensors::gradient(device, weights, inputs, targets, gradient),
        }
    }

    /// Computes a small drawn network and its gradient, and holds them against the kernel's.
    ///
    /// # Errors
    /// When the device fails.
    pub fn deviation(&mut self) -> Result<Deviation, EngineError> {
        let shape = sample::shape();
        let weights = sample::weights(&shape, 1).map_err(|error| EngineError::Device(error.to_string()))?;
        let batch = sample::batch(&shape, 5, 3, 2);
        let (inputs, targets) = (batch.inputs(), batch.targets());
        let compute = |engine: &mut Self| -> Result<_, EngineError> {
            let mut quantiles = vec![f32::NAN; inputs.windows * inputs.queries * shape.levels];
            let mut gradient = vec![f32::NAN; shape.count()];
            engine.forward(&weights, &inputs, &mut quantiles)?;
            let loss = engine.gradient(&weights, &inputs, &targets, &mut gradient)?;
            Ok((quantiles, gradient, loss.mean as f32))
        };
        let (quantiles, gradient, loss) = compute(self)?;
        let expected = compute(&mut Self::default())?;
        Ok(Deviation {
            quantiles: deviation(&quantiles, &expected.0),
            gradient: deviation(&gradient, &expected.1).max(deviation(&[loss], &[expected.2])),
        })
    }
}

/// The largest difference as a share of the largest expected value.
fn deviation(found: &[f32], expected: &[f32]) -> f32 {
    if !found.iter().all(|value| value.is_finite()) {
        return f32::INFINITY; // the largest of numbers among which is NaN would pass over it
    }
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0_f32, |most, value| most.max(value.abs()));
    largest(&mut found.iter().zip(expected).map(|(found, expected)| found - expected))
        / largest(&mut expected.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn tensors_and_kernel_give_the_same_arrays() {
        for shape in testing::shapes() {
            let weights = testing::weights(&shape, 1);
            let mut batch = testing::batch(&shape, 3, 2, 2);
            batch.weight[0] = 1.0;
            let compute = |mut engine: Engine| {
                let (mut quantiles, mut gradient) = (vec![f32::NAN; 6 * shape.levels], vec![f32::NAN; shape.count()]);
                engine.forward(&weights, &batch.inputs(), &mut quantiles).unwrap();
                let loss = engine.gradient(&weights, &batch.inputs(), &batch.targets(), &mut gradient).unwrap();
                (quantiles, gradient, loss)
            };
            let (found, expected) = (compute(Engine::Tensors(Device::flex())), compute(Engine::default()));
            assert!(deviation(&found.0, &expected.0) < 1e-6 && deviation(&found.1, &expected.1) < 1e-6);
            assert!((found.2.mean - expected.2.mean).abs() < 1e-6 && found.2.weight == expected.2.weight);
        }
        let flex = Engine::Tensors(Device::flex()).deviation().unwrap();
        assert!(flex.quantiles < 1e-6 && flex.gradient < 1e-6, "{flex:?}");
        assert_eq!(Engine::default().deviation(), Ok(Deviation { quantiles: 0.0, gradient: 0.0 }));
    }

    #[test]
    fn arrays_that_do_not_fit_are_named_alike() {
        let shape = testing::shape();
        let weights = testing::weights(&shape, 1);
        let batch = testing::batch(&shape, 2, 3, 2);
        let errors = |mut engine: Engine| {
            let inputs = Inputs { query: &batch.inputs().query[1..], ..batch.inputs() };
            let targets = Targets { weight: &[], ..batch.targets() };
            let (mut quantiles, mut gradient) = (vec![0.0; 2 * 3 * 9], vec![0.0; shape.count()]);
            [
                engine.forward(&weights, &inputs, &mut quantiles).unwrap_err(),
                engine.forward(&weights, &batch.inputs(), &mut []).unwrap_err(),
                engine.gradient(&weights, &batch.inputs(), &targets, &mut gradient).unwrap_err(),
                engine.gradient(&weights, &batch.inputs(), &batch.targets(), &mut []).unwrap_err(),
            ]
        };
        assert_eq!(errors(Engine::Tensors(Device::flex())), errors(Engine::default()));
    }

    #[test]
    fn what_is_not_finite_deviates_without_end() {
        assert_eq!(deviation(&[1.0, f32::NAN], &[1.0, 2.0]), f32::INFINITY);
        assert_eq!(deviation(&[1.0, f32::INFINITY], &[1.0, 2.0]), f32::INFINITY);
        assert_eq!(deviation(&[1.0, -1.0], &[1.0, -2.0]), 0.5);
    }
}
