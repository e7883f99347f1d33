//! Bounds that change: schedules, a maximum that may be exceeded, none at all, and the time left until a breach.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::time::Duration;

use cloudpulse_policy::decision::Decision;
use cloudpulse_policy::decision::Reason;
use cloudpulse_policy::decision::decide;
use cloudpulse_policy::history::History;
use cloudpulse_policy::observation::MetricObservation;
use cloudpulse_policy::observation::Missing;
use cloudpulse_policy::observation::Observation;
use cloudpulse_policy::observation::PeakAhead;
use cloudpulse_policy::observation::Reading;
use cloudpulse_policy::peak::PeakDistribution;
use cloudpulse_policy::peak::QuantilePoint;
use cloudpulse_policy::policy::*;
use cloudpulse_policy::schedule::Cron;
use cloudpulse_policy::schedule::Schedule;
use cloudpulse_policy::time::Timestamp;

/// 1 January 2026, a Thursday, at this hour and second of UTC.
fn at(hour: i64, second: i64) -> Timestamp {
    Timestamp::from_unix_milliseconds((1_767_225_600 + hour * 3600 + second) * 1000)
}

/// 100 a replica at 80 %, and the 0.9 quantile of the peak.
fn policy(min_replicas: u32, max_replicas: u32) -> Policy {
    Policy {
        mode: Mode::Floor,
        min_replicas,
        max_replicas,
        schedules: Vec::new(),
        above_max: AboveMax::Alert,
        metrics: vec![MetricPolicy {
            name: "requests".to_owned(),
            demand: Demand::Load {
                replica_capacity: 100.0,
                target_utilization: 0.8,
                activation_threshold: 2.0,
                forecast: Some(ForecastRule::Quantile(0.9)),
            },
        }],
        behavior: Behavior::default(),
        cooldown: Duration::ZERO,
        pause: Pause::None,
        missing_data: MissingData::Hold,
    }
}

fn fresh<T>(value: T) -> Reading<T> {
    Reading::Fresh { value, age: Duration::from_secs(1) }
}

/// A peak whose 0.9 quantile is the value.
fn peak(value: f64) -> PeakDistribution {
    let points = [(0.5, value / 2.0), (0.9, value), (0.99, value * 1.5)];
    PeakDistribution::from_points(points.map(|(quantile, value)| QuantilePoint { quantile, value })).unwrap()
}

fn seen(current: u32, load: f64, ahead: &[(u64, f64)]) -> Observation {
    let first = ahead.first().map(|(_, value)| fresh(peak(*value)));
    Observation {
        current: Some(current),
        metrics: vec![MetricObservation {
            name: "requests".to_owned(),
            load: fresh(load),
            sources: None,
            peak: Some(first.unwrap_or(Reading::Missing { why: Missing::Empty })),
            horizon: ahead.first().map(|(minutes, _)| Duration::from_secs(minutes * 60)),
            ahead: ahead
                .iter()
                .map(|(minutes, value)| PeakAhead { horizon: Duration::from_secs(minutes * 60), peak: peak(*value) })
                .collect(),
        }],
    }
}

fn once(policy: &Policy, seen: &Observation, now: Timestamp) -> Decision {
    decide(policy, seen, &History::default(), now)
}

fn schedule(name: &str, start: &str, end: &str, min: Option<u32>, max: Option<u32>) -> Schedule {
    Schedule {
        name: name.to_owned(),
        start: Cron::new(start, "UTC").unwrap(),
        end: Cron::new(end, "UTC").unwrap(),
        min_replicas: min,
        max_replicas: max,
    }
}

#[test]
fn a_schedule_raises_the_floor_and_lowers_the_ceiling_in_its_hours() {
    let mut policy = policy(2, 20);
    policy.schedules = vec![
        schedule("office", "0 8 * * *", "0 19 * * *", Some(6), None),
        schedule("night", "0 22 * * *", "0 5 * * *", Some(1), Some(3)),
    ];
    let decided = |hour, current, load| {
        let decision = once(&policy, &seen(current, load, &[(5, 0.0)]), at(hour, 0));
        (decision.desired.unwrap(), decision.reason, decision.parts.schedules.join(" "))
    };
    assert_eq!(decided(7, 2, 100.0), (2, Reason::DesiredWithinRange, String::new()));
    assert_eq!(decided(8, 2, 100.0), (6, Reason::TooFewReplicas, "office".to_owned()));
    assert_eq!(decided(23, 9, 700.0), (3, Reason::TooManyReplicas, "night".to_owned()));
}

#[test]
fn of_schedules_that_contradict_each_other_enough_is_better_than_few() {
    let mut policy = policy(2, 20);
    policy.schedules = vec![
        schedule("sale", "0 8 * * *", "0 19 * * *", Some(15), Some(30)),
        schedule("saving", "0 9 * * *", "0 18 * * *", None, Some(4)),
    ];
    let bounds = policy.bounds(at(10, 0));
    assert_eq!((bounds.min_replicas, bounds.max_replicas), (15, 30));
    policy.schedules[0].max_replicas = None;
    let bounds = policy.bounds(at(10, 0));
    assert_eq!((bounds.min_replicas, bounds.max_replicas), (15, 15));
}

#[test]
fn the_maximum_may_be_exceeded_where_the_rule_says_so() {
    let demand = seen(10, 1200.0, &[(5, 900.0)]); // 15 replicas
    let mut policy = policy(2, 10);
    let decision = once(&policy, &demand, at(0, 0));
    assert_eq!((decision.desired, decision.reason), (Some(10), Reason::TooManyReplicas));
    assert_eq!(decision.parts.breach_in, Some(Duration::ZERO));
    policy.above_max = AboveMax::Raise { percent: 25 };
    let decision = once(&policy, &demand, at(0, 0));
    assert_eq!((decision.desired, decision.reason), (Some(13), Reason::TooManyReplicas));
    assert_eq!(decision.parts.breach_in, Some(Duration::ZERO), "raised is a breach all the same");
    policy.above_max = AboveMax::Raise { percent: 50 };
    let decision = once(&policy, &demand, at(0, 0));
    assert_eq!((decision.desired, decision.reason), (Some(15), Reason::DesiredWithinRange));
}

#[test]
fn a_breach_ahead_is_said_with_the_time_left() {
    let breach = |max, ahead: &[(u64, f64)]| once(&policy(2, max), &seen(5, 360.0, ahead), at(0, 0)).parts.breach_in;
    // Now 4 replicas are needed at 90 %, until 5 min 5, until 15 min 8, until 1 h 14.
    let ahead = [(5, 500.0), (15, 800.0), (60, 1400.0)];
    assert_eq!(breach(20, &ahead), None);
    assert_eq!(breach(11, &ahead), Some(Duration::from_secs(15 * 60 + 45 * 60 / 2)));
    assert_eq!(breach(8, &ahead[..2]), None);
    assert_eq!(breach(3, &[]), Some(Duration::ZERO), "the load alone");
}

/// Turns every 15 s, each carried out. Returns (second, replicas) of each change.
fn drive(policy: &Policy, mut current: u32, seconds: i64, load: impl Fn(i64) -> (f64, f64)) -> Vec<(i64, u32)> {
    let mut history = History::default();
    let mut changes = Vec::new();
    for second in (0..seconds).step_by(15) {
        let (now, (load, peak)) = (at(0, second), load(second));
        history.prune(now);
        let decision = decide(policy, &seen(current, load, &[(5, peak)]), &history, now);
        history.record(&decision, now);
        if let (true, Some(desired)) = (decision.act, decision.desired) {
            history.record_change(current, desired, now);
            current = desired;
            changes.push((second, current));
        }
    }
    changes
}

#[test]
fn a_workload_goes_away_after_the_window_and_comes_back_before_its_load() {
    // Load until 60 s, then a whisper; at 900 s the forecast sees load that comes at 1,080 s.
    let load = |second| match second {
        0..60 => (150.0, 150.0),
        60..900 => (1.5, 1.0),
        900..1080 => (0.0, 250.0),
        _ => (250.0, 250.0),
    };
    assert_eq!(drive(&policy(0, 10), 2, 1500, load), [(345, 0), (900, 3)]);
    assert_eq!(drive(&policy(1, 10), 2, 900, load), [(345, 1)], "at least one stays where the rule says so");
}

#[test]
fn the_first_replica_comes_whatever_the_rate_in_percent() {
    let mut policy = policy(0, 10);
    policy.behavior.scale_up.policies =
        vec![RatePolicy { amount: RateAmount::Percent(100), period: Duration::from_secs(60) }];
    let up = |policy: &Policy| once(policy, &seen(0, 500.0, &[(5, 0.0)]), at(0, 0)).desired;
    assert_eq!(up(&policy), Some(1));
    policy.behavior.scale_up.select_policy = SelectPolicy::Disabled;
    assert_eq!(up(&policy), Some(0));
}

#[test]
fn no_replica_is_an_off_switch_only_where_there_must_always_be_one() {
    let decision = once(&policy(1, 10), &seen(0, 500.0, &[(5, 0.0)]), at(0, 0));
    assert_eq!((decision.desired, decision.act, decision.reason), (Some(0), false, Reason::ScalingDisabled));
    let mut nights = policy(2, 10);
    nights.schedules = vec![schedule("night", "0 22 * * *", "0 5 * * *", Some(0), None)];
    assert_eq!(once(&nights, &seen(0, 0.0, &[(5, 0.0)]), at(12, 0)).desired, Some(2), "the morning after");
}

#[test]
fn nothing_known_neither_wakes_nor_ends_a_workload() {
    let mut unknown = seen(0, 0.0, &[]);
    unknown.metrics[0].load = Reading::Missing { why: Missing::Unreachable };
    assert_eq!(once(&policy(0, 10), &unknown, at(0, 0)).desired, Some(0));
    unknown.current = Some(3);
    let decision = once(&policy(0, 10), &unknown, at(0, 0));
    assert_eq!((decision.desired, decision.reason), (Some(3), Reason::MissingDataHeld));
}
