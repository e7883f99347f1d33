//! The exact solver behind augurs' Prophet front end, which brings holidays, regressors and conditional seasons.

use std::cmp::Ordering;

use augurs_prophet::TrendIndicator;
use augurs_prophet::optimizer::{Data, Error, InitialParams, OptimizeOpts, OptimizedParams, Optimizer};

use super::gauss_newton::{self, Curvature, Mean, Priors};
use super::solver::{Problem, Solution, SolveError};
use super::statistics::{Moments, RidgeLayout};

/// Finds the exact maximum a posteriori of models with linear or flat trend, with additive and multiplicative features.
/// Logistic trends are refused with an error.
///
/// augurs keeps seasons, holidays and regressors in hash maps, so that the columns come in another order each time. Here
/// they are sorted first: the same model and data give the same parameters, to the last bit.
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
        let frame = Frame::new(data, linear);
        let solution = frame.solve().map_err(Error::custom)?;
        let layout = frame.layout;
        let (ridge, changes) = solution.theta.split_at(frame.ridge());
        let k = layout.slope.map_or(0.0, |column| ridge[column]);
        let m = ridge[layout.offset];
        let mut beta = vec![0.0; frame.order.len()];
        for (column, value) in frame.order.iter().zip(&ridge[layout.first_column..]) {
            beta[*column] = *value;
        }
        let delta = if linear { changes.to_vec() } else { vec![0.0; data.t_change.len()] };
        let trend = data.t.iter().map(|t| trend_at(*t, k, m, &delta, &data.t_change)).collect();
        let sigma_obs =
            solution.sigma.try_into().map_err(|_| Error::static_str("the noise has no positive standard deviation"))?;
        Ok(OptimizedParams { k, m, sigma_obs, delta, beta, trend })
    }
}

/// augurs' data frame with its columns in a fixed order.
#[derive(Debug)]
struct Frame<'a> {
    data: &'a Data,
    layout: RidgeLayout,
    changepoints: &'a [f64],
    /// Place of each sorted column in the data.
    order: Vec<usize>,
    /// For each sorted column 1 or 0: additive, multiplicative.
    additive: Vec<f64>,
    multiplicative: Vec<f64>,
    precision: Vec<f64>,
}

impl<'a> Frame<'a> {
    fn new(data: &'a Data, linear: bool) -> Self {
        let layout = RidgeLayout::new(linear);
        let width = data.s_a.len();
        let mut order: Vec<usize> = (0..width).collect();
        let column = |c: usize| data.X[c..].iter().step_by(width);
        order.sort_by(|a, b| {
            (data.s_m[*a].cmp(&data.s_m[*b])).then(data.sigmas[*a].total_cmp(&data.sigmas[*b])).then_with(|| {
                column(*a).zip(column(*b)).map(|(x, y)| x.total_cmp(y)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
            })
        });
        let mut precision = vec![1.0 / 25.0; layout.first_column];
        precision.extend(order.iter().map(|c| 1.0 / (*data.sigmas[*c] * *data.sigmas[*c])));
        Self {
            data,
            layout,
            changepoints: if linear { &data.t_change } else { &[] },
            additive: order.iter().map(|c| f64::from(data.s_a[*c])).collect(),
            multiplicative: order.iter().map(|c| f64::from(data.s_m[*c])).collect(),
            order,
            precision,
        }
    }

    fn ridge(&self) -> usize {
        self.layout.first_column + self.order.len()
    }

    fn solve(&self) -> Result<Solution, SolveError> {
        let size = self.ridge() + self.changepoints.len();
        let mut start = vec![0.0; size];
        let yty = self.data.y.iter().map(|y| y * y).sum();
        if self.multiplicative.iter().any(|indicator| *indicator != 0.0) {
            start[self.layout.offset] = self.data.y.iter().sum::<f64>() / self.data.y.len() as f64;
            return gauss_newton::solve(&mut PointMean { frame: self, lines: Vec::new() }, &self.priors(yty), start);
        }
        // Linear in all parameters: the linearisation at 0 is the model itself.
        let (mut gram, mut zty) = (vec![0.0; size * size], vec![0.0; size]);
        let mut mean = PointMean { frame: self, lines: Vec::new() };
        mean.move_to(&start);
        mean.linearise(&start, Curvature::GaussNewton, &mut gram, &mut zty);
        let Priors { count, ridge, lasso, precision, tau, .. } = self.priors(yty);
        Problem { gram: &gram, zty: &zty, yty, count, ridge, lasso, precision, tau }.solve()
    }

    fn priors(&self, yty: f64) -> Priors<'_> {
        Priors {
            count: self.data.t.len() as f64,
            yty,
            ridge: self.ridge(),
            lasso: self.changepoints.len(),
            precision: &self.precision,
            tau: *self.data.tau,
        }
    }

    /// Calls `visit` with each observation.
    fn rows(&self, mut visit: impl FnMut(Observation<'_>)) {
        let width = self.order.len();
        let mut sorted = vec![0.0; width];
        let mut segment = 0;
        for (i, (t, y)) in self.data.t.iter().zip(&self.data.y).enumerate() {
            while segment < self.changepoints.len() && *t >= self.changepoints[segment] {
                segment += 1;
            }
            let row = &self.data.X[i * width..(i + 1) * width];
            for (x, c) in sorted.iter_mut().zip(&self.order) {
                *x = row[*c];
            }
            visit(Observation { segment, t: *t, y: *y, columns: &sorted });
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Observation<'a> {
    segment: usize,
    t: f64,
    y: f64,
    columns: &'a [f64],
}

/// μ(t) = g(t)·(1 + Σ β_c·x_c(t) of the multiplicative columns) + Σ β_c·x_c(t) of the additive ones, row by row.
#[derive(Debug)]
struct PointMean<'a> {
    frame: &'a Frame<'a>,
    /// Offset and slope of the trend in each segment.
    lines: Vec<(f64, f64)>,
}

impl PointMean<'_> {
    /// The trend g, the weight w = 1 + Σ β·x of the multiplicative columns, and the residual.
    fn at(&self, observation: Observation<'_>, beta: &[f64]) -> (f64, f64, f64) {
        let (offset, slope) = self.lines[observation.segment];
        let trend = offset + slope * observation.t;
        let (mut weight, mut sum) = (1.0, 0.0);
        for (c, (x, b)) in observation.columns.iter().zip(beta).enumerate() {
            weight += self.frame.multiplicative[c] * x * b;
            sum += self.frame.additive[c] * x * b;
        }
        (trend, weight, observation.y - trend * weight - sum)
    }
}

impl Mean for PointMean<'_> {
    fn move_to(&mut self, theta: &[f64]) -> f64 {
        let frame = self.frame;
        let (layout, ridge) = (frame.layout, frame.ridge());
        let (mut offset, mut slope) = (theta[layout.offset], layout.slope.map_or(0.0, |column| theta[column]));
        self.lines.clear();
        self.lines.push((offset, slope));
        for (delta, s) in theta[ridge..].iter().zip(frame.changepoints) {
            slope += delta;
            offset -= delta * s;
            self.lines.push((offset, slope));
        }
        let mut rss = 0.0;
        frame.rows(|observation| {
            let (.., residual) = self.at(observation, &theta[layout.first_column..ridge]);
            rss += residual * residual;
        });
        rss
    }

    fn linearise(&mut self, theta: &[f64], curvature: Curvature, hessian: &mut [f64], gradient: &mut [f64]) {
        let frame = self.frame;
        let (layout, ridge) = (frame.layout, frame.ridge());
        let size = theta.len();
        let first = layout.first_column;
        let mut moments = Moments::new(frame.changepoints.len(), frame.order.len());
        let (mut row, mut crossed) = (vec![0.0; ridge], vec![0.0; frame.order.len()]);
        hessian.fill(0.0);
        gradient.fill(0.0);
        frame.rows(|observation| {
            let (trend, weight, residual) = self.at(observation, &theta[first..ridge]);
            if let Some(slope) = layout.slope {
                row[slope] = weight * observation.t;
            }
            row[layout.offset] = weight;
            for (c, x) in observation.columns.iter().enumerate() {
                row[first + c] = x * (frame.additive[c] + frame.multiplicative[c] * trend);
                // With ∂²μ/∂f∂β = f·x of the multiplicative columns, f being a column of the trend.
                crossed[c] = weight * row[first + c]
                    - if curvature == Curvature::Newton { residual * frame.multiplicative[c] * x } else { 0.0 };
            }
            for a in 0..ridge {
                gradient[a] += row[a] * residual;
                for (sum, b) in hessian[a * size..a * size + ridge].iter_mut().zip(&row) {
                    *sum += row[a] * b;
                }
            }
            moments.add(observation.segment, observation.t, weight * weight, weight * residual, &crossed);
        });
        moments.accumulate_suffixes();
        moments.fill_hinges(hessian, gradient, ridge, layout, frame.changepoints);
        // The products of the trend's and the other columns, all of which lie after segment 0.
        let (plain, timed) = moments.columns[..2 * frame.order.len()].split_at(frame.order.len());
        for (places, sums) in [(Some(layout.offset), plain), (layout.slope, timed)] {
            let Some(place) = places else { continue };
            for (c, sum) in sums.iter().enumerate() {
                hessian[place * size + first + c] = *sum;
                hessian[(first + c) * size + place] = *sum;
            }
        }
    }
}

fn trend_at(t: f64, k: f64, m: f64, delta: &[f64], changepoints: &[f64]) -> f64 {
    let changes: f64 = delta.iter().zip(changepoints).map(|(d, s)| d * (t - s).max(0.0)).sum();
    k * t + m + changes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six columns of two modes, a trend with a break and some noise.
    fn data(order: &[usize]) -> Data {
        let width = order.len();
        let count = 400;
        let column = |c: usize, t: f64| (t * (c as f64 * 2.7 + 5.0)).sin() + if c == 3 { 0.5 } else { 0.0 };
        let (mut t, mut y, mut x) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..count {
            let at = f64::from(i) / f64::from(count - 1);
            let noise = (f64::from(i) * 12.9898).sin() * 43_758.545;
            let trend = 0.5 + 0.3 * at - 0.6 * (at - 0.4).max(0.0);
            t.push(at);
            y.push(trend * (1.0 + 0.4 * column(1, at)) + 0.1 * column(2, at) + 0.05 * (noise - noise.floor() - 0.5));
            x.extend(order.iter().map(|c| column(*c, at)));
        }
        let positive = |v: f64| v.try_into().unwrap();
        Data {
            T: count,
            y,
            t,
            cap: vec![0.0; count as usize],
            S: 3,
            t_change: vec![0.2, 0.4, 0.6],
            trend_indicator: TrendIndicator::Linear,
            K: width as i32,
            s_a: order.iter().map(|c| i32::from(c % 2 == 0)).collect(),
            s_m: order.iter().map(|c| i32::from(c % 2 == 1)).collect(),
            X: x,
            sigmas: vec![positive(10.0); width],
            tau: positive(0.05),
        }
    }

    fn optimize(data: &Data) -> OptimizedParams {
        let init = InitialParams {
            k: 0.0,
            m: 0.0,
            delta: vec![0.0; data.t_change.len()],
            beta: vec![0.0; data.s_a.len()],
            sigma_obs: 1.0.try_into().unwrap(),
        };
        ExactOptimizer.optimize(&init, data, &OptimizeOpts::default()).unwrap()
    }

    /// F, term by term as in Prophet's Stan program.
    fn objective(data: &Data, k: f64, m: f64, delta: &[f64], beta: &[f64], sigma: f64) -> f64 {
        let width = beta.len();
        let mut sum = data.t.len() as f64 * sigma.ln() + (k * k + m * m) / 50.0 + 2.0 * sigma * sigma;
        for (i, (t, y)) in data.t.iter().zip(&data.y).enumerate() {
            let row = &data.X[i * width..(i + 1) * width];
            let total =
                |indicator: &[i32]| -> f64 { (0..width).map(|c| f64::from(indicator[c]) * row[c] * beta[c]).sum() };
            let mean = trend_at(*t, k, m, delta, &data.t_change) * (1.0 + total(&data.s_m)) + total(&data.s_a);
            sum += (y - mean).powi(2) / (2.0 * sigma * sigma);
        }
        sum += delta.iter().map(|d| d.abs() / *data.tau).sum::<f64>();
        sum + beta.iter().zip(&data.sigmas).map(|(b, sd)| b * b / (2.0 * **sd * **sd)).sum::<f64>()
    }

    #[test]
    fn no_point_nearby_is_better_with_additive_and_multiplicative_columns() {
        let data = data(&[0, 1, 2, 3, 4, 5]);
        let best = optimize(&data);
        let least = objective(&data, best.k, best.m, &best.delta, &best.beta, *best.sigma_obs);
        for place in 0..3 + best.delta.len() + best.beta.len() {
            for step in [-1e-4, 1e-4] {
                let (mut k, mut m, mut sigma) = (best.k, best.m, *best.sigma_obs);
                let (mut delta, mut beta) = (best.delta.clone(), best.beta.clone());
                match place {
                    0 => k += step,
                    1 => m += step,
                    2 => sigma += step,
                    _ if place < 3 + delta.len() => delta[place - 3] += step,
                    _ => beta[place - 3 - best.delta.len()] += step,
                }
                let moved = objective(&data, k, m, &delta, &beta, sigma);
                assert!(moved > least, "{place}: {moved} against {least}");
            }
        }
    }

    #[test]
    fn the_order_of_the_columns_does_not_change_a_bit() {
        let plain = optimize(&data(&[0, 1, 2, 3, 4, 5]));
        let order = [4, 1, 5, 0, 3, 2];
        let mixed = optimize(&data(&order));
        for (place, column) in order.iter().enumerate() {
            assert_eq!(mixed.beta[place].to_bits(), plain.beta[*column].to_bits());
        }
        assert_eq!(mixed.k.to_bits(), plain.k.to_bits());
        assert_eq!(mixed.delta, plain.delta);
    }
}
