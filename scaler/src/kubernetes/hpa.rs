//! The HorizontalPodAutoscaler of a rule with `managed: hpa`: a rule in; an HPA that goes by the load and, beside it, by the
//! replicas that the rule wants with its forecast. Kubernetes takes the larger. Where the forecast is unknown its metric is
//! an error, and the HPA goes on by the load and takes nothing away.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use cloudpulse_policy::policy::Behavior;
use cloudpulse_policy::policy::Bounds;
use cloudpulse_policy::policy::DEFAULT_TOLERANCE;
use cloudpulse_policy::policy::Demand;
use cloudpulse_policy::policy::Pause;
use cloudpulse_policy::policy::RateAmount;
use cloudpulse_policy::policy::ScalingRules;
use cloudpulse_policy::policy::SelectPolicy;
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use k8s_openapi::api::autoscaling::v2::ExternalMetricSource;
use k8s_openapi::api::autoscaling::v2::HPAScalingPolicy;
use k8s_openapi::api::autoscaling::v2::HPAScalingRules;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerSpec;
use k8s_openapi::api::autoscaling::v2::MetricIdentifier;
use k8s_openapi::api::autoscaling::v2::MetricSpec;
use k8s_openapi::api::autoscaling::v2::MetricTarget;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::Resource as _;
use kube::api::DeleteParams;
use kube::api::ObjectMeta;
use kube::api::Patch;
use kube::api::PatchParams;

use crate::external;
use crate::kubernetes::FIELD_MANAGER;
use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::cluster::call;
use crate::kubernetes::crd::ScalingRule;
use crate::kubernetes::owner::RULE_ANNOTATION;
use crate::rule::Rule;
use crate::target::Plan;
use crate::target::TargetError;
use crate::target::Workload;

/// How long an HPA that reads as it should is left alone; then it is written again, in case somebody changed it.
const REWRITE_AFTER: Duration = Duration::from_secs(60);

/// Keeps one HPA as its rule says.
#[derive(Debug, Default)]
pub struct Keeper {
    /// What was written last, and when.
    written: Mutex<Option<(HorizontalPodAutoscalerSpec, Instant)>>,
}

impl Keeper {
    /// Creates the HPA, or brings it to what the rule says. `exists`: whether it was seen in the cluster.
    ///
    /// # Errors
    /// Where the API does not answer, or refuses it.
    pub async fn keep(
        &self,
        cluster: &Cluster,
        workload: &Workload,
        plan: Plan<'_>,
        exists: bool,
    ) -> Result<(), TargetError> {
        let spec = spec(plan, workload);
        let is_written = self.lock().as_ref().is_some_and(|(last, at)| *last == spec && at.elapsed() < REWRITE_AFTER);
        if exists && is_written {
            return Ok(());
        }
        let (namespace, client) = (&workload.namespace, cluster.client().clone());
        let name = short_name(plan.rule);
        let rules: Api<ScalingRule> = Api::namespaced(client.clone(), namespace);
        let object = call(&format!("read ScalingRule {name}"), rules.get_metadata(name)).await?;
        let owner = OwnerReference {
            api_version: ScalingRule::api_version(&()).into_owned(),
            kind: ScalingRule::kind(&()).into_owned(),
            name: name.to_owned(),
            uid: object.metadata.uid.unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: None,
        };
        let hpa = HorizontalPodAutoscaler {
            metadata: ObjectMeta {
                name: Some(hpa_name(plan.rule)),
                namespace: Some(namespace.clone()),
                labels: Some(BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned())])),
                annotations: Some(BTreeMap::from([(RULE_ANNOTATION.to_owned(), plan.rule.name.clone())])),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(spec.clone()),
            status: None,
        };
        let hpas: Api<HorizontalPodAutoscaler> = Api::namespaced(client, namespace);
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let hpa_name = hpa_name(plan.rule);
        call(
            &format!("apply HorizontalPodAutoscaler {hpa_name}"),
            hpas.patch(&hpa_name, &parameters, &Patch::Apply(&hpa)),
        )
        .await?;
        let changed =
            self.lock().replace((spec, Instant::now())).is_none_or(|(last, _)| Some(&last) != hpa.spec.as_ref());
        if changed || !exists {
            tracing::info!(rule = plan.rule.name, hpa = hpa_name, "the HorizontalPodAutoscaler is as the rule says");
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(HorizontalPodAutoscalerSpec, Instant)>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Deletes an HPA that a rule kept.
///
/// # Errors
/// Where the API does not answer, or refuses it; that it is gone already is none.
pub async fn remove(cluster: &Cluster, namespace: &str, name: &str) -> Result<(), TargetError> {
    let hpas: Api<HorizontalPodAutoscaler> = Api::namespaced(cluster.client().clone(), namespace);
    let operation = format!("delete HorizontalPodAutoscaler {name}");
    match call(&operation, hpas.delete(name, &DeleteParams::default())).await {
        Ok(_) | Err(TargetError::NotFound(_)) => {
            tracing::info!(namespace, hpa = name, "the rule's HorizontalPodAutoscaler is deleted; the replicas stay");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The rule's name without its namespace.
fn short_name(rule: &Rule) -> &str {
    rule.name.rsplit('/').next().unwrap_or_default()
}

fn hpa_name(rule: &Rule) -> String {
    format!("cloudpulse-{}", short_name(rule))
}

/// Returns what the HPA is to be. Pure.
fn spec(plan: Plan<'_>, workload: &Workload) -> HorizontalPodAutoscalerSpec {
    let Plan { rule, bounds, pause } = plan;
    HorizontalPodAutoscalerSpec {
        scale_target_ref: CrossVersionObjectReference {
            api_version: Some(workload.api_version.clone()),
            kind: workload.kind.clone(),
            name: workload.name.clone(),
        },
        min_replicas: i32::try_from(bounds.min_replicas).ok(),
        max_replicas: max_replicas(bounds),
        metrics: Some(metrics(rule)),
        behavior: Some(behavior(&rule.policy.behavior, pause)),
    }
}

fn max_replicas(bounds: &Bounds) -> i32 {
    i32::try_from(bounds.raised_max).unwrap_or(i32::MAX)
}

fn metrics(rule: &Rule) -> Vec<MetricSpec> {
    let name = short_name(rule);
    let mut metrics = Vec::new();
    let mut has_forecast = false;
    for metric in &rule.policy.metrics {
        let of_metric = BTreeMap::from([("metric".to_owned(), metric.name.clone())]);
        let load = external::load_metric(name);
        match &metric.demand {
            Demand::Load { replica_capacity, target_utilization, forecast, .. } => {
                has_forecast |= forecast.is_some();
                metrics.push(external_metric(
                    load,
                    of_metric,
                    Target::AverageValue(replica_capacity * target_utilization),
                ));
            }
            Demand::Value { target } => metrics.push(external_metric(load, of_metric, Target::Value(*target))),
            // The original's form: a number of replicas, not a target. The rule's own metric below says it.
            Demand::Threshold { .. } => has_forecast = true,
        }
    }
    if has_forecast {
        let of_rule = BTreeMap::from([("rule".to_owned(), name.to_owned())]);
        metrics.push(external_metric(external::rule_metric(name), of_rule, Target::AverageValue(1.0)));
    }
    metrics
}

#[derive(Clone, Copy)]
enum Target {
    AverageValue(f64),
    Value(f64),
}

fn external_metric(name: String, labels: BTreeMap<String, String>, target: Target) -> MetricSpec {
    let (type_, average_value, value) = match target {
        Target::AverageValue(value) => ("AverageValue", Some(milli(value)), None),
        Target::Value(value) => ("Value", None, Some(milli(value))),
    };
    MetricSpec {
        type_: "External".to_owned(),
        external: Some(ExternalMetricSource {
            metric: MetricIdentifier {
                name,
                selector: Some(LabelSelector { match_labels: Some(labels), match_expressions: None }),
            },
            target: MetricTarget { type_: type_.to_owned(), average_value, value, average_utilization: None },
        }),
        ..MetricSpec::default()
    }
}

/// The nearest quantity that the HPA can tell apart, and never zero.
fn milli(value: f64) -> Quantity {
    Quantity(format!("{}m", (value * 1000.0).round().max(1.0)))
}

fn behavior(behavior: &Behavior, pause: Pause) -> HorizontalPodAutoscalerBehavior {
    let (no_up, no_down) = match pause {
        Pause::None => (false, false),
        Pause::All => (true, true),
        Pause::ScaleOut => (true, false),
        Pause::ScaleIn => (false, true),
    };
    HorizontalPodAutoscalerBehavior {
        scale_up: Some(direction(&behavior.scale_up, no_up)),
        scale_down: Some(direction(&behavior.scale_down, no_down)),
    }
}

fn direction(rules: &ScalingRules, off: bool) -> HPAScalingRules {
    let policies = rules.policies.iter().map(|policy| {
        let (type_, value) = match policy.amount {
            RateAmount::Pods(pods) => ("Pods", pods),
            RateAmount::Percent(percent) => ("Percent", percent),
        };
        HPAScalingPolicy {
            type_: type_.to_owned(),
            value: i32::try_from(value).unwrap_or(i32::MAX),
            period_seconds: i32::try_from(policy.period.as_secs()).unwrap_or(i32::MAX),
        }
    });
    let select = match rules.select_policy {
        _ if off => "Disabled",
        SelectPolicy::Max => "Max",
        SelectPolicy::Min => "Min",
        SelectPolicy::Disabled => "Disabled",
    };
    HPAScalingRules {
        policies: Some(policies.collect()),
        select_policy: Some(select.to_owned()),
        stabilization_window_seconds: i32::try_from(rules.stabilization_window.as_secs()).ok(),
        // A cluster before 1.33 does not know the field, so it is named only where it is not the default.
        tolerance: (rules.tolerance != DEFAULT_TOLERANCE).then(|| milli_or_zero(rules.tolerance)),
    }
}

fn milli_or_zero(value: f64) -> Quantity {
    Quantity(format!("{}m", (value * 1000.0).round()))
}

#[cfg(test)]
mod tests {
    use cloudpulse_policy::time::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::rule::from_object;
    use crate::target::TargetConfig;

    fn hpa_of(spec_of_rule: &serde_json::Value, pause: Pause) -> serde_json::Value {
        let rule = from_object("shop", "web", spec_of_rule).unwrap();
        let TargetConfig::Kubernetes { workload, .. } = &rule.target else { panic!("{:?}", rule.target) };
        let bounds = rule.policy.bounds(Timestamp::from_unix_milliseconds(0));
        serde_json::to_value(spec(Plan { rule: &rule, bounds: &bounds, pause }, workload)).unwrap()
    }

    #[test]
    fn an_hpa_goes_by_the_load_and_by_what_the_rule_wants() {
        let rule = json!({
            "target": {"kubernetes": {"name": "web", "managed": "hpa"}},
            "minReplicas": 2, "maxReplicas": 20, "whenAboveMax": {"policy": "Raise", "percent": 50},
            "metrics": [{"name": "requests", "query": "sum(x)", "forecast": "web", "replicaCapacity": 100}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60, "tolerance": "0.05"}},
        });
        let hpa = hpa_of(&rule, Pause::None);
        assert_eq!((&hpa["minReplicas"], &hpa["maxReplicas"]), (&json!(2), &json!(30)));
        assert_eq!(
            hpa["metrics"][0]["external"],
            json!({
                "metric": {"name": "cloudpulse-load-web", "selector": {"matchLabels": {"metric": "requests"}}},
                "target": {"type": "AverageValue", "averageValue": "80000m"},
            })
        );
        assert_eq!(
            hpa["metrics"][1]["external"],
            json!({
                "metric": {"name": "cloudpulse-rule-web", "selector": {"matchLabels": {"rule": "web"}}},
                "target": {"type": "AverageValue", "averageValue": "1000m"},
            })
        );
        assert_eq!(hpa["behavior"]["scaleDown"]["stabilizationWindowSeconds"], 60);
        assert_eq!(hpa["behavior"]["scaleDown"]["tolerance"], "50m");
        assert_eq!(hpa["behavior"]["scaleUp"].get("tolerance"), None);
        assert_eq!(hpa["behavior"]["scaleUp"]["selectPolicy"], "Max");
        let paused = hpa_of(&rule, Pause::ScaleIn);
        assert_eq!(paused["behavior"]["scaleDown"]["selectPolicy"], "Disabled");
        assert_eq!(paused["behavior"]["scaleUp"]["selectPolicy"], "Max");
    }

    #[test]
    fn a_rule_without_a_forecast_is_a_plain_hpa() {
        let rule = json!({
            "target": {"kubernetes": {"kind": "StatefulSet", "name": "db", "managed": "hpa"}}, "maxReplicas": 3,
            "metrics": [{"name": "queue", "query": "sum(q)", "value": "7.5"}],
        });
        let hpa = hpa_of(&rule, Pause::None);
        assert_eq!(hpa["scaleTargetRef"], json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db"}));
        assert_eq!(hpa["metrics"].as_array().unwrap().len(), 1);
        assert_eq!(hpa["metrics"][0]["external"]["target"], json!({"type": "Value", "value": "7500m"}));
    }
}
