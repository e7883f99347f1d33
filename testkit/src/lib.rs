//! Starts the real parts that tests, the demo and the benchmarks talk to: Prometheus, VictoriaMetrics, Alertmanager, a
//! Docker engine, and the programs of this workspace.
//!
//! Everything listens on 127.0.0.1, writes to a folder of its own and ends when its value is dropped. A part that is not
//! installed is an error that says what to install: nothing is skipped in silence.

pub mod alertmanager;
pub mod binary;
pub mod docker;
pub mod kubernetes;
pub mod net;
pub mod process;
pub mod prometheus;
pub mod reference;
pub mod victoriametrics;
