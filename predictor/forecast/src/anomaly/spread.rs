//! Values in, row by row; how much the last dozen vary out.

use serde::{Deserialize, Serialize};

/// Values that are remembered: an hour at five minutes.
const VALUES: usize = 12;
/// Least rate of the mean standard deviation, per row.
const MEAN_RATE: f64 = 5e-4;
/// The logarithm starts at this share of the mean standard deviation, lest rounding looks like a change.
const FLOOR: f64 = 0.02;
/// A dozen values usually range over this many standard deviations (3.26 of normal ones; Tippett, 1925).
const RANGE_PER_DEVIATION: f64 = 3.0;

/// The last dozen values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Spread {
    values: [f32; VALUES],
    /// Place that the next value takes.
    next: u8,
    rows: u32,
    mean_deviation: f32,
}

impl Spread {
    pub(super) const fn new() -> Self {
        Self { values: [0.0; VALUES], next: 0, rows: 0, mean_deviation: 0.0 }
    }

    /// Takes a value in and returns the logarithm of the last dozen's standard deviation; `None` until there are a dozen.
    pub(super) fn push(&mut self, value: f64) -> Option<f64> {
        if let Some(place) = self.values.get_mut(usize::from(self.next)) {
            *place = value as f32;
        }
        self.next = (self.next + 1) % VALUES as u8;
        self.rows = self.rows.saturating_add(1);
        let judged = (self.rows as usize + 1).checked_sub(VALUES).filter(|judged| *judged > 0)?;
        let values = || self.values.iter().copied().map(f64::from);
        let mean = values().sum::<f64>() / VALUES as f64;
        let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / (VALUES - 1) as f64;
        let (deviation, usual) = (variance.sqrt(), f64::from(self.mean_deviation));
        self.mean_deviation = (usual + (1.0 / judged as f64).max(MEAN_RATE) * (deviation - usual)) as f32;
        Some((deviation + FLOOR * usual + 1e-12).ln())
    }

    /// Returns the distance of the largest and the least of the last dozen values.
    pub(super) fn range(&self) -> f64 {
        let known = &self.values[..VALUES.min(self.rows as usize)];
        let largest = known.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let least = known.iter().copied().fold(f32::INFINITY, f32::min);
        f64::from(largest) - f64::from(least)
    }

    /// Returns the distance of the largest and the least of a dozen values as it usually is.
    pub(super) fn usual_range(&self) -> f64 {
        RANGE_PER_DEVIATION * f64::from(self.mean_deviation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_from_the_twelfth_value_on() {
        let mut spread = Spread::new();
        for row in 0..11 {
            assert_eq!(spread.push(f64::from(row)), None);
        }
        assert_eq!(spread.range(), 10.0);
        let first = spread.push(11.0).unwrap();
        assert!((first - 13.0_f64.sqrt().ln()).abs() < 1e-6, "{first}");
        assert_eq!(spread.range(), 11.0);
        for _ in 0..12 {
            spread.push(5.0);
        }
        assert_eq!(spread.range(), 0.0);
        assert!(spread.usual_range() > 0.0);
    }
}
