//! A workload of a Kubernetes cluster, by its `/scale` subresource: a Deployment, a StatefulSet, or anything else that has one.
//!
//! Replicas and selector come from `/scale`, readiness and the times of starts from the pods. Where the rule keeps a
//! HorizontalPodAutoscaler, that one scales, and what is done here is to keep it as the rule says.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use cloudpulse_policy::Replicas;
use cloudpulse_policy::policy::Mode;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use kube::api::PostParams;

use crate::kubernetes::FIELD_MANAGER;
use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::cluster::call;
use crate::kubernetes::hpa;
use crate::kubernetes::owner::Owner;
use crate::kubernetes::owner::owners;
use crate::target::Managed;
use crate::target::Plan;
use crate::target::ScaleTarget;
use crate::target::TargetError;
use crate::target::Workload;

/// A pod that took longer than this to be ready the first time it is seen was rather disturbed later.
const LONGEST_START: Duration = Duration::from_secs(15 * 60);

/// A workload with a `/scale` subresource.
#[derive(Debug)]
pub struct KubernetesTarget {
    cluster: Option<Cluster>,
    workload: Workload,
    managed: Managed,
    seen: Mutex<Seen>,
    keeper: hpa::Keeper,
}

/// What the pods showed.
#[derive(Debug, Default)]
struct Seen {
    ready: Option<Replicas>,
    /// Pods whose start was counted.
    counted: HashSet<String>,
    starts: Vec<Duration>,
}

/// One pod, as far as it matters here.
struct PodView {
    uid: String,
    ready: bool,
    /// From creation to ready; `None` where it is not, or was restarted.
    start: Option<Duration>,
}

impl KubernetesTarget {
    /// Returns the workload in `cluster`; without one each use is an error that says how to give one.
    pub fn new(cluster: Option<Cluster>, workload: Workload, managed: Managed) -> Self {
        Self { cluster, workload, managed, seen: Mutex::default(), keeper: hpa::Keeper::default() }
    }

    fn cluster(&self) -> Result<&Cluster, TargetError> {
        self.cluster.as_ref().ok_or_else(|| {
            TargetError::NotScalable(
                "no Kubernetes cluster is known: give --kubeconfig FILE, or run in a pod with --kubernetes".to_owned(),
            )
        })
    }

    async fn read(&self) -> Result<Replicas, TargetError> {
        let cluster = self.cluster()?;
        let name = &self.workload.name;
        let api = cluster.api_of(&self.workload).await?;
        let scale = call(&format!("read the scale of {name}"), api.get_scale(name)).await?;
        let selector = scale.status.as_ref().and_then(|status| status.selector.clone()).filter(|text| !text.is_empty());
        let pods = match selector {
            Some(selector) => self.pods(cluster, &selector).await,
            // Its kind does not say which pods are its own.
            None => None,
        };
        self.note(pods);
        replicas(&scale)
    }

    /// Returns the pods; `None` where the cluster does not tell, which costs no decision.
    async fn pods(&self, cluster: &Cluster, selector: &str) -> Option<Vec<PodView>> {
        let api: Api<Pod> = Api::namespaced(cluster.client().clone(), &self.workload.namespace);
        let of_workload = ListParams::default().labels(selector).match_any();
        match call("list the pods", api.list(&of_workload)).await {
            Ok(pods) => Some(pods.items.iter().filter_map(view).collect()),
            Err(error) => {
                tracing::debug!(workload = %self.workload, %error, "how many replicas are ready is not known");
                None
            }
        }
    }

    fn note(&self, pods: Option<Vec<PodView>>) {
        let mut seen = self.lock();
        let Some(pods) = pods else {
            seen.ready = None;
            return;
        };
        seen.ready = Replicas::try_from(pods.iter().filter(|pod| pod.ready).count()).ok();
        seen.counted.retain(|uid| pods.iter().any(|pod| pod.uid == *uid));
        for PodView { uid, start, .. } in pods {
            if let Some(start) = start
                && seen.counted.insert(uid)
                && start <= LONGEST_START
            {
                seen.starts.push(start);
            }
        }
    }

    async fn write(&self, desired: Replicas) -> Result<(), TargetError> {
        if self.managed == Managed::Hpa {
            return Err(TargetError::NotScalable(
                "its HorizontalPodAutoscaler scales it; change the rule's minReplicas to have more".to_owned(),
            ));
        }
        let cluster = self.cluster()?;
        let name = &self.workload.name;
        let api = cluster.api_of(&self.workload).await?;
        let mut scale = call(&format!("read the scale of {name}"), api.get_scale(name)).await?;
        if replicas(&scale)? == desired {
            return Ok(());
        }
        scale.spec.get_or_insert_default().replicas = i32::try_from(desired).ok();
        // The resource version that was read goes along: who scaled meanwhile is not overruled unseen.
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        call(&format!("scale {name}"), api.replace_scale(name, &parameters, &scale)).await.map(drop)
    }

    async fn see_to_owners(&self, plan: Plan<'_>) -> Result<(), TargetError> {
        let acts = plan.rule.policy.mode != Mode::Observe;
        if !acts && self.managed == Managed::Scale {
            // It may be tried beside whatever scales the workload.
            return Ok(());
        }
        let cluster = self.cluster()?;
        let (own, strangers): (Vec<Owner>, Vec<Owner>) = owners(cluster, &self.workload)
            .await?
            .into_iter()
            .partition(|owner| owner.rule.as_ref() == Some(&plan.rule.name));
        if let Some(Owner { kind, name, .. }) = strangers.first()
            && acts
        {
            return Err(TargetError::NotScalable(format!(
                "{kind} {name} scales {} already, and two would fight; delete it, or let the rule only observe",
                self.workload
            )));
        }
        if acts && self.managed == Managed::Hpa {
            return self.keeper.keep(cluster, &self.workload, plan, !own.is_empty()).await;
        }
        for Owner { name, .. } in own {
            hpa::remove(cluster, &self.workload.namespace, &name).await?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ScaleTarget for KubernetesTarget {
    fn replicas(&self) -> BoxFuture<'_, Result<Replicas, TargetError>> {
        self.read().boxed()
    }

    fn scale_to(&self, desired: Replicas) -> BoxFuture<'_, Result<(), TargetError>> {
        self.write(desired).boxed()
    }

    fn prepare<'a>(&'a self, plan: Plan<'a>) -> BoxFuture<'a, Result<(), TargetError>> {
        self.see_to_owners(plan).boxed()
    }

    fn is_scaled_by_another(&self) -> bool {
        self.managed == Managed::Hpa
    }

    fn ready(&self) -> Option<Replicas> {
        self.lock().ready
    }

    fn take_starts(&self) -> Vec<Duration> {
        std::mem::take(&mut self.lock().starts)
    }
}

/// The replicas that are asked for. A scale without the field has none: Go leaves a zero out of its JSON.
fn replicas(scale: &Scale) -> Result<Replicas, TargetError> {
    let replicas = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
    Replicas::try_from(replicas).map_err(|_| TargetError::NotScalable(format!("its scale says {replicas} replicas")))
}

/// Returns what matters of a pod; `None` for one that is being stopped, or has ended.
fn view(pod: &Pod) -> Option<PodView> {
    let status = pod.status.as_ref()?;
    let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if pod.metadata.deletion_timestamp.is_some() || ended {
        return None;
    }
    let since = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready" && condition.status == "True")
        .map(|condition| condition.last_transition_time.as_ref());
    let restarted = status.container_statuses.iter().flatten().any(|container| container.restart_count > 0);
    let created = pod.metadata.creation_timestamp.as_ref();
    let start = since
        .flatten()
        .zip(created)
        .filter(|_| !restarted)
        .and_then(|(ready, created)| Duration::try_from(ready.0.duration_since(created.0)).ok());
    Some(PodView { uid: pod.metadata.uid.clone().unwrap_or_default(), ready: since.is_some(), start })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, ready_at: Option<&str>, restarts: i32) -> Value {
        let condition = ready_at.map_or(
            json!({"type": "Ready", "status": "False"}),
            |at| json!({"type": "Ready", "status": "True", "lastTransitionTime": at}),
        );
        json!({
            "metadata": {"uid": uid, "creationTimestamp": "2026-11-28T10:00:00Z"},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Initialized", "status": "True"}, condition],
                "containerStatuses": [{"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": restarts}],
            },
        })
    }

    fn target_that_saw(rounds: &[Vec<Value>]) -> KubernetesTarget {
        let workload = Workload {
            namespace: "shop".to_owned(),
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            name: "web".to_owned(),
        };
        let target = KubernetesTarget::new(None, workload, Managed::Scale);
        for pods in rounds {
            let views = pods.iter().filter_map(|pod| view(&serde_json::from_value(pod.clone()).unwrap())).collect();
            target.note(Some(views));
        }
        target
    }

    #[test]
    fn a_start_is_from_creation_to_ready_and_counts_once() {
        let first = vec![pod("a", Some("2026-11-28T10:00:40Z"), 0), pod("b", None, 0)];
        let second = vec![pod("a", Some("2026-11-28T10:05:00Z"), 0), pod("b", Some("2026-11-28T10:01:10Z"), 0)];
        let target = target_that_saw(&[first.clone(), first, second]);
        assert_eq!(target.ready(), Some(2));
        assert_eq!(target.take_starts(), [Duration::from_secs(40), Duration::from_secs(70)]);
        assert_eq!(target.take_starts(), [Duration::ZERO; 0]);
    }

    #[test]
    fn what_was_disturbed_later_is_no_start_and_what_ends_is_not_ready() {
        let mut leaving = pod("c", Some("2026-11-28T10:00:10Z"), 0);
        leaving["metadata"]["deletionTimestamp"] = json!("2026-11-28T11:00:00Z");
        let mut failed = pod("d", Some("2026-11-28T10:00:10Z"), 0);
        failed["status"]["phase"] = json!("Failed");
        let late = pod("a", Some("2026-11-28T10:30:00Z"), 0);
        let restarted = pod("b", Some("2026-11-28T10:00:30Z"), 1);
        let target = target_that_saw(&[vec![late, restarted, leaving, failed]]);
        assert_eq!(target.ready(), Some(2));
        assert_eq!(target.take_starts(), [Duration::ZERO; 0]);
    }

    #[test]
    fn a_scale_that_names_no_replicas_has_none() {
        let scale = |spec: Value| replicas(&serde_json::from_value(json!({"spec": spec})).unwrap()).ok();
        assert_eq!(scale(json!({})), Some(0), "Go leaves zero out");
        assert_eq!(scale(json!({"replicas": 3})), Some(3));
        assert_eq!(scale(json!({"replicas": -1})), None);
    }
}
