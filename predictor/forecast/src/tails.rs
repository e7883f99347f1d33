//! Quantiles of a stream of errors in constant memory: errors in, one by one; their quantiles of late out.
//!
//! Each quantile moves by the rule of stochastic approximation (Robbins and Monro, 1951) for the pinball loss: up by its
//! level where the error lies above, down by the complement where it lies below, in steps of the mean absolute error.

use serde::{Deserialize, Serialize};

use crate::network::LEVELS;

/// Share of the mean absolute error that a quantile moves at least: it remembers about a day of scored origins.
const LEAST_RATE: f32 = 0.03;
/// With fewer errors nothing is said.
const MIN_ERRORS: u32 = 8;

/// The quantiles at [`LEVELS`].
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Tails {
    quantiles: [f32; LEVELS.len()],
    count: u32,
}

impl Tails {
    /// Learns an error, where errors are of the size `mean` (their mean absolute value of late).
    pub(crate) fn learn(&mut self, error: f32, mean: f32) {
        if !error.is_finite() || !mean.is_finite() {
            return;
        }
        self.count = self.count.saturating_add(1);
        let rate = 2.0 * mean * (1.0 / (self.count as f32).sqrt()).max(LEAST_RATE);
        for (quantile, level) in self.quantiles.iter_mut().zip(LEVELS) {
            let level = level as f32;
            if error > *quantile {
                *quantile += rate * level;
            } else if error < *quantile {
                *quantile -= rate * (1.0 - level);
            }
        }
        self.quantiles.sort_unstable_by(f32::total_cmp);
    }

    /// Returns the quantiles; NaN while too little is known.
    pub(crate) fn quantiles(&self) -> [f64; LEVELS.len()] {
        if self.count < MIN_ERRORS { [f64::NAN; LEVELS.len()] } else { self.quantiles.map(f64::from) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_uniform_errors_are_found_and_followed() {
        let (mut tails, mut state) = (Tails::default(), 3_u64);
        let mut push = |tails: &mut Tails, factor: f32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let uniform = (state >> 33) as f32 / (1_u64 << 31) as f32;
            tails.learn(factor * uniform, factor * 0.5);
        };
        for _ in 0..7 {
            push(&mut tails, 1.0);
        }
        assert!(tails.quantiles()[0].is_nan());
        for (factor, count) in [(1.0, 2000), (10.0, 600)] {
            for _ in 0..count {
                push(&mut tails, factor);
            }
            // They keep moving, around where they belong.
            let mut means = [0.0; LEVELS.len()];
            for _ in 0..400 {
                push(&mut tails, factor);
                means.iter_mut().zip(tails.quantiles()).for_each(|(mean, quantile)| *mean += quantile / 400.0);
            }
            for (found, level) in means.into_iter().zip(LEVELS) {
                assert!((found / f64::from(factor) - level).abs() < 0.06, "{found} {level}");
            }
        }
        tails.learn(f32::NAN, 1.0);
        assert!(tails.quantiles().is_sorted());
    }
}
