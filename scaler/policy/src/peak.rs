//! The distribution of the highest load over the lead time, from its published quantiles.
//!
//! In: points of (quantile level, value). Out: the probability that the peak exceeds a value, and any quantile.

use serde::Serialize;
use utoipa::ToSchema;

/// Values beyond this are no measurement, and their differences would overflow.
const LARGEST_VALUE: f64 = 1e300;

/// One published quantile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct QuantilePoint {
    /// Level between 0 and 1, both excluded.
    pub quantile: f64,
    /// Value at that level, in the unit of the load.
    pub value: f64,
}

/// Distribution of a peak: at least two levels, ascending, with values that never fall.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(transparent)]
pub struct PeakDistribution {
    points: Vec<QuantilePoint>,
}

impl PeakDistribution {
    /// Returns the distribution through `points` in any order. Where values cross, the higher one is taken, which errs
    /// towards more replicas. Returns `None` where fewer than two distinct levels are given, a level is not between 0
    /// and 1, or a value is not finite.
    pub fn from_points(points: impl IntoIterator<Item = QuantilePoint>) -> Option<Self> {
        let mut points: Vec<QuantilePoint> = points.into_iter().collect();
        let usable = |p: &QuantilePoint| p.quantile > 0.0 && p.quantile < 1.0 && p.value.abs() <= LARGEST_VALUE;
        if !points.iter().all(usable) {
            return None;
        }
        points.sort_by(|a, b| a.quantile.total_cmp(&b.quantile).then(b.value.total_cmp(&a.value)));
        points.dedup_by(|later, earlier| later.quantile == earlier.quantile);
        let mut highest = f64::NEG_INFINITY;
        for point in &mut points {
            highest = highest.max(point.value);
            point.value = highest;
        }
        (points.len() >= 2).then_some(Self { points })
    }

    /// Returns the points, in ascending level.
    pub fn points(&self) -> &[QuantilePoint] {
        &self.points
    }

    /// Returns P(peak > `value`): linear in the value between two quantiles, exponential beyond the highest one with the
    /// slope of the last two. Below the lowest quantile nothing is known, and 1 is returned.
    pub fn exceedance(&self, value: f64) -> f64 {
        let below = self.points.iter().rposition(|point| point.value <= value);
        let Some(at) = below else { return 1.0 };
        let left = self.points[at];
        let Some(right) = self.points.get(at + 1) else {
            let scale = self.tail_scale();
            return if scale > 0.0 { (1.0 - left.quantile) * (-(value - left.value) / scale).exp() } else { 0.0 };
        };
        let share = (value - left.value) / (right.value - left.value);
        (1.0 - left.quantile) - share * (right.quantile - left.quantile)
    }

    /// Returns the value at `level`, the inverse of [`Self::exceedance`]; below the lowest published level its value.
    pub fn quantile(&self, level: f64) -> f64 {
        let first = self.points[0];
        if level <= first.quantile {
            return first.value;
        }
        for pair in self.points.windows(2) {
            let (left, right) = (pair[0], pair[1]);
            if level <= right.quantile {
                let share = (level - left.quantile) / (right.quantile - left.quantile);
                return left.value + share * (right.value - left.value);
            }
        }
        let last = self.points[self.points.len() - 1];
        last.value + self.tail_scale() * ((1.0 - last.quantile) / (1.0 - level)).ln()
    }

    /// Returns the mean excess of the exponential tail, such that it runs through the last two quantiles; zero where
    /// these are equal.
    pub(crate) fn tail_scale(&self) -> f64 {
        let [.., left, right] = self.points.as_slice() else { return 0.0 };
        (right.value - left.value) / ((1.0 - left.quantile) / (1.0 - right.quantile)).ln()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn distribution(points: &[(f64, f64)]) -> Option<PeakDistribution> {
        PeakDistribution::from_points(
            points.iter().map(|(quantile, value)| QuantilePoint { quantile: *quantile, value: *value }),
        )
    }

    #[test]
    fn it_runs_through_its_points_and_on_beyond() {
        let peak = distribution(&[(0.99, 300.0), (0.5, 100.0), (0.9, 200.0)]).unwrap();
        for (value, expected) in [
            (99.9, 1.0),
            (100.0, 0.5),
            (150.0, 0.3),
            (200.0, 0.1),
            (300.0, 0.01),
            (400.0, 0.001), // the tail loses a factor of ten for each 100, as it did from 0.9 to 0.99
        ] {
            assert!((peak.exceedance(value) - expected).abs() < 1e-12, "{value}");
        }
        assert!((peak.quantile(0.999) - 400.0).abs() < 1e-9);
        assert_eq!(peak.quantile(0.1), 100.0);
    }

    #[test]
    fn crossing_quantiles_are_raised() {
        let peak = distribution(&[(0.5, 100.0), (0.9, 90.0), (0.99, 120.0)]).unwrap();
        assert_eq!(peak.points()[1].value, 100.0);
        assert!((peak.exceedance(100.0) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn a_constant_peak_has_no_tail() {
        let peak = distribution(&[(0.5, 7.0), (0.9, 7.0)]).unwrap();
        assert!((peak.exceedance(7.0) - 0.0).abs() < 1e-12);
        assert_eq!(peak.quantile(0.9999), 7.0);
    }

    #[test]
    fn what_tells_no_distribution_is_none() {
        for points in [
            &[][..],
            &[(0.9, 1.0)],
            &[(0.9, 1.0), (0.9, 2.0)],
            &[(0.0, 1.0), (0.9, 2.0)],
            &[(0.5, 1.0), (1.0, 2.0)],
            &[(0.5, f64::NAN), (0.9, 2.0)],
            &[(0.5, 1.0), (0.9, f64::INFINITY)],
            &[(f64::NAN, 1.0), (0.5, 1.0), (0.9, 2.0)],
        ] {
            assert_eq!(distribution(points), None, "{points:?}");
        }
    }

    proptest! {
        #[test]
        fn exceedance_falls_and_inverts_the_quantile(
            steps in proptest::collection::vec(0.01_f64..50.0, 3),
            level in 0.5_f64..0.9999,
            value in -10.0_f64..400.0,
            more in 0.0_f64..50.0,
        ) {
            let mut at = 10.0;
            let points: Vec<(f64, f64)> = [0.5, 0.9, 0.99].into_iter().zip(&steps).map(|(q, step)| { at += step; (q, at) }).collect();
            let peak = distribution(&points).unwrap();
            prop_assert!(peak.exceedance(value + more) <= peak.exceedance(value));
            prop_assert!((peak.exceedance(peak.quantile(level)) - (1.0 - level)).abs() < 1e-9);
        }
    }
}
