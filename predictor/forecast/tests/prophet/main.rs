//! The exact Prophet fit against augurs' front end, its own optimality conditions, and degenerate series.
#![allow(clippy::unwrap_used, reason = "test code")]

mod front;
mod multiplicative;
mod support;

use cloudpulse_forecast::prophet::plan::{FitError, GridPlan, Growth, PlanSpec, SeasonalityMode};
use support::{assert_agrees, plan, series, through_augurs, with_gaps};

const ADDITIVE: SeasonalityMode = SeasonalityMode::Additive;

#[test]
fn the_grid_and_augurs_front_end_agree() {
    assert_agrees(&series(4032, 300.0), Growth::Linear, ADDITIVE);
    assert_agrees(&series(4032, 300.0), Growth::Flat, ADDITIVE);
}

#[test]
fn the_grid_and_augurs_front_end_agree_with_interior_gaps_and_a_flat_trend() {
    // With gaps Prophet places its changepoints by known samples, the plan by time: only a flat trend is the same.
    let mut values = with_gaps(series(4032, 300.0));
    assert_agrees(&values, Growth::Flat, ADDITIVE);
    for value in &mut values[10..3000] {
        *value = f64::NAN; // most are gone: the matrix is built afresh
    }
    assert_agrees(&values, Growth::Flat, ADDITIVE);
}

#[test]
fn the_solution_is_the_optimum() {
    for count in [60, 500, 4032] {
        let values = series(count, 300.0);
        let plan = plan(count, Growth::Linear, ADDITIVE);
        let fit = plan.fit(&values).unwrap();
        let violation = plan.kkt_violation(&values, &fit).unwrap();
        assert!(violation <= 1e-6, "{count}: {violation}");
    }
}

#[test]
fn phase_does_not_matter() {
    let values = series(3000, 300.0);
    let at = |first: i64| through_augurs(&values, Growth::Linear, ADDITIVE, first, &[first + 300 * 3100])[0];
    assert!((at(1_700_000_000) - at(1_700_047_000)).abs() < 1e-6);
}

#[test]
fn degenerate_series_are_fitted_or_refused() {
    let plan = plan(300, Growth::Linear, ADDITIVE);
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
