//! The timelines of a rule and of its rivals in; what of the violations no forecast could have seen, and whether the rule
//! is worth it, out.

use std::collections::HashMap;

use cloudpulse_forecast::series::Series;
use serde::Serialize;

use crate::scenario::SYNC_SECONDS;
use crate::scenario::Scenario;
use crate::timeline::Row;
use crate::timeline::Totals;

/// A rise larger than all but one in a thousand before it is a jump.
const JUMP_QUANTILE: f64 = 0.999;
/// Rises that are compared with reach back so long, in seconds.
const PAST_SECONDS: i64 = 14 * 86_400;
/// The days before at whose same time a jump may have happened already.
const DAYS: usize = 7;
/// And how near to the same time, in seconds.
const NEAR_SECONDS: i64 = 1800;
const DAY_SECONDS: i64 = 86_400;

/// Violations that no forecast could have prevented, in minutes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct NotPredictable {
    /// The oracle violates them too: with the load known beforehand, the limit of scaling up or the most replicas that
    /// are allowed stand against it.
    pub oracle_minutes: f64,
    /// Jumps without a precedent: see [`not_predictable`].
    pub jump_minutes: f64,
}

impl NotPredictable {
    /// Returns the sum.
    pub fn minutes(&self) -> f64 {
        self.oracle_minutes + self.jump_minutes
    }
}

/// Returns what of the violations in `rows` no forecast could have prevented. `oracle` are the oracle's rows of the same
/// scenario.
///
/// A violation counts when the oracle, with the same start delay, has it too; or when it is a jump without a precedent: the
/// load rose, from what was visible when a replica for it had to be asked for, by more than 99.9 % of all rises over
/// the same time in the two weeks before; and it is above everything within half an hour of the same time on the seven
/// days before. No model is asked, so that a bad forecast excuses nothing.
pub fn not_predictable(scenario: &Scenario<'_>, rows: &[Row], oracle: &[Row]) -> NotPredictable {
    let mut jumps: HashMap<usize, bool> = HashMap::new();
    let (mut by_oracle, mut by_jump) = (0_i64, 0_i64);
    for (row, oracle) in rows.iter().zip(oracle).filter(|(row, _)| row.is_violation()) {
        let index = scenario.index_at(row.timestamp);
        if oracle.is_violation() {
            by_oracle += 1;
        } else if *jumps.entry(index).or_insert_with(|| is_jump(scenario.series, scenario.lead_steps(), index)) {
            by_jump += 1;
        }
    }
    let minutes = |syncs: i64| (syncs * SYNC_SECONDS) as f64 / 60.0;
    NotPredictable { oracle_minutes: minutes(by_oracle), jump_minutes: minutes(by_jump) }
}

/// Whether the value at `index` is a jump without a precedent, seen from `lead` steps before.
fn is_jump(series: &Series, lead: usize, index: usize) -> bool {
    let values = series.values();
    let (Some(load), Some(decided)) = (series.get(index), index.checked_sub(lead)) else { return false };
    let Some(then) = series.get(decided) else { return false };
    let day = series.steps(DAY_SECONDS);
    let near = series.steps(NEAR_SECONDS);
    for days in 1..=DAYS {
        let Some(at) = index.checked_sub(days * day) else { break };
        let around = &values[at.saturating_sub(near)..=(at + near).min(decided)];
        if around.iter().any(|value| *value >= load) {
            return false;
        }
    }
    let from = decided.saturating_sub(series.steps(PAST_SECONDS)).max(lead);
    let mut rises: Vec<f64> =
        (from..=decided).map(|at| values[at] - values[at - lead]).filter(|rise| rise.is_finite()).collect();
    let rank = (rises.len() as f64 * JUMP_QUANTILE) as usize;
    if rank >= rises.len() {
        return false;
    }
    let (_, least, _) = rises.select_nth_unstable_by(rank, f64::total_cmp);
    load - then > *least
}

/// How the rule compares with the HPA at 70 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Minutes of violation that the rule avoids; negative where it has more.
    pub avoided_minutes: f64,
    /// Replica-hours that the rule spends more; negative where it saves.
    pub extra_replica_hours: f64,
    /// Replica-hours that the avoided minutes are worth at the price.
    pub worth_replica_hours: f64,
    /// Whether the rule is worth it: what it avoids is worth more than what it spends.
    pub is_worth_it: bool,
}

/// Weighs a rule against the HPA. One minute of violation is worth `violation_cost` minutes of the whole fleet, which is
/// the mean of the HPA's replicas: the rule's own knob, read backwards.
pub fn verdict(rule: &Totals, hpa: &Totals, violation_cost: f64) -> Verdict {
    let fleet = if hpa.hours() > 0.0 { hpa.replica_hours() / hpa.hours() } else { 0.0 };
    let avoided_minutes = hpa.violation_minutes() - rule.violation_minutes();
    let extra_replica_hours = rule.replica_hours() - hpa.replica_hours();
    let worth_replica_hours = avoided_minutes * violation_cost * fleet / 60.0;
    Verdict {
        avoided_minutes,
        extra_replica_hours,
        worth_replica_hours,
        is_worth_it: worth_replica_hours > extra_replica_hours,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use cloudpulse_policy::Replicas;

    use super::*;
    use crate::scenario::tests::scenario;

    /// Days of minutes with a quiet night, a steep morning and noise; between 20 and some 190.
    pub(crate) fn days(count: usize) -> Series {
        let mut state = 7_u64;
        let values = (0..count * 1440).map(|minute| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise = (state >> 33) as f64 / (1_u64 << 31) as f64 - 0.5;
            let of_day = minute % 1440;
            let level = if (480..1200).contains(&of_day) { 170.0 } else { 30.0 };
            level + 20.0 * noise
        });
        Series::new(0, 60, values.collect()).unwrap()
    }

    fn row(minute: i64, demand: Replicas, ready: Replicas) -> Row {
        let load = Some(f64::from(demand) * 10.0);
        Row { timestamp: minute * 60, load, demand: Some(demand), ready, allocated: ready, desired: ready }
    }

    #[test]
    fn a_daily_rise_is_predictable_and_a_flash_crowd_is_not() {
        let mut values = days(4).values().to_vec();
        let flash = 3 * 1440 + 300;
        values[flash] = 400.0;
        let series = Series::new(0, 60, values).unwrap();
        assert!(is_jump(&series, 3, flash));
        assert!(!is_jump(&series, 3, 3 * 1440 + 480), "it rose at this time every day");
        assert!(!is_jump(&series, 3, flash - 1), "nothing rose");
        let scenario = scenario(&series);
        let minute = flash as i64;
        // The flash, with and without the oracle's own; the morning; a minute that is none.
        let rows = [row(minute, 40, 5), row(minute, 40, 5), row(3 * 1440 + 480, 17, 5), row(100, 3, 5)];
        let oracle = [row(minute, 40, 40), row(minute, 40, 39), row(3 * 1440 + 480, 17, 17), row(100, 3, 1)];
        let found = not_predictable(&scenario, &rows, &oracle);
        assert_eq!(found, NotPredictable { oracle_minutes: 0.25, jump_minutes: 0.25 });
        assert_eq!(found.minutes(), 0.5);
    }

    #[test]
    fn what_comes_after_the_decision_is_no_precedent() {
        // The same time yesterday, with a step of a day's length in the lead: only what was visible may be looked at.
        let series = Series::new(0, 86_400, vec![1.0, 1.0, 1.0, 1.0, 50.0, 50.0]).unwrap();
        assert!(is_jump(&series, 2, 4));
        assert!(is_jump(&series, 2, 5), "yesterday's jump was not visible when it was decided");
    }

    #[test]
    fn a_rule_is_weighed_at_its_own_price() {
        let hour = |minutes_short: i64, replicas: Replicas| -> Totals {
            let rows: Vec<Row> = (0..240)
                .map(|sync| Row {
                    timestamp: sync * 15,
                    ..row(0, if sync < 4 * minutes_short { 99 } else { 1 }, replicas)
                })
                .collect();
            rows.iter().collect()
        };
        let hpa = hour(3, 10);
        let dearer = hour(1, 14);
        // Two minutes at 30 minutes of ten replicas are ten replica-hours, for four.
        let verdict = super::verdict(&dearer, &hpa, 30.0);
        assert_eq!((verdict.avoided_minutes, verdict.extra_replica_hours), (2.0, 4.0));
        assert_eq!((verdict.worth_replica_hours, verdict.is_worth_it), (10.0, true));
        assert!(!super::verdict(&dearer, &hpa, 10.0).is_worth_it);
        assert!(!super::verdict(&hpa, &hpa, 30.0).is_worth_it, "the same is no gain");
    }
}
