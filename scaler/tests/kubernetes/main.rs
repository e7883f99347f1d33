//! The scaler in a real Kubernetes control plane. Not among the workspace's tests, because its programs take long to build:
//! `make test-kubernetes`.

mod control_plane;
mod external_api;
