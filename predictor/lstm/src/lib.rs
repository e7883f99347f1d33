//! A small network that mixes existing forecasts.
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
//! - [`corpus`], [`training`], [`tuning`]: windows of series, weights that learn from them, and weights that learn on from
//!   the series of one installation;
//! - [`member`]: the trained network as a member of the forecast;
//! - `reference`, with the feature of that name: the same network on burn's tensors, which proves the kernel and runs on a
//!   GPU.

mod batch;
pub mod corpus;
pub mod device;
pub mod engine;
pub mod kernel;
pub mod member;
pub mod optimiser;
mod random;
#[cfg(any(test, feature = "reference"))]
pub mod reference;
mod sample;
mod shape;
pub mod store;
#[cfg(test)]
mod testing;
pub mod training;
pub mod tuning;
mod weights;

pub use batch::{BatchError, Inputs, Targets};
pub use shape::{Shape, ShapeError, TensorSpec};
pub use weights::{Weights, WeightsError};
