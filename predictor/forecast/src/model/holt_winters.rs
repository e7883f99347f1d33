//! Additive Holt-Winters smoothing with a daily season and a damped trend (Winters, 1960), one update a value.
//!
//! The season has one slot for each five minutes of the day (for each value, where the step is longer), however fine the
//! step, and is read between the middles of two slots.

use serde::{Deserialize, Serialize};

use super::{Memory, Model, restored, saved};
use crate::history::History;

/// Smoothing constants of level and season of the two outputs, both for a whole slot: at a fine step a level that follows
/// each value would leave nothing to the season.
const CONSTANTS: [(f64, f64); 2] = [(0.02, 0.2), (0.3, 0.2)];
const TREND: f64 = 0.02;
/// Share of the trend that is left after each step.
const DAMPING: f64 = 0.98;
const DAY_SECONDS: i64 = 86_400;
const SLOT_SECONDS: i64 = 300;

/// Forecasts level + damped trend + season, once with a slow and once with a quick level: which is better depends on the
/// horizon. Unknown until a day has been seen.
#[derive(Debug, Clone, Copy)]
pub struct HoltWinters;

impl Model for HoltWinters {
    fn outputs(&self) -> &'static [&'static str] {
        &["holt_winters_slow", "holt_winters_quick"]
    }

    fn start(&self, step: i64, _horizons: &[usize]) -> Box<dyn Memory> {
        Box::new(Smoothing {
            states: [State { level: 0.0, trend: 0.0 }; CONSTANTS.len()],
            season: vec![[0.0; CONSTANTS.len()]; slots(step)],
            seen: 0,
        })
    }

    fn restore(&self, step: i64, _horizons: &[usize], bytes: &[u8]) -> Option<Box<dyn Memory>> {
        let memory: Smoothing = restored(bytes)?;
        (memory.season.len() == slots(step)).then(|| Box::new(memory) as Box<dyn Memory>)
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct State {
    level: f64,
    trend: f64,
}

/// The smoothed state of one series, by output.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Smoothing {
    states: [State; CONSTANTS.len()],
    /// By slot of the day.
    season: Vec<[f32; CONSTANTS.len()]>,
    /// Known values so far.
    seen: u64,
}

fn slots(step: i64) -> usize {
    (DAY_SECONDS / SLOT_SECONDS.max(step)).max(1) as usize
}

impl Smoothing {
    /// Slot of a grid point, the next one, and how far it is towards that one.
    fn place(&self, at: i64, step: i64) -> (usize, usize, f64) {
        let slots = self.season.len();
        let position = (at * step).rem_euclid(DAY_SECONDS) as f64 / DAY_SECONDS as f64 * slots as f64;
        let width = (SLOT_SECONDS / step).max(1) as f64;
        // The middle of a slot's values.
        let position = (position - (width - 1.0) / (2.0 * width)).rem_euclid(slots as f64);
        let slot = position as usize % slots;
        (slot, (slot + 1) % slots, position.fract())
    }

    fn season(&self, place: (usize, usize, f64), output: usize) -> f64 {
        let (slot, next, share) = place;
        (1.0 - share) * f64::from(self.season[slot][output]) + share * f64::from(self.season[next][output])
    }
}

impl Memory for Smoothing {
    fn advance(&mut self, history: &History) {
        let Some(now) = history.now() else { return };
        let step = history.step();
        let Some(value) = history.get(now) else {
            for state in &mut self.states {
                state.trend *= DAMPING;
                state.level += state.trend;
            }
            return;
        };
        if self.seen == 0 {
            self.states = [State { level: value, trend: 0.0 }; CONSTANTS.len()];
            self.seen = 1;
            return;
        }
        let place = self.place(now, step);
        let slot = if place.2 < 0.5 { place.0 } else { place.1 };
        let width = (SLOT_SECONDS / step).max(1) as f64;
        for (output, (alpha, gamma)) in CONSTANTS.into_iter().enumerate() {
            let season = self.season(place, output);
            let State { level, trend } = self.states[output];
            let expected = level + DAMPING * trend;
            let alpha = 1.0 - (1.0 - alpha).powf(1.0 / width);
            let moved = expected + alpha * (value - season - expected);
            let trend = TREND * (moved - level) + (1.0 - TREND) * DAMPING * trend;
            self.states[output] = State { level: moved, trend };
            self.season[slot][output] += (gamma / width * (value - moved - season)) as f32;
        }
        self.seen += 1;
    }

    fn forecast(&self, history: &History, horizons: &[usize], out: &mut [f64]) {
        let Some(now) = history.now() else { return };
        let step = history.step();
        if (self.seen as i64).saturating_mul(step) < DAY_SECONDS {
            return;
        }
        for (output, row) in out.chunks_exact_mut(horizons.len()).enumerate() {
            let State { level, trend } = self.states[output];
            for (cell, horizon) in row.iter_mut().zip(horizons) {
                let reach = DAMPING * (1.0 - DAMPING.powf(*horizon as f64)) / (1.0 - DAMPING);
                let value = level + trend * reach + self.season(self.place(now + *horizon as i64, step), output);
                *cell = if value.is_finite() { value } else { f64::NAN };
            }
        }
    }

    fn save(&self) -> Vec<u8> {
        saved(self)
    }

    fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.season.capacity() * size_of::<[f32; CONSTANTS.len()]>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_a_daily_jump() {
        for step in [60, 300, 3600] {
            let value = |at: i64| if (at * step).rem_euclid(86_400) / 3600 == 9 { 100.0 } else { 10.0 };
            let mut history = History::new(step, 14 * 86_400);
            let mut memory = HoltWinters.start(step, &[]);
            // Until 8 o'clock on the 15th day.
            for at in 0..(14 * 86_400 + 8 * 3600) / step {
                history.push(0, value(at));
                memory.advance(&history);
            }
            let hour = (3600 / step) as usize;
            let mut out = [f64::NAN; 4];
            memory.forecast(&history, &[hour.div_ceil(2), hour + hour.div_ceil(2)], &mut out);
            assert!(out[0] < 30.0 && out[1] > 75.0, "step {step}: {out:?}");
        }
    }
}
