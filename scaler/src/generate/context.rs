//! What a template is told of a rule: a checked rule and the user's words in; values ready to be written out. Pure.

use cloudpulse_common::names;
use cloudpulse_policy::Replicas;
use cloudpulse_policy::policy::AboveMax;
use cloudpulse_policy::policy::DEFAULT_TOLERANCE;
use cloudpulse_policy::policy::Demand;
use cloudpulse_policy::policy::ForecastRule;
use cloudpulse_policy::policy::MissingData;
use cloudpulse_policy::policy::RateAmount;
use cloudpulse_policy::policy::ScalingRules;
use cloudpulse_policy::policy::SelectPolicy;
use serde::Serialize;

use crate::generate::panels::Panel;
use crate::generate::panels::panels;
use crate::rule::Horizon;
use crate::rule::MetricQuery;
use crate::rule::Rule;
use crate::rule::quoted;

/// The quantile that stands for a cost rule where only a quantile can be said.
const QUANTILE: f64 = 0.99;
/// The horizon that stands for an automatic one.
const HORIZON: &str = "5m";

/// All that a template may use.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Context {
    /// The rule's name, with its namespace.
    pub(super) rule: String,
    /// Without it.
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) workload: Workload,
    pub(super) prometheus: String,
    pub(super) min_replicas: Replicas,
    pub(super) max_replicas: Replicas,
    pub(super) metrics: Vec<Metric>,
    pub(super) behavior: Vec<Direction>,
    /// Those that name a minimum.
    pub(super) schedules: Vec<Schedule>,
    /// What cannot be said of the rule, a line each.
    pub(super) lost: Vec<String>,
    pub(super) panels: Vec<Panel>,
}

/// What is scaled.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Workload {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Metric {
    pub(super) name: String,
    pub(super) query: String,
    /// `AverageValue`, or `Value` for one that replicas move.
    pub(super) target_kind: &'static str,
    /// Load at which the reactive part aims, a replica, or the value; absent for a threshold.
    pub(super) per_replica: Option<String>,
    /// Load that the most replicas serve, as PromQL; absent where that is not known.
    pub(super) at_most: Option<String>,
    /// Load that one replica serves.
    pub(super) capacity: Option<f64>,
    pub(super) activation: String,
    pub(super) forecast: Option<Forecast>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Forecast {
    pub(super) name: String,
    pub(super) horizon: String,
    pub(super) quantile: String,
    pub(super) per_replica: String,
    /// PromQL of that quantile of the peak.
    pub(super) query: String,
}

/// One direction of `behavior`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Direction {
    pub(super) name: &'static str,
    pub(super) window_seconds: u64,
    pub(super) select_policy: &'static str,
    /// Where it is not the default.
    pub(super) tolerance: Option<String>,
    pub(super) policies: Vec<RateView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct RateView {
    pub(super) kind: &'static str,
    pub(super) value: u32,
    pub(super) period_seconds: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Schedule {
    pub(super) name: String,
    pub(super) time_zone: String,
    pub(super) start: String,
    pub(super) end: String,
    pub(super) min_replicas: Replicas,
}

impl Context {
    /// Returns what is to be written of `rule`. `workload` is `KIND/NAME`; by default a Deployment of the rule's name.
    pub(super) fn new(rule: &Rule, workload: Option<&str>, namespace: Option<&str>, prometheus: &str) -> Self {
        let (own_namespace, name) = match rule.name.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, rule.name.as_str()),
        };
        let (kind, workload) = workload.and_then(|text| text.split_once('/')).unwrap_or(("Deployment", name));
        let policy = &rule.policy;
        let metrics: Vec<Metric> = policy
            .metrics
            .iter()
            .zip(&rule.queries)
            .map(|(metric, query)| view(&metric.demand, query, policy.max_replicas))
            .collect();
        let behavior =
            vec![direction("scaleUp", &policy.behavior.scale_up), direction("scaleDown", &policy.behavior.scale_down)];
        let schedules = policy.schedules.iter().filter_map(|schedule| {
            let (start, time_zone) = schedule.start.parts();
            Some(Schedule {
                name: schedule.name.clone(),
                time_zone: time_zone.to_owned(),
                start: start.to_owned(),
                end: schedule.end.parts().0.to_owned(),
                min_replicas: schedule.min_replicas?,
            })
        });
        Self {
            rule: rule.name.clone(),
            name: name.to_owned(),
            namespace: namespace.or(own_namespace).map(str::to_owned),
            workload: Workload { api_version: "apps/v1".to_owned(), kind: kind.to_owned(), name: workload.to_owned() },
            prometheus: prometheus.to_owned(),
            min_replicas: policy.min_replicas,
            max_replicas: policy.max_replicas,
            panels: panels(&rule.name, &metrics),
            metrics,
            behavior,
            schedules: schedules.collect(),
            lost: lost(rule),
        }
    }
}

fn view(demand: &Demand, query: &MetricQuery, max_replicas: Replicas) -> Metric {
    let mut metric = Metric {
        name: query.name.clone(),
        query: query.query.clone(),
        target_kind: "AverageValue",
        per_replica: None,
        at_most: None,
        capacity: None,
        activation: "0".to_owned(),
        forecast: None,
    };
    if let Demand::Value { target } = demand {
        (metric.target_kind, metric.per_replica) = ("Value", Some(quantity(*target)));
    }
    let Demand::Load { replica_capacity, target_utilization, activation_threshold, forecast } = demand else {
        return metric;
    };
    metric.per_replica = Some(quantity(replica_capacity * target_utilization));
    metric.at_most = Some((replica_capacity * f64::from(max_replicas)).to_string());
    metric.capacity = Some(*replica_capacity);
    metric.activation = activation_threshold.to_string();
    metric.forecast = forecast.zip(query.forecast.as_ref()).map(|(rule, forecast)| {
        let quantile = match rule {
            ForecastRule::Quantile(quantile) => quantile,
            ForecastRule::ViolationCost(_) => QUANTILE,
        };
        let horizon = match forecast.horizon {
            Horizon::Fixed(horizon) => horizon.to_string(),
            Horizon::Auto => HORIZON.to_owned(),
        };
        let labels = [
            (names::FORECAST_LABEL, forecast.name.as_str()),
            (names::HORIZON_LABEL, &horizon),
            (names::QUANTILE_LABEL, &quantile.to_string()),
            (names::MODEL_LABEL, names::ENSEMBLE),
        ]
        .map(|(label, value)| format!("{label}={}", quoted(value)));
        Forecast {
            name: forecast.name.clone(),
            query: format!("max({}{{{}}})", names::FORECAST_PEAK.name, labels.join(",")),
            horizon,
            quantile: quantile.to_string(),
            per_replica: quantity(*replica_capacity),
        }
    });
    metric
}

fn direction(name: &'static str, rules: &ScalingRules) -> Direction {
    Direction {
        name,
        window_seconds: rules.stabilization_window.as_secs(),
        select_policy: match rules.select_policy {
            SelectPolicy::Max => "Max",
            SelectPolicy::Min => "Min",
            SelectPolicy::Disabled => "Disabled",
        },
        tolerance: (rules.tolerance != DEFAULT_TOLERANCE).then(|| quantity(rules.tolerance)),
        policies: rules
            .policies
            .iter()
            .map(|policy| {
                let (kind, value) = match policy.amount {
                    RateAmount::Pods(pods) => ("Pods", pods),
                    RateAmount::Percent(percent) => ("Percent", percent),
                };
                RateView { kind, value, period_seconds: policy.period.as_secs() }
            })
            .collect(),
    }
}

/// A number as Kubernetes reads it, to a thousandth and never less: `0.5` is `500m`.
fn quantity(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    format!("{:.0}m", (value * 1000.0 * (1.0 - 1e-12)).ceil())
}

/// What neither an HPA nor KEDA can do of a rule. Nothing of it is the user's own text, which could break out of a comment.
fn lost(rule: &Rule) -> Vec<String> {
    let policy = &rule.policy;
    let mut lost = Vec::new();
    let mut say = |line: &str| lost.push(line.to_owned());
    let forecasts = |demand: &Demand| match demand {
        Demand::Load { forecast, .. } => *forecast,
        Demand::Threshold { .. } | Demand::Value { .. } => None,
    };
    if policy
        .metrics
        .iter()
        .filter_map(|metric| forecasts(&metric.demand))
        .any(|rule| matches!(rule, ForecastRule::ViolationCost(_)))
    {
        say("violationCost: the quantile 0.99 of the peak stands for it");
    }
    if rule.queries.iter().filter_map(|query| query.forecast.as_ref()).any(|forecast| forecast.horizon == Horizon::Auto)
    {
        say("horizon auto: 5m stands for it; write one that is at least the time a pod takes to start");
    }
    if policy.metrics.iter().any(|metric| forecasts(&metric.demand).is_some()) {
        say("a small rise that is only foreseen: it stays within the tolerance of 10 %");
    }
    if !policy.schedules.is_empty() {
        say("schedules: KEDA's cron trigger knows a minimum only, an HPA none at all");
    }
    if matches!(policy.above_max, AboveMax::Raise { .. }) {
        say("whenAboveMax Raise");
    }
    if policy.min_replicas == 0 {
        say("minReplicas 0: an HPA needs the feature HPAScaleToZero for it; KEDA can");
    }
    if !policy.cooldown.is_zero() {
        say("cooldown");
    }
    if policy.missing_data != MissingData::Hold {
        say("missingData: an HPA holds while a metric is missing");
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_written_as_kubernetes_reads_them() {
        for (value, expected) in
            [(96.0, "96"), (0.5, "500m"), (0.1, "100m"), (120.0 * 0.8, "96"), (1e12, "1000000000000"), (0.0001, "1m")]
        {
            assert_eq!(quantity(value), expected, "{value}");
        }
    }
}
