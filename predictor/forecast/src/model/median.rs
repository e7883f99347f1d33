//! Medians of the last half hour, two hours and six hours: dull alone, the best members on noisy series.

use super::{History, Model, Table};

/// Window of each output in seconds.
const WINDOWS_SECONDS: [i64; 3] = [1800, 7200, 21_600];

/// Forecasts the median of a recent window.
#[derive(Debug, Clone, Copy)]
pub struct Median;

impl Model for Median {
    fn outputs(&self) -> &'static [&'static str] {
        &["median_30m", "median_2h", "median_6h"]
    }

    fn forecast(&self, history: &History<'_>, origins: &[usize], horizons: &[usize]) -> Vec<Table> {
        let mut window = Vec::new();
        let tables = WINDOWS_SECONDS.map(|seconds| {
            let width = history.series.steps(seconds);
            let mut table = Table::unknown(origins.len(), horizons.len());
            for (row, origin) in origins.iter().enumerate() {
                window.clear();
                let recent = &history.series.values()[(origin + 1).saturating_sub(width)..=*origin];
                window.extend(recent.iter().filter(|value| value.is_finite()));
                table.row_mut(row).fill(median(&mut window).unwrap_or(f64::NAN));
            }
            table
        });
        tables.into()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0]), Some(3.0));
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&mut [9.0, 1.0, 3.0]), Some(3.0));
    }
}
