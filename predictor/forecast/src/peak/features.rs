//! What is known at an origin that bears on the peak after it: 26 numbers, in the unit of the series.

use serde::{Deserialize, Serialize};

use crate::history::History;
use crate::series::steps;

/// Number of features.
pub(super) const FEATURES: usize = 26;

/// The features of one origin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Features {
    /// Unknown ones are 0.
    pub(super) values: [f64; FEATURES],
    /// Mean of the last ten minutes, from which most features and the target are measured.
    pub(super) base: f64,
}

/// Windows in steps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Windows {
    step: i64,
    horizon: i64,
    m3: i64,
    m10: i64,
    m15: i64,
    m30: i64,
    hour: i64,
    day: i64,
}

impl Windows {
    pub(super) fn new(step: i64, horizon: usize) -> Self {
        let minutes = |count: i64| steps(count * 60, step) as i64;
        Self {
            step,
            horizon: horizon as i64,
            m3: minutes(3),
            m10: minutes(10),
            m15: minutes(15),
            m30: minutes(30),
            hour: minutes(60),
            day: minutes(1440),
        }
    }

    pub(super) const fn tick_seconds(&self, tick: i64) -> i64 {
        tick * self.step
    }

    /// Returns the features at the newest grid point; `None` before any value is known. `smoothed` is the peak that
    /// seasonal smoothing expects, `mean` the mean of all that was seen.
    pub(super) fn features(&self, history: &History, smoothed: Option<f64>, mean: f64) -> Option<Features> {
        let now = history.now()?;
        let last = history.last();
        if !last.is_finite() {
            return None;
        }
        let past = |width: i64| history.filled(now + 1 - width, now);
        // The window (from, from + width], never beyond now; unknown before the history.
        let ahead_of = |back: i64, width: i64| history.highest(now - back + 1, (now - back + width).min(now));
        let base = mean_of(past(self.m10));
        if !base.is_finite() {
            return None;
        }
        let (mean30, mean60) = (mean_of(past(self.m30)), mean_of(past(self.hour)));
        let (max10, max30) = (highest(past(self.m10)), highest(past(self.m30)));
        let yesterday = ahead_of(self.day, self.horizon);
        let yesterday10 = ahead_of(self.day, self.m10);
        let yesterday30 = ahead_of(self.day, self.m30);
        let two_days10 = ahead_of(2 * self.day, self.m10);
        let week10 = ahead_of(7 * self.day, self.m10);
        let ago1 = ahead_of(self.hour, self.horizon);
        let ago2 = ahead_of(2 * self.hour, self.horizon);
        let ago3 = ahead_of(3 * self.hour, self.horizon);
        let then = now - self.day;
        let yesterday_base = mean_of(history.filled(then + 1 - self.m10, then));
        let from = now + self.horizon - self.day - self.m15;
        let yesterday_sd =
            if from >= history.first() { deviation(history.filled(from, (from + self.m30 - 1).min(now))) } else { 0.0 };
        let hinge = |a: Option<f64>, b: f64| a.map_or(0.0, |a| (a - b).max(0.0));
        let both = |a: Option<f64>, b: Option<f64>| Some(a?.min(b?));
        let values = [
            last - base,
            mean30 - base,
            mean60 - base,
            max30 - base,
            max10 - base,
            smoothed.map_or(0.0, |peak| peak - base),
            deviation(past(self.m10)),
            deviation(past(self.hour)),
            yesterday_sd,
            base,
            mean,
            hinge(yesterday, base),
            hinge(yesterday10, base),
            hinge(yesterday30, base),
            hinge(two_days10, base),
            hinge(week10, base),
            hinge(both(yesterday10, two_days10), base),
            hinge(ago1, base),
            hinge(both(ago1, ago2), base),
            hinge(both(both(ago1, ago2), ago3), base),
            hinge(Some(base), mean60),
            hinge(yesterday, max30),
            if yesterday_base.is_finite() { hinge(yesterday10, yesterday_base) } else { 0.0 },
            hinge(Some(last), 0.95 * max30),
            hinge(Some(mean_of(past(self.m3))), mean_of(past(self.m15))),
            hinge(Some(base), last),
        ];
        Some(Features { values: values.map(|v| if v.is_finite() { v } else { 0.0 }), base })
    }
}

/// Mean of the known values; NaN without any.
fn mean_of(window: &[f64]) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in window {
        if value.is_finite() {
            sum += value;
            count += 1.0;
        }
    }
    sum / count
}

/// Largest known value; −∞ without any.
fn highest(window: &[f64]) -> f64 {
    window.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// Standard deviation of the known values; 0 for fewer than two.
fn deviation(window: &[f64]) -> f64 {
    let mean = mean_of(window);
    let (mut sum, mut count) = (0.0, 0.0);
    for value in window {
        if value.is_finite() {
            sum += (value - mean) * (value - mean);
            count += 1.0;
        }
    }
    if count < 2.0 { 0.0 } else { f64::sqrt(sum / (count - 1.0)) }
}
