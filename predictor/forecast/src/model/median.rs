//! Medians of the last half hour, two hours and six hours: dull alone, the best members on noisy series; and the quantiles
//! of the last two hours, the baseline for intervals.

use super::{Memory, Model};
use crate::history::History;
use crate::series::Series;

const TWO_HOURS_SECONDS: i64 = 7200;

/// Window of each output in seconds.
const WINDOWS_SECONDS: [i64; 3] = [1800, TWO_HOURS_SECONDS, 21_600];

/// Forecasts the median of a recent window.
#[derive(Debug, Clone, Copy)]
pub struct Median;

impl Model for Median {
    fn outputs(&self) -> &'static [&'static str] {
        &["median_30m", "median_2h", "median_6h"]
    }

    fn start(&self, _step: i64, _horizons: &[usize]) -> Box<dyn Memory> {
        Box::new(*self)
    }

    fn restore(&self, _step: i64, _horizons: &[usize], _saved: &[u8]) -> Option<Box<dyn Memory>> {
        Some(Box::new(*self))
    }
}

impl Memory for Median {
    fn advance(&mut self, _history: &History) {}

    fn forecast(&self, history: &History, horizons: &[usize], out: &mut [f64]) {
        let Some(now) = history.now() else { return };
        let mut window = Vec::new();
        for (seconds, row) in WINDOWS_SECONDS.into_iter().zip(out.chunks_exact_mut(horizons.len())) {
            window.clear();
            window.extend(history.known(now + 1 - history.steps(seconds) as i64, now));
            row.fill(median(&mut window).unwrap_or(f64::NAN));
        }
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

/// Returns the median, the mean of the middle two for an even number; `None` for an empty slice. Reorders the slice.
pub fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let middle = values.len() / 2;
    let odd = values.len() % 2 == 1;
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if odd {
        return Some(upper);
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(0.5 * lower + 0.5 * upper)
}

/// Returns the quantiles of the known values of the last two hours up to `origin`, by linear interpolation: what to expect
/// of a series of which nothing else is known. NaN without any known value.
pub fn two_hour_quantiles(series: &Series, origin: usize, quantiles: &[f64]) -> Vec<f64> {
    let width = series.steps(TWO_HOURS_SECONDS);
    let mut window: Vec<f64> = ((origin + 1).saturating_sub(width)..=origin).filter_map(|at| series.get(at)).collect();
    window.sort_by(f64::total_cmp);
    let at = |quantile: &f64| {
        let position = quantile * window.len().saturating_sub(1) as f64;
        let (low, share) = (position.floor() as usize, position.fract());
        let value = window.get(low).copied().unwrap_or(f64::NAN);
        value + share * (window.get(low + 1).copied().unwrap_or(value) - value)
    };
    quantiles.iter().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_a_window_are_interpolated_and_see_no_future() {
        let mut values: Vec<f64> = (0..100).map(f64::from).collect();
        values[95] = f64::NAN;
        let series = Series::new(0, 300, values).unwrap();
        // 24 steps of five minutes: 67 to 90.
        assert_eq!(two_hour_quantiles(&series, 90, &[0.0, 0.5, 1.0]), [67.0, 78.5, 90.0]);
        assert_eq!(two_hour_quantiles(&series, 99, &[1.0]), [99.0]);
        let unknown = Series::new(0, 300, vec![f64::NAN; 3]).unwrap();
        assert!(two_hour_quantiles(&unknown, 2, &[0.5])[0].is_nan());
    }

    #[test]
    fn medians() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0]), Some(3.0));
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&mut [9.0, 1.0, 3.0]), Some(3.0));
    }
}
