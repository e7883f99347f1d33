//! One policy at many settings in; its curve of violations over cost, and what it would violate at a given cost, out.
//!
//! Policies are compared at equal replica-hours: any of them violates less if it may spend more.

use serde::Serialize;

use crate::timeline::Totals;

/// A policy at one setting.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// The setting.
    pub knob: f64,
    /// Minutes with too few replicas.
    pub violation_minutes: f64,
    /// Replica-hours as a multiple of what the load needed.
    pub replica_hours_per_demand: f64,
}

impl Point {
    /// Returns the point of a replay.
    pub fn new(knob: f64, totals: &Totals) -> Self {
        Self {
            knob,
            violation_minutes: totals.violation_minutes(),
            replica_hours_per_demand: totals.replica_hours_per_demand(),
        }
    }
}

/// The best that a policy does at each cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// (Cost, violation minutes): costs ascend, violations fall.
    best: Vec<(f64, f64)>,
}

impl Curve {
    /// Returns the curve through the points that no cheaper one beats.
    pub fn new(points: &[Point]) -> Self {
        let mut all: Vec<(f64, f64)> = points
            .iter()
            .map(|point| (point.replica_hours_per_demand, point.violation_minutes))
            .filter(|(cost, _)| cost.is_finite())
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut best: Vec<(f64, f64)> = Vec::new();
        for point in all {
            if best.last().is_none_or(|(_, least)| point.1 < *least) {
                best.push(point);
            }
        }
        Self { best }
    }

    /// Returns (cost, violation minutes) of the settings that no cheaper one beats: costs ascend, violations fall.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.best
    }

    /// Returns the violation minutes at a cost, linear between two settings; `None` below the cheapest one. Spending more
    /// than the dearest does not help.
    pub fn violations_at(&self, cost: f64) -> Option<f64> {
        let last = *self.best.last()?;
        if cost >= last.0 {
            return Some(last.1);
        }
        let right = self.best.partition_point(|(at, _)| *at <= cost);
        let (left, right) = (*self.best.get(right.checked_sub(1)?)?, self.best[right]);
        Some(left.1 + (cost - left.0) / (right.0 - left.0) * (right.1 - left.1))
    }

    /// Returns the cost at which no more than so many minutes are violated, linear between two settings; `None` where no
    /// setting does it.
    pub fn cost_at(&self, violation_minutes: f64) -> Option<f64> {
        let right = self.best.iter().position(|(_, minutes)| *minutes <= violation_minutes)?;
        let (right, Some(left)) = (self.best[right], right.checked_sub(1)) else { return Some(self.best[right].0) };
        let left = self.best[left];
        Some(left.0 + (left.1 - violation_minutes) / (left.1 - right.1) * (right.0 - left.0))
    }
}

/// Returns violations as a share of others', with one minute added to both, so that zero can be compared.
pub fn violation_ratio(violation_minutes: f64, others: f64) -> f64 {
    (violation_minutes + 1.0) / (others + 1.0)
}

/// Returns `count` numbers from `low` to `high`, each the same multiple of the one before: knobs of a price.
pub fn geometric_grid(low: f64, high: f64, count: usize) -> Vec<f64> {
    let ratio = (high / low).powf(1.0 / (count.max(2) - 1) as f64);
    (0..count).map(|i| low * ratio.powi(i as i32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[(f64, f64)]) -> Curve {
        let point = |(cost, minutes): &(f64, f64)| Point {
            knob: 0.0,
            violation_minutes: *minutes,
            replica_hours_per_demand: *cost,
        };
        Curve::new(&points.iter().map(point).collect::<Vec<_>>())
    }

    #[test]
    fn it_goes_straight_between_the_best_settings() {
        // The setting at 1.5 costs more than the one at 1.4 and violates more: it is not used.
        let curve = curve(&[(1.5, 30.0), (1.2, 40.0), (1.4, 20.0), (2.0, 0.0), (1.1, 100.0)]);
        for (cost, expected) in [
            (1.0, None),
            (1.1, Some(100.0)),
            (1.15, Some(70.0)),
            (1.4, Some(20.0)),
            (1.7, Some(10.0)),
            (9.0, Some(0.0)),
        ] {
            assert!(
                match (curve.violations_at(cost), expected) {
                    (Some(got), Some(expected)) => (got - expected).abs() < 1e-9,
                    (got, expected) => got == expected,
                },
                "{cost}: {:?}",
                curve.violations_at(cost)
            );
        }
        for (minutes, expected) in [(100.0, 1.1), (500.0, 1.1), (30.0, 1.3), (0.0, 2.0)] {
            assert!((curve.cost_at(minutes).unwrap() - expected).abs() < 1e-9, "{minutes}");
        }
        assert_eq!(super::tests::curve(&[(1.0, 5.0)]).cost_at(4.0), None);
        assert_eq!(super::tests::curve(&[]).violations_at(1.0), None);
    }

    #[test]
    fn a_grid_is_even_in_its_ratios() {
        let grid = geometric_grid(1.0, 1000.0, 4);
        for (got, expected) in grid.iter().zip([1.0, 10.0, 100.0, 1000.0]) {
            assert!((got / expected - 1.0).abs() < 1e-12);
        }
    }
}
