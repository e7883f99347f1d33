//! The predictor's forecasts as external metrics: what Prometheus has of them in; the one that a selector means out. Pure.
//!
//! An HPA sums what it gets, so a selector must leave one kind, model, horizon and quantile; several series of the source
//! remain and are summed, as they would be without a forecast. One that is stale or no number among them leaves no sum.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use cloudpulse_common::duration::PromDuration;
use cloudpulse_common::names;
use cloudpulse_common::query::Labels;
use cloudpulse_common::query::Series;
use cloudpulse_policy::time::Timestamp;

use super::name;
use super::time_text;
use super::timestamp;
use crate::external::Item;
use crate::external::NoValue;
use crate::external::selector::Selector;

/// Label: whether a value is the highest until the horizon or that at the horizon.
pub(super) const KIND_LABEL: &str = "kind";
/// Value of [`KIND_LABEL`]: the highest value until the horizon.
pub(super) const PEAK: &str = "peak";
/// Value of [`KIND_LABEL`]: the value at the horizon.
pub(super) const POINT: &str = "point";

/// For how long what was there once is missing rather than unknown.
pub(super) const REMEMBERED: Duration = Duration::from_secs(3600);
/// Series of one forecast that are remembered after they vanished.
const MAX_GONE: usize = 1000;

/// What a selector must leave one of, and what it leaves where it does not name it.
const DIMENSIONS: [(&str, Option<&str>); 5] = [
    (names::FORECAST_LABEL, None),
    (KIND_LABEL, Some(PEAK)),
    (names::MODEL_LABEL, Some(names::ENSEMBLE)),
    (names::HORIZON_LABEL, None),
    (names::QUANTILE_LABEL, None),
];

/// The values of the [`DIMENSIONS`], in their order.
type Group = [String; DIMENSIONS.len()];

/// The query for all that is kept.
pub(super) fn query() -> String {
    format!(
        "{{__name__=~\"{}|{}|{}\"}}",
        names::FORECAST.name,
        names::FORECAST_PEAK.name,
        names::FORECAST_TIMESTAMP.name
    )
}

/// All forecasts as Prometheus had them at one time.
#[derive(Debug)]
pub(super) struct Snapshot {
    taken: Timestamp,
    metrics: HashMap<String, Metric>,
}

/// The series of one metric.
#[derive(Debug, Default)]
struct Metric {
    groups: BTreeMap<Group, Vec<Forecast>>,
    /// Vanished series with the time at which they were last there.
    gone: Vec<(Labels, Timestamp)>,
}

/// One series.
#[derive(Debug)]
struct Forecast {
    item: Arc<Item>,
    /// How old it was when the snapshot was taken; `None` where it does not say when it was made.
    age: Option<Duration>,
}

impl Snapshot {
    /// Returns what `series`, which [`query`] gave at `now`, say. What `before` had and they have not is remembered as gone.
    pub(super) fn new(series: Vec<Series>, before: Option<&Self>, now: Timestamp) -> Self {
        let mut ages = HashMap::new();
        let mut values = Vec::new();
        for Series { mut labels, samples } in series {
            let Some(sample) = samples.last().copied() else { continue };
            let kind = match labels.remove("__name__").as_deref() {
                Some(metric) if metric == names::FORECAST_PEAK.name => PEAK,
                Some(metric) if metric == names::FORECAST.name => POINT,
                Some(metric) if metric == names::FORECAST_TIMESTAMP.name => {
                    ages.insert(labels, (timestamp(sample.value), sample.timestamp - sample.value));
                    continue;
                }
                _ => continue,
            };
            values.push((kind, labels, sample));
        }
        let mut snapshot = Self { taken: now, metrics: HashMap::new() };
        for (kind, mut labels, sample) in values {
            let own = [names::HORIZON_LABEL, names::QUANTILE_LABEL, names::MODEL_LABEL];
            let mut source = labels.clone();
            source.retain(|label, _| !own.contains(&label.as_str()));
            let made = ages.get(&source);
            if let Some(of_source) = labels.insert(KIND_LABEL.to_owned(), kind.to_owned()) {
                labels.insert(format!("exported_{KIND_LABEL}"), of_source);
            }
            let value_of = |label: &str| labels.get(label).cloned().unwrap_or_default();
            let group: Group = DIMENSIONS.map(|(label, _)| value_of(label));
            let metric = name::FORECAST_PREFIX.to_owned() + &name::mapped(&group[0]);
            let at = made.map_or_else(|| timestamp(sample.timestamp), |(made, _)| *made);
            let item = Arc::new(Item { labels, value: sample.value, at, window: None });
            let age = made.map(|(_, seconds)| Duration::try_from_secs_f64(*seconds).unwrap_or_default());
            snapshot.metrics.entry(metric).or_default().groups.entry(group).or_default().push(Forecast { item, age });
        }
        if let Some(before) = before {
            snapshot.remember(before);
        }
        snapshot
    }

    fn remember(&mut self, before: &Self) {
        for (name, old) in &before.metrics {
            let present: HashSet<&Labels> = self.metrics.get(name).into_iter().flat_map(Metric::labels).collect();
            let vanished = old.labels().map(|labels| (labels, before.taken));
            let gone: Vec<(Labels, Timestamp)> = vanished
                .chain(old.gone.iter().map(|(labels, at)| (labels, *at)))
                .filter(|(labels, at)| !present.contains(labels) && self.taken.since(*at) <= REMEMBERED)
                .take(MAX_GONE)
                .map(|(labels, at)| (labels.clone(), at))
                .collect();
            if !gone.is_empty() {
                self.metrics.entry(name.clone()).or_default().gone = gone;
            }
        }
    }

    /// Returns when the snapshot was taken.
    pub(super) fn taken(&self) -> Timestamp {
        self.taken
    }

    /// Returns how many series there are.
    pub(super) fn series(&self) -> usize {
        self.metrics.values().flat_map(|metric| metric.groups.values()).map(Vec::len).sum()
    }

    /// Returns the metrics that several forecasts share, with the forecasts' names.
    pub(super) fn collisions(&self) -> Vec<(&str, Vec<&str>)> {
        let mut collisions = Vec::new();
        for (name, metric) in &self.metrics {
            let forecasts: BTreeSet<&str> = metric.groups.keys().map(|group| group[0].as_str()).collect();
            if forecasts.len() > 1 {
                collisions.push((name.as_str(), forecasts.into_iter().collect()));
            }
        }
        collisions.sort();
        collisions
    }

    /// Returns the values of `metric` that `selector` means, none of them older than `max_age` at `now`.
    pub(super) fn select(
        &self,
        metric: &str,
        selector: &Selector,
        now: Timestamp,
        max_age: Duration,
    ) -> Result<Vec<Arc<Item>>, NoValue> {
        let not_found = || NoValue::NotFound { metric: metric.to_owned(), selector: selector.to_string() };
        let known = self.metrics.get(metric).ok_or_else(not_found)?;
        let mut chosen: Vec<(&Group, Vec<&Forecast>)> = Vec::new();
        for (group, forecasts) in known.groups.iter().filter(|(group, _)| lets_through(selector, group)) {
            let forecasts: Vec<&Forecast> =
                forecasts.iter().filter(|forecast| selector.matches(&forecast.item.labels)).collect();
            if !forecasts.is_empty() {
                chosen.push((group, forecasts));
            }
        }
        let [(_, forecasts)] = chosen.as_slice() else {
            if !chosen.is_empty() {
                let groups: Vec<&Group> = chosen.iter().map(|(group, _)| *group).collect();
                return Err(ambiguous(metric, &groups));
            }
            let was_there = |(labels, at): &&(Labels, Timestamp)| {
                now.since(*at) <= REMEMBERED
                    && selector.matches(labels)
                    && is_default(selector, |label| labels.get(label))
            };
            let Some(last_seen) = known.gone.iter().filter(was_there).map(|(_, at)| *at).max() else {
                return Err(known.without_default(metric, selector).unwrap_or_else(not_found));
            };
            let message = format!("forecast {metric} is no longer published: last seen {}", time_text(last_seen));
            return Err(NoValue::Unavailable(message));
        };
        let waited = now.since(self.taken);
        for Forecast { item, age } in forecasts {
            let problem = match age {
                None => "does not say when it was made".to_owned(),
                Some(age) if *age + waited > max_age => format!("is stale: last good {}", time_text(item.at)),
                Some(_) if !item.value.is_finite() => format!("is {}, which is no number to scale by", item.value),
                Some(_) => continue,
            };
            return Err(NoValue::Unavailable(format!("forecast {metric} {problem}")));
        }
        Ok(forecasts.iter().map(|forecast| Arc::clone(&forecast.item)).collect())
    }
}

impl Metric {
    /// Says which label `selector` must name, where it matches series that only lack a default.
    fn without_default(&self, metric: &str, selector: &Selector) -> Option<NoValue> {
        let matching: Vec<&Group> = self
            .groups
            .iter()
            .filter(|(_, forecasts)| forecasts.iter().any(|forecast| selector.matches(&forecast.item.labels)))
            .map(|(group, _)| group)
            .collect();
        let missing = DIMENSIONS.iter().enumerate().find_map(|(at, (label, default))| {
            let default = default.filter(|_| !selector.names(label))?;
            let values: BTreeSet<&str> = matching.iter().map(|group| group[at].as_str()).collect();
            (!values.is_empty() && !values.contains(default)).then_some((label, default, values))
        });
        let (label, default, values) = missing?;
        let values: Vec<&str> = values.into_iter().collect();
        Some(NoValue::BadRequest(format!(
            "forecast {metric} has no {label}={default}, which a selector means that does not name {label}; it has {}",
            values.join(", ")
        )))
    }

    fn labels(&self) -> impl Iterator<Item = &Labels> {
        self.groups.values().flatten().map(|forecast| &forecast.item.labels)
    }
}

fn lets_through(selector: &Selector, group: &Group) -> bool {
    let value = |label: &str| DIMENSIONS.iter().position(|(one, _)| *one == label).map(|at| &group[at]);
    is_default(selector, value)
        && selector.requirements().iter().all(|one| value(&one.key).is_none_or(|value| one.holds(Some(value))))
}

/// Whether the dimensions that the selector does not name have their default.
fn is_default<'a>(selector: &Selector, value: impl Fn(&str) -> Option<&'a String>) -> bool {
    DIMENSIONS.iter().all(|(label, default)| match default {
        Some(default) if !selector.names(label) => value(label).is_some_and(|value| value == default),
        _ => true,
    })
}

fn ambiguous(metric: &str, groups: &[&Group]) -> NoValue {
    let mut words = Vec::new();
    for (at, (label, _)) in DIMENSIONS.iter().enumerate() {
        let mut values: Vec<&String> = groups.iter().map(|group| &group[at]).collect();
        values.sort_by_key(|value| (value.parse::<PromDuration>().ok(), *value));
        values.dedup();
        if values.len() > 1 {
            let values: Vec<&str> = values.into_iter().map(String::as_str).collect();
            words.push(format!("one {label} of {}", values.join(", ")));
        }
    }
    let words = words.join(" and ");
    NoValue::BadRequest(format!("the selector for {metric} must leave {words}: an HPA sums what it gets"))
}

#[cfg(test)]
mod tests;
