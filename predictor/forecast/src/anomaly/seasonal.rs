//! Values in, row by row; how far each lies from a slow level and the usual course of a day or week out.
//!
//! Slow on purpose: a forecast that adapts within a few rows follows a level shift and no longer sees it.

use serde::{Deserialize, Serialize};

/// Share of an error that the level takes up, per row.
const LEVEL_RATE: f64 = 0.01;
/// Share of an error that a slot takes up, per period.
const PROFILE_RATE: f64 = 0.2;
/// The same while a slot is seen for the first time, per row.
const FIRST_PROFILE_RATE: f64 = 0.3;
/// Least rate of the mean absolute error, per row.
const ERROR_RATE: f64 = 0.002;
/// Errors count up to this many mean absolute errors in level and profile.
const CLIP: f64 = 5.0;
/// The same in the mean absolute error itself.
const CLIP_IN_MEAN: f64 = 8.0;
/// Errors before any is clipped.
const UNCLIPPED: u32 = 50;
const LEAST_SLOTS: i64 = 8;

// Marks of a slot: never seen, or seen in several periods, or else seen in one period, whose number is kept modulo PERIODS.
const NEVER: u8 = 0;
const KNOWN: u8 = 255;
const PERIODS: i64 = 254;

/// A slow level and a profile of slots over a period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Seasonal {
    period_seconds: i64,
    /// Rows that fall into one slot in one period, at least 1.
    rows_per_slot: f32,
    level: f32,
    profile: Box<[f32]>,
    marks: Box<[u8]>,
    /// Mean absolute error.
    error: f32,
    errors: u32,
}

/// How far a value lies from what was expected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Deviation {
    /// From level and profile.
    Seasonal(f64),
    /// From the level alone: the slot has no earlier period.
    Level(f64),
}

impl Seasonal {
    /// Returns a profile of slots of about `slot_seconds`, or of one step where that is longer.
    pub(super) fn new(period_seconds: i64, slot_seconds: i64, step_seconds: i64) -> Self {
        let slots = (period_seconds / step_seconds.max(slot_seconds)).max(LEAST_SLOTS) as usize;
        Self {
            period_seconds,
            rows_per_slot: (slot_seconds as f32 / step_seconds as f32).max(1.0),
            level: 0.0,
            profile: vec![0.0; slots].into(),
            marks: vec![NEVER; slots].into(),
            error: 0.0,
            errors: 0,
        }
    }

    /// Returns the value's deviation from what earlier rows let expect, then learns the value. `small` is a deviation that is
    /// small for this series: clipping starts above it, so that one which was constant until now can be learned.
    pub(super) fn push(&mut self, time_seconds: i64, value: f64, small: f64) -> Deviation {
        let level = f64::from(self.level);
        let fallback = Deviation::Level(value - level);
        let slot = time_seconds.rem_euclid(self.period_seconds) * self.profile.len() as i64 / self.period_seconds;
        let period = (time_seconds.div_euclid(self.period_seconds).rem_euclid(PERIODS) + 1) as u8;
        let (Some(usual), Some(mark)) = (self.profile.get_mut(slot as usize), self.marks.get_mut(slot as usize)) else {
            return fallback;
        };
        let deviation = value - level - f64::from(*usual);
        if *mark == NEVER {
            *usual = (value - level) as f32;
            *mark = period;
            return fallback;
        }
        if *mark == period {
            *usual += (FIRST_PROFILE_RATE * deviation) as f32;
            return fallback;
        }
        *mark = KNOWN;
        self.errors = self.errors.saturating_add(1);
        let is_clipped = self.errors > UNCLIPPED;
        let clip = |value: f64, reach: f64| if is_clipped { value.clamp(-reach, reach) } else { value };
        let error = f64::from(self.error);
        let taken = clip(deviation, CLIP * error.max(small));
        let size = clip(deviation.abs(), CLIP_IN_MEAN * error.max(small));
        let error = error + (1.0 / f64::from(self.errors)).max(ERROR_RATE) * (size - error);
        let level = level + LEVEL_RATE * taken;
        let rest = clip(value - level - f64::from(*usual), CLIP * error.max(small));
        *usual += (PROFILE_RATE / f64::from(self.rows_per_slot) * rest) as f32;
        (self.error, self.level) = (error as f32, level as f32);
        Deviation::Seasonal(deviation)
    }

    /// Returns the mean absolute deviation of late from level and profile; infinite before the first.
    pub(super) fn error(&self) -> f64 {
        if self.errors == 0 { f64::INFINITY } else { f64::from(self.error) }
    }

    /// Returns the bytes held on the heap.
    pub(super) const fn heap_bytes(&self) -> usize {
        self.profile.len() * size_of::<f32>() + self.marks.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    #[test]
    fn a_slot_is_known_from_its_second_period_on() {
        let mut seasonal = Seasonal::new(DAY, 1800, 300);
        for row in 0..288 {
            let value = if row < 144 { 10.0 } else { 30.0 };
            assert_eq!(seasonal.push(300 * row, value, 0.0), Deviation::Level(value));
        }
        assert_eq!(seasonal.error(), f64::INFINITY);
        assert_eq!(seasonal.push(DAY, 12.0, 0.0), Deviation::Seasonal(2.0));
        // A slot that one day left out is still unknown on the next.
        let mut seasonal = Seasonal::new(DAY, 1800, 300);
        seasonal.push(0, 5.0, 0.0);
        assert!(matches!(seasonal.push(DAY + 7200, 5.0, 0.0), Deviation::Level(_)));
        assert!(matches!(seasonal.push(2 * DAY, 5.0, 0.0), Deviation::Seasonal(_)));
        // Before 1970 too.
        assert!(matches!(seasonal.push(-300, 5.0, 0.0), Deviation::Level(_)));
    }

    #[test]
    fn a_profile_is_learned_and_one_wild_day_is_not() {
        let mut seasonal = Seasonal::new(DAY, 3600, 3600);
        let wave = |row: i64| (row as f64 / 24.0 * std::f64::consts::TAU).sin() + 0.01 * (row * 37 % 11) as f64;
        let mut largest = 0.0_f64;
        for row in 0..40 * 24 {
            let value = wave(row) + if row / 24 == 20 { 1000.0 } else { 0.0 };
            if let Deviation::Seasonal(deviation) = seasonal.push(3600 * row, value, 0.0)
                && row / 24 > 25
            {
                largest = largest.max(deviation.abs());
            }
        }
        assert!(largest < 0.3, "{largest}");
    }

    #[test]
    fn a_change_after_a_constant_start_is_learned() {
        let mut seasonal = Seasonal::new(DAY, 1800, 300);
        let mut last = Deviation::Level(0.0);
        for row in 0..20 * 288 {
            last = seasonal.push(300 * row, if row < 10 * 288 { 0.0 } else { 5.0 }, 0.1);
        }
        assert!(matches!(last, Deviation::Seasonal(deviation) if deviation.abs() < 0.1), "{last:?}");
    }

    #[test]
    fn coarse_steps_have_at_least_eight_slots() {
        assert_eq!(Seasonal::new(DAY, 1800, 60).profile.len(), 48);
        assert_eq!(Seasonal::new(DAY, 1800, 3600).profile.len(), 24);
        assert_eq!(Seasonal::new(DAY, 1800, 10 * DAY).profile.len(), 8);
        assert_eq!(Seasonal::new(7 * DAY, 3600, 60).heap_bytes(), 168 * 5);
    }
}
