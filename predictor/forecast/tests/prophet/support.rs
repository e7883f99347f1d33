//! Series and the way through augurs' front end, for all tests.

use std::f64::consts::TAU;

use augurs_prophet::optimizer::OptimizeOpts;
use augurs_prophet::{
    FeatureMode, GrowthType, PredictionData, Prophet, ProphetOptions, SeasonalityOption, TrainingData,
};
use cloudpulse_forecast::prophet::optimizer::ExactOptimizer;
use cloudpulse_forecast::prophet::plan::{GridPlan, Growth, PlanSpec, Season, SeasonalityMode};

/// Daily and weekly sines, a trend with breaks, and noise from a small generator.
pub(crate) fn series(count: usize, step: f64) -> Vec<f64> {
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

/// The same with a daily swing that grows with the level.
pub(crate) fn growing_series(count: usize, step: f64) -> Vec<f64> {
    let noise = series(count, step);
    let plain = |t: f64| 50.0 + t / 86_400.0 - 2.0 * (t / 86_400.0 - 6.0).max(0.0);
    (0..count)
        .map(|i| {
            let t = i as f64 * step;
            let rest = noise[i] - plain(t) - 10.0 * (TAU * t / 86_400.0).sin() - 4.0 * (TAU * t / 604_800.0).cos();
            let trend = 20.0 + 6.0 * t / 86_400.0 - 9.0 * (t / 86_400.0 - 6.0).max(0.0);
            trend * (1.0 + 0.4 * (TAU * t / 86_400.0).sin() + 0.1 * (TAU * t / 604_800.0).cos()) + rest
        })
        .collect()
}

pub(crate) fn plan(count: usize, growth: Growth, seasonality_mode: SeasonalityMode) -> GridPlan {
    let seasons = vec![Season::DAY, Season::WEEK];
    GridPlan::new(&PlanSpec { growth, seasons, seasonality_mode, ..PlanSpec::prophet(count, 300.0) }).unwrap()
}

/// Fits the known values, 300 s apart from `first` on, and returns the curve at some times.
pub(crate) fn through_augurs(
    values: &[f64],
    growth: Growth,
    mode: SeasonalityMode,
    first: i64,
    at: &[i64],
) -> Vec<f64> {
    let options = ProphetOptions {
        growth: if growth == Growth::Linear { GrowthType::Linear } else { GrowthType::Flat },
        seasonality_mode: match mode {
            SeasonalityMode::Additive => FeatureMode::Additive,
            SeasonalityMode::Multiplicative => FeatureMode::Multiplicative,
        },
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

/// The grid and augurs' front end give the same curve, inside the history and past it.
pub(crate) fn assert_agrees(values: &[f64], growth: Growth, mode: SeasonalityMode) {
    let plan = plan(values.len(), growth, mode);
    let fit = plan.fit(values).unwrap();
    let first = 1_700_000_100; // no multiple of a day: the phase must not matter
    let indices: Vec<usize> = (0..values.len() + 288).step_by(37).collect();
    let times: Vec<i64> = indices.iter().map(|i| first + 300 * *i as i64).collect();
    let mean = values.iter().filter(|v| v.is_finite()).sum::<f64>() / values.len() as f64;
    for (i, other) in indices.iter().zip(through_augurs(values, growth, mode, first, &times)) {
        let own = plan.value_at(&fit, *i as f64);
        assert!((own - other).abs() <= 1e-6 * mean.abs(), "{growth:?} {mode:?} {i}: {own} against {other}");
    }
}

/// A stretch, a block and every seventh sample are unknown.
pub(crate) fn with_gaps(mut values: Vec<f64>) -> Vec<f64> {
    let count = values.len();
    for i in (100..160).chain(count / 2..count / 2 + count / 13).chain((count / 8..count - 30).step_by(7)) {
        values[i] = f64::NAN;
    }
    values
}
