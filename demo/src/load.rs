//! The generated web load: a time in, requests per second out. Pure and seeded: the same time gives the same load.
//!
//! The load of a shop, measured from the start of the demonstration so that something is about to happen whenever that is:
//!
//! - base: 60 requests/s;
//! - day: ± 35 %, highest six hours after the time of day at which the demonstration starts;
//! - week: two days of each seven are 30 % quieter;
//! - rush: each day at the demonstration's time of day, a campaign starts: within some minutes 2.2 times the load, for 40
//!   minutes or as long as asked. Yesterday's rush is in the history, so a forecast can know of today's; a threshold cannot;
//! - noise: ± 4 %, correlated over about a minute;
//! - bursts: about one in eight hours, 20 to 60 % for three to eight minutes, that no forecast can know.

/// Distance of back-filled samples in seconds; the load is constant within such a slot.
pub(crate) const SLOT_SECONDS: i64 = 15;

const DAY_SECONDS: f64 = 86_400.0;
const BASE: f64 = 60.0;
const DAY_SHARE: f64 = 0.35;
const QUIET_DAY: f64 = 0.7;
const RUSH: f64 = 1.2;
/// Middle of the rush's rise, after the start of the demonstration.
const RUSH_AT: f64 = 300.0;
/// Time in which most of the rise happens.
const RUSH_WIDTH: f64 = 60.0;
const NOISE: f64 = 0.04;
const BURST_EVERY_SECONDS: i64 = 8 * 3600;

/// The load and its counter.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// Start of the demonstration, Unix seconds, a multiple of the slot.
    start: i64,
    /// Length of the rush in seconds.
    rush: f64,
    /// First slot of the history.
    first: i64,
    /// Requests up to the end of each slot since the first one.
    totals: Vec<f64>,
    noise: f64,
}

impl Load {
    /// Returns the load with a history of `days` before `start` (Unix seconds); a rush lasts `rush` seconds.
    pub(crate) fn new(start: i64, days: i64, rush: f64) -> Self {
        let start = start.div_euclid(SLOT_SECONDS) * SLOT_SECONDS;
        let mut load = Self { start, rush, first: start - days * 86_400, totals: Vec::new(), noise: 0.0 };
        load.extend_to(start);
        load
    }

    /// Returns (Unix seconds, requests counted so far) of the history, ascending.
    pub(crate) fn history(&self) -> impl Iterator<Item = (i64, f64)> {
        let ends =
            self.totals.iter().enumerate().map(|(slot, total)| (self.first + (slot as i64 + 1) * SLOT_SECONDS, *total));
        ends.take_while(|(time, _)| *time <= self.start)
    }

    /// Returns the requests counted up to `now`.
    pub(crate) fn total(&mut self, now: f64) -> f64 {
        let slot = (now as i64 - self.first).div_euclid(SLOT_SECONDS).max(1);
        self.extend_to(self.first + (slot + 1) * SLOT_SECONDS);
        let before = self.totals[slot as usize - 1];
        let share = (now - (self.first + slot * SLOT_SECONDS) as f64) / SLOT_SECONDS as f64;
        before + share.clamp(0.0, 1.0) * (self.totals[slot as usize] - before)
    }

    fn extend_to(&mut self, time: i64) {
        while self.first + self.totals.len() as i64 * SLOT_SECONDS < time {
            let at = self.first + self.totals.len() as i64 * SLOT_SECONDS;
            self.noise = 0.75 * self.noise + 0.66 * (uniform(at) * 2.0 - 1.0) * NOISE * 1.7;
            let rate = (shape(at - self.start, self.rush) + burst(at)) * (1.0 + self.noise);
            let total = self.totals.last().copied().unwrap_or(0.0) + rate.max(0.0) * SLOT_SECONDS as f64;
            self.totals.push(total);
        }
    }
}

/// The part of the load that repeats: requests/s at `since` seconds after the start of the demonstration.
fn shape(since: i64, rush: f64) -> f64 {
    let day = since as f64 / DAY_SECONDS;
    let of_day = day.rem_euclid(1.0) * DAY_SECONDS;
    let wave = 1.0 + DAY_SHARE * ((of_day / DAY_SECONDS) * std::f64::consts::TAU).sin();
    let of_week = (day.floor() as i64).rem_euclid(7);
    let week = if of_week == 3 || of_week == 4 { QUIET_DAY } else { 1.0 };
    let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
    let rise = logistic((of_day - RUSH_AT) / (RUSH_WIDTH / 4.0));
    let fall = logistic((RUSH_AT + rush - of_day) / RUSH_WIDTH);
    BASE * wave * week * (1.0 + RUSH * rise * fall)
}

/// Bursts at random times, by the third of a day they fall into.
fn burst(at: i64) -> f64 {
    let window = at.div_euclid(BURST_EVERY_SECONDS);
    let begins = window * BURST_EVERY_SECONDS + (uniform(window) * BURST_EVERY_SECONDS as f64) as i64;
    let lasts = 180 + (uniform(window + 1_000_003) * 300.0) as i64;
    let height = 0.2 + 0.4 * uniform(window + 2_000_003);
    if (begins..begins + lasts).contains(&at) { BASE * height } else { 0.0 }
}

/// A number in [0, 1) that depends on the seed alone (SplitMix64).
fn uniform(seed: i64) -> f64 {
    let mut z = (seed as u64).wrapping_add(0x5EED).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_only_rises_and_goes_on_where_the_history_ends() {
        let mut load = Load::new(1_700_000_003, 2, 2400.0);
        let history: Vec<(i64, f64)> = load.history().collect();
        assert_eq!(history.len(), 2 * 5760);
        assert!(history.windows(2).all(|pair| pair[1].1 > pair[0].1 && pair[1].0 == pair[0].0 + SLOT_SECONDS));
        let (end, total) = history[history.len() - 1];
        assert!((load.total(end as f64) - total).abs() < 1e-6);
        let later = load.total(end as f64 + 20.0) - total;
        assert!((800.0..2500.0).contains(&later), "{later}");
        assert!(load.total(end as f64 + 21.0) > total + later);
    }

    #[test]
    fn the_rush_comes_each_day_at_the_same_time() {
        for day in [-1, 0, 1] {
            let at = |seconds: i64| shape(day * 86_400 + seconds, 240.0);
            assert!(at(450) > 1.9 * at(60), "day {day}: {} against {}", at(450), at(60));
            assert!(at(900) < 1.1 * at(60), "day {day}: {} against {}", at(900), at(60));
        }
    }

    #[test]
    fn the_seed_decides() {
        let at = |time: f64| Load::new(1_700_000_000, 1, 2400.0).total(time);
        assert_eq!(at(1_700_000_100.0).to_bits(), at(1_700_000_100.0).to_bits());
    }
}
