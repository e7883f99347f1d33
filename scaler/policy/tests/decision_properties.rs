//! Properties that every decision has, whatever the rule, the readings and the past.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::time::Duration;

use cloudpulse_policy::Replicas;
use cloudpulse_policy::decision::Decision;
use cloudpulse_policy::decision::decide;
use cloudpulse_policy::history::History;
use cloudpulse_policy::observation::MetricObservation;
use cloudpulse_policy::observation::Missing;
use cloudpulse_policy::observation::Observation;
use cloudpulse_policy::observation::Reading;
use cloudpulse_policy::peak::PeakDistribution;
use cloudpulse_policy::peak::QuantilePoint;
use cloudpulse_policy::policy::*;
use cloudpulse_policy::schedule::Cron;
use cloudpulse_policy::schedule::Schedule;
use cloudpulse_policy::time::Timestamp;
use proptest::prelude::*;

const START: i64 = 1_700_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_milliseconds((START + seconds) * 1000)
}

fn duration(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn rate_policies() -> impl Strategy<Value = Vec<RatePolicy>> {
    let amount = prop_oneof![(1_u32..20).prop_map(RateAmount::Pods), (1_u32..200).prop_map(RateAmount::Percent)];
    let policy = (amount, 1_u64..600).prop_map(|(amount, period)| RatePolicy { amount, period: duration(period) });
    proptest::collection::vec(policy, 0..3)
}

fn scaling_rules() -> impl Strategy<Value = ScalingRules> {
    let select = prop_oneof![
        4 => Just(SelectPolicy::Max),
        2 => Just(SelectPolicy::Min),
        1 => Just(SelectPolicy::Disabled),
    ];
    (prop_oneof![Just(0_u64), 0_u64..900], select, rate_policies(), prop_oneof![Just(0.1), Just(0.0), 0.0..0.5])
        .prop_map(|(window, select_policy, policies, tolerance)| ScalingRules {
            stabilization_window: duration(window),
            select_policy,
            policies,
            tolerance,
        })
}

fn demand() -> impl Strategy<Value = Demand> {
    let rule = prop_oneof![
        (0.1_f64..200.0).prop_map(ForecastRule::ViolationCost),
        (0.5_f64..0.9999).prop_map(ForecastRule::Quantile),
    ];
    let load = (1.0_f64..500.0, 0.1_f64..1.0, proptest::option::of(rule)).prop_map(
        |(replica_capacity, target_utilization, forecast)| Demand::Load {
            replica_capacity,
            target_utilization,
            activation_threshold: 0.0,
            forecast,
        },
    );
    let threshold = (prop_oneof![Just(Side::Above), Just(Side::Below)], 0.0_f64..5000.0, 1_u32..60)
        .prop_map(|(side, threshold, replicas)| Demand::Threshold { side, threshold, replicas });
    let value = (1.0_f64..5000.0).prop_map(|target| Demand::Value { target });
    prop_oneof![10 => load, 2 => threshold, 1 => value]
}

fn bounds() -> impl Strategy<Value = (Replicas, Replicas)> {
    (0_u32..10, 0_u32..50).prop_map(|(min, more)| (min, min + more.max(1)))
}

fn above_max() -> impl Strategy<Value = AboveMax> {
    prop_oneof![Just(AboveMax::Alert), (1_u32..200).prop_map(|percent| AboveMax::Raise { percent })]
}

/// Begins and ends within the hour of the tests.
fn schedule() -> impl Strategy<Value = Schedule> {
    (10_u32..50, 10_u32..50, bounds(), any::<bool>(), any::<bool>()).prop_map(
        |(start, end, (min, max), with_min, with_max)| {
            let cron = |minute: u32| Cron::new(&format!("{minute} 22 * * *"), "UTC").unwrap();
            Schedule {
                name: "rush".to_owned(),
                start: cron(start),
                end: cron(end),
                min_replicas: with_min.then_some(min),
                max_replicas: with_max.then_some(max),
            }
        },
    )
}

fn policy() -> impl Strategy<Value = Policy> {
    let mode = prop_oneof![Just(Mode::Observe), Just(Mode::Floor), Just(Mode::Full)];
    let missing =
        prop_oneof![Just(MissingData::Hold), Just(MissingData::Reactive), (1_u32..50).prop_map(MissingData::Replicas)];
    (
        mode,
        bounds(),
        above_max(),
        proptest::collection::vec(schedule(), 0..3),
        proptest::collection::vec(demand(), 1..4),
        (scaling_rules(), scaling_rules()),
        0_u64..600,
        missing,
    )
        .prop_map(
            |(mode, (min, max), above_max, schedules, demands, (scale_up, scale_down), cooldown, missing_data)| {
                Policy {
                    mode,
                    min_replicas: min,
                    max_replicas: max,
                    schedules,
                    above_max,
                    metrics: demands
                        .into_iter()
                        .enumerate()
                        .map(|(number, demand)| MetricPolicy { name: format!("m{number}"), demand })
                        .collect(),
                    behavior: Behavior { scale_up, scale_down },
                    cooldown: duration(cooldown),
                    pause: Pause::None,
                    missing_data,
                }
            },
        )
}

fn fresh<T>(value: T) -> Reading<T> {
    Reading::Fresh { value, age: duration(1) }
}

fn reading<T: Clone + std::fmt::Debug + 'static>(
    values: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Reading<T>> {
    prop_oneof![
        8 => values.prop_map(fresh),
        1 => Just(Reading::Stale { age: duration(400) }),
        1 => prop_oneof![Just(Missing::Empty), Just(Missing::NotANumber), Just(Missing::Unreachable)]
            .prop_map(|why| Reading::Missing { why }),
    ]
}

fn peak() -> impl Strategy<Value = PeakDistribution> {
    proptest::collection::vec(0.0_f64..2000.0, 7).prop_map(|steps| {
        let levels = [0.5, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999];
        let mut value = 0.0;
        PeakDistribution::from_points(levels.into_iter().zip(steps).map(|(quantile, step)| {
            value += step;
            QuantilePoint { quantile, value }
        }))
        .unwrap()
    })
}

fn load() -> impl Strategy<Value = f64> {
    prop_oneof![8 => 0.0_f64..20_000.0, 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => -100.0_f64..0.0]
}

fn observation() -> impl Strategy<Value = Observation> {
    let sources =
        proptest::option::weighted(0.3, reading(prop_oneof![8 => 0.01_f64..=1.0, 1 => Just(0.0), 1 => Just(f64::NAN)]));
    let metric = (reading(load()), sources, proptest::option::weighted(0.9, reading(peak())));
    (proptest::option::weighted(0.95, 0_u32..80), proptest::collection::vec(metric, 0..4)).prop_map(
        |(current, metrics)| Observation {
            current,
            metrics: metrics
                .into_iter()
                .enumerate()
                .map(|(number, (load, sources, peak))| MetricObservation {
                    name: format!("m{number}"),
                    load,
                    sources,
                    peak,
                    horizon: None,
                    ahead: Vec::new(),
                })
                .collect(),
        },
    )
}

/// A past made by deciding: observations at irregular times, each change carried out or not.
fn past() -> impl Strategy<Value = Vec<(i64, bool, Observation)>> {
    proptest::collection::vec((1_i64..200, any::<bool>(), observation()), 0..8)
}

fn lived(policy: &Policy, past: &[(i64, bool, Observation)]) -> (History, Timestamp) {
    let mut history = History::default();
    let mut seconds = 0;
    for (gap, carried_out, seen) in past {
        seconds += gap;
        turn(policy, seen, &mut history, at(seconds), *carried_out);
    }
    (history, at(seconds + 15))
}

fn turn(policy: &Policy, seen: &Observation, history: &mut History, now: Timestamp, carried_out: bool) -> Decision {
    history.prune(now);
    let decision = decide(policy, seen, history, now);
    history.record(&decision, now);
    if let (true, true, Some(current), Some(desired)) = (decision.act, carried_out, decision.current, decision.desired)
    {
        history.record_change(current, desired, now);
    }
    decision
}

fn usable(load: &Reading<f64>) -> bool {
    load.fresh().is_some_and(|value| value.is_finite())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn desired_is_within_bounds(policy in policy(), seen in observation(), past in past()) {
        let (history, now) = lived(&policy, &past);
        let decision = decide(&policy, &seen, &history, now);
        match (seen.current, decision.desired) {
            (None, desired) => prop_assert_eq!(desired, None),
            (Some(0), desired) if !policy.scales_to_zero() => prop_assert_eq!(desired, Some(0)),
            (Some(_), desired) => {
                let desired = desired.unwrap();
                let bounds = policy.bounds(now);
                prop_assert!((bounds.min_replicas..=bounds.raised_max).contains(&desired), "{:?}", decision);
            }
        }
        prop_assert_eq!(decision.act, policy.mode != Mode::Observe && decision.desired != decision.current);
    }

    #[test]
    fn more_load_never_gives_fewer(policy in policy(), seen in observation(), past in past(), factor in 1.0_f64..3.0) {
        let (history, now) = lived(&policy, &past);
        let less = decide(&policy, &seen, &history, now).desired;
        let mut busier = seen;
        for metric in &mut busier.metrics {
            if let Reading::Fresh { value, .. } = &mut metric.load
                && *value > 0.0
            {
                *value *= factor;
            }
            if let Some(Reading::Fresh { value, .. }) = &mut metric.peak {
                let raised = value.points().iter().map(|p| QuantilePoint { value: p.value * factor, ..*p });
                // The cost rule may find the same violation not worth its price in a larger fleet; the quantile may not.
                let by_quantile = policy.metrics.iter().all(|m| !matches!(m.demand, Demand::Load { forecast: Some(ForecastRule::ViolationCost(_)), .. }));
                if by_quantile {
                    *value = PeakDistribution::from_points(raised).unwrap();
                }
            }
        }
        prop_assert!(decide(&policy, &busier, &history, now).desired >= less);
    }

    #[test]
    fn deciding_again_changes_nothing(policy in policy(), seen in observation(), past in past()) {
        // What replicas move is another value once they have changed.
        prop_assume!(!policy.metrics.iter().any(|metric| matches!(metric.demand, Demand::Value { .. })));
        let (mut history, now) = lived(&policy, &past);
        let first = turn(&policy, &seen, &mut history, now, true);
        if !first.act {
            return Ok(());
        }
        let again = turn(&policy, &Observation { current: first.desired, ..seen }, &mut history, now, true);
        prop_assert_eq!(again.desired, first.desired, "first {:?}\nagain {:?}", first, again);
    }

    #[test]
    fn a_missing_reading_never_scales_in(policy in policy(), seen in observation(), past in past()) {
        let (history, now) = lived(&policy, &past);
        let decision = decide(&policy, &seen, &history, now);
        let missing = policy.metrics.iter().any(|metric| {
            let Some(seen) = seen.metrics.iter().find(|seen| seen.name == metric.name) else { return true };
            let forecast = matches!(metric.demand, Demand::Load { forecast: Some(_), .. });
            let peak = seen.peak.as_ref().is_some_and(|peak| peak.fresh().is_some());
            let dark = seen.sources.as_ref().is_some_and(|share| share.fresh().is_none_or(|share| share.is_nan() || *share <= 0.0));
            dark || !usable(&seen.load) || (forecast && !peak && policy.missing_data != MissingData::Reactive)
        });
        if let (true, Some(current), Some(desired)) = (missing, decision.current, decision.desired) {
            prop_assert!(desired >= current.min(policy.bounds(now).raised_max), "{:?}", decision);
        }
    }

    #[test]
    fn in_floor_mode_a_forecast_only_raises(policy in policy(), seen in observation(), past in past()) {
        let policy = Policy { mode: Mode::Floor, missing_data: MissingData::Reactive, ..policy };
        let (history, now) = lived(&policy, &past);
        let with = decide(&policy, &seen, &history, now).desired;
        let mut without = policy.clone();
        for metric in &mut without.metrics {
            if let Demand::Load { forecast, .. } = &mut metric.demand {
                *forecast = None;
            }
        }
        prop_assert!(with >= decide(&without, &seen, &history, now).desired);
    }

    #[test]
    fn no_flapping_inside_the_windows(policy in policy(), loads in proptest::collection::vec(0.0_f64..20_000.0, 40), start in 1_u32..60) {
        // Within the scale-down window a scale-out is never taken back: what was once recommended stays for the window.
        let window = 300;
        let mut policy = Policy { mode: Mode::Floor, cooldown: Duration::ZERO, ..policy };
        policy.behavior.scale_down.stabilization_window = duration(window);
        policy.behavior.scale_up.stabilization_window = Duration::ZERO;
        policy.metrics = vec![MetricPolicy {
            name: "m0".to_owned(),
            demand: Demand::Load { replica_capacity: 200.0, target_utilization: 0.8, activation_threshold: 0.0, forecast: None },
        }];
        let mut history = History::default();
        policy.schedules.clear();
        let mut current: Replicas = start.clamp(policy.min_replicas.max(1), policy.max_replicas);
        let mut ups: Vec<i64> = Vec::new();
        for (number, load) in loads.into_iter().enumerate() {
            let seconds = number as i64 * 15;
            let seen = Observation {
                current: Some(current),
                metrics: vec![MetricObservation { name: "m0".to_owned(), load: fresh(load), sources: None, peak: None , horizon: None, ahead: Vec::new() }],
            };
            let desired = turn(&policy, &seen, &mut history, at(seconds), true).desired.unwrap();
            if desired > current {
                ups.push(seconds);
            }
            let recently_up = ups.last().is_some_and(|up| seconds - up < window as i64);
            prop_assert!(!(desired < current && recently_up), "at {} from {} to {}", seconds, current, desired);
            current = desired;
        }
    }

    #[test]
    fn a_pause_keeps_its_direction_still(policy in policy(), seen in observation(), past in past()) {
        for (pause, may_rise, may_fall) in [(Pause::All, false, false), (Pause::ScaleIn, true, false), (Pause::ScaleOut, false, true)] {
            let policy = Policy { pause, ..policy.clone() };
            let (history, now) = lived(&policy, &past);
            let decision = decide(&policy, &seen, &history, now);
            prop_assert!(may_rise || decision.desired <= decision.current);
            prop_assert!(may_fall || decision.desired >= decision.current);
        }
    }

    #[test]
    fn nonsense_in_a_policy_does_no_harm(
        numbers in proptest::collection::vec(prop_oneof![Just(0.0), Just(-1.0), Just(f64::NAN), Just(f64::INFINITY), Just(1e-300), Just(1e300)], 4),
        seen in observation(),
        bounds in (any::<u32>(), any::<u32>()),
    ) {
        let rules = ScalingRules { tolerance: numbers[3], ..ScalingRules::default_up() };
        let policy = Policy {
            mode: Mode::Full,
            min_replicas: bounds.0,
            max_replicas: bounds.1,
            schedules: Vec::new(),
            above_max: AboveMax::Alert,
            metrics: vec![MetricPolicy {
                name: "m0".to_owned(),
                demand: Demand::Load {
                    replica_capacity: numbers[0],
                    target_utilization: numbers[1],
                    activation_threshold: 0.0,
                    forecast: Some(ForecastRule::ViolationCost(numbers[2])),
                },
            }],
            behavior: Behavior { scale_up: rules.clone(), scale_down: rules },
            cooldown: Duration::MAX,
            pause: Pause::None,
            missing_data: MissingData::Hold,
        };
        decide(&policy, &seen, &History::default(), at(0));
    }
}
