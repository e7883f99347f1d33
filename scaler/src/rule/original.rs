//! The original's form: when a node's metric is beyond a threshold, have at least (or at most) so many replicas.
//!
//! It means what it said: `scale_up` acts above the threshold, `scale_down` below it, and after a change the rule rests
//! for its cooldown. It never had a target; one is added, and without it the rule runs dry.

use std::time::Duration;

use cloudpulse_policy::Replicas;
use cloudpulse_policy::policy::AboveMax;
use cloudpulse_policy::policy::Behavior;
use cloudpulse_policy::policy::Demand;
use cloudpulse_policy::policy::MetricPolicy;
use cloudpulse_policy::policy::MissingData;
use cloudpulse_policy::policy::Mode;
use cloudpulse_policy::policy::Pause;
use cloudpulse_policy::policy::Policy;
use cloudpulse_policy::policy::ScalingRules;
use cloudpulse_policy::policy::Side;

use crate::rule::Form;
use crate::rule::MetricQuery;
use crate::rule::Name;
use crate::rule::Rule;
use crate::rule::Sources;
use crate::rule::check::Check;
use crate::rule::quantity::Quantity;
use crate::rule::shape::OriginalSpec;
use crate::target::TargetConfig;

/// The original's SCALE_UP_COOLDOWN_SECONDS.
const SCALE_UP_COOLDOWN: Duration = Duration::from_secs(300);
/// The original's SCALE_DOWN_COOLDOWN_SECONDS.
const SCALE_DOWN_COOLDOWN: Duration = Duration::from_secs(600);
/// The recording rules are evaluated each minute at the latest.
const MAX_AGE: Duration = Duration::from_secs(120);
/// Where a dry run starts when the rule has no target.
const DRY_RUN_REPLICAS: Replicas = 1;

/// Returns the rule; `None` where something that it must have is absent, which is then among the findings.
pub(crate) fn check(Name { namespace, name }: Name, spec: OriginalSpec, check: &mut Check<'_>) -> Option<Rule> {
    let OriginalSpec { node_id, metric, threshold, action, replicas, cooldown, target } = spec;
    let node = check.required_text("spec.nodeId", node_id);
    let series = check.required_text("spec.metric", metric).and_then(|metric| recorded(&metric, check));
    let threshold = check.required("spec.threshold", threshold).and_then(|threshold| percent(threshold, check));
    let side = check.required_text("spec.action", action).and_then(|action| side(&action, check));
    let replicas =
        check.required("spec.replicas", replicas).and_then(|replicas| check.at_least_one("spec.replicas", replicas));
    let target = match target {
        Some(target) => target.check(1, namespace.as_deref(), check),
        None => Some(TargetConfig::DryRun { replicas: DRY_RUN_REPLICAS }),
    };
    let side = side?;
    let metric_name = series?.to_owned();
    let query = node_query(&metric_name, &node?);
    let cooldown = cooldown.map_or(
        match side {
            Side::Above => SCALE_UP_COOLDOWN,
            Side::Below => SCALE_DOWN_COOLDOWN,
        },
        |seconds| Duration::from_secs(seconds.into()),
    );
    Some(Rule {
        name,
        target: target?,
        policy: Policy {
            mode: Mode::Floor,
            // The rule speaks of one number only; beyond it others may scale as they like.
            min_replicas: 1,
            max_replicas: Replicas::MAX,
            schedules: Vec::new(),
            above_max: AboveMax::Alert,
            metrics: vec![MetricPolicy {
                name: metric_name.clone(),
                demand: Demand::Threshold { side, threshold: threshold?, replicas: replicas? },
            }],
            behavior: Behavior { scale_up: ScalingRules::unlimited(), scale_down: ScalingRules::unlimited() },
            cooldown,
            pause: Pause::None,
            missing_data: MissingData::Hold,
        },
        queries: vec![MetricQuery {
            name: metric_name,
            query,
            max_age: MAX_AGE,
            sources: Sources::Unknown,
            forecast: None,
        }],
        form: Form::Original,
    })
}

fn recorded(metric: &str, check: &mut Check<'_>) -> Option<&'static str> {
    match metric {
        "cpu" | "cpu_usage" => Some("cloudpulse_cpu_usage_percent"),
        "memory" | "memory_usage" => Some("cloudpulse_memory_usage_percent"),
        other => {
            check.add("spec.metric", format!("is {other:?}; known are cpu and memory (percent of the node)"));
            None
        }
    }
}

fn percent(Quantity(threshold): Quantity, check: &mut Check<'_>) -> Option<f64> {
    if (0.0..=100.0).contains(&threshold) {
        return Some(threshold);
    }
    check.add("spec.threshold", format!("is {threshold}; it is a percentage, from 0 to 100"));
    None
}

fn side(action: &str, check: &mut Check<'_>) -> Option<Side> {
    match action {
        "scale_up" => Some(Side::Above),
        "scale_down" => Some(Side::Below),
        other => {
            check.add("spec.action", format!("is {other:?}; known are scale_up and scale_down"));
            None
        }
    }
}

/// The series of one node: by the host of its scrape address, or by the name that its exporter reports.
fn node_query(series: &str, node: &str) -> String {
    let mut pattern = String::new();
    for letter in node.chars() {
        if !letter.is_alphanumeric() && !matches!(letter, '-' | '_') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    let (pattern, node) = (quoted(&format!("{pattern}(:[0-9]+)?")), quoted(node));
    format!("{series}{{instance=~{pattern}}} or {series} and on (instance) node_uname_info{{nodename={node}}}")
}

/// A PromQL string literal.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_found_by_address_or_by_name() {
        assert_eq!(
            node_query("m", "10.0.0.7"),
            r#"m{instance=~"10\\.0\\.0\\.7(:[0-9]+)?"} or m and on (instance) node_uname_info{nodename="10.0.0.7"}"#
        );
    }

    #[test]
    fn a_name_cannot_leave_its_literal() {
        assert_eq!(quoted("a\"b\\c\nd"), r#""a\"b\\c\nd""#);
    }
}
