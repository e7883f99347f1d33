//! A network's weights: one flat array, and what each part of it is.

use crate::random::Random;
use crate::shape::{Shape, ShapeError, TensorSpec};

/// The weights of a network, all finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    shape: Shape,
    values: Vec<f32>,
}

/// Values that are no weights of a shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// The shape is no network.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// Another number of values than the shape has weights.
    #[error("{found} values for a network of {expected} weights")]
    Length {
        /// Weights of the shape.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// A value is NaN or infinite.
    #[error("a value of {tensor} is not finite")]
    NotFinite {
        /// The tensor that holds it.
        tensor: &'static str,
    },
}

impl Weights {
    /// Returns the weights to begin with; the same seed gives the same ones.
    ///
    /// The last layer is 0, so that the untrained network answers with the mean of the known anchors and the first step moves
    /// it alone. Other matrices are uniform within ±1/√inputs, biases 0, the LSTM's forget bias 1 (Jozefowicz, Zaremba and
    /// Sutskever, 2015).
    ///
    /// # Errors
    /// When the shape is no network.
    pub fn init(shape: Shape, seed: u64) -> Result<Self, ShapeError> {
        shape.check()?;
        let mut random = Random::new(seed);
        let mut values = vec![0.0; shape.count()];
        for spec in shape.tensors() {
            let slice = &mut values[spec.range()];
            match spec.name {
                "lstm.bias" => slice[shape.hidden..2 * shape.hidden].fill(1.0),
                "out.weight" => {}
                name if name.ends_with("bias") => {}
                name => {
                    // The three matrices of the entry are one layer, whose inputs lie side by side.
                    let inputs = if name.starts_with("entry") {
                        shape.query + shape.window + if shape.recurrent { shape.hidden } else { 0 }
                    } else {
                        spec.shape[0]
                    };
                    let bound = (inputs as f32).sqrt().recip();
                    slice.fill_with(|| random.uniform(-bound, bound));
                }
            }
        }
        Ok(Self { shape, values })
    }

    /// Returns weights with the given values, in the order of [`Shape::tensors`].
    ///
    /// # Errors
    /// When the shape is no network, the number of values is another, or one is not finite.
    pub fn from_values(shape: Shape, values: Vec<f32>) -> Result<Self, WeightsError> {
        shape.check()?;
        let expected = shape.count();
        if values.len() != expected {
            return Err(WeightsError::Length { expected, found: values.len() });
        }
        let weights = Self { shape, values };
        weights.check_finite()?;
        Ok(weights)
    }

    fn check_finite(&self) -> Result<(), WeightsError> {
        let bad = |spec: &TensorSpec| self.values[spec.range()].iter().any(|value| !value.is_finite());
        match self.shape.tensors().iter().find(|spec| bad(spec)) {
            Some(spec) => Err(WeightsError::NotFinite { tensor: spec.name }),
            None => Ok(()),
        }
    }

    /// Returns the sizes.
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Returns all weights, in the order of [`Shape::tensors`].
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Returns all weights, to be changed by this crate's optimiser, which keeps them finite.
    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// Returns a tensor by name; `None` where the network has none of that name.
    pub fn tensor(&self, name: &str) -> Option<&[f32]> {
        self.shape.tensors().iter().find(|spec| spec.name == name).map(|spec| &self.values[spec.range()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_seed_decides() {
        let init = |seed| Weights::init(testing::shape(), seed).unwrap();
        assert_eq!(init(1), init(1));
        assert_ne!(init(1), init(2));
    }

    #[test]
    fn the_last_layer_is_zero_and_the_gate_of_forgetting_open() {
        let weights = Weights::init(testing::shape(), 3).unwrap();
        let hidden = weights.shape().hidden;
        let bias = weights.tensor("lstm.bias").unwrap();
        assert!(bias.iter().enumerate().all(|(at, &bias)| bias == f32::from(at / hidden == 1)));
        assert!(weights.tensor("out.weight").unwrap().iter().all(|&weight| weight == 0.0));
        let deep = weights.tensor("deep.weight").unwrap();
        let bound = (weights.shape().width as f32).sqrt().recip();
        assert!(
            deep.iter().all(|weight| weight.abs() <= bound) && deep.iter().any(|weight| weight.abs() > 0.8 * bound)
        );
        assert_eq!(weights.tensor("nothing"), None);
    }

    #[test]
    fn values_must_fit_and_be_finite() {
        let shape = testing::shape();
        let count = shape.count();
        let refused = |values| Weights::from_values(shape.clone(), values).unwrap_err();
        assert_eq!(refused(vec![0.0; 3]), WeightsError::Length { expected: count, found: 3 });
        let mut values = vec![0.0; count];
        values[count - 1] = f32::NAN;
        assert_eq!(refused(values), WeightsError::NotFinite { tensor: "out.bias" });
    }
}
