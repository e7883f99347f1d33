//! What was there a day or a week before the target: plain (the second baseline), its highest value around that time, and
//! moved by the change of level since.

use super::{Memory, Model};
use crate::history::History;

const DAY_SECONDS: i64 = 86_400;
const WEEK_SECONDS: i64 = 7 * DAY_SECONDS;
/// Half of the window whose highest value is taken.
const AROUND_SECONDS: i64 = 900;

/// Forecasts from one season earlier: `seasonal_naive_day`, `seasonal_naive_week` are the value there; `day_level`,
/// `week_level` add the difference of the five-minute means now and one season before now; `seasonal_max_day` is the
/// highest value within 15 minutes of the target's time one day earlier.
#[derive(Debug, Clone, Copy)]
pub struct Seasonal;

impl Model for Seasonal {
    fn outputs(&self) -> &'static [&'static str] {
        &["seasonal_naive_day", "seasonal_naive_week", "day_level", "week_level", "seasonal_max_day"]
    }

    fn start(&self, _step: i64, _horizons: &[usize]) -> Box<dyn Memory> {
        Box::new(*self)
    }

    fn restore(&self, _step: i64, _horizons: &[usize], _saved: &[u8]) -> Option<Box<dyn Memory>> {
        Some(Box::new(*self))
    }
}

impl Memory for Seasonal {
    fn advance(&mut self, _history: &History) {}

    fn forecast(&self, history: &History, horizons: &[usize], out: &mut [f64]) {
        let Some(now) = history.now() else { return };
        let level = history.level(now);
        let count = horizons.len();
        for (which, season) in [DAY_SECONDS, WEEK_SECONDS].into_iter().enumerate() {
            if season < history.step() {
                continue;
            }
            let season = history.steps(season) as i64;
            for (column, horizon) in horizons.iter().map(|horizon| *horizon as i64).enumerate() {
                // The latest season that is known.
                let back = (horizon + season - 1) / season * season;
                let target = now + horizon - back;
                if which == 0 {
                    let around = history.steps(AROUND_SECONDS) as i64;
                    let highest = history.highest(target - around, (target + around).min(now));
                    out[4 * count + column] = highest.unwrap_or(f64::NAN);
                }
                let Some(value) = history.near(target) else { continue };
                out[which * count + column] = value;
                if let (Some(level), Some(then)) = (level, history.level(now - back)) {
                    out[(which + 2) * count + column] = value + (level - then);
                }
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_latest_season_that_is_known() {
        let mut history = History::new(3600, 14 * 86_400);
        for value in 0..60 {
            history.push(0, f64::from(value));
        }
        let mut out = [f64::NAN; 10];
        Seasonal.forecast(&history, &[1, 25], &mut out);
        assert_eq!(out[..2], [36.0, 36.0]);
        assert!(out[2].is_nan(), "a week is not known");
        assert_eq!(out[4], 36.0 + 24.0);
        assert_eq!(out[8..], [37.0, 37.0], "an hour is the shortest window around the time");
    }
}
