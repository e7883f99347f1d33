//! The distribution of the highest value in (origin, origin + horizon]: what a scaler has to be ready for.
//!
//! In: a history as it grows. Out: a calibrated distribution. Location and spread come from an online quantile
//! regression on what happened at this time yesterday and in the last hours; the shape from split conformal on the peak
//! itself, with errors in local units and an exponential tail. Calibrating the peak, not its points, is what makes 99 %
//! mean 99 %: the maximum of pointwise quantiles is too low.

mod distribution;
mod features;
mod seasonal;

use std::collections::VecDeque;

pub use distribution::PeakDistribution;
pub use seasonal::SeasonalSmoothing;
use serde::{Deserialize, Serialize};

use crate::history::History;
use crate::regression::QuantileRegression;
use features::{FEATURES, Features, Windows};

/// Quantiles of the peak that a cost rule needs: what is published by default, and what a replay of a rule sees.
pub const PEAK_QUANTILES: [f64; 7] = [0.5, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999];
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
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeakModel {
    horizon: usize,
    windows: Windows,
    tick: i64,
    smoothing: SeasonalSmoothing,
    middle: QuantileRegression<FEATURES>,
    upper: QuantileRegression<FEATURES>,
    ticks_learnt: i64,
    pending: VecDeque<Pending>,
    scores: VecDeque<f32>,
    fast_error: Average,
    slow_error: Average,
    target_size: Average,
    mean: f64,
    mean_count: f64,
    extremes: Extremes,
}

/// A window whose end has not come yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pending {
    at: i64,
    features: Vec<f32>,
    base: f64,
    location: Location,
    /// Whether its scale rests on enough errors to be scored.
    scored: bool,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
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

    /// Learns from the newest grid point of `history`; called once for each, in order. Windows with a gap teach nothing.
    pub fn advance(&mut self, history: &History) {
        if let Some(now) = history.now().filter(|now| now.rem_euclid(self.tick) == 0) {
            self.learn(history, now);
        }
    }

    /// Returns the distribution of the peak after the newest grid point of `history`, by what was learnt so far; `None`
    /// until enough windows have resolved, or where no value is known.
    pub fn distribution(&self, history: &History) -> Option<PeakDistribution> {
        if self.scores.len() < MIN_SCORES {
            return None;
        }
        let features = self.features(history)?;
        let location = self.locate(&features)?;
        Some(PeakDistribution::new(
            location.middle,
            location.scale,
            self.scores.iter().copied().map(f64::from).collect(),
        ))
    }

    /// Returns the bytes that are held on the heap.
    pub fn heap_bytes(&self) -> usize {
        let pending = size_of::<Pending>() + FEATURES * size_of::<f32>();
        self.middle.heap_bytes()
            + self.upper.heap_bytes()
            + self.smoothing.heap_bytes()
            + self.scores.capacity() * size_of::<f32>()
            + self.pending.capacity() * pending
    }

    fn learn(&mut self, history: &History, now: i64) {
        while let Some(window) = self.pending.front() {
            if window.at + self.horizon as i64 > now {
                break;
            }
            let Some(window) = self.pending.pop_front() else { break };
            if let Some(actual) = peak_after(history, window.at, self.horizon as i64) {
                self.resolve(&window, actual);
            }
        }
        let Some(value) = history.get(now) else {
            self.smoothing.skip(now.div_euclid(self.tick));
            return;
        };
        self.mean_count += 1.0;
        self.mean += (value - self.mean) / self.mean_count;
        self.extremes.add(now.div_euclid(self.tick), value);
        self.smoothing.add(now.div_euclid(self.tick), value);
        if let Some(features) = self.features(history)
            && let Some(location) = self.locate(&features)
        {
            let Features { values, base } = features;
            let scored = self.ticks_learnt >= MIN_ERRORS;
            let features = values.map(|value| value as f32).to_vec();
            self.pending.push_back(Pending { at: now, features, base, location, scored });
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
            self.scores.push_back(score as f32);
        }
        let target = actual - window.base;
        self.target_size.add(target.abs());
        let Ok(features) = <[f32; FEATURES]>::try_from(window.features.as_slice()) else { return };
        let features = features.map(f64::from);
        self.middle.learn(&features, target, self.target_size.value);
        self.upper.learn(&features, target, self.target_size.value);
        self.ticks_learnt += 1;
        if self.ticks_learnt % (SOLVE_SECONDS / self.windows.tick_seconds(self.tick)).max(1) == 0
            && self.ticks_learnt * self.windows.tick_seconds(self.tick) >= WARMUP_SECONDS
        {
            self.middle.solve();
            self.upper.solve();
        }
    }

    fn features(&self, history: &History) -> Option<Features> {
        let ticks = (self.horizon as i64).div_euclid(self.tick).max(1) as usize;
        let smoothed = self.smoothing.peak(ticks);
        self.windows.features(history, smoothed, self.mean)
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

/// Returns the highest value in (origin, origin + horizon]; `None` where any of them is missing.
fn peak_after(history: &History, origin: i64, horizon: i64) -> Option<f64> {
    let mut highest = f64::NEG_INFINITY;
    for at in origin + 1..=origin + horizon {
        highest = highest.max(history.get(at)?);
    }
    highest.is_finite().then_some(highest)
}

/// An exponentially weighted mean, unbiased from the first value on.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
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

/// Least and largest value of the last day, by hours.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Extremes {
    ticks_per_hour: i64,
    hours: VecDeque<(i64, f64, f64)>,
}

impl Extremes {
    /// This hour, of which only a part is over, and the 24 before it: with fewer, yesterday's next minutes were forgotten, and a
    /// rush within one hour of the clock was clipped to the load before it.
    const HOURS: usize = 25;

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

    fn load(len: usize, step: i64) -> Vec<f64> {
        let mut state = 5_u64;
        (0..len)
            .map(|i| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let noise = (state >> 33) as f64 / (1_u64 << 31) as f64 - 0.5;
                let t = (i as i64 * step) as f64 / 86_400.0;
                100.0 + 60.0 * (t * std::f64::consts::TAU).sin() + 20.0 * noise
            })
            .collect()
    }

    fn learnt(values: &[f64], step: i64, horizon: usize) -> (PeakModel, History) {
        let mut history = History::new(step, 14 * 86_400);
        let mut model = PeakModel::new(step, horizon);
        for value in values {
            history.push(28_000_000, *value);
            model.advance(&history);
        }
        (model, history)
    }

    #[test]
    fn quantiles_cover_what_they_say() {
        let values = load(8 * 1440, 60);
        let mut history = History::new(60, 14 * 86_400);
        let mut model = PeakModel::new(60, 5);
        let levels = [0.5, 0.8, 0.9, 0.95, 0.99];
        let (mut covered, mut count) = ([0.0; 5], 0.0);
        for (origin, window) in values.windows(6).enumerate() {
            history.push(28_000_000, window[0]);
            model.advance(&history);
            if origin > 3 * 1440 {
                let distribution = model.distribution(&history).unwrap();
                let actual = window[1..].iter().copied().fold(f64::NEG_INFINITY, f64::max);
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
        let values = load(7 * 288, 300);
        let (model, history) = learnt(&values, 300, 72);
        let distribution = model.distribution(&history).unwrap();
        let highest = values.iter().copied().fold(0.0, f64::max);
        assert!(distribution.quantile(0.999) < 1.5 * highest, "{}", distribution.quantile(0.999));
    }

    /// The rush begins and ends within an hour of the clock, and it is that hour again.
    #[test]
    fn a_rush_within_one_hour_of_the_clock_is_expected_again() {
        let noise = load(6 * 1440, 60);
        // The first minute is the fortieth of an hour; the rush is from minute 10 to 50 of the hour after.
        let rush = |minute: usize| (30..70).contains(&(minute % 1440));
        let value = |minute: usize| if rush(minute) { 900.0 } else { 150.0 } + 0.01 * noise[minute];
        let values: Vec<f64> = (0..5 * 1440 + 28).map(value).collect();
        let (model, history) = learnt(&values, 60, 5);
        let quantile = model.distribution(&history).unwrap().quantile(0.99);
        assert!(quantile > 800.0, "{quantile}");
    }

    #[test]
    fn a_saved_model_goes_on() {
        let values = load(3000, 60);
        let (mut model, mut history) = learnt(&values[..2500], 60, 15);
        let saved = postcard::to_stdvec(&model).unwrap();
        let mut again: PeakModel = postcard::from_bytes(&saved).unwrap();
        for value in &values[2500..] {
            history.push(0, *value);
            model.advance(&history);
            again.advance(&history);
        }
        let quantile = |model: &PeakModel| model.distribution(&history).unwrap().quantile(0.99);
        assert_eq!(quantile(&model).to_bits(), quantile(&again).to_bits());
        assert!(saved.len() < 40_000, "{}", saved.len());
    }

    #[test]
    fn finer_steps_learn_once_a_minute() {
        let (model, history) = learnt(&load(2 * 5760, 15), 15, 20);
        let distribution = model.distribution(&history).unwrap();
        assert!(distribution.quantile(0.5) < distribution.quantile(0.999));
    }

    #[test]
    fn odd_series_give_nothing_or_something_finite() {
        for value in [f64::NAN, 0.0, 7.0, -3.0, 1e30] {
            let (model, history) = learnt(&[value; 900], 300, 3);
            if let Some(distribution) = model.distribution(&history) {
                assert!((distribution.quantile(0.5) - value).abs() <= 1e-3 * value.abs() + 1e-9);
            } else {
                assert!(value.is_nan());
            }
        }
    }
}
