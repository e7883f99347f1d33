//! Holt's linear method with a damped trend (Gardner and McKenzie, 1985).

use super::ses::RecentErrors;
use super::{History, Model, Table};

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
/// One-step errors that choose the constants.
const ERROR_WINDOW: usize = 500;

/// Forecasts level + damped trend.
#[derive(Debug, Clone, Copy)]
pub struct DampedHolt;

impl Model for DampedHolt {
    fn outputs(&self) -> &'static [&'static str] {
        &["holt"]
    }

    fn forecast(&self, history: &History<'_>, origins: &[usize], horizons: &[usize]) -> Vec<Table> {
        let mut table = Table::unknown(origins.len(), horizons.len());
        let mut state = [(f64::NAN, 0.0); CANDIDATES.len()];
        let mut recent = RecentErrors::<{ CANDIDATES.len() }>::new(ERROR_WINDOW);
        let mut next = origins.iter().enumerate().peekable();
        for (index, value) in history.series.values().iter().enumerate() {
            if next.peek().is_none() {
                break;
            }
            if state[0].0.is_nan() {
                if value.is_finite() {
                    state = [(*value, 0.0); CANDIDATES.len()];
                }
            } else {
                let expected = state.map(|(level, trend)| level + DAMPING * trend);
                if value.is_finite() {
                    recent.push(expected.map(|e| (value - e).abs()));
                }
                for (((level, trend), (alpha, beta)), expected) in state.iter_mut().zip(CANDIDATES).zip(expected) {
                    let previous = *level;
                    // A gap moves the level along the trend.
                    *level = if value.is_finite() { expected + alpha * (value - expected) } else { expected };
                    *trend = beta * (*level - previous) + (1.0 - beta) * DAMPING * *trend;
                }
            }
            while let Some((row, _)) = next.next_if(|(_, origin)| **origin == index) {
                let (level, trend) = state[recent.best()];
                for (cell, horizon) in table.row_mut(row).iter_mut().zip(horizons) {
                    let reach = DAMPING * (1.0 - DAMPING.powf(*horizon as f64)) / (1.0 - DAMPING);
                    *cell = level + trend * reach;
                }
            }
        }
        vec![table]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Series;

    #[test]
    fn follows_a_line_and_levels_off() {
        let series = Series::new(0, 60, (0..400).map(f64::from).collect()).unwrap();
        let table = &DampedHolt.forecast(&History::new(&series), &[399], &[1, 5, 1000])[0];
        assert!((table.get(0, 0) - 400.0).abs() < 0.5, "{}", table.get(0, 0));
        assert!(table.get(0, 1) > table.get(0, 0));
        assert!(table.get(0, 2) < 420.0);
    }
}
