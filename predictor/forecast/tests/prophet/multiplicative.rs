//! The multiplicative season: against augurs' front end, a slow reference, and the optimality conditions.

use cloudpulse_forecast::prophet::plan::{FitError, GridPlan, Growth, PlanSpec, Season, SeasonalityMode};

use crate::support::{assert_agrees, growing_series, plan, series, with_gaps};

const MULTIPLICATIVE: SeasonalityMode = SeasonalityMode::Multiplicative;

#[test]
fn the_grid_and_augurs_front_end_agree() {
    for values in [growing_series(4032, 300.0), series(4032, 300.0), growing_series(1000, 300.0)] {
        assert_agrees(&values, Growth::Linear, MULTIPLICATIVE);
        assert_agrees(&values, Growth::Flat, MULTIPLICATIVE);
    }
}

#[test]
fn the_grid_and_augurs_front_end_agree_with_gaps_and_a_flat_trend() {
    let mut values = with_gaps(growing_series(4032, 300.0));
    assert_agrees(&values, Growth::Flat, MULTIPLICATIVE);
    for value in &mut values[10..3000] {
        *value = f64::NAN;
    }
    assert_agrees(&values, Growth::Flat, MULTIPLICATIVE);
}

#[test]
fn the_solution_is_an_optimum() {
    for count in [600, 1500, 4032, 8064] {
        for values in [growing_series(count, 300.0), series(count, 300.0), with_gaps(growing_series(count, 300.0))] {
            let spec = PlanSpec { seasonality_mode: MULTIPLICATIVE, ..PlanSpec::prophet(count, 300.0) };
            let plan = GridPlan::new(&spec).unwrap();
            let fit = plan.fit(&values).unwrap();
            let violation = plan.kkt_violation(&values, &fit).unwrap();
            assert!(violation <= 1e-5, "{count}: {violation}");
        }
    }
}

#[test]
fn never_worse_than_a_slow_search_point_by_point() {
    let (count, changepoints) = (600, 6);
    let spec = PlanSpec {
        seasons: vec![Season { order: 2, ..Season::DAY }],
        changepoints,
        seasonality_mode: MULTIPLICATIVE,
        ..PlanSpec::prophet(count, 300.0)
    };
    let plan = GridPlan::new(&spec).unwrap();
    let mut declining = growing_series(count, 300.0);
    declining.reverse();
    let signed: Vec<f64> = series(count, 300.0).iter().map(|value| value - 45.0).collect();
    let mut mostly_gaps = growing_series(count, 300.0);
    mostly_gaps[20..400].fill(f64::NAN);
    for (name, values) in [
        ("growing", growing_series(count, 300.0)),
        ("declining", declining),
        ("additive", series(count, 300.0)),
        ("signed", signed),
        ("gaps", with_gaps(growing_series(count, 300.0))),
        ("mostly gaps", mostly_gaps),
    ] {
        let fit = plan.fit(&values).unwrap();
        let own = fit.solution.objective;
        let by_points = reference::objective(&values, &fit.solution.theta, fit.solution.sigma, fit.scale);
        assert!((own - by_points).abs() < 1e-6, "{name}: {own}, point by point {by_points}");
        let slow = reference::search(&values, changepoints, fit.scale);
        assert!(own <= slow + 1e-6, "{name}: {own} against {slow}");
        assert!(slow - own < 0.1, "{name}: {own} against {slow}");
    }
}

#[test]
fn the_swing_of_the_season_multiplies_the_changes_to_come() {
    let values = growing_series(4032, 300.0);
    let plan = plan(4032, Growth::Linear, MULTIPLICATIVE);
    let fit = plan.fit(&values).unwrap();
    let width = |index: f64| plan.uncertainty_at(&fit, index).mean_change;
    let (peak, trough) = (width(4032.0 + 72.0), width(4032.0 + 216.0));
    assert!(peak > 1.5 * trough && trough > 0.0, "{peak} {trough}");
}

#[test]
fn degenerate_series_are_fitted_or_refused() {
    let plan = plan(300, Growth::Linear, MULTIPLICATIVE);
    let constant = plan.fit(&[7.0; 300]).unwrap();
    assert!((plan.value_at(&constant, 310.0) - 7.0).abs() < 0.05);
    let zero = plan.fit(&[0.0; 300]).unwrap();
    assert_eq!(plan.value_at(&zero, 310.0), 0.0);
    let sum_zero: Vec<f64> = (0..300).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
    assert!(plan.value_at(&plan.fit(&sum_zero).unwrap(), 310.0).is_finite());
    assert_eq!(plan.fit(&[f64::NAN; 300]), Err(FitError::TooShort { got: 0, needed: 2 }));
    let two = PlanSpec { seasonality_mode: MULTIPLICATIVE, ..PlanSpec::prophet(2, 300.0) };
    assert!(GridPlan::new(&two).unwrap().fit(&[1.0, 2.0]).unwrap().solution.sigma > 0.0);
    let mut holed = growing_series(300, 300.0);
    holed[5] = f64::INFINITY;
    holed[290..].fill(f64::NAN);
    assert!(plan.fit(&holed).is_ok());
}

/// Two daily harmonics and a piecewise-linear trend over 600 samples, in another way than the crate's: sample by sample, one
/// parameter at a time. The parameters stand in the crate's order: k, m, four coefficients, the changes.
mod reference {
    use std::f64::consts::TAU;

    const FIRST_CHANGE: usize = 6;
    const TAU_CHANGE: f64 = 0.05;

    struct Sample {
        y: f64,
        /// t, 1 and the hinges; the parameters of the trend.
        trend: Vec<f64>,
        /// The parameters of the season.
        season: Vec<f64>,
    }

    fn samples(values: &[f64], changepoints: usize, scale: f64) -> Vec<Sample> {
        let at = |j: usize| (j as f64 / changepoints as f64 * 479.0).round() / 599.0;
        let known = values.iter().enumerate().filter(|(_, value)| value.is_finite());
        known
            .map(|(i, value)| {
                let t = i as f64 / 599.0;
                let day = TAU * i as f64 / 288.0;
                Sample {
                    y: value / scale,
                    trend: [t, 1.0].into_iter().chain((1..=changepoints).map(|j| (t - at(j)).max(0.0))).collect(),
                    season: vec![day.sin(), day.cos(), (2.0 * day).sin(), (2.0 * day).cos()],
                }
            })
            .collect()
    }

    fn is_season(parameter: usize) -> bool {
        (2..FIRST_CHANGE).contains(&parameter)
    }

    impl Sample {
        fn trend(&self, theta: &[f64]) -> f64 {
            let coefficients = theta[..2].iter().chain(&theta[FIRST_CHANGE..]);
            self.trend.iter().zip(coefficients).map(|(x, c)| x * c).sum()
        }

        fn weight(&self, theta: &[f64]) -> f64 {
            1.0 + self.season.iter().zip(&theta[2..FIRST_CHANGE]).map(|(x, c)| x * c).sum::<f64>()
        }

        fn residual(&self, theta: &[f64]) -> f64 {
            self.y - self.trend(theta) * self.weight(theta)
        }

        /// The derivative of the mean: the mean is linear in each parameter by itself.
        fn derivative(&self, theta: &[f64], parameter: usize) -> f64 {
            if is_season(parameter) {
                self.season[parameter - 2] * self.trend(theta)
            } else {
                let place = if parameter < 2 { parameter } else { parameter - 4 };
                self.trend[place] * self.weight(theta)
            }
        }
    }

    fn objective_of(samples: &[Sample], theta: &[f64], sigma: f64) -> f64 {
        let rss: f64 = samples.iter().map(|sample| sample.residual(theta).powi(2)).sum();
        let variance = sigma * sigma;
        samples.len() as f64 * sigma.ln()
            + rss / (2.0 * variance)
            + (theta[0].powi(2) + theta[1].powi(2)) / 50.0
            + theta[2..FIRST_CHANGE].iter().map(|b| b * b / 200.0).sum::<f64>()
            + theta[FIRST_CHANGE..].iter().map(|d| d.abs() / TAU_CHANGE).sum::<f64>()
            + 2.0 * variance
    }

    /// The negative log posterior.
    pub(super) fn objective(values: &[f64], theta: &[f64], sigma: f64, scale: f64) -> f64 {
        objective_of(&samples(values, theta.len() - FIRST_CHANGE, scale), theta, sigma)
    }

    /// The least negative log posterior of a coordinate descent from Prophet's start: the line through the ends.
    pub(super) fn search(values: &[f64], changepoints: usize, scale: f64) -> f64 {
        let samples = samples(values, changepoints, scale);
        let mut theta = vec![0.0; FIRST_CHANGE + changepoints];
        theta[1] = samples[0].y;
        theta[0] = samples[samples.len() - 1].y - theta[1];
        let mut residuals: Vec<f64> = samples.iter().map(|sample| sample.residual(&theta)).collect();
        let mut sigma = 1.0;
        for _ in 0..3000 {
            for parameter in 0..theta.len() {
                let columns: Vec<f64> = samples.iter().map(|sample| sample.derivative(&theta, parameter)).collect();
                let square: f64 = columns.iter().map(|z| z * z).sum::<f64>() / (sigma * sigma);
                let product: f64 = columns.iter().zip(&residuals).map(|(z, r)| z * r).sum::<f64>() / (sigma * sigma);
                let target = product + square * theta[parameter];
                let next = if parameter >= FIRST_CHANGE {
                    target.signum() * (target.abs() - 1.0 / TAU_CHANGE).max(0.0) / square
                } else {
                    target / (square + if is_season(parameter) { 0.01 } else { 0.04 })
                };
                let step = next - theta[parameter];
                theta[parameter] = next;
                for (residual, z) in residuals.iter_mut().zip(&columns) {
                    *residual -= step * z;
                }
            }
            // The root of T/s − RSS/s³ + 4s = 0.
            let (count, rss) = (samples.len() as f64, residuals.iter().map(|r| r * r).sum::<f64>());
            sigma = (((count * count + 16.0 * rss).sqrt() - count) / 8.0).sqrt();
        }
        objective_of(&samples, &theta, sigma)
    }
}
