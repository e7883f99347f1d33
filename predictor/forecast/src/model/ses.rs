//! Simple exponential smoothing with the smoothing constant that did best lately.

use serde::{Deserialize, Serialize};

use super::{CANDIDATE_RATE, Candidates, Memory, Model, array, restored, saved};
use crate::history::History;

const ALPHAS: [f64; 12] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0];

/// Forecasts the exponentially smoothed level.
#[derive(Debug, Clone, Copy)]
pub struct Ses;

impl Model for Ses {
    fn outputs(&self) -> &'static [&'static str] {
        &["ses"]
    }

    fn start(&self, _step: i64, _horizons: &[usize]) -> Box<dyn Memory> {
        Box::new(Smoothed::new())
    }

    fn restore(&self, _step: i64, _horizons: &[usize], bytes: &[u8]) -> Option<Box<dyn Memory>> {
        Some(Box::new(restored::<Smoothed>(bytes)?))
    }
}

/// Smoothed levels of one series, one for each constant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Smoothed {
    #[serde(with = "array")]
    levels: [f64; ALPHAS.len()],
    candidates: Candidates<{ ALPHAS.len() }>,
}

impl Smoothed {
    pub(super) fn new() -> Self {
        Self { levels: [f64::NAN; ALPHAS.len()], candidates: Candidates::new() }
    }

    /// Takes a known value.
    pub(super) fn add(&mut self, value: f64) {
        if self.levels[0].is_nan() {
            self.levels = [value; ALPHAS.len()];
            return;
        }
        self.candidates.add(self.levels.map(|level| (value - level).abs()), CANDIDATE_RATE);
        for (level, alpha) in self.levels.iter_mut().zip(ALPHAS) {
            *level += alpha * (value - *level);
        }
    }

    /// Returns the level by the constant with the least one-step error; NaN before the first value.
    pub(super) fn level(&self) -> f64 {
        self.levels[self.candidates.best()]
    }
}

impl Memory for Smoothed {
    fn advance(&mut self, history: &History) {
        // A gap leaves the level as it is.
        if let Some(value) = history.now().and_then(|now| history.get(now)) {
            self.add(value);
        }
    }

    fn forecast(&self, _history: &History, _horizons: &[usize], out: &mut [f64]) {
        out.fill(self.level());
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
    fn a_random_walk_takes_the_last_value_and_noise_the_mean() {
        let mut state = 1_u64;
        let mut uniform = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as f64 / (1_u64 << 31) as f64 - 0.5
        };
        let (mut walk, mut noise) = (Smoothed::new(), Smoothed::new());
        assert!(walk.level().is_nan());
        let mut at = 0.0;
        for _ in 0..2000 {
            at += uniform();
            walk.add(at);
            noise.add(uniform());
        }
        assert!((walk.level() - at).abs() < 0.1);
        assert!(noise.level().abs() < 0.15);
    }
}
