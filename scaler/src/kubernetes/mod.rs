//! The scaler in a Kubernetes cluster.

pub mod client;
