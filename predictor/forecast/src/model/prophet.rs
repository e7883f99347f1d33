//! Prophet, refitted hourly on five-minute means, alone and with the smoothed level of its own residuals.

mod known;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use self::known::KnownCurve;
use super::ses::Smoothed;
use super::{Memory, Model, restored, saved};
use crate::history::History;
use crate::known::Known;
use crate::prophet::plan::{GridFit, GridPlan, PlanSpec, Season, SeasonalityMode};
use crate::prophet::seasons::choose;

/// Fits are made this often.
const REFIT_SECONDS: i64 = 900;
/// Longest history: four weeks of five-minute means.
const MAX_COUNT: usize = 8064;
/// A history longer than two of these is cut to a multiple of it, so that plans are shared.
const COUNT_QUANTUM: usize = 144;
/// Seasons are chosen anew this often; a fit costs less than the choice.
const CHOOSE_SECONDS: i64 = 6 * 3600;
/// Fewer means than this make no fit.
const MIN_COUNT: usize = 12;
/// Residuals that are smoothed after a fit.
const RESIDUALS: i64 = 300;
/// Plans kept; a plan of 8,064 samples takes some 30 kB.
const MAX_PLANS: usize = 128;

/// What a plan depends on: number of means, their distance in seconds, seasons and how they go with the trend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Key {
    count: usize,
    step_seconds: i64,
    seasons: Seasons,
}

/// The seasons of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Seasons {
    day: bool,
    week: bool,
    is_multiplicative: bool,
}

/// Plans, shared by all series.
type Plans = Arc<Mutex<HashMap<Key, Arc<GridPlan>>>>;

/// Forecasts with Prophet's exact maximum a posteriori on five-minute means, with the seasons that the history speaks for: `prophet` is its curve, `prophet_ses` the
/// curve plus the smoothed level of the residuals since. Where the history holds events that are known beforehand, or follows
/// quantities that are, the curve is one with them; it ends where such a quantity is not known any more.
#[derive(Debug, Default)]
pub struct Prophet {
    plans: Plans,
}

impl Model for Prophet {
    fn outputs(&self) -> &'static [&'static str] {
        &["prophet", "prophet_ses"]
    }

    fn start(&self, _step: i64, horizons: &[usize]) -> Box<dyn Memory> {
        let saved = Saved { chosen: None, fit: None, with_known: None, residual: Smoothed::new() };
        Box::new(Curve::of(self, horizons, saved, None))
    }

    fn refit_seconds(&self) -> Option<i64> {
        Some(REFIT_SECONDS)
    }

    fn restore(&self, _step: i64, horizons: &[usize], bytes: &[u8]) -> Option<Box<dyn Memory>> {
        let mut saved: Saved = restored(bytes)?;
        let fit = match saved.fit.take() {
            None => None,
            Some(SavedFit { fit, key, first_mean, width }) => {
                let plan = plan(&self.plans, key)?;
                plan.fits(&fit).then_some(())?;
                Some(Placed { plan, key, fit, first_mean, width })
            }
        };
        Some(Box::new(Curve::of(self, horizons, saved, fit)))
    }
}

/// The curve of one series and the level of its residuals.
#[derive(Debug)]
struct Curve {
    plans: Plans,
    /// Grid point at which the seasons were chosen, and which.
    chosen: Option<(i64, Seasons)>,
    fit: Option<Placed>,
    known: Arc<Known>,
    /// Longest horizon in steps.
    longest: usize,
    /// Stands in for `fit` where the history holds something that is known beforehand.
    with_known: Option<KnownCurve>,
    residual: Smoothed,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    chosen: Option<(i64, Seasons)>,
    fit: Option<SavedFit>,
    with_known: Option<KnownCurve>,
    residual: Smoothed,
}

#[derive(Serialize, Deserialize)]
struct SavedFit {
    fit: GridFit,
    key: Key,
    first_mean: i64,
    width: i64,
}

impl Curve {
    fn of(model: &Prophet, horizons: &[usize], saved: Saved, fit: Option<Placed>) -> Self {
        let Saved { chosen, with_known, residual, .. } = saved;
        let longest = horizons.iter().copied().max().unwrap_or(1);
        Self { plans: Arc::clone(&model.plans), chosen, fit, known: Arc::default(), longest, with_known, residual }
    }

    /// The curve at a grid point, counted since the epoch, by what is known at `now`; NaN where there is none.
    fn value(&self, history: &History, at: i64, now: i64) -> f64 {
        let step = history.step();
        match (&self.with_known, &self.fit) {
            (Some(curve), _) => curve.value(at * step, now * step, &self.known),
            (None, Some(fit)) => fit.curve(at),
            (None, None) => f64::NAN,
        }
    }

    /// Smooths the last residuals anew, after a fit.
    fn smooth(&mut self, history: &History, now: i64) {
        let mut residual = Smoothed::new();
        for at in (now - RESIDUALS + 1).max(history.first())..=now {
            let distance = history.get(at).map(|value| value - self.value(history, at, now));
            if let Some(distance) = distance.filter(|distance| !distance.is_nan()) {
                residual.add(distance);
            }
        }
        self.residual = residual;
    }
}

impl Memory for Curve {
    fn know(&mut self, known: &Arc<Known>) {
        self.known = Arc::clone(known);
        // After a restart quantities are said later than events.
        if known.is_empty() {
            self.with_known.take_if(|curve| !curve.has_quantities());
        }
    }

    fn advance(&mut self, history: &History) {
        if let Some((now, value)) = history.now().and_then(|now| Some((now, history.get(now)?))) {
            let distance = value - self.value(history, now, now);
            if !distance.is_nan() {
                self.residual.add(distance);
            }
        }
    }

    fn refit(&mut self, history: &History) {
        let Some(now) = history.now() else { return };
        let step = history.step();
        if self.with_known.as_ref().is_some_and(|curve| !curve.is_due(now * step, &self.known)) {
            return;
        }
        self.with_known = KnownCurve::fit(history, &self.known, self.longest, RESIDUALS * step);
        if self.with_known.is_some() {
            self.smooth(history, now);
            return;
        }
        let valid = history.steps(CHOOSE_SECONDS) as i64;
        let chosen = self.chosen.filter(|(at, _)| now - at < valid).map(|(_, seasons)| seasons);
        let Some(fit) = fit_at(&self.plans, history, now, chosen) else { return };
        if chosen.is_none() {
            self.chosen = Some((now, fit.key.seasons));
        }
        self.fit = Some(fit);
        self.smooth(history, now);
    }

    fn forecast(&self, history: &History, horizons: &[usize], out: &mut [f64]) {
        let Some(now) = history.now() else { return };
        let level = self.residual.level();
        for (column, horizon) in horizons.iter().enumerate() {
            let curve = self.value(history, now + *horizon as i64, now);
            if curve.is_finite() {
                out[column] = curve;
                out[horizons.len() + column] = curve + level;
            }
        }
    }

    fn save(&self) -> Vec<u8> {
        let fit = self.fit.as_ref().map(|placed| SavedFit {
            fit: placed.fit.clone(),
            key: placed.key,
            first_mean: placed.first_mean,
            width: placed.width,
        });
        saved(&Saved { chosen: self.chosen, fit, with_known: self.with_known.clone(), residual: self.residual.clone() })
    }

    fn heap_bytes(&self) -> usize {
        let fit = self.fit.as_ref().map_or(0, |placed| placed.fit.solution.theta.capacity() * size_of::<f64>());
        size_of::<Self>() + fit + self.with_known.as_ref().map_or(0, KnownCurve::heap_bytes)
    }
}

/// A fit and where its grid lies.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    plan: Arc<GridPlan>,
    key: Key,
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
    /// Returns a fit on all that is kept; `None` where there is too little.
    pub(crate) fn fit(&self, history: &History) -> Option<Placed> {
        fit_at(&self.plans, history, history.now()?, None)
    }
}

/// Fits on the means that ended at or before the grid point `now`, with the given seasons or those that the means speak for.
fn fit_at(plans: &Plans, history: &History, now: i64, seasons: Option<Seasons>) -> Option<Placed> {
    let width = history.width();
    let first = history.first_bucket();
    let end = (now + 1).div_euclid(width);
    let mut count = usize::try_from(end - first).ok()?.min(MAX_COUNT);
    if count >= 2 * COUNT_QUANTUM {
        count -= count % COUNT_QUANTUM;
    }
    if count < MIN_COUNT {
        return None;
    }
    let first_mean = end - count as i64;
    let value = |mean: i64| history.bucket(mean).map_or(f64::NAN, |bucket| f64::from(bucket.mean));
    let values: Vec<f64> = (first_mean..end).map(value).collect();
    if values.iter().filter(|value| value.is_finite()).count() < MIN_COUNT {
        return None;
    }
    let step_seconds = width * history.step();
    let seasons = seasons.unwrap_or_else(|| {
        let choice = choose(&values, step_seconds as f64, &[Season::DAY, Season::WEEK]);
        Seasons {
            day: choice.seasons.contains(&Season::DAY),
            week: choice.seasons.contains(&Season::WEEK),
            is_multiplicative: choice.seasonality_mode == SeasonalityMode::Multiplicative,
        }
    });
    let key = Key { count, step_seconds, seasons };
    let plan = plan(plans, key)?;
    let fit = plan.fit(&values).ok()?;
    Some(Placed { plan, key, fit, first_mean, width })
}

fn plan(plans: &Plans, key: Key) -> Option<Arc<GridPlan>> {
    let Key { count, step_seconds, seasons } = key;
    if !(MIN_COUNT..=MAX_COUNT).contains(&count) || step_seconds < 1 {
        return None;
    }
    let mut plans = plans.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(plan) = plans.get(&key) {
        return Some(Arc::clone(plan));
    }
    if plans.len() >= MAX_PLANS {
        plans.clear();
    }
    let chosen = [(seasons.day, Season::DAY), (seasons.week, Season::WEEK)];
    let spec = PlanSpec {
        seasons: chosen.into_iter().filter(|(taken, _)| *taken).map(|(_, season)| season).collect(),
        seasonality_mode: if seasons.is_multiplicative {
            SeasonalityMode::Multiplicative
        } else {
            SeasonalityMode::Additive
        },
        ..PlanSpec::prophet(count, step_seconds as f64)
    };
    let plan = Arc::new(GridPlan::new(&spec).ok()?);
    plans.insert(key, Arc::clone(&plan));
    Some(plan)
}
