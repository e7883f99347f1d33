//! The decision: recommendation, missing data, stabilization, rate limits, cooldown, pause and bounds, in this order.

use serde::Serialize;

use crate::Replicas;
use crate::history::History;
use crate::limit::scale_down_limit;
use crate::limit::scale_up_limit;
use crate::observation::Observation;
use crate::observation::Reading;
use crate::policy::Demand;
use crate::policy::MissingData;
use crate::policy::Mode;
use crate::policy::Pause;
use crate::policy::Policy;
use crate::recommend::Context;
use crate::recommend::MetricParts;
use crate::recommend::recommend;
use crate::stabilize::stabilize;
use crate::time::Timestamp;

/// What is to be done, why, and how it came about.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Replicas that the target has; `None` where it did not say.
    pub current: Option<Replicas>,
    /// Replicas that the target should have; `None` where the current ones are not known.
    pub desired: Option<Replicas>,
    /// Whether the target is to be changed: something is desired that it does not have, and the mode allows it.
    pub act: bool,
    /// The last step that shaped the number.
    pub reason: Reason,
    /// The numbers on the way.
    pub parts: Parts,
}

/// Why the desired replicas are what they are; the HPA's words where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Reason {
    /// What the metrics ask for, unchanged.
    DesiredWithinRange,
    /// The load is so near its target that nothing changes.
    WithinTolerance,
    /// A recommendation in the scale-up window was lower.
    ScaleUpStabilized,
    /// A recommendation in the scale-down window was higher.
    ScaleDownStabilized,
    /// The rate policies allow no more for now.
    ScaleUpLimit,
    /// The rate policies allow no fewer for now.
    ScaleDownLimit,
    /// More than the maximum is asked for.
    TooManyReplicas,
    /// Fewer than the minimum are asked for.
    TooFewReplicas,
    /// A reading is missing, so nothing is taken away.
    MissingDataHeld,
    /// No metric is known, and the rule names replicas for this.
    MissingDataReplicas,
    /// The last change is too recent.
    Cooldown,
    /// Switched off by hand.
    Paused,
    /// The target has no replicas, which switches scaling off, as with the HPA.
    ScalingDisabled,
    /// The target did not say what it has.
    FailedGetScale,
}

impl Reason {
    /// Returns the reason's name, as it is serialized.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DesiredWithinRange => "DesiredWithinRange",
            Self::WithinTolerance => "WithinTolerance",
            Self::ScaleUpStabilized => "ScaleUpStabilized",
            Self::ScaleDownStabilized => "ScaleDownStabilized",
            Self::ScaleUpLimit => "ScaleUpLimit",
            Self::ScaleDownLimit => "ScaleDownLimit",
            Self::TooManyReplicas => "TooManyReplicas",
            Self::TooFewReplicas => "TooFewReplicas",
            Self::MissingDataHeld => "MissingDataHeld",
            Self::MissingDataReplicas => "MissingDataReplicas",
            Self::Cooldown => "Cooldown",
            Self::Paused => "Paused",
            Self::ScalingDisabled => "ScalingDisabled",
            Self::FailedGetScale => "FailedGetScale",
        }
    }
}

/// The numbers on the way to a decision. One that was not reached is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Parts {
    /// Each metric with its inputs.
    pub metrics: Vec<MetricParts>,
    /// The largest demand by the loads alone.
    pub reactive: Option<Replicas>,
    /// The largest demand by the forecasts.
    pub forecast: Option<Replicas>,
    /// What the metrics ask for, within the bounds, where no reading is missing; the day's mean is made of it.
    pub wanted: Option<Replicas>,
    /// The recommendation that goes into the windows, after missing data was seen to.
    pub recommended: Option<Replicas>,
    /// After the stabilization windows.
    pub stabilized: Option<Replicas>,
    /// After the rate policies and the bounds on the way.
    pub limited: Option<Replicas>,
    /// The bounds.
    pub min_replicas: Replicas,
    /// The bounds.
    pub max_replicas: Replicas,
}

/// Returns what is to be done now. Never fails: what is missing is said in the parts and never lowers the replicas.
///
/// The desired replicas are within the bounds, except where the rule is paused, or the target has no replicas, which
/// switches scaling off as with the HPA; more load never gives fewer; and deciding again with the desired replicas as the
/// current ones changes nothing. Current replicas outside the bounds are brought to the nearest bound whatever is missing.
pub fn decide(policy: &Policy, observation: &Observation, history: &History, now: Timestamp) -> Decision {
    let context = Context {
        mode: policy.mode,
        scale_up: &policy.behavior.scale_up,
        scale_down: &policy.behavior.scale_down,
        current: observation.current,
        mean_wanted: history.mean_wanted(now),
    };
    let metrics: Vec<MetricParts> = policy
        .metrics
        .iter()
        .map(|metric| {
            let seen = observation.metrics.iter().find(|seen| seen.name == metric.name);
            recommend(metric, seen, context)
        })
        .collect();
    let incomplete = policy
        .metrics
        .iter()
        .zip(&metrics)
        .any(|(metric, parts)| is_incomplete(policy.missing_data, &metric.demand, parts));
    let asked = metrics.iter().filter_map(|metric| metric.wanted).max();
    let mut parts = Parts {
        reactive: metrics.iter().filter_map(|metric| metric.reactive).max(),
        forecast: metrics.iter().filter_map(|metric| metric.forecast.as_ref()).map(|forecast| forecast.wanted).max(),
        wanted: asked.filter(|_| !incomplete).map(|asked| bounded(policy, asked)),
        metrics,
        recommended: None,
        stabilized: None,
        limited: None,
        min_replicas: policy.min_replicas,
        max_replicas: policy.max_replicas,
    };
    let current = match observation.current {
        None => return undecided(None, Reason::FailedGetScale, parts),
        Some(0) => return undecided(Some(0), Reason::ScalingDisabled, parts),
        Some(current) => current,
    };

    let (recommended, mut reason) = recommendation(policy, &parts.metrics, asked, incomplete, current);
    let stabilized = stabilize(&policy.behavior, history, current, recommended, now);
    if stabilized != recommended {
        reason = if recommended < current { Reason::ScaleDownStabilized } else { Reason::ScaleUpStabilized };
    }
    let mut desired = rate_limited(policy, history, current, stabilized, now, &mut reason);
    (parts.recommended, parts.stabilized, parts.limited) = (Some(recommended), Some(stabilized), Some(desired));

    let cooling = history.last_change().is_some_and(|at| now.since(at) < policy.cooldown);
    if cooling && desired != current {
        (desired, reason) = (current, Reason::Cooldown);
    }
    let within = bounded(policy, desired);
    if within != desired {
        reason = if within < desired { Reason::TooManyReplicas } else { Reason::TooFewReplicas };
        desired = within;
    }
    let allowed = match policy.pause {
        Pause::None => desired,
        Pause::All => current,
        Pause::ScaleIn => desired.max(current),
        Pause::ScaleOut => desired.min(current),
    };
    if allowed != desired {
        (desired, reason) = (allowed, Reason::Paused);
    }
    let act = desired != current && policy.mode != Mode::Observe;
    Decision { current: Some(current), desired: Some(desired), act, reason, parts }
}

/// Whether a reading that the metric needs is not there.
fn is_incomplete(missing_data: MissingData, demand: &Demand, parts: &MetricParts) -> bool {
    let lacks = |forecast: &Reading<_>| forecast.fresh().is_none();
    let forecast_needed = match missing_data {
        MissingData::Hold | MissingData::Replicas(_) => true,
        MissingData::Reactive => false,
    };
    match demand {
        Demand::Threshold { .. } => parts.load.fresh().is_none(),
        Demand::Load { .. } => {
            parts.load.fresh().is_none() || (forecast_needed && parts.peak.as_ref().is_some_and(lacks))
        }
    }
}

/// What goes into the windows: what is asked for, but not below the current replicas where a reading is missing.
fn recommendation(
    policy: &Policy,
    metrics: &[MetricParts],
    asked: Option<Replicas>,
    incomplete: bool,
    current: Replicas,
) -> (Replicas, Reason) {
    let Some(asked) = asked else {
        return match policy.missing_data {
            MissingData::Replicas(replicas) if replicas > current => (replicas, Reason::MissingDataReplicas),
            MissingData::Replicas(_) | MissingData::Hold | MissingData::Reactive => (current, Reason::MissingDataHeld),
        };
    };
    if incomplete && asked < current {
        return (current, Reason::MissingDataHeld);
    }
    let near =
        asked == current && metrics.iter().any(|metric| metric.within_tolerance && metric.reactive == Some(asked));
    (asked, if near { Reason::WithinTolerance } else { Reason::DesiredWithinRange })
}

/// The HPA's `convertDesiredReplicasWithBehaviorRate`.
fn rate_limited(
    policy: &Policy,
    history: &History,
    current: Replicas,
    stabilized: Replicas,
    now: Timestamp,
    reason: &mut Reason,
) -> Replicas {
    if stabilized > current {
        let limit = scale_up_limit(&policy.behavior.scale_up, history, current, now);
        let most = limit.min(policy.max_replicas);
        if stabilized > most {
            *reason = if limit < policy.max_replicas { Reason::ScaleUpLimit } else { Reason::TooManyReplicas };
            return most;
        }
    } else if stabilized < current {
        let limit = scale_down_limit(&policy.behavior.scale_down, history, current, now);
        let fewest = limit.max(policy.min_replicas);
        if stabilized < fewest {
            *reason = if limit > policy.min_replicas { Reason::ScaleDownLimit } else { Reason::TooFewReplicas };
            return fewest;
        }
    }
    stabilized
}

fn bounded(policy: &Policy, replicas: Replicas) -> Replicas {
    replicas.max(policy.min_replicas).min(policy.max_replicas)
}

fn undecided(current: Option<Replicas>, reason: Reason, parts: Parts) -> Decision {
    Decision { current, desired: current, act: false, reason, parts }
}
