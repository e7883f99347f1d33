//! Forecasts of evenly spaced series: values in, values out.
//!
//! The way of the data: [`series`] (samples on a grid, gaps explicit) → [`tracker`] (one series as it grows: its
//! [`history`], what each model of the pool ([`model`]) and each horizon has learnt) → [`ensemble`] (the best combined,
//! with [`conformal`] quantiles) → [`live`] and [`evaluation`] (what came true, of what was issued and of what would have
//! been). [`prophet`] is the exact solver behind one of the
//! models; [`peak`] is the distribution of the highest value until a horizon, which a scaler needs; [`anomaly`] says how unusual each
//! value is.
//!
//! Nothing in this crate reads a clock, a file or a network.

pub mod anomaly;
mod column;
mod combination;
pub mod conformal;
pub mod ensemble;
pub mod evaluation;
pub mod history;
pub mod known;
mod ladder;
pub mod live;
pub mod model;
pub mod network;
pub mod peak;
pub mod prophet;
mod regression;
pub mod series;
mod tails;
pub mod tracker;
