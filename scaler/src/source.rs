//! A rule's metrics in; readings out, with the reason in words where there is none.
//!
//! Load: one instant query that must give one series. Forecast: all quantiles of the peak at the rule's horizon, and the
//! time the forecast was made. Nothing here becomes zero: empty, NaN, stale and unreachable are told apart.

mod peak;

use std::time::Duration;

use cloudpulse_common::duration::PromDuration;
use cloudpulse_common::names;
use cloudpulse_common::query::Client;
use cloudpulse_common::query::QueryError;
use cloudpulse_common::query::Series;
use cloudpulse_policy::observation::MetricObservation;
use cloudpulse_policy::observation::Missing;
use cloudpulse_policy::observation::Reading;
use futures_util::future::join_all;
use futures_util::future::join3;
use serde::Serialize;
use utoipa::ToSchema;

use crate::rule::MetricQuery;
use crate::rule::Sources;
use crate::rule::quoted;
use crate::source::peak::Peaks;

/// Why a reading is not fresh, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Name of the metric in the rule.
    pub metric: String,
    /// What of it.
    pub what: Input,
    /// A word for a metric label.
    #[serde(skip)]
    pub reason: &'static str,
    /// What is wrong.
    pub message: String,
}

/// What is read of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Input {
    /// The load now.
    Load,
    /// Which of its sources could be read.
    Sources,
    /// The forecast of its peak.
    Forecast,
}

/// The readings of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Readings {
    /// One for each metric, in the rule's order.
    pub metrics: Vec<MetricObservation>,
    /// What is wrong with those that are not fresh.
    pub problems: Vec<Problem>,
    /// Whether Prometheus answered a query, be it with an error of its own.
    pub answered: bool,
}

/// Reads all metrics side by side. Never fails: what cannot be read is missing. `lead_time` is what a forecast must reach
/// where its horizon is automatic; `None` where it is not known yet.
pub async fn read(client: &Client, queries: &[MetricQuery], lead_time: Option<Duration>) -> Readings {
    let all = join_all(queries.iter().map(|query| read_metric(client, query, lead_time))).await;
    let mut readings = Readings { metrics: Vec::new(), problems: Vec::new(), answered: false };
    for (query, (load, sources, peak)) in queries.iter().zip(all) {
        let load = unpack(load, &query.name, Input::Load, &mut readings);
        let sources = sources.map(|sources| unpack(sources, &query.name, Input::Sources, &mut readings));
        let (mut ahead, mut horizon) = (Vec::new(), None);
        let peak = peak.map(|peaks| {
            let peak = peaks.map(|(Peaks { at_horizon, horizon: used, by_horizon }, age)| {
                (ahead, horizon) = (by_horizon, Some(used));
                (at_horizon, age)
            });
            unpack(peak, &query.name, Input::Forecast, &mut readings)
        });
        readings.metrics.push(MetricObservation { name: query.name.clone(), load, sources, peak, horizon, ahead });
    }
    readings
}

/// Returns the mean replicas that the rule wanted over the last day, as its own metric says; `None` where Prometheus does
/// not know. Used once after a start.
///
/// # Errors
/// When the query fails.
pub async fn mean_desired_of_last_day(client: &Client, rule: &str) -> Result<Option<f64>, QueryError> {
    let query = format!("avg(avg_over_time({}{{rule={}}}[1d]))", names::DESIRED_REPLICAS.name, quoted(rule));
    let series = client.instant(&query, None).await?;
    Ok(series.first().and_then(value_of).filter(|value| value.is_finite()))
}

/// Returns the lead time that the rule had learned, as its own metric said last in the past week; `None` where Prometheus
/// does not know. Used once after a start.
///
/// # Errors
/// When the query fails.
pub async fn lead_time_before(client: &Client, rule: &str) -> Result<Option<Duration>, QueryError> {
    let query = format!("max(last_over_time({}{{rule={}}}[7d]))", names::LEAD_TIME.name, quoted(rule));
    let series = client.instant(&query, None).await?;
    Ok(series.first().and_then(value_of).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
}

/// A reading that is not fresh, with its words.
#[derive(Clone)]
struct NotFresh {
    age: Option<Duration>,
    why: Missing,
    reason: &'static str,
    message: String,
}

type Outcome<T> = Result<(T, Duration), NotFresh>;

fn unpack<T>(outcome: Outcome<T>, metric: &str, what: Input, readings: &mut Readings) -> Reading<T> {
    let not_fresh = match outcome {
        Ok((value, age)) => {
            readings.answered = true;
            return Reading::Fresh { value, age };
        }
        Err(not_fresh) => not_fresh,
    };
    let NotFresh { age, why, reason, message } = not_fresh;
    readings.answered |= !matches!(why, Missing::Unreachable | Missing::Timeout | Missing::NotPrometheus);
    readings.problems.push(Problem { metric: metric.to_owned(), what, reason, message });
    age.map_or(Reading::Missing { why }, |age| Reading::Stale { age })
}

async fn read_metric(
    client: &Client,
    query: &MetricQuery,
    lead_time: Option<Duration>,
) -> (Outcome<f64>, Option<Outcome<f64>>, Option<Outcome<Peaks>>) {
    let MetricQuery { name: _, query, max_age, sources, forecast } = query;
    let peak = async {
        match forecast {
            None => None,
            Some(forecast) => Some(peak::read(client, forecast, lead_time).await),
        }
    };
    join3(load(client, query, *max_age), share(client, sources), peak).await
}

/// Share of a load's sources that could be read.
async fn share(client: &Client, sources: &Sources) -> Option<Outcome<f64>> {
    let (query, named) = match sources {
        Sources::Unknown => return None,
        Sources::Named(query) => (query, true),
        Sources::Derived(query) => (query, false),
    };
    let read = async {
        let series = client.instant(&format!("avg({query}\n)"), None).await.map_err(failed)?;
        let (share, _) = one_value(&series)?;
        if share > 0.0 && share <= 1.0 {
            return Ok((share, Duration::ZERO));
        }
        let message =
            format!("of the sources {query} a share of {share} could be read; it must be above 0 and at most 1");
        Err(missing(Missing::NotANumber, message))
    };
    match read.await {
        Err(not_fresh) if !named && not_fresh.why == Missing::Empty => None,
        share => Some(share),
    }
}

async fn load(client: &Client, query: &str, max_age: Duration) -> Outcome<f64> {
    let series = client.instant(query, None).await.map_err(failed)?;
    let (value, evaluated_at) = one_value(&series)?;
    let mut age = Duration::ZERO;
    if is_selector(query) {
        // An instant query shows samples of up to five minutes ago as if they were new.
        let times = client.instant(&format!("timestamp({query}\n)"), None).await.map_err(failed)?;
        let (sampled_at, _) = one_value(&times)?;
        age = Duration::try_from_secs_f64(evaluated_at - sampled_at).unwrap_or_default();
    }
    fresh_within(value, age, max_age, "the last sample")
}

/// Returns value and evaluation time of the one series of an instant query.
fn one_value(series: &[Series]) -> Result<(f64, f64), NotFresh> {
    match series {
        [] => Err(missing(Missing::Empty, "the query gives no series".to_owned())),
        [one] => {
            let sample = one.samples.last().ok_or_else(|| missing(Missing::Empty, "the series is empty".to_owned()))?;
            if !sample.value.is_finite() {
                let message = format!("the query gives {}, which is no number to scale by", sample.value);
                return Err(missing(Missing::NotANumber, message));
            }
            Ok((sample.value, sample.timestamp))
        }
        many => {
            let message = format!("the query gives {} series; aggregate it to one, as with sum()", many.len());
            Err(missing(Missing::SeveralSeries, message))
        }
    }
}

fn value_of(series: &Series) -> Option<f64> {
    series.samples.last().map(|sample| sample.value)
}

fn fresh_within<T>(value: T, age: Duration, max_age: Duration, what: &str) -> Outcome<T> {
    if age <= max_age {
        return Ok((value, age));
    }
    let (old, limit) = (PromDuration::from_secs(age.as_secs()), PromDuration(max_age));
    let message = format!("{what} is {old} old, more than {limit}");
    Err(NotFresh { age: Some(age), why: Missing::Empty, reason: "stale", message })
}

fn missing(why: Missing, message: String) -> NotFresh {
    let reason = match why {
        Missing::Empty => "empty",
        Missing::SeveralSeries => "several_series",
        Missing::NotANumber => "not_a_number",
        Missing::HorizonNotPublished => "horizon_not_published",
        Missing::TooFewQuantiles => "too_few_quantiles",
        Missing::Unreachable => "unreachable",
        Missing::Timeout => "timeout",
        Missing::Refused => "refused",
        Missing::NotPrometheus => "not_prometheus",
    };
    NotFresh { age: None, why, reason, message }
}

fn failed(error: QueryError) -> NotFresh {
    let why = match &error {
        QueryError::Unreachable { .. } => Missing::Unreachable,
        QueryError::Timeout { .. } => Missing::Timeout,
        QueryError::NotPrometheus { .. } => Missing::NotPrometheus,
        QueryError::Refused { .. } => Missing::Refused,
        QueryError::TooLarge { .. } => Missing::SeveralSeries,
        _ => Missing::Refused,
    };
    missing(why, format!("{:#}", anyhow::Error::new(error)))
}

/// Returns whether a query is a plain selector, for which `timestamp()` gives the time of the sample; for all else it
/// gives the time of the evaluation.
fn is_selector(query: &str) -> bool {
    let query = query.trim();
    let name = query
        .find(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':')))
        .unwrap_or(query.len());
    let rest = query[name..].trim_start();
    if rest.is_empty() {
        return !query.starts_with(|letter: char| letter.is_ascii_digit()) && name > 0;
    }
    let Some(inside) = rest.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else { return false };
    let mut quote = None;
    let mut escaped = false;
    for letter in inside.chars() {
        match (quote, letter) {
            (Some(_), _) if escaped => escaped = false,
            (Some('"' | '\''), '\\') => escaped = true,
            (Some(open), letter) if letter == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(letter),
            (None, '{' | '}' | '#') => return false,
            (None, _) => {}
        }
    }
    quote.is_none()
}

#[cfg(test)]
mod tests {
    use cloudpulse_common::query::Sample;

    use super::*;

    fn series(labels: &[(&str, &str)], value: f64) -> Series {
        Series {
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            samples: vec![Sample { timestamp: 100.0, value }],
        }
    }

    fn missing_of<T: std::fmt::Debug>(result: Result<T, NotFresh>) -> (Missing, String) {
        let not_fresh = result.map(|value| panic!("{value:?}")).unwrap_err();
        (not_fresh.why, not_fresh.message)
    }

    #[test]
    fn exactly_one_number_is_a_load() {
        assert_eq!(one_value(&[series(&[], 5.0)]).ok(), Some((5.0, 100.0)));
        assert_eq!(missing_of(one_value(&[])).0, Missing::Empty);
        for value in [f64::NAN, f64::INFINITY] {
            assert_eq!(missing_of(one_value(&[series(&[], value)])).0, Missing::NotANumber);
        }
        let (why, message) = missing_of(one_value(&[series(&[("a", "1")], 1.0), series(&[("a", "2")], 2.0)]));
        assert_eq!(why, Missing::SeveralSeries);
        assert!(message.contains("2 series"), "{message}");
    }

    #[test]
    fn an_old_value_is_stale_and_says_its_age() {
        let limit = Duration::from_secs(120);
        assert!(fresh_within(1.0, limit, limit, "it").is_ok());
        let stale = fresh_within(1.0, Duration::from_secs(121), limit, "the last sample").map(|_| ()).unwrap_err();
        assert_eq!(
            (stale.age, stale.message.as_str()),
            (Some(Duration::from_secs(121)), "the last sample is 121s old, more than 2m")
        );
    }

    #[test]
    fn plain_selectors_are_known() {
        for query in ["up", " job:load:sum ", "up{job=\"a\"}", "{__name__=\"x\"}", "up {a=~\"b{2}\", c='}'}"] {
            assert!(is_selector(query), "{query}");
        }
        for query in [
            "sum(up)",
            "up + up{a=\"b\"}",
            "up{a=\"b\"} + up{a=\"c\"}",
            "up[5m]",
            "up offset 5m",
            "5",
            "",
            "up # {a}",
            "up @ 0",
        ] {
            assert!(!is_selector(query), "{query}");
        }
    }
}
