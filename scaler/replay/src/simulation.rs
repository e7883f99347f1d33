//! A scenario and a controller in; one row a sync out.

use cloudpulse_policy::Replicas;

use crate::fleet::Fleet;
use crate::scenario::SYNC_SECONDS;
use crate::scenario::Scenario;
use crate::timeline::Row;
use crate::timeline::Totals;

/// What a policy knows when it decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sync {
    /// Unix seconds.
    pub now: i64,
    /// The newest grid point of the load that has ended; `None` before the first has. A controller reads none after it.
    pub visible: Option<usize>,
    /// Replicas that there are, those that are starting too.
    pub current: Replicas,
}

/// A policy at work: it remembers what it needs.
pub trait Controller {
    /// Returns the replicas that there should be. Called once a sync, in order.
    fn desired(&mut self, sync: Sync) -> Replicas;
}

/// Replays the load: at each sync what has started serves, the policy decides, replicas are started and stopped, and what
/// then holds until the next sync is handed to `each`. Rows of the warm-up are not. Returns the totals of the rows.
///
/// The fleet begins with the fewest replicas. A replica that is taken away is gone at once.
pub fn simulate(scenario: &Scenario<'_>, controller: &mut dyn Controller, mut each: impl FnMut(&Row)) -> Totals {
    let mut fleet = Fleet::new(scenario.min_replicas, scenario.start_delay);
    let mut totals = Totals::default();
    let scored_from = scenario.scored_from();
    let mut now = scenario.series.start();
    while now < scenario.end() {
        fleet.advance(now);
        let desired = controller.desired(Sync { now, visible: scenario.visible_at(now), current: fleet.allocated() });
        fleet.scale_to(desired, now);
        if now >= scored_from {
            let load = scenario.load_at(now);
            let row = Row {
                timestamp: now,
                load,
                demand: load.map(|load| scenario.demand(load)),
                ready: fleet.ready(),
                allocated: fleet.allocated(),
                desired,
            };
            totals.add(&row);
            each(&row);
        }
        now += SYNC_SECONDS;
    }
    totals
}

/// Returns all rows of a replay, the warm-up left out.
pub fn timeline(scenario: &Scenario<'_>, controller: &mut dyn Controller) -> Vec<Row> {
    let mut rows = Vec::new();
    simulate(scenario, controller, |row| rows.push(*row));
    rows
}

#[cfg(test)]
mod tests {
    use cloudpulse_forecast::series::Series;

    use super::*;
    use crate::scenario::tests::scenario;

    /// Asks for what the last visible value needs.
    struct Follow<'a>(&'a Series);

    impl Controller for Follow<'_> {
        fn desired(&mut self, sync: Sync) -> Replicas {
            sync.visible.and_then(|index| self.0.get(index)).map_or(sync.current, |load| (load / 10.0) as Replicas)
        }
    }

    #[test]
    fn a_jump_is_short_for_the_step_and_the_start() {
        // From 10 to 30 at minute 2: seen at minute 3, served at minute 5.
        let series = Series::new(0, 60, vec![10.0, 10.0, 30.0, 30.0, 30.0, 30.0, 30.0]).unwrap();
        let rows = timeline(&scenario(&series), &mut Follow(&series));
        assert_eq!(rows.len(), 7 * 4);
        let ready: Vec<Replicas> = rows.iter().step_by(4).map(|row| row.ready).collect();
        let allocated: Vec<Replicas> = rows.iter().step_by(4).map(|row| row.allocated).collect();
        assert_eq!((ready, allocated), (vec![1, 1, 1, 1, 1, 3, 3], vec![1, 1, 1, 3, 3, 3, 3]));
        let totals: Totals = rows.iter().collect();
        assert_eq!(totals.violation_minutes(), 3.0);
        assert_eq!(totals.replica_hours(), (3.0 + 4.0 * 3.0) / 60.0);
        assert_eq!(totals.replica_hours_per_demand(), 15.0 / 17.0);
    }

    #[test]
    fn the_warm_up_is_replayed_and_not_counted() {
        let series = Series::new(0, 60, vec![10.0, 10.0, 30.0, 30.0, 30.0, 30.0, 30.0]).unwrap();
        let scenario = Scenario { warmup: 240, ..scenario(&series) };
        let totals = simulate(&scenario, &mut Follow(&series), |row| assert!(row.timestamp >= 240));
        assert_eq!(totals.violation_minutes(), 1.0);
    }
}
