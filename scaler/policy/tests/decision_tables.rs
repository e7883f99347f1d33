//! Named cases of a decision, and how one rule goes through time.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::time::Duration;

use cloudpulse_policy::decision::Decision;
use cloudpulse_policy::decision::Reason;
use cloudpulse_policy::decision::decide;
use cloudpulse_policy::history::History;
use cloudpulse_policy::observation::MetricObservation;
use cloudpulse_policy::observation::Missing;
use cloudpulse_policy::observation::Observation;
use cloudpulse_policy::observation::Reading;
use cloudpulse_policy::peak::PeakDistribution;
use cloudpulse_policy::peak::QuantilePoint;
use cloudpulse_policy::policy::*;
use cloudpulse_policy::time::Timestamp;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_milliseconds((1_700_000_000 + seconds) * 1000)
}

/// 100 a replica at 80 %, and the median of the peak by the forecast.
fn policy() -> Policy {
    Policy {
        mode: Mode::Floor,
        min_replicas: 2,
        max_replicas: 20,
        schedules: Vec::new(),
        above_max: AboveMax::Alert,
        metrics: vec![MetricPolicy {
            name: "requests".to_owned(),
            demand: Demand::Load {
                replica_capacity: 100.0,
                target_utilization: 0.8,
                activation_threshold: 0.0,
                forecast: Some(ForecastRule::Quantile(0.9)),
            },
        }],
        behavior: Behavior {
            scale_up: ScalingRules { tolerance: 0.1, ..ScalingRules::unlimited() },
            scale_down: ScalingRules { tolerance: 0.1, ..ScalingRules::unlimited() },
        },
        cooldown: Duration::ZERO,
        pause: Pause::None,
        missing_data: MissingData::Hold,
    }
}

fn fresh<T>(value: T) -> Reading<T> {
    Reading::Fresh { value, age: Duration::from_secs(1) }
}

fn gone<T>() -> Reading<T> {
    Reading::Missing { why: Missing::Unreachable }
}

/// A peak whose 0.9 quantile is the value.
fn peak(value: f64) -> Reading<PeakDistribution> {
    let points = [(0.5, value / 2.0), (0.9, value), (0.99, value * 1.5)];
    fresh(PeakDistribution::from_points(points.map(|(quantile, value)| QuantilePoint { quantile, value })).unwrap())
}

fn seen(current: u32, load: Reading<f64>, peak: Reading<PeakDistribution>) -> Observation {
    Observation {
        current: Some(current),
        metrics: vec![MetricObservation {
            name: "requests".to_owned(),
            load,
            sources: None,
            peak: Some(peak),
            horizon: None,
            ahead: Vec::new(),
        }],
    }
}

fn once(policy: &Policy, seen: &Observation) -> Decision {
    decide(policy, seen, &History::default(), at(0))
}

#[test]
fn each_case_has_its_number_and_its_reason() {
    let slow_up = |amount| Policy {
        behavior: Behavior {
            scale_up: ScalingRules {
                policies: vec![RatePolicy { amount, period: Duration::from_secs(60) }],
                ..policy().behavior.scale_up
            },
            ..policy().behavior
        },
        ..policy()
    };
    let window = |seconds| {
        let rules = ScalingRules { stabilization_window: Duration::from_secs(seconds), ..policy().behavior.scale_up };
        Policy { behavior: Behavior { scale_up: rules.clone(), scale_down: rules }, ..policy() }
    };
    let slow_down = Policy {
        behavior: Behavior {
            scale_down: ScalingRules {
                policies: ScalingRules::default_up().policies,
                select_policy: SelectPolicy::Min,
                ..policy().behavior.scale_down
            },
            ..policy().behavior
        },
        ..policy()
    };
    let full = Policy { mode: Mode::Full, ..policy() };
    let missing = |missing_data| Policy { missing_data, ..policy() };
    let paused = |pause| Policy { pause, ..policy() };
    let cases = [
        ("the load raises", policy(), seen(3, fresh(800.0), peak(0.0)), 10, Reason::DesiredWithinRange),
        ("the load lowers", policy(), seen(9, fresh(240.0), peak(0.0)), 3, Reason::DesiredWithinRange),
        ("within tolerance", policy(), seen(10, fresh(850.0), peak(0.0)), 10, Reason::WithinTolerance),
        ("the forecast raises", policy(), seen(3, fresh(240.0), peak(700.0)), 7, Reason::DesiredWithinRange),
        (
            "the forecast knows no tolerance",
            policy(),
            seen(10, fresh(800.0), peak(1050.0)),
            11,
            Reason::DesiredWithinRange,
        ),
        ("in floor mode it does not lower", policy(), seen(10, fresh(800.0), peak(300.0)), 10, Reason::WithinTolerance),
        (
            "in full mode it lowers, to the safety net",
            full,
            seen(10, fresh(800.0), peak(300.0)),
            9,
            Reason::DesiredWithinRange,
        ),
        ("above the maximum", policy(), seen(9, fresh(4000.0), peak(0.0)), 20, Reason::TooManyReplicas),
        ("below the minimum", policy(), seen(4, fresh(10.0), peak(0.0)), 2, Reason::TooFewReplicas),
        ("found above the maximum", policy(), seen(50, gone(), gone()), 20, Reason::TooManyReplicas),
        ("found below the minimum", policy(), seen(1, gone(), gone()), 2, Reason::TooFewReplicas),
        (
            "at most two pods a minute",
            slow_up(RateAmount::Pods(2)),
            seen(3, fresh(800.0), peak(0.0)),
            5,
            Reason::ScaleUpLimit,
        ),
        (
            "at most half a minute",
            slow_up(RateAmount::Percent(50)),
            seen(5, fresh(800.0), peak(0.0)),
            8,
            Reason::ScaleUpLimit,
        ),
        ("at most four fewer", slow_down, seen(10, fresh(80.0), peak(0.0)), 6, Reason::ScaleDownLimit),
        (
            "the start counts as a recommendation, down",
            window(300),
            seen(9, fresh(240.0), peak(0.0)),
            9,
            Reason::ScaleDownStabilized,
        ),
        (
            "the start counts as a recommendation, up",
            window(300),
            seen(3, fresh(800.0), peak(0.0)),
            3,
            Reason::ScaleUpStabilized,
        ),
        ("no load", policy(), seen(9, gone(), peak(0.0)), 9, Reason::MissingDataHeld),
        ("no load, but the forecast raises", policy(), seen(3, gone(), peak(700.0)), 7, Reason::DesiredWithinRange),
        ("no forecast", policy(), seen(9, fresh(240.0), gone()), 9, Reason::MissingDataHeld),
        ("no forecast, but the load raises", policy(), seen(9, fresh(800.0), gone()), 10, Reason::DesiredWithinRange),
        (
            "no forecast, by the load alone",
            missing(MissingData::Reactive),
            seen(9, fresh(240.0), gone()),
            3,
            Reason::DesiredWithinRange,
        ),
        (
            "an old forecast, by the load alone",
            missing(MissingData::Reactive),
            seen(9, fresh(240.0), Reading::Stale { age: Duration::from_secs(900) }),
            3,
            Reason::DesiredWithinRange,
        ),
        (
            "no load, though the policy is Reactive",
            missing(MissingData::Reactive),
            seen(9, gone(), peak(0.0)),
            9,
            Reason::MissingDataHeld,
        ),
        ("nothing at all", policy(), seen(9, gone(), gone()), 9, Reason::MissingDataHeld),
        (
            "nothing at all, with a number for it",
            missing(MissingData::Replicas(12)),
            seen(9, gone(), gone()),
            12,
            Reason::MissingDataReplicas,
        ),
        (
            "nothing at all, with a smaller number",
            missing(MissingData::Replicas(5)),
            seen(9, gone(), gone()),
            9,
            Reason::MissingDataHeld,
        ),
        ("paused", paused(Pause::All), seen(3, fresh(800.0), peak(0.0)), 3, Reason::Paused),
        ("scale-in paused", paused(Pause::ScaleIn), seen(9, fresh(240.0), peak(0.0)), 9, Reason::Paused),
        ("scale-out paused", paused(Pause::ScaleOut), seen(3, fresh(800.0), peak(0.0)), 3, Reason::Paused),
        (
            "scale-in paused, scale-out not",
            paused(Pause::ScaleIn),
            seen(3, fresh(800.0), peak(0.0)),
            10,
            Reason::DesiredWithinRange,
        ),
        ("switched off by hand", policy(), seen(0, fresh(800.0), peak(0.0)), 0, Reason::ScalingDisabled),
        ("a load of NaN is missing", policy(), seen(9, fresh(f64::NAN), peak(0.0)), 9, Reason::MissingDataHeld),
    ];
    for (name, policy, seen, desired, reason) in cases {
        let decision = once(&policy, &seen);
        assert_eq!((decision.desired, decision.reason), (Some(desired), reason), "{name}: {decision:#?}");
        assert_eq!(decision.act, decision.desired != seen.current, "{name}");
    }
}

#[test]
fn an_unknown_target_is_not_decided_on_but_its_demand_is_said() {
    let decision = once(&policy(), &Observation { current: None, ..seen(0, fresh(800.0), peak(1500.0)) });
    assert_eq!((decision.desired, decision.act, decision.reason), (None, false, Reason::FailedGetScale));
    assert_eq!((decision.parts.reactive, decision.parts.forecast), (Some(10), Some(15)));
}

#[test]
fn observing_decides_the_same_and_does_not_act() {
    let seen = seen(3, fresh(240.0), peak(700.0));
    let floor = once(&policy(), &seen);
    let observe = once(&Policy { mode: Mode::Observe, ..policy() }, &seen);
    assert_eq!((observe.desired, observe.act), (floor.desired, false));
    assert_eq!(observe.parts, floor.parts);
}

#[test]
fn the_largest_of_several_metrics_wins() {
    let mut policy = policy();
    let demand =
        Demand::Load { replica_capacity: 10.0, target_utilization: 1.0, activation_threshold: 0.0, forecast: None };
    policy.metrics.push(MetricPolicy { name: "queue".to_owned(), demand });
    let mut seen = seen(3, fresh(240.0), peak(0.0));
    seen.metrics.push(MetricObservation {
        name: "queue".to_owned(),
        load: fresh(55.0),
        sources: None,
        peak: None,
        horizon: None,
        ahead: Vec::new(),
    });
    assert_eq!(once(&policy, &seen).desired, Some(6));
    seen.metrics[0].load = gone();
    assert_eq!(once(&policy, &seen).desired, Some(6), "what is known may still raise");
    seen.current = Some(8);
    assert_eq!(once(&policy, &seen).desired, Some(8), "but not lower");
}

#[test]
fn thresholds_ask_for_at_least_or_at_most() {
    let threshold = |side, replicas| {
        let demand = Demand::Threshold { side, threshold: 80.0, replicas };
        let metrics = vec![MetricPolicy { name: "requests".to_owned(), demand }];
        Policy { metrics, min_replicas: 1, max_replicas: u32::MAX, ..policy() }
    };
    for (side, replicas, current, value, desired) in [
        (Side::Above, 5, 2, 81.0, 5),
        (Side::Above, 5, 2, 80.0, 2),
        (Side::Above, 5, 7, 99.0, 7),
        (Side::Below, 2, 7, 79.0, 2),
        (Side::Below, 2, 7, 80.0, 7),
        (Side::Below, 2, 1, 5.0, 1),
    ] {
        let decision = once(&threshold(side, replicas), &seen(current, fresh(value), gone()));
        assert_eq!(decision.desired, Some(desired), "{side:?} {replicas} {current} {value}");
    }
    assert_eq!(once(&threshold(Side::Below, 1), &seen(7, gone(), gone())).desired, Some(7));
}

/// Drives a rule through (seconds, load) and returns the replicas after each step.
fn drive(policy: &Policy, start: u32, steps: &[(i64, f64)]) -> Vec<u32> {
    let mut history = History::default();
    let mut current = start;
    let mut replicas = Vec::new();
    for (seconds, load) in steps {
        let now = at(*seconds);
        history.prune(now);
        let decision = decide(policy, &seen(current, fresh(*load), peak(0.0)), &history, now);
        history.record(&decision, now);
        let desired = decision.desired.unwrap();
        if decision.act {
            history.record_change(current, desired, now);
            current = desired;
        }
        replicas.push(current);
    }
    replicas
}

/// Kubernetes documentation, "Stabilization window": the highest recommendation of the last five minutes is kept.
#[test]
fn scale_in_waits_for_the_default_window() {
    let policy = Policy { behavior: Behavior::default(), ..policy() };
    let steps =
        [(0, 800.0), (15, 240.0), (60, 600.0), (150, 240.0), (299, 240.0), (301, 240.0), (359, 240.0), (361, 240.0)];
    // Recommended are 10 at 0, then 3, 8 at 60, then 3.
    assert_eq!(drive(&policy, 5, &steps), [10, 10, 10, 10, 10, 8, 8, 3]);
}

#[test]
fn a_cooldown_rests_after_each_change() {
    let policy = Policy { cooldown: Duration::from_secs(120), ..policy() };
    let steps = [(0, 800.0), (60, 1200.0), (119, 160.0), (120, 1200.0), (200, 160.0), (240, 160.0)];
    assert_eq!(drive(&policy, 3, &steps), [10, 10, 10, 15, 15, 2]);
}

#[test]
fn the_price_of_a_violation_follows_the_mean_of_the_day() {
    let mut policy = policy();
    let Demand::Load { forecast, .. } = &mut policy.metrics[0].demand else { unreachable!() };
    *forecast = Some(ForecastRule::ViolationCost(30.0));
    let seen = seen(5, fresh(400.0), peak(600.0));
    let price = |history: &History| {
        let decision = decide(&policy, &seen, history, at(0));
        decision.parts.metrics[0].forecast.as_ref().unwrap().violation_price
    };
    assert_eq!(price(&History::default()), Some(90.0), "without a past the median peak tells the fleet: 300 / 100");
    let mut history = History::default();
    history.recall_mean(12.0);
    assert_eq!(price(&history), Some(360.0));
}
