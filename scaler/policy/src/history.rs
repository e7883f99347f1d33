//! What a rule remembers: its recommendations, its changes, and how many replicas it wanted over the last day.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Replicas;
use crate::decision::Decision;
use crate::time::Timestamp;

/// The longest window or period that the HPA allows; older entries cannot matter.
const LONGEST_WINDOW: Duration = Duration::from_secs(3600);
/// Span of the mean that the cost rule uses, in minutes.
const DAY_MINUTES: i64 = 1440;

/// The memory of one rule. Entries are in ascending time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    recommendations: VecDeque<Recommendation>,
    changes: VecDeque<Change>,
    last_change: Option<Timestamp>,
    wanted: VecDeque<MinuteOfWanted>,
    /// The day before the last minute of `wanted`.
    day: Day,
    earlier_mean: Option<f64>,
}

/// A recommendation before stabilization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recommendation {
    pub(crate) at: Timestamp,
    pub(crate) replicas: Replicas,
}

/// A change of the target's replicas by this rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) at: Timestamp,
    pub(crate) from: Replicas,
    pub(crate) to: Replicas,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct MinuteOfWanted {
    minute: i64,
    sum: f64,
    count: u32,
}

impl MinuteOfWanted {
    fn mean(self) -> f64 {
        self.sum / f64::from(self.count)
    }
}

/// Sum of the means of the known minutes of a day, so that not every decision adds up a day.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Day {
    sum: f64,
    minutes: i64,
}

impl History {
    /// Notes that the rule is known to have wanted `mean` replicas over the last day, as after a restart. What is recorded
    /// from now on replaces it minute by minute. A mean that is not positive is no knowledge.
    pub fn recall_mean(&mut self, mean: f64) {
        self.earlier_mean = (mean.is_finite() && mean > 0.0).then_some(mean);
    }

    /// Notes what was recommended and wanted. To be called once after each decision, whether it was carried out or not.
    pub fn record(&mut self, decision: &Decision, now: Timestamp) {
        let Some(current) = decision.current else { return };
        if let Some(replicas) = decision.parts.recommended {
            if self.recommendations.is_empty() {
                // As the HPA does: after a start the current replicas count as the first recommendation.
                self.recommendations.push_back(Recommendation { at: now, replicas: current });
            }
            self.recommendations.push_back(Recommendation { at: now, replicas });
        }
        if let Some(wanted) = decision.parts.wanted {
            self.record_wanted(wanted, now);
        }
    }

    /// Notes a change of the target's replicas that was carried out.
    pub fn record_change(&mut self, from: Replicas, to: Replicas, now: Timestamp) {
        self.changes.push_back(Change { at: now, from, to });
        self.last_change = Some(now);
    }

    /// Forgets what can no longer matter. Entries from the future, as after a clock was set back, count from `now`.
    pub fn prune(&mut self, now: Timestamp) {
        for recommendation in &mut self.recommendations {
            recommendation.at = recommendation.at.min(now);
        }
        for change in &mut self.changes {
            change.at = change.at.min(now);
        }
        self.last_change = self.last_change.map(|at| at.min(now));
        self.recommendations.retain(|entry| now.since(entry.at) < LONGEST_WINDOW);
        self.changes.retain(|entry| now.since(entry.at) < LONGEST_WINDOW);
        let today = now.unix_minutes();
        self.wanted.retain(|entry| (today - DAY_MINUTES..=today).contains(&entry.minute));
        self.day = self.wanted.back().map_or_else(Day::default, |last| self.day_before(last.minute));
    }

    /// Returns the mean replicas wanted over the last day, without the running minute; `None` where nothing is known.
    /// Minutes for which nothing was recorded count as the mean before a restart where that is known, else not at all.
    pub fn mean_wanted(&self, now: Timestamp) -> Option<f64> {
        let today = now.unix_minutes();
        let Day { mut sum, mut minutes } = match self.wanted.back() {
            Some(last) if last.minute == today => self.day,
            _ => self.day_before(today),
        };
        if let Some(earlier) = self.earlier_mean {
            sum += earlier * (DAY_MINUTES - minutes) as f64;
            minutes = DAY_MINUTES;
        }
        (minutes > 0).then(|| sum / minutes as f64)
    }

    /// Returns when the rule last changed the target's replicas.
    pub fn last_change(&self) -> Option<Timestamp> {
        self.last_change
    }

    /// Returns the recommendations younger than `window`, at `now`, the youngest first; none for a window of zero.
    pub(crate) fn recommendations_within(
        &self,
        window: Duration,
        now: Timestamp,
    ) -> impl Iterator<Item = Recommendation> + '_ {
        self.recommendations.iter().rev().copied().take_while(move |entry| now.since(entry.at) < window)
    }

    /// Returns the changes younger than `period`, at `now`, the youngest first.
    pub(crate) fn changes_within(&self, period: Duration, now: Timestamp) -> impl Iterator<Item = Change> + '_ {
        self.changes.iter().rev().copied().take_while(move |entry| now.since(entry.at) < period)
    }

    /// Returns whether no recommendation was recorded yet.
    pub(crate) fn is_new(&self) -> bool {
        self.recommendations.is_empty()
    }

    fn record_wanted(&mut self, wanted: Replicas, now: Timestamp) {
        let minute = now.unix_minutes();
        match self.wanted.back_mut() {
            Some(last) if last.minute == minute => {
                last.sum += f64::from(wanted);
                last.count += 1;
            }
            _ => {
                self.wanted.push_back(MinuteOfWanted { minute, sum: f64::from(wanted), count: 1 });
                self.day = self.day_before(minute);
            }
        }
    }

    fn day_before(&self, minute: i64) -> Day {
        let first = self.wanted.partition_point(|entry| entry.minute < minute - DAY_MINUTES);
        let mut day = Day::default();
        for entry in self.wanted.range(first..).take_while(|entry| entry.minute < minute) {
            day.sum += entry.mean();
            day.minutes += 1;
        }
        day
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(minute: i64) -> Timestamp {
        Timestamp::from_unix_milliseconds(minute * 60_000)
    }

    #[test]
    fn the_mean_rolls_over_a_day_and_leaves_out_the_running_minute() {
        let mut history = History::default();
        assert_eq!(history.mean_wanted(minute(0)), None);
        for at in 0..DAY_MINUTES {
            history.record_wanted(2, minute(at));
        }
        assert_eq!(history.mean_wanted(minute(DAY_MINUTES)), Some(2.0));
        history.record_wanted(1442, minute(DAY_MINUTES));
        assert_eq!(history.mean_wanted(minute(DAY_MINUTES)), Some(2.0));
        assert_eq!(history.mean_wanted(minute(DAY_MINUTES + 1)), Some(3.0));
        history.prune(minute(3 * DAY_MINUTES));
        assert_eq!(history.mean_wanted(minute(3 * DAY_MINUTES)), None);
    }

    #[test]
    fn a_known_mean_fades_as_the_day_fills() {
        let mut history = History::default();
        history.recall_mean(10.0);
        assert_eq!(history.mean_wanted(minute(0)), Some(10.0));
        for at in 0..DAY_MINUTES / 2 {
            history.record_wanted(20, minute(at));
        }
        assert_eq!(history.mean_wanted(minute(DAY_MINUTES / 2)), Some(15.0));
        let mut history = History::default();
        history.recall_mean(f64::NAN);
        assert_eq!(history.mean_wanted(minute(0)), None);
    }

    #[test]
    fn a_clock_set_back_does_not_stretch_windows() {
        let mut history = History::default();
        history.record_change(1, 5, minute(500));
        history.prune(minute(400));
        assert_eq!(history.last_change(), Some(minute(400)));
        assert_eq!(history.changes_within(Duration::from_secs(60), minute(402)).count(), 0);
    }
}
