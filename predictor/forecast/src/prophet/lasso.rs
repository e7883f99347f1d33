//! The lasso in the trend's changes, solved exactly by a feature-sign search (Lee, Battle, Raina and Ng, 2006).
//!
//! In: Q, q and α of ½·x'Qx − q'x + α·Σ|x_j|, and a start. Out: the minimiser. The search walks over sign patterns, lowers
//! the objective in each step, and there are finitely many patterns: it is exact and ends.

use super::linalg::{backward, cholesky, dot, forward};
use super::solver::SolveError;

/// A zero coefficient is violated only beyond this share of the bound: below it is rounding.
const SLACK: f64 = 1e-10;

/// Buffers of the search, kept from call to call.
#[derive(Debug, Default)]
pub(crate) struct Search {
    sign: Vec<f64>,
    active: Vec<usize>,
    system: Vec<f64>,
    target: Vec<f64>,
    trial: Vec<f64>,
}

/// Minimises ½·x'Qx − q'x + α·Σ|x_j| exactly from the start in `x`. Returns the number of steps.
///
/// # Errors
/// [`SolveError`] when Q is not positive definite on the active set, or the search does not end.
pub(crate) fn lasso(
    quadratic: &[f64],
    linear: &[f64],
    alpha: f64,
    x: &mut [f64],
    search: &mut Search,
) -> Result<u32, SolveError> {
    let n = linear.len();
    let max_steps = 40 * n as u32 + 40;
    let gradient = |x: &[f64], j: usize| dot(&quadratic[j * n..(j + 1) * n], x) - linear[j];
    let value = |x: &[f64]| -> f64 {
        let smooth: f64 = (0..n)
            .filter(|j| x[*j] != 0.0)
            .map(|j| x[j] * (0.5 * dot(&quadratic[j * n..(j + 1) * n], x) - linear[j]))
            .sum();
        smooth + alpha * x.iter().map(|v| v.abs()).sum::<f64>()
    };
    search.sign.clear();
    search.sign.extend(x.iter().map(|v| if *v == 0.0 { 0.0 } else { v.signum() }));
    let mut steps = 0;
    let mut start_with_solve = search.sign.iter().any(|sign| *sign != 0.0);
    loop {
        if !start_with_solve {
            let worst = (0..n)
                .filter(|j| x[*j] == 0.0)
                .map(|j| (gradient(x, j), j))
                .max_by(|(a, _), (b, _)| a.abs().total_cmp(&b.abs()));
            match worst {
                Some((slope, j)) if slope.abs() > alpha * (1.0 + SLACK) => search.sign[j] = -slope.signum(),
                _ => return Ok(steps),
            }
        }
        start_with_solve = false;
        loop {
            steps += 1;
            if steps > max_steps {
                return Err(SolveError::SearchDidNotEnd { steps });
            }
            search.active.clear();
            search.active.extend((0..n).filter(|j| search.sign[*j] != 0.0));
            if search.active.is_empty() {
                break;
            }
            solve_active(quadratic, linear, alpha, search)?;
            let consistent = search.active.iter().zip(&search.target).all(|(j, v)| v * search.sign[*j] > 0.0);
            if consistent {
                for (j, v) in search.active.iter().zip(&search.target) {
                    x[*j] = *v;
                }
                break;
            }
            // Discrete line search from x to the target over the points where a coefficient changes its sign.
            let mut best = (f64::INFINITY, 1.0, usize::MAX);
            let crossings = search.active.iter().zip(&search.target).filter(|(j, v)| x[**j] * **v < 0.0);
            let shares: Vec<(f64, usize)> =
                crossings.map(|(j, v)| (x[*j] / (x[*j] - v), *j)).chain([(1.0, usize::MAX)]).collect();
            for (share, zeroed) in shares {
                search.trial.clear();
                search.trial.extend_from_slice(x);
                step_to(&mut search.trial, &search.active, &search.target, share, zeroed);
                let objective = value(&search.trial);
                if objective < best.0 {
                    best = (objective, share, zeroed);
                }
            }
            step_to(x, &search.active, &search.target, best.1, best.2);
            for (sign, v) in search.sign.iter_mut().zip(x.iter()) {
                *sign = if *v == 0.0 { 0.0 } else { v.signum() };
            }
        }
    }
}

/// Moves the active coefficients by `share` of the way to `target`; `zeroed` becomes exactly 0.
fn step_to(x: &mut [f64], active: &[usize], target: &[f64], share: f64, zeroed: usize) {
    for (j, v) in active.iter().zip(target) {
        x[*j] = if *j == zeroed { 0.0 } else { x[*j] + share * (v - x[*j]) };
    }
}

/// Solves Q_AA·x = q_A − α·sign_A into `search.target`.
fn solve_active(quadratic: &[f64], linear: &[f64], alpha: f64, search: &mut Search) -> Result<(), SolveError> {
    let n = linear.len();
    let size = search.active.len();
    let fill = |system: &mut Vec<f64>, jitter: f64| {
        system.clear();
        for i in &search.active {
            for j in &search.active {
                let entry = quadratic[i * n + j];
                system.push(if i == j { entry + jitter * (entry.abs() + f64::MIN_POSITIVE) } else { entry });
            }
        }
    };
    fill(&mut search.system, 0.0);
    if !cholesky(&mut search.system, size) {
        // Neighbouring changepoints on few observations are collinear to rounding; this moves θ by less than that.
        fill(&mut search.system, 1e-10);
        if !cholesky(&mut search.system, size) {
            return Err(SolveError::NotPositiveDefinite { size });
        }
    }
    search.target.clear();
    search.target.extend(search.active.iter().map(|j| linear[*j] - alpha * search.sign[*j]));
    forward(&search.system, size, &mut search.target);
    backward(&search.system, size, &mut search.target);
    Ok(())
}
