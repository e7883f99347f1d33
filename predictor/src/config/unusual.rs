//! The settings for anomalies and outliers: as written in; checked options, and findings, out.

use cloudpulse_common::duration::PromDuration;
use cloudpulse_forecast::anomaly;
use cloudpulse_forecast::anomaly::outlier::{self, Method};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Check;

/// Time over which the series of a group are compared when nobody says, in seconds.
const OUTLIER_WINDOW: f64 = 3600.0;
/// A longer comparison costs more than it tells.
const MAX_OUTLIER_STEPS: i64 = 1000;

/// What counts as an alarm.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AnomalyShape {
    /// Score above which a value raises an alarm.
    #[schemars(extend("default" = anomaly::Options::default().threshold))]
    threshold: Option<f64>,
    /// Deviations from the expectation that never count, in the unit of the series.
    #[schemars(extend("default" = anomaly::Options::default().min_deviation))]
    min_deviation: Option<f64>,
}

/// How the series of a group are compared with each other.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OutlierShape {
    /// Labels that the series of a group share, such as the job.
    by: Vec<String>,
    /// Time over which they are compared; at most 1,000 steps.
    #[serde(default)]
    #[schemars(extend("default" = super::duration_label(OUTLIER_WINDOW as i64)))]
    window: Option<PromDuration>,
    /// `dbscan` or `mad`.
    #[serde(default)]
    #[schemars(with = "String", extend("default" = Method::default()))]
    method: Method,
    /// Between 0 and 1; larger finds more.
    #[serde(default)]
    #[schemars(extend("default" = outlier::Options::default().sensitivity))]
    sensitivity: Option<f64>,
    /// Differences from the group that never count, in the unit of the series.
    #[serde(default)]
    #[schemars(extend("default" = outlier::Options::default().min_deviation))]
    min_deviation: Option<f64>,
}

/// How the series of a group are compared with each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Outliers {
    /// Labels that the series of a group share, such as the job.
    pub by: Vec<String>,
    /// Steps that are compared.
    pub window: i64,
    /// What counts.
    pub options: outlier::Options,
}

pub(super) fn check_anomaly(shape: &AnomalyShape, path: &str, check: &mut Check<'_>) -> anomaly::Options {
    let AnomalyShape { threshold, min_deviation } = *shape;
    let default = anomaly::Options::default();
    let options = anomaly::Options {
        threshold: threshold.unwrap_or(default.threshold),
        min_deviation: min_deviation.unwrap_or(default.min_deviation),
    };
    if !(options.threshold > 0.0 && options.threshold.is_finite()) {
        check.add(&format!("{path}.threshold"), "must be above 0; 1 is usual, 1.3 alarms less");
    }
    check_deviation(options.min_deviation, path, check);
    options
}

pub(super) fn check_outliers(shape: OutlierShape, step: i64, path: &str, check: &mut Check<'_>) -> Outliers {
    let OutlierShape { by, window, method, sensitivity, min_deviation } = shape;
    let default = outlier::Options::default();
    let options = outlier::Options {
        method,
        sensitivity: sensitivity.unwrap_or(default.sensitivity),
        min_deviation: min_deviation.unwrap_or(default.min_deviation),
    };
    if !(options.sensitivity > 0.0 && options.sensitivity < 1.0) {
        check.add(&format!("{path}.sensitivity"), "must lie between 0 and 1; larger finds more");
    }
    check_deviation(options.min_deviation, path, check);
    let seconds = window.map_or(OUTLIER_WINDOW, PromDuration::seconds);
    let window = (seconds / step as f64).round() as i64;
    if !(1..=MAX_OUTLIER_STEPS).contains(&window) {
        check.add(&format!("{path}.window"), format!("must hold 1 to {MAX_OUTLIER_STEPS} steps"));
    }
    Outliers { by, window, options }
}

fn check_deviation(value: f64, path: &str, check: &mut Check<'_>) {
    if !(value >= 0.0 && value.is_finite()) {
        check.add(&format!("{path}.min_deviation"), "must be at least 0, in the unit of the series");
    }
}
