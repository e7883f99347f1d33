//! A small network that mixes existing forecasts: its numbers, and nothing else.
//!
//! In go arrays: for each window of a series two sequences of tokens and some features, for each query (a horizon) features and
//! the forecasts of others, the anchors, of which some may be unknown. Out come quantiles of each query: for each level a mean
//! of the known anchors, weighted by a softmax, and a correction. What the features mean is the caller's business.
//!
//! ```text
//! token → Linear → SiLU → LSTM → last state h
//! [query, window, h] → Linear → SiLU = a;  a + SiLU(Linear(a)) → Linear → logits, corrections
//! quantile = Σ softmax(logits of what is known) · anchor + correction
//! ```
//!
//! - [`Shape`], [`Weights`] with [`store`] (safetensors): what a network is;
//! - [`Inputs`], [`Targets`]: what it is shown;
//! - [`kernel`]: the quantiles, the loss and its gradient on the CPU, by hand; what serves and trains;
//! - [`engine`]: the same on the CPU or on a GPU; [`device`]: which of them;
//! - [`optimiser`]: AdamW, its schedule, the running mean of the weights;
//! - [`reference`](mod@reference): the same network on burn's tensors, which proves the kernel and runs on a GPU.

mod batch;
pub mod device;
pub mod engine;
pub mod kernel;
pub mod optimiser;
mod random;
pub mod reference;
mod sample;
mod shape;
pub mod store;
#[cfg(test)]
mod testing;
mod weights;

pub use batch::{BatchError, Inputs, Targets};
pub use shape::{Shape, ShapeError, TensorSpec};
pub use weights::{Weights, WeightsError};
