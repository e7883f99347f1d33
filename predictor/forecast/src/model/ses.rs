//! Simple exponential smoothing with the smoothing constant that did best lately.

use std::collections::VecDeque;

use super::{History, Model, Table};

const ALPHAS: [f64; 12] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0];
/// One-step errors that choose the constant.
const ERROR_WINDOW: usize = 500;

/// Forecasts the exponentially smoothed level.
#[derive(Debug, Clone, Copy)]
pub struct Ses;

impl Model for Ses {
    fn outputs(&self) -> &'static [&'static str] {
        &["ses"]
    }

    fn forecast(&self, history: &History<'_>, origins: &[usize], horizons: &[usize]) -> Vec<Table> {
        let mut table = Table::unknown(origins.len(), horizons.len());
        for (row, level) in levels(history.series.values(), origins).into_iter().enumerate() {
            table.row_mut(row).fill(level);
        }
        vec![table]
    }
}

/// Returns the smoothed level at each of `wanted` (ascending indices), by the constant of [`ALPHAS`] with the least mean
/// absolute one-step error over the last 500; NaN before the first known value. Gaps leave the level as it is.
pub(crate) fn levels(values: &[f64], wanted: &[usize]) -> Vec<f64> {
    let mut level = [f64::NAN; ALPHAS.len()];
    let mut recent = RecentErrors::<{ ALPHAS.len() }>::new(ERROR_WINDOW);
    let mut out = Vec::with_capacity(wanted.len());
    let mut next = wanted.iter().peekable();
    for (index, value) in values.iter().enumerate() {
        if next.peek().is_none() {
            break;
        }
        if value.is_finite() {
            if level[0].is_nan() {
                level = [*value; ALPHAS.len()];
            } else {
                let errors = level.map(|l| (value - l).abs());
                recent.push(errors);
                for (l, alpha) in level.iter_mut().zip(ALPHAS) {
                    *l += alpha * (value - *l);
                }
            }
        }
        while next.next_if(|w| **w == index).is_some() {
            out.push(level[recent.best()]);
        }
    }
    out
}

/// Absolute errors of `N` candidates over the last pushes.
#[derive(Debug)]
pub(crate) struct RecentErrors<const N: usize> {
    window: usize,
    errors: VecDeque<[f64; N]>,
    sums: [f64; N],
}

impl<const N: usize> RecentErrors<N> {
    pub(crate) fn new(window: usize) -> Self {
        Self { window, errors: VecDeque::with_capacity(window), sums: [0.0; N] }
    }

    pub(crate) fn push(&mut self, errors: [f64; N]) {
        let oldest = if self.errors.len() == self.window { self.errors.pop_front() } else { None };
        self.errors.push_back(errors);
        for candidate in 0..N {
            self.sums[candidate] += errors[candidate] - oldest.map_or(0.0, |old| old[candidate]);
        }
    }

    /// The candidate with the least sum, the first of equals.
    pub(crate) fn best(&self) -> usize {
        let mut best = 0;
        for candidate in 1..N {
            if self.sums[candidate] < self.sums[best] {
                best = candidate;
            }
        }
        best
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
        let mut at = 0.0;
        let walk: Vec<f64> = (0..2000)
            .map(|_| {
                at += uniform();
                at
            })
            .collect();
        let noise: Vec<f64> = (0..2000).map(|_| uniform()).collect();
        assert!((levels(&walk, &[1999])[0] - walk[1999]).abs() < 0.1);
        assert!(levels(&noise, &[1999])[0].abs() < 0.15);
    }

    #[test]
    fn leading_gaps_are_unknown() {
        let levels = levels(&[f64::NAN, 2.0, f64::NAN], &[0, 1, 2]);
        assert!(levels[0].is_nan());
        assert_eq!(levels[1..], [2.0, 2.0]);
    }
}
