//! Other streaming detectors: values in, a score a row out, larger is stranger.

use std::collections::VecDeque;

/// Least standard deviation, as a share of the mean: below, differences are rounding.
const LEAST_SHARE: f64 = 1e-9;

/// Sums of a window of values.
#[derive(Debug, Default)]
struct Window {
    values: VecDeque<f64>,
}

impl Window {
    fn mean_and_deviation(&self) -> (f64, f64) {
        let count = self.values.len() as f64;
        let mean = self.values.iter().sum::<f64>() / count;
        let variance = self.values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        (mean, variance.sqrt().max(LEAST_SHARE * mean.abs()).max(f64::MIN_POSITIVE))
    }
}

/// Returns standard scores over the day before each row; 0 until a quarter of a day is known.
pub(crate) fn rolling_z(values: &[f64], step: i64) -> Vec<f64> {
    let day = (86_400 / step.max(1)).max(8) as usize;
    // Sums of the whole past, from which those of a window are differences; centred, so that little is lost.
    let centre = values.first().copied().unwrap_or(0.0);
    let (mut sums, mut squares) = (vec![0.0], vec![0.0]);
    let (mut sum, mut square) = (0.0, 0.0);
    for value in values {
        sum += value - centre;
        square += (value - centre).powi(2);
        sums.push(sum);
        squares.push(square);
    }
    let score = |row: usize| {
        let first = row.saturating_sub(day);
        let count = (row - first) as f64;
        if row - first < day / 4 {
            return 0.0;
        }
        let mean = (sums[row] - sums[first]) / count;
        let variance = ((squares[row] - squares[first]) / count - mean * mean).max(0.0);
        let deviation = variance.sqrt().max(LEAST_SHARE * (mean + centre).abs()).max(f64::MIN_POSITIVE);
        (values[row] - centre - mean).abs() / deviation
    };
    (0..values.len()).map(score).collect()
}

/// Returns the scores of NAB's Windowed Gaussian: mean and deviation of the last 6400 rows, renewed each hundred rows once
/// the window is full. NAB's own score is the normal tail probability of this distance, which has the same order but
/// cannot tell distances of more than eight deviations apart.
pub(crate) fn windowed_gaussian(values: &[f64]) -> Vec<f64> {
    const ROWS: usize = 6400;
    const RENEWED_EACH: usize = 100;
    let mut window = Window::default();
    let mut waiting = Vec::new();
    let (mut mean, mut deviation) = (0.0, 1.0);
    // Running sums while the window grows: there it is renewed with each row.
    let centre = values.first().copied().unwrap_or(0.0);
    let (mut sum, mut square) = (0.0, 0.0);
    let mut scores = Vec::with_capacity(values.len());
    for value in values {
        scores.push(if window.values.is_empty() { 0.0 } else { (value - mean).abs() / deviation });
        if window.values.len() < ROWS {
            window.values.push_back(*value);
            sum += value - centre;
            square += (value - centre).powi(2);
            let count = window.values.len() as f64;
            mean = centre + sum / count;
            let variance = (square / count - (sum / count).powi(2)).max(0.0);
            deviation = variance.sqrt().max(LEAST_SHARE * mean.abs()).max(f64::MIN_POSITIVE);
        } else {
            waiting.push(*value);
            if waiting.len() == RENEWED_EACH {
                window.values.drain(..RENEWED_EACH);
                window.values.extend(waiting.drain(..));
                (mean, deviation) = window.mean_and_deviation();
            }
        }
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(row: usize) -> f64 {
        1e6 + (row * 7919 % 1013) as f64
    }

    fn distance(window: std::ops::Range<usize>, row: usize) -> f64 {
        let values: Vec<f64> = window.map(value).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        (value(row) - mean).abs() / variance.sqrt()
    }

    #[test]
    fn running_sums_are_those_of_the_window() {
        let values: Vec<f64> = (0..8000).map(value).collect();
        let z = rolling_z(&values, 300);
        let gaussian = windowed_gaussian(&values);
        assert_eq!((z[71], gaussian[0]), (0.0, 0.0));
        for (got, wanted) in [
            (z[100], distance(0..100, 100)),
            (z[5000], distance(5000 - 288..5000, 5000)),
            (gaussian[3000], distance(0..3000, 3000)),
            // Full at 6400 rows, renewed after each hundred more.
            (gaussian[6450], distance(0..6400, 6450)),
            (gaussian[7250], distance(800..7200, 7250)),
        ] {
            assert!((got - wanted).abs() < 1e-6 * wanted.max(1.0), "{got} is not {wanted}");
        }
    }
}
