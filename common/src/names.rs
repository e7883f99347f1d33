//! Metric and label names that cross a process boundary: written by one program, read by another, by rules or dashboards.
//!
//! A rename here is a rename everywhere; a name that only one program uses does not belong here.

/// One metric of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Name in Prometheus.
    pub name: &'static str,
    /// HELP text: one sentence with the unit.
    pub help: &'static str,
}

/// Value expected at now + `horizon`, in the source's unit. Labels: the source's, [`FORECAST_LABEL`], [`HORIZON_LABEL`],
/// [`QUANTILE_LABEL`], [`MODEL_LABEL`].
pub const FORECAST: Metric =
    Metric { name: "cloudpulse_forecast", help: "Value expected at now + horizon, in the unit of the source." };
/// Highest value expected in (now, now + `horizon`]. Labels as [`FORECAST`].
pub const FORECAST_PEAK: Metric = Metric {
    name: "cloudpulse_forecast_peak",
    help: "Highest value expected between now and now + horizon, in the unit of the source.",
};
/// The forecast curve at its future timestamps; served over remote read only, never scraped.
pub const FORECAST_PATH: Metric = Metric {
    name: "cloudpulse_forecast_path",
    help: "The forecast curve at its future timestamps, in the unit of the source.",
};
/// Unix time at which the forecast of a series was made.
pub const FORECAST_TIMESTAMP: Metric = Metric {
    name: "cloudpulse_forecast_timestamp_seconds",
    help: "Unix time at which the forecast of this series was made.",
};
/// 1 - MAE / MAE of the better of persistence and seasonal naive.
pub const FORECAST_SKILL: Metric = Metric {
    name: "cloudpulse_forecast_skill_ratio",
    help: "1 - MAE / MAE of the better of persistence and seasonal naive, on resolved forecasts.",
};
/// Share of observations inside the interval.
pub const FORECAST_COVERAGE: Metric = Metric {
    name: "cloudpulse_forecast_coverage_ratio",
    help: "Share of observations inside the interval of this level, on resolved forecasts.",
};
/// Mean of forecast - observation over the last day.
pub const FORECAST_BIAS: Metric = Metric {
    name: "cloudpulse_forecast_bias",
    help: "Mean of forecast - observation over the last day, in the unit of the source; positive is too high.",
};
/// Present while a baseline stands in for the combined forecast; [`MODEL_LABEL`] says which.
pub const FORECAST_DEMOTED: Metric = Metric {
    name: "cloudpulse_forecast_demoted",
    help: "1 while this baseline stands in for the combined forecast, which lost to it over a day.",
};
/// Breaches of a forecast's limit, by [`PREDICTED_LABEL`].
pub const FORECAST_BREACHES: Metric = Metric {
    name: "cloudpulse_forecast_breaches",
    help: "Of the last 100 times that the series went above its limit, those that a forecast had predicted or had not.",
};
/// How unusual the last value of a series is; above 1 is anomalous.
pub const ANOMALY_SCORE: Metric = Metric {
    name: "cloudpulse_anomaly_score",
    help: "How unusual the last value of this series is beside its own past; above 1 is anomalous.",
};
/// Alarms that a series raised, by [`CAUSE_LABEL`].
pub const ANOMALY_ALARMS: Metric =
    Metric { name: "cloudpulse_anomaly_alarms_total", help: "Alarms that this series raised; one event raises one." };
/// Share of recent values in which a series differs from the others of its group.
pub const OUTLIER_RATIO: Metric = Metric {
    name: "cloudpulse_outlier_ratio",
    help: "Share of the recent values in which this series is unlike the others of its group; above 0.5 is an outlier.",
};

/// Label: name of the forecast in the predictor's configuration.
pub const FORECAST_LABEL: &str = "forecast";
/// Label: distance into the future in Prometheus' duration form, such as `5m`.
pub const HORIZON_LABEL: &str = "horizon";
/// Label: quantile as a ratio, such as `0.9`.
pub const QUANTILE_LABEL: &str = "quantile";
/// Label: model name; [`ENSEMBLE`] is always there.
pub const MODEL_LABEL: &str = "model";
/// Label: nominal level of an interval as a ratio, such as `0.9`.
pub const LEVEL_LABEL: &str = "level";
/// Label: whether a breach was predicted, `true` or `false`.
pub const PREDICTED_LABEL: &str = "predicted";
/// Label: which statistic raised an alarm.
pub const CAUSE_LABEL: &str = "cause";
/// Value of [`MODEL_LABEL`] for the combined forecast.
pub const ENSEMBLE: &str = "ensemble";

/// Labels that the predictor writes itself. A source label of the same name is kept as `exported_<name>`, as Prometheus
/// does it.
pub const RESERVED_LABELS: [&str; 7] =
    [FORECAST_LABEL, HORIZON_LABEL, QUANTILE_LABEL, MODEL_LABEL, LEVEL_LABEL, PREDICTED_LABEL, CAUSE_LABEL];

/// Replicas that a rule wants. Labels: `rule`, `target`.
pub const DESIRED_REPLICAS: Metric =
    Metric { name: "cloudpulse_scaler_desired_replicas", help: "Replicas that the rule wants after all limits." };
/// Replicas that the target has now. Labels: `rule`, `target`.
pub const CURRENT_REPLICAS: Metric =
    Metric { name: "cloudpulse_scaler_current_replicas", help: "Replicas that the target has." };
/// How long a replica takes until it serves. Labels: `rule`, `target`.
pub const LEAD_TIME: Metric = Metric {
    name: "cloudpulse_scaler_lead_time_seconds",
    help: "Time from creation until it can serve, of 95 % of the last 100 replicas; absent until one was seen.",
};
/// Time until the forecast needs more than the maximum. Labels: `rule`, `target`.
pub const CAPACITY_BREACH: Metric = Metric {
    name: "cloudpulse_scaler_capacity_breach_seconds",
    help: "Time until more than the most replicas are needed, 0 where they are needed now; absent where none is foreseen.",
};
