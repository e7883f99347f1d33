//! What the store counts of itself, for the metrics page.

use cloudpulse_common::exposition::Described;
use cloudpulse_common::query::QueryError;
use cloudpulse_policy::time::Timestamp;
use prometheus::GaugeVec;
use prometheus::IntCounterVec;
use prometheus::IntGaugeVec;
use prometheus::Opts;
use prometheus::Registry;

/// What a query is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// All forecasts.
    Forecasts,
    /// A configured metric.
    Query,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Forecasts => "forecasts",
            Self::Query => "query",
        }
    }
}

/// Counters; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    pub(super) registry: Registry,
    queries: IntCounterVec,
    last_success: GaugeVec,
    series: IntGaugeVec,
}

impl Tally {
    /// Returns counters at zero.
    ///
    /// # Errors
    /// Never in practice: when two metrics have one name.
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let queries = IntCounterVec::new(
            Opts::new(
                "cloudpulse_scaler_external_queries_total",
                "Queries to Prometheus for external metrics, by what came of them.",
            ),
            &["kind", "result"],
        )?;
        let last_success = GaugeVec::new(
            Opts::new(
                "cloudpulse_scaler_external_last_success_timestamp_seconds",
                "Unix time of the last query for external metrics that Prometheus answered.",
            ),
            &["kind"],
        )?;
        let series = IntGaugeVec::new(
            Opts::new(
                "cloudpulse_scaler_external_kept",
                "What is in memory for external metrics: series of forecasts, and queries that are asked for.",
            ),
            &["kind"],
        )?;
        registry.register(Box::new(queries.clone()))?;
        registry.register(Box::new(last_success.clone()))?;
        registry.register(Box::new(series.clone()))?;
        for kind in [Kind::Forecasts, Kind::Query] {
            queries.with_label_values(&[kind.name(), "success"]);
        }
        Ok(Self { registry, queries, last_success, series })
    }

    /// Returns what it counts, whether or not anything was counted yet.
    pub(super) fn described(&self) -> Vec<Described> {
        Described::of(&[
            Box::new(self.queries.clone()),
            Box::new(self.last_success.clone()),
            Box::new(self.series.clone()),
        ])
    }

    /// Counts a query by the number of its series, or its error.
    pub(super) fn count(&self, kind: Kind, answer: Result<usize, &QueryError>, now: Timestamp) {
        let result = match answer {
            Ok(0) => "empty",
            Ok(_) => "success",
            Err(error) => error.reason(),
        };
        self.queries.with_label_values(&[kind.name(), result]).inc();
        if answer.is_ok() {
            self.last_success.with_label_values(&[kind.name()]).set(now.unix_seconds());
        }
    }

    /// Says how much is in memory.
    pub(super) fn series(&self, kind: Kind, count: usize) {
        self.series.with_label_values(&[kind.name()]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
