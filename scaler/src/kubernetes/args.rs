//! Flags of the scaler in a cluster.

use std::time::Duration;

use clap::Args;
use cloudpulse_common::duration::PromDuration;

use crate::kubernetes::client::ClientArgs;

/// Shortest lease: below it an API server that takes a few seconds would cost the lead.
const SHORTEST_LEASE: Duration = Duration::from_secs(5);

/// What the scaler does in a Kubernetes cluster.
#[derive(Debug, Clone, Args)]
pub struct KubernetesArgs {
    /// Take ScalingRule objects from the cluster beside the rule files, and write their status and events.
    ///
    /// Several scalers may run: all decide and serve, one of them acts, the one that holds the Lease.
    #[arg(long, env = "CLOUDPULSE_SCALER_KUBERNETES")]
    pub kubernetes: bool,
    /// How the API is reached.
    #[command(flatten)]
    pub client: ClientArgs,
    /// Namespace whose ScalingRules are taken; all where absent, which needs rights in all.
    #[arg(long = "kubernetes.namespace", env = "CLOUDPULSE_SCALER_KUBERNETES_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// Lease by which several scalers agree on the one that acts; none where there is but one.
    #[arg(
        long = "kubernetes.lease",
        env = "CLOUDPULSE_SCALER_KUBERNETES_LEASE",
        default_value = "cloudpulse/cloudpulse-scaler",
        value_name = "NAMESPACE/NAME|none"
    )]
    pub lease: String,
    /// How long the lead of a scaler lasts that no longer answers.
    #[arg(
        long = "kubernetes.lease-duration",
        env = "CLOUDPULSE_SCALER_KUBERNETES_LEASE_DURATION",
        default_value = "15s",
        value_name = "DURATION"
    )]
    pub lease_duration: PromDuration,
}

impl KubernetesArgs {
    /// Returns namespace and name of the lease; `None` where there is to be none.
    ///
    /// # Errors
    /// What is wrong with the flags.
    pub fn lease(&self) -> anyhow::Result<Option<(String, String)>> {
        anyhow::ensure!(
            self.lease_duration.0 >= SHORTEST_LEASE,
            "--kubernetes.lease-duration {} is too short; take at least 5s",
            self.lease_duration
        );
        if self.lease == "none" {
            return Ok(None);
        }
        match self.lease.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Some((namespace.to_owned(), name.to_owned())))
            }
            _ => anyhow::bail!("--kubernetes.lease {:?} is not of the form NAMESPACE/NAME, nor none", self.lease),
        }
    }
}
