//! A cycle that has nothing to do with the calendar: hourly jobs, collections of garbage, a batch that runs every so many minutes.
//! The history in; its period, and what the last cycles say of the target, out.
//!
//! The period is where the series resembles itself: the lag at which the mean distance of the five-minute means from those
//! one lag earlier (the average magnitude difference function, Ross et al., 1974) falls far below what it rises to at
//! shorter lags. Periods from two buckets to half a day are looked for; the day has models of its own.

use serde::{Deserialize, Serialize};

use super::{Memory, Model, restored, saved};
use crate::history::History;

const REFIT_SECONDS: i64 = 10_800;
/// What is looked at.
const WINDOW_SECONDS: i64 = 3 * 86_400;
const LONGEST_SECONDS: i64 = 43_200;
/// Buckets in the shortest period.
const SHORTEST: usize = 2;
/// Cycles that must have been seen, and that are looked back.
const CYCLES: usize = 4;
/// The distance at the period is below this share of the greatest at a shorter lag.
const DISTINCT: f64 = 0.7;
/// The shortest lag whose distance is within this share of the least is the period: its multiples are as good.
const ALIKE: f64 = 1.1;

/// Forecasts from the last cycles: `cycle_median` is the median of the values there; `cycle_level` is the five-minute mean
/// now and the median of the changes from it to the target's time. Silent where no cycle is found.
#[derive(Debug, Clone, Copy)]
pub struct Cycle;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Found {
    /// In steps.
    period: Option<i64>,
}

impl Model for Cycle {
    fn outputs(&self) -> &'static [&'static str] {
        &["cycle_median", "cycle_level"]
    }

    fn start(&self, _step: i64, _horizons: &[usize]) -> Box<dyn Memory> {
        Box::new(Found::default())
    }

    fn refit_seconds(&self) -> Option<i64> {
        Some(REFIT_SECONDS)
    }

    fn restore(&self, _step: i64, _horizons: &[usize], saved: &[u8]) -> Option<Box<dyn Memory>> {
        restored::<Found>(saved).map(|found| Box::new(found) as Box<dyn Memory>)
    }
}

impl Memory for Found {
    fn advance(&mut self, _history: &History) {}

    fn refit(&mut self, history: &History) {
        let Some(now) = history.now() else { return };
        let width = history.width();
        let bucket_seconds = width * history.step();
        // The newest bucket may not be whole.
        let last = now.div_euclid(width) - 1;
        let first = (last - WINDOW_SECONDS / bucket_seconds).max(history.first_bucket());
        let means: Vec<f32> =
            (first..=last).map(|number| history.bucket(number).map_or(f32::NAN, |bucket| bucket.mean)).collect();
        self.period = period(&means, (LONGEST_SECONDS / bucket_seconds) as usize).map(|lag| lag as i64 * width);
    }

    fn forecast(&self, history: &History, horizons: &[usize], out: &mut [f64]) {
        let (Some(now), Some(period)) = (history.now(), self.period) else { return };
        super::profile::from_cycles(history, now, period, CYCLES, CYCLES / 2, horizons, out);
    }

    fn save(&self) -> Vec<u8> {
        saved(self)
    }

    fn heap_bytes(&self) -> usize {
        size_of::<Self>()
    }
}

/// Returns the lag after which `values` repeat themselves, up to `longest`; `None` where they do not, or too few cycles of
/// it are there. NaN is a gap.
fn period(values: &[f32], longest: usize) -> Option<usize> {
    let longest = longest.min(values.len() / CYCLES);
    if longest < SHORTEST {
        return None;
    }
    let distances: Vec<f64> = (1..=longest + 1).map(|lag| distance(values, lag)).collect();
    let at = |lag: usize| distances[lag - 1];
    let (mut most, mut candidates) = (at(1), Vec::new());
    for lag in SHORTEST..=longest {
        let low = at(lag) <= at(lag - 1) && at(lag) <= at(lag + 1);
        if low && at(lag) < DISTINCT * most {
            candidates.push(lag);
        }
        most = most.max(at(lag));
    }
    let least = candidates.iter().map(|lag| at(*lag)).fold(f64::INFINITY, f64::min);
    candidates.into_iter().find(|lag| at(*lag) <= ALIKE * least)
}

/// Returns the mean distance between values and those `lag` before, NaN where most are unknown.
fn distance(values: &[f32], lag: usize) -> f64 {
    let (mut sum, mut count) = (0.0_f32, 0_u32);
    for (value, before) in values.iter().skip(lag).zip(values) {
        let distance = (value - before).abs();
        let known = distance.is_finite();
        sum += if known { distance } else { 0.0 };
        count += u32::from(known);
    }
    if 2 * count as usize >= values.len().saturating_sub(lag) && count > 0 {
        f64::from(sum) / f64::from(count)
    } else {
        f64::NAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(state: &mut u64) -> f32 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 40) as f32 / (1_u32 << 24) as f32 - 0.5
    }

    /// Values with a burst every `every`, over noise.
    fn bursts(every: usize, len: usize) -> Vec<f32> {
        let mut state = 5;
        (0..len).map(|i| if i % every < 2 { 9.0 } else { 1.0 } + noise(&mut state)).collect()
    }

    #[test]
    fn the_shortest_period_is_found() {
        for every in [6, 12, 17, 100] {
            assert_eq!(period(&bursts(every, 864), 144), Some(every));
        }
        let mut gaps = bursts(12, 864);
        gaps.iter_mut().step_by(9).for_each(|value| *value = f32::NAN);
        assert_eq!(period(&gaps, 144), Some(12));
        assert_eq!(period(&bursts(100, 399), 144), None, "too few cycles");
    }

    #[test]
    fn what_does_not_repeat_has_no_period() {
        for seed in 0..200 {
            let mut state = seed;
            let white: Vec<f32> = (0..864).map(|_| noise(&mut state)).collect();
            let mut level = 0.0;
            let walk: Vec<f32> = (0..864)
                .map(|_| {
                    level += noise(&mut state);
                    level
                })
                .collect();
            let day: Vec<f32> =
                (0..864).map(|i| 9.0 * (i as f32 / 288.0 * std::f32::consts::TAU).sin() + noise(&mut state)).collect();
            for (name, values) in [("white", white), ("walk", walk), ("day", day)] {
                assert_eq!(period(&values, 144), None, "{name} {seed}");
            }
        }
        assert_eq!(period(&[3.0; 864], 144), None);
        assert_eq!(period(&[f32::NAN; 864], 144), None);
        assert_eq!(period(&[], 144), None);
    }

    #[test]
    fn a_burst_is_forecast_where_the_cycle_puts_it() {
        let mut history = History::new(60, 14 * 86_400);
        let mut found = Found::default();
        let value = |at: i64| if at % 35 < 5 { 80.0 } else { 20.0 };
        for at in 0..1500 {
            history.push(0, value(at));
        }
        let mut out = [f64::NAN; 6];
        found.forecast(&history, &[1, 5, 10], &mut out);
        assert!(out.iter().all(|value| value.is_nan()), "nothing is found before a fit");
        found.refit(&history);
        let horizons = [1, 8, 60];
        found.forecast(&history, &horizons, &mut out);
        assert_eq!(out[..3], horizons.map(|horizon| value(1499 + horizon as i64)));
    }
}
