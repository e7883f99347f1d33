//! The exact Prophet fit against augurs' front end, its own optimality conditions, and degenerate series.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::HashMap;
use std::f64::consts::TAU;

use augurs_prophet::optimizer::OptimizeOpts;
use augurs_prophet::{GrowthType, PredictionData, Prophet, ProphetOptions, SeasonalityOption, TrainingData};
use cloudpulse_forecast::prophet::optimizer::ExactOptimizer;
use cloudpulse_forecast::prophet::plan::{FitError, GridPlan, Growth, PlanSpec, Season};

/// Daily and weekly sines, a trend with breaks, and noise from a small generator.
fn series(count: usize, step: f64) -> Vec<f64> {
    let mut state = 3_u64;
    let mut noise = 0.0;
    (0..count)
        .map(|i| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            noise = 0.7 * noise + ((state >> 33) as f64 / (1_u64 << 31) as f64 - 0.5) * 4.0;
            let t = i as f64 * step;
            let trend = 50.0 + t / 86_400.0 - 2.0 * (t / 86_400.0 - 6.0).max(0.0);
            (trend + 10.0 * (TAU * t / 86_400.0).sin() + 4.0 * (TAU * t / 604_800.0).cos() + noise).max(0.1)
        })
        .collect()
}

fn plan(count: usize, growth: Growth) -> GridPlan {
    let spec = PlanSpec { growth, seasons: vec![Season::DAY, Season::WEEK], ..PlanSpec::prophet(count, 300.0) };
    GridPlan::new(&spec).unwrap()
}

fn through_augurs(values: &[f64], growth: Growth, first: i64, at: &[i64]) -> Vec<f64> {
    let options = ProphetOptions {
        growth: if growth == Growth::Linear { GrowthType::Linear } else { GrowthType::Flat },
        daily_seasonality: SeasonalityOption::Manual(true),
        weekly_seasonality: SeasonalityOption::Manual(true),
        yearly_seasonality: SeasonalityOption::Manual(false),
        uncertainty_samples: 0,
        ..ProphetOptions::default()
    };
    let mut prophet = Prophet::new(options, ExactOptimizer);
    let times: Vec<i64> = (0..values.len()).map(|i| first + 300 * i as i64).collect();
    let (times, known) = times.into_iter().zip(values).filter(|(_, v)| v.is_finite()).map(|(t, v)| (t, *v)).unzip();
    prophet.fit(TrainingData::new(times, known).unwrap(), OptimizeOpts::default()).unwrap();
    prophet.predict(PredictionData::new(at.to_vec())).unwrap().yhat.point
}

fn assert_agrees(values: &[f64], growth: Growth) {
    let plan = plan(values.len(), growth);
    let fit = plan.fit(values).unwrap();
    let first = 1_700_000_100; // no multiple of a day: the phase must not matter
    let indices: Vec<usize> = (0..values.len() + 288).step_by(37).collect();
    let times: Vec<i64> = indices.iter().map(|i| first + 300 * *i as i64).collect();
    let mean = values.iter().filter(|v| v.is_finite()).sum::<f64>() / values.len() as f64;
    for (i, other) in indices.iter().zip(through_augurs(values, growth, first, &times)) {
        let own = plan.value_at(&fit, *i as f64);
        assert!((own - other).abs() <= 1e-6 * mean.abs(), "{growth:?} {i}: {own} against {other}");
    }
}

#[test]
fn the_grid_and_augurs_front_end_agree() {
    assert_agrees(&series(4032, 300.0), Growth::Linear);
    assert_agrees(&series(4032, 300.0), Growth::Flat);
}

#[test]
fn the_grid_and_augurs_front_end_agree_with_interior_gaps_and_a_flat_trend() {
    // With gaps Prophet places its changepoints by known samples, the plan by time: only a flat trend is the same.
    let mut values = series(4032, 300.0);
    for i in (100..160).chain(2000..2300).chain((500..4000).step_by(7)) {
        values[i] = f64::NAN;
    }
    assert_agrees(&values, Growth::Flat);
    for value in &mut values[10..3000] {
        *value = f64::NAN; // most are gone: the matrix is built afresh
    }
    assert_agrees(&values, Growth::Flat);
}

#[test]
fn the_solution_is_the_optimum() {
    for count in [60, 500, 4032] {
        let values = series(count, 300.0);
        let plan = plan(count, Growth::Linear);
        let fit = plan.fit(&values).unwrap();
        let violation = plan.kkt_violation(&values, &fit);
        assert!(violation <= 1e-6, "{count}: {violation}");
    }
}

#[test]
fn phase_does_not_matter() {
    let values = series(3000, 300.0);
    let at = |first: i64| through_augurs(&values, Growth::Linear, first, &[first + 300 * 3100])[0];
    assert!((at(1_700_000_000) - at(1_700_047_000)).abs() < 1e-6);
}

#[test]
fn degenerate_series_are_fitted_or_refused() {
    let plan = plan(300, Growth::Linear);
    let constant = plan.fit(&[7.0; 300]).unwrap();
    assert!((plan.value_at(&constant, 310.0) - 7.0).abs() < 0.05);
    let zero = plan.fit(&[0.0; 300]).unwrap();
    assert_eq!(plan.value_at(&zero, 310.0), 0.0);
    assert_eq!(plan.fit(&[f64::NAN; 300]), Err(FitError::TooShort { got: 0, needed: 2 }));
    assert_eq!(plan.fit(&[1.0; 3]), Err(FitError::OtherLength { got: 3, planned: 300 }));
    assert!(GridPlan::new(&PlanSpec::prophet(1, 300.0)).is_err());
    let two = GridPlan::new(&PlanSpec::prophet(2, 300.0)).unwrap();
    assert!(two.fit(&[1.0, 2.0]).unwrap().solution.sigma > 0.0);
    let mut huge = series(300, 300.0);
    huge[5] = f64::INFINITY;
    assert!(plan.fit(&huge).is_ok());
}

#[test]
fn holidays_come_through_the_front_end() {
    // A regressor that lifts every tenth sample by 5 is found through augurs' data frame.
    let step = 300;
    let mut values = series(2000, 300.0);
    let pulse: Vec<f64> = (0..2100).map(|i| f64::from(u8::from(i % 10 == 0))).collect();
    for (value, p) in values.iter_mut().zip(&pulse) {
        *value += 5.0 * p;
    }
    let mut prophet = Prophet::new(ProphetOptions { uncertainty_samples: 0, ..Default::default() }, ExactOptimizer);
    prophet.add_regressor("pulse".to_owned(), augurs_prophet::Regressor::additive());
    let times: Vec<i64> = (0..2000).map(|i| i * step).collect();
    let data = TrainingData::new(times, values)
        .unwrap()
        .with_regressors(HashMap::from([("pulse".to_owned(), pulse[..2000].to_vec())]))
        .unwrap();
    prophet.fit(data, OptimizeOpts::default()).unwrap();
    let future = |p: f64| {
        let data = PredictionData::new(vec![2001 * step])
            .with_regressors(HashMap::from([("pulse".to_owned(), vec![p])]))
            .unwrap();
        prophet.predict(data).unwrap().yhat.point[0]
    };
    let lift = future(1.0) - future(0.0);
    assert!((lift - 5.0).abs() < 0.5, "{lift}");
}
