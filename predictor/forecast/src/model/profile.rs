//! The usual day: medians over the last seven days, of what was there at the target's time and of how the load went on
//! from this time of day.

use super::median::median;
use super::{Memory, Model};
use crate::history::History;

const DAY_SECONDS: i64 = 86_400;
/// Days that are looked back.
const DAYS: usize = 7;
/// With fewer known days it says nothing: the seasonal models know one day.
const LEAST_DAYS: usize = 2;

/// Forecasts from the same time on the last days: `days_median` is the median of the values there; `days_level` is the
/// five-minute mean now and the median of the changes from it to the target's time.
#[derive(Debug, Clone, Copy)]
pub struct Profile;

impl Model for Profile {
    fn outputs(&self) -> &'static [&'static str] {
        &["days_median", "days_level"]
    }

    fn start(&self, _step: i64, _horizons: &[usize]) -> Box<dyn Memory> {
        Box::new(*self)
    }

    fn restore(&self, _step: i64, _horizons: &[usize], _saved: &[u8]) -> Option<Box<dyn Memory>> {
        Some(Box::new(*self))
    }
}

impl Memory for Profile {
    fn advance(&mut self, _history: &History) {}

    fn forecast(&self, history: &History, horizons: &[usize], out: &mut [f64]) {
        let (Some(now), true) = (history.now(), history.step() <= DAY_SECONDS) else { return };
        from_cycles(history, now, history.steps(DAY_SECONDS) as i64, DAYS, LEAST_DAYS, horizons, out);
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

/// Writes two rows: the medians of the values at the target's place in the last `cycles` of `period` steps, and the
/// five-minute mean now with the medians of the changes from it to there. Where fewer than `least` are known, nothing.
pub(super) fn from_cycles(
    history: &History,
    now: i64,
    period: i64,
    cycles: usize,
    least: usize,
    horizons: &[usize],
    out: &mut [f64],
) {
    let level = history.level(now);
    let (medians, levels) = out.split_at_mut(horizons.len());
    let (mut values, mut changes) = (Vec::with_capacity(cycles), Vec::with_capacity(cycles));
    for ((horizon, at_median), at_level) in horizons.iter().map(|h| *h as i64).zip(medians).zip(levels) {
        values.clear();
        changes.clear();
        // The latest cycle that is known, and those before.
        let first = (horizon + period - 1) / period;
        for back in (first..first + cycles as i64).map(|count| count * period) {
            let Some(value) = history.near(now + horizon - back) else { continue };
            values.push(value);
            changes.extend(history.level(now - back).map(|then| value - then));
        }
        if values.len() >= least {
            *at_median = median(&mut values).unwrap_or(f64::NAN);
        }
        if let (Some(level), true) = (level, changes.len() >= least) {
            *at_level = level + median(&mut changes).unwrap_or(f64::NAN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_odd_day_does_not_count() {
        let mut history = History::new(3600, 14 * DAY_SECONDS);
        // The hour of the day, the fourth day at ten times as much; ten more today.
        for at in 0..24 * 6 + 9 {
            let hour = f64::from(at % 24);
            let value = if at / 24 == 3 { 10.0 * hour } else { hour };
            history.push(0, if at / 24 == 6 { value + 10.0 } else { value });
        }
        let mut out = [f64::NAN; 4];
        Profile.forecast(&history, &[2, 26], &mut out);
        assert_eq!(out, [10.0, 10.0, 20.0, 20.0]);
        let mut young = History::new(3600, 14 * DAY_SECONDS);
        (0..30).for_each(|_| young.push(0, 1.0));
        let mut out = [f64::NAN; 2];
        Profile.forecast(&young, &[1], &mut out);
        assert!(out.iter().all(|value| value.is_nan()), "one day is not enough");
    }
}
