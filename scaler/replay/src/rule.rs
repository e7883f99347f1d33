//! A scaling rule at work on the past: the load and its forecast peaks in, what `cloudpulse_policy::decide` says out.

use std::time::Duration;

use cloudpulse_forecast::series::Series;
use cloudpulse_policy::Replicas;
use cloudpulse_policy::decision::Decision;
use cloudpulse_policy::decision::decide;
use cloudpulse_policy::history::History;
use cloudpulse_policy::observation::MetricObservation;
use cloudpulse_policy::observation::Missing;
use cloudpulse_policy::observation::Observation;
use cloudpulse_policy::observation::Reading;
use cloudpulse_policy::policy::Policy;
use cloudpulse_policy::time::Timestamp;

use crate::peaks::Peaks;
use crate::simulation::Controller;
use crate::simulation::Sync;

/// Syncs after which what a rule no longer needs is forgotten: it looks at windows itself, so this saves memory alone.
const PRUNE_EVERY: u32 = 20;

/// The decision core with a rule of one metric.
///
/// What the rule decides is carried out, also where its mode is to observe: a replay shows what it would do.
#[derive(Debug)]
pub struct RuleController<'a> {
    policy: &'a Policy,
    series: &'a Series,
    peaks: Option<&'a Peaks>,
    history: History,
    observation: Observation,
    /// Grid point that the observation shows.
    shown: Option<usize>,
    until_prune: u32,
}

impl<'a> RuleController<'a> {
    /// Returns the rule before its first decision. `peaks` are those of `series`; a rule without forecast needs none.
    pub fn new(policy: &'a Policy, series: &'a Series, peaks: Option<&'a Peaks>) -> Self {
        Self {
            policy,
            series,
            peaks,
            history: History::default(),
            observation: Observation { current: None, metrics: Vec::new() },
            shown: None,
            until_prune: PRUNE_EVERY,
        }
    }

    fn show(&mut self, visible: Option<usize>) {
        if visible == self.shown && !self.observation.metrics.is_empty() {
            return;
        }
        self.shown = visible;
        let load = visible.and_then(|index| self.series.get(index));
        let peak = self.peaks.map(|peaks| reading(visible.and_then(|index| peaks.get(index)?.clone())));
        self.observation.metrics = self
            .policy
            .metrics
            .iter()
            .map(|metric| MetricObservation {
                name: metric.name.clone(),
                load: reading(load),
                sources: None,
                peak: peak.clone(),
                horizon: None,
                ahead: Vec::new(),
            })
            .collect();
    }
}

impl RuleController<'_> {
    /// Returns what the rule asks for within its bounds, before any calm; `None` where a reading is missing. Called in place
    /// of [`Controller::desired`].
    pub fn wanted(&mut self, sync: Sync) -> Option<Replicas> {
        self.turn(sync).parts.wanted
    }

    fn turn(&mut self, sync: Sync) -> Decision {
        self.show(sync.visible);
        let now = Timestamp::from_unix_milliseconds(sync.now * 1000);
        self.until_prune -= 1;
        if self.until_prune == 0 {
            self.history.prune(now);
            self.until_prune = PRUNE_EVERY;
        }
        self.observation.current = Some(sync.current);
        let decision = decide(self.policy, &self.observation, &self.history, now);
        self.history.record(&decision, now);
        decision
    }
}

impl Controller for RuleController<'_> {
    fn desired(&mut self, sync: Sync) -> Replicas {
        let decision = self.turn(sync);
        let now = Timestamp::from_unix_milliseconds(sync.now * 1000);
        let desired = decision.desired.unwrap_or(sync.current);
        if desired != sync.current {
            self.history.record_change(sync.current, desired, now);
        }
        desired
    }
}

fn reading<T>(value: Option<T>) -> Reading<T> {
    value.map_or(Reading::Missing { why: Missing::Empty }, |value| Reading::Fresh { value, age: Duration::ZERO })
}
