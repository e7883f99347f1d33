//! One forecast's series over time: what was fetched in; what is published out.
//!
//! Holds what was learnt of each series between cycles. Reads no clock and no network.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cloudpulse_common::query::{Labels, Series as Fetched};
use cloudpulse_forecast::anomaly::outlier;
use cloudpulse_forecast::ensemble::Ensemble;
use rayon::prelude::*;

use crate::config::ForecastConfig;
use crate::publish::Issued;
use crate::tracked::Tracked;

/// A series that is silent for this many steps has vanished: one step may be late, two are not.
const VANISHED_STEPS: i64 = 2;
/// A vanished series is remembered this long, in case it comes back.
const REMEMBERED_SECONDS: i64 = 3600;

/// The state of one forecast.
#[derive(Debug)]
pub struct Engine {
    config: Arc<ForecastConfig>,
    ensemble: Ensemble,
    tracked: BTreeMap<Labels, Tracked>,
}

/// What a merge found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merged {
    /// Series that were not known before and have no history yet.
    pub new: usize,
    /// Series beyond the cap.
    pub dropped: usize,
}

/// What a cycle made.
#[derive(Debug, Default)]
pub struct Made {
    /// One for each series that is there.
    pub issued: Vec<Issued>,
    /// Fits that were due but not allowed any more; they stay due.
    pub skipped_fits: usize,
    /// Published labels and horizon in seconds of the forecasts for which a baseline stands in.
    pub demoted: BTreeSet<(Labels, i64)>,
}

impl Engine {
    /// Returns an engine that knows no series.
    pub fn new(config: Arc<ForecastConfig>, ensemble: Ensemble) -> Self {
        Self { config, ensemble, tracked: BTreeMap::new() }
    }

    /// Returns whether no series has a history: a restored one waits for its own.
    pub fn is_empty(&self) -> bool {
        !self.tracked.values().any(Tracked::has_history)
    }

    /// Returns the number of series.
    pub fn len(&self) -> usize {
        self.tracked.len()
    }

    /// Takes a saved series. Returns whether it fits; otherwise the series starts anew with its history.
    pub fn restore(&mut self, labels: Labels, saved: &[u8]) -> bool {
        match Tracked::restore(&self.config, &self.ensemble, &labels, saved) {
            Some(tracked) => {
                self.tracked.insert(labels, tracked);
                true
            }
            None => false,
        }
    }

    /// Returns every series as [`Engine::restore`] takes it.
    pub fn save(&self) -> Vec<(Labels, Vec<u8>)> {
        self.tracked.par_iter().map(|(labels, tracked)| (labels.clone(), tracked.save())).collect()
    }

    /// Returns the bytes that all series take.
    pub fn bytes(&self) -> usize {
        let labels = |labels: &Labels| labels.iter().map(|(name, value)| name.len() + value.len() + 48).sum::<usize>();
        self.tracked.iter().map(|(names, tracked)| labels(names) + tracked.bytes()).sum()
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

    /// Takes fetched samples; `end` is the last evaluated time. Unknown series are taken up to the cap. Series silent for
    /// an hour are forgotten.
    pub fn merge(&mut self, fetched: Vec<Fetched>, end: i64) -> Merged {
        let (kept, dropped) = self.keep(fetched.iter().map(|series| series.labels.clone()));
        let (config, ensemble) = (&*self.config, &self.ensemble);
        let fetched: BTreeMap<Labels, _> = fetched
            .into_iter()
            .map(|series| (without_name(series.labels), series.samples))
            .filter(|(labels, _)| kept.contains(labels))
            .collect();
        self.tracked.par_iter_mut().for_each(|(labels, tracked)| {
            let Some(samples) = fetched.get(labels) else { return };
            // A first sample before the start means that older history arrived: start again with it.
            if tracked.has_history() && tracked.is_older(samples, config.step) {
                *tracked = Tracked::new(config, ensemble, end);
            }
            tracked.push(config, samples);
        });
        // A series without any finite value has no forecast yet.
        let new: Vec<(Labels, Tracked)> = fetched
            .par_iter()
            .filter(|(labels, samples)| {
                !self.tracked.contains_key(*labels) && samples.iter().any(|sample| sample.value.is_finite())
            })
            .map(|(labels, samples)| {
                let mut tracked = Tracked::new(config, ensemble, end);
                tracked.push(config, samples);
                (labels.clone(), tracked)
            })
            .collect();
        let merged = Merged { new: new.len(), dropped };
        self.tracked.extend(new);
        let step = self.config.step;
        self.tracked.retain(|_, tracked| {
            // A restored series waits for its history.
            !tracked.has_history() || tracked.last_known(step).is_some_and(|at| end - at <= REMEMBERED_SECONDS)
        });
        merged
    }

    /// Makes the fits that are due, as far as `may` allows for the model of that name, and forecasts every series that is
    /// there at `end`, on all cores of the current rayon pool. A vanished series, and one whose last samples are missing,
    /// is not among them.
    pub fn cycle(&mut self, end: i64, may: impl Fn(&'static str) -> bool + Sync) -> Made {
        let (config, ensemble) = (&self.config, &self.ensemble);
        let skipped = AtomicUsize::new(0);
        let (mut issued, members): (Vec<Issued>, Vec<Option<Member>>) = self
            .tracked
            .par_iter_mut()
            .filter_map(|(labels, tracked)| {
                let late = (end - tracked.last_known(config.step)?) / config.step;
                if late >= VANISHED_STEPS {
                    return None;
                }
                tracked.go_live(labels);
                skipped.fetch_add(tracked.refit(&may), Ordering::Relaxed);
                let member = config.outliers.as_ref().map(|outliers| Member {
                    group: outliers.by.iter().map(|name| labels.get(name).cloned()).collect(),
                    window: tracked.window(end / config.step, outliers.window),
                });
                Some((tracked.issue(config, ensemble, labels)?, member))
            })
            .unzip();
        if let Some(outliers) = &config.outliers {
            compare(&outliers.options, &members, &mut issued);
        }
        let demoted = issued
            .iter()
            .flat_map(|series| {
                let losing = series.horizons.iter().filter(|at| at.demoted_to.is_some());
                losing.map(|at| (series.labels.clone(), at.seconds))
            })
            .collect();
        Made { issued, skipped_fits: skipped.into_inner(), demoted }
    }

    /// Makes all fits of all series due.
    pub fn make_due(&mut self) {
        self.tracked.values_mut().for_each(Tracked::make_due);
    }
}

/// A series among those that it is compared with.
struct Member {
    group: Vec<Option<String>>,
    window: Vec<f64>,
}

/// Compares the series of each group with each other; too few are not compared.
fn compare(options: &outlier::Options, members: &[Option<Member>], issued: &mut [Issued]) {
    let mut groups: BTreeMap<&[Option<String>], Vec<(usize, &Member)>> = BTreeMap::new();
    for (place, member) in members.iter().enumerate() {
        if let Some(member) = member {
            groups.entry(&member.group).or_default().push((place, member));
        }
    }
    for group in groups.into_values() {
        let windows: Vec<&[f64]> = group.iter().map(|(_, member)| member.window.as_slice()).collect();
        let Ok(found) = outlier::outliers(&windows, options) else { continue };
        for ((place, _), outlier) in group.into_iter().zip(found) {
            issued[place].outlying_ratio = outlier.outlying_ratio;
        }
    }
}

fn without_name(mut labels: Labels) -> Labels {
    labels.remove("__name__");
    labels
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
        Engine::new(Arc::new(config), Ensemble::default())
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
        let issued = engine.cycle(END, |_| true).issued;
        assert_eq!(names(&issued), ["a"]);
        assert_eq!(issued[0].horizons.len(), 3);
        for quantile in &issued[0].horizons[0].quantiles {
            assert!((quantile - 0.5).abs() < 1e-6);
        }
        engine.merge(vec![fetched("b", END + 60, &[0.25])], END + 60);
        assert_eq!(names(&engine.cycle(END + 60, |_| true).issued), ["a", "b"], "it came back, and a is one step late");
        assert_eq!(names(&engine.cycle(END + 120, |_| true).issued), ["b"]);
    }

    #[test]
    fn nan_at_the_end_is_not_a_forecast_of_old_values() {
        let mut engine = engine(10);
        let mut values = vec![0.5; 100];
        values[97..].fill(f64::NAN);
        engine.merge(vec![fetched("a", END - 60 * 99, &values)], END);
        assert!(engine.cycle(END, |_| true).issued.is_empty());
    }

    #[test]
    fn the_odd_one_of_a_group_is_found() {
        let mut config = built_in().swap_remove(0);
        let options = outlier::Options::default();
        config.outliers = Some(crate::config::Outliers { by: vec!["__none__".to_owned()], window: 30, options });
        let mut engine = Engine::new(Arc::new(config), Ensemble::default());
        let wave = |shift: f64| (0..100).map(|i| shift + (f64::from(i) / 9.0).sin()).collect::<Vec<f64>>();
        let series = ["a", "b", "c", "d", "odd"]
            .map(|name| fetched(name, END - 60 * 99, &wave(if name == "odd" { 90.0 } else { 10.0 })));
        engine.merge(series.into(), END);
        let ratios: Vec<Option<f64>> = engine.cycle(END, |_| true).issued.iter().map(|i| i.outlying_ratio).collect();
        assert_eq!(ratios, [Some(0.0), Some(0.0), Some(0.0), Some(0.0), Some(1.0)]);
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
        assert_eq!(names(&engine.cycle(END + 60, |_| true).issued), ["m", "z"]);
    }

    #[test]
    fn empty_and_single_sample_series_are_survived() {
        let mut engine = engine(10);
        engine.merge(
            vec![fetched("empty", END, &[]), fetched("nan", END, &[f64::NAN]), fetched("one", END, &[0.3])],
            END,
        );
        let issued = engine.cycle(END, |_| true).issued;
        assert_eq!(names(&issued), ["one"]);
        assert_eq!(issued[0].horizons[0].quantiles[0], 0.3, "the median of one value is that value");
        assert!(issued[0].horizons[0].quantiles[1].is_nan(), "one value has no honest 0.9 quantile");
        assert!(issued[0].peaks.is_empty());
    }
}
