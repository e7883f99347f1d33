//! The series of a group over the same recent window in; which of them behave unlike the others out.
//!
//! An anomaly is a row unlike its series' own past, an outlier a series unlike its siblings now: the one replica of a job
//! that leaks, hangs or gets no traffic. The detectors are augurs'. Each series is first taken relative to the group's
//! median at the same time, so that what all do together (the daily wave, a load spike) is no difference.

use augurs_outlier::{DbscanDetector, Error, MADDetector, OutlierDetector as _, OutlierOutput};
use serde::{Deserialize, Serialize};

/// A group is compared from this many series on.
pub const LEAST_SERIES: usize = 3;
/// Medians of deviations need this many: with fewer, a lone outlier makes up half of the deviations on its side.
const LEAST_SERIES_FOR_MAD: usize = 5;
/// Differences below this share of the group's median are small, however alike the series are.
const LEAST_SHARE: f64 = 0.01;
/// A series is an outlier where it is one in more than this share of its values.
const OUTLYING_SHARE: f64 = 0.5;

/// How series are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Clusters of neighbouring values at each time (DBSCAN in one dimension): a value is outlying when it is outside the
    /// cluster of the majority.
    #[default]
    Dbscan,
    /// Median absolute deviations, one for each side, over the whole window: a value is outlying when it is some of them
    /// away. Needs five series and some difference between most of them; where these are missing, [`Method::Dbscan`]
    /// answers.
    Mad,
}

/// What counts as an outlier.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// How series are compared.
    pub method: Method,
    /// Between 0 and 1, both excluded; larger finds more.
    pub sensitivity: f64,
    /// Differences from the group's median below this never count, in the unit of the series. One per cent of the median's
    /// size is the least in any case.
    pub min_deviation: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { method: Method::default(), sensitivity: 0.5, min_deviation: 0.0 }
    }
}

/// Why a group cannot be compared.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OutlierError {
    /// There are too few series.
    #[error("{0} series cannot be compared, it takes {LEAST_SERIES}")]
    TooFew(usize),
    /// The windows differ in length.
    #[error("series {index} has {len} values and the first one {first}; windows must be aligned")]
    Unaligned {
        /// Place of the series.
        index: usize,
        /// Its length.
        len: usize,
        /// Length of the first series.
        first: usize,
    },
    /// The sensitivity is not between 0 and 1.
    #[error("sensitivity is {0}, it must lie between 0 and 1")]
    Sensitivity(f64),
    /// The detector failed.
    #[error("comparing the series: {0}")]
    Detector(String),
}

impl From<Error> for OutlierError {
    fn from(error: Error) -> Self {
        Self::Detector(error.to_string())
    }
}

/// What is said of one series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlier {
    /// Share of its values in the window that are outlying, 0 to 1; `None` where it has no value that could be compared.
    pub outlying_ratio: Option<f64>,
    /// Whether more than half are.
    pub is_outlier: bool,
}

/// Compares the series of a group and returns one entry for each. `windows` holds one slice a series; values at the same
/// place are of the same time, what is not finite is missing. Times with fewer than three known values say nothing, nor do
/// those at which no majority is alike.
///
/// # Errors
/// [`OutlierError`] for fewer than three series, windows of different lengths, or a sensitivity out of range.
pub fn outliers(windows: &[&[f64]], options: &Options) -> Result<Vec<Outlier>, OutlierError> {
    let &Options { method, sensitivity, min_deviation } = options;
    let first = windows.first().map_or(0, |window| window.len());
    if windows.len() < LEAST_SERIES {
        return Err(OutlierError::TooFew(windows.len()));
    }
    if let Some(index) = windows.iter().position(|window| window.len() != first) {
        return Err(OutlierError::Unaligned { index, len: windows[index].len(), first });
    }
    if !(sensitivity > 0.0 && sensitivity < 1.0) {
        return Err(OutlierError::Sensitivity(sensitivity));
    }
    let centres = centres(windows, first);
    let size = median(centres.iter().map(|centre| centre.abs())).unwrap_or(0.0);
    let least = min_deviation.max(LEAST_SHARE * size);
    let differences: Vec<Vec<f64>> = windows
        .iter()
        .map(|window| window.iter().zip(&centres).map(|(value, centre)| value - centre).collect())
        .collect();
    let rows: Vec<&[f64]> = differences.iter().map(Vec::as_slice).collect();
    let by_mad = if method == Method::Mad { mad(&rows, sensitivity)? } else { None };
    let OutlierOutput { series_results, cluster_band, .. } = match by_mad {
        Some(output) => output,
        None => dbscan(&rows, sensitivity, least)?,
    };
    // Without a cluster at some time the detector calls all values outlying; then none can be told from the others.
    let has_majority = |place: usize| {
        cluster_band.as_ref().and_then(|band| band.min.get(place)).is_some_and(|least| least.is_finite())
    };
    let entry = |(differences, found): (&Vec<f64>, &augurs_outlier::Series)| {
        let known = (0..first).filter(|place| differences[*place].is_finite() && has_majority(*place)).count();
        let intervals = &found.outlier_intervals.intervals;
        let outlying = intervals.iter().flat_map(|interval| interval.start..interval.end.unwrap_or(first));
        let outlying = outlying.filter(|place| has_majority(*place) && differences[*place].abs() >= least).count();
        let outlying_ratio = (known > 0).then(|| outlying as f64 / known as f64);
        Outlier { outlying_ratio, is_outlier: outlying_ratio.is_some_and(|ratio| ratio > OUTLYING_SHARE) }
    };
    Ok(differences.iter().zip(&series_results).map(entry).collect())
}

/// Returns the group's median at each time; NaN where too few values are known.
fn centres(windows: &[&[f64]], len: usize) -> Vec<f64> {
    let centre = |place: usize| {
        let known = || windows.iter().map(|window| window[place]).filter(|value| value.is_finite());
        if known().count() < LEAST_SERIES { f64::NAN } else { median(known()).unwrap_or(f64::NAN) }
    };
    (0..len).map(centre).collect()
}

/// `None` where medians of deviations say nothing.
fn mad(rows: &[&[f64]], sensitivity: f64) -> Result<Option<OutlierOutput>, OutlierError> {
    if rows.len() < LEAST_SERIES_FOR_MAD {
        return Ok(None);
    }
    let detector = MADDetector::with_sensitivity(sensitivity)?;
    // An error here means that the deviations of one side are zero, or that nothing is known.
    let Ok(data) = detector.preprocess(rows) else { return Ok(None) };
    Ok(Some(detector.detect(&data)?))
}

fn dbscan(rows: &[&[f64]], sensitivity: f64, least: f64) -> Result<OutlierOutput, OutlierError> {
    /// So that the widest gap counts even at the least sensitivity.
    const PADDING: f64 = 1.1;
    let known = || rows.iter().flat_map(|row| row.iter().copied()).filter(|value| value.is_finite());
    let span = known().fold(f64::NEG_INFINITY, f64::max) - known().fold(f64::INFINITY, f64::min);
    // As the detector does it from a sensitivity, but for any unit: it takes a span below 0.1 for 0.1.
    let epsilon = ((1.0 - sensitivity) * PADDING * span).max(least);
    let detector = DbscanDetector::with_epsilon(epsilon);
    Ok(detector.detect(&detector.preprocess(rows)?)?)
}

/// Returns the middle of the finite values, of an even count the mean of the two.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAD: Options = Options { method: Method::Mad, sensitivity: 0.5, min_deviation: 0.0 };

    fn noise(seed: usize) -> f64 {
        ((seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
    }

    /// An hour at a minute: all share a wave of ±30 around 100, with noise of ±2; `shift` is added to the last series.
    fn group(series: usize, scale: f64, shift: impl Fn(usize) -> f64) -> Vec<Vec<f64>> {
        let value = |index: usize, place: usize| {
            let wave = 100.0 + 30.0 * (place as f64 / 60.0 * std::f64::consts::TAU).sin();
            let shift = if index + 1 == series { shift(place) } else { 0.0 };
            scale * (wave + 4.0 * noise(1000 * index + place) + shift)
        };
        (0..series).map(|index| (0..60).map(|place| value(index, place)).collect()).collect()
    }

    fn found(group: &[Vec<f64>], options: &Options) -> Vec<usize> {
        let rows: Vec<&[f64]> = group.iter().map(Vec::as_slice).collect();
        let all = outliers(&rows, options).unwrap();
        assert_eq!(all.len(), group.len());
        (0..all.len()).filter(|index| all[*index].is_outlier).collect()
    }

    #[test]
    fn the_odd_one_is_found_in_any_unit_by_either_method() {
        for series in [3, 4, 5, 8, 40] {
            for scale in [1e-6, 1.0, 1e9] {
                for options in [Options::default(), MAD] {
                    let odd = [series - 1];
                    assert_eq!(found(&group(series, scale, |_| 25.0), &options), odd, "{series} {scale} {options:?}");
                    assert_eq!(found(&group(series, scale, |_| -25.0), &options), odd, "{series} {scale} {options:?}");
                    let like = group(series, scale, |_| 0.0);
                    assert!(found(&like, &options).is_empty(), "{series} {scale} {options:?}");
                }
            }
        }
    }

    #[test]
    fn a_short_difference_is_none_and_its_share_is_told() {
        let group = group(6, 1.0, |place| if place < 15 { 40.0 } else { 0.0 });
        let rows: Vec<&[f64]> = group.iter().map(Vec::as_slice).collect();
        let last = |options| outliers(&rows, &options).unwrap()[5];
        assert_eq!(last(Options::default()), Outlier { outlying_ratio: Some(0.25), is_outlier: false });
        // The quarter, and some noise beyond the usual.
        let Outlier { outlying_ratio, is_outlier } = last(MAD);
        assert!(outlying_ratio.is_some_and(|ratio| (0.25..0.4).contains(&ratio)) && !is_outlier, "{outlying_ratio:?}");
    }

    #[test]
    fn small_differences_do_not_count() {
        let mut equal = vec![vec![50.0; 30]; 6];
        for options in [Options::default(), MAD] {
            assert!(found(&equal, &options).is_empty());
        }
        equal[2] = vec![50.2; 30];
        assert!(found(&equal, &MAD).is_empty(), "0.4 % of the median");
        equal[2] = vec![53.0; 30];
        assert_eq!(found(&equal, &MAD), [2]);
        assert!(found(&equal, &Options { min_deviation: 5.0, ..MAD }).is_empty());
    }

    #[test]
    fn missing_values_are_no_difference() {
        for options in [Options::default(), MAD] {
            let mut group = group(6, 1.0, |_| 25.0);
            for place in 0..60 {
                group[place % 6][place] = f64::NAN;
            }
            group[1][7] = f64::INFINITY;
            group[0] = vec![f64::NAN; 60];
            assert_eq!(found(&group, &options), [5]);
            let rows: Vec<&[f64]> = group.iter().map(Vec::as_slice).collect();
            assert_eq!(outliers(&rows, &options).unwrap()[0], Outlier { outlying_ratio: None, is_outlier: false });
            let nothing = vec![vec![f64::NAN; 9]; 6];
            assert!(found(&nothing, &options).is_empty());
            assert!(found(&vec![Vec::new(); 6], &options).is_empty());
        }
    }

    #[test]
    fn what_cannot_be_compared_is_said() {
        let (a, b) = ([1.0, 2.0], [1.0]);
        let message = |rows: &[&[f64]], options| outliers(rows, options).unwrap_err().to_string();
        assert_eq!(message(&[&a, &a], &MAD), "2 series cannot be compared, it takes 3");
        assert!(message(&[&a, &b, &a], &MAD).starts_with("series 1 has 1 values and the first one 2"));
        let options = Options { sensitivity: 1.0, ..MAD };
        assert_eq!(message(&[&a, &a, &a], &options), "sensitivity is 1, it must lie between 0 and 1");
    }
}
