//! The predictor's configuration: YAML in; checked forecasts, or all findings, out.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use cloudpulse_common::config::{Finding, Findings, parse, read};
use cloudpulse_common::duration::PromDuration;
use cloudpulse_common::query::ClientConfig;
use cloudpulse_forecast::ensemble::Bounds;
use cloudpulse_forecast::known::Known;
use serde::Deserialize;

mod built_in;
mod known;
mod unusual;

pub use built_in::built_in;
use known::{HolidayShape, check_holidays};
pub use unusual::Outliers;
use unusual::{AnomalyShape, OutlierShape, check_anomaly, check_outliers};

/// The file as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    prometheus: Option<ClientConfig>,
    defaults: Option<bool>,
    forecasts: Vec<ForecastShape>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ForecastShape {
    name: String,
    query: String,
    #[serde(default)]
    step: Option<PromDuration>,
    #[serde(default)]
    history: Option<PromDuration>,
    #[serde(default)]
    interval: Option<PromDuration>,
    #[serde(default)]
    horizons: Option<Vec<PromDuration>>,
    #[serde(default)]
    quantiles: Option<Vec<f64>>,
    #[serde(default)]
    peak_horizons: Option<Vec<PromDuration>>,
    #[serde(default)]
    peak_quantiles: Option<Vec<f64>>,
    #[serde(default)]
    bounds: Option<BoundsShape>,
    #[serde(default)]
    publish_models: bool,
    #[serde(default)]
    max_series: Option<usize>,
    #[serde(default)]
    breach_above: Option<f64>,
    #[serde(default)]
    anomaly: AnomalyShape,
    #[serde(default)]
    outliers: Option<OutlierShape>,
    #[serde(default)]
    holidays: Vec<HolidayShape>,
    #[serde(default)]
    time_zone: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BoundsShape {
    #[serde(default)]
    lower: Option<f64>,
    #[serde(default)]
    upper: Option<f64>,
}

/// The checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where Prometheus is.
    pub prometheus: ClientConfig,
    /// What is forecast, in the order of the file; names are unique.
    pub forecasts: Vec<ForecastConfig>,
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
    /// How late samples are there, in seconds: forecasts start that long before now.
    pub query_offset: i64,
}

/// Quantiles of the peak that a cost rule needs.
pub const PEAK_QUANTILES: [f64; 7] = [0.5, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999];
const DEFAULT_STEP: i64 = 60;
const DEFAULT_HISTORY: i64 = 14 * 86_400;
const DEFAULT_HORIZONS: [i64; 3] = [300, 600, 900];
const DEFAULT_QUANTILES: [f64; 2] = [0.5, 0.9];
const DEFAULT_PEAK_HORIZONS: [i64; 1] = [300];
const DEFAULT_MAX_SERIES: usize = 1000;
/// Share of the interval that fits may take.
const REFIT_SHARE: f64 = 0.25;
/// Where Prometheus is when nobody says.
pub const DEFAULT_URL: &str = "http://127.0.0.1:9090";
/// Horizons beyond this number of steps cost more than they tell.
const MAX_HORIZON_STEPS: i64 = 5760;
/// A longer history is cut by memory, not by sense.
const MAX_HISTORY_STEPS: i64 = 400_000;

impl Config {
    /// Returns the configuration for no file at all: the built-in forecasts.
    pub fn without_file() -> Self {
        Self {
            prometheus: ClientConfig { url: DEFAULT_URL.to_owned(), ..ClientConfig::default() },
            forecasts: built_in(),
        }
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// All findings, each with file and field path.
    pub fn load(path: &Path) -> Result<Self, Findings> {
        Self::from_text(&path.display().to_string(), &read(path)?)
    }

    /// Checks the text of a file; `file` is used in findings only.
    ///
    /// # Errors
    /// All findings, each with file and field path.
    pub fn from_text(file: &str, text: &str) -> Result<Self, Findings> {
        let shape: File = if text.trim().is_empty() { File::default() } else { parse(file, text)? };
        let File { prometheus, defaults, forecasts } = shape;
        let mut check = Check { file, findings: Vec::new() };
        let mut prometheus = prometheus.unwrap_or_default();
        let url_is_given = !prometheus.url.is_empty();
        if !url_is_given {
            DEFAULT_URL.clone_into(&mut prometheus.url);
        }
        for (field, message) in prometheus.findings() {
            // The URL may come from the command line; then it is looked at there.
            if field == "tls" && !url_is_given {
                continue;
            }
            check.add(format!("prometheus.{field}").trim_end_matches('.'), message);
        }
        let query_offset = prometheus.query_offset.map_or(0, |offset| offset.seconds() as i64);
        let mut names = BTreeSet::new();
        let mut checked = Vec::new();
        for (i, forecast) in forecasts.into_iter().enumerate() {
            let path = format!("forecasts[{i}]");
            if !names.insert(forecast.name.clone()) {
                check.add(&format!("{path}.name"), format!("{:?} is used twice; names are unique", forecast.name));
            }
            checked.push(check_forecast(forecast, &path, &mut check));
        }
        if defaults.unwrap_or(checked.is_empty()) {
            checked.extend(built_in().into_iter().filter(|forecast| !names.contains(&forecast.name)));
        }
        if checked.is_empty() {
            check.add("forecasts", "nothing is forecast; add a forecast or set defaults: true");
        }
        for forecast in &mut checked {
            forecast.query_offset = query_offset;
        }
        if check.findings.is_empty() {
            Ok(Self { prometheus, forecasts: checked })
        } else {
            Err(Findings(check.findings))
        }
    }
}

struct Check<'f> {
    file: &'f str,
    findings: Vec<Finding>,
}

impl Check<'_> {
    fn add(&mut self, path: &str, message: impl Into<String>) {
        self.findings.push(Finding { file: self.file.to_owned(), path: path.to_owned(), message: message.into() });
    }
}

fn check_forecast(shape: ForecastShape, path: &str, check: &mut Check<'_>) -> ForecastConfig {
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
        time_zone,
    } = shape;
    let field = |name: &str| format!("{path}.{name}");
    let word = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
    if name.is_empty() || !name.chars().all(word) {
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
    let known = Arc::new(check_holidays(&holidays, time_zone.as_deref(), path, check));
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
        known,
        query_offset: 0,
    }
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

/// Returns seconds as Prometheus writes a duration.
pub fn duration_label(seconds: i64) -> String {
    PromDuration::from_secs(seconds.unsigned_abs()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        Config::from_text("c.yaml", text).unwrap_err().0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_written_is_the_built_in_set() {
        let config = Config::from_text("c.yaml", "").unwrap();
        assert_eq!(config, Config::without_file());
        let names: Vec<&str> = config.forecasts.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(
            names,
            ["node-cpu", "node-memory", "node-network-receive", "node-network-transmit", "node-load", "node-disk"]
        );
        assert_eq!(config.forecasts[0].series_per_source(), (2 + 5) * 3 + 7 + 2);
    }

    #[test]
    fn all_findings_come_at_once() {
        let found = findings(
            "forecasts:\n- {name: a b, query: '', step: 1m, horizons: [90s, 5m], quantiles: [0.5, 1.5], bounds: {lower: 2, upper: 1}}\n\
             - {name: x, query: up}\n- {name: x, query: up, max_series: 0, history: 1m}\n",
        );
        for expected in [
            "c.yaml: forecasts[0].name: \"a b\" is no name",
            "c.yaml: forecasts[0].query: is empty",
            "c.yaml: forecasts[0].horizons[0]: 90s is no multiple of the step 1m",
            "c.yaml: forecasts[0].quantiles[1]: 1.5 is no quantile",
            "c.yaml: forecasts[0].bounds: lower 2 is not below upper 1",
            "c.yaml: forecasts[2].name: \"x\" is used twice",
            "c.yaml: forecasts[2].max_series: must be at least 1",
            "c.yaml: forecasts[2].history: must hold at least two steps",
        ] {
            assert!(found.iter().any(|line| line.starts_with(expected)), "{expected}\n{found:#?}");
        }
        assert_eq!(found.len(), 8, "{found:#?}");
    }

    #[test]
    fn a_misspelt_field_is_named() {
        let found = findings("forecasts: [{name: a, query: up, horizon: [5m]}]\nprometeus: {}");
        assert!(
            found[0].contains("forecasts[0].horizon: unknown field \"horizon\"; did you mean \"horizons\"?"),
            "{found:?}"
        );
        assert!(found[1].contains("prometeus: unknown field \"prometeus\"; did you mean \"prometheus\"?"), "{found:?}");
    }

    #[test]
    fn the_source_is_checked_with_all_the_rest() {
        let text = "prometheus: {url: 'https://p', tls: {cert_file: a}, params: {query: x}, bearer_token_file: t, basic_auth: {username: u, password_file: p}}\n";
        let found = findings(&format!("{text}forecasts: [{{name: x, query: ''}}]"));
        for expected in [
            "c.yaml: prometheus: bearer_token_file and basic_auth exclude each other",
            "c.yaml: prometheus.params.query: is set by the client itself",
            "c.yaml: prometheus.tls.key_file: is missing",
            "c.yaml: forecasts[0].query: is empty",
        ] {
            assert!(found.iter().any(|line| line.starts_with(expected)), "{expected}\n{found:#?}");
        }
        assert_eq!(found.len(), 4, "{found:#?}");
    }

    #[test]
    fn a_late_source_ages_no_forecast() {
        let age = |text: &str| Config::from_text("c", text).unwrap().forecasts[0].max_age();
        assert_eq!(age("prometheus: {query_offset: 2m}"), age("") + 120);
    }

    #[test]
    fn own_forecasts_replace_the_built_in_ones_unless_asked_for() {
        let own = "forecasts: [{name: web, query: up, step: 30s}]";
        assert_eq!(Config::from_text("c", own).unwrap().forecasts.len(), 1);
        assert_eq!(Config::from_text("c", &format!("defaults: true\n{own}")).unwrap().forecasts.len(), 7);
    }

    #[test]
    fn default_horizons_fit_any_step() {
        let config = Config::from_text("c", "forecasts: [{name: slow, query: up, step: 7m}]").unwrap();
        assert_eq!(config.forecasts[0].horizons, [420, 840, 1260]);
    }
}
