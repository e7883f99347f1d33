//! The shape of a rule file: what serde reads, before anything is checked.
//!
//! Fields that a rule must have are optional here: the checks name them all at once, beside other faults.

use std::collections::BTreeMap;

use cloudpulse_common::duration::PromDuration;
use cloudpulse_policy::policy::Pause;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_yaml::Value;

use crate::rule::quantity::Quantity;
use crate::rule::schema;
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
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FullSpec {
    /// What is scaled: exactly one target.
    #[schemars(extend("x-kubernetes-validations" = [schema::exactly_one(&["kubernetes", "docker", "swarm", "dryRun"])]))]
    pub(crate) target: Option<TargetSpec>,
    /// observe: publish decisions, touch nothing. floor: a forecast may only raise what the load asks for. full: it may also
    /// lower it.
    #[schemars(extend("default" = "floor"))]
    pub(crate) mode: Option<ModeSpec>,
    /// Fewest replicas. 0 lets the workload go to nothing where nothing is asked of it.
    #[schemars(extend("default" = 1))]
    pub(crate) min_replicas: Option<u32>,
    /// Most replicas.
    #[schemars(range(min = 1))]
    pub(crate) max_replicas: Option<u32>,
    /// What happens when more than maxReplicas are asked for.
    pub(crate) when_above_max: Option<AboveMaxSpec>,
    /// What the replicas are to be enough for; the largest demand wins.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub(crate) metrics: Option<Vec<MetricSpec>>,
    /// How fast replicas may change: the HPA's fields, meanings and defaults.
    pub(crate) behavior: Option<BehaviorSpec>,
    /// Relative change of the load within which nothing is done, for directions of behavior that name none; 0.1 where absent.
    pub(crate) tolerance: Option<Quantity>,
    /// Rest after each change, such as 5m; none where absent. In the original's form: seconds.
    #[serde(default)]
    #[schemars(schema_with = "schema::int_or_string")]
    pub(crate) cooldown: Option<PromDuration>,
    /// Times at which other bounds hold.
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub(crate) schedules: Option<Vec<ScheduleSpec>>,
    /// What is switched off.
    #[serde(default)]
    #[schemars(schema_with = "schema::pause")]
    pub(crate) pause: Option<Pause>,
    /// What happens when a reading is missing; it never scales in.
    pub(crate) missing_data: Option<MissingDataSpec>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ModeSpec {
    Observe,
    Floor,
    Full,
}

/// What happens when more than maxReplicas are asked for.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(self.policy == 'Raise') == has(self.percent)",
    "message": "percent belongs to the policy Raise, which needs it"
}]))]
pub(crate) struct AboveMaxSpec {
    /// Alert: stay at maxReplicas, and say so. Raise: go beyond it by percent.
    #[schemars(required)]
    pub(crate) policy: Option<AboveMaxPolicy>,
    /// How far beyond maxReplicas, in percent of it.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) percent: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum AboveMaxPolicy {
    Alert,
    Raise,
}

/// Times at which other bounds hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.minReplicas) || has(self.maxReplicas)", "message": "give minReplicas, maxReplicas or both"},
    {"rule": "self.start != self.end", "message": "start and end are the same, so that the schedule never holds"}
]))]
pub(crate) struct ScheduleSpec {
    /// Name of the schedule, unique in the rule.
    #[schemars(required, length(min = 1, max = 63))]
    pub(crate) name: Option<String>,
    /// IANA time zone of start and end, such as Europe/Berlin.
    #[schemars(extend("default" = "UTC"), length(max = 64))]
    pub(crate) time_zone: Option<String>,
    /// When it begins to hold: minute hour day month weekday.
    #[schemars(required, length(min = 1, max = 128))]
    pub(crate) start: Option<String>,
    /// When it ends, in the same form.
    #[schemars(required, length(min = 1, max = 128))]
    pub(crate) end: Option<String>,
    /// Fewest replicas meanwhile.
    pub(crate) min_replicas: Option<u32>,
    /// Most replicas meanwhile.
    #[schemars(range(min = 1))]
    pub(crate) max_replicas: Option<u32>,
}

/// What happens when a reading is missing.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(self.policy == 'Replicas') == has(self.replicas)",
    "message": "replicas belongs to the policy Replicas, which needs it"
}]))]
pub(crate) struct MissingDataSpec {
    /// Hold: nothing is taken away. Reactive: the load alone decides where only the forecast is missing. Replicas: have at
    /// least so many.
    #[schemars(required)]
    pub(crate) policy: Option<MissingDataPolicy>,
    /// Replicas to have at least where no metric is known.
    #[schemars(range(min = 1))]
    pub(crate) replicas: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum MissingDataPolicy {
    Hold,
    Reactive,
    Replicas,
}

/// One load that the replicas are to be enough for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    schema::exactly_one(&["replicaCapacity", "averageValue", "value"]),
    {"rule": "!(has(self.violationCost) && has(self.quantile))", "message": "give violationCost or quantile, not both"},
    {
        "rule": "has(self.forecast) || !(has(self.horizon) || has(self.forecastMaxAge) || has(self.violationCost) || has(self.quantile))",
        "message": "horizon, forecastMaxAge, violationCost and quantile need forecast"
    },
    {"rule": "!has(self.forecast) || has(self.replicaCapacity)", "message": "a forecast needs replicaCapacity"},
    {"rule": "!has(self.targetUtilization) || has(self.replicaCapacity)", "message": "targetUtilization belongs to replicaCapacity"}
]))]
pub(crate) struct MetricSpec {
    /// Name of the metric, unique in the rule.
    #[schemars(required, length(min = 1, max = 63))]
    pub(crate) name: Option<String>,
    /// PromQL that gives one series: the load on the whole workload, such as sum(rate(http_requests_total{app="web"}[1m])).
    #[schemars(required, length(min = 1, max = 8192))]
    pub(crate) query: Option<String>,
    /// A sample older than this is stale; 2m where absent.
    #[serde(default)]
    #[schemars(schema_with = "schema::duration")]
    pub(crate) max_age: Option<PromDuration>,
    /// PromQL that gives 1 for each source of the load that could be read and 0 for each other; none asks for nothing; up of
    /// the query's job where absent.
    #[schemars(length(max = 8192))]
    pub(crate) sources: Option<String>,
    /// Load that one replica serves within its objective.
    pub(crate) replica_capacity: Option<Quantity>,
    /// Load per replica to aim at, as an HPA has it.
    pub(crate) average_value: Option<Quantity>,
    /// What the query is to give, as an HPA has it.
    pub(crate) value: Option<Quantity>,
    /// Share of replicaCapacity at which the load now aims; 0.8 where absent. Quote it.
    pub(crate) target_utilization: Option<Quantity>,
    /// Load up to which no replica is needed; with minReplicas 0.
    pub(crate) activation_threshold: Option<Quantity>,
    /// Name of the predictor's forecast of the same load.
    #[schemars(length(min = 1, max = 253))]
    pub(crate) forecast: Option<String>,
    /// How far ahead is looked, such as 5m; auto: as long as replicas take to start. 5m where absent.
    #[schemars(length(min = 1, max = 32))]
    pub(crate) horizon: Option<String>,
    /// A forecast made longer ago than this is stale; 5m where absent.
    #[serde(default)]
    #[schemars(schema_with = "schema::duration")]
    pub(crate) forecast_max_age: Option<PromDuration>,
    /// What a minute with too few replicas costs, in minutes of the whole workload; 30 where absent.
    pub(crate) violation_cost: Option<Quantity>,
    /// Quantile of the peak to be enough for, in place of violationCost. Quote it.
    pub(crate) quantile: Option<Quantity>,
}

/// How fast replicas may change, as in the HPA v2.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BehaviorSpec {
    /// Upwards.
    pub(crate) scale_up: Option<ScalingRulesSpec>,
    /// Downwards.
    pub(crate) scale_down: Option<ScalingRulesSpec>,
}

/// How fast replicas may change in one direction.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ScalingRulesSpec {
    /// The most cautious recommendation of so many seconds wins; 0 upwards and 300 downwards where absent.
    #[schemars(range(max = 3600))]
    pub(crate) stabilization_window_seconds: Option<u32>,
    /// Which policy wins: Max where absent; Disabled switches the direction off.
    pub(crate) select_policy: Option<SelectPolicySpec>,
    /// How much at once.
    #[schemars(length(min = 1, max = 16))]
    pub(crate) policies: Option<Vec<RatePolicySpec>>,
    /// Relative change of the load within which nothing is done. Quote it.
    pub(crate) tolerance: Option<Quantity>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(crate) enum SelectPolicySpec {
    Max,
    Min,
    Disabled,
}

/// How much replicas may change in a period.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RatePolicySpec {
    /// What value counts.
    #[serde(rename = "type")]
    #[schemars(required)]
    pub(crate) kind: Option<RateKind>,
    /// Pods, or percent of those at the period's start.
    #[schemars(required, range(min = 1))]
    pub(crate) value: Option<u32>,
    /// The period.
    #[schemars(required, range(min = 1, max = 1800))]
    pub(crate) period_seconds: Option<u32>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(crate) enum RateKind {
    Pods,
    Percent,
}

/// The original's form, with a target added.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OriginalSpec {
    /// Original form: the node, by its scrape address or host name.
    #[schemars(length(min = 1, max = 253))]
    pub(crate) node_id: Option<String>,
    /// Original form: cpu or memory, in percent of the node.
    #[schemars(extend("enum" = ["cpu", "cpu_usage", "memory", "memory_usage"]))]
    pub(crate) metric: Option<String>,
    /// Original form: percentage beyond which the rule acts.
    pub(crate) threshold: Option<Quantity>,
    /// Original form: scale_up acts above the threshold, scale_down below it.
    #[schemars(extend("enum" = ["scale_up", "scale_down"]))]
    pub(crate) action: Option<String>,
    /// Original form: replicas to have at least (scale_up) or at most (scale_down).
    #[schemars(range(min = 1))]
    pub(crate) replicas: Option<u32>,
    /// Rest after each change; in this form seconds.
    pub(crate) cooldown: Option<u32>,
    /// What is scaled.
    pub(crate) target: Option<TargetSpec>,
}

/// Returns whether a spec is in the original's form: it has a field that only this form has.
pub(crate) fn is_original(document: &Value) -> bool {
    let spec = document.get("spec");
    ["nodeId", "metric", "threshold", "action"].iter().any(|field| spec.is_some_and(|spec| spec.get(field).is_some()))
}
