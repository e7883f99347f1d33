//! Prophet, refitted hourly on five-minute means, alone and with the smoothed level of its own residuals.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::ses::levels;
use super::{History, Model, Table};
use crate::prophet::plan::{GridFit, GridPlan, PlanSpec};
use crate::series::Series;

/// Prophet sees means over this time: finer samples add cost and no season.
const COARSE_SECONDS: i64 = 300;
/// Fits are made at multiples of this time.
const REFIT_SECONDS: i64 = 3600;
/// Longest history: four weeks of five-minute means.
const MAX_COUNT: usize = 8064;
/// A history longer than two of these is cut to a multiple of it, so that plans are shared.
const COUNT_QUANTUM: usize = 144;
/// Fewer means than this make no fit.
const MIN_COUNT: usize = 12;
/// Residuals that are smoothed.
const RESIDUALS: usize = 600;
/// Plans kept; a plan of 8,064 samples takes some 30 kB.
const MAX_PLANS: usize = 128;

/// Forecasts with Prophet's exact maximum a posteriori: `prophet` is its curve, `prophet_ses` the curve plus the smoothed
/// level of the last 600 residuals.
#[derive(Debug, Default)]
pub struct Prophet {
    plans: Mutex<HashMap<(usize, i64), Arc<GridPlan>>>,
}

impl Model for Prophet {
    fn outputs(&self) -> &'static [&'static str] {
        &["prophet", "prophet_ses"]
    }

    fn forecast(&self, history: &History<'_>, origins: &[usize], horizons: &[usize]) -> Vec<Table> {
        let series = history.series;
        let mut tables = vec![Table::unknown(origins.len(), horizons.len()); 2];
        let refit = series.steps(REFIT_SECONDS) as i64;
        let boundary = |origin: usize| series.absolute(origin).div_euclid(refit) * refit;
        let mut first = 0;
        while first < origins.len() {
            let at = boundary(origins[first]);
            let group = origins[first..].iter().take_while(|origin| boundary(**origin) == at).count();
            if let Some(fit) = self.fit_at(series, at) {
                forecast_group(&fit, series, at, first, &origins[first..first + group], horizons, &mut tables);
            }
            first += group;
        }
        tables
    }
}

/// A fit and where its grid lies.
#[derive(Debug)]
pub(crate) struct Placed {
    plan: Arc<GridPlan>,
    fit: GridFit,
    /// First five-minute mean, counted since the epoch.
    first_mean: i64,
    /// Samples in one mean.
    width: i64,
}

impl Placed {
    /// Returns the curve at a grid point, counted since the epoch.
    fn curve(&self, absolute: i64) -> f64 {
        self.plan.value_at(&self.fit, self.position(absolute))
    }

    /// Returns the distance of the quantile from the curve.
    pub(crate) fn offset(&self, absolute: i64, quantile: f64) -> f64 {
        self.plan.uncertainty(&self.fit).offset(quantile, self.plan.distance(self.position(absolute)))
    }

    fn position(&self, absolute: i64) -> f64 {
        // A mean lies in the middle of its samples.
        (absolute as f64 - (self.width - 1) as f64 / 2.0) / self.width as f64 - self.first_mean as f64
    }
}

impl Prophet {
    /// Returns the fit that is in force at `origin`; `None` where there is none.
    pub(crate) fn in_force(&self, series: &Series, origin: usize) -> Option<Placed> {
        let refit = series.steps(REFIT_SECONDS) as i64;
        self.fit_at(series, series.absolute(origin).div_euclid(refit) * refit)
    }

    /// Fits on the means that ended before the grid point `boundary` (counted since the epoch).
    fn fit_at(&self, series: &Series, boundary: i64) -> Option<Placed> {
        let width = (COARSE_SECONDS / series.step()).max(1);
        let start = series.absolute(0);
        let first = start.div_euclid(width) + i64::from(start.rem_euclid(width) != 0);
        let end = boundary.div_euclid(width);
        let mut count = usize::try_from(end - first).ok()?.min(MAX_COUNT);
        if count >= 2 * COUNT_QUANTUM {
            count -= count % COUNT_QUANTUM;
        }
        if count < MIN_COUNT {
            return None;
        }
        let first_mean = end - count as i64;
        let values: Vec<f64> = (first_mean..end)
            .map(|mean| {
                let from = (mean * width - start) as usize;
                let (mut sum, mut known) = (0.0, 0_u32);
                for value in &series.values()[from..from + width as usize] {
                    if value.is_finite() {
                        sum += value;
                        known += 1;
                    }
                }
                if known == 0 { f64::NAN } else { sum / f64::from(known) }
            })
            .collect();
        if values.iter().filter(|value| value.is_finite()).count() < MIN_COUNT {
            return None;
        }
        let plan = self.plan(count, width * series.step())?;
        let fit = plan.fit(&values).ok()?;
        Some(Placed { plan, fit, first_mean, width })
    }

    fn plan(&self, count: usize, step_seconds: i64) -> Option<Arc<GridPlan>> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(&(count, step_seconds)) {
            return Some(Arc::clone(plan));
        }
        if plans.len() >= MAX_PLANS {
            plans.clear();
        }
        let plan = Arc::new(GridPlan::new(&PlanSpec::prophet(count, step_seconds as f64)).ok()?);
        plans.insert((count, step_seconds), Arc::clone(&plan));
        Some(plan)
    }
}

/// Fills the rows from `first` on, for origins that share one fit.
fn forecast_group(
    fit: &Placed,
    series: &Series,
    boundary: i64,
    first: usize,
    origins: &[usize],
    horizons: &[usize],
    tables: &mut [Table],
) {
    let Some(last) = origins.last() else { return };
    let start = series.absolute(0);
    let from = (boundary - RESIDUALS as i64 - start).max(0) as usize;
    let residuals: Vec<f64> =
        (from..=*last).map(|index| series.values()[index] - fit.curve(series.absolute(index))).collect();
    let wanted: Vec<usize> = origins.iter().map(|origin| origin - from).collect();
    for ((row, origin), level) in (first..).zip(origins).zip(levels(&residuals, &wanted)) {
        for (column, horizon) in horizons.iter().enumerate() {
            let curve = fit.curve(series.absolute(*origin) + *horizon as i64);
            if curve.is_finite() {
                tables[0].row_mut(row)[column] = curve;
                tables[1].row_mut(row)[column] = curve + level;
            }
        }
    }
}
