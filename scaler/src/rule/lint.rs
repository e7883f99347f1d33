//! What is allowed and yet hardly meant: a checked rule in; warnings with the field out. Pure.

use cloudpulse_policy::policy::Demand;
use cloudpulse_policy::policy::Mode;
use cloudpulse_policy::policy::Pause;
use cloudpulse_policy::policy::SelectPolicy;

use crate::rule::Form;
use crate::rule::Rule;

/// A warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Path of the field.
    pub path: String,
    /// What is doubtful and what to do.
    pub message: String,
}

/// Metrics that say how many replicas there are: scaling moves them by itself.
const REPLICA_COUNTS: [&str; 8] = [
    "cloudpulse_scaler_",
    "kube_deployment_status_replicas",
    "kube_deployment_spec_replicas",
    "kube_statefulset_replicas",
    "kube_statefulset_status_replicas",
    "kube_replicaset_",
    "kube_horizontalpodautoscaler_",
    "keda_",
];

/// Returns what is doubtful about a rule.
pub fn lint(rule: &Rule) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |path: String, message: String| warnings.push(Warning { path, message });
    let policy = &rule.policy;
    for (at, query) in rule.queries.iter().enumerate() {
        let on_purpose = policy.metrics.get(at).is_some_and(|metric| matches!(metric.demand, Demand::Value { .. }));
        if let Some(why) = moved_by_scaling(&query.query).filter(|_| !on_purpose) {
            warn(
                format!("spec.metrics[{at}].query"),
                format!(
                    "{why}: scaling moves it, and the rule would answer itself; query the load on the whole workload, such \
                     as sum(rate(requests_total[1m])), or give the metric a value as its target"
                ),
            );
        }
    }
    if rule.form == Form::Full && policy.pause == Pause::All {
        warn("spec.pause".to_owned(), "is All, so that the rule never acts".to_owned());
    }
    let off = |direction: SelectPolicy| direction == SelectPolicy::Disabled;
    if off(policy.behavior.scale_up.select_policy) && off(policy.behavior.scale_down.select_policy) {
        warn("spec.behavior".to_owned(), "switches both directions off, so that the rule never acts".to_owned());
    }
    let bounds_move = policy.schedules.iter().any(|one| one.min_replicas.is_some() || one.max_replicas.is_some());
    if policy.min_replicas == policy.max_replicas && !bounds_move {
        let message = format!("is {} as maxReplicas is, so that the rule only holds that number", policy.min_replicas);
        warn("spec.minReplicas".to_owned(), message);
    }
    let forecasts = |demand: &Demand| matches!(demand, Demand::Load { forecast: Some(_), .. });
    if policy.mode == Mode::Full && !policy.metrics.iter().any(|metric| forecasts(&metric.demand)) {
        warn("spec.mode".to_owned(), "is full, but no metric names a forecast: the same as floor".to_owned());
    }
    warnings
}

/// Why scaling itself moves what a query gives; `None` where it does not seem to. Words are looked at, not meanings: a
/// warning costs little.
fn moved_by_scaling(query: &str) -> Option<String> {
    let code = without_strings(query);
    let words: Vec<(usize, &str)> = words(&code).collect();
    for count in REPLICA_COUNTS {
        if words.iter().any(|(_, word)| word.starts_with(count)) {
            return Some(format!("it counts replicas ({}…)", count.trim_end_matches('_')));
        }
    }
    if words.first().is_some_and(|(at, word)| *word == "avg" && code[..*at].trim().is_empty()) {
        return Some("it is an average over the replicas (avg)".to_owned());
    }
    let counted = words.iter().find(|(at, word)| {
        matches!(*word, "count" | "up") && code[..*at].trim_end().trim_end_matches('(').trim_end().ends_with('/')
    });
    counted.map(|_| "it is divided by the number of replicas".to_owned())
}

/// The query with each string literal, and all else that is not ASCII, made blank.
fn without_strings(query: &str) -> String {
    let mut quote = None;
    let mut escaped = false;
    query
        .chars()
        .map(|letter| match quote {
            Some(open) => {
                let ends = letter == open && !escaped;
                escaped = letter == '\\' && !escaped && open != '`';
                if ends {
                    quote = None;
                }
                ' '
            }
            None if matches!(letter, '"' | '\'' | '`') => {
                quote = Some(letter);
                ' '
            }
            None if letter.is_ascii() => letter,
            None => ' ',
        })
        .collect()
}

/// Names and keywords of ASCII text with their places.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':');
    let mut next = 0;
    code.split(move |letter| !is_part(letter))
        .map(move |word| {
            let at = next;
            next += word.len() + 1;
            (at, word)
        })
        .filter(|(_, word)| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::tests::rule;

    #[test]
    fn a_query_that_scaling_moves_is_found() {
        for query in [
            "avg(rate(container_cpu_usage_seconds_total[1m]))",
            " avg by (job) (up)",
            "sum(rate(requests_total[1m])) / count(up{job=\"web\"})",
            "sum(x) / (count(y))",
            "sum(x) / up",
            "kube_deployment_status_replicas_available{deployment=\"web\"}",
            "cloudpulse_scaler_desired_replicas",
        ] {
            assert!(moved_by_scaling(query).is_some(), "{query}");
        }
        for query in [
            "sum(rate(requests_total[1m]))",
            "sum(rate(requests_total{path=\"/avg\"}[1m]))",
            "sum(avg_over_time(queue_length[5m]))",
            "sum(x) / 60",
            "x / ignoring(a) sum(rate(y[1m]))",
            "sum(x{job='keda_'})",
        ] {
            assert_eq!(moved_by_scaling(query), None, "{query}");
        }
    }

    #[test]
    fn a_rule_that_can_never_act_is_found() {
        let paths = |spec: &str| -> Vec<String> {
            let text = format!(
                "  target: {{dryRun: {{}}}}\n{spec}\n  metrics: [{{name: a, query: sum(x), replicaCapacity: 1}}]\n"
            );
            lint(&rule(&text)).into_iter().map(|warning| warning.path).collect()
        };
        assert_eq!(paths("  maxReplicas: 5"), [""; 0]);
        assert_eq!(paths("  maxReplicas: 5\n  pause: All"), ["spec.pause"]);
        assert_eq!(paths("  maxReplicas: 5\n  mode: full"), ["spec.mode"]);
        assert_eq!(paths("  minReplicas: 5\n  maxReplicas: 5"), ["spec.minReplicas"]);
        let off = "behavior: {scaleUp: {selectPolicy: Disabled}, scaleDown: {selectPolicy: Disabled}}";
        assert_eq!(paths(&format!("  maxReplicas: 5\n  {off}")), ["spec.behavior"]);
        let schedule = "schedules: [{name: a, start: '0 8 * * *', end: '0 9 * * *', maxReplicas: 9}]";
        assert_eq!(paths(&format!("  minReplicas: 5\n  maxReplicas: 5\n  {schedule}")), [""; 0]);
    }
}
