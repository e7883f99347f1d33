//! Holds load and forecasts against rules and scales workloads.
//!
//! The way of a decision: [`rule`] files say what and how; each turn of [`reconcile`] takes readings from [`source`]
//! (Prometheus) and the replicas from the [`target`], lets `cloudpulse_policy` decide, sets the target, and posts the turn
//! on the [`board`], which [`metrics`] and the [`api`] show. [`serve`], [`check`] and [`replay`] are the commands of the [`cli`].
//!
//! The decision itself is in the crate `cloudpulse-policy`, which knows neither Prometheus nor Docker.

pub mod ack;
pub mod api;
pub mod board;
pub mod check;
pub mod cli;
pub mod client;
pub mod control;
pub mod convert;
pub mod external;
pub mod generate;
pub mod kubernetes;
pub mod metrics;
pub mod reconcile;
pub mod reload;
pub mod replay;
pub mod roster;
pub mod rule;
pub mod serve;
pub mod source;
pub mod supervisor;
pub mod target;
