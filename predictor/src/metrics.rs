//! Everything that the predictor says of itself.

use cloudpulse_common::exposition::Described;
use prometheus::core::Collector;
use prometheus::{Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

/// What stands before each of their names, with an underscore.
pub const PREFIX: &str = "cloudpulse_predictor";

/// The self-metrics; clones share one state.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// All of them.
    pub registry: Registry,
    /// Always 1, by forecast and query: from it a dashboard knows what to draw beside the forecast.
    pub forecast_info: IntGaugeVec,
    /// Queries sent, by forecast.
    pub queries: IntCounterVec,
    /// Queries that failed, by forecast and reason.
    pub query_errors: IntCounterVec,
    /// Time of a fetch, by forecast.
    pub query_seconds: HistogramVec,
    /// Time of the models, by forecast.
    pub forecast_seconds: HistogramVec,
    /// Series that are forecast now.
    pub series: IntGaugeVec,
    /// Series that the query returns beyond the cap.
    pub series_dropped: IntGaugeVec,
    /// 1 while a regressor is left out, by forecast and regressor.
    pub regressor_left_out: IntGaugeVec,
    /// How far past the forecast's origin a regressor is known; absent while it is left out.
    pub regressor_ahead: IntGaugeVec,
    /// Bytes that the series of a forecast take.
    pub series_bytes: IntGaugeVec,
    /// Fits that were due but had to wait for a later cycle.
    pub skipped_fits: IntCounterVec,
    /// Unix time of the last forecast.
    pub last_success: GaugeVec,
    /// Unix time of the last saved state.
    pub state_written: GaugeVec,
    /// Length of the last saved state.
    pub state_bytes: IntGaugeVec,
    /// States that could not be saved.
    pub state_errors: IntCounterVec,
    /// Series that the last start took from a saved state.
    pub state_restored: IntGaugeVec,
    /// Saved states that were not whole.
    pub state_damaged: IntCounterVec,
    /// Fine-tunings of the network, by forecast and result.
    pub fine_tunings: IntCounterVec,
    /// How long they took.
    pub fine_tuning_seconds: HistogramVec,
    /// Unix time at which the network in use was fine-tuned; 0 for the bundled one.
    pub network_made: GaugeVec,
    /// Loss of a network on the newest windows at the last fine-tuning, by forecast and weights.
    pub network_loss: GaugeVec,
    /// What the network counts in the forecasts, mean over series and horizons.
    pub network_weight: GaugeVec,
    /// Unix time of the start.
    pub started: Gauge,
    /// Time of a remote-read answer.
    pub remote_read_seconds: Histogram,
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// When a name is taken or no name, which a test rules out.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(Some(PREFIX.to_owned()), None)?;
        let forecast = ["forecast"];
        let buckets = prometheus::exponential_buckets(0.001, 4.0, 9)?;
        let seconds = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(buckets.clone());
        let metrics = Self {
            forecast_info: IntGaugeVec::new(
                Opts::new("forecast_info", "Always 1; the query that is forecast is in the labels."),
                &["forecast", "query"],
            )?,
            queries: IntCounterVec::new(Opts::new("queries_total", "Fetches from Prometheus."), &forecast)?,
            query_errors: IntCounterVec::new(
                Opts::new("query_errors_total", "Fetches from Prometheus that failed."),
                &["forecast", "reason"],
            )?,
            query_seconds: HistogramVec::new(
                seconds("query_duration_seconds", "Time of one fetch from Prometheus."),
                &forecast,
            )?,
            forecast_seconds: HistogramVec::new(
                seconds("forecast_duration_seconds", "Time to forecast all series once."),
                &forecast,
            )?,
            series: IntGaugeVec::new(Opts::new("series", "Series that are forecast now."), &forecast)?,
            series_dropped: IntGaugeVec::new(
                Opts::new("series_dropped", "Series of the query that are left out because of max_series."),
                &forecast,
            )?,
            regressor_left_out: IntGaugeVec::new(
                Opts::new(
                    "regressor_left_out",
                    "1 while the regressor is left out, because its query does not return exactly one series or fails.",
                ),
                &["forecast", "regressor"],
            )?,
            regressor_ahead: IntGaugeVec::new(
                Opts::new(
                    "regressor_ahead_seconds",
                    "How far past the last value of the forecast the regressor is known.",
                ),
                &["forecast", "regressor"],
            )?,
            series_bytes: IntGaugeVec::new(
                Opts::new("series_bytes", "Memory of the series of a forecast."),
                &forecast,
            )?,
            skipped_fits: IntCounterVec::new(
                Opts::new(
                    "skipped_fits_total",
                    "Fits that were due but did not fit into the cycle; they are made later.",
                ),
                &forecast,
            )?,
            last_success: GaugeVec::new(
                Opts::new("last_success_timestamp_seconds", "Unix time of the last forecast."),
                &forecast,
            )?,
            state_written: GaugeVec::new(
                Opts::new("state_written_timestamp_seconds", "Unix time of the last saved state."),
                &forecast,
            )?,
            state_bytes: IntGaugeVec::new(Opts::new("state_bytes", "Length of the last saved state."), &forecast)?,
            state_errors: IntCounterVec::new(
                Opts::new("state_write_errors_total", "States that could not be saved."),
                &forecast,
            )?,
            state_restored: IntGaugeVec::new(
                Opts::new("state_restored_series", "Series that the start took from a saved state."),
                &forecast,
            )?,
            state_damaged: IntCounterVec::new(
                Opts::new("state_damaged_total", "Saved states that were not whole and were put aside."),
                &forecast,
            )?,
            fine_tunings: IntCounterVec::new(
                Opts::new("fine_tunings_total", "Fine-tunings of the network by result; only \"kept\" changes it."),
                &["forecast", "result"],
            )?,
            fine_tuning_seconds: HistogramVec::new(
                HistogramOpts::new("fine_tuning_duration_seconds", "Time of one fine-tuning, in the background.")
                    .buckets(prometheus::exponential_buckets(1.0, 2.0, 11)?),
                &forecast,
            )?,
            network_made: GaugeVec::new(
                Opts::new(
                    "network_fine_tuned_timestamp_seconds",
                    "Unix time at which the network in use was fine-tuned; 0 for the bundled one.",
                ),
                &forecast,
            )?,
            network_loss: GaugeVec::new(
                Opts::new(
                    "network_loss_ratio",
                    "Quantile loss on the newest windows at the last fine-tuning, as a share of persistence's error.",
                ),
                &["forecast", "weights"],
            )?,
            network_weight: GaugeVec::new(
                Opts::new(
                    "network_weight_ratio",
                    "What the network counts in the forecasts beside the other models, mean over series and horizons.",
                ),
                &forecast,
            )?,
            started: Gauge::new("start_timestamp_seconds", "Unix time of the start.")?,
            remote_read_seconds: Histogram::with_opts(seconds(
                "remote_read_duration_seconds",
                "Time of one remote-read answer.",
            ))?,
            registry,
        };
        for collector in metrics.collectors() {
            metrics.registry.register(collector)?;
        }
        Ok(metrics)
    }

    /// Returns what they can show, whether or not it has samples now; on the page, [`PREFIX`] stands before each name.
    pub fn described(&self) -> Vec<Described> {
        Described::of(&self.collectors())
    }

    fn collectors(&self) -> [Box<dyn Collector>; 24] {
        [
            Box::new(self.forecast_info.clone()),
            Box::new(self.queries.clone()),
            Box::new(self.query_errors.clone()),
            Box::new(self.query_seconds.clone()),
            Box::new(self.forecast_seconds.clone()),
            Box::new(self.series.clone()),
            Box::new(self.series_dropped.clone()),
            Box::new(self.regressor_left_out.clone()),
            Box::new(self.regressor_ahead.clone()),
            Box::new(self.series_bytes.clone()),
            Box::new(self.skipped_fits.clone()),
            Box::new(self.last_success.clone()),
            Box::new(self.state_written.clone()),
            Box::new(self.state_bytes.clone()),
            Box::new(self.state_errors.clone()),
            Box::new(self.state_restored.clone()),
            Box::new(self.state_damaged.clone()),
            Box::new(self.fine_tunings.clone()),
            Box::new(self.fine_tuning_seconds.clone()),
            Box::new(self.network_made.clone()),
            Box::new(self.network_loss.clone()),
            Box::new(self.network_weight.clone()),
            Box::new(self.started.clone()),
            Box::new(self.remote_read_seconds.clone()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_are_free() {
        assert!(Metrics::new().is_ok());
    }
}
