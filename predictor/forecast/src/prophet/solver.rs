//! The exact maximum a posteriori of Prophet's additive model from its sufficient statistics.
//!
//! Minimises, over θ = (ρ | δ) and s,
//!
//! ```text
//! F = T·ln s + RSS(θ)/(2s²) + Σ ρ_r²/(2·sd_r²) + Σ |δ_j|/τ + 2s²,      RSS(θ) = y'y − 2·b'θ + θ'Gθ
//! ```
//!
//! which is the negative log posterior of Prophet's Stan program up to a constant (trend and regressor coefficients ρ
//! normal, changes δ Laplace, s half-normal). For a given s the ridge block ρ is eliminated by a Schur complement and
//! the lasso in δ is solved by a feature-sign search (Lee, Battle, Raina and Ng, 2006), which is exact and finite; for a
//! given θ the root in s is closed form. Both are alternated, with Aitken's steps in ln s.

use super::aitken::Aitken;
use super::lasso::{Search, lasso};
use super::linalg::{backward, cholesky, dot, forward};

/// Sufficient statistics and priors of one fit.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    /// Z'Z, row-major, P × P with P = `ridge` + `lasso`; the ridge block first.
    pub gram: &'a [f64],
    /// Z'y, length P.
    pub zty: &'a [f64],
    /// y'y.
    pub yty: f64,
    /// Number of observations T.
    pub count: f64,
    /// Size of the ridge block.
    pub ridge: usize,
    /// Size of the lasso block: the changepoints.
    pub lasso: usize,
    /// 1/sd² of each ridge coefficient.
    pub precision: &'a [f64],
    /// Scale τ of the Laplace prior, `changepoint_prior_scale`.
    pub tau: f64,
}

/// The maximum a posteriori.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Solution {
    /// Coefficients, the ridge block first.
    pub theta: Vec<f64>,
    /// Standard deviation s of the noise, in the units of y.
    pub sigma: f64,
    /// F at the solution.
    pub objective: f64,
    /// Alternations between θ and s.
    pub alternations: u32,
    /// Steps of the active-set search, over all alternations.
    pub steps: u32,
}

/// Why there is no solution.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SolveError {
    /// The data hold NaN or infinite values.
    #[error("the statistics are not finite")]
    NotFinite,
    /// The normal equations are singular to machine precision.
    #[error("the normal equations of {size} coefficients are not positive definite")]
    NotPositiveDefinite {
        /// Size of the block.
        size: usize,
    },
    /// The active-set search did not end; this would be a defect.
    #[error("the active-set search did not end after {steps} steps")]
    SearchDidNotEnd {
        /// Steps taken.
        steps: u32,
    },
}

/// Alternations stop when s changes by less than this share.
pub(crate) const SIGMA_TOLERANCE: f64 = 1e-10;
/// Real series need 3 to 8.
const MAX_ALTERNATIONS: u32 = 200;

impl Problem<'_> {
    /// Returns the exact maximum a posteriori.
    ///
    /// # Errors
    /// [`SolveError`] for data that are not finite or not solvable at machine precision.
    pub fn solve(&self) -> Result<Solution, SolveError> {
        let mut theta = vec![0.0; self.ridge + self.lasso];
        let start = 0.3 * (self.yty / self.count).sqrt().max(1e-6);
        let Alternation { sigma, alternations, steps } =
            self.alternate(start, SIGMA_TOLERANCE, &mut theta, &mut Workspace::default())?;
        let objective = self.objective(&theta, sigma);
        Ok(Solution { theta, sigma, objective, alternations, steps })
    }

    /// Minimises in θ and s together, from the start in `theta` and `sigma`, until s changes by less than `tolerance`,
    /// relative.
    ///
    /// # Errors
    /// As [`Problem::solve`]; `theta` is then of no use.
    pub(crate) fn alternate(
        &self,
        mut sigma: f64,
        tolerance: f64,
        theta: &mut [f64],
        workspace: &mut Workspace,
    ) -> Result<Alternation, SolveError> {
        if !self.yty.is_finite() || self.zty.iter().chain(self.gram).any(|value| !value.is_finite()) {
            return Err(SolveError::NotFinite);
        }
        let mut aitken = Aitken::default();
        let (mut alternations, mut steps) = (0, 0);
        while alternations < MAX_ALTERNATIONS {
            alternations += 1;
            steps += self.solve_theta(sigma, theta, workspace)?;
            let next = sigma_of(self.count, self.rss(theta));
            let change = (next - sigma).abs() / sigma;
            if change < tolerance {
                sigma = next;
                break;
            }
            sigma = aitken.next(sigma.ln(), next.ln()).exp();
        }
        Ok(Alternation { sigma, alternations, steps })
    }

    /// Returns F at any point.
    pub fn objective(&self, theta: &[f64], sigma: f64) -> f64 {
        let variance = sigma * sigma;
        let (ridge, lasso) = theta.split_at(self.ridge);
        let normal: f64 = ridge.iter().zip(self.precision).map(|(r, p)| 0.5 * r * r * p).sum();
        let laplace: f64 = lasso.iter().map(|d| d.abs() / self.tau).sum();
        self.count * sigma.ln() + self.rss(theta) / (2.0 * variance) + normal + laplace + 2.0 * variance
    }

    /// Returns the largest violation of the optimality conditions (Karush–Kuhn–Tucker), relative to 1/τ; a solution has
    /// a value near 0, and no other point has.
    pub fn kkt_violation(&self, solution: &Solution) -> f64 {
        let size = self.ridge + self.lasso;
        let variance = solution.sigma * solution.sigma;
        let bound = 1.0 / self.tau;
        let mut worst: f64 = 0.0;
        for i in 0..size {
            let row = &self.gram[i * size..(i + 1) * size];
            let slope = (dot(row, &solution.theta) - self.zty[i]) / variance;
            let coefficient = solution.theta[i];
            let violation = if i < self.ridge {
                (slope + coefficient * self.precision[i]).abs()
            } else if coefficient == 0.0 {
                (slope.abs() - bound).max(0.0)
            } else {
                (slope + bound * coefficient.signum()).abs()
            };
            worst = worst.max(violation / bound);
        }
        let rss = self.rss(&solution.theta);
        let root = self.count / solution.sigma - rss / (variance * solution.sigma) + 4.0 * solution.sigma;
        worst.max(root.abs() * solution.sigma / self.count)
    }

    fn rss(&self, theta: &[f64]) -> f64 {
        let size = theta.len();
        let mut sum = self.yty;
        for i in 0..size {
            let row = &self.gram[i * size..(i + 1) * size];
            sum += theta[i] * (dot(row, theta) - 2.0 * self.zty[i]);
        }
        // Cancellation can leave a tiny negative number on a perfect fit.
        sum.max(self.yty * 1e-15)
    }

    /// Minimises in θ for a fixed s, starting the search from the δ in `theta`. Returns the steps of the search.
    pub(crate) fn solve_theta(&self, sigma: f64, theta: &mut [f64], w: &mut Workspace) -> Result<u32, SolveError> {
        let (r, s) = (self.ridge, self.lasso);
        let size = r + s;
        let variance = sigma * sigma;
        // A = G_ρρ + s²·D = L·L'. On a perfect fit s²·D vanishes, and seasons longer than the history are collinear to
        // rounding: then a jitter below that rounding keeps the factor real.
        let factored = [0.0, 1e-11].into_iter().any(|jitter| {
            w.factor.clear();
            for i in 0..r {
                w.factor.extend_from_slice(&self.gram[i * size..i * size + r]);
                let diagonal = self.gram[i * size + i];
                w.factor[i * r + i] += variance * self.precision[i] + jitter * diagonal;
            }
            cholesky(&mut w.factor, r)
        });
        if !factored {
            return Err(SolveError::NotPositiveDefinite { size: r });
        }
        // c = L⁻¹·b_ρ, W = L⁻¹·G_ρδ (r × s, by rows)
        w.c.clear();
        w.c.extend_from_slice(&self.zty[..r]);
        forward(&w.factor, r, &mut w.c);
        w.w.clear();
        for i in 0..r {
            let start = w.w.len();
            w.w.extend_from_slice(&self.gram[i * size + r..(i + 1) * size]);
            let (done, row) = w.w.split_at_mut(start);
            for (k, earlier) in done.chunks_exact(s.max(1)).enumerate() {
                let factor = w.factor[i * r + k];
                for (x, y) in row.iter_mut().zip(earlier) {
                    *x -= factor * y;
                }
            }
            let inverse = 1.0 / w.factor[i * r + i];
            for x in row {
                *x *= inverse;
            }
        }
        // Q = G_δδ − W'W, q = b_δ − W'c
        w.quadratic.clear();
        w.linear.clear();
        for i in r..size {
            w.quadratic.extend_from_slice(&self.gram[i * size + r..(i + 1) * size]);
            w.linear.push(self.zty[i]);
        }
        for (row, c) in w.w.chunks_exact(s.max(1)).zip(&w.c) {
            for i in 0..s {
                let factor = row[i];
                for (x, y) in w.quadratic[i * s..=i * s + i].iter_mut().zip(row) {
                    *x -= factor * y;
                }
                w.linear[i] -= factor * c;
            }
        }
        for i in 0..s {
            for j in 0..i {
                w.quadratic[j * s + i] = w.quadratic[i * s + j];
            }
        }
        let delta = &mut theta[r..];
        let steps = lasso(&w.quadratic, &w.linear, variance / self.tau, delta, &mut w.search)?;
        // ρ = L⁻ᵀ·(c − W·δ)
        for (c, row) in w.c.iter_mut().zip(w.w.chunks_exact(s.max(1))) {
            *c -= dot(row, delta);
        }
        backward(&w.factor, r, &mut w.c);
        theta[..r].copy_from_slice(&w.c);
        Ok(steps)
    }
}

/// The end of the alternation between θ and s.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Alternation {
    pub(crate) sigma: f64,
    pub(crate) alternations: u32,
    pub(crate) steps: u32,
}

/// Buffers kept over the alternations.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    factor: Vec<f64>,
    c: Vec<f64>,
    w: Vec<f64>,
    quadratic: Vec<f64>,
    linear: Vec<f64>,
    search: Search,
}

/// The root of T/s − RSS/s³ + 4s = 0, in the form without cancellation.
pub(crate) fn sigma_of(count: f64, rss: f64) -> f64 {
    (2.0 * rss / (count + (count * count + 16.0 * rss).sqrt())).max(1e-18).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_data_gives_the_prior() {
        let problem = Problem {
            gram: &[0.0; 9],
            zty: &[0.0; 3],
            yty: 0.0,
            count: 1.0,
            ridge: 2,
            lasso: 1,
            precision: &[0.04, 0.04],
            tau: 0.05,
        };
        let solution = problem.solve().unwrap();
        assert_eq!(solution.theta, [0.0; 3]);
    }

    #[test]
    fn infinite_data_are_refused() {
        let problem = Problem {
            gram: &[1.0],
            zty: &[f64::INFINITY],
            yty: 1.0,
            count: 1.0,
            ridge: 1,
            lasso: 0,
            precision: &[1.0],
            tau: 1.0,
        };
        assert_eq!(problem.solve(), Err(SolveError::NotFinite));
    }

    /// Alternates plainly. Returns F and the number of alternations.
    fn alternate_plainly(problem: &Problem<'_>) -> (f64, u32) {
        let mut theta = vec![0.0; problem.ridge + problem.lasso];
        let mut sigma = 0.3 * (problem.yty / problem.count).sqrt().max(1e-6);
        let mut workspace = Workspace::default();
        for alternation in 1..10_000 {
            problem.solve_theta(sigma, &mut theta, &mut workspace).unwrap();
            let next = sigma_of(problem.count, problem.rss(&theta));
            let change = (next - sigma).abs() / sigma;
            sigma = next;
            if change < SIGMA_TOLERANCE {
                return (problem.objective(&theta, sigma), alternation);
            }
        }
        panic!("no end");
    }

    #[test]
    fn aitken_steps_shorten_a_slow_alternation_and_end_at_the_same_point() {
        // A line with a prior so strong that the noise and the slope trade places slowly.
        let count = 40;
        let t: Vec<f64> = (0..count).map(|i| f64::from(i) / f64::from(count)).collect();
        let y: Vec<f64> = t.iter().enumerate().map(|(i, t)| t + 0.3 * (i as f64 * 2.4).sin()).collect();
        let gram = [dot(&t, &t)];
        let zty = [dot(&t, &y)];
        let precision = [60.0];
        let problem = Problem {
            gram: &gram,
            zty: &zty,
            yty: dot(&y, &y),
            count: f64::from(count),
            ridge: 1,
            lasso: 0,
            precision: &precision,
            tau: 1.0,
        };
        let (objective, alternations) = alternate_plainly(&problem);
        let solution = problem.solve().unwrap();
        assert!(alternations >= 20, "{alternations}");
        assert!(solution.alternations * 2 <= alternations, "{} of {alternations}", solution.alternations);
        assert!((solution.objective - objective).abs() < 1e-9, "{} {objective}", solution.objective);
        assert!(problem.kkt_violation(&solution) < 1e-9);
    }

    proptest! {
        #[test]
        fn a_solution_satisfies_the_optimality_conditions(
            rows in proptest::collection::vec((proptest::collection::vec(-1.0_f64..1.0, 7), -3.0_f64..3.0), 12..60),
            tau in 0.01_f64..1.0,
        ) {
            let size = 7;
            let (mut gram, mut zty, mut yty) = (vec![0.0; size * size], vec![0.0; size], 0.0);
            for (z, y) in &rows {
                for i in 0..size {
                    zty[i] += z[i] * y;
                    for j in 0..size {
                        gram[i * size + j] += z[i] * z[j];
                    }
                }
                yty += y * y;
            }
            let problem = Problem { gram: &gram, zty: &zty, yty, count: rows.len() as f64, ridge: 3, lasso: 4, precision: &[0.04; 3], tau };
            let solution = problem.solve().unwrap();
            prop_assert!(problem.kkt_violation(&solution) < 1e-6, "{}", problem.kkt_violation(&solution));
            let (plain, alternations) = alternate_plainly(&problem);
            prop_assert!(solution.objective <= plain + 1e-7, "{} {plain}", solution.objective);
            prop_assert!(solution.alternations <= alternations + 3, "{} {alternations}", solution.alternations);
            // No point nearby is better.
            for i in 0..size {
                for step in [-1e-3, 1e-3] {
                    let mut moved = solution.theta.clone();
                    moved[i] += step;
                    prop_assert!(problem.objective(&moved, solution.sigma) >= solution.objective - 1e-9);
                }
            }
        }
    }
}
