//! The decision: recommendation, missing data, stabilization, rate limits, cooldown, pause and bounds, in this order.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::Replicas;
use crate::breach::time_to_breach;
use crate::history::History;
use crate::limit::scale_down_limit;
use crate::limit::scale_up_limit;
use crate::observation::Observation;
use crate::observation::Reading;
use crate::policy::Bounds;
use crate::policy::Demand;
use crate::policy::MissingData;
use crate::policy::Mode;
use crate::policy::Pause;
use crate::policy::Policy;
use crate::policy::SelectPolicy;
use crate::recommend::Context;
use crate::recommend::MetricParts;
use crate::recommend::recommend;
use crate::stabilize::stabilize;
use crate::time::Timestamp;
use crate::time::optional_seconds;

/// What is to be done, why, and how it came about.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
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
    /// The target has no replicas although it may never have none, which switches scaling off, as with the HPA.
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
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
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
    /// The fewest replicas allowed now.
    pub min_replicas: Replicas,
    /// The most replicas allowed now, without what `whenAboveMax` may add.
    pub max_replicas: Replicas,
    /// The most replicas with it.
    pub raised_max: Replicas,
    /// Names of the schedules that hold now.
    pub schedules: Vec<String>,
    /// Time until more than the most replicas are needed, zero where they are needed now; `None` where none of the
    /// horizons says so.
    #[serde(rename = "breachInSeconds", serialize_with = "optional_seconds")]
    #[schema(value_type = Option<f64>)]
    pub breach_in: Option<Duration>,
}

/// Returns what is to be done now. Never fails: what is missing is said in the parts and never lowers the replicas.
///
/// The desired replicas are within the bounds, except where the rule is paused, or the target has no replicas and may
/// never have none, which switches scaling off as with the HPA; more load never gives fewer; and deciding again with the desired replicas as the
/// current ones changes nothing. Current replicas outside the bounds are brought to the nearest bound whatever is missing.
pub fn decide(policy: &Policy, observation: &Observation, history: &History, now: Timestamp) -> Decision {
    let bounds = policy.bounds(now);
    let context = Context {
        mode: policy.mode,
        scale_up: &policy.behavior.scale_up,
        scale_down: &policy.behavior.scale_down,
        current: observation.current,
        mean_wanted: history.mean_wanted(now),
        may_be_zero: bounds.min_replicas == 0,
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
        wanted: asked.filter(|_| !incomplete).map(|asked| bounded(&bounds, asked)),
        breach_in: metrics.iter().filter_map(|metric| time_to_breach(metric, bounds.max_replicas)).min(),
        metrics,
        recommended: None,
        stabilized: None,
        limited: None,
        min_replicas: bounds.min_replicas,
        max_replicas: bounds.max_replicas,
        raised_max: bounds.raised_max,
        schedules: bounds.schedules.clone(),
    };
    let current = match observation.current {
        None => return undecided(None, Reason::FailedGetScale, parts),
        Some(0) if !policy.scales_to_zero() => return undecided(Some(0), Reason::ScalingDisabled, parts),
        Some(current) => current,
    };

    let (recommended, mut reason) = recommendation(policy, &parts.metrics, asked, incomplete, current);
    let stabilized = stabilize(&policy.behavior, history, current, recommended, now);
    if stabilized != recommended {
        reason = if recommended < current { Reason::ScaleDownStabilized } else { Reason::ScaleUpStabilized };
    }
    let mut desired = rate_limited(policy, &bounds, history, current, stabilized, now, &mut reason);
    (parts.recommended, parts.stabilized, parts.limited) = (Some(recommended), Some(stabilized), Some(desired));

    let cooling = history.last_change().is_some_and(|at| now.since(at) < policy.cooldown);
    if cooling && desired != current {
        (desired, reason) = (current, Reason::Cooldown);
    }
    let within = bounded(&bounds, desired);
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
    if parts.sources.as_ref().is_some_and(|share| share.fresh().is_none()) {
        return true;
    }
    match demand {
        Demand::Threshold { .. } | Demand::Value { .. } => parts.load.fresh().is_none(),
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
    if asked == current && metrics.iter().any(|metric| metric.sources_held) {
        return (asked, Reason::MissingDataHeld);
    }
    let near =
        asked == current && metrics.iter().any(|metric| metric.within_tolerance && metric.reactive == Some(asked));
    (asked, if near { Reason::WithinTolerance } else { Reason::DesiredWithinRange })
}

/// The HPA's `convertDesiredReplicasWithBehaviorRate`.
fn rate_limited(
    policy: &Policy,
    bounds: &Bounds,
    history: &History,
    current: Replicas,
    stabilized: Replicas,
    now: Timestamp,
    reason: &mut Reason,
) -> Replicas {
    if stabilized > current {
        let limit = scale_up_limit(&policy.behavior.scale_up, history, current, now);
        // Percentages of nothing are nothing: the first replica comes all the same, unless this direction is off.
        let first = current == 0 && policy.behavior.scale_up.select_policy != SelectPolicy::Disabled;
        let limit = if first { limit.max(1) } else { limit };
        let most = limit.min(bounds.raised_max);
        if stabilized > most {
            *reason = if limit < bounds.raised_max { Reason::ScaleUpLimit } else { Reason::TooManyReplicas };
            return most;
        }
    } else if stabilized < current {
        let limit = scale_down_limit(&policy.behavior.scale_down, history, current, now);
        let fewest = limit.max(bounds.min_replicas);
        if stabilized < fewest {
            *reason = if limit > bounds.min_replicas { Reason::ScaleDownLimit } else { Reason::TooFewReplicas };
            return fewest;
        }
    }
    stabilized
}

fn bounded(bounds: &Bounds, replicas: Replicas) -> Replicas {
    replicas.max(bounds.min_replicas).min(bounds.raised_max)
}

fn undecided(current: Option<Replicas>, reason: Reason, parts: Parts) -> Decision {
    Decision { current, desired: current, act: false, reason, parts }
}
