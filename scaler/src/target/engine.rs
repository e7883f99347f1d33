//! The Docker engine that targets talk to: an address in; a client, and errors that name the engine, out.

use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::target::TargetError;
use crate::target::raw;
use crate::target::raw::Answer;

/// Deadline of a request to the engine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One engine, connected to at the first use.
#[derive(Debug)]
pub(crate) struct Engine {
    host: Option<String>,
    client: OnceCell<Docker>,
}

impl Engine {
    /// Returns the engine at `host`, an address in the form of DOCKER_HOST; where absent, DOCKER_HOST or the default
    /// socket is used. Nothing is connected to yet.
    pub(crate) const fn new(host: Option<String>) -> Self {
        Self { host, client: OnceCell::const_new() }
    }

    /// Returns the client, after the first use with the engine's version.
    ///
    /// # Errors
    /// [`TargetError::Unreachable`] where the engine does not answer; the next call tries again.
    pub(crate) async fn client(&self) -> Result<&Docker, TargetError> {
        let connect = || async {
            let client = match &self.host {
                Some(host) => Docker::connect_with_host(host),
                None => Docker::connect_with_defaults(),
            };
            client?.with_timeout(TIMEOUT).negotiate_version().await
        };
        self.client.get_or_try_init(connect).await.map_err(|source| self.error(source, "answer with its version"))
    }

    /// Asks for JSON that is kept as it is, in the engine's own version of the API: a GET of `path`, or a POST where there
    /// is a body.
    ///
    /// # Errors
    /// [`TargetError::Unreachable`] where the engine does not answer.
    pub(crate) async fn raw(&self, path: &str, body: Option<&Value>) -> Result<Answer, TargetError> {
        let version = self.client().await?.version().await;
        let version = version.map_err(|source| self.error(source, "answer with its version"))?;
        let version = version.api_version.map_or_else(String::new, |version| format!("/v{version}"));
        raw::request(&self.address(), &format!("{version}{path}"), body)
            .await
            .map_err(|source| TargetError::Unreachable { engine: self.name(), source: Box::new(source) })
    }

    /// Returns what a failed request means for a target: the engine is away, or it could not do `operation`.
    pub(crate) fn error(&self, source: Error, operation: impl Into<String>) -> TargetError {
        let engine = self.name();
        match source {
            Error::DockerResponseServerError { .. } => {
                TargetError::Failed { engine, operation: operation.into(), source: Box::new(source) }
            }
            source => TargetError::Unreachable { engine, source: Box::new(source) },
        }
    }

    /// Returns what errors call the engine.
    pub(crate) fn name(&self) -> String {
        format!("docker engine at {}", self.address())
    }

    fn address(&self) -> String {
        let default = || std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
        self.host.clone().unwrap_or_else(default)
    }
}
