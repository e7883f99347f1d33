//! Quantities that a load follows: the queries of the regressors in, asked for past and future times; what is known of them
//! out.
//!
//! The whole history is asked for at the start and each hour, as often as a model is fitted with it; between, every few
//! minutes, the last hour and the future. A regressor whose query does not return exactly one series is left out; one whose
//! query fails keeps its values for an hour.

mod values;

use std::sync::Arc;
use std::time::Duration;

use cloudpulse_common::query::{Client, MAX_POINTS, QueryError, Series};
use cloudpulse_forecast::known::{Known, Quantity};
use tokio::task::JoinSet;

use self::values::{Values, one_series, values_of};
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
/// Forecasts wait this long for an answer; a later one is taken in the next cycle.
const PATIENCE: Duration = Duration::from_secs(5);

/// The regressors of one forecast.
#[derive(Debug)]
pub struct Regressors {
    config: Arc<ForecastConfig>,
    /// Distance of values in seconds.
    step: i64,
    /// One for each regressor of the configuration.
    states: Vec<State>,
    /// Queries that are not answered yet.
    asked: JoinSet<Asked>,
    /// Whether the source ever answered.
    is_started: bool,
    known: Arc<Known>,
}

/// A query, its end, and its answer.
#[derive(Debug)]
struct Asked {
    place: usize,
    piece: Piece,
    end: i64,
    answer: Result<Vec<Series>, QueryError>,
}

#[derive(Debug, Default)]
struct State {
    values: Option<Values>,
    /// End of the last fetch of the whole history.
    whole_at: Option<i64>,
    /// End of the last fetch that was asked for and not in vain: it need not have been answered yet.
    asked_at: Option<i64>,
    /// What the log last said.
    said: Standing,
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
        let least = LEAST_STEP.max((config.history + longest(&config)) / (MOST_VALUES - 4));
        let step = (least + coarse - 1) / coarse * coarse;
        let states = config.regressors.iter().map(|_| State::default()).collect();
        let known = Arc::clone(&config.known);
        Self { config, step, states, asked: JoinSet::new(), is_started: false, known }
    }

    /// Returns what is known beforehand: the holidays, and the regressors that are not left out. The same until something
    /// new was fetched.
    pub fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known)
    }

    /// Asks for what is due at `end` (Unix seconds), the time of the forecast's origin, and takes what is answered soon; at
    /// the start all that is answered, from which models are to learn at once. What fails is said in the log and by metrics.
    pub async fn refresh(&mut self, client: &Client, metrics: &Metrics, end: i64) {
        let config = Arc::clone(&self.config);
        let name = config.name.as_str();
        for (place, regressor) in config.regressors.iter().enumerate() {
            let Some(piece) = self.due(place, end) else { continue };
            self.states[place].asked_at = Some(end);
            metrics.queries.with_label_values(&[name]).inc();
            let (client, query) = (client.clone(), regressor.query.clone());
            self.asked.spawn(async move {
                let answer = client.range(&query, piece.from, piece.to, piece.step, MAX_POINTS).await;
                Asked { place, piece, end, answer }
            });
        }
        let patience = if self.is_started { PATIENCE } else { Duration::MAX };
        let waiting = tokio::time::sleep(patience);
        tokio::pin!(waiting);
        let mut is_new = false;
        loop {
            let Asked { place, piece, end, answer } = tokio::select! {
                biased;
                next = self.asked.join_next() => match next {
                    Some(Ok(asked)) => asked,
                    Some(Err(_)) => continue,
                    None => break,
                },
                () = &mut waiting => break,
            };
            is_new = true;
            self.is_started |= !matches!(answer, Err(QueryError::Unreachable { .. }));
            if let Err(error) = &answer {
                metrics.query_errors.with_label_values(&[name, error.reason()]).inc();
            }
            let standing = self.take(place, piece, answer, end);
            self.say(place, &config.regressors[place], standing, metrics);
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
        Some(Piece {
            from: aligned(end - back),
            to: aligned(end + longest(&self.config) + 2 * self.step),
            step: self.step,
        })
    }

    /// Takes the answer to what was asked at `end`; returns how it is with the regressor now.
    fn take(&mut self, place: usize, piece: Piece, answer: Result<Vec<Series>, QueryError>, end: i64) -> Standing {
        let history = self.config.history;
        let longest = self.config.horizons.last().copied().unwrap_or_default();
        let step = self.step;
        let state = &mut self.states[place];
        if state.values.as_ref().is_some_and(|values| values.end > end) {
            // An answer that came after a later one.
            return state.said.clone();
        }
        let fetched = match answer {
            Ok(series) => one_series(series).map(|series| values_of(&series, piece)),
            Err(error) => {
                // Asked again in the next cycle, as the series are.
                if matches!(error, QueryError::Unreachable { .. }) {
                    state.asked_at = None;
                }
                if state.values.as_ref().is_some_and(|values| end - values.end < WHOLE_SECONDS) {
                    return state.said.clone();
                }
                Err(format!("its query fails: {error}"))
            }
        };
        let merged = fetched.and_then(|fetched| {
            let is_whole = end - piece.from > history - step;
            let merged = match state.values.take() {
                Some(before) if !is_whole => before.with(piece, &fetched, end),
                _ => {
                    state.whole_at = Some(end);
                    Values { start: piece.from, values: fetched, end }
                }
            };
            merged.reach(step).map(|reach| (merged, reach)).ok_or_else(|| "its query returns no number".to_owned())
        });
        match merged {
            Ok((merged, reach)) => {
                state.values = Some(merged);
                // A value holds until the next one.
                if reach + step < longest { Standing::Short } else { Standing::Fine }
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
                reach: values.reach(self.step)?,
            })
        };
        let quantities = self.config.regressors.iter().zip(&self.states).filter_map(quantity).collect();
        Known { events: self.config.known.events.clone(), quantities }
    }

    /// Says what changed.
    fn say(&mut self, place: usize, regressor: &Regressor, standing: Standing, metrics: &Metrics) {
        let state = &mut self.states[place];
        let forecast = self.config.name.as_str();
        let labels = [forecast, regressor.name.as_str()];
        metrics.regressor_left_out.with_label_values(&labels).set(i64::from(state.values.is_none()));
        let ahead = state.values.as_ref().and_then(|values| values.reach(self.step));
        match ahead {
            Some(ahead) => metrics.regressor_ahead.with_label_values(&labels).set(ahead.max(0)),
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
                let ahead = duration_label(ahead.unwrap_or(0).max(0));
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

/// The longest horizon that is forecast, in seconds. Values are asked for until then, and somewhat longer: until the next
/// fetch.
fn longest(config: &ForecastConfig) -> i64 {
    horizon_steps(config).last().map_or(0, |steps| *steps as i64 * config.step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloudpulse_common::query::{Labels, Sample};
    use cloudpulse_forecast::prophet::plan::SeasonalityMode;

    const END: i64 = 1_700_000_040;

    fn regressors(step: i64, history: i64) -> Regressors {
        let mut config = crate::config::built_in().swap_remove(0);
        (config.step, config.history) = (step, history);
        let query = "queue".to_owned();
        config.regressors = vec![Regressor { name: "queue".to_owned(), query, mode: SeasonalityMode::Additive }];
        Regressors::new(Arc::new(config))
    }

    /// A series with the value of its time, up to a time, NaN at `gap`.
    fn answer(piece: Piece, until: i64, gap: i64) -> Series {
        let times = (piece.from..=piece.to.min(until)).step_by(piece.step as usize);
        let value = |time: i64| if time == gap { f64::NAN } else { time as f64 };
        let samples = times.map(|time| Sample { timestamp: time as f64, value: value(time) }).collect();
        Series { labels: Labels::new(), samples }
    }

    fn refused() -> QueryError {
        QueryError::Refused { query: "queue".to_owned(), message: "parse error".to_owned() }
    }

    #[test]
    fn values_lie_in_the_middle_of_the_means_and_their_number_is_bounded() {
        for (step, history, distance) in
            [(15, 14 * 86_400, 300), (60, 86_400, 300), (420, 86_400, 420), (200, 3600, 400), (60, 100 * 86_400, 900)]
        {
            let regressors = regressors(step, history);
            let piece = regressors.due(0, END).unwrap();
            assert_eq!(piece.step, distance);
            assert!(piece.from >= END - history && piece.from < END - history + distance, "{step}");
            assert!(piece.to >= END + 900 + step + 2 * distance, "{step}");
            assert!((piece.to - piece.from) / piece.step < MOST_VALUES, "{step}");
            assert_eq!((piece.from - (distance - step) / 2) % distance, 0, "{step}");
        }
    }

    #[test]
    fn the_whole_is_asked_for_each_hour_and_the_end_between() {
        let mut regressors = regressors(60, 86_400);
        let whole = regressors.due(0, END).unwrap();
        let gap = whole.from + 3000;
        assert_eq!(regressors.take(0, whole, Ok(vec![answer(whole, END + 1200, gap)]), END), Standing::Fine);
        regressors.states[0].asked_at = Some(END);
        assert!(regressors.due(0, END + 299).is_none());
        let tail = regressors.due(0, END + 300).unwrap();
        assert!(tail.from > END + 300 - 3600 && tail.from <= END - 3000);
        // The future was another than it seemed, and a sample of the past has come.
        let mut later = answer(tail, END + 1500, 0);
        later.samples.iter_mut().for_each(|sample| sample.value += 0.5);
        assert_eq!(regressors.take(0, tail, Ok(vec![later]), END + 300), Standing::Fine);
        let known = regressors.gathered();
        let queue = &known.quantities[0];
        assert_eq!((queue.start, queue.step), (whole.from, 300));
        for (place, value) in queue.values.iter().enumerate() {
            let time = queue.start + place as i64 * 300;
            let expected = if time < tail.from { time as f64 } else { time as f64 + 0.5 };
            assert_eq!(value.is_finite(), time != gap && time <= END + 1500, "{time}");
            assert!(!value.is_finite() || *value == expected, "{time}: {value}");
        }
        assert!((901..=1200).contains(&queue.reach), "until 1200 s past the second fetch: {}", queue.reach);
        assert_eq!(regressors.due(0, END + 3600).unwrap().from, whole.from + 3600);
    }

    #[test]
    fn anything_but_one_series_is_left_out_until_it_is_one() {
        let mut regressors = regressors(60, 86_400);
        let whole = regressors.due(0, END).unwrap();
        let one = || answer(whole, END + 1200, 0);
        let left_out =
            |standing: Standing, why: &str| matches!(standing, Standing::LeftOut(said) if said.contains(why));
        assert!(left_out(regressors.take(0, whole, Ok(vec![]), END), "no series"));
        assert!(left_out(regressors.take(0, whole, Ok(vec![one(), one()]), END), "several series"));
        assert!(left_out(regressors.take(0, whole, Ok(vec![answer(whole, 0, 0)]), END), "no number"));
        assert!(left_out(regressors.take(0, whole, Err(refused()), END), "parse error"));
        assert!(regressors.gathered().quantities.is_empty());
        assert_eq!(regressors.due(0, END + 300).map(|piece| piece.from), Some(whole.from + 300), "all of it anew");
        regressors.take(0, whole, Ok(vec![one()]), END);
        assert_eq!(regressors.gathered().quantities.len(), 1);
        regressors.take(0, whole, Ok(vec![one(), one()]), END + 300);
        assert!(regressors.gathered().quantities.is_empty());
    }

    #[test]
    fn values_outlive_a_failed_query_for_an_hour() {
        let mut regressors = regressors(60, 86_400);
        let whole = regressors.due(0, END).unwrap();
        regressors.take(0, whole, Ok(vec![answer(whole, END + 1200, 0)]), END);
        assert_eq!(regressors.take(0, whole, Err(refused()), END + 3599), Standing::Fine);
        assert_eq!(regressors.gathered().quantities.len(), 1);
        assert!(matches!(regressors.take(0, whole, Err(refused()), END + 3600), Standing::LeftOut(_)));
        assert!(regressors.gathered().quantities.is_empty());
    }

    #[test]
    fn what_is_not_known_until_the_longest_horizon_is_said() {
        let mut regressors = regressors(60, 86_400);
        let whole = regressors.due(0, END).unwrap();
        assert_eq!(regressors.take(0, whole, Ok(vec![answer(whole, END, 0)]), END), Standing::Short);
        assert!(regressors.gathered().quantities[0].reach <= 0);
    }
}
