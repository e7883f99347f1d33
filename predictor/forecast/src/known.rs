//! What is known of the future beforehand, beside the series itself: holidays, sales, maintenance; and quantities that the
//! level follows.

use crate::prophet::plan::SeasonalityMode;

/// What is known beforehand; by default nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Known {
    /// Times at which the level may be another. Names are unique.
    pub events: Vec<Event>,
    /// Quantities that the level may follow. Names are unique, among the events' too.
    pub quantities: Vec<Quantity>,
}

impl Known {
    /// Returns whether nothing is known.
    pub const fn is_empty(&self) -> bool {
        self.events.is_empty() && self.quantities.is_empty()
    }
}

/// What happens from time to time with the same effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// A name, its own among the events.
    pub name: String,
    /// Start and end in Unix seconds, the end not included; past and future.
    pub occurrences: Vec<(i64, i64)>,
}

impl Event {
    /// Returns whether it holds at `time`, Unix seconds.
    pub(crate) fn holds(&self, time: i64) -> bool {
        self.occurrences.iter().any(|(start, end)| (*start..*end).contains(&time))
    }
}

/// A quantity at times of equal distance, past and some of the future. What is not among its values is unknown.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantity {
    /// A name, its own among the quantities.
    pub name: String,
    /// Whether a unit of it adds to the level or multiplies it.
    pub mode: SeasonalityMode,
    /// Time of the first value, Unix seconds.
    pub start: i64,
    /// Distance of the values in seconds, at least 1.
    pub step: i64,
    /// The values; NaN and infinite ones are unknown.
    pub values: Vec<f64>,
    /// How far past the newest value of a series it is known, in seconds. Values beyond are not used, so that a past that
    /// is replayed knows no more than the present does.
    pub reach: i64,
}

impl Quantity {
    /// Returns the value at `time` as it is known at `now` (Unix seconds): by a straight line between its neighbours, or
    /// the value before where the one after is unknown; NaN where that before is unknown.
    pub(crate) fn at(&self, time: i64, now: i64) -> f64 {
        let place = (time - self.start).div_euclid(self.step);
        let (before, after) = (self.sample(place, now), self.sample(place + 1, now));
        let share = (time - self.start).rem_euclid(self.step) as f64 / self.step as f64;
        if after.is_nan() { before } else { before + share * (after - before) }
    }

    /// Returns the mean of the values from `from` to before `to` as they are known at `now` (Unix seconds), the value in
    /// the middle where the values lie wider apart; NaN where nothing is known.
    pub(crate) fn mean(&self, from: i64, to: i64, now: i64) -> f64 {
        // The first place at or after a time.
        let place = |time: i64| -(self.start - time).div_euclid(self.step);
        let places = place(from)..place(to);
        if places.is_empty() {
            return self.at(from + (to - from) / 2, now);
        }
        let (mut sum, mut count) = (0.0, 0.0);
        for value in places.map(|place| self.sample(place, now)).filter(|value| !value.is_nan()) {
            sum += value;
            count += 1.0;
        }
        if count > 0.0 { sum / count } else { f64::NAN }
    }

    /// The value of a place; NaN where it is unknown at `now`.
    fn sample(&self, place: i64, now: i64) -> f64 {
        let known = usize::try_from(place).ok().and_then(|index| self.values.get(index)).copied();
        let until = now.saturating_add(self.reach);
        known.filter(|value| value.is_finite() && self.start + place * self.step <= until).unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(values: &[f64], reach: i64) -> Quantity {
        let mode = SeasonalityMode::Additive;
        Quantity { name: "queue".to_owned(), mode, start: 100, step: 10, values: values.to_vec(), reach }
    }

    #[test]
    fn a_value_lies_between_its_neighbours_and_holds_until_the_next() {
        let queue = quantity(&[1.0, 3.0, f64::NAN, 5.0, f64::INFINITY], 1000);
        assert_eq!([100, 105, 110, 119, 130, 139].map(|time| queue.at(time, 100)), [1.0, 2.0, 3.0, 3.0, 5.0, 5.0]);
        for unknown in [99, 120, 129, 140, 150] {
            assert!(queue.at(unknown, 100).is_nan(), "{unknown}");
        }
    }

    #[test]
    fn what_was_not_known_then_is_not_used() {
        let queue = quantity(&[1.0, 3.0, 5.0, 7.0], 10);
        assert_eq!([110, 115, 119].map(|time| queue.at(time, 100)), [3.0; 3], "the value at 120 is not known yet");
        assert!(queue.at(120, 100).is_nan());
        assert_eq!(queue.at(120, 110), 5.0);
        assert_eq!(queue.mean(100, 140, 100), 2.0);
        assert!(quantity(&[1.0], i64::MIN).at(100, 100).is_nan());
    }

    #[test]
    fn a_mean_is_of_what_is_known() {
        let queue = quantity(&[1.0, f64::NAN, 6.0, f64::NAN], 1000);
        assert_eq!((queue.mean(100, 130, 0), queue.mean(100, 110, 0)), (3.5, 1.0));
        assert!(queue.mean(101, 120, 0).is_nan() && queue.mean(130, 140, 0).is_nan() && queue.mean(0, 100, 0).is_nan());
        let wide = Quantity { values: vec![1.0, 3.0], ..quantity(&[], 1000) };
        assert_eq!(wide.mean(104, 107, 0), 2.0, "no value between, so the one in the middle");
    }
}
