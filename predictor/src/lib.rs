//! The predictor: series from Prometheus in; their future out, as metrics and over remote read.
//!
//! The way of the data: [`fetch`] (range queries) → [`engine`] (histories, models) → [`publish`] (metrics page) and
//! [`remote_read`] (the curve at future timestamps), driven by [`runner`]. The commands `forecast` and `backtest` use the
//! same models on files or a query, without a server. The models themselves are the crate `cloudpulse-forecast`.

pub mod api;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod engine;
pub mod fetch;
pub mod metrics;
pub mod plot;
pub mod publish;
pub mod regressors;
pub mod remote_read;
pub mod rows;
pub mod runner;
pub mod saver;
pub mod shard;
pub mod state;
mod tracked;
pub mod tuner;
