//! One trace and start delay in; every policy at the cost of the HPA out.

use std::time::Duration;

use cloudpulse_forecast::evaluation::{Coverage, peak};
use cloudpulse_policy::Replicas;
use cloudpulse_policy::policy::{
    AboveMax, Behavior, DEFAULT_VIOLATION_COST, Demand, ForecastRule, MetricPolicy, MissingData, Mode, Pause, Policy,
};
use cloudpulse_replay::baseline::{Baseline, Prepared};
use cloudpulse_replay::peaks::{PeakSource, Peaks};
use cloudpulse_replay::rule::RuleController;
use cloudpulse_replay::scenario::{Scenario, WARMUP_SECONDS};
use cloudpulse_replay::simulation::simulate;
use cloudpulse_replay::sweep::{Curve, Point, geometric_grid};
use cloudpulse_replay::through_hpa::ThroughHpa;
use cloudpulse_replay::timeline::Totals;

use super::traces::Trace;

/// Target utilisations of the HPA that budgets are taken from.
pub(super) const BUDGETS: [f64; 2] = [0.7, 0.8];
/// Rivals of the rule.
pub(super) const RIVALS: [Baseline; 8] = [
    Baseline::ReactiveHpa,
    Baseline::ReactiveHpaTuned,
    Baseline::SeasonalNaive,
    Baseline::SeasonalNaiveHalfHour,
    Baseline::PredictLinear10m,
    Baseline::PredictLinear1h,
    Baseline::HoltWinters,
    Baseline::Oracle,
];
/// Levels at which the coverage of the peak is measured.
pub(super) const LEVELS: [f64; 3] = [0.9, 0.95, 0.99];
/// What a violation costs: from so little that the least quantile alone counts to far beyond any use.
const VIOLATION_COSTS: (f64, f64, usize) = (0.3, 10_000.0, 24);
/// No bound: the trace decides.
const MOST_REPLICAS: Replicas = 10_000;

/// What was measured of one trace.
pub(super) struct Measured<'a> {
    pub(super) trace: &'a Trace,
    /// The HPA at each of [`BUDGETS`].
    pub(super) hpa: [Totals; 2],
    /// By [`RIVALS`].
    pub(super) rivals: Vec<Curve>,
    /// The rule, which may also lower what the load alone asks for.
    pub(super) rule: Curve,
    /// The same published for a stock HPA, by [`THROUGH_HPA`].
    pub(super) through_hpa: Vec<Curve>,
    /// The same at the default cost of a violation.
    pub(super) through_hpa_default: Vec<Totals>,
    /// Fixed settings.
    pub(super) defaults: [Totals; FIXED.len()],
    /// By [`LEVELS`].
    pub(super) coverage: [Coverage; 3],
}

/// Name, mode and target utilisation of the fixed settings, all at the default cost of a violation.
pub(super) const FIXED: [(&str, Mode, f64); 3] = [
    ("default: HPA 80 %, forecast may only raise", Mode::Floor, 0.8),
    ("HPA 70 %, forecast may only raise", Mode::Floor, 0.7),
    ("forecast in place of the HPA", Mode::Full, 0.8),
];

/// Name of a way to publish for an HPA, and whether it is around the HPA's tolerance.
pub(super) const THROUGH_HPA: [(&str, bool); 2] =
    [("rule through an HPA, as it is", false), ("rule through an HPA, around its tolerance", true)];

/// Replays everything on one trace.
pub(super) fn measure<'a>(trace: &'a Trace, start_delay: i64, source: PeakSource<'_>) -> Measured<'a> {
    let scenario = Scenario {
        series: &trace.series,
        replica_capacity: trace.replica_capacity,
        start_delay,
        min_replicas: 1,
        max_replicas: MOST_REPLICAS,
        warmup: WARMUP_SECONDS,
    };
    let replay =
        |prepared: &Prepared, knob: f64| simulate(&scenario, prepared.controller(&scenario, knob).as_mut(), |_| ());
    let reactive = Prepared::new(Baseline::ReactiveHpa, &scenario);
    let rivals = RIVALS.map(|baseline| {
        let prepared = Prepared::new(baseline, &scenario);
        let points: Vec<Point> =
            baseline.knobs(&scenario).into_iter().map(|knob| Point::new(knob, &replay(&prepared, knob))).collect();
        Curve::new(&points)
    });
    // Forecast once, for all settings.
    let peaks = source(&trace.series, scenario.lead_steps());
    let rule = |mode, utilization, cost| {
        let policy = policy(trace, mode, utilization, cost);
        simulate(&scenario, &mut RuleController::new(&policy, &trace.series, Some(&peaks)), |_| ())
    };
    let (low, high, count) = VIOLATION_COSTS;
    let points: Vec<Point> = geometric_grid(low, high, count)
        .into_iter()
        .map(|cost| Point::new(cost, &rule(Mode::Full, BUDGETS[0], cost)))
        .collect();
    let through = |around_tolerance, cost| {
        let policy = policy(trace, Mode::Full, BUDGETS[0], cost);
        let rule = RuleController::new(&policy, &trace.series, Some(&peaks));
        simulate(&scenario, &mut ThroughHpa::new(rule, &scenario, around_tolerance), |_| ())
    };
    let through_hpa = THROUGH_HPA.map(|(_, around_tolerance)| {
        let points: Vec<Point> = geometric_grid(low, high, count)
            .into_iter()
            .map(|cost| Point::new(cost, &through(around_tolerance, cost)))
            .collect();
        Curve::new(&points)
    });
    Measured {
        through_hpa: through_hpa.into(),
        through_hpa_default: THROUGH_HPA.map(|(_, around)| through(around, DEFAULT_VIOLATION_COST)).into(),
        trace,
        hpa: BUDGETS.map(|utilization| replay(&reactive, utilization)),
        rivals: rivals.into(),
        rule: Curve::new(&points),
        defaults: FIXED.map(|(_, mode, utilization)| rule(mode, utilization, DEFAULT_VIOLATION_COST)),
        coverage: coverage(&scenario, &peaks),
    }
}

/// The rule as the shipped form has it, with the forecast's part and its price as given.
fn policy(trace: &Trace, mode: Mode, target_utilization: f64, cost: f64) -> Policy {
    Policy {
        mode,
        min_replicas: 1,
        max_replicas: MOST_REPLICAS,
        schedules: Vec::new(),
        above_max: AboveMax::Alert,
        metrics: vec![MetricPolicy {
            name: "load".to_owned(),
            demand: Demand::Load {
                replica_capacity: trace.replica_capacity,
                target_utilization,
                activation_threshold: 0.0,
                forecast: Some(ForecastRule::ViolationCost(cost)),
            },
        }],
        behavior: Behavior::default(),
        cooldown: Duration::ZERO,
        pause: Pause::None,
        missing_data: MissingData::Reactive,
    }
}

fn coverage(scenario: &Scenario<'_>, peaks: &Peaks) -> [Coverage; 3] {
    let mut covered = [Coverage::default(); 3];
    let horizon = scenario.lead_steps();
    let first = scenario.index_at(scenario.scored_from());
    for (origin, distribution) in peaks.iter().enumerate().skip(first) {
        let (Some(distribution), Some(actual)) = (distribution, peak(scenario.series, origin, horizon)) else {
            continue;
        };
        for (coverage, level) in covered.iter_mut().zip(LEVELS) {
            coverage.add(actual, f64::NEG_INFINITY, distribution.quantile(level));
        }
    }
    covered
}
