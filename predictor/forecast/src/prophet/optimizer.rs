//! The exact solver behind augurs' Prophet front end, which brings holidays, regressors and conditional seasons.

use augurs_prophet::TrendIndicator;
use augurs_prophet::optimizer::{Data, Error, InitialParams, OptimizeOpts, OptimizedParams, Optimizer};

use super::solver::{Problem, Solution};
use super::statistics::{Moments, RidgeLayout};

/// Finds the exact maximum a posteriori of additive models with linear or flat trend. Multiplicative seasons and logistic
/// trends are refused with an error: their objective is not a linear one.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExactOptimizer;

impl Optimizer for ExactOptimizer {
    fn optimize(&self, _init: &InitialParams, data: &Data, _opts: &OptimizeOpts) -> Result<OptimizedParams, Error> {
        let linear = match data.trend_indicator {
            TrendIndicator::Linear => true,
            TrendIndicator::Flat => false,
            TrendIndicator::Logistic => {
                return Err(Error::static_str("the exact optimizer has no logistic trend; use a linear or flat one"));
            }
        };
        if data.s_m.iter().any(|indicator| *indicator != 0) {
            return Err(Error::static_str("the exact optimizer has no multiplicative features; make them additive"));
        }
        let solution = solve(data, linear)?;
        let ridge = RidgeLayout::new(linear);
        let width = data.s_a.len();
        let k = ridge.slope.map_or(0.0, |column| solution.theta[column]);
        let m = solution.theta[ridge.offset];
        let beta = solution.theta[ridge.first_column..ridge.first_column + width].to_vec();
        let changes = solution.theta[ridge.first_column + width..].to_vec();
        let delta = if linear { changes } else { vec![0.0; data.t_change.len()] };
        let trend = data.t.iter().map(|t| trend_at(*t, k, m, &delta, &data.t_change)).collect();
        let sigma_obs =
            solution.sigma.try_into().map_err(|_| Error::static_str("the noise has no positive standard deviation"))?;
        Ok(OptimizedParams { k, m, sigma_obs, delta, beta, trend })
    }
}

fn solve(data: &Data, linear: bool) -> Result<Solution, Error> {
    let width = data.s_a.len();
    let layout = RidgeLayout::new(linear);
    let ridge = layout.first_column + width;
    let changepoints: &[f64] = if linear { &data.t_change } else { &[] };
    let size = ridge + changepoints.len();
    let (mut gram, mut zty, mut yty) = (vec![0.0; size * size], vec![0.0; size], 0.0);
    let mut moments = Moments::new(changepoints.len(), width);
    let mut row = vec![0.0; ridge];
    let mut segment = 0;
    for (i, (t, y)) in data.t.iter().zip(&data.y).enumerate() {
        while segment < changepoints.len() && *t >= changepoints[segment] {
            segment += 1;
        }
        let x = &data.X[i * width..(i + 1) * width];
        if let Some(slope) = layout.slope {
            row[slope] = *t;
        }
        row[layout.offset] = 1.0;
        row[layout.first_column..].copy_from_slice(x);
        for a in 0..ridge {
            zty[a] += row[a] * y;
            for b in 0..ridge {
                gram[a * size + b] += row[a] * row[b];
            }
        }
        yty += y * y;
        moments.add(segment, *t, *y, x);
    }
    moments.accumulate_suffixes();
    moments.fill_hinges(&mut gram, &mut zty, ridge, layout, changepoints);
    let mut precision = vec![1.0 / 25.0; layout.first_column];
    precision.extend(data.sigmas.iter().map(|sd| 1.0 / (**sd * **sd)));
    let problem = Problem {
        gram: &gram,
        zty: &zty,
        yty,
        count: data.t.len() as f64,
        ridge,
        lasso: changepoints.len(),
        precision: &precision,
        tau: *data.tau,
    };
    problem.solve().map_err(Error::custom)
}

fn trend_at(t: f64, k: f64, m: f64, delta: &[f64], changepoints: &[f64]) -> f64 {
    let changes: f64 = delta.iter().zip(changepoints).map(|(d, s)| d * (t - s).max(0.0)).sum();
    k * t + m + changes
}
