//! What several parts ask of the Kubernetes API: a client in; calls with a deadline, and errors in a target's words, out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use kube::Api;
use kube::Client;
use kube::api::ApiResource;
use kube::api::DynamicObject;
use kube::core::GroupVersionKind;
use kube::discovery::oneshot::pinned_kind;

use crate::target::TargetError;
use crate::target::Workload;

/// Deadline of one call. With two of them on the way to a change, a scaler that lost its lease is done before another may
/// act; see [`super::lease`].
pub const DEADLINE: Duration = Duration::from_secs(3);

const ENGINE: &str = "the Kubernetes API";

/// A Kubernetes cluster. Clones share what they learned of its kinds.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    kinds: Arc<Mutex<HashMap<(String, String), ApiResource>>>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

impl Cluster {
    /// Returns the cluster behind a client.
    pub fn new(client: Client) -> Self {
        Self { client, kinds: Arc::default() }
    }

    /// Returns the client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the API of the workload's kind in its namespace. The cluster is asked once for each kind.
    ///
    /// # Errors
    /// Where the cluster does not know the kind, or does not answer.
    pub async fn api_of(&self, workload: &Workload) -> Result<Api<DynamicObject>, TargetError> {
        let key = (workload.api_version.clone(), workload.kind.clone());
        let known = self.kinds.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let resource = match known {
            Some(resource) => resource,
            None => {
                let kind = GroupVersionKind::gvk(workload.group(), workload.version(), &workload.kind);
                let operation = format!("say what {} {} is", workload.api_version, workload.kind);
                let (resource, _) = call(&operation, pinned_kind(&self.client, &kind)).await.map_err(|error| {
                    let Workload { api_version, kind, .. } = workload;
                    match error {
                        TargetError::NotFound(_) => {
                            TargetError::NotFound(format!("the cluster knows no kind {kind} in {api_version}"))
                        }
                        other => other,
                    }
                })?;
                self.kinds.lock().unwrap_or_else(PoisonError::into_inner).insert(key, resource.clone());
                resource
            }
        };
        Ok(Api::namespaced_with(self.client.clone(), &workload.namespace, &resource))
    }
}

/// Waits for a call, for [`DEADLINE`] at most. `operation` says what was tried, such as `scale web`.
///
/// # Errors
/// What the API said, or that it said nothing.
pub async fn call<T>(operation: &str, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, TargetError> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(explain(operation, error)),
        Err(elapsed) => Err(TargetError::Unreachable { engine: ENGINE.to_owned(), source: Box::new(elapsed) }),
    }
}

fn explain(operation: &str, error: kube::Error) -> TargetError {
    let engine = ENGINE.to_owned();
    match error {
        kube::Error::Api(status) if status.code == 404 => TargetError::NotFound(status.message.clone()),
        kube::Error::Api(status) if status.code == 409 => TargetError::Busy(status.message.clone()),
        kube::Error::Api(status) if matches!(status.code, 429 | 500..) => {
            TargetError::Unreachable { engine, source: status.message.clone().into() }
        }
        kube::Error::Api(status) => {
            let operation = operation.to_owned();
            TargetError::Failed { engine, operation, source: status.message.clone().into() }
        }
        kube::Error::Discovery(error) => TargetError::NotFound(error.to_string()),
        error @ (kube::Error::SerdeError(_) | kube::Error::BuildRequest(_)) => {
            TargetError::Failed { engine, operation: operation.to_owned(), source: Box::new(error) }
        }
        error => TargetError::Unreachable { engine, source: Box::new(error) },
    }
}
