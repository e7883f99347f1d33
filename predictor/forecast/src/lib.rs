//! Forecasts of evenly spaced series: values in, values out.
//!
//! The way of the data: [`series`] (samples on a grid, gaps explicit) → [`model`] (the pool) → [`ensemble`] (the best
//! combined) → [`conformal`] (honest quantiles) → [`evaluation`] (what came true). [`prophet`] is the exact solver behind
//! one of the models; [`peak`] is the distribution of the highest value until a horizon, which a scaler needs.
//!
//! Nothing in this crate reads a clock, a file or a network.

pub mod anomaly;
pub mod conformal;
pub mod ensemble;
pub mod evaluation;
pub mod model;
pub mod peak;
pub mod prophet;
pub mod series;
