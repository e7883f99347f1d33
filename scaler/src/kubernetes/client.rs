//! The way to the Kubernetes API: a kubeconfig, or what a pod finds in its container; a client out.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use kube::Client;
use kube::Config;
use kube::config::KubeConfigOptions;
use kube::config::Kubeconfig;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How the Kubernetes API is reached.
#[derive(Debug, Clone, Default, Args)]
pub struct ClientArgs {
    /// Kubeconfig of the cluster; inside a pod the pod's own ServiceAccount where it is left out.
    #[arg(long, env = "CLOUDPULSE_SCALER_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// Returns a client. Nothing is sent yet: an API that is away is an error of each use.
///
/// # Errors
/// Where there is neither a usable kubeconfig nor a pod's ServiceAccount; says how to give one.
pub async fn connect(args: &ClientArgs) -> anyhow::Result<Client> {
    let mut config = match &args.kubeconfig {
        Some(file) => {
            let words = || format!("{} cannot be used as a kubeconfig", file.display());
            let kubeconfig = Kubeconfig::read_from(file).with_context(words)?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.with_context(words)?
        }
        None => Config::incluster().context(
            "no Kubernetes cluster is known: give --kubeconfig FILE, or run in a pod with automountServiceAccountToken",
        )?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Client::try_from(config).context("the client of the Kubernetes API cannot be made")
}
