//! Additive Holt-Winters smoothing with a daily season and a damped trend, one update a tick.

use serde::{Deserialize, Serialize};

const LEVEL: f64 = 0.3;
const TREND: f64 = 0.02;
const SEASON: f64 = 0.2;
const DAMPING: f64 = 0.98;

/// The smoothed state of one series.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SeasonalSmoothing {
    level: f64,
    trend: f64,
    /// By tick of the day.
    season: Vec<f32>,
    /// Tick of the day of the last update; none before the first.
    at: Option<usize>,
}

impl SeasonalSmoothing {
    /// Returns an empty state for `ticks` ticks a day.
    pub fn new(ticks: usize) -> Self {
        Self { level: 0.0, trend: 0.0, season: vec![0.0; ticks], at: None }
    }

    /// Takes the value of a tick, counted since the epoch.
    pub fn add(&mut self, tick: i64, value: f64) {
        let place = self.place(tick);
        if self.at.is_none() {
            self.level = value;
        } else {
            let previous = self.level;
            let expected = self.level + DAMPING * self.trend;
            let season = f64::from(self.season[place]);
            self.level = expected + LEVEL * (value - season - expected);
            self.trend = TREND * (self.level - previous) + (1.0 - TREND) * DAMPING * self.trend;
            self.season[place] = (season + SEASON * (value - self.level - season)) as f32;
        }
        self.at = Some(place);
    }

    /// Passes over a tick without a value.
    pub fn skip(&mut self, tick: i64) {
        if self.at.is_some() {
            self.level += DAMPING * self.trend;
            self.trend *= DAMPING;
            self.at = Some(self.place(tick));
        }
    }

    /// Returns the highest forecast of the next `ticks` ticks; `None` before the first value.
    pub fn peak(&self, ticks: usize) -> Option<f64> {
        let at = self.at?;
        let (mut level, mut trend) = (self.level, self.trend);
        let mut highest = f64::NEG_INFINITY;
        for ahead in 1..=ticks {
            trend *= DAMPING;
            level += trend;
            highest = highest.max(level + f64::from(self.season[(at + ahead) % self.season.len()]));
        }
        Some(highest)
    }

    /// Returns the bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.season.capacity() * size_of::<f32>()
    }

    fn place(&self, tick: i64) -> usize {
        tick.rem_euclid(self.season.len() as i64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_a_daily_jump() {
        let mut smoothing = SeasonalSmoothing::new(24);
        let value = |tick: i64| if tick.rem_euclid(24) == 9 { 100.0 } else { 10.0 };
        for tick in 0..24 * 30 + 8 {
            smoothing.add(tick, value(tick));
        }
        assert!(smoothing.peak(1).unwrap() < 40.0, "the hour before the jump");
        assert!(smoothing.peak(2).unwrap() > 70.0, "the jump is in the window");
    }
}
