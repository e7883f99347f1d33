//! The scaler's rules as external metrics: the newest turn of a rule in; the replicas it wants, or its load, out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cloudpulse_common::duration::PromDuration;
use cloudpulse_policy::policy::DEFAULT_TOLERANCE;
use cloudpulse_policy::publish::value_for_hpa;
use cloudpulse_policy::time::Timestamp;

use super::name;
use super::time_text;
use crate::board::Board;
use crate::board::Entry;
use crate::board::Outcome;
use crate::external::Item;
use crate::external::NoValue;
use crate::external::selector::Selector;

/// Label: the rule's name, without its namespace.
const RULE_LABEL: &str = "rule";
/// Label: the name of a metric of the rule.
const METRIC_LABEL: &str = "metric";

/// What is asked of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// The replicas that it wants.
    Replicas,
    /// The load of one of its metrics.
    Load,
}

/// Returns the value of `metric`, of which `asked_name` is the part that names a rule. A rule without a namespace is
/// answered in every namespace; one with a namespace only there. A turn older than `max_age` at `now` is stale.
pub(super) fn select(
    board: &Board,
    asked: Asked,
    (namespace, metric, asked_name): (&str, &str, &str),
    selector: &Selector,
    now: Timestamp,
    max_age: Duration,
) -> Result<Vec<Arc<Item>>, NoValue> {
    let not_found = || NoValue::NotFound { metric: metric.to_owned(), selector: selector.to_string() };
    let unavailable = |why: String| NoValue::Unavailable(format!("{metric}: {why}"));
    let (rule, newest) = find(board, namespace, asked_name).map_err(unavailable)?.ok_or_else(not_found)?;
    let Some(entry) = newest else {
        return Err(unavailable("the rule has not taken a turn yet".to_owned()));
    };
    let age = now.since(entry.time);
    if age > max_age {
        let (time, limit) = (time_text(entry.time), PromDuration(max_age));
        return Err(unavailable(format!("the rule's last turn was at {time}, more than {limit} ago")));
    }
    let own = rule.rsplit_once('/').map_or(rule.as_str(), |(_, name)| name);
    let items = match asked {
        Asked::Replicas => {
            let labels = labels(&[(RULE_LABEL, own)]);
            if !selector.matches(&labels) {
                return Err(not_found());
            }
            vec![(labels, replicas(&entry).map_err(unavailable)?)]
        }
        Asked::Load => {
            let metrics = &entry.decision.parts.metrics;
            let all = metrics.iter().map(|part| (labels(&[(RULE_LABEL, own), (METRIC_LABEL, &part.name)]), part));
            let chosen: Vec<_> = all.filter(|(labels, _)| selector.matches(labels)).collect();
            if chosen.len() > 1 {
                let names: Vec<&str> = chosen.iter().map(|(_, part)| part.name.as_str()).collect();
                let names = names.join(", ");
                let message =
                    format!("the selector for {metric} must leave one metric of {names}: an HPA sums what it gets");
                return Err(NoValue::BadRequest(message));
            }
            let Some((labels, part)) = chosen.into_iter().next() else { return Err(not_found()) };
            let load = part.load.fresh().copied().filter(|load| load.is_finite());
            let load = load.ok_or_else(|| unavailable(format!("the load is not fresh{}", problems(&entry))))?;
            vec![(labels, load)]
        }
    };
    let at = entry.time;
    Ok(items.into_iter().map(|(labels, value)| Arc::new(Item { labels, value, at, window: None })).collect())
}

/// A rule's name, and its newest turn where there was one.
type Found = (String, Option<Arc<Entry>>);

/// Finds a rule by its name in a namespace, or its name alone.
fn find(board: &Board, namespace: &str, asked: &str) -> Result<Option<Found>, String> {
    // As the name nearly always is.
    for rule in [format!("{namespace}/{asked}"), asked.to_owned()] {
        if let Some(newest) = board.newest(&rule) {
            return Ok(Some((rule, newest)));
        }
    }
    let is_meant = |rule: &str| match rule.rsplit_once('/') {
        Some((in_namespace, own)) => in_namespace == namespace && name::is(own, asked),
        None => name::is(rule, asked),
    };
    match board.names(is_meant).as_slice() {
        [] => Ok(None),
        [rule] => Ok(board.newest(rule).map(|newest| (rule.clone(), newest))),
        several => Err(format!("several rules have this name: {}", several.join(", "))),
    }
}

/// The replicas that the rule wants, so that an HPA with `averageValue: 1` gets them.
fn replicas(entry: &Entry) -> Result<f64, String> {
    if let Outcome::Failed { error, .. } = &entry.outcome
        && entry.decision.current.is_none()
    {
        return Err(format!("the rule's target cannot be read: {error}"));
    }
    let wanted = entry.decision.parts.wanted.filter(|_| entry.problems.is_empty());
    let wanted = wanted.ok_or_else(|| format!("not all that the rule reads is fresh{}", problems(entry)))?;
    let current = entry.decision.current.ok_or("the replicas of the rule's target are not known")?;
    // An HPA whose behavior names no tolerance has the default one.
    Ok(value_for_hpa(wanted, current, entry.tolerance.max(DEFAULT_TOLERANCE)))
}

fn problems(entry: &Entry) -> String {
    let words = entry.problems.iter().map(|problem| format!("{}: {}", problem.metric, problem.message));
    let words = words.collect::<Vec<_>>().join("; ");
    if words.is_empty() { words } else { format!(": {words}") }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[cfg(test)]
mod tests;
