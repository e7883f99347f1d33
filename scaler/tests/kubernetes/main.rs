//! The scaler in a real Kubernetes control plane. Not among the workspace's tests, because its programs take long to build:
//! `make test-kubernetes`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

mod ahead;
mod control_plane;
mod controller;
mod definition;
mod external_api;
mod hpa;
mod leader;
mod support;
