//! The latest forecasts in; the metrics page out. What is too old, or gone, is not on it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use cloudpulse_common::exposition::{Kind, Page};
use cloudpulse_common::names::{
    ANOMALY_ALARMS, ANOMALY_SCORE, CAUSE_LABEL, ENSEMBLE, FORECAST, FORECAST_BIAS, FORECAST_BREACHES,
    FORECAST_COVERAGE, FORECAST_DEMOTED, FORECAST_LABEL, FORECAST_PEAK, FORECAST_SKILL, FORECAST_TIMESTAMP,
    HORIZON_LABEL, LEVEL_LABEL, MODEL_LABEL, Metric, OUTLIER_RATIO, PREDICTED_LABEL, QUANTILE_LABEL, RESERVED_LABELS,
};
use cloudpulse_common::query::Labels;
use cloudpulse_forecast::live::{LEVELS, Standing};

use crate::config::{ForecastConfig, duration_label};

/// What is said of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Issued {
    /// Labels of the source, less the metric name, reserved ones renamed to `exported_…`.
    pub labels: Labels,
    /// One entry for each horizon.
    pub horizons: Vec<PublishedHorizon>,
    /// One entry for each peak horizon that is known: seconds ahead and values by peak quantile.
    pub peaks: Vec<(i64, Vec<f64>)>,
    /// The curve: Unix seconds and values by quantile, ascending; straight lines between.
    pub path: Vec<(i64, Vec<f64>)>,
    /// Of the last breaches of the limit, how many no forecast had seen, and how many there were; absent without a limit.
    pub breaches: Option<(usize, usize)>,
    /// How unusual the last value is; absent while too little is known.
    pub anomaly_score: Option<f64>,
    /// Alarms so far by cause.
    pub alarms: Vec<(&'static str, u64)>,
    /// Share of recent values in which the series differs from its group; absent where it is not compared.
    pub outlying_ratio: Option<f64>,
}

/// A forecast for one horizon.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedHorizon {
    /// Seconds ahead.
    pub seconds: i64,
    /// By quantile of the configuration; NaN where too little is known.
    pub quantiles: Vec<f64>,
    /// Model, its point and its skill, finite points only; empty unless models are published.
    pub models: Vec<(&'static str, f64, Option<f64>)>,
    /// What the last day's issued forecasts were worth; absent until enough have resolved.
    pub standing: Option<Standing>,
    /// The baseline that stands in for the combination, where that lost to it.
    pub demoted_to: Option<&'static str>,
    /// What the network counts in the forecast, from 0 to 1; absent where it says nothing.
    pub network_weight: Option<f64>,
}

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

/// Labels that Prometheus gives to each series of a target that lacks them.
const TARGET_LABELS: [&str; 2] = ["instance", "job"];

/// Writes all families of the contract.
pub fn write(page: &mut Page<'_>, batches: &[Arc<Batch>]) {
    family(page, FORECAST, batches, |page, name, batch, issued| {
        for at in &issued.horizons {
            let horizon = duration_label(at.seconds);
            for (quantile, value) in batch.config.quantiles.iter().zip(&at.quantiles) {
                sample(page, name, batch, &issued.labels, &horizon, *quantile, ENSEMBLE, *value);
            }
            for (model, value, _) in &at.models {
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

/// Writes what the issued forecasts were worth.
pub fn write_standing(page: &mut Page<'_>, batches: &[Arc<Batch>]) {
    each_horizon(page, FORECAST_SKILL, batches, |page, name, labels, at, standing| {
        let skills =
            std::iter::once((ENSEMBLE, standing.skill)).chain(at.models.iter().map(|(m, _, skill)| (*m, *skill)));
        for (model, skill) in skills {
            if let Some(skill) = skill {
                labels.push((MODEL_LABEL, model));
                page.sample(name, labels, skill);
                labels.pop();
            }
        }
    });
    each_horizon(page, FORECAST_COVERAGE, batches, |page, name, labels, _, standing| {
        for (level, coverage) in LEVELS.iter().zip(standing.coverage) {
            if let Some(coverage) = coverage {
                let level = level.to_string();
                let mut labels = labels.clone();
                labels.push((LEVEL_LABEL, &level));
                page.sample(name, &labels, coverage);
            }
        }
    });
    each_horizon(page, FORECAST_BIAS, batches, |page, name, labels, _, standing| {
        page.sample(name, labels, standing.bias);
    });
    family(page, FORECAST_DEMOTED, batches, |page, name, batch, issued| {
        for at in &issued.horizons {
            if let Some(baseline) = at.demoted_to {
                let horizon = duration_label(at.seconds);
                let mut labels = pairs(&issued.labels);
                labels.extend([
                    (FORECAST_LABEL, batch.config.name.as_str()),
                    (HORIZON_LABEL, horizon.as_str()),
                    (MODEL_LABEL, baseline),
                ]);
                page.sample(name, &labels, 1.0);
            }
        }
    });
    family(page, FORECAST_BREACHES, batches, |page, name, batch, issued| {
        if let Some((unpredicted, all)) = issued.breaches {
            for (predicted, count) in [("true", all - unpredicted), ("false", unpredicted)] {
                let mut labels = pairs(&issued.labels);
                labels.extend([(FORECAST_LABEL, batch.config.name.as_str()), (PREDICTED_LABEL, predicted)]);
                page.sample(name, &labels, count as f64);
            }
        }
    });
}

/// Writes how unusual the last values are.
pub fn write_anomalies(page: &mut Page<'_>, batches: &[Arc<Batch>]) {
    for (metric, of) in [
        (ANOMALY_SCORE, (|issued: &Issued| issued.anomaly_score) as fn(&Issued) -> Option<f64>),
        (OUTLIER_RATIO, |issued| issued.outlying_ratio),
    ] {
        family(page, metric, batches, |page, name, batch, issued| {
            if let Some(value) = of(issued) {
                let mut labels = pairs(&issued.labels);
                labels.push((FORECAST_LABEL, &batch.config.name));
                page.sample(name, &labels, value);
            }
        });
    }
    page.family(ANOMALY_ALARMS.name, ANOMALY_ALARMS.help, Kind::Counter);
    for batch in batches {
        for issued in &batch.issued {
            for (cause, count) in &issued.alarms {
                let mut labels = pairs(&issued.labels);
                labels.extend([(FORECAST_LABEL, batch.config.name.as_str()), (CAUSE_LABEL, *cause)]);
                page.sample(ANOMALY_ALARMS.name, &labels, *count as f64);
            }
        }
    }
}

/// A family with one entry for each horizon that has a standing.
fn each_horizon<'b>(
    page: &mut Page<'_>,
    metric: Metric,
    batches: &'b [Arc<Batch>],
    write: impl Fn(&mut Page<'_>, &str, &mut Vec<(&'b str, &str)>, &'b PublishedHorizon, &Standing),
) {
    page.family(metric.name, metric.help, Kind::Gauge);
    for batch in batches {
        for issued in &batch.issued {
            for at in &issued.horizons {
                let Some(standing) = &at.standing else { continue };
                let horizon = duration_label(at.seconds);
                let mut labels: Vec<(&'b str, &str)> = pairs(&issued.labels);
                labels.extend([(FORECAST_LABEL, batch.config.name.as_str()), (HORIZON_LABEL, horizon.as_str())]);
                write(page, metric.name, &mut labels, at, standing);
            }
        }
    }
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

/// Renames the labels that the predictor writes itself, as Prometheus does with clashing target labels.
pub(crate) fn published_labels(labels: &Labels) -> Labels {
    labels
        .iter()
        .map(|(name, value)| {
            let mut name = name.clone();
            if RESERVED_LABELS.contains(&name.as_str()) {
                name = format!("exported_{name}");
            }
            (name, value.clone())
        })
        .collect()
}

/// The labels of a series for the page. A series of no job or instance, such as a sum over all, says so with an empty label:
/// else Prometheus would give it the predictor's, even with `honor_labels`, and no query could join it with its source.
fn pairs(labels: &Labels) -> Vec<(&str, &str)> {
    let of_no_target = TARGET_LABELS.into_iter().filter(|name| !labels.contains_key(*name)).map(|name| (name, ""));
    labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(of_no_target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::built_in;
    use cloudpulse_common::exposition::Format;

    fn batch() -> Batch {
        let mut config = built_in().swap_remove(0);
        config.peak_quantiles = vec![0.99];
        let labels = Labels::from([("instance".to_owned(), "a".to_owned()), ("job".to_owned(), "n".to_owned())]);
        let standing = Standing {
            count: 40,
            skill: Some(0.25),
            bias: -0.5,
            coverage: [Some(0.75), None, Some(1.0)],
            models: Vec::new(),
        };
        let horizons = vec![PublishedHorizon {
            seconds: 300,
            quantiles: vec![0.25, f64::NAN],
            models: vec![("ses", 0.5, None), ("holt", 0.5, Some(-1.0))],
            standing: Some(standing),
            demoted_to: Some("persistence"),
            network_weight: Some(0.5),
        }];
        let (peaks, path) = (vec![(300, vec![0.75])], Vec::new());
        let issued = vec![Issued {
            labels,
            horizons,
            peaks,
            path,
            breaches: Some((1, 3)),
            anomaly_score: Some(0.5),
            alarms: vec![("fast", 2)],
            outlying_ratio: None,
        }];
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
                "cloudpulse_forecast{instance=\"a\",job=\"n\",forecast=\"node-cpu\",horizon=\"5m\",model=\"ensemble\",quantile=\"0.5\"} 0.25",
                "cloudpulse_forecast{instance=\"a\",job=\"n\",forecast=\"node-cpu\",horizon=\"5m\",model=\"ses\",quantile=\"0.5\"} 0.5",
                "cloudpulse_forecast{instance=\"a\",job=\"n\",forecast=\"node-cpu\",horizon=\"5m\",model=\"holt\",quantile=\"0.5\"} 0.5",
                "cloudpulse_forecast_peak{instance=\"a\",job=\"n\",forecast=\"node-cpu\",horizon=\"5m\",model=\"ensemble\",quantile=\"0.99\"} 0.75",
                "cloudpulse_forecast_timestamp_seconds{instance=\"a\",job=\"n\",forecast=\"node-cpu\"} 1000",
            ]
        );
    }

    #[test]
    fn what_forecasts_were_worth_is_shown() {
        let mut buffer = Vec::new();
        let mut page = Page::new(&mut buffer, Format::Text);
        write_standing(&mut page, &[Arc::new(batch())]);
        page.finish();
        let text = String::from_utf8(buffer).unwrap();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let labels = "instance=\"a\",job=\"n\",forecast=\"node-cpu\"";
        assert_eq!(
            samples,
            [
                format!("cloudpulse_forecast_skill_ratio{{{labels},horizon=\"5m\",model=\"ensemble\"}} 0.25"),
                format!("cloudpulse_forecast_skill_ratio{{{labels},horizon=\"5m\",model=\"holt\"}} -1"),
                format!("cloudpulse_forecast_coverage_ratio{{{labels},horizon=\"5m\",level=\"0.8\"}} 0.75"),
                format!("cloudpulse_forecast_coverage_ratio{{{labels},horizon=\"5m\",level=\"0.95\"}} 1"),
                format!("cloudpulse_forecast_bias{{{labels},horizon=\"5m\"}} -0.5"),
                format!("cloudpulse_forecast_demoted{{{labels},horizon=\"5m\",model=\"persistence\"}} 1"),
                format!("cloudpulse_forecast_breaches{{{labels},predicted=\"true\"}} 2"),
                format!("cloudpulse_forecast_breaches{{{labels},predicted=\"false\"}} 1"),
            ]
        );
    }

    #[test]
    fn anomalies_are_shown() {
        let mut buffer = Vec::new();
        let mut page = Page::new(&mut buffer, Format::Text);
        write_anomalies(&mut page, &[Arc::new(batch())]);
        page.finish();
        let text = String::from_utf8(buffer).unwrap();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let labels = "instance=\"a\",job=\"n\",forecast=\"node-cpu\"";
        let alarms = format!("cloudpulse_anomaly_alarms_total{{{labels},cause=\"fast\"}} 2");
        assert_eq!(samples, [format!("cloudpulse_anomaly_score{{{labels}}} 0.5"), alarms]);
    }

    #[test]
    fn a_series_of_no_target_does_not_become_the_predictors() {
        let labels = Labels::from([("job".to_owned(), "n".to_owned())]);
        assert_eq!(pairs(&labels), [("job", "n"), ("instance", "")]);
        assert_eq!(pairs(&Labels::new()), [("instance", ""), ("job", "")]);
    }

    #[test]
    fn reserved_labels_are_renamed() {
        let labels = Labels::from([("model".to_owned(), "x".to_owned()), ("job".to_owned(), "n".to_owned())]);
        let published = published_labels(&labels);
        assert_eq!(published.get("exported_model").map(String::as_str), Some("x"));
        assert_eq!(published.get("job").map(String::as_str), Some("n"));
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
