//! What all policies of one comparison share: the load, what a replica serves, how long one takes to start.

use cloudpulse_forecast::series::Series;
use cloudpulse_policy::Replicas;
use cloudpulse_policy::forecast::replicas_for;

/// Time from one decision to the next, in seconds; the HPA's.
pub const SYNC_SECONDS: i64 = 15;
/// Time at the start that is replayed but not scored, in seconds: forecasts and windows must fill first.
pub const WARMUP_SECONDS: i64 = 86_400;

/// A load and what is fixed about the workload that carries it.
#[derive(Debug, Clone, Copy)]
pub struct Scenario<'a> {
    /// Load on the whole workload. The value of a grid point holds from its time until the next grid point, and can be
    /// seen from then on.
    pub series: &'a Series,
    /// Load that one replica serves within its objective; positive.
    pub replica_capacity: f64,
    /// Time from asking for a replica until it serves, in seconds; not negative.
    pub start_delay: i64,
    /// Fewest replicas of every policy.
    pub min_replicas: Replicas,
    /// Most replicas of every policy.
    pub max_replicas: Replicas,
    /// Time at the start that does not count, in seconds.
    pub warmup: i64,
}

impl Scenario<'_> {
    /// Returns the grid points from what is visible at a decision to the last one that its new replicas must be ready for:
    /// the start delay and one step, rounded up.
    pub fn lead_steps(&self) -> usize {
        steps_over(self.start_delay, self.series.step()) + 1
    }

    /// Returns the time after the last value ends, Unix seconds.
    pub fn end(&self) -> i64 {
        self.series.time(self.series.len())
    }

    /// Returns the first time that counts, a sync, Unix seconds.
    pub fn scored_from(&self) -> i64 {
        self.series.start() + self.warmup.max(0).div_euclid(SYNC_SECONDS) * SYNC_SECONDS
    }

    /// Returns the grid point in which `time` lies; `time` is not before the series.
    pub fn index_at(&self, time: i64) -> usize {
        usize::try_from((time - self.series.start()).div_euclid(self.series.step())).unwrap_or(0)
    }

    /// Returns the newest grid point that can be seen at `time`: the last one that has ended. `None` before the first.
    pub fn visible_at(&self, time: i64) -> Option<usize> {
        self.index_at(time).checked_sub(1)
    }

    /// Returns the highest load of the sync that begins at `time`; `None` where none is known.
    pub fn load_at(&self, time: i64) -> Option<f64> {
        let last = self.index_at(time + SYNC_SECONDS - 1).min(self.series.len().saturating_sub(1));
        (self.index_at(time)..=last).filter_map(|index| self.series.get(index)).reduce(f64::max)
    }

    /// Returns the fewest replicas that carry `load`.
    pub fn demand(&self, load: f64) -> Replicas {
        replicas_for(load, self.replica_capacity).unwrap_or(0)
    }

    /// Returns `replicas` within the bounds.
    pub fn bounded(&self, replicas: Replicas) -> Replicas {
        replicas.max(self.min_replicas).min(self.max_replicas)
    }
}

/// Returns how many steps cover `seconds`, rounded up; none for no time.
pub(crate) fn steps_over(seconds: i64, step: i64) -> usize {
    usize::try_from((seconds.max(0) + step - 1).div_euclid(step)).unwrap_or(0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One replica serves 10; replicas start in two minutes; everything counts.
    pub(crate) fn scenario(series: &Series) -> Scenario<'_> {
        Scenario { series, replica_capacity: 10.0, start_delay: 120, min_replicas: 1, max_replicas: 100, warmup: 0 }
    }

    #[test]
    fn a_value_is_visible_once_it_has_ended() {
        let series = Series::new(600, 60, vec![1.0, 2.0, 3.0]).unwrap();
        let scenario = scenario(&series);
        assert_eq!((scenario.visible_at(600), scenario.visible_at(659)), (None, None));
        assert_eq!((scenario.visible_at(660), scenario.visible_at(735)), (Some(0), Some(1)));
        assert_eq!(scenario.load_at(675), Some(2.0));
        assert_eq!((scenario.end(), scenario.lead_steps()), (780, 3));
    }

    #[test]
    fn the_lead_covers_the_start_and_the_value_that_is_not_visible_yet() {
        let series = Series::new(0, 300, vec![1.0; 3]).unwrap();
        for (delay, steps) in [(0, 1), (120, 2), (300, 2), (301, 3)] {
            assert_eq!(Scenario { start_delay: delay, ..scenario(&series) }.lead_steps(), steps, "{delay}");
        }
    }

    #[test]
    fn a_step_below_the_sync_counts_with_its_highest_value() {
        let series = Series::new(0, 5, vec![1.0, f64::NAN, 30.0, 4.0]).unwrap();
        let scenario = scenario(&series);
        assert_eq!((scenario.load_at(0), scenario.load_at(15)), (Some(30.0), Some(4.0)));
        let gap = Series::new(0, 60, vec![1.0, f64::NAN]).unwrap();
        assert_eq!(super::tests::scenario(&gap).load_at(60), None);
    }
}
