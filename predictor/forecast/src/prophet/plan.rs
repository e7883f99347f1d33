//! The shared plan for a uniform grid: every series of the same length and step has the same Gram matrix.
//!
//! Time is relative to the first sample. The prior of the seasonal coefficients is isotropic in each (sin, cos) pair, so
//! that moving the time origin only rotates each pair: neither the posterior nor the curve changes, and one plan serves
//! every start time and every refit. Missing samples (NaN) are left out of Z'y and y'y, and the Gram matrix is downdated
//! by their rows.

use std::borrow::Cow;

use super::gauss_newton::{self, Priors};
use super::grid::{Grid, Projection, Sums};
use super::interval::Uncertainty;
use super::multiplicative::{GridMean, ProductMoments};
use super::solver::{Problem, Solution, SolveError};

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

/// How seasons and trend go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SeasonalityMode {
    /// trend + seasons.
    Additive,
    /// trend · (1 + seasons): the swing grows with the level.
    Multiplicative,
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
    /// How the seasons and the trend go together; Prophet's default is additive.
    pub seasonality_mode: SeasonalityMode,
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
            seasonality_mode: SeasonalityMode::Additive,
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
    grid: Grid,
    design: Design,
    precision: Vec<f64>,
    tau: f64,
}

/// Products of the design matrix over the samples.
#[derive(Debug, Clone)]
enum Design {
    /// Z'Z.
    Additive(Vec<f64>),
    Multiplicative(ProductMoments),
}

impl Design {
    fn new(mode: SeasonalityMode, grid: &Grid, indices: impl Iterator<Item = usize>) -> Self {
        match mode {
            SeasonalityMode::Additive => Self::Additive(grid.gram(indices)),
            SeasonalityMode::Multiplicative => Self::Multiplicative(ProductMoments::new(grid, indices)),
        }
    }

    const fn mode(&self) -> SeasonalityMode {
        match self {
            Self::Additive(_) => SeasonalityMode::Additive,
            Self::Multiplicative(_) => SeasonalityMode::Multiplicative,
        }
    }

    /// Takes away the products over other samples, of the same mode.
    fn subtract(&mut self, other: &Self) {
        match (self, other) {
            (Self::Additive(all), Self::Additive(gone)) => all.iter_mut().zip(gone).for_each(|(a, g)| *a -= g),
            (Self::Multiplicative(all), Self::Multiplicative(gone)) => all.subtract(gone),
            _ => {}
        }
    }
}

/// What a fit takes from the values of one series.
#[derive(Debug)]
struct Statistics<'a> {
    design: Cow<'a, Design>,
    projection: Projection,
    known: usize,
    scale: f64,
}

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
        let grid = Grid::new(spec);
        let mut precision = vec![1.0 / 25.0; grid.layout.first_column];
        for season in &spec.seasons {
            precision.extend(vec![1.0 / (season.prior_scale * season.prior_scale); 2 * season.order]);
        }
        let design = Design::new(spec.seasonality_mode, &grid, 0..spec.count);
        Ok(Self { grid, design, precision, tau: spec.changepoint_prior_scale })
    }

    /// Returns the number of samples that a series must have.
    pub const fn count(&self) -> usize {
        self.grid.count
    }

    /// Returns whether a fit has as many parameters as the plan: a saved one may come from another plan.
    pub fn fits(&self, fit: &GridFit) -> bool {
        fit.solution.theta.len() == self.grid.size()
    }

    /// Fits a series of the plan's length; NaN and infinite values are gaps.
    ///
    /// With additive seasons this is the posterior's one maximum. With multiplicative ones it may have several: this is
    /// the one reached from a flat trend without a season.
    ///
    /// # Errors
    /// [`FitError`] for another length, fewer than two known samples, or no solution.
    pub fn fit(&self, values: &[f64]) -> Result<GridFit, FitError> {
        let statistics = self.statistics(values)?;
        let solution = match statistics.design.as_ref() {
            Design::Additive(gram) => {
                let zty = self.grid.zty(&statistics.projection);
                self.problem(gram, &zty, statistics.projection.squares, statistics.known).solve()?
            }
            Design::Multiplicative(moments) => {
                let mut mean = GridMean::new(&self.grid, moments, &statistics.projection);
                let start = mean.start(statistics.known);
                gauss_newton::solve(&mut mean, &self.priors(&statistics), start)?
            }
        };
        Ok(GridFit { solution, scale: statistics.scale })
    }

    /// Returns the largest violation of the optimality conditions by `fit`, relative to 1/τ: near 0 at a maximum of the
    /// posterior.
    ///
    /// # Errors
    /// [`FitError`] for values that no fit can come from.
    pub fn kkt_violation(&self, values: &[f64], fit: &GridFit) -> Result<f64, FitError> {
        let statistics = self.statistics(values)?;
        Ok(match statistics.design.as_ref() {
            Design::Additive(gram) => {
                let zty = self.grid.zty(&statistics.projection);
                self.problem(gram, &zty, statistics.projection.squares, statistics.known).kkt_violation(&fit.solution)
            }
            Design::Multiplicative(moments) => {
                let mut mean = GridMean::new(&self.grid, moments, &statistics.projection);
                gauss_newton::kkt_violation(&mut mean, &self.priors(&statistics), &fit.solution)
            }
        })
    }

    /// Returns the curve at `index` samples after the first one, in the unit of the series; any index, whole or not,
    /// inside the history or past it.
    pub fn value_at(&self, fit: &GridFit, index: f64) -> f64 {
        let theta = &fit.solution.theta;
        let layout = self.grid.layout;
        let t = self.grid.time(index);
        let mut trend = theta[layout.offset] + layout.slope.map_or(0.0, |column| theta[column] * t);
        for (delta, s) in theta[self.grid.ridge()..].iter().zip(&self.grid.changepoint_time) {
            trend += delta * (t - s).max(0.0);
        }
        let seasons = self.seasons_at(fit, index);
        fit.scale
            * match self.design.mode() {
                SeasonalityMode::Additive => trend + seasons,
                SeasonalityMode::Multiplicative => trend * (1.0 + seasons),
            }
    }

    /// Returns what the closed-form interval needs, in the unit of the series; with multiplicative seasons where these
    /// are 0, see [`GridPlan::uncertainty_at`].
    pub fn uncertainty(&self, fit: &GridFit) -> Uncertainty {
        let changes = &fit.solution.theta[self.grid.ridge()..];
        let mean_change = changes.iter().map(|d| d.abs()).sum::<f64>() / (changes.len().max(1)) as f64;
        Uncertainty {
            changepoints: changes.len() as f64,
            mean_change: mean_change * fit.scale,
            sigma: fit.solution.sigma * fit.scale,
        }
    }

    /// Returns what the closed-form interval needs at `index` samples after the first one: a multiplicative season
    /// multiplies the trend's changes too.
    pub fn uncertainty_at(&self, fit: &GridFit, index: f64) -> Uncertainty {
        let plain = self.uncertainty(fit);
        match self.design.mode() {
            SeasonalityMode::Additive => plain,
            SeasonalityMode::Multiplicative => {
                Uncertainty { mean_change: plain.mean_change * (1.0 + self.seasons_at(fit, index)).abs(), ..plain }
            }
        }
    }

    /// Returns the distance of an index past the history in history lengths, for [`Uncertainty::offset`].
    pub fn distance(&self, index: f64) -> f64 {
        self.grid.time(index) - 1.0
    }

    /// The sum of all seasons, in scaled units or as a share of the trend.
    fn seasons_at(&self, fit: &GridFit, index: f64) -> f64 {
        let coefficients = &fit.solution.theta[self.grid.layout.first_column..self.grid.ridge()];
        let pairs = coefficients.chunks_exact(2).zip(&self.grid.frequencies);
        pairs
            .map(|(pair, frequency)| {
                let (sin, cos) = (frequency * index).sin_cos();
                pair[0] * sin + pair[1] * cos
            })
            .sum()
    }

    fn statistics<'a>(&'a self, values: &[f64]) -> Result<Statistics<'a>, FitError> {
        if values.len() != self.grid.count {
            return Err(FitError::OtherLength { got: values.len(), planned: self.grid.count });
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
        let (clean, design) = if known == self.grid.count {
            (values, Cow::Borrowed(&self.design))
        } else {
            filled = values.iter().map(|value| if value.is_finite() { *value } else { 0.0 }).collect();
            (filled.as_slice(), Cow::Owned(self.downdated(values, known)))
        };
        let sums = match self.design.mode() {
            SeasonalityMode::Additive => Sums::Plain,
            SeasonalityMode::Multiplicative => Sums::Timed,
        };
        let projection = self.grid.project(clean, 1.0 / scale, sums);
        Ok(Statistics { design, projection, known, scale })
    }

    fn problem<'a>(&'a self, gram: &'a [f64], zty: &'a [f64], yty: f64, known: usize) -> Problem<'a> {
        Problem {
            gram,
            zty,
            yty,
            count: known as f64,
            ridge: self.grid.ridge(),
            lasso: self.grid.changepoint_at.len(),
            precision: &self.precision,
            tau: self.tau,
        }
    }

    fn priors(&self, statistics: &Statistics<'_>) -> Priors<'_> {
        Priors {
            count: statistics.known as f64,
            yty: statistics.projection.squares,
            ridge: self.grid.ridge(),
            lasso: self.grid.changepoint_at.len(),
            precision: &self.precision,
            tau: self.tau,
        }
    }

    /// The products over the known samples: by subtraction where few are missing, afresh where most are.
    fn downdated(&self, values: &[f64], known: usize) -> Design {
        let indices = |keep: bool| (0..self.grid.count).filter(move |i| values[*i].is_finite() == keep);
        let mode = self.design.mode();
        if 2 * known < self.grid.count {
            return Design::new(mode, &self.grid, indices(true));
        }
        let mut design = self.design.clone();
        design.subtract(&Design::new(mode, &self.grid, indices(false)));
        design
    }
}
