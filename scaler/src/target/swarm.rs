//! A replicated service of Docker Swarm: its replicas are a number of its specification, which is all that is changed; the
//! rest is written back as it was read.
//!
//! What is ready, and how long that took, is read from its tasks: Swarm calls a task running when its container runs and,
//! where it has a health check, is healthy. `tasks` decides, here is the engine's I/O.

mod tasks;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use bollard::query_parameters::ListTasksOptions;
use cloudpulse_policy::Replicas;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::target::ScaleTarget;
use crate::target::TargetError;
use crate::target::engine::Engine;
use crate::target::raw::Answer;
use crate::target::swarm::tasks::Tasks;

/// How often the service is read again where someone else changed it in between.
const RETRIES: u32 = 3;

/// A replicated Swarm service.
#[derive(Debug)]
pub struct SwarmTarget {
    service: String,
    engine: Engine,
    tasks: Mutex<Tasks>,
}

/// A service as it was read.
struct Read {
    spec: Value,
    replicas: Replicas,
    version: u64,
    /// State of the last update; empty where there was none.
    update: String,
}

/// What the engine said instead of doing it.
#[derive(Debug, thiserror::Error)]
#[error("{message} (HTTP status {status})")]
struct Refusal {
    status: u16,
    message: String,
}

impl SwarmTarget {
    /// Returns the target; nothing is connected to yet. `host` is the address of a manager in the form of DOCKER_HOST; where
    /// absent, DOCKER_HOST or the default socket is used.
    pub fn new(service: String, host: Option<String>) -> Self {
        Self { service, engine: Engine::new(host), tasks: Mutex::default() }
    }

    async fn count(&self) -> Result<Replicas, TargetError> {
        // What was ready at an earlier look is not known now.
        self.tasks().unknown();
        let Read { replicas, .. } = self.read().await?;
        let filters = Some(HashMap::from([("service".to_owned(), vec![self.service.clone()])]));
        let client = self.engine.client().await?;
        let tasks = client
            .list_tasks(Some(ListTasksOptions { filters }))
            .await
            .map_err(|source| self.engine.error(source, format!("list the tasks of service {}", self.service)))?;
        self.tasks().look(&tasks);
        Ok(replicas)
    }

    async fn scale(&self, desired: Replicas) -> Result<(), TargetError> {
        let mut tried = 0;
        loop {
            let read = self.read().await?;
            if read.replicas == desired {
                return Ok(());
            }
            self.check_update(&read.update)?;
            match self.update(read, desired).await? {
                Ok(()) => {
                    tracing::info!(service = self.service, replicas = desired, "told Swarm");
                    return Ok(());
                }
                Err(refusal) if refusal.is_conflict() && tried < RETRIES => tried += 1,
                Err(refusal) if refusal.is_conflict() || refusal.is_for_now() => {
                    return Err(TargetError::Busy(format!(
                        "Swarm service {} is being changed by someone else: {refusal}",
                        self.service
                    )));
                }
                Err(refusal) => return Err(self.failed("update", refusal)),
            }
        }
    }

    async fn read(&self) -> Result<Read, TargetError> {
        let answer = self.engine.raw(&format!("/services/{}", self.service), None).await?;
        let mut service = match accepted(answer) {
            Ok(service) => service,
            Err(Refusal { status: 404, .. }) => {
                return Err(TargetError::NotFound(format!(
                    "there is no Swarm service {0}; make it once with docker service create --name {0} …",
                    self.service
                )));
            }
            Err(refusal) if refusal.message.contains("not a swarm manager") => {
                return Err(TargetError::NotFound(format!(
                    "there is no Swarm service {}: the {} is no manager of a swarm; name one in DOCKER_HOST",
                    self.service,
                    self.engine.name()
                )));
            }
            Err(refusal) => return Err(self.failed("inspect", refusal)),
        };
        let spec = service["Spec"].take();
        Ok(Read {
            replicas: self.replicas_of(&spec["Mode"])?,
            spec,
            version: service["Version"]["Index"].as_u64().unwrap_or(0),
            update: service["UpdateStatus"]["State"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// Returns the replicas of a replicated service.
    fn replicas_of(&self, mode: &Value) -> Result<Replicas, TargetError> {
        let is = |name: &str| mode.get(name).is_some_and(|mode| !mode.is_null());
        let what = if is("Replicated") {
            // The engine's default, where the specification does not say.
            let replicas = mode["Replicated"]["Replicas"].as_u64().unwrap_or(1);
            return Ok(Replicas::try_from(replicas).unwrap_or(Replicas::MAX));
        } else if is("Global") {
            "global: it has one task on each node"
        } else if is("ReplicatedJob") || is("GlobalJob") {
            "a job, which ends by itself"
        } else {
            "of a mode that is not known"
        };
        Err(TargetError::NotScalable(format!(
            "Swarm service {} is {what}; only a service of mode replicated can be scaled",
            self.service
        )))
    }

    /// A new number of replicas makes Swarm forget that an update was paused, and go on with it.
    fn check_update(&self, state: &str) -> Result<(), TargetError> {
        let what = match state {
            "paused" => "an update",
            "rollback_paused" => "a rollback",
            _ => return Ok(()),
        };
        Err(TargetError::Busy(format!(
            "{what} of Swarm service {0} is paused, and scaling would go on with it; see docker service inspect --pretty {0}, then docker service update or docker service rollback",
            self.service
        )))
    }

    async fn update(&self, read: Read, desired: Replicas) -> Result<Result<(), Refusal>, TargetError> {
        let Read { mut spec, version, .. } = read;
        spec["Mode"]["Replicated"]["Replicas"] = desired.into();
        let path = format!("/services/{}/update?version={version}&registryAuthFrom=spec", self.service);
        let answer = self.engine.raw(&path, Some(&spec)).await?;
        Ok(accepted(answer).map(|_| ()))
    }

    fn failed(&self, what: &str, refusal: Refusal) -> TargetError {
        let operation = format!("{what} service {}", self.service);
        TargetError::Failed { engine: self.engine.name(), operation, source: Box::new(refusal) }
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ScaleTarget for SwarmTarget {
    fn replicas(&self) -> BoxFuture<'_, Result<Replicas, TargetError>> {
        self.count().boxed()
    }

    fn scale_to(&self, desired: Replicas) -> BoxFuture<'_, Result<(), TargetError>> {
        self.scale(desired).boxed()
    }

    fn ready(&self) -> Option<Replicas> {
        self.tasks().ready()
    }

    fn take_starts(&self) -> Vec<Duration> {
        self.tasks().take_starts()
    }
}

/// Returns the body of an answer that is no refusal.
fn accepted(answer: Answer) -> Result<Value, Refusal> {
    let Answer { status, body } = answer;
    if (200..300).contains(&status) {
        return Ok(body);
    }
    Err(Refusal { status, message: body["message"].as_str().unwrap_or("without a reason").to_owned() })
}

impl Refusal {
    /// Someone else changed the service since it was read.
    fn is_conflict(&self) -> bool {
        self.message.contains("update out of sequence")
    }

    /// The service cannot be changed as it is now, such as one that is being removed.
    fn is_for_now(&self) -> bool {
        self.message.contains("FailedPrecondition")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target() -> SwarmTarget {
        SwarmTarget::new("web".to_owned(), None)
    }

    #[test]
    fn only_replicated_services_have_replicas() {
        for (mode, replicas) in [(json!({"Replicated": {"Replicas": 0}}), 0), (json!({"Replicated": {}}), 1)] {
            assert_eq!(target().replicas_of(&mode).unwrap(), replicas);
        }
        for (mode, words) in [
            (json!({"Global": {}}), "is global"),
            (json!({"GlobalJob": {}}), "is a job"),
            (json!({"ReplicatedJob": {"MaxConcurrent": 1}}), "is a job"),
            (json!({}), "not known"),
            (Value::Null, "not known"),
        ] {
            let error = target().replicas_of(&mode).unwrap_err();
            assert!(matches!(error, TargetError::NotScalable(_)) && error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn a_paused_update_is_not_woken_up() {
        for state in ["paused", "rollback_paused"] {
            assert!(matches!(target().check_update(state).unwrap_err(), TargetError::Busy(_)));
        }
        for state in ["", "updating", "completed"] {
            assert!(target().check_update(state).is_ok());
        }
    }

    #[test]
    fn refusals_are_told_apart_by_the_engine_s_words() {
        let refusal = |message: &str| accepted(Answer { status: 500, body: json!({"message": message}) }).unwrap_err();
        let conflict = refusal("rpc error: code = Unknown desc = update out of sequence");
        assert!(conflict.is_conflict() && !conflict.is_for_now());
        let removed = refusal("rpc error: code = FailedPrecondition desc = service web is marked for removal");
        assert!(removed.is_for_now() && !removed.is_conflict());
        let answer = Answer { status: 502, body: Value::Null };
        assert_eq!(accepted(answer).unwrap_err().to_string(), "without a reason (HTTP status 502)");
    }
}
