//! A rule that publishes what it wants, and a stock HPA that goes by it: the rule's controller in, the HPA's replicas out.

use cloudpulse_policy::Replicas;
use cloudpulse_policy::policy::DEFAULT_TOLERANCE;
use cloudpulse_policy::publish::value_for_hpa;

use crate::hpa::Hpa;
use crate::rule::RuleController;
use crate::scenario::Scenario;
use crate::simulation::Controller;
use crate::simulation::Sync;

/// The HPA's default stabilization of scaling in, in seconds.
const STABILIZATION: i64 = 300;

/// An HPA with one external metric of `averageValue: 1`.
#[derive(Debug)]
pub struct ThroughHpa<'a> {
    rule: RuleController<'a>,
    hpa: Hpa,
    /// Whether the value is published around the HPA's tolerance.
    around_tolerance: bool,
}

impl<'a> ThroughHpa<'a> {
    /// Returns the two before their first turn. The rule's own `behavior` is not asked: the HPA has its own.
    pub fn new(rule: RuleController<'a>, scenario: &Scenario<'_>, around_tolerance: bool) -> Self {
        let hpa = Hpa::new(DEFAULT_TOLERANCE, STABILIZATION, scenario.min_replicas, scenario.max_replicas);
        Self { rule, hpa, around_tolerance }
    }
}

impl Controller for ThroughHpa<'_> {
    fn desired(&mut self, sync: Sync) -> Replicas {
        let value = self.rule.wanted(sync).map(|wanted| {
            let tolerance = if self.around_tolerance { DEFAULT_TOLERANCE } else { 0.0 };
            value_for_hpa(wanted, sync.current, tolerance)
        });
        self.hpa.desired(sync.now, sync.current, 1.0, [value])
    }
}
