//! Quantities that a load follows: the queries of the regressors in, asked for past and future times; what is known of them
//! out.
//!
//! The whole history is asked for at the start and each hour, as often as a model is fitted with it; between, every few
//! minutes, the last hour and the future. A regressor whose query does not return exactly one series is left out; one whose
//! query fails keeps its values for an hour.

use std::sync::Arc;

use cloudpulse_common::query::{Client, MAX_POINTS, QueryError, Series};
use cloudpulse_forecast::known::{Known, Quantity};

use crate::config::{ForecastConfig, Regressor, duration_label};
use crate::fetch::{Piece, coarse_step};
use crate::metrics::Metrics;
use crate::tracked::horizon_steps;

/// Values lie no closer than this, in seconds: models are fitted on five-minute means.
const LEAST_STEP: i64 = 300;
/// Values of one regressor at most, past and future.
const MOST_VALUES: i64 = 10_000;
/// The whole history is asked for this often, in seconds.
const WHOLE_SECONDS: i64 = 3600;

/// The regressors of one forecast.
#[derive(Debug)]
pub struct Regressors {
    config: Arc<ForecastConfig>,
    /// Distance of values in seconds.
    step: i64,
    /// One for each regressor of the configuration.
    states: Vec<State>,
    known: Arc<Known>,
}

#[derive(Debug, Default)]
struct State {
    values: Option<Values>,
    /// End of the last fetch of the whole history.
    whole_at: Option<i64>,
    /// End of the last fetch that was answered, whatever it returned.
    asked_at: Option<i64>,
    /// What the log last said.
    said: Standing,
}

#[derive(Debug, Clone, PartialEq)]
struct Values {
    /// Time of the first, Unix seconds.
    start: i64,
    /// NaN is unknown.
    values: Vec<f64>,
    /// End of the last fetch that returned some.
    end: i64,
}

/// How it is with a regressor.
#[derive(Debug, Clone, Default, PartialEq)]
enum Standing {
    /// Known as far as it is needed, or not asked for yet.
    #[default]
    Fine,
    /// Known, but not until the longest horizon.
    Short,
    /// Left out; the reason is a part of a sentence.
    LeftOut(String),
}

impl Regressors {
    /// Returns regressors of which nothing is known yet.
    pub fn new(config: Arc<ForecastConfig>) -> Self {
        let coarse = coarse_step(config.step);
        let least = LEAST_STEP.max((config.history + ahead(&config)) / (MOST_VALUES - 2));
        let step = (least + coarse - 1) / coarse * coarse;
        let states = config.regressors.iter().map(|_| State::default()).collect();
        let known = Arc::clone(&config.known);
        Self { config, step, states, known }
    }

    /// Returns what is known beforehand: the holidays, and the regressors that are not left out. The same until something
    /// new was fetched.
    pub fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known)
    }

    /// Asks for what is due at `end` (Unix seconds), the time of the forecast's origin. What fails is said in the log and
    /// by metrics.
    pub async fn refresh(&mut self, client: &Client, metrics: &Metrics, end: i64) {
        let config = Arc::clone(&self.config);
        let name = config.name.as_str();
        let mut is_new = false;
        for (place, regressor) in config.regressors.iter().enumerate() {
            let Some(piece) = self.due(place, end) else { continue };
            is_new = true;
            metrics.queries.with_label_values(&[name]).inc();
            let answer = client.range(&regressor.query, piece.from, piece.to, piece.step, MAX_POINTS).await;
            let error = answer.as_ref().err().map(|error| (error.reason(), error.is_transient()));
            if let Some((reason, _)) = error {
                metrics.query_errors.with_label_values(&[name, reason]).inc();
            }
            let standing = self.take(place, piece, answer, end);
            self.say(place, regressor, standing, metrics, end);
            // The next one would wait as long, and so does the query of the series.
            if error.is_some_and(|(_, is_transient)| is_transient) {
                break;
            }
        }
        if is_new {
            self.known = Arc::new(self.gathered());
        }
    }

    /// The query of one regressor that is due at `end`.
    fn due(&self, place: usize, end: i64) -> Option<Piece> {
        let State { values, whole_at, asked_at, .. } = &self.states[place];
        if asked_at.is_some_and(|at| end - at < self.step) {
            return None;
        }
        let is_whole = values.is_none() || whole_at.is_none_or(|at| end - at >= WHOLE_SECONDS);
        let back = if is_whole { self.config.history } else { WHOLE_SECONDS };
        // In the middle of the means that models are fitted on.
        let middle = (self.step - self.config.step) / 2;
        let aligned = |time: i64| -(middle - time).div_euclid(self.step) * self.step + middle;
        Some(Piece { from: aligned(end - back), to: aligned(end + ahead(&self.config)), step: self.step })
    }

    /// Takes an answer; returns how it is with the regressor now.
    fn take(&mut self, place: usize, piece: Piece, answer: Result<Vec<Series>, QueryError>, end: i64) -> Standing {
        let history = self.config.history;
        let longest = self.config.horizons.last().copied().unwrap_or_default();
        let step = self.step;
        let state = &mut self.states[place];
        let fetched = match answer {
            Ok(series) => {
                state.asked_at = Some(end);
                one_series(series).map(|series| values_of(&series, piece))
            }
            Err(error) => {
                // One that may pass is asked for again in the next cycle.
                if !error.is_transient() {
                    state.asked_at = Some(end);
                }
                if state.values.as_ref().is_some_and(|values| end - values.end < WHOLE_SECONDS) {
                    return state.said.clone();
                }
                Err(format!("its query fails: {error}"))
            }
        };
        let fetched = fetched.and_then(|fetched| {
            let is_known = fetched.iter().any(|value| value.is_finite()) || state.values.is_some();
            if is_known { Ok(fetched) } else { Err("its query returns no number".to_owned()) }
        });
        match fetched {
            Ok(fetched) => {
                let is_whole = end - piece.from >= history - step;
                match &mut state.values {
                    Some(values) if !is_whole => values.replace_from(piece, &fetched, end),
                    values => {
                        state.whole_at = Some(end);
                        *values = Some(Values { start: piece.from, values: fetched, end });
                    }
                }
                let reach = state.values.as_ref().map_or(i64::MIN, |values| values.reach(step));
                // A value holds until the next one.
                if reach.saturating_add(step) < longest { Standing::Short } else { Standing::Fine }
            }
            Err(why) => {
                state.values = None;
                Standing::LeftOut(why)
            }
        }
    }

    fn gathered(&self) -> Known {
        let quantity = |(regressor, state): (&Regressor, &State)| {
            let values = state.values.as_ref()?;
            Some(Quantity {
                name: regressor.name.clone(),
                mode: regressor.mode,
                start: values.start,
                step: self.step,
                values: values.values.clone(),
                reach: values.reach(self.step),
            })
        };
        let quantities = self.config.regressors.iter().zip(&self.states).filter_map(quantity).collect();
        Known { events: self.config.known.events.clone(), quantities }
    }

    /// Says what changed.
    fn say(&mut self, place: usize, regressor: &Regressor, standing: Standing, metrics: &Metrics, end: i64) {
        let state = &mut self.states[place];
        let forecast = self.config.name.as_str();
        let labels = [forecast, regressor.name.as_str()];
        metrics.regressor_left_out.with_label_values(&labels).set(i64::from(state.values.is_none()));
        match &state.values {
            Some(values) => {
                let reach = values.reach(self.step).saturating_sub(end - values.end).max(0);
                metrics.regressor_ahead.with_label_values(&labels).set(reach);
            }
            None => {
                let _ = metrics.regressor_ahead.remove_label_values(&labels);
            }
        }
        if standing == state.said {
            return;
        }
        let regressor = regressor.name.as_str();
        match &standing {
            Standing::Fine => tracing::info!(forecast, regressor, "is known as far ahead as it is needed again"),
            Standing::Short => {
                let ahead = state.values.as_ref().map_or(0, |values| values.reach(self.step).max(0));
                let ahead = duration_label(ahead);
                tracing::warn!(
                    forecast,
                    regressor,
                    ahead,
                    "is not known until the longest horizon; the model prophet ends there"
                );
            }
            Standing::LeftOut(why) => tracing::warn!(forecast, regressor, why, "is left out for now"),
        }
        state.said = standing;
    }
}

impl Values {
    /// Takes the values of a piece in place of those from its start on.
    fn replace_from(&mut self, piece: Piece, fetched: &[f64], end: i64) {
        let keep = (piece.from - self.start).div_euclid(piece.step).max(0) as usize;
        self.values.resize(keep, f64::NAN);
        self.values.extend_from_slice(fetched);
        self.end = end;
    }

    /// How far past its end the values are known, in seconds; the least number where nothing is.
    fn reach(&self, step: i64) -> i64 {
        let last = self.values.iter().rposition(|value| value.is_finite());
        last.map_or(i64::MIN, |place| self.start + place as i64 * step - self.end)
    }
}

/// How far past now the values are asked for, in seconds: the longest horizon, and until the next fetch.
fn ahead(config: &ForecastConfig) -> i64 {
    let longest = horizon_steps(config).last().map_or(0, |steps| *steps as i64 * config.step);
    longest + 2 * LEAST_STEP.max(coarse_step(config.step))
}

/// The only series of an answer, or why there is none.
fn one_series(mut series: Vec<Series>) -> Result<Series, String> {
    match (series.pop(), series.len()) {
        (Some(only), 0) => Ok(only),
        (None, _) => Err("its query returns no series".to_owned()),
        (Some(_), _) => Err("its query returns several series; aggregate them, such as by sum".to_owned()),
    }
}

/// The values at the times of a piece; NaN where the series has none.
fn values_of(series: &Series, piece: Piece) -> Vec<f64> {
    let place = |time: f64| ((time - piece.from as f64) / piece.step as f64).round();
    let mut values = vec![f64::NAN; ((piece.to - piece.from) / piece.step + 1).max(0) as usize];
    for sample in &series.samples {
        let place = place(sample.timestamp);
        if place >= 0.0
            && let Some(value) = values.get_mut(place as usize)
        {
            *value = sample.value;
        }
    }
    values
}
