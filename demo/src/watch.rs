//! What the demonstration shows: queries in, one line of state out; and whether each station delivered.

use std::time::Duration;

use serde_json::Value;

use crate::config::{FORECAST, LOAD, RULE};
use crate::stack::{Stack, unix_now};

/// The state of one moment. What is not there yet is `None`.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) load: Option<f64>,
    /// At 5, 10 and 15 minutes.
    pub(crate) forecasts: [Option<Forecast>; 3],
    /// The 0.99 quantile of the peak of the next 15 minutes.
    pub(crate) peak: Option<f64>,
    pub(crate) current: Option<u64>,
    pub(crate) desired: Option<u64>,
    pub(crate) reason: Option<String>,
    pub(crate) reactive: Option<u64>,
    pub(crate) by_forecast: Option<u64>,
    pub(crate) alerts: Vec<String>,
}

/// A forecast of the load, requests/s.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forecast {
    pub(crate) median: f64,
    /// Ends of the 90 % band.
    pub(crate) band: Option<(f64, f64)>,
}

/// Which stations delivered so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stations {
    /// Samples of all targets were scraped.
    pub(crate) scraped: Option<String>,
    /// Forecasts came back to Prometheus.
    pub(crate) forecast: Option<String>,
    /// A query past now returned the curve.
    pub(crate) future: Option<String>,
    /// The scaler decided on a forecast.
    pub(crate) decided: Option<String>,
    /// Replicas went up before the load did.
    pub(crate) scaled: Option<String>,
    /// An alert on a predicted series reached Alertmanager.
    pub(crate) alerted: Option<String>,
}

impl Stations {
    /// Returns each station's name and what was seen there.
    pub(crate) fn list(&self) -> [(&'static str, &Option<String>); 6] {
        [
            ("scraped samples", &self.scraped),
            ("issued forecasts", &self.forecast),
            ("the future over remote read", &self.future),
            ("a decision", &self.decided),
            ("a changed replica count", &self.scaled),
            ("an alert on the future", &self.alerted),
        ]
    }
}

/// Looks at everything once. A query that fails leaves its part unknown.
pub(crate) async fn look(stack: &Stack, stations: &mut Stations) -> State {
    let mut state = State { load: one(stack, LOAD).await, ..State::default() };
    for (slot, horizon) in state.forecasts.iter_mut().zip(["5m", "10m", "15m"]) {
        let at = |quantile: &str| {
            let selector = format!(
                "cloudpulse_forecast{{forecast=\"{FORECAST}\",model=\"ensemble\",horizon=\"{horizon}\",quantile=\"{quantile}\"}}"
            );
            async move { one(stack, &selector).await }
        };
        let band = at("0.05").await.zip(at("0.95").await);
        *slot = at("0.5").await.map(|median| Forecast { median, band });
    }
    let peak = format!("cloudpulse_forecast_peak{{forecast=\"{FORECAST}\",horizon=\"15m\",quantile=\"0.99\"}}");
    state.peak = one(stack, &peak).await;
    if let Some(entry) = last_decision(stack).await {
        state.current = entry["current"].as_u64();
        state.desired = entry["desired"].as_u64();
        state.reason = entry["reason"].as_str().map(str::to_owned);
        state.reactive = entry["parts"]["reactive"].as_u64();
        state.by_forecast = entry["parts"]["forecast"].as_u64();
    }
    if let Ok(alerts) = stack.alertmanager.alerts().await {
        state.alerts =
            alerts.iter().filter_map(|alert| alert["labels"]["alertname"].as_str()).map(str::to_owned).collect();
        state.alerts.sort();
        state.alerts.dedup();
    }
    note(stack, &state, stations).await;
    state
}

async fn note(stack: &Stack, state: &State, stations: &mut Stations) {
    if stations.scraped.is_none()
        && let (Some(up), Some(samples)) =
            (one(stack, "sum(up)").await, one(stack, "sum(scrape_samples_scraped)").await)
        && up >= 4.0
    {
        stations.scraped =
            Some(format!("{samples} samples a scrape from {up} targets, /proc of this machine among them"));
    }
    if stations.forecast.is_none()
        && let Some(Forecast { median, band: Some((lower, upper)) }) = state.forecasts[2]
    {
        stations.forecast =
            Some(format!("in 15 minutes {median:.0} requests/s, 90 % between {lower:.0} and {upper:.0}"));
    }
    if stations.future.is_none() {
        let curve = format!("cloudpulse_forecast_path{{forecast=\"{FORECAST}\",quantile=\"0.5\"}}");
        let now = unix_now();
        let range = stack.prometheus.query_range(&curve, now, now + 900.0, Duration::from_secs(60)).await;
        let last = range.ok().and_then(|series| series.first()?.1.last().copied());
        if let Some((time, value)) = last.filter(|(time, _)| *time > now + 600.0) {
            let minutes = (time - now) / 60.0;
            stations.future =
                Some(format!("a range query returned {value:.0} requests/s at {minutes:.0} minutes past now"));
        }
    }
    if stations.decided.is_none()
        && let (Some(desired), Some(by_forecast)) = (state.desired, state.by_forecast)
    {
        let reactive = state.reactive.map_or_else(|| "?".to_owned(), |replicas| replicas.to_string());
        stations.decided =
            Some(format!("{desired} replicas wanted: {by_forecast} by the forecast, {reactive} by the load now"));
    }
    if stations.scaled.is_none()
        && let (Some(current), Some(reactive), Some(load)) = (state.current, state.reactive, state.load)
        && current > reactive
    {
        stations.scaled =
            Some(format!("{current} replicas run ahead of the load: {load:.0} requests/s alone ask for {reactive}"));
    }
    if stations.alerted.is_none() && state.alerts.iter().any(|alert| alert == "DemoLoadWillRise") {
        stations.alerted = Some("DemoLoadWillRise fired and reached Alertmanager".to_owned());
    }
}

async fn one(stack: &Stack, expr: &str) -> Option<f64> {
    let samples = stack.prometheus.query(expr, None).await.ok()?;
    samples.first().map(|(_, value)| *value).filter(|value| value.is_finite())
}

/// The newest entry that saw both load and forecast, or else the newest.
async fn last_decision(stack: &Stack) -> Option<Value> {
    let url = format!("http://127.0.0.1:{}/api/v1/decisions?rule={RULE}&limit=1", stack.ports.scaler);
    let response = cloudpulse_testkit::net::http_client().ok()?.get(url).send().await.ok()?;
    let body: Value = response.json().await.ok()?;
    let list = body.as_array().or_else(|| body["decisions"].as_array())?;
    list.first().cloned()
}
