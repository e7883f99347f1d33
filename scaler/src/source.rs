//! A rule's metrics in; readings out, with the reason in words where there is none.
//!
//! Load: one instant query that must give one series. Forecast: all quantiles of the peak at the rule's horizon, and the
//! time the forecast was made. Nothing here becomes zero: empty, NaN, stale and unreachable are told apart.

use std::time::Duration;

use cloudpulse_common::duration::PromDuration;
use cloudpulse_common::names;
use cloudpulse_common::query::Client;
use cloudpulse_common::query::QueryError;
use cloudpulse_common::query::Series;
use cloudpulse_policy::observation::MetricObservation;
use cloudpulse_policy::observation::Missing;
use cloudpulse_policy::observation::Reading;
use cloudpulse_policy::peak::PeakDistribution;
use cloudpulse_policy::peak::QuantilePoint;
use futures_util::future::join;
use futures_util::future::join_all;
use serde::Serialize;

use crate::rule::ForecastQuery;
use crate::rule::MetricQuery;
use crate::rule::quoted;

/// Why a reading is not fresh, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Input {
    /// The load now.
    Load,
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

/// Reads all metrics side by side. Never fails: what cannot be read is missing.
pub async fn read(client: &Client, queries: &[MetricQuery]) -> Readings {
    let all = join_all(queries.iter().map(|query| read_metric(client, query))).await;
    let mut readings = Readings { metrics: Vec::new(), problems: Vec::new(), answered: false };
    for (query, (load, peak)) in queries.iter().zip(all) {
        let load = unpack(load, &query.name, Input::Load, &mut readings);
        let peak = peak.map(|peak| unpack(peak, &query.name, Input::Forecast, &mut readings));
        readings.metrics.push(MetricObservation { name: query.name.clone(), load, peak });
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

/// A reading that is not fresh, with its words.
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

async fn read_metric(client: &Client, query: &MetricQuery) -> (Outcome<f64>, Option<Outcome<PeakDistribution>>) {
    let MetricQuery { name: _, query, max_age, forecast } = query;
    match forecast {
        None => (load(client, query, *max_age).await, None),
        Some(forecast) => {
            let (load, peak) = join(load(client, query, *max_age), peak(client, forecast)).await;
            (load, Some(peak))
        }
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

async fn peak(client: &Client, forecast: &ForecastQuery) -> Outcome<PeakDistribution> {
    let ForecastQuery { name, horizon, max_age } = forecast;
    let of_forecast = format!("{}={}", names::FORECAST_LABEL, quoted(name));
    let peak =
        format!("{}{{{of_forecast},{}={}}}", names::FORECAST_PEAK.name, names::MODEL_LABEL, quoted(names::ENSEMBLE));
    let age = format!("time() - {}{{{of_forecast}}}", names::FORECAST_TIMESTAMP.name);
    let (peak, age) = join(client.instant(&peak, None), client.instant(&age, None)).await;
    let distribution = distribution(&peak.map_err(failed)?, name, *horizon)?;
    let (age, _) = one_value(&age.map_err(failed)?).map_err(|not_fresh| NotFresh {
        message: format!("the time at which forecast {name:?} was made: {}", not_fresh.message),
        ..not_fresh
    })?;
    let age = Duration::try_from_secs_f64(age).unwrap_or_default();
    fresh_within(distribution, age, *max_age, "the forecast")
}

/// The series at the rule's horizon as a distribution. All horizons are looked at, so that a wrong one can be told from
/// a forecast that does not exist.
fn distribution(series: &[Series], name: &str, horizon: PromDuration) -> Result<PeakDistribution, NotFresh> {
    if series.is_empty() {
        return Err(missing(Missing::Empty, format!("the predictor publishes no peak of a forecast named {name:?}")));
    }
    let label = |series: &Series, name: &str| series.labels.get(name).cloned().unwrap_or_default();
    let mut horizons: Vec<PromDuration> =
        series.iter().filter_map(|series| label(series, names::HORIZON_LABEL).parse().ok()).collect();
    horizons.sort_unstable();
    horizons.dedup();
    if !horizons.contains(&horizon) {
        let published = horizons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let message = format!("forecast {name:?} publishes no peak at horizon {horizon}, only at {published}");
        return Err(missing(Missing::HorizonNotPublished, message));
    }
    let mut points: Vec<QuantilePoint> = Vec::new();
    for one in series.iter().filter(|one| label(one, names::HORIZON_LABEL).parse() == Ok(horizon)) {
        let Ok(quantile) = label(one, names::QUANTILE_LABEL).parse::<f64>() else { continue };
        if points.iter().any(|point| point.quantile == quantile) {
            let message = format!("forecast {name:?} has several series at quantile {quantile}; it must forecast one");
            return Err(missing(Missing::SeveralSeries, message));
        }
        let value = value_of(one).filter(|value| value.is_finite()).ok_or_else(|| {
            missing(Missing::NotANumber, format!("forecast {name:?} is no number at quantile {quantile}"))
        })?;
        points.push(QuantilePoint { quantile, value });
    }
    PeakDistribution::from_points(points).ok_or_else(|| {
        missing(Missing::TooFewQuantiles, format!("forecast {name:?} publishes fewer than two usable quantiles"))
    })
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

    fn peak(horizon: &str, quantile: &str, value: f64) -> Series {
        series(&[("horizon", horizon), ("quantile", quantile)], value)
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
    fn quantiles_at_the_horizon_make_a_distribution() {
        let five = PromDuration::from_secs(300);
        let found = [peak("5m", "0.5", 10.0), peak("5m", "0.9", 20.0), peak("10m", "0.5", 99.0)];
        let distribution_at_five = distribution(&found, "web", five).ok().unwrap();
        assert_eq!(distribution_at_five.points().len(), 2);
        assert!(distribution(&found, "web", "300s".parse().unwrap()).is_ok());
        let (why, message) = missing_of(distribution(&found, "web", PromDuration::from_secs(900)));
        assert_eq!(why, Missing::HorizonNotPublished);
        assert!(message.contains("horizon 15m, only at 5m, 10m"), "{message}");
    }

    #[test]
    fn a_forecast_that_tells_no_distribution_is_missing() {
        let five = PromDuration::from_secs(300);
        let cases = [
            (vec![], Missing::Empty),
            (vec![peak("5m", "0.5", 1.0)], Missing::TooFewQuantiles),
            (vec![peak("5m", "0.5", 1.0), peak("5m", "0.5", 2.0)], Missing::SeveralSeries),
            (vec![peak("5m", "0.5", 1.0), peak("5m", "0.9", f64::NAN)], Missing::NotANumber),
            (vec![peak("5m", "high", 1.0), peak("5m", "0.9", 2.0)], Missing::TooFewQuantiles),
        ];
        for (found, expected) in cases {
            assert_eq!(missing_of(distribution(&found, "web", five)).0, expected, "{found:?}");
        }
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
