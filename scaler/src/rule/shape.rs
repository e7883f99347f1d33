//! The shape of a rule file: what serde reads, before anything is checked.
//!
//! Fields that a rule must have are optional here: the checks name them all at once, beside other faults.

use std::collections::BTreeMap;

use cloudpulse_common::duration::PromDuration;
use cloudpulse_policy::policy::Pause;
use serde::Deserialize;
use serde_yaml::Value;

use crate::rule::quantity::Quantity;
use crate::target::TargetSpec;

/// One document, with the spec of either form.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Document<Spec> {
    pub(crate) api_version: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) metadata: Option<Metadata>,
    pub(crate) spec: Option<Spec>,
}

/// Name of the rule. Labels and annotations are for people and other tools.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Metadata {
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
    #[serde(default, rename = "labels")]
    pub(crate) _labels: BTreeMap<String, String>,
    #[serde(default, rename = "annotations")]
    pub(crate) _annotations: BTreeMap<String, String>,
}

/// The full form.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FullSpec {
    pub(crate) target: Option<TargetSpec>,
    pub(crate) mode: Option<ModeSpec>,
    pub(crate) min_replicas: Option<u32>,
    pub(crate) max_replicas: Option<u32>,
    pub(crate) when_above_max: Option<AboveMaxSpec>,
    pub(crate) metrics: Option<Vec<MetricSpec>>,
    pub(crate) behavior: Option<BehaviorSpec>,
    pub(crate) tolerance: Option<Quantity>,
    pub(crate) cooldown: Option<PromDuration>,
    pub(crate) schedules: Option<Vec<ScheduleSpec>>,
    pub(crate) pause: Option<Pause>,
    pub(crate) missing_data: Option<MissingDataSpec>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ModeSpec {
    Observe,
    Floor,
    Full,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AboveMaxSpec {
    pub(crate) policy: Option<AboveMaxPolicy>,
    pub(crate) percent: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum AboveMaxPolicy {
    Alert,
    Raise,
}

/// Times at which other bounds hold.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ScheduleSpec {
    pub(crate) name: Option<String>,
    pub(crate) time_zone: Option<String>,
    pub(crate) start: Option<String>,
    pub(crate) end: Option<String>,
    pub(crate) min_replicas: Option<u32>,
    pub(crate) max_replicas: Option<u32>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MissingDataSpec {
    pub(crate) policy: Option<MissingDataPolicy>,
    pub(crate) replicas: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum MissingDataPolicy {
    Hold,
    Reactive,
    Replicas,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MetricSpec {
    pub(crate) name: Option<String>,
    pub(crate) query: Option<String>,
    pub(crate) max_age: Option<PromDuration>,
    pub(crate) sources: Option<String>,
    pub(crate) replica_capacity: Option<Quantity>,
    pub(crate) average_value: Option<Quantity>,
    pub(crate) value: Option<Quantity>,
    pub(crate) target_utilization: Option<Quantity>,
    pub(crate) activation_threshold: Option<Quantity>,
    pub(crate) forecast: Option<String>,
    pub(crate) horizon: Option<String>,
    pub(crate) forecast_max_age: Option<PromDuration>,
    pub(crate) violation_cost: Option<Quantity>,
    pub(crate) quantile: Option<Quantity>,
}

/// `behavior` of the HPA v2.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BehaviorSpec {
    pub(crate) scale_up: Option<ScalingRulesSpec>,
    pub(crate) scale_down: Option<ScalingRulesSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ScalingRulesSpec {
    pub(crate) stabilization_window_seconds: Option<u32>,
    pub(crate) select_policy: Option<SelectPolicySpec>,
    pub(crate) policies: Option<Vec<RatePolicySpec>>,
    pub(crate) tolerance: Option<Quantity>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) enum SelectPolicySpec {
    Max,
    Min,
    Disabled,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RatePolicySpec {
    #[serde(rename = "type")]
    pub(crate) kind: Option<RateKind>,
    pub(crate) value: Option<u32>,
    pub(crate) period_seconds: Option<u32>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) enum RateKind {
    Pods,
    Percent,
}

/// The original's form, with a target added.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OriginalSpec {
    pub(crate) node_id: Option<String>,
    pub(crate) metric: Option<String>,
    pub(crate) threshold: Option<Quantity>,
    pub(crate) action: Option<String>,
    pub(crate) replicas: Option<u32>,
    pub(crate) cooldown: Option<u32>,
    pub(crate) target: Option<TargetSpec>,
}

/// Returns whether a spec is in the original's form: it has a field that only this form has.
pub(crate) fn is_original(document: &Value) -> bool {
    let spec = document.get("spec");
    ["nodeId", "metric", "threshold", "action"].iter().any(|field| spec.is_some_and(|spec| spec.get(field).is_some()))
}
