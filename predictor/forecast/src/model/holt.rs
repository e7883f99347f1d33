//! Holt's linear method with a damped trend (Gardner and McKenzie, 1985).

use serde::{Deserialize, Serialize};

use super::{CANDIDATE_RATE, Candidates, Memory, Model, array, restored, saved};
use crate::history::History;

/// Smoothing constants of level and trend.
const CANDIDATES: [(f64, f64); 12] = [
    (0.1, 0.02),
    (0.1, 0.1),
    (0.1, 0.3),
    (0.3, 0.02),
    (0.3, 0.1),
    (0.3, 0.3),
    (0.6, 0.02),
    (0.6, 0.1),
    (0.6, 0.3),
    (0.9, 0.02),
    (0.9, 0.1),
    (0.9, 0.3),
];
/// Share of the trend that is left after each step.
const DAMPING: f64 = 0.9;

/// Forecasts level + damped trend.
#[derive(Debug, Clone, Copy)]
pub struct DampedHolt;

impl Model for DampedHolt {
    fn outputs(&self) -> &'static [&'static str] {
        &["holt"]
    }

    fn start(&self, _step: i64, _horizons: &[usize]) -> Box<dyn Memory> {
        Box::new(Trend { states: [(f64::NAN, 0.0); CANDIDATES.len()], candidates: Candidates::new() })
    }

    fn restore(&self, _step: i64, _horizons: &[usize], bytes: &[u8]) -> Option<Box<dyn Memory>> {
        Some(Box::new(restored::<Trend>(bytes)?))
    }
}

/// Level and trend of one series, for each pair of constants.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Trend {
    #[serde(with = "array")]
    states: [(f64, f64); CANDIDATES.len()],
    candidates: Candidates<{ CANDIDATES.len() }>,
}

impl Memory for Trend {
    fn advance(&mut self, history: &History) {
        let value = history.now().and_then(|now| history.get(now));
        if self.states[0].0.is_nan() {
            if let Some(value) = value {
                self.states = [(value, 0.0); CANDIDATES.len()];
            }
            return;
        }
        let expected = self.states.map(|(level, trend)| level + DAMPING * trend);
        if let Some(value) = value {
            self.candidates.add(expected.map(|e| (value - e).abs()), CANDIDATE_RATE);
        }
        for (((level, trend), (alpha, beta)), expected) in self.states.iter_mut().zip(CANDIDATES).zip(expected) {
            let previous = *level;
            // A gap moves the level along the trend.
            *level = value.map_or(expected, |value| expected + alpha * (value - expected));
            *trend = beta * (*level - previous) + (1.0 - beta) * DAMPING * *trend;
        }
    }

    fn forecast(&self, _history: &History, horizons: &[usize], out: &mut [f64]) {
        let (level, trend) = self.states[self.candidates.best()];
        for (cell, horizon) in out.iter_mut().zip(horizons) {
            let reach = DAMPING * (1.0 - DAMPING.powf(*horizon as f64)) / (1.0 - DAMPING);
            let value = level + trend * reach;
            *cell = if value.is_finite() { value } else { f64::NAN };
        }
    }

    fn save(&self) -> Vec<u8> {
        saved(self)
    }

    fn heap_bytes(&self) -> usize {
        size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_a_line_and_levels_off() {
        let mut history = History::new(60, 86_400);
        let mut memory = DampedHolt.start(60, &[]);
        for value in 0..400 {
            history.push(0, f64::from(value));
            memory.advance(&history);
        }
        let mut out = [f64::NAN; 3];
        memory.forecast(&history, &[1, 5, 1000], &mut out);
        assert!((out[0] - 400.0).abs() < 0.5, "{out:?}");
        assert!(out[1] > out[0]);
        assert!(out[2] < 420.0);
    }
}
