//! The commands: each reads its arguments, does one thing, and says what came of it.

pub mod anomalies;
pub mod backtest;
pub mod forecast;
pub mod input;
pub mod models;
pub mod pretrain;
pub mod report;
pub mod serve;
