//! The ScalingRules of a cluster: objects in; the rules that are in force, and a verdict on each object, out.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::Api;
use kube::ResourceExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector;
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::crd::ScalingRule;
use crate::kubernetes::status::Verdict;
use crate::roster::Roster;
use crate::rule;
use crate::rule::Rule;
use crate::target::TargetConfig;

/// Changes that come together are taken up together.
const SETTLE: Duration = Duration::from_millis(200);

/// The objects as they are, and what became of each. Clones share one state.
#[derive(Clone)]
pub struct Objects {
    store: Store<ScalingRule>,
    verdicts: Arc<Mutex<BTreeMap<String, Verdict>>>,
    /// What the verdicts were made of.
    judged: Arc<Mutex<Option<Judged>>>,
}

/// The objects' versions, and the rules of files beside them.
type Judged = (Vec<Version>, Vec<Rule>);

/// An object's name, unique id and generation, which a change of its spec counts up.
type Version = (String, Option<String>, Option<i64>);

fn version(object: &ScalingRule) -> Version {
    (key(object), object.uid(), object.metadata.generation)
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects").field("count", &self.store.len()).finish_non_exhaustive()
    }
}

impl Objects {
    /// Returns each object, and what became of it where that is known already.
    pub fn with_verdicts(&self) -> Vec<(Arc<ScalingRule>, Option<Verdict>)> {
        let verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut objects = self.store.state();
        objects.sort_by_key(|object| key(object));
        objects.into_iter().map(|object| (Arc::clone(&object), verdicts.get(&key(&object)).cloned())).collect()
    }

    /// Holds the objects against each other and against the rule files, and puts those in force that may be.
    async fn take_up(&self, roster: &Roster) {
        let mut objects = self.store.state();
        // The older one keeps a target that two want.
        objects
            .sort_by_cached_key(|object| (object.metadata.creation_timestamp.clone().map(|time| time.0), key(object)));
        let files = roster.files().await;
        {
            // What is written into a status comes back as a change of the object, and is none of its spec.
            let seen = (objects.iter().map(|object| version(object)).collect(), files.clone());
            let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
            if judged.as_ref() == Some(&seen) {
                return;
            }
            *judged = Some(seen);
        }
        let verdicts = judge(&objects, &files);
        let rules = verdicts.values().filter_map(|verdict| match verdict {
            Verdict::Accepted(rule) => Some(Rule::clone(rule)),
            Verdict::Refused { .. } => None,
        });
        let rules: Vec<Rule> = rules.collect();
        let before =
            std::mem::replace(&mut *self.verdicts.lock().unwrap_or_else(PoisonError::into_inner), verdicts.clone());
        for (name, verdict) in &verdicts {
            if let Verdict::Refused { reason, message } = verdict
                && before.get(name) != Some(verdict)
            {
                tracing::warn!(rule = name, reason, message, "a ScalingRule is not in force");
            }
        }
        let applied = roster.set_objects(rules).await;
        if applied.added + applied.changed + applied.removed > 0 {
            let crate::supervisor::Applied { added, changed, removed } = applied;
            tracing::info!(added, changed, removed, "ScalingRules taken up");
        }
    }
}

/// `namespace/name`, which is the rule's name.
pub(crate) fn key(object: &ScalingRule) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// Returns the verdict on each object, the earlier ones having the first right to a target. Pure.
fn judge(objects: &[Arc<ScalingRule>], files: &[Rule]) -> BTreeMap<String, Verdict> {
    let mut taken: HashMap<String, String> = files
        .iter()
        .filter_map(|rule| Some((rule.target.exclusive()?, format!("rule {:?} of a file", rule.name))))
        .collect();
    let mut verdicts = BTreeMap::new();
    for object in objects {
        let key = key(object);
        let spec = Value::Object(object.spec.fields.clone());
        let verdict = match rule::from_object(&object.namespace().unwrap_or_default(), &object.name_any(), &spec) {
            Err(findings) => {
                let lines: Vec<String> =
                    findings.0.iter().map(|finding| format!("{}: {}", finding.path, finding.message)).collect();
                Verdict::Refused { reason: "Invalid", message: lines.join("; ") }
            }
            Ok(rule) if files.iter().any(|file| file.name == rule.name) => {
                Verdict::Refused { reason: "NameConflict", message: "a rule file has a rule of this name".to_owned() }
            }
            // Whoever may write objects of a namespace is not thereby let at the engine that the scaler reaches.
            Ok(rule) if !matches!(rule.target, TargetConfig::Kubernetes { .. } | TargetConfig::DryRun { .. }) => {
                let message = format!("{} belongs in a rule file; an object scales kubernetes or dryRun", rule.target);
                Verdict::Refused { reason: "TargetNotAllowed", message }
            }
            Ok(rule) => match rule.target.exclusive() {
                Some(target) if taken.contains_key(&target) => {
                    let message = format!("{} is scaled by {} already", rule.target, taken[&target]);
                    Verdict::Refused { reason: "TargetConflict", message }
                }
                target => {
                    if let Some(target) = target {
                        taken.insert(target, format!("ScalingRule {key}"));
                    }
                    Verdict::Accepted(Box::new(rule))
                }
            },
        };
        verdicts.insert(key, verdict);
    }
    verdicts
}

/// Watches the ScalingRules of one namespace, or of all.
#[derive(Debug)]
pub struct Watch {
    objects: Objects,
    writer: reflector::store::Writer<ScalingRule>,
    api: Api<ScalingRule>,
}

impl Watch {
    /// Returns a watch that has seen nothing yet.
    pub fn new(cluster: &Cluster, namespace: Option<&str>) -> Self {
        let client = cluster.client().clone();
        let api =
            namespace.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace));
        let (store, writer) = reflector::store();
        Self { objects: Objects { store, verdicts: Arc::default(), judged: Arc::default() }, writer, api }
    }

    /// Returns the objects that the watch sees.
    pub fn objects(&self) -> Objects {
        self.objects.clone()
    }

    /// Watches until `shutdown` is cancelled. An API that is away changes nothing: the rules that were seen stay in force.
    /// `synced` is called when all objects have been seen for the first time.
    pub async fn run(self, roster: &Roster, synced: impl Fn(), shutdown: CancellationToken) {
        let Self { objects, mut writer, api } = self;
        let events = watcher::watcher(api, watcher::Config::default()).default_backoff();
        let mut events = std::pin::pin!(events);
        let mut said = String::new();
        let mut complete = false;
        let mut due: Option<tokio::time::Instant> = None;
        loop {
            let settled = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = roster.files_changed(), if complete => {
                    due.get_or_insert_with(|| tokio::time::Instant::now() + SETTLE);
                }
                () = settled => {
                    due = None;
                    objects.take_up(roster).await;
                    synced();
                }
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        if matches!(event, Event::InitDone) {
                            complete = true;
                            if !said.is_empty() {
                                tracing::info!("the ScalingRules can be watched again");
                                said.clear();
                            }
                        }
                        writer.apply_watcher_event(&event);
                        // Before the first list is complete the rest would look deleted.
                        if complete && !matches!(event, Event::Init | Event::InitApply(_)) {
                            due.get_or_insert_with(|| tokio::time::Instant::now() + SETTLE);
                        }
                    }
                    Some(Err(error)) => {
                        let words = error.to_string();
                        if words != said {
                            tracing::warn!(error = words, "the ScalingRules cannot be watched; those seen before stay in force");
                            said = words;
                        }
                    }
                    None => return,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, spec: &Value) -> Arc<ScalingRule> {
        let object = json!({
            "apiVersion": "cloudpulse.io/v1", "kind": "ScalingRule",
            "metadata": {"name": name, "namespace": "shop"}, "spec": spec,
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn spec(workload: &str) -> Value {
        json!({
            "mode": "floor", "minReplicas": 1,
            "target": {"kubernetes": {"apiVersion": "apps/v1", "kind": "Deployment", "name": workload}}, "maxReplicas": 5,
            "metrics": [{"name": "requests", "query": "sum(x)", "replicaCapacity": "100"}],
        })
    }

    fn refused<'v>(verdicts: &'v BTreeMap<String, Verdict>, name: &str) -> (&'static str, &'v str) {
        match &verdicts[name] {
            Verdict::Refused { reason, message } => (reason, message),
            Verdict::Accepted(rule) => panic!("{rule:?}"),
        }
    }

    #[test]
    fn the_first_keeps_a_target_and_a_bad_one_harms_no_other() {
        let objects = [
            object("a", &spec("web")),
            object("b", &spec("web")),
            object("c", &json!({"maxReplicas": 3})),
            object("d", &spec("db")),
        ];
        let verdicts = judge(&objects, &[]);
        assert!(matches!(verdicts["shop/a"], Verdict::Accepted(_)));
        assert!(matches!(verdicts["shop/d"], Verdict::Accepted(_)));
        assert_eq!(
            refused(&verdicts, "shop/b"),
            ("TargetConflict", "kubernetes:shop/Deployment/web is scaled by ScalingRule shop/a already")
        );
        let (reason, message) = refused(&verdicts, "shop/c");
        assert!(reason == "Invalid" && message.contains("spec.metrics: is missing"), "{message}");
    }

    #[test]
    fn an_object_reaches_no_docker_engine() {
        let mut docker = spec("web");
        docker["target"] = json!({"docker": {"project": "shop", "service": "web"}});
        let verdicts = judge(&[object("a", &docker)], &[]);
        assert_eq!(refused(&verdicts, "shop/a").0, "TargetNotAllowed");
        docker["target"] = json!({"dryRun": {}});
        assert!(matches!(judge(&[object("a", &docker)], &[])["shop/a"], Verdict::Accepted(_)));
    }

    #[test]
    fn a_rule_file_goes_before_an_object() {
        let file = rule::from_object("shop", "a", &spec("web")).unwrap();
        let verdicts = judge(&[object("a", &spec("db")), object("b", &spec("web"))], &[file]);
        assert_eq!(refused(&verdicts, "shop/a").0, "NameConflict");
        assert_eq!(refused(&verdicts, "shop/b").0, "TargetConflict");
    }

    #[test]
    fn the_original_s_form_is_taken_with_the_definition_s_defaults() {
        let original = json!({
            "mode": "floor", "minReplicas": 1, "nodeId": "n1", "metric": "cpu", "threshold": 80, "action": "scale_up",
            "replicas": 4, "cooldown": 60, "target": {"kubernetes": {"name": "web"}},
        });
        let verdicts = judge(&[object("a", &original)], &[]);
        assert!(matches!(verdicts["shop/a"], Verdict::Accepted(_)), "{verdicts:?}");
    }
}
