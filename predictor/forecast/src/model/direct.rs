//! Direct regression: for each horizon its own online L1 regression of the change until then, on recent changes and on
//! what happened at this time yesterday and last week.
//!
//! The absolute loss and a memory of about two days are what make it good on server metrics: a squared error lets one
//! spike rule the fit.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

use super::{Memory, Model, restored, saved};
use crate::history::History;
use crate::regression::QuantileRegression;

const FEATURES: usize = 19;
/// It learns at most this often.
const TICK_SECONDS: i64 = 300;
const FORGETTING_SECONDS: f64 = 2.0 * 86_400.0;
/// Learnt targets before the first solution, and between two.
const SOLVE_EVERY: u32 = 12;
const WARMUP: u32 = 72;
/// Horizons beyond this are left to the other models.
const LONGEST_SECONDS: i64 = 6 * 3600;
const DAY_SECONDS: i64 = 86_400;
const WEEK_SECONDS: i64 = 7 * DAY_SECONDS;

/// Forecasts the last value + the regressed change.
#[derive(Debug, Clone, Copy)]
pub struct Direct;

impl Model for Direct {
    fn outputs(&self) -> &'static [&'static str] {
        &["direct"]
    }

    fn start(&self, step: i64, horizons: &[usize]) -> Box<dyn Memory> {
        let forgetting = 1.0 - (TICK_SECONDS.max(step) as f64 / FORGETTING_SECONDS).min(0.5);
        let columns = horizons
            .iter()
            .filter(|horizon| **horizon as i64 * step <= LONGEST_SECONDS)
            .map(|horizon| Column {
                horizon: *horizon as i64,
                regression: QuantileRegression::new(0.5, forgetting),
                size: 0.0,
                learnt: 0,
                pending: VecDeque::new(),
            })
            .collect();
        Box::new(Regressions { columns })
    }

    fn restore(&self, step: i64, horizons: &[usize], bytes: &[u8]) -> Option<Box<dyn Memory>> {
        let memory: Regressions = restored(bytes)?;
        let wanted = horizons.iter().map(|horizon| *horizon as i64).filter(|horizon| horizon * step <= LONGEST_SECONDS);
        memory.columns.iter().map(|column| column.horizon).eq(wanted).then(|| Box::new(memory) as Box<dyn Memory>)
    }
}

/// The regressions of one series, by horizon.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Regressions {
    columns: Vec<Column>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Column {
    horizon: i64,
    regression: QuantileRegression<FEATURES>,
    /// Mean absolute target, the older the lighter.
    size: f64,
    learnt: u32,
    /// What waits for its target: grid point, value there, features.
    pending: VecDeque<(i64, f64, Vec<f32>)>,
}

impl Memory for Regressions {
    fn advance(&mut self, history: &History) {
        let Some(now) = history.now() else { return };
        let tick = history.steps(TICK_SECONDS) as i64;
        let mut shared = None;
        for column in &mut self.columns {
            while column.pending.front().is_some_and(|(at, ..)| at + column.horizon <= now) {
                let Some((at, value, features)) = column.pending.pop_front() else { break };
                if let Some(actual) = history.get(at + column.horizon) {
                    column.learn(&features, actual - value);
                }
            }
            if now % tick == 0 && history.get(now).is_some() {
                let shared = shared.get_or_insert_with(|| Shared::of(history, now));
                let features = shared.features(history, now, column.horizon).map(|value| value as f32);
                if features.iter().all(|value| value.is_finite()) {
                    column.pending.push_back((now, shared.last, features.to_vec()));
                }
            }
        }
    }

    fn forecast(&self, history: &History, horizons: &[usize], out: &mut [f64]) {
        let Some(now) = history.now() else { return };
        let shared = Shared::of(history, now);
        for (cell, horizon) in out.iter_mut().zip(horizons) {
            let column = self.columns.iter().find(|column| column.horizon == *horizon as i64);
            let Some(column) = column.filter(|column| column.learnt >= WARMUP) else { continue };
            let value = shared.last + column.regression.predict(&shared.features(history, now, column.horizon));
            *cell = if value.is_finite() { value } else { f64::NAN };
        }
    }

    fn save(&self) -> Vec<u8> {
        saved(self)
    }

    fn heap_bytes(&self) -> usize {
        let pending = |column: &Column| column.pending.len() * (40 + FEATURES * size_of::<f32>());
        self.columns.iter().map(|column| size_of::<Column>() + column.regression.heap_bytes() + pending(column)).sum()
    }
}

impl Column {
    fn learn(&mut self, features: &[f32], target: f64) {
        let Ok(features) = <[f32; FEATURES]>::try_from(features) else { return };
        self.learnt = self.learnt.saturating_add(1);
        let rate = (1.0 / f64::from(self.learnt)).max(1.0 / 288.0);
        self.size += rate * (target.abs() - self.size);
        self.regression.learn(&features.map(f64::from), target, self.size);
        if self.learnt >= WARMUP && self.learnt.is_multiple_of(SOLVE_EVERY) {
            self.regression.solve();
        }
    }
}

/// What the features of all horizons have in common.
struct Shared {
    last: f64,
    day: i64,
    week: i64,
    recent: [f64; 11],
    day_ago: Option<f64>,
    week_ago: Option<f64>,
}

impl Shared {
    fn of(history: &History, now: i64) -> Self {
        let last = history.last();
        let lag = |steps: i64| history.filled(now - steps, now - steps).first().map_or(0.0, |value| value - last);
        let mean = |minutes: i64| {
            let window = history.filled(now + 1 - history.steps(minutes * 60) as i64, now);
            let (mut sum, mut count) = (0.0, 0.0);
            for value in window.iter().filter(|value| value.is_finite()) {
                sum += value;
                count += 1.0;
            }
            if count > 0.0 { sum / count - last } else { 0.0 }
        };
        let (day, week) = (history.steps(DAY_SECONDS) as i64, history.steps(WEEK_SECONDS) as i64);
        Self {
            last,
            day,
            week,
            recent: [
                lag(1),
                lag(2),
                lag(3),
                lag(5),
                lag(8),
                lag(12),
                mean(10),
                mean(30),
                mean(60),
                mean(120),
                mean(360),
            ]
            .map(|value| if value.is_finite() { value } else { 0.0 }),
            day_ago: history.near(now - day),
            week_ago: history.near(now - week),
        }
    }

    /// Unknown features are 0: no change is expected from them.
    fn features(&self, history: &History, now: i64, horizon: i64) -> [f64; FEATURES] {
        let mut features = [0.0; FEATURES];
        features[..11].copy_from_slice(&self.recent);
        let tick = history.steps(TICK_SECONDS) as i64;
        let back = (horizon + self.day - 1) / self.day * self.day;
        let from = |value: Option<f64>| value.map_or(0.0, |value| value - self.last);
        for (place, offset) in [-tick, 0, tick].into_iter().enumerate() {
            features[11 + place] = from(history.level((now + horizon - back + offset).min(now)));
        }
        features[14] = from(self.day_ago);
        features[15] = from(history.level(now - back));
        features[16] = from(history.near(now + horizon - self.week).filter(|_| horizon <= self.week));
        features[17] = from(self.week_ago);
        features[18] = self.last;
        features
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_what_a_day_ago_tells() {
        // The load jumps every day at 9 o'clock, to another height each day.
        let value = |at: i64| {
            let hour = (at * 300).rem_euclid(86_400) / 3600;
            50.0 + (at % 3) as f64 + if (9..17).contains(&hour) { 100.0 } else { 0.0 }
        };
        let mut history = History::new(300, 14 * 86_400);
        let mut memory = Direct.start(300, &[3]);
        for at in 0..10 * 288 + 107 {
            history.push(0, value(at));
            memory.advance(&history);
        }
        let mut out = [f64::NAN];
        memory.forecast(&history, &[3], &mut out);
        assert!(out[0] > 120.0, "the jump is one step ahead: {out:?}");
    }
}
