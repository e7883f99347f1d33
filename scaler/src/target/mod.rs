//! What is scaled. A target is one file here, a field of [`TargetSpec`], a variant of [`TargetConfig`] and an arm of
//! [`connect`]; the compiler names the ones forgotten.

mod config;
pub mod docker;
pub mod dry_run;
mod engine;
pub mod kubernetes;
mod moment;
mod raw;
pub mod swarm;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cloudpulse_policy::Replicas;
use cloudpulse_policy::policy::Bounds;
use cloudpulse_policy::policy::Pause;
use futures_util::future::BoxFuture;
use tokio_util::task::TaskTracker;

pub use crate::target::config::Managed;
pub use crate::target::config::TargetConfig;
pub use crate::target::config::TargetSpec;
pub use crate::target::config::Workload;

use crate::kubernetes::cluster::Cluster;
use crate::rule::Rule;
use crate::target::docker::DockerTarget;
use crate::target::dry_run::DryRunTarget;
use crate::target::kubernetes::KubernetesTarget;
use crate::target::swarm::SwarmTarget;

/// One workload whose replicas can be read and set.
pub trait ScaleTarget: fmt::Debug + Send + Sync {
    /// Returns the replicas that the workload has: running or coming up, without those that are being stopped.
    fn replicas(&self) -> BoxFuture<'_, Result<Replicas, TargetError>>;

    /// Brings the workload to `desired` replicas. Idempotent: what is there already is left alone, and calling it again
    /// after a failure goes on where it ended. Returns when the new replicas are started; stops may go on behind it.
    fn scale_to(&self, desired: Replicas) -> BoxFuture<'_, Result<(), TargetError>>;

    /// Sees to what belongs to the target beside its replicas, before each turn of a rule that may act. Idempotent.
    fn prepare<'a>(&'a self, _plan: Plan<'a>) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Returns whether something else sets the replicas, by what the rule publishes; then [`Self::scale_to`] is not called.
    fn is_scaled_by_another(&self) -> bool {
        false
    }

    /// Returns how many of the replicas last read could serve; `None` where the target cannot tell.
    fn ready(&self) -> Option<Replicas> {
        None
    }

    /// Returns how long replicas took from creation until they could serve, of those that became ready since the last call.
    fn take_starts(&self) -> Vec<Duration> {
        Vec::new()
    }
}

/// What a rule wants of its target beside a number of replicas.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// Its bounds now.
    pub bounds: &'a Bounds,
    /// What is switched off now.
    pub pause: Pause,
}

/// What targets need to be connected to.
#[derive(Debug, Clone, Default)]
pub struct Engines {
    /// Keeps what goes on after a call, such as graceful stops.
    pub background: TaskTracker,
    /// The Kubernetes cluster, where there is one.
    pub cluster: Option<Cluster>,
}

/// Why a target could not be read or set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The engine behind the target does not answer; trying again may help.
    #[error("{engine} cannot be reached")]
    Unreachable {
        /// Which engine.
        engine: String,
        /// What its client said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine answered with an error.
    #[error("{engine} could not {operation}")]
    Failed {
        /// Which engine.
        engine: String,
        /// What was tried, such as `start container shop-web-3`.
        operation: String,
        /// What its client said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The workload is not there.
    #[error("{0}")]
    NotFound(String),
    /// The workload cannot have several replicas as it is; trying again does not help.
    #[error("{0}")]
    NotScalable(String),
    /// Others are at work on the workload; trying again later helps.
    #[error("{0}")]
    Busy(String),
    /// The replicas that were started last did not get ready, so no more are started for a while.
    #[error("{0}")]
    NeverReady(String),
}

impl TargetError {
    /// Returns a word for a metric label.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "target_unreachable",
            Self::Failed { .. } => "target_failed",
            Self::NotFound(_) => "target_not_found",
            Self::NotScalable(_) => "target_not_scalable",
            Self::Busy(_) => "target_busy",
            Self::NeverReady(_) => "target_never_ready",
        }
    }
}

/// Returns the target that `config` names. Connects to nothing yet: an engine that is away is an error of each use.
pub fn connect(config: &TargetConfig, engines: &Engines) -> Arc<dyn ScaleTarget> {
    let Engines { background, cluster } = engines;
    match config {
        TargetConfig::Kubernetes { workload, managed } => {
            Arc::new(KubernetesTarget::new(cluster.clone(), workload.clone(), *managed))
        }
        TargetConfig::Docker { project, service } => {
            Arc::new(DockerTarget::new(project.clone(), service.clone(), None, background.clone()))
        }
        TargetConfig::Labelled { key, value } => {
            Arc::new(DockerTarget::labelled(key.clone(), value.clone(), None, background.clone()))
        }
        TargetConfig::Swarm { service } => Arc::new(SwarmTarget::new(service.clone(), None)),
        TargetConfig::DryRun { replicas } => Arc::new(DryRunTarget::new(*replicas)),
    }
}
