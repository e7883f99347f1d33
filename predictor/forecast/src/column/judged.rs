//! Who was better over the last day: errors of forecasts of the same targets in; weights and demotion out.

use serde::{Deserialize, Serialize};

/// Resolved forecasts before the combination can be demoted: a day of them.
const MIN_JUDGED: u32 = 288;
const JUDGE_RATE: f64 = 1.0 / 288.0;
/// It is demoted above the first ratio of its error to the better baseline's, and taken back below the second.
const DEMOTE: f64 = 1.05;
const RECOVER: f64 = 1.0;
/// How sharply the network and the combination are told apart by their errors.
const SHARPNESS: f64 = 10.0;

/// An error counts for this many usual ones at most, once the usual is known of so many.
const MOST_USUAL: f64 = 8.0;
const LEAST_USUAL: u32 = 36;

/// Mean absolute errors over about a day.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Rivals {
    combination: f64,
    network: f64,
    count: u32,
}

/// Mean absolute errors of the combination and of the baselines, over about a day.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Judged {
    combination: f64,
    pub(super) persistence: f64,
    pub(super) seasonal: f64,
    count: u32,
    pub(super) demoted: bool,
}

impl Rivals {
    /// Learns the errors of two forecasts of one target. Where both are far beyond the usual, as when a counter starts anew, they
    /// count by their ratio, and no more than [`MOST_USUAL`]: one such moment says little of the day.
    pub(super) fn add(&mut self, combination: f64, network: f64) {
        self.count = self.count.saturating_add(1);
        let rate = JUDGE_RATE.max(1.0 / f64::from(self.count));
        let (most, worse) = (MOST_USUAL * self.combination.max(self.network), combination.max(network));
        let share = if self.count > LEAST_USUAL && most > 0.0 && worse > most { most / worse } else { 1.0 };
        self.combination += rate * (share * combination - self.combination);
        self.network += rate * (share * network - self.network);
    }

    /// Returns what the network counts, from 0 to 1.
    pub(super) fn network_weight(&self) -> f64 {
        if self.network <= 0.0 || self.combination <= 0.0 {
            // Who is never wrong is right; of two such, and of two that nothing is known of, each counts.
            return match (self.combination > 0.0, self.network > 0.0) {
                (true, _) => 1.0,
                (_, true) => 0.0,
                _ => 0.5,
            };
        }
        1.0 / (1.0 + (self.network / self.combination).powf(SHARPNESS))
    }
}

impl Judged {
    /// Learns the errors of three forecasts of one target; NaN where a baseline said nothing.
    pub(super) fn add(&mut self, combination: f64, persistence: f64, seasonal: f64) {
        // A day is compared on the same targets only.
        if !persistence.is_finite() {
            return;
        }
        self.count = self.count.saturating_add(1);
        let rate = JUDGE_RATE.max(1.0 / f64::from(self.count));
        self.combination += rate * (combination - self.combination);
        self.persistence += rate * (persistence - self.persistence);
        // Unknown for the first day: the better of two is then the other. A gap a day ago says nothing later.
        if self.count == 1 {
            self.seasonal = f64::INFINITY;
        }
        if seasonal.is_finite() {
            self.seasonal = if self.seasonal.is_finite() {
                self.seasonal + rate * (seasonal - self.seasonal)
            } else {
                self.persistence.max(seasonal)
            };
        }
        let better = self.persistence.min(self.seasonal);
        if self.demoted {
            self.demoted = self.combination > RECOVER * better;
        } else {
            self.demoted = self.count >= MIN_JUDGED && self.combination > DEMOTE * better;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wild_moment_does_not_hide_who_is_better() {
        let mut rivals = Rivals::default();
        for _ in 0..100 {
            rivals.add(1.0, 3.0);
        }
        rivals.add(1e9, 1e9);
        assert!(rivals.network_weight() < 0.01, "{rivals:?}");
        for _ in 0..288 {
            rivals.add(30.0, 10.0);
        }
        assert!(rivals.network_weight() > 0.95, "another usual is learnt: {rivals:?}");
    }
}
