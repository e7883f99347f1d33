//! The maximum a posteriori where the mean is not linear in its parameters: Newton passes around the exact subproblem.
//!
//! In: a [`Mean`] that gives its residual sum of squares and, at a point, the normal equations of its linearisation. Out:
//! the [`Solution`]. A pass minimises F with the RSS replaced by its quadratic model
//!
//! ```text
//! RSS(θ₀) − 2·(J'r)'(θ − θ₀) + (θ − θ₀)'H(θ − θ₀)
//! ```
//!
//! in θ and s together, by the same exact solver as the linear model, and steps back until the true F falls. H is J'J less
//! the residuals' curvature Σ r·∇²μ (Newton's, which converges quadratically) where that has a minimum, and J'J (Gauss and
//! Newton's, which always has) where not.

use super::solver::{Problem, SIGMA_TOLERANCE, Solution, SolveError, Workspace, sigma_of};

/// A mean function μ(θ) with the data it is compared with.
pub(crate) trait Mean {
    /// Moves to `theta` and returns the residual sum of squares there.
    fn move_to(&mut self, theta: &[f64]) -> f64;

    /// Writes H (P × P) and J'r (P) at the point last moved to, which is `theta`.
    fn linearise(&mut self, theta: &[f64], curvature: Curvature, hessian: &mut [f64], slope: &mut [f64]);
}

/// The matrix of the quadratic model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curvature {
    /// J'J − Σ r·∇²μ.
    Newton,
    /// J'J.
    GaussNewton,
}

/// Sizes and priors, as in [`Problem`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Priors<'a> {
    pub(crate) count: f64,
    pub(crate) yty: f64,
    pub(crate) ridge: usize,
    pub(crate) lasso: usize,
    pub(crate) precision: &'a [f64],
    pub(crate) tau: f64,
}

/// Passes end when F falls by less than this share.
const TOLERANCE: f64 = 1e-12;
/// Share of y'y to which an RSS is known, by cancellation. A full step that changes F by less than follows from it is taken:
/// near the maximum the model knows better.
const ROUNDING: f64 = 1e-14;
/// But never more than this, in nats.
const MOST_ROUNDING: f64 = 1e-8;
const MAX_PASSES: u32 = 100;
/// Tolerance of s in the first pass, relative: the model is rough there.
const FIRST_SIGMA_TOLERANCE: f64 = 1e-2;
/// Later it is this share of the last fall of F, relative.
const SIGMA_TOLERANCE_SHARE: f64 = 1e-3;
/// A step is halved at most this often.
const MAX_HALVINGS: u32 = 30;

/// The normal equations of one pass.
#[derive(Debug)]
struct Model {
    hessian: Vec<f64>,
    slope: Vec<f64>,
    zty: Vec<f64>,
    yty: f64,
}

impl Model {
    fn new(size: usize) -> Self {
        Self { hessian: vec![0.0; size * size], slope: vec![0.0; size], zty: vec![0.0; size], yty: 0.0 }
    }

    /// Takes the model of `mean` at `theta`, where its RSS is `rss`.
    fn take(&mut self, mean: &mut impl Mean, theta: &[f64], rss: f64, curvature: Curvature) {
        let size = theta.len();
        mean.linearise(theta, curvature, &mut self.hessian, &mut self.slope);
        self.yty = rss;
        for i in 0..size {
            let row = &self.hessian[i * size..(i + 1) * size];
            let product: f64 = row.iter().zip(theta).map(|(h, x)| h * x).sum();
            self.zty[i] = self.slope[i] + product;
            self.yty += theta[i] * (2.0 * self.slope[i] + product);
        }
    }

    fn problem<'a>(&'a self, priors: &Priors<'a>) -> Problem<'a> {
        Problem {
            gram: &self.hessian,
            zty: &self.zty,
            yty: self.yty,
            count: priors.count,
            ridge: priors.ridge,
            lasso: priors.lasso,
            precision: priors.precision,
            tau: priors.tau,
        }
    }
}

/// A point and F there.
#[derive(Debug, Clone)]
struct Point {
    theta: Vec<f64>,
    sigma: f64,
    rss: f64,
    objective: f64,
}

impl Point {
    fn at(mean: &mut impl Mean, priors: &Priors<'_>, theta: Vec<f64>) -> Self {
        // Cancellation can leave a tiny negative number on a perfect fit.
        let rss = mean.move_to(&theta).max(priors.yty * 1e-15);
        let sigma = sigma_of(priors.count, rss);
        let (ridge, lasso) = theta.split_at(priors.ridge);
        let normal: f64 = ridge.iter().zip(priors.precision).map(|(r, p)| 0.5 * r * r * p).sum();
        let laplace: f64 = lasso.iter().map(|d| d.abs() / priors.tau).sum();
        let variance = sigma * sigma;
        let objective = priors.count * sigma.ln() + rss / (2.0 * variance) + normal + laplace + 2.0 * variance;
        Self { theta, sigma, rss, objective }
    }
}

/// Returns the maximum a posteriori that is reached from `start`: its alternations are those of all passes.
///
/// # Errors
/// [`SolveError`] for data that are not finite.
pub(crate) fn solve(mean: &mut impl Mean, priors: &Priors<'_>, start: Vec<f64>) -> Result<Solution, SolveError> {
    let mut model = Model::new(start.len());
    let mut workspace = Workspace::default();
    let mut here = Point::at(mean, priors, start);
    if !here.objective.is_finite() {
        return Err(SolveError::NotFinite);
    }
    let (mut alternations, mut steps) = (0, 0);
    let mut tolerance = FIRST_SIGMA_TOLERANCE;
    // Newton's matrix hardly ever has a minimum at the start.
    let mut curvatures: &[Curvature] = &[Curvature::GaussNewton];
    for _ in 0..MAX_PASSES {
        let before = here.objective;
        let mut moved = false;
        for curvature in curvatures {
            model.take(mean, &here.theta, here.rss, *curvature);
            let mut target = here.theta.clone();
            match model.problem(priors).alternate(here.sigma, tolerance, &mut target, &mut workspace) {
                Ok(end) => {
                    alternations += end.alternations;
                    steps += end.steps;
                }
                // No minimum with Newton's matrix; Gauss and Newton's has one.
                Err(_) if *curvature == Curvature::Newton => continue,
                Err(error) => return Err(error),
            }
            if let Some(better) = step_back(mean, priors, &here, &target) {
                here = better;
                moved = true;
                break;
            }
            mean.move_to(&here.theta);
        }
        let fall = (before - here.objective) / before.abs().max(1.0);
        if !moved || fall < TOLERANCE {
            break;
        }
        tolerance = (SIGMA_TOLERANCE_SHARE * fall).clamp(SIGMA_TOLERANCE, tolerance);
        curvatures = &[Curvature::Newton, Curvature::GaussNewton];
    }
    let Point { theta, sigma, objective, .. } = here;
    Ok(Solution { theta, sigma, objective, alternations, steps })
}

/// Returns the largest violation of the optimality conditions at `solution`, as [`Problem::kkt_violation`].
pub(crate) fn kkt_violation(mean: &mut impl Mean, priors: &Priors<'_>, solution: &Solution) -> f64 {
    let here = Point::at(mean, priors, solution.theta.clone());
    let mut model = Model::new(solution.theta.len());
    model.take(mean, &here.theta, here.rss, Curvature::GaussNewton);
    model.problem(priors).kkt_violation(solution)
}

/// The first point on the way from `target` back to `here` that is better than `here`.
fn step_back(mean: &mut impl Mean, priors: &Priors<'_>, here: &Point, target: &[f64]) -> Option<Point> {
    let rounding = (priors.count * ROUNDING * priors.yty / here.rss).min(MOST_ROUNDING);
    let mut share = 1.0;
    for _ in 0..=MAX_HALVINGS {
        let theta = here.theta.iter().zip(target).map(|(from, to)| from + share * (to - from)).collect();
        let point = Point::at(mean, priors, theta);
        let slack = if share == 1.0 { rounding } else { 0.0 };
        if point.objective < here.objective + slack {
            return Some(point);
        }
        share *= 0.5;
    }
    None
}
