//! What the rules decided, told in the cluster: the board in; statuses and events of ScalingRules out. The leader writes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cloudpulse_policy::time::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff;
use kube::Api;
use kube::Resource as _;
use kube::ResourceExt as _;
use kube::api::ObjectMeta;
use kube::api::Patch;
use kube::api::PatchParams;
use kube::api::PostParams;
use serde_json::json;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::board::Entry;
use crate::board::Outcome;
use crate::control::Controls;
use crate::kubernetes::FIELD_MANAGER;
use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::cluster::call;
use crate::kubernetes::crd::ScalingRule;
use crate::kubernetes::lease::Leadership;
use crate::kubernetes::rules::Objects;
use crate::kubernetes::rules::key;
use crate::kubernetes::status;
use crate::kubernetes::status::Turn;
use crate::kubernetes::status::Verdict;
use crate::reconcile::clock;
use crate::target::TargetError;

/// How often the board is looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// The API's limit for an event's note.
const LONGEST_NOTE: usize = 1024;

/// Writes statuses and events.
#[derive(Debug)]
pub struct Reporter {
    /// Where to.
    pub cluster: Cluster,
    /// Of what.
    pub objects: Objects,
    /// What was decided.
    pub board: Arc<Board>,
    /// What was paused by hand.
    pub controls: Arc<Controls>,
    /// Whether this scaler writes.
    pub leadership: Leadership,
    /// This scaler's name, for the events.
    pub identity: String,
}

/// What was told of a rule.
#[derive(Debug, Default)]
struct Told {
    /// Up to which turn.
    until: Option<Timestamp>,
    /// The failure that was told last, so that one that goes on is not told at each turn.
    failure: Option<String>,
}

impl Reporter {
    /// Writes until `shutdown` is cancelled. What cannot be written is tried again.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told: HashMap<String, Told> = HashMap::new();
        let mut said = String::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.cancelled() => return,
            }
            if !self.leadership.leads() {
                continue;
            }
            let objects = self.objects.with_verdicts();
            told.retain(|name, _| objects.iter().any(|(object, _)| key(object) == *name));
            for (object, verdict) in objects {
                let Some(verdict) = verdict else { continue };
                let told = told.entry(key(&object)).or_default();
                match self.report(&object, &verdict, told).await {
                    Ok(()) => {}
                    Err(TargetError::NotFound(_) | TargetError::Busy(_)) => {} // Gone, or changed: the watch will tell.
                    Err(error) => {
                        let words = error.to_string();
                        if words != said {
                            tracing::warn!(rule = key(&object), error = words, "status and events cannot be written");
                            said = words;
                        }
                        break;
                    }
                }
            }
        }
    }

    async fn report(&self, object: &ScalingRule, verdict: &Verdict, told: &mut Told) -> Result<(), TargetError> {
        let now = clock();
        let name = key(object);
        let state = self.board.rule(&name);
        let turn = match verdict {
            Verdict::Accepted(rule) => state.as_ref().map(|state| Turn {
                entry: state.entries.front().map(|entry| &**entry),
                bounds: rule.policy.bounds(now),
                pause: self.controls.pause(&name, rule.policy.pause, now),
            }),
            Verdict::Refused { .. } => None,
        };
        if turn.is_some()
            && let Some(state) = &state
        {
            for entry in state.entries.iter().rev() {
                if told.until.is_none_or(|until| entry.time > until) {
                    self.tell(object, entry, told).await?;
                    told.until = Some(entry.time);
                }
            }
        }
        let before = object.status.as_ref();
        let status = status::status(verdict, object.metadata.generation, turn.as_ref(), before, now);
        if status::is_due(before, &status) {
            let api: Api<ScalingRule> =
                Api::namespaced(self.cluster.client().clone(), &object.namespace().unwrap_or_default());
            // The resource version keeps a status of an older spec from overwriting that of a newer one.
            let patch = json!({"metadata": {"resourceVersion": object.resource_version()}, "status": status});
            let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            let operation = format!("write the status of {name}");
            call(&operation, api.patch_status(&object.name_any(), &parameters, &Patch::Merge(patch))).await?;
        }
        Ok(())
    }

    /// Writes an event for each change, and for each failure that is new; a turn of one that stood by has neither.
    async fn tell(&self, object: &ScalingRule, entry: &Entry, told: &mut Told) -> Result<(), TargetError> {
        let decision = &entry.decision;
        let (kind, reason, note) = match &entry.outcome {
            Outcome::Scaled => {
                let (from, to) = (decision.current.unwrap_or_default(), decision.desired.unwrap_or_default());
                told.failure = None;
                let asked = |by: &str, replicas: Option<u32>| {
                    replicas.map(|replicas| format!("; the {by} asks for {replicas}")).unwrap_or_default()
                };
                let note = format!(
                    "{} from {from} to {to} replicas: {}{}{}",
                    entry.target,
                    status::words(decision.reason),
                    asked("load", decision.parts.reactive),
                    asked("forecast", decision.parts.forecast),
                );
                ("Normal", if to > from { "ScaledUp" } else { "ScaledDown" }, note)
            }
            Outcome::Failed { error, .. } => {
                if told.failure.as_ref() == Some(error) {
                    return Ok(());
                }
                told.failure = Some(error.clone());
                ("Warning", "FailedScale", error.clone())
            }
            Outcome::Unchanged | Outcome::Observed | Outcome::Published | Outcome::Standby => {
                told.failure = None;
                return Ok(());
            }
        };
        self.publish(object, kind, reason, note).await
    }

    async fn publish(
        &self,
        object: &ScalingRule,
        kind: &str,
        reason: &str,
        mut note: String,
    ) -> Result<(), TargetError> {
        note.truncate(note.floor_char_boundary(LONGEST_NOTE));
        let namespace = object.namespace().unwrap_or_default();
        let now = jiff::Timestamp::now();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", object.name_any(), now.as_nanosecond())),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            type_: Some(kind.to_owned()),
            reason: Some(reason.to_owned()),
            action: Some("Scale".to_owned()),
            note: Some(note),
            event_time: Some(MicroTime(now)),
            regarding: Some(ObjectReference {
                api_version: Some(ScalingRule::api_version(&()).into_owned()),
                kind: Some(ScalingRule::kind(&()).into_owned()),
                name: Some(object.name_any()),
                namespace: Some(namespace.clone()),
                uid: object.uid(),
                resource_version: object.resource_version(),
                field_path: None,
            }),
            reporting_controller: Some("cloudpulse.io/scaler".to_owned()),
            reporting_instance: Some(self.identity.chars().take(128).collect()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.cluster.client().clone(), &namespace);
        call("write an event", api.create(&PostParams::default(), &event)).await.map(drop)
    }
}
