//! The shared plan for a uniform grid: every series of the same length and step has the same Gram matrix.
//!
//! Time is relative to the first sample. The prior of the seasonal coefficients is isotropic in each (sin, cos) pair, so
//! that moving the time origin only rotates each pair: neither the posterior nor the curve changes, and one plan serves
//! every start time and every refit. Missing samples (NaN) are left out of Z'y and y'y, and the Gram matrix is downdated
//! by their rows.

use std::f64::consts::TAU;

use super::interval::Uncertainty;
use super::solver::{Problem, Solution, SolveError};
use super::statistics::{Moments, RidgeLayout};

/// A Fourier season.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Season {
    /// Length in seconds.
    pub period_seconds: f64,
    /// Number of (sin, cos) pairs.
    pub order: usize,
    /// Standard deviation of the coefficients' prior; Prophet's default is 10.
    pub prior_scale: f64,
}

impl Season {
    /// The day, with order 4 as Prophet has it.
    pub const DAY: Self = Self { period_seconds: 86_400.0, order: 4, prior_scale: 10.0 };
    /// The week, with order 3 as Prophet has it.
    pub const WEEK: Self = Self { period_seconds: 604_800.0, order: 3, prior_scale: 10.0 };
}

/// Form of the trend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Growth {
    /// Piecewise linear with changepoints.
    Linear,
    /// Constant.
    Flat,
}

/// What a plan is made for.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanSpec {
    /// Samples in the history, at least 2.
    pub count: usize,
    /// Distance of samples in seconds.
    pub step_seconds: f64,
    /// Form of the trend.
    pub growth: Growth,
    /// Seasons, each with its prior.
    pub seasons: Vec<Season>,
    /// Number of changepoints; Prophet's default is 25.
    pub changepoints: usize,
    /// Share of the history that holds changepoints; Prophet's default is 0.8.
    pub changepoint_range: f64,
    /// Scale τ of the changes' Laplace prior; Prophet's default is 0.05.
    pub changepoint_prior_scale: f64,
}

impl PlanSpec {
    /// Returns Prophet's defaults for a history of `count` samples: linear trend, a season where the history holds two
    /// of its periods.
    pub fn prophet(count: usize, step_seconds: f64) -> Self {
        let span = count as f64 * step_seconds;
        let seasons = [Season::DAY, Season::WEEK].into_iter().filter(|s| span >= 2.0 * s.period_seconds).collect();
        Self {
            count,
            step_seconds,
            growth: Growth::Linear,
            seasons,
            changepoints: 25,
            changepoint_range: 0.8,
            changepoint_prior_scale: 0.05,
        }
    }
}

/// Why there is no plan or fit.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FitError {
    /// Too few samples.
    #[error("history has {got} samples, {needed} are needed")]
    TooShort {
        /// Samples that are known.
        got: usize,
        /// Samples that are needed.
        needed: usize,
    },
    /// The series does not have the plan's length.
    #[error("history has {got} samples, the plan is for {planned}")]
    OtherLength {
        /// Length of the series.
        got: usize,
        /// Length in the plan.
        planned: usize,
    },
    /// The solver gave up.
    #[error("the posterior has no solution")]
    Solve(#[from] SolveError),
}

/// Everything about a fit that does not depend on the values.
#[derive(Debug, Clone)]
pub struct GridPlan {
    count: usize,
    layout: RidgeLayout,
    ridge: usize,
    changepoint_at: Vec<usize>,
    changepoint_time: Vec<f64>,
    frequencies: Vec<f64>,
    gram: Vec<f64>,
    precision: Vec<f64>,
    tau: f64,
    /// sin and cos of each frequency at 0..BLOCK.
    table: Vec<f64>,
    /// sin and cos of each frequency at the start of each block.
    rotation: Vec<f64>,
}

/// Samples that share one table of sines; it stays in the first-level cache.
const BLOCK: usize = 64;

/// One fitted series.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GridFit {
    /// The maximum a posteriori, in scaled units.
    pub solution: Solution,
    /// The series was divided by this: its largest absolute value, or 1.
    pub scale: f64,
}

impl GridPlan {
    /// Builds the plan: O(count · columns²), once for all series.
    ///
    /// # Errors
    /// [`FitError::TooShort`] for fewer than two samples.
    pub fn new(spec: &PlanSpec) -> Result<Self, FitError> {
        if spec.count < 2 {
            return Err(FitError::TooShort { got: spec.count, needed: 2 });
        }
        let linear = spec.growth == Growth::Linear;
        let layout = RidgeLayout::new(linear);
        let changepoint_at = if linear { changepoint_indices(spec) } else { Vec::new() };
        let last = (spec.count - 1) as f64;
        let changepoint_time = changepoint_at.iter().map(|i| *i as f64 / last).collect::<Vec<_>>();
        let mut frequencies = Vec::new();
        let mut precision = vec![1.0 / 25.0; layout.first_column];
        for season in &spec.seasons {
            for order in 1..=season.order {
                frequencies.push(TAU * order as f64 * spec.step_seconds / season.period_seconds);
                precision.extend([1.0 / (season.prior_scale * season.prior_scale); 2]);
            }
        }
        let mut table = Vec::with_capacity(frequencies.len() * 2 * BLOCK);
        let mut rotation = Vec::new();
        for frequency in &frequencies {
            table.extend((0..BLOCK).map(|i| (frequency * i as f64).sin()));
            table.extend((0..BLOCK).map(|i| (frequency * i as f64).cos()));
        }
        for block in 0..spec.count.div_ceil(BLOCK) {
            for frequency in &frequencies {
                let (sin, cos) = (frequency * (block * BLOCK) as f64).sin_cos();
                rotation.extend([sin, cos]);
            }
        }
        let mut plan = Self {
            count: spec.count,
            layout,
            ridge: layout.first_column + 2 * frequencies.len(),
            changepoint_at,
            changepoint_time,
            frequencies,
            gram: Vec::new(),
            precision,
            tau: spec.changepoint_prior_scale,
            table,
            rotation,
        };
        plan.gram = plan.gram_of(0..spec.count);
        Ok(plan)
    }

    /// Returns the number of samples that a series must have.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Returns whether a fit has as many parameters as the plan: a saved one may come from another plan.
    pub fn fits(&self, fit: &GridFit) -> bool {
        fit.solution.theta.len() == self.ridge + self.changepoint_at.len()
    }

    /// Fits a series of the plan's length; NaN and infinite values are gaps.
    ///
    /// # Errors
    /// [`FitError`] for another length, fewer than two known samples, or no solution.
    pub fn fit(&self, values: &[f64]) -> Result<GridFit, FitError> {
        if values.len() != self.count {
            return Err(FitError::OtherLength { got: values.len(), planned: self.count });
        }
        let mut largest: f64 = 0.0;
        let mut known = 0_usize;
        for value in values {
            if value.is_finite() {
                largest = largest.max(value.abs());
                known += 1;
            }
        }
        if known < 2 {
            return Err(FitError::TooShort { got: known, needed: 2 });
        }
        let scale = if largest > 0.0 { largest } else { 1.0 };
        let filled: Vec<f64>;
        let (clean, gram) = if known == self.count {
            (values, None)
        } else {
            filled = values.iter().map(|value| if value.is_finite() { *value } else { 0.0 }).collect();
            (filled.as_slice(), Some(self.downdated(values, known)))
        };
        let (zty, yty) = self.project(clean, 1.0 / scale);
        let solution = self.problem(gram.as_deref().unwrap_or(&self.gram), &zty, yty, known).solve()?;
        Ok(GridFit { solution, scale })
    }

    /// Returns the largest violation of the optimality conditions by `fit` of a series without gaps, relative to 1/τ.
    pub fn kkt_violation(&self, values: &[f64], fit: &GridFit) -> f64 {
        let (zty, yty) = self.project(values, 1.0 / fit.scale);
        self.problem(&self.gram, &zty, yty, self.count).kkt_violation(&fit.solution)
    }

    /// Returns the curve at `index` samples after the first one, in the unit of the series; any index, whole or not,
    /// inside the history or past it.
    pub fn value_at(&self, fit: &GridFit, index: f64) -> f64 {
        let theta = &fit.solution.theta;
        let t = index / (self.count - 1) as f64;
        let mut sum = theta[self.layout.offset] + self.layout.slope.map_or(0.0, |column| theta[column] * t);
        for (pair, frequency) in theta[self.layout.first_column..].chunks_exact(2).zip(&self.frequencies) {
            let (sin, cos) = (frequency * index).sin_cos();
            sum += pair[0] * sin + pair[1] * cos;
        }
        for (delta, s) in theta[self.ridge..].iter().zip(&self.changepoint_time) {
            sum += delta * (t - s).max(0.0);
        }
        sum * fit.scale
    }

    /// Returns what the closed-form interval needs, in the unit of the series.
    pub fn uncertainty(&self, fit: &GridFit) -> Uncertainty {
        let changes = &fit.solution.theta[self.ridge..];
        let mean_change = changes.iter().map(|d| d.abs()).sum::<f64>() / (changes.len().max(1)) as f64;
        Uncertainty {
            changepoints: changes.len() as f64,
            mean_change: mean_change * fit.scale,
            sigma: fit.solution.sigma * fit.scale,
        }
    }

    /// Returns the distance of an index past the history in history lengths, for [`Uncertainty::offset`].
    pub fn distance(&self, index: f64) -> f64 {
        index / (self.count - 1) as f64 - 1.0
    }

    fn problem<'a>(&'a self, gram: &'a [f64], zty: &'a [f64], yty: f64, known: usize) -> Problem<'a> {
        Problem {
            gram,
            zty,
            yty,
            count: known as f64,
            ridge: self.ridge,
            lasso: self.changepoint_at.len(),
            precision: &self.precision,
            tau: self.tau,
        }
    }

    /// The Gram matrix of the known samples: by subtraction where few are missing, afresh where most are.
    fn downdated(&self, values: &[f64], known: usize) -> Vec<f64> {
        let indices = |keep: bool| (0..self.count).filter(move |i| values[*i].is_finite() == keep);
        if 2 * known < self.count {
            return self.gram_of(indices(true));
        }
        let missing = self.gram_of(indices(false));
        self.gram.iter().zip(missing).map(|(all, gone)| all - gone).collect()
    }

    /// Z'Z over the rows at `indices`, ascending.
    fn gram_of(&self, indices: impl Iterator<Item = usize>) -> Vec<f64> {
        let size = self.ridge + self.changepoint_at.len();
        let columns = 2 * self.frequencies.len();
        let mut gram = vec![0.0; size * size];
        let mut moments = Moments::new(self.changepoint_at.len(), columns);
        let mut row = vec![0.0; self.ridge];
        let mut segment = 0;
        for i in indices {
            while segment < self.changepoint_at.len() && i >= self.changepoint_at[segment] {
                segment += 1;
            }
            let t = i as f64 / (self.count - 1) as f64;
            if let Some(slope) = self.layout.slope {
                row[slope] = t;
            }
            row[self.layout.offset] = 1.0;
            for (pair, frequency) in row[self.layout.first_column..].chunks_exact_mut(2).zip(&self.frequencies) {
                (pair[0], pair[1]) = (frequency * i as f64).sin_cos();
            }
            for a in 0..self.ridge {
                let factor = row[a];
                for (sum, b) in gram[a * size..a * size + self.ridge].iter_mut().zip(&row) {
                    *sum += factor * b;
                }
            }
            moments.add(segment, t, 0.0, &row[self.layout.first_column..]);
        }
        moments.accumulate_suffixes();
        moments.fill_hinges(&mut gram, &mut vec![0.0; size], self.ridge, self.layout, &self.changepoint_time);
        gram
    }

    /// Z'y and y'y of the values times `factor`, in O(count).
    fn project(&self, values: &[f64], factor: f64) -> (Vec<f64>, f64) {
        let mut zty = vec![0.0; self.ridge + self.changepoint_at.len()];
        let last = (self.count - 1) as f64;
        // Sums over all t at or after a changepoint, from the last segment backwards.
        let (mut sum, mut timed, mut squares) = (0.0, 0.0, 0.0);
        let mut end = values.len();
        for segment in (0..=self.changepoint_at.len()).rev() {
            let start = if segment == 0 { 0 } else { self.changepoint_at[segment - 1] };
            let (s, t, q) = segment_sums(&values[start..end], start as f64);
            sum += s;
            timed += t;
            squares += q;
            end = start;
            if segment > 0 {
                zty[self.ridge + segment - 1] = (timed - start as f64 * sum) * factor / last;
            }
        }
        if let Some(slope) = self.layout.slope {
            zty[slope] = timed * factor / last;
        }
        zty[self.layout.offset] = sum * factor;
        for (block, chunk) in values.chunks(BLOCK).enumerate() {
            for f in 0..self.frequencies.len() {
                let sines = &self.table[2 * f * BLOCK..][..chunk.len()];
                let cosines = &self.table[(2 * f + 1) * BLOCK..][..chunk.len()];
                let (s, c) = (lanes_dot(chunk, sines), lanes_dot(chunk, cosines));
                let at = 2 * (block * self.frequencies.len() + f);
                let (sin, cos) = (self.rotation[at], self.rotation[at + 1]);
                let column = self.layout.first_column + 2 * f;
                zty[column] += (sin * c + cos * s) * factor;
                zty[column + 1] += (cos * c - sin * s) * factor;
            }
        }
        (zty, squares * factor * factor)
    }
}

/// Prophet's changepoints: evenly over the first part of the history, the first sample left out.
fn changepoint_indices(spec: &PlanSpec) -> Vec<usize> {
    let history = (spec.count as f64 * spec.changepoint_range).floor() as usize;
    let number = spec.changepoints.min(history.saturating_sub(1));
    (1..=number).map(|i| (i as f64 / number as f64 * (history - 1) as f64).round() as usize).collect()
}

/// Eight sums side by side, so that the compiler vectorises.
const LANES: usize = 8;

/// Σy, Σ(start + i)·y and Σy².
fn segment_sums(values: &[f64], start: f64) -> (f64, f64, f64) {
    let (mut sums, mut timed, mut squares) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    let mut chunks = values.chunks_exact(LANES);
    let mut base = 0.0;
    for chunk in &mut chunks {
        for lane in 0..LANES {
            sums[lane] += chunk[lane];
            timed[lane] += chunk[lane] * (base + lane as f64);
            squares[lane] += chunk[lane] * chunk[lane];
        }
        base += LANES as f64;
    }
    for (lane, value) in chunks.remainder().iter().enumerate() {
        sums[lane] += value;
        timed[lane] += value * (base + lane as f64);
        squares[lane] += value * value;
    }
    let sum: f64 = sums.iter().sum();
    (sum, timed.iter().sum::<f64>() + start * sum, squares.iter().sum())
}

fn lanes_dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (mut left, mut right) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (x, y) in (&mut left).zip(&mut right) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    for (lane, (x, y)) in left.remainder().iter().zip(right.remainder()).enumerate() {
        sums[lane] += x * y;
    }
    sums.iter().sum()
}
