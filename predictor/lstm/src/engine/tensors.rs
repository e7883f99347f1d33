//! The reference as an engine: its errors and its panics as values.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::EngineError;
use crate::batch::{Inputs, Targets, check_length};
use crate::kernel::Loss;
use crate::reference::{Device, Reference, ReferenceError};
use crate::weights::Weights;

/// As [`super::Engine::forward`].
pub(super) fn forward(
    device: &Device,
    weights: &Weights,
    inputs: &Inputs<'_>,
    quantiles: &mut [f32],
) -> Result<(), EngineError> {
    inputs.check(weights.shape())?;
    let expected = inputs.windows * inputs.queries * weights.shape().levels;
    check_length("quantiles", expected, quantiles.len())?;
    let found = guarded(|| Reference::new(weights, device).forward(inputs))?;
    take(&found, quantiles)
}

/// As [`super::Engine::gradient`].
pub(super) fn gradient(
    device: &Device,
    weights: &Weights,
    inputs: &Inputs<'_>,
    targets: &Targets<'_>,
    gradient: &mut [f32],
) -> Result<Loss, EngineError> {
    inputs.check(weights.shape())?;
    targets.check(inputs)?;
    check_length("gradient", weights.values().len(), gradient.len())?;
    let (loss, found) = guarded(|| Reference::new(weights, device).gradient(inputs, targets))?;
    take(&found, gradient)?;
    Ok(loss)
}

fn take(found: &[f32], to: &mut [f32]) -> Result<(), EngineError> {
    if found.len() != to.len() {
        return Err(EngineError::Device(format!("it gave {} values instead of {}", found.len(), to.len())));
    }
    to.copy_from_slice(found);
    Ok(())
}

/// Runs what may panic: burn does where a device fails.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, ReferenceError>) -> Result<T, EngineError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(ReferenceError::Batch(error))) => Err(error.into()),
        Ok(Err(error)) => Err(EngineError::Device(error.to_string())),
        Err(payload) => Err(EngineError::Device(message(payload.as_ref()))),
    }
}

/// The first line of what a panic says.
fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref().copied());
    text.and_then(|text| text.lines().next()).unwrap_or("it gave no reason").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_device_is_an_error() {
        let failed = guarded::<()>(|| panic!("lost {}\nat some line", 7)).unwrap_err();
        assert_eq!(failed.to_string(), "the device failed: lost 7");
        assert_eq!(guarded::<()>(|| panic!("lost")).unwrap_err(), EngineError::Device("lost".to_owned()));
    }
}
