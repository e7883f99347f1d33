//! What must hold of every policy: no look-ahead, no scale-in on a missing load, and totals that anyone can recount.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::time::Duration;

use cloudpulse_forecast::series::Series;
use cloudpulse_policy::policy::AboveMax;
use cloudpulse_policy::policy::Behavior;
use cloudpulse_policy::policy::Demand;
use cloudpulse_policy::policy::ForecastRule;
use cloudpulse_policy::policy::MetricPolicy;
use cloudpulse_policy::policy::MissingData;
use cloudpulse_policy::policy::Mode;
use cloudpulse_policy::policy::Pause;
use cloudpulse_policy::policy::Policy;
use cloudpulse_replay::baseline::Baseline;
use cloudpulse_replay::baseline::Prepared;
use cloudpulse_replay::peaks::of_peak_model;
use cloudpulse_replay::rule::RuleController;
use cloudpulse_replay::scenario::Scenario;
use cloudpulse_replay::simulation::simulate;
use cloudpulse_replay::simulation::timeline;
use cloudpulse_replay::timeline::Row;
use cloudpulse_replay::timeline::Totals;

const BASELINES: [Baseline; 9] = [
    Baseline::ReactiveHpa,
    Baseline::ReactiveHpaTuned,
    Baseline::SeasonalNaive,
    Baseline::SeasonalNaiveHalfHour,
    Baseline::HoltWinters,
    Baseline::PredictLinear10m,
    Baseline::PredictLinear1h,
    Baseline::Static,
    Baseline::Oracle,
];

/// First and last minute of an outage that begins ten minutes before the evening's fall and hides it.
const OUTAGE: (i64, i64) = (2630, 2699);

/// Two and a half days of minutes: a steep morning, noise, an outage on the second evening and a flash crowd on the third day.
fn load() -> Vec<f64> {
    let mut state = 3_u64;
    (0..3600)
        .map(|minute| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise = (state >> 33) as f64 / (1_u64 << 31) as f64 - 0.5;
            match minute {
                2630..2700 => f64::NAN,
                3200..3210 => 400.0,
                _ if (480..1200).contains(&(minute % 1440)) => 170.0 + 30.0 * noise,
                _ => 30.0 + 10.0 * noise,
            }
        })
        .collect()
}

fn scenario(series: &Series) -> Scenario<'_> {
    Scenario { series, replica_capacity: 10.0, start_delay: 120, min_replicas: 1, max_replicas: 60, warmup: 86_400 }
}

fn policy(missing_data: MissingData) -> Policy {
    Policy {
        mode: Mode::Full,
        min_replicas: 1,
        max_replicas: 60,
        schedules: Vec::new(),
        above_max: AboveMax::Alert,
        metrics: vec![MetricPolicy {
            name: "requests".to_owned(),
            demand: Demand::Load {
                replica_capacity: 10.0,
                target_utilization: 0.8,
                activation_threshold: 0.0,
                forecast: Some(ForecastRule::ViolationCost(30.0)),
            },
        }],
        behavior: Behavior::default(),
        cooldown: Duration::ZERO,
        pause: Pause::None,
        missing_data,
    }
}

/// The rows of all policies by name, the rule last.
fn rows_of_all(series: &Series) -> Vec<(&'static str, Vec<Row>)> {
    let scenario = scenario(series);
    let mut all: Vec<_> = BASELINES
        .into_iter()
        .map(|baseline| {
            let prepared = Prepared::new(baseline, &scenario);
            let knob = baseline.default_knob(&scenario);
            (baseline.name(), timeline(&scenario, prepared.controller(&scenario, knob).as_mut()))
        })
        .collect();
    let policy = policy(MissingData::Reactive);
    let peaks = of_peak_model(series, scenario.lead_steps());
    all.push(("rule", timeline(&scenario, &mut RuleController::new(&policy, series, Some(&peaks)))));
    all
}

#[test]
fn another_future_leaves_the_past_as_it_was() {
    let values = load();
    let cut = 3205;
    let mut other = values.clone();
    other[cut + 1..].iter_mut().for_each(|value| *value = 5.0 * *value + 11.0);
    let (series, other) = (Series::new(0, 60, values).unwrap(), Series::new(0, 60, other).unwrap());
    let until = (cut as i64 + 1) * 60;
    for ((name, before), (_, after)) in rows_of_all(&series).into_iter().zip(rows_of_all(&other)) {
        let past = |rows: &[Row]| rows.iter().copied().filter(|row| row.timestamp < until).collect::<Vec<_>>();
        assert!(!past(&before).is_empty());
        assert_ne!(before, after, "{name}: the other future is another one");
        // These two know the future, which is what they are for.
        if ["static", "oracle"].contains(&name) {
            assert_ne!(past(&before), past(&after), "{name}");
        } else {
            assert_eq!(past(&before), past(&after), "{name}");
        }
    }
}

#[test]
fn a_missing_load_never_scales_in() {
    let series = Series::new(0, 60, load()).unwrap();
    for (name, rows) in rows_of_all(&series) {
        let scaled_in: Vec<i64> = rows
            .windows(2)
            .filter(|pair| pair[1].allocated < pair[0].allocated)
            .map(|pair| pair[1].timestamp / 60)
            // The first minute of the outage is what is visible a minute later, and so is the last.
            .filter(|minute| (OUTAGE.0 + 1..=OUTAGE.1 + 1).contains(minute))
            .collect();
        // The oracle sees the end of the outage two minutes and a sync before.
        let held_until = if name == "oracle" { OUTAGE.1 - 2 } else { OUTAGE.1 + 1 };
        assert!(scaled_in.iter().all(|minute| *minute >= held_until), "{name}: {scaled_in:?}");
        let after = |minute: i64| rows.iter().find(|row| row.timestamp == minute * 60).unwrap().allocated;
        if name != "static" {
            assert!(after(OUTAGE.1) > 15 || name == "oracle", "{name}: held what the day needed");
            assert!(after(OUTAGE.1 + 30) < 12, "{name}: and scaled in when it knew");
        }
    }
    let hold = policy(MissingData::Hold);
    let scenario = scenario(&series);
    // The same while the forecast alone is missing, where the rule says to hold.
    let none = vec![None; series.len()];
    let rows = timeline(&scenario, &mut RuleController::new(&hold, &series, Some(&none)));
    assert!(rows.windows(2).all(|pair| pair[1].allocated >= pair[0].allocated));
}

#[test]
fn totals_can_be_recounted_from_the_rows() {
    let series = Series::new(0, 60, load()).unwrap();
    let scenario = scenario(&series);
    for (name, rows) in rows_of_all(&series) {
        let totals: Totals = rows.iter().collect();
        let known = || rows.iter().filter(|row| row.load.is_some());
        let minutes = known().filter(|row| row.ready < (row.load.unwrap() / 10.0).ceil() as u32).count() as f64 / 4.0;
        assert_eq!(totals.violation_minutes(), minutes, "{name}");
        let hours: f64 = known().map(|row| f64::from(row.allocated)).sum::<f64>() / 240.0;
        assert!((totals.replica_hours() - hours).abs() < 1e-9, "{name}");
        let needed: f64 = known().map(|row| (row.load.unwrap() / 10.0).ceil()).sum::<f64>() / 240.0;
        assert!((totals.replica_hours_per_demand() - hours / needed).abs() < 1e-9, "{name}");
        let changes = rows.windows(2).filter(|pair| pair[0].allocated != pair[1].allocated).count() as f64;
        assert!((totals.changes_per_hour() - changes / (rows.len() as f64 / 240.0)).abs() < 1e-9, "{name}");
        assert!(rows.windows(2).all(|pair| pair[1].timestamp - pair[0].timestamp == 15), "{name}");
        assert_eq!(rows[0].timestamp, 86_400, "{name}");
        assert!(rows.iter().all(|row| row.ready <= row.allocated && row.allocated == row.desired), "{name}");
        assert!(rows.iter().all(|row| row.allocated >= scenario.min_replicas && row.allocated <= 60), "{name}");
    }
}

#[test]
fn a_forecast_beats_the_load_alone_on_a_daily_rise() {
    // The third morning without outage and flash crowd: it rises at 8 as the days before.
    let values: Vec<f64> = load().into_iter().take(2880).collect();
    let series = Series::new(0, 60, values).unwrap();
    let scenario = scenario(&series);
    let policy = policy(MissingData::Reactive);
    let peaks = of_peak_model(&series, scenario.lead_steps());
    let rule = simulate(&scenario, &mut RuleController::new(&policy, &series, Some(&peaks)), |_| ());
    let hpa = Prepared::new(Baseline::ReactiveHpa, &scenario);
    let hpa = simulate(&scenario, hpa.controller(&scenario, 0.7).as_mut(), |_| ());
    assert!(hpa.violation_minutes() > 2.0, "{}", hpa.violation_minutes());
    assert!(rule.violation_minutes() < hpa.violation_minutes(), "{}", rule.violation_minutes());
}
