//! Prophet's curve where events are known beforehand: the history and the events in; the curve, at each five minutes from now
//! on, out.
//!
//! The effect of an event is learnt from its occurrences in the history; an event without any there has none. Fits go
//! through the front end and cost far more than those on a shared plan, so that a long history is taken in coarser means.

use serde::{Deserialize, Serialize};

use crate::history::History;
use crate::known::{Event, Known};
use crate::prophet::front::{self, Input, PartialSeason};
use crate::prophet::plan::Season;
use crate::prophet::seasons::choose;

/// Means that are fitted at most: a week of five minutes, four weeks of twenty.
const MOST_MEANS: i64 = 2016;
/// Fewer make no fit.
const MIN_MEANS: usize = 12;
/// A curve is used this long, in seconds, before another is fitted.
const REFIT_SECONDS: i64 = 3600;
/// It reaches this far past the longest horizon, in seconds: the next fit may have to wait.
const MARGIN_SECONDS: i64 = 3 * 3600;

/// A curve at points of equal distance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct EventCurve {
    /// Time of the fit, Unix seconds.
    fitted_at: i64,
    /// Time of the first point, Unix seconds.
    start: i64,
    /// Distance of the points in seconds.
    distance: i64,
    points: Vec<f64>,
}

impl EventCurve {
    /// Returns the curve fitted on all that is kept, from its last `back` seconds until `longest` steps ahead; `None` where
    /// the history holds no event, or too little to fit.
    pub(super) fn fit(history: &History, known: &Known, longest: usize, back: i64) -> Option<Self> {
        let (now, step, width) = (history.now()?, history.step(), history.width());
        let distance = width * step;
        // Buckets that are whole, in groups that end with them.
        let end = (now + 1).div_euclid(width);
        let all = end - history.first_bucket();
        let group = ((all + MOST_MEANS - 1) / MOST_MEANS).max(1);
        let count = all / group;
        let first = end - count * group;
        let middle = |bucket: i64, buckets: i64| bucket * distance + (buckets * distance - step) / 2;
        let values: Vec<f64> = (0..count).map(|i| mean(history, first + i * group, group)).collect();
        if values.iter().filter(|value| value.is_finite()).count() < MIN_MEANS {
            return None;
        }
        let times: Vec<i64> = (0..count).map(|i| middle(first + i * group, group)).collect();
        let past: Vec<(i64, f64)> = times.iter().copied().zip(values.iter().copied()).collect();
        let seen = |event: &&Event| past.iter().any(|(time, value)| value.is_finite() && event.holds(*time));
        let events: Vec<front::Event<'_>> = known
            .events
            .iter()
            .filter(seen)
            .map(|event| front::Event { name: &event.name, occurrences: &event.occurrences })
            .collect();
        if events.is_empty() {
            return None;
        }
        let choice = choose(&values, (group * distance) as f64, &[Season::DAY, Season::WEEK]);
        let seasons: Vec<PartialSeason<'_>> =
            choice.seasons.iter().map(|season| PartialSeason { season: *season, active: None }).collect();
        let start = middle(end - back / distance, 1);
        let ahead = (longest as i64 * step + MARGIN_SECONDS) / distance + 1;
        let points: Vec<i64> = (0..=back / distance + ahead).map(|i| start + i * distance).collect();
        let input = Input {
            times: &times,
            values: &values,
            seasons: &seasons,
            seasonality_mode: choice.seasonality_mode,
            holidays: &events,
            regressors: &[],
        };
        let points = front::curve(&input, &points).ok()?;
        Some(Self { fitted_at: now * step, start, distance, points })
    }

    /// Returns whether another fit is due at `time`, Unix seconds.
    pub(super) const fn is_old(&self, time: i64) -> bool {
        time - self.fitted_at >= REFIT_SECONDS
    }

    /// Returns the curve at `time`, Unix seconds, by straight lines between its points; NaN outside of them.
    pub(super) fn value(&self, time: i64) -> f64 {
        let position = (time - self.start) as f64 / self.distance as f64;
        let place = position.floor();
        if place < 0.0 {
            return f64::NAN;
        }
        let (Some(before), share) = (self.points.get(place as usize), position - place) else { return f64::NAN };
        if share == 0.0 {
            return *before;
        }
        self.points.get(place as usize + 1).map_or(f64::NAN, |after| before + share * (after - before))
    }

    pub(super) const fn heap_bytes(&self) -> usize {
        self.points.capacity() * size_of::<f64>()
    }
}

/// The mean of some buckets; NaN where nothing of them is known.
fn mean(history: &History, first: i64, count: i64) -> f64 {
    let (mut sum, mut known) = (0.0, 0.0);
    for bucket in (first..first + count).filter_map(|number| history.bucket(number)) {
        sum += f64::from(bucket.mean);
        known += 1.0;
    }
    if known > 0.0 { sum / known } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model as _;
    use crate::model::prophet::Prophet;
    use std::sync::Arc;

    const DAY: i64 = 86_400;
    /// A Monday at midnight.
    const MONDAY: i64 = 1_699_833_600;

    fn holiday(days: &[i64]) -> Known {
        let occurrences = days.iter().map(|day| (MONDAY + day * DAY, MONDAY + (day + 1) * DAY)).collect();
        Known { events: vec![Event { name: "holiday".to_owned(), occurrences }] }
    }

    /// A daily wave, a third of it on holidays; a value each five minutes.
    fn load(time: i64, known: &Known) -> f64 {
        let share = if known.events[0].holds(time) { 0.3 } else { 1.0 };
        share * (100.0 + 40.0 * (time as f64 / DAY as f64 * std::f64::consts::TAU).sin()) + (time / 300 % 7) as f64
    }

    /// `prophet`'s forecast an hour ahead at noon, fitted before the given day began, by what it is told.
    fn at_noon(day: i64, truth: &Known, told: &Known) -> f64 {
        let mut history = History::new(300, 28 * DAY);
        let mut memory = Prophet::default().start(300, &[12, 288]);
        memory.know(&Arc::new(told.clone()));
        let first = MONDAY / 300;
        for at in first..=first + day * 288 + 132 {
            history.push(at, load(at * 300, truth));
            memory.advance(&history);
            if at % 288 == 287 {
                memory.refit(&history);
            }
        }
        let mut out = [f64::NAN; 4];
        memory.forecast(&history, &[12, 288], &mut out);
        out[0]
    }

    const fn noon(day: i64) -> i64 {
        MONDAY + day * DAY + 12 * 3600
    }

    #[test]
    fn a_holiday_that_lowers_the_load_is_forecast() {
        let truth = holiday(&[3, 9, 16]);
        let (told, untold) = (at_noon(16, &truth, &truth), at_noon(16, &truth, &Known::default()));
        let actual = load(noon(16), &truth);
        assert!((told - actual).abs() < 12.0, "{told} against {actual}");
        assert!((untold - actual).abs() > 30.0, "without it nothing says so: {untold}");
        // The usual day after it is as usual again.
        let (told, actual) = (at_noon(17, &truth, &truth), load(noon(17), &truth));
        assert!((told - actual).abs() < 12.0, "{told} against {actual}");
    }

    #[test]
    fn a_holiday_that_was_never_seen_changes_nothing() {
        let (truth, told) = (holiday(&[3]), holiday(&[16]));
        assert_eq!(at_noon(16, &truth, &told), at_noon(16, &truth, &Known::default()));
    }

    #[test]
    fn the_curve_ends_where_it_was_fitted_to() {
        let curve = EventCurve { fitted_at: 0, start: 150, distance: 300, points: vec![1.0, 3.0] };
        assert_eq!([150, 300, 450].map(|time| curve.value(time)), [1.0, 2.0, 3.0]);
        assert!(curve.value(149).is_nan() && curve.value(451).is_nan());
    }
}
