//! The network on burn's tensors: the same mathematics, a line each, with gradients from automatic differentiation.
//!
//! It proves [`crate::kernel`], and runs on whatever device burn has: with the Cargo feature `gpu` on a GPU. Where a
//! device fails burn often panics, so use it through [`crate::engine`], which guards against that.

use burn::module::{Module, Param};
pub use burn::tensor::Device;
use burn::tensor::activation::{sigmoid, silu, tanh};
use burn::tensor::{Tensor, TensorData, Transaction};

use crate::batch::{BatchError, Inputs, Targets};
use crate::kernel::Loss;
use crate::shape::Shape;
use crate::weights::{Weights, WeightsError};

/// Below every logit: what an unknown anchor's logit is put under.
const UNKNOWN: f32 = 1e30;

/// The network on a device.
#[derive(Clone, Debug)]
pub struct Reference {
    shape: Shape,
    device: Device,
    parameters: Parameters,
}

/// The tensors in the order of [`Shape::tensors`]; a bias is a matrix of one row.
#[derive(Module, Debug)]
struct Parameters {
    tensors: Vec<Param<Tensor<2>>>,
}

/// Why the reference gave no numbers.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// An array does not fit the network.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The device gave what is no weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The device failed, now or since it was last read from.
    #[error("{0}")]
    Device(String),
    /// The device gave values of another type.
    #[error("the device gave no 32-bit floats: {0}")]
    Values(String),
}

impl Reference {
    /// Puts weights on a device.
    pub fn new(weights: &Weights, device: &Device) -> Self {
        let device = device.clone().autodiff();
        let tensor = |spec: crate::TensorSpec| {
            let (rows, columns) = match spec.shape[..] {
                [rows, columns] => (rows, columns),
                _ => (1, spec.range().len()),
            };
            Param::from_tensor(matrix(&weights.values()[spec.range()], rows, columns, &device))
        };
        let tensors = weights.shape().tensors().into_iter().map(tensor).collect();
        Self { shape: weights.shape().clone(), device, parameters: Parameters { tensors } }
    }

    /// Reads the weights back.
    ///
    /// # Errors
    /// When the device gives no finite 32-bit floats.
    pub fn weights(&self) -> Result<Weights, ReferenceError> {
        let tensors = self.parameters.tensors.iter().map(|tensor| tensor.val().inner());
        let values = read(tensors.fold(Transaction::default(), Transaction::register))?;
        Ok(Weights::from_values(self.shape.clone(), values.concat())?)
    }

    /// Computes what [`crate::kernel::forward`] does: `[W][K][levels]`.
    ///
    /// # Errors
    /// When an array does not fit, or the device gives no 32-bit floats.
    pub fn forward(&self, inputs: &Inputs<'_>) -> Result<Vec<f32>, ReferenceError> {
        inputs.check(&self.shape)?;
        if inputs.windows * inputs.queries == 0 {
            return Ok(Vec::new());
        }
        Ok(read(Transaction::default().register(self.quantiles(inputs).inner()))?.concat())
    }

    /// Computes what [`crate::kernel::gradient`] does.
    ///
    /// # Errors
    /// When an array does not fit, or the device gives no 32-bit floats.
    pub fn gradient(&self, inputs: &Inputs<'_>, targets: &Targets<'_>) -> Result<(Loss, Vec<f32>), ReferenceError> {
        inputs.check(&self.shape)?;
        targets.check(inputs)?;
        let weight: f64 = targets.weight.iter().map(|&weight| f64::from(weight)).sum();
        if weight == 0.0 {
            return Ok((Loss { mean: 0.0, weight }, vec![0.0; self.shape.count()]));
        }
        let loss = self.loss(inputs, targets, weight);
        let gradients = loss.backward();
        // All in one reading: each waits for the device.
        let mut reading = Transaction::default().register(loss.inner());
        for tensor in &self.parameters.tensors {
            let tensor = tensor.val();
            let gradient = tensor.grad(&gradients).unwrap_or_else(|| tensor.inner().zeros_like());
            reading = reading.register(gradient);
        }
        let values = read(reading)?.concat();
        let (mean, gradient) =
            values.split_first().map_or((f64::NAN, &[][..]), |(&mean, rest)| (f64::from(mean), rest));
        Ok((Loss { mean, weight }, gradient.to_vec()))
    }

    fn loss(&self, inputs: &Inputs<'_>, targets: &Targets<'_>, weight: f64) -> Tensor<1> {
        let (rows, levels) = (targets.target.len(), self.shape.levels);
        let level: Vec<f32> = (0..levels).map(|index| self.shape.level(index)).collect();
        let level = matrix(&level, 1, levels, &self.device);
        let error = matrix(targets.target, rows, 1, &self.device) - self.quantiles(inputs);
        // The slope is a number of its own, so that an error of exactly 0 has the slope 0.
        let above = error.clone().detach().greater_elem(0.0).float();
        let below = error.clone().detach().lower_elem(0.0).float();
        let slope = level.clone() * above + (level - 1.0) * below;
        let weights = matrix(targets.weight, rows, 1, &self.device);
        ((error * slope).mean_dim(1) * weights).sum() / weight
    }

    fn tensor(&self, name: &str) -> Tensor<2> {
        let at = self.shape.tensors().iter().position(|spec| spec.name == name);
        let tensor = at.and_then(|at| self.parameters.tensors.get(at));
        tensor.map_or_else(|| Tensor::zeros([1, 1], &self.device), Param::val)
    }

    /// `[rows][levels]`.
    fn quantiles(&self, inputs: &Inputs<'_>) -> Tensor<2> {
        let (shape, device) = (&self.shape, &self.device);
        let Inputs { windows, queries, .. } = *inputs;
        let (rows, width, levels, slots) = (windows * queries, shape.width, shape.levels, shape.slots());
        let window = matrix(inputs.window, windows, shape.window, device);
        let mut context = window.matmul(self.tensor("entry.window.weight")) + self.tensor("entry.bias");
        if shape.recurrent {
            context = context + self.last_state(inputs).matmul(self.tensor("entry.state.weight"));
        }
        let context = context.reshape([windows, 1, width]).repeat_dim(1, queries).reshape([rows, width]);
        let query = matrix(inputs.query, rows, shape.query, device).matmul(self.tensor("entry.query.weight"));
        let entry = silu(context + query);
        let deep = silu(entry.clone().matmul(self.tensor("deep.weight")) + self.tensor("deep.bias"));
        let outputs = (entry + deep).matmul(self.tensor("out.weight")) + self.tensor("out.bias");
        let outputs = outputs.reshape([rows, slots + 1, levels]);
        let correction = outputs.clone().slice([0..rows, slots..slots + 1, 0..levels]).reshape([rows, levels]);
        if slots == 0 {
            return correction;
        }
        let cube =
            |values: &[f32], shape: [usize; 3]| Tensor::<3>::from_data(TensorData::new(values.to_vec(), shape), device);
        let (mut anchors, mut knowns) = (Vec::new(), Vec::new());
        if shape.anchors > 0 {
            let wide = |values| cube(values, [rows, shape.anchors, 1]).repeat_dim(2, levels);
            anchors.push(wide(inputs.anchor));
            knowns.push(wide(inputs.known));
        }
        let own = shape.quantile_anchors;
        if own > 0 {
            anchors.push(cube(inputs.quantile_anchor, [rows, levels, own]).swap_dims(1, 2));
            knowns.push(cube(inputs.quantile_known, [rows, own, 1]).repeat_dim(2, levels));
        }
        let (anchor, known) = (Tensor::cat(anchors, 1), Tensor::cat(knowns, 1));
        let logits = outputs.slice([0..rows, 0..slots, 0..levels]) * known.clone() + (known.clone() - 1.0) * UNKNOWN;
        let most = logits.clone().detach().max_dim(1);
        let exponentials = (logits - most).exp() * known;
        // At least 1 where an anchor is known; where none is, the weights are 0.
        let sum = exponentials.clone().sum_dim(1).clamp_min(0.5);
        let mean = (exponentials / sum * anchor).sum_dim(1).reshape([rows, levels]);
        mean + correction
    }

    fn last_state(&self, inputs: &Inputs<'_>) -> Tensor<2> {
        let (shape, windows, hidden) = (&self.shape, inputs.windows, self.shape.hidden);
        let parts = [
            (inputs.coarse, shape.coarse_tokens, shape.coarse_width, "coarse.weight", "coarse.bias"),
            (inputs.fine, shape.fine_tokens, shape.fine_width, "fine.weight", "fine.bias"),
        ];
        let (weight, bias) = (self.tensor("lstm.weight"), self.tensor("lstm.bias"));
        let mut state = Tensor::<2>::zeros([windows, hidden], &self.device);
        let mut cell = Tensor::<2>::zeros([windows, hidden], &self.device);
        for (values, tokens, width, token_weight, token_bias) in parts {
            for step in 0..tokens {
                // Gathered before: the gradient of a slice costs as much as the whole.
                let token = values.chunks_exact((tokens * width).max(1)).flat_map(|row| &row[step * width..][..width]);
                let token = matrix(&token.copied().collect::<Vec<f32>>(), windows, width, &self.device);
                let token = silu(token.matmul(self.tensor(token_weight)) + self.tensor(token_bias));
                let gates = Tensor::cat(vec![token, state], 1).matmul(weight.clone()) + bias.clone();
                let gate = |at: usize| gates.clone().slice([0..windows, at * hidden..(at + 1) * hidden]);
                cell = sigmoid(gate(1)) * cell + sigmoid(gate(0)) * tanh(gate(2));
                state = sigmoid(gate(3)) * tanh(cell.clone());
            }
        }
        state
    }
}

fn matrix(values: &[f32], rows: usize, columns: usize, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [rows, columns]), device)
}

fn read(reading: Transaction) -> Result<Vec<Vec<f32>>, ReferenceError> {
    let tensors = reading.try_execute().map_err(|error| ReferenceError::Device(format!("{error:?}")))?;
    let values = |data: TensorData| data.try_into_vec().map_err(|error| ReferenceError::Values(format!("{error:?}")));
    tensors.into_iter().map(values).collect()
}

#[cfg(test)]
mod tests {
    use burn::optim::{AdamWConfig, GradientsParams};

    use super::*;
    use crate::kernel::{self, Scratch};
    use crate::optimiser::{AdamW, Settings, Step};
    use crate::testing;

    fn largest(values: impl IntoIterator<Item = f32>) -> f32 {
        values.into_iter().fold(0.0, |most, value| most.max(value.abs()))
    }

    fn difference(left: &[f32], right: &[f32]) -> f32 {
        assert_eq!(left.len(), right.len());
        largest(left.iter().zip(right).map(|(left, right)| left - right))
    }

    #[test]
    fn kernel_and_reference_agree() {
        for shape in testing::shapes() {
            for (windows, queries) in [(1, 1), (1, 6), (3, 5), (37, 2)] {
                let weights = testing::weights(&shape, 11);
                let mut batch = testing::batch(&shape, windows, queries, 12);
                batch.weight[0] = 1.0; // or a batch of one query might have nothing to learn
                let (inputs, targets) = (batch.inputs(), batch.targets());
                let reference = Reference::new(&weights, &Device::flex());
                let mut scratch = Scratch::default();
                let expected = reference.forward(&inputs).unwrap();
                let mut found = vec![f32::NAN; expected.len()];
                kernel::forward(&weights, &inputs, &mut scratch, &mut found).unwrap();
                let scale = largest(expected.iter().copied()).max(1.0);
                assert!(difference(&found, &expected) < 1e-6 * scale, "{} of {scale}", difference(&found, &expected));

                let (expected_loss, expected) = reference.gradient(&inputs, &targets).unwrap();
                let mut found = vec![f32::NAN; expected.len()];
                let loss = kernel::gradient(&weights, &inputs, &targets, &mut scratch, &mut found).unwrap();
                assert!((loss.mean - expected_loss.mean).abs() < 1e-6 && loss.weight == expected_loss.weight);
                let scale = largest(expected.iter().copied());
                assert!(difference(&found, &expected) < 1e-6 * scale, "{} of {scale}", difference(&found, &expected));
            }
        }
    }

    #[test]
    fn weights_come_back_as_they_went() {
        let weights = testing::weights(&testing::shape(), 1);
        assert_eq!(Reference::new(&weights, &Device::flex()).weights().unwrap(), weights);
    }

    #[test]
    fn burns_adamw_takes_the_same_steps() {
        let shape = testing::shape();
        let mut weights = testing::weights(&shape, 1);
        let settings = Settings { max_norm: f32::INFINITY, epsilon: 1e-5, weight_decay: 0.01, ..Settings::default() };
        let mut ours = AdamW::new(settings, &weights);
        let mut reference = Reference::new(&weights, &Device::flex());
        let mut theirs = AdamWConfig::new().with_epsilon(1e-5).with_weight_decay(0.01).init();
        let (mut scratch, mut slopes) = (Scratch::default(), vec![0.0; shape.count()]);
        for step in 0..5 {
            let batch = testing::batch(&shape, 16, 3, step);
            let (inputs, targets) = (batch.inputs(), batch.targets());
            let loss = kernel::gradient(&weights, &inputs, &targets, &mut scratch, &mut slopes).unwrap();
            assert!(matches!(ours.step(&mut weights, loss.mean, &slopes, 0.01), Step::Taken { .. }));
            let gradients = reference.loss(&inputs, &targets, loss.weight).backward();
            let gradients = GradientsParams::from_grads(gradients, &reference.parameters);
            reference.parameters = theirs.step(0.01, reference.parameters, gradients);
        }
        let theirs = reference.weights().unwrap();
        assert!(difference(weights.values(), theirs.values()) < 1e-5);
        assert!(difference(weights.values(), testing::weights(&shape, 1).values()) > 1e-2);
    }
}
