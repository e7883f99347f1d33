//! Holidays, regressors and conditional seasons through augurs' front end.

use std::f64::consts::TAU;

use cloudpulse_forecast::prophet::front::{Event, ForecastError, Input, PartialSeason, Quantity, fit, forecast};
use cloudpulse_forecast::prophet::plan::{Season, SeasonalityMode};

use crate::support::series;

const ADDITIVE: SeasonalityMode = SeasonalityMode::Additive;
const STEP: i64 = 900;
const PAST: usize = 2000;
const FUTURE: usize = 400;
const EVERY_DAY: PartialSeason<'_> = PartialSeason { season: Season::DAY, active: None };

fn times() -> Vec<i64> {
    (0..(PAST + FUTURE) as i64).map(|i| 1_700_000_100 + STEP * i).collect()
}

/// Two series of noise about a daily season that differ by `effect` at each sample, forecast by the same input otherwise:
/// the difference of the forecasts at the future samples.
fn recovered(effect: impl Fn(usize) -> f64, input: &Input<'_>) -> Vec<f64> {
    let plain = series(PAST, STEP as f64);
    let with: Vec<f64> = plain.iter().enumerate().map(|(i, value)| value + effect(i)).collect();
    let (a, b) = (Input { values: &with, ..*input }, Input { values: &plain, ..*input });
    forecast(&a).unwrap().iter().zip(forecast(&b).unwrap()).map(|(a, b)| a - b).collect()
}

fn plain_input(times: &[i64]) -> Input<'_> {
    Input { times, values: &[], seasons: &[EVERY_DAY], seasonality_mode: ADDITIVE, holidays: &[], regressors: &[] }
}

#[test]
fn a_holiday_has_its_effect_again() {
    // Six hours each third day, and once in the future.
    let times = times();
    let days: Vec<(i64, i64)> = (0..8).map(|i| (times[96 * 3 * i], times[96 * 3 * i + 24])).collect();
    let holidays = [Event { name: "sale", occurrences: &days }];
    let on = |i: usize| days.iter().any(|(start, end)| (*start..*end).contains(&times[i]));
    let found = recovered(|i| if on(i) { 8.0 } else { 0.0 }, &Input { holidays: &holidays, ..plain_input(&times) });
    for (i, difference) in found.iter().enumerate() {
        let want = if on(PAST + i) { 8.0 } else { 0.0 };
        assert!((difference - want).abs() < 0.4, "{i}: {difference}, not {want}");
    }
    assert!((PAST..PAST + FUTURE).any(on));
}

#[test]
fn the_level_follows_a_regressor() {
    let times = times();
    let queue: Vec<f64> = (0..times.len()).map(|i| ((i * i) % 17) as f64).collect();
    let regressors = [Quantity { name: "queue", values: &queue, mode: ADDITIVE }];
    let found = recovered(|i| 1.5 * queue[i], &Input { regressors: &regressors, ..plain_input(&times) });
    for (i, difference) in found.iter().enumerate() {
        let want = 1.5 * queue[PAST + i];
        assert!((difference - want).abs() < 0.3, "{i}: {difference}, not {want}");
    }
}

#[test]
fn a_regressor_multiplies_the_level() {
    let times = times();
    let deployed: Vec<f64> = (0..times.len()).map(|i| f64::from(u8::from((i / 50) % 4 == 0))).collect();
    let regressors = [Quantity { name: "deployed", values: &deployed, mode: SeasonalityMode::Multiplicative }];
    let values: Vec<f64> =
        series(PAST, STEP as f64).iter().zip(&deployed).map(|(value, on)| value * (1.0 + 0.5 * on)).collect();
    let at = |deployed: &[f64]| {
        let regressors = [Quantity { values: deployed, ..regressors[0] }];
        forecast(&Input { values: &values, regressors: &regressors, ..plain_input(&times) }).unwrap()
    };
    let mut never = deployed.clone();
    never[PAST..].fill(0.0);
    let mut always = deployed.clone();
    always[PAST..].fill(1.0);
    // The additive season is not multiplied, so compare the means over whole days.
    let mean = |values: Vec<f64>| values[..384].iter().sum::<f64>() / 384.0;
    let ratio = mean(at(&always)) / mean(at(&never));
    assert!((ratio - 1.5).abs() < 0.05, "{ratio}");
}

#[test]
fn where_a_regressor_is_unknown_is_a_gap() {
    let times = times();
    let queue: Vec<f64> = (0..times.len()).map(|i| ((i * i) % 17) as f64).collect();
    let values: Vec<f64> = series(PAST, STEP as f64).iter().zip(&queue).map(|(value, x)| value + 1.5 * x).collect();
    let at = |values: &[f64], queue: &[f64]| {
        let regressors = [Quantity { name: "queue", values: queue, mode: ADDITIVE }];
        forecast(&Input { values, regressors: &regressors, ..plain_input(&times) }).unwrap()
    };
    let (mut unknown, mut gaps) = (queue.clone(), values.clone());
    for i in (0..PAST).filter(|i| i % 7 < 3) {
        unknown[i] = if i % 2 == 0 { f64::NAN } else { f64::INFINITY };
        gaps[i] = f64::NAN;
    }
    assert_eq!(at(&values, &unknown), at(&gaps, &queue));
}

#[test]
fn a_fit_is_asked_for_any_times_and_values_of_its_regressors() {
    let times = times();
    let queue: Vec<f64> = (0..times.len()).map(|i| ((i * i) % 17) as f64).collect();
    let values: Vec<f64> = series(PAST, STEP as f64).iter().zip(&queue).map(|(value, x)| value + 1.5 * x).collect();
    let regressors = [Quantity { name: "queue", values: &queue, mode: ADDITIVE }];
    let input = Input { values: &values, regressors: &regressors, ..plain_input(&times) };
    let fitted = fit(&input).unwrap();
    assert_eq!(fitted.curve(&times[PAST..], &[&queue[PAST..]]).unwrap(), forecast(&input).unwrap());
    let between = [times[50] + 17, times[PAST] + 17];
    let curve = |x: f64| fitted.curve(&between, &[&[x, x]]).unwrap();
    for (low, high) in curve(2.0).iter().zip(curve(12.0)) {
        assert!((high - low - 15.0).abs() < 0.3, "{low} {high}");
    }
    assert!(matches!(fitted.curve(&between, &[]), Err(ForecastError::Length { got: 0, needed: 1, .. })));
    assert!(matches!(fitted.curve(&between, &[&[1.0]]), Err(ForecastError::Fit(_))));
    assert!(matches!(fitted.curve(&between, &[&[1.0, f64::NAN]]), Err(ForecastError::Fit(_))));
}

#[test]
fn a_season_holds_for_a_part_of_the_time() {
    // On working days there is one more swing.
    let times = times();
    let active: Vec<bool> = times.iter().map(|time| (time / 86_400) % 7 < 5).collect();
    let half_day = Season { period_seconds: 43_200.0, order: 2, prior_scale: 10.0 };
    let seasons = [EVERY_DAY, PartialSeason { season: half_day, active: Some(&active) }];
    let effect = |i: usize| if active[i] { 6.0 * (TAU * times[i] as f64 / 43_200.0).sin() } else { 0.0 };
    let found = recovered(effect, &Input { seasons: &seasons, ..plain_input(&times) });
    for (i, difference) in found.iter().enumerate() {
        let want = effect(PAST + i);
        assert!((difference - want).abs() < 0.4, "{i}: {difference}, not {want}");
    }
}

#[test]
fn the_result_is_the_same_each_time() {
    // The front end's hash maps have another order in each model.
    let times = times();
    let quantities: Vec<Vec<f64>> =
        (1..7).map(|k| (0..times.len()).map(|i| ((i * k * 7919) % 101) as f64).collect()).collect();
    let names = ["a", "b", "c", "d", "e", "f"];
    let regressors: Vec<Quantity<'_>> =
        names.iter().zip(&quantities).map(|(name, values)| Quantity { name, values, mode: ADDITIVE }).collect();
    let values = series(PAST, STEP as f64);
    let input = Input { values: &values, regressors: &regressors, ..plain_input(&times) };
    let first = forecast(&input).unwrap();
    for _ in 0..5 {
        for (a, b) in forecast(&input).unwrap().iter().zip(&first) {
            // The front end adds up in its own order still.
            assert!((a / b - 1.0).abs() < 1e-12, "{a} {b}");
        }
    }
}

#[test]
fn gaps_are_left_out_and_lists_that_do_not_match_refused() {
    let times = times();
    let mut values = series(PAST, STEP as f64);
    let whole = forecast(&Input { values: &values, ..plain_input(&times) }).unwrap();
    assert_eq!(whole.len(), FUTURE);
    for (i, value) in values.iter_mut().enumerate() {
        if i % 10 == 3 {
            *value = if i % 20 == 3 { f64::NAN } else { f64::INFINITY };
        }
    }
    let holed = forecast(&Input { values: &values, ..plain_input(&times) }).unwrap();
    assert!(holed.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 3.0));
    let short = [Quantity { name: "queue", values: &[1.0], mode: ADDITIVE }];
    let refused = forecast(&Input { values: &values, regressors: &short, ..plain_input(&times) });
    assert!(matches!(refused, Err(ForecastError::Length { got: 1, .. })), "{refused:?}");
    let refused = forecast(&Input { values: &values, ..plain_input(&times[..10]) });
    assert!(matches!(refused, Err(ForecastError::Length { needed: 10, .. })), "{refused:?}");
    let mut backwards = times.clone();
    backwards.reverse();
    let refused = forecast(&Input { values: &values, ..plain_input(&backwards) });
    assert!(matches!(refused, Err(ForecastError::Order)), "{refused:?}");
    let no_period = [PartialSeason { season: Season { period_seconds: 0.0, ..Season::DAY }, active: None }];
    let refused = forecast(&Input { values: &values, seasons: &no_period, ..plain_input(&times) });
    assert!(matches!(refused, Err(ForecastError::NotPositive(_))), "{refused:?}");
}
