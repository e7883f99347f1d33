//! What a configured query gave: series in; the items of a metric, or why there are none, out; and what of it may still be
//! said later. Pure.

use std::sync::Arc;
use std::time::Duration;

use cloudpulse_common::query::Labels;
use cloudpulse_common::query::Series;
use cloudpulse_policy::time::Timestamp;

use super::config::Aggregate;
use super::config::QueryMetric;
use super::forecasts::REMEMBERED;
use super::time_text;
use super::timestamp;
use crate::external::Item;
use crate::external::NoValue;
use crate::external::selector::Selector;

/// Most items of one answer.
const MAX_ITEMS: usize = 1000;

/// What an answered query means.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Meaning {
    /// These values; at least one.
    Values(Vec<Arc<Item>>),
    /// There is no series.
    Empty,
    /// There is no value in it, for this reason.
    Unusable(NoValue),
}

/// Returns what `series` mean for `metric`. The selector chooses among them where the query itself has no place for it.
pub(super) fn meaning(metric: &QueryMetric, selector: &Selector, series: Vec<Series>) -> Meaning {
    let name = &metric.name;
    let mut samples = Vec::new();
    for Series { mut labels, samples: of_series } in series {
        labels.remove("__name__");
        let Some(sample) = of_series.last() else { continue };
        if !metric.query.has_matchers() && !selector.matches(&labels) {
            continue;
        }
        if !sample.value.is_finite() {
            let message = format!("the query for {name} gives {}, which is no number to scale by", sample.value);
            return Meaning::Unusable(NoValue::Unavailable(message));
        }
        samples.push((labels, sample.value, timestamp(sample.timestamp)));
    }
    let Some(at) = samples.iter().map(|(_, _, at)| *at).min() else { return Meaning::Empty };
    let count = samples.len();
    let item = |labels, value, at| Arc::new(Item { labels, value, at, window: metric.window });
    let values = samples.iter().map(|(_, value, _)| *value);
    let aggregated = match metric.aggregate {
        Aggregate::None if count > MAX_ITEMS => {
            let message = format!("the query for {name} gives {count} series, more than {MAX_ITEMS}");
            return Meaning::Unusable(NoValue::Unavailable(message));
        }
        Aggregate::Single if count > 1 => {
            let message = format!("the query for {name} gives {count} series; the selector must leave one");
            return Meaning::Unusable(NoValue::BadRequest(message));
        }
        Aggregate::None | Aggregate::Single => {
            let items = samples.into_iter().map(|(labels, value, at)| item(labels, value, at));
            return Meaning::Values(items.collect());
        }
        Aggregate::Sum => values.sum(),
        Aggregate::Avg => values.sum::<f64>() / count as f64,
        Aggregate::Max => values.fold(f64::NEG_INFINITY, f64::max),
    };
    if !f64::is_finite(aggregated) {
        let message = format!("the values of {name} together are {aggregated}, which is no number to scale by");
        return Meaning::Unusable(NoValue::Unavailable(message));
    }
    let labels = common(samples.into_iter().map(|(labels, _, _)| labels));
    Meaning::Values(vec![item(labels, aggregated, at)])
}

/// The labels that all have.
fn common(mut all: impl Iterator<Item = Labels>) -> Labels {
    let mut labels = all.next().unwrap_or_default();
    for other in all {
        labels.retain(|name, value| other.get(name) == Some(value));
    }
    labels
}

/// What is kept of a query's answers.
#[derive(Debug, Default)]
pub(super) struct Kept {
    latest: Option<(Meaning, Timestamp)>,
    /// When there were values for the last time.
    last_good: Option<Timestamp>,
    /// Why the query failed since the latest answer.
    error: Option<String>,
}

impl Kept {
    /// Notes an answer.
    pub(super) fn answered(&mut self, meaning: Meaning, now: Timestamp) {
        if matches!(meaning, Meaning::Values(_)) {
            self.last_good = Some(now);
        }
        self.latest = Some((meaning, now));
        self.error = None;
    }

    /// Notes that the query failed; what it gave before is still good for a while.
    pub(super) fn failed(&mut self, error: String) {
        self.error = Some(error);
    }

    /// Returns when the query was answered last.
    pub(super) fn answered_at(&self) -> Option<Timestamp> {
        self.latest.as_ref().map(|(_, at)| *at)
    }

    /// Returns whether the query was never tried.
    pub(super) fn is_new(&self) -> bool {
        self.latest.is_none() && self.error.is_none()
    }

    /// Returns the values, none of which were asked for longer ago than `max_age` at `now`.
    pub(super) fn values(
        &self,
        metric: &str,
        selector: &Selector,
        now: Timestamp,
        max_age: Duration,
    ) -> Result<Vec<Arc<Item>>, NoValue> {
        let why = self.error.as_deref().unwrap_or("prometheus has not answered since");
        match &self.latest {
            Some((meaning, at)) if now.since(*at) <= max_age => match meaning {
                Meaning::Values(items) => Ok(items.clone()),
                Meaning::Unusable(why) => Err(why.clone()),
                Meaning::Empty => match self.last_good {
                    Some(good) if now.since(good) <= REMEMBERED => {
                        let message = format!("{metric} has no series now: last good {}", time_text(good));
                        Err(NoValue::Unavailable(message))
                    }
                    _ => Err(NoValue::NotFound { metric: metric.to_owned(), selector: selector.to_string() }),
                },
            },
            Some((_, at)) => {
                Err(NoValue::Unavailable(format!("{metric} is stale: last answer {}: {why}", time_text(*at))))
            }
            None => Err(NoValue::Unavailable(format!("{metric}: {why}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use cloudpulse_common::query::Sample;

    use super::super::config;
    use super::*;

    fn metric(more: &str) -> Arc<QueryMetric> {
        let text = format!("metrics: [{{name: q, query: 'q{{<<.LabelMatchers>>}}'{more}}}]");
        config::parse("f.yaml", &text).unwrap().remove("q").unwrap()
    }

    fn series(labels: &[(&str, &str)], value: f64) -> Series {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Series { labels, samples: vec![Sample { timestamp: 100.0, value }] }
    }

    fn values(meaning: Meaning) -> Vec<f64> {
        match meaning {
            Meaning::Values(items) => items.iter().map(|item| item.value).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_milliseconds(seconds * 1000)
    }

    fn two() -> Vec<Series> {
        vec![series(&[("__name__", "q"), ("a", "1"), ("b", "1")], 1.0), series(&[("a", "1"), ("b", "2")], 4.0)]
    }

    #[test]
    fn several_series_are_aggregated_as_the_file_says() {
        let all = Selector::default();
        for (aggregate, expected) in
            [("none", vec![1.0, 4.0]), ("sum", vec![5.0]), ("max", vec![4.0]), ("avg", vec![2.5])]
        {
            let metric = metric(&format!(", aggregate: {aggregate}, window: 1m"));
            let Meaning::Values(items) = meaning(&metric, &all, two()) else { panic!("{aggregate}") };
            assert_eq!(items.iter().map(|item| item.value).collect::<Vec<_>>(), expected, "{aggregate}");
            assert!(items.iter().all(|item| item.labels["a"] == "1" && !item.labels.contains_key("__name__")));
            assert_eq!((items[0].at, items[0].window), (at(100), Some(Duration::from_secs(60))));
        }
        let single = metric(", aggregate: single");
        let Meaning::Unusable(NoValue::BadRequest(why)) = meaning(&single, &all, two()) else { panic!() };
        assert!(why.contains("2 series; the selector must leave one"), "{why}");
        assert_eq!(values(meaning(&single, &all, two().split_off(1))), [4.0]);
    }

    #[test]
    fn one_value_that_is_no_number_leaves_none() {
        for (aggregate, value) in [("none", f64::NAN), ("sum", f64::INFINITY), ("max", f64::NAN), ("avg", f64::NAN)] {
            let mut found = two();
            found.push(series(&[], value));
            let metric = metric(&format!(", aggregate: {aggregate}"));
            let found = meaning(&metric, &Selector::default(), found);
            assert!(matches!(found, Meaning::Unusable(NoValue::Unavailable(_))), "{found:?}");
        }
        let large = vec![series(&[("a", "1")], f64::MAX), series(&[("a", "2")], f64::MAX)];
        let found = meaning(&metric(", aggregate: sum"), &Selector::default(), large);
        assert!(matches!(found, Meaning::Unusable(NoValue::Unavailable(_))), "{found:?}");
        assert_eq!(meaning(&metric(""), &Selector::default(), vec![]), Meaning::Empty);
    }

    #[test]
    fn a_query_without_a_place_for_the_selector_is_chosen_from() {
        let text = "metrics: [{name: q, query: q, namespaced: false}]";
        let plain = config::parse("f.yaml", text).unwrap().remove("q").unwrap();
        assert_eq!(values(meaning(&plain, &Selector::parse("b=2").unwrap(), two())), [4.0]);
        assert_eq!(meaning(&plain, &Selector::parse("b=3").unwrap(), two()), Meaning::Empty);
        // In the other case Prometheus has chosen, perhaps by labels that the result no longer has.
        assert_eq!(values(meaning(&metric(""), &Selector::parse("x=3").unwrap(), two())), [1.0, 4.0]);
    }

    #[test]
    fn answers_age_and_empty_is_told_from_unreachable() {
        let (limit, all) = (Duration::from_secs(60), Selector::default());
        let mut kept = Kept::default();
        let says = |kept: &Kept, seconds| kept.values("q", &all, at(seconds), limit).map(|items| items.len());
        assert!(kept.is_new());
        kept.failed("prometheus cannot be reached".to_owned());
        assert!(!kept.is_new());
        assert_eq!(says(&kept, 0), Err(NoValue::Unavailable("q: prometheus cannot be reached".to_owned())));
        kept.answered(Meaning::Empty, at(0));
        assert!(matches!(says(&kept, 1), Err(NoValue::NotFound { .. })));
        kept.answered(meaning(&metric(""), &all, two()), at(10));
        assert_eq!(says(&kept, 70), Ok(2));
        kept.failed("gone".to_owned());
        assert_eq!(says(&kept, 70), Ok(2));
        let stale = "q is stale: last answer 1970-01-01T00:00:10Z: gone";
        assert_eq!(says(&kept, 71), Err(NoValue::Unavailable(stale.to_owned())));
        kept.answered(Meaning::Empty, at(80));
        let gone = "q has no series now: last good 1970-01-01T00:00:10Z";
        assert_eq!(says(&kept, 80), Err(NoValue::Unavailable(gone.to_owned())));
        kept.answered(Meaning::Empty, at(3700));
        assert!(matches!(says(&kept, 3700), Err(NoValue::NotFound { .. })));
    }
}
