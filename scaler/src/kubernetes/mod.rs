//! The scaler in a Kubernetes cluster.
//!
//! [`rules`] watches ScalingRule objects and hands them to the roster; [`lease`] says which of several scalers may act;
//! [`report`] writes what the rules decided into the objects' status and as events; [`hpa`] is the HorizontalPodAutoscaler
//! that a rule keeps where Kubernetes itself is to scale. The target itself is `target/kubernetes.rs`.

pub mod args;
pub mod client;
pub mod cluster;
pub mod crd;
pub mod hpa;
pub mod lease;
pub mod owner;
pub mod report;
pub mod rules;
pub mod run;
pub mod status;

/// Name under which the scaler writes fields of objects.
pub const FIELD_MANAGER: &str = "cloudpulse-scaler";
