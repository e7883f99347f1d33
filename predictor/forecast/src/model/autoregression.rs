//! An autoregression of order 12 on the last values, fitted by Burg's method (Burg, 1975).
//!
//! Burg's recursion minimises the forward and backward one-step errors and keeps every reflection coefficient within
//! (−1, 1), so that the fitted process is stationary. Its roots are then drawn in a little more, so that a series close to
//! a random walk does not swing far ahead.

use serde::{Deserialize, Serialize};

use super::{Memory, Model, restored, saved};
use crate::history::History;

/// Lags.
const ORDER: usize = 12;
/// Values that it is fitted on.
const WINDOW: i64 = 1500;
/// Fewer values make no fit.
const MIN_VALUES: usize = 4 * ORDER;
/// No root is left further out than this.
const ROOT_LIMIT: f64 = 0.9995;
const REFIT_SECONDS: i64 = 1800;

/// Forecasts by iterating the fitted one-step forecast.
#[derive(Debug, Clone, Copy)]
pub struct Autoregression;

impl Model for Autoregression {
    fn outputs(&self) -> &'static [&'static str] {
        &["ar"]
    }

    fn start(&self, _step: i64, _horizons: &[usize]) -> Box<dyn Memory> {
        Box::new(Fitted { mean: f64::NAN, coefficients: Vec::new() })
    }

    fn refit_seconds(&self) -> Option<i64> {
        Some(REFIT_SECONDS)
    }

    fn restore(&self, _step: i64, _horizons: &[usize], bytes: &[u8]) -> Option<Box<dyn Memory>> {
        Some(Box::new(restored::<Fitted>(bytes)?))
    }
}

/// The coefficients of one series, by lag; none before the first fit.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Fitted {
    mean: f64,
    coefficients: Vec<f64>,
}

impl Memory for Fitted {
    fn advance(&mut self, _history: &History) {}

    fn refit(&mut self, history: &History) {
        let Some(now) = history.now() else { return };
        let mut window = history.filled(now - WINDOW + 1, now);
        while window.first().is_some_and(|value| value.is_nan()) {
            window = &window[1..];
        }
        if window.len() < MIN_VALUES {
            return;
        }
        let mean = window.iter().sum::<f64>() / window.len() as f64;
        if let Some(mut coefficients) = burg(window, mean, ORDER) {
            let mut shrink = 1.0;
            for coefficient in &mut coefficients {
                shrink *= ROOT_LIMIT;
                *coefficient *= shrink;
            }
            *self = Self { mean, coefficients };
        }
    }

    fn forecast(&self, history: &History, horizons: &[usize], out: &mut [f64]) {
        let (Some(now), false) = (history.now(), self.coefficients.is_empty()) else { return };
        let order = self.coefficients.len();
        let recent = history.filled(now - order as i64 + 1, now);
        let Some(longest) = horizons.iter().max().filter(|_| recent.len() == order) else { return };
        // The newest value first.
        let mut state: Vec<f64> = recent.iter().rev().map(|value| value - self.mean).collect();
        for ahead in 1..=*longest {
            let next: f64 = state.iter().zip(&self.coefficients).map(|(value, c)| value * c).sum();
            state.rotate_right(1);
            state[0] = next;
            let value = self.mean + next;
            for (cell, _) in out.iter_mut().zip(horizons).filter(|(_, horizon)| **horizon == ahead) {
                *cell = if value.is_finite() { value } else { f64::NAN };
            }
            // Nothing changes any more.
            if state.iter().all(|value| value.abs() <= 1e-9 * self.mean.abs() + f64::MIN_POSITIVE) {
                for (cell, _) in out.iter_mut().zip(horizons).filter(|(_, horizon)| **horizon > ahead) {
                    *cell = value;
                }
                return;
            }
        }
    }

    fn save(&self) -> Vec<u8> {
        saved(self)
    }

    fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.coefficients.capacity() * size_of::<f64>()
    }
}

/// Returns the coefficients of the process around `mean`, by lag; `None` where the values are not finite or do not vary.
fn burg(values: &[f64], mean: f64, order: usize) -> Option<Vec<f64>> {
    let mut forward: Vec<f64> = values.iter().map(|value| value - mean).collect();
    let mut backward = forward.clone();
    let power = forward.iter().map(|value| value * value).sum::<f64>();
    if !power.is_finite() || power <= 1e-12 * mean * mean * values.len() as f64 {
        return None;
    }
    // Error filter: 1, then the negated coefficients.
    let mut filter = vec![1.0];
    for k in 0..order {
        let (ahead, behind) = (&forward[k + 1..], &backward[k..values.len() - 1]);
        let (mut cross, mut both) = (0.0, 0.0);
        for (f, b) in ahead.iter().zip(behind) {
            cross += f * b;
            both += f * f + b * b;
        }
        if both <= 1e-12 * power {
            break;
        }
        let reflection = -2.0 * cross / both;
        let mut next = filter.clone();
        next.push(0.0);
        for (i, value) in next.iter_mut().enumerate().skip(1) {
            *value += reflection * filter[k + 1 - i];
        }
        filter = next;
        for i in (k + 1..values.len()).rev() {
            let (f, b) = (forward[i], backward[i - 1]);
            forward[i] = f + reflection * b;
            backward[i] = b + reflection * f;
        }
    }
    let coefficients: Vec<f64> = filter[1..].iter().map(|value| -value).collect();
    (!coefficients.is_empty() && coefficients.iter().all(|value| value.is_finite())).then_some(coefficients)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simulated(coefficients: &[f64], len: usize) -> Vec<f64> {
        let mut state = 3_u64;
        let mut values = vec![0.0; coefficients.len()];
        for _ in 0..len {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise = (state >> 33) as f64 / (1_u64 << 31) as f64 - 0.5;
            let past: f64 = values.iter().rev().zip(coefficients).map(|(value, c)| value * c).sum();
            values.push(past + noise);
        }
        values
    }

    #[test]
    fn finds_the_coefficients_of_a_known_process() {
        let values = simulated(&[1.2, -0.5], 1500);
        let found = burg(&values, 0.0, 4).unwrap();
        for (found, expected) in found.iter().zip([1.2, -0.5, 0.0, 0.0]) {
            assert!((found - expected).abs() < 0.07, "{found} {expected}");
        }
    }

    #[test]
    fn a_random_walk_does_not_swing() {
        let mut history = History::new(60, 86_400);
        let mut memory = Autoregression.start(60, &[]);
        let walk = simulated(&[1.0], 1500);
        for value in &walk {
            history.push(0, 1000.0 + value);
        }
        memory.refit(&history);
        let mut out = [f64::NAN; 4];
        memory.forecast(&history, &[1, 60, 1440, 100_000], &mut out);
        let (least, most) = history.range().unwrap();
        assert!(out.iter().all(|value| (least - 1.0..=most + 1.0).contains(value)), "{out:?} {least} {most}");
    }
}
