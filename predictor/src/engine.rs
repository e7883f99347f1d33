//! One forecast's series over time: what was fetched in; what is published out.
//!
//! Holds what was learnt of each series between cycles. Reads no clock and no network.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cloudpulse_common::query::{Labels, Series as Fetched};
use cloudpulse_forecast::anomaly::outlier;
use cloudpulse_forecast::ensemble::Ensemble;
use cloudpulse_forecast::known::Known;
use cloudpulse_lstm::tuning::Past;
use rayon::prelude::*;

use crate::config::ForecastConfig;
use crate::publish::Issued;
use crate::shard::Shard;
use crate::state::Entry;
use crate::tracked::{Tracked, stable_hash};

/// A series that is silent for this many steps has vanished: one step may be late, two are not.
const VANISHED_STEPS: i64 = 2;
/// A vanished series is remembered this long, in case it comes back.
const REMEMBERED_SECONDS: i64 = 3600;

/// The state of one forecast.
#[derive(Debug)]
pub struct Engine {
    config: Arc<ForecastConfig>,
    ensemble: Ensemble,
    /// What is known beforehand, for all series.
    known: Arc<Known>,
    tracked: BTreeMap<Labels, Tracked>,
    shard: Shard,
    /// Time of the first cycle in which restored series still waited for their histories.
    waiting_since: Option<i64>,
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
    /// What the network counts, mean over series and horizons; absent where it says nothing.
    pub network_weight: Option<f64>,
}

impl Engine {
    /// Returns an engine that knows no series; those of other shards are never taken.
    pub fn new(config: Arc<ForecastConfig>, ensemble: Ensemble, shard: Shard) -> Self {
        let known = Arc::clone(&config.known);
        Self { config, ensemble, known, tracked: BTreeMap::new(), shard, waiting_since: None }
    }

    /// Takes what is known beforehand from now on, in place of the holidays of the configuration alone.
    pub fn know(&mut self, known: &Arc<Known>) {
        if !Arc::ptr_eq(known, &self.known) {
            self.known = Arc::clone(known);
            self.tracked.values_mut().for_each(|tracked| tracked.know(known));
        }
    }

    /// Returns whether no series has a history: a restored one waits for its own.
    pub fn is_empty(&self) -> bool {
        !self.tracked.values().any(Tracked::has_history)
    }

    /// Returns the number of series.
    pub fn len(&self) -> usize {
        self.tracked.len()
    }

    /// Takes saved series, up to the cap. Returns how many fit; the others start anew with their histories. Those that
    /// the source does not return any more go with the first history that is read.
    pub fn restore(&mut self, saved: Vec<Entry>) -> usize {
        let Self { config, ensemble, known, shard, .. } = self;
        let restored: BTreeMap<Labels, Tracked> = saved
            .into_par_iter()
            .filter(|(labels, _)| shard.owns(labels))
            .filter_map(|(labels, bytes)| {
                let tracked = Tracked::restore(config, ensemble, known, &labels, &bytes)?;
                Some((labels, tracked))
            })
            .collect();
        self.tracked.extend(restored.into_iter().take(self.config.max_series));
        self.tracked.len()
    }

    /// Returns the next `count` series after the one of these labels, as [`Engine::restore`] takes them; only those that
    /// were forecast at least once. Empty at the end.
    pub fn save(&self, after: Option<&Labels>, count: usize) -> Vec<Entry> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.tracked.range::<Labels, _>((start, Bound::Unbounded));
        let live: Vec<_> = next.filter(|(_, tracked)| tracked.is_live()).take(count).collect();
        live.into_par_iter().map(|(labels, tracked)| (labels.clone(), tracked.save())).collect()
    }

    /// Returns the last time that any series learnt from, Unix seconds; `None` where none has been forecast yet.
    pub fn learned_to(&self) -> Option<i64> {
        self.tracked
            .values()
            .filter(|tracked| tracked.is_live())
            .filter_map(|tracked| tracked.seen(self.config.step))
            .max()
    }

    /// Returns the bytes that all series take.
    pub fn bytes(&self) -> usize {
        let labels = |labels: &Labels| labels.iter().map(|(name, value)| name.len() + value.len() + 48).sum::<usize>();
        self.tracked.iter().map(|(names, tracked)| labels(names) + tracked.bytes()).sum()
    }

    /// Returns which of the series that a query returned are forecast: of those of this shard the ones known before, then
    /// by label order, up to the cap; and how many are left out because of the cap.
    pub fn keep(&self, returned: impl IntoIterator<Item = Labels>) -> (BTreeSet<Labels>, usize) {
        let all: BTreeSet<Labels> =
            returned.into_iter().map(without_name).filter(|labels| self.shard.owns(labels)).collect();
        let total = all.len();
        let (known, new): (Vec<Labels>, Vec<Labels>) =
            all.into_iter().partition(|labels| self.tracked.contains_key(labels));
        let kept: BTreeSet<Labels> = known.into_iter().chain(new).take(self.config.max_series).collect();
        let dropped = total - kept.len();
        (kept, dropped)
    }

    /// Takes fetched samples; `end` is the time up to which samples are fetched in all, in this piece or a later one.
    /// Unknown series are taken up to the cap.
    pub fn merge(&mut self, fetched: Vec<Fetched>, end: i64) -> Merged {
        let (kept, dropped) = self.keep(fetched.iter().map(|series| series.labels.clone()));
        let (config, ensemble, known) = (&*self.config, &self.ensemble, &self.known);
        let fetched: BTreeMap<Labels, _> = fetched
            .into_iter()
            .map(|series| (without_name(series.labels), series.samples))
            .filter(|(labels, _)| kept.contains(labels))
            .collect();
        self.tracked.par_iter_mut().for_each(|(labels, tracked)| {
            let Some(samples) = fetched.get(labels) else { return };
            // A first sample before the start means that older history arrived: start again with it.
            if tracked.has_history() && tracked.is_older(samples, config.step) {
                *tracked = Tracked::new(config, ensemble, known, end);
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
                let mut tracked = Tracked::new(config, ensemble, known, end);
                tracked.push(config, samples);
                (labels.clone(), tracked)
            })
            .collect();
        let merged = Merged { new: new.len(), dropped };
        self.tracked.extend(new);
        merged
    }

    /// Forgets series that are silent for an hour, and restored ones without a history: at once where others have theirs,
    /// after an hour where the source returns nothing at all.
    fn forget(&mut self, end: i64) {
        let waiting = if self.is_empty() { end - *self.waiting_since.get_or_insert(end) } else { i64::MAX };
        let step = self.config.step;
        self.tracked.retain(|_, tracked| {
            let silent =
                if tracked.has_history() { tracked.last_known(step).map(|at| end - at) } else { Some(waiting) };
            silent.is_some_and(|seconds| seconds <= REMEMBERED_SECONDS)
        });
    }

    /// Makes the fits that are due, as far as `may` allows for the model of that name, and forecasts every series that is
    /// there at `end`, on all cores of the current rayon pool. A vanished series, and one whose last samples are missing,
    /// is not among them. Everything up to `end` must have been merged: series silent for an hour are forgotten.
    pub fn cycle(&mut self, end: i64, may: impl Fn(&'static str) -> bool + Sync) -> Made {
        self.forget(end);
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
        let weights: Vec<f64> =
            issued.iter().flat_map(|series| &series.horizons).filter_map(|at| at.network_weight).collect();
        let network_weight = (!weights.is_empty()).then(|| weights.iter().sum::<f64>() / weights.len() as f64);
        Made { issued, skipped_fits: skipped.into_inner(), demoted, network_weight }
    }

    /// Returns the pasts of up to `count` series, which ones by `seed`.
    pub fn pasts(&self, count: usize, seed: u64) -> Vec<Past> {
        let mut chosen: Vec<(u64, &Tracked)> = self
            .tracked
            .iter()
            .filter(|(_, tracked)| tracked.is_live())
            .map(|(labels, tracked)| ((stable_hash(labels) ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15), tracked))
            .collect();
        chosen.sort_unstable_by_key(|(order, _)| *order);
        chosen.into_iter().take(count).filter_map(|(_, tracked)| tracked.past()).collect()
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
        Engine::new(Arc::new(config), Ensemble::default(), Shard::WHOLE)
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
        let mut engine = Engine::new(Arc::new(config), Ensemble::default(), Shard::WHOLE);
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

    #[test]
    fn a_history_read_in_pieces_is_kept_whole() {
        let mut engine = engine(10);
        let old = END - 3 * 86_400;
        let first = fetched("a", old, &[0.5; 100]);
        engine.merge(vec![first.clone()], END);
        engine.merge(vec![fetched("a", END - 60 * 99, &[0.5; 100])], END);
        let tracked = engine.tracked.values().next().unwrap();
        assert!(!tracked.is_older(&first.samples, 60), "the first piece is still in it");
    }

    #[test]
    fn a_restored_series_goes_on_once_its_history_is_there() {
        let mut before = engine(10);
        let wave: Vec<f64> = (0..600).map(|i| 0.5 + 0.3 * (f64::from(i) / 20.0).sin()).collect();
        let first = END - 60 * 599;
        before.merge(vec![fetched("a", first, &wave), fetched("gone", first, &wave)], END);
        assert!(before.save(None, 10).is_empty(), "what was never forecast has nothing worth keeping");
        before.cycle(END, |_| true);
        let saved = before.save(None, 10);
        assert_eq!(before.save(Some(&saved[0].0), 10), saved[1..]);
        assert!(before.save(Some(&saved[1].0), 10).is_empty());
        assert_eq!((saved.len(), before.learned_to()), (2, Some(END)));

        let mut after = engine(10);
        assert_eq!(after.restore(saved.clone()), 2);
        assert!(after.is_empty() && after.cycle(END, |_| true).issued.is_empty(), "it waits for its history");
        assert_eq!(after.len(), 2, "the source may come back");
        // The history comes in two pieces; the series that is gone is in neither.
        after.merge(vec![fetched("a", first, &wave[..300])], END);
        after.merge(vec![fetched("a", first + 60 * 300, &wave[300..])], END);
        let issued = after.cycle(END, |_| true).issued;
        assert_eq!((names(&issued), after.len()), (vec!["a"], 1));
        assert_eq!(issued[0].horizons, before.cycle(END, |_| true).issued[0].horizons);

        let mut nobody = engine(10);
        nobody.restore(saved);
        nobody.cycle(END, |_| true);
        nobody.cycle(END + REMEMBERED_SECONDS + 60, |_| true);
        assert_eq!(nobody.len(), 0, "what never comes back is not kept for ever");
    }

    #[test]
    fn a_state_that_is_no_series_of_this_configuration_is_not_taken() {
        let mut engine = engine(10);
        let labels = |name: &str| Labels::from([("instance".to_owned(), name.to_owned())]);
        assert_eq!(engine.restore(vec![(labels("a"), Vec::new()), (labels("b"), vec![7; 500])]), 0);
    }

    #[test]
    fn shards_take_each_series_once() {
        let all: Vec<Fetched> = (0..60).map(|i| fetched(&format!("node-{i}"), END, &[1.0])).collect();
        let mut taken = Vec::new();
        for index in 0..3 {
            let config = Arc::new(built_in().swap_remove(0));
            let mut engine = Engine::new(config, Ensemble::default(), Shard::new(index, 3).unwrap());
            assert_eq!(engine.merge(all.clone(), END).dropped, 0, "another shard's series are not left out");
            taken.extend(engine.tracked.into_keys());
        }
        taken.sort();
        let expected: BTreeSet<Labels> = all.into_iter().map(|series| without_name(series.labels)).collect();
        assert_eq!(taken, expected.into_iter().collect::<Vec<_>>());
    }
}
