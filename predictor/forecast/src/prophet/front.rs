//! Forecasts with holidays, regressors and conditional seasons: augurs' data frame with the exact solver behind it.
//!
//! In: times, values, and what is known beforehand about past and future. Out: the forecast. Times need not lie on a grid.
//! A series on a grid without such features is fitted far faster by [`plan`](super::plan).

use std::collections::HashMap;
use std::num::{NonZeroU32, TryFromIntError};

use augurs_prophet::optimizer::OptimizeOpts;
use augurs_prophet::{
    FeatureMode, Holiday, HolidayOccurrence, PredictionData, Prophet, ProphetOptions, Regressor, Seasonality,
    SeasonalityOption, TrainingData, TryFromFloatError,
};

use super::optimizer::ExactOptimizer;
use super::plan::{Season, SeasonalityMode};

/// A series and what is known beforehand.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Unix seconds, rising: of the history, then of the forecast.
    pub times: &'a [i64],
    /// The history, for the first of `times`; NaN and infinite values are gaps.
    pub values: &'a [f64],
    /// Seasons, all of the time or part of it.
    pub seasons: &'a [PartialSeason<'a>],
    /// How the seasons and holidays go together with the trend.
    pub seasonality_mode: SeasonalityMode,
    /// Times at which the level is another.
    pub holidays: &'a [Event<'a>],
    /// Quantities that the level follows.
    pub regressors: &'a [Quantity<'a>],
}

/// A season that may hold for a part of the time only.
#[derive(Debug, Clone, Copy)]
pub struct PartialSeason<'a> {
    /// The season.
    pub season: Season,
    /// For each of the times whether it holds; absent when it always does.
    pub active: Option<&'a [bool]>,
}

/// What happens from time to time with the same effect: a holiday, a sale, a nightly job.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// A name, its own among the events.
    pub name: &'a str,
    /// Start and end in Unix seconds, the end not included; past and future.
    pub occurrences: &'a [(i64, i64)],
}

/// A quantity that is known for past and future.
#[derive(Debug, Clone, Copy)]
pub struct Quantity<'a> {
    /// A name, its own among the quantities.
    pub name: &'a str,
    /// Its value at each of the times; NaN and infinite values of the past are gaps.
    pub values: &'a [f64],
    /// Whether a unit of it adds to the level or multiplies it.
    pub mode: SeasonalityMode,
}

/// Why there is no forecast.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForecastError {
    /// A list is not as long as the times.
    #[error("{what} has {got} entries, {needed} are needed")]
    Length {
        /// Which list.
        what: String,
        /// Its length.
        got: usize,
        /// Length of the times.
        needed: usize,
    },
    /// The times do not rise.
    #[error("the times do not rise")]
    Order,
    /// A period or prior is not positive.
    #[error("a period or a prior's scale is not positive")]
    NotPositive(#[from] TryFromFloatError),
    /// An order is zero or too large.
    #[error("a season's order is not a positive number of 32 bits")]
    SeasonOrder(#[from] TryFromIntError),
    /// The front end refuses the data, or there is no solution.
    #[error("no fit")]
    Fit(#[from] augurs_prophet::Error),
}

/// Returns the forecast at the times after the history, by Prophet's defaults: a linear trend with 25 changepoints.
///
/// The front end keeps its parts in hash maps, but the result does not depend on their order: see [`ExactOptimizer`].
///
/// # Errors
/// [`ForecastError`] for lists that do not match, times that do not rise, seasons without a period, a regressor that is NaN
/// in the future, or no solution.
pub fn forecast(input: &Input<'_>) -> Result<Vec<f64>, ForecastError> {
    let past = input.values.len().min(input.times.len());
    let (fitted, future) = (fit(input)?, past..input.times.len());
    let prediction = PredictionData::new(input.times[future.clone()].to_vec())
        .with_regressors(regressors(input, future.clone()))?
        .with_seasonality_conditions(conditions(input, future))?;
    Ok(fitted.prophet.predict(prediction)?.yhat.point)
}

/// A model that was fitted.
#[derive(Debug)]
pub struct Fit<'a> {
    prophet: Prophet<ExactOptimizer>,
    /// Names of the regressors.
    regressors: Vec<&'a str>,
}

impl Fit<'_> {
    /// Returns the curve at any `times` (Unix seconds, rising), past or future, where the regressors have the given values:
    /// for each of [`Input::regressors`] one value a time.
    ///
    /// # Errors
    /// As [`forecast`]; and with a season that does not always hold, of which nobody says whether it holds at `times`.
    pub fn curve(&self, times: &[i64], regressors: &[&[f64]]) -> Result<Vec<f64>, ForecastError> {
        if regressors.len() != self.regressors.len() {
            let (got, needed) = (regressors.len(), self.regressors.len());
            return Err(ForecastError::Length { what: "the list of regressors".to_owned(), got, needed });
        }
        let values = self.regressors.iter().zip(regressors);
        let values = values.map(|(name, values)| ((*name).to_owned(), values.to_vec())).collect();
        let prediction = PredictionData::new(times.to_vec()).with_regressors(values)?;
        Ok(self.prophet.predict(prediction)?.yhat.point)
    }
}

/// Fits the history. A time at which a regressor is unknown (NaN or infinite) is a gap, as one without a value.
///
/// # Errors
/// As [`forecast`].
pub fn fit<'a>(input: &Input<'a>) -> Result<Fit<'a>, ForecastError> {
    let (all, known) = (input.times.len(), input.values.len());
    if known > all {
        return Err(ForecastError::Length { what: "values".to_owned(), got: known, needed: all });
    }
    if !input.times.is_sorted_by(|a, b| a < b) {
        return Err(ForecastError::Order);
    }
    let mut prophet = prophet(input)?;
    let past = 0..known;
    let mut regressors = regressors(input, past.clone());
    let mut values: Vec<f64> =
        input.values.iter().map(|value| if value.is_finite() { *value } else { f64::NAN }).collect();
    for column in regressors.values_mut() {
        for (value, quantity) in values.iter_mut().zip(column).filter(|(_, quantity)| !quantity.is_finite()) {
            *value = f64::NAN;
            // The front end takes no NaN here; it leaves the row out, because its value is one.
            *quantity = 0.0;
        }
    }
    let training = TrainingData::new(input.times[past.clone()].to_vec(), values)?
        .with_regressors(regressors)?
        .with_seasonality_conditions(conditions(input, past))?;
    prophet.fit(training, OptimizeOpts::default())?;
    Ok(Fit { prophet, regressors: input.regressors.iter().map(|quantity| quantity.name).collect() })
}

/// The model of the input, its lists checked.
fn prophet(input: &Input<'_>) -> Result<Prophet<ExactOptimizer>, ForecastError> {
    let check = |what: &str, got: usize| {
        let needed = input.times.len();
        if got == needed { Ok(()) } else { Err(ForecastError::Length { what: what.to_owned(), got, needed }) }
    };
    let holiday = |event: &Event<'_>| {
        let occurrences = event.occurrences.iter().map(|(start, end)| HolidayOccurrence::new(*start, *end));
        (event.name.to_owned(), Holiday::new(occurrences.collect()))
    };
    let off = SeasonalityOption::Manual(false);
    let options = ProphetOptions {
        seasonality_mode: mode(input.seasonality_mode),
        daily_seasonality: off,
        weekly_seasonality: off,
        yearly_seasonality: off,
        holidays: input.holidays.iter().map(holiday).collect(),
        uncertainty_samples: 0,
        ..ProphetOptions::default()
    };
    let mut prophet = Prophet::new(options, ExactOptimizer);
    for (place, partial) in input.seasons.iter().enumerate() {
        let season = partial.season;
        let order = NonZeroU32::try_from(u32::try_from(season.order)?)?;
        let mut seasonality = Seasonality::new((season.period_seconds / 86_400.0).try_into()?, order)
            .with_prior_scale(season.prior_scale.try_into()?);
        if let Some(active) = partial.active {
            check("a season's active", active.len())?;
            seasonality = seasonality.with_condition(condition_name(place));
        }
        prophet.add_seasonality(format!("season {place}"), seasonality)?;
    }
    for quantity in input.regressors {
        check(quantity.name, quantity.values.len())?;
        let regressor = match quantity.mode {
            SeasonalityMode::Additive => Regressor::additive(),
            SeasonalityMode::Multiplicative => Regressor::multiplicative(),
        };
        prophet.add_regressor(quantity.name.to_owned(), regressor);
    }
    Ok(prophet)
}

const fn mode(mode: SeasonalityMode) -> FeatureMode {
    match mode {
        SeasonalityMode::Additive => FeatureMode::Additive,
        SeasonalityMode::Multiplicative => FeatureMode::Multiplicative,
    }
}

fn condition_name(place: usize) -> String {
    format!("season {place} is active")
}

fn regressors(input: &Input<'_>, range: std::ops::Range<usize>) -> HashMap<String, Vec<f64>> {
    let values = |quantity: &Quantity<'_>| (quantity.name.to_owned(), quantity.values[range.clone()].to_vec());
    input.regressors.iter().map(values).collect()
}

fn conditions(input: &Input<'_>, range: std::ops::Range<usize>) -> HashMap<String, Vec<bool>> {
    let active = |(place, season): (usize, &PartialSeason<'_>)| {
        Some((condition_name(place), season.active?[range.clone()].to_vec()))
    };
    input.seasons.iter().enumerate().filter_map(active).collect()
}
