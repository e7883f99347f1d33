//! Rows of a replay in, one a sync; their totals out. Anyone can recount them from the rows.

use cloudpulse_policy::Replicas;
use serde::Serialize;

use crate::scenario::SYNC_SECONDS;

/// One sync: what holds from its time until the next.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Row {
    /// Unix seconds.
    pub timestamp: i64,
    /// Highest load until the next sync; `None` where it is not known.
    pub load: Option<f64>,
    /// Fewest replicas that carry the load; `None` where it is not known.
    pub demand: Option<Replicas>,
    /// Replicas that serve.
    pub ready: Replicas,
    /// All replicas, those that are starting too.
    pub allocated: Replicas,
    /// Replicas that the policy asked for at this sync.
    pub desired: Replicas,
}

impl Row {
    /// Returns whether fewer replicas serve than the load needs; a load that is not known violates nothing.
    pub fn is_violation(&self) -> bool {
        self.demand.is_some_and(|demand| self.ready < demand)
    }
}

/// What a timeline adds up to. Rows without a load count as changes only: neither their replicas nor their violations.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    violations: u64,
    allocated: u64,
    demand: u64,
    changes: u64,
    rows: u64,
    last_allocated: Option<Replicas>,
    worst: Option<Worst>,
}

/// The moment at which most replicas were missing, the first of equals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Worst {
    /// Unix seconds.
    pub timestamp: i64,
    /// Highest load then.
    pub load: f64,
    /// Fewest replicas that would have carried it.
    pub demand: Replicas,
    /// Replicas that served.
    pub ready: Replicas,
}

impl Totals {
    /// Adds the next row.
    pub fn add(&mut self, row: &Row) {
        self.rows += 1;
        self.changes += u64::from(self.last_allocated.is_some_and(|last| last != row.allocated));
        self.last_allocated = Some(row.allocated);
        let (Some(load), Some(demand)) = (row.load, row.demand) else { return };
        self.allocated += u64::from(row.allocated);
        self.demand += u64::from(demand);
        if row.is_violation() {
            self.violations += 1;
            if self.worst.is_none_or(|worst| demand - row.ready > worst.demand - worst.ready) {
                self.worst = Some(Worst { timestamp: row.timestamp, load, demand, ready: row.ready });
            }
        }
    }

    /// Returns the time in which fewer replicas served than the load needed, in minutes.
    pub fn violation_minutes(&self) -> f64 {
        minutes(self.violations)
    }

    /// Returns the replicas paid for times the hours they were.
    pub fn replica_hours(&self) -> f64 {
        minutes(self.allocated) / 60.0
    }

    /// Returns [`Self::replica_hours`] as a multiple of what the load needed at each moment; NaN where it needed none.
    pub fn replica_hours_per_demand(&self) -> f64 {
        self.allocated as f64 / self.demand as f64
    }

    /// Returns how often the number of replicas changed in an hour; NaN without a row.
    pub fn changes_per_hour(&self) -> f64 {
        self.changes as f64 / (minutes(self.rows) / 60.0)
    }

    /// Returns the hours that the rows span.
    pub fn hours(&self) -> f64 {
        minutes(self.rows) / 60.0
    }

    /// Returns the worst moment; `None` where nothing was violated.
    pub const fn worst(&self) -> Option<Worst> {
        self.worst
    }
}

impl<'a> FromIterator<&'a Row> for Totals {
    fn from_iter<Rows: IntoIterator<Item = &'a Row>>(rows: Rows) -> Self {
        let mut totals = Self::default();
        rows.into_iter().for_each(|row| totals.add(row));
        totals
    }
}

fn minutes(syncs: u64) -> f64 {
    (syncs * SYNC_SECONDS.unsigned_abs()) as f64 / 60.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(timestamp: i64, demand: Option<Replicas>, ready: Replicas, allocated: Replicas) -> Row {
        Row {
            timestamp,
            load: demand.map(|demand| f64::from(demand) * 10.0),
            demand,
            ready,
            allocated,
            desired: allocated,
        }
    }

    #[test]
    fn totals_are_what_a_hand_counts() {
        let rows = [
            row(0, Some(2), 2, 2),
            row(15, Some(4), 2, 5), // short of two
            row(30, None, 2, 5),    // not known: nothing but a row
            row(45, Some(4), 3, 5), // short of one
            row(60, Some(1), 5, 5),
        ];
        let totals: Totals = rows.iter().collect();
        assert_eq!(totals.violation_minutes(), 0.5);
        assert_eq!(totals.replica_hours(), 17.0 * 15.0 / 3600.0);
        assert_eq!(totals.replica_hours_per_demand(), 17.0 / 11.0);
        assert_eq!(totals.changes_per_hour(), 1.0 / (75.0 / 3600.0));
        assert_eq!(totals.worst(), Some(Worst { timestamp: 15, load: 40.0, demand: 4, ready: 2 }));
    }

    #[test]
    fn without_load_there_is_no_total() {
        let totals: Totals = [row(0, None, 1, 1)].iter().collect();
        assert_eq!((totals.violation_minutes(), totals.replica_hours(), totals.worst()), (0.0, 0.0, None));
        assert!(totals.replica_hours_per_demand().is_nan());
    }
}
