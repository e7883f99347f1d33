//! Weights as a safetensors file: bytes out, bytes in. Any bytes may come in; they are checked, and nothing panics.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::shape::{Shape, TensorSpec};
use crate::weights::{Weights, WeightsError};

/// Notes beside the weights: what the caller wants to know of a file before it trusts it.
pub type Metadata = BTreeMap<String, String>;

/// A file that holds no weights of the network asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The bytes are no whole safetensors file.
    #[error("no safetensors file: {0}")]
    Format(#[from] safetensors::SafeTensorError),
    /// A tensor of the network is missing.
    #[error("tensor {0} is missing")]
    Missing(&'static str),
    /// A tensor that the network does not have.
    #[error("tensor {0:?} is not the network's")]
    Foreign(String),
    /// A tensor has another shape, or holds no 32-bit floats.
    #[error("tensor {name} is {found}; {expected} is expected")]
    Tensor {
        /// Name of the tensor.
        name: &'static str,
        /// Type and shape that it would have.
        expected: String,
        /// Type and shape that it has.
        found: String,
    },
    /// The values are no weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// Returns the file's bytes. The same weights and notes do not always give the same bytes: the order of the notes may differ.
///
/// # Errors
/// When the notes make the header too large for the format, 100 MB.
pub fn save(weights: &Weights, metadata: &Metadata) -> Result<Vec<u8>, StoreError> {
    let bytes: Vec<u8> = weights.values().iter().flat_map(|value| value.to_le_bytes()).collect();
    let view = |spec: TensorSpec| {
        let range = spec.range();
        Ok((spec.name, TensorView::new(Dtype::F32, spec.shape, &bytes[range.start * 4..range.end * 4])?))
    };
    let views = weights.shape().tensors().into_iter().map(view).collect::<Result<Vec<_>, StoreError>>()?;
    let metadata: HashMap<String, String> = metadata.clone().into_iter().collect();
    Ok(safetensors::serialize(views, Some(metadata))?)
}

/// Reads the notes alone, so that a caller can learn which network the file holds; empty where there are none.
///
/// # Errors
/// When the bytes are no whole safetensors file.
pub fn metadata(bytes: &[u8]) -> Result<Metadata, StoreError> {
    SafeTensors::deserialize(bytes)?;
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    Ok(header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// Reads the weights of a network.
///
/// # Errors
/// When the bytes are no whole safetensors file, a tensor is missing, foreign or of another shape, a value is not finite, or the
/// shape is no network.
pub fn load(shape: Shape, bytes: &[u8]) -> Result<Weights, StoreError> {
    shape.check().map_err(WeightsError::from)?;
    let file = SafeTensors::deserialize(bytes)?;
    let tensors = shape.tensors();
    if let Some(foreign) = file.names().into_iter().find(|name| tensors.iter().all(|spec| spec.name != *name)) {
        return Err(StoreError::Foreign(foreign.to_owned()));
    }
    let mut values = Vec::with_capacity(shape.count());
    for TensorSpec { name, shape, .. } in tensors {
        let tensor = file.tensor(name).map_err(|_| StoreError::Missing(name))?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            let expected = format!("{:?} {shape:?}", Dtype::F32);
            return Err(StoreError::Tensor {
                name,
                expected,
                found: format!("{:?} {:?}", tensor.dtype(), tensor.shape()),
            });
        }
        values.extend(tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
    }
    Ok(Weights::from_values(shape, values)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    fn notes() -> Metadata {
        BTreeMap::from([("features".to_owned(), "3".to_owned()), ("trained".to_owned(), "2026-01-01".to_owned())])
    }

    #[test]
    fn what_was_saved_is_loaded() {
        for shape in testing::shapes() {
            let weights = testing::weights(&shape, 1);
            let bytes = save(&weights, &notes()).unwrap();
            assert_eq!(load(shape, &bytes).unwrap(), weights);
            assert_eq!(metadata(&bytes).unwrap(), notes());
        }
    }

    #[test]
    fn another_network_is_refused_and_said() {
        let shape = testing::shape();
        let bytes = save(&testing::weights(&shape, 1), &notes()).unwrap();
        let refused = |shape: Shape| load(shape, &bytes).unwrap_err().to_string();
        let wider = Shape { query: 6, ..shape.clone() };
        assert_eq!(refused(wider), "tensor entry.query.weight is F32 [5, 13]; F32 [6, 13] is expected");
        let plain = Shape { recurrent: false, ..shape.clone() };
        assert!(matches!(load(plain.clone(), &bytes), Err(StoreError::Foreign(_))));
        let bytes = save(&testing::weights(&plain, 1), &notes()).unwrap();
        assert!(matches!(load(shape.clone(), &bytes), Err(StoreError::Missing("coarse.weight"))));
        assert!(matches!(load(Shape { width: 0, ..shape }, &bytes), Err(StoreError::Weights(WeightsError::Shape(_)))));
    }

    #[test]
    fn values_that_are_not_finite_are_refused() {
        let shape = testing::shape();
        let mut bytes = save(&testing::weights(&shape, 1), &notes()).unwrap();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::INFINITY.to_le_bytes());
        assert!(matches!(load(shape, &bytes), Err(StoreError::Weights(WeightsError::NotFinite { .. }))));
    }

    proptest! {
        #[test]
        fn a_cut_file_is_refused(at in 0.0..1.0_f64) {
            let shape = testing::shape();
            let bytes = save(&testing::weights(&shape, 1), &notes()).unwrap();
            let cut = &bytes[..(at * bytes.len() as f64) as usize];
            prop_assert!(matches!(load(shape, cut), Err(StoreError::Format(_))));
            prop_assert!(metadata(cut).is_err());
        }

        #[test]
        fn no_bytes_panic(
            places in prop::collection::vec((0..1000_usize, any::<u8>()), 0..8),
            noise in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let shape = testing::shape();
            let mut bytes = save(&testing::weights(&shape, 1), &notes()).unwrap();
            for (at, byte) in places {
                bytes[at] = byte;
            }
            bytes.extend(&noise);
            for bytes in [bytes, noise] {
                let _ = metadata(&bytes);
                if let Ok(weights) = load(shape.clone(), &bytes) {
                    prop_assert!(weights.values().iter().all(|value| value.is_finite()));
                }
            }
        }
    }
}
