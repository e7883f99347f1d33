//! Samples in; an evenly spaced series with explicit gaps out.

/// An evenly spaced series. A gap is NaN: absent, stale and non-finite samples all become gaps, never zero.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    start: i64,
    step: i64,
    values: Vec<f64>,
}

/// Why samples make no series.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SeriesError {
    /// The step is not positive.
    #[error("step is {0} s, it must be positive")]
    Step(i64),
    /// No sample has a finite value.
    #[error("no sample has a finite value")]
    Empty,
    /// The samples would make an unreasonably long grid.
    #[error("{span} s at a step of {step} s make more than {MAX_LEN} samples; use a longer step")]
    TooLong {
        /// Seconds between the first and the last sample.
        span: i64,
        /// Step in seconds.
        step: i64,
    },
}

/// A grid longer than this is a mistake in step or timestamps (three years of 15 s samples).
pub const MAX_LEN: usize = 6_400_000;

impl Series {
    /// Returns the series whose first value is at `start` (Unix seconds) and whose values are `step` seconds apart;
    /// non-finite values become gaps.
    ///
    /// # Errors
    /// [`SeriesError::Step`] for a step that is not positive.
    pub fn new(start: i64, step: i64, mut values: Vec<f64>) -> Result<Self, SeriesError> {
        if step <= 0 {
            return Err(SeriesError::Step(step));
        }
        for value in &mut values {
            if !value.is_finite() {
                *value = f64::NAN;
            }
        }
        Ok(Self { start, step, values })
    }

    /// Puts samples (Unix seconds, value; ascending in time) on a grid that starts at the first one. Each sample goes to
    /// the nearest grid point; of several there the last one wins.
    ///
    /// # Errors
    /// [`SeriesError`] for a bad step, no finite value, or a grid beyond [`MAX_LEN`].
    pub fn from_samples(samples: &[(f64, f64)], step: i64) -> Result<Self, SeriesError> {
        if step <= 0 {
            return Err(SeriesError::Step(step));
        }
        if !samples.iter().any(|(_, value)| value.is_finite()) {
            return Err(SeriesError::Empty);
        }
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Err(SeriesError::Empty) };
        let start = first.0.round() as i64;
        let span = (last.0 - first.0).max(0.0);
        let len = (span / step as f64).round() + 1.0;
        if len > MAX_LEN as f64 {
            return Err(SeriesError::TooLong { span: span as i64, step });
        }
        let mut values = vec![f64::NAN; len as usize];
        for (time, value) in samples {
            let index = ((time - start as f64) / step as f64).round();
            if index >= 0.0
                && let Some(slot) = values.get_mut(index as usize)
            {
                *slot = if value.is_finite() { *value } else { f64::NAN };
            }
        }
        Self::new(start, step, values)
    }

    /// Returns the usual distance of timestamps: their median difference in whole seconds, at least 1. `None` for fewer
    /// than two timestamps.
    pub fn infer_step(timestamps: &[f64]) -> Option<i64> {
        let mut differences: Vec<f64> =
            timestamps.windows(2).map(|pair| pair[1] - pair[0]).filter(|d| *d > 0.0).collect();
        if differences.is_empty() {
            return None;
        }
        let middle = differences.len() / 2;
        let (_, median, _) = differences.select_nth_unstable_by(middle, f64::total_cmp);
        Some((median.round() as i64).max(1))
    }

    /// Returns the time of the first value, Unix seconds.
    pub const fn start(&self) -> i64 {
        self.start
    }

    /// Returns the distance of values in seconds.
    pub const fn step(&self) -> i64 {
        self.step
    }

    /// Returns the number of values, gaps included.
    pub const fn len(&self) -> usize {
        self.values.len()
    }

    /// Returns whether there is no value at all.
    pub const fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns all values; a gap is NaN.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Returns the value at `index`; `None` for a gap or outside.
    pub fn get(&self, index: usize) -> Option<f64> {
        self.values.get(index).copied().filter(|value| value.is_finite())
    }

    /// Returns the time of `index`, Unix seconds; also past the end.
    pub const fn time(&self, index: usize) -> i64 {
        self.start + index as i64 * self.step
    }

    /// Returns the number of the grid point since the epoch: the same for the same time whatever the series' start.
    pub const fn absolute(&self, index: usize) -> i64 {
        self.start.div_euclid(self.step) + index as i64
    }

    /// Returns the index of the last known value.
    pub fn last_known(&self) -> Option<usize> {
        self.values.iter().rposition(|value| value.is_finite())
    }

    /// Returns the number of known values.
    pub fn known(&self) -> usize {
        self.values.iter().filter(|value| value.is_finite()).count()
    }

    /// Returns the series as it was known at `origin`: later values are gone.
    #[must_use]
    pub fn cut(&self, origin: usize) -> Self {
        Self { start: self.start, step: self.step, values: self.values[..=origin.min(self.len() - 1)].to_vec() }
    }

    /// Returns how many steps cover `seconds`, at least 1, rounded to the nearest.
    pub fn steps(&self, seconds: i64) -> usize {
        steps(seconds, self.step)
    }

    /// Adds values at the end, or replaces what is there at the same times: `samples` as in [`Series::from_samples`].
    /// Samples before the start are ignored. Returns how many values were added or changed.
    pub fn extend(&mut self, samples: &[(f64, f64)]) -> usize {
        let mut changed = 0;
        for (time, value) in samples {
            let index = ((time - self.start as f64) / self.step as f64).round();
            if !(0.0..MAX_LEN as f64).contains(&index) {
                continue;
            }
            let index = index as usize;
            if index >= self.values.len() {
                self.values.resize(index + 1, f64::NAN);
            }
            let value = if value.is_finite() { *value } else { f64::NAN };
            if self.values[index].to_bits() != value.to_bits() {
                self.values[index] = value;
                changed += 1;
            }
        }
        changed
    }

    /// Forgets all but the last `keep` values.
    pub fn trim(&mut self, keep: usize) {
        let excess = self.values.len().saturating_sub(keep);
        self.values.drain(..excess);
        self.start += excess as i64 * self.step;
    }
}

/// Returns how many steps of `step` seconds cover `seconds`, at least 1, rounded to the nearest.
pub fn steps(seconds: i64, step: i64) -> usize {
    ((seconds + step / 2) / step).max(1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_stay_gaps() {
        let series = Series::from_samples(&[(100.0, 1.0), (160.4, f64::INFINITY), (280.0, 4.0)], 60).unwrap();
        assert_eq!((series.start(), series.len(), series.known()), (100, 4, 2));
        assert_eq!((series.get(0), series.get(1), series.get(2), series.get(3)), (Some(1.0), None, None, Some(4.0)));
        assert_eq!(series.time(3), 280);
    }

    #[test]
    fn the_last_of_equal_timestamps_wins() {
        let series = Series::from_samples(&[(0.0, 1.0), (60.0, 2.0), (60.0, 3.0)], 60).unwrap();
        assert_eq!(series.values(), [1.0, 3.0]);
    }

    #[test]
    fn nothing_known_is_no_series() {
        assert_eq!(Series::from_samples(&[], 60), Err(SeriesError::Empty));
        assert_eq!(Series::from_samples(&[(0.0, f64::NAN)], 60), Err(SeriesError::Empty));
        assert_eq!(Series::from_samples(&[(0.0, 1.0)], 0), Err(SeriesError::Step(0)));
        assert!(matches!(Series::from_samples(&[(0.0, 1.0), (1e12, 1.0)], 1), Err(SeriesError::TooLong { .. })));
    }

    #[test]
    fn extends_and_trims_on_the_same_grid() {
        let mut series = Series::from_samples(&[(0.0, 1.0), (60.0, 2.0)], 60).unwrap();
        assert_eq!(series.extend(&[(60.0, 2.5), (180.0, 4.0), (-600.0, 9.0)]), 2);
        assert_eq!((series.len(), series.get(2), series.get(3)), (4, None, Some(4.0)));
        let absolute = series.absolute(3);
        series.trim(2);
        assert_eq!((series.start(), series.len(), series.absolute(1)), (120, 2, absolute));
    }

    #[test]
    fn infers_the_step() {
        assert_eq!(Series::infer_step(&[0.0, 60.0, 120.0, 600.0, 660.0]), Some(60));
        assert_eq!(Series::infer_step(&[5.0]), None);
    }
}
