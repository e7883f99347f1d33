//! One source series while the predictor serves: samples in; what is published of it out. Reads no clock and no network.

use std::hash::Hasher as _;
use std::sync::Arc;

use cloudpulse_common::query::{Labels, Sample};
use cloudpulse_forecast::anomaly::{Cause, Detector};
use cloudpulse_forecast::ensemble::{AtHorizon, Ensemble};
use cloudpulse_forecast::known::Known;
use cloudpulse_forecast::live::{Breaches, INTERVAL_QUANTILES, Scoreboard, Standing};
use cloudpulse_forecast::series::Series;
use cloudpulse_forecast::tracker::{Schedule, Spec, Tracker};
use cloudpulse_lstm::tuning::Past;
use serde::{Deserialize, Serialize};

use crate::config::ForecastConfig;
use crate::publish::{Issued, PublishedHorizon, published_labels};

/// A first history is learnt from over this time only; older values are what seasons look back at.
const LEARN_SECONDS: i64 = 4 * 86_400;
/// And its forecasts are scored over this time: what ranking and calibration remember.
const SCORE_SECONDS: i64 = 129_600;
/// Meanwhile fits are made this often: that costs a tenth of what the usual ones would.
const WARMUP_REFIT_SECONDS: i64 = 7200;
/// And the network is scored at one origin in so many.
const WARMUP_NETWORK: i64 = 4;
/// Fits of different series are spread over this time.
const SPREAD_SECONDS: u64 = 3600;
/// One of so many parts of what is kept at the step is not learnt from: before it stand means of five minutes.
const COARSE_SHARE: i64 = 4;
/// Points of the published curve between which it is interpolated.
const PATH_KNOTS: i64 = 12;

/// One series.
#[derive(Debug)]
pub(crate) struct Tracked {
    tracker: Tracker,
    /// First grid point that was pushed: older history that arrives later starts the series anew.
    first: i64,
    boards: Vec<Scoreboard>,
    breaches: Breaches,
    anomalies: Anomalies,
    /// Last grid point that was published: a second cycle of the same time does not count twice.
    issued: i64,
    /// Whether its first history is still being read.
    warming: bool,
}

/// What is kept of a series over a restart; its history is read again.
#[derive(Serialize, Deserialize)]
struct Saved {
    tracker: Vec<u8>,
    first: i64,
    boards: Vec<Scoreboard>,
    breaches: Breaches,
    anomalies: Anomalies,
    issued: i64,
}

/// How unusual the values of a series are.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Anomalies {
    detector: Detector,
    /// Of the last value; absent while too little is known.
    score: Option<f64>,
    /// Alarms since the first forecast, by cause.
    alarms: Vec<(Cause, u64)>,
}

impl Tracked {
    /// Returns a series without history yet; its first one will end at `end` (Unix seconds). `known` is what is known
    /// beforehand.
    pub(crate) fn new(config: &ForecastConfig, ensemble: &Ensemble, known: &Arc<Known>, end: i64) -> Self {
        let at = |seconds: i64| (end - seconds).div_euclid(config.step);
        let warmup = Schedule {
            learn_from: at(LEARN_SECONDS),
            score_from: at(SCORE_SECONDS),
            least_refit_seconds: WARMUP_REFIT_SECONDS,
            network_every: WARMUP_NETWORK,
            ..Schedule::REPLAY
        };
        let boards = config.horizons.iter().map(|seconds| Scoreboard::new((seconds / config.step) as usize)).collect();
        let breaches = Breaches::new((lead_seconds(config) / config.step) as usize);
        let tracker = Tracker::new(ensemble, spec(config, known), warmup);
        let detector = Detector::new(config.step, config.anomaly);
        let anomalies = Anomalies { detector, score: None, alarms: Vec::new() };
        Self { tracker, first: i64::MAX, boards, breaches, anomalies, issued: i64::MIN, warming: true }
    }

    /// Ends the warm-up, once the first history has been pushed: from now on fits wait until they are allowed.
    pub(crate) fn go_live(&mut self, labels: &Labels) {
        if self.warming {
            self.warming = false;
            self.tracker.set_schedule(live(labels));
            // The first forecast is made with fits of all that is known.
            self.tracker.make_due();
        }
    }

    /// Returns the series that was saved; `None` where the bytes do not fit the configuration or this program.
    pub(crate) fn restore(
        config: &ForecastConfig,
        ensemble: &Ensemble,
        known: &Arc<Known>,
        labels: &Labels,
        saved: &[u8],
    ) -> Option<Self> {
        let Saved { tracker, first, boards, breaches, mut anomalies, issued } = postcard::from_bytes(saved).ok()?;
        anomalies.detector.set_options(config.anomaly);
        let horizons = config.horizons.iter().map(|seconds| (seconds / config.step) as usize);
        if !boards.iter().map(Scoreboard::horizon).eq(horizons) {
            return None;
        }
        let tracker = Tracker::restore(ensemble, spec(config, known), live(labels), &tracker)?;
        Some(Self { tracker, first, boards, breaches, anomalies, issued, warming: false })
    }

    /// Returns what [`Tracked::restore`] understands.
    pub(crate) fn save(&self) -> Vec<u8> {
        let saved = Saved {
            tracker: self.tracker.save(),
            first: self.first,
            boards: self.boards.clone(),
            breaches: self.breaches.clone(),
            anomalies: self.anomalies.clone(),
            issued: self.issued,
        };
        postcard::to_stdvec(&saved).unwrap_or_default()
    }

    /// Takes what is known beforehand from now on.
    pub(crate) fn know(&mut self, known: &Arc<Known>) {
        self.tracker.know(known);
    }

    /// Returns whether `samples` begin before all that was pushed.
    pub(crate) fn is_older(&self, samples: &[Sample], step: i64) -> bool {
        samples.first().is_some_and(|sample| grid(sample, step) < self.first)
    }

    /// Returns whether a history has been pushed; a restored series waits for its own.
    pub(crate) fn has_history(&self) -> bool {
        self.tracker.history().now().is_some()
    }

    /// Returns whether it was forecast: its first history is in, and what was learnt is worth keeping.
    pub(crate) const fn is_live(&self) -> bool {
        !self.warming
    }

    /// Returns the last time that was learnt from, Unix seconds; `None` before any.
    pub(crate) fn seen(&self, step: i64) -> Option<i64> {
        self.tracker.seen().checked_mul(step)
    }

    /// Takes samples in ascending time.
    pub(crate) fn push(&mut self, config: &ForecastConfig, samples: &[Sample]) {
        if let Some(sample) = samples.first() {
            self.first = self.first.min(grid(sample, config.step));
        }
        for sample in samples {
            let at = grid(sample, config.step);
            let new = at > self.tracker.seen();
            self.tracker.push(at, sample.value);
            if let Some(limit) = config.breach_above.filter(|_| new) {
                self.breaches.observe(at, sample.value, limit);
            }
            if new {
                self.anomalies.push(at * config.step, sample.value, self.warming);
                for board in &mut self.boards {
                    board.resolve(self.tracker.history());
                }
            }
        }
    }

    /// Returns the time of the last known value, Unix seconds.
    pub(crate) fn last_known(&self, step: i64) -> Option<i64> {
        Some(self.tracker.history().last_known()? * step)
    }

    /// Makes the fits that are due and `may` allows; returns how many it did not allow.
    pub(crate) fn refit(&mut self, may: impl FnMut(&'static str) -> bool) -> usize {
        self.tracker.refit(may)
    }

    /// Makes all fits due.
    pub(crate) fn make_due(&mut self) {
        self.tracker.make_due();
    }

    /// Returns what is said of the series now, and notes it to be scored; `None` where nothing was ever known.
    pub(crate) fn issue(&mut self, config: &ForecastConfig, ensemble: &Ensemble, labels: &Labels) -> Option<Issued> {
        let history = self.tracker.history();
        let (now, value_now) = (history.now()?, history.last());
        let step = config.step;
        let mut quantiles = config.quantiles.clone();
        quantiles.extend(INTERVAL_QUANTILES);
        let own = config.quantiles.len();
        let mut entries = self.tracker.forecast(&horizon_steps(config), &quantiles);
        let mut horizons = Vec::with_capacity(config.horizons.len());
        for (seconds, board) in config.horizons.iter().zip(&mut self.boards) {
            let Some(entry) = entries.iter().find(|entry| entry.horizon as i64 * step == *seconds) else { continue };
            if now > self.issued {
                let bounds = std::array::from_fn(|i| entry.quantiles[own + i]);
                board.issue(now, entry, bounds, ensemble.baselines(), config.publish_models);
            }
            horizons.push(published(*seconds, entry, own, config, ensemble.names(), board.standing()));
        }
        let mut path = vec![(now * step, vec![value_now; own])];
        for entry in &mut entries {
            entry.quantiles.truncate(own);
            path.push(((now + entry.horizon as i64) * step, std::mem::take(&mut entry.quantiles)));
        }
        let distributions = self.tracker.peaks();
        // Without a distribution there is no expectation, neither way.
        if let (Some(limit), Some(Some(peak)), true) = (config.breach_above, distributions.first(), now > self.issued) {
            self.breaches.issue(now, peak.quantile(0.95) > limit);
        }
        let peaks = config
            .peak_horizons
            .iter()
            .zip(&distributions)
            .filter_map(|(seconds, distribution)| {
                let distribution = distribution.as_ref()?;
                let value = |quantile: &f64| config.bounds.clip(distribution.quantile(*quantile));
                Some((*seconds, config.peak_quantiles.iter().map(value).collect()))
            })
            .collect();
        self.issued = self.issued.max(now);
        let breaches = config.breach_above.map(|_| self.breaches.unpredicted());
        Some(Issued {
            labels: published_labels(labels),
            horizons,
            peaks,
            path,
            breaches,
            anomaly_score: self.anomalies.score,
            alarms: self.anomalies.alarms.iter().map(|(cause, count)| (cause.as_str(), *count)).collect(),
            outlying_ratio: None,
        })
    }

    /// Returns the values of the last `count` grid points up to `end`; NaN where unknown.
    pub(crate) fn window(&self, end: i64, count: i64) -> Vec<f64> {
        (end - count + 1..=end).map(|at| self.tracker.history().get(at).unwrap_or(f64::NAN)).collect()
    }

    /// Returns what is kept of the series to learn from, from its first known value on; `None` before any.
    pub(crate) fn past(&self) -> Option<Past> {
        let history = self.tracker.history();
        let (now, width) = (history.now()?, history.width());
        let from = history.first_bucket() * width;
        let values: Vec<f64> = (from..=now).map(|at| history.near(at).unwrap_or(f64::NAN)).collect();
        // Where older values are kept as means, errors need some time to become what they are at the step.
        let coarse = if width > 1 { history.first() + (now - history.first()) / COARSE_SHARE } else { from };
        let first = usize::try_from(coarse - from).unwrap_or(0);
        Some(Past { series: Series::new(from * history.step(), history.step(), values).ok()?, first })
    }

    /// Returns the bytes that the series takes.
    pub(crate) fn bytes(&self) -> usize {
        self.tracker.bytes()
            + self.anomalies.detector.memory_bytes()
            + self.boards.iter().map(|board| size_of::<Scoreboard>() + board.heap_bytes()).sum::<usize>()
    }
}

impl Anomalies {
    /// Judges a value; alarms of a past that was never watched are not counted.
    fn push(&mut self, time: i64, value: f64, warming: bool) {
        let verdict = self.detector.push(time, value);
        self.score = verdict.filter(|_| self.detector.is_ready()).map(|verdict| verdict.score);
        if let Some(verdict) = verdict.filter(|verdict| verdict.alarm && !warming) {
            match self.alarms.iter_mut().find(|(cause, _)| *cause == verdict.cause) {
                Some((_, count)) => *count += 1,
                None => self.alarms.push((verdict.cause, 1)),
            }
        }
    }
}

fn grid(sample: &Sample, step: i64) -> i64 {
    (sample.timestamp / step as f64).round() as i64
}

fn spec(config: &ForecastConfig, known: &Arc<Known>) -> Spec {
    Spec {
        step: config.step,
        keep: config.history,
        horizons: horizon_steps(config),
        peaks: config.peak_horizons.iter().map(|seconds| (seconds / config.step) as usize).collect(),
        bounds: config.bounds,
        known: Arc::clone(known),
        model: None,
    }
}

/// The shortest peak horizon: what a scaler has time for.
fn lead_seconds(config: &ForecastConfig) -> i64 {
    config.peak_horizons.first().copied().unwrap_or(config.step)
}

fn live(labels: &Labels) -> Schedule {
    Schedule { phase: (stable_hash(labels) % SPREAD_SECONDS) as i64, at_once: false, ..Schedule::REPLAY }
}

/// Returns a hash of labels that is the same in every process and version: FNV-1a over name, value and separators.
pub(crate) fn stable_hash(labels: &Labels) -> u64 {
    struct Fnv(u64);
    impl std::hash::Hasher for Fnv {
        fn finish(&self) -> u64 {
            self.0
        }
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    for (name, value) in labels {
        hasher.write(name.as_bytes());
        hasher.write(&[0xff]);
        hasher.write(value.as_bytes());
        hasher.write(&[0xff]);
    }
    hasher.finish()
}

fn published(
    seconds: i64,
    entry: &AtHorizon,
    own: usize,
    config: &ForecastConfig,
    names: &[&'static str],
    standing: Option<Standing>,
) -> PublishedHorizon {
    let mut models = Vec::new();
    if config.publish_models {
        for (place, name) in names.iter().enumerate().filter(|(place, _)| entry.models[*place].is_finite()) {
            let skill = standing.as_ref().and_then(|standing| *standing.models.get(place)?);
            models.push((*name, entry.models[place], skill));
        }
    }
    let demoted_to = entry.demoted.then(|| entry.combined.first().map_or("", |place| names[*place]));
    PublishedHorizon {
        seconds,
        quantiles: entry.quantiles[..own].to_vec(),
        models,
        standing,
        demoted_to,
        network_weight: entry.network_weight,
    }
}

/// Published horizons and the knots of the curve, in steps, ascending. The curve reaches past the longest horizon by one
/// cycle, so that it still covers it just before the next one.
pub(crate) fn horizon_steps(config: &ForecastConfig) -> Vec<usize> {
    let longest = config.horizons.last().copied().unwrap_or(config.step);
    let reach = (longest + config.interval + config.step) / config.step + 1;
    let published = config.horizons.iter().map(|seconds| seconds / config.step);
    let knots = (1..=PATH_KNOTS).map(|knot| (reach * knot + PATH_KNOTS - 1) / PATH_KNOTS);
    let all: std::collections::BTreeSet<usize> =
        published.chain(knots).chain([1]).map(|steps| steps.max(1) as usize).collect();
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::built_in;

    #[test]
    fn the_curve_covers_the_longest_horizon_until_the_next_cycle() {
        let config = built_in().swap_remove(0);
        let steps = horizon_steps(&config);
        assert!(*steps.last().unwrap() as i64 * 60 >= 900 + config.interval + 60);
        assert!(steps.contains(&5) && steps.contains(&10) && steps.contains(&15) && steps.contains(&1));
    }

    #[test]
    fn the_hash_never_changes() {
        let labels =
            Labels::from([("instance".to_owned(), "a:9100".to_owned()), ("job".to_owned(), "node".to_owned())]);
        assert_eq!(stable_hash(&Labels::new()), 0xcbf2_9ce4_8422_2325, "the offset basis of FNV-1a");
        assert_eq!(stable_hash(&labels), 0xdd23_1e30_1311_ecf8, "shards and saved state depend on it");
    }

    #[test]
    fn a_restored_series_follows_a_quantity_as_before_once_it_is_known() {
        use cloudpulse_forecast::known::Quantity;
        use cloudpulse_forecast::prophet::plan::SeasonalityMode;
        const END: i64 = 1_700_000_040;
        let config = ForecastConfig { publish_models: true, ..built_in().swap_remove(1) };
        let ensemble = Ensemble::default();
        let queue = |time: i64| (time.div_euclid(1800) % 3) as f64;
        let start = END - 43_200;
        let values = (0..200).map(|i| queue(start + i * 300)).collect();
        let (name, mode) = ("queue".to_owned(), SeasonalityMode::Additive);
        let queue_known = Quantity { name, mode, start, step: 300, values, reach: 3600 };
        let known = Arc::new(Known { events: Vec::new(), quantities: vec![queue_known] });
        let samples: Vec<Sample> = (start..=END)
            .step_by(60)
            .map(|time| Sample {
                timestamp: time as f64,
                value: 0.2 + 0.2 * queue(time) + (time / 60 % 7) as f64 * 0.01,
            })
            .collect();
        let mut before = Tracked::new(&config, &ensemble, &known, END);
        before.push(&config, &samples);
        before.go_live(&Labels::new());
        before.refit(|_| true);
        let saved = before.save();
        let (nothing, labels) = (Arc::default(), Labels::new());
        let mut after = Tracked::restore(&config, &ensemble, &nothing, &labels, &saved).unwrap();
        after.push(&config, &samples);
        let prophet = |tracked: &mut Tracked| {
            let issued = tracked.issue(&config, &ensemble, &labels).unwrap();
            let models = issued.horizons.into_iter().map(|at| at.models);
            models.map(|models| models.iter().find(|(name, ..)| *name == "prophet").map(|found| found.1)).collect()
        };
        let as_before: Vec<Option<f64>> = prophet(&mut before);
        for (minutes, value) in [5, 10, 15].into_iter().zip(&as_before) {
            let expected = 0.23 + 0.2 * queue(END + 60 * minutes);
            assert!(value.is_some_and(|value| (value - expected).abs() < 0.1), "{value:?} against {expected}");
        }
        assert_eq!(prophet(&mut after), [None; 3], "not known yet");
        after.know(&known);
        assert_eq!(prophet(&mut after), as_before);
    }
}
