//! The points in time of a series, in absolute days and as phases of a period.

use crate::random::Random;

const DAY_SECONDS: f64 = 86_400.0;
const DAYS_A_WEEK: f64 = 7.0;
/// Of a week.
const MINUTES: usize = 7 * 24 * 60;
/// The first second at which a series may start (2020-01-01), and how many follow it: four years.
const EPOCH: i64 = 1_577_836_800;
const EPOCH_SECONDS: f64 = 4.0 * 365.25 * DAY_SECONDS;

/// Equidistant points in time, all multiples of the step since the epoch.
#[derive(Debug, Clone)]
pub(crate) struct Grid {
    /// Unix time of the first point, in seconds; a multiple of the step.
    pub(crate) start: i64,
    /// Seconds between points.
    pub(crate) step: i64,
    /// Local time of each point, in days since the local epoch; see [`Grid::new`].
    pub(crate) days: Vec<f64>,
}

impl Grid {
    /// Returns `length` points from a random time of a random day on. Local time is ahead of universal time by a random
    /// number of minutes up to a week: local midnights and weekends then fall anywhere in universal time, and nothing can
    /// be learnt from the calendar that would not hold in another country.
    pub(crate) fn new(random: &mut Random, step: i64, length: usize) -> Self {
        let start = (EPOCH + random.uniform(0.0, EPOCH_SECONDS) as i64).div_euclid(step) * step;
        let zone = 60 * random.whole(0, MINUTES) as i64;
        let days = (0..length as i64).map(|point| (start + zone + point * step) as f64 / DAY_SECONDS).collect();
        Self { start, step, days }
    }

    /// Returns the number of points.
    pub(crate) const fn len(&self) -> usize {
        self.days.len()
    }

    /// Returns how many points cover `seconds`, as a real number.
    pub(crate) fn points(&self, seconds: f64) -> f64 {
        seconds / self.step as f64
    }

    /// Returns at each point the phase, 0 to below 1, of something that happens `per_day` times a day.
    pub(crate) fn phases(&self, per_day: f64) -> Vec<f64> {
        self.days.iter().map(|day| fraction(day * per_day)).collect()
    }

    /// Returns at each point whether it lies in the last two days of its local week.
    pub(crate) fn weekend(&self) -> impl Iterator<Item = bool> {
        // Monday is the fourth day of the epoch's week, but the zone is random by up to a week: any will do.
        self.days.iter().map(|day| day - DAYS_A_WEEK * (day / DAYS_A_WEEK).floor() >= 5.0)
    }

    /// Returns a line through values drawn anew for each local midnight, at each point. `draw` is called in order of time.
    pub(crate) fn by_day(&self, mut draw: impl FnMut() -> f64) -> Vec<f64> {
        let (Some(first), Some(last)) = (self.days.first(), self.days.last()) else { return Vec::new() };
        let first = first.floor();
        let knots: Vec<f64> = (0..=(last.floor() - first) as usize + 1).map(|_| draw()).collect();
        self.days
            .iter()
            .map(|day| {
                let passed = day - first;
                let knot = passed as usize;
                knots[knot] + (knots[knot + 1] - knots[knot]) * fraction(passed)
            })
            .collect()
    }
}

/// Returns the part behind the point of a number, 0 to below 1, also of a negative one.
pub(crate) fn fraction(value: f64) -> f64 {
    let part = value - value.floor();
    // A negative number nearer to 0 than half a rounding step.
    if part < 1.0 { part } else { 0.0 }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A fortnight of minutes.
    pub(crate) fn fortnight(seed: u64) -> Grid {
        Grid::new(&mut Random::new(seed, 0), 60, 14 * 1440)
    }

    #[test]
    fn starts_lie_on_the_grid_at_any_time_of_day_and_week() {
        let mut hours = [0; 24];
        let mut weekdays = [0; 7];
        for seed in 0..2000 {
            let grid = Grid::new(&mut Random::new(seed, 0), 300, 2);
            assert_eq!(grid.start % 300, 0);
            hours[(grid.start.rem_euclid(86_400) / 3600) as usize] += 1;
            weekdays[(grid.start.div_euclid(86_400) % 7) as usize] += 1;
        }
        assert!(hours.iter().all(|count| *count > 40), "{hours:?}");
        assert!(weekdays.iter().all(|count| *count > 200), "{weekdays:?}");
    }

    #[test]
    fn phases_follow_the_absolute_clock() {
        let grid = fortnight(1);
        let phases = grid.phases(1.0);
        for (phase, point) in phases.iter().zip(0_i64..) {
            assert!((0.0..1.0).contains(phase));
            // A whole number of minutes lies between local and universal time.
            let minutes = phase * 1440.0 - ((grid.start + 60 * point) % 86_400) as f64 / 60.0;
            assert!((minutes - minutes.round()).abs() < 1e-6);
        }
        assert!((phases[0] - phases[1440]).abs() < 1e-9);
        assert!(grid.phases(24.0).iter().step_by(60).all(|phase| (phase - grid.phases(24.0)[0]).abs() < 1e-6));
    }

    #[test]
    fn two_days_in_seven_are_a_weekend_and_follow_each_other() {
        let grid = fortnight(2);
        let weekend: Vec<bool> = grid.weekend().collect();
        assert_eq!(weekend.iter().filter(|free| **free).count(), 4 * 1440);
        assert!(weekend[..7 * 1440] == weekend[7 * 1440..]);
        assert!(weekend.windows(2).filter(|pair| pair[0] != pair[1]).count() <= 4);
    }

    #[test]
    fn values_by_day_are_met_at_midnight_and_joined_by_lines() {
        let grid = fortnight(3);
        let mut day = 0.0;
        let line = grid.by_day(|| {
            day += 1.0;
            day * day
        });
        assert!(line.iter().all(|value| (1.0..=256.0).contains(value)));
        for (pair, days) in line.windows(2).zip(grid.days.windows(2)) {
            let slope = (pair[1] - pair[0]) * 1440.0;
            let knot = (days[1] - grid.days[0].floor()).floor() + 1.0;
            assert!(slope <= 2.0 * knot + 1.0 + 1e-3 && slope >= 2.0 * knot - 1.0 - 1e-3);
        }
    }
}
