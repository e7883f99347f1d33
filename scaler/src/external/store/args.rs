//! Flags of what is kept of external metrics.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use cloudpulse_common::duration::PromDuration;

use super::StoreOptions;

/// Where external metrics come from.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// File with further external metrics by PromQL.
    #[arg(long = "external-metrics.config", env = "CLOUDPULSE_SCALER_EXTERNAL_METRICS_CONFIG", value_name = "FILE")]
    pub external_metrics_config: Option<PathBuf>,
    /// Time from one query for external metrics to the next.
    #[arg(
        long = "external-metrics.interval",
        env = "CLOUDPULSE_SCALER_EXTERNAL_METRICS_INTERVAL",
        default_value = "15s",
        value_name = "DURATION"
    )]
    pub external_metrics_interval: PromDuration,
    /// Age at which a forecast is stale as an external metric.
    #[arg(
        long = "external-metrics.forecast-max-age",
        env = "CLOUDPULSE_SCALER_EXTERNAL_METRICS_FORECAST_MAX_AGE",
        default_value = "5m",
        value_name = "DURATION"
    )]
    pub external_metrics_forecast_max_age: PromDuration,
}

impl StoreArgs {
    /// Returns how the store is kept, where a rule takes a turn each `turn` and files are read again each `reload_interval`.
    pub fn options(self, turn: Duration, reload_interval: Duration) -> StoreOptions {
        StoreOptions {
            interval: self.external_metrics_interval.0,
            forecast_max_age: self.external_metrics_forecast_max_age.0,
            rule_max_age: 3 * turn,
            config: self.external_metrics_config,
            reload_interval,
        }
    }
}
