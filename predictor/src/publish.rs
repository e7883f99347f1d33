//! The latest forecasts in; the metrics page out. What is too old, or gone, is not on it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use cloudpulse_common::exposition::{Kind, Page};
use cloudpulse_common::names::{
    ENSEMBLE, FORECAST, FORECAST_LABEL, FORECAST_PEAK, FORECAST_TIMESTAMP, HORIZON_LABEL, MODEL_LABEL, Metric,
    QUANTILE_LABEL,
};
use cloudpulse_common::query::Labels;

use crate::config::{ForecastConfig, duration_label};
use crate::engine::Issued;

/// The forecasts of one configuration entry.
#[derive(Debug, Clone)]
pub struct Batch {
    /// What was asked for.
    pub config: Arc<ForecastConfig>,
    /// Time that the forecasts start from, Unix seconds: the last evaluated sample.
    pub made_at: i64,
    /// One for each series that is there.
    pub issued: Vec<Issued>,
}

impl Batch {
    /// Returns whether the batch may be shown at `now`.
    pub fn is_fresh(&self, now: f64) -> bool {
        now - self.made_at as f64 <= self.config.max_age() as f64
    }
}

/// The latest batch of each forecast; clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<RwLock<BTreeMap<String, Arc<Batch>>>>);

impl Board {
    /// Replaces the batch of a forecast.
    pub fn put(&self, batch: Batch) {
        let mut board = self.0.write().unwrap_or_else(PoisonError::into_inner);
        board.insert(batch.config.name.clone(), Arc::new(batch));
    }

    /// Returns the batches that may be shown at `now`, by name.
    pub fn fresh(&self, now: f64) -> Vec<Arc<Batch>> {
        let board = self.0.read().unwrap_or_else(PoisonError::into_inner);
        board.values().filter(|batch| batch.is_fresh(now)).cloned().collect()
    }
}

/// Writes all families of the contract.
pub fn write(page: &mut Page<'_>, batches: &[Arc<Batch>]) {
    family(page, FORECAST, batches, |page, name, batch, issued| {
        for at in &issued.horizons {
            let horizon = duration_label(at.seconds);
            for (quantile, value) in batch.config.quantiles.iter().zip(&at.quantiles) {
                sample(page, name, batch, &issued.labels, &horizon, *quantile, ENSEMBLE, *value);
            }
            for (model, value) in &at.models {
                sample(page, name, batch, &issued.labels, &horizon, 0.5, model, *value);
            }
        }
    });
    family(page, FORECAST_PEAK, batches, |page, name, batch, issued| {
        for (seconds, values) in &issued.peaks {
            let horizon = duration_label(*seconds);
            for (quantile, value) in batch.config.peak_quantiles.iter().zip(values) {
                sample(page, name, batch, &issued.labels, &horizon, *quantile, ENSEMBLE, *value);
            }
        }
    });
    family(page, FORECAST_TIMESTAMP, batches, |page, name, batch, issued| {
        let mut labels: Vec<(&str, &str)> = pairs(&issued.labels);
        labels.push((FORECAST_LABEL, &batch.config.name));
        page.sample(name, &labels, batch.made_at as f64);
    });
}

fn family(
    page: &mut Page<'_>,
    metric: Metric,
    batches: &[Arc<Batch>],
    write: impl Fn(&mut Page<'_>, &str, &Batch, &Issued),
) {
    page.family(metric.name, metric.help, Kind::Gauge);
    for batch in batches {
        for issued in &batch.issued {
            write(page, metric.name, batch, issued);
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "the labels of the contract, each its own kind of value")]
fn sample(
    page: &mut Page<'_>,
    name: &str,
    batch: &Batch,
    source: &Labels,
    horizon: &str,
    quantile: f64,
    model: &str,
    value: f64,
) {
    // An unknown value is absent, not NaN and not 0.
    if !value.is_finite() {
        return;
    }
    let quantile = quantile.to_string();
    let mut labels = pairs(source);
    labels.extend([
        (FORECAST_LABEL, batch.config.name.as_str()),
        (HORIZON_LABEL, horizon),
        (MODEL_LABEL, model),
        (QUANTILE_LABEL, &quantile),
    ]);
    page.sample(name, &labels, value);
}

fn pairs(labels: &Labels) -> Vec<(&str, &str)> {
    labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::built_in;
    use crate::engine::Published;
    use cloudpulse_common::exposition::Format;

    fn batch() -> Batch {
        let mut config = built_in().swap_remove(0);
        config.peak_quantiles = vec![0.99];
        let labels = Labels::from([("instance".to_owned(), "a".to_owned())]);
        let horizons = vec![Published { seconds: 300, quantiles: vec![0.25, f64::NAN], models: vec![("ses", 0.5)] }];
        let issued = vec![Issued { labels, horizons, peaks: vec![(300, vec![0.75])], path: Vec::new() }];
        Batch { config: Arc::new(config), made_at: 1000, issued }
    }

    #[test]
    fn the_page_is_the_contract() {
        let board = Board::default();
        board.put(batch());
        let mut buffer = Vec::new();
        let mut page = Page::new(&mut buffer, Format::Text);
        write(&mut page, &board.fresh(1060.0));
        page.finish();
        let text = String::from_utf8(buffer).unwrap();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "cloudpulse_forecast{instance=\"a\",forecast=\"node-cpu\",horizon=\"5m\",model=\"ensemble\",quantile=\"0.5\"} 0.25",
                "cloudpulse_forecast{instance=\"a\",forecast=\"node-cpu\",horizon=\"5m\",model=\"ses\",quantile=\"0.5\"} 0.5",
                "cloudpulse_forecast_peak{instance=\"a\",forecast=\"node-cpu\",horizon=\"5m\",model=\"ensemble\",quantile=\"0.99\"} 0.75",
                "cloudpulse_forecast_timestamp_seconds{instance=\"a\",forecast=\"node-cpu\"} 1000",
            ]
        );
    }

    #[test]
    fn an_old_forecast_is_never_shown() {
        let board = Board::default();
        let batch = batch();
        let limit = batch.config.max_age() as f64;
        board.put(batch);
        assert_eq!(board.fresh(1000.0 + limit).len(), 1);
        assert_eq!(board.fresh(1001.0 + limit).len(), 0);
    }
}
