//! The Kubernetes HPA v2 with its default behavior, as lean as a sweep over many settings needs it: loads and their target
//! per replica in, replicas out. A test holds it to `cloudpulse_policy::decide` on random loads.

use std::collections::VecDeque;

use cloudpulse_policy::Replicas;
use cloudpulse_policy::forecast::replicas_for;

/// Ratios that differ from the tolerance by less are equal to it, as in the decision core.
const ROUNDING: f64 = 1e-9;

/// An HPA and the recommendations that it remembers.
#[derive(Debug, Clone)]
pub struct Hpa {
    tolerance: f64,
    stabilization: i64,
    min_replicas: Replicas,
    max_replicas: Replicas,
    /// (Unix seconds, replicas): times ascend, replicas fall, so that the first is the largest of the window.
    highest: VecDeque<(i64, Replicas)>,
    is_new: bool,
}

impl Hpa {
    /// Returns an HPA that remembers nothing. `tolerance` is the share by which the load may miss its target,
    /// `stabilization` the seconds over which the largest recommendation wins.
    pub fn new(tolerance: f64, stabilization: i64, min_replicas: Replicas, max_replicas: Replicas) -> Self {
        Self { tolerance, stabilization, min_replicas, max_replicas, highest: VecDeque::new(), is_new: true }
    }

    /// Returns the replicas for loads on the whole workload, each of which is to be `per_replica` for a replica; the
    /// largest demand wins. With a load that is missing nothing is taken away.
    pub fn desired(
        &mut self,
        now: i64,
        current: Replicas,
        per_replica: f64,
        loads: impl IntoIterator<Item = Option<f64>>,
    ) -> Replicas {
        let (mut asked, mut incomplete) = (None, false);
        for load in loads {
            match load.and_then(|load| self.for_load(load, per_replica, current)) {
                Some(replicas) => asked = asked.max(Some(replicas)),
                None => incomplete = true,
            }
        }
        let recommended = match asked {
            None => current,
            Some(asked) if incomplete => asked.max(current),
            Some(asked) => asked,
        };
        self.limited(now, current, recommended)
    }

    /// Returns a recommendation made at `now` after stabilization, the limit of scaling up, and the bounds.
    pub fn limited(&mut self, now: i64, current: Replicas, recommended: Replicas) -> Replicas {
        if self.stabilization > 0 {
            if std::mem::replace(&mut self.is_new, false) {
                // As the HPA does: after a start the current replicas count as the first recommendation.
                self.remember(now, current);
            }
            self.remember(now, recommended);
            while self.highest.front().is_some_and(|(at, _)| now - at >= self.stabilization) {
                self.highest.pop_front();
            }
        }
        let highest = self.highest.front().map_or(recommended, |(_, replicas)| *replicas);
        let stabilized = current.max(recommended).min(highest);
        // The larger of 100 % and 4 replicas in 15 s, which is one sync.
        let most = current.saturating_add(current.max(4));
        stabilized.min(most).max(self.min_replicas).min(self.max_replicas)
    }

    fn for_load(&self, load: f64, per_replica: f64, current: Replicas) -> Option<Replicas> {
        let needed = replicas_for(load, per_replica)?;
        let ratio = load / (per_replica * f64::from(current));
        Some(if (ratio - 1.0).abs() <= self.tolerance + ROUNDING { current } else { needed })
    }

    fn remember(&mut self, at: i64, replicas: Replicas) {
        while self.highest.back().is_some_and(|(_, last)| *last <= replicas) {
            self.highest.pop_back();
        }
        self.highest.push_back((at, replicas));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cloudpulse_policy::decision::decide;
    use cloudpulse_policy::history::History;
    use cloudpulse_policy::observation::MetricObservation;
    use cloudpulse_policy::observation::Missing;
    use cloudpulse_policy::observation::Observation;
    use cloudpulse_policy::observation::Reading;
    use cloudpulse_policy::policy::AboveMax;
    use cloudpulse_policy::policy::Behavior;
    use cloudpulse_policy::policy::Demand;
    use cloudpulse_policy::policy::MetricPolicy;
    use cloudpulse_policy::policy::MissingData;
    use cloudpulse_policy::policy::Mode;
    use cloudpulse_policy::policy::Pause;
    use cloudpulse_policy::policy::Policy;
    use cloudpulse_policy::time::Timestamp;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_scales_in_after_five_minutes_and_out_at_most_by_half() {
        let mut hpa = Hpa::new(0.1, 300, 1, 100);
        let mut current = 10;
        let mut over_time = Vec::new();
        for sync in 0..24 {
            let load = if sync < 2 { 300.0 } else { 50.0 };
            current = hpa.desired(sync * 15, current, 10.0, [Some(load)]);
            over_time.push(current);
        }
        assert_eq!(over_time[..2], [20, 30]);
        // The last recommendation of 30 was at 15 s.
        assert!(over_time[2..21].iter().all(|replicas| *replicas == 30), "{over_time:?}");
        assert_eq!(over_time[21..], [5, 5, 5]);
    }

    #[test]
    fn within_the_tolerance_nothing_changes_and_a_missing_load_takes_nothing_away() {
        let mut hpa = Hpa::new(0.1, 0, 1, 100);
        assert_eq!(hpa.desired(0, 10, 10.0, [Some(110.0)]), 10);
        assert_eq!(hpa.desired(15, 10, 10.0, [Some(111.0)]), 12);
        assert_eq!(hpa.desired(30, 12, 10.0, [Some(10.0)]), 1);
        assert_eq!(hpa.desired(45, 12, 10.0, [Some(10.0), None]), 12);
        assert_eq!(hpa.desired(60, 12, 10.0, [None, Some(150.0)]), 15);
        assert_eq!(hpa.desired(75, 12, 10.0, [None]), 12);
    }

    fn policy(tolerance: f64, stabilization: i64) -> Policy {
        let mut behavior = Behavior::default();
        (behavior.scale_up.tolerance, behavior.scale_down.tolerance) = (tolerance, tolerance);
        behavior.scale_down.stabilization_window = Duration::from_secs(stabilization.unsigned_abs());
        let metric = |name: &str| MetricPolicy {
            name: name.to_owned(),
            demand: Demand::Load {
                replica_capacity: 10.0,
                target_utilization: 0.7,
                activation_threshold: 0.0,
                forecast: None,
            },
        };
        Policy {
            mode: Mode::Floor,
            min_replicas: 2,
            max_replicas: 60,
            schedules: Vec::new(),
            above_max: AboveMax::Alert,
            metrics: vec![metric("a"), metric("b")],
            behavior,
            cooldown: Duration::ZERO,
            pause: Pause::None,
            missing_data: MissingData::Hold,
        }
    }

    fn reading(load: Option<f64>) -> Reading<f64> {
        load.map_or(Reading::Missing { why: Missing::Empty }, |value| Reading::Fresh { value, age: Duration::ZERO })
    }

    proptest! {
        #[test]
        fn it_decides_as_the_decision_core(
            loads in proptest::collection::vec((proptest::option::weighted(0.9, 0.0_f64..700.0), 0.0_f64..700.0), 1..150),
            calm in proptest::bool::ANY,
        ) {
            let (tolerance, stabilization) = if calm { (0.0, 900) } else { (0.1, 300) };
            let policy = policy(tolerance, stabilization);
            let mut hpa = Hpa::new(tolerance, stabilization, 2, 60);
            let mut history = History::default();
            let mut current = 5;
            for (sync, (a, b)) in loads.into_iter().enumerate() {
                let seconds = sync as i64 * 15;
                let now = Timestamp::from_unix_milliseconds(seconds * 1000);
                let seen = |name: &str, load| MetricObservation { name: name.to_owned(), load: reading(load), sources: None, peak: None , horizon: None, ahead: Vec::new() };
                let observation = Observation { current: Some(current), metrics: vec![seen("a", a), seen("b", Some(b))] };
                let decision = decide(&policy, &observation, &history, now);
                history.record(&decision, now);
                let desired = decision.desired.unwrap();
                prop_assert_eq!(hpa.desired(seconds, current, 7.0, [a, Some(b)]), desired);
                if desired != current {
                    history.record_change(current, desired, now);
                    current = desired;
                }
            }
        }
    }
}
