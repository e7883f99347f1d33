//! Forecasts and what came true in; error, skill and coverage out.

use crate::ensemble::Forecast;
use crate::series::Series;

/// Accuracy of point forecasts and quantiles over resolved targets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Accuracy {
    /// Resolved targets.
    pub count: usize,
    /// Mean absolute error of the point, in the unit of the series.
    pub mae: f64,
    /// Mean absolute scaled error: MAE over the mean absolute difference of one day on the history (Hyndman and
    /// Koehler, 2006, with the day as season); NaN where that is 0 or unknown.
    pub mase: f64,
    /// Mean of point − observation: positive is too high.
    pub bias: f64,
    /// Weighted quantile loss: 2·Σ pinball / (quantiles · Σ|y|); NaN for an all-zero series.
    pub wql: f64,
}

/// Sums of one model at one horizon.
#[derive(Debug, Clone, Default)]
pub struct Score {
    count: usize,
    absolute: f64,
    signed: f64,
    pinball: f64,
    pinball_count: usize,
    magnitude: f64,
}

impl Score {
    /// Adds a resolved target; `quantiles` holds (quantile, forecast) and may be empty. NaN forecasts are not counted:
    /// compare models by [`Score::count`] before comparing their errors.
    pub fn add(&mut self, actual: f64, point: f64, quantiles: impl IntoIterator<Item = (f64, f64)>) {
        if !actual.is_finite() || !point.is_finite() {
            return;
        }
        self.count += 1;
        self.absolute += (point - actual).abs();
        self.signed += point - actual;
        self.magnitude += actual.abs();
        for (quantile, value) in quantiles {
            if value.is_finite() {
                self.pinball += pinball(actual, value, quantile);
                self.pinball_count += 1;
            }
        }
    }

    /// Returns the number of resolved targets.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Returns the means; `scale` is [`day_scale`] of the history.
    pub fn accuracy(&self, scale: Option<f64>) -> Accuracy {
        let count = self.count as f64;
        let mae = self.absolute / count;
        Accuracy {
            count: self.count,
            mae,
            mase: scale.filter(|s| *s > 0.0).map_or(f64::NAN, |s| mae / s),
            bias: self.signed / count,
            wql: if self.magnitude > 0.0 && self.pinball_count > 0 {
                2.0 * self.pinball / self.pinball_count as f64 / (self.magnitude / count)
            } else {
                f64::NAN
            },
        }
    }
}

/// Returns the pinball loss of a quantile forecast.
pub fn pinball(actual: f64, forecast: f64, quantile: f64) -> f64 {
    let difference = actual - forecast;
    if difference >= 0.0 { quantile * difference } else { (quantile - 1.0) * difference }
}

/// Share of observations inside intervals of one nominal level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Coverage {
    /// Observations inside.
    pub inside: usize,
    /// All observations.
    pub count: usize,
}

impl Coverage {
    /// Adds one observation; unknown bounds are not counted.
    pub fn add(&mut self, actual: f64, lower: f64, upper: f64) {
        if actual.is_finite() && !lower.is_nan() && !upper.is_nan() {
            self.count += 1;
            self.inside += usize::from(lower <= actual && actual <= upper);
        }
    }

    /// Returns the share, `None` without observations.
    pub fn ratio(self) -> Option<f64> {
        (self.count > 0).then(|| self.inside as f64 / self.count as f64)
    }
}

/// Returns the mean absolute difference of values one day apart up to `until` (one step apart where the history is
/// shorter than two days): the unit of MASE. `None` where nothing is known.
pub fn day_scale(series: &Series, until: usize) -> Option<f64> {
    let day = series.steps(86_400);
    let lag = if until >= 2 * day { day } else { 1 };
    let (mut sum, mut count) = (0.0, 0_usize);
    for index in lag..=until {
        if let (Some(now), Some(then)) = (series.get(index), series.get(index - lag)) {
            sum += (now - then).abs();
            count += 1;
        }
    }
    (count > 0).then(|| sum / count as f64)
}

/// Returns the highest known value in (origin, origin + horizon], the target of a peak forecast; `None` where any value
/// is missing: a peak with a gap is not known.
pub fn peak(series: &Series, origin: usize, horizon: usize) -> Option<f64> {
    let mut highest = f64::NEG_INFINITY;
    for index in origin + 1..=origin + horizon {
        highest = highest.max(series.get(index)?);
    }
    highest.is_finite().then_some(highest)
}

/// Returns the origins of a rolling-origin evaluation: `count` indices, evenly from `warmup` to the last one at which the
/// longest horizon still resolves, whose own value is known.
pub fn rolling_origins(series: &Series, warmup: usize, longest: usize, count: usize) -> Vec<usize> {
    let Some(last) = series.len().checked_sub(longest + 1) else { return Vec::new() };
    if last < warmup || count == 0 {
        return Vec::new();
    }
    let span = (last - warmup) as f64;
    let mut origins: Vec<usize> = (0..count)
        .map(|i| warmup + if count == 1 { span } else { (span * i as f64 / (count - 1) as f64).round() } as usize)
        .filter(|origin| series.get(*origin).is_some())
        .collect();
    origins.dedup();
    origins
}

/// Returns (actual, entry index) pairs of a forecast's horizons that have come true.
pub fn resolved<'f>(series: &'f Series, forecast: &'f Forecast) -> impl Iterator<Item = (f64, usize)> + 'f {
    forecast
        .horizons
        .iter()
        .enumerate()
        .filter_map(|(i, entry)| Some((series.get(forecast.origin + entry.horizon)?, i)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_their_definitions() {
        let mut score = Score::default();
        score.add(10.0, 12.0, [(0.9, 15.0), (0.1, 9.0)]);
        score.add(20.0, 16.0, [(0.9, 18.0), (0.1, 14.0)]);
        score.add(f64::NAN, 1.0, []);
        score.add(1.0, f64::NAN, []);
        let accuracy = score.accuracy(Some(6.0));
        assert_eq!((accuracy.count, accuracy.mae, accuracy.bias, accuracy.mase), (2, 3.0, -1.0, 0.5));
        // pinball: 0.5 + 0.1 + 1.8 + 0.6 = 3.0 over 4 quantile forecasts; mean |y| = 15
        assert!((accuracy.wql - 2.0 * (3.0 / 4.0) / 15.0).abs() < 1e-12);
    }

    #[test]
    fn a_peak_with_a_gap_is_unknown() {
        let series = Series::new(0, 60, vec![1.0, 5.0, f64::NAN, 2.0, 3.0]).unwrap();
        assert_eq!(peak(&series, 0, 1), Some(5.0));
        assert_eq!(peak(&series, 0, 2), None);
        assert_eq!(peak(&series, 2, 2), Some(3.0));
        assert_eq!(peak(&series, 2, 3), None);
    }

    #[test]
    fn origins_are_spread_and_resolvable() {
        let series = Series::new(0, 60, vec![1.0; 100]).unwrap();
        assert_eq!(rolling_origins(&series, 50, 9, 5), [50, 60, 70, 80, 90]);
        assert!(rolling_origins(&series, 95, 9, 5).is_empty());
        assert!(rolling_origins(&series, 0, 100, 5).is_empty());
    }
}
