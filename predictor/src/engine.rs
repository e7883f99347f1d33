//! One forecast's series over time: what was fetched in; what is published out.
//!
//! Holds the histories and the peak models between cycles. Reads no clock and no network.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cloudpulse_common::names::RESERVED_LABELS;
use cloudpulse_common::query::{Labels, Series as Fetched};
use cloudpulse_forecast::ensemble::{AtHorizon, Ensemble, Request};
use cloudpulse_forecast::model::History;
use cloudpulse_forecast::peak::PeakModel;
use cloudpulse_forecast::series::Series;
use rayon::prelude::*;

use crate::config::ForecastConfig;

/// A series that is silent for this many steps has vanished: one step may be late, two are not.
const VANISHED_STEPS: i64 = 2;
/// A vanished series is remembered this long, in case it comes back.
const REMEMBERED_SECONDS: i64 = 3600;
/// Points of the published curve between which it is interpolated.
const PATH_KNOTS: i64 = 12;

/// The state of one forecast.
#[derive(Debug)]
pub struct Engine {
    config: Arc<ForecastConfig>,
    ensemble: Arc<Ensemble>,
    tracked: BTreeMap<Labels, Tracked>,
}

#[derive(Debug)]
struct Tracked {
    series: Series,
    peaks: Vec<PeakModel>,
}

/// What is said of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Issued {
    /// Labels of the source, less the metric name, reserved ones renamed to `exported_…`.
    pub labels: Labels,
    /// One entry for each horizon: seconds ahead, values by quantile, and each model's point where models are published.
    pub horizons: Vec<Published>,
    /// One entry for each peak horizon that is known: seconds ahead and values by peak quantile.
    pub peaks: Vec<(i64, Vec<f64>)>,
    /// The curve: Unix seconds and values by quantile, ascending; straight lines between.
    pub path: Vec<(i64, Vec<f64>)>,
}

/// A forecast for one horizon.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Seconds ahead.
    pub seconds: i64,
    /// By quantile of the configuration; NaN where too little is known.
    pub quantiles: Vec<f64>,
    /// Model and its point, finite ones only; empty unless models are published.
    pub models: Vec<(&'static str, f64)>,
}

/// What a merge found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merged {
    /// Series that were not known before and have no history yet.
    pub new: usize,
    /// Series beyond the cap.
    pub dropped: usize,
}

impl Engine {
    /// Returns an engine that knows no series.
    pub fn new(config: Arc<ForecastConfig>, ensemble: Arc<Ensemble>) -> Self {
        Self { config, ensemble, tracked: BTreeMap::new() }
    }

    /// Returns whether any series is known.
    pub fn is_empty(&self) -> bool {
        self.tracked.is_empty()
    }

    /// Returns which of the series that a query returned are forecast: those known before, then by label order, up to
    /// the cap; and how many are left out.
    pub fn keep(&self, returned: impl IntoIterator<Item = Labels>) -> (BTreeSet<Labels>, usize) {
        let all: BTreeSet<Labels> = returned.into_iter().map(without_name).collect();
        let total = all.len();
        let (known, new): (Vec<Labels>, Vec<Labels>) =
            all.into_iter().partition(|labels| self.tracked.contains_key(labels));
        let kept: BTreeSet<Labels> = known.into_iter().chain(new).take(self.config.max_series).collect();
        let dropped = total - kept.len();
        (kept, dropped)
    }

    /// Takes fetched samples; `end` is the last evaluated time. Unknown series are taken up to the cap. Values older than
    /// the history, and series silent for an hour, are forgotten.
    pub fn merge(&mut self, fetched: Vec<Fetched>, end: i64) -> Merged {
        let (kept, dropped) = self.keep(fetched.iter().map(|series| series.labels.clone()));
        let mut merged = Merged { new: 0, dropped };
        let keep = (self.config.history / self.config.step).max(2) as usize;
        for series in fetched {
            let labels = without_name(series.labels);
            if !kept.contains(&labels) {
                continue;
            }
            let samples: Vec<(f64, f64)> = series.samples.iter().map(|s| (s.timestamp, s.value)).collect();
            match self.tracked.get_mut(&labels) {
                Some(tracked) => {
                    // A first sample before the start means that older history arrived: start again with it.
                    let older = samples.first().is_some_and(|(time, _)| (*time as i64) < tracked.series.start());
                    match Series::from_samples(&samples, self.config.step) {
                        Ok(series) if older => *tracked = self.config.track(series),
                        _ => {
                            tracked.series.extend(&samples);
                        }
                    }
                    tracked.series.trim(keep);
                }
                None => {
                    // A series without any finite value has no forecast yet.
                    if let Ok(mut series) = Series::from_samples(&samples, self.config.step) {
                        series.trim(keep);
                        self.tracked.insert(labels, self.config.track(series));
                        merged.new += 1;
                    }
                }
            }
        }
        self.tracked.retain(|_, tracked| {
            tracked.series.last_known().is_some_and(|at| end - tracked.series.time(at) <= REMEMBERED_SECONDS)
        });
        merged
    }

    /// Forecasts every series that is there at `end`, on all cores of the current rayon pool. A vanished series, and one
    /// whose last samples are missing, is not among them.
    pub fn forecast(&mut self, end: i64) -> Vec<Issued> {
        let (config, ensemble) = (&self.config, &self.ensemble);
        self.tracked
            .par_iter_mut()
            .filter_map(|(labels, tracked)| {
                let origin = tracked.series.last_known()?;
                let late = (end - tracked.series.time(origin)) / config.step;
                (late < VANISHED_STEPS).then(|| issue(config, ensemble, labels, tracked, origin))
            })
            .collect()
    }
}

impl ForecastConfig {
    fn track(&self, series: Series) -> Tracked {
        let peaks = self.peak_horizons.iter().map(|h| PeakModel::new(self.step, (h / self.step) as usize)).collect();
        Tracked { series, peaks }
    }
}

fn issue(
    config: &ForecastConfig,
    ensemble: &Ensemble,
    labels: &Labels,
    tracked: &mut Tracked,
    origin: usize,
) -> Issued {
    let series = &tracked.series;
    let step = config.step;
    let steps = horizon_steps(config);
    let request = Request { horizons: &steps, quantiles: &config.quantiles, bounds: config.bounds, model: None };
    let entries = ensemble.forecast(series, &[origin], &request).swap_remove(0).horizons;
    let entry = |seconds: i64| entries.iter().find(|entry| entry.horizon as i64 * step == seconds);
    let horizons = config
        .horizons
        .iter()
        .filter_map(|seconds| Some(published(*seconds, entry(*seconds)?, config, ensemble.names())))
        .collect();
    let at = series.time(origin);
    let now = series.values()[origin];
    let mut path = vec![(at, vec![now; config.quantiles.len()])];
    path.extend(entries.iter().map(|entry| (at + entry.horizon as i64 * step, entry.quantiles.clone())));
    let history = History::new(series);
    let peaks = config
        .peak_horizons
        .iter()
        .zip(&mut tracked.peaks)
        .filter_map(|(seconds, model)| {
            model.advance(&history, origin);
            let distribution = model.distribution(&history, origin)?;
            let value = |quantile: &f64| config.bounds.clip(distribution.quantile(*quantile));
            Some((*seconds, config.peak_quantiles.iter().map(value).collect()))
        })
        .collect();
    Issued { labels: published_labels(labels), horizons, peaks, path }
}

fn published(seconds: i64, entry: &AtHorizon, config: &ForecastConfig, names: &[&'static str]) -> Published {
    let models = if config.publish_models {
        names.iter().copied().zip(entry.models.iter().copied()).filter(|(_, value)| value.is_finite()).collect()
    } else {
        Vec::new()
    };
    Published { seconds, quantiles: entry.quantiles.clone(), models }
}

/// Published horizons and the knots of the curve, in steps, ascending. The curve reaches past the longest horizon by one
/// cycle, so that it still covers it just before the next one.
fn horizon_steps(config: &ForecastConfig) -> Vec<usize> {
    let longest = config.horizons.last().copied().unwrap_or(config.step);
    let reach = (longest + config.interval + config.step) / config.step + 1;
    let published = config.horizons.iter().map(|seconds| seconds / config.step);
    let knots = (1..=PATH_KNOTS).map(|knot| (reach * knot + PATH_KNOTS - 1) / PATH_KNOTS);
    let all: BTreeSet<usize> = published.chain(knots).chain([1]).map(|steps| steps.max(1) as usize).collect();
    all.into_iter().collect()
}

fn without_name(mut labels: Labels) -> Labels {
    labels.remove("__name__");
    labels
}

/// Renames the labels that the predictor writes itself, as Prometheus does with clashing target labels.
fn published_labels(labels: &Labels) -> Labels {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::built_in;
    use cloudpulse_common::query::Sample;

    const END: i64 = 1_700_000_040;

    fn engine(max_series: usize) -> Engine {
        let mut config = built_in().swap_remove(0);
        config.max_series = max_series;
        Engine::new(Arc::new(config), Arc::new(Ensemble::default()))
    }

    fn fetched(name: &str, first: i64, values: &[f64]) -> Fetched {
        let labels = Labels::from([("__name__".to_owned(), "m".to_owned()), ("instance".to_owned(), name.to_owned())]);
        let sample = |(i, value): (usize, &f64)| Sample { timestamp: (first + 60 * i as i64) as f64, value: *value };
        Fetched { labels, samples: values.iter().enumerate().map(sample).collect() }
    }

    fn names(issued: &[Issued]) -> Vec<&str> {
        issued.iter().map(|i| i.labels["instance"].as_str()).collect()
    }

    #[test]
    fn a_vanished_series_is_not_issued() {
        let mut engine = engine(10);
        let first = END - 60 * 99;
        engine.merge(vec![fetched("a", first, &[0.5; 100]), fetched("b", first, &[0.25; 98])], END);
        let issued = engine.forecast(END);
        assert_eq!(names(&issued), ["a"]);
        assert_eq!(issued[0].horizons.len(), 3);
        for quantile in &issued[0].horizons[0].quantiles {
            assert!((quantile - 0.5).abs() < 1e-6);
        }
        engine.merge(vec![fetched("b", END + 60, &[0.25])], END + 60);
        assert_eq!(names(&engine.forecast(END + 60)), ["a", "b"], "it came back, and a is one step late");
        assert_eq!(names(&engine.forecast(END + 120)), ["b"]);
    }

    #[test]
    fn nan_at_the_end_is_not_a_forecast_of_old_values() {
        let mut engine = engine(10);
        let mut values = vec![0.5; 100];
        values[97..].fill(f64::NAN);
        engine.merge(vec![fetched("a", END - 60 * 99, &values)], END);
        assert!(engine.forecast(END).is_empty());
    }

    #[test]
    fn known_series_keep_their_place_under_the_cap() {
        let mut engine = engine(2);
        assert_eq!(engine.merge(vec![fetched("m", END, &[1.0]), fetched("z", END, &[1.0])], END).dropped, 0);
        let merged = engine.merge(
            vec![fetched("a", END + 60, &[1.0]), fetched("m", END + 60, &[1.0]), fetched("z", END + 60, &[1.0])],
            END + 60,
        );
        assert_eq!(merged, Merged { new: 0, dropped: 1 });
        assert_eq!(names(&engine.forecast(END + 60)), ["m", "z"]);
    }

    #[test]
    fn empty_and_single_sample_series_are_survived() {
        let mut engine = engine(10);
        engine.merge(
            vec![fetched("empty", END, &[]), fetched("nan", END, &[f64::NAN]), fetched("one", END, &[0.3])],
            END,
        );
        let issued = engine.forecast(END);
        assert_eq!(names(&issued), ["one"]);
        assert_eq!(issued[0].horizons[0].quantiles[0], 0.3, "the median of one value is that value");
        assert!(issued[0].horizons[0].quantiles[1].is_nan(), "one value has no honest 0.9 quantile");
        assert!(issued[0].peaks.is_empty());
    }

    #[test]
    fn reserved_labels_are_renamed() {
        let labels = Labels::from([("model".to_owned(), "x".to_owned()), ("job".to_owned(), "n".to_owned())]);
        let published = published_labels(&labels);
        assert_eq!(published.get("exported_model").map(String::as_str), Some("x"));
        assert_eq!(published.get("job").map(String::as_str), Some("n"));
    }

    #[test]
    fn the_curve_covers_the_longest_horizon_until_the_next_cycle() {
        let config = built_in().swap_remove(0);
        let steps = horizon_steps(&config);
        assert!(*steps.last().unwrap() as i64 * 60 >= 900 + config.interval + 60);
        assert!(steps.contains(&5) && steps.contains(&10) && steps.contains(&15) && steps.contains(&1));
    }
}
