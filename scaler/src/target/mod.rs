//! What is scaled. A target is one file and three lines here: a field of [`TargetSpec`], a variant of [`TargetConfig`] and
//! an arm of [`connect`]; the compiler names the ones forgotten.

pub mod docker;
pub mod dry_run;
mod engine;
mod moment;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cloudpulse_policy::Replicas;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_yaml::Value;
use tokio_util::task::TaskTracker;

use crate::rule::Check;
use crate::target::docker::DockerTarget;
use crate::target::dry_run::DryRunTarget;

/// One workload whose replicas can be read and set.
pub trait ScaleTarget: fmt::Debug + Send + Sync {
    /// Returns the replicas that the workload has: running or coming up, without those that are being stopped.
    fn replicas(&self) -> BoxFuture<'_, Result<Replicas, TargetError>>;

    /// Brings the workload to `desired` replicas. Idempotent: what is there already is left alone, and calling it again
    /// after a failure goes on where it ended. Returns when the new replicas are started; stops may go on behind it.
    fn scale_to(&self, desired: Replicas) -> BoxFuture<'_, Result<(), TargetError>>;

    /// Returns how many of the replicas last read could serve; `None` where the target cannot tell.
    fn ready(&self) -> Option<Replicas> {
        None
    }

    /// Returns how long replicas took from creation until they could serve, of those that became ready since the last call.
    fn take_starts(&self) -> Vec<Duration> {
        Vec::new()
    }
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

/// `target` in a rule file: exactly one of the fields.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetSpec {
    docker: Option<DockerSpec>,
    dry_run: Option<DryRunSpec>,
    swarm: Option<Value>,
    kubernetes: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DockerSpec {
    project: Option<String>,
    service: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DryRunSpec {
    replicas: Option<Replicas>,
}

/// A checked target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetConfig {
    /// A service of a Docker Compose project on one engine.
    Docker {
        /// The project's name.
        project: String,
        /// The service's name.
        service: String,
    },
    /// Nothing: what would be done is logged.
    DryRun {
        /// Replicas that it pretends to have at the start.
        replicas: Replicas,
    },
}

impl TargetSpec {
    /// Returns the checked target; `None` where it is unusable, which is then among the findings.
    pub(crate) fn check(self, min_replicas: Replicas, check: &mut Check<'_>) -> Option<TargetConfig> {
        let Self { docker, dry_run, swarm, kubernetes } = self;
        for (name, given) in [("swarm", swarm.is_some()), ("kubernetes", kubernetes.is_some())] {
            if given {
                check.not_yet(format!("spec.target.{name}"), "use docker (a Compose service) or dryRun");
            }
        }
        let unsupported = swarm.is_some() || kubernetes.is_some();
        match (docker, dry_run) {
            (Some(DockerSpec { project, service }), None) if !unsupported => {
                let project = check.required_text("spec.target.docker.project", project);
                let service = check.required_text("spec.target.docker.service", service);
                Some(TargetConfig::Docker { project: project?, service: service? })
            }
            (None, Some(DryRunSpec { replicas })) if !unsupported => {
                Some(TargetConfig::DryRun { replicas: replicas.unwrap_or(min_replicas) })
            }
            (None, None) if unsupported => None,
            (None, None) => {
                check.add("spec.target", "names no target; use docker: {project, service} or dryRun: {}");
                None
            }
            (Some(_), _) | (_, Some(_)) => {
                check.add("spec.target", "names several targets; a rule scales one");
                None
            }
        }
    }
}

impl TargetConfig {
    /// Returns a name of the workload that only one rule may scale; `None` where each rule has its own.
    pub fn exclusive(&self) -> Option<String> {
        match self {
            Self::Docker { .. } => Some(self.to_string()),
            Self::DryRun { .. } => None,
        }
    }
}

impl fmt::Display for TargetConfig {
    /// Writes a short name: `docker:project/service` or `dryRun`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Docker { project, service } => write!(f, "docker:{project}/{service}"),
            Self::DryRun { .. } => f.write_str("dryRun"),
        }
    }
}

/// Returns the target that `config` names. Connects to nothing yet: an engine that is away is an error of each use.
/// `background` keeps what goes on after a call, such as graceful stops.
pub fn connect(config: &TargetConfig, background: &TaskTracker) -> Arc<dyn ScaleTarget> {
    match config {
        TargetConfig::Docker { project, service } => {
            Arc::new(DockerTarget::new(project.clone(), service.clone(), None, background.clone()))
        }
        TargetConfig::DryRun { replicas } => Arc::new(DryRunTarget::new(*replicas)),
    }
}
