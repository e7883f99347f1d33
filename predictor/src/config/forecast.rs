//! One forecast of the configuration: as written in; the checked forecast, and findings, out.

use std::sync::Arc;

use cloudpulse_common::duration::PromDuration;
use cloudpulse_forecast::ensemble::Bounds;
use cloudpulse_forecast::known::Known;
use cloudpulse_forecast::peak::PEAK_QUANTILES;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Check;
use super::duration_label;
use super::known::{HolidayShape, check_holidays};
use super::lstm::{Lstm, LstmShape, check_lstm};
use super::regressor::{Regressor, RegressorShape, check_regressors};
use super::unusual::{AnomalyShape, OutlierShape, Outliers, check_anomaly, check_outliers};

/// One forecast.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ForecastShape {
    /// Unique name, of letters, digits and `-_.:/`; label `forecast` of all its series.
    pub(super) name: String,
    /// PromQL of the series to forecast; any number of series.
    query: String,
    /// Distance of samples.
    #[serde(default)]
    #[schemars(extend("default" = duration_label(DEFAULT_STEP)))]
    step: Option<PromDuration>,
    /// Length of the history, which is read once at the start; at most 400,000 steps.
    #[serde(default)]
    #[schemars(extend("default" = duration_label(DEFAULT_HISTORY)))]
    history: Option<PromDuration>,
    /// Time between forecasts; the step where absent, but not below 15s.
    #[serde(default)]
    interval: Option<PromDuration>,
    /// How far ahead; multiples of the step, at most 5,760 steps. Where absent, those of the default, rounded up to a step.
    #[serde(default)]
    #[schemars(extend("default" = DEFAULT_HORIZONS.map(duration_label)))]
    horizons: Option<Vec<PromDuration>>,
    /// Quantiles that are published, between 0 and 1.
    #[serde(default)]
    #[schemars(extend("default" = DEFAULT_QUANTILES))]
    quantiles: Option<Vec<f64>>,
    /// Times until which the highest value is forecast, for scaling; as horizons.
    #[serde(default)]
    #[schemars(extend("default" = DEFAULT_PEAK_HORIZONS.map(duration_label)))]
    peak_horizons: Option<Vec<PromDuration>>,
    /// Quantiles of the highest value that are published; a scaling rule needs them all.
    #[serde(default)]
    #[schemars(extend("default" = PEAK_QUANTILES))]
    peak_quantiles: Option<Vec<f64>>,
    /// Values that the series can take; forecasts keep to them.
    #[serde(default)]
    bounds: Option<BoundsShape>,
    /// Whether each model's forecast is published beside the combination, with its skill.
    #[serde(default)]
    publish_models: bool,
    /// Series beyond this number are left out, and `cloudpulse_predictor_series_dropped` says so.
    #[serde(default)]
    #[schemars(extend("default" = DEFAULT_MAX_SERIES))]
    max_series: Option<usize>,
    /// Limit of the series: each time that it is passed is counted, by whether a forecast had said so.
    #[serde(default)]
    breach_above: Option<f64>,
    /// What counts as an alarm.
    #[serde(default)]
    anomaly: AnomalyShape,
    /// Compares the series of a group with each other; off where absent.
    #[serde(default)]
    outliers: Option<OutlierShape>,
    /// Days on which the load is another; the model `prophet` learns by how much.
    #[serde(default)]
    holidays: Vec<HolidayShape>,
    /// Quantities that the load follows, at most 8; the model `prophet` learns by how much.
    #[serde(default)]
    regressors: Vec<RegressorShape>,
    /// IANA time zone of the holidays, such as Europe/Berlin.
    #[serde(default)]
    #[schemars(extend("default" = "UTC"))]
    time_zone: Option<String>,
    /// The network that mixes the models.
    #[serde(default)]
    lstm: LstmShape,
}

/// Values that the series can take; open where absent.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BoundsShape {
    /// Smallest value.
    #[serde(default)]
    lower: Option<f64>,
    /// Largest value.
    #[serde(default)]
    upper: Option<f64>,
}

/// One forecast: a query and what is said of its future.
#[derive(Debug, Clone, PartialEq)]
pub struct ForecastConfig {
    /// Unique name; label `forecast` of all its series.
    pub name: String,
    /// PromQL that returns an instant vector of any number of series.
    pub query: String,
    /// Distance of samples in seconds.
    pub step: i64,
    /// Length of the history in seconds.
    pub history: i64,
    /// Time between forecasts in seconds.
    pub interval: i64,
    /// Horizons in seconds, ascending.
    pub horizons: Vec<i64>,
    /// Published quantiles, ascending.
    pub quantiles: Vec<f64>,
    /// Horizons of the peak in seconds, ascending.
    pub peak_horizons: Vec<i64>,
    /// Published quantiles of the peak, ascending.
    pub peak_quantiles: Vec<f64>,
    /// Values that the series can take.
    pub bounds: Bounds,
    /// Whether each model's forecast is published beside the combination.
    pub publish_models: bool,
    /// Series beyond this number are left out, and a metric says so.
    pub max_series: usize,
    /// Limit of the series: each time that it is passed is counted, by whether a forecast had said so.
    pub breach_above: Option<f64>,
    /// What counts as an alarm.
    pub anomaly: cloudpulse_forecast::anomaly::Options,
    /// Comparison of the series of a group; off where absent.
    pub outliers: Option<Outliers>,
    /// Holidays, day by day.
    pub known: Arc<Known>,
    /// Quantities that the load follows; their values are fetched. Names are unique, among the holidays' too.
    pub regressors: Vec<Regressor>,
    /// The network that mixes the models.
    pub lstm: Lstm,
    /// How late samples are there, in seconds: forecasts start that long before now.
    pub query_offset: i64,
}

pub(super) const DEFAULT_STEP: i64 = 60;
pub(super) const DEFAULT_HISTORY: i64 = 14 * 86_400;
pub(super) const DEFAULT_HORIZONS: [i64; 3] = [300, 600, 900];
pub(super) const DEFAULT_QUANTILES: [f64; 2] = [0.5, 0.9];
pub(super) const DEFAULT_PEAK_HORIZONS: [i64; 1] = [300];
pub(super) const DEFAULT_MAX_SERIES: usize = 1000;
/// Share of the interval that fits may take.
const REFIT_SHARE: f64 = 0.25;
/// Horizons beyond this number of steps cost more than they tell.
const MAX_HORIZON_STEPS: i64 = 5760;
/// A longer history is cut by memory, not by sense.
const MAX_HISTORY_STEPS: i64 = 400_000;

pub(super) fn check_forecast(shape: ForecastShape, path: &str, check: &mut Check<'_>) -> ForecastConfig {
    let ForecastShape {
        name,
        query,
        step,
        history,
        interval,
        horizons,
        quantiles,
        peak_horizons,
        peak_quantiles,
        bounds,
        publish_models,
        max_series,
        breach_above,
        anomaly,
        outliers,
        holidays,
        regressors,
        time_zone,
        lstm,
    } = shape;
    let field = |name: &str| format!("{path}.{name}");
    if name.is_empty() || !name.chars().all(is_name) {
        check.add(&field("name"), format!("{name:?} is no name; use letters, digits and -_.:/"));
    }
    if query.trim().is_empty() {
        check.add(&field("query"), "is empty; write the PromQL of the series to forecast");
    }
    let mut whole = |field_name: &str, value: Option<PromDuration>, default: i64| -> i64 {
        let seconds = value.map_or(default as f64, PromDuration::seconds);
        if seconds < 1.0 || seconds.fract() != 0.0 {
            check.add(&field(field_name), "must be whole seconds, at least 1s");
            return default;
        }
        seconds as i64
    };
    let step = whole("step", step, DEFAULT_STEP);
    let history = whole("history", history, DEFAULT_HISTORY.min(MAX_HISTORY_STEPS * step));
    let interval = whole("interval", interval, step.max(15));
    if history < 2 * step {
        check.add(&field("history"), "must hold at least two steps");
    } else if history / step > MAX_HISTORY_STEPS {
        check.add(&field("history"), format!("holds more than {MAX_HISTORY_STEPS} steps; use a longer step"));
    }
    let horizons = check_horizons(horizons, &DEFAULT_HORIZONS, step, &field("horizons"), check);
    let peak_horizons = check_horizons(peak_horizons, &DEFAULT_PEAK_HORIZONS, step, &field("peak_horizons"), check);
    let quantiles = check_quantiles(quantiles, &DEFAULT_QUANTILES, &field("quantiles"), check);
    let peak_quantiles = check_quantiles(peak_quantiles, &PEAK_QUANTILES, &field("peak_quantiles"), check);
    let bounds = bounds.map_or_else(Bounds::default, |b| Bounds { lower: b.lower, upper: b.upper });
    if let (Some(lower), Some(upper)) = (bounds.lower, bounds.upper)
        && lower.partial_cmp(&upper) != Some(std::cmp::Ordering::Less)
    {
        check.add(&field("bounds"), format!("lower {lower} is not below upper {upper}"));
    }
    let anomaly = check_anomaly(&anomaly, &field("anomaly"), check);
    let outliers = outliers.map(|shape| check_outliers(shape, step, &field("outliers"), check));
    let known = check_holidays(&holidays, time_zone.as_deref(), path, check);
    let regressors = check_regressors(regressors, &known, &field("regressors"), check);
    if breach_above.is_some_and(|limit| !limit.is_finite()) {
        check.add(&field("breach_above"), "is no number");
    }
    let max_series = max_series.unwrap_or(DEFAULT_MAX_SERIES);
    if max_series == 0 {
        check.add(&field("max_series"), "must be at least 1");
    }
    ForecastConfig {
        name,
        query,
        step,
        history,
        interval,
        horizons,
        quantiles,
        peak_horizons,
        peak_quantiles,
        bounds,
        publish_models,
        max_series,
        breach_above,
        anomaly,
        outliers,
        known: Arc::new(known),
        regressors,
        lstm: check_lstm(&lstm, &field("lstm"), check),
        query_offset: 0,
    }
}

/// Returns whether a name of a forecast may hold this: it stands in labels, logs, folders and URLs.
pub(crate) fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.:/".contains(c)
}

fn check_horizons(
    given: Option<Vec<PromDuration>>,
    default: &[i64],
    step: i64,
    path: &str,
    check: &mut Check<'_>,
) -> Vec<i64> {
    // A default that the step does not divide becomes the next multiple of the step.
    let Some(given) = given else {
        let mut rounded: Vec<i64> = default.iter().map(|h| (h + step - 1) / step * step).collect();
        rounded.dedup();
        return rounded;
    };
    let mut horizons: Vec<i64> = Vec::new();
    for (i, horizon) in given.iter().enumerate() {
        let seconds = horizon.seconds();
        let place = format!("{path}[{i}]");
        if seconds.fract() != 0.0 || seconds < step as f64 || seconds as i64 % step != 0 {
            let step = PromDuration::from_secs(step.unsigned_abs());
            check.add(&place, format!("{horizon} is no multiple of the step {step}"));
        } else if seconds as i64 / step > MAX_HORIZON_STEPS {
            check.add(&place, format!("{horizon} is more than {MAX_HORIZON_STEPS} steps ahead; use a longer step"));
        } else {
            horizons.push(seconds as i64);
        }
    }
    if given.is_empty() {
        check.add(path, "is empty; name at least one horizon, such as 5m");
    }
    horizons.sort_unstable();
    horizons.dedup();
    horizons
}

fn check_quantiles(given: Option<Vec<f64>>, default: &[f64], path: &str, check: &mut Check<'_>) -> Vec<f64> {
    let mut quantiles = given.unwrap_or_else(|| default.to_vec());
    if quantiles.is_empty() {
        check.add(path, "is empty; name at least one quantile, such as 0.5");
    }
    for (i, quantile) in quantiles.iter().enumerate() {
        if !(*quantile > 0.0 && *quantile < 1.0) {
            check.add(&format!("{path}[{i}]"), format!("{quantile} is no quantile; it must lie between 0 and 1"));
        }
    }
    quantiles.sort_by(f64::total_cmp);
    quantiles.dedup();
    quantiles
}

impl ForecastConfig {
    /// Returns how many published series one source series makes, single models left out: the forecasts, and for each
    /// horizon skill, bias and three levels of coverage; when it was made, and the anomaly score.
    pub fn series_per_source(&self) -> usize {
        let breaches = if self.breach_above.is_some() { 2 } else { 0 };
        self.horizons.len() * (self.quantiles.len() + 5)
            + self.peak_horizons.len() * self.peak_quantiles.len()
            + breaches
            + usize::from(self.outliers.is_some())
            + 2
    }

    /// Returns how long the fits of one cycle may take in all.
    pub fn refit_budget(&self) -> std::time::Duration {
        std::time::Duration::from_secs_f64(self.interval as f64 * REFIT_SHARE)
    }

    /// Returns the age in seconds beyond which a forecast is not shown any more.
    pub fn max_age(&self) -> i64 {
        self.query_offset + (3 * self.interval).max(2 * self.step) + 60
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_late_source_ages_no_forecast() {
        let age = |text: &str| Config::from_text("c", text).unwrap().forecasts[0].max_age();
        assert_eq!(age("prometheus: {query_offset: 2m}"), age("") + 120);
    }

    #[test]
    fn default_horizons_fit_any_step() {
        let config = Config::from_text("c", "forecasts: [{name: slow, query: up, step: 7m}]").unwrap();
        assert_eq!(config.forecasts[0].horizons, [420, 840, 1260]);
    }
}
