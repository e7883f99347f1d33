//! The score of the Numenta Anomaly Benchmark, version 1.1, from its published definition (Lavin and Ahmad, "Evaluating
//! Real-time Anomaly Detection Algorithms", 2015): labelled series and flagged rows in, a score out. 100 is an alarm at
//! the start of each window and none elsewhere, 0 is no alarm at all.

use super::labelled::Labelled;

/// What hits, false alarms and misses weigh.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Profile {
    hit: f64,
    false_alarm: f64,
    miss: f64,
}

/// The three profiles of the benchmark: standard, few false alarms, few misses.
pub(crate) const PROFILES: [Profile; 3] = [
    Profile { hit: 1.0, false_alarm: 0.11, miss: 1.0 },
    Profile { hit: 1.0, false_alarm: 0.22, miss: 1.0 },
    Profile { hit: 1.0, false_alarm: 0.11, miss: 2.0 },
];

/// The first rows of a file are not scored: this share, but of at most this many rows.
const PROBATION_SHARE: f64 = 0.15;
const PROBATION_ROWS: f64 = 5000.0;

/// Sums over files.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Nab {
    raw: f64,
    /// Windows with scored rows.
    pub(crate) windows: usize,
    /// Windows with a flagged row.
    pub(crate) hit: usize,
    /// Flagged rows outside all windows.
    pub(crate) false_rows: usize,
}

impl Nab {
    /// Adds a file; `flagged` has one entry a row.
    pub(crate) fn add(&mut self, file: &Labelled, flagged: &[bool], profile: Profile) {
        let rows = file.rows.len();
        let probation = (PROBATION_SHARE * rows as f64).floor().min(PROBATION_SHARE * PROBATION_ROWS);
        let is_scored = |row: usize| row as f64 >= probation;
        let windows = file.window_rows();
        // Best hit of each window that has scored rows.
        let mut hits: Vec<Option<f64>> = vec![None; windows.len()];
        let mut next = 0;
        for (row, is_flagged) in flagged.iter().enumerate() {
            while windows.get(next).is_some_and(|(_, last)| row > *last) {
                next += 1;
            }
            if !is_flagged || !is_scored(row) {
                continue;
            }
            match windows.get(next) {
                Some((first, last)) if row >= *first => {
                    let width = (last - first + 1) as f64;
                    let weight = sigmoid(-((last - row + 1) as f64) / width) / sigmoid(-1.0);
                    let best = hits[next].get_or_insert(f64::NEG_INFINITY);
                    *best = best.max(weight);
                }
                _ => {
                    let after = next.checked_sub(1).and_then(|previous| windows.get(previous));
                    let weight =
                        after.map_or(-1.0, |(first, last)| sigmoid((row - last) as f64 / (last - first) as f64));
                    self.raw += profile.false_alarm * weight;
                    self.false_rows += 1;
                }
            }
        }
        for ((_, last), hit) in windows.iter().zip(hits) {
            if !is_scored(*last) {
                continue;
            }
            self.windows += 1;
            match hit {
                Some(weight) => {
                    self.raw += profile.hit * weight;
                    self.hit += 1;
                }
                None => self.raw -= profile.miss,
            }
        }
    }

    /// Adds sums of other files.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.raw += other.raw;
        self.windows += other.windows;
        self.hit += other.hit;
        self.false_rows += other.false_rows;
    }

    /// Returns the normalised score; NaN without a window.
    pub(crate) fn score(&self, profile: Profile) -> f64 {
        let windows = self.windows as f64;
        let (none, all) = (-profile.miss * windows, profile.hit * windows);
        100.0 * (self.raw - none) / (all - none)
    }
}

/// Weight of an alarm by its place: -1 is the left edge of the window, 0 the right one, above 0 behind it.
fn sigmoid(place: f64) -> f64 {
    if place > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * place).exp()) - 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(windows: &[(i64, i64)]) -> Labelled {
        let rows = (0..1000).map(|i| (60 * i, 0.0)).collect();
        let windows = windows.iter().map(|(first, last)| (60 * first, 60 * last)).collect();
        Labelled { name: String::new(), rows, step: 60, windows, ignored: Vec::new(), scored_from: 0 }
    }

    fn score(windows: &[(i64, i64)], alarms: &[usize]) -> [f64; 3] {
        let file = file(windows);
        let flagged: Vec<bool> = (0..1000).map(|row| alarms.contains(&row)).collect();
        PROFILES.map(|profile| {
            let mut nab = Nab::default();
            nab.add(&file, &flagged, profile);
            nab.score(profile)
        })
    }

    fn close(got: [f64; 3], wanted: [f64; 3]) {
        for (got, wanted) in got.iter().zip(wanted) {
            assert!((got - wanted).abs() < 1e-6, "{got} is not {wanted}");
        }
    }

    #[test]
    fn extremes() {
        close(score(&[(300, 400), (600, 700)], &[]), [0.0; 3]);
        close(score(&[(300, 400), (600, 700)], &[300, 600]), [100.0; 3]);
        close(score(&[(300, 400), (600, 700)], &[300, 350, 400, 600]), [100.0; 3]);
    }

    #[test]
    fn false_alarms_cost_the_more_the_further_they_are_from_the_window_before() {
        // Before any window the full weight: 0.11 and 0.22 of the one window's worth, which spans from -1 or -2 to 1.
        close(score(&[(300, 400)], &[200, 300]), [100.0 - 5.5, 100.0 - 11.0, 100.0 - 11.0 / 3.0]);
        let close_by = score(&[(300, 400)], &[300, 402])[0];
        let far = score(&[(300, 400)], &[300, 480])[0];
        assert!(close_by > far && far > 94.5, "{close_by} {far}");
        close(score(&[(300, 400)], &[300, 900]), score(&[(300, 400)], &[200, 300]));
    }

    #[test]
    fn the_first_rows_are_not_scored() {
        assert!(score(&[(50, 100)], &[60])[0].is_nan());
        close(score(&[(50, 100), (300, 400)], &[60, 149, 300]), [100.0; 3]);
    }
}
