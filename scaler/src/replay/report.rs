//! What was replayed in; JSON for scripts or a table for people out.

use std::fmt;

use cloudpulse_replay::sweep::Curve;
use cloudpulse_replay::sweep::Point;
use cloudpulse_replay::sweep::violation_ratio;
use cloudpulse_replay::timeline::Totals;
use cloudpulse_replay::timeline::Worst;
use cloudpulse_replay::verdict::NotPredictable;
use serde::Serialize;

/// Everything that `replay` prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) rule: String,
    /// The time that counts, Unix seconds.
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) start_delay_seconds: i64,
    pub(super) replica_capacity: f64,
    pub(super) policies: Vec<PolicyReport>,
    /// Of the rule's violations.
    pub(super) not_predictable: NotPredictable,
    pub(super) worth_it: bool,
    pub(super) words: Vec<String>,
    #[serde(flatten)]
    pub(super) sweep: Option<SweepReport>,
}

/// One policy as it is.
#[derive(Debug, Serialize)]
pub(super) struct PolicyReport {
    pub(super) name: &'static str,
    pub(super) violation_minutes: f64,
    pub(super) replica_hours: f64,
    /// Null where the load needed none.
    pub(super) replica_hours_per_demand: f64,
    pub(super) changes_per_hour: f64,
    /// Null where nothing was violated.
    pub(super) worst: Option<Worst>,
}

impl PolicyReport {
    pub(super) fn new(name: &'static str, totals: &Totals) -> Self {
        Self {
            name,
            violation_minutes: totals.violation_minutes(),
            replica_hours: totals.replica_hours(),
            replica_hours_per_demand: totals.replica_hours_per_demand(),
            changes_per_hour: totals.changes_per_hour(),
            worst: totals.worst(),
        }
    }
}

/// All policies at many settings.
#[derive(Debug, Serialize)]
pub(super) struct SweepReport {
    curve: Vec<CurvePoint>,
    at_equal_replica_hours: Vec<AtBudget>,
}

#[derive(Debug, Serialize)]
struct CurvePoint {
    policy: &'static str,
    #[serde(flatten)]
    point: Point,
}

/// A policy at the replica-hours of an HPA.
#[derive(Debug, Serialize)]
struct AtBudget {
    policy: &'static str,
    /// Replica-hours per demand.
    budget: f64,
    /// (v + 1) / (v of the HPA + 1); null where the policy cannot be so cheap.
    violation_ratio: Option<f64>,
}

impl SweepReport {
    /// Compares curves at what each of `hpas` costs.
    pub(super) fn new(curves: &[(&'static str, Vec<Point>)], hpas: &[Totals]) -> Self {
        let mut at_equal_replica_hours = Vec::new();
        for (policy, points) in curves {
            let curve = Curve::new(points);
            for hpa in hpas {
                let budget = hpa.replica_hours_per_demand();
                let violations = curve.violations_at(budget);
                at_equal_replica_hours.push(AtBudget {
                    policy,
                    budget,
                    violation_ratio: violations.map(|minutes| violation_ratio(minutes, hpa.violation_minutes())),
                });
            }
        }
        let points = curves.iter().flat_map(|(policy, points)| points.iter().map(|point| (*policy, *point)));
        Self { curve: points.map(|(policy, point)| CurvePoint { policy, point }).collect(), at_equal_replica_hours }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = (self.to - self.from) as f64 / 86_400.0;
        writeln!(
            f,
            "{}: {days:.1} days, replicas start in {} s and serve {} each\n",
            self.rule, self.start_delay_seconds, self.replica_capacity
        )?;
        writeln!(
            f,
            "{:<20} {:>14} {:>14} {:>9} {:>10}  worst moment",
            "policy", "violation min", "replica-hours", "/demand", "changes/h"
        )?;
        for policy in &self.policies {
            let worst = policy.worst.map_or_else(String::new, |worst| {
                format!("{} of {} at {}", worst.ready, worst.demand, worst.timestamp)
            });
            let line = format!(
                "{:<20} {:>14.1} {:>14.1} {:>9.2} {:>10.2}  {worst}",
                policy.name,
                policy.violation_minutes,
                policy.replica_hours,
                policy.replica_hours_per_demand,
                policy.changes_per_hour
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        if let Some(sweep) = &self.sweep {
            writeln!(f, "\nAt equal replica-hours, violations as a share of the reactive HPA's:\n")?;
            for AtBudget { policy, budget, violation_ratio } in &sweep.at_equal_replica_hours {
                let ratio =
                    violation_ratio.map_or_else(|| "cannot be so cheap".to_owned(), |ratio| format!("{ratio:.3}"));
                writeln!(f, "{policy:<20} {budget:>9.2} /demand  {ratio}")?;
            }
        }
        writeln!(f)?;
        self.words.iter().try_for_each(|words| writeln!(f, "{words}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_compared_where_they_cost_as_much() {
        let point = |replica_hours_per_demand, violation_minutes| Point {
            knob: 1.0,
            violation_minutes,
            replica_hours_per_demand,
        };
        let row = |demand: u32, ready: u32| cloudpulse_replay::timeline::Row {
            timestamp: 0,
            load: Some(f64::from(demand)),
            demand: Some(demand),
            ready,
            allocated: ready,
            desired: ready,
        };
        // Ten minutes short of 40, at 1.5 replicas for each that is needed.
        let rows: Vec<_> = (0..160).map(|sync| if sync < 40 { row(20, 0) } else { row(20, 40) }).collect();
        let hpa: Totals = rows.iter().collect();
        assert_eq!((hpa.violation_minutes(), hpa.replica_hours_per_demand()), (10.0, 1.5));
        let report = SweepReport::new(
            &[("rule", vec![point(1.0, 20.0), point(2.0, 0.0)]), ("static", vec![point(3.0, 0.0)])],
            &[hpa],
        );
        let found: Vec<_> = report.at_equal_replica_hours.iter().map(|at| (at.policy, at.violation_ratio)).collect();
        assert_eq!(found, [("rule", Some(1.0)), ("static", None)]);
        assert_eq!(report.curve.len(), 3);
    }
}
