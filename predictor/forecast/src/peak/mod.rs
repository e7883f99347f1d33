//! The distribution of the highest value in (origin, origin + horizon]: what a scaler has to be ready for.
//!
//! In: a history, advanced tick by tick. Out: a calibrated distribution. Location and spread come from an online quantile
//! regression on what happened at this time yesterday and in the last hours; the shape from split conformal on the peak
//! itself, with errors in local units and an exponential tail. Calibrating the peak, not its points, is what makes 99 %
//! mean 99 %: the maximum of pointwise quantiles is too low.

mod distribution;
mod features;
mod regression;
mod seasonal;

use std::collections::VecDeque;

pub use distribution::PeakDistribution;

use crate::evaluation::peak;
use crate::model::History;
use features::{FEATURES, Features, Windows};
use regression::QuantileRegression;
use seasonal::SeasonalSmoothing;

/// Learning happens at most this often.
const TICK_SECONDS: i64 = 60;
/// Memory of the regression.
const FORGETTING_SECONDS: f64 = 3.0 * 86_400.0;
/// Time between solutions of the regression.
const SOLVE_SECONDS: i64 = 1800;
/// The regression is used once it has learnt for this long; until then the location is the mean of the last ten minutes.
const WARMUP_SECONDS: i64 = 43_200;
/// Half-lives of the two error averages.
const FAST_HALF_LIFE_SECONDS: f64 = 1800.0;
const SLOW_HALF_LIFE_SECONDS: f64 = 43_200.0;
/// Resolved windows behind the distribution.
const SCORES: usize = 1440;
/// With fewer there is no distribution.
const MIN_SCORES: usize = 288;
/// Errors that must have resolved before a window's scale means something, and its score counts.
const MIN_ERRORS: i64 = 60;
/// Floor of all scales, as a share of the day's largest value.
const SCALE_FLOOR: f64 = 0.0005;

/// The peak model of one series and horizon. Its memory does not grow with the history.
#[derive(Debug, Clone)]
pub struct PeakModel {
    horizon: usize,
    windows: Windows,
    tick: i64,
    /// Last grid point that was learnt, counted since the epoch.
    seen: Option<i64>,
    smoothing: SeasonalSmoothing,
    middle: QuantileRegression,
    upper: QuantileRegression,
    ticks_learnt: i64,
    pending: VecDeque<Pending>,
    scores: VecDeque<f64>,
    fast_error: Average,
    slow_error: Average,
    target_size: Average,
    mean: f64,
    mean_count: f64,
    extremes: Extremes,
}

/// A window whose end has not come yet.
#[derive(Debug, Clone)]
struct Pending {
    at: i64,
    features: [f64; FEATURES],
    base: f64,
    location: Location,
    /// Whether its scale rests on enough errors to be scored.
    scored: bool,
}

#[derive(Debug, Clone, Copy)]
struct Location {
    middle: f64,
    scale: f64,
}

impl PeakModel {
    /// Returns a model that knows nothing, for a series of the given step (seconds) and a horizon in steps, at least 1.
    pub fn new(step: i64, horizon: usize) -> Self {
        let tick = (TICK_SECONDS / step).max(1);
        let tick_seconds = (tick * step) as f64;
        let forgetting = 1.0 - tick_seconds / FORGETTING_SECONDS.max(2.0 * tick_seconds);
        Self {
            horizon,
            windows: Windows::new(step, horizon),
            tick,
            seen: None,
            smoothing: SeasonalSmoothing::new((86_400 / (tick * step)).max(1) as usize),
            middle: QuantileRegression::new(0.5, forgetting),
            upper: QuantileRegression::new(0.8, forgetting),
            ticks_learnt: 0,
            pending: VecDeque::new(),
            scores: VecDeque::new(),
            fast_error: Average::new(FAST_HALF_LIFE_SECONDS / tick_seconds),
            slow_error: Average::new(SLOW_HALF_LIFE_SECONDS / tick_seconds),
            target_size: Average::new(SLOW_HALF_LIFE_SECONDS / tick_seconds),
            mean: 0.0,
            mean_count: 0.0,
            extremes: Extremes::new((3600 / (tick * step)).max(1)),
        }
    }

    /// Returns the horizon in steps.
    pub const fn horizon(&self) -> usize {
        self.horizon
    }

    /// Learns everything up to and including `origin` that it has not seen yet. Windows with a gap teach nothing.
    pub fn advance(&mut self, history: &History<'_>, origin: usize) {
        let series = history.series;
        let start = series.absolute(0);
        let first = self.seen.map_or(start, |seen| (seen + 1).max(start));
        let first = first + (self.tick - first.rem_euclid(self.tick)) % self.tick;
        let mut absolute = first;
        while absolute <= series.absolute(origin) {
            self.learn(history, absolute, (absolute - start) as usize);
            self.seen = Some(absolute);
            absolute += self.tick;
        }
    }

    /// Returns the distribution of the peak after `origin`, by what was learnt so far; `None` until enough windows have
    /// resolved, or where no value is known.
    pub fn distribution(&self, history: &History<'_>, origin: usize) -> Option<PeakDistribution> {
        if self.scores.len() < MIN_SCORES {
            return None;
        }
        let features = self.features(history, origin)?;
        let location = self.locate(&features)?;
        Some(PeakDistribution::new(location.middle, location.scale, self.scores.iter().copied().collect()))
    }

    fn learn(&mut self, history: &History<'_>, absolute: i64, index: usize) {
        let start = history.series.absolute(0);
        while let Some(window) = self.pending.front() {
            if window.at + self.horizon as i64 > absolute {
                break;
            }
            let Some(window) = self.pending.pop_front() else { break };
            // A window that was trimmed away meanwhile cannot be resolved.
            let Ok(origin) = usize::try_from(window.at - start) else { continue };
            if let Some(actual) = peak(history.series, origin, self.horizon) {
                self.resolve(&window, actual);
            }
        }
        let Some(value) = history.series.get(index) else {
            self.smoothing.skip(absolute.div_euclid(self.tick));
            return;
        };
        self.mean_count += 1.0;
        self.mean += (value - self.mean) / self.mean_count;
        self.extremes.add(absolute.div_euclid(self.tick), value);
        self.smoothing.add(absolute.div_euclid(self.tick), value);
        if let Some(features) = self.features(history, index)
            && let Some(location) = self.locate(&features)
        {
            let Features { values, base } = features;
            let scored = self.ticks_learnt >= MIN_ERRORS;
            self.pending.push_back(Pending { at: absolute, features: values, base, location, scored });
        }
    }

    fn resolve(&mut self, window: &Pending, actual: f64) {
        let error = (actual - window.location.middle).abs();
        self.fast_error.add(error);
        self.slow_error.add(error);
        let score = (actual - window.location.middle) / window.location.scale;
        if window.scored && score.is_finite() {
            if self.scores.len() == SCORES {
                self.scores.pop_front();
            }
            self.scores.push_back(score);
        }
        let target = actual - window.base;
        self.target_size.add(target.abs());
        self.middle.learn(&window.features, target, self.target_size.value);
        self.upper.learn(&window.features, target, self.target_size.value);
        self.ticks_learnt += 1;
        if self.ticks_learnt % (SOLVE_SECONDS / self.windows.tick_seconds(self.tick)).max(1) == 0
            && self.ticks_learnt * self.windows.tick_seconds(self.tick) >= WARMUP_SECONDS
        {
            self.middle.solve();
            self.upper.solve();
        }
    }

    fn features(&self, history: &History<'_>, index: usize) -> Option<Features> {
        let ticks = (self.horizon as i64).div_euclid(self.tick).max(1) as usize;
        let smoothed = self.smoothing.peak(ticks);
        self.windows.features(history, index, smoothed, self.mean)
    }

    /// Location and scale of the peak; `None` before any value is known.
    fn locate(&self, features: &Features) -> Option<Location> {
        let (least, most) = self.extremes.range()?;
        let floor = SCALE_FLOOR * least.abs().max(most.abs()) + f64::MIN_POSITIVE;
        let reach = if least >= 0.0 { 0.5 * most } else { 0.5 * (most - least) };
        let lowest = if least >= 0.0 { 0.0 } else { least - reach };
        let clamp = |value: f64| value.clamp(lowest, (most + reach).max(lowest));
        let middle = clamp(features.base + self.middle.predict(&features.values));
        let upper = clamp(features.base + self.upper.predict(&features.values));
        let (fast, slow) = (self.fast_error.value, self.slow_error.value);
        let spread = (upper - middle).max(0.3 * slow) + floor;
        // Two roots, so that neither tiny nor huge series leave the range of f64.
        let scale = spread.sqrt() * (fast + 0.1 * slow + floor + 0.002 * self.mean.abs()).sqrt();
        (middle.is_finite() && scale.is_finite() && scale > 0.0).then_some(Location { middle, scale })
    }
}

/// An exponentially weighted mean, unbiased from the first value on.
#[derive(Debug, Clone, Copy)]
struct Average {
    keep: f64,
    weight: f64,
    value: f64,
}

impl Average {
    fn new(half_life: f64) -> Self {
        Self { keep: 0.5_f64.powf(1.0 / half_life.max(0.1)), weight: 0.0, value: 0.0 }
    }

    fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.weight = self.keep * self.weight + (1.0 - self.keep);
            self.value += (1.0 - self.keep) / self.weight * (value - self.value);
        }
    }
}

/// Least and largest value of about the last day, by hours.
#[derive(Debug, Clone)]
struct Extremes {
    ticks_per_hour: i64,
    hours: VecDeque<(i64, f64, f64)>,
}

impl Extremes {
    const HOURS: usize = 24;

    fn new(ticks_per_hour: i64) -> Self {
        Self { ticks_per_hour, hours: VecDeque::new() }
    }

    fn add(&mut self, tick: i64, value: f64) {
        let hour = tick.div_euclid(self.ticks_per_hour);
        match self.hours.back_mut() {
            Some((last, least, most)) if *last == hour => {
                *least = least.min(value);
                *most = most.max(value);
            }
            _ => {
                if self.hours.len() == Self::HOURS {
                    self.hours.pop_front();
                }
                self.hours.push_back((hour, value, value));
            }
        }
    }

    fn range(&self) -> Option<(f64, f64)> {
        self.hours.iter().map(|(_, least, most)| (*least, *most)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Series;

    fn load(len: usize, step: i64) -> Series {
        let mut state = 5_u64;
        let values = (0..len)
            .map(|i| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let noise = (state >> 33) as f64 / (1_u64 << 31) as f64 - 0.5;
                let t = (i as i64 * step) as f64 / 86_400.0;
                100.0 + 60.0 * (t * std::f64::consts::TAU).sin() + 20.0 * noise
            })
            .collect();
        Series::new(1_700_000_000, step, values).unwrap()
    }

    #[test]
    fn quantiles_cover_what_they_say() {
        let series = load(8 * 1440, 60);
        let history = History::new(&series);
        let mut model = PeakModel::new(60, 5);
        let levels = [0.5, 0.8, 0.9, 0.95, 0.99];
        let (mut covered, mut count) = ([0.0; 5], 0.0);
        for origin in 0..series.len() - 5 {
            model.advance(&history, origin);
            if origin > 3 * 1440 {
                let distribution = model.distribution(&history, origin).unwrap();
                let actual = peak(&series, origin, 5).unwrap();
                count += 1.0;
                for (sum, level) in covered.iter_mut().zip(levels) {
                    *sum += f64::from(u8::from(actual <= distribution.quantile(level)));
                }
            }
        }
        for (sum, level) in covered.into_iter().zip(levels) {
            let share = sum / count;
            assert!((share - level).abs() < 0.02, "{level}: {share}");
        }
    }

    #[test]
    fn a_long_horizon_has_no_absurd_tail() {
        // The first windows of a long horizon are issued before any error is known.
        let series = load(7 * 288, 300);
        let history = History::new(&series);
        let mut model = PeakModel::new(300, 72);
        model.advance(&history, series.len() - 1);
        let distribution = model.distribution(&history, series.len() - 1).unwrap();
        let highest = series.values().iter().copied().fold(0.0, f64::max);
        assert!(distribution.quantile(0.999) < 1.5 * highest, "{}", distribution.quantile(0.999));
    }

    #[test]
    fn the_past_is_enough() {
        let series = load(3000, 60);
        let cut = series.cut(2500);
        let (whole, past) = (History::new(&series), History::new(&cut));
        let mut first = PeakModel::new(60, 15);
        let mut second = first.clone();
        first.advance(&whole, 2500);
        // In pieces, and from a history without a future.
        second.advance(&past, 17);
        second.advance(&past, 1800);
        second.advance(&past, 2500);
        let (first, second) = (first.distribution(&whole, 2500).unwrap(), second.distribution(&past, 2500).unwrap());
        assert_eq!(first.quantile(0.99).to_bits(), second.quantile(0.99).to_bits());
    }

    #[test]
    fn finer_steps_learn_once_a_minute() {
        let series = load(2 * 5760, 15);
        let history = History::new(&series);
        let mut model = PeakModel::new(15, 20);
        model.advance(&history, series.len() - 1);
        let distribution = model.distribution(&history, series.len() - 1).unwrap();
        assert!(distribution.quantile(0.5) < distribution.quantile(0.999));
    }

    #[test]
    fn odd_series_give_nothing_or_something_finite() {
        for values in [vec![f64::NAN; 900], vec![0.0; 900], vec![7.0; 900], vec![-3.0; 900], vec![1e200; 900]] {
            let series = Series::new(0, 300, values).unwrap();
            let history = History::new(&series);
            let mut model = PeakModel::new(300, 3);
            model.advance(&history, 899);
            if let Some(distribution) = model.distribution(&history, 899) {
                let value = series.get(899).unwrap();
                assert!((distribution.quantile(0.5) - value).abs() <= 1e-3 * value.abs() + 1e-9);
            } else {
                assert_eq!(series.known(), 0);
            }
        }
    }
}
