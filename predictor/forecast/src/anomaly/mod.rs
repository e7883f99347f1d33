//! One series in, row by row; how unusual each row is out: a score, what was expected, the cause, and an alarm.
//!
//! Five statistics are each judged against their own tail (`tail`), from earlier rows alone:
//!
//! - the deviation from a slow level and the usual course of the day, and of the week (`seasonal`);
//! - the first of these smoothed: drifts and level shifts too small to stand out in one row;
//! - the spread of the last dozen values (`spread`): more volatile than usual, or flat-lined;
//! - the deviation from a fast level: spikes inside a wide daily range.
//!
//! The largest, weighted, is the score. Slow expectations are the point: a one-step forecast follows a level shift and
//! loses it. [`Alarms`] makes one alarm of an event. [`outlier`] compares the series of a group with each other.

mod alarm;
pub mod outlier;
mod seasonal;
mod spread;
mod tail;

use serde::{Deserialize, Serialize};

pub use alarm::{Alarms, QUIET_ROWS};
use seasonal::{Deviation, Seasonal};
use spread::Spread;
use tail::{Context, Exceedance, Tail};

/// Exceedance that makes a score of 1, before its weight: a tail probability of 0.02 · exp(-3.5) = 6e-4.
const EXCEEDANCE_AT_ONE: f64 = 3.5;
/// Least rate of mean and deviation of the values, per row.
const MEAN_RATE: f64 = 5e-4;
/// Values before any is clipped, and mean absolute deviations up to which they then count.
const UNCLIPPED: u32 = 50;
const CLIP: f64 = 8.0;
/// A mean excess counts as at least this share of the values' mean absolute deviation, or of [`LEAST_SHARE`] of their
/// mean: a series' own way to say what is small.
const LEAST_EXCESS: f64 = 0.2;
/// Differences below this share of the mean are small, whatever the series usually does.
const LEAST_SHARE: f64 = 0.01;
/// Rate of the smoothed deviation, per row, and how its deviations are clipped.
const SMOOTH_RATE: f64 = 0.1;
const SMOOTH_UNCLIPPED: u32 = 20;
const SMOOTH_CLIP: f64 = 6.0;
/// Rate of the fast level, per row.
const FAST_RATE: f64 = 0.2;
/// A series that repeats its last value in more than this share of rows is held.
const HELD_SHARE: f32 = 0.8;
/// Scores end here: more says nothing more, and a constant that jumps would reach any number.
const MOST: f64 = 1000.0;
/// Values beyond this are gaps: in single precision their squares would not be finite.
const LARGEST: f64 = 1e30;

/// What counts as an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Score from which a row raises an alarm, above 0.
    pub threshold: f64,
    /// Deviations and ranges below this never count, in the unit of the series, at least 0. One per cent of the mean's size
    /// is the least in any case.
    pub min_deviation: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { threshold: 1.0, min_deviation: 0.0 }
    }
}

/// Which statistic made the score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// None: the score is 0.
    None,
    /// Deviation from the usual course of the day; on the first day, from the first value.
    SeasonalDay,
    /// Deviation from the usual course of the week.
    SeasonalWeek,
    /// Small deviations from the usual course of the day that last.
    Smoothed,
    /// The last dozen values vary much more, or much less, than usual.
    Spread,
    /// A jump from the values just before.
    Fast,
}

impl Cause {
    /// Returns the word in tables, files and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SeasonalDay => "seasonal_day",
            Self::SeasonalWeek => "seasonal_week",
            Self::Smoothed => "smoothed",
            Self::Spread => "spread",
            Self::Fast => "fast",
        }
    }
}

/// What is said of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// How unusual the row is, 0 to 1000; above 1 is anomalous. Also 0 while too little is known, see
    /// [`Detector::is_ready`].
    pub score: f64,
    /// Value that earlier rows let expect, in the unit of the series; `None` for the first row.
    pub expected: Option<f64>,
    /// Which statistic made the score.
    pub cause: Cause,
    /// Whether the row raises an alarm; one event raises one alarm.
    pub alarm: bool,
}

/// The streaming detector of one series. Holds 1.5 kB, and up to 0.7 kB more until each statistic has
/// its first 40 values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    options: Options,
    /// First value. All others are kept relative to it: single precision then holds what varies.
    base: f64,
    rows: u32,
    mean: f32,
    deviation: f32,
    last: f32,
    held_share: f32,
    day: Seasonal,
    week: Seasonal,
    is_day_known: bool,
    smoothed: Smoothed,
    fast_level: f32,
    spread: Spread,
    tails: Tails,
    alarms: Alarms,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Tails {
    day: Tail,
    week: Tail,
    smoothed: Tail,
    spread: Tail,
    fast: Tail,
}

/// The largest weighted exceedance so far.
#[derive(Debug, Clone, Copy)]
struct Best {
    score: f64,
    cause: Cause,
    is_below: bool,
}

impl Best {
    fn take(&mut self, found: Option<Exceedance>, weight: f64, cause: Cause) {
        if let Some(Exceedance { ratio, is_below }) = found
            && weight * ratio / EXCEEDANCE_AT_ONE > self.score
        {
            *self = Self { score: (weight * ratio / EXCEEDANCE_AT_ONE).min(MOST), cause, is_below };
        }
    }
}

impl Detector {
    /// Returns a detector that knows nothing yet, for rows about `step_seconds` apart (less than 1 counts as 1).
    pub fn new(step_seconds: i64, options: Options) -> Self {
        let step = step_seconds.max(1);
        Self {
            options,
            base: 0.0,
            rows: 0,
            mean: 0.0,
            deviation: 0.0,
            last: 0.0,
            held_share: 0.0,
            day: Seasonal::new(86_400, 1800, step),
            week: Seasonal::new(7 * 86_400, 3600, step),
            is_day_known: false,
            smoothed: Smoothed::default(),
            fast_level: 0.0,
            spread: Spread::new(),
            tails: Tails::default(),
            alarms: Alarms::default(),
        }
    }

    /// Changes what counts as an alarm; what was learned stays.
    pub const fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// Returns whether enough is known to judge a row: 41 values.
    pub const fn is_ready(&self) -> bool {
        self.tails.fast.is_known()
    }

    /// Returns the bytes held, itself and its heap.
    pub fn memory_bytes(&self) -> usize {
        let Tails { day, week, smoothed, spread, fast } = &self.tails;
        let tails: usize = [day, week, smoothed, spread, fast].into_iter().map(Tail::heap_bytes).sum();
        size_of::<Self>() + self.day.heap_bytes() + self.week.heap_bytes() + tails
    }

    /// Judges a row by earlier rows alone, then learns it. Rows come in ascending time (Unix seconds); those of equal time
    /// are judged one by one. A value that is not finite, or beyond ±1e30, is a gap: `None`, and nothing is learned.
    pub fn push(&mut self, time_seconds: i64, value: f64) -> Option<Verdict> {
        if value.is_nan() || value.abs() > LARGEST {
            return None;
        }
        let is_first = self.rows == 0;
        if is_first {
            self.base = value;
        }
        let value = value - self.base;
        self.rows = self.rows.saturating_add(1);
        let context = self.learn_scale(value);
        let fast = value - f64::from(self.fast_level);
        let mut best = Best { score: 0.0, cause: Cause::None, is_below: false };

        let of_day = self.day.push(time_seconds, value, context.least_excess);
        if matches!(of_day, Deviation::Seasonal(_)) && !self.is_day_known {
            // From here on the deviations are other ones: from the course of the day, no longer from the first value.
            self.is_day_known = true;
            self.tails.day = Tail::default();
            self.tails.smoothed = Tail::default();
            self.smoothed = Smoothed::default();
        }
        let (Deviation::Seasonal(deviation) | Deviation::Level(deviation)) = of_day;
        let smoothed = self.smoothed.push(deviation, context.least_excess);
        best.take(self.tails.day.push(deviation, context), 1.0, Cause::SeasonalDay);
        best.take(self.tails.smoothed.push(smoothed, context), 1.4, Cause::Smoothed);

        let of_week = self.week.push(time_seconds, value, context.least_excess);
        if let Deviation::Seasonal(deviation) = of_week {
            best.take(self.tails.week.push(deviation, context), 0.8, Cause::SeasonalWeek);
        }
        self.fast_level += (FAST_RATE.max(1.0 / f64::from(self.rows)) * fast) as f32;
        if !is_first {
            best.take(self.tails.fast.push(fast, context), 0.7, Cause::Fast);
        }
        if let Some(spread) = self.spread.push(value) {
            let found = self.tails.spread.push(spread, Context { least_excess: 0.0, ..context });
            best.take(found, 0.5, Cause::Spread);
        }

        let unexpected = match (of_day, of_week) {
            (Deviation::Seasonal(_), Deviation::Seasonal(of_week)) if self.week.error() < self.day.error() => of_week,
            (Deviation::Seasonal(of_day), _) => of_day,
            (Deviation::Level(_), _) => fast,
        };
        if self.is_negligible(unexpected, best) {
            best = Best { score: 0.0, cause: Cause::None, is_below: false };
        }
        Some(Verdict {
            score: best.score,
            expected: (!is_first).then_some(self.base + value - unexpected),
            cause: best.cause,
            alarm: self.alarms.push(best.score, self.options.threshold),
        })
    }

    /// Learns how large values and their differences are; returns what that meant before this value.
    fn learn_scale(&mut self, value: f64) -> Context {
        let (mean, deviation) = (f64::from(self.mean), f64::from(self.deviation));
        let least_excess = LEAST_EXCESS * deviation.max(LEAST_SHARE * (self.base + mean).abs());
        let rate = (1.0 / f64::from(self.rows)).max(MEAN_RATE);
        let distance = value - mean;
        let is_clipped = self.rows > UNCLIPPED && deviation > 0.0;
        let size = if is_clipped { distance.abs().min(CLIP * deviation) } else { distance.abs() };
        self.mean = (mean + rate * distance) as f32;
        self.deviation = (deviation + rate * (size - deviation)) as f32;
        let is_repeat = self.rows > 1 && value as f32 == self.last;
        self.held_share += rate as f32 * (f32::from(u8::from(is_repeat)) - self.held_share);
        self.last = value as f32;
        Context { least_excess, is_held: self.held_share > HELD_SHARE }
    }

    /// Returns whether a row is too close to what was expected to be called unusual, however quiet the series is; unless it
    /// has gone flat where it used to vary by more.
    fn is_negligible(&self, unexpected: f64, best: Best) -> bool {
        let mean = self.base + f64::from(self.mean);
        let least = self.options.min_deviation.max(LEAST_SHARE * mean.abs());
        let has_gone_flat = best.cause == Cause::Spread && best.is_below && self.spread.usual_range() > least;
        unexpected.abs() <= least && self.spread.range() <= least && !has_gone_flat
    }
}

/// A moving average of deviations in which one wild row counts little.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Smoothed {
    average: f32,
    /// Mean absolute deviation.
    size: f32,
    rows: u32,
}

impl Smoothed {
    /// Returns the average with `deviation`, clipped; `small` as in [`Seasonal::push`].
    fn push(&mut self, deviation: f64, small: f64) -> f64 {
        self.rows = self.rows.saturating_add(1);
        let (average, size) = (f64::from(self.average), f64::from(self.size));
        let reach = if self.rows > SMOOTH_UNCLIPPED { SMOOTH_CLIP * size.max(small) } else { f64::INFINITY };
        let rate = (1.0 / f64::from(self.rows)).max(MEAN_RATE);
        let counted = deviation.abs().min(reach);
        let average = average + SMOOTH_RATE * (deviation.clamp(-reach, reach) - average);
        self.size = (size + rate * (counted - size)) as f32;
        self.average = average as f32;
        average
    }
}
