//! Prophet's curve where something is known beforehand: the history, events and quantities in; the curve, at any time from a
//! little before now on, out.
//!
//! The effect of an event is learnt from its occurrences in the history; an event without any there has none. A quantity is
//! left out where it tells nothing: it does not change over the history, or it is unknown for most of it. Otherwise the times
//! at which it is unknown are gaps of the fit, and the curve has no value where it is unknown.
//!
//! Fits go through the front end and cost far more than those on a shared plan, so that a long history is taken in coarser
//! means. What is kept of a fit is the curve and what one unit of each quantity changes of it, at each five minutes: newer
//! values of a quantity need no new fit.

mod followed;

use serde::{Deserialize, Serialize};

use self::followed::{Followed, followed, without};
use crate::history::History;
use crate::known::{Event, Known, Quantity};
use crate::prophet::front::{self, Input, PartialSeason};
use crate::prophet::plan::Season;
use crate::prophet::seasons::{Choice, choose};

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
pub(super) struct KnownCurve {
    /// Time of the fit, Unix seconds.
    fitted_at: i64,
    /// Time of the first point, Unix seconds.
    start: i64,
    /// Distance of the points in seconds.
    distance: i64,
    /// The curve where each quantity is at its reference.
    points: Vec<f64>,
    effects: Vec<Effect>,
    /// Names of the quantities that were known at the fit, left out or not.
    told: Vec<String>,
}

/// What a quantity changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Effect {
    name: String,
    /// Its mean over the fit.
    reference: f64,
    /// What one unit more adds to each of the points.
    slopes: Vec<f64>,
}

impl KnownCurve {
    /// Returns the curve fitted on all that is kept, from its last `back` seconds until `longest` steps ahead; `None` where
    /// the history holds no event and follows no quantity, or is too short to fit.
    pub(super) fn fit(history: &History, known: &Known, longest: usize, back: i64) -> Option<Self> {
        if known.is_empty() {
            return None;
        }
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
        let column = |quantity: &Quantity| -> Vec<f64> {
            let from = |i: i64| (first + i * group) * distance;
            (0..count).map(|i| quantity.mean(from(i), from(i + 1), now * step)).collect()
        };
        let columns: Vec<Vec<f64>> = known.quantities.iter().map(column).collect();
        let (whole, (values, followed)) = (values.clone(), followed(values, known, &columns, MIN_MEANS));
        let seen =
            |event: &&Event| times.iter().zip(&values).any(|(time, value)| value.is_finite() && event.holds(*time));
        let events: Vec<front::Event<'_>> = known
            .events
            .iter()
            .filter(seen)
            .map(|event| front::Event { name: &event.name, occurrences: &event.occurrences })
            .collect();
        if events.is_empty() && followed.is_empty() {
            return None;
        }
        let choice = seasons(&whole, &followed, (group * distance) as f64);
        let seasons: Vec<PartialSeason<'_>> =
            choice.seasons.iter().map(|season| PartialSeason { season: *season, active: None }).collect();
        let regressors: Vec<front::Quantity<'_>> = followed.iter().map(|followed| followed.quantity).collect();
        let input = Input {
            times: &times,
            values: &values,
            seasons: &seasons,
            seasonality_mode: choice.seasonality_mode,
            holidays: &events,
            regressors: &regressors,
        };
        let fit = front::fit(&input).ok()?;

        let start = middle(end - back / distance, 1);
        let ahead = (longest as i64 * step + MARGIN_SECONDS) / distance + 1;
        let points: Vec<i64> = (0..=back / distance + ahead).map(|i| start + i * distance).collect();
        let mut at: Vec<Vec<f64>> = followed.iter().map(|one| vec![one.mean; points.len()]).collect();
        let curve = |at: &[Vec<f64>]| {
            let values: Vec<&[f64]> = at.iter().map(Vec::as_slice).collect();
            fit.curve(&points, &values).ok()
        };
        let reference = curve(&at)?;
        let mut effects = Vec::with_capacity(followed.len());
        for (place, one) in followed.iter().enumerate() {
            // The curve is linear in each quantity, whether that adds or multiplies.
            at[place].fill(one.mean + one.spread);
            let moved = curve(&at)?;
            at[place].fill(one.mean);
            let slopes = moved.iter().zip(&reference).map(|(moved, at)| (moved - at) / one.spread).collect();
            effects.push(Effect { name: one.quantity.name.to_owned(), reference: one.mean, slopes });
        }
        let told = known.quantities.iter().map(|quantity| quantity.name.clone()).collect();
        Some(Self { fitted_at: now * step, start, distance, points: reference, effects, told })
    }

    /// Returns whether another fit is due at `time` (Unix seconds): the last one is old, or other quantities are known.
    pub(super) fn is_due(&self, time: i64, known: &Known) -> bool {
        time - self.fitted_at >= REFIT_SECONDS || !self.told.iter().eq(known.quantities.iter().map(|q| &q.name))
    }

    /// Returns whether the curve follows a quantity.
    pub(super) const fn has_quantities(&self) -> bool {
        !self.effects.is_empty()
    }

    /// Returns the curve at `time` by what is known at `now` (Unix seconds), by straight lines between its points; NaN outside
    /// of them, and where a quantity that it follows is unknown.
    pub(super) fn value(&self, time: i64, now: i64, known: &Known) -> f64 {
        let mut value = self.between(&self.points, time);
        for Effect { name, reference, slopes } in &self.effects {
            let quantity = known.quantities.iter().find(|quantity| quantity.name == *name);
            let at = quantity.map_or(f64::NAN, |quantity| quantity.at(time, now));
            value += self.between(slopes, time) * (at - reference);
        }
        value
    }

    fn between(&self, points: &[f64], time: i64) -> f64 {
        let position = (time - self.start) as f64 / self.distance as f64;
        let place = position.floor();
        if place < 0.0 {
            return f64::NAN;
        }
        let (Some(before), share) = (points.get(place as usize), position - place) else { return f64::NAN };
        if share == 0.0 {
            return *before;
        }
        points.get(place as usize + 1).map_or(f64::NAN, |after| before + share * (after - before))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let strings = self.told.iter().map(|name| name.capacity() + size_of::<String>()).sum::<usize>();
        let effect = |effect: &Effect| {
            size_of::<Effect>() + effect.name.capacity() + effect.slopes.capacity() * size_of::<f64>()
        };
        self.points.capacity() * size_of::<f64>() + strings + self.effects.iter().map(effect).sum::<usize>()
    }
}

/// The seasons of the values, and those that show once what the quantities explain is taken off: their jumps hide a season
/// that is smaller.
fn seasons(values: &[f64], followed: &[Followed<'_>], step_seconds: f64) -> Choice {
    let candidates = [Season::DAY, Season::WEEK];
    let plain = choose(values, step_seconds, &candidates);
    if followed.is_empty() {
        return plain;
    }
    let rest = choose(&without(values, followed), step_seconds, &candidates);
    let mode = if rest.seasons.is_empty() { plain.seasonality_mode } else { rest.seasonality_mode };
    let either = |season: &Season| plain.seasons.contains(season) || rest.seasons.contains(season);
    Choice { seasons: candidates.into_iter().filter(either).collect(), seasonality_mode: mode }
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
    use crate::prophet::plan::SeasonalityMode;
    use std::sync::Arc;

    const ADDITIVE: SeasonalityMode = SeasonalityMode::Additive;
    const DAY: i64 = 86_400;
    /// A Monday at midnight.
    const MONDAY: i64 = 1_699_833_600;

    fn holiday(days: &[i64]) -> Known {
        let occurrences = days.iter().map(|day| (MONDAY + day * DAY, MONDAY + (day + 1) * DAY)).collect();
        Known { events: vec![Event { name: "holiday".to_owned(), occurrences }], quantities: Vec::new() }
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
        let (start, distance, points) = (150, 300, vec![1.0, 3.0]);
        let curve = KnownCurve { fitted_at: 0, start, distance, points, effects: Vec::new(), told: Vec::new() };
        let value = |time: i64| curve.value(time, time, &Known::default());
        assert_eq!([150, 300, 450].map(value), [1.0, 2.0, 3.0]);
        assert!(value(149).is_nan() && value(451).is_nan());
    }

    /// An hour now and then, the same in each run.
    fn burst(time: i64) -> f64 {
        let hash = (time.div_euclid(3600) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        f64::from(u8::from((hash >> 33).is_multiple_of(5)))
    }

    /// What is in the queue becomes load half an hour later.
    const DELAY: i64 = 1800;
    const WEEK: i64 = 7 * DAY;

    /// The queue as it is known until `end`, and how it counts.
    fn queue(end: i64, mode: SeasonalityMode) -> Known {
        let start = MONDAY - DAY;
        let values =
            (0..(end + DELAY - start) / 300 + 1).map(|i| 20.0 + 8.0 * burst(start + i * 300 - DELAY)).collect();
        let quantity = Quantity { name: "queue".to_owned(), mode, start, step: 300, values, reach: DELAY };
        Known { events: Vec::new(), quantities: vec![quantity] }
    }

    fn wave(time: i64) -> f64 {
        100.0 + 20.0 * (time as f64 / DAY as f64 * std::f64::consts::TAU).sin() + (time / 300 % 7) as f64 * 0.3
    }

    fn added(time: i64) -> f64 {
        wave(time) + 50.0 * burst(time - DELAY)
    }

    /// As Prophet has it: the trend is multiplied, not the season.
    fn multiplied(time: i64) -> f64 {
        let trend = 60.0 + 10.0 * (time - MONDAY) as f64 / DAY as f64;
        wave(time) - 100.0 + trend * (1.0 + burst(time - DELAY))
    }

    /// A memory that has seen a load from Monday up to `end`, fitted a little before, and its history.
    fn seen(load: fn(i64) -> f64, known: &Known, end: i64) -> (Box<dyn crate::model::Memory>, History) {
        let mut history = History::new(300, 28 * DAY);
        let mut memory = Prophet::default().start(300, &[1, 6, 12]);
        memory.know(&Arc::new(known.clone()));
        for at in MONDAY / 300..=end / 300 {
            history.push(at, load(at * 300));
            memory.advance(&history);
            if (end / 300 - at) == 5 {
                memory.refit(&history);
            }
        }
        (memory, history)
    }

    /// `prophet` half an hour ahead of `now`, and an hour.
    fn ahead(memory: &dyn crate::model::Memory, history: &History) -> [f64; 2] {
        let mut out = [f64::NAN; 6];
        memory.forecast(history, &[1, 6, 12], &mut out);
        [out[1], out[2]]
    }

    /// A time in the second week, ten minutes before the queue's burst becomes load.
    fn before_a_jump() -> i64 {
        let jumps = |time: &i64| burst(*time - 3600) == 0.0 && burst(*time) == 1.0;
        (MONDAY + WEEK..).step_by(3600).find(jumps).unwrap() + DELAY - 600
    }

    #[test]
    fn a_jump_of_what_the_load_follows_is_forecast() {
        let now = before_a_jump();
        for (load, mode) in [(added as fn(i64) -> f64, ADDITIVE), (multiplied, SeasonalityMode::Multiplicative)] {
            let actual = load(now + 1800);
            assert!(actual > load(now) + 40.0, "it jumps");
            let (told, history) = seen(load, &queue(now, mode), now);
            let [forecast, beyond] = ahead(&*told, &history);
            assert!((forecast - actual).abs() < 4.0, "{mode:?}: {forecast} against {actual}");
            assert!(beyond.is_nan(), "an hour ahead the queue is not known: {beyond}");
            let (untold, history) = seen(load, &Known::default(), now);
            let [forecast, beyond] = ahead(&*untold, &history);
            assert!((forecast - actual).abs() > 30.0, "{mode:?}: without it nothing says so: {forecast}");
            assert!(beyond.is_finite());
        }
    }

    #[test]
    fn newer_values_need_no_new_fit() {
        let now = before_a_jump();
        let mut early = queue(now - 1200, ADDITIVE);
        early.quantities[0].reach = 600;
        let (mut memory, history) = seen(added, &early, now);
        assert!(ahead(&*memory, &history)[0].is_nan());
        memory.know(&Arc::new(queue(now, ADDITIVE)));
        let forecast = ahead(&*memory, &history)[0];
        assert!((forecast - added(now + 1800)).abs() < 4.0, "{forecast}");
        // Nor does a restart, after which they come a little later.
        let mut restored = Prophet::default().restore(300, &[1, 6, 12], &memory.save()).unwrap();
        restored.know(&Arc::default());
        assert!(ahead(&*restored, &history)[0].is_nan());
        restored.know(&Arc::new(queue(now, ADDITIVE)));
        assert_eq!(ahead(&*restored, &history)[0], forecast);
    }

    #[test]
    fn a_quantity_that_is_left_out_for_now_is_forgotten_with_the_next_fit() {
        let now = before_a_jump();
        let (mut memory, history) = seen(added, &queue(now, ADDITIVE), now);
        memory.know(&Arc::default());
        assert!(ahead(&*memory, &history)[0].is_nan());
        memory.refit(&history);
        let (untold, _) = seen(added, &Known::default(), now);
        let (found, usual) = (ahead(&*memory, &history), ahead(&*untold, &history));
        assert!(found.iter().zip(usual).all(|(a, b)| (a - b).abs() < 5.0), "{found:?} against {usual:?}");
    }

    #[test]
    fn where_a_quantity_was_unknown_is_a_gap_not_a_zero() {
        let now = before_a_jump();
        let mut known = queue(now, ADDITIVE);
        let values = &mut known.quantities[0].values;
        // Two days of it; zeros there would say that the load does not need the queue.
        values[3 * 288..5 * 288].fill(f64::NAN);
        let (told, history) = seen(added, &known, now);
        let (forecast, actual) = (ahead(&*told, &history)[0], added(now + 1800));
        assert!((forecast - actual).abs() < 4.0, "{forecast} against {actual}");
    }

    #[test]
    fn a_quantity_that_tells_nothing_changes_nothing() {
        let now = before_a_jump();
        let (untold, history) = seen(added, &Known::default(), now);
        let usual = ahead(&*untold, &history);
        let of = |values: fn(usize) -> f64| {
            let mut known = queue(now, ADDITIVE);
            known.quantities[0].values.iter_mut().enumerate().for_each(|(i, value)| *value = values(i));
            ahead(&*seen(added, &known, now).0, &history)
        };
        assert_eq!(of(|_| 7.0), usual, "constant");
        assert_eq!(of(|_| f64::NAN), usual, "never known");
        assert_eq!(of(|i| if i < 6 * 288 { f64::NAN } else { (i % 5) as f64 }), usual, "known for too short");
    }

    #[test]
    fn a_holiday_and_a_quantity_go_together() {
        let now = before_a_jump();
        let days = [2, (now - MONDAY) / DAY];
        let events = holiday(&days).events;
        let known = Known { events: events.clone(), ..queue(now, ADDITIVE) };
        let load = |time: i64| {
            let days = holiday(&[2, (before_a_jump() - MONDAY) / DAY]).events;
            added(time) - if days[0].holds(time) { 30.0 } else { 0.0 }
        };
        let (memory, history) = seen(load, &known, now);
        let (forecast, actual) = (ahead(&*memory, &history)[0], load(now + 1800));
        assert!((forecast - actual).abs() < 5.0, "{forecast} against {actual}");
        assert!(events[0].holds(now + 1800));
    }
}
