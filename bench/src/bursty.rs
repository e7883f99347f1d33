//! Whether a series is bursty: its last day in, yes or no out.
//!
//! A bursty series rests most of the time and then jumps: a backup's disk writes, a queue that is drained. Such series are
//! shown apart because a pool of trend and season models could be wrong for them.

use cloudpulse_forecast::series::{Series, steps};

/// What is looked at, in seconds.
const WINDOW_SECONDS: i64 = 86_400;
/// Less than this, in seconds, says nothing.
const LEAST_SECONDS: i64 = 7200;
/// The median of a bursty series is below this share of its mean.
const MEDIAN_SHARE: f64 = 0.2;

/// Returns whether the series is bursty by its known values of the day up to `origin`: the median lies far below the mean,
/// or one value makes more than half of all. A constant is not, nor one of which less than two hours are known.
pub(crate) fn is_bursty(series: &Series, origin: usize) -> bool {
    let first = (origin + 1).saturating_sub(steps(WINDOW_SECONDS, series.step()));
    let mut values: Vec<f64> = (first..=origin).filter_map(|index| series.get(index)).collect();
    let count = values.len();
    if count < steps(LEAST_SECONDS, series.step()).max(2) {
        return false;
    }
    let mean = values.iter().sum::<f64>() / count as f64;
    // A value that makes more than half of all is the median.
    let median = *values.select_nth_unstable_by(count / 2, f64::total_cmp).1;
    let equal = values.iter().filter(|value| **value == median).count();
    equal < count && (2 * equal > count || median < MEDIAN_SHARE * mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bursty(value: impl Fn(usize) -> f64) -> bool {
        is_bursty(&Series::new(0, 300, (0..400).map(value).collect()).unwrap(), 399)
    }

    #[test]
    fn bursts_are_told_from_steady_load() {
        assert!(bursty(|i| if i % 10 == 0 { 100.0 } else { 0.001 * i as f64 }), "the median is far below the mean");
        assert!(bursty(|i| if i % 3 == 0 { 5.0 + i as f64 } else { 4.0 }), "one value makes two thirds");
        assert!(!bursty(|i| 50.0 + (i as f64 / 20.0).sin()));
        assert!(!bursty(|_| 7.0), "a constant has no bursts");
        assert!(!bursty(|i| if i < 380 { f64::NAN } else { (i % 2) as f64 }), "less than two hours are known");
    }
}
