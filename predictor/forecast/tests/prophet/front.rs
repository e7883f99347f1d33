//! Holidays, regressors and conditional seasons through augurs' front end.

use std::collections::HashMap;

use augurs_prophet::optimizer::OptimizeOpts;
use augurs_prophet::{PredictionData, Prophet, ProphetOptions, TrainingData};
use cloudpulse_forecast::prophet::optimizer::ExactOptimizer;

use crate::support::series;

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
